"""How far a study is, at a glance: counts, the best trial, and what runs now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState

from hpolab.studies.trials import Tally, best_of, tally

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

__all__ = ["StudySummary", "summarize"]


@dataclass(frozen=True)
class StudySummary:
    """How far a study is.

    Attributes:
        study_name: Its name.
        tally: Its trials, by state.
        best: (number, value) of the best trial that violates no constraint; None without one, and
            for a study with several objective values.
        running: The trials that run now, with their user attributes.
        user_attrs: The study's user attributes.
    """

    study_name: str
    tally: Tally
    best: tuple[int, float] | None
    running: Sequence[FrozenTrial]
    user_attrs: Mapping[str, Any]


def summarize(storage: BaseStorage, study_name: str) -> StudySummary:
    """Sum a study up.

    Args:
        storage: An open storage.
        study_name: The study's name.

    Raises:
        KeyError: If the storage has no such study.

    Example:
        >>> study = optuna.create_study(study_name="squares")
        >>> study.optimize(lambda trial: trial.suggest_float("x", 0, 1) ** 2, n_trials=3)
        >>> summarize(study._storage, "squares").tally.complete
        3
    """
    study = optuna.load_study(study_name=study_name, storage=storage, sampler=_ANY_SAMPLER)
    trials = study.get_trials(deepcopy=False)
    best = None if len(study.directions) > 1 else best_of(trials, study.direction)
    return StudySummary(
        study_name=study_name,
        tally=tally(trials),
        best=None if best is None or best.value is None else (best.number, best.value),
        running=[trial for trial in trials if trial.state == TrialState.RUNNING],
        user_attrs=study.user_attrs,
    )


# None draws with it; Optuna's default is made anew for each load.
_ANY_SAMPLER = optuna.samplers.RandomSampler()
