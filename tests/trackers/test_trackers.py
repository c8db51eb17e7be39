"""What every tracker promises, on real local stores."""

from __future__ import annotations

import math
import pickle
import signal
import time

import cloudpickle
import optuna
import pytest

from hpolab import FunctionObjective, InvalidArgument, Reporter, make_study, run

METRIC = "mse"
N_STEPS = 6


def descend(params, reporter):
    weight = 5.0
    for step in reporter.steps(N_STEPS):
        weight -= params["lr"] * 2 * weight
        reporter.report(weight**2, step)
    return reporter.best_value


def objective(function=descend):
    return FunctionObjective(
        function,
        search_space={"lr": (1e-3, 1e-1, "log"), "momentum": 0.9},
        metric=METRIC,
        direction="minimize",
        max_steps=N_STEPS,
    )


def new_study(tmp_path, name="descent", **settings):
    settings = {"sampler": "random", "pruner": "none", "seed": 0} | settings
    return make_study(name, storage=f"sqlite:///{tmp_path / 'study.db'}", **settings)


def assert_is_of(run, trial):
    """Compare a stored run with a complete trial of `descend`."""
    assert run.state == "complete"
    assert float(run.params["lr"]) == pytest.approx(trial.params["lr"])
    assert float(run.params["momentum"]) == 0.9
    assert run.values[METRIC] == pytest.approx(trial.value)
    assert [step for step, _ in run.curve] == sorted(trial.intermediate_values)
    assert [value for _, value in run.curve] == pytest.approx(
        [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)]
    )


def test_study_is_a_run_and_each_trial_one_below_it(store, tmp_path):
    study = new_study(tmp_path)
    run(study, objective(), n_trials=3, trackers=[store.tracker])
    (parent,) = store.studies()
    assert parent.name == "descent"
    assert parent.values[f"best_{METRIC}"] == pytest.approx(study.best_value)
    runs = store.trials()
    assert sorted(runs) == [0, 1, 2]
    for trial in study.trials:
        assert_is_of(runs[trial.number], trial)
        assert runs[trial.number].status == store.statuses["complete"]
    assert len({each.parent for each in runs.values()}) == 1


def test_study_that_goes_on_has_the_same_run(store, tmp_path):
    for n_trials in (1, 2):
        run(new_study(tmp_path), objective(), n_trials=n_trials, trackers=[store.tracker])
    assert len(store.studies()) == 1
    assert sorted(store.trials()) == [0, 1]


def test_deleted_study_and_its_successor_have_runs_of_their_own(store, tmp_path):
    for _ in range(2):
        study = new_study(tmp_path)
        run(study, objective(), n_trials=1, trackers=[store.tracker])
        optuna.delete_study(study_name="descent", storage=study._storage)
    assert len(store.studies()) == 2


def test_spent_study_touches_no_store(store, tmp_path):
    run(new_study(tmp_path), objective(), n_trials=1)
    run(new_study(tmp_path), objective(), n_trials=1, trackers=[store.tracker])
    assert store.trials() == {}


def worse_and_worse(params, reporter):
    for step in range(N_STEPS):
        reporter.report(float(step + reporter.trial.number), step)
    return 1.0


def becomes_nan(params, reporter):
    reporter.report(1.0, 0)
    reporter.report(math.nan, 1)


def runs_out_of_memory(params, reporter):
    reporter.report(1.0, 0)
    raise MemoryError("no room")


def raises(params, reporter):
    reporter.report(1.0, 0)
    raise ValueError("shapes differ")


@pytest.mark.parametrize(
    ("function", "state", "reason"),
    [
        (becomes_nan, "pruned", "diverged: nan at step 1"),
        (runs_out_of_memory, "pruned", "out of memory: no room"),
        (raises, "failed", "ValueError: shapes differ"),
    ],
)
def test_run_says_how_its_trial_ended_and_why(store, tmp_path, function, state, reason):
    study = new_study(tmp_path)
    run(study, objective(function), n_trials=1, trackers=[store.tracker])
    found = store.trials()[0]
    assert (found.state, found.reason) == (state, reason)
    assert found.status == store.statuses[state]
    assert found.curve == [(0, 1.0)]
    assert METRIC not in found.values
    assert float(found.params["lr"]) == pytest.approx(study.trials[0].params["lr"])


def test_trial_that_the_pruner_ends_has_the_step_that_it_was_pruned_at(store, tmp_path):
    pruner = optuna.pruners.MedianPruner(n_startup_trials=1)
    study = new_study(tmp_path, pruner=pruner)
    run(study, objective(worse_and_worse), n_trials=2, trackers=[store.tracker])
    pruned = store.trials()[1]
    assert pruned.state == "pruned"
    assert pruned.curve == sorted(study.trials[1].intermediate_values.items()) != []


