"""confirm(): fresh seeds, honest intervals, a verdict in words; and that nothing stops it."""

from __future__ import annotations

import dataclasses
import re
import signal
import time

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from hpolab import (
    Diverged,
    InvalidArgument,
    InvalidType,
    Objective,
    RecipeMismatch,
    SearchSpace,
    TooManyFailures,
    confirm,
    load_confirmation,
    load_study,
    make_study,
    run,
)
from hpolab.analysis.statistics import differences, p_values
from hpolab.seeding import derive_seed

SPACE = SearchSpace({"skill": (0.0, 5.0), "kind": ["a", "b"]}, defaults={"skill": 1.0})


class Thrower(Objective):
    """Scores `skill` and noise; what it was asked to fit is kept in `fitted`."""

    def __init__(self, *, noise=0.1, sign=1.0, broken=None):
        direction = "maximize" if sign > 0 else "minimize"
        super().__init__(search_space=SPACE, direction=direction, max_steps=1, metric="points")
        self.noise, self.sign, self.broken = noise, sign, broken or {}
        self.fitted = []

    def train(self, params, reporter):
        return self.sign * self.fit(params, reporter.seed)

    def fit(self, params, seed):
        self.fitted.append((params["skill"], seed))
        error = self.broken.get(params["skill"])
        if (
            error is not None
            and len([1 for skill, _ in self.fitted if skill == params["skill"]]) == 2
        ):
            raise error
        # A seed's luck is partly that of all configurations, as that of initial weights is.
        luck = np.random.default_rng(seed).normal()
        own = np.random.default_rng([seed, round(1000 * params["skill"])]).normal()
        return params["skill"] + self.noise * (luck + own)

    def evaluate(self, model, data):
        return {"points": self.sign * (model + data), "shame": -model}


def tuned(
    objective, skills=(1.0, 2.0, 3.0), *, storage="memory://", values=None, seed=0, name="throws"
):
    """A study that has tried some skills; values are those given, or the skills themselves."""
    study = make_study(name, storage=storage, objective=objective, sampler="random", seed=seed)
    for skill, value in zip(skills, values or [objective.sign * s for s in skills], strict=True):
        study.add_trial(
            optuna.trial.create_trial(
                params={"skill": skill, "kind": "a"},
                distributions=SPACE.distributions(),
                value=value,
            )
        )
    return study


def trainings(study, name="throws-confirm"):
    return optuna.load_study(study_name=name, storage=study._storage).get_trials(deepcopy=False)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_best_configuration_is_better_than_the_default(sign):
    objective = Thrower(sign=sign)
    confirmation = confirm(tuned(objective), objective, test=10.0, top_k=2)
    assert [each.trial for each in confirmation.configurations] == [2, 1]
    assert confirmation.winner is confirmation.configurations[0]
    assert confirmation.winner.improvement.estimate == pytest.approx(2.0, abs=0.2)
    assert confirmation.winner.mean.mean == pytest.approx(sign * 13, abs=0.2)
    assert confirmation.baseline.trial == 0
    assert confirmation.metric == "points"
    assert confirmation.verdict.startswith(
        "Trial 2 is significantly better than the default by 2.0"
    )
    assert "p < 0.001 after Holm's correction for 2); so is trial 1, by less." in (
        confirmation.verdict
    )
    assert confirmation.shrinkage.share == pytest.approx(1.0, abs=0.1)


def test_table_holds_everything():
    objective = Thrower()
    text = str(confirm(tuned(objective), objective, test=10.0, top_k=2))
    head, _, columns, _, *rows = text.splitlines()
    assert head == "Confirmation of 'throws': points on the test data (maximize), 6 seeds"
    assert re.split(" {2,}", columns.strip()) == [
        *("in tuning", "test points", "improvement over the default", "p", "verdict")
    ]
    assert [row.split("  ")[0].strip() for row in rows[:3]] == ["the default", "trial 2", "trial 1"]
    assert [row.rpartition("  ")[2] for row in rows[1:3]] == ["significantly better"] * 2
    assert "In tuning, trial 2 was better by 2; on the test data it is better by 2.0" in text


def test_frame_has_a_row_for_each_configuration():
    objective = Thrower()
    confirmation = confirm(tuned(objective), objective, test=10.0, top_k=2)
    frame = confirmation.to_frame()
    assert frame["configuration"].tolist() == ["the default", "trial 2", "trial 1"]
    assert frame["improvement"][1] == confirmation.winner.improvement.estimate
    assert frame["params_skill"].tolist() == [1.0, 3.0, 2.0]
    assert "<td><strong>trial 2</strong></td>" in confirmation._repr_html_()


