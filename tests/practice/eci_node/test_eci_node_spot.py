"""Spot instances that are taken away, and memory that is used up."""

from __future__ import annotations

import subprocess
import time
from typing import Any

import pytest

from sandbox.process import SandboxError
from tests.practice.eci_node.stage import ECI, SPOT, Stage, condition, terminated

pytestmark = pytest.mark.timeout(120)


def test_a_reclaimed_spot_instance_is_announced_and_then_bid_failed(stage: Stage) -> None:
    """SpotToBeReleased three played minutes before; then Failed, BidFailed, with the moment."""
    name = stage.run(annotations=SPOT)
    stage.phase(name, "Running")
    stage.node.faults.reclaim("default", name)
    assert stage.event(name, "SpotToBeReleased")["message"] == "Spot ECI will be released in 3 minutes"
    assert stage.pod(name)["status"]["phase"] == "Running"
    pod = stage.phase(name, "Failed")
    assert pod["status"]["reason"] == "BidFailed"
    assert pod["status"]["message"].startswith("The pod is spot instance, and have been released at 20")
    assert condition(pod, "ContainerInstanceExpired")["status"] == "True"
    assert pod["status"]["containerStatuses"][0]["ready"], "kubectl shows BidFailed beside 1/1, as seen on real ECI"
    stage.event(name, "StopCharge")


def test_the_protection_hour_is_kept(stage: Stage) -> None:
    """Within the hour, and for what is not spot, a reclaim is refused."""
    protected = stage.run(annotations={ECI + "eci-spot-strategy": "SpotAsPriceGo"})
    plain = stage.run()
    for name, reason in ((protected, "is protected until"), (plain, "is not a spot instance")):
        stage.phase(name, "Running")
        with pytest.raises(SandboxError, match=reason):
            stage.node.faults.reclaim("default", name)


def test_api_evict_evicts_the_pod_at_the_announcement(stage: Stage) -> None:
    """With eci-spot-release-strategy api-evict the pod is deleted by eviction before its instance is released."""
    name = stage.run(annotations=SPOT | {ECI + "eci-spot-release-strategy": "api-evict"})
    stage.phase(name, "Running")
    stage.node.faults.reclaim("default", name, lead_seconds=3600)
    assert stage.kubectl("wait", "--for=delete", f"pod/{name}", "--timeout=10s").returncode == 0


STREAM_ENDINGS = {
    "killed": (137, "exit code 137"),
    "dropped": (0, ""),  # the client library takes a connection that closes without a word for success
    "error": (1, "released"),
}


@pytest.mark.parametrize("ending", STREAM_ENDINGS)
def test_how_a_reclaim_ends_an_exec_is_a_setting(stage: Stage, ending: Any) -> None:
    """Killed ends with the exit code, error with an error; and a connection that is only dropped looks like success."""
    code, words = STREAM_ENDINGS[ending]
    stage.node.faults.stream_ending(ending)
    name = stage.run(annotations=SPOT)
    stage.phase(name, "Running")
    session = subprocess.Popen(
        stage.kubectl_command("exec", name, "--", "sleep", "3600"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(1)
    stage.node.faults.reclaim("default", name, lead_seconds=1)
    _, stderr = session.communicate(timeout=20)
    assert session.returncode == code, stderr
    assert words in stderr
    pod = stage.phase(name, "Failed")
    assert pod["status"]["reason"] == "BidFailed"


def test_a_container_out_of_memory_is_oom_killed(stage: Stage) -> None:
    """Asked for by a test: OOMKilled, 137, and ECI's event."""
    name = stage.run()
    stage.phase(name, "Running")
    stage.node.faults.out_of_memory("default", name, "build")
    pod = stage.phase(name, "Failed")
    assert (terminated(pod)["reason"], terminated(pod)["exitCode"]) == ("OOMKilled", 137)
    assert stage.event(name, "OOMKilled")["source"]["component"] == "EciService"


def test_the_memory_limit_is_the_kernels(stage: Stage) -> None:
    """A container that really uses more than its limit is OOMKilled."""
    limits = stage.node.faults.state()["memory_limits"]
    if limits != "enforced":
        pytest.skip(f"memory limits cannot be enforced here: {limits}")
    name = stage.run("tail", "/dev/zero", container={"resources": {"limits": {"memory": "64Mi", "cpu": "1"}}})
    assert terminated(stage.phase(name, "Failed"))["reason"] == "OOMKilled"
