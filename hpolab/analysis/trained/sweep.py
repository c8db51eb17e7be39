"""sweep(): tuning as people do it by hand, stage by stage, each from the best so far."""

from __future__ import annotations

import itertools
import math
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState

from hpolab import _optuna
from hpolab.analysis.results import Result
from hpolab.analysis.trained.trainings import (
    MARK_KEYS,
    as_part_of,
    check_is_free_for,
    marks_in,
)
from hpolab.analysis.wording import count, listed, short
from hpolab.display import Displayed
from hpolab.errors import InvalidArgument, InvalidType, StudyNotFound, check_seconds, one_of
from hpolab.keywords import checks_keywords
from hpolab.objectives.base import Objective
from hpolab.running.run import RunOptions, run
from hpolab.storage.url import open_storage
from hpolab.studies.export import trainer_params
from hpolab.studies.recipe import check_search_space
from hpolab.studies.study import make_study, stored_study
from hpolab.studies.trials import is_begun, sign_of, tally
from hpolab.tables import TextTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from os import PathLike
    from typing import Unpack

    from optuna import Study
    from optuna.storages import BaseStorage

    from hpolab.search_space.space import SearchSpace

__all__ = [
    "SETTINGS",
    "Sweep",
    "SweepStage",
    "SweepTrial",
    "load_sweep",
    "studies_of_sweep",
    "sweep",
]

_SWEEP_KEY = MARK_KEYS["sweep"]

SETTINGS = ("max_steps", "patience")
"""What a stage may vary besides parameters: how long an objective trains, and its patience."""


@dataclass(frozen=True, repr=False)
class SweepTrial(Displayed):
    """One configuration of a stage.

    Attributes:
        changed: What the stage set, name -> value.
        params: The whole configuration, in the trainer's units, without the settings.
        settings: The objective's settings that a stage has set.
        value: Its value; None if the trial has none.
        study_name: The study that holds it.
        number: Its trial's number in that study.
    """

    changed: Mapping[str, Any]
    params: Mapping[str, Any]
    settings: Mapping[str, Any]
    value: float | None
    study_name: str
    number: int

    def _in_one_line(self) -> str:
        of = f"trial {self.number} of {self.study_name!r}"
        return f"{of}, {listed({**self.params, **self.settings})}: {short(self.value)}"


@dataclass(frozen=True, repr=False)
class SweepStage(Displayed):
    """One stage.

    Attributes:
        name: Its name.
        trials: All its trials, in order.
        best: The best of them; None if none succeeded.
        studies: Its studies: several if it varies settings.
    """

    name: str
    trials: tuple[SweepTrial, ...]
    best: SweepTrial | None
    studies: tuple[Study, ...] = field(repr=False, compare=False)

    def _in_one_line(self) -> str:
        best = self.best
        found = (
            "none complete" if best is None else f"best {short(best.value)}, {listed(best.changed)}"
        )
        return f"{self.name}, {count(len(self.trials), 'trial')}, {found}"

    def _parts(self) -> list[str | TextTable]:
        names = list(dict.fromkeys(name for trial in self.trials for name in trial.changed))
        rows = [
            [str(t.number), *(short(t.changed.get(name)) for name in names), short(t.value)]
            for t in self.trials
        ]
        strong = frozenset(row for row, trial in enumerate(self.trials) if trial is self.best)
        return [f"Stage {self.name}", TextTable(["trial", *names, "value"], rows, strong)]