def test_seeds_are_common_to_all_and_none_of_the_tunings():
    objective = Thrower()
    study = make_study("throws", storage="memory://", objective=objective, seed=3)
    run(study, objective, n_trials=5)
    confirmation = confirm(study, objective, test=0.0, top_k=3)
    seeds = [tuple(each.scores) for each in confirmation.configurations]
    assert {*seeds, tuple(confirmation.baseline.scores)} == {seeds[0]}
    assert len(seeds[0]) == confirmation.n_seeds
    tuning = {derive_seed(3, trial.number, "training") for trial in study.trials}
    assert not tuning & set(seeds[0])


def test_trainings_are_trials_of_a_study_of_their_own():
    objective = Thrower()
    study = tuned(objective)
    confirmation = confirm(study, objective, test=10.0, top_k=2)
    trials = trainings(study)
    assert len(study.trials) == 3
    assert len(trials) == 3 * confirmation.n_seeds
    assert {t.params["skill"] for t in trials} == {1.0, 2.0, 3.0}
    assert trials[0].user_attrs["hpolab:metrics"].keys() == {"points", "shame"}


def test_named_trials_take_the_place_of_the_best():
    objective = Thrower()
    study = tuned(objective, (1.0, 2.0, 3.0, 4.0))
    confirmation = confirm(study, objective, test=0.0, trials=[1, 2], n_seeds=2)
    assert [each.trial for each in confirmation.configurations] == [2, 1]
    with pytest.raises(InvalidArgument, match=r"`trials` must be numbers of complete.*got 99"):
        confirm(study, objective, test=0.0, trials=[99], study_name="other")


def test_equal_configurations_count_once_and_the_baseline_is_no_candidate():
    objective = Thrower()
    study = tuned(objective, (1.0, 3.0, 3.0, 2.0), values=[9.0, 3.1, 3.2, 2.0])
    confirmation = confirm(study, objective, test=0.0, top_k=2)
    assert confirmation.baseline.tuning_value == 9.0
    assert [(c.trial, c.tuning_value) for c in confirmation.configurations] == [(2, 3.2), (3, 2.0)]
    assert confirmation.configurations[0].tuning_improvement == pytest.approx(-5.8)


def test_pruned_failed_and_dead_trials_are_no_candidates():
    objective = Thrower()
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
                distributions=SPACE.distributions(),
                constraints=constraints,
            )
        )
    confirmation = confirm(study, objective, test=0.0)
    assert [each.trial for each in confirmation.configurations] == [2, 1]


def test_baseline_can_be_given():
    objective = Thrower()
    given = {"skill": 2.0, "kind": "a"}
    confirmation = confirm(tuned(objective), objective, test=0.0, top_k=1, baseline=given)
    assert confirmation.baseline.params == given
    assert confirmation.baseline.trial == 1
    assert confirmation.verdict.startswith(
        "Trial 2 is significantly better than the baseline by 1.0"
    )


def test_baseline_that_was_never_tried_has_no_tuning_value_and_all_seeds_are_run():
    objective = Thrower()
    given = {"skill": 0.0, "kind": "b"}
    confirmation = confirm(tuned(objective), objective, test=0.0, top_k=1, baseline=given)
    assert confirmation.baseline.tuning_value is None
    assert confirmation.shrinkage is None
    assert confirmation.n_seeds == 10


def test_smallest_difference_that_matters_takes_the_place_of_the_tunings():
    objective = Thrower()
    study = tuned(objective)
    assert confirm(study, objective, test=0.0, top_k=1).n_seeds == 6
    fine = confirm(study, objective, test=0.0, top_k=1, min_difference=0.01, study_name="fine")
    assert fine.n_seeds == 10


def test_winner_by_chance_is_no_better_than_the_default():
    objective = Thrower(noise=1.0)
    study = tuned(objective, (1.0, 1.01), values=[1.0, 2.5])
    confirmation = confirm(study, objective, test=0.0, top_k=1, seed=1)
    assert confirmation.winner is None
    assert confirmation.verdict.startswith(
        "No configuration is significantly better than the default. The best of them, trial 1, is "
    )
    assert f"{confirmation.n_seeds_needed:,} seeds would be needed" in confirmation.verdict
    assert confirmation.shrinkage.tuning_improvement == 1.5
    assert confirmation.shrinkage.share < 0.6


