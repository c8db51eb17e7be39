"""How long does a whole study of the MNIST protocol take, beside the script of an Optuna user?

1,000 images to train on, 2,000 read every epoch, 5,000 that rank the trials; the protocol's CNN,
AdamW, TPE, a median pruner from epoch 5, SQLite. The rival is what tutorials teach: DataLoaders
over TensorDatasets, `trial.report`, `study.optimize`, PyTorch's own number of threads. hpolab runs
with ``n_workers="auto"``. Each study is a process of its own, and its time is that of the whole
process, imports included; the two take turns. An epoch's time is the study's, divided by the epochs
trained, as the two prune different trials. Accuracy is that of the best trial's configuration on
MNIST's 10,000 test images, trained again by one and the same loop on five fresh seeds.

    HPOLAB_DATA=... python benchmarks/mnist_study.py

MNIST is read from $HPOLAB_DATA/mnist; without it random images stand in, and accuracy says nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from hpolab import DataNotFound, TorchObjective, load_mnist, make_study, optimizer_space, run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

BATCH_SIZE = 32
FROM_EPOCH = 5


def build_cnn(params: Mapping[str, Any]) -> nn.Module:
    """The CNN of the MNIST protocol."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 49, 64),
        nn.Sigmoid(),
        nn.Linear(64, 10),
    )


def load() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return the four splits as tensors."""
    sizes = {"train": 1_000, "valid": 2_000, "score": 5_000}
    try:
        images, labels = map(torch.as_tensor, load_mnist())
    except DataNotFound:
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(70_000, 1, 28, 28, generator=generator)
        labels = torch.randint(10, (70_000,), generator=generator)
    labels = labels.long()
    order = torch.as_tensor(np.random.default_rng(0).permutation(60_000)[: sum(sizes.values())])
    rows = dict(zip(sizes, order.split(list(sizes.values())), strict=True))
    rows["test"] = torch.arange(60_000, 70_000)
    return {name: (images[which], labels[which]) for name, which in rows.items()}


def run_hpolab(splits: Any, seed: int, n_trials: int, n_epochs: int, folder: str) -> optuna.Study:
    objective = TorchObjective(
        build_cnn,
        train=splits["train"],
        valid=splits["valid"],
        score=splits["score"],
        search_space=optimizer_space("adamw"),
        loss="cross_entropy",
        metric="accuracy",
        max_epochs=n_epochs,
        batch_size=BATCH_SIZE,
    )
    study = make_study(
        "mnist",
        objective=objective,
        storage=f"sqlite:///{folder}/hpolab.db",
        sampler="tpe",
        pruner=optuna.pruners.MedianPruner(n_warmup_steps=FROM_EPOCH),
        seed=seed,
    )
    run(study, objective, n_trials=n_trials, n_workers="auto", show_progress_bar=False)
    return study


def tutorial_objective(
    build_model: Callable[[dict[str, Any]], nn.Module], splits: Any, n_epochs: int
) -> Callable[[optuna.Trial], float]:
    """Return the objective that tutorials teach: AdamW, DataLoaders, `trial.report`."""

    def accuracy(model: nn.Module, loader: DataLoader) -> float:
        model.eval()
        n_correct = 0
        with torch.no_grad():
            for images, labels in loader:
                n_correct += (model(images).argmax(1) == labels).sum().item()
        return n_correct / len(loader.dataset)

    def objective(trial: optuna.Trial) -> float:
        model = build_model({})
        optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=trial.suggest_float("lr", 1e-4, 1e-2, log=True),
            betas=(
                1 - trial.suggest_float("one_minus_beta1", 0.05, 0.2, log=True),
                1 - trial.suggest_float("one_minus_beta2", 1e-4, 1e-2, log=True),
            ),
            weight_decay=trial.suggest_float("weight_decay", 1e-4, 2e-2, log=True),
        )
        criterion = nn.CrossEntropyLoss()
        loaders = {
            name: DataLoader(
                TensorDataset(*splits[name]), batch_size=BATCH_SIZE, shuffle=name == "train"
            )
            for name in ("train", "valid", "score")
        }
        for epoch in range(n_epochs):
            model.train()
            for images, labels in loaders["train"]:
                optimizer.zero_grad()
                loss = criterion(model(images), labels)
                loss.backward()
                optimizer.step()
            trial.report(accuracy(model, loaders["valid"]), epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return accuracy(model, loaders["score"])

    return objective


def run_optuna(splits: Any, seed: int, n_trials: int, n_epochs: int, folder: str) -> optuna.Study:
    study = optuna.create_study(
        storage=f"sqlite:///{folder}/optuna.db",
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner(n_warmup_steps=FROM_EPOCH),
    )
    study.optimize(tutorial_objective(build_cnn, splits, n_epochs), n_trials=n_trials)
    return study


SIDES = {"hpolab": run_hpolab, "Optuna": run_optuna}


def test_accuracy(splits: Any, params: Mapping[str, float], n_epochs: int, seed: int) -> float:
    """Train a configuration as both sides describe it, and return its accuracy on the test."""
    torch.manual_seed(seed)
    model = build_cnn({})
    betas = 1 - params["one_minus_beta1"], 1 - params["one_minus_beta2"]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=params["lr"], betas=betas, weight_decay=params["weight_decay"]
    )
    images, labels = splits["train"]
    for _ in range(n_epochs):
        for rows in torch.randperm(len(labels)).split(BATCH_SIZE):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()
    images, labels = splits["test"]
    with torch.no_grad():
        hits = [
            (model(part).argmax(1) == truth).sum().item()
            for part, truth in zip(images.split(256), labels.split(256), strict=True)
        ]
    return sum(hits) / len(labels)


def run_one(side: str, seed: int, n_trials: int, n_epochs: int) -> None:
    """Run one side's study in this process, and print what came of it as JSON."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        study = SIDES[side](load(), seed, n_trials, n_epochs, folder)
        found = {
            "side": side,
            "seed": seed,
            "n_trials": len(study.trials),
            "n_epochs": sum(len(trial.intermediate_values) for trial in study.trials),
            "value": study.best_value,
            "params": study.best_params,
        }
    print("RESULT " + json.dumps(found))


