"""Notebook 40: the runner as GitLab knows it, made once, found again, and kept from production until it is proved.

A runner is known again by a line in its maintenance note, the *mark*:

    runbook: cluster=practice
    runbook: cluster=practice proved=2026-11-24T15:04:05Z

Without `proved=` the runner has the smoke tag only and takes no untagged jobs; `attributes` is the one place that
says so. Notebook 50 unpauses it and notebook 80 proves it (`prove`); this one then keeps the real tags. The runner's
token is shown by GitLab only once: it goes to the place that the card names before anything else is done.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from runbook.clients import secrets
from runbook.errors import GitLabError, GitLabForbidden, GitLabNotFound, PlanError, RunbookError
from runbook.plan import Action, Change, Plan, yaml_diff
from runbook.report import STYLE, Check, Report, Unknown, html_pairs, text_pairs
from runbook.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from runbook.clients.gitlab import GitLabClient
    from runbook.clients.kubernetes import Cluster

Seen = TypeVar("Seen")

TITLE = "Register the runner"
NOTE_LIMIT = 1024
"""Characters that GitLab keeps in a maintenance note."""

SYSTEM_ID = "runbook"
"""The name under which a stored token is tried, in the place of a runner machine's own system id."""

TYPES = {"instance": "instance_type", "group": "group_type", "project": "project_type"}
"""The card's word for who may use a runner, and the API's."""


@dataclass(frozen=True)
class Step:
    """One thing that this notebook asks of GitLab, with the token scopes of which it needs one."""

    name: str
    scopes: tuple[str, ...]


READ = Step("find the runner", ("api", "read_api"))
CREATE = Step("create the runner", ("api", "create_runner"))
UPDATE = Step("update the runner", ("api", "manage_runner"))
RESET = Step("reset the runner's token", ("api", "manage_runner"))

ROLES = {
    "instance": "an administrator",
    "group": "an Owner of the group",
    "project": "a Maintainer of the project",
}
"""Who may create and change a runner of each type."""


# -- the mark -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mark:
    """The line in a maintenance note by which a runner is ours: the card's name, and what proved it.

    `proved` is a word without spaces (a moment, a pipeline's address), or empty until notebook 80 is green.
    """

    cluster: str
    proved: str = ""

    @classmethod
    def read(cls, note: str | None) -> Mark | None:
        """The mark in a maintenance note, or None."""
        found = _MARK.search(note or "")
        return cls(found["cluster"], found["proved"] or "") if found else None

    def written_into(self, note: str | None) -> str:
        """The note with this mark in place of the old one, or below what people wrote. Raises PlanError if too long."""
        text = note or ""
        if _MARK.search(text):
            text = _MARK.sub(lambda _: str(self), text, count=1)
        else:
            text = f"{text.rstrip()}\n{self}" if text.strip() else str(self)
        if len(text) > NOTE_LIMIT:
            raise PlanError(
                "The runner's maintenance note is too long to take the mark by which it is known again.",
                value=f"{len(text)} characters",
                allowed=f"{NOTE_LIMIT} characters with the line: {self}",
                remedy="Shorten the note in GitLab.",
                page="#runner-mark",
            )
        return text

    def __str__(self) -> str:
        return f"runbook: cluster={self.cluster}" + (f" proved={self.proved}" if self.proved else "")


_MARK = re.compile(r"^runbook: cluster=(?P<cluster>\S+)(?: proved=(?P<proved>\S+))?[^\S\n]*$", re.MULTILINE)


def attributes(settings: Settings, *, proved: bool) -> dict[str, Any]:
    """What GitLab shall say of the runner, in the words of its API, before and after the proof; never `paused`.

    Whether the runner is paused is decided once at its creation, by notebook 50, and from then on by people.
    """
    card = settings.runner
    return {
        "description": card.description,
        "tag_list": sorted(set(card.tags)) if proved else [card.smoke_tag],
        "run_untagged": card.run_untagged if proved else False,
        "locked": card.locked if proved else True,
        "access_level": "ref_protected" if card.protected else "not_protected",
        "maximum_timeout": card.maximum_timeout,
    }


