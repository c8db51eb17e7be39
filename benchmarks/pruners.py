"""Which pruner finds the best configuration with so many epochs?

Every pruner that hpolab has a name for, and no pruner, replay random searches on the tables of
learning curves that `make_curves.py` has made, each as a study of Optuna with `ask`, `report`,
`should_prune` and `tell`. All get the same epochs, and in one replay the same configurations in the
same order, each with the same one of its trainings. Beside them stands what needs no pruner: train
every configuration for one epoch, then those that were best after it to their end, here with half
of the epochs for each. Egele et al. 2023 (arXiv:2307.15422) and 2024 (arXiv:2404.04111) found that
hardly anything beats it.

A study's regret is that of the configuration which it recommends, its best complete trial: the
mean of all of its trainings, 0 for the best of the table and 1 for the median. Ranks are averaged
over sets and replays, with ties; the interval is of 95 %, by a bootstrap of the replays of each
set. The interquartile mean leaves out the best and worst quarter (Agarwal et al. 2021,
arXiv:2108.13264).

The sets are in two halves. The rungs of `halving` were chosen on the first, and the second was run
once, at the end.

    python benchmarks/pruners.py
    python benchmarks/pruners.py --sets digits --budgets 20 --pruners median asha
    python benchmarks/pruners.py --trials 15 30 70 150

With ``--trials`` all get the same number of trials instead, and what differs is the epochs, too.
"""

from __future__ import annotations

import argparse
import itertools
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import optuna
from _compare import Record, add_json
from _curves import CURVES, Ended, read_curves, replay
from _ranks import intervals, iqm, mean_ranks
from _table import Figure, Row, version_of

from hpolab import make_study
from hpolab.studies.pruner import PRUNERS, make_pruner, with_max_resource

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from _curves import CurveTable
    from numpy.typing import NDArray
    from optuna.pruners import BasePruner

HALVES = {"dev": ("digits", "movielens"), "test": ("mnist", "california")}
ONE_EPOCH = "one epoch, then the best"
OURS = "halving"
# `wilcoxon` compares folds. Of the reports of 30 epochs it makes exact tests, which take minutes.
SHOWN = [name for name in PRUNERS if name != "wilcoxon"]


@dataclass(frozen=True)
class Chances:
    """What is random in a replay: the configurations in their order, and a seed of each."""

    order: list[int]
    seeds: NDArray[np.int64]

    @classmethod
    def draw(cls, table: CurveTable, seed: int) -> Chances:
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(table)).tolist()
        return cls(order, rng.integers(table.n_seeds, size=len(table)))

    def seed_of(self, configuration: int) -> int:
        return int(self.seeds[configuration])


def pruner_of(name: str, n_epochs: int) -> BasePruner:
    """Return a pruner as `make_study` and `run` make it for trials of so many epochs."""
    return with_max_resource(n_epochs) if name == "hyperband" else make_pruner(name)


def run_pruner(pruner: BasePruner, table: CurveTable, chances: Chances, n: int) -> list[Ended]:
    """Run a study of ``n`` epochs."""
    study = make_study(
        "replay", storage="memory://", direction=table.direction, sampler="random", pruner=pruner
    )
    return replay(table, study, chances.order, n_epochs=n, seed_of=chances.seed_of)


