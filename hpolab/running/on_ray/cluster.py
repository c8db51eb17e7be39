"""A Ray cluster: reach it, and see before the first trial whether the workers can live there."""

from __future__ import annotations

import math
import os
import signal
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpolab.errors import InvalidArgument, RayUnavailable, in_brief, needs
from hpolab.logs import get_logger
from hpolab.studies.versions import differing_versions, versions_in_use

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["Node", "check_room", "connected", "nodes_for", "probe"]

_logger = get_logger(__name__)

# What a port that answers at all answers in.
_CONNECT_SECONDS = 5.0

# A node's answer; with a `runtime_env` it may install packages first.
_PROBE_SECONDS = 60.0
_PROBE_SECONDS_WITH_ENV = 900.0

# How often it is seen whether nodes that are waited for are alive.
_LOOK_SECONDS = 2.0

_CLIENT = "ray://"
_CLIENT_PORT = 10001


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Be connected to Ray inside; what was there before is left as it was.

    Args:
        address: As `RayExecutor` takes it.

    Raises:
        MissingExtra: If Ray is not installed.
        RayUnavailable: If nobody answers at the address.
    """
    with needs("`RayExecutor`", "Ray", "ray"):
        import ray
    if ray.is_initialized():
        yield
        return
    with _own_handlers():
        _connect(address)
    try:
        yield
    finally:
        ray.shutdown()


def _connect(address: str | None) -> None:
    import ray

    # A job that `ray job submit` started finds its cluster here.
    address = address or os.environ.get("RAY_ADDRESS") or None
    options: dict[str, Any] = {"logging_level": "WARNING"}
    if address is None:
        # Nobody has asked for it to be told of.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options["include_dashboard"] = False
    elif address not in ("auto", "local"):
        _knock(address)
    try:
        ray.init(address or "local", **options)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise RayUnavailable(
            f"Ray cannot be reached: `address` is {address!r}, and Ray says: {in_brief(error)}. "
            "`ray status` on a machine of the cluster shows whether it runs; None starts Ray on "
            "this machine."
        ) from error


def _knock(address: str) -> None:
    """Refuse an address at which nothing listens; Ray would try for minutes."""
    host, separator, port = address.removeprefix(_CLIENT).rpartition(":")
    if not separator and address.startswith(_CLIENT):
        host, port = port, str(_CLIENT_PORT)
    if not host or not port.isdigit():
        raise InvalidArgument(
            f"`address` must be None, 'auto', 'host:port' or 'ray://host:port', got {address!r}."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise RayUnavailable(
            f"Nobody answers at `address` {address!r} ({error}). Check host and port, and that "
            "Ray runs there: `ray status` shows it."
        ) from None


@contextmanager
def _own_handlers() -> Iterator[None]:
    """Keep the handler of SIGTERM, which Ray replaces by one that ends the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


@dataclass(frozen=True)
class Node:
    """A node of the cluster on which workers have room.

    Attributes:
        node_id: Ray's own name of it.
        host: Its host, for people.
        room: How many workers it can hold while nobody else works there.
    """

    node_id: str
    host: str
    room: float


def nodes_for(cpus: float, gpus: float) -> list[Node]:
    """Return the nodes that are alive and have room for a worker.

    Args:
        cpus: What a worker needs.
        gpus: The same.
    """
    nodes = []
    for node in _alive():
        held: Mapping[str, float] = node["Resources"]
        room = min(_room(held.get("CPU", 0.0), cpus), _room(held.get("GPU", 0.0), gpus))
        host = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        nodes.append(Node(node["NodeID"], host, room))
    return [node for node in nodes if node.room >= 1]


def _room(held: float, needed: float) -> float:
    if needed == 0:
        return math.inf
    if needed < 1:  # of one device each; no worker has halves of two
        return math.floor(held) * math.floor(1 / needed + 1e-9)
    return math.floor(held / needed + 1e-9)


