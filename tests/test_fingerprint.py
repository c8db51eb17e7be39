"""data_fingerprint: equal for equal values, whatever holds them; other values are noticed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import OrderedDict
from datetime import datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset

from hpolab import data_fingerprint

TABLE = np.random.default_rng(0).normal(size=(60, 4)) * (np.arange(60) % 3 > 0)[:, None]
LABELS = np.arange(60) % 2
WORDS = ["one", "two", "drei"] * 20


@pytest.mark.parametrize(
    "same",
    [
        TABLE.copy(order="F"),
        np.repeat(TABLE, 2, axis=0)[::2],
        TABLE.astype(">f8"),
        TABLE.astype(object),
        TABLE.tolist(),
        tuple(map(tuple, TABLE.tolist())),
        torch.from_numpy(TABLE),
        torch.from_numpy(TABLE).requires_grad_(),
        pd.DataFrame(TABLE),
        pd.DataFrame(TABLE).astype("Float64"),
        pl.DataFrame(TABLE),
        pl.DataFrame(TABLE).lazy(),
        {f"column {i}": TABLE[:, i] for i in range(4)},
        sp.csr_matrix(TABLE),
        sp.csc_array(TABLE),
        sp.coo_matrix(TABLE),
        np.ma.masked_array(TABLE),
    ],
    ids=lambda same: type(same).__name__,
)
def test_fingerprint_of_a_table_is_that_of_its_numbers(same):
    assert data_fingerprint(same) == data_fingerprint(TABLE)


@pytest.mark.parametrize(
    "same",
    [
        LABELS.tolist(),
        LABELS.astype(bool),
        LABELS.astype(np.float32),
        LABELS[:, None],
        pd.Series(LABELS, index=np.arange(60) + 7),
        pd.Series(LABELS).astype("boolean"),
        pl.Series(LABELS),
        pd.DataFrame({"y": LABELS}),
        torch.from_numpy(LABELS),
    ],
    ids=lambda same: type(same).__name__,
)
def test_fingerprint_of_labels_is_that_of_their_values(same):
    assert data_fingerprint(same) == data_fingerprint(LABELS)


@pytest.mark.parametrize(
    "same",
    [np.array(WORDS), np.array(WORDS, object), pd.Series(WORDS), pl.Series(WORDS),
     pd.Series(WORDS, dtype="category"), pl.Series(WORDS, dtype=pl.Categorical)],
    ids=lambda same: f"{type(same).__module__}-{same.dtype}",
)  # fmt: skip
def test_fingerprint_of_text_is_that_of_the_text(same):
    assert data_fingerprint(same) == data_fingerprint(WORDS)


def test_fingerprint_of_mixed_columns_is_that_of_their_cells():
    columns = {
        "word": WORDS,
        "number": [None, *map(float, range(59))],
        "time": [datetime(2026, 1, 1 + i % 28) for i in range(60)],
    }
    assert data_fingerprint(pd.DataFrame(columns)) == data_fingerprint(pl.DataFrame(columns))
    assert data_fingerprint(pd.DataFrame(columns)) == data_fingerprint(columns)


@pytest.mark.parametrize("n_rows", [60, 300_000])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, pd.DataFrame, sp.csr_matrix])
def test_other_data_is_noticed(kind, n_rows):
    table = np.random.default_rng(1).normal(size=(n_rows, 5))
    labels = np.arange(n_rows) % 7
    order = np.random.default_rng(2).permutation(n_rows)
    others = {
        "permuted rows": table[order],
        "a column scaled": table * [1, 1, 1, 1, 1000],
        "a column shifted": table + np.array([0, 1e-9, 0, 0, 0]),
        "permuted columns": table[:, [1, 0, 2, 3, 4]],
        "a row more": np.vstack([table, table[:1]]),
        "a row less": table[:-1],
        "a column less": table[:, :4],
        "other rows": table[::-1].copy(),
        "times a thousand": table * 1000,
    }
    found = data_fingerprint((kind(table), labels))
    assert found == data_fingerprint((kind(table.copy()), labels))
    for what, other in others.items():
        assert data_fingerprint((kind(other), labels)) != found, what
    assert data_fingerprint((kind(table), labels[order])) != found
    assert data_fingerprint((kind(table), 1 - labels)) != found


def test_one_cell_of_a_table_that_is_read_whole_is_noticed():
    other = TABLE.copy()
    other[17, 2] += 1e-12
    assert data_fingerprint(other) != data_fingerprint(TABLE)


@pytest.mark.parametrize("missing", [np.nan, -np.nan, None, pd.NA])
def test_missing_values_are_one_and_zeros_have_no_sign(missing):
    one, other = ([1.0, 0.0, value] for value in (float("nan"), missing))
    assert data_fingerprint(np.array(one)) == data_fingerprint(np.array(other, object))
    assert data_fingerprint(np.array([-0.0])) == data_fingerprint(np.array([0]))


def test_parts_count_by_name_and_not_by_their_order():
    one = {"a": torch.ones(3), "b": torch.zeros(3)}
    assert data_fingerprint(one) == data_fingerprint(OrderedDict(reversed(one.items())))
    assert data_fingerprint(one) != data_fingerprint({"a": one["b"], "b": one["a"]})
    assert data_fingerprint([TABLE, LABELS]) == data_fingerprint((TABLE, LABELS))
    assert data_fingerprint([TABLE, LABELS]) != data_fingerprint([LABELS, TABLE])


def test_fingerprint_is_the_same_in_every_process():
    code = (
        "import numpy as np; from hpolab import data_fingerprint\n"
        "print(data_fingerprint({'x': np.arange(12.0).reshape(4, 3), 'y': {'b', 'a'}, 'z': ['u']}))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_little_of_large_data_is_read(tmp_path):
    # A file without blocks: 40 GB of zeros, of which a thousand rows are looked at.
    path = tmp_path / "large.npy"
    with path.open("wb") as file:
        file.truncate(40_000_000_000)
    large = np.memmap(path, np.float32, "r", shape=(100_000_000, 100))
    assert data_fingerprint(large).startswith("100000000x100 ")
    assert data_fingerprint(large[::7]).startswith("14285715x100 ")  # and nothing is copied
    images = np.memmap(path, np.uint8, "r", shape=(10_000, 3, 1000, 1000))
    assert data_fingerprint(images).startswith("10000x3x1000x1000 ")


def test_only_sampled_rows_leave_a_device():
    class Watched(torch.Tensor):
        copied = 0

        def cpu(self) -> torch.Tensor:
            Watched.copied += self.numel()
            return super().cpu()

    table = torch.zeros(3_000_000, 10)
    found = data_fingerprint(table.as_subclass(Watched))
    assert 0 < Watched.copied <= 1024 * 10
    assert found == data_fingerprint(table)


class Unreadable(Dataset):
    """A data set whose items are drawn at random: nobody but a training may read one."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, place: int) -> torch.Tensor:
        raise AssertionError("an item was read")


