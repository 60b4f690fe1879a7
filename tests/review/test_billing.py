"""A period beside its bill, and as a FOCUS file: history, prices and bill come together."""

from __future__ import annotations

import csv
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runbook.cost import focus
from runbook.eci.charges import CHINA
from runbook.errors import SettingsError
from runbook.history import bills, store
from runbook.history.record import arrow_schema
from runbook.report import Status
from runbook.review import billing, period
from runbook.settings import Settings
from tests.cost.bill_rows import api_row
from tests.cost.test_pricing import record

BEGIN = datetime(2026, 11, 1, 2, tzinfo=UTC)
NOW = datetime(2026, 12, 5, tzinfo=UTC)
SECOND = Decimal("0.00012252")
"""What a second of 2 vCPU and 4 GiB costs."""


def card(folder: Path, **cost: Any) -> Settings:
    """The practice card with its folders elsewhere."""
    places = {"prices": str(folder / "prices"), "bills": str(folder / "bills"), "used": {"url": str(folder / "used")}}
    values: dict[str, Any] = {
        "name": "practice", "region": "cn-hangzhou", "cache": {"bucket": "b"}, "gitlab": {"url": "https://gitlab.example.com", "token": "env:T"},
        "smoke": {"project": "ops/smoke"}, "history": {"url": str(folder / "history")}, "cost": places | cost,
    }  # fmt: skip
    return Settings.parse(values, where="test")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A history of forty pods of ten minutes, one each half day; of one nobody knows how it ended."""
    made = card(tmp_path)
    rows = []
    for number in range(40):
        start = BEGIN + timedelta(hours=12 * number)
        seen = {"observed_at": start + timedelta(hours=1), "finished_at": start + timedelta(minutes=10)}
        if number == 7:
            seen["finished_at"] = None
        rows.append(
            record(
                pod_uid=f"uid-{number}", instance_id=f"eci-{number}", billing_start_at=start, created_at=start, **seen
            )
        )
    schema = arrow_schema()
    blank = {field.name: _blank(field) for field in schema}
    store.open_store(made).append(pa.Table.from_pylist([blank | row for row in rows], schema=schema))
    return made


def _blank(field: pa.Field) -> Any:
    """What a record holds where nothing is known."""
    if field.nullable:
        return None
    if pa.types.is_list(field.type):
        return []
    return {"string": "unknown", "bool": False, "int64": 0}[str(field.type)]


def billed(settings: Settings, days: int = 30) -> None:
    """Keep the bill of the first days of November: of each pod what it costs, of every tenth a second more."""

    def ask(day: date) -> list[dict[str, Any]]:
        rows = []
        for number in range(40):
            start = BEGIN + timedelta(hours=12 * number)
            if start.astimezone(CHINA).date() == day:
                seconds = 601 if number % 10 == 0 else 600
                rows.append(
                    api_row(
                        f"eci-{number}",
                        day.isoformat(),
                        PretaxAmount=float(SECOND * seconds),
                        ServicePeriod=str(seconds),
                    )
                )
        return rows

    bills.open_bills(settings).fetch(ask, date(2026, 11, 1), date(2026, 11, days), now=NOW)


def test_the_model_is_held_against_the_kept_bill(settings: Settings) -> None:
    """History, price list and kept bill meet: the share that is explained, and what the rest is for."""
    billed(settings)
    pods = period.open_period(settings, "2026-11-01", "2026-11-30")
    compared = billing.against_bill(pods, now=NOW)
    assert compared.report.ok and compared.answer is not None
    causes = compared.answer.parts["causes"].set_index("cause")["instances"].to_dict()
    assert causes == {"agrees": 35, "other seconds observed": 4, "start or end unknown": 1}
    assert compared.answer.sentence.startswith("The model explains 97.4 % of the bill of CNY 2.94")


def test_without_a_bill_there_is_no_comparison(settings: Settings) -> None:
    """Where no bill is kept there is no answer, and the report says how to get one."""
    compared = billing.against_bill(period.open_period(settings, "2026-11-01", "2026-11-30"), now=NOW)
    assert compared.answer is None
    assert compared.report["bill"].status is Status.SKIP


def test_a_bill_without_pods_is_compared_too(tmp_path: Path) -> None:
    """A bill of days on which the history is empty is not in the history, all of it."""
    settings = card(tmp_path)
    billed(settings)
    compared = billing.against_bill(period.open_period(settings, "2026-11-01", "2026-11-30"), now=NOW)
    assert compared.answer is not None
    assert compared.answer.parts["causes"]["cause"].tolist() == ["not in the history"]


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_month_becomes_a_focus_file(settings: Settings, tmp_path: Path, ending: str) -> None:
    """The file has a row each item and piece of the month, its money is in the report, and the account is the bill's."""
    billed(settings)
    out = tmp_path / "out" / f"november.{ending}"
    report = billing.export_focus(settings, "2026-11", out)
    if ending == "parquet":
        table = pq.read_table(out)
        assert table.schema.equals(focus.schema())
        rows = table.to_pylist()
    else:
        rows = list(csv.DictReader(out.open(encoding="utf-8")))
    assert len(rows) == 39 * 2
    assert sum(Decimal(row["BilledCost"]) for row in rows) == pytest.approx(SECOND * 600 * 39)
    assert {row["BillingAccountId"] for row in rows} == {"1000000000000001"}
    assert report.facts["BilledCost"] == "CNY 2.87"
    assert "no end: 1 pods without a row" in report["cost-known"].observed
    assert [file.name for file in out.parent.iterdir()] == [out.name]


def test_a_month_without_pods_is_an_empty_file(settings: Settings, tmp_path: Path) -> None:
    """Nothing ran: the file has its columns and no row, and the report warns."""
    out = tmp_path / "december.parquet"
    report = billing.export_focus(settings, "2026-12", out, account="1")
    assert pq.read_table(out).num_rows == 0
    assert report["cost-pods"].status is Status.WARN


@pytest.mark.parametrize(
    ("month", "name", "account", "where"),
    [
        ("2026-13", "a.parquet", "1", "--month"),
        ("2026-11", "a.xlsx", "1", "--out"),
        ("2026-11", "a.parquet", None, "--account"),
    ],
)
def test_what_cannot_be_is_refused(
    settings: Settings, tmp_path: Path, month: str, name: str, account: str | None, where: str
) -> None:
    """A month that is none, a file of another kind, or an account that nobody names: a page, and no file."""
    with pytest.raises(SettingsError) as caught:
        billing.export_focus(settings, month, tmp_path / name, account=account)
    assert caught.value.where == where
    assert not (tmp_path / name).exists()
