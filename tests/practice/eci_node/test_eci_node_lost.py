"""Nodes that die and come back, and what a node may do."""

from __future__ import annotations

import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox.eci_node import EciNode, kubelet_keys
from tests.practice.eci_node.stage import Stage, terminated

pytestmark = pytest.mark.timeout(120)


def test_a_node_that_comes_back_tells_its_pods_that_they_are_lost(stage: Stage) -> None:
    """After a power cut nothing of the pod runs; when the node is back, the pod is Failed, not run a second time."""
    name = stage.run(nodeSelector={"topology.kubernetes.io/zone": "cn-hangzhou-j"})
    stage.phase(name, "Running")
    stage.node.faults.stop_node("cn-hangzhou-j")
    assert stage.pod(name)["status"]["phase"] == "Running"
    stage.node.faults.start_node("cn-hangzhou-j")
    pod = stage.phase(name, "Failed")
    assert pod["status"]["reason"] == "NodeLost"
    assert terminated(pod)["exitCode"] == 137


def test_nothing_is_left_after_a_crash(stage: Stage, tmp_path: Path) -> None:
    """A killed node program takes its processes with it, leaves no mount, and the next one in its folder starts clean."""
    settings = replace(stage.node.settings, region="cn-shanghai", zones=("cn-shanghai-l",))
    keys = kubelet_keys(stage.control_plane.keys.folder)
    folder = tmp_path / "node"
    node = EciNode(stage.program, stage.control_plane.admin, folder, keys, settings).start()
    name = stage.run("sleep", "86400", nodeName="virtual-kubelet-cn-shanghai-l")
    stage.phase(name, "Running")
    node.kill()
    deadline = time.monotonic() + 5
    while processes_mentioning(str(folder)):
        assert time.monotonic() < deadline, processes_mentioning(str(folder))
        time.sleep(0.05)
    assert str(folder) not in Path("/proc/self/mountinfo").read_text()
    with EciNode(stage.program, stage.control_plane.admin, folder, keys, settings):
        stage.phase(name, "Failed")
        assert list((folder / "instances").glob("*")) == []
    assert str(folder) not in Path("/proc/self/mountinfo").read_text()
    stage.kubectl("delete", "node", "virtual-kubelet-cn-shanghai-l")


def test_nothing_is_left_after_a_stop(stage: Stage, tmp_path: Path) -> None:
    """A stopped node program ends its pods' processes and leaves neither mounts nor instances."""
    settings = replace(stage.node.settings, region="cn-shanghai", zones=("cn-shanghai-n",))
    keys = kubelet_keys(stage.control_plane.keys.folder)
    folder = tmp_path / "node"
    with EciNode(stage.program, stage.control_plane.admin, folder, keys, settings):
        name = stage.run("sleep", "86400", nodeName="virtual-kubelet-cn-shanghai-n")
        stage.phase(name, "Running")
        assert processes_mentioning(str(folder))
    assert processes_mentioning(str(folder)) == []
    assert str(folder) not in Path("/proc/self/mountinfo").read_text()
    assert not (folder / "instances").exists()
    stage.kubectl("delete", "pod", name, "--force", "--grace-period=0")  # no node is there to confirm its end
    stage.kubectl("delete", "node", "virtual-kubelet-cn-shanghai-n")


def test_its_own_cluster_role_is_enough(stage: Stage, tmp_path: Path) -> None:
    """With the rights that `eci-node rbac` prints, and no others, a pod runs with token and ConfigMap, is told of, and goes."""
    role = subprocess.run([stage.program, "rbac"], capture_output=True, text=True, check=True).stdout
    assert stage.kubectl("apply", "-f", "-", stdin=role).returncode == 0
    kubeconfig = stage.control_plane.kubeconfig("practice:eci-node")
    settings = replace(stage.node.settings, region="cn-shanghai", zones=("cn-shanghai-m",))
    keys = kubelet_keys(stage.control_plane.keys.folder)
    values = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "values", "namespace": "default"}}
    stage.apply(values | {"data": {"WORD": "hello"}})
    with EciNode(stage.program, kubeconfig, tmp_path / "node", keys, settings):
        name = stage.run(
            "sh",
            "-c",
            "echo $WORD; sleep 3600",
            container={"envFrom": [{"configMapRef": {"name": "values"}}]},
            nodeName="virtual-kubelet-cn-shanghai-m",
        )
        stage.phase(name, "Running")
        assert stage.event(name, "Started")["source"]["component"] == "kubelet"
        assert stage.kubectl("logs", name).stdout == "hello\n"
        assert stage.kubectl("delete", "pod", name).returncode == 0
    assert "forbidden" not in (tmp_path / "node.log").read_text()
    stage.kubectl("delete", "node", "virtual-kubelet-cn-shanghai-m")


def processes_mentioning(text: str) -> list[str]:
    """Command lines of running bubblewrap processes that name a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has just ended
        if "bwrap" in words and text in words:
            found.append(words)
    return found
