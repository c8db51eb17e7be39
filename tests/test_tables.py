"""Tables as text and as HTML: aligned, within the width, and harmless whatever is in them."""

from __future__ import annotations

import pytest

from hpolab.tables import TextTable

TABLE = TextTable(
    ["contender", "trials", "best parameters"],
    [["adam", "1,000", "lr=0.001, beta1=0.9"], ["sgd", "70", "lr=0.1"]],
    strong=frozenset([0]),
    note="Each in its own space.",
)


def test_numbers_stand_to_the_right_and_texts_to_the_left():
    _, rule, *rows, note = str(TABLE).splitlines()
    assert rows == ["adam        1,000  lr=0.001, beta1=0.9", "sgd            70  lr=0.1"]
    assert rule == "─" * len(rows[0])
    assert note == "Each in its own space."


@pytest.mark.parametrize("width", [24, 40, 80])
def test_lines_keep_to_the_width_and_nothing_is_lost(width):
    lines = TABLE.to_text(width).splitlines()
    assert all(len(line) <= width for line in lines)
    shown = "".join(lines).replace(" ", "")
    assert all(part in shown for part in ("sgd", "70", "lr=0.1"))


def test_columns_that_may_be_left_out_are_counted():
    table = TextTable([f"column {i}" for i in range(9)], [["1"] * 9], may_be_cut=True)
    assert "(5 more columns in the HTML report)" in table.to_text(40)
    assert "column 8" in table.to_text()


def test_table_without_rows_is_its_head():
    assert TextTable(["a", "b"], []).to_text().splitlines()[0] == "a  b"


def test_hostile_texts_command_neither_a_terminal_nor_a_page():
    table = TextTable(["\x1b[2J", "<script>"], [["\x1b]0;x\x07", "<img onerror=1>"]], note="<b>")
    assert "\x1b" not in str(table)
    assert "<script>" not in table.to_html()
    assert "<img" not in table.to_html()
    assert "&lt;b&gt;" in table.to_html()


def test_rows_to_emphasize_are_strong_in_html():
    assert "<td><strong>adam</strong></td>" in TABLE.to_html()
    assert "<td>sgd</td>" in TABLE.to_html()
