"""recommend(): the best configuration, a robust one, and one in between, each with its risks."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from optuna.trial import create_trial

from hpolab.analysis.candidates import Baseline, Source, baseline_of, known_space
from hpolab.analysis.middle import between
from hpolab.analysis.overtuning import of_confirmation
from hpolab.analysis.results import Result
from hpolab.analysis.risks import risk_of
from hpolab.analysis.trials import check_single_objective
from hpolab.analysis.wording import ends, estimated, measured, short
from hpolab.display import Displayed, named_values
from hpolab.errors import InvalidArgument, one_of
from hpolab.keywords import checks_keywords
from hpolab.studies.export import (
    as_json,
    as_overrides,
    as_python,
    as_yaml,
    in_short,
)
from hpolab.tables import TextTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from os import PathLike

    from optuna import Study
    from optuna.distributions import BaseDistribution

    from hpolab.analysis.candidates import Candidate
    from hpolab.analysis.confirmation import Confirmation
    from hpolab.analysis.neighbors import Noise
    from hpolab.analysis.overtuning import Overtuning
    from hpolab.analysis.statistics import Estimate

__all__ = ["Change", "Recommendation", "Recommended", "recommend"]

_NAMES = ("best", "robust", "hybrid")


@dataclass(frozen=True)
class Change:
    """A parameter in which a configuration differs from the baseline.

    Attributes:
        name: The parameter.
        before: The baseline's value; None if it does not have the parameter.
        after: The configuration's value; None if it does not have the parameter.
        percent: By how much a number is above the baseline's; None for anything else, and if the
            baseline's is 0.
    """

    name: str
    before: Any
    after: Any
    percent: float | None

    def __str__(self) -> str:
        if self.percent is not None:
            digits = f"{self.percent:+.1f}" if abs(self.percent) >= 0.1 else f"{self.percent:+.1g}"
            return f"{self.name} {digits} %"
        return f"{self.name} {short(self.before, 4)} → {short(self.after, 4)}"


@dataclass(frozen=True, repr=False)
class Recommended(Displayed):
    """One configuration that is recommended.

    Attributes:
        name: "best", "robust" or "hybrid".
        params: The configuration in trainer units.
        trial_params: The configuration as a trial stores it.
        trial: Its trial's number; None if it has no trial.
        run: The id of the run that this trial was imported from, "row 3" if no column names the
            runs; None for all others.
        tried: Whether it has been trained.
        value: If it was trained again, its mean on test data over seeds; otherwise its trial's
            value; None if it was not tried.
        expected: The value to expect, with its 95 % interval: from the confirmation if it was
            trained again, otherwise from the trials around it; None if nothing is known.
        improvement: By how much ``value`` is better than the baseline's, below 0 if worse; None if
            one of the two is unknown. Without a confirmation it is that of single runs, and that
            of the best of many is an overestimate.
        changes: The parameters in which it differs from the baseline.
        risk: The reasons against it, in words.
        prefixes: Parameter -> what the trainer calls it, for `to_overrides`.
    """

    name: str
    params: Mapping[str, Any]
    trial_params: Mapping[str, Any]
    trial: int | None
    run: str | None
    tried: bool
    value: float | None
    expected: Estimate | None
    improvement: float | None
    changes: tuple[Change, ...]
    risk: str
    prefixes: Mapping[str, str | None] = field(default_factory=dict)

    def to_yaml(self) -> str:
        """Return the params as YAML."""
        return as_yaml(self.params)

    def to_json(self) -> str:
        """Return the params as JSON."""
        return as_json(self.params)

    def to_python(self) -> str:
        """Return the params as Python, under the name: ``best = {...}``."""
        return f"{self.name} = {as_python(self.params)}"

    @checks_keywords()
    def to_overrides(
        self,
        *,
        prefixes: Mapping[str, str | None] | None = None,
        digits: int | None = 3,
    ) -> str:
        """Return the params as lines of ``name=value``; see `Recommendation.to_overrides`."""
        prefixes = self.prefixes if prefixes is None else prefixes
        for name in prefixes:
            # What another of the three has may be named, so that all take the same prefixes.
            one_of("prefixes", name, {*self.params, *self.prefixes})
        words = as_overrides(self.params, prefixes=prefixes, digits=digits)
        return "\n".join(map(shlex.quote, words))

    def _in_one_line(self) -> str:
        return f"{self.name}, {in_short(self.params, digits=4)}; risk: {self.risk}"

    def _parts(self) -> list[str | TextTable]:
        rows = [
            ("trial", short(self.trial)),
            ("value", short(self.value)),
            ("expected", estimated(self.expected)),
            ("improvement over the baseline", short(self.improvement)),
            *((name, short(value)) for name, value in self.params.items()),
        ]
        return [f"Recommended as {self.name}.", named_values(rows), f"Risk: {self.risk}"]


@dataclass(frozen=True, repr=False)
class Recommendation(Result):
    """Three configurations to train with.

    Attributes:
        best: The best mean on test data, or the best value if nothing was trained again.
        robust: The best lower bound, with neighbors that are as good.
        hybrid: In between: numbers half way, on the range's own scale; choices as in ``best``. Of
            imported runs, a number that took few values, each in several runs, or powers of two
            alone, takes the nearest of those: no batch size of 96 between 64 and 128.
        baseline: The configuration that they are compared with, in trainer units; None if there is
            none.
        trained_again: Whether they were trained again on fresh seeds, by a confirmation.
        overtuning: The chance that the study's best trial is worse than the baseline; None if
            there is no baseline.
        noise: How much values of one configuration vary, and how that is known; None if it is not
            known.
        prefixes: Parameter -> what the trainer calls it, for `to_overrides`.
    """

    best: Recommended
    robust: Recommended
    hybrid: Recommended
    baseline: Mapping[str, Any] | None
    trained_again: bool
    overtuning: Overtuning | None
    noise: Noise | None
    prefixes: Mapping[str, str | None] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Recommended:
        found: Recommended = getattr(self, one_of("name", name, _NAMES))
        return found

    def to_yaml(self, name: str | None = None) -> str:
        """Return the params of "best", "robust" or "hybrid" as YAML; by default all three."""
        return as_yaml(self._params(name))

    def to_json(self, name: str | None = None) -> str:
        """Return the same as JSON."""
        return as_json(self._params(name))

    def to_python(self, name: str | None = None) -> str:
        """Return the same as Python, one line each: ``best = {...}``."""
        names = _NAMES if name is None else (name,)
        return "\n".join(self[each].to_python() for each in names)

    @checks_keywords()
    def to_overrides(
        self,
        name: str = "best",
        *,
        prefixes: Mapping[str, str | None] | None = None,
        digits: int | None = 3,
    ) -> str:
        """Return one's params as lines of ``name=value``, for a trainer's command line.

        They are written for a shell and, behind it, for Hydra; `as_overrides` has them as
        arguments of a program.

        Args:
            name: "best", "robust" or "hybrid".
            prefixes: Parameter -> what the command calls it: ``{"lr": "models.optimizer.lr"}``; by
                default what `recommend` was given.
            digits: Significant digits of floats (of 1 - value if it is near one); None for the
                exact values.

        Raises:
            InvalidArgument: If a name is unknown, or a name or a value cannot be written so.
        """
        prefixes = self.prefixes if prefixes is None else prefixes
        _check_prefixes(prefixes, [self[each] for each in _NAMES])
        own = {param: each for param, each in prefixes.items() if param in self[name].params}
        return self[name].to_overrides(prefixes=own, digits=digits)

    def enqueue(self, study: Study, name: str = "hybrid") -> bool:
        """Enqueue one as the next trial of a study.

        Args:
            study: The study that this is from, or another with the same parameters.
            name: "best", "robust" or "hybrid".

        Returns:
            Whether it was enqueued: not if the study has tried or enqueued it already.

        Raises:
            InvalidArgument: If the study's space cannot hold it.
        """
        params = _held_by(study, self[name])
        n_before = len(study.get_trials(deepcopy=False))
        study.enqueue_trial(params, user_attrs={"hpolab:recommended": name}, skip_if_exists=True)
        return len(study.get_trials(deepcopy=False)) > n_before

    def table(self) -> TextTable:
        """Return the parameters of the three beside the baseline's, and what each reached."""
        three = [self[each] for each in _NAMES]
        params = [each.params for each in three]
        gap: list[str] = []
        if self.baseline is not None:
            params, gap = [self.baseline, *params], [""]
        names = dict.fromkeys(name for each in three for name in each.params)
        rows = [[name, *(_cell(each, name) for each in params)] for name in names]
        for title, word_of in [("trial", _origin), ("value", _reached), ("expected", _expected)]:
            rows.append([title, *gap, *(word_of(each) for each in three)])
        unconfirmed = not self.trained_again and any(each.improvement for each in three)
        note = "Improvements in brackets are those of single runs: unconfirmed."
        head = ["", *(["baseline"] if gap else []), *_NAMES]
        return TextTable(head, rows, note=note if unconfirmed else "")

    def _in_one_line(self) -> str:
        return f"best: {in_short(self.best.params, digits=4)}; risk: {self.best.risk}"

    def _parts(self) -> list[str | TextTable]:
        words: dict[str, list[str]] = {}
        for each in (self[name] for name in _NAMES):
            words.setdefault(f"{_changed(each)}{each.risk}", []).append(each.name)
        lines = [f"{', '.join(names)}: {said}" for said, names in words.items()]
        doubt = [] if self.overtuning is None else [str(self.overtuning)]
        return [self.table(), "\n".join([*lines, *doubt])]

    def _records(self) -> Iterator[dict[str, Any]]:
        for each in (self[name] for name in _NAMES):
            yield {
                "name": each.name,
                "trial": each.trial,
                "value": each.value,
                "improvement": each.improvement,
                "expected": None if each.expected is None else each.expected.mean,
                "low": None if each.expected is None else each.expected.low,
                "high": None if each.expected is None else each.expected.high,
                "risk": each.risk,
                **{f"params_{name}": value for name, value in each.params.items()},
            }

    def _params(self, name: str | None) -> dict[str, Any]:
        if name is not None:
            return dict(self[name].params)
        return {each: dict(self[each].params) for each in _NAMES}


