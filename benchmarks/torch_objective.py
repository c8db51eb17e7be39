"""TorchObjective against the loop that a user would write, on MNIST-shaped data.

The user's loop is what tutorials teach: DataLoaders over TensorDatasets, `trial.report` and
MedianPruner, `study.optimize`. Same model, optimizer, epochs, batch size and number of trials; the
data is random, since only time is measured. The pruner never prunes (random labels would make the
two prune differently), so both train every epoch.

    python benchmarks/torch_objective.py
"""

from __future__ import annotations

import argparse

import optuna
import torch
from _compare import compare
from mnist_study import BATCH_SIZE, build_cnn, tutorial_objective
from torch import nn

from hpolab import TorchObjective, make_study, optimizer_space, run

N_EPOCHS = 2


def build_mlp(params: object) -> nn.Module:
    """784-64-10."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))


def main() -> None:
    """Compare on both models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="torch threads of both")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(args.threads)
    generator = torch.Generator().manual_seed(0)

    def split(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.rand(n, 1, 28, 28, generator=generator)
        return images, torch.randint(10, (n,), generator=generator)

    splits = {"train": split(5_000), "valid": split(2_000), "score": split(5_000)}
    pruner = optuna.pruners.MedianPruner(n_startup_trials=args.trials)

    for name, build_model in (("MLP 784-64-10", build_mlp), ("CNN", build_cnn)):

        def ours(build_model=build_model) -> None:
            objective = TorchObjective(
                build_model,
                **splits,
                search_space=optimizer_space("adamw"),
                loss="cross_entropy",
                metric="accuracy",
                max_epochs=N_EPOCHS,
                batch_size=BATCH_SIZE,
            )
            study = make_study("s", storage="memory://", direction="maximize", pruner=pruner)
            run(study, objective, n_trials=args.trials, show_progress_bar=False)

        def rival(build_model=build_model) -> None:
            study = optuna.create_study(
                direction="maximize", pruner=pruner, sampler=optuna.samplers.TPESampler(seed=0)
            )
            objective = tutorial_objective(build_model, splits, N_EPOCHS)
            study.optimize(objective, n_trials=args.trials)

        compare(
            f"{name}, {N_EPOCHS} epochs of 5,000 images, batch 32, {args.threads} thread(s)",
            ours,
            rival,
            n_repeats=args.repeats,
            per=args.trials,
            target="(target: cpu <= 0.7)",
        )


if __name__ == "__main__":
    main()