# -- facts ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RegisteredRunner:
    """One runner as GitLab answers `GET /runners/:id`. `maximum_timeout` is seconds."""

    id: int
    type: str
    description: str
    tags: tuple[str, ...]
    run_untagged: bool
    locked: bool
    paused: bool
    access_level: str
    maximum_timeout: int | None
    note: str
    owners: tuple[int, ...] = ()
    """Ids of the projects or groups that it belongs to; empty for an instance runner."""
    machines: tuple[str, ...] = ()
    """System ids of the machines that run it; asked only of a runner that is to be taken over."""

    @classmethod
    def from_api(cls, answer: Mapping[str, Any]) -> RegisteredRunner:
        owners = answer.get("projects") or answer.get("groups") or []
        return cls(
            id=int(answer["id"]),
            type=str(answer.get("runner_type", "")),
            description=answer.get("description") or "",
            tags=tuple(sorted(answer.get("tag_list") or [])),
            run_untagged=bool(answer.get("run_untagged")),
            locked=bool(answer.get("locked")),
            paused=bool(answer.get("paused", not answer.get("active", True))),
            access_level=answer.get("access_level") or "not_protected",
            maximum_timeout=answer.get("maximum_timeout"),
            note=answer.get("maintenance_note") or "",
            owners=tuple(int(owner["id"]) for owner in owners),
        )

    @property
    def mark(self) -> Mark | None:
        return Mark.read(self.note)

    @property
    def proved(self) -> bool:
        """Whether its mark says that notebook 80 was green."""
        return bool(self.mark and self.mark.proved)

    @property
    def attributes(self) -> dict[str, Any]:
        """What `attributes(settings, …)` wishes, as it is."""
        return {
            "description": self.description,
            "tag_list": list(self.tags),
            "run_untagged": self.run_untagged,
            "locked": self.locked,
            "access_level": self.access_level,
            "maximum_timeout": self.maximum_timeout or None,
        }


class TokenState(StrEnum):
    """What lies at the place where the runner's token belongs."""

    ABSENT = "absent"
    REFUSED = "refused"
    VALID = "valid"


@dataclass(frozen=True)
class StoredToken:
    """The token at the card's place, judged by GitLab's `POST /runners/verify`; the token itself is not kept here.

    `runner_id` is None for a GitLab that confirms a token without naming its runner (older than 15.8).
    """

    state: TokenState
    runner_id: int | None = None
    expires_at: str | None = None

    def belongs_to(self, runner: RegisteredRunner) -> bool:
        return self.state is TokenState.VALID and self.runner_id in (None, runner.id)

    def __str__(self) -> str:
        if self.state is not TokenState.VALID:
            return self.state.value
        owner = f"of runner {self.runner_id}" if self.runner_id else "of a runner that GitLab does not name"
        return f"valid, {owner}" + (f", expires {self.expires_at}" if self.expires_at else "")


@dataclass(frozen=True)
class RegistrationFacts:
    """What GitLab says about us and our runner. No secret is in it."""

    url: str
    gitlab_com: bool
    version: str | Unknown
    user: str | Unknown
    administrator: bool | Unknown
    scopes: tuple[str, ...] | Unknown
    owner_id: int | None
    """Id of the group or project of the card; None for an instance runner."""
    runners: tuple[RegisteredRunner, ...] | Unknown
    """The runners with our mark; with runner.existing_token, the one that the stored token belongs to."""
    token: StoredToken
    missing_namespace: str = ""
    """The namespace of the token's Secret, where it is not there yet."""

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}

    def summary(self) -> dict[str, str]:
        """The lines that the notebook shows."""
        administrator = "administrator" if self.administrator is True else ""
        return {
            "GitLab": f"{self.url} (version {self.version})",
            "user": f"{self.user} {administrator}".strip(),
            "token scopes": str(self.scopes) if isinstance(self.scopes, Unknown) else ", ".join(self.scopes),
            "our runner": _named(self.runners),
            "stored token": str(self.token),
        }

    def __str__(self) -> str:
        return text_pairs("Runner in GitLab", self.summary())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"{STYLE}<div class='rb'>{html_pairs(self.summary())}</div>"


def _plain(value: object) -> object:
    if isinstance(value, Unknown):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return asdict(value) if isinstance(value, RegisteredRunner | StoredToken) else value


def _named(runners: tuple[RegisteredRunner, ...] | Unknown) -> str:
    if isinstance(runners, Unknown):
        return str(runners)
    return "\n".join(_described(runner) for runner in runners) or "none yet"


