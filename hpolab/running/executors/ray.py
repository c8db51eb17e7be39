"""Workers on a Ray cluster, on this machine or on many."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Any

from hpolab import _optuna
from hpolab.errors import InvalidArgument, InvalidType, check_count
from hpolab.running.executors.base import Executor
from hpolab.running.on_ray.cluster import check_room, connected, nodes_for, probe, this_host
from hpolab.running.on_ray.naming import describe, namespace_of, storage_address
from hpolab.storage.promises import why_not_many_hosts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from optuna import Study

    from hpolab.running.interrupts import Interrupts
    from hpolab.running.plan import ObjectiveFunction, Plan

__all__ = ["RayExecutor"]


@dataclass(frozen=True)
class RayExecutor(Executor):
    """Trains on a Ray cluster, in actors that outlive the process that calls `run`.

    The actors are detached, and named in a namespace of the study's own. The process that started
    them only watches: if it dies they go on, and end when the budget is spent. Started again, it
    finds them and watches again; workers that an earlier run left behind, and that were to do
    something else (other code, another ``n_trials``, other resources), are replaced. Ctrl-C, an
    error and ``study.stop`` end them with the run. Ray starts a worker anew whose process or node
    has died; its trial resumes as with any dead worker, from its checkpoint if its folder is one
    that all nodes see. ``timeout_seconds`` counts from the start of the workers.

    Arrays of NumPy that the objective holds travel once to each node, where all workers read the
    same memory. So nobody may write to them: an objective that does must copy them first. Tensors
    of PyTorch travel once, too, but each worker has its own copy.

    A worker finds OMP_NUM_THREADS set to its CPUs, unless that is set, and in CUDA_VISIBLE_DEVICES
    the GPUs that Ray has given it, none if it has asked for none.

    Before the first trial each node is asked for its versions of Python, PyTorch, Optuna and
    hpolab, which must be those here in their first two numbers.

    Args:
        n_workers: Number of workers.
        cpus_per_worker: CPUs that Ray reserves for each.
        gpus_per_worker: GPUs that Ray reserves for each; 0.25 lets four share one.
        address: "auto" for the cluster that this machine is part of, "host:port", or
            "ray://host:port" from outside. None takes RAY_ADDRESS, as `ray job submit` sets it, and
            without it starts Ray on this machine for the run alone. Where ``ray.init`` was called
            before, that connection is used, and stays: do so before `compare` and its like, which
            are several runs.
        runtime_env: What Ray is to provide for the workers: packages, files, variables.

    Raises:
        InvalidArgument: If an argument is out of its range. From `run`: if the cluster has no room
            for the workers, a node has other versions, or the storage cannot be shared by several
            machines.
        RayUnavailable: From `run`, if the cluster cannot be reached.
        RecipeMismatch: From `run`, if another run has workers on Ray that do something else.
        MissingExtra: From `run`, if Ray is not installed.

    Example:
        >>> RayExecutor(n_workers=8, gpus_per_worker=0.25)  # doctest: +ELLIPSIS
        RayExecutor(n_workers=8, cpus_per_worker=1, gpus_per_worker=0.25, ...)
    """

    n_workers: int = 1
    cpus_per_worker: float = 1
    gpus_per_worker: float = 0
    address: str | None = None
    runtime_env: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_count("n_workers", self.n_workers)
        _check_resource("cpus_per_worker", self.cpus_per_worker)
        _check_resource("gpus_per_worker", self.gpus_per_worker)
        if self.gpus_per_worker > 1 and self.gpus_per_worker != int(self.gpus_per_worker):
            raise InvalidArgument(
                "`gpus_per_worker` must be a whole number where it is above 1, got "
                f"{self.gpus_per_worker}."
            )
        if self.address is not None and not isinstance(self.address, str):
            raise InvalidType(f"`address` must be a str, got {type(self.address).__name__}.")

    def check(self, study: Study) -> None:
        """See `Executor`."""
        if _optuna.is_in_memory(study):
            raise InvalidArgument(
                "`executor` must be None for a study in memory, which the workers on Ray cannot "
                "see. Give `make_study` a `storage`, such as 'postgresql://…'."
            )

    def execute(
        self,
        study: Study,
        objective: ObjectiveFunction,
        plan: Plan,
        interrupts: Interrupts,
        after_trial: Callable[[], None],
    ) -> None:
        """See `Executor`."""
        with connected(self.address):
            from hpolab.running.on_ray.crew import RayCrew

            nodes = nodes_for(self.cpus_per_worker, self.gpus_per_worker)
            check_room(nodes, self.n_workers, self.cpus_per_worker, self.gpus_per_worker)
            hosts = probe(nodes, self.runtime_env)
            if hosts - {this_host()}:
                _check_shared(study)
            settings = {
                "n_workers": self.n_workers,
                "cpus_per_worker": self.cpus_per_worker,
                "gpus_per_worker": self.gpus_per_worker,
                "runtime_env": json.dumps(self.runtime_env, sort_keys=True, default=str),
            }
            options = {
                "num_cpus": self.cpus_per_worker,
                "num_gpus": self.gpus_per_worker,
                "runtime_env": dict(self.runtime_env or {}),
            }
            # Hundreds of workers would send a line for each trial to the one that watches.
            plan = replace(plan, trial_lines=False)
            described = describe(study, objective, plan, settings)
            crew = RayCrew(study, plan, namespace_of(study), described, options)
            try:
                crew.start(objective)
                crew.watch(interrupts, after_trial)
            finally:
                crew.end()


def _check_resource(argument: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidType(f"`{argument}` must be a number, got {type(value).__name__}.")
    if not 0 <= float(value) < math.inf:
        raise InvalidArgument(f"`{argument}` must be 0 or above, got {value}.")


def _check_shared(study: Study) -> None:
    """Refuse a storage that workers on other machines cannot see."""
    place = _optuna.place(study)[0]
    reason = why_not_many_hosts(place)
    if reason is not None:
        raise InvalidArgument(
            "`storage` must be one that all machines of the Ray cluster can share, got "
            f"{storage_address(place)}: {reason}. PostgreSQL, MySQL, Redis and gRPC can; "
            "`copy_study` moves a study there."
        )
