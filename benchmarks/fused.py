"""The same trials as one model, and one after the other: CPU time of each.

Both are `run` on a study in memory, with the same random trials of Adam (learning rate and betas),
the same seeds and data orders, no pruner; fused trials end with the values of lone ones, which is
checked. One thread, in turn, several repeats. Compiling is counted apart: it is paid once for each
shape, in the first study of each kind.

- logistic regression and an MLP 784-64-10 on MNIST-shaped images, batches of 32;
- matrix factorization of 943 x 1682, embeddings of 16, batches of 32;
- the CNN of the MNIST protocol, batches of 32.

    python benchmarks/fused.py
    python benchmarks/fused.py --device cuda --fuse 64 --models cnn --graphs

On a GPU seconds of the clock are counted, and with ``--graphs`` the trials run a third time: one by
one, each as a stack of one, whose step is a CUDA graph there.
"""

from __future__ import annotations

import argparse
import logging
import math
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import optuna
import torch
from _compare import Record, add_json
from _table import Row, version_of
from torch import nn
from torch_objective import build_cnn, build_mlp

from hpolab import TorchObjective, make_study, optimizer_space, run
from hpolab.torch.fused.architecture import Architecture
from hpolab.torch.fused.first_steps import FirstSteps
from hpolab.torch.fused.member import Member
from hpolab.torch.fused.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial

N_VALID = 500
ONE_BY_ONE = "one by one"
MODELS = {
    "logistic": "logistic regression 784-10",
    "mlp": "MLP 784-64-10",
    "mf": "matrix factorization 943 x 1682, embeddings of 16",
    "cnn": "CNN of the MNIST protocol",
}


class MatrixFactorization(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.users = nn.Embedding(943, 16)
        self.items = nn.Embedding(1682, 16)

    def forward(self, pairs: torch.Tensor) -> torch.Tensor:
        return (self.users(pairs[:, 0]) * self.items(pairs[:, 1])).sum(-1)


def build(name: str, params: object) -> nn.Module:
    if name == "mf":
        return MatrixFactorization()
    if name == "logistic":
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    return build_mlp(params) if name == "mlp" else build_cnn(params)


def data(name: str, n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    if name == "mf":
        users, items = (torch.randint(0, m, (n,), generator=drawn) for m in (943, 1682))
        return torch.stack([users, items], 1), torch.randn(n, generator=drawn)
    images = torch.rand(n, 1, 28, 28, generator=drawn)
    # Whether the upper or the lower half is brighter, and so on: something to learn.
    labels = (images.flatten(1) @ torch.randn(784, 10, generator=drawn)).argmax(1)
    return images, labels


def train(objective: TorchObjective, n_trials: int, fuse: int | str | None) -> Study:
    study = make_study(
        "fused",
        storage="memory://",
        objective=objective,
        sampler="random",
        pruner="none",
        seed=0,
    )
    run(study, objective, n_trials=n_trials, fuse=fuse, show_progress_bar=False)
    return study


def train_in_stacks_of_one(objective: TorchObjective, trials: Sequence[FrozenTrial]) -> None:
    architecture = None
    for trial in trials:
        params = objective.search_space.from_trial(trial.params)
        member = Member.outside(objective, params, trial.number)
        architecture = architecture or Architecture(member.training)
        stack = Stack(architecture, [(member, FirstSteps(architecture, member))])
        for _ in range(objective.max_steps):
            stack.epoch()
            stack.values()


def seconds_of(objective: TorchObjective, function: Callable[[], Any]) -> tuple[float, Any]:
    clock = time.process_time if objective.task.device.type == "cpu" else time.perf_counter
    started = clock()
    result = function()
    return clock() - started, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--fuse", default="auto", help="A number, or auto.")
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=25_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--graphs", action="store_true")
    add_json(parser)
    arguments = parser.parse_args()
    record = Record(arguments.json)
    fuse = int(arguments.fuse) if arguments.fuse.isdigit() else arguments.fuse
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.basicConfig(format="          %(message)s")
    logging.getLogger("hpolab").setLevel(logging.INFO)  # the size that `run` takes
    for name in arguments.models:
        ratings = name == "mf"
        objective = TorchObjective(
            partial(build, name),
            train=data(name, arguments.rows, 0),
            valid=data(name, N_VALID, 1),
            search_space=optimizer_space("adam"),
            loss="mse" if ratings else "cross_entropy",
            metric="mse" if ratings else "loss",
            max_epochs=arguments.epochs,
            batch_size=32,
            device=arguments.device,
        )
        with record.survived(name, MODELS[name], ONE_BY_ONE):
            repeats = (arguments.repeats, arguments.graphs)
            pairs = measure(name, objective, arguments.trials, fuse, *repeats)
            record.add(*rows_of(name, arguments, pairs))
    record.finish()


def measure(
    name: str,
    objective: TorchObjective,
    n_trials: int,
    fuse: int | str,
    n_repeats: int,
    has_graphs: bool,
) -> list[tuple[float, float]]:
    """Print and return seconds of a trial, fused and alone; the first pair has the compilation."""
    rows = []
    for _ in range(n_repeats + 1):
        together, fused = seconds_of(objective, partial(train, objective, n_trials, fuse))
        alone, lone = seconds_of(objective, partial(train, objective, n_trials, None))
        one_by_one = partial(train_in_stacks_of_one, objective, lone.trials)
        graphs = seconds_of(objective, one_by_one)[0] if has_graphs else math.nan
        rows.append((together, alone, graphs))
    difference = max(
        abs(one.value - other.value) / abs(other.value)
        for one, other in zip(fused.trials, lone.trials, strict=True)
    )
    # The first has the compilation in it, and is told apart.
    (first, first_alone, _), *rest = rows
    print(
        f"{name:9} fused {statistics.median(row[0] for row in rest) / n_trials:.3f} s, alone "
        f"{statistics.median(row[1] for row in rest) / n_trials:.3f} s a trial: "
        f"{spread([row[1] / row[0] for row in rest])} times as fast; "
        + (
            f"than stacks of one {spread([row[2] / row[0] for row in rest])}; "
            if has_graphs
            else ""
        )
        + f"first study {first_alone / first:.2f}; values differ by {difference:.1e} at most",
        flush=True,
    )
    return [(together / n_trials, alone / n_trials) for together, alone, _ in rows]


def rows_of(
    name: str, arguments: argparse.Namespace, pairs: Sequence[tuple[float, float]]
) -> list[Row]:
    clock = "CPU s" if arguments.device == "cpu" else "s"
    facts = {"peer": ONE_BY_ONE, "peer_version": version_of("hpolab"), "unit": f"{clock} a trial"}
    facts["note"] = (
        f"{arguments.trials} trials of {arguments.epochs} epochs of {arguments.rows:,} rows, "
        f"batches of 32, `fuse={arguments.fuse!r}`"
    )
    (first, *rest), model = pairs, MODELS[name]
    return [
        Row.of_pairs(name, f"{model}, trials fused", rest, **facts),
        Row.of_pairs(f"{name}-first", f"{model}, with the first compilation", [first], **facts),
    ]


def spread(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.2f} [{min(ratios):.2f}..{max(ratios):.2f}]"


if __name__ == "__main__":
    main()
