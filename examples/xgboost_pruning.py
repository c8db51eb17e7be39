"""XGBoost, which hpolab does not wrap: optuna-integration's callback prunes it under `run`.

pip install 'hpolab[integration,sklearn]' xgboost
python examples/xgboost_pruning.py

Kill it at any moment and start it again. The trial that was cut short trains anew under its own
number, and the study ends with exactly the trials that were asked for. The callbacks for CatBoost,
Keras and skorch are used in the same way.
"""

import xgboost
from optuna.trial import TrialState
from optuna_integration import XGBoostPruningCallback
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from hpolab import SearchSpace, make_study, run

SPACE = SearchSpace(
    {
        "eta": (0.01, 0.5, "log"),
        "max_depth": (1, 8),
        "subsample": (0.5, 1.0),
        "lambda": (1e-3, 10.0, "log"),
    },
    defaults={"eta": 0.3, "max_depth": 6, "subsample": 1.0, "lambda": 1.0},
)
FIXED = {"objective": "binary:logistic", "eval_metric": "logloss", "nthread": 1, "seed": 0}


def main(storage="sqlite:///xgboost_pruning.db", n_trials=40, max_rounds=200):
    X, y = load_breast_cancer(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=0)
    X_train, X_valid, y_train, y_valid = train_test_split(X, y, stratify=y, random_state=0)
    train, valid = xgboost.DMatrix(X_train, y_train), xgboost.DMatrix(X_valid, y_valid)

    def boost(params, callbacks=()):
        curves = {}
        model = xgboost.train(
            {**FIXED, **params},
            train,
            max_rounds,
            evals=[(valid, "valid")],
            evals_result=curves,
            verbose_eval=False,
            callbacks=list(callbacks),
        )
        return model, curves["valid"]["logloss"][-1]

    def objective(trial):
        params = SPACE.suggest(trial)
        # Reports each round's loss, and raises TrialPruned where the study's pruner says so.
        _, loss = boost(params, [XGBoostPruningCallback(trial, "valid-logloss")])
        return loss

    study = make_study("xgboost", storage=storage, search_space=SPACE, pruner="median", seed=0)
    run(study, objective, n_trials=n_trials)

    n_pruned = len(study.get_trials(states=[TrialState.PRUNED]))
    print(f"{len(study.trials)} trials, {n_pruned} of them pruned")
    model, loss = boost(SPACE.from_trial(study.best_params))
    right = (model.predict(xgboost.DMatrix(X_test)) > 0.5) == y_test
    print(f"best loss {loss:.4f} with {study.best_params}")
    print(f"accuracy on test data: {right.mean():.4f}")


if __name__ == "__main__":
    main()
