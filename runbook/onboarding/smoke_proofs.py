"""What the evidence of a smoke pipeline proves: one function a promise, one check each.

GitLab's *success* alone proves nothing, since a stream that ends early can look like one: the script's last line must
have run, our runner must have taken the job, and ECI must have written its instance on the pod.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from runbook.eci import specs, vocabulary
from runbook.errors import SpecError
from runbook.onboarding.smoke_evidence import ALIAS, READ, WRITE, Evidence, JobSeen, billed_match, cost_of, money
from runbook.report import Check, Report, Unknown
from runbook.runner import trace
from runbook.settings import Settings

_FAILED_IN = {
    "prepare_executor": "The runner could not begin: it says why in the trace and in its own log (journalctl -u gitlab-runner).",
    "prepare_script": "The pod did not come to life: look at its state and events above, then at pods.poll_timeout.",
    "get_sources": "The pod could not clone: GitLab's address must be reachable from the pod (gitlab.clone_url in the card).",
    "restore_cache": "The cache could not be read: run notebook 30 with its probe.",
    "step_script": "The script began and did not end well: its last lines are in the trace.",
    "archive_cache": "The cache could not be written: run notebook 30 with its probe.",
}
"""What to do, by the section of the trace in which a job ended."""


def judge(evidence: Evidence, settings: Settings) -> Report:
    """One check a promise. A pipeline that was not run gives one skipped check with the reason."""
    if evidence.not_run:
        return Report("Smoke job", [Check.skipped("smoke-jobs", _JOBS_TITLE, evidence.not_run)])
    checks = [proof(evidence, settings) for proof in _PROOFS]
    facts = {"pipeline": evidence.url}
    facts |= {f"{job.name}, seconds": _stages(job) for job in evidence.jobs if trace.sections(job.trace)}
    return Report("Smoke job", checks, facts)


def _stages(job: JobSeen) -> str:
    return ", ".join(
        f"{section.name} {section.seconds if section.seconds is not None else '…'}"
        for section in trace.sections(job.trace)
    )


_JOBS_TITLE = "Both jobs of the pipeline ran to their end"


def _jobs_ran(evidence: Evidence, settings: Settings) -> Check:
    """The false green of a broken stream is caught here: the script's last line must have run."""
    if evidence.jobs and all(job.ran_to_its_end for job in evidence.jobs):
        return Check.passed("smoke-jobs", _JOBS_TITLE, f"{len(evidence.jobs)} jobs, pipeline {evidence.pipeline_id}")
    lines = [evidence.stopped] if evidence.stopped else []
    remedies = []
    for job in evidence.jobs:
        if job.ran_to_its_end:
            continue
        why = job.failure_reason or ("its last line did not run" if job.status == "success" else "")
        lines.append(f"{job.name}: {job.status}{f' ({why})' if why else ''} {job.url}".rstrip())
        lines += [f"  {line}" for line in trace.errors(job.trace)[-3:]]
        lines += [f"  pod {pod.name}: {pod.state}" for pod in evidence.seen_pods if pod.job_id == job.id]
        last = trace.sections(job.trace)[-1:]
        if job.status == "failed" and last:
            remedies.append(_FAILED_IN.get(last[0].name, "Read the job's page."))
    lines += [f"  {warning}" for warning in evidence.warnings()]
    return Check.failed(
        "smoke-jobs",
        _JOBS_TITLE,
        "\n".join(lines) or f"pipeline {evidence.status}",
        expected="success, and the script's last line in the trace",
        remedy="\n".join(dict.fromkeys(remedies)) or _pod_advice(evidence),
    )


def _pod_advice(evidence: Evidence) -> str:
    """What to do about pods that did not start, by what they and their events say."""
    seen = " ".join([*(pod.state for pod in evidence.seen_pods), *evidence.warnings()])
    for word, advice in _ADVICE.items():
        if word in seen:
            return advice
    return "Read the jobs' pages and the runner's log (journalctl -u gitlab-runner)."


_ADVICE = {
    "ErrImagePull": "An image cannot be pulled: check its name, and that the VPC has a NAT gateway or the image a copy in ACR.",
    "ImagePullBackOff": "An image cannot be pulled: check its name, and that the VPC has a NAT gateway or the image a copy in ACR.",
    "NoStock": "ECI has no such instance now: name more specs (pods.specs) or give the cluster vSwitches in more zones.",
    "StockExhaust": "ECI has no such instance now: name more specs (pods.specs) or give the cluster vSwitches in more zones.",
    "StockClose": "This zone sells no such instance: give the cluster vSwitches in other zones.",
    "QuotaExceeded": "The account's vCPU quota in this region is used up: ask for more in the quota centre.",
    "persistentvolumeclaim": "The cache claim is missing: run notebook 30.",
    "FailedMount": "A volume cannot be mounted: run notebook 30 with its probe.",
    "not scheduled": "No node takes the pod: an ACK cluster with ECS nodes needs kubernetes.kind: ack (notebook 10), then notebook 50.",
}


