"""What a collector reads of pods and events, and the record that follows from it.

The Structs hold only the fields that a record needs, so that msgspec decodes a page of the API server's JSON while it
skips the rest. `pod_record` is pure: everything that was seen goes in, one PodRecord comes out.

    pods = observation.decode_pods(response.data)                  # a page of the pod list: PodList
    line = observation.decode_watch(line)                          # one line of a watch: WatchLine, `object` still bytes
    record = observation.pod_record(pod, events, cluster="…", observed_at=now)
    record = observation.gone(record, observed_at=now)             # it was there, and at the next look it was not

Environments of containers are looked at once while decoding and dropped: only the variables in VARIABLES are kept, none of them
a secret, and only where no annotation says whose job it is.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import msgspec

from runbook import quantities
from runbook.eci import billing_window, endings, specs, vocabulary
from runbook.eci.billing_window import Known, Moment
from runbook.eci.endings import End
from runbook.eci.signs import Condition, Container, Event, Signs
from runbook.history.record import ContainerRecord, JobKnown, PodRecord, Source, merged
from runbook.quantities import GIB, Size
from runbook.runner import job_marks

JOB, PROJECT, MANAGER = "job.runner.gitlab.com/", "project.runner.gitlab.com/", "manager.runner.gitlab.com/"
"""Prefixes of what a runner writes on its pods: annotations since 15.9, labels since 17.9."""

VARIABLES = frozenset(
    {
        "CI_JOB_ID",
        "CI_JOB_NAME",
        "CI_JOB_STAGE",
        "CI_PROJECT_ID",
        "CI_PROJECT_PATH",
        "CI_PIPELINE_ID",
        "CI_COMMIT_REF_NAME",
        "CI_SERVER_URL",
        "CI_RUNNER_ID",
        "CI_RUNNER_DESCRIPTION",
        "CI_RUNNER_VERSION",
    }
)
"""Job variables that are read from the build container of runners that say less elsewhere."""

_NAME = re.compile(r"^runner-(?P<short>.+?)-project-(?P<project>\d+)-concurrent-(?P<slot>\d+)$")
_NEW_SUFFIX = re.compile(r"-[a-z0-9]{8}$")
_OLD_SUFFIX_LENGTH = 5
_JOB_URL = re.compile(r"^/(?P<path>.+)/-/jobs/\d+$")
_JOB_NAMESPACE = re.compile(r"^ci-job-(?P<job>\d+)$")
_SPEC = re.compile(r"^(?P<vcpu>[\d.]+)-(?P<memory>[\d.]+)Gi$")
_ZONE = re.compile(r"^(?P<region>.+\d(?=[a-z]$)|.+(?=-[a-z]$))")


# -- the JSON of the API server, only the needed fields -----------------------------------------------------------------


class Metadata(msgspec.Struct, rename="camel"):
    """`metadata` of a pod, an event or a list."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generate_name: str = ""
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class ListMetadata(msgspec.Struct, rename="camel"):
    """`metadata` of a list; `continue_token` asks for its next page."""

    resource_version: str = ""
    continue_token: str = msgspec.field(default="", name="continue")
    remaining_item_count: int | None = None


class Resources(msgspec.Struct):
    """`resources` of a container."""

    requests: dict[str, str | int | float] | None = None
    limits: dict[str, str | int | float] | None = None


class Variable(msgspec.Struct):
    """One variable of an environment; one that is taken from elsewhere has no value."""

    name: str
    value: str = ""


class ContainerSpec(msgspec.Struct):
    """One container as it was asked for. `env` is emptied once the pod is decoded; `ignored` says what it held for ECI."""

    name: str
    image: str = ""
    resources: Resources | None = None
    env: msgspec.Raw = msgspec.Raw()
    ignored: bool = False


class PodSpec(msgspec.Struct, rename="camel"):
    """`spec` of a pod."""

    node_name: str = ""
    containers: list[ContainerSpec] = []
    init_containers: list[ContainerSpec] | None = None


class Running(msgspec.Struct, rename="camel", frozen=True):
    started_at: datetime | None = None


class Terminated(msgspec.Struct, rename="camel", frozen=True):
    exit_code: int = 0
    reason: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


class Waiting(msgspec.Struct, frozen=True):
    reason: str | None = None


class State(msgspec.Struct, frozen=True):
    """State of a container: one of the three, or none."""

    running: Running | None = None
    terminated: Terminated | None = None
    waiting: Waiting | None = None


