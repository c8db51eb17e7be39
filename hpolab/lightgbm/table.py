"""LabeledTable: checked training data, each part as LightGBM takes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.errors import InvalidArgument, InvalidType
from hpolab.frames import collected, is_missing
from hpolab.lightgbm.columns import take_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hpolab.lightgbm.columns import Matrix

__all__ = [
    "LabeledTable",
    "Labels",
    "as_numbers",
    "check_present",
    "class_weights",
    "column_of",
    "run_starts",
]

_BINARY = ("binary",)
_MULTICLASS = ("multiclass", "softmax", "multiclassova", "multiclass_ova", "ova", "ovr")
# More classes than this number and than this part of the rows are not classes, if they are real
# numbers: ratings by half stars are ten.
_FEW_CLASSES, _FEW_CLASSES_PART = 20, 0.1
_RANKING = ("lambdarank", "rank_xendcg", "xendcg", "xe_ndcg", "xe_ndcg_mart", "xendcg_mart")


@dataclass(frozen=True)
class Labels:
    """Check and encode labels for one of LightGBM's objectives.

    Attributes:
        objective: LightGBM's name of the objective; "custom" for a function.
        classes: The classes in the order of their codes; None where labels are numbers.
    """

    objective: str
    classes: tuple[Any, ...] | None

    @classmethod
    def of(cls, argument: str, objective: str, labels: Any) -> Labels:
        """Read the classes of training labels.

        Raises:
            InvalidArgument: If labels are missing or all the same, or a binary objective got more
                than two classes.
        """
        values = column_of(argument, labels)
        check_present(f"`{argument}` labels", values)
        if objective not in _BINARY + _MULTICLASS:
            if len(set(values.tolist())) < 2:
                raise InvalidArgument(
                    f"`{argument}` labels must differ, got {values.tolist()[0]!r} for all "
                    f"{len(values)} rows."
                )
            return cls(objective, None)
        try:
            classes = tuple(np.unique(values).tolist())
        except TypeError as error:
            raise InvalidType(
                f"`{argument}` labels must be of one type, got several: {error}."
            ) from error
        _check_classes(argument, objective, values, classes)
        if len(classes) < 2 or (objective in _BINARY and len(classes) > 2):
            wanted = "two classes" if objective in _BINARY else "at least two classes"
            raise InvalidArgument(
                f"`{argument}` labels must be of {wanted} for objective {objective!r}, got "
                f"{_shown(classes)}."
            )
        return cls(objective, classes)

    @property
    def ranking(self) -> bool:
        """Whether rows are ranked within their groups."""
        return self.objective in _RANKING

    @property
    def n_classes(self) -> int | None:
        """The value of LightGBM's `num_class`; None where it must not be set."""
        multiclass = self.classes is not None and self.objective in _MULTICLASS
        return len(self.classes or ()) if multiclass else None

    def encode(self, argument: str, labels: Any) -> NDArray[np.float64]:
        """Return labels as numbers (n,), classes as their codes.

        Raises:
            InvalidArgument: If a label is missing, is of no class of the training data, or is not
                what the objective takes.
            InvalidType: If labels must be numbers and are not.
        """
        values = column_of(argument, labels)
        check_present(f"`{argument}` labels", values)
        if self.classes is not None:
            return self._codes(argument, values)
        try:
            numbers = values.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidType(
                f"`{argument}` labels must be numbers for objective {self.objective!r}, got "
                f"others: {error}. Classes are taken by 'binary' and 'multiclass'."
            ) from error
        if not np.isfinite(numbers).all():
            raise InvalidArgument(
                f"`{argument}` labels must be finite, got "
                f"{int((~np.isfinite(numbers)).sum())} infinite values."
            )
        if self.ranking and ((numbers < 0) | (numbers != np.floor(numbers))).any():
            raise InvalidArgument(
                f"`{argument}` labels must be whole numbers of 0 or above for objective "
                f"{self.objective!r}, got {numbers[(numbers < 0) | (numbers % 1 != 0)][0]}."
            )
        return numbers

    def _codes(self, argument: str, values: NDArray[Any]) -> NDArray[np.float64]:
        assert self.classes is not None
        unknown = set(values.tolist()) - set(self.classes)
        if unknown:
            raise InvalidArgument(
                f"`{argument}` labels must be of the classes trained on, {_shown(self.classes)}, "
                f"got {_shown(sorted(unknown, key=str))}."
            )
        return np.searchsorted(np.array(self.classes), values).astype(np.float64)


