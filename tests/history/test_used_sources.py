"""Who measures what pods use: ECI's metric API, Prometheus, and the jobs themselves, each against a server or a shell."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import yaml

from bench.sample_records import table
from runbook.clients.alibaba import AccessKey, AlibabaCloud, Endpoints
from runbook.clients.connect import SystemClock
from runbook.clients.gitlab import GitLabClient
from runbook.clients.prometheus import Prometheus
from runbook.clients.storage import DiskFolder
from runbook.errors import PrometheusError
from runbook.history import used_from_eci, used_from_jobs, used_from_prometheus, used_imports
from runbook.history.store import Store
from runbook.history.used import Life, Measures, Spread, UsedStore
from sandbox.alibaba.process import Alibaba
from tests.sandbox.alibaba_journal import JournalWriter

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime.now(UTC).replace(microsecond=0)
BEGAN = NOW - timedelta(hours=2)


def life(name: str = "one", **values: Any) -> Life:
    """A pod that ran for two minutes, two hours ago."""
    given: dict[str, Any] = {
        "cluster": "practice", "pod_uid": f"uid-{name}", "pod_name": f"runner-x-project-5-concurrent-0-{name}",
        "namespace": "gitlab-ci", "running_at": BEGAN, "finished_at": BEGAN + timedelta(minutes=2),
        "instance_id": f"eci-bp1{name}", "project_id": 5, "job_id": 106,
    }  # fmt: skip
    return Life(**(given | values))


# -- ECI


@pytest.fixture(scope="module")
def eci(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AlibabaCloud]:
    """A cloud that ran one hollow pod of two minutes and one of two hours, which use what their scripts say."""
    folder = tmp_path_factory.mktemp("alibaba")
    journal = JournalWriter(folder / "journal.jsonl", BEGAN)
    used = {"vcpu_mean": 1.5, "vcpu_peak": 3.0, "memory_mean_gib": 2.5, "memory_peak_gib": 4.0}
    for name, seconds in (("one", 120), ("long", 6000)):
        script = {"begin": BEGAN.isoformat(), "running": 0, "end": seconds, "used": used}
        journal.made(0, name, vcpu=4, memory_gib=8, script=script)
        journal.ended(seconds, name)
    with Alibaba(folder / "server", journal=journal.path) as started:
        endpoints = Endpoints(started.url, started.url, started.url)
        yield AlibabaCloud("cn-hangzhou", endpoints, clock=SystemClock(), key=AccessKey(*started.access_key()))


def test_eci_tells_mean_and_peak(eci: AlibabaCloud) -> None:
    """A pod's samples become its spread: peaks are exact, means as close as samples of 15 seconds are."""
    told = used_from_eci.measures(eci, [life("one")], now=NOW, clock=SystemClock())
    (record,) = told.records
    assert record.samples == 9
    assert record.vcpu is not None and record.memory is not None
    assert (record.vcpu.peak, record.memory.peak) == pytest.approx((3.0, 4.0))
    assert record.memory.mean == pytest.approx(2.5, abs=0.3)
    assert record.memory.p50 == pytest.approx(2.0)


def test_a_long_pod_takes_several_questions(eci: AlibabaCloud) -> None:
    """A pod of two hours is asked for in pieces of at most 50 records that neither overlap nor leave a gap."""
    long = life("long", finished_at=BEGAN + timedelta(seconds=6000))
    (record,) = used_from_eci.measures(eci, [long], now=NOW, clock=SystemClock()).records
    assert record.samples == 101
    pieces = list(used_from_eci.windows(long.running_at, long.finished_at))
    assert all((end - start) / timedelta(seconds=period) < 50 for start, end, period in pieces)
    assert all(
        later[0] - earlier[1] == timedelta(seconds=60) for earlier, later in zip(pieces, pieces[1:], strict=False)
    )


def test_pods_that_eci_cannot_tell_of_are_counted(eci: AlibabaCloud) -> None:
    """Who has no instance, is too old or too fresh, or is unknown to ECI is counted with the reason, and stops nobody."""
    long_ago = NOW - timedelta(days=31)
    lives = [
        life("none", instance_id=None),
        life("old", running_at=long_ago, finished_at=long_ago),
        life("fresh", finished_at=NOW - timedelta(minutes=1)),
        life("nobody"),
        life("one"),
    ]
    told = used_from_eci.measures(eci, lives, now=NOW, clock=SystemClock())
    assert [record.pod_uid for record in told.records] == ["uid-one"]
    reasons = (used_from_eci.NO_INSTANCE, used_from_eci.TOO_OLD, used_from_eci.TOO_RECENT, used_from_eci.UNKNOWN)
    assert told.without == dict.fromkeys(reasons, 1)


