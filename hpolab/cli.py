"""The command line: all commands, those without a file of their own in `hpolab.commands` here."""

from __future__ import annotations

import shlex
from contextlib import contextmanager
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import optuna
import typer
from optuna.study import get_all_study_names
from typer.core import TyperGroup

from hpolab.analysis.trained.deleting import delete_study, plan_deletion
from hpolab.analysis.trained.trainings import tuning_studies
from hpolab.analysis.wording import short
from hpolab.commands.shared import STORAGE_HELP, StorageOption, StudyArgument, err, out, table
from hpolab.commands.status import status
from hpolab.commands.worker import worker
from hpolab.console import command_line
from hpolab.errors import HpolabError, StudyNotFound
from hpolab.running.copying import copy_study
from hpolab.running.outcome import why_without_best
from hpolab.storage.redaction import redact
from hpolab.storage.url import DEFAULT_URL, open_storage
from hpolab.studies.export import (
    as_json,
    as_overrides,
    as_yaml,
    delivered_params,
    trainer_params,
)
from hpolab.studies.study import stored_study
from hpolab.studies.trials import best_trial, tally

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from optuna import Study
    from optuna.trial import FrozenTrial

__all__ = ["app"]


class _Commands(TyperGroup):
    """The commands: whatever hpolab refuses in one ends as a message and a status."""

    def invoke(self, ctx: Any) -> Any:
        """See Click's ``Group``."""
        with _errors_as_messages():
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Commands,
    help="Studies that prune, resume exactly and stay in budget, on top of Optuna.",
    epilog="Start with `hpolab demo`; then `hpolab status --help`.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


class Format(StrEnum):
    """How `hpolab best` writes the parameters."""

    table = "table"
    yaml = "yaml"
    json = "json"
    overrides = "overrides"


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hpolab {version('hpolab')}, optuna {version('optuna')}")
        raise typer.Exit


@app.callback()
def _main(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_show_version,
            is_eager=True,
            help="Show the versions of hpolab and Optuna, and exit.",
        ),
    ] = False,
) -> None:
    # One line for each study created or loaded is noise between tables.
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@app.command()
def demo(
    n_trials: Annotated[
        int, typer.Option("--n-trials", "-n", min=1, help="Trials of the study in total.")
    ] = 40,
    storage: Annotated[
        str, typer.Option("--storage", "-s", metavar="URL", help=STORAGE_HELP)
    ] = "sqlite:///hpolab-demo.db",
) -> None:
    """Tune a small CNN on scikit-learn's digits: 40 trials, under two minutes on two cores.

    AdamW's search space, TPE and Hyperband-style pruning. Kill it and start it again: it resumes,
    up to the same 40 trials. It ends with the default configuration against the best one, on data
    that the study never saw.

    **Example:** `hpolab demo`, then `hpolab best demo -s sqlite:///hpolab-demo.db -f yaml`
    """
    from hpolab.demo import DEMO_STUDY, judge, run_demo

    before = _n_finished(storage, DEMO_STUDY)
    if before >= n_trials:
        out.print(f"Study {DEMO_STUDY!r} is done: {before} of {n_trials} trials.")
    elif before:
        out.print(f"Resuming study {DEMO_STUDY!r} after {before} of {n_trials} trials.")
    study = run_demo(storage, n_trials)
    default = study.trials[0]
    best = _best(study)
    with err.status("Training both configurations on three fresh seeds …"):
        held_out = [judge(trainer_params(study, trial)) for trial in (default, best)]
    rows = [
        ["accuracy in the study", f"{default.value:.4f}", f"{best.value:.4f}"],
        ["accuracy on held-out data", *(f"{h.mean:.4f} ± {h.spread:.4f}" for h in held_out)],
        *([name, *(short(h.params[name], 4) for h in held_out)] for name in held_out[0].params),
    ]
    out.print("The default configuration against the best")
    typer.echo(table(["", "default (trial 0)", f"best (trial {best.number})"], rows))
    n_seeds = len(held_out[0].accuracies)
    out.print(f"Held out: 500 images the study never saw; mean and spread of {n_seeds} seeds.")
    out.print(_counts(study))
    out.say("Next:", command_line("best", DEMO_STUDY, "-f", "yaml", storage=storage), style="bold")


app.command()(status)
app.command()(worker)


@app.command()
def best(
    study_name: StudyArgument = None,
    storage: StorageOption = DEFAULT_URL,
    output: Annotated[
        Format,
        typer.Option(
            "--format",
            "-f",
            help="table to read, yaml and json to load, overrides to "
            "paste behind a trainer's command.",
        ),
    ] = Format.table,
    prefix: Annotated[
        str, typer.Option(help="Put before each name of the overrides, e.g. model.optimizer.")
    ] = "",
) -> None:
    """Show a study's best configuration, in the units of the trainer.

    With it the post-processing parameters that a staged objective has tuned for it.

    **Examples:** `hpolab best demo -s sqlite:///hpolab-demo.db`;
    `hpolab best -f overrides --prefix model.optimizer.` prints `model.optimizer.lr=0.0005 …`
    """
    opened = open_storage(storage, create=False)
    study = stored_study(study_name or _only_study(opened, storage), opened)
    trial = _best(study)
    params = delivered_params(study, trial)
    if output is Format.table:
        out.print(f"{study.study_name}: trial {trial.number}, value {trial.value:.6g}")
        rows = [[name, short(value, 4)] for name, value in params.items()]
        typer.echo(table(["parameter", "value"], rows))
    else:
        typer.echo(_write(params, output, prefix))


