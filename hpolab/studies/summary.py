"""How far a study is, at a glance: counts, the best trial, and what runs now."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from hpolab.storage.glance import Glance
from hpolab.studies.trials import Tally, best_of

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
        storage: An open storage; of a journal the one that `open_to_look` opens is quick.
        study_name: The study's name.

    Raises:
        KeyError: If the storage has no such study.

    Example:
        >>> import optuna
        >>> study = optuna.create_study(study_name="squares")
        >>> study.optimize(lambda trial: trial.suggest_float("x", 0, 1) ** 2, n_trials=3)
        >>> summarize(study._storage, "squares").tally.complete
        3
    """
    study_id = storage.get_study_id_from_name(study_name)
    glance = _glance(storage, study_id)
    return StudySummary(
        study_name=study_name,
        tally=Tally.of(glance.n_by_state),
        best=glance.best,
        running=glance.running,
        user_attrs=storage.get_study_user_attrs(study_id),
    )


def _glance(storage: BaseStorage, study_id: int) -> Glance:
    """Look at a study; databases and journals tell what is asked for without all trials."""
    own = getattr(storage, "glance", None)
    if own is not None:
        found: Glance = own(study_id)
        return found
    trials = storage.get_all_trials(study_id, deepcopy=False)
    directions = storage.get_study_directions(study_id)
    best = None if len(directions) > 1 else best_of(trials, directions[0])
    return Glance(
        Counter(trial.state for trial in trials),
        None if best is None or best.value is None else (best.number, best.value),
        [trial for trial in trials if trial.state == TrialState.RUNNING],
    )
