"""Notebook 80's decisions: which pipeline, whether it may start, and what its evidence proves. Facts in, reports out."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import yaml

from runbook.eci import vocabulary
from runbook.errors import PlanError
from runbook.onboarding import smoke_evidence, smoke_job
from runbook.onboarding.connection import Node
from runbook.onboarding.registration import Mark, RegisteredRunner
from runbook.onboarding.smoke_evidence import Evidence, JobSeen, PodEvent, PodSeen
from runbook.onboarding.smoke_job import Facts, LintSeen
from runbook.onboarding.smoke_run import ProjectSeen, Task, run
from runbook.plan import Action, Plan
from runbook.report import Status, Unknown
from runbook.settings import Settings

CARD: dict[str, Any] = {
    "name": "test",
    "region": "cn-hangzhou",
    "cache": {"bucket": "ci-cache"},
    "gitlab": {"url": "https://gitlab.example.com"},
    "runner": {"tags": ["docker", "k8s"], "run_untagged": True},
    "smoke": {"project": "ops/smoke"},
}
SETTINGS = Settings.parse(CARD, where="card.yaml", dry_run=False)
PIPELINE, WRITE_ID, READ_ID, RUNNER_ID = 17, 101, 102, 7


def card(**sections: Mapping[str, Any]) -> Settings:
    """The card with some fields of some sections replaced."""
    return Settings.parse({**CARD, **{k: {**CARD.get(k, {}), **v} for k, v in sections.items()}}, where="card.yaml")


# -- the pipeline -----------------------------------------------------------------------------------------------------


def test_the_pipeline_is_two_jobs_with_the_smoke_tag() -> None:
    """One job writes the cache and has the service, the next reads the cache; both go to our runner only."""
    document = yaml.safe_load(smoke_job.pipeline(SETTINGS))
    assert document["stages"] == ["write", "read"]
    assert document["default"] == {"image": "alpine:3.20", "tags": ["eci-smoke"]}
    write, read = document["write-cache"], document["read-cache"]
    assert write["services"] == [{"name": "postgres:10-alpine", "alias": "smoke-service"}]
    assert (write["cache"]["policy"], read["cache"]["policy"]) == ("push", "pull")
    assert write["cache"]["key"] == read["cache"]["key"] == "eci-smoke-test"
    assert "services" not in read


def test_only_our_own_request_starts_the_pipeline() -> None:
    """The push that makes the branch starts nothing: a workflow rule admits pipelines of the API only."""
    document = yaml.safe_load(smoke_job.pipeline(SETTINGS))
    assert document["workflow"]["rules"] == [{"if": '$CI_PIPELINE_SOURCE == "api"'}]


def test_without_a_cache_there_is_nothing_to_keep() -> None:
    """cache.enabled: false leaves the jobs without a cache, and its check is skipped with that reason."""
    settings = card(cache={"enabled": False})
    document = yaml.safe_load(smoke_job.pipeline(settings))
    assert "cache" not in document["write-cache"]
    check = smoke_job.judge(evidence(), settings)["smoke-cache"]
    assert (check.status, check.observed) == (Status.SKIP, "cache.enabled is false in the card")


def test_the_file_has_no_references_that_people_cannot_read() -> None:
    """The plan shows the file as it is committed: no YAML anchors, no folded lines."""
    text = smoke_job.pipeline(SETTINGS)
    assert "&id" not in text
    assert "*id" not in text
    assert text.startswith("# Made by the notebook 80-run-smoke-job")


@pytest.fixture
def listening() -> Iterator[int]:
    """A port of this machine at which somebody accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=lambda: [server.accept()[0].close() for _ in range(2)], daemon=True)
        thread.start()
        yield server.getsockname()[1]


