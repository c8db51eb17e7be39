"""What a staged study's report has besides: cheap parameters, the ensemble, the trainer's names."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from hpolab import (
    SearchSpace,
    StagedObjective,
    fold_ensemble,
    make_study,
    run,
    terminal_report,
    write_report,
)
from hpolab.cli import app


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/s.db"


@pytest.fixture
def staged(url):
    objective = StagedObjective(
        lambda params, reporter: np.array([params["lr"], 0.25]),
        lambda artifact, post, part: -abs(post["thresh"] - artifact[1]) - artifact[0],
        search_space=SearchSpace({"lr": (0.0, 1.0)}),
        post_space=SearchSpace({"thresh": (0.0, 1.0)}),
        direction="maximize",
        max_steps=1,
        n_post_trials=4,
    )
    study = make_study("staged", storage=url, objective=objective, seed=0)
    run(study, objective, n_trials=3, show_progress_bar=False)
    return study


def test_report_has_the_post_processing_parameters_and_the_trainers_names(staged, tmp_path):
    text = terminal_report(staged)
    assert f"POST-PROCESSING PARAMETERS OF TRIAL {staged.best_trial.number}" in text
    assert "thresh=" in text
    assert "ENSEMBLE" not in text
    path = write_report(staged, tmp_path / "r.html", prefixes={"lr": "models.optimizer.lr"})
    assert "models.optimizer.lr=" in path.read_text()


def test_report_has_the_ensemble(staged):
    def fit(params, seed, rows):
        return np.random.default_rng(seed).normal(size=4)

    found = fold_ensemble(
        fit,
        {"lr": 0.5},
        metric=lambda predictions: float(np.abs(predictions).mean()),
        direction="minimize",
        n_rows=20,
        study=staged,
    )
    text = " ".join(terminal_report(staged).split())
    assert "ENSEMBLE OF FOLDS" in text
    assert found.verdict in text


@pytest.mark.needs("plotly", "jinja2")
def test_cheap_studies_are_not_in_the_way_where_none_is_named(staged, url, tmp_path):
    assert len(staged.get_trials()) == 3
    for arguments in (["best"], ["status"], ["report", "-o", str(tmp_path / "r.html")]):
        shown = CliRunner().invoke(app, [*arguments, "-s", url])
        assert shown.exit_code == 0, shown.output
        assert "-post" not in shown.output
    shown = CliRunner().invoke(app, ["status", "staged-trial1-post", "-s", url])
    assert "4 of 4" in shown.output
