"""Text files of interactions in the forms that data sets are published in."""

from __future__ import annotations

import gzip
import lzma

import pytest

from hpolab import DataNotFound, InvalidArgument
from hpolab.recommender.text_tables import read_text_table

ROWS = [[1, 10, 4, 100], [2, 20, 5, 200]]
NAMES = ["user_id", "item_id", "rating", "timestamp"]


def lines(separator: str, *, header: str = "") -> str:
    rows = [separator.join(map(str, row)) for row in ROWS]
    return "\n".join([*([header] if header else []), *rows]) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        lines("\t"),
        lines("::"),
        lines(","),
        lines(" "),
        lines(",", header="user_id,item_id,rating,timestamp"),
        lines(";", header="user_id;item_id;rating;timestamp"),
        lines("|", header="user_id|item_id|rating|timestamp"),
        lines("\t", header="user_id:token\titem_id:token\trating:float\ttimestamp:float"),
        "\ufeff" + lines(",", header="user_id,item_id,rating,timestamp"),
        lines(",").replace("\n", "\r\n"),
    ],
    ids=repr,
)
def test_rows_are_read_whatever_the_separator_and_the_header(tmp_path, text):
    path = tmp_path / "data.txt"
    path.write_bytes(text.encode())
    table = read_text_table(path)
    assert list(table.columns) == NAMES
    assert table.to_numpy().tolist() == ROWS


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_packed_files_are_unpacked(tmp_path, suffix, pack):
    path = tmp_path / f"data.csv{suffix}"
    path.write_bytes(pack(lines(",").encode()))
    assert read_text_table(path).to_numpy().tolist() == ROWS


def test_columns_may_be_named(tmp_path):
    path = tmp_path / "data"
    path.write_text("a-1\nb-2\n")
    assert list(read_text_table(path, ["item", "user"], "-").user) == [1, 2]


def test_further_columns_have_numbers(tmp_path):
    path = tmp_path / "data"
    path.write_text("1,2,3,4,5,6\n")
    assert list(read_text_table(path).columns) == [*NAMES, "column_5", "column_6"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be a text table"),
        (b'{"user": 1}\n', "it begins with"),
        (b"PAR1\x00\xff\xfe", "must be a text table"),
        (b"user,item\n1,2\n3,4,5\n", "line 3, saw 3"),
    ],
    ids=["empty", "JSON", "Parquet", "a long line"],
)
def test_what_is_no_text_table_is_refused(tmp_path, content, message):
    path = tmp_path / "data"
    path.write_bytes(content)
    with pytest.raises(InvalidArgument, match=message):
        read_text_table(path)


def test_wrong_number_of_names_is_refused(tmp_path):
    path = tmp_path / "data"
    path.write_text("1,2\n")
    with pytest.raises(InvalidArgument, match=r"`columns` must name the 2 columns .* \['a'\]"):
        read_text_table(path, ["a"])


@pytest.mark.parametrize("name", ["nowhere.csv", "nowhere.csv.gz"])
def test_missing_file_is_named(name):
    with pytest.raises(DataNotFound, match=f"got {name}, which is not there"):
        read_text_table(name)
