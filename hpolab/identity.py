"""What identifies functions and estimators in any process: names and settings, never addresses."""

from __future__ import annotations

import dis
import functools
import inspect
import math
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from hashlib import blake2b
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.fingerprint import data_fingerprint

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = [
    "attributes_of",
    "captured_data",
    "closure_of",
    "code_digest",
    "estimator_settings",
    "function_name",
    "function_settings",
    "is_data",
    "is_ours",
    "names_in",
    "plain_fact",
    "read_by",
]

# What differs where the data is the same: how long a training takes, and where it keeps things.
_OF_THE_MACHINE = {"n_jobs", "verbose", "memory", "pre_dispatch", "device", "nthread"}
_PATH = re.compile(r"~?\.{0,2}/|[A-Za-z]:[/\\]|[\w.-]+/")


def function_name(function: Any) -> str:
    """Return what a function is called in every process: never its module nor its address.

    A lambda is called "<lambda>", a partial by its function, and an object by its class.

    Example:
        >>> from functools import partial
        >>> function_name(partial(max, 3)), function_name(lambda x: x)
        ('max', '<lambda>')
    """
    while isinstance(function, functools.partial):
        function = function.func
    # A scorer of scikit-learn is known by its function.
    function = getattr(function, "_score_func", function)
    return str(getattr(function, "__name__", type(function).__name__))


def plain_fact(value: Any) -> Any:
    """Return a setting as plain values that are the same in every process; data by its fingerprint.

    Example:
        >>> import numpy as np
        >>> plain_fact({"alpha": np.float64(0.9), "bounds": (0, None)})
        {'alpha': 0.9, 'bounds': [0, None]}
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        # Where a file lies differs from machine to machine.
        return "a path" if _PATH.match(value) else value
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain_fact(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, list | tuple):
        return [plain_fact(each) for each in value]
    if isinstance(value, slice):
        return [value.start, value.stop, value.step]
    if hasattr(value, "get_params") and not isinstance(value, type):
        return estimator_settings(value)
    if is_data(value):
        return data_fingerprint(value)
    return function_settings(value) if callable(value) else type(value).__name__


def function_settings(function: Any) -> Any:
    """Return a function's name, with the settings that it brings where it says what they are.

    They are those of a partial, of a scorer of scikit-learn, of a dataclass that can be called, and
    of a loss of PyTorch's. Of any other object the class's name alone counts.

    Example:
        >>> from functools import partial
        >>> function_settings(partial(round, ndigits=2))
        {'name': 'round', 'ndigits': 2}
    """
    settings: dict[str, Any] = {}
    name = function_name(function)
    while isinstance(function, functools.partial):
        for place, value in enumerate(function.args):
            settings.setdefault(str(place), plain_fact(value))
        settings = {key: plain_fact(each) for key, each in function.keywords.items()} | settings
        function = function.func
    if hasattr(function, "_score_func"):
        settings |= plain_fact(getattr(function, "_kwargs", {}))
        # What a model is asked for, such as probabilities: an AUC of classes is another one.
        response = plain_fact(getattr(function, "_response_method", "predict"))
        settings |= {} if response == "predict" else {"response_method": response}
        name = f"-{name}" if getattr(function, "_sign", 1) == -1 else name
    elif is_dataclass(function) and not isinstance(function, type):
        settings |= {
            each.name: plain_fact(getattr(function, each.name)) for each in fields(function)
        }
    elif type(function).__module__.startswith("torch.") and hasattr(function, "named_buffers"):
        constants = getattr(function, "__constants__", ())
        settings |= {each: plain_fact(getattr(function, each, None)) for each in constants}
        settings |= {each: data_fingerprint(buffer) for each, buffer in function.named_buffers()}
    return {"name": name, **{key: settings[key] for key in sorted(settings)}} if settings else name


def estimator_settings(
    estimator: Any, leave_out: Collection[str] = (), prefix: str = ""
) -> dict[str, Any]:
    """Return an estimator's class and the parameters that differ from the class's defaults.

    What changes how long a fit takes, such as `n_jobs`, and no result is left out.

    Args:
        estimator: An object with ``get_params``, of scikit-learn's kind.
        leave_out: Parameters that are left out by their whole names, ``step__name`` in a Pipeline.
        prefix: What stands before the estimator's own names in a whole name.
    """
    try:
        defaults = {
            name: each.default
            for name, each in inspect.signature(type(estimator)).parameters.items()
        }
    except (TypeError, ValueError):
        defaults = {}
    found: dict[str, Any] = {"class": type(estimator).__name__}
    for name, value in sorted(estimator.get_params(deep=False).items()):
        whole = f"{prefix}{name}"
        if name in _OF_THE_MACHINE or whole in leave_out:
            continue
        if name in ("steps", "transformer_list", "transformers", "estimators"):
            found[name] = [
                _part_settings(part, leave_out, prefix) if isinstance(part, tuple) else str(part)
                for part in value
            ]
        elif hasattr(value, "get_params") and not isinstance(value, type):
            found[name] = estimator_settings(value, leave_out, f"{whole}__")
        elif name not in defaults or plain_fact(defaults[name]) != plain_fact(value):
            found[name] = plain_fact(value)
    return found


def _part_settings(part: tuple[Any, ...], leave_out: Collection[str], prefix: str) -> list[Any]:
    """Return a named part of a Pipeline and its like: its name, its estimator, and what is left."""
    name, *rest = part
    return [
        name,
        *(
            estimator_settings(each, leave_out, f"{prefix}{name}__")
            if hasattr(each, "get_params") and not isinstance(each, type)
            else plain_fact(each)
            for each in rest
        ),
    ]


def captured_data(function: Any) -> str:
    """Return a fingerprint of the arrays, frames and tensors that a function reads from outside.

    They are those of its closure, its defaults, a partial's arguments, and its module's names. What
    it calls is not looked into.

    Example:
        >>> import numpy as np
        >>> data = np.zeros(3)
        >>> before = captured_data(lambda: data.sum())
        >>> data = np.ones(3)
        >>> captured_data(lambda: data.sum()) == before
        False
    """
    return data_fingerprint(
        {name: each for name, each in read_by(function).items() if is_data(each)}
    )


def read_by(function: Any) -> dict[str, Any]:
    """Return what a function may read from outside, by name.

    It is that of its closure, its defaults, a partial's arguments, the attributes of the object
    that is called or whose method it is, and its module's names.

    Example:
        >>> from functools import partial
        >>> read_by(partial(max, 3, default=0))
        {'argument 0': 3, 'default': 0}
    """
    found: dict[str, Any] = {}
    while isinstance(function, functools.partial):
        found |= {f"argument {place}": each for place, each in enumerate(function.args)}
        found |= function.keywords
        function = function.func
    owner = getattr(function, "__self__", None)
    if not hasattr(function, "__code__") and not isinstance(function, type):
        owner = function
        function = getattr(type(function), "__call__", None)  # noqa: B004 - its code is read
    if owner is not None and not isinstance(owner, ModuleType | type):
        found |= {f"self.{name}": each for name, each in attributes_of(owner).items()}
        # A module of PyTorch has its constants apart.
        found |= dict(owner.named_buffers()) if hasattr(owner, "named_buffers") else {}
    code = getattr(function, "__code__", None)
    if code is not None:
        names = names_in(code)
        found |= {name: each for name, each in function.__globals__.items() if name in names}
        found |= closure_of(function)
        found |= {f"default {i}": each for i, each in enumerate(function.__defaults__ or ())}
        found |= function.__kwdefaults__ or {}
    return found


def attributes_of(value: Any) -> dict[str, Any]:
    """Return what an object was made with: its attributes that its methods leave as they are.

    Example:
        >>> class Counted:
        ...     def __init__(self, step):
        ...         self.step, self.n = step, 0
        ...     def __call__(self):
        ...         self.n += self.step
        >>> attributes_of(Counted(3))
        {'step': 3}
    """
    changed: set[str] = set()
    for kind in type(value).__mro__:
        for name, method in vars(kind).items():
            code = getattr(method, "__code__", None)
            if code is not None and name not in ("__init__", "__post_init__", "__setstate__"):
                changed |= _attributes_set_in(code)
    return {
        name: each for name, each in getattr(value, "__dict__", {}).items() if name not in changed
    }


def _attributes_set_in(code: CodeType) -> set[str]:
    inner = (each for each in code.co_consts if isinstance(each, CodeType))
    found = {each.argval for each in dis.get_instructions(code) if each.opname == "STORE_ATTR"}
    return found.union(*map(_attributes_set_in, inner))


def is_data(value: Any) -> bool:
    """Tell whether a value is an array, a frame or a tensor."""
    if isinstance(value, ModuleType | type) or callable(value):  # `numpy.shape` is a function
        return False
    shape = getattr(value, "shape", None)
    return isinstance(shape, tuple) and len(shape) > 0


def closure_of(function: Any) -> dict[str, Any]:
    """Return what a function encloses, by name; what is not filled yet is left out."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        with suppress(ValueError):  # not filled yet
            found[name] = cell.cell_contents
    return found


