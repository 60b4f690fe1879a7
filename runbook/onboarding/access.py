"""Notebook 20: what gitlab-runner may do in the cluster.

A namespace, a ServiceAccount, the smallest Role that the runner's version needs, and a token. The token is that of a
Secret of type service-account-token: gitlab-runner reads it once, from config.toml, and never asks for a new one, so
a token with an end would stop all jobs at that end. It is taken back by deleting the Secret; running the notebook
again then makes a new one.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from runbook import html
from runbook.clients import secrets
from runbook.clients.kubernetes import Cluster, known
from runbook.clients.permissions import RBAC, Permission
from runbook.clients.permissions import rules as rbac_rules
from runbook.errors import KubernetesError, TimedOut
from runbook.moments import wait_for
from runbook.onboarding import role
from runbook.plan import Action, Change, Plan, change_for
from runbook.report import Check, Report, Unknown, text_pairs
from runbook.settings import Settings

TITLE = "Runner access"
LABELS = {"app.kubernetes.io/managed-by": "runbook"}
TOKEN_TYPE = "kubernetes.io/service-account-token"
ACCOUNT_ANNOTATION = "kubernetes.io/service-account.name"
NEW_RIGHTS_TAKE = 15.0
"""Seconds after which a Role that was just written must be in force; it takes well under one."""
TOKEN_TAKES = 30.0
"""Seconds in which the cluster's token controller fills the Secret; it takes well under one."""


@dataclass(frozen=True)
class Token:
    """The token at the place that the card names, and its owner.

    `state` is absent; works; refused by this cluster; or revoked: its Secret is gone or was made anew, so that it
    ends as soon as the API server's memory of it does (10 seconds).
    """

    state: str
    user: str = ""


