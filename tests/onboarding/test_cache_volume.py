"""Notebook 30's judgements: facts in, plans and reports out; no cluster."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runbook.onboarding import cache_probe, cache_volume
from runbook.onboarding.cache_volume import CacheVolumeFacts
from runbook.onboarding.oss_volume import (
    check_endpoint,
    persistent_volume,
    persistent_volume_claim,
    source_of,
    without_keys,
)
from runbook.plan import Action, Plan
from runbook.report import Status, Unknown
from runbook.settings import Settings

KEYS = ("akId", "akSecret")


def card(dry_run: bool = True, **cache: Any) -> Settings:
    """A card with the cache fields that a test needs."""
    return Settings.parse(
        {
            "name": "practice",
            "region": "cn-hangzhou",
            "cache": {"bucket": "ci-cache", "access_key_id": "env:AK", "access_key_secret": "env:SK", **cache},
            "gitlab": {"url": "https://gitlab.example.com"},
            "smoke": {"project": "ci/smoke"},
        },
        where="test card",
        dry_run=dry_run,
    )


def live_volume(settings: Settings, *, phase: str = "Bound", uid: str = "", **spec: Any) -> dict[str, Any]:
    """The card's volume as the API server would show it."""
    volume = persistent_volume(settings)
    volume["spec"] = {**volume["spec"], **spec}
    if uid:
        volume["spec"]["claimRef"] = {**volume["spec"]["claimRef"], "uid": uid}
    return {**volume, "status": {"phase": phase}}


def live_claim(settings: Settings, *, phase: str = "Bound", **spec: Any) -> dict[str, Any]:
    """The card's claim as the API server would show it."""
    claim = persistent_volume_claim(settings, None)
    claim["spec"] = {**claim["spec"], **spec}
    return {**claim, "status": {"phase": phase}}


def article_volume(*, bucket: str = "ci-cache") -> dict[str, Any]:
    """The FlexVolume form with the key in the volume itself, as in the 2020 article."""
    return {
        "metadata": {"name": "gitlab-cache-pv", "labels": {"alicloud-pvname": "gitlab-cache-pv"}},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "capacity": {"storage": "50Gi"},
            "claimRef": {"kind": "PersistentVolumeClaim", "name": "gitlab-cache-pvc", "namespace": "gitlab-ci"},
            "flexVolume": {
                "driver": "alicloud/oss",
                "options": {
                    "akId": "planted-id",
                    "akSecret": "planted-secret",
                    "bucket": bucket,
                    "otherOpts": "-o max_stat_cache_size=0 -o allow_other",
                    "url": "vpc100-oss-cn-hangzhou.aliyuncs.com",
                },
            },
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "oss",
        },
        "status": {"phase": "Available"},
    }


def facts(volume: Any = None, claim: Any = None, **others: Any) -> CacheVolumeFacts:
    return CacheVolumeFacts(**{"namespace": True, "volume": volume, "claim": claim, "secret_keys": None, **others})


def actions(plan: Plan) -> dict[str, Action]:
    return {change.kind: change.action for change in plan.changes}


def only_blocker(plan: Plan) -> Any:
    [blocker] = plan.blockers
    return blocker


def test_an_empty_namespace_gets_secret_volume_and_claim_in_this_order() -> None:
    """What the claim needs is made before it."""
    plan = cache_volume.plan(facts(), card())
    assert list(actions(plan).items()) == [
        ("Secret", Action.CREATE),
        ("PersistentVolume", Action.CREATE),
        ("PersistentVolumeClaim", Action.CREATE),
    ]


def test_the_volume_is_static_kept_for_our_claim_and_retained() -> None:
    """The manifest says what keeps the files when the volume goes, and who alone may claim it."""
    spec = persistent_volume(card(path="/ci"))["spec"]
    assert spec["persistentVolumeReclaimPolicy"] == "Retain"
    assert (spec["claimRef"]["namespace"], spec["claimRef"]["name"]) == ("gitlab-ci", "gitlab-cache-pvc")
    assert spec["csi"] == {
        "driver": "ossplugin.csi.alibabacloud.com",
        "volumeHandle": "gitlab-cache-pv",
        "nodePublishSecretRef": {"name": "gitlab-cache-oss", "namespace": "gitlab-ci"},
        "volumeAttributes": {
            "bucket": "ci-cache",
            "url": "oss-cn-hangzhou-internal.aliyuncs.com",
            "path": "/ci",
            "otherOpts": "-o max_stat_cache_size=0 -o allow_other",
        },
    }


