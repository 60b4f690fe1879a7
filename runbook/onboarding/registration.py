"""Notebook 40: the runner as GitLab knows it, made once, found again, and kept from production until it is proved.

A runner is known again by a line in its maintenance note, the mark (see `registered_runner`). Notebook 50 unpauses it
(`pause`) and notebook 80 proves it (`prove`); a rerun of this one takes neither back. The runner's token is shown by
GitLab only once: it goes to the place that the card names before anything else is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from runbook.clients import secrets
from runbook.errors import GitLabError, GitLabForbidden, GitLabNotFound, RunbookError
from runbook.onboarding import registration_stops as stops
from runbook.onboarding.registered_runner import (
    TYPES,
    RegisteredRunner,
    RegistrationFacts,
    StoredToken,
    TokenState,
    attributes,
    described,
)
from runbook.plan import Action, Change, Plan, yaml_diff
from runbook.report import Check, Report, Unknown
from runbook.runner.runner_mark import Mark
from runbook.settings import Settings

__all__ = [
    "Mark",
    "RegisteredRunner",
    "RegistrationFacts",
    "StoredToken",
    "TokenState",
    "apply",
    "attributes",
    "find",
    "look",
    "pause",
    "plan",
    "prove",
    "stored_token",
    "verify",
]

if TYPE_CHECKING:
    from collections.abc import Callable

    from runbook.clients.gitlab import GitLabClient
    from runbook.clients.kubernetes import Cluster

Seen = TypeVar("Seen")

TITLE = "Runner registration"
SYSTEM_ID = "runbook"
"""The name under which a stored token is tried, in the place of a runner machine's own system id."""


# -- look -----------------------------------------------------------------------------------------------------


def look(gitlab: GitLabClient, settings: Settings, cluster: Cluster | None = None) -> RegistrationFacts:
    """Read what GitLab knows. `cluster` is needed only where runner.token names a Secret.

    Raises GitLabError where GitLab cannot be reached or does not accept the token.
    """
    scopes = _known(lambda: _scopes(gitlab))
    user = _known(lambda: gitlab.get("/user", what="the token's user", scope="read_api"))
    administrator = user if isinstance(user, Unknown) else bool(user.get("is_admin"))
    version = _known(lambda: str(gitlab.get("/version", what="GitLab's version")["version"]))
    owner_id = _owner(gitlab, settings)
    missing = _missing_namespace(settings, cluster)
    token = StoredToken(TokenState.ABSENT) if missing else stored_token(gitlab, settings, cluster)
    runners = _known(lambda: _ours(gitlab, settings, owner_id, token, everywhere=administrator is True))
    return RegistrationFacts(
        url=gitlab.url,
        gitlab_com=gitlab.is_gitlab_com,
        version=version,
        user=user if isinstance(user, Unknown) else str(user.get("username", "")),
        administrator=administrator,
        scopes=scopes,
        owner_id=owner_id,
        runners=runners,
        token=token,
        missing_namespace=missing,
    )


def find(gitlab: GitLabClient, settings: Settings) -> RegisteredRunner:
    """The one runner with our mark. Raises GitLabError where there is none, or more than one."""
    administrator = _known(lambda: bool(gitlab.get("/user", what="the token's user").get("is_admin")))
    found = _marked(gitlab, settings, _owner(gitlab, settings), everywhere=administrator is True)
    if len(found) == 1:
        return found[0]
    if found:
        raise GitLabError(
            "More than one runner carries our mark.",
            where=gitlab.url,
            value=[runner.id for runner in found],
            remedy=stops.two_marks_remedy(found),
            page="#runner-mark",
        )
    raise GitLabError(
        "GitLab has no runner with our mark.",
        where=gitlab.url,
        allowed=f"a maintenance note with the line: {Mark(settings.name)}",
        remedy="Run notebook 40 with dry_run = False.",
        page="#runner-mark",
    )


def stored_token(gitlab: GitLabClient, settings: Settings, cluster: Cluster | None = None) -> StoredToken:
    """What lies at the card's place, asked of GitLab with the token itself."""
    place = settings.runner.token
    if not secrets.exists(place, cluster):
        return StoredToken(TokenState.ABSENT)
    return verify(gitlab, secrets.resolve(place, cluster))


def verify(gitlab: GitLabClient, token: str) -> StoredToken:
    """Whether GitLab accepts a runner's token, and whose it is.

    GitLab takes whoever asks for a runner manager that has called. So we ask under a name of our own, and have it
    forgotten again: the list of managers keeps telling which machines run the runner, and in which version.
    """
    ourselves = {"token": token, "system_id": SYSTEM_ID}
    what = "verifying the stored runner token"
    try:
        answer = gitlab.post("/runners/verify", ourselves, what=what, scope="none")
    except GitLabForbidden:
        return StoredToken(TokenState.REFUSED)
    try:
        gitlab.delete("/runners/managers", ourselves, what=what, scope="none")
    except (GitLabForbidden, GitLabNotFound):
        pass  # a GitLab without runner managers (older than 15.10) has not noted one
    named = answer if isinstance(answer, dict) else {}
    return StoredToken(TokenState.VALID, named.get("id"), named.get("token_expires_at"))


