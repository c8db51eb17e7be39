"""The trials of a study as tables: the best one beside the baseline, and the best ones in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from hpolab.analysis.wording import change, count, duration, measured, short
from hpolab.report.blocks import Section, Text
from hpolab.studies.imported import run_label
from hpolab.studies.trials import METRICS_KEY, is_feasible
from hpolab.tables import TextTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna.trial import FrozenTrial

    from hpolab.analysis.confirmation import Configuration, Confirmation
    from hpolab.report.reading import Reading

__all__ = ["against_baseline", "leaderboard"]

_LEADERS = 20


def against_baseline(reading: Reading, confirmation: Confirmation | None) -> Text | TextTable:
    """Return the configuration that the report's first sentence is about, beside the baseline."""
    if confirmation is not None and confirmation.best is not None:
        return _confirmed_table(reading, confirmation, confirmation.winner or confirmation.best)
    best, baseline = reading.best, reading.baseline
    if best is None:
        return Text(["Each complete trial violates a constraint, so there is no best trial."])
    params = reading.params(best)
    if baseline is None or baseline.number == best.number:
        of = reading.label(best) if baseline is None else _title(reading)
        note = "" if baseline is None else f"{of.capitalize()}: {reading.label(best)}."
        rows = [[reading.metric, short(best.value)], *([k, short(v)] for k, v in params.items())]
        return TextTable(["", of], rows, frozenset([0]), note)
    known = baseline.value if baseline.state == TrialState.COMPLETE else None
    gained = "-" if known is None else change(known, best.value)
    first = [reading.metric, short(known), short(best.value), gained]
    head = ["", _title(reading), reading.label(best), "change"]
    note = f"One run each. {_title(reading).capitalize()}: {reading.label(baseline)}."
    return _two_columns(head, [first], reading.params(baseline), params, note)


def _confirmed_table(
    reading: Reading, confirmation: Confirmation, chosen: Configuration
) -> TextTable:
    baseline = confirmation.baseline
    label = next(label for label, each in confirmation.named() if each is chosen)
    rows = [
        [f"{confirmation.metric}, test data", _mean(baseline), _mean(chosen), _gain(chosen)],
        [
            f"{reading.metric}, in tuning",
            short(baseline.tuning_value),
            short(chosen.tuning_value),
            "-"
            if baseline.tuning_value is None or chosen.tuning_value is None
            else change(baseline.tuning_value, chosen.tuning_value),
        ],
    ]
    name = confirmation.baseline_name.removeprefix("the ")
    of_trial = "" if baseline.trial is None else f" {name.capitalize()}: trial {baseline.trial}."
    note = f"Test data: mean over {count(confirmation.n_seeds, 'new seed')}.{of_trial}"
    head = ["", name, label, "change"]
    before, after = _params_of(reading, baseline), _params_of(reading, chosen)
    return _two_columns(head, rows, before, after, note)


def _params_of(reading: Reading, configuration: Configuration) -> Mapping[str, Any]:
    """Return a configuration's parameters as the other tables of the report call them."""
    if configuration.trial is None:
        return configuration.params
    trial = next((t for t in reading.trials if t.number == configuration.trial), None)
    return configuration.params if trial is None else reading.params(trial)


def _mean(configuration: Configuration) -> str:
    found = configuration.mean
    return "-" if found is None else measured(found.mean, (found.high - found.low) / 2)


def _gain(chosen: Configuration) -> str:
    effect = chosen.improvement
    if effect is None:
        return "-"
    sign = "better" if effect.estimate >= 0 else "worse"
    return f"{sign} by {measured(abs(effect.estimate), (effect.high - effect.low) / 2)}"


def _two_columns(
    head: Sequence[str],
    first: Sequence[Sequence[str]],
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    note: str = "",
) -> TextTable:
    """Return two configurations side by side, those parameters first in which they differ."""
    names = list(dict.fromkeys([*before, *after]))
    rows = [_compared(name, before, after) for name in names]
    rows.sort(key=lambda row: row[-1] == "same")
    return TextTable(head, [*first, *rows], frozenset([0]), note)


def _title(reading: Reading) -> str:
    """Return the baseline's name for a column: one that an import has named is no default."""
    return reading.baseline_name.removeprefix("the ")


def _compared(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    if name not in before or name not in after:
        words = "only in the best" if name in after else "not in the best"
        return [name, short(before.get(name)), short(after.get(name)), words]
    changed = change(before[name], after[name])
    return [name, short(before[name]), short(after[name]), changed]


def leaderboard(reading: Reading) -> Section:
    """Return the best trials, the best first."""
    leaders = reading.ranked[:_LEADERS]
    metrics = reading.metrics
    names = list(dict.fromkeys(name for trial in leaders for name in reading.tuned(trial)))
    runs = all(run_label(trial, reading.user_attrs) for trial in leaders)
    timed = ["time"] if reading.training_seconds > 0 else []
    head = ["run" if runs else "trial", reading.metric, *metrics, *names, *timed]
    rows = [_leader(reading, trial, metrics, names, runs=runs) for trial in leaders]
    baseline = reading.baseline
    strong = frozenset(
        place
        for place, trial in enumerate(leaders)
        if baseline is not None and trial.number == baseline.number
    )
    notes = []
    if len(reading.complete) > _LEADERS:
        notes.append(f"The best {_LEADERS} of {count(len(reading.complete), 'complete trial')}.")
    if strong:
        notes.append(f"Emphasized: {reading.baseline_name}.")
    if any(not is_feasible(trial) for trial in leaders):
        notes.append("Trials in brackets violate a constraint.")
    table = TextTable(head, rows, strong, " ".join(notes), may_be_cut=True)
    return Section("leaderboard", "Leaderboard", [table], for_terminal=True)


def _leader(
    reading: Reading,
    trial: FrozenTrial,
    metrics: Sequence[str],
    names: Sequence[str],
    *,
    runs: bool,
) -> list[str]:
    stored = trial.user_attrs.get(METRICS_KEY)
    recorded = stored if isinstance(stored, dict) else {}
    params = reading.tuned(trial)
    number = reading.label(trial).removeprefix("run " if runs else "trial ")
    number = number if is_feasible(trial) else f"({number})"
    time = "-" if trial.duration is None else duration(trial.duration.total_seconds())
    return [
        number,
        short(trial.value),
        *(short(recorded.get(metric)) for metric in metrics),
        *(short(params[name]) if name in params else "" for name in names),
        *([time] if reading.training_seconds > 0 else []),
    ]
