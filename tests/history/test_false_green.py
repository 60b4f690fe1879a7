"""Jobs that GitLab calls a success although their pod was taken away are named."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runbook.history import false_green
from runbook.history.false_green import Verdict
from runbook.history.record import End, PodRecord
from runbook.report import Status

HOST = "gitlab.example.com"
BORN = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)


def pod(job_id: int | None, ended: End, *, minute: int = 0, **values: Any) -> PodRecord:
    """The final record of a job's pod, created that many minutes after nine thirty."""
    usual: dict[str, Any] = {
        "cluster": "practice",
        "pod_uid": f"{job_id}-{minute}",
        "pod_name": f"runner-{job_id}-{minute}",
        "gitlab_host": HOST,
        "project_path": "grp/demo",
        "job_id": job_id,
        "job_name": "unit tests",
        "ended": ended,
        "ended_evidence": "status.reason BidFailed" if ended is End.RECLAIMED else None,
        "created_at": BORN + timedelta(minutes=minute),
        "final": True,
    }
    return PodRecord(**usual | values)


def verdict(job_id: int, status: str = "success", **values: Any) -> Verdict:
    return Verdict(**{"gitlab_host": HOST, "job_id": job_id, "status": status} | values)


@pytest.mark.parametrize("ended", sorted(false_green.TAKEN_AWAY))
def test_a_success_whose_pod_was_taken_away_fails_the_check(ended: End) -> None:
    """Reclaimed, lost or evicted: the check fails and names project, job, pod and how it ended."""
    check = false_green.check([pod(7, ended), pod(8, End.DELETED)], [verdict(7), verdict(8)])
    assert check.status is Status.FAIL
    assert check.observed.startswith("1 of 2 jobs compared")
    assert "grp/demo job 7 (unit tests): pod runner-7-0 " + ended.value in check.observed
    assert "Run these jobs again" in check.remedy


def test_the_page_of_the_job_is_named_where_it_is_known() -> None:
    """A reader can open the job from the report."""
    url = "https://gitlab.example.com/grp/demo/-/jobs/7"
    assert url in false_green.check([pod(7, End.RECLAIMED)], [verdict(7, web_url=url)]).observed


def test_a_failed_job_is_no_false_green() -> None:
    """A reclaimed pod whose job GitLab calls failed is what it should be."""
    check = false_green.check([pod(7, End.RECLAIMED), pod(8, End.DELETED)], [verdict(7, "failed"), verdict(8)])
    assert check.status is Status.PASS
    assert check.observed == "1 job compared"


def test_only_the_last_pod_of_a_job_counts() -> None:
    """A first pod that was evicted while the job was prepared, and a second one to the end, make an honest success."""
    honest = [pod(7, End.DELETED, minute=2), pod(7, End.EVICTED)]
    assert false_green.check(honest, [verdict(7)]).status is Status.PASS
    doubtful = [pod(7, End.DELETED), pod(7, End.EVICTED, minute=2)]
    assert false_green.check(doubtful, [verdict(7)]).status is Status.FAIL


def test_the_same_job_number_of_another_gitlab_is_another_job() -> None:
    """Job ids are counted by each instance for itself."""
    check = false_green.check([pod(7, End.RECLAIMED, gitlab_host="other.example.com")], [verdict(7)])
    assert check.status is Status.SKIP


def test_an_end_that_nobody_saw_warns() -> None:
    """Nothing is proved either way: the check says how many and which."""
    check = false_green.check([pod(7, End.UNKNOWN), pod(8, End.DELETED)], [verdict(7), verdict(8)])
    assert check.status is Status.WARN
    assert "nobody saw how the pod ended: 7" in check.observed


def test_without_a_success_there_is_nothing_to_compare() -> None:
    """No verdict, or no pod of a job: the check is skipped and says why."""
    assert false_green.check([pod(7, End.RECLAIMED)], []).status is Status.SKIP
    assert false_green.check([pod(None, End.RECLAIMED)], [verdict(7)]).status is Status.SKIP


def test_many_are_counted_and_twenty_are_shown() -> None:
    """A report stays readable: the oldest twenty by name, the others by number."""
    pods = [pod(number, End.RECLAIMED, minute=number) for number in range(1, 31)]
    check = false_green.check(pods, [verdict(number) for number in range(1, 31)])
    assert check.observed.splitlines()[0] == "30 of 30 jobs compared"
    assert check.observed.splitlines()[-1] == "… and 10 more"


def test_records_are_marked() -> None:
    """The verdict and the doubt stand in the record; a pod without a verdict stays as it was."""
    pods = [pod(7, End.RECLAIMED), pod(8, End.DELETED), pod(9, End.RECLAIMED)]
    first, second, third = false_green.mark(pods, [verdict(7), verdict(8)])
    assert (first.job_status, first.false_green) == ("success", True)
    assert (second.job_status, second.false_green) == ("success", False)
    assert third is pods[2]