def _known(read: Callable[[], Seen]) -> Seen | Unknown:
    """What was read, or why this token may not read it. A fault of another kind is raised."""
    try:
        return read()
    except GitLabForbidden as error:
        return Unknown(f"{error.problem} {error.allowed or ''}".strip())


def _scopes(gitlab: GitLabClient) -> tuple[str, ...] | Unknown:
    """The token's own scopes; any token may ask, but not an OAuth token (400), nor a GitLab older than 15.5 (404)."""
    try:
        answer = gitlab.get("/personal_access_tokens/self", what="the access token itself", scope="any")
    except GitLabError as error:
        if error.page and error.page.endswith(("#gitlab-refused", "#gitlab-not-found")):
            return Unknown("GitLab does not tell it of this token")
        raise
    return tuple(answer.get("scopes") or ())


def _owner(gitlab: GitLabClient, settings: Settings) -> int | None:
    card = settings.runner
    named = {"group": ("groups", card.group), "project": ("projects", card.project)}.get(card.type)
    if named is None:
        return None
    collection, path = named
    answer = gitlab.get(f"/{collection}/{quote(str(path), safe='')}", what=f"runner.{card.type}: {path}")
    return int(answer["id"])


def _ours(
    gitlab: GitLabClient, settings: Settings, owner_id: int | None, token: StoredToken, *, everywhere: bool
) -> tuple[RegisteredRunner, ...]:
    marked = _marked(gitlab, settings, owner_id, everywhere=everywhere)
    named = token.runner_id if settings.runner.existing_token else None
    return marked if named is None or marked else (_with_machines(gitlab, _details(gitlab, named)),)


def _marked(
    gitlab: GitLabClient, settings: Settings, owner_id: int | None, *, everywhere: bool
) -> tuple[RegisteredRunner, ...]:
    """The runners whose mark names this card.

    Only a runner's own page shows its note, so each candidate is asked for: those of the card's type and owner and,
    `everywhere` for an administrator, those of other types and owners that have the card's description.
    """
    card = settings.runner
    path = "/runners/all" if card.type == "instance" else f"/{card.type}s/{owner_id}/runners"
    listed = gitlab.list(path, what="the list of runners", type=TYPES[card.type])
    if everywhere:
        others = gitlab.list("/runners/all", what="the list of all runners")
        listed += [one for one in others if one.get("description") == card.description]
    details = [_details(gitlab, id) for id in dict.fromkeys(int(one["id"]) for one in listed)]
    return tuple(one for one in details if one.mark and one.mark.cluster == settings.name)


def _details(gitlab: GitLabClient, id: int) -> RegisteredRunner:
    return RegisteredRunner.from_api(gitlab.get(f"/runners/{id}", what=f"runner {id}"))


def _with_machines(gitlab: GitLabClient, runner: RegisteredRunner) -> RegisteredRunner:
    managers = gitlab.list(f"/runners/{runner.id}/managers", what=f"the machines of runner {runner.id}")
    return replace(runner, machines=tuple(str(one["system_id"]) for one in managers))


def _missing_namespace(settings: Settings, cluster: Cluster | None) -> str:
    kind, _, path = settings.runner.token.partition(":")
    if kind != "secret" or cluster is None:
        return ""
    namespace = path.split("/")[0]
    return "" if cluster.get("Namespace", namespace) else namespace


# -- plan -----------------------------------------------------------------------------------------------------


def plan(facts: RegistrationFacts, settings: Settings, *, reset_token: bool = False) -> Plan:
    """What would change in GitLab and at the token's place. Pure."""
    changes: list[Change] = []
    blockers = stops.role_blockers(facts, settings)
    if not blockers:
        changes, blockers = _changes(facts, settings, reset_token=reset_token)
    waiting = f"notebook 20 (namespace {facts.missing_namespace})" if facts.missing_namespace else ""
    if waiting and not settings.dry_run:
        blockers.append(stops.namespace_missing(facts.missing_namespace))
    if not blockers:
        blockers = stops.scope_blockers(facts, changes)
    notes = {
        "runner": f"{settings.runner.type} runner, made by {stops.ROLES[settings.runner.type]}",
        "token scopes": "; ".join(f"{step.name}: {' or '.join(step.scopes)}" for step in stops.steps(changes)),
        "token goes to": settings.runner.token,
    }
    return Plan(TITLE, changes, blockers, waiting, notes)


