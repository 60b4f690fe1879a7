"""The keys of gitlab-runner's config.toml: the type of each, and the versions that know it.

A runner ignores a key that it does not know, without a word, and refuses the whole file, with every runner in it, for one value of the
wrong type (`cpu_request = 2` without quotes). So what we write is held against this table first, and what is there can be, too.

`since` is the first version with the key, found by going through GitLab Runner's releases (`common/config.go` of each minor tag); where
that differs from the documentation, the release counts. `until` is the last version with it.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from runbook.runner.version import Version, parse

Keys = Mapping[str, "Key"]
KeyPath = tuple[str, ...]


class Kind(Enum):
    """A TOML type, in words for an error."""

    TEXT = "text in quotes"
    WHOLE = "a whole number"
    TRUTH = "true or false"
    TEXTS = "a list of texts"
    TEXT_OR_TEXTS = "text in quotes, or a list of texts"
    DURATION = 'a duration in quotes, such as "10m"'
    MOMENT = "a date and time"
    TEXT_MAP = "a table of texts"
    WHOLE_MAP = "a table of whole numbers"
    TRUTH_MAP = "a table of true and false"
    TABLE = "a table"
    TABLES = "an array of tables"

    def holds(self, value: Any) -> bool:
        """Whether a runner would take this value. A shape's inside is looked at for maps and lists of texts only."""
        match self:
            case Kind.TEXT:
                return isinstance(value, str)
            case Kind.WHOLE:
                return isinstance(value, int) and not isinstance(value, bool)
            case Kind.TRUTH:
                return isinstance(value, bool)
            case Kind.TEXTS:
                return isinstance(value, list) and all(isinstance(item, str) for item in value)
            case Kind.TEXT_OR_TEXTS:
                return Kind.TEXT.holds(value) or Kind.TEXTS.holds(value)
            case Kind.DURATION:
                return Kind.TEXT.holds(value) or Kind.WHOLE.holds(value)
            case Kind.MOMENT:
                return isinstance(value, datetime.datetime)
            case Kind.TEXT_MAP | Kind.WHOLE_MAP | Kind.TRUTH_MAP:
                inner = {Kind.TEXT_MAP: Kind.TEXT, Kind.WHOLE_MAP: Kind.WHOLE, Kind.TRUTH_MAP: Kind.TRUTH}[self]
                return isinstance(value, dict) and all(inner.holds(item) for item in value.values())
            case Kind.TABLE:
                return isinstance(value, dict)
            case Kind.TABLES:
                return isinstance(value, list) and all(isinstance(item, dict) for item in value)


@dataclass(frozen=True)
class Key:
    """One key. `keys` are those inside a table; None: the inside is not described here and passes as it is."""

    kind: Kind
    since: Version
    until: Version | None = None
    keys: Keys | None = field(default=None, repr=False)

    def known_to(self, version: Version) -> bool:
        """Whether that version of the runner reads the key."""
        return self.since <= version and (self.until is None or version[:2] <= self.until[:2])

    @property
    def versions(self) -> str:
        """`since 15.3`, `9.3 to 16.11`."""
        first = f"{self.since.major}.{self.since.minor}"
        return f"since {first}" if self.until is None else f"{first} to {self.until.major}.{self.until.minor}"


@dataclass(frozen=True)
class Mistake:
    """A key that this version does not read as it stands: where it is, why, and whether the runner then refuses the whole file."""

    path: tuple[str | int, ...]
    problem: str
    fatal: bool

    def __str__(self) -> str:
        return f"{'.'.join(str(part) for part in self.path)}: {self.problem}"


def _keys(kind: Kind, since: str, names: str, *, until: str | None = None, keys: Keys | None = None) -> dict[str, Key]:
    """The same row for several names, as they follow each other in the runner's source."""
    row = Key(kind, parse(since), parse(until) if until else None, keys)
    return dict.fromkeys(names.split(), row)


def _mount(since: str) -> dict[str, Key]:
    return _keys(Kind.TEXT, since, "name mount_path")


_OLDEST = "1.0"

_ITEMS = (
    _keys(Kind.TEXT, "13.6", "sub_path") | _keys(Kind.TRUTH, "9.3", "read_only") | _keys(Kind.TEXT_MAP, "9.3", "items")
)

