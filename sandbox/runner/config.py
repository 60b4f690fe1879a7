"""config.toml as gitlab-runner reads it: types are strict, unknown keys are ignored without a word.

Source: GitLab Runner, ``common/config.go``; the refusals were seen on real binaries.
"""

from __future__ import annotations

import random
import string
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook.runner.version import Version

CHECK_INTERVAL_SECONDS = 3
SYSTEM_ID_FILE = ".runner_system_id"
OLD_TOML_LIBRARY_UNTIL = Version(15, 0)

GO_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "int": (int,),
    "bool": (bool,),
    "time.Duration": (str, int),
    "[]string": (list,),
    "StringOrArray": (str, list),
    "map[string]string": (dict,),
    "map[string]int": (dict,),
    "map[string]bool": (dict,),
}
ELEMENTS: Mapping[str, str] = {
    "[]string": "string",
    "StringOrArray": "string",
    "map[string]string": "string",
    "map[string]int": "int",
    "map[string]bool": "bool",
}
"""What a list or a table holds."""
TOML_TYPES: Mapping[type, str] = {
    bool: "bool",
    int: "int64",
    float: "float64",
    str: "string",
    list: "[]interface {}",
    dict: "map[string]interface {}",
}


def _typed(words: str, kind: str) -> dict[str, str]:
    return dict.fromkeys(words.split(), kind)


GLOBAL = (
    _typed("concurrent check_interval shutdown_timeout", "int")
    | _typed("log_level log_format user listen_address sentry_dsn", "string")
    | _typed("connection_max_age", "time.Duration")
)
RUNNER = {
    **_typed(
        "name url token tls-ca-file tls-cert-file tls-key-file executor builds_dir cache_dir shell clone_url pre_clone_script "
        "post_clone_script pre_get_sources_script post_get_sources_script pre_build_script post_build_script",
        "string",
    ),
    **_typed("unhealthy_interval prepare_timeout get_sources_timeout", "time.Duration"),
    **_typed("feature_flags", "map[string]bool"),
    **_typed(
        "id limit request_concurrency output_limit unhealthy_requests_limit job_status_final_update_retry_limit", "int"
    ),
    **_typed("strict_check_interval", "bool"),
    **_typed("environment", "[]string"),
}
_RESOURCES = " ".join(
    f"{prefix}{resource}_{bound}{suffix}"
    for prefix in ("", "helper_", "service_", "pod_")
    for resource in ("cpu", "memory", "ephemeral_storage")
    if (prefix, resource) != ("pod_", "ephemeral_storage")
    for bound in ("request", "limit")
    for suffix in ("", "_overwrite_max_allowed")
)
KUBERNETES = {
    **_typed(_RESOURCES, "string"),
    **_typed(
        "host context cert_file key_file ca_file bearer_token image namespace namespace_overwrite_allowed runtime_class_name "
        "node_selector_overwrite_allowed node_tolerations_overwrite_allowed helper_image helper_image_flavor "
        "pod_labels_overwrite_allowed scheduler_name service_account service_account_overwrite_allowed "
        "pod_annotations_overwrite_allowed dns_policy priority_class_name logs_base_dir scripts_base_dir suspend_pvc_size "
        "suspend_pvc_storage_class",
        "string",
    ),
    **_typed(
        "pod_termination_grace_period_seconds cleanup_grace_period_seconds poll_interval poll_timeout retry_limit retry_backoff_max "
        "resource_availability_check_max_attempts",
        "int",
    ),
    **_typed(
        "bearer_token_overwrite_allowed namespace_per_job privileged allow_privilege_escalation use_service_account_image_pull_secrets "
        "helper_image_autoset_arch_and_os automount_service_account_token print_pod_warning_events pod_disruption_budget",
        "bool",
    ),
    **_typed(
        "allowed_images allowed_pull_policies allowed_services allowed_users allowed_groups image_pull_secrets cap_add cap_drop",
        "[]string",
    ),
    **_typed("pull_policy", "StringOrArray"),
    **_typed("cleanup_resources_timeout", "time.Duration"),
    **_typed("node_selector node_tolerations pod_labels pod_annotations", "map[string]string"),
    **_typed("retry_limits", "map[string]int"),
}
VOLUME = {
    **_typed(
        "name mount_path sub_path host_path mount_propagation medium size_limit driver fs_type server path", "string"
    ),
    **_typed("read_only", "bool"),
    **_typed("items volume_attributes", "map[string]string"),
}