def test_the_script_says_what_it_found(listening: int, tmp_path: Any) -> None:
    """Run by a real shell, the first job's script finds the service, leaves its mark, and says so in lines that we read."""
    settings = card(smoke={"project": "ops/smoke", "service_port": listening})
    script = yaml.safe_load(smoke_job.pipeline(settings))["write-cache"]["script"]
    environment = {"CI_JOB_ID": "101", "CI_PIPELINE_ID": "17", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", "\n".join(script)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said = JobSeen(101, "write-cache", "success", trace=done.stdout).says
    assert said == {"service-local": "answered", "service-alias": "silent", "end": "101"}
    assert (tmp_path / ".smoke/mark").read_text() == "17"


# -- facts and plans --------------------------------------------------------------------------------------------------


RUNNER = RegisteredRunner(
    id=RUNNER_ID,
    type="instance_type",
    description="eci",
    tags=("eci-smoke",),
    run_untagged=False,
    locked=True,
    paused=False,
    access_level="not_protected",
    maximum_timeout=None,
    note=str(Mark("test")),
)
PROVED = replace(
    RUNNER,
    tags=("docker", "k8s"),
    run_untagged=True,
    locked=False,
    note=str(Mark("test", "https://gitlab.example.com/ops/smoke/-/pipelines/9")),
)
PROJECT = ProjectSeen(5, "ops/smoke", "main", ".gitlab-ci.yml", True, False, True, 40)
NODE = "virtual-kubelet-cn-hangzhou-j"
FACTS = Facts(
    gitlab="https://gitlab.example.com",
    project=PROJECT,
    runner=RUNNER,
    available=True,
    runner_version="17.9.2",
    contacted=datetime(2026, 11, 24, 11, 0, tzinfo=UTC),
    lint=LintSeen((), (), ("write-cache (tags eci-smoke)", "read-cache (tags eci-smoke)")),
    taken=(),
    branches=(),
    nodes=(Node(NODE, True, True, "cn-hangzhou-j"),),
)


def test_the_plan_shows_the_pipeline_and_what_the_runner_would_become() -> None:
    """Branch and pipeline are to be created, the runner is to be updated to the card's tags: everything with its diff."""
    plan = smoke_job.plan(FACTS, SETTINGS)
    assert [(change.action, change.kind) for change in plan.changes] == [
        (Action.CREATE, "Branch"),
        (Action.CREATE, "Pipeline"),
        (Action.UPDATE, "Runner"),
    ]
    assert "+write-cache:" in plan.changes[0].diff
    runner = plan.changes[2].diff
    for line in ("-- eci-smoke", "+- docker", "+- k8s", "-locked: true", "+locked: false", "+run_untagged: true"):
        assert line in runner
    assert not plan.blockers
    assert not plan.waiting_for


def test_the_plan_says_what_comes_from_outside() -> None:
    """Images with their registries, GitLab's address as a pod sees it, and the instance with its price an hour."""
    notes = smoke_job.plan(FACTS, SETTINGS).notes
    assert notes["image"] == "alpine:3.20 (from Docker Hub, or from an image cache)"
    assert "gitlab-runner-helper:x86_64-v17.9.2 (from registry.gitlab.com" in notes["helper image"]
    assert "4 vCPU / 8 GiB, CNY 0.882144 an hour" in notes["instance"]
    assert notes["GitLab"].startswith("https://gitlab.example.com")
    own = card(gitlab={"url": "https://a", "clone_url": "https://b"}, pods={"helper_image": "localhost:5000/helper:1"})
    notes = smoke_job.needs(FACTS, own)
    assert notes["GitLab"].startswith("https://b")
    assert "(from localhost:5000," in notes["helper image"]


@pytest.mark.parametrize(
    ("runner", "waits_for"),
    [(None, "40-register-runner"), (replace(RUNNER, paused=True), "50-configure-runner")],
    ids=["no runner", "paused"],
)
def test_a_rehearsal_before_its_predecessors_waits(runner: RegisteredRunner | None, waits_for: str) -> None:
    """Without a runner, or with one that is not configured yet, the rehearsal says which notebook comes first: no failure."""
    plan = smoke_job.plan(replace(FACTS, runner=runner), SETTINGS)
    assert plan.waiting_for.startswith(waits_for)
    nothing = Evidence(not_run="waits")
    assert smoke_job.release(plan, nothing, None, SETTINGS, dry_run=True).ok  # type: ignore[arg-type]


def test_applying_before_its_predecessors_is_refused() -> None:
    """With dry_run = False the same is an error that names the notebook to run first."""
    plan = smoke_job.plan(replace(FACTS, runner=None), SETTINGS)
    with pytest.raises(PlanError) as caught:
        run(plan, None, None, SETTINGS, None, dry_run=False)  # type: ignore[arg-type]
    assert "40-register-runner" in str(caught.value)


def test_a_proved_runner_has_nothing_to_change() -> None:
    """The second time there is nothing to do, and nothing is started."""
    plan = smoke_job.plan(replace(FACTS, runner=PROVED), SETTINGS)
    assert plan.empty
    assert "pipelines/9" in str(plan)
    seen = run(plan, None, None, SETTINGS, None, dry_run=False)  # type: ignore[arg-type]
    report = smoke_job.release(plan, seen, None, SETTINGS, dry_run=False)  # type: ignore[arg-type]
    assert report.verdict == "green; nothing to change"


def test_a_proved_runner_can_be_proved_again() -> None:
    """`again` starts a pipeline although the runner is proved; its tags are to stay."""
    plan = smoke_job.plan(replace(FACTS, runner=PROVED), SETTINGS, again=True)
    assert [(change.action, change.kind) for change in plan.changes][-1] == (Action.KEEP, "Runner")
    assert any(isinstance(change.desired, Task) for change in plan.changes)


BLOCKED = [
    ("archived", replace(FACTS, project=replace(PROJECT, archived=True)), "smoke-project", "it is archived"),
    ("no CI", replace(FACTS, project=replace(PROJECT, ci_enabled=False)), "smoke-project", "CI/CD is switched off"),
    ("empty", replace(FACTS, project=replace(PROJECT, default_branch="")), "smoke-project", "no commit yet"),
    ("guest", replace(FACTS, project=replace(PROJECT, role=10)), "smoke-project", "not a Developer"),
    ("file elsewhere", replace(FACTS, project=replace(PROJECT, ci_path="ci.yml@a/b")), "smoke-project", "kept elsewhere"),
    ("runner elsewhere", replace(FACTS, available=False), "smoke-project", "not among the runners"),
    ("invalid", replace(FACTS, lint=LintSeen(("jobs:x is wrong",), (), ())), "smoke-lint", "jobs:x is wrong"),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "id", "words"), [row[1:] for row in BLOCKED], ids=[row[0] for row in BLOCKED])
