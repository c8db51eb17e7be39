"""Files that are whole at every moment: written beside their place, then moved there."""

from __future__ import annotations

import os
import re
import secrets
import sys
from pathlib import Path

__all__ = ["remove_leftovers", "replace_file", "sync_folder"]


def replace_file(
    path: str | os.PathLike[str], content: bytes | str, *, durable: bool = False
) -> None:
    r"""Put a file in the place of the one that is there; nobody ever reads half of it.

    The old file stays until the new one is whole, also where this process is killed or the disk is
    full. Of several threads and processes that write at once, the last one's file stays.

    Args:
        path: The file; its folder must exist.
        content: What it shall hold; a str is written as UTF-8, its line ends as they are.
        durable: Whether the file must be on the disk on return, so that it survives a power cut.
            That costs two waits for the disk.

    Raises:
        OSError: If it cannot be written. The old file is as it was, and nothing is left beside it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "notes.txt")
        ...     replace_file(path, "lr=0.1\n")
        ...     replace_file(path, "lr=0.2\n")
        ...     path.read_text()
        'lr=0.2\n'
    """
    path = Path(path)
    raw = content.encode() if isinstance(content, str) else content
    # A name of its own for each call: a process id would be shared by the process's threads.
    beside = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with beside.open("xb") as file:
            file.write(raw)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Remove what killed processes have left beside a file that nobody writes any more."""
    path = Path(path)
    # Hexadecimal alone: "a.b" and "a" may be two files.
    name = re.compile(re.escape(path.name) + r"\.[0-9a-f]+\.tmp")
    for leftover in path.parent.glob("*.tmp"):
        if name.fullmatch(leftover.name):
            leftover.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Let the names of files in a folder survive a power cut; their content is synced apart."""
    if sys.platform == "win32":
        return  # it opens no folder, and writes names at once
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
