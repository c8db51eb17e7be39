"""Every error hpolab raises. All share one root and keep a built-in second parent."""

from __future__ import annotations

import traceback
from contextlib import contextmanager, suppress
from numbers import Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = [
    "CacheMismatch",
    "DataNotFound",
    "Diverged",
    "FileNotWritten",
    "HpolabError",
    "InvalidArgument",
    "InvalidType",
    "LeaseLost",
    "MissingExtra",
    "RayUnavailable",
    "RecipeMismatch",
    "StorageNotFound",
    "StorageUnavailable",
    "StudyNotFound",
    "TooManyFailures",
    "WorkerError",
    "WorkersDied",
    "check_count",
    "check_folder",
    "check_installed",
    "check_seconds",
    "check_text",
    "error_text",
    "hint",
    "in_brief",
    "needs",
    "one_of",
]


class HpolabError(Exception):
    """The root of every error that hpolab raises itself."""


class InvalidArgument(HpolabError, ValueError):
    """An argument breaks a rule; the message names the argument, the rule and the value."""


class InvalidType(HpolabError, TypeError):
    """An argument is of the wrong type; the message names both types."""


class MissingExtra(HpolabError, ImportError):
    """An optional package is missing; the message names the extra that brings it."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(f"{what} needs {package}: pip install 'hpolab[{extra}]'")


@contextmanager
def needs(what: str, package: str, extra: str) -> Iterator[None]:
    """Name the extra to install if an import inside fails.

    Args:
        what: What needs the package, as the user knows it.
        package: The package's name, as its makers write it.
        extra: The extra of hpolab that brings it.

    Raises:
        MissingExtra: If an import inside fails.

    Example:
        >>> with needs("`TorchObjective`", "PyTorch", "torch"):
        ...     import no_such_package
        Traceback (most recent call last):
        hpolab.errors.MissingExtra: `TorchObjective` needs PyTorch: pip install 'hpolab[torch]'
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtra(what, package, extra) from error


def check_installed(what: str, packages: Iterable[str], extra: str) -> None:
    """Refuse what needs packages that are not installed, without importing them.

    Raises:
        MissingExtra: If one is not installed.

    Example:
        >>> check_installed("`AutoSampler`", ["no_such_package"], "torch")
        Traceback (most recent call last):
        hpolab.errors.MissingExtra: `AutoSampler` needs no_such_package: pip install 'hpolab[torch]'
    """
    from importlib.util import find_spec

    for package in packages:
        if find_spec(package) is None:
            raise MissingExtra(what, package, extra)


class LeaseLost(HpolabError, RuntimeError):
    """Another worker took a running trial, as this one seemed to be dead."""


class RecipeMismatch(HpolabError, ValueError):
    """A study exists already and was made by another recipe; the message shows both sides.

    Attributes:
        found: What differs, without the advice that follows in the message.
    """

    def __init__(self, found: str, advice: str = "") -> None:
        super().__init__(f"{found}{advice}")
        self.found = found


class CacheMismatch(HpolabError, ValueError):
    """A cache holds what another version has written; the message names both."""


class StorageUnavailable(HpolabError, RuntimeError):
    """A storage cannot be opened or read; nothing in it was changed."""


class StudyNotFound(HpolabError, LookupError):
    """A storage has no study of the name asked for; the message lists those it has."""


class StorageNotFound(StorageUnavailable, StudyNotFound):
    """There is no storage yet where one was to be read, and so no study either."""


class RayUnavailable(HpolabError, ConnectionError):
    """A Ray cluster cannot be reached; no trial was begun."""


class FileNotWritten(HpolabError, OSError):
    """A file cannot be written; what was in its place is as it was."""


class TooManyFailures(HpolabError, RuntimeError):
    """The first trials of a study all failed, so the objective itself is broken."""


class DataNotFound(HpolabError, FileNotFoundError):
    """A data set is not where it was looked for; the message says where that was."""


class WorkersDied(HpolabError, RuntimeError):
    """Worker processes die over and over without finishing a trial."""


class WorkerError(HpolabError, RuntimeError):
    """A worker process ended by an error that cannot travel; the message holds what it said."""


class Diverged(HpolabError, ArithmeticError):
    """A training outside any trial reached NaN or infinity."""


def in_brief(error: BaseException) -> str:
    """Return an error's type and the first line of what it says.

    Example:
        >>> in_brief(ValueError("no such layer\\nin this model"))
        'ValueError: no such layer'
    """
    try:
        said = str(error).strip().partition("\n")[0]
    except Exception:  # noqa: BLE001 - a user's class may do anything here
        said = "it does not say what"
    return f"{type(error).__name__}: {said}"


# What a storage keeps of an error: some compilers write books.
_MAX_CHARACTERS = 10_000


