"""confirm(): fresh seeds, honest intervals, a verdict in words; and that nothing stops it."""

from __future__ import annotations

import math
import signal
import time

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from hpolab import (
    InvalidArgument,
    InvalidType,
    Objective,
    RecipeMismatch,
    TooManyFailures,
    confirm,
    load_confirmation,
    load_study,
    make_study,
    run,
)
from hpolab.seeding import derive_seed


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_best_configuration_is_better_than_the_default(thrower, tuned, sign):
    objective = thrower(sign=sign)
    confirmation = confirm(tuned(objective), objective, test=10.0, top_k=2)
    assert [each.trial for each in confirmation.configurations] == [2, 1]
    assert confirmation.winner is confirmation.configurations[0]
    assert confirmation.winner.improvement.estimate == pytest.approx(2.0, abs=0.2)
    assert confirmation.winner.mean.mean == pytest.approx(sign * 13, abs=0.2)
    assert confirmation.baseline.trial == 0
    assert confirmation.metric == "points"
    assert confirmation.verdict.startswith(
        "On these test rows, trial 2 is better than the default by 2.0"
    )
    assert "p < 0.001, for all 2 together); so is trial 1, by less. The best of 2 is partly " in (
        confirmation.verdict
    )
    assert confirmation.shrinkage.share == pytest.approx(1.0, abs=0.1)


def test_seeds_are_common_to_all_and_none_of_the_tunings(thrower):
    objective = thrower()
    study = make_study("throws", storage="memory://", objective=objective, seed=3)
    run(study, objective, n_trials=5)
    confirmation = confirm(study, objective, test=0.0, top_k=3)
    seeds = [tuple(each.scores) for each in confirmation.configurations]
    assert {*seeds, tuple(confirmation.baseline.scores)} == {seeds[0]}
    assert len(seeds[0]) == confirmation.n_seeds
    tuning = {derive_seed(3, trial.number, "training") for trial in study.trials}
    assert not tuning & set(seeds[0])


def test_named_trials_take_the_place_of_the_best(thrower, tuned):
    objective = thrower()
    study = tuned(objective, (1.0, 2.0, 3.0, 4.0))
    confirmation = confirm(study, objective, test=0.0, trials=[1, 2], n_seeds=2)
    assert [each.trial for each in confirmation.configurations] == [2, 1]
    with pytest.raises(InvalidArgument, match=r"`trials` must be numbers of complete.*got 99"):
        confirm(study, objective, test=0.0, trials=[99], study_name="other")


def test_equal_configurations_count_once_and_the_baseline_is_no_candidate(thrower, tuned):
    objective = thrower()
    study = tuned(objective, (1.0, 3.0, 3.0, 2.0), values=[9.0, 3.1, 3.2, 2.0])
    confirmation = confirm(study, objective, test=0.0, top_k=2)
    assert confirmation.baseline.tuning_value == 9.0
    assert [(c.trial, c.tuning_value) for c in confirmation.configurations] == [(2, 3.2), (3, 2.0)]
    assert confirmation.configurations[0].tuning_improvement == pytest.approx(-5.8)


def test_pruned_failed_and_dead_trials_are_no_candidates(thrower, tuned):
    objective = thrower()
    study = tuned(objective)
    for state, value, constraints in [
        (TrialState.PRUNED, None, None),
        (TrialState.FAIL, None, None),
        (TrialState.COMPLETE, 99.0, {"memory": 1.0}),
    ]:
        study.add_trial(
            optuna.trial.create_trial(
                state=state,
                value=value,
                params={"skill": 4.0, "kind": "a"},
                distributions=objective.search_space.distributions(),
                constraints=constraints,
            )
        )
    confirmation = confirm(study, objective, test=0.0)
    assert [each.trial for each in confirmation.configurations] == [2, 1]


def test_baseline_can_be_given(thrower, tuned):
    objective = thrower()
    given = {"skill": 2.0, "kind": "a"}
    confirmation = confirm(tuned(objective), objective, test=0.0, top_k=1, baseline=given)
    assert confirmation.baseline.params == given
    assert confirmation.baseline.trial == 1
    assert confirmation.verdict.startswith(
        "On these test rows, trial 2 is better than the baseline by 1.0"
    )


