"""Where the programs of the practice cluster come from. What is built is built by `make test` before these run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.toolchain import PROGRAMS, programs

ROOT = Path(__file__).resolve().parents[2]


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python code in a process of its own, with another environment."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_is_built_is_found_again() -> None:
    """A second look at the cache builds nothing and says nothing."""
    said: list[str] = []
    found = programs(say=said.append)
    assert set(found) == {program.name for program in PROGRAMS}
    assert said == []
    assert all(os.access(path, os.X_OK) for path in found.values())


def test_the_api_server_reports_itself_as_alibabas() -> None:
    """kube-apiserver bears the version that ACK's servers bear, which notebook 10 recognises."""
    server = programs(("kube-apiserver",))["kube-apiserver"]
    told = subprocess.run([server, "--version"], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "Kubernetes v1.36.3-aliyun.1"


def test_kubebuilder_assets_are_used_as_they_are(tmp_path: Path) -> None:
    """What KUBEBUILDER_ASSETS holds is taken from there, and only what it lacks comes from the cache."""
    shutil.copy(programs(("etcd",))["etcd"], tmp_path / "etcd")
    code = "from sandbox.toolchain import programs; [print(path) for path in programs(('etcd', 'kube-apiserver')).values()]"
    etcd, apiserver = run(code, KUBEBUILDER_ASSETS=str(tmp_path)).stdout.split()
    assert Path(etcd) == tmp_path / "etcd"
    assert Path(apiserver).parent != tmp_path


def test_a_missing_system_package_is_named(tmp_path: Path) -> None:
    """Without bubblewrap the answer is the command that installs it, not a stack of frames."""
    for tool in ("git", "nsenter"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or "/missing")
    done = subprocess.run(
        [sys.executable, "-m", "sandbox", "build"],
        cwd=ROOT,
        env={"PATH": str(tmp_path), "HOME": str(Path.home())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "System programs are missing: bwrap." in done.stderr
    assert "apt-get install bubblewrap" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("target", ["demo", "test", "lab", "lint", "sandbox"])
def test_make_explains_itself(target: str) -> None:
    """`make help`, and `make` alone, name every target with what it does."""
    told = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (line,) = [line for line in told.splitlines() if line.split()[:2] == ["make", target]]
    assert len(line.split()) > 4
