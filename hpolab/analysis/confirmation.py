"""What confirm() finds: configurations, their scores on test data, and a verdict in words."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hpolab.analysis.doubts import doubts, unseen_words
from hpolab.analysis.effects import UNKNOWN
from hpolab.analysis.results import Result
from hpolab.analysis.statistics import depends_on_seed
from hpolab.analysis.wording import (
    INTERVAL,
    compared,
    count,
    ends,
    estimated,
    listed,
    measured,
    p_value,
    percent,
    short,
    size,
    untested,
    verdict,
)
from hpolab.display import Displayed, named_values
from hpolab.studies.trials import sign_of
from hpolab.tables import TextTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hpolab.analysis.crossed import Parts
    from hpolab.analysis.effects import Effect
    from hpolab.analysis.needed import Needed
    from hpolab.analysis.statistics import Estimate

__all__ = ["CONFIRMED", "Configuration", "Confirmation", "Shrinkage"]

# A wider interval of what share is left tells nothing.
_TELLING = 2.0

CONFIRMED = "-confirm"
"""The suffix of a confirmation's study: it follows the name of the study that it confirms."""


@dataclass(frozen=True, repr=False)
class Configuration(Displayed):
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
        improvement: By how much it is better than the baseline, below 0 if worse: on new data if
            scores by row are known, otherwise on these test rows. Its interval and p-value hold for
            all configurations together. None for the baseline, and if one of the two has lost a
            seed; the p-value is None if there is no chance to test by.
        on_these_rows: The same on these test rows alone, whether scores by row are known or not.
        share_of_seeds: On what share of the seeds it is better, with an interval that needs no
            assumption; None as above.
        metrics: All other metrics on the test data: name -> seed -> value.
    """

    params: Mapping[str, Any]
    trial: int | None
    tuning_value: float | None
    scores: Mapping[int, float]
    lost: Mapping[int, str]
    mean: Estimate | None
    tuning_improvement: float | None = None
    improvement: Effect | None = None
    on_these_rows: Effect | None = None
    share_of_seeds: Estimate | None = None
    metrics: Mapping[str, Mapping[int, float]] = field(default_factory=dict)

    @property
    def is_better(self) -> bool:
        """Whether it is better than the baseline, and not practically the same."""
        return self.improvement is not None and self.improvement.is_better

    @property
    def is_worse(self) -> bool:
        """Whether it is worse than the baseline, and not practically the same."""
        return self.improvement is not None and self.improvement.is_worse

    def _in_one_line(self) -> str:
        which = "never tried" if self.trial is None else f"trial {self.trial}"
        better = "" if self.improvement is None else f", better by {estimated(self.improvement)}"
        return f"{which}, {listed(self.params)}; on the test data {estimated(self.mean)}{better}"

    def _parts(self) -> list[str | TextTable]:
        rows = [
            ("trial", short(self.trial)),
            ("value in tuning", short(self.tuning_value)),
            ("on the test data", estimated(self.mean)),
            ("better than the baseline by", estimated(self.improvement)),
            *((name, short(value)) for name, value in self.params.items()),
        ]
        return [named_values(rows)]


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
    improvement: Effect
    share: float | None

    def __str__(self) -> str:
        now = self.improvement
        half = (now.high - now.low) / 2
        text = (
            f"In tuning, trial {self.trial} was {_by(self.tuning_improvement)}; on the test data "
            f"it is {_by(now.estimate, half)}"
        )
        # Of a small improvement in tuning, any share may be left.
        if self.share is None or now.high - now.low > _TELLING * self.tuning_improvement:
            return f"{text}."
        low, high = (percent(each / self.tuning_improvement) for each in (now.low, now.high))
        left = f"about {percent(self.share)} of its improvement is left"
        return f"{text}: {left} ({INTERVAL} {low} to {high})."


@dataclass(frozen=True, repr=False)
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
        n_rows: The number of test rows, users or groups that were scored one by one. Improvements
            are then those on new data like these. None if scores by row are not known:
            improvements are those on these test rows.
        unit: What was scored one by one: "row", "user", "group", or "row group" where the
            metric is no mean over rows.
        min_difference: The smallest improvement that matters; None if none was given.
        expected: What to expect of the best configuration's improvement, shrunken for its having
            been chosen as the best of several; None if nothing can be judged.
        parts: What the variance of the best one's improvement is made of; None if scores by row
            are not known.
        needed: What would have to be added to know whether the best configuration is better; None
            if it is known, or nothing would help.
    """

    study_name: str
    metric: str
    direction: str
    baseline: Configuration
    configurations: tuple[Configuration, ...]
    baseline_name: str
    n_seeds: int
    n_rows: int | None = None
    unit: str = "row"
    min_difference: float | None = None
    expected: Estimate | None = None
    parts: Parts | None = None
    needed: Needed | None = None

    @property
    def best(self) -> Configuration | None:
        """The configuration with the largest improvement on the test data, significant or not."""
        known = [each for each in self.configurations if each.improvement is not None]
        return max(known, key=_improvement_of, default=None)

    @property
    def winner(self) -> Configuration | None:
        """The configuration with the largest improvement of those that are better."""
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
        return Shrinkage(first.trial, before, after, share)

    @property
    def undecided(self) -> tuple[Configuration, ...]:
        """The configurations of which it is not known yet, the largest improvement first."""
        doubtful = [
            each
            for each in self.configurations
            if each.improvement is not None and each.improvement.answer == UNKNOWN
        ]
        return tuple(sorted(doubtful, key=_improvement_of, reverse=True))

    @property
    def is_below_what_matters(self) -> bool:
        """Whether no improvement may be as large as ``min_difference``."""
        margin = self.min_difference
        known = [each.improvement for each in self.configurations if each.improvement]
        tested = [each for each in known if each.p_value is not None]
        return margin is not None and bool(tested) and all(each.high < margin for each in tested)

    @property
    def where(self) -> str:
        """What the improvements are about, in words."""
        if self.n_rows is None:
            return f"on these {self._scored}s"
        return f"on new data like these {count(self.n_rows, self._scored)}"

    @property
    def verdict(self) -> str:
        """What was found, and where it holds, in a sentence or two."""
        return _verdict(self)

    @property
    def notes(self) -> tuple[str, ...]:
        """What else a reader of the verdict must know, a sentence or two each."""
        return tuple(_notes(self))

    def table(self) -> TextTable:
        """Return one row for the baseline and each configuration."""
        over = f"improvement over {self.baseline_name}"
        head = ["", "in tuning", f"test {self.metric}", over, "p", "verdict"]
        rows = [_row(name, each) for name, each in self.named()]
        strong = frozenset(
            place + 1 for place, each in enumerate(self.configurations) if each is self.winner
        )
        n = len(self.configurations)
        together = f" Improvements and p-values hold for all {n} together." if n > 1 else ""
        note = (
            f"Means over {count(self.n_seeds, 'seed')}, the same for all, with {INTERVAL}s "
            f"{self.where}.{together}"
        )
        return TextTable(head, rows, strong, note)

    def named(self) -> list[tuple[str, Configuration]]:
        """Return the baseline and the configurations, each with what to call it."""
        others = [(_name(place, each), each) for place, each in enumerate(self.configurations)]
        return [(self.baseline_name, self.baseline), *others]

    @property
    def _scored(self) -> str:
        # Groups of rows are only made where scores of them are known.
        unit = "row" if self.n_rows is None and self.unit == "row group" else self.unit
        return f"test {unit}"

    def _in_one_line(self) -> str:
        return f"{self.study_name!r}: {self.verdict}"

    def _parts(self) -> list[str | TextTable]:
        head = (
            f"Confirmation of {self.study_name!r}: {self.metric} on the test data "
            f"({self.direction}), {self.n_seeds} seeds"
        )
        return [head, self.table(), "\n".join([self.verdict, *self.notes])]

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
                "answer": None if improvement is None else improvement.answer,
                **{
                    f"test_{metric}": math.fsum(values.values()) / len(values)
                    for metric, values in each.metrics.items()
                },
                **{f"params_{param}": value for param, value in each.params.items()},
            }


