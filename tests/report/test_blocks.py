"""What a report is made of: its figures, wherever they stand."""

from __future__ import annotations

import pytest

from hpolab.report.blocks import Columns, Document, Plot, Plots, Section, Text, file_names


def figure(name: str) -> Plot:
    return Plot(name, name.title(), draw=dict)


def test_figures_of_a_document_are_in_the_order_of_the_page():
    first = Section("first", "First", [Text(["words"]), figure("a"), Plots([figure("b")])])
    second = Section(
        "second", "Second", [Plots([figure("c")]), Columns([Text([]), figure("d")]), figure("e")]
    )
    found = Document("title", "", [first, Section("empty", "Empty", []), second]).plots()
    assert [plot.name for plot in found] == list("abcde")


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (["lr", "beta1"], ["lr", "beta1"]),
        (["model/lr", "model:lr", "model lr"], ["model-lr", "model-lr-2", "model-lr-3"]),
        (["lr", "lr-2", "LR"], ["lr", "lr-2", "LR-3"]),
        (["../../etc/passwd", "..", "\u03b5"], ["etc-passwd", "unnamed", "unnamed-2"]),
        (["x" * 300], ["x" * 60]),
    ],
)
def test_files_are_called_as_parameters_and_no_two_alike(names, files):
    assert file_names(names) == files
