"""Notebook 50: the runner's section in gitlab-runner's config.toml, and the runner active with its smoke tag.

The file is either this host's own (card: `config.place: host`), replaced in one step, or a copy that a person carries out and back
(`copy`). Only our section and the global `concurrent` are touched; see `runbook.runner.config_toml` for how, and `runner_section` for what
the card wants in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook.clients import connect, secrets
from runbook.clients.host_file import HostFile
from runbook.clients.kubernetes import known
from runbook.eci import charges, specs
from runbook.eci.quote import Quote
from runbook.errors import GitLabForbidden, GitLabNotFound, PlanError, RunbookError
from runbook.moments import Clock
from runbook.onboarding import install_script, registration, runner_section
from runbook.onboarding.install_script import Certificate
from runbook.onboarding.registration import RegisteredRunner, TokenState
from runbook.onboarding.runner_section import Wiring
from runbook.plan import Action, Change, Plan, unified_diff
from runbook.report import STYLE, Check, Report, Unknown, html_pairs, text_pairs
from runbook.runner import job_marks, keys, pods
from runbook.runner.config_toml import Document, Runner, shown
from runbook.runner.version import Version
from runbook.runner.version import parse as parse_version
from runbook.settings import Settings, locate

if TYPE_CHECKING:
    from runbook.clients.gitlab import GitLabClient
    from runbook.clients.kubernetes import Cluster

TITLE = "Configuration of the runner"

OLDEST_ASSUMED = Version(13, 6, 0)
"""The version of the article of 2020: taken where neither the card nor GitLab names one, so that every key written is known."""

NOT_YET = "(not there yet)"
"""Stands for a token that an earlier notebook has not made, in a plan that is only shown."""

PUBLIC_FILE, PRIVATE_FILE = 0o644, 0o600


# -- facts ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Facts:
    """What there is: the file, the accesses that earlier notebooks made, the runner in GitLab. Its faces show no secret."""

    file: HostFile
    """config.toml on this host, or its copy."""
    document: Document | None
    """Its content; None where there is no file."""
    result: HostFile | None
    """For place copy: what an earlier run wrote."""
    version: Version
    version_source: str
    gitlab_url: str
    clone_url: str | None
    host: str
    """The API server as the runner's host will reach it."""
    certificate: str | None = field(repr=False)
    """The CA of the API server, PEM; None where the system's own CAs vouch for it."""
    certificate_file: HostFile | None
    """What is on this host where the runner will look for that CA; None for place copy."""
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
            "sections": "\n".join(sections) or "none",
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
        return f"{STYLE}<div class='rb'>{html_pairs(self.summary())}</div>"


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
    return Facts(
        file=file,
        document=document,
        result=HostFile.read(locate(card.result_path)) if card.place == "copy" else None,
        version=version,
        version_source=source,
        gitlab_url=url,
        clone_url=secrets.resolve(settings.gitlab.clone_url) if settings.gitlab.clone_url else None,
        host=secrets.resolve(settings.access.host) if settings.access.host else cluster.server,
        certificate=certificate,
        certificate_file=HostFile.read(Path(_certificate_path(settings)))
        if certificate and card.place == "host"
        else None,
        needs_eci_label=runner_section.needs_eci_label(settings, None if isinstance(nodes, Unknown) else nodes),
        runner_token=token,
        kubernetes_token=_secret(settings.access.token, cluster) if _own_account(settings) else None,
        runner_token_state=state.state,
        runner=runner,
        rotated_token=rotated,
    )


def _path(settings: Settings) -> Path:
    """The file that is read: on this host, or the copy."""
    return locate(settings.config.path if settings.config.place == "host" else settings.config.copy_path)


def _certificate_path(settings: Settings) -> str:
    """Where the runner's host has, or will have, the API server's CA: an absolute path."""
    if settings.access.ca_file:
        return str(Path(settings.access.ca_file).absolute())
    beside = locate(settings.config.path) if settings.config.place == "host" else Path(settings.config.path)
    return str(beside.absolute().parent / f"kubernetes-ca-{settings.name}.crt")


def _own_account(settings: Settings) -> bool:
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


# -- plan -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Write:
    """A file to be written: over what was read, with a backup beside it where `keeps_backup`."""

    file: HostFile
    data: bytes = field(repr=False)
    mode: int | None = None
    keeps_backup: bool = False
    checks: tuple[Check, ...] = ()
    """What was found out about the content."""


