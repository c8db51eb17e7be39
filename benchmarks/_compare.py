"""Two rivals in one run: alternating, several repeats, median and spread, ratio."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Cost:
    """Seconds of one run."""

    wall: float
    cpu: float


def measure(run: Callable[[], None]) -> Cost:
    """Return what one call costs this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def compare(
    title: str,
    ours: Callable[[], None],
    rival: Callable[[], None],
    *,
    n_repeats: int,
    per: int = 1,
    target: str = "",
) -> None:
    """Print milliseconds per unit of both, and the ratio pair by pair.

    Args:
        title: What is measured.
        ours: hpolab's run.
        rival: The rival's run; each is run once unmeasured, then in turn.
        n_repeats: Pairs measured.
        per: Units (trials) in one run.
        target: Printed beside the ratio.
    """
    ours()
    rival()
    pairs = [(measure(ours), measure(rival)) for _ in range(n_repeats)]
    print(f"{title}  ({n_repeats} repeats, {per} trials each)")
    for clock in ("wall", "cpu"):
        a = [1000 * getattr(pair[0], clock) / per for pair in pairs]
        b = [1000 * getattr(pair[1], clock) / per for pair in pairs]
        ratios = [x / y for x, y in zip(a, b, strict=True)]
        print(
            f"  {clock:4}  hpolab {_spread(a)} ms   rival {_spread(b)} ms   "
            f"ratio {_spread(ratios, '.3f')}{'   ' + target if target else ''}"
        )


def _spread(values: list[float], form: str = ".2f") -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:{form}} [{low:{form}}..{high:{form}}]"
