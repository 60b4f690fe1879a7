"""`[[runners.kubernetes.pod_spec]]`: patches that config.toml lays over the finished podSpec.

Source: GitLab Runner, ``docs/executors/kubernetes`` (from 15.10, behind FF_USE_ADVANCED_POD_SPEC_CONFIGURATION). Patches touch the
podSpec only, so ECI annotations cannot come from here. Patches in files (`patch_path`) are refused: this room reads no files.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from runbook.errors import ConfigTomlError
from runbook.runner.variables import flag_is_on
from runbook.runner.version import Version

FLAG = "FF_USE_ADVANCED_POD_SPEC_CONFIGURATION"

MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "ports": "containerPort",
    "topologySpreadConstraints": "topologyKey",
}
"""Lists of a podSpec that a strategic patch merges by a key; it replaces all others (tolerations among them)."""

Spec = dict[str, Any]


def patched(spec: Spec, runner: Mapping[str, Any], job: Mapping[str, Any], version: Version) -> Spec:
    """*spec* with the configured patches laid over it, in order. *spec* itself is left as it is.

    Raises:
        ConfigTomlError: a patch is not YAML, of an unknown type, or in a file.
    """
    patches = runner.get("kubernetes", {}).get("pod_spec", ())
    if not patches or not flag_is_on(FLAG, runner, job, version):
        return spec
    for row in patches:
        where = f"[[runners.kubernetes.pod_spec]] {row.get('name', '')}".rstrip()
        kind = row.get("patch_type") or "strategic"
        if kind not in _KINDS:
            raise ConfigTomlError(f"unsupported patch type {kind}", where=where, value=kind, allowed=", ".join(_KINDS))
        if row.get("patch_path"):
            raise ConfigTomlError(
                "a patch in a file cannot be shown here", where=where, value=row["patch_path"], allowed="patch"
            )
        spec = _KINDS[kind](copy.deepcopy(spec), _read(row.get("patch", ""), where))
    return spec


def _read(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigTomlError(
            "a patch is neither YAML nor JSON", where=where, value=str(error), allowed="YAML or JSON"
        ) from None


def _merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge(merged.get(key), value)
    return merged


def _strategic(target: Any, patch: Any) -> Any:
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif key in MERGE_KEYS and isinstance(value, list):
            merged[key] = _merge_list(merged.get(key, []), value, MERGE_KEYS[key])
        else:
            merged[key] = _strategic(merged.get(key), value)
    return merged


def _merge_list(rows: list[Spec], patches: list[Spec], key: str) -> list[Spec]:
    found = {row[key]: row for row in rows}
    for patch in patches:
        if patch.get("$patch") == "delete":
            found.pop(patch[key], None)
        else:
            found[patch[key]] = _strategic(found.get(patch[key], {}), patch)
    return list(found.values())


def _json(target: Spec, operations: list[Mapping[str, Any]]) -> Spec:
    for operation in operations:
        *parents, last = (part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:])
        holder: Any = target
        for part in parents:
            holder = holder[int(part)] if isinstance(holder, list) else holder[part]
        _json_step(holder, last, operation)
    return target


def _json_step(holder: Any, key: str, operation: Mapping[str, Any]) -> None:
    name = operation["op"]
    if name not in ("add", "replace", "remove"):
        raise ConfigTomlError(
            f"unsupported operation {name} in a JSON patch", value=name, allowed="add, replace, remove"
        )
    place: Any = key
    if isinstance(holder, list):
        place = len(holder) if key == "-" else int(key)
    if name == "remove":
        del holder[place]
    elif name == "add" and isinstance(holder, list):
        holder.insert(place, operation["value"])
    else:
        holder[place] = operation["value"]


_KINDS: Mapping[str, Callable[[Spec, Any], Spec]] = {"strategic": _strategic, "merge": _merge, "json": _json}
