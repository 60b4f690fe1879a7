"""What `eci-node` really did, read from its journal: container groups with their states, events and charges.

The file holds a JSON line for each happening, in played time (`sandbox/eci-node/journal.go` writes it):

    clock     {at, factor, region}   a program began; played time runs `factor` times as fast as real time from here
    instance  {at, uid, instance}    an instance was made for the pod `uid`: its charge begins
    status    {at, uid, status}      the pod's status, as Kubernetes sees it
    event     {at, uid, event}       {type, reason, message, component}
    charged   {at, uid}              its charge ended
    removed   {at, uid}              its pod is gone

Only what was added since the last look is read, so a look costs as much as happened since.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)

TERMINAL = ("Succeeded", "Failed", "Expired")


@dataclass(frozen=True)
class Event:
    at: datetime
    type: str
    reason: str
    message: str
    component: str


@dataclass
class ContainerGroup:
    """One ECI instance. `made` is the journal's entry of it; moments are played time."""

    uid: str
    region: str
    charged_from: datetime
    made: dict[str, Any]
    events: list[Event] = field(default_factory=list)
    status: dict[str, Any] = field(default_factory=dict)
    charged_until: datetime | None = None
    ended_at: datetime | None = None
    removed_at: datetime | None = None

    @property
    def id(self) -> str:
        return str(self.made["id"])

    @cached_property
    def accepted_at(self) -> datetime:
        return moment(self.made["accepted_at"])

    @property
    def state(self) -> str:
        """ECI's word for where the instance stands."""
        phase = self.status.get("phase", "Pending")
        if phase == "Failed" and self.status.get("reason") == "BidFailed":
            return "Expired"
        if phase not in TERMINAL and self.charged_until is not None:
            return "Failed"  # the program that ran it is gone, and nothing of it was told
        return str(phase)

    @property
    def spot_strategy(self) -> str:
        asked = self.made["annotations"].get("k8s.aliyun.com/eci-spot-strategy", "")
        return asked if self.made["spot"] else "NoSpot"


class Journal:
    """The container groups of a journal file, up to now."""

    def __init__(self, path: Path, region: str) -> None:
        self.path = path
        self.region = region
        self.groups: dict[str, ContainerGroup] = {}
        self._by_uid: dict[str, ContainerGroup] = {}
        self._early: dict[str, list[Event]] = {}
        self._offset = 0
        self._clock: tuple[datetime, float] | None = None
        self.newest: datetime | None = None
        """The latest moment that anything happened at: hollow pods live their days ahead of the clock."""

    def played(self, real: datetime) -> datetime:
        """The played moment of a real one; the same where no node program has begun yet."""
        if self._clock is None:
            return real
        start, factor = self._clock
        return start + timedelta(seconds=(real - start).total_seconds() * factor)

    @property
    def position(self) -> int:
        """How much of the file has been taken in: what was derived from it holds while this stays."""
        return self._offset

    def read(self) -> None:
        """Take in what was added. A last line that is not whole yet stays for the next look."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                self._take_line(line)

    def _take_line(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
        except ValueError:
            _log.warning("a line of %s was left unfinished by a program that was killed", self.path)
            return
        self._take(entry)

    def _take(self, line: dict[str, Any]) -> None:
        at, kind, uid = moment(line["at"]), line["kind"], line.get("uid", "")
        if kind == "clock":
            self._end_all(self.newest or at)
            self._clock = (at, float(line["factor"]))
            self.region = line.get("region") or self.region
            return
        self.newest = max(at, self.newest or at)
        if kind == "instance":
            group = ContainerGroup(uid, self.region, at, line["instance"], self._early.pop(uid, []))
            self.groups[group.id] = self._by_uid[uid] = group
            return
        happened = self._by_uid.get(uid)
        if kind == "event":
            event = Event(at, **line["event"])
            (happened.events if happened else self._early.setdefault(uid, [])).append(event)
        elif happened is not None:
            _change(happened, kind, at, line)

    def _end_all(self, at: datetime) -> None:
        """A program that began anew has none of the instances of the one before."""
        for group in self.groups.values():
            group.charged_until = group.charged_until or at
            group.ended_at = group.ended_at or at


def _change(group: ContainerGroup, kind: str, at: datetime, line: dict[str, Any]) -> None:
    if kind == "status":
        group.status = line["status"]
        if group.state in TERMINAL and group.ended_at is None:
            group.ended_at = at
    elif kind == "charged":
        group.charged_until = at
        group.ended_at = group.ended_at or at
    elif kind == "removed":
        group.removed_at = at


def moment(text: str) -> datetime:
    """A moment of the journal, which Go writes with up to nine decimals."""
    head, dot, rest = text.partition(".")
    zone = rest.lstrip("0123456789")
    digits = rest[: len(rest) - len(zone)][:6] if dot else ""
    return datetime.fromisoformat(f"{head}{'.' + digits if digits else ''}{zone}".replace("Z", "+00:00"))