class Hand:
    """A clock that only notes for how long it was asked to sleep."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> datetime:
        return NOW

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def test_eci_is_not_asked_too_often(eci: AlibabaCloud) -> None:
    """More questions than ECI answers in a minute are spread over several; nothing is waited for at the end."""
    hand = Hand()
    day = timedelta(hours=8)
    lives = [life("nobody", running_at=NOW - timedelta(days=2), finished_at=NOW - timedelta(days=2) + day)] * 200
    told = used_from_eci.measures(eci, lives, now=NOW, clock=hand)
    assert told.without == {used_from_eci.UNKNOWN: 200}
    assert hand.slept == [60.0]


# -- Prometheus


class Exporter(BaseHTTPRequestHandler):
    """Answers range queries as Prometheus documents them: a rising line each for CPU and memory of one pod."""

    asked: list[dict[str, list[str]]]
    answer: tuple[int, str] | None

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        type(self).asked.append(form)
        if self.headers.get("Authorization") != "Bearer told-by-the-card":
            return self._say(401, "Unauthorized")
        if self.answer is not None:
            return self._say(*self.answer)
        start, end, step = (float(form[name][0]) for name in ("start", "end", "step"))
        unit = 1.0 if "cpu" in form["query"][0] else 2.0**30
        count = int((end + 600 - start) // step) + 1
        values = [[start + n * step, str(unit * (1 + n))] for n in range(count)] + [[start, "NaN"]]
        rows = [{"metric": {"pod": life("one").pod_name}, "values": values}]
        return self._say(200, json.dumps({"status": "success", "data": {"resultType": "matrix", "result": rows}}))

    def _say(self, status: int, body: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture
def prometheus() -> Iterator[tuple[Prometheus, type[Exporter]]]:
    """A server that speaks Prometheus' HTTP API, and the client of it."""
    handler = type("Asked", (Exporter,), {"asked": [], "answer": None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Prometheus(f"http://127.0.0.1:{server.server_port}", token="told-by-the-card"), handler
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_prometheus_tells_what_lies_in_the_pods_life(prometheus: tuple[Prometheus, type[Exporter]]) -> None:
    """Samples before its start and after its end, and those that are no numbers, are not the pod's."""
    client, asked = prometheus
    told = used_from_prometheus.measures(client, [life("one"), life("two")], now=NOW)
    (record,) = told.records
    assert record.samples == 5
    assert record.vcpu == record.memory == Spread(3.0, 3.0, 5.0, 5.0, 5.0)
    assert told.without == {used_from_prometheus.NO_SERIES: 1}
    assert len(asked.asked) == 2
    (query,) = asked.asked[0]["query"]
    assert 'namespace="gitlab-ci"' in query and "0-one|runner" in query and "rate(" in query


def test_pods_are_asked_for_together_within_prometheus_limits() -> None:
    """A query names at most 50 pods of one namespace, and spans no more points than Prometheus answers."""
    many = [life(str(number)) for number in range(120)] + [life("elsewhere", namespace="other")]
    assert sorted(map(len, used_from_prometheus.batches(many))) == [1, 20, 50, 50]
    apart = timedelta(days=30)
    far = [life("early"), life("late", running_at=BEGAN + apart, finished_at=BEGAN + apart)]
    assert [len(batch) for batch in used_from_prometheus.batches(far)] == [1, 1]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((400, '{"status":"error","errorType":"bad_data","error":"parse error"}'), "bad_data.*parse error"),
        ((200, "<html>sign in</html>"), "not as Prometheus does"),
        ((403, "no"), "forbids"),
        ((200, '{"status":"success","data":{"resultType":"vector","result":[]}}'), "something else than series"),
    ],
    ids=["a bad query", "a web page", "no right", "not a range"],
)
def test_what_prometheus_refuses_is_a_page(
    prometheus: tuple[Prometheus, type[Exporter]], answer: tuple[int, str], says: str
) -> None:
    """Whatever Prometheus, or what stands in its place, answers instead of series ends with a page that says so."""
    client, handler = prometheus
    handler.answer = answer
    with pytest.raises(PrometheusError, match=says) as caught:
        used_from_prometheus.measures(client, [life("one")], now=NOW)
    assert "told-by-the-card" not in str(caught.value)