def test_baseline_that_was_never_tried_has_no_tuning_value_and_all_seeds_are_run(thrower, tuned):
    objective = thrower()
    given = {"skill": 0.0, "kind": "b"}
    confirmation = confirm(tuned(objective), objective, test=0.0, top_k=1, baseline=given)
    assert confirmation.baseline.tuning_value is None
    assert confirmation.shrinkage is None
    assert confirmation.n_seeds == 10


def test_smallest_difference_that_matters_takes_the_place_of_the_tunings(thrower, tuned):
    objective = thrower()
    study = tuned(objective)
    assert confirm(study, objective, test=0.0, top_k=1).n_seeds == 6
    fine = confirm(study, objective, test=0.0, top_k=1, min_difference=0.01, study_name="fine")
    assert fine.n_seeds == 10


def test_called_again_it_trains_nothing_and_finds_the_same(thrower, tuned):
    objective = thrower()
    study = tuned(objective)
    first = confirm(study, objective, test=0.0)
    n_fitted = len(objective.fitted)
    assert confirm(study, objective, test=0.0) == first
    assert len(objective.fitted) == n_fitted
    stored = optuna.load_study(study_name="throws-confirm", storage=study._storage)
    assert load_confirmation(stored) == first


@pytest.mark.parametrize("after", [0, 1, 5, 8])
def test_unfinished_confirmation_shows_nothing_and_goes_on(thrower, interrupted, tuned, after):
    study = tuned(thrower())
    with pytest.raises(KeyboardInterrupt):
        confirm(study, interrupted(after=after), test=0.0, top_k=2)
    stored = optuna.load_study(study_name="throws-confirm", storage=study._storage)
    with pytest.raises(InvalidArgument, match=r"finished confirmation.*call `confirm` again"):
        load_confirmation(stored)
    whole = confirm(tuned(thrower()), thrower(), test=0.0, top_k=2)
    assert confirm(study, thrower(), test=0.0, top_k=2) == whole


@pytest.mark.parametrize(
    "scheme",
    [
        "sqlite:///{}/study.db",
        pytest.param("journal:///{}/study.log", marks=pytest.mark.long),
    ],
)
def test_killed_confirmation_ends_as_the_uninterrupted_one(
    thrower, tuned, trainings, scheme, tmp_path, python
):
    whole = confirm(tuned(thrower()), thrower(), test=0.0, top_k=2)
    url = scheme.format(tmp_path)
    tuned(thrower(), storage=url)
    for kill_at in (3, 5):
        ended = python.run(SCRIPT, url, str(kill_at))
        assert ended.returncode == -signal.SIGKILL, ended.stderr
    study = load_study("throws", storage=url)
    assert confirm(study, thrower(), test=0.0, top_k=2) == whole
    assert len(trainings(study)) == 3 * whole.n_seeds


SCRIPT = """
import os, signal, sys
import numpy as np
from hpolab import Objective, SearchSpace, confirm, load_study
SPACE = SearchSpace({"skill": (0.0, 5.0), "kind": ["a", "b"]}, defaults={"skill": 1.0})
url, kill_at = sys.argv[1], int(sys.argv[2])
n_fitted = 0
class Thrower(Objective):
    def train(self, params, reporter):
        raise NotImplementedError
    def fit(self, params, seed):
        global n_fitted
        n_fitted += 1
        if n_fitted == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        luck = np.random.default_rng(seed).normal()
        own = np.random.default_rng([seed, round(1000 * params["skill"])]).normal()
        return params["skill"] + 0.1 * (luck + own)
    def evaluate(self, model, data):
        return {"points": model + data, "shame": -model}
objective = Thrower(search_space=SPACE, direction="maximize", max_steps=1, metric="points")
confirm(load_study("throws", storage=url), objective, test=0.0, top_k=2)
"""


