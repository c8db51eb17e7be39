"""A study's report: each part that it shows, whatever the study holds, and what it leaves out."""

from __future__ import annotations

import json
import math

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState, create_trial

from hpolab import import_runs, load_confirmation, make_study, optimizer_space
from hpolab.analysis.wording import short
from hpolab.report.blocks import Columns
from hpolab.report.document import document_of


def test_study_shows_each_part(page, tuned):
    shown = page(tuned)
    for words in (
        "Default: trial 0.",
        "Trained again on",
        load_confirmation(
            optuna.load_study(study_name="curve-confirm", storage=tuned._storage)
        ).verdict,
        "Leaderboard",
        "Recommended",
        "beta2",
        "tpe(",
        "What the values depend on",
        "CUDA error: <device-side> assert & triggered",
        "diverged: nan",
        f"optuna {optuna.__version__}",
    ):
        assert words in shown.text, words
    assert {
        "confirmation",
        "shrinkage",
        "history",
        "intermediate-values",
        "parameter-lr",
        "parameter-beta2",
        "parallel-coordinates",
    } <= shown.figures.keys()


def test_best_trial_is_compared_in_trainer_units(page, tuned):
    columns = next(
        block for block in document_of(tuned).sections[0].blocks if isinstance(block, Columns)
    )
    confirmed = load_confirmation(
        optuna.load_study(study_name="curve-confirm", storage=tuned._storage)
    )
    chosen = confirmed.winner or confirmed.best
    table = columns.blocks[0]
    assert table.head[2] == f"trial {chosen.trial}"
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["beta2"][0] == "0.999"
    assert rows["lr"][0] == "0.001"
    assert rows["eps"] == ["1e-08", "1e-08", "same"]
    assert rows["accuracy, in tuning"][1] == short(tuned.trials[chosen.trial].value)
    assert not any("one_minus" in name for name in rows)


def test_confirmation_that_cannot_be_read_is_said_to_be_there(study_of, page):
    storage = InMemoryStorage()
    optuna.create_study(study_name="plain-confirm", storage=storage)
    shown = page(study_of([1.0, 2.0], storage=storage))
    assert "'plain-confirm' is in the storage, but cannot be read yet" in shown.text


def two_values(n_values: int) -> optuna.Study:
    study = optuna.create_study(directions=["minimize", "maximize", "minimize"][:n_values])
    for i in range(5):
        x = (i + 0.5) / 6
        study.add_trial(
            create_trial(
                values=[x, x * x, 1 - x][:n_values],
                params={"x": x, "y": 1 - x},
                distributions={n: FloatDistribution(0.0, 1.0) for n in ("x", "y")},
            )
        )
    return study


def of_states(*states: TrialState) -> optuna.Study:
    study = optuna.create_study()
    for state in states:
        study.add_trial(create_trial(state=state))
    return study


def infeasible() -> optuna.Study:
    study = optuna.create_study()
    for i in range(3):
        trial = create_trial(
            value=float(i),
            params={"x": 0.2 * i},
            distributions={"x": FloatDistribution(0.0, 1.0)},
            constraints={"c": 1.0},
        )
        study.add_trial(trial)
    return study


def conditional() -> optuna.Study:
    space = optimizer_space(["adam", "sgd"])
    study = make_study("conditional", storage=InMemoryStorage(), search_space=space)
    rng = np.random.default_rng(0)
    study.optimize(lambda trial: space.suggest(trial)["lr"] + rng.normal(), n_trials=14)
    return study


def imported() -> optuna.Study:
    rows = [
        {"run": f"r{i}", "lr": 10.0 ** -(i % 5), "optimizer": ("adam", "")[i % 2], "score": i % 4}
        for i in range(12)
    ]
    return import_runs(
        [*rows, {"run": "bad", "lr": 1.0, "score": "NaN"}],
        study_name="foreign",
        value="score",
        direction="maximize",
        baseline="r3",
        storage=InMemoryStorage(),
    )


def test_baseline_that_an_import_has_named_is_called_no_default(page):
    shown = page(imported())
    names = [trace["name"] for trace in shown.figures["history"]["data"]]
    assert "baseline" in names
    assert "default" not in names
    legend = next(s for s in document_of(imported()).sections if s.anchor == "slice").blocks[0]
    assert set(legend.legend) == {"baseline", "best"}


def changed_choices() -> optuna.Study:
    study = optuna.create_study()
    for i, value in enumerate([1, "1", None, True, 2.5]):
        distribution = CategoricalDistribution([1, "1", None, True, 2.5])
        study.add_trial(
            create_trial(value=float(i), params={"c": value}, distributions={"c": distribution})
        )
    return study


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda study_of: study_of([]), "No trial is complete yet"),
        (lambda _: of_states(TrialState.RUNNING, TrialState.WAITING), "No trial is complete yet"),
        (lambda _: of_states(*[TrialState.FAIL] * 3), "no reason stored"),
        (lambda study_of: study_of([0.5]), "Too few trials to show which parameters matter"),
        (lambda study_of: study_of([0.5] * 20), "Leaderboard"),
        (lambda study_of: study_of([math.inf, 0.5, -math.inf, 0.25]), "Leaderboard"),
        (lambda study_of: study_of([math.inf]), "none with a finite value"),
        (lambda _: two_values(2), "The study has 2 objective values"),
        (lambda _: two_values(3), "Not shown:"),
        (lambda _: infeasible(), "Each complete trial violates a constraint"),
        (lambda _: conditional(), "Leaderboard"),
        (lambda _: imported(), "Baseline: run r3."),
        (lambda _: changed_choices(), "Leaderboard"),
    ],
)
def test_any_study_gives_a_readable_page(page, study_of, make, words):
    shown = page(make(study_of))
    assert words in shown.text
    assert "How it was made" in shown.text
    numbers = json.dumps(list(shown.figures.values()))
    assert "NaN" not in numbers
    assert "Infinity" not in numbers


def test_large_study_is_capped_and_says_so(page):
    rng = np.random.default_rng(0)
    study = optuna.create_study()
    ranges = {name: FloatDistribution(0.0, 1.0) for name in "abcdefghijklm"}
    trials = []
    for _ in range(2200):
        params = dict(zip(ranges, rng.random(13), strict=True))
        reports = {step: float(rng.random()) for step in range(3)}
        trials.append(
            create_trial(
                value=params["a"],
                params=params,
                distributions=ranges,
                intermediate_values=reports,
            )
        )
    study.add_trials(trials)
    shown = page(study)
    assert "Shows 2,000 of 2,200 complete trials" in shown.text
    assert "12 of 13 parameters" in shown.text
    assert len(shown.figures["parallel-coordinates"]["data"]) <= 300
    assert len(shown.figures["parameter-a"]["data"][0]["x"]) <= 501
    assert len(json.dumps(shown.figures)) < 3_000_000
    best = shown.figures["history"]["data"][1]["y"][-1]
    assert best == pytest.approx(study.best_value)