def test_a_prometheus_that_is_not_there_is_a_page() -> None:
    """An address where nobody listens says that it cannot be reached."""
    with pytest.raises(PrometheusError, match="cannot be reached"):
        used_from_prometheus.measures(Prometheus("http://127.0.0.1:9", timeout=2), [life("one")], now=NOW)


# -- the job itself

LINE = (
    'runbook-used {"version":1,"pod":"%s","samples":4,"vcpu_milli":[500,400,900,950,1000],'
    '"memory_bytes":[1073741824,1073741824,2147483648,2147483648,2147483648],"kernel_peak_bytes":4294967296}'
)


def test_a_line_in_a_trace_is_read_through_colours_and_stamps() -> None:
    """The last line counts, whatever colours and time stamps a runner puts around it."""
    trace = f"\x1b[0KRunning\n2026-11-24T09:30:00.1Z 00O {LINE % 'first'}\n\x1b[32m{LINE % 'second'}\x1b[0;m\nJob succeeded\n"
    told = used_from_jobs.reported(trace)
    assert isinstance(told, used_from_jobs.Reported)
    assert told.pod == "second"
    assert (told.vcpu, told.memory) == (Spread(0.5, 0.4, 0.9, 0.95, 1.0), Spread(1.0, 1.0, 2.0, 2.0, 2.0))


@pytest.mark.parametrize(
    "line",
    [
        'runbook-used {"version":1}',
        'runbook-used {"version":2,"pod":"a","samples":1,"vcpu_milli":[1,1,1,1,1]}',
        'runbook-used {"version":1,"pod":"a","samples":1,"vcpu_milli":[-1,1,1,1,1]}',
        'runbook-used {"version":1,"pod":"a","samples":1,"vcpu_milli":[1,1]}',
        "runbook-used {not json}",
        'runbook-used {"version":1,"pod":"a","samples":0,"vcpu_milli":null,"memory_bytes":null}',
    ],
)
def test_an_odd_line_counts_as_none(line: str) -> None:
    """A line of another version, with missing, negative or no numbers is not believed."""
    assert used_from_jobs.reported(line) == used_from_jobs.ODD_LINE
    assert used_from_jobs.reported("nothing of it") == used_from_jobs.NO_LINE


class Traces(BaseHTTPRequestHandler):
    """Answers traces as GitLab does: job 106 has one, others have none."""

    def do_GET(self) -> None:
        found = self.path.startswith("/api/v4/projects/5/jobs/106/trace")
        body = (LINE % life("two").pod_name).encode() if found else b'{"message":"404 Not found"}'
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "text/plain" if found else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture
def gitlab() -> Iterator[GitLabClient]:
    """A client of a server that has traces."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Traces)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield GitLabClient(f"http://127.0.0.1:{server.server_port}", "token")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_trace_measures_the_pod_that_it_names(gitlab: GitLabClient) -> None:
    """Of a job's pods the one that the line names is measured; a job without a trace is counted."""
    lives = [life("one"), life("two"), life("three", job_id=7), life("four", job_id=None)]
    told = used_from_jobs.measures(gitlab, lives, now=NOW)
    assert [record.pod_uid for record in told.records] == ["uid-two"]
    assert told.without == dict.fromkeys((used_from_jobs.OTHER_POD, used_from_jobs.NO_TRACE, used_from_jobs.NO_JOB), 1)


SNIPPET = yaml.safe_load((ROOT / "data" / "snippets" / "used.gitlab-ci.yml").read_text())[".runbook-used"]
SHELLS = [shell for shell in ("sh", "bash", "dash") if shutil.which(shell)]


