"""A document as one HTML file that loads nothing else and asks no server for anything."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from hpolab.errors import needs

if TYPE_CHECKING:
    from markupsafe import Markup

    from hpolab.report.blocks import Document

__all__ = ["html_of"]

# The part of plotly.js that draws points, lines and bars, which is all that reports have: a quarter
# of the whole. It comes from npm (plotly.js-basic-dist-min), as the wheel of plotly has the whole
# alone.
_PLOTLY = "plotly-basic.min.js"
_CODE = re.compile(r"`([^`]+)`")
_BEFORE_PERCENT = re.compile(r"(?<=\d) (?=%)")


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
    scripts = [_resource("page.js"), *([_resource(_PLOTLY)] if drawn else [])]
    environment = Environment(autoescape=True, trim_blocks=True)
    environment.filters["code"] = _with_code
    return environment.from_string(_resource("template.html")).render(
        document=document,
        drawn=drawn,
        script_sources=Markup(" ".join(map(_digest, scripts))),
        plotly_packed=Markup(_packed(scripts[1]) if drawn else ""),
        page_script=Markup(scripts[0]),
        as_json=lambda figure: Markup(_json_for_script(figure)),
        kind_of=lambda block: type(block).__name__,
    )


def _with_code(text: str) -> Markup:
    """Return a text as HTML: what stands in backticks as code, a percent sign at its number."""
    from markupsafe import Markup, escape

    written = _CODE.sub(r"<code>\1</code>", str(escape(text)))
    return Markup(_BEFORE_PERCENT.sub("\N{NO-BREAK SPACE}", written))


def _packed(script: str) -> str:
    """Return a script as the page unpacks it: a third of its size."""
    # Without the time, so that equal reports are equal files.
    return base64.b64encode(gzip.compress(script.encode(), 9, mtime=0)).decode()


def _resource(name: str) -> str:
    return files("hpolab.report").joinpath(name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _json_for_script(figure: dict[str, Any]) -> str:
    """Return JSON that cannot end its script element, no matter which texts it has."""
    text = json.dumps(figure, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
