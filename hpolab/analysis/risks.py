"""What speaks against a configuration that is recommended, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpolab.analysis.wording import compared, count, estimated, measured, short

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpolab.analysis.candidates import Baseline, Candidate
    from hpolab.analysis.confirmation import Confirmation
    from hpolab.analysis.neighbors import Landscape, Noise

__all__ = ["risk_of"]

# Fewer trials do not show that a configuration is on a plateau.
_FEW_NEAR = 3


def risk_of(
    each: Candidate,
    candidates: Sequence[Candidate],
    *,
    before: Baseline | None,
    improvement: float | None,
    n_changes: int,
    landscape: Landscape,
    confirmation: Confirmation | None,
) -> str:
    """Return the reasons against a configuration.

    Args:
        each: The configuration.
        candidates: All from which it was chosen.
        before: What it is compared with.
        improvement: By how much it is better than that.
        n_changes: In how many parameters it differs from that.
        landscape: What the study's trials show.
        confirmation: What was found when the candidates were trained again.
    """
    if confirmation is None:
        judged = _risk_of_improvement(each, improvement, landscape.noise, len(candidates))
    else:
        judged = _risk_after(confirmation, each)
    sentences = [
        *_risk_of_being(each, before),
        *_risk_of_value(each, candidates),
        *judged,
        *_risk_around(each),
        *_risk_at_ends(each, landscape),
        *_risk_of_changes(n_changes),
    ]
    return " ".join(sentences)


def _risk_of_being(each: Candidate, before: Baseline | None) -> list[str]:
    return ["It is the baseline."] if before is not None and each.params == before.params else []


def _risk_of_value(each: Candidate, candidates: Sequence[Candidate]) -> list[str]:
    if each.value is None:
        return ["Not yet tried."]
    if each.configuration is not None:
        return [f"Trained again on {count(len(each.configuration.scores), 'seed')}."]
    others = [
        short(other.value)
        for other in candidates
        if other.trial_params == each.trial_params and other.trial != each.trial
    ]
    again = [f"When run again, it reached {', '.join(others)}."] if others else []
    if each.goodness < max(other.goodness for other in candidates):
        return ["Not confirmed: train it again on fresh seeds.", *again]
    flattered = (
        f"it is the best of {count(len(candidates), 'run')}, so its value is an overestimate"
    )
    return [f"Not confirmed: {flattered}; train it again on fresh seeds.", *again]


def _risk_of_improvement(
    each: Candidate, improvement: float | None, noise: Noise | None, n_candidates: int
) -> list[str]:
    if not improvement:
        return []
    if noise is None:
        return [
            f"Its improvement over the baseline, {improvement:+.2g}, is of unknown significance: "
            "nothing shows the noise of one run."
        ]
    bound = noise.of_difference(n_candidates)
    amount = measured(improvement, bound)
    words = f"Its improvement over the baseline, {'+' if improvement > 0 else ''}{amount}, is"
    if abs(improvement) > bound:
        return [f"{words} more than the noise of one run each (±{bound:.2g})."]
    return [f"{words} within the noise of one run each (±{bound:.2g}, from {noise.source})."]


def _risk_after(confirmation: Confirmation, each: Candidate) -> list[str]:
    """Return what the confirmation has found of a configuration, and of all."""
    name, found = confirmation.baseline_name, each.configuration
    if found is None:
        return []
    sentences = []
    if found.improvement is not None:
        n = len(confirmation.configurations)
        words = compared(found.improvement, name, n_compared=n)
        sentences.append(f"It {words}, {confirmation.where}.")
        if found is confirmation.best and n > 1 and confirmation.expected is not None:
            expected = estimated(confirmation.expected)
            sentences.append(f"As the best of {n} its improvement is expected to be {expected}.")
    if confirmation.winner is None:
        sentences.append(f"No configuration was found to be better than {name}.")
    return sentences


def _risk_around(each: Candidate) -> list[str]:
    around = each.around
    if not around.n_near:
        return ["Nothing near it was tried, so nobody knows what a small change costs."]
    near = "one trial" if around.n_near == 1 else f"{around.n_near} trials"
    verb = "is" if around.n_near == 1 else "are"
    if around.is_flat is None or around.drop is None:
        return [f"There {verb} {near} near it."]
    if around.is_flat and around.n_near < _FEW_NEAR:
        return [f"Little was tried near it: {near}, as good within the noise."]
    if around.is_flat:
        return [f"It is on a plateau: {near} near it {verb} as good, within the noise."]
    return [f"It is a peak or a lucky run: {near} near it {verb} {around.drop:.2g} worse."]


def _risk_at_ends(each: Candidate, landscape: Landscape) -> list[str]:
    names = landscape.at_ends(each.trial_params)
    return [f"At the end of its range: {', '.join(names)}."] if names else []


def _risk_of_changes(n_changes: int) -> list[str]:
    if n_changes < 2:
        return []
    return [f"It changes {n_changes} parameters of the baseline at once."]
