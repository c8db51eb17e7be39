"""A step of a stack as a CUDA graph: recorded once, then replayed by a single launch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hpolab.errors import in_brief
from hpolab.logs import get_logger
from hpolab.trial.reporter import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from hpolab.torch.fused.architecture import Update

    Named = dict[str, Tensor]

__all__ = ["CudaTape", "Recorder", "tape_of"]

_logger = get_logger(__name__)

# Calls before the recording. In them libraries choose kernels and allocate memory, which a
# recording must not do. Torch's notes on CUDA graphs make three.
_N_WARM_UP = 3

# Recordings kept per stack: two batch lengths times a few sets of rules.
_MOST_KEPT = 8


class CudaTape:
    """Records what a call launches on a CUDA device, as a CUDA graph.

    Args:
        device: The device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # Graphs that are never replayed at the same time may share memory.
        self._pool: Any = None

    def warm_up(self, call: Callable[[], None]) -> None:
        """Call once on a side stream, as torch requires before a recording."""
        with torch.cuda.device(self._device):
            here, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
            aside.wait_stream(here)
            with torch.cuda.stream(aside):
                call()
            here.wait_stream(aside)

    def record(self, call: Callable[[], None]) -> Callable[[], None]:
        """Return a function that replays what the call launches; recording changes no tensor."""
        with torch.cuda.device(self._device):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool):
                call()
            self._pool = graph.pool()
        return graph.replay


def tape_of(device: torch.device) -> CudaTape | None:
    """Return a tape for a device, or None if steps on it cannot be recorded."""
    return CudaTape(device) if device.type == "cuda" else None


@dataclass
class _Recording:
    """The fixed tensors that a step reads, and the function that replays the step."""

    rows: Tensor
    masks: Sequence[Tensor]
    updates: list[Update]
    n_calls: int = 0
    play: Callable[[], None] | None = None


class Recorder:
    """Makes the steps of one stack, replaying a recording if there is one.

    A step writes into the stack's own tensors, which never move. Whatever differs from step to
    step is first copied into fixed tensors. The first steps of a kind run without a recording, and
    count like all others.

    Args:
        tape: Records the steps.
    """

    def __init__(self, tape: CudaTape) -> None:
        self._tape = tape
        self._recordings: dict[Hashable, _Recording] = {}
        self._is_refused = False

    def __call__(
        self,
        step: Callable[[Tensor, Sequence[Tensor], list[Update]], None],
        rows: Tensor,
        masks: Sequence[Tensor],
        updates: list[Update],
    ) -> None:
        """Make a step.

        Args:
            step: Trains the stack in place, given rows, masks and updates; the same at each call.
            rows: The rows of each member's batch (K, b).
            masks: The dropout masks, each (K, ...).
            updates: Rules with their slots and coefficients.
        """
        recording = self._recording_of(rows, masks, updates)
        fixed = (recording.rows, recording.masks, recording.updates)
        for place, tensor in zip(
            _varying_tensors(*fixed), _varying_tensors(rows, masks, updates), strict=True
        ):
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
        """Return a function that replays a call, or the call itself if recording fails."""
        if self._is_refused:
            return call
        try:
            return self._tape.record(call)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            self._is_refused = True
            _logger.warning(
                f"Steps run without a CUDA graph, which cannot record them: {in_brief(error)}"
            )
            return call

    def _recording_of(
        self, rows: Tensor, masks: Sequence[Tensor], updates: list[Update]
    ) -> _Recording:
        shapes = tuple(tensor.shape for tensor in _varying_tensors(rows, masks, updates))
        key = (len(masks), tuple((name, slots is None) for name, slots, _ in updates), shapes)
        if key not in self._recordings:
            if len(self._recordings) == _MOST_KEPT:
                del self._recordings[next(iter(self._recordings))]
            self._recordings[key] = _Recording(
                rows.clone(),
                [mask.clone() for mask in masks],
                [
                    (name, None if slots is None else slots.clone(), numbers.clone())
                    for name, slots, numbers in updates
                ],
            )
        return self._recordings[key]


def _varying_tensors(
    rows: Tensor, masks: Sequence[Tensor], updates: list[Update]
) -> Iterator[Tensor]:
    """Yield the tensors that differ from step to step, always in the same order."""
    yield rows
    yield from masks
    for _, slots, numbers in updates:
        if slots is not None:
            yield slots
        yield numbers
