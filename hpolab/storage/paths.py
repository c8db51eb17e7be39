"""From the URL of a file to its path, and whether a file of that name can be there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from hpolab.errors import InvalidArgument
from hpolab.storage.redaction import redact, split_scheme

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["path_of", "why_unusable"]

# The longest of the names that stand beside a storage's file: `.checkpoints`, `.opening`, `-wal`.
_LONGEST_SUFFIX = ".checkpoints"


def path_of(url: str) -> Path:
    """Return the path that a URL such as ``sqlite:///folder/file`` names.

    It is the text behind the third slash, as it stands: a ``%``, a ``#`` or a space is itself, and
    ``~`` or ``$HOME`` are no folders of anybody's. (SQLAlchemy decodes ``%20``, or not, by its
    version, so one URL named two files.)

    Raises:
        InvalidArgument: If it names no file, or ends in what looks like options or another
            system's path.

    Example:
        >>> path_of("sqlite:///runs/100%25 of it.db").name
        '100%25 of it.db'
    """
    scheme, rest = split_scheme(url)
    text = rest[1:]
    name = text.rpartition("/")[2]
    if not rest.startswith("/") or name in ("", ".", ".."):
        raise _refused(url, scheme, "")
    if not text.isprintable() or text != text.rstrip() or name != name.lstrip():
        raise _refused(url, scheme, ", without control characters or blanks around it")
    if "?" in name:
        raise _refused(url, scheme, ", and hpolab takes no options behind a '?'")
    if os.sep == "/" and "\\" in name and not os.path.lexists(text):
        raise _refused(url, scheme, " with '/' between folders, as this is not Windows")
    return Path(text)


def why_unusable(path: Path) -> tuple[str, str] | None:
    """Return why a file cannot be opened and what to do about it, or None if nothing is wrong.

    The file may be new. Nothing is changed to find out.
    """
    try:
        return _why_unusable(path)
    except OSError as error:
        # A name that is too long, a folder that may not be looked into, a circle of links.
        return f"{error.strerror or error} ({str(path)[:80]!r})", "Name another file"


def _why_unusable(path: Path) -> tuple[str, str] | None:
    if not _is(os.path.isdir, path.parent):
        advice = "Create it first"
        if path.parts[0].startswith("~"):
            advice = f"A '~' is not expanded: write the whole path, {str(path.expanduser())!r}"
        return f"there is no folder {str(path.parent)!r}", advice
    exists = _is(os.path.exists, path)
    if exists and not path.is_file():
        return f"{str(path)!r} is no plain file", "Name a file"
    if not exists:
        # Refused now, and not when the first checkpoint is to be saved.
        _is(os.path.exists, path.with_name(path.name + _LONGEST_SUFFIX))
    for place in (path.parent, path):
        if place.exists() and not _is_writable(place):
            return f"{str(place)!r} is read-only", "Make it writable"
    return None


def _is(test: Callable[[Path], bool], path: Path) -> bool:
    """Test a path, and let an error of the system that the test would hide be raised."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return test(path)


def _is_writable(path: Path) -> bool:
    # `os.access` grants root everything; without any write permission root is kept out as well.
    return bool(path.stat().st_mode & 0o222) and os.access(path, os.W_OK)


def _refused(url: str, scheme: str, rule: str) -> InvalidArgument:
    form = f"{scheme}/folder/file"
    return InvalidArgument(f"`storage` must be of the form {form!r}{rule}, got {redact(url)!r}.")