def test_what_would_fail_is_said_before_it_starts(facts: Facts, id: str, words: str) -> None:
    """A project that cannot run the pipeline blocks it, in a rehearsal too, with a remedy."""
    plan = smoke_job.plan(facts, SETTINGS)
    (blocker,) = plan.blockers
    assert blocker.id == id
    assert words in blocker.observed
    assert blocker.remedy
    seen = run(plan, None, None, SETTINGS, None, dry_run=False)  # type: ignore[arg-type]
    assert seen.not_run
    assert not smoke_job.release(plan, seen, None, SETTINGS, dry_run=True).ok  # type: ignore[arg-type]


def test_an_administrators_role_is_no_obstacle() -> None:
    """An administrator who is no member has no role there: GitLab lets them all the same."""
    assert not smoke_job.plan(replace(FACTS, project=replace(PROJECT, role=None)), SETTINGS).blockers
    assert not smoke_job.plan(replace(FACTS, available=Unknown("403")), SETTINGS).blockers


def test_the_branch_has_a_free_number() -> None:
    """The temporary branch takes the first number that no branch has."""
    plan = smoke_job.plan(replace(FACTS, taken=("eci-smoke-1", "eci-smoke-3", "eci-smoke")), SETTINGS)
    assert plan.changes[0].name == "ops/smoke eci-smoke-2"


def test_what_an_interrupted_run_left_is_removed() -> None:
    """A leftover branch is deleted first."""
    plan = smoke_job.plan(replace(FACTS, taken=("eci-smoke-1",), branches=("eci-smoke-1",)), SETTINGS)
    assert (plan.changes[0].action, plan.changes[0].name) == (Action.DELETE, "eci-smoke-1")