@dataclass(frozen=True)
class Unpause:
    """The runner that shall take jobs."""

    runner: RegisteredRunner


def plan(facts: Facts, settings: Settings) -> Plan:
    """What would be written where, and what the job pods will cost. Pure."""
    wiring = _wiring(facts, settings)
    notes = _notes(facts, settings, wiring)
    document = facts.document or Document("", str(facts.file.path))
    found = runner_section.ours(
        document, settings, url=facts.gitlab_url, token=facts.runner_token, runner_id=wiring.runner_id
    )
    blockers = [
        *_file_blockers(facts, settings),
        *_load_blockers(document, facts.version),
        *_section_blockers(document, found, settings),
        *_size_blockers(settings, wiring),
    ]
    if blockers:
        return Plan(TITLE, (), blockers, notes=notes)
    values = runner_section.wanted(settings, wiring)
    after = runner_section.placed(document, found[0] if found else None, values, settings)
    after = runner_section.with_concurrent(after, settings)
    changes = [
        *_certificate_change(facts, settings),
        *_file_changes(facts, settings, document, after, found),
        *_runner_change(facts, settings),
    ]
    return Plan(
        TITLE, changes, waiting_for=_waiting_for(facts, settings), notes=notes | _quotes(after, facts, settings)
    )


def _wiring(facts: Facts, settings: Settings) -> Wiring:
    own = _own_account(settings)
    runner = facts.runner if isinstance(facts.runner, RegisteredRunner) else None
    return Wiring(
        version=facts.version,
        url=facts.gitlab_url,
        token=facts.rotated_token or facts.runner_token or NOT_YET,
        runner_id=runner.id if runner else None,
        host=facts.host if own else None,
        ca_file=_certificate_path(settings) if own and facts.certificate else None,
        clone_url=facts.clone_url,
        bearer_token=(facts.kubernetes_token or NOT_YET) if own else None,
        needs_eci_label=facts.needs_eci_label,
    )


def _waiting_for(facts: Facts, settings: Settings) -> str:
    missing = []
    if _own_account(settings) and facts.kubernetes_token is None:
        missing.append(f"notebook 20 (no cluster token at {settings.access.token})")
    if facts.runner_token is None:
        missing.append(f"notebook 40 (no runner token at {settings.runner.token})")
    elif facts.runner_token_state is TokenState.REFUSED and not facts.rotated_token:
        missing.append(f"notebook 40 (GitLab refuses the runner token at {settings.runner.token})")
    return " and ".join(missing)


def _notes(facts: Facts, settings: Settings, wiring: Wiring) -> dict[str, str]:
    notes = {"keys": f"those that gitlab-runner {facts.version} knows; version {facts.version_source}"}
    dropped = runner_section.left_out(settings, wiring, _NEWEST)
    if dropped:
        notes["left out"] = f"{', '.join(dropped)}: not known to {facts.version}"
    if not _own_account(settings):
        notes["cluster's account"] = (
            "the kubeconfig of the user that the gitlab-runner service runs as: put it at that user's ~/.kube/config, mode 0600"
        )
    if facts.rotated_token:
        notes["token"] = "gitlab-runner has rotated it: the file's is kept, the stored one is out of date"
    if facts.document and facts.document.bom:
        notes["byte order mark"] = (
            "the file begins with one; it is kept, but old versions of gitlab-runner may refuse it"
        )
    return notes


_NEWEST = Version(99, 0, 0)


def _quotes(document: Document, facts: Facts, settings: Settings) -> dict[str, str]:
    """Requested, billed and list price of the pods that this configuration makes: of a job with one service, and of one without."""
    section = dict(_marked(document, settings).values)
    services = {"job with one service": (settings.smoke.service_image,), "job without": ()}
    return {name: _quote(section, images, facts.version, settings) for name, images in services.items()}


def _marked(document: Document, settings: Settings) -> Runner:
    return next(runner for runner in document.runners if runner.get(*runner_section.MARK) == settings.name)


def _quote(section: dict[str, Any], services: Sequence[str], version: Version, settings: Settings) -> str:
    pod = pods.job_pod(section, pods.sample_job(services=services), version)
    found = specs.for_pod(pod, region=settings.region)
    quote = Quote((), found, charges.list_price(found, site=settings.site), settings.site)
    return f"{quote.headline}\n{found.rule}" + (f"\n{quote.price.reason}" if quote.price.reason else "")


