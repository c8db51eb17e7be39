"""Tune a small network on scikit-learn's digits, stop whenever you like, start again to resume.

python examples/quickstart.py
"""

import torch

from hpolab import (
    TorchObjective,
    load_digits,
    make_study,
    optimizer_space,
    run,
    split_four,
)


def build_model(params):
    return torch.nn.Sequential(
        torch.nn.Flatten(),
        torch.nn.Linear(64, params["hidden"]),
        torch.nn.ReLU(),
        torch.nn.Linear(params["hidden"], 10),
    )


def main(storage="sqlite:///quickstart.db", n_trials=30, max_epochs=20):
    data = split_four(load_digits(), n_train=500, n_valid=300, n_score=497, n_test=500)
    objective = TorchObjective(
        build_model,
        train=data.train,  # fitted on
        valid=data.valid,  # read every epoch: pruning, early stopping
        score=data.score,  # read once at the trial's end: the trial's value
        search_space=optimizer_space("adamw") | {"hidden": (16, 128)},
        loss="cross_entropy",
        metric="accuracy",
        max_epochs=max_epochs,
        patience=5,
    )
    study = make_study("quickstart", storage=storage, direction="maximize", seed=0)
    run(study, objective, n_trials=n_trials)  # start it again after a crash: it goes on

    print(f"best accuracy {study.best_value:.4f} with {study.best_params}")
    model = objective.fit_best(study)  # the best trial's own model, bit for bit
    print(f"on data the study never saw: {objective.evaluate(model, data.test)['accuracy']:.4f}")


if __name__ == "__main__":
    main()
