"""One small Ray cluster for all tests of executors, and what may be looked up in it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
import ray
from ray.cluster_utils import Cluster

if TYPE_CHECKING:
    from collections.abc import Iterator

# Ray's processes inherit them. No report to Ray's makers.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}
OBJECT_STORE_BYTES = 100 << 20


class RayCluster:
    """A head node with two CPUs on this machine; more nodes come and go."""

    def __init__(self) -> None:
        # Its processes end with this one, also if that is killed: Ray's reaper sees to it.
        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 2,
                "num_gpus": 0,
                "object_store_memory": OBJECT_STORE_BYTES,
                "include_dashboard": False,
            },
        )
        self.address: str = self._cluster.address

    def add_node(self, num_cpus: int = 2) -> object:
        """Add a node, and return it once workers have room on it."""
        node = self._cluster.add_node(num_cpus=num_cpus, object_store_memory=OBJECT_STORE_BYTES)
        self._cluster.wait_for_nodes()
        return node

    def kill_node(self, node: object) -> None:
        """End a node and all its workers as a power cut would."""
        self._cluster.remove_node(node, allow_graceful=False)

    @staticmethod
    def actors() -> list[str]:
        """Return the names of all actors of studies, in order."""
        listed = ray.util.list_named_actors(all_namespaces=True)
        return sorted(each["name"] for each in listed if each["namespace"].startswith("hpolab-"))

    def wait_for_no_actors(self, seconds: float = 60.0) -> None:
        """Return when no study has an actor any more."""
        deadline = time.monotonic() + seconds
        while self.actors():
            assert time.monotonic() < deadline, f"actors are left: {self.actors()}"
            time.sleep(0.1)

    def wait_for_the_head_alone(self, seconds: float = 60.0) -> None:
        """Return when Ray has noticed that a node which was killed is gone."""
        deadline = time.monotonic() + seconds
        while ray.cluster_resources().get("CPU") != 2:
            assert time.monotonic() < deadline, f"there are {ray.cluster_resources()}"
            time.sleep(0.1)

    def shutdown(self) -> None:
        ray.shutdown()
        self._cluster.shutdown()


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayCluster]:
    """A Ray cluster that this process is connected to; tests with it are of one xdist group."""
    before = {name: os.environ.get(name) for name in QUIET}
    os.environ.update(QUIET)
    cluster = RayCluster()
    ray.init(cluster.address, log_to_driver=False, configure_logging=False)
    yield cluster
    cluster.shutdown()
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
