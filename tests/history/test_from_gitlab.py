"""GitLab's jobs and the pods that were seen: who belongs to whom, what GitLab adds, and what nobody watched."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from runbook.history.from_gitlab import Matched, match
from runbook.history.gitlab_jobs import Job, host_of
from runbook.history.job_join import CLEANUP, HOW_MEANING, How
from runbook.history.job_records import TURNED_UP, without_stand_ins
from runbook.history.observation import MISSING, gone
from runbook.history.record import End, JobKnown, Known, PodRecord, Source, from_table, to_table
from runbook.report import Status

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
LATER = NOW + timedelta(hours=2)
HOST = "gitlab.example.com"


def at(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def job(id: int = 106, start: float | None = 0, end: float | None = 5, **values: Any) -> Job:
    """A job of runner 12 and project 5 that ran between two minutes."""
    base: dict[str, Any] = {
        "host": HOST,
        "id": id,
        "status": "success" if end else "running",
        "name": f"test {id}",
        "created_at": at(-1),
        "started_at": None if start is None else at(start),
        "finished_at": None if end is None else at(end),
        "queued_seconds": 4.2,
        "pipeline_id": 77,
        "project_id": 5,
        "project_path": "grp/sub/demo",
        "runner_id": 12,
        "runner_name": "eci",
    }
    return Job(**base | values)


def pod(uid: str = "u1", start: float = 0.1, end: float | None = 5, **values: Any) -> PodRecord:
    """A pod of project 5 that was watched between two minutes and says no more of its job."""
    base: dict[str, Any] = {
        "cluster": "practice",
        "pod_uid": uid,
        "pod_name": f"pod-{uid}",
        "observed_at": at(5 if end is None else end),
        "sources": (Source.WATCH,),
        "project_id": 5,
        "job_known": JobKnown.NAME,
        "created_at": at(start),
        "created_known": Known.OBSERVED,
        "billing_start_at": at(start),
        "billing_start_known": Known.OBSERVED,
    }
    if end is not None:
        base |= {"final": True, "deleted_at": at(end), "finished_at": at(end), "ended": End.DELETED}
    return PodRecord(**base | values)


def exact(uid: str = "u1", id: int = 106, start: float = 0.1, end: float | None = 5, **values: Any) -> PodRecord:
    """A pod whose annotation names its job."""
    named = {"job_id": id, "gitlab_host": HOST, "job_known": JobKnown.ANNOTATION}
    return pod(uid, start, end, **named | values)


def matched(records: list[PodRecord], jobs: list[Job], **options: Any) -> Matched:
    return match(records, jobs, cluster="practice", observed_at=LATER, **{"runners": {12}} | options)


# -- entities


def test_a_job_of_a_projects_list() -> None:
    """The full entity names runner and machine; host and path come from the job's own address."""
    entity = {
        "id": 106,
        "status": "failed",
        "name": "unit tests",
        "stage": "test",
        "ref": "main",
        "created_at": "2026-11-24T09:29:50.000Z",
        "started_at": "2026-11-24T17:30:00.500+08:00",
        "finished_at": None,
        "queued_duration": 4.2,
        "failure_reason": "runner_system_failure",
        "web_url": "https://gitlab.example.com:8443/gitlab/grp/sub/demo/-/jobs/106",
        "pipeline": {"id": 77, "project_id": 5},
        "project": {"ci_job_token_scope_enabled": False},
        "runner": {"id": 12, "description": "eci"},
        "runner_manager": {"system_id": "s_1", "version": "17.9.0"},
    }
    read = Job.from_api(entity, gitlab_url="https://gitlab.example.com:8443/gitlab")
    assert (read.key, read.project_path, read.project_id) == (("gitlab.example.com:8443", 106), "grp/sub/demo", 5)
    assert (read.runner_id, read.runner_name, read.system_id, read.runner_version) == (12, "eci", "s_1", "17.9.0")
    assert (read.started_at, read.finished_at) == (NOW + timedelta(seconds=0.5), None)
    assert (read.queued_seconds, read.failure_reason, read.pipeline_id) == (4.2, "runner_system_failure", 77)


def test_a_job_of_a_runners_list() -> None:
    """The shorter entity names the project and no runner: that is the one that was asked for."""
    entity = {
        "id": 106,
        "status": "created",
        "name": "x",
        "created_at": "2026-11-24T09:29:50Z",
        "project": {"id": 5, "path_with_namespace": "grp/demo"},
        "pipeline": None,
    }
    read = Job.from_api(entity, gitlab_url="http://GitLab.example.com:80", runner={"id": 12, "description": "eci"})
    assert (read.host, read.project_id, read.project_path) == (HOST, 5, "grp/demo")
    assert (read.runner_id, read.runner_name, read.started_at) == (12, "eci", None)


