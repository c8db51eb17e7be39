"""What a report reads from a study. It reads it once and never writes to it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from hpolab.errors import InvalidArgument
from hpolab.search_space.space import UNKNOWN_SPACE, SearchSpace
from hpolab.studies.imported import RUN_KEY, imported_baseline, run_label
from hpolab.studies.metric_names import metric_names
from hpolab.studies.recipe import read_recipe
from hpolab.studies.trials import METRICS_KEY, best_of, is_feasible
from hpolab.trial.lease import ERROR_KEY
from hpolab.trial.reporter import REASON_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna import Study
    from optuna.study import StudyDirection
    from optuna.trial import FrozenTrial

    from hpolab.studies.recipe import Recipe

__all__ = ["Reading", "read", "value_of"]


@dataclass(frozen=True)
class Reading:
    """A study as its report sees it.

    Attributes:
        study: The study; it is only read.
        directions: "minimize" or "maximize", one for each objective value.
        trials: All trials, in order of number.
        recipe: What made it; None if hpolab did not.
        space: The recipe's search space; None if it has none.
        user_attrs: The study's user attributes.
        metric_names: What each objective value is called; "value" where nobody has named it.
        baseline: The trial that others are compared with: trial 0 if it is the default
            configuration, or the run that an import has named; None if there is none.
        baseline_name: "the default", "the baseline", or "" without one.
    """

    study: Study = field(repr=False)
    directions: tuple[str, ...]
    trials: tuple[FrozenTrial, ...] = field(repr=False)
    recipe: Recipe | None
    space: SearchSpace | None
    user_attrs: Mapping[str, Any] = field(repr=False)
    metric_names: tuple[str, ...] = ("value",)
    baseline: FrozenTrial | None = None
    baseline_name: str = ""

    @property
    def name(self) -> str:
        """The study's name."""
        return self.study.study_name

    @property
    def is_single(self) -> bool:
        """Whether trials have one objective value."""
        return len(self.directions) == 1

    @property
    def metric(self) -> str:
        """What the value of a study with one value is called."""
        return self.metric_names[0]

    @property
    def maximize(self) -> bool:
        """Whether a higher value is better."""
        return self.directions[0] == "maximize"

    @cached_property
    def complete(self) -> list[FrozenTrial]:
        """Complete trials whose values are all finite."""
        return [
            trial
            for trial in self.trials
            if trial.state == TrialState.COMPLETE
            and trial.values is not None
            and all(math.isfinite(value) for value in trial.values)
        ]

    @cached_property
    def ranked(self) -> list[FrozenTrial]:
        """Complete trials of a study with one value, the best first, infeasible ones last."""
        sign = -1.0 if self.maximize else 1.0
        return sorted(
            self.complete,
            key=lambda trial: (not is_feasible(trial), sign * value_of(trial), trial.number),
        )

    @cached_property
    def best(self) -> FrozenTrial | None:
        """The best trial of a study with one value."""
        return best_of(self.complete, self.directions[0]) if self.is_single else None

    def label(self, trial: FrozenTrial) -> str:
        """Return what to call a trial: "trial 5", or the run that it was imported from."""
        return run_label(trial, self.user_attrs) or f"trial {trial.number}"

    def params(self, trial: FrozenTrial) -> dict[str, Any]:
        """Return a trial's parameters in trainer units, if the space is known.

        As `trainer_params`, but the space is built once for all trials, and a trial of an earlier
        space is shown as it is.
        """
        if self.space is None or RUN_KEY in trial.user_attrs:
            return dict(trial.params)
        try:
            return self.space.from_trial(trial.params)
        except InvalidArgument:
            return dict(trial.params)

    def tuned(self, trial: FrozenTrial) -> dict[str, Any]:
        """Return the parameters that the study tunes, in trainer units."""
        params = self.params(trial)
        names = [self.trainer_name(name) for name in trial.params]
        return {name: params[name] for name in names if name in params}

    @property
    def spelling(self) -> SearchSpace:
        """The space that translates trials' names; without a known space they stay as they are."""
        return UNKNOWN_SPACE if self.space is None else self.space

    def trainer_name(self, name: str) -> str:
        """Return what the trainer calls a trial's parameter."""
        return self.spelling.trainer_name(name)

    @cached_property
    def reasons(self) -> Counter[tuple[str, str]]:
        """The number of trials that ended early, by state and reason."""
        return Counter(
            ("failed" if trial.state == TrialState.FAIL else "pruned", _reason(trial))
            for trial in self.trials
            if trial.state in (TrialState.FAIL, TrialState.PRUNED)
        )

    @cached_property
    def metrics(self) -> list[str]:
        """Names of the metrics that complete trials have recorded beside their value.

        The metric that is optimized is left out where each trial has recorded its value.
        """
        recorded = [
            (trial, of)
            for trial in self.complete
            if isinstance(of := trial.user_attrs.get(METRICS_KEY), dict)
        ]
        names = dict.fromkeys(name for _, of in recorded for name in of)
        if all(of.get(self.metric, trial.values[0]) == trial.values[0] for trial, of in recorded):
            names.pop(self.metric, None)
        return list(names)

    @cached_property
    def wall_seconds(self) -> float | None:
        """Seconds from the first start to the last end of trials; None if unknown."""
        starts = [trial.datetime_start for trial in self.trials if trial.datetime_start]
        ends = [trial.datetime_complete for trial in self.trials if trial.datetime_complete]
        return (max(ends) - min(starts)).total_seconds() if starts and ends else None

    @cached_property
    def training_seconds(self) -> float:
        """Seconds of all finished trials together."""
        durations = (trial.duration for trial in self.trials)
        return sum(each.total_seconds() for each in durations if each is not None)


def read(study: Study) -> Reading:
    """Read a study for its report.

    Example:
        >>> import optuna
        >>> study = optuna.create_study()
        >>> study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
        >>> reading = read(study)
        >>> len(reading.complete), reading.baseline
        (3, None)
    """
    trials = tuple(study.get_trials(deepcopy=False))
    recipe = read_recipe(study)
    stored = None if recipe is None else recipe.search_space
    space = None if stored is None else SearchSpace.from_dict(stored)
    baseline, name = imported_baseline(study), "the baseline"
    if baseline is None and trials and space is not None and _is_default(trials[0], space):
        baseline, name = trials[0], "the default"
    return Reading(
        study=study,
        directions=tuple(_direction(each) for each in study.directions),
        trials=trials,
        recipe=recipe,
        space=space,
        user_attrs=study.user_attrs,
        metric_names=metric_names(study),
        baseline=baseline,
        baseline_name="" if baseline is None else name,
    )


def value_of(trial: FrozenTrial) -> float:
    """Return the value of a complete trial of a study with one value."""
    assert trial.value is not None
    return trial.value


def _direction(direction: StudyDirection) -> str:
    return direction.name.lower()


def _is_default(trial: FrozenTrial, space: SearchSpace) -> bool:
    try:
        default = space.to_trial(space.defaults())
    except InvalidArgument:
        return False
    return bool(default) and all(
        name in trial.params and _is_same(trial.params[name], value)
        for name, value in default.items()
    )


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9)
    return bool(one == other)


def _reason(trial: FrozenTrial) -> str:
    """Return why a trial ended early, in words that are equal for equal reasons."""
    stored = trial.user_attrs.get(REASON_KEY) or trial.user_attrs.get(ERROR_KEY)
    if stored is None:
        return "by the pruner" if trial.state == TrialState.PRUNED else "no reason stored"
    first = str(stored).strip().partition("\n")[0]
    return first.partition(" at step ")[0]
