"""AdamW on MNIST with four splits: 1,000 train, 2,000 valid, 5,000 score, 10,000 test.

The weights are fitted on `train`; `valid` is read every epoch and steers pruning and the choice of
the epoch; `score` is read once a trial and ranks the trials; `test`, MNIST's own test images, is
read once, at the very end, for the default configuration and the best one.

MNIST is read from $HPOLAB_DATA/mnist; without it, scikit-learn's digits stand in.

    HPOLAB_DATA=/data python examples/mnist_adamw.py
"""

import argparse
from functools import partial

import numpy as np
from torch import nn

from hpolab import make_study, run
from hpolab.datasets import FourSplits, load_digits, load_mnist, split_four
from hpolab.errors import DataNotFound
from hpolab.objectives import TorchObjective
from hpolab.search_space import optimizer_space


def load_splits():
    try:
        images, labels = load_mnist()
    except DataNotFound as reason:
        print(f"{reason}\nscikit-learn's digits stand in for it.")
        return split_four(load_digits(), n_train=300, n_valid=300, n_score=600, n_test=597)
    order = np.random.default_rng(0).permutation(60_000)  # the training images
    train, valid, score = np.split(order[:8_000], [1_000, 3_000])
    test = np.arange(60_000, 70_000)
    return FourSplits(*((images[rows], labels[rows]) for rows in (train, valid, score, test)))


def build_cnn(params, side):
    """ReLU convolutions, a sigmoid fully connected layer, and ten outputs.

    The outputs are logits: the softmax is part of the cross-entropy loss, where it is stable.
    """
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (side // 4) ** 2, 64),
        nn.Sigmoid(),
        nn.Linear(64, 10),
    )


def main(storage="sqlite:///mnist_adamw.db", n_trials=70, max_epochs=20):
    splits = load_splits()
    objective = TorchObjective(
        partial(build_cnn, side=splits.train[0].shape[-1]),
        train=splits.train,
        valid=splits.valid,
        score=splits.score,
        search_space=optimizer_space("adamw"),
        loss="cross_entropy",
        metric="accuracy",
        metrics=["loss"],
        max_epochs=max_epochs,
        batch_size=32,
    )
    study = make_study(
        "mnist-adamw", storage=storage, direction="maximize", pruner="hyperband", seed=0
    )
    run(study, objective, n_trials=n_trials)

    for name, trial in (("default", study.trials[0]), ("best", study.best_trial)):
        params = objective.search_space.from_trial(trial.params)
        model = objective.fit(params, seed=1)
        accuracy = objective.evaluate(model, splits.test)["accuracy"]
        print(f"{name:8} score {trial.value:.4f}  test {accuracy:.4f}  {params}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storage", default="sqlite:///mnist_adamw.db")
    parser.add_argument("--trials", type=int, default=70)
    parser.add_argument("--epochs", type=int, default=20)
    args = parser.parse_args()
    main(args.storage, args.trials, args.epochs)
