"""A member that dies is resumed from its checkpoint, fused or alone."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest
from optuna.trial import TrialState

from hpolab import load_study

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna import Study


WORKER = """
import os, signal, sys, torch
from torch import nn
from hpolab import TorchObjective, make_study, optimizer_space, run
from hpolab.torch.fused.crew import FusedCrew
from hpolab.torch.training import TorchTraining
torch.set_num_threads(1)
url, n_trials, fuse, die_after, default_dtype = sys.argv[1:]
torch.set_default_dtype(getattr(torch, default_dtype))

def rows(n, seed):
    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, 0] + x[:, 1] * x[:, 2] > 0).long()

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
    whole, tmp_path, fused_worker, check_same
):
    killed = f"sqlite:///{tmp_path}/s.db"
    assert fused_worker(killed, 6, 6, die_after=2) == -signal.SIGKILL
    assert fused_worker(killed, 6, 6, die_after=2) == -signal.SIGKILL
    assert fused_worker(killed, 6, 6) == 0
    check_same(load_study("s", storage=killed), whole, 1e-8)
    assert not list(tmp_path.glob("*.checkpoints/*"))


@pytest.mark.parametrize(("first", "then"), [(6, 1), (1, 6)], ids=["then alone", "then fused"])
def test_checkpoints_of_fused_and_lone_trials_are_of_one_kind(
    first, then, whole, tmp_path, fused_worker, check_same
):
    killed = f"sqlite:///{tmp_path}/s.db"
    assert fused_worker(killed, 6, first, die_after=3) == -signal.SIGKILL
    assert fused_worker(killed, 6, then) == 0
    check_same(load_study("s", storage=killed), whole, 1e-8)


@pytest.mark.long
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
