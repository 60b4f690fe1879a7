"""Notebook 50 against the practice cluster: a rehearsal, the real thing, nothing left to change; and the notebook itself."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from runbook.clients import connect
from runbook.onboarding import access, configuration, registration
from runbook.onboarding.configuration import Facts
from runbook.plan import Plan
from runbook.report import Report
from runbook.runner.version import Version
from runbook.settings import ROOT, Settings
from sandbox.practice import PracticeCluster

NOTEBOOK = ROOT / "notebooks" / "onboarding" / "50-configure-runner.ipynb"
THEIRS = 'concurrent = 4\n\n[[runners]]\n  name = "docker"\n  url = "{url}"\n  token = "T0ken-theirs"\n  executor = "docker"\n'


@pytest.fixture(scope="module")
def card(practice: PracticeCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A card of its own on the practice cluster: own mark, namespace, tokens and config.toml."""
    folder = tmp_path_factory.mktemp("configure")
    values: dict[str, Any] = yaml.safe_load(practice.card.read_text())
    values |= {
        "name": "test-50",
        "kubernetes": values["kubernetes"] | {"namespace": "test-50"},
        "access": {"token": f"file:{folder / 'kubernetes-token'}"},
        "runner": {"description": "eci-50", "token": f"file:{folder / 'runner-token'}"},
        "config": {"place": "host", "path": str(folder / "config.toml")},
    }
    path = folder / "card.yaml"
    path.write_text(yaml.safe_dump(values))
    (folder / "config.toml").write_text(THEIRS.format(url=practice.gitlab.url))
    (folder / "config.toml").chmod(0o600)
    return path


def run(card: Path, *, dry_run: bool) -> tuple[Facts, Plan, Report]:
    """The notebook's calls."""
    settings = Settings.load(card, dry_run=dry_run)
    gitlab = connect.gitlab(settings)
    facts = configuration.look(connect.kubernetes(settings), gitlab, settings)
    plan = configuration.plan(facts, settings)
    return facts, plan, configuration.apply(plan, gitlab, dry_run=dry_run)


def earlier_notebooks(card: Path) -> None:
    """What notebooks 20 and 40 do."""
    settings = Settings.load(card, dry_run=False)
    cluster, gitlab = connect.kubernetes(settings), connect.gitlab(settings)
    access.apply(access.plan(access.look(cluster, settings), settings), cluster, dry_run=False).raise_for_failures()
    plan = registration.plan(registration.look(gitlab, settings), settings)
    registration.apply(plan, gitlab, settings, dry_run=False).raise_for_failures()


def test_from_rehearsal_to_nothing_to_change(card: Path, practice: PracticeCluster) -> None:
    """Before 20 and 40 it waits for them; then it writes the section and unpauses the runner; then there is nothing to change."""
    file = card.parent / "config.toml"
    before = file.read_bytes()
    _, waiting, report = run(card, dry_run=True)
    assert report.ok
    assert "notebook 20" in waiting.waiting_for
    assert "notebook 40" in waiting.waiting_for
    earlier_notebooks(card)

    _, plan, report = run(card, dry_run=True)
    assert report.ok
    assert "3.25 vCPU / 7.5 GiB → 4 vCPU / 8 GiB" in plan.notes["job with one service"]
    assert file.read_bytes() == before

    _, plan, report = run(card, dry_run=False)
    assert report.raise_for_failures().ok
    values = tomllib.loads(file.read_text())
    section = values["runners"][1]
    assert (
        file.read_bytes()
        == before.replace(b"concurrent = 4", b"concurrent = 10") + file.read_bytes()[len(before) + 1 :]
    )
    assert section["kubernetes"]["host"] == connect.kubernetes(Settings.load(card)).server
    assert Path(section["kubernetes"]["ca_file"]).read_text().startswith("-----BEGIN CERTIFICATE-----")
    assert section["token"] == (card.parent / "runner-token").read_text().strip()

    runner = registration.find(connect.gitlab(Settings.load(card)), Settings.load(card))
    assert "id" not in section, "no version is known, so the oldest is assumed, and 13.6 does not know this key"
    assert (runner.paused, runner.tags, runner.run_untagged) == (False, ("eci-smoke",), False)

    _, again, report = run(card, dry_run=False)
    assert again.empty
    assert report["applied"].observed == "nothing to change"


