"""Splits: what may be given as data, what is refused, and which batches come out of it."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    TensorDataset,
)

from hpolab import InvalidArgument, InvalidType
from hpolab.torch.data import open_split, open_splits

CPU = torch.device("cpu")
Pair = namedtuple("Pair", ["left", "right"])


def numbers(n: int, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (n, 2) and targets (n,) whose values tell the row."""
    rows = np.arange(start, start + n, dtype=np.float32)
    return np.stack([rows, -rows], axis=1), rows


def loader(n: int = 6, **options) -> DataLoader:
    return DataLoader(TensorDataset(*map(torch.as_tensor, numbers(n))), **options)


def rows_of(batches) -> list[list[float]]:
    return [targets.tolist() for _, targets in batches]


def shuffled(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Batches of arrays


def test_batches_in_order_hold_every_row_once():
    split = open_split("valid", numbers(5), CPU)
    assert rows_of(split.batches(2)) == [[0, 1], [2, 3], [4]]


def test_drawn_batches_hold_every_row_once_with_its_own_inputs():
    split = open_split("train", numbers(10), CPU)
    batches = list(split.batches(4, shuffled()))
    assert [len(targets) for _, targets in batches] == [4, 4, 2]
    drawn = torch.cat([targets for _, targets in batches])
    assert sorted(drawn.tolist()) == list(range(10))
    assert drawn.tolist() != list(range(10))
    assert torch.equal(torch.cat([inputs for inputs, _ in batches])[:, 0], drawn)


def test_drawn_order_is_the_generator_s_and_new_each_epoch():
    split = open_split("train", numbers(10), CPU)
    draw = shuffled()
    epochs = [rows_of(split.batches(4, draw)) for _ in range(2)]
    assert epochs[0] != epochs[1]
    draw = shuffled()
    assert epochs == [rows_of(split.batches(4, draw)) for _ in range(2)]


@pytest.mark.parametrize(
    ("n", "batch_size", "sizes"),
    [
        (9, 4, [4, 5]),
        (10, 4, [4, 4, 2]),
        (8, 4, [4, 4]),
        (3, 1, [1, 1, 1]),
        (1, 4, [1]),
        (3, 2, [3]),
        (3, 9, [3]),
    ],
)
def test_single_row_left_over_joins_the_last_training_batch(n, batch_size, sizes):
    split = open_split("train", numbers(n), CPU)
    assert [len(rows) for rows in rows_of(split.batches(batch_size, shuffled()))] == sizes
    assert split.n_batches(batch_size) == len(sizes)


# What arrays may be


def foreign(array: np.ndarray) -> np.ndarray:
    return array.astype(array.dtype.newbyteorder(">"))


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "form",
    [
        np.asfortranarray,
        lambda a: np.repeat(a, 2, axis=0)[::2],
        lambda a: a[::-1].copy()[::-1],
        read_only,
        foreign,
        lambda a: a.astype(np.float64),
        lambda a: a.astype(np.float16),
        torch.as_tensor,
        lambda a: torch.as_tensor(a).double(),
        lambda a: torch.as_tensor(a).requires_grad_(),
    ],
    ids=[
        "fortran",
        "strided",
        "reversed",
        "read-only",
        "foreign bytes",
        "float64",
        "float16",
        "tensor",
        "double tensor",
        "needs grad",
    ],
)
def test_any_form_of_float_array_gives_the_same_batches(form):
    split = open_split("train", tuple(map(form, numbers(5))), CPU)
    ((inputs, targets),) = split.batches(5)
    assert (inputs.numpy() == numbers(5)[0]).all()
    assert (targets.numpy() == numbers(5)[1]).all()
    assert inputs.dtype == targets.dtype == torch.float32
    assert not inputs.requires_grad


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.bool_, np.int64])
def test_integer_inputs_keep_their_dtype_and_labels_become_int64(dtype):
    split = open_split("train", (np.ones((3, 2), dtype), np.ones(3, dtype)), CPU)
    ((inputs, targets),) = split.batches(3, shuffled())
    assert inputs.numpy().dtype == dtype
    assert targets.dtype == torch.int64


def test_arrays_that_torch_can_share_are_not_copied():
    inputs, targets = numbers(3)
    split = open_split("train", (inputs, targets), CPU)
    inputs[0, 0] = 7
    ((shared, _),) = split.batches(3)
    assert shared[0, 0] == 7


def test_data_frames_are_arrays():
    pd = pytest.importorskip("pandas")
    inputs, targets = numbers(5)
    frame = pd.DataFrame(inputs, columns=["a", "b"], index=list("vwxyz"))
    split = open_split("train", (frame, pd.Series(targets, index=frame.index)), CPU)
    assert rows_of(split.batches(3)) == [[0, 1, 2], [3, 4]]
    with pytest.raises(InvalidType, match="must hold numbers, got a DataFrame of dtype object"):
        open_split("train", (frame.assign(c="text"), targets), CPU)


