"""The sections of a study's report."""

from __future__ import annotations

import json
import platform
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from hpolab import _optuna
from hpolab.analysis.influence import influence
from hpolab.analysis.race import expected_losses
from hpolab.analysis.wording import change, count, duration, estimated, measured, percent, short
from hpolab.errors import InvalidArgument
from hpolab.report import figures, plots
from hpolab.report.blocks import (
    Details,
    Document,
    FieldList,
    Plot,
    Plots,
    Section,
    Text,
    Tiles,
)
from hpolab.report.confirmation import confirmation_blocks
from hpolab.report.gains import gain_tiles
from hpolab.report.known import Known, known_of
from hpolab.report.reading import read
from hpolab.report.references import references_section
from hpolab.report.sparkline import sparkline
from hpolab.report.spelling import spelled
from hpolab.report.staged import ensemble_section, post_section
from hpolab.running.run import budget_of
from hpolab.studies.facts import stored_facts
from hpolab.studies.imported import IMPORT_KEY, RUN_KEY
from hpolab.studies.trials import METRICS_KEY, is_feasible, tally
from hpolab.tables import TextTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial

    from hpolab.analysis.parameters import Influence
    from hpolab.analysis.recommend import Recommendation, Recommended
    from hpolab.report.blocks import Block, Snippets
    from hpolab.report.reading import Reading

__all__ = ["facts_blocks", "recipe_blocks", "study_document"]

_LEADERS = 20
_MAX_SLICES = 12
_MAX_LINES = 10
# Resampling must stay within seconds: hence so many trials, and so many resamples for few
# parameters and for many. With fewer than sixty, the upper end would be the largest resample
# rather than a quantile.
_MAX_JUDGED = 500
_RESAMPLES, _RESAMPLES_OF_MANY, _MANY = 100, 60, 8


def study_document(study: Study, prefixes: Mapping[str, str | None] | None = None) -> Document:
    """Return the report of a study; ``prefixes`` are the params' names in the trainer's command."""
    reading = read(study)
    if reading.is_single and reading.complete:
        found = known_of(reading)
        sections = [_overview(reading, found), *_single_sections(reading, found, prefixes)]
    elif not reading.complete:
        sections = [_overview(reading), _nothing_complete(reading)]
    else:
        sections = [_overview(reading)]
        sections += _sections_of_several_values(reading)
    sections += [*_ended_early(reading), _made_by(reading)]
    return Document(reading.name, _subtitle(reading), sections)


def _single_sections(
    reading: Reading, known: Known, prefixes: Mapping[str, str | None] | None
) -> list[Section]:
    found = _influence(reading)
    important = [] if found is None else list(found.parameters)
    return [
        *_trained_again(known),
        *ensemble_section(reading),
        _against_baseline(reading),
        *_references(reading),
        _leaderboard(reading),
        *_recommended(known.recommendation, prefixes),
        *post_section(reading),
        _history(reading),
        *_reports(reading),
        _importances(reading, found),
        *_slices(reading, important),
        *_parallel(reading, important),
    ]


def _subtitle(reading: Reading) -> str:
    aims = ", ".join(f"{direction}d" for direction in reading.directions)
    what = "imported runs" if IMPORT_KEY in reading.user_attrs else "study"
    values = "value" if reading.is_single else "values"
    starts = [trial.datetime_start for trial in reading.trials if trial.datetime_start]
    # Imported runs have the moment of their import.
    timed = starts and reading.training_seconds > 0
    since = f" · begun {min(starts):%Y-%m-%d %H:%M}" if timed else ""
    return f"{what} · {values} {aims} · {count(len(reading.trials), 'trial')}{since}"


