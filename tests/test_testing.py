"""ObjectiveContract: it finds the promises that an objective breaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from hpolab import Objective, SearchSpace
from hpolab.testing import ObjectiveContract, _run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hpolab import Reporter


class Careless(Objective):
    """Breaks promises on purpose: draws from the global state, and has no end."""

    def train(self, params: Mapping[str, Any], reporter: Reporter) -> float:
        for step in range(4):
            reporter.report(float(np.random.rand()), step)
        return float(np.random.rand())

    def fit(self, params: Mapping[str, Any], seed: int = 0) -> float:
        return params["lr"]

    def evaluate(self, model: float, data: float) -> dict[str, float]:
        return {"square": (model - data) ** 2}

    def row_scores(self, model: float, data: float) -> np.ndarray:
        return np.array([model - data, data - model])


class Contract(ObjectiveContract):
    value_is_of_data = True

    def objective(self) -> Objective:
        space = SearchSpace({"lr": (1e-3, 1e-1, "log")})
        return Careless(search_space=space, metric="square", direction="minimize", max_steps=4)

    def data(self) -> float:
        return 0.0


@pytest.mark.parametrize(
    "promise",
    [
        lambda contract, finished: contract.test_same_seed_gives_the_same_trials(finished),
        lambda contract, finished: contract.test_deadline_ends_a_trial_with_what_it_has(finished),
        lambda contract, finished: contract.test_best_model_is_that_of_the_best_trial(finished),
        lambda contract, finished: (
            contract.test_row_scores_have_the_metric_as_their_mean_in_any_order_of_rows(finished)
        ),
    ],
)
def test_contract_finds_a_broken_promise(promise: Callable[..., None]) -> None:
    contract = Contract()
    finished = _run(contract.objective(), 2)
    with pytest.raises(AssertionError):
        promise(contract, finished)


class Line(Careless):
    """Keeps the promise of row scores."""

    def evaluate(self, model: float, data: np.ndarray) -> dict[str, float]:
        return {"square": float(np.mean((data - model) ** 2))}

    def row_scores(self, model: float, data: np.ndarray) -> np.ndarray:
        squares: np.ndarray = (data - model) ** 2
        return squares


class OfOneOrder(Line):
    """Its row scores are right in one order of rows alone."""

    def row_scores(self, model: float, data: np.ndarray) -> np.ndarray:
        return super().row_scores(model, data) * (1 if data[0] < data[-1] else 2)


@pytest.mark.parametrize("kind", [Line, OfOneOrder])
def test_contract_looks_at_row_scores_in_two_orders_of_rows(kind: type[Line]) -> None:
    class Contract(ObjectiveContract):
        def objective(self) -> Objective:
            space = SearchSpace({"lr": (1e-3, 1e-1, "log")})
            return kind(search_space=space, metric="square", direction="minimize", max_steps=4)

        def data(self) -> np.ndarray:
            return np.array([0.0, 1.0, 2.0, 7.0])

    contract = Contract()
    promise = contract.test_row_scores_have_the_metric_as_their_mean_in_any_order_of_rows
    finished = _run(contract.objective(), 1)
    if kind is Line:
        promise(finished)
        return
    with pytest.raises(AssertionError, match="must have the metric as their mean"):
        promise(finished)
