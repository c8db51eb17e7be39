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
from typer.core import TyperGroup

from hpolab.analysis.trained.deleting import delete_study, plan_deletion
from hpolab.analysis.wording import short
from hpolab.commands.analyses import influence, recommend
from hpolab.commands.demonstrating import demo
from hpolab.commands.foreign import advice_for
from hpolab.commands.importing import import_table
from hpolab.commands.shared import (
    StorageOption,
    StudyArgument,
    as_url,
    err,
    only_study,
    out,
    place_of,
    study_of,
    table,
)
from hpolab.commands.status import status
from hpolab.commands.worker import worker
from hpolab.console import command_line
from hpolab.errors import HpolabError, InvalidArgument, StorageNotFound, StudyNotFound
from hpolab.running.copying import copy_study
from hpolab.running.outcome import why_without_best
from hpolab.storage.location import files_with_studies
from hpolab.storage.url import DEFAULT_URL, open_storage
from hpolab.studies.export import (
    as_json,
    as_overrides,
    as_yaml,
    delivered_params,
)
from hpolab.studies.trials import best_trial

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

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """See Click's ``Group``; of another tool's command, say what it is called here."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            ctx.fail(advice_for(args[0], self.list_commands(ctx)))
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_Commands,
    help="Tune hyperparameters in studies that survive crashes, stop bad trials early, and say "
    "whether a gain is real.",
    epilog="Start with `hpolab demo`. Then `hpolab status study.db` shows the studies of a file, "
    "and `hpolab COMMAND --help` explains a command by examples.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


class Format(StrEnum):
    """How `hpolab best` writes the parameters."""

    table = "table"
    yaml = "yaml"
    json = "json"
    overrides = "overrides"
    hydra = "hydra"


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
            "-V",
            callback=_show_version,
            is_eager=True,
            help="Show the versions of hpolab and Optuna, and exit.",
        ),
    ] = False,
) -> None:
    # One line for each study created or loaded is noise between tables.
    optuna.logging.set_verbosity(optuna.logging.WARNING)


app.command()(demo)
app.command()(status)
app.command()(worker)
app.command("import")(import_table)
app.command()(influence)
app.command()(recommend)


@app.command()
def best(
    ctx: typer.Context,
    study_name: StudyArgument = None,
    storage: StorageOption = DEFAULT_URL,
    output: Annotated[
        Format,
        typer.Option(
            "--format",
            "-f",
            help="table to read, yaml and json to load, overrides to "
            "paste behind a trainer's command (hydra is the same).",
        ),
    ] = Format.table,
    prefix: Annotated[
        str, typer.Option(help="Put before each name of the overrides, e.g. model.optimizer.")
    ] = "",
) -> None:
    """Show a study's best configuration, by the names and in the units of the trainer.

    If the study tuned post-processing as well, its parameters are among them.

    **Examples:**

    `hpolab best demo -s hpolab-demo.db`

    `hpolab best demo -s hpolab-demo.db -f yaml > best.yaml`

    `hpolab best -f overrides --prefix model.optimizer.` prints `model.optimizer.lr=0.0005 …`
    """
    study, _ = study_of(ctx, study_name, storage)
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
    ctx: typer.Context,
    to_storage: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="FILE|URL",
            callback=as_url,
            help="Where to copy it to: a file or a URL like --storage's.",
            show_default=False,
        ),
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

    **Examples:**

    `hpolab copy demo -s hpolab-demo.db --to redis://localhost:6379/0`

    `hpolab copy old.log --to new.db`
    """
    named, storage = place_of(ctx, study_name, storage)
    opened = open_storage(storage, create=False)
    name = named or only_study(opened, storage)
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

    **Example:**

    `hpolab delete demo -s hpolab-demo.db`
    """
    if Path(study_name).is_file() or "://" in study_name:
        raise InvalidArgument(
            "Name the study to delete, and its storage by -s: "
            f"`hpolab delete STUDY -s {study_name}`."
        )
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
    ctx: typer.Context,
    study_name: Annotated[
        str | None,
        typer.Argument(
            metavar="STUDY",
            help="A study's name, or that of a comparison, a confirmation or a sweep; may be left "
            "out if the storage has one study. A file or a URL in its place is the storage.",
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

    **Examples:**

    `hpolab report demo -s hpolab-demo.db -o demo.html`

    `hpolab report hpolab-demo.db --terminal`
    """
    from hpolab.report.source import find_source
    from hpolab.report.write import terminal_report, write_images, write_report

    name, url = place_of(ctx, study_name, storage)
    source = find_source(name, open_storage(url, create=False))
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
        found = files_with_studies(Path()) if isinstance(error, StorageNotFound) else []
        if found:
            err.print(f"Files with studies here: {', '.join(found)}. Name one by -s.")
        raise typer.Exit(2) from None
    except KeyboardInterrupt as interrupt:
        err.print(str(interrupt) or "Interrupted.")
        raise typer.Exit(130) from None


def _best(study: Study) -> FrozenTrial:
    trial = best_trial(study)
    if trial is None:
        raise StudyNotFound(
            f"Study {study.study_name!r} has no best trial: {why_without_best(study)}."
        )
    return trial
