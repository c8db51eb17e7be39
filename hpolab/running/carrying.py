"""What travels from a worker process to the one that started it: errors and log lines."""

from __future__ import annotations

import json
import logging
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optuna

from hpolab.errors import WorkerError, error_text, in_brief
from hpolab.files import replace_file
from hpolab.logs import get_logger

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CarriedError", "LogReader", "Relay", "carry_error", "carry_logs", "send_logs_to"]


class _WorkersTraceback(Exception):
    """The traceback that an error had in the worker, shown before the error's own."""

    def __init__(self, shown: str) -> None:
        super().__init__(shown)
        self._shown = shown

    def __str__(self) -> str:
        return f'\n"""\n{self._shown}"""'


@dataclass(frozen=True)
class CarriedError:
    """An error as a worker has stored it.

    Attributes:
        pickled: The error, of which `cloudpickle` makes an equal one; None if it cannot.
        brief: Its type and the first line of what it says.
        said: Its type, with its module, and all that it says.
        shown: Its traceback.
        while_stopping: Whether the worker had been told to stop by then.
    """

    pickled: bytes | None
    brief: str
    said: str
    shown: str
    while_stopping: bool

    @property
    def kind(self) -> str:
        """The error's type, by name."""
        return self.said.partition(":")[0]

    @classmethod
    def of(cls, error: BaseException, *, while_stopping: bool) -> CarriedError:
        """Return an error as it travels."""
        return cls(
            pickled=_pickled(error),
            brief=in_brief(error),
            said=error_text(error),
            shown="".join(traceback.format_exception(error)),
            while_stopping=while_stopping,
        )

    @classmethod
    def read(cls, path: Path) -> CarriedError | None:
        """Return the error in a file, None if there is no file."""
        import cloudpickle

        if not path.exists():
            return None
        carried: CarriedError = cloudpickle.loads(path.read_bytes())
        return carried

    def again(self) -> BaseException:
        """Return the error, its traceback in the worker as its cause."""
        import cloudpickle

        error = WorkerError(f"A worker process ended by an error: {self.said}")
        if self.pickled is not None:
            error = cloudpickle.loads(self.pickled)()
        error.__cause__ = _WorkersTraceback(self.shown)
        return error


def carry_error(path: Path, error: BaseException, *, while_stopping: bool) -> None:
    """Store an error for the process that started this one."""
    import cloudpickle

    carried = CarriedError.of(error, while_stopping=while_stopping)
    replace_file(path, cloudpickle.dumps(carried))


def _pickled(error: BaseException) -> bytes | None:
    """Return what makes an equal error again, None if nothing does."""
    import cloudpickle

    for rebuilt in (_Whole(error), _Bare(type(error), error.args, vars(error))):
        try:
            pickled: bytes = cloudpickle.dumps(rebuilt)
            again = cloudpickle.loads(pickled)()
            # An error may lose what it says on the way, and one that says nothing is no help.
            if type(again) is type(error) and str(again) == str(error):
                return pickled
        except Exception:  # noqa: BLE001 - a user's class may do anything here
            continue
    return None


@dataclass(frozen=True)
class _Whole:
    """An error that pickles as its class wants it."""

    error: BaseException

    def __call__(self) -> BaseException:
        return self.error


@dataclass(frozen=True)
class _Bare:
    """An error whose class takes other arguments than it keeps, so that pickle cannot call it."""

    kind: type[BaseException]
    args: tuple[Any, ...]
    state: dict[str, Any]

    def __call__(self) -> BaseException:
        error = self.kind.__new__(self.kind, *self.args)
        error.args = self.args
        vars(error).update(self.state)
        return error


class _ToFile(logging.Handler):
    """Writes each log line at the end of a file, as JSON."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        line = json.dumps([record.name, record.levelno, record.getMessage()])
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


def carry_logs(path: Path) -> None:
    """Let this process's lines of hpolab and of Optuna go to a file, and nowhere else."""
    send_logs_to(_ToFile(path))


def send_logs_to(handler: logging.Handler) -> None:
    """Let this process's lines of hpolab and of Optuna go to a handler, and nowhere else."""
    get_logger(__name__)  # sets both up
    optuna.logging.disable_default_handler()
    for name in ("hpolab", "optuna"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.INFO)


class Relay:
    """Logs here what workers have logged, the same line once."""

    def __init__(self) -> None:
        self._said: set[tuple[str, str]] = set()

    def log(self, name: str, level: int, message: str) -> None:
        """Log a line of a worker under its logger's name."""
        logger = logging.getLogger(name)
        if (name, message) not in self._said and logger.isEnabledFor(level):
            self._said.add((name, message))
            logger.handle(logger.makeRecord(name, level, "", 0, message, (), None))


class LogReader:
    """Logs here what worker processes have logged, the same line once.

    Args:
        folder: Where their files are.
        pattern: How these are called.
    """

    def __init__(self, folder: Path, pattern: str) -> None:
        self._folder = folder
        self._pattern = pattern
        self._read: dict[Path, int] = {}
        self._relay = Relay()

    def relay(self) -> None:
        """Log what is new."""
        for path in sorted(self._folder.glob(self._pattern)):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                # A line that is being written is read the next time.
                lines = [line for line in file if line.endswith(b"\n")]
            self._read[path] = self._read.get(path, 0) + sum(map(len, lines))
            for line in lines:
                self._relay.log(*json.loads(line))