@checks_keywords()
def recommend(
    study: Study,
    confirmation: Confirmation | None = None,
    *,
    baseline: int | Mapping[str, Any] | str | PathLike[str] | None = None,
    prefixes: Mapping[str, str | None] | None = None,
) -> Recommendation:
    """Recommend the best configuration, a robust one, and one in between.

    With a confirmation, the candidates are the configurations that it has trained, the baseline
    included: ``best`` has the best mean score on test data; ``robust`` has the best lower end of
    its interval, minus what its neighbors in the study are worse than its own trial. Without one,
    the candidates are the study's complete trials: ``best`` has the best value; ``robust`` has the
    best lower end of an interval of the mean value of the trials around it. A peak, a lucky run, or
    a place where values scatter or nothing is near, has no good lower end. ``hybrid`` is half way
    between them.

    True values are those of a Gaussian process over the study's trials. Their 95 % intervals held
    the true value in 92 % or more of simulated studies of each kind: bowls of 2 to 6 parameters,
    ridges, cliffs, kinks and nothing but noise, under random search, TPE and CMA-ES. In most kinds
    they held it in nearly all, so they are rather wide. With fewer than four trials for each
    parameter and four more, no value is expected.

    Without a confirmation, the noise is that among repeated trials of one configuration, or else
    what the trials' neighbors do not explain, and the risk says that nothing was confirmed.

    Args:
        study: The study that was tuned, of one objective value. It is only read.
        confirmation: What `confirm` has found for it.
        baseline: The configuration to compare with: a trial's number, the id of an imported run as
            text ("8", or "run 8" and "row 3" as tables call them), params in trainer units, or the
            path of a YAML file that has the study's parameters, such as a trainer's resolved
            configuration. By default the baseline of an import, or else the defaults of the study's
            search space, if it has one. A confirmation has its own.
        prefixes: Parameter -> what the trainer calls it, in that file and on its command line:
            ``{"lr": "models.optimizer.lr"}``. None leaves one out, such as a fixed value that the
            trainer has in another form.

    Raises:
        InvalidArgument: If the study has several objective values or no complete trial, the
            baseline is not one of its trials or its file lacks a parameter, ``prefixes`` names an
            unknown parameter, or a confirmation is of another study or given with a baseline.
        InvalidType: If an argument is of the wrong type.

    Example:
        >>> import optuna
        >>> study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        >>> study.optimize(lambda trial: trial.suggest_float("lr", 1e-4, 1, log=True), n_trials=20)
        >>> found = recommend(study, baseline={"lr": 0.1})
        >>> print(found.to_overrides(prefixes={"lr": "model.optimizer.lr"}))
        model.optimizer.lr=0.00012
        >>> found.best.trial == study.best_trial.number
        True
        >>> print(*found.best.changes)
        lr -99.9 %
    """
    check_single_objective(study)
    source = Source.of(study)
    if confirmation is None:
        candidates, before = source.tried(), baseline_of(source, baseline, prefixes)
    else:
        if baseline is not None:
            raise InvalidArgument("`baseline` must be left out: the confirmation has its own.")
        candidates = source.confirmed(confirmation)
        before = Baseline(dict(confirmation.baseline.params), None)
    if confirmation is not None:
        overtuning: Overtuning | None = of_confirmation(confirmation)
    else:
        overtuning = None if before is None else source.overtuning(before)
    best = max(candidates, key=lambda each: each.goodness)
    robust = max(candidates, key=lambda each: each.robustness)
    middle = between(source.ranges, best, robust, grids=source.grids())
    hybrid = source.find([best, robust, *candidates], middle)
    three = [
        _recommended(name, each, before, source, candidates, confirmation, dict(prefixes or {}))
        for name, each in zip(_NAMES, (best, robust, hybrid), strict=True)
    ]
    _check_prefixes(prefixes or {}, three)
    return Recommendation(
        best=three[0],
        robust=three[1],
        hybrid=three[2],
        baseline=None if before is None else before.params,
        trained_again=confirmation is not None,
        overtuning=overtuning,
        noise=source.landscape.noise,
        prefixes=dict(prefixes or {}),
    )


