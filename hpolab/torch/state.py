"""All that a training needs to go on behind an epoch exactly as it would have."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from hpolab.torch.model_state import load_model_state, model_state
from hpolab.torch.rng import get_random_state, set_random_state

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

__all__ = ["TrainingState", "has_two_weights", "switch_weights"]


def has_two_weights(optimizer: Optimizer) -> bool:
    """Tell whether an optimizer trains one set of weights and another is to be evaluated.

    Schedule-free optimizers do.
    """
    return all(callable(getattr(optimizer, mode, None)) for mode in ("train", "eval"))


def switch_weights(optimizer: Optimizer, mode: str) -> None:
    """Put an optimizer's weights in its model: "train" those it trains, "eval" the others."""
    if has_two_weights(optimizer):
        getattr(optimizer, mode)()


@dataclass
class TrainingState:
    """A training between two epochs.

    Attributes:
        model: The model.
        optimizer: Its optimizer.
        schedule: Its learning-rate schedule.
        generators: What draws the order of the data.
        device: Where the model lives.
        best: The model of the best epoch so far, as `model_state` returns it.
    """

    model: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler
    generators: Sequence[torch.Generator]
    device: torch.device
    best: dict[str, Any] = field(default_factory=dict)

    def to_training(self) -> None:
        """Put the model in training mode, and the weights in it that are trained."""
        self.model.train()
        switch_weights(self.optimizer, "train")

    def to_evaluation(self) -> None:
        """Put the weights in the model that are evaluated, stored and kept as the best.

        Between two epochs they are always these.
        """
        switch_weights(self.optimizer, "eval")

    def keep_best(self) -> None:
        """Take the model as it is for the best so far."""
        self.best = model_state(self.model)

    def load_best(self) -> None:
        """Make the model that of the best epoch."""
        load_model_state(self.model, self.best)

    def to_bytes(self) -> bytes:
        """Return the state, torch's random state included."""
        file = io.BytesIO()
        torch.save(
            {
                "model": model_state(self.model),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "best": self.best,
                "random": get_random_state(self.device, self.generators),
            },
            file,
        )
        return file.getvalue()

    def from_bytes(self, state: bytes) -> None:
        """Go back to what `to_bytes` has returned, in this or an earlier version of hpolab."""
        # Random states must be on the CPU; the rest is copied to where it belongs.
        saved = torch.load(io.BytesIO(state), map_location="cpu", weights_only=True)
        load_model_state(self.model, saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])
        self.best = saved["best"]
        set_random_state(saved["random"], self.device, self.generators)
