"""Jobs from GitLab's queue to their verdict, by the runner stand-in (or the binary that GITLAB_RUNNER names) on the practice cluster."""

from __future__ import annotations

import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gitlab
import pytest
import trustme
import yaml
from kubernetes import client, config

from sandbox.eci_node import EciNode
from sandbox.gitlab.process import GitLab
from sandbox.practice import PracticeCluster
from sandbox.runner.process import BINARY_VARIABLE, Runner

NAMESPACE = "runner-tests"
NEWEST, NEW, OLD, OLDER = "19.3.0", "17.9.2", "14.7.1", "13.6.0"
EXEC = {"FF_USE_LEGACY_KUBERNETES_EXECUTION_STRATEGY": "true"}
PATIENCE_SECONDS = 60.0
RECORDINGS = Path(os.environ.get("RUNBOOK_TRACES", "/nonexistent")) / "runner-recordings"

plays_versions = pytest.mark.skipif(
    BINARY_VARIABLE in os.environ, reason=f"{BINARY_VARIABLE} names a real binary, which plays no other version"
)
pytestmark = pytest.mark.timeout(180)


def wait_for(what: str, seen: Callable[[], Any]) -> Any:
    """Ask until the answer is true, and return it; fail with *what* after a minute."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        answer = seen()
        if answer:
            return answer
        time.sleep(0.1)
    raise AssertionError(f"waited {PATIENCE_SECONDS:.0f} s in vain for {what}")


@dataclass(frozen=True)
class Ended:
    """A job that is over, as GitLab has it."""

    name: str
    status: str
    failure_reason: str | None
    trace: str

    @property
    def text(self) -> str:
        """The trace without colours."""
        return re.sub(r"\x1b\[[0-9;]*[mK]", "", self.trace)


class Bench:
    """A GitLab, a cluster with virtual nodes, and a tag of its own, so that only the runner of this test takes its jobs."""

    def __init__(
        self,
        practice: PracticeCluster,
        node: EciNode,
        folder: Path,
        *,
        server: GitLab | None = None,
        ca: Path | None = None,
    ) -> None:
        self.practice, self.node, self.folder = practice, node, folder
        self.server = server or practice.gitlab
        self.gitlab = gitlab.Gitlab(
            self.server.url, private_token=self.server.token("root"), ssl_verify=str(ca) if ca else True
        )
        self.tag = f"t-{uuid.uuid4().hex[:8]}"
        self.project = self.gitlab.projects.get(self.server.projects["practice/echo"])
        made = {"runner_type": "instance_type", "description": self.tag, "tag_list": [self.tag], "run_untagged": False}
        answer: Any = self.gitlab.http_post("/user/runners", post_data=made)
        self.runner_id, self.token = int(answer["id"]), str(answer["token"])
        settings = client.Configuration()
        config.load_kube_config(str(practice.kubeconfig), client_configuration=settings)
        self.api: Any = client.CoreV1Api(client.ApiClient(settings))

    @property
    def config(self) -> Path:
        """The runner's config.toml."""
        return self.folder / "config.toml"

    def write_config(
        self,
        *,
        concurrent: int = 4,
        runner: dict[str, str] | None = None,
        kubernetes: dict[str, str] | None = None,
        flags: dict[str, str] | None = None,
        claim: str = "",
    ) -> Path:
        """config.toml with one runner; values are TOML as it stands, so that types can be wrong."""
        keys = self.practice.control_plane.keys
        of_runner = {"limit": "0", "environment": '["CI_SERVICE_HOST=127.0.0.1"]', **(runner or {})}
        of_kubernetes = {
            "host": f'"{self.practice.control_plane.server}"',
            "ca_file": f'"{keys["ca.crt"]}"',
            "cert_file": f'"{keys["admin.crt"]}"',
            "key_file": f'"{keys["admin.key"]}"',
            "namespace": f'"{NAMESPACE}"',
            "image": '"alpine:3.20"',
            "helper_image": '"registry.example/gitlab-runner-helper:1"',
            "poll_interval": "1",
            "poll_timeout": "30",
            "cpu_request": '"500m"',
            "pod_termination_grace_period_seconds": "1",
            **(kubernetes or {}),
        }
        lines = [f"concurrent = {concurrent}", "check_interval = 1", "[[runners]]", f'name = "{self.tag}"']
        lines += [f'url = "{self.server.url}"', f'token = "{self.token}"', 'executor = "kubernetes"']
        lines += [f"{key} = {value}" for key, value in of_runner.items()]
        lines += ["[runners.feature_flags]", *(f"{key} = {value}" for key, value in (flags or {}).items())]
        lines += ["[runners.kubernetes]", *(f"{key} = {value}" for key, value in of_kubernetes.items())]
        if claim:
            lines += ["[[runners.kubernetes.volumes.pvc]]", f'name = "{claim}"', 'mount_path = "/cache"']
        self.config.write_text("\n".join(lines) + "\n")
        return self.config

    def start(self, jobs: dict[str, Any], *, variables: dict[str, str] | None = None) -> Any:
        """A pipeline of *jobs* (as in .gitlab-ci.yml, by name) on a branch of its own."""
        tagged = {name: {"tags": [self.tag], **job} if isinstance(job, dict) else job for name, job in jobs.items()}
        branch = f"b-{uuid.uuid4().hex[:8]}"
        change = {"action": "update", "file_path": ".gitlab-ci.yml", "content": yaml.safe_dump(tagged, sort_keys=False)}
        self.project.commits.create(
            {"branch": branch, "start_branch": "main", "commit_message": "Try a job", "actions": [change]}
        )
        rows = [{"key": key, "value": value} for key, value in (variables or {}).items()]
        pipelines = self.project.pipelines.list(ref=branch)
        return (
            pipelines[0]
            if pipelines and not rows
            else self.project.pipelines.create({"ref": branch, "variables": rows})
        )

    def ended(self, pipeline: Any) -> dict[str, Ended]:
        """Wait until every job of *pipeline* is over."""

        def over() -> bool:
            pipeline.refresh()
            return pipeline.status in ("success", "failed", "canceled")

        wait_for(f"the end of pipeline {pipeline.id}", over)
        project = self.gitlab.projects.get(pipeline.project_id)
        jobs = [project.jobs.get(job.id) for job in pipeline.jobs.list(get_all=True)]
        return {
            job.name: Ended(
                job.name, job.status, getattr(job, "failure_reason", None), job.trace().decode(errors="replace")
            )
            for job in jobs
        }

    def pods(self) -> list[Any]:
        """The job pods that are there now."""
        return list(self.api.list_namespaced_pod(NAMESPACE).items)

    def running_pod(self) -> str:
        """The name of the one job pod, as soon as its script runs."""

        def running() -> str | None:
            return next((pod.metadata.name for pod in self.pods() if pod.status.phase == "Running"), None)

        return str(wait_for("a running pod", running))

    def trace(self, pipeline: Any) -> str:
        """The trace so far of the pipeline's only job."""
        return "".join(
            self.project.jobs.get(job.id).trace().decode(errors="replace") for job in pipeline.jobs.list(get_all=True)
        )


