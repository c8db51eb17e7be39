"""What a worker says of itself, in its leases and its messages: objective, device, host, job."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from hpolab.identity import function_name
from hpolab.objectives.base import Objective

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["device_of", "job_id", "name_of", "this_worker"]


def name_of(objective: Any) -> str:
    """Return what an objective is called in every process.

    Example:
        >>> name_of(max)
        'max'
    """
    return (
        type(objective).__name__ if isinstance(objective, Objective) else function_name(objective)
    )


def device_of(objective: Any, environ: Mapping[str, str] = os.environ) -> str:
    """Return where an objective trains, as far as can be told without importing a trainer.

    Example:
        >>> device_of(max, {"CUDA_VISIBLE_DEVICES": "3"})
        'GPU 3'
    """
    device = str(getattr(getattr(objective, "task", None), "device", ""))
    visible = environ.get("CUDA_VISIBLE_DEVICES", "")
    if visible in ("", "-1") or device == "cpu":  # both name none
        return device
    gpu = f"GPU {visible}"
    return f"{device} of {gpu}" if device else gpu


def job_id(environ: Mapping[str, str] = os.environ) -> str:
    """Return what the scheduler calls this process's job, "" without one.

    Example:
        >>> job_id({"SLURM_JOB_ID": "912", "SLURM_ARRAY_JOB_ID": "900", "SLURM_ARRAY_TASK_ID": "7"})
        'SLURM job 900_7'
        >>> job_id({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "3"})
        'Kubernetes index 3'
    """
    if "SLURM_JOB_ID" in environ:
        array, task = environ.get("SLURM_ARRAY_JOB_ID"), environ.get("SLURM_ARRAY_TASK_ID")
        job = f"{array}_{task}" if array and task else environ["SLURM_JOB_ID"]
        rank = environ.get("SLURM_PROCID", "0")
        return f"SLURM job {job}" + (f", task {rank}" if rank != "0" else "")
    if "KUBERNETES_SERVICE_HOST" in environ and "JOB_COMPLETION_INDEX" in environ:
        return f"Kubernetes index {environ['JOB_COMPLETION_INDEX']}"
    return ""


def this_worker() -> str:
    """Return who this worker is, in words: the host, the process and the job."""
    job = job_id()
    return f"{socket.gethostname()} (pid {os.getpid()}{f', {job}' if job else ''})"
