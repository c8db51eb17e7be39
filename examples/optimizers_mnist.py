"""Adam, AdamW or Adadelta on MNIST: the same budget for each, and whether the difference is real.

    pip install 'hpolab[torch,report]'
    HPOLAB_DATA=/data python examples/optimizers_mnist.py

Four splits have four jobs. The weights are fitted on 1,000 images, `train`; 2,000, `valid`, are
read every epoch and steer pruning and the choice of the epoch; 5,000, `score`, are read once a
trial and rank the trials; MNIST's own 10,000 test images are read at the very end, for the best
configuration of each optimizer and for its default, on fresh seeds.

MNIST is read from $HPOLAB_DATA/mnist; without it, scikit-learn's digits stand in. Stopped, it goes
on where it was; on one core it takes about half an hour. It ends in a report of the comparison and
one of each optimizer.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
from optuna.pruners import MedianPruner
from torch import nn

from hpolab import (
    DataNotFound,
    FourSplits,
    TorchObjective,
    compare,
    confirm,
    load_digits,
    load_mnist,
    optimizer_space,
    split_four,
    write_report,
)

# Adam's learning rate 1e-4 to 1e-2, beta1 0.8 to 0.95 and beta2 0.99 to 0.9999; AdamW's besides a
# weight decay of 1e-4 to 2e-2; Adadelta's rho 0.5 to 0.999: the ranges that hpolab has for them.
OPTIMIZERS = ["adam", "adamw", "adadelta"]
BUDGETS = [1, 5, 10, 20, 40, 70]


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


def print_progress(comparison):
    """Print the best accuracy so far after some trials, one row an optimizer."""
    n_trials = min(len(each.values) for each in comparison.contenders.values())
    budgets = [budget for budget in BUDGETS if budget < n_trials] + [n_trials]
    print(f"\nBest accuracy on the score images after so many trials\n{'':10}", end="")
    print("".join(f"{budget:>9}" for budget in budgets))
    for name in comparison.contenders:
        so_far = comparison.best_so_far(name)
        print(f"{name:10}" + "".join(f"{so_far[budget - 1]:9.4f}" for budget in budgets))


def print_by_value(contender):
    """Print accuracy by thirds of each tuned parameter: how many trials, their mean, their best."""
    print(f"\n{contender.name}: accuracy on the score images by parameter, of complete trials")
    for parameter in contender.best_params:
        tuned, accuracies = contender.values_by(parameter)
        if len(set(tuned)) > 2:
            for place in np.array_split(np.argsort(tuned), 3):
                low, high = tuned[place[0]], tuned[place[-1]]
                of_third = accuracies[place]
                print(
                    f"  {parameter:13} {low:9.4g} to {high:<9.4g}{len(place):3} trials, "
                    f"mean {of_third.mean():.4f}, best {of_third.max():.4f}"
                )


def main(
    storage="sqlite:///optimizers_mnist.db", n_trials=70, max_epochs=20, n_seeds=10, folder="."
):
    splits = load_splits()
    objective = TorchObjective(
        partial(build_cnn, side=splits.train[0].shape[-1]),
        train=splits.train,
        valid=splits.valid,
        score=splits.score,
        search_space=optimizer_space("adam"),  # `compare` puts each optimizer's own in its place
        loss="cross_entropy",
        metric="accuracy",
        metrics=["loss"],
        max_epochs=max_epochs,
        batch_size=32,
    )
    comparison = compare(
        objective,
        OPTIMIZERS,
        study_name="mnist",
        n_trials=n_trials,
        storage=storage,
        # Before the sixth epoch the sigmoid layer has hardly begun to learn, and nothing is pruned.
        pruner=MedianPruner(n_warmup_steps=5),
        test=splits.test,
        n_test_seeds=n_seeds,
        seed=0,
    )
    print(f"\nAccuracy on the score images and, over {n_seeds} fresh seeds, on the test images")
    print(comparison)
    print_progress(comparison)
    for contender in comparison.contenders.values():
        print_by_value(contender)

    reports = [write_report(comparison, Path(folder) / "mnist.html")]
    for name, contender in comparison.contenders.items():
        # Is the best configuration better than the default, or only the luckiest of so many?
        own = objective.with_search_space(optimizer_space(name))
        confirmed = confirm(contender.study, own, test=splits.test, top_k=1, n_seeds=n_seeds)
        print(f"\n{confirmed}")
        reports.append(write_report(contender.study, Path(folder) / f"mnist-{name}.html"))
    print("\nwrote", ", ".join(map(str, reports)))
    print(f"\nWhat these data support: {comparison.verdict}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storage", default="sqlite:///optimizers_mnist.db")
    parser.add_argument("--trials", type=int, default=70)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--folder", default=".")
    args = parser.parse_args()
    main(args.storage, args.trials, args.epochs, args.seeds, args.folder)