def names_in(code: CodeType) -> set[str]:
    """Return all names that code, and the code within it, reads: globals and attributes."""
    inner = (each for each in code.co_consts if isinstance(each, CodeType))
    return {*code.co_names, *(name for each in inner for name in names_in(each))}


def is_ours(made: Any) -> bool:
    """Tell whether a class, a function or an object of a class is hpolab's own, not a user's.

    Example:
        >>> is_ours(is_ours), is_ours(len)
        (True, False)
    """
    module = getattr(made, "__module__", None)
    return isinstance(module, str) and module.partition(".")[0] == __name__.partition(".")[0]


def code_digest(function: Any) -> dict[str, str] | None:
    """Return what tells whether a function's code has changed; None where it has none in Python.

    Comments, docstrings and the place in a file don't count. Each Python compiles code in its own
    way, so its version goes with the digest.

    Example:
        >>> code_digest(lambda x: x + 1) == code_digest(lambda x: x + 2)
        False
        >>> code_digest(max) is None
        True
    """
    while isinstance(function, functools.partial):
        function = function.func
    function = getattr(function, "_score_func", function)
    code = getattr(function, "__code__", None)
    if code is None and not isinstance(function, type):
        function = getattr(type(function), "__call__", None)  # noqa: B004 - its code is read
        code = getattr(function, "__code__", None)
    if code is None:
        return None
    text = _text_of(code, getattr(function, "__doc__", None)).encode(errors="surrogatepass")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"python": version, "code": blake2b(text, digest_size=8).hexdigest()}


def _text_of(constant: Any, doc: str | None = None) -> str:
    if isinstance(constant, CodeType):
        constants = [each for each in constant.co_consts if each is None or each != doc]
        # Of a function inside, its docstring is the first of its constants.
        parts = [
            constant.co_code.hex(),
            *constant.co_names,
            *(
                _text_of(each, each.co_consts[0] if each.co_consts else None)
                if isinstance(each, CodeType)
                else _text_of(each)
                for each in constants
            ),
        ]
        return " ".join(parts)
    if isinstance(constant, frozenset):  # in another order in each process
        return " ".join(sorted(map(repr, constant)))
    return repr(constant)
