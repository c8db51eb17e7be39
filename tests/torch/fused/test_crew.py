"""run(fuse=K): each member is what it would be alone, the budget is exact, deaths lose nothing."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import optuna
import pytest
import torch
from optuna.trial import TrialState
from torch import nn

from hpolab import (
    OPTIMIZERS,
    InvalidArgument,
    InvalidType,
    SearchSpace,
    TorchObjective,
    load_study,
    make_study,
    optimizer_space,
    run,
    schedule_space,
)
from hpolab.studies.trials import METRICS_KEY
from hpolab.torch.fused.rules import RULES
from hpolab.trial.lease import ERROR_KEY
from hpolab.trial.reporter import REASON_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from optuna import Study

N_TRAIN, N_OTHER = 85, 40  # batches of 16 leave a smaller one

# A curve of a fused member may differ by rounding from the trial's alone, this far at most.
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(params=[torch.float64, torch.float32], ids=str)
def dtype(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(before)


@pytest.fixture
def double() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def rows(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))
    return inputs, (inputs[:, 0] + inputs[:, 1] * inputs[:, 2] > 0).long()


def build(params: dict[str, Any]) -> nn.Module:
    """Batch normalization and dropout; no bias before the first, whose gradient is rounding."""
    return nn.Sequential(
        nn.Linear(6, params.get("hidden", 12), bias=False),
        nn.BatchNorm1d(params.get("hidden", 12)),
        nn.ReLU(),
        nn.Dropout(params.get("dropout", 0.3)),
        nn.Linear(params.get("hidden", 12), 8),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(8, 2),
    )


def objective_of(
    space: SearchSpace | None = None,
    model: Callable[[dict[str, Any]], nn.Module] = build,
    **options: Any,
) -> TorchObjective:
    settings: dict[str, Any] = {"loss": "cross_entropy", "metric": "loss", "max_epochs": 3}
    data = {"train": (N_TRAIN, 0), "valid": (N_OTHER, 1), "score": (N_OTHER, 2)}
    return TorchObjective(
        model,
        **{name: rows(*of) for name, of in data.items()},
        search_space=optimizer_space("adam") if space is None else space,
        batch_size=16,
        **settings | options,
    )


def study_of(
    objective: TorchObjective,
    n_trials: int,
    fuse: int | str | None,
    *,
    storage: str = "memory://",
    name: str = "s",
    sampler: Any = "random",
    pruner: Any = "none",
    **options: Any,
) -> Study:
    study = make_study(
        name, storage=storage, objective=objective, sampler=sampler, pruner=pruner, seed=0
    )
    run(study, objective, n_trials=n_trials, fuse=fuse, show_progress_bar=False, **options)
    return study


def check_same(together: Study, alone: Study, tolerance: float) -> None:
    for one, other in zip(together.trials, alone.trials, strict=True):
        assert one.params == other.params
        assert one.state == other.state
        assert one.intermediate_values == pytest.approx(
            other.intermediate_values, rel=tolerance, abs=tolerance
        )
        assert one.value == pytest.approx(other.value, rel=tolerance, abs=tolerance)


# What a member is


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name in RULES])
def test_curve_of_a_fused_member_is_that_of_the_trial_alone(name, dtype):
    space = optimizer_space(name) | SearchSpace({"dropout": (0.0, 0.6)})
    objective = objective_of(space | schedule_space("cosine", max_epochs=3))
    check_same(study_of(objective, 5, 3), study_of(objective, 5, None), TOLERANCE[dtype])


def test_different_optimizers_stand_in_one_stack(double):
    names = ["adam", "sgd", "adadelta", "adafactor", "rprop", "nesterov"]
    objective = objective_of(optimizer_space(names), metrics=["accuracy"])
    together, alone = study_of(objective, 12, 6), study_of(objective, 12, None)
    check_same(together, alone, 1e-8)
    assert len({trial.params["optimizer"] for trial in together.trials}) > 3
    for one, other in zip(together.trials, alone.trials, strict=True):
        assert one.user_attrs[METRICS_KEY] == pytest.approx(other.user_attrs[METRICS_KEY])


# torch's compiler warns of its own code.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("names", "backend"),
    [
        # The steps are captured as a graph, which then runs without a C++ compiler.
        pytest.param(["adam", "sgd"], "eager", id="mixed, captured"),
        pytest.param("adam", "inductor", id="one rule", marks=pytest.mark.long),
        pytest.param(["adam", "sgd"], "inductor", id="mixed", marks=pytest.mark.long),
    ],
)
def test_compiled_steps_are_those_of_the_trials_alone(names, backend, double, monkeypatch):
    monkeypatch.setattr("torch.compile", partial(torch.compile, backend=backend))
    # A study this small would not be compiled, whether its steps are fast here or not.
    monkeypatch.setattr("hpolab.torch.fused.speed._COMPILE_SMALL_FROM_SECONDS", 0.0)
    monkeypatch.setattr("hpolab.torch.fused.speed._COMPILE_FROM_SECONDS", 0.0)
    monkeypatch.setattr("hpolab.torch.fused.speed._stack_speed", compiled_only)
    objective = objective_of(optimizer_space(names))
    check_same(study_of(objective, 6, 4), study_of(objective, 6, None), 1e-8)
    assert compiled_sizes == [4]
    compiled_sizes.clear()


compiled_sizes: list[int] = []


def compiled_only(
    objective: Any, architecture: Any, size: int, *, n_steps: int, compiled: bool
) -> Any:
    from hpolab.torch.fused.speed import Speed

    if not compiled:
        return None
    compiled_sizes.append(size)
    return Speed(size, compiled=True, seconds=1.0)


class Towers(nn.Module):
    """Inputs in a dict, an embedding, a layer that is frozen, two tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(5, 3)
        self.first = nn.Linear(4, 3)
        self.second = nn.Linear(4, 3)
        self.second.weight = self.first.weight
        self.frozen = nn.Linear(3, 3).requires_grad_(False)

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        left = self.words(inputs["word"]) * self.first(inputs["context"])
        return (left + self.frozen(self.second(inputs["context"]))).sum(-1)


