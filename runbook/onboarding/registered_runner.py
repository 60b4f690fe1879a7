"""The nouns of notebook 40: the runner, which is known again by its mark (`runbook.runner.runner_mark`), its stored token. Pure.

Without `proved=` in its mark the runner has the smoke tag only and takes no untagged jobs; `attributes` is the one place
that says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

from runbook import html
from runbook.report import Unknown, text_pairs
from runbook.runner.runner_mark import Mark
from runbook.settings import Settings

TYPES = {"instance": "instance_type", "group": "group_type", "project": "project_type"}
"""The card's word for who may use a runner, and the API's."""


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
        return {
            "GitLab": f"{self.url} (version {self.version})",
            "user": f"{self.user}{', administrator' if self.administrator is True else ''}",
            "token scopes": str(self.scopes) if isinstance(self.scopes, Unknown) else ", ".join(self.scopes),
            **({"group or project": f"id {self.owner_id}"} if self.owner_id else {}),
            "our runner": _named(self.runners),
            "stored token": str(self.token),
        }

    def __str__(self) -> str:
        return text_pairs("Runner in GitLab", self.summary())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html.block(html.pairs(self.summary()))


def _plain(value: object) -> object:
    if isinstance(value, Unknown):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return asdict(value) if isinstance(value, RegisteredRunner | StoredToken) else value


def _named(runners: tuple[RegisteredRunner, ...] | Unknown) -> str:
    if isinstance(runners, Unknown):
        return str(runners)
    return "\n".join(described(runner) for runner in runners) or "none yet"


def described(runner: RegisteredRunner) -> str:
    """One line: id, description, type, state, proof, tags."""
    state = "paused" if runner.paused else "active"
    proof = f"proved {runner.mark.proved}" if runner.mark and runner.mark.proved else "not proved"
    return (
        f"{runner.id} {runner.description} ({runner.type}, {state}, {proof}, tags {', '.join(runner.tags) or 'none'})"
    )
