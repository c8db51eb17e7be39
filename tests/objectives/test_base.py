"""Objective: the contract that every trainer keeps, in `study.optimize` and in `run`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.pruners import MedianPruner, ThresholdPruner
from optuna.trial import TrialState, create_trial

import hpolab
from hpolab import (
    Diverged,
    HpolabError,
    InvalidArgument,
    InvalidType,
    Objective,
    RecipeMismatch,
    SearchSpace,
)
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


def test_study_of_two_directions_is_refused():
    study = optuna.create_study(directions=["minimize", "maximize"])
    with pytest.raises(InvalidArgument, match="got 'minimize', 'maximize'"):
        Descent().check_direction(study)


def test_patience_and_min_delta_reach_the_reporter():
    study = make_study()
    optimize(study, Descent(patience=2, min_delta=1000.0), 1)
    assert sorted(study.trials[0].intermediate_values) == [0, 1, 2]


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


def test_optimized_metric_is_the_one_that_the_objective_names():
    assert Descent(metric="loss").metric_in({"accuracy": 1.0, "loss": 0.1}) == "loss"


def test_single_metric_is_the_optimized_one_where_none_is_named():
    assert Descent().metric_in({"loss": 0.1}) == "loss"


@pytest.mark.parametrize("metrics", [{"accuracy": 1.0, "loss": 0.1}, {}])
def test_metrics_without_the_optimized_one_are_refused(metrics):
    with pytest.raises(InvalidArgument, match=r"`metric` must be one of .* got 'value': give Desc"):
        Descent().metric_in(metrics)
    with pytest.raises(InvalidArgument, match=r"`metric` must be one of .* got 'mae'"):
        Descent(metric="mae").metric_in(metrics)


# From a study to the model


class Walk(Objective):
    """A random walk whose model is its best position; it ends early where time is up."""

    def __init__(self, **options: Any) -> None:
        settings = {"search_space": WALKS, "direction": "maximize", "max_steps": 8}
        super().__init__(**settings | options)

    def train(self, params: Mapping[str, Any], reporter: Reporter) -> float:
        rng, position = np.random.default_rng(reporter.seed), 0.0
        for step in reporter.steps(self.max_steps):
            position += params["size"] * rng.normal(params["drift"])
            reporter.report(position, step)
        assert reporter.best_value is not None
        return reporter.best_value

    def fit(self, params: Mapping[str, Any], seed: int = 0) -> float:
        return self.train(self.search_space.complete(params), self.reporter(seed=seed))


WALKS = SearchSpace({"size": (0.1, 1.0), "drift": 0.5})


def walked(objective: Walk | None = None, n_trials: int = 4, **options: Any) -> Study:
    study = make_study(direction="maximize", **{"pruner": "none", **options})
    run(study, objective or Walk(), n_trials)
    return study


def test_model_of_the_best_trial_is_its_own():
    study = walked()
    assert Walk().fit_best(study) == study.best_value
    assert Walk().fit_best(study, seed=3) == Walk().fit(study.best_params, 3) != study.best_value


def test_best_trial_violates_no_constraint():
    study = walked()
    best = study.best_trial
    study.add_trial(
        create_trial(
            params=best.params,
            distributions=best.distributions,
            value=best.value + 1,
            constraints={"size": 1.0},
        )
    )
    assert Walk().fit_best(study) == best.value


def test_model_of_any_trial_by_its_number_or_itself():
    study = walked()
    for trial in study.trials:
        assert Walk().fit_trial(study, trial.number) == trial.value
        assert Walk().fit_trial(study, trial) == trial.value


@pytest.mark.parametrize(
    ("run_with", "fit_with"), [({"timeout_seconds": 1e-9}, {}), ({"patience": 1}, {}),
                               ({}, {"timeout_seconds": 1e-9}), ({}, {"patience": 1})]
)  # fmt: skip
def test_training_ends_where_the_trial_s_did(run_with, fit_with):
    study = walked(Walk(**run_with))
    for trial in study.trials:
        assert Walk(**fit_with).fit_trial(study, trial) == trial.value


def test_training_that_differs_from_the_trial_s_is_said_once(caplog):
    class Unseeded(Walk):
        def fit(self, params: Mapping[str, Any], seed: int = 0) -> float:
            return super().fit(params, seed + 1)

    study = walked()
    caplog.clear()
    optuna.logging.enable_propagation()
    try:
        Walk().fit_trial(study, 1)
        assert not caplog.records
        Unseeded().fit_trial(study, 1)
    finally:
        optuna.logging.disable_propagation()
    (record,) = caplog.records
    assert "differs from the trial that it repeats" in record.getMessage()
    assert "at step 0, where the trial had" in record.getMessage()


def test_params_of_a_trial_are_whole_in_the_trainer_s_names():
    study = walked()
    trial = study.trials[2]
    assert Walk().params_of(trial) == {"size": trial.params["size"], "drift": 0.5}
    assert Walk().params_of(trial.params) == Walk().params_of(trial)
    assert Walk().params_of(Walk().params_of(trial)) == Walk().params_of(trial)


def test_trial_without_an_end_has_no_model():
    study = walked(pruner=ThresholdPruner(upper=-100.0), n_trials=1)
    with pytest.raises(InvalidArgument, match=r"got trial 0, which was pruned at step 0\. `fit\("):
        Walk().fit_trial(study, 0)
    with pytest.raises(InvalidArgument, match=r"must have a complete trial .* got 's' without one"):
        Walk().fit_best(study)
    assert Walk().params_of(study.trials[0])["drift"] == 0.5
    study.ask()
    with pytest.raises(InvalidArgument, match="got trial 1, which is running"):
        Walk().fit_trial(study, 1)


def test_failed_and_diverged_trials_say_why_they_have_no_model():
    class Broken(Walk):
        def train(self, params: Mapping[str, Any], reporter: Reporter) -> float:
            if reporter.trial.number == 1:
                raise OSError("disk full")
            return math.nan

    study = walked(Broken(), n_trials=2)
    with pytest.raises(InvalidArgument, match=r"trial 0, which was pruned \(diverged: nan"):
        Walk().fit_trial(study, 0)
    with pytest.raises(InvalidArgument, match=r"trial 1, which failed \(OSError: disk full\)"):
        Walk().fit_trial(study, 1)


@pytest.mark.parametrize("trial", [4, -1, 100])
def test_trial_that_is_not_there_is_refused(trial):
    with pytest.raises(InvalidArgument, match=f"one of the 4 trials of study 's', got {trial}"):
        Walk().fit_trial(walked(), trial)


@pytest.mark.parametrize("trial", ["best", None, True])
def test_what_is_no_trial_is_refused(trial):
    with pytest.raises(InvalidType, match="`trial` must be a trial or its number, got"):
        Walk().fit_trial(walked(), trial)


def test_what_is_no_study_is_refused():
    with pytest.raises(InvalidType, match=r"`study` must be an optuna\.Study, got dict"):
        Walk().fit_best({})


@pytest.mark.parametrize(
    ("space", "error", "message"),
    [
        ({"size": (0.1, 1.0), "drift": 0.2}, RecipeMismatch, "drift=0.5; .* it is 0.2"),
        ({"size": (0.1, 1.0)}, RecipeMismatch, "drift=0.5; .* it is left out"),
        ({"length": (0.1, 1.0), "drift": 0.5}, InvalidArgument, "got 'size', which it has not"),
    ],
)
def test_study_of_another_configuration_is_refused(space, error, message):
    objective = Walk(search_space=SearchSpace(space))
    with pytest.raises(error, match=message):
        objective.fit_best(walked())


def test_study_of_other_facts_is_refused():
    objective, other = Walk(), Walk()
    objective.facts, other.facts = {"data": "a"}, {"data": "b"}
    with pytest.raises(RecipeMismatch, match="'data': stored 'a', asked for 'b'"):
        other.fit_best(walked(objective))


def test_study_of_the_other_direction_has_no_model():
    with pytest.raises(InvalidArgument, match="must be 'minimize'"):
        Walk(direction="minimize").fit_best(walked())


def test_fixed_range_takes_the_trial_s_own_value():
    narrow = Walk(search_space=WALKS.override(size=0.3))
    study = walked()
    assert narrow.fit_trial(study, 1) == study.trials[1].value


def test_objective_without_a_trainer_cannot_be_made():
    with pytest.raises(TypeError, match="abstract"):
        Objective(search_space=SPACE, direction="minimize", max_steps=1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"search_space": [("lr", 0.1)]}, InvalidType, "SearchSpace or a dict of ranges.*got list"),
        ({"direction": "up"}, InvalidArgument, "`direction` must be one of .* got 'up'"),
        ({"metric": 3}, InvalidType, "`metric` must be a name, got int"),
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


class Mean(Objective):
    """Its metric is a mean over rows."""

    def train(self, params: Mapping[str, Any], reporter: Reporter) -> float:
        return 0.0

    def evaluate(self, model: Any, data: Any) -> dict[str, float]:
        return {"mean": float(np.mean(data))}

    def row_scores(self, model: Any, data: Any) -> Any:
        return data


def mean_of(kind: type[Objective]) -> Objective:
    return kind(search_space=SPACE, metric="mean", direction="minimize", max_steps=1)


@pytest.mark.parametrize(
    "data",
    [
        np.array([1.0, 2.0, 6.0]),
        np.array([True, False]),
        [1, 2, 6],
        np.array([1.0, 2.0, 6.0], np.float32),
    ],
    ids=["array", "booleans", "list", "float32"],
)
def test_row_scores_with_the_metric_as_their_mean_are_taken(data: Any) -> None:
    objective = mean_of(Mean)
    value = objective.evaluate(None, data)["mean"]
    scores = objective.checked_row_scores(None, data, value)
    assert scores is not None
    assert scores.dtype == np.float64
    assert scores.tolist() == list(map(float, data))


def test_row_scores_of_tensors_are_taken() -> None:
    torch = pytest.importorskip("torch")
    data = torch.tensor([1.0, 2.0], requires_grad=True)
    scores = mean_of(Mean).checked_row_scores(None, data, 1.5)
    assert scores is not None
    assert scores.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("data", "value"),
    [(np.array([3.0]), 3.0), (np.array([1.0, 2.0]), math.nan), (None, 1.0)],
    ids=["one row", "no metric", "no scores"],
)
def test_what_says_nothing_of_other_rows_is_no_error(data: Any, value: float) -> None:
    assert mean_of(Mean).checked_row_scores(None, data, value) is None


@pytest.mark.parametrize(
    ("data", "value", "message"),
    [
        (np.array([1.0, 2.0]), 1.6, r"mean is its metric 'mean', 1\.6 .* the mean 1\.5"),
        (np.array([1.0, math.nan]), 1.0, "2 numbers, some of them not finite"),
        (np.ones((3, 2)), 1.0, r"ndarray of shape \(3, 2\)"),
        ("text", 1.0, "got str"),
    ],
    ids=["another mean", "NaN", "two axes", "text"],
)
def test_row_scores_of_another_metric_are_refused(data: Any, value: float, message: str) -> None:
    with pytest.raises(InvalidArgument, match=f"`row_scores` of Mean must be .*{message}"):
        mean_of(Mean).checked_row_scores(None, data, value)


def test_an_objective_without_row_scores_has_none() -> None:
    assert Descent(search_space=SPACE).checked_row_scores(1.0, None, 1.0) is None


class OfAnotherMetric(Mean):
    """Replaces the metric, and leaves the row scores as they are."""

    def evaluate(self, model: Any, data: Any) -> dict[str, float]:
        return {"mean": float(np.median(data))}


class OfOtherData(Mean):
    """Its data are named, which the row scores of its parent know nothing of."""

    def evaluate(self, model: Any, data: Any) -> dict[str, float]:
        return super().evaluate(model, data["rows"])

    def row_scores(self, model: Any, data: Any) -> Any:
        return data["rows"]


class OfOneMoreMetric(Mean):
    """Adds to the metrics."""

    def evaluate(self, model: Any, data: Any) -> dict[str, float]:
        return {**super().evaluate(model, data), "max": float(np.max(data))}


class MixedIn:
    """Replaces the metric from beside the family."""

    def evaluate(self, model: Any, data: Any) -> dict[str, float]:
        return {"mean": float(np.max(data))}


class Mixed(MixedIn, Mean):
    """Takes its metric from a class that is no objective."""


@pytest.mark.parametrize(
    ("kind", "is_taken"), [(OfAnotherMetric, False), (Mixed, False), (OfOneMoreMetric, True)]
)
def test_row_scores_go_with_the_metric_that_a_subclass_has(
    kind: type[Objective], is_taken: bool
) -> None:
    objective, data = mean_of(kind), np.array([1.0, 2.0, 6.0])
    value = objective.evaluate(None, data)["mean"]
    assert (objective.checked_row_scores(None, data, value) is not None) == is_taken


def test_row_scores_that_cannot_read_a_subclass_s_data_are_left_out() -> None:
    class Reads(OfOtherData):
        def evaluate(self, model: Any, data: Any) -> dict[str, float]:
            return Mean.evaluate(self, model, data)

    assert mean_of(Reads).checked_row_scores(None, np.array([1.0, 2.0]), 1.5) is None
    with pytest.raises(IndexError):
        mean_of(OfOtherData).checked_row_scores(None, np.array([1.0, 2.0]), 1.5)
