"""When billing of a pod began and ended, and from what that is known.

ECI charges from the moment its own state becomes Pending (the instance exists, images are pulled) until Succeeded or
Failed; looking for an instance is free. No field of a pod or of the API states the beginning, so `START` and `END` list
what tells of it, the surest first. Pages below https://help.aliyun.com/zh/eci/:
user-guide/lifecycle-of-an-elastic-container-instance-2, product-overview/billing-overview.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from runbook import moments
from runbook.eci import vocabulary as eci
from runbook.eci.endings import STATUS_UNKNOWN
from runbook.eci.signs import FAILED, SUCCEEDED, Signs


class Known(StrEnum):
    """How a moment is known."""

    OBSERVED = "observed"
    BOUNDED = "bounded"
    BILLED = "billed"
    NEVER = "never"
    UNKNOWN = "unknown"


KNOWN_MEANING = {
    Known.OBSERVED: "the pod, one of its events or GitLab states the moment",
    Known.BOUNDED: "nobody stated it; the value is the earliest possible start or the latest possible end",
    Known.BILLED: "ECI's own API or the bill states it",
    Known.NEVER: "it did not happen, or has not yet where the record is not final; no value",
    Known.UNKNOWN: "nothing tells; no value",
}


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment (UTC), how it is known, and from what."""

    at: datetime | None = None
    known: Known = Known.UNKNOWN
    source: str | None = None


NOT_MADE = Moment(None, Known.NEVER, "no instance was made")
NOT_ENDED = Moment(None, Known.NEVER, "it has not ended")

_RELEASED = re.compile(r"released at (\d{4}-\d\d-\d\dT\d\d:\d\d)Z")


def start(signs: Signs) -> Moment:
    """When billing began; NEVER where no instance was made (so far)."""
    if not signs.had_instance:
        return NOT_MADE
    return next((Moment(at, known, source) for source, known, look in START if (at := look(signs))), Moment())


def end(signs: Signs) -> Moment:
    """When billing ended; NEVER while it has not begun or ended. A bound is never before what the pod itself shows."""
    if not signs.had_instance:
        return NOT_MADE
    if not signs.ended:
        return NOT_ENDED
    for source, known, look in END:
        at = look(signs)
        if at is None:
            continue
        shown = signs.latest() if known is Known.BOUNDED else None
        return Moment(max(at, shown) if shown else at, known, source)
    return Moment()


def _transition(kind: str, status: bool, *reasons: str) -> Callable[[Signs], datetime | None]:
    def look(signs: Signs) -> datetime | None:
        found = signs.condition(kind, status)
        return found.at if found and (not reasons or found.reason in reasons) else None

    return look


def _first(reason: str) -> Callable[[Signs], datetime | None]:
    return lambda signs: min((one.at for one in signs.told(reason) if one.at), default=None)


def _containers_finished(signs: Signs) -> datetime | None:
    """The last end of a container, where the pod is over and every container that ran is known to have ended."""
    if any(one.reason == STATUS_UNKNOWN for one in signs.containers):
        return None
    ran = [one for one in signs.containers if one.started_at or one.finished_at]
    if not ran or not (signs.phase in (FAILED, SUCCEEDED) or signs.deleted_at):
        return None
    ends = [one.finished_at for one in ran if one.finished_at]
    return max(ends) if len(ends) == len(ran) else None


def _released(signs: Signs) -> datetime | None:
    """The minute in which a spot instance was released, at its end: the message gives no seconds."""
    said = _RELEASED.search(signs.message or "")
    return moments.parse(f"{said[1]}:00Z") + timedelta(minutes=1) if said else None


def _ready_no_more(signs: Signs) -> datetime | None:
    """When the containers stopped being ready. Where they never were, the moment is that of the pod's first look."""
    at = _transition("ContainersReady", False, "PodFailed", "PodCompleted")(signs)
    begun = start(signs).at
    return at if at and begun and at > begun else None


START: tuple[tuple[str, Known, Callable[[Signs], datetime | None]], ...] = (
    ("condition ContainerInstanceCreated", Known.OBSERVED, _transition(eci.CONDITION_CREATED, True)),
    ("condition ContainerHasSufficientDisk", Known.OBSERVED, _transition(eci.CONDITION_SUFFICIENT_DISK, True)),
    ("event Pulling", Known.OBSERVED, _first("Pulling")),
    ("status.startTime", Known.BOUNDED, lambda signs: signs.start_at),
    ("condition PodScheduled", Known.BOUNDED, _transition("PodScheduled", True)),
    ("metadata.creationTimestamp", Known.BOUNDED, lambda signs: signs.created_at),
)
"""What tells when billing began. That the first two mark it is inferred: on real pods they come with the instance."""

END: tuple[tuple[str, Known, Callable[[Signs], datetime | None]], ...] = (
    ("event StopCharge", Known.OBSERVED, _first(eci.EVENT_STOP_CHARGE)),
    ("containers' finishedAt", Known.OBSERVED, _containers_finished),
    ("condition ContainersReady", Known.OBSERVED, _ready_no_more),
    ("status.message", Known.BOUNDED, _released),
    ("first seen Failed or Succeeded", Known.BOUNDED, lambda signs: signs.over_at),
    ("deletion", Known.BOUNDED, lambda signs: signs.deleted_at or signs.gone_at),
)
"""What tells when billing ended."""
