"""Leads on the test data: paired by seed, with interval and corrected p-value, said in words."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hpolab.analysis.leads import leads_of
from hpolab.analysis.statistics import holm, intervals, p_values

RNG = np.random.default_rng(0)
SEEDS = RNG.normal(scale=0.05, size=8)
SCORES = {
    "a": (0.9 + SEEDS).tolist(),
    "b": (0.8 + SEEDS + RNG.normal(scale=0.01, size=8)).tolist(),
    "c": (0.9 + SEEDS + RNG.normal(scale=0.01, size=8)).tolist(),
}


def test_leads_are_paired_by_seed():
    leads = leads_of(SCORES, "a", maximize=True)
    pairs = [np.subtract(SCORES["a"], SCORES[name]) for name in "bc"]
    assert [lead.rival for lead in leads] == ["b", "c"]
    for lead, expected in zip(leads, intervals(pairs), strict=True):
        assert list(lead.estimate.__dict__.values()) == pytest.approx(expected.tolist())
    assert [lead.p_value for lead in leads] == pytest.approx(holm(p_values(pairs).tolist()))
    assert [lead.is_told for lead in leads] == [True, False]  # though seeds scatter by 0.05


def test_lead_has_the_direction_of_the_metric():
    forth, back = (leads_of(SCORES, "b", maximize=maximize)[0] for maximize in (True, False))
    assert forth.estimate.mean == pytest.approx(-back.estimate.mean)
    assert str(forth).startswith("is worse than a by 0.1")
    assert str(back).startswith("is better than a by 0.1")
    assert str(forth).removeprefix("is worse") == str(back).removeprefix("is better")


def test_what_cannot_be_told_is_said_so():
    assert str(leads_of(SCORES, "a", maximize=True)[1]).startswith("cannot be told from c, ")


@pytest.mark.parametrize(
    "scores",
    [
        {"a": [], "b": [0.1, 0.2]},
        {"a": [0.1], "b": [0.1]},
        {"a": [0.1, 0.2], "b": [0.1]},
        {"a": [0.1, 0.2], "b": [0.1, math.nan]},
        {"a": [0.1, math.nan], "b": [0.1, 0.2]},
        {"a": [0.1, 0.2]},
    ],
)
def test_without_the_same_seeds_there_is_no_lead(scores):
    assert leads_of(scores, "a", maximize=True) == ()
