"""A played month of CI that a collector watches through accidents: `python -m soak.played_month [DAYS [TIMES [SEED]]]`.

While more than 20,000 pods go through a real API server, the collector is killed and started again, the API server is
killed, and for a while nobody watches at all. Afterwards GitLab is asked, and the history is compared with the truth:

* every pod that was watched is there exactly once, final, with the truth's moments;
* every job that ran while nobody watched is there, marked *bounded*;
* what no source can know (a pod of a pull retry in the gap) is counted.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import yaml

from runbook.clients import connect
from runbook.history import imports
from runbook.history.job_records import is_stand_in
from runbook.history.record import Known, PodRecord, from_table
from runbook.history.store import Store, open_store
from runbook.settings import Settings
from sandbox.gitlab.finished_jobs import RUNNER
from sandbox.practice import PracticeCluster
from sandbox.process import Process
from sandbox.traffic.lives import draw
from sandbox.traffic.play import FACTOR, next_midnight, play
from sandbox.traffic.team import TEAM, Team
from sandbox.traffic.truth import PodTruth, Truth

NAMESPACE = "played-ci"
SETTLE_SECONDS = 2.0
"""How long a collector gets for what it was told just before it is stopped."""
UNSEEN = 5
"""How many pods at least have to come and go before somebody watches again."""
END_SECONDS = 8.0
"""How long the last collector goes on after the last pod: its events come a moment later, and are then written."""
STATED = ("billing_start", "pulled", "running", "finished")
"""Moments that the nodes state in played time; creation, binding and deletion are stamped by the API server in real time."""


@dataclass(frozen=True)
class Accident:
    """What happens when this part of the pods has come to its end."""

    at: float
    what: str
    do: Callable[[Stage], None]


@dataclass
class Stage:
    """A played team, the collector that watches it, and what is known aside of the time in which it did not."""

    cluster: PracticeCluster
    settings: Settings
    folder: Path
    say: Callable[[str], None]
    seen_before_gap: set[str] = field(default_factory=set)
    """UIDs that had ended or were there when the gap began."""
    ended_before_return: set[str] = field(default_factory=set)
    """UIDs that had ended when somebody watched again."""
    peak_mib: float = 0.0
    _collector: Process | None = None

    @property
    def told(self) -> Path:
        """The truth's file: a line each pod that has ended."""
        return self.folder / "truth.jsonl"

    @property
    def place(self) -> Path:
        return self.folder / "place" / f"{self.settings.name}-{NAMESPACE}.json"

    def collect(self) -> None:
        """Start a collector, as `runbook collect` is started by hand, and wait until it has listed the pods."""
        before = self.place.stat().st_mtime_ns if self.place.exists() else 0
        command = [sys.executable, "-m", "runbook.cli", "collect"]
        options = ["--cluster", self.settings.card, "--place", self.folder / "place"]
        log = self.folder / "collector.log"
        self._collector = Process("collector", [*map(str, (*command, *options))], log=log, orphaned=signal.SIGKILL)
        self._collector.start()
        self._collector.wait_until(lambda: self.place.exists() and self.place.stat().st_mtime_ns > before, timeout=120)

    def end_collector(self, number: signal.Signals) -> None:
        """Send it a signal and wait for its end."""
        if self._collector is not None:
            self.peak_mib = max(self.peak_mib, peak_mib(self._collector.pid))
            self._collector.signal(number)
            self._collector.stop(grace=60)

    def kill_collector(self) -> None:
        """kill -9, and a new one at once."""
        self.end_collector(signal.SIGKILL)
        self.collect()

    def kill_api_server(self) -> None:
        """kill -9, and a new one at once."""
        self.cluster.control_plane.restart_apiserver()

    def look_away(self) -> None:
        """From now on nobody watches."""
        there = self.cluster.kubectl("get", "pods", "-n", NAMESPACE, "-o", "jsonpath={.items[*].metadata.uid}")
        self.seen_before_gap = {pod.uid for pod in Truth.read(self.told).pods} | set(there.split())
        time.sleep(SETTLE_SECONDS)
        self.end_collector(signal.SIGTERM)

    def forget(self) -> None:
        """The API server no longer knows what happened until now: the next collector cannot be told."""
        self.cluster.control_plane.compact()
        self.cluster.control_plane.restart_apiserver()

    def look_again(self) -> None:
        """Somebody watches again, once pods have come and gone that nobody saw."""
        while len({pod.uid for pod in Truth.read(self.told).pods} - self.seen_before_gap) < UNSEEN:
            time.sleep(0.2)
        self.collect()
        self.ended_before_return = {pod.uid for pod in Truth.read(self.told).pods}


