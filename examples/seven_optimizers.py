"""Seven optimizers of one logistic regression: at one learning rate, and each tuned.

pip install 'hpolab[sklearn,report]'
python examples/seven_optimizers.py

The update rules stand here in plain NumPy. They fit scikit-learn's breast cancer data by binary
cross-entropy, first all at one learning rate, as optimizers are often compared, then each in its
own space with the same number of trials. The ranking changes: the first one tells of the learning
rate, not of them.

The value is the loss on all rows that are trained on, as this asks who descends best. The best of
each is then trained again in ten fresh orders of the batches, and its loss on rows held out stands
beside it: who descends best need not predict best. It ends in a report of each comparison.
"""

import inspect
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from hpolab import Objective, compare, optimizer_space, write_report

SHARED_LR = 0.01
# A convex loss bears larger rates than the networks that hpolab's own ranges are for.
LEARNING_RATES = {
    "sgd": (0.01, 100.0),
    "momentum": (1e-3, 10.0),
    "nesterov": (1e-3, 10.0),
    "adagrad": (0.01, 10.0),
    "rmsprop": (1e-4, 1.0),
    "adam": (1e-3, 1.0),
    "adamw": (1e-3, 1.0),
}
BATCH_SIZE = 32


def sgd(weights, gradient, state, *, lr):
    return weights - lr * gradient


def momentum(weights, gradient, state, *, lr, momentum=0.9):
    """Polyak 1964: a step along the decaying sum of all gradients."""
    state["sum"] = momentum * state.get("sum", 0.0) + gradient
    return weights - lr * state["sum"]


def nesterov(weights, gradient, state, *, lr, momentum=0.9):
    """Nesterov 1983, as Sutskever et al. 2013 write it: looks one step of the momentum ahead."""
    state["sum"] = momentum * state.get("sum", 0.0) + gradient
    return weights - lr * (gradient + momentum * state["sum"])


def adagrad(weights, gradient, state, *, lr, eps=1e-10):
    """Duchi et al. 2011: each weight's steps shrink by all of its gradients so far."""
    state["squares"] = state.get("squares", 0.0) + gradient**2
    return weights - lr * gradient / (np.sqrt(state["squares"]) + eps)


def rmsprop(weights, gradient, state, *, lr, alpha=0.99, eps=1e-8):
    """Tieleman and Hinton 2012: by the recent ones alone."""
    state["squares"] = alpha * state.get("squares", 0.0) + (1 - alpha) * gradient**2
    return weights - lr * gradient / (np.sqrt(state["squares"]) + eps)


