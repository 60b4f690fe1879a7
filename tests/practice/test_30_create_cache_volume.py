"""Notebook 30 against the practice cluster's own API server and volume controller."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook.clients import connect
from runbook.clients.kubernetes import Cluster
from runbook.moments import wait_for
from runbook.onboarding import cache_volume
from runbook.plan import Plan
from runbook.report import Report, Status
from runbook.settings import Settings
from sandbox.practice import PracticeCluster


@pytest.fixture
def cluster(settings: Settings) -> Cluster:
    """The practice cluster as its administrator."""
    return connect.kubernetes(settings)


@pytest.fixture
def card(settings: Settings, cluster: Cluster) -> Iterator[Settings]:
    """A card whose namespace, volume and claim are this test's own; the namespace exists."""
    name = f"cache-{uuid.uuid4().hex[:8]}"
    mine = settings.model_copy(
        update={
            "kubernetes": settings.kubernetes.model_copy(update={"namespace": name}),
            "cache": settings.cache.model_copy(update={"volume": name}),
        }
    )
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, dry_run=False)
    yield mine
    cluster.delete("PersistentVolume", name, dry_run=False)
    cluster.delete("Namespace", name, dry_run=False)


def with_cache(card: Settings, **cache: Any) -> Settings:
    return card.model_copy(update={"cache": card.cache.model_copy(update=cache)})


def run(cluster: Cluster, card: Settings, *, dry_run: bool = False, timeout: float = 20) -> tuple[Plan, Report]:
    """The notebook's three calls."""
    card = card.model_copy(update={"dry_run": dry_run})
    plan = cache_volume.plan(cache_volume.look(cluster, card), card)
    return plan, cache_volume.apply(plan, cluster, card, dry_run=dry_run, timeout=timeout)


def test_a_dry_run_is_rehearsed_and_keeps_nothing(cluster: Cluster, card: Settings) -> None:
    """The server accepts all three objects, and none of them is there afterwards."""
    plan, report = run(cluster, card, dry_run=True)
    assert plan.summary == "3 to create" and report.ok
    assert report["applied"].status is Status.SKIP
    assert cluster.get("PersistentVolume", card.cache.volume) is None
    assert cluster.list("PersistentVolumeClaim", card.kubernetes.namespace) == []