@dataclass(frozen=True)
class LabeledTable:
    """Rows with labels, and weights and groups where there are any.

    Attributes:
        features: A matrix (n, d), categories as codes; None where only LightGBM's bins are left.
        labels: (n,), classes as codes.
        weight: (n,) or None.
        groups: What each row belongs to, (n,), or None: its query, where rows are ranked.
        ranked: Whether rows are ranked within their groups.
    """

    features: Matrix | None
    labels: NDArray[np.float64]
    weight: NDArray[np.float64] | None
    groups: NDArray[Any] | None
    ranked: bool

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, rows: NDArray[np.int64]) -> LabeledTable:
        """Return some of the rows."""
        return LabeledTable(
            features=take_rows(self.features, rows),
            labels=take_rows(self.labels, rows),
            weight=take_rows(self.weight, rows),
            groups=take_rows(self.groups, rows),
            ranked=self.ranked,
        )

    def joined(self, other: LabeledTable) -> LabeledTable:
        """Return the rows of both.

        Where one of them has no weights, rows of both weigh the same in the mean, on the scale of
        this one: a metric of the other rows is the same on any scale, but trees are not.
        """
        weight = groups = None
        if self.weight is not None or other.weight is not None:
            ours = np.ones(len(self)) if self.weight is None else self.weight
            theirs = np.ones(len(other)) if other.weight is None else other.weight
            if self.weight is None or other.weight is None:
                theirs = theirs * (ours.mean() / theirs.mean())
            weight = np.concatenate([ours, theirs])
        if self.ranked:
            # By numbers of their own: queries of one name are not the same in both.
            sizes = np.concatenate([self.query_sizes, other.query_sizes])
            groups = np.repeat(np.arange(len(sizes)), sizes)
        return LabeledTable(
            features=_stack(self.features, other.features),
            labels=np.concatenate([self.labels, other.labels]),
            weight=weight,
            groups=groups,
            ranked=self.ranked,
        )

    @property
    def query_sizes(self) -> NDArray[np.int64] | None:
        """The number of rows of each query, in their order; None where rows are not ranked."""
        if not self.ranked or self.groups is None:
            return None
        return np.diff(np.append(run_starts(self.groups), len(self)))


def class_weights(
    class_weight: str | Mapping[Any, float], labels: Labels, codes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the weight of each row by its class.

    Args:
        class_weight: "balanced" for n / (classes * rows of the class), as scikit-learn defines
            it, or class -> weight.
        labels: The classes.
        codes: The rows' labels.

    Raises:
        InvalidArgument: If labels are no classes, or a class has no weight.
    """
    if labels.classes is None:
        raise InvalidArgument(
            "`class_weight` must be None where labels are no classes, got "
            f"{class_weight!r} for objective {labels.objective!r}."
        )
    rows = codes.astype(np.int64)
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise InvalidArgument(
                f"`class_weight` must be 'balanced', a mapping or None, got {class_weight!r}."
            )
        counts = np.bincount(rows, minlength=len(labels.classes))
        return (len(rows) / (len(counts) * np.maximum(counts, 1)))[rows]
    if not isinstance(class_weight, Mapping):
        raise InvalidType(
            "`class_weight` must be 'balanced', a mapping or None, got "
            f"{type(class_weight).__name__}."
        )
    if set(class_weight) != set(labels.classes):
        raise InvalidArgument(
            f"`class_weight` must have a weight for each class, {_shown(labels.classes)}, got "
            f"{_shown(tuple(class_weight))}."
        )
    listed = [class_weight[value] for value in labels.classes]
    weights = as_numbers("class_weight", np.array(listed, object))
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise InvalidArgument(
            "`class_weight` must be finite, 0 or above, and somewhere above 0, got "
            f"{dict(class_weight)!r}."
        )
    return weights[rows]


def column_of(argument: str, values: Any) -> NDArray[Any]:
    """Return labels, weights or groups as an array (n,).

    Raises:
        InvalidArgument: If there is none, or more than one column.
    """
    column = np.asarray(collected(values))
    if column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    if column.ndim != 1 or not len(column):
        raise InvalidArgument(
            f"`{argument}` labels, weights and groups must be of shape (rows,), got {column.shape}."
        )
    return column


def as_numbers(what: str, values: NDArray[Any]) -> NDArray[np.float64]:
    """Return values as floats.

    Raises:
        InvalidType: If one is no number.
    """
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidType(f"`{what}` must hold numbers, got others: {error}.") from error


def check_present(what: str, values: NDArray[Any]) -> None:
    """Raise an error if a value is missing.

    Raises:
        InvalidArgument: If some are.
    """
    if values.dtype.kind in "fiub":  # in a small part of the time
        missing = np.isnan(values)
    else:
        missing = np.array([is_missing(value) for value in values.tolist()])
    if missing.any():
        raise InvalidArgument(
            f"{what} must have no missing values, got {int(missing.sum())} missing, the first in "
            f"row {int(missing.argmax())}."
        )


def run_starts(groups: NDArray[Any]) -> NDArray[np.int64]:
    """Return the positions where another group begins."""
    return np.flatnonzero(np.append(True, groups[1:] != groups[:-1]))


def _check_classes(
    argument: str, objective: str, values: NDArray[Any], classes: tuple[Any, ...]
) -> None:
    """Raise an error for classes that a model file cannot hold, or that are measurements."""
    strange = [value for value in classes if not isinstance(value, str | int | float)]
    if strange:
        raise InvalidType(
            f"`{argument}` labels must be text, numbers or booleans, got "
            f"{type(strange[0]).__name__}: convert them, as by `labels.astype(str)`."
        )
    many = len(classes) > max(_FEW_CLASSES, _FEW_CLASSES_PART * len(values))
    real = [value for value in classes if isinstance(value, float) and not value.is_integer()]
    if many and real:
        raise InvalidArgument(
            f"`{argument}` labels must be classes for objective {objective!r}, got {len(classes)} "
            f"distinct real numbers, such as {real[0]!r}, in {len(values)} rows: take an objective "
            "of regression, or put them into bins."
        )


def _stack(one: Matrix, other: Matrix) -> Matrix:
    if hasattr(one, "tocsr"):
        from scipy.sparse import vstack

        return vstack([one, other], format="csr")
    return np.concatenate([one, other])


def _shown(values: Sequence[Any]) -> str:
    listed = ", ".join(repr(value) for value in values[:5])
    return listed + (f" and {len(values) - 5} more" if len(values) > 5 else "")
