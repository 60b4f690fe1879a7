"""Small results have the same types whichever engine made them."""

from __future__ import annotations

from datetime import UTC, datetime

import narwhals as nw
import pandas as pd

from runbook.cost.collected import collected, count
from tests.cost.priced_pods import frame, pod

PODS = frame(pod(1), pod(2, spot=True, effective_cost=None), pod(3, project_path=None, spot=None))


def test_types() -> None:
    """Dates and moments are pandas' own, whole numbers stay whole, a sum of them too."""
    table = collected(PODS.select("day", "billing_start_at", "hour", "project_path").sort("hour"))
    assert table.dtypes["day"] == "datetime64[us]"
    assert table.dtypes["billing_start_at"] == "datetime64[us, UTC]"
    assert table.dtypes["hour"] == "int64"
    summed = collected(PODS.select(nw.col("job_id").sum()))
    assert summed.dtypes["job_id"] == "int64" and summed["job_id"].tolist() == [6]


def test_order() -> None:
    """Rows are sorted by the named columns, unknown ones last."""
    by_project = collected(PODS.select("project_path", "job_id"), by=["project_path", "job_id"])
    assert by_project["job_id"].tolist() == [1, 2, 3]
    assert by_project["project_path"].isna().tolist() == [False, False, True]


def test_count() -> None:
    """Conditions are counted; an unknown one does not count."""
    table = collected(
        PODS.select(count(nw.col("spot")).alias("spot"), count(nw.col("effective_cost").is_null()).alias("unknown"))
    )
    assert table.loc[0].to_dict() == {"spot": 1, "unknown": 1}


def test_empty() -> None:
    """Without pods there are the columns, with their types, and no row."""
    table = collected(frame().select("day", "seconds"))
    assert table.empty and table.dtypes["day"] == "datetime64[us]"


def test_moments_are_moments() -> None:
    """A moment comes out as it went in."""
    table = collected(PODS.select(nw.col("billing_start_at").min()))
    assert table["billing_start_at"].tolist() == [pd.Timestamp(datetime(2026, 11, 3, 12, tzinfo=UTC))]
