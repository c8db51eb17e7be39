"""Which GPU a worker takes: counted and chosen by the environment, without importing a trainer."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

from hpolab.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["VISIBLE", "check_gpus", "gpu_of_local_rank", "visible_gpus"]

VISIBLE = "CUDA_VISIBLE_DEVICES"

_RANKS = ("SLURM_LOCALID", "LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID")
_SIZES = {
    "SLURM_LOCALID": "SLURM_STEP_TASKS_PER_NODE",
    "LOCAL_RANK": "LOCAL_WORLD_SIZE",
    "OMPI_COMM_WORLD_LOCAL_RANK": "OMPI_COMM_WORLD_LOCAL_SIZE",
    "MPI_LOCALRANKID": "MPI_LOCALNRANKS",
}
_ANSWER_SECONDS = 60


def visible_gpus(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them.

    They are those of CUDA_VISIBLE_DEVICES; where it is not set, those that ``nvidia-smi -L`` lists;
    and where there is no such program, those that PyTorch counts.

    Example:
        >>> visible_gpus({"CUDA_VISIBLE_DEVICES": "2,3"})
        ['2', '3']
        >>> visible_gpus({"CUDA_VISIBLE_DEVICES": "NoDevFiles"})
        []
    """
    if VISIBLE in environ:
        return _named(environ[VISIBLE])
    program = shutil.which("nvidia-smi", path=environ.get("PATH"))
    if program is not None:
        return _listed(_output_of(program, "-L"))
    return _counted_by_torch()


def gpu_of_local_rank(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the GPU that this one of several processes on the machine takes; None for no choice.

    A launcher that starts several processes on a machine tells each its rank there. Where it has
    given each a GPU of its own, there is nothing to choose.

    Example:
        >>> shared = {"CUDA_VISIBLE_DEVICES": "4,5", "SLURM_STEP_TASKS_PER_NODE": "2(x3)"}
        >>> gpu_of_local_rank(shared | {"SLURM_LOCALID": "1"})
        '5'
        >>> gpu_of_local_rank({"CUDA_VISIBLE_DEVICES": "4,5"}) is None
        True
    """
    for name in _RANKS:
        rank = _number(environ.get(name))
        if rank is not None:
            n_processes = _number(environ.get(_SIZES[name]))
            if rank == 0 and (n_processes is None or n_processes < 2):
                return None  # alone, as far as is known: all GPUs are its own
            gpus = visible_gpus(environ)
            return gpus[rank % len(gpus)] if len(gpus) > 1 else None
    return None


def check_gpus(gpus: list[str], environ: Mapping[str, str] = os.environ) -> None:
    """Refuse to start a worker for each GPU where there is none.

    Raises:
        InvalidArgument: If there is none.
    """
    if gpus:
        return
    if VISIBLE in environ:
        found = f"{VISIBLE}={environ[VISIBLE]!r}, which names none"
    elif shutil.which("nvidia-smi", path=environ.get("PATH")) is not None:
        found = "none from `nvidia-smi -L`"
    else:
        found = "no nvidia-smi and none from torch.cuda"
    raise InvalidArgument(
        f"`--per-gpu` needs a machine with a GPU, got {found}. Ask the scheduler for one "
        "(`--gres=gpu:1`), or leave `--per-gpu` out."
    )


def _named(value: str) -> list[str]:
    """Return what CUDA reads of its variable: entries up to the first that names no device."""
    found = []
    for entry in (each.strip() for each in value.split(",")):
        if not re.fullmatch(r"\d+|(GPU|MIG)-\S+", entry):
            break
        found.append(entry)
    return found


def _output_of(*command: str) -> str:
    """Return what a program prints, "" if it cannot be run or does not answer."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_ANSWER_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def _listed(output: str) -> list[str]:
    """Return the GPUs of ``nvidia-smi -L``; of one that is split, its parts.

    Example:
        >>> _listed("GPU 0: NVIDIA H100 (UUID: GPU-aa)\\nGPU 1: NVIDIA H100 (UUID: GPU-bb)")
        ['0', '1']
        >>> _listed("GPU 0: A100 (UUID: GPU-aa)\\n  MIG 1g.5gb Device 0: (UUID: MIG-cc)")
        ['MIG-cc']
    """
    found: list[list[str]] = []
    for line in output.splitlines():
        gpu = re.match(r"GPU (\d+):", line)
        part = re.match(r"\s+MIG .*\(UUID: (MIG-[^)]+)\)", line)
        if gpu is not None:
            found.append([gpu[1]])
        elif part is not None and found:
            if not found[-1][-1].startswith("MIG-"):
                found[-1].clear()
            found[-1].append(part[1])
    return [each for parts in found for each in parts]


def _counted_by_torch() -> list[str]:
    try:
        import torch
    except ImportError:
        return []
    return [str(i) for i in range(torch.cuda.device_count())]


def _number(value: str | None) -> int | None:
    """Return the number that a variable begins with; SLURM writes "4(x2)" for two nodes of four."""
    found = re.match(r"\d+", value or "")
    return None if found is None else int(found[0])