class ContainerStatus(msgspec.Struct, rename="camel"):
    """Status of one container; `last_state` is the end before its last restart."""

    name: str
    state: State = State()
    last_state: State = State()


class PodCondition(msgspec.Struct, rename="camel"):
    type: str
    status: str = ""
    reason: str | None = None
    last_transition_time: datetime | None = None


class PodStatus(msgspec.Struct, rename="camel"):
    """`status` of a pod."""

    phase: str | None = None
    reason: str | None = None
    message: str | None = None
    start_time: datetime | None = None
    conditions: list[PodCondition] | None = None
    container_statuses: list[ContainerStatus] | None = None
    init_container_statuses: list[ContainerStatus] | None = None


class Pod(msgspec.Struct):
    """A pod as the API server shows it. `variables` is filled from the build container where annotations do not say whose job it is."""

    metadata: Metadata = msgspec.field(default_factory=Metadata)
    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)
    variables: dict[str, str] = {}

    def __post_init__(self) -> None:
        named = _names_job(self.metadata.annotations or {})
        for container in (*self.spec.containers, *(self.spec.init_containers or ())):
            raw = bytes(container.env)
            if not raw:
                continue
            container.env = msgspec.Raw()
            if _IGNORE_MARK in raw:
                container.ignored = _variables(raw).get(vocabulary.ENV_RESOURCE_IGNORE, "").upper() == "TRUE"
            if not named and container.name == "build":
                self.variables = {name: text for name, text in _variables(raw).items() if name in VARIABLES and text}


class PodList(msgspec.Struct):
    """A page of the pod list."""

    metadata: ListMetadata = msgspec.field(default_factory=ListMetadata)
    items: list[Pod] = []


class InvolvedObject(msgspec.Struct):
    """The object that an event is about."""

    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""


class PodEvent(msgspec.Struct, rename="camel"):
    """An event, of any object: `involved_object.kind` says of which."""

    metadata: Metadata = msgspec.field(default_factory=Metadata)
    involved_object: InvolvedObject = msgspec.field(default_factory=InvolvedObject)
    reason: str = ""
    message: str = ""
    type: str = ""
    count: int | None = None
    first_timestamp: datetime | None = None
    last_timestamp: datetime | None = None
    event_time: datetime | None = None


class EventList(msgspec.Struct):
    """A page of the event list."""

    metadata: ListMetadata = msgspec.field(default_factory=ListMetadata)
    items: list[PodEvent] = []


class WatchLine(msgspec.Struct):
    """One line of a watch; `object` is a Pod, a PodEvent, a bookmark or, for the type ERROR, a Status, still as bytes."""

    type: str
    object: msgspec.Raw


class Status(msgspec.Struct):
    """What the API server says in place of an object: 410 is `Expired`."""

    code: int = 0
    reason: str = ""
    message: str = ""


_IGNORE_MARK = vocabulary.ENV_RESOURCE_IGNORE.encode()
_ENVIRONMENT = msgspec.json.Decoder(list[Variable] | None)

decode_pods = msgspec.json.Decoder(PodList).decode
decode_pod = msgspec.json.Decoder(Pod).decode
decode_events = msgspec.json.Decoder(EventList).decode
decode_event = msgspec.json.Decoder(PodEvent).decode
decode_watch = msgspec.json.Decoder(WatchLine).decode
decode_status = msgspec.json.Decoder(Status).decode


def pod_from(manifest: Mapping[str, Any]) -> Pod:
    """A pod from plain values, such as YAML or `kubectl get -o json` gives. Raises msgspec.ValidationError."""
    return decode_pod(msgspec.json.encode(manifest))


def event_from(manifest: Mapping[str, Any]) -> PodEvent:
    """An event from plain values. Raises msgspec.ValidationError."""
    return decode_event(msgspec.json.encode(manifest))


def _variables(environment: bytes) -> dict[str, str]:
    return {one.name: one.value for one in _ENVIRONMENT.decode(environment) or ()}


def _names_job(notes: Mapping[str, str]) -> bool:
    """Whether annotations alone say whose job it is: the runner's own (15.9 and later), or those that the configuration adds."""
    return JOB + "url" in notes or (job_marks.JOB_ID in notes and job_marks.PROJECT_PATH in notes)


