"""What a function reads and calls from outside: its settings, and the user's own code."""

from __future__ import annotations

import argparse
import dis
import functools
import sys
import sysconfig
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.fingerprint import data_fingerprint
from hpolab.identity import (
    attributes_of,
    captured_data,
    code_digest,
    is_data,
    names_in,
    plain_fact,
    read_by,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["called_code", "captured_settings", "facts_of_function", "held_values"]

# Functions and classes that are looked into.
_MOST_CALLED = 500
_MOST_PARTS = 1000

# What differs from run to run of one study, and from machine to machine.
_OF_THE_RUN = frozenset(
    {
        *("debug", "device", "folder", "log_dir", "memory", "n_jobs", "n_threads", "n_trials"),
        *("n_workers", "nthread", "num_threads", "num_workers", "out", "output", "output_dir"),
        *("path", "pre_dispatch", "resume", "start", "started", "start_time", "storage"),
        *("study_name", "timeout", "timeout_seconds", "url", "verbose"),
    }
)
# What code does to a container that it counts or collects in.
_CHANGES = frozenset(
    {
        *("add", "append", "clear", "discard", "extend", "insert", "pop", "popitem"),
        *("remove", "setdefault", "update"),
    }
)
_STORES = ("STORE_GLOBAL", "STORE_DEREF", "DELETE_GLOBAL", "DELETE_DEREF")


def captured_settings(function: Any) -> str:
    """Return a fingerprint of the plain values that a function reads from outside.

    They are numbers, text, and containers, dataclasses and namespaces of these: of its closure, its
    defaults, a partial's arguments, the attributes of an object that is called, and names of its
    module; also of the user's functions and classes that it calls. What the code itself changes,
    such as a counter, is left out, and so is what is of a run and not of its values, such as a name
    ``n_trials`` or ``device``.

    Example:
        >>> width = 8
        >>> before = captured_settings(lambda: width * 2)
        >>> width = 16
        >>> captured_settings(lambda: width * 2) == before
        False
    """
    reached = list(_reached(function))
    codes = [code for each in reached for code in _codes_of(each)]
    stored = {name for code in codes for name in _stored_in(code)}
    collects = any(_collects(code) for code in codes)
    found = {}
    for place, each in enumerate(reached):
        for name, value in read_by(each).items():
            plain = _plain(value, with_containers=not collects)
            if name not in stored and name.lower() not in _OF_THE_RUN and plain is not _NOT_PLAIN:
                found[f"{place} {name}"] = plain
    return data_fingerprint(found)


def called_code(function: Any) -> dict[str, str] | None:
    """Return what tells whether the user's code has changed that a function calls; None for none.

    It is that of functions and classes which its code, or theirs, names. Packages that are
    installed, Python's own and hpolab are left out.

    Example:
        >>> called_code(lambda: len("abc")) is None
        True
    """
    called = islice(_reached(function), 1, None)  # the first is the function itself
    digests = [code_digest(each) for inner in called for each in _functions_of(inner)]
    known = [each for each in digests if each is not None]
    if not known:
        return None
    text = " ".join(each["code"] for each in known).encode()
    return {"python": known[0]["python"], "code": blake2b(text, digest_size=8).hexdigest()}


def facts_of_function(name: str, function: Any) -> dict[str, Any]:
    """Return what tells whether a function returns other values than it did, by what it is called.

    Args:
        name: What the function is called in messages.
        function: The function.
    """
    return {
        f"the code of `{name}`": code_digest(function),
        f"the data that `{name}` reads": captured_data(function),
        f"the code that `{name}` calls": called_code(function),
        f"the configuration that `{name}` reads": captured_settings(function),
    }


def held_values(value: Any, leave_out: Collection[str] = ()) -> str:
    """Return a fingerprint of the data and the plain values that an object was made with.

    They are its attributes, but those that its own methods change.

    Args:
        value: Any object, such as a data set of the user's own.
        leave_out: Attributes that are left out.

    Example:
        >>> from types import SimpleNamespace
        >>> held_values(SimpleNamespace(scale=1)) == held_values(SimpleNamespace(scale=2))
        False
    """
    found = {}
    for name, each in attributes_of(value).items():
        plain = each if is_data(each) else _plain(each, with_containers=False)
        if plain is not _NOT_PLAIN and name not in leave_out and name.lower() not in _OF_THE_RUN:
            found[name] = plain
    return data_fingerprint(found)


class _NotPlain:
    """What is no setting."""


_NOT_PLAIN = _NotPlain()


def _plain(value: Any, *, with_containers: bool) -> Any:
    """Return a setting as plain values; `_NOT_PLAIN` for what is none."""
    if isinstance(value, str):
        return "a path" if "://" in value else plain_fact(value)
    if value is None or isinstance(value, bool | int | float | np.generic):
        return value
    if getattr(value, "shape", None) == () and hasattr(value, "item"):  # a tensor of one number
        return value.item()
    if isinstance(value, SimpleNamespace | argparse.Namespace):
        value = vars(value)
    elif is_dataclass(value) and not isinstance(value, type):
        value = {each.name: getattr(value, each.name, None) for each in fields(value)}
    elif isinstance(value, list | dict | set) and not with_containers:
        return _NOT_PLAIN
    if isinstance(value, Mapping):
        parts = {
            str(key): _plain(value[key], with_containers=with_containers)
            for key in list(value)[:_MOST_PARTS]
            if str(key).lower() not in _OF_THE_RUN
        }
        return {key: each for key, each in parts.items() if each is not _NOT_PLAIN}
    if isinstance(value, list | tuple | set | frozenset):
        if len(value) > _MOST_PARTS:
            return list(value)  # of which the fingerprint reads some
        parts_of = [_plain(each, with_containers=with_containers) for each in value]
        return [each for each in parts_of if each is not _NOT_PLAIN]
    return _NOT_PLAIN


def _reached(function: Any) -> Iterator[Any]:
    """Yield a function and the user's functions and classes that it can reach by name."""
    waiting: list[Any] = [function]
    seen: set[int] = set()
    while waiting and len(seen) < _MOST_CALLED:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        for inner in _functions_of(each):
            read = read_by(inner)
            names = sorted(read, key=str)
            waiting += [read[name] for name in names if _is_users(read[name])]
            names_in_code = sorted({name for code in _codes_of(inner) for name in names_in(code)})
            for module in (read[name] for name in names):
                if isinstance(module, ModuleType) and _is_own(module.__name__):
                    inside = vars(module)
                    waiting += [
                        inside[name] for name in names_in_code if _is_users(inside.get(name))
                    ]


def _functions_of(value: Any) -> list[Any]:
    """Return a function itself, or the functions that a class defines, in a fixed order."""
    if not isinstance(value, type):
        return [value]
    found = []
    for _, member in sorted(vars(value).items()):
        member = getattr(member, "fget", None) or getattr(member, "__func__", member)
        if isinstance(member, FunctionType):
            found.append(member)
    return found


def _codes_of(value: Any) -> list[CodeType]:
    while isinstance(value, functools.partial):
        value = value.func
    if isinstance(value, type):
        return [each.__code__ for each in _functions_of(value)]
    code = getattr(value, "__code__", None) or getattr(
        getattr(type(value), "__call__", None),  # noqa: B004 - its code is read
        "__code__",
        None,
    )
    return [] if code is None else [code]


def _is_users(value: Any) -> bool:
    while isinstance(value, functools.partial):
        value = value.func
    is_code = isinstance(value, FunctionType | MethodType | type)
    return is_code and _is_own(getattr(value, "__module__", None))


@functools.cache
def _is_own(name: str | None) -> bool:
    """Tell whether a module is the user's: neither installed, nor Python's, nor hpolab's."""
    if name is None or name.partition(".")[0] == __name__.partition(".")[0]:
        return False
    if name in ("__main__", "__mp_main__"):
        return True
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None:
        return False
    path = Path(file)
    if {"site-packages", "dist-packages"} & set(path.parts):
        return False
    return not path.is_relative_to(sysconfig.get_paths()["stdlib"])


def _inner(code: CodeType) -> list[CodeType]:
    return [each for each in code.co_consts if isinstance(each, CodeType)]


def _stored_in(code: CodeType) -> set[str]:
    """Return the outer names that code sets."""
    found = {each.argval for each in dis.get_instructions(code) if each.opname in _STORES}
    return found.union(*map(_stored_in, _inner(code))) - set(code.co_cellvars)


def _collects(code: CodeType) -> bool:
    if _CHANGES & set(code.co_names):
        return True
    stores = ("STORE_SUBSCR", "DELETE_SUBSCR")
    with suppress(IndexError):
        if any(each.opname in stores for each in dis.get_instructions(code)):
            return True
    return any(map(_collects, _inner(code)))