def _our_runner(evidence: Evidence, settings: Settings) -> Check:
    title = "Our runner took the jobs"
    takers = {job.runner_id for job in evidence.jobs if job.runner_id is not None}
    if takers == {evidence.runner_id}:
        return Check.passed("smoke-runner", title, f"runner {evidence.runner_id}")
    seen = ", ".join(f"runner {taker}" for taker in sorted(takers)) or "no runner"
    return Check.failed(
        "smoke-runner",
        title,
        f"{seen} took them",
        expected=f"runner {evidence.runner_id}",
        remedy=f"Another runner has the tag {settings.runner.smoke_tag}? Choose a tag of its own (runner.smoke_tag)."
        if takers
        else "Is gitlab-runner running, and does it read the config.toml that notebook 50 wrote?",
    )


def _on_virtual_nodes(evidence: Evidence, settings: Settings) -> Check:
    title = "Each job's pod ran on a virtual node"
    guard = _pods_missing("smoke-virtual-node", title, evidence)
    if guard:
        return guard
    lines, on_eci = [], True
    for pod in evidence.seen_pods:
        virtual = evidence.virtual_nodes.get(pod.node, Unknown("not read"))
        proved = bool(pod.instance_id) and virtual is not False
        on_eci = on_eci and proved
        instance = f", instance {pod.instance_id}" if pod.instance_id else ", no ECI instance"
        lines.append(f"{pod.name} on {pod.node or 'no node'}{instance}")
    if on_eci:
        return Check.passed("smoke-virtual-node", title, "\n".join(lines))
    return Check.failed(
        "smoke-virtual-node",
        title,
        "\n".join(lines),
        expected=f"a node {vocabulary.NODE_NAME_PREFIX}ZONE and the annotation {vocabulary.INSTANCE_ID}",
        remedy=f"In a cluster with ECS nodes job pods need the label {vocabulary.LABEL_ECI}: set kubernetes.kind: ack, run 50 again.",
    )


def _billed_spec(evidence: Evidence, settings: Settings) -> Check:
    title = "The billed spec is the one that the requests lead to"
    guard = _pods_missing("smoke-billed-spec", title, evidence)
    if guard:
        return guard
    lines, as_expected = [], True
    for pod in evidence.seen_pods:
        if not pod.billed_spec:
            return Check.failed(
                "smoke-billed-spec",
                title,
                f"{pod.name} has no {vocabulary.INSTANCE_SPEC}: it got no instance",
                expected="the spec that ECI writes there",
                remedy=_pod_advice(evidence),
            )
        try:
            expected = specs.for_pod(pod.manifest, region=settings.region)
        except SpecError as error:
            as_expected = False
            lines.append(f"{pod.name}: billed {pod.billed_spec}; {error.problem}")
            continue
        billed = billed_match(pod, settings)
        same = (billed.vcpu, billed.memory_gib) == (expected.vcpu, expected.memory_gib)
        as_expected = as_expected and (same or expected.vcpu is None)
        lines.append(f"{pod.name}: requested {expected.requested:long}, billed {pod.billed_spec}")
        if not same:
            lines[-1] += f", expected {expected.spec}"
    if as_expected:
        return Check.passed("smoke-billed-spec", title, "\n".join(lines))
    return Check.warned(
        "smoke-billed-spec",
        title,
        "\n".join(lines),
        expected="what `runbook spec` says",
        remedy="The bill follows the annotation. Stock may have led to another spec; compare with data/specs/SOURCES.md.",
    )


def _cost(evidence: Evidence, settings: Settings) -> Check:
    title = "What the jobs cost is known"
    guard = _pods_missing("smoke-cost", title, evidence)
    if guard:
        return guard
    events = () if isinstance(evidence.events, Unknown) else evidence.events
    costs = [cost_of(pod, events, settings) for pod in evidence.seen_pods]
    lines = [str(cost) for cost in costs]
    known = [cost.amount for cost in costs if cost.amount is not None]
    if len(known) < len(costs):
        return Check.skipped("smoke-cost", title, "\n".join(["unknown", *lines]))
    total = money(sum(known, Decimal(0)), costs[0].currency)
    return Check.passed("smoke-cost", title, "\n".join([f"{total} by the list, before tax and discounts", *lines]))