def error_text(error: BaseException) -> str:
    """Return an error's type and all that it says, its notes in brackets behind.

    Example:
        >>> error = ValueError("the shapes cannot be multiplied")
        >>> error.add_note("in layer fc2")
        >>> error_text(error)
        'ValueError: the shapes cannot be multiplied (in layer fc2)'
    """
    described = traceback.TracebackException(type(error), error, None)
    # The last of several lines: a SyntaxError shows its place first.
    described.__notes__ = None
    said = list(described.format_exception_only())[-1].strip()
    notes = "; ".join(str(note).strip() for note in getattr(error, "__notes__", None) or ())
    return (f"{said} ({notes})" if notes else said)[:_MAX_CHARACTERS]


def check_count(argument: str, value: Any, *, low: int = 1) -> None:
    """Refuse a count that is not an int of ``low`` or above.

    Raises:
        InvalidType: If ``value`` is no int.
        InvalidArgument: If it is below ``low``.

    Example:
        >>> check_count("n_trials", 0)
        Traceback (most recent call last):
        hpolab.errors.InvalidArgument: `n_trials` must be 1 or above, got 0.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidType(f"`{argument}` must be an int, got {type(value).__name__}.")
    if value < low:
        raise InvalidArgument(f"`{argument}` must be {low} or above, got {value}.")


def check_seconds(argument: str, value: Any, *, low: float | None = None) -> None:
    """Refuse a duration that is no number of seconds; infinity is one.

    Args:
        argument: The argument's name, for the message.
        value: What came.
        low: The least that it may be; None: it must be above 0, or be None for no limit.

    Raises:
        InvalidType: If ``value`` is no number.
        InvalidArgument: If it is NaN or too small.

    Example:
        >>> check_seconds("timeout_seconds", float("nan"))
        Traceback (most recent call last):
        hpolab.errors.InvalidArgument: `timeout_seconds` must be above 0, or None, got nan.
    """
    if value is None and low is None:
        return
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidType(f"`{argument}` must be a number, got {type(value).__name__}.")
    seconds = float(value)
    if not (seconds > 0 if low is None else seconds >= low):  # NaN is neither
        rule = "above 0, or None" if low is None else f"{low:g} or above"
        raise InvalidArgument(f"`{argument}` must be {rule}, got {value}.")


def one_of(argument: str, value: Any, choices: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``choices``.

    Args:
        argument: The argument's name, for the message.
        value: What came.
        choices: The names that are known.

    Raises:
        InvalidArgument: If ``value`` is not a known name; the nearest one is suggested.

    Example:
        >>> one_of("sampler", "tep", ["tpe", "random"])
        Traceback (most recent call last):
        hpolab.errors.InvalidArgument: `sampler` must be one of 'random', 'tpe', got 'tep'. \
Did you mean 'tpe'?
    """
    known = sorted(choices)
    if value in known:
        return str(value)
    names = ", ".join(repr(name) for name in known)
    raise InvalidArgument(
        f"`{argument}` must be one of {names}, got {value!r}.{hint(str(value), known)}"
    )


def hint(name: str, known: Iterable[str]) -> str:
    """Return the question whether a known name was meant, to stand behind a message.

    Args:
        name: The name that came.
        known: The names that are known; capital letters are compared like small ones.

    Returns:
        " Did you mean ...?", or nothing if no other name is near.

    Example:
        >>> hint("Adm", ["adam", "sgd"])
        " Did you mean 'adam'?"
        >>> hint("lion", ["adam", "sgd"])
        ''
    """
    from difflib import get_close_matches

    by_lower = {each.lower(): each for each in known}
    near = [by_lower[each] for each in get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)]
    return f" Did you mean {near[0]!r}?" if near and near[0] != name else ""


# What the columns of Optuna's databases hold of a name.
_MAX_CHARACTERS_OF_A_NAME = 512


def check_text(what: str, text: str, *, is_new: bool = True) -> None:
    """Refuse a name that some storage cannot keep.

    Args:
        what: What it names, for the message.
        text: The name.
        is_new: Whether it is stored for the first time: a storage that has it can keep it.

    Raises:
        InvalidArgument: If it has a character that UTF-8 or a database cannot hold, or too many.

    Example:
        >>> check_text("`study_name`", "lone \\ud800")
        Traceback (most recent call last):
        hpolab.errors.InvalidArgument: `study_name` must be text that UTF-8 can hold, without NUL \
characters, got 'lone \\ud800'.
    """
    if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
        raise InvalidArgument(
            f"{what} must be text that UTF-8 can hold, without NUL characters, got {text!r}."
        )
    if is_new and len(text) > _MAX_CHARACTERS_OF_A_NAME:
        raise InvalidArgument(
            f"{what} must have at most {_MAX_CHARACTERS_OF_A_NAME} characters, got {len(text)}: "
            f"{text[:40]!r}…"
        )


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be made, as a file stands in its place or above it.

    Raises:
        InvalidArgument: If it is so.
    """
    with suppress(OSError):  # what cannot be looked at is told of when it is needed
        for place in (folder, *folder.parents):
            if place.is_dir():
                return
            if place.exists():
                raise InvalidArgument(
                    f"`folder` must be a folder, or new, got {str(folder)!r}, but {str(place)!r} "
                    "is none."
                )
