"""Every example runs, on small settings."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from hpolab import load_study, make_taste_clusters
from hpolab.cli import app

ROOT = Path(__file__).parent.parent
SMALL = {
    "quickstart": {"n_trials": 3, "max_epochs": 2},
    "own_loop": {"n_trials": 3},
    "resume": {"n_trials": 6},
    "optimizers_mnist": {"n_trials": 3, "max_epochs": 1, "n_seeds": 2},
    "seven_optimizers": {"n_trials": 3, "n_epochs": 2},
    "fair_optimizers": {"n_trials": 2, "max_epochs": 1, "n_seeds": 2},
    "text_detection": {
        "n_trials": 3,
        "max_epochs": 2,
        "n_scenes": 12,
        "n_post_trials": 4,
        "n_seeds": 2,
        "n_folds": 2,
        "n_ensembles": 2,
    },
    "sweep_report": {},
    "lightgbm_cv": {"n_trials": 3},
    "search_methods": {"n_trials": 3, "max_rounds": 20},
    "recommender_optimizers": {
        "n_trials": 1,
        "max_epochs": 1,
        "data": make_taste_clusters(n_users=60, n_items=120).interactions,
        "optimizers": ["adam", "sgd"],
    },
    "recommender_outside_trainer": {"n_trials": 3},
    "transformer": {"n_trials": 3, "max_epochs": 2},
    "trackers": {"n_trials": 2},
    "xgboost_pruning": {"n_trials": 8, "max_rounds": 10},
}


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_has_small_settings():
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_example_runs_on_sqlite_and_resumes(name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where examples put the files they write
    monkeypatch.delenv("HPOLAB_DATA", raising=False)  # small data, wherever there is other
    main = load(name).main
    for _ in range(2):
        main(storage=f"sqlite:///{tmp_path}/s.db", **SMALL[name])
    assert "best" in capsys.readouterr().out


def test_seven_optimizers_says_that_tuning_changes_the_ranking(tmp_path, capsys):
    load("seven_optimizers").main(storage="memory://", n_trials=12, n_epochs=15, folder=tmp_path)
    said = capsys.readouterr().out
    assert "The ranking changes" in said
    places = [line.split() for line in said.splitlines() if re.match(r"  [1-7]  ", line)]
    assert len(places) == 7
    assert {row[1] for row in places} == {row[3] for row in places}
    assert [row[1] for row in places] != [row[3] for row in places]
    for column in (2, 4):
        losses = [float(row[column]) for row in places]
        assert losses == sorted(losses)


@pytest.mark.parametrize(
    ("changed", "tuned", "expected"),
    [
        # Untuned, the others are worse than tuned AdamW by 0.1; tuned, they gain 0.1 after 0.5.
        (0.6, 0.4, ["without tuning gains less than", "to a tuned muon or .* gains less than"]),
        # They gain more in either way.
        (0.2, -0.3, ["without tuning gains more than", "to a tuned muon or .* gains more than"]),
        # On average as much as tuning: not known.
        (0.5, 0.0, ["Whether .* without tuning gains", "Whether .* to a tuned muon or .* gains"]),
    ],
    ids=["tuning", "changing", "neither"],
)
def test_fair_optimizers_says_what_the_numbers_say(capsys, changed, tuned, expected):
    example = load("fair_optimizers")
    noise = np.array([0.0, 0.01, -0.01, 0.02, -0.02])

    def contender(loss, name, places):
        return SimpleNamespace(
            name=name, best_value=loss, test_scores=list(loss + noise[list(places)])
        )

    orders = range(5), (1, 0, 3, 2, 4), (4, 3, 2, 1, 0)
    before, after = (
        {name: contender(loss, name, orders[2]) for name in example.NEWER}
        for loss in (changed, tuned)
    )
    example.print_conclusion(
        {"adamw": contender(1.0, "adamw", orders[0]), **before},
        {"adamw": contender(0.5, "adamw", orders[1]), **after},
    )
    said = capsys.readouterr().out
    assert re.search(r"Tuning adamw gains \+0\.500 \[", said)
    assert all(re.search(each, said) for each in expected)


@pytest.mark.parametrize(
    ("name", "torch_class", "ours", "torchs"),
    [
        ("sgd", torch.optim.SGD, {}, {}),
        ("momentum", torch.optim.SGD, {"momentum": 0.8}, {"momentum": 0.8}),
        (
            "nesterov",
            torch.optim.SGD,
            {"momentum": 0.95},
            {"momentum": 0.95, "nesterov": True},
        ),
        ("adagrad", torch.optim.Adagrad, {}, {}),
        ("rmsprop", torch.optim.RMSprop, {"alpha": 0.9}, {"alpha": 0.9}),
        ("adam", torch.optim.Adam, {"beta1": 0.8, "beta2": 0.99}, {"betas": (0.8, 0.99)}),
        ("adamw", torch.optim.AdamW, {"weight_decay": 0.1}, {"weight_decay": 0.1}),
    ],
)
@pytest.mark.parametrize("lr", [0.01, 0.5])
def test_rule_in_numpy_is_torchs_step_by_step(name, torch_class, ours, torchs, lr):
    example = load("seven_optimizers")
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 5)), rng.integers(0, 2, size=40).astype(float)
    weights, state = np.ones(5), {}
    of_torch = torch.ones(5, dtype=torch.float64, requires_grad=True)
    optimizer = torch_class([of_torch], lr=lr, **torchs)
    for _ in range(50):
        _, gradient = example.loss_and_gradient(weights, X, y)
        weights = example.RULES[name](weights, gradient, state, lr=lr, **ours)
        optimizer.zero_grad()
        logits = torch.tensor(X) @ of_torch
        torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor(y)).backward()
        optimizer.step()
        assert weights == pytest.approx(of_torch.detach().numpy(), rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("copied", [True, False])
def test_sweep_report_says_what_the_runs_can_tell(copied, tmp_path, capsys, monkeypatch):
    if copied:
        monkeypatch.delenv("HPOLAB_DATA", raising=False)
    elif not Path(os.environ.get("HPOLAB_DATA", ""), "seeds/detection_sweep.csv").is_file():
        pytest.skip("needs seeds/ in the folder that HPOLAB_DATA names")
    load("sweep_report").main(folder=tmp_path)
    said = capsys.readouterr().out
    detection, recommender = said.split("Recommender: best NDCG")
    assert "in run 8, +0.07 over the baseline" in detection
    for group, mean in (
        (("lr", "< 0.00048", 4), 96.40),
        ((">= 0.00048", 3), 96.36),
        (("weight_decay", "< 9e-05", 3), 96.40),
        ((">= 9e-05", 5), 96.30),
        (("T_max", "22", 4), 96.40),
        (("24", 3), 96.18),
    ):
        row = r"\s+".join(map(re.escape, " ".join(map(str, group)).split())) + r"\s+([\d.]+)"
        assert round(float(re.search(row, detection).group(1)), 2) == mean
    assert "No effect of a parameter is significant at one run each." in detection
    assert re.search(r"in run 13: optimizer nadam, .*learning_rate 0\.01", recommender)
    assert "best hit rate 0.63615 in run 16" in recommender
    assert {path.name for path in tmp_path.iterdir()} == {"detection.html", "recommender.html"}


def test_resume_example_runs_on_redis(redis_database, capsys):
    load("resume").main(storage=redis_database, n_trials=4)
    assert "4 trials, best" in capsys.readouterr().out


def test_lightgbm_example_goes_on_in_redis_where_sqlite_stopped(
    redis_database, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    main = load("lightgbm_cv").main
    main(n_trials=4)
    copy = ["copy", "lightgbm-cv", "-s", "sqlite:///lightgbm.db", "--to", redis_database]
    assert CliRunner().invoke(app, copy).exit_code == 0
    main(redis_database, n_trials=6)
    moved = load_study("lightgbm-cv", storage=redis_database)
    begun = load_study("lightgbm-cv", storage="sqlite:///lightgbm.db")
    assert len(moved.trials) == 6
    assert [t.value for t in moved.trials[:4]] == [t.value for t in begun.trials]