@dataclass(frozen=True, repr=False)
class Sweep(Result):
    """What a sweep has found.

    Attributes:
        study_name: Its name.
        direction: "minimize" or "maximize".
        stages: In order.
        best: The best configuration of all.
    """

    study_name: str
    direction: str
    stages: tuple[SweepStage, ...]
    best: SweepTrial

    def table(self) -> TextTable:
        """Return one row for each stage, with what it has gained on the stages before."""
        gains = self._gains()
        rows = [_row(stage, gain) for stage, gain in zip(self.stages, gains, strict=True)]
        strong = frozenset(place for place, gain in enumerate(gains) if gain)
        head = ["stage", "trials", "best of them", "value", "gain on the stages before"]
        note = "Gains are those of single runs: unconfirmed."
        return TextTable(head, rows, strong, note)

    def _in_one_line(self) -> str:
        best = listed({**self.best.params, **self.best.settings})
        stages = count(len(self.stages), "stage")
        return f"{self.study_name!r}, {stages}, best {short(self.best.value)} with {best}"

    def _parts(self) -> list[str | TextTable]:
        best = listed({**self.best.params, **self.best.settings})
        words = f"The best value is {short(self.best.value)}, in one run, with {best}."
        return [self.table(), words]

    def _records(self) -> Iterator[dict[str, Any]]:
        for stage in self.stages:
            for trial in stage.trials:
                yield {
                    "stage": stage.name,
                    "study_name": trial.study_name,
                    "number": trial.number,
                    "value": trial.value,
                    "is_best": trial == stage.best,
                    **{f"params_{name}": value for name, value in trial.params.items()},
                    **{f"settings_{name}": value for name, value in trial.settings.items()},
                }

    def _gains(self) -> list[float | None]:
        """Return each stage's gain on the best before it, 0 or above; None for the first."""
        gains: list[float | None] = []
        sign = sign_of(self.direction)
        so_far: float | None = None
        for stage in self.stages:
            value = None if stage.best is None else stage.best.value
            gain = None if so_far is None else 0.0
            if so_far is not None and value is not None:
                gain = max(0.0, sign * (value - so_far))
            if value is not None and (so_far is None or gain):
                so_far = value
            gains.append(gain)
        return gains


@checks_keywords(RunOptions)
def sweep(
    objective: Objective,
    stages: Mapping[str, Mapping[str, Sequence[Any]]],
    *,
    study_name: str,
    storage: str | PathLike[str] | BaseStorage | None = None,
    start: Mapping[str, Any] | None = None,
    seed: int = 0,
    **run_options: Unpack[RunOptions],
) -> Sweep:
    """Try values stage by stage, with everything else at the best found so far.

    Each stage is a grid over the parameters that it names, in a study of its own called
    ``study_name-stage``. Called again, a sweep resumes where it was. If a stage finds nothing
    better, the next one starts from the same configuration. A sweep costs the sum of its stages'
    grids, and misses parameters that only help together unless one stage has both.

    Args:
        objective: The objective that is tuned. The defaults of its search space are where the sweep
            starts.
        stages: Stage -> parameter -> values to try, in the trainer's units. Several parameters of a
            stage are tried in all combinations. For a choice, such as the optimizer, each branch is
            tried at its defaults. Settings of the objective (`SETTINGS`) may be varied too.
        study_name: The sweep's name.
        storage: As in `make_study`.
        start: Where to start: parameter -> value, for those that differ from the defaults.
        seed: Seeds all trainings.
        **run_options: As in `run`, such as ``n_workers``, ``fuse`` or ``callbacks``.
            ``timeout_seconds`` is the whole sweep's: a stage that is not finished in time is the
            last one, until the sweep is resumed.

    Raises:
        InvalidArgument: If a stage is empty or names neither a parameter nor a setting, or no
            trial of the first stage succeeds.
        InvalidType: If ``objective`` is not an objective.
        RecipeMismatch: If a sweep of this name was begun with other stages or other data.

    Example:
        >>> from hpolab import FunctionObjective, SearchSpace
        >>> def loss(params, reporter):
        ...     return (params["x"] - 3) ** 2 + (params["y"] - 1) ** 2
        >>> space = SearchSpace({"x": (0.0, 9.0), "y": (0.0, 9.0)})
        >>> objective = FunctionObjective(
        ...     loss, search_space=space, direction="minimize", max_steps=1
        ... )
        >>> found = sweep(
        ...     objective,
        ...     {"first": {"x": [1.0, 3.0, 5.0]}, "second": {"y": [0.0, 1.0, 2.0]}},
        ...     study_name="by hand", storage="memory://",
        ... )
        >>> found.best.params, found.best.value
        ({'x': 3.0, 'y': 1.0}, 0.0)
    """
    if not isinstance(objective, Objective):
        raise InvalidType(f"`objective` must be an Objective, got {type(objective).__name__}.")
    _check_stages(objective, stages)
    for name in start or {}:
        one_of("start", name, objective.search_space.trainer_names())
    opened = open_storage(storage)
    clock = _Clock(run_options)
    params: Mapping[str, Any] = dict(start or {})
    best: SweepTrial | None = None
    done: list[SweepStage] = []
    for place, (stage, values) in enumerate(stages.items()):
        grid, points = _grid(objective.search_space, params, values)
        studies = []
        for part, settings in enumerate(_settings(values, best)):
            each = _with_settings(objective.with_search_space(grid), settings)
            each.check()
            suffix = "".join(f"-{key}={settings[key]}" for key in SETTINGS if key in values)
            with as_part_of("sweep", study_name, f"stage {stage!r}"):
                study = _open_stage(
                    f"{study_name}-{stage}{suffix}", opened, each, seed, map(grid.to_trial, points)
                )
                check_is_free_for("sweep", study_name, study)
                _mark(study, study_name, stage, [place, part], settings, list(values))
                run(
                    study,
                    each,
                    n_trials=len(points),
                    default_first=False,
                    **clock.run_options(),
                )
            studies.append(study)
            if _is_unfinished(study):
                break
        done.append(_stage(stage, studies, objective.direction))
        best = _best([found.best for found in done if found.best], objective.direction)
        if best is None:
            raise InvalidArgument(f"`stages` must begin with one that succeeds, got {stage!r}.")
        if clock.is_over() or _is_unfinished(studies[-1]):
            break  # the next stage starts from the best of this one, which is not known yet
        params = best.params
    assert best is not None
    return Sweep(study_name, objective.direction, tuple(done), best)


