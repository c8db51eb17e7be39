"""The configurations that may be recommended, and the one that they are compared with."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

from optuna.distributions import CategoricalDistribution

from hpolab.analysis.neighbors import Landscape
from hpolab.analysis.overtuning import Overtuning, of_study
from hpolab.analysis.trials import common_ranges
from hpolab.errors import InvalidArgument, InvalidType, hint
from hpolab.search_space.space import UNKNOWN_SPACE, SearchSpace
from hpolab.studies.export import params_of_yaml, trainer_params
from hpolab.studies.imported import IMPORT_KEY, imported_baseline, run_label
from hpolab.studies.recipe import read_recipe
from hpolab.studies.trials import is_complete, sign_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from hpolab.analysis.confirmation import Configuration, Confirmation
    from hpolab.analysis.neighbors import Around
    from hpolab.analysis.statistics import Estimate

__all__ = ["Baseline", "Candidate", "Source", "baseline_of", "known_space"]

_POWERS_OF_TWO = frozenset(2**power for power in range(41))


@dataclass(frozen=True)
class Baseline:
    """The configuration to compare with.

    Attributes:
        params: The configuration in trainer units.
        value: Its trial's value; None if it was not tried in the study.
        row: Its trial's place among the complete trials; None as above.
        name: "the default", or "the baseline" if another was named.
    """

    params: dict[str, Any]
    value: float | None
    row: int | None = None
    name: str = "the baseline"


@dataclass(frozen=True)
class Candidate:
    """A configuration that may be recommended.

    Attributes:
        trial_params: The configuration as a trial stores it.
        params: The configuration in trainer units.
        trial: Its trial's number, if it has one.
        value: What it reached; None if it was not tried.
        sign: 1 if more is better, -1 otherwise.
        around: What the trials around it show.
        run: The id of the run that its trial was imported from.
        configuration: What the confirmation found; None if it was not confirmed.
    """

    trial_params: dict[str, Any]
    params: dict[str, Any]
    trial: int | None
    value: float | None
    sign: float
    around: Around
    run: str | None = None
    configuration: Configuration | None = None

    @property
    def goodness(self) -> float:
        return -math.inf if self.value is None else self.sign * self.value

    @property
    def expected(self) -> Estimate | None:
        return self.around.estimate if self.configuration is None else self.configuration.mean

    @property
    def robustness(self) -> tuple[bool, float, float]:
        """Sorts by the worse end of what to expect, then by value.

        A configuration with nothing near it comes last: nobody knows whether it is on a plateau.
        """
        if self.configuration is None:
            bound = self.around.level
        else:
            ends = self.configuration.mean
            drop = max(self.around.drop or 0.0, 0.0)
            bound = None if ends is None else min(self.sign * ends.low, self.sign * ends.high)
            bound = None if bound is None else bound - drop
        if bound is None:
            return False, -math.inf, self.goodness
        return self.around.n_near > 0, bound, self.goodness


@dataclass(frozen=True)
class Source:
    """A study and what its trials show of the landscape."""

    study: Study
    trials: tuple[FrozenTrial, ...]
    ranges: Mapping[str, BaseDistribution]
    landscape: Landscape
    sign: float
    space: SearchSpace | None

    @classmethod
    def of(cls, study: Study) -> Source:
        trials = [trial for trial in study.get_trials(deepcopy=False) if is_complete(trial)]
        if not trials:
            raise InvalidArgument(
                f"`study` must have a complete trial, got {study.study_name!r}, which has none."
            )
        ranges, _ = common_ranges(trials)
        sign = sign_of(study.direction)
        return cls(
            study=study,
            trials=tuple(trials),
            ranges=ranges,
            landscape=Landscape(trials, ranges, maximize=sign > 0),
            sign=sign,
            space=known_space(study),
        )

    def tried(self) -> list[Candidate]:
        """Return the trials as candidates, the first among equals."""
        return [self._candidate(row) for row in range(len(self.trials))]

    def confirmed(self, confirmation: Confirmation) -> list[Candidate]:
        """Return the configurations that a confirmation has trained on all its seeds."""
        if not hasattr(confirmation, "configurations"):
            raise InvalidType(
                f"`confirmation` must be a Confirmation, got {type(confirmation).__name__}."
            )
        if confirmation.study_name != self.study.study_name:
            raise InvalidArgument(
                f"`confirmation` must be of the study {self.study.study_name!r}, got one of "
                f"{confirmation.study_name!r}."
            )
        sign = sign_of(confirmation.direction)
        trained = (confirmation.baseline, *confirmation.configurations)
        found = [self._confirmed(each, sign) for each in trained if each.mean is not None]
        if not found:
            raise InvalidArgument(
                "`confirmation` must have a configuration without a lost seed, got none."
            )
        return found

    def find(self, candidates: Iterable[Candidate], trial_params: dict[str, Any]) -> Candidate:
        """Return the candidate with these params, the trial that has them, or a new candidate."""
        for candidate in candidates:
            if _are_same(candidate.trial_params, trial_params):
                return candidate
        for row, trial in enumerate(self.trials):
            if _are_same(trial.params, trial_params):
                return self._candidate(row)
        around = self.landscape.around(trial_params)
        params = self._trainer_params(trial_params)
        return Candidate(trial_params, params, None, None, self.sign, around)

    def grids(self) -> dict[str, list[float]]:
        """Return the values that a number may take in imported runs, where they lie on a grid.

        The range of an import only shows what was tried. A number whose values repeat was chosen
        from a few, and powers of two alone, as of a batch size, mean that others make no sense.
        """
        if IMPORT_KEY not in self.study.user_attrs:
            return {}
        grids = {}
        for name, distribution in self.ranges.items():
            if isinstance(distribution, CategoricalDistribution):
                continue
            tried = [trial.params[name] for trial in self.trials if name in trial.params]
            values = sorted(set(tried))
            if len(values) > 1 and set(values) <= _POWERS_OF_TWO:
                low, high = values[0], values[-1]
                grids[name] = [each for each in sorted(_POWERS_OF_TWO) if low <= each <= high]
            elif 2 * len(values) <= len(tried):
                grids[name] = values
        return grids

    def row_of(self, number: int) -> int | None:
        """Return the place of a complete trial; None if there is none of that number."""
        rows = [row for row, trial in enumerate(self.trials) if trial.number == number]
        return rows[0] if rows else None

    def baseline_at(self, row: int | None, trial: FrozenTrial) -> Baseline:
        """Return a trial as the baseline."""
        return Baseline(trainer_params(self.study, trial), trial.value, row)

    def baseline_with(self, params: Mapping[str, Any], name: str = "the baseline") -> Baseline:
        """Return params in trainer units as the baseline, and what they reached if tried."""
        for row, trial in enumerate(self.trials):
            if trainer_params(self.study, trial) == params:
                return Baseline(dict(params), trial.value, row, name)
        return Baseline(dict(params), None, None, name)

    def overtuning(self, baseline: Baseline) -> Overtuning:
        """Return the chance that the best trial is worse than the baseline."""
        values = [self.sign * float(trial.value or 0.0) for trial in self.trials]
        if baseline.row is None:
            why = f"{baseline.name} has no value in this study"
            return Overtuning(None, baseline.name, why)
        best = max(range(len(values)), key=lambda row: values[row])
        return of_study(self.landscape, values, best, baseline.row, baseline.name)

    def _candidate(self, row: int) -> Candidate:
        trial = self.trials[row]
        return Candidate(
            trial_params=dict(trial.params),
            params=trainer_params(self.study, trial),
            trial=trial.number,
            value=trial.value,
            sign=self.sign,
            around=self.landscape.around(trial.params, row=row),
            run=_run_of(self.study, trial),
        )

    def _confirmed(self, configuration: Configuration, sign: float) -> Candidate:
        assert configuration.mean is not None
        row = None if configuration.trial is None else self.row_of(configuration.trial)
        params = dict(configuration.params)
        if row is not None:
            trial_params = dict(self.trials[row].params)
        else:
            trial_params = params if self.space is None else self.space.to_trial(params)
        return Candidate(
            trial_params=trial_params,
            params=params,
            trial=configuration.trial,
            value=configuration.mean.mean,
            sign=sign,
            around=self.landscape.around(trial_params, row=row),
            configuration=configuration,
        )

    def _trainer_params(self, trial_params: dict[str, Any]) -> dict[str, Any]:
        return trial_params if self.space is None else self.space.from_trial(trial_params)


def _are_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Compare params; a float may differ by the rounding of its arithmetic."""
    return one.keys() == other.keys() and all(
        math.isclose(value, other[name], rel_tol=1e-11)
        if isinstance(value, float) and isinstance(other[name], float)
        else value == other[name]
        for name, value in one.items()
    )