def _certificate_change(facts: Facts, settings: Settings) -> list[Change]:
    file = facts.certificate_file
    if not file or not facts.certificate or not _own_account(settings):
        return []
    data = facts.certificate.encode()
    if file.data is not None and data.strip() in file.data:
        return [Change(Action.KEEP, "CA certificate", str(file.path))]
    if file.exists and settings.access.ca_file:
        return [
            Change(
                Action.KEEP,
                "CA certificate",
                str(file.path),
                "not the CA of this machine's kubeconfig, but the card names it",
            )
        ]
    action = Action.UPDATE if file.exists else Action.CREATE
    return [
        Change(action, "CA certificate", str(file.path), "of the API server", desired=Write(file, data, PUBLIC_FILE))
    ]


def _file_changes(
    facts: Facts, settings: Settings, before: Document, after: Document, found: list[Runner]
) -> list[Change]:
    """The change of config.toml itself; for place copy, of the result and of the script that installs it."""
    action = Action.CREATE if not facts.file.exists else Action.KEEP if after.data == facts.file.data else Action.UPDATE
    checks = (_ignored_keys(after, facts.version, _marked(after, settings)),)
    reason = _reason(before, after, found)
    diff = _diff(before, after, found)
    if settings.config.place == "host" or action is Action.KEEP:
        desired = Write(facts.file, after.data, keeps_backup=True, checks=checks)
        return [Change(action, "config.toml", str(facts.file.path), reason, diff, desired)]
    result = facts.result or HostFile.read(locate(settings.config.result_path))
    script = _script(facts, settings, after, result)
    if result.data == after.data and script.file.data == script.data:
        waiting = f"written by an earlier run; if it is not installed yet: {_install(script, result).splitlines()[0]}"
        return [
            Change(
                Action.KEEP, "config.toml", str(result.path), waiting, desired=Write(result, after.data, checks=checks)
            )
        ]
    reason = f"for {settings.config.path}: {reason}"
    return [
        Change(
            action,
            "config.toml",
            str(result.path),
            reason,
            diff,
            Write(result, after.data, PRIVATE_FILE, checks=checks),
        ),
        Change(action, "install script", str(script.file.path), "guarded by the SHA-256 of the copy", desired=script),
    ]


def _script(facts: Facts, settings: Settings, after: Document, result: HostFile) -> Write:
    path = result.path.with_name(f"{result.path.name}.install.sh")
    certificate = (
        Certificate(_certificate_path(settings), facts.certificate, replaces=settings.access.ca_file is None)
        if facts.certificate and _own_account(settings)
        else None
    )
    text = install_script.script(
        settings.config.path, path.name, old_sha256=facts.file.sha256, new_sha256=after.sha256, certificate=certificate
    )
    return Write(HostFile.read(path), text.encode(), PRIVATE_FILE)


def _install(script: Write, result: HostFile) -> str:
    return install_script.install(script.file.path, result.path)


def _reason(before: Document, after: Document, found: list[Runner]) -> str:
    if after.data == before.data:
        return str(found[0]) if found else ""
    others = len(before.runners) - len(found)
    kept = f"; {others} other section{'s' * (others != 1)} and every other line stay as they are" if others else ""
    section = f"{found[0]} is changed" if found else "a section is added at the end"
    old, new = before.get(("concurrent",)), after.get(("concurrent",))
    concurrent = f"; concurrent {'not set' if old is None else old} → {new}" if old != new else ""
    return f"{section}{concurrent}{kept}"


def _diff(before: Document, after: Document, found: list[Runner]) -> str:
    """Of our section and of `concurrent` alone: no line of another runner is shown."""
    path = found[0].path if found else ("runners", len(before.runners))
    section = before.section_text(path) if found else ""
    return unified_diff(
        _top(before) + shown(section), _top(after) + shown(after.section_text(path), section), "config.toml"
    )


def _top(document: Document) -> str:
    return document.section_text(("concurrent",))


