"""What an account may do, and the RBAC rules that give it: pure, shared by whoever asks and whoever grants."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import yaml

RBAC = "rbac.authorization.k8s.io/v1"
"""`apiVersion` of Roles and their bindings."""


@dataclass(frozen=True)
class Permission:
    """One thing that an account may or may not do: the question of a SelfSubjectAccessReview.

    `resource` is the plural; `namespace` None asks for the whole cluster; `name` None for every object.
    """

    verb: str
    resource: str
    group: str = ""
    subresource: str = ""
    namespace: str | None = None
    name: str | None = None

    @property
    def resource_path(self) -> str:
        """As RBAC writes it in a rule: `pods/exec`."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource

    def __str__(self) -> str:
        group = f".{self.group}" if self.group else ""
        where = f"in namespace {self.namespace}" if self.namespace else "in the whole cluster"
        return f"{self.verb} {self.resource_path}{group} {where}"


def grants(permissions: Iterable[Permission], user: str, *, name: str = "runbook") -> str:
    """The Roles, ClusterRoles and their bindings that give `user` these permissions, as YAML ready to apply.

    One Role a namespace, one ClusterRole for what spans the cluster. `user` is a user's name or
    `system:serviceaccount:NAMESPACE:NAME`.
    """
    by_namespace: dict[str | None, list[Permission]] = {}
    for permission in permissions:
        by_namespace.setdefault(permission.namespace, []).append(permission)
    documents = [
        document
        for namespace, wanted in by_namespace.items()
        for document in _role_and_binding(namespace, wanted, user, name)
    ]
    return yaml.safe_dump_all(documents, sort_keys=False)


def rules(permissions: Iterable[Permission]) -> list[dict[str, Any]]:
    """RBAC rules for these permissions, as few as possible: verbs are gathered by resource, resources by verbs."""
    verbs: dict[tuple[str, str, str | None], list[str]] = {}
    for one in permissions:
        held = verbs.setdefault((one.group, one.resource_path, one.name), [])
        if one.verb not in held:
            held.append(one.verb)
    gathered: dict[tuple[str, tuple[str, ...], str | None], list[str]] = {}
    for (group, resource, name), held in verbs.items():
        gathered.setdefault((group, tuple(held), name), []).append(resource)
    return [
        {"apiGroups": [group], "resources": resources, "verbs": list(held)}
        | ({"resourceNames": [name]} if name else {})
        for (group, held, name), resources in gathered.items()
    ]


def _role_and_binding(namespace: str | None, wanted: list[Permission], user: str, name: str) -> list[dict[str, Any]]:
    scope = {"namespace": namespace} if namespace else {}
    prefix = "" if namespace else "Cluster"
    _, _, account = user.partition("system:serviceaccount:")
    account_namespace, _, account_name = account.partition(":")
    group = RBAC.partition("/")[0]
    subject = (
        {"kind": "ServiceAccount", "namespace": account_namespace, "name": account_name}
        if account_name
        else {"kind": "User", "apiGroup": group, "name": user}
    )
    metadata = {"name": name, **scope}
    return [
        {"apiVersion": RBAC, "kind": f"{prefix}Role", "metadata": metadata, "rules": rules(wanted)},
        {
            "apiVersion": RBAC,
            "kind": f"{prefix}RoleBinding",
            "metadata": dict(metadata),
            "roleRef": {"apiGroup": group, "kind": f"{prefix}Role", "name": name},
            "subjects": [subject],
        },
    ]
