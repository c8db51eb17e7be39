"""The usual scikit-learn estimators, each with its own ranges, defaults and sources.

One entry of `ESTIMATOR_ROWS` is an estimator's class and what is tuned of it. Nothing here imports
scikit-learn: an estimator is known by its class.
"""

from __future__ import annotations

from dataclasses import replace
from numbers import Real
from typing import TYPE_CHECKING, Any

from optuna.distributions import IntDistribution

from hpolab.errors import InvalidArgument, InvalidType, check_count, one_of
from hpolab.keywords import checks_keywords
from hpolab.logs import get_logger
from hpolab.search_space.rows import Row, space_of
from hpolab.search_space.space import SearchSpace

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["ESTIMATORS", "ESTIMATOR_ROWS", "estimator_space", "space_around"]

_logger = get_logger(__name__)

_SVM_GUIDE = "Hsu, Chang, Lin, 'A practical guide to support vector classification', section 3.2"
_IMPORTANCE = "van Rijn & Hutter 2018, 'Hyperparameter importance across datasets', KDD"
_TUNABILITY = "Probst, Boulesteix, Bischl 2019, 'Tunability', JMLR 20, table 1"
_FORESTS = "Probst, Wright, Boulesteix 2019, 'Hyperparameters and tuning strategies for RF'"
_AUTO = "auto-sklearn's component of that name (Feurer et al. 2015)"
_DOCS = "the choices of scikit-learn's documentation"


_SVM_C = Row((2.0**-5, 2.0**15, "log"), 1.0, f"{_SVM_GUIDE}; {_IMPORTANCE}")
# Categorical, as "scale" is the default and depends on the data: no number could stand for it.
_GAMMA = Row(
    ["scale", *(2.0**k for k in range(-15, 4, 2))],
    "scale",
    f"{_SVM_GUIDE}: its grid 2^-15, 2^-13 .. 2^3, and scikit-learn's default",
    only_if=("kernel", ("rbf", "poly", "sigmoid")),
)
_GLMNET_ALPHA = Row((2.0**-10, 2.0**10, "log"), 1.0, f"{_TUNABILITY}: lambda of glmnet")


def _forest(max_features: str | float) -> dict[str, Row]:
    return {
        "max_features": Row(
            ["sqrt", 0.1, 0.25, 0.5, 0.75, 1.0],
            max_features,
            f"{_FORESTS}: mtry matters most; {_IMPORTANCE}: 0.1 .. 0.9",
        ),
        "min_samples_leaf": Row((1, 20, "log"), 1, _IMPORTANCE),
        "min_samples_split": Row((2, 20, "log"), 2, _IMPORTANCE),
    }


# Only a bootstrap draws a part of the rows. (The number of trees is no matter of tuning: more are
# better, says Probst & Boulesteix 2018, JMLR 18.)
_MAX_SAMPLES = Row(
    [None, 0.2, 0.4, 0.6, 0.8],
    None,
    f"{_FORESTS}: the sample size; {_TUNABILITY}: 0.1 .. 1",
    only_if=("bootstrap", (True,)),
)
_BOOSTING_RATE = Row((0.01, 1.0, "log"), 0.1, _AUTO)
_GRADIENT_BOOSTING = {
    "learning_rate": _BOOSTING_RATE,
    "n_estimators": Row((32, 512, "log"), 100, f"{_AUTO} has 512; sixteenth and whole of it"),
    "max_depth": Row((1, 15), 3, f"{_TUNABILITY}: max_depth of xgboost"),
    "min_samples_leaf": Row((1, 200, "log"), 1, _AUTO),
    "subsample": Row((0.1, 1.0), 1.0, f"{_TUNABILITY}: subsample of xgboost"),
}
_HIST_GRADIENT_BOOSTING = {
    "learning_rate": _BOOSTING_RATE,
    "max_iter": Row((32, 512, "log"), 100, f"{_AUTO} has 512; sixteenth and whole of it"),
    "max_leaf_nodes": Row(
        (3, 255, "log"), 31, f"{_AUTO}: 3 .. 2047, ended where trees become costly"
    ),
    "min_samples_leaf": Row((1, 200, "log"), 20, _AUTO),
    "l2_regularization": Row(
        [0.0, 2.0**-10, 2.0**-5, 1.0, 2.0**5, 2.0**10],
        0.0,
        f"{_TUNABILITY}: lambda of xgboost, 2^-10 .. 2^10, and scikit-learn's default",
    ),
    "max_features": Row((0.1, 1.0), 1.0, f"{_TUNABILITY}: colsample_bylevel of xgboost, 0 .. 1"),
}
_MLP = {
    "hidden_layer_sizes": Row((16, 264, "log"), 100, f"{_AUTO}: nodes of a layer"),
    "activation": Row(["relu", "tanh"], "relu", _AUTO),
    "alpha": Row((1e-7, 1e-1, "log"), 1e-4, _AUTO),
    "learning_rate_init": Row((1e-4, 0.5, "log"), 1e-3, _AUTO, only_if=("solver", ("adam", "sgd"))),
}
_NEIGHBORS = {
    "n_neighbors": Row((1, 30), 5, f"{_TUNABILITY}: k of kknn"),
    "weights": Row(["uniform", "distance"], "uniform", _DOCS),
    "p": Row([2, 1], 2, f"{_AUTO}: Euclid's and Manhattan's", only_if=("metric", ("minkowski",))),
}
_PENALTY = Row(["l2", "l1", "elasticnet"], "l2", _AUTO)
_SGD_ALPHA = Row((1e-7, 1e-1, "log"), 1e-4, _AUTO)

