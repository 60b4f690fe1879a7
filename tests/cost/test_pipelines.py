"""When a pipeline counts as a success."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from runbook.cost import pipelines
from tests.cost.priced_pods import frame, pod

NEXT_DAY = datetime(2026, 11, 4, 1, tzinfo=UTC)


def counted(*pods: dict[str, Any]) -> tuple[int, int, int]:
    """Pipelines, succeeded and unknown ones."""
    table = pipelines.by_day(frame(*pods))
    return tuple(int(table[name].sum()) for name in ("pipelines", "succeeded", "unknown"))  # type: ignore[return-value]


def test_all_jobs_must_succeed() -> None:
    """One failed job of two spoils the pipeline."""
    green, red = pod(1, pipeline_id=7, job_name="build"), pod(2, pipeline_id=7, job_name="test", job_status="failed")
    assert counted(green, red) == (1, 0, 0)


def test_the_last_run_of_a_job_decides() -> None:
    """A job that failed and then succeeded is a success; one that succeeded and then failed is none."""
    first, second = pod(1, pipeline_id=7, job_status="failed"), pod(2, pipeline_id=7)
    assert counted(first, second) == (1, 1, 0)
    first, second = pod(1, pipeline_id=7), pod(2, pipeline_id=7, job_status="failed")
    assert counted(first, second) == (1, 0, 0)


@pytest.mark.parametrize("status", ["failed", "canceled", "running"])
def test_only_success_is_success(status: str) -> None:
    """A cancelled pipeline, or one that still runs, has not succeeded."""
    assert counted(pod(job_status=status)) == (1, 0, 0)


def test_a_false_green_is_no_success() -> None:
    """GitLab's word is not enough where the pod was taken away."""
    assert counted(pod(false_green=True)) == (1, 0, 0)


def test_without_a_verdict_it_is_unknown() -> None:
    """Where GitLab was never asked, a pipeline is neither good nor bad."""
    assert counted(pod(1, job_status=None), pod(2, pipeline_id=9)) == (2, 1, 1)


def test_pods_without_pipeline_are_none() -> None:
    """A pod whose job nobody knows is no pipeline."""
    assert counted(pod(pipeline_id=None)) == (0, 0, 0)
    assert counted() == (0, 0, 0)


def test_a_pipeline_counts_on_its_last_day() -> None:
    """A pipeline across midnight is one pipeline, of the day of its last pod."""
    late = pod(2, pipeline_id=1, job_name="deploy", billing_start_at=NEXT_DAY)
    table = pipelines.by_day(frame(pod(1), late))
    assert [(str(row.day.date()), row.pipelines) for row in table.itertuples()] == [("2026-11-04", 1)]