class ConfigRefused(Exception):
    """The file cannot be used; the message is the runner's."""


@dataclass(frozen=True)
class Config:
    """What of the file matters here. Each of `runners` is a `[[runners]]` section as plain values."""

    concurrent: int
    check_interval: float
    runners: tuple[Mapping[str, Any], ...]


def load(path: Path, version: Version) -> Config:
    """Read *path* as a runner of *version* does.

    Raises:
        ConfigRefused: no file, no TOML, or a value of the wrong type: the whole file is refused.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigRefused(f"open {path}: {(error.strerror or '').lower()}") from None
    except UnicodeDecodeError as error:
        raise ConfigRefused(f"decoding configuration file: toml: invalid UTF-8 byte: {error.reason}") from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigRefused(f"decoding configuration file: toml: {error}") from None
    return _config(document, version)


def system_id(config: Path) -> str:
    """The manager's id, kept beside config.toml and made at the first start: losing it adds a manager to GitLab's list."""
    path = config.with_name(SYSTEM_ID_FILE)
    if path.exists():
        return path.read_text().strip()
    made = "r_" + "".join(random.choices(string.ascii_letters + string.digits, k=12))
    path.write_text(made)
    path.chmod(0o600)
    return made


def _config(document: Mapping[str, Any], version: Version) -> Config:
    _check(document, GLOBAL, "", version)
    runners = document.get("runners", [])
    if not isinstance(runners, list):
        raise ConfigRefused(_mismatch("runners", runners, "slice", version))
    for runner in runners:
        _check(runner, RUNNER, "runners", version)
        kubernetes = runner.get("kubernetes", {})
        if not isinstance(kubernetes, dict):
            raise ConfigRefused(_mismatch("runners.kubernetes", kubernetes, "struct", version))
        _check(kubernetes, KUBERNETES, "runners.kubernetes", version)
        _check_volumes(kubernetes.get("volumes", {}), version)
    interval = document.get("check_interval", 0)
    return Config(
        concurrent=document.get("concurrent", 1),
        check_interval=float(interval if interval > 0 else CHECK_INTERVAL_SECONDS),
        runners=tuple(runners),
    )


def _check_volumes(tables: Any, version: Version) -> None:
    if not isinstance(tables, dict):
        raise ConfigRefused(_mismatch("runners.kubernetes.volumes", tables, "struct", version))
    for kind, rows in tables.items():
        where = f"runners.kubernetes.volumes.{kind}"
        if not isinstance(rows, list):
            raise ConfigRefused(_mismatch(where, rows, "slice", version))
        for row in rows:
            _check(row, VOLUME, where, version)


def _check(table: Mapping[str, Any], types: Mapping[str, str], where: str, version: Version) -> None:
    for key, value in table.items():
        wanted = types.get(key)
        if wanted is None:
            continue
        name = f"{where}.{key}".lstrip(".")
        if type(value) not in GO_TYPES[wanted]:
            raise ConfigRefused(_mismatch(name, value, wanted, version))
        if wanted in ELEMENTS and not isinstance(value, str):
            rows = value.items() if isinstance(value, dict) else ((None, item) for item in value)
            for part, item in rows:
                if type(item) not in GO_TYPES[ELEMENTS[wanted]]:
                    inner = f"{name}.{part}" if part else name
                    raise ConfigRefused(_mismatch(inner, item, ELEMENTS[wanted], version))


def _mismatch(key: str, value: Any, wanted: str, version: Version) -> str:
    found = TOML_TYPES.get(type(value), type(value).__name__)
    if version < OLD_TOML_LIBRARY_UNTIL:
        return f"decoding configuration file: toml: cannot load TOML value of type {found} into a Go {wanted}"
    return (
        f'decoding configuration file: toml: (last key "{key}"): incompatible types: '
        f"TOML value has type {found}; destination has type {wanted}"
    )
