"""The sections of a study's report."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from hpolab.analysis.race import expected_losses
from hpolab.analysis.wording import change, count, duration, estimated, measured, short
from hpolab.report import figures, plots
from hpolab.report.answer import answer_of_study
from hpolab.report.blocks import Columns, Document, Plot, Section, Text, Tiles
from hpolab.report.confirmation import confirmation_blocks
from hpolab.report.gains import gain_tiles
from hpolab.report.known import Known, known_of
from hpolab.report.made_by import made_by
from hpolab.report.reading import read
from hpolab.report.references import references_section
from hpolab.report.spelling import spelled
from hpolab.report.staged import ensemble_section, post_section
from hpolab.report.study_figures import figure_sections, history_plot, parallel_section
from hpolab.report.trials_shown import against_baseline, leaderboard
from hpolab.running.run import budget_of
from hpolab.studies.imported import IMPORT_KEY
from hpolab.studies.trials import tally
from hpolab.tables import TextTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna import Study

    from hpolab.analysis.recommend import Change, Recommendation, Recommended
    from hpolab.report.blocks import Block, Snippets
    from hpolab.report.reading import Reading

__all__ = ["study_document"]

_LEADERS = 20
_WHAT = (
    "best: the highest score. robust: the safest choice, as trials near it do as well. hybrid: in "
    "between."
)


def study_document(study: Study, prefixes: Mapping[str, str | None] | None = None) -> Document:
    """Return the report of a study; ``prefixes`` are the params' names in the trainer's command."""
    reading = read(study)
    if reading.is_single and reading.complete:
        found = known_of(reading)
        sections = [_result(reading, found), *_single_sections(reading, found, prefixes)]
    elif not reading.complete:
        sections = [_result(reading)]
    else:
        sections = [_result(reading), *_sections_of_several_values(reading)]
    sections += [*_ended_early(reading), made_by(reading)]
    return Document(reading.name, _subtitle(reading), sections)


def _single_sections(
    reading: Reading, known: Known, prefixes: Mapping[str, str | None] | None
) -> list[Section]:
    return [
        *_trained_again(known),
        *ensemble_section(reading),
        *_references(reading),
        *_recommended(reading, known.recommendation, prefixes),
        *post_section(reading),
        leaderboard(reading),
        *figure_sections(reading),
    ]


def _subtitle(reading: Reading) -> str:
    aims = ", ".join(
        f"{name} {direction}d"
        for name, direction in zip(reading.metric_names, reading.directions, strict=True)
    )
    what = "imported runs" if IMPORT_KEY in reading.user_attrs else "study"
    starts = [trial.datetime_start for trial in reading.trials if trial.datetime_start]
    # Imported runs have the moment of their import.
    timed = starts and reading.training_seconds > 0
    since = f" · begun {min(starts):%Y-%m-%d %H:%M}" if timed else ""
    n = count(len(reading.trials), "run" if IMPORT_KEY in reading.user_attrs else "trial")
    return f"{what} · {aims} · {n}{since}"


def _result(reading: Reading, found: Known | None = None) -> Section:
    """Return what a reader came for: the answer, the best configuration, and its price."""
    blocks: list[Block] = [answer_of_study(reading, found)]
    if found is not None:
        table = against_baseline(reading, found.confirmation)
        blocks.append(Columns([table, history_plot(reading)]))
    blocks.append(Tiles(_tiles(reading, found)))
    if found is not None and found.overtuning is not None:
        blocks.append(Text([str(found.overtuning)], "note"))
    if IMPORT_KEY in reading.user_attrs:
        blocks.append(Text([_imported_words(reading.user_attrs[IMPORT_KEY])], "note"))
    return Section("overview", "Result", blocks, for_terminal=True)


def _tiles(reading: Reading, found: Known | None) -> list[tuple[str, str, str]]:
    n = tally(reading.trials)
    budget = budget_of(reading.user_attrs, n.finished)
    states = f"{n.complete} complete, {n.pruned} pruned, {n.failed} failed"
    if n.running or n.waiting:
        states += f", {n.running} running, {n.waiting} waiting"
    of_budget = "" if budget is None else f" of {budget:,}"
    gained = [] if found is None else gain_tiles(reading, found.confirmation)
    tiles = [*gained, ("trials finished", f"{n.finished:,}{of_budget}", states)]
    if reading.training_seconds:
        wall = reading.wall_seconds or 0.0
        hint = f"of all trials, within {duration(wall)}"
        tiles.append(("training time", duration(reading.training_seconds), hint))
    return tiles


def _imported_words(mark: Mapping[str, Any]) -> str:
    left_out = mark.get("n_left_out", 0)
    unfinished = f"; {count(left_out, 'unfinished run')} left out" if left_out else ""
    return (
        f"Imported from {mark.get('source')}, value from column {mark.get('value')!r}: "
        f"{mark.get('n_complete')} complete and {mark.get('n_failed')} failed{unfinished}. "
        "The ranges are those of the table."
    )


def _trained_again(found: Known) -> list[Section]:
    confirmation = found.confirmation
    if confirmation is not None:
        title = f"Trained again on {count(confirmation.n_seeds, 'seed')}"
        blocks = confirmation_blocks(confirmation)
        return [Section("confirmation", title, blocks, for_terminal=True)]
    if not found.unfinished:
        return []
    blocks = [Text([found.unfinished], "note")]
    return [Section("confirmation", "Confirmation", blocks, for_terminal=True)]


def _references(reading: Reading) -> list[Section]:
    if reading.best is None:
        return []
    return references_section(reading, {reading.label(reading.best): reading.best})


def _recommended(
    reading: Reading,
    recommendation: Recommendation | None,
    prefixes: Mapping[str, str | None] | None,
) -> list[Section]:
    if recommendation is None:
        return []
    by_params: dict[str, list[Recommended]] = {}
    for name in ("best", "robust", "hybrid"):
        by_params.setdefault(repr(sorted(recommendation[name].params.items())), []).append(
            recommendation[name]
        )
    snippets = [_snippets(reading, alike, prefixes) for alike in by_params.values()]
    blocks: list[Block] = [Text([_WHAT], "note"), *snippets]
    return [Section("recommended", "Recommended", blocks, for_terminal=True)]


def _snippets(
    reading: Reading, alike: Sequence[Recommended], prefixes: Mapping[str, str | None] | None
) -> Snippets:
    one = alike[0]
    of = {trial.number: reading.label(trial) for trial in reading.complete}
    origin = "Not yet tried" if one.trial is None else of[one.trial].capitalize()
    expected = one.expected
    half = 0.0 if expected is None else (expected.high - expected.low) / 2
    reached = "" if one.value is None else f", {reading.metric} {measured(one.value, half)}"
    interval = "" if expected is None else f", expected {estimated(expected)}"
    changes = ", ".join(f"{each.name} {_changed(each)}" for each in one.changes)
    notes = [f"{origin}{reached}{interval}."]
    if changes:
        notes.append(f"Changed from {reading.baseline_name or 'the baseline'}: {changes}.")
    if one.risk:
        notes.append(one.risk)
    title = " = ".join(each.name for each in alike)
    return spelled(title, notes, one.params, prefixes)


def _changed(each: Change) -> str:
    if each.before is None or each.after is None:
        return f"{short(each.before)} → {short(each.after)}"
    return change(each.before, each.after)


def _sections_of_several_values(reading: Reading) -> list[Section]:
    n = len(reading.directions)
    front = reading.study.best_trials
    head = ["trial", *reading.metric_names]
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
        "the baseline against the best, history, importance and recommendations. Optuna's own "
        "figures show one value at a time (their argument `target`)."
    )
    table = TextTable([*head, *names], rows, note=note, may_be_cut=True)
    blocks: list[Block] = [Text([words], "note"), table]
    if n == 2:
        complete = plots.evenly(reading.complete, 2000)
        draw = partial(figures.draw_fronts, complete, front, metrics=reading.metric_names)
        title = " against ".join(reading.metric_names[::-1])
        blocks.insert(0, Plot("pareto-front", title, draw))
    front_section = Section("front", "Pareto front", blocks, for_terminal=True)
    return [front_section, *parallel_section(reading, ())]


def _ended_early(reading: Reading) -> list[Section]:
    if not reading.reasons:
        return []
    rows = [[how, short(why), str(n)] for (how, why), n in reading.reasons.most_common(_LEADERS)]
    n_more = len(reading.reasons) - len(rows)
    note = f"And {count(n_more, 'other reason')}." if n_more > 0 else ""
    table = TextTable(["trials were", "why", "how many"], rows, note=note)
    blocks: list[Block] = [table, *_losses_of_race(reading)]
    return [Section("early", "Pruned and failed trials", blocks, for_terminal=True)]


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
