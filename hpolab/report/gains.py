"""The first figures of a report: the best value, and what is known of its gain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna.trial import TrialState

from hpolab.analysis.wording import count, ends, measured, short, signed
from hpolab.report.reading import value_of

if TYPE_CHECKING:
    from hpolab.analysis.confirmation import Confirmation
    from hpolab.analysis.neighbors import Noise
    from hpolab.report.reading import Reading

    Tile = tuple[str, str, str]

__all__ = ["chance_words", "gain_tiles"]


def gain_tiles(reading: Reading, confirmation: Confirmation | None) -> list[Tile]:
    """Return the best value, and the confirmed gain or why there is none.

    A gain that nobody has confirmed is not shown as one: the best of many noisy values is better
    than the baseline by chance alone.
    """
    best, baseline = reading.best, reading.baseline
    if best is None:
        return []
    tiles = [(f"best {reading.metric}", short(best.value), f"{reading.label(best)}, one run")]
    if confirmation is not None:
        tiles.insert(0, _confirmed_tile(confirmation))
    elif baseline is not None and baseline.state == TrialState.COMPLETE:
        better = value_of(best) - value_of(baseline)
        better = better if reading.maximize else -better
        tiles.insert(0, _unconfirmed_tile(reading, better))
    return tiles


def chance_words(noise: Noise | None, n_trials: int) -> str:
    """Return how much single runs differ by chance.

    Args:
        noise: How much values of one configuration vary; None if nobody knows.
        n_trials: The number of values that the better one is the best of.
    """
    if noise is None:
        return "nobody knows how much single runs differ by chance"
    bound = noise.of_difference(n_trials)
    ahead = measured(bound, bound)
    return f"by chance alone, it may be ahead by up to {ahead}"


def _confirmed_tile(confirmation: Confirmation) -> Tile:
    """Return the gain of the best configuration, shrunken for its having been chosen."""
    name = f"gain on {confirmation.baseline_name}"
    best, expected = confirmation.best, confirmation.expected
    seeds = f"trained again on {count(confirmation.n_seeds, 'seed')}"
    if best is None or best.improvement is None or expected is None:
        return (name, "unknown", f"{seeds}: nothing can be compared")
    answer = best.improvement.answer
    half = (expected.high - expected.low) / 2
    amount = measured(expected.mean, half)
    sign = "+" if expected.mean > 0 else ""
    interval = ends(expected.low, expected.high)
    hint = f"{interval} {confirmation.where}; {seeds}: {answer}"
    return (name, f"{sign}{amount}", hint)


def _unconfirmed_tile(reading: Reading, better: float) -> Tile:
    name = f"gain on {reading.baseline_name}"
    if not better:
        return (name, "none", f"{reading.baseline_name} is the best")
    return (name, "unconfirmed", f"{signed(better)} in single runs")
