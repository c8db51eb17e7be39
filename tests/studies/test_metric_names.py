"""What a study's values are called: as the user has named them, whoever made the study."""

from __future__ import annotations

import optuna
import pytest

from hpolab import FunctionObjective, SearchSpace, import_runs, make_study, run
from hpolab.studies.metric_names import metric_names


def of_objective(**settings) -> optuna.Study:
    objective = FunctionObjective(
        lambda params, reporter: params["x"],
        search_space=SearchSpace({"x": (0.0, 1.0)}), direction="minimize", max_steps=1, **settings,
    )  # fmt: skip
    study = make_study("s", storage="memory://", objective=objective)
    run(study, objective, n_trials=1, show_progress_bar=False)
    return study


def named_by_optuna(*names: str) -> optuna.Study:
    study = optuna.create_study(directions=["minimize"] * len(names))
    study.set_metric_names(list(names))
    return study


def imported() -> optuna.Study:
    rows = [{"lr": 0.1, "hmean": 0.5}, {"lr": 0.2, "hmean": 0.6}]
    return import_runs(rows, study_name="i", value="hmean", direction="maximize")


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize(
    ("make", "names"),
    [
        (optuna.create_study, ("value",)),
        (of_objective, ("value",)),
        (lambda: of_objective(metric="rmse"), ("rmse",)),
        (imported, ("hmean",)),
        (lambda: named_by_optuna("auc"), ("auc",)),
        (lambda: named_by_optuna("auc", "seconds"), ("auc", "seconds")),
        (lambda: optuna.create_study(directions=["minimize"] * 2), ("value 0", "value 1")),
    ],
)
def test_metric_is_called_what_its_user_calls_it(make, names):
    assert metric_names(make()) == names


def test_reading_the_names_warns_of_nothing(recwarn):
    metric_names(of_objective(metric="rmse"))
    assert not [each for each in recwarn if "experimental" in str(each.message).lower()]
