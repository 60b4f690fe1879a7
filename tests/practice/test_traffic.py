"""Traffic on the practice cluster: what Kubernetes shows of played pods is what the truth says of them."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runbook.eci.endings import End
from runbook.history.api_objects import Pod, PodEvent
from runbook.history.observation import pod_record
from runbook.history.record import PodRecord
from sandbox.practice import PracticeCluster, kubectl_program
from sandbox.traffic.play import play
from sandbox.traffic.team import TEAM, JobKind, Project, Team
from sandbox.traffic.truth import Truth

NAMESPACE = "played-ci"
ENDS = {
    "deleted": End.DELETED,
    # The API server's stamp of the deletion is real time and lies before any played one: the container's own end seems
    # to follow from the deletion.
    "exit": End.DELETED,
    "oom": End.OUT_OF_MEMORY,
    "reclaim": End.RECLAIMED,
    "image_pull": End.IMAGE_PULL,
    "no_stock": End.NO_STOCK,
}
UNLUCKY = Team(
    (
        *(replace(project, weight=1.0) for project in TEAM.projects[:2]),
        Project(
            199,
            "practice/unlucky",
            3.0,
            (
                JobKind("leaks", "test", "python:3.12", "1", "2Gi", 60, runs_out_of_memory=0.6),
                JobKind("simulates", "test", "ubuntu:24.04", "8", "16Gi", 20000, 0.3, spot=True),
            ),
        ),
    ),
    pipelines_a_workday=60,
    weekend=1.0,
)


@dataclass(frozen=True)
class Performance:
    """A play, and the last that a watch saw of each pod, by uid."""

    truth: Truth
    told: Path
    records: dict[str, PodRecord]


@pytest.fixture(scope="module")
def performance(practice: PracticeCluster, tmp_path_factory: pytest.TempPathFactory) -> Performance:
    """A day of an unlucky team's CI, watched by kubectl."""
    folder = tmp_path_factory.mktemp("traffic")
    practice.kubectl("create", "namespace", NAMESPACE)
    with (folder / "watch.json").open("wb") as file:
        words = ("get", "pods", "-n", NAMESPACE, "--watch", "--output-watch-events", "-o", "json")
        watch = subprocess.Popen([kubectl_program(), "--kubeconfig", str(practice.kubeconfig), *words], stdout=file)
        try:
            time.sleep(1)
            told = folder / "truth.jsonl"
            truth = play(practice, days=1, seed=11, factor=7200, namespace=NAMESPACE, team=UNLUCKY, out=told)
            time.sleep(1)
        finally:
            watch.terminate()
            watch.wait()
    events = json.loads(practice.kubectl("get", "events", "-n", NAMESPACE, "-o", "json"))["items"]
    return Performance(truth, told, _records((folder / "watch.json").read_text(), events))


def _records(watched: str, events: list[dict[str, Any]]) -> dict[str, PodRecord]:
    told = [msgspec.json.decode(msgspec.json.encode(event), type=PodEvent) for event in events]
    records: dict[str, PodRecord] = {}
    decoder, rest = json.JSONDecoder(), watched.strip()
    while rest:
        change, end = decoder.raw_decode(rest)
        rest = rest[end:].lstrip()
        pod = msgspec.json.decode(msgspec.json.encode(change["object"]), type=Pod)
        own = [event for event in told if event.involved_object.uid == pod.metadata.uid]
        records[pod.metadata.uid] = pod_record(
            pod,
            own,
            cluster="practice",
            observed_at=datetime.now(UTC),
            deleted=change["type"] == "DELETED",
            earlier=records.get(pod.metadata.uid),
        )
    return records


def test_every_played_pod_was_seen_to_its_end(performance: Performance, practice: PracticeCluster) -> None:
    """Every pod of the truth went through the API server and is gone, and there was no other."""
    assert len(performance.truth.pods) > 50
    assert {pod.uid for pod in performance.truth.pods} == set(performance.records)
    assert all(record.final for record in performance.records.values())
    assert practice.kubectl("get", "pods", "-n", NAMESPACE, "-o", "name") == ""


def test_history_of_played_pods_is_the_truth(performance: Performance) -> None:
    """Job, moments, billing and end that are read from pods and events are those of the truth, to the second."""
    for truth in performance.truth.pods:
        seen = performance.records[truth.uid]
        assert (seen.job_id, seen.job_name, seen.job_stage) == (truth.job_id, truth.job_name, truth.job_stage)
        assert (seen.pipeline_id, seen.project_path, seen.job_ref) == (truth.pipeline_id, truth.project_path, truth.ref)
        for moment in (  # creation, binding and deletion are stamped by the API server, in real time
            *("billing_start_at", "pulled_at", "running_at", "finished_at"),
        ):
            assert getattr(seen, moment) == getattr(truth, moment), f"{moment} of {truth}"
        assert bool(seen.spot) == truth.spot or truth.ending == "no_stock"
        assert seen.ended is ENDS[truth.ending], truth
        assert seen.instance_id is not None or truth.ending == "no_stock"


def test_unlucky_day_has_reclaimed_and_starved_jobs(performance: Performance) -> None:
    """The day that is compared has spot instances that were taken away and jobs that ran out of memory."""
    assert {"deleted", "oom", "reclaim"} <= {pod.ending for pod in performance.truth.pods}


def test_truth_is_kept_aside(performance: Performance) -> None:
    """The file holds the same truth, a line a pod."""
    assert Truth.read(performance.told).pods == performance.truth.pods


def test_gitlab_knows_the_played_jobs(performance: Performance, practice: PracticeCluster) -> None:
    """The practice GitLab answers for a played job with the truth's verdict and times."""
    truth = next(pod for pod in performance.truth.pods if pod.ending == "oom")
    request = urllib.request.Request(
        f"{practice.gitlab.url}/api/v4/projects/{truth.project_id}/jobs/{truth.job_id}",
        headers={"PRIVATE-TOKEN": practice.gitlab.token("root")},
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        job = json.load(answer)
    assert (job["status"], job["failure_reason"]) == (truth.job_status, truth.job_failure_reason)
    assert datetime.fromisoformat(job["finished_at"]) == truth.job_finished_at