def _changes(facts: RegistrationFacts, settings: Settings, *, reset_token: bool) -> tuple[list[Change], list[Check]]:
    card = settings.runner
    if not card.tags and not card.run_untagged:
        return [], [stops.no_jobs()]
    if isinstance(facts.runners, Unknown):
        return [], [stops.unknown_runners(facts.runners)]
    if len(facts.runners) > 1:
        return [], [stops.two_marks(facts.runners)]
    if card.existing_token:
        return _with_existing_token(facts.runners, facts, settings)
    if not facts.runners:
        return _new_runner(facts, settings)
    [runner] = facts.runners
    if misplaced := stops.misplaced(runner, facts, settings):
        return [], [misplaced]
    token, blockers = _token_change(runner, facts, settings, reset_token=reset_token)
    return [_update(runner, settings), *token], blockers


def _new_runner(facts: RegistrationFacts, settings: Settings) -> tuple[list[Change], list[Check]]:
    if facts.token.state is TokenState.VALID:
        return [], [stops.foreign_token(facts, settings)]
    owner = {"group_id": facts.owner_id, "project_id": facts.owner_id}
    wished = {
        "runner_type": TYPES[settings.runner.type],
        **{key: id for key, id in owner.items() if key == f"{settings.runner.type}_id"},
        **attributes(settings, proved=False),
        "paused": True,
        "maintenance_note": str(Mark(settings.name)),
    }
    wanted = {key: value for key, value in wished.items() if value is not None}
    replaced = "; replaces a token that GitLab refuses" if facts.token.state is TokenState.REFUSED else ""
    runner = Change(
        Action.CREATE,
        "Runner",
        settings.runner.description,
        "paused, smoke tag only, until notebook 80 proves it",
        yaml_diff(None, wanted, settings.runner.description),
        wanted,
    )
    token = Change(
        Action.CREATE, "Token", settings.runner.token, f"GitLab shows it once; stored at once{replaced}", "", None
    )
    return [runner, token], []


def _update(runner: RegisteredRunner, settings: Settings) -> Change:
    mark = runner.mark or Mark(settings.name)
    now = {**runner.attributes, "maintenance_note": runner.note}
    then = {**attributes(settings, proved=runner.proved), "maintenance_note": mark.written_into(runner.note)}
    name = f"{runner.id} {runner.description}"
    if now == then:
        reason = f"proved {mark.proved}" if mark.proved else "as it was made; notebook 80 proves it"
        return Change(Action.KEEP, "Runner", name, reason, "", runner)
    changed = {key: value for key, value in then.items() if now[key] != value}
    diff = yaml_diff({key: now[key] for key in changed}, changed, name)
    return Change(Action.UPDATE, "Runner", name, "", diff, (runner, changed))


def _token_change(
    runner: RegisteredRunner, facts: RegistrationFacts, settings: Settings, *, reset_token: bool
) -> tuple[list[Change], list[Check]]:
    place = settings.runner.token
    if facts.token.belongs_to(runner):
        reason = "reset_token has no effect: the stored token is good" if reset_token else str(facts.token)
        return [Change(Action.KEEP, "Token", place, reason)], []
    if facts.missing_namespace:
        return [Change(Action.KEEP, "Token", place, "cannot be looked at before its namespace is there")], []
    if facts.token.state is TokenState.VALID:
        return [], [stops.foreign_token(facts, settings)]
    if not reset_token:
        return [], [stops.token_lost(runner, facts, settings)]
    return [Change(Action.UPDATE, "Token", place, stops.RESET_CONSEQUENCE, "", runner)], []


def _with_existing_token(
    runners: tuple[RegisteredRunner, ...], facts: RegistrationFacts, settings: Settings
) -> tuple[list[Change], list[Check]]:
    place = settings.runner.token
    if facts.token.state is not TokenState.VALID and not facts.missing_namespace:
        return [], [stops.existing_token_bad(facts, settings)]
    keep = Change(Action.KEEP, "Token", place, str(facts.token))
    if not runners:
        return [keep], [] if facts.missing_namespace else [stops.runner_unnamed(settings)]
    [runner] = runners
    if not facts.token.belongs_to(runner):
        return [], [stops.foreign_token(facts, settings)]
    if misplaced := stops.misplaced(runner, facts, settings):
        return [], [misplaced]
    if runner.mark is None and runner.machines:
        return [], [stops.in_use(runner, settings)]
    return [_update(runner, settings), keep], []


# -- apply ----------------------------------------------------------------------------------------------------