def run_one_epoch(table: CurveTable, chances: Chances, n: int) -> list[Ended]:
    """Spend half of ``n`` epochs on first ones, and the rest on those that were best after it."""
    tried = np.array(chances.order[: n // 2])
    again = chances.seeds[tried]
    sign = 1.0 if table.direction == "minimize" else -1.0
    after_one = sign * table.curves[tried, again, 0]
    n_spent, ended = len(tried), []
    for place in np.argsort(after_one, kind="stable"):  # NaN comes last
        curve = table.curves[tried[place], again[place]]
        n_spent += int(np.isfinite(curve[1:]).sum())
        if n_spent > n or np.isnan(after_one[place]):
            break
        value = float(table.scores[tried[place], again[place]])
        ended.append(Ended(int(tried[place]), n_spent, None if np.isnan(value) else value))
    return ended


def regret(table: CurveTable, ended: Iterable[Ended], n: int) -> float:
    """Return the regret of what a study recommends after ``n`` epochs, 1 if nothing."""
    sign = 1.0 if table.direction == "minimize" else -1.0
    complete = [each for each in ended if each.value is not None and each.n_epochs <= n]
    if not complete:
        return 1.0
    best = min(complete, key=lambda each: sign * each.value)  # type: ignore[operator]
    return float(table.regrets[best.configuration])


def measure(
    tables: Sequence[CurveTable], names: Sequence[str], budgets: Sequence[int], n_seeds: int
) -> dict[str, NDArray[np.float64]]:
    """Return each method's regrets, (n_budgets, n_tables, n_seeds); budgets in full trainings."""
    found: dict[str, NDArray[np.float64]] = {}
    for method in (ONE_EPOCH, *names):
        started = time.process_time()
        found[method] = np.empty((len(budgets), len(tables), n_seeds))
        for place, seed in itertools.product(range(len(tables)), range(n_seeds)):
            found[method][:, place, seed] = _regrets(method, tables[place], budgets, seed)
        print(f"  {method}: {time.process_time() - started:.0f} CPU s", flush=True)
    return found


def _regrets(method: str, table: CurveTable, budgets: Sequence[int], seed: int) -> list[float]:
    chances = Chances.draw(table, seed)
    spent = [budget * table.n_epochs for budget in budgets]
    if method == ONE_EPOCH:  # how many it tries depends on the budget
        return [regret(table, run_one_epoch(table, chances, n), n) for n in spent]
    pruner = pruner_of(method, table.n_epochs)
    ended = run_pruner(pruner, table, chances, max(spent))
    return [regret(table, ended, n) for n in spent]


def show(title: str, names: Sequence[str], losses: NDArray[np.float64]) -> list[Figure]:
    """Print a table of methods, the best first; return their mean ranks in the order of names.

    Args:
        title: What it is of.
        names: The methods.
        losses: Their regrets, (n_methods, n_tables, n_seeds).
    """
    found = {}
    for statistic in (mean_ranks, iqm):
        low, high = intervals(statistic, losses).T
        found[statistic] = list(map(Figure, statistic(losses), low, high))
    print(f"\n{title}\n{'':28}mean rank             IQM of regret            mean regret")
    for i in sorted(range(len(names)), key=lambda i: found[mean_ranks][i].middle):
        rank, middle = found[mean_ranks][i], found[iqm][i]
        print(
            f"{names[i]:26}{rank.middle:6.2f} [{rank.low:.2f}..{rank.high:.2f}]"
            f"{middle.middle:12.4f} [{middle.low:.4f}..{middle.high:.4f}]"
            f"{losses[i].mean():12.4f}"
        )
    return found[mean_ranks]


def row_of(budget: int, peer: str, names: Sequence[str], ranks: Sequence[Figure], note: str) -> Row:
    """Return a row of the table: hpolab's own pruner of epochs beside a peer."""
    return Row(
        f"{budget}-{peer.split()[0]}",
        f"pruner `{OURS}`, the epochs of {budget} full trainings: mean rank of {len(names)}",
        peer,
        peer_version=version_of("optuna") if peer == "median" else "",
        unit="mean rank of regret",
        ours=ranks[names.index(OURS)],
        theirs=ranks[names.index(peer)],
        n_repeats=1,
        note=note,
    )


def show_trials(
    tables: Sequence[CurveTable], names: Sequence[str], counts: Sequence[int], n_seeds: int
) -> None:
    """Print what each pruner's study recommends, and has spent, after so many trials."""
    print(f"{'':14}trials    regret    epochs  complete")
    for name in names:
        found = np.empty((len(tables), n_seeds, len(counts), 3))
        for place, seed in itertools.product(range(len(tables)), range(n_seeds)):
            table, chances = tables[place], Chances.draw(tables[place], seed)
            del chances.order[max(counts) :]
            n = table.n_epochs * max(counts)
            ended = run_pruner(pruner_of(name, table.n_epochs), table, chances, n)
            for column, count in enumerate(counts):
                some = ended[:count]
                n_complete = sum(each.value is not None for each in some)
                spent = some[-1].n_epochs
                found[place, seed, column] = regret(table, some, n), spent, n_complete
        for count, (loss, spent, complete) in zip(counts, found.mean(axis=(0, 1)), strict=True):
            print(f"{name:14}{count:6}{loss:10.4f}{spent:10.0f}{complete:10.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", help="by default all; see also --half")
    parser.add_argument("--half", choices=HALVES)
    parser.add_argument("--pruners", nargs="+", choices=PRUNERS, default=list(SHOWN))
    parser.add_argument("--budgets", nargs="+", type=int, default=[10, 20, 50])
    parser.add_argument("--trials", nargs="+", type=int, help="as many trials, not epochs")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--curves", type=Path, default=CURVES)
    parser.add_argument("--quick", action="store_true", help="two replays, small budgets")
    add_json(parser)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.budgets = 2, [2, 5]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    tables = read_curves(arguments.curves)
    chosen = arguments.sets or HALVES.get(arguments.half or "", tuple(tables))
    missing = sorted(set(chosen) - set(tables))
    if missing:
        parser.error(f"{arguments.curves} has no {', '.join(missing)}; it has {', '.join(tables)}")
    if arguments.trials:
        found = [tables[name] for name in chosen]
        show_trials(found, arguments.pruners, arguments.trials, arguments.seeds)
        return
    record = Record(arguments.json)
    sizes = (arguments.budgets, arguments.seeds)
    regrets = measure([tables[name] for name in chosen], arguments.pruners, *sizes)
    names = list(regrets)
    losses = np.array(list(regrets.values()))  # (methods, budgets, tables, seeds)
    where = f"{', '.join(chosen)}; {arguments.seeds} replays of each"
    for place, budget in enumerate(arguments.budgets):
        title = f"the epochs of {budget} full trainings ({where})"
        ranks = show(title, names, losses[:, place])
        peers = [peer for peer in (ONE_EPOCH, "median", "none") if peer in names]
        if OURS in names:
            record.add(*(row_of(budget, peer, names, ranks, where) for peer in peers))
    show(f"all budgets, the mean of their regrets ({where})", names, losses.mean(axis=1))
    record.finish()


if __name__ == "__main__":
    main()