@pytest.mark.parametrize(
    "text", ["https://GITLAB.example.com:443/x", "gitlab.example.com", "http://u@gitlab.example.com:80"]
)
def test_a_host_is_known_in_every_spelling(text: str) -> None:
    """Case, the usual ports, a user and a path make no other GitLab of it."""
    assert host_of(text) == HOST


# -- exact


def test_a_pod_that_names_its_job_gets_the_verdict() -> None:
    """What GitLab alone knows is added; what the pod said itself stays; the record holds over the older observation."""
    before = exact(job_name="as the pod says", runner_version="14.7.1")
    result = matched([before], [job(failure_reason="script_failure", status="failed")])
    (after,) = result.records
    assert result.to_write == (after,)
    assert (after.job_status, after.job_failure_reason, after.job_queued_seconds) == ("failed", "script_failure", 4.2)
    assert (after.job_started_at, after.job_finished_at) == (at(0), at(5))
    assert (after.job_name, after.runner_version, after.job_known) == (
        "as the pod says",
        "14.7.1",
        JobKnown.ANNOTATION,
    )
    assert (after.project_path, after.project_namespace, after.runner_id) == ("grp/sub/demo", "grp/sub", 12)
    assert (after.sources, after.observed_at) == ((Source.WATCH, Source.GITLAB), LATER)
    assert result.report.pods == {How.EXACT: 1}


def test_several_pods_of_one_job_all_get_it() -> None:
    """A pull that was tried again left two pods: the join is 1:N, and the report says so."""
    result = matched([exact("u1", end=1), exact("u2", start=1.1)], [job()])
    assert {one.job_status for one in result.records} == {"success"}
    assert (result.report.pods_of_a_job, result.report.jobs["with a pod"]) == ({2: 1}, 1)
    assert result.report.missed == ()


def test_another_gitlabs_job_of_the_same_id_is_another_job() -> None:
    """The id alone joins nothing where the host differs."""
    result = matched([exact(gitlab_host="other.example.com")], [job()])
    assert result.report.pods == {How.UNMATCHED: 1}
    assert result.report.unmatched == ("pod-u1",)


def test_without_a_host_the_only_job_of_id_and_project_is_meant() -> None:
    """Old runners say no host: id and project decide, and nothing where two GitLabs have such a job."""
    nameless = exact(gitlab_host=None)
    assert matched([nameless], [job()]).records[0].gitlab_host == HOST
    both = matched([nameless], [job(), job(host="other.example.com")])
    assert both.report.pods == {How.UNMATCHED: 1}


# -- by trace and by time


def test_a_trace_names_the_pod() -> None:
    """`Running on POD via …` joins a pod that says nothing of its job, even where times would fit two."""
    jobs = [job(1), job(2)]
    result = matched([pod()], jobs, named_by_traces={(HOST, 2): "pod-u1"})
    (after,) = (one for one in result.records if one.pod_uid == "u1")
    assert (after.job_id, after.job_known) == (2, JobKnown.TRACE)


def test_one_job_at_the_time_is_the_pods() -> None:
    """Project, runner and time leave one job: joined by overlap, and said so."""
    jobs = [job(1, -20, -10), job(2, 0, 5), job(3, 0, 5, project_id=6), job(4, 0, 5, runner_id=13)]
    result = matched([pod()], jobs)
    (after,) = (one for one in result.records if one.pod_uid == "u1")
    assert (after.job_id, after.job_known, after.gitlab_host) == (2, JobKnown.OVERLAP, HOST)
    assert result.report.pods == {How.OVERLAP: 1}


def test_two_jobs_at_the_time_join_nothing() -> None:
    """What fits two jobs is joined to none; the pod and both jobs are named, and neither job counts a second time."""
    result = matched([pod()], [job(1), job(2)])
    assert [one.job_id for one in result.records] == [None]
    assert (result.report.jobs["perhaps with a pod"], result.report.missed) == (2, ())
    assert result.report.ambiguous == {"pod-u1": ((HOST, 1), (HOST, 2))}
    check = result.report.report()["pods-without-job"]
    assert check.status is Status.WARN and "pod-u1: 1, 2" in check.observed


