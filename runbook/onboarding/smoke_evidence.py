"""What a smoke pipeline left behind, as values: its jobs, their pods, what these cost. Nothing here opens a connection.

The pods are gone when the pipeline is, so `smoke_job` collects their last state while they live. A job's script speaks
through marked lines of its trace (`eci-smoke:cache=17`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from runbook import html, moments, quantities
from runbook.eci import charges, specs, vocabulary
from runbook.errors import SpecError
from runbook.report import Unknown, text_pairs
from runbook.runner import job_marks, trace
from runbook.settings import Settings

MARK = "eci-smoke"
"""Begins each line of a trace by which a job's script reports: `eci-smoke:NAME=VALUE`."""

WRITE, READ = "write-cache", "read-cache"
"""The two jobs."""

ALIAS = "smoke-service"
"""The other name of the service, beside 127.0.0.1."""

JOB_ID_KEYS = ("job.runner.gitlab.com/id", job_marks.JOB_ID)
"""Annotations or labels that hold a job's id: GitLab Runner's own since 15.9, and ours."""

_FINISHED = ("success", "failed", "canceled", "skipped")

# -- pods and jobs ----------------------------------------------------------------------------------------------------


def without_environment(pod: Mapping[str, Any]) -> dict[str, Any]:
    """The pod without its containers' environment, where a job's token stands; only ECI's own word stays there."""

    def stripped(container: Mapping[str, Any]) -> dict[str, Any]:
        kept = [one for one in container.get("env") or [] if one.get("name") == vocabulary.ENV_RESOURCE_IGNORE]
        return {**container, "env": kept}

    spec = dict(pod.get("spec") or {})
    for kind in ("containers", "initContainers"):
        if spec.get(kind):
            spec[kind] = [stripped(container) for container in spec[kind]]
    return {**pod, "spec": spec}


@dataclass(frozen=True)
class PodSeen:
    """The last state of one job pod. `manifest` is the pod as the API showed it, without environments."""

    job_id: int
    manifest: Mapping[str, Any] = field(repr=False)
    gone: bool = False

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def uid(self) -> str:
        return str(self.manifest["metadata"].get("uid", ""))

    @property
    def node(self) -> str:
        return str(self.manifest.get("spec", {}).get("nodeName") or "")

    @property
    def annotations(self) -> Mapping[str, str]:
        return self.manifest["metadata"].get("annotations") or {}

    @property
    def billed_spec(self) -> str:
        """As ECI wrote it: `4.0-8.0Gi`, or an ECS type; empty before there is an instance."""
        return self.annotations.get(vocabulary.INSTANCE_SPEC, "")

    @property
    def instance_id(self) -> str:
        return self.annotations.get(vocabulary.INSTANCE_ID, "")

    @property
    def status(self) -> Mapping[str, Any]:
        return self.manifest.get("status") or {}

    @property
    def state(self) -> str:
        """Phase, and what holds it up: `Pending on virtual-kubelet-cn-hangzhou-j, ContainerInstanceCreated: NoStock`."""
        return state_of(self.manifest, gone=self.gone)

    def condition(self, kind: str) -> Mapping[str, Any]:
        """The condition of that type, or an empty mapping."""
        return next((one for one in self.status.get("conditions") or [] if one.get("type") == kind), {})

    @property
    def container_states(self) -> list[Mapping[str, Any]]:
        return [one.get("state") or {} for one in self.status.get("containerStatuses") or []]


@dataclass(frozen=True)
class PodEvent:
    """One event about a job pod. `at` is when it was last seen."""

    pod: str
    kind: str
    reason: str
    message: str
    at: datetime | None

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> PodEvent:
        stamp = event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp")
        return cls(
            str(event.get("involvedObject", {}).get("name", "")),
            str(event.get("type", "")),
            str(event.get("reason", "")),
            str(event.get("message", "")),
            moments.parse(stamp) if stamp else None,
        )

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


@dataclass(frozen=True)
class JobSeen:
    """One job of the pipeline at its end (or when we stopped looking). `queued` is seconds that it waited for a runner."""

    id: int
    name: str
    status: str
    url: str = ""
    failure_reason: str = ""
    runner_id: int | None = None
    queued: float | None = None
    trace: str = field(default="", repr=False)

    @property
    def finished(self) -> bool:
        return self.status in _FINISHED

    @property
    def says(self) -> dict[str, str]:
        return trace.says(self.trace, MARK)

    @property
    def ran_to_its_end(self) -> bool:
        """Whether the script's last line ran, in this job: success without it is a broken stream."""
        return self.status == "success" and self.says.get("end") == str(self.id)


