"""``hpolab status``: how far studies are, and who works on them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer
from optuna.study import get_all_study_names
from rich.live import Live
from rich.text import Text

from hpolab.commands.shared import StorageOption, StudyArgument, err, out, place_of, table
from hpolab.errors import InvalidArgument, RecipeMismatch, StudyNotFound
from hpolab.running.run import budget_of
from hpolab.search_space.space import SearchSpace
from hpolab.storage.promises import check_storage
from hpolab.storage.redaction import redact
from hpolab.storage.url import DEFAULT_URL, open_to_look
from hpolab.studies.recipe import read_recipe
from hpolab.studies.study import stored_study, without_post_studies
from hpolab.studies.summary import summarize
from hpolab.trial.at_work import workers_at_work

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from optuna import Study
    from optuna.storages import BaseStorage

    from hpolab.studies.summary import StudySummary
    from hpolab.trial.at_work import WorkerAtWork

__all__ = ["status"]

# Workers that are shown, the most silent first, of all that there are.
_MOST_WORKERS = 50


def status(
    ctx: typer.Context,
    study_name: StudyArgument = None,
    storage: StorageOption = DEFAULT_URL,
    show_promises: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Also tell what the storage promises: to survive a process kill, a server kill, "
            "a power cut; one host or several.",
        ),
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it again and again, until Ctrl-C.")
    ] = False,
    every: Annotated[
        float, typer.Option("--every", min=0.1, help="Seconds between two looks of --watch.")
    ] = 2.0,
) -> None:
    """Show how far the studies of a storage are, and who works on them.

    Done of budget, pruned, best value; of each worker host, process, device, trial, and its last
    sign of life. With a study's name, also what made it: sampler, pruner, seed, versions and
    search space.

    **Examples:**

    `hpolab status hpolab-demo.db`

    `hpolab status demo --watch -s redis://localhost:6379/0`

    `hpolab status --check -s study.log`
    """
    study_name, storage = place_of(ctx, study_name, storage)
    opened = open_to_look(storage)
    if show_promises:
        out.print(str(check_storage(storage)))
    if watch:
        _watch(opened, storage, study_name, every)
        return
    for line in _progress(opened, storage, study_name):
        typer.echo(line)
    if study_name:
        _print_recipe(stored_study(study_name, opened))


def _watch(storage: BaseStorage, url: str, study_name: str | None, every: float) -> None:
    """Show the progress until Ctrl-C; on a terminal in one place, else one below the other."""

    def shown() -> str:
        return "\n".join([time.strftime("%H:%M:%S"), *_progress(storage, url, study_name)])

    try:
        if not out.is_terminal:
            while True:
                typer.echo(f"{shown()}\n")
                time.sleep(every)
        with Live(Text(shown()), console=out, auto_refresh=False) as live:
            while True:
                time.sleep(every)
                live.update(Text(shown()), refresh=True)
    except KeyboardInterrupt:
        return


def _progress(storage: BaseStorage, url: str, study_name: str | None) -> Iterator[str]:
    """Yield what there is to say of a storage's studies, or of one, and of their workers."""
    studies = [stored_study(study_name, storage)] if study_name else _loadable_studies(storage)
    if not studies:
        if not get_all_study_names(storage):
            yield f"No study in {redact(url)} yet."
        return
    summaries = [summarize(storage, study.study_name) for study in studies]
    head = ["study", "done", "pruned", "failed", "running", "waiting", "best", "trial"]
    yield table(head, [_counts(summary) for summary in summaries])
    at_work = [
        (summary.study_name, worker)
        for summary in summaries
        for worker in workers_at_work(summary.running)
    ]
    if at_work:
        yield ""
        yield _workers(at_work, several=len(summaries) > 1)


def _counts(summary: StudySummary) -> list[str]:
    n = summary.tally
    budget = budget_of(summary.user_attrs, n.finished)
    done = str(n.finished) if budget is None else f"{n.finished} of {budget}"
    found = ["-", "-"]
    if summary.best is not None:
        number, value = summary.best
        found = [f"{value:.6g}", str(number)]
    return [
        summary.study_name,
        done,
        *map(str, (n.pruned, n.failed, n.running, n.waiting)),
        *found,
    ]


def _workers(at_work: Sequence[tuple[str, WorkerAtWork]], *, several: bool) -> str:
    at_work = sorted(at_work, key=lambda pair: -(pair[1].silent_seconds or 0.0))
    # A column that says nothing of anybody is left out.
    names = ["job", "device", "objective"]
    told = [name for name in names if any(getattr(worker, name) for _, worker in at_work)]
    head = ["host", "pid", *told, *(["study"] if several else []), "trial", "for", "last sign"]
    rows = []
    for study_name, worker in at_work[:_MOST_WORKERS]:
        who = [worker.host or "unknown", "-" if worker.pid is None else str(worker.pid)]
        more = [getattr(worker, name) or "-" for name in told]
        where = [study_name] if several else []
        sign = _last_sign(worker)
        rows.append([*who, *more, *where, str(worker.trial), _duration(worker.seconds), sign])
    n_more = len(at_work) - _MOST_WORKERS
    note = f"\nand {n_more} more, heard of more lately" if n_more > 0 else ""
    return table(head, rows) + note


def _last_sign(worker: WorkerAtWork) -> str:
    if worker.pid is None:
        return "asked for by `study.ask`"
    sign = "-" if worker.silent_seconds is None else f"{_duration(worker.silent_seconds)} ago"
    return f"{sign}, looks dead" if worker.looks_dead else sign


def _duration(seconds: float) -> str:
    """Return a duration in words.

    Example:
        >>> _duration(12.3), _duration(200), _duration(9000)
        ('12 s', '3 min 20 s', '2 h 30 min')
    """
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _loadable_studies(storage: BaseStorage) -> list[Study]:
    """Return the studies of a storage, and tell of those that cannot be loaded."""
    studies = []
    for name in sorted(without_post_studies(get_all_study_names(storage))):
        try:
            studies.append(stored_study(name, storage))
        except (InvalidArgument, RecipeMismatch, StudyNotFound) as error:
            err.say("Left out:", str(error), style="yellow")
    return studies


def _print_recipe(study: Study) -> None:
    recipe = read_recipe(study)
    if recipe is None:
        out.print("hpolab did not make this study, so it has no recipe.")
        return
    for part in ("sampler", "pruner", "seed"):
        out.print(f"{part}: {getattr(recipe, part)}")
    out.print("direction: " + ", ".join(recipe.directions))
    versions = ", ".join(f"{package} {version}" for package, version in recipe.versions.items())
    out.print(f"versions: {versions}")
    if recipe.search_space is not None:
        out.print(str(SearchSpace.from_dict(recipe.search_space)))