def test_a_job_whose_pod_is_known_leaves_the_other() -> None:
    """Pods of one job live one after the other: a job with a pod at that time is no candidate, and so on in turn."""
    chain = [exact("u1", 1), pod("u2"), pod("u3", start=6, end=12)]
    result = matched(chain, [job(1), job(2, 0, 12), job(3, 6, 12)])
    assert {one.pod_uid: one.job_id for one in result.records} == {"u1": 1, "u2": 2, "u3": None}
    assert result.report.ambiguous == {"pod-u3": ((HOST, 2), (HOST, 3))}


def test_a_pod_that_outlived_a_job_was_not_its() -> None:
    """A pod that was there long after a job's end is not of that job."""
    long = pod(end=5 + CLEANUP.total_seconds() / 60 + 1)
    assert matched([long], [job(1), job(2, 0, 20)]).records[0].job_id == 2


# -- pods that were seen and then found missing


def missing(uid: str = "u1", **values: Any) -> PodRecord:
    """A pod that names its job, was last seen alive, and an hour later was not there."""
    look: dict[str, Any] = {"final": False, "ended": End.LIVE, "finished_known": Known.NEVER}
    return gone(exact(uid, end=None, **look | values), observed_at=at(60))


def test_the_end_of_a_missing_pod_is_its_jobs() -> None:
    """Nobody saw it end; GitLab says when its job did, and that is nearer than the look at which it was missing."""
    before = missing()
    assert (before.finished_at, before.finished_source) == (at(60), MISSING)
    (after,) = matched([before], [job()]).records
    assert (after.finished_at, after.finished_known, after.finished_source) == (
        at(5),
        Known.BOUNDED,
        "GitLab: the job's end",
    )
    assert (after.billing_start_at, after.billing_start_known) == (at(0.1), Known.OBSERVED)


def test_a_missing_pod_without_an_instance_is_bounded_by_its_job() -> None:
    """Whether billing had begun nobody saw; its job ran, so it lies between the pod's creation and the job's end."""
    (after,) = matched([missing(billing_start_at=None, billing_start_known=Known.NEVER)], [job()]).records
    assert (after.billing_start_at, after.billing_start_known) == (at(0.1), Known.BOUNDED)
    assert (after.finished_at, after.finished_known) == (at(5), Known.BOUNDED)
    assert matched([after], [job()]).to_write == ()


def test_of_two_pods_of_a_job_none_gets_its_bounds() -> None:
    """Which part of the job was whose nobody knows: both would be billed for all of it."""
    kept = missing(billing_start_at=None, billing_start_known=Known.NEVER)
    result = matched([kept, exact("u2", start=2)], [job()])
    after = next(one for one in result.records if one.pod_uid == "u1")
    assert (after.billing_start_known, after.finished_at) == (Known.UNKNOWN, None)


# -- jobs that nobody watched


def test_a_missed_job_is_recorded_with_bounds() -> None:
    """Its pod lived within the job: start and end are bounded, how it ended is unknown, and the job is named."""
    result = matched([], [job(failure_reason="runner_system_failure", status="failed")], region="cn-hangzhou")
    (only,) = result.to_write
    assert (only.pod_uid, only.job_known, only.sources) == (f"job:{HOST}/106", JobKnown.GITLAB, (Source.GITLAB,))
    assert (only.billing_start_at, only.finished_at) == (at(0), at(5))
    assert {only.created_known, only.billing_start_known, only.finished_known, only.deleted_known} == {Known.BOUNDED}
    assert (only.ended, only.final, only.region) == (End.UNKNOWN, True, "cn-hangzhou")
    assert only.ended_evidence == "GitLab: failed, runner_system_failure"
    assert result.report.report()["jobs-without-pod"].status is Status.WARN
    assert from_table(to_table([only])) == [only]


def test_what_did_not_run_here_gets_no_record() -> None:
    """A job that never started, one that still runs, one of another runner, and one that ended only just now."""
    jobs = [
        job(1, None, None, status="canceled", runner_id=12),
        job(2, 0, None),
        job(3, runner_id=99),
        job(4, 0, 60),
    ]
    result = matched([], jobs, settled_until=at(30))
    assert result.to_write == ()
    assert result.report.jobs == {
        "with a pod": 0,
        "perhaps with a pod": 0,
        "without a pod": 0,
        "not started": 1,
        "not over": 2,
        "of another runner": 1,
    }


