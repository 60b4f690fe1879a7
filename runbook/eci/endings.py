"""Why a pod ended, from everything it shows: phase, reasons, conditions, events, states of its containers.

    judge(signs) -> Ending(how, evidence, container, exit_code)

`RULES` is the whole judgement: the first row that finds evidence decides. A job's pod normally ends as DELETED: its
shells wait on standard input, so it still runs when GitLab Runner deletes it. Whether the *job* succeeded is GitLab's
word alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from runbook.eci import vocabulary as eci
from runbook.eci.signs import FAILED, SUCCEEDED, Container, Signs


class End(StrEnum):
    """How a pod's life ended, as far as the pod itself tells."""

    LIVE = "live"
    DONE = "done"
    DELETED = "deleted"
    FAILED = "failed"
    RECLAIMED = "reclaimed"
    OUT_OF_MEMORY = "out_of_memory"
    NO_STOCK = "no_stock"
    REFUSED = "refused"
    IMAGE_PULL = "image_pull"
    PENDING_LIMIT = "pending_limit"
    DEADLINE = "deadline"
    EVICTED = "evicted"
    LOST = "lost"
    UNKNOWN = "unknown"


MEANING = {
    End.LIVE: "it has not ended yet",
    End.DONE: "every container ended with exit code 0",
    End.DELETED: "deleted while it ran or waited: the usual end of a job's pod, whatever became of the job",
    End.FAILED: "a container ended with another exit code, and nothing else explains it",
    End.RECLAIMED: "the spot instance was taken away (`BidFailed`)",
    End.OUT_OF_MEMORY: "a container was killed for want of memory (`OOMKilled`)",
    End.NO_STOCK: "ECI had no instance of this spec in the zones asked for; never billed",
    End.REFUSED: "ECI took no order for another cause: quota, balance, an annotation; never billed",
    End.IMAGE_PULL: "an image could not be pulled",
    End.PENDING_LIMIT: "image pull and volumes took longer than `eci-max-pending-minute`",
    End.DEADLINE: "the pod's `activeDeadlineSeconds` were over",
    End.EVICTED: "evicted through the API, or preempted",
    End.LOST: "its node or its instance went away without a word",
    End.UNKNOWN: "it is gone, and nobody saw how",
}
"""What each end means, for the documentation and for tables."""

STATUS_UNKNOWN = "ContainerStatusUnknown"
OUT_OF_MEMORY = "OOMKilled"
DEADLINE_EXCEEDED = "DeadlineExceeded"
PENDING_TIMEOUT = "PendingTimeout"
"""[?] `status.reason` after the pending limit: the vendor names none, so the time it waited counts as well."""

DISRUPTION_TARGET = "DisruptionTarget"
"""Kubernetes' condition on a pod that is about to be taken away; its reason says by whom."""

EVICTING = ("EvictionByEvictionAPI", "PreemptionByScheduler", "TerminationByKubelet", "Evicted", "Preempting")
LOSING = ("DeletionByTaintManager", "DeletionByPodGC", "NodeLost", "NodeShutdown", STATUS_UNKNOWN)
SYSTEM_FAILURES = (
    "SystemFailureReboot",
    "SystemReboot",
    "SYSTEM_FAILURE",
    "SystemFailure.Reboot",
    "InstanceFailure.Reboot",
    "SystemFailure.Redeploy",
)
IMAGE_PULL_REASONS = (
    eci.WAITING_ERR_IMAGE_PULL,
    eci.WAITING_IMAGE_PULL_BACK_OFF,
    "InvalidImageName",
    "ErrImageNeverPull",
)
REFUSING_EVENTS = (
    eci.EVENT_QUOTA_EXCEEDED,
    eci.EVENT_INSUFFICIENT_BALANCE,
    eci.EVENT_PROVIDER_CREATE_FAILED,
    eci.REASON_DISK_QUOTA_FULL,
)


@dataclass(frozen=True)
class Ending:
    """How a pod ended, the words that show it, and the container that failed first with its exit code."""

    how: End
    evidence: str | None = None
    container: str | None = None
    exit_code: int | None = None


def judge(signs: Signs) -> Ending:
    """How the pod ended; LIVE while it has not."""
    if not signs.ended:
        return Ending(End.LIVE)
    how, evidence = next(
        ((end, found) for end, look in RULES if (found := look(signs))), (End.UNKNOWN, "the object is gone")
    )
    culprit = None if how in (End.DONE, End.DELETED) else first_failure(signs)
    return Ending(how, evidence, culprit.name, culprit.exit_code) if culprit else Ending(how, evidence)


def first_failure(signs: Signs) -> Container | None:
    """The container that failed: one that ran out of memory, else the one that ended first with a code other than 0."""
    failed = [one for one in signs.containers if one.exit_code]
    failed.sort(key=lambda one: (one.reason != OUT_OF_MEMORY, one.finished_at.timestamp() if one.finished_at else 0.0))
    return failed[0] if failed else None


# -- one question a rule: the evidence in words, or None --------------------------------------------------------------


def _reclaimed(signs: Signs) -> str | None:
    if eci.is_reason(signs.reason, eci.STATUS_BID_FAILED):
        return f"status.reason {signs.reason}"
    announced = signs.condition(eci.CONDITION_EXPIRED, True) or next(signs.told(eci.EVENT_SPOT_TO_BE_RELEASED), None)
    if announced and (_evicted(signs) or (signs.phase == FAILED and not _deleted_first(signs))):
        return f"{eci.EVENT_SPOT_TO_BE_RELEASED}, then {_evicted(signs) or 'phase Failed'}"
    return None


