"""Which trials of a long study its sampler sees: a bounded set, however long the study gets.

A sampler of Optuna's reads all trials for each new one, and what it makes of them takes time in
proportion to their number, or to its third power. Up to 1,000 finished trials (500 for the GP) it
sees them all. Beyond:

- TPE and `StepwiseSampler` see the best 25 exactly, by TPE's own order, and the latest 975: TPE
  weighs trials the less the older they are, anyway. Of several objective values the best ones are
  the Pareto front.
- The GP sees the best 200, as it is there that its model must be right, and 300 that are spread
  evenly over the study's length.
- CMA-ES sees the latest 1,000, which hold the current generation: it draws what it would draw
  from all.
- QMC sees the first, from which it takes the search space.

NSGA-II, grid and brute force need all, so that a trial takes longer the more there are. So does
any other sampler, also a subclass of these, and one whose settings ask for more trials than it
would be shown. Trials that are running are shown as ever. Which ones are shown depends on nothing
but on what has finished, so that a study that was killed and resumed repeats the uninterrupted
one.
"""

from __future__ import annotations

import copy
import heapq
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from optuna.samplers import CmaEsSampler, GPSampler, NSGAIISampler, TPESampler
from optuna.search_space import IntersectionSearchSpace
from optuna.trial import TrialState

from hpolab import _optuna
from hpolab.studies.digests import Digest, Past
from hpolab.studies.stepwise import StepwiseSampler

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.study import StudyDirection
    from optuna.trial import FrozenTrial

__all__ = ["Rule", "first_shown", "rule_of", "shown_to"]

# Multiples of it modulo 2**32, which is the golden ratio's share of it, lie spread evenly.
_GOLDEN = 2654435769
_TURN = 2**32


@dataclass(frozen=True)
class Rule:
    """What a kind of sampler sees of a long study.

    Attributes:
        max_trials: Finished trials up to which it sees all, and the most that it sees beyond.
        n_best: How many of the best are among them.
        spread: Whether the rest are spread evenly over the study, and not the latest.
        complete_only: Whether it reads none but complete trials.
        attrs: Begin the names of what it stores with its own trials, which come before others.
    """

    max_trials: int
    n_best: int = 0
    spread: bool = False
    complete_only: bool = False
    attrs: tuple[str, ...] = ()


# By exact type: what a subclass reads is its own affair, and it sees all. TPE takes at most 25 for
# its good ones, or a tenth where there are several objective values.
_RULES: Mapping[type[BaseSampler], Rule] = {
    TPESampler: Rule(1000, n_best=25),
    StepwiseSampler: Rule(1000, n_best=25),
    GPSampler: Rule(500, n_best=200, spread=True, complete_only=True),
    CmaEsSampler: Rule(1000, complete_only=True, attrs=("cma:", "sepcma:", "cmawm:")),
}
# They take the search space from us.
_KNOWN = frozenset([*_RULES, NSGAIISampler])


def rule_of(sampler: BaseSampler) -> Rule | None:
    """Return what a sampler sees of a long study; None if it sees all.

    Settings that were chosen for more trials than would be shown, or for the number of all, are
    honored.
    """
    rule = _RULES.get(type(sampler))
    if rule is None or _optuna.trials_needed(sampler) > rule.max_trials:
        return None
    return rule


class _SearchSpaces(Digest):
    """The parameters that trials have with the same distribution.

    Attributes:
        of_complete: Those that all complete trials have; None before the first.
        of_all: Those that all complete and all pruned ones have.
    """

    def __init__(self) -> None:
        self.of_complete: dict[str, BaseDistribution] | None = None
        self.of_all: dict[str, BaseDistribution] | None = None

    def add(self, trials: Sequence[FrozenTrial]) -> None:
        for trial in trials:
            if trial.state == TrialState.COMPLETE:
                self.of_complete = _intersection(self.of_complete, trial)
            if trial.state in _WITH_VALUES:
                self.of_all = _intersection(self.of_all, trial)


_WITH_VALUES = (TrialState.COMPLETE, TrialState.PRUNED)


def _intersection(
    search_space: dict[str, BaseDistribution] | None, trial: FrozenTrial
) -> dict[str, BaseDistribution]:
    distributions = trial.distributions
    if search_space is None:
        return dict(distributions)
    same = {name: d for name, d in search_space.items() if distributions.get(name) == d}
    return search_space if len(same) == len(search_space) else same


class _KnownSearchSpace(IntersectionSearchSpace):
    """Optuna's intersection of all trials' search spaces, without reading them all each time."""

    def __init__(self, past: Past, include_pruned: bool) -> None:
        super().__init__(include_pruned)
        self._known = (past, include_pruned)

    def calculate(self, study: Study, use_cache: bool = False) -> dict[str, BaseDistribution]:
        """Return the parameters that all finished trials have, sorted by name."""
        past, include_pruned = self._known
        with past.digested(_SearchSpaces, _SearchSpaces) as (found, late):
            spaces = _SearchSpaces()
            spaces.of_complete, spaces.of_all = found.of_complete, found.of_all
            spaces.add(late)
        search_space = spaces.of_all if include_pruned else spaces.of_complete
        return dict(sorted((search_space or {}).items()))


