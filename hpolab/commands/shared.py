"""What the commands have in common: where they print, and the options that many take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hpolab.console import PlainConsole
from hpolab.storage.url import STORAGE_VARIABLE
from hpolab.tables import TextTable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["STORAGE_HELP", "StorageOption", "StudyArgument", "err", "out", "table"]

# Standard output carries results only, so that `hpolab best -f json` can be piped.
out = PlainConsole()
err = PlainConsole(stderr=True)

STORAGE_HELP = (
    "Where the studies live: sqlite:///file.db, journal:///file.log, redis://host:port/db, "
    "postgresql://user@host/db, mysql://user@host/db, grpc://host:port."
)
StorageOption = Annotated[
    str, typer.Option("--storage", "-s", metavar="URL", envvar=STORAGE_VARIABLE, help=STORAGE_HELP)
]
StudyArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[STUDY]", help="The study's name; may be left out if the storage has one study."
    ),
]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table that fits the terminal."""
    return TextTable(head, rows).to_text(out.width)
