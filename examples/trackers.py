"""Watch a study where your team looks at its runs: MLflow, Weights & Biases or TensorBoard.

python examples/trackers.py
tensorboard --logdir logs
"""

from hpolab import FunctionObjective, TensorBoardTracker, make_study, run

# Others: MLflowTracker(experiment="descent"), WandbTracker("descent", mode="offline").
# `hpolab worker examples/trackers.py:objective` finds this list by its name.
trackers = [TensorBoardTracker("logs")]


def train(params, reporter):
    weight = 5.0
    for step in reporter.steps(20):
        weight -= params["lr"] * 2 * weight
        reporter.report(weight**2, step)
    return reporter.best_value


objective = FunctionObjective(
    train,
    search_space={"lr": (1e-3, 1e-1, "log")},
    metric="mse",
    direction="minimize",
    max_steps=20,
)


def main(storage="sqlite:///trackers.db", n_trials=20):
    study = make_study("descent", storage=storage, objective=objective, seed=0)
    run(study, objective, n_trials=n_trials, trackers=trackers)  # a resumed trial keeps its run
    print(f"best mse {study.best_value:.3g} with lr={study.best_params['lr']:.3g}")


if __name__ == "__main__":
    main()
