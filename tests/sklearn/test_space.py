"""Every scikit-learn estimator's space: its arguments, its defaults, and that it trains."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from sklearn.base import is_classifier
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, Ridge, SGDRegressor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils import all_estimators
from threadpoolctl import threadpool_limits

from hpolab import (
    ESTIMATORS,
    InvalidArgument,
    InvalidType,
    SearchSpace,
    SklearnObjective,
    estimator_space,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

CLASSES = {name: cls for name, cls in all_estimators() if name in ESTIMATORS}
IRIS = tuple(part[::2] for part in load_iris(return_X_y=True))
DIABETES = tuple(part[:80] for part in load_diabetes(return_X_y=True))
EXPECTED = {
    # Transcribed from the sources: (estimator, argument): (low, high)
    ("SVC", "C"): (2**-5, 2**15),
    ("SVR", "C"): (2**-5, 2**15),
    ("LinearSVC", "C"): (2**-5, 2**15),
    ("RandomForestClassifier", "min_samples_leaf"): (1, 20),
    ("RandomForestClassifier", "min_samples_split"): (2, 20),
    ("ElasticNet", "alpha"): (2**-10, 2**10),
    ("KNeighborsClassifier", "n_neighbors"): (1, 30),
    ("HistGradientBoostingClassifier", "learning_rate"): (0.01, 1.0),
    ("HistGradientBoostingClassifier", "min_samples_leaf"): (1, 200),
    ("MLPClassifier", "hidden_layer_sizes"): (16, 264),
    ("MLPClassifier", "alpha"): (1e-7, 1e-1),
    ("SGDClassifier", "alpha"): (1e-7, 1e-1),
}
each_estimator = pytest.mark.parametrize("name", ESTIMATORS)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads that spin for each other cost more than models of this size."""
    with threadpool_limits(1):
        yield


def plain(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) else value


@each_estimator
def test_defaults_are_scikit_learn_s_own(name: str) -> None:
    arguments = CLASSES[name]().get_params()
    for key, value in estimator_space(name).defaults().items():
        assert value == plain(arguments[key])
        assert type(value) is type(plain(arguments[key]))


@each_estimator
def test_an_estimator_and_its_name_have_one_space(name: str) -> None:
    assert estimator_space(CLASSES[name]()) == estimator_space(name)


@each_estimator
def test_each_range_has_a_source(name: str) -> None:
    space = estimator_space(name)
    assert space.sources().keys() == space.distributions().keys()
    assert all(space.sources().values())


@each_estimator
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_suggested_trains(name: str) -> None:
    small = {"n_estimators": 5, "max_iter": 5} if "Boosting" in name or "MLP" in name else {}
    model = CLASSES[name]()
    known = estimator_space(name).defaults().keys()
    space = estimator_space(name).override(**{k: v for k, v in small.items() if k in known})
    if "MLP" in name:
        model.set_params(max_iter=5)
    if "Forest" in name or "ExtraTrees" in name:
        model.set_params(n_estimators=5)
    data = IRIS if is_classifier(model) else DIABETES
    objective = SklearnObjective(
        make_pipeline(StandardScaler(), model),
        data,
        search_space=SearchSpace.from_dict(prefixed(space.to_dict(), f"{name.lower()}__")),
        folds=2,
    )
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(objective.search_space.to_trial(objective.search_space.defaults()))
    study.optimize(objective, n_trials=4)
    assert study.trials[0].state.name == "COMPLETE"
    assert {t.state.name for t in study.trials} <= {"COMPLETE", "PRUNED"}


def prefixed(values: dict[str, Any], prefix: str) -> dict[str, Any]:
    rows = [{**row, "name": prefix + row["name"]} for row in values["parameters"]]
    return {"parameters": rows}


@pytest.mark.parametrize(("name", "key"), EXPECTED)
def test_ranges_are_those_of_their_sources(name: str, key: str) -> None:
    distribution = estimator_space(name).distributions()[key]
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    assert (distribution.low, distribution.high) == EXPECTED[name, key]


def test_gamma_has_the_grid_of_the_guide_and_scikit_learn_s_default() -> None:
    gamma = estimator_space("SVC").distributions()["gamma"]
    assert isinstance(gamma, CategoricalDistribution)
    assert gamma.choices == ("scale", *(2.0**k for k in (-15, -13, -11, -9, -7, -5, -3, -1, 1, 3)))
    numbers = FloatDistribution(2**-15, 2**3, log=True)
    assert estimator_space("SVC").override(gamma=numbers).distributions()["gamma"] == numbers


@pytest.mark.parametrize(
    ("model", "key", "default"),
    [
        (LogisticRegression(C=0.5), "C", 0.5),
        (LogisticRegression(C=np.float64(0.5)), "C", 0.5),
        (SVC(gamma=0.05), "gamma", 0.05),
        (SVC(gamma="auto"), "gamma", "auto"),
        (RandomForestClassifier(max_features="log2"), "max_features", "log2"),
        (MLPClassifier(hidden_layer_sizes=(32,)), "hidden_layer_sizes", 32),
        (Pipeline([("a", StandardScaler()), ("b", Ridge(alpha=3.0))]), "b__alpha", 3.0),
        (make_pipeline(StandardScaler(), make_pipeline(Ridge())), "pipeline__ridge__alpha", 1.0),
    ],
)
def test_an_estimator_s_own_arguments_are_its_defaults(model: Any, key: str, default: Any) -> None:
    assert estimator_space(model).defaults()[key] == default


