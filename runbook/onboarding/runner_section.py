"""The runner's `[[runners]]` section: which one of a config.toml is ours, what the card wants in it, and how it gets there.

A key that the card has a field for follows the card: what the card leaves out is taken out of the file. Every other key of the section,
and every comment, is the file's own and stays.

The section is known again by what survives gitlab-runner's own rewriting of the file, which drops comments and unknown keys: by the
annotation `ci-cluster-card` that its pods bear, by its token, or by its runner's id and address.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runbook.eci import charges, specs
from runbook.eci import vocabulary as eci
from runbook.eci.quote import Quote
from runbook.quantities import Size
from runbook.runner import job_marks, keys, pods
from runbook.runner.config_toml import SERVICE_HOST, Document, Runner
from runbook.runner.toml_statements import Path
from runbook.runner.version import Version
from runbook.settings import ClusterKind, Settings, Spot

CLAIMS = ("kubernetes", "volumes", "pvc")
MARK = ("kubernetes", "pod_annotations", job_marks.CARD)

_REQUESTS = {"build": "", "service": "service_", "helper": "helper_"}
_SPOT = (eci.SPOT_STRATEGY, eci.SPOT_PRICE_LIMIT, eci.SPOT_DURATION, eci.SPOT_FALLBACK)

FOLLOWS_CARD: tuple[tuple[str, ...], ...] = (
    ("limit",),
    ("clone_url",),
    ("tls-ca-file",),
    *(("kubernetes", key) for key in ("host", "ca_file", "bearer_token", "helper_image")),
    *(("kubernetes", f"{prefix}{part}_request") for prefix in _REQUESTS.values() for part in ("cpu", "memory")),
    *(("kubernetes", "pod_annotations", key) for key in (*_SPOT, eci.USE_SPECS, eci.COMPUTE_CATEGORY, eci.CUSTOM_TAGS)),
    ("kubernetes", "pod_labels", eci.LABEL_ECI),
)
"""The keys that are taken out where the card has no value for them; an empty text counts as not there."""


@dataclass(frozen=True)
class Wiring:
    """What the section needs and the card only points to. Secrets are never shown."""

    version: Version
    url: str
    """GitLab as the runner's host sees it."""
    token: str = field(repr=False)
    runner_id: int | None = None
    host: str | None = None
    """The API server as the runner's host sees it; None leaves the way there to that host's kubeconfig."""
    ca_file: str | None = None
    clone_url: str | None = None
    """GitLab as job pods see it, where that is another address."""
    bearer_token: str | None = field(default=None, repr=False)
    needs_eci_label: bool = False
    """Whether pods go to ECI only with a label, because the cluster has ECS nodes too."""


def wanted(settings: Settings, wiring: Wiring) -> dict[str, Any]:
    """The section as the card wants it, in the order in which a new one is written; only keys that the runner's version knows."""
    card = settings
    values: dict[str, Any] = {
        "name": card.runner.description,
        "url": wiring.url,
        "id": wiring.runner_id,
        "token": wiring.token,
        "executor": "kubernetes",
        "limit": card.config.limit or None,
        "environment": [_service_host()] if card.pods.service_host else None,
        "clone_url": wiring.clone_url,
        "tls-ca-file": card.gitlab.tls_ca_file,
        "kubernetes": {
            "host": wiring.host,
            "ca_file": wiring.ca_file,
            "bearer_token": wiring.bearer_token,
            "namespace": card.kubernetes.namespace,
            "image": card.pods.image,
            "helper_image": card.pods.helper_image,
            "pull_policy": card.pods.pull_policy,
            **_requests(card),
            "poll_timeout": card.pods.poll_timeout,
            "cleanup_grace_period_seconds": card.pods.cleanup_grace_seconds,
            "pod_labels": _labels(card, wiring),
            "pod_annotations": _annotations(card),
            "volumes": {"pvc": _claims(card)} if card.cache.enabled else None,
        },
    }
    return keys.for_version(_without_nothing(values), wiring.version, keys.RUNNER)


