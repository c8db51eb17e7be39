"""Random state: weights and order draw apart, and outside it is left as it was."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from hpolab import SearchSpace
from hpolab.torch.rng import order_seed

if TYPE_CHECKING:
    from collections.abc import Mapping


SGD = SearchSpace({"optimizer": "sgd", "lr": (1e-3, 1.0, "linear")}, defaults={"lr": 0.05})


def loader(data: tuple[np.ndarray, np.ndarray], **options: Any) -> DataLoader[Any]:
    rows = TensorDataset(*(torch.as_tensor(part, dtype=torch.float32) for part in data))
    # 41 rows: the last batch would have one, on which batch normalization cannot train.
    return DataLoader(rows, batch_size=8, drop_last=True, **options)


def test_initial_weights_and_data_order_draw_apart():
    """Seeded alike, an order would be made of the numbers that made the weights."""
    assert order_seed(0) not in (0, order_seed(1))


def test_random_state_outside_is_left_as_it_was(regression, run_trial, batch_norm, splits):
    own = torch.Generator().manual_seed(3)
    data = loader(splits["train"], shuffle=True, generator=own)
    torch.manual_seed(11)

    def state() -> tuple[Any, ...]:
        numpy_state = np.random.get_state()[1].tolist()
        return (
            torch.get_rng_state().tolist(),
            own.get_state().tolist(),
            numpy_state,
            random.getstate(),
        )

    before = state()
    objective = regression(
        batch_norm,
        train=data,
        valid=loader(splits["valid"], shuffle=True),
        score=loader(splits["score"]),
    )
    assert state() == before
    objective.check()
    assert state() == before
    run_trial(objective)
    assert state() == before
    model = objective.fit(objective.search_space.defaults(), seed=0)
    objective.evaluate(model, loader(splits["score"], shuffle=True))
    assert state() == before


def test_random_state_is_left_as_it_was_by_a_trial_that_fails(regression):
    def build(params: Mapping[str, Any]) -> nn.Module:
        torch.rand(1)
        raise RuntimeError("no model today")

    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="no model today"):
        regression(build).fit(SGD.defaults(), seed=0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_trains_from_arrays_of_either_side_and_keeps_its_random_state(
    regression, run_trial, same_weights, batch_norm, splits
):
    before = torch.cuda.get_rng_state()
    on_gpu = tuple(torch.as_tensor(part, device="cuda") for part in splits["train"])
    models = [
        regression(batch_norm, train=train, device="cuda").fit(SGD.defaults(), seed=1)
        for train in (splits["train"], on_gpu, on_gpu)
    ]
    assert same_weights(models[1], models[2])
    assert all(p.is_cuda for p in models[0].parameters())
    run_trial(regression(batch_norm))
    assert torch.equal(torch.cuda.get_rng_state(), before)