def _out_of_memory(signs: Signs) -> str | None:
    for one in signs.containers:
        if one.reason == OUT_OF_MEMORY and (signs.phase == FAILED or one.name in ("build", "helper")):
            return f"container {one.name}: {OUT_OF_MEMORY}"
    killed = signs.phase == FAILED and any(one.exit_code == 137 for one in signs.containers)
    return f"event {OUT_OF_MEMORY}" if killed and next(signs.told(eci.EVENT_OOM_KILLED), None) else None


def _deadline(signs: Signs) -> str | None:
    return f"status.reason {signs.reason}" if signs.reason == DEADLINE_EXCEEDED else None


def _lost(signs: Signs) -> str | None:
    disruption = signs.condition(DISRUPTION_TARGET, True)
    if disruption and disruption.reason in LOSING:
        return f"condition {DISRUPTION_TARGET}: {disruption.reason}"
    if signs.reason in LOSING:
        return f"status.reason {signs.reason}"
    unknown = next((one for one in signs.containers if one.reason in LOSING), None)
    if unknown:
        return f"container {unknown.name}: {unknown.reason}"
    if signs.phase != FAILED or _deleted_first(signs):
        return None
    sandbox = signs.condition(eci.CONDITION_SANDBOX_READY, False)
    if sandbox:
        return f"condition {eci.CONDITION_SANDBOX_READY} False: {sandbox.reason}"
    failure = next(signs.told(*SYSTEM_FAILURES), None)
    return f"event {failure.reason}" if failure else None


def _evicted(signs: Signs) -> str | None:
    if signs.reason in EVICTING:
        return f"status.reason {signs.reason}"
    disruption = signs.condition(DISRUPTION_TARGET, True)
    return (
        f"condition {DISRUPTION_TARGET}: {disruption.reason}" if disruption and disruption.reason in EVICTING else None
    )


def _no_stock(signs: Signs) -> str | None:
    if signs.had_instance:
        return None
    if eci.is_reason(signs.reason, eci.STATUS_SCHEDULE_FAILED):
        return f"status.reason {signs.reason}"
    waiting = signs.condition(eci.CONDITION_CREATED, False)
    if waiting and any(eci.is_reason(waiting.reason, reason) for reason in eci.NO_STOCK_REASONS):
        return f"condition {eci.CONDITION_CREATED} False: {waiting.reason}"
    event = None if waiting else next(signs.told(*eci.NO_STOCK_REASONS), None)
    return f"event {event.reason}" if event else None


def _refused(signs: Signs) -> str | None:
    if signs.had_instance:
        return None
    if signs.reason == eci.STATUS_PROVIDER_FAILED:
        return f"status.reason {signs.reason}: {signs.message or ''}".rstrip(": ")
    waiting = signs.condition(eci.CONDITION_CREATED, False)
    if waiting and waiting.reason and not eci.is_reason(waiting.reason, eci.REASON_CREATING):
        return f"condition {eci.CONDITION_CREATED} False: {waiting.reason}"
    event = next(signs.told(*REFUSING_EVENTS), None)
    return f"event {event.reason}" if event else None


def _pending_limit(signs: Signs) -> str | None:
    if signs.reason == PENDING_TIMEOUT:
        return f"status.reason {signs.reason}"
    begun, over = signs.start_at or signs.created_at, signs.latest()
    main = [one for one in signs.containers if not one.init]
    waited = signs.phase == FAILED and not any(one.started_at or one.finished_at for one in main)
    if waited and signs.instance_id and begun and over and over - begun >= signs.pending_limit:
        return f"Failed after {(over - begun).total_seconds() / 60:.0f} minutes in which no container started"
    return None


def _image_pull(signs: Signs) -> str | None:
    stuck = next((one for one in signs.containers if one.waiting in IMAGE_PULL_REASONS), None)
    return f"container {stuck.name} waiting: {stuck.waiting}" if stuck else None


def _deleted_first(signs: Signs) -> bool:
    """Whether deletion came first and the end of the containers only followed from it."""
    ends = [one.finished_at for one in signs.containers if one.finished_at and not one.init]
    return signs.deleted_at is not None and not (ends and min(ends) < signs.deleted_at)


def _done(signs: Signs) -> str | None:
    return f"phase {signs.phase}" if signs.phase == SUCCEEDED and not _deleted_first(signs) else None


def _failed(signs: Signs) -> str | None:
    if signs.phase != FAILED or _deleted_first(signs):
        return None
    culprit = first_failure(signs)
    if culprit:
        return f"container {culprit.name}: exit code {culprit.exit_code}"
    return f"phase {signs.phase}" + (f", {signs.reason}: {signs.message}" if signs.reason else "")


def _deleted(signs: Signs) -> str | None:
    if signs.deleted_at is None:
        return None
    return f"deleted while {signs.phase}" if signs.phase not in (FAILED, SUCCEEDED) else "deleted while Running"


RULES: tuple[tuple[End, Callable[[Signs], str | None]], ...] = (
    (End.RECLAIMED, _reclaimed),
    (End.OUT_OF_MEMORY, _out_of_memory),
    (End.DEADLINE, _deadline),
    (End.LOST, _lost),
    (End.EVICTED, _evicted),
    (End.NO_STOCK, _no_stock),
    (End.REFUSED, _refused),
    (End.PENDING_LIMIT, _pending_limit),
    (End.IMAGE_PULL, _image_pull),
    (End.DONE, _done),
    (End.FAILED, _failed),
    (End.DELETED, _deleted),
)
"""How each end is recognized, the surest first."""