def _check_prefixes(prefixes: Mapping[str, str | None], three: Sequence[Recommended]) -> None:
    known = {param for each in three for param in each.params}
    for param in prefixes:
        one_of("prefixes", param, known)


def _recommended(
    name: str,
    each: Candidate,
    before: Baseline | None,
    source: Source,
    candidates: Sequence[Candidate],
    confirmation: Confirmation | None,
    prefixes: Mapping[str, str | None],
) -> Recommended:
    improvement = _improvement(each, before)
    changes = () if before is None else _changes(before.params, each.params)
    risk = risk_of(
        each,
        candidates,
        before=before,
        improvement=improvement,
        n_changes=len(changes),
        landscape=source.landscape,
        confirmation=confirmation,
    )
    return Recommended(
        name=name,
        params=each.params,
        trial_params=each.trial_params,
        trial=each.trial,
        run=each.run,
        tried=each.value is not None,
        value=each.value,
        expected=each.expected,
        improvement=improvement,
        changes=changes,
        risk=risk,
        prefixes=prefixes,
    )


def _improvement(each: Candidate, before: Baseline | None) -> float | None:
    if each.configuration is not None:
        effect = each.configuration.improvement
        return None if effect is None else effect.estimate
    if each.value is None or before is None or before.value is None:
        return None
    return each.sign * (each.value - before.value)


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    names = dict.fromkeys([*before, *after])
    pairs = [(name, before.get(name), after.get(name)) for name in names]
    return tuple(
        Change(name, was, now, _percent(was, now)) for name, was, now in pairs if was != now
    )