ACCIDENTS = (
    Accident(0.10, "kill -9 of the collector", Stage.kill_collector),
    Accident(0.30, "kill -9 of the collector", Stage.kill_collector),
    Accident(0.45, "kill -9 of the API server", Stage.kill_api_server),
    Accident(0.60, "nobody watches", Stage.look_away),
    Accident(0.65, "the API server forgets what happened, and restarts", Stage.forget),
    Accident(0.70, "a collector again", Stage.look_again),
    Accident(0.85, "kill -9 of the collector", Stage.kill_collector),
)


@dataclass(frozen=True)
class Compared:
    """The history beside the truth. `wrong` are sentences; none means that all of it held."""

    watched: int
    in_the_gap: int
    jobs: int
    stand_ins: int
    unknowable: int
    """Pods of the gap of which no source knows: their job has another pod, or a record that stands for all of its pods."""
    ends: Counter[str]
    wrong: tuple[str, ...]

    def __str__(self) -> str:
        said = (
            f"{self.watched} pods watched, each there once; {self.in_the_gap} pods in the gap: {self.stand_ins} jobs bounded, "
            f"{self.unknowable} pods that no source knows; {self.jobs} jobs in all; ends known as {dict(self.ends)}"
        )
        return "\n".join([said, *(f"WRONG: {line}" for line in self.wrong)])


def compare(
    records: list[PodRecord], truth: Truth, seen_before_gap: set[str], ended_before_return: set[str]
) -> Compared:
    """What the history says beside what happened."""
    pods = {pod.uid: pod for pod in truth.pods}
    watched = [one for one in records if not is_stand_in(one)]
    stand_ins = [one for one in records if is_stand_in(one)]
    held = {one.pod_uid: one for one in watched}
    missing = {uid: pod for uid, pod in pods.items() if uid not in held}
    jobs_watched = {one.job_id for one in watched}
    jobs_missed = {pod.job_id for pod in missing.values()} - jobs_watched
    wrong = [
        f"{uid} is there {times} times" for uid, times in Counter(one.pod_uid for one in records).items() if times > 1
    ]
    wrong += [f"{uid} was never played" for uid in held.keys() - pods.keys()]
    wrong += [
        f"{pod.pod_name} is missing, although it was there before the gap"
        for uid, pod in missing.items()
        if uid in seen_before_gap
    ]
    wrong += [
        f"{pod.pod_name} is missing, although it ended after the gap"
        for uid, pod in missing.items()
        if uid not in ended_before_return
    ]
    wrong += [f"{one.pod_name} has not ended" for one in watched if not one.final]
    wrong += [line for uid, one in held.items() if uid in pods for line in differing(one, pods[uid])]
    wrong += [
        f"job {job} is there neither by a pod nor bounded" for job in jobs_missed - {one.job_id for one in stand_ins}
    ]
    wrong += [f"job {one.job_id} is there twice" for one in stand_ins if one.job_id in jobs_watched]
    wrong += [f"job {one.job_id} is not bounded" for one in stand_ins if not bounded(one, truth)]
    jobs = {one.job_id for one in records}
    wrong += [f"{len(jobs)} jobs, not {len({pod.job_id for pod in truth.pods})}"] * (
        jobs != {pod.job_id for pod in truth.pods}
    )
    return Compared(
        watched=len(watched),
        in_the_gap=len(missing),
        jobs=len(jobs),
        stand_ins=len(stand_ins),
        unknowable=len(missing) - len(jobs_missed),
        ends=Counter(one.finished_known.value for one in records),
        wrong=tuple(wrong),
    )


def differing(record: PodRecord, truth: PodTruth) -> list[str]:
    """Moments that the record calls observed and that are not those of the truth."""
    return [
        f"{record.pod_name}: {name} is {getattr(record, f'{name}_at')}, not {getattr(truth, f'{name}_at')}"
        for name in STATED
        if getattr(record, f"{name}_known") is Known.OBSERVED
        and getattr(record, f"{name}_at") != getattr(truth, f"{name}_at")
    ]


