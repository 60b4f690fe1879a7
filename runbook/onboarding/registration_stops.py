"""Why the plan of notebook 40 stops: one check a reason, each with what was seen, what should be, and what to do. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from runbook.onboarding.registered_runner import (
    TYPES,
    RegisteredRunner,
    RegistrationFacts,
    TokenState,
    described,
)
from runbook.plan import Action, Change
from runbook.report import Check, Unknown
from runbook.runner.runner_mark import Mark
from runbook.settings import Settings


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

RESET_CONSEQUENCE = (
    "reset: every gitlab-runner that has the old token gets no more jobs until notebook 50 writes the new one"
)
"""What a reset of its token does to a runner."""


def no_jobs() -> Check:
    """The card leaves the runner without jobs."""
    return Check.failed(
        "runner-tags",
        "The runner will have jobs to take",
        "runner.tags is empty and runner.run_untagged is false; GitLab refuses such a runner",
        expected="at least one tag, or run_untagged: true",
        remedy="Add a tag to runner.tags in the cluster card.",
    )


def unknown_runners(reason: Unknown) -> Check:
    """The runners cannot be listed."""
    return Check.failed(
        "runner-mark",
        "At most one runner carries our mark",
        str(reason),
        expected="a token that may list the runners, so that none is made twice",
        remedy=f"Give gitlab.token a token with the scope {' or '.join(READ.scopes)}, of a user who may see the runners.",
    )


def two_marks(runners: Iterable[RegisteredRunner]) -> Check:
    """More than one runner carries our mark."""
    runners = list(runners)
    return Check.failed(
        "runner-mark",
        "At most one runner carries our mark",
        "runners " + " and ".join(str(runner.id) for runner in runners) + " both carry it"
        if len(runners) == 2
        else f"{len(runners)} runners carry it: {', '.join(str(runner.id) for runner in runners)}",
        expected="one",
        remedy=two_marks_remedy(runners),
    )


def two_marks_remedy(runners: Iterable[RegisteredRunner]) -> str:
    """What to do about two marks, with each runner on a line."""
    lines = [f"  {described(runner)}" for runner in runners]
    return "\n".join(
        ["Decide which one stays; delete the other in GitLab, or take the line out of its maintenance note:", *lines]
    )


def misplaced(runner: RegisteredRunner, facts: RegistrationFacts, settings: Settings) -> Check | None:
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


def foreign_token(facts: RegistrationFacts, settings: Settings) -> Check:
    """The token's place holds the valid token of a runner that is not ours."""
    whose = f"runner {facts.token.runner_id}" if facts.token.runner_id else "a runner that GitLab does not name"
    return Check.failed(
        "runner-token",
        "The stored token is this runner's",
        f"{settings.runner.token} holds the valid token of {whose}, which is not our runner; it is not overwritten",
        expected="no token, or our runner's",
        remedy="If that runner is meant, set runner.existing_token: true. Otherwise name another place in runner.token.",
    )


def token_lost(runner: RegisteredRunner, facts: RegistrationFacts, settings: Settings) -> Check:
    """The runner is there, its token is not."""
    seen = "no token is stored" if facts.token.state is TokenState.ABSENT else "GitLab refuses the stored token"
    return Check.failed(
        "runner-token",
        "The stored token is this runner's",
        f"runner {runner.id} is there, but {seen} at {settings.runner.token}; GitLab shows a token only once",
        expected="the runner's token at that place",
        remedy=(
            f"If somebody has the token (in a config.toml, say), put it at {settings.runner.token} and run this again.\n"
            f"Otherwise run again with reset_token = True. {RESET_CONSEQUENCE.capitalize()}."
        ),
    )


def existing_token_bad(facts: RegistrationFacts, settings: Settings) -> Check:
    """The card promises a token that is not there, or that GitLab refuses."""
    seen = "no token is there" if facts.token.state is TokenState.ABSENT else "GitLab refuses the token that is there"
    return Check.failed(
        "runner-token",
        "The stored token is this runner's",
        f"runner.existing_token is true, but {seen}: {settings.runner.token}",
        expected="a runner's token (glrt-…) made in GitLab's pages",
        remedy="Put it there with mode 0600, or set runner.existing_token: false and let this notebook create the runner.",
    )


def runner_unnamed(settings: Settings) -> Check:
    """An old GitLab confirms the token without saying whose it is, and no runner carries our mark."""
    return Check.failed(
        "runner-mark",
        "At most one runner carries our mark",
        "the stored token is valid, but this GitLab does not say whose it is",
        expected=f"a runner with the line `{Mark(settings.name)}` in its maintenance note",
        remedy="Write that line into the runner's maintenance note in GitLab, then run this notebook again.",
    )


def in_use(runner: RegisteredRunner, settings: Settings) -> Check:
    """The runner that would be taken over has work already."""
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


def namespace_missing(namespace: str) -> Check:
    """The namespace of the token's Secret is not there."""
    return Check.failed(
        "namespace",
        "The namespace of the token's Secret is there",
        f"there is no namespace {namespace}",
        expected="the namespace that notebook 20 creates",
        remedy="Run notebook 20 with dry_run = False first.",
    )


def role_blockers(facts: RegistrationFacts, settings: Settings) -> list[Check]:
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


def steps(changes: Iterable[Change]) -> list[Step]:
    """What a plan asks of GitLab."""
    return [READ, *(step for change in changes if (step := _STEP_OF.get((change.kind, change.action))))]


def scope_blockers(facts: RegistrationFacts, changes: Iterable[Change]) -> list[Check]:
    """The scopes that the plan needs and the token lacks, where GitLab tells which it has."""
    if isinstance(facts.scopes, Unknown):
        return []
    missing = [step for step in steps(changes) if not set(step.scopes) & set(facts.scopes)]
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
