"""The first sentence of a report: what tuning has reached, what it has gained, whether it holds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from hpolab.analysis.effects import BETTER, SAME, UNKNOWN, WORSE
from hpolab.analysis.wording import INTERVAL, count, ends, mean_and_error, measured, short
from hpolab.report.blocks import Answer
from hpolab.report.gains import chance_words
from hpolab.report.reading import value_of
from hpolab.studies.imported import IMPORT_KEY
from hpolab.studies.trials import tally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpolab.analysis.comparison import Comparison
    from hpolab.analysis.confirmation import Configuration, Confirmation
    from hpolab.analysis.neighbors import Noise
    from hpolab.analysis.statistics import Estimate
    from hpolab.report.known import Known
    from hpolab.report.reading import Reading

__all__ = ["answer_of_comparison", "answer_of_confirmation", "answer_of_study"]

_HOW_TO_CONFIRM = (
    "To find out, train both again with new seeds, on data that no trial has seen: "
    "`hpolab.confirm(study, objective, test=...)`."
)
_HOW_TO_CONFIRM_RUNS = "To find out, train both again with new seeds."


def answer_of_study(reading: Reading, known: Known | None) -> Answer:
    """Return what a study has found, in a sentence, and what the sentence rests on."""
    if not reading.complete:
        return _nothing_complete(reading)
    if not reading.is_single:
        return _front(reading)
    if known is not None and known.confirmation is not None:
        answer = answer_of_confirmation(known.confirmation)
        since = _since(reading, known.confirmation)
        return replace(answer, paragraphs=[*answer.paragraphs, *since])
    recommendation = None if known is None else known.recommendation
    noise = None if recommendation is None else recommendation.noise
    return _unconfirmed(reading, noise)


def answer_of_confirmation(confirmation: Confirmation) -> Answer:
    """Return whether a gain has held on new seeds and test data."""
    chosen = confirmation.winner or confirmation.best
    if chosen is None or chosen.improvement is None:
        return Answer("Whether tuning has helped is not known.", [confirmation.verdict])
    name, metric = confirmation.baseline_name, confirmation.metric
    label = next(label for label, each in confirmation.named() if each is chosen)
    reached = f"{metric} {_mean(chosen)} with {label}, {_mean(confirmation.baseline)} with {name}"
    answer = chosen.improvement.answer
    if confirmation.is_below_what_matters and answer != BETTER:
        answer = SAME
    start = {
        BETTER: "The gain holds",
        SAME: f"No gain over {name} that matters",
        WORSE: f"Not better than {name}",
    }.get(answer, "Not known yet whether the gain holds")
    tone = "good" if answer == BETTER else "finding"
    return Answer(f"{start}: {reached}.", _rests_on(confirmation, label), tone)


def answer_of_comparison(comparison: Comparison, metric: str) -> Answer:
    """Return which contender is better, or that nobody knows yet.

    Args:
        comparison: The comparison.
        metric: What its values are called.
    """
    ranking = comparison.ranking()
    leader, rivals = ranking[0], [each.name for each in ranking[1:]]
    if leader.best_value is None:
        return Answer("No contender has a complete trial yet.", [])
    if not rivals:
        return Answer(f"Best {metric} {short(leader.best_value)} with {leader.name}.", [])
    found = comparison.improvements()
    is_repeated = comparison.n_repeats > 1
    whose = leader.name if is_repeated else f"{leader.name}'s configuration"
    of = "" if is_repeated else "that of "
    by_answer: dict[str, list[str]] = {BETTER: [], SAME: [], UNKNOWN: [], WORSE: []}
    for rival in rivals:
        by_answer[found[rival].answer if rival in found else UNKNOWN].append(rival)
    said = [
        f"{word} {of}{_listed(names)}"
        for answer, word in _OF_RIVALS.items()
        if (names := by_answer[answer])
    ]
    unknown = by_answer[UNKNOWN]
    if said:
        doubt = f"; against {_listed(unknown)} not known yet" if unknown else ""
        headline = f"{whose} is {', '.join(said)}{doubt}."
    else:
        headline = f"Not known yet which of {_listed([leader.name, *rivals])} is better."
    tone = "good" if by_answer[BETTER] and not unknown else "finding"
    return Answer(headline, _scores_of(comparison, metric), tone)


_OF_RIVALS = {
    BETTER: "better than",
    SAME: "practically the same as",
    WORSE: "worse than",
}


def _scores_of(comparison: Comparison, metric: str) -> list[str]:
    ranking = comparison.ranking()
    if comparison.n_repeats > 1:
        what = f"On the test data, {metric}" if comparison.has_test_scores else f"Best {metric}"
        means = ", ".join(
            f"{each.name} {mean_and_error(comparison.scores()[each.name])}" for each in ranking
        )
        return [f"{what}, mean over {comparison.n_repeats} tunings each: {means}."]
    if any(each.test_scores for each in ranking):
        means = ", ".join(f"{each.name} {mean_and_error(each.test_scores)}" for each in ranking)
        n = count(max(len(each.test_scores) for each in ranking), "new seed")
        return [
            f"On the test data, {metric} of {means} (mean ± standard error over {n}). "
            f"This is about the best configuration of one tuning each, not about "
            f"{_listed([each.name for each in ranking])} as such."
        ]
    values = ", ".join(f"{each.name} {short(each.best_value)}" for each in ranking)
    return [
        f"Best {metric} of the trials: {values}. These are overestimates, and one tuning each. "
        "Give `compare` data as `test`, and repeat the tunings (`n_repeats`)."
    ]


def _rests_on(confirmation: Confirmation, label: str) -> list[str]:
    effect = (confirmation.winner or confirmation.best).improvement  # type: ignore[union-attr]
    assert effect is not None
    rows = ""
    if confirmation.n_rows is not None:
        rows = f" of {count(confirmation.n_rows, confirmation.unit)}"
    n = len(confirmation.configurations)
    how = (
        f"Each was trained again with {count(confirmation.n_seeds, 'new seed')} and scored on the "
        f"test data{rows}."
    )
    word = "better" if effect.estimate >= 0 else "worse"
    low, high = (effect.low, effect.high) if effect.estimate >= 0 else (-effect.high, -effect.low)
    size = measured(abs(effect.estimate), (effect.high - effect.low) / 2)
    words = f"{how} {_capital(label)} is {word} by {size}"
    if effect.p_value is not None:
        words += f" ({INTERVAL} {ends(low, high)})"
    said = [f"{words}.{_expected(confirmation.expected, n)}"]
    if confirmation.winner is None and confirmation.needed is not None:
        said.append(f"{confirmation.needed}.")
    return said


def _since(reading: Reading, confirmation: Confirmation) -> list[str]:
    """Return a sentence on a trial that has become the best since the confirmation."""
    best, confirmed = reading.best, {each.trial for each in confirmation.configurations}
    if best is None or best.number in {*confirmed, confirmation.baseline.trial}:
        return []
    label, value = _capital(reading.label(best)), short(best.value)
    return [f"{label} has the best {reading.metric} of the trials, {value}, and is not confirmed."]


def _expected(expected: Estimate | None, n: int) -> str:
    """Return the gain to expect of the best of several, whose lead is partly luck."""
    if expected is None or n < 2:
        return ""
    half = (expected.high - expected.low) / 2
    return (
        f" As the best of {n} it was partly lucky: expect a gain of {measured(expected.mean, half)}"
        f" ({ends(expected.low, expected.high)})."
    )


def _unconfirmed(reading: Reading, noise: Noise | None) -> Answer:
    best, baseline, metric = reading.best, reading.baseline, reading.metric
    if best is None:
        of = count(len(reading.complete), "complete trial")
        return Answer(f"No result yet: each of {of} violates a constraint.", [])
    reached = f"best {metric} {short(best.value)} with {reading.label(best)}"
    n = len(reading.complete)
    lucky = f"the best of {n:,} is partly luck"
    if baseline is None:
        return Answer(
            f"{_capital(reached)}, not confirmed.",
            [
                f"This is one run{f', and {lucky}' if n > 1 else ''}. There is nothing to compare "
                "it with: the first trial is not known to be the default configuration."
            ],
        )
    name = reading.baseline_name
    if baseline.number == best.number:
        others = len(reading.complete) - 1
        words = f"No other of {count(len(reading.complete), 'complete trial')} is better."
        if not others:
            words = "No other trial is complete yet."
        return Answer(
            f"{_capital(name)} is the best so far: {metric} {short(best.value)}.", [words]
        )
    if baseline.state != TrialState.COMPLETE:
        state = _BASELINE_STATES[baseline.state]
        words = f"{_capital(name)} {state} and has no value to compare with. {_capital(lucky)}."
        return Answer(f"{_capital(reached)}, not confirmed.", [words])
    return Answer(
        f"{_capital(reached)}, {short(value_of(baseline))} with {name}: the gain is not confirmed.",
        [
            f"Both are single runs, and {lucky}: {chance_words(noise, len(reading.complete))}. "
            f"{_HOW_TO_CONFIRM_RUNS if IMPORT_KEY in reading.user_attrs else _HOW_TO_CONFIRM}"
        ],
    )


_BASELINE_STATES = {
    TrialState.FAIL: "failed",
    TrialState.PRUNED: "was pruned",
    TrialState.RUNNING: "is still running",
    TrialState.WAITING: "has not begun",
}


def _front(reading: Reading) -> Answer:
    n, of = len(reading.study.best_trials), count(len(reading.complete), "complete trial")
    both = _listed(reading.metric_names)
    return Answer(
        f"{n} of {of} are on the Pareto front of {both}.",
        [
            "No other trial is at least as good in all of them and better in one. With several "
            "metrics there is no single best trial: which of the front to take is your choice."
        ],
    )


def _nothing_complete(reading: Reading) -> Answer:
    n = tally(reading.trials)
    reasons: list[str] = []
    if reading.reasons:
        (how, why), times = reading.reasons.most_common(1)[0]
        reasons = [f"Most often ({count(times, 'trial')}) one {_HOW_ENDED[how]}: {why}."]
    if n.complete:
        words = f"{count(n.complete, 'trial')} complete, but none with a finite value."
    elif not reading.trials:
        words = "No trial is complete yet: none has begun."
    else:
        words = f"No trial is complete yet, so there is nothing to compare: {_states(reading)}."
    return Answer(words, reasons)


_HOW_ENDED = {"failed": "failed", "pruned": "was pruned"}


def _states(reading: Reading) -> str:
    n = tally(reading.trials)
    counts = {
        "pruned": n.pruned, "failed": n.failed, "running": n.running, "waiting": n.waiting
    }  # fmt: skip
    return ", ".join(f"{n_of} {state}" for state, n_of in counts.items() if n_of)


def _mean(configuration: Configuration) -> str:
    found = configuration.mean
    return "-" if found is None else measured(found.mean, (found.high - found.low) / 2)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _listed(names: Sequence[str]) -> str:
    return " and ".join([*([", ".join(names[:-1])] if len(names) > 1 else []), names[-1]])
