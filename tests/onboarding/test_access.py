"""What notebook 20 plans, without any cluster."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from runbook.errors import PlanError
from runbook.onboarding import access
from runbook.onboarding.access import Facts, Token
from runbook.plan import Action, Plan
from runbook.report import Unknown
from runbook.settings import Settings

OWNER = "system:serviceaccount:gitlab-ci:gitlab-runner"


def settings(version: str | None = None, **access_section: Any) -> Settings:
    values = {
        "name": "test",
        "region": "cn-hangzhou",
        "cache": {"enabled": False},
        "gitlab": {"url": "https://gitlab.example.com"},
        "runner": {"version": version} if version else {},
        "access": access_section,
        "smoke": {"project": "a/b"},
    }
    return Settings.parse(values, where="card.yaml")


EMPTY = Facts(namespace=None, token=Token("absent"), user="admin")


def applied(card: Settings) -> Facts:
    """The facts after the plan of this card was carried out, as the API server returns them: with more fields."""
    live = {
        name: {**manifest, "metadata": {**manifest["metadata"], "uid": "1", "managedFields": []}}
        for name, manifest in access.manifests(card).items()
    }
    return Facts(**live, token=Token("works", OWNER), user="admin", administrator=True)


def actions(plan: Plan) -> dict[str, str]:
    return {change.kind: change.action.value for change in plan.changes}


# -- the plan


def test_an_empty_cluster_gets_everything_in_order() -> None:
    """Namespace first, then the account and its Role, the token last."""
    plan = access.plan(EMPTY, settings())
    assert [change.kind for change in plan.changes] == [
        "Namespace", "ServiceAccount", "Role", "RoleBinding", "Secret", "token",
    ]  # fmt: skip
    assert {change.action for change in plan.changes} == {Action.CREATE}


def test_applied_twice_changes_nothing() -> None:
    """What is there as planned is kept, whatever else the API server wrote into it."""
    assert access.plan(applied(settings()), settings()).empty


def test_a_namespace_of_somebody_stays_as_it_is() -> None:
    """A namespace that is there keeps its labels, and gets none of ours."""
    theirs = {"kind": "Namespace", "metadata": {"name": "gitlab-ci", "labels": {"team": "a"}}}
    plan = access.plan(replace(EMPTY, namespace=theirs), settings())
    assert actions(plan)["Namespace"] == "keep"


def test_a_newer_runner_updates_the_role_with_a_diff() -> None:
    """Another version in the card shows which rights come and go before anything is changed."""
    plan = access.plan(applied(settings("15.7")), settings("18.0"))
    change = next(change for change in plan.pending)
    assert (change.kind, change.action) == ("Role", Action.UPDATE)
    assert len(plan.pending) == 1
    assert "-  - configmaps" in change.diff
    assert "+  - events" in change.diff


@pytest.mark.parametrize(
    ("token", "action", "reason"),
    [
        (Token("absent"), "create", "written here"),
        (Token("refused"), "update", "refused by this cluster"),
        (
            Token("works", "system:serviceaccount:other:runner"),
            "update",
            "belongs to system:serviceaccount:other:runner",
        ),
        (Token("works", OWNER), "keep", "works"),
        (Token("works"), "keep", "works"),
    ],
)
def test_a_token_that_works_is_kept(token: Token, action: str, reason: str) -> None:
    """Only a token that is absent, refused or somebody else's is written anew."""
    plan = access.plan(replace(applied(settings()), token=token), settings())
    change = next(change for change in plan.changes if change.kind == "token")
    assert change.action.value == action
    assert reason in change.reason
    assert change.name == settings().access.token


def test_an_unreadable_object_stops_the_plan() -> None:
    """What could not be read is not taken for absent: the plan stops, with the reason."""
    plan = access.plan(replace(EMPTY, role=Unknown("This account may not get roles")), settings())
    assert plan.changes == []
    with pytest.raises(PlanError, match="may not get roles"):
        plan.raise_for_blockers()


def test_a_binding_to_another_role_is_not_ours() -> None:
    """Kubernetes does not change a binding's Role: the plan says so instead of deleting somebody's binding."""
    facts = applied(settings())
    assert isinstance(facts.role_binding, dict)
    other = {**facts.role_binding, "roleRef": {**facts.role_binding["roleRef"], "name": "admin"}}
    plan = access.plan(replace(facts, role_binding=other), settings())
    assert [check.id for check in plan.blockers] == ["object-immutable"]
    assert "kubectl delete rolebinding gitlab-runner -n gitlab-ci" in plan.blockers[0].remedy


def test_a_secret_of_another_type_is_not_ours() -> None:
    """A Secret that happens to bear the token's name is left alone."""
    facts = applied(settings())
    assert isinstance(facts.token_secret, dict)
    plan = access.plan(replace(facts, token_secret={**facts.token_secret, "type": "Opaque"}), settings())
    assert [check.id for check in plan.blockers] == ["object-immutable"]


def test_a_namespace_on_its_way_out_is_waited_for() -> None:
    """Nothing can be made in a namespace that is being deleted."""
    going = {"metadata": {"name": "gitlab-ci", "deletionTimestamp": "2026-11-24T12:00:00Z"}}
    plan = access.plan(replace(EMPTY, namespace=going), settings())
    assert [check.id for check in plan.blockers] == ["object-terminating"]


def test_the_articles_kubeconfig_makes_no_account_and_says_what_it_means() -> None:
    """With access.account: kubeconfig only the namespace is made, and the reach of that account is told."""
    plan = access.plan(Facts(None, user="admin", administrator=True), settings(account="kubeconfig"))
    assert actions(plan) == {"Namespace": "create"}
    assert "the credentials of admin" in plan.notes["account"]
    assert "everything in this cluster" in plan.notes["account"]


def jwt(claims: object) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"head.{payload}.signature"


@pytest.mark.parametrize(
    ("token", "secret"),
    [
        (jwt({"kubernetes.io/serviceaccount/secret.name": "gitlab-runner-token"}), "gitlab-runner-token"),
        (jwt({"sub": "system:serviceaccount:a:b"}), None),
        (jwt(["a", "list"]), None),
        ("no-jwt", None),
        ("a.%%%.c", None),
        ("", None),
    ],
)
def test_a_token_says_which_secret_it_belongs_to(token: str, secret: str | None) -> None:
    """The claim of a Secret's token is read; whatever else stands at the place is no error."""
    assert access.secret_of(token) == secret


# -- no secret


def test_facts_and_plans_hold_no_value_of_a_secret() -> None:
    """The Secret's keys are known by name only, in facts, plan and JSON."""
    copy = {"kubectl.kubernetes.io/last-applied-configuration": '{"data": {"token": "cGxhbnRlZA=="}}'}
    metadata = {"name": "s", "annotations": copy}
    secret = {"kind": "Secret", "metadata": metadata, "type": access.TOKEN_TYPE, "data": {"token": "cGxhbnRlZA=="}}
    seen = access._without_values(secret)
    assert isinstance(seen, dict)
    facts = replace(applied(settings()), token_secret=seen)
    plan = access.plan(facts, settings())
    everything = "".join([json.dumps(facts.as_dict()), str(facts), repr(facts), str(plan), plan._repr_html_()])
    assert "cGxhbnRlZA==" not in everything
    assert '"token": ""' in json.dumps(facts.as_dict())
