"""Params that know which of their names a user's function has read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["ReadParams"]


class ReadParams(dict[str, Any]):
    """A trial's params for a user's function, which remember what it reads.

    Whoever goes through all of them, as ``dict(params)`` and ``f(**params)`` do, reads all.

    Example:
        >>> params = ReadParams({"lr": 0.1, "hidden": 8, "loss": "mse"})
        >>> params["lr"], params.get("hidden")
        (0.1, 8)
        >>> params.unread("lr", "loss", "momentum")
        ['loss']
        >>> {**params}["lr"], params.unread("loss")
        (0.1, [])
    """

    def __init__(self, params: Mapping[str, Any]) -> None:
        super().__init__(params)
        self._given = tuple(params)
        self._read: set[str] = set()

    def unread(self, *names: str) -> list[str]:
        """Return which of some names were given and have not been read."""
        return [name for name in names if name in self._given and name not in self._read]

    def __getitem__(self, name: str) -> Any:
        self._read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self._read.add(name)
        return super().get(name, default)

    def pop(self, name: str, *default: Any) -> Any:
        self._read.add(name)
        return super().pop(name, *default)

    def __iter__(self) -> Iterator[str]:
        self._read.update(self._given)
        return super().__iter__()

    def keys(self) -> Any:
        self._read.update(self._given)
        return super().keys()

    def values(self) -> Any:
        self._read.update(self._given)
        return super().values()

    def items(self) -> Any:
        self._read.update(self._given)
        return super().items()

    def copy(self) -> dict[str, Any]:
        return dict(self)
