"""Make the tables of learning curves that pruners and samplers are judged on.

Of each data set 500 configurations are drawn at random and trained to their end, 30 epochs, three
times each, with other seeds: by hpolab itself, 64 trainings as one model (`run(..., fuse=64)`), and
no pruner. What is kept is what a trial reports, what it returns, and what an epoch has cost.
Trainings that diverge stay in the table. A set that is done is saved; sets that are not made this
time stay as they are in the file.

- digits: scikit-learn's, an MLP, accuracy;
- california: 2,000 rows of California housing, an MLP, RMSE;
- mnist: 3,000 images of 14 x 14 pixels, an MLP, accuracy;
- movielens: 200 users and 300 films of MovieLens-100K, a matrix factorization trained by BPR,
  NDCG@10 among 50 films that the user has not seen.

A configuration is an optimizer with its own hyperparameters, a learning-rate schedule with its own,
a width, a batch size, and a rate of dropout. Left out are the two optimizers that do not train as
one with others: Muon, whose step is one of whole matrices, and SparseAdam, which needs sparse
gradients.

    HPOLAB_DATA=... python benchmarks/make_curves.py
    python benchmarks/make_curves.py --quick --sets digits --output digits.npz
"""

from __future__ import annotations

import argparse
import logging
import math
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import torch
from _curves import CURVES, CurveTable, read_curves, write_curves
from torch import nn

import hpolab
from hpolab import TorchObjective, make_study, optimizer_space, run, schedule_space

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from optuna.trial import FrozenTrial

    from hpolab import SearchSpace

# All whose trials share a stack with those of the others.
OPTIMIZERS = [name for name in hpolab.OPTIMIZERS if name not in ("muon", "sparse_adam")]
SCHEDULES = ["constant", "cosine", "one_cycle"]


@dataclass(frozen=True)
class Size:
    """How much is trained."""

    n_configurations: int = 500
    n_seeds: int = 3
    n_epochs: int = 30
    fuse: int = 64


QUICK = Size(n_configurations=24, n_seeds=2, n_epochs=4, fuse=8)


@dataclass(frozen=True)
class Problem:
    """A data set and its model, as arguments of `TorchObjective`."""

    build_model: Callable[[dict[str, Any]], nn.Module]
    splits: Mapping[str, Any]
    loss: str
    metric: Any
    direction: str | None
    widths: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    about: str

    def space(self, n_epochs: int) -> SearchSpace:
        return (
            optimizer_space(OPTIMIZERS)
            | schedule_space(SCHEDULES, max_epochs=n_epochs)
            | {
                "width": list(self.widths),
                "batch_size": list(self.batch_sizes),
                "dropout": (0.0, 0.5),
            }
        )

    def objective(self, n_epochs: int) -> TorchObjective:
        return TorchObjective(
            self.build_model,
            **{name: self.splits[name] for name in ("train", "valid", "score")},
            search_space=self.space(n_epochs),
            loss=self.loss,
            metric=self.metric,
            direction=self.direction,
            max_epochs=n_epochs,
            eval_batch_size=2_000,
        )


def mlp(n_inputs: int, n_outputs: int, width: int, dropout: float) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(n_inputs, width),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(width, n_outputs),
    )


class PairwiseFactorization(nn.Module):
    """How much more a user likes one film than another."""

    def __init__(self, n_users: int, n_items: int, width: int, dropout: float) -> None:
        super().__init__()
        self.users = nn.Embedding(n_users, width)
        self.items = nn.Embedding(n_items, width)
        self.biases = nn.Embedding(n_items, 1)
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.users.weight, std=0.1)
        nn.init.normal_(self.items.weight, std=0.1)
        nn.init.zeros_(self.biases.weight)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the differences (n,) of rows (n, 3): a user, a film, another film."""
        taste = self.dropout(self.users(rows[:, 0]))
        pairs = self.items(rows[:, 1:])
        biases = self.biases(rows[:, 1:]).squeeze(-1)
        difference = (taste * (pairs[:, 0] - pairs[:, 1])).sum(-1)
        return difference + biases[:, 0] - biases[:, 1]


N_OTHERS = 50


def ndcg_at_10(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean NDCG@10 of liked films, each beside `N_OTHERS` others in as many rows."""
    ranks = 1.0 + (outputs.reshape(-1, N_OTHERS) <= 0).sum(1)
    return torch.where(ranks <= 10, 1.0 / torch.log2(1.0 + ranks), 0.0).mean()