def test_inputs_in_a_dict_tied_and_frozen_weights_are_stacked(double, caplog):
    drawn = torch.Generator().manual_seed(0)

    def part(n: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        words = torch.randint(0, 5, (n,), generator=drawn)
        return {"word": words, "context": torch.randn(n, 4, generator=drawn)}, words.double()

    objective = TorchObjective(
        lambda params: Towers(),
        train=part(50),
        valid=part(20),
        search_space=optimizer_space("adamw"),
        loss="mse",
        metric="rmse",
        max_epochs=3,
        batch_size=16,
    )
    check_same(study_of(objective, 4, 4), study_of(objective, 4, None), 1e-8)
    assert "trains alone" not in caplog.text


@pytest.mark.parametrize("kind", [nn.Dropout1d, nn.Dropout2d])
def test_masks_of_channels_are_those_of_the_trial_alone(kind, double, caplog):
    shape = (2, 3) if kind is nn.Dropout1d else (2, 3, 1)

    def model(params: dict[str, Any]) -> nn.Module:
        return nn.Sequential(
            nn.Unflatten(1, shape), kind(0.4), nn.Flatten(), nn.Linear(6, 2), nn.Dropout(0.0)
        )

    objective = objective_of(model=model)
    check_same(study_of(objective, 4, 4), study_of(objective, 4, None), 1e-8)
    assert "trains alone" not in caplog.text


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "loss"])
def test_metrics_are_those_of_the_trials_alone(metric):
    objective = objective_of(metric=metric)
    check_same(study_of(objective, 5, 5), study_of(objective, 5, None), 1e-3)


# Groups


