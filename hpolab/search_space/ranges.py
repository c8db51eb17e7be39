"""What a user writes for a range, a list of choices or a fixed value, as Optuna's distributions."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Mapping
from decimal import Decimal
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from hpolab.errors import InvalidArgument, InvalidType

__all__ = ["SCALES", "is_spec", "make_distribution", "one_minus", "plain_value", "read_bounds"]

SCALES = ("log", "linear")
"""What the third item of a range may be."""

# high / low, from which on a linear scale is taken for a slip: nine of ten draws lie in the highest
# decade, and one of a hundred below the second.
_WIDE = 1000


def is_spec(value: Any) -> bool:
    """Tell whether a value stands for something to tune, and not for a fixed value."""
    return isinstance(value, BaseDistribution | tuple | list)


def make_distribution(
    name: str, spec: Any, *, like: BaseDistribution | None = None
) -> BaseDistribution:
    """Return the distribution that a user's ``spec`` stands for.

    Args:
        name: The parameter, for messages.
        spec: A distribution (returned as it is), a tuple (low, high), a tuple (low, high, "log")
            or (low, high, "linear"), or a list of choices.
        like: A tuple takes its type and step from this distribution if that is numeric, and its
            scale too unless it names one.

    Raises:
        InvalidArgument: If the range or the list is empty, its scale is unknown, or a log scale
            starts at or below 0.
        InvalidType: If ``spec`` is of another type.

    Warns:
        UserWarning: If a linear range spans three decades or more and does not say "linear".

    Example:
        >>> make_distribution("lr", (1e-4, 1e-2, "log"))
        FloatDistribution(high=0.01, log=True, low=0.0001, step=None)
        >>> make_distribution("width", (8, 64), like=IntDistribution(1, 512, log=True))
        IntDistribution(high=64, log=True, low=8, step=1)
    """
    if isinstance(spec, list):
        return _categorical(name, spec)
    if isinstance(spec, FloatDistribution | IntDistribution | CategoricalDistribution):
        made, scale = spec, None
    else:
        low, high, scale = read_bounds(name, spec)
        made = _numeric(name, low, high, scale, like)
    if scale is None:
        _warn_if_wide(name, made)
    return made


def read_bounds(name: str, spec: Any) -> tuple[Any, Any, str | None]:
    """Return (low, high, scale) of a user's range; the scale is None where it names none.

    Raises:
        InvalidArgument: If ``spec`` is a tuple of another form, or ``low`` is not below ``high``.
        InvalidType: If ``spec`` is no tuple, or a bound is no number.
    """
    if not isinstance(spec, tuple):
        raise InvalidType(
            f"a range must be a (low, high) tuple, got {type(spec).__name__} for {name!r}"
        )
    if len(spec) not in (2, 3):
        raise InvalidArgument(
            f'a range must be a (low, high) tuple or (low, high, "log"), got {spec!r} for {name!r}'
        )
    for bound in spec[:2]:
        if not _is_number(bound):
            raise InvalidType(
                f"`low` and `high` must be numbers, got {type(bound).__name__} for {name!r}: write "
                f"choices as a list, {list(spec)!r}"
            )
        if not math.isfinite(bound):
            raise InvalidArgument(f"`low` and `high` must be finite, got {bound!r} for {name!r}")
    low, high = spec[:2]
    if low >= high:
        raise InvalidArgument(f"`low` must be below `high`, got {low=}, {high=} for {name!r}")
    return low, high, _scale(name, spec) if len(spec) == 3 else None


def one_minus(value: Real | float) -> float:
    """Return 1 - value as it is written.

    Example:
        >>> one_minus(0.9999), 1 - 0.9999
        (0.0001, 9.999999999998899e-05)
    """
    # In decimal: bounds and defaults survive the way to the trial and back unchanged.
    return float(1 - Decimal(repr(float(value))))


def plain_value(name: str, value: Any) -> Any:
    """Return a fixed value as a plain Python scalar.

    Raises:
        InvalidArgument: If a number is not finite.
        InvalidType: If the value is not None, a bool, a number or a string.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        if not math.isfinite(value):
            raise InvalidArgument(f"a fixed value must be finite, got {value!r} for {name!r}")
        return float(value)
    hint = (
        ": a choice with parameters of its own is `SearchSpace.choice(name, branches)`"
        if isinstance(value, Mapping)
        else ""
    )
    raise InvalidType(
        f'{name!r} must be an Optuna distribution, a tuple (low, high) or (low, high, "log"), a '
        "list of choices, or a fixed None, bool, number or string, got "
        f"{type(value).__name__}{hint}"
    )