def digits() -> Problem:
    rows = hpolab.split_four(hpolab.load_digits(), n_train=700, n_valid=400, n_score=600, n_test=1)
    return Problem(
        lambda params: mlp(64, 10, params["width"], params["dropout"]),
        vars(rows), "cross_entropy", "accuracy", None, (8, 32), (16, 64),
        "scikit-learn's digits; MLP",
    )  # fmt: skip


def mnist() -> Problem:
    images, labels = hpolab.load_mnist()
    pooled = torch.nn.functional.avg_pool2d(torch.as_tensor(images[:9_000]), 2).numpy()
    rows = hpolab.split_four(
        (pooled, labels[:9_000]), n_train=3_000, n_valid=1_500, n_score=3_000, n_test=1
    )
    return Problem(
        lambda params: mlp(196, 10, params["width"], params["dropout"]),
        vars(rows), "cross_entropy", "accuracy", None, (8, 32), (32, 128),
        "MNIST, pooled to 14 x 14; MLP",
    )  # fmt: skip


def california() -> Problem:
    from _tables import read

    frame, target = read("california")
    X, y = frame.to_numpy(np.float64), target.to_numpy(np.float32)
    # Counts of rooms and people have tails of a hundred deviations.
    X = np.column_stack([np.log1p(X[:, :6]), X[:, 6:]])
    X = ((X - X.mean(0)) / X.std(0)).astype(np.float32)
    rows = hpolab.split_four((X, y[:, None]), n_train=2_000, n_valid=1_000, n_score=3_000, n_test=1)
    return Problem(
        lambda params: mlp(8, 1, params["width"], params["dropout"]),
        vars(rows), "mse", "rmse", None, (16, 64), (64, 256),
        "California housing; MLP",
    )  # fmt: skip


def movielens(n_users: int = 200, n_items: int = 300) -> Problem:
    interactions = hpolab.load_movielens_100k()
    users, items = np.asarray(interactions.users), np.asarray(interactions.items)
    often = np.argsort(-np.bincount(items), kind="stable")[:n_items]
    number = np.full(items.max() + 1, -1)
    number[often] = np.arange(n_items)
    rng = np.random.default_rng(0)
    rows: dict[str, list[NDArray[np.int64]]] = defaultdict(list)
    for user in range(n_users):
        liked = rng.permutation(number[items[users == user]])
        liked = liked[liked >= 0]
        unseen = np.setdiff1d(np.arange(n_items), liked)
        for split, some in zip(("valid", "score", "train"), np.split(liked, [2, 5]), strict=True):
            # BPR draws another film for each row each epoch; here a row keeps its own.
            n_others = 1 if split == "train" else N_OTHERS
            for item in some:
                others = rng.choice(unseen, n_others, replace=False)
                rows[split] += [np.array([user, item, other]) for other in others]
    splits = {part: (np.array(some), np.ones(len(some))) for part, some in rows.items()}
    return Problem(
        lambda params: PairwiseFactorization(n_users, n_items, params["width"], params["dropout"]),
        splits, "bce", ndcg_at_10, "maximize", (4, 16), (128, 512),
        f"MovieLens-100K, {n_users} users and {n_items} films; matrix factorization by BPR",
    )  # fmt: skip


PROBLEMS = {"digits": digits, "california": california, "mnist": mnist, "movielens": movielens}