def left_out(settings: Settings, wiring: Wiring, newest: Version) -> list[str]:
    """The keys that the card wants and this version does not know: `id (since 15.3)`."""
    kept = dict(_leaves(wanted(settings, wiring)))
    full = dict(_leaves(wanted(settings, _with_version(wiring, newest))))
    missing = [path for path in full if path not in kept]
    rows = {".".join(path): keys.find(path, keys.RUNNER) for path in missing}
    return [f"{name} ({row.versions})" if row else name for name, row in rows.items()]


def ours(document: Document, settings: Settings, *, url: str, token: str | None, runner_id: int | None) -> list[Runner]:
    """The sections that are this card's: by our mark, the runner's token, or its id and address."""
    return [
        runner
        for runner in document.runners
        if runner.get(*MARK) == settings.name
        or (token and runner.get("token") == token)
        or (runner_id and runner.get("id") == runner_id and same_address(str(runner.get("url") or ""), url))
    ]


def namesakes(document: Document, settings: Settings, found: list[Runner]) -> list[Runner]:
    """Sections of the same name for the Kubernetes executor that are not ours."""
    name = settings.runner.description
    return [
        runner
        for runner in document.runners
        if runner not in found and runner.name == name and runner.get("executor") == "kubernetes"
    ]


def same_address(one: str, other: str) -> bool:
    return one.rstrip("/") == other.rstrip("/")


def placed(document: Document, section: Runner | None, values: Mapping[str, Any], settings: Settings) -> Document:
    """The document with these values in the section, key by key; a new section at its end where there is none.

    A section without `id`, or without the card's default of the clean-up grace, stays without: it was written for a version that
    does not know the key, and that a newer one turned out to read it must not make the second run change what the first one wrote.
    """
    if section is None:
        return document.with_element(("runners",), values)
    root = section.path
    leaves = dict(_leaves(values))
    for path in _only_when_new(settings):
        if section.get(*path) is None:
            leaves.pop(path, None)
    for path, value in leaves.items():
        if path == ("environment",):
            document = document.with_text_in_array((*root, *path), value[0], instead_of=f"{SERVICE_HOST}=")
        elif path == CLAIMS:
            document = _with_claim(document, root, value[0])
        elif path != ("url",) or not same_address(str(section.get("url") or ""), value):
            document = document.with_value((*root, *path), value)
    for path in FOLLOWS_CARD:
        if path not in leaves and section.get(*path) not in (None, ""):
            document = document.without((*root, *path))
    if not settings.pods.service_host:
        document = _without_service_host(document, root)
    if not settings.cache.enabled:
        document = _without_claim(document, root, settings.cache.claim)
    return document


def with_concurrent(document: Document, settings: Settings) -> Document:
    """The global `concurrent`: the card's, else raised to the card's limit where it is lower, and never 0 (gitlab-runner refuses 0)."""
    present = document.get(("concurrent",))
    lowest = max(settings.config.limit, 1)
    value = settings.config.concurrent or max(present if isinstance(present, int) else 0, lowest)
    return document.with_value(("concurrent",), value)


def price_of(section: Mapping[str, Any], services: Sequence[str], version: Version, settings: Settings) -> str:
    """What a job pod of this section requests, the spec that is billed for it, and its list price an hour; `services` are images.

    Raises SpecError for what ECI would refuse.
    """
    pod = pods.job_pod(section, pods.sample_job(services=services), version)
    found = specs.for_pod(pod, region=settings.region)
    quote = Quote((), found, charges.list_price(found, site=settings.site), settings.site)
    return f"{quote.headline} ({found.rule})" + (f" {quote.price.reason}" if quote.price.reason else "")


# -- parts of the section


def _only_when_new(settings: Settings) -> list[tuple[str, ...]]:
    grace = settings.pods.cleanup_grace_seconds
    by_default = grace == type(settings.pods).model_fields["cleanup_grace_seconds"].default
    return [("id",), *([("kubernetes", "cleanup_grace_period_seconds")] if by_default else [])]


