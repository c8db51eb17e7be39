"""Artifacts of expensive trainings, kept by what they were made from, within a size limit."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import platform
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpolab import _optuna
from hpolab.display import Displayed
from hpolab.errors import CacheMismatch, InvalidType, check_count, check_folder
from hpolab.keywords import checks_keywords
from hpolab.logs import get_logger
from hpolab.trial.checkpoint import CheckpointFolder
from hpolab.trial.sealed import seal, unseal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from optuna import Study

__all__ = ["ArtifactCache", "default_cache", "digest_of", "fingerprint"]

_logger = get_logger(__name__)

# Spelled as the first version wrote it, here and below.
_SUFFIX = ".artefact"

# The line that every version's entries begin with, up to the number of the format.
_MAGIC = b"hpolab artefact "
_FORMAT = 1
_HEAD = _MAGIC + b"%d\n" % _FORMAT


class ArtifactCache(Displayed):
    """A folder of artifacts by key, which never shows half a write and stays within its size.

    Entries are pickles, with a checksum: whoever can write to the folder can run code in the
    process that reads it. An entry that is damaged counts as none, and the log says so.

    Args:
        folder: Made when the first artifact is written. Several processes may share it.
        max_bytes: What all entries together may take; beyond it those that were not used for the
            longest time go. An artifact larger than that is not kept, and the log says so.

    Raises:
        InvalidArgument: If ``max_bytes`` is below 1, or a file stands in the folder's place.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cache = ArtifactCache(folder)
        ...     key = fingerprint({"lr": 0.1, "seed": 0})
        ...     cache.save(key, [0.25, 0.75])
        ...     cache.load(key)
        [0.25, 0.75]
    """

    @checks_keywords()
    def __init__(self, folder: str | os.PathLike[str], *, max_bytes: int = 2**30) -> None:
        check_count("max_bytes", max_bytes)
        self.folder = Path(folder).absolute()
        check_folder(self.folder)
        self.max_bytes = max_bytes

    def load(self, key: str) -> Any:
        """Return the artifact of a key, or None if there is none or it is damaged.

        Raises:
            CacheMismatch: If another version of hpolab has written it, or it cannot be read with
                the packages that are installed.
        """
        path = self._path(key)
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            return None
        entry = _Entry.from_bytes(raw, path)
        if entry is None:
            return None
        with suppress(FileNotFoundError):  # another process has evicted it since
            os.utime(path)
        return entry.artifact(path)

    def save(self, key: str, artifact: Any) -> None:
        """Keep an artifact under a key, and evict what was not used for the longest time.

        Raises:
            InvalidType: If it cannot be pickled.
        """
        raw = _Entry(_versions(), _pickled(artifact)).to_bytes()
        if len(raw) > self.max_bytes:
            _logger.warning(
                f"An artifact of {len(raw):,} bytes is not kept, as the cache in {self.folder} is "
                f"limited to {self.max_bytes:,} (`max_bytes`): it is made again when asked for."
            )
            return
        CheckpointFolder(self.folder).write(self._path(key).name, io.BytesIO(raw))
        self._evict(keep=self._path(key))

    def fetch(self, key: str, make: Callable[[], Any]) -> Any:
        """Return the artifact of a key, made now and kept if there is none.

        Raises:
            CacheMismatch: As `load`.
            InvalidType: If it cannot be pickled.
        """
        found = self.load(key)
        if found is None:
            found = make()
            self.save(key, found)
        return found

    def clear(self) -> None:
        """Remove all artifacts, those of other versions included, and the folder if it is empty."""
        for path in self._entries():
            path.unlink(missing_ok=True)
        with suppress(OSError):  # it is not there, or holds something else
            self.folder.rmdir()

    def check(self) -> None:
        """Refuse a folder with entries of another version of hpolab.

        Raises:
            CacheMismatch: If it has one.
        """
        for path in self._entries():
            with suppress(FileNotFoundError), path.open("rb") as file:
                _check_format(file.read(len(_HEAD) + 8), path)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{_SUFFIX}"

    def _entries(self) -> list[Path]:
        return list(self.folder.glob(f"*{_SUFFIX}"))

    def _evict(self, keep: Path) -> None:
        sizes = {}
        for path in self._entries():
            with suppress(FileNotFoundError):
                stat = path.stat()
                sizes[path] = (stat.st_mtime_ns, stat.st_size)
        total = sum(size for _, size in sizes.values())
        for path, (_, size) in sorted(sizes.items(), key=lambda item: item[1]):
            if total <= self.max_bytes:
                return
            if path != keep:
                path.unlink(missing_ok=True)
                total -= size

    def _in_one_line(self) -> str:
        return f"{self.folder}, at most {self.max_bytes:,} bytes"


@dataclass(frozen=True)
class _Entry:
    """What a file of the cache holds: which versions wrote it, and a pickle."""

    versions: dict[str, str]
    pickled: bytes

    def to_bytes(self) -> bytes:
        """Return what `from_bytes` reads."""
        return seal(_HEAD, self.versions, self.pickled)

    @classmethod
    def from_bytes(cls, raw: bytes, path: Path) -> _Entry | None:
        """Return the entry, or None if it is damaged, which is logged."""
        _check_format(raw, path)
        try:
            return cls(*unseal(_HEAD, raw))
        except ValueError as error:
            _logger.warning(f"Artifact {path} is damaged ({error}), and is made again.")
            return None

    def artifact(self, path: Path) -> Any:
        try:
            return pickle.loads(self.pickled)
        # What a class raises that has changed since is its own affair; all of it is one error here.
        except Exception as error:
            raise CacheMismatch(
                f"The artifact {path} must be readable with what is installed, {_versions()}, got "
                f"one written by {self.versions}: {error!r}. Remove it, or name another cache."
            ) from error


def _check_format(raw: bytes, path: Path) -> None:
    if raw.startswith(_MAGIC) and not raw.startswith(_HEAD):
        found = raw[len(_MAGIC) :].split(b"\n")[0].decode(errors="replace")
        raise CacheMismatch(
            f"The artifact {path} must be of format {_FORMAT}, got one of format {found}: another "
            "version of hpolab has written it. Remove it, or name another cache."
        )


def _versions() -> dict[str, str]:
    packages = {package: version(package) for package in ("hpolab", "numpy")}
    return {"python": platform.python_version(), **packages}


def default_cache(study: Study) -> ArtifactCache | None:
    """Return the cache beside a study's storage, or None for one in memory.

    A file's artifacts lie in ``<file>.artefacts``, a server's in ``hpolab-artefacts`` in the
    working folder of the worker.
    """
    folder = _optuna.folder_beside(study, "artefacts")
    return None if folder is None else ArtifactCache(folder)


class _Hashing:
    """A file that keeps the hash of what is written to it, and nothing else."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def write(self, part: Any) -> int:
        # Large arrays come as they lie in memory, those in Fortran's order too.
        raw = part.raw() if isinstance(part, pickle.PickleBuffer) else memoryview(part)
        self.sha256.update(raw)
        return raw.nbytes