def _numeric(
    name: str, low: Any, high: Any, scale: str | None, like: BaseDistribution | None
) -> FloatDistribution | IntDistribution:
    numeric = like if isinstance(like, FloatDistribution | IntDistribution) else None
    log = scale == "log" or (scale is None and numeric is not None and numeric.log)
    if log and low <= 0:
        raise InvalidArgument(
            f"`low` must be above 0 on a log scale, got {low=}, {high=} for {name!r}"
        )
    if isinstance(numeric, IntDistribution):
        if low != int(low) or high != int(high):
            raise InvalidArgument(f"{name!r} takes whole numbers, got {low=}, {high=}")
        # Optuna takes no step on a log scale.
        return IntDistribution(int(low), int(high), log=log, step=1 if log else numeric.step)
    if numeric is None and isinstance(low, Integral) and isinstance(high, Integral):
        return IntDistribution(int(low), int(high), log=log)
    step = None if log or numeric is None else numeric.step
    return FloatDistribution(low, high, log=log, step=step)


def _categorical(name: str, choices: list[Any]) -> CategoricalDistribution:
    if not choices:
        raise InvalidArgument(f"a list of choices must not be empty, got [] for {name!r}")
    for choice in choices:
        if not isinstance(choice, bool | int | float | str | None):
            raise InvalidType(
                f"a choice must be None, a bool, a number or a string, "
                f"got {type(choice).__name__} for {name!r}"
            )
    if len(set(choices)) < len(choices):
        raise InvalidArgument(f"choices must differ, got {choices!r} for {name!r}")
    if len(choices) == 3 and choices[2] in SCALES and all(map(_is_number, choices[:2])):
        raise InvalidArgument(
            f"a range must be a tuple, as a list is its choices, got {choices!r} for {name!r}: "
            f"write {_form(*choices)}"
        )
    return CategoricalDistribution(choices)


def _scale(name: str, spec: tuple[Any, ...]) -> str:
    low, high, scale = spec
    if isinstance(scale, str) and scale in SCALES:
        return scale
    if _is_number(scale):
        kind = "IntDistribution" if isinstance(low, Integral) else "FloatDistribution"
        hint = f"a step is given as optuna.distributions.{kind}({low!r}, {high!r}, step={scale!r})"
    else:
        near = get_close_matches(str(scale).lower(), SCALES, n=1, cutoff=0.5) or ["log"]
        hint = f"write {_form(low, high, near[0])}"
    raise InvalidArgument(
        f'the third item of a range must be "log" or "linear", got {scale!r} for {name!r}: {hint}'
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _form(low: Any, high: Any, scale: str) -> str:
    return f'({low!r}, {high!r}, "{scale}")'


def _warn_if_wide(name: str, distribution: BaseDistribution) -> None:
    d = distribution
    if not isinstance(d, FloatDistribution | IntDistribution) or d.log or d.low <= 0:
        return
    # A step asks for a linear scale; the rounding of ends such as 1e-4 and 0.1 must not count.
    has_step = d.step != (1 if isinstance(d, IntDistribution) else None)
    if not has_step and d.high >= _WIDE * d.low * (1 - 1e-9):
        warnings.warn(
            f"{name!r} has a linear scale from {d.low!r} to {d.high!r}, where nine of ten draws "
            f"lie above {d.high / 10:g}: write {_form(d.low, d.high, 'log')} for a log scale, or "
            f"{_form(d.low, d.high, 'linear')} to keep it linear",
            UserWarning,
            stacklevel=_levels_to_the_user(),
        )


def _levels_to_the_user() -> int:
    """Return the ``stacklevel`` at which `warnings.warn` shows the line that called hpolab."""
    package = __name__.partition(".")[0]
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame, level = frame.f_back, level + 1
    return level
