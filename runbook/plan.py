"""What would change: one row an object, each with its action, its reason and a diff."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from html import escape
from typing import Any

import yaml

from runbook import html
from runbook.errors import PlanError
from runbook.report import Check, Report


class Action(StrEnum):
    """What applying does to one object."""

    CREATE = "create"
    UPDATE = "update"
    KEEP = "keep"
    DELETE = "delete"


_TO_DO = {Action.CREATE: "to create", Action.UPDATE: "to update", Action.DELETE: "to delete", Action.KEEP: "kept"}
_DONE = {Action.CREATE: "created", Action.UPDATE: "updated", Action.DELETE: "deleted", Action.KEEP: "kept"}
_MARK = {Action.CREATE: "+", Action.UPDATE: "~", Action.KEEP: "=", Action.DELETE: "-"}
_COLOUR = {Action.CREATE: html.GREEN, Action.UPDATE: html.AMBER, Action.KEEP: html.GREY, Action.DELETE: html.RED}


@dataclass(frozen=True)
class Change:
    """One object and what will be done to it.

    `kind` and `name` say which object, in the words of its own world (`Role`, `ci/gitlab-runner`); `reason` why;
    `diff` how, as a unified diff that holds no secret; `desired` what `apply` needs to carry it out, never displayed.
    """

    action: Action
    kind: str
    name: str
    reason: str = ""
    diff: str = ""
    desired: Any = field(default=None, repr=False, compare=False)

    @property
    def label(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Plan:
    """The changes of one notebook, in the order in which they are applied.

    `blockers` are the reasons why it must not be applied as it is; `waiting_for` names what an earlier notebook has
    not applied yet: a rehearsal of such a plan is no failure. `notes` are lines shown above it (a size, a price).
    """

    title: str
    changes: Sequence[Change]
    blockers: Sequence[Check] = ()
    waiting_for: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def pending(self) -> list[Change]:
        return [change for change in self.changes if change.action is not Action.KEEP]

    @property
    def empty(self) -> bool:
        return not self.pending

    @property
    def summary(self) -> str:
        """`nothing to change`, or the numbers: `2 to create, 1 to update, 3 kept`."""
        if self.blockers:
            return "cannot be applied"
        return self._counted(_TO_DO)

    def outcome(self, *, dry_run: bool) -> str:
        """What applying or rehearsing came to: `nothing to change`, `2 created, 3 kept`, `rehearsed: 2 to create`."""
        if self.blockers:
            return "stopped before anything was changed"
        if self.waiting_for:
            return f"waits for {self.waiting_for}"
        if self.empty or not dry_run:
            return self._counted(_DONE)
        return f"rehearsed: {self.summary}"

    def _counted(self, words: Mapping[Action, str]) -> str:
        if self.empty:
            return "nothing to change"
        number = {action: sum(change.action is action for change in self.changes) for action in Action}
        return ", ".join(f"{number[action]} {word}" for action, word in words.items() if number[action])

    def raise_for_blockers(self) -> Plan:
        """Raise PlanError with the first blocker's remedy when there is one; else return self."""
        for check in self.blockers:
            raise PlanError(
                f"{self.title}: {check.observed}",
                allowed=check.expected or None,
                remedy=check.remedy or None,
                page=check.page,
            )
        return self

    def report(self, checks: Sequence[Check] = (), *, dry_run: bool, facts: Mapping[str, str] | None = None) -> Report:
        """The verdict after applying or rehearsing: a first check that says what was done, then `checks`."""
        every = [*self.blockers, applied_check(self, dry_run=dry_run), *checks]
        return Report(self.title, every, facts or {}, self.outcome(dry_run=dry_run))

    def __str__(self) -> str:
        lines = [f"{self.title}: {self.summary}"]
        lines += [f"    {name}: {text}" for name, text in self.notes.items()]
        if self.waiting_for:
            lines.append(f"    waits for: {self.waiting_for}")
        for check in self.blockers:
            first, *rest = check.observed.splitlines() or [""]
            lines += [f"  ✘ {check.title}: {first}", *(f"      {line}" for line in rest)]
        for change in self.changes:
            reason = f"  ({change.reason})" if change.reason else ""
            lines.append(f"  {_MARK[change.action]} {change.action.value:<6}  {change.label}{reason}")
            lines += [f"      {line}" for line in change.diff.splitlines()]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        notes = html.pairs(dict(self.notes) | ({"waits for": self.waiting_for} if self.waiting_for else {}))
        blocked = "".join(
            html.marked_row(
                "✘ stop", html.RED, f"<b>{escape(check.title)}</b>{html.soft(check.observed)}{html.pre(check.remedy)}"
            )
            for check in self.blockers
        )
        rows = "".join(
            html.marked_row(
                f"{_MARK[change.action]} {change.action.value}",
                _COLOUR[change.action],
                f"<b>{escape(change.label)}</b>{html.soft(change.reason)}{html.diff(change.diff)}",
            )
            for change in self.changes
        )
        title = f"{escape(self.title)}: <b>{escape(self.summary)}</b>"
        return html.block(notes + html.table(blocked + rows), title=title)


