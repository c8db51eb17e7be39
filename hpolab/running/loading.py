"""An objective by its name, as a worker's command line gives it: ``module:name``."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import pkgutil
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpolab.errors import InvalidArgument, InvalidType, hint
from hpolab.objectives.base import Objective
from hpolab.trial.tracker import Tracker

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

    from hpolab.running.plan import ObjectiveFunction

__all__ = ["load_objective", "load_with_trackers", "split_place"]

# Lines of a traceback that an error shows: the last call, and what it raised.
_LINES = 8
_MOST_NAMES = 12


def split_place(place: str) -> tuple[str, str]:
    """Return the module, or the path of a script, and the name in it.

    Raises:
        InvalidArgument: If ``place`` is not of the form.

    Example:
        >>> split_place("train.tuning:objective")
        ('train.tuning', 'objective')
    """
    module, separator, name = place.rpartition(":")
    is_module = all(part.isidentifier() for part in module.split("."))
    if not separator or not name or not (module.endswith(".py") or is_module):
        raise InvalidArgument(
            "`objective` must be 'module:name' or 'path/to/script.py:name', as in "
            f"'train:objective', got {place!r}."
        )
    return module, name


def load_objective(place: str) -> ObjectiveFunction:
    """Import an objective: an hpolab objective, or a function of a trial.

    The working folder is searched for modules first, as by ``python -m``; for a script, its own
    folder, as by ``python script.py``.

    Args:
        place: ``module:name`` or ``path/to/script.py:name``.

    Raises:
        InvalidArgument: If there is no such module or name, or the module cannot be imported; the
            message ends with what its code raised.
        InvalidType: If it is no objective.
    """
    return load_with_trackers(place)[0]


def load_with_trackers(place: str) -> tuple[ObjectiveFunction, Any]:
    """Import an objective, and the list ``trackers`` that stands beside it in its module.

    Args:
        place: As in `load_objective`.

    Returns:
        The objective; and what the module has under the name ``trackers``, if there is a `Tracker`
        in it, else an empty list.
    """
    source, name = split_place(place)
    module = _script(Path(source)) if source.endswith(".py") else _module(source)
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise InvalidArgument(_missing(source, name, part, module, found)) from None
    _check(place, found)
    return found, _trackers_of(module)


def _trackers_of(module: ModuleType) -> Any:
    # A module may call something else so.
    found = getattr(module, "trackers", ())
    listed = found if isinstance(found, list | tuple) else (found,)
    return found if any(isinstance(each, Tracker) for each in listed) else ()


def _module(name: str) -> ModuleType:
    _search_first(os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise InvalidArgument(_no_module(name, error.name)) from None
        raise _broken(name, error) from error
    except (Exception, SystemExit) as error:
        raise _broken(name, error) from error


def _script(path: Path) -> ModuleType:
    if not path.is_file():
        scripts = [each.name for each in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise InvalidArgument(
            f"`objective` must name a script that is there, got {str(path)!r}, in the folder "
            f"{os.getcwd()!r}.{hint(path.name, scripts)}"
        )
    _search_first(str(path.parent.resolve()))
    # Another module may have the script's name.
    name = path.stem if path.stem not in sys.modules else f"hpolab_objective_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _broken(str(path), error) from error
    return module


def _search_first(folder: str) -> None:
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _broken(source: str, error: BaseException) -> InvalidArgument:
    """Return an error that ends with what the user's module has raised, without our own frames."""
    frames = traceback.extract_tb(error.__traceback__)
    own = (__file__, importlib.__file__, "<frozen")
    while len(frames) > 1 and frames[0].filename.startswith(own):
        frames = traceback.StackSummary.from_list(frames[1:])
    lines = "".join([*frames.format(), *traceback.format_exception_only(error)]).splitlines()
    shown = "\n".join(f"  {line}" for line in lines[-_LINES:])
    advice = ""
    if isinstance(error, SystemExit):
        advice = " It ends the program: let it do so under `if __name__ == '__main__':` alone."
    return InvalidArgument(f"`objective` cannot be imported from {source!r}.{advice}\n{shown}")


def _no_module(name: str, missing: str) -> str:
    parent, _, last = missing.rpartition(".")
    if parent:
        there = [f"{parent}.{each}" for each in _modules_in(sys.modules[parent].__path__)]
        where = f"the package {parent!r}"
        near = hint(missing, there)
    else:
        there = list(_modules_in([os.getcwd()]))
        where = f"the folder {os.getcwd()!r} or on `sys.path`"
        near = hint(last, [*there, *_modules_in(sys.path)])
    listed = f" There: {_some(there)}." if there else ""
    found = f"but there is no {missing!r} in {where}"
    return f"`objective` names the module {name!r}, {found}.{near}{listed}"


def _modules_in(folders: Iterable[str]) -> list[str]:
    return sorted({each.name for each in pkgutil.iter_modules(list(folders))})


def _missing(source: str, name: str, part: str, module: ModuleType, found: Any) -> str:
    there = sorted(each for each in vars(found) if _may_be_objective(vars(found)[each], module))
    listed = f" It has {_some(there)}." if there else " It has no function of its own."
    return f"`objective` names {name!r}, but {source!r} has no {part!r}.{hint(part, there)}{listed}"


def _may_be_objective(value: Any, module: ModuleType) -> bool:
    own = getattr(value, "__module__", None) == module.__name__
    return isinstance(value, Objective) or (own and callable(value) and not inspect.isclass(value))


def _some(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _check(place: str, found: Any) -> None:
    if isinstance(found, Objective):
        return
    if inspect.isclass(found) or not callable(found):
        what = f"the class {found.__name__}" if inspect.isclass(found) else type(found).__name__
        raise InvalidType(
            "`objective` must name an hpolab objective or a function of a trial, got "
            f"{place!r}, which is {what}."
        )
    try:
        inspect.signature(found).bind(None)
    except TypeError as error:
        raise InvalidType(
            f"`objective` must name a function of one argument, the trial, got {place!r}: {error}. "
            "If it makes the objective, give what it returns a name in the module."
        ) from None
    except ValueError:
        return  # without a signature, as some of C are
