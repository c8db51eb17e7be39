"""Metrics of classifiers: scikit-learn's numbers, with ties and weights, in every form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics

from hpolab import InvalidArgument
from hpolab.torch.checks import check_scores, check_targets
from hpolab.torch.metrics import find_metrics, read_metrics

N = 60
RNG = np.random.default_rng(0)
WEIGHTS = RNG.integers(0, 4, N) / 2  # some rows count nothing
LABELS = RNG.integers(4, size=N)
TRUTH = (RNG.random((N, 5)) < [0.5, 0.3, 0.2, 0.15, 0.1]).astype(int)
LOGITS = RNG.normal(size=(N, 4))
TIED = RNG.integers(-1, 2, (N, 4)).astype(float)
BINARY = RNG.integers(2, size=N)


def read(name: str, outputs: np.ndarray, targets: np.ndarray, weights=None) -> float:
    function = find_metrics(name, [], direction=None, loss=max)[1][name].function
    more = {} if weights is None else {"weights": torch.as_tensor(weights)}
    return float(function(torch.as_tensor(outputs), torch.as_tensor(targets), **more))


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


FORMS = {
    "classes": (LOGITS, LABELS),
    "tied classes": (TIED, LABELS),
    "two classes": (LOGITS[:, :2], BINARY),
    "tied two classes": (TIED[:, :2], BINARY),
    "binary": (LOGITS[:, 0], BINARY),
    "tied binary": (TIED[:, 0], BINARY),
    "binary column": (LOGITS[:, :1], BINARY),
    "labels": (LOGITS[:, [0, 1, 2, 3, 0]] + TRUTH, TRUTH),
    "tied labels": (TIED[:, [0, 1, 2, 3, 0]], TRUTH),
}


def predicted(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    if outputs.ndim == 2 and outputs.shape[1] > 1 and targets.ndim == 1:
        return outputs.argmax(1)
    return (outputs.reshape(targets.shape) > 0).astype(int)


def scores(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """What scikit-learn ranks by: one score a row, or one for each class or label."""
    if outputs.ndim == 2 and outputs.shape[1] == 2 and targets.ndim == 1:
        return outputs[:, 1] - outputs[:, 0]
    if outputs.ndim == 2 and outputs.shape[1] > 2 and targets.ndim == 1:
        return softmax(outputs)
    return outputs.reshape(targets.shape)


forms = pytest.mark.parametrize("form", FORMS)
single = pytest.mark.parametrize("form", [form for form in FORMS if "labels" not in form])
weighted = pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])


@forms
@weighted
def test_accuracy_is_scikit_learn_s(form, weights):
    outputs, targets = FORMS[form]
    expected = sklearn_metrics.accuracy_score(
        targets, predicted(outputs, targets), sample_weight=weights
    )
    assert read("accuracy", outputs, targets, weights) == pytest.approx(expected, rel=1e-12)


@forms
@weighted
def test_macro_f1_is_scikit_learn_s(form, weights):
    outputs, targets = FORMS[form]
    expected = sklearn_metrics.f1_score(
        targets,
        predicted(outputs, targets),
        average="macro",
        sample_weight=weights,
        zero_division=0,
    )
    assert read("macro_f1", outputs, targets, weights) == pytest.approx(expected, rel=1e-12)


def test_f1_of_a_label_that_nobody_holds_is_zero():
    truth, logits = TRUTH * [1, 1, 1, 1, 0], FORMS["labels"][0] - [0, 0, 0, 0, 99]
    expected = sklearn_metrics.f1_score(truth, logits > 0, average="macro", zero_division=0)
    assert read("macro_f1", logits, truth) == pytest.approx(expected, rel=1e-12)


@single
@weighted
def test_balanced_accuracy_is_scikit_learn_s(form, weights):
    outputs, targets = FORMS[form]
    expected = sklearn_metrics.balanced_accuracy_score(
        targets, predicted(outputs, targets), sample_weight=weights
    )
    found = read("balanced_accuracy", outputs, targets, weights)
    assert found == pytest.approx(expected, rel=1e-12)


@single
@weighted
def test_log_loss_is_scikit_learn_s(form, weights):
    outputs, targets = FORMS[form]
    if outputs.ndim == 2 and outputs.shape[1] > 1:
        probabilities = softmax(outputs)
    else:
        probabilities = 1 / (1 + np.exp(-outputs.ravel()))
    expected = sklearn_metrics.log_loss(targets, probabilities, sample_weight=weights)
    assert read("log_loss", outputs, targets, weights) == pytest.approx(expected, rel=1e-9)


@forms
@weighted
def test_auc_is_scikit_learn_s(form, weights):
    outputs, targets = FORMS[form]
    if form in ("classes", "tied classes"):  # scikit-learn takes no weights of 0 rows alike here
        weights = None if weights is None else weights + 1
    expected = sklearn_metrics.roc_auc_score(
        targets,
        scores(outputs, targets),
        multi_class="ovr",
        average="macro",
        sample_weight=weights,
    )
    assert read("auc", outputs, targets, weights) == pytest.approx(expected, rel=1e-12)


@forms
@weighted
def test_average_precision_is_scikit_learn_s(form, weights):
    outputs, targets = FORMS[form]
    ranked = scores(outputs, targets)
    if ranked.ndim == 2 and targets.ndim == 1:
        ranked = np.log(ranked)
    expected = sklearn_metrics.average_precision_score(targets, ranked, sample_weight=weights)
    found = read("average_precision", outputs, targets, weights)
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("form", ["classes", "tied classes"])
@pytest.mark.parametrize("k", [1, 2, 3])
@weighted
def test_top_k_accuracy_is_scikit_learn_s(form, k, weights):
    outputs, targets = FORMS[form]
    expected = sklearn_metrics.top_k_accuracy_score(
        targets, outputs, k=k, labels=range(4), sample_weight=weights
    )
    found = read(f"top_{k}_accuracy", outputs, targets, weights)
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("r2", sklearn_metrics.r2_score),
        ("mse", sklearn_metrics.mean_squared_error),
        ("rmse", sklearn_metrics.root_mean_squared_error),
        ("mae", sklearn_metrics.mean_absolute_error),
    ],
)
@pytest.mark.parametrize("shape", [(N,), (N, 1), (N, 4)])
def test_weighted_regression_metrics_are_scikit_learn_s(name, theirs, shape):
    outputs = LOGITS[:, : shape[1] if len(shape) > 1 else 1].reshape(shape)
    targets = (outputs + RNG.normal(size=shape) * 2).reshape(shape)
    expected = theirs(targets, outputs, sample_weight=WEIGHTS)
    assert read(name, outputs, targets, WEIGHTS) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["accuracy", "auc", "log_loss", "top_2_accuracy", "macro_f1"])
def test_every_pixel_counts_as_a_row(name):
    logits, labels = RNG.normal(size=(5, 3, 4, 4)), RNG.integers(3, size=(5, 4, 4))
    flat = np.moveaxis(logits, 1, -1).reshape(-1, 3)
    found = read(name, logits, labels, np.ones(5))
    assert found == pytest.approx(read(name, flat, labels.ravel()), rel=1e-12)


# What has no value is refused


@pytest.mark.parametrize(
    ("name", "outputs", "targets", "message"),
    [
        ("auc", LOGITS[:, 0], BINARY * 0, "needs rows of both classes, got 0 positive ones of 60"),
        ("auc", LOGITS, np.minimum(LABELS, 2), "both classes for column 3"),
        ("average_precision", LOGITS[:, :2], BINARY * 0 + 1, "got 60 positive ones of 60"),
        ("top_4_accuracy", LOGITS, LABELS, "needs more than 4 classes, .* got 4"),
        ("top_2_accuracy", LOGITS[:, 0], BINARY, "needs logits of shape .n, classes."),
        ("balanced_accuracy", TRUTH - 0.5, TRUTH, "needs one class a row, got several labels"),
        ("accuracy", LOGITS[:, 0], BINARY * 2 - 1, r"class ids in 0\.\.1 .* got -1\.\.1"),
        ("accuracy", LOGITS, LABELS - 100, r"class ids in 0\.\.3 .* got -100\.\.-97"),
        ("macro_f1", LOGITS, LABELS + 1, r"class ids in 0\.\.3 .* got 1\.\.4"),
        ("accuracy", TRUTH - 0.5, TRUTH * 3, r"class ids in 0\.\.1 .* got 0\.\.3"),
    ],
)
def test_metric_without_a_value_is_refused(name, outputs, targets, message):
    with pytest.raises(InvalidArgument, match=message):
        read(name, outputs, targets)


@pytest.mark.parametrize("name", ["top_0_accuracy", "top_k_accuracy", "top_-1_accuracy"])
def test_top_k_without_a_number_is_refused(name):
    with pytest.raises(InvalidArgument, match="Did you mean 'top_5_accuracy'"):
        find_metrics(name, [], direction=None, loss=max)


@pytest.mark.parametrize("name", ["auc", "average_precision"])
@pytest.mark.parametrize(
    ("targets", "weights", "message"),
    [
        ([1, 1, 1], None, "no row of any class but 1"),
        ([0, 1, 1], [0.0, 1.0, 2.0], "no row of any class but 1"),
        ([[0, 1], [1, 1], [0, 1]], None, "equal ones for label 1"),
    ],
)
def test_split_of_one_class_is_refused_early(name, targets, weights, message):
    mass = None if weights is None else torch.tensor(weights)
    with pytest.raises(InvalidArgument, match=f"`valid` must hold every class .*, got {message}"):
        check_targets(max, [name], "valid", torch.tensor(targets), mass)


def test_split_without_a_class_of_the_model_is_refused_early():
    with pytest.raises(InvalidArgument, match=r"`score` must hold .* no row of class 2"):
        check_scores(["auc"], "score", torch.zeros(2, 4), torch.tensor([0, 1, 3]), None)
    check_scores(["auc"], "score", torch.zeros(2, 2), torch.tensor([0, 1, 1]), None)


@pytest.mark.parametrize("has_weights", [False, True])
def test_batches_of_one_class_are_refused_before_a_trial(regression, splits, has_weights):
    inputs, targets = (torch.as_tensor(part).float() for part in splits["valid"])
    labels = (targets > 0).float()
    some = (targets < 0).float() if has_weights else torch.ones(30)

    def batches(labels: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
        parts = (inputs, labels, some) if has_weights else (inputs, labels)
        return [tuple(part[i::3] for part in parts) for i in range(3)]

    one = labels if has_weights else labels * 0
    objective = regression(
        loss="bce", metric="auc", train=(inputs, labels), valid=batches(one), score=None
    )
    with pytest.raises(InvalidArgument, match=r"`valid` must hold every class for metric 'auc'"):
        objective.check()


# A model that has diverged


@pytest.mark.parametrize("name", ["accuracy", "auc", "macro_f1", "log_loss"])
@pytest.mark.parametrize(
    "row",
    [[np.nan, 0, 0, 0], [np.nan] * 4, [np.inf, 0, 0, 0], [-np.inf] * 4],
    ids=["one NaN", "all NaN", "an infinity", "all minus infinity"],
)
def test_metrics_of_a_model_that_has_diverged_are_nan(name, row):
    _, found = find_metrics(name, [], direction=None, loss=max)
    outputs = np.concatenate([LOGITS[:-1], [row]])
    values = read_metrics(found, torch.as_tensor(outputs), torch.as_tensor(LABELS))
    assert np.isnan(values[name])


@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "auc", "top_2_accuracy"])
def test_class_that_is_ruled_out_by_minus_infinity_is_no_divergence(name):
    _, found = find_metrics(name, [], direction=None, loss=max)
    ruled_out = np.where((np.arange(4) == (LABELS[:, None] + 1) % 4), -np.inf, LOGITS)
    low = np.where(np.isinf(ruled_out), -1e4, ruled_out)
    values, expected = (
        read_metrics(found, torch.as_tensor(each), torch.as_tensor(LABELS))
        for each in (ruled_out, low)
    )
    assert values == pytest.approx(expected)