@pytest.mark.parametrize(
    ("model", "key"),
    [
        (SVC(kernel="linear"), "gamma"),
        (RandomForestClassifier(bootstrap=False), "max_samples"),
        (SGDRegressor(learning_rate="optimal"), "eta0"),
        (MLPClassifier(solver="lbfgs"), "learning_rate_init"),
        (MLPClassifier(hidden_layer_sizes=(32, 32)), "hidden_layer_sizes"),
        (Ridge(alpha=[1.0, 2.0]), "alpha"),
    ],
)
def test_what_would_change_nothing_or_break_is_not_tuned(model: Any, key: str) -> None:
    assert key in estimator_space(type(model).__name__).defaults()
    assert key not in estimator_space(model).defaults()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("Rigde", r"`estimator` .* got 'Rigde'\. Did you mean 'Ridge'\?"),
        (StandardScaler(), r"`estimator` must be one of .* got StandardScaler: give a"),
        (Ridge(alpha=0), r"must have alpha in 0\.0009.* \.\. 1024\.0, .* got alpha=0"),
        (
            HistGradientBoostingClassifier(max_leaf_nodes=None),
            r"must have max_leaf_nodes in 3 \.\. 255, .* got max_leaf_nodes=None",
        ),
    ],
)
def test_an_estimator_without_a_usual_space_is_refused(model: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        estimator_space(model)


def test_a_class_is_refused() -> None:
    with pytest.raises(InvalidType, match=r"got the class Ridge: take Ridge\(\)"):
        estimator_space(Ridge)


def test_a_class_of_the_user_s_own_is_known_by_its_parent_in_scikit_learn() -> None:
    class Ours(LogisticRegression):
        pass

    class SVC:
        pass

    assert estimator_space(Ours()) == estimator_space("LogisticRegression")
    with pytest.raises(InvalidArgument, match="got SVC"):
        estimator_space(SVC())


def test_spaces_cost_no_import_of_scikit_learn() -> None:
    code = (
        "import sys\nfrom hpolab import estimator_space\n"
        "estimator_space('SVC')\nprint('sklearn' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"


@pytest.mark.parametrize(("n_rows", "high"), [(1_000, 30), (30, 30), (29, 29), (5, 5)])
def test_no_more_neighbors_are_tuned_than_rows_are_fitted(n_rows: int, high: int) -> None:
    for model in ("KNeighborsClassifier", make_pipeline(StandardScaler(), CLASSES[NEIGHBORS]())):
        space = estimator_space(model, n_rows=n_rows).distributions()
        (neighbors,) = [each for name, each in space.items() if name.endswith("n_neighbors")]
        assert isinstance(neighbors, IntDistribution)
        assert (neighbors.low, neighbors.high) == (1, high)


NEIGHBORS = "KNeighborsRegressor"


@pytest.mark.parametrize(
    ("fidelity", "options", "high"),
    [("folds", {"folds": 5}, 20), ("folds", {"folds": 25}, 24), ("rows", {"folds": 5}, 7)],
)
def test_neighbors_fit_the_smallest_part_that_is_fitted(
    fidelity: str, options: dict[str, Any], high: int
) -> None:
    settings = {"fractions": (1 / 3, 1)} if fidelity == "rows" else {}
    objective = SklearnObjective(
        CLASSES["KNeighborsRegressor"](),
        (DIABETES[0][:25], DIABETES[1][:25]),
        metric="neg_mean_absolute_error",
        fidelity=fidelity,
        **options,
        **settings,
    )
    assert objective.search_space.distributions()["n_neighbors"].high == high


def test_an_estimator_with_more_neighbors_than_rows_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"n_neighbors in 1 \.\. 4, .* got n_neighbors=5"):
        estimator_space("KNeighborsClassifier", n_rows=4)


def test_what_is_fixed_keeps_any_value() -> None:
    model = HistGradientBoostingClassifier(max_iter=5_000)
    space = estimator_space(make_pipeline(model), fixed=["max_iter"])
    name = "histgradientboostingclassifier__max_iter"
    assert space.defaults()[name] == 5_000
    assert name not in space.distributions()


@pytest.mark.parametrize("model", [LogisticRegression(penalty=None), Ridge(alpha=[1.0, 2.0])])
def test_an_estimator_with_nothing_to_tune_asks_for_a_space(model: Any) -> None:
    assert not estimator_space(model).distributions()
    data = IRIS if is_classifier(model) else (DIABETES[0], np.c_[DIABETES[1], DIABETES[1]])
    with pytest.raises(InvalidArgument, match=r"`search_space` must be given .* nothing to tune"):
        SklearnObjective(model, data)


def test_arguments_that_a_subclass_has_not_are_not_tuned() -> None:
    assert not estimator_space(LogisticRegressionCV()).distributions()


def test_plain_ranges_start_at_the_estimators_own_values(caplog):
    """The default that a tuned pipeline is compared with is the user's own, not a middle."""
    pipeline = make_pipeline(StandardScaler(), SVC(C=7.0, kernel="poly"))
    ranges = {
        "svc__C": (0.1, 100.0, "log"),
        "svc__kernel": ["linear", "poly"],
        "svc__gamma": (1e-3, 1.0, "log"),
        "svc__tol": 1e-4,
    }
    optuna.logging.enable_propagation()
    try:
        with caplog.at_level("INFO"):
            objective = SklearnObjective(pipeline, load_iris(return_X_y=True), search_space=ranges)
    finally:
        optuna.logging.disable_propagation()
    defaults = objective.search_space.defaults()
    assert defaults["svc__C"] == 7.0
    assert defaults["svc__kernel"] == "poly"
    assert defaults["svc__gamma"] == pytest.approx(10**-1.5)
    assert defaults["svc__tol"] == 1e-4
    assert "svc__gamma='scale', outside the range" in caplog.text
