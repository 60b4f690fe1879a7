"""The volumes of a job pod: those that config.toml names, and the three that a runner adds (`repo`, `scripts`, `logs`).

Source: GitLab Runner, ``executors/kubernetes/kubernetes.go`` (getVolumes, getVolumeMounts). Every container mounts all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from runbook.runner.behaviours import Behaviour
from runbook.runner.variables import Assignment, Variables, builds_dir, flag_is_on
from runbook.runner.version import Version

Row = Mapping[str, Any]
Manifest = dict[str, Any]

EXEC_FLAG = "FF_USE_LEGACY_KUBERNETES_EXECUTION_STRATEGY"
SCRIPTS_MODE = 0o777


def attaches(runner: Row, job: Row, version: Version) -> bool:
    """True if stages are attached and their output is read from a file; False if each is exec'ed and streamed."""
    return Behaviour.ATTACH_STRATEGY.of(version) and not flag_is_on(EXEC_FLAG, runner, job, version)


def scripts_dir(runner: Row, job: Row, version: Version) -> str:
    """Where stage scripts are mounted: ``/scripts-<project>-<job>``."""
    return _job_dir("scripts", runner, job, version)


def logs_dir(runner: Row, job: Row, version: Version) -> str:
    """Where the attach strategy keeps the output: ``/logs-<project>-<job>``."""
    return _job_dir("logs", runner, job, version)


def log_file(runner: Row, job: Row, version: Version) -> str:
    """The file that the attach strategy's output goes through."""
    return f"{logs_dir(runner, job, version)}/output.log"


def _job_dir(word: str, runner: Row, job: Row, version: Version) -> str:
    base = runner.get("kubernetes", {}).get(f"{word}_base_dir", "") if Behaviour.BASE_DIRS.of(version) else ""
    return f"{base}/{word}-{job.get('job_info', {}).get('project_id', 0)}-{job.get('id', 0)}"


def _items(row: Row) -> Manifest:
    pairs = [{"key": key, "path": path} for key, path in sorted(row.get("items", {}).items())]
    return {"items": pairs} if pairs else {}


def _host_path(row: Row, version: Version) -> Manifest:
    return {"hostPath": {"path": row.get("host_path") or row["mount_path"]}}


def _secret(row: Row, version: Version) -> Manifest:
    return {"secret": {"secretName": row["name"], **_items(row)}}


def _claim(row: Row, version: Version) -> Manifest:
    return {"persistentVolumeClaim": {"claimName": row["name"]}}


def _config_map(row: Row, version: Version) -> Manifest:
    return {"configMap": {"name": row["name"], **_items(row)}}


def _empty_dir(row: Row, version: Version) -> Manifest:
    source = {"medium": row.get("medium", "")}
    source |= {"sizeLimit": row.get("size_limit", "")} if Behaviour.EMPTY_DIR_SIZE_LIMIT.of(version) else {}
    return {"emptyDir": {key: value for key, value in source.items() if value}}


def _csi(row: Row, version: Version) -> Manifest:
    source = {
        "driver": row["driver"],
        "fsType": row.get("fs_type", ""),
        "readOnly": bool(row.get("read_only", False)),
        "volumeAttributes": dict(row.get("volume_attributes", {})),
    }
    return {"csi": {key: value for key, value in source.items() if value != {}}}


def _nfs(row: Row, version: Version) -> Manifest:
    return {
        "nfs": {"server": row["server"], "path": row["path"], **({"readOnly": True} if row.get("read_only") else {})}
    }


Source = Callable[[Row, Version], Manifest]

KINDS: Mapping[str, tuple[Version, Source]] = {
    "host_path": (Version(9, 3), _host_path),
    "secret": (Version(9, 3), _secret),
    "pvc": (Version(9, 4), _claim),
    "config_map": (Version(9, 4), _config_map),
    "empty_dir": (Version(10, 1), _empty_dir),
    "csi": (Version(13, 11), _csi),
    "nfs": (Version(19, 0), _nfs),
}
"""A table of `[runners.kubernetes.volumes]` -> its first version and the volume it makes, in the runner's order."""

_MOUNT_KEYS = {"sub_path": "subPath", "read_only": "readOnly", "mount_propagation": "mountPropagation"}


def volumes(runner: Row, job: Row, variables: Variables, version: Version, given: Assignment) -> list[Manifest]:
    """podSpec.volumes. A claim that is mounted twice is one volume."""
    found: dict[str, Manifest] = {}
    for kind, row in _configured(runner, version):
        name = _name(kind, row, variables, version)
        found.setdefault(name, {"name": name, **KINDS[kind][1]({**row, "name": name}, version)})
    rows = list(found.values())
    if _needs_repo(runner, variables, version):
        rows.append({"name": "repo", "emptyDir": {}})
    if attaches(runner, job, version):
        rows += [{"name": "scripts", **_scripts(version, given)}, {"name": "logs", "emptyDir": {}}]
    return rows


def mounts(runner: Row, job: Row, variables: Variables, version: Version) -> list[Manifest]:
    """volumeMounts of every container."""
    rows: list[Manifest] = []
    if attaches(runner, job, version):
        rows += [
            {"name": "scripts", "mountPath": scripts_dir(runner, job, version)},
            {"name": "logs", "mountPath": logs_dir(runner, job, version)},
        ]
    for kind, row in _configured(runner, version):
        rows.append(_mount(kind, row, variables, version))
    if _needs_repo(runner, variables, version):
        rows.append({"name": "repo", "mountPath": builds_dir(runner)})
    return rows


def _scripts(version: Version, given: Assignment) -> Manifest:
    if Behaviour.SCRIPTS_IN_EMPTY_DIR.of(version):
        return {"emptyDir": {}}
    return {"configMap": {"name": given.scripts_config_map, "defaultMode": SCRIPTS_MODE, "optional": False}}


def _configured(runner: Row, version: Version) -> list[tuple[str, Row]]:
    tables = runner.get("kubernetes", {}).get("volumes", {})
    return [(kind, row) for kind, (since, _) in KINDS.items() if version >= since for row in tables.get(kind, ())]


def _name(kind: str, row: Row, variables: Variables, version: Version) -> str:
    expands = kind == "pvc" and Behaviour.CLAIM_VARIABLES.of(version)
    return variables.expand(row["name"]) if expands else str(row["name"])


def _mount(kind: str, row: Row, variables: Variables, version: Version) -> Manifest:
    expand = variables.expand if Behaviour.MOUNT_VARIABLES.of(version) else str
    mount: Manifest = {"name": _name(kind, row, variables, version), "mountPath": expand(row["mount_path"])}
    for key, name in _MOUNT_KEYS.items():
        if row.get(key):
            mount[name] = expand(row[key]) if isinstance(row[key], str) else row[key]
    return mount


def _needs_repo(runner: Row, variables: Variables, version: Version) -> bool:
    paths = (_mount(kind, row, variables, version)["mountPath"] for kind, row in _configured(runner, version))
    return builds_dir(runner) not in paths