def test_matched_twice_nothing_changes() -> None:
    """The second import of the same jobs writes nothing, whatever joined them."""
    jobs = [job(1), job(2, 10, 15), job(3, 20, 25)]
    first = matched([exact("u1", 1), pod("u2", 10.1, 15)], jobs)
    assert len(first.to_write) == 3
    again = match(first.records, jobs, cluster="practice", observed_at=LATER + timedelta(hours=1), runners={12})
    assert again.to_write == ()
    assert again.report.pods == first.report.pods == {How.EXACT: 1, How.OVERLAP: 1}
    assert again.report.jobs["without a pod"] == 1


def test_a_pod_that_turns_up_takes_the_place_of_its_stand_in() -> None:
    """A job counts once: the bounded record steps back as soon as a pod of the job is there, and is billed no more."""
    stand_in = matched([], [job()]).records
    result = matched([*stand_in, exact()], [job()])
    (back,) = (one for one in result.to_write if one.pod_uid.startswith("job:"))
    assert (back.billing_start_known, back.finished_known, back.ended_evidence) == (
        Known.NEVER,
        Known.NEVER,
        TURNED_UP,
    )
    assert matched([back, *result.records], [job()]).to_write == ()
    assert [one.pod_uid for one in result.records] == ["u1"]
    assert [one.pod_uid for one in without_stand_ins([*stand_in, *result.to_write])] == ["u1"]


def test_a_retry_names_the_job_that_it_repeats() -> None:
    """Jobs of one name in one pipeline repeat each other in the order of their ids."""
    jobs = [
        job(1, name="build"),
        job(2, 6, 9, name="build"),
        job(3, 6, 9, name="other"),
        job(4, name="build", pipeline_id=8),
    ]
    records = {one.job_id: one.retry_of for one in matched([], jobs).records}
    assert records == {1: None, 2: 1, 3: None, 4: None}


# -- what it means for the pods that were seen


def test_a_pod_whose_end_nobody_saw_gets_the_jobs_end() -> None:
    """Seen alive, then not again: its end is bounded by its job's, and the record stays open for a later look."""
    (after,) = matched([exact(end=None)], [job()]).records
    assert (after.finished_at, after.finished_known, after.finished_source) == (
        at(5),
        Known.BOUNDED,
        "GitLab: the job's end",
    )
    assert (after.ended, after.final) == (End.UNKNOWN, False)


def test_a_pod_that_was_seen_long_after_its_job_still_lives() -> None:
    """An orphan of a dead runner is billed on: GitLab's word does not end it."""
    orphan = exact(end=None, observed_at=at(5) + CLEANUP + timedelta(minutes=1), ended=End.LIVE)
    (after,) = matched([orphan], [job()]).records
    assert (after.finished_at, after.ended) == (None, End.LIVE)


def test_a_false_green_is_marked_and_named() -> None:
    """GitLab says success and the pod was reclaimed: the record says so, and the report fails with the job's name."""
    result = matched([exact(ended=End.RECLAIMED, ended_evidence="status.reason BidFailed")], [job()])
    assert result.records[0].false_green and result.to_write[0].false_green
    check = result.report.report()["false-green"]
    assert check.status is Status.FAIL and "job 106" in check.observed


def test_records_of_another_cluster_are_left_alone() -> None:
    """Only the cluster's own records are joined."""
    other = msgspec.structs.replace(exact(), cluster="other")
    assert matched([other], []).records == ()


def test_the_report_sums_up() -> None:
    """Counts by how it matched, failure reasons and waiting times stand above the checks."""
    jobs = [job(1), job(2, 20, 25, status="failed", failure_reason="script_failure", queued_seconds=60.0)]
    report = matched([exact("u1", 1)], jobs).report
    facts = report.report().facts
    assert facts["jobs"] == "1 with a pod, 1 without a pod"
    assert facts["pods"] == "1 exact"
    assert facts["failure reasons"] == "1 script_failure"
    assert "the longest 1 min" in facts["waited for a runner"]
    assert (report.joined, set(HOW_MEANING)) == (1, set(How))


def test_old_runners_and_many_jobs_are_matched_in_seconds() -> None:
    """4,000 pods that name no job, and as many jobs of one project one after the other: each pod gets its own."""
    count = 4000
    jobs = [job(number, 2.0 * number, 2.0 * number + 1.5) for number in range(count)]
    pods = [pod(f"u{number}", 2.0 * number + 0.1, 2.0 * number + 1.5) for number in range(count)]
    began = time.monotonic()
    result = matched(pods, jobs)
    assert time.monotonic() - began < 10
    assert [one.job_id for one in result.records] == list(range(count))