def _improvement_of(configuration: Configuration) -> float:
    assert configuration.improvement is not None
    return configuration.improvement.estimate


def _by(improvement: float, half_width: float = 0.0) -> str:
    word = "better" if improvement >= 0 else "worse"
    return f"{word} by {measured(abs(improvement), half_width)}"


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
    if confirmation.undecided and not confirmation.is_below_what_matters:
        return _verdict_of_doubt(confirmation, confirmation.undecided[0])
    assert best.improvement is not None
    words = compared(best.improvement, name, n_compared=len(confirmation.configurations))
    by = f" by {short(confirmation.min_difference)} or more" if confirmation.undecided else ""
    return (
        f"{_start(confirmation)}, no configuration is better than {name}{by}. The best of them, "
        f"{_trial_name(best)}, {words}."
    )


def _on_seeds(confirmation: Confirmation, best: Configuration, name: str) -> Iterator[str]:
    """Return on how many seeds it is better, where the seed makes a difference at all."""
    share, baseline = best.share_of_seeds, confirmation.baseline.scores
    if share is None:
        return
    both = [index for index in best.scores if index in baseline]
    ours, theirs = ([scores[index] for index in both] for scores in (best.scores, baseline))
    if not depends_on_seed(ours, theirs):
        yield "The scores are the same on each seed: all of the chance is in the rows."
        return
    sign = sign_of(confirmation.direction)
    n_better = sum(sign * (a - b) > 0 for a, b in zip(ours, theirs, strict=True))
    n_equal = sum(a == b for a, b in zip(ours, theirs, strict=True))
    equal = f" and equal on {n_equal}" if n_equal else ""
    yield (
        f"{name[0].upper()}{name[1:]} is better on {n_better} of {len(both)} seeds{equal}: on a "
        f"new seed with a chance of {percent(share.low)} to {percent(share.high)}."
    )
    yield unseen_words(confirmation.n_seeds)


