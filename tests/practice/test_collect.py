"""The collector against a real API server: pods live and die, connections break, the API server restarts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from runbook.clients import connect
from runbook.clients.storage import DiskFolder
from runbook.eci.billing_window import Known
from runbook.history.record import PodRecord
from runbook.history.store import Store
from runbook.history.watch import Collector, Place, Progress
from runbook.settings import ROOT, Settings
from sandbox.practice import PracticeCluster
from tests.practice.conftest import Executed

NAMESPACE = "collected"


@pytest.fixture(scope="module")
def namespace(practice: PracticeCluster) -> str:
    practice.kubectl("create", "namespace", NAMESPACE)
    return NAMESPACE


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(DiskFolder(tmp_path / "history"), clock=connect.clock())


class Run:
    """A collector in a thread, until `end`."""

    def __init__(self, settings: Settings, store: Store, place: Path, namespace: str) -> None:
        client = connect.kubernetes(settings)
        self.collector = Collector(
            client,
            store,
            name=settings.name,
            namespace=namespace,
            place=Place(place, client.server),
            clock=connect.clock(),
            flush_seconds=0.5,
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.collector.run, args=(None, self._stop))
        self._thread.start()

    def end(self) -> Progress:
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.collector.progress


@pytest.fixture
def run(settings: Settings, store: Store, tmp_path: Path, namespace: str) -> Iterator[Callable[[], Run]]:
    """Starts collectors of one store and one place; ends those that a failing test left."""
    running: list[Run] = []

    def start() -> Run:
        running.append(Run(settings, store, tmp_path / "place.json", namespace))
        return running[-1]

    yield start
    for one in running:
        one.end()


def make(practice: PracticeCluster, name: str) -> None:
    """A pod that no node takes: it lives until it is deleted."""
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"nodeSelector": {"none": "such"}, "containers": [{"name": "build", "image": "alpine:3.20"}]},
    }
    practice.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))


def remove(practice: PracticeCluster, name: str) -> None:
    practice.kubectl("delete", "pod", name, "-n", NAMESPACE, "--grace-period=0", "--force", "--wait=true")


def records(store: Store, name: str) -> list[PodRecord]:
    from runbook.history.record import arrow_schema, from_table

    table = store.scan().to_arrow_table().cast(arrow_schema())
    return [one for one in from_table(table) if one.pod_name == name]


def eventually(true: Callable[[], object], *, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true in time"
        time.sleep(0.2)


def test_a_pod_is_seen_to_live_and_to_end(practice: PracticeCluster, store: Store, run: Callable[[], Run]) -> None:
    """A pod that comes and goes while the collector watches is there once, final, its end observed."""
    collecting = run()
    make(practice, "short")
    eventually(lambda: records(store, "short"))
    remove(practice, "short")
    eventually(lambda: [one.final for one in records(store, "short")] == [True])
    assert collecting.end().bounded == 0
    (record,) = records(store, "short")
    assert record.deleted_known is Known.OBSERVED


def test_what_ends_between_two_runs_is_told_to_the_second(
    practice: PracticeCluster, store: Store, run: Callable[[], Run]
) -> None:
    """A run leaves pods that still live as they are; one deleted in the pause is seen to end by the next run."""
    first = run()
    make(practice, "over-the-pause")
    eventually(lambda: records(store, "over-the-pause"))
    first.end()
    assert [one.final for one in records(store, "over-the-pause")] == [False]
    remove(practice, "over-the-pause")
    make(practice, "in-the-pause")
    remove(practice, "in-the-pause")
    second = run()
    eventually(lambda: len(records(store, "in-the-pause")) == 1)
    assert second.end().bounded == 0
    assert all(one.final and one.deleted_known is Known.OBSERVED for one in records(store, "over-the-pause"))


def test_a_lost_place_makes_ends_bounded(
    practice: PracticeCluster, store: Store, run: Callable[[], Run], tmp_path: Path
) -> None:
    """Without a place to go on from, a list finds out who is gone, and the record says bounded."""
    first = run()
    make(practice, "forgotten")
    eventually(lambda: records(store, "forgotten"))
    first.end()
    remove(practice, "forgotten")
    (tmp_path / "place.json").unlink()
    second = run()
    eventually(lambda: [one.final for one in records(store, "forgotten")] == [True])
    assert second.end().bounded == 1
    (record,) = records(store, "forgotten")
    assert record.deleted_known is Known.BOUNDED


def test_a_place_that_the_api_server_never_reached_means_a_list(
    practice: PracticeCluster, settings: Settings, store: Store, run: Callable[[], Run], tmp_path: Path
) -> None:
    """A place out of the future (another cluster at the same address) does not keep the collector from its work."""
    Place(tmp_path / "place.json", connect.kubernetes(settings).server).save("99999999999")
    collecting = run()
    make(practice, "anew")
    eventually(lambda: records(store, "anew"))
    collecting.end()
    remove(practice, "anew")


def test_a_connection_that_breaks_is_resumed(practice: PracticeCluster, store: Store, run: Callable[[], Run]) -> None:
    """Watches that are cut in the middle are taken up where they broke, without a new list."""
    collecting = run()
    make(practice, "before-the-cut")
    eventually(lambda: records(store, "before-the-cut"))
    for reader in (collecting.collector._pods, collecting.collector._events):
        reader._stream.stop()
    eventually(lambda: collecting.collector._pods.resumed)
    remove(practice, "before-the-cut")
    eventually(lambda: [one.final for one in records(store, "before-the-cut")] == [True])
    progress = collecting.end()
    assert (progress.lists, progress.bounded) == (1, 0)
    assert progress.reconnects >= 1


def test_two_collectors_do_no_harm(practice: PracticeCluster, store: Store, run: Callable[[], Run]) -> None:
    """Both write the same pods into one store, and readers see each pod once."""
    both = [run(), run()]
    make(practice, "seen-twice")
    eventually(lambda: records(store, "seen-twice"))
    remove(practice, "seen-twice")
    eventually(lambda: [one.final for one in records(store, "seen-twice")] == [True])
    for one in both:
        one.end()
    assert len(records(store, "seen-twice")) == 1


def test_sigterm_ends_it_with_everything_written(practice: PracticeCluster, namespace: str, tmp_path: Path) -> None:
    """`runbook collect` writes what it has on SIGTERM, prints its report and ends with 0."""
    card = yaml.safe_load(practice.card.read_text())
    card["kubernetes"]["namespace"] = namespace
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(card))
    command = [sys.executable, "-m", "runbook.cli", "collect", "--cluster", "card.yaml", "--place", "place"]
    child = subprocess.Popen(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    )
    try:
        eventually(lambda: (tmp_path / "place").exists(), seconds=40)
        child.send_signal(signal.SIGTERM)
        said, _ = child.communicate(timeout=30)
    finally:
        child.kill()
    assert child.returncode == 0, said
    assert "Pod history: green" in said


def test_the_notebook_collects(
    practice: PracticeCluster, namespace: str, store: Store, tmp_path: Path, run_notebook: Callable[..., Executed]
) -> None:
    """papermill runs the notebook: it ends at its time, green, with the pod that lives in the history."""
    values = yaml.safe_load(practice.card.read_text())
    values["kubernetes"]["namespace"] = namespace
    values["history"] = {"url": str(tmp_path / "history")}
    card = tmp_path / "card.yaml"
    card.write_text(yaml.safe_dump(values))
    make(practice, "by-notebook")
    done = run_notebook("operations/10-collect-pod-history", cluster=card, minutes=0.1)
    assert done.exit_code == 0, done.last_lines
    assert "Pod history: green" in done.text
    assert records(store, "by-notebook")


def test_the_manifest_is_accepted(practice: PracticeCluster) -> None:
    """The API server takes every object of data/manifests/collector.yaml, field by field, in a dry run."""
    text = (ROOT / "data" / "manifests" / "collector.yaml").read_text().replace("gitlab-ci", NAMESPACE)
    practice.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text)
    documents = list(yaml.safe_load_all(text))
    settings = next(one for one in documents if one["kind"] == "ConfigMap")["data"]["card.yaml"]
    Settings.parse(yaml.safe_load(settings), where="collector.yaml")
