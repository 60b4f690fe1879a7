"""Plays a team's CI on a practice cluster: the runner manager's side of it.

    truth = play(cluster, days=1, seed=7)

Each pod is created when its moment comes, and deleted when its job has ended, through the real API server; `eci-node`
plays what lies between from the pod's script. The played days begin at the next midnight (UTC) unless told otherwise:
played time must not lie behind the real time that the API server stamps, or deletions would seem to follow the ends
that they cause.
"""

from __future__ import annotations

import heapq
import http
import json
import queue
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
import numpy as np
import urllib3
from kubernetes import client, config

from sandbox.process import SandboxError
from sandbox.traffic.lives import Lives, draw, kinds
from sandbox.traffic.pods import PlayedRunner, manifest, script
from sandbox.traffic.team import TEAM, JobKind, Team
from sandbox.traffic.truth import NUMBERS, Numbers, PodTruth, Truth, planned, rows

WORKERS = 8
UNDER_WAY = 150
"""Pods that are there at once, at most: where the machine is slower than the played clock, the next ones wait."""
PATIENCE_SECONDS = 120
"""For how long a request is tried again, e.g. while the API server restarts."""
SAY_SECONDS, TICK_SECONDS = 5, 0.005
NAMESPACE = "gitlab-ci"
FACTOR = 3600.0


class HasUrl(Protocol):
    """The practice GitLab, as far as traffic needs it."""

    @property
    def url(self) -> str: ...


class Played(Protocol):
    """What is needed of a practice cluster."""

    @property
    def kubeconfig(self) -> Path: ...

    @property
    def gitlab(self) -> HasUrl: ...


@dataclass(frozen=True)
class _Url:
    url: str


@dataclass(frozen=True)
class Elsewhere:
    """A practice cluster that another process runs."""

    kubeconfig: Path
    gitlab: _Url


def running(folder: Path) -> Elsewhere:
    """The practice cluster that runs in a folder. Raises SandboxError where none does."""
    url, kubeconfig = folder / "gitlab" / "url", folder / "kubeconfig"
    if not (url.exists() and kubeconfig.exists()):
        raise SandboxError(
            "No practice cluster runs in this folder.",
            where=str(folder),
            remedy="Start one first: python -m sandbox run --dir FOLDER",
        )
    return Elsewhere(kubeconfig.resolve(), _Url(url.read_text().strip()))


def play(
    cluster: Played,
    *,
    days: float = 1,
    seed: int = 7,
    factor: float = FACTOR,
    begin: datetime | None = None,
    times: float = 1,
    pods: int | None = None,
    namespace: str = NAMESPACE,
    team: Team = TEAM,
    numbers: Numbers = NUMBERS,
    out: Path | None = None,
    tell_gitlab: bool = True,
    gitlab_runner: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Truth:
    """Play `days` of CI, `factor` times as fast as real time or as fast as the machine can, and return what happened.

    `times` makes the team so many times as busy; `pods` stops after so many. The truth is also written to `out` as JSON
    lines, each pod's when it has ended. With `tell_gitlab` the practice GitLab knows the jobs afterwards, as those of the
    runner `gitlab_runner` (its id; None: of one that is made for them).

    Raises SandboxError where the API server refuses or does not come back within PATIENCE_SECONDS.
    """
    begin = begin or next_midnight(datetime.now(UTC))
    lives = draw(team, seed=seed, begin=begin, days=days, times=times)
    lives = lives if pods is None else lives.head(pods)
    runner = PlayedRunner(cluster.gitlab.url, namespace)
    api = _Api(cluster.kubeconfig, namespace)
    api.ensure_namespace()
    parts = _parts(team, lives, begin, numbers, runner, seed, factor)
    stage = _Stage(api, parts, factor, out, say)
    truth = stage.run()
    if tell_gitlab:
        tell(cluster.gitlab.url, team, truth.pods, runner=gitlab_runner)
    return truth


def next_midnight(now: datetime) -> datetime:
    """The beginning of the next day, UTC."""
    return (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)


def tell(gitlab_url: str, team: Team, pods: Iterable[PodTruth], *, runner: int | None = None) -> None:
    """Let the practice GitLab know the jobs of these pods, as their runner (its id) would have."""
    jobs = {pod.job_id: pod for pod in pods}
    retried = {pod.retry_of for pod in jobs.values()}
    told = [
        {
            **{name: getattr(pod, name) for name in ("project_id", "pipeline_id", "ref")},
            **{"id": pod.job_id, "name": pod.job_name, "stage": pod.job_stage, "status": pod.job_status},
            **{"created_at": pod.job_created_at, "started_at": pod.job_started_at, "finished_at": pod.job_finished_at},
            **{"failure_reason": pod.job_failure_reason, "retried": pod.job_id in retried},
        }
        for pod in jobs.values()
    ]
    projects = [{"id": project.id, "path": project.path} for project in team.projects]
    body = msgspec.json.encode({"projects": projects, "jobs": told, "runner": runner})
    request = urllib.request.Request(f"{gitlab_url}/-/sandbox/finished-jobs", body, method="POST")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(request, timeout=60).close()
    except urllib.error.HTTPError as error:
        raise SandboxError("The practice GitLab does not take the played jobs.", value=error.read().decode()) from error


# -- the pods to be played -------------------------------------------------------------------------------------------


@dataclass
class _Part:
    """One pod: when it comes (real seconds after the start), its manifest, how long it stays once its end shows."""

    due: float
    manifest: dict[str, Any]
    truth: PodTruth
    lingers: float
    uid: str = ""

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])