def digest_of(artifact: Any) -> str:
    """Return the SHA-256 of an object's pickle: it tells whether the same object has changed.

    Equal objects need not have the same one.

    Raises:
        InvalidType: If it cannot be pickled.

    Example:
        >>> artifact = {"weights": [1.0, 2.0]}
        >>> before = digest_of(artifact)
        >>> artifact["weights"].sort(reverse=True)
        >>> digest_of(artifact) == before
        False
    """
    file = _Hashing()
    _pickle_into(file, artifact)
    return file.sha256.hexdigest()


def _pickled(artifact: Any) -> bytes:
    file = io.BytesIO()
    _pickle_into(file, artifact)
    return file.getvalue()


def _pickle_into(file: Any, artifact: Any) -> None:
    try:
        pickle.Pickler(file, protocol=5).dump(artifact)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise InvalidType(
            f"An artifact must be one that can be pickled, got {type(artifact).__name__}: {error}."
        ) from error


def fingerprint(value: Any) -> str:
    """Return a SHA-256 of some data by its content: the same in every process and on every machine.

    Args:
        value: None, a flag, number, string or bytes, an array or tensor, a dataclass, or a dict,
            list or tuple of these.

    Raises:
        InvalidType: If it holds anything else, whose content could not be told.

    Example:
        >>> import numpy as np
        >>> one, other = np.zeros(3), np.zeros((3, 1))
        >>> fingerprint({"x": one}) == fingerprint({"x": one.copy()})
        True
        >>> fingerprint(one) == fingerprint(other)
        False
    """
    sha256 = hashlib.sha256()
    for part in _parts(value):
        # Its length goes before each, so that no two lists of parts read the same.
        sha256.update(b"%d:" % memoryview(part).nbytes)
        sha256.update(part)
    return sha256.hexdigest()


def _parts(value: Any) -> Iterator[Any]:
    if value is None or isinstance(value, bool | int | float | str | bytes):
        yield type(value).__name__.encode()
        yield value if isinstance(value, bytes) else repr(value).encode()
    elif is_dataclass(value) and not isinstance(value, type):
        yield type(value).__name__.encode()
        yield from _parts({field.name: getattr(value, field.name) for field in fields(value)})
    elif isinstance(value, dict):
        yield b"dict %d" % len(value)
        for key in sorted(value, key=repr):
            yield from _parts(key)
            yield from _parts(value[key])
    elif isinstance(value, list | tuple):
        yield b"list %d" % len(value)
        for each in value:
            yield from _parts(each)
    else:
        yield from _parts_of_array(value)


def _parts_of_array(value: Any) -> Iterator[Any]:
    import numpy as np

    # A torch tensor, which may be on a device and want a gradient.
    plain = value.detach().cpu().numpy() if hasattr(value, "detach") else value
    if not isinstance(plain, np.ndarray | np.generic) or plain.dtype.hasobject:
        raise InvalidType(
            "A fingerprint must be of arrays, numbers, strings, and dicts, lists and dataclasses "
            f"of these, got {type(value).__name__}."
        )
    array = np.ascontiguousarray(plain)
    yield f"{array.dtype.str} {plain.shape}".encode()
    yield array.tobytes()
