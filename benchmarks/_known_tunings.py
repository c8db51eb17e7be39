"""Comparisons of known truth: contenders whose tunings follow one law, but for a named gain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab import Comparison, Objective, SearchSpace, compare

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hpolab import Reporter

__all__ = ["Valley", "outcomes_of_repeats", "repeated"]


class Valley(Objective):
    """A valley on a torus at a place of the contender's own, whose default is of no use to anyone.

    So every contender of the same gain has the same law, whatever its place. A default that is
    good by chance would make its contender truly better in all repeats.
    """

    def __init__(self, place: int, gain: float, deviation: float) -> None:
        super().__init__(
            search_space=SearchSpace({"x": (0.0, 1.0), "y": (0.0, 1.0)}),
            direction="maximize",
            max_steps=1,
        )
        self.place, self.gain, self.deviation = place, gain, deviation

    def train(self, params: Mapping[str, Any], reporter: Reporter) -> float:
        return -9.0 if reporter.trial.number == 0 else self._score(params, reporter.seed)

    def fit(self, params: Mapping[str, Any], seed: int) -> Any:
        return params, seed

    def evaluate(self, model: Any, data: Any) -> dict[str, float]:
        return {"score": self._score(*model)}

    def _score(self, params: Mapping[str, Any], seed: int) -> float:
        noise = np.random.default_rng([seed, self.place]).normal()
        distance = (np.array([params["x"], params["y"]]) + self.place / 7) % 1.0 - 0.3
        return self.gain - float(distance @ distance) + self.deviation * noise


def repeated(
    seed: int, *, n_contenders: int, n_repeats: int, gain: float = 0.0, deviation: float = 0.005
) -> Comparison:
    """Return a comparison in which the first contender is better by ``gain``."""
    rivals = {f"c{k}": Valley(k, gain * (k == 0), deviation) for k in range(n_contenders)}
    return compare(
        None, rivals, study_name="known", n_trials=20, storage="memory://", test=0, n_test_seeds=3,
        n_repeats=n_repeats, sampler="random", pruner="none", seed=seed, show_progress_bar=False,
    )  # fmt: skip


def outcomes_of_repeats(seed: int, *, gain: float = 0.0, **world: Any) -> dict[str, float]:
    """Return what a comparison of repeated tunings says, 1 where it is so.

    Outcomes are "false claim", "interval holds" (all together), "found" (the better one, over all
    rivals) and "probability holds" (of equal contenders).
    """
    comparison = repeated(seed, gain=gain, **world)
    leader, effects = comparison.ranking()[0].name, comparison.improvements()
    true = {rival: gain * ((leader == "c0") - (rival == "c0")) for rival in effects}
    chances = comparison.outperforming()
    return {
        "false claim": float(
            any(each.is_significant and each.estimate * true[r] <= 0 for r, each in effects.items())
        ),
        "interval holds": float(all(true[rival] in each for rival, each in effects.items())),
        "found": float(leader == "c0" and all(each.is_better for each in effects.values())),
        "probability holds": float(all(true[r] or 0.5 in each for r, each in chances.items())),
    }
