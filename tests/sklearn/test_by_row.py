"""Row scores of scikit-learn's scorers: their mean is the score that `evaluate` gives."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import make_classification, make_multilabel_classification
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import fbeta_score, get_scorer_names, make_scorer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from hpolab import SklearnObjective
from hpolab.sklearn.by_row import row_scores
from hpolab.sklearn.estimators import find_scorer

if TYPE_CHECKING:
    from collections.abc import Callable

N = 90


def drawn(kind: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(2 * N, 3))
    latent = inputs[:, 0] + inputs[:, 1] + rng.normal(size=2 * N)
    if kind == "two":
        return inputs, (latent > 0).astype(int)
    if kind == "text":
        return inputs, np.where(latent > 0, "yes", "no")
    if kind == "three":
        return inputs, np.digitize(latent, [-0.5, 1])
    if kind == "labels":
        return inputs, np.stack([latent > 0, inputs[:, 2] > 0], axis=1).astype(int)
    if kind == "outputs":
        return inputs, np.stack([latent, inputs[:, 2] + rng.normal(size=2 * N)], axis=1)
    return inputs, np.exp(latent / 2)


MODELS: dict[str, Any] = {
    "two": LogisticRegression(),
    "text": make_pipeline(StandardScaler(), LinearSVC()),
    "three": RandomForestClassifier(5, random_state=0),
    "labels": RandomForestClassifier(5, random_state=0),
    "outputs": LinearRegression(),
    "numbers": RandomForestRegressor(5, random_state=0),
}
NAMES = [None, *get_scorer_names()]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("metric", NAMES)
def test_mean_of_row_scores_is_the_score(metric: str | None, kind: str) -> None:
    inputs, targets = drawn(kind)
    model = MODELS[kind].fit(inputs[:N], targets[:N])
    scorer = find_scorer(model, metric)
    rest = inputs[N:], targets[N:]
    try:
        value = float(scorer(model, *rest))
    except (ValueError, AttributeError, TypeError) as error:
        # scikit-learn has no such score of such targets: no scores by row are made up for it.
        with suppress(type(error)):
            assert row_scores(model, *rest, scorer=scorer, metric=metric) is None
        return
    found = row_scores(model, *rest, scorer=scorer, metric=metric)
    if metric == "neg_max_error" and found is None:
        return
    if not np.isfinite(value):
        assert found is None
        return
    assert found is not None
    assert len(found) in (N, 40)
    assert np.isfinite(found).all()
    assert found.mean() == pytest.approx(value, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("kind", "metric"),
    [
        ("two", "accuracy"),
        ("text", "accuracy"),
        ("two", "neg_log_loss"),
        ("three", "neg_log_loss"),
        ("numbers", "neg_mean_absolute_error"),
        ("outputs", "neg_mean_squared_error"),
    ],
)
def test_scores_of_a_mean_are_the_rows_own(kind: str, metric: str) -> None:
    inputs, targets = drawn(kind)
    model = MODELS[kind].fit(inputs[:N], targets[:N])
    scorer = find_scorer(model, metric)
    found = row_scores(model, inputs[N:], targets[N:], scorer=scorer, metric=metric)
    assert found is not None
    for i in (0, 1, N - 1):
        row = slice(N + i, N + i + 1)
        if metric == "neg_log_loss":  # scikit-learn wants all classes
            classes = list(model.classes_)
            probabilities = model.predict_proba(inputs[row])[0]
            own = probabilities[classes.index(targets[row][0])]
            assert found[i] == pytest.approx(np.log(np.clip(own, np.finfo(float).eps, 1)))
        else:
            assert found[i] == pytest.approx(scorer(model, inputs[row], targets[row]))


def by_input(model: Any, X: Any, y: Any) -> float:
    """A scorer that reads the inputs: an error costs what a row's first column says."""
    costs = np.abs(np.asarray(X)[:, 0])
    return -float(np.average(model.predict(X) != y, weights=costs))


def of_moved_inputs(model: Any, X: Any, y: Any) -> float:
    """A scorer that asks the model for other inputs than the rows."""
    return -float(np.mean(model.predict(np.asarray(X) + 0.5) != y))