@pytest.fixture(scope="module")
def node(practice: PracticeCluster) -> EciNode:
    """The virtual nodes of the practice cluster, with a namespace for this module's pods."""
    practice.kubectl("create", "namespace", NAMESPACE)
    return practice.node


@pytest.fixture
def bench(practice: PracticeCluster, node: EciNode, tmp_path: Path) -> Iterator[Bench]:
    """A bench whose pods are gone and whose runner is deleted afterwards."""
    bench = Bench(practice, node, tmp_path)
    yield bench
    node.faults.heal_pulls()
    node.faults.stream_ending("killed")
    bench.gitlab.runners.delete(bench.runner_id)
    bench.api.delete_collection_namespaced_pod(NAMESPACE, grace_period_seconds=0)


# --- jobs that end well -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "flags"),
    [
        pytest.param(NEW, {}, id="17.9.2-attach"),
        pytest.param(NEW, EXEC, id="17.9.2-exec", marks=plays_versions),
        pytest.param(OLD, {}, id="14.7.1-attach", marks=plays_versions),
        pytest.param(OLDER, {}, id="13.6.0-exec", marks=plays_versions),
        pytest.param(NEWEST, {}, id="19.3.0-attach", marks=plays_versions),
    ],
)
def test_a_job_runs_and_its_pod_goes(bench: Bench, version: str, flags: dict[str, str]) -> None:
    """A job of any version and strategy is cloned, run and reported, and its pod is deleted."""
    bench.write_config(flags=flags)
    with Runner(bench.config, version=version):
        job = bench.ended(bench.start({"say": {"script": ["cat .gitlab-ci.yml", "echo hello"]}}))["say"]
        assert (job.status, job.failure_reason) == ("success", None), job.text
        assert "$ echo hello\nhello\n" in job.text
        assert job.text.rstrip().endswith("Job succeeded")
        wait_for("the pod to go", lambda: not bench.pods())


