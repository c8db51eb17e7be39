"""sweep(): one stage after another, as people tune by hand, each from the best so far."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from hpolab.errors import InvalidArgument, InvalidType
from hpolab.objectives import Objective
from hpolab.run import run
from hpolab.storage import open_storage
from hpolab.study import make_study

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna import Study
    from optuna.storages import BaseStorage

    from hpolab.search_space import SearchSpace

__all__ = ["SETTINGS", "Stage", "Sweep", "Tried", "sweep"]

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
    """One stage: its name, all that it tried, in order, and the best, None if nothing succeeded."""

    name: str
    tried: tuple[Tried, ...]
    best: Tried | None


@dataclass(frozen=True)
class Sweep:
    """What a sweep has found; ``str()`` of it is one table a stage.

    Attributes:
        direction: "minimize" or "maximize".
        stages: In order.
        best: The best configuration of all.
    """

    direction: str
    stages: tuple[Stage, ...]
    best: Tried

    def __str__(self) -> str:
        return "\n\n".join(
            "\n".join([stage.name, *(_line(tried, stage.best) for tried in stage.tried)])
            for stage in self.stages
        )


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
        >>> from hpolab.objectives import FunctionObjective
        >>> from hpolab.search_space import SearchSpace
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
    for stage, values in stages.items():
        grid, points = _grid(objective.search_space, params, values)
        tried: list[Tried] = []
        for settings in _settings(values, best):
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
            tried += _read(study, grid, settings, values)
        of_stage = _best(tried, objective.direction)
        best = _best([found for found in (best, of_stage) if found], objective.direction)
        if best is None:
            raise InvalidArgument(f"`stages` must begin with one that succeeds, got {stage!r}.")
        params = best.params
        done.append(Stage(stage, tuple(tried), of_stage))
    assert best is not None
    return Sweep(objective.direction, tuple(done), best)


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


def _read(
    study: Study,
    grid: SearchSpace,
    settings: Mapping[str, Any],
    values: Mapping[str, Sequence[Any]],
) -> list[Tried]:
    tried = []
    for trial in study.get_trials(deepcopy=False):
        if not trial.state.is_finished():
            continue
        params = grid.from_trial(trial.params)
        tried.append(
            Tried(
                changed={name: {**params, **settings}[name] for name in values},
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
