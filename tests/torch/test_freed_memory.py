"""Freed memory stays with the process; the user's own settings hold."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="memory is kept in the GNU C library only"
)

# Page faults of work that frees and takes 24 MiB again and again.
SCRIPT = """
import resource
import torch
from hpolab.torch.freed_memory import keep_freed_memory
torch.set_num_threads(1)
if {keep}:
    keep_freed_memory()
def work():
    held = [torch.ones(2**20) for _ in range(6)]
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def n_faults(*, keep: bool, **environment: str) -> int:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(keep=keep)],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def test_batches_take_the_memory_that_earlier_ones_have_freed():
    assert n_faults(keep=True) < n_faults(keep=False) / 4


@pytest.mark.parametrize(
    "own", [{"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.perturb=0"}],
    ids=["threshold", "tunables"],
)  # fmt: skip
def test_the_users_own_setting_holds(own):
    assert n_faults(keep=True, **own) > n_faults(keep=False, **own) / 2
