"""The same work on servers that run all the time."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from runbook.answer import Answer, Scope
from runbook.cost import always_on
from runbook.eci.prices import PriceBook
from runbook.settings import AlwaysOn
from tests.cost.priced_pods import NOON, SCOPE, frame, pod

DAY = Scope("practice", date(2026, 11, 3), date(2026, 11, 3), "CNY", timezone="UTC")
SMALL = AlwaysOn(instance_type="ecs.small", vcpu=4, memory_gib=Decimal(8), per_hour=Decimal("0.5"))


def compared(*pods: dict[str, Any], card: AlwaysOn = SMALL, scope: Scope = DAY) -> Answer:
    return always_on.compared(frame(*pods), scope, card=card, book=PriceBook.shipped("cn"), region="cn-hangzhou")


def counts(answer: Answer) -> dict[str, float]:
    return dict(zip(answer.table["alternative"][1:], answer.table["servers"][1:], strict=True))


def busy(hours: range, together: int) -> list[dict[str, Any]]:
    """Pods of 2 vCPU and 4 GiB, so many at a time, ten minutes in each of these hours."""
    return [
        pod(100 * hour + number, billing_start_at=datetime(2026, 11, 3, hour, tzinfo=UTC))
        for hour in hours
        for number in range(together)
    ]


def test_as_many_servers_as_the_busy_hours_need() -> None:
    """Four pods at a time through the day need two servers of twice their size; one hour in 24 with ten pods is above 95 %."""
    answer = compared(*busy(range(1, 24), 4), *busy(range(0, 1), 10))
    assert counts(answer) == {"busy": 2, "peak": 5}


def test_what_they_cost() -> None:
    """Two servers at 0.5 an hour cost 24 a day and 730 a month, beside what the pods cost."""
    table = compared(*busy(range(24), 4)).table.set_index("alternative")
    assert table.loc["busy", ["cost", "month"]].tolist() == pytest.approx([24, 730])
    assert table.loc["eci", "cost"] == pytest.approx(96 * 0.0735)
    assert table.loc["busy", "used"] == pytest.approx(24 * 8 / 6 / 24 / 8)


def test_memory_may_be_what_is_short() -> None:
    """A pod of 2 vCPU and 16 GiB needs two servers of 8 GiB."""
    assert counts(compared(pod(billed_memory_gib=16.0)))["peak"] == 2


def test_a_minute_counts_with_the_part_that_ran() -> None:
    """Two vCPU from second 30 of a minute for 90 seconds are one in the first minute, two in the second, none after."""
    answer = always_on.by_minute(frame(pod(billing_start_at=NOON + timedelta(seconds=30), seconds=90.0)), DAY)
    assert answer["vcpu"].iloc[12 * 60 : 12 * 60 + 3].tolist() == pytest.approx([1, 2, 0])
    assert answer["vcpu"].sum() == pytest.approx(3)


def test_days_are_those_of_the_scopes_time_zone() -> None:
    """Noon UTC is the twentieth hour of the day in Shanghai."""
    shanghai = Scope("practice", date(2026, 11, 3), date(2026, 11, 3), "CNY", timezone="Asia/Shanghai")
    hours = compared(pod(), scope=shanghai).parts["hours"]
    assert len(hours) == 24
    assert hours["vcpu"].to_numpy().nonzero()[0].tolist() == [20]


def test_a_pod_that_ends_after_the_days_is_cut() -> None:
    """A clock that is years ahead makes no table of years."""
    answer = compared(pod(finished_at=datetime(2099, 1, 1, tzinfo=UTC)))
    assert len(answer.parts["hours"]) == 24
    assert counts(answer) == {"busy": 1}


def test_the_price_list_knows_usual_types() -> None:
    """Without numbers in the card, what a server holds and costs comes from the price list."""
    answer = compared(pod(), card=AlwaysOn())
    server = always_on.Server.of(AlwaysOn(), PriceBook.shipped("cn"), "cn-hangzhou", SCOPE)
    assert (server.vcpu, server.memory_gib) == (16, 32)
    assert server.per_hour is not None
    assert answer.table["cost"].iloc[1] == pytest.approx(24 * server.per_hour)


def test_an_unknown_server_is_unknown_and_not_free() -> None:
    """Without price or size there is nothing to compare with, and the reader learns what to write where."""
    answer = compared(pod(), card=AlwaysOn(instance_type="ecs.unheard-of"))
    assert "not known" in answer.sentence
    assert answer.table["alternative"].tolist() == ["eci"]
    assert any("cost.always_on" in note for note in answer.notes)


def test_the_card_may_give_the_count() -> None:
    """A count in the card is the one that is compared."""
    card = SMALL.model_copy(update={"count": 3})
    assert counts(compared(pod(), card=card)) == {"given": 3}


def test_pods_of_unknown_span_are_counted() -> None:
    """A pod without an end needs no server here, and the reader is told."""
    answer = compared(pod(1), pod(2, finished_at=None))
    assert any(note.endswith(": 1.") for note in answer.notes)


def test_without_pods_there_is_nothing_to_compare() -> None:
    """No pods, no servers."""
    assert compared().table.empty
