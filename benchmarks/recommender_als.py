"""What does ALS cost through hpolab, beside implicit's own fit of as many iterations?

hpolab starts a training from interactions and calls its epochs one by one, as a trial does, without
evaluation; the rival gets its matrix made and fits once. Same factors at the end, one thread, and
for both BLAS as implicit asks for it. MovieLens-100K from $HPOLAB_DATA/ml-100k, or random
interactions of its size.

    python benchmarks/recommender_als.py
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import pandas as pd
from _compare import Record, add_json, compare
from implicit.cpu.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

from hpolab import Interactions
from hpolab.recommender.implicit import Als


def load() -> tuple[str, Interactions]:
    """Return the name of the data, and the data."""
    path = Path(os.environ.get("HPOLAB_DATA", ""), "ml-100k", "ml-100k.inter.gz")
    if path.exists():
        frame = pd.read_csv(path, sep="\t")
        frame.columns = [name.split(":")[0] for name in frame.columns]
        return "MovieLens-100K", Interactions.from_frame(frame, timestamp="timestamp")
    rng = np.random.default_rng(0)
    # Squares of uniform numbers: some users and items have far more than others.
    users, items = (rng.random((2, 114_000)) ** 2 * [[943], [1682]]).astype(int)
    return "random interactions", Interactions.of(users, items)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=15)
    add_json(parser)
    parser.add_argument("--factors", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    record = Record(arguments.json)
    name, train = load()
    matrix = train.matrix()
    params = {"factors": arguments.factors, "regularization": 0.1, "alpha": 5.0}

    def ours() -> None:
        training = Als().start(params, train, seed=0, max_epochs=arguments.epochs)
        for _ in range(arguments.epochs):
            training.epoch()

    def rival() -> None:
        with threadpool_limits(1, "blas"):
            model = AlternatingLeastSquares(
                **params, iterations=arguments.epochs, num_threads=1, random_state=0
            )
            model.fit(matrix, show_progress=False)

    compare(
        f"{name}, {len(train)} rows, {arguments.factors} factors, {arguments.epochs} epochs",
        ours,
        rival,
        n_repeats=arguments.repeats,
        target="(target: <= 1.05)",
        record=record,
        key="als-fit",
        question=f"ALS on {name}, {arguments.epochs} epochs",
        peer="implicit",
        package="implicit",
        clock="cpu",
        unit="a fit",
    )
    record.finish()


if __name__ == "__main__":
    main()