def test_the_written_account_opens_the_cluster(card: Path, practice: PracticeCluster) -> None:
    """With the host, CA and token that stand in the file, and nothing else, pods may be made in the namespace, and nodes not be listed."""
    run(card, dry_run=False)
    kubernetes = tomllib.loads((card.parent / "config.toml").read_text())["runners"][1]["kubernetes"]
    account = card.parent / "account.yaml"
    account.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [
                    {
                        "name": "c",
                        "cluster": {"server": kubernetes["host"], "certificate-authority": kubernetes["ca_file"]},
                    }
                ],
                "users": [{"name": "u", "user": {"token": kubernetes["bearer_token"]}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    values = yaml.safe_load(card.read_text())
    settings = Settings.parse(values | {"kubernetes": {"kubeconfig": str(account)}}, where="the runner's own account")
    cluster = connect.kubernetes(settings)
    assert cluster.allowed("create", "pods", namespace=kubernetes["namespace"]) is True
    assert cluster.allowed("list", "nodes") is False


def test_the_version_is_that_of_the_process_that_polls(card: Path, practice: PracticeCluster) -> None:
    """Without a version in the card the oldest one is assumed, and named; once a process has called GitLab, its version counts."""
    facts, plan, _ = run(card, dry_run=True)
    assert facts.version == Version(13, 6)
    assert "assumed" in plan.notes["keys"]
    httpx.post(
        f"{practice.gitlab.url}/api/v4/runners/verify",
        json={
            "token": (card.parent / "runner-token").read_text().strip(),
            "system_id": "s_0123456789ab",
            "info": {"name": "gitlab-runner", "version": "17.9.2", "executor": "kubernetes"},
        },
    ).raise_for_status()
    facts, plan, _ = run(card, dry_run=False)
    assert facts.version == Version(17, 9, 2)
    assert "managers" in plan.notes["keys"]
    assert plan.empty, "a section that was written for the oldest version serves every newer one"


def papermill(card: Path, out: Path, *parameters: str) -> subprocess.CompletedProcess[str]:
    """Run the notebook as a scheduler does."""
    command = [sys.executable, "-m", "papermill", str(NOTEBOOK), str(out), "--no-progress-bar"]
    return subprocess.run(
        [*command, "-p", "cluster", str(card), *parameters], capture_output=True, text=True, timeout=120, check=False
    )


def test_the_notebook(card: Path, tmp_path: Path) -> None:
    """papermill runs the notebook against the practice cluster; what it leaves shows the price and no token."""
    out = tmp_path / "out.ipynb"
    done = papermill(card, out)
    assert done.returncode == 0, done.stderr
    executed = out.read_text() + done.stdout + done.stderr
    assert "4 vCPU / 8 GiB" in executed
    for name in ("kubernetes-token", "runner-token"):
        assert (card.parent / name).read_text().strip() not in executed
    assert "T0ken-theirs" not in executed
    assert [cell["id"] for cell in json.loads(out.read_text())["cells"]][-1] == "raise"


MARKED = '[[runners]]\n  name = "{}"\n  [runners.kubernetes.pod_annotations]\n    ci-cluster-card = "test-50"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("concurrent = 1\ntoken = glrt-T0ken-0123456789\n", ["The file is not TOML", "config.toml, line 2"]),
        (MARKED.format("a") + MARKED.format("b"), ["b at line 5", "1 of 2 checks failed"]),
    ],
)
def test_a_failure_is_seen_by_a_scheduler(card: Path, tmp_path: Path, text: str, words: list[str]) -> None:
    """A file that must not be edited stays, papermill ends non-zero, and its last lines say why, without any token."""
    file = tmp_path / "config.toml"
    file.write_text(text)
    values = yaml.safe_load(card.read_text()) | {"config": {"place": "host", "path": str(file)}}
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(values))
    done = papermill(tmp_path / "card.yaml", tmp_path / "out.ipynb", "-p", "dry_run", "False")
    assert done.returncode != 0
    last = "\n".join(done.stderr.splitlines()[-20:])
    assert all(word in last for word in words), last
    assert "T0ken" not in done.stderr + (tmp_path / "out.ipynb").read_text()
    assert [entry.name for entry in tmp_path.glob("config.toml*")] == ["config.toml"]
    assert file.read_text() == text
