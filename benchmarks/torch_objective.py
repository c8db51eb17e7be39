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
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from hpolab import TorchObjective, make_study, optimizer_space, run

N_EPOCHS = 2


def build_mlp(params: object) -> nn.Module:
    """784-64-10."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))


def build_cnn(params: object) -> nn.Module:
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

    train, valid, score = split(5_000), split(2_000), split(5_000)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=args.trials)

    for name, build_model in (("MLP 784-64-10", build_mlp), ("CNN", build_cnn)):

        def ours(build_model=build_model) -> None:
            objective = TorchObjective(
                build_model,
                train=train,
                valid=valid,
                score=score,
                search_space=optimizer_space("adamw"),
                loss="cross_entropy",
                metric="accuracy",
                max_epochs=N_EPOCHS,
                batch_size=32,
            )
            study = make_study("s", storage="memory://", direction="maximize", pruner=pruner)
            run(study, objective, n_trials=args.trials, show_progress_bar=False)

        def rival(build_model=build_model) -> None:
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
                train_loader = DataLoader(TensorDataset(*train), batch_size=32, shuffle=True)
                valid_loader = DataLoader(TensorDataset(*valid), batch_size=32)
                for epoch in range(N_EPOCHS):
                    model.train()
                    for images, labels in train_loader:
                        optimizer.zero_grad()
                        loss = criterion(model(images), labels)
                        loss.backward()
                        optimizer.step()
                    trial.report(accuracy(model, valid_loader), epoch)
                    if trial.should_prune():
                        raise optuna.TrialPruned
                return accuracy(model, DataLoader(TensorDataset(*score), batch_size=32))

            study = optuna.create_study(
                direction="maximize", pruner=pruner, sampler=optuna.samplers.TPESampler(seed=0)
            )
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