VOLUMES: Keys = {
    **_keys(
        Kind.TABLES,
        "9.3",
        "host_path",
        keys=_mount("9.3")
        | _keys(Kind.TEXT, "9.3", "sub_path host_path")
        | _keys(Kind.TRUTH, "9.3", "read_only")
        | _keys(Kind.TEXT, "17.8", "mount_propagation"),
    ),
    **_keys(
        Kind.TABLES,
        "9.4",
        "pvc",
        keys=_mount("9.4")
        | _keys(Kind.TEXT, "13.6", "sub_path")
        | _keys(Kind.TRUTH, "9.4", "read_only")
        | _keys(Kind.TEXT, "17.2", "mount_propagation"),
    ),
    **_keys(Kind.TABLES, "9.3", "secret", keys=_mount("9.3") | _ITEMS),
    **_keys(Kind.TABLES, "9.4", "config_map", keys=_mount("9.4") | _ITEMS),
    **_keys(
        Kind.TABLES,
        "10.1",
        "empty_dir",
        keys=_mount("10.1")
        | _keys(Kind.TEXT, "10.1", "sub_path medium")
        | _keys(Kind.TEXT, "16.6", "size_limit")
        | _keys(Kind.TEXT, "19.0", "mount_propagation"),
    ),
    **_keys(
        Kind.TABLES,
        "13.11",
        "csi",
        keys=_mount("13.11")
        | _keys(Kind.TEXT, "13.11", "sub_path driver fs_type")
        | _keys(Kind.TRUTH, "13.11", "read_only")
        | _keys(Kind.TEXT_MAP, "13.11", "volume_attributes"),
    ),
    **_keys(
        Kind.TABLES,
        "19.0",
        "nfs",
        keys=_mount("19.0") | _keys(Kind.TEXT, "19.0", "server path sub_path") | _keys(Kind.TRUTH, "19.0", "read_only"),
    ),
}
"""Keys of ``[runners.kubernetes.volumes]``."""

SERVICES: Keys = {
    **_keys(Kind.TEXT, "12.5", "name alias"),
    **_keys(Kind.TEXTS, "12.5", "command entrypoint"),
    **_keys(Kind.TEXTS, "15.10", "environment"),
    **_keys(Kind.TEXT, "19.4", "suspend_data_path"),
}
"""Keys of ``[[runners.kubernetes.services]]``."""

_RESOURCES = {
    "": ("1.10", "12.9"),
    "helper_": ("1.10", "13.4"),
    "service_": ("1.10", "13.4"),
    "pod_": ("18.10", "18.10"),
}
_EPHEMERAL = "13.5"


def _resources() -> dict[str, Key]:
    """`cpu_request` and its kin: of the build container, of helper and services by prefix; all are text."""
    rows: dict[str, Key] = {}
    for prefix, (since, overwrite_since) in _RESOURCES.items():
        for resource in ("cpu", "memory", "ephemeral_storage"):
            if (prefix, resource) == ("pod_", "ephemeral_storage"):
                continue
            first, overwrite = (_EPHEMERAL, _EPHEMERAL) if resource == "ephemeral_storage" else (since, overwrite_since)
            names = [f"{prefix}{resource}_{bound}" for bound in ("request", "limit")]
            rows |= _keys(Kind.TEXT, first, " ".join(names))
            rows |= _keys(Kind.TEXT, overwrite, " ".join(f"{name}_overwrite_max_allowed" for name in names))
    return rows


