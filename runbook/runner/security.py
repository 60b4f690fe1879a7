"""Sections of `[runners.kubernetes]` that are a piece of a pod in other spelling: security contexts, capabilities, DNS, affinity.

Source: GitLab Runner, ``common/config.go``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from runbook.runner.behaviours import Behaviour
from runbook.runner.version import Version

DEFAULT_DROP = ("NET_RAW",)
DNS_POLICIES = {
    "": "ClusterFirst",
    "none": "None",
    "default": "Default",
    "cluster-first": "ClusterFirst",
    "cluster-first-with-host-net": "ClusterFirstWithHostNet",
}

_KEPT_BELOW = frozenset({"match_labels", "volume_attributes"})


def camel(section: Any) -> Any:
    """A section with snake_case keys as Kubernetes spells them, at every depth: ``match_expressions`` -> ``matchExpressions``."""
    if isinstance(section, Mapping):
        return {
            _camel_word(key): (dict(value) if key in _KEPT_BELOW else camel(value)) for key, value in section.items()
        }
    if isinstance(section, list):
        return [camel(item) for item in section]
    return section


def _camel_word(word: str) -> str:
    return re.sub(r"_([a-z])", lambda match: match[1].upper(), word)


def dns_policy(kubernetes: Mapping[str, Any]) -> str:
    """`dns_policy` as Kubernetes spells it; an unknown one falls back to the cluster's default, as in a runner."""
    return DNS_POLICIES.get(str(kubernetes.get("dns_policy", "")), "ClusterFirst")


def pod(kubernetes: Mapping[str, Any]) -> dict[str, Any]:
    """podSpec.securityContext, {} where nothing is configured."""
    return _context(kubernetes.get("pod_security_context", {}))


def container(kubernetes: Mapping[str, Any], role: str, version: Version) -> dict[str, Any]:
    """securityContext of a container, {} where there is nothing to say; *role* is `build`, `helper`, `service` or `init_permissions`."""
    own = kubernetes.get(f"{role}_container_security_context", {})
    context = _context({key: value for key, value in own.items() if key != "capabilities"})
    for key, field in (("privileged", "privileged"), ("allow_privilege_escalation", "allowPrivilegeEscalation")):
        if kubernetes.get(key) is not None:
            context.setdefault(field, kubernetes[key])
    capabilities = own.get("capabilities", {})
    add = capabilities.get("add", kubernetes.get("cap_add", ()))
    drop = capabilities.get("drop", kubernetes.get("cap_drop", ()))
    made = _capabilities(add, drop, DEFAULT_DROP if Behaviour.DROP_NET_RAW.of(version) else ())
    return {**context, "capabilities": made} if made else context


def _capabilities(add: Any, drop: Any, by_default: tuple[str, ...]) -> dict[str, list[str]]:
    # a capability that is asked for is not dropped by default; one that is dropped explicitly is not added
    dropped = [*(name for name in by_default if name not in add and name not in drop), *drop]
    added = [name for name in add if name not in drop]
    return {key: sorted(names) for key, names in (("add", added), ("drop", dropped)) if names}


def _context(section: Mapping[str, Any]) -> dict[str, Any]:
    plain = {key: value for key, value in section.items() if key not in ("selinux_type", "proc_mount")}
    context: dict[str, Any] = camel(plain)
    if section.get("selinux_type"):
        context["seLinuxOptions"] = {"type": section["selinux_type"]}
    if section.get("proc_mount"):
        context["procMount"] = str(section["proc_mount"]).capitalize()
    return context