def test_a_rehearsal_starts_nothing_and_is_green() -> None:
    """A dry run is CI lint and the job that would start: no pipeline, no failure."""
    plan = smoke_job.plan(FACTS, SETTINGS)
    seen = run(plan, None, None, SETTINGS, None, dry_run=True)  # type: ignore[arg-type]
    report = smoke_job.release(plan, seen, None, SETTINGS, dry_run=True)  # type: ignore[arg-type]
    assert seen.not_run == "dry run: nothing was started"
    assert report.ok
    assert report["smoke-lint"].status is Status.PASS
    assert report.verdict.endswith("rehearsed: 2 to create, 1 to update")


def test_facts_are_plain_values() -> None:
    """Facts can be saved as JSON, and their two faces name runner, project and nodes."""
    assert json.loads(json.dumps(FACTS.as_dict()))["runner"]["id"] == RUNNER_ID
    for face in (str(FACTS), FACTS._repr_html_()):
        assert "ops/smoke" in face
        assert NODE in face
    assert "403" in str(replace(FACTS, nodes=Unknown("403")))
    assert "none with our mark" in str(replace(FACTS, runner=None))


# -- evidence ---------------------------------------------------------------------------------------------------------


def trace(job: int, pod: str, **says: str) -> str:
    """What a runner writes of a job that ran to its end, with what its script said."""
    said = "".join(f"eci-smoke:{name.replace('_', '-')}={value}\n" for name, value in says.items())
    return (
        "Running with gitlab-runner 17.9.2 (1a2b3c4d)\n"
        "section_start:1795523385:prepare_script\r\x1b[0KPreparing environment\n"
        f"Running on {pod} via manager...\n"
        "section_end:1795523397:prepare_script\r\x1b[0Ksection_start:1795523397:step_script\r\x1b[0K\n"
        f"{said}eci-smoke:end={job}\n"
        "section_end:1795523402:step_script\r\x1b[0KJob succeeded\n"
    )


def manifest(job: int, **annotations: str) -> dict[str, Any]:
    """The last state of a job's pod on ECI: 2 vCPU and 6 GiB requested by the build container, ended after 100 seconds."""
    written = {
        "ci-job-id": str(job),
        vocabulary.INSTANCE_ID: f"eci-bp1{job}",
        vocabulary.INSTANCE_SPEC: "4.0-8.0Gi",
        **annotations,
    }
    return {
        "metadata": {"name": f"runner-{job}", "uid": f"uid-{job}", "annotations": written, "labels": {}},
        "spec": {
            "nodeName": NODE,
            "containers": [
                {"name": "build", "resources": {"requests": {"cpu": "2", "memory": "6Gi"}}},
                {"name": "helper", "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}}},
            ],
        },
        "status": {
            "phase": "Failed",
            "conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-11-24T11:00:00Z"},
                {"type": vocabulary.CONDITION_CREATED, "status": "True", "lastTransitionTime": "2026-11-24T11:00:10Z"},
            ],
            "containerStatuses": [
                {"name": name, "state": {"terminated": {"exitCode": 137, "finishedAt": finished}}}
                for name, finished in (("build", "2026-11-24T11:01:49Z"), ("helper", "2026-11-24T11:01:50Z"))
            ],
        },
    }


def evidence(**changes: Any) -> Evidence:
    """The evidence of a green run, with some of it replaced."""
    write = trace(WRITE_ID, f"runner-{WRITE_ID}", service_local="answered", service_alias="answered")
    read = trace(READ_ID, f"runner-{READ_ID}", cache=str(PIPELINE))
    green = Evidence(
        runner_id=RUNNER_ID,
        pipeline_id=PIPELINE,
        url="https://gitlab.example.com/ops/smoke/-/pipelines/17",
        status="success",
        jobs=(
            JobSeen(WRITE_ID, "write-cache", "success", "https://gitlab.example.com/1", "", RUNNER_ID, 2.0, write),
            JobSeen(READ_ID, "read-cache", "success", "https://gitlab.example.com/2", "", RUNNER_ID, 1.0, read),
        ),
        pods=(PodSeen(WRITE_ID, manifest(WRITE_ID), True), PodSeen(READ_ID, manifest(READ_ID), True)),
        virtual_nodes={NODE: True},
    )
    return replace(green, **changes)


def changed_job(index: int, **changes: Any) -> tuple[JobSeen, ...]:
    jobs = list(evidence().jobs)
    jobs[index] = replace(jobs[index], **changes)
    return tuple(jobs)


