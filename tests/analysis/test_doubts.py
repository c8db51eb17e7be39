"""What speaks against about normal differences between seeds."""

from __future__ import annotations

import numpy as np
import pytest

from hpolab.analysis.doubts import doubts, unseen_share, unseen_words

RNG = np.random.default_rng(0)


def found(scores, baseline, *, maximize=True):
    said = doubts("trial 3", scores, baseline, baseline_name="the default", maximize=maximize)
    return " ".join(said)


def test_normal_differences_are_not_doubted_but_in_one_of_a_hundred():
    said = [found(*RNG.normal(size=(2, 12))) for _ in range(300)]
    assert np.mean([bool(each) for each in said]) < 0.04


@pytest.mark.parametrize("maximize", [True, False])
def test_a_collapse_is_doubted_and_the_worst_seed_shown(maximize):
    scores = RNG.normal(size=12)
    scores[4] = -30.0 if maximize else 30.0
    said = found(scores, RNG.normal(size=12), maximize=maximize)
    assert "not normal but skewed" in said
    assert f"The worst seed of trial 3 has {'-' if maximize else ''}30." in said


@pytest.mark.parametrize(("own", "other", "who"), [(4, 1, "trial 3"), (1, 4, "the default")])
def test_spreads_that_differ_are_remarked_on(own, other, who):
    said = found(own * RNG.normal(size=30), other * RNG.normal(size=30))
    assert f"The scores of {who} scatter" in said


def test_equal_scores_are_not_doubted():
    assert found(np.ones(10), np.ones(10)) == ""


def test_unseen_collapses_are_bounded_as_by_clopper_and_pearson():
    for n_seeds in (3, 10, 60):
        assert (1 - unseen_share(n_seeds)) ** n_seeds == pytest.approx(0.05)
    assert "up to 26 % of seeds" in unseen_words(10)
