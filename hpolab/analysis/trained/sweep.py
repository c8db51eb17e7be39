"""sweep(): one stage after another, as people tune by hand, each from the best so far."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from hpolab.errors import InvalidArgument, InvalidType, StudyNotFound
from hpolab.keywords import checks_keywords
from hpolab.objectives.base import Objective
from hpolab.running.run import run
from hpolab.storage.url import open_storage
from hpolab.studies.export import trainer_params
from hpolab.studies.study import make_study, stored_study

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna import Study
    from optuna.storages import BaseStorage

    from hpolab.search_space.space import SearchSpace

__all__ = ["SETTINGS", "Stage", "Sweep", "Tried", "load_sweep", "sweep"]

_SWEEP_KEY = "hpolab:sweep"

SETTINGS = ("max_steps", "patience")
"""What a stage may vary besides parameters: how long an objective trains, and how patiently."""


@dataclass(frozen=True)
class Tried:
    """One configuration of a stage.

    Attributes:
        changed: What the stage set, name -> value.
        params: The whole configuration, in the trainer's units, without the settings.
        settings: The objective's settings that a stage has set.
        value: Its value; None if the trial has none.
        study_name: The study that holds it.
        number: Its trial's number there.
    """

    changed: Mapping[str, Any]
    params: Mapping[str, Any]
    settings: Mapping[str, Any]
    value: float | None
    study_name: str
    number: int


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: Its name.
        tried: All that it tried, in order.
        best: The best of it; None if nothing succeeded.
        studies: Its studies: several where it tries settings.
    """

    name: str
    tried: tuple[Tried, ...]
    best: Tried | None
    studies: tuple[Study, ...] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Sweep:
    """What a sweep has found; ``str()`` of it is one table a stage.

    Attributes:
        name: Its name.
        direction: "minimize" or "maximize".
        stages: In order.
        best: The best configuration of all.
    """

    name: str
    direction: str
    stages: tuple[Stage, ...]
    best: Tried

    def __str__(self) -> str:
        return "\n\n".join(
            "\n".join([stage.name, *(_line(tried, stage.best) for tried in stage.tried)])
            for stage in self.stages
        )


@checks_keywords()
def sweep(
    objective: Objective,
    stages: Mapping[str, Mapping[str, Sequence[Any]]],
    *,
    storage: str | BaseStorage | None = None,
    name: str = "sweep",
    start: Mapping[str, Any] | None = None,
    seed: int = 0,
    n_workers: int = 1,
    show_progress_bar: bool | None = None,
) -> Sweep:
    """Try values stage by stage, all else being the best found so far.

    Each stage is a grid over what it names, in a study of its own called ``name-stage``; started
    again, a sweep goes on where it was. A stage that brings nothing better leaves things as they
    are. What it costs is the sum of the stages' grids; what it misses is every pair of parameters
    that only pays together and is not in one stage.

    Args:
        objective: What is trained; its space says what a sweep starts from, its defaults.
        stages: Stage -> parameter -> values to try, in the trainer's units; several parameters of
            a stage are tried in all combinations. A choice, such as the optimizer, tries each
            branch at its defaults. `SETTINGS` of the objective may be named too.
        storage: As in `make_study`.
        name: The sweep's name.
        start: Where to start: parameter -> value, for those that differ from the defaults.
        seed: Seeds all trainings.
        n_workers: Processes to run trials in.
        show_progress_bar: As in `run`.

    Raises:
        InvalidArgument: If a stage is empty or names what is neither parameter nor setting, or no
            trial of the first stage succeeds.
        InvalidType: If ``objective`` is no objective.

    Example:
        >>> from hpolab import FunctionObjective
        >>> from hpolab import SearchSpace
        >>> def loss(params, reporter):
        ...     return (params["x"] - 3) ** 2 + (params["y"] - 1) ** 2
        >>> space = SearchSpace({"x": (0.0, 9.0), "y": (0.0, 9.0)})
        >>> objective = FunctionObjective(
        ...     loss, search_space=space, direction="minimize", max_steps=1
        ... )
        >>> found = sweep(
        ...     objective,
        ...     {"first": {"x": [1.0, 3.0, 5.0]}, "second": {"y": [0.0, 1.0, 2.0]}},
        ...     storage="memory://", show_progress_bar=False,
        ... )
        >>> found.best.params, found.best.value
        ({'x': 3.0, 'y': 1.0}, 0.0)
    """
    if not isinstance(objective, Objective):
        raise InvalidType(f"`objective` must be an Objective, got {type(objective).__name__}.")
    _check_stages(objective, stages)
    opened = open_storage(storage)
    params: Mapping[str, Any] = dict(start or {})
    best: Tried | None = None
    done = []
    for place, (stage, values) in enumerate(stages.items()):
        grid, points = _grid(objective.search_space, params, values)
        studies = []
        for part, settings in enumerate(_settings(values, best)):
            each = _with_settings(objective.with_search_space(grid), settings)
            suffix = "".join(f"-{key}={settings[key]}" for key in SETTINGS if key in values)
            study = make_study(
                f"{name}-{stage}{suffix}",
                storage=opened,
                objective=each,
                sampler="manual",
                pruner="none",
                seed=seed,
            )
            _mark(study, name, stage, [place, part], settings, list(values))
            for point in points[len(study.get_trials(deepcopy=False)) :]:
                study.enqueue_trial(grid.to_trial(point))
            run(
                study,
                each,
                n_trials=len(points),
                n_workers=n_workers,
                default_first=False,
                show_progress_bar=show_progress_bar,
            )
            studies.append(study)
        done.append(_stage(stage, studies, objective.direction))
        best = _best([found.best for found in done if found.best], objective.direction)
        if best is None:
            raise InvalidArgument(f"`stages` must begin with one that succeeds, got {stage!r}.")
        params = best.params
    assert best is not None
    return Sweep(name, objective.direction, tuple(done), best)


