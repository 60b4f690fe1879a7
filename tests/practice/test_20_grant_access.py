"""Notebook 20 against the practice cluster: its token controller fills the Secret, its RBAC proves the Role."""

from __future__ import annotations

import stat
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook.clients import connect, secrets
from runbook.clients.kubernetes import Cluster
from runbook.errors import KubernetesError, PlanError
from runbook.onboarding import access
from runbook.plan import Plan
from runbook.report import Report, Status, Unknown
from runbook.settings import Settings
from sandbox.practice import PracticeCluster

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def cluster(settings: Settings) -> Cluster:
    """The practice cluster as its administrator."""
    return connect.kubernetes(settings)


@pytest.fixture
def card(settings: Settings, cluster: Cluster, tmp_path: Path) -> Iterator[Settings]:
    """A card with a namespace and a token's place of this test's own; neither is there yet."""
    name = f"access-{uuid.uuid4().hex[:8]}"
    yield changed(settings, kubernetes={"namespace": name}, access={"token": f"file:{tmp_path}/runner/token"})
    cluster.delete("Namespace", name, dry_run=False)


def changed(card: Settings, **sections: dict[str, Any]) -> Settings:
    """The card with some fields of some sections replaced."""
    new = {name: getattr(card, name).model_copy(update=fields) for name, fields in sections.items()}
    return card.model_copy(update=new)


def run(cluster: Cluster, card: Settings, *, dry_run: bool = False) -> tuple[Plan, Report]:
    """The notebook's calls."""
    plan = access.plan(access.look(cluster, card), card)
    return plan, access.apply(plan, cluster, dry_run=dry_run)


def make_namespace(cluster: Cluster, card: Settings, **labels: str) -> None:
    metadata = {"name": card.kubernetes.namespace, "labels": labels}
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}, dry_run=False)


def as_runner(cluster: Cluster, card: Settings) -> Cluster:
    """The cluster as the stored token sees it."""
    return cluster.with_token(secrets.resolve(card.access.token, cluster))


def test_a_dry_run_without_namespace_fails_nothing_and_makes_nothing(cluster: Cluster, card: Settings) -> None:
    """What lies in a namespace to come cannot be rehearsed by the server; the report says so and stays green."""
    plan, report = run(cluster, card, dry_run=True)
    assert plan.summary == "6 to create" and report.ok
    assert "they need what this plan makes before them" in report.facts["not rehearsed by the server"]
    assert cluster.get("Namespace", card.kubernetes.namespace) is None
    assert not secrets.exists(card.access.token)


def test_a_dry_run_in_a_namespace_is_rehearsed_by_the_server(cluster: Cluster, card: Settings) -> None:
    """The server accepts every object but the binding, which needs the Role, and none is there afterwards."""
    make_namespace(cluster, card)
    _, report = run(cluster, card, dry_run=True)
    assert report.ok
    assert report.facts["not rehearsed by the server"].startswith("RoleBinding ")
    assert "Role " not in report.facts["not rehearsed by the server"].removeprefix("RoleBinding ")
    assert cluster.get("Role", card.access.service_account, card.kubernetes.namespace) is None
    assert not secrets.exists(card.access.token)


def test_applied_the_token_proves_the_role_and_applied_again_nothing_changes(cluster: Cluster, card: Settings) -> None:
    """The stored token may do all of the Role and nothing else; the second run keeps everything, the token too."""
    _, report = run(cluster, card)
    assert report.verdict.startswith("green;"), str(report)
    assert [report[id].status for id in ("token-owner", "role-allows", "role-denies")] == [Status.PASS] * 3
    token = secrets.resolve(card.access.token)
    plan, again = run(cluster, card)
    assert plan.summary == "nothing to change" and again.ok
    assert again["role-allows"].status is Status.PASS
    assert secrets.resolve(card.access.token) == token
    _, rehearsed = run(cluster, card, dry_run=True)
    assert rehearsed["role-denies"].status is Status.PASS


def test_the_runner_can_run_a_pod_and_cannot_look_elsewhere(cluster: Cluster, card: Settings) -> None:
    """Real calls with the token: a job's pod is made, listed and deleted; nodes and other namespaces are refused."""
    run(cluster, card)
    runner, namespace = as_runner(cluster, card), card.kubernetes.namespace
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "job", "namespace": namespace},
        "spec": {"containers": [{"name": "build", "image": "alpine:3.20"}]},
    }
    runner.create(pod, dry_run=False)
    assert [one["metadata"]["name"] for one in runner.list("Pod", namespace)] == ["job"]
    runner.delete("Pod", "job", namespace, dry_run=False, grace=0)
    for kind, where in (("Node", None), ("Secret", "kube-system"), ("Pod", "default")):
        with pytest.raises(KubernetesError) as error:
            runner.list(kind, where)
        assert error.value.status == 403


def test_the_role_of_a_version_gives_that_versions_rights_only(cluster: Cluster, card: Settings) -> None:
    """With runner 18.0 in the card events may be listed and ConfigMaps not made; with 15.7 the other way round."""
    namespace = card.kubernetes.namespace
    for version, events, configmaps in (("18.0", True, False), ("15.7", False, True)):
        _, report = run(cluster, changed(card, runner={"version": version}))
        assert report.ok, str(report)
        runner = as_runner(cluster, card)
        assert runner.allowed("list", "events", namespace=namespace) is events
        assert runner.allowed("create", "configmaps", namespace=namespace) is configmaps


