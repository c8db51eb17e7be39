"""Batches: weights of rows, dicts, and batches that differ in length."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from optuna.trial import TrialState
from torch import nn
from torch.nn.utils.rnn import pack_sequence, pad_sequence
from torch.utils.data import DataLoader, TensorDataset

from hpolab import (
    InvalidArgument,
    InvalidType,
    SearchSpace,
    TorchObjective,
    optimizer_space,
    run,
)
from hpolab.torch.data import open_split

CPU = torch.device("cpu")
X = np.arange(12.0).reshape(6, 2)
Y = np.arange(6.0)
W = np.array([0.0, 1.0, 2.0, 0.5, 3.0, 1.5])


# Copies


class Kept:
    """Moves as a whole, into itself, as batches of Hugging Face do."""

    def __init__(self) -> None:
        self.rows = torch.ones(2)

    def to(self, device: torch.device) -> Kept:
        self.rows = self.rows.to(device)
        return self


@pytest.mark.parametrize(
    ("inputs", "tensor_of"),
    [
        (torch.ones(2, 3), lambda x: x),
        ({"a": [torch.ones(2)]}, lambda x: x["a"][0]),
        (np.ones(2), torch.as_tensor),
        (pack_sequence([torch.ones(3), torch.ones(2)]), lambda x: x.data),
        (Kept(), lambda x: x.rows),
    ],
    ids=["tensor", "nested", "numpy", "packed", "moves as a whole"],
)
def test_batches_of_one_s_own_are_copied(inputs, tensor_of):
    targets = torch.zeros(2)
    split = open_split("train", [(inputs, targets)], CPU)
    ((own, own_targets),) = split.batches(2)
    tensor_of(own).add_(1)
    own_targets.add_(1)
    assert bool((tensor_of(inputs) == 1).all())
    assert bool((targets == 0).all())


# Weights


def test_weights_come_with_their_rows():
    split = open_split("train", (X, Y, W), CPU)
    assert split.is_weighted
    assert split.weights.tolist() == W.tolist()
    for draw in (None, torch.Generator().manual_seed(0)):
        for inputs, targets in split.batches(4, draw):
            assert targets.weights.tolist() == [W[int(y)] for y in targets.values]
            assert inputs[:, 0].tolist() == [2 * y for y in targets.values]


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        (W[:5], InvalidArgument, r"of shape \(n,\), one for each of the 6 rows, got \(5,\)"),
        (W[:, None], InvalidArgument, r"got \(6, 1\)"),
        (-W, InvalidArgument, r"finite and 0 or above, got -3\.0\.\."),
        (W * np.nan, InvalidArgument, "finite and 0 or above"),
        (W * 0, InvalidArgument, "must not all be 0"),
        (W.astype(int), InvalidType, "must be floats, got torch.int64. Three arrays are inputs"),
    ],
)
@pytest.mark.parametrize("batches", [False, True])
def test_bad_weights_are_refused(weights, error, message, batches):
    if batches and "all be 0" in message:
        pytest.skip("a batch may count nothing")
    data = (X, Y, weights)
    with pytest.raises(error, match=f"`train` weights .*{message}"):
        open_split("train", [data] if batches else data, CPU)


def test_batches_with_and_without_weights_do_not_mix():
    split = open_split("train", [(X, Y, W), (X, Y)], CPU)
    with pytest.raises(InvalidArgument, match="weights with all of its batches or with none"):
        list(split.batches(6))


def with_weights(data: tuple[np.ndarray, np.ndarray], seed: int = 0) -> tuple[np.ndarray, ...]:
    return (*data, np.random.default_rng(seed).integers(0, 3, len(data[1])) / 2)


@pytest.mark.parametrize(
    ("loss", "metric"), [("mse", "rmse"), ("mae", "r2"), ("huber", "mae"), ("mse", "loss")]
)
def test_row_of_weight_two_counts_as_two_rows(regression, splits, same_weights, loss, metric):
    counts = {
        name: np.random.default_rng(1).integers(0, 3, len(y)) for name, (_, y) in splits.items()
    }
    weighted = {name: (*data, counts[name] * 1.0) for name, data in splits.items()}
    repeated = {
        name: tuple(np.repeat(part, counts[name], axis=0) for part in data)
        for name, data in splits.items()
    }
    # In one batch, so that both are the mean over the same rows.
    one, other = (
        regression(**data, loss=loss, metric=metric, batch_size=200, eval_batch_size=7)
        for data in (weighted, repeated)
    )
    models = [each.fit({"optimizer": "sgd", "lr": 0.05}, 0) for each in (one, other)]
    for a, b in zip(*(model.parameters() for model in models), strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    found = [
        each.evaluate(models[0], data["valid"])
        for each, data in ((one, weighted), (other, repeated))
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.parametrize("loss", ["cross_entropy", "nll", "bce"])
def test_equal_weights_change_nothing(regression, run_trial, splits, loss):
    data = {
        name: (x.astype(np.float32), (y > 0).astype(np.int64)) for name, (x, y) in splits.items()
    }
    tail = {"nll": [nn.LogSoftmax(1)], "cross_entropy": [], "bce": []}[loss]
    n = 1 if loss == "bce" else 2
    options: dict[str, Any] = {"loss": loss, "metric": "loss", "metrics": ["auc", "accuracy"]}

    def build(params: Any) -> nn.Module:
        return nn.Sequential(nn.Linear(3, n), *tail)

    plain = run_trial(regression(build, **data, **options))
    data = {name: (*pair, np.full(len(pair[1]), 2.5)) for name, pair in data.items()}
    trial = run_trial(regression(build, **data, **options))
    assert trial.intermediate_values == pytest.approx(plain.intermediate_values, rel=1e-5)


def test_batch_that_counts_nothing_trains_nothing(regression, same_weights, splits):
    inputs, targets = splits["train"]
    objective = regression(train=(inputs, targets, np.eye(41)[3]), batch_size=8)
    model = objective.fit({"optimizer": "sgd", "lr": 0.05}, 0)
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())


def own(outputs: torch.Tensor, targets: torch.Tensor, weights: Any = None) -> torch.Tensor:
    rows = (outputs[:, 0] - targets) ** 2
    return rows.mean() if weights is None else (rows * weights).sum() / weights.sum().clamp(1e-9)


class Own(nn.Module):
    def forward(self, outputs: torch.Tensor, targets: torch.Tensor, weights: Any = None) -> Any:
        return own(outputs, targets, weights)


@pytest.mark.parametrize("loss", [own, Own()])
def test_function_of_one_s_own_gets_the_weights(regression, run_trial, splits, loss):
    data = {name: with_weights(pair, 2) for name, pair in splits.items()}
    options: dict[str, Any] = {"metric": own, "direction": "minimize"}
    named = run_trial(regression(**data, loss="mse", metric="mse"))
    trial = run_trial(regression(**data, loss=loss, **options))
    assert trial.intermediate_values == pytest.approx(named.intermediate_values, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "split", "message"),
    [
        ({"loss": nn.MSELoss()}, "train", "`loss` must have an argument `weights`, as `train`"),
        ({"loss": nn.functional.cross_entropy}, "train", "`loss` must have an argument"),
        ({"metric": max, "direction": "minimize"}, "valid", "`metric` 'max' must have .*`valid`"),
        ({"metrics": [lambda o, t: 0]}, "score", "`metric` '<lambda>' must have .* `score`"),
    ],
)
def test_function_that_takes_no_weights_is_refused(regression, splits, options, split, message):
    with pytest.raises(InvalidArgument, match=message):
        regression(**{split: with_weights(splits[split])}, **options)


def test_weighted_data_is_evaluated_with_its_weights(regression, splits):
    objective = regression()
    model, (inputs, targets) = nn.Linear(3, 1), splits["valid"]
    mass = (np.arange(30) < 10) * 1.0
    found = objective.evaluate(model, (inputs, targets, mass))
    assert found == pytest.approx(objective.evaluate(model, (inputs[:10], targets[:10])), rel=1e-5)
    objective = regression(metric=lambda o, t: 0.0, direction="minimize")
    with pytest.raises(InvalidArgument, match="`weights`, as `data` has"):
        objective.evaluate(model, (inputs, targets, mass))


def test_trials_of_weighted_rows_train_one_by_one_and_say_so(
    regression, random_study, splits, caplog
):
    data = {name: with_weights(pair) for name, pair in splits.items()}
    alone, several = random_study(), random_study()
    for study, fuse in ((alone, None), (several, 3)):
        run(study, regression(**data), n_trials=3, fuse=fuse, show_progress_bar=False)
    assert [t.value for t in several.trials] == [t.value for t in alone.trials]
    assert [r.message for r in caplog.records if "rows have weights" in r.message] == [
        "Trials train one by one, as rows have weights."
    ]


# Dicts


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        assert list(batch) == ["x"]
        return self.linear(batch["x"])


def dicts(data: tuple[np.ndarray, np.ndarray], n: int = 8) -> DataLoader[Any]:
    x, y = (torch.as_tensor(part).float() for part in data)
    return DataLoader([{"x": x[i], "labels": y[i]} for i in range(len(y))], n, drop_last=True)


@pytest.mark.parametrize(
    "unpack",
    ["labels", lambda batch: ({"x": batch["x"]}, batch["labels"])],
    ids=["key", "function"],
)
def test_batches_that_are_dicts_train_like_pairs(regression, splits, same_weights, unpack):
    data = {name: dicts(pair) for name, pair in splits.items()}
    objective = regression(lambda _: Named(), **data, unpack=unpack)
    objective.check()
    model = objective.fit({"optimizer": "sgd", "lr": 0.05}, 0)
    pairs = {
        name: DataLoader(
            TensorDataset(*(torch.as_tensor(p).float() for p in pair)), 8, drop_last=True
        )
        for name, pair in splits.items()
    }
    plain = regression(**pairs)
    assert same_weights(model.linear, plain.fit({"optimizer": "sgd", "lr": 0.05}, 0))
    found = objective.evaluate(model, data["valid"])
    assert found == plain.evaluate(model.linear, pairs["valid"])


def test_dict_of_arrays_is_split_by_its_key(regression, run_trial, splits):
    data = {name: {"x": x, "labels": y} for name, (x, y) in splits.items()}
    trial = run_trial(regression(lambda _: Named(), **data, unpack="labels"))
    assert trial.intermediate_values == run_trial(regression()).intermediate_values


def test_function_may_unpack_weights(regression, splits):
    x, y = (torch.as_tensor(part).float() for part in splits["train"])
    rows = [{"x": x[i], "y": y[i], "w": torch.tensor(1.0)} for i in range(len(y))]
    objective = regression(
        train=DataLoader(rows, 8, drop_last=True), unpack=by_name, valid=pairs_of(splits["valid"])
    )
    objective.check()
    assert pickle.loads(pickle.dumps(objective.task.train._unpack)) is by_name


def by_name(batch: Any) -> Any:
    return (batch["x"], batch["y"], batch["w"]) if isinstance(batch, dict) else batch


def pairs_of(data: tuple[np.ndarray, np.ndarray]) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*(torch.as_tensor(part).float() for part in data)), 8)


@pytest.mark.parametrize(
    ("data", "unpack", "error", "message"),
    [
        ([{"x": X, "y": Y}], "labels", InvalidArgument, "'labels' and batches with 'x', 'y'"),
        ({"x": X, "y": Y}, "labels", InvalidArgument, "`unpack` must be a key of the batches"),
        ([(X, Y)], "labels", InvalidType, "must give dicts with the targets at 'labels', .* tuple"),
        ([X], lambda batch: batch, InvalidType, "of which `unpack` makes a ndarray"),
        ([X], lambda batch: (batch, 1, 2, 3), InvalidType, "`unpack` makes a tuple of"),
    ],
)
def test_batches_that_do_not_unpack_are_refused(data, unpack, error, message):
    with pytest.raises(error, match=message):
        open_split("train", data, CPU, unpack)


def test_unpack_is_a_key_or_a_function(regression):
    with pytest.raises(InvalidType, match=r"`unpack` must be the key .* got int"):
        regression(unpack=3)


# Batches of different lengths


def sequences(n: int, seed: int) -> DataLoader[Any]:
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 12, (n,), generator=draw).tolist()
    rows = [torch.randint(1, 20, (length,), generator=draw) for length in lengths]
    return DataLoader([(row, row % 3) for row in rows], 8, collate_fn=padded)


def padded(rows: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, targets = zip(*rows, strict=True)
    return pad_sequence(inputs, True), pad_sequence(targets, True, -100)


class Tagger(nn.Module):
    def __init__(self, *, classes_last: bool = False) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(20, 8), nn.Linear(8, 3)
        self.classes_last = classes_last

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs = self.out(self.words(inputs))
        return outputs if self.classes_last else outputs.transpose(1, 2)


def tags(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(outputs.transpose(1, 2), targets)


def tagging(loss: Any = None, *, classes_last: bool = False, **options: Any) -> TorchObjective:
    settings: dict[str, Any] = {
        "train": sequences(40, 0),
        "valid": sequences(30, 1),
        "loss": nn.CrossEntropyLoss(ignore_index=-100) if loss is None else loss,
        "metric": "loss",
        "max_epochs": 2,
        "search_space": optimizer_space("adam"),
    }
    return TorchObjective(lambda _: Tagger(classes_last=classes_last), **settings | options)


@pytest.mark.parametrize(("loss", "classes_last"), [(None, False), (tags, True)])
def test_padded_batches_train_and_score_as_one_batch_would(run_trial, loss, classes_last):
    objective = tagging(loss, classes_last=classes_last)
    objective.check()
    assert run_trial(objective).state == TrialState.COMPLETE
    model = Tagger(classes_last=classes_last)
    data = sequences(30, 1)
    whole = DataLoader(data.dataset, 30, collate_fn=padded)
    found, expected = (objective.evaluate(model, each)["loss"] for each in (data, whole))
    assert found == pytest.approx(expected, rel=1e-5)


def exact_match(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    hits = (outputs.argmax(1) == targets) | (targets == -100)
    return hits.all(dim=1).float().mean()


def mean_of_sequences(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    hits, real = (outputs.argmax(1) == targets).float(), (targets != -100).float()
    return (hits.sum(1) / real.sum(1)).mean()


def accuracy_of_tags(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs.argmax(1) == targets)[targets != -100].float().mean()


@pytest.mark.parametrize("metric", [exact_match, mean_of_sequences])
def test_metric_of_whole_sequences_is_refused_before_a_trial(metric):
    objective = tagging(metric=metric, direction="maximize")
    with pytest.raises(InvalidArgument, match="must be a mean over positions where batches differ"):
        objective.check()


def test_metric_of_positions_is_not_refused(run_trial):
    objective = tagging(metric=accuracy_of_tags, direction="maximize")
    objective.check()
    assert run_trial(objective).state == TrialState.COMPLETE


def test_padding_is_no_class():
    with pytest.raises(InvalidArgument, match=r"class ids in 0\.\.2 .* got -100\.\.2"):
        tagging(metric="accuracy").check()


def test_outputs_that_differ_otherwise_than_targets_are_refused():
    objective = tagging()
    ragged = [(torch.ones(2, n).long(), torch.zeros(2, 4).long()) for n in (4, 5)]
    with pytest.raises(InvalidArgument, match="differ in length in the same way, got"):
        objective.evaluate(Tagger(), ragged)


def test_space_may_hold_no_batch_size_for_dicts(regression, splits):
    space = SearchSpace({"optimizer": "sgd", "lr": 0.1, "batch_size": [4, 8]})
    with pytest.raises(InvalidArgument, match="must not hold 'batch_size'"):
        regression(
            lambda _: Named(),
            **{name: dicts(pair) for name, pair in splits.items()},
            unpack="labels",
            search_space=space,
        )