WITHIN_ANY_TRACE = (
    (r"section_(start|end):\d+", r"section_\1:T"),
    (r"runner-[^/\s]+-concurrent-\w+", "POD"),
    (r"\S+/POD", "NAMESPACE/POD"),
    (r"(Kubernetes namespace:|with image|POD via) \S+", r"\1 X"),
    (r"14\.7\.1 \(\w+\)", "14.7.1 (X)"),
    (r"  on \S+ [^\s\x1b]+", "  on X X"),
    (r"(Waiting for pod[^\n]*\n)(\t[^\n]*\n|Waiting for pod[^\n]*\n)*", r"\1"),
    (r"(\$ )[^\x1b]*", r"\1X"),
)


def shape(trace: str) -> str:
    """A trace without what differs from run to run: times, names of pods, hosts and images, and the script's own output."""
    for pattern, replacement in WITHIN_ANY_TRACE:
        trace = re.sub(pattern, replacement, trace)
    return re.sub(r"(\$ X\x1b\[0;m\n).*?\n\n(?=section_end)", r"\1OUTPUT\n\n", trace, flags=re.DOTALL)


@plays_versions
def test_a_trace_has_the_recorded_shape(bench: Bench) -> None:
    """Sections, titles, notices and blank lines of a 14.7.1 job are, in their order, those of a recorded one."""
    if not RECORDINGS.is_dir():
        pytest.skip("RUNBOOK_TRACES does not point to a folder with runner-recordings/")
    bench.write_config()
    with Runner(bench.config, version=OLD):
        job = bench.ended(bench.start({"say": {"script": ["echo hello"], "variables": {"GIT_STRATEGY": "none"}}}))[
            "say"
        ]
    recorded = (RECORDINGS / "trace-success-attach-14.7.1.log").read_bytes().decode()
    assert shape(job.trace) == shape(recorded)


def test_a_cache_on_the_claim_is_read_back(bench: Bench, claim: str) -> None:
    """What one job puts into its cache on the mounted claim, the next one finds there."""
    bench.write_config(claim=claim)
    cache = {"key": "k", "paths": ["kept/"]}
    jobs = {
        "stages": ["one", "two"],
        "write": {"stage": "one", "cache": cache, "script": ["mkdir kept", "echo $CI_PIPELINE_ID > kept/id"]},
        "read": {
            "stage": "two",
            "cache": {**cache, "policy": "pull"},
            "script": ['test "$(cat kept/id)" = $CI_PIPELINE_ID'],
        },
    }
    with Runner(bench.config, version=NEW):
        ended = bench.ended(bench.start(jobs))
    assert "Created cache" in ended["write"].text
    assert ended["read"].status == "success", ended["read"].text
    assert "Successfully extracted cache" in ended["read"].text
    assert list(bench.node.buckets.rglob("practice/echo/k*/cache.zip"))


@pytest.fixture(scope="module")
def claim(practice: PracticeCluster, node: EciNode) -> str:
    """A bound claim on an OSS bucket."""
    name = "runner-tests"
    bucket = practice.node.settings.buckets[0]
    attributes = {"bucket": bucket, "url": "oss-cn-hangzhou-internal.aliyuncs.com", "akId": "id", "akSecret": "secret"}
    csi = {"driver": "ossplugin.csi.alibabacloud.com", "volumeHandle": name, "volumeAttributes": attributes}
    spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"], "storageClassName": ""}
    volume = {
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {**spec, "csi": csi, "claimRef": {"namespace": NAMESPACE, "name": name}},
    }  # fmt: skip
    wanted = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"accessModes": ["ReadWriteMany"], "storageClassName": "", "volumeName": name, "resources": {"requests": {"storage": "1Gi"}}},
    }  # fmt: skip
    practice.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all([volume, wanted]))
    wait_for("the claim to be bound", lambda: "Bound" in practice.kubectl("get", "pvc", name, "-n", NAMESPACE))
    return name


