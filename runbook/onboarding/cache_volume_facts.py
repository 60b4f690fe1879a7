"""What the cluster has for the cache, as a value, and why a claim does not bind. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from runbook import html, quantities
from runbook.errors import QuantityError
from runbook.onboarding.oss_volume import Manifest, source_of
from runbook.report import Unknown, text_pairs
from runbook.settings import Settings


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
            "volume": _told(self.volume, lambda it: f"{name_of(it)}: {source_of(it)}, {phase_of(it)}"),
            "claim": _told(self.claim, lambda it: f"{name_of(it)}: {phase_of(it)}{on_volume(it)}"),
            "Secret": _told(self.secret_keys, lambda keys: f"keys {', '.join(keys) or 'none'}"),
            **({"events": "\n".join(self.events)} if self.events else {}),
        }

    def __str__(self) -> str:
        return text_pairs("Cache volume", self.summary())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html.block(html.pairs(self.summary()))


def _plain(value: object) -> object:
    if isinstance(value, Unknown):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _told(value: Any, words: Any) -> str:
    if value is None:
        return "not there"
    return str(value) if isinstance(value, Unknown) else str(words(value))


def name_of(manifest: Manifest) -> str:
    """Its `metadata.name`."""
    return str(manifest["metadata"]["name"])


def phase_of(manifest: Manifest) -> str:
    """Its `status.phase`: Pending, Bound, Available, Released, …"""
    return str(manifest.get("status", {}).get("phase", "no phase yet"))


def on_volume(claim: Manifest) -> str:
    """`, on volume X` for a claim that names one."""
    volume = claim.get("spec", {}).get("volumeName")
    return f", on volume {volume}" if volume else ""


def claim_of(volume: Manifest) -> str:
    """The claim that a volume is kept for or bound to, NAMESPACE/NAME, or empty."""
    reference = volume.get("spec", {}).get("claimRef") or {}
    return f"{reference.get('namespace')}/{reference.get('name')}" if reference else ""


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
        reasons = obstacles(facts.claim, volume, f"{settings.kubernetes.namespace}/{settings.cache.claim}")
    return [*reasons, *(f"the cluster says: {event}" for event in facts.events[-2:])]


def obstacles(claim: Manifest, volume: Manifest, claim_name: str) -> list[str]:
    """What a claim asks for and a volume does not give, in the order in which the binder looks."""
    asks, gives, name = claim.get("spec", {}), volume.get("spec", {}), name_of(volume)
    kept_for = claim_of(volume)
    found = []
    if kept_for and kept_for != claim_name:
        found.append(f"volume {name} is kept for claim {kept_for}")
    elif phase_of(volume) == "Released":
        found.append(f"volume {name} is Released: it still remembers a deleted claim of this name")
    elif phase_of(volume) == "Failed":
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
    if size and capacity and bytes_of(size) > bytes_of(capacity):
        found.append(f"the claim asks for {size}, volume {name} has {capacity}")
    if lacking := [mode for mode in asks.get("accessModes") or [] if mode not in (gives.get("accessModes") or [])]:
        found.append(
            f"the claim asks for {', '.join(lacking)}, volume {name} allows {', '.join(gives.get('accessModes') or [])}"
        )
    return found


def _pairs(labels: dict[str, str]) -> str:
    return ", ".join(f"{key}={text}" for key, text in labels.items())


def bytes_of(size: str) -> int:
    """Bytes of a Kubernetes quantity."""
    try:
        return quantities.memory(size)
    except QuantityError:
        return 0  # the API server has accepted it, so it is no reason of ours