def test_a_green_run_proves_everything() -> None:
    """Every promise has its check, and all pass: both jobs, our runner, virtual nodes, spec, cost, cache, service, alias."""
    report = smoke_job.judge(evidence(), SETTINGS)
    assert [(check.id, check.status) for check in report.checks] == [
        (id, Status.PASS)
        for id in (
            "smoke-jobs",
            "smoke-runner",
            "smoke-virtual-node",
            "smoke-billed-spec",
            "smoke-cost",
            "smoke-cache",
            "smoke-service",
            "smoke-service-alias",
            "smoke-pods-gone",
            "smoke-branch-removed",
        )
    ]
    assert "prepare_script 12, step_script 5" in report.facts["write-cache, seconds"]


def test_a_success_without_the_scripts_last_line_is_no_success() -> None:
    """A connection that ends early can look green to GitLab: without the last line of the script the job is not proved."""
    cut = evidence().jobs[0].trace.replace(f"eci-smoke:end={WRITE_ID}\n", "")
    check = smoke_job.judge(evidence(jobs=changed_job(0, trace=cut)), SETTINGS)["smoke-jobs"]
    assert check.status is Status.FAIL
    assert "its last line did not run" in check.observed


def test_another_jobs_last_line_does_not_count() -> None:
    """The last line names its job."""
    other = evidence().jobs[0].trace.replace(f"end={WRITE_ID}", "end=1")
    assert not smoke_job.judge(evidence(jobs=changed_job(0, trace=other)), SETTINGS).ok


def test_a_failed_job_shows_where_and_why() -> None:
    """The check holds the reason, the last error of the trace, the pod's state and its warnings, and advice by section."""
    text = (
        "section_start:1795523385:prepare_script\r\x1b[0KPreparing environment\n"
        "ERROR: Job failed (system failure): prepare environment: image pull failed\n"
    )
    pod = manifest(WRITE_ID)
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "not found"}}
    pod["status"] = {"phase": "Pending", "containerStatuses": [{"name": "build", "state": waiting}]}
    seen = evidence(
        status="failed",
        jobs=changed_job(0, status="failed", failure_reason="runner_system_failure", trace=text),
        pods=(PodSeen(WRITE_ID, pod, True),),
        events=(PodEvent(f"runner-{WRITE_ID}", "Warning", "Failed", "Failed to pull image", None),),
    )
    check = smoke_job.judge(seen, SETTINGS)["smoke-jobs"]
    assert check.status is Status.FAIL
    for words in (
        "runner_system_failure",
        "image pull failed",
        "build: ErrImagePull not found",
        "Failed to pull image",
    ):
        assert words in check.observed
    assert "poll_timeout" in check.remedy


STATES = [
    ({"phase": "Pending"}, {"nodeName": NODE}, f"Pending on {NODE}"),
    (
        {"conditions": [{"type": vocabulary.CONDITION_CREATED, "status": "False", "reason": "ContainerGroup.NoStock"}]},
        {},
        "Pending, ContainerInstanceCreated: ContainerGroup.NoStock",
    ),
    (
        {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]},
        {},
        "Pending, not scheduled: 0/3 nodes are available",
    ),
    ({"phase": "Failed", "reason": "BidFailed"}, {}, "Failed, BidFailed"),
    (
        {"containerStatuses": [{"name": "build", "state": {"waiting": {"reason": "ContainerCreating"}}}]},
        {},
        "Pending",
    ),
]


@pytest.mark.parametrize(("status", "spec", "state"), STATES, ids=[row[2] for row in STATES])
def test_a_pods_state_is_one_line(status: dict[str, Any], spec: dict[str, Any], state: str) -> None:
    """Phase, node, and whatever holds it up."""
    assert smoke_evidence.state_of({"metadata": {"name": "p"}, "spec": spec, "status": status}) == state


def test_a_pod_that_leaves_is_said_to() -> None:
    """A pod being deleted is Terminating whatever its phase, as in kubectl; afterwards it is Deleted, and why it ended stays."""
    pod = {"metadata": {"name": "p", "deletionTimestamp": "x"}, "status": {"phase": "Failed", "reason": "BidFailed"}}
    assert smoke_evidence.state_of(pod) == "Terminating, BidFailed"
    assert PodSeen(1, pod, gone=True).state == "Deleted, BidFailed"