def _run_of(study: Study, trial: FrozenTrial) -> str | None:
    label = run_label(trial, study.user_attrs)
    return None if label is None else label.removeprefix("run ")


def known_space(study: Study) -> SearchSpace | None:
    """Return the study's search space; None if its trials are in trainer units already."""
    recipe = read_recipe(study)
    if recipe is None or recipe.search_space is None or IMPORT_KEY in study.user_attrs:
        return None
    return SearchSpace.from_dict(recipe.search_space)


def baseline_of(
    source: Source, asked: Any, prefixes: Mapping[str, str | None] | None
) -> Baseline | None:
    """Return the configuration to compare with: what was asked for, or the study's own."""
    if asked is None:
        imported = imported_baseline(source.study)
        if imported is not None:
            return source.baseline_at(source.row_of(imported.number), imported)
        if source.space is None:
            return None
        return source.baseline_with(source.space.defaults(), "the default")
    if isinstance(asked, str):
        run = _run_named(source, asked)
        if run is not None:
            return source.baseline_at(source.row_of(run.number), run)
    if isinstance(asked, int) and not isinstance(asked, bool):
        _check_is_clear(source, asked)
        row = source.row_of(asked)
        if row is None:
            numbers = [trial.number for trial in source.trials]
            raise InvalidArgument(
                f"`baseline` must be the number of a complete trial, {numbers}, got {asked}."
            )
        return source.baseline_at(row, source.trials[row])
    if isinstance(asked, str | PathLike):
        if isinstance(asked, str) and not os.path.exists(asked):
            raise InvalidArgument(_neither(source, asked))
        asked = _params_of_file(source, asked, prefixes or {})
    if not isinstance(asked, dict):
        raise InvalidType(
            "`baseline` must be a trial's number, the id of an imported run, a dict or a path, got "
            f"{type(asked).__name__}."
        )
    return source.baseline_with(asked)


