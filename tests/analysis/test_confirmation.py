"""What a confirmation says: a table, a frame, and a verdict that claims no more than is known."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import optuna
import pytest

from hpolab import Diverged, confirm
from hpolab.analysis.statistics import differences, p_values


def test_table_holds_everything(thrower, tuned):
    objective = thrower()
    text = str(confirm(tuned(objective), objective, test=10.0, top_k=2))
    head, _, columns, _, *rows = text.splitlines()
    assert head == "Confirmation of 'throws': points on the test data (maximize), 6 seeds"
    assert re.split(" {2,}", columns.strip()) == [
        *("in tuning", "test points", "improvement over the default", "p", "verdict")
    ]
    assert [row.split("  ")[0].strip() for row in rows[:3]] == ["the default", "trial 2", "trial 1"]
    assert [row.rpartition("  ")[2] for row in rows[1:3]] == ["better"] * 2
    assert "In tuning, trial 2 was better by 2; on the test data it is better by 2.0" in text


def test_frame_has_a_row_for_each_configuration(thrower, tuned):
    objective = thrower()
    confirmation = confirm(tuned(objective), objective, test=10.0, top_k=2)
    frame = confirmation.to_frame()
    assert frame["configuration"].tolist() == ["the default", "trial 2", "trial 1"]
    assert frame["improvement"][1] == confirmation.winner.improvement.estimate
    assert frame["params_skill"].tolist() == [1.0, 3.0, 2.0]
    assert "<td><strong>trial 2</strong></td>" in confirmation._repr_html_()


def test_all_metrics_on_test_data_are_kept_and_in_the_frame(thrower, tuned, monkeypatch):
    objective = thrower()
    evaluate = type(objective).evaluate
    monkeypatch.setattr(
        type(objective),
        "evaluate",
        lambda self, model, data: evaluate(self, model, data) | {"misses": model, "spare": -model},
    )
    confirmation = confirm(tuned(objective), objective, test=10.0, top_k=2, n_seeds=4)
    frame = confirmation.to_frame()
    for place, (_, each) in enumerate(confirmation.named()):
        assert set(each.metrics) == {"misses", "shame", "spare"}
        assert each.metrics["misses"].keys() == each.scores.keys()
        mean = np.mean(list(each.metrics["misses"].values()))
        assert frame["test_misses"][place] == pytest.approx(mean)
        assert frame["test_spare"][place] == pytest.approx(-mean)


def test_winner_by_chance_is_no_better_than_the_default(thrower, tuned):
    objective = thrower(noise=1.0)
    study = tuned(objective, (1.0, 1.01), values=[1.0, 2.5])
    confirmation = confirm(study, objective, test=0.0, top_k=1, seed=1)
    assert confirmation.winner is None
    assert confirmation.verdict.startswith(
        "It is not known yet whether any configuration is better than the default on these test "
        "rows. The best of them, trial 1, is "
    )
    assert confirmation.verdict.endswith(f" {confirmation.needed}.")
    assert f"at least {confirmation.needed.low:,} seeds" in confirmation.verdict
    assert confirmation.shrinkage.tuning_improvement == 1.5
    assert confirmation.shrinkage.share < 0.6


def test_verdict_says_that_all_are_worse(thrower, tuned):
    objective = thrower()
    confirmation = confirm(tuned(objective, (1.0, 0.5, 0.2)), objective, test=0.0)
    assert confirmation.shrinkage.share is None
    assert confirmation.verdict.startswith(
        "On these test rows, no configuration is better than the default. The best of them, trial "
        "1, is worse than the default by 0."
    )
    assert confirmation.needed is None


@pytest.mark.parametrize(
    ("skill", "by"), [(3.0, "better than the default by 2"), (0.5, "worse than the default by 0.5")]
)
def test_nothing_is_claimed_where_the_seed_changes_nothing(thrower, tuned, skill, by):
    objective = thrower(noise=0.0)
    confirmation = confirm(tuned(objective, (1.0, skill)), objective, test=0.0, top_k=1)
    assert confirmation.winner is None
    assert confirmation.configurations[0].improvement.p_value is None
    assert confirmation.n_seeds == 6
    assert confirmation.verdict == (
        "It is not known whether any configuration is better than the default: these trainings do "
        "not depend on their seed, so there is nothing to test. On these test rows the best of "
        f"them, trial 1, is {by}."
    )


def test_same_scores_on_every_seed_are_no_difference(thrower, tuned):
    objective = thrower()
    study = tuned(objective)
    study.add_trial(
        optuna.trial.create_trial(
            params={"skill": 1.0, "kind": "b"},
            distributions=objective.search_space.distributions(),
            value=9.0,
        )
    )
    confirmation = confirm(study, objective, test=0.0, top_k=1)
    assert confirmation.configurations[0].improvement.p_value == 1.0
    assert confirmation.verdict == (
        "It is not known yet whether any configuration is better than the default on these test "
        "rows: trial 3 has the same score on every seed."
    )
    assert "Trial 3 is better on 0 of 6 seeds and equal on 6: on a new seed" in str(confirmation)


def test_diverged_configuration_has_no_mean_and_is_not_better(thrower, tuned):
    objective = thrower(broken={3.0: Diverged("diverged: nan at step 3")})
    confirmation = confirm(tuned(objective), objective, test=0.0, top_k=2)
    diverged, other = confirmation.configurations
    assert diverged.mean is None
    assert diverged.improvement is None
    assert list(diverged.lost.values()) == ["diverged: nan at step 3"]
    assert other is confirmation.winner
    assert other.improvement.p_value == pytest.approx(raw_p(confirmation, other))
    assert "gave no score on 1 of 6 seeds (diverged: nan at step 3)" in str(confirmation)


def raw_p(confirmation, configuration):
    scores, baseline = (list(c.scores.values()) for c in (configuration, confirmation.baseline))
    return float(p_values(differences(scores, baseline), n_spent=3))


def test_nothing_is_compared_with_a_baseline_that_diverged(thrower, tuned):
    objective = thrower(broken={1.0: Diverged("diverged: nan at step 3")})
    confirmation = confirm(tuned(objective), objective, test=0.0, top_k=2)
    assert confirmation.winner is None
    assert confirmation.verdict == (
        "Nothing can be compared with the default, whose training gave no score on 1 of 6 seeds "
        "(diverged: nan at step 3)."
    )
    assert confirmation.configurations[0].mean.mean == pytest.approx(3.0, abs=0.3)
    str(confirmation)


def test_nothing_is_judged_where_every_configuration_diverged(thrower, tuned):
    objective = thrower(broken={3.0: Diverged("no"), 2.0: Diverged("no")})
    confirmation = confirm(tuned(objective), objective, test=0.0, top_k=2)
    assert confirmation.verdict.startswith("No configuration can be judged")


def test_result_is_frozen(thrower, tuned):
    objective = thrower()
    confirmation = confirm(tuned(objective), objective, test=0.0, top_k=1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        confirmation.n_seeds = 3