def test_no_stock_has_its_own_advice() -> None:
    """A pipeline that was stopped while ECI had no instance says what to do about stock."""
    pod = manifest(WRITE_ID)
    pod["status"] = {"conditions": [{"type": vocabulary.CONDITION_CREATED, "status": "False", "reason": "NoStock"}]}
    seen = evidence(
        stopped="the time is over",
        jobs=changed_job(0, status="canceled", trace=""),
        pods=(PodSeen(WRITE_ID, pod, True),),
    )
    check = smoke_job.judge(seen, SETTINGS)["smoke-jobs"]
    assert "the time is over" in check.observed
    assert "more specs" in check.remedy


def test_another_runner_is_no_proof() -> None:
    """Jobs that somebody else's runner took say nothing about ours."""
    check = smoke_job.judge(evidence(jobs=changed_job(1, runner_id=99)), SETTINGS)["smoke-runner"]
    assert check.status is Status.FAIL
    assert "runner 99" in check.observed


@pytest.mark.parametrize(
    ("nodes", "instance", "status"),
    [
        ({NODE: True}, "eci-bp1", Status.PASS),
        ({}, "eci-bp1", Status.PASS),
        ({NODE: False}, "eci-bp1", Status.FAIL),
        ({NODE: True}, "", Status.FAIL),
    ],
    ids=["virtual", "nodes unreadable", "ECS node", "no instance"],
)
def test_the_virtual_node_is_proved_by_node_and_instance(nodes: dict[str, bool], instance: str, status: Status) -> None:
    """The instance id that ECI wrote proves it; a node known to be a machine disproves it."""
    pod = manifest(WRITE_ID, **{vocabulary.INSTANCE_ID: instance})
    seen = evidence(virtual_nodes=nodes, jobs=evidence().jobs[:1], pods=(PodSeen(WRITE_ID, pod, True),))
    assert smoke_job.judge(seen, SETTINGS)["smoke-virtual-node"].status is status


def test_pods_that_may_not_be_read_prove_nothing() -> None:
    """403 on pods fails the checks that need them, with the rule's place: what was not seen is not proved."""
    report = smoke_job.judge(evidence(pods=Unknown("403 on pods"), leftovers=Unknown("403 on pods")), SETTINGS)
    for id in ("smoke-virtual-node", "smoke-billed-spec", "smoke-cost"):
        assert report[id].status is Status.FAIL
        assert "403 on pods" in report[id].observed
    assert report["smoke-pods-gone"].status is Status.SKIP


def test_a_job_without_a_pod_here_ran_somewhere_else() -> None:
    """Success without a pod in this namespace means another namespace or cluster."""
    check = smoke_job.judge(evidence(pods=(PodSeen(WRITE_ID, manifest(WRITE_ID), True),)), SETTINGS)[
        "smoke-virtual-node"
    ]
    assert check.status is Status.FAIL
    assert "no pod of read-cache" in check.observed


def test_the_billed_spec_is_compared_with_the_expected_one() -> None:
    """Another spec than the ladder's is a warning that shows both."""
    pods = (
        PodSeen(WRITE_ID, manifest(WRITE_ID, **{vocabulary.INSTANCE_SPEC: "4.0-16.0Gi"}), True),
        PodSeen(READ_ID, manifest(READ_ID), True),
    )
    check = smoke_job.judge(evidence(pods=pods), SETTINGS)["smoke-billed-spec"]
    assert check.status is Status.WARN
    assert "requested 2.25 vCPU / 6.5 GiB, billed 4.0-16.0Gi, expected 4-8Gi" in check.observed


def test_the_cost_is_list_price_times_seconds() -> None:
    """4 vCPU and 8 GiB for 100 seconds, twice: (4 × 0.000049 + 8 × 0.00000613) × 200 CNY; and it says how that is known."""
    check = smoke_job.judge(evidence(), SETTINGS)["smoke-cost"]
    assert check.observed.splitlines() == [
        "CNY 0.049008 by the list, before tax and discounts",
        *[
            "4.0-8.0Gi: CNY 0.024504 for 1 min 40 s (observed, from ContainerInstanceCreated to the last container's end)"
        ]
        * 2,
    ]