def _cache(evidence: Evidence, settings: Settings) -> Check:
    title = "The second job read what the first had written into the cache"
    if not settings.cache.enabled:
        return Check.skipped("smoke-cache", title, "cache.enabled is false in the card")
    reader = evidence.job(READ)
    read = reader.says.get("cache") if reader else None
    if read == str(evidence.pipeline_id):
        return Check.passed("smoke-cache", title, f"{READ} found the mark of pipeline {read}")
    if read is None:
        return Check.skipped("smoke-cache", title, f"{READ} did not get that far")
    return Check.failed(
        "smoke-cache",
        title,
        "nothing was in the cache" if read == "missing" else f"the cache held another run's mark: {read}",
        expected=f"the mark of pipeline {evidence.pipeline_id}",
        remedy=f"Is the claim {settings.cache.claim} mounted at {settings.cache.mount_path} (notebook 50), and does the probe of "
        "notebook 30 pass?\nThe sections restore_cache and archive_cache of the traces say what the runner did.",
    )


def _service(evidence: Evidence, settings: Settings) -> Check:
    title = "The service answered at 127.0.0.1"
    writer = evidence.job(WRITE)
    said = writer.says.get("service-local") if writer else None
    where = f"127.0.0.1:{settings.smoke.service_port} ({settings.smoke.service_image})"
    if said == "answered":
        return Check.passed("smoke-service", title, where)
    if said is None:
        return Check.skipped("smoke-service", title, f"{WRITE} did not get that far")
    return Check.failed(
        "smoke-service",
        title,
        f"nothing answered at {where} within {settings.smoke.service_start} s",
        expected="a service container of the pod that listens there",
        remedy="Does the image start by itself and listen on smoke.service_port? CI_DEBUG_SERVICES shows its output (runner 15.6).",
    )


def _alias(evidence: Evidence, settings: Settings) -> Check:
    title = "The service answered under its alias"
    writer = evidence.job(WRITE)
    said = writer.says.get("service-alias") if writer else None
    if said == "answered":
        return Check.passed("smoke-service-alias", title, f"{ALIAS}:{settings.smoke.service_port}")
    if said is None:
        return Check.skipped("smoke-service-alias", title, f"{WRITE} did not get that far")
    return Check.warned(
        "smoke-service-alias",
        title,
        f"{ALIAS} did not answer",
        expected="the pod's hostAliases, which runners write since 12.8",
        remedy="Let jobs use ${CI_SERVICE_HOST:-ALIAS} as the host name; notebook 50 sets CI_SERVICE_HOST (pods.service_host).",
    )


def _pods_gone(evidence: Evidence, settings: Settings) -> Check:
    title = "No pod of the jobs is left"
    if isinstance(evidence.leftovers, Unknown):
        return Check.skipped("smoke-pods-gone", title, str(evidence.leftovers))
    if not evidence.leftovers:
        seen = len(evidence.seen_pods)
        return Check.passed("smoke-pods-gone", title, f"{seen} seen, all deleted" if seen else "none was seen")
    namespace = settings.kubernetes.namespace
    return Check.failed(
        "smoke-pods-gone",
        title,
        f"still there: {', '.join(evidence.leftovers)}",
        expected="the runner deletes a job's pod at its end; until then it is billed",
        remedy="\n".join(f"kubectl -n {namespace} delete pod {name}" for name in evidence.leftovers),
    )


def _cleaned_up(evidence: Evidence, settings: Settings) -> Check:
    title = "The temporary branch is removed"
    if not evidence.cleanup:
        return Check.passed("smoke-branch-removed", title)
    return Check.warned(
        "smoke-branch-removed",
        title,
        "\n".join(evidence.cleanup),
        expected="no trace in the project but the pipeline",
        remedy="Remove it in GitLab; the next run of this notebook does so otherwise.",
    )


def _pods_missing(id: str, title: str, evidence: Evidence) -> Check | None:
    """The answer of a check about pods where there are none to look at."""
    if isinstance(evidence.pods, Unknown):
        return Check.failed(
            id,
            title,
            f"the pods of the jobs could not be watched: {evidence.pods}",
            expected="an account that may list and watch pods in the job pods' namespace",
            remedy="Notebook 10 prints the rule.",
        )
    unseen = [job.name for job in evidence.jobs if job.id not in {pod.job_id for pod in evidence.pods}]
    if unseen and any(job.status == "success" for job in evidence.jobs if job.name in unseen):
        return Check.failed(
            id,
            title,
            f"no pod of {', '.join(unseen)} was seen in this cluster's namespace",
            expected="pods of the jobs in kubernetes.namespace of this cluster",
            remedy="Did the job run in another namespace or cluster? Compare host and namespace in config.toml with the card.",
        )
    return None if evidence.pods else Check.skipped(id, title, "no job got a pod")


_PROOFS: tuple[Callable[[Evidence, Settings], Check], ...] = (
    _jobs_ran,
    _our_runner,
    _on_virtual_nodes,
    _billed_spec,
    _cost,
    _cache,
    _service,
    _alias,
    _pods_gone,
    _cleaned_up,
)
