"""compare(): the same budget for each contender, each tuning in a study of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import optuna
from optuna.samplers import BaseSampler

from hpolab.analysis.comparison import Comparison
from hpolab.analysis.contender import TEST_KEY, TUNED_KEY
from hpolab.analysis.trained.contenders import objectives_of
from hpolab.analysis.trained.fresh_scores import FreshScores, with_metrics, with_rows
from hpolab.analysis.trained.trainings import (
    MARK_KEYS,
    as_part_of,
    check_is_free_for,
    check_min_difference,
    marks_in,
)
from hpolab.errors import (
    InvalidArgument,
    InvalidType,
    RecipeMismatch,
    StudyNotFound,
    check_count,
)
from hpolab.fingerprint import data_fingerprint
from hpolab.keywords import checks_keywords
from hpolab.running.run import RunOptions, run
from hpolab.seeding import check_seed, derive_seed
from hpolab.storage.url import open_storage
from hpolab.studies.recipe import check_search_space
from hpolab.studies.study import make_study, stored_study
from hpolab.studies.trials import is_begun

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from os import PathLike
    from typing import Unpack

    from optuna import Study
    from optuna.storages import BaseStorage

    from hpolab.objectives.base import Objective
    from hpolab.search_space.space import SearchSpace

__all__ = [
    "compare",
    "comparisons_in",
    "load_comparison",
    "studies_of_comparison",
]

_CONTENDER_KEY = MARK_KEYS["comparison"]
_TEST_DATA_KEY = "hpolab:test_data"
_MARGIN_KEY = "hpolab:min_difference"
# What the study of the trainings on fresh seeds is called behind the comparison's name.
_TRAININGS = "test-seeds"


@dataclass(frozen=True)
class _Tuning:
    """One tuning of one contender, before it is run.

    Attributes:
        contender: The contender's name.
        repeat: Which of its tunings, from 0.
        objective: What is tuned.
        study: Its study.
    """

    contender: str
    repeat: int
    objective: Objective
    study: Study

    def __str__(self) -> str:
        return f"contender {self.contender!r}" + (f", repeat {self.repeat}" * (self.repeat > 0))


@checks_keywords(RunOptions)
def compare(
    objective: Objective | None,
    contenders: Sequence[str] | Mapping[str, SearchSpace | Mapping[str, Any] | Objective],
    *,
    study_name: str,
    n_trials: int,
    storage: str | PathLike[str] | BaseStorage | None = None,
    test: Any = None,
    n_test_seeds: int = 3,
    n_repeats: int = 1,
    min_difference: float | None = None,
    sampler: Any = None,
    pruner: Any = None,
    seed: int = 0,
    **run_options: Unpack[RunOptions],
) -> Comparison:
    """Tune each contender in a study of its own, all with the same number of trials.

    Each contender has its own search space, and its default configuration as trial 0. Data, epochs
    and everything else of the objective are the same for all. Called again, a comparison resumes
    where it was, study by study.

    With one tuning each, the verdict is about the configurations that were found: another tuning
    would find others. With ``n_repeats``, it is about the contenders themselves: their mean over
    the repeats, and the probability that one outperforms another (Bouthillier et al. 2021,
    "Accounting for variance in machine learning benchmarks", MLSys; 0.75 is worth it). Both are
    about the test data at hand.

    Contenders train with the same seeds: a trial's number gives its seed in all of them. Their
    samplers draw independently, each seeded with the contender's name and the repeat, but for a
    sampler object, which keeps its own state. A comparison that an earlier version has begun goes
    on as it was begun.

    Args:
        objective: The objective that is tuned; None if the contenders are objectives. If they are
            names of optimizers, its search space has an optimizer, which each of them replaces,
            with its own space.
        contenders: Names of optimizers (`OPTIMIZERS`, `EXTRA_OPTIMIZERS`), or name -> search space,
            or name -> objective. A dict of ranges, such as ``{"lr": (1e-4, 1e-2)}``, is the
            objective's search space with these tuned and everything else at its default. Under the
            name of an optimizer, as in ``{"adadelta": {"lr": (0.1, 10.0)}}``, it is that of this
            optimizer.
        study_name: The comparison's name. A contender's study is called ``study_name-contender``,
            and those of its further tunings ``study_name-contender-repeat1`` and so on.
        n_trials: The number of trials of each tuning, 1 or above.
        storage: As in `make_study`.
        test: Data that no trial has read, as the objective's `evaluate` takes it: each contender's
            best configuration is trained again on fresh seeds and scored on it. None: no test.
        n_test_seeds: The number of fresh seeds of each tuning, the same for all contenders.
        n_repeats: The number of tunings of each contender, paired over contenders by their seeds.
            Repeat 0 is a comparison without repeats, so the number can be raised later. Choose it
            beforehand: raised until a difference is found, it finds one that is not there.
        min_difference: The smallest difference of test scores that matters: two are practically the
            same if theirs is surely smaller. None if any does.
        sampler: As in `make_study`, or contender -> sampler to compare ways of searching. A name or
            a factory where tunings are repeated.
        pruner: As in `make_study`.
        seed: Seeds all studies: their trainings, the same for all contenders, and their samplers.
        **run_options: As in `run`, such as ``n_workers``, ``fuse`` or ``callbacks``.
            ``timeout_seconds`` is that of each contender's study, and of the trainings on fresh
            seeds.

    Raises:
        InvalidArgument: If a name is unknown, or is that of an optimizer (or a loss, a boosting, a
            trainer) which the contender does not train; a space has no optimizer to replace, or a
            parameter that nothing reads; the directions of objectives differ; or tunings are to
            be repeated with a sampler object.
        InvalidType: If an argument is of the wrong type.
        RecipeMismatch: If a comparison of this name was begun with another search space, sampler,
            pruner, seed, or other data.

    Example:
        >>> from hpolab import FunctionObjective, SearchSpace
        >>> def descend(params, reporter):
        ...     return (params["x"] - 0.3) ** 2
        >>> space = SearchSpace({"x": (0.0, 1.0)})
        >>> objective = FunctionObjective(
        ...     descend, search_space=space, direction="minimize", max_steps=1
        ... )
        >>> comparison = compare(
        ...     objective,
        ...     {"whole": space, "half": space.override(x=(0.5, 1.0))},
        ...     study_name="parts", n_trials=20, storage="memory://",
        ... )
        >>> [each.name for each in comparison.ranking()]
        ['whole', 'half']
    """
    check_count("n_test_seeds", n_test_seeds)
    check_count("n_repeats", n_repeats)
    check_seed(seed)
    check_min_difference(min_difference)
    objectives = objectives_of(objective, contenders)
    _check_names(study_name, objectives, n_repeats)
    for name, each in objectives.items():
        try:
            each.check()
        except (InvalidArgument, InvalidType) as error:
            error.add_note(f"Raised for contender {name!r}.")
            raise
        _check_can_repeat(_of_contender(sampler, name), n_repeats)
    opened = open_storage(storage)
    test_data = None if test is None else data_fingerprint(test)
    opened_tuning = partial(
        _opened_tuning, study_name, storage=opened, pruner=pruner, seed=seed, test_data=test_data
    )
    # All are compared with what is stored before a trial of any is spent.
    tunings = [
        opened_tuning(name, repeat, each, sampler=_of_contender(sampler, name))
        for repeat in range(n_repeats)
        for name, each in objectives.items()
    ]
    _mark_tunings(study_name, tunings, opened, min_difference)
    for repeat in range(n_repeats):
        paired = [tuning for tuning in tunings if tuning.repeat == repeat]
        for tuning in paired:
            with as_part_of("comparison", study_name, str(tuning)):
                _run_tuning(tuning, n_trials, run_options)
        if test is not None:
            scores = FreshScores(
                study_name=_study_name(study_name, _TRAININGS, repeat),
                objectives=objectives,
                studies={tuning.contender: tuning.study for tuning in paired},
                test=test,
                n_seeds=n_test_seeds,
                seed=_seed_of(seed, repeat),
            )
            scores.run(opened, run_options)
    studies = {
        name: [tuning.study for tuning in tunings if tuning.contender == name]
        for name in objectives
    }
    found = Comparison.of(study_name, studies, min_difference=min_difference)
    return _with_rows(found, opened)


def _opened_tuning(
    study_name: str,
    contender: str,
    repeat: int,
    objective: Objective,
    *,
    storage: BaseStorage,
    sampler: Any,
    pruner: Any,
    seed: int,
    test_data: str | None,
) -> _Tuning:
    """Return a tuning with its study, new or as it is stored.

    Raises:
        RecipeMismatch: If what is stored was made otherwise.
    """
    name = _study_name(study_name, contender, repeat)
    with as_part_of("comparison", study_name, f"contender {contender!r}"):
        study = make_study(
            name,
            storage=storage,
            objective=objective,
            sampler=sampler,
            pruner=pruner,
            seed=_seed_of(seed, repeat),
            sampler_seed=_sampler_seed(name, storage, seed, contender, repeat),
        )
        check_is_free_for("comparison", study_name, study)
        check_search_space(study, objective.search_space)
        objective.check_facts(study)
        _check_test_data(study, test_data)
    return _Tuning(contender, repeat, objective, study)


def _run_tuning(tuning: _Tuning, n_trials: int, run_options: RunOptions) -> None:
    """Run a tuning, and store with it for how many trials it was finished."""
    finished = tuning.study.user_attrs.get(TUNED_KEY)
    if finished is not None and finished < n_trials:
        tuning.study.set_user_attr(TUNED_KEY, None)  # not finished until it has the new ones, too
    run(tuning.study, tuning.objective, n_trials=n_trials, **run_options)
    if finished is None or finished < n_trials:
        tuning.study.set_user_attr(TUNED_KEY, n_trials)


def _of_contender(sampler: Any, contender: str) -> Any:
    return sampler.get(contender) if isinstance(sampler, dict) else sampler


def _study_name(study_name: str, part: str, repeat: int) -> str:
    return f"{study_name}-{part}" + (f"-repeat{repeat}" if repeat else "")


def _seed_of(seed: int, repeat: int) -> int:
    """Return the seed of a repeat's trainings, which all contenders share."""
    return derive_seed(seed, "repeat", repeat) if repeat else seed