# -- a pod and its events as one record -----------------------------------------------------------------------------------


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

    `region` and `gitlab_host` are those of the card, for pods that do not say. `deleted` says that this was the last of it: the watch told DELETED. `earlier` is an older record of the same pod; what it knew
    better is kept (a record of another pod raises ValueError). Raises QuantityError for sizes that are no Kubernetes quantities.
    """
    signs = signs_of(pod, events, observed_at=observed_at, deleted=deleted, earlier=earlier)
    notes, meta = pod.metadata.annotations or {}, pod.metadata
    zone = notes.get(vocabulary.INSTANCE_ZONE) or _zone_of_node(pod.spec.node_name)
    job = job_of(pod)
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
        **_requested(pod),
        **_billed(signs, notes),
        **_moments(signs, deleted=deleted, observed_at=observed_at),
        **_ending(signs),
    )
    return merged(earlier, record) if earlier else record


def gone(record: PodRecord, *, observed_at: datetime) -> PodRecord:
    """A pod that was there, and at the look at `observed_at` was not: its end is bounded, its cause unknown unless seen before."""
    if record.final:
        return record
    started = record.billing_start_known not in (Known.NEVER, Known.UNKNOWN)
    finish = _columns("finished", Moment(observed_at, Known.BOUNDED, "missing at the next look"), with_source=True)
    return msgspec.structs.replace(
        record,
        final=True,
        observed_at=observed_at,
        **(finish if started and record.finished_at is None else {}),
        **(_columns("deleted", Moment(observed_at, Known.BOUNDED)) if record.deleted_at is None else {}),
        **({"ended": End.UNKNOWN, "ended_evidence": "missing at the next look"} if record.ended is End.LIVE else {}),
    )


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


# -- whose job ------------------------------------------------------------------------------------------------------------


def job_of(pod: Pod) -> dict[str, Any]:
    """The columns that say whose job a pod runs and on which runner, from the best that its runner's version offers."""
    notes, labels = pod.metadata.annotations or {}, pod.metadata.labels or {}
    layers = (
        (JobKnown.ANNOTATION, _from_annotations(notes)),
        (JobKnown.MARK, _from_marks(notes, labels)),
        (JobKnown.VARIABLE, _from_variables(pod.variables)),
        (JobKnown.NAMESPACE, _from_namespace(pod.metadata.namespace)),
        (JobKnown.NAME, _from_labels(labels) | _from_name(pod)),
    )
    found: dict[str, Any] = {}
    for _, layer in reversed(layers):
        found |= {name: value for name, value in layer.items() if value not in (None, "")}
    # The URL's path holds the prefix of a GitLab below a path; what a configuration adds is the project's path alone.
    found["project_path"] = _from_marks(notes, labels)["project_path"] or found.get("project_path")
    found["project_namespace"] = (found["project_path"] or "").rpartition("/")[0] or found.get("project_namespace")
    best = next((known for known, layer in layers if layer.get("job_id")), None)
    found["job_known"] = best or (JobKnown.NAME if found.get("project_id") else JobKnown.UNKNOWN)
    return found


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _filled(text: str | None) -> str | None:
    """A mark's value; None where the runner had no such variable and left it empty or as it was."""
    return text if text and not text.startswith("$CI_") else None


def _from_annotations(notes: Mapping[str, str]) -> dict[str, Any]:
    """What runners write themselves from 15.9 on."""
    url = urlsplit(notes.get(JOB + "url", ""))
    path = _JOB_URL.match(url.path)
    return {
        "job_id": _number(notes.get(JOB + "id")),
        "job_name": notes.get(JOB + "name"),
        "job_ref": notes.get(JOB + "ref"),
        "project_id": _number(notes.get(PROJECT + "id")),
        "project_path": path["path"] if path else None,
        "gitlab_host": url.netloc.rpartition("@")[2],
    }


def _from_marks(notes: Mapping[str, str], labels: Mapping[str, str]) -> dict[str, Any]:
    """What the configuration of these runbooks adds: annotations hold the values as they are, labels only what fits."""

    def mark(key: str) -> str | None:
        return _filled(notes.get(key)) or _filled(labels.get(key))

    return {
        "job_id": _number(mark(job_marks.JOB_ID)),
        "job_name": mark(job_marks.JOB_NAME),
        "job_stage": mark(job_marks.JOB_STAGE),
        "job_ref": mark(job_marks.REF),
        "pipeline_id": _number(mark(job_marks.PIPELINE_ID)),
        "project_id": _number(mark(job_marks.PROJECT_ID)),
        "project_path": mark(job_marks.PROJECT_PATH),
    }


