"""The main job as `make demo` runs it, on a practice cluster of its own, and what is left when that has stopped."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import gitlab
import pytest
import yaml

from runbook.history.record import Known, Source
from sandbox.demo import CHANGING, PASSES, Executed, history_of_a_day, main_job, own_card
from sandbox.practice import ROOT, PracticeCluster

PAPERMILL = (sys.executable, "-m", "papermill")
CHECK = ROOT / "notebooks" / "onboarding" / "10-check-connection.ipynb"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PracticeCluster]:
    """A practice cluster in which nothing has been done yet, beside the one that other tests use."""
    with PracticeCluster(tmp_path_factory.mktemp("main-job") / "cluster") as one:
        yield one


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the executed notebooks go."""
    return tmp_path_factory.mktemp("executed")


@pytest.fixture(scope="module")
def rows(cluster: PracticeCluster, executed: Path) -> list[Executed]:
    """The main job, run once for this module."""
    return main_job(cluster.card, executed)


def test_every_notebook_ends_green(rows: list[Executed]) -> None:
    """Rehearsed, applied, applied again and proved by a job: every notebook of the main job ends green."""
    assert [(row.walk, row.notebook) for row in rows] == [(w.name, Path(n).name) for w in PASSES for n in w.notebooks]
    assert all(row.ok for row in rows)
    judged = [row.verdict for row in rows if row.notebook != "00-start-here"]
    assert all(": green" in verdict for verdict in judged), judged


def test_the_second_time_there_is_nothing_to_change(rows: list[Executed]) -> None:
    """Each changing notebook, applied twice, says the second time that there is nothing to change."""
    again = {row.notebook: row.verdict for row in rows if row.walk == "3-apply-again"}
    assert set(again) == {Path(notebook).name for notebook in CHANGING}
    assert all(verdict.endswith("nothing to change") for verdict in again.values()), again


def test_the_runner_takes_the_cards_jobs_afterwards(rows: list[Executed], cluster: PracticeCluster) -> None:
    """After a green smoke job GitLab's runner has the card's tags, is active and unlocked; no branch and no pod is left."""
    api = _gitlab(cluster)
    (runner,) = api.runners_all.list(get_all=True)
    runner = api.runners.get(runner.id)
    assert (sorted(runner.tag_list), runner.paused, runner.locked, runner.run_untagged) == (
        ["docker", "k8s"],
        False,
        False,
        False,
    )
    assert [branch.name for branch in api.projects.get("practice/smoke").branches.list(get_all=True)] == ["main"]
    assert cluster.kubectl("get", "pods", "--all-namespaces", "--output", "name") == ""


def test_the_articles_job_runs_on_the_proved_runner(rows: list[Executed], cluster: PracticeCluster) -> None:
    """The job that the article of 2020 shows, with its database service and its test report, is green on this runner."""
    project = _gitlab(cluster).projects.get("practice/article")
    pipeline = project.pipelines.create({"ref": "main"})
    deadline = time.monotonic() + 90
    while pipeline.status not in ("success", "failed", "canceled"):
        assert time.monotonic() < deadline, pipeline.status
        time.sleep(0.5)
        pipeline.refresh()
    (job,) = pipeline.jobs.list(get_all=True)
    trace = project.jobs.get(job.id).trace().decode()
    assert pipeline.status == "success", trace
    assert "DatabaseTest: 1 test, 0 failed (database at 127.0.0.1:5432)" in trace
    assert {"archive", "junit"} <= {artifact["file_type"] for artifact in job.artifacts}


def test_a_played_day_is_collected_and_completed(
    rows: list[Executed], cluster: PracticeCluster, executed: Path, tmp_path: Path
) -> None:
    """Collectors that follow one another miss no played pod; ECI and GitLab complete them, and the smoke job's own pod that nobody watched."""
    card = own_card(cluster, tmp_path)
    day = history_of_a_day(cluster, card, executed, since=datetime.now(UTC) - timedelta(hours=1), pods=60)
    assert day.complete and len(day.rows) >= 3
    assert {row.verdict for row in day.rows} == {"Pod history: green"}
    played = sum(pod.billing_start_at is not None for pod in day.truth.pods)
    assert (len(day.truth.pods), day.overview.sources[Source.WATCH]) == (60, 60)
    assert day.overview.known["finished"][Known.BILLED] > played, "ECI also knows the pods of the jobs before"
    assert day.overview.sources[Source.GITLAB] == day.overview.pods > 60
    assert (day.overview.spot > 0, day.overview.spot_without_type) == (True, 0)


def test_no_secret_is_in_anything_that_a_run_writes(
    rows: list[Executed], cluster: PracticeCluster, executed: Path
) -> None:
    """No token, key or credential of the main job stands in an executed notebook, a job's trace or a program's log."""
    secrets = _secrets(cluster)
    assert len(secrets) >= 7
    written = [*executed.rglob("*.ipynb"), *cluster.folder.rglob("*.log")]
    assert len(written) > len(rows)
    texts = {str(path): path.read_text(errors="replace") for path in written} | _traces(cluster)
    leaks = [(name, where) for name, secret in secrets.items() for where, text in texts.items() if secret in text]
    assert leaks == []


