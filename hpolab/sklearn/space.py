"""The usual scikit-learn estimators, each with its own ranges, defaults and sources.

One entry of `ESTIMATOR_ROWS` is an estimator's class and what is tuned of it. Nothing here imports
scikit-learn: an estimator is known by its class.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

from optuna.distributions import FloatDistribution, IntDistribution

from hpolab.errors import InvalidArgument, InvalidType, one_of
from hpolab.search_space.space import SearchSpace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["ESTIMATORS", "ESTIMATOR_ROWS", "Tuned", "estimator_space"]

_SVM_GUIDE = "Hsu, Chang, Lin, 'A practical guide to support vector classification', section 3.2"
_IMPORTANCE = "van Rijn & Hutter 2018, 'Hyperparameter importance across datasets', KDD"
_TUNABILITY = "Probst, Boulesteix, Bischl 2019, 'Tunability', JMLR 20, table 1"
_FORESTS = "Probst, Wright, Boulesteix 2019, 'Hyperparameters and tuning strategies for RF'"
_AUTO = "auto-sklearn's component of that name (Feurer et al. 2015)"
_DOCS = "the choices of scikit-learn's documentation"


@dataclass(frozen=True)
class Tuned:
    """What is tuned of one argument of an estimator.

    Attributes:
        spec: A distribution, or the choices.
        default: scikit-learn's own default.
        source: Where the range comes from.
        only_if: (argument, values): tuned only where that argument of the estimator has one of
            these values, its default among them; else it would change nothing, or be refused.
    """

    spec: FloatDistribution | IntDistribution | Sequence[Any]
    default: Any
    source: str
    only_if: tuple[str, tuple[Any, ...]] | None = None

    def applies_to(self, given: Mapping[str, Any]) -> bool:
        """Tell whether the argument matters to an estimator with the arguments ``given``."""
        if self.only_if is None:
            return True
        argument, values = self.only_if
        return given.get(argument, values[0]) in values


def _log(low: float, high: float) -> FloatDistribution:
    return FloatDistribution(low, high, log=True)


def _log_int(low: int, high: int) -> IntDistribution:
    return IntDistribution(low, high, log=True)


_SVM_C = Tuned(_log(2.0**-5, 2.0**15), 1.0, f"{_SVM_GUIDE}; {_IMPORTANCE}")
# Categorical, as "scale" is the default and depends on the data: no number could stand for it.
_GAMMA = Tuned(
    ("scale", *(2.0**k for k in range(-15, 4, 2))),
    "scale",
    f"{_SVM_GUIDE}: its grid 2^-15, 2^-13 .. 2^3, and scikit-learn's default",
    only_if=("kernel", ("rbf", "poly", "sigmoid")),
)
_GLMNET_ALPHA = Tuned(_log(2.0**-10, 2.0**10), 1.0, f"{_TUNABILITY}: lambda of glmnet")


def _forest(max_features: str | float) -> dict[str, Tuned]:
    return {
        "max_features": Tuned(
            ("sqrt", 0.1, 0.25, 0.5, 0.75, 1.0),
            max_features,
            f"{_FORESTS}: mtry matters most; {_IMPORTANCE}: 0.1 .. 0.9",
        ),
        "min_samples_leaf": Tuned(_log_int(1, 20), 1, _IMPORTANCE),
        "min_samples_split": Tuned(_log_int(2, 20), 2, _IMPORTANCE),
    }


# Only a bootstrap draws a part of the rows. (The number of trees is no matter of tuning: more are
# better, says Probst & Boulesteix 2018, JMLR 18.)
_MAX_SAMPLES = Tuned(
    (None, 0.2, 0.4, 0.6, 0.8),
    None,
    f"{_FORESTS}: the sample size; {_TUNABILITY}: 0.1 .. 1",
    only_if=("bootstrap", (True,)),
)
_BOOSTING_RATE = Tuned(_log(0.01, 1.0), 0.1, _AUTO)
_GRADIENT_BOOSTING = {
    "learning_rate": _BOOSTING_RATE,
    "n_estimators": Tuned(_log_int(32, 512), 100, f"{_AUTO} has 512; sixteenth and whole of it"),
    "max_depth": Tuned(IntDistribution(1, 15), 3, f"{_TUNABILITY}: max_depth of xgboost"),
    "min_samples_leaf": Tuned(_log_int(1, 200), 1, _AUTO),
    "subsample": Tuned(FloatDistribution(0.1, 1.0), 1.0, f"{_TUNABILITY}: subsample of xgboost"),
}
_HIST_GRADIENT_BOOSTING = {
    "learning_rate": _BOOSTING_RATE,
    "max_iter": Tuned(_log_int(32, 512), 100, f"{_AUTO} has 512; sixteenth and whole of it"),
    "max_leaf_nodes": Tuned(
        _log_int(3, 255), 31, f"{_AUTO}: 3 .. 2047, ended where trees become costly"
    ),
    "min_samples_leaf": Tuned(_log_int(1, 200), 20, _AUTO),
    "l2_regularization": Tuned(
        (0.0, 2.0**-10, 2.0**-5, 1.0, 2.0**5, 2.0**10),
        0.0,
        f"{_TUNABILITY}: lambda of xgboost, 2^-10 .. 2^10, and scikit-learn's default",
    ),
    "max_features": Tuned(
        FloatDistribution(0.1, 1.0), 1.0, f"{_TUNABILITY}: colsample_bylevel of xgboost, 0 .. 1"
    ),
}
_MLP = {
    "hidden_layer_sizes": Tuned(_log_int(16, 264), 100, f"{_AUTO}: nodes of a layer"),
    "activation": Tuned(("relu", "tanh"), "relu", _AUTO),
    "alpha": Tuned(_log(1e-7, 1e-1), 1e-4, _AUTO),
    "learning_rate_init": Tuned(_log(1e-4, 0.5), 1e-3, _AUTO, only_if=("solver", ("adam", "sgd"))),
}
_NEIGHBORS = {
    "n_neighbors": Tuned(IntDistribution(1, 30), 5, f"{_TUNABILITY}: k of kknn"),
    "weights": Tuned(("uniform", "distance"), "uniform", _DOCS),
    "p": Tuned((2, 1), 2, f"{_AUTO}: Euclid's and Manhattan's", only_if=("metric", ("minkowski",))),
}
_PENALTY = Tuned(("l2", "l1", "elasticnet"), "l2", _AUTO)
_SGD_ALPHA = Tuned(_log(1e-7, 1e-1), 1e-4, _AUTO)

ESTIMATOR_ROWS: Mapping[str, Mapping[str, Tuned]] = {
    "LogisticRegression": {
        "C": Tuned(_log(1e-4, 1e4), 1.0, "the grid of scikit-learn's LogisticRegressionCV"),
    },
    "LinearSVC": {"C": _SVM_C},
    "SVC": {"C": _SVM_C, "gamma": _GAMMA},
    "SVR": {"C": _SVM_C, "gamma": _GAMMA, "epsilon": Tuned(_log(1e-3, 1.0), 0.1, _AUTO)},
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
        "l1_ratio": Tuned(
            FloatDistribution(0.01, 1.0),
            0.5,
            f"{_TUNABILITY}: alpha of glmnet, 0 .. 1; coordinate descent cannot do 0",
        ),
    },
    "KNeighborsClassifier": _NEIGHBORS,
    "KNeighborsRegressor": _NEIGHBORS,
    "SGDClassifier": {
        "loss": Tuned(
            ("hinge", "log_loss", "modified_huber", "squared_hinge", "perceptron"), "hinge", _AUTO
        ),
        "penalty": _PENALTY,
        "alpha": _SGD_ALPHA,
    },
    "SGDRegressor": {
        "loss": Tuned(
            ("squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"),
            "squared_error",
            _AUTO,
        ),
        "penalty": _PENALTY,
        "alpha": _SGD_ALPHA,
        "eta0": Tuned(
            _log(1e-7, 1e-1),
            0.01,
            _AUTO,
            only_if=("learning_rate", ("invscaling", "constant", "adaptive")),
        ),
    },
}

ESTIMATORS: tuple[str, ...] = tuple(ESTIMATOR_ROWS)
"""The scikit-learn classes that `estimator_space` knows."""
"""Class name -> argument -> what is tuned of it."""


def estimator_space(estimator: Any) -> SearchSpace:
    """Return the search space of one of scikit-learn's usual estimators.

    Its defaults are the estimator as it is given, scikit-learn's own for a name: the first trial
    of a study is then the estimator itself. What would change nothing is left out, such as
    `gamma` of a linear kernel.

    The ranges of support vector machines, neighbors, networks and linear models suit inputs of
    scale 1: put a ``StandardScaler`` before them. `gamma` is tuned on a grid, because its default
    "scale" depends on the data; ``.override(gamma=FloatDistribution(2**-15, 2**3, log=True))``
    makes it a range without that default.

    Args:
        estimator: A class's name, of those in `ESTIMATORS`; such an estimator; or a Pipeline that
            ends in one, whose parameters then carry that step's prefix.

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
    prefix = ""
    while hasattr(estimator, "steps"):
        name, estimator = estimator.steps[-1]
        prefix += f"{name}__"
    if isinstance(estimator, str):
        row, given = ESTIMATOR_ROWS[one_of("estimator", estimator, ESTIMATOR_ROWS)], {}
    else:
        row, given = _row(estimator), estimator.get_params(deep=False)
    specs: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    for key, tuned in row.items():
        default = _plain(given.get(key, tuned.default))
        # Several layers, or an alpha for each output: the user's own affair.
        if tuned.applies_to(given) and _is_single(default):
            specs[prefix + key] = _spec_with(key, tuned, default)
            defaults[prefix + key] = default
    sources = {prefix + key: row[key].source for key in row if prefix + key in specs}
    return SearchSpace(specs, defaults=defaults, sources=sources)


def _row(estimator: Any) -> Mapping[str, Tuned]:
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


def _spec_with(key: str, tuned: Tuned, default: Any) -> Any:
    """Return the range of an argument, whose default must be in it."""
    spec = tuned.spec
    if not isinstance(spec, (FloatDistribution, IntDistribution)):
        return list(spec) if default in spec else [*spec, default]
    if not isinstance(default, Real) or not spec.low <= float(default) <= spec.high:
        raise InvalidArgument(
            f"`estimator` must have {key} in {spec.low} .. {spec.high}, its usual range, got "
            f"{key}={default!r}: give a `search_space`."
        )
    return spec
