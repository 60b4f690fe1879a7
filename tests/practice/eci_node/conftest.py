"""One API server with virtual nodes for all tests of this folder; they ask the nodes for faults, so they share no other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox.control_plane import ControlPlane
from sandbox.eci_node import EciNode, NodeSettings, kubelet_keys
from sandbox.toolchain import programs
from tests.practice.eci_node.stage import FACTOR, ZONES, Stage


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """An API server with two virtual nodes whose clock runs fast."""
    built = programs(("etcd", "kube-apiserver", "kube-controller-manager", "eci-node"))
    folder = tmp_path_factory.mktemp("eci-node")
    control_plane = ControlPlane(folder / "control-plane", built).start()
    settings = NodeSettings(zones=ZONES, time_factor=FACTOR, buckets=("ci-cache",))
    keys = kubelet_keys(control_plane.keys.folder)
    node = EciNode(built["eci-node"], control_plane.admin, folder / "node", keys, settings)
    try:
        yield Stage(control_plane, node.start(), built["eci-node"])
    finally:
        node.stop()
        control_plane.stop()


@pytest.fixture(autouse=True)
def healthy(stage: Stage) -> Iterator[None]:
    """Each test starts without faults and without pods."""
    yield
    faults = stage.node.faults
    faults.restock()
    faults.heal_pulls()
    faults.quota(0)
    faults.stream_ending("killed")
    stage.kubectl("delete", "pods", "--all", "--grace-period=0", "--wait=true")