def test_verdict_says_that_all_are_worse():
    objective = Thrower()
    confirmation = confirm(tuned(objective, (1.0, 0.5, 0.2)), objective, test=0.0)
    assert confirmation.shrinkage.share is None
    assert confirmation.verdict.startswith(
        "No configuration is better than the default. The best of them, trial 1, is significantly "
        "worse by 0."
    )
    assert confirmation.n_seeds_needed is None


@pytest.mark.parametrize(("skill", "by"), [(3.0, "better by 2"), (0.5, "worse by 0.5")])
def test_nothing_is_claimed_where_the_seed_changes_nothing(skill, by):
    objective = Thrower(noise=0.0)
    confirmation = confirm(tuned(objective, (1.0, skill)), objective, test=0.0, top_k=1)
    assert confirmation.winner is None
    assert confirmation.configurations[0].improvement.p_value is None
    assert confirmation.n_seeds == 6
    assert confirmation.verdict == (
        "No configuration is significantly better than the default: these trainings do not depend "
        "on their seed, so there is nothing to test. On these test data the best of them, trial 1, "
        f"is {by}."
    )


def test_same_scores_on_every_seed_are_no_difference():
    objective = Thrower()
    study = tuned(objective)
    study.add_trial(
        optuna.trial.create_trial(
            params={"skill": 1.0, "kind": "b"}, distributions=SPACE.distributions(), value=9.0
        )
    )
    confirmation = confirm(study, objective, test=0.0, top_k=1)
    assert confirmation.configurations[0].improvement.p_value == 1.0
    assert confirmation.verdict == (
        "No configuration is significantly better than the default: trial 3 has the same score on "
        "every seed."
    )


def test_diverged_configuration_has_no_mean_and_is_not_better():
    objective = Thrower(broken={3.0: Diverged("diverged: nan at step 3")})
    confirmation = confirm(tuned(objective), objective, test=0.0, top_k=2)
    diverged, other = confirmation.configurations
    assert diverged.mean is None
    assert diverged.improvement is None
    assert list(diverged.lost.values()) == ["diverged: nan at step 3"]
    assert other is confirmation.winner
    assert other.improvement.p_value == pytest.approx(2 * raw_p(confirmation, other))
    assert "gave no score on 1 of 6 seeds (diverged: nan at step 3)" in str(confirmation)


def raw_p(confirmation, configuration):
    scores, baseline = (list(c.scores.values()) for c in (configuration, confirmation.baseline))
    return float(p_values(differences(scores, baseline), n_spent=3))


def test_nothing_is_compared_with_a_baseline_that_diverged():
    objective = Thrower(broken={1.0: Diverged("diverged: nan at step 3")})
    confirmation = confirm(tuned(objective), objective, test=0.0, top_k=2)
    assert confirmation.winner is None
    assert confirmation.verdict == (
        "Nothing can be compared with the default, whose training gave no score on 1 of 6 seeds "
        "(diverged: nan at step 3)."
    )
    assert confirmation.configurations[0].mean.mean == pytest.approx(3.0, abs=0.3)
    str(confirmation)


def test_nothing_is_judged_where_every_configuration_diverged():
    objective = Thrower(broken={3.0: Diverged("no"), 2.0: Diverged("no")})
    confirmation = confirm(tuned(objective), objective, test=0.0, top_k=2)
    assert confirmation.verdict.startswith("No configuration can be judged")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_score_that_is_no_number_is_a_divergence(value):
    class Broken(Thrower):
        def evaluate(self, model, data):
            return {"points": value if model > 2.5 else model}

    objective = Broken()
    confirmation = confirm(tuned(objective), objective, test=0.0, top_k=2)
    assert set(confirmation.configurations[0].lost.values()) == {
        f"diverged: the objective returned {value}"
    }


def test_failed_training_is_tried_once_more_when_called_again():
    objective = Thrower(broken={3.0: OSError("disk full")})
    study = tuned(objective)
    first = confirm(study, objective, test=0.0, top_k=1)
    assert list(first.configurations[0].lost.values()) == ["OSError: disk full"]
    second = confirm(study, objective, test=0.0, top_k=1)
    assert not second.configurations[0].lost
    assert second.winner is not None
    assert second == confirm(tuned(Thrower()), Thrower(), test=0.0, top_k=1)


