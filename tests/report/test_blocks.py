"""What a report is made of: its figures, wherever they stand."""

from __future__ import annotations

from hpolab.report.blocks import Document, Plot, Plots, Section, Text


def figure(name: str) -> Plot:
    return Plot(name, name.title(), draw=dict)


def test_figures_of_a_document_are_in_the_order_of_the_page():
    first = Section("first", "First", [Text(["words"]), figure("a"), Plots([figure("b")])])
    second = Section("second", "Second", [Plots([figure("c"), figure("d")]), figure("e")])
    found = Document("title", "", [first, Section("empty", "Empty", []), second]).plots()
    assert [plot.name for plot in found] == list("abcde")
