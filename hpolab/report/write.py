"""Reports: a study, comparison, confirmation or sweep as one HTML file, as images, as text."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from hpolab.errors import FileNotWritten, InvalidArgument, one_of
from hpolab.files import replace_file
from hpolab.keywords import checks_keywords

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from optuna import Study

    from hpolab.analysis.comparison import Comparison
    from hpolab.analysis.confirmation import Confirmation
    from hpolab.analysis.trained.sweep import Sweep

    Source: TypeAlias = Study | Comparison | Confirmation | Sweep

__all__ = ["terminal_report", "write_images", "write_report"]

_FORMATS = ("pdf", "png", "svg")


@checks_keywords()
def write_report(
    source: Source, path: str | Path, *, prefixes: Mapping[str, str | None] | None = None
) -> Path:
    """Write a report as one HTML file that opens without a network.

    A study's report includes its confirmation if the storage has one, under the study's name with
    ``-confirm``. For large studies, figures show the best trials and an even selection of the
    others, and say so. The study is only read.

    Args:
        source: What to report. Any Optuna study will do; one made by hpolab shows more.
        path: The file. An existing one is replaced in one step.
        prefixes: What the trainer calls a study's parameters on its command line:
            ``{"lr": "models.optimizer.lr"}``; None leaves one out.

    Returns:
        The path.

    Raises:
        InvalidArgument: If the folder does not exist.
        FileNotWritten: If the file cannot be written; an existing one is left as it was.
        InvalidType: If ``source`` is none of them.
        MissingExtra: If plotly or jinja2 is not installed.

    Example:
        >>> import optuna, tempfile
        >>> study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        >>> study.optimize(lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=12)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_report(study, f"{folder}/report.html").name
        'report.html'
    """
    from hpolab.report.document import document_of
    from hpolab.report.page import html_of

    path = Path(path)
    with _writing(path):
        if not path.parent.is_dir() or path.is_dir():
            raise InvalidArgument(f"`path` must be a file in a folder that exists, got {path}.")
    html = html_of(document_of(source, prefixes))
    with _writing(path):
        replace_file(path, html)
    return path


@checks_keywords()
def terminal_report(source: Source, *, width: int = 100) -> str:
    """Return a short report as plain text: verdicts, tables and a history in one line.

    Args:
        source: As for `write_report`.
        width: Columns of the terminal.

    Raises:
        InvalidType: If ``source`` is none of them.

    Example:
        >>> import optuna
        >>> study = optuna.create_study(study_name="squares")
        >>> study.add_trial(optuna.trial.create_trial(value=0.25))
        >>> print(terminal_report(study).partition(chr(10))[0])
        squares
    """
    from hpolab.report.document import document_of
    from hpolab.report.terminal import text_of

    return text_of(document_of(source), width=width)


@checks_keywords()
def write_images(source: Source, folder: str | Path, *, format: str = "svg") -> list[Path]:
    """Write each figure of a report as an image of its own.

    Args:
        source: As for `write_report`.
        folder: The folder, created if it does not exist.
        format: "svg", "png" or "pdf".

    Returns:
        The files.

    Raises:
        InvalidArgument: If the format is unknown.
        FileNotWritten: If the folder cannot be made.
        InvalidType: If ``source`` is none of them.
        MissingExtra: If kaleido is not installed.
        BrowserNotFound: If it finds no Chrome or Chromium.
    """
    from hpolab.report.document import document_of
    from hpolab.report.images import draw_images

    one_of("format", format, _FORMATS)
    plots = {Path(folder, f"{plot.name}.{format}"): plot for plot in document_of(source).plots()}
    with _writing(Path(folder)):
        Path(folder).mkdir(parents=True, exist_ok=True)
    draw_images(plots)
    return list(plots)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileNotWritten(f"Cannot write {str(path)!r}: {error.strerror or error}.") from error