def _overview(reading: Reading, found: Known | None = None) -> Section:
    n = tally(reading.trials)
    budget = budget_of(reading.user_attrs, n.finished)
    states = f"{n.complete} complete, {n.pruned} pruned, {n.failed} failed"
    if n.running or n.waiting:
        states += f", {n.running} running, {n.waiting} waiting"
    of_budget = "" if budget is None else f" of {budget:,}"
    gained = [] if found is None else gain_tiles(reading, found.confirmation, found.recommendation)
    tiles = [*gained, ("trials finished", f"{n.finished:,}{of_budget}", states)]
    if reading.training_seconds:
        wall = reading.wall_seconds or 0.0
        tiles.append(("training time", duration(reading.training_seconds), _within(wall)))
    blocks: list[Block] = [Tiles(tiles)]
    if reading.is_single and reading.complete:
        blocks.append(Text([_baseline_words(reading)]))
    if found is not None and found.overtuning is not None:
        blocks.append(Text([str(found.overtuning)]))
    if IMPORT_KEY in reading.user_attrs:
        blocks.append(Text([_imported_words(reading.user_attrs[IMPORT_KEY])]))
    return Section("overview", "Overview", blocks, for_terminal=True)


def _within(wall_seconds: float) -> str:
    return f"of all trials, within {duration(wall_seconds)}"


def _baseline_words(reading: Reading) -> str:
    baseline = reading.baseline
    if baseline is None:
        return (
            "Trial 0 is not known to be a default configuration, so nobody knows what tuning has "
            "gained."
        )
    if reading.baseline_name == "the default":
        words = "Trial 0 is the default configuration of the search space"
    else:
        run = baseline.user_attrs.get(RUN_KEY, "")
        words = f"The baseline is run {run} (trial {baseline.number})"
    if baseline.state == TrialState.COMPLETE:
        return f"{words}."
    return f"{words}. It is {baseline.state.name.lower()} and has no value to compare with."


def _imported_words(mark: Mapping[str, Any]) -> str:
    left_out = mark.get("n_left_out", 0)
    unfinished = f"; {count(left_out, 'unfinished run')} left out" if left_out else ""
    return (
        f"Imported from {mark.get('source')}, value from column {mark.get('value')!r}: "
        f"{mark.get('n_complete')} complete and {mark.get('n_failed')} failed{unfinished}. "
        "The ranges are those of the table."
    )


def _nothing_complete(reading: Reading) -> Section:
    n_infinite = sum(trial.state == TrialState.COMPLETE for trial in reading.trials)
    words = "No trial is complete yet, so there is nothing to compare."
    if n_infinite:
        words = f"{count(n_infinite, 'trial')} complete, but none with a finite value."
    return Section("results", "Results", [Text([words])], for_terminal=True)


def _trained_again(found: Known) -> list[Section]:
    confirmation = found.confirmation
    if confirmation is not None:
        title = f"Trained again on {count(confirmation.n_seeds, 'seed')}"
        blocks = confirmation_blocks(confirmation)
        return [Section("confirmation", title, blocks, for_terminal=True)]
    words = found.unfinished or (
        "Nothing has been confirmed, and the best of many noisy values is an overestimate. "
        "`hpolab.confirm` trains the best configurations and the baseline again with fresh seeds, "
        "and scores them on data that no trial has seen."
    )
    section = Section("confirmation", "Confirmation", [Text([words], "note")], for_terminal=True)
    return [section]


def _against_baseline(reading: Reading) -> Section:
    best, baseline = reading.best, reading.baseline
    if best is None:
        words = "Each complete trial violates a constraint, so there is no best trial."
        return Section("best", "Best configuration", [Text([words])], for_terminal=True)
    params = reading.params(best)
    if baseline is None:
        rows = [["value", short(best.value)]] + [[k, short(v)] for k, v in params.items()]
        table = TextTable(["parameter", f"best (trial {best.number})"], rows, frozenset([0]))
        return Section("best", "Best configuration", [table], for_terminal=True)
    if baseline.number == best.number:
        words = f"No trial is better than {reading.baseline_name}."
        rows = [["value", short(best.value)]] + [[k, short(v)] for k, v in params.items()]
        table = TextTable(["parameter", f"best: {reading.baseline_name}"], rows, frozenset([0]))
        blocks: list[Block] = [Text([words], "finding"), table]
        return Section("best", "Baseline against best", blocks, for_terminal=True)
    before = reading.params(baseline)
    names = list(dict.fromkeys([*before, *params]))
    known = baseline.value if baseline.state == TrialState.COMPLETE else None
    gained = [] if known is None else [change(known, best.value)]
    rows = [["value (one run each)", short(known), short(best.value), *(gained or ["-"])]]
    rows += [_compared(name, before, params) for name in names]
    head = ["parameter", f"baseline (trial {baseline.number})", f"best (trial {best.number})"]
    table = TextTable([*head, "change"], rows, frozenset([0]))
    return Section("best", "Baseline against best", [table], for_terminal=True)


