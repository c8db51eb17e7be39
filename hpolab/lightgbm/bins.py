"""Bins: LightGBM's datasets, binned once and shared by trials, folds and worker processes."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightgbm as lgb
import numpy as np

from hpolab.lightgbm.columns import take_rows
from hpolab.lightgbm.names import of_bins

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from hpolab.lightgbm.columns import Columns
    from hpolab.lightgbm.table import LabeledTable
    from hpolab.objectives.folds import Fold

    Key = tuple[tuple[str, str], ...]
    Pair = tuple[lgb.Dataset, lgb.Dataset]

__all__ = ["Bins"]

# Settings of `max_bin` and its like that are kept at a time.
_MAX_KEPT = 8


class Bins:
    """The datasets of one table: to train on and to validate on, for each fold.

    Features are binned once for each setting of the parameters that shape bins. Several folds are
    cut out of one binned table, as ``lightgbm.cv`` does it; a single hold-out is binned by its
    training rows alone. Pickled, the bins travel as LightGBM's binary file, which loads in a small
    part of the time that binning takes.

    Args:
        table: All rows.
        columns: Their columns.
        folds: The rows to train on and to validate on, for each fold.
        train_weight: What rows weigh in training, (n,), or None.
        seed: Seeds the sample of rows that bins are made from, above 200,000 rows.
        given: A Dataset that is binned already, of all rows.
    """

    def __init__(
        self,
        table: LabeledTable,
        columns: Columns,
        folds: list[Fold],
        *,
        train_weight: NDArray[np.float64] | None,
        seed: int,
        given: lgb.Dataset | None = None,
    ) -> None:
        self._table = table
        self._columns = columns
        self._folds = folds
        self._train_weight = train_weight
        self._seed = seed
        self._given = given is not None
        self._binned: dict[Key, lgb.Dataset] = {} if given is None else {(): given}
        self._pairs: dict[Key, list[Pair]] = {}
        self._files: dict[Key, bytes] = {}
        self._lock = threading.Lock()

    def folds(self, params: Mapping[str, Any]) -> list[Pair]:
        """Return the datasets (train, valid) of each fold for canonical parameters."""
        key = self._key(params)
        with self._lock:
            if key not in self._pairs:
                _forget_oldest(self._pairs)
                self._pairs[key] = self._make_pairs(key, params)
            return self._pairs[key]

    def whole(self, params: Mapping[str, Any]) -> lgb.Dataset:
        """Return the dataset of all rows for canonical parameters."""
        if not self._cut:
            return self._bin(np.arange(len(self._table)), params)
        with self._lock:
            return self._binned_once(self._key(params), params)

    @property
    def _cut(self) -> bool:
        """Whether folds are cut out of one binned table."""
        return self._given or len(self._folds) > 1

    def _make_pairs(self, key: Key, params: Mapping[str, Any]) -> list[Pair]:
        binned = self._binned_once(key, params)
        if not self._cut:
            [(_, valid)] = self._folds
            return [(binned, self._bin(valid, params, reference=binned))]
        return [
            (
                self._subset(binned, train, self._train_weight),
                self._subset(binned, valid, self._table.weight),
            )
            for train, valid in self._folds
        ]

    def _binned_once(self, key: Key, params: Mapping[str, Any]) -> lgb.Dataset:
        if key not in self._binned:
            _forget_oldest(self._binned)
            rows = np.arange(len(self._table)) if self._cut else self._folds[0][0]
            file = self._files.pop(key, None)
            self._binned[key] = (
                self._bin(rows, params) if file is None else _load(file, self._settings(params))
            )
        return self._binned[key]

    def _bin(
        self,
        rows: NDArray[np.int64],
        params: Mapping[str, Any],
        reference: lgb.Dataset | None = None,
    ) -> lgb.Dataset:
        part = self._table.rows(rows)
        weight = part.weight if reference is not None else take_rows(self._train_weight, rows)
        return lgb.Dataset(
            part.features,
            part.labels,
            reference=reference,
            weight=weight,
            group=part.query_sizes,
            feature_name=self._columns.safe_names,
            categorical_feature=list(self._columns.categorical),
            params=self._settings(params),
        ).construct()

    def _subset(
        self, binned: lgb.Dataset, rows: NDArray[np.int64], weight: NDArray[np.float64] | None
    ) -> lgb.Dataset:
        part = binned.subset(rows.tolist()).construct()
        if weight is not None:
            part.set_field("weight", weight[rows])
        elif self._train_weight is not None:
            # `set_weight` takes no weight for "as before": the training weight, cut out as well.
            part.set_field("weight", np.ones(len(rows)))
        return part

    def _settings(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {
            **of_bins(params),
            # Else LightGBM drops features that cannot be split under this trial's
            # `min_data_in_leaf`, and they are gone for the next trial too.
            "feature_pre_filter": False,
            "data_random_seed": self._seed,
            "num_threads": params.get("num_threads", 1),
            "verbosity": -1,
        }

    def _key(self, params: Mapping[str, Any]) -> Key:
        if self._given:
            return ()
        return tuple(sorted((name, str(value)) for name, value in of_bins(params).items()))

    def __getstate__(self) -> dict[str, Any]:
        # A Dataset does not pickle.
        files = self._files | {key: _save(dataset) for key, dataset in self._binned.items()}
        return vars(self) | {"_binned": {}, "_pairs": {}, "_files": files, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())


def _forget_oldest(kept: dict[Key, Any]) -> None:
    if len(kept) >= _MAX_KEPT:
        del kept[next(iter(kept))]


def _save(dataset: lgb.Dataset) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bins"
        dataset.save_binary(path)
        return path.read_bytes()


def _load(file: bytes, settings: dict[str, Any]) -> lgb.Dataset:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bins"
        path.write_bytes(file)
        dataset = lgb.Dataset(path, params=settings).construct()
    # Without asking, LightGBM's `subset` does not see that the rows have queries, and drops them.
    dataset.get_group()
    return dataset
