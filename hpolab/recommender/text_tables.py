"""Text files of interactions: CSV, tab-separated, and what data sets are published as."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpolab.errors import DataNotFound, InvalidArgument, needs

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["read_text_table", "without_types"]

_OPENERS: dict[str, Any] = {".bz2": bz2.open, ".gz": gzip.open, ".xz": lzma.open}
_SEPARATORS = ("::", "\t", ",", ";", "|")
# The columns of MovieLens' files that have no header, in their order; Amazon's are the same.
_UNNAMED = ("user_id", "item_id", "rating", "timestamp")


def read_text_table(
    path: str | Path, columns: Sequence[str] | None = None, separator: str | None = None
) -> Any:
    """Return the rows of a text file as a pandas frame; see `Interactions.from_file`.

    Raises:
        DataNotFound: If there is no such file.
        InvalidArgument: If the file is no text table, or its columns have no names.
        MissingExtra: If pandas is not installed.
    """
    with needs("A file of interactions", "pandas", "recommender"):
        import pandas as pd
    path = Path(path)
    first = _first_line(path)
    if separator is None:
        separator = max(_SEPARATORS, key=first.count)
        if separator not in first:
            separator = r"\s+"
    cells = re.split(separator if separator == r"\s+" else re.escape(separator), first)
    names = columns
    if columns is None and any(map(_is_number, cells)):
        names = [*_UNNAMED, *(f"column_{i}" for i in range(5, len(cells) + 1))][: len(cells)]
    if names is not None and len(names) != len(cells):
        raise InvalidArgument(
            f"`columns` must name the {len(cells)} columns of {path}, got {list(names)}."
        )
    try:
        table = pd.read_csv(
            path,
            sep=separator,
            names=names,
            header=0 if names is None else None,
            index_col=False,
            encoding="utf-8-sig",
            # pandas' faster engine knows separators of one character.
            **({"engine": "python"} if separator == "::" else {"low_memory": False}),
        )
    except ValueError as error:
        raise _no_table(path, str(error).strip()) from error
    return without_types(table)


def without_types(table: Any) -> Any:
    """Return a pandas frame without the types that RecBole's files have in their headers."""
    return table.rename(columns=lambda name: str(name).partition(":")[0].strip())


def _first_line(path: Path) -> str:
    opener = _OPENERS.get(path.suffix, open)
    try:
        with opener(path, "rt", encoding="utf-8-sig") as file:
            line: str = file.readline().rstrip("\r\n")
    except FileNotFoundError:
        raise DataNotFound(f"`path` must name a file, got {path}, which is not there.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise _no_table(path, str(error)) from error
    if not line or "\0" in line or line[0] in "{[":
        raise _no_table(path, f"it begins with {line[:20]!r}")
    return line


def _no_table(path: Path, why: str) -> InvalidArgument:
    return InvalidArgument(
        f"`path` must be a text table such as CSV, got {path}: {why}. Read other files with pandas "
        "or polars and give the frame to `Interactions.from_frame`."
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell.strip().strip('"'))
    except ValueError:
        return False
    return True
