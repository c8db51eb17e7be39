"""What the commands have in common: where they print, and the options that many take."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hpolab.analysis.trained.trainings import tuning_studies
from hpolab.console import PlainConsole
from hpolab.errors import StudyNotFound
from hpolab.storage.location import is_location, url_of
from hpolab.storage.redaction import redact
from hpolab.storage.url import STORAGE_VARIABLE, open_storage
from hpolab.studies.study import stored_study
from hpolab.tables import TextTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study
    from optuna.storages import BaseStorage

__all__ = [
    "STORAGE_HELP",
    "StorageOption",
    "StudyArgument",
    "as_url",
    "err",
    "has_display",
    "only_study",
    "out",
    "place_of",
    "study_of",
    "table",
]

# Standard output carries results only, so that `hpolab best -f json` can be piped.
out = PlainConsole()
err = PlainConsole(stderr=True)


def as_url(storage: str) -> str:
    """Return the URL of what an option names: a URL or a file's path."""
    return url_of(storage)


STORAGE_HELP = (
    "Where the studies are: a file (study.db, study.log) or a URL (sqlite:///study.db, "
    "journal:///study.log, redis://host:port/0, postgresql://user@host/db, mysql://user@host/db, "
    "grpc://host:port)."
)
StorageOption = Annotated[
    str,
    typer.Option(
        "--storage",
        "-s",
        metavar="FILE|URL",
        envvar=STORAGE_VARIABLE,
        callback=as_url,
        help=STORAGE_HELP,
    ),
]
StudyArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="STUDY",
        help="The study's name; may be left out if the storage has one study. A file or a URL in "
        "its place is the storage.",
    ),
]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table that fits the terminal."""
    return TextTable(head, rows).to_text(out.width)


def place_of(ctx: typer.Context, study_name: str | None, storage: str) -> tuple[str | None, str]:
    """Return a study's name and its storage; a file in the place of the name is the storage.

    Args:
        ctx: The context of the command, which tells whether ``--storage`` was given.
        study_name: What stands in the place of a study's name.
        storage: The storage's URL.
    """
    source: Any = ctx.get_parameter_source("storage")
    if study_name is None or source.name == "COMMANDLINE" or not is_location(study_name):
        return study_name, storage
    return None, url_of(study_name)


def study_of(ctx: typer.Context, study_name: str | None, storage: str) -> tuple[Study, str]:
    """Return the study that a command is about, and the URL of its storage.

    Raises:
        StudyNotFound: If there is none, or the name is left out where there are several.
    """
    name, url = place_of(ctx, study_name, storage)
    opened = open_storage(url, create=False)
    return stored_study(name or only_study(opened, url), opened), url


def only_study(storage: BaseStorage, url: str) -> str:
    """Return the name of the only study that was tuned.

    Raises:
        StudyNotFound: If there is none, or there are several.
    """
    from optuna.study import get_all_study_names

    names = sorted(tuning_studies(get_all_study_names(storage)))
    if not names:
        raise StudyNotFound(f"There is no study in {redact(url)} yet: `run` makes the first.")
    if len(names) > 1:
        raise StudyNotFound(f"Name one of the studies in {redact(url)}: {', '.join(names)}.")
    return names[0]


def has_display() -> bool:
    """Tell whether a person sits at this process, and a browser has somewhere to open."""
    import sys

    if not out.is_terminal or os.environ.get("CI") or os.environ.get("SSH_CONNECTION"):
        return False
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
