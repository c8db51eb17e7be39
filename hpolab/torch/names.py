"""Which names a TorchObjective reads: the optimizer's, the schedule's, and the model's own."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, final

from hpolab.errors import InvalidArgument
from hpolab.search_space.near import meant_name
from hpolab.torch.optimizers import OPTIMIZER_ROWS, optimizer_space
from hpolab.torch.schedules import SCHEDULE_ROWS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

__all__ = ["ReadParams", "names_of_training", "unread_names"]


@cache
def names_of_training() -> frozenset[str]:
    """Return all names that an optimizer or a schedule of hpolab's may read, and ``batch_size``."""
    optimizers = optimizer_space(list(OPTIMIZER_ROWS)).trainer_names()
    schedules = {name for row in SCHEDULE_ROWS.values() for name in (*row.parameters(), *row.fixed)}
    return frozenset({*optimizers, *schedules, "schedule", "warmup_epochs", "batch_size"})


def unread_names(params: Collection[str], read: Collection[str]) -> list[str]:
    """Return the names that neither the training nor ``build_model`` has read.

    Args:
        params: All names.
        read: Those that ``build_model`` has read.

    Raises:
        InvalidArgument: If one is nearly a name that the training reads.
    """
    known = names_of_training()
    unread = [name for name in params if name not in known and name not in read]
    for name in unread:
        meant = meant_name(name, known)
        if meant is not None:
            raise InvalidArgument(
                f"`search_space` must hold names that something reads, got {name!r}, which neither "
                f"the optimizer nor `build_model` has read. Did you mean {meant!r}?"
            )
    return unread


@final
class ReadParams(dict[str, Any]):
    """Params that remember which of them were read, one by one or all together.

    Attributes:
        read: The names that were.
    """

    def __init__(self, params: Mapping[str, Any]) -> None:
        super().__init__(params)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self.read.add(str(name))
        return super().__contains__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.read.add(name)
        return super().get(name, default)

    def pop(self, name: str, *default: Any) -> Any:
        self.read.add(name)
        return super().pop(name, *default)

    def setdefault(self, name: str, default: Any = None) -> Any:
        self.read.add(name)
        return super().setdefault(name, default)

    # With an iterator of its own, a dict is copied and unpacked through its methods.
    def __iter__(self) -> Iterator[str]:
        self.read.update(super().keys())
        return super().__iter__()

    def keys(self) -> Any:
        self.read.update(super().keys())
        return super().keys()

    def items(self) -> Any:
        self.read.update(super().keys())
        return super().items()

    def values(self) -> Any:
        self.read.update(super().keys())
        return super().values()

    def copy(self) -> dict[str, Any]:
        return dict(self.items())

    def __or__(self, other: Any) -> Any:
        return self.copy() | other

    def __ror__(self, other: Any) -> Any:
        return other | self.copy()

    def __reduce__(self) -> Any:
        return dict, (self.copy(),)
