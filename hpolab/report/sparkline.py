"""A study's history in one line of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpolab.analysis.wording import short

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.trial import FrozenTrial

__all__ = ["sparkline"]

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 40


def sparkline(trials: Sequence[FrozenTrial], *, maximize: bool) -> str:
    """Return the best value so far, trial after trial, as bars that rise where it gets better.

    Args:
        trials: Complete trials with finite values, in order.
        maximize: Whether more is better.

    Example:
        >>> import optuna
        >>> trials = [optuna.trial.create_trial(value=value) for value in (5.0, 7.0, 4.0, 1.0)]
        >>> sparkline(trials, maximize=False)
        'best so far  5 ▁▁▃█ 1'
    """
    best: list[float] = []
    choose = max if maximize else min
    for trial in trials:
        if trial.value is not None:
            best.append(choose([trial.value, *best[-1:]]))
    if not best:
        return ""
    shown = best
    if len(best) > _WIDTH:
        shown = [best[round(i * (len(best) - 1) / (_WIDTH - 1))] for i in range(_WIDTH)]
    span = (best[-1] - best[0]) or 1.0
    bars = (_BARS[round((value - best[0]) / span * (len(_BARS) - 1))] for value in shown)
    return f"best so far  {short(best[0])} {''.join(bars)} {short(best[-1])}"
