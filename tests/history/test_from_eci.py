"""From DescribeContainerGroups to records: what ECI states, how instances find their pods, how well it matched."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runbook.clients.alibaba import AccessKey, AlibabaCloud, Endpoints
from runbook.clients.connect import clock
from runbook.history.from_eci import Joined, from_eci, record_of, uids_of
from runbook.history.record import End, Known, PodRecord, Source
from sandbox.alibaba.process import Alibaba
from tests.sandbox.alibaba_journal import JournalWriter

NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)


def at(minute: int, second: int = 0) -> datetime:
    return datetime(2026, 11, 24, 9, minute, second, tzinfo=UTC)


def text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def group(name: str = "runner-1", **more: Any) -> dict[str, Any]:
    """A row of DescribeContainerGroups: it was made at 9:30, ran, and succeeded at 9:35."""
    row = {
        "ContainerGroupId": f"eci-{name}", "ContainerGroupName": f"ci-{name}", "Status": "Succeeded", "Cpu": 4.0,
        "Memory": 8.0, "SpotStrategy": "NoSpot", "RegionId": "cn-hangzhou", "ZoneId": "cn-hangzhou-j",
        "CreationTime": text(at(30)), "SucceededTime": text(at(35)), "EphemeralStorage": 30,
        "Tags": [{"Key": "NameSpace", "Value": "ci"}, {"Key": "PodName", "Value": name}],
        "Containers": [{
            "Name": "build", "Image": "alpine:3",
            "CurrentState": {"State": "Terminated", "ExitCode": 0, "StartTime": text(at(31)), "FinishTime": text(at(34))},
        }],
        "Events": [{"Reason": "Pulling", "Message": "", "FirstTimestamp": text(at(30, 10))}],
    }  # fmt: skip
    return row | more


def known(uid: str, **columns: Any) -> PodRecord:
    """A record that was watched."""
    values: dict[str, Any] = {
        "namespace": "ci", "pod_name": "runner-1", "created_at": at(29, 58), "created_known": Known.OBSERVED,
        "observed_at": at(33), "sources": (Source.WATCH,), "job_id": 106,
    }  # fmt: skip
    return PodRecord(cluster="c", pod_uid=uid, **values | columns)


def test_what_eci_states_becomes_columns() -> None:
    """Size, zone, spot, containers and moments of an instance come into a record; its end is billed, its start derived."""
    record = record_of(group(), cluster="c", observed_at=NOW)
    assert (record.instance_spec, record.billed_vcpu, record.billed_memory_gib) == ("4.0-8.0Gi", 4.0, 8.0)
    assert (record.namespace, record.pod_name, record.node_name) == ("ci", "runner-1", "virtual-kubelet-cn-hangzhou-j")
    assert (record.finished_at, record.finished_known, record.finished_source) == (
        at(35), Known.BILLED, "SucceededTime",
    )  # fmt: skip
    assert (record.billing_start_at, record.billing_start_source) == (at(30, 10), "event Pulling")
    assert (record.running_at, record.ended, record.spot, record.final) == (at(31), End.DONE, False, True)
    assert (record.image, record.containers[0].exit_code, record.sources) == ("alpine:3", 0, (Source.ECI,))


def test_without_events_the_start_is_bounded_by_the_order() -> None:
    """CreationTime comes before the charge begins, so without events it is the earliest possible start."""
    record = record_of(group(Events=[], InstanceType="ecs.c6.xlarge"), cluster="c", observed_at=NOW)
    assert (record.billing_start_at, record.billing_start_known) == (at(30), Known.BOUNDED)
    assert (record.billing_start_source, record.ecs_type) == ("CreationTime", "ecs.c6.xlarge")


@pytest.mark.parametrize(
    ("more", "ended", "final"),
    [
        ({"Status": "Expired", "ExpiredTime": text(at(36)), "SucceededTime": None}, End.RECLAIMED, True),
        ({"Status": "Running", "SucceededTime": None}, End.LIVE, False),
        ({"Status": "Scheduling", "SucceededTime": None, "Containers": []}, End.LIVE, False),
    ],
)
def test_ecis_states_are_read(more: dict[str, Any], ended: End, final: bool) -> None:
    """Expired is a reclaimed spot instance; Running and Scheduling have not ended."""
    record = record_of(group(**more), cluster="c", observed_at=NOW)
    assert (record.ended, record.final) == (ended, final)


def test_an_instance_completes_the_pod_that_was_watched() -> None:
    """Joined by its id, an instance gives the record its end, and takes nothing that was known."""
    before = known("uid-1", instance_id="eci-runner-1", image="alpine:3.20")
    result = from_eci([group()], [before], cluster="c", observed_at=NOW)
    (record,) = result.records
    assert result.joins[0].how is Joined.INSTANCE_ID
    assert (record.pod_uid, record.job_id, record.image) == ("uid-1", 106, "alpine:3.20")
    assert (record.created_at, record.created_known) == (at(29, 58), Known.OBSERVED)
    assert (record.finished_known, record.sources) == (Known.BILLED, (Source.WATCH, Source.ECI))


def test_failed_does_not_hide_that_the_pod_was_deleted() -> None:
    """ECI calls the instance of a pod that was deleted while it ran Failed: a watched pod stays deleted, another is unknown."""
    running = [{"Name": "build", "CurrentState": {"State": "Running", "StartTime": text(at(31))}}]
    failed = group(Status="Failed", SucceededTime=None, FailedTime=text(at(35)), Containers=running)
    before = known("uid-1", instance_id="eci-runner-1", ended=End.DELETED, final=True)
    (record,) = from_eci([failed], [before], cluster="c", observed_at=NOW).records
    assert (record.ended, record.finished_at, record.exit_code) == (End.DELETED, at(35), None)
    assert record_of(failed, cluster="c", observed_at=NOW).ended is End.UNKNOWN


def test_reclaimed_is_learned_from_eci() -> None:
    """A pod that was only seen to be gone was reclaimed where ECI says Expired."""
    before = known("uid-1", instance_id="eci-runner-1", ended=End.DELETED, final=True)
    expired = group(Status="Expired", SucceededTime=None, ExpiredTime=text(at(36)))
    (record,) = from_eci([expired], [before], cluster="c", observed_at=NOW).records
    assert record.ended is End.RECLAIMED


def test_a_later_look_of_the_watch_keeps_its_time() -> None:
    """What ECI adds is never stamped older than the record that it completes, or readers would not see it."""
    before = known("uid-1", instance_id="eci-runner-1", observed_at=NOW + timedelta(minutes=1))
    (record,) = from_eci([group()], [before], cluster="c", observed_at=NOW).records
    assert record.observed_at == NOW + timedelta(minutes=1)


def test_events_lead_to_the_pod() -> None:
    """Where the id was not seen, the UID in the instance's events finds the record."""
    rows = [{"ContainerGroupId": "eci-runner-1", "Events": [{"involvedObject": {"Kind": "Pod", "Uid": "uid-1"}}]}]
    result = from_eci([group()], [known("uid-1")], cluster="c", observed_at=NOW, uids=uids_of(rows))
    assert [join.how for join in result.joins] == [Joined.POD_UID]