def test_shapes_and_batch_sizes_make_groups(double):
    space = optimizer_space("sgd") | SearchSpace({"hidden": [8, 12], "batch_size": [16, 32]})
    objective = objective_of(space)
    together = study_of(objective, 14, 6)
    check_same(together, study_of(objective, 14, None), 1e-8)
    assert (
        len({tuple(trial.params[n] for n in ("hidden", "batch_size")) for trial in together.trials})
        == 4
    )


class Noisy(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs + torch.randn_like(inputs) if self.training else inputs


class Branching(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs * 2 if inputs.sum() > 0 else inputs


class Mixing(nn.Module):
    """Keeps what it saw, so that one member would see another's rows."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.seen = inputs.mean()
        return inputs - self.seen.detach()


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Noisy, "vmap: called random operation"),
        (Branching, "data-dependent control flow"),
        (lambda: nn.AlphaDropout(0.3), "random operation"),
        (lambda: nn.Sequential(*[shared := nn.Dropout(0.2), nn.Linear(6, 6), shared]), "several"),
    ],
)
def test_what_cannot_be_stacked_trains_alone_and_says_why(layer, reason, caplog, double):
    objective = objective_of(model=lambda params: nn.Sequential(layer(), nn.Linear(6, 2)))
    with caplog.at_level(logging.WARNING):
        together = study_of(objective, 4, 4)
    assert "trains alone" in caplog.text
    assert reason in caplog.text
    check_same(together, study_of(objective, 4, None), 1e-12)


def test_an_optimizer_without_a_rule_trains_alone_and_says_so_once(caplog, double):
    objective = objective_of(optimizer_space(["adam", "muon"]))
    with caplog.at_level(logging.WARNING):
        together = study_of(objective, 10, 4)
    assert caplog.text.count("the optimizer 'muon' has no rule") == 1
    check_same(together, study_of(objective, 10, None), 1e-8)


def test_models_that_hide_a_difference_do_not_share_a_stack(caplog, double):
    class Scaled(nn.Module):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 2)
            self.scale = lambda: scale  # no plain setting that a signature shows

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.layer(inputs) * self.scale()

    space = optimizer_space("sgd") | SearchSpace({"scale": (0.5, 2.0)})
    objective = objective_of(space, model=lambda params: Scaled(params["scale"]))
    together = study_of(objective, 6, 3)
    check_same(together, study_of(objective, 6, None), 1e-8)


def test_a_plain_setting_of_a_module_makes_groups(double, caplog):
    space = optimizer_space("sgd") | SearchSpace({"slope": [0.1, 0.3]})
    objective = objective_of(
        space,
        model=lambda params: nn.Sequential(
            nn.Linear(6, 8), nn.LeakyReLU(params["slope"]), nn.Linear(8, 2)
        ),
    )
    check_same(study_of(objective, 8, 4), study_of(objective, 8, None), 1e-8)
    assert "trains alone" not in caplog.text


# Studies


def test_pruned_members_make_room_and_the_budget_is_exact(storage_url, study_name):
    objective = objective_of(max_epochs=6, metric="accuracy", patience=3)
    study = study_of(
        objective, 25, 6, storage=storage_url, name=study_name, sampler="tpe", pruner="median"
    )
    states = Counter(trial.state for trial in study.trials)
    assert set(states) == {TrialState.COMPLETE, TrialState.PRUNED}
    assert sum(states.values()) == 25
    assert study.trials[0].params == objective.search_space.to_trial(
        objective.search_space.defaults()
    )
    for trial in study.trials:
        n_reports = len(trial.intermediate_values)
        assert list(trial.intermediate_values) == list(range(n_reports))
        assert n_reports <= 6
    study_of(objective, 25, 6, storage="memory://")  # and it ends


def test_pruning_decides_as_on_trials_alone_where_all_have_begun(double):
    # Of trials that train side by side the pruner sees the same reports as one after the other,
    # once those that it compares with are complete.
    objective = objective_of(optimizer_space("sgd").override(lr=[1e-9, 1e-1]), max_epochs=4)
    pruner = optuna.pruners.ThresholdPruner(upper=0.6, n_warmup_steps=1)
    together = study_of(objective, 8, 4, pruner=pruner)
    alone = study_of(objective, 8, None, pruner=pruner)
    states = [trial.state for trial in together.trials]
    assert states == [trial.state for trial in alone.trials]
    assert TrialState.PRUNED in states


def test_divergence_prunes_one_member_alone():
    space = optimizer_space("sgd").override(lr=[1e-3, 1e38])
    objective = objective_of(space, model=lambda params: nn.Linear(6, 2))
    study = study_of(objective, 8, 8)
    for trial in study.trials:
        if trial.params["lr"] > 1:
            assert trial.state == TrialState.PRUNED
            assert "diverged" in trial.user_attrs[REASON_KEY]
        else:
            assert trial.state == TrialState.COMPLETE


def test_an_error_of_one_trial_fails_it_alone():
    def model(params: dict[str, Any]) -> nn.Module:
        if 1e-3 < params["lr"] < 3e-3:
            raise ValueError("no such model")
        return build(params)

    objective = objective_of(optimizer_space("adam").override(lr=(1e-4, 1e-2)), model=model)
    study = make_study("s", storage="memory://", objective=objective, sampler="random", seed=0)
    run(study, objective, n_trials=10, fuse=4, default_first=False, show_progress_bar=False) if (
        not 1e-3 < objective.search_space.defaults()["lr"] < 3e-3
    ) else None
    failed = [trial for trial in study.trials if trial.state == TrialState.FAIL]
    for trial in failed:
        assert "no such model" in trial.user_attrs[ERROR_KEY]
    assert len(study.trials) == 10
    assert len(failed) < 10


def test_auto_takes_a_size_and_spends_the_budget(caplog):
    with caplog.at_level(logging.INFO, logger="hpolab"):
        study = study_of(objective_of(max_epochs=30), 20, "auto")
    assert len(study.trials) == 20
    assert "as fast as" in caplog.text  # which way, the clock says


def test_auto_measures_nothing_in_a_short_study(caplog):
    with caplog.at_level(logging.INFO, logger="hpolab"):
        study = study_of(objective_of(), 20, "auto")
    assert len(study.trials) == 20
    assert "too few steps to measure" in caplog.text


def test_callbacks_get_each_trial_and_may_stop_the_study():
    seen: list[int] = []

    def note(study: Study, trial: Any) -> None:
        seen.append(trial.number)
        if len(seen) == 3:
            study.stop()

    study = study_of(objective_of(), 40, 4, callbacks=[note])
    # Those in training when the study stops are trained to their end.
    assert sorted(seen) == list(range(len(study.trials)))
    assert 3 <= len(seen) < 12


def test_worker_processes_share_the_budget_of_a_fused_study(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    study = study_of(objective_of(), 20, 4, storage=url, n_workers=2)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 20


def test_time_limit_ends_trainings_with_the_best_they_have():
    objective = objective_of(max_epochs=100_000)
    study = study_of(objective, 4, 4, timeout_seconds=6.0)
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    assert all(len(trial.intermediate_values) < 100_000 for trial in study.trials)


# Deaths

WORKER = """
import os, signal, sys, torch
from torch import nn
from hpolab import TorchObjective, make_study, optimizer_space, run
from hpolab.torch.training import TorchTraining
torch.set_num_threads(1)
url, n_trials, fuse, die_after, default_dtype = sys.argv[1:]
torch.set_default_dtype(getattr(torch, default_dtype))

def rows(n, seed):
    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, 0] + x[:, 1] * x[:, 2] > 0).long()