ESTIMATOR_ROWS: Mapping[str, Mapping[str, Row]] = {
    "LogisticRegression": {
        "C": Row(
            (1e-4, 1e4, "log"),
            1.0,
            "the grid of scikit-learn's LogisticRegressionCV",
            # "deprecated" is what scikit-learn 1.8 calls the penalty that `l1_ratio` chooses.
            only_if=("penalty", ("deprecated", "l2", "l1", "elasticnet")),
        ),
    },
    "LinearSVC": {"C": _SVM_C},
    "SVC": {"C": _SVM_C, "gamma": _GAMMA},
    "SVR": {"C": _SVM_C, "gamma": _GAMMA, "epsilon": Row((1e-3, 1.0, "log"), 0.1, _AUTO)},
    "RandomForestClassifier": {**_forest("sqrt"), "max_samples": _MAX_SAMPLES},
    "RandomForestRegressor": {**_forest(1.0), "max_samples": _MAX_SAMPLES},
    "ExtraTreesClassifier": _forest("sqrt"),
    "ExtraTreesRegressor": _forest(1.0),
    "GradientBoostingClassifier": _GRADIENT_BOOSTING,
    "GradientBoostingRegressor": _GRADIENT_BOOSTING,
    "HistGradientBoostingClassifier": _HIST_GRADIENT_BOOSTING,
    "HistGradientBoostingRegressor": _HIST_GRADIENT_BOOSTING,
    "MLPClassifier": _MLP,
    "MLPRegressor": _MLP,
    "Ridge": {"alpha": _GLMNET_ALPHA},
    "RidgeClassifier": {"alpha": _GLMNET_ALPHA},
    "Lasso": {"alpha": _GLMNET_ALPHA},
    "ElasticNet": {
        "alpha": _GLMNET_ALPHA,
        "l1_ratio": Row(
            (0.01, 1.0),
            0.5,
            f"{_TUNABILITY}: alpha of glmnet, 0 .. 1; coordinate descent cannot do 0",
        ),
    },
    "KNeighborsClassifier": _NEIGHBORS,
    "KNeighborsRegressor": _NEIGHBORS,
    "SGDClassifier": {
        "loss": Row(
            ["hinge", "log_loss", "modified_huber", "squared_hinge", "perceptron"], "hinge", _AUTO
        ),
        "penalty": _PENALTY,
        "alpha": _SGD_ALPHA,
    },
    "SGDRegressor": {
        "loss": Row(
            ["squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"],
            "squared_error",
            _AUTO,
        ),
        "penalty": _PENALTY,
        "alpha": _SGD_ALPHA,
        "eta0": Row(
            (1e-7, 1e-1, "log"),
            0.01,
            _AUTO,
            only_if=("learning_rate", ("invscaling", "constant", "adaptive")),
        ),
    },
}
"""Class name -> argument -> what is tuned of it."""

ESTIMATORS: tuple[str, ...] = tuple(ESTIMATOR_ROWS)
"""The scikit-learn classes that `estimator_space` knows."""


