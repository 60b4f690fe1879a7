"""Which pipelines succeeded: those all of whose jobs ended well in their last run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import narwhals as nw

from runbook.cost.collected import collected, count

if TYPE_CHECKING:
    import pandas as pd

GOOD, UNKNOWN, BAD = 0, 1, 2
"""What is known of a run: it succeeded; nobody said; it failed, was cancelled, or is green without proof."""

_GRADES = 4


def by_day(pods: nw.LazyFrame[Any]) -> pd.DataFrame:
    """One row a day: `day` (of the pipeline's last pod), `pipelines`, `succeeded`, `unknown` (no verdict on some job).

    A job is known by pipeline and name, and its last run by the largest job id. A false green (GitLab says success, and the
    pod was reclaimed, lost or evicted) is no success.
    """
    said = nw.col("job_status").is_null()
    proved = (nw.col("job_status") == "success") & ~nw.col("false_green").fill_null(False)
    grade = nw.when(said).then(nw.lit(UNKNOWN)).otherwise(nw.when(proved).then(nw.lit(GOOD)).otherwise(nw.lit(BAD)))
    # The job id is the larger part of one number, so that the largest number is the last run and the worst of its pods.
    jobs = (
        pods.filter(~nw.col("pipeline_id").is_null(), ~nw.col("job_id").is_null())
        .select("pipeline_id", "job_name", "day", last=nw.col("job_id") * _GRADES + grade)
        .group_by("pipeline_id", "job_name")
        .agg(nw.col("last").max(), nw.col("day").max())
    )
    pipelines = (
        jobs.with_columns(grade=nw.col("last") % _GRADES)
        .group_by("pipeline_id")
        .agg(nw.col("grade").max(), nw.col("day").max())
    )
    return collected(
        pipelines.group_by("day").agg(
            nw.len().alias("pipelines"),
            count(nw.col("grade") == GOOD).alias("succeeded"),
            count(nw.col("grade") == UNKNOWN).alias("unknown"),
        ),
        by=["day"],
    )