def applied_check(plan: Plan, *, dry_run: bool) -> Check:
    """The check `applied` of a plan: passed when applied or nothing was to change, skipped when rehearsed, stopped or waiting."""
    title = "The world is as the card asks"
    outcome = plan.outcome(dry_run=dry_run)
    if plan.blockers or plan.waiting_for:
        return Check.skipped("applied", title, outcome)
    if plan.pending and dry_run:
        return Check.skipped("applied", title, f"{outcome}; run again with dry_run = False to apply")
    return Check.passed("applied", title, outcome)


def unified_diff(before: str, after: str, name: str = "") -> str:
    """A unified diff of two texts with two lines of context; empty when they are equal."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"{name} now", f"{name} then", lineterm="", n=2
    )
    return "\n".join(lines)


def yaml_diff(before: Any, after: Any, name: str = "") -> str:
    """A unified diff of two plain values written as YAML; `None` stands for *not there*."""

    def text(value: Any) -> str:
        return "" if value is None else yaml.safe_dump(value, sort_keys=True, allow_unicode=True)

    return unified_diff(text(before), text(after), name)


def change_for(desired: dict[str, Any], live: dict[str, Any] | None, *, reason: str = "") -> Change:
    """The change that makes a live Kubernetes object as `desired`: create, update or keep.

    Only what `desired` says is compared: fields that the API server or other people added stay as they are.
    Values of a Secret never reach the diff. `Change.desired` is the manifest for a server-side apply.
    """
    meta = desired["metadata"]
    name = "/".join(part for part in (meta.get("namespace"), meta["name"]) if part)
    kind = desired["kind"]
    if live is None:
        return Change(Action.CREATE, kind, name, reason, yaml_diff(None, _shown(desired), name), desired)
    seen = projection(live, desired)
    if seen == desired:
        return Change(Action.KEEP, kind, name, reason, "", desired)
    return Change(Action.UPDATE, kind, name, reason, yaml_diff(_shown(seen), _shown(desired), name), desired)


def projection(live: Any, desired: Any) -> Any:
    """What `live` says about the fields that `desired` names; lists count as a whole unless they are equally long."""
    if isinstance(desired, dict) and isinstance(live, dict):
        return {key: projection(live[key], value) for key, value in desired.items() if key in live}
    if isinstance(desired, list) and isinstance(live, list) and len(desired) == len(live):
        return [projection(one, other) for one, other in zip(live, desired, strict=True)]
    return live


def _shown(manifest: dict[str, Any]) -> dict[str, Any]:
    if manifest.get("kind") != "Secret":
        return manifest
    hidden: dict[str, Any] = {
        part: dict.fromkeys(manifest[part], "(hidden)") for part in ("data", "stringData") if part in manifest
    }
    return {**manifest, **hidden}