def _runner_change(facts: Facts, settings: Settings) -> list[Change]:
    """Unpaused once it is configured, and only while it can take nothing but the smoke job, or is proved."""
    runner = facts.runner
    if not isinstance(runner, RegisteredRunner):
        return []
    name = f"{runner.id} {runner.description}"
    if not runner.paused:
        return [Change(Action.KEEP, "Runner", name, "active")]
    if not runner.proved and not _only_smoke(runner, settings):
        tags = ", ".join(runner.tags) or "none"
        return [
            Change(
                Action.KEEP,
                "Runner",
                name,
                f"stays paused: it is not proved, and its tags are {tags}; run notebook 40 first",
            )
        ]
    if runner.proved:
        return [
            Change(
                Action.KEEP,
                "Runner",
                name,
                "stays paused: it was proved, so somebody paused it since; unpause it in GitLab",
            )
        ]
    tag = settings.runner.smoke_tag
    return [
        Change(
            Action.UPDATE,
            "Runner",
            name,
            f"unpaused; it takes jobs with the tag {tag} only",
            "- paused\n+ active",
            Unpause(runner),
        )
    ]


def _only_smoke(runner: RegisteredRunner, settings: Settings) -> bool:
    return runner.tags == (settings.runner.smoke_tag,) and not runner.run_untagged


# -- why a plan stops -------------------------------------------------------------------------------------------------


def _file_blockers(facts: Facts, settings: Settings) -> list[Check]:
    if settings.config.place == "copy":
        return [] if facts.file.exists else [_no_copy(facts, settings)]
    obstacle = facts.file.obstacle()
    if obstacle is None:
        return []
    return [
        Check.failed(
            "config-toml-place",
            "config.toml can be replaced on this host",
            f"{facts.file.path}: {obstacle}",
            expected="a file that this account may replace, in a folder that is there (gitlab-runner's package makes it)",
            remedy="Run the notebook as root on the runner's host (a read-only file first needs chmod u+w),\n"
            "or set config.place: copy in the cluster card.",
        )
    ]


def _no_copy(facts: Facts, settings: Settings) -> Check:
    return Check.failed(
        "config-toml-copy",
        "config.toml was copied out",
        f"there is no copy at {facts.file.path}",
        expected=f"a copy of {settings.config.path} from the runner's host",
        remedy=install_script.copy_out(settings.config.path, facts.file.path),
    )


def _load_blockers(document: Document, version: Version) -> list[Check]:
    fatal = [mistake for mistake in keys.mistakes(document.values, version) if mistake.fatal]
    if not fatal:
        return []
    return [
        Check.failed(
            "config-toml-loads",
            "gitlab-runner can load config.toml",
            "\n".join(_at_line(document, mistake) for mistake in fatal),
            expected="every value of the type that gitlab-runner expects",
            remedy="Correct these lines by hand: as long as they are there, no runner of this file takes a job.",
        )
    ]


def _ignored_keys(document: Document, version: Version, section: Runner) -> Check:
    """Keys of our own section that this version does not read: they were written by hand, or for another version."""
    ignored = [mistake for mistake in keys.mistakes(section.values, version, keys.RUNNER) if not mistake.fatal]
    title = "gitlab-runner reads every key of our section"
    if not ignored:
        return Check.passed("config-toml-keys", title, f"{section}, gitlab-runner {version}")
    rooted = [keys.Mistake((*section.path, *mistake.path), mistake.problem, fatal=False) for mistake in ignored]
    return Check.warned(
        "config-toml-keys",
        title,
        "\n".join(_at_line(document, mistake) for mistake in rooted),
        expected=f"keys that gitlab-runner {version} knows",
        remedy="Correct or remove these lines by hand; they have no effect.",
    )


def _at_line(document: Document, mistake: keys.Mistake) -> str:
    line = next((document.line(statement) for statement in document.statements if statement.within(mistake.path)), None)
    return f"line {line}, {mistake}" if line else str(mistake)


def _section_blockers(document: Document, found: list[Runner], settings: Settings) -> list[Check]:
    title = "At most one section of config.toml is ours"
    if len(found) > 1:
        return [
            Check.failed(
                "config-toml-sections",
                title,
                "; ".join(str(runner) for runner in found),
                expected=f"one section with our mark ({job_marks.CARD} = {settings.name}), our token or our runner's id",
                remedy="Decide which one stays and remove the other by hand; both would serve the same runner.",
            )
        ]
    others = runner_section.namesakes(document, settings, found)
    foreign = [runner for runner in found if runner.get(*runner_section.MARK) not in (None, settings.name)]
    if foreign:
        mark = foreign[0].get(*runner_section.MARK)
        return [
            Check.failed(
                "config-toml-sections",
                title,
                f"{foreign[0]} has our runner's token or id, but was written from the card {mark}",
                expected="one runner in GitLab for each card",
                remedy="Give each card a runner of its own, or remove the mark from the section by hand.",
            )
        ]
    if others and not found:
        return [
            Check.failed(
                "config-toml-sections",
                title,
                f"{others[0]} has our runner's name, but neither our mark nor its token",
                expected="no other section for Kubernetes of the same name",
                remedy="Remove that section if its runner is gone, or rename one of the two (card: runner.description).\n"
                "To have it taken over, put its token where runner.token says and set runner.existing_token: true.",
            )
        ]
    return []