def _sampler_seed(
    name: str, storage: BaseStorage, seed: int, contender: str, repeat: int
) -> int | None:
    """Return what a tuning's sampler is seeded with; None to go on as the study has begun.

    In earlier versions all samplers had the study's seed.
    """
    if name in optuna.get_all_study_names(storage):
        trials = stored_study(name, storage).get_trials(deepcopy=False)
        if any(map(is_begun, trials)):
            return None
    return derive_seed(seed, "sampler", contender, repeat)


def _check_names(study_name: str, contenders: Iterable[str], n_repeats: int) -> None:
    """Refuse contenders whose studies would have one name."""
    owners: dict[str, str] = {}
    for repeat in range(n_repeats):
        parts = [(f"contender {each!r}", each) for each in contenders]
        for owner, part in (*parts, ("the trainings on test data", _TRAININGS)):
            name = _study_name(study_name, part, repeat)
            if owners.setdefault(name, owner) != owner:
                raise InvalidArgument(
                    "`contenders` must have names whose studies differ, got a study called "
                    f"{name!r} for {owners[name]} and for {owner}."
                )


def _check_can_repeat(sampler: Any, n_repeats: int) -> None:
    """Refuse repeats with a sampler object, whose state would be that of each repeat."""
    if n_repeats > 1 and isinstance(sampler, BaseSampler):
        raise InvalidArgument(
            "`sampler` must be a name or a factory where tunings are repeated, got a "
            f"{type(sampler).__name__} object: workers would draw the same in each repeat. Give "
            "its class, or functools.partial of it with the settings."
        )


