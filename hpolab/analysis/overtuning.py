"""How likely what tuning has picked is worse than the configuration it started from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpolab.analysis.statistics import CONFIDENCE
from hpolab.analysis.wording import count, percent

if TYPE_CHECKING:
    from hpolab.analysis.confirmation import Confirmation
    from hpolab.analysis.effects import Effect

__all__ = ["Overtuning", "chance_worse", "overtuning_of"]

_PUBLISHED = "about 10 % of published tunings (Schneider et al. 2025)"


@dataclass(frozen=True)
class Overtuning:
    """The chance that the best trial is worse than the baseline.

    Schneider, Bischl & Feurer 2025, "Overtuning in Hyperparameter Optimization" (AutoML), found
    that the selected configuration was worse on new data than the default, or than the first one
    tried, in about 10 % of tunings.

    Attributes:
        chance: The chance, from 0 to 1; None if nobody knows.
        source: How it is known, or why it is not, in words.
    """

    chance: float | None
    source: str

    def __str__(self) -> str:
        said = "not known" if self.chance is None else percent(self.chance)
        return (
            f"Chance that the best trial is worse than the baseline: {said} ({self.source}). It "
            f"was in {_PUBLISHED}."
        )


def chance_worse(estimate: float, error: float, freedom: float) -> float:
    """Return the chance that a true difference is below 0.

    Nothing is known of the difference beforehand: its posterior distribution is Student's t around
    the estimate.

    Args:
        estimate: The estimated difference: above 0 where it is better.
        error: Its standard error, 0 or above.
        freedom: The degrees of freedom of that error.

    Example:
        >>> chance_worse(0.0, 1.0, 9), round(chance_worse(2.0, 1.0, 9), 3)
        (0.5, 0.038)
    """
    from scipy.special import stdtr

    if error == 0:
        return 0.5 if estimate == 0 else float(estimate < 0)
    return float(stdtr(freedom, -estimate / error))


def overtuning_of(confirmation: Confirmation) -> Overtuning:
    """Return the chance that the tuning's best trial is worse, judged by its confirmation.

    Its test scores have had no part in its choice, so they need no correction.
    """
    first = confirmation.configurations[0]
    effect, n_seeds = first.improvement, count(confirmation.n_seeds, "seed")
    if effect is None:
        return Overtuning(None, "its training was lost on a seed")
    if effect.p_value is None:
        return Overtuning(None, "its trainings do not depend on their seed")
    error, freedom = _error_of(effect, confirmation.n_seeds)
    chance = chance_worse(effect.estimate, error, freedom)
    return Overtuning(chance, f"trained again on {n_seeds}, scored on the test data")


def _error_of(effect: Effect, n_seeds: int) -> tuple[float, float]:
    from scipy.special import stdtrit

    freedom = max(1, n_seeds - 1)
    half = (effect.high - effect.low) / 2
    return half / float(stdtrit(freedom, (1 + CONFIDENCE) / 2)), freedom
