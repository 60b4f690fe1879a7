"""Why a pod ended, and when it was billed: one row a case, in the words that ECI and Kubernetes use."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runbook.eci import billing_window, endings
from runbook.eci.billing_window import Known, Moment
from runbook.eci.endings import End
from runbook.eci.signs import Condition, Container, Event, Signs


def at(minute: int, second: int = 0) -> datetime:
    return datetime(2026, 11, 24, 9, 0, tzinfo=UTC) + timedelta(minutes=minute, seconds=second)


CREATED = Condition("ContainerInstanceCreated", True, None, at(1))
BUILD = Container("build", started_at=at(2))
HELPER = Container("helper", started_at=at(2))


def ended(name: str = "build", code: int = 0, reason: str | None = None, finished: datetime | None = None) -> Container:
    return Container(name, started_at=at(2), finished_at=finished or at(5), exit_code=code, reason=reason)


def signs(**shown: Any) -> Signs:
    """A pod that ran on an instance, with what the case adds."""
    usual: dict[str, Any] = {
        "phase": "Running",
        "instance_id": "eci-bp1abc",
        "conditions": (CREATED,),
        "containers": (BUILD, HELPER),
        "created_at": at(0),
        "start_at": at(0, 5),
    }
    return Signs(**usual | shown)


def unborn(**shown: Any) -> Signs:
    """A pod that never had an instance."""
    return signs(**{"phase": "Failed", "instance_id": None, "containers": (), "conditions": ()} | shown)


DISRUPTED = Condition("DisruptionTarget", True, "EvictionByEvictionAPI", at(4))
ANNOUNCED = Condition("ContainerInstanceExpired", True, "SpotToBeReleased", at(4))
CASES = {
    "a running pod": (signs(), End.LIVE, None),
    "a waiting pod": (signs(phase="Pending", containers=()), End.LIVE, None),
    "every container ended well": (signs(phase="Succeeded", containers=(ended(),)), End.DONE, "phase Succeeded"),
    "deleted by the runner while it ran": (signs(deleted_at=at(5)), End.DELETED, "deleted while Running"),
    "killed because it was deleted": (
        signs(phase="Failed", deleted_at=at(5), containers=(ended(code=137, finished=at(5)),)),
        End.DELETED,
        "deleted while Running",
    ),
    "failed before it was deleted": (
        signs(phase="Failed", deleted_at=at(6), containers=(ended(code=42),)),
        End.FAILED,
        "container build: exit code 42",
    ),
    "failed without a container": (
        signs(phase="Failed", reason="Strange", message="words", containers=()),
        End.FAILED,
        "phase Failed, Strange: words",
    ),
    "BidFailed": (signs(phase="Failed", reason="BidFailed"), End.RECLAIMED, "status.reason BidFailed"),
    "BidFailed with its containers killed": (
        signs(phase="Failed", reason="BidFailed", containers=(ended(code=137),)),
        End.RECLAIMED,
        "status.reason BidFailed",
    ),
    "announced, then evicted": (
        signs(deleted_at=at(4), conditions=(CREATED, ANNOUNCED, DISRUPTED)),
        End.RECLAIMED,
        "SpotToBeReleased, then condition DisruptionTarget: EvictionByEvictionAPI",
    ),
    "announced by an event, then Failed without a reason": (
        signs(phase="Failed", events=(Event("SpotToBeReleased", at(3)),)),
        End.RECLAIMED,
        "SpotToBeReleased, then phase Failed",
    ),
    "announced, but the job was over first": (
        signs(deleted_at=at(4), conditions=(CREATED, ANNOUNCED)),
        End.DELETED,
        "deleted while Running",
    ),
    "evicted": (
        signs(deleted_at=at(4), conditions=(CREATED, DISRUPTED)),
        End.EVICTED,
        "condition DisruptionTarget: EvictionByEvictionAPI",
    ),
    "the node is gone": (
        signs(deleted_at=at(4), conditions=(Condition("DisruptionTarget", True, "DeletionByTaintManager", at(4)),)),
        End.LOST,
        "condition DisruptionTarget: DeletionByTaintManager",
    ),
    "NodeLost": (signs(phase="Failed", reason="NodeLost"), End.LOST, "status.reason NodeLost"),
    "its container could not be found": (
        signs(phase="Failed", containers=(ended(code=137, reason="ContainerStatusUnknown"),)),
        End.LOST,
        "container build: ContainerStatusUnknown",
    ),
    "the host failed": (
        signs(phase="Failed", conditions=(Condition("SandboxReady", False, "SystemFailure.Reboot", at(4)),)),
        End.LOST,
        "condition SandboxReady False: SystemFailure.Reboot",
    ),
    "out of memory": (
        signs(phase="Failed", containers=(HELPER, ended(code=137, reason="OOMKilled"))),
        End.OUT_OF_MEMORY,
        "container build: OOMKilled",
    ),
    "out of memory, told by an event only": (
        signs(phase="Failed", containers=(ended(code=137),), events=(Event("OOMKilled", at(4)),)),
        End.OUT_OF_MEMORY,
        "event OOMKilled",
    ),
    "a service out of memory, and the job went on": (
        signs(deleted_at=at(5), containers=(BUILD, ended("svc-0", 137, "OOMKilled"))),
        End.DELETED,
        "deleted while Running",
    ),
    "the deadline": (signs(phase="Failed", reason="DeadlineExceeded"), End.DEADLINE, "status.reason DeadlineExceeded"),
    "no stock under fail-fast": (
        unborn(reason="ContainerInstanceScheduleFailed"),
        End.NO_STOCK,
        "status.reason ContainerInstanceScheduleFailed",
    ),
    "no stock until the runner gave up": (
        unborn(
            phase="Pending",
            deleted_at=at(9),
            conditions=(Condition("ContainerInstanceCreated", False, "ContainerGroup.NoStock", at(1)),),
        ),
        End.NO_STOCK,
        "condition ContainerInstanceCreated False: ContainerGroup.NoStock",
    ),
    "no stock, told by an event only": (
        unborn(phase="Pending", deleted_at=at(9), events=(Event("StockClose", at(1)),)),
        End.NO_STOCK,
        "event StockClose",
    ),
    "a quota": (
        unborn(conditions=(Condition("ContainerInstanceCreated", False, "ContainerGroup.QuotaExceeded", at(1)),)),
        End.REFUSED,
        "condition ContainerInstanceCreated False: ContainerGroup.QuotaExceeded",
    ),
    "a wrong annotation": (
        unborn(reason="ProviderFailed", message="InvalidParameter"),
        End.REFUSED,
        "status.reason ProviderFailed: InvalidParameter",
    ),
    "an image that cannot be pulled": (
        signs(phase="Pending", deleted_at=at(5), containers=(Container("build", waiting="ImagePullBackOff"),)),
        End.IMAGE_PULL,
        "container build waiting: ImagePullBackOff",
    ),
    "the pending limit by its name": (
        signs(phase="Failed", reason="PendingTimeout", containers=(Container("build", waiting="ErrImagePull"),)),
        End.PENDING_LIMIT,
        "status.reason PendingTimeout",
    ),
    "the pending limit by its length": (
        signs(
            phase="Failed",
            pending_limit=timedelta(minutes=10),
            containers=(Container("build", waiting="ContainerCreating"),),
            events=(Event("Failed", at(10, 6)),),
        ),
        End.PENDING_LIMIT,
        "Failed after 10 minutes in which no container started",
    ),
    "gone without a trace": (signs(gone_at=at(9)), End.UNKNOWN, "the object is gone"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_cause_of_an_end_and_its_evidence(case: str) -> None:
    """Each way to end is told apart, with the words that show it."""
    shown, how, evidence = CASES[case]
    ending = endings.judge(shown)
    assert (ending.how, ending.evidence) == (how, evidence)


def test_every_end_has_a_meaning_and_a_case() -> None:
    """No end is without a sentence in the documentation, and none without a case above."""
    assert set(endings.MEANING) == set(End) == {how for _, how, _ in CASES.values()}


def test_the_container_that_failed_first_is_named() -> None:
    """With several failed containers the first counts, but one that ran out of memory counts before all."""
    late, early = ended("build", 2, finished=at(6)), ended("svc-0", 1, finished=at(5))
    ending = endings.judge(signs(phase="Failed", containers=(late, early)))
    assert (ending.container, ending.exit_code) == ("svc-0", 1)
    killed = ended("helper", 137, "OOMKilled", at(7))
    ending = endings.judge(signs(phase="Failed", containers=(late, early, killed)))
    assert (ending.container, ending.exit_code) == ("helper", 137)


def test_a_usual_end_blames_no_container() -> None:
    """The signal by which a deleted pod's containers die is no failure of a container."""
    ending = endings.judge(signs(phase="Failed", deleted_at=at(5), containers=(ended(code=143, finished=at(5)),)))
    assert (ending.how, ending.container, ending.exit_code) == (End.DELETED, None, None)


