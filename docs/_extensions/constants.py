"""Docstrings of constants and attributes, as they are written.

Python keeps those of constants nowhere but in the source. And napoleon takes what stands before the
first colon of an attribute's docstring for its type, which here is a type hint always.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sphinx.pycode import ModuleAnalyzer

import hpolab

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_SECTION = re.compile(r"(Args|Attributes|Example|Raises|Returns|Warns):")


def setup(app: Sphinx) -> dict[str, Any]:
    """See Sphinx."""
    # Before napoleon, which reads what is put here.
    app.connect("autodoc-process-docstring", _put_docstring, priority=100)
    app.connect("autodoc-process-docstring", _keep, priority=200)
    app.connect("autodoc-process-docstring", _put_back, priority=900)
    return {"version": hpolab.__version__, "parallel_read_safe": True}


def _put_docstring(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    constant = name.removeprefix("hpolab.")
    if what != "data" or constant not in hpolab.__all__:
        return
    module = _places()[constant]
    lines[:] = ModuleAnalyzer.for_module(module).find_attr_docs().get(("", constant), [])
    if not any(lines):
        raise ValueError(f"{module}.{constant} has no docstring under it.")


_kept: dict[str, list[str]] = {}


def _keep(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    plain = what in ("attribute", "data", "property")
    if plain and not any(_SECTION.fullmatch(line) for line in lines):
        _kept[name] = list(lines)


def _put_back(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    if name in _kept:
        lines[:] = _kept.pop(name)


def _places() -> dict[str, str]:
    """Return the module of each public name, as the stub of `hpolab` says it."""
    stub = Path(hpolab.__file__).with_suffix(".pyi")
    return {
        alias.name: f"hpolab.{node.module}"
        for node in ast.parse(stub.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