@checks_keywords()
def estimator_space(
    estimator: Any, *, n_rows: int | None = None, fixed: Collection[str] = ()
) -> SearchSpace:
    """Return the search space of one of scikit-learn's usual estimators.

    Its defaults are the estimator as it is given, scikit-learn's own for a name: the first trial
    of a study is then the estimator itself. What would change nothing is left out, such as
    `gamma` of a linear kernel.

    The ranges of support vector machines, neighbors, networks and linear models suit inputs of
    scale 1: put a ``StandardScaler`` before them. `gamma` is tuned on a grid, because its default
    "scale" depends on the data; ``.override(gamma=(2**-15, 2**3, "log"))``
    makes it a range without that default.

    Args:
        estimator: A class's name, of those in `ESTIMATORS`; such an estimator; or a Pipeline that
            ends in one, whose parameters then carry that step's prefix.
        n_rows: Rows of the smallest part that is fitted, 1 or above: no more neighbors are tuned.
        fixed: Names of arguments that keep the estimator's own value, whatever it is.

    Raises:
        InvalidArgument: If the estimator is none of them, or an argument of it is outside its
            range.
        InvalidType: If ``estimator`` is a class, not an object of it.

    Example:
        >>> estimator_space("LogisticRegression")
        SearchSpace(
          C: 0.0001 .. 10000.0 (log scale), default 1.0
        )
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.preprocessing import StandardScaler
        >>> from sklearn.svm import SVC
        >>> estimator_space(make_pipeline(StandardScaler(), SVC(kernel="linear", C=10)))
        SearchSpace(
          svc__C: 0.03125 .. 32768.0 (log scale), default 10.0
        )
    """
    if isinstance(estimator, type):
        raise InvalidType(
            f"`estimator` must be an estimator or a name, got the class {estimator.__name__}: "
            f"take {estimator.__name__}()."
        )
    if n_rows is not None:
        check_count("n_rows", n_rows)
    prefix = ""
    while hasattr(estimator, "steps"):
        name, estimator = estimator.steps[-1]
        prefix += f"{name}__"
    if isinstance(estimator, str):
        rows, given = ESTIMATOR_ROWS[one_of("estimator", estimator, ESTIMATOR_ROWS)], {}
    else:
        rows, given = _rows(estimator), estimator.get_params(deep=False)
    table: dict[str, Any] = {}
    for key, row in rows.items():
        default = _plain(given.get(key, row.default))
        if key in fixed:
            table[prefix + key] = default
        # Several layers, or an alpha for each output: the user's own affair.
        elif row.applies_to(given) and _is_single(default) and (not given or key in given):
            table[prefix + key] = _with_default(key, _within(key, row, n_rows), default)
    return space_of(table)


def _within(key: str, row: Row, n_rows: int | None) -> Row:
    """Return the row without more neighbors than there are rows."""
    if key != "n_neighbors" or n_rows is None or n_rows >= row.spec[1]:
        return row
    return replace(
        row,
        spec=IntDistribution(1, n_rows),
        source=f"{row.source}, and no more than the {n_rows} rows that are fitted",
    )


def _rows(estimator: Any) -> Mapping[str, Row]:
    for cls in type(estimator).__mro__:
        if cls.__name__ in ESTIMATOR_ROWS and cls.__module__.startswith("sklearn."):
            return ESTIMATOR_ROWS[cls.__name__]
    raise InvalidArgument(
        f"`estimator` must be one of {', '.join(ESTIMATORS)}, or a Pipeline that ends in one, to "
        f"have a usual search space, got {type(estimator).__name__}: give a `search_space`."
    )


def _plain(value: Any) -> Any:
    # `hidden_layer_sizes=(100,)` is the default, and 100 the same.
    return value[0] if isinstance(value, (tuple, list)) and len(value) == 1 else value


def _is_single(value: Any) -> bool:
    return value is None or isinstance(value, (bool, str, Real))


def _with_default(key: str, row: Row, default: Any) -> Row:
    """Return the row with an estimator's own value as its default, which must be in its range."""
    if isinstance(row.spec, list):
        choices = row.spec if default in row.spec else [*row.spec, default]
        return replace(row, spec=choices, default=default)
    spec = row.spec
    low, high = (spec.low, spec.high) if isinstance(spec, IntDistribution) else spec[:2]
    if not isinstance(default, Real) or not low <= float(default) <= high:
        raise InvalidArgument(
            f"`estimator` must have {key} in {low} .. {high}, its usual range, got "
            f"{key}={default!r}: give a `search_space`."
        )
    return replace(row, default=default)


def space_around(estimator: Any, ranges: Mapping[str, Any]) -> SearchSpace:
    """Return a space of plain ranges whose default is the estimator's own value, where it has one.

    A value outside its range, such as "scale" of an SVC's gamma, cannot be the default: it is the
    middle of the range then, which the log says.

    Args:
        estimator: The estimator or pipeline.
        ranges: As `SearchSpace` takes them.
    """
    space = SearchSpace(ranges)
    own = estimator.get_params(deep=True)
    tuned = [name for name in space.distributions() if name in own]
    defaults, others = {}, {}
    for name in tuned:
        try:
            SearchSpace({name: ranges[name]}, defaults={name: own[name]})
        except (InvalidArgument, InvalidType):
            others[name] = own[name]
        else:
            defaults[name] = own[name]
    if others:
        shown = ", ".join(f"{name}={value!r}" for name, value in others.items())
        _logger.info(
            f"The default of {type(estimator).__name__} has {shown}, outside the range, so the "
            "first trial takes the middle of the range there."
        )
    return SearchSpace(ranges, defaults=defaults)
