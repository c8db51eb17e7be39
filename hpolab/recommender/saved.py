"""A recommender as one file: arrays and plain values, so that nothing is unpickled."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.errors import DataNotFound, InvalidArgument, InvalidType
from hpolab.files import replace_file
from hpolab.recommender.features import Features
from hpolab.recommender.interactions import Interactions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["read_saved", "write_saved"]

_MARK = "hpolab recommender 1"
_SIDES = ("user_features", "item_features")


def write_saved(
    path: str | Path, *, facts: Mapping[str, Any], state: bytes, train: Interactions
) -> None:
    """Write a training's state and what it was trained on, beside, then moved.

    Args:
        path: The file.
        facts: Plain values.
        state: What `RecommenderTraining.to_bytes` returned.
        train: What it was trained on.

    Raises:
        InvalidType: If ids are objects that only pickle could store.
    """
    arrays: dict[str, Any] = {"state": np.frombuffer(state, np.uint8)}
    plain: dict[str, Any] = {"format": _MARK, **facts, "train": {}}
    for name, value in _parts(train):
        if not isinstance(value, np.ndarray):
            plain["train"][name] = value
        elif value.dtype.hasobject:
            raise InvalidType(
                f"`train` must have {name} of numbers, dates or text to be saved, got objects such "
                f"as {value[0]!r}."
            )
        else:
            arrays[name] = value
    arrays["facts"] = np.frombuffer(json.dumps(plain, default=_as_plain).encode(), np.uint8)
    file = io.BytesIO()
    np.savez(file, **arrays)
    replace_file(path, file.getvalue(), durable=True)


def read_saved(path: str | Path) -> tuple[dict[str, Any], bytes, Interactions]:
    """Return the facts, the state and the interactions that `write_saved` has written.

    Raises:
        DataNotFound: If there is no such file.
        InvalidArgument: If hpolab did not write it.
    """
    if not Path(path).is_file():
        raise DataNotFound(f"`path` must name a file, got {str(path)!r}.")
    try:
        with np.load(path, allow_pickle=False) as packed:
            arrays = dict(packed)
        facts = json.loads(arrays.pop("facts").tobytes())
    except (ValueError, KeyError, AttributeError, EOFError, zipfile.BadZipFile):
        facts = {}
    if facts.get("format") != _MARK:
        raise InvalidArgument(
            f"`path` must name a recommender that `save` wrote, got {str(path)!r}."
        )
    return facts, arrays.pop("state").tobytes(), _interactions({**arrays, **facts.pop("train")})


def _as_plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise InvalidType(
        "`params` and facts must be numbers, text, or lists of them to be saved, got "
        f"{type(value).__name__}."
    )


def _parts(train: Interactions) -> list[tuple[str, NDArray[Any] | Any]]:
    """Return what interactions hold by name, "user_features.codes" and so on; no None."""
    found = []
    for field in fields(train):
        value = getattr(train, field.name)
        if isinstance(value, Features):
            found += [(f"{field.name}.{of.name}", getattr(value, of.name)) for of in fields(value)]
        elif value is not None:
            found.append((field.name, value))
    return found


def _interactions(parts: Mapping[str, Any]) -> Interactions:
    own = {name: value for name, value in parts.items() if "." not in name}
    for side in _SIDES:
        of_side = {
            name.partition(".")[2]: value
            for name, value in parts.items()
            if name.startswith(f"{side}.")
        }
        if of_side:
            own[side] = Features(**{**of_side, "names": tuple(of_side["names"])})
    return Interactions(**own)
