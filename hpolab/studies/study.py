"""make_study and load_study: name, storage URL, sampler and pruner -> ``optuna.Study``."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import optuna
from optuna.exceptions import DuplicatedStudyError
from optuna.storages import get_storage
from optuna.study import StudyDirection, get_all_study_names

from hpolab.errors import (
    InvalidArgument,
    InvalidType,
    RecipeMismatch,
    StudyNotFound,
    check_text,
    hint,
    one_of,
)
from hpolab.keywords import checks_keywords
from hpolab.search_space.space import SearchSpace, as_space
from hpolab.seeding import check_seed
from hpolab.storage.url import open_storage
from hpolab.studies.learning import enqueue_learned, is_to_learn, learn, store_learned
from hpolab.studies.pruner import make_pruner
from hpolab.studies.recipe import (
    Part,
    Recipe,
    describe_part,
    read_recipe,
    write_recipe,
)
from hpolab.studies.sampler import EARLIER_SAMPLERS, make_sampler
from hpolab.studies.trials import as_direction, is_begun
from hpolab.studies.versions import current_versions

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from os import PathLike

    from optuna import Study
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage

    from hpolab.studies.sampler import SamplerFactory

__all__ = [
    "COPY_KEY",
    "load_study",
    "make_study",
    "post_studies_of",
    "post_study_name",
    "stored_study",
    "without_post_studies",
]

COPY_KEY = "hpolab:copy"
"""What a copied study remembers of it; `copy_study` writes it, half copies are refused by it."""

# As `post_study_name` makes them.
_POST_STUDY = re.compile(r"(.+)(-trial\d+-post(?:-.+)?)")

# How long another worker may take from a study's creation to its recipe: two writes.
_CREATION_SECONDS = 1.0

_CHANGEABLE = ("sampler", "pruner")
_DEFAULT_DIRECTIONS = ("minimize",)


@runtime_checkable
class StudiedObjective(Protocol):
    """What a study takes from an hpolab objective."""

    search_space: SearchSpace
    direction: str
    default_sampler: str
    default_pruner: str


@checks_keywords()
def make_study(
    study_name: str,
    *,
    objective: StudiedObjective | None = None,
    storage: str | PathLike[str] | BaseStorage | None = None,
    direction: str | StudyDirection | Sequence[str | StudyDirection] | None = None,
    sampler: str | BaseSampler | SamplerFactory | None = None,
    pruner: str | BasePruner | None = None,
    search_space: SearchSpace | Mapping[str, Any] | None = None,
    seed: int | None = None,
    sampler_seed: int | None = None,
    allow_change: Collection[str] = (),
    learn_from: Sequence[Study] = (),
) -> Study:
    """Create a study, or resume the one that exists under its name.

    The study stores its recipe: sampler and pruner with their effective settings, direction, seed
    and versions. If the study exists, an argument left out means "as stored", and one that differs
    from the stored recipe is an error before a trial is spent. A study of which no trial was begun
    takes what it is asked for; trials that are enqueued in it stay.

    Args:
        study_name: The study's name, unique in its storage.
        objective: An hpolab objective. The direction, the search space and, for a new study, the
            sampler and the pruner are the objective's, unless they are given.
        storage: A URL (``sqlite:///file.db``, ``journal:///file.log``, ``redis://host:port/db``,
            ``postgresql://…``, ``mysql://…``, ``grpc://host:port``, ``memory://``), the path of a
            file that ends in ``.db`` or ``.log``, an Optuna storage, or None for that of the
            environment variable HPOLAB_STORAGE, and without it for ``sqlite:///hpolab.db``.
        direction: "minimize" or "maximize", Optuna's ``StudyDirection`` for them, or a sequence of
            such for several objective values.
            New studies minimize by default, as Optuna's do.
        sampler: A name (`auto`, `tpe`, `random`, `cmaes`, `gp`, `nsga2`, `brute_force`, `stepwise`,
            `qmc`, `grid`, `manual`), a factory called as ``factory(seed=...)`` such as
            ``TPESampler`` or ``functools.partial(TPESampler, multivariate=True)``, or a sampler
            object. New studies take `tpe` by default. By name or factory a resumed study repeats
            the uninterrupted one; an object keeps its own random state and does not.
        pruner: A name (`none`, `median`, `hyperband`, `asha`, `halving`, `patient`, `wilcoxon`,
            `race`) or a pruner object. New studies take `median` by default, as Optuna's do; those
            of several objective values `none`.
        search_space: What `sampler="grid"` lays its points on, or a dict of ranges for it.
        seed: Seeds the sampler and, through the trial's number, each training. 0 by default.
        sampler_seed: Seeds the sampler in the place of ``seed``, so that studies whose trainings
            share their seeds draw other configurations. A sampler object keeps its own.
        allow_change: Of "sampler" and "pruner", what may differ from the stored recipe.
        learn_from: Earlier studies, hpolab's or Optuna's, in any storage, that share parameters
            with a new study, whatever their objective. Its trial 0 tries the default of its search
            space, and the next ones at most five configurations that were good in them, before the
            sampler begins. In `run`, once the first two are no better than the default, the others
            are left to the sampler. Ranks count, not values; what differs between the search
            spaces is logged. The study stores it, so that a resumed one needs not be given it.

    Returns:
        A plain ``optuna.Study``.

    Raises:
        InvalidArgument: If an argument is out of its range or its set of names.
        InvalidType: If an argument is of the wrong type.
        RecipeMismatch: If the study exists and was made by another recipe, has learned from other
            studies than ``learn_from``, or was written by a newer hpolab.
        StudyNotFound: If the study exists as a copy that was interrupted.
        StorageUnavailable: If the storage cannot be opened.
        MissingExtra: If the storage or the sampler needs a package that is not installed.

    Example:
        >>> study = make_study("squares", storage="memory://", sampler="random", seed=1)
        >>> study.optimize(lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=3)
        >>> len(study.trials)
        3

        A study that begins with what was good in the one before:

        >>> second = make_study(
        ...     "cubes", storage="memory://", search_space={"x": (-1.0, 1.0)}, learn_from=[study]
        ... )
        >>> second.optimize(lambda trial: abs(trial.suggest_float("x", -1, 1)) ** 3, n_trials=3)
        >>> second.trials[0].params, second.trials[1].params == study.best_params
        ({'x': 0.0}, True)
    """
    if search_space is not None:
        search_space = as_space("search_space", search_space)
    _check_arguments(study_name, allow_change)
    seed = None if seed is None else check_seed(seed)
    sampler_seed = None if sampler_seed is None else check_seed(sampler_seed, "sampler_seed")
    if objective is not None:
        _check_objective(objective)
        direction = objective.direction if direction is None else direction
        search_space = objective.search_space if search_space is None else search_space
    directions = None if direction is None else _directions(direction)
    # With Optuna's cache, so that no step below reads a long study anew.
    opened = get_storage(open_storage(storage))
    stored = _stored_recipe(study_name, opened, directions or _DEFAULT_DIRECTIONS)
    if stored is not None:
        sampler = _as_stored("sampler", sampler, stored.sampler)
        pruner = _as_stored("pruner", pruner, stored.pruner)
        directions = stored.directions if directions is None else directions
        seed = stored.seed if seed is None else seed
        sampler_seed = stored.sampler_seed if sampler_seed is None else sampler_seed
        if search_space is None and stored.search_space is not None:
            search_space = SearchSpace.from_dict(stored.search_space)
    directions = directions or _DEFAULT_DIRECTIONS
    asked_sampler = _default_sampler(objective) if sampler is None else sampler
    asked_pruner = _default_pruner(objective, directions) if pruner is None else pruner
    made_sampler = make_sampler(
        _as_made(asked_sampler, stored),
        seed=(seed or 0) if sampler_seed is None else sampler_seed,
        search_space=search_space,
    )
    made_pruner = make_pruner(asked_pruner)
    recipe = Recipe(
        sampler=describe_part(made_sampler, asked_sampler),
        pruner=describe_part(made_pruner, asked_pruner),
        directions=directions,
        seed=seed or 0,
        versions=current_versions(),
        # A grid is laid on it: whoever resumes the study needs not give it again.
        search_space=None if search_space is None else search_space.to_dict(),
        sampler_seed=sampler_seed,
    )
    learned = None
    if is_to_learn(study_name, opened, learn_from):
        learned = learn(
            study_name,
            learn_from,
            search_space=search_space,
            directions=directions,
            sampler=recipe.sampler.name,
        )
    if stored is None:
        check_text("`study_name`", study_name)
        stored = _created(study_name, opened, recipe)
    elif recipe != stored and _make_way(study_name, opened, directions):
        stored = _replaced(study_name, opened, recipe)
    stored.check(recipe, study_name=study_name, allow_change=allow_change)
    study = optuna.load_study(
        study_name=study_name, storage=opened, sampler=made_sampler, pruner=made_pruner
    )
    followed = _followed(stored, recipe, allow_change)
    if followed != stored:
        write_recipe(study, followed)
    if learned is not None:
        store_learned(study, learned)
    enqueue_learned(study)
    return study


def _created(study_name: str, storage: BaseStorage, recipe: Recipe) -> Recipe:
    """Create a study with its recipe, or return that of a worker that creates it in this instant.

    Optuna's gRPC server forgets what it knows of a study's trials when the call that creates the
    study returns, so nobody may use it before; its worker writes the recipe after that.
    """
    directions = [StudyDirection[name.upper()] for name in recipe.directions]
    try:
        study = optuna.create_study(study_name=study_name, storage=storage, directions=directions)
    except DuplicatedStudyError:
        study = optuna.load_study(study_name=study_name, storage=storage)
        deadline = time.monotonic() + _CREATION_SECONDS
        while time.monotonic() < deadline:
            theirs = read_recipe(study)
            if theirs is not None:
                return theirs
            time.sleep(0.01)
    write_recipe(study, recipe)
    return recipe


def _replaced(study_name: str, storage: BaseStorage, recipe: Recipe) -> Recipe:
    """Give a study of which no trial was begun another recipe."""
    study = optuna.create_study(
        study_name=study_name,
        storage=storage,
        directions=[StudyDirection[name.upper()] for name in recipe.directions],
        load_if_exists=True,
    )
    write_recipe(study, recipe)
    return recipe


def _followed(stored: Recipe, asked: Recipe, allow_change: Collection[str]) -> Recipe:
    """Return the stored recipe with what the one that is asked for may change in it."""
    followed = stored
    if allow_change:
        followed = replace(followed, sampler=asked.sampler, pruner=asked.pruner)
        if not asked.sampler.same_as(stored.sampler):
            followed = replace(followed, exhausted=False)
    if asked.sampler.name == "grid" and asked.search_space != stored.search_space:
        # Another grid has other points.
        followed = replace(followed, search_space=asked.search_space, exhausted=False)
    return followed


@checks_keywords()
def load_study(
    study_name: str,
    *,
    storage: str | PathLike[str] | BaseStorage | None = None,
    sampler: str | BaseSampler | SamplerFactory | None = None,
    pruner: str | BasePruner | None = None,
) -> Study:
    """Load a study: one of hpolab's as it was made, or one of plain Optuna's.

    Args:
        study_name: The study's name.
        storage: As in `make_study`.
        sampler: As in `make_study`. None: as the study was made; a study that hpolab did not make
            gets Optuna's default.
        pruner: As in `make_study`; None as for the sampler.

    Returns:
        A plain ``optuna.Study``.

    Raises:
        StudyNotFound: If the storage has no study of that name, or a copy that was interrupted, or
            there is no storage yet (`StorageNotFound`).
        RecipeMismatch: If hpolab made the study with another sampler or pruner than is asked for,
            or with an object, which must be given again; or a newer hpolab has written it.
        StorageUnavailable: If the storage cannot be opened.

    Example:
        >>> import optuna
        >>> storage = optuna.storages.InMemoryStorage()
        >>> _ = make_study("squares", storage=storage, sampler="random")
        >>> str(load_study("squares", storage=storage).sampler)
        'TrialSeededSampler(RandomSampler, seed=0)'

        A study of plain Optuna's, with another pruner:

        >>> _ = optuna.create_study(study_name="old", storage=storage)
        >>> study = load_study("old", storage=storage, pruner="hyperband")
        >>> isinstance(study.pruner, optuna.pruners.HyperbandPruner)
        True
    """
    opened = get_storage(open_storage(storage, create=False))
    study = stored_study(study_name, opened)
    if read_recipe(study) is not None:
        return make_study(study_name, storage=opened, sampler=sampler, pruner=pruner)
    return optuna.load_study(
        study_name=study_name,
        storage=opened,
        sampler=None if sampler is None else make_sampler(sampler, seed=0),
        pruner=None if pruner is None else make_pruner(pruner),
    )


def stored_study(study_name: str, storage: BaseStorage) -> Study:
    """Return a study to read, whatever it was made with: its sampler is Optuna's default.

    Raises:
        StudyNotFound: If the storage has no study of that name, or a copy that was interrupted.
    """
    if not isinstance(study_name, str):
        raise InvalidType(f"`study_name` must be a str, got {type(study_name).__name__}.")
    names = get_all_study_names(storage)
    if study_name not in names:
        listed = ", ".join(repr(name) for name in sorted(names)) or "no study"
        raise StudyNotFound(
            f"No study {study_name!r}; the storage has {listed}.{hint(study_name, names)}"
        )
    study = optuna.load_study(study_name=study_name, storage=storage)
    _refuse_half_copy(study)
    return study


def post_study_name(study_name: str, number: int, suffix: str = "") -> str:
    """Return the name of the study that tunes the post-processing parameters of a trial.

    Example:
        >>> post_study_name("detector", 7, "-a")
        'detector-trial7-post-a'
    """
    return f"{study_name}-trial{number}-post{suffix}"


def post_studies_of(study_name: str, study_names: Iterable[str]) -> dict[str, str]:
    """Return the studies that belong to trials of one: their names, and what makes them differ.

    Example:
        >>> post_studies_of("detector", ["detector", "detector-trial7-post", "other-trial1-post"])
        {'detector-trial7-post': '-trial7-post'}
    """
    found = {name: _POST_STUDY.fullmatch(name) for name in study_names}
    return {name: match[2] for name, match in found.items() if match and match[1] == study_name}


def without_post_studies(study_names: Iterable[str]) -> list[str]:
    """Return the names but for those of studies that belong to a trial of another.

    Example:
        >>> without_post_studies(["detector", "detector-trial7-post", "other-trial1-post"])
        ['detector', 'other-trial1-post']
    """
    names = list(study_names)
    found = {name: _POST_STUDY.fullmatch(name) for name in names}
    return [name for name, match in found.items() if match is None or match[1] not in names]


def _check_objective(objective: Any) -> None:
    if not isinstance(objective, StudiedObjective):
        raise InvalidType(
            "`objective` must be an objective of hpolab's, which knows its direction, got "
            f"{type(objective).__name__}: a function is given to `run` alone."
        )


def _default_sampler(objective: StudiedObjective | None) -> str:
    return "tpe" if objective is None else objective.default_sampler


def _as_made(
    asked: str | BaseSampler | SamplerFactory, stored: Recipe | None
) -> str | BaseSampler | SamplerFactory:
    """Return what a sampler's name stood for when the study was made."""
    if not isinstance(asked, str) or stored is None or asked not in EARLIER_SAMPLERS:
        return asked
    earlier = EARLIER_SAMPLERS[asked]
    return earlier if describe_part(earlier(seed=0), asked).same_as(stored.sampler) else asked


def _default_pruner(objective: StudiedObjective | None, directions: Sequence[str]) -> str:
    if objective is not None:
        return objective.default_pruner
    return "median" if len(directions) == 1 else "none"


def _check_arguments(study_name: str, allow_change: Collection[str]) -> None:
    if not isinstance(study_name, str):
        raise InvalidType(f"`study_name` must be a str, got {type(study_name).__name__}.")
    if not study_name:
        raise InvalidArgument("`study_name` must not be empty, got ''.")
    check_text("`study_name`", study_name, is_new=False)
    if isinstance(allow_change, str):
        raise InvalidType(f"`allow_change` must be a list of names, got {allow_change!r}.")
    for part in allow_change:
        one_of("allow_change", part, _CHANGEABLE)


def _directions(
    direction: str | StudyDirection | Sequence[str | StudyDirection],
) -> tuple[str, ...]:
    if isinstance(direction, str | StudyDirection):
        direction = (direction,)
    if not isinstance(direction, Iterable):
        raise InvalidType(
            "`direction` must be 'minimize', 'maximize' or a sequence of them, got "
            f"{type(direction).__name__}."
        )
    directions = tuple(direction)
    if not directions:
        raise InvalidArgument("`direction` must name at least one direction, got none.")
    return tuple(as_direction("direction", each) for each in directions)


def _stored_recipe(
    study_name: str, storage: BaseStorage, directions: tuple[str, ...]
) -> Recipe | None:
    """Return the recipe of the study that exists, or None where a new one may be written."""
    if study_name not in get_all_study_names(storage):
        return None
    study = stored_study(study_name, storage)
    recipe = read_recipe(study)
    if recipe is not None:
        return recipe
    n_trials = len(study.get_trials(deepcopy=False))
    if n_trials:
        # Another worker may have written it since, as it does before any trial.
        recipe = read_recipe(study)
    # A study without a trial may be our own, killed between its creation and its recipe.
    same = _names(study.directions) == directions
    if recipe is None and (n_trials or not same):
        raise RecipeMismatch(
            f"Study {study_name!r} exists ({', '.join(_names(study.directions))}; {n_trials} "
            "trials) and hpolab did not make it; nothing was changed.",
            " `load_study` opens it, with the `sampler` and `pruner` that you give; or take "
            "another `study_name`.",
        )
    return recipe


def _make_way(study_name: str, storage: BaseStorage, directions: tuple[str, ...]) -> bool:
    """Tell whether a study that exists may get another recipe, as no trial of it was begun.

    A storage keeps a study's directions for good, so one of others is deleted to be made anew, if
    nobody has enqueued a trial in it.
    """
    study = optuna.load_study(study_name=study_name, storage=storage)
    trials = study.get_trials(deepcopy=False)
    if any(map(is_begun, trials)):
        return False
    if _names(study.directions) != directions:
        if trials:
            return False
        optuna.delete_study(study_name=study_name, storage=storage)
    return True


def _refuse_half_copy(study: Study) -> None:
    copied = study.user_attrs.get(COPY_KEY)
    if copied is not None and not copied["done"]:
        n_trials = len(study.get_trials(deepcopy=False))
        raise StudyNotFound(
            f"Study {study.study_name!r} is half a copy of {copied['study_name']!r} from "
            f"{copied['storage']}: {n_trials} of {copied['n_trials']} trials. Copy it again "
            "(`hpolab copy`), which replaces this half."
        )


def _names(directions: Sequence[StudyDirection]) -> tuple[str, ...]:
    return tuple(direction.name.lower() for direction in directions)


def _as_stored(argument: str, asked: Any, stored: Part) -> Any:
    if asked is not None:
        return asked
    if stored.name[:1].isupper():
        raise RecipeMismatch(
            f"The study was made with a {stored.name} given as an object, not by name: give "
            f"`{argument}` to `make_study` again."
        )
    return stored.name