def test_a_name_counts_only_with_its_time() -> None:
    """Of two pods that had one name, one after the other, the one that lived at the time is meant."""
    earlier = known("uid-0", created_at=at(1), deleted_at=at(10))
    result = from_eci([group()], [earlier, known("uid-1")], cluster="c", observed_at=NOW)
    assert [(join.how, join.record.pod_uid) for join in result.joins] == [(Joined.NAME_AND_TIME, "uid-1")]
    assert result.without_instance == 1


def test_several_of_one_name_and_time_are_not_guessed() -> None:
    """Where two records fit, neither is taken: the instance stands alone, and the report names it."""
    result = from_eci([group()], [known("uid-1"), known("uid-2")], cluster="c", observed_at=NOW)
    assert [(join.how, join.record.pod_uid) for join in result.joins] == [(Joined.AMBIGUOUS, "eci:eci-runner-1")]
    assert "eci-runner-1" in str(result.report())


def test_nobody_watched_is_a_record_of_its_own_once() -> None:
    """An instance without a record becomes one, and the same one when ECI is asked again."""
    first = from_eci([group()], [], cluster="c", observed_at=NOW)
    again = from_eci([group()], first.records, cluster="c", observed_at=NOW + timedelta(minutes=1))
    assert [join.how for join in again.joins] == [Joined.INSTANCE_ID]
    assert [one.pod_uid for one in again.records] == [one.pod_uid for one in first.records] == ["eci:eci-runner-1"]


def test_other_clusters_stay_out() -> None:
    """Instances of other namespaces and records of other clusters take no part."""
    foreign = PodRecord(cluster="other", pod_uid="uid-1", instance_id="eci-runner-1")
    assert from_eci([group()], [foreign], cluster="c", observed_at=NOW).joins[0].how is Joined.NEW
    assert not from_eci([group()], [], cluster="c", observed_at=NOW, namespaces=["web"]).joins


def test_an_empty_list_is_said() -> None:
    """ECI answers an empty list where RAM grants nothing: the report warns and says so."""
    assert "eci:DescribeContainerGroups" in str(from_eci([], [], cluster="c", observed_at=NOW).report())


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[AlibabaCloud]:
    """An Alibaba whose account ran 30 jobs a few minutes ago, one of them reclaimed."""
    journal = JournalWriter(tmp_path / "journal.jsonl", datetime.now(UTC) - timedelta(minutes=20))
    for number in range(30):
        journal.told(number, f"job{number}", "AutoInstanceTypeMatch")
        journal.made(number, f"job{number}", spot=number == 0)
        journal.told(number + 1, f"job{number}", "Pulling", component="kubelet")
        journal.ran(number + 9, f"job{number}")
        reason = "BidFailed" if number == 0 else ""
        journal.ended(number + 300, f"job{number}", started=number + 9, reason=reason)
    with Alibaba(tmp_path / "server", journal=journal.path) as started:
        endpoints = Endpoints(started.url, started.url, started.url)
        yield AlibabaCloud("cn-hangzhou", endpoints, clock=clock(), key=AccessKey(*started.access_key()))


def test_what_the_sdk_reads_can_be_joined(cloud: AlibabaCloud) -> None:
    """Read through Alibaba's own SDK, every instance finds its pod by the events' UID, with end, size and ending."""
    groups = cloud.container_groups()
    uids = uids_of(cloud.container_group_events([one["ContainerGroupId"] for one in groups]))
    seen = [PodRecord(cluster="c", pod_uid=f"uid-job{number}") for number in range(20)]
    result = from_eci(groups, seen, cluster="c", observed_at=datetime.now(UTC), uids=uids)
    assert result.counts()[Joined.POD_UID] == 20 and result.counts()[Joined.NEW] == 10
    records = {one.pod_uid: one for one in result.records}
    assert len(records) == 30 and all(one.finished_known is Known.BILLED for one in records.values())
    assert records["uid-job0"].ended is End.RECLAIMED and records["uid-job0"].spot
    assert {one.ended for uid, one in records.items() if uid != "uid-job0"} == {End.DONE}
    spans = [(one.finished_at - one.billing_start_at).total_seconds() for one in records.values()]  # type: ignore[operator]
    assert all(298 <= span <= 300 for span in spans)
