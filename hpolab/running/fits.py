"""Whether an objective fits its study: its data, its facts, its search space under the sampler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna.distributions import CategoricalDistribution, FloatDistribution

from hpolab.errors import InvalidArgument
from hpolab.running.enqueued import settle_enqueued
from hpolab.search_space.reach import conditions_of
from hpolab.studies.auto import AutoSampler
from hpolab.studies.pruner import with_max_resource
from hpolab.studies.recipe import check_search_space, read_recipe

if TYPE_CHECKING:
    from optuna import Study

    from hpolab.objectives.base import Objective
    from hpolab.search_space.space import SearchSpace

__all__ = ["fit_objective"]


def fit_objective(study: Study, objective: Objective) -> None:
    """Refuse an objective that does not fit its study or its data; fit sampler and pruner to it.

    Raises:
        HpolabError: If it does not fit; no trial is spent.
    """
    objective.check_direction(study)
    objective.check()
    check_search_space(study, objective.search_space)
    objective.check_facts(study)
    settle_enqueued(study, objective.search_space)
    if isinstance(study.sampler, AutoSampler):
        study.sampler = study.sampler.with_search_space(objective.search_space)
    recipe = read_recipe(study)
    if recipe is None:
        return
    _check_countable(recipe.sampler.name, objective.search_space)
    _check_modeled(recipe.sampler.name, objective.search_space)
    if recipe.pruner.name == "hyperband":
        study.pruner = with_max_resource(objective.max_steps)


def _check_modeled(sampler: str, search_space: SearchSpace) -> None:
    """Refuse a sampler that would draw every number of a space at random, as if it were `random`.

    CMA-ES needs two numbers that all trials have. The GP models what all trials have: of a space
    whose numbers all belong to branches, the choice alone.
    """
    needed = {"cmaes": 2, "CmaEsSampler": 2, "gp": 1, "GPSampler": 1}.get(sampler, 0)
    if needed == 0 or (needed == 1 and not search_space.conditional):
        return
    conditions = conditions_of(search_space)
    shared = [
        name
        for name, each in search_space.distributions().items()
        if not (isinstance(each, CategoricalDistribution) or each.single() or conditions[name])
    ]
    if len(shared) < needed:
        raise InvalidArgument(
            f"`sampler={sampler!r}` needs a search space with {needed} or more numbers that every "
            f"trial has, got {shared}: it would draw all others at random. Take 'auto' or 'tpe'."
        )


def _check_countable(sampler: str, search_space: SearchSpace) -> None:
    """Refuse a range without a step under brute force, which tries every point."""
    if sampler not in ("brute_force", "BruteForceSampler"):
        return
    for name, each in search_space.distributions().items():
        if isinstance(each, FloatDistribution) and each.step is None and not each.single():
            raise InvalidArgument(
                f"`sampler='brute_force'` needs a range that can be counted, got {each} for "
                f"{name!r}: give it a step, as FloatDistribution(low, high, step=...), or a list "
                "of choices."
            )
