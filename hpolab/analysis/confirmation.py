"""What confirm() finds: configurations, their scores on test data, and a verdict in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpolab.analysis.results import Result
from hpolab.analysis.wording import (
    INTERVAL,
    compared,
    count,
    estimated,
    p_value,
    percent,
    short,
    size,
    verdict,
)
from hpolab.tables import TextTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hpolab.analysis.effects import Effect
    from hpolab.analysis.statistics import Estimate

__all__ = ["CONFIRMED", "Configuration", "Confirmation", "Shrinkage"]

CONFIRMED = "-confirm"
"""The suffix of a confirmation's study: it follows the name of the study that it confirms."""


@dataclass(frozen=True)
class Configuration:
    """A configuration and its scores on the test data.

    Attributes:
        params: Name -> value, as `Objective.fit` takes them.
        trial: The number of its trial in the tuning study; None if it was never tried there.
        tuning_value: The value of that trial; None if there is no such trial.
        scores: Seed -> score on the test data, in the order of the seeds.
        lost: Seed -> why it has no score: the training diverged or failed.
        mean: The mean score with its 95 % interval; None if a seed is lost.
        tuning_improvement: By how much it was better than the baseline in tuning, below 0 if worse;
            None for the baseline, and if one of the two has no tuning value.
        improvement: By how much it is better than the baseline on the test data, seed by seed;
            None for the baseline, and if one of the two has lost a seed. Its p-value is corrected
            for all configurations (Holm), and None if neither of the two depends on the seed.
    """

    params: Mapping[str, Any]
    trial: int | None
    tuning_value: float | None
    scores: Mapping[int, float]
    lost: Mapping[int, str]
    mean: Estimate | None
    tuning_improvement: float | None = None
    improvement: Effect | None = None

    @property
    def is_better(self) -> bool:
        """Whether it is significantly better than the baseline."""
        return self.improvement is not None and self.improvement.is_better

    @property
    def is_worse(self) -> bool:
        """Whether it is significantly worse than the baseline."""
        return self.improvement is not None and self.improvement.is_worse


@dataclass(frozen=True)
class Shrinkage:
    """How much of the best trial's improvement in tuning is left on the test data.

    Attributes:
        trial: The trial's number.
        tuning_improvement: By how much it was better than the baseline in tuning.
        improvement: By how much it is better on the test data.
        share: The second divided by the first, 1 if nothing is lost; None if it was not better in
            tuning.
    """

    trial: int
    tuning_improvement: float
    improvement: float
    share: float | None

    def __str__(self) -> str:
        then, now = (
            f"{'better' if each >= 0 else 'worse'} by {short(abs(each), 4)}"
            for each in (self.tuning_improvement, self.improvement)
        )
        text = f"In tuning, trial {self.trial} was {then}; on the test data it is {now}"
        if self.share is None:
            return f"{text}."
        left = percent(self.share) if self.share > 0 else "none"
        return f"{text}: {left} of its improvement is left."


@dataclass(frozen=True)
class Confirmation(Result):
    """What a confirmation has found.

    Attributes:
        study_name: The name of the tuning study.
        metric: The name of the test score.
        direction: "minimize" or "maximize": where that score gets better.
        baseline: The configuration that all others are compared with.
        configurations: The best configurations of the tuning, the best first.
        baseline_name: "the default", or "the baseline" if it was given.
        n_seeds: The number of seeds that each configuration was trained with.
        n_seeds_needed: About how many seeds would find the largest improvement of those that are
            not significant; None if a configuration is better, or no number of seeds would do.
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
        """The configuration with the largest improvement on the test data, significant or not."""
        known = [each for each in self.configurations if each.improvement is not None]
        return max(known, key=_improvement_of, default=None)

    @property
    def winner(self) -> Configuration | None:
        """The configuration with the largest significant improvement."""
        better = [each for each in self.configurations if each.is_better]
        return max(better, key=_improvement_of, default=None)

    @property
    def shrinkage(self) -> Shrinkage | None:
        """What is left of the improvement that the tuning's best trial had; None if unknown."""
        first = self.configurations[0]
        before, after = first.tuning_improvement, first.improvement
        if first.trial is None or before is None or after is None:
            return None
        share = after.estimate / before if before > 0 else None
        return Shrinkage(first.trial, before, after.estimate, share)

    @property
    def undecided(self) -> tuple[Configuration, ...]:
        """The configurations without a significant difference, the largest improvement first."""
        doubtful = [
            each
            for each in self.configurations
            if each.improvement is not None and not each.improvement.is_significant
        ]
        return tuple(sorted(doubtful, key=_improvement_of, reverse=True))

    @property
    def verdict(self) -> str:
        """What was found, in a sentence or two."""
        return _verdict(self)

    def table(self) -> TextTable:
        """Return one row for the baseline and each configuration."""
        over = f"improvement over {self.baseline_name}"
        head = ["", "in tuning", f"test {self.metric}", over, "p", "verdict"]
        rows = [_row(name, each) for name, each in self.named()]
        strong = frozenset(
            place + 1 for place, each in enumerate(self.configurations) if each is self.winner
        )
        note = (
            f"Means over {count(self.n_seeds, 'seed')}, the same for all, with {INTERVAL}s. "
            "p-values of no difference, corrected for all configurations (Holm)."
        )
        return TextTable(head, rows, strong, note)

    def named(self) -> list[tuple[str, Configuration]]:
        """Return the baseline and the configurations, each with what to call it."""
        others = [(_name(place, each), each) for place, each in enumerate(self.configurations)]
        return [(self.baseline_name, self.baseline), *others]

    def _parts(self) -> list[str | TextTable]:
        head = (
            f"Confirmation of {self.study_name!r}: {self.metric} on the test data "
            f"({self.direction}), {self.n_seeds} seeds"
        )
        shrinkage = [] if self.shrinkage is None else [str(self.shrinkage)]
        return [head, self.table(), "\n".join([self.verdict, *shrinkage])]

    def _records(self) -> Iterator[dict[str, Any]]:
        for name, each in self.named():
            mean, improvement = each.mean, each.improvement
            yield {
                "configuration": name,
                "trial": each.trial,
                "tuning_value": each.tuning_value,
                "mean": None if mean is None else mean.mean,
                "low": None if mean is None else mean.low,
                "high": None if mean is None else mean.high,
                "improvement": None if improvement is None else improvement.estimate,
                "improvement_low": None if improvement is None else improvement.low,
                "improvement_high": None if improvement is None else improvement.high,
                "p_value": None if improvement is None else improvement.p_value,
                "is_significant": improvement is not None and improvement.is_significant,
                **{f"params_{param}": value for param, value in each.params.items()},
            }