def adam(weights, gradient, state, *, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    """Kingma and Ba 2015: momentum and recent squares, both corrected for starting at zero."""
    state["step"] = state.get("step", 0) + 1
    state["mean"] = beta1 * state.get("mean", 0.0) + (1 - beta1) * gradient
    state["squares"] = beta2 * state.get("squares", 0.0) + (1 - beta2) * gradient**2
    mean = state["mean"] / (1 - beta1 ** state["step"])
    squares = state["squares"] / (1 - beta2 ** state["step"])
    return weights - lr * mean / (np.sqrt(squares) + eps)


def adamw(weights, gradient, state, *, lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01):
    """Loshchilov and Hutter 2019: Adam, and weights that decay apart from the gradient."""
    decayed = weights * (1 - lr * weight_decay)
    return adam(decayed, gradient, state, lr=lr, beta1=beta1, beta2=beta2, eps=eps)


RULES = {rule.__name__: rule for rule in (sgd, momentum, nesterov, adagrad, rmsprop, adam, adamw)}


def loss_and_gradient(weights, X, y):
    """Return the binary cross-entropy of a logistic regression, and its gradient.

    Args:
        weights: (d,).
        X: (n, d) inputs.
        y: (n,) labels, 0 or 1.
    """
    logits = X @ weights
    loss = np.mean(np.logaddexp(0, logits) - y * logits)
    return loss, X.T @ (1 / (1 + np.exp(-logits)) - y) / len(y)


def load_data():
    """Return inputs and labels to train on and to hold out; a column of ones is the intercept."""
    X, y = load_breast_cancer(return_X_y=True)
    X, X_held_out, y, y_held_out = train_test_split(X, y, stratify=y, random_state=0)
    scaler = StandardScaler().fit(X)
    X, X_held_out = (
        np.column_stack([scaler.transform(part), np.ones(len(part))]) for part in (X, X_held_out)
    )
    return (X, y), (X_held_out, y_held_out)


class LogisticRegression(Objective):
    """Fits the weights by batches, and reports the loss on all rows after each epoch."""

    def __init__(self, data, *, search_space, n_epochs):
        super().__init__(search_space=search_space, direction="minimize", max_steps=n_epochs)
        self.data = data

    def train(self, params, reporter):
        weights = self._descend(params, reporter)
        return self.evaluate(weights, self.data)["loss"]

    def fit(self, params, seed):
        return self._descend(params, self.reporter(seed=seed))

    def evaluate(self, weights, data):
        return {"loss": loss_and_gradient(weights, *data)[0]}

    def _descend(self, params, reporter):
        X, y = self.data
        rule = RULES[params["optimizer"]]
        settings = {key: params[key] for key in inspect.signature(rule).parameters if key in params}
        weights, state, rng = np.zeros(X.shape[1]), {}, np.random.default_rng(reporter.seed)
        for epoch in reporter.steps(self.max_steps):
            order = rng.permutation(len(y))
            for rows in np.split(order, range(BATCH_SIZE, len(y), BATCH_SIZE)):
                _, gradient = loss_and_gradient(weights, X[rows], y[rows])
                weights = rule(weights, gradient, state, **settings)
            reporter.report(self.evaluate(weights, self.data)["loss"], epoch)
        return weights


def print_curves(comparison, title):
    """Print the loss by epoch of each optimizer's best trial."""
    curves = {
        name: each.study.best_trial.intermediate_values
        for name, each in comparison.contenders.items()
    }
    last = max(next(iter(curves.values())))
    epochs = [epoch for epoch in (0, 1, 2, 4, 9, 19) if epoch < last] + [last]
    print(f"\n{title}: loss after so many epochs")
    print(" " * 10 + "".join(f"{epoch + 1:9}" for epoch in epochs))
    for name, losses in curves.items():
        print(f"{name:10}" + "".join(f"{losses[epoch]:9.4f}" for epoch in epochs))


def print_rankings(shared, tuned):
    """Print both rankings side by side, and say whether they differ."""
    before, after = ([each.name for each in found.ranking()] for found in (shared, tuned))
    print(f"\n     at lr {SHARED_LR:<12}   each tuned")
    for place, pair in enumerate(zip(shared.ranking(), tuned.ranking(), strict=True), start=1):
        print(f"{place:3}  " + "   ".join(f"{each.name:9} {each.best_value:8.4f}" for each in pair))
    ratios = [
        found.ranking()[-1].best_value / found.ranking()[0].best_value for found in (shared, tuned)
    ]
    print("the worst has {:.2f} times the best one's loss; tuned, {:.2f} times".format(*ratios))
    moved = {name: before.index(name) - after.index(name) for name in after}
    if any(moved.values()):
        up, down = (choose(moved, key=moved.get) for choose in (max, min))
        print(f"The ranking changes: {up} gains {moved[up]} places, {down} loses {-moved[down]}.")
        print(f"The first one ranks how well the learning rate {SHARED_LR} suits each.")
    else:
        print("The ranking is the same: one learning rate happened to suit all.")
    on_held_out = min(tuned.contenders.values(), key=lambda each: np.mean(each.test_scores))
    print(f"Of the tuned, {after[0]} descends best; on rows held out {on_held_out.name} does best.")


def main(storage="sqlite:///seven_optimizers.db", n_trials=30, n_epochs=30, folder="."):
    data, held_out = load_data()
    objective = LogisticRegression(data, search_space=optimizer_space("sgd"), n_epochs=n_epochs)
    # One trial each: its default, but for the learning rate.
    at_one_rate = {name: optimizer_space(name).override(lr=SHARED_LR) for name in RULES}
    shared = compare(objective, at_one_rate, study_name="shared", n_trials=1, storage=storage)
    print_curves(shared, f"All at lr {SHARED_LR}")

    spaces = {name: optimizer_space(name).override(lr=LEARNING_RATES[name]) for name in RULES}
    tuned = compare(
        objective, spaces, study_name="tuned", n_trials=n_trials, storage=storage, pruner="none",
        test=held_out, n_test_seeds=10,
    )  # fmt: skip
    print_curves(tuned, f"Each the best of {n_trials} trials in its own space")
    print(f"\n{tuned}")
    print_rankings(shared, tuned)

    reports = [
        write_report(found, Path(folder) / f"seven-optimizers-{found.study_name}.html")
        for found in (shared, tuned)
    ]
    print("\nwrote", ", ".join(map(str, reports)))


if __name__ == "__main__":
    main()