def test_artifacts_travel_to_the_next_stage(bench: Bench) -> None:
    """Files kept by one job are in the directory of the next, also of a job that failed with `when: always`."""
    bench.write_config()
    jobs = {
        "stages": ["one", "two"],
        "make": {
            "stage": "one", "script": ["mkdir out", "echo made > out/a", "exit 3"], "allow_failure": True,
            "artifacts": {"paths": ["out/"], "when": "always"},
        },
        "use": {"stage": "two", "script": ["cat out/a"]},
    }  # fmt: skip
    with Runner(bench.config, version=NEW):
        ended = bench.ended(bench.start(jobs))
    assert "Uploading artifacts for failed job" in ended["make"].text and "201 Created" in ended["make"].text
    assert "$ cat out/a\nmade\n" in ended["use"].text


@pytest.mark.parametrize("host", ["127.0.0.1", "db"])
def test_a_service_answers_at_localhost_and_by_its_alias(bench: Bench, host: str) -> None:
    """A service beside the job takes connections at 127.0.0.1, which its alias resolves to."""
    bench.write_config()
    reach = f"for i in 1 2 3 4 5 6 7 8 9; do (exec 3<>/dev/tcp/{host}/5432) 2>/dev/null && echo reached && exit 0; sleep 1; done; exit 1"
    job = {"image": "debian:12", "services": [{"name": "postgres:16", "alias": "db"}], "script": [reach]}
    with Runner(bench.config, version=NEW):
        ended = bench.ended(bench.start({"ask": job}))["ask"]
    assert ended.status == "success" and "\nreached\n" in ended.text, ended.text


def test_a_service_is_awaited(bench: Bench) -> None:
    """A service that names HEALTHCHECK_TCP_PORT answers before the first line of the script."""
    bench.write_config()
    service = {"name": "postgres:16", "alias": "db", "variables": {"HEALTHCHECK_TCP_PORT": "5432"}}
    job = {"image": "debian:12", "services": [service], "script": ["exec 3<>/dev/tcp/db/5432", "echo reached"]}
    with Runner(bench.config, version=NEW):
        ended = bench.ended(bench.start({"ask": job}))["ask"]
    assert ended.status == "success", ended.text
    assert "Waiting for services" in ended.text


def test_a_namespace_for_each_job(bench: Bench) -> None:
    """With namespace_per_job the runner makes the namespace ci-job-<id> and deletes it with all that is in it."""
    bench.write_config(kubernetes={"namespace_per_job": "true"})
    with Runner(bench.config, version=NEW):
        job = bench.ended(bench.start({"say": {"script": ["true"]}}))["say"]
    assert job.status == "success", job.text
    name = re.search(r"Using Kubernetes namespace: (ci-job-\d+)", job.text)
    assert name is not None
    wait_for("the namespace to go", lambda: name[1] not in bench.practice.kubectl("get", "namespaces"))


def test_a_gitlab_with_a_certificate_of_its_own(bench: Bench, tmp_path: Path) -> None:
    """`tls-ca-file` is trusted by the runner, by git in the pod and by what uploads artifacts."""
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "tls.crt")
    leaf.private_key_pem.write_to_path(tmp_path / "tls.key")
    options = {"tls_cert": str(tmp_path / "tls.crt"), "tls_key": str(tmp_path / "tls.key")}
    with GitLab(tmp_path / "gitlab", **options) as server:
        bench.node.faults.reachable(server.url.removeprefix("https://"))
        there = Bench(bench.practice, bench.node, tmp_path, server=server, ca=tmp_path / "ca.crt")
        there.write_config(runner={"tls-ca-file": f'"{tmp_path / "ca.crt"}"'})
        keep = {"paths": [".gitlab-ci.yml"]}
        with Runner(there.config, version=NEW):
            job = there.ended(there.start({"say": {"script": ["true"], "artifacts": keep}}))["say"]
    assert job.status == "success", job.text
    assert "201 Created" in job.text


def test_jobs_side_by_side(bench: Bench) -> None:
    """Several jobs at once have a pod, a slot and a trace of their own."""
    bench.write_config()
    names = [f"job-{number}" for number in range(3)]
    with Runner(bench.config, version=NEW):
        ended = bench.ended(bench.start({name: {"script": [f"echo I am {name}; sleep 2"]} for name in names}))
    for name, job in ended.items():
        assert job.status == "success", job.text
        assert [line for line in job.text.splitlines() if line.startswith("I am")] == [f"I am {name}"]
    pods = {re.search(r"Running on (\S+) via", job.text)[1] for job in ended.values()}  # type: ignore[index]
    assert len(pods) == 3


