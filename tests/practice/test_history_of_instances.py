"""A pod that really ran and pods that were only played, collected together and completed with what ECI knows of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from runbook.clients import connect
from runbook.history.record import End, Known, PodRecord, Source, from_table
from runbook.history.store import open_store
from runbook.history.watch import collect
from runbook.settings import ROOT, Settings
from sandbox.practice import PracticeCluster
from sandbox.traffic.play import play
from sandbox.traffic.truth import PodTruth, Truth

NAMESPACE = "instances-ci"
REAL = "really-ran"
RUNS_SECONDS = 3


@dataclass(frozen=True)
class Collected:
    """What a collector kept of them, and what was played."""

    card: Path
    truth: Truth

    def records(self) -> dict[str, PodRecord]:
        """The history now, by the pod's name."""
        return {str(one.pod_name): one for one in from_table(open_store(Settings.load(self.card)).table())}


@pytest.fixture(scope="module")
def collected(practice: PracticeCluster, tmp_path_factory: pytest.TempPathFactory) -> Collected:
    """A pod whose shell runs for some seconds, and forty played ones, watched by one collector."""
    folder = tmp_path_factory.mktemp("instances")
    practice.kubectl("create", "namespace", NAMESPACE)
    values = yaml.safe_load(practice.card.read_text())
    values["kubernetes"]["namespace"] = NAMESPACE
    values["history"] = {"url": str(folder / "history")}
    card = folder / "card.yaml"
    card.write_text(yaml.safe_dump(values))
    settings, stop = Settings.load(card), threading.Event()
    client = connect.kubernetes(settings)
    store, place = open_store(settings), folder / "place"
    watching = threading.Thread(
        target=collect, args=(client, settings, store), kwargs={"place": place, "stop": stop, "show": str}
    )
    watching.start()
    try:
        deadline = time.monotonic() + 60
        while not place.exists():  # it has listed, and is told everything from now on
            assert time.monotonic() < deadline
            time.sleep(0.1)
        practice.kubectl("apply", "-f", "-", stdin=json.dumps(manifest()))
        truth = play(practice, days=1, seed=3, factor=7200, pods=40, namespace=NAMESPACE, tell_gitlab=False)
        wait_until_failed(practice)
        practice.kubectl("delete", "pod", REAL, "-n", NAMESPACE)
        time.sleep(1)
    finally:
        stop.set()
        watching.join(60)
    return Collected(card, truth)


def manifest() -> dict[str, object]:
    """A pod whose container ends by itself, with exit code 3."""
    container = {"name": "build", "image": "alpine:3.20", "command": ["sh", "-c", f"sleep {RUNS_SECONDS}; exit 3"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": REAL, "namespace": NAMESPACE},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }


def wait_until_failed(practice: PracticeCluster) -> None:
    practice.kubectl("wait", f"pod/{REAL}", "-n", NAMESPACE, "--for=jsonpath={.status.phase}=Failed", "--timeout=60s")


def runbook(*arguments: str | Path) -> str:
    """What the command prints; it has to end with 0."""
    command = [sys.executable, "-m", "runbook.cli", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_end_of_billing_of_a_pod_that_really_ran_is_observed(collected: Collected) -> None:
    """StopCharge, the event with which ECI ends a charge, is in the record as the observed end of billing."""
    record = collected.records()[REAL]
    assert (record.ended, record.exit_code, record.final) == (End.FAILED, 3, True)
    assert (record.finished_source, record.finished_known) == ("event StopCharge", Known.OBSERVED)
    assert record.running_at and record.finished_at
    lasted = record.finished_at - record.running_at
    assert timedelta(seconds=RUNS_SECONDS - 1) <= lasted <= timedelta(seconds=RUNS_SECONDS + 10)


def test_played_pods_beside_it_are_the_truth(collected: Collected) -> None:
    """Each played pod is there once, and its billing ended, by StopCharge, when the truth says."""
    records = collected.records()
    assert set(records) == {REAL, *(pod.pod_name for pod in collected.truth.pods)}
    for pod in charged(collected.truth):
        record = records[pod.pod_name]
        assert (record.finished_at, record.finished_source) == (pod.finished_at, "event StopCharge"), pod


def charged(truth: Truth) -> list[PodTruth]:
    return [pod for pod in truth.pods if pod.billing_start_at]


def test_eci_completes_them_once(collected: Collected) -> None:
    """`runbook import eci` states the ends as they are charged, and names the ECS type of spot instances; again it has nothing to write."""
    before = collected.records()
    assert "records would be written" in runbook("import", "eci", "--cluster", collected.card, "--dry-run")
    assert collected.records() == before
    assert "records written" in runbook("import", "eci", "--cluster", collected.card)
    assert "nothing to write" in runbook("import", "eci", "--cluster", collected.card)
    after = collected.records()
    assert set(after) == set(before)
    for pod in charged(collected.truth):
        old, new = before[pod.pod_name], after[pod.pod_name]
        assert (new.finished_at, new.finished_known) == (pod.finished_at, Known.BILLED), pod
        assert (new.ended, new.pod_uid, new.billing_start_at) == (old.ended, pod.uid, old.billing_start_at), pod
        assert bool(new.ecs_type) == pod.spot, pod
        assert new.sources == (Source.WATCH, Source.ECI)
    real = after[REAL]
    assert real.finished_known is Known.BILLED and real.finished_at and before[REAL].finished_at
    assert abs(real.finished_at - before[REAL].finished_at) <= timedelta(seconds=1)


def test_the_command_shows_the_history(collected: Collected) -> None:
    """`runbook history` counts the same pods, and says how the ends of billing are known."""
    said = runbook("history", "--cluster", collected.card)
    assert said.startswith(
        f"{len(collected.truth.pods) + 1} pods of {len({p.job_id for p in collected.truth.pods})} jobs"
    )
    assert "billing ended" in said and "told by: " in said