STARTS = {
    "the condition": (signs(), at(1), Known.OBSERVED, "condition ContainerInstanceCreated"),
    "the disk's condition of older nodes": (
        signs(conditions=(Condition("ContainerHasSufficientDisk", True, None, at(1)),)),
        at(1),
        Known.OBSERVED,
        "condition ContainerHasSufficientDisk",
    ),
    "the first pull": (
        signs(conditions=(), events=(Event("Pulling", at(1, 9)), Event("Pulling", at(1, 8)))),
        at(1, 8),
        Known.OBSERVED,
        "event Pulling",
    ),
    "the start time": (signs(conditions=()), at(0, 5), Known.BOUNDED, "status.startTime"),
    "the creation": (signs(conditions=(), start_at=None), at(0), Known.BOUNDED, "metadata.creationTimestamp"),
    "no instance": (unborn(), None, Known.NEVER, "no instance was made"),
    "an instance, and no moment at all": (
        signs(conditions=(), start_at=None, created_at=None),
        None,
        Known.UNKNOWN,
        None,
    ),
}


@pytest.mark.parametrize("case", STARTS)
def test_the_start_of_billing_and_what_it_follows_from(case: str) -> None:
    """No field states it: the surest sign counts, and the record says which it was."""
    shown, moment, known, source = STARTS[case]
    assert billing_window.start(shown) == Moment(moment, known, source)


