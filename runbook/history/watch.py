"""The collector: watches the pods of a cluster and their events, and stores what becomes of each.

    report = watch.collect(client, settings, store, minutes=55)

Two threads read, one for pods and one for events; each lists once and then follows a watch, whatever happens to the
connection. A bounded queue leads to the one thread that keeps the lives (`pod_lives`) and writes. Nothing counts as
collected before the store has acknowledged it, and only then is the place in the watch saved from which the next run
goes on: pods that end between two runs are told to the second one. Where the API server has forgotten that place
(410: a long pause, a restart), a new list says who is gone, and their ends are *bounded*.

Two collectors at once do no harm: both write the same pods, and readers take the newest observation of each.
"""

from __future__ import annotations

import json
import os
import queue
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from runbook.errors import KubernetesError, RunbookError
from runbook.history import pod_stream
from runbook.history.api_objects import EventList, Pod, PodEvent, PodList
from runbook.history.pod_lives import Lives
from runbook.history.pod_stream import BOOKMARK, Broken, Expired, ObjectStream
from runbook.history.record import PodRecord, Source
from runbook.moments import Clock, duration
from runbook.report import Check, Report
from runbook.settings import Settings

if TYPE_CHECKING:
    from runbook.clients.kubernetes import Cluster

TITLE = "Pod history"

WATCH_SECONDS = 270
"""How long one watch lasts before it is asked for again; the API server's own limit is five to ten minutes."""

CATCH_UP_SECONDS = 2
"""How long the watch of what an earlier run missed lasts at most, each time it is asked."""

FLUSH_SECONDS = 5.0
"""How often what is due is written: events of a pod's end come a moment after it."""

PROGRESS_SECONDS = 30.0
BACKLOG = 20_000
"""Changes that may wait; more are left to the API server, which keeps them for us."""

LAGGING_SECONDS = 60.0
"""Lag that is worth a warning."""

RECONNECTING_SECONDS = 5.0
"""How long a watch may be broken before it counts as not connected: most are taken up again at once."""

PATIENCE = (0.5, 1, 2, 4, 8, 15)
"""Seconds between tries to reach an API server that is away; the last one again and again."""


class Store(Protocol):
    """Where records go."""

    def append(self, records: Sequence[PodRecord]) -> object:
        """Store them; they are safe when this returns. Raises RunbookError or OSError."""

    def live(self) -> Iterable[PodRecord]:
        """The newest observation of each pod whose end is not known."""


