"""Keep your training loop: a Reporter prunes it, stops it early, and survives crashes and NaN.

python examples/own_loop.py
"""

import torch

from hpolab import (
    Reporter,
    build_optimizer,
    load_digits,
    make_study,
    optimizer_space,
    run,
    split_four,
)

SPACE = optimizer_space(["sgd", "adam", "adamw"])  # the optimizer itself is a parameter
DATA = split_four(load_digits(), n_train=500, n_valid=300, n_score=497, n_test=500)


def accuracy(model, split):
    images, labels = map(torch.from_numpy, split)
    with torch.no_grad():
        return (model(images.flatten(1)).argmax(1) == labels).float().mean().item()


def objective(trial, max_epochs=15):
    params = SPACE.suggest(trial)  # {"optimizer": "adam", "lr": …, "beta1": …, …}
    images, labels = map(torch.from_numpy, DATA.train)
    with Reporter(trial, patience=4) as reporter:  # out of memory and NaN prune the trial
        torch.manual_seed(reporter.seed)  # the same trial trains the same way after a crash
        model = torch.nn.Sequential(
            torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)
        )
        optimizer = build_optimizer(params, model)
        reporter.restore(model=model, optimizer=optimizer)  # if a crash cut this trial short
        for epoch in reporter.steps(max_epochs):
            for rows in torch.randperm(len(labels)).split(32):
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(
                    model(images[rows].flatten(1)), labels[rows]
                )
                loss.backward()
                optimizer.step()
            state = {"model": model, "optimizer": optimizer}  # kept every ten seconds
            reporter.report(accuracy(model, DATA.valid), epoch, state=state)
        return accuracy(model, DATA.score)


def main(storage="sqlite:///own_loop.db", n_trials=20):
    study = make_study("own-loop", storage=storage, direction="maximize", pruner="median", seed=0)
    run(study, objective, n_trials=n_trials)  # study.optimize(objective, n_trials=20) works, too
    print(f"best accuracy {study.best_value:.4f} with {SPACE.from_trial(study.best_params)}")


if __name__ == "__main__":
    main()
