"""The post-processing stage: parameters tuned on some parts of the data, and scored on another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from hpolab.display import Displayed
from hpolab.errors import Diverged, InvalidArgument, InvalidType
from hpolab.objectives.function import FunctionObjective
from hpolab.running.outcome import one_line_for_all
from hpolab.running.run import run
from hpolab.running.trial_lines import without_trial_lines
from hpolab.staged.artifacts import digest_of
from hpolab.studies.export import in_short
from hpolab.studies.study import make_study

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from optuna import Study
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

    from hpolab.search_space.space import SearchSpace
    from hpolab.trial.reporter import Reporter

__all__ = ["PostStage", "StudyPlace", "Tuned"]


@dataclass(frozen=True, repr=False)
class Tuned(Displayed):
    """Post-processing parameters that were tuned on an artifact.

    Attributes:
        post_params: The best ones.
        value: What they reach on the parts that they were tuned on: the best of many, so an
            overestimate.
        default_value: What the default ones reach there; None if their trial has no value.
        study_name: The study that tuned them.
    """

    post_params: Mapping[str, Any]
    value: float
    default_value: float | None
    study_name: str

    def _in_one_line(self) -> str:
        before = "" if self.default_value is None else f", {self.default_value:.5g} at the defaults"
        params = in_short(self.post_params, digits=4)
        return f"{params}: {self.value:.5g}{before}; study {self.study_name!r}"


@dataclass(frozen=True)
class StudyPlace:
    """Where studies of post-processing are: storage, what their names begin with, and seed."""

    storage: BaseStorage | str
    name: str
    seed: int


@dataclass(frozen=True)
class PostStage:
    """How the post-processing parameters of an artifact are tuned and scored.

    Attributes:
        score: (artifact, post params, part) -> number, or metrics by name, ``metric`` among them.
        search_space: The post-processing parameters.
        parts: What the data's parts are called, as ``score`` knows them.
        cross_fit: Whether each part is scored, with what was tuned on the others.
        n_trials: Trials of a study.
        sampler: Their sampler's name, or a factory.
        direction: "minimize" or "maximize".
        metric: The name of the metric that is optimized.
    """

    score: Callable[[Any, Mapping[str, Any], Any], float | Mapping[str, float]]
    search_space: SearchSpace
    parts: tuple[Any, ...]
    cross_fit: bool
    n_trials: int
    sampler: Any
    direction: str
    metric: str

    @property
    def scored(self) -> tuple[Any, ...]:
        """The parts that a trial's value comes from."""
        return self.parts if self.cross_fit else self.parts[-1:]

    @property
    def delivered_on(self) -> tuple[Any, ...]:
        """The parts that the parameters which leave the library are tuned on."""
        return self.parts if self.cross_fit else self.parts[:1]

    def tuned_on(self, part: Any) -> tuple[Any, ...]:
        """Return the parts that the parameters for scoring ``part`` are tuned on."""
        if self.cross_fit:
            return tuple(other for other in self.parts if other != part)
        return self.parts[:1]

    def metrics(self, artifact: Any, post_params: Mapping[str, Any], part: Any) -> dict[str, float]:
        """Return the metrics of one part by name.

        Raises:
            InvalidArgument: If ``score_artifact`` returns metrics without the optimized one.
            InvalidType: If it returns anything but numbers.
        """
        found = self.score(artifact, dict(post_params), part)
        named = found if isinstance(found, Mapping) else {self.metric: found}
        try:
            metrics = {name: float(value) for name, value in named.items()}
        except (TypeError, ValueError):
            metrics = {}
        if not metrics:
            raise InvalidType(
                f"`score_artifact` must return a number, or numbers by name, got {found!r}."
            )
        if self.metric not in metrics:
            raise InvalidArgument(
                f"`metric` must be one of {', '.join(map(repr, metrics))}, as `score_artifact` "
                f"returns them, got {self.metric!r}."
            )
        return metrics

    def value(self, artifact: Any, post_params: Mapping[str, Any], parts: Sequence[Any]) -> float:
        """Return the mean of the optimized metric over parts."""
        values = [self.metrics(artifact, post_params, part)[self.metric] for part in parts]
        return math.fsum(values) / len(values)

    def tune(self, artifact: Any, parts: Sequence[Any], place: StudyPlace) -> Tuned:
        """Tune the parameters on some parts, in a study that goes on where it was.

        Raises:
            Diverged: If no trial has a value.
            InvalidArgument: If ``score_artifact`` changes the artifact.
            RecipeMismatch: If the study has trials of another search space.
            TooManyFailures: If the first trials all fail.
        """
        # `run` stands behind objectives: it takes them.
        guarded = _Guarded(self, artifact, parts)
        objective = FunctionObjective(
            guarded,
            search_space=self.search_space,
            direction=self.direction,
            max_steps=1,
            metric=self.metric,
        )
        study = make_study(
            place.name,
            storage=place.storage,
            objective=objective,
            sampler=self.sampler,
            pruner="none",
            seed=place.seed,
        )
        with one_line_for_all(), without_trial_lines():  # the trial that it is part of has them
            run(
                study,
                objective,
                n_trials=self.n_trials,
                callbacks=[guarded.after_trial],
                show_progress_bar=False,
            )
        guarded.refuse_change()
        return self.read(study)

    def read(self, study: Study) -> Tuned:
        """Return what a study of post-processing parameters has found.

        Raises:
            Diverged: If no trial has a value.
        """
        trials = study.get_trials(deepcopy=False)
        if all(trial.state != TrialState.COMPLETE for trial in trials):
            raise Diverged(f"no trial of post-processing {study.study_name!r} has a value")
        best = study.best_trial
        assert best.value is not None
        return Tuned(
            post_params=self.search_space.from_trial(best.params),
            value=best.value,
            default_value=trials[0].value,
            study_name=study.study_name,
        )


class _Guarded:
    """Scores an artifact on parts, and tells whether it has been changed by that.

    To look means to pickle it all, which may take longer than a score: it is done after the first
    trial and after the last, before any value is used.
    """

    def __init__(self, stage: PostStage, artifact: Any, parts: Sequence[Any]) -> None:
        self._stage = stage
        self._artifact = artifact
        self._parts = parts
        self._digest = digest_of(artifact)
        self._n_trials = 0

    def __call__(self, post_params: Mapping[str, Any], reporter: Reporter) -> float:
        return self._stage.value(self._artifact, post_params, self._parts)

    def after_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._n_trials += 1
        if self._n_trials == 1:
            self.refuse_change()

    def refuse_change(self) -> None:
        if digest_of(self._artifact) != self._digest:
            raise InvalidArgument(
                "`score_artifact` must leave the artifact as it is, as all trials of post-"
                "processing share it, got one that changes it (a "
                f"{type(self._artifact).__name__}): let it work on a copy."
            )