def apply(
    plan: Plan, gitlab: GitLabClient, settings: Settings, cluster: Cluster | None = None, *, dry_run: bool
) -> Report:
    """Carry the plan out, or with `dry_run` only make sure that the token could be stored, and look again.

    The token is stored before anything else can fail. Where that fails, a runner just made is deleted again.
    """
    if plan.blockers or (dry_run and plan.waiting_for):
        return plan.report(dry_run=dry_run)
    pending = {change.kind: change for change in plan.pending}
    if "Token" in pending:
        secrets.store(settings.runner.token, "", cluster, dry_run=True)
    if dry_run:
        return plan.report(_proofs(gitlab, settings, cluster) if plan.empty else (), dry_run=True)
    if (change := pending.get("Runner")) and change.action is Action.CREATE:
        _create(gitlab, settings, change.desired, cluster)
    elif change:
        runner, changed = change.desired
        gitlab.put(f"/runners/{runner.id}", changed, what=f"updating runner {runner.id}", scope="manage_runner")
    if (change := pending.get("Token")) and change.action is Action.UPDATE:
        _reset(gitlab, settings, change.desired, cluster)
    return plan.report(_proofs(gitlab, settings, cluster), dry_run=False)


def prove(gitlab: GitLabClient, settings: Settings, evidence: str) -> RegisteredRunner:
    """Give the proved runner the card's real tags, unlocked and active as the card says; the mark keeps `evidence`.

    `evidence` is a word without spaces: a moment, or a pipeline's address. Notebook 80 calls this, and only when all is green.
    """
    runner = find(gitlab, settings)
    note = Mark(settings.name, evidence).written_into(runner.note)
    wanted = {**attributes(settings, proved=True), "paused": False, "maintenance_note": note}
    answer = gitlab.put(f"/runners/{runner.id}", wanted, what=f"updating runner {runner.id}", scope="manage_runner")
    return RegisteredRunner.from_api(answer)


def pause(gitlab: GitLabClient, runner: RegisteredRunner, *, paused: bool) -> RegisteredRunner:
    """Let the runner take jobs, or stop it from taking new ones. Notebook 50 unpauses it once it is configured."""
    gitlab.put(f"/runners/{runner.id}", {"paused": paused}, what=f"updating runner {runner.id}", scope="manage_runner")
    return replace(runner, paused=paused)


def _create(gitlab: GitLabClient, settings: Settings, wanted: Mapping[str, Any], cluster: Cluster | None) -> None:
    answer = gitlab.post("/user/runners", dict(wanted), what="creating the runner", scope="create_runner")
    try:
        secrets.store(settings.runner.token, answer["token"], cluster, dry_run=False)
    except RunbookError as error:
        _take_back(gitlab, int(answer["id"]), error)
        raise


def _take_back(gitlab: GitLabClient, id: int, error: RunbookError) -> None:
    """Delete a runner whose token is lost, so that the next run starts afresh; where that fails too, say so in `error`."""
    try:
        gitlab.delete(f"/runners/{id}", what=f"deleting runner {id} again", scope="manage_runner")
        outcome = f"Runner {id}, just made, was deleted again because its token is lost."
    except GitLabError:
        outcome = f"Delete runner {id} in GitLab: it was just made, and its token is lost."
    error.remedy = "\n".join(part for part in (error.remedy, outcome) if part)


def _reset(gitlab: GitLabClient, settings: Settings, runner: RegisteredRunner, cluster: Cluster | None) -> None:
    path = f"/runners/{runner.id}/reset_authentication_token"
    answer = gitlab.post(path, {}, what=f"resetting the token of runner {runner.id}", scope="manage_runner")
    secrets.store(settings.runner.token, answer["token"], cluster, dry_run=False)


def _proofs(gitlab: GitLabClient, settings: Settings, cluster: Cluster | None) -> list[Check]:
    """What is true now, asked again: the runner is there, its token is stored, and it takes no production jobs unproved."""
    runner = find(gitlab, settings)
    token = stored_token(gitlab, settings, cluster)
    safe_title = "The runner takes no production jobs before it is proved"
    unproved = attributes(settings, proved=False)
    return [
        Check.passed("runner-registered", "GitLab knows the runner", described(runner)),
        Check.passed("runner-token", "The stored token is this runner's", f"{settings.runner.token}: {token}")
        if token.belongs_to(runner)
        else Check.failed(
            "runner-token",
            "The stored token is this runner's",
            f"{settings.runner.token}: {token}",
            expected=f"the token of runner {runner.id}",
            remedy="Run this notebook again; it says what can be done.",
        ),
        Check.passed("runner-unproved", safe_title, described(runner))
        if runner.proved
        or {key: runner.attributes[key] for key in _GUARDED} == {key: unproved[key] for key in _GUARDED}
        else Check.failed(
            "runner-unproved",
            safe_title,
            described(runner),
            expected=f"only the tag {settings.runner.smoke_tag}, no untagged jobs",
            remedy="Run this notebook again with dry_run = False.",
        ),
    ]


_GUARDED = ("tag_list", "run_untagged")