def test_first_training_that_fails_ends_it_at_once():
    class Broken(Thrower):
        def evaluate(self, model, data):
            raise KeyError("no such column")

    objective = Broken()
    with pytest.raises(TooManyFailures, match="no such column"):
        confirm(tuned(objective), objective, test=0.0)
    assert len(objective.fitted) == 1


def test_called_again_it_trains_nothing_and_finds_the_same():
    objective = Thrower()
    study = tuned(objective)
    first = confirm(study, objective, test=0.0)
    n_fitted = len(objective.fitted)
    assert confirm(study, objective, test=0.0) == first
    assert len(objective.fitted) == n_fitted
    stored = optuna.load_study(study_name="throws-confirm", storage=study._storage)
    assert load_confirmation(stored) == first


def test_training_enqueued_by_two_callers_is_run_once():
    objective = Thrower()
    study = tuned(objective)
    first = confirm(study, objective, test=0.0, top_k=1)

    other = tuned(Thrower())
    interrupt = Interrupted(after=2)
    with pytest.raises(KeyboardInterrupt):
        confirm(other, interrupt, test=0.0, top_k=1)
    stored = optuna.load_study(study_name="throws-confirm", storage=other._storage)
    for trial in stored.get_trials(deepcopy=False):
        stored.add_trial(
            optuna.trial.create_trial(
                state=TrialState.WAITING,
                params=trial.params,
                distributions=trial.distributions,
                user_attrs={"hpolab:place": trial.user_attrs["hpolab:place"]},
            )
        )
    objective = Thrower()
    assert confirm(other, objective, test=0.0, top_k=1) == first
    assert len(interrupt.fitted) - 1 + len(objective.fitted) == 2 * first.n_seeds


class Interrupted(Thrower):
    """Is stopped by Ctrl-C after some trainings."""

    def __init__(self, *, after, **settings):
        super().__init__(**settings)
        self.after = after

    def fit(self, params, seed):
        model = super().fit(params, seed)
        if len(self.fitted) > self.after:
            raise KeyboardInterrupt
        return model


@pytest.mark.parametrize("after", [0, 1, 5, 8])
def test_unfinished_confirmation_shows_nothing_and_goes_on(after):
    study = tuned(Thrower())
    with pytest.raises(KeyboardInterrupt):
        confirm(study, Interrupted(after=after), test=0.0, top_k=2)
    stored = optuna.load_study(study_name="throws-confirm", storage=study._storage)
    with pytest.raises(InvalidArgument, match=r"finished confirmation.*call `confirm` again"):
        load_confirmation(stored)
    whole = confirm(tuned(Thrower()), Thrower(), test=0.0, top_k=2)
    assert confirm(study, Thrower(), test=0.0, top_k=2) == whole


@pytest.mark.parametrize(
    "scheme",
    [
        "sqlite:///{}/study.db",
        pytest.param("journal:///{}/study.log", marks=pytest.mark.long),
    ],
)
def test_killed_confirmation_ends_as_the_uninterrupted_one(scheme, tmp_path, python):
    whole = confirm(tuned(Thrower()), Thrower(), test=0.0, top_k=2)
    url = scheme.format(tmp_path)
    tuned(Thrower(), storage=url)
    for kill_at in (3, 5):
        ended = python.run(SCRIPT, url, str(kill_at))
        assert ended.returncode == -signal.SIGKILL, ended.stderr
    study = load_study("throws", storage=url)
    assert confirm(study, Thrower(), test=0.0, top_k=2) == whole
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


