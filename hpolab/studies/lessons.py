"""What an earlier study teaches a new one: its configurations in the new space, by their ranks."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.trial import TrialState

from hpolab.errors import InvalidArgument, InvalidType
from hpolab.search_space.places import distances
from hpolab.search_space.reach import filled, in_trial_names
from hpolab.studies.trials import is_feasible, sign_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from hpolab.search_space.space import SearchSpace

__all__ = ["Lesson", "check_sources", "lesson_of", "rank_shares"]

# What a study keeps of each earlier one.
_MOST_TRIALS = 200
# MySQL's column of an attribute holds 65,535 bytes.
_MOST_CHARACTERS = 60_000
# Trials that tell what to expect of a configuration, and the distance below which all of them count
# about alike: about a tenth of a range in each parameter.
_N_NEAREST = 5
_NEAR = 0.1


@dataclass(frozen=True)
class Lesson:
    """An earlier study's configurations in a new study's space, and how good they were there.

    Attributes:
        study_name: The earlier study's name.
        configurations: Trial params of the new space, the best first.
        shares: The rank of each as a share of the trials, from 0, the best, to 1.
        differences: What differs between the two spaces, in words.
    """

    study_name: str
    configurations: tuple[Mapping[str, Any], ...]
    shares: tuple[float, ...]
    differences: tuple[str, ...] = ()

    def expected(
        self, ranges: Mapping[str, BaseDistribution], configurations: Sequence[Mapping[str, Any]]
    ) -> NDArray[np.float64]:
        """Return the share to expect of each configuration: a mean over the nearest trials.

        Weights fall with the square of the distance, so that no single noisy trial decides.

        Args:
            ranges: The new study's ranges.
            configurations: Trial params, n of them.

        Returns:
            Shape (n,), from 0 to 1.
        """
        apart = distances(ranges, configurations, self.configurations)
        nearest = np.argsort(apart, axis=1, kind="stable")[:, :_N_NEAREST]
        weights = 1 / (np.take_along_axis(apart, nearest, axis=1) + _NEAR) ** 2
        shares = np.array(self.shares)[nearest]
        found: NDArray[np.float64] = (weights * shares).sum(axis=1) / weights.sum(axis=1)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return what a study stores of it: a name once for all trials that have the same ones."""
        shapes = list(dict.fromkeys(tuple(each) for each in self.configurations))
        rows = [
            [round(share, 4), shapes.index(tuple(each)), *each.values()]
            for share, each in zip(self.shares, self.configurations, strict=True)
        ]
        stored = {"study_name": self.study_name, "names": [list(s) for s in shapes], "rows": rows}
        # The worst tell least.
        while len(json.dumps(stored)) > _MOST_CHARACTERS and len(rows) > 1:
            del rows[-max(1, len(rows) // 10) :]
        return stored

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Lesson:
        """Return the lesson that `to_dict` wrote."""
        rows = stored["rows"]
        configurations = tuple(
            dict(zip(stored["names"][shape], values, strict=True)) for _, shape, *values in rows
        )
        return cls(stored["study_name"], configurations, tuple(share for share, *_ in rows))


def check_sources(study_name: str, learn_from: Any) -> list[Study]:
    """Return the earlier studies, if a study may learn from them.

    Raises:
        InvalidType: If ``learn_from`` is no list of studies.
        InvalidArgument: If one is the study itself, comes twice, or has several objective values.
    """
    if not isinstance(learn_from, list | tuple):
        raise InvalidType(
            f"`learn_from` must be a list of studies, got {type(learn_from).__name__}."
        )
    for source in learn_from:
        if not isinstance(source, optuna.Study):
            raise InvalidType(
                f"`learn_from` must hold optuna.Study objects, got {type(source).__name__}: "
                "`load_study` opens one by its name."
            )
        if len(source.directions) > 1:
            raise InvalidArgument(
                "`learn_from` must hold studies of one objective value, got "
                f"{source.study_name!r} with {len(source.directions)}."
            )
    names = Counter(source.study_name for source in learn_from)
    for name, n in names.items():
        if name == study_name:
            raise InvalidArgument(
                f"`learn_from` must hold other studies, got {name!r}, the study itself."
            )
        if n > 1:
            raise InvalidArgument(
                f"`learn_from` must hold each study once, got {n} studies named {name!r}."
            )
    return list(learn_from)


def lesson_of(source: Study, space: SearchSpace) -> Lesson:
    """Return what an earlier study's trials teach about a space.

    Parameters that the earlier study lacks are at the new space's defaults, those that the space
    lacks are dropped, and trials outside the space are left out.

    Raises:
        InvalidArgument: If it has no finished trial, no parameter of the space, or no trial inside
            the space.
    """
    drawn = [trial for trial in source.get_trials(deepcopy=False) if trial.params]
    trials, shares = rank_shares(drawn, source.direction)
    name = source.study_name
    if not trials:
        raise InvalidArgument(
            f"`learn_from` must hold studies with finished trials, got {name!r} without one."
        )
    theirs = {key for trial in trials for key in trial.params}
    shared = {key for trial in trials for key in in_trial_names(space, trial.params)}
    if not shared:
        raise InvalidArgument(
            f"`learn_from` must hold studies that share a parameter with the search space, got "
            f"{name!r} with {', '.join(map(repr, sorted(theirs)))}, where the space has "
            f"{', '.join(map(repr, space.distributions()))}."
        )
    pairs = zip(shares, trials, strict=True)
    kept = [(share, each) for share, trial in pairs for each in _in(space, trial)]
    if not kept:
        raise InvalidArgument(
            f"`learn_from` must hold studies with a trial inside the search space, got {name!r}, "
            f"whose {len(trials)} trials all have a value outside it."
        )
    differences = _differences(space, theirs, shared, len(trials) - len(kept))
    kept = _some_of(sorted(kept, key=lambda pair: pair[0]))
    return Lesson(
        name, tuple(each for _, each in kept), tuple(share for share, _ in kept), differences
    )


def rank_shares(
    trials: Sequence[FrozenTrial], direction: Any
) -> tuple[list[FrozenTrial], list[float]]:
    """Return the trials that have a rank, and their ranks as shares from 0, the best, to 1.

    Complete trials come first, by their values; then pruned ones, those with more steps before
    those with fewer, as TPE orders them; last those that violate a constraint. Equals share their
    rank. Failed trials and values that are not finite have none.

    Example:
        >>> import optuna
        >>> trials = [optuna.trial.create_trial(value=value) for value in (3.0, 1.0)]
        >>> rank_shares(trials, "minimize")[1]
        [0.75, 0.25]
    """
    from scipy.stats import rankdata

    sign = -sign_of(direction)
    keys = [(trial, _order(trial, sign)) for trial in trials]
    known = [(trial, key) for trial, key in keys if key is not None]
    in_order = {key: place for place, key in enumerate(sorted({key for _, key in known}))}
    ranks = rankdata([in_order[key] for _, key in known])
    return [trial for trial, _ in known], ((ranks - 0.5) / max(len(known), 1)).tolist()


def _order(trial: FrozenTrial, sign: float) -> tuple[float, float, float] | None:
    """Return what orders a trial among others, the best first; None if it has no rank."""
    if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED):
        return None
    if not is_feasible(trial):
        return (2.0, sum(max(0.0, each) for each in trial.constraints.values()), 0.0)
    if trial.state == TrialState.COMPLETE:
        value = trial.value
        return None if value is None or not math.isfinite(value) else (0.0, sign * value, 0.0)
    if not trial.intermediate_values:
        return (1.0, 1.0, 0.0)
    step, value = max(trial.intermediate_values.items())
    return (1.0, -float(step), sign * value if math.isfinite(value) else math.inf)


def _in(space: SearchSpace, trial: FrozenTrial) -> list[dict[str, Any]]:
    """Return a trial's configuration in a space; nothing if it lies outside."""
    try:
        return [filled(space, trial.params)]
    except InvalidArgument:
        return []


def _differences(
    space: SearchSpace, theirs: set[str], shared: set[str], n_outside: int
) -> tuple[str, ...]:
    """Return what differs between an earlier study and a space, in words."""
    known = {*space.distributions(), *space.trainer_names()}
    lacking = [name for name in space.distributions() if name not in shared]
    dropped = sorted(theirs - known)
    said = []
    if lacking:
        said.append(f"unknown there, so at the default: {', '.join(map(repr, lacking))}")
    if dropped:
        said.append(f"not in the search space: {', '.join(map(repr, dropped))}")
    if n_outside:
        said.append(f"trials left out, as outside the search space: {n_outside}")
    return tuple(said)


def _some_of(
    kept: list[tuple[float, dict[str, Any]]],
) -> list[tuple[float, dict[str, Any]]]:
    """Return the better half of what may be stored, and the rest spread over all ranks."""
    if len(kept) <= _MOST_TRIALS:
        return kept
    half = _MOST_TRIALS // 2
    evenly = np.linspace(half, len(kept) - 1, _MOST_TRIALS - half).round().astype(int)
    return kept[:half] + [kept[i] for i in evenly]