class _Bounded(Digest):
    """A bounded set of a study's finished trials.

    Attributes:
        n_trials: How many there are of the kind that the sampler reads.
    """

    def __init__(self, rule: Rule, directions: Sequence[StudyDirection]) -> None:
        self.n_trials = 0
        self._rule = rule
        self._directions = directions
        self._best: list[FrozenTrial] = []
        # A heap of (-key, number, trial) of the rest: the one to leave first is on top.
        self._rest: list[tuple[int, int, FrozenTrial]] = []

    def copy(self) -> _Bounded:
        """Return one that takes in more without changing this one."""
        twin = object.__new__(_Bounded)
        vars(twin).update(vars(self) | {"_best": list(self._best), "_rest": list(self._rest)})
        return twin

    def add(self, trials: Sequence[FrozenTrial]) -> None:
        read = (TrialState.COMPLETE,) if self._rule.complete_only else _WITH_VALUES
        new = [trial for trial in trials if trial.state in read]
        self.n_trials += len(new)
        if self._rule.n_best and new:
            self._best = _optuna.best_for_tpe(self._directions, self._best + new, self._rule.n_best)
        for trial in new:
            item = (-self._key(trial), trial.number, trial)
            if len(self._rest) < self._rule.max_trials:
                heapq.heappush(self._rest, item)
            elif item[0] > self._rest[0][0]:
                heapq.heapreplace(self._rest, item)

    def _key(self, trial: FrozenTrial) -> int:
        """Return a number by which the trial is shown before others: the lower, the sooner."""
        if self._rule.spread:
            return trial.number * _GOLDEN % _TURN
        attrs = self._rule.attrs
        is_own = not attrs or any(key.startswith(attrs) for key in trial.system_attrs)
        return (0 if is_own else _TURN) - trial.number

    def trials(self) -> list[FrozenTrial]:
        """Return what is shown, by number."""
        # A Pareto front has no bound of its own.
        best = sorted(self._best, key=self._key)[: self._rule.max_trials // 2]
        shown = {trial.number: trial for trial in best}
        for _, number, trial in sorted(self._rest, reverse=True):
            if len(shown) == self._rule.max_trials:
                break
            shown[number] = trial
        return [shown[number] for number in sorted(shown)]


def shown_to(sampler: BaseSampler, study: Study, *, bounded: bool = True) -> Study:
    """Return a study as a sampler sees it: as it is, or with a bounded set of its trials.

    Args:
        sampler: The sampler, made for one trial alone; it is given the search space.
        study: The study, or what the trial may see of it.
        bounded: Whether it sees a bounded set of a long study's.
    """
    whole = _optuna.without_bracket(study)
    # Of the known ones, stepwise alone heeds Hyperband's brackets.
    if type(sampler) not in _KNOWN or (whole is not study and type(sampler) is StepwiseSampler):
        return study
    past = Past(whole)
    _optuna.give_search_space(sampler, partial(_KnownSearchSpace, past))
    rule = rule_of(sampler) if bounded else None
    trials = None if rule is None else _bounded(past, rule, whole.directions)
    return _optuna.with_trials(whole, past.trials if trials is None else trials)


def _bounded(
    past: Past, rule: Rule, directions: Sequence[StudyDirection]
) -> list[FrozenTrial] | None:
    """Return what is shown of a long study, by number; None if all of it is."""
    with past.digested((_Bounded, rule), partial(_Bounded, rule, directions)) as (kept, late):
        if late:
            kept = kept.copy()
            kept.add(late)
        if kept.n_trials <= rule.max_trials:
            return None
        trials = kept.trials()
    running = [trial for trial in past.unfinished if trial.state == TrialState.RUNNING]
    return sorted(trials + running, key=lambda trial: trial.number)


class _First(Digest):
    """The first complete or pruned trial, by number."""

    def __init__(self) -> None:
        self.trial: FrozenTrial | None = None

    def add(self, trials: Sequence[FrozenTrial]) -> None:
        for trial in trials:
            if trial.state in _WITH_VALUES and (
                self.trial is None or trial.number < self.trial.number
            ):
                self.trial = trial


def first_shown(study: Study) -> Study:
    """Return a study as QMC sees it: with the first trial, or with those that run."""
    whole = _optuna.without_bracket(study)
    past = Past(whole)
    with past.digested(_First, _First) as (found, late):
        first = copy.copy(found)
        first.add(late)
    shown = past.unfinished if first.trial is None else [first.trial]
    return _optuna.with_trials(whole, shown)