KUBERNETES: Keys = {
    **_keys(Kind.TEXT, _OLDEST, "host cert_file key_file ca_file image namespace"),
    **_keys(Kind.TRUTH, _OLDEST, "privileged"),
    **_keys(Kind.TEXT, "18.5", "context"),
    **_keys(Kind.TRUTH, "10.3", "bearer_token_overwrite_allowed"),
    **_keys(Kind.TEXT, "10.3", "bearer_token"),
    **_keys(Kind.TEXT, "1.10", "namespace_overwrite_allowed"),
    **_keys(Kind.TRUTH, "16.10", "namespace_per_job"),
    **_resources(),
    **_keys(Kind.TEXT, _OLDEST, "cpus memory service_cpus service_memory helper_cpus helper_memory", until="9.3"),
    **_keys(Kind.WHOLE, "1.10", "terminationGracePeriodSeconds", until="16.11"),
    **_keys(Kind.TEXT, "14.9", "runtime_class_name"),
    **_keys(Kind.TRUTH, "13.6", "allow_privilege_escalation"),
    **_keys(Kind.TEXTS, "14.2", "allowed_images allowed_services"),
    **_keys(Kind.TEXTS, "15.2", "allowed_pull_policies"),
    **_keys(Kind.TEXTS, "18.4", "allowed_users allowed_groups"),
    **_keys(Kind.TEXT_OR_TEXTS, "1.8", "pull_policy"),
    **_keys(Kind.TEXT_MAP, "1.9", "node_selector"),
    **_keys(Kind.TEXT, "15.6", "node_selector_overwrite_allowed"),
    **_keys(Kind.TEXT_MAP, "11.8", "node_tolerations"),
    **_keys(Kind.TEXT, "16.9", "node_tolerations_overwrite_allowed"),
    **_keys(Kind.TABLE, "13.4", "affinity"),
    **_keys(Kind.TEXTS, "1.10", "image_pull_secrets"),
    **_keys(Kind.TRUTH, "16.9", "use_service_account_image_pull_secrets automount_service_account_token"),
    **_keys(Kind.TEXT, "1.9", "helper_image"),
    **_keys(Kind.TEXT, "14.0", "helper_image_flavor"),
    **_keys(Kind.TRUTH, "16.5", "helper_image_autoset_arch_and_os"),
    **_keys(Kind.WHOLE, "14.5", "pod_termination_grace_period_seconds cleanup_grace_period_seconds"),
    **_keys(Kind.DURATION, "16.4", "cleanup_resources_timeout"),
    **_keys(Kind.WHOLE, "1.10", "poll_interval poll_timeout"),
    **_keys(Kind.WHOLE, "15.0", "resource_availability_check_max_attempts"),
    **_keys(Kind.WHOLE, "16.9", "retry_limit"),
    **_keys(Kind.WHOLE, "17.1", "retry_backoff_max"),
    **_keys(Kind.WHOLE_MAP, "16.9", "retry_limits"),
    **_keys(Kind.TEXT_MAP, "9.2", "pod_labels"),
    **_keys(Kind.TEXT, "15.1", "pod_labels_overwrite_allowed"),
    **_keys(Kind.TEXT, "15.5", "scheduler_name"),
    **_keys(Kind.TEXT, "9.2", "service_account service_account_overwrite_allowed"),
    **_keys(Kind.TEXT_MAP, "10.4", "pod_annotations"),
    **_keys(Kind.TEXT, "10.4", "pod_annotations_overwrite_allowed"),
    **_keys(Kind.TABLE, "12.0", "pod_security_context"),
    **_keys(Kind.TABLE, "15.2", "init_permissions_container_security_context"),
    **_keys(
        Kind.TABLE,
        "14.5",
        "build_container_security_context helper_container_security_context service_container_security_context",
    ),
    **_keys(Kind.TABLE, "9.3", "volumes", keys=VOLUMES),
    **_keys(
        Kind.TABLES,
        "13.7",
        "host_aliases",
        keys=_keys(Kind.TEXT, "13.7", "ip") | _keys(Kind.TEXTS, "13.7", "hostnames"),
    ),
    **_keys(Kind.TABLES, "12.5", "services", keys=SERVICES),
    **_keys(Kind.TEXTS, "13.5", "cap_add cap_drop"),
    **_keys(Kind.TEXT, "19.4", "suspend_pvc_size suspend_pvc_storage_class"),
    **_keys(Kind.TEXT, "13.7", "dns_policy"),
    **_keys(Kind.TABLE, "13.7", "dns_config"),
    **_keys(Kind.TABLE, "14.2", "container_lifecycle"),
    **_keys(Kind.TEXT, "15.1", "priority_class_name"),
    **_keys(Kind.TABLES, "15.10", "pod_spec", keys=_keys(Kind.TEXT, "15.10", "name patch patch_path patch_type")),
    **_keys(Kind.TEXT, "17.2", "logs_base_dir scripts_base_dir"),
    **_keys(Kind.TRUTH, "18.0", "print_pod_warning_events"),
    **_keys(Kind.TRUTH, "18.11", "pod_disruption_budget"),
    **_keys(Kind.TABLE, "18.11", "autoscaler"),
}
"""Keys of ``[runners.kubernetes]``."""

CACHE: Keys = {
    **_keys(Kind.TEXT, "1.1", "Type Path"),
    **_keys(Kind.TRUTH, "1.1", "Shared"),
    **_keys(Kind.WHOLE, "1.1", "MaxUploadedArchiveSize"),
    **_keys(Kind.TABLE, "1.1", "s3 gcs azure"),
}
"""Keys of ``[runners.cache]``; what stands in the tables of the storage providers is not described."""

