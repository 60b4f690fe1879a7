"""A cluster that has other nodes as well (ACK with virtual nodes): only pods that ask for ECI come to a virtual node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sandbox.control_plane import ControlPlane
from sandbox.eci_node import EciNode, NodeSettings, kubelet_keys
from sandbox.toolchain import programs
from tests.practice.eci_node.stage import Stage, condition

pytestmark = pytest.mark.timeout(120)

TOLERATION = {"key": "virtual-kubelet.io/provider", "operator": "Exists"}


@pytest.fixture(scope="module")
def ack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """An API server whose virtual nodes are those of an ACK cluster."""
    built = programs(("etcd", "kube-apiserver", "kube-controller-manager", "eci-node"))
    folder = tmp_path_factory.mktemp("ack")
    control_plane = ControlPlane(folder / "control-plane", built).start()
    settings = NodeSettings(zones=("cn-hangzhou-i",), cluster_kind="ack")
    keys = kubelet_keys(control_plane.keys.folder)
    node = EciNode(built["eci-node"], control_plane.admin, folder / "node", keys, settings)
    try:
        yield Stage(control_plane, node.start(), built["eci-node"])
    finally:
        node.stop()
        control_plane.stop()


def test_a_plain_pod_does_not_come(ack: Stage) -> None:
    """It is told that the nodes' taint is not tolerated."""
    pod = ack.wait(ack.run(), lambda pod: condition(pod, "PodScheduled"))
    assert condition(pod, "PodScheduled")["reason"] == "Unschedulable"
    assert "virtual-kubelet.io/provider" in condition(pod, "PodScheduled")["message"]


@pytest.mark.parametrize("asks", [{"labels": {"alibabacloud.com/eci": "true"}}, {"tolerations": [TOLERATION]}], ids=str)
def test_a_pod_that_asks_for_eci_comes(ack: Stage, asks: dict[str, Any]) -> None:
    """By its label, or by a toleration of the taint."""
    ack.phase(ack.run("true", **asks), "Succeeded")


def test_a_labelled_namespace_asks_for_all_its_pods(ack: Stage) -> None:
    """A pod that waits is bound when its namespace is labelled."""
    name = ack.run("true")
    ack.wait(name, lambda pod: condition(pod, "PodScheduled"))
    ack.kubectl("label", "namespace", "default", "alibabacloud.com/eci=true")
    ack.phase(name, "Succeeded")
    ack.kubectl("label", "namespace", "default", "alibabacloud.com/eci-")