@dataclass(frozen=True)
class Facts:
    """What is in the cluster now: manifests as the API gives them, None where there is none; no value of a Secret."""

    namespace: Mapping[str, Any] | None | Unknown
    service_account: Mapping[str, Any] | None | Unknown = None
    role: Mapping[str, Any] | None | Unknown = None
    role_binding: Mapping[str, Any] | None | Unknown = None
    token_secret: Mapping[str, Any] | None | Unknown = None
    token: Token | None = None
    user: str | Unknown = ""
    """Whose account the notebook itself uses."""
    administrator: bool | Unknown = False
    """Whether that account may do everything in the cluster."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dict(json.loads(json.dumps(asdict(self), default=str)))

    def rows(self) -> dict[str, str]:
        objects = {
            "Namespace": self.namespace,
            "ServiceAccount": self.service_account,
            "Role": self.role,
            "RoleBinding": self.role_binding,
            "token Secret": self.token_secret,
        }
        found = {kind: _presence(seen) for kind, seen in objects.items()}
        token = {"token": self.token.state + (f" ({self.token.user})" if self.token.user else "")} if self.token else {}
        return found | token | {"this account": str(self.user)}

    def __str__(self) -> str:
        return text_pairs("Found", self.rows())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html.block(html.pairs(self.rows()))


def look(client: Cluster, settings: Settings) -> Facts:
    """Read the namespace, the four objects in it, and try the token that is there already."""
    namespace, account = settings.kubernetes.namespace, settings.access.service_account

    def read(kind: str, name: str) -> dict[str, Any] | None | Unknown:
        return known(lambda: client.get(kind, name, None if kind == "Namespace" else namespace))

    user, administrator = client.whoami(), client.may(Permission("*", "*", "*"))
    if settings.access.account == "kubeconfig":
        return Facts(read("Namespace", namespace), user=user, administrator=administrator)
    token_secret = read("Secret", token_secret_name(settings))
    return Facts(
        namespace=read("Namespace", namespace),
        service_account=read("ServiceAccount", account),
        role=read("Role", account),
        role_binding=read("RoleBinding", account),
        token_secret=_without_values(token_secret),
        token=_try_token(client, settings, token_secret),
        user=user,
        administrator=administrator,
    )


def token_secret_name(settings: Settings) -> str:
    """Name of the Secret that the token belongs to."""
    return f"{settings.access.service_account}-token"


def manifests(settings: Settings) -> dict[str, dict[str, Any]]:
    """What is applied, by the name of the fact it answers to, in order."""
    namespace, account = settings.kubernetes.namespace, settings.access.service_account

    def metadata(name: str) -> dict[str, Any]:
        return {"name": name, "namespace": namespace, "labels": dict(LABELS)}

    group = RBAC.partition("/")[0]
    return {
        "namespace": {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": namespace, "labels": dict(LABELS)},
        },
        "service_account": {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(account)},
        "role": {
            "apiVersion": RBAC,
            "kind": "Role",
            "metadata": metadata(account),
            "rules": rbac_rules(role.permissions(settings)),
        },
        "role_binding": {
            "apiVersion": RBAC,
            "kind": "RoleBinding",
            "metadata": metadata(account),
            "roleRef": {"apiGroup": group, "kind": "Role", "name": account},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
        },
        "token_secret": {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata(token_secret_name(settings)) | {"annotations": {ACCOUNT_ANNOTATION: account}},
            "type": TOKEN_TYPE,
        },
    }


@dataclass(frozen=True)
class Placement:
    """What applying needs to know of the token: where from, where to, whose it is, and what it must be able to do."""

    place: str
    namespace: str
    secret: str
    user: str
    allowed: tuple[Permission, ...]


def plan(facts: Facts, settings: Settings) -> Plan:
    """What to create, update and keep. Objects that cannot be read or cannot be changed are blockers."""
    wanted = manifests(settings)
    if settings.access.account == "kubeconfig":
        return Plan(
            TITLE,
            [_namespace_change(wanted["namespace"], facts.namespace)],
            blockers=_blockers(facts, {"namespace": wanted["namespace"]}),
            notes={"account": _what_a_kubeconfig_means(facts)},
        )
    blockers = _blockers(facts, wanted)
    if blockers:
        return Plan(TITLE, [], blockers=blockers)
    changes = [_namespace_change(wanted["namespace"], facts.namespace)]
    changes += [
        change_for(wanted[name], _live(getattr(facts, name)), reason=reason)
        for name, reason in (
            ("service_account", "the runner's own account"),
            ("role", "only what this runner version calls, in this namespace"),
            ("role_binding", "gives the Role to the account"),
            ("token_secret", "holds the account's token until it is deleted"),
        )
    ]
    sheet = role.smallest(settings)
    notes = {"runner version": str(sheet.version or "not in the card (runner.version): the Role serves every version")}
    return Plan(TITLE, [*changes, _token_change(facts.token or Token("absent"), settings)], notes=notes)


def apply(plan: Plan, client: Cluster, *, dry_run: bool, show: Callable[[str], None] = print) -> Report:
    """Rehearse the plan, or carry it out, put the token where it belongs and prove with it what the runner may do."""
    plan.raise_for_blockers()
    token = next((change for change in plan.changes if isinstance(change.desired, Placement)), None)
    replaces = token is not None and token.action is not Action.KEEP
    if token and replaces and not _place_to_come(plan, token.desired.place):
        secrets.store(token.desired.place, "", client, dry_run=True)  # before anything is changed
    passed_over = client.carry_out(plan, dry_run=dry_run)
    if token is None:
        return plan.report([_kubeconfig_check(plan)], dry_run=dry_run)
    if replaces and not dry_run:
        secrets.store(token.desired.place, _wait_for_token(client, token.desired, show), client, dry_run=False)
    checks = _unproved(plan) if dry_run and not plan.empty else prove(client, token.desired)
    return plan.report(checks, dry_run=dry_run, facts=_rehearsal(passed_over) if dry_run else {})


def prove(client: Cluster, placement: Placement) -> list[Check]:
    """Ask the cluster, as the owner of the stored token, what it may do: all of the Role, none of role.FORBIDDEN."""
    account = client.with_token(secrets.resolve(placement.place, client))
    seen = account.whoami()
    mine = Check.passed("token-owner", _OWNER, str(seen))
    if seen != placement.user and not isinstance(seen, Unknown):
        mine = Check.failed("token-owner", _OWNER, str(seen), expected=placement.user, remedy=_NEW_TOKEN)

    def missing() -> list[Permission]:
        return [one for one in placement.allowed if account.may(one) is not True]

    try:
        lacking = wait_for(
            missing,
            lambda left: not left,
            what="the Role is in force",
            timeout=NEW_RIGHTS_TAKE,
            every=0.3,
            clock=client.clock,
        )
    except TimedOut:
        lacking = missing()
    excess = [one for one in role.FORBIDDEN if account.may(one) is True]
    return [mine, _allowed_check(placement.allowed, lacking), _denied_check(excess)]


# -- pure parts of the above

_OWNER = "The stored token belongs to the runner's ServiceAccount"
_ALLOWED = "The runner may do everything that its Role lists"
_DENIED = "The runner may do nothing outside its namespace"
_NEW_TOKEN = "Delete the stored token and run this notebook again."


def _presence(seen: Mapping[str, Any] | None | Unknown) -> str:
    return str(seen) if isinstance(seen, Unknown) else "there" if seen else "not there"


def _live(seen: Any) -> dict[str, Any] | None:
    return None if seen is None or isinstance(seen, Unknown) else dict(seen)


def _without_values(secret: dict[str, Any] | None | Unknown) -> dict[str, Any] | None | Unknown:
    """What a plan compares of the Secret, and the names of its keys: facts may be shown and saved.

    Other annotations stay out too: kubectl keeps a whole copy of what it applied in one.
    """
    if secret is None or isinstance(secret, Unknown):
        return secret
    metadata = secret["metadata"]
    annotations = {key: text for key, text in (metadata.get("annotations") or {}).items() if key == ACCOUNT_ANNOTATION}
    kept = {key: metadata[key] for key in ("name", "namespace", "labels", "deletionTimestamp") if key in metadata}
    return {
        **{key: secret[key] for key in ("apiVersion", "kind", "type") if key in secret},
        "metadata": kept | {"annotations": annotations},
        "data": dict.fromkeys(secret.get("data") or {}, ""),
    }


def _namespace_change(wanted: dict[str, Any], live: Mapping[str, Any] | None | Unknown) -> Change:
    """A namespace that is there stays as it is, labels and all: it may be somebody's."""
    if live is None:
        return change_for(wanted, None, reason="job pods run here")
    return Change(Action.KEEP, "Namespace", wanted["metadata"]["name"], "is there; stays as it is", desired=wanted)


