"""Notebook 30: the build cache, an OSS bucket that job pods mount through a PersistentVolume and its claim.

A volume that is there already and shows the same files is kept, the article's FlexVolume form too. One that differs
is never touched: Kubernetes cannot change a volume's source, and this module says what replacing it would mean.
A static claim binds even with a wrong key or bucket; `probe` (in `cache_probe`) is what finds those.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from runbook import quantities
from runbook.clients import secrets
from runbook.errors import QuantityError, TimedOut
from runbook.moments import wait_for
from runbook.onboarding.cache_probe import probe as probe  # the notebook's third step
from runbook.onboarding.oss_volume import (
    FLEX_DRIVER,
    SECRET_KEYS,
    Manifest,
    check_endpoint,
    endpoint,
    persistent_volume,
    persistent_volume_claim,
    secret_type,
    source_of,
    wanted_source,
    without_keys,
)
from runbook.plan import Action, Change, Plan, change_for, yaml_diff
from runbook.report import STYLE, Check, Report, Unknown, html_pairs, text_pairs
from runbook.settings import Settings

if TYPE_CHECKING:
    from runbook.clients.kubernetes import Cluster

TITLE = "Create the cache volume"
BINDING_TIMEOUT = 60.0
"""Seconds that a static claim may take to bind; the controller needs one or two."""

_VOLUME_TITLE = "The volume shows the card's bucket and folder"
_CLAIM_TITLE = "The claim is bound to the card's volume"
_SECRET_TITLE = "The Secret holds the AccessKey of the bucket"


# -- facts ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CacheVolumeFacts:
    """What the cluster has for the cache. AccessKeys that stand in a volume are hidden, Secrets give key names only.

    An object that is not there is None; one that may not be read is Unknown.
    """

    namespace: bool | Unknown
    volume: Manifest | None | Unknown
    claim: Manifest | None | Unknown
    claimed_volume: Manifest | None | Unknown = None
    """The volume that the claim names, where it is another than the card's."""
    secret_keys: tuple[str, ...] | None | Unknown = None
    """Keys of the Secret."""
    stale_keys: tuple[str, ...] = ()
    """Those of akId and akSecret whose value in the Secret is not the card's."""
    events: tuple[str, ...] = ()
    """What the cluster says of the claim, newest last."""

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}

    def summary(self) -> dict[str, str]:
        """The lines that the notebook shows."""
        return {
            "namespace": _told(self.namespace or None, lambda _: "there"),
            "volume": _told(self.volume, lambda it: f"{_name(it)}: {source_of(it)}, {_phase(it)}"),
            "claim": _told(self.claim, lambda it: f"{_name(it)}: {_phase(it)}{_on(it)}"),
            "Secret": _told(self.secret_keys, lambda keys: f"keys {', '.join(keys) or 'none'}"),
            **({"events": "\n".join(self.events)} if self.events else {}),
        }

    def __str__(self) -> str:
        return text_pairs("Cache volume", self.summary())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"{STYLE}<div class='rb'>{html_pairs(self.summary())}</div>"


def _plain(value: object) -> object:
    if isinstance(value, Unknown):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _told(value: Any, words: Any) -> str:
    if value is None:
        return "not there"
    return str(value) if isinstance(value, Unknown) else str(words(value))