def test_secrets_are_masked(bench: Bench) -> None:
    """A masked variable and the job's own token never stand in the trace, though the script prints them."""
    bench.write_config()
    secret = "hunter2-hunter2"
    bench.project.variables.create({"key": "DEPLOY_KEY", "value": secret, "masked": True})
    try:
        with Runner(bench.config, version=NEW):
            job = bench.ended(bench.start({"leak": {"script": ["echo $DEPLOY_KEY", "echo $CI_JOB_TOKEN"]}}))["leak"]
    finally:
        bench.project.variables.delete("DEPLOY_KEY")
    assert job.status == "success" and job.text.count("[MASKED]") == 2
    assert secret not in job.trace and bench.token not in job.trace


# --- jobs that end badly ----------------------------------------------------------------------------------------------


def test_a_failing_script_is_a_script_failure(bench: Bench) -> None:
    """The exit code is in the last line, the reason is script_failure, and after_script has run."""
    bench.write_config()
    with Runner(bench.config, version=NEW):
        job = bench.ended(
            bench.start({"fail": {"script": ["exit 42"], "after_script": ["echo after: $CI_JOB_STATUS"]}})
        )["fail"]
    assert (job.status, job.failure_reason) == ("failed", "script_failure")
    assert "after: failed" in job.text
    assert "ERROR: Job failed: command terminated with exit code 42" in job.text


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        pytest.param(NEW, "image_pull_failure", id="17.9.2"),
        pytest.param(OLD, "script_failure", id="14.7.1", marks=plays_versions),
    ],
)
def test_an_image_that_cannot_be_pulled(bench: Bench, version: str, reason: str) -> None:
    """An image that no registry has fails the job at once, with the reason that the version knows."""
    bench.write_config()
    with Runner(bench.config, version=version):
        job = bench.ended(bench.start({"pull": {"image": "registry.invalid/x:1", "script": ["true"]}}))["pull"]
    assert (job.status, job.failure_reason) == ("failed", reason), job.text
    assert "image pull failed" in job.text


def test_a_pod_that_never_starts(bench: Bench) -> None:
    """A pod that stays Pending fails the job after poll_timeout, as a failure of the system."""
    bench.node.faults.pull("alpine/slow-builder:1", delay_seconds=600)
    bench.write_config(kubernetes={"poll_timeout": "3"})
    with Runner(bench.config, version=NEW):
        job = bench.ended(bench.start({"wait": {"image": "alpine/slow-builder:1", "script": ["true"]}}))["wait"]
    assert (job.status, job.failure_reason) == ("failed", "runner_system_failure")
    assert "timed out waiting for pod to start" in job.text


def test_a_claim_that_is_missing(bench: Bench) -> None:
    """A pod whose claim is not there ends as a failure of the system, and says what it waited for."""
    bench.write_config(claim="no-such-claim", kubernetes={"poll_timeout": "3"})
    with Runner(bench.config, version=NEW):
        job = bench.ended(bench.start({"wait": {"script": ["true"]}}))["wait"]
    assert (job.status, job.failure_reason) == ("failed", "runner_system_failure")
    assert "prepare environment: " in job.text


def test_no_way_to_the_cluster(bench: Bench) -> None:
    """A certificate without its key is told in the trace after three tries."""
    bench.write_config(kubernetes={"key_file": '""'})
    with Runner(bench.config, version=NEW):
        job = bench.ended(bench.start({"never": {"script": ["true"]}}))["never"]
    assert (job.status, job.failure_reason) == ("failed", "runner_system_failure")
    assert job.text.count("Preparation failed") == 2 and "ca file, cert file and key file must be specified" in job.text


def test_a_job_that_takes_too_long(bench: Bench) -> None:
    """A job beyond its timeout is stopped, reported as job_execution_timeout, and its pod goes."""
    bench.write_config()
    with Runner(bench.config, version=NEW):
        job = bench.ended(bench.start({"slow": {"script": ["sleep 60"], "timeout": "4 seconds"}}))["slow"]
        assert (job.status, job.failure_reason) == ("failed", "job_execution_timeout"), job.text
        wait_for("the pod to go", lambda: not bench.pods())


