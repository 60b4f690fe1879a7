"""Nodes that die and come back."""

from __future__ import annotations

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