def _mark_tunings(
    study_name: str,
    tunings: Sequence[_Tuning],
    storage: BaseStorage,
    min_difference: float | None,
) -> None:
    """Store with each study whose tuning it is; what a mistaken call has left is removed.

    Raises:
        RecipeMismatch: If a study has trials of another contender, whose name ends as that of a
            repeat.
    """
    contenders = {tuning.contender for tuning in tunings}
    for name, mark in marks_in(storage, "comparison").items():
        mine = mark["comparison"] == study_name and mark["contender"] not in contenders
        if mine and not any(map(is_begun, stored_study(name, storage).get_trials(deepcopy=False))):
            optuna.delete_study(study_name=name, storage=storage)
    places = list(dict.fromkeys(tuning.contender for tuning in tunings))
    marks = []
    for tuning in tunings:
        place = places.index(tuning.contender)
        mark = {"comparison": study_name, "contender": tuning.contender, "place": place}
        if tuning.repeat:
            mark["repeat"] = tuning.repeat
        stored = tuning.study.user_attrs.get(_CONTENDER_KEY, mark)
        is_other = _of(stored) != _of(mark)
        if is_other and any(map(is_begun, tuning.study.get_trials(deepcopy=False))):
            raise RecipeMismatch(
                f"Study {tuning.study.study_name!r} has trials of contender "
                f"{stored['contender']!r}; nothing was changed. Give {tuning.contender!r} another "
                "name."
            )
        if tuning.study.user_attrs.get(_CONTENDER_KEY) != mark:
            marks.append((tuning.study, mark))
    for study, mark in marks:
        study.set_user_attr(_CONTENDER_KEY, mark)
    for tuning in tunings:
        if tuning.study.user_attrs.get(_MARGIN_KEY) != min_difference:
            tuning.study.set_user_attr(_MARGIN_KEY, min_difference)


