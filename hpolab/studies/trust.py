"""How far to trust earlier studies: as far as they foresee how a new one's trials rank."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from optuna.distributions import CategoricalDistribution

from hpolab.search_space.places import position
from hpolab.studies.lessons import Lesson, rank_shares

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna import Study
    from optuna.distributions import BaseDistribution

__all__ = ["LEARNED_KEY", "Weighted", "agreement", "learned_prior", "with_learned"]

LEARNED_KEY = "hpolab:learned"
"""Of a study: whom it has learned from, and its first configurations; of a trial: its place there.

What each earlier study teaches is stored under the same key with its place behind it.
"""

# Of a range: what is learned from few trials is no more exact.
_NARROWEST = 0.05
# Pairs of values that count as much as the doubt about an earlier study.
_DOUBT = 5.0
# What `learned_prior` gives of each earlier study.
_TOP_SHARE, _MOST_TOP, _LEAST_TOP = 0.2, 20, 5


class Weighted(NamedTuple):
    """An earlier study's best configurations, and how far to trust them.

    Attributes:
        weight: From 0, it has nothing to say, towards 1.
        configurations: Trial params of the new study's space, the best first.
    """

    weight: float
    configurations: list[Mapping[str, Any]]


def agreement(
    lesson: Lesson,
    ranges: Mapping[str, BaseDistribution],
    configurations: Sequence[Mapping[str, Any]],
    shares: Sequence[float],
) -> float:
    """Return Kendall's tau between what a study expects of configurations and what they reached.

    Args:
        lesson: What the earlier study teaches.
        ranges: The ranges of the new study.
        configurations: Trial params.
        shares: The rank of each among them.

    Returns:
        From -1 to 1; 0 where either side has one value alone.
    """
    from scipy.stats import kendalltau

    if len(configurations) < 2:
        return 0.0
    tau = kendalltau(lesson.expected(ranges, configurations), shares).statistic
    return 0.0 if np.isnan(tau) else float(tau)


def learned_prior(study: Study, ranges: Mapping[str, BaseDistribution]) -> list[Weighted]:
    """Return the best configurations of each study that one has learned from, with their weights.

    A weight is Kendall's tau between the ranks that the earlier study expects and those of the
    trials so far, cut at 0 and shrunken while they are few: tau n / (n + 5). It depends on what the
    storage holds and on nothing else.

    Args:
        study: A study that `make_study(..., learn_from=...)` has made, or what a trial may see of
            it; any other has learned nothing.
        ranges: The study's search space.
    """
    lessons = _stored_lessons(study)
    if not lessons:
        return []
    trials, shares = rank_shares(study.get_trials(deepcopy=False), study.direction)
    params = [trial.params for trial in trials]
    found = []
    for lesson in lessons:
        tau = agreement(lesson, ranges, params, shares)
        weight = max(0.0, tau) * len(params) / (len(params) + _DOUBT)
        found.append(Weighted(weight, _top(lesson)))
    return found


def _stored_lessons(study: Study) -> list[Lesson]:
    attrs = study.user_attrs
    names = attrs.get(LEARNED_KEY, {"learn_from": []})["learn_from"]
    return [Lesson.from_dict(attrs[f"{LEARNED_KEY}:{place}"]) for place in range(len(names))]


def _top(lesson: Lesson) -> list[Mapping[str, Any]]:
    share = round(_TOP_SHARE * len(lesson.configurations))
    return list(lesson.configurations[: min(_MOST_TOP, max(_LEAST_TOP, share))])


def with_learned(
    priors: Mapping[str, tuple[float, float]], study: Study, ranges: Mapping[str, BaseDistribution]
) -> dict[str, tuple[float, float]]:
    """Return priors together with what earlier studies say: the product of the normal densities.

    What an earlier study says of a parameter is the mean of its best configurations and their
    standard deviation, with the study's weight as a power.

    Args:
        priors: Name -> mean and standard deviation where the range is 0 to 1.
        study: The study.
        ranges: Its search space.
    """
    found = {name: [each] for name, each in priors.items()}
    for weight, configurations in learned_prior(study, ranges):
        for name, distribution in ranges.items():
            values = [each[name] for each in configurations if name in each]
            is_number = not isinstance(distribution, CategoricalDistribution)
            if weight > 0 and is_number and len(values) > 1:
                places = [position(distribution, value) for value in values]
                spread = max(statistics.stdev(places), _NARROWEST) / math.sqrt(weight)
                found.setdefault(name, []).append((statistics.fmean(places), spread))
    return {name: _product(each) for name, each in found.items()}


def _product(normals: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the mean and standard deviation of a product of normal densities."""
    precision = sum(std**-2 for _, std in normals)
    return sum(mean * std**-2 for mean, std in normals) / precision, precision**-0.5
