"""What influence() finds: importances, groups, differences and interactions, and words for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpolab.analysis.results import Result
from hpolab.analysis.wording import count, ends, estimated, p_words, percent, short
from hpolab.errors import one_of
from hpolab.tables import TextTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hpolab.analysis.effects import Effect
    from hpolab.analysis.smooth_effects import SmoothEffect

__all__ = [
    "MIN_TRIALS",
    "Cell",
    "Difference",
    "Importance",
    "Influence",
    "Interaction",
    "ParameterInfluence",
    "ValueGroup",
]

MIN_TRIALS = 20
"""Fewer trials give no importances: they would show little but chance."""


@dataclass(frozen=True)
class Importance:
    """A parameter's share of the importance of all parameters that its trials have in common.

    It ranks parameters and is no test: shares sum to one in pure noise as well.

    Attributes:
        share: The share in the trials as they are, 0 to 1.
        mean: The mean share over resamples of the trials.
        low: Lower end of the range over resamples.
        high: Upper end of the range over resamples. The range says how firm the share is for these
            trials, one parameter at a time. It is no confidence interval: few trials draw shares
            towards each other, and the share that thousands have is mostly outside.
    """

    share: float
    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"importance {self.in_brief()} over resamples"

    def in_brief(self) -> str:
        """Return the share and its range over resamples."""
        return f"{self.share:.2f}, {self.low:.2f} to {self.high:.2f}"


@dataclass(frozen=True)
class ValueGroup:
    """The trials in which a parameter has about the same value.

    Attributes:
        label: The parameter's values in this group.
        n_trials: The number of trials.
        mean: Their mean value.
        low: Lower end of the mean's t interval; None for a single trial. It is for one mean at a
            time, as if the trials were independent draws.
        high: Upper end of the mean's t interval; None for a single trial.
    """

    label: str
    n_trials: int
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference:
    """How much better the mean of one group of trials is than that of another.

    It includes whatever else was different between the two groups. With a sampler that learns, most
    of a difference may come from other parameters: the later trials are better, and closer together
    in every parameter. Whether the parameter itself has an effect is what `SmoothEffect` tests.

    Attributes:
        better: The better group's label.
        worse: The other group's label.
        effect: How much better its mean is, with a Welch t interval that is widened for all pairs
            of groups that were compared, over all parameters (Bonferroni). It holds the difference
            of such groups if the trials were drawn at random. It is significant if it excludes zero
            and the parameter's smooth effect is significant.
    """

    better: str
    worse: str
    effect: Effect

    @property
    def is_significant(self) -> bool:
        """Whether the interval excludes zero, and the parameter's smooth effect is significant."""
        return self.effect.is_significant

    def __str__(self) -> str:
        amount = estimated(self.effect)
        if self.is_significant:
            return f"{self.better} is better than {self.worse} by {amount}"
        return f"the means of {self.better} and {self.worse} differ by {amount}"


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
        share: The share of the values' variance, 0 to 1, that means by cell explain beyond the sum
            of the means by either parameter.
        p_value: The test's p-value, multiplied by the number of pairs tested.
        is_significant: Whether the test finds an interaction, and the product of the two explains
            something given smooth effects of them and of all others that may have one.
        cells: Means by both groups; cells without a trial are left out.
    """

    parameters: tuple[str, str]
    share: float
    p_value: float
    is_significant: bool
    cells: tuple[Cell, ...]

    def __str__(self) -> str:
        found = "significant" if self.is_significant else "not significant"
        return (
            f"{' and '.join(self.parameters)} together explain {percent(self.share)} of the "
            f"variance beyond their sum ({p_words(self.p_value)}): {found}"
        )


@dataclass(frozen=True)
class ParameterInfluence:
    """What one parameter does.

    Attributes:
        name: Its name in the trials.
        n_trials: The number of complete trials that have it.
        smooth_effect: The test of whether the value depends on it; None where there are too few
            trials.
        importance: None where there are too few trials.
        groups: Mean values by the parameter's value, in order.
        difference: Between the two groups that differ most clearly; None where no two groups have
            two trials.
    """

    name: str
    n_trials: int
    smooth_effect: SmoothEffect | None
    importance: Importance | None
    groups: tuple[ValueGroup, ...]
    difference: Difference | None

    @property
    def is_significant(self) -> bool:
        """Whether the value depends on it: its smooth effect is significant."""
        return self.smooth_effect is not None and self.smooth_effect.is_significant

    @property
    def has_too_little_spread(self) -> bool:
        """Whether nothing was found and its trials are too close together to expect that."""
        return self.smooth_effect is not None and self.smooth_effect.has_too_little_spread

    def __str__(self) -> str:
        tested = "too few trials to test it" if self.smooth_effect is None else self.smooth_effect
        if self.difference is None:
            means = "too few trials: no two groups vary and have two trials or more"
        else:
            means = str(self.difference)
        parts = [tested, means, *([self.importance] if self.importance else [])]
        return f"{self.name}: {'; '.join(map(str, parts))}."


@dataclass(frozen=True, repr=False)
class Influence(Result):
    """What each parameter does to the value.

    Attributes:
        parameters: By name, significant ones first, in the order in which they were found, then by
            importance.
        interaction: The strongest interaction of two parameters; None where there are too few
            trials.
        skipped: Parameters that are not judged, and why.
        n_trials: The number of complete trials.
        left_out: The number of trials that were left out, by state.
        n_repeated: The number of complete trials whose configuration was run more than once.
        confidence: The confidence of the intervals, and one minus the probability that anything is
            called significant that is not.
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
        """What can be said and what cannot, line by line; the last line sums it up."""
        each = [str(parameter) for parameter in self.parameters.values()]
        skipped = [f"{name}: not judged, {reason}." for name, reason in self.skipped.items()]
        together = [f"{self.interaction}."] if self.interaction else []
        return (self._counted(), *each, *skipped, *together, *self.spread_words, self._summary())

    def __getitem__(self, name: str) -> ParameterInfluence:
        return self.parameters[one_of("name", name, self.parameters)]

    def _in_one_line(self) -> str:
        return f"{self._counted()} {self._summary()}"

    def _parts(self) -> list[str | TextTable]:
        interval = f"{percent(self.confidence)} interval"
        head = ["parameter", "values", "trials", "mean", interval, "importance, range"]
        rows = [
            [
                each.name if place == 0 else "",
                group.label,
                str(group.n_trials),
                short(group.mean),
                "-" if group.low is None or group.high is None else ends(group.low, group.high),
                str(each.importance).partition(" ")[2] if place == 0 and each.importance else "",
            ]
            for each in self.parameters.values()
            for place, group in enumerate(each.groups)
        ]
        table = [TextTable(head, rows)] if rows else []
        return [*table, "\n".join(self.verdict)]

    def _records(self) -> Iterator[dict[str, Any]]:
        for each in self.parameters.values():
            importance = each.importance
            for group in each.groups:
                yield {
                    "parameter": each.name,
                    "values": group.label,
                    "n_trials": group.n_trials,
                    "mean": group.mean,
                    "low": group.low,
                    "high": group.high,
                    "importance": None if importance is None else importance.share,
                    "p_value": None if each.smooth_effect is None else each.smooth_effect.p_value,
                    "is_significant": each.is_significant,
                }

    def _counted(self) -> str:
        counts = ", ".join(f"{n} {state}" for state, n in self.left_out.items())
        left_out = f"; left out: {counts}" if counts else ""
        few = ", too few for importances" if self.n_trials < MIN_TRIALS else ""
        return f"{count(self.n_trials, 'complete trial')}{few}{left_out}."

    @property
    def spread_words(self) -> tuple[str, ...]:
        """In which parameters the trials are too close together to tell; empty if in none."""
        narrow = [name for name, each in self.parameters.items() if each.has_too_little_spread]
        if not narrow:
            return ()
        who = "These runs have" if self.imported else "The sampler has left"
        return (
            f"{who} too little spread in {', '.join(narrow)} to tell. Trials that are spread "
            "evenly, as random ones are, would tell.",
        )

    def _summary(self) -> str:
        once = "" if self.n_repeated else " at one run each"
        found = [name for name, each in self.parameters.items() if each.is_significant]
        if self.interaction is not None and self.interaction.is_significant:
            found.append(" with ".join(self.interaction.parameters))
        if not found:
            return f"No effect of a parameter is significant{once}."
        by_hand = (
            " These runs were made elsewhere. If their parameters were not drawn at random, the "
            "cause may be another parameter that was changed at the same time."
        )
        return f"Significant{once}: {', '.join(found)}.{by_hand if self.imported else ''}"