def _name(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"])


def _phase(manifest: Manifest) -> str:
    return str(manifest.get("status", {}).get("phase", "no phase yet"))


def _on(claim: Manifest) -> str:
    volume = claim.get("spec", {}).get("volumeName")
    return f", on volume {volume}" if volume else ""


def _claim_of(volume: Manifest) -> str:
    """The claim that a volume is kept for or bound to, NAMESPACE/NAME, or empty."""
    reference = volume.get("spec", {}).get("claimRef") or {}
    return f"{reference.get('namespace')}/{reference.get('name')}" if reference else ""


# -- look -----------------------------------------------------------------------------------------------------


def look(cluster: Cluster, settings: Settings) -> CacheVolumeFacts:
    """Read the namespace, the volume, the claim with its events, and the Secret's key names."""
    from runbook.clients.kubernetes import known

    card, namespace = settings.cache, settings.kubernetes.namespace
    if not card.enabled:
        return CacheVolumeFacts(namespace=True, volume=None, claim=None)
    there = known(lambda: cluster.get("Namespace", namespace) is not None)
    volume = known(lambda: _shown(cluster.get("PersistentVolume", card.volume)))
    claim = known(lambda: cluster.get("PersistentVolumeClaim", card.claim, namespace))
    other = claim.get("spec", {}).get("volumeName") if isinstance(claim, dict) else None
    elsewhere = other if other and other != card.volume else None
    secret = known(lambda: cluster.get("Secret", card.secret, namespace))
    return CacheVolumeFacts(
        namespace=there,
        volume=volume,
        claim=claim,
        claimed_volume=known(lambda: _shown(cluster.get("PersistentVolume", elsewhere))) if elsewhere else None,
        secret_keys=_key_names(secret),
        stale_keys=_stale(secret, _access_key(settings, cluster)) if isinstance(secret, dict) else (),
        events=_events(cluster, settings) if isinstance(claim, dict) else (),
    )


def _key_names(secret: Manifest | None | Unknown) -> tuple[str, ...] | None | Unknown:
    return tuple(sorted(secret.get("data") or {})) if isinstance(secret, dict) else secret


def _shown(volume: Manifest | None) -> Manifest | None:
    return without_keys(volume) if volume else None


def _access_key(settings: Settings, cluster: Cluster) -> dict[str, str]:
    """The AccessKey that the card's references name, by the Secret's keys; empty where the card names none."""
    references = (settings.cache.access_key_id, settings.cache.access_key_secret)
    return {key: secrets.resolve(text, cluster) for key, text in zip(SECRET_KEYS, references, strict=True) if text}


def _stale(secret: Manifest, wanted: dict[str, str]) -> tuple[str, ...]:
    data = secret.get("data") or {}
    return tuple(key for key, value in wanted.items() if data.get(key) != _encoded(value))


def _encoded(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


def _events(cluster: Cluster, settings: Settings) -> tuple[str, ...]:
    from runbook.clients.kubernetes import known

    about = f"involvedObject.kind=PersistentVolumeClaim,involvedObject.name={settings.cache.claim}"
    found = known(lambda: cluster.list("Event", settings.kubernetes.namespace, fields=about))
    if isinstance(found, Unknown):
        return ()
    return tuple(f"{event.get('reason')}: {event.get('message')}" for event in found)


# -- judge ----------------------------------------------------------------------------------------------------


def judge(facts: CacheVolumeFacts, settings: Settings) -> Report:
    """What is true of the cache now. Pure."""
    if not settings.cache.enabled:
        return Report(TITLE, [Check.skipped("cache-volume", _VOLUME_TITLE, "cache.enabled is false")])
    return Report(
        TITLE,
        [
            check_endpoint(_endpoint_in_use(facts, settings), region=settings.region, bucket=settings.cache.bucket),
            _volume_check(facts, settings),
            _secret_check(facts, settings),
            _claim_check(facts, settings),
        ],
    )


def _endpoint_in_use(facts: CacheVolumeFacts, settings: Settings) -> str:
    """The endpoint that job pods will mount: that of the volume that is there, else the card's as it is written."""
    if isinstance(facts.volume, dict) and (used := source_of(facts.volume).endpoint):
        return used
    return settings.cache.endpoint or endpoint(settings)


def _volume_check(facts: CacheVolumeFacts, settings: Settings) -> Check:
    if isinstance(facts.volume, Unknown):
        return Check.skipped("cache-volume", _VOLUME_TITLE, str(facts.volume))
    if facts.volume is None:
        return Check.skipped("cache-volume", _VOLUME_TITLE, "not there yet")
    source = source_of(facts.volume)
    if source.inline_key:
        return Check.warned(
            "cache-volume",
            _VOLUME_TITLE,
            f"{source}; its AccessKey stands in the volume, where everybody who may read volumes can read it",
            expected=f"the AccessKey in Secret {settings.kubernetes.namespace}/{settings.cache.secret}",
            remedy=_replacing(settings),
        )
    if source.driver == FLEX_DRIVER:
        return Check.warned(
            "cache-volume",
            _VOLUME_TITLE,
            f"{source}; kept, but FlexVolume is deprecated since Kubernetes 1.20",
            expected="the CSI driver",
            remedy=_replacing(settings),
        )
    return Check.passed("cache-volume", _VOLUME_TITLE, str(source))


def _secret_check(facts: CacheVolumeFacts, settings: Settings) -> Check:
    if not _needs_secret(facts):
        return Check.passed("oss-secret", _SECRET_TITLE, "not needed: the volume holds its own AccessKey")
    if isinstance(facts.secret_keys, Unknown):
        return Check.skipped("oss-secret", _SECRET_TITLE, str(facts.secret_keys))
    missing = [key for key in SECRET_KEYS if key not in (facts.secret_keys or ())]
    if not missing:
        return Check.passed(
            "oss-secret", _SECRET_TITLE, "akId and akSecret are there; only a probe shows that they fit"
        )
    if settings.cache.access_key_id:
        return Check.skipped("oss-secret", _SECRET_TITLE, "not there yet")
    return _secret_missing(facts, settings, missing)


def _needs_secret(facts: CacheVolumeFacts) -> bool:
    return not (isinstance(facts.volume, dict) and source_of(facts.volume).inline_key)


def _claim_check(facts: CacheVolumeFacts, settings: Settings) -> Check:
    if isinstance(facts.claim, Unknown):
        return Check.skipped("cache-claim", _CLAIM_TITLE, str(facts.claim))
    if facts.claim is None:
        return Check.skipped("cache-claim", _CLAIM_TITLE, "not there yet")
    volume = facts.claim.get("spec", {}).get("volumeName")
    if _phase(facts.claim) == "Bound" and volume == settings.cache.volume:
        return Check.passed("cache-claim", _CLAIM_TITLE, f"{_name(facts.claim)} is bound to {volume}")
    return Check.failed(
        "cache-claim",
        _CLAIM_TITLE,
        "\n".join([f"{_name(facts.claim)} is {_phase(facts.claim)}{_on(facts.claim)}", *why_pending(facts, settings)]),
        expected=f"Bound to {settings.cache.volume}",
        remedy=f"kubectl -n {settings.kubernetes.namespace} describe pvc {settings.cache.claim}",
    )


def why_pending(facts: CacheVolumeFacts, settings: Settings) -> list[str]:
    """Why a claim does not bind: each sentence names one thing that keeps claim and volume apart, then the events."""
    if not isinstance(facts.claim, dict):
        return []
    wanted = facts.claim.get("spec", {}).get("volumeName") or settings.cache.volume
    volume = facts.volume if wanted == settings.cache.volume else facts.claimed_volume
    if isinstance(volume, Unknown):
        reasons = [f"volume {wanted} cannot be looked at: {volume.reason}"]
    elif volume is None:
        reasons = [f"there is no volume named {wanted}"]
    else:
        reasons = _obstacles(facts.claim, volume, f"{settings.kubernetes.namespace}/{settings.cache.claim}")
    return [*reasons, *(f"the cluster says: {event}" for event in facts.events[-2:])]


def _obstacles(claim: Manifest, volume: Manifest, claim_name: str) -> list[str]:
    """What a claim asks for and a volume does not give, in the order in which the binder looks."""
    asks, gives, name = claim.get("spec", {}), volume.get("spec", {}), _name(volume)
    kept_for = _claim_of(volume)
    found = []
    if kept_for and kept_for != claim_name:
        found.append(f"volume {name} is kept for claim {kept_for}")
    elif _phase(volume) == "Released":
        found.append(f"volume {name} is Released: it still remembers a deleted claim of this name")
    elif _phase(volume) == "Failed":
        found.append(f"volume {name} has Failed")
    labels = volume["metadata"].get("labels") or {}
    selector = (asks.get("selector") or {}).get("matchLabels") or {}
    if unmatched := {key: text for key, text in selector.items() if labels.get(key) != text}:
        found.append(
            f"the claim selects {_pairs(unmatched)}, but volume {name} has the labels {_pairs(labels) or 'none'}"
        )
    if (asks.get("storageClassName") or "") != (gives.get("storageClassName") or ""):
        found.append(
            f"the claim asks for class {asks.get('storageClassName') or '(none)'!s}, "
            f"volume {name} has {gives.get('storageClassName') or '(none)'!s}"
        )
    size = ((asks.get("resources") or {}).get("requests") or {}).get("storage")
    capacity = (gives.get("capacity") or {}).get("storage")
    if size and capacity and _bytes(size) > _bytes(capacity):
        found.append(f"the claim asks for {size}, volume {name} has {capacity}")
    if lacking := [mode for mode in asks.get("accessModes") or [] if mode not in (gives.get("accessModes") or [])]:
        found.append(
            f"the claim asks for {', '.join(lacking)}, volume {name} allows {', '.join(gives.get('accessModes') or [])}"
        )
    return found


def _pairs(labels: dict[str, str]) -> str:
    return ", ".join(f"{key}={text}" for key, text in labels.items())


def _bytes(size: str) -> int:
    try:
        return quantities.memory(size)
    except QuantityError:
        return 0  # the API server has accepted it, so it is no reason of ours


# -- plan -----------------------------------------------------------------------------------------------------


def plan(facts: CacheVolumeFacts, settings: Settings) -> Plan:
    """What would be created; what is there is kept or stops the plan, nothing is ever changed in place. Pure."""
    card = settings.cache
    if not card.enabled:
        return Plan(TITLE, (), notes={"cache": "cache.enabled is false: job pods get no cache volume"})
    waiting = f"notebook 20 (namespace {settings.kubernetes.namespace})" if facts.namespace is False else ""
    blockers = [check for check in judge(facts, settings).failures if check.id == "oss-endpoint"]
    blockers += _unreadable(facts)
    if waiting and not settings.dry_run:
        blockers.append(_namespace_missing(settings))
    changes: list[Change] = []
    for part in (_secret_change, _volume_change, _claim_change):
        change, blocker = part(facts, settings)
        changes += [change] if change else []
        blockers += [blocker] if blocker else []
    notes = {"files": str(wanted_source(settings)), "endpoint": endpoint(settings), "mounted at": card.mount_path}
    return Plan(TITLE, changes, blockers, waiting, notes)


Part = tuple[Change | None, Check | None]


def _secret_change(facts: CacheVolumeFacts, settings: Settings) -> Part:
    name = f"{settings.kubernetes.namespace}/{settings.cache.secret}"
    if not _needs_secret(facts) or isinstance(facts.secret_keys, Unknown):
        return None, None
    if settings.cache.access_key_id is None:
        missing = [key for key in SECRET_KEYS if key not in (facts.secret_keys or ())]
        waiting = facts.namespace is False
        if missing:
            return None, None if waiting else _secret_missing(facts, settings, missing)
        return Change(Action.KEEP, "Secret", name, "made by somebody else; its key is not looked at"), None
    hidden = dict.fromkeys(SECRET_KEYS, "(hidden)")
    if facts.secret_keys is None:
        return Change(Action.CREATE, "Secret", name, "from the card's references", yaml_diff(None, hidden, name)), None
    if facts.stale_keys:
        now = {key: text for key, text in hidden.items() if key in facts.secret_keys}
        then = {key: "(hidden, another value)" if key in facts.stale_keys else text for key, text in hidden.items()}
        return Change(
            Action.UPDATE, "Secret", name, "the card's references name another key", yaml_diff(now, then, name)
        ), None
    return Change(Action.KEEP, "Secret", name), None


def _volume_change(facts: CacheVolumeFacts, settings: Settings) -> Part:
    name = settings.cache.volume
    if isinstance(facts.volume, Unknown):
        return None, None
    if facts.volume is None:
        return change_for(persistent_volume(settings), None), None
    if facts.volume["metadata"].get("deletionTimestamp"):
        return None, _leaving("cache-volume", _VOLUME_TITLE, facts.volume)
    live, wanted = source_of(facts.volume), wanted_source(settings)
    kept_for = _claim_of(facts.volume)
    ours = f"{settings.kubernetes.namespace}/{settings.cache.claim}"
    if kept_for not in ("", ours):
        return None, _volume_taken(name, kept_for, settings)
    if _phase(facts.volume) == "Released" or (facts.claim is None and _bound_to_a_ghost(facts.volume)):
        return None, _volume_released(name, ours)
    same = live.data == wanted.data if live.driver == FLEX_DRIVER else live == wanted
    if not same:
        return None, _volume_differs(facts.volume, settings)
    reason = "the article's FlexVolume form, the same files" if live.driver == FLEX_DRIVER else str(live)
    capacity = facts.volume["spec"].get("capacity", {}).get("storage")
    if capacity and _bytes(capacity) != _bytes(settings.cache.size):
        reason += f"; its size {capacity} is kept, OSS does not enforce it"
    return Change(Action.KEEP, "PersistentVolume", name, reason), None


def _bound_to_a_ghost(volume: Manifest) -> bool:
    """Whether a volume remembers the very claim object (by uid) that is no longer there."""
    return bool((volume["spec"].get("claimRef") or {}).get("uid"))


def _claim_change(facts: CacheVolumeFacts, settings: Settings) -> Part:
    name = f"{settings.kubernetes.namespace}/{settings.cache.claim}"
    if isinstance(facts.claim, Unknown):
        return None, None
    if facts.claim is None:
        live = facts.volume if isinstance(facts.volume, dict) else None
        return change_for(persistent_volume_claim(settings, live), None), None
    if facts.claim["metadata"].get("deletionTimestamp"):
        return None, _leaving("cache-claim", _CLAIM_TITLE, facts.claim)
    named = facts.claim.get("spec", {}).get("volumeName")
    if named and named != settings.cache.volume:
        return None, _claim_elsewhere(facts, settings)
    if _phase(facts.claim) == "Bound":
        return Change(Action.KEEP, "PersistentVolumeClaim", name, f"bound to {named}"), None
    if isinstance(facts.volume, dict) and _obstacles(facts.claim, facts.volume, name):
        return None, _claim_stuck(facts, settings)
    return Change(Action.KEEP, "PersistentVolumeClaim", name, f"is {_phase(facts.claim)}, binds to the volume"), None


# -- why a plan stops -----------------------------------------------------------------------------------------


def _unreadable(facts: CacheVolumeFacts) -> list[Check]:
    """What guards a creation must be known: an object that may not be read cannot be told from one that is missing."""
    guarded = {"volume": ("cache-volume", _VOLUME_TITLE), "claim": ("cache-claim", _CLAIM_TITLE)}
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


def _namespace_missing(settings: Settings) -> Check:
    return Check.failed(
        "namespace",
        "The namespace of the job pods is there",
        f"there is no namespace {settings.kubernetes.namespace}",
        expected="the namespace that notebook 20 creates",
        remedy="Run notebook 20 with dry_run = False first.",
    )


def _secret_missing(facts: CacheVolumeFacts, settings: Settings, missing: Sequence[str]) -> Check:
    namespace, name = settings.kubernetes.namespace, settings.cache.secret
    found = "is not there" if facts.secret_keys is None else f"has the keys {', '.join(facts.secret_keys) or 'none'}"  # type: ignore[arg-type]
    return Check.failed(
        "oss-secret",
        _SECRET_TITLE,
        f"Secret {namespace}/{name} {found}; missing: {', '.join(missing)}",
        expected="the keys akId and akSecret, in this spelling",
        remedy=(
            "Name the AccessKey in the card (cache.access_key_id and cache.access_key_secret), or:\n"
            f"kubectl -n {namespace} create secret generic {name} --from-file=akId=FILE --from-file=akSecret=FILE"
        ),
    )


def _volume_differs(volume: Manifest, settings: Settings) -> Check:
    live, wanted = source_of(volume), wanted_source(settings)
    files = (
        "Both show the same files of the bucket."
        if live.data == wanted.data
        else f"The files under {live} stay in their bucket, but jobs would no longer see them: the cache starts empty."
    )
    return Check.failed(
        "cache-volume",
        _VOLUME_TITLE,
        f"volume {_name(volume)} is there, but differs:\n{yaml_diff(live.as_dict(), wanted.as_dict(), _name(volume))}",
        expected="the card's source; Kubernetes cannot change the source of a volume",
        remedy=f"{files}\n{_keeping(volume)}\n{_replacing(settings)}",
    )


def _keeping(volume: Manifest) -> str:
    policy = volume.get("spec", {}).get("persistentVolumeReclaimPolicy")
    return (
        "Its reclaim policy is Retain: deleting the volume deletes no file."
        if policy == "Retain"
        else f"Its reclaim policy is {policy}: before anything else run\n"
        f'kubectl patch pv {_name(volume)} --type merge -p \'{{"spec":{{"persistentVolumeReclaimPolicy":"Retain"}}}}\''
    )


def _replacing(settings: Settings) -> str:
    """How to put a new volume in an old one's place: the files stay in the bucket."""
    return (
        "To keep it, make the card say the same. To replace it, when no job runs:\n"
        f"kubectl -n {settings.kubernetes.namespace} delete pvc {settings.cache.claim}\n"
        f"kubectl delete pv {settings.cache.volume}\n"
        "and run this notebook again; or name a new volume and claim in the card (cache.volume, cache.claim)."
    )


def _volume_taken(name: str, kept_for: str, settings: Settings) -> Check:
    return Check.failed(
        "cache-volume",
        _VOLUME_TITLE,
        f"volume {name} is kept for claim {kept_for}",
        expected=f"kept for {settings.kubernetes.namespace}/{settings.cache.claim}, or for none",
        remedy="A volume serves one claim for life. Name another volume in cache.volume (it may show the same bucket),\n"
        "or, if that claim is the cache, name it in cache.claim and its namespace in kubernetes.namespace.",
    )


def _volume_released(name: str, claim: str) -> Check:
    patch = '{"spec":{"claimRef":{"uid":null,"resourceVersion":null}}}'
    return Check.failed(
        "cache-volume",
        _VOLUME_TITLE,
        f"volume {name} is Released: claim {claim}, to which it was bound, was deleted, and it waits for nobody else",
        expected="Available",
        remedy=f"Its files are still in the bucket. To let the new claim have it:\nkubectl patch pv {name} --type merge -p '{patch}'",
    )


def _leaving(id: str, title: str, manifest: Manifest) -> Check:
    return Check.failed(
        id,
        title,
        f"{_name(manifest)} is being deleted",
        expected="one that stays, or none",
        remedy="Wait until it is gone, then run this notebook again. A claim goes when no pod uses it any more,\n"
        "a volume when its claim is gone.",
    )


def _claim_elsewhere(facts: CacheVolumeFacts, settings: Settings) -> Check:
    assert isinstance(facts.claim, dict)
    bound = facts.claim["spec"]["volumeName"]
    other = source_of(facts.claimed_volume) if isinstance(facts.claimed_volume, dict) else None
    same = other is not None and other.data == wanted_source(settings).data
    return Check.failed(
        "cache-claim",
        _CLAIM_TITLE,
        f"{_name(facts.claim)} is {_phase(facts.claim)} on volume {bound}" + (f", {other}" if other else ""),
        expected=f"volume {settings.cache.volume}, {wanted_source(settings)}",
        remedy=(
            f"That volume shows the same files: set cache.volume: {bound} in the card."
            if same
            else "A claim cannot change its volume. Name another claim in cache.claim; or, if its files are not needed by\n"
            f"any job: kubectl -n {settings.kubernetes.namespace} delete pvc {settings.cache.claim}"
        ),
    )


def _claim_stuck(facts: CacheVolumeFacts, settings: Settings) -> Check:
    return Check.failed(
        "cache-claim",
        _CLAIM_TITLE,
        "\n".join([f"{settings.cache.claim} is Pending, and cannot bind:", *why_pending(facts, settings)]),
        expected=f"a claim that fits volume {settings.cache.volume}",
        remedy="No file hangs on a claim that never bound. Delete it and run this notebook again:\n"
        f"kubectl -n {settings.kubernetes.namespace} delete pvc {settings.cache.claim}",
    )


# -- apply ----------------------------------------------------------------------------------------------------


def apply(
    plan: Plan, cluster: Cluster, settings: Settings, *, dry_run: bool, timeout: float = BINDING_TIMEOUT
) -> Report:
    """Carry the plan out and wait until the claim is bound, or let the server rehearse it. `timeout` is seconds."""
    if plan.blockers or plan.waiting_for:
        return plan.report(dry_run=dry_run)
    if any(change.kind == "Secret" for change in plan.pending):
        cluster.apply(_secret_manifest(settings, cluster), dry_run=dry_run)
    cluster.carry_out(plan, dry_run=dry_run)
    if not dry_run and settings.cache.enabled:
        _wait_until_bound(cluster, settings, timeout)
    return plan.report(judge(look(cluster, settings), settings).checks, dry_run=dry_run)


def _secret_manifest(settings: Settings, cluster: Cluster) -> Manifest:
    """The Secret with its values: made when it is sent, so that no plan holds them."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": settings.cache.secret, "namespace": settings.kubernetes.namespace},
        "type": secret_type(settings),
        "data": {key: _encoded(value) for key, value in _access_key(settings, cluster).items()},
    }


def _wait_until_bound(cluster: Cluster, settings: Settings, timeout: float) -> None:
    """Wait for the claim; whether it is bound, and why not, is said by `judge` afterwards."""
    card = settings.cache
    try:
        wait_for(
            lambda: cluster.get("PersistentVolumeClaim", card.claim, settings.kubernetes.namespace) or {},
            lambda claim: _phase(claim) == "Bound",
            what="the claim is bound",
            timeout=timeout,
            clock=cluster.clock,
            progress=lambda claim: f"claim {card.claim} is {_phase(claim)}",
        )
    except TimedOut:
        return
