"""The practice Alibaba tells of what the practice nodes really did: instances, their pods, and what they cost."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from runbook.clients import connect
from runbook.history.from_eci import Joined, from_eci, uids_of
from runbook.history.record import End, Known, PodRecord
from runbook.settings import Settings
from sandbox.practice import PracticeCluster

NAME = "alibaba-sees-me"


@pytest.fixture(scope="module")
def pod(practice: PracticeCluster) -> dict[str, Any]:
    """A pod that ran for two seconds and was deleted afterwards, as it was before."""
    container = {
        "name": "build",
        "image": "alpine:3.20",
        "command": ["sh", "-c", "sleep 2; exit 3"],
        "resources": {"requests": {"cpu": "3", "memory": "7Gi"}},
    }
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": NAME, "namespace": "default"},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    practice.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    seen = _wait_for(practice, NAME, "Failed")
    practice.kubectl("-n", "default", "delete", "pod", NAME)
    return seen


def _wait_for(practice: PracticeCluster, name: str, phase: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while True:
        seen: dict[str, Any] = json.loads(practice.kubectl("-n", "default", "get", "pod", name, "-o", "json"))
        if seen["status"].get("phase") == phase:
            return seen
        assert time.monotonic() < deadline, seen["status"]
        time.sleep(0.2)


def test_alibaba_names_the_instance_of_a_pod_that_is_gone(pod: dict[str, Any], settings: Settings) -> None:
    """Through Alibaba's SDK the instance of a deleted pod is found, leads to its UID, and says how it ended."""
    cloud = connect.alibaba(settings)
    instance = pod["metadata"]["annotations"]["k8s.aliyun.com/eci-instance-id"]
    groups = cloud.container_groups([instance])
    uids = uids_of(cloud.container_group_events([instance]))
    assert uids == {instance: pod["metadata"]["uid"]}
    watched = PodRecord(cluster=settings.name, pod_uid=pod["metadata"]["uid"])
    result = from_eci(groups, [watched], cluster=settings.name, observed_at=datetime.now(UTC), uids=uids)
    (join,) = result.joins
    assert join.how is Joined.POD_UID
    assert (join.record.pod_name, join.record.namespace) == (NAME, "default")
    assert join.record.instance_spec == pod["metadata"]["annotations"]["k8s.aliyun.com/eci-instance-spec"]
    assert (join.record.ended, join.record.exit_code) == (End.FAILED, 3)
    assert join.record.finished_known is Known.BILLED


def test_the_bill_charges_what_the_pod_shows(pod: dict[str, Any], settings: Settings) -> None:
    """The billed seconds are those between the pod's instance and the end of its containers, within a second."""
    cloud = connect.alibaba(settings)
    instance = pod["metadata"]["annotations"]["k8s.aliyun.com/eci-instance-id"]
    today = datetime.now(timezone(timedelta(hours=8))).date()
    days = (today - timedelta(days=1), today)  # midnight may have passed meanwhile
    rows = [row for day in days for row in cloud.daily_bill(day, instance_id=instance)]
    assert {row["BillingItemCode"] for row in rows} == {"cpu", "mem"}
    billed = sum(float(row["ServicePeriod"]) for row in rows if row["BillingItemCode"] == "cpu")
    created = next(c for c in pod["status"]["conditions"] if c["type"] == "ContainerInstanceCreated")
    start = datetime.fromisoformat(created["lastTransitionTime"])
    end = datetime.fromisoformat(pod["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"])
    assert billed == pytest.approx((end - start).total_seconds(), abs=1.2)


def test_a_reclaimed_spot_instance_is_expired(practice: PracticeCluster, settings: Settings) -> None:
    """A spot instance that was taken away is Expired at Alibaba's, reclaimed in the history, and billed by an ECS type."""
    name = "alibaba-takes-me"
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "annotations": {"k8s.aliyun.com/eci-spot-strategy": "SpotAsPriceGo"},
        },
        "spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "build", "image": "alpine:3.20", "command": ["sleep", "600"]}],
        },
    }
    practice.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    _wait_for(practice, name, "Running")
    practice.node.faults.reclaim("default", name, lead_seconds=1, force=True)
    pod = _wait_for(practice, name, "Failed")
    practice.kubectl("-n", "default", "delete", "pod", name)
    cloud = connect.alibaba(settings)
    instance = pod["metadata"]["annotations"]["k8s.aliyun.com/eci-instance-id"]
    (group,) = cloud.container_groups([instance])
    assert (group["Status"], group["SpotStrategy"]) == ("Expired", "SpotAsPriceGo")
    assert "SpotToBeReleased" in {event["Reason"] for event in group["Events"]}
    (record,) = from_eci([group], cluster=settings.name, observed_at=datetime.now(UTC)).records
    assert (record.ended, record.spot, record.pod_uid) == (End.RECLAIMED, True, f"eci:{instance}")
    today = datetime.now(timezone(timedelta(hours=8))).date()
    rows = [row for day in (today - timedelta(days=1), today) for row in cloud.daily_bill(day, instance_id=instance)]
    assert {row["BillingItemCode"] for row in rows} == {"instance_type"}
