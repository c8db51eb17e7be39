"""Text detection, tuned flat and in stages, at equal CPU time: H-mean on held-out scenes.

The example's scenes, network and parameters (`examples/text_detection.py`), drawn anew for each
seed. Three ways spend the same CPU time, that of the first with its ``--trials`` trainings:

- staged: each trial tunes the post-processing on its own maps, in a study of its own;
- once: trials are scored at the default post-processing, which is tuned once, for the best;
- flat: all seven parameters in one study, a training a trial. It saves the cheap trials' time, and
  so has more trainings, and is scored on all scenes that the others split.

Each way's best is scored with its own network and post-processing on scenes that none has seen.
The default: the trainer's own configuration, its post-processing included, in one training.

    python benchmarks/staged.py --seeds 10
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import torch

from hpolab import ArtifactCache, FunctionObjective, make_study, run
from hpolab.analysis.statistics import intervals, p_values
from hpolab.studies.trials import METRICS_KEY
from hpolab.trial.reporter import training_seed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from optuna import Study

    from hpolab import Reporter

WAYS = ("default", "flat", "once", "staged")
MANY = 100_000


@dataclass(frozen=True)
class Sizes:
    """How large a comparison is."""

    n_trials: int
    max_epochs: int
    n_scenes: int
    n_post_trials: int


@dataclass(frozen=True)
class Outcome:
    """What a way came to: the H-mean on held-out scenes, trainings, CPU seconds."""

    h_mean: float
    n_trainings: int
    cpu_seconds: float


def load_example() -> ModuleType:
    path = Path(__file__).parent.parent / "examples" / "text_detection.py"
    spec = importlib.util.spec_from_file_location("text_detection", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["text_detection"] = module
    spec.loader.exec_module(module)
    return module


def spend(study: Study, objective: Any, *, n_trials: int = MANY, cpu_seconds: float = 0.0) -> float:
    """Run trials, to a number or until the CPU time is spent; return the CPU time."""
    started = time.process_time()

    def stop(study: Study, trial: optuna.trial.FrozenTrial) -> None:
        if time.process_time() - started >= cpu_seconds > 0:
            study.stop()

    run(study, objective, n_trials=n_trials, callbacks=[stop], show_progress_bar=False)
    return time.process_time() - started


def in_stages(example: ModuleType, scenes: Any, sizes: Sizes, seed: int, **budget: Any) -> Outcome:
    tune = budget.pop("tune")
    with tempfile.TemporaryDirectory() as folder:
        objective = example.make_objective(
            scenes,
            max_epochs=sizes.max_epochs,
            n_post_trials=sizes.n_post_trials,
            cache=ArtifactCache(folder),
            tune=tune,
        )
        study = make_study(tune, storage="memory://", objective=objective, seed=seed)
        cpu_seconds = spend(study, objective, **budget)
        tuned = objective.tune(study)
        number = study.best_trial.number
        params = objective.search_space.from_trial(study.best_trial.params)
        maps = objective.artifact(params, training_seed(study, number))
        scored = example.score(maps, tuned.post_params, "test", scenes=scenes)
    return Outcome(scored["H-mean"], len(study.trials), cpu_seconds)


def flat(example: ModuleType, scenes: Any, sizes: Sizes, seed: int, cpu_seconds: float) -> Outcome:
    post_names = list(example.POST_DEFAULTS)

    def train(params: Mapping[str, Any], reporter: Reporter) -> float:
        post_params = {name: params[name] for name in post_names}
        maps = example.train(params, reporter, scenes=scenes, max_epochs=sizes.max_epochs)
        h_means = {
            part: example.score(maps, post_params, part, scenes=scenes)["H-mean"]
            for part in ("tune", "score", "test")
        }
        reporter.record(**h_means)
        return (h_means["tune"] + h_means["score"]) / 2

    objective = FunctionObjective(
        train,
        search_space=example.training_space(sizes.max_epochs) | example.POST_SPACE,
        direction="maximize",
        max_steps=sizes.max_epochs,
    )
    study = make_study("flat", storage="memory://", objective=objective, seed=seed)
    spent = spend(study, objective, cpu_seconds=cpu_seconds)
    held_out = study.best_trial.user_attrs[METRICS_KEY]["test"]
    return Outcome(held_out, len(study.trials), spent)


def default(example: ModuleType, scenes: Any, sizes: Sizes, seed: int) -> Outcome:
    objective = example.make_objective(scenes, max_epochs=sizes.max_epochs, n_post_trials=1)
    started = time.process_time()
    maps = objective.artifact(objective.search_space.defaults(), seed)
    spent = time.process_time() - started
    scored = example.score(maps, example.POST_DEFAULTS, "test", scenes=scenes)
    return Outcome(scored["H-mean"], 1, spent)


def compare(example: ModuleType, sizes: Sizes, seed: int) -> dict[str, Outcome]:
    scenes = example.make_scenes(sizes.n_scenes, seed)
    stages = partial(in_stages, example, scenes, sizes, seed)
    staged = stages(tune="each", n_trials=sizes.n_trials)
    budget = staged.cpu_seconds
    return {
        "default": default(example, scenes, sizes, seed),
        "flat": flat(example, scenes, sizes, seed, budget),
        "once": stages(tune="best", cpu_seconds=budget),
        "staged": staged,
    }


def print_summary(outcomes: list[dict[str, Outcome]]) -> None:
    print(f"\nH-mean on held-out scenes, {len(outcomes)} seeds, 95 % intervals")
    for way in WAYS:
        mean, low, high = intervals([each[way].h_mean for each in outcomes])
        n = sum(each[way].n_trainings for each in outcomes) / len(outcomes)
        print(f"{way:8} {mean:.4f} ({low:.4f} to {high:.4f}), {n:.1f} trainings")
    for way in WAYS[:-1]:
        gains = [each["staged"].h_mean - each[way].h_mean for each in outcomes]
        mean, low, high = intervals(gains)
        won = sum(gain > 0 for gain in gains)
        print(
            f"staged over {way:8} {mean:+.4f} ({low:+.4f} to {high:+.4f}), p = "
            f"{float(p_values(gains)):.2g}, better in {won} of {len(gains)}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--post-trials", type=int, default=30)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sizes = Sizes(arguments.trials, arguments.epochs, arguments.scenes, arguments.post_trials)
    example = load_example()
    outcomes = []
    for seed in range(arguments.seeds):
        outcomes.append(compare(example, sizes, seed))
        words = (
            f"{way} {each.h_mean:.4f} ({each.n_trainings} in {each.cpu_seconds:.0f} s)"
            for way, each in outcomes[-1].items()
        )
        print(f"seed {seed}: {', '.join(words)}", flush=True)
    if len(outcomes) > 1:
        print_summary(outcomes)


if __name__ == "__main__":
    main()
