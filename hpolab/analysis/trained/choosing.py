"""Which configurations a confirmation trains: a baseline, and the best of a study or those named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpolab.analysis.trained.trainings import QueuedParams
from hpolab.errors import InvalidArgument
from hpolab.studies.trials import METRICS_KEY, ranked

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial

    from hpolab.objectives.base import Objective

__all__ = ["Chosen", "choose"]


@dataclass(frozen=True)
class Chosen:
    """A configuration that was chosen: as the trainer takes it, and as a trial stores it."""

    params: dict[str, Any]
    queued: QueuedParams
    trial: int | None
    value: float | None

    def as_planned(self) -> dict[str, Any]:
        """Return what a plan stores of it."""
        return {"params": self.params, "trial": self.trial, "value": self.value}


def choose(
    study: Study,
    objective: Objective,
    top_k: int,
    numbers: Collection[int] | None,
    baseline: Mapping[str, Any] | None,
    metric: str | None,
) -> list[Chosen]:
    """Return the baseline and the best configurations, or those named, that differ from it."""
    space = objective.search_space
    trial_params = space.to_trial(space.defaults() if baseline is None else baseline)
    candidates = ranked(study.get_trials(deepcopy=False), study.direction)
    same = [trial for trial in candidates if trial.params == trial_params]
    tried = min(same, key=lambda trial: trial.number, default=None)
    distributions = space.distributions()
    rows = [
        Chosen(
            # As its trial has trained it: a default may be rounded on its way to the trial.
            params=space.from_trial(trial_params),
            queued=QueuedParams(trial_params, {name: distributions[name] for name in trial_params}),
            trial=None if tried is None else tried.number,
            value=None if tried is None else _value(tried, metric),
        )
    ]
    chosen = [trial_params]
    most = top_k if numbers is None else len(candidates)
    for trial in candidates if numbers is None else _named(candidates, numbers):
        if len(rows) <= most and trial.params not in chosen:
            chosen.append(trial.params)
            rows.append(
                Chosen(
                    params=space.from_trial(trial.params),
                    queued=QueuedParams(trial.params, trial.distributions),
                    trial=trial.number,
                    value=_value(trial, metric),
                )
            )
    if len(rows) == 1:
        raise InvalidArgument(
            "`study` must have a complete trial of another configuration than the baseline, got "
            f"none in {study.study_name!r}."
        )
    return rows


def _named(candidates: Sequence[FrozenTrial], numbers: Collection[int]) -> list[FrozenTrial]:
    known = [trial.number for trial in candidates]
    for number in numbers:
        if number not in known:
            raise InvalidArgument(
                "`trials` must be numbers of complete trials that violate no constraint, got "
                f"{number!r}."
            )
    return [trial for trial in candidates if trial.number in numbers]


def _value(trial: FrozenTrial, metric: str | None) -> float | None:
    """Return what a trial of the tuning has of a metric; by default its value."""
    if metric is None:
        return trial.value
    value: float | None = trial.user_attrs.get(METRICS_KEY, {}).get(metric)
    return value
