"""What made a study, stored with it and compared before a trial is spent."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from optuna.distributions import CategoricalDistribution

from hpolab.errors import RecipeMismatch
from hpolab.seeding import derive_seed
from hpolab.studies.sampler import TrialSeededSampler
from hpolab.studies.shown import rule_of
from hpolab.studies.trials import is_begun

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

    from hpolab.search_space.space import SearchSpace

__all__ = [
    "FACTS_KEY",
    "REFERENCES_KEY",
    "REFERENCE_ROWS_PREFIX",
    "Part",
    "Recipe",
    "check_search_space",
    "describe_part",
    "read_recipe",
    "study_seed",
    "training_seed",
    "write_recipe",
]

_RECIPE_KEY = "hpolab:recipe"

# Each schema of a stored recipe, and the first hpolab that reads it. Recipes of the first one may
# stand without a number.
_SCHEMAS = {1: "0.1.0"}
_SCHEMA = max(_SCHEMAS)

FACTS_KEY = "hpolab:facts"
REFERENCES_KEY = "hpolab:references"
"""What simple solutions reach, as `Objective.references` returns it."""
REFERENCE_ROWS_PREFIX = "hpolab:reference_rows:"
"""What the scores by row of a reference are stored under, packed; its name follows."""

# Asked for by `study_seed` once a trial; a study's seed never changes.
_seeds: WeakKeyDictionary[Study, int] = WeakKeyDictionary()


@dataclass(frozen=True)
class Part:
    """A sampler or a pruner as the recipe knows it.

    Attributes:
        name: The name it was asked for by, or its class for an object or a factory.
        settings: Its effective settings, as far as they are plain numbers, strings and flags.
    """

    name: str
    settings: Mapping[str, Any]

    def __str__(self) -> str:
        settings = ", ".join(f"{key}={value!r}" for key, value in self.settings.items())
        return f"{self.name}({settings})"

    def same_as(self, other: Part) -> bool:
        """Tell whether both have one name and agree in each setting that both know.

        A later Optuna may add a setting; that alone must not stop a study from being resumed.
        """
        shared = self.settings.keys() & other.settings.keys()
        return self.name == other.name and all(
            self.settings[key] == other.settings[key] for key in shared
        )


@dataclass(frozen=True)
class Recipe:
    """Everything that made a study.

    Attributes:
        sampler: Its sampler.
        pruner: Its pruner.
        directions: "minimize" or "maximize", one for each objective value.
        seed: The study's seed.
        versions: Package name -> version, at the study's creation.
        search_space: ``SearchSpace.to_dict()`` of the objective that ran last, None before.
        exhausted: Whether the sampler has said that no point is left.
        sampler_seed: What the sampler is seeded with; None for the study's seed.
    """

    sampler: Part
    pruner: Part
    directions: tuple[str, ...]
    seed: int
    versions: Mapping[str, str]
    search_space: Mapping[str, Any] | None = None
    exhausted: bool = False
    sampler_seed: int | None = None

    def check(self, asked: Recipe, *, study_name: str, allow_change: Collection[str]) -> None:
        """Compare this recipe, a stored one, with what is asked for now.

        Args:
            asked: The recipe that the caller's arguments make.
            study_name: For the message.
            allow_change: Of "sampler" and "pruner", those that may differ.

        Raises:
            RecipeMismatch: If a part differs that must not; the message shows both sides.
        """
        differences = [
            f"{part}: stored {getattr(self, part)}, asked for {getattr(asked, part)}"
            for part in ("sampler", "pruner")
            if part not in allow_change and not getattr(self, part).same_as(getattr(asked, part))
        ]
        if self.directions != asked.directions:
            differences.append(
                f"direction: stored {', '.join(self.directions)}, "
                f"asked for {', '.join(asked.directions)}"
            )
        for name in ("seed", "sampler_seed"):
            stored, wanted = getattr(self, name), getattr(asked, name)
            if stored != wanted:
                differences.append(f"{name}: stored {stored}, asked for {wanted}")
        if differences:
            raise RecipeMismatch(
                f"Study {study_name!r} exists and was made by another recipe; nothing was "
                "changed.\n  " + "\n  ".join(differences),
                "\nGive the stored settings or leave them out, take another `study_name`, or name "
                "what may change: `allow_change=['sampler']`, `['pruner']`.",
            )


def describe_part(part: BaseSampler | BasePruner, asked: Any) -> Part:
    """Return the recipe's entry for a sampler or pruner that was made from ``asked``."""
    more: dict[str, Any] = {}
    if isinstance(part, TrialSeededSampler):
        inner = part.fresh(0)
        if rule_of(inner) is not None:
            # Not known to earlier versions, whose studies go on with a bounded set.
            more["bounded"] = part.bounded
        part = inner
    name = asked if isinstance(asked, str) else type(part).__name__
    # Samplers and pruners of Optuna keep their settings under the argument's name with an
    # underscore before it; reading whatever is there avoids a list for each of them.
    settings = {
        key.lstrip("_"): value
        for key, value in sorted(vars(part).items())
        if isinstance(value, (bool, int, float, str)) and key.lstrip("_") != "seed"
    }
    return Part(name=name, settings=settings | more)