def test_every_storage_holds_a_confirmation(
    thrower, tuned, storage_url, study_name, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # where a server's checkpoints would go
    study = tuned(thrower(), storage=storage_url, name=study_name)
    found = confirm(study, thrower(), test=0.0, top_k=1)
    whole = confirm(tuned(thrower(), name=study_name), thrower(), test=0.0, top_k=1)
    assert found == whole


def test_confirmation_that_runs_out_of_time_says_how_to_go_on_and_does(thrower, tuned):
    class Slow(thrower):
        def fit(self, params, seed):
            time.sleep(0.05)
            return super().fit(params, seed)

    objective = thrower()
    study = tuned(objective)
    slow = Slow()
    with pytest.raises(InvalidArgument, match="call `confirm` again to resume it"):
        confirm(study, slow, test=0.0, top_k=2, timeout_seconds=0.2)
    assert 0 < len(slow.fitted) < 18
    assert confirm(study, objective, test=0.0, top_k=2) == confirm(
        tuned(thrower()), thrower(), test=0.0, top_k=2
    )


@pytest.mark.parametrize(
    "changed", [{"n_seeds": 40}, {"min_seeds": 8}, {"top_k": 1}, {"min_difference": 0.1}]
)
def test_more_seeds_after_a_look_at_the_result_are_refused(thrower, tuned, changed):
    objective = thrower()
    study = tuned(objective)
    confirm(study, objective, test=0.0, top_k=2)
    with pytest.raises(RecipeMismatch, match="Take another `study_name`, and another `seed`"):
        confirm(study, objective, test=0.0, **{"top_k": 2, **changed})


def test_other_metric_is_compared_by_its_own_direction(thrower, tuned):
    objective = thrower()
    confirmation = confirm(
        tuned(objective), objective, test=0.0, top_k=1, metric=("shame", "minimize")
    )
    assert confirmation.metric == "shame"
    assert confirmation.winner.improvement.estimate == pytest.approx(2.0, abs=0.2)
    assert confirmation.winner.tuning_value is None


def test_unknown_metric_is_an_error(thrower, tuned):
    objective = thrower()
    with pytest.raises(TooManyFailures, match="`metric` must be one of 'points', 'shame'"):
        confirm(tuned(objective), objective, test=0.0, metric=("pride", "minimize"))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"top_k": 0}, InvalidArgument, "`top_k` must be 1 or above, got 0"),
        ({"top_k": 2.0}, InvalidType, "`top_k` must be an int, got float"),
        ({"n_seeds": 1}, InvalidArgument, "`n_seeds` must be 2 or above, for an interval, got 1"),
        (
            {"min_seeds": 11},
            InvalidArgument,
            "`min_seeds` must be from 2 to `n_seeds`, which is 10",
        ),
        ({"min_difference": 0}, InvalidArgument, "`min_difference` must be above 0, or None"),
        (
            {"min_difference": math.inf},
            InvalidArgument,
            "`min_difference` must be above 0, or None",
        ),
        ({"metric": "shame"}, InvalidArgument, "`metric` must be given with its direction"),
        ({"metric": ("shame", "down")}, InvalidArgument, "must be one of 'maximize'"),
        ({"fuse": 4}, InvalidType, "`fuse` needs a TorchObjective"),
        ({"baseline": {"skill": 9.0, "kind": "a"}}, InvalidArgument, "skill"),
        ({"baseline": {"skull": 1.0}}, InvalidArgument, "skill"),
        ({"n_workers": 2}, InvalidArgument, "`n_workers` must be 1 for a study in memory"),
    ],
)
def test_bad_argument_is_refused_before_a_training(thrower, tuned, arguments, error, message):
    objective = thrower()
    with pytest.raises(error, match=message):
        confirm(tuned(objective), objective, test=0.0, **arguments)
    assert not objective.fitted


class OnlyTrains(Objective):
    def train(self, params, reporter):
        return 0.0


class OnlyFits(OnlyTrains):
    def fit(self, params, seed):
        return None


@pytest.mark.parametrize(("kind", "method"), [(OnlyTrains, "fit"), (OnlyFits, "evaluate")])
def test_objective_that_cannot_fit_or_evaluate_is_refused(thrower, tuned, kind, method):
    objective = kind(search_space=thrower().search_space, direction="maximize", max_steps=1)
    with pytest.raises(InvalidArgument, match=f"{kind.__name__} without `{method}`"):
        confirm(tuned(thrower()), objective, test=0.0)


