"""The actor that is a worker of a study on Ray.

It starts to work by itself, also when Ray has started it again on another node: nobody calls it.
It works in the main thread of its process, where a training can be interrupted; another thread
asks the keeper for news.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import optuna

from hpolab.errors import InvalidArgument, StorageUnavailable
from hpolab.running.carrying import CarriedError, send_logs_to
from hpolab.running.interpreter import unpack
from hpolab.running.interrupts import STOP_SECONDS, Interrupts, SoftSignals
from hpolab.running.on_ray.keeper import Bundle, End
from hpolab.running.worker import work
from hpolab.studies.history import history_of
from hpolab.trial.lease import requeue_held

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna import Study

    from hpolab.running.on_ray.keeper import Order

__all__ = ["Worker"]

# How long a training may leave an interrupt unanswered.
_LAST_SECONDS = 20.0

# How long a worker tries to reach a keeper that does not answer, or that has nothing for it.
_PATIENCE_SECONDS = 120.0
_RETRY_SECONDS = 1.0

# How long the keeper's name may be missing until it counts as ended.
_NAMELESS_SECONDS = 10.0

# How long a worker's call of its own `work` may take before it is repeated.
_CALL_SECONDS = 2.0

# How often the keeper is told of progress.
_PROGRESS_SECONDS = 1.0

# What a worker may find only where it is: others may work all the same.
_ONLY_HERE = (StorageUnavailable, optuna.exceptions.StorageInternalError)


class _Gone(Exception):
    """The keeper has ended: whoever ended it wanted no more work."""


class _KeeperLink:
    """The keeper as a worker sees it.

    Args:
        index: The worker's.
        name: The keeper's actor.
        namespace: Its namespace.
    """

    def __init__(self, index: int, name: str, namespace: str) -> None:
        self.index = index
        self._name = name
        self._namespace = namespace

    def ask(self, method: str, *args: Any) -> Any:
        """Return a method's answer, also from a keeper that is being started again.

        Raises:
            _Gone: If there is none.
        """
        import ray

        asked_at = time.monotonic()
        give_up_at = asked_at + _PATIENCE_SECONDS
        while True:
            try:
                return ray.get(getattr(self._actor(), method).remote(*args), timeout=60)
            except _Gone:
                # While Ray starts it again, its name may be missing for a moment.
                if time.monotonic() > asked_at + _NAMELESS_SECONDS:
                    raise
                time.sleep(_RETRY_SECONDS)
            except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
                if time.monotonic() > give_up_at:
                    raise _Gone from None
                time.sleep(_RETRY_SECONDS)

    def tell(self, method: str, *args: Any) -> None:
        """Call a method without waiting for it."""
        with suppress(_Gone):
            getattr(self._actor(), method).remote(*args)

    def _actor(self) -> Any:
        import ray

        try:
            return ray.get_actor(self._name, namespace=self._namespace)
        except ValueError:
            raise _Gone from None


class Worker:
    """Works for a study until its budget is spent, then ends its actor.

    Args:
        index: Its place among the workers.
        keeper: The name of the keeper's actor.
        namespace: That of both actors.
        gpus: The GPUs that it was given.
    """

    def __init__(self, index: int, keeper: str, namespace: str, gpus: float) -> None:
        import ray

        if gpus == 0:
            # Ray leaves the variable alone, and this worker would train on GPUs of others.
            os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
        self._link = _KeeperLink(index, keeper, namespace)
        self._has_begun = threading.Event()
        actor = ray.get_runtime_context().current_actor
        threading.Thread(target=self._call, args=(actor,), daemon=True).start()

    def _call(self, actor: Any) -> None:
        """Call `work` until it runs: Ray drops calls of an actor that it is just starting again."""
        while not self._has_begun.is_set():
            actor.work.remote()
            self._has_begun.wait(_CALL_SECONDS)

    def work(self) -> None:
        """Do what the keeper says; the actor ends with it, unless it is to be started again."""
        import ray

        if self._has_begun.is_set():
            return
        self._has_begun.set()
        with suppress(_Gone):
            _obey(self._link)
        ray.actor.exit_actor()  # type: ignore[no-untyped-call]


def _obey(link: _KeeperLink) -> None:
    order = _first_order(link)
    if order.word != "work":
        link.ask("note_end", link.index, End("requeued", _who()))
        return
    until = time.monotonic() + order.seconds
    send_logs_to(_ToKeeper(link))
    try:
        bundle = _fetched(order, link)
        if os.path.isdir(bundle.folder):
            os.chdir(bundle.folder)  # relative paths mean what they do where `run` was called
        sys.path += [entry for entry in bundle.path if entry not in sys.path]
        study, objective, plan = unpack(bundle.packed, bundle.buffers)
    except (InvalidArgument, *_ONLY_HERE) as error:
        _note_error(link, "unable", error)
        return
    except Exception as error:  # noqa: BLE001 - whoever waits for this worker must hear of it
        _note_error(link, "error", error)
        return
    listener = _Listener(link, bundle, until)
    plan = replace(plan, stop_file=listener, timeout_seconds=max(0.0, until - time.monotonic()))
    signals = SoftSignals(STOP_SECONDS, at_last=_leave_to_be_started_again)
    try:
        with signals, Interrupts() as interrupts:
            listener.start()
            try:
                work(study, objective, plan, interrupts, _progress_of(study, link))
            finally:
                # Before the handlers go: a signal would end the process.
                listener.close()
    except _ONLY_HERE as error:
        listener.close()
        _note_error(link, "unable", error)
    # SystemExit: an objective that ends its program would end it without workers, too.
    except (Exception, SystemExit) as error:  # noqa: BLE001 - raised again where `run` was called
        listener.close()
        _note_error(link, "error", error, while_stopping=listener.is_to_requeue)
    except KeyboardInterrupt:
        listener.close()
        link.ask("note_end", link.index, End("requeued", _who()))
    else:
        if interrupts.pressed is not None and not listener.is_to_requeue:
            # The node is being taken away: Ray starts this worker again on another one.
            _leave_to_be_started_again()
        word = "done" if interrupts.pressed is None else "requeued"
        link.ask("note_end", link.index, End(word, _who()))


def _first_order(link: _KeeperLink) -> Order:
    give_up_at = time.monotonic() + _PATIENCE_SECONDS
    while True:
        order: Order = link.ask("begin", link.index)
        if order.word != "wait":
            return order
        if time.monotonic() > give_up_at:
            raise _Gone
        time.sleep(_RETRY_SECONDS)


def _fetched(order: Order, link: _KeeperLink) -> Bundle:
    """Return what was sent; the keeper's process may die while it is on the way."""
    import ray

    give_up_at = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            bundle: Bundle = ray.get(order.bundle[0])
            return bundle
        except (ray.exceptions.ObjectLostError, ray.exceptions.RayActorError):
            if time.monotonic() > give_up_at:
                raise _Gone from None
            time.sleep(_RETRY_SECONDS)
            order = _first_order(link)
            if order.word != "work":
                raise _Gone from None