@pytest.mark.parametrize(
    "combine",
    [lambda a, b: (a, b), lambda a, b: [a, b], lambda a, b: {"a": a, "b": b}, Pair],
    ids=["tuple", "list", "dict", "namedtuple"],
)
@pytest.mark.parametrize("draw", [None, shuffled()])
def test_several_inputs_come_as_they_were_given(combine, draw):
    inputs, targets = numbers(5)
    split = open_split("train", (combine(inputs[:, 0], inputs), targets), CPU)
    for batch, rows in split.batches(2, draw):
        a, b = batch.values() if isinstance(batch, dict) else batch
        assert type(batch) is type(combine(a, b))
        assert torch.equal(a, rows)
        assert torch.equal(b[:, 0], rows)


# Batches of the user's own


def test_loader_decides_size_and_order():
    split = open_split("train", loader(6, batch_size=4), CPU)
    assert rows_of(split.batches(2, shuffled())) == [[0, 1, 2, 3], [4, 5]]
    assert split.n_batches(2) == 2
    assert split.targets is None


def test_list_of_array_batches_is_an_iterable_of_batches():
    split = open_split("train", [numbers(2), numbers(3)], CPU)
    assert rows_of(split.batches(1)) == [[0, 1], [0, 1, 2]]


class Stream(IterableDataset):
    def __iter__(self):
        return zip(*map(torch.as_tensor, numbers(5)), strict=True)


def test_stream_does_not_know_how_many_batches_it_has():
    split = open_split("train", DataLoader(Stream(), batch_size=2), CPU)
    assert split.n_batches(2) is None
    assert rows_of(split.batches(2)) == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize(
    "inputs",
    [
        {"a": torch.ones(2), "deep": (torch.ones(2), [torch.ones(2)])},
        Pair(torch.ones(2), torch.ones(2)),
        pack_sequence([torch.ones(3), torch.ones(2)]),
        {"text": ["one", "two"], "x": np.ones(2)},
    ],
    ids=["dict", "namedtuple", "packed", "text"],
)
def test_batches_may_hold_any_inputs(inputs):
    split = open_split("train", [(inputs, torch.ones(2))], CPU)
    ((batch, _),) = split.batches(1)
    assert type(batch) is type(inputs)
    if isinstance(inputs, dict):
        assert list(batch) == list(inputs)


def test_numpy_batches_become_tensors():
    split = open_split("train", [({"x": np.ones(2)}, np.ones(2))], CPU)
    ((inputs, targets),) = split.batches(1)
    assert isinstance(inputs["x"], torch.Tensor)
    assert isinstance(targets, torch.Tensor)


@pytest.mark.parametrize("n_workers", [0, 1])
def test_opening_a_loader_leaves_every_random_state_as_it_was(n_workers):
    own = shuffled(3)
    before, own_before = torch.get_rng_state(), own.get_state()
    data = loader(6, shuffle=True, generator=own, num_workers=n_workers)
    open_split("train", data, CPU)
    open_split("train", loader(6, shuffle=True), CPU)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(own.get_state(), own_before)


def test_generators_of_a_loader_and_its_samplers_are_found_once():
    own = shuffled()
    rows = range(6)
    by_batch = BatchSampler(RandomSampler(rows, generator=own), batch_size=2, drop_last=False)
    for data in (
        loader(6, shuffle=True, generator=own),
        loader(6, sampler=RandomSampler(rows, generator=own)),
        loader(6, batch_sampler=by_batch),
    ):
        assert open_split("train", data, CPU).generators == [own]
    assert open_split("train", loader(6, shuffle=True), CPU).generators == []


# What is refused


class Once:
    """An iterable that gives its batches once, though it is no iterator."""

    def __init__(self) -> None:
        self.batches = iter([numbers(2)])

    def __iter__(self):
        yield from self.batches


def test_data_that_gives_its_batches_once_is_refused():
    with pytest.raises(InvalidType, match=r"`train` must give .*each time .* got a generator"):
        open_split("train", (batch for batch in [numbers(2)]), CPU)
    split = open_split("train", Once(), CPU)
    with pytest.raises(InvalidArgument, match="`train` must give its batches each time"):
        list(split.batches(2))


