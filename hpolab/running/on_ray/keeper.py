"""The actor that keeps what the workers of a study on Ray need, and what they have to say.

It is detached: the process that calls `run` may die. What it gives to Ray's object store is its
own, so it outlives that process, too; and it stands on the head node, with which the cluster ends.
If its process dies all the same, it begins with nothing, and the workers give it back what they
hold.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hpolab.running.carrying import CarriedError

__all__ = ["Bundle", "End", "Keeper", "Order", "Seen", "worker_name"]

# How long a worker's question for news is left open.
_ANSWER_SECONDS = 10.0

# A worker that has not asked for so long is gone, or is waiting for a place.
_SILENT_SECONDS = 30.0

# Who watches asks several times a second.
_UNWATCHED_SECONDS = 10.0

# A keeper that nobody gives anything ends after this time.
_EMPTY_SECONDS = 120.0

# Deaths in a row, for each worker, without one trial finished: the workers cannot live here.
MAX_DEATHS = 5

_MAX_LINES = 10_000


@dataclass(frozen=True)
class Bundle:
    """What workers are sent.

    Attributes:
        described: What the workers are for, by names that can be compared and shown.
        packed: Study, objective and plan, pickled.
        buffers: The memory of their arrays.
        seconds: What is left of the run's time.
        folder: The working folder of the run, "" if Ray is to give the workers another one.
        path: Where modules are looked for that the workers' own `sys.path` does not have.
    """

    described: Mapping[str, str]
    packed: bytes
    buffers: Sequence[Any]
    seconds: float
    folder: str
    path: Sequence[str]


@dataclass(frozen=True)
class Order:
    """What a worker is to do.

    Attributes:
        word: "work", "end", or "wait" if there is nothing yet.
        bundle: A reference to the `Bundle`, in a list, so that Ray does not fetch it.
        seconds: What is left of the run's time.
    """

    word: str
    bundle: Sequence[Any] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class End:
    """How a worker has ended.

    Attributes:
        word: "done", "requeued", "error", or "unable" if it cannot work where it is.
        who: Its host and process.
        error: What it raised.
    """

    word: str
    who: str
    error: CarriedError | None = None


@dataclass(frozen=True)
class Seen:
    """What the process that watches is told.

    Attributes:
        n_left: Workers that have not ended.
        n_begun: Workers that have found a place so far.
        ends: How the others have ended, by their index.
        stopped: Whether ``study.stop`` was called.
        n_deaths: Deaths in a row without a finished trial, if they are too many; else 0.
        lines: What was logged since, as (logger, level, message).
        position: Where to go on with them.
        is_empty: Whether it has lost what it kept.
    """

    n_left: int
    n_begun: int
    ends: Mapping[int, End]
    stopped: bool
    n_deaths: int
    lines: Sequence[tuple[str, int, str]]
    position: int
    is_empty: bool


@dataclass
class _Member:
    begun: bool = False
    asked_at: float = 0.0
    end: End | None = None


@dataclass
class _Kept:
    described: Mapping[str, str]
    bundle: Any
    until: float
    members: list[_Member] = field(default_factory=list)


def worker_name(index: int) -> str:
    """Return what a worker's actor is called."""
    return f"worker-{index}"


