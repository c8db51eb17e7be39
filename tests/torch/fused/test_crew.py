"""run(fuse=K): the budget is exact, and what ends one member leaves the others alone."""

from __future__ import annotations

import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

import optuna
import pytest
import torch
from optuna.trial import TrialState
from torch import nn

from hpolab import (
    InvalidArgument,
    InvalidType,
    TorchObjective,
    make_study,
    optimizer_space,
    run,
)
from hpolab.trial.lease import ERROR_KEY
from hpolab.trial.reporter import REASON_KEY

if TYPE_CHECKING:
    from optuna import Study


def test_pruned_members_make_room_and_the_budget_is_exact(
    storage_url, study_name, objective_of, study_of
):
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


def test_pruning_decides_as_on_trials_alone_where_all_have_begun(double, objective_of, study_of):
    # Of trials that train side by side the pruner sees the same reports as one after the other,
    # once those that it compares with are complete.
    objective = objective_of(optimizer_space("sgd").override(lr=[1e-9, 1e-1]), max_epochs=4)
    pruner = optuna.pruners.ThresholdPruner(upper=0.6, n_warmup_steps=1)
    together = study_of(objective, 8, 4, pruner=pruner)
    alone = study_of(objective, 8, None, pruner=pruner)
    states = [trial.state for trial in together.trials]
    assert states == [trial.state for trial in alone.trials]
    assert TrialState.PRUNED in states


def test_divergence_prunes_one_member_alone(objective_of, study_of):
    space = optimizer_space("sgd").override(lr=[1e-3, 1e38])
    objective = objective_of(space, model=lambda params: nn.Linear(6, 2))
    study = study_of(objective, 8, 8)
    for trial in study.trials:
        if trial.params["lr"] > 1:
            assert trial.state == TrialState.PRUNED
            assert "diverged" in trial.user_attrs[REASON_KEY]
        else:
            assert trial.state == TrialState.COMPLETE


def test_an_error_of_one_trial_fails_it_alone(objective_of, study_of, build):
    def model(params: dict[str, Any]) -> nn.Module:
        if params["lr"] < 9e-4:  # the default, which is measured, has 1e-3
            raise ValueError("no such model")
        return build(params)

    objective = objective_of(optimizer_space("adam").override(lr=(1e-4, 1e-2)), model=model)
    study = study_of(objective, 10, 4, max_failures=10)
    failed = [trial for trial in study.trials if trial.state == TrialState.FAIL]
    for trial in failed:
        assert "no such model" in trial.user_attrs[ERROR_KEY]
    assert len(study.trials) == 10
    assert 0 < len(failed) < 10


def test_callbacks_get_each_trial_and_may_stop_the_study(objective_of, study_of):
    seen: list[int] = []

    def note(study: Study, trial: Any) -> None:
        seen.append(trial.number)
        if len(seen) == 3:
            study.stop()

    study = study_of(objective_of(), 40, 4, callbacks=[note])
    # Those in training when the study stops are trained to their end.
    assert sorted(seen) == list(range(len(study.trials)))
    assert 3 <= len(seen) < 12


@pytest.mark.usefixtures("warm_workers")
def test_worker_processes_share_the_budget_of_a_fused_study(tmp_path, objective_of, study_of):
    url = f"sqlite:///{tmp_path}/s.db"
    study = study_of(objective_of(), 20, 4, storage=url, n_workers=2)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 20


def test_time_limit_ends_trainings_with_the_best_they_have(objective_of, study_of):
    objective = objective_of(max_epochs=100_000)
    study = study_of(objective, 4, 4, timeout_seconds=6.0)
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    assert all(len(trial.intermediate_values) < 100_000 for trial in study.trials)


def test_ctrl_c_puts_all_members_back(objective_of):
    n_epochs = 0

    def press(outputs: torch.Tensor, targets: torch.Tensor) -> float:
        nonlocal n_epochs
        n_epochs += 1
        if n_epochs == 30:
            signal.raise_signal(signal.SIGINT)
        return float(nn.functional.cross_entropy(outputs, targets))

    objective = objective_of(max_epochs=100, metric=press, direction="minimize")
    study = make_study("s", storage="memory://", objective=objective, sampler="random", seed=0)
    with pytest.raises(KeyboardInterrupt, match="after 0 of 8 trials"):
        run(study, objective, n_trials=8, fuse=4, show_progress_bar=False)
    assert {trial.state for trial in study.trials} == {TrialState.WAITING}


@pytest.mark.parametrize(
    ("fuse", "error", "message"),
    [
        (0, InvalidArgument, "`fuse` must be"),
        (2.5, InvalidType, "`fuse` must be"),
        ("all", InvalidArgument, "`fuse` must be"),
    ],
)
def test_bad_sizes_are_refused(fuse, error, message, objective_of):
    objective = objective_of()
    study = make_study("s", storage="memory://", objective=objective)
    with pytest.raises(error, match=message):
        run(study, objective, n_trials=3, fuse=fuse)
    assert not study.trials


def test_fuse_needs_a_torch_objective_with_arrays_and_timing(objective_of, rows, build):
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
