"""The sentences of a comparison: what they are about, what is known, what would tell more."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hpolab.analysis.effects import UNKNOWN
from hpolab.analysis.repeats import repeats_to_tell
from hpolab.analysis.wording import INTERVAL, compared, count, percent, short

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hpolab.analysis.effects import Effect
    from hpolab.analysis.repeats import Outperforming

__all__ = ["of_configurations", "of_contenders", "outperformed"]


def of_configurations(
    leader: str,
    scores: Sequence[float],
    found: Mapping[str, Effect],
    without_chance: Sequence[str],
    *,
    n_rows: int | None = None,
    unit: str = "row",
) -> str:
    """Return what the test scores say of the configurations that one tuning each has found.

    Args:
        leader: The contender whose configuration is compared with the others.
        scores: Its scores on the test data.
        found: Rival -> improvement of the leader's configuration over its own.
        without_chance: Rivals whose trainings and the leader's do not depend on their seeds.
        n_rows: The number of test rows that improvements on new data were told from; None if they
            are about these test rows.
        unit: What was scored one by one: "row", "user", "group" or "row group".
    """
    n_lost, n = sum(map(math.isnan, scores)), len(scores)
    if n_lost:
        return (
            f"The configuration found for {leader} has no score on {n_lost} of {n} seeds, so it "
            "cannot be compared on the test data."
        )
    sentences = []
    if found:
        sides = "; it ".join(
            compared(effect, f"that found for {rival}", n_compared=len(found))
            for rival, effect in found.items()
        )
        where = "this test data"
        if n_rows is not None:
            where = f"new data like these {count(n_rows, f'test {unit}')}"
        sentences.append(
            f"On {where} ({n} seeds), the configuration found for {leader} by one tuning {sides}."
        )
    if without_chance:
        copied = " and ".join([leader, *without_chance])
        sentences.append(
            f"The trainings of the configurations found for {copied} do not depend on their seed, "
            "so nothing is claimed from seeds: copies of a score are no evidence."
        )
    if sentences:
        least = repeats_to_tell(len(found) + len(without_chance) + 1)
        sentences.append(
            "This is about these configurations, not about the contenders: another tuning finds "
            "others. To compare the contenders, tune each several times: with `n_repeats` of "
            f"{least} or more, the probability that one outperforms another can be told."
        )
    return " ".join(sentences)


def of_contenders(
    leader: str,
    rivals: Sequence[str],
    found: Mapping[str, Effect],
    outperforming: Mapping[str, Outperforming],
    *,
    n_repeats: int,
    n_seeds: int,
    scores: Mapping[str, Sequence[float]],
) -> str:
    """Return what repeated tunings say of the contenders.

    Args:
        leader: The contender that is compared with the others.
        rivals: The others.
        found: Rival -> improvement of the leader over it.
        outperforming: Rival -> how probably the leader outperforms it.
        n_repeats: The number of tunings of each.
        n_seeds: The number of fresh seeds of each tuning; 0 if there are no test scores.
        scores: Contender -> its score in each repeat, NaN where it could not be trained or scored.
    """
    if not outperforming:
        if not rivals:
            return ""
        return (
            f"All {n_repeats} tunings of each contender are the same: neither the search nor the "
            "trainings depend on a seed, so repeats are copies and nothing is claimed from them."
        )
    if n_seeds:
        start = f"On this test data, over {n_repeats} tunings each ({count(n_seeds, 'seed')} each)"
    else:
        start = (
            f"By the best values of {n_repeats} tunings each (without `test`; they are optimistic "
            "for all alike)"
        )
    told = "; ".join(
        _of_rival(leader, rival, found.get(rival), each, math.comb(len(scores), 2))
        for rival, each in outperforming.items()
    )
    sentences = [f"{start}: {told}."]
    n_lost = sum(math.isnan(score) for each in scores.values() for score in each)
    if n_lost:
        sentences.append(
            f"{count(n_lost, 'tuning')} found no configuration that trains on every seed; it loses "
            "against any other, and its contender has no mean."
        )
    if any(effect.is_significant for effect in found.values()):
        sentences.append(_assumption(leader, scores[leader]))
    copied = [rival for rival in rivals if rival not in outperforming]
    if copied:
        sentences.append(
            f"Nothing is claimed of {leader} and {' and '.join(copied)}: neither depends on a seed."
        )
    if any(effect.answer == UNKNOWN for effect in found.values()) or len(found) < len(rivals):
        sentences.append(_what_to_add(len(rivals) + 1, n_repeats))
    return " ".join(sentences)


def outperformed(found: Outperforming) -> str:
    """Return a probability of outperforming and its interval.

    Example:
        >>> from hpolab.analysis.repeats import Outperforming
        >>> outperformed(Outperforming.of(8, 10))
        '80 % (44 % to 97 %)'
    """
    return f"{percent(found.probability)} ({percent(found.low)} to {percent(found.high)})"


def _of_rival(
    leader: str, rival: str, effect: Effect | None, wins: Outperforming, n_pairs: int
) -> str:
    chance = (
        f"in {wins.wins:g} of {wins.n} tunings, with a probability of {percent(wins.probability)} "
        f"({INTERVAL} {percent(wins.low)} to {percent(wins.high)})"
    )
    if effect is None:
        return f"{leader} outperforms {rival} {chance}"
    return f"{leader} {compared(effect, rival, n_compared=n_pairs)}, and outperforms it {chance}"


def _assumption(leader: str, scores: Sequence[float]) -> str:
    """Return what the test of means assumes, and how far the leader's tunings scatter."""
    shown = " to ".join(short(score, 4) for score in (min(scores), max(scores)))
    return (
        f"This assumes that means over {len(scores)} tunings are nearly normal, so that a collapse "
        f"that none of them shows is rare: the scores of {leader} vary from "
        f"{shown}."
    )


def _what_to_add(n_contenders: int, n_repeats: int) -> str:
    least = repeats_to_tell(n_contenders)
    if n_repeats < least:
        return (
            f"At least {least} tunings each are needed before the probability of outperforming "
            "can be told from one half."
        )
    return "More tunings each (`n_repeats`) would tell more."
