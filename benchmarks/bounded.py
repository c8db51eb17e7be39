"""What does it cost in quality that a sampler sees a bounded set of a long study's trials?

Twice the same study, seed by seed: with the bound and without. The bound is lowered to 250 trials
for TPE (the best 25, the latest 225) of 800, and to 50 for the GP (the best 20, 30 spread over the
study) of 120, so that it can be afforded: a study of 100,000 trials without the bound takes days.
The difference is negative where the bound is better; its interval is Student's over the seeds.

- Ackley in 10 dimensions, and Hartmann in 6: continuous, deterministic.
- A mixed one whose parameters depend on a choice.
- Kernel ridge on scikit-learn's diabetes: the loss on a small random split, another for each trial;
  judged by the loss over 40 other splits of the configuration that looked best.

    python benchmarks/bounded.py                 # TPE, about 14 minutes
    python benchmarks/bounded.py --sampler gp    # without the mixed one, about 15 minutes
    python benchmarks/bounded.py --cost          # ms a trial by the study's length

TPE, medians of 20 seeds with the bound and without, mean paired difference and its 95 % interval:

    Ackley         5.6243    5.7641    -0.113  [-0.337, +0.110]
    Hartmann      -3.3073   -3.3102    +0.0009 [-0.0013, +0.0030]
    conditional    0.0333    0.1077    -0.014  [-0.039, +0.011]
    ridge          0.5337    0.5347    -0.0040 [-0.0107, +0.0027]

Below 241 trials TPE would take fewer than 25 for its good ones, and loses: with 150 of 600, +0.61
[+0.22, +0.99] on Ackley. The GP with 50 of 120 loses nothing on Hartmann, +0.004 [-0.003, +0.011],
and much on Ackley's ten dimensions, +2.7 [+1.4, +4.1], where five points a dimension are too few.
In the package its bound is 500, for its cost: 0.5 s a trial at 400, 2.2 s at 800. What that bound
costs in quality was not measured.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.samplers import GPSampler, TPESampler
from scipy.stats import t as student

from hpolab import TrialSeededSampler, make_study, run
from hpolab.studies import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna.trial import FrozenTrial

    Objective = Callable[[optuna.Trial], float]

_A = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
)
_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def hartmann(trial: optuna.Trial) -> float:
    """Six dimensions, six local minima; -3.32237 at best."""
    x = np.array([trial.suggest_float(f"x{i}", 0, 1) for i in range(6)])
    return float(-np.dot([1, 1.2, 3, 3.2], np.exp(-(_A * (x - _P) ** 2).sum(1))))


def ackley(trial: optuna.Trial) -> float:
    """Ten dimensions, many local minima; 0 at best."""
    x = np.array([trial.suggest_float(f"x{i}", -32.768, 32.768) for i in range(10)])
    bowl = -20 * np.exp(-0.2 * np.sqrt((x**2).mean()))
    return float(bowl - np.exp(np.cos(2 * np.pi * x).mean()) + 20 + np.e)


def conditional(trial: optuna.Trial) -> float:
    """Three branches with parameters of their own beside two common ones; 0 at best."""
    kind = trial.suggest_categorical("kind", ["a", "b", "c"])
    lr = trial.suggest_float("lr", 1e-5, 1, log=True)
    common = (math.log10(lr) + 2.5) ** 2 / 4 + abs(trial.suggest_int("n", 1, 20) - 13) / 20
    if kind == "a":
        return common + 0.3 + (trial.suggest_float("a", 0, 1) - 0.7) ** 2
    if kind == "b":
        deep = 2 if trial.suggest_categorical("deep", [True, False]) else 1
        return common + deep * sum((trial.suggest_float(f"b{i}", -1, 1) - 0.37) ** 2 for i in "123")
    return common + 0.15 + (math.log10(trial.suggest_float("c", 1e-4, 1, log=True)) + 1) ** 2 / 8


@cache
def _diabetes() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    return 20 * x, (y - y.mean()) / y.std()


def _ridge_loss(params: dict[str, Any], seed: int) -> float:
    """Return the mean squared error of kernel ridge on one split: 120 rows to fit, 60 to judge."""
    x, y = _diabetes()
    rows = np.random.default_rng(seed).permutation(len(y))
    fit, judge = rows[:120], rows[120:180]

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if params["kernel"] == "poly":
            return (params["slope"] * a @ b.T + params["offset"]) ** params["degree"]
        squared = ((a[:, None] - b) ** 2).sum(-1)
        return np.exp(-params["gamma"] * (squared if params["kernel"] == "rbf" else squared**0.5))

    ridge = kernel(x[fit], x[fit]) + params["alpha"] * np.eye(len(fit))
    predicted = kernel(x[judge], x[fit]) @ np.linalg.lstsq(ridge, y[fit], rcond=None)[0]
    return float(min(10.0, ((predicted - y[judge]) ** 2).mean()))


def ridge(trial: optuna.Trial) -> float:
    """Kernel ridge on real data, with noise: another split for each trial."""
    trial.suggest_float("alpha", 1e-4, 1e2, log=True)
    if trial.suggest_categorical("kernel", ["rbf", "laplacian", "poly"]) == "poly":
        trial.suggest_int("degree", 1, 3)
        trial.suggest_float("offset", 0, 2)
        trial.suggest_float("slope", 1e-4, 1, log=True)
    else:
        trial.suggest_float("gamma", 1e-4, 1, log=True)
    return _ridge_loss(trial.params, 1000 + trial.number)


def true_value(objective: Objective, best: FrozenTrial) -> float:
    """Return what the best trial is worth without noise."""
    if objective is ridge:
        return float(np.mean([_ridge_loss(best.params, seed) for seed in range(40)]))
    return best.value or 0.0


def study_of(
    objective: Objective, kind: Callable[..., Any], n_trials: int, seed: int, *, bounded: bool
) -> tuple[float, float]:
    """Return the true value of a study's best trial, and its CPU ms a trial."""
    study = optuna.create_study(sampler=TrialSeededSampler(kind, seed=seed, bounded=bounded))
    start = time.process_time()
    study.optimize(objective, n_trials=n_trials)
    elapsed = time.process_time() - start
    return true_value(objective, study.best_trial), 1000 * elapsed / n_trials


