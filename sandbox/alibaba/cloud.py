"""The state that all calls share: the journal, the played time, the options, and paging."""

from __future__ import annotations

import base64
import binascii
import heapq
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar

from sandbox.alibaba.errors import invalid, missing
from sandbox.alibaba.journal import TERMINAL, ContainerGroup, Journal
from sandbox.alibaba.prices import SITES, PriceList

Row = TypeVar("Row")
Query = Mapping[str, str]
Answer = dict[str, Any]

KEPT_FOR = timedelta(hours=1)
KEPT_AFTERWARDS = 100
WITHOUT_RIGHTS = "without-rights"
KEY_NAMES = ("reader", WITHOUT_RIGHTS)


@dataclass(frozen=True)
class Options:
    """How this cloud behaves where the vendor's pages leave it open, or a test wants it otherwise."""

    region: str = "cn-hangzhou"
    site: Literal["cn", "intl"] = "cn"
    deleted: Literal["kept", "gone"] = "kept"
    """Whether an instance whose pod was deleted can still be queried; the vendor does not say."""
    bill_delay: timedelta = timedelta(hours=24)
    """Played time from the end of a day to its bill."""
    bill_rounding: Literal["none", "hour", "instance"] = "none"
    """Whose fee is rounded where it is below 0.01: an instance's of an hour, or its whole; the vendor does not say which."""
    requests_per_minute: int | None = None
    """Limit of each call and key, in real time; None takes the documented ones."""


@dataclass
class Cloud:
    """One account in one region."""

    journal: Journal
    options: Options
    keys: Mapping[str, tuple[str, str]]
    """Name to AccessKey id and secret; what `without-rights` asks is not granted by RAM."""
    clock: Callable[[], datetime]
    bills: dict[Any, list[Any]] = field(default_factory=dict)

    @property
    def prices(self) -> PriceList:
        return SITES[self.options.site]

    def now(self) -> datetime:
        """Played time."""
        return self.journal.played(self.clock())

    def latest(self) -> datetime:
        """Played time, or the newest moment that was played where that is ahead: up to there markets and bills go."""
        return max(self.now(), self.journal.newest or self.now())

    def remembered(self, region: str) -> list[ContainerGroup]:
        """The groups that ECI still knows, the newest first."""
        groups = [one for one in self.journal.groups.values() if one.region == region]
        if self.options.deleted == "gone":
            groups = [one for one in groups if one.removed_at is None]
        over = [one for one in groups if one.state in TERMINAL]
        living = [one for one in groups if one.state not in TERMINAL]
        horizon = self.now() - KEPT_FOR
        recent = [one for one in over if _ended(one) >= horizon]
        if len(recent) < KEPT_AFTERWARDS:
            recent = heapq.nlargest(KEPT_AFTERWARDS, over, key=_ended)
        return sorted((*living, *recent), key=lambda one: (one.accepted_at, one.id), reverse=True)


def _ended(group: ContainerGroup) -> datetime:
    return group.ended_at or group.charged_from


def need(query: Query, *names: str) -> list[str]:
    """The values of parameters that a call cannot do without."""
    for name in names:
        if not query.get(name):
            raise missing(name)
    return [query[name] for name in names]


def whole(query: Query, name: str, default: int, most: int) -> int:
    """A whole number from 1 to `most`."""
    text = query.get(name, str(default))
    if not text.isdigit() or not 1 <= int(text) <= most:
        raise invalid(name, f"The specified {name} must be a number from 1 to {most}.")
    return int(text)


def number(query: Query, name: str, default: float | None = None) -> float | None:
    text = query.get(name)
    if text is None:
        return default
    try:
        return float(text)
    except ValueError:
        raise invalid(name) from None


def ids(query: Query, name: str, most: int = 20) -> list[str]:
    """A list that the caller writes as a JSON string; empty where it is left out."""
    if not query.get(name):
        return []
    try:
        listed = json.loads(query[name])
    except ValueError:
        listed = None
    if not isinstance(listed, list) or len(listed) > most:
        raise invalid(name, f"{name} must be a JSON array of at most {most} ids.")
    return [str(one) for one in listed]


def numbered(query: Query, name: str) -> list[str]:
    """A list whose items are the parameters `name.1`, `name.2`, …"""
    found = [(int(match[1]), value) for key, value in query.items() if (match := re.fullmatch(rf"{name}\.(\d+)", key))]
    return [value for _, value in sorted(found)]


def tags(query: Query) -> dict[str, str]:
    """The parameters `Tag.1.Key`, `Tag.1.Value`, …"""
    marks = {match[1] for key in query if (match := re.fullmatch(r"Tag\.(\d+)\.Key", key))}
    return {query[f"Tag.{mark}.Key"]: query.get(f"Tag.{mark}.Value", "") for mark in marks}


def page(rows: Sequence[Row], token: str | None, limit: int, key: Callable[[Row], str]) -> tuple[list[Row], str | None]:
    """The rows after the one that `token` names, at most `limit`, and the token of what follows."""
    start = 0
    if token:
        try:
            last = base64.urlsafe_b64decode(token.encode()).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise invalid("NextToken") from None
        start = next((place + 1 for place, row in enumerate(rows) if key(row) == last), -1)
        if start < 0:
            raise invalid("NextToken", "The specified NextToken is not valid or has expired.")
    shown = list(rows[start : start + limit])
    more = start + limit < len(rows)
    return shown, base64.urlsafe_b64encode(key(shown[-1]).encode()).decode() if more else None


def wire(at: datetime | None) -> str | None:
    """A moment as the APIs write it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else None


def parsed(query: Query, name: str) -> datetime | None:
    """A moment that the caller gave, `yyyy-MM-ddTHH:mm:ssZ`."""
    text = query.get(name)
    if not text:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise invalid(name, f"{name} must look like 2026-11-24T09:30:00Z.") from None
