"""Tune the usual optimizer, or change to a new one? Both gains, at equal cost.

    pip install 'hpolab[optimizers,sklearn]'
    python examples/fair_optimizers.py

New optimizers are often shown to be faster than an AdamW that was not tuned as they were. Wen et
al. 2025, "Fantastic Pretraining Optimizers and Where to Find Them" (arXiv:2509.02046), tuned all
alike on language models and found less than had been claimed, for the best of them 1.4 times
AdamW's speed at 0.1 billion parameters and 1.1 times at 1.2 billion. This is the question in small,
on scikit-learn's digits: AdamW and five newer optimizers, each at its default, and each tuned with
as many trials.

All train at a constant rate for the same epochs, and the value is the cross-entropy. A gain is a
difference of the loss on test images that no trial has read, over fresh seeds that are the same for
all; its interval holds for all gains of its column together. It takes a few minutes on one core.
"""

import argparse

import numpy as np
from scipy.stats import ttest_rel
from torch import nn

from hpolab import TorchObjective, compare, load_digits, optimizer_space, split_four

USUAL = "adamw"
NEWER = ["muon", "soap", "lion", "prodigy", "schedulefree_adamw"]


def build_model(params):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    )


class Difference:
    """The mean difference of paired numbers, with an interval of 95 %.

    The interval is that of a paired t-test; ``n_pairs`` of them hold together (Bonferroni).
    """

    def __init__(self, first, second, n_pairs=1):
        self.low, self.high = ttest_rel(first, second).confidence_interval(1 - 0.05 / n_pairs)
        self.mean = np.mean(np.subtract(first, second))

    @property
    def answer(self):
        if self.low > 0:
            return "more"
        return "less" if self.high < 0 else "undecided"

    def __str__(self):
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def gain(before, after, n_pairs=1):
    """Return by how much the second of two contenders has the lower test loss, seed by seed."""
    return Difference(before.test_scores, after.test_scores, n_pairs)


def print_table(default, tuned):
    print(f"\n{'':20}test loss, mean   gain, and its interval of 95 %")
    print(f"{'':20}default   tuned   {'by tuning it':26}", end="")
    print(f"{'by changing, untuned':26}by changing, both tuned")
    for name in [USUAL, *NEWER]:
        means = [np.mean(found[name].test_scores) for found in (default, tuned)]
        print("{:20}{:7.3f}{:8.3f}   ".format(name, *means), end="")
        gains = [gain(default[name], tuned[name], len(default))]
        if name != USUAL:
            gains += [gain(found[USUAL], found[name], len(NEWER)) for found in (default, tuned)]
        print("".join(f"{each!s:26}" for each in gains).rstrip())


def print_conclusion(default, tuned):
    """Say which has gained more, tuning or changing, as these numbers have it."""
    print(f"\nTuning {USUAL} gains {gain(default[USUAL], tuned[USUAL])}.")
    # A gain less another gain: of the untuned others only the loss of tuned AdamW is left.
    say(
        "changing to {} without tuning",
        {name: gain(tuned[USUAL], default[name], len(NEWER)) for name in NEWER},
    )
    by_tuning = np.subtract(default[USUAL].test_scores, tuned[USUAL].test_scores)
    by_changing = {
        name: np.subtract(tuned[USUAL].test_scores, tuned[name].test_scores) for name in NEWER
    }
    say(
        f"changing from a tuned {USUAL} to a tuned {{}}",
        {name: Difference(by_changing[name], by_tuning, len(NEWER)) for name in NEWER},
    )
    best = min(tuned.values(), key=lambda each: each.best_value)
    print(f"The best trial, by the score images, is one of {best.name}: {best.best_value:.3f}.")


def say(change, differences):
    """Print how changes compare with tuning, with the names to which each sentence applies."""
    for answer, sentence in {
        "more": "{} gains more than tuning.",
        "less": "{} gains less than tuning.",
        "undecided": "Whether {} gains more than tuning is not known.",
    }.items():
        names = [name for name, each in differences.items() if each.answer == answer]
        if names:
            said = sentence.format(change.format(" or ".join(names)))
            print(said[0].upper() + said[1:])


def main(storage="sqlite:///fair_optimizers.db", n_trials=30, max_epochs=15, n_seeds=10):
    data = split_four(load_digits(), n_train=500, n_valid=300, n_score=400, n_test=597)
    objective = TorchObjective(
        build_model,
        train=data.train,
        valid=data.valid,
        score=data.score,
        search_space=optimizer_space(USUAL),  # `compare` puts each optimizer's own in its place
        loss="cross_entropy",
        metric="loss",
        max_epochs=max_epochs,
        batch_size=32,
    )
    settings = {"storage": storage, "test": data.test, "n_test_seeds": n_seeds, "pruner": "none"}
    names = [USUAL, *NEWER]
    # Trial 0 of a study is the default configuration.
    default = compare(objective, names, study_name="default", n_trials=1, **settings)
    # Not fused: AdamW's trials would be drawn several at a time, those of the others one by one.
    tuned = compare(objective, names, study_name="tuned", n_trials=n_trials, **settings)
    print_table(default.contenders, tuned.contenders)
    print_conclusion(default.contenders, tuned.contenders)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storage", default="sqlite:///fair_optimizers.db")
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=10)
    args = parser.parse_args()
    main(args.storage, args.trials, args.epochs, args.seeds)
