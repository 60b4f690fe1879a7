"""What a job may change of its own pod: the ``KUBERNETES_*`` variables, within what config.toml allows.

Source: GitLab Runner, ``executors/kubernetes/overwrites.go``. A variable whose permission is not configured is ignored without a word; one
beyond its permission fails the job.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from runbook import quantities
from runbook.errors import ConfigTomlError
from runbook.runner.behaviours import Behaviour
from runbook.runner.variables import Variables, of_payload
from runbook.runner.version import Version

Resources = dict[str, dict[str, str]]
"""`requests` and `limits` of one container."""

CONTAINERS = {"build": "", "helper": "helper_", "service": "service_", "pod": "pod_"}
"""Whose resources -> prefix of their keys in `[runners.kubernetes]`."""
RESOURCES = {"cpu": "cpu", "memory": "memory", "ephemeral_storage": "ephemeral-storage"}
"""A resource's word in config.toml -> its name in a pod."""
NO_SUCH_KEYS = {("pod", "ephemeral_storage")}
BOUNDS = {"requests": "request", "limits": "limit"}

Split = Callable[[str], tuple[str, str]]


@dataclass(frozen=True)
class Overwrites:
    """The configuration of one pod after the job's variables had their say. `messages` are the lines that a runner prints about it."""

    namespace: str
    service_account: str
    bearer_token: str = field(repr=False)
    node_selector: Mapping[str, str]
    node_tolerations: Mapping[str, str]
    pod_labels: Mapping[str, str]
    pod_annotations: Mapping[str, str]
    resources: Mapping[str, Resources]
    messages: tuple[str, ...]


def apply(kubernetes: Mapping[str, Any], variables: Variables, version: Version) -> Overwrites:
    """`[runners.kubernetes]` and a job's variables -> Overwrites.

    Raises:
        ConfigTomlError: a variable asks for more than config.toml allows, or a quantity is none.
    """
    messages: list[str] = []

    def text(name: str, key: str, permission: str, variable: str) -> str:
        value = variables.get(variable)
        if not permission or not value:
            return str(kubernetes.get(key, ""))
        _check(value, permission, variable)
        shown = "XXXXXXXX..." if key == "bearer_token" else value
        messages.append(f'"{name}" overwritten with "{shown}"')
        return value

    def table(name: str, key: str, prefix: str, split: Split, since: Behaviour | None = None) -> dict[str, str]:
        rows = {str(left): str(right) for left, right in kubernetes.get(key, {}).items()}
        permission = str(kubernetes.get(f"{key}_overwrite_allowed", ""))
        if not permission or (since and not since.of(version)):
            return rows
        for value in variables.starting_with(prefix):
            _check(value, permission, prefix)
            left, right = split(value)
            rows[left] = right
            messages.append(f'"{name}" "{left}" overwritten with "{right}"')
        return rows

    return Overwrites(
        namespace=text(
            "Namespace",
            "namespace",
            str(kubernetes.get("namespace_overwrite_allowed", "")),
            "KUBERNETES_NAMESPACE_OVERWRITE",
        ),
        service_account=text(
            "ServiceAccount",
            "service_account",
            str(kubernetes.get("service_account_overwrite_allowed", "")),
            "KUBERNETES_SERVICE_ACCOUNT_OVERWRITE",
        ),
        bearer_token=text(
            "BearerToken",
            "bearer_token",
            ".+" if kubernetes.get("bearer_token_overwrite_allowed") else "",
            "KUBERNETES_BEARER_TOKEN",
        ),
        node_selector=table(
            "NodeSelector", "node_selector", "KUBERNETES_NODE_SELECTOR_", _by_equals, Behaviour.NODE_SELECTOR_OVERWRITE
        ),
        node_tolerations=table(
            "NodeTolerations",
            "node_tolerations",
            "KUBERNETES_NODE_TOLERATIONS_",
            _by_colon,
            Behaviour.TOLERATIONS_OVERWRITE,
        ),
        pod_labels=table(
            "PodLabels", "pod_labels", "KUBERNETES_POD_LABELS_", _by_equals, Behaviour.POD_LABELS_OVERWRITE
        ),
        pod_annotations=table("PodAnnotations", "pod_annotations", "KUBERNETES_POD_ANNOTATIONS_", _by_equals),
        resources={name: resources(name, kubernetes, variables, messages) for name in CONTAINERS},
        messages=tuple(messages),
    )


def resources(whose: str, kubernetes: Mapping[str, Any], variables: Variables, messages: list[str]) -> Resources:
    """`requests` and `limits` of *whose* container (a key of CONTAINERS); a bound without any quantity is left out."""
    prefix = CONTAINERS[whose]
    found: Resources = {}
    for bound, word in BOUNDS.items():
        rows = {
            name: value
            for resource, name in RESOURCES.items()
            if (whose, resource) not in NO_SUCH_KEYS
            if (value := _quantity(f"{prefix}{resource}_{word}", kubernetes, variables, messages))
        }
        if rows:
            found[bound] = rows
    return found


def service_resources(
    service: Mapping[str, Any], kubernetes: Mapping[str, Any], everyone: Resources, version: Version
) -> Resources:
    """Resources of one service: its own ``KUBERNETES_SERVICE_*`` variables (>= 16.9), else those of every service."""
    own = Variables(of_payload(service.get("variables") or ()))
    if not own.rows or not Behaviour.SERVICE_RESOURCES.of(version):
        return everyone
    allowed = {key: value for key, value in kubernetes.items() if key.endswith("_overwrite_max_allowed")}
    asked = resources("service", allowed, own, [])
    return {bound: rows for bound in BOUNDS if (rows := {**everyone.get(bound, {}), **asked.get(bound, {})})}


def _quantity(key: str, kubernetes: Mapping[str, Any], variables: Variables, messages: list[str]) -> str:
    value = str(kubernetes.get(key, ""))
    most = str(kubernetes.get(f"{key}_overwrite_max_allowed", ""))
    asked = variables.get(f"KUBERNETES_{key.upper()}")
    if most and asked:
        if quantities.parse(asked, where=f"KUBERNETES_{key.upper()}") > quantities.parse(most, where=key):
            raise ConfigTomlError(
                f'The resource "{key}" requested by the build "{asked}" is more than the limit allowed "{most}"',
                where=f"{key}_overwrite_max_allowed",
                value=asked,
                allowed=f"at most {most}",
            )
        messages.append(f'"{key}" overwritten with "{asked}"')
        return asked
    if value:
        quantities.parse(value, where=key)
    return value


def _check(value: str, pattern: str, where: str) -> None:
    if re.search(pattern, value) is None:
        raise ConfigTomlError(
            f'Provided value "{value}" does not match regexp "{pattern}"', where=where, value=value, allowed=pattern
        )


def _by_equals(value: str) -> tuple[str, str]:
    left, equals, right = value.partition("=")
    if not equals:
        raise ConfigTomlError(f'Provided value "{value}" does not match regexp "k=v"', value=value, allowed="k=v")
    return left, right


def _by_colon(value: str) -> tuple[str, str]:
    left, _, right = value.partition(":")
    return left, right
