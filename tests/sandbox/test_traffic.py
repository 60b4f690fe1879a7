"""Played traffic: what is drawn from a seed, the scripts and pods made of it, and records by the million."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from runbook import quantities
from runbook.eci.endings import End
from runbook.history import used
from runbook.history.record import arrow_schema, from_table
from runbook.runner import job_marks
from sandbox.traffic.lives import NOTICE, PROTECTION, Ending, Lives, Verdict, draw, kinds
from sandbox.traffic.play import next_midnight
from sandbox.traffic.pods import SCRIPT, PlayedRunner, manifest, script
from sandbox.traffic.records import batches, measured_batches
from sandbox.traffic.team import TEAM
from sandbox.traffic.truth import planned, rows

MONDAY = datetime(2026, 11, 23, tzinfo=UTC)
RUNNER = PlayedRunner("https://gitlab.example.com", "gitlab-ci")


@pytest.fixture(scope="module")
def month() -> Lives:
    """Four weeks from a Monday on."""
    return draw(TEAM, seed=7, begin=MONDAY, days=28)


def test_a_seed_decides_everything() -> None:
    """The same seed gives the same lives, another one gives others."""
    one, same, other = (draw(TEAM, seed=seed, begin=MONDAY, days=2).columns for seed in (7, 7, 8))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not np.array_equal(one["end"], other["end"])


def test_moments_rise(month: Lives) -> None:
    """No moment of a pod that ran comes before the one that must have come first."""
    row = {name: values[month.columns["running"] >= 0] for name, values in month.columns.items()}
    order = ("job_created", "job_started", "created", "scheduled", "instance", "pulled", "running", "end", "deleted")
    for earlier, later in zip(order, order[1:], strict=False):
        assert (row[earlier] <= row[later]).all(), f"{earlier} after {later}"
    assert (row["deleted"] < row["job_finished"]).all()


def test_protection_hour_is_respected(month: Lives) -> None:
    """ECI announces no release of a spot instance in its first hour, and reclaims nothing else."""
    row = {name: values[month.columns["ending"] == Ending.RECLAIM] for name, values in month.columns.items()}
    assert len(row["end"]) > 10
    assert row["spot"].all()
    assert (row["end"] - NOTICE >= row["instance"] + PROTECTION).all()


def test_every_ending_and_false_greens_come_up(month: Lives) -> None:
    """A month has each kind of end, and reclaimed jobs that GitLab calls a success."""
    assert set(month.columns["ending"].tolist()) == set(Ending)
    lied = (month.columns["ending"] == Ending.RECLAIM) & (month.columns["verdict"] == Verdict.SUCCESS)
    assert lied.any()


def test_nights_and_weekends_are_quiet(month: Lives) -> None:
    """Saturdays have less than a third of a workday's pods, nights less than a third of the mornings'."""
    day, hour = month.columns["job_created"] // 86400 % 7, month.columns["job_created"] // 3600 % 24
    assert (day == 5).sum() * 3 < (day == 1).sum()
    assert ((hour >= 1) & (hour < 4)).sum() * 3 < ((hour >= 9) & (hour < 12)).sum()


def test_retries_repeat_a_failed_job(month: Lives) -> None:
    """A retry names an earlier job of the same kind and pipeline, which failed."""
    row = month.columns
    last = {job: number for number, job in enumerate(row["job"].tolist())}
    retried = np.flatnonzero(row["retry_of"] >= 0)
    assert len(retried) > 20
    earlier = np.array([last[job] for job in row["retry_of"][retried].tolist()])
    for same in ("kind", "pipeline", "project"):
        assert (row[same][earlier] == row[same][retried]).all(), same
    assert (row["verdict"][earlier] != Verdict.SUCCESS).all()
    assert (row["job_finished"][earlier] < row["job_created"][retried]).all()


def test_pull_retries_give_a_job_two_pods(month: Lives) -> None:
    """Where an image could not be pulled the runner takes a new pod for the same job, after the first one is gone."""
    row = month.columns
    for number in np.flatnonzero(~row["last_pod"]).tolist():
        second = next(other for other in np.flatnonzero(row["job"] == row["job"][number]) if row["last_pod"][other])
        assert row["created"][second] > row["deleted"][number]


def test_pods_are_those_of_a_configured_runner() -> None:
    """A played pod bears the marks that the configuration adds, its job's size, and the script of its life."""
    lives = draw(TEAM, seed=7, begin=MONDAY, days=0.5)
    row, truth = next(zip(rows(lives), planned(TEAM, lives, MONDAY), strict=True))
    kind = kinds(TEAM)[row["kind"]][1]
    pod = manifest(RUNNER, kind, truth, 3, np.random.default_rng(1), script(truth, row, 3600))
    notes = pod["metadata"]["annotations"]
    assert notes[job_marks.JOB_ID] == str(truth.job_id)
    assert notes[job_marks.JOB_NAME] == truth.job_name
    assert notes[job_marks.PROJECT_PATH] == truth.project_path
    assert f"project-{truth.project_id}-concurrent-3" in pod["metadata"]["name"]
    build = next(one for one in pod["spec"]["containers"] if one["name"] == "build")
    assert build["resources"]["requests"] == {"cpu": kind.cpu, "memory": kind.memory}
    assert '"factor": 3600' in notes[SCRIPT]