def _from_variables(variables: Mapping[str, str]) -> dict[str, Any]:
    """What the environment of the build container says."""
    return {
        "job_id": _number(variables.get("CI_JOB_ID")),
        "job_name": variables.get("CI_JOB_NAME"),
        "job_stage": variables.get("CI_JOB_STAGE"),
        "job_ref": variables.get("CI_COMMIT_REF_NAME"),
        "pipeline_id": _number(variables.get("CI_PIPELINE_ID")),
        "project_id": _number(variables.get("CI_PROJECT_ID")),
        "project_path": variables.get("CI_PROJECT_PATH"),
        "gitlab_host": urlsplit(variables.get("CI_SERVER_URL", "")).netloc.rpartition("@")[2],
        "runner_id": _number(variables.get("CI_RUNNER_ID")),
        "runner_name": variables.get("CI_RUNNER_DESCRIPTION"),
        "runner_version": variables.get("CI_RUNNER_VERSION"),
    }


def _from_namespace(namespace: str) -> dict[str, Any]:
    match = _JOB_NAMESPACE.match(namespace)
    return {"job_id": int(match["job"])} if match else {}


def _from_labels(labels: Mapping[str, str]) -> dict[str, Any]:
    """What runners write themselves from 17.9 on."""
    return {
        "project_id": _number(labels.get(PROJECT + "id")),
        "project_namespace": labels.get(PROJECT + "namespace"),
        "runner_name": labels.get(MANAGER + "name"),
        "runner_id_short": labels.get(MANAGER + "id-short"),
    }


def _from_name(pod: Pod) -> dict[str, Any]:
    """`runner-SHORT-project-ID-concurrent-SLOT`: a label since 12.0, and the beginning of the pod's name in every version."""
    meta, labels = pod.metadata, pod.metadata.labels or {}
    candidates = (
        labels.get(JOB + "pod"),
        labels.get("pod"),
        meta.generate_name.rstrip("-"),
        _NEW_SUFFIX.sub("", meta.name),
        meta.name[:-_OLD_SUFFIX_LENGTH],
    )
    match = next((found for text in candidates if text and (found := _NAME.match(text))), None)
    if match is None:
        return {}
    return {
        "project_id": int(match["project"]),
        "runner_id_short": match["short"],
        "runner_slot": int(match["slot"]),
    }


# -- requested and billed ----------------------------------------------------------------------------------------------------


def _requested(pod: Pod) -> dict[str, Any]:
    """The containers with their sizes, their sums, and what ECI adds up."""
    states = {
        one.name: _container(one, False)
        for one in (*(pod.status.init_container_statuses or ()), *(pod.status.container_statuses or ()))
    }
    asked = [(one, True) for one in pod.spec.init_containers or ()] + [(one, False) for one in pod.spec.containers]
    rows = tuple(_container_record(one, init, states.get(one.name)) for one, init in asked)
    main = [row for row in rows if row.kind != "init"]
    total = _added_up(tuple(_shape(one, init) for one, init in asked))
    return {
        "image": next((row.image for row in rows if row.kind == "build"), None),
        "containers": rows,
        "request_vcpu": _sum(row.request_vcpu for row in main),
        "limit_vcpu": _sum(row.limit_vcpu for row in main),
        "request_memory_gib": _sum(row.request_memory_gib for row in main),
        "limit_memory_gib": _sum(row.limit_memory_gib for row in main),
        "requested_vcpu": float(total.cpu),
        "requested_memory_gib": float(total.memory_gib),
    }


def _sum(amounts: Iterable[float | None]) -> float | None:
    named = [amount for amount in amounts if amount is not None]
    return sum(named) if named else None


def _container_record(asked: ContainerSpec, init: bool, state: Container | None) -> ContainerRecord:
    resources = asked.resources or Resources()
    requests, limits = resources.requests or {}, resources.limits or {}
    return ContainerRecord(
        name=asked.name,
        kind="init" if init else asked.name if asked.name in ("build", "helper") else "service",
        image=asked.image or None,
        request_vcpu=_vcpu(requests.get("cpu")),
        limit_vcpu=_vcpu(limits.get("cpu")),
        request_memory_gib=_memory_gib(requests.get("memory")),
        limit_memory_gib=_memory_gib(limits.get("memory")),
        exit_code=state.exit_code if state else None,
        reason=state.reason or state.waiting if state else None,
        started_at=state.started_at if state else None,
        finished_at=state.finished_at if state else None,
    )


