"""What ECI's API still knows of instances becomes records, and completes those that are there.

    completed = from_eci(groups, known, cluster="…", observed_at=now, uids=uids_of(events))

ECI knows instances, not pods: its list has no UID, and names only by tags. So an instance is joined to the records that
are there by its id, else by the UID that its events tell, else by namespace, name and time. A name may stand for several
pods, one after the other: only records whose life overlaps the instance's are meant, and where several do, none is taken.
An instance without a record becomes one of its own, under its pod's UID where events tell it, else `eci:INSTANCE`.

Pure. What ECI states of an end (`SucceededTime`, `FailedTime`, `ExpiredTime`) is when its charge ended, and is *billed*;
when the charge began no field states: it is derived from the events, like a pod's, or bounded by `CreationTime`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec

from runbook import moments
from runbook.eci import billing_window, endings, vocabulary
from runbook.eci.signs import FAILED, SUCCEEDED, Container, Event, Signs
from runbook.history.record import ContainerRecord, End, Known, PodRecord, Source, identity, merged
from runbook.report import Check, Report

Row = Mapping[str, Any]

FREE_EPHEMERAL_GIB = 30
"""What every instance has without paying for it (product-overview/temporary-storage-space)."""

LOOKBACK = timedelta(days=1)
"""How long before ECI took the order for an instance its pod may have been created, at most."""

_PHASES = {"Succeeded": SUCCEEDED, "Failed": FAILED, "Expired": FAILED, "Running": "Running", "Terminating": "Running"}
"""Phase of the pod by ECI's status; every other status is Pending (lifecycle-of-an-elastic-container-instance-2)."""
_END_FIELDS = ("SucceededTime", "FailedTime", "ExpiredTime")
_SHOWN = 10


class Joined(StrEnum):
    """How an instance found its record."""

    INSTANCE_ID = "instance id"
    POD_UID = "pod UID"
    NAME_AND_TIME = "name and time"
    AMBIGUOUS = "several of that name and time"
    NEW = "no record before"


@dataclass(frozen=True)
class Join:
    """One instance and the record that it is part of now."""

    instance_id: str
    how: Joined
    record: PodRecord


@dataclass(frozen=True)
class Completed:
    """What ECI's list gave. `joins` has a line each instance; `without_instance` are known pods that ECI did not name."""

    joins: tuple[Join, ...]
    without_instance: int

    @property
    def records(self) -> tuple[PodRecord, ...]:
        """The records to be stored: completed ones, and new ones. Several instances of one pod are one record."""
        held: dict[tuple[str, str], PodRecord] = {}
        for join in self.joins:
            before = held.get(identity(join.record))
            held[identity(join.record)] = merged(before, join.record) if before else join.record
        return tuple(held.values())

    def counts(self) -> dict[str, int]:
        """Instances by how they found their record, zeros too."""
        counted = Counter(join.how for join in self.joins)
        return {how.value: counted[how] for how in Joined}

    def report(self) -> Report:
        """How well ECI's list matched what was there."""
        facts = {how: str(count) for how, count in self.counts().items()}
        facts["known pods that ECI no longer names"] = str(self.without_instance)
        return Report("ECI's instances and the history", [self._named(), self._joined()], facts)

    def _named(self) -> Check:
        title = "ECI names instances"
        if self.joins:
            return Check.passed("alibaba-cloud", title, f"{len(self.joins)} instances")
        return Check.warned(
            "alibaba-cloud",
            title,
            "none",
            expected="at least one, where jobs ran within the last hour",
            remedy="If jobs did run: grant eci:DescribeContainerGroups. Without it ECI answers an empty list, not an error.",
        )

    def _joined(self) -> Check:
        title = "Every instance belongs to one pod"
        doubtful = [join.instance_id for join in self.joins if join.how is Joined.AMBIGUOUS]
        if not doubtful:
            return Check.passed("alibaba-cloud", title, f"{len(self.joins)} of {len(self.joins)}")
        shown = ", ".join(doubtful[:_SHOWN]) + (" …" if len(doubtful) > _SHOWN else "")
        return Check.warned(
            "alibaba-cloud",
            title,
            f"{len(doubtful)} fit several pods: {shown}",
            expected="one pod each",
            remedy="Ask for their events too (DescribeContainerGroupEvents): they name the pod's UID.",
        )


def uids_of(rows: Iterable[Row]) -> dict[str, str]:
    """Pod UID by instance id, from the rows of DescribeContainerGroupEvents."""
    found: dict[str, str] = {}
    for row in rows:
        told = ((event.get("involvedObject") or {}) for event in row.get("Events") or [])
        uid = next((one["Uid"] for one in told if one.get("Kind") == "Pod" and one.get("Uid")), None)
        if uid:
            found[str(row["ContainerGroupId"])] = str(uid)
    return found