def test_applied_it_is_bound_and_applied_again_there_is_nothing_to_change(
    cluster: Cluster, card: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """The claim is followed until the controller has bound it; a second run finds everything as it should be."""
    _, report = run(cluster, card)
    assert report.ok and report["cache-claim"].status is Status.PASS
    assert "is Bound" in capsys.readouterr().out
    plan, again = run(cluster, card)
    assert plan.summary == "nothing to change" and again["applied"].observed == "nothing to change"


def test_the_secret_holds_what_the_references_name_and_no_face_shows_it(
    practice: PracticeCluster, cluster: Cluster, card: Settings
) -> None:
    """akId and akSecret come from the card's files; facts, plan and report do not repeat them."""
    plan, report = run(cluster, card)
    secret = cluster.get("Secret", card.cache.secret, card.kubernetes.namespace)
    assert secret is not None
    files = [Path(str(text).removeprefix("file:")) for text in (card.cache.access_key_id, card.cache.access_key_secret)]
    values = [path.read_text() for path in files]
    assert [base64.b64decode(secret["data"][key]).decode() for key in ("akId", "akSecret")] == values
    facts = cache_volume.look(cluster, card)
    shown = f"{facts}{facts._repr_html_()}{facts.as_dict()}{plan}{plan._repr_html_()}{report}{report._repr_html_()}"
    assert not any(value in shown or base64.b64encode(value.encode()).decode() in shown for value in values)


def test_a_new_access_key_reaches_the_secret_and_nothing_else(cluster: Cluster, card: Settings, tmp_path: Path) -> None:
    """Only the Secret is updated when the references name another key."""
    run(cluster, card)
    (tmp_path / "key").write_text("LTAI-another\n")
    plan, report = run(cluster, with_cache(card, access_key_id=f"file:{tmp_path / 'key'}"))
    assert [change.kind for change in plan.pending] == ["Secret"] and report.ok


def test_before_notebook_20_a_dry_run_waits_and_an_apply_stops(cluster: Cluster, card: Settings) -> None:
    """A namespace that is missing is no failure of a rehearsal, and stops an apply before anything is made."""
    elsewhere = card.model_copy(
        update={"kubernetes": card.kubernetes.model_copy(update={"namespace": f"{card.kubernetes.namespace}-none"})}
    )
    plan, report = run(cluster, elsewhere, dry_run=True)
    assert "notebook 20" in plan.waiting_for and report.ok
    _, refused = run(cluster, elsewhere)
    assert refused["namespace"].status is Status.FAIL
    assert cluster.get("PersistentVolume", card.cache.volume) is None


def test_a_claim_bound_to_another_volume_stops_before_any_change(cluster: Cluster, card: Settings) -> None:
    """The claim that exists keeps its volume; the report names it, and nothing new is made."""
    run(cluster, card)
    other = with_cache(card, volume=f"{card.cache.volume}-other")
    plan, report = run(cluster, other)
    assert "bound" in plan.blockers[0].observed.lower() and card.cache.volume in plan.blockers[0].observed
    assert not report.ok and cluster.get("PersistentVolume", other.cache.volume) is None


def test_a_volume_with_another_bucket_is_never_touched(cluster: Cluster, card: Settings) -> None:
    """What differs is shown, and the live volume stays byte for byte."""
    run(cluster, card)
    before = cluster.get("PersistentVolume", card.cache.volume)
    plan, report = run(cluster, with_cache(card, bucket="another-bucket"))
    assert "+bucket: another-bucket" in plan.blockers[0].observed and not report.ok
    assert cluster.get("PersistentVolume", card.cache.volume) == before


def test_the_articles_flexvolume_is_kept_and_gets_its_claim(cluster: Cluster, card: Settings) -> None:
    """The 2020 form with a key inside is accepted by today's API server, kept, bound, and its key shown nowhere."""
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": card.cache.volume, "labels": {"alicloud-pvname": card.cache.volume}},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "capacity": {"storage": "20Gi"},
            "flexVolume": {
                "driver": "alicloud/oss",
                "options": {
                    "akId": "planted-id",
                    "akSecret": "planted-secret",
                    "bucket": card.cache.bucket,
                    "otherOpts": "-o max_stat_cache_size=0 -o allow_other",
                    "url": "vpc100-oss-cn-hangzhou.aliyuncs.com",
                },
            },
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "oss",
        },
    }
    cluster.create(volume, dry_run=False)
    plan, report = run(cluster, card)
    assert [change.kind for change in plan.pending] == ["PersistentVolumeClaim"]
    assert report.ok and report["cache-claim"].status is Status.PASS
    assert "deprecated" in report["oss-endpoint"].observed
    assert "planted" not in f"{plan}{report}{cache_volume.look(cluster, card).as_dict()}"
    assert run(cluster, card)[0].summary == "nothing to change"


def test_a_claim_that_stays_pending_is_explained(cluster: Cluster, card: Settings) -> None:
    """A claim of another class than the volume's never binds; plan and report say which."""
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": card.cache.claim, "namespace": card.kubernetes.namespace},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "oss",
            "volumeName": card.cache.volume,
            "resources": {"requests": {"storage": "50Gi"}},
        },
    }
    cluster.create(claim, dry_run=False)
    facts = cache_volume.look(cluster, card)
    assert cache_volume.why_pending(facts, card)[0] == f"there is no volume named {card.cache.volume}"
    _, report = run(cluster, card, timeout=3)
    assert "class oss" in report["cache-claim"].observed and not report.ok


def test_a_released_volume_is_freed_by_the_command_that_is_printed(
    practice: PracticeCluster, cluster: Cluster, card: Settings
) -> None:
    """After the claim was deleted the plan stops; its command makes the next run green, with the same volume."""
    run(cluster, card)
    cluster.delete("PersistentVolumeClaim", card.cache.claim, card.kubernetes.namespace, dry_run=False)
    wait_for(
        lambda: (cluster.get("PersistentVolume", card.cache.volume) or {})["status"]["phase"],
        lambda phase: phase == "Released",
        what="the volume is released",
        timeout=20,
        clock=cluster.clock,
    )
    plan, _ = run(cluster, card)
    assert "Released" in plan.blockers[0].observed
    command = plan.blockers[0].remedy.splitlines()[-1]
    patch = command.partition(" -p ")[2].strip("'")
    practice.kubectl("patch", "pv", card.cache.volume, "--type", "merge", "-p", patch)
    assert run(cluster, card)[1].ok


def test_an_account_without_rights_on_volumes_is_told_so(
    practice: PracticeCluster, cluster: Cluster, card: Settings
) -> None:
    """What may not be read stops the plan with the reason, and is not taken for missing."""
    namespace = card.kubernetes.namespace
    rules = [
        {"apiGroups": [""], "resources": ["persistentvolumeclaims", "secrets", "events"], "verbs": ["*"]},
    ]
    kubeconfig = practice.restricted_kubeconfig(f"reader-{namespace}", rules, namespace)
    restricted = card.model_copy(
        update={"kubernetes": card.kubernetes.model_copy(update={"kubeconfig": str(kubeconfig)})}
    )
    plan, report = run(connect.kubernetes(restricted), restricted)
    assert "cannot be looked at" in plan.blockers[0].observed and "persistentvolumes" in plan.blockers[0].observed
    assert not report.ok


