"""What all workers of these examples tune: a small network on scikit-learn's digits.

A worker finds it as `objective:objective`. Nothing in here knows of any cluster.
"""

import torch

from hpolab import TorchObjective, load_digits, optimizer_space, split_four


def build_model(params):
    return torch.nn.Sequential(
        torch.nn.Flatten(),
        torch.nn.Linear(64, params["hidden"]),
        torch.nn.ReLU(),
        torch.nn.Linear(params["hidden"], 10),
    )


data = split_four(load_digits(), n_train=500, n_valid=300, n_score=497, n_test=500)
objective = TorchObjective(
    build_model,
    train=data.train,
    valid=data.valid,
    score=data.score,
    search_space=optimizer_space("adamw") | {"hidden": (16, 128)},
    loss="cross_entropy",
    metric="accuracy",
    max_epochs=20,
    patience=5,
)