@checks_keywords()
def load_sweep(name: str, *, storage: str | BaseStorage | None = None) -> Sweep:
    """Return a sweep as it stands in a storage, to be read.

    Args:
        name: Its name.
        storage: As in `make_study`.

    Raises:
        StudyNotFound: If the storage has no study of such a sweep, or none of its trials has
            succeeded.
    """
    import optuna

    opened = open_storage(storage)
    found = {}
    for summary in optuna.get_all_study_summaries(opened, include_best_trial=False):
        mark = summary.user_attrs.get(_SWEEP_KEY)
        if mark is not None and mark["sweep"] == name:
            found[tuple(mark["place"])] = (mark["stage"], summary.study_name)
    studies = defaultdict(list)
    for place in sorted(found):
        stage, study_name = found[place]
        studies[place[0], stage].append(stored_study(study_name, opened))
    if not found:
        raise StudyNotFound(f"No sweep {name!r} in the storage.")
    direction = next(iter(studies.values()))[0].direction.name.lower()
    stages = tuple(_stage(stage, each, direction) for (_, stage), each in studies.items())
    best = _best([stage.best for stage in stages if stage.best], direction)
    if best is None:
        raise StudyNotFound(f"No trial of the sweep {name!r} has succeeded yet.")
    return Sweep(name, direction, stages, best)


def _check_stages(objective: Objective, stages: Any) -> None:
    if not isinstance(stages, dict) or not stages:
        raise InvalidArgument(f"`stages` must be stage -> parameter -> values, got {stages!r}.")
    for stage, values in stages.items():
        if not values or any(not list(tried) for tried in values.values()):
            raise InvalidArgument(
                f"`stages` must have values to try in each, got none in {stage!r}."
            )


def _grid(
    space: SearchSpace, params: Mapping[str, Any], values: Mapping[str, Sequence[Any]]
) -> tuple[SearchSpace, list[dict[str, Any]]]:
    """Return the space with what a stage tries as choices and all else fixed, and its points."""
    varied = {name: list(tried) for name, tried in values.items() if name not in SETTINGS}
    around = space.fixed(**{name: params[name] for name in params if name not in varied})
    # A choice that the stage does not try, nor an earlier one, is settled at its default.
    untried = {
        name: around.defaults()[name] for name in around.distributions() if name not in varied
    }
    around = around.override(**untried)
    grid = around.override(**varied)
    points = [
        around.fixed(**dict(zip(varied, combination, strict=True))).defaults()
        for combination in itertools.product(*varied.values())
    ]
    return grid, points


def _settings(values: Mapping[str, Sequence[Any]], best: Tried | None) -> list[dict[str, Any]]:
    """Return all combinations of the settings that a stage tries, on top of those settled."""
    settled = {} if best is None else dict(best.settings)
    varied = {key: list(tried) for key, tried in values.items() if key in SETTINGS}
    return [
        settled | dict(zip(varied, combination, strict=True))
        for combination in itertools.product(*varied.values())
    ]


def _with_settings(objective: Objective, settings: Mapping[str, Any]) -> Objective:
    for name, value in settings.items():
        setattr(objective, name, value)  # of the copy that `with_search_space` has made
    return objective


def _mark(
    study: Study,
    name: str,
    stage: str,
    place: list[int],
    settings: Mapping[str, Any],
    varied: list[str],
) -> None:
    """Store with a study which part of which sweep it is."""
    mark = {
        "sweep": name,
        "stage": stage,
        "place": place,
        "settings": dict(settings),
        "varied": varied,
    }
    if study.user_attrs.get(_SWEEP_KEY) != mark:
        study.set_user_attr(_SWEEP_KEY, mark)


def _stage(name: str, studies: Sequence[Study], direction: str) -> Stage:
    tried = tuple(each for study in studies for each in _read(study))
    return Stage(name, tried, _best(tried, direction), tuple(studies))


def _read(study: Study) -> list[Tried]:
    mark = study.user_attrs[_SWEEP_KEY]
    settings = mark["settings"]
    tried = []
    for trial in study.get_trials(deepcopy=False):
        if not trial.state.is_finished():
            continue
        params = trainer_params(study, trial)
        tried.append(
            Tried(
                changed={name: {**params, **settings}[name] for name in mark["varied"]},
                params=params,
                settings=dict(settings),
                value=trial.value if trial.state == TrialState.COMPLETE else None,
                study_name=study.study_name,
                number=trial.number,
            )
        )
    return tried


def _best(tried: Sequence[Tried], direction: str) -> Tried | None:
    known = [each for each in tried if each.value is not None]
    sign = -1.0 if direction == "maximize" else 1.0
    return min(known, key=lambda each: sign * (each.value or 0.0), default=None)


def _line(tried: Tried, best: Tried | None) -> str:
    changed = ", ".join(f"{name} {value}" for name, value in tried.changed.items())
    value = "-" if tried.value is None else f"{tried.value:.5g}"
    return f"  {changed:40} {value:>12}{'  best' if tried is best else ''}"
