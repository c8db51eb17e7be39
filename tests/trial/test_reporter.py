"""Reporter: report, prune, stop early, diverge, run out of memory, start over."""

from __future__ import annotations

import math
import random
from dataclasses import FrozenInstanceError, fields

import numpy as np
import optuna
import pytest
from optuna.pruners import NopPruner, ThresholdPruner
from optuna.trial import TrialState

from hpolab import (
    Diverged,
    InvalidArgument,
    InvalidType,
    Reporter,
    ReporterOptions,
    ReporterSettings,
    make_study,
)
from hpolab.trial.packing import BytesState
from hpolab.trial.reporter import StepReport, report_together


def ask(direction: str = "minimize", pruner: optuna.pruners.BasePruner | None = None):
    study = make_study(
        "s", storage="memory://", direction=direction, pruner=pruner or NopPruner(), seed=4
    )
    return study, study.ask()


def test_reports_reach_the_study():
    study, trial = ask()
    reporter = Reporter(trial)
    for step, value in enumerate([3.0, 1.0, 2.0]):
        reporter.report(value, step)
    assert study.trials[0].intermediate_values == {0: 3.0, 1: 1.0, 2: 2.0}
    assert (reporter.best_value, reporter.best_step) == (1.0, 1)
    assert not reporter.improved


class Estimator:
    """As those of scikit-learn are: it has no state_dict."""


class Network:
    """As models of PyTorch are: it can be kept, in a dict."""

    def state_dict(self):
        return {"weight": 1.0}

    def load_state_dict(self, state):
        self.state = state


UNKEPT = {
    "text": "weights",
    "list": [1.0],
    "number": 3,
    "nothing": lambda: None,
    "text of a function": lambda: "weights",
    "a model": Network(),
    "a lambda in a dict": {"rate": lambda: 1.0},
    "a class in a dict": {"model": Network},
    "an estimator in a dict": {"model": Estimator()},
    "objects in an array": {"runs": np.array([object()])},
    "deep in a dict of a function": lambda: {"nets": [{"loader": iter([])}]},
}


@pytest.mark.parametrize("storage", ["memory", "sqlite"])
@pytest.mark.parametrize("state", UNKEPT.values(), ids=UNKEPT.keys())
def test_state_that_cannot_be_kept_is_refused_at_the_first_report(state, storage, tmp_path):
    url = "memory://" if storage == "memory" else f"sqlite:///{tmp_path}/s.db"
    reporter = Reporter(make_study("s", storage=url).ask(), checkpoint_seconds=1000)
    with pytest.raises(InvalidType, match=r"`state(`|\[).*(lambda: pickle.dumps|\"model\": model)"):
        reporter.report(1.0, 0, state=state)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("is_function", [True, False])
def test_state_of_whatever_bytes_is_kept(kind, is_function, tmp_path):
    study = make_study("s", storage=f"sqlite:///{tmp_path}/s.db")
    trial = study.ask()
    state = kind(b"weights")
    Reporter(trial, checkpoint_seconds=0).report(
        1.0, 0, state=(lambda: state) if is_function else state
    )
    assert Reporter(trial).restore() == b"weights"


def test_state_is_made_at_the_first_report_and_when_a_checkpoint_is_due(tmp_path):
    # It may be costly. The first time tells whether it can be kept.
    study = make_study("s", storage=f"sqlite:///{tmp_path}/s.db")
    made = []
    reporter = Reporter(study.ask(), checkpoint_seconds=1000)
    for step in range(5):
        reporter.report(1.0, step, state=lambda: made.append(1) or b"")
    assert len(made) == 1


def test_objectives_make_their_state_only_when_a_checkpoint_is_due():
    reporter = Reporter(make_study("s", storage="memory://").ask(), checkpoint_seconds=0)
    reporter.report(1.0, 0, state=BytesState(lambda: pytest.fail("nothing in memory is kept")))


