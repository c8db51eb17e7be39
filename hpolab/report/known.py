"""What is known of a study's best configuration: its confirmation, and what it recommends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna.study import get_all_study_names
from optuna.trial import TrialState

from hpolab import _optuna
from hpolab.analysis.confirmation import CONFIRMED
from hpolab.analysis.overtuning import of_confirmation
from hpolab.analysis.recommend import recommend
from hpolab.analysis.trained.confirm import load_confirmation
from hpolab.errors import HpolabError, InvalidArgument
from hpolab.report import plots
from hpolab.studies.study import stored_study

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from hpolab.analysis.confirmation import Confirmation
    from hpolab.analysis.overtuning import Overtuning
    from hpolab.analysis.recommend import Recommendation
    from hpolab.report.reading import Reading

__all__ = ["Known", "known_of"]

# The distances between all trials must stay within seconds.
_MAX_NEIGHBORS = 1000


@dataclass(frozen=True)
class Known:
    """What is known of a study's best configuration.

    Attributes:
        confirmation: The study's confirmation; None if there is none, or it is not finished.
        unfinished: Why a confirmation cannot be read yet; "" if there is none.
        recommendation: What it recommends; None if it cannot.
    """

    confirmation: Confirmation | None
    unfinished: str
    recommendation: Recommendation | None

    @property
    def overtuning(self) -> Overtuning | None:
        """The chance that the best trial is worse than the baseline; None without a baseline."""
        if self.recommendation is not None:
            return self.recommendation.overtuning
        return None if self.confirmation is None else of_confirmation(self.confirmation)


def known_of(reading: Reading) -> Known:
    """Return what is known of a study's best configuration."""
    confirmation, unfinished = _find_confirmation(reading)
    return Known(confirmation, unfinished, _recommendation(reading, confirmation))


def _find_confirmation(reading: Reading) -> tuple[Confirmation | None, str]:
    """Return the study's confirmation, or a sentence on why it cannot be read yet."""
    # Optuna has no public way from a study to its storage.
    storage = _optuna.storage_of(reading.study)
    name = f"{reading.name}{CONFIRMED}"
    if name not in get_all_study_names(storage):
        return None, ""
    try:
        return load_confirmation(stored_study(name, storage)), ""
    except HpolabError as error:
        return None, f"{name!r} is in the storage, but cannot be read yet: {error}"


def _recommendation(reading: Reading, confirmation: Confirmation | None) -> Recommendation | None:
    study = reading.study
    if len(reading.complete) > _MAX_NEIGHBORS:
        study = _optuna.with_trials(study, _some_trials(reading))
    try:
        return recommend(study, confirmation)
    except InvalidArgument:
        return None  # such as a study whose complete trials all violate a constraint


def _some_trials(reading: Reading) -> list[FrozenTrial]:
    """Return trials of a long study, none of them but the best for its value.

    Were the best half kept, its luck would be taken for the true values around it.
    """
    kept = {trial.number: trial for trial in plots.evenly(reading.complete, _MAX_NEIGHBORS)}
    for trial in (reading.best, reading.baseline):
        if trial is not None and trial.state == TrialState.COMPLETE:
            kept[trial.number] = trial
    return [kept[number] for number in sorted(kept)]
