"""Public names: the pages of the reference that show them, and how text speaks of them."""

from __future__ import annotations

import re
from pathlib import Path

import hpolab
import hpolab.testing

__all__ = ["names", "names_of", "public_name"]

REFERENCE = Path(__file__).parents[1] / "reference"

_SHOWN = re.compile(r"^\.\. auto(?:class|data|exception|function):: (\w+)$", re.MULTILINE)


# `run`, `run(...)` and `run(study, objective, n_trials=70)` all speak of `run`.
_NAME = re.compile(r"(?:hpolab\.)?([A-Za-z]\w*(?:\.[a-z]\w*)?)(?:\([^()]*\))?")


def names_of(page: Path) -> list[str]:
    """Return the public names that a page of the reference shows."""
    return _SHOWN.findall(page.read_text(encoding="utf-8"))


def names() -> str:
    """Return a table: page, and its names as links."""
    text = (REFERENCE / "index.md").read_text(encoding="utf-8")
    order = re.findall(r"^([\w-]+)$", text.partition("{toctree}")[2], re.MULTILINE)
    pages = [REFERENCE / f"{name}.rst" for name in order]
    rows = [
        f"| []({page.stem}.rst) | {', '.join(map(_link, names_of(page)))} |"
        for page in pages
        if page.exists()
    ]
    return "\n".join(["| page | names |", "|---|---|", *rows])


def public_name(text: str) -> str | None:
    """Return the public name that a piece of code speaks of, with its method if it has one.

    >>> public_name("run(study, n_trials=7)"), public_name("Objective.fit_best"), public_name("x")
    ('run', 'Objective.fit_best', None)
    """
    match = _NAME.fullmatch(text)
    if match is None:
        return None
    name, _, member = match.group(1).partition(".")
    if name not in hpolab.__all__:
        return None
    if not member:
        return name
    # Where a method is written: `TorchObjective.fit_best` is `Objective.fit_best`.
    classes = getattr(getattr(hpolab, name), "__mro__", ())
    owners = [each.__name__ for each in classes if member in vars(each)]
    return next((f"{each}.{member}" for each in owners if each in hpolab.__all__), None)


def _link(name: str) -> str:
    place = "hpolab.testing" if name in hpolab.testing.__all__ else "hpolab"
    return f"{{py:obj}}`~{place}.{name}`"