def test_loader_is_known_by_its_data_and_not_by_its_order():
    tensors = TensorDataset(torch.from_numpy(TABLE), torch.from_numpy(LABELS))
    found = data_fingerprint(DataLoader(tensors, batch_size=8))
    state = torch.random.get_rng_state()
    own = torch.Generator().manual_seed(5)
    shuffled = DataLoader(tensors, batch_size=16, shuffle=True, generator=own)
    assert data_fingerprint(shuffled) == found
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(own.get_state(), torch.Generator().manual_seed(5).get_state())
    parts = [Subset(tensors, range(30)), Subset(tensors, range(30, 60))]
    halves = data_fingerprint(DataLoader(parts[0])), data_fingerprint(DataLoader(parts[1]))
    assert len({found, *halves, data_fingerprint(DataLoader(ConcatDataset(parts)))}) == 4


@pytest.mark.parametrize("wrap", [lambda data: data, DataLoader, lambda data: {"x": data}])
def test_data_set_of_ones_own_is_known_by_its_length_alone(wrap):
    assert data_fingerprint(wrap(Unreadable())) == data_fingerprint(wrap(Unreadable()))
    assert "Unreadable" in data_fingerprint(Unreadable())


def test_what_cannot_be_read_counts_by_its_type():
    class Strange:
        @property
        def shape(self) -> tuple[int, ...]:
            raise RuntimeError

        def __len__(self) -> int:
            raise ValueError

    assert data_fingerprint(Strange()) == data_fingerprint(Strange())
    assert data_fingerprint(object()) == data_fingerprint(object())
    assert "0x" not in data_fingerprint([lambda: 1, object(), Strange])


def test_random_state_is_left_alone():
    np.random.seed(3)
    random.seed(3)
    before = np.random.get_state()[1].tolist(), random.getstate()
    data_fingerprint(np.zeros((3_000_000, 2)))
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before