def test_papermill_from_the_repositorys_root(cluster: PracticeCluster, tmp_path: Path) -> None:
    """`papermill notebooks/… out.ipynb -p cluster CARD` works from the repository's root."""
    done = _papermill(CHECK.relative_to(ROOT), tmp_path / "out.ipynb", cluster.card, folder=ROOT)
    assert done.returncode == 0, done.stderr


def test_papermill_from_anywhere_with_absolute_paths(cluster: PracticeCluster, tmp_path: Path) -> None:
    """The same from a folder that has nothing to do with the repository, with absolute paths."""
    done = _papermill(CHECK, tmp_path / "out.ipynb", cluster.card, folder=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_failed_check_ends_papermill_with_the_report(cluster: PracticeCluster, tmp_path: Path) -> None:
    """papermill ends non-zero when a check fails, and the last lines that it prints are the report."""
    values = yaml.safe_load(cluster.card.read_text())
    nobody = cluster.restricted_kubeconfig("nobody")
    values["kubernetes"]["kubeconfig"] = str(nobody)
    card = tmp_path / "card.yaml"
    card.write_text(yaml.safe_dump(values))
    done = _papermill(CHECK, tmp_path / "out.ipynb", card, folder=tmp_path)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()
    begin = next(number for number, line in enumerate(last) if "checks failed" in line)
    assert any(line.strip().startswith("✘ fail") for line in last[begin:])
    assert not any(line.startswith("Traceback") for line in last[begin:])


def test_nothing_is_left_when_it_stops(tmp_path: Path) -> None:
    """A practice cluster that was running a pod is gone without a trace: no process, no mount, no folder."""
    cluster = PracticeCluster(tmp_path / "cluster").start()
    try:
        pids = [*cluster.control_plane.pids.values(), cluster.node.pid, cluster.runner.pid]
        cluster.kubectl("run", "sleeper", "--image=alpine:3.20", "--restart=Never", "--", "sleep", "600")
        cluster.kubectl("wait", "--for=condition=Ready", "pod/sleeper", "--timeout=30s")
        assert set(_processes_of(cluster.folder)) > set(pids)
    finally:
        cluster.stop()
    assert _processes_of(cluster.folder) == []
    assert str(cluster.folder) not in Path("/proc/mounts").read_text()
    assert not cluster.folder.exists()


def test_nothing_runs_on_when_it_is_killed(tmp_path: Path) -> None:
    """`kill -9` of the process that holds a practice cluster takes all of its programs along."""
    folder = tmp_path / "cluster"
    holder = subprocess.Popen(
        [sys.executable, "-m", "sandbox", "run", "--dir", str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert any("Ctrl-C" in line for line in holder.stdout)
    assert len(_processes_of(folder)) > 5
    holder.kill()
    holder.wait()
    deadline = time.monotonic() + 15
    while _processes_of(folder) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert _processes_of(folder) == []


def _papermill(notebook: Path, out: Path, card: Path, *, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PAPERMILL, str(notebook), str(out), "-p", "cluster", str(card), "--no-progress-bar"],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def _gitlab(cluster: PracticeCluster) -> gitlab.Gitlab:
    return gitlab.Gitlab(cluster.gitlab.url, private_token=cluster.gitlab.token("root"))


def _secrets(cluster: PracticeCluster) -> dict[str, str]:
    """Every secret of the practice card by its place, as it would look in plain text or in base64."""
    files = ("gitlab/root-token", "oss/access-key-id", "oss/access-key-secret", "runner/kubernetes-token")
    plain = {name: (cluster.folder / name).read_text().strip() for name in (*files, "runner/gitlab-runner-token")}
    user = yaml.safe_load(cluster.kubeconfig.read_text())["users"][0]["user"]
    plain["client key"] = user["client-key-data"]
    encoded = {f"{name} in base64": base64.b64encode(text.encode()).decode() for name, text in plain.items()}
    return plain | encoded


def _traces(cluster: PracticeCluster) -> dict[str, str]:
    project = _gitlab(cluster).projects.get("practice/smoke")
    jobs = project.jobs.list(get_all=True)
    assert jobs
    return {f"trace of job {job.id}": job.trace().decode() + json.dumps(job.attributes) for job in jobs}


def _processes_of(folder: Path) -> list[int]:
    """Processes that name the folder in their command line or have a mount from it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "cmdline").read_bytes() + (process / "mountinfo").read_bytes()
        except OSError:  # it ended meanwhile
            continue
        if str(folder).encode() in told:
            found.append(int(process.name))
    return sorted(found)
