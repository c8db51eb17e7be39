"""FunctionObjective: a function of params and a reporter, with all that an objective keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from optuna.trial import TrialState

from hpolab import (
    FunctionObjective,
    InvalidType,
    RecipeMismatch,
    SearchSpace,
    load_study,
    make_study,
    run,
)
from hpolab.studies.recipe import FACTS_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hpolab import Reporter

SPACE = SearchSpace({"lr": (1e-3, 1e-1)}, defaults={"lr": 0.01})


def descend(params: Mapping[str, Any], reporter: Reporter) -> float:
    weight = 5.0
    for step in reporter.steps(10):
        weight -= params["lr"] * 2 * weight
        reporter.report(weight**2, step)
    assert reporter.best_value is not None
    return reporter.best_value


def make(**settings: Any) -> FunctionObjective:
    settings = {"direction": "minimize", "max_steps": 10, "search_space": SPACE} | settings
    return FunctionObjective(descend, **settings)


def test_function_is_tuned_with_its_default_first():
    study = make_study("s", storage="memory://", objective=make(), seed=0)
    run(study, make(), n_trials=3, show_progress_bar=False)
    assert study.trials[0].params == {"lr": 0.01}
    assert len(study.trials[0].intermediate_values) == 10
    assert study.trials[0].value == study.trials[0].intermediate_values[9]


def test_settings_are_those_of_every_objective():
    study = make_study("s", storage="memory://", objective=make(), seed=0, pruner="none")
    run(study, make(patience=2, min_delta=100.0), n_trials=1, show_progress_bar=False)
    assert len(study.trials[0].intermediate_values) == 3


def test_worker_processes_take_a_function_of_a_script(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    scale = 2.0

    def scaled(params: Mapping[str, Any], reporter: Reporter) -> float:
        return scale * params["lr"]

    objective = FunctionObjective(scaled, search_space=SPACE, direction="minimize", max_steps=1)
    study = make_study("s", storage=url, objective=objective, seed=0)
    run(study, objective, n_trials=3, n_workers=2, show_progress_bar=False)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 3
    assert study.trials[0].value == 0.02


def test_facts_are_stored_and_others_are_refused(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    study = make_study("s", storage=url, objective=make(), seed=0)
    run(study, make(facts={"data": "a", "n": 3}), n_trials=1, show_progress_bar=False)
    assert load_study("s", storage=url).user_attrs[FACTS_KEY] == {"data": "a", "n": 3}
    run(study, make(facts={"n": 3, "data": "a"}), n_trials=2, show_progress_bar=False)
    with pytest.raises(RecipeMismatch, match="'data': stored 'a', asked for 'b'"):
        run(study, make(facts={"data": "b", "n": 3}), n_trials=3, show_progress_bar=False)
    with pytest.raises(RecipeMismatch, match="'n': stored 3, asked for None"):
        run(study, make(facts={"data": "a"}), n_trials=3, show_progress_bar=False)
    assert len(study.trials) == 2


def test_what_is_no_function_is_refused():
    with pytest.raises(InvalidType, match=r"`function` must be a function .* got int"):
        FunctionObjective(3, search_space=SPACE, direction="minimize", max_steps=1)
