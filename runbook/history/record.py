"""One row a pod's life. The fields of `PodRecord` are the only place that says what a column means.

From them come the Arrow and Parquet schema (`arrow_schema`), the tables (`to_table`, `from_table`) and the documentation
`data/history/RECORD.md`, which `python -m runbook.history.documentation` writes.

An *observation* is a record as one source saw it at one moment. Two observations belong to the same pod when `identity` is
equal; the one with the larger `precedence` holds.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

import msgspec

from runbook.eci import billing_window
from runbook.eci.billing_window import Known as Known
from runbook.eci.endings import RULES
from runbook.eci.endings import End as End

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT_VERSION = 1
"""Version of the columns below; a reader refuses a newer one."""

FORMAT_KEY = b"runbook.pod_record.version"
"""Key of FORMAT_VERSION in the metadata of the Arrow schema, and so of every Parquet file."""


class Source(StrEnum):
    """Where an observation came from."""

    WATCH = "watch"
    GITLAB = "gitlab"
    ECI = "eci"
    FILE = "file"


SOURCE_MEANING = {
    Source.WATCH: "the collector watched the pod and its events",
    Source.GITLAB: "GitLab's job API",
    Source.ECI: "ECI's `DescribeContainerGroups`",
    Source.FILE: "a file of pods that somebody had",
}


class JobKnown(StrEnum):
    """From what it is known whose job a pod ran, the best first."""

    ANNOTATION = "annotation"
    MARK = "mark"
    VARIABLE = "variable"
    NAMESPACE = "namespace"
    TRACE = "trace"
    OVERLAP = "overlap"
    NAME = "name"
    GITLAB = "gitlab"
    UNKNOWN = "unknown"


JOB_KNOWN_MEANING = {
    JobKnown.ANNOTATION: "the runner's own annotation `job.runner.gitlab.com/id` (15.9 and later)",
    JobKnown.MARK: "the label or annotation `ci-job-id` that the runner's configuration adds (any version)",
    JobKnown.VARIABLE: "the variable CI_JOB_ID in the build container's environment (any version)",
    JobKnown.NAMESPACE: "the name of a namespace that was made for the job (`namespace_per_job`, 16.10 and later)",
    JobKnown.TRACE: "the job's trace names the pod",
    JobKnown.OVERLAP: "one job of this project and runner ran at that time; no other did",
    JobKnown.NAME: "only project and slot are known, from the pod's name or label",
    JobKnown.GITLAB: "GitLab knows the job; its pod was never seen",
    JobKnown.UNKNOWN: "nothing tells",
}


@dataclass(frozen=True)
class Meaning:
    """What a column holds: a sentence, an example, where the value comes from, and its unit."""

    definition: str
    example: object
    source: str
    unit: str = ""


class ContainerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One container of a pod. None where the pod does not say."""

    name: Annotated[str, Meaning("Name of the container.", "build", "spec.containers[].name")] = ""
    kind: Annotated[str, Meaning("`build`, `helper`, `service` or `init`.", "build", "from the name")] = "service"
    image: Annotated[str | None, Meaning("Image as it was asked for.", "alpine:3", "spec.containers[].image")] = None
    request_vcpu: Annotated[float | None, Meaning("CPU request.", 1.0, "resources.requests.cpu", "vCPU")] = None
    limit_vcpu: Annotated[float | None, Meaning("CPU limit.", 2.0, "resources.limits.cpu", "vCPU")] = None
    request_memory_gib: Annotated[float | None, Meaning("Memory request.", 1.0, "resources.requests.memory", "GiB")] = (
        None
    )
    limit_memory_gib: Annotated[float | None, Meaning("Memory limit.", 6.0, "resources.limits.memory", "GiB")] = None
    exit_code: Annotated[int | None, Meaning("Exit code of its last end.", 137, "state.terminated.exitCode")] = None
    reason: Annotated[
        str | None, Meaning("Reason of its last end or of its waiting.", "OOMKilled", "state.*.reason")
    ] = None
    started_at: Annotated[
        datetime | None,
        Meaning("Its first known start.", datetime(2026, 11, 24, 9, 30, 40, tzinfo=UTC), "state.*.startedAt", "UTC"),
    ] = None
    finished_at: Annotated[
        datetime | None,
        Meaning(
            "Its last known end.", datetime(2026, 11, 24, 9, 35, 2, tzinfo=UTC), "state.terminated.finishedAt", "UTC"
        ),
    ] = None


