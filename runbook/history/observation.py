"""A pod and its events, as they were seen at one moment, become a record.

    record = pod_record(pod, events, cluster="…", observed_at=now)
    record = gone(record, observed_at=now)               # it was there, and at the next look it was not

Pure: everything that was seen goes in, one PodRecord comes out. The Structs that are read are those of `api_objects`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from runbook.eci import billing_window, endings, vocabulary
from runbook.eci.billing_window import Known, Moment
from runbook.eci.endings import End
from runbook.eci.signs import Condition, Container, Event, Signs
from runbook.history import sizes, whose_job
from runbook.history.api_objects import ContainerStatus, Pod, PodEvent
from runbook.history.record import PodRecord, Source, merged

MISSING = "missing at the next look"
"""Of what is known of a pod only because it was there at one look and not at the next."""

_ZONE = re.compile(r"^(?P<region>.+\d(?=[a-z]$)|.+(?=-[a-z]$))")


def pod_record(
    pod: Pod,
    events: Iterable[PodEvent] = (),
    *,
    cluster: str,
    observed_at: datetime,
    region: str | None = None,
    gitlab_host: str | None = None,
    deleted: bool = False,
    earlier: PodRecord | None = None,
    source: Source = Source.WATCH,
) -> PodRecord:
    """The record of one pod as it was seen at `observed_at` (aware, UTC), with those of its events that are known.

    `region` and `gitlab_host` are those of the card, for pods that do not say. `deleted` says that this was the last of
    it: the watch told DELETED. `earlier` is an older record of the same pod; what it knew better is kept. Raises
    ValueError where it is a record of another pod, QuantityError for sizes that are no Kubernetes quantities.
    """
    signs = signs_of(pod, events, observed_at=observed_at, deleted=deleted, earlier=earlier)
    notes, meta = pod.metadata.annotations or {}, pod.metadata
    zone = notes.get(vocabulary.INSTANCE_ZONE) or _zone_of_node(pod.spec.node_name)
    job = whose_job.columns(pod)
    record = PodRecord(
        cluster=cluster,
        pod_uid=meta.uid,
        namespace=meta.namespace or None,
        pod_name=meta.name or None,
        node_name=pod.spec.node_name or None,
        zone=zone,
        region=_region_of(zone) or region,
        sources=(source,),
        final=deleted,
        observed_at=observed_at,
        resource_version=int(meta.resource_version) if meta.resource_version.isdigit() else 0,
        **job | {"gitlab_host": job.get("gitlab_host") or gitlab_host},
        **sizes.requested(pod.spec, signs.containers),
        **sizes.billed(signs, notes),
        **_moments(signs, deleted=deleted, observed_at=observed_at),
        **_ending(signs),
    )
    return merged(earlier, record) if earlier else record


def gone(record: PodRecord, *, observed_at: datetime) -> PodRecord:
    """A pod that was there, and at the look at `observed_at` was not.

    Its end is bounded; why it ended is unknown unless that had been seen before.
    """
    if record.final:
        return record
    started = record.billing_start_known not in (Known.NEVER, Known.UNKNOWN)
    finish = Moment(observed_at, Known.BOUNDED, MISSING) if started else Moment(None, Known.UNKNOWN, MISSING)
    return msgspec.structs.replace(
        record,
        final=True,
        observed_at=observed_at,
        **(_perhaps_since(record) if record.ended is End.LIVE else {}),
        **(_columns("finished", finish, with_source=True) if record.finished_at is None else {}),
        **(_columns("deleted", Moment(observed_at, Known.BOUNDED)) if record.deleted_at is None else {}),
        **({"ended": End.UNKNOWN, "ended_evidence": MISSING} if record.ended is End.LIVE else {}),
    )


def _perhaps_since(record: PodRecord) -> dict[str, Any]:
    """Moments that had not come when the pod was last seen may have come since: nobody knows."""
    values: dict[str, Any] = {}
    for name in ("scheduled", "billing_start", "pulled", "running"):
        if getattr(record, f"{name}_known") is Known.NEVER:
            values |= _columns(name, Moment(None, Known.UNKNOWN, MISSING), with_source=name == "billing_start")
    return values


def signs_of(
    pod: Pod,
    events: Iterable[PodEvent] = (),
    *,
    observed_at: datetime,
    deleted: bool = False,
    earlier: PodRecord | None = None,
) -> Signs:
    """What a pod and its events show, in the words of `runbook.eci`. Events of other objects are left out."""
    status, notes, meta = pod.status, pod.metadata.annotations or {}, pod.metadata
    minutes = notes.get(vocabulary.MAX_PENDING_MINUTE, "")
    limit = int(minutes) if minutes.isdigit() else vocabulary.MAX_PENDING_MINUTE_DEFAULT
    asked = meta.deletion_timestamp
    if asked and meta.deletion_grace_period_seconds:
        asked -= timedelta(seconds=meta.deletion_grace_period_seconds)
    over = status.phase in ("Failed", "Succeeded")
    return Signs(
        phase=status.phase,
        reason=status.reason,
        message=status.message,
        instance_id=notes.get(vocabulary.INSTANCE_ID),
        conditions=tuple(
            Condition(one.type, one.status == "True", one.reason, one.last_transition_time)
            for one in status.conditions or ()
        ),
        events=tuple(_events_of(pod, events)),
        containers=tuple(
            _container(one, init)
            for init, statuses in ((True, status.init_container_statuses), (False, status.container_statuses))
            for one in statuses or ()
        ),
        created_at=meta.creation_timestamp,
        start_at=status.start_time,
        over_at=observed_at if over else None,
        deleted_at=asked or (observed_at if deleted else None),
        gone_at=observed_at if deleted else None,
        pending_limit=timedelta(minutes=limit),
    )


def _events_of(pod: Pod, events: Iterable[PodEvent]) -> list[Event]:
    """The events of this pod, in order; told events of a namesake that lived before have another UID."""
    uid = pod.metadata.uid
    own = [one for one in events if one.involved_object.uid in (uid, "")]
    told = [Event(one.reason, one.event_time or one.first_timestamp or one.last_timestamp, one.message) for one in own]
    return sorted(told, key=lambda one: one.at.timestamp() if one.at else 0.0)


def _container(status: ContainerStatus, init: bool) -> Container:
    state, last = status.state, status.last_state.terminated
    ended, running, waiting = state.terminated, state.running, state.waiting
    first_start = (last and last.started_at) or (running and running.started_at) or (ended and ended.started_at)
    shown = ended or (last if waiting else None)
    return Container(
        status.name,
        init,
        started_at=first_start or None,
        finished_at=shown.finished_at if shown else None,
        exit_code=shown.exit_code if shown else None,
        reason=shown.reason if shown else None,
        waiting=waiting.reason if waiting else None,
    )


def _ending(signs: Signs) -> dict[str, Any]:
    ending = endings.judge(signs)
    return {
        "ended": ending.how,
        "ended_evidence": ending.evidence,
        "failed_container": ending.container,
        "exit_code": ending.exit_code,
    }


def _columns(name: str, moment: Moment, *, with_source: bool = False) -> dict[str, Any]:
    columns: dict[str, Any] = {f"{name}_at": moment.at, f"{name}_known": moment.known}
    return columns | {f"{name}_source": moment.source} if with_source else columns


def _moments(signs: Signs, *, deleted: bool, observed_at: datetime) -> dict[str, Any]:
    """The seven moments as columns."""
    scheduled = signs.condition("PodScheduled", True)
    main = [one for one in signs.containers if not one.init]
    ran = min((one.started_at for one in main if one.started_at), default=None)
    pulled = max((one.at for one in signs.told("Pulled") if one.at), default=None)
    begun = min((one.started_at for one in signs.containers if one.started_at), default=None)
    removed = observed_at if deleted and signs.deleted_at == observed_at else signs.deleted_at
    return (
        _columns("created", _observed(signs.created_at, Known.UNKNOWN))
        | _columns("scheduled", _observed(scheduled.at if scheduled else None, Known.NEVER))
        | _columns("billing_start", billing_window.start(signs), with_source=True)
        | _columns("pulled", _pulled(pulled, begun))
        | _columns("running", _observed(ran, Known.NEVER))
        | _columns("finished", billing_window.end(signs), with_source=True)
        | _columns("deleted", _observed(removed, Known.NEVER))
    )


def _observed(at: datetime | None, otherwise: Known) -> Moment:
    return Moment(at, Known.OBSERVED) if at else Moment(None, otherwise)


def _pulled(told: datetime | None, begun: datetime | None) -> Moment:
    """Told by the last event Pulled; without one, images were there when the first container started."""
    if told:
        return Moment(told, Known.OBSERVED)
    return Moment(begun, Known.BOUNDED) if begun else Moment(None, Known.NEVER)


def _zone_of_node(node: str) -> str | None:
    prefix = vocabulary.NODE_NAME_PREFIX
    return node.removeprefix(prefix) or None if node.startswith(prefix) else None


def _region_of(zone: str | None) -> str | None:
    """`cn-hangzhou-j` is in `cn-hangzhou`, `ap-northeast-1b` in `ap-northeast-1`."""
    match = _ZONE.match(zone or "")
    return match["region"] if match else None