OWN: dict[str, Callable[..., float]] = {
    "reads the inputs": by_input,
    "moves the inputs": of_moved_inputs,
    "made of a function": make_scorer(fbeta_score, beta=2),
    "asks for probabilities": make_scorer(
        lambda y, p: -float(((p - y) ** 2).mean()), response_method="predict_proba"
    ),
}


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("frame", [False, True], ids=["array", "frame"])
@pytest.mark.parametrize("name", OWN)
def test_own_scorers_are_scored_without_each_group(name: str, frame: bool) -> None:
    inputs, targets = drawn("two")
    rows = pd.DataFrame(inputs, columns=["a", "b", "c"]) if frame else inputs
    fitted, rest = rows[:N], rows[N:]
    model = LogisticRegression().fit(fitted, targets[:N])
    scorer = find_scorer(model, OWN[name])
    found = row_scores(model, rest, targets[N:], scorer=scorer, metric=OWN[name])
    value = scorer(model, rest, targets[N:])
    assert found is not None
    assert found.mean() == pytest.approx(value)
    # As with the model itself in place of what it has predicted.
    kept = np.delete(np.arange(N), np.array_split(np.random.default_rng(0).permutation(N), 40)[0])
    again = scorer(model, rest.iloc[kept] if frame else rest[kept], targets[N:][kept])
    assert found[0] - found.mean() == pytest.approx(40 * len(kept) / N * (value - again), abs=0.02)


def test_a_model_predicts_once() -> None:
    class Counting(LogisticRegression):
        n_calls = 0

        def predict_proba(self, X: Any) -> Any:
            Counting.n_calls += 1
            return super().predict_proba(X)

    inputs, targets = drawn("two")
    model = Counting().fit(inputs[:N], targets[:N])
    Counting.n_calls = 0
    own = make_scorer(lambda y, p: float(p.mean()), response_method="predict_proba")
    found = row_scores(model, inputs[N:], targets[N:], scorer=own, metric=own)
    assert found is not None
    assert Counting.n_calls == 1


def test_a_score_of_the_estimator_s_own_is_asked_of_it() -> None:
    inputs, _ = drawn("two")
    model = KMeans(3, n_init=1, random_state=0).fit(inputs[:N])
    scorer = find_scorer(model, None)
    found = row_scores(model, inputs[N:], np.zeros(N), scorer=scorer, metric=None)
    assert found is not None
    assert found.mean() == pytest.approx(model.score(inputs[N:]))  # a sum over rows


def test_a_scorer_that_needs_all_rows_has_no_row_scores() -> None:
    def of_all(model: Any, X: Any, y: Any) -> float:
        if len(X) < N:
            raise ValueError("all rows, please")
        return float((model.predict(X) == y).mean())

    inputs, targets = drawn("two")
    model = LogisticRegression().fit(inputs[:N], targets[:N])
    scorer = find_scorer(model, of_all)
    rest = inputs[N:], targets[N:]
    assert row_scores(model, *rest, scorer=scorer, metric=of_all) is None


@pytest.mark.parametrize("metric", [None, "roc_auc", "average_precision"])
def test_objective_gives_scores_that_pass_its_check(metric: str | None) -> None:
    inputs, targets = make_classification(300, random_state=0)
    objective = SklearnObjective(
        LogisticRegression(), inputs[:150], targets[:150], metric=metric, folds=3
    )
    model = objective.fit(objective.search_space.defaults(), 0)
    data = inputs[150:], targets[150:]
    assert objective.scored_unit == ("row group" if metric == "average_precision" else "row")
    (value,) = objective.evaluate(model, data).values()
    found = objective.checked_row_scores(model, data, value)
    assert found is not None
    assert found.mean() == pytest.approx(value)


def test_labels_are_right_as_a_row() -> None:
    inputs, targets = make_multilabel_classification(200, n_classes=3, random_state=0)
    model = RandomForestClassifier(5, random_state=0).fit(inputs[:100], targets[:100])
    scorer = find_scorer(model, "accuracy")
    found = row_scores(model, inputs[100:], targets[100:], scorer=scorer, metric="accuracy")
    right = (model.predict(inputs[100:]) == targets[100:]).all(axis=1)
    np.testing.assert_array_equal(found, right)
