"""FunctionObjective: any trainer that is a function of params and a reporter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpolab.errors import InvalidType
from hpolab.identity import function_name, function_settings
from hpolab.keywords import checks_keywords
from hpolab.objectives.base import UNNAMED, Objective
from hpolab.trial.reporter import ReporterOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Unpack

    from hpolab.search_space.space import SearchSpace
    from hpolab.trial.reporter import Reporter

__all__ = ["FunctionObjective"]


class FunctionObjective(Objective):
    """An objective made of a function that trains: another library's trainer, or one's own.

    Args:
        function: Takes (params, reporter), trains, calls ``reporter.report(value, step)`` while
            it does, and returns the trial's value. What is random in it is seeded from
            ``reporter.seed``. For worker processes it must be picklable by cloudpickle.
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
    """

    @checks_keywords(ReporterOptions)
    def __init__(
        self,
        function: Callable[[Mapping[str, Any], Reporter], float],
        *,
        search_space: SearchSpace | Mapping[str, Any],
        metric: str = UNNAMED,
        direction: str,
        max_steps: int,
        facts: Mapping[str, Any] | None = None,
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
        self._function = function
        self.facts = dict(facts or {})

    def train(self, params: Mapping[str, Any], reporter: Reporter) -> float:
        """Call the function."""
        return self._function(params, reporter)

    def _training_in_words(self) -> str:
        return function_name(self._function)

    def _known_facts(self) -> dict[str, Any]:
        return super()._known_facts() | {"function": function_settings(self._function)}

    def _functions(self) -> dict[str, Any]:
        return {"function": self._function}
