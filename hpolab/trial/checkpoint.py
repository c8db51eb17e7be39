"""Checkpoints of running trials: a file beside the storage, or an entry of an artifact store."""

from __future__ import annotations

import io
import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from zlib import crc32

from optuna.artifacts.exceptions import ArtifactNotFound

from hpolab import _optuna
from hpolab.display import Displayed
from hpolab.errors import check_folder
from hpolab.files import remove_leftovers, replace_file
from hpolab.keywords import checks_keywords
from hpolab.logs import get_logger
from hpolab.trial.packing import BYTES
from hpolab.trial.sealed import seal, unseal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import BinaryIO

    from optuna import Study

__all__ = ["ArtifactStore", "Checkpoint", "CheckpointFolder", "TrialCheckpoints", "default_store"]

_logger = get_logger(__name__)

_MAGIC = b"hpolab checkpoint 1\n"


class ArtifactStore(Protocol):
    """Optuna's artifact store: any class of ``optuna.artifacts`` will do."""

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Open what is stored under an id, or raise ``ArtifactNotFound``."""
        ...

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Store under an id, over what is there."""
        ...

    def remove(self, artifact_id: str) -> None:
        """Remove an id, or raise ``ArtifactNotFound``."""
        ...


class CheckpointFolder(Displayed):
    """An artifact store in a folder that never shows half a write.

    Args:
        folder: Made when the first checkpoint is written.

    Raises:
        InvalidArgument: If a file stands in its place.
    """

    @checks_keywords()
    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).absolute()
        check_folder(self.folder)

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Open a checkpoint, or raise ``ArtifactNotFound``."""
        try:
            return open(self.folder / artifact_id, "rb")
        except FileNotFoundError as error:
            raise ArtifactNotFound(artifact_id) from error

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Write a checkpoint beside the old one, then move it there."""
        content = content_body.read()
        path = self.folder / artifact_id
        while True:
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # another worker has removed the empty folder
                replace_file(path, content, durable=True)
                return

    def remove(self, artifact_id: str) -> None:
        """Remove a checkpoint, or raise ``ArtifactNotFound``; the last one takes the folder."""
        try:
            (self.folder / artifact_id).unlink()
        except FileNotFoundError as error:
            raise ArtifactNotFound(artifact_id) from error
        remove_leftovers(self.folder / artifact_id)
        with suppress(OSError):  # it holds other trials' checkpoints
            self.folder.rmdir()

    def _in_one_line(self) -> str:
        return str(self.folder)


@dataclass(frozen=True)
class Checkpoint:
    """A training between two steps.

    Attributes:
        step: The last step that was reported.
        reports: Step -> value, of all steps so far.
        progress: The reporter's own counters: plain numbers by name.
        state: The trainer's state, as bytes that only the trainer reads.
        form: How `hpolab.trial.packing` has made these bytes; "bytes" are the trainer's own.
    """

    step: int
    reports: Mapping[int, float]
    progress: Mapping[str, Any]
    state: bytes
    form: str = BYTES

    def to_bytes(self) -> bytes:
        """Return what `from_bytes` reads."""
        head = {key: value for key, value in asdict(self).items() if key != "state"}
        return seal(_MAGIC, head, self.state)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Checkpoint:
        """Return the checkpoint that `to_bytes` wrote.

        Raises:
            ValueError: If it is damaged, or none.
        """
        head, state = unseal(_MAGIC, raw)
        head["reports"] = {int(step): value for step, value in head["reports"].items()}
        return cls(**head, state=state)


class TrialCheckpoints:
    """The one checkpoint of a trial.

    Args:
        store: Where it is kept.
        study_name: The trial's study.
        number: The trial's number.
    """

    def __init__(self, store: ArtifactStore, study_name: str, number: int) -> None:
        self._store = store
        # Readable, safe in every file system, and distinct for names that differ in what is cut.
        plain = re.sub(r"[^A-Za-z0-9_.-]", "_", study_name)[:80]
        self._id = f"{plain}-{crc32(study_name.encode()):08x}-{number}.ckpt"

    def load(self) -> Checkpoint | None:
        """Return the checkpoint, or None if there is none or it is damaged, which is logged."""
        try:
            with self._store.open_reader(self._id) as reader:
                raw = reader.read()
        except ArtifactNotFound:
            return None
        try:
            return Checkpoint.from_bytes(raw)
        except ValueError as error:
            _logger.warning(f"Checkpoint {self._id} is damaged ({error}); the trial starts over.")
            return None

    def save(self, checkpoint: Checkpoint) -> None:
        """Put ``checkpoint`` in the old one's place."""
        self._store.write(self._id, io.BytesIO(checkpoint.to_bytes()))

    def remove(self) -> None:
        """Remove the checkpoint, if there is one."""
        try:
            self._store.remove(self._id)
        except ArtifactNotFound:
            return


def default_store(study: Study) -> ArtifactStore | None:
    """Return the folder beside a study's storage, or None for one in memory.

    A file's checkpoints lie in ``<file>.checkpoints``, a server's in ``hpolab-checkpoints`` in the
    working folder of the worker; a worker that cannot see it starts the trial over.
    """
    folder = _optuna.folder_beside(study, "checkpoints")
    return None if folder is None else CheckpointFolder(folder)
