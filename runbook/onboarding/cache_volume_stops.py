"""Why the plan of notebook 30 stops: one check a reason, with what a change would mean for the files. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from runbook.onboarding.cache_volume_facts import CacheVolumeFacts, name_of, phase_of, why_pending
from runbook.onboarding.oss_volume import Manifest, source_of, wanted_source
from runbook.plan import yaml_diff
from runbook.report import Check, Unknown
from runbook.settings import Settings

VOLUME_TITLE = "The volume shows the card's bucket and folder"
CLAIM_TITLE = "The claim is bound to the card's volume"
SECRET_TITLE = "The Secret holds the AccessKey of the bucket"


def unreadable(facts: CacheVolumeFacts) -> list[Check]:
    """What guards a creation must be known: an object that may not be read cannot be told from one that is missing."""
    guarded = {"volume": ("cache-volume", VOLUME_TITLE), "claim": ("cache-claim", CLAIM_TITLE)}
    return [
        Check.failed(
            id,
            title,
            f"the {name} cannot be looked at: {reason.reason}",
            expected="an account that may get it",
            remedy="Run notebook 10: it prints the missing rule, ready to apply.",
        )
        for name, (id, title) in guarded.items()
        if isinstance(reason := getattr(facts, name), Unknown)
    ]


def namespace_missing(settings: Settings) -> Check:
    """The job pods' namespace is not there."""
    return Check.failed(
        "namespace",
        "The namespace of the job pods is there",
        f"there is no namespace {settings.kubernetes.namespace}",
        expected="the namespace that notebook 20 creates",
        remedy="Run notebook 20 with dry_run = False first.",
    )


def secret_missing(facts: CacheVolumeFacts, settings: Settings, missing: Sequence[str]) -> Check:
    """Nobody gives the AccessKey: neither the card nor a Secret."""
    namespace, name = settings.kubernetes.namespace, settings.cache.secret
    found = "is not there" if facts.secret_keys is None else f"has the keys {', '.join(facts.secret_keys) or 'none'}"  # type: ignore[arg-type]
    return Check.failed(
        "oss-secret",
        SECRET_TITLE,
        f"Secret {namespace}/{name} {found}; missing: {', '.join(missing)}",
        expected="the keys akId and akSecret, in this spelling",
        remedy=(
            "Name the AccessKey in the card (cache.access_key_id and cache.access_key_secret), or:\n"
            f"kubectl -n {namespace} create secret generic {name} --from-file=akId=FILE --from-file=akSecret=FILE"
        ),
    )


def volume_differs(volume: Manifest, settings: Settings) -> Check:
    """A volume of that name shows something else."""
    live, wanted = source_of(volume), wanted_source(settings)
    files = (
        "Both show the same files of the bucket."
        if live.data == wanted.data
        else f"The files under {live} stay in their bucket, but jobs would no longer see them: the cache starts empty."
    )
    return Check.failed(
        "cache-volume",
        VOLUME_TITLE,
        f"volume {name_of(volume)} is there, but differs:\n{yaml_diff(live.as_dict(), wanted.as_dict(), name_of(volume))}",
        expected="the card's source; Kubernetes cannot change the source of a volume",
        remedy=f"{files}\n{keeping(volume)}\n{replacing(settings)}",
    )


def keeping(volume: Manifest) -> str:
    """What happens to the files when the volume goes."""
    policy = volume.get("spec", {}).get("persistentVolumeReclaimPolicy")
    return (
        "Its reclaim policy is Retain: deleting the volume deletes no file."
        if policy == "Retain"
        else f"Its reclaim policy is {policy}: before anything else run\n"
        f'kubectl patch pv {name_of(volume)} --type merge -p \'{{"spec":{{"persistentVolumeReclaimPolicy":"Retain"}}}}\''
    )


def replacing(settings: Settings) -> str:
    """How to put a new volume in an old one's place: the files stay in the bucket."""
    return (
        "To keep it, make the card say the same. To replace it, when no job runs:\n"
        f"kubectl -n {settings.kubernetes.namespace} delete pvc {settings.cache.claim}\n"
        f"kubectl delete pv {settings.cache.volume}\n"
        "and run this notebook again; or name a new volume and claim in the card (cache.volume, cache.claim)."
    )


def volume_taken(name: str, kept_for: str, settings: Settings) -> Check:
    """The volume belongs to another claim."""
    return Check.failed(
        "cache-volume",
        VOLUME_TITLE,
        f"volume {name} is kept for claim {kept_for}",
        expected=f"kept for {settings.kubernetes.namespace}/{settings.cache.claim}, or for none",
        remedy="A volume serves one claim for life. Name another volume in cache.volume (it may show the same bucket),\n"
        "or, if that claim is the cache, name it in cache.claim and its namespace in kubernetes.namespace.",
    )


def volume_released(name: str, claim: str) -> Check:
    """The volume remembers a claim that is gone."""
    patch = '{"spec":{"claimRef":{"uid":null,"resourceVersion":null}}}'
    return Check.failed(
        "cache-volume",
        VOLUME_TITLE,
        f"volume {name} is Released: claim {claim}, to which it was bound, was deleted, and it waits for nobody else",
        expected="Available",
        remedy=f"Its files are still in the bucket. To let the new claim have it:\nkubectl patch pv {name} --type merge -p '{patch}'",
    )


def leaving(id: str, title: str, manifest: Manifest) -> Check:
    """Volume or claim is on its way out."""
    return Check.failed(
        id,
        title,
        f"{name_of(manifest)} is being deleted",
        expected="one that stays, or none",
        remedy="Wait until it is gone, then run this notebook again. A claim goes when no pod uses it any more,\n"
        "a volume when its claim is gone.",
    )


def claim_elsewhere(facts: CacheVolumeFacts, settings: Settings) -> Check:
    """The claim has another volume."""
    assert isinstance(facts.claim, dict)
    bound = facts.claim["spec"]["volumeName"]
    other = source_of(facts.claimed_volume) if isinstance(facts.claimed_volume, dict) else None
    same = other is not None and other.data == wanted_source(settings).data
    return Check.failed(
        "cache-claim",
        CLAIM_TITLE,
        f"{name_of(facts.claim)} is {phase_of(facts.claim)} on volume {bound}" + (f", {other}" if other else ""),
        expected=f"volume {settings.cache.volume}, {wanted_source(settings)}",
        remedy=(
            f"That volume shows the same files: set cache.volume: {bound} in the card."
            if same
            else "A claim cannot change its volume. Name another claim in cache.claim; or, if its files are not needed by\n"
            f"any job: kubectl -n {settings.kubernetes.namespace} delete pvc {settings.cache.claim}"
        ),
    )


def claim_stuck(facts: CacheVolumeFacts, settings: Settings) -> Check:
    """The claim is Pending and would stay so."""
    return Check.failed(
        "cache-claim",
        CLAIM_TITLE,
        "\n".join([f"{settings.cache.claim} is Pending, and cannot bind:", *why_pending(facts, settings)]),
        expected=f"a claim that fits volume {settings.cache.volume}",
        remedy="No file hangs on a claim that never bound. Delete it and run this notebook again:\n"
        f"kubectl -n {settings.kubernetes.namespace} delete pvc {settings.cache.claim}",
    )