def test_what_is_equal_is_kept() -> None:
    """A second run has nothing to change."""
    settings = card()
    plan = cache_volume.plan(facts(live_volume(settings), live_claim(settings), secret_keys=KEYS), settings)
    assert plan.summary == "nothing to change"
    assert set(actions(plan).values()) == {Action.KEEP}


def test_the_articles_flexvolume_is_kept_and_its_claim_takes_over_its_class() -> None:
    """A volume of the article's form that shows the same files stays; the claim is made to fit it."""
    settings = card()
    seen = facts(without_keys(article_volume()))
    plan = cache_volume.plan(seen, settings)
    assert actions(plan) == {"PersistentVolume": Action.KEEP, "PersistentVolumeClaim": Action.CREATE}
    assert plan.changes[-1].desired["spec"]["storageClassName"] == "oss"
    report = cache_volume.judge(seen, settings)
    assert report["cache-volume"].status is Status.WARN
    assert "oss-cn-hangzhou-internal.aliyuncs.com" in report["oss-endpoint"].expected


def test_a_flexvolume_of_another_bucket_stops_the_plan() -> None:
    """Kept is only what shows the same files."""
    plan = cache_volume.plan(facts(without_keys(article_volume(bucket="other"))), card())
    assert only_blocker(plan).id == "cache-volume"


def test_access_keys_in_a_volume_reach_neither_facts_nor_plan() -> None:
    """The article's volume has its key inside; nothing that is shown repeats it."""
    seen = facts(without_keys(article_volume(bucket="other")))
    plan = cache_volume.plan(seen, card())
    shown = f"{seen}{seen._repr_html_()}{json.dumps(seen.as_dict())}{plan}{plan._repr_html_()}"
    assert "planted" not in shown


def test_another_bucket_says_what_a_change_means_for_the_files() -> None:
    """The blocker shows the difference, that Retain keeps the files, and the steps."""
    settings = card()
    other = live_volume(card(bucket="old-cache"))
    blocker = only_blocker(cache_volume.plan(facts(other, live_claim(settings), secret_keys=KEYS), settings))
    assert "-bucket: old-cache" in blocker.observed and "+bucket: ci-cache" in blocker.observed
    assert (
        "cache starts empty" in blocker.remedy and "Retain" in blocker.remedy and "kubectl delete pv" in blocker.remedy
    )


def test_another_endpoint_of_the_same_bucket_says_that_the_files_are_the_same() -> None:
    """A source that differs only in its way to the bucket still cannot be changed in place."""
    settings = card()
    other = live_volume(card(endpoint="oss-cn-hangzhou.aliyuncs.com"))
    blocker = only_blocker(cache_volume.plan(facts(other, live_claim(settings), secret_keys=KEYS), settings))
    assert "same files" in blocker.remedy


def test_a_volume_that_would_be_deleted_with_its_claim_is_first_made_to_retain() -> None:
    """Delete as reclaim policy is said before any step that could lose files."""
    settings = card()
    other = live_volume(card(bucket="old-cache"), persistentVolumeReclaimPolicy="Delete")
    blocker = only_blocker(cache_volume.plan(facts(other, secret_keys=KEYS), settings))
    assert blocker.remedy.index("Retain") < blocker.remedy.index("delete pv")


def test_a_claim_bound_to_another_volume_stops_the_plan() -> None:
    """A claim cannot change its volume; the blocker names both."""
    settings = card()
    seen = facts(
        None,
        live_claim(settings, volumeName="other-pv"),
        claimed_volume=live_volume(card(bucket="else")),
        secret_keys=KEYS,
    )
    blocker = only_blocker(cache_volume.plan(seen, settings))
    assert blocker.id == "cache-claim" and "other-pv" in blocker.observed and "oss://else/" in blocker.observed


def test_a_claim_bound_to_another_volume_of_the_same_bucket_names_the_one_line_to_change() -> None:
    """Where the files are the same, the card is what should change."""
    settings = card()
    seen = facts(
        None, live_claim(settings, volumeName="other-pv"), claimed_volume=live_volume(settings), secret_keys=KEYS
    )
    assert "cache.volume: other-pv" in only_blocker(cache_volume.plan(seen, settings)).remedy