def test_direction_decides_what_improves():
    _, trial = ask("maximize")
    reporter = Reporter(trial)
    improved = []
    for step, value in enumerate([1.0, 3.0, 2.0]):
        reporter.report(value, step)
        improved.append(reporter.improved)
    assert improved == [True, True, False]
    assert reporter.direction == "maximize"


def test_pruner_ends_the_trial():
    _, trial = ask(pruner=ThresholdPruner(upper=1.0))
    reporter = Reporter(trial)
    reporter.report(0.5, 0)
    with pytest.raises(optuna.TrialPruned, match=r"step 1 with value 2.0"):
        reporter.report(2.0, 1)


def test_patience_stops_the_steps():
    _, trial = ask()
    reporter = Reporter(trial, patience=2)
    values = [3.0, 2.0, 2.5, 2.4, 1.0]
    steps = []
    for step in reporter.steps(5):
        reporter.report(values[step], step)
        steps.append(step)
    assert steps == [0, 1, 2, 3]
    assert reporter.should_stop
    assert (reporter.best_value, reporter.best_step) == (2.0, 1)


def test_min_delta_is_what_an_improvement_must_gain():
    _, trial = ask()
    reporter = Reporter(trial, patience=2, min_delta=0.5)
    for step, value in enumerate([3.0, 2.8, 2.6]):
        reporter.report(value, step)
    assert reporter.should_stop
    assert reporter.best_value == 3.0


def test_time_limit_stops_the_steps():
    _, trial = ask()
    reporter = Reporter(trial, timeout_seconds=1e-9)
    taken = []
    for step in reporter.steps(5):
        reporter.report(1.0, step)
        taken.append(step)
    assert taken == [0]


def test_deadline_ends_training_at_the_next_report():
    _, trial = ask()
    late, early = Reporter(trial, deadline=0.0), Reporter(None, direction="minimize", deadline=1e12)
    late.report(1.0, 0)
    early.report(1.0, 0)
    assert late.should_stop
    assert not early.should_stop


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_divergence_prunes_and_marks_the_trial(value):
    study, trial = ask()
    reporter = Reporter(trial)
    reporter.report(1.0, 0)
    with pytest.raises(optuna.TrialPruned, match=f"diverged: {value} at step 1"):
        reporter.report(value, 1)
    study.tell(trial, state=TrialState.PRUNED)
    stored = study.trials[0]
    assert stored.intermediate_values == {0: 1.0}
    assert list(stored.constraints.values()) == [1.0]
    assert stored.user_attrs["hpolab:reason"] == f"diverged: {value} at step 1"


class OutOfMemoryError(Exception):
    """As torch and CuPy call it."""


class LightGBMError(Exception):
    """As LightGBM calls all of its own."""


def raised_from(cause: Exception) -> Exception:
    error = ValueError("the batch could not be made")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no room"),
        OutOfMemoryError("Tried to allocate 20 MiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cusparse error: CUSPARSE_STATUS_INSUFFICIENT_RESOURCES"),
        RuntimeError("MPS backend out of memory (MPS allocated: 18 GB)"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 4096 bytes"),
        LightGBMError("std::bad_alloc"),
        raised_from(MemoryError("no room")),
        raised_from(RuntimeError("HIP out of memory")),
    ],
    ids=repr,
)
def test_running_out_of_memory_prunes_and_marks_the_trial(error):
    _, trial = ask()
    with pytest.raises(optuna.TrialPruned, match="out of memory"), Reporter(trial):
        raise error
    assert trial.constraints


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shapes do not match"),
        RuntimeError("CUDA error: device-side assert triggered"),
        ValueError("`cache` must not run out of memory, got 3"),
        LightGBMError("Label should be int type"),
    ],
    ids=repr,
)
def test_other_errors_pass_through(error):
    _, trial = ask()
    with pytest.raises(type(error)) as raised, Reporter(trial):
        raise error
    assert raised.value is error
    assert not trial.constraints


