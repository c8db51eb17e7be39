"""What a confirmation has found: configurations, their intervals, and a verdict in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpolab.analysis.statistics import CONFIDENCE, Estimate

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CONFIRMED", "Configuration", "Confirmation", "Shrinkage"]

CONFIRMED = "-confirm"
"""What a confirmation's study is called behind the name of the study that it confirms."""


@dataclass(frozen=True)
class Configuration:
    """A configuration and how it did on the test data.

    Attributes:
        params: Name -> value, as `Objective.fit` takes them.
        trial: The number of its trial in the tuning study; None if it was never tried there.
        tuning_value: The value of that trial; None likewise.
        scores: Seed -> score on the test data, in the order of the seeds.
        lost: Seed -> why it has no score: the training diverged, or failed.
        mean: The mean score with its 95 % interval; None if a seed is lost.
        tuning_lead: By how much it was better than the baseline in tuning, below 0 if worse; None
            for the baseline, and where one of the two has no tuning value.
        lead: By how much it is better than the baseline on the test data, seed by seed, with its
            95 % interval; None for the baseline, and if one of the two has lost a seed.
        p_value: Of the lead being zero, by Holm's correction for all configurations; None where
            there is no lead, or where neither of the two scores depends on the seed.
    """

    params: Mapping[str, Any]
    trial: int | None
    tuning_value: float | None
    scores: Mapping[int, float]
    lost: Mapping[int, str]
    mean: Estimate | None
    tuning_lead: float | None = None
    lead: Estimate | None = None
    p_value: float | None = None

    @property
    def differs(self) -> bool:
        """Whether it is better or worse than the baseline, beyond chance."""
        return self.p_value is not None and self.p_value <= 1 - CONFIDENCE

    @property
    def is_better(self) -> bool:
        """Whether it is better than the baseline, beyond chance."""
        return self.differs and self.lead is not None and self.lead.mean > 0


@dataclass(frozen=True)
class Shrinkage:
    """What is left of the lead by which the best trial of the tuning won.

    Attributes:
        trial: Its number.
        tuning_lead: By how much it was better than the baseline in tuning.
        lead: By how much it is on the test data.
        share: The second in parts of the first, 1 where nothing is lost; None where it did not
            lead in tuning.
    """

    trial: int
    tuning_lead: float
    lead: float
    share: float | None

    def __str__(self) -> str:
        then, now = (
            f"{'led' if lead >= 0 else 'was behind'} by {_number(abs(lead))}"
            for lead in (self.tuning_lead, self.lead)
        )
        text = f"In tuning trial {self.trial} {then}, on the test data it {now}"
        if self.share is None:
            return f"{text}."
        left = f"{self.share:.0%}" if self.share > 0 else "none"
        return f"{text}: {left} of its lead is left."


@dataclass(frozen=True)
class Confirmation:
    """What a confirmation has found; ``str()`` of it is a table for the terminal.

    Attributes:
        study_name: The name of the tuning study.
        metric: The name of the test score.
        direction: "minimize" or "maximize": where that score gets better.
        baseline: What all others are compared with.
        configurations: Those that led the tuning, the best of them first.
        baseline_name: "the default", or "the baseline" if it was given.
        n_seeds: Seeds that each configuration was trained with.
        n_seeds_needed: About how many seeds would find the largest lead of those undecided; None
            where a configuration is better, or no number would do.
    """

    study_name: str
    metric: str
    direction: str
    baseline: Configuration
    configurations: tuple[Configuration, ...]
    baseline_name: str
    n_seeds: int
    n_seeds_needed: int | None

    @property
    def best(self) -> Configuration | None:
        """The configuration with the largest lead on the test data, better than chance or not."""
        led = [each for each in self.configurations if each.lead is not None]
        return max(led, key=_lead_of, default=None)

    @property
    def winner(self) -> Configuration | None:
        """The configuration with the largest lead of those that are better beyond chance."""
        better = [each for each in self.configurations if each.is_better]
        return max(better, key=_lead_of, default=None)

    @property
    def shrinkage(self) -> Shrinkage | None:
        """What is left of the lead that the tuning's best trial had; None where one is unknown."""
        first = self.configurations[0]
        if first.trial is None or first.lead is None or first.tuning_lead is None:
            return None
        share = first.lead.mean / first.tuning_lead if first.tuning_lead > 0 else None
        return Shrinkage(first.trial, first.tuning_lead, first.lead.mean, share)

    @property
    def undecided(self) -> tuple[Configuration, ...]:
        """The configurations that cannot be told from the baseline, the largest lead first."""
        doubtful = [each for each in self.configurations if each.lead and not each.differs]
        return tuple(sorted(doubtful, key=_lead_of, reverse=True))

    @property
    def verdict(self) -> str:
        """What came of it, in words."""
        return _verdict(self)

    def __str__(self) -> str:
        return _text(self)


