"""Learning from earlier studies: a portfolio of first configurations, and how far to trust each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import optuna
from optuna.study import get_all_study_names

from hpolab import _optuna
from hpolab.errors import InvalidArgument, RecipeMismatch
from hpolab.logs import get_logger
from hpolab.search_space.places import distances
from hpolab.studies.lessons import Lesson, check_sources, lesson_of
from hpolab.studies.trials import best_of, is_begun, is_complete, sign_of
from hpolab.studies.trust import LEARNED_KEY, agreement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

    from hpolab.search_space.space import SearchSpace

__all__ = [
    "enqueue_learned",
    "is_to_learn",
    "learn",
    "portfolio",
    "store_learned",
    "was_of_no_use",
]

_logger = get_logger(__name__)

_WITH_POINTS_OF_THEIR_OWN = ("grid", "GridSampler")

# Configurations that are tried before the sampler begins.
_MOST_FIRST = 5
# Of each earlier study, those that may be among them.
_MOST_CANDIDATES = 30
# How a new problem differs from an earlier one: its rank shares are off by so much, alike for
# configurations within so much of each other. On tables of neural networks neither mattered within
# a factor of two.
_DEVIATION, _REACH = 0.2, 0.3
_N_PROBLEMS = 64
# Configurations that are nearer to each other are one.
_APART = 0.02
# After so many first configurations, none of which beat the default, the others are not tried.
_N_BAD = 2


class Learned(NamedTuple):
    """What a new study has learned.

    Attributes:
        lessons: What each earlier study teaches.
        first: The configurations to try first: the default, then the portfolio.
    """

    lessons: list[Lesson]
    first: list[Mapping[str, Any]]


def learn(
    study_name: str,
    learn_from: Any,
    *,
    search_space: SearchSpace | None,
    directions: Sequence[str],
    sampler: str,
) -> Learned:
    """Return what a new study learns from earlier ones.

    Args:
        study_name: The new study's name.
        learn_from: The earlier studies.
        search_space: The new study's search space.
        directions: The new study's directions.
        sampler: The name of its sampler.

    Raises:
        InvalidType: If ``learn_from`` is no list of studies.
        InvalidArgument: If nothing can be learned; the message says why.
    """
    sources = check_sources(study_name, learn_from)
    if search_space is None:
        raise InvalidArgument(
            "`learn_from` needs to know the search space: give `objective`, or `search_space` with "
            "the ranges that your function suggests."
        )
    if len(directions) > 1:
        raise InvalidArgument(
            f"`learn_from` must be left out for several objective values, got {len(directions)}."
        )
    if sampler in _WITH_POINTS_OF_THEIR_OWN:
        raise InvalidArgument(
            f"`learn_from` must be left out with sampler={sampler!r}, which tries the points of "
            "its grid alone."
        )
    lessons = [lesson_of(source, search_space) for source in sources]
    default = search_space.to_trial(search_space.defaults())
    first = [each for each in portfolio(lessons, search_space.distributions()) if each != default]
    return Learned(lessons, [default, *first])


def portfolio(
    lessons: Sequence[Lesson], ranges: Mapping[str, BaseDistribution]
) -> list[Mapping[str, Any]]:
    """Return at most five configurations, one of which is probably good.

    The new problem is taken to be like one of the earlier ones, off by a smooth disturbance: each
    configuration is chosen for the lowest mean, over the earlier studies and over disturbances, of
    the best rank that the portfolio reaches (Feurer et al. 2020, arXiv:2007.04074, section 3.1,
    choose theirs greedily too). So it holds the best region of what agrees, and of one study alone
    its best region with some spread. The first is the best of the study that the others agree with
    most.

    Args:
        lessons: What the earlier studies teach.
        ranges: The ranges of the new study.

    Returns:
        Trial params.
    """
    candidates = _candidates(lessons)
    first = lessons[_most_agreeing(lessons, ranges)].configurations[0]
    shares = np.array([lesson.expected(ranges, candidates) for lesson in lessons])
    # (lessons, candidates, problems)
    apart = distances(ranges, candidates, candidates)
    possible = shares[:, :, None] + _disturbances(apart)
    chosen = [candidates.index(first)]
    best = possible[:, chosen[0]]
    while len(chosen) < _MOST_FIRST:
        left = np.flatnonzero(apart[chosen].min(axis=0) >= _APART)
        if not len(left):
            break
        reached = np.minimum(best[:, None], possible[:, left]).mean(axis=(0, 2))
        chosen.append(int(left[np.argmin(reached)]))
        best = np.minimum(best, possible[:, chosen[-1]])
    return [candidates[i] for i in chosen]


def was_of_no_use(trials: Sequence[FrozenTrial], direction: Any) -> bool:
    """Tell whether the first two of a portfolio's trials are both no better than the default.

    Args:
        trials: The trials that may be seen, by number.
        direction: The study's direction.
    """
    marked = [trial for trial in trials if LEARNED_KEY in trial.user_attrs][: _N_BAD + 1]
    if len(marked) <= _N_BAD or not all(trial.state.is_finished() for trial in marked):
        return False
    default, *tried = marked
    if not is_complete(default):
        return False
    sign, best = sign_of(direction), best_of(tried, direction)
    return best is None or sign * (best.value or 0.0) <= sign * (default.value or 0.0)


def is_to_learn(study_name: str, storage: BaseStorage, learn_from: Any) -> bool:
    """Tell whether a study is yet to learn from earlier ones: it is new, and has learned nothing.

    Raises:
        InvalidType: If ``learn_from`` is no list of studies.
        InvalidArgument: If it holds what no study can learn from.
        RecipeMismatch: If the names differ, or trials were begun without it.
    """
    asked = [source.study_name for source in check_sources(study_name, learn_from)]
    if not asked or study_name not in get_all_study_names(storage):
        return bool(asked)
    study = optuna.load_study(study_name=study_name, storage=storage)
    stored = study.user_attrs.get(LEARNED_KEY)
    if stored is not None and sorted(asked) != sorted(stored["learn_from"]):
        raise RecipeMismatch(
            f"Study {study_name!r} has learned from "
            f"{', '.join(map(repr, stored['learn_from']))}, asked for "
            f"{', '.join(map(repr, asked))}; nothing was changed.",
            "\nLeave `learn_from` out to resume it, or take another `study_name`.",
        )
    if stored is None and any(map(is_begun, study.get_trials(deepcopy=False))):
        raise RecipeMismatch(
            f"Study {study_name!r} has trials that were begun without `learn_from`; nothing was "
            "changed.",
            "\nLeave `learn_from` out to resume it, or take another `study_name`.",
        )
    return stored is None


def store_learned(study: Study, learned: Learned) -> None:
    """Store what a study has learned, and say so in a line."""
    for place, lesson in enumerate(learned.lessons):
        study.set_user_attr(f"{LEARNED_KEY}:{place}", lesson.to_dict())
    names = [lesson.study_name for lesson in learned.lessons]
    at = len(study.get_trials(deepcopy=False))
    stored = {"learn_from": names, "first": list(learned.first), "at": at}
    study.set_user_attr(LEARNED_KEY, stored)
    said = ", ".join(
        f"{lesson.study_name!r} ({'; '.join([_n_trials(lesson), *lesson.differences])})"
        for lesson in learned.lessons
    )
    _logger.info(
        f"Study {study.study_name!r} first tries its default and {len(learned.first) - 1} that it "
        f"learned from {said}."
    )


def enqueue_learned(study: Study) -> None:
    """Enqueue the first configurations of a study that has learned some, under their numbers.

    What was enqueued before stays, so that one who is killed here is made up for by the next.
    """
    stored = study.user_attrs.get(LEARNED_KEY)
    if stored is None:
        return
    n_trials = len(study.get_trials(deepcopy=False))
    for place, params in enumerate(stored["first"]):
        if stored["at"] + place >= n_trials:
            _optuna.enqueue_as(study, stored["at"] + place, params, {LEARNED_KEY: place})


def _n_trials(lesson: Lesson) -> str:
    n = len(lesson.configurations)
    return "1 trial" if n == 1 else f"{n} trials"


def _candidates(lessons: Sequence[Lesson]) -> list[Mapping[str, Any]]:
    """Return the better half of each study's configurations, at most thirty of each, each once."""
    found: dict[str, Mapping[str, Any]] = {}
    for lesson in lessons:
        n = min(_MOST_CANDIDATES, -(-len(lesson.configurations) // 2))
        for each in lesson.configurations[:n]:
            found.setdefault(json.dumps(each, sort_keys=True), each)
    return list(found.values())


def _most_agreeing(lessons: Sequence[Lesson], ranges: Mapping[str, BaseDistribution]) -> int:
    """Return the place of the study whose ranks the others expect best; the first among equals."""

    def agreed(mine: Lesson) -> float:
        others = [other for other in lessons if other is not mine]
        found = [agreement(o, ranges, mine.configurations, mine.shares) for o in others]
        return sum(found)

    return max(range(len(lessons)), key=lambda place: agreed(lessons[place]))


def _disturbances(apart: NDArray[np.float64]) -> NDArray[np.float64]:
    """Draw by how much new problems may differ from an earlier one, alike where near.

    Always the same draws, so that a portfolio depends on the earlier studies alone.
    """
    covariance = np.exp(-((apart / _REACH) ** 2) / 2)
    # Its root by eigenvalues: those that rounding makes negative are none.
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    draws = np.random.default_rng(0).standard_normal((len(apart), _N_PROBLEMS))
    found: NDArray[np.float64] = _DEVIATION * root @ draws
    return found