def _references(reading: Reading) -> list[Section]:
    if reading.best is None:
        return []
    return references_section(reading, {f"trial {reading.best.number}": reading.best})


def _compared(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    if name not in before or name not in after:
        words = "only in the best" if name in after else "only in the baseline"
        return [name, short(before.get(name)), short(after.get(name)), words]
    changed = change(before[name], after[name])
    return [name, short(before[name]), short(after[name]), changed]


def _leaderboard(reading: Reading) -> Section:
    leaders = reading.ranked[:_LEADERS]
    metrics = reading.metrics
    names = list(dict.fromkeys(name for trial in leaders for name in reading.tuned(trial)))
    runs = any(RUN_KEY in trial.user_attrs for trial in leaders)
    timed = ["time"] if reading.training_seconds > 0 else []
    head = ["trial", *(["run"] if runs else []), "value", *metrics, *names, *timed]
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
    number = str(trial.number) if is_feasible(trial) else f"({trial.number})"
    time = "-" if trial.duration is None else duration(trial.duration.total_seconds())
    return [
        number,
        *([short(trial.user_attrs.get(RUN_KEY))] if runs else []),
        short(trial.value),
        *(short(recorded.get(metric)) for metric in metrics),
        *(short(params[name]) if name in params else "" for name in names),
        *([time] if reading.training_seconds > 0 else []),
    ]


def _recommended(
    recommendation: Recommendation | None, prefixes: Mapping[str, str | None] | None
) -> list[Section]:
    if recommendation is None:
        return []
    by_params: dict[str, list[Recommended]] = {}
    for name in ("best", "robust", "hybrid"):
        by_params.setdefault(repr(sorted(recommendation[name].params.items())), []).append(
            recommendation[name]
        )
    snippets = [_snippets(alike, prefixes) for alike in by_params.values()]
    return [Section("recommended", "Recommended configurations", snippets, for_terminal=True)]


def _snippets(alike: Sequence[Recommended], prefixes: Mapping[str, str | None] | None) -> Snippets:
    one = alike[0]
    origin = f"Trial {one.trial}" if one.trial is not None else "Not yet tried"
    expected = one.expected
    half = 0.0 if expected is None else (expected.high - expected.low) / 2
    reached = "" if one.value is None else f", reached {measured(one.value, half)}"
    interval = "" if expected is None else f", expected {estimated(expected)}"
    changes = ", ".join(map(str, one.changes))
    notes = [f"{origin}{reached}{interval}."]
    if changes:
        notes.append(f"Against the baseline: {changes}.")
    if one.risk:
        notes.append(one.risk)
    title = " = ".join(each.name for each in alike)
    return spelled(title, notes, one.params, prefixes)


def _history(reading: Reading) -> Section:
    shown = plots.history(reading)
    notes = [_outside_words(shown.view)]
    if len(shown.numbers) < shown.n_complete:
        notes.append(_shown_words(len(shown.numbers), shown.n_complete, "complete trials"))
    plot = Plot(
        name="history",
        title="Value of each trial, in order",
        draw=partial(
            figures.draw_history,
            shown,
            direction=reading.directions[0],
            baseline=_legend_name(reading),
        ),
        note=_joined(notes),
        text=sparkline(list(filter(is_feasible, reading.complete)), maximize=reading.maximize),
    )
    return Section("history", "History", [plot], for_terminal=True)


def _legend_name(reading: Reading) -> str:
    """Return the baseline's name in legends: one that an import has named is not a default."""
    return reading.baseline_name.removeprefix("the ")


def _reports(reading: Reading) -> list[Section]:
    shown = plots.curves(reading)
    if not shown.curves:
        return []
    notes = [_outside_words(shown.view)]
    if len(shown.curves) < shown.n_trials:
        notes.append(_shown_words(len(shown.curves), shown.n_trials, "trials with reports"))
    plot = Plot(
        name="intermediate-values",
        title="Reports of trials during their training; crosses mark where one was pruned",
        draw=partial(figures.draw_curves, shown, baseline=_legend_name(reading)),
        note=_joined(notes),
    )
    return [Section("intermediate", "Intermediate values", [plot])]


def _influence(reading: Reading) -> Influence | None:
    trials = [trial for trial in reading.complete if is_feasible(trial)]
    if not trials:
        return None
    study = reading.study
    if len(trials) > _MAX_JUDGED:
        study = _optuna.with_trials(study, plots.evenly(trials, _MAX_JUDGED))
    many = len(plots.sliced_names(reading)) > _MANY
    try:
        return influence(study, n_resamples=_RESAMPLES_OF_MANY if many else _RESAMPLES)
    except InvalidArgument:
        return None


def _importances(reading: Reading, found: Influence | None) -> Section:
    n = len(reading.complete)
    known = found is not None and any(each.importance for each in found.parameters.values())
    if found is None or not known:
        words = f"Too few trials to show which parameters matter: {count(n, 'complete trial')}."
        blocks: list[Block] = [Text([words], "note")]
        if found is not None and found.parameters:
            blocks.append(Details("What can be said", "\n".join(found.verdict)))
        return Section("importance", "Importance", blocks)
    judged = "" if n <= _MAX_JUDGED else f"Judged by {found.n_trials} of {n:,}, taken evenly."
    titles = {name: plots.stored_title(reading, name) for name in found.parameters}
    plot = Plot(
        name="importance",
        title="Share of the importance, with its range over resamples of the trials",
        draw=partial(figures.draw_importances, found, titles),
        note=_joined([_importance_words(found), judged]),
    )
    details = Details("What each parameter does, and whether it is significant", str(found))
    lines = [*found.spread_words, found.verdict[-1]]
    return Section("importance", "Importance", [plot, Text(lines), details])


def _importance_words(found: Influence) -> str:
    return (
        "Blue: the value depends on this parameter, by a test given the other parameters. Gray: "
        "not significant, however long the bar: the share ranks parameters, and tests nothing. "
        f"A whisker holds the share in {percent(found.confidence)} of resamples of these trials: "
        "it says how firm a share is here, not where that of other trials would be."
    )


def _slices(reading: Reading, important: Sequence[str]) -> list[Section]:
    names = plots.sliced_names(reading, important)
    if not names:
        return []
    shown = [plots.slice_of(reading, name) for name in names[:_MAX_SLICES]]
    drawn = [
        Plot(
            name=f"slice-{place}",
            title=one.axis.name,
            draw=partial(figures.draw_slice, one),
        )
        for place, one in enumerate(shown)
    ]
    marks = {"best": figures.PALETTE[1]}
    if reading.baseline is not None:
        marks = {_legend_name(reading): figures.PALETTE[2], **marks}
    notes = ["Later trials are bluer."]
    if len(names) > _MAX_SLICES:
        notes.append(f"{_MAX_SLICES} of {len(names)} parameters, the most important first.")
    largest = max(shown, key=lambda one: one.n_complete)
    if len(largest.x) < largest.n_complete:
        notes.append(_shown_words(len(largest.x), largest.n_complete, "complete trials"))
    notes.append(_outside_words(shown[0].view))
    block = Plots(drawn, marks, _joined(notes))
    return [Section("slice", "Value against each parameter", [block])]


def _parallel(reading: Reading, important: Sequence[str]) -> list[Section]:
    names = plots.sliced_names(reading, important)
    trials = plots.parallel_trials(reading, names[:_MAX_LINES])
    if len(names) < 2 or len(trials) < 2:
        return []
    shown = {name: plots.stored_title(reading, name) for name in names[:_MAX_LINES]}
    by = "" if reading.is_single else " by value 0"
    notes = []
    if len(trials) < len(reading.complete):
        n = len(reading.complete)
        notes.append(f"Shows {len(trials):,} of {n:,} complete trials, without far worse ones.")
    if len(names) > _MAX_LINES:
        notes.append(f"{_MAX_LINES} of {len(names)} parameters, the most important.")
    plot = Plot(
        name="parallel-coordinates",
        title=f"Each line is a trial; thick blue ones are good{by}",
        draw=partial(figures.draw_parallel, _optuna.with_trials(reading.study, trials), shown),
        note=_joined(notes),
        wide=True,
    )
    return [Section("parallel", "Parallel coordinates", [plot])]


def _sections_of_several_values(reading: Reading) -> list[Section]:
    n = len(reading.directions)
    front = reading.study.best_trials
    head = ["trial", *(f"value {place}" for place in range(n))]
    names = list(dict.fromkeys(name for trial in front for name in reading.tuned(trial)))
    rows = [
        [
            str(trial.number),
            *(short(value) for value in trial.values),
            *(short(reading.tuned(trial).get(name)) for name in names),
        ]
        for trial in front[:_LEADERS]
    ]
    note = "" if len(front) <= _LEADERS else f"{_LEADERS} of {len(front)} trials of the front."
    words = (
        f"The study has {n} objective values, so there is no single best trial. Not shown: "
        "baseline against best, history, importance, slices and recommendations. Optuna's own "
        "figures show one value at a time (their argument `target`)."
    )
    table = TextTable([*head, *names], rows, note=note, may_be_cut=True)
    blocks: list[Block] = [Text([words], "note"), table]
    if n == 2:
        complete = plots.evenly(reading.complete, 2000)
        draw = partial(figures.draw_fronts, complete, front)
        blocks.append(Plot("pareto-front", "The two values against each other", draw))
    front_section = Section("front", "Pareto front", blocks, for_terminal=True)
    return [front_section, *_parallel(reading, ())]


def _ended_early(reading: Reading) -> list[Section]:
    if not reading.reasons:
        return []
    rows = [[how, short(why), str(n)] for (how, why), n in reading.reasons.most_common(_LEADERS)]
    n_more = len(reading.reasons) - len(rows)
    note = f"And {count(n_more, 'other reason')}." if n_more > 0 else ""
    table = TextTable(["trials were", "why", "how many"], rows, note=note)
    blocks: list[Block] = [table, *_losses_of_race(reading)]
    return [Section("early", "Pruned and failed", blocks, for_terminal=True)]


def _losses_of_race(reading: Reading) -> list[Block]:
    is_race = reading.recipe is not None and str(reading.recipe.pruner).startswith("race")
    if not is_race or not reading.is_single:
        return []
    losses = expected_losses(reading.trials, reading.study.direction)
    if losses is None:
        return []
    words = (
        "Of the trials that the race has stopped, "
        f"{'fewer than 0.01' if losses < 0.01 else f'{losses:.2g}'} are expected to have become "
        "better than the best trial."
    )
    return [Text([words])]


def _made_by(reading: Reading) -> Section:
    blocks = [*recipe_blocks(reading), *facts_blocks(reading)]
    return Section("recipe", "How it was made", blocks)


def recipe_blocks(reading: Reading) -> list[Block]:
    """Return what made a study, and the versions that wrote the report."""
    recipe = reading.recipe
    if recipe is None:
        words = "hpolab did not make this study, so it has no recipe."
        return [Text([words], "note"), FieldList([("report by", _versions_now())])]
    made_by = ", ".join(f"{package} {number}" for package, number in recipe.versions.items())
    rows = [
        ("sampler", str(recipe.sampler)),
        ("pruner", str(recipe.pruner)),
        ("direction", ", ".join(recipe.directions)),
        ("seed", str(recipe.seed)),
        ("made with", made_by),
        ("report by", _versions_now()),
    ]
    blocks: list[Block] = [FieldList(rows)]
    if reading.space is not None:
        blocks.append(Details("Search space", str(reading.space)))
    return blocks


def facts_blocks(reading: Reading) -> list[Block]:
    """Return what a study's values depend on besides its params."""
    facts = stored_facts(reading.user_attrs)
    if not facts:
        return []
    return [Details("What the values depend on", json.dumps(facts, indent=2, ensure_ascii=False))]


def _versions_now() -> str:
    found = [f"Python {platform.python_version()}"]
    for package in ("hpolab", "optuna", "plotly"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def _shown_words(shown: int, of: int, what: str) -> str:
    return f"Shows {shown:,} of {of:,} {what}: the best, and an even selection of the others."


def _outside_words(view: plots.View) -> str:
    if not view.n_outside:
        return ""
    return f"{count(view.n_outside, 'value')} outside the picture: far worse than the others."


def _joined(notes: Sequence[str]) -> str:
    return " ".join(note for note in notes if note)
