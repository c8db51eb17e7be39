"""Objective: the contract that every trainer keeps, in `study.optimize` and in `run`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.pruners import MedianPruner
from optuna.trial import TrialState

import hpolab
from hpolab import Diverged, HpolabError, InvalidArgument, InvalidType, Objective, SearchSpace
from hpolab.trial.reporter import REASON_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from optuna import Study

    from hpolab import Reporter

SPACE = SearchSpace({"lr": FloatDistribution(1e-3, 1e-1, log=True)}, defaults={"lr": 0.01})


class Descent(Objective):
    """Gradient descent on w**2; `end` makes the trial's value of the best step's."""

    def __init__(self, end: Callable[[float], float] = float, **options: Any) -> None:
        settings = {"search_space": SPACE, "direction": "minimize", "max_steps": 5}
        super().__init__(**settings | options)
        self.end = end

    def train(self, params: Mapping[str, Any], reporter: Reporter) -> float:
        weight = 5.0
        for step in reporter.steps(self.max_steps):
            weight -= params["lr"] * 2 * weight
            reporter.report(weight**2, step)
        assert reporter.best_value is not None
        return self.end(reporter.best_value)


def optimize(study: Study, objective: Objective, n_trials: int) -> None:
    study.optimize(objective, n_trials=n_trials)


def run(study: Study, objective: Objective, n_trials: int) -> None:
    hpolab.run(study, objective, n_trials=n_trials, show_progress_bar=False)


both_loops = pytest.mark.parametrize("loop", [optimize, run])


def make_study(**options: Any) -> Study:
    return hpolab.make_study("s", storage="memory://", sampler="random", seed=0, **options)


def test_a_dict_of_ranges_is_a_search_space():
    ranges = {"lr": (1e-3, 1e-1, "log")}
    for objective in (
        Descent(search_space=ranges),
        Descent().with_search_space(ranges),
        hpolab.FunctionObjective(min, search_space=ranges, direction="minimize", max_steps=1),
    ):
        assert objective.search_space == SearchSpace(ranges)


@both_loops
def test_trial_stores_what_was_suggested_reported_and_returned(loop):
    study = make_study()
    loop(study, Descent(), 2)
    for trial in study.trials:
        assert trial.state == TrialState.COMPLETE
        assert trial.distributions == SPACE.distributions()
        assert sorted(trial.intermediate_values) == [0, 1, 2, 3, 4]
        assert trial.value == min(trial.intermediate_values.values())


def test_both_loops_train_a_trial_alike():
    studies = [make_study(), make_study()]
    optimize(studies[0], Descent(), 3)
    hpolab.run(studies[1], Descent(), n_trials=3, default_first=False)
    ours, theirs = ([(t.params, t.intermediate_values) for t in s.trials] for s in studies)
    assert ours == theirs


@both_loops
def test_pruner_ends_a_trial(loop):
    study = make_study(pruner=MedianPruner(n_startup_trials=1, n_warmup_steps=0))
    study.enqueue_trial({"lr": 0.1})
    study.enqueue_trial({"lr": 0.001})
    loop(study, Descent(), 2)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE, TrialState.PRUNED]
    assert not study.trials[1].constraints


@both_loops
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_trial_that_ends_without_a_finite_value_is_pruned_and_marked(loop, value):
    study = make_study()
    loop(study, Descent(end=lambda _: value), 1)
    (trial,) = study.trials
    assert trial.state == TrialState.PRUNED
    assert trial.user_attrs[REASON_KEY] == f"diverged: {value} at its end"
    assert max(trial.constraints.values()) > 0


@both_loops
def test_trial_that_runs_out_of_memory_is_pruned_and_marked(loop):
    def exhaust(_: float) -> float:
        raise MemoryError("cannot allocate 1 TiB")

    study = make_study()
    loop(study, Descent(end=exhaust), 1)
    (trial,) = study.trials
    assert trial.state == TrialState.PRUNED
    assert "out of memory" in trial.user_attrs[REASON_KEY]
    assert max(trial.constraints.values()) > 0


@both_loops
def test_direction_of_the_study_must_be_the_objective_s(loop):
    study = make_study(direction="maximize")
    with pytest.raises(InvalidArgument, match=r"must be 'minimize', .* got 'maximize'"):
        loop(study, Descent(), 1)
    assert not [t for t in study.trials if t.state == TrialState.COMPLETE]


def test_run_refuses_a_contradicting_direction_before_a_trial():
    study = make_study(direction="maximize")
    with pytest.raises(InvalidArgument):
        run(study, Descent(), 1)
    assert study.trials == []


def test_study_of_two_directions_is_refused():
    study = optuna.create_study(directions=["minimize", "maximize"])
    with pytest.raises(InvalidArgument, match="got 'minimize', 'maximize'"):
        Descent().check_direction(study)


def test_patience_and_min_delta_reach_the_reporter():
    study = make_study()
    optimize(study, Descent(patience=2, min_delta=1000.0), 1)
    assert sorted(study.trials[0].intermediate_values) == [0, 1, 2]


def test_time_limit_reaches_the_reporter():
    study = make_study()
    optimize(study, Descent(timeout_seconds=1e-9), 1)
    assert sorted(study.trials[0].intermediate_values) == [0]


def test_reporter_outside_a_trial_stores_nothing_and_raises_on_divergence():
    reporter = Descent().reporter(seed=7)
    assert reporter.seed == 7
    with pytest.raises(Diverged):
        reporter.report(math.nan, 0)


def test_training_seed_is_the_trial_s_own():
    seeds: list[int] = []

    class Recording(Descent):
        def train(self, params: Mapping[str, Any], reporter: Reporter) -> float:
            seeds.append(reporter.seed)
            return super().train(params, reporter)

    optimize(make_study(), Recording(), 2)
    optimize(make_study(), Recording(), 2)
    assert seeds[:2] == seeds[2:]
    assert seeds[0] != seeds[1]


@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_what_a_subclass_leaves_out_is_said_by_name(method):
    with pytest.raises(NotImplementedError, match=rf"Descent does not define `{method}`"):
        getattr(Descent(), method)({}, 0)


def test_objective_without_a_trainer_cannot_be_made():
    with pytest.raises(TypeError, match="abstract"):
        Objective(search_space=SPACE, direction="minimize", max_steps=1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"search_space": [("lr", 0.1)]}, InvalidType, "SearchSpace or a dict of ranges.*got list"),
        ({"direction": "up"}, InvalidArgument, "`direction` must be one of .* got 'up'"),
        ({"max_steps": 0}, InvalidArgument, "`max_steps` must be 1 or above, got 0"),
        ({"patience": 0}, InvalidArgument, "`patience` must be 1 or above, or None, got 0"),
        ({"min_delta": -1.0}, InvalidArgument, r"`min_delta` must be 0 or above, got -1\.0"),
        ({"timeout_seconds": 0}, InvalidArgument, "`timeout_seconds` must be above 0"),
    ],
)
def test_bad_argument_is_refused(options, error, message):
    with pytest.raises(error, match=message) as raised:
        Descent(**options)
    assert isinstance(raised.value, HpolabError)
