"""Is SASRec as good, and as quick, as the one of RecTools?

MovieLens-100K from $HPOLAB_DATA/ml-100k, each user's last item to test, ranked among all that the
user has not seen. Both models are trained on the same rows for the same number of epochs, with the
same width, blocks, heads, length, dropout, learning rate and batches, alternating, one thread each,
and read the validation item before they rank the test item. RecTools runs in a Python of its own,
as it needs an older NumPy.

    python -m venv rectools && rectools/bin/pip install 'rectools[torch]==0.19.0'
    python benchmarks/recommender_sasrec.py --rectools rectools/bin/python
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hpolab import Ranking, RankingTask, Splits, leave_last_out, recommender_space
from hpolab.datasets import load_movielens_100k
from hpolab.recommender.sasrec import SasRec

METRICS = ("hr@10", "ndcg@10")


def task_of(splits: Splits) -> RankingTask:
    return RankingTask(seen=[splits.train, splits.valid], held_out=splits.test)


def ours(splits: Splits, settings: dict[str, Any]) -> tuple[Ranking, float]:
    """Return the ranks of hpolab's model, and the CPU seconds of its epochs."""
    params = {"optimizer": "adam", "beta1": 0.9, "beta2": 0.98, "loss": "softmax"}
    params = recommender_space("sasrec").defaults() | params | settings
    trainer = SasRec()
    with trainer.seeded(settings["seed"]):
        training = trainer.start(
            params, splits.train, seed=settings["seed"], max_epochs=settings["epochs"]
        )
        started = time.process_time()
        for _ in range(settings["epochs"]):
            training.epoch()
        seconds = time.process_time() - started
    model = training.with_history(splits.train.join(splits.valid))
    return task_of(splits).rank(model.scores, metrics=METRICS), seconds


def rival(splits: Splits, settings: dict[str, Any], python: str) -> tuple[Ranking, float]:
    """Return the ranks of RecTools' model, and the CPU seconds of its `fit`."""
    arrays = {
        f"{name}_{column}": values
        for name in ("train", "valid", "test")
        for column, values in (
            ("users", getattr(splits, name).users),
            ("items", getattr(splits, name).items),
            ("times", getattr(splits, name).timestamps),
        )
    }
    sizes = {"n_users": splits.train.n_users, "n_items": splits.train.n_items}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "rows.npz"), Path(folder, "scores.npz")
        np.savez(source, **arrays)
        script = Path(__file__).with_name("_rectools_sasrec.py")
        subprocess.run(
            [python, script, source, target, json.dumps(settings | sizes)],
            check=True,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL if sys.flags.quiet else None,
        )
        with np.load(target) as found:
            scores, seconds = found["scores"], float(found["seconds"])
    return task_of(splits).rank(lambda users: scores[users], metrics=METRICS), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rectools", required=True, help="a Python that has RecTools")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    for name, default in (("embedding-size", 64), ("n-blocks", 2), ("n-heads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--max-length", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--lr", type=float, default=1e-3)
    settings = vars(parser.parse_args())
    python, n_seeds = settings.pop("rectools"), settings.pop("seeds")
    torch.set_num_threads(1)
    splits = leave_last_out(load_movielens_100k())
    print(f"MovieLens-100K, {settings}")
    runs = {"hpolab": ours, "RecTools": partial(rival, python=str(Path(python).absolute()))}
    found: dict[str, list[tuple[Ranking, float]]] = {name: [] for name in runs}
    for seed in range(n_seeds):
        for name, run in runs.items():
            ranking, seconds = run(splits, settings | {"seed": seed})
            found[name].append((ranking, seconds))
            metrics = "  ".join(f"{metric} {ranking.estimate(metric)}" for metric in METRICS)
            print(f"  seed {seed}  {name:8}  {metrics}  {seconds:.0f} s", flush=True)
    for metric in METRICS:
        by_user = {
            name: np.mean([ranking.by_user(metric) for ranking, _ in pairs], axis=0)
            for name, pairs in found.items()
        }
        gain = by_user["hpolab"] - by_user["RecTools"]
        means = "  ".join(f"{name} {values.mean():.4f}" for name, values in by_user.items())
        error = gain.std(ddof=1) / math.sqrt(len(gain))
        difference = f"difference {gain.mean():+.4f} ± {error:.4f}"
        print(f"{metric:8} mean of {n_seeds} seeds  {means}  {difference}")
    epochs = {
        name: np.array([s for _, s in each]) / settings["epochs"] for name, each in found.items()
    }
    ratio = np.median(epochs["hpolab"] / epochs["RecTools"])
    print(
        "CPU seconds an epoch  "
        + "  ".join(f"{name} {np.median(each):.2f}" for name, each in epochs.items())
        + f"  ratio {ratio:.3f}"
    )


if __name__ == "__main__":
    main()
