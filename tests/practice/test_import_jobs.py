"""GitLab's jobs read from the practice GitLab over HTTP, after a runner has worked through more than one page of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from runbook.clients.gitlab import GitLabClient
from runbook.errors import GitLabForbidden
from runbook.history import from_gitlab, gitlab_jobs, imports
from runbook.history.gitlab_jobs import Job
from runbook.history.job_join import How
from runbook.history.record import End, JobKnown, PodRecord
from runbook.history.store import open_store
from runbook.runner.runner_mark import Mark
from runbook.settings import ROOT, Settings
from sandbox.gitlab.process import GitLab

JOBS = 120
CI = "\n".join(f"job {number}: {{script: echo, tags: [eci]}}" for number in range(JOBS))
PROJECT = "practice/echo"
NOW = datetime.now(UTC)


@dataclass(frozen=True)
class Worked:
    """A GitLab whose runner has run JOBS jobs in one pipeline: every tenth failed, and each trace names a pod."""

    gitlab: GitLab
    runner: int

    def client(self, token: str = "root-read-api") -> GitLabClient:
        return GitLabClient(self.gitlab.url, self.gitlab.token(token))

    def jobs(self, **scope: Any) -> tuple[Job, ...]:
        return gitlab_jobs.read_jobs(self.client(), since=NOW - timedelta(hours=1), **scope)


def run_one(http: httpx.Client, token: str, number: int) -> None:
    """What a runner says to GitLab about one job."""
    info = {"name": "gitlab-runner", "version": "17.9.2", "executor": "kubernetes"}
    job = http.post("/jobs/request", json={"token": token, "system_id": "s_0123456789ab", "info": info}).json()
    trace = f"Running with gitlab-runner 17.9.2 (abc)\nRunning on pod-{job['id']} via host...\n".encode()
    headers = {"JOB-TOKEN": job["token"], "Content-Range": f"0-{len(trace) - 1}"}
    http.patch(f"/jobs/{job['id']}/trace", content=trace, headers=headers).raise_for_status()
    state = {"state": "failed", "failure_reason": "runner_system_failure"} if number % 10 == 0 else {"state": "success"}
    http.put(f"/jobs/{job['id']}", json={"token": job["token"], **state}).raise_for_status()


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worked]:
    """That GitLab, made once."""
    with GitLab(tmp_path_factory.mktemp("gitlab")) as server:
        with httpx.Client(base_url=f"{server.url}/api/v4", timeout=10) as http:
            root = {"PRIVATE-TOKEN": server.token("root")}
            kind = {"runner_type": "instance_type", "tag_list": ["eci"], "description": "eci"}
            made = http.post("/user/runners", headers=root, json=kind).json()
            commit = {
                "branch": "many",
                "start_branch": "main",
                "commit_message": "Many jobs",
                "actions": [{"action": "update", "file_path": ".gitlab-ci.yml", "content": CI}],
            }
            http.post("/projects/practice%2Fecho/repository/commits", headers=root, json=commit).raise_for_status()
            for number in range(JOBS):
                run_one(http, made["token"], number)
        yield Worked(server, made["id"])


def test_all_pages_of_a_runners_jobs_are_read(worked: Worked) -> None:
    """More jobs than a page holds: each is there once, with its project, its runner, its times and its reason."""
    jobs = worked.jobs(runners=[worked.runner])
    assert len({job.id for job in jobs}) == len(jobs) == JOBS
    assert {(job.project_path, job.runner_id, job.runner_name) for job in jobs} == {(PROJECT, worked.runner, "eci")}
    assert all(job.started_at and job.finished_at and job.created_at <= job.started_at for job in jobs)
    assert sum(job.failure_reason == "runner_system_failure" for job in jobs) == JOBS // 10


@pytest.mark.parametrize("scope", [{"projects": [PROJECT]}, {"groups": ["practice"]}])
def test_a_projects_jobs_name_runner_and_machine(worked: Worked, scope: dict[str, Any]) -> None:
    """The lists of a project, and of all projects of a group, give the same jobs with more about their runner."""
    jobs = worked.jobs(**scope)
    ran = [job for job in jobs if job.runner_id == worked.runner]
    assert {job.id for job in ran} == {job.id for job in worked.jobs(runners=[worked.runner])}
    assert {(job.system_id, job.runner_version) for job in ran} == {("s_0123456789ab", "17.9.2")}


def test_both_lists_together_give_each_job_once(worked: Worked) -> None:
    """Asked by runner and by project, a job is one job, and the fuller row of it is kept."""
    jobs = worked.jobs(runners=[worked.runner], projects=[PROJECT])
    assert len({job.key for job in jobs}) == len(jobs)
    assert {job.system_id for job in jobs if job.runner_id == worked.runner} == {"s_0123456789ab"}


def test_reading_stops_at_the_jobs_of_long_ago(worked: Worked) -> None:
    """Jobs that ended before `since` are left out, and those made long before it end the reading."""
    later = datetime.now(UTC) + timedelta(days=2)
    assert gitlab_jobs.read_jobs(worked.client(), since=later, runners=[worked.runner]) == ()


def test_pods_are_matched_by_id_by_trace_or_recorded_with_bounds(worked: Worked) -> None:
    """Of 120 real jobs one pod names its job, one is named by a trace, and all others are recorded as bounded."""
    jobs = worked.jobs(runners=[worked.runner])
    first, second, *rest = jobs
    common: dict[str, Any] = {
        "cluster": "practice",
        "final": True,
        "ended": End.DELETED,
        "project_id": first.project_id,
    }
    named = PodRecord(pod_uid="u1", job_id=first.id, gitlab_host=first.host, created_at=first.started_at, **common)
    nameless = PodRecord(pod_uid="u2", pod_name=f"pod-{second.id}", created_at=second.started_at, **common)
    traces = gitlab_jobs.pods_named_by_traces(worked.client(), [second])
    assert traces == {second.key: f"pod-{second.id}"}
    result = from_gitlab.match(
        [named, nameless],
        jobs,
        cluster="practice",
        observed_at=datetime.now(UTC),
        runners=[worked.runner],
        named_by_traces=traces,
    )
    assert result.report.pods == {How.EXACT: 1, How.TRACE: 1}
    assert [one.job_id for one in result.records if one.job_known is JobKnown.GITLAB] == [job.id for job in rest]
    assert {job.id for job in result.report.missed} == {job.id for job in rest}


def test_the_cards_runner_is_known_by_its_mark(worked: Worked) -> None:
    """A runner whose maintenance note names the card is the card's, whatever its description; without one the description counts."""
    settings = Settings.load(ROOT / "data" / "clusters" / "practice.yaml")
    assert gitlab_jobs.runners_of(worked.client(), settings) == (worked.runner,)
    marked = worked.client("root").api.http_post(
        "/user/runners",
        post_data={
            "runner_type": "instance_type",
            "tag_list": ["other"],
            "description": "renamed",
            "maintenance_note": f"ask Ana\n{Mark(settings.name)}",
        },
    )
    try:
        assert gitlab_jobs.runners_of(worked.client(), settings) == (marked["id"],)
    finally:
        worked.client("root").api.http_delete(f"/runners/{marked['id']}")


