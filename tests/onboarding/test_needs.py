"""Which rights the notebooks ask for, card by card."""

from __future__ import annotations

from typing import Any

from runbook.clients.permissions import Permission
from runbook.onboarding import needs, role
from runbook.settings import Settings


def settings(**sections: Any) -> Settings:
    values = {
        "name": "test",
        "region": "cn-hangzhou",
        "cache": {"enabled": False},
        "gitlab": {"url": "https://gitlab.example.com"},
        "smoke": {"project": "a/b"},
    }
    return Settings.parse(values | sections, where="card.yaml")


def needed(card: Settings, notebook: str) -> set[Permission]:
    return {permission for name, permission, _ in needs.of(card) if name == notebook}


def test_needs_follow_the_card() -> None:
    """No cache volume, no rights on volumes; no ServiceAccount, no rights on Roles."""
    full = settings(cache={"bucket": "b"})
    assert Permission("create", "persistentvolumes") in needed(full, "30-create-cache-volume")
    assert needed(settings(), "30-create-cache-volume") == set()
    own = needed(settings(access={"account": "kubeconfig"}), "20-grant-access")
    assert {permission.resource for permission in own} == {"namespaces"}


def test_a_namespace_that_is_there_need_not_be_made() -> None:
    """Whoever was given a namespace needs no right to make one, only to see it."""
    asked = {one for _, one, _ in needs.of(settings(), namespace_is_there=True) if one.resource == "namespaces"}
    assert asked == {Permission("get", "namespaces")}


def test_whoever_makes_the_role_must_have_what_it_gives() -> None:
    """Kubernetes refuses to hand out rights that the maker lacks, so notebook 10 asks for them too."""
    assert set(role.permissions(settings())) <= needed(settings(), "20-grant-access")


def test_secrets_that_the_card_names_are_asked_for_where_they_are() -> None:
    """A token kept in a Secret of another namespace needs rights there."""
    card = settings(runner={"token": "secret:vault/runner/token"})
    assert Permission("patch", "secrets", namespace="vault") in needed(card, "40-register-runner")
    assert Permission("get", "secrets", namespace="vault") in needed(card, "50-configure-runner")


def test_every_need_has_a_reason() -> None:
    """No right is asked for without saying why."""
    assert all(reason for _, _, reason in needs.of(settings(cache={"bucket": "b"})))
