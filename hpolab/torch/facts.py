"""What the values of a TorchObjective depend on: its data, as it lies on the device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.utils.data import ConcatDataset, DataLoader, Subset

from hpolab.fingerprint import data_fingerprint
from hpolab.surroundings import held_values
from hpolab.torch.data import ArraySplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hpolab.torch.data import Split

__all__ = ["data_facts", "noted_data"]


def noted_data(splits: Mapping[str, Split], given: Mapping[str, Any]) -> dict[str, str]:
    """Return what data sets and iterables of the user's own hold, by what it is called.

    Their batches may be drawn at random, so that none is read.
    """
    return {
        f"what `{name}` holds": " ".join(map(held_values, _sources(given[name])))
        for name, split in splits.items()
        if not isinstance(split, ArraySplit)
    }


def _sources(data: Any) -> list[Any]:
    if isinstance(data, DataLoader | Subset):
        return _sources(data.dataset)
    if isinstance(data, ConcatDataset):
        return [each for part in data.datasets for each in _sources(part)]
    return [data]


def data_facts(splits: Mapping[str, Split], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of an objective's data by the names of its splits.

    Args:
        splits: The splits, opened.
        given: What they were opened from: of batches the user's iterable counts.
    """
    facts: dict[str, Any] = {"batches": None}
    for name, split in splits.items():
        if isinstance(split, ArraySplit):
            weights = () if split.weights is None else (split.weights,)
            facts[name] = data_fingerprint((split.inputs, split.targets, *weights))
        else:
            facts[name] = data_fingerprint(given[name])
    loader = given["train"]
    if isinstance(loader, DataLoader):
        facts["batches"] = {"batch_size": loader.batch_size, "drop_last": loader.drop_last}
    return facts