def test_what_is_no_objective_or_no_study_is_refused(thrower, tuned):
    with pytest.raises(InvalidType, match="got function: a function of a trial cannot"):
        confirm(tuned(thrower()), lambda trial: 0.0, test=0.0)
    with pytest.raises(InvalidType, match=r"`study` must be an optuna.Study, got str"):
        confirm("throws", thrower(), test=0.0)
    with pytest.raises(InvalidArgument, match="`direction` of study 'throws' must be 'minimize'"):
        confirm(tuned(thrower()), thrower(sign=-1.0), test=0.0)


@pytest.mark.parametrize("skills", [(), (1.0,)])
def test_study_without_a_candidate_is_refused(thrower, tuned, skills):
    objective = thrower()
    with pytest.raises(InvalidArgument, match="complete trial of another configuration"):
        confirm(tuned(objective, skills), objective, test=0.0)


def test_study_that_is_no_confirmation_is_refused(thrower, tuned):
    with pytest.raises(InvalidArgument, match="`study` must be one that `confirm` has made"):
        load_confirmation(tuned(thrower()))


def test_name_of_another_study_is_refused_and_nothing_changed(thrower, tuned):
    objective = thrower()
    study = tuned(objective)
    with pytest.raises(RecipeMismatch):
        confirm(study, objective, test=0.0, study_name="throws")
    assert len(study.trials) == 3


def test_real_confirmations_hold_the_truth(thrower, tuned):
    covered, claimed = [], []
    for seed in range(30):
        objective = thrower(noise=1.0)
        study = tuned(objective, (1.0, 1.001, 3.0), values=[1.0, 4.0, 5.0], seed=seed)
        confirmation = confirm(study, objective, test=0.0)
        truth = {2: 2.0, 1: 0.001}
        for each in confirmation.configurations:
            covered.append(truth[each.trial] in each.improvement)
            covered.append(truth[each.trial] + 1.0 in each.mean)
        claimed.append(
            next(c for c in confirmation.configurations if c.trial == 1).improvement.is_significant
        )
    # Half of these intervals belong together, so fewer than 120 tell anything on their own.
    assert 0.88 <= np.mean(covered) <= 1.0
    assert np.mean(claimed) <= 0.1


def test_confirmation_begun_before_params_listed_a_fixed_value_resumes(thrower, tuned):
    study = tuned(thrower())
    found = confirm(study, thrower(), test=0.0, top_k=1, n_seeds=2)
    wider = thrower()
    wider.search_space = wider.search_space | {"balls": 3}
    again = confirm(study, wider, test=0.0, top_k=1, n_seeds=2)
    assert again == found
    assert wider.fitted == []
    with pytest.raises(RecipeMismatch, match="n_seeds"):
        confirm(study, wider, test=0.0, top_k=1, n_seeds=3)


def test_confirmation_on_other_test_data_is_refused(thrower, tuned):
    objective = thrower()
    study = tuned(objective)
    confirm(study, objective, test=0.0, n_seeds=2)
    confirm(study, objective, test=0.0, n_seeds=2)
    with pytest.raises(RecipeMismatch, match=r"test: stored '0.0 .*asked for '1.0 "):
        confirm(study, objective, test=1.0, n_seeds=2)


def test_confirmation_of_an_older_version_resumes_and_its_test_data_bind(thrower, tuned):
    objective = thrower()
    study = tuned(objective)
    confirm(study, objective, test=0.0, n_seeds=2)
    trainings = load_study(f"{study.study_name}-confirm", storage=study._storage)
    plan = dict(trainings.user_attrs["hpolab:confirm"])
    del plan["test"]
    trainings.set_user_attr("hpolab:confirm", plan)
    confirm(study, objective, test=0.0, n_seeds=2)
    with pytest.raises(RecipeMismatch, match="test"):
        confirm(study, objective, test=1.0, n_seeds=2)


def test_corrected_confirmation_runs_after_a_first_mistake(thrower, tuned):
    objective = thrower()
    study = tuned(objective)
    with pytest.raises(TooManyFailures):
        confirm(study, objective, test="ten", n_seeds=2, top_k=1)
    confirmation = confirm(study, objective, test=10.0, n_seeds=3, top_k=2)
    assert len(confirmation.configurations) == 2
