"""``hpolab demo``: a whole study in a minute, from the default to a gain that holds."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from optuna.study import get_all_study_names

from hpolab.commands.shared import STORAGE_HELP, as_url, err, has_display, out
from hpolab.console import command_line
from hpolab.errors import MissingExtra
from hpolab.storage.url import open_storage
from hpolab.studies.study import stored_study
from hpolab.studies.trials import tally

if TYPE_CHECKING:
    from optuna import Study

__all__ = ["demo"]


def demo(
    n_trials: Annotated[
        int, typer.Option("--n-trials", "-n", min=2, help="Trials of the study in total.")
    ] = 40,
    storage: Annotated[
        str,
        typer.Option("--storage", "-s", metavar="FILE|URL", callback=as_url, help=STORAGE_HELP),
    ] = "sqlite:///hpolab-demo.db",
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The report to write.")
    ] = Path("hpolab-demo.html"),
    open_report: Annotated[
        bool,
        typer.Option(
            "--open/--no-open",
            help="Open the report in a browser, where there is a terminal and a display.",
        ),
    ] = True,
) -> None:
    """Tune a small CNN on scikit-learn's digits: 40 trials, under two minutes on two cores.

    It starts from PyTorch's default of AdamW, searches AdamW's parameters by TPE, and stops bad
    trials early. Kill it and start it again: it resumes, up to the same 40 trials. In the end it
    trains the best configurations and the default again, on fresh seeds, scores them on images that
    the study never saw, says whether the gain holds, and writes a report.

    **Examples:**

    `hpolab demo`

    `hpolab best demo -s hpolab-demo.db -f yaml`
    """
    from hpolab.demo import DEMO_STUDY, N_TEST, confirm_demo, run_demo

    before = _n_finished(storage, DEMO_STUDY)
    if before >= n_trials:
        out.print(f"Study {DEMO_STUDY!r} is done: {before} of {n_trials} trials.")
    elif before:
        out.print(f"Resuming study {DEMO_STUDY!r} after {before} of {n_trials} trials.")
    else:
        out.print(
            f"Tuning a CNN on scikit-learn's digits: {n_trials} trials, from PyTorch's default of "
            "AdamW on.\nKill it whenever you like, and start it again: it resumes."
        )
    study = run_demo(storage, n_trials)
    out.print(_counts(study))
    with err.status(f"Confirming the gain on {N_TEST} images the study never saw …"):
        confirmed = confirm_demo(study)
    out.print()
    typer.echo(confirmed.table().to_text(out.width))
    out.print()
    out.say("Does the gain hold?", confirmed.verdict, style="bold")
    out.print()
    _report(study, output, open_report)
    out.say("Next:", command_line("best", DEMO_STUDY, "-f", "yaml", storage=storage), style="bold")
    for command in ("influence", "status"):
        out.print(f"      {command_line(command, DEMO_STUDY, storage=storage)}")


def _report(study: Study, path: Path, open_report: bool) -> None:
    """Write the report, and open it where somebody sits before a display."""
    from hpolab.report.write import write_report

    try:
        written = write_report(study, path)
    except MissingExtra as error:
        out.print(f"No report: {error}")
        return
    out.print(f"Wrote the report {written} ({written.stat().st_size / 1e6:.1f} MB).")
    if open_report and has_display():
        webbrowser.open(written.absolute().as_uri())


def _n_finished(storage: str, study_name: str) -> int:
    opened = open_storage(storage)
    if study_name not in get_all_study_names(opened):
        return 0
    return tally(stored_study(study_name, opened).get_trials(deepcopy=False)).finished


def _counts(study: Study) -> str:
    n = tally(study.get_trials(deepcopy=False))
    pruned = f", {n.pruned} stopped early" if n.pruned else ""
    failed = f", {n.failed} failed" if n.failed else ""
    return f"{n.finished} trials: {n.complete} complete{pruned}{failed}."
