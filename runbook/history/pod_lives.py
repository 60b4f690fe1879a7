"""The lives of pods as a watch tells them: what was seen goes in, what has to be written comes out. Pure.

    lives.pods_listed(page, now); …; lives.list_ended(at, now)      # who is missing is gone, with a bounded end
    lives.pod_changed("MODIFIED", pod, now); lives.event(event, now)
    records = lives.due(now)             # ended pods, pods seen for the first time, pods in another phase
    store.append(records); lives.acknowledge(records)

A pod is written when it is first seen, when its phase changes and when it has ended, so that of a pod that was ever
seen at least a bounded record is kept, whatever becomes of the collector. What is due stays due until it is
acknowledged. Events may come after the end (StopCharge): the record of a pod is then written again, for LATE.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from runbook.history.api_objects import Pod, PodEvent
from runbook.history.observation import gone, pod_record
from runbook.history.pod_stream import DELETED
from runbook.history.record import PodRecord

LATE = timedelta(minutes=5)
"""How long after its end a pod is remembered for events that are still to come."""

UNCLAIMED = timedelta(hours=1)
"""How long an event waits for a pod that was never seen; the API server forgets events after this time as well."""


@dataclass(slots=True)
class Life:
    """What is known of one pod. `pod` is None where only an earlier run's record is left of it."""

    pod: Pod | None = None
    earlier: PodRecord | None = None
    events: dict[str, PodEvent] = field(default_factory=dict)
    ended_at: datetime | None = None
    missing: bool = False
    """It was not seen to end: at a later look it was not there."""
    due: bool = False
    seen_at: datetime | None = None

    @property
    def version(self) -> int:
        return _version(self.pod.metadata.resource_version) if self.pod else 0

    @property
    def phase(self) -> str | None:
        return self.pod.status.phase if self.pod else None


class Lives:
    """The pods of one cluster, from their first sight until LATE after their end.

    `open_records` are those that earlier runs left unfinished. `region` and `gitlab_host` are the card's.
    """

    def __init__(
        self,
        cluster: str,
        *,
        region: str | None = None,
        gitlab_host: str | None = None,
        open_records: Iterable[PodRecord] = (),
    ) -> None:
        self._cluster, self._region, self._gitlab_host = cluster, region, gitlab_host
        self._lives = {
            one.pod_uid: Life(earlier=one) for one in open_records if one.cluster == cluster and not one.final
        }
        self._listed: set[str] = set()
        self._unclaimed: dict[str, list[PodEvent]] = {}
        self.ended = 0
        """Pods whose end was seen, or found out, so far."""
        self.bounded = 0
        """Those of them that were only found missing."""

    @property
    def live(self) -> int:
        """Pods that are there now."""
        return sum(1 for life in tuple(self._lives.values()) if life.ended_at is None)

    @property
    def waiting(self) -> int:
        """Pods with something that is not written yet."""
        return sum(1 for life in self._lives.values() if life.due)

    def pods_listed(self, pods: Iterable[Pod], now: datetime) -> None:
        """One page of the pod list; `list_ended` after the last one."""
        for pod in pods:
            self._listed.add(pod.metadata.uid)
            self._see(pod, now)

    def list_ended(self, resource_version: int, now: datetime) -> None:
        """The list as of `resource_version` is complete: a pod last seen before it and not in it is gone."""
        for uid, life in self._lives.items():
            if uid not in self._listed and life.ended_at is None and life.version <= resource_version:
                self._end(life, now, missing=True)
        self._listed = set()

    def pod_changed(self, verb: str, pod: Pod, now: datetime) -> None:
        """One line of the pod watch. A line that is older than what is known, or about the dead, changes nothing."""
        life = self._see(pod, now)
        if verb == DELETED and (life.ended_at is None or life.missing):
            life.pod = pod
            self._end(life, now, missing=False)

    def event(self, event: PodEvent, now: datetime) -> None:
        """An event on a pod, whether its pod was seen already or not."""
        uid = event.involved_object.uid
        life = self._lives.get(uid)
        if life is None:
            self._unclaimed.setdefault(uid, []).append(event)
            return
        known = life.events.get(event.metadata.uid)
        life.events[event.metadata.uid] = event
        if life.ended_at and (known is None or known.count != event.count):
            life.due = life.due or life.pod is not None

    def due(self, now: datetime) -> list[PodRecord]:
        """What has to be written now."""
        return [self._record(life, now) for life in self._lives.values() if life.due]

    def observations(self, now: datetime) -> list[PodRecord]:
        """What is due, and an observation of each pod that is still there: for the end of a run."""
        return [
            self._record(life, now)
            for life in self._lives.values()
            if life.due or (life.ended_at is None and life.pod is not None)
        ]

    def acknowledge(self, records: Sequence[PodRecord], now: datetime) -> None:
        """These are safely stored. Forgets pods that ended LATE ago, and events that no pod has claimed."""
        for record in records:
            life = self._lives.get(record.pod_uid)
            if life is not None:
                life.due, life.earlier = False, record
        self._lives = {uid: one for uid, one in self._lives.items() if not self._over(one, now)}
        self._unclaimed = {uid: kept for uid, told in self._unclaimed.items() if (kept := _recent(told, now))}

    def _see(self, pod: Pod, now: datetime) -> Life:
        uid = pod.metadata.uid
        life = self._lives.setdefault(uid, Life())
        if life.ended_at is not None or _version(pod.metadata.resource_version) <= life.version:
            return life
        for event in self._unclaimed.pop(uid, ()):
            life.events[event.metadata.uid] = event
        life.due = life.due or life.phase != pod.status.phase
        life.pod, life.seen_at = pod, now
        return life

    def _end(self, life: Life, now: datetime, *, missing: bool) -> None:
        if not life.missing:
            self.ended += 1
        self.bounded += missing - life.missing
        life.ended_at, life.missing, life.due = now, missing, True

    def _record(self, life: Life, now: datetime) -> PodRecord:
        """Its state as of its end, or of now. Without the pod itself what an earlier run knew, ended."""
        at = life.ended_at or now
        if life.pod is None:
            if life.earlier is None:
                raise ValueError("a life is of a pod or of an earlier record")
            return gone(life.earlier, observed_at=at)
        deleted = life.ended_at is not None and not life.missing
        seen = at if deleted or life.ended_at is None else (life.seen_at or at)
        record = pod_record(
            life.pod,
            life.events.values(),
            cluster=self._cluster,
            region=self._region,
            gitlab_host=self._gitlab_host,
            observed_at=seen,
            deleted=deleted,
            earlier=life.earlier,
        )
        return gone(record, observed_at=at) if life.missing else record

    def _over(self, life: Life, now: datetime) -> bool:
        return life.ended_at is not None and not life.due and now - life.ended_at > LATE


def _recent(events: list[PodEvent], now: datetime) -> list[PodEvent]:
    return [one for one in events if now - (one.last_timestamp or one.event_time or now) < UNCLAIMED]


def _version(text: str) -> int:
    return int(text) if text.isdigit() else 0