def _open_stage(
    name: str,
    storage: BaseStorage,
    objective: Objective,
    seed: int,
    points: Iterable[Mapping[str, Any]],
) -> Study:
    """Return a stage's study with all its points, those that were run or wait already included.

    Raises:
        RecipeMismatch: If it has trials of another stage or other data; nothing is enqueued then.
    """

    def make() -> Study:
        return make_study(
            name, storage=storage, objective=objective, sampler="manual", pruner="none", seed=seed
        )

    asked = list(points)
    study = make()
    trials = study.get_trials(deepcopy=False)
    waiting = [_optuna.enqueued_params(trial) for trial in trials]
    if not any(map(is_begun, trials)) and waiting != asked[: len(waiting)]:
        # The points of a sweep that was mistaken.
        optuna.delete_study(study_name=name, storage=storage)
        study, trials = make(), []
    check_search_space(study, objective.search_space)
    objective.check_facts(study)
    for point in asked[len(trials) :]:
        study.enqueue_trial(dict(point))
    return study


class _Clock:
    """What is left of a sweep's time."""

    def __init__(self, run_options: RunOptions) -> None:
        timeout = run_options.get("timeout_seconds")
        check_seconds("timeout_seconds", timeout)
        self._run_options = run_options
        self._deadline = math.inf if timeout is None else time.monotonic() + timeout

    def is_over(self) -> bool:
        return time.monotonic() >= self._deadline

    def run_options(self) -> RunOptions:
        """Return the options for the next study, with the time that is left."""
        if math.isinf(self._deadline):
            return self._run_options
        left = max(self._deadline - time.monotonic(), 1e-9)  # `run` wants it above 0
        return {**self._run_options, "timeout_seconds": left}


def _is_unfinished(study: Study) -> bool:
    trials = study.get_trials(deepcopy=False)
    return tally(trials).finished < len(trials)


@checks_keywords()
def load_sweep(
    study_name: str, *, storage: str | PathLike[str] | BaseStorage | None = None
) -> Sweep:
    """Return a sweep as it stands in a storage, without running anything.

    Args:
        study_name: The sweep's name.
        storage: As in `make_study`.

    Raises:
        StudyNotFound: If the storage has no study of such a sweep, or none of its trials has
            succeeded.
    """
    opened = open_storage(storage, create=False)
    found = {
        tuple(mark["place"]): (mark["stage"], name)
        for name, mark in marks_in(opened, "sweep").items()
        if mark["sweep"] == study_name
    }
    studies = defaultdict(list)
    for place in sorted(found):
        stage, name = found[place]
        studies[place[0], stage].append(stored_study(name, opened))
    if not found:
        raise StudyNotFound(f"No sweep {study_name!r} in the storage.")
    direction = next(iter(studies.values()))[0].direction.name.lower()
    stages = tuple(_stage(stage, each, direction) for (_, stage), each in studies.items())
    best = _best([stage.best for stage in stages if stage.best], direction)
    if best is None:
        raise StudyNotFound(f"No trial of the sweep {study_name!r} has succeeded yet.")
    return Sweep(study_name, direction, stages, best)


