"""What the virtual nodes show of a pod is enough for its record: billed window, spec and cause of its end."""

from __future__ import annotations

import subprocess
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runbook.history.api_objects import decode_pod, decode_watch, event_from, pod_from
from runbook.history.observation import pod_record
from runbook.history.record import End, Known, PodRecord
from tests.practice.eci_node.stage import SPOT, Stage

pytestmark = pytest.mark.timeout(120)


def record_of(stage: Stage, pod: dict[str, Any]) -> PodRecord:
    """The record of a pod with the events that the API server has of it."""
    events = [event_from(one) for one in stage.events(pod["metadata"]["name"])]
    return pod_record(pod_from(pod), events, cluster="practice", observed_at=datetime.now(UTC))


def test_a_pod_that_ran_to_its_end(stage: Stage) -> None:
    """Billing begins with the instance and ends with StopCharge, and every moment between is stated, in order."""
    name = stage.run("sleep", "0.2", container={"resources": {"limits": {"cpu": "2", "memory": "3Gi"}}})
    stage.phase(name, "Succeeded")
    stage.event(name, "StopCharge")
    record = record_of(stage, stage.pod(name))
    assert (record.ended, record.exit_code) == (End.DONE, None)
    assert (record.requested_vcpu, record.requested_memory_gib) == (2.0, 3.0)
    assert (record.billed_vcpu, record.billed_memory_gib, record.instance_spec) == (2.0, 4.0, "2.0-4.0Gi")
    assert (record.billing_start_source, record.finished_source) == (
        "condition ContainerInstanceCreated",
        "event StopCharge",
    )
    moments = [record.scheduled_at, record.billing_start_at, record.pulled_at, record.running_at, record.finished_at]
    assert moments == sorted(at for at in moments if at)


@pytest.mark.parametrize("stream_ending", ["killed", "dropped"])
def test_a_reclaimed_pod(stage: Stage, stream_ending: str) -> None:
    """A spot pod that was taken away says so however its streams ended; StopCharge tells when the charge did."""
    stage.node.faults.stream_ending(stream_ending)
    name = stage.run(annotations=SPOT)
    stage.phase(name, "Running")
    stage.node.faults.reclaim("default", name, lead_seconds=1)
    stage.phase(name, "Failed")
    stage.event(name, "StopCharge")
    record = record_of(stage, stage.pod(name))
    assert (record.ended, record.ended_evidence, record.spot) == (End.RECLAIMED, "status.reason BidFailed", True)
    assert (record.finished_known, record.finished_source) == (Known.OBSERVED, "event StopCharge")


def test_out_of_memory(stage: Stage) -> None:
    """The container that was killed is named."""
    name = stage.run()
    stage.phase(name, "Running")
    stage.node.faults.out_of_memory("default", name, "build")
    record = record_of(stage, stage.phase(name, "Failed"))
    assert (record.ended, record.failed_container, record.exit_code) == (End.OUT_OF_MEMORY, "build", 137)


def test_a_pod_that_ecis_stock_does_not_serve(stage: Stage) -> None:
    """Under fail-fast it fails, was never billed, and the cause is the stock."""
    stage.node.faults.no_stock()
    name = stage.run(annotations={"k8s.aliyun.com/eci-fail-strategy": "fail-fast"})
    record = record_of(stage, stage.phase(name, "Failed"))
    assert (record.ended, record.billing_start_known, record.finished_known) == (End.NO_STOCK, Known.NEVER, Known.NEVER)


def test_an_annotation_that_eci_refuses(stage: Stage) -> None:
    """Refused is told apart from out of stock."""
    name = stage.run(annotations={"k8s.aliyun.com/eci-spot-strategy": "Cheap"})
    record = record_of(stage, stage.phase(name, "Failed"))
    assert (record.ended, record.billing_start_known) == (End.REFUSED, Known.NEVER)


def test_the_deadline(stage: Stage) -> None:
    """A pod that outlives its activeDeadlineSeconds ends by the deadline."""
    name = stage.run(activeDeadlineSeconds=60)
    record = record_of(stage, stage.phase(name, "Failed"))
    assert (record.ended, record.ended_evidence) == (End.DEADLINE, "status.reason DeadlineExceeded")


def test_the_pending_limit_is_billed(stage: Stage) -> None:
    """An image that cannot be pulled is waited for, and billed, until the limit."""
    name = stage.run(
        annotations={"k8s.aliyun.com/eci-max-pending-minute": "10"}, container={"image": "registry.example/none:1"}
    )
    record = record_of(stage, stage.phase(name, "Failed"))
    assert record.ended is End.PENDING_LIMIT
    assert record.billing_start_at and record.finished_at
    assert record.finished_at - record.billing_start_at >= timedelta(minutes=9)


def test_a_pod_that_is_deleted_while_it_runs(stage: Stage) -> None:
    """The usual end of a job's pod: the last object that a watch shows is enough."""
    name = stage.run()
    stage.phase(name, "Running")
    path = f"/api/v1/namespaces/default/pods?watch=1&fieldSelector=metadata.name={name}&timeoutSeconds=6"
    command = stage.kubectl_command("get", "--raw", path)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as watching:
        time.sleep(0.5)
        assert stage.kubectl("delete", "pod", name, "--wait=true").returncode == 0
        told, _ = watching.communicate(timeout=30)
    last = decode_watch(told.splitlines()[-1])
    assert last.type == "DELETED"
    events = [event_from(one) for one in stage.events(name)]
    pod = decode_pod(last.object)
    record = pod_record(pod, events, cluster="practice", observed_at=datetime.now(UTC), deleted=True)
    assert (record.ended, record.final, record.exit_code) == (End.DELETED, True, None)
    assert record.deleted_at and record.finished_at