def timed(side: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one side in a fresh process, and return what came of it with its seconds."""
    command = [sys.executable, __file__, "--one", side, str(seed)]
    command += ["--trials", str(arguments.trials), "--epochs", str(arguments.epochs)]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{done.stderr[-2000:]}")
    line = next(each for each in done.stdout.splitlines() if each.startswith("RESULT "))
    return {**json.loads(line.removeprefix("RESULT ")), "seconds": seconds}


def show(rows: list[dict[str, Any]]) -> None:
    """Print medians and the ratios of pairs."""
    of_side = {side: [row for row in rows if row["side"] == side] for side in SIDES}
    for what, read in {
        "seconds of the study": lambda row: row["seconds"],
        "seconds an epoch": lambda row: row["seconds"] / row["n_epochs"],
        "epochs trained": lambda row: row["n_epochs"],
        "test accuracy, five fresh seeds": lambda row: row["test"],
    }.items():
        ours, rivals = ([read(row) for row in of_side[side]] for side in SIDES)
        ratios = [rival / own for own, rival in zip(ours, rivals, strict=True)]
        print(
            f"{what:32} hpolab {statistics.median(ours):9.4f}   Optuna "
            f"{statistics.median(rivals):9.4f}   Optuna / hpolab {statistics.median(ratios):.2f} "
            f"[{min(ratios):.2f}..{max(ratios):.2f}]"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=70)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="one seed, eight trials")
    parser.add_argument("--json", type=Path, help="write the rows to this file, too")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.trials = 1, 8
    if arguments.one:
        side, seed = arguments.one
        run_one(side, int(seed), arguments.trials, arguments.epochs)
        return
    splits = load()
    rows = []
    for seed in range(arguments.seeds):
        for side in SIDES:
            row = timed(side, seed, arguments)
            scores = [
                test_accuracy(splits, row["params"], arguments.epochs, 1_000 + again)
                for again in range(5)
            ]
            row["test"] = statistics.mean(scores)
            rows.append(row)
            print(
                f"seed {seed}  {side:7} {row['seconds']:7.1f} s  {row['n_epochs']:4} epochs  "
                f"best {row['value']:.4f}  test {row['test']:.4f}",
                flush=True,
            )
    show(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