def _described(runner: RegisteredRunner) -> str:
    state = "paused" if runner.paused else "active"
    proof = f"proved {runner.mark.proved}" if runner.mark and runner.mark.proved else "not proved"
    return (
        f"{runner.id} {runner.description} ({runner.type}, {state}, {proof}, tags {', '.join(runner.tags) or 'none'})"
    )


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
            remedy=_two_marks_remedy(found),
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
    """The runners whose mark names this card. Only a runner's own page shows its note, so each is asked for."""
    card = settings.runner
    path, query = (
        ("/runners/all", {})
        if everywhere or card.type == "instance"
        else (f"/{card.type}s/{owner_id}/runners", {"type": TYPES[card.type]})
    )
    listed = gitlab.list(path, what="the list of runners", **query)
    details = [_details(gitlab, int(one["id"])) for one in listed]
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
    blockers = _role_blockers(facts, settings)
    if not blockers:
        changes, blockers = _changes(facts, settings, reset_token=reset_token)
    waiting = f"notebook 20 (namespace {facts.missing_namespace})" if facts.missing_namespace else ""
    if waiting and not settings.dry_run:
        blockers.append(_namespace_missing(facts.missing_namespace))
    if not blockers:
        blockers = _scope_blockers(facts, changes)
    notes = {
        "runner": f"{settings.runner.type} runner, made by {ROLES[settings.runner.type]}",
        "token scopes": "; ".join(f"{step.name}: {' or '.join(step.scopes)}" for step in (READ, CREATE, UPDATE, RESET)),
        "token goes to": settings.runner.token,
    }
    return Plan(TITLE, changes, blockers, waiting, notes)


def _changes(facts: RegistrationFacts, settings: Settings, *, reset_token: bool) -> tuple[list[Change], list[Check]]:
    card = settings.runner
    if not card.tags and not card.run_untagged:
        return [], [_no_jobs()]
    if isinstance(facts.runners, Unknown):
        return [], [_unknown_runners(facts.runners)]
    if len(facts.runners) > 1:
        return [], [_two_marks(facts.runners)]
    if card.existing_token:
        return _with_existing_token(facts.runners, facts, settings)
    if not facts.runners:
        return _new_runner(facts, settings)
    [runner] = facts.runners
    if misplaced := _misplaced(runner, facts, settings):
        return [], [misplaced]
    token, blockers = _token_change(runner, facts, settings, reset_token=reset_token)
    return [_update(runner, settings), token], blockers


def _new_runner(facts: RegistrationFacts, settings: Settings) -> tuple[list[Change], list[Check]]:
    if facts.token.state is TokenState.VALID:
        return [], [_foreign_token(facts, settings)]
    owner = {"group_id": facts.owner_id, "project_id": facts.owner_id}
    wanted = {
        "runner_type": TYPES[settings.runner.type],
        **{key: id for key, id in owner.items() if key == f"{settings.runner.type}_id"},
        **attributes(settings, proved=False),
        "paused": True,
        "maintenance_note": str(Mark(settings.name)),
    }
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
) -> tuple[Change, list[Check]]:
    place = settings.runner.token
    if facts.token.belongs_to(runner):
        reason = "reset_token has no effect: the stored token is good" if reset_token else str(facts.token)
        return Change(Action.KEEP, "Token", place, reason), []
    if facts.missing_namespace:
        return Change(Action.KEEP, "Token", place, "cannot be looked at before its namespace is there"), []
    change = Change(Action.UPDATE, "Token", place, _RESET_CONSEQUENCE, "", runner)
    if facts.token.state is TokenState.VALID:
        return change, [_foreign_token(facts, settings)]
    return change, [] if reset_token else [_token_lost(runner, facts, settings)]


def _with_existing_token(
    runners: tuple[RegisteredRunner, ...], facts: RegistrationFacts, settings: Settings
) -> tuple[list[Change], list[Check]]:
    place = settings.runner.token
    if facts.token.state is not TokenState.VALID and not facts.missing_namespace:
        return [], [_existing_token_bad(facts, settings)]
    keep = Change(Action.KEEP, "Token", place, str(facts.token))
    if not runners:
        return [keep], [] if facts.missing_namespace else [_runner_unnamed(settings)]
    [runner] = runners
    if not facts.token.belongs_to(runner):
        return [], [_foreign_token(facts, settings)]
    if misplaced := _misplaced(runner, facts, settings):
        return [], [misplaced]
    if runner.mark is None and runner.machines:
        return [], [_in_use(runner, settings)]
    return [_update(runner, settings), keep], []


_RESET_CONSEQUENCE = (
    "reset: every gitlab-runner that has the old token gets no more jobs until notebook 50 writes the new one"
)