def _lead_of(configuration: Configuration) -> float:
    assert configuration.lead is not None
    return configuration.lead.mean


def _verdict(confirmation: Confirmation) -> str:
    if confirmation.baseline.lost:
        return (
            f"Nothing can be compared with {confirmation.baseline_name}, whose training "
            f"{_losses(confirmation.baseline)}."
        )
    best, winner = confirmation.best, confirmation.winner
    if best is None:
        return "No configuration can be judged: the training of each was lost on a seed."
    if winner is not None:
        return _verdict_of_winner(confirmation, winner)
    if not confirmation.undecided:
        return (
            f"No configuration is better than {confirmation.baseline_name}; the best of them, "
            f"{_name(best)}, is worse by {_proof(best, confirmation)}."
        )
    return _verdict_of_doubt(confirmation, confirmation.undecided[0])


def _verdict_of_winner(confirmation: Confirmation, winner: Configuration) -> str:
    text = (
        f"{_name(winner)} is better than {confirmation.baseline_name} by "
        f"{_proof(winner, confirmation)}"
    )
    others = [_name(each) for each in confirmation.configurations if each.is_better]
    others.remove(_name(winner))
    text = text[0].upper() + text[1:]
    if not others:
        return f"{text}."
    verb = "is" if len(others) == 1 else "are"
    return f"{text}; so {verb} {', '.join(others)}, by less."


def _verdict_of_doubt(confirmation: Confirmation, best: Configuration) -> str:
    assert best.lead is not None
    text = f"No configuration can be told from {confirmation.baseline_name}"
    if best.lead.mean == best.lead.low == best.lead.high == 0:
        return f"{text}: {_name(best)} has the same score on every seed."
    by = "better" if best.lead.mean > 0 else "worse"
    if best.p_value is None:
        return (
            f"{text}, as the seed changes nothing in these trainings and so tells nothing of "
            f"chance: on these test data the best of them, {_name(best)}, is {by} by "
            f"{_number(abs(best.lead.mean))}."
        )
    text += f": the best of them, {_name(best)}, is {by} by {_proof(best, confirmation)}"
    if confirmation.n_seeds_needed is None:
        return f"{text}, and no number of seeds would tell them apart."
    return (
        f"{text}; to find a difference of that size about {confirmation.n_seeds_needed:,} seeds "
        f"would be needed, {confirmation.n_seeds} were run."
    )


def _proof(configuration: Configuration, confirmation: Confirmation) -> str:
    """Return a lead's size and what is known of it."""
    lead, p = configuration.lead, configuration.p_value
    assert lead is not None
    assert p is not None
    size = _number(abs(lead.mean))
    low, high = sorted((lead.low, lead.high) if lead.mean >= 0 else (-lead.low, -lead.high))
    n = len(confirmation.configurations)
    after = f" after Holm's correction for {n}" if n > 1 else ""
    return f"{size} (95 % interval {_number(low)} to {_number(high)}, p {_p(p)}{after})"


def _losses(configuration: Configuration) -> str:
    """Return what happened to the seeds without a score."""
    n = len(configuration.lost) + len(configuration.scores)
    reason = next(iter(configuration.lost.values()))
    return f"gave no score on {len(configuration.lost)} of {n} seeds ({reason})"


def _text(confirmation: Confirmation) -> str:
    head = (
        f"Confirmation of {confirmation.study_name!r}: {confirmation.metric} on the test data "
        f"({confirmation.direction}), {confirmation.n_seeds} seeds"
    )
    rows = [
        ("", "tuning", "test", "95 % interval", "lead", "95 % interval", "p (Holm)"),
        _cells(confirmation.baseline_name, confirmation.baseline),
        *(_cells(_name(each), each) for each in confirmation.configurations),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in rows
    ]
    losses = [
        f"{_name(each)} {_losses(each)}: it has no mean."
        for each in confirmation.configurations
        if each.lost
    ]
    shrinkage = [] if confirmation.shrinkage is None else [str(confirmation.shrinkage)]
    return "\n".join([head, "", *table, "", *losses, confirmation.verdict, *shrinkage])


def _cells(name: str, each: Configuration) -> tuple[str, ...]:
    p = "" if each.p_value is None else _p(each.p_value).removeprefix("= ")
    tuning = "" if each.tuning_value is None else _number(each.tuning_value)
    return (name, tuning, *_of_estimate(each.mean), *_of_estimate(each.lead, "+"), p)


def _of_estimate(each: Estimate | None, sign: str = "") -> tuple[str, str]:
    if each is None:
        return "", ""
    return f"{each.mean:{sign}.4g}", f"{each.low:{sign}.4g} to {each.high:{sign}.4g}"


def _name(configuration: Configuration) -> str:
    return f"trial {configuration.trial}"


def _number(value: float) -> str:
    return f"{value:.4g}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.2g}"