def _token_change(token: Token, settings: Settings) -> Change:
    namespace, account = settings.kubernetes.namespace, settings.access.service_account
    user = f"system:serviceaccount:{namespace}:{account}"
    placement = Placement(
        settings.access.token, namespace, token_secret_name(settings), user, tuple(role.permissions(settings))
    )
    if token.state == "absent":
        action, reason = Action.CREATE, "is written here for notebook 50"
    elif token.state == "refused":
        action, reason = Action.UPDATE, "the one there is refused by this cluster (taken back, or of another cluster)"
    elif token.state == "revoked":
        action, reason = Action.UPDATE, "the one there was taken back: its Secret is gone or was made anew"
    elif token.user not in ("", user):
        action, reason = Action.UPDATE, f"the one there belongs to {token.user}"
    else:
        action, reason = Action.KEEP, "the one there works"
    return Change(action, "token", placement.place, reason, desired=placement)


def _blockers(facts: Facts, wanted: Mapping[str, dict[str, Any]]) -> list[Check]:
    checks = []
    for name, manifest in wanted.items():
        seen = getattr(facts, name)
        label = f"{manifest['kind']} {manifest['metadata']['name']}"
        if isinstance(seen, Unknown):
            checks.append(
                Check.failed(
                    "account-permissions",
                    f"{label} can be read",
                    seen.reason,
                    remedy="Notebook 10 prints the rules that this account lacks, ready to apply.",
                )
            )
        elif seen is not None:
            checks += _unchangeable(label, manifest, seen)
    return checks


def _unchangeable(label: str, wanted: dict[str, Any], seen: Mapping[str, Any]) -> list[Check]:
    """Kubernetes changes neither the Role that a binding names, nor a Secret's type, nor what is being deleted."""
    namespace = f" -n {wanted['metadata']['namespace']}" if "namespace" in wanted["metadata"] else ""
    delete = f"kubectl delete {wanted['kind'].lower()} {wanted['metadata']['name']}{namespace}"
    if seen.get("metadata", {}).get("deletionTimestamp"):
        return [
            Check.failed("object-terminating", f"{label} is not being deleted", f"{label} is being deleted",
                         remedy="Wait until it is gone, then run this notebook again.")
        ]  # fmt: skip
    differing = [key for key in ("roleRef", "type") if key in wanted and seen.get(key) != wanted[key]]
    return [
        Check.failed(
            "object-immutable",
            f"{label} is ours to change",
            f"{label} has another {key}, and Kubernetes does not change it",
            expected=str(wanted[key]),
            remedy=f"Choose another access.service_account in the card, or, if nobody needs it: {delete}",
        )
        for key in differing
    ]