# -- why a plan stops -----------------------------------------------------------------------------------------


def _no_jobs() -> Check:
    return Check.failed(
        "runner-tags",
        "The runner will have jobs to take",
        "runner.tags is empty and runner.run_untagged is false; GitLab refuses such a runner",
        expected="at least one tag, or run_untagged: true",
        remedy="Add a tag to runner.tags in the cluster card.",
    )


def _unknown_runners(reason: Unknown) -> Check:
    return Check.failed(
        "runner-mark",
        "At most one runner carries our mark",
        str(reason),
        expected="a token that may list the runners, so that none is made twice",
        remedy=f"Give gitlab.token a token with the scope {' or '.join(READ.scopes)}, of a user who may see the runners.",
    )


def _two_marks(runners: Iterable[RegisteredRunner]) -> Check:
    runners = list(runners)
    return Check.failed(
        "runner-mark",
        "At most one runner carries our mark",
        "runners " + " and ".join(str(runner.id) for runner in runners) + " both carry it"
        if len(runners) == 2
        else f"{len(runners)} runners carry it: {', '.join(str(runner.id) for runner in runners)}",
        expected="one",
        remedy=_two_marks_remedy(runners),
    )


def _two_marks_remedy(runners: Iterable[RegisteredRunner]) -> str:
    lines = [f"  {_described(runner)}" for runner in runners]
    return "\n".join(
        ["Decide which one stays; delete the other in GitLab, or take the line out of its maintenance note:", *lines]
    )


def _misplaced(runner: RegisteredRunner, facts: RegistrationFacts, settings: Settings) -> Check | None:
    """GitLab cannot turn a runner into one of another type or owner."""
    card = settings.runner
    same_owner = facts.owner_id is None or not runner.owners or facts.owner_id in runner.owners
    if runner.type in (TYPES[card.type], "") and same_owner:
        return None
    seen = f"runner {runner.id} is {runner.type}" + (
        f" of {', '.join(map(str, runner.owners))}" if runner.owners else ""
    )
    wanted = f"{TYPES[card.type]}" + (f" of {facts.owner_id}" if facts.owner_id else "")
    return Check.failed(
        "runner-type",
        "The runner is of the card's type and owner",
        seen,
        expected=wanted,
        remedy="GitLab cannot change this. Correct runner.type in the card, or offboard the runner (notebook 99) and run this\n"
        "notebook again.",
    )


def _foreign_token(facts: RegistrationFacts, settings: Settings) -> Check:
    whose = f"runner {facts.token.runner_id}" if facts.token.runner_id else "a runner that GitLab does not name"
    return Check.failed(
        "runner-token",
        "The stored token is this runner's",
        f"{settings.runner.token} holds the valid token of {whose}, which is not our runner; it is not overwritten",
        expected="no token, or our runner's",
        remedy="If that runner is meant, set runner.existing_token: true. Otherwise name another place in runner.token.",
    )


def _token_lost(runner: RegisteredRunner, facts: RegistrationFacts, settings: Settings) -> Check:
    seen = "no token is stored" if facts.token.state is TokenState.ABSENT else "GitLab refuses the stored token"
    return Check.failed(
        "runner-token",
        "The stored token is this runner's",
        f"runner {runner.id} is there, but {seen} at {settings.runner.token}; GitLab shows a token only once",
        expected="the runner's token at that place",
        remedy=(
            f"If somebody has the token (in a config.toml, say), put it at {settings.runner.token} and run this again.\n"
            f"Otherwise run again with reset_token = True. {_RESET_CONSEQUENCE.capitalize()}."
        ),
    )


def _existing_token_bad(facts: RegistrationFacts, settings: Settings) -> Check:
    seen = "no token is there" if facts.token.state is TokenState.ABSENT else "GitLab refuses the token that is there"
    return Check.failed(
        "runner-token",
        "The stored token is this runner's",
        f"runner.existing_token is true, but {seen}: {settings.runner.token}",
        expected="a runner's token (glrt-…) made in GitLab's pages",
        remedy="Put it there with mode 0600, or set runner.existing_token: false and let this notebook create the runner.",
    )


def _runner_unnamed(settings: Settings) -> Check:
    return Check.failed(
        "runner-mark",
        "At most one runner carries our mark",
        "the stored token is valid, but this GitLab does not say whose it is",
        expected=f"a runner with the line `{Mark(settings.name)}` in its maintenance note",
        remedy="Write that line into the runner's maintenance note in GitLab, then run this notebook again.",
    )