def ran(shell: str, script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A script in a shell that stops at the first error, as a runner has it."""
    given = {**os.environ, "RUNBOOK_USED_FILE": str(folder / "samples"), "RUNBOOK_USED_SECONDS": "0.2", **environment}
    return subprocess.run(
        [shell, "-eu", "-c", script], env=given, capture_output=True, text=True, timeout=30, check=False
    )


def written_cgroup(folder: Path, version: int) -> Path:
    """Files of a cgroup as the kernel shows them: 1.5 GiB in use, 0.5 of it cache that can be dropped."""
    usage, cache = 3 * 2**29, 2**29
    files = {
        2: {
            "cgroup.controllers": "cpu memory", "cpu.stat": "usage_usec 5000000\nuser_usec 1", "memory.current": usage,
            "memory.stat": f"anon 1\ninactive_file {cache}", "memory.peak": 2**31,
        },
        1: {
            "cpuacct/cpuacct.usage": 5000000000, "memory/memory.usage_in_bytes": usage,
            "memory/memory.stat": f"cache 1\ntotal_inactive_file {cache}", "memory/memory.max_usage_in_bytes": 2**31,
        },
    }[version]  # fmt: skip
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{text}\n")
    return folder


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("version", [1, 2])
def test_the_snippet_reads_both_kinds_of_cgroup(shell: str, version: int, tmp_path: Path) -> None:
    """In each shell, and of either cgroup version, the job's line has its memory without cache and the kernel's peak."""
    cgroup = written_cgroup(tmp_path / "cgroup", version)
    given = {"RUNBOOK_USED_CGROUP": str(cgroup)}
    job = ran(shell, SNIPPET["before_script"][0] + "\nsleep 0.7\nkill $!", tmp_path, **given)
    assert (job.returncode, job.stdout, job.stderr) == (0, "", "")
    after = ran(shell, SNIPPET["after_script"][0], tmp_path, **given)
    told = used_from_jobs.reported(after.stdout)
    assert isinstance(told, used_from_jobs.Reported), after
    assert told.samples >= 3
    assert told.memory == Spread(1.0, 1.0, 1.0, 1.0, 1.0)
    assert told.vcpu == Spread(0.0, 0.0, 0.0, 0.0, 0.0)
    assert told.kernel_peak_bytes == 2**31


@pytest.mark.parametrize("shell", SHELLS)
def test_the_snippet_measures_a_busy_job(shell: str, tmp_path: Path) -> None:
    """A job that keeps a CPU busy is seen to: this machine's own cgroup is read for real."""
    if not any(Path("/sys/fs/cgroup", name).exists() for name in ("memory.current", "cpuacct/cpuacct.usage")):
        pytest.skip("this machine shows no cgroup with memory and CPU under /sys/fs/cgroup")
    busy = "\nn=0\nwhile [ $n -lt 400000 ]; do n=$((n + 1)); done\nsleep 0.3\nkill $!"
    assert ran(shell, SNIPPET["before_script"][0] + busy, tmp_path).returncode == 0
    told = used_from_jobs.reported(ran(shell, SNIPPET["after_script"][0], tmp_path).stdout)
    assert isinstance(told, used_from_jobs.Reported)
    assert told.vcpu is not None and told.vcpu.peak > 0.1
    assert told.memory is not None and told.memory.peak > 0


def test_without_a_sampler_the_kernels_peak_is_told(tmp_path: Path) -> None:
    """after_script alone gives the kernel's own peak, no CPU, and never fails the job."""
    cgroup = written_cgroup(tmp_path / "cgroup", 2)
    after = ran("sh", SNIPPET["after_script"][0], tmp_path, RUNBOOK_USED_CGROUP=str(cgroup))
    told = used_from_jobs.reported(after.stdout)
    assert isinstance(told, used_from_jobs.Reported)
    assert (told.vcpu, told.memory) == (None, Spread(2.0, 2.0, 2.0, 2.0, 2.0))
    nowhere = ran("sh", SNIPPET["after_script"][0], tmp_path / "gone", RUNBOOK_USED_CGROUP="/nowhere")
    assert nowhere.returncode == 0


# -- all of them


def test_only_pods_without_a_measure_are_asked_for(tmp_path: Path) -> None:
    """An import asks for each pod once: what has a row already is left alone, and a dry run writes nothing."""
    history = Store(DiskFolder(tmp_path / "history"), clock=SystemClock())
    history.append(table(0, 20))
    used = UsedStore(DiskFolder(tmp_path / "used"))
    since = datetime(2000, 1, 1, tzinfo=UTC)
    asked: list[int] = []

    def ask(lives: Any) -> Measures:
        asked.append(len(lives))
        return Measures(
            tuple(one.measured("eci", NOW, samples=1, memory=Spread.of([1.0])) for one in lives[1:]), {"x": 1}
        )

    pods = len(used_imports.unmeasured(history, used, since=since))
    assert pods > 2
    dry = used_imports.measure(history, used, ask, source="eci", since=since, dry_run=True)
    assert dry.outcome == f"{pods - 1} rows would be written" and not used.table().num_rows
    report = used_imports.measure(history, used, ask, source="eci", since=since, dry_run=False)
    assert report.outcome == f"{pods - 1} rows written"
    assert f"{pods - 1} of {pods} pods" in report["used-measured"].observed
    used_imports.measure(history, used, ask, source="eci", since=since, dry_run=False)
    assert asked == [pods, pods, 1]
