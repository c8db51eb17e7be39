"""What it costs that each fused trial is held to its own first steps alone.

A study of random trials of Adam, ten epochs each, is run fused; the CPU time that goes into the
first steps of members alone, into comparing them and into reading what models hold is counted
apart. One thread, several repeats.

    python benchmarks/fused_check.py
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING, Any

import optuna
import torch
from fused import build, data, train

from hpolab import TorchObjective, optimizer_space
from hpolab.torch.fused import crew
from hpolab.torch.fused.architecture import Architecture
from hpolab.torch.fused.first_steps import FirstSteps
from hpolab.torch.fused.outside import Outside

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """CPU seconds spent within the calls that it wraps, each once where they are nested."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._depth += 1
            started = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self.seconds += time.process_time() - started

        return timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--fuse", type=int, default=16)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--models", nargs="+", default=["logistic", "mlp", "mf"])
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    clock = Clock()
    FirstSteps.__init__ = clock.wrap(FirstSteps.__init__)  # type: ignore[method-assign]
    FirstSteps.difference = clock.wrap(FirstSteps.difference)  # type: ignore[method-assign]
    Architecture.changed_state = clock.wrap(Architecture.changed_state)  # type: ignore[method-assign]
    for name in ("signature", "prove"):
        setattr(crew, name, clock.wrap(getattr(crew, name)))
    for name in ("__init__", "add", "look", "changed"):
        setattr(Outside, name, clock.wrap(getattr(Outside, name)))
    for model in args.models:
        is_mf = model == "mf"
        objective = TorchObjective(
            lambda params, model=model: build(model, params),
            train=data(model, args.rows, 0),
            valid=data(model, 500, 1),
            search_space=optimizer_space("adam"),
            loss="mse" if is_mf else "cross_entropy",
            metric="rmse" if is_mf else "accuracy",
            max_epochs=10,
            batch_size=32,
        )
        parts = []
        for _ in range(args.repeats):
            clock.seconds = 0.0
            started = time.process_time()
            train(objective, args.trials, args.fuse)
            parts.append(100 * clock.seconds / (time.process_time() - started))
        low, middle, high = min(parts), statistics.median(parts), max(parts)
        print(
            f"{model:10} {args.trials} trials of 10 epochs of {args.rows} rows, {args.fuse} fused: "
            f"{middle:.2f} % [{low:.2f}..{high:.2f}] of the CPU time is the check"
        )


if __name__ == "__main__":
    main()