def _in_use(runner: RegisteredRunner, settings: Settings) -> Check:
    return Check.failed(
        "runner-in-use",
        "A runner that is taken over does no other work yet",
        f"runner {runner.id} ({runner.description}) runs on {len(runner.machines)} machine(s): {', '.join(runner.machines)};\n"
        "taking it over takes its tags away until notebook 80 has proved it",
        expected="a runner that no machine runs yet, or one with our mark",
        remedy=(
            "Make a new runner (runner.existing_token: false), or agree to it by this line in the runner's\n"
            f"maintenance note: {Mark(settings.name)}"
        ),
    )


def _namespace_missing(namespace: str) -> Check:
    return Check.failed(
        "namespace",
        "The namespace of the token's Secret is there",
        f"there is no namespace {namespace}",
        expected="the namespace that notebook 20 creates",
        remedy="Run notebook 20 with dry_run = False first.",
    )


def _role_blockers(facts: RegistrationFacts, settings: Settings) -> list[Check]:
    """What GitLab would refuse to this user, said before it is tried."""
    if settings.runner.type != "instance" or not (facts.gitlab_com or facts.administrator is False):
        return []
    observed = (
        "gitlab.com has no instance runners of its users"
        if facts.gitlab_com
        else f"{facts.user} is not an administrator of {facts.url}; an instance runner needs one"
    )
    return [
        Check.failed(
            "runner-type",
            "This GitLab lets this user have such a runner",
            observed,
            expected="runner.type: group (an Owner of the group) or project (a Maintainer of the project)"
            + ("" if facts.gitlab_com else ", or an administrator's token"),
            remedy="Set runner.type and runner.group or runner.project in the cluster card.",
        )
    ]


_STEP_OF = {
    ("Runner", Action.CREATE): CREATE,
    ("Runner", Action.UPDATE): UPDATE,
    ("Token", Action.UPDATE): RESET,
}


def _scope_blockers(facts: RegistrationFacts, changes: Iterable[Change]) -> list[Check]:
    if isinstance(facts.scopes, Unknown):
        return []
    steps = [step for change in changes if (step := _STEP_OF.get((change.kind, change.action)))]
    missing = [step for step in steps if not set(step.scopes) & set(facts.scopes)]
    if not missing:
        return []
    return [
        Check.failed(
            "gitlab-scope",
            "The access token has the scopes that this plan needs",
            f"the token has {', '.join(facts.scopes) or 'none'}",
            expected="; ".join(f"to {step.name}: {' or '.join(step.scopes)}" for step in missing),
            remedy="Make a token with these scopes (GitLab > Preferences > Access tokens) and put it where gitlab.token says.",
        )
    ]


# -- apply ----------------------------------------------------------------------------------------------------


def apply(
    plan: Plan, gitlab: GitLabClient, settings: Settings, cluster: Cluster | None = None, *, dry_run: bool
) -> Report:
    """Carry the plan out, or with `dry_run` only make sure that the token could be stored.

    The token is stored before anything else can fail. Where that fails, a runner just made is deleted again.
    """
    if plan.blockers or (dry_run and plan.waiting_for):
        return plan.report(dry_run=dry_run)
    pending = {change.kind: change for change in plan.pending}
    if "Token" in pending:
        secrets.store(settings.runner.token, "", cluster, dry_run=True)
    if dry_run:
        return plan.report(dry_run=True)
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
        Check.passed("runner-registered", "GitLab knows the runner", _described(runner)),
        Check.passed("runner-token", "The stored token is this runner's", f"{settings.runner.token}: {token}")
        if token.belongs_to(runner)
        else Check.failed(
            "runner-token",
            "The stored token is this runner's",
            f"{settings.runner.token}: {token}",
            expected=f"the token of runner {runner.id}",
            remedy="Run this notebook again; it says what can be done.",
        ),
        Check.passed("runner-unproved", safe_title, _described(runner))
        if runner.proved
        or {key: runner.attributes[key] for key in _GUARDED} == {key: unproved[key] for key in _GUARDED}
        else Check.failed(
            "runner-unproved",
            safe_title,
            _described(runner),
            expected=f"only the tag {settings.runner.smoke_tag}, no untagged jobs",
            remedy="Run this notebook again with dry_run = False.",
        ),
    ]


_GUARDED = ("tag_list", "run_untagged")
