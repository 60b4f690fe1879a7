"""The table of config.toml's keys: which version knows which, and what a runner would make of a file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from runbook.runner import keys
from runbook.runner.keys import Key, Keys, Kind
from runbook.runner.version import Version, parse

ROWS = [
    # key, last version without it, first version with it
    ("kubernetes.pod_labels", "9.1", "9.2"),
    ("kubernetes.pod_annotations", "10.3", "10.4"),
    ("kubernetes.bearer_token", "10.2", "10.3"),
    ("kubernetes.node_tolerations", "11.7", "11.8"),
    ("kubernetes.cpu_request_overwrite_max_allowed", "12.8", "12.9"),
    ("kubernetes.helper_cpu_request_overwrite_max_allowed", "13.3", "13.4"),
    ("kubernetes.ephemeral_storage_request", "13.4", "13.5"),
    ("kubernetes.volumes.csi", "13.10", "13.11"),
    ("kubernetes.volumes.pvc.sub_path", "13.5", "13.6"),
    ("kubernetes.volumes.empty_dir.size_limit", "16.5", "16.6"),
    ("kubernetes.print_pod_warning_events", "17.11", "18.0"),
    ("kubernetes.pod_cpu_request", "18.9", "18.10"),
    ("kubernetes.pod_disruption_budget", "18.10", "18.11"),
    ("kubernetes.volumes.nfs", "18.11", "19.0"),
    ("feature_flags", "13.10", "13.11"),
    ("clone_url", "10.0", "10.1"),
    ("id", "15.2", "15.3"),
]


@pytest.mark.parametrize(("name", "without", "first"), ROWS)
def test_first_version(name: str, without: str, first: str) -> None:
    """A key is known from its first version on, and not to the one before."""
    key = keys.find(tuple(name.split(".")), keys.RUNNER)
    assert key is not None
    assert not key.known_to(parse(without))
    assert key.known_to(parse(first))


@pytest.mark.parametrize(
    ("name", "last", "gone"),
    [
        ("kubernetes.cpus", "9.3", "9.4"),
        ("kubernetes.terminationGracePeriodSeconds", "16.11.3", "17.0"),
        ("pre_clone_script", "16.11", "17.0"),
    ],
)
def test_last_version(name: str, last: str, gone: str) -> None:
    """A removed key is known to every patch of its last version, and to none after it."""
    key = keys.find(tuple(name.split(".")), keys.RUNNER)
    assert key is not None
    assert key.known_to(parse(last))
    assert not key.known_to(parse(gone))


def test_keys_that_do_not_exist() -> None:
    """The names that people take for keys have no row: tags belong to GitLab, and dashes belong to the TLS keys only."""
    for name in ("tags", "run_untagged", "locked", "paused", "tls_ca_file"):
        assert keys.find((name,), keys.RUNNER) is None
    assert keys.find(("kubernetes", "allowPrivilegeEscalation"), keys.RUNNER) is None


def test_for_version() -> None:
    """What a version does not know is left out, at every depth, and a table that has nothing left goes, too."""
    values = {
        "id": 7,
        "name": "eci",
        "kubernetes": {
            "host": "h",
            "pod_cpu_request": "2",
            "volumes": {"nfs": [{"name": "n"}], "pvc": [{"name": "c", "sub_path": "s"}]},
        },
    }
    assert keys.for_version(values, Version(13, 5)) == {
        "name": "eci",
        "kubernetes": {"host": "h", "volumes": {"pvc": [{"name": "c"}]}},
    }
    assert keys.for_version(values, Version(19, 0)) == values
    assert keys.for_version({"kubernetes": {"pod_cpu_request": "2"}}, Version(13, 6)) == {}


@pytest.mark.parametrize(
    ("text", "path", "problem"),
    [
        ("[[runners]]\n[runners.kubernetes]\ncpu_request = 2", "runners.0.kubernetes.cpu_request", "text in quotes"),
        ('[[runners]]\nlimit = "10"', "runners.0.limit", "a whole number"),
        ("concurrent = true", "concurrent", "a whole number"),
        ('[[runners]]\nenvironment = "A=1"', "runners.0.environment", "a list of texts"),
        ("[[runners]]\n[runners.kubernetes.pod_labels]\na = 1", "runners.0.kubernetes.pod_labels", "a table of texts"),
        ("[[runners]]\n[[runners.kubernetes]]", "runners.0.kubernetes", "a table"),
        ("[runners]", "runners", "an array of tables"),
    ],
)
def test_a_wrong_type_stops_every_runner(text: str, path: str, problem: str) -> None:
    """A value of the wrong type is fatal: a runner then refuses the whole file."""
    [mistake] = keys.mistakes(tomllib.loads(text), Version(17, 9))
    assert mistake.fatal
    assert ".".join(map(str, mistake.path)) == path
    assert problem in mistake.problem


def test_unknown_keys_are_only_ignored() -> None:
    """A misspelt key, and one of another version, are named and not fatal."""
    values = tomllib.loads('[[runners]]\ntls_ca_file = "x"\n[runners.kubernetes]\npod_cpu_request = "2"\n')
    found = {".".join(map(str, mistake.path)): mistake for mistake in keys.mistakes(values, Version(17, 9))}
    assert set(found) == {"runners.0.tls_ca_file", "runners.0.kubernetes.pod_cpu_request"}
    assert "since 18.10" in str(found["runners.0.kubernetes.pod_cpu_request"])
    assert not any(mistake.fatal for mistake in found.values())


def test_a_value_is_never_in_a_mistake() -> None:
    """A mistake names the place and the type; the value may be a token."""
    values = tomllib.loads('[[runners]]\ntoken = ["T0ken"]\nlimit = "T0ken"\nT = "T0ken"\n')
    assert "T0ken" not in " ".join(f"{mistake} {mistake!r}" for mistake in keys.mistakes(values, Version(17, 9)))


def test_a_recorded_configuration_is_fine(traces: Path) -> None:
    """The configuration with which a real 14.7.1 ran has no mistake in it."""
    values = tomllib.loads((traces / "runner-recordings" / "config-14.7.1.toml").read_text())
    assert list(keys.mistakes(values, Version(14, 7, 1))) == []


def test_real_configurations(traces: Path) -> None:
    """In other people's files the table finds the few keys that no runner has, and nothing in those of the Kubernetes executor that it has."""
    unknown: dict[str, int] = {}
    for file in sorted((traces / "runner-config").glob("*.toml")):
        values: dict[str, Any] = tomllib.loads(file.read_text())
        for mistake in keys.mistakes(values, Version(19, 4)):
            name = ".".join(part for part in mistake.path if isinstance(part, str))
            unknown[name] = unknown.get(name, 0) + 1
    assert set(unknown) == {
        "runners",  # [runners] as a table
        "session_server",  # [[session_server]] as an array
        "limit",  # at the top, where it has no effect
        "runners.kubernetes.limit",
        "runners.kubernetes.wait_for_services_timeout",
        "runners.pre_clone_script",  # gone after 16.11
    }


def rows(table: Keys) -> list[tuple[str, Key]]:
    return [row for name, key in table.items() for row in [(name, key), *rows(key.keys or {})]]


def test_every_row_is_possible() -> None:
    """No key ends before it begins, and only tables have keys inside."""
    for name, key in rows(keys.GLOBAL):
        assert key.until is None or key.since <= key.until, name
        assert key.keys is None or key.kind in (Kind.TABLE, Kind.TABLES), name