def read_recipe(study: Study) -> Recipe | None:
    """Return the recipe stored in ``study``, or None if hpolab did not make it.

    Raises:
        RecipeMismatch: If a newer hpolab has written it.
    """
    stored = study.user_attrs.get(_RECIPE_KEY)
    if stored is None:
        return None
    schema = stored.get("schema", 1)
    if not isinstance(schema, int) or schema not in _SCHEMAS:
        raise RecipeMismatch(_newer(study.study_name, stored))
    known = {field.name: stored[field.name] for field in fields(Recipe) if field.name in stored}
    parts = {part: Part(**stored[part]) for part in ("sampler", "pruner")}
    return Recipe(**known | parts | {"directions": tuple(stored["directions"])})


def write_recipe(study: Study, recipe: Recipe) -> None:
    """Store ``recipe`` in ``study``."""
    schema = {"schema": _SCHEMA, "needs_hpolab": _SCHEMAS[_SCHEMA]}
    stored = asdict(recipe)
    if recipe.sampler_seed is None:
        del stored["sampler_seed"]  # not known to earlier versions
    study.set_user_attr(_RECIPE_KEY, stored | schema)


def _newer(study_name: str, stored: Mapping[str, Any]) -> str:
    installed, needed = version("hpolab"), stored.get("needs_hpolab")
    install = "the newest one" if needed is None else f"hpolab {needed} or newer"
    package = "hpolab" if needed is None else f"hpolab>={needed}"
    return (
        f"Study {study_name!r} was written by a newer hpolab: its recipe has schema "
        f"{stored['schema']!r}, and hpolab {installed}, which is installed here, reads schemas up "
        f"to {_SCHEMA}; nothing was changed. Install {install} (pip install --upgrade "
        f"'{package}'), or take another `study_name`."
    )


def study_seed(study: Study) -> int:
    """Return the seed of ``study``: its recipe's, or 0 for a study that hpolab did not make."""
    if study not in _seeds:
        recipe = read_recipe(study)
        _seeds[study] = 0 if recipe is None else recipe.seed
    return _seeds[study]


def training_seed(study: Study, number: int) -> int:
    """Return the seed of the training of a study's trial, running or finished."""
    return derive_seed(study_seed(study), number, "training")


def check_search_space(study: Study, search_space: SearchSpace) -> None:
    """Compare a search space with the one stored in ``study``, and store it if it may replace it.

    A range may become wider or narrower, parameters may come or go: Optuna's samplers take each.
    A changed choice list, scale, step or kind, or another fixed value, would mix values that cannot
    be compared. Sources, defaults and priors may change. A study whose trials have no params yet
    takes any space.

    Raises:
        RecipeMismatch: If a parameter's distribution or fixed value cannot follow the stored one;
            the message shows both sides.
    """
    recipe = read_recipe(study)
    if recipe is None:
        return
    asked = search_space.to_dict()
    if asked == recipe.search_space:
        return
    trials = study.get_trials(deepcopy=False)
    if recipe.search_space is not None and any(is_begun(t) or t.params for t in trials):
        stored_space = type(search_space).from_dict(recipe.search_space)
        stored = stored_space.distributions()
        differences = [
            f"{name!r}: stored {stored[name]}, asked for {distribution}"
            for name, distribution in search_space.distributions().items()
            if name in stored and not _may_follow(stored[name], distribution)
        ]
        fixed, fixed_before = _fixed_values(search_space), _fixed_values(stored_space)
        differences += [
            f"{name!r}: stored {fixed_before[name]!r}, asked for {value!r}"
            for name, value in fixed.items()
            if name in fixed_before and value != fixed_before[name]
        ]
        if differences:
            raise RecipeMismatch(
                f"Study {study.study_name!r} has trials of another search space; nothing was "
                "changed.\n  " + "\n  ".join(differences),
                "\nA range may be widened or narrowed; choices, scale, step, kind and fixed values "
                "must stay. "
                "Take another `study_name`, or delete this study (`hpolab delete`).",
            )
    write_recipe(study, replace(recipe, search_space=asked, exhausted=False))


def _fixed_values(search_space: SearchSpace) -> dict[str, Any]:
    """Return the values that are the same in each trial; none where branches may differ in them."""
    names = search_space.distributions()
    if any("." in name for name in names):
        return {}
    tuned = {search_space.trainer_name(name) for name in names}
    return {name: value for name, value in search_space.defaults().items() if name not in tuned}


def _may_follow(stored: BaseDistribution, asked: BaseDistribution) -> bool:
    if type(stored) is not type(asked):
        return False
    if isinstance(stored, CategoricalDistribution):
        return stored == asked
    return all(getattr(stored, field) == getattr(asked, field) for field in ("log", "step"))