def bounded(stand_in: PodRecord, truth: Truth) -> bool:
    """Whether a job's record says that its moments are bounds, and holds the lives of its pods between them."""
    lives = [pod for pod in truth.pods if pod.job_id == stand_in.job_id]
    start, end = stand_in.billing_start_at, stand_in.finished_at
    if not lives or start is None or end is None:
        return False
    known = {stand_in.created_known, stand_in.billing_start_known, stand_in.finished_known, stand_in.deleted_known}
    inside = all(
        (pod.billing_start_at is None or start <= pod.billing_start_at)
        and (pod.finished_at is None or pod.finished_at <= end)
        for pod in lives
    )
    return known == {Known.BOUNDED} and inside


def soak(
    folder: Path,
    *,
    days: float = 30,
    times: float = 1.3,
    seed: int = 7,
    pods: int | None = None,
    factor: float = FACTOR,
    team: Team = TEAM,
    accidents: Sequence[Accident] = ACCIDENTS,
    say: Callable[[str], None] = print,
) -> Compared:
    """Play, with the accidents, on a practice cluster of its own below the folder; import from GitLab; compare."""
    with PracticeCluster(folder / "cluster", say=say) as cluster:
        stage = Stage(cluster, own_settings(cluster, folder), folder, say)
        cluster.kubectl("create", "namespace", NAMESPACE)
        begin = next_midnight(datetime.now(UTC))
        planned = len(draw(team, seed=seed, begin=begin, days=days, times=times))
        total = planned if pods is None else min(pods, planned)
        stage.collect()
        try:
            with ThreadPoolExecutor(1) as player:
                playing = player.submit(
                    play, cluster, days=days, times=times, seed=seed, begin=begin, pods=pods, factor=factor, team=team,
                    namespace=NAMESPACE, out=stage.told,
                )  # fmt: skip
                happen(stage, playing, total, accidents)
            truth = playing.result()
            time.sleep(END_SECONDS)
        finally:
            stage.end_collector(signal.SIGTERM)
        store = open_store(stage.settings)
        complete(stage.settings, store, truth)
        state = store.state()
        say(
            f"{len(truth.pods)} pods in {truth.seconds:.0f} s ({truth.pods_a_second:.1f} a second); the collector took "
            f"{stage.peak_mib:.0f} MiB at most; {state.segments} segments, {state.bytes / 2**20:.1f} MiB"
        )
        store.compact()
        return compare(from_table(store.table()), truth, stage.seen_before_gap, stage.ended_before_return)


def own_settings(cluster: PracticeCluster, folder: Path) -> Settings:
    """The practice card with a history and a namespace of its own."""
    values = yaml.safe_load(cluster.card.read_text())
    values["history"] = {"url": str(folder / "history")}
    values["kubernetes"]["namespace"] = NAMESPACE
    card = folder / "card.yaml"
    card.write_text(yaml.safe_dump(values))
    return Settings.load(card)


def happen(stage: Stage, playing: Future[Truth], total: int, accidents: Sequence[Accident]) -> None:
    """Let each accident happen when its part of the pods has ended."""
    for accident in accidents:
        while not playing.done() and lines(stage.told) < accident.at * total:
            time.sleep(0.1)
        if playing.done():
            playing.result()
            raise AssertionError(f"the play was over before: {accident.what}")
        stage.say(f"{lines(stage.told)} of {total} pods have ended: {accident.what}")
        accident.do(stage)


def complete(settings: Settings, store: Store, truth: Truth) -> None:
    """Import what GitLab knows of the played jobs, as of the end of the played time."""
    client = connect.gitlab(settings)
    listed = client.list("/runners/all", what="the list of runners")
    imports.gitlab_jobs(
        client,
        store,
        settings,
        since=datetime.now(UTC),
        now=max(pod.job_finished_at for pod in truth.pods) + imports.SETTLED,
        runners=[int(one["id"]) for one in listed if one["description"] == RUNNER],
    )


def lines(path: Path) -> int:
    """How many lines the file has, 0 where it is not there yet."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def peak_mib(pid: int) -> float:
    """The most memory that a process has had, in MiB; 0 where it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0.0)


def main() -> int:
    given = dict(zip(("days", "times", "seed"), map(float, sys.argv[1:]), strict=False))
    with tempfile.TemporaryDirectory(prefix="runbook-soak-") as name:
        result = soak(
            Path(name), days=given.get("days", 30), times=given.get("times", 1.3), seed=int(given.get("seed", 7))
        )
    print(result)
    return 1 if result.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
