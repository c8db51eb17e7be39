"""Pruning callbacks of optuna-integration, for trainers that hpolab does not wrap, under `run`."""

from __future__ import annotations

import signal
from importlib.util import find_spec

import pytest
from optuna.trial import TrialState

from hpolab import load_study

N_TRIALS = 8
PROGRAM = """
import os, signal, sys, warnings
import numpy as np
from optuna.exceptions import ExperimentalWarning
from hpolab import make_study, run

url, n_steps_to_live = sys.argv[1], int(sys.argv[2])

def step():
    global n_steps_to_live
    n_steps_to_live -= 1
    if n_steps_to_live == 0:
        os.kill(os.getpid(), signal.SIGKILL)

rng = np.random.default_rng(0)
X = rng.normal(size=(120, 4)).astype("float32")
y = (X[:, 0] + X[:, 1] * X[:, 2] > 0).astype("int64")
TRAINER
warnings.simplefilter("error")
warnings.simplefilter("ignore", ExperimentalWarning)
study = make_study("s", storage=url, sampler="random", pruner="median", seed=0)
run(study, objective, n_trials=8, show_progress_bar=False)
"""

XGBOOST = """
import xgboost
from optuna_integration import XGBoostPruningCallback

class Step(xgboost.callback.TrainingCallback):
    def after_iteration(self, model, epoch, evals_log):
        step()
        return False

train, valid = xgboost.DMatrix(X[:80], y[:80]), xgboost.DMatrix(X[80:], y[80:])

def objective(trial):
    params = {"eta": trial.suggest_float("eta", 0.001, 0.5, log=True), "max_depth": 2}
    params |= {"objective": "binary:logistic", "eval_metric": "logloss", "nthread": 1}
    found = {}
    xgboost.train(
        params, train, 6, evals=[(valid, "valid")], evals_result=found, verbose_eval=False,
        callbacks=[XGBoostPruningCallback(trial, "valid-logloss"), Step()],
    )
    return found["valid"]["logloss"][-1]
"""

CATBOOST = """
import catboost
from optuna_integration import CatBoostPruningCallback

class Step:
    def after_iteration(self, info):
        step()
        return True

def objective(trial):
    model = catboost.CatBoostClassifier(
        iterations=6, depth=2, learning_rate=trial.suggest_float("lr", 0.001, 0.5, log=True),
        random_seed=0, thread_count=1, logging_level="Silent", allow_writing_files=False,
    )
    pruning = CatBoostPruningCallback(trial, "Logloss")
    model.fit(X[:80], y[:80], eval_set=(X[80:], y[80:]), callbacks=[pruning, Step()])
    pruning.check_pruned()
    return model.evals_result_["validation"]["Logloss"][-1]
"""

SKORCH = """
import skorch, torch
from optuna_integration import SkorchPruningCallback

class Step(skorch.callbacks.Callback):
    def on_epoch_end(self, net, **kwargs):
        step()

def objective(trial):
    torch.manual_seed(0)
    net = skorch.NeuralNetClassifier(
        torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)),
        criterion=torch.nn.CrossEntropyLoss, lr=trial.suggest_float("lr", 0.001, 0.5, log=True),
        max_epochs=6, verbose=0,
        callbacks=[("pruning", SkorchPruningCallback(trial, "valid_loss")), ("step", Step())],
    )
    net.fit(X, y)
    return net.history[-1, "valid_loss"]
"""

KERAS = """
os.environ["KERAS_BACKEND"] = "torch"
import keras
from optuna_integration import KerasPruningCallback

class Step(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        step()

def objective(trial):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.layers.Dense(8, "relu"), keras.layers.Dense(1, "sigmoid")])
    lr = trial.suggest_float("lr", 0.001, 0.5, log=True)
    model.compile(keras.optimizers.SGD(lr), loss="binary_crossentropy")
    fitted = model.fit(
        X[:80], y[:80], validation_data=(X[80:], y[80:]), epochs=6, verbose=0,
        callbacks=[KerasPruningCallback(trial, "val_loss"), Step()],
    )
    return fitted.history["val_loss"][-1]
"""


@pytest.mark.parametrize(
    "trainer",
    [
        pytest.param(XGBOOST, id="xgboost", marks=pytest.mark.needs("xgboost")),
        pytest.param(
            CATBOOST,
            id="catboost",
            marks=pytest.mark.skipif(
                find_spec("catboost") is None,
                reason="needs CatBoost, 300 MB that the extra `test` leaves out",
            ),
        ),
        pytest.param(SKORCH, id="skorch", marks=pytest.mark.needs("skorch", "torch")),
        pytest.param(KERAS, id="keras", marks=pytest.mark.long),
    ],
)
def test_callback_prunes_and_a_killed_study_ends_as_the_uninterrupted_one(
    trainer, tmp_path, python
):
    program = PROGRAM.replace("TRAINER", trainer)

    def study(name: str, n_steps_to_live: int) -> int:
        done = python.run(program, f"sqlite:///{tmp_path}/{name}.db", str(n_steps_to_live))
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        return done.returncode

    def trials(name: str) -> list:
        return load_study("s", storage=f"sqlite:///{tmp_path}/{name}.db").trials

    def outcome(name: str) -> list:
        return [(t.number, t.state, t.params, t.value, t.intermediate_values) for t in trials(name)]

    assert study("whole", 0) == 0
    assert study("killed", 3 * 6 + 4) == -signal.SIGKILL  # in the fourth step of a trial
    assert [t.state for t in trials("killed")].count(TrialState.RUNNING) == 1
    assert study("killed", 0) == 0
    assert outcome("killed") == outcome("whole")
    states = [trial.state for trial in trials("whole")]
    assert len(states) == N_TRIALS
    assert states.count(TrialState.PRUNED) > 0
    assert states.count(TrialState.PRUNED) + states.count(TrialState.COMPLETE) == N_TRIALS