def _improvement_of(configuration: Configuration) -> float:
    assert configuration.improvement is not None
    return configuration.improvement.estimate


def _verdict(confirmation: Confirmation) -> str:
    name = confirmation.baseline_name
    if confirmation.baseline.lost:
        return (
            f"Nothing can be compared with {name}, whose training {_losses(confirmation.baseline)}."
        )
    best, winner = confirmation.best, confirmation.winner
    if best is None:
        return "No configuration can be judged: the training of each was lost on a seed."
    if winner is not None:
        return _verdict_of_winner(confirmation, winner)
    if not confirmation.undecided:
        return (
            f"No configuration is better than {name}. The best of them, {_trial_name(best)}, is "
            f"significantly worse by {_size(best, confirmation)}."
        )
    return _verdict_of_doubt(confirmation, confirmation.undecided[0])


def _verdict_of_winner(confirmation: Confirmation, winner: Configuration) -> str:
    assert winner.improvement is not None
    n = len(confirmation.configurations)
    words = compared(winner.improvement, confirmation.baseline_name, corrected_for=n)
    text = f"{_trial_name(winner)} {words}"
    text = text[0].upper() + text[1:]
    others = [_trial_name(each) for each in confirmation.configurations if each.is_better]
    others.remove(_trial_name(winner))
    if not others:
        return f"{text}."
    verb = "is" if len(others) == 1 else "are"
    return f"{text}; so {verb} {', '.join(others)}, by less."


def _verdict_of_doubt(confirmation: Confirmation, best: Configuration) -> str:
    assert best.improvement is not None
    effect, name = best.improvement, _trial_name(best)
    text = f"No configuration is significantly better than {confirmation.baseline_name}"
    if effect.estimate == effect.low == effect.high == 0:
        return f"{text}: {name} has the same score on every seed."
    word = "better" if effect.estimate > 0 else "worse"
    if effect.p_value is None:
        return (
            f"{text}: these trainings do not depend on their seed, so there is nothing to test. On "
            f"these test data the best of them, {name}, is {word} by "
            f"{short(abs(effect.estimate), 4)}."
        )
    text += f". The best of them, {name}, is {word} by {_size(best, confirmation)}"
    if confirmation.n_seeds_needed is None:
        return f"{text}, and no number of seeds would make that difference significant."
    return (
        f"{text}. To find a difference of that size, about {confirmation.n_seeds_needed:,} seeds "
        f"would be needed; {confirmation.n_seeds} were run."
    )


def _size(configuration: Configuration, confirmation: Confirmation) -> str:
    assert configuration.improvement is not None
    return size(configuration.improvement, corrected_for=len(confirmation.configurations))


def _losses(configuration: Configuration) -> str:
    """Return what happened to the seeds without a score."""
    n = len(configuration.lost) + len(configuration.scores)
    reason = next(iter(configuration.lost.values()))
    return f"gave no score on {len(configuration.lost)} of {n} seeds ({reason})"


def _row(name: str, each: Configuration) -> list[str]:
    effect = each.improvement
    return [
        name,
        short(each.tuning_value),
        estimated(each.mean),
        "" if effect is None else estimated(effect),
        "" if effect is None else p_value(effect.p_value),
        _losses(each) if each.lost else verdict(effect),
    ]


def _name(place: int, each: Configuration) -> str:
    return f"trial {each.trial}" if each.trial is not None else f"configuration {place + 1}"


def _trial_name(configuration: Configuration) -> str:
    return f"trial {configuration.trial}"