def _service_host() -> str:
    return f"{SERVICE_HOST}=127.0.0.1"


def _requests(card: Settings) -> dict[str, str | None]:
    """Requests by container; none where explicit specs replace them."""
    rows: dict[str, str | None] = {}
    for container, prefix in _REQUESTS.items():
        text = getattr(card.pods, container)
        requests = Size.parse(text).requests if text and not card.pods.specs else {}
        rows |= {f"{prefix}{part}_request": requests.get(part) for part in ("cpu", "memory")}
    return rows


def _labels(card: Settings, wiring: Wiring) -> dict[str, str]:
    eci_label = {eci.LABEL_ECI: "true"} if wiring.needs_eci_label else {}
    return {**job_marks.LABELS, **eci_label, **card.pods.labels}


def _annotations(card: Settings) -> dict[str, str | None]:
    pods = card.pods
    return {
        job_marks.CARD: card.name,
        **job_marks.ANNOTATIONS,
        eci.USE_SPECS: ",".join(pods.specs) or None,
        eci.COMPUTE_CATEGORY: "economy" if pods.economy else None,
        **(_spot(pods.spot) if pods.spot else {}),
        eci.MAX_PENDING_MINUTE: str(pods.max_pending_minutes),
        eci.CUSTOM_TAGS: ",".join(f"{key}:{value}" for key, value in pods.custom_tags.items()) or None,
        **pods.annotations,
    }


def _spot(spot: Spot) -> dict[str, str | None]:
    return {
        eci.SPOT_STRATEGY: spot.strategy,
        eci.SPOT_PRICE_LIMIT: f"{spot.price_limit:.3f}" if spot.price_limit else None,
        eci.SPOT_DURATION: str(spot.duration),
        eci.SPOT_FALLBACK: "true" if spot.fallback else "false",
    }


def _claims(card: Settings) -> list[dict[str, str]]:
    return [{"name": card.cache.claim, "mount_path": card.cache.mount_path}]


def needs_eci_label(settings: Settings, nodes: list[dict[str, Any]] | None) -> bool:
    """Whether the label is written: by the card's kind, else by whether any node is not virtual. Unread nodes (None): yes, it does no harm."""
    if settings.kubernetes.kind is not ClusterKind.AUTO:
        return settings.kubernetes.kind is ClusterKind.ACK
    return nodes is None or any(not _is_virtual(node) for node in nodes)


def _is_virtual(node: Mapping[str, Any]) -> bool:
    metadata = node.get("metadata", {})
    labels = metadata.get("labels") or {}
    by_label = labels.get(eci.NODE_LABEL_TYPE) == eci.NODE_LABEL_TYPE_VALUE
    return by_label or str(metadata.get("name", "")).startswith(eci.NODE_NAME_PREFIX)


# -- how it gets into the document


def _with_claim(document: Document, root: Path, claim: Mapping[str, str]) -> Document:
    place = (*root, *CLAIMS)
    for number, present in enumerate(document.get(place) or []):
        if claim["mount_path"] == present.get("mount_path") or claim["name"] == present.get("name"):
            for key, value in claim.items():
                document = document.with_value((*place, number, key), value)
            return document
    return document.with_element(place, claim)


def _without_claim(document: Document, root: Path, name: str) -> Document:
    place = (*root, *CLAIMS)
    found = [number for number, claim in enumerate(document.get(place) or []) if claim.get("name") == name]
    return document.without((*place, found[0])) if found else document


def _without_service_host(document: Document, root: Path) -> Document:
    present = document.get((*root, "environment"))
    if not isinstance(present, list) or _service_host() not in present:
        return document
    return document.with_value((*root, "environment"), [item for item in present if item != _service_host()])


def _leaves(values: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value with its path; lists count as values."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key), value


def _without_nothing(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without the keys whose value is None."""
    return {
        key: _without_nothing(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
        if value is not None
    }


def _with_version(wiring: Wiring, version: Version) -> Wiring:
    return Wiring(**{**vars(wiring), "version": version})