def from_eci(
    groups: Iterable[Row],
    known: Iterable[PodRecord] = (),
    *,
    cluster: str,
    observed_at: datetime,
    uids: Mapping[str, str] | None = None,
    namespaces: Sequence[str] = (),
) -> Completed:
    """Join the rows of DescribeContainerGroups with the records of a cluster.

    A region's list has the instances of all clusters of the account: `namespaces` leaves out what is in none of them and
    is known by no id. Records of other clusters stay out of the join. Raises ValueError for a row without an instance id.
    """
    index = _Index([one for one in known if one.cluster == cluster])
    joins = []
    for group in groups:
        if not group.get("ContainerGroupId"):
            raise ValueError("a row of DescribeContainerGroups has no ContainerGroupId")
        seen = record_of(
            group, cluster=cluster, observed_at=observed_at, uid=(uids or {}).get(group["ContainerGroupId"])
        )
        how, before = index.find(seen)
        elsewhere = namespaces and seen.namespace not in namespaces
        if elsewhere and how not in (Joined.INSTANCE_ID, Joined.POD_UID):
            continue
        joins.append(Join(str(seen.instance_id), how, _completed(before, seen) if before else seen))
    named = {identity(join.record) for join in joins}
    return Completed(tuple(joins), sum(identity(one) not in named for one in index.records))


def record_of(group: Row, *, cluster: str, observed_at: datetime, uid: str | None = None) -> PodRecord:
    """One row of DescribeContainerGroups as a record by itself."""
    tags = {tag["Key"]: tag.get("Value") for tag in group.get("Tags") or []}
    signs = signs_of(group, observed_at)
    start, end = billing_window.start(signs), _end(group, signs)
    ending = _ending(signs)
    main = [one for one in signs.containers if not one.init]
    pulled = max((one.at for one in signs.told("Pulled") if one.at), default=None)
    running = min((one.started_at for one in main if one.started_at), default=None)
    containers = tuple(_container_records(group, signs))
    return PodRecord(
        cluster=cluster,
        pod_uid=uid or f"eci:{group['ContainerGroupId']}",
        namespace=tags.get("NameSpace"),
        pod_name=tags.get("PodName"),
        region=group.get("RegionId"),
        zone=group.get("ZoneId"),
        node_name=f"{vocabulary.NODE_NAME_PREFIX}{group['ZoneId']}" if group.get("ZoneId") else None,
        sources=(Source.ECI,),
        final=signs.ended,
        observed_at=observed_at,
        image=next((one.image for one in containers if one.kind == "build"), None),
        containers=containers,
        **_billed(group),
        created_at=signs.created_at,
        created_known=Known.BOUNDED if signs.created_at else Known.UNKNOWN,
        billing_start_at=start.at,
        billing_start_known=start.known,
        billing_start_source="CreationTime" if start.source == "metadata.creationTimestamp" else start.source,
        pulled_at=pulled,
        pulled_known=Known.OBSERVED if pulled else Known.UNKNOWN,
        running_at=running,
        running_known=Known.OBSERVED if running else Known.NEVER if signs.ended else Known.UNKNOWN,
        finished_at=end.at,
        finished_known=end.known,
        finished_source=end.source,
        ended=ending.how,
        ended_evidence=ending.evidence,
        failed_container=ending.container,
        exit_code=ending.exit_code,
    )


def signs_of(group: Row, observed_at: datetime) -> Signs:
    """What an instance shows, in the words of `runbook.eci`."""
    status = str(group.get("Status") or "")
    phase = _PHASES.get(status, "Pending")
    told = (
        Event(row["Reason"], _at(row.get("FirstTimestamp")), row.get("Message") or "")
        for row in group.get("Events") or []
    )
    return Signs(
        phase=phase,
        reason="BidFailed" if status == "Expired" else None,
        instance_id=group["ContainerGroupId"],
        events=tuple(sorted(told, key=lambda one: one.at.timestamp() if one.at else 0.0)),
        containers=tuple(
            _container(row, init)
            for init, rows in ((True, group.get("InitContainers")), (False, group.get("Containers")))
            for row in rows or []
        ),
        created_at=_at(group.get("CreationTime")),
        over_at=observed_at if phase in (FAILED, SUCCEEDED) else None,
    )


def _at(text: str | None) -> datetime | None:
    return moments.parse(text) if text else None


def _container(row: Row, init: bool) -> Container:
    state, before = row.get("CurrentState") or {}, row.get("PreviousState") or {}
    over = state.get("State") == "Terminated"
    return Container(
        row["Name"],
        init,
        started_at=_at(before.get("StartTime") or state.get("StartTime")),
        finished_at=_at(state.get("FinishTime")) if over else None,
        exit_code=state.get("ExitCode") if over else None,
        reason=state.get("Reason") if over else None,
        waiting=state.get("Reason") if state.get("State") == "Waiting" else None,
    )


def _end(group: Row, signs: Signs) -> billing_window.Moment:
    """ECI's own word for the end, else what the instance shows."""
    field = next((name for name in _END_FIELDS if group.get(name)), None)
    if field is None:
        return billing_window.end(signs)
    return billing_window.Moment(_at(group[field]), Known.BILLED, field)


