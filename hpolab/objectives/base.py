"""The contract of an objective: suggest, make a reporter, train, return."""

from __future__ import annotations

import abc
import copy
import math
from typing import TYPE_CHECKING, Any, final

from hpolab.errors import InvalidArgument, InvalidType, check_count, one_of
from hpolab.search_space.space import as_space
from hpolab.trial.reporter import Reporter

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from optuna import Study, Trial

    from hpolab.objectives.crew import Crew
    from hpolab.search_space.space import SearchSpace
    from hpolab.trial.checkpoint import ArtifactStore

__all__ = ["Objective"]


class Objective(abc.ABC):
    """A callable that takes a trial and returns its value, made of a space and a trainer.

    A subclass fills `train`; for the confirmation of results also `fit` and `evaluate`. Three
    splits of the data have three jobs: `valid` steers a trial, `score` ranks trials, and test
    data is touched by a confirmation alone.

    Args:
        search_space: What is suggested to each trial: a `SearchSpace`, or a dict of ranges as
            it takes them.
        direction: "minimize" or "maximize": where the trial's value gets better.
        max_steps: Reports of a full training, 1 or above.
        patience: Reports without improvement after which a training stops; None never stops.
        min_delta: What a report must gain on the best one to count as an improvement.
        timeout_seconds: Time limit of one trial; None for none.
        checkpoints: Where checkpoints of running trials are kept; see `Reporter`.
        checkpoint_every: Reports between two checkpoints, at least.
        checkpoint_seconds: Seconds between them, at least.

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

    facts: Mapping[str, Any] = {}
    """What the values depend on besides params and seed, such as how the data is split and ranked:
    plain values by name. `run` stores them with the study and mixes no others into it."""

    def __init__(
        self,
        *,
        search_space: SearchSpace | Mapping[str, Any],
        direction: str,
        max_steps: int,
        patience: int | None = None,
        min_delta: float = 0.0,
        timeout_seconds: float | None = None,
        checkpoints: ArtifactStore | None = None,
        checkpoint_every: int = 1,
        checkpoint_seconds: float = 10.0,
    ) -> None:
        check_count("max_steps", max_steps)
        self.search_space = as_space("search_space", search_space)
        self.direction = one_of("direction", direction, ("minimize", "maximize"))
        self.max_steps = max_steps
        self.patience = patience
        self.min_delta = min_delta
        self.timeout_seconds = timeout_seconds
        self.checkpoints = checkpoints
        self.checkpoint_every = checkpoint_every
        self.checkpoint_seconds = checkpoint_seconds
        self.reporter(seed=0)  # refuses a bad patience, min_delta or time limit now

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

    def fit(self, params: Mapping[str, Any], seed: int) -> Any:
        """Train with ``params`` outside any trial and return the model.

        Args:
            params: Name -> value.
            seed: Seeds everything random.

        Raises:
            NotImplementedError: If the objective cannot.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define `fit`.")

    def evaluate(self, model: Any, data: Any) -> dict[str, float]:
        """Return the metrics of a model that `fit` made, on data of the subclass's kind.

        Raises:
            NotImplementedError: If the objective cannot.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define `evaluate`.")

    def references(self) -> Mapping[str, Mapping[str, float] | str]:
        """Return what simple solutions reach, which a tuned one must beat to be worth it.

        They stand beside the trials in reports, so they are metrics of the data that trials' values
        come from, the tuned one first. `run` asks for them once a study and stores them.

        Returns:
            Name -> its metrics, or a str that says why it has none. Empty by default.
        """
        return {}

    def check(self) -> None:
        """Refuse, before a trial is spent, an objective that cannot train its default.

        `run` calls it once. A subclass extends it by what only shows once a model is built.

        Raises:
            InvalidArgument: If the space's default configuration is outside the space.
        """
        self.search_space.to_trial(self.search_space.defaults())

    def with_search_space(self, search_space: SearchSpace | Mapping[str, Any]) -> Self:
        """Return the same objective with another search space; the data is shared."""
        other = copy.copy(self)
        other.search_space = as_space("search_space", search_space)
        return other

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
                f"{self._value_name()} asks for, got {', '.join(map(repr, directions))}."
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
            patience=self.patience,
            min_delta=self.min_delta,
            timeout_seconds=self.timeout_seconds,
            direction=self.direction,
            seed=seed,
            checkpoints=self.checkpoints,
            checkpoint_every=self.checkpoint_every,
            checkpoint_seconds=self.checkpoint_seconds,
            deadline=deadline,
        )

    def _value_name(self) -> str:
        return "the objective"