def test_papermill_rehearses_applies_and_then_has_nothing_to_change(
    cluster: Cluster, card: Settings, tmp_path: Path, run_notebook: Callable[..., Any]
) -> None:
    """The notebook itself, three times: what it leaves holds neither AccessKey."""
    path = written(card, tmp_path)
    said = [
        run_notebook("onboarding/30-create-cache-volume", cluster=path, dry_run=dry) for dry in (True, False, False)
    ]
    assert [run.exit_code for run in said] == [0, 0, 0], said[-1].last_lines
    assert "dry_run = False to apply" in said[0].text and "Cache volume: nothing to change" in said[2].text
    keys = [Path(str(text).removeprefix("file:")) for text in (card.cache.access_key_id, card.cache.access_key_secret)]
    assert not any(key.read_text() in run.text for key in keys for run in said)


def test_papermill_ends_non_zero_with_the_report_last(
    cluster: Cluster, card: Settings, tmp_path: Path, run_notebook: Callable[..., Any]
) -> None:
    """A scheduler sees the failure, and whoever reads its log finds the report at its end."""
    run(cluster, card)
    path = written(with_cache(card, bucket="another-bucket"), tmp_path)
    executed = run_notebook("onboarding/30-create-cache-volume", cluster=path, dry_run=False)
    assert executed.exit_code == 1
    assert "+bucket: another-bucket" in executed.last_lines and "kubectl delete pv" in executed.last_lines


def written(card: Settings, folder: Path) -> Path:
    """The card as a file."""
    path = folder / "card.yaml"
    path.write_text(yaml.safe_dump(card.model_dump(mode="json", exclude_none=True)))
    return path


def test_without_being_asked_for_the_probe_makes_no_pod(cluster: Cluster, card: Settings) -> None:
    """The probe is opt-in, and a dry run never makes it."""
    assert cache_volume.probe(cluster, card, wanted=False)["cache-probe"].status is Status.SKIP
    rehearsing = card.model_copy(update={"dry_run": True})
    assert cache_volume.probe(cluster, rehearsing, wanted=True)["cache-probe"].status is Status.SKIP
    assert cluster.list("Pod", card.kubernetes.namespace) == []


def test_the_probe_writes_reads_and_deletes_one_file_on_eci(
    practice: PracticeCluster, cluster: Cluster, card: Settings
) -> None:
    """A pod of the smallest spec mounts the bucket; neither the pod nor its file is there afterwards."""
    card = with_cache(card, path=f"/{card.kubernetes.namespace}")
    assert run(cluster, card)[1].ok
    report = cache_volume.probe(cluster, card, wanted=True, timeout=60)
    assert report["cache-probe"].status is Status.PASS, str(report)
    folder = practice.node.buckets / str(card.cache.bucket) / card.kubernetes.namespace
    assert folder.is_dir() and list(folder.iterdir()) == []
    assert cluster.list("Pod", card.kubernetes.namespace) == []


def test_a_key_that_is_missing_shows_in_the_probe_as_a_failed_mount(
    cluster: Cluster, card: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """The claim is bound all the same; only the pod's FailedMount tells, and the report says what to look at."""
    run(cluster, card)
    cluster.patch("Secret", card.cache.secret, {"data": {"akSecret": None}}, card.kubernetes.namespace, dry_run=False)
    assert cache_volume.judge(cache_volume.look(cluster, card), card)["cache-claim"].status is Status.PASS
    report = cache_volume.probe(cluster, card, wanted=True, timeout=5)
    check = report["cache-probe"]
    assert check.status is Status.FAIL and "FailedMount" in check.observed and "akId or akSecret" in check.remedy
    assert "FailedMount" in capsys.readouterr().out
    assert cluster.list("Pod", card.kubernetes.namespace) == []


def test_a_bucket_that_does_not_exist_shows_in_the_probe(cluster: Cluster, card: Settings) -> None:
    """Kubernetes binds the claim without asking OSS; the mount of the probe is what names the bucket."""
    card = with_cache(card, bucket="no-such-bucket")
    assert run(cluster, card)[1].ok
    check = cache_volume.probe(cluster, card, wanted=True, timeout=5)["cache-probe"]
    assert "NoSuchBucket" in check.observed and "cache.bucket" in check.remedy
