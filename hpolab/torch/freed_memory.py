"""Memory that a training has freed stays with the process, for the next batch to take."""

from __future__ import annotations

import ctypes
import functools
import os

__all__ = ["keep_freed_memory"]

# malloc.h of the GNU C library.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
# The largest block that the library takes from its own heap, which is the most that it allows.
_LARGEST_BLOCK = 32 * 2**20
# Freed bytes beyond which they go back to the system.
_MOST_KEPT = 512 * 2**20


@functools.cache
def keep_freed_memory() -> None:
    """Let the GNU C library keep up to 512 MiB that were freed, once a process.

    As it is set up, it gives the memory of each large tensor back to the system and asks for it
    anew in the next batch. The system then has to clear and map every page again, which took a
    third of the time of small convolutions on a CPU. Results do not change. Where one of the
    environment variables ``MALLOC_TRIM_THRESHOLD_``, ``MALLOC_MMAP_THRESHOLD_`` and
    ``GLIBC_TUNABLES`` is set, it holds instead; other C libraries are left alone. (See the page
    mallopt(3) of the Linux manual. PyTorch's tuning guide advises allocators that keep memory for
    the same reason.)
    """
    own = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
    if any(name in os.environ for name in own):
        return
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - other libraries do not have it
        mallopt = library.mallopt
    except (AttributeError, OSError, TypeError):  # macOS, musl, Windows
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK)
    mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT)