@dataclass(frozen=True)
class Place:
    """The file that keeps the resource version from which the next run goes on: of one API server and namespace."""

    path: Path
    server: str

    def load(self) -> str | None:
        """The version, or None where there is none that this API server would understand."""
        try:
            kept = json.loads(self.path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        known = isinstance(kept, dict) and kept.get("server") == self.server
        return str(kept["resource_version"]) if known and kept.get("resource_version") else None

    def save(self, resource_version: str) -> None:
        """Replace the file as a whole. A version that is lost costs nothing but exactness, so it is not synced."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(f".{os.getpid()}.tmp")
        beside.write_text(json.dumps({"server": self.server, "resource_version": resource_version}), encoding="utf-8")
        beside.replace(self.path)


@dataclass(frozen=True)
class Message:
    """What a reader found. `apply` tells it to the lives; `version` is where the pod watch stands then, if it moved."""

    apply: Callable[[Lives, datetime], None] | None
    received: float
    version: str | None = None
    failure: BaseException | None = None


class Reader(threading.Thread):
    """Reads one kind: lists, follows, resumes. `place` is where an earlier run stopped."""

    def __init__(self, stream: ObjectStream[Any, Any], out: queue.Queue[Message], place: str | None = None) -> None:
        super().__init__(daemon=True, name=f"watch-{stream.kind}")
        self._stream, self._out, self._place = stream, out, place
        self._over = threading.Event()
        self.resumed = self.relisted = 0
        self._trouble: str | None = None
        self._lost_at = 0.0
        self.connected_once = False

    def run(self) -> None:
        """Until `stop`. A failure before the first list is the caller's: the account or the address is wrong."""
        tries, version = 0, self._place
        listed = False
        while not self._over.is_set():
            try:
                if not listed:
                    version = self._list(version)
                    listed, self.connected_once = True, True
                    self.relisted += 1
                version = self._follow(version or "0", WATCH_SECONDS)
                tries, self._trouble = 0, None
            except Expired:
                version, listed = None, False
            except Broken as error:
                if self._over.is_set():
                    return
                version, self.resumed = self._reached, self.resumed + 1
                self._trouble, self._lost_at = str(error), time.monotonic()
                self._pause(0)
            except KubernetesError as error:
                if not self.connected_once:
                    self._out.put(Message(None, time.monotonic(), failure=error))
                    return
                version = self._reached or version
                self._lost_at = self._lost_at if self._trouble else time.monotonic()
                self._trouble = error.problem
                self._pause(tries)
                tries += 1
            except Exception as error:  # a thread's fault must reach the caller, or it would be a silent gap
                self._out.put(Message(None, time.monotonic(), failure=error))
                return

    @property
    def trouble(self) -> str | None:
        """Why it is not connected now, and has not been for RECONNECTING_SECONDS."""
        recent = time.monotonic() - self._lost_at < RECONNECTING_SECONDS
        return None if self._stream.connected or recent else self._trouble

    def stop(self) -> None:
        self._over.set()
        self._stream.stop()

    _reached: str | None = None

    def _list(self, since: str | None) -> str:
        """List, tell what happened since an earlier run, and say that the list is complete. Returns its version."""
        version = "0"
        for page in self._stream.pages():
            version = page.metadata.resource_version
            self._tell(_page(page))
        if since is not None:
            try:
                self._catch_up(since, int(version))
            except Expired:
                pass  # what happened meanwhile is forgotten: the list alone has to do
        if self._stream.kind == "Pod":
            self._tell(lambda lives, now: lives.list_ended(int(version), now), version)
        self._reached = version
        return version

    def _catch_up(self, since: str, until: int) -> None:
        """Tell everything between an earlier run's place and the list, so that pods that ended meanwhile are seen to end."""
        reached = since
        while int(reached) < until and not self._over.is_set():
            before = reached
            for change in self._stream.changes(reached, seconds=CATCH_UP_SECONDS):
                reached = change.resource_version
                if change.verb != BOOKMARK:
                    self._tell(_change(change.verb, change.object))
            if reached == before:
                return

    def _follow(self, version: str, seconds: float) -> str:
        self._reached = version
        for change in self._stream.changes(version, seconds=seconds * random.uniform(0.9, 1)):
            self._reached = change.resource_version
            moved = change.resource_version if self._stream.kind == "Pod" else None
            self._tell(None if change.verb == BOOKMARK else _change(change.verb, change.object), moved)
            if self._over.is_set():
                break
        return self._reached

    def _tell(self, apply: Callable[[Lives, datetime], None] | None, version: str | None = None) -> None:
        message = Message(apply, time.monotonic(), version)
        while not self._over.is_set():
            try:
                self._out.put(message, timeout=0.5)
                return
            except queue.Full:
                continue

    def _pause(self, tries: int) -> None:
        self._over.wait(PATIENCE[min(tries, len(PATIENCE) - 1)])


def _page(page: PodList | EventList) -> Callable[[Lives, datetime], None]:
    def apply(lives: Lives, now: datetime) -> None:
        if isinstance(page, PodList):
            lives.pods_listed(page.items, now)
        else:
            for event in page.items:
                lives.event(event, now)

    return apply


def _change(verb: str, found: Pod | PodEvent | None) -> Callable[[Lives, datetime], None]:
    def apply(lives: Lives, now: datetime) -> None:
        if isinstance(found, Pod):
            lives.pod_changed(verb, found, now)
        elif isinstance(found, PodEvent) and verb != pod_stream.DELETED:
            lives.event(found, now)

    return apply


@dataclass
class Progress:
    """What a run has done so far, and what still waits."""

    stored: int = 0
    """Records that the store has acknowledged."""
    changes: int = 0
    ended: int = 0
    bounded: int = 0
    live: int = 0
    backlog: int = 0
    """Changes read and not yet looked at, at this moment."""
    lag: float = 0.0
    """Seconds between reading the change looked at last and looking at it."""
    worst_lag: float = 0.0
    reconnects: int = 0
    lists: int = 0
    trouble: str | None = None

    def __str__(self) -> str:
        said = (
            f"{self.live} pods there, {self.ended} ended ({self.bounded} bounded), {self.stored} records stored, "
            f"backlog {self.backlog}, lag {duration(self.lag)}"
        )
        return said + (f"; {self.trouble}" if self.trouble else "")


class Collector:
    """One run. `collect` is the usual way; this is it in parts, for those who hand in more."""

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        *,
        name: str,
        namespace: str | None,
        place: Place,
        region: str | None = None,
        gitlab_host: str | None = None,
        clock: Clock,
        show: Callable[[str], None] = print,
        flush_seconds: float = FLUSH_SECONDS,
    ) -> None:
        self._store, self._place, self._clock, self._show = store, place, clock, show
        self._flush_seconds = flush_seconds
        self._queue: queue.Queue[Message] = queue.Queue(BACKLOG)
        taken_up = (one for one in store.live() if Source.WATCH in one.sources and namespace in (None, one.namespace))
        self._lives = Lives(name, region=region, gitlab_host=gitlab_host, open_records=taken_up)
        self._pods = Reader(pod_stream.pods(cluster, namespace), self._queue, place.load())
        self._events = Reader(pod_stream.events(cluster, namespace), self._queue)
        self._version: str | None = None
        self._latest: datetime | None = None
        self._store_trouble: str | None = None
        self._progress = Progress()
        self._ended = False
        self._lost: str | None = None

    def run(self, seconds: float | None, stop: threading.Event) -> Progress:
        """Until `seconds` are over (None: without end) or `stop` is set; then everything is written, running pods too.

        Raises KubernetesError where the first list is refused, and the store's error where its last write fails.
        """
        begun = time.monotonic()
        deadline = None if seconds is None else begun + seconds
        flushed = shown = begun
        self._pods.start()
        self._events.start()
        try:
            while not stop.is_set() and (deadline is None or time.monotonic() < deadline):
                until = min(flushed + self._flush_seconds, deadline or float("inf"))
                self._take(until)
                now = time.monotonic()
                if now >= flushed + self._flush_seconds:
                    self._flush()
                    flushed = now
                if now >= shown + PROGRESS_SECONDS:
                    self._show(str(self.progress))
                    shown = now
        finally:
            self._lost, self._ended = self._not_connected(), True
            self._pods.stop()
            self._events.stop()
            failure = self._drain()
            self._write(self._lives.observations(self._now()))
            self._store_trouble = None
            if failure is not None:
                raise failure
        return self.progress

    def _take(self, until: float) -> None:
        """Look at what is read until the moment `until` of the monotonic clock."""
        while (left := until - time.monotonic()) > 0:
            try:
                self._look_at(self._queue.get(timeout=min(left, 0.5)))
            except queue.Empty:
                return

    def _drain(self) -> BaseException | None:
        """Look at all that was read; what a reader failed at, if one did, for after the last write."""
        failure = None
        while not self._queue.empty():
            message = self._queue.get_nowait()
            if message.failure is None:
                self._look_at(message)
            failure = failure or message.failure
        return failure

    def _look_at(self, message: Message) -> None:
        if message.failure is not None:
            raise message.failure
        if message.apply is not None:
            message.apply(self._lives, self._now())
            self._progress.changes += 1
        self._version = message.version or self._version
        self._progress.lag = time.monotonic() - message.received
        self._progress.worst_lag = max(self._progress.worst_lag, self._progress.lag)

    def _flush(self) -> None:
        """Write what is due. A store that is in trouble is tried again: what is due stays due."""
        try:
            self._write(self._lives.due(self._now()))
        except (RunbookError, OSError) as error:
            self._store_trouble = error.problem if isinstance(error, RunbookError) else str(error)
            self._show(f"not stored, will be tried again: {self._store_trouble}")
        else:
            self._store_trouble = None

    def _write(self, records: Sequence[PodRecord]) -> None:
        if records:
            self._store.append(records)
            self._progress.stored += len(records)
        self._lives.acknowledge(records, self._now())
        if self._version is not None:
            self._place.save(self._version)

    def _now(self) -> datetime:
        """The clock, but never backwards: a later observation must not look older than an earlier one."""
        now = self._clock.now()
        self._latest = max(now, self._latest or now)
        return self._latest

    def _not_connected(self) -> str | None:
        return self._pods.trouble or self._events.trouble

    @property
    def progress(self) -> Progress:
        """What the run has done until now; any thread may ask."""
        lost = self._lost if self._ended else self._not_connected()
        return replace(
            self._progress,
            live=self._lives.live,
            ended=self._lives.ended,
            bounded=self._lives.bounded,
            backlog=self._queue.qsize(),
            reconnects=self._pods.resumed + self._events.resumed,
            lists=self._pods.relisted,
            trouble=self._store_trouble or (f"not connected: {lost}" if lost else None),
        )


