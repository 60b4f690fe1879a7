"""`runbook import pods` as a stranger uses it: a file, a card, a store on disk; and the route that the documentation shows."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from runbook import cli
from runbook.errors import SettingsError
from runbook.history import imports
from runbook.history.from_files import FIELDS
from runbook.history.store import open_store
from runbook.settings import ROOT, Settings

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """The practice card with a history in a folder of its own."""
    values = yaml.safe_load((ROOT / "data" / "clusters" / "practice.yaml").read_text())
    path = tmp_path / "card.yaml"
    path.write_text(yaml.safe_dump(values | {"history": {"url": str(tmp_path / "history")}}))
    return path


def runbook(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """What a process of its own answers."""
    command = [sys.executable, "-m", "runbook.cli", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=60, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )


def pod(uid: str) -> dict[str, object]:
    """A pod as kubectl prints it."""
    meta = {"name": uid, "namespace": "ci", "uid": uid, "creationTimestamp": "2026-11-24T09:30:02Z"}
    return {
        "kind": "Pod",
        "metadata": meta,
        "spec": {"containers": [{"name": "build"}]},
        "status": {"phase": "Running"},
    }


def test_a_dump_is_imported_once(card: Path, tmp_path: Path) -> None:
    """The first import writes the records, the second finds them, and --dry-run writes nothing."""
    (tmp_path / "pods.json").write_text(json.dumps({"kind": "List", "items": [pod("u1"), pod("u2")]}))
    outcomes = []
    for more in (["--dry-run"], [], []):
        done = runbook("import", "pods", "pods.json", "--cluster", card, *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        outcomes.append(done.stdout.splitlines()[0].rpartition("; ")[2])
    assert outcomes == ["2 records would be written", "2 records written", "nothing to write"]
    assert sorted(open_store(Settings.load(card)).table(["pod_uid"])["pod_uid"].to_pylist()) == ["u1", "u2"]


def test_the_documented_route_imports_the_real_pods(card: Path, traces: Path) -> None:
    """The command of data/history/IMPORTING.md brings all 8,152 pods of the real trace into the history."""
    page = (ROOT / "data" / "history" / "IMPORTING.md").read_text()
    (found,) = re.findall(r"^    runbook (import pods \S+\.csv (?:.*\\\n)*.*)$", page, flags=re.MULTILINE)
    command = shlex.split(found.replace("\\\n", " ").replace("data/clusters/practice.yaml", str(card)))
    done = runbook(*command, cwd=traces / "pods")
    assert done.returncode == 0, done.stderr
    assert "8152 records written" in done.stdout and "line 1525 (openb-pod-1523)" in done.stdout
    assert open_store(Settings.load(card)).state().pods == 8152


def test_a_file_without_a_pod_ends_non_zero(card: Path, tmp_path: Path) -> None:
    """A report that fails is exit status 1; a file that is not there, or columns that are not, are status 2 and a page."""
    (tmp_path / "none.json").write_text('{"kind": "List", "items": []}')
    (tmp_path / "trace.csv").write_text("a,b\n1,2\n")
    for name, status in (("none.json", 1), ("missing.json", 2), ("trace.csv", 2)):
        assert runbook("import", "pods", name, "--cluster", card, cwd=tmp_path).returncode == status


def test_help_names_every_field() -> None:
    """`runbook import pods --help` lists the fields that a trace's column may be."""
    assert cli.TRACE_FIELDS.split(", ") == list(FIELDS)


@pytest.mark.parametrize(
    ("text", "hours"), [("7d", 168), ("12h", 12), ("2026-11-24T08:30:00Z", 1), ("2026-11-24T16:30:00+08:00", 1)]
)
def test_a_moment_is_a_span_before_now_or_rfc_3339(text: str, hours: int) -> None:
    """`--since` takes days, hours, or a moment of any zone."""
    assert (NOW - imports.moment(text, NOW, where="--since")).total_seconds() == hours * 3600


def test_no_moment_is_a_page() -> None:
    """What is no moment says what one looks like."""
    with pytest.raises(SettingsError, match="no moment"):
        imports.moment("yesterday", NOW, where="--since")
