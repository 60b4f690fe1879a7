"""config.toml as the runner stand-in reads it: what a real runner refuses, it refuses in the same words."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from runbook.runner import keys
from runbook.runner.keys import Kind
from runbook.runner.version import parse
from sandbox.runner import config
from sandbox.runner.config import ConfigRefused, load, system_id

NEW, OLD = parse("17.9.2"), parse("14.7.1")

GOOD = """\
concurrent = 4
# a comment
[[runners]]
  name = "eci"
  url = "https://gitlab.example.com"
  token = "glrt-x"
  executor = "kubernetes"
  no_such_key = 1
  [runners.kubernetes]
    cpu_request = "2"
    misspelt_request = 3
"""


def written(tmp_path: Path, text: str) -> Path:
    """A config.toml that holds *text*."""
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def test_unknown_keys_are_ignored(tmp_path: Path) -> None:
    """A key that no runner knows is passed over without a word, as in a real one."""
    read = load(written(tmp_path, GOOD), NEW)
    assert (read.concurrent, read.check_interval, len(read.runners)) == (4, 3.0, 1)


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ('    cpu_request = "2"', "    cpu_request = 2"),
        ('  name = "eci"', "  name = 1"),
        ("concurrent = 4", 'concurrent = "4"'),
        ('  executor = "kubernetes"', "  environment = [1]"),
        ('    cpu_request = "2"', '    poll_timeout = "600"'),
        ('    cpu_request = "2"', '    privileged = "true"'),
        ('    cpu_request = "2"', "    poll_timeout = true"),
        ('    cpu_request = "2"', '    pod_annotations = {"k8s.aliyun.com/eci-max-pending-minute" = 30}'),
        ('    cpu_request = "2"', "    node_selector = {zone = true}"),
        ('    cpu_request = "2"', '    volumes = {pvc = [{name = "cache", mount_path = 1}]}'),
        ('    cpu_request = "2"', '    volumes = {pvc = {name = "cache", mount_path = "/cache"}}'),
        ('    cpu_request = "2"', "    pull_policy = [1]"),
    ],
)
def test_a_wrong_type_refuses_the_whole_file(tmp_path: Path, line: str, wrong: str) -> None:
    """One value of the wrong type and no runner of the file is loaded."""
    with pytest.raises(ConfigRefused, match="toml"):
        load(written(tmp_path, GOOD.replace(line, wrong)), NEW)


def test_an_unquoted_quantity_is_refused_in_the_words_of_the_version(tmp_path: Path) -> None:
    """The most common slip, an unquoted quantity, gets the message that the version prints."""
    path = written(tmp_path, GOOD.replace('"2"', "2"))
    with pytest.raises(ConfigRefused, match="cannot load TOML value of type int64 into a Go string"):
        load(path, OLD)
    with pytest.raises(
        ConfigRefused, match=r'last key "runners\.kubernetes\.cpu_request".*type int64; destination has type string'
    ):
        load(path, NEW)


@pytest.mark.parametrize("text", ["concurrent = ", "[[runners]\n", "[runners]\nname = 'x'\n"])
def test_what_is_not_a_configuration_is_refused(tmp_path: Path, text: str) -> None:
    """Broken TOML, and `[runners]` as a table, are refused."""
    with pytest.raises(ConfigRefused, match="toml"):
        load(written(tmp_path, text), NEW)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A file that is not there is named in the refusal."""
    with pytest.raises(ConfigRefused, match="no-such-file.toml: no such file or directory"):
        load(tmp_path / "no-such-file.toml", NEW)


def test_an_interval_that_makes_no_sense_is_three_seconds(tmp_path: Path) -> None:
    """check_interval of zero or less is the default."""
    assert load(written(tmp_path, "check_interval = -1\n" + GOOD), NEW).check_interval == 3.0


def test_the_system_id_is_kept(tmp_path: Path) -> None:
    """The manager's id is made once and kept beside the configuration, readable by its owner only."""
    path = written(tmp_path, GOOD)
    made = system_id(path)
    assert made.startswith("r_") and system_id(path) == made
    assert (tmp_path / ".runner_system_id").stat().st_mode & 0o777 == 0o600


def test_real_configurations_are_read(traces: Path) -> None:
    """Every real configuration that is TOML with a list of runners is read; only real type errors are refused."""
    refused, read = [], 0
    for path in sorted((traces / "runner-config").rglob("*.toml")):
        try:
            document = tomllib.loads(path.read_text())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError):
            continue
        if not isinstance(document.get("runners", []), list):
            continue
        try:
            load(path, NEW)
            read += 1
        except ConfigRefused as error:
            refused.append((path.name, str(error)))
    assert read >= 20
    assert all("incompatible types" in message for _, message in refused), refused


KINDS = {
    "string": Kind.TEXT,
    "int": Kind.WHOLE,
    "bool": Kind.TRUTH,
    "time.Duration": Kind.DURATION,
    "[]string": Kind.TEXTS,
    "StringOrArray": Kind.TEXT_OR_TEXTS,
    "map[string]string": Kind.TEXT_MAP,
    "map[string]int": Kind.WHOLE_MAP,
    "map[string]bool": Kind.TRUTH_MAP,
}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(config.GLOBAL, keys.GLOBAL), (config.RUNNER, keys.RUNNER), (config.KUBERNETES, keys.KUBERNETES)],
    ids=["global", "runners", "kubernetes"],
)
def test_two_readings_of_the_keys_agree(ours: dict[str, str], theirs: keys.Keys) -> None:
    """The stand-in's own table and the one that notebook 50 writes by give each key the same type."""
    differing = {
        key: (kind, theirs[key].kind.name if key in theirs else "unknown")
        for key, kind in ours.items()
        if key not in theirs or theirs[key].kind is not KINDS[kind]
    }
    assert differing == {}