def draw(space: SearchSpace, n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return ``n`` random configurations as trial params."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    found = []
    for _ in range(n):
        trial = study.ask()
        space.suggest(trial)
        found.append(trial.params)
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    return found


def curve_of(trial: FrozenTrial, n_epochs: int) -> list[float]:
    """Return what a trial has reported, NaN from where it has diverged."""
    values = [trial.intermediate_values.get(epoch, math.nan) for epoch in range(n_epochs)]
    finite = [math.isfinite(value) for value in values]
    end = finite.index(False) if False in finite else n_epochs
    return values[:end] + [math.nan] * (n_epochs - end)


def train(
    objective: TorchObjective, configurations: Sequence[dict[str, Any]], size: Size, seed: int
) -> tuple[list[FrozenTrial], float]:
    """Train configurations of one architecture; return their trials and seconds of an epoch.

    Args:
        objective: Trains them.
        configurations: Each comes back ``size.n_seeds`` times, one after the other.
        size: How much is trained.
        seed: That of the study.
    """
    study = make_study(
        "curves", storage="memory://", objective=objective, sampler="random", pruner="none",
        seed=seed,
    )  # fmt: skip
    for params in configurations:
        for _ in range(size.n_seeds):
            study.enqueue_trial(params)
    n_trials = len(configurations) * size.n_seeds
    started = time.process_time()
    run(study, objective, n_trials=n_trials, fuse=size.fuse, show_progress_bar=False)
    seconds = time.process_time() - started
    n_epochs = sum(len(trial.intermediate_values) for trial in study.trials)
    return study.trials, seconds / n_epochs


def table_of(name: str, size: Size) -> CurveTable:
    """Train a set's configurations, those that may share a stack together."""
    problem = PROBLEMS[name]()
    objective = problem.objective(size.n_epochs)
    configurations = draw(objective.search_space, size.n_configurations)
    shape = (size.n_configurations, size.n_seeds)
    curves = np.full((*shape, size.n_epochs), np.nan, dtype=np.float32)
    scores = np.full(shape, np.nan, dtype=np.float32)
    epoch_seconds = np.zeros(size.n_configurations, dtype=np.float32)
    for seed, key in enumerate(product(problem.widths, problem.batch_sizes)):
        chosen = [i for i, c in enumerate(configurations) if (c["width"], c["batch_size"]) == key]
        # Steps of one rule are quicker than steps of many.
        chosen.sort(key=lambda i: configurations[i]["optimizer"])
        trials, seconds = train(objective, [configurations[i] for i in chosen], size, seed)
        epoch_seconds[chosen] = seconds
        for place, trial in enumerate(trials):
            i, again = chosen[place // size.n_seeds], place % size.n_seeds
            curves[i, again] = curve_of(trial, size.n_epochs)
            if trial.state == optuna.trial.TrialState.COMPLETE:
                scores[i, again] = trial.value
        print(f"{name}: width {key[0]}, batches of {key[1]}: {1e3 * seconds:.2f} ms an epoch")
    about = {
        "what": problem.about,
        "metric": objective.metric,
        "rows": {part: len(problem.splits[part][1]) for part in ("train", "valid", "score")},
        "seeds": "study seeds 0 to 3, one for each width and batch size; each training has its own",
        "hpolab": hpolab.__version__,
        "torch": torch.__version__,
        "optuna": optuna.__version__,
        "n_diverged": int(np.isnan(scores).sum()),
    }
    return CurveTable(
        name, curves, scores, epoch_seconds, configurations, objective.search_space,
        objective.direction, about,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--output", type=Path, default=CURVES)
    parser.add_argument("--configurations", type=int)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--quick", action="store_true", help="24 configurations, 2 seeds, 4 epochs")
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else Size()
    given = {
        "n_configurations": arguments.configurations,
        "n_seeds": arguments.seeds,
        "n_epochs": arguments.epochs,
    }
    size = replace(size, **{key: value for key, value in given.items() if value is not None})
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("hpolab").setLevel(logging.ERROR)  # a line for each training that diverges
    tables = read_curves(arguments.output) if arguments.output.exists() else {}
    for name in arguments.sets:
        started = time.process_time()
        tables[name] = table_of(name, size)
        write_curves(tables, arguments.output)
        seconds = time.process_time() - started
        print(f"{name}: {len(tables[name])} configurations, {seconds:.0f} CPU s", flush=True)


if __name__ == "__main__":
    main()
