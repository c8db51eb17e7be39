"""FunctionObjective: a function of params and a reporter, with all that an objective keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from optuna.trial import TrialState

from hpolab import (
    FunctionObjective,
    InvalidArgument,
    InvalidType,
    RecipeMismatch,
    SearchSpace,
    confirm,
    load_study,
    make_study,
    run,
)
from hpolab.studies.recipe import FACTS_KEY
from hpolab.trial.reporter import training_seed

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


def noisy_line(params: Mapping[str, Any], reporter: Reporter) -> tuple[float, np.ndarray]:
    """A loop of one's own that keeps the best epoch's weights, and returns value and model."""
    rng = np.random.default_rng(reporter.seed)
    weight, best = rng.normal(size=2), np.zeros(2)
    for step in reporter.steps(10):
        weight = weight - params["lr"] * (2 * (weight - 1) + rng.normal(size=2))
        reporter.report(float(np.square(weight - 1).mean()), step)
        best = weight if reporter.improved else best
    assert reporter.best_value is not None
    return reporter.best_value, best


def squared_errors(model: np.ndarray, data: np.ndarray) -> np.ndarray:
    return np.square(data @ (model - 1))


def of_models(**settings: Any) -> FunctionObjective:
    ranges = {"lr": (1e-3, 0.4, "log")}
    return FunctionObjective(
        noisy_line, search_space=ranges, direction="minimize", max_steps=10, **settings
    )


@pytest.mark.parametrize("settings", [{}, {"patience": 2}, {"timeout_seconds": 100.0}], ids=repr)
def test_best_model_of_a_function_is_that_of_the_best_trial(settings):
    objective = of_models(**settings)
    study = make_study("s", storage="memory://", objective=objective, seed=0, pruner="none")
    run(study, objective, n_trials=5, show_progress_bar=False)
    model = objective.fit_best(study)
    assert np.square(model - 1).mean() == study.best_value
    again = objective.fit(study.best_params, training_seed(study, study.best_trial.number))
    assert np.array_equal(again, model)
    assert not np.array_equal(objective.fit_best(study, seed=1), model)


def test_value_without_a_model_is_said_where_a_model_is_asked_for():
    study = make_study("s", storage="memory://", objective=make(), seed=0)
    run(study, make(), n_trials=1, show_progress_bar=False)
    with pytest.raises(NotImplementedError, match=r"`function` must return \(value, model\)"):
        make().fit_best(study)


DATA = np.random.default_rng(0).normal(size=(200, 2))


@pytest.mark.parametrize(
    ("scores", "about"),
    [
        ({"row_scores": squared_errors}, "new data like these 200 test rows"),
        ({"evaluate": lambda model, data: squared_errors(model, data).mean()}, "these"),
        ({"evaluate": lambda model, data: {"value": squared_errors(model, data).mean()}}, "these"),
        (
            {
                "evaluate": lambda model, data: squared_errors(model, data).mean(),
                "row_scores": squared_errors,
            },
            "new data like these 200 test rows",
        ),
    ],
    ids=["by row", "a number", "a dict", "both"],
)
def test_function_with_models_is_confirmed(scores, about):
    objective = of_models(**scores)
    study = make_study("s", storage="memory://", objective=objective, seed=0, pruner="none")
    run(study, objective, n_trials=5, show_progress_bar=False)
    confirmed = confirm(study, objective, test=DATA, top_k=1, n_seeds=3, show_progress_bar=False)
    assert about in str(confirmed)


def test_function_without_scores_is_not_confirmed():
    study = make_study("s", storage="memory://", objective=of_models(), seed=0, pruner="none")
    run(study, of_models(), n_trials=2, show_progress_bar=False)
    with pytest.raises(InvalidArgument, match="`evaluate` must be given to a FunctionObjective"):
        confirm(study, of_models(), test=DATA)


def test_function_that_returns_no_model_fails_in_its_first_trial_if_it_is_to_be_scored():
    objective = make(evaluate=lambda model, data: 0.0)
    trial = make_study("s", storage="memory://", objective=objective).ask()
    with pytest.raises(InvalidType, match=r"`function` must return \(value, model\)"):
        objective(trial)


@pytest.mark.parametrize("returned", [(), (1.0, 2.0, 3.0)], ids=["none", "three"])
def test_function_that_returns_other_values_is_refused(returned):
    objective = FunctionObjective(
        lambda params, reporter: returned, search_space=SPACE, direction="minimize", max_steps=1
    )
    trial = make_study("s", storage="memory://", objective=objective).ask()
    with pytest.raises(InvalidType, match=rf"got {len(returned)} values"):
        objective(trial)


@pytest.mark.parametrize("argument", ["evaluate", "row_scores"])
def test_scores_that_are_no_function_are_refused(argument):
    with pytest.raises(InvalidType, match=rf"`{argument}` must be a function of \(model, data\)"):
        make(**{argument: 1.0})
