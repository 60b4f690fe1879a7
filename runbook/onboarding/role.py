"""The Role of gitlab-runner: which API calls each of its versions makes, and why."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from runbook import html
from runbook.clients.permissions import Permission
from runbook.report import text_pairs
from runbook.runner import version as runner_version
from runbook.runner.behaviours import Behaviour
from runbook.runner.version import Version
from runbook.settings import Settings


@dataclass(frozen=True)
class Rule:
    """One line of the Role: `resource` as RBAC writes it (`pods/exec`), the verbs, the reason, which runners need it.

    `since` is the first version that needs it, `before` the first that does not any more.
    """

    resource: str
    verbs: tuple[str, ...]
    reason: str
    since: Version | None = None
    before: Version | None = None

    def needed_by(self, version: Version | None) -> bool:
        """Whether this version needs the line; None, a version not known yet, needs every line."""
        return version is None or (self.since or version) <= version and (self.before is None or version < self.before)

    def permissions(self, namespace: str) -> list[Permission]:
        resource, _, subresource = self.resource.partition("/")
        return [Permission(verb, resource, subresource=subresource, namespace=namespace) for verb in self.verbs]


INFORMERS = Version(17, 9)
"""The first runner that follows its pods by list and watch."""

RULES = (
    Rule("pods", ("create", "get", "delete"), "one pod a job: made, asked until it runs, deleted at the end"),
    Rule(
        "pods", ("list", "watch"), "follows its pods by a watch; without it, it only warns and polls", since=INFORMERS
    ),
    Rule("pods/exec", ("create", "get"), "runs the stages; a stream begins by POST (create) or, over WebSocket, GET"),
    Rule(
        "pods/attach",
        ("create", "get"),
        "runs scripts by attaching to the container",
        since=Behaviour.ATTACH_STRATEGY.since,
    ),
    Rule("pods/log", ("get",), "reads the output of the containers", since=Behaviour.ATTACH_STRATEGY.since),
    Rule(
        "secrets",
        ("create", "get", "update", "delete"),
        "the job's registry credentials, owned by its pod; get also finds image_pull_secrets "
        "(a pod that it makes may mount any Secret of this namespace anyway)",
    ),
    Rule(
        "configmaps",
        ("create", "update", "delete"),
        "hands scripts to the pod in a ConfigMap",
        since=Behaviour.ATTACH_STRATEGY.since,
        before=Behaviour.SCRIPTS_IN_EMPTY_DIR.since,
    ),
    Rule("events", ("list",), "prints the pod's warnings into the job's log", since=Behaviour.WARNING_EVENTS.since),
)
"""The Role, from the API calls that GitLab Runner's source is annotated with (docs: Configure runner API permissions).

PATCH and DELETE on pods/exec and pods/attach stand in that list too, but no version calls them.
"""

LEFT_OUT = {
    "serviceaccounts: get": "only with service_account in config.toml",
    "services: create, get": "only for jobs whose image or services have ports:",
    "namespaces: create, delete": "only with namespace_per_job, and for the whole cluster",
    "poddisruptionbudgets: create, get": "only with pod_disruption_budget",
}
"""What GitLab's own list also names, and when it would be needed. The card offers none of these."""

FORBIDDEN = (
    Permission("list", "secrets", namespace="kube-system"),
    Permission("create", "pods", namespace="kube-system"),
    Permission("list", "secrets"),
    Permission("list", "nodes"),
    Permission("create", "clusterrolebindings", "rbac.authorization.k8s.io"),
)
"""What the runner's token must not be able to do: a proof that the Role is all it has."""


@dataclass(frozen=True)
class RoleSheet:
    """The Role as people read it: each line with its reason, and what was left out."""

    version: Version | None
    rules: tuple[Rule, ...]

    def rows(self) -> dict[str, str]:
        return {f"{rule.resource}: {', '.join(rule.verbs)}": rule.reason for rule in self.rules}

    @property
    def title(self) -> str:
        return f"Role for gitlab-runner {self.version or '(version not in the card: lines of every version)'}"

    def __str__(self) -> str:
        return "\n".join([text_pairs(self.title, self.rows()), text_pairs("Left out", LEFT_OUT)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html.block(html.pairs(self.rows()) + "<p>Left out:</p>" + html.pairs(LEFT_OUT), title=escape(self.title))


def smallest(settings: Settings) -> RoleSheet:
    """The lines that the card's runner version needs; those of every version where the card names none."""
    version = runner_version.parse(settings.runner.version) if settings.runner.version else None
    return RoleSheet(version, tuple(rule for rule in RULES if rule.needed_by(version)))


def permissions(settings: Settings) -> list[Permission]:
    """The Role as single permissions."""
    return [one for rule in smallest(settings).rules for one in rule.permissions(settings.kubernetes.namespace)]