def test_a_canceled_job_stops(bench: Bench) -> None:
    """A job that prints something and is canceled in GitLab ends, and its pod goes."""
    bench.write_config()
    with Runner(bench.config, version=NEW):
        pipeline = bench.start({"slow": {"script": ["while true; do echo working; sleep 1; done"]}})
        wait_for("its first words", lambda: "working" in bench.trace(pipeline))
        pipeline.cancel()
        wait_for("the pod to go", lambda: not bench.pods())
        pipeline.refresh()
        assert pipeline.status == "canceled"


# --- an instance that is taken away (as seen with real 14.7.1 and 13.6.0; newer ones from their source) -----------------

SCRIPT, SYSTEM = "script_failure", "runner_system_failure"
RECLAIMS = [
    # version, strategy, how the instance ends, status, reason, a part of the last line
    pytest.param(OLD, {}, "killed", "failed", SCRIPT, 'status is "Failed"', id="14.7.1-attach-killed"),
    pytest.param(OLD, {}, "dropped", "failed", SCRIPT, 'status is "Failed"', id="14.7.1-attach-dropped"),
    pytest.param(OLD, {}, "error", "failed", SCRIPT, 'status is "Failed"', id="14.7.1-attach-error"),
    pytest.param(OLD, EXEC, "killed", "failed", SCRIPT, "exit code 137", id="14.7.1-exec-killed"),
    pytest.param(OLD, EXEC, "dropped", "success", None, "Job succeeded", id="14.7.1-exec-dropped-false-green"),
    pytest.param(OLD, EXEC, "error", "failed", SYSTEM, "system failure", id="14.7.1-exec-error"),
    pytest.param(OLDER, {}, "dropped", "success", None, "Job succeeded", id="13.6.0-exec-dropped-false-green"),
    pytest.param(OLDER, {}, "killed", "failed", SCRIPT, "exit code 137", id="13.6.0-exec-killed"),
    pytest.param(NEW, {}, "killed", "failed", SYSTEM, "system failure", id="17.9.2-attach-killed"),
    pytest.param(NEW, {}, "dropped", "failed", SYSTEM, "system failure", id="17.9.2-attach-dropped"),
]


@plays_versions
@pytest.mark.parametrize(("version", "flags", "ending", "status", "reason", "last"), RECLAIMS)
def test_a_reclaimed_instance(
    bench: Bench, version: str, flags: dict[str, str], ending: Any, status: str, reason: str | None, last: str
) -> None:
    """What GitLab hears of a reclaimed spot instance depends on version, strategy and how the streams end; one row is a false green."""
    bench.write_config(flags=flags)
    bench.node.faults.stream_ending(ending)
    with Runner(bench.config, version=version):
        pipeline = bench.start({"victim": {"script": ["echo working", "sleep 60", "echo never"]}})
        wait_for("its first words", lambda: "\nworking" in bench.trace(pipeline))
        bench.node.faults.reclaim(NAMESPACE, bench.running_pod(), lead_seconds=0, force=True)
        job = bench.ended(pipeline)["victim"]
    assert (job.status, job.failure_reason) == (status, reason), job.text
    assert last in job.text.rstrip().splitlines()[-1]
    assert "\nnever" not in job.text


@plays_versions
@pytest.mark.parametrize(
    ("version", "flags", "reason", "last"),
    [
        pytest.param(OLD, {}, SYSTEM, "not found", id="14.7.1-attach"),
        pytest.param(OLD, EXEC, SCRIPT, "exit code 137", id="14.7.1-exec"),
        pytest.param(NEW, {}, SYSTEM, "system failure", id="17.9.2-attach"),
    ],
)
def test_a_pod_that_is_deleted_under_a_job(
    bench: Bench, version: str, flags: dict[str, str], reason: str, last: str
) -> None:
    """A pod that somebody deletes fails its job, each version and strategy in its own words."""
    bench.write_config(flags=flags)
    with Runner(bench.config, version=version):
        pipeline = bench.start({"victim": {"script": ["echo working", "sleep 60"]}})
        wait_for("its first words", lambda: "\nworking" in bench.trace(pipeline))
        bench.api.delete_namespaced_pod(bench.running_pod(), NAMESPACE, grace_period_seconds=0)
        job = bench.ended(pipeline)["victim"]
    assert (job.status, job.failure_reason) == ("failed", reason), job.text
    assert last in job.text.rstrip().splitlines()[-1]


