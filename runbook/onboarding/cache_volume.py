"""Notebook 30: the build cache, an OSS bucket that job pods mount through a PersistentVolume and its claim.

A volume that is there already and shows the same files is kept, the article's FlexVolume form too. One that differs
is never touched: Kubernetes cannot change a volume's source, and this module says what replacing it would mean.
A static claim binds even with a wrong key or bucket; `probe` (in `cache_probe`) is what finds those.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from runbook.clients import secrets
from runbook.errors import TimedOut
from runbook.moments import wait_for
from runbook.onboarding import cache_volume_stops as stops
from runbook.onboarding.cache_probe import probe
from runbook.onboarding.cache_volume_facts import (
    CacheVolumeFacts,
    bytes_of,
    claim_of,
    name_of,
    obstacles,
    on_volume,
    phase_of,
    why_pending,
)
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
from runbook.report import Check, Report, Unknown
from runbook.settings import Settings

__all__ = ["CacheVolumeFacts", "apply", "judge", "look", "plan", "probe", "why_pending"]

if TYPE_CHECKING:
    from runbook.clients.kubernetes import Cluster

TITLE = "Cache volume"
BINDING_TIMEOUT = 60.0
"""Seconds that a static claim may take to bind; the controller needs one or two."""


# -- look -----------------------------------------------------------------------------------------------------


def look(cluster: Cluster, settings: Settings) -> CacheVolumeFacts:
    """Read the namespace, the volume, the claim with its events, and the Secret's key names.

    Raises SecretError where the card's references to the AccessKey name nothing.
    """
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
    access_key = _access_key(settings, cluster)
    return CacheVolumeFacts(
        namespace=there,
        volume=volume,
        claim=claim,
        claimed_volume=known(lambda: _shown(cluster.get("PersistentVolume", elsewhere))) if elsewhere else None,
        secret_keys=_key_names(secret),
        stale_keys=_stale(secret, access_key) if isinstance(secret, dict) else (),
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
        return Report(TITLE, [Check.skipped("cache-volume", stops.VOLUME_TITLE, "cache.enabled is false")])
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
        return Check.skipped("cache-volume", stops.VOLUME_TITLE, str(facts.volume))
    if facts.volume is None:
        return Check.skipped("cache-volume", stops.VOLUME_TITLE, "not there yet")
    source = source_of(facts.volume)
    if source.inline_key:
        return Check.warned(
            "cache-volume",
            stops.VOLUME_TITLE,
            f"{source}; its AccessKey stands in the volume, where everybody who may read volumes can read it",
            expected=f"the AccessKey in Secret {settings.kubernetes.namespace}/{settings.cache.secret}",
            remedy=stops.replacing(settings),
        )
    if source.driver == FLEX_DRIVER:
        return Check.warned(
            "cache-volume",
            stops.VOLUME_TITLE,
            f"{source}; kept, but FlexVolume is deprecated since Kubernetes 1.20",
            expected="the CSI driver",
            remedy=stops.replacing(settings),
        )
    return Check.passed("cache-volume", stops.VOLUME_TITLE, str(source))


def _secret_check(facts: CacheVolumeFacts, settings: Settings) -> Check:
    if not needs_secret(facts):
        return Check.passed("oss-secret", stops.SECRET_TITLE, "not needed: the volume holds its own AccessKey")
    if isinstance(facts.secret_keys, Unknown):
        return Check.skipped("oss-secret", stops.SECRET_TITLE, str(facts.secret_keys))
    missing = [key for key in SECRET_KEYS if key not in (facts.secret_keys or ())]
    if not missing:
        return Check.passed(
            "oss-secret", stops.SECRET_TITLE, "akId and akSecret are there; only a probe shows that they fit"
        )
    if settings.cache.access_key_id:
        return Check.skipped("oss-secret", stops.SECRET_TITLE, "not there yet")
    return stops.secret_missing(facts, settings, missing)


def needs_secret(facts: CacheVolumeFacts) -> bool:
    return not (isinstance(facts.volume, dict) and source_of(facts.volume).inline_key)


def _claim_check(facts: CacheVolumeFacts, settings: Settings) -> Check:
    if isinstance(facts.claim, Unknown):
        return Check.skipped("cache-claim", stops.CLAIM_TITLE, str(facts.claim))
    if facts.claim is None:
        return Check.skipped("cache-claim", stops.CLAIM_TITLE, "not there yet")
    volume = facts.claim.get("spec", {}).get("volumeName")
    if phase_of(facts.claim) == "Bound" and volume == settings.cache.volume:
        return Check.passed("cache-claim", stops.CLAIM_TITLE, f"{name_of(facts.claim)} is bound to {volume}")
    return Check.failed(
        "cache-claim",
        stops.CLAIM_TITLE,
        "\n".join(
            [
                f"{name_of(facts.claim)} is {phase_of(facts.claim)}{on_volume(facts.claim)}",
                *why_pending(facts, settings),
            ]
        ),
        expected=f"Bound to {settings.cache.volume}",
        remedy=f"kubectl -n {settings.kubernetes.namespace} describe pvc {settings.cache.claim}",
    )


# -- plan -----------------------------------------------------------------------------------------------------


def plan(facts: CacheVolumeFacts, settings: Settings) -> Plan:
    """What would be created; what is there is kept or stops the plan, nothing is ever changed in place. Pure."""
    card = settings.cache
    if not card.enabled:
        return Plan(TITLE, (), notes={"cache": "cache.enabled is false: job pods get no cache volume"})
    waiting = f"notebook 20 (namespace {settings.kubernetes.namespace})" if facts.namespace is False else ""
    blockers = [check for check in judge(facts, settings).failures if check.id == "oss-endpoint"]
    blockers += stops.unreadable(facts)
    if waiting and not settings.dry_run:
        blockers.append(stops.namespace_missing(settings))
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
    if not needs_secret(facts) or isinstance(facts.secret_keys, Unknown):
        return None, None
    if settings.cache.access_key_id is None:
        missing = [key for key in SECRET_KEYS if key not in (facts.secret_keys or ())]
        waiting = facts.namespace is False
        if missing:
            return None, None if waiting else stops.secret_missing(facts, settings, missing)
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
        return None, stops.leaving("cache-volume", stops.VOLUME_TITLE, facts.volume)
    live, wanted = source_of(facts.volume), wanted_source(settings)
    kept_for = claim_of(facts.volume)
    ours = f"{settings.kubernetes.namespace}/{settings.cache.claim}"
    if kept_for not in ("", ours):
        return None, stops.volume_taken(name, kept_for, settings)
    if phase_of(facts.volume) == "Released" or (facts.claim is None and _bound_to_a_ghost(facts.volume)):
        return None, stops.volume_released(name, ours)
    same = live.data == wanted.data if live.driver == FLEX_DRIVER else live == wanted
    if not same:
        return None, stops.volume_differs(facts.volume, settings)
    reason = "the article's FlexVolume form, the same files" if live.driver == FLEX_DRIVER else str(live)
    capacity = facts.volume["spec"].get("capacity", {}).get("storage")
    if capacity and bytes_of(capacity) != bytes_of(settings.cache.size):
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
        return None, stops.leaving("cache-claim", stops.CLAIM_TITLE, facts.claim)
    named = facts.claim.get("spec", {}).get("volumeName")
    if named and named != settings.cache.volume:
        return None, stops.claim_elsewhere(facts, settings)
    if phase_of(facts.claim) == "Bound":
        return Change(Action.KEEP, "PersistentVolumeClaim", name, f"bound to {named}"), None
    if isinstance(facts.volume, dict) and obstacles(facts.claim, facts.volume, name):
        return None, stops.claim_stuck(facts, settings)
    return Change(Action.KEEP, "PersistentVolumeClaim", name, f"is {phase_of(facts.claim)}, binds to the volume"), None


# -- apply ----------------------------------------------------------------------------------------------------


def apply(
    plan: Plan, cluster: Cluster, settings: Settings, *, dry_run: bool, timeout: float = BINDING_TIMEOUT
) -> Report:
    """Carry the plan out and wait until the claim is bound, or let the server rehearse it. `timeout` is seconds."""
    if plan.blockers or plan.waiting_for:
        return plan.report(dry_run=dry_run)
    for change in plan.pending:
        if change.kind == "Secret":
            _write_secret(change.action, cluster, settings, dry_run=dry_run)
    cluster.carry_out(plan, dry_run=dry_run)
    if not dry_run and settings.cache.enabled:
        _wait_until_bound(cluster, settings, timeout)
    return plan.report(judge(look(cluster, settings), settings).checks, dry_run=dry_run)


def _write_secret(action: Action, cluster: Cluster, settings: Settings, *, dry_run: bool) -> None:
    """Send the AccessKey, read only now, so that no plan holds it. The keys and the type of a Secret that is there stay."""
    name, namespace = settings.cache.secret, settings.kubernetes.namespace
    data = {key: _encoded(value) for key, value in _access_key(settings, cluster).items()}
    if action is Action.UPDATE:
        cluster.patch("Secret", name, {"data": data}, namespace, dry_run=dry_run)
        return
    metadata = {"name": name, "namespace": namespace}
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": secret_type(settings), "data": data}
    cluster.create(manifest, dry_run=dry_run)


def _wait_until_bound(cluster: Cluster, settings: Settings, timeout: float) -> None:
    """Wait for the claim; whether it is bound, and why not, is said by `judge` afterwards."""
    card = settings.cache
    try:
        wait_for(
            lambda: cluster.get("PersistentVolumeClaim", card.claim, settings.kubernetes.namespace) or {},
            lambda claim: phase_of(claim) == "Bound",
            what="the claim is bound",
            timeout=timeout,
            clock=cluster.clock,
            progress=lambda claim: f"claim {card.claim} is {phase_of(claim)}",
        )
    except TimedOut:
        return
