"""The programs of `examples/` as a page, and links to them from other pages.

A page links to a program as the repository has it, ``[own_loop.py](../examples/own_loop.py)``, so
that the link works there; in the documentation it leads to the program's place on one page.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["cluster_files", "programs"]

EXAMPLES = Path(__file__).parents[2] / "examples"
CLUSTER = EXAMPLES / "cluster"

_LINK = re.compile(r"\]\((?:\.\./)+examples/([\w./-]*?)/?\)")
_LANGUAGES = {".py": "python", ".sh": "sh", ".yaml": "yaml"}


def setup(app: Sphinx) -> dict[str, Any]:
    """See Sphinx."""
    app.connect("source-read", _link_to_the_page)
    return {"version": "1", "parallel_read_safe": True}


def programs() -> str:
    """Return a section for each program: what it says of itself, and its text."""
    found = [*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.ipynb")]
    return "\n".join(_section(path, _said(path)) for path in sorted(found))


def cluster_files() -> str:
    """Return a section for each file that starts workers on a cluster."""
    found = sorted(path for path in CLUSTER.iterdir() if path.is_file() and path.suffix != ".md")
    return "\n".join(_section(path, "") for path in found)


def _section(path: Path, said: str) -> str:
    place = f"../{path.relative_to(EXAMPLES.parent)}"
    lines = [f"({_label(path)})=", f"### `{path.name}`", "", said, ""]
    if path.suffix == ".ipynb":
        return "\n".join([*lines, f"{{download}}`Download the notebook <{place}>`", ""])
    language = _LANGUAGES.get(path.suffix, "text")
    return "\n".join(
        [
            *lines,
            f"::::{{dropdown}} Show {path.name}",
            f":::{{literalinclude}} {place}",
            f":language: {language}",
            ":::",
            "::::",
            "",
        ]
    )


def _said(path: Path) -> str:
    """Return the first paragraph that a program or a notebook says of itself."""
    if path.suffix == ".ipynb":
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        text = "".join(cells[0]["source"]).lstrip("# ") if cells else ""
    else:
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.split("\n\n")[0]


def _label(path: Path) -> str:
    return f"example-{path.name.lower().replace('.', '-').replace('_', '-')}"


def _link_to_the_page(app: Sphinx, docname: str, source: list[str]) -> None:
    def place(match: re.Match[str]) -> str:
        path = EXAMPLES / match.group(1)
        if not path.exists():
            return match.group(0)  # Sphinx says that there is no such file
        inside = path.is_file() and path.suffix != ".md"
        return f"](#{_label(path) if inside else 'files-for-a-cluster'})"

    source[0] = _LINK.sub(place, source[0])
