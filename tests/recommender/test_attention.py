"""The network of SASRec: nothing comes from later items, from other users, or from padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hpolab.recommender import attention
from hpolab.recommender.attention import Batch, SasRecModel
from hpolab.recommender.sequences import Packed

CPU = torch.device("cpu")
SEQUENCES = [[1, 5, 2, 8, 3, 0, 4], [7, 7, 1], [6, 2, 3], [4]]


def model_of(dropout=0.0, **changes):
    torch.manual_seed(0)
    sizes = {"embedding_size": 8, "n_blocks": 2, "n_heads": 2, "max_length": 7} | changes
    return SasRecModel(9, dropout=dropout, **sizes)


def batch_of(sequences):
    lengths = np.array([len(each) for each in sequences])
    return Batch.of(Packed(np.concatenate(sequences), lengths), CPU)


def states(model, sequences):
    """Return what a model knows at all positions of each sequence, the longest first."""
    found = model(batch_of(sequences))
    return found.split([len(each) for each in sequences])


@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize("place", range(7))
def test_an_item_changes_nothing_before_it(place, is_training):
    model = model_of().train(is_training)
    other = list(SEQUENCES[0])
    other[place] = 7
    (before,), (after,) = states(model, SEQUENCES[:1]), states(model, [other])
    assert torch.equal(before[:place], after[:place])
    for t in range(place, 7):
        assert not torch.allclose(before[t], after[t])


@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize("cells", [2**19, 50, 1])
def test_longer_sequences_beside_it_change_nothing(monkeypatch, cells, is_training):
    monkeypatch.setattr(attention, "_ATTENTION_CELLS", cells)
    model = model_of().train(is_training)
    for found, sequence in zip(states(model, SEQUENCES), SEQUENCES, strict=True):
        (alone,) = states(model, [sequence])
        torch.testing.assert_close(found, alone, rtol=1e-5, atol=1e-6)


def test_padding_has_no_part_in_gradients():
    model = model_of()
    together = batch_of(SEQUENCES)
    model(together).square().sum().backward()
    expected = [each.grad.clone() for each in model.parameters()]
    model.zero_grad()
    for sequence in SEQUENCES:
        model(batch_of([sequence])).square().sum().backward()
    for each, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(each.grad, gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_blocks", [1, 3])
def test_ends_are_the_last_positions(n_blocks):
    model = model_of(n_blocks=n_blocks).eval()
    ends = model.ends(batch_of(SEQUENCES))
    for found, whole in zip(ends, states(model, SEQUENCES), strict=True):
        torch.testing.assert_close(found, whole[-1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5])
def test_dropout_leaves_out_its_part_and_keeps_the_mean(p):
    torch.manual_seed(0)
    dropout = attention._Dropout(p)
    found = dropout(torch.ones(200_001))
    dropped = (found == 0).float().mean().item()
    assert dropped == pytest.approx(p, abs=4e-3)
    assert found.mean().item() == pytest.approx(1, abs=6e-3)
    assert len(found.unique()) == (1 if p == 0 else 2)
    assert torch.equal(dropout.eval()(torch.ones(5)), torch.ones(5))
