"""How results and reports write numbers, intervals, p-values and effects: the same everywhere."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from hpolab.analysis.statistics import CONFIDENCE, Estimate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hpolab.analysis.effects import Effect

__all__ = [
    "INTERVAL",
    "change",
    "compared",
    "count",
    "duration",
    "ends",
    "estimated",
    "listed",
    "mean_and_error",
    "measured",
    "p_value",
    "p_words",
    "percent",
    "short",
    "signed",
    "size",
    "standard_error",
    "untested",
    "verdict",
]

_LONGEST = 80
# Significant digits of what has an error.
_DIGITS = 4
_MOST_DECIMALS = 9
_TIMES, _OVER = "\N{MULTIPLICATION SIGN}", "\N{DIVISION SIGN}"


def short(value: Any, digits: int = 5) -> str:
    """Return a value in at most five significant digits; those of 1 - value just below one.

    Args:
        value: A number, or anything else, whose text is cut after 80 characters.
        digits: Significant digits of a float.

    Example:
        >>> short(0.00051343312), short(0.99999961), short(10_000), short(None), short(True)
        ('0.00051343', '0.99999961', '10000', '-', 'True')
    """
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, float):
        text = str(value)
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if 0.999 < value < 1:
        decimals = max(5, 1 - math.floor(math.log10(1 - value)))
        return f"{value:.{decimals}f}".rstrip("0").rstrip(".")
    return f"{value:.{digits}g}"


def signed(value: float) -> str:
    """Return a difference with its sign.

    Example:
        >>> signed(0.0123456), signed(-2.0)
        ('+0.01235', '-2')
    """
    return f"{value:+.{_DIGITS}g}"


def ends(low: float, high: float) -> str:
    """Return an interval, in two digits of its half width.

    Example:
        >>> ends(0.81234567, 0.9)
        '0.812 to 0.900'
    """
    half = (high - low) / 2
    return f"{measured(low, half)} to {measured(high, half)}"


def measured(value: float, half_width: float) -> str:
    """Return a value in the digits that its error bears: two of the half width.

    Args:
        value: The value.
        half_width: Of its interval.

    Example:
        >>> measured(0.123456, 0.0234), measured(1234.5, 321.0), measured(0.123456, 0.0)
        ('0.123', '1230', '0.1235')
    """
    if not (math.isfinite(value) and math.isfinite(half_width)) or half_width <= 0:
        return short(value, _DIGITS)
    decimals = 1 - math.floor(math.log10(float(f"{half_width:.1e}")))
    rounded = round(value, decimals) + 0.0  # no minus before a zero
    if decimals > _MOST_DECIMALS:
        return f"{rounded:.3g}"
    return f"{rounded:.{max(0, decimals)}f}"


def estimated(found: Estimate | Effect | None) -> str:
    """Return a mean or an effect with its interval in brackets; "-" for None.

    Example:
        >>> estimated(Estimate(0.85, 0.8, 0.9)), estimated(None)
        ('0.850 (0.800 to 0.900)', '-')
    """
    if found is None:
        return "-"
    center = found.mean if isinstance(found, Estimate) else found.estimate
    half = (found.high - found.low) / 2
    return f"{measured(center, half)} ({ends(found.low, found.high)})"


def mean_and_error(values: Sequence[float]) -> str:
    """Return the mean of values with its standard error; "-" for none.

    Example:
        >>> mean_and_error([0.8, 0.9]), mean_and_error([0.8]), mean_and_error([])
        ('0.85 ± 0.05', '0.8', '-')
    """
    if not values:
        return "-"
    mean, error = math.fsum(values) / len(values), standard_error(values)
    return short(mean) if error is None else f"{short(mean)} ± {error:.2g}"


def standard_error(values: Sequence[float]) -> float | None:
    """Return the standard error of the mean of values; None for fewer than two.

    Example:
        >>> standard_error([1.0, 3.0]), standard_error([1.0])
        (1.0, None)
    """
    n = len(values)
    if n < 2:
        return None
    mean = math.fsum(values) / n
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n)


def listed(values: Mapping[str, Any]) -> str:
    """Return names and values in a row.

    Example:
        >>> listed({"optimizer": "adam", "lr": 0.0012345678})
        'optimizer adam, lr 0.0012346'
    """
    return ", ".join(f"{name} {short(value)}" for name, value in values.items())


def p_value(value: float | None) -> str:
    """Return a p-value; "" for None.

    Example:
        >>> p_value(0.01234), p_value(1e-7)
        ('0.012', '< 0.001')
    """
    if value is None:
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.2g}"


def p_words(value: float) -> str:
    """Return a p-value as part of a sentence.

    Example:
        >>> p_words(0.01234), p_words(1e-7)
        ('p = 0.012', 'p < 0.001')
    """
    shown = p_value(value)
    return f"p {shown}" if shown.startswith("<") else f"p = {shown}"


def size(effect: Effect, *, n_compared: int = 1) -> str:
    """Return an effect's size, without its sign, and how sure it is.

    Args:
        effect: The effect.
        n_compared: How many its interval and its p-value hold for together.

    Example:
        >>> from hpolab.analysis.effects import Effect
        >>> size(Effect.tested([-0.2, -0.3, -0.1], 0.01))
        '0.20 (95 % interval 0.10 to 0.30, p = 0.01)'
    """
    low, high = (effect.low, effect.high) if effect.estimate >= 0 else (-effect.high, -effect.low)
    tested = "" if effect.p_value is None else f", {p_words(effect.p_value)}"
    together = f", for all {n_compared} together" if n_compared > 1 else ""
    amount = measured(abs(effect.estimate), (high - low) / 2)
    return f"{amount} ({INTERVAL} {ends(low, high)}{tested}{together})"


def compared(effect: Effect, rival: str, *, n_compared: int = 1) -> str:
    """Return the end of a sentence that compares something with a rival.

    Example:
        >>> from hpolab.analysis.effects import Effect
        >>> compared(Effect.tested([0.2, 0.1, 0.3], 0.01), "adam")
        'is better than adam by 0.20 (95 % interval 0.10 to 0.30, p = 0.01)'
        >>> compared(Effect.tested([0.1, -0.1, 0.3], 0.4), "it")
        'is not known yet to differ from it: better by 0.10 (95 % interval -0.10 to 0.30, p = 0.4)'
    """
    known = size(effect, n_compared=n_compared)
    if effect.is_same:
        return (
            f"is practically the same as {rival}: {_word(effect)} by {known}, which is less than "
            f"{short(effect.min_difference)}"
        )
    if effect.is_significant:
        return f"is {_word(effect)} than {rival} by {known}{_below_margin(effect)}"
    return f"is not known yet to differ from {rival}: {_word(effect)} by {known}"


def untested(effect: Effect, rival: str) -> str:
    """Return a difference of which nobody knows what chance does to it.

    Example:
        >>> from hpolab.analysis.effects import Effect
        >>> untested(Effect.tested([0.2, 0.2, 0.2], None), "adam")
        'better than adam by 0.2'
    """
    if effect.estimate == 0:
        return f"as good as {rival}"
    return f"{_word(effect)} than {rival} by {short(abs(effect.estimate), _DIGITS)}"


def verdict(effect: Effect | None) -> str:
    """Return an effect in a word or two, for a table; "" for None.

    Example:
        >>> from hpolab.analysis.effects import Effect
        >>> verdict(Effect.tested([0.2, 0.1, 0.3], 0.01))
        'better'
    """
    return "" if effect is None else effect.answer


def _word(effect: Effect) -> str:
    return "worse" if effect.estimate < 0 else "better"


def _below_margin(effect: Effect) -> str:
    """Return a remark on a difference that may be smaller than what matters."""
    margin = effect.min_difference
    if margin is None or min(abs(effect.low), abs(effect.high)) >= margin:
        return ""
    return f", perhaps by less than {short(margin)}, which is what matters"


def duration(seconds: float) -> str:
    """Return a duration in the two units that matter.

    Example:
        >>> duration(0.4), duration(75), duration(7500), duration(200_000)
        ('0.4 s', '1 min 15 s', '2 h 5 min', '2 d 7 h')
    """
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    for size, unit, smaller, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit} {seconds % size // smaller:.0f} {name}"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def percent(share: float) -> str:
    """Return a share as a percentage without decimals, but never a false 0 % or 100 %.

    Example:
        >>> percent(0.5), percent(0.001), percent(0.999), percent(1.0)
        ('50 %', '< 1 %', '> 99 %', '100 %')
    """
    if 0 < share < 0.005:
        return "< 1 %"
    if 0.995 <= share < 1:
        return "> 99 %"
    return f"{100 * share:.0f} %"


def count(n: int, one: str, several: str | None = None) -> str:
    """Return a number of things in words.

    Example:
        >>> count(1, "trial"), count(12000, "trial"), count(2, "entry", "entries")
        ('1 trial', '12,000 trials', '2 entries')
    """
    return f"{n:,} {one if n == 1 else several or one + 's'}"


def change(before: Any, after: Any) -> str:
    """Return how a parameter or a value has changed: a factor where it is large, else a difference.

    Example:
        >>> change(0.9, 0.88), change("adam", "sgd"), change(3, 3)
        ('-0.02', 'changed', 'same')
    """
    if before == after and isinstance(before, bool) == isinstance(after, bool):
        return "same"
    if not (_is_finite(before) and _is_finite(after)):
        return "changed"
    if before > 0 and after > 0 and not 0.5 < after / before < 2:
        factor = after / before
        return f"{_TIMES} {factor:.3g}" if factor >= 1 else f"{_OVER} {1 / factor:.3g}"
    return f"{after - before:+.3g}"


INTERVAL = f"{percent(CONFIDENCE)} interval"
"""What intervals are called."""


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