def test_divergence_is_learned_from():
    """Samplers avoid where trials died; they would propose it again had the trials failed."""

    def died(as_pruned: bool) -> int:
        study = make_study("s", storage="memory://", sampler="tpe", pruner="none", seed=0)
        n_died = 0
        for _ in range(60):
            trial = study.ask()
            x = trial.suggest_float("x", 0, 1)
            reporter = Reporter(trial)
            try:
                reporter.report(math.nan if x > 0.4 else x - 0.4, 0)
            except optuna.TrialPruned:
                n_died += 1
                study.tell(trial, state=TrialState.PRUNED if as_pruned else TrialState.FAIL)
            else:
                study.tell(trial, 0.4 - x)
        return n_died

    assert died(as_pruned=True) < 0.7 * died(as_pruned=False)


def test_step_reported_twice_is_an_error():
    _, trial = ask()
    reporter = Reporter(trial)
    reporter.report(1.0, 0)
    with pytest.raises(InvalidArgument, match="`step` must be reported once, got step 0 again"):
        reporter.report(1.0, 0)


def test_trial_that_starts_over_reports_over_its_stale_reports():
    study, trial = ask(pruner=ThresholdPruner(upper=5.0))
    first_life = Reporter(trial)
    first_life.report(0.5, 0)
    first_life.report(4.0, 1)
    second_life = Reporter(trial)
    second_life.report(6.0, 0)  # its earlier life was not pruned here
    assert study.trials[0].intermediate_values == {0: 6.0, 1: 4.0}
    with pytest.raises(optuna.TrialPruned):
        second_life.report(6.0, 1)


def test_metrics_are_recorded_beside_the_value():
    study, trial = ask()
    Reporter(trial).record(accuracy=0.5, loss=1)
    assert study.trials[0].user_attrs["hpolab:metrics"] == {"accuracy": 0.5, "loss": 1.0}


def test_seed_follows_from_study_seed_and_trial_number():
    def seeds(seed: int) -> list[int]:
        study = make_study("s", storage="memory://", seed=seed)
        trials = [study.ask() for _ in range(3)]
        return [Reporter(trial).seed for trial in trials]

    assert seeds(1) == seeds(1)
    assert len({*seeds(1), *seeds(2)}) == 6


def test_works_in_a_plain_optuna_study():
    def objective(trial):
        with Reporter(trial) as reporter:
            for step in reporter.steps(3):
                reporter.report(trial.suggest_float("x", 0, 1), step)
            return reporter.best_value

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=2)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 2


def test_without_a_trial_it_watches_and_raises_diverged():
    reporter = Reporter(None, direction="minimize", patience=1, seed=3)
    reporter.report(2.0, 0)
    reporter.record(loss=2.0)
    assert (reporter.best_value, reporter.seed) == (2.0, 3)
    with pytest.raises(Diverged, match="nan at step 1"):
        reporter.report(math.nan, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patience": 0}, "`patience` must be 1 or above, or None, got 0"),
        ({"min_delta": -0.1}, "`min_delta` must be 0 or above, got -0.1"),
        ({"timeout_seconds": 0}, "`timeout_seconds` must be above 0, or None, got 0"),
        ({"timeout_seconds": math.nan}, "`timeout_seconds` must be above 0, or None, got nan"),
        ({"min_delta": math.nan}, "`min_delta` must be 0 or above, got nan"),
        ({"checkpoint_seconds": math.nan}, "`checkpoint_seconds` must be 0 or above, got nan"),
    ],
)
def test_bad_setting_is_refused(arguments, message):
    _, trial = ask()
    with pytest.raises(InvalidArgument, match=message):
        Reporter(trial, **arguments)


