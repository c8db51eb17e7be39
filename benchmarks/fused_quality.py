"""Is the best of a fused study as good as that of one trial after the other?

A fused study's sampler knows less when it draws: K trials are in training at once. On
scikit-learn's digits, a small MLP, AdamW's space with hidden width, TPE and the median pruner, both
ways get the same number of trials, for some seeds of the study. The value is that of the best
trial on the rows that rank trials; the differences are paired by seed.

    python benchmarks/fused_quality.py
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import torch
from scipy import stats
from torch import nn

from hpolab import TorchObjective, load_digits, make_study, optimizer_space, run, split_four

if TYPE_CHECKING:
    from optuna import Study


def build(params: dict[str, Any]) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def study_of(objective: TorchObjective, n_trials: int, seed: int, fuse: int | None) -> Study:
    study = make_study(
        "quality", storage="memory://", objective=objective, pruner="median", seed=seed
    )
    run(study, objective, n_trials=n_trials, fuse=fuse, show_progress_bar=False)
    return study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=70)
    parser.add_argument("--fuse", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    splits = split_four(load_digits(), n_train=300, n_valid=300, n_score=600, n_test=597)
    objective = TorchObjective(
        build,
        train=splits.train,
        valid=splits.valid,
        score=splits.score,
        search_space=optimizer_space("adamw"),
        loss="cross_entropy",
        metric="loss",
        max_epochs=8,
    )
    pairs = []
    for seed in range(arguments.seeds):
        fused = study_of(objective, arguments.trials, seed, arguments.fuse)
        alone = study_of(objective, arguments.trials, seed, None)
        pairs.append((fused.best_value, alone.best_value))
    fused_best, alone_best = np.array(pairs).T
    test = stats.ttest_rel(fused_best, alone_best)
    low, high = test.confidence_interval()
    print(
        f"best loss of {arguments.trials} trials, mean of {arguments.seeds} seeds: fused "
        f"{fused_best.mean():.5f}, alone {alone_best.mean():.5f}; difference "
        f"{(fused_best - alone_best).mean():+.5f} (95 % interval {low:+.5f} to {high:+.5f}, "
        f"p {test.pvalue:.2f}); from one seed to another it varies by {alone_best.std(ddof=1):.5f}"
    )


if __name__ == "__main__":
    main()
