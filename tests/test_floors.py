"""The house has floors: rooms import from below, and what decides and calculates loads no client and no chart."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from runbook.settings import ROOT

HEAVY = ("kubernetes", "gitlab", "requests", "urllib3", "pandas", "matplotlib", "papermill", "IPython", "starlette")
"""What takes long to load, or opens connections: packages that a pure room must not bring along."""


def loaded_by(statement: str) -> list[str]:
    """The top-level packages that a fresh interpreter has loaded after one import statement."""
    code = (
        f"import sys, json\n{statement}\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return list(json.loads(done.stdout))


@pytest.mark.parametrize(
    "statement",
    [
        "import runbook",
        "import runbook.eci",
        "from runbook.eci import charges, prices, specs, vocabulary",
        "from runbook.runner import config_toml, pods",
        "from runbook import errors, moments, plan, quantities, report",
        "from runbook import settings",
    ],
)
def test_pure_rooms_load_no_client_and_no_chart(statement: str) -> None:
    """A fresh interpreter that imports a pure room has loaded no client of an API, no data frame and no chart."""
    assert not set(HEAVY) & set(loaded_by(statement))


@pytest.mark.parametrize(
    "statement",
    [
        "from runbook.clients import connect",
        "import runbook.cli",
        "from runbook.onboarding import smoke_job",
    ],
)
def test_doors_open_at_once(statement: str) -> None:
    """What every notebook and every command imports first loads neither client nor chart: they come when they are used."""
    assert not {"kubernetes", "gitlab", "pandas", "matplotlib"} & set(loaded_by(statement))


def test_arrows_run_down() -> None:
    """The contracts of [tool.importlinter] in pyproject.toml are kept by every import in runbook/."""
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_in_the_package_imports_the_practice_cluster() -> None:
    """sandbox/ stands for what is outside: the package that people install does not know it."""
    for module in (ROOT / "runbook").rglob("*.py"):
        lines = module.read_text(encoding="utf-8").splitlines()
        assert not [line for line in lines if line.lstrip().startswith(("import sandbox", "from sandbox"))], module
