"""Parameters that a scikit-learn estimator ignores in silence beside others: gamma, if linear."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpolab.errors import InvalidArgument
from hpolab.search_space.reach import values_beside, values_of
from hpolab.sklearn.space import ESTIMATOR_ROWS, ESTIMATORS
from hpolab.sklearn.training import last_step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hpolab.search_space.space import SearchSpace

__all__ = ["refuse_unread", "trained_of"]

_SVM = {
    "degree": ("kernel", ("poly",)),
    "coef0": ("kernel", ("poly", "sigmoid")),
}
_MLP = {
    "learning_rate": ("solver", ("sgd",)),
    "momentum": ("solver", ("sgd",)),
    "nesterovs_momentum": ("solver", ("sgd",)),
    "power_t": ("solver", ("sgd",)),
    "beta_1": ("solver", ("adam",)),
    "beta_2": ("solver", ("adam",)),
    "epsilon": ("solver", ("adam",)),
    "batch_size": ("solver", ("adam", "sgd")),
}
_SGD = {"l1_ratio": ("penalty", ("elasticnet",))}

# Class -> argument -> (another argument, the values of it under which this one is read), as the
# class's page of scikit-learn's documentation says, beside what `ESTIMATOR_ROWS` says of ranges.
_READ_IF: Mapping[str, Mapping[str, tuple[str, tuple[Any, ...]]]] = {
    "SVC": _SVM,
    "SVR": _SVM,
    "MLPClassifier": _MLP,
    "MLPRegressor": _MLP,
    "SGDClassifier": {
        **_SGD,
        "eta0": ("learning_rate", ("constant", "invscaling", "adaptive")),
        "power_t": ("learning_rate", ("invscaling",)),
    },
    "SGDRegressor": {**_SGD, "power_t": ("learning_rate", ("invscaling",))},
}

# What people call a contender by, beside the estimator.
_KINDS = {
    "kernel": ("linear", "poly", "rbf", "sigmoid"),
    "penalty": ("l1", "l2", "elasticnet"),
    "solver": ("adam", "sgd", "lbfgs"),
}


def refuse_unread(space: SearchSpace, estimator: Any) -> None:
    """Refuse a search space with a parameter that the estimator would not read.

    Args:
        space: The search space.
        estimator: The estimator, which has all its parameters; of a Pipeline, the last step.

    Raises:
        InvalidArgument: If a tuned parameter would change nothing.

    Example:
        >>> from sklearn.svm import SVC
        >>> from hpolab import SearchSpace
        >>> refuse_unread(SearchSpace({"gamma": (0.1, 1.0)}), SVC(kernel="linear"))
        Traceback (most recent call last):
        hpolab.errors.InvalidArgument: `search_space` must hold names that SVC reads, got 'gamma', \
which it reads only if 'kernel' is 'rbf', 'poly' or 'sigmoid': set that on the estimator, or leave \
'gamma' out.
    """
    prefix, learner = last_step(estimator)
    if prefix and prefix.removesuffix("__").rpartition("__")[2] in space.trainer_names():
        return  # the step itself is tuned
    given = learner.get_params(deep=False)
    tuned = set(space.names().values())
    for name, (other, wanted) in _conditions(learner).items():
        if prefix + name not in tuned or other not in given:
            continue
        beside = [frozenset([given[other]])]
        if prefix + other in space.trainer_names():
            beside = list(values_beside(space, prefix + other)[prefix + name].values())
        if not all(any(_is(value, wanted) for value in values) for values in beside):
            *most, last = map(repr, wanted)
            listed = f"{', '.join(most)} or {last}" if most else last
            raise InvalidArgument(
                f"`search_space` must hold names that {type(learner).__name__} reads, got "
                f"{prefix + name!r}, which it reads only if {prefix + other!r} is {listed}: set "
                f"that on the estimator, or leave {prefix + name!r} out."
            )


def trained_of(
    space: SearchSpace, estimator: Any
) -> dict[str, tuple[frozenset[Any], tuple[str, ...]]]:
    """Return what a contender may be called by; see `Objective._trained`."""
    prefix, learner = last_step(estimator)
    given = learner.get_params(deep=False)
    names = {type(each).__name__ for each in (estimator, learner)}
    if prefix.removesuffix("__") in space.trainer_names():
        return {}
    found = {"estimator": (frozenset(names), ESTIMATORS)}
    for name, known in _KINDS.items():
        if name in given and given[name] in known:
            tuned = prefix + name in space.trainer_names()
            mine = values_of(space, prefix + name) if tuned else frozenset([given[name]])
            found[name] = (mine, known)
    return found


def _conditions(learner: Any) -> dict[str, tuple[str, tuple[Any, ...]]]:
    kind = type(learner).__name__
    if not type(learner).__module__.startswith("sklearn."):
        return {}
    rows = ESTIMATOR_ROWS.get(kind, {})
    of_rows = {name: row.only_if for name, row in rows.items() if row.only_if is not None}
    return {**of_rows, **_READ_IF.get(kind, {})}


def _is(value: Any, wanted: tuple[Any, ...]) -> bool:
    # A kernel may be a function of the user's own, of which nothing is known.
    return callable(value) or value in wanted
