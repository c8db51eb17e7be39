"""Two runs with different objectives on one study: the second is refused while the first lives."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from optuna.trial import TrialState

from hpolab import FunctionObjective, RecipeMismatch, make_study, run
from hpolab.running.others import refuse_other_objective
from hpolab.trial.lease import Lease

ELSEWHERE = Lease(
    host="node7/boot/ns", pid=41, started=0.0, grace_seconds=1.5, objective="first_try"
)


@pytest.fixture
def study():
    return make_study("s", storage="memory://", sampler="random")


def second_try(trial):
    return trial.suggest_float("x", -1, 1) ** 2


@pytest.fixture
def beating(study):
    """Let a worker of another host run a trial of the study, with another objective, and live."""
    trial = study.ask()
    trial.set_user_attr(*ELSEWHERE.as_mark())
    ended = threading.Event()

    def beat():
        n = 0
        while not ended.wait(0.3):
            n += 1
            trial.set_user_attr(*replace(ELSEWHERE, beats=n).as_mark())

    thread = threading.Thread(target=beat)
    thread.start()
    yield trial
    ended.set()
    thread.join()


def test_living_worker_of_another_host_is_named_with_both_objectives(study, beating):
    words = r"process 41 on node7 trains trial 0 with 'first_try'.* was given 'second_try'"
    with pytest.raises(RecipeMismatch, match=words):
        run(study, second_try, n_trials=3)
    assert len(study.trials) == 1


def test_hpolab_objective_beside_a_function_is_refused_too(study, beating):
    ours = FunctionObjective(
        lambda params, reporter: 1.0, search_space={"x": (0, 1)}, direction="minimize", max_steps=1
    )
    with pytest.raises(RecipeMismatch, match="was given 'FunctionObjective'"):
        run(study, ours, n_trials=3)


def test_dead_worker_of_another_host_is_waited_for_and_its_trial_resumes(study):
    trial = study.ask()
    trial.set_user_attr(*ELSEWHERE.as_mark())
    run(study, second_try, n_trials=2)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 2


@pytest.mark.parametrize("name", ["second_try", ""])
def test_worker_of_the_same_objective_or_of_an_earlier_version_is_no_reason(study, name):
    trial = study.ask()
    trial.set_user_attr(*replace(ELSEWHERE, objective=name).as_mark())
    refuse_other_objective(study, "second_try")
