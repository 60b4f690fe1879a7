"""Nodes as ACK writes them, where a pod goes, and the size that it is billed at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from tests.practice.eci_node.stage import ECI, ZONES, Stage, annotation, condition

pytestmark = pytest.mark.timeout(120)


def test_each_zone_has_a_node_as_ack_writes_it(stage: Stage) -> None:
    """A node is Ready, named after its zone, tainted, and reports the server's version."""
    nodes = {
        one["metadata"]["name"]: one for one in json.loads(stage.kubectl("get", "nodes", "-o", "json").stdout)["items"]
    }
    assert set(nodes) == {f"virtual-kubelet-{zone}" for zone in ZONES}
    node = nodes["virtual-kubelet-cn-hangzhou-i"]
    assert node["metadata"]["labels"]["type"] == "virtual-kubelet"
    assert node["metadata"]["labels"]["topology.kubernetes.io/zone"] == "cn-hangzhou-i"
    taint = {"key": "virtual-kubelet.io/provider", "value": "alibabacloud", "effect": "NoSchedule"}
    assert taint in node["spec"]["taints"]  # beside it, for a moment, the API server's own not-ready
    assert "-aliyun." in node["status"]["nodeInfo"]["kubeletVersion"]
    assert condition(node, "Ready")["status"] == "True"


def test_a_pod_goes_to_the_zone_that_it_selects(stage: Stage) -> None:
    """A nodeSelector on the zone is honoured."""
    name = stage.run(nodeSelector={"topology.kubernetes.io/zone": "cn-hangzhou-j"})
    pod = stage.phase(name, "Running")
    assert pod["spec"]["nodeName"] == "virtual-kubelet-cn-hangzhou-j"
    assert annotation(pod, "eci-instance-zone") == "cn-hangzhou-j"


def test_a_pod_that_no_zone_fits_says_so(stage: Stage) -> None:
    """It stays Pending with the scheduler's words, instead of nothing."""
    name = stage.run(nodeSelector={"topology.kubernetes.io/zone": "cn-hangzhou-z"})
    pod = stage.wait(name, lambda pod: condition(pod, "PodScheduled"))
    assert condition(pod, "PodScheduled")["reason"] == "Unschedulable"
    assert "0/2 nodes are available" in stage.event(name, "FailedScheduling")["message"]


SIZES: Sequence[tuple[dict[str, str], list[dict[str, Any]], str, str]] = [
    ({}, [{}], "2.0-4.0Gi", ""),
    (
        {},
        [{"requests": {"cpu": "2", "memory": "6Gi"}}, {"requests": {"cpu": "1250m", "memory": "1.5Gi"}}],
        "4.0-8.0Gi",
        "AutoInstanceTypeMatch",
    ),
    (
        {},
        [
            {"requests": {"cpu": "4", "memory": "8Gi"}, "limits": {"cpu": "4", "memory": "8Gi"}},
            {"requests": {"cpu": "8"}},
        ],
        "4.0-8.0Gi",
        "",
    ),
    ({"eci-use-specs": "2-4Gi,4-8Gi"}, [{"requests": {"cpu": "16"}}], "2.0-4.0Gi", "UserInstanceTypeSpec"),
    ({"eci-use-specs": "ecs.c6.xlarge"}, [{}], "ecs.c6.xlarge", "UserInstanceTypeSpec"),
]


@pytest.mark.parametrize(("notes", "resources", "spec", "event"), SIZES)
def test_the_billed_size_is_written_on_the_pod(
    stage: Stage, notes: dict[str, str], resources: list[dict[str, Any]], spec: str, event: str
) -> None:
    """Specs named by the user win, else limits, else requests are summed and rounded up the ladder."""
    containers = [
        {"name": f"c{number}", "image": "alpine", "command": ["sleep", "9"], "resources": one}
        for number, one in enumerate(resources)
    ]
    name = stage.run(annotations={ECI + key: value for key, value in notes.items()}, containers=containers)
    pod = stage.phase(name, "Running")
    assert annotation(pod, "eci-instance-spec") == spec
    assert str(annotation(pod, "eci-instance-id")).startswith("eci-bp1")
    assert pod["metadata"]["annotations"]["ProviderCreate"] == "done"
    assert pod["status"]["hostIP"] == pod["status"]["podIP"]
    assert condition(pod, "ContainerInstanceCreated")["status"] == "True"
    if event:
        told = stage.event(name, event)
        assert told["source"]["component"] == "EciService"
        assert spec in told["message"]


def test_a_pod_asking_too_much_is_refused(stage: Stage) -> None:
    """No size holds it: ProviderFailed, with the reason."""
    name = stage.run(container={"resources": {"requests": {"cpu": "65"}}})
    pod = stage.phase(name, "Failed")
    assert pod["status"]["reason"] == "ProviderFailed"
    assert "65.0 vCPU" in pod["status"]["message"]
