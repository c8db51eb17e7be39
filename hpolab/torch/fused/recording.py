"""A step of a stack as a CUDA graph: recorded once, then played by one launch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from optuna.logging import get_logger
from torch import Tensor

from hpolab.errors import in_brief
from hpolab.trial.reporter import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from hpolab.torch.fused.architecture import Update

    Named = dict[str, Tensor]

__all__ = ["CudaTape", "Recorder", "tape_of"]

_logger = get_logger(__name__)

# Calls before the one that is recorded: in them libraries choose their kernels and claim memory,
# which a recording must not do. Torch's notes on CUDA graphs take three.
_N_WARM_UP = 3

# Recordings of a stack: batches of two lengths, and a few sets of rules where several share it.
_MOST_KEPT = 8


class CudaTape:
    """Records what a call launches on a CUDA device, as a CUDA graph.

    Args:
        device: The device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # Graphs that are played one after the other may share what they need in between.
        self._pool: Any = None

    def warm_up(self, call: Callable[[], None]) -> None:
        """Call once, aside from the stream that all else is on, as torch asks for."""
        with torch.cuda.device(self._device):
            here, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
            aside.wait_stream(here)
            with torch.cuda.stream(aside):
                call()
            here.wait_stream(aside)

    def record(self, call: Callable[[], None]) -> Callable[[], None]:
        """Return what plays all that a call launches; the call itself changes nothing."""
        with torch.cuda.device(self._device):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool):
                call()
            self._pool = graph.pool()
        return graph.replay


def tape_of(device: torch.device) -> CudaTape | None:
    """Return what records on a device, None where every launch is made anew."""
    return CudaTape(device) if device.type == "cuda" else None


@dataclass
class _Recording:
    """Fixed tensors that a step reads, and what plays the step."""

    rows: Tensor
    masks: Named
    updates: list[Update]
    n_calls: int = 0
    play: Callable[[], None] | None = None


class Recorder:
    """Makes the steps of one stack, playing a recording where there is one.

    A step writes into the stack's own tensors, which stay where they are; what differs from step
    to step is copied into fixed tensors first. The first calls of a kind are plain ones, and count
    as steps as all others do.

    Args:
        tape: What records.
    """

    def __init__(self, tape: CudaTape) -> None:
        self._tape = tape
        self._recordings: dict[Hashable, _Recording] = {}
        self._is_refused = False

    def __call__(
        self,
        step: Callable[[Tensor, Named, list[Update]], None],
        rows: Tensor,
        masks: Named,
        updates: list[Update],
    ) -> None:
        """Make a step.

        Args:
            step: Trains a stack in place, always the same one; of rows, masks and updates.
            rows: The rows of each member's batch, (K, b).
            masks: Of dropouts, each (K, ...).
            updates: Rules, their slots and coefficients.
        """
        recording = self._recording_of(rows, masks, updates)
        fixed = (recording.rows, recording.masks, recording.updates)
        for place, tensor in zip(_tensors(*fixed), _tensors(rows, masks, updates), strict=True):
            place.copy_(tensor)
        call = partial(step, *fixed)
        if recording.n_calls < _N_WARM_UP:
            self._tape.warm_up(call)
        elif recording.play is None:
            recording.play = self._record(call)
        if recording.play is not None:
            recording.play()
        recording.n_calls += 1

    def _record(self, call: Callable[[], None]) -> Callable[[], None]:
        """Return what plays a call: the call itself where it cannot be recorded, said once."""
        if self._is_refused:
            return call
        try:
            return self._tape.record(call)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            self._is_refused = True
            _logger.warning(f"Steps are launched one by one: {in_brief(error)}")
            return call

    def _recording_of(self, rows: Tensor, masks: Named, updates: list[Update]) -> _Recording:
        shapes = tuple(tensor.shape for tensor in _tensors(rows, masks, updates))
        key = (tuple(masks), tuple((name, slots is None) for name, slots, _ in updates), shapes)
        if key not in self._recordings:
            if len(self._recordings) == _MOST_KEPT:
                del self._recordings[next(iter(self._recordings))]
            self._recordings[key] = _Recording(
                rows.clone(),
                {name: mask.clone() for name, mask in masks.items()},
                [
                    (name, None if slots is None else slots.clone(), numbers.clone())
                    for name, slots, numbers in updates
                ],
            )
        return self._recordings[key]


def _tensors(rows: Tensor, masks: Named, updates: list[Update]) -> Iterator[Tensor]:
    """Yield what differs from step to step, always in one order."""
    yield rows
    yield from masks.values()
    for _, slots, numbers in updates:
        if slots is not None:
            yield slots
        yield numbers