n_reports = 0

def metric(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets)

def build(params):
    return nn.Sequential(
        nn.Linear(6, 12, bias=False), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(12, 2),
    )

objective = TorchObjective(
    build, train=rows(85, 0), valid=rows(40, 1), search_space=optimizer_space("adam"),
    loss="cross_entropy", metric=metric, direction="minimize", max_epochs=5, batch_size=16,
    checkpoint_seconds=0.0,
)
study = make_study(
    "s", storage=url, objective=objective, sampler="random",
    pruner="median" if n_trials == "70" else "none", seed=0,
)
from hpolab.torch.fused.crew import FusedCrew
advance, n_epochs = FusedCrew.advance, 0

def counted(crew):
    global n_epochs
    ended = advance(crew)
    n_epochs += 1
    if n_epochs == int(die_after):
        os.kill(os.getpid(), signal.SIGKILL)
    return ended

FusedCrew.advance = counted
train, n_alone = TorchTraining.epoch, 0

def counted_alone(training, n_batches=None):
    global n_alone
    n_alone += 1
    if fuse == "1" and n_alone == int(die_after):
        os.kill(os.getpid(), signal.SIGKILL)
    train(training, n_batches)

TorchTraining.epoch = counted_alone
run(study, objective, n_trials=int(n_trials), fuse=int(fuse), show_progress_bar=False)
"""


@pytest.fixture(scope="module")
def fused_worker(python: Any) -> Callable[..., int]:
    """Runs the worker's script in a process of its own and returns its exit code."""

    def fused_worker(
        url: str, n_trials: int, fuse: int, *, die_after: int = 0, dtype: str = "float64"
    ) -> int:
        done = python.run(WORKER, url, str(n_trials), str(fuse), str(die_after), dtype)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        return done.returncode

    return fused_worker


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, fused_worker: Any) -> Study:
    """A study of six trials that nothing has interrupted."""
    url = f"sqlite:///{tmp_path_factory.mktemp('whole')}/s.db"
    assert fused_worker(url, 6, 6) == 0
    return load_study("s", storage=url)


