"""Tables of learning curves: read, checked, and replayed through Optuna's own parts.

`make_curves.py` trains every configuration of a table to its end, some times with other seeds. A
study that prunes then costs milliseconds: its trials report what the table holds, the pruner says
whether to stop, and the budget is counted in epochs.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.trial import TrialState

from hpolab import SearchSpace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray
    from optuna import Study, Trial

__all__ = ["CURVES", "SCHEMA", "CurveTable", "Ended", "read_curves", "replay", "write_curves"]

CURVES = Path(__file__).parent / "curves" / "curves.npz"
"""The tables that are in the repository."""

SCHEMA = 1

_ARRAYS = ("curves", "scores", "epoch_seconds")


@dataclass(frozen=True)
class CurveTable:
    """The learning curves of some configurations on one data set.

    Attributes:
        name: The data set.
        curves: What a pruner sees, the metric on `valid` after each epoch: (n configurations, n
            seeds, n epochs), NaN from the epoch on in which a training has diverged.
        scores: The trials' values, the metric of the best epoch's weights on `score`: (n
            configurations, n seeds), NaN where a training has diverged.
        epoch_seconds: CPU seconds of an epoch, (n configurations,): those of all trainings that
            shared the architecture, which trained as one, by their number of epochs.
        configurations: Each configuration as trial params.
        space: The search space that they were drawn from.
        direction: "minimize" or "maximize".
        about: Metric, rows, versions and whatever else describes the table.
    """

    name: str
    curves: NDArray[np.float32]
    scores: NDArray[np.float32]
    epoch_seconds: NDArray[np.float32]
    configurations: list[dict[str, Any]]
    space: SearchSpace
    direction: str
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n, n_seeds, _ = self.curves.shape
        expected = {"scores": (n, n_seeds), "epoch_seconds": (n,)}
        found = {name: getattr(self, name).shape for name in expected}
        if found != expected or len(self.configurations) != n:
            raise ValueError(
                f"{self.name}: arrays must fit {n} configurations and {n_seeds} seeds, got {found} "
                f"and {len(self.configurations)} configurations"
            )

    @property
    def n_epochs(self) -> int:
        return self.curves.shape[2]

    @property
    def n_seeds(self) -> int:
        return self.curves.shape[1]

    def __len__(self) -> int:
        return len(self.configurations)

    @property
    def mean_scores(self) -> NDArray[np.float64]:
        """The mean of each configuration's scores over seeds, (n,); NaN if one has diverged."""
        return self.scores.astype(float).mean(axis=1)

    @property
    def regrets(self) -> NDArray[np.float64]:
        """How far each configuration's mean score is from the best one's, (n,).

        0 is the best configuration, 1 the median one of those that never diverge. What is worse,
        or diverges, has 1, too: the worst of all may be at any distance, and nobody keeps it.
        """
        sign = 1.0 if self.direction == "minimize" else -1.0
        losses = sign * self.mean_scores
        best, middle = np.nanmin(losses), np.nanmedian(losses)
        return np.nan_to_num(np.clip((losses - best) / (middle - best), 0.0, 1.0), nan=1.0)


def write_curves(tables: Mapping[str, CurveTable], path: Path) -> None:
    """Write tables beside, then move them."""
    arrays = {
        f"{name}/{key}": getattr(table, key) for name, table in tables.items() for key in _ARRAYS
    }
    about = {
        name: {
            "configurations": table.configurations,
            "space": table.space.to_dict(),
            "direction": table.direction,
            "about": dict(table.about),
        }
        for name, table in tables.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    with beside.open("wb") as file:
        np.savez_compressed(file, schema=SCHEMA, about=json.dumps(about), **arrays)
    os.replace(beside, path)


def read_curves(path: Path = CURVES) -> dict[str, CurveTable]:
    """Return the tables of a file by name.

    Raises:
        ValueError: If the file is no such file, or one of another version.
    """
    with np.load(path, allow_pickle=False) as kept:
        found = int(kept["schema"]) if "schema" in kept else None
        if found != SCHEMA:
            raise ValueError(
                f"{path} has version {found} of the table of curves, and version {SCHEMA} is "
                "needed: take the file and the scripts of one commit, or make it anew by "
                "`python benchmarks/make_curves.py`"
            )
        return {
            name: CurveTable(
                name,
                *(kept[f"{name}/{key}"] for key in _ARRAYS),
                configurations=each["configurations"],
                space=SearchSpace.from_dict(each["space"]),
                direction=each["direction"],
                about=each["about"],
            )
            for name, each in json.loads(str(kept["about"])).items()
        }


@dataclass(frozen=True)
class Ended:
    """A trial of a replayed study that has ended.

    Attributes:
        configuration: Its place in the table.
        n_epochs: Epochs that the study had spent when it ended.
        value: Its value; None if it was pruned or has diverged.
    """

    configuration: int
    n_epochs: int
    value: float | None


def replay(
    table: CurveTable,
    study: Study,
    order: Iterable[int],
    *,
    n_epochs: int,
    seed_of: Callable[[int], int],
) -> list[Ended]:
    """Run a study on a table, by `ask`, `report`, `should_prune` and `tell`, until epochs run out.

    Args:
        table: The table.
        study: A study of the table's direction, with the pruner to judge.
        order: The configurations to try, by their place in the table. A generator that looks at
            the study before it yields the next one is a sampler; only what the table has can be
            tried.
        n_epochs: Epochs to spend. A trial that has not ended by then has not ended at all.
        seed_of: Configuration -> which of the table's seeds it is trained with.

    Returns:
        The trials that have ended, in that order.
    """
    ended: list[Ended] = []
    n_spent = 0
    for configuration in order:
        study.enqueue_trial(table.configurations[configuration])
        trial = study.ask()
        table.space.suggest(trial)
        again = seed_of(configuration)
        curve = table.curves[configuration, again, : n_epochs - n_spent]
        n_trained, is_over = _report(trial, curve)
        n_spent += n_trained
        value = float(table.scores[configuration, again])
        if is_over or (n_trained == table.n_epochs and np.isnan(value)):
            study.tell(trial, state=TrialState.PRUNED)
            ended.append(Ended(configuration, n_spent, None))
        elif n_trained == table.n_epochs:
            study.tell(trial, value)
            ended.append(Ended(configuration, n_spent, value))
        if n_spent >= n_epochs:
            break
    return ended


def _report(trial: Trial, curve: NDArray[np.float32]) -> tuple[int, bool]:
    """Report a curve; return its epochs, and whether it was pruned or has diverged."""
    for epoch, value in enumerate(curve.tolist()):
        if np.isnan(value):
            return epoch + 1, True
        trial.report(value, epoch)
        if trial.should_prune():
            return epoch + 1, True
    return len(curve), False