def _at(minute: int, second: int) -> datetime:
    return datetime(2026, 11, 24, 9, minute, second, tzinfo=UTC)


class PodRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One pod's life. Everything but `cluster` and `pod_uid` may be unknown, and is None then.

    *requested* is what the pod asked for, *billed* the ECI spec it was rounded to. Moments are those that the pod and its events
    report, not the collector's clock.
    """

    # -- which pod, and who saw it
    cluster: Annotated[str, Meaning("Name of the cluster's card.", "practice", "the card")]
    pod_uid: Annotated[
        str,
        Meaning(
            "UID of the pod; `job:HOST/ID` for a job, `eci:ID` for an instance whose pod nobody saw, `file:FILE/NAME` in a trace.",
            "1b5b30b5-e2b5-4628-9088-1c480dd539a3",
            "metadata.uid",
        ),
    ]
    namespace: Annotated[str | None, Meaning("Namespace of the pod.", "gitlab", "metadata.namespace")] = None
    pod_name: Annotated[
        str | None, Meaning("Name of the pod.", "runner-feas-tok-project-5-concurrent-0ccw28", "metadata.name")
    ] = None
    node_name: Annotated[
        str | None, Meaning("Virtual node that ran it.", "virtual-kubelet-cn-hangzhou-j", "spec.nodeName")
    ] = None
    region: Annotated[str | None, Meaning("Region of the instance.", "cn-hangzhou", "zone, else the card", "")] = None
    zone: Annotated[
        str | None, Meaning("Zone of the instance.", "cn-hangzhou-j", "eci-instance-zone, else the node's name")
    ] = None
    sources: Annotated[
        tuple[Source, ...], Meaning("Who contributed to the record.", ("watch", "gitlab"), "the sources themselves")
    ] = ()
    final: Annotated[bool, Meaning("Nothing more will be seen of this pod.", True, "the pod is deleted or gone")] = (
        False
    )
    observed_at: Annotated[
        datetime, Meaning("When the pod was last seen, by the observer's clock.", _at(35, 4), "the collector", "UTC")
    ] = datetime(1970, 1, 1, tzinfo=UTC)
    resource_version: Annotated[
        int, Meaning("Version of the pod object that was seen; 0 where there is none.", 424, "metadata.resourceVersion")
    ] = 0

    # -- whose job
    job_known: Annotated[JobKnown, Meaning("From what the job is known.", "annotation", "see below")] = JobKnown.UNKNOWN
    gitlab_host: Annotated[
        str | None,
        Meaning(
            "Host of the GitLab instance, with its port where it has one.",
            "gitlab.example.com",
            "job.runner.gitlab.com/url, CI_SERVER_URL",
        ),
    ] = None
    project_id: Annotated[int | None, Meaning("Numeric id of the project.", 5, "annotation, label, or pod name")] = None
    project_path: Annotated[
        str | None,
        Meaning("Path of the project, groups and all.", "grp/sub/demo", "job.runner.gitlab.com/url, ci-project-path"),
    ] = None
    project_namespace: Annotated[
        str | None, Meaning("Groups of the project.", "grp/sub", "project_path, else a label")
    ] = None
    pipeline_id: Annotated[int | None, Meaning("Id of the pipeline.", 77, "ci-pipeline-id, CI_PIPELINE_ID, GitLab")] = (
        None
    )
    job_id: Annotated[
        int | None,
        Meaning(
            "Id of the job. Several pods may have the same: a pull or a preparation is tried again.",
            106,
            "annotation, label or variable",
        ),
    ] = None
    job_name: Annotated[str | None, Meaning("Name of the job.", "unit tests", "annotation or variable")] = None
    job_stage: Annotated[str | None, Meaning("Stage of the job.", "test", "ci-job-stage, CI_JOB_STAGE")] = None
    job_ref: Annotated[str | None, Meaning("Branch or tag.", "main", "annotation or variable")] = None
    retry_of: Annotated[
        int | None, Meaning("Job of the same name and pipeline that this one repeats.", 101, "GitLab")
    ] = None
    job_status: Annotated[str | None, Meaning("GitLab's verdict on the job.", "success", "GitLab")] = None
    job_failure_reason: Annotated[
        str | None, Meaning("Why GitLab says the job failed.", "runner_system_failure", "GitLab")
    ] = None
    job_created_at: Annotated[datetime | None, Meaning("When the job was created.", _at(29, 50), "GitLab", "UTC")] = (
        None
    )
    job_started_at: Annotated[datetime | None, Meaning("When a runner took the job.", _at(30, 0), "GitLab", "UTC")] = (
        None
    )
    job_finished_at: Annotated[datetime | None, Meaning("When the job ended.", _at(35, 1), "GitLab", "UTC")] = None
    job_queued_seconds: Annotated[
        float | None, Meaning("How long the job waited for a runner.", 4.2, "GitLab", "s")
    ] = None

    # -- which runner
    runner_name: Annotated[
        str | None,
        Meaning("Name of the runner.", "eci-hangzhou", "manager.runner.gitlab.com/name, CI_RUNNER_DESCRIPTION"),
    ] = None
    runner_id: Annotated[int | None, Meaning("GitLab's id of the runner.", 12, "CI_RUNNER_ID, GitLab")] = None
    runner_id_short: Annotated[
        str | None,
        Meaning(
            "The part of the runner's token that may be shown.",
            "feas-tok",
            "manager.runner.gitlab.com/id-short, pod name",
        ),
    ] = None
    runner_system_id: Annotated[
        str | None, Meaning("Machine that the runner manager runs on.", "s_1a2b3c4d5e6f", "GitLab")
    ] = None
    runner_version: Annotated[str | None, Meaning("Version of the runner.", "14.7.1", "CI_RUNNER_VERSION, GitLab")] = (
        None
    )
    runner_slot: Annotated[
        int | None, Meaning("Slot of the runner for this project, used again by later jobs.", 0, "pod name or label")
    ] = None

    # -- requested
    image: Annotated[str | None, Meaning("Image of the build container.", "alpine:3", "spec.containers[].image")] = None
    containers: Annotated[
        tuple[ContainerRecord, ...],
        Meaning("The containers, init containers first; columns below.", (), "spec and status"),
    ] = ()
    request_vcpu: Annotated[
        float | None, Meaning("Sum of the CPU requests of all but init containers.", 1.5, "containers", "vCPU")
    ] = None
    limit_vcpu: Annotated[
        float | None, Meaning("Sum of the CPU limits of all but init containers.", 3.0, "containers", "vCPU")
    ] = None
    request_memory_gib: Annotated[
        float | None, Meaning("Sum of the memory requests of all but init containers.", 1.5, "containers", "GiB")
    ] = None
    limit_memory_gib: Annotated[
        float | None, Meaning("Sum of the memory limits of all but init containers.", 6.5, "containers", "GiB")
    ] = None
    requested_vcpu: Annotated[
        float | None,
        Meaning(
            "CPU that ECI adds up for the pod: limits, else requests, else its default.",
            3.25,
            "runbook.eci.specs",
            "vCPU",
        ),
    ] = None
    requested_memory_gib: Annotated[
        float | None, Meaning("Memory that ECI adds up for the pod, likewise.", 7.5, "runbook.eci.specs", "GiB")
    ] = None

    # -- billed
    instance_id: Annotated[
        str | None,
        Meaning(
            "ECI instance, the key to API and bill; None where none was made.",
            "eci-bp1gvcwdkv4r89rcsgds",
            "eci-instance-id",
        ),
    ] = None
    instance_spec: Annotated[
        str | None, Meaning("What is billed: vCPU and memory, or an ECS type.", "4.0-8.0Gi", "eci-instance-spec")
    ] = None
    billed_vcpu: Annotated[
        float | None, Meaning("vCPU of the billed spec.", 4.0, "eci-instance-cpu, eci-instance-spec", "vCPU")
    ] = None
    billed_memory_gib: Annotated[
        float | None, Meaning("Memory of the billed spec.", 8.0, "eci-instance-mem, eci-instance-spec", "GiB")
    ] = None
    ecs_type: Annotated[
        str | None,
        Meaning(
            "ECS type by which the instance is billed; None where by vCPU and memory.",
            "ecs.c6.large",
            "eci-instance-spec",
        ),
    ] = None
    compute_category: Annotated[
        str | None,
        Meaning("`economy` or `general`; None where the pod does not say.", "economy", "eci-instance-compute-category"),
    ] = None
    spot: Annotated[
        bool | None,
        Meaning(
            "A spot instance. False where spot was asked for and pay-as-you-go was taken.",
            True,
            "eci-spot-strategy, SpotDegraded, ECI",
        ),
    ] = None
    spot_requested: Annotated[
        bool | None,
        Meaning(
            "Spot was asked for, whatever was taken: with `spot` false, a fallback to pay-as-you-go.",
            True,
            "eci-spot-strategy, ECI",
        ),
    ] = None
    extra_ephemeral_gib: Annotated[
        float | None, Meaning("Ephemeral storage above the free 30 GiB.", 20.0, "eci-extra-ephemeral-storage", "GiB")
    ] = None
    image_cache_hit: Annotated[
        bool | None, Meaning("An image cache was used.", True, "eci-matched-image-cache, events")
    ] = None
    image_cache_id: Annotated[
        str | None, Meaning("The image cache that was used.", "imc-wz9dxo0xw2w9q4s6wnf1", "eci-matched-image-cache")
    ] = None

    # -- the moments
    created_at: Annotated[
        datetime | None, Meaning("The pod was created.", _at(30, 2), "metadata.creationTimestamp", "UTC")
    ] = None
    created_known: Annotated[Known, Meaning("How `created_at` is known.", "observed", "see below")] = Known.UNKNOWN
    scheduled_at: Annotated[
        datetime | None, Meaning("It was given to a virtual node.", _at(30, 3), "condition PodScheduled", "UTC")
    ] = None
    scheduled_known: Annotated[Known, Meaning("How `scheduled_at` is known.", "observed", "see below")] = Known.UNKNOWN
    billing_start_at: Annotated[
        datetime | None,
        Meaning("ECI's state became Pending: billing began.", _at(30, 10), "derived: no field states it", "UTC"),
    ] = None
    billing_start_known: Annotated[Known, Meaning("How `billing_start_at` is known.", "observed", "see below")] = (
        Known.UNKNOWN
    )
    billing_start_source: Annotated[
        str | None,
        Meaning(
            "From what `billing_start_at` is derived.",
            "condition ContainerInstanceCreated",
            "runbook.eci.billing_window",
        ),
    ] = None
    pulled_at: Annotated[datetime | None, Meaning("The last image was there.", _at(30, 38), "events Pulled", "UTC")] = (
        None
    )
    pulled_known: Annotated[Known, Meaning("How `pulled_at` is known.", "observed", "see below")] = Known.UNKNOWN
    running_at: Annotated[
        datetime | None,
        Meaning("The first container that is no init container ran.", _at(30, 40), "containerStatuses[].state", "UTC"),
    ] = None
    running_known: Annotated[Known, Meaning("How `running_at` is known.", "observed", "see below")] = Known.UNKNOWN
    finished_at: Annotated[
        datetime | None,
        Meaning("Nothing of it ran any more: billing ended.", _at(35, 2), "event StopCharge, containers", "UTC"),
    ] = None
    finished_known: Annotated[Known, Meaning("How `finished_at` is known.", "observed", "see below")] = Known.UNKNOWN
    finished_source: Annotated[
        str | None, Meaning("From what `finished_at` is derived.", "event StopCharge", "runbook.eci.billing_window")
    ] = None
    deleted_at: Annotated[
        datetime | None,
        Meaning("The pod's object was deleted.", _at(35, 3), "watch, metadata.deletionTimestamp", "UTC"),
    ] = None
    deleted_known: Annotated[Known, Meaning("How `deleted_at` is known.", "observed", "see below")] = Known.UNKNOWN

    # -- how it ended
    ended: Annotated[
        End, Meaning("How the pod's life ended; whether the job succeeded is `job_status`.", "deleted", "see below")
    ] = End.UNKNOWN
    ended_evidence: Annotated[
        str | None, Meaning("What the pod showed of it.", "status.reason BidFailed", "runbook.eci.endings")
    ] = None
    failed_container: Annotated[
        str | None, Meaning("The container that failed first.", "build", "containerStatuses")
    ] = None
    exit_code: Annotated[int | None, Meaning("Its exit code.", 137, "containerStatuses")] = None
    false_green: Annotated[
        bool,
        Meaning(
            "GitLab says *success*, and the pod was reclaimed, lost or evicted: no proof that the script ran to its end.",
            False,
            "job_status and ended",
        ),
    ] = False


@dataclass(frozen=True)
class Column:
    """One column: its name, its Python and Arrow type, and what it means."""

    name: str
    type: Any
    meaning: Meaning

    @property
    def arrow(self) -> pa.DataType:
        return _arrow_type(self.type)


@functools.cache
def columns(of: type[msgspec.Struct] = PodRecord) -> tuple[Column, ...]:
    """Every column in order, of a record or of one of its containers."""
    hints = typing.get_type_hints(of, include_extras=True)
    return tuple(Column(name, *get_args(hints[name])) for name in of.__struct_fields__)


def _arrow_type(hint: Any) -> pa.DataType:
    """The Arrow type of a Python type: `T | None` as T, a tuple as a list, a Struct as a struct, an enumeration as its text."""
    import pyarrow as pa

    if get_origin(hint) is tuple:
        return pa.list_(_arrow_type(get_args(hint)[0]))
    plain = next((one for one in get_args(hint) if one is not NoneType), hint)
    if issubclass(plain, msgspec.Struct):
        return pa.struct([(column.name, column.arrow) for column in columns(plain)])
    simple = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    return pa.timestamp("us", tz="UTC") if plain is datetime else simple[str if issubclass(plain, str) else plain]


@functools.cache
def arrow_schema() -> pa.Schema:
    """The Arrow schema, and so the Parquet one: `cluster` and `pod_uid` never null, FORMAT_VERSION in its metadata."""
    import pyarrow as pa

    required = set(PodRecord.__struct_fields__[: -len(PodRecord.__struct_defaults__)])
    fields = [pa.field(column.name, column.arrow, nullable=column.name not in required) for column in columns()]
    return pa.schema(fields, metadata={FORMAT_KEY: str(FORMAT_VERSION).encode()})


def to_table(records: Iterable[PodRecord]) -> pa.Table:
    """Records as an Arrow table, column by column."""
    import pyarrow as pa

    schema = arrow_schema()
    rows: list[Sequence[Any]] = list(zip(*map(msgspec.structs.astuple, records), strict=True)) or [()] * len(schema)
    nested = schema.get_field_index("containers")
    rows[nested] = [[msgspec.structs.asdict(one) for one in row] for row in rows[nested]]
    return pa.Table.from_arrays(
        [pa.array(values, field.type) for values, field in zip(rows, schema, strict=True)], schema=schema
    )


def from_table(table: pa.Table) -> list[PodRecord]:
    """The records of a table that holds all the columns. Raises msgspec.ValidationError for a value that no record may hold."""
    return msgspec.convert(table.to_pylist(), list[PodRecord])


def identity(record: PodRecord) -> tuple[str, str]:
    """What makes two observations those of one pod: cluster and UID."""
    return record.cluster, record.pod_uid


def precedence(record: PodRecord) -> tuple[bool, datetime, int]:
    """Of two observations of one pod the one with the larger precedence holds: final before not, then later, then newer version."""
    return record.final, record.observed_at, record.resource_version


def newest(records: Iterable[PodRecord]) -> dict[tuple[str, str], PodRecord]:
    """The observation that holds, by identity; of equal ones the last."""
    held: dict[tuple[str, str], PodRecord] = {}
    for record in records:
        seen = held.get(identity(record))
        if seen is None or precedence(record) >= precedence(seen):
            held[identity(record)] = record
    return held


def differs(new: PodRecord, old: PodRecord | None) -> bool:
    """Whether a record says something that the older one (None: nothing) does not; when it was observed does not count."""
    return old is None or msgspec.structs.replace(new, observed_at=old.observed_at) != old


def merged(older: PodRecord, newer: PodRecord) -> PodRecord:
    """One record from two observations of one pod: the newer one's values where it has some, but no moment known worse than before.

    Raises ValueError where the two are not of one pod.
    """
    if identity(older) != identity(newer):
        raise ValueError(f"not one pod: {identity(older)} and {identity(newer)}")
    values = msgspec.structs.asdict(older)
    values |= {name: value for name, value in msgspec.structs.asdict(newer).items() if value not in (None, ())}
    for moment in MOMENTS:
        if getattr(older, f"{moment}_at") and _sureness(older, moment) >= _sureness(newer, moment):
            values |= {name: getattr(older, name) for name in _moment_columns(moment)}
    if list(JobKnown).index(older.job_known) < list(JobKnown).index(newer.job_known):
        values["job_known"] = older.job_known
    if (
        older.spot is False
    ):  # spot was degraded to pay-as-you-go, or never asked for: a later look may have lost the event
        values["spot"] = False
    if _SUREST.index(older.ended) < _SUREST.index(newer.ended):
        values |= {name: getattr(older, name) for name in ("ended", "ended_evidence", "failed_container", "exit_code")}
    values["sources"] = tuple(dict.fromkeys((*older.sources, *newer.sources)))
    values["final"] = older.final or newer.final
    values["false_green"] = older.false_green or newer.false_green
    return PodRecord(**values)


MOMENTS = ("created", "scheduled", "billing_start", "pulled", "running", "finished", "deleted")
"""The moments of a pod's life in their order: `<name>_at`, `<name>_known`."""

_CERTAINTY = {Known.UNKNOWN: 0, Known.NEVER: 0, Known.BOUNDED: 1, Known.OBSERVED: 2, Known.BILLED: 3}
_SOURCES = [source for source, _, _ in (*billing_window.START, *billing_window.END)]
_SUREST = (*(end for end, _ in RULES), End.UNKNOWN, End.LIVE)


def _known(record: PodRecord, moment: str) -> Known:
    return Known(getattr(record, f"{moment}_known"))


def _sureness(record: PodRecord, moment: str) -> tuple[int, int]:
    """How well a moment is known; of two that are known alike, the one from the surer source."""
    source = getattr(record, f"{moment}_source", None)
    return _CERTAINTY[_known(record, moment)], -(_SOURCES.index(source) if source in _SOURCES else len(_SOURCES))


def _moment_columns(moment: str) -> list[str]:
    names = (f"{moment}_at", f"{moment}_known", f"{moment}_source")
    return [name for name in names if name in PodRecord.__struct_fields__]