@app.command()
def copy(
    to_storage: Annotated[
        str,
        typer.Option("--to", metavar="URL", help="Where to copy it to: a URL like --storage's."),
    ],
    study_name: StudyArgument = None,
    storage: StorageOption = DEFAULT_URL,
    to_study_name: Annotated[
        str | None, typer.Option("--name", help="The copy's name; the same if left out.")
    ] = None,
    requeue_running: Annotated[
        bool,
        typer.Option(
            "--requeue-running",
            help="Copy a study although trials of it are running; the copy runs these again.",
        ),
    ] = False,
) -> None:
    """Copy a study to another storage, where it resumes exactly as it would have here.

    An interrupted copy cannot be mistaken for the study; copy it again, and the rest is replaced.

    **Example:** `hpolab copy demo -s sqlite:///hpolab-demo.db --to redis://localhost:6379/0`
    """
    opened = open_storage(storage, create=False)
    name = study_name or _only_study(opened, storage)
    n_trials = copy_study(
        name,
        # The URL, for the copy to remember where it is from.
        storage=storage,
        to_storage=to_storage,
        to_study_name=to_study_name,
        requeue_running=requeue_running,
    )
    copied = to_study_name or name
    trials = "1 trial" if n_trials == 1 else f"{n_trials} trials"
    out.print(f"Copied study {name!r}: {trials}.")
    out.say("Next:", command_line("status", copied, storage=to_storage), style="bold")


@app.command()
def delete(
    study_name: Annotated[
        str,
        typer.Argument(
            metavar="STUDY", help="The name of a study, or that of a comparison or a sweep."
        ),
    ],
    storage: StorageOption = DEFAULT_URL,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Delete it although trials of it are running; their workers then fail.",
        ),
    ] = False,
) -> None:
    """Delete a study for good, with all that belongs to it: its confirmations, its checkpoints.

    Of a comparison or a sweep all studies are deleted.

    **Example:** `hpolab delete demo -s sqlite:///hpolab-demo.db`
    """
    opened = open_storage(storage, create=False)
    plan = plan_deletion(study_name, opened)
    if not yes and (force or not plan.running):  # else it is refused anyway
        for name, n_trials in plan.studies.items():
            out.print(f"{name}: {n_trials} trials")
        what = "this study" if len(plan.studies) == 1 else f"these {len(plan.studies)} studies"
        typer.confirm(f"Delete {what} for good?", abort=True)
    deleted = delete_study(study_name, storage=opened, force=force)
    typer.echo(f"Deleted {', '.join(map(repr, deleted))}.")


@app.command()
def report(
    study_name: Annotated[
        str | None,
        typer.Argument(
            metavar="[STUDY]",
            help="A study's name, or that of a comparison, a confirmation or a sweep; may be left "
            "out if the storage has one study.",
        ),
    ] = None,
    storage: StorageOption = DEFAULT_URL,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The HTML file to write.")
    ] = Path("report.html"),
    terminal: Annotated[
        bool,
        typer.Option("--terminal", help="Print a short report here instead; needs no extra."),
    ] = False,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Also write each figure as SVG into this folder; needs kaleido and a Chrome.",
        ),
    ] = None,
) -> None:
    """Write a study's report: one HTML file that opens offline, on a phone, and on paper.

    Leaderboard, the baseline against the best, the confirmation with its intervals, history,
    pruned trials, what matters and what is noise, each parameter, and configurations to copy. A
    comparison's report has its contenders' chances to win.

    **Examples:** `hpolab report demo -s sqlite:///hpolab-demo.db -o demo.html`;
    `hpolab report --terminal -s sqlite:///hpolab-demo.db`
    """
    from hpolab.report.source import find_source
    from hpolab.report.write import terminal_report, write_images, write_report

    source = find_source(study_name, open_storage(storage, create=False))
    if terminal:
        typer.echo(terminal_report(source, width=out.width))
        return
    path = write_report(source, output)
    out.print(f"Wrote {path} ({path.stat().st_size / 1e6:.1f} MB).")
    if images is not None:
        written = write_images(source, images)
        out.print(f"Wrote {len(written)} figures to {images}.")


def _write(params: Mapping[str, Any], output: Format, prefix: str) -> str:
    if output is Format.json:
        return as_json(params)
    if output is Format.yaml:
        return as_yaml(params)
    return shlex.join(as_overrides(params, prefix=prefix))


@contextmanager
def _errors_as_messages() -> Iterator[None]:
    try:
        yield
    except HpolabError as error:
        err.say("Error:", str(error), style="red")
        raise typer.Exit(2) from None
    except KeyboardInterrupt as interrupt:
        err.print(str(interrupt) or "Interrupted.")
        raise typer.Exit(130) from None


def _only_study(storage: optuna.storages.BaseStorage, url: str) -> str:
    names = tuning_studies(get_all_study_names(storage))
    if len(names) != 1:
        listed = ", ".join(sorted(names)) or "none"
        raise StudyNotFound(f"Name one of the studies in {redact(url)}: {listed}.")
    return names[0]


def _n_finished(storage: str, study_name: str) -> int:
    opened = open_storage(storage)
    if study_name not in get_all_study_names(opened):
        return 0
    return tally(stored_study(study_name, opened).get_trials(deepcopy=False)).finished


def _best(study: Study) -> FrozenTrial:
    trial = best_trial(study)
    if trial is None:
        raise StudyNotFound(
            f"Study {study.study_name!r} has no best trial: {why_without_best(study)}."
        )
    return trial


def _counts(study: Study) -> str:
    n = tally(study.get_trials(deepcopy=False))
    return f"{n.finished} trials: {n.complete} complete, {n.pruned} pruned, {n.failed} failed."