def test_a_spot_instances_cost_is_unknown_with_a_reason() -> None:
    """The market's price is not in a list: no amount, but the reason, and no failure."""
    pod = manifest(WRITE_ID, **{vocabulary.SPOT_STRATEGY: "SpotAsPriceGo"})
    cost = smoke_evidence.cost_of(PodSeen(WRITE_ID, pod), (), SETTINGS)
    assert cost.amount is None
    assert "market price" in cost.reason
    seen = evidence(pods=(PodSeen(WRITE_ID, pod, True), PodSeen(READ_ID, manifest(READ_ID), True)))
    check = smoke_job.judge(seen, SETTINGS)["smoke-cost"]
    assert check.status is Status.SKIP
    assert "market price" in check.observed


def test_an_instance_billed_by_ecs_type_has_no_list_price() -> None:
    """`ecs.c6.large` on the pod is billed by that type: no amount, but the type's name."""
    pod = manifest(WRITE_ID, **{vocabulary.INSTANCE_SPEC: "ecs.c6.large"})
    cost = smoke_evidence.cost_of(PodSeen(WRITE_ID, pod), (), SETTINGS)
    assert cost.amount is None
    assert "ecs.c6.large" in cost.reason


SPANS = [
    ("stop event", {}, [vocabulary.EVENT_STOP_CHARGE], 115, "StopCharge"),
    ("containers", {}, [], 100, "the last container's end"),
    ("deletion only", {"containerStatuses": []}, [], 105, "bounded"),
    ("no instance", {"conditions": []}, [], None, "nothing is charged"),
    (
        "old node",
        {"conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-11-24T11:00:00Z"}]},
        [],
        110,
        "too early",
    ),
]


@pytest.mark.parametrize(
    ("status", "reasons", "seconds", "basis"), [row[1:] for row in SPANS], ids=[row[0] for row in SPANS]
)
def test_how_the_charged_seconds_are_known(
    status: dict[str, Any], reasons: list[str], seconds: int | None, basis: str
) -> None:
    """Observed by ECI's event or the containers' ends, bounded by the deletion, or not at all: it is said which."""
    pod = manifest(WRITE_ID)
    pod["status"] |= status
    pod["metadata"]["deletionTimestamp"] = "2026-11-24T11:01:55Z"
    at = smoke_evidence.moments.parse("2026-11-24T11:02:05Z")
    events = [PodEvent(f"runner-{WRITE_ID}", "Normal", reason, "", at) for reason in reasons]
    cost = smoke_evidence.cost_of(PodSeen(WRITE_ID, pod), events, SETTINGS)
    assert cost.seconds == seconds
    assert basis in cost.basis
    assert (cost.amount is None) is (seconds is None)
    if seconds:
        assert cost.amount == Decimal(seconds) * (4 * Decimal("0.000049") + 8 * Decimal("0.00000613"))


@pytest.mark.parametrize(
    ("said", "status", "words"),
    [
        (str(PIPELINE), Status.PASS, "pipeline 17"),
        ("missing", Status.FAIL, "nothing was in the cache"),
        ("16", Status.FAIL, "another run's mark: 16"),
        (None, Status.SKIP, "did not get that far"),
    ],
)
def test_the_cache_must_hold_this_runs_mark(said: str | None, status: Status, words: str) -> None:
    """What an earlier run left in the cache is no proof: the mark is this pipeline's number."""
    text = trace(READ_ID, "p", **({"cache": said} if said else {}))
    check = smoke_job.judge(evidence(jobs=changed_job(1, trace=text)), SETTINGS)["smoke-cache"]
    assert check.status is status
    assert words in check.observed


