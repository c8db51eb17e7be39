"""``hpolab import``: a study of a table of runs that were made elsewhere."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path  # noqa: TC003 - typer reads it when it runs
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hpolab.commands.shared import StorageOption, out
from hpolab.console import command_line
from hpolab.errors import InvalidArgument
from hpolab.storage.url import DEFAULT_URL
from hpolab.studies.imported import IMPORT_KEY
from hpolab.studies.trials import tally

if TYPE_CHECKING:
    from optuna import Study

__all__ = ["direction_of", "import_table"]

_BETTER_HIGH = (
    "acc accuracy ap auc auroc auprc bleu dice f1 f2 fscore gain hmean hit hr iou jaccard kappa "
    "map mcc miou mrr ndcg precision psnr r2 recall reward rouge score sensitivity specificity "
    "ssim throughput top1 top5 win"
)
_BETTER_LOW = (
    "bce brier cer cost crossentropy divergence duration entropy err error fid huber kl latency "
    "logloss loss mae mape mse nll perplexity ppl rmse rmsle runtime seconds smape time wer"
)


def import_table(
    table: Annotated[
        Path, typer.Argument(metavar="FILE", help="A CSV file: a row a run, a head with names.")
    ],
    value: Annotated[
        str, typer.Option("--value", help="The column of the value.", show_default=False)
    ],
    study_name: Annotated[
        str | None,
        typer.Option("--study", metavar="NAME", help="The study's name; the file's if left out."),
    ] = None,
    storage: StorageOption = DEFAULT_URL,
    maximize: Annotated[
        bool | None,
        typer.Option(
            "--maximize/--minimize",
            help="Where the value gets better; told by its name if left out and well known.",
        ),
    ] = None,
    params: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            help="A column that is a parameter; give it once for each. Left out: all columns that "
            "have no other meaning.",
        ),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metric", help="A column that is another metric; once for each."),
    ] = None,
    run_id: Annotated[
        str | None,
        typer.Option("--id", help="The column that names the runs; found by itself if left out."),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="The id of the run that others are compared with.")
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(help="The column of the step, if a run has several rows."),
    ] = None,
) -> None:
    """Make a study of a table of runs: a CSV file, such as an export of Weights & Biases.

    Import it again when it has grown: the runs that are new are added.

    **Examples:**

    `hpolab import runs.csv --value accuracy`

    `hpolab import runs.csv --value hmean --param lr --param beta1 --study detector -s runs.db`
    """
    from hpolab.analysis.trained.import_runs import import_runs

    name = study_name or table.stem
    asked: Any = {
        "study_name": name,
        "value": value,
        "params": params or None,
        "metrics": metrics or (),
        "run_id": run_id,
        "baseline": baseline,
        "steps": steps,
    }
    if maximize is None:
        # What is wrong with the table or its columns is said before what is missing.
        import_runs(table, direction="minimize", storage="memory://", **asked)
        direction = direction_of(value)
    else:
        direction = _direction(maximize)
    study = import_runs(table, direction=direction, storage=storage, **asked)
    _tell(study, value, direction, is_told=maximize is not None, are_named=bool(params))
    out.say("Next:", command_line("influence", name, storage=storage), style="bold")
    for command in ("recommend", "report"):
        out.print(f"      {command_line(command, name, storage=storage)}")


def direction_of(value: str) -> str:
    """Return where a value gets better, as its name tells.

    Raises:
        InvalidArgument: If the name is not well known.

    Example:
        >>> direction_of("val/accuracy"), direction_of("test_loss")
        ('maximize', 'minimize')
    """
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", value).lower()
    words = [word for word in re.split(r"[^a-z0-9]+", text) if word]
    words += ["".join(pair) for pair in pairwise(words)]  # h_mean, log-loss
    low = any(word in _BETTER_LOW.split() for word in words)
    high = any(word in _BETTER_HIGH.split() for word in words)
    if low != high:
        return _direction(high)
    raise InvalidArgument(
        f"`--maximize` or `--minimize` must say where {value!r} gets better; its name does not."
    )


def _direction(maximize: bool) -> str:
    return "maximize" if maximize else "minimize"


def _tell(study: Study, value: str, direction: str, *, is_told: bool, are_named: bool) -> None:
    n = tally(study.get_trials(deepcopy=False))
    runs = "1 run" if n.finished == 1 else f"{n.finished} runs"
    without = f", {n.failed} of them without a value" if n.failed else ""
    mark = study.user_attrs[IMPORT_KEY]
    waiting = f"; {mark['n_left_out']} still running were left out" if mark["n_left_out"] else ""
    out.print(f"Study {study.study_name!r} has {runs}{without}{waiting}.")
    if not are_named:
        names = ", ".join(mark["ranges"])
        out.print(f"Parameters: {names} (name them by --param if one of these is a result).")
    better = "higher" if direction == "maximize" else "lower"
    other = "--minimize" if direction == "maximize" else "--maximize"
    doubt = "" if is_told else f" (by its name; else delete the study and import with {other})"
    out.print(f"{value}: {better} is better{doubt}.")
