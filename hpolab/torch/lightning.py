"""LightningPruningCallback: Lightning's validations reported to a trial.

Not optuna-integration's ``PyTorchLightningPruningCallback``: that one talks to the trial itself,
so NaN reaches the pruner and there is neither patience nor a lease, it only warns when the metric
is missing, and it also reports from ``trainer.validate``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from hpolab.errors import InvalidArgument, InvalidType, needs, one_of
from hpolab.keywords import checks_keywords
from hpolab.trial.reporter import Reporter

with needs("`LightningPruningCallback`", "Lightning", "lightning"):
    from lightning.pytorch import Callback
    from lightning.pytorch.trainer.states import TrainerFn

    from hpolab.torch.state import switch_weights

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

__all__ = ["LightningPruningCallback"]


@final
class LightningPruningCallback(Callback):
    """Reports a metric to the trial after each validation, and ends training when it says so.

    A pruned trial leaves ``trainer.fit`` as `optuna.TrialPruned`; when the reporter's patience or
    time has run out, ``trainer.fit`` returns as it does after Lightning's own ``EarlyStopping``.
    The step reported is the number of validations before this one: the epoch, where each epoch
    ends with one. It is kept in Lightning's checkpoints. Lightning's sanity check and
    ``trainer.validate`` are not reported.

    Optimizers with ``train()`` and ``eval()``, as schedule-free ones have, are switched: to the
    weights that they train before each batch, to those that they evaluate before each validation
    and at the end. Running statistics of batch norms are left as they are.

    Training runs in one process, on one device: several would each run the objective, and so
    spend a trial each. To use several devices, give each a worker with trials of its own.

    Args:
        reporter: The trial's reporter.
        monitor: The metric's name, as the module logs it in validation.

    Raises:
        InvalidType: If ``reporter`` is not a `Reporter`.
        InvalidArgument: From ``trainer.fit``, if the metric is not logged in validation, there is
            no validation, or training runs in several processes.

    Example:
        >>> import lightning.pytorch as pl
        >>> from hpolab import Reporter
        >>> def objective(trial):
        ...     module = MyModule(lr=trial.suggest_float("lr", 1e-4, 1e-1, log=True))
        ...     with Reporter(trial, patience=3) as reporter:
        ...         pruning = LightningPruningCallback(reporter, "val_loss")
        ...         pl.Trainer(max_epochs=20, callbacks=[pruning]).fit(module, train, valid)
        ...     return reporter.best_value
    """

    @checks_keywords()
    def __init__(self, reporter: Reporter, monitor: str) -> None:
        if not isinstance(reporter, Reporter):
            # Optuna's own callback takes the trial itself.
            raise InvalidType(
                f"`reporter` must be a Reporter, such as Reporter(trial), "
                f"got {type(reporter).__name__}."
            )
        self._reporter = reporter
        self._monitor = monitor
        self._n_validations = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != TrainerFn.FITTING:
            return
        if trainer.world_size > 1:
            raise InvalidArgument(
                "`trainer` must train in one process, as each process that runs the objective "
                f"spends a trial of its own, got {trainer.world_size}. Use `devices=1`, and a "
                "worker for each device."
            )
        if not trainer.enable_validation:
            raise InvalidArgument(
                f"`monitor` must be logged in validation, got {self._monitor!r} and a training "
                "without: give `trainer.fit` validation data and the module a `validation_step`."
            )

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        _switch_all(trainer, "train")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        _switch_all(trainer, "eval")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        _switch_all(trainer, "eval")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        logged = trainer.callback_metrics
        if not logged:
            raise InvalidArgument(
                f"`monitor` must be logged in validation, got {self._monitor!r} and nothing "
                "logged: call `self.log` in the module's `validation_step`."
            )
        value = logged[one_of("monitor", self._monitor, logged)]
        step, self._n_validations = self._n_validations, self._n_validations + 1
        self._reporter.report(float(value), step)
        trainer.should_stop = trainer.should_stop or self._reporter.should_stop

    def state_dict(self) -> dict[str, Any]:
        return {"n_validations": self._n_validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._n_validations = state_dict["n_validations"]


def _switch_all(trainer: Trainer, mode: str) -> None:
    for optimizer in trainer.optimizers:
        switch_weights(optimizer, mode)