def _percent(was: Any, now: Any) -> float | None:
    if not all(isinstance(x, int | float) and not isinstance(x, bool) for x in (was, now)):
        return None
    return None if was == 0 else 100 * (now - was) / abs(was)


def _held_by(study: Study, each: Recommended) -> dict[str, Any]:
    """Return a configuration as trials of a study store it."""
    space = known_space(study)
    if space is not None:
        return space.to_trial(each.params)
    known: dict[str, BaseDistribution] = {}
    for trial in study.get_trials(deepcopy=False):
        known |= trial.distributions
    if not known:
        return dict(each.trial_params)
    for name, value in each.trial_params.items():
        distribution = known[one_of("study", name, known)]
        try:
            # Optuna's own test on the distribution is private.
            create_trial(params={name: value}, distributions={name: distribution}, value=0.0)
        except ValueError:
            raise InvalidArgument(
                f"`study` must be able to hold {name!r} = {value!r}, got one with {distribution}."
            ) from None
    return dict(each.trial_params)


def _cell(params: Mapping[str, Any], name: str) -> str:
    return short(params[name], 4) if name in params else "-"


def _origin(each: Recommended) -> str:
    if each.trial is not None:
        if each.run is None:
            return str(each.trial)
        label = each.run if each.run.startswith("row ") else f"run {each.run}"
        return f"{each.trial} ({label})"
    return "tried" if each.tried else "not yet tried"


def _reached(each: Recommended) -> str:
    if each.value is None:
        return "-"
    half = 0.0 if each.expected is None else (each.expected.high - each.expected.low) / 2
    improvement = each.improvement
    if improvement is None:
        return measured(each.value, half)
    sign = "+" if improvement > 0 else ""
    return f"{measured(each.value, half)} ({sign}{measured(improvement, half)})"


def _expected(each: Recommended) -> str:
    return "-" if each.expected is None else ends(each.expected.low, each.expected.high)


def _changed(each: Recommended) -> str:
    return f"{', '.join(map(str, each.changes))}. " if each.changes else ""
