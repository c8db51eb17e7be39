"""What influence() finds: importances, groups, differences, interactions, and words for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpolab.errors import one_of
from hpolab.studies.export import as_table

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "MIN_TRIALS",
    "Cell",
    "Difference",
    "Group",
    "Importance",
    "Influence",
    "Interaction",
    "ParameterInfluence",
]

MIN_TRIALS = 20
"""Below it, importances tell little but chance, and there are none."""


@dataclass(frozen=True)
class Importance:
    """A parameter's share of the importance of those that its trials have in common.

    Attributes:
        share: Of the trials as they are, 0 to 1.
        mean: Over resamples of the trials.
        low: Lower end of the interval over resamples.
        high: Its upper end.
        noise: What it may be by chance alone, as shuffles of the values among the trials show.
    """

    share: float
    mean: float
    low: float
    high: float
    noise: float

    @property
    def is_told(self) -> bool:
        """Whether it is more than shuffled values reach."""
        return self.share > self.noise

    def __str__(self) -> str:
        place = "above" if self.is_told else "within"
        return (
            f"importance {self.share:.2f} ({self.low:.2f} to {self.high:.2f}), {place} the "
            f"{self.noise:.2f} that shuffled values reach"
        )


@dataclass(frozen=True)
class Group:
    """The trials in which a parameter has about one value.

    Attributes:
        label: Which ones.
        n_trials: How many.
        mean: Their mean value.
        low: Lower end of the mean's t interval; None for a single trial.
        high: Its upper end.
    """

    label: str
    n_trials: int
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference:
    """How much better one group of trials is than another.

    Attributes:
        better: The better group's label.
        worse: The other's.
        amount: How much better its mean is, 0 or above in either direction.
        low: Lower end of the interval; below 0 the other may be better.
        high: Its upper end.
    """

    better: str
    worse: str
    amount: float
    low: float
    high: float

    @property
    def is_told(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0

    def __str__(self) -> str:
        told = (
            "more than noise"
            if self.is_told
            else "cannot be told from noise, as the interval holds zero"
        )
        return (
            f"{self.better} is {self.amount:.3g} better than {self.worse} "
            f"({self.low:+.3g} to {self.high:+.3g}): {told}"
        )


@dataclass(frozen=True)
class Cell:
    """The trials of one group of either parameter of a pair: labels, mean value and count."""

    labels: tuple[str, str]
    mean: float
    n_trials: int


@dataclass(frozen=True)
class Interaction:
    """What two parameters do together beyond the sum of what each does.

    Attributes:
        parameters: The pair.
        share: Of the values' variance, what means by cell explain beyond the sum of the means by
            either parameter, 0 to 1.
        p_value: Of its test, multiplied by the number of pairs tried.
        is_told: Whether it is more than noise.
        cells: Means by both groups; those without a trial are left out.
    """

    parameters: tuple[str, str]
    share: float
    p_value: float
    is_told: bool
    cells: tuple[Cell, ...]

    def __str__(self) -> str:
        told = "more than noise" if self.is_told else "cannot be told from noise"
        return (
            f"{' and '.join(self.parameters)} together: {self.share:.0%} of the variance beyond "
            f"their sum (p {self.p_value:.2g}): {told}"
        )


@dataclass(frozen=True)
class ParameterInfluence:
    """What one parameter does.

    Attributes:
        name: Its name in the trials.
        n_trials: Complete trials that have it.
        importance: None where there are too few trials.
        groups: Means by its value, in order.
        difference: Between the two groups that can best be told apart; None where no two have two
            trials.
    """

    name: str
    n_trials: int
    importance: Importance | None
    groups: tuple[Group, ...]
    difference: Difference | None

    @property
    def is_told(self) -> bool:
        """Whether it can be told from noise that the parameter matters."""
        found = (self.difference, self.importance)
        return any(each.is_told for each in found if each is not None)

    def __str__(self) -> str:
        if self.difference is None:
            words = "too few trials to tell: no two groups vary and have two trials or more"
        else:
            words = str(self.difference)
        return f"{self.name}: {words}" + (f"; {self.importance}" if self.importance else "") + "."


@dataclass(frozen=True)
class Influence:
    """What each parameter does; ``str()`` of it is a table for the terminal.

    Attributes:
        parameters: By name, the most important first.
        interaction: Of the pair that has the most of it; None where there are too few trials.
        skipped: Parameters that are not judged, and why.
        n_trials: Complete trials.
        left_out: Trials that are not, by state.
        n_repeated: Complete trials whose configuration another one has too.
        confidence: Of the intervals.
        imported: Whether the runs were made elsewhere, maybe by hand: then nobody knows whether
            parameters were varied independently of each other.
    """

    parameters: Mapping[str, ParameterInfluence]
    interaction: Interaction | None
    skipped: Mapping[str, str]
    n_trials: int
    left_out: Mapping[str, int]
    n_repeated: int
    confidence: float
    imported: bool = False

    @property
    def verdict(self) -> tuple[str, ...]:
        """What can be said, and what cannot, line by line."""
        each = [str(parameter) for parameter in self.parameters.values()]
        skipped = [f"{name}: not judged, {reason}." for name, reason in self.skipped.items()]
        together = [f"{self.interaction}."] if self.interaction else []
        return (self._counted(), *each, *skipped, *together, self._summary())

    def __getitem__(self, name: str) -> ParameterInfluence:
        return self.parameters[one_of("name", name, self.parameters)]

    def __str__(self) -> str:
        head = ["parameter", "values", "trials", "mean", f"{self.confidence:.0%} interval", ""]
        rows = [
            [
                each.name if place == 0 else "",
                group.label,
                str(group.n_trials),
                f"{group.mean:.5g}",
                "-" if group.low is None else f"{group.low:.5g} to {group.high:.5g}",
                _brief(each.importance) if place == 0 else "",
            ]
            for each in self.parameters.values()
            for place, group in enumerate(each.groups)
        ]
        return "\n".join([as_table([head, *rows]), "", *self.verdict])

    def _counted(self) -> str:
        counts = ", ".join(f"{n} {state}" for state, n in self.left_out.items())
        left_out = f"; left out: {counts}" if counts else ""
        few = ", too few for importances" if self.n_trials < MIN_TRIALS else ""
        return f"{self.n_trials} complete trials{few}{left_out}."

    def _summary(self) -> str:
        once = "" if self.n_repeated else " at one run each"
        told = [name for name, each in self.parameters.items() if each.is_told]
        if self.interaction is not None and self.interaction.is_told:
            told.append(" with ".join(self.interaction.parameters))
        if not told:
            return f"None of these differences can be told from noise{once}."
        by_hand = (
            " These runs were made elsewhere: where they were not drawn at random, it may be the "
            "doing of what was changed along with it."
        )
        return f"More than noise{once}: {', '.join(told)}.{by_hand if self.imported else ''}"


def _brief(importance: Importance | None) -> str:
    if importance is None:
        return ""
    return f"importance {importance.share:.2f} ({importance.low:.2f} to {importance.high:.2f})"