X, Y = numbers(6)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (None, InvalidType, r"must be a pair .* got NoneType"),
        (3, InvalidType, r"must be a pair .* got int"),
        (X, InvalidType, r"got a ndarray whose first batch is a ndarray"),
        ("data.csv", InvalidType, "got a str whose first batch is a str"),
        ({"X": X, "y": Y}, InvalidType, r'got dict: name the key .* unpack="labels"'),
        ((X, Y, Y.astype(int)), InvalidType, r"weights must be floats, got .*int64.* \(\(a, b\), "),
        ((X.tolist(), Y.tolist()), InvalidType, "first batch is a list of list, list"),
        ((X, Y.tolist()), InvalidType, "got a tuple whose first batch is a ndarray"),
        ([(X, Y, Y, Y)], InvalidType, "a tuple of ndarray, ndarray, ndarray, ndarray"),
        ([{"x": X, "y": Y}], InvalidType, r'first batch is a dict: name the key .* unpack="labels'),
        (list(zip(X, Y, strict=True)), InvalidType, "of single rows, .* DataLoader.rows, batch_si"),
        (
            [(x, float(y)) for x, y in zip(X, Y, strict=True)],
            InvalidType,
            "a list of rows goes into",
        ),
        (TensorDataset(torch.ones(2), torch.ones(2)), InvalidType, "a DataLoader, got Tensor"),
        ((X.tolist(), Y), InvalidType, "inputs must be arrays or tensors, got float"),
        ((X.astype(str), Y), InvalidType, r"inputs must hold numbers, got a ndarray of dtype <U"),
        ((X, Y.astype(object)), InvalidType, "targets must hold numbers, got .* dtype object"),
        ((X, Y.astype(complex)), InvalidType, "targets must hold numbers, .* dtype complex128"),
        ((torch.eye(6).to_sparse(), Y), InvalidType, "must be dense and real, got torch.sparse"),
        ((X, torch.zeros(6, dtype=torch.complex64)), InvalidType, "got .*torch.complex64"),
        ((X, Y[:5]), InvalidArgument, "must be of one length, got 6 and 5"),
        (({"a": X, "b": X[:4]}, Y), InvalidArgument, "must be of one length, got 4 and 6"),
        (((), Y), InvalidArgument, r"must hold at least one array, got \(\)"),
        ((X[:0], Y[:0]), InvalidArgument, "must hold at least one row, got none"),
        ((np.float32(1), np.float32(1)), InvalidArgument, "got a single number"),
        ([], InvalidArgument, "must hold at least one batch, got none"),
        (loader(2, batch_size=4, drop_last=True), InvalidArgument, "at least one batch, got none"),
        (
            (np.where(X == 0, np.nan, X), Y),
            InvalidArgument,
            "inputs must be finite, got 2 NaN or infinite",
        ),
        ((X, np.full(6, np.inf)), InvalidArgument, "targets must be finite, got 6 NaN or infinite"),
        ((X.astype(np.float64) * 1e300, Y), InvalidArgument, "inputs must be finite, got 10"),
    ],
    ids=lambda value: None if isinstance(value, str) else "",
)
def test_bad_data_is_refused(data, error, message):
    with pytest.raises(error, match=f"^`train` .*{message}"):
        open_split("train", data, CPU)


def pair(inputs, targets=None):
    return inputs, np.arange(len(inputs)) if targets is None else targets


BIG = np.arange(60.0).reshape(30, 2)
SHARED = "`train` and `valid` must not share rows, got"


@pytest.mark.parametrize(
    ("train", "valid", "message"),
    [
        (pair(BIG[:20]), pair(BIG[15:]), f"{SHARED} 5 rows"),
        (pair(BIG[::2]), pair(BIG[::3]), f"{SHARED} 5 rows"),
        (pair(BIG[10:][::-1]), pair(BIG[:12]), f"{SHARED} 2 rows"),
        (pair(torch.as_tensor(BIG)[:20]), pair(torch.as_tensor(BIG)[19:]), f"{SHARED} 1 rows"),
        (pair(torch.as_tensor(BIG)[:20]), pair(BIG[19:]), f"{SHARED} 1 rows"),
        (pair({"x": BIG[:9]}, BIG[:9]), pair({"x": BIG[8:]}, BIG[8:]), f"{SHARED} 1 rows"),
        (pair(BIG), pair(BIG.copy()), f"{SHARED} 30 rows"),
        ([pair(BIG)], None, "`train` and `valid` must not share rows, got the same data"),
        (pair(BIG), pair(BIG[:, :1].copy()), r"rows of one shape.* got \(2,\), \(\) and \(1,\), "),
        (pair(BIG[:9]), pair(BIG[9:], np.zeros((21, 1))), r"got \(2,\), \(\) and \(2,\), \(1,\)"),
    ],
)
def test_splits_that_do_not_go_together_are_refused(train, valid, message):
    with pytest.raises(InvalidArgument, match=message):
        open_splits({"train": train, "valid": train if valid is None else valid}, CPU)


@pytest.mark.parametrize(
    ("train", "valid"),
    [
        (pair(BIG[:20]), pair(BIG[20:])),
        (pair(BIG[::2]), pair(BIG[1::2])),
        (pair(torch.as_tensor(BIG)[::2]), pair(torch.as_tensor(BIG)[1::2])),
        (pair(BIG), pair(BIG.copy(), np.arange(30) + 1)),
        (pair(BIG), [pair(BIG[:, :1])]),
    ],
    ids=["halves", "interleaved", "interleaved tensors", "drawn again", "batches"],
)
def test_splits_without_shared_rows_are_not_refused(train, valid):
    assert list(open_splits({"train": train, "valid": valid}, CPU)) == ["train", "valid"]
