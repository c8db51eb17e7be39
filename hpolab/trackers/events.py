"""An event file of TensorBoard's that several processes write to, one after another.

TensorBoard's own writers begin a new file in each process, and TensorBoard reads the files of a
folder in the order of their names, each to its end: those of a process whose clock is behind are
never shown live. Here a run has one file, and who comes later goes on in it.
"""

from __future__ import annotations

import io
import os
import struct
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["EventFile"]

# TensorBoard takes any file with "tfevents" in its name.
_FILE_NAME = "events.out.tfevents.hpolab"

# A record is its length, a checksum of that, the data, and a checksum of the data.
_HEAD = struct.Struct("<QI")
_TAIL = struct.Struct("<I")


class EventFile:
    """The event file of one run.

    Args:
        folder: The run's folder; made if there is none.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE_NAME
        folder.mkdir(parents=True, exist_ok=True)
        with self._locked() as number:
            self._heal(number)
            if os.fstat(number).st_size == 0:
                # What lets `purge_from` work: an older version has other rules.
                self._append(number, self._event(file_version="brain.Event:2"))

    def events(self) -> list[Any]:
        """Return all events."""
        from tensorboard.compat.proto.event_pb2 import Event

        content = self._path.read_bytes()
        return [Event.FromString(content[start:end]) for start, end in _records(content)]

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Append a point of a curve."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        point = Summary.Value(tag=tag, simple_value=value)
        self._write(self._event(step=step, summary=Summary(value=[point])))

    def plugin(self, tag: str, metadata: Any, tensor: Any) -> None:
        """Append what a plugin of TensorBoard's reads."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        value = Summary.Value(tag=tag, metadata=metadata, tensor=tensor)
        self._write(self._event(step=0, summary=Summary(value=[value])))

    def purge_from(self, step: int) -> None:
        """Let TensorBoard forget the points from a step on: they come again."""
        from tensorboard.compat.proto.event_pb2 import SessionLog

        self._write(self._event(step=step, session_log=SessionLog(status=SessionLog.START)))

    def _event(self, **fields: Any) -> Any:
        from tensorboard.compat.proto.event_pb2 import Event

        return Event(wall_time=time.time(), **fields)

    def _write(self, event: Any) -> None:
        with self._locked() as number:
            self._append(number, event)

    def _append(self, number: int, event: Any) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        record = io.BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        size = os.fstat(number).st_size
        try:
            # One write, which a killed process has made or not.
            written = os.write(number, record.getvalue())
        except OSError:
            os.ftruncate(number, size)
            raise
        if written < len(record.getvalue()):
            os.ftruncate(number, size)
            raise OSError(f"no space left for {str(self._path)!r}")

    def _heal(self, number: int) -> None:
        """Cut off half a record at the end, which a machine that went down has left."""
        content = self._path.read_bytes()
        whole = max((end + _TAIL.size for _, end in _records(content)), default=0)
        if whole < len(content):
            os.ftruncate(number, whole)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Open the file to append, and keep other processes from it meanwhile."""
        flags = os.O_CREAT | os.O_APPEND | os.O_RDWR | getattr(os, "O_BINARY", 0)
        number = os.open(self._path, flags, 0o666)
        try:
            if sys.platform != "win32":
                import fcntl

                fcntl.flock(number, fcntl.LOCK_EX)
            yield number
        finally:
            os.close(number)


def _records(content: bytes) -> Iterator[tuple[int, int]]:
    """Return where the data of each whole record starts and ends."""
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    place = 0
    while place + _HEAD.size <= len(content):
        length, checksum = _HEAD.unpack_from(content, place)
        start = place + _HEAD.size
        end = start + length
        if checksum != masked_crc32c(content[place : place + 8]) or end + _TAIL.size > len(content):
            return
        if _TAIL.unpack_from(content, end)[0] != masked_crc32c(content[start:end]):
            return
        yield start, end
        place = end + _TAIL.size
