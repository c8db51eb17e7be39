"""The contract of an objective: suggest, make a reporter, train, return."""

from __future__ import annotations

import abc
import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, final

import optuna
from optuna.trial import TrialState

from hpolab.display import Displayed
from hpolab.errors import InvalidArgument, InvalidType, RecipeMismatch, check_count
from hpolab.identity import is_ours
from hpolab.keywords import checks_keywords
from hpolab.objectives.by_row import agrees, as_row_scores
from hpolab.search_space.space import SearchSpace, as_space
from hpolab.studies.export import trainer_params
from hpolab.studies.facts import Facts, check_facts, compare_facts
from hpolab.studies.imported import RUN_KEY
from hpolab.studies.trials import as_direction, best_of
from hpolab.surroundings import facts_of_function, held_values
from hpolab.trial.lease import ERROR_KEY
from hpolab.trial.reporter import (
    REASON_KEY,
    Reporter,
    ReporterOptions,
    ReporterSettings,
    training_seed,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Self, Unpack

    import numpy as np
    from numpy.typing import NDArray
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

    from hpolab.objectives.crew import Crew
    from hpolab.tables import TextTable

__all__ = ["ROW_GROUP", "UNNAMED", "Objective", "Reference"]

ROW_GROUP = "row group"
"""What is scored one by one where a metric is known by random groups of rows alone."""

UNNAMED = "value"
"""What the optimized metric is called where nobody has named it."""


class Reference(NamedTuple):
    """What a simple solution reaches.

    Attributes:
        metrics: Name -> value, on the data that trials' values come from.
        rows: (n,) its scores by row, as `Objective.row_scores` has them; None if not known.
    """

    metrics: Mapping[str, float]
    rows: NDArray[np.float64] | None = None


class Objective(Displayed):
    """A callable that takes a trial and returns its value, made of a space and a trainer.

    A subclass fills `train`; for the confirmation of results also `fit` and `evaluate`. Three
    splits of the data have three jobs: `valid` steers a trial, `score` ranks trials, and test
    data is touched by a confirmation alone.

    Args:
        search_space: What is suggested to each trial: a `SearchSpace`, or a dict of ranges as
            it takes them.
        metric: The name of the metric that is optimized: what `evaluate` calls it, where that
            returns several.
        direction: "minimize" or "maximize": where the metric gets better.
        max_steps: Reports of a full training, 1 or above.
        **settings: When a trial stops early and how it is checkpointed: ``patience``,
            ``timeout_seconds`` and the others of `ReporterSettings`.

    Attributes:
        metric: The name of the metric that is optimized.
        settings: When a trial stops and how it is checkpointed, as one value.

    Raises:
        InvalidArgument: If an argument is out of its range.
        InvalidType: If ``search_space`` is neither a `SearchSpace` nor a dict.

    Example:
        >>> class Descent(Objective):
        ...     def train(self, params, reporter):
        ...         weight = 5.0
        ...         for step in reporter.steps(self.max_steps):
        ...             weight -= params["lr"] * 2 * weight
        ...             reporter.report(weight**2, step)
        ...         return reporter.best_value
        >>> ranges = {"lr": (1e-3, 1e-1, "log")}
        >>> objective = Descent(search_space=ranges, direction="minimize", max_steps=20)
        >>> import optuna
        >>> study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        >>> study.optimize(objective, n_trials=2)
        >>> len(study.trials)
        2
    """

    default_sampler: str = "tpe"
    """The sampler that `make_study` takes for such an objective where none is named."""

    default_pruner: str = "median"
    """The pruner, likewise."""

    n_threads: int = 1
    """Threads that a trial asks for by itself, whatever its worker's share of the cores is."""

    scored_unit: str = "row"
    """What `row_scores` scores one by one, in the singular: a row, a user, a group of rows."""

    _replay: Mapping[int, float] | None = None

    facts: Mapping[str, Any] = {}
    """What the values depend on besides params and seed, such as how the data is split and ranked:
    plain values by name, of data its `data_fingerprint`. `run` stores them with the study and mixes
    no others into it. What hpolab's objectives know of themselves, their data included, they need
    not be told; see `check_facts`."""

    @checks_keywords(ReporterOptions)
    def __init__(
        self,
        *,
        search_space: SearchSpace | Mapping[str, Any],
        metric: str = UNNAMED,
        direction: str,
        max_steps: int,
        **settings: Unpack[ReporterOptions],
    ) -> None:
        check_count("max_steps", max_steps)
        self.search_space = as_space("search_space", search_space)
        self.direction = as_direction("direction", direction)
        self.max_steps = max_steps
        if not isinstance(metric, str):
            raise InvalidType(f"`metric` must be a name, got {type(metric).__name__}.")
        self.metric = metric
        self.settings = ReporterSettings(**settings)

    @final
    def __call__(self, trial: Trial, *, deadline: float | None = None) -> float:
        """Train one trial and return its value.

        Args:
            trial: The running trial.
            deadline: The moment of ``time.monotonic()`` at which training ends with what it has;
                None for none.

        Raises:
            optuna.TrialPruned: If the pruner gives the trial up, or it diverges, or runs out of
                memory.
            InvalidArgument: If the study's direction contradicts the objective's.
        """
        self.check_direction(trial.study)
        with self.reporter(trial, deadline=deadline) as reporter:
            value = self.train(self.search_space.suggest(trial), reporter)
            if not math.isfinite(value):
                reporter.diverged(value, "at its end")
            return value

    @abc.abstractmethod
    def train(self, params: Mapping[str, Any], reporter: Reporter) -> float:
        """Train with ``params``, report to ``reporter`` each step, and return the trial's value.

        Args:
            params: Name -> value, as the search space suggested them.
            reporter: Where each step is reported. Everything random is seeded from its ``seed``.
        """

    @checks_keywords()
    def fit(self, params: Mapping[str, Any], seed: int = 0) -> Any:
        """Train with ``params`` outside any trial and return the model.

        `fit_best` and `fit_trial` call it for a trial's own model. A subclass that takes a trial's
        params as well as the trainer's passes them through ``self.search_space.complete``.

        Args:
            params: A trial's params, such as ``study.best_params``, or the trainer's.
            seed: Seeds everything random, 0 or above.

        Raises:
            NotImplementedError: If the objective cannot.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not define `fit`, which trains a model outside a trial."
        )

    @checks_keywords()
    def fit_best(self, study: Study, *, seed: int | None = None) -> Any:
        """Return the model of the best trial.

        Args:
            study: What this objective was run with.
            seed: None for the trial's own, with which training repeats bit for bit (of a trial
                that was fused, within rounding); another one trains the configuration anew.

        Raises:
            InvalidArgument: If no trial is complete, or the study was run with another objective.
            RecipeMismatch: If its values depend on other facts.
        """
        return self.fit_trial(study, self._best_trial(study), seed=seed)

    @checks_keywords()
    def fit_trial(self, study: Study, trial: int | FrozenTrial, *, seed: int | None = None) -> Any:
        """Return the model of a trial, trained as long as the trial was.

        Args:
            study: What this objective was run with.
            trial: A complete trial of it, or its number.
            seed: As in `fit_best`.

        Raises:
            InvalidArgument: If there is no such trial, it is not complete, or the study was run
                with another objective.
            RecipeMismatch: If its values depend on other facts.
        """
        found = self._complete_trial(study, trial)
        params = self.params_of(found)
        if RUN_KEY in found.user_attrs:
            known = {*self.search_space.trainer_names(), *self._known_names()}
            params = {name: value for name, value in params.items() if name in known}
        if seed is not None:
            return self.fit(self._configuration(found), seed)
        return self._repeating(found).fit(params, training_seed(study, found.number))

    def params_of(self, trial: FrozenTrial | Mapping[str, Any]) -> dict[str, Any]:
        """Return all that the trainer needs for a trial's configuration, in its own names.

        Fixed values are included, so that ``lgb.train``, an estimator's ``set_params`` or
        `build_optimizer` trains what the trial has trained.

        Args:
            trial: A trial in any state, or params: a trial's or the trainer's.

        Raises:
            InvalidArgument: If a parameter is missing, or belongs to another search space.
        """
        return self._configuration(trial)

    def _configuration(self, trial: FrozenTrial | Mapping[str, Any]) -> dict[str, Any]:
        """Return the trainer's params for a trial, or for params: a trial's or the trainer's.

        Raises:
            InvalidArgument: If a parameter is missing, or neither the space nor the trainer has it.
        """
        if isinstance(trial, optuna.Study):
            raise InvalidType(
                "`params` must be a dict of params, or a trial, got a Study: `fit_best(study)` "
                "returns its best trial's model, and `params_of(study.best_trial)` its params."
            )
        if isinstance(trial, Mapping):
            return self.search_space.complete(trial, strict=True, known=self._known_names())
        # A run that was imported has the trainer's own params, perhaps more than are tuned.
        strict = RUN_KEY not in trial.user_attrs
        return self.search_space.complete(trial.params, strict=strict)

    def _known_names(self) -> Collection[str]:
        """Return the names of parameters that the trainer has, whether the space has them or not.

        Whoever reads any name, such as a function of the user's, has none of its own.
        """
        return ()

    def _trained(self) -> Mapping[str, tuple[Collection[Any], Collection[str]]]:
        """Return what a contender's name may say of how the objective trains.

        Returns:
            Parameter or argument, such as "boosting" -> (those that are trained, all that there
            are). A contender must not be called one that it does not train. Optimizers, which any
            objective may have in its space, are known without it.
        """
        return {}

    def _check_search_space(self) -> None:
        """Refuse a search space with names that the trainer would not read."""

    def evaluate(self, model: Any, data: Any) -> dict[str, float]:
        """Return the metrics of a model that `fit` made, on data of the subclass's kind.

        Raises:
            NotImplementedError: If the objective cannot.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not define `evaluate`, which scores a model on data."
        )

    def why_not_confirmed(self) -> str | None:
        """Return why no model of this objective can be scored on new data; None if one can."""
        for method in ("fit", "evaluate"):
            if getattr(type(self), method) is getattr(Objective, method):
                return (
                    "`objective` must have `fit` and `evaluate` to be confirmed, got a "
                    f"{type(self).__name__} without `{method}`."
                )
        return None

    def row_scores(self, model: Any, data: Any) -> NDArray[np.float64] | None:
        """Return what each row of the data contributes to the metric of a model that `fit` made.

        With them, `confirm` and `compare` can say what holds on new data. Without them, they speak
        of these rows only.

        Args:
            model: As in `evaluate`.
            data: As in `evaluate`.

        Returns:
            (n,) scores in the metric's own sign and scale, whose mean is the metric: one for each
            unit that was drawn independently of the others, the same ones for every model. That is
            a row, in the order of the rows; a user of a recommender; a query or another group of
            rows; or, where the metric is neither a mean over rows nor close to one, a random group
            of rows. None if there are no such scores.

        Example:
            >>> class Line(Objective):
            ...     def train(self, params, reporter):
            ...         return 0.0
            ...     def evaluate(self, model, data):
            ...         return {"mse": self.row_scores(model, data).mean()}
            ...     def row_scores(self, model, data):
            ...         inputs, targets = data
            ...         return (model * inputs - targets) ** 2
            >>> import numpy as np
            >>> ranges = {"slope": (0.0, 1.0)}
            >>> line = Line(search_space=ranges, metric="mse", direction="minimize", max_steps=1)
            >>> line.row_scores(2.0, (np.array([1.0, 2.0]), np.array([1.0, 6.0])))
            array([1., 4.])
        """
        return None

    @final
    def checked_row_scores(self, model: Any, data: Any, value: float) -> NDArray[np.float64] | None:
        """Return `row_scores`, if their mean is the metric.

        Args:
            model: As in `evaluate`.
            data: As in `evaluate`.
            value: The optimized metric, as `evaluate` gives it for them.

        Returns:
            (n,), two or more of finite numbers. None if there are none, or if they are those of a
            class whose `evaluate` a subclass has replaced by one of another metric.

        Raises:
            InvalidArgument: If ``row_scores`` of the user's own are no such numbers, or have
                another mean.
        """
        kind = type(self)
        place = _place_of(kind, "row_scores")
        replaced = _place_of(kind, "evaluate") < place
        try:
            found = self.row_scores(model, data)
        except Exception:
            # A subclass's own `evaluate` may take data that its parent's `row_scores` cannot.
            if replaced:
                return None
            raise
        if found is None or not math.isfinite(value):
            return None
        scores = as_row_scores(found)
        if scores is not None and agrees(scores, value):
            return scores if len(scores) > 1 else None
        if replaced or is_ours(kind.__mro__[place]):
            return None
        raise InvalidArgument(
            f"`row_scores` of {kind.__name__} must be finite numbers of shape (n,) whose "
            f"mean is its metric {self.metric!r}, {value:.6g} on this data, got "
            f"{_described(found, scores)}."
        )

    def metric_in(self, metrics: Mapping[str, float]) -> str:
        """Return the name of the optimized metric among those that `evaluate` has returned.

        Raises:
            InvalidArgument: If it is not among them. An objective that names no metric may return
                a single one under any name.
        """
        if self.metric not in metrics and self.metric == UNNAMED and len(metrics) == 1:
            return next(iter(metrics))
        if self.metric not in metrics:
            raise InvalidArgument(
                f"`metric` must be one of {', '.join(map(repr, metrics)) or 'no metric'}, as "
                f"`evaluate` returns them, got {self.metric!r}: give {type(self).__name__} its "
                "`metric`."
            )
        return self.metric

    def references(self) -> Mapping[str, Mapping[str, float] | str]:
        """Return what simple solutions reach, which a tuned one must beat to be worth it.

        They stand beside the trials in reports, so they are metrics of the data that trials' values
        come from, the optimized one among them. `run` asks for them once a study, when its trials
        are done, and stores them.

        Returns:
            Name -> its metrics, or a str that says why it has none. Empty by default.
        """
        return {}

    def scored_references(self) -> Mapping[str, Reference | str]:
        """Return `references` with their scores by row, where these are known."""
        found = self.references()
        return {
            name: metrics if isinstance(metrics, str) else Reference(metrics)
            for name, metrics in found.items()
        }

    def reference_names(self) -> Sequence[str] | None:
        """Return the names of the `references`; None where only they themselves tell."""
        return () if type(self).references is Objective.references else None

    def references_key(self) -> str | None:
        """Return what the `references` depend on, as text: studies with the same share them.

        None, the default, computes them for each study.
        """
        return None

    def check(self) -> None:
        """Refuse, before a trial is spent, an objective that cannot train its default.

        `run` calls it once. A subclass extends it by what only shows once a model is built.

        Raises:
            InvalidArgument: If the space's default configuration is outside the space.
        """
        self.search_space.to_trial(self.search_space.defaults())

    def with_search_space(self, search_space: SearchSpace | Mapping[str, Any]) -> Self:
        """Return the same objective with another search space; the data is shared.

        Raises:
            InvalidArgument: If the trainer cannot take the space.
        """
        other = copy.copy(self)
        other.search_space = as_space("search_space", search_space)
        other._check_search_space()
        return other

    def with_settings(self, **settings: Unpack[ReporterOptions]) -> Self:
        """Return the same objective with some settings of its reporters changed.

        Raises:
            InvalidArgument: If one is out of its range.
        """
        other = copy.copy(self)
        other.settings = replace(self.settings, **settings)
        return other

    def check_facts(self, study: Study) -> None:
        """Refuse a study whose values depend on other facts; store those that are new to it.

        They are `facts`, and what the objective knows of itself: its class, metric and steps, its
        data, functions by their names, and settings that are the same in each trial. A study of no
        value yet takes any. If the code of a function has changed, or what it reads or calls of the
        user's, or the ``patience``, or what an objective of the user's own holds, the log says so
        once.

        Raises:
            RecipeMismatch: If a fact differs.
        """
        check_facts(study, self._all_facts(study))

    def compare_facts(self, study: Study) -> None:
        """Refuse a study whose values depend on other facts, as `check_facts`; store nothing.

        Raises:
            RecipeMismatch: If a fact differs.
        """
        compare_facts(study, self._all_facts(study))

    def _all_facts(self, study: Study) -> Facts:
        noted: dict[str, Any] = {}
        for name, function in self._functions().items():
            noted |= facts_of_function(name, function)
        noted |= self._noted_facts()
        watched = {f"`{name}`": getattr(self.settings, name) for name in ("patience", "min_delta")}
        return Facts(self._facts_beside(study), self._known_facts(), {**noted, **watched})

    def _facts_beside(self, study: Study) -> Mapping[str, Any]:
        """Return `facts` in the words of the version that began a study, if they mean the same."""
        return self.facts

    def _known_facts(self) -> dict[str, Any]:
        """Return what the values depend on and the objective knows; a subclass adds to it.

        The same script must get the same facts in every process, also after an upgrade.
        """
        return {"class": _family(type(self)), "metric": self.metric, "max_steps": self.max_steps}

    def _noted_facts(self) -> dict[str, Any]:
        """Return what may change where it leaves the values as they are, by what it is called."""
        if is_ours(type(self)):
            return {}
        return {"what the objective holds": held_values(self, leave_out=_OF_EACH)}

    def _functions(self) -> dict[str, Any]:
        """Return the user's functions that values come from, by what they are called."""
        return {} if is_ours(type(self)) else {"train": type(self).train}

    def _best_trial(self, study: Study) -> FrozenTrial:
        """Return the best complete trial that violates no constraint.

        Raises:
            InvalidArgument: If there is none, or the study was run with another objective.
            RecipeMismatch: If its values depend on other facts.
        """
        self._check_study(study)
        best = best_of(study.get_trials(deepcopy=False), self.direction)
        if best is None:
            raise InvalidArgument(
                "`study` must have a complete trial that violates no constraint, got "
                f"{study.study_name!r} without one."
            )
        return best

    def _complete_trial(self, study: Study, trial: int | FrozenTrial) -> FrozenTrial:
        """Return a complete trial of a study that this objective has run.

        Raises:
            InvalidArgument: If there is no such trial, it is not complete, or its configuration is
                not one of this objective.
            InvalidType: If ``study`` or ``trial`` is of the wrong type.
            RecipeMismatch: If its values depend on other facts, or it was trained with other
                fixed values.
        """
        self._check_study(study)
        number = getattr(trial, "number", trial)
        if isinstance(number, bool) or not isinstance(number, int):
            raise InvalidType(f"`trial` must be a trial or its number, got {type(trial).__name__}.")
        trials = {each.number: each for each in study.get_trials(deepcopy=False)}
        if number not in trials:
            raise InvalidArgument(
                f"`trial` must be one of the {len(trials)} trials of study {study.study_name!r}, "
                f"got {number}."
            )
        found = trials[number]
        if found.state != TrialState.COMPLETE:
            raise InvalidArgument(
                f"`trial` must be complete to have a model, got trial {number}, which {_end(found)}"
                ". `fit(params_of(trial), seed)` trains its configuration to the end."
            )
        self._check_configuration(study, found)
        return found

    def _repeating(self, trial: FrozenTrial) -> Self:
        """Return the same objective, whose trainings outside trials end where the trial's did."""
        other = copy.copy(self)
        other._replay = dict(trial.intermediate_values)
        return other

    def _check_study(self, study: Study) -> None:
        """Refuse a study that was run with another objective."""
        if not isinstance(study, optuna.Study):
            raise InvalidType(f"`study` must be an optuna.Study, got {type(study).__name__}.")
        self.check_direction(study)
        self.compare_facts(study)

    def _check_configuration(self, study: Study, trial: FrozenTrial) -> None:
        """Refuse a trial that was trained with values that this objective would train otherwise."""
        params = self._configuration(trial)
        for name, value in trainer_params(study, trial).items():
            if name not in params or params[name] != value:
                now = "it is left out" if name not in params else f"it is {params[name]!r}"
                raise RecipeMismatch(
                    f"Trial {trial.number} of study {study.study_name!r} was trained with "
                    f"{name}={value!r}; in this objective's search space {now}. Take the objective "
                    "that the study was run with."
                )

    def _in_one_line(self) -> str:
        return f"{self._said()}; tunes {', '.join(self.search_space.trainer_names()) or 'nothing'}"

    def _parts(self) -> list[str | TextTable]:
        return [f"{type(self).__name__}: {self._said()}", *self.search_space._parts()]

    def _said(self) -> str:
        """Return what is trained on what, by which metric."""
        steps = "1 step" if self.max_steps == 1 else f"at most {self.max_steps:,} steps"
        metric = f"{self.metric} {self.direction}d, {steps} a trial"
        return "; ".join(part for part in (self._training_in_words(), metric) if part)

    def _training_in_words(self) -> str:
        """Return what is trained on what data; "" if nobody knows."""
        return ""

    def check_fuse(self, fuse: int | str) -> None:
        """Refuse to train several trials as one, unless a subclass can.

        Args:
            fuse: How many trials, 1 or above, or "auto" for as many as are fastest.

        Raises:
            InvalidType: If this objective trains its trials one by one only.
            InvalidArgument: If ``fuse`` is neither a count nor "auto", or the data does not allow
                it.
        """
        raise InvalidType(
            "`fuse` needs a TorchObjective, whose trials can be one model, got "
            f"{type(self).__name__}."
        )

    def crew(self, study: Study, *, fuse: int | str, n_trials: int, deadline: float) -> Crew | None:
        """Return what trains several trials of a study as one, or None to train them one by one.

        Args:
            study: The study.
            fuse: As in `check_fuse`, which has accepted it.
            n_trials: Trials that are left.
            deadline: The moment of ``time.monotonic()`` at which training ends with what it has.
        """
        return None

    def check_direction(self, study: Study) -> None:
        """Refuse a study whose direction contradicts the objective's.

        Raises:
            InvalidArgument: If it does.
        """
        directions = [direction.name.lower() for direction in study.directions]
        if directions != [self.direction]:
            raise InvalidArgument(
                f"`direction` of study {study.study_name!r} must be {self.direction!r}, as "
                f"metric {self.metric!r} asks for, got {', '.join(map(repr, directions))}."
            )

    def reporter(
        self,
        trial: Trial | None = None,
        *,
        seed: int | None = None,
        deadline: float | None = None,
    ) -> Reporter:
        """Return a reporter for a training of this objective, in a trial or outside any."""
        return Reporter(
            trial,
            direction=self.direction,
            seed=seed,
            deadline=deadline,
            replay=self._replay if trial is None else None,
            **vars(self.settings),
        )