def collect(
    client: Cluster,
    settings: Settings,
    store: Store,
    *,
    minutes: float | None = None,
    place: Path | None = None,
    all_namespaces: bool = False,
    stop: threading.Event | None = None,
    show: Callable[[str], None] = print,
) -> Report:
    """Collect for `minutes`, or until `stop` is set where there are none, and report.

    `place` is the folder of the file that the next run goes on from, else var/history-place. `all_namespaces` is for
    runners that make a namespace for each job. Raises KubernetesError, and what the store raises.
    """
    from urllib.parse import urlsplit

    from runbook.clients import secrets
    from runbook.settings import locate

    namespace = None if all_namespaces else settings.kubernetes.namespace
    folder = place or locate("var/history-place")
    collector = Collector(
        client,
        store,
        name=settings.name,
        namespace=namespace,
        place=Place(folder / f"{settings.name}-{namespace or 'all'}.json", client.server),
        region=settings.region,
        gitlab_host=urlsplit(secrets.resolve(settings.gitlab.url)).netloc,
        clock=client.clock,
        show=show,
    )
    progress = collector.run(None if minutes is None else minutes * 60, stop or threading.Event())
    return judge(progress, settings)


def judge(progress: Progress, settings: Settings) -> Report:
    """What a run has to say: that it kept up, that it was never out of reach, that no end was missed."""
    facts = {
        "namespace": settings.kubernetes.namespace,
        "records stored": str(progress.stored),
        "pods ended": f"{progress.ended}, of these {progress.bounded} bounded",
        "pods still there": str(progress.live),
        "changes read": str(progress.changes),
        "reconnects": f"{progress.reconnects}; lists {progress.lists}",
        "backlog and lag": f"{progress.backlog} changes; at worst {duration(progress.worst_lag)}",
    }
    return Report(TITLE, [_connected(progress), _kept_up(progress), _seen_to_end(progress)], facts)