def test_run_that_fails_for_good_leaves_no_run_open(store, tmp_path):
    with pytest.raises(Exception, match="all failed"):
        run(
            new_study(tmp_path),
            objective(raises),
            n_trials=3,
            max_failures=1,
            trackers=[store.tracker],
        )
    assert store.trials()[0].state == "failed"


def test_function_without_reporter_has_its_params_and_value(store, tmp_path):
    def plain(trial):
        return trial.suggest_float("x", 0, 1) + trial.suggest_int("n", 1, 3)

    study = new_study(tmp_path)
    run(study, plain, n_trials=2, trackers=[store.tracker])
    found = store.trials()
    for trial in study.trials:
        params = {name: float(value) for name, value in found[trial.number].params.items()}
        assert params == pytest.approx(trial.params)
        assert found[trial.number].values["value"] == pytest.approx(trial.value)


def test_function_with_optunas_own_reports_has_its_curve(store, tmp_path):
    def plain(trial):
        for step in range(3):
            trial.report(step / 2, step)
        return 1.0

    run(new_study(tmp_path), plain, n_trials=1, trackers=[store.tracker])
    assert store.trials()[0].curve == [(0, 0.0), (1, 0.5), (2, 1.0)]


def test_function_that_draws_while_it_reports_has_all_params(store, tmp_path):
    def late(trial):
        trial.suggest_float("early", 0, 1)
        Reporter(trial).report(1.0, 0)
        return trial.suggest_float("late", 0, 1)

    run(new_study(tmp_path), late, n_trials=1, trackers=[store.tracker])
    assert sorted(store.trials()[0].params) == ["early", "late"]


def test_several_objective_values_have_their_names(store, tmp_path):
    study = optuna.create_study(directions=["minimize", "maximize"])
    study.set_metric_names(["loss", "speed"])
    run(study, lambda trial: (0.25, 4.0), n_trials=1, trackers=[store.tracker])
    values = store.trials()[0].values
    assert (values["loss"], values["speed"]) == (0.25, 4.0)


def test_metrics_of_the_objective_stand_beside_the_value(store, tmp_path):
    def measured(params, reporter):
        reporter.record(recall=0.25)
        reporter.trial.set_user_attr("rows", 12)
        reporter.trial.set_user_attr("note", "not a number")
        return 0.5

    run(new_study(tmp_path), objective(measured), n_trials=1, trackers=[store.tracker])
    values = store.trials()[0].values
    assert (values["recall"], values["rows"], values[METRIC]) == (0.25, 12, 0.5)
    assert "note" not in values


@pytest.mark.usefixtures("warm_workers")
def test_trials_of_several_workers_are_below_one_study(store, tmp_path):
    study = new_study(tmp_path)
    run(study, objective(), n_trials=6, n_workers=2, trackers=[store.tracker])
    (parent,) = store.studies()
    assert parent.values[f"best_{METRIC}"] == pytest.approx(study.best_value)
    runs = store.trials()
    assert sorted(runs) == list(range(6))
    for trial in study.trials:
        assert_is_of(runs[trial.number], trial)


PROGRAM = """
import sys, time, cloudpickle
from pathlib import Path
tracker, folder, n_trials = cloudpickle.loads(bytes.fromhex(sys.argv[1]))
from hpolab import FunctionObjective, make_study, run

def train(params, reporter):
    saved = reporter.restore()
    weight = 5.0 if saved is None else float(saved)
    for step in reporter.steps(12):
        weight -= params["lr"] * 2 * weight
        reporter.report(weight**2, step, state=lambda: str(weight).encode())
        print(reporter.trial.number, step, flush=True)
        if len(sys.argv) > 2 and step == int(sys.argv[2]):
            time.sleep(2.0)  # W&B writes once a second
            print("ready", flush=True)
            time.sleep(100)
    return reporter.best_value

objective = FunctionObjective(
    train, search_space={"lr": (1e-3, 1e-1, "log"), "momentum": 0.9}, metric="mse",
    direction="minimize", max_steps=12, checkpoint_every=3, checkpoint_seconds=0,
)
study = make_study(
    "descent", storage=f"sqlite:///{folder}/study.db", sampler="random", pruner="none", seed=0
)
run(study, objective, n_trials=n_trials, trackers=[tracker])
"""


def program(python, store, tmp_path, *arguments, n_trials=1):
    sent = cloudpickle.dumps((store.tracker, tmp_path, n_trials)).hex()
    return python.start(PROGRAM, sent, *map(str, arguments))


def wait_until_ready(process):
    for line in process.stdout:
        if line.strip() == "ready":
            return
    raise AssertionError(process.stderr.read())


