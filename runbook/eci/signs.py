"""What a pod shows of its life, as plain values: the evidence from which `endings` and `billing_window` judge.

Whoever reads pods (a watch, ECI's API, a file) fills these in; nothing here knows where they come from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from runbook.eci import vocabulary

FAILED, SUCCEEDED = "Failed", "Succeeded"


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a pod; `at` is its last transition."""

    type: str
    status: bool
    reason: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One event on a pod; `at` is when it was first told."""

    reason: str
    at: datetime | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Container:
    """The state of one container; `exit_code` and `finished_at` are those of its last end, None while it runs."""

    name: str
    init: bool = False
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int | None = None
    reason: str | None = None
    waiting: str | None = None


@dataclass(frozen=True, slots=True)
class Signs:
    """All that one pod shows.

    `deleted_at` is when its deletion was asked for; `gone_at` when the observer knew that its object was gone;
    `over_at` when the observer first saw it Failed or Succeeded.
    """

    phase: str | None = None
    reason: str | None = None
    message: str | None = None
    instance_id: str | None = None
    conditions: tuple[Condition, ...] = ()
    events: tuple[Event, ...] = ()
    containers: tuple[Container, ...] = ()
    created_at: datetime | None = None
    start_at: datetime | None = None
    over_at: datetime | None = None
    deleted_at: datetime | None = None
    gone_at: datetime | None = None
    pending_limit: timedelta = timedelta(minutes=vocabulary.MAX_PENDING_MINUTE_DEFAULT)

    @property
    def ended(self) -> bool:
        """Nothing of it runs any more, or it is being deleted."""
        return self.phase in (FAILED, SUCCEEDED) or self.deleted_at is not None or self.gone_at is not None

    @property
    def ran(self) -> bool:
        """Whether a container was ever started, an init container included."""
        return any(one.started_at or one.finished_at for one in self.containers)

    @property
    def had_instance(self) -> bool:
        """Whether ECI ever made an instance for it."""
        return self.instance_id is not None or self.ran

    def condition(self, kind: str, status: bool) -> Condition | None:
        """The condition of this type, if it has this status."""
        return next((one for one in self.conditions if one.type == kind and one.status is status), None)

    def told(self, *reasons: str) -> Iterator[Event]:
        """The events with one of these reasons, in the order in which they are given."""
        return (one for one in self.events if any(vocabulary.is_reason(one.reason, reason) for reason in reasons))

    def latest(self) -> datetime | None:
        """The latest moment that the pod itself shows."""
        moments = [one.at for one in self.conditions] + [one.at for one in self.events]
        moments += [at for one in self.containers for at in (one.started_at, one.finished_at)]
        return max((at for at in (*moments, self.start_at, self.created_at) if at is not None), default=None)
