"""Notebook 50: the runner's section in gitlab-runner's config.toml, and the runner active with its smoke tag.

The file is either this host's own (card: `config.place: host`), replaced in one step, or a copy that a person carries out and back
(`copy`). Only our section and the global `concurrent` are touched; see `runbook.runner.config_toml` for how, and `runner_section` for what
the card wants in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from runbook.clients import connect
from runbook.clients.host_file import HostFile
from runbook.errors import PlanError
from runbook.moments import Clock
from runbook.onboarding import configuration_stops, install_script, registration, runner_section
from runbook.onboarding.configuration_facts import TITLE, Facts, look, own_account
from runbook.onboarding.install_script import Certificate
from runbook.onboarding.registration import RegisteredRunner, TokenState
from runbook.onboarding.runner_section import Wiring
from runbook.plan import Action, Change, Plan, unified_diff
from runbook.report import Check, Report
from runbook.runner.config_toml import Document, Runner, shown
from runbook.runner.version import Version
from runbook.settings import Settings

if TYPE_CHECKING:
    from runbook.clients.gitlab import GitLabClient

__all__ = ["Facts", "apply", "look", "plan"]

NOT_YET = "(not there yet)"
"""Stands for a token that an earlier notebook has not made, in a plan that is only shown."""

PUBLIC_FILE, PRIVATE_FILE = 0o644, 0o600


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
        *configuration_stops.file_blockers(facts, settings),
        *configuration_stops.load_blockers(document, facts.version),
        *configuration_stops.section_blockers(document, found, settings),
        *configuration_stops.size_blockers(settings, wiring),
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
    own = own_account(settings)
    runner = facts.runner if isinstance(facts.runner, RegisteredRunner) else None
    return Wiring(
        version=facts.version,
        url=facts.gitlab_url,
        token=facts.rotated_token or facts.runner_token or NOT_YET,
        runner_id=runner.id if runner else None,
        host=facts.host if own else None,
        ca_file=facts.certificate_path if own and facts.certificate else None,
        clone_url=facts.clone_url,
        bearer_token=(facts.kubernetes_token or NOT_YET) if own else None,
        needs_eci_label=facts.needs_eci_label,
    )


def _waiting_for(facts: Facts, settings: Settings) -> str:
    missing = []
    if own_account(settings) and facts.kubernetes_token is None:
        missing.append("notebook 20 (the cluster token)")
    if facts.runner_token is None:
        missing.append("notebook 40 (the runner token)")
    elif facts.runner_token_state is TokenState.REFUSED and not facts.rotated_token:
        missing.append(f"notebook 40 (GitLab refuses the runner token at {settings.runner.token})")
    return " and ".join(missing)


def _notes(facts: Facts, settings: Settings, wiring: Wiring) -> dict[str, str]:
    notes = {"keys": f"those that gitlab-runner {facts.version} knows ({facts.version_source})"}
    dropped = runner_section.left_out(settings, wiring, _NEWEST)
    if dropped:
        notes["left out"] = f"{', '.join(dropped)}: not known to {facts.version}"
    if not own_account(settings):
        notes["cluster's account"] = (
            "the kubeconfig of the user that the gitlab-runner service runs as: put it at that user's ~/.kube/config, mode 0600"
        )
    elif facts.certificate is None:
        notes["cluster's CA"] = (
            "none in this machine's kubeconfig: the runner's host must trust the API server by itself"
        )
    if facts.rotated_token:
        notes["token"] = "gitlab-runner has rotated it: the file's is kept, the stored one is out of date"
    return notes


_NEWEST = Version(99, 0, 0)


def _quotes(document: Document, facts: Facts, settings: Settings) -> dict[str, str]:
    """Requested, billed and list price of the pods that this configuration makes: of a job with one service, and of one without."""
    section = dict(_marked(document, settings).values)
    services = {"job with one service": (settings.smoke.service_image,), "job without": ()}
    return {
        name: runner_section.price_of(section, images, facts.version, settings) for name, images in services.items()
    }


def _marked(document: Document, settings: Settings) -> Runner:
    return next(runner for runner in document.runners if runner.get(*runner_section.MARK) == settings.name)


def _certificate_change(facts: Facts, settings: Settings) -> list[Change]:
    file = facts.certificate_file
    if not file or not facts.certificate or not own_account(settings):
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
    section = configuration_stops.ignored_keys(after, facts.version, _marked(after, settings))
    checks = (section, *configuration_stops.privacy(facts.file), *configuration_stops.byte_order_mark(after))
    action = Action.CREATE if not facts.file.exists else Action.KEEP if after.data == facts.file.data else Action.UPDATE
    reason, diff = _reason(before, after, found), _diff(before, after, found)
    if action is Action.KEEP or facts.result is None or facts.script is None:
        write = Write(facts.file, after.data, keeps_backup=True, checks=checks)
        return [Change(action, "config.toml", str(facts.file.path), reason, diff, write)]
    result = Write(facts.result, after.data, PRIVATE_FILE, checks=checks)
    script = Write(facts.script, _script(facts, settings, after, facts.script.path.name), PRIVATE_FILE)
    written = facts.result.data == result.data and facts.script.data == script.data
    if written:
        action, reason, diff = Action.KEEP, "written by an earlier run", ""
    return [
        Change(action, "config.toml", str(facts.result.path), f"for {settings.config.path}: {reason}", diff, result),
        Change(action, "install script", str(facts.script.path), "guarded by the SHA-256 of the copy", desired=script),
    ]


def _script(facts: Facts, settings: Settings, after: Document, name: str) -> bytes:
    certificate = (
        Certificate(facts.certificate_path, facts.certificate, replaces=settings.access.ca_file is None)
        if facts.certificate and own_account(settings)
        else None
    )
    return install_script.script(
        settings.config.path, name, old_sha256=facts.file.sha256, new_sha256=after.sha256, certificate=certificate
    ).encode()


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
    now, then = shown(section), shown(after.section_text(path), section)
    return unified_diff(f"{_top(before)}\n{now}", f"{_top(after)}\n{then}", "config.toml")


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
            f"that is yours to do:\n{install_script.install(scripts[0].file.path, results[0].file.path)}",
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