# What every objective has. It is compared by other names, or is not of the values.
_OF_EACH = frozenset(
    {
        "search_space",
        "direction",
        "max_steps",
        "metric",
        "settings",
        "facts",
        "scored_unit",
        "_replay",
    }
)


def _family(kind: type[Objective]) -> str:
    """Return the name of what a class is one of: a subclass trains what its parent trains.

    That is hpolab's own class that it extends, or the first one below `Objective`.
    """
    line = [each for each in kind.__mro__ if issubclass(each, Objective) and each is not Objective]
    ours = [each for each in line if is_ours(each)]
    return (ours[0] if ours else line[-1]).__name__


def _place_of(kind: type[Objective], name: str) -> int:
    """Return the place among a class and its parents of the one that defines a method."""
    return next(i for i, each in enumerate(kind.__mro__) if name in vars(each))


def _described(found: Any, scores: NDArray[np.float64] | None) -> str:
    """Return what row scores are that cannot be used, for a message."""
    if scores is None:
        return f"{type(found).__name__} of shape {getattr(found, 'shape', 'unknown')}"
    if not all(map(math.isfinite, scores)):
        return f"{len(scores)} numbers, some of them not finite"
    return f"{len(scores)} numbers with the mean {scores.mean():.6g}"


def _end(trial: FrozenTrial) -> str:
    """Return how a trial ended that is not complete, for a message."""
    if not trial.state.is_finished():
        return f"is {trial.state.name.lower()}"
    what = "was pruned" if trial.state == TrialState.PRUNED else "failed"
    why = trial.user_attrs.get(REASON_KEY) or trial.user_attrs.get(ERROR_KEY)
    if why is not None:
        return f"{what} ({why})"
    steps = trial.intermediate_values
    return f"{what} at step {max(steps)}" if steps else what
