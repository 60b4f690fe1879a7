"""What the notebooks need the account to be allowed, one row a right, with its reason."""

from __future__ import annotations

from dataclasses import dataclass

from runbook.clients.kubernetes import KINDS
from runbook.clients.permissions import Permission
from runbook.onboarding import role
from runbook.settings import Settings


@dataclass(frozen=True)
class Need:
    """One right that a notebook needs, and why. `scope` is namespace (of the job pods) or cluster."""

    notebook: str
    verbs: tuple[str, ...]
    kind: str
    scope: str
    reason: str
    subresource: str = ""

    def permissions(self, namespace: str) -> list[Permission]:
        kind = KINDS[self.kind]
        where = namespace if self.scope == "namespace" else None
        return [Permission(verb, kind.plural, kind.group, self.subresource, where) for verb in self.verbs]


WRITE = ("get", "create", "patch")
"""A server-side apply is a patch, and a create where there is nothing yet."""

NEEDS = (
    Need("10-check-connection", ("list",), "Node", "cluster", "virtual nodes and their zones"),
    Need("20-grant-access", WRITE, "Namespace", "cluster", "the namespace of the job pods"),
    Need("20-grant-access", WRITE, "ServiceAccount", "namespace", "the runner's account"),
    Need("20-grant-access", WRITE, "Role", "namespace", "what the runner may do"),
    Need("20-grant-access", WRITE, "RoleBinding", "namespace", "gives the Role to the account"),
    Need("20-grant-access", WRITE, "Secret", "namespace", "the account's token"),
    Need("30-create-cache-volume", WRITE, "PersistentVolume", "cluster", "the cache bucket"),
    Need("30-create-cache-volume", WRITE, "PersistentVolumeClaim", "namespace", "its claim"),
    Need("30-create-cache-volume", WRITE, "Secret", "namespace", "the bucket's AccessKey"),
    Need("30-create-cache-volume", ("list",), "Event", "namespace", "why a claim stays Pending"),
    Need(
        "30-create-cache-volume",
        ("get", "create", "delete"),
        "Pod",
        "namespace",
        "the probe that writes and reads a file",
    ),
    Need("30-create-cache-volume", ("get",), "Pod", "namespace", "what the probe found", subresource="log"),
    Need("50-configure-runner", ("list",), "Node", "cluster", "whether job pods need the label that sends them to ECI"),
    Need("80-run-smoke-job", ("get", "list", "watch"), "Pod", "namespace", "the job's pod, while it lives"),
    Need("80-run-smoke-job", ("list",), "Event", "namespace", "what happened to it"),
    Need("80-run-smoke-job", ("list",), "Node", "cluster", "whether it ran on a virtual node"),
)
"""Every right that a notebook uses beyond what anybody may do. Notebook 20 also needs each right that its Role gives:
Kubernetes lets nobody hand out what they do not have."""


def of(settings: Settings, *, namespace_is_there: bool = False) -> list[tuple[str, Permission, str]]:
    """The notebook, the permission and the reason, for what this card asks; each pair of notebook and permission once.

    A namespace that is there is kept as it is, so nobody needs the right to make one.
    """
    rows = [
        (need.notebook, one, need.reason)
        for need in NEEDS
        if _chosen(need, settings)
        for one in need.permissions(settings.kubernetes.namespace)
        if not (namespace_is_there and need.kind == "Namespace" and one.verb != "get")
    ]
    if settings.access.account == "service-account":
        handed_out = "handed out by the Role, so its maker must have it"
        rows += [("20-grant-access", one, handed_out) for one in role.permissions(settings)]
    rows += _referenced_secrets(settings)
    return list({(notebook, one): (notebook, one, reason) for notebook, one, reason in reversed(rows)}.values())[::-1]


def _chosen(need: Need, settings: Settings) -> bool:
    if need.notebook == "30-create-cache-volume":
        return settings.cache.enabled
    if need.notebook == "20-grant-access":
        return settings.access.account == "service-account" or need.kind == "Namespace"
    return True


def _referenced_secrets(settings: Settings) -> list[tuple[str, Permission, str]]:
    """The Secrets that the card names as `secret:NAMESPACE/NAME/KEY`, in whichever namespace."""
    uses = (
        ("20-grant-access", settings.access.token, WRITE),
        ("30-create-cache-volume", settings.cache.access_key_id, ("get",)),
        ("30-create-cache-volume", settings.cache.access_key_secret, ("get",)),
        ("40-register-runner", settings.gitlab.token, ("get",)),
        ("40-register-runner", settings.runner.token, WRITE),
        ("50-configure-runner", settings.access.token, ("get",)),
        ("50-configure-runner", settings.runner.token, ("get",)),
    )
    return [
        (notebook, Permission(verb, "secrets", namespace=reference.split(":", 1)[1].split("/")[0]), "named in the card")
        for notebook, reference, verbs in uses
        if reference and reference.startswith("secret:")
        for verb in verbs
    ]
