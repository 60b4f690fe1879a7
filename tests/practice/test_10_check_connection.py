"""Notebook 10 against the practice cluster: what it finds, and that the rules it prints can be applied as they are."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook.clients import connect
from runbook.onboarding import access, cache_volume, connection
from runbook.onboarding.connection import Product
from runbook.report import Report, Status
from runbook.settings import Settings
from sandbox.practice import PracticeCluster

NOTEBOOK = Path("notebooks/onboarding/10-check-connection.ipynb")
ROOT = Path(__file__).resolve().parents[2]


def check(settings: Settings) -> tuple[connection.Facts, Report]:
    """The notebook's two calls."""
    facts = connection.look(connect.kubernetes(settings), settings)
    return facts, connection.judge(facts, settings)


def with_kubernetes(settings: Settings, **kubernetes: Any) -> Settings:
    return settings.model_copy(update={"kubernetes": settings.kubernetes.model_copy(update=kubernetes)})


def test_the_practice_cluster_is_green(settings: Settings) -> None:
    """As administrator nothing fails, and the cluster is taken for ACK Serverless with Ready virtual nodes."""
    facts, report = check(settings)
    assert report.ok, str(report)
    assert facts.product is Product.ACK_SERVERLESS
    assert report["virtual-nodes"].status is Status.PASS
    assert "v1.36.3-aliyun.1" in report["server-version"].observed


def test_the_endpoint_and_its_certificate_are_seen(practice: PracticeCluster, settings: Settings) -> None:
    """The facts name the server that the kubeconfig names, and when its certificate and the account's end."""
    facts, _ = check(settings)
    config = yaml.safe_load(practice.kubeconfig.read_text())
    assert facts.server == config["clusters"][0]["cluster"]["server"]
    assert facts.server_certificate.verified and facts.server_certificate.not_after
    assert facts.client_certificate


def test_a_kubeconfigs_other_context_is_taken(practice: PracticeCluster, settings: Settings, tmp_path: Path) -> None:
    """The card's context wins over the file's current-context."""
    config = yaml.safe_load(practice.kubeconfig.read_text())
    nobody = yaml.safe_load(practice.restricted_kubeconfig("context-nobody").read_text())
    for section in ("users", "contexts"):
        config[section] += nobody[section]
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    mine = with_kubernetes(settings, kubeconfig=str(path), context=nobody["contexts"][0]["name"])
    facts, _ = check(mine)
    assert (facts.context, facts.user) == (nobody["contexts"][0]["name"], "context-nobody")


def test_the_printed_rules_are_all_that_the_next_notebooks_need(
    practice: PracticeCluster, settings: Settings, tmp_path: Path
) -> None:
    """An account without rights fails; with the printed YAML applied as it stands, notebooks 10, 20 and 30 succeed."""
    name = "newcomer"
    practice.kubectl("create", "namespace", name)
    mine = with_kubernetes(settings, kubeconfig=str(practice.restricted_kubeconfig(name)), namespace=name)
    _, before = check(mine)
    refused = before["account-permissions"]
    assert refused.status is Status.FAIL
    assert "20-grant-access: " in refused.observed
    assert before["cluster-kind"].status is Status.SKIP
    assert "may not list nodes" in before["cluster-kind"].observed
    practice.kubectl("apply", "-f", "-", stdin=refused.remedy)
    _, after = check(mine)
    assert after["account-permissions"].status is Status.PASS
    assert after.ok, str(after)
    mine = mine.model_copy(
        update={
            "access": mine.access.model_copy(update={"token": f"file:{tmp_path}/token"}),
            "cache": mine.cache.model_copy(update={"volume": name}),
        }
    )
    client = connect.kubernetes(mine)
    granted = access.apply(access.plan(access.look(client, mine), mine), client, dry_run=False)
    assert granted.ok, str(granted)
    volume = cache_volume.plan(cache_volume.look(client, mine), mine)
    made = cache_volume.apply(volume, client, mine, dry_run=False)
    assert made.ok, str(made)


def test_an_address_for_the_runner_that_the_certificate_lacks_fails(settings: Settings) -> None:
    """The runner's own address is tried with the kubeconfig's CA."""
    port = connect.kubernetes(settings).server.rpartition(":")[2]
    other = settings.model_copy(
        update={"access": settings.access.model_copy(update={"host": f"https://127.0.0.2:{port}"})}
    )
    _, report = check(other)
    assert report["runner-endpoint"].status in (Status.FAIL, Status.SKIP)
    assert "127.0.0.2" in report["runner-endpoint"].observed
    named = settings.model_copy(
        update={"access": settings.access.model_copy(update={"host": f"https://localhost:{port}"})}
    )
    _, report = check(named)
    assert report["runner-endpoint"].status is Status.PASS


IN_A_POD = """
import sys
from runbook.clients import connect
from runbook.settings import Settings
client = connect.kubernetes(Settings.load(sys.argv[1]))
print(client, client.whoami())
"""


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap plays the pod's file system")
def test_in_a_pod_the_serviceaccount_is_the_account(
    practice: PracticeCluster, settings: Settings, tmp_path: Path
) -> None:
    """in_cluster takes address, CA and token from where Kubernetes puts them into a pod."""
    practice.kubectl("create", "namespace", "in-a-pod")
    practice.kubectl("create", "serviceaccount", "notebooks", "--namespace=in-a-pod")
    mounted = tmp_path / "serviceaccount"
    mounted.mkdir()
    token = practice.kubectl("create", "token", "notebooks", "--namespace=in-a-pod")
    (mounted / "token").write_text(token.strip())
    admin = connect.kubernetes(settings)
    (mounted / "ca.crt").write_text(admin.certificate_authority or "")
    values = yaml.safe_load(practice.card.read_text())
    values["kubernetes"] = {"in_cluster": True}
    card = tmp_path / "card.yaml"
    card.write_text(yaml.safe_dump(values))
    host, _, port = admin.server.removeprefix("https://").partition(":")
    place = "/run/secrets/kubernetes.io/serviceaccount"
    command = ["bwrap", "--dev-bind", "/", "/", "--tmpfs", "/run", "--ro-bind", str(mounted), place]
    command += ["--setenv", "KUBERNETES_SERVICE_HOST", host, "--setenv", "KUBERNETES_SERVICE_PORT", port]
    command += [sys.executable, "-c", IN_A_POD, str(card)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"Cluster({admin.server}, in-cluster) system:serviceaccount:in-a-pod:notebooks"


@pytest.mark.parametrize("folder", [ROOT, ROOT / "notebooks" / "onboarding"])
def test_papermill_runs_it_from_the_root_and_from_its_folder(
    practice: PracticeCluster, tmp_path: Path, folder: Path
) -> None:
    """With an absolute card it is green from either folder, and the executed notebook holds the report and no key."""
    out = tmp_path / "out.ipynb"
    command = [sys.executable, "-m", "papermill", str(ROOT / NOTEBOOK), str(out), "-p", "cluster", str(practice.card)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    text = json.dumps(json.loads(out.read_text()))
    assert "Connection: green" in text
    key = yaml.safe_load(practice.kubeconfig.read_text())["users"][0]["user"]["client-key-data"]
    assert key not in text