@dataclass(frozen=True)
class Evidence:
    """Everything that a smoke pipeline showed.

    `not_run` says why no pipeline was started; `stopped` why it was left before its end; `leftovers` names pods that
    outlived it; `cleanup` what could not be removed. `virtual_nodes` tells of each node whether it is a virtual one.
    """

    runner_id: int | None = None
    pipeline_id: int | None = None
    url: str = ""
    status: str = ""
    jobs: Sequence[JobSeen] = ()
    pods: Sequence[PodSeen] | Unknown = ()
    events: Sequence[PodEvent] | Unknown = ()
    virtual_nodes: Mapping[str, bool | Unknown] = field(default_factory=dict)
    leftovers: Sequence[str] | Unknown = ()
    stopped: str = ""
    cleanup: Sequence[str] = ()
    not_run: str = ""

    def job(self, name: str) -> JobSeen | None:
        return next((job for job in self.jobs if job.name == name), None)

    @property
    def seen_pods(self) -> Sequence[PodSeen]:
        return () if isinstance(self.pods, Unknown) else self.pods

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: a support case in a file."""
        plain = {**asdict(replace(self, pods=(), events=(), leftovers=(), virtual_nodes={}))}
        plain["pods"] = str(self.pods) if isinstance(self.pods, Unknown) else [asdict(pod) for pod in self.pods]
        plain["events"] = str(self.events) if isinstance(self.events, Unknown) else [str(one) for one in self.events]
        plain["leftovers"] = str(self.leftovers) if isinstance(self.leftovers, Unknown) else list(self.leftovers)
        plain["virtual_nodes"] = {
            name: str(seen) if isinstance(seen, Unknown) else seen for name, seen in self.virtual_nodes.items()
        }
        return plain

    def summary(self) -> dict[str, str]:
        """The lines that the notebook shows."""
        if self.not_run:
            return {"pipeline": f"none: {self.not_run}"}
        lines = {"pipeline": f"{self.pipeline_id} {self.status} {self.url}".strip()}
        for job in self.jobs:
            why = f", {job.failure_reason}" if job.failure_reason else ""
            waited = f", waited {moments.duration(job.queued)} for the runner" if job.queued is not None else ""
            lines[f"job {job.name}"] = f"{job.status}{why}{waited}"
            for pod in (pod for pod in self.seen_pods if pod.job_id == job.id):
                lines[f"pod of {job.name}"] = f"{pod.name}\n{pod.state}"
        if isinstance(self.pods, Unknown):
            lines["pods"] = str(self.pods)
        warnings = self.warnings()
        if warnings:
            lines["warning events"] = "\n".join(warnings)
        if self.stopped:
            lines["stopped"] = self.stopped
        return lines

    def warnings(self) -> list[str]:
        """Warning events of the pods, each once, the last twenty."""
        if isinstance(self.events, Unknown):
            return [str(self.events)]
        return list(dict.fromkeys(str(event) for event in self.events if event.kind == "Warning"))[-20:]

    def __str__(self) -> str:
        return text_pairs("Smoke pipeline", self.summary())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html.block(html.pairs(self.summary()))


def state_of(pod: Mapping[str, Any], *, gone: bool = False) -> str:
    """A pod's phase, node and what holds it up, in one line; as in kubectl, one that is being deleted is Terminating."""
    status = pod.get("status") or {}
    leaving = "Terminating" if (pod.get("metadata") or {}).get("deletionTimestamp") else ""
    words = ["Deleted" if gone else leaving or str(status.get("phase") or "Pending")]
    node = (pod.get("spec") or {}).get("nodeName")
    if node:
        words[0] += f" on {node}"
    if status.get("reason"):
        words.append(str(status["reason"]))
    for one in status.get("conditions") or []:
        if one.get("type") == vocabulary.CONDITION_CREATED and one.get("status") == "False" and one.get("reason"):
            words.append(f"{one['type']}: {one['reason']}")
        if one.get("type") == "PodScheduled" and one.get("status") == "False":
            words.append(f"not scheduled: {one.get('message') or one.get('reason')}")
    for one in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = (one.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            words.append(f"{one['name']}: {waiting['reason']} {waiting.get('message', '')}".rstrip())
    return ", ".join(words)


def job_of(pod: Mapping[str, Any], jobs: Sequence[JobSeen]) -> JobSeen | None:
    """Whose pod this is: by an annotation or label with the job's id, else by the name that the trace gives."""
    metadata = pod.get("metadata") or {}
    said = {**(metadata.get("labels") or {}), **(metadata.get("annotations") or {})}
    ids = {said[key] for key in JOB_ID_KEYS if key in said}
    for job in jobs:
        if str(job.id) in ids or (not ids and trace.pod_name(job.trace) == metadata.get("name")):
            return job
    return None


# -- what a pod cost --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PodCost:
    """The list price of one pod's life: seconds × price, or `reason` why it is not known. `basis` says how it is known."""

    pod: str
    spec: str
    seconds: float | None
    amount: Decimal | None
    currency: str
    basis: str
    reason: str = ""

    def __str__(self) -> str:
        if self.amount is None:
            return f"{self.spec or 'spec unknown'}: {self.reason}"
        return (
            f"{self.spec}: {money(self.amount, self.currency)} for {moments.duration(self.seconds or 0)} ({self.basis})"
        )


def cost_of(pod: PodSeen, events: Sequence[PodEvent], settings: Settings) -> PodCost:
    """What the list says for the spec that ECI billed, from the instance's creation to its last container's end."""
    start, end, basis = charged_span(pod, events)
    try:
        found = billed_match(pod, settings)
        price = charges.list_price(found, site=settings.site)
    except SpecError as error:
        return PodCost(pod.name, pod.billed_spec, None, None, "", "", error.problem)
    seconds = (end - start).total_seconds() if start and end else None
    if price.per_second is None:
        return PodCost(pod.name, pod.billed_spec, seconds, None, price.currency, basis, price.reason or "")
    if seconds is None:
        return PodCost(pod.name, pod.billed_spec, None, None, price.currency, basis, basis)
    amount = price.per_second * Decimal(str(max(seconds, 0)))
    return PodCost(pod.name, pod.billed_spec, seconds, amount, price.currency, basis)


def charged_span(pod: PodSeen, events: Sequence[PodEvent]) -> tuple[datetime | None, datetime | None, str]:
    """From when to when ECI charges for the pod, and by what this is known.

    The charge begins when the instance is there and pulls its images (before that, scheduling is free), and ends when
    its last container has.
    """
    created = pod.condition(vocabulary.CONDITION_CREATED)
    scheduled = pod.condition("PodScheduled")
    if created.get("status") == "True":
        start, begun = created.get("lastTransitionTime"), vocabulary.CONDITION_CREATED
    elif scheduled.get("status") == "True":
        start, begun = scheduled.get("lastTransitionTime"), "PodScheduled, a little too early"
    else:
        start, begun = None, ""
    if not start:
        return None, None, "the pod never got an instance, so nothing is charged"
    stop = [one.at for one in events if one.pod == pod.name and one.reason == vocabulary.EVENT_STOP_CHARGE and one.at]
    ends = [state["terminated"].get("finishedAt") for state in pod.container_states if state.get("terminated")]
    if stop:
        return moments.parse(start), max(stop), f"observed, from {begun} to the event {vocabulary.EVENT_STOP_CHARGE}"
    if ends and all(ends) and len(ends) == len(pod.container_states):
        return (
            moments.parse(start),
            max(map(moments.parse, ends)),
            f"observed, from {begun} to the last container's end",
        )
    deleted = pod.manifest["metadata"].get("deletionTimestamp")
    if deleted:
        return moments.parse(start), moments.parse(deleted), f"bounded, from {begun} to the pod's deletion"
    return moments.parse(start), None, "its end was not seen"


def billed_match(pod: PodSeen, settings: Settings) -> specs.SpecMatch:
    """What ECI billed, as the price list reads it: the annotation's spec in place of the expected one."""
    expected = specs.for_pod(pod.manifest, region=settings.region)
    if not pod.billed_spec:
        return expected
    vcpu, _, memory = pod.billed_spec.removesuffix("Gi").partition("-")
    if not pod.billed_spec.endswith("Gi"):
        mode = expected.mode if expected.mode is specs.Mode.SPOT else specs.Mode.ECS_TYPE
        return replace(expected, vcpu=None, memory_gib=None, mode=mode, instance_type=pod.billed_spec)
    category = pod.annotations.get(vocabulary.INSTANCE_COMPUTE_CATEGORY, expected.compute_category)
    return replace(
        expected,
        vcpu=quantities.plain(Decimal(vcpu)),
        memory_gib=quantities.plain(Decimal(memory)),
        compute_category=category,
    )


def money(amount: Decimal, currency: str) -> str:
    return f"{currency} {quantities.plain(amount.quantize(Decimal('1e-6'))):f}"
