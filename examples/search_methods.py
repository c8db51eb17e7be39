"""Manual, grid, random and Bayesian search of one LightGBM problem, each for the same trials.

pip install 'hpolab[lightgbm,report]'
python examples/search_methods.py

It ends with three plots of the Bayesian search: what mattered, how it went, and each parameter's
slice; they open offline.
"""

from pathlib import Path

from optuna.visualization import (
    plot_optimization_history,
    plot_param_importances,
    plot_slice,
)
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from hpolab import LightGBMObjective, lightgbm_space, make_study, run

RANGES = {"learning_rate": (0.02, 0.3), "num_leaves": (4, 64), "min_data_in_leaf": (2, 60)}
BY_HAND = {
    "learning_rate": [0.3, 0.2, 0.15, 0.1, 0.08, 0.06, 0.04, 0.03, 0.02],
    "num_leaves": [4, 6, 8, 12, 16, 24, 31, 48, 64],
    "min_data_in_leaf": [2, 4, 7, 10, 15, 20, 30, 40, 60],
}


def main(storage="sqlite:///search-methods.db", n_trials=27, max_rounds=1000, folder="."):
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=0)
    # Three parameters, so that a grid of three values each has 27 points; the rest as by default.
    fixed = {"feature_fraction": 1.0, "bagging_fraction": 1.0, "lambda_l1": 0.0, "lambda_l2": 0.0}
    space = lightgbm_space().override(**RANGES, **fixed)
    objective = LightGBMObjective(
        (X, y), objective="binary", folds=5, search_space=space, max_rounds=max_rounds
    )

    studies = {}
    for method in ("manual", "grid", "random", "tpe"):
        study = make_study(
            f"search-{method}",
            storage=storage,
            sampler=method,
            pruner="none",
            search_space=space,  # what the grid is laid on
            seed=0,
        )
        if method == "manual" and not study.trials:
            # One parameter at a time, the others at their defaults: as people do by hand.
            for name, values in BY_HAND.items():
                for value in values:
                    study.enqueue_trial(space.to_trial({**space.defaults(), name: value}))
        run(study, objective, n_trials=n_trials, default_first=False)
        studies[method] = study

    print("method   best on folds   on data no study saw   with")
    for method, study in studies.items():
        model = objective.fit_best(study, seed=1)
        held_out = objective.evaluate(model, (X_test, y_test))["binary_logloss"]
        print(f"{method:8} {study.best_value:13.4f} {held_out:22.4f}   {study.best_params}")

    for plot in (plot_param_importances, plot_optimization_history, plot_slice):
        path = Path(folder) / f"{plot.__name__}.html"
        plot(studies["tpe"]).write_html(path)
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
