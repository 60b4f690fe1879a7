"""The collector against a real API server: pods live and die, connections break, the API server restarts and forgets."""

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
from typing import Any

import pytest
import yaml

from runbook.clients import connect
from runbook.clients.kubernetes import Cluster
from runbook.clients.storage import DiskFolder
from runbook.eci.billing_window import Known
from runbook.history import pod_stream
from runbook.history.pod_stream import ADDED, BOOKMARK, Expired
from runbook.history.record import PodRecord
from runbook.history.store import Store
from runbook.history.watch import Collector, Place, Progress, judge
from runbook.report import Status
from runbook.settings import ROOT, Settings
from sandbox.practice import PracticeCluster
from tests.practice.conftest import Executed
from tests.practice.relay import Relay

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

    @property
    def progress(self) -> Progress:
        """What it has done until now."""
        return self.collector.progress

    def end(self) -> Progress:
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.collector.progress


Start = Callable[..., Run]


@pytest.fixture
def run(settings: Settings, store: Store, tmp_path: Path, namespace: str) -> Iterator[Start]:
    """Starts collectors of one store and one place; ends those that a failing test left."""
    running: list[Run] = []

    def start(kubeconfig: Path | None = None) -> Run:
        section = settings.kubernetes.model_copy(update={"kubeconfig": str(kubeconfig)} if kubeconfig else {})
        running.append(
            Run(settings.model_copy(update={"kubernetes": section}), store, tmp_path / "place.json", namespace)
        )
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


def test_a_pod_is_seen_to_live_and_to_end(practice: PracticeCluster, store: Store, run: Start) -> None:
    """A pod that comes and goes while the collector watches is there once, final, its end observed."""
    collecting = run()
    make(practice, "short")
    eventually(lambda: records(store, "short"))
    remove(practice, "short")
    eventually(lambda: [one.final for one in records(store, "short")] == [True])
    assert collecting.end().bounded == 0
    (record,) = records(store, "short")
    assert record.deleted_known is Known.OBSERVED


def test_what_ends_between_two_runs_is_told_to_the_second(practice: PracticeCluster, store: Store, run: Start) -> None:
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


def test_a_lost_place_makes_ends_bounded(practice: PracticeCluster, store: Store, run: Start, tmp_path: Path) -> None:
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
    practice: PracticeCluster, settings: Settings, store: Store, run: Start, tmp_path: Path
) -> None:
    """A place out of the future (another cluster at the same address) does not keep the collector from its work."""
    Place(tmp_path / "place.json", connect.kubernetes(settings).server).save("99999999999")
    collecting = run()
    make(practice, "anew")
    eventually(lambda: records(store, "anew"))
    collecting.end()
    remove(practice, "anew")


@pytest.fixture
def relayed(practice: PracticeCluster, tmp_path: Path) -> Iterator[tuple[Relay, Path]]:
    """A way to the API server that can be cut, and a kubeconfig that goes it."""
    with Relay(practice.control_plane.port) as relay:
        kubeconfig = tmp_path / "kubeconfig"
        direct = practice.kubeconfig.read_text()
        kubeconfig.write_text(direct.replace(f":{practice.control_plane.port}", f":{relay.port}"))
        kubeconfig.chmod(0o600)
        yield relay, kubeconfig


def test_a_connection_that_breaks_is_resumed(
    practice: PracticeCluster, store: Store, run: Start, relayed: tuple[Relay, Path]
) -> None:
    """Watches that are cut in the middle are taken up where they broke, without a new list, and that is no failure."""
    relay, kubeconfig = relayed
    collecting = run(kubeconfig)
    make(practice, "before-the-cut")
    eventually(lambda: records(store, "before-the-cut"))
    assert relay.cut() >= 2
    eventually(lambda: collecting.progress.reconnects >= 2)
    remove(practice, "before-the-cut")
    eventually(lambda: [one.final for one in records(store, "before-the-cut")] == [True])
    progress = collecting.end()
    assert (progress.lists, progress.bounded, progress.trouble) == (1, 0, None)


def test_a_cut_just_before_the_end_is_no_failure(
    settings: Settings, run: Start, relayed: tuple[Relay, Path], tmp_path: Path
) -> None:
    """A watch that broke in the moment in which the run ends leaves a green report: the next run goes on where this one stopped."""
    relay, kubeconfig = relayed
    collecting = run(kubeconfig)
    eventually((tmp_path / "place.json").exists)
    relay.cut()
    progress = collecting.end()
    assert judge(progress, settings)["history-watch"].status is Status.PASS


def test_an_api_server_that_restarts_is_waited_for(practice: PracticeCluster, store: Store, run: Start) -> None:
    """kill -9 of the API server: the collector goes on where it was, and a pod deleted afterwards is seen to end."""
    collecting = run()
    make(practice, "over-the-restart")
    eventually(lambda: records(store, "over-the-restart"))
    practice.control_plane.restart_apiserver()
    remove(practice, "over-the-restart")
    eventually(lambda: [one.final for one in records(store, "over-the-restart")] == [True], seconds=60)
    assert collecting.end().bounded == 0
    (record,) = records(store, "over-the-restart")
    assert record.deleted_known is Known.OBSERVED


