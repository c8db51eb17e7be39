"""FunctionObjective: any trainer that is a function of params and a reporter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.errors import InvalidType
from hpolab.identity import function_name, function_settings
from hpolab.keywords import checks_keywords
from hpolab.objectives.base import UNNAMED, Objective
from hpolab.seeding import check_seed
from hpolab.trial.reporter import ReporterOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

    from numpy.typing import NDArray

    from hpolab.search_space.space import SearchSpace
    from hpolab.trial.reporter import Reporter

__all__ = ["FunctionObjective"]


class FunctionObjective(Objective):
    """An objective made of a function that trains: another library's trainer, or one's own.

    Args:
        function: Takes (params, reporter), trains, calls ``reporter.report(value, step)`` while
            it does, and returns the trial's value, or the value and the model: (value, model). What
            is random in it is seeded from ``reporter.seed``. For worker processes it must be
            picklable by cloudpickle.
        search_space: What is suggested to each trial: a `SearchSpace`, or a dict of ranges.
        metric: What to call the value that the function returns.
        direction: "minimize" or "maximize".
        max_steps: Reports of a full training, 1 or above.
        facts: What the values depend on besides, such as ``{"data": data_fingerprint(X)}``. The
            function's name counts by itself. If its code has changed, or arrays, settings and code
            that it reads by name, the log says so, and the study goes on.
        **settings: ``patience`` and the others of `ReporterSettings`.

    Raises:
        InvalidType: If ``function`` is no function.
        InvalidArgument: As `Objective`.

    Example:
        >>> from hpolab import make_study, run
        >>> def descend(params, reporter):
        ...     weight = 5.0
        ...     for step in reporter.steps(20):
        ...         weight -= params["lr"] * 2 * weight
        ...         reporter.report(weight**2, step)
        ...     return reporter.best_value
        >>> ranges = {"lr": (1e-3, 1e-1, "log")}
        >>> objective = FunctionObjective(
        ...     descend, search_space=ranges, direction="minimize", max_steps=20
        ... )
        >>> study = make_study("descent", storage="memory://", objective=objective, seed=0)
        >>> run(study, objective, n_trials=3)
        >>> len(study.trials)
        3

        With the model behind the value, the study leads to the best trial's own model:

        >>> def train(params, reporter):
        ...     weight, best = 5.0, None
        ...     for step in reporter.steps(20):
        ...         weight -= params["lr"] * 2 * weight
        ...         reporter.report(weight**2, step)
        ...         best = weight if reporter.improved else best
        ...     return reporter.best_value, best
        >>> objective = FunctionObjective(
        ...     train, search_space=ranges, direction="minimize", max_steps=20
        ... )
        >>> study = make_study("best", storage="memory://", objective=objective, seed=0)
        >>> run(study, objective, n_trials=3)
        >>> objective.fit_best(study) ** 2 == study.best_value
        True
    """

    @checks_keywords(ReporterOptions)
    def __init__(
        self,
        function: Callable[[Mapping[str, Any], Reporter], float | tuple[float, Any]],
        *,
        search_space: SearchSpace | Mapping[str, Any],
        metric: str = UNNAMED,
        direction: str,
        max_steps: int,
        facts: Mapping[str, Any] | None = None,
        evaluate: Callable[[Any, Any], float | Mapping[str, float]] | None = None,
        row_scores: Callable[[Any, Any], NDArray[np.float64]] | None = None,
        **settings: Unpack[ReporterOptions],
    ) -> None:
        if not callable(function):
            raise InvalidType(
                "`function` must be a function of (params, reporter), got "
                f"{type(function).__name__}."
            )
        super().__init__(
            search_space=search_space,
            metric=metric,
            direction=direction,
            max_steps=max_steps,
            **settings,
        )
        for name, given in (("evaluate", evaluate), ("row_scores", row_scores)):
            if given is not None and not callable(given):
                raise InvalidType(
                    f"`{name}` must be a function of (model, data), got {type(given).__name__}."
                )
        self._function = function
        self._evaluate = evaluate
        self._row_scores = row_scores
        self.facts = dict(facts or {})

    def train(self, params: Mapping[str, Any], reporter: Reporter) -> float:
        """Call the function, and return the value."""
        value: float = self._value_and_model(params, reporter)[0]
        return value

    @checks_keywords()
    def fit(self, params: Mapping[str, Any], seed: int = 0) -> Any:
        """Call the function outside any trial, and return the model.

        Args:
            params: A trial's params, such as ``study.best_params``, or the trainer's.
            seed: Becomes ``reporter.seed``, 0 or above.

        Raises:
            NotImplementedError: If the function returns the value alone.
        """
        check_seed(seed)
        found = self._value_and_model(self._configuration(params), self.reporter(seed=seed))
        if len(found) == 1:
            raise NotImplementedError(
                "`function` must return (value, model) for a model of a trial, got the value alone."
            )
        return found[1]

    @checks_keywords()
    def evaluate(self, model: Any, data: Any) -> dict[str, float]:
        """Return what ``evaluate`` or ``row_scores`` says of a model: metric -> value.

        Raises:
            NotImplementedError: If neither was given.
        """
        if self._evaluate is not None:
            found = self._evaluate(model, data)
        elif self._row_scores is not None:
            found = float(np.mean(self._row_scores(model, data)))
        else:
            raise NotImplementedError(self._without("evaluate"))
        return dict(found) if isinstance(found, Mapping) else {self.metric: float(found)}

    @checks_keywords()
    def row_scores(self, model: Any, data: Any) -> NDArray[np.float64] | None:
        """Return what ``row_scores`` says of each row; None if it was not given."""
        return None if self._row_scores is None else self._row_scores(model, data)

    def why_not_confirmed(self) -> str | None:
        """See `Objective.why_not_confirmed`; a subclass may have an `evaluate` of its own."""
        is_own = type(self).evaluate is not FunctionObjective.evaluate
        return None if is_own or self._is_scored() else self._without("evaluate")

    def _is_scored(self) -> bool:
        return self._evaluate is not None or self._row_scores is not None

    def _without(self, argument: str) -> str:
        return (
            f"`{argument}` must be given to a FunctionObjective whose models are to be scored: a "
            "function of (model, data) that returns the metric. The function that trains then "
            "returns (value, model)."
        )

    def _value_and_model(self, params: Mapping[str, Any], reporter: Reporter) -> tuple[Any, ...]:
        """Return (value,) or (value, model), as the function returns it."""
        returned = self._function(params, reporter)
        found: tuple[Any, ...] = returned if isinstance(returned, tuple) else (returned,)
        if len(found) > 2 or not found:
            raise InvalidType(
                f"`function` must return the value, or (value, model), got {len(found)} values."
            )
        if self._is_scored() and len(found) == 1:
            raise InvalidType(
                "`function` must return (value, model) where its models are to be evaluated, got "
                f"{type(found[0]).__name__}."
            )
        return found

    def _training_in_words(self) -> str:
        return function_name(self._function)

    def _known_facts(self) -> dict[str, Any]:
        return super()._known_facts() | {"function": function_settings(self._function)}

    def _functions(self) -> dict[str, Any]:
        return {"function": self._function}