def _note_error(
    link: _KeeperLink, word: str, error: BaseException, *, while_stopping: bool = False
) -> None:
    carried = CarriedError.of(error, while_stopping=while_stopping)
    link.ask("note_end", link.index, End(word, _who(), carried))


def _leave_to_be_started_again() -> None:
    requeue_held()
    os._exit(1)


def _progress_of(study: Study, link: _KeeperLink) -> Callable[[], None]:
    """Return what tells the keeper how many trials have finished, now and then."""
    told_at = 0.0

    def tell() -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= _PROGRESS_SECONDS:
            told_at = time.monotonic()
            link.tell("note_progress", history_of(study).tally.finished)

    return tell


class _Listener:
    """Asks for news in a thread of its own; it is the worker's mark of ``study.stop``, too."""

    def __init__(self, link: _KeeperLink, bundle: Bundle, until: float) -> None:
        self._link = link
        self._bundle = bundle
        self._until = until
        self._stopped = False
        self._closed = False
        self.is_to_requeue = False

    def exists(self) -> bool:
        """See `StopMark`."""
        return self._stopped

    def touch(self) -> None:
        """See `StopMark`."""
        if not self._stopped:
            self._stopped = True
            self._link.tell("note_stop")

    def start(self) -> None:
        """Begin to listen."""
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        """Interrupt nothing any more."""
        self._closed = True

    def _listen(self) -> None:
        word = ""
        while not self._closed:
            try:
                answer = self._link.ask("news", self._link.index, word)
                if answer is None:
                    seconds = self._until - time.monotonic()
                    self._link.ask("offer_again", self._bundle, self._link.index, seconds)
                    answer = word = ""
            except _Gone:
                answer = "requeue"
            if answer != word:
                word = answer
                self._stopped = True
            if word == "requeue":
                self._interrupt()
                return

    def _interrupt(self) -> None:
        if self._closed:
            return
        self.is_to_requeue = True
        main = threading.main_thread().ident
        assert main is not None
        # Not SIGINT: Ray's processes block it, so that a terminal's Ctrl-C does not reach them.
        signal.pthread_kill(main, signal.SIGHUP)
        time.sleep(_LAST_SECONDS)
        if not self._closed:
            _leave_to_be_started_again()


class _ToKeeper(logging.Handler):
    """Sends each log line to the keeper."""

    def __init__(self, link: _KeeperLink) -> None:
        super().__init__()
        self._link = link

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        self._link.tell("note_line", record.name, record.levelno, record.getMessage())


def _who() -> str:
    return f"{socket.gethostname()} (pid {os.getpid()})"
