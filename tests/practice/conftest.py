"""One practice cluster for all tests of this folder, and its cluster card."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runbook.settings import ROOT, Settings
from sandbox.practice import PracticeCluster


@pytest.fixture(scope="session")
def practice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PracticeCluster]:
    """A running practice cluster in a folder of its own."""
    with PracticeCluster(tmp_path_factory.mktemp("practice") / "cluster") as cluster:
        yield cluster


@pytest.fixture
def settings(practice: PracticeCluster) -> Settings:
    """The card of the practice cluster, read for applying."""
    return Settings.load(practice.card, dry_run=False)


@dataclass(frozen=True)
class Executed:
    """A notebook that papermill has run: its exit code, and all that it left (executed notebook, stdout, stderr)."""

    exit_code: int
    text: str
    last_lines: str
    """The end of what papermill wrote: of a run that failed, the report."""


@pytest.fixture
def run_notebook(tmp_path: Path) -> Callable[..., Executed]:
    """Runs `onboarding/30-…` by papermill in a process of its own, from a folder that is not the repository's."""

    def run(name: str, **parameters: object) -> Executed:
        out = tmp_path / "executed.ipynb"
        command = [sys.executable, "-m", "papermill", str(ROOT / "notebooks" / f"{name}.ipynb"), str(out)]
        for parameter, value in parameters.items():
            command += ["-p", parameter, str(value)]
        done = subprocess.run(
            [*command, "--no-progress-bar"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=180
        )
        text = out.read_text() + done.stdout + done.stderr
        return Executed(done.returncode, text, "\n".join(done.stderr.splitlines()[-40:]))

    return run
