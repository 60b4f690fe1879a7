"""Pods and events as the API server shows them: only the fields that a record needs, so that msgspec skips the rest.

    decode_pods(page)       a page of the pod list: PodList
    decode_events(page)     a page of the event list: EventList
    decode_watch(line)      one line of a watch: WatchLine, whose `object` is still bytes for decode_pod, decode_event or,
                            where the type is BOOKMARK or ERROR, decode_marker or decode_status

Environments of containers are looked at once while a pod is decoded, and dropped: only VARIABLES are kept, none of them
a secret, and only where no annotation says whose job it is.

Nothing here refers back to what holds it, so the garbage collector need not look at these Structs (`gc=False`): a third
of the time of a long list.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from runbook.eci import vocabulary
from runbook.runner import job_marks

JOB, PROJECT, MANAGER = "job.runner.gitlab.com/", "project.runner.gitlab.com/", "manager.runner.gitlab.com/"
"""Prefixes of what a runner writes on its pods: annotations since 15.9, labels since 17.9."""

JOB_URL = JOB + "url"

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


class Metadata(msgspec.Struct, rename="camel", gc=False):
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


class ListMetadata(msgspec.Struct, rename="camel", gc=False):
    """`metadata` of a list; `continue_token` asks for its next page."""

    resource_version: str = ""
    continue_token: str = msgspec.field(default="", name="continue")
    remaining_item_count: int | None = None


class Resources(msgspec.Struct, gc=False):
    """`resources` of a container."""

    requests: dict[str, str | int | float] | None = None
    limits: dict[str, str | int | float] | None = None


class Variable(msgspec.Struct, gc=False):
    """One variable of an environment; one that is taken from elsewhere has no value."""

    name: str
    value: str = ""


NO_ENVIRONMENT = msgspec.Raw()


class ContainerSpec(msgspec.Struct, gc=False):
    """One container as it was asked for. `env` is emptied once the pod is decoded; `ignored`: ECI leaves it out."""

    name: str
    image: str = ""
    resources: Resources | None = None
    env: msgspec.Raw = NO_ENVIRONMENT
    ignored: bool = False


class PodSpec(msgspec.Struct, rename="camel", gc=False):
    """`spec` of a pod."""

    node_name: str = ""
    containers: list[ContainerSpec] = []
    init_containers: list[ContainerSpec] | None = None


class Running(msgspec.Struct, rename="camel", frozen=True, gc=False):
    started_at: datetime | None = None


class Terminated(msgspec.Struct, rename="camel", frozen=True, gc=False):
    exit_code: int = 0
    reason: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


class Waiting(msgspec.Struct, frozen=True, gc=False):
    reason: str | None = None


class State(msgspec.Struct, frozen=True, gc=False):
    """State of a container: one of the three, or none."""

    running: Running | None = None
    terminated: Terminated | None = None
    waiting: Waiting | None = None


class ContainerStatus(msgspec.Struct, rename="camel", gc=False):
    """Status of one container; `last_state` is the end before its last restart."""

    name: str
    state: State = State()
    last_state: State = State()


class PodCondition(msgspec.Struct, rename="camel", gc=False):
    type: str
    status: str = ""
    reason: str | None = None
    last_transition_time: datetime | None = None


class PodStatus(msgspec.Struct, rename="camel", gc=False):
    """`status` of a pod."""

    phase: str | None = None
    reason: str | None = None
    message: str | None = None
    start_time: datetime | None = None
    conditions: list[PodCondition] | None = None
    container_statuses: list[ContainerStatus] | None = None
    init_container_statuses: list[ContainerStatus] | None = None


class Pod(msgspec.Struct, gc=False):
    """A pod as the API server shows it.

    `variables` is filled from the build container where annotations do not say whose job it is.
    """

    metadata: Metadata = msgspec.field(default_factory=Metadata)
    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)
    variables: dict[str, str] = {}

    def __post_init__(self) -> None:
        notes = self.metadata.annotations
        for some in (self.spec.containers, self.spec.init_containers):
            for container in some or ():
                if container.env is NO_ENVIRONMENT:
                    continue
                raw = bytes(container.env)
                container.env = NO_ENVIRONMENT  # it would keep the whole answer in memory
                if _IGNORE_MARK in raw:
                    container.ignored = _variables(raw).get(vocabulary.ENV_RESOURCE_IGNORE, "").upper() == "TRUE"
                if container.name == "build" and not (notes and _names_job(notes)):
                    self.variables = {
                        name: text for name, text in _variables(raw).items() if name in VARIABLES and text
                    }


class PodList(msgspec.Struct, gc=False):
    """A page of the pod list."""

    metadata: ListMetadata = msgspec.field(default_factory=ListMetadata)
    items: list[Pod] = []


class InvolvedObject(msgspec.Struct, gc=False):
    """The object that an event is about."""

    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""


class PodEvent(msgspec.Struct, rename="camel", gc=False):
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


class EventList(msgspec.Struct, gc=False):
    """A page of the event list."""

    metadata: ListMetadata = msgspec.field(default_factory=ListMetadata)
    items: list[PodEvent] = []


class WatchLine(msgspec.Struct, gc=False):
    """One line of a watch; `object` is a pod, an event, a bookmark or, for the type ERROR, a Status, still as bytes."""

    type: str
    object: msgspec.Raw


class WatchedPod(msgspec.Struct, gc=False):
    """A line of the pod watch in one pass; a bookmark is a pod with nothing but `metadata`."""

    type: str
    object: Pod


class WatchedEvent(msgspec.Struct, gc=False):
    """A line of the event watch in one pass."""

    type: str
    object: PodEvent


class Marker(msgspec.Struct, gc=False):
    """What a bookmark's object holds: the version that the watch has reached."""

    metadata: Metadata


class Status(msgspec.Struct, gc=False):
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
decode_watched_pod = msgspec.json.Decoder(WatchedPod).decode
decode_watched_event = msgspec.json.Decoder(WatchedEvent).decode
decode_watch = msgspec.json.Decoder(WatchLine).decode
decode_marker = msgspec.json.Decoder(Marker).decode
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
    """Whether annotations alone say whose job it is: the runner's own (15.9 and later), or the configuration's."""
    return JOB_URL in notes or (job_marks.JOB_ID in notes and job_marks.PROJECT_PATH in notes)
