"""Is SASRec as good, and as quick, as the one of RecTools?

MovieLens-100K from $HPOLAB_DATA/ml-100k, each user's last item to test, ranked among all that the
user has not seen. Both models are trained on the same rows with the same width, blocks, heads,
length, dropout, learning rate and batches, alternating, one thread each. Both stop by NDCG@10 of
the validation items, and read these before they rank the test items.

RecTools adds positions to embeddings that are not scaled; the authors' code scales them by the root
of their size. Here RecTools does, too, unless `--unscaled` leaves it as it is shipped. It runs in a
Python of its own, as it needs an older NumPy.

    python -m venv rectools && rectools/bin/pip install 'rectools[torch]==0.19.0'
    python benchmarks/recommender_sasrec.py --rectools rectools/bin/python
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from hpolab import Ranking, RankingTask, Splits, leave_last_out, recommender_space
from hpolab.datasets import load_movielens_100k
from hpolab.recommender.sasrec import SasRec

METRICS = ("hr@10", "ndcg@10")


class Run(NamedTuple):
    """What one training has reached on the test items, and what it took.

    Attributes:
        ranking: The ranks at the best epoch.
        epoch: The best epoch.
        seconds: CPU seconds of an epoch.
    """

    ranking: Ranking
    epoch: int
    seconds: float


def task_of(splits: Splits) -> RankingTask:
    return RankingTask(seen=[splits.train, splits.valid], held_out=splits.test)


def ours(splits: Splits, settings: dict[str, Any]) -> Run:
    """Train hpolab's model."""
    params = {"optimizer": "adam", "beta1": 0.9, "beta2": 0.98, "loss": "softmax"}
    params = recommender_space("sasrec").defaults() | params | settings
    valid, test = RankingTask(seen=splits.train, held_out=splits.valid), task_of(splits)
    trainer, seconds, best, found = SasRec(), 0.0, -1.0, None
    with trainer.seeded(settings["seed"]):
        training = trainer.start(
            params, splits.train, seed=settings["seed"], max_epochs=settings["epochs"]
        )
        for epoch in range(1, settings["epochs"] + 1):
            started = time.process_time()
            training.epoch()
            seconds += time.process_time() - started
            if epoch % settings["every"]:
                continue
            value = valid.estimate(training.scores, ["ndcg@10"])["ndcg@10"].mean
            if value > best:
                history = training.with_history(splits.train.join(splits.valid))
                best, found = value, Run(test.rank(history.scores, metrics=METRICS), epoch, 0.0)
            elif epoch - found.epoch >= settings["patience"]:
                break
    return found._replace(seconds=seconds / epoch)


def rival(splits: Splits, settings: dict[str, Any], python: str) -> Run:
    """Train RecTools' model."""
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
        done = subprocess.run(
            [python, script, source, target, json.dumps(settings | sizes)],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        with np.load(target) as found:
            scores, epoch, seconds = found["scores"], int(found["epoch"]), float(found["seconds"])
    ranking = task_of(splits).rank(lambda users: scores[users], metrics=METRICS)
    return Run(ranking, epoch, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rectools", required=True, help="a Python that has RecTools")
    parser.add_argument("--unscaled", action="store_true", help="RecTools as it is shipped")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--every", type=int, default=5, help="epochs between two validations")
    parser.add_argument("--patience", type=int, default=10, help="epochs without improvement")
    parser.add_argument("--seeds", type=int, default=3)
    for name, default in (("embedding-size", 64), ("n-blocks", 2), ("n-heads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--max-length", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--lr", type=float, default=1e-3)
    settings = vars(parser.parse_args())
    python, n_seeds = settings.pop("rectools"), settings.pop("seeds")
    torch.set_num_threads(1)
    splits = leave_last_out(load_movielens_100k())
    print(f"MovieLens-100K, {settings}")
    runs = {"hpolab": ours, "RecTools": partial(rival, python=str(Path(python).absolute()))}
    found: dict[str, list[Run]] = {name: [] for name in runs}
    for seed in range(n_seeds):
        for name, run in runs.items():
            done = run(splits, settings | {"seed": seed})
            found[name].append(done)
            metrics = "  ".join(f"{metric} {done.ranking.estimate(metric)}" for metric in METRICS)
            took = f"best epoch {done.epoch}, {done.seconds:.2f} s an epoch"
            print(f"  seed {seed}  {name:8}  {metrics}  {took}", flush=True)
    for metric in METRICS:
        by_user = {
            name: np.mean([each.ranking.by_user(metric) for each in done], axis=0)
            for name, done in found.items()
        }
        gain = by_user["hpolab"] - by_user["RecTools"]
        means = "  ".join(f"{name} {values.mean():.4f}" for name, values in by_user.items())
        error = gain.std(ddof=1) / math.sqrt(len(gain))
        difference = f"difference {gain.mean():+.4f} ± {error:.4f}"
        print(f"{metric:8} mean of {n_seeds} seeds  {means}  {difference}")
    seconds = {name: np.array([each.seconds for each in done]) for name, done in found.items()}
    medians = "  ".join(f"{name} {np.median(each):.2f}" for name, each in seconds.items())
    ratio = np.median(seconds["hpolab"] / seconds["RecTools"])
    print(f"CPU seconds an epoch  {medians}  ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