def _run_named(source: Source, text: str) -> FrozenTrial | None:
    """Return the trial of an imported run by its id or its label: "8", "run 8", "row 3".

    Raises:
        InvalidArgument: If it has no value, or a file has that name as well.
    """
    found = _runs(source).get(text)
    if found is None:
        return None
    if source.row_of(found.number) is None:
        raise InvalidArgument(f"`baseline` must be a run with a value, got {text!r}, without one.")
    if os.path.isfile(text):
        raise InvalidArgument(
            f"`baseline` must say which is meant, got {text!r}, which is a run and a file: give "
            f"{found.number} for the run, or Path({text!r}) for the file."
        )
    return found


def _runs(source: Source) -> dict[str, FrozenTrial]:
    """Return imported trials by what they may be called."""
    labels = {
        label: trial
        for trial in source.study.get_trials(deepcopy=False)
        if (label := run_label(trial, source.study.user_attrs)) is not None
    }
    ids = {label.partition(" ")[2]: trial for label, trial in labels.items()}
    return ids | labels


def _check_is_clear(source: Source, number: int) -> None:
    """Refuse a number that is one trial's own and another's run, as `import_runs` counts them."""
    run, row = _runs(source).get(str(number)), source.row_of(number)
    if run is None or row is None or run.number == number:
        return
    attrs = source.study.user_attrs
    here, there = run_label(source.trials[row], attrs), run_label(run, attrs)
    here = "no run" if here is None else here
    raise InvalidArgument(
        f"`baseline` must say which is meant, got {number}: trial {number} is {here}, and {there} "
        f"is trial {run.number}. Give one of them by its name, {here!r} or {there!r}."
    )


def _neither(source: Source, text: str) -> str:
    runs = _runs(source)
    named = "the id of an imported run, " if runs else ""
    none = "no such run and no such file" if runs else "no such file"
    return (
        f"`baseline` must be a trial's number, {named}params, or a YAML file, got {text!r}, and "
        f"there is {none}.{hint(text, runs)}"
    )


def _params_of_file(
    source: Source, path: str | PathLike[str], prefixes: Mapping[str, str | None]
) -> dict[str, Any]:
    """Return the study's parameters with a file's values; fixed ones are the study's own."""
    first = source.trials[0]
    params = trainer_params(source.study, first)
    spelling = UNKNOWN_SPACE if source.space is None else source.space
    tuned = {spelling.trainer_name(name) for name in first.params}
    asked = [name for name in params if name in tuned and prefixes.get(name, name) is not None]
    named = {name: prefix for name, prefix in prefixes.items() if name in asked and prefix}
    return params | params_of_yaml(path, asked, prefixes=named)
