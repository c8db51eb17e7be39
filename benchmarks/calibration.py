"""Do the sentences hold? Simulations of known truth, through the public functions.

Each question is a law that makes studies, and outcomes that are right or wrong in each. A share
stands with its Monte-Carlo standard error, beside what is promised. Studies are written to a file
as they end: started again, it goes on with those that are missing.

    python benchmarks/calibration.py                       # all questions, about an hour
    python benchmarks/calibration.py --only confirm --studies 100
    python benchmarks/calibration.py --list
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import multiprocessing
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from _known_truth import Draws, Rows, confirmed
from _known_tunings import outcomes_of_repeats
from _laws_of_studies import expected, of_influence, raced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Outcomes = Mapping[str, float | None]

# What is promised: of intervals, of claims, of what is there to be found.
INTERVAL, FALSE, FOUND, ANY = (0.93, 1.0), (0.0, 0.05), (0.80, 1.0), (0.0, 1.0)


@dataclass(frozen=True)
class Question:
    """A law of studies, and what is promised of each outcome.

    Attributes:
        law: Seed -> outcome -> 1 or 0; None where the study has no such outcome.
        promised: Outcome -> the range that its share must be in.
        n_studies: How many studies answer it.
    """

    law: Callable[[int], Outcomes]
    promised: Mapping[str, tuple[float, float]]
    n_studies: int = 400


# ----- Laws. All configurations have the same true score but where a gain is named.


def new_rows(seed: int, *, gain: float = 0.0, groups: int = 1, **world: Any) -> Outcomes:
    """Return what a confirmation says of new data, of equal or of better configurations."""
    rows = Rows(seed, gain=gain, group_size=groups, **world)
    labels = None if groups == 1 else np.arange(rows.n_rows) // groups
    _, found = confirmed(rows, seed, groups=labels)
    return {
        "all intervals hold": all(gain in each.improvement for each in found.configurations),
        "expected of the best holds": found.expected.low <= gain <= found.expected.high,
        "better, falsely": any(each.is_better for each in found.configurations)
        if not gain
        else None,
        "better, found": found.winner is not None if gain else None,
    }


def draws(
    seed: int, law: Callable[[float, np.random.Generator], float], truth: float, **settings: Any
) -> Outcomes:
    """Return what a confirmation says of scores that vary by seed alone."""
    _, found = confirmed(Draws(law), seed, **settings)
    winner = found.winner
    return {
        "all intervals hold": all(truth in each.improvement for each in found.configurations),
        "expected of the best holds": found.expected.low <= truth <= found.expected.high,
        "given 'better', its interval holds": None
        if winner is None
        else truth in winner.improvement,
        "better, falsely": winner is not None if truth <= 0 else None,
    }


def equal(x: float, rng: np.random.Generator) -> float:
    return float(rng.normal())


def steady_default(x: float, rng: np.random.Generator, *, gain: float = 0.0) -> float:
    return float(0.1 * rng.normal() if x == 0.5 else gain + rng.normal())


def skewed(x: float, rng: np.random.Generator) -> float:
    """Draw from a log-normal law turned round, of mean zero: most seeds are above it."""
    return float(0.3 * rng.normal() if x == 0.5 else math.exp(0.5) - rng.lognormal())


def collapsing(x: float, rng: np.random.Generator) -> float:
    """Draw from a law of mean zero in which one seed in twenty collapses."""
    if x == 0.5:
        return float(0.1 * rng.normal())
    return float(0.1 * rng.normal() + (0.15 if rng.random() >= 0.05 else -2.85))


def is_named(seed: int, law: Callable[[float, np.random.Generator], float]) -> Outcomes:
    """Return how often a false claim comes, and whether the assumption stands beside it."""
    _, found = confirmed(Draws(law), seed)
    false = found.winner is not None
    return {
        "better, falsely": false,
        "then, the assumption is named": "collapse" in str(found) if false else None,
        "then, a warning of uneven or skewed scores": (
            "scatter" in str(found) or "skewed" in str(found)
        )
        if false
        else None,
    }


def same(seed: int, *, truth: float) -> Outcomes:
    """Return whether what differs by all that matters is called practically the same."""

    def law(x: float, rng: np.random.Generator) -> float:
        return float((truth if x != 0.5 else 0.0) + 0.3 * rng.normal())

    _, found = confirmed(Draws(law), seed, min_difference=0.5, top_k=3)
    answers = [each.improvement.answer for each in found.configurations]
    is_same = "practically the same" in answers
    return {
        "practically the same, falsely": is_same if truth >= 0.5 else None,
        "practically the same, found": is_same if truth < 0.5 else None,
        "better, falsely": "better" in answers if truth <= 0 else None,
    }


def asked_for(seed: int, *, of_rows: bool) -> Outcomes:
    """Return whether a difference is found with what a verdict that did not know has asked for.

    The difference is two standard errors of the first confirmation.
    """
    if of_rows:
        gain = 0.02
        _, first = confirmed(Rows(seed, gain=gain, n_rows=500), seed, top_k=1, min_difference=gain)
    else:
        gain = 2 * math.sqrt(2 / 10)
        law = partial(_gaining, gain=gain)
        _, first = confirmed(Draws(law), seed, top_k=1, min_difference=gain)
    needed = first.needed
    if needed is None or needed.high is None:
        return {"found with what was asked for": None, "known at once": first.winner is not None}
    n = {"n_seeds": needed.high, "min_seeds": needed.high} if needed.what == "seeds" else {}
    objective = (
        Rows(seed + 10**6, gain=gain, n_rows=500 if n else needed.high)
        if of_rows
        else Draws(partial(_gaining, gain=gain))
    )
    _, second = confirmed(objective, seed + 10**6, top_k=1, min_difference=gain, **n)
    return {"found with what was asked for": second.winner is not None, "known at once": None}


def _gaining(x: float, rng: np.random.Generator, *, gain: float) -> float:
    return float((gain if x != 0.5 else 0.0) + rng.normal())


_CONFIRMED = {
    "all intervals hold": INTERVAL,
    "expected of the best holds": INTERVAL,
    "better, falsely": FALSE,
}

QUESTIONS: Mapping[str, Question] = {
    "confirm on new data, five of 500 rows": Question(new_rows, _CONFIRMED, 1000),
    "confirm on new data, five of 200 rows and seeds that vary more": Question(
        partial(new_rows, n_rows=200, own=0.1, jitter=0.2), _CONFIRMED
    ),
    "confirm, trainings that hardly vary": Question(
        partial(new_rows, own=0.05, jitter=0.002), _CONFIRMED, 1000
    ),
    "confirm, trainings without chance": Question(partial(new_rows, jitter=0.0), _CONFIRMED),
    "confirm, groups of ten rows": Question(partial(new_rows, n_rows=1000, groups=10), _CONFIRMED),
    "confirm on new data, gain of 0.05": Question(
        partial(new_rows, gain=0.05), {**_CONFIRMED, "better, found": ANY}, 300
    ),
    "confirm, seeds alone": Question(partial(draws, law=equal, truth=0.0), _CONFIRMED, 1000),
    "confirm, as many seeds as it takes": Question(
        partial(draws, law=equal, truth=0.0, n_seeds=20, min_seeds=None), _CONFIRMED
    ),
    "confirm, ten of three seeds": Question(
        partial(draws, law=equal, truth=0.0, top_k=10, n_trials=20, n_seeds=3, min_seeds=3),
        _CONFIRMED,
    ),
    "confirm, a lead of half a deviation": Question(
        partial(draws, law=partial(steady_default, gain=0.5), truth=0.5),
        {**_CONFIRMED, "given 'better', its interval holds": (0.90, 1.0)},
        1000,
    ),
    "confirm, a difference that just matters": Question(
        partial(same, truth=0.5), {"practically the same, falsely": FALSE}
    ),
    "confirm, no difference and a margin": Question(
        partial(same, truth=0.0), {"practically the same, found": ANY, "better, falsely": FALSE}
    ),
    "confirm, with the seeds it asks for": Question(
        partial(asked_for, of_rows=False), {"found with what was asked for": FOUND}, 400
    ),
    "confirm, with the rows it asks for": Question(
        partial(asked_for, of_rows=True), {"found with what was asked for": FOUND}, 200
    ),
    "confirm, skewed seeds (outside the assumptions)": Question(
        partial(is_named, law=skewed),
        {
            "better, falsely": ANY,
            "then, the assumption is named": FOUND,
            "then, a warning of uneven or skewed scores": ANY,
        },
    ),
    "confirm, one collapse in 20 (outside the assumptions)": Question(
        partial(is_named, law=collapsing),
        {
            "better, falsely": ANY,
            "then, the assumption is named": FOUND,
            "then, a warning of uneven or skewed scores": ANY,
        },
    ),
    **{
        f"compare, {n} equal contenders tuned {n_repeats} times": Question(
            partial(outcomes_of_repeats, n_contenders=n, n_repeats=n_repeats),
            {"interval holds": INTERVAL, "probability holds": INTERVAL, "false claim": FALSE},
            200,
        )
        for n, n_repeats in ((2, 10), (3, 5))
    },
    "compare, one of two better by 0.05, tuned 10 times": Question(
        partial(outcomes_of_repeats, n_contenders=2, n_repeats=10, gain=0.05),
        {"interval holds": INTERVAL, "found": FOUND},
        200,
    ),
    **{
        f"influence, {sampler}, {what}": Question(
            partial(of_influence, sampler=sampler, strength=strength),
            {
                "an idle parameter is significant": FALSE,
                **({"the parameter is found": FOUND} if strength else {}),
            },
            300,
        )
        for sampler in ("random", "tpe")
        for what, strength in (("noise alone", 0.0), ("one parameter decides", 10.0))
    },
    **{
        f"recommend, {sampler}, {n_trials} trials, noise {noise}": Question(
            partial(expected, sampler=sampler, noise=noise, n_trials=n_trials),
            {"expected of best holds": INTERVAL, "expected of robust holds": INTERVAL},
            300,
        )
        for sampler, n_trials, noise in (
            ("tpe", 100, 0.005),
            ("tpe", 50, 0.05),
            ("random", 50, 0.02),
        )
    },
    "race of 30 trials over ten folds": Question(
        raced,
        {
            "the best over all folds is stopped": (0.0, 0.20),
            "share of the folds that are trained": ANY,
        },
        500,
    ),
}


# ----- Running, resuming, telling.


def _answered(job: tuple[str, int]) -> dict[str, Any]:
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    logging.disable(logging.WARNING)
    name, seed = job
    outcomes = QUESTIONS[name].law(seed)
    plain = {key: None if each is None else float(each) for key, each in outcomes.items()}
    return {"question": name, "seed": seed, "outcomes": plain}


def _known(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        for line in path.read_text().splitlines():
            if line.endswith("}"):  # the last one may be torn
                yield json.loads(line)


def _tell(name: str, records: list[dict[str, Any]]) -> bool:
    """Print the shares of a question; return whether they are as promised."""
    print(f"\n{name} ({len(records)} studies)")
    right = True
    for outcome, (low, high) in QUESTIONS[name].promised.items():
        found = [r["outcomes"][outcome] for r in records if r["outcomes"].get(outcome) is not None]
        if not found:
            print(f"  {outcome:45} none")
            continue
        share = float(np.mean(found))
        error = math.sqrt(max(share * (1 - share), 0.25 / len(found)) / len(found))
        is_right = low - 2 * error <= share <= high + 2 * error
        right = right and is_right
        promised = "no promise" if (low, high) == ANY else f"promised {low:.0%} to {high:.0%}"
        mark = "" if is_right else "   WRONG"
        print(f"  {outcome:45} {share:6.1%} ± {error:.1%} of {len(found):5}, {promised}{mark}")
    return right


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", default="", help="questions whose name holds this text")
    parser.add_argument("--studies", type=int, help="of each question; by default as it says")
    parser.add_argument("--out", type=Path, default=Path("calibration.jsonl"))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--list", action="store_true", help="only name the questions")
    asked = parser.parse_args()
    names = [name for name in QUESTIONS if asked.only in name]
    if asked.list:
        print(*names, sep="\n")
        return 0
    records: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in _known(asked.out):
        records[record["question"]].append(record)
    right = True
    with multiprocessing.get_context("spawn").Pool(asked.processes) as pool:
        for name in names:
            n = asked.studies or QUESTIONS[name].n_studies
            done = {record["seed"] for record in records[name]}
            jobs = [(name, seed) for seed in range(n) if seed not in done]
            with asked.out.open("a") as out:
                for record in pool.imap_unordered(_answered, jobs, chunksize=4):
                    records[name].append(record)
                    out.write(json.dumps(record) + "\n")
                    out.flush()
            right = _tell(name, [each for each in records[name] if each["seed"] < n]) and right
    return int(not right)


if __name__ == "__main__":
    raise SystemExit(main())