def _parts(
    team: Team, lives: Lives, begin: datetime, numbers: Numbers, runner: PlayedRunner, seed: int, factor: float
) -> list[_Part]:
    rng = np.random.default_rng((seed, 1))
    jobs: Sequence[tuple[object, JobKind]] = kinds(team)
    slots: dict[int, list[int]] = {}
    parts = []
    first = int(lives.columns["created"][0]) if len(lives) else 0
    for row, truth in zip(rows(lives), planned(team, lives, begin, numbers), strict=True):
        slot = _free_slot(slots.setdefault(truth.project_id, []), row["created"], row["deleted"])
        words = script(truth, row, factor)
        shows = {"deleted": "running", "reclaim": "deleted", "image_pull": "pulled", "no_stock": "instance"}
        lingers = (words["deleted"] - words[shows.get(truth.ending, "end")]) / factor
        pod = manifest(runner, jobs[row["kind"]][1], truth, slot, rng, words)
        parts.append(_Part((row["created"] - first) / factor, pod, truth, lingers))
    return parts


def _free_slot(until: list[int], created: int, deleted: int) -> int:
    """The lowest slot of a project whose last pod is gone, as a runner manager hands them out."""
    for slot, end in enumerate(until):
        if end < created:
            until[slot] = deleted
            return slot
    until.append(deleted)
    return len(until) - 1


# -- the API server ----------------------------------------------------------------------------------------------------