def compare(objective: Objective, kind: Callable[..., Any], n_trials: int, n_seeds: int) -> None:
    """Print both arms' medians, the paired difference and its interval."""
    both = [
        [study_of(objective, kind, n_trials, seed, bounded=bounded) for seed in range(n_seeds)]
        for bounded in (True, False)
    ]
    values, cost = np.array(both)[..., 0], np.array(both)[..., 1].mean(1)
    difference = values[0] - values[1]
    half = student.ppf(0.975, n_seeds - 1) * difference.std(ddof=1) / math.sqrt(n_seeds)
    print(
        f"{objective.__name__:12} median {np.median(values[0]):9.4f} bounded "
        f"{np.median(values[1]):9.4f} all   difference {difference.mean():+.4f} "
        f"[{difference.mean() - half:+.4f}, {difference.mean() + half:+.4f}], "
        f"spread of all {values[1].std(ddof=1):.4f}   "
        f"ms a trial {cost[0]:.1f} bounded, {cost[1]:.1f} all",
        flush=True,
    )


def cost(lengths: list[int]) -> None:
    """Print CPU ms a trial of `run` in memory by the study's length."""
    distributions = {name: FloatDistribution(-1, 1) for name in "xyz"}
    rng = np.random.default_rng(0)
    for sampler in ("random", "qmc", "tpe"):
        for n_stored in lengths:
            study = make_study("s", storage="memory://", sampler=sampler, pruner="none")
            study.add_trials(
                optuna.trial.create_trial(
                    params=dict(zip("xyz", map(float, row), strict=True)),
                    distributions=distributions,
                    value=float((row**2).sum()),
                )
                for row in rng.uniform(-1, 1, (n_stored, 3))
            )
            spend = partial(
                run,
                study,
                lambda trial: sum(trial.suggest_float(name, -1, 1) ** 2 for name in "xyz"),
                show_progress_bar=False,
            )
            spend(n_trials=n_stored + 10)
            start = time.process_time()
            spend(n_trials=n_stored + 60)
            print(f"{sampler:7} {n_stored:7} {20 * (time.process_time() - start):7.2f} ms a trial")


def main() -> None:
    """Run the comparison, or measure the cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sampler", choices=["tpe", "gp"], default="tpe")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--lengths", type=int, nargs="+", default=[100, 1000, 10_000, 100_000])
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    if args.cost:
        cost(args.lengths)
        return
    # The table that the package goes by; nobody is meant to change it but for this.
    shown._RULES = dict(shown._RULES) | {
        TPESampler: shown.Rule(250, n_best=25),
        GPSampler: shown.Rule(50, n_best=20, spread=True, complete_only=True),
    }
    if args.sampler == "gp":
        for objective in (hartmann, ackley, ridge):
            compare(objective, GPSampler, 120, args.seeds)
        return
    for objective in (ackley, hartmann, conditional, ridge):
        compare(objective, TPESampler, 800, args.seeds)


if __name__ == "__main__":
    main()
