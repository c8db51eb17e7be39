"""Signals of a process that runs trials, and of those that its trainings fork."""

from __future__ import annotations

import multiprocessing
import os
import signal

import pytest

from hpolab.running.interrupts import Interrupts, SoftSignals

fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no process is forked here")


def handlers() -> list[str]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    return [getattr(signal.getsignal(n), "__qualname__", "default") for n in numbers]


def test_handlers_and_mask_are_as_before_at_the_end():
    before, mask = handlers(), signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with SoftSignals(1.0):
        assert handlers() == ["SoftSignals.handle"] * 3
        with Interrupts():
            assert handlers() == ["Interrupts._handle"] * 3
        assert handlers() == ["SoftSignals.handle"] * 3
    assert handlers() == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask


def test_without_a_worker_a_notice_is_not_handled():
    with Interrupts():
        assert handlers()[:2] == ["Interrupts._handle"] * 2
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def code_of_child(act) -> int:
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = act()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def ends_by_itself(number: signal.Signals) -> int:
    os.kill(os.getpid(), number)
    return 7


@fork
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_forked_process_ends_by_what_ends_processes(number):
    with SoftSignals(60.0), Interrupts() as interrupts:
        assert code_of_child(lambda: ends_by_itself(number)) == -number
        assert interrupts.pressed is None


@fork
def test_forked_process_leaves_a_notice_to_its_parent():
    with SoftSignals(60.0), Interrupts():
        assert code_of_child(lambda: ends_by_itself(signal.SIGUSR1)) == 7
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        assert not mask & {signal.SIGTERM, signal.SIGUSR1, signal.SIGINT}


@fork
def test_pool_of_forked_processes_can_be_ended_at_once():
    """Python drops a signal that comes while a process is forked, and the pool waited for ever."""
    context = multiprocessing.get_context("fork")
    with SoftSignals(60.0), Interrupts():
        for _ in range(30):
            with context.Pool(2) as pool:
                assert pool.map(abs, [-1, 2]) == [1, 2]
