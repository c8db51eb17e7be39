"""Small figures side by side in one, as plotly.js takes it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from hpolab.report.figures import as_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hpolab.report.figures import Figure

__all__ = ["side_by_side"]

_MOST_COLUMNS = 3
_ROW_HEIGHT = 260
# Between two small figures, as shares of the width, and in pixels of the height: tick labels and
# the axis's title stand there.
_GAP = 0.09
_GAP_PIXELS = 80
_LEGEND_PIXELS = 6


def side_by_side(drawn: Sequence[Figure], *, legend: Mapping[str, str] | None = None) -> Figure:
    """Return small figures as one, in rows of three.

    Args:
        drawn: The figures; each has one pair of axes, and the first one's layout is taken.
        legend: Name -> color, above all of them; None for no legend.
    """
    n_columns = min(_MOST_COLUMNS, len(drawn))
    n_rows = math.ceil(len(drawn) / n_columns)
    height = n_rows * _ROW_HEIGHT + (n_rows - 1) * _GAP_PIXELS
    layout = {key: value for key, value in drawn[0]["layout"].items() if key[1:5] != "axis"}
    layout |= {
        "height": height,
        "margin": {"l": 8, "r": 8, "t": 40, "b": 8},
        # As far above the data whatever the height.
        "legend": {**layout["legend"], "y": 1 + _LEGEND_PIXELS / height},
    }
    traces: list[dict[str, Any]] = []
    for place, figure in enumerate(drawn):
        number = "" if place == 0 else str(place + 1)
        row, column = divmod(place, n_columns)
        for axis, domain in (
            ("x", _part(column, n_columns, _GAP)),
            # Rows are counted from the top.
            ("y", _part(n_rows - 1 - row, n_rows, _GAP_PIXELS / height)),
        ):
            other = f"{'y' if axis == 'x' else 'x'}{number}"
            layout[f"{axis}axis{number}"] = {
                **figure["layout"][f"{axis}axis"],
                "domain": domain,
                "anchor": other,
            }
        if column:
            # The axis to the left says what it is.
            layout[f"yaxis{number}"]["title"] = {"text": ""}
        traces += [
            {**trace, "xaxis": f"x{number}", "yaxis": f"y{number}", "showlegend": False}
            for trace in figure["data"]
        ]
    layout["showlegend"] = legend is not None
    traces += [_entry(name, color) for name, color in (legend or {}).items()]
    return {"data": traces, "layout": layout}


def _part(place: int, n: int, gap: float) -> list[float]:
    """Return the part of [0, 1] of one of ``n`` with gaps between them."""
    width = (1 - gap * (n - 1)) / n
    start = place * (width + gap)
    return [round(start, 4), round(min(1.0, start + width), 4)]


def _entry(name: str, color: str) -> dict[str, Any]:
    """Return a trace that shows in the legend alone."""
    marker = {"size": 8, "color": color}
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [None],
        "y": [None],
        "name": as_text(name),
        "marker": marker,
    }
