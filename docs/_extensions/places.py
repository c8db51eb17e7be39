"""The list of all public names, by the page of the reference that shows them."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["names", "names_of"]

REFERENCE = Path(__file__).parents[1] / "reference"

_SHOWN = re.compile(r"^\.\. auto(?:class|data|exception|function):: (\w+)$", re.MULTILINE)


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


def _link(name: str) -> str:
    return f"{{py:obj}}`~hpolab.{name}`"