def _size_blockers(settings: Settings, wiring: Wiring) -> list[Check]:
    """What ECI would refuse of every job pod, said before it is written."""
    try:
        _quote(runner_section.wanted(settings, wiring), (settings.smoke.service_image,), wiring.version, settings)
    except RunbookError as error:
        return [
            Check.failed(
                "pod-size",
                "ECI has a spec for the job pods",
                "\n".join(error.lines()),
                expected=error.allowed or "",
                remedy="Correct pods in the cluster card.",
            )
        ]
    wrong = {key: value for key, value in settings.pods.custom_tags.items() if set(key + value) & set(",:")}
    if not wrong:
        return []
    return [
        Check.failed(
            "custom-tags",
            "Each tag for the bill can be written",
            ", ".join(f"{key}: {value}" for key, value in wrong.items()),
            expected="names and values without a comma or a colon, which separate them in the annotation",
            remedy="Correct pods.custom_tags in the cluster card.",
        )
    ]


# -- apply ------------------------------------------------------------------------------------------------------------


def apply(plan: Plan, gitlab: GitLabClient, *, dry_run: bool, clock: Clock | None = None) -> Report:
    """Write the files, each whole or not at all, then unpause the runner; with `dry_run` only say what would be done.

    Raises PlanError where something is missing that an earlier notebook makes, ConfigTomlError where the file changed meanwhile.
    """
    if plan.blockers or dry_run:
        return plan.report(_checks(plan), dry_run=dry_run)
    if plan.waiting_for:
        raise PlanError(
            f"The configuration waits for {plan.waiting_for}; nothing was written.",
            remedy="Run these notebooks with dry_run = False first.",
            page="#applied",
        )
    now = (clock or connect.clock()).now()
    backups = [_written(change.desired, now) for change in plan.pending if isinstance(change.desired, Write)]
    for change in plan.pending:
        if isinstance(change.desired, Unpause):
            registration.pause(gitlab, change.desired.runner, paused=False)
    kept = [str(path) for path in backups if path]
    return plan.report(
        [*_proofs(plan), *_checks(plan)], dry_run=False, facts={"backup": "\n".join(kept)} if kept else {}
    )


def _written(write: Write, now: datetime) -> Path | None:
    write.file.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return write.file.replace(write.data, mode=write.mode, backup_at=now if write.keeps_backup else None)


def _checks(plan: Plan) -> list[Check]:
    """What is true of the file as planned, applied or not."""
    found = [check for change in plan.changes if isinstance(change.desired, Write) for check in change.desired.checks]
    return [*found, *_installed(plan)]


def _installed(plan: Plan) -> list[Check]:
    scripts = [change.desired for change in plan.changes if change.kind == "install script"]
    results = [
        change.desired for change in plan.changes if change.kind == "config.toml" and isinstance(change.desired, Write)
    ]
    if not scripts or not results:
        return []
    return [
        Check.skipped(
            "config-toml-installed",
            "The new config.toml is installed on the runner's host",
            f"that is yours to do:\n{_install(scripts[0], results[0].file)}",
        )
    ]


def _proofs(plan: Plan) -> list[Check]:
    """Each file read again: it is what was planned, and gitlab-runner will load it."""
    checks = []
    for change in plan.changes:
        if change.kind == "config.toml" and isinstance(change.desired, Write):
            file = HostFile.read(change.desired.file.path)
            title = "config.toml is as planned"
            if file.data == change.desired.data:
                checks.append(Check.passed("config-toml-written", title, f"{file.path}, mode {file.mode:04o}"))
            else:
                checks.append(
                    Check.failed(
                        "config-toml-written",
                        title,
                        f"{file.path} was changed right after it was written",
                        remedy="Run this notebook again.",
                    )
                )
    return checks