def test_the_token_is_a_file_for_its_owner_only(cluster: Cluster, card: Settings) -> None:
    """The file has mode 0600, its new folder 0700."""
    run(cluster, card)
    path = Path(card.access.token.removeprefix("file:"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_token_may_live_in_a_secret(cluster: Cluster, card: Settings) -> None:
    """A place in the very namespace that is being made works, and is found again."""
    mine = changed(card, access={"token": f"secret:{card.kubernetes.namespace}/for-the-runner/token"})
    _, rehearsed = run(cluster, mine, dry_run=True)
    assert rehearsed.ok
    _, report = run(cluster, mine)
    assert report.verdict.startswith("green;"), str(report)
    assert access.plan(access.look(cluster, mine), mine).empty


def test_a_revoked_token_is_replaced(cluster: Cluster, card: Settings) -> None:
    """Deleting the Secret takes the token back; the next run says so and stores a new one."""
    run(cluster, card)
    old = secrets.resolve(card.access.token)
    cluster.delete("Secret", access.token_secret_name(card), card.kubernetes.namespace, dry_run=False)
    plan = access.plan(access.look(cluster, card), card)
    assert [change.kind for change in plan.pending] == ["Secret", "token"]
    assert "taken back" in plan.pending[-1].reason
    _, report = run(cluster, card)
    assert report.verdict.startswith("green;"), str(report)
    assert secrets.resolve(card.access.token) != old


def test_a_namespace_that_is_there_keeps_its_labels(cluster: Cluster, card: Settings) -> None:
    """Somebody's labels stay, and ours are not added."""
    make_namespace(cluster, card, team="a")
    _, report = run(cluster, card)
    assert report.ok
    namespace = cluster.get("Namespace", card.kubernetes.namespace)
    assert namespace is not None
    labels = namespace["metadata"]["labels"]
    assert labels.pop("kubernetes.io/metadata.name") == card.kubernetes.namespace
    assert labels == {"team": "a"}


def test_a_widened_account_is_found_out(practice: PracticeCluster, cluster: Cluster, card: Settings) -> None:
    """Where another binding gives the account more than its Role, the proof fails and names what it can do."""
    run(cluster, card)
    user = f"{card.kubernetes.namespace}:{card.access.service_account}"
    binding = card.kubernetes.namespace
    practice.kubectl("create", "clusterrolebinding", binding, "--clusterrole=cluster-admin", f"--serviceaccount={user}")
    try:
        _, report = run(cluster, card)
        assert report["role-denies"].status is Status.FAIL
        assert "list secrets in namespace kube-system" in report["role-denies"].observed
    finally:
        practice.kubectl("delete", "clusterrolebinding", binding)


def test_the_articles_kubeconfig_makes_no_account(cluster: Cluster, card: Settings) -> None:
    """With access.account: kubeconfig there is a namespace, no ServiceAccount of ours, no token, and a warning."""
    mine = changed(card, access={"account": "kubeconfig"})
    _, report = run(cluster, mine)
    assert report["runner-account"].status is Status.WARN
    assert "everything in this cluster" in report["runner-account"].observed
    assert cluster.get("ServiceAccount", mine.access.service_account, mine.kubernetes.namespace) is None
    assert not secrets.exists(mine.access.token)
    assert run(cluster, mine)[0].summary == "nothing to change"


def test_an_account_that_cannot_read_stops_before_anything(practice: PracticeCluster, card: Settings) -> None:
    """Objects that may not be read are unknown, not absent: the plan is blocked, with the reason."""
    nobody = changed(card, kubernetes={"kubeconfig": str(practice.restricted_kubeconfig("access-nobody"))})
    client = connect.kubernetes(nobody)
    facts = access.look(client, nobody)
    assert isinstance(facts.role, Unknown)
    with pytest.raises(PlanError, match="may not get"):
        access.apply(access.plan(facts, nobody), client, dry_run=False)


def test_papermill_dry_run_apply_apply(practice: PracticeCluster, card: Settings, tmp_path: Path) -> None:
    """The notebook itself: rehearsed, applied, nothing to change; and no executed notebook holds the token."""
    values = yaml.safe_load(practice.card.read_text())
    values["kubernetes"]["namespace"] = card.kubernetes.namespace
    values["access"]["token"] = card.access.token
    path = tmp_path / "card.yaml"
    path.write_text(yaml.safe_dump(values))
    notebook = ROOT / "notebooks" / "onboarding" / "20-grant-access.ipynb"
    said = []
    for number, dry_run in enumerate((True, False, False)):
        out = tmp_path / f"{number}.ipynb"
        command = [sys.executable, "-m", "papermill", str(notebook), str(out)]
        command += ["-p", "cluster", str(path), "-p", "dry_run", str(dry_run)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        said.append(out.read_text() + done.stdout + done.stderr)
    assert "dry_run = False to apply" in said[0]
    assert "Runner access: nothing to change" in said[2]
    token = secrets.resolve(card.access.token)
    assert not any(token in text for text in said)