def test_a_volume_kept_for_another_claim_stops_the_plan() -> None:
    """A volume serves one claim; the blocker names whose it is."""
    settings = card()
    taken = live_volume(settings, claimRef={"namespace": "default", "name": "somebody"})
    assert "default/somebody" in only_blocker(cache_volume.plan(facts(taken, secret_keys=KEYS), settings)).observed


def test_a_released_volume_comes_with_the_patch_that_frees_it() -> None:
    """A volume that remembers a deleted claim would leave the new one Pending for ever."""
    settings = card()
    ghost = live_volume(settings, phase="Released", uid="gone")
    assert (
        "kubectl patch pv gitlab-cache-pv"
        in only_blocker(cache_volume.plan(facts(ghost, secret_keys=KEYS), settings)).remedy
    )


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        ({"storageClassName": "oss"}, "class oss, volume gitlab-cache-pv has (none)"),
        ({"resources": {"requests": {"storage": "100Gi"}}}, "asks for 100Gi, volume gitlab-cache-pv has 50Gi"),
        ({"accessModes": ["ReadOnlyMany"]}, "asks for ReadOnlyMany"),
        ({"selector": {"matchLabels": {"alicloud-pvname": "x"}}}, "selects alicloud-pvname=x"),
    ],
    ids=["class", "size", "access mode", "selector"],
)
def test_a_pending_claim_is_explained(claim: dict[str, Any], reason: str) -> None:
    """Each thing that keeps claim and volume apart has a sentence."""
    settings = card()
    seen = facts(
        live_volume(settings, phase="Available"), live_claim(settings, phase="Pending", **claim), secret_keys=KEYS
    )
    assert reason in only_blocker(cache_volume.plan(seen, settings)).observed


def test_a_pending_claim_without_any_volume_says_so_and_quotes_the_events() -> None:
    """The missing volume is named, and the cluster's own words follow."""
    settings = card()
    seen = facts(None, live_claim(settings, phase="Pending"), events=("FailedBinding: volume not found",))
    assert cache_volume.why_pending(seen, settings) == [
        "there is no volume named gitlab-cache-pv",
        "the cluster says: FailedBinding: volume not found",
    ]
    assert cache_volume.judge(seen, settings)["cache-claim"].status is Status.FAIL


def test_an_object_that_may_not_be_read_stops_the_plan() -> None:
    """Unknown is not the same as missing: nothing is created over it."""
    plan = cache_volume.plan(facts(Unknown("403 on persistentvolumes"), secret_keys=KEYS), card())
    assert "403 on persistentvolumes" in only_blocker(plan).observed


def test_without_references_the_secret_must_be_there_with_both_keys() -> None:
    """A Secret that nobody makes is asked for, with the command."""
    settings = card(access_key_id=None, access_key_secret=None)
    blocker = only_blocker(cache_volume.plan(facts(secret_keys=("AccessKeyId",)), settings))
    assert "missing: akId, akSecret" in blocker.observed and "kubectl -n gitlab-ci create secret" in blocker.remedy
    assert not cache_volume.plan(facts(secret_keys=KEYS), settings).blockers


def test_another_access_key_updates_the_secret_without_showing_it() -> None:
    """The diff says which key changes, not to what."""
    settings = card()
    seen = facts(live_volume(settings), live_claim(settings), secret_keys=KEYS, stale_keys=("akSecret",))
    [change] = cache_volume.plan(seen, settings).pending
    assert (change.kind, change.action) == ("Secret", Action.UPDATE)
    assert "+akSecret: (hidden, another value)" in change.diff and "+akId" not in change.diff


def test_a_missing_namespace_waits_in_a_dry_run_and_stops_an_apply() -> None:
    """A rehearsal before notebook 20 is no failure; an apply is."""
    seen = facts(namespace=False)
    rehearsed = cache_volume.plan(seen, card(dry_run=True))
    assert rehearsed.waiting_for == "notebook 20 (namespace gitlab-ci)" and not rehearsed.blockers
    assert rehearsed.report(dry_run=True).ok
    assert only_blocker(cache_volume.plan(seen, card(dry_run=False))).id == "namespace"


