"""How a report says numbers, durations and changes: short, and the same everywhere."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["change", "count", "duration", "percent", "short"]

_LONGEST = 80
_TIMES, _OVER = "\N{MULTIPLICATION SIGN}", "\N{DIVISION SIGN}"


def short(value: Any) -> str:
    """Return a value in at most five significant digits; those of 1 - value just below one.

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
    return f"{value:.5g}"


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


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
