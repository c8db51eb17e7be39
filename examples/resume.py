"""Stop a study, start it again: it goes on to the same total, on any storage.

    python examples/resume.py                               # SQLite
    python examples/resume.py redis://localhost:6379/0      # Redis: workers on several machines

Start it in two terminals at once, kill one with `kill -9`, start it again: the study ends with
forty trials, each told once.
"""

import sys
import time

from hpolab import Reporter, load_study, make_study, run


def objective(trial):
    """Stand-in for a training: the value settles at (x - 2)**2 over ten epochs."""
    x = trial.suggest_float("x", -10, 10)
    reporter = Reporter(trial)
    for epoch in reporter.steps(10):
        time.sleep(SECONDS_PER_EPOCH)
        reporter.report((x - 2) ** 2 + 1 / (epoch + 1), epoch)
    return (x - 2) ** 2


SECONDS_PER_EPOCH = 0.02


def main(storage="sqlite:///resume.db", n_trials=40):
    study = make_study("resume", storage=storage, seed=0)
    print(f"{len(study.trials)} of {n_trials} trials so far")
    run(study, objective, n_trials=n_trials // 2)  # pretend that the machine went away here

    study = make_study("resume", storage=storage, seed=0)  # the same lines again: it goes on
    run(study, objective, n_trials=n_trials)
    run(study, objective, n_trials=n_trials)  # n_trials is the total: nothing is left to do

    again = load_study("resume", storage=storage)  # as it was made: sampler, pruner, direction
    print(f"{len(again.trials)} trials, best {again.best_value:.4f} at {again.best_params}")


if __name__ == "__main__":
    main(*sys.argv[1:])