@plays_versions
def test_a_container_that_runs_out_of_memory(bench: Bench) -> None:
    """From 17.6 a build container that the kernel kills is a failure of the system, and the trace says OOMKilled."""
    bench.write_config()
    with Runner(bench.config, version=NEW):
        pipeline = bench.start({"hungry": {"script": ["echo working", "sleep 60"]}})
        wait_for("its first words", lambda: "\nworking" in bench.trace(pipeline))
        bench.node.faults.out_of_memory(NAMESPACE, bench.running_pod(), "build")
        job = bench.ended(pipeline)["hungry"]
    assert (job.status, job.failure_reason) == ("failed", SYSTEM), job.text
    assert "Error in container build: exit code: 137, reason: 'OOMKilled'" in job.text


# --- the process ------------------------------------------------------------------------------------------------------


def test_gitlab_lists_the_manager(bench: Bench) -> None:
    """GitLab's list of managers shows the version that the runner says it is, once."""
    bench.write_config()
    with Runner(bench.config, version=NEW):
        bench.ended(bench.start({"say": {"script": ["true"]}}))
        managers: Any = bench.gitlab.http_get(f"/runners/{bench.runner_id}/managers")
    assert [row["status"] for row in managers] == ["online"]
    if BINARY_VARIABLE not in os.environ:
        assert (managers[0]["version"], managers[0]["system_id"][:2]) == (NEW, "r_")


def test_limits_are_kept(bench: Bench) -> None:
    """With `limit = 1` the second job waits until the first is over."""
    bench.write_config(runner={"limit": "1"})
    most = 0
    over = threading.Event()

    def count() -> None:
        nonlocal most
        while not over.wait(0.2):
            most = max(most, sum(pod.metadata.deletion_timestamp is None for pod in bench.pods()))

    counter = threading.Thread(target=count)
    counter.start()
    try:
        with Runner(bench.config, version=NEW):
            ended = bench.ended(bench.start({name: {"script": ["sleep 2"]} for name in ("one", "two")}))
    finally:
        over.set()
        counter.join()
    assert {job.status for job in ended.values()} == {"success"}
    assert most == 1


def test_a_changed_file_is_read_again(bench: Bench) -> None:
    """A value of the wrong type is refused and the old configuration goes on; the next good file is used."""
    bench.write_config(runner={"environment": '["WORD=one"]'})
    job = {"say": {"script": ["echo word=$WORD"]}}
    with Runner(bench.config, version=NEW) as runner:
        bench.write_config(runner={"environment": "3"})
        runner.reload()
        wait_for("the complaint", lambda: "Failed to load config" in runner.output or "toml" in runner.output)
        assert "\nword=one\n" in bench.ended(bench.start(job))["say"].text
        bench.write_config(runner={"environment": '["WORD=two"]'})
        runner.reload()
        wait_for("the second load", lambda: runner.output.count("Configuration loaded") > 1)
        assert "\nword=two\n" in bench.ended(bench.start(job))["say"].text


def test_a_runner_that_is_asked_to_finish_does(bench: Bench) -> None:
    """SIGQUIT: the running job ends well, then the process ends by itself."""
    bench.write_config()
    with Runner(bench.config, version=NEW) as runner:
        pipeline = bench.start({"slow": {"script": ["echo working", "sleep 3"]}})
        bench.running_pod()
        runner.finish()
        assert bench.ended(pipeline)["slow"].status == "success"
        wait_for("the process to end", lambda: not runner.alive)


def test_a_runner_that_is_stopped_leaves_nothing(bench: Bench) -> None:
    """SIGTERM: the running job fails as a failure of the system, and its pod is deleted before the process ends."""
    bench.write_config()
    with Runner(bench.config, version=NEW) as runner:
        pipeline = bench.start({"slow": {"script": ["echo working", "sleep 60"]}})
        wait_for("its first words", lambda: "\nworking" in bench.trace(pipeline))
        runner.stop()
        job = bench.ended(pipeline)["slow"]
        wait_for("the pod to go", lambda: not bench.pods())
    assert job.failure_reason in (SYSTEM, "runner_interrupted")


def test_a_token_that_gitlab_does_not_know(bench: Bench) -> None:
    """A refused token is told in the runner's log, without the token."""
    bench.token = "glrt-t1_" + "x" * 20
    bench.write_config()
    with Runner(bench.config, version=NEW) as runner:
        wait_for("the complaint", lambda: "is removed" in runner.output or "forbidden" in runner.output.lower())
        assert bench.token not in runner.output