def test_played_days_begin_ahead_of_real_time() -> None:
    """The played days begin at the next midnight, never before the time that the API server stamps."""
    assert next_midnight(datetime(2026, 12, 31, 23, 59, tzinfo=UTC)) == datetime(2027, 1, 1, tzinfo=UTC)
    assert next_midnight(MONDAY) > MONDAY


def test_records_are_valid_and_repeatable() -> None:
    """Generated records hold every column of the schema with values that a record may hold, the same for the same seed."""
    one, again = (list(batches(2500, seed=3, rows=1000)) for _ in range(2))
    assert [batch.num_rows for batch in one] == [1000, 1000, 500]
    assert all(left.equals(right) for left, right in zip(one, again, strict=True))
    table = pa.Table.from_batches(one)
    table.validate(full=True)
    assert table.schema.equals(arrow_schema(), check_metadata=True)
    records = from_table(table)
    assert len({record.pod_uid for record in records}) == 2500
    assert {End.DELETED, End.OUT_OF_MEMORY} <= {record.ended for record in records}
    assert all(record.billed_vcpu >= record.requested_vcpu for record in records if record.billed_vcpu)


def test_pods_use_no_more_than_they_asked_for(month: Lives) -> None:
    """Each pod that ran has a mean below its peak, and a peak within its job's size; what ran out of memory used it all."""
    row = month.columns
    ran = row["running"] >= 0
    assert ((row["used_mib_peak"] > 0) == ran).all()
    assert (row["used_mib_mean"] <= row["used_mib_peak"]).all() and (
        row["used_mcpu_mean"] <= row["used_mcpu_peak"]
    ).all()
    most = np.array([quantities.memory(kind.memory) / 2**20 for _, kind in kinds(TEAM)])[row["kind"]]
    assert (row["used_mib_peak"][ran] <= most[ran]).all()
    struck = row["ending"] == Ending.OOM
    assert struck.any() and (row["used_mib_peak"][struck] == most[struck]).all()


def test_the_truth_and_the_script_tell_what_a_pod_uses() -> None:
    """What a pod uses stands in its truth and in its script, in vCPU and GiB; a pod that never ran uses nothing."""
    lives = draw(TEAM, seed=7, begin=MONDAY, days=3)
    for row, truth in zip(rows(lives), planned(TEAM, lives, MONDAY), strict=True):
        told = script(truth, row, 3600)["used"]
        assert (told is None) == (truth.running_at is None)
        assert (told or {}).get("memory_peak_gib") == truth.used_memory_peak_gib


def test_records_come_with_what_their_pods_used() -> None:
    """The same seed gives records and measures of the same pods, and the same records as without measures."""
    ((records, measured),) = measured_batches(800, seed=3)
    (alone,) = batches(800, seed=3)
    assert records.equals(alone)
    assert measured.schema.equals(used.schema())
    table = pa.Table.from_batches([records])
    beside = used.columns_for(table, measured)
    ran = [value is not None for value in table["running_at"].to_pylist()]
    assert [value > 0 for value in beside["used_samples"].to_pylist()] == ran
