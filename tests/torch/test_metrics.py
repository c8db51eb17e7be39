"""Losses and metrics: the numbers of scikit-learn and torch, on the shapes that models give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics
from torch.nn import functional

from hpolab import InvalidArgument, InvalidType
from hpolab.torch.checks import check_outputs, check_targets
from hpolab.torch.losses import LOSSES, find_loss
from hpolab.torch.metrics import METRICS, find_metrics, read_metrics

N = 50
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(N, 4))
LABELS = RNG.integers(4, size=N)
SCORES = RNG.normal(size=N)
BINARY = RNG.integers(2, size=N)
NUMBERS = RNG.normal(size=N)
COLUMNS = RNG.normal(size=(N, 3)) * [1, 10, 100]


def as_tensor(array: np.ndarray) -> torch.Tensor:
    tensor = torch.as_tensor(array)
    return tensor.float() if tensor.is_floating_point() else tensor


def read(name: str, outputs: np.ndarray, targets: np.ndarray) -> float:
    return float(METRICS[name].function(as_tensor(outputs), as_tensor(targets)))


@pytest.mark.parametrize(
    ("outputs", "targets", "predicted"),
    [
        (LOGITS, LABELS, LOGITS.argmax(1)),
        (SCORES, BINARY, SCORES > 0),
        (SCORES[:, None], BINARY, SCORES > 0),
        (SCORES, BINARY[:, None], SCORES > 0),
        (SCORES[:, None], BINARY.astype(np.float32), SCORES > 0),
    ],
    ids=["classes", "binary", "binary column", "label column", "float labels"],
)
def test_class_metrics_are_scikit_learn_s(outputs, targets, predicted):
    actual = targets.ravel()
    expected = sklearn_metrics.accuracy_score(actual, predicted)
    assert read("accuracy", outputs, targets) == expected
    expected = sklearn_metrics.f1_score(actual, predicted, average="macro")
    assert read("macro_f1", outputs, targets) == pytest.approx(expected, rel=1e-12)


def test_macro_f1_leaves_out_classes_that_neither_side_holds():
    targets = np.where(LABELS == 2, 1, LABELS)
    outputs = LOGITS - 100 * (np.arange(4) == 2)
    expected = sklearn_metrics.f1_score(targets, outputs.argmax(1), average="macro")
    assert read("macro_f1", outputs, targets) == pytest.approx(expected, rel=1e-12)


def test_accuracy_of_pixels_is_that_of_all_pixels():
    logits = RNG.normal(size=(5, 3, 4, 4))
    labels = RNG.integers(3, size=(5, 4, 4))
    assert read("accuracy", logits, labels) == (logits.argmax(1) == labels).mean()


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("r2", sklearn_metrics.r2_score),
        ("mse", sklearn_metrics.mean_squared_error),
        ("rmse", sklearn_metrics.root_mean_squared_error),
        ("mae", sklearn_metrics.mean_absolute_error),
    ],
)
@pytest.mark.parametrize(
    ("outputs", "targets"),
    [
        (SCORES, NUMBERS),
        (SCORES[:, None], NUMBERS),
        (SCORES, NUMBERS[:, None]),
        (SCORES, LABELS),
        (COLUMNS[::-1].copy(), COLUMNS),
    ],
    ids=["(n,)", "(n, 1) of (n,)", "(n,) of (n, 1)", "integers", "columns"],
)
def test_regression_metrics_are_scikit_learn_s(name, theirs, outputs, targets):
    flat = (x.squeeze() for x in (targets, outputs))
    assert read(name, outputs, targets) == pytest.approx(theirs(*flat), rel=1e-5)


def test_named_metrics_know_their_direction():
    assert {name for name, metric in METRICS.items() if metric.maximize} == {
        "accuracy",
        "macro_f1",
        "balanced_accuracy",
        "auc",
        "average_precision",
        "top_5_accuracy",
        "r2",
    }


def hand_computed_huber(error: np.ndarray) -> float:
    return float(np.where(abs(error) < 1, error**2 / 2, abs(error) - 0.5).mean())


def hand_computed_log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return sklearn_metrics.log_loss(labels, probabilities)


LOSS_CASES = {
    "cross_entropy": (LOGITS, LABELS, hand_computed_log_loss(LOGITS, LABELS)),
    "nll": (
        functional.log_softmax(torch.as_tensor(LOGITS), 1).numpy(),
        LABELS,
        hand_computed_log_loss(LOGITS, LABELS),
    ),
    "bce": (SCORES, BINARY, sklearn_metrics.log_loss(BINARY, 1 / (1 + np.exp(-SCORES)))),
    "mse": (SCORES, NUMBERS, sklearn_metrics.mean_squared_error(NUMBERS, SCORES)),
    "mae": (SCORES, NUMBERS, sklearn_metrics.mean_absolute_error(NUMBERS, SCORES)),
    "huber": (SCORES, NUMBERS, hand_computed_huber(SCORES - NUMBERS)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_loss_has_its_value_and_a_gradient(name):
    outputs, targets, expected = LOSS_CASES[name]
    outputs = as_tensor(outputs).requires_grad_()
    loss = LOSSES[name](outputs, as_tensor(targets))
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert outputs.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["bce", "mse", "mae", "huber"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.float64])
@pytest.mark.parametrize("shapes", [((N, 1), (N,)), ((N,), (N, 1))])
def test_loss_of_a_column_is_that_of_a_row(name, dtype, shapes):
    outputs, targets = as_tensor(SCORES), as_tensor(BINARY)
    expected = LOSSES[name](outputs, targets)
    column = outputs.reshape(shapes[0]).requires_grad_()
    loss = LOSSES[name](column, targets.to(dtype).reshape(shapes[1]))
    loss.backward()
    assert loss.item() == expected.item()


@pytest.mark.parametrize("function", [LOSSES["mse"], *(m.function for m in METRICS.values())])
def test_outputs_of_another_shape_are_refused(function):
    with pytest.raises(InvalidArgument, match=r"got outputs \(4, 3\) and targets \(4, 2\)"):
        function(torch.zeros(4, 3), torch.zeros(4, 2))


@pytest.mark.parametrize(
    ("loss", "metrics", "targets", "message"),
    [
        ("cross_entropy", (), [0.0, 1.0], "must be integer class ids .* got torch.float32"),
        ("cross_entropy", (), [0, -1], r"must be 0 or above for loss .* got -1\.\.0"),
        ("nll", (), [0.5], "must be integer class ids for loss 'nll'"),
        ("bce", (), [0, 1, 2], r"must be 0 or 1 for loss 'bce', got 0\.\.2"),
        ("bce", (), [-1.0, 1.0], r"got -1\.0\.\.1\.0"),
        ("mse", ["mae", "r2"], [2.0, 2.0, 2.0], "must vary for metric 'r2', .* got 3 equal"),
        ("mse", ["r2"], [[1.0, 2.0], [1.0, 3.0]], "must vary for metric 'r2'"),
    ],
)
def test_targets_that_do_not_suit_are_refused(loss, metrics, targets, message):
    with pytest.raises(InvalidArgument, match=f"^`valid` .*{message}"):
        check_targets(loss, metrics, "valid", torch.tensor(targets))


@pytest.mark.parametrize(
    ("loss", "metrics", "targets"),
    [
        ("cross_entropy", ["accuracy"], [0, 9]),
        ("bce", ["accuracy"], [0.0, 1.0]),
        ("mse", ["mae"], [2.0, 2.0]),
        (functional.cross_entropy, ["loss"], [0.5, -1.0]),
    ],
)
def test_targets_that_suit_are_not_refused(loss, metrics, targets):
    check_targets(loss, metrics, "valid", torch.tensor(targets))


@pytest.mark.parametrize(
    ("outputs", "targets", "message"),
    [
        ((2, 3), [0, 3], r"labels must lie in 0\.\.2, .* gives 3 outputs, got 0\.\.3"),
        ((2, 3), [[0], [1]], r"class ids of shape \(n,\) .* got targets \(2, 1\)"),
        ((2,), [0, 1], r"got targets \(2,\) and outputs \(2,\)"),
    ],
)
def test_outputs_that_do_not_fit_class_ids_are_refused(outputs, targets, message):
    targets = torch.tensor(targets)
    with pytest.raises(InvalidArgument, match=f"^`train` .*{message}"):
        check_outputs("cross_entropy", "train", torch.zeros(outputs), targets, targets)


def test_all_labels_are_looked_at_and_not_those_of_the_rows_alone():
    targets = torch.tensor([0, 1, 7])
    with pytest.raises(InvalidArgument, match=r"got 0\.\.7"):
        check_outputs("cross_entropy", "train", torch.zeros(2, 3), targets[:2], targets)


def test_model_whose_output_is_no_tensor_is_refused():
    rows = torch.zeros(2)
    with pytest.raises(InvalidType, match="whose output is a tensor, got dict"):
        check_outputs("mse", "train", {"logits": rows}, rows, rows)


def test_callable_loss_is_taken_as_it_is():
    assert find_loss(functional.poisson_nll_loss) is functional.poisson_nll_loss


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        ("crossentropy", InvalidArgument, "`loss` must be one of .* Did you mean 'cross_entropy'"),
        (3, InvalidType, "`loss` must be a name or a callable, got int"),
    ],
)
def test_bad_loss_is_refused(loss, error, message):
    with pytest.raises(error, match=message):
        find_loss(loss)


def worst(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs - targets).abs().max()


def test_optimized_metric_comes_first_and_repeats_count_once():
    more = ["mae", "rmse", worst, "loss"]
    name, found = find_metrics("rmse", more, direction=None, loss=LOSSES["mse"])
    assert name == "rmse"
    assert list(found) == ["rmse", "mae", "worst", "loss"]
    values = read_metrics(found, torch.tensor([1.0, 2.0]), torch.tensor([1.0, 5.0]))
    assert values == pytest.approx({"rmse": 4.5**0.5, "mae": 1.5, "worst": 3.0, "loss": 4.5})
    assert {type(value) for value in values.values()} == {float}


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_callable_metric_has_the_direction_given(direction):
    _, found = find_metrics(worst, [], direction=direction, loss=LOSSES["mse"])
    assert found["worst"].maximize == (direction == "maximize")


@pytest.mark.parametrize(
    ("metric", "more", "direction", "error", "message"),
    [
        ("acuracy", [], None, InvalidArgument, "`metric` must be one of .*mean 'accuracy'"),
        (3, [], None, InvalidType, "`metric` must be a name or a callable, got int"),
        (worst, [], None, InvalidArgument, "`direction` must be .* callable, got None"),
        (worst, [], "down", InvalidArgument, "`direction` must be one of .* got 'down'"),
        ("accuracy", [], "minimize", InvalidArgument, "must be 'maximize' for metric 'accuracy'"),
        ("loss", [], "maximize", InvalidArgument, "must be 'minimize' for metric 'loss'"),
        ("mae", ["f1"], None, InvalidArgument, "`metrics` must be one of .* got 'f1'"),
        ("mae", "rmse", None, InvalidType, "`metrics` must be a list of metrics, got 'rmse'"),
        ("mae", worst, None, InvalidType, "`metrics` must be a list of metrics, got <function"),
        ("mae", [None], None, InvalidType, "`metrics` must be a name or a callable, got NoneType"),
        ("mae", [max, lambda o, t: 0, lambda o, t: 1], None, InvalidArgument, "named '<lambda>'"),
    ],
)
def test_bad_metric_is_refused(metric, more, direction, error, message):
    with pytest.raises(error, match=message):
        find_metrics(metric, more, direction=direction, loss=LOSSES["mse"])


@pytest.mark.parametrize("value", [2.5, np.float32(2.5), np.array(2.5), torch.tensor([2.5])])
def test_metric_may_return_any_single_number(value):
    _, found = find_metrics(lambda o, t: value, [], direction="minimize", loss=LOSSES["mse"])
    assert read_metrics(found, torch.zeros(1), torch.zeros(1)) == {"<lambda>": 2.5}


@pytest.mark.parametrize("value", [None, "high", torch.zeros(2), np.zeros(2), [1.0]])
def test_metric_that_returns_no_number_is_refused(value):
    _, found = find_metrics(lambda o, t: value, [], direction="minimize", loss=LOSSES["mse"])
    with pytest.raises(InvalidType, match="`metric` '<lambda>' must return a number, got"):
        read_metrics(found, torch.zeros(1), torch.zeros(1))