def test_a_place_that_the_api_server_forgot_means_a_list(
    practice: PracticeCluster, store: Store, run: Start, tmp_path: Path
) -> None:
    """410 Gone after a real compaction: a list finds out who is gone and who came, and from there on all is seen."""
    first = run()
    make(practice, "gone-meanwhile")
    eventually(lambda: records(store, "gone-meanwhile"))
    first.end()
    remove(practice, "gone-meanwhile")
    make(practice, "came-meanwhile")
    stream = pod_stream.pods(connect.kubernetes(Settings.load(practice.card)), NAMESPACE)
    practice.control_plane.compact()
    practice.control_plane.restart_apiserver()
    place = json.loads((tmp_path / "place.json").read_text())["resource_version"]
    with pytest.raises(Expired):
        list(stream.changes(place, seconds=1))
    second = run()
    eventually(lambda: records(store, "came-meanwhile") and records(store, "gone-meanwhile")[0].final, seconds=60)
    remove(practice, "came-meanwhile")
    eventually(lambda: records(store, "came-meanwhile")[0].final)
    assert second.end().bounded == 1
    known = {name: records(store, name)[0].deleted_known for name in ("gone-meanwhile", "came-meanwhile")}
    assert known == {"gone-meanwhile": Known.BOUNDED, "came-meanwhile": Known.OBSERVED}


class AtOnce:
    """The API server, asked for a bookmark right after what is there: otherwise the first one comes after a minute."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def request(self, method: str, path: str, query: dict[str, str], **more: Any) -> Any:
        first = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "resourceVersion": ""}
        return self._cluster.request(method, path, query | first, **more)


def test_a_real_bookmark_is_read(practice: PracticeCluster, settings: Settings, namespace: str) -> None:
    """A bookmark as the API server really writes it moves the place on and tells of no pod."""
    make(practice, "quiet")
    server: Any = AtOnce(connect.kubernetes(settings))
    told = list(pod_stream.pods(server, namespace).changes("", seconds=2))
    remove(practice, "quiet")
    assert [change.verb for change in told] == [ADDED, BOOKMARK]
    assert told[1].object is None and int(told[1].resource_version) > 0


def test_a_store_in_trouble_is_tried_again(practice: PracticeCluster, store: Store, run: Start, tmp_path: Path) -> None:
    """Records that the disk refuses stay due: the progress says why, and they are there when the disk takes them again."""
    collecting = run()
    (tmp_path / "history").write_text("a file where the history's folder should be")
    make(practice, "not-stored-yet")
    eventually(lambda: "a file, not a folder" in str(collecting.progress.trouble))
    remove(practice, "not-stored-yet")
    (tmp_path / "history").unlink()
    eventually(lambda: [one.final for one in records(store, "not-stored-yet")] == [True])
    progress = collecting.end()
    assert (progress.trouble, progress.bounded) == (None, 0)


def test_two_collectors_do_no_harm(practice: PracticeCluster, store: Store, run: Start) -> None:
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
    child = collector(own_card(practice, tmp_path, namespace), tmp_path)
    try:
        eventually(lambda: (tmp_path / "place").exists(), seconds=40)
        child.send_signal(signal.SIGTERM)
        said, _ = child.communicate(timeout=30)
    finally:
        child.kill()
    assert child.returncode == 0, said
    assert "Pod history: green" in said


def test_kill_9_loses_nothing(practice: PracticeCluster, namespace: str, store: Store, tmp_path: Path) -> None:
    """A killed `runbook collect` left what it had acknowledged; the next one is told the rest, and nothing is there twice."""
    card = own_card(practice, tmp_path, namespace)
    for number in range(3):
        child = collector(card, tmp_path)
        make(practice, f"killed-{number}")
        eventually(lambda name=f"killed-{number}": records(store, name), seconds=40)
        remove(practice, f"killed-{number}")
        child.kill()
        child.wait()
    child = collector(card, tmp_path)
    try:
        names = [f"killed-{number}" for number in range(3)]
        eventually(lambda: [one.final for name in names for one in records(store, name)] == [True] * 3, seconds=40)
    finally:
        child.terminate()
        said, _ = child.communicate(timeout=30)
    assert "of these 0 bounded" in said
    assert all(records(store, name)[0].deleted_known is Known.OBSERVED for name in names)


def own_card(practice: PracticeCluster, folder: Path, namespace: str) -> Path:
    """The practice card with this namespace and a history below the folder."""
    values = yaml.safe_load(practice.card.read_text())
    values["kubernetes"]["namespace"] = namespace
    values["history"] = {"url": str(folder / "history")}
    card = folder / "card.yaml"
    card.write_text(yaml.safe_dump(values))
    return card


def collector(card: Path, folder: Path) -> subprocess.Popen[str]:
    """`runbook collect` as a process of its own."""
    command = [sys.executable, "-m", "runbook.cli", "collect", "--cluster", str(card), "--place", str(folder / "place")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)


def test_the_notebook_collects(
    practice: PracticeCluster, namespace: str, store: Store, tmp_path: Path, run_notebook: Callable[..., Executed]
) -> None:
    """papermill runs the notebook: it ends at its time, green, with the pod that lives in the history."""
    card = own_card(practice, tmp_path, namespace)
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