@pytest.mark.parametrize(
    ("local", "alias", "local_status", "alias_status"),
    [
        ("answered", "answered", Status.PASS, Status.PASS),
        ("answered", "silent", Status.PASS, Status.WARN),
        ("silent", "silent", Status.FAIL, Status.WARN),
    ],
)
def test_the_service_must_answer_and_its_alias_should(
    local: str, alias: str, local_status: Status, alias_status: Status
) -> None:
    """Silence at 127.0.0.1 fails; silence under the alias is a warning, since CI_SERVICE_HOST helps."""
    text = trace(WRITE_ID, "p", service_local=local, service_alias=alias)
    report = smoke_job.judge(evidence(jobs=changed_job(0, trace=text)), SETTINGS)
    assert report["smoke-service"].status is local_status
    assert report["smoke-service-alias"].status is alias_status


def test_a_pod_that_stays_is_a_failure() -> None:
    """A pod that outlives its job is billed on: the check names it, with the command that ends it."""
    check = smoke_job.judge(evidence(leftovers=("runner-101",)), SETTINGS)["smoke-pods-gone"]
    assert check.status is Status.FAIL
    assert check.remedy == "kubectl -n gitlab-ci delete pod runner-101"


def test_what_could_not_be_removed_is_said() -> None:
    """A branch that stayed is a warning: it does not disprove the runner."""
    report = smoke_job.judge(evidence(cleanup=("GitLab answered 500",)), SETTINGS)
    assert report["smoke-branch-removed"].status is Status.WARN
    assert report.ok


def test_a_runner_that_is_not_proved_keeps_its_tags() -> None:
    """With one failed proof GitLab is not asked for anything: there is no client here that could be."""
    seen = evidence(leftovers=("runner-101",))
    report = smoke_job.release(Plan("Smoke job", []), seen, None, SETTINGS, dry_run=False)  # type: ignore[arg-type]
    assert not report.ok
    check = report["smoke-released"]
    assert (check.status, check.observed) == (Status.SKIP, "1 proof failed: its tags stay as they were")


# -- pods -------------------------------------------------------------------------------------------------------------


def test_a_pods_environment_is_not_kept() -> None:
    """Old runners put the job's token into the pod's environment: evidence keeps only ECI's own word of it."""
    pod = manifest(WRITE_ID)
    pod["spec"]["containers"][0]["env"] = [
        {"name": "CI_JOB_TOKEN", "value": "VERYSECRET"},
        {"name": vocabulary.ENV_RESOURCE_IGNORE, "value": "TRUE"},
    ]
    kept = smoke_evidence.without_environment(pod)
    assert "VERYSECRET" not in json.dumps(kept)
    assert kept["spec"]["containers"][0]["env"] == [{"name": vocabulary.ENV_RESOURCE_IGNORE, "value": "TRUE"}]
    assert pod["spec"]["containers"][0]["env"][0]["value"] == "VERYSECRET"


def test_a_pod_is_joined_to_its_job_by_id_else_by_name() -> None:
    """The job's id on the pod decides; a runner that writes none is joined by the pod's name in the trace."""
    jobs = evidence().jobs
    assert smoke_evidence.job_of(manifest(READ_ID), jobs) == jobs[1]
    assert smoke_evidence.job_of({"metadata": {"name": f"runner-{WRITE_ID}"}}, jobs) == jobs[0]
    assert smoke_evidence.job_of(manifest(999), jobs) is None
    of_gitlab = {"metadata": {"name": "x", "annotations": {"job.runner.gitlab.com/id": str(WRITE_ID)}}}
    assert smoke_evidence.job_of(of_gitlab, jobs) == jobs[0]
    assert smoke_evidence.job_of({"metadata": {"name": "coredns"}}, jobs) is None


def test_evidence_is_plain_values() -> None:
    """Evidence can be saved as JSON, also with facts that are not known; its faces name jobs, pods and warnings."""
    seen = evidence(events=(PodEvent("runner-101", "Warning", "NoStock", "out of stock", None),))
    assert json.loads(json.dumps(seen.as_dict(), default=str))["pipeline_id"] == PIPELINE
    json.dumps(evidence(pods=Unknown("403"), events=Unknown("403"), leftovers=Unknown("403")).as_dict())
    for face in (str(seen), seen._repr_html_()):
        for words in ("runner-101", "write-cache", "NoStock: out of stock", NODE):
            assert words in face
    assert "none: dry run" in str(Evidence(not_run="dry run"))
