"""LightningPruningCallback: what a Lightning training reports, and what ends it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import optuna
import pytest
import torch
from optuna.pruners import MedianPruner, ThresholdPruner
from optuna.trial import TrialState
from torch.utils.data import DataLoader, TensorDataset

from hpolab import (
    Diverged,
    InvalidArgument,
    InvalidType,
    LightningPruningCallback,
    Reporter,
    build_optimizer,
    optimizer_space,
)
from hpolab.trial.reporter import REASON_KEY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from optuna import Study, Trial

pytestmark = [
    # torch 2.13 deprecates what Lightning 2.6 flattens every batch with.
    pytest.mark.filterwarnings(r"ignore:.isinstance\(treespec, LeafSpec\):FutureWarning"),
    # Eight rows need no worker processes; Lightning says otherwise where there are cores for them.
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]

ROWS = torch.linspace(-1, 1, 8).reshape(-1, 1)


class Scripted(pl.LightningModule):
    """A real model whose validations log given values, one after another."""

    def __init__(self, values: Sequence[float]) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.values = iter(values)

    def training_step(self, batch: Any) -> torch.Tensor:
        return torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1])

    def on_validation_epoch_start(self) -> None:
        # What the sanity check logs is no value of the training.
        self.value = -1.0 if self.trainer.sanity_checking else next(self.values)

    def validation_step(self, batch: Any) -> None:
        self.log("val_loss", self.value)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def loader() -> DataLoader[Any]:
    return DataLoader(TensorDataset(ROWS, 3 * ROWS), batch_size=4)


def make_trainer(*callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    settings: dict[str, Any] = {
        "max_epochs": 5,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return pl.Trainer(callbacks=list(callbacks), **settings | options)


def fit(
    reporter: Reporter, values: Sequence[float], monitor: str = "val_loss", **options: Any
) -> pl.Trainer:
    trainer = make_trainer(LightningPruningCallback(reporter, monitor), **options)
    trainer.fit(Scripted(values), loader(), loader())
    return trainer


def make_study(**options: Any) -> Study:
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), **options)


def test_each_validation_is_reported_and_the_sanity_check_is_not() -> None:
    trial = make_study().ask()
    fit(Reporter(trial), [5, 4, 3, 2, 1])
    reported = trial.study.trials[0].intermediate_values
    assert reported == {0: 5.0, 1: 4.0, 2: 3.0, 3: 2.0, 4: 1.0}


def test_validations_within_an_epoch_have_steps_of_their_own() -> None:
    trial = make_study().ask()
    fit(Reporter(trial), [4, 3, 2, 1], max_epochs=2, val_check_interval=0.5)
    assert trial.study.trials[0].intermediate_values == {0: 4.0, 1: 3.0, 2: 2.0, 3: 1.0}


def test_a_validation_outside_training_is_not_reported() -> None:
    reporter = Reporter(None, direction="minimize")
    trainer = make_trainer(LightningPruningCallback(reporter, "val_loss"))
    trainer.validate(Scripted([1.0]), loader(), verbose=False)
    assert reporter.best_step is None


def test_training_that_goes_on_from_a_checkpoint_goes_on_with_its_steps(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    fit(Reporter(None, direction="minimize"), [5, 4], max_epochs=2).save_checkpoint(path)
    reporter = Reporter(None, direction="minimize")
    trainer = make_trainer(LightningPruningCallback(reporter, "val_loss"), max_epochs=3)
    trainer.fit(Scripted([3]), loader(), loader(), ckpt_path=path)
    assert reporter.best_step == 2


def schedule_free(model: torch.nn.Module) -> torch.optim.Optimizer:
    return build_optimizer(optimizer_space("schedulefree_sgd").fixed(lr=0.2).defaults(), model)


class ScheduleFree(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(1, 1)

    def loss(self, batch: Any) -> torch.Tensor:
        return torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1])

    def training_step(self, batch: Any) -> torch.Tensor:
        return self.loss(batch)

    def validation_step(self, batch: Any) -> None:
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return schedule_free(self)


def test_schedule_free_optimizer_reports_the_weights_that_are_to_be_evaluated() -> None:
    trial, module = make_study().ask(), ScheduleFree()
    callback = LightningPruningCallback(Reporter(trial), "val_loss")
    make_trainer(callback, max_epochs=3).fit(module, loader(), loader())
    by_hand = ScheduleFree()
    optimizer: Any = schedule_free(by_hand)
    values = []
    for _ in range(3):
        optimizer.train()
        for batch in loader():
            optimizer.zero_grad()
            by_hand.loss(batch).backward()
            optimizer.step()
        optimizer.eval()
        with torch.no_grad():
            values.append(float(torch.stack([by_hand.loss(batch) for batch in loader()]).mean()))
    reported = trial.study.trials[0].intermediate_values
    assert list(reported.values()) == pytest.approx(values)
    assert torch.equal(module.layer.weight, by_hand.layer.weight)


def test_median_pruner_prunes_the_worse_trial() -> None:
    study = make_study(pruner=MedianPruner(n_startup_trials=1, n_warmup_steps=1))

    def objective(trial: Trial) -> float:
        reporter = Reporter(trial)
        fit(reporter, [1.0 + trial.number] * 5)
        assert reporter.best_value is not None
        return reporter.best_value

    study.optimize(objective, n_trials=2)
    good, bad = study.trials
    assert good.state == TrialState.COMPLETE
    assert bad.state == TrialState.PRUNED
    assert bad.intermediate_values == {0: 2.0, 1: 2.0}
    assert not bad.constraints


def test_threshold_pruner_ends_the_training_where_it_is_exceeded() -> None:
    trial = make_study(pruner=ThresholdPruner(upper=2.5)).ask()
    with pytest.raises(optuna.TrialPruned, match="pruned at step 2"):
        fit(Reporter(trial), [1, 2, 3, 0, 0])


def test_training_ends_when_patience_runs_out() -> None:
    reporter = Reporter(make_study().ask(), patience=2)
    trainer = fit(reporter, [3, 1, 2, 2, 0])
    assert trainer.current_epoch == 4
    assert (reporter.best_value, reporter.best_step) == (1.0, 1)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_diverged_training_is_pruned_with_a_violated_constraint(value: float) -> None:
    study = make_study()

    def objective(trial: Trial) -> float:
        fit(Reporter(trial), [1, value])
        return 0.0

    study.optimize(objective, n_trials=1)
    (trial,) = study.trials
    assert trial.state == TrialState.PRUNED
    assert trial.user_attrs[REASON_KEY] == f"diverged: {value} at step 1"
    assert max(trial.constraints.values()) > 0


def test_a_diverged_training_without_a_trial_raises() -> None:
    with pytest.raises(Diverged):
        fit(Reporter(None, direction="minimize"), [math.nan])


def test_a_missing_metric_is_refused_with_those_that_are_there() -> None:
    with pytest.raises(InvalidArgument, match=r"`monitor` .* Did you mean 'val_loss'\?"):
        fit(Reporter(make_study().ask()), [1], monitor="val_los")


def test_a_module_that_logs_nothing_is_refused() -> None:
    class Silent(Scripted):
        def validation_step(self, batch: Any) -> None:
            pass

    callback = LightningPruningCallback(Reporter(make_study().ask()), "val_loss")
    with pytest.raises(InvalidArgument, match=r"`monitor` must be logged .*: call `self\.log`"):
        make_trainer(callback).fit(Silent([1]), loader(), loader())


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but:UserWarning")
def test_a_training_without_validation_is_refused_before_it_starts() -> None:
    callback = LightningPruningCallback(Reporter(make_study().ask()), "val_loss")
    trainer = make_trainer(callback)
    with pytest.raises(InvalidArgument, match="`monitor` must be logged in validation"):
        trainer.fit(Scripted([]), loader())
    assert trainer.global_step == 0


def test_training_in_several_processes_is_refused() -> None:
    callback = LightningPruningCallback(Reporter(make_study().ask()), "val_loss")
    # The hook alone: `fit` would start this very test session a second time.
    trainer = make_trainer(callback, devices=2, strategy="ddp")
    with pytest.raises(InvalidArgument, match=r"`trainer` must train in one process, .* got 2\."):
        callback.setup(trainer, Scripted([]), "fit")


def test_a_trial_in_place_of_its_reporter_is_refused() -> None:
    with pytest.raises(InvalidType, match=r"`reporter` must be a Reporter, .* got Trial\."):
        LightningPruningCallback(make_study().ask(), "val_loss")  # type: ignore[arg-type]
