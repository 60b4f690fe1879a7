"""The practice cloud's bill, fetched and kept through Alibaba's SDK, beside our model: all of it is explained, and what we lack is named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import narwhals as nw
import pytest

from runbook.answer import Answer, Scope
from runbook.clients import connect
from runbook.clients.alibaba import AccessKey, AlibabaCloud, Endpoints
from runbook.clients.storage import DiskFolder
from runbook.cost import pricing, reconcile
from runbook.cost.bill import Bill
from runbook.cost.bill_causes import Cause
from runbook.eci.charges import CHINA
from runbook.eci.prices import PriceBook
from runbook.history.bills import Bills
from runbook.history.record import Known, PodRecord, to_table
from runbook.settings import Cost
from sandbox.alibaba.process import Alibaba
from tests.sandbox.alibaba_journal import JournalWriter

HOUR = 3600
EVENING = (datetime.now(CHINA) - timedelta(days=2)).replace(hour=20, minute=0, second=0, microsecond=0).astimezone(UTC)
"""20:00 in China, the day before yesterday."""
LIVES = {
    "short": (60, 95, {}),
    "example": (49 * 60 + 30, 1835, {}),
    "over-midnight": (4 * HOUR - 600, 1500, {"vcpu": 4, "memory_gib": 8}),
    "economy": (30, 4000, {"vcpu": 0.5, "memory_gib": 1, "category": "economy"}),
    "spot": (500, 1200, {"spot": True}),
}
"""Instances: when their charge begins (seconds from the evening), for how many seconds, and what they are."""


@dataclass(frozen=True)
class Side:
    """What both sides know: the kept bill, and the records that a collector would have of the same instances."""

    bill: Bill
    records: list[PodRecord]
    scope: Scope


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AlibabaCloud]:
    folder = tmp_path_factory.mktemp("alibaba")
    writer = JournalWriter(folder / "journal.jsonl", EVENING)
    for name, (begin, seconds, made) in LIVES.items():
        writer.made(begin, name, **made)
        writer.ended(begin + seconds, name, started=begin)
    with Alibaba(folder, journal=writer.path, bill_delay_hours=-24) as alibaba:
        endpoints = Endpoints(alibaba.url, alibaba.url, alibaba.url)
        yield AlibabaCloud("cn-hangzhou", endpoints, clock=connect.clock(), key=AccessKey(*alibaba.access_key()))


@pytest.fixture(scope="module")
def side(cloud: AlibabaCloud, tmp_path_factory: pytest.TempPathFactory) -> Side:
    first = EVENING.astimezone(CHINA).date()
    kept = Bills(DiskFolder(Path(tmp_path_factory.mktemp("bills"))), "practice", "CNY")
    report = kept.fetch(cloud.daily_bill, first, first + timedelta(days=1), now=datetime.now(UTC))
    assert report.ok, report
    scope = Scope("practice", first, first + timedelta(days=1), "CNY")
    return Side(kept.load(scope.first, scope.last).bill, [_record(name) for name in LIVES], scope)


def _record(name: str) -> PodRecord:
    begin, seconds, made = LIVES[name]
    start = EVENING + timedelta(seconds=begin)
    end = start + timedelta(seconds=seconds)
    return PodRecord(
        cluster="practice",
        pod_uid=f"uid-{name}",
        namespace="gitlab-ci",
        pod_name=name,
        region="cn-hangzhou",
        zone="cn-hangzhou-i",
        final=True,
        observed_at=end,
        instance_id=f"eci-bp1{name}",
        billed_vcpu=float(made.get("vcpu", 2)),
        billed_memory_gib=float(made.get("memory_gib", 4)),
        spot=bool(made.get("spot")),
        compute_category=made.get("category"),
        created_at=start,
        billing_start_at=start,
        billing_start_known=Known.OBSERVED,
        finished_at=end,
        finished_known=Known.OBSERVED,
    )


def against(side: Side, records: list[PodRecord], terms: dict[str, Any] | None = None) -> Answer:
    table, book, cost = to_table(records), PriceBook.shipped("cn"), Cost.model_validate(terms or {})
    pods = nw.from_native(duckdb.connect().from_arrow(pricing.priced(table, book, cost)))
    lines = pricing.charge_lines(table, book, cost)
    return reconcile.by_day(pods, side.scope, lines=lines, bill=side.bill, now=datetime.now(UTC))


def causes(answer: Answer) -> dict[str, int]:
    """Instances and days by cause."""
    found = answer.parts["causes"]
    return dict(zip(found["cause"], found["instances"], strict=True))


def test_what_we_watched_and_priced_is_explained(side: Side) -> None:
    """Every instance that is billed by its size agrees on each of its days; spot without an ECS type is named as such."""
    assert causes(against(side, side.records)) == {Cause.AGREES: 5, Cause.UNKNOWN_TYPE: 1}


def test_what_nobody_watched_is_named(side: Side) -> None:
    """An instance that the history lacks is named, with what it cost."""
    answer = against(side, [one for one in side.records if one.pod_name != "example"])
    assert causes(answer)[Cause.NOT_IN_HISTORY] == 1
    assert "eci-bp1example" in answer.parts["instances"]["instance_id"].tolist()


def test_a_start_that_was_seen_late_is_named(side: Side) -> None:
    """A pod that we saw four seconds late has the price of the bill and other seconds; both numbers are shown."""
    late = [
        msgspec.structs.replace(one, billing_start_at=(one.billing_start_at or EVENING) + timedelta(seconds=4))
        if one.pod_name == "short"
        else one
        for one in side.records
    ]
    answer = against(side, late)
    assert causes(answer)[Cause.SECONDS] == 1
    (row,) = [row for row in answer.parts["instances"].to_dict("records") if row["instance_id"] == "eci-bp1short"]
    assert (row["estimated_seconds"], row["billed_seconds"]) == (91, 95)


def test_a_discount_that_is_not_on_the_bill_is_named(side: Side) -> None:
    """A card with a discount that the bill does not give is found by the list price on which both agree."""
    answer = against(side, side.records, {"discounts": [{"percent": 10}]})
    assert causes(answer)[Cause.DISCOUNT] == 5
    assert any("took 0 % off the list price" in note for note in answer.notes)