OVER = {"phase": "Failed", "over_at": at(20)}
RELEASED = "The pod is spot instance, and have been released at 2026-11-24T09:12Z"
ENDS = {
    "StopCharge": (signs(**OVER, events=(Event("StopCharge", at(6)),)), at(6), Known.OBSERVED, "event StopCharge"),
    "the last container": (
        signs(**OVER, containers=(ended(), ended("helper", finished=at(7)))),
        at(7),
        Known.OBSERVED,
        "containers' finishedAt",
    ),
    "the last container of a deleted pod": (
        signs(deleted_at=at(4), containers=(ended(),)),
        at(5),
        Known.OBSERVED,
        "containers' finishedAt",
    ),
    "a container whose end is made up": (
        signs(**OVER, containers=(ended(reason="ContainerStatusUnknown"),)),
        at(20),
        Known.BOUNDED,
        "first seen Failed or Succeeded",
    ),
    "the condition": (
        signs(**OVER, conditions=(CREATED, Condition("ContainersReady", False, "PodFailed", at(8)))),
        at(8),
        Known.OBSERVED,
        "condition ContainersReady",
    ),
    "not the condition of containers that never were ready": (
        signs(**OVER, conditions=(CREATED, Condition("ContainersReady", False, "PodFailed", at(0)))),
        at(20),
        Known.BOUNDED,
        "first seen Failed or Succeeded",
    ),
    "the message of a released spot instance, to the minute": (
        signs(**OVER, message=RELEASED),
        at(13),
        Known.BOUNDED,
        "status.message",
    ),
    "the first look after it": (signs(**OVER), at(20), Known.BOUNDED, "first seen Failed or Succeeded"),
    "the deletion": (signs(deleted_at=at(4)), at(4), Known.BOUNDED, "deletion"),
    "a deletion before the last sign of life": (
        signs(deleted_at=at(4), events=(Event("Killing", at(4, 30)),)),
        at(4, 30),
        Known.BOUNDED,
        "deletion",
    ),
    "still running": (signs(), None, Known.NEVER, "it has not ended"),
    "no instance": (unborn(), None, Known.NEVER, "no instance was made"),
}


@pytest.mark.parametrize("case", ENDS)
def test_the_end_of_billing_and_what_it_follows_from(case: str) -> None:
    """What was stated counts before what only bounds it; a bound is never before what the pod itself shows."""
    shown, moment, known, source = ENDS[case]
    assert billing_window.end(shown) == Moment(moment, known, source)