def check_room(nodes: Sequence[Node], n_workers: int, cpus: float, gpus: float) -> None:
    """Refuse workers for which the cluster has no room, however long they wait.

    Args:
        nodes: Those that have room for one.
        n_workers: How many are asked for.
        cpus: What each needs.
        gpus: The same.

    Raises:
        InvalidArgument: If it is so.
    """
    import ray

    room = sum(node.room for node in nodes)
    if room >= n_workers:
        return
    held: Any = ray.cluster_resources()  # type: ignore[no-untyped-call]
    asked = f"cpus_per_worker={cpus:g}" + (f", gpus_per_worker={gpus:g}" if gpus else "")
    most = (
        "no node has room for one of them"
        if not nodes
        else f"there is room for {room:g} on {len(nodes)} node{'s' if len(nodes) > 1 else ''}"
    )
    raise InvalidArgument(
        f"`n_workers` must be as many as the Ray cluster can hold, got {n_workers} with {asked}, "
        f"but {most}: the cluster has {held.get('CPU', 0):g} CPUs and {held.get('GPU', 0):g} GPUs. "
        "Ask for less, or add nodes first; a cluster that grows by itself grows by "
        "`ray.autoscaler.sdk.request_resources`."
    )


def probe(nodes: Sequence[Node], runtime_env: Mapping[str, Any] | None) -> set[str]:
    """Refuse nodes whose versions differ from those here; return the hosts that they are.

    Args:
        nodes: Where workers may run.
        runtime_env: That of the workers.

    Returns:
        For each machine, what no other machine has.

    Raises:
        InvalidArgument: If versions differ; every node that it is so on is named. Also if a node
            cannot make the `runtime_env`.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = versions_in_use()
    task = ray.remote(_probe_function())
    asked = {
        task.options(
            num_cpus=0,
            max_retries=0,
            runtime_env=dict(runtime_env or {}),
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, soft=False),
        ).remote(): node
        for node in nodes
    }
    limit = _PROBE_SECONDS_WITH_ENV if runtime_env else _PROBE_SECONDS
    deadline = time.monotonic() + limit
    wrong, hosts = [], set()
    while asked:
        done, _ = ray.wait(list(asked), timeout=_LOOK_SECONDS)
        alive = {node["NodeID"] for node in _alive()}
        for reference in done or list(asked):
            node = asked[reference]
            if node.node_id not in alive:
                _logger.warning(f"{node.host} has left the Ray cluster; no worker is sent there.")
            elif done:
                host, said = _answer(reference, node, here)
                wrong += said
                hosts |= host
            elif time.monotonic() > deadline:
                wrong.append(f"{node.host} has not answered for {limit:g} s")
            else:
                continue
            del asked[reference]
    if wrong:
        raise InvalidArgument(
            "`executor` must run on nodes like this machine, as trials of other versions differ, "
            f"but {'; '.join(wrong)}. Install the same there, or give `RayExecutor` a "
            "`runtime_env`."
        )
    return hosts


def _answer(reference: Any, node: Node, here: Mapping[str, str]) -> tuple[set[str], list[str]]:
    """Return a node's host, and what is wrong with the node."""
    import ray

    try:
        versions, host = ray.get(reference)
    except ray.exceptions.RayError as error:
        return set(), [f"{node.host} cannot run a task ({in_brief(error)})"]
    missing = [name for name in ("hpolab", "optuna") if name not in versions]
    wrong = [f"{node.host} has no {name}" for name in missing]
    wrong += [
        f"{node.host} has {package} {there}, and {mine} is here"
        for package, (mine, there) in differing_versions(here, versions).items()
    ]
    return {host}, wrong


def _alive() -> list[Mapping[str, Any]]:
    import ray

    listed: Any = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in listed if node["Alive"]]


def this_host() -> str:
    """Return what `probe` returns for this machine."""
    return str(_probe_function()()[1])


def _probe_function() -> Callable[[], tuple[dict[str, str], str]]:
    """Return a function that travels by value: a node may have no hpolab."""

    def versions_there() -> tuple[dict[str, str], str]:
        import platform
        import socket
        from importlib.metadata import PackageNotFoundError, version

        found = {"python": platform.python_version()}
        for package in ("hpolab", "optuna", "torch"):
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                continue
        try:
            with open("/proc/sys/kernel/random/boot_id") as file:
                boot = file.read().strip()
        except OSError:
            boot = ""
        return found, f"{boot or socket.gethostname()}"

    return versions_there
