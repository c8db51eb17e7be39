"""Tune LightGBM on five folds, move the study to another storage, and go on where it stopped.

python examples/lightgbm_cv.py

Then with a Redis server, on as many machines as you like, to 60 trials in total:

hpolab copy lightgbm-cv -s sqlite:///lightgbm.db --to redis://localhost:6379/0
python examples/lightgbm_cv.py redis://localhost:6379/0 60
"""

import sys
from pathlib import Path

from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from hpolab import LightGBMModel, LightGBMObjective, make_study, run


def main(storage="sqlite:///lightgbm.db", n_trials=30, folder="."):
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=0)
    objective = LightGBMObjective(
        (X, y),
        objective="binary",
        metric="binary_logloss",
        metrics=["auc"],
        folds=5,  # all five advance together; a trial reports their mean
        max_rounds=1000,  # early stopping ends nearly every trial before
    )
    # Of the objective come the direction and the sampler: the default configuration first, then
    # one or two parameters at a time around the best, then TPE in turn with such moves.
    study = make_study("lightgbm-cv", storage=storage, objective=objective, seed=0)
    run(study, objective, n_trials=int(n_trials))

    default, best = study.trials[0], study.best_trial
    print(f"default log loss {default.value:.4f}, best {best.value:.4f} in trial {best.number}")
    print(f"best parameters: {best.params}")

    # The final model: all rows, and the number of rounds that was best on the folds.
    model = objective.fit_best(study)
    model.save(Path(folder) / "lightgbm-cv.txt")
    model = LightGBMModel.load(Path(folder) / "lightgbm-cv.txt")
    print(f"on data the study never saw: {objective.evaluate(model, (X_test, y_test))}")
    print("most important:", ", ".join(list(model.importance())[:5]))


if __name__ == "__main__":
    main(*sys.argv[1:])