def test_a_token_that_may_not_read_the_runners_jobs_is_told_so(worked: Worked) -> None:
    """A maintainer's token may not list the jobs of an instance runner: the error is a page, not a short history."""
    with pytest.raises(GitLabForbidden):
        gitlab_jobs.read_jobs(worked.client("maintainer-read-api"), since=NOW, runners=[worked.runner])


def test_the_command_imports_once(worked: Worked, tmp_path: Path) -> None:
    """`runbook import gitlab-jobs` records the jobs that nobody watched; the second run has nothing to write."""
    (tmp_path / "token").write_text(worked.gitlab.token("root-read-api"))
    (tmp_path / "token").chmod(0o600)
    values = yaml.safe_load((ROOT / "data" / "clusters" / "practice.yaml").read_text())
    values["gitlab"] = {"url": worked.gitlab.url, "token": f"file:{tmp_path / 'token'}"}
    values["history"] = {"url": str(tmp_path / "history")}
    card = tmp_path / "card.yaml"
    card.write_text(yaml.safe_dump(values))
    settings = Settings.load(card)
    store = open_store(settings)
    outcomes = []
    for _ in range(2):
        report = imports.gitlab_jobs(
            worked.client(), store, settings, since=NOW - timedelta(hours=1), now=datetime.now(UTC) + imports.SETTLED
        )
        outcomes.append(report.outcome)
    assert outcomes == [f"{JOBS} records written", "nothing to write"]
    command = [sys.executable, "-m", "runbook.cli", "import", "gitlab-jobs", "--cluster", card, "--since", "1h"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"{JOBS} runner_system_failure" not in done.stdout and "12 runner_system_failure" in done.stdout
    assert worked.gitlab.token("root-read-api") not in done.stdout + done.stderr