class _Api:
    """Pods of one namespace as raw JSON: typed objects would take most of the machine."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        made = client.Configuration()
        loader: Any = config
        loader.load_kube_config(str(kubeconfig), client_configuration=made)
        made.connection_pool_maxsize, made.no_proxy = WORKERS + 2, "127.0.0.1,localhost"
        self._pool = client.ApiClient(made).rest_client.pool_manager
        self._server, self._namespace = made.host, namespace

    @property
    def pods(self) -> str:
        return f"/api/v1/namespaces/{self._namespace}/pods"

    def ask(self, method: str, path: str, body: Any = None, *, fine: tuple[int, ...] = ()) -> dict[str, Any]:
        """The answer; statuses in `fine` are answered by {}. Whatever may pass is tried again for PATIENCE_SECONDS."""
        content = json.dumps(body).encode() if body is not None else None
        give_up = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answer = self._pool.request(
                    method,
                    self._server + path,
                    body=content,
                    headers={"Content-Type": "application/json"},
                    timeout=30,
                    retries=False,
                )
            except urllib3.exceptions.HTTPError as error:
                trouble = str(error)
            else:
                if answer.status < 300:
                    return dict(json.loads(answer.data))
                if answer.status in fine:
                    return {}
                trouble = answer.data.decode(errors="replace")
                if answer.status not in (429, 500, 502, 503, 504) and "serviceaccount" not in trouble:
                    raise SandboxError(f"The API server refused {method} {path}.", value=trouble)
            if time.monotonic() > give_up:
                raise SandboxError(f"The API server did not do {method} {path}.", value=trouble)
            time.sleep(0.2)

    def ensure_namespace(self) -> None:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self._namespace}}
        self.ask("POST", "/api/v1/namespaces", body, fine=(http.HTTPStatus.CONFLICT,))

    def follow(
        self, seen: Callable[[_Seen, bool], None], there: Callable[[set[str]], None], stop: threading.Event
    ) -> None:
        """Call `seen` with every state of every pod until told to stop: a list, a watch from there, and again.

        Its second argument says that the pod is gone. `there` gets the names of each list.
        """
        selector = "labelSelector=ci-job-id"
        while not stop.is_set():
            listed = _decode_list(json.dumps(self.ask("GET", f"{self.pods}?{selector}")).encode())
            for pod in listed.items:
                seen(pod, False)
            there({pod.metadata.name for pod in listed.items})
            query = f"?{selector}&watch=1&timeoutSeconds=300&resourceVersion={listed.metadata.resourceVersion}"
            try:
                answer = self._pool.request(
                    "GET", self._server + self.pods + query, preload_content=False, timeout=2, retries=False
                )
                _read_watch(answer, seen, stop)
            except (urllib3.exceptions.HTTPError, msgspec.DecodeError):
                continue  # silence, or the server went away: list again


def _read_watch(answer: urllib3.BaseHTTPResponse, seen: Callable[[_Seen, bool], None], stop: threading.Event) -> None:
    """Lines of a watch until it ends; whatever is no pod (an expired version) ends it."""
    rest = b""
    try:
        for chunk in answer.stream(65536):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                change = _decode_change(line)
                if change.type == "ERROR":
                    return
                if change.type != "BOOKMARK":
                    seen(change.object, change.type == "DELETED")
            if stop.is_set():
                return
    finally:
        answer.close()


class _Meta(msgspec.Struct):
    name: str = ""
    resourceVersion: str = ""


class _Reason(msgspec.Struct):
    reason: str = ""


class _State(msgspec.Struct):
    waiting: _Reason | None = None
    terminated: _Reason | None = None


class _Container(msgspec.Struct):
    state: _State = msgspec.field(default_factory=_State)


class _Condition(msgspec.Struct):
    reason: str = ""


class _Status(msgspec.Struct):
    phase: str = ""
    containerStatuses: list[_Container] = []
    conditions: list[_Condition] = []


class _Seen(msgspec.Struct):
    """As much of a pod as tells that its end has come."""

    metadata: _Meta = msgspec.field(default_factory=_Meta)
    status: _Status = msgspec.field(default_factory=_Status)

    def shows(self, ending: str) -> bool:
        containers = [one.state for one in self.status.containerStatuses]
        match ending:
            case "deleted":
                return self.status.phase == "Running"
            case "reclaim":
                return self.status.phase == "Failed"
            case "image_pull":
                return any(one.waiting and one.waiting.reason == "ErrImagePull" for one in containers)
            case "no_stock":
                return any(one.reason == "ContainerGroup.NoStock" for one in self.status.conditions)
            case _:
                return any(one.terminated for one in containers)


class _Listed(msgspec.Struct):
    metadata: _Meta
    items: list[_Seen]


class _Change(msgspec.Struct):
    type: str
    object: _Seen


_decode_list = msgspec.json.Decoder(_Listed).decode
_decode_change = msgspec.json.Decoder(_Change).decode


# -- playing -----------------------------------------------------------------------------------------------------------


class _Stage:
    """One play: a thread that watches, workers that create and delete, and this one, which keeps the time."""

    def __init__(
        self, api: _Api, parts: list[_Part], factor: float, out: Path | None, say: Callable[[str], None]
    ) -> None:
        self._api, self._parts, self._factor, self._out, self._say = api, parts, factor, out, say
        self._by_name = {part.name: part for part in parts}
        self._waiting = set(self._by_name)
        self._leaving: dict[str, _Part] = {}
        self._shown: queue.SimpleQueue[tuple[float, _Part]] = queue.SimpleQueue()
        self._gone: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._asked: list[Future[None]] = []
        self._ended: list[PodTruth] = []
        self._stop = threading.Event()

    def run(self) -> Truth:
        begun = time.monotonic()
        with ThreadPoolExecutor(WORKERS) as workers, ThreadPoolExecutor(1) as watching:
            watch = watching.submit(self._api.follow, self._see, self._miss, self._stop)
            try:
                self._play(workers, begun, watch)
            finally:
                self._stop.set()
        return Truth(tuple(self._ended), time.monotonic() - begun)

    # -- called by the thread that watches

    def _see(self, pod: _Seen, gone: bool) -> None:
        part = self._by_name.get(pod.metadata.name)
        if part is None:
            return
        if gone:
            self._gone.put(part.name)
        elif part.name in self._waiting and pod.shows(part.truth.ending):
            self._waiting.discard(part.name)
            self._shown.put((time.monotonic() + part.lingers, part))

    def _miss(self, there: set[str]) -> None:
        """Pods that were deleted while nobody watched are not in the list any more."""
        for name in set(self._leaving) - there:
            self._gone.put(name)

    # -- called by the one that keeps the time

    def _play(self, workers: ThreadPoolExecutor, begun: float, watch: Future[None]) -> None:
        due: list[tuple[float, str, _Part]] = []
        coming, told, moved = 0, begun, begun
        while len(self._ended) < len(self._parts):
            now = time.monotonic()
            while self._may_come(coming, now - begun):
                self._asked.append(workers.submit(self._create, self._parts[coming]))
                coming, moved = coming + 1, now
            for moment, part in _drained(self._shown):
                heapq.heappush(due, (moment, part.name, part))
            while due and due[0][0] <= now:
                part = heapq.heappop(due)[2]
                self._leaving[part.name] = part
                self._asked.append(workers.submit(self._delete, part))
            self._asked = [one for one in self._asked if not _done(one)]
            moved = now if self._keep(_drained(self._gone)) or due else moved
            if now - told > SAY_SECONDS:
                self._say(f"{len(self._ended)} of {len(self._parts)} pods in {now - begun:.0f} s")
                told = now
            if _done(watch) or (coming > len(self._ended) and now - moved > PATIENCE_SECONDS):
                stuck = sorted(
                    part.name for part in self._parts[:coming] if part.name in self._waiting | set(self._leaving)
                )
                raise SandboxError("Played pods do not come to their end.", value=", ".join(stuck[:5]))
            time.sleep(TICK_SECONDS)

    def _may_come(self, number: int, passed: float) -> bool:
        return number < len(self._parts) and self._parts[number].due <= passed and number - len(self._ended) < UNDER_WAY

    def _create(self, part: _Part) -> None:
        made = self._api.ask("POST", self._api.pods, part.manifest, fine=(http.HTTPStatus.CONFLICT,))
        # A conflict is an answer that was lost before: the name is random.
        made = made or self._api.ask("GET", f"{self._api.pods}/{part.name}")
        part.uid = made["metadata"]["uid"]

    def _delete(self, part: _Part) -> None:
        if not self._api.ask("DELETE", f"{self._api.pods}/{part.name}", fine=(http.HTTPStatus.NOT_FOUND,)):
            self._gone.put(part.name)

    def _keep(self, gone: Iterable[str]) -> bool:
        """Write down the truth of pods that are gone; whether there was any."""
        parts = [part for name in gone if (part := self._leaving.pop(name, None)) is not None]
        namespace = {"namespace": parts[0].manifest["metadata"]["namespace"]} if parts else {}
        truths = [msgspec.structs.replace(part.truth, uid=part.uid, pod_name=part.name, **namespace) for part in parts]
        self._ended += truths
        if self._out is not None and truths:
            with self._out.open("ab") as file:
                file.write(msgspec.json.Encoder().encode_lines(truths))
        return bool(truths)


Item = TypeVar("Item")


def _drained(line: queue.SimpleQueue[Item]) -> list[Item]:
    """What has been put into a queue until now."""
    return [line.get() for _ in range(line.qsize())]


def _done(future: Future[None]) -> bool:
    """Whether it has ended; raises what it raised."""
    if not future.done():
        return False
    future.result()
    return True
