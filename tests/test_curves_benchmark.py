"""Tables of learning curves are made, read and replayed, and pruners are judged on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from hpolab import make_study

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture(scope="module")
def module(script):
    """Return the loader."""
    return script("_curves")


@pytest.fixture(scope="module")
def pruners(script):
    return script("pruners")


def ran(script: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, BENCHMARKS / script, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The path of a tiny table that the script has made."""
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    path = tmp_path_factory.mktemp("curves") / "curves.npz"
    ran("make_curves.py", "--quick", "--sets", "digits", "--output", path)
    return path


@pytest.fixture
def table(module, made):
    return module.read_curves(made)["digits"]


def study_of(table, pruner="none"):
    return make_study("s", storage="memory://", direction=table.direction, pruner=pruner)


@pytest.mark.needs("torch", "sklearn")
def test_a_table_holds_every_configuration_with_its_curves_and_scores(table):
    assert len(table) == 24
    assert table.curves.shape == (24, 2, 4)
    assert np.isfinite(table.curves).all(axis=2).tolist() == np.isfinite(table.scores).tolist()
    assert (table.epoch_seconds > 0).all()
    for params in table.configurations:
        assert params.keys() <= table.space.distributions().keys()
    # Seeds differ, and so do the trainings.
    assert (table.curves[:, 0] != table.curves[:, 1]).any(axis=1).mean() > 0.9


@pytest.mark.needs("torch", "sklearn")
def test_a_set_that_is_made_anew_leaves_the_others_in_the_file(module, made, table, tmp_path):
    path = tmp_path / "two.npz"
    module.write_curves({"other": table}, path)
    module.write_curves(module.read_curves(path) | {"digits": table}, path)
    assert list(module.read_curves(path)) == ["other", "digits"]
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.needs("torch", "sklearn")
@pytest.mark.parametrize("version", [0, 2, None])
def test_a_file_of_another_version_is_refused(module, made, tmp_path, version):
    with np.load(made) as kept:
        arrays = {name: kept[name] for name in kept.files if name != "schema"}
    if version is not None:
        arrays["schema"] = np.array(version)
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(ValueError, match=f"version {version} .* version {module.SCHEMA} is"):
        module.read_curves(tmp_path / "other.npz")


@pytest.mark.needs("torch", "sklearn")
def test_a_replay_without_a_pruner_reports_and_returns_what_the_table_holds(module, table):
    study = study_of(table)
    order = [7, 3, 11]
    ended = module.replay(table, study, order, n_epochs=12, seed_of=lambda c: c % 2)
    assert [each.configuration for each in ended] == order
    assert [each.n_epochs for each in ended] == [4, 8, 12]
    for each, trial in zip(ended, study.trials, strict=True):
        curve = table.curves[each.configuration, each.configuration % 2]
        assert list(trial.intermediate_values.values()) == curve.tolist()
        score = table.scores[each.configuration, each.configuration % 2]
        assert trial.value == each.value == score
        assert trial.params == table.configurations[each.configuration]


@pytest.mark.needs("torch", "sklearn")
def test_a_replay_ends_with_its_epochs_in_the_midst_of_a_trial(module, table):
    study = study_of(table)
    ended = module.replay(table, study, range(24), n_epochs=10, seed_of=lambda _: 0)
    assert [each.n_epochs for each in ended] == [4, 8]
    assert [len(trial.intermediate_values) for trial in study.trials] == [4, 4, 2]
    assert study.trials[2].state == TrialState.RUNNING


@pytest.mark.needs("torch", "sklearn")
def test_what_a_pruner_stops_or_what_diverges_costs_the_epochs_that_it_was_trained(module, table):
    curves, scores = table.curves.copy(), table.scores.copy()
    curves[0, :, 2:], scores[0] = np.nan, np.nan
    torn = module.CurveTable(
        "torn", curves, scores, table.epoch_seconds, table.configurations, table.space, "maximize"
    )
    study = study_of(torn, optuna.pruners.ThresholdPruner(lower=2.0))
    (stopped,) = module.replay(torn, study, [5], n_epochs=4, seed_of=lambda _: 0)
    assert (stopped.n_epochs, stopped.value) == (1, None)
    (diverged,) = module.replay(torn, study_of(torn), [0], n_epochs=4, seed_of=lambda _: 0)
    assert (diverged.n_epochs, diverged.value) == (3, None)
    assert torn.regrets[0] == 1.0


@pytest.mark.needs("torch", "sklearn")
def test_a_generator_that_looks_at_the_study_is_a_sampler(module, table):
    study = study_of(table)

    def best_neighbor():
        yield 12
        while True:
            best = table.configurations.index(study.best_trial.params)
            yield (best + len(study.trials)) % len(table)

    ended = module.replay(table, study, best_neighbor(), n_epochs=16, seed_of=lambda _: 1)
    assert len(ended) == 4


@pytest.mark.needs("torch", "sklearn")
def test_pruners_are_ranked_beside_one_epoch_and_the_rows_saved(made, tmp_path):
    arguments = ("--quick", "--curves", made, "--sets", "digits", "--json", tmp_path / "t.json")
    printed = ran("pruners.py", *arguments)
    assert "one epoch, then the best" in printed
    assert "hyperband" in printed
    (section,) = json.loads((tmp_path / "t.json").read_text())["sections"].values()
    assert {row["status"] for row in section["rows"]} == {"measured"}


def test_bootstrap_draws_seeds_within_each_table(pruners):
    """Without variation between seeds there is none between draws, however tables differ."""
    losses = np.broadcast_to(np.array([[[1.0], [50.0]], [[2.0], [40.0]]]), (2, 2, 6))
    low, high = pruners.intervals(lambda a: a.mean(axis=(1, 2)), losses, n_draws=50).T
    assert low.tolist() == high.tolist() == [25.5, 21.0]
    varied = np.random.default_rng(0).normal(size=(1, 1, 400))
    low, high = pruners.intervals(lambda a: a.mean(axis=(1, 2)), varied).T
    assert (high - low)[0] == pytest.approx(2 * 1.96 / 20, rel=0.1)


def test_the_table_in_the_repository_opens(module):
    tables = module.read_curves()
    assert set(tables) == {"digits", "california", "mnist", "movielens"}
    for table in tables.values():
        assert table.curves.shape == (500, 3, 30)
        assert {params["optimizer"] for params in table.configurations} == set(
            table.space.distributions()["optimizer"].choices
        )
        assert table.regrets.min() == 0.0
    assert module.CURVES.stat().st_size < 8e6
