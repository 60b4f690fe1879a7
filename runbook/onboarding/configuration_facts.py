"""What notebook 50 finds: config.toml, the accesses that earlier notebooks made, the runner's version, the runner in GitLab."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from runbook import html
from runbook.clients import secrets
from runbook.clients.host_file import HostFile
from runbook.clients.kubernetes import known
from runbook.errors import GitLabForbidden, GitLabNotFound
from runbook.onboarding import registration, runner_section
from runbook.onboarding.registration import RegisteredRunner, TokenState
from runbook.report import Unknown, text_pairs
from runbook.runner.config_toml import Document, Runner
from runbook.runner.version import Version
from runbook.runner.version import parse as parse_version
from runbook.settings import Settings, locate

if TYPE_CHECKING:
    from runbook.clients.gitlab import GitLabClient
    from runbook.clients.kubernetes import Cluster

TITLE = "Runner configuration"

OLDEST_ASSUMED = Version(13, 6, 0)
"""The version of the article of 2020: taken where neither the card nor GitLab names one, so that every key written is known."""


@dataclass(frozen=True)
class Facts:
    """What there is: the file, the accesses that earlier notebooks made, the runner in GitLab. Its faces show no secret."""

    file: HostFile
    """config.toml on this host, or its copy."""
    document: Document | None
    """Its content; None where there is no file."""
    result: HostFile | None
    """For place copy: what an earlier run wrote."""
    script: HostFile | None
    """For place copy: the script that installs it."""
    version: Version
    version_source: str
    gitlab_url: str
    clone_url: str | None
    host: str
    """The API server as the runner's host will reach it."""
    certificate: str | None = field(repr=False)
    """The CA of the API server, PEM; None where the system's own CAs vouch for it."""
    certificate_path: str
    """Where the runner's host has that CA, or will have it."""
    certificate_file: HostFile | None
    """What is there, on this host; None for place copy."""
    needs_eci_label: bool
    runner_token: str | None = field(repr=False)
    kubernetes_token: str | None = field(repr=False)
    runner_token_state: TokenState
    runner: RegisteredRunner | Unknown | None
    """The runner in GitLab that the stored token belongs to."""
    rotated_token: str | None = field(default=None, repr=False)
    """A token in our section that GitLab accepts while it refuses the stored one: gitlab-runner has rotated it."""

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON, without any token."""
        return {
            "path": str(self.file.path),
            "target": str(self.file.target),
            "exists": self.file.exists,
            "sha256": self.file.sha256 if self.file.exists else None,
            "mode": f"{self.file.mode:04o}" if self.file.exists else None,
            "sections": [str(runner) for runner in self.document.runners] if self.document else [],
            "version": str(self.version),
            "version_source": self.version_source,
            "gitlab_url": self.gitlab_url,
            "host": self.host,
            "needs_eci_label": self.needs_eci_label,
            "runner_token": self.runner_token_state.value,
            "kubernetes_token": "present" if self.kubernetes_token else "absent",
            "runner": self._runner_text,
        }

    @property
    def _runner_text(self) -> str:
        if self.runner is None:
            return "unknown to this run: no valid token is stored"
        if isinstance(self.runner, Unknown):
            return str(self.runner)
        state = "paused" if self.runner.paused else "active"
        return f"{self.runner.id} {self.runner.description} ({state}, tags {', '.join(self.runner.tags) or 'none'})"

    def summary(self) -> dict[str, str]:
        """The lines that the notebook shows."""
        link = f" → {self.file.target}" if self.file.is_link else ""
        sections = (
            [f"line {runner.line}: {runner.name or '(no name)'}" for runner in self.document.runners]
            if self.document
            else []
        )
        return {
            "config.toml": f"{self.file.path}{link}" if self.file.exists else f"{self.file.path}: not there",
            "sections": "; ".join(sections) or "none",
            "gitlab-runner": f"{self.version} ({self.version_source})",
            "API server for the runner": self.host,
            "runner's token": self.runner_token_state.value,
            "cluster's token": "present" if self.kubernetes_token else "absent",
            "runner in GitLab": self._runner_text,
        }

    def __str__(self) -> str:
        return text_pairs(TITLE, self.summary())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html.block(html.pairs(self.summary()))


# -- look -------------------------------------------------------------------------------------------------------------


def look(cluster: Cluster, gitlab: GitLabClient, settings: Settings) -> Facts:
    """Read the file, the stored tokens, the runner in GitLab and the nodes of the cluster; change nothing.

    Raises ConfigTomlError for a file that cannot be read as gitlab-runner would, GitLabError and KubernetesError for a lost connection.
    """
    card = settings.config
    file = HostFile.read(_path(settings))
    document = Document.parse(file.data, str(file.path)) if file.data is not None else None
    url = secrets.resolve(settings.gitlab.runner_url or settings.gitlab.url).rstrip("/")
    token = _secret(settings.runner.token, cluster)
    state = registration.stored_token(gitlab, settings, cluster)
    runner = _runner(gitlab, state.runner_id)
    known_id = state.runner_id if isinstance(runner, RegisteredRunner) else None
    sections = runner_section.ours(document, settings, url=url, token=token, runner_id=known_id) if document else []
    rotated = _rotated(gitlab, sections, token) if state.state is TokenState.REFUSED else None
    version, source = _version(gitlab, settings, document, url, known_id)
    nodes = known(lambda: cluster.list("Node"))
    certificate = cluster.certificate_authority
    ca_path = certificate_path(settings)
    result = locate(card.result_path)
    return Facts(
        file=file,
        document=document,
        result=HostFile.read(result) if card.place == "copy" else None,
        script=HostFile.read(result.with_name(f"{result.name}.install.sh")) if card.place == "copy" else None,
        version=version,
        version_source=source,
        gitlab_url=url,
        clone_url=secrets.resolve(settings.gitlab.clone_url) if settings.gitlab.clone_url else None,
        host=secrets.resolve(settings.access.host) if settings.access.host else cluster.server,
        certificate=certificate,
        certificate_path=ca_path,
        certificate_file=HostFile.read(Path(ca_path)) if certificate and card.place == "host" else None,
        needs_eci_label=runner_section.needs_eci_label(settings, None if isinstance(nodes, Unknown) else nodes),
        runner_token=token,
        kubernetes_token=_secret(settings.access.token, cluster) if own_account(settings) else None,
        runner_token_state=state.state,
        runner=runner,
        rotated_token=rotated,
    )


def _path(settings: Settings) -> Path:
    """The file that is read: on this host, or the copy."""
    return locate(settings.config.path if settings.config.place == "host" else settings.config.copy_path)


def certificate_path(settings: Settings) -> str:
    """Where the runner's host has, or will have, the API server's CA: an absolute path."""
    if settings.access.ca_file:
        return str(Path(settings.access.ca_file).absolute())
    beside = locate(settings.config.path) if settings.config.place == "host" else Path(settings.config.path)
    return str(beside.absolute().parent / f"kubernetes-ca-{settings.name}.crt")


def own_account(settings: Settings) -> bool:
    return settings.access.account == "service-account"


def _secret(reference: str, cluster: Cluster) -> str | None:
    return secrets.resolve(reference, cluster) if secrets.exists(reference, cluster) else None


def _runner(gitlab: GitLabClient, runner_id: int | None) -> RegisteredRunner | Unknown | None:
    if runner_id is None:
        return None
    try:
        return RegisteredRunner.from_api(gitlab.get(f"/runners/{runner_id}", what=f"runner {runner_id}"))
    except (GitLabForbidden, GitLabNotFound) as error:
        return Unknown(error.problem.rstrip("."))


def _rotated(gitlab: GitLabClient, sections: Sequence[Runner], stored: str | None) -> str | None:
    """The token of our one section where GitLab accepts it: the process rotates a token that expires, and writes it into the file."""
    token = str(sections[0].get("token") or "") if len(sections) == 1 else ""
    if not token or token == stored:
        return None
    return token if registration.verify(gitlab, token).state is TokenState.VALID else None


def _version(
    gitlab: GitLabClient, settings: Settings, document: Document | None, url: str, runner_id: int | None
) -> tuple[Version, str]:
    """The runner program's version and who says so. One process serves every section, so the others' managers tell it, too."""
    if settings.runner.version:
        return parse_version(settings.runner.version), f"{settings.card}: runner.version"
    sections = document.runners if document else ()
    others = [runner.get("id") for runner in sections if runner_section.same_address(str(runner.get("url") or ""), url)]
    for number in dict.fromkeys(id for id in (runner_id, *others) if isinstance(id, int) and id > 0):
        versions = _manager_versions(gitlab, number)
        if versions:
            return min(versions), f"GitLab's managers of runner {number}"
    return OLDEST_ASSUMED, "assumed, the oldest supported: neither the card (runner.version) nor GitLab names one"


def _manager_versions(gitlab: GitLabClient, runner_id: int) -> list[Version]:
    """Versions of the processes that poll as this runner, without those that GitLab does not tell or that are no releases."""
    try:
        managers = gitlab.list(f"/runners/{runner_id}/managers", what=f"the managers of runner {runner_id}")
    except (GitLabForbidden, GitLabNotFound):
        return []
    versions = []
    for manager in managers:
        try:
            versions.append(parse_version(str(manager.get("version") or "")))
        except ValueError:
            continue
    return versions