def _of(mark: Mapping[str, Any]) -> tuple[str, int]:
    """Return which tuning a mark says."""
    return mark["contender"], mark.get("repeat", 0)


def comparisons_in(storage: BaseStorage) -> list[str]:
    """Return the names of a storage's comparisons, sorted."""
    return sorted({mark["comparison"] for mark in marks_in(storage, "comparison").values()})


def studies_of_comparison(study_name: str, storage: BaseStorage) -> list[str]:
    """Return the names of a comparison's studies: of its tunings, and of the trainings on tests.

    Args:
        study_name: The comparison's name.
        storage: An open storage.
    """
    marks = marks_in(storage, "comparison")
    found = {name: mark for name, mark in marks.items() if mark["comparison"] == study_name}
    names = optuna.get_all_study_names(storage)
    repeats = sorted({repeat for _, repeat in map(_of, found.values())})
    trainings = [_study_name(study_name, _TRAININGS, repeat) for repeat in repeats]
    return [*found, *(name for name in trainings if name in names)]


def _check_test_data(study: Study, test_data: str | None) -> None:
    """Refuse scores on other test data than a contender has.

    Raises:
        RecipeMismatch: If it has some.
    """
    stored = study.user_attrs.get(_TEST_DATA_KEY)
    if test_data is None or stored == test_data:
        return
    if stored is not None and study.user_attrs.get(TEST_KEY):
        raise RecipeMismatch(
            f"Study {study.study_name!r} has scores on other test data; nothing was changed.\n  "
            f"`test`: stored {stored!r}, asked for {test_data!r}"
        )
    study.set_user_attr(_TEST_DATA_KEY, test_data)


@checks_keywords()
def load_comparison(
    study_name: str, *, storage: str | PathLike[str] | BaseStorage | None = None
) -> Comparison:
    """Return a comparison as it stands in a storage, without running anything.

    Args:
        study_name: The comparison's name.
        storage: As in `make_study`.

    Raises:
        StudyNotFound: If the storage has no study of such a comparison.
    """
    opened = open_storage(storage, create=False)
    found = {
        (mark["place"], *_of(mark)): name
        for name, mark in marks_in(opened, "comparison").items()
        if mark["comparison"] == study_name
    }
    if not found:
        raise StudyNotFound(f"No comparison {study_name!r} in the storage.")
    studies: dict[str, list[Study]] = {}
    for place, contender, repeat in sorted(found):
        name = found[place, contender, repeat]
        studies.setdefault(contender, []).append(stored_study(name, opened))
    margin = next(iter(studies.values()))[0].user_attrs.get(_MARGIN_KEY)
    return _with_rows(Comparison.of(study_name, studies, min_difference=margin), opened)


def _with_rows(found: Comparison, storage: BaseStorage) -> Comparison:
    """Return a comparison with what is known of its trainings on fresh seeds beside the scores."""
    names = optuna.get_all_study_names(storage)
    for repeat in range(max(len(each.tunings) for each in found.contenders.values())):
        trainings = _study_name(found.study_name, _TRAININGS, repeat)
        if trainings in names:
            study = stored_study(trainings, storage)
            found = with_metrics(with_rows(found, study) if repeat == 0 else found, study, repeat)
    return found