def test_every_storage_holds_a_confirmation(storage_url, study_name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where a server's checkpoints would go
    study = tuned(Thrower(), storage=storage_url, name=study_name)
    found = confirm(study, Thrower(), test=0.0, top_k=1)
    whole = confirm(tuned(Thrower(), name=study_name), Thrower(), test=0.0, top_k=1)
    assert found == whole


def test_confirmation_that_runs_out_of_time_says_how_to_go_on_and_does():
    objective = Thrower()
    study = tuned(objective)
    slow = Slow(seconds=0.05)
    with pytest.raises(InvalidArgument, match="call `confirm` again to resume it"):
        confirm(study, slow, test=0.0, top_k=2, timeout_seconds=0.2)
    assert 0 < len(slow.fitted) < 18
    assert confirm(study, objective, test=0.0, top_k=2) == confirm(
        tuned(Thrower()), Thrower(), test=0.0, top_k=2
    )


class Slow(Thrower):
    """Takes its time."""

    def __init__(self, *, seconds, **settings):
        super().__init__(**settings)
        self.seconds = seconds

    def fit(self, params, seed):
        time.sleep(self.seconds)
        return super().fit(params, seed)


def test_callbacks_see_each_training():
    seen = []
    objective = Thrower()
    found = confirm(
        tuned(objective),
        objective,
        test=0.0,
        top_k=1,
        callbacks=[lambda study, trial: seen.append(trial.number)],
    )
    assert len(seen) == 2 * found.n_seeds


@pytest.mark.usefixtures("warm_workers")
def test_several_workers_find_what_one_finds(tmp_path):
    whole = confirm(tuned(Thrower()), Thrower(), test=0.0, top_k=2)
    study = tuned(Thrower(), storage=f"sqlite:///{tmp_path}/study.db")
    assert confirm(study, Thrower(), test=0.0, top_k=2, n_workers=2) == whole
    assert len(trainings(study)) == 3 * whole.n_seeds


@pytest.mark.parametrize(
    "changed", [{"n_seeds": 40}, {"min_seeds": 8}, {"top_k": 1}, {"min_difference": 0.1}]
)
def test_more_seeds_after_a_look_at_the_result_are_refused(changed):
    objective = Thrower()
    study = tuned(objective)
    confirm(study, objective, test=0.0, top_k=2)
    with pytest.raises(RecipeMismatch, match="Take another `study_name`, and another `seed`"):
        confirm(study, objective, test=0.0, **{"top_k": 2, **changed})


def test_other_metric_is_compared_by_its_own_direction():
    objective = Thrower()
    confirmation = confirm(
        tuned(objective), objective, test=0.0, top_k=1, metric=("shame", "minimize")
    )
    assert confirmation.metric == "shame"
    assert confirmation.winner.improvement.estimate == pytest.approx(2.0, abs=0.2)
    assert confirmation.winner.tuning_value is None


def test_unknown_metric_is_an_error():
    objective = Thrower()
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
        ({"metric": "shame"}, InvalidArgument, "`metric` must be given with its direction"),
        ({"metric": ("shame", "down")}, InvalidArgument, "must be one of 'maximize'"),
        ({"fuse": 4}, InvalidType, "`fuse` needs a TorchObjective"),
        ({"baseline": {"skill": 9.0, "kind": "a"}}, InvalidArgument, "skill"),
        ({"baseline": {"skull": 1.0}}, InvalidArgument, "skill"),
        ({"n_workers": 2}, InvalidArgument, "`n_workers` must be 1 for a study in memory"),
    ],
)
def test_bad_argument_is_refused_before_a_training(arguments, error, message):
    objective = Thrower()
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
def test_objective_that_cannot_fit_or_evaluate_is_refused(kind, method):
    objective = kind(search_space=SPACE, direction="maximize", max_steps=1)
    with pytest.raises(InvalidArgument, match=f"{kind.__name__} without `{method}`"):
        confirm(tuned(Thrower()), objective, test=0.0)


def test_what_is_no_objective_or_no_study_is_refused():
    with pytest.raises(InvalidType, match="got function: a function of a trial cannot"):
        confirm(tuned(Thrower()), lambda trial: 0.0, test=0.0)
    with pytest.raises(InvalidType, match=r"`study` must be an optuna.Study, got str"):
        confirm("throws", Thrower(), test=0.0)
    with pytest.raises(InvalidArgument, match="`direction` of study 'throws' must be 'minimize'"):
        confirm(tuned(Thrower()), Thrower(sign=-1.0), test=0.0)


@pytest.mark.parametrize("skills", [(), (1.0,)])
def test_study_without_a_candidate_is_refused(skills):
    objective = Thrower()
    with pytest.raises(InvalidArgument, match="complete trial of another configuration"):
        confirm(tuned(objective, skills), objective, test=0.0)


def test_study_that_is_no_confirmation_is_refused():
    with pytest.raises(InvalidArgument, match="`study` must be one that `confirm` has made"):
        load_confirmation(tuned(Thrower()))


def test_name_of_another_study_is_refused_and_nothing_changed():
    objective = Thrower()
    study = tuned(objective)
    with pytest.raises(RecipeMismatch):
        confirm(study, objective, test=0.0, study_name="throws")
    assert len(study.trials) == 3


def test_real_confirmations_hold_the_truth():
    covered, claimed = [], []
    for seed in range(30):
        objective = Thrower(noise=1.0)
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


def test_result_is_frozen():
    objective = Thrower()
    confirmation = confirm(tuned(objective), objective, test=0.0, top_k=1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        confirmation.n_seeds = 3
