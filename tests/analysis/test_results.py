"""Every result prints itself, shows itself in a notebook, and is a frame."""

from __future__ import annotations

from hpolab.analysis.results import Result
from hpolab.tables import TextTable


class Found(Result):
    """A paragraph of two lines, and a table of one row."""

    def _in_one_line(self):
        return "a result"

    def _parts(self):
        return ["a < b\n\x1b[31msecond line", TextTable(["name", "value"], [["a", "0.5"]])]

    def _records(self):
        yield {"name": "a", "value": 0.5}


def test_text_has_a_blank_line_between_parts_and_nothing_that_commands_a_terminal():
    first, table = str(Found()).split("\n\n")
    assert first.startswith("a < b\n")
    assert "\x1b" not in first
    assert table == TextTable(["name", "value"], [["a", "0.5"]]).to_text()


def test_notebook_shows_each_line_as_a_paragraph_of_plain_text():
    shown = Found()._repr_html_()
    assert shown.startswith("<p>a &lt; b</p><p>")
    assert shown.count("<p>") == 2
    assert TextTable(["name", "value"], [["a", "0.5"]]).to_html() in shown


def test_frame_has_the_records():
    assert Found().to_frame().to_dict("records") == [{"name": "a", "value": 0.5}]