def _connected(progress: Progress) -> Check:
    title = "The watch was connected when the run ended"
    if progress.trouble:
        return Check.failed(
            "history-watch",
            title,
            progress.trouble,
            expected="a watch of pods and one of events",
            remedy="Look at the API server and at this account; the next run goes on where this one stopped.",
        )
    return Check.passed("history-watch", title, f"{progress.reconnects} reconnects, {progress.lists} lists")


def _kept_up(progress: Progress) -> Check:
    title = f"The collector kept up: no change waited longer than {LAGGING_SECONDS:g} s"
    observed = f"at worst {duration(progress.worst_lag)}, backlog {progress.backlog}"
    if progress.worst_lag <= LAGGING_SECONDS:
        return Check.passed("history-lag", title, observed)
    remedy = "Give it more CPU, or a store that is nearer: nothing is lost, but moments of ends grow less exact."
    return Check.warned("history-lag", title, observed, expected=f"at most {LAGGING_SECONDS:g} s", remedy=remedy)


def _seen_to_end(progress: Progress) -> Check:
    title = "Every pod that ended was seen to end"
    if not progress.bounded:
        return Check.passed("history-bounded", title, f"{progress.ended} pods")
    return Check.warned(
        "history-bounded",
        title,
        f"{progress.bounded} of {progress.ended} pods were only found missing",
        expected="an end that was observed",
        remedy="Run the collector without a gap: a run every hour with minutes=60, or the Deployment "
        "data/manifests/collector.yaml.",
    )