def _ending(signs: Signs) -> endings.Ending:
    """How it ended. An instance that is Failed without a container that failed may have been deleted as well."""
    ending = endings.judge(signs)
    unexplained = ending.how is End.FAILED and ending.container is None
    return endings.Ending(End.UNKNOWN, "ECI: Failed, and no container shows why") if unexplained else ending


def _billed(group: Row) -> dict[str, Any]:
    strategy, kind = group.get("SpotStrategy"), group.get("InstanceType") or None
    vcpu, memory = group.get("Cpu"), group.get("Memory")
    sized = f"{float(vcpu)}-{float(memory)}Gi" if vcpu is not None and memory is not None else None
    extra = (group.get("EphemeralStorage") or 0) - FREE_EPHEMERAL_GIB
    return {
        "instance_id": group["ContainerGroupId"],
        "instance_spec": kind or sized,
        "billed_vcpu": None if vcpu is None else float(vcpu),
        "billed_memory_gib": None if memory is None else float(memory),
        "ecs_type": kind,
        "compute_category": group.get("ComputeCategory"),
        "spot": None if strategy is None else strategy != vocabulary.NO_SPOT,
        "spot_requested": True if strategy not in (None, vocabulary.NO_SPOT) else None,
        "extra_ephemeral_gib": float(extra) if extra > 0 else None,
    }


def _container_records(group: Row, signs: Signs) -> Iterable[ContainerRecord]:
    images = {row["Name"]: row.get("Image") for key in ("InitContainers", "Containers") for row in group.get(key) or []}
    for one in signs.containers:
        kind = "init" if one.init else one.name if one.name in ("build", "helper") else "service"
        yield ContainerRecord(
            name=one.name,
            kind=kind,
            image=images.get(one.name),
            exit_code=one.exit_code,
            reason=one.reason or one.waiting,
            started_at=one.started_at,
            finished_at=one.finished_at,
        )


class _Index:
    """The records that are there, by what an instance may be known by."""

    def __init__(self, records: Sequence[PodRecord]) -> None:
        self.records = records
        self._by_instance = _grouped(records, lambda one: one.instance_id)
        self._by_uid = _grouped(records, lambda one: one.pod_uid)
        self._by_name = _grouped(records, lambda one: (one.namespace, one.pod_name) if one.pod_name else None)

    def find(self, seen: PodRecord) -> tuple[Joined, PodRecord | None]:
        """The record of an instance, and how it was found; None where there is none, or not one alone."""
        for how, found in (
            (Joined.INSTANCE_ID, self._by_instance.get(seen.instance_id, [])),
            (Joined.POD_UID, self._by_uid.get(seen.pod_uid, [])),
        ):
            if found:
                return how, found[0]
        namesakes = self._by_name.get((seen.namespace, seen.pod_name), []) if seen.pod_name else []
        meant = [one for one in namesakes if one.instance_id is None and _overlap(one, seen)]
        if len(meant) == 1:
            return Joined.NAME_AND_TIME, meant[0]
        return (Joined.AMBIGUOUS if meant else Joined.NEW), None


def _grouped(records: Iterable[PodRecord], key: Callable[[PodRecord], Any]) -> dict[Any, list[PodRecord]]:
    groups: dict[Any, list[PodRecord]] = defaultdict(list)
    for record in records:
        if key(record) is not None:
            groups[key(record)].append(record)
    return groups


def _overlap(one: PodRecord, other: PodRecord) -> bool:
    """Whether two lives have a moment in common; an end that is not known is still to come."""
    starts = [each.created_at or each.billing_start_at or each.running_at for each in (one, other)]
    ends = [each.deleted_at or each.finished_at for each in (one, other)]
    if starts[0] is None or starts[1] is None:
        return False
    return (ends[1] is None or starts[0] <= ends[1]) and (ends[0] is None or starts[1] <= ends[0])


_PLAIN_ENDS = (End.DONE, End.DELETED, End.FAILED, End.UNKNOWN)
"""Ends of which the pod itself says more than its instance: that of a pod deleted while it ran is Failed, too."""


def _completed(before: PodRecord, seen: PodRecord) -> PodRecord:
    """A known record with what ECI adds. Containers, names and ends that were watched say more than ECI's, and stay."""
    kept = ("containers", "image", "node_name", "namespace", "pod_name", "instance_spec", "compute_category")
    values = {name: getattr(before, name) for name in kept if getattr(before, name) not in (None, ())}
    if before.ended not in (End.LIVE, End.UNKNOWN) and seen.ended in _PLAIN_ENDS:
        values |= {name: getattr(before, name) for name in ("ended", "ended_evidence", "failed_container", "exit_code")}
    return merged(
        before,
        msgspec.structs.replace(
            seen,
            pod_uid=before.pod_uid,
            resource_version=before.resource_version,
            job_known=before.job_known,
            observed_at=max(before.observed_at, seen.observed_at),
            **values,
        ),
    )