RUNNER: Keys = {
    **_keys(Kind.TEXT, _OLDEST, "name url token executor builds_dir cache_dir shell"),
    **_keys(Kind.TEXT, _OLDEST, "tls-ca-file tls-cert-file tls-key-file"),
    **_keys(Kind.WHOLE, "15.3", "id"),
    **_keys(Kind.MOMENT, "15.3", "token_obtained_at token_expires_at"),
    **_keys(Kind.WHOLE, _OLDEST, "limit output_limit"),
    **_keys(Kind.WHOLE, "9.0", "request_concurrency"),
    **_keys(Kind.TRUTH, "18.9", "strict_check_interval"),
    **_keys(Kind.TEXTS, _OLDEST, "environment"),
    **_keys(Kind.TRUTH_MAP, "13.11", "feature_flags"),
    **_keys(Kind.TEXT, "10.1", "clone_url"),
    **_keys(Kind.TEXT, "15.9", "pre_get_sources_script post_get_sources_script"),
    **_keys(Kind.TEXT, _OLDEST, "pre_clone_script", until="16.11"),
    **_keys(Kind.TEXT, "14.9", "post_clone_script", until="16.11"),
    **_keys(Kind.TEXT, "1.6", "pre_build_script"),
    **_keys(Kind.TEXT, "1.11", "post_build_script"),
    **_keys(Kind.WHOLE, "15.7", "unhealthy_requests_limit"),
    **_keys(Kind.DURATION, "15.7", "unhealthy_interval"),
    **_keys(Kind.WHOLE, "17.9", "job_status_final_update_retry_limit"),
    **_keys(Kind.DURATION, "19.0", "prepare_timeout"),
    **_keys(Kind.DURATION, "19.1", "get_sources_timeout"),
    **_keys(Kind.TEXT_MAP, "18.5", "labels"),
    **_keys(Kind.TABLE, "19.2", "experimental"),
    **_keys(Kind.TABLE, "11.10", "custom_build_dir", keys=_keys(Kind.TRUTH, "11.10", "enabled")),
    **_keys(Kind.TABLE, "1.1", "cache", keys=CACHE),
    **_keys(Kind.TABLE, _OLDEST, "kubernetes", keys=KUBERNETES),
    # Not ours, so neither their inside nor their first version was looked up.
    **_keys(Kind.TABLE, _OLDEST, "docker ssh parallels virtualbox machine custom autoscaler instance referees"),
    **_keys(Kind.TRUTH, _OLDEST, "debug_trace_disabled"),
}
"""Keys of ``[[runners]]``."""

GLOBAL: Keys = {
    **_keys(Kind.WHOLE, "1.1", "concurrent"),
    **_keys(Kind.WHOLE, "1.3", "check_interval"),
    **_keys(Kind.WHOLE, "15.6", "shutdown_timeout"),
    **_keys(Kind.DURATION, "16.9", "connection_max_age"),
    **_keys(Kind.TEXT, "9.1", "log_level"),
    **_keys(Kind.TEXT, "11.4", "log_format"),
    **_keys(Kind.TEXT, "11.0", "listen_address"),
    **_keys(Kind.TEXT, "9.0", "metrics_server", until="11.11"),
    **_keys(Kind.TEXT, _OLDEST, "sentry_dsn user"),
    **_keys(Kind.TEXT_MAP, "18.5", "labels"),
    **_keys(
        Kind.TABLE,
        "11.3",
        "session_server",
        keys=_keys(Kind.TEXT, "11.3", "listen_address advertise_address")
        | _keys(Kind.WHOLE, "11.3", "session_timeout"),
    ),
    **_keys(Kind.TABLE, "17.9", "experimental"),
    **_keys(Kind.TABLES, _OLDEST, "runners", keys=RUNNER),
}
"""The keys at the top of the file."""


def find(path: KeyPath, keys: Keys = GLOBAL) -> Key | None:
    """The row of a key by its path below `keys`: ``("kubernetes", "host")`` in RUNNER. None: no version has it, or it is not described."""
    key = keys.get(path[0])
    if key is None or len(path) == 1:
        return key
    return find(path[1:], key.keys) if key.keys is not None else None


def for_version(values: Mapping[str, Any], version: Version, keys: Keys = RUNNER) -> dict[str, Any]:
    """The values without those keys that this version does not read; a table that becomes empty is left out."""
    kept: dict[str, Any] = {}
    for name, value in values.items():
        key = keys.get(name)
        if key is None or not key.known_to(version):
            continue
        if key.keys is None:
            kept[name] = value
        elif isinstance(value, Mapping):
            if inner := for_version(value, version, key.keys):
                kept[name] = inner
        else:
            kept[name] = [for_version(element, version, key.keys) for element in value]
    return kept


def mistakes(values: Mapping[str, Any], version: Version, keys: Keys = GLOBAL) -> Iterator[Mistake]:
    """Every key that this version ignores or refuses, in the order of the file."""
    for name, value in values.items():
        key = keys.get(name)
        if key is None:
            yield Mistake((name,), "gitlab-runner has no such key here and ignores it", fatal=False)
        elif not key.known_to(version):
            yield Mistake((name,), f"gitlab-runner {version} ignores it; it is known {key.versions}", fatal=False)
        elif not key.kind.holds(value):
            yield Mistake(
                (name,), f"must be {key.kind.value}; with this value the runner refuses the whole file", fatal=True
            )
        elif key.keys is not None:
            yield from _inside(name, value, version, key.keys)


def _inside(name: str, value: Any, version: Version, keys: Keys) -> Iterator[Mistake]:
    tables = [((name,), value)] if isinstance(value, Mapping) else [((name, i), table) for i, table in enumerate(value)]
    for place, table in tables:
        for mistake in mistakes(table, version, keys):
            yield Mistake((*place, *mistake.path), mistake.problem, mistake.fatal)
