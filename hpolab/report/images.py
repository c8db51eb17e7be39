"""Figures as images, drawn by kaleido in a Chrome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpolab.errors import HpolabError, needs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hpolab.report.blocks import Plot

__all__ = ["BrowserNotFound", "draw_images"]

# Figures up to this height stand several in a row on the page.
_SMALL = 300
_WIDTH, _SMALL_WIDTH = 900, 540
_TITLE_HEIGHT = 44


class BrowserNotFound(HpolabError, FileNotFoundError):
    """There is no Chrome or Chromium to draw images in."""


def draw_images(plots: Mapping[Path, Plot]) -> None:
    """Write figures as images with their titles, on a white ground.

    Args:
        plots: What goes to which file; the file's ending says the format.

    Raises:
        MissingExtra: If kaleido is not installed.
        BrowserNotFound: If kaleido finds no Chrome.
    """
    with needs("`write_images`", "kaleido", "images"):
        import kaleido
    from kaleido.errors import ChromeNotFoundError

    figures: list[dict[str, Any]] = [
        {
            "fig": _figure(plot),
            "path": path,
            "opts": {"format": path.suffix[1:], "scale": 2},
        }
        for path, plot in plots.items()
    ]
    for figure in figures:
        height = figure["fig"]["layout"]["height"]
        width = _WIDTH if height > _SMALL else _SMALL_WIDTH
        figure["opts"] |= {"width": width, "height": height}
    try:
        # Without MathJax, which kaleido would ask a server on the internet for.
        options = {"mathjax": False}
        kaleido.write_fig_from_object_sync(figures, cancel_on_error=True, kopts=options)
    except ChromeNotFoundError:
        raise BrowserNotFound(
            "Images are drawn by kaleido in a Chrome or Chromium, and none is installed."
        ) from None


def _figure(plot: Plot) -> dict[str, Any]:
    figure = plot.draw()
    layout = figure["layout"]
    margin = {**layout["margin"], "t": layout["margin"]["t"] + _TITLE_HEIGHT}
    return figure | {
        "layout": {
            **layout,
            "title": {"text": plot.title, "font": {"size": 16}, "x": 0.02},
            "margin": margin,
            "paper_bgcolor": "#ffffff",
            "plot_bgcolor": "#ffffff",
            "font": {**layout["font"], "color": "#1c2127"},
            "height": layout["height"] + _TITLE_HEIGHT,
        }
    }
