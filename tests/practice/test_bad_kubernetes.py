"""What a bad kubeconfig and a bad API server get, one test a case: a clear page, and nothing changed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from runbook.clients import connect, secrets
from runbook.errors import KubernetesError
from runbook.onboarding import access, cache_volume, connection
from runbook.plan import Plan
from runbook.settings import Settings
from sandbox.practice import PracticeCluster

ROOT = Path(__file__).resolve().parents[2]


def with_kubernetes(settings: Settings, **kubernetes: Any) -> Settings:
    return settings.model_copy(update={"kubernetes": settings.kubernetes.model_copy(update=kubernetes)})


def changed_kubeconfig(practice: PracticeCluster, path: Path, **cluster: str) -> str:
    """A copy of the administrator's kubeconfig with some fields of its cluster replaced."""
    config = yaml.safe_load(practice.kubeconfig.read_text())
    config["clusters"][0]["cluster"] |= cluster
    path.write_text(yaml.safe_dump(config))
    return str(path)


def page(settings: Settings) -> str:
    """What notebook 10 says when it cannot even look, without a key in it."""
    with pytest.raises(KubernetesError) as error:
        connection.look(connect.kubernetes(settings), settings)
    text = str(error.value)
    assert "notebooks/troubleshooting.md#" in text
    assert "PRIVATE KEY" not in text
    return text


def test_kubeconfig_missing(settings: Settings, tmp_path: Path) -> None:
    """The card's field, the path and the way to get a kubeconfig."""
    text = page(with_kubernetes(settings, kubeconfig=str(tmp_path / "none")))
    assert "There is no kubeconfig." in text
    assert "kubernetes.kubeconfig" in text and str(tmp_path / "none") in text


def test_kubeconfig_missing_ends_papermill_non_zero(practice: PracticeCluster, tmp_path: Path) -> None:
    """A scheduler sees a failed run, and the last lines are the page."""
    values = yaml.safe_load(practice.card.read_text())
    values["kubernetes"]["kubeconfig"] = str(tmp_path / "none")
    card = tmp_path / "card.yaml"
    card.write_text(yaml.safe_dump(values))
    notebook = ROOT / "notebooks" / "onboarding" / "10-check-connection.ipynb"
    command = [
        sys.executable,
        "-m",
        "papermill",
        str(notebook),
        str(tmp_path / "out.ipynb"),
        "-p",
        "cluster",
        str(card),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode != 0
    last = "\n".join(done.stderr.strip().splitlines()[-6:])
    assert "KubernetesError: There is no kubeconfig." in last
    assert "read:" in last


def test_kubeconfig_without_the_context(settings: Settings) -> None:
    """The contexts that are there are listed."""
    text = page(with_kubernetes(settings, context="production"))
    assert "'production'" in text and "admin@practice" in text


def test_kubeconfig_expired(practice: PracticeCluster, settings: Settings) -> None:
    """The server only says 401; the page says that the certificate ended, and when."""
    text = page(with_kubernetes(settings, kubeconfig=str(practice.expired_kubeconfig("bygone"))))
    assert "expired on 2021-11-01" in text


def test_kubeconfig_of_another_cluster(practice: PracticeCluster, settings: Settings, tmp_path: Path) -> None:
    """A kubeconfig with another CA is told so before anything is sent."""
    other = tmp_path / "other-ca.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    config = yaml.safe_load(practice.kubeconfig.read_text())
    config["clusters"][0]["cluster"].pop("certificate-authority-data")
    config["clusters"][0]["cluster"]["certificate-authority"] = str(other)
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    assert "wrong CA" in page(with_kubernetes(settings, kubeconfig=str(path)))


def test_api_server_down(practice: PracticeCluster, settings: Settings, tmp_path: Path) -> None:
    """A port at which nothing listens is called that, at once."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = f"https://127.0.0.1:{taken.getsockname()[1]}"
    text = page(with_kubernetes(settings, kubeconfig=changed_kubeconfig(practice, tmp_path / "k", server=server)))
    assert "refuses connections" in text and server in text


def test_api_server_slow(practice: PracticeCluster, settings: Settings) -> None:
    """A server that does not answer within the card's time (here: it is stopped) is not waited for any longer."""
    server = practice.control_plane.pids["kube-apiserver"]
    os.kill(server, signal.SIGSTOP)
    try:
        text = page(with_kubernetes(settings, request_timeout=0.5))
    finally:
        os.kill(server, signal.SIGCONT)
    assert "within 0.5 s" in text and "kubernetes.request_timeout" in text


def test_401_token_of_nobody(practice: PracticeCluster, settings: Settings, tmp_path: Path) -> None:
    """A token that the cluster does not know is not shown, and its kubeconfig is named."""
    config = yaml.safe_load(practice.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": "planted-unknown-token"}
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    mine = with_kubernetes(settings, kubeconfig=str(path))
    with pytest.raises(KubernetesError, match="does not know this account") as error:
        connect.kubernetes(mine).list("Pod")
    assert str(path) in str(error.value) and "planted" not in str(error.value)


ALL_BUT_ROLES = [
    {"apiGroups": [""], "resources": ["*"], "verbs": ["*"]},
    {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["rolebindings"], "verbs": ["*"]},
    {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["get", "patch"]},
]


@pytest.mark.parametrize("namespace_is_there", [False, True])
def test_403_on_one_verb(
    practice: PracticeCluster, settings: Settings, tmp_path: Path, namespace_is_there: bool
) -> None:
    """One missing verb stops notebook 20 before its first change, with the one rule that is missing."""
    name = f"lacks-{uuid.uuid4().hex[:8]}"
    mine = with_kubernetes(
        settings, kubeconfig=str(practice.restricted_kubeconfig(name, ALL_BUT_ROLES)), namespace=name
    )
    mine = mine.model_copy(update={"access": mine.access.model_copy(update={"token": f"file:{tmp_path}/token"})})
    if namespace_is_there:
        practice.kubectl("create", "namespace", name)
    client = connect.kubernetes(mine)
    plan = access.plan(access.look(client, mine), mine)
    with pytest.raises(KubernetesError) as error:
        access.apply(plan, client, dry_run=False)
    assert error.value.status == 403
    _, _, rule = str(error.value.remedy).partition("\n")
    role = next(iter(yaml.safe_load_all(rule)))
    assert role["rules"] == [{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["create"]}]
    admin = connect.kubernetes(settings)
    assert (admin.get("Namespace", name) is not None) is namespace_is_there
    assert admin.get("ServiceAccount", mine.access.service_account, name) is None
    assert not secrets.exists(mine.access.token)


def test_namespace_missing_is_waited_for_in_a_dry_run(settings: Settings) -> None:
    """A rehearsal of notebook 30 before notebook 20 says what it waits for, and is no failure."""
    mine = with_kubernetes(settings, namespace=f"absent-{uuid.uuid4().hex[:8]}").model_copy(update={"dry_run": True})
    client = connect.kubernetes(mine)
    plan: Plan = cache_volume.plan(cache_volume.look(client, mine), mine)
    assert "notebook 20" in plan.waiting_for
    assert cache_volume.apply(plan, client, mine, dry_run=True).ok


def test_namespace_missing_for_an_object(settings: Settings) -> None:
    """Writing into a namespace that is not there names what is missing and which notebook makes it."""
    client = connect.kubernetes(settings)
    manifest = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "x", "namespace": "absent-namespace"},
    }
    with pytest.raises(KubernetesError, match="does not exist") as error:
        client.apply(manifest, dry_run=False)
    assert error.value.status == 404
    assert 'namespaces "absent-namespace" not found' in str(error.value)