def sweeps_in(storage: BaseStorage) -> list[str]:
    """Return the names of a storage's sweeps, sorted."""
    return sorted({mark["sweep"] for mark in marks_in(storage, "sweep").values()})


def studies_of_sweep(study_name: str, storage: BaseStorage) -> list[str]:
    """Return the names of a sweep's studies.

    Args:
        study_name: The sweep's name.
        storage: An open storage.
    """
    return [
        name for name, mark in marks_in(storage, "sweep").items() if mark["sweep"] == study_name
    ]


def _check_stages(objective: Objective, stages: Any) -> None:
    if not isinstance(stages, dict) or not stages:
        raise InvalidArgument(f"`stages` must be stage -> parameter -> values, got {stages!r}.")
    for stage, values in stages.items():
        if not values or any(not list(tried) for tried in values.values()):
            raise InvalidArgument(
                f"`stages` must have values to try in each, got none in {stage!r}."
            )
        # All of them before the first is run: a name that is wrong is refused here.
        _grid(objective.search_space, {}, values)


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


def _settings(values: Mapping[str, Sequence[Any]], best: SweepTrial | None) -> list[dict[str, Any]]:
    """Return all combinations of the settings that a stage tries, on top of those settled."""
    settled = {} if best is None else dict(best.settings)
    varied = {key: list(tried) for key, tried in values.items() if key in SETTINGS}
    return [
        settled | dict(zip(varied, combination, strict=True))
        for combination in itertools.product(*varied.values())
    ]


def _with_settings(objective: Objective, settings: Mapping[str, Any]) -> Objective:
    if "max_steps" in settings:
        objective.max_steps = settings["max_steps"]  # of the copy that `with_search_space` has made
    if "patience" in settings:
        return objective.with_settings(patience=settings["patience"])
    return objective


def _mark(
    study: Study,
    sweep_name: str,
    stage: str,
    place: list[int],
    settings: Mapping[str, Any],
    varied: list[str],
) -> None:
    """Store with a study which part of which sweep it is."""
    mark = {
        "sweep": sweep_name,
        "stage": stage,
        "place": place,
        "settings": dict(settings),
        "varied": varied,
    }
    if study.user_attrs.get(_SWEEP_KEY) != mark:
        study.set_user_attr(_SWEEP_KEY, mark)


def _stage(name: str, studies: Sequence[Study], direction: str) -> SweepStage:
    trials = tuple(each for study in studies for each in _read(study))
    return SweepStage(name, trials, _best(trials, direction), tuple(studies))


def _read(study: Study) -> list[SweepTrial]:
    mark = study.user_attrs[_SWEEP_KEY]
    settings = mark["settings"]
    found = []
    for trial in study.get_trials(deepcopy=False):
        if not trial.state.is_finished():
            continue
        params = trainer_params(study, trial)
        found.append(
            SweepTrial(
                changed={name: {**params, **settings}[name] for name in mark["varied"]},
                params=params,
                settings=dict(settings),
                value=trial.value if trial.state == TrialState.COMPLETE else None,
                study_name=study.study_name,
                number=trial.number,
            )
        )
    return found


def _best(trials: Sequence[SweepTrial], direction: str) -> SweepTrial | None:
    known = [each for each in trials if each.value is not None]
    sign = sign_of(direction)
    return max(known, key=lambda each: sign * (each.value or 0.0), default=None)


def _row(stage: SweepStage, gain: float | None) -> list[str]:
    n_lost = sum(trial.value is None for trial in stage.trials)
    lost = f" ({n_lost} without a value)" if n_lost else ""
    best = stage.best
    return [
        stage.name,
        f"{len(stage.trials)}{lost}",
        "-" if best is None else listed(best.changed),
        "-" if best is None else short(best.value),
        short(gain) if gain or gain is None else "none",
    ]
