"""A period of the history, priced: what every notebook of analysis begins with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import narwhals as nw
import pandas as pd
import pyarrow as pa
import pytest

from runbook.charts import fonts
from runbook.errors import SettingsError
from runbook.history import store
from runbook.review import period
from runbook.settings import Settings
from sandbox.traffic.records import batches

BEGIN = datetime(2026, 10, 1, tzinfo=UTC)


def card(folder: Path, **cost: Any) -> Settings:
    """The practice card with its folders elsewhere."""
    values: dict[str, Any] = {
        "name": "review", "region": "cn-hangzhou", "cache": {"bucket": "b"}, "gitlab": {"url": "https://gitlab.example.com", "token": "env:T"},
        "smoke": {"project": "ops/smoke"}, "history": {"url": str(folder / "history")},
        "cost": {"prices": str(folder / "prices"), "reports": str(folder / "reports"), "used": {"url": str(folder / "used")}} | cost,
    }  # fmt: skip
    return Settings.parse(values, where="test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A history of 3,000 generated pods, named for this card, and ten of another cluster."""
    folder = tmp_path_factory.mktemp("review")
    history = store.open_store(card(folder))
    for number, batch in enumerate(batches(3_000, seed=3, begin=BEGIN, days=31)):
        table = pa.Table.from_batches([batch])
        names = pa.array(["review"] * table.num_rows, pa.string())
        history.append(_named(table, names))
        if not number:
            history.append(_named(table.slice(0, 10), pa.array(["another"] * 10, pa.string())))
    return folder


def _named(table: pa.Table, names: pa.Array) -> pa.Table:
    index = table.schema.get_field_index("cluster")
    return table.set_column(index, table.schema.field(index), names)


def _number(frame: nw.LazyFrame[Any]) -> int:
    return int(frame.select(nw.len()).collect("pandas").to_native().iloc[0, 0])


def test_every_pod_of_the_days_is_there_once(folder: Path) -> None:
    """The days of a period hold each pod of this cluster once, none of another, and the days before are apart."""
    whole = period.open_period(card(folder, timezone="UTC"), "2026-10-01", "2026-10-31")
    first = period.open_period(card(folder, timezone="UTC"), "2026-10-01", "2026-10-15")
    rest = period.open_period(card(folder, timezone="UTC"), "2026-10-16", "2026-10-31")
    assert _number(whole.frame) == 3_000
    assert _number(first.frame) + _number(rest.frame) == 3_000
    assert _number(rest.earlier) == _number(first.frame), (
        "sixteen days before the 16th reach into September, which is empty"
    )
    assert _number(whole.earlier) == 0


def test_without_days_the_month_of_the_newest_pod_is_taken(folder: Path) -> None:
    """The default period ends with the last day that has pods and begins with its month."""
    found = period.open_period(card(folder))
    newest = found.frame.select(nw.col("day").max()).collect("pandas").to_native().iloc[0, 0]
    assert found.scope.last - timedelta(days=1) <= pd.Timestamp(newest).date() <= found.scope.last
    assert found.scope.first == found.scope.last.replace(day=1)


def test_an_empty_history_is_a_period_without_pods(tmp_path: Path) -> None:
    """Nothing collected yet: an empty frame, a warning that says what to do, and no crash."""
    found = period.open_period(card(tmp_path), "2026-10-01", "2026-10-31")
    assert _number(found.frame) == 0
    assert found.report.ok and "cost-pods" in str(found.report)


@pytest.mark.parametrize("days", [("october", ""), ("2026-10-31", "2026-10-01")])
def test_days_that_are_none_are_an_error(folder: Path, days: tuple[str, str]) -> None:
    """A word that is no day, or an end before the beginning, is refused with what is allowed."""
    with pytest.raises(SettingsError, match="first"):
        period.open_period(card(folder), *days)


def test_a_savings_plan_is_spread_over_the_hours_it_covers(folder: Path) -> None:
    """What a plan costs in the period is what it covers plus what it did not use: the commitment of every hour."""
    plan = {"per_hour": "0.5", "percent": "20", "first": "2026-10-01", "last": "2026-10-31"}
    found = period.open_period(card(folder, savings_plans=[plan]), "2026-10-01", "2026-10-31")
    sums = found.frame.select(nw.col("effective_cost", "billed_cost").sum()).collect("pandas").to_native()
    covered = float(sums["effective_cost"][0] - sums["billed_cost"][0])
    edges = 2 * 24 * 0.5  # pods of the first and last night run over the edges of the month
    unused = sum(amount for day, amount in found.unused_plans.items() if day >= found.scope.first)
    assert covered + unused == pytest.approx(31 * 24 * 0.5, abs=edges)
    assert covered > 0


def test_the_report_says_what_is_assumed(folder: Path) -> None:
    """What no page of the vendor says is printed with the report, and what is wrong with the data."""
    report = str(period.open_period(card(folder), "2026-10-01", "2026-10-31").report)
    assert "A spot instance has the default protection of one hour" in report
    assert "no spot price" in report


def test_the_dearest_projects_have_colours(folder: Path) -> None:
    """The scope names the projects that cost most, the dearest first, so that every chart colours them alike."""
    whole = period.open_period(card(folder, timezone="UTC"), "2026-10-01", "2026-10-31")
    frame = whole.frame.filter(~nw.col("project_path").is_null()).select("project_path", "effective_cost")
    sums = frame.collect("pandas").to_native().groupby("project_path")["effective_cost"].sum()
    assert list(whole.scope.projects) == sums.sort_values(ascending=False).index[: len(whole.scope.projects)].tolist()
    assert 2 <= len(whole.scope.projects) <= 8


def test_the_language_of_the_card(folder: Path) -> None:
    """Answers are in the card's language; where no font here can draw it they are in English, and the report says so."""
    chinese = period.open_period(card(folder, timezone="UTC", language="zh"), "2026-10-30", "2026-10-31")
    (check,) = [one for one in chinese.report.checks if one.id == "cost-language"]
    if fonts.chinese_font(fonts.installed()):
        assert chinese.scope.language == "zh" and check.status.value == "pass"
    else:
        assert chinese.scope.language == "en" and check.remedy == fonts.NO_CHINESE_FONT


def test_two_at_a_time(folder: Path) -> None:
    """Two notebooks may open the same period side by side: neither touches what the other reads."""
    one, other = (period.open_period(card(folder, timezone="UTC"), "2026-10-01", "2026-10-31") for _ in range(2))
    assert one.path != other.path
    assert _number(one.frame) == _number(other.frame) > 0