def test_a_switched_off_cache_changes_nothing() -> None:
    """cache.enabled: false leaves the notebook without work."""
    settings = card(enabled=False)
    assert cache_volume.plan(facts(), settings).summary == "nothing to change"


@pytest.mark.parametrize(
    ("written", "status", "says"),
    [
        ("oss-cn-hangzhou-internal.aliyuncs.com", Status.PASS, "internal"),
        ("vpc100-oss-cn-hangzhou.aliyuncs.com", Status.WARN, "deprecated"),
        ("oss-cn-hangzhou.aliyuncs.com", Status.WARN, "public endpoint"),
        ("https://oss-cn-hangzhou-internal.aliyuncs.com", Status.WARN, "scheme"),
        ("ci-cache.oss-cn-hangzhou-internal.aliyuncs.com", Status.FAIL, "bucket's own domain"),
        ("oss-cn-beijing-internal.aliyuncs.com", Status.FAIL, "cn-beijing"),
        ("vpc100-oss-cn-beijing.aliyuncs.com", Status.FAIL, "cn-beijing"),
        ("oss-cn-beijing.aliyuncs.com", Status.WARN, "paid for"),
        ("oss-cn-hangzhou-internal.aliyuncs.com/ci", Status.FAIL, "host name"),
        ("oss-cn-hangzhou-internal.aliyuncs.com:443", Status.FAIL, "host name"),
        ("cache.example.com", Status.WARN, "no form that is known"),
    ],
)
def test_each_form_of_endpoint_gets_its_verdict(written: str, status: Status, says: str) -> None:
    """The vendor's endpoint forms, one row each, always with the modern form beside."""
    check = check_endpoint(written, region="cn-hangzhou", bucket="ci-cache")
    assert check.status is status and says in check.observed
    assert check.status is Status.PASS or check.expected == "oss-cn-hangzhou-internal.aliyuncs.com"


def test_a_finance_region_with_an_endpoint_name_of_its_own_is_not_refused() -> None:
    """Where OSS names its endpoints differently from the region, a mismatch proves nothing."""
    check = check_endpoint("oss-cn-hzjbp-b-internal.aliyuncs.com", region="cn-hangzhou-finance", bucket=None)
    assert check.status is Status.PASS


def test_an_impossible_endpoint_stops_the_plan() -> None:
    """What could never mount is not created."""
    plan = cache_volume.plan(facts(secret_keys=KEYS), card(endpoint="ci-cache.oss-cn-hangzhou.aliyuncs.com"))
    assert only_blocker(plan).id == "oss-endpoint"


def test_the_flexvolume_driver_of_the_card_makes_the_articles_form_with_a_secret() -> None:
    """On clusters that still have it, the key stays in a Secret all the same."""
    volume = persistent_volume(card(driver="flexvolume"))
    assert volume["spec"]["flexVolume"]["driver"] == "alicloud/oss"
    assert source_of(volume).secret == "gitlab-ci/gitlab-cache-oss" and not source_of(volume).inline_key


@pytest.mark.parametrize(
    ("event", "meaning"),
    [
        ('FailedMount: ossfs: bucket "x" does not exist at y (NoSuchBucket)', "bucket does not exist"),
        ("FailedMount: InvalidAccessKeyId", "AccessKey id"),
        ("FailedMount: SignatureDoesNotMatch", "does not belong to the id"),
        ("FailedMount: oss: neither akId and akSecret nor a RAM role is given", "lacks akId or akSecret"),
        ("FailedMount: something else", "events above"),
    ],
)
def test_a_failed_mount_is_explained(event: str, meaning: str) -> None:
    """The driver's words become a cause and a field of the card."""
    state = cache_probe.ProbeState("Pending", (event,))
    check = cache_probe.judge(state, "", card())
    assert check.status is Status.FAIL and meaning in check.remedy


def test_a_probe_that_ran_through_is_the_proof() -> None:
    """Only a pod that succeeded and said so passes."""
    done = cache_probe.ProbeState("Succeeded")
    assert cache_probe.judge(done, "written, read and deleted\n", card()).status is Status.PASS
    denied = cache_probe.judge(cache_probe.ProbeState("Failed"), "can't create: Permission denied", card())
    assert denied.status is Status.FAIL and "Permission denied" in denied.observed