def _what_a_kubeconfig_means(facts: Facts) -> str:
    reach = "everything in this cluster" if facts.administrator is True else "what that account may"
    return (
        f"kubeconfig: no ServiceAccount, Role or token is made. The runner gets the credentials of {facts.user}; "
        f"whoever can read config.toml on its host can do {reach}."
    )


def _kubeconfig_check(plan: Plan) -> Check:
    return Check.warned(
        "runner-account",
        "The runner has an account of its own, as small as can be",
        plan.notes["account"],
        expected="access.account: service-account",
        remedy="Remove access.account from the card, and run notebooks 20 and 50 again.",
    )


def _place_to_come(plan: Plan, place: str) -> bool:
    """Whether the token is to go into a Secret of the namespace that this plan creates: it cannot be rehearsed then."""
    made = {change.name for change in plan.pending if change.kind == "Namespace"}
    return place.startswith("secret:") and place.removeprefix("secret:").partition("/")[0] in made


def _unproved(plan: Plan) -> list[Check]:
    reason = f"dry run: {plan.summary}"
    return [Check.skipped("role-allows", _ALLOWED, reason), Check.skipped("role-denies", _DENIED, reason)]


def _rehearsal(passed_over: Sequence[Change]) -> dict[str, str]:
    if not passed_over:
        return {}
    labels = ", ".join(change.label for change in passed_over)
    return {"not rehearsed by the server": f"{labels}: they need what this plan makes before them"}


def _allowed_check(allowed: Sequence[Permission], lacking: Sequence[Permission]) -> Check:
    if not lacking:
        return Check.passed(
            "role-allows", _ALLOWED, f"{len(allowed)} of {len(allowed)} permissions, asked with its token"
        )
    return Check.failed(
        "role-allows",
        _ALLOWED,
        "refused: " + "; ".join(map(str, lacking)),
        remedy="Run this notebook again with dry_run = False.",
    )


def _denied_check(excess: Sequence[Permission]) -> Check:
    if not excess:
        return Check.passed("role-denies", _DENIED, "refused: " + "; ".join(map(str, role.FORBIDDEN)))
    return Check.failed(
        "role-denies",
        _DENIED,
        "allowed: " + "; ".join(map(str, excess)),
        remedy="Another binding gives the account more: kubectl get rolebindings,clusterrolebindings -A -o wide",
    )


# -- the token


def _try_token(client: Cluster, settings: Settings, secret: Mapping[str, Any] | None | Unknown) -> Token:
    place = settings.access.token
    if not secrets.exists(place, client):
        return Token("absent")
    value = secrets.resolve(place, client)
    if not isinstance(secret, Unknown) and secret_of(value) == token_secret_name(settings):
        current = ((secret or {}).get("data") or {}).get("token", "")
        if base64.b64decode(current).decode() != value:
            return Token("revoked")
    try:
        user = client.with_token(value).whoami()
    except KubernetesError as error:
        if error.status != 401:
            raise
        return Token("refused")
    return Token("works", "" if isinstance(user, Unknown) else user)


def secret_of(token: str) -> str | None:
    """The Secret that a ServiceAccount's token says it belongs to; None for any other token. Nothing is verified."""
    try:
        _, payload, _ = token.split(".")
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return str(claims["kubernetes.io/serviceaccount/secret.name"])
    except (ValueError, TypeError, KeyError):
        return None


def _wait_for_token(client: Cluster, placement: Placement, show: Callable[[str], None]) -> str:
    def token() -> str:
        secret = client.get("Secret", placement.secret, placement.namespace) or {}
        return str((secret.get("data") or {}).get("token", ""))

    encoded = wait_for(
        token,
        bool,
        what=f"the cluster has put a token into Secret {placement.namespace}/{placement.secret}",
        timeout=TOKEN_TAKES,
        every=0.3,
        clock=client.clock,
        progress=lambda seen: "the token is there" if seen else "waiting for the token controller",
        show=show,
        page="#token-owner",
    )
    return base64.b64decode(encoded).decode()