@pytest.mark.parametrize("name", ["patience", "min_delta", "timeout_seconds", "checkpoint_every"])
def test_setting_of_a_wrong_type_is_refused_by_name(name):
    with pytest.raises(InvalidType, match=rf"`{name}` must be an? \w+, got str"):
        ReporterSettings(**{name: "3"})


def test_settings_and_their_keywords_are_the_same_list():
    assert {field.name for field in fields(ReporterSettings)} == ReporterOptions.__optional_keys__
    assert not ReporterOptions.__required_keys__


def test_settings_do_not_change():
    reporter = Reporter(None, direction="minimize", patience=3)
    assert reporter.settings == ReporterSettings(patience=3)
    with pytest.raises(FrozenInstanceError):
        reporter.settings.patience = 4


def noisy(lr, reporter):
    rng, weight, best = random.Random(reporter.seed), 5.0, 5.0
    for step in reporter.steps(20):
        weight -= lr * 2 * (weight + rng.gauss(0, 1))
        reporter.report(weight**2, step)
        best = weight if reporter.improved else best
    return best


@pytest.mark.parametrize("which", ["best", "number", "trial"])
@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("patience", [None, 2])
def test_loop_is_repeated_for_the_model_of_a_trial(seed, patience, which, caplog):
    def objective(trial):
        lr = trial.suggest_float("lr", 1e-3, 0.5, log=True)
        return noisy(lr, Reporter(trial, patience=patience)) ** 2

    if seed is None:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    else:
        study = make_study("s", storage="memory://", seed=seed, pruner="none")
    study.optimize(objective, n_trials=4)
    trial = study.best_trial if which == "best" else study.trials[1]
    asked = {"best": None, "number": 1, "trial": trial}[which]
    with caplog.at_level("WARNING"):
        assert noisy(trial.params["lr"], Reporter.repeating(study, asked)) ** 2 == trial.value
    assert "differs" not in caplog.text


@pytest.mark.parametrize(("trial", "message"), [(7, "got 7"), (0, "got 0"), (None, "without one")])
def test_what_is_not_finished_is_not_repeated(trial, message):
    study, _ = ask()
    with pytest.raises(InvalidArgument, match=message):
        Reporter.repeating(study, trial)


def test_without_a_trial_the_direction_is_needed():
    with pytest.raises(InvalidArgument, match="`direction` must be one of"):
        Reporter(None)


def test_several_objective_values_are_refused():
    study = make_study("s", storage="memory://", direction=["minimize", "maximize"])
    with pytest.raises(InvalidArgument, match="one objective value, got one with 2"):
        Reporter(study.ask())


@pytest.mark.parametrize(
    ("value", "step", "error", "message"),
    [
        (1.0, -1, InvalidArgument, "`step` must be 0 or above, got -1"),
        (1.0, 0.5, InvalidType, "`step` must be an int, got float"),
        ("high", 0, InvalidType, "`value` must be a number, got str"),
    ],
)
def test_bad_report_is_refused(value, step, error, message):
    _, trial = ask()
    with pytest.raises(error, match=message):
        Reporter(trial).report(value, step)


def test_no_steps_are_refused():
    _, trial = ask()
    with pytest.raises(InvalidArgument, match="`n_steps` must be 1 or above, got 0"):
        list(Reporter(trial).steps(0))


def test_one_of_several_whose_checkpoint_does_not_fit_in_memory_ends_alone(tmp_path):
    def too_large() -> bytes:
        raise MemoryError("4 GiB")

    study = make_study("s", storage=f"sqlite:///{tmp_path}/s.db", pruner="none")
    reporters = [Reporter(study.ask(), checkpoint_seconds=0) for _ in range(2)]
    states = too_large, lambda: b"whole"
    reports = [StepReport(r, 1.0, 0, state) for r, state in zip(reporters, states, strict=True)]
    first, second = report_together(reports)
    assert isinstance(first, MemoryError)
    assert second is None
    assert [trial.intermediate_values for trial in study.get_trials()] == [{0: 1.0}, {0: 1.0}]
