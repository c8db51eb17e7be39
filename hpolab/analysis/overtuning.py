"""How likely what tuning has picked is worse than the configuration it started from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpolab.analysis.statistics import chance_worse
from hpolab.analysis.wording import count, percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpolab.analysis.confirmation import Confirmation
    from hpolab.analysis.neighbors import Landscape

__all__ = ["PUBLISHED", "Overtuning", "of_confirmation", "of_study"]

PUBLISHED = "about 10 % of published tunings (Schneider et al. 2025)"
"""Where the selected configuration was worse than the default, or than the first one tried."""


@dataclass(frozen=True)
class Overtuning:
    """The chance that the best trial is worse than the baseline.

    Schneider, Bischl & Feurer 2025, "Overtuning in Hyperparameter Optimization" (AutoML), found
    that the selected configuration was worse on new data than the default, or than the first one
    tried, in about 10 % of tunings.

    Attributes:
        chance: The chance, from 0 to 1; None if nobody knows.
        baseline_name: "the default" or "the baseline".
        source: How it is known, or why it is not, in words.
    """

    chance: float | None
    baseline_name: str
    source: str

    def __str__(self) -> str:
        said = "not known" if self.chance is None else _about(self.chance)
        return (
            f"Chance that the best trial is worse than {self.baseline_name}: {said} "
            f"({self.source}). It is so in {PUBLISHED}."
        )


def _about(chance: float) -> str:
    """Return a chance in words.

    Example:
        >>> _about(0.12), _about(0.001), _about(0.999)
        ('about 12 %', 'less than 1 %', 'more than 99 %')
    """
    said = percent(chance)
    if said.startswith(("<", ">")):
        return said.replace("<", "less than").replace(">", "more than")
    return f"about {said}"


def of_confirmation(confirmation: Confirmation) -> Overtuning:
    """Return the chance that the tuning's best trial is worse, judged by its confirmation.

    The test scores have had no part in the choice of the best trial, so they need no correction.
    Nothing is taken to be known beforehand: among tunings whose true differences are twice as large
    as their error, those with a said chance of 15 % are worse in 18 %; where differences are as
    large as the error, in 23 %.
    """
    effect, baseline = confirmation.configurations[0].improvement, confirmation.baseline_name
    if effect is None:
        return Overtuning(None, baseline, "a training was lost on a seed")
    if effect.p_value is None or effect.error is None or effect.freedom is None:
        return Overtuning(None, baseline, "nothing shows how much chance there is in its scores")
    chance = chance_worse(effect.estimate, effect.error, effect.freedom)
    seeds = count(confirmation.n_seeds, "seed")
    return Overtuning(chance, baseline, f"{confirmation.where}, trained again on {seeds}")


def of_study(
    landscape: Landscape, values: Sequence[float], best: int, baseline: int, baseline_name: str
) -> Overtuning:
    """Return the same for a study that was not confirmed, judged by its own trials.

    The best trial's true value is that of the landscape's process, which corrects for its having
    been chosen. The baseline is believed with equal weights to be a place like any other, whose
    true value the trials around it show as well, and to be chosen with care, so that only its own
    value counts. In simulations, best trials that were said to be worse with a chance of 10 to 20 %
    were so in 14 % where the baseline was near the optimum, and in 5 % where it was drawn at
    random.

    Args:
        landscape: Of the study's complete trials.
        values: Their values, where more is better.
        best: The best trial's place among them.
        baseline: The baseline's place.
        baseline_name: What it is called.
    """
    if best == baseline:
        return Overtuning(None, baseline_name, "it is the best trial itself")
    alike = landscape.chance_worse(best, baseline)
    chosen = landscape.chance_below_value(best, values[baseline])
    if alike is None or chosen is None:
        why = "not confirmed, and the trials are too few, or say too little, to tell"
        return Overtuning(None, baseline_name, why)
    source = (
        "not confirmed: a smooth function of the parameters estimates it from the study's own "
        "values, and the data that they were scored on"
    )
    return Overtuning((alike + chosen) / 2, baseline_name, source)