def test_killed_members_go_on_from_their_checkpoints_as_if_nothing_had_happened(
    whole, tmp_path, fused_worker
):
    killed = f"sqlite:///{tmp_path}/s.db"
    assert fused_worker(killed, 6, 6, die_after=2) == -signal.SIGKILL
    assert fused_worker(killed, 6, 6, die_after=2) == -signal.SIGKILL
    assert fused_worker(killed, 6, 6) == 0
    check_same(load_study("s", storage=killed), whole, 1e-8)
    assert not list(tmp_path.glob("*.checkpoints/*"))


@pytest.mark.parametrize(("first", "then"), [(6, 1), (1, 6)], ids=["then alone", "then fused"])
def test_checkpoints_of_fused_and_lone_trials_are_of_one_kind(
    first, then, whole, tmp_path, fused_worker
):
    killed = f"sqlite:///{tmp_path}/s.db"
    assert fused_worker(killed, 6, first, die_after=3) == -signal.SIGKILL
    assert fused_worker(killed, 6, then) == 0
    check_same(load_study("s", storage=killed), whole, 1e-8)


def test_study_of_seventy_trials_killed_twice_ends_with_seventy(tmp_path, fused_worker):
    url = f"sqlite:///{tmp_path}/s.db"
    assert fused_worker(url, 70, 16, die_after=4, dtype="float32") == -signal.SIGKILL
    assert fused_worker(url, 70, 16, die_after=7, dtype="float32") == -signal.SIGKILL
    assert fused_worker(url, 70, 16, dtype="float32") == 0
    trials = load_study("s", storage=url).trials
    assert len(trials) == 70
    assert {trial.state for trial in trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    for trial in trials:
        assert list(trial.intermediate_values) == list(range(len(trial.intermediate_values)))


def test_ctrl_c_puts_all_members_back():
    objective = objective_of(max_epochs=1000)
    n_epochs = 0

    def press(outputs: torch.Tensor, targets: torch.Tensor) -> float:
        nonlocal n_epochs
        n_epochs += 1
        if n_epochs == 30:
            signal.raise_signal(signal.SIGINT)
        return float(nn.functional.cross_entropy(outputs, targets))

    objective = objective_of(max_epochs=1000, metric=press, direction="minimize")
    study = make_study("s", storage="memory://", objective=objective, sampler="random", seed=0)
    with pytest.raises(KeyboardInterrupt, match="after 0 of 8 trials"):
        run(study, objective, n_trials=8, fuse=4, show_progress_bar=False)
    assert {trial.state for trial in study.trials} == {TrialState.WAITING}


# Memory


@pytest.mark.parametrize(
    ("hidden", "n_members_of_memory"),
    [
        pytest.param("[4000]", 55, id="found by measuring", marks=pytest.mark.long),
        pytest.param("[40, 4000]", 30, id="found in training"),
    ],
)
def test_more_members_than_memory_holds_go_on_in_smaller_stacks(
    hidden, n_members_of_memory, tmp_path
):
    """In a process whose address space ends, for real, where so many weights would be."""
    code = textwrap.dedent(
        """
        import resource, sys, torch
        from torch import nn
        from hpolab import SearchSpace, TorchObjective, make_study, optimizer_space, run
        torch.set_num_threads(1)
        x = torch.randn(40, 500)
        def part(a, b):
            return x[a:b].clone(), x[a:b, :1].clone()
        def build(params):
            n = params["hidden"]
            return nn.Sequential(nn.Linear(500, n), nn.ReLU(), nn.Linear(n, 1))
        space = optimizer_space("adam") | SearchSpace({"hidden": HIDDEN})
        objective = TorchObjective(
            build, train=part(0, 20), valid=part(20, 40), search_space=space,
            loss="mse", metric="mse", max_epochs=2, batch_size=10,
        )
        study = make_study("s", storage=sys.argv[1], objective=objective, sampler="random",
                           pruner="none", seed=0)
        run(study, objective, n_trials=1, show_progress_bar=False)
        import hpolab.torch.fused.crew  # what is imported counts, too
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        limit = used + N_MEMBERS * 4 * 2_000_000
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        run(study, objective, n_trials=17, fuse=16, show_progress_bar=False)
        print([trial.state.name for trial in study.trials].count("COMPLETE"))
        """
    )
    code = code.replace("HIDDEN", hidden).replace("N_MEMBERS", str(n_members_of_memory))
    done = subprocess.run(
        [sys.executable, "-c", code, f"sqlite:///{tmp_path}/s.db"],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
    )
    assert done.stdout.strip() == "17", done.stderr
    assert "memory" in done.stderr


# Bad input


@pytest.mark.parametrize(
    ("fuse", "error", "message"),
    [
        (0, InvalidArgument, "`fuse` must be"),
        (2.5, InvalidType, "`fuse` must be"),
        ("all", InvalidArgument, "`fuse` must be"),
    ],
)
def test_bad_sizes_are_refused(fuse, error, message):
    objective = objective_of()
    study = make_study("s", storage="memory://", objective=objective)
    with pytest.raises(error, match=message):
        run(study, objective, n_trials=3, fuse=fuse)
    assert not study.trials


def test_fuse_needs_a_torch_objective_with_arrays_and_timing():
    study = make_study("s", storage="memory://")
    with pytest.raises(InvalidType, match="`fuse` needs a TorchObjective"):
        run(study, lambda trial: 0.0, n_trials=3, fuse=2)
    objective = objective_of()
    with pytest.raises(InvalidArgument, match="`reproducible`"):
        run(study, objective, n_trials=3, fuse=2, reproducible=True)
    data = torch.utils.data.TensorDataset(*rows(64, 0))
    batches = TorchObjective(
        build,
        train=torch.utils.data.DataLoader(data, batch_size=16),
        valid=rows(40, 1),
        search_space=optimizer_space("adam"),
        loss="cross_entropy",
        metric="loss",
        max_epochs=2,
    )
    with pytest.raises(InvalidArgument, match="`train` makes its own batches"):
        run(study, batches, n_trials=3, fuse=2)
    assert not study.trials
