"""The demo: tune a small CNN on scikit-learn's digits, and confirm the gain on held-out data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpolab.analysis.trained.confirm import confirm
from hpolab.datasets import load_digits, split_four
from hpolab.errors import needs
from hpolab.running.run import run
from hpolab.studies.study import make_study
from hpolab.torch.optimizers import optimizer_space

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna import Study
    from torch import nn

    from hpolab.analysis.confirmation import Confirmation
    from hpolab.datasets import FourSplits
    from hpolab.torch.objective import TorchObjective

__all__ = [
    "DEMO_STORAGE",
    "DEMO_STUDY",
    "N_TEST",
    "confirm_demo",
    "demo_objective",
    "demo_splits",
    "run_demo",
]

DEMO_STUDY = "demo"
DEMO_STORAGE = "sqlite:///hpolab-demo.db"

# So many images are held out that a gain can be told from chance.
N_TEST = 797
# As short as trainings are when there is little time: the default learning rate is too low for it.
# A power of Hyperband's reduction factor 3, so that its brackets come out even.
_MAX_EPOCHS = 9
_N_SEEDS = 10


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
    return split_four(load_digits(), n_train=600, n_valid=200, n_score=200, n_test=N_TEST)


def demo_objective(splits: FourSplits) -> TorchObjective:
    """Return the objective: accuracy of the CNN trained by AdamW for nine epochs."""
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


def run_demo(
    storage: str, n_trials: int, *, seed: int = 0, show_progress_bar: bool | None = None
) -> Study:
    """Run the demo's study, or resume it, up to ``n_trials`` trials in total.

    Args:
        storage: A storage URL.
        n_trials: Trials in total.
        seed: The study's seed.
        show_progress_bar: None shows it in a terminal and in a notebook.
    """
    objective = demo_objective(demo_splits())
    study = make_study(
        DEMO_STUDY,
        objective=objective,
        storage=storage,
        sampler="tpe",
        pruner="hyperband",
        seed=seed,
    )
    run(
        study,
        objective,
        n_trials=n_trials,
        n_workers="auto",
        show_progress_bar=show_progress_bar,
    )
    return study


def confirm_demo(study: Study) -> Confirmation:
    """Train the best configurations and the default on fresh seeds, and score them on the test."""
    splits = demo_splits()
    return confirm(
        study,
        demo_objective(splits),
        test=splits.test,
        top_k=2,
        n_seeds=_N_SEEDS,
        show_progress_bar=False,
    )
