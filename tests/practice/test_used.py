"""What pods used, by the documented routes: ECI's metrics of a played day, and what a real job says of its own cgroup."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook import cli
from runbook.clients import connect
from runbook.clients.gitlab import GitLabClient
from runbook.history import used, used_from_jobs
from runbook.history.store import open_store
from runbook.history.used import Life
from runbook.history.watch import Collector, Place
from runbook.settings import ROOT, Settings
from sandbox.practice import PracticeCluster
from sandbox.runner.process import Runner
from sandbox.traffic.play import play
from sandbox.traffic.truth import PodTruth
from tests.practice.test_runner import Bench

NAMESPACE, OF_JOBS = "measured-ci", "measured-jobs"
PODS = 60
NOW = datetime.now(UTC)
LONG_ENOUGH = timedelta(minutes=2)
"""So long a pod has samples of 15 seconds at its peak, which is the last quarter of its script."""


@dataclass(frozen=True)
class Measured:
    """What truly happened to the played pods, and the measures of them, by UID."""

    truth: dict[str, PodTruth]
    rows: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def measured(practice: PracticeCluster, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Pods played while a collector watches, then measured from the command line."""
    folder = tmp_path_factory.mktemp("measured")
    practice.kubectl("create", "namespace", NAMESPACE)
    card = folder / "card.yaml"
    document = yaml.safe_load(practice.card.read_text())
    document |= {"history": {"url": str(folder / "history")}}
    document["kubernetes"]["namespace"] = NAMESPACE
    document["cost"] = document.get("cost", {}) | {"used": {"source": "eci", "url": str(folder / "used")}}
    card.write_text(yaml.safe_dump(document))
    settings = Settings.load(card)
    truth = _played(practice, settings, folder)
    ended = cli.main(["import", "used", "--cluster", str(card), "--since", "1h"])
    assert ended == 0
    rows = used.read(settings).to_pylist()
    return Measured(truth, {row["pod_uid"]: row for row in rows})


def _played(practice: PracticeCluster, settings: Settings, folder: Path) -> dict[str, PodTruth]:
    client, stop = connect.kubernetes(settings), threading.Event()
    place = Place(folder / "place.json", client.server)
    collector = Collector(
        client, open_store(settings), name=settings.name, namespace=NAMESPACE, place=place, clock=connect.clock(), flush_seconds=0.5
    )  # fmt: skip
    watching = threading.Thread(target=collector.run, args=(None, stop))
    watching.start()
    try:
        truth = play(practice, days=1, seed=11, factor=3600, namespace=NAMESPACE, pods=PODS, tell_gitlab=False)
        stop.wait(2)
    finally:
        stop.set()
        watching.join(30)
    return {pod.uid: pod for pod in truth.pods}


def test_eci_tells_what_the_played_pods_used(measured: Measured) -> None:
    """Each pod that ran for minutes has its true peaks, and means as near as samples of 15 seconds or a minute come."""
    compared = 0
    for uid, truth in measured.truth.items():
        ran = truth.running_at and truth.finished_at and truth.finished_at - truth.running_at >= LONG_ENOUGH
        if not ran or truth.ending not in ("deleted", "oom"):
            continue
        row = measured.rows[uid]
        assert row["vcpu_peak"] == pytest.approx(truth.used_vcpu_peak, rel=0.01)
        assert row["memory_peak_gib"] == pytest.approx(truth.used_memory_peak_gib, rel=0.01)
        assert row["memory_mean_gib"] == pytest.approx(truth.used_memory_mean_gib, rel=0.15)
        compared += 1
    assert compared >= 15


def test_pods_that_never_ran_have_no_measure(measured: Measured) -> None:
    """What never ran used nothing, and is not written down as zero."""
    assert not {uid for uid, truth in measured.truth.items() if truth.running_at is None} & set(measured.rows)
    assert all(row["samples"] > 0 for row in measured.rows.values())


@pytest.fixture
def bench(practice: PracticeCluster, tmp_path: Path) -> Iterator[Bench]:
    """A GitLab, and a runner whose pods go into a namespace of their own, cleaned up afterwards."""
    practice.kubectl("create", "namespace", OF_JOBS)
    made = Bench(practice, practice.node, tmp_path)
    made.write_config(kubernetes={"namespace": f'"{OF_JOBS}"'})
    yield made
    made.gitlab.runners.delete(made.runner_id)
    practice.kubectl("delete", "namespace", OF_JOBS, "--wait=false")


@pytest.mark.timeout(180)
def test_a_real_job_says_what_it_used(bench: Bench) -> None:
    """A job that extends the snippet ends as it would without it, and its trace has the line with its pod's name."""
    snippet = yaml.safe_load((ROOT / "data" / "snippets" / "used.gitlab-ci.yml").read_text())
    snippet[".runbook-used"]["variables"] = {"RUNBOOK_USED_SECONDS": "0.3"}
    busy = "n=0; while [ $n -lt 300000 ]; do n=$((n + 1)); done; sleep 1"
    with Runner(bench.config, version="17.9.2"):
        pipeline = bench.start({**snippet, "busy": {"extends": ".runbook-used", "script": [busy]}})
        job = bench.ended(pipeline)["busy"]
    assert job.status == "success", job.text
    told = used_from_jobs.reported(job.trace)
    assert isinstance(told, used_from_jobs.Reported), job.text
    assert told.samples >= 2 and told.vcpu is not None and told.vcpu.peak > 0.1
    assert told.memory is not None and told.memory.peak > 0
    (run,) = pipeline.jobs.list()
    client = GitLabClient(bench.server.url, bench.server.token("root-read-api"))
    life = Life("practice", "uid", told.pod, OF_JOBS, NOW, NOW, project_id=pipeline.project_id, job_id=run.id)
    (record,) = used_from_jobs.measures(client, [life], now=NOW).records
    assert (record.pod_uid, record.vcpu, record.memory) == ("uid", told.vcpu, told.memory)
