"""The demo: tune a small CNN on scikit-learn's digits, and judge the result on held-out data."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpolab.datasets import load_digits, split_four
from hpolab.errors import needs
from hpolab.running.run import run
from hpolab.studies.study import make_study
from hpolab.torch.optimizers import optimizer_space

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna import Study
    from torch import nn

    from hpolab.datasets import FourSplits
    from hpolab.torch.objective import TorchObjective

__all__ = ["DEMO_STORAGE", "DEMO_STUDY", "HeldOut", "demo_objective", "judge", "run_demo"]

DEMO_STUDY = "demo"
DEMO_STORAGE = "sqlite:///hpolab-demo.db"

# A power of Hyperband's reduction factor 3, so that its brackets come out even.
_MAX_EPOCHS = 27
# Fresh seeds, the same for both configurations: one training says little.
_SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class HeldOut:
    """A configuration's accuracy on test data that the study never saw.

    Attributes:
        params: The configuration, in trainer units.
        accuracies: One for each training seed.
    """

    params: Mapping[str, Any]
    accuracies: Sequence[float]

    @property
    def mean(self) -> float:
        """The mean accuracy over seeds."""
        return statistics.fmean(self.accuracies)

    @property
    def spread(self) -> float:
        """The standard deviation of the accuracy over seeds."""
        return statistics.stdev(self.accuracies)


def build_cnn(params: Mapping[str, Any]) -> nn.Module:
    """Build two convolutions and a linear layer for images of (1, 8, 8)."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )


def demo_splits() -> FourSplits:
    """Return the digits in four disjoint splits."""
    return split_four(load_digits(), n_train=500, n_valid=300, n_score=497, n_test=500)


def demo_objective(splits: FourSplits) -> TorchObjective:
    """Return the objective: accuracy of the CNN trained by AdamW."""
    with needs("`hpolab demo`", "PyTorch", "torch"):
        from hpolab.torch.objective import TorchObjective
    return TorchObjective(
        build_cnn,
        train=splits.train,
        valid=splits.valid,
        score=splits.score,
        search_space=optimizer_space("adamw"),
        loss="cross_entropy",
        metric="accuracy",
        max_epochs=_MAX_EPOCHS,
        batch_size=32,
    )


def run_demo(storage: str, n_trials: int, *, show_progress_bar: bool | None = None) -> Study:
    """Run the demo's study, or resume it, up to ``n_trials`` trials in total.

    Args:
        storage: A storage URL.
        n_trials: Trials in total.
        show_progress_bar: None shows it in a terminal and in a notebook.
    """
    objective = demo_objective(demo_splits())
    study = make_study(
        DEMO_STUDY,
        storage=storage,
        direction="maximize",
        sampler="tpe",
        pruner="hyperband",
        seed=0,
    )
    run(study, objective, n_trials=n_trials, show_progress_bar=show_progress_bar)
    return study


def judge(params: Mapping[str, Any]) -> HeldOut:
    """Train a configuration on fresh seeds and score it on the test split."""
    splits = demo_splits()
    objective = demo_objective(splits)
    accuracies = [
        objective.evaluate(objective.fit(params, seed), splits.test)["accuracy"] for seed in _SEEDS
    ]
    return HeldOut(params=params, accuracies=accuracies)