def _start(confirmation: Confirmation) -> str:
    return confirmation.where[0].upper() + confirmation.where[1:]


def _verdict_of_winner(confirmation: Confirmation, winner: Configuration) -> str:
    assert winner.improvement is not None
    n = len(confirmation.configurations)
    words = compared(winner.improvement, confirmation.baseline_name, n_compared=n)
    text = f"{_start(confirmation)}, {_trial_name(winner)} {words}"
    others = [_trial_name(each) for each in confirmation.configurations if each.is_better]
    others.remove(_trial_name(winner))
    if others:
        verb = "is" if len(others) == 1 else "are"
        text = f"{text}; so {verb} {', '.join(others)}, by less"
    return f"{text}.{_expected_words(confirmation)}"


def _expected_words(confirmation: Confirmation) -> str:
    """Return what to expect of the best of several, which was chosen partly for its luck."""
    expected, n = confirmation.expected, len(confirmation.configurations)
    if expected is None or n < 2:
        return ""
    half = (expected.high - expected.low) / 2
    return (
        f" The best of {n} is partly lucky: expect it to be {_by(expected.mean, half)} "
        f"({ends(expected.low, expected.high)})."
    )


def _verdict_of_doubt(confirmation: Confirmation, best: Configuration) -> str:
    assert best.improvement is not None
    effect, name = best.improvement, _trial_name(best)
    if effect.p_value is None:
        return (
            "It is not known whether any configuration is better than "
            f"{confirmation.baseline_name}: these trainings do not depend on their seed, so there "
            f"is nothing to test. On these test rows the best of them, {name}, is "
            f"{untested(effect, confirmation.baseline_name)}."
        )
    text = (
        f"It is not known yet whether any configuration is better than "
        f"{confirmation.baseline_name} {confirmation.where}"
    )
    if effect.estimate == effect.low == effect.high == 0:
        return f"{text}: {name} has the same score on every seed."
    word = "better" if effect.estimate > 0 else "worse"
    known = size(effect, n_compared=len(confirmation.configurations))
    them = "them" if best is confirmation.best else "those in doubt"
    text += f". The best of {them}, {name}, is {word} by {known}"
    if confirmation.needed is None:
        return f"{text}."
    return f"{text}. {confirmation.needed}."


def _notes(confirmation: Confirmation) -> Iterator[str]:
    best = confirmation.best
    if confirmation.shrinkage is not None:
        yield str(confirmation.shrinkage)
    if best is None or best.improvement is None or best.improvement.p_value is None:
        return
    name = _trial_name(best)
    parts, here = confirmation.parts, best.on_these_rows
    if parts is not None and parts.total > 0 and here is not None:
        word = "better" if here.estimate >= 0 else "worse"
        yield (
            f"On these {confirmation.unit}s alone, {name} is {word} by {size(here)}. Of the "
            f"variance on new data, {percent(parts.rows / parts.total)} comes from the draw of the "
            f"{confirmation.unit}s, {percent(parts.seeds / parts.total)} from the seeds."
        )
    elif confirmation.n_rows is None:
        yield (
            "Scores by row are not known, so this says nothing about other rows than these: "
            "`Objective.row_scores` gives them."
        )
    yield from _on_seeds(confirmation, best, name)
    yield from doubts(
        name,
        list(best.scores.values()),
        list(confirmation.baseline.scores.values()),
        baseline_name=confirmation.baseline_name,
        maximize=confirmation.direction == "maximize",
    )


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
