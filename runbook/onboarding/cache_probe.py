"""One pod that writes, reads and deletes one file on the cache volume: the proof that bucket, key and endpoint fit.

Asked for by a parameter of notebook 30, because it starts one ECI instance of the smallest spec for some seconds.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from runbook.eci import vocabulary
from runbook.errors import KubernetesError, TimedOut
from runbook.moments import wait_for
from runbook.report import Check, Report
from runbook.settings import Settings

if TYPE_CHECKING:
    from runbook.clients.kubernetes import Cluster

TITLE = "Cache probe"
TIMEOUT = 300.0
"""Seconds for scheduling, image pull and mount; an uncached image takes ECI a minute or more."""

PATIENCE = 15.0
"""Seconds after a first FailedMount in which the pod may still start: a mount is tried again."""

CHECK_TITLE = "A pod writes, reads and deletes a file on the cache"
_SAID = "written, read and deleted"
_SCRIPT = (
    """set -e
file={path}/.runbook-probe-$HOSTNAME
echo cache > "$file"
[ "$(cat "$file")" = cache ]
rm "$file"
[ ! -e "$file" ]
echo """
    + f'"{_SAID}"'
)

CAUSES = (
    ("NoSuchBucket", "The bucket does not exist in the region of the endpoint: check cache.bucket and cache.endpoint."),
    (
        "InvalidAccessKeyId",
        "OSS does not know the AccessKey id: check what cache.access_key_id names, then run this again.",
    ),
    (
        "SignatureDoesNotMatch",
        "The AccessKey secret does not belong to the id: check what cache.access_key_secret names.",
    ),
    (
        "AccessDenied",
        "The AccessKey may not use the bucket: give its RAM user oss:GetObject, PutObject, DeleteObject, ListObjects.",
    ),
    ("akId", "The Secret lacks akId or akSecret: check its keys and their spelling."),
    ("secret", "The Secret of the volume cannot be read: check cache.secret and its namespace."),
    (
        "not found in the list of registered CSI drivers",
        "The cluster has no OSS CSI driver: install csi-plugin, or see cache.driver.",
    ),
    (
        "ImagePull",
        "The image cannot be pulled, so the mount was not tried: see pods.image, and notebook 70 for the way out of the VPC.",
    ),
    ("timed out", "The endpoint cannot be reached from the pod's VPC: check cache.endpoint and the region."),
)
"""Part of a mount's error, and what it means; the first that is found counts."""


@dataclass(frozen=True)
class ProbeState:
    """What is seen of the probe's pod. `warnings` are the messages of its warning events, newest last."""

    phase: str
    warnings: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        return self.phase in ("Succeeded", "Failed", "gone")

    @property
    def stuck(self) -> bool:
        """Whether a warning says that it cannot start; what is tried again may still succeed."""
        return any(word in text for text in self.warnings for word in ("FailedMount", "ImagePull"))

    def __str__(self) -> str:
        return f"probe pod is {self.phase}" + (f"; {self.warnings[-1]}" if self.warnings else "")


def probe(cluster: Cluster, settings: Settings, *, wanted: bool, timeout: float = TIMEOUT) -> Report:
    """Run the probe pod, wait for its end (`timeout` seconds), delete it, and say what it showed."""
    if not wanted:
        return _skipped("not asked for: run with probe = True for the proof that key, bucket and endpoint fit")
    if settings.dry_run:
        return _skipped("dry run: the probe needs a pod")
    if not settings.cache.enabled:
        return _skipped("cache.enabled is false")
    namespace = settings.kubernetes.namespace
    manifest = pod(settings, name=f"cache-probe-{uuid.uuid4().hex[:8]}")
    name = manifest["metadata"]["name"]
    cluster.create(manifest, dry_run=False)
    try:
        state = _wait(cluster, settings, name, timeout)
        said = _log(cluster, name, namespace) if state.phase in ("Succeeded", "Failed") else ""
    finally:
        cluster.delete("Pod", name, namespace, dry_run=False, grace=0)
    return Report(TITLE, [judge(state, said, settings)])


def judge(state: ProbeState, said: str, settings: Settings) -> Check:
    """What the probe showed. `said` is its log. Pure."""
    if state.phase == "Succeeded" and _SAID in said:
        return Check.passed("cache-probe", CHECK_TITLE, f"{settings.cache.mount_path}: {_SAID}")
    if state.phase == "Pending" or not said:
        return Check.failed(
            "cache-probe",
            CHECK_TITLE,
            "\n".join([f"the pod is {state.phase}", *state.warnings]),
            expected="a mounted volume",
            remedy=explain(state.warnings),
        )
    return Check.failed(
        "cache-probe",
        CHECK_TITLE,
        f"the volume is mounted, but: {said.strip()[-500:]}",
        expected=_SAID,
        remedy="Check that the AccessKey may write to the bucket, and the mount options in cache.options (allow_other, umask).",
    )


def explain(warnings: Sequence[str]) -> str:
    """What the events of a pod that does not start mean for the cache."""
    for text in reversed(warnings):
        for part, meaning in CAUSES:
            if part in text:
                return meaning
    return "Look at the pod's events above; if there are none, the pod found no instance: see notebook 70."


def pod(settings: Settings, *, name: str) -> dict[str, Any]:
    """The probe's pod: the smallest ECI instance, the job image, the claim at the card's mount path."""
    card = settings.cache
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": settings.kubernetes.namespace,
            "labels": {"app.kubernetes.io/managed-by": "runbook", vocabulary.LABEL_ECI: "true"},
        },
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": int(TIMEOUT),
            "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": "probe",
                    "image": settings.pods.image,
                    "command": ["sh", "-c", _SCRIPT.format(path=card.mount_path)],
                    "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}},
                    "volumeMounts": [{"name": "cache", "mountPath": card.mount_path}],
                }
            ],
            "volumes": [{"name": "cache", "persistentVolumeClaim": {"claimName": card.claim}}],
        },
    }


def _skipped(reason: str) -> Report:
    return Report(TITLE, [Check.skipped("cache-probe", CHECK_TITLE, reason)])


def _wait(cluster: Cluster, settings: Settings, name: str, timeout: float) -> ProbeState:
    """The pod's last state: at its end, `PATIENCE` seconds after it got stuck, or when the time is over."""
    seen = ProbeState("not seen")
    stuck_since: datetime | None = None

    def look() -> ProbeState:
        nonlocal seen, stuck_since
        seen = _state(cluster, settings.kubernetes.namespace, name)
        stuck_since = (stuck_since or cluster.clock.now()) if seen.stuck else None
        return seen

    def done(state: ProbeState) -> bool:
        waited = (cluster.clock.now() - stuck_since).total_seconds() if stuck_since else 0
        return state.ended or waited >= PATIENCE

    try:
        return wait_for(look, done, what="the probe has ended", timeout=timeout, clock=cluster.clock, progress=str)
    except TimedOut:
        return seen


def _state(cluster: Cluster, namespace: str, name: str) -> ProbeState:
    live = cluster.get("Pod", name, namespace)
    events = cluster.list("Event", namespace, fields=f"involvedObject.kind=Pod,involvedObject.name={name}")
    warnings = tuple(
        f"{event.get('reason')}: {event.get('message')}" for event in events if event.get("type") == "Warning"
    )
    return ProbeState((live or {}).get("status", {}).get("phase", "gone"), warnings)


def _log(cluster: Cluster, name: str, namespace: str) -> str:
    try:
        return cluster.logs(name, namespace, "probe")
    except KubernetesError as error:
        return f"its log cannot be read: {error.problem}"
