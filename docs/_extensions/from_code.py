"""The directive ``from-code``: a part of a page that the library itself says.

``{from-code} optimizers`` runs the function of that name below and puts its Markdown in place, so
that what it says is what is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import catalog
import command_line
import places
import programs
import promises
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from collections.abc import Callable

    from docutils import nodes
    from sphinx.application import Sphinx

PARTS: dict[str, Callable[[], str]] = {
    "optimizers": catalog.optimizers,
    "schedules": catalog.schedules,
    "lightgbm": catalog.lightgbm,
    "estimators": catalog.estimators,
    "recommenders": catalog.recommenders,
    "programs": programs.programs,
    "cluster-files": programs.cluster_files,
    "names": places.names,
    "commands": command_line.commands,
    "promises": promises.promises,
    "reasons": promises.why,
}


def setup(app: Sphinx) -> dict[str, Any]:
    """See Sphinx."""
    app.add_directive("from-code", _FromCode)
    return {"version": "1", "parallel_read_safe": True}


class _FromCode(SphinxDirective):
    """Markdown that a function of `PARTS` returns."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """See docutils."""
        # A page is read again whenever it is built: what it says may have changed with the code.
        self.env.note_reread()
        text = PARTS[self.arguments[0]]()
        return self.parse_text_to_nodes(text, allow_section_headings=True)