class Keeper:
    """Keeps the bundle of a study's workers, passes on words, and ends when they have ended.

    All methods are coroutines of one thread. Answers are plain values.

    Args:
        namespace: That of the actors.
    """

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._kept: _Kept | None = None
        self._word = ""
        self._stopped = False
        self._news = asyncio.Event()
        self._watched_at = -_UNWATCHED_SECONDS
        self._born_at = time.monotonic()
        self._n_finished = -1
        self._n_deaths = 0
        self._lines: list[tuple[str, int, str]] = []
        self._n_dropped = 0
        self._ending: asyncio.Task[None] | None = None

    async def described(self) -> tuple[Mapping[str, str] | None, bool]:
        """Return what the workers are for, None before there are any, and whether it is watched."""
        self._begin()
        watched = time.monotonic() - self._watched_at < _UNWATCHED_SECONDS
        return (None if self._kept is None else self._kept.described), watched

    async def offer(self, bundle: Bundle) -> Mapping[str, str]:
        """Keep what the workers are sent, unless there is something; return what they are for."""
        import ray

        self._begin()
        self._watched_at = time.monotonic()
        if self._kept is None:
            self._kept = _Kept(
                bundle.described,
                ray.put(bundle),
                time.monotonic() + bundle.seconds,
                [_Member() for _ in range(int(bundle.described["n_workers"]))],
            )
        return self._kept.described

    async def offer_again(self, bundle: Bundle, index: int, seconds: float) -> None:
        """Take back from a worker what was lost with the process of this actor."""
        if self._kept is None:
            await self.offer(bundle)
            assert self._kept is not None
            self._kept.until = time.monotonic() + seconds
            self._watched_at = -_UNWATCHED_SECONDS
        self._note_life(index)

    async def begin(self, index: int) -> Order:
        """Tell a worker that has started, or started again, what to do."""
        self._begin()
        if self._kept is None:
            return Order("wait")
        if index >= len(self._kept.members):
            return Order("end")
        member = self._kept.members[index]
        if member.begun and member.end is None:
            self._n_deaths += 1
            if self._n_deaths > MAX_DEATHS * len(self._kept.members):
                self._tell_all("requeue")
        self._note_life(index)
        if self._word == "requeue":
            return Order("end")
        member.end = None
        return Order("work", [self._kept.bundle], self._kept.until - time.monotonic())

    async def news(self, index: int, known: str) -> str | None:
        """Return the word that holds, when it is another than is known, or after some seconds.

        "stop": begin no trial. "requeue": requeue what is in training, and end. "" holds before.
        None says that everything kept here was lost.
        """
        if self._kept is None:
            return None
        self._note_life(index)
        if self._word == known:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                pass
        return self._word

    async def note_progress(self, n_finished: int) -> None:
        """Note how many trials of the study a worker has seen finished."""
        if n_finished != self._n_finished:
            self._n_finished, self._n_deaths = n_finished, 0

    async def note_stop(self) -> None:
        """Note that ``study.stop`` was called: no worker begins another trial."""
        self._stopped = True
        if self._word == "":
            self._tell_all("stop")

    async def note_line(self, name: str, level: int, message: str) -> None:
        """Take a line that a worker has logged."""
        self._lines.append((name, level, message))
        if len(self._lines) > _MAX_LINES:
            self._n_dropped += 1
            del self._lines[0]

    async def note_end(self, index: int, end: End) -> None:
        """Note how a worker has ended."""
        if self._kept is None or index >= len(self._kept.members):
            return
        self._kept.members[index].end = end
        if end.word == "error":
            self._tell_all("requeue")

    async def look(self, position: int) -> Seen:
        """Tell the process that watches what is new."""
        self._begin()
        self._watched_at = time.monotonic()
        members = [] if self._kept is None else self._kept.members
        limit = MAX_DEATHS * max(1, len(members))
        return Seen(
            n_left=len(self._left()),
            n_begun=sum(member.begun for member in members),
            ends={index: m.end for index, m in enumerate(members) if m.end is not None},
            stopped=self._stopped,
            n_deaths=self._n_deaths if self._n_deaths > limit else 0,
            lines=self._lines[max(0, position - self._n_dropped) :],
            position=self._n_dropped + len(self._lines),
            is_empty=self._kept is None,
        )

    async def tell(self, word: str) -> None:
        """Pass a word on to all workers."""
        self._tell_all(word)

    def _tell_all(self, word: str) -> None:
        self._word = word
        self._news.set()
        self._news = asyncio.Event()

    def _note_life(self, index: int) -> None:
        if self._kept is not None and index < len(self._kept.members):
            member = self._kept.members[index]
            member.begun, member.asked_at = True, time.monotonic()

    def _left(self) -> list[int]:
        """Return the workers that have not ended.

        Once one is done, nothing is left for those that wait for a place, or to be started again.
        """
        members = [] if self._kept is None else self._kept.members
        is_over = any(m.end is not None and m.end.word == "done" for m in members) or self._word
        now = time.monotonic()
        return [
            index
            for index, member in enumerate(members)
            if member.end is None and not (is_over and now - member.asked_at > _SILENT_SECONDS)
        ]

    def _begin(self) -> None:
        """Start to look for the end, in the loop that coroutines run in."""
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self._end_at_last())

    async def _end_at_last(self) -> None:
        """End this actor once nobody needs it; who watches ends it, otherwise."""
        while True:
            await asyncio.sleep(1.0)
            now = time.monotonic()
            if now - self._watched_at < _UNWATCHED_SECONDS:
                continue
            if self._kept is None and now - self._born_at > _EMPTY_SECONDS:
                self._leave()
            if self._kept is not None and not self._left():
                self._leave()

    def _leave(self) -> None:
        """Kill the workers that are waiting for a place, and this actor."""
        import ray

        n_workers = 0 if self._kept is None else len(self._kept.members)
        for index in range(n_workers):
            try:
                ray.kill(ray.get_actor(worker_name(index), namespace=self._namespace))
            except ValueError:
                continue  # it has ended
        try:
            ray.kill(ray.get_runtime_context().current_actor)
        finally:
            os._exit(0)
