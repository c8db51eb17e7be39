"""A line of the log for each trial that ends, as ``study.optimize`` has it."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, final

from optuna.trial import TrialState

from hpolab.errors import InvalidArgument
from hpolab.logs import get_logger, is_shown
from hpolab.search_space.space import SearchSpace
from hpolab.studies.digests import best_so_far
from hpolab.studies.metric_names import metric_names
from hpolab.studies.recipe import read_recipe
from hpolab.trial.reporter import REASON_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna import Study
    from optuna.trial import FrozenTrial

__all__ = ["TrialLines", "are_lines_shown", "without_trial_lines"]

_logger = get_logger(__name__)

_silent: ContextVar[bool] = ContextVar("silent", default=False)


@contextmanager
def without_trial_lines() -> Iterator[None]:
    """Log no line for the trials of runs that are a part of another trial."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


def are_lines_shown() -> bool:
    """Tell whether anybody sees a line for each trial."""
    return not _silent.get() and is_shown(logging.INFO)


@final
class TrialLines:
    """Logs how trials of a study end, with the metric's name and the trainer's parameters.

    What is the same for all trials is read from the study once.

    Args:
        study: The study.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._metrics = metric_names(study)
        recipe = read_recipe(study)
        stored = None if recipe is None else recipe.search_space
        self._space = None if stored is None else SearchSpace.from_dict(stored)

    def say(self, trial: FrozenTrial) -> None:
        """Log how a trial has ended. Of a failed one the log has said so already."""
        start = f"Trial {trial.number} of study {self._study.study_name!r}"
        if trial.state == TrialState.COMPLETE:
            _logger.info(
                f"{start} finished with {self._values(trial)} and parameters: "
                f"{self._params(trial)}.{self._best()}"
            )
        elif trial.state == TrialState.PRUNED:
            _logger.info(f"{start} pruned{_reason(trial)}.{self._best()}")

    def _values(self, trial: FrozenTrial) -> str:
        pairs = zip(self._metrics, trial.values, strict=True)
        return ", ".join(f"{name}: {value}" for name, value in pairs)

    def _params(self, trial: FrozenTrial) -> dict[str, Any]:
        """Return what the trial has tried, by the trainer's names and in its units."""
        if self._space is None:
            return dict(trial.params)
        try:
            params = self._space.from_trial(trial.params)
        except InvalidArgument:  # a trial of an earlier space, or a run that was imported
            return dict(trial.params)
        names = map(self._space.trainer_name, trial.params)
        return {name: params[name] for name in names if name in params}

    def _best(self) -> str:
        best = best_so_far(self._study) if len(self._metrics) == 1 else None
        return "" if best is None else f" Best is trial {best.number} with {self._values(best)}."


def _reason(trial: FrozenTrial) -> str:
    """Return why, or where, a trial was pruned."""
    stored = trial.user_attrs.get(REASON_KEY)
    if stored is not None:
        return ": " + str(stored).partition("\n")[0].rstrip(".")
    steps = trial.intermediate_values
    return f" at step {max(steps)}" if steps else ""
