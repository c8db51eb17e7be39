"""From what a user calls a storage, a URL or a file's path, to its URL."""

from __future__ import annotations

import os
from pathlib import Path

from hpolab.errors import InvalidArgument, InvalidType, hint
from hpolab.storage.redaction import redact

__all__ = ["JOURNAL_HEAD", "files_with_studies", "is_location", "url_of"]

# What each line of Optuna's journal begins with.
JOURNAL_HEAD = b'{"op_code":'
_SQLITE_HEAD = b"SQLite format 3\0"

_SUFFIXES = {
    ".db": "sqlite",
    ".db3": "sqlite",
    ".sqlite": "sqlite",
    ".sqlite3": "sqlite",
    ".journal": "journal",
    ".jsonl": "journal",
    ".log": "journal",
}
_SCHEMES = ("grpc", "journal", "memory", "mysql", "postgresql", "redis", "sqlite")


def url_of(storage: str | os.PathLike[str]) -> str:
    """Return the URL of a storage: of a file that is there by what it holds, else by its name.

    Args:
        storage: A URL, which comes back as it is, or the path of a file: one that is there, or
            that ends in ``.db`` or ``.sqlite`` (SQLite) or ``.log`` or ``.journal`` (a journal).

    Raises:
        InvalidType: If it is neither a string nor a path.
        InvalidArgument: If it is neither a URL nor such a path.

    Example:
        >>> url_of("runs/study.db"), url_of(Path("/data/study.log"))
        ('sqlite:///runs/study.db', 'journal:////data/study.log')
    """
    if not isinstance(storage, str | os.PathLike):
        raise InvalidType(
            "`storage` must be a URL, a file's path, or an Optuna storage, got "
            f"{type(storage).__name__}."
        )
    text = os.fspath(storage)
    if not isinstance(text, str):
        raise InvalidType("`storage` must be a URL or a file's path as text, got bytes.")
    if isinstance(storage, str) and "://" in text:
        return text
    path = Path(text)
    scheme = _kind_of(path) or _SUFFIXES.get(path.suffix.lower())
    if scheme is None or _is_scheme(text.partition(":")[0]):
        raise InvalidArgument(_refusal(text))
    return f"{scheme}:///{path.as_posix()}"


def is_location(text: str) -> bool:
    """Tell whether a text that should be a study's name is a URL or the path of a storage.

    Example:
        >>> is_location("study.db"), is_location("redis://localhost/0"), is_location("mnist")
        (True, True, False)
    """
    return (
        "://" in text or Path(text).suffix.lower() in _SUFFIXES or _kind_of(Path(text)) is not None
    )


def files_with_studies(folder: Path) -> list[str]:
    """Return the names of the files of a folder that are SQLite databases or Optuna's journals."""
    try:
        found = sorted(each for each in folder.iterdir() if each.suffix.lower() in _SUFFIXES)
    except OSError:
        return []
    return [each.name for each in found if _kind_of(each) is not None]


def _kind_of(path: Path) -> str | None:
    """Return the kind of the file that is there; None if there is none, or it is of neither."""
    try:
        with path.open("rb") as file:
            head = file.read(len(_SQLITE_HEAD))
    except (OSError, ValueError):
        return None
    if head == _SQLITE_HEAD:
        return "sqlite"
    return "journal" if head.startswith(JOURNAL_HEAD) else None


def _is_scheme(word: str) -> bool:
    return word.lower() in (*_SCHEMES, "postgres", "rediss")


def _refusal(text: str) -> str:
    scheme, colon, rest = text.partition(":")
    found = f"got {redact(text)!r}."
    if colon and _is_scheme(scheme):
        slashes = ":///" if scheme.lower() in ("sqlite", "journal") else "://"
        meant = scheme.lower() + slashes + rest.lstrip("/")
        found += f" Did you mean {redact(meant)!r}?"
    elif text.lower() in _SCHEMES:
        found += " Did you mean 'memory://'?" if text.lower() == "memory" else ""
    else:
        found += hint(Path(text).name, files_with_studies(Path(text).parent))
    return (
        "`storage` must be a file that ends in .db (SQLite) or .log (a journal), or a URL such as "
        f"'sqlite:///hpolab.db', {found}"
    )
