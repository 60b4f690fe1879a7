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

from runbook.clients import connect
from runbook.clients.host_file import HostFile
from runbook.eci import charges, specs
from runbook.eci.quote import Quote
from runbook.errors import PlanError, RunbookError
from runbook.moments import Clock
from runbook.onboarding import install_script, registration, runner_section
from runbook.onboarding.configuration_facts import TITLE, Facts, look, own_account
from runbook.onboarding.install_script import Certificate
from runbook.onboarding.registration import RegisteredRunner, TokenState
from runbook.onboarding.runner_section import Wiring
from runbook.plan import Action, Change, Plan, unified_diff
from runbook.report import Check, Report
from runbook.runner import job_marks, keys, pods
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
        missing.append(f"notebook 20 (no cluster token at {settings.access.token})")
    if facts.runner_token is None:
        missing.append(f"notebook 40 (no runner token at {settings.runner.token})")
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
    return {name: _quote(section, images, facts.version, settings) for name, images in services.items()}


def _marked(document: Document, settings: Settings) -> Runner:
    return next(runner for runner in document.runners if runner.get(*runner_section.MARK) == settings.name)


def _quote(section: dict[str, Any], services: Sequence[str], version: Version, settings: Settings) -> str:
    pod = pods.job_pod(section, pods.sample_job(services=services), version)
    found = specs.for_pod(pod, region=settings.region)
    quote = Quote((), found, charges.list_price(found, site=settings.site), settings.site)
    return f"{quote.headline} ({found.rule})" + (f" {quote.price.reason}" if quote.price.reason else "")


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
    section = _ignored_keys(after, facts.version, _marked(after, settings))
    checks = (section, *_privacy(facts.file), *_byte_order_mark(after))
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


def _privacy(file: HostFile) -> list[Check]:
    """The file holds tokens in clear text; gitlab-runner itself gives it the mode 0600."""
    if not file.exists or not file.mode & 0o077:
        return []
    return [
        Check.warned(
            "config-toml-mode",
            "Only its owner can read config.toml",
            f"{file.path} has mode {file.mode:04o}, and holds tokens",
            expected="mode 0600",
            remedy=f"chmod 600 {file.path}",
        )
    ]


def _byte_order_mark(document: Document) -> list[Check]:
    """Editors of Windows put one at the beginning; the TOML parser of older runners stumbles over it, that of newer ones does not."""
    if not document.bom:
        return []
    return [
        Check.warned(
            "config-toml-bom",
            "Every gitlab-runner can read the first line of config.toml",
            f"{document.where} begins with a byte order mark, which is kept",
            expected="plain UTF-8; an older gitlab-runner refuses the whole file for this mark",
            remedy=f"sed -i '1s/^\\xef\\xbb\\xbf//' {document.where}",
        )
    ]


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