def finish(process):
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return errors


@pytest.mark.parametrize("n_kills", [1, 2])
def test_killed_trial_goes_on_in_its_run_as_one_curve(store, tmp_path, python, n_kills):
    for step in (4, 7)[:n_kills]:  # checkpoints are behind steps 2, 5 and 8
        with program(python, store, tmp_path, step) as process:
            wait_until_ready(process)
            process.send_signal(signal.SIGKILL)
    with program(python, store, tmp_path) as process:
        finish(process)
    (trial,) = new_study(tmp_path).trials
    assert sorted(trial.intermediate_values) == list(range(12))
    (found,) = store.trials().values()
    assert_is_of(found, trial)
    assert found.status == store.statuses["complete"]
    assert len(store.studies()) == 1


def test_interrupted_trial_is_requeued_and_goes_on_in_its_run(store, tmp_path, python):
    with program(python, store, tmp_path, 4) as process:
        wait_until_ready(process)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    (found,) = store.trials().values()
    assert found.status == store.statuses["requeued"]
    assert found.state in ("requeued", "")  # TensorBoard has no word for it
    with program(python, store, tmp_path) as process:
        finish(process)
    (trial,) = new_study(tmp_path).trials
    (found,) = store.trials().values()
    assert_is_of(found, trial)
    assert found.status == store.statuses["complete"]


def test_workers_that_start_in_one_instant_make_one_run_of_the_study(store, tmp_path, python):
    new_study(tmp_path)
    processes = [program(python, store, tmp_path, n_trials=8) for _ in range(4)]
    for process in processes:
        with process:
            finish(process)
    assert len(store.studies()) == 1
    runs = store.trials()
    assert sorted(runs) == list(range(8))
    assert len({each.parent for each in runs.values()}) == 1


OWN_LOOP = """
import sys, cloudpickle
tracker, folder, _ = cloudpickle.loads(bytes.fromhex(sys.argv[1]))
import optuna
from hpolab import Reporter

def objective(trial):
    lr = trial.suggest_float("lr", 1e-3, 1e-1, log=True)
    with Reporter(trial, trackers=[tracker]) as reporter:
        for step in reporter.steps(4):
            reporter.report(lr * step, step)
        if trial.number == 1:
            raise ValueError("shapes differ")
        if trial.number == 2:
            raise optuna.TrialPruned
        return lr

study = optuna.create_study(study_name="own", storage=f"sqlite:///{folder}/study.db")
study.optimize(objective, n_trials=4, catch=[ValueError])
trial = study.ask()
study.tell(trial, objective(trial))
left = study.ask()
objective(left)
"""


def test_loop_of_ones_own_tracks_its_trials_to_their_ends(store, tmp_path, python):
    sent = cloudpickle.dumps((store.tracker, tmp_path, None)).hex()
    done = python.run(OWN_LOOP, sent)
    assert done.returncode == 0, done.stderr
    study = optuna.load_study(study_name="own", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert len(store.studies()) == 1
    runs = store.trials()
    states = [runs[number].state for number in range(5)]
    assert states == ["complete", "failed", "pruned", "complete", "complete"]
    for number in (0, 3, 4):
        assert runs[number].values["value"] == pytest.approx(study.trials[number].value)
    assert len(runs[1].curve) == 4
    assert runs[5].state in ("requeued", "running", "")  # nobody has told it


def test_study_optimize_ends_each_run_while_the_program_goes_on(store, tmp_path):
    study = optuna.create_study(study_name="own")

    def train(trial):
        Reporter(trial, trackers=[store.tracker]).report(1.0, 0)
        return 0.5

    study.optimize(train, n_trials=2)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if [run.state for run in store.trials().values()] == ["complete"] * 2:
            break
        time.sleep(0.1)
    assert [run.state for run in store.trials().values()] == ["complete"] * 2


def test_unusable_tracker_is_refused_before_a_trial_is_spent(store, tmp_path):
    study = new_study(tmp_path)
    with pytest.raises(InvalidArgument, match=r"`(tracking_uri|logdir|mode)` must be"):
        run(study, objective(), n_trials=1, trackers=[store.unusable])
    assert study.trials == []


def test_tracker_travels_to_workers_and_is_the_same_there(store):
    for copy in (pickle.dumps(store.tracker), cloudpickle.dumps(store.tracker)):
        assert pickle.loads(copy) == store.tracker
        assert pickle.loads(copy).key == store.tracker.key


def test_store_holds_no_address_of_the_study(store, tmp_path):
    run(new_study(tmp_path), objective(), n_trials=1, trackers=[store.tracker])
    assert "study.db" not in store.text()
    assert "hpolab:lease" not in store.text()
