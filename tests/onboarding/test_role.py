"""The smallest Role, version by version."""

from __future__ import annotations

from typing import Any

import pytest

from runbook.onboarding import role
from runbook.runner.version import parse
from runbook.settings import Settings


def settings(version: str | None) -> Settings:
    values = {
        "name": "test",
        "region": "cn-hangzhou",
        "cache": {"enabled": False},
        "gitlab": {"url": "https://gitlab.example.com"},
        "runner": {"version": version} if version else {},
        "smoke": {"project": "a/b"},
    }
    return Settings.parse(values, where="card.yaml")


def verbs(version: str | None) -> dict[str, set[str]]:
    """The Role of a version: resource -> verbs."""
    held: dict[str, set[str]] = {}
    for rule in role.smallest(settings(version)).rules:
        held.setdefault(rule.resource, set()).update(rule.verbs)
    return held


@pytest.mark.parametrize(
    ("version", "resources"),
    [
        ("13.6", {"pods", "pods/exec", "secrets"}),
        ("14.7", {"pods", "pods/exec", "pods/attach", "pods/log", "secrets", "configmaps"}),
        ("15.7.3", {"pods", "pods/exec", "pods/attach", "pods/log", "secrets", "configmaps"}),
        ("15.8", {"pods", "pods/exec", "pods/attach", "pods/log", "secrets"}),
        ("18.0", {"pods", "pods/exec", "pods/attach", "pods/log", "secrets", "events"}),
    ],
)
def test_the_role_grows_and_shrinks_with_the_version(version: str, resources: set[str]) -> None:
    """13.6 execs, 14.0 attaches, ConfigMaps end with 15.7, events begin with 18.0."""
    assert set(verbs(version)) == resources


@pytest.mark.parametrize(("version", "watches"), [("17.8.5", False), ("17.9.0", True), ("19.3", True)])
def test_pods_are_watched_from_17_9_on(version: str, watches: bool) -> None:
    """list and watch on pods are given to the versions that use informers only."""
    assert ({"list", "watch"} <= verbs(version)["pods"]) is watches


def test_an_unknown_version_gets_the_lines_of_every_version() -> None:
    """Where the card names no version, no version's job fails for want of a right."""
    every = verbs(None)
    for version in ("13.6", "14.7", "15.8", "17.9", "19.3"):
        assert all(held <= every[resource] for resource, held in verbs(version).items())


def test_each_line_has_a_reason_and_none_is_a_wildcard() -> None:
    """The Role lists what it gives, each line with its reason."""
    for rule in role.RULES:
        assert rule.reason
        assert "*" not in (rule.resource, *rule.verbs)


@pytest.mark.parametrize("face", [str, lambda sheet: sheet._repr_html_()])
def test_the_role_can_be_read(face: Any) -> None:
    """Lines, reasons and what was left out stand in both faces."""
    text = face(role.smallest(settings("17.9.2")))
    assert "gitlab-runner 17.9.2" in text
    assert "pods/exec: create, get" in text
    assert "only with namespace_per_job" in text


def test_until_is_exclusive() -> None:
    """A line that ends with a version is not given to that version."""
    rule = next(rule for rule in role.RULES if rule.resource == "configmaps")
    assert rule.needed_by(parse("15.7.9"))
    assert not rule.needed_by(parse("15.8.0"))