@functools.lru_cache(maxsize=4096)
def _vcpu(quantity: quantities.Quantity | None) -> float | None:
    return None if quantity is None else float(quantities.cpu(quantity, where="resources.cpu"))


@functools.lru_cache(maxsize=4096)
def _memory_gib(quantity: quantities.Quantity | None) -> float | None:
    return None if quantity is None else quantities.memory(quantity, where="resources.memory") / GIB


Shape = tuple[str, bool, bool, tuple[tuple[str, Any], ...], tuple[tuple[str, Any], ...]]


def _shape(one: ContainerSpec, init: bool) -> Shape:
    resources = one.resources or Resources()
    return one.name, init, one.ignored, _pairs(resources.requests), _pairs(resources.limits)


def _pairs(sizes: Mapping[str, Any] | None) -> tuple[tuple[str, Any], ...]:
    return tuple((name, sizes[name]) for name in ("cpu", "memory") if name in sizes) if sizes else ()


@functools.lru_cache(maxsize=4096)
def _added_up(shapes: Sequence[Shape]) -> Size:
    """What ECI adds up for containers of these shapes; a team's jobs have few different ones."""
    spec: dict[str, list[dict[str, Any]]] = {"containers": [], "initContainers": []}
    for name, init, ignored, requests, limits in shapes:
        spec["initContainers" if init else "containers"].append(
            {
                "name": name,
                "env": [{"name": vocabulary.ENV_RESOURCE_IGNORE, "value": "TRUE"}] if ignored else [],
                "resources": {"requests": dict(requests), "limits": dict(limits)},
            }
        )
    return specs.requested({"spec": spec}).size


def _billed(signs: Signs, notes: Mapping[str, str]) -> dict[str, Any]:
    """What ECI made of the pod, from what its virtual node wrote."""
    spec = notes.get(vocabulary.INSTANCE_SPEC)
    size = _SPEC.match(spec or "")
    cpu = notes.get(vocabulary.INSTANCE_CPU) or (size["vcpu"] if size else None)
    memory = notes.get(vocabulary.INSTANCE_MEMORY) or (size["memory"] if size else None)
    extra = notes.get(vocabulary.EXTRA_EPHEMERAL_STORAGE)
    cache = notes.get(vocabulary.MATCHED_IMAGE_CACHE)
    return {
        "instance_id": signs.instance_id,
        "instance_spec": spec,
        "billed_vcpu": _vcpu(cpu),
        "billed_memory_gib": float(memory) if memory else None,
        "ecs_type": spec if spec and spec.startswith("ecs.") else None,
        "compute_category": notes.get(vocabulary.INSTANCE_COMPUTE_CATEGORY),
        "spot": _spot(signs, notes),
        "extra_ephemeral_gib": _memory_gib(extra),
        "image_cache_hit": _cache_hit(signs, cache),
        "image_cache_id": cache,
    }


def _spot(signs: Signs, notes: Mapping[str, str]) -> bool:
    """Whether it is a spot instance: asked for, and not degraded to pay-as-you-go."""
    asked = notes.get(vocabulary.SPOT_STRATEGY) in (vocabulary.SPOT_AS_PRICE_GO, vocabulary.SPOT_WITH_PRICE_LIMIT)
    created = signs.condition(vocabulary.CONDITION_CREATED, True)
    degraded = created is not None and vocabulary.is_reason(created.reason, vocabulary.REASON_SPOT_DEGRADED)
    return asked and not degraded and not any(signs.told(vocabulary.EVENT_SPOT_DEGRADED))


def _cache_hit(signs: Signs, cache: str | None) -> bool | None:
    if cache or any(signs.told(vocabulary.EVENT_IMAGE_CACHE_HIT)):
        return True
    return False if any(signs.told(vocabulary.EVENT_IMAGE_CACHE_MISSED)) else None


def _zone_of_node(node: str) -> str | None:
    prefix = vocabulary.NODE_NAME_PREFIX
    return node.removeprefix(prefix) or None if node.startswith(prefix) else None


def _region_of(zone: str | None) -> str | None:
    """`cn-hangzhou-j` is in `cn-hangzhou`, `ap-northeast-1b` in `ap-northeast-1`."""
    match = _ZONE.match(zone or "")
    return match["region"] if match else None
