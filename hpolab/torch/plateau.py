"""A schedule that lowers the learning rate when the metric stops improving.

Imports torch when it is imported, so it is imported only where a schedule is built.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, SupportsFloat

from torch.optim.lr_scheduler import LRScheduler

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

__all__ = ["PlateauSchedule"]

# What a value must gain on the best one, as a part of it, and a rate must fall: torch's defaults.
_THRESHOLD = 1e-4
_LEAST_FALL = 1e-8


class PlateauSchedule(LRScheduler):
    """torch's `ReduceLROnPlateau` behind a linear warm-up that advances by step.

    torch's own multiplies the optimizer's rates in place, which a warm-up would overwrite. The
    rates are torch's for metrics above zero. Below zero torch's threshold has the wrong sign, so
    that a slightly worse value counts as a better one; here it has not.

    Args:
        optimizer: The optimizer whose learning rates are scheduled, each group from its own.
        maximize: Whether the metric gets better upwards.
        factor: What the rates are multiplied by.
        patience: Epochs without improvement that are waited for; the next one lowers the rates.
        min_lr: The lowest rate.
        warmup_steps: Steps of the linear rise; the metric is not watched before its end.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        maximize: bool,
        factor: float,
        patience: int,
        min_lr: float,
        warmup_steps: float,
    ) -> None:
        # All of it plain numbers: the state is loaded with weights_only.
        self.maximize = maximize
        self.factor = factor
        self.patience = patience
        self.min_lr = min_lr
        self.warmup_steps = warmup_steps
        self.best: float | None = None
        self.n_without_improvement = 0
        self.rates: list[float] = [
            float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups
        ]
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """Return each group's rate for its next step."""
        rise = 1.0
        if self.last_epoch < self.warmup_steps:
            rise = min((self.last_epoch + 1) / self.warmup_steps, 1.0)
        return [rise * rate for rate in self.rates]

    def observe(self, value: SupportsFloat) -> None:
        """Note the metric after an epoch, and lower the rates if it is time to."""
        if self.last_epoch < self.warmup_steps:
            return
        value = float(value)  # a NumPy number could not be loaded with weights_only
        if self.best is None or self._gain(value) > _THRESHOLD * abs(self.best):
            self.best, self.n_without_improvement = value, 0
        else:
            self.n_without_improvement += 1
        if self.n_without_improvement > self.patience:
            self.n_without_improvement = 0
            self.rates = [self._lowered(rate) for rate in self.rates]
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate
            self._last_lr = list(self.rates)

    def _gain(self, value: float) -> float:
        assert self.best is not None
        return value - self.best if self.maximize else self.best - value

    def _lowered(self, rate: float) -> float:
        lowered = max(rate * self.factor, self.min_lr)
        return lowered if rate - lowered > _LEAST_FALL else rate
