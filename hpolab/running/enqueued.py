"""Trials that were enqueued with params: checked before one is spent, and in a trial's names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import optuna
from optuna.trial import TrialState

from hpolab import _optuna
from hpolab.errors import InvalidArgument, InvalidType
from hpolab.keywords import checks_keywords
from hpolab.studies.sampler import ManualSampler

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

    from hpolab.search_space.space import SearchSpace

__all__ = ["drop_enqueued", "settle_enqueued"]


def settle_enqueued(study: Study, search_space: SearchSpace) -> None:
    """Make trials that wait with params of the trainer's names try them; refuse what none can try.

    Optuna passes over a name that no distribution has, and draws at random what was meant.

    Raises:
        InvalidArgument: If a trial's params have a name that the space lacks, or a value outside
            its range; or one is missing where the sampler draws nothing itself.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        params = _optuna.enqueued_params(trial)
        if not params or trial.params:
            continue
        try:
            settled = search_space.to_enqueue(params)
            if isinstance(study.sampler, ManualSampler):
                search_space.from_trial(settled)
        except InvalidArgument as error:
            raise InvalidArgument(
                f"Trial {trial.number} of study {study.study_name!r} must be enqueued with what "
                f"can be tried; no trial was spent. {str(error).rstrip('.')}. Enqueue the right "
                f"params, and take the wrong ones out by `drop_enqueued(study, {trial.number})`."
            ) from error
        if settled != params:
            _optuna.set_enqueued_params(study, trial.number, settled)


@checks_keywords()
def drop_enqueued(study: Study, trial: int | FrozenTrial) -> None:
    """Take out the params that a trial was enqueued with; the sampler draws them when it is run.

    A storage numbers its trials, so the trial itself stays, as one of the budget like any other.

    Args:
        study: Any ``optuna.Study``.
        trial: A trial that waits, or its number.

    Raises:
        InvalidArgument: If no such trial waits.
        InvalidType: If an argument is of the wrong type.

    Example:
        >>> import optuna
        >>> study = optuna.create_study()
        >>> study.enqueue_trial({"learning_rate": 0.1})  # "lr" was meant
        >>> drop_enqueued(study, 0)
    """
    if not isinstance(study, optuna.Study):
        raise InvalidType(f"`study` must be an optuna.Study, got {type(study).__name__}.")
    number = getattr(trial, "number", trial)
    if isinstance(number, bool) or not isinstance(number, int):
        raise InvalidType(f"`trial` must be a trial or its number, got {type(trial).__name__}.")
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    if number not in [each.number for each in waiting]:
        raise InvalidArgument(
            f"`trial` must be one that waits in study {study.study_name!r}, got {number}."
        )
    _optuna.set_enqueued_params(study, number, {})
