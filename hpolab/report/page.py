"""A document as one HTML file that loads nothing else and asks no server for anything."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from hpolab.errors import needs

if TYPE_CHECKING:
    from hpolab.report.blocks import Document

__all__ = ["html_of"]


def html_of(document: Document) -> str:
    """Return a document as HTML.

    All names and texts of a study are escaped. If one were not, the page's content security policy
    would still stop it: scripts run only with a known digest, and nothing may be loaded.

    Raises:
        MissingExtra: If jinja2 or plotly is not installed.
    """
    with needs("A report", "jinja2", "report"):
        from jinja2 import Environment
        from markupsafe import Markup
    drawn = {plot.name: plot.draw() for plot in document.plots()}
    scripts = {"page": _resource("page.js"), "plotly": _plotly_script() if drawn else ""}
    environment = Environment(autoescape=True, trim_blocks=True)
    return environment.from_string(_resource("template.html")).render(
        document=document,
        drawn=drawn,
        script_sources=Markup(" ".join(_digest(text) for text in scripts.values() if text)),
        plotly_script=Markup(scripts["plotly"]),
        page_script=Markup(scripts["page"]),
        as_json=lambda figure: Markup(_json_for_script(figure)),
        kind_of=lambda block: type(block).__name__,
    )


def _plotly_script() -> str:
    with needs("A report", "plotly", "report"):
        from plotly.offline import get_plotlyjs
    # As a browser changes them: the digest is of the text that it sees.
    return str(get_plotlyjs()).replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")


def _resource(name: str) -> str:
    return files("hpolab.report").joinpath(name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _json_for_script(figure: dict[str, Any]) -> str:
    """Return JSON that cannot end its script element, no matter which texts it has."""
    text = json.dumps(figure, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
