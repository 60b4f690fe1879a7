"""Hand-made spot prices: where they break even, and whether they are the market's."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from runbook.cost import spot_prices
from runbook.eci.prices import SpotChange
from tests.cost.priced_pods import NOON, SCOPE, frame, pod

ECI, LIST = 0.441, 0.622
"""An hour of 2 vCPU and 4 GiB by ECI's price, and of the ECS type that holds them, in CNY."""


def spot_pod(number: int, paid: float | None, hours: float = 1.0, **values: Any) -> dict[str, Any]:
    """A 2c/4Gi spot pod of ecs.c6.large that ran so many hours at this price."""
    made = {
        "spot": True, "seconds": hours * 3600, "ecs_type": "ecs.c6.large", "on_demand_cost": ECI * hours,
        "list_cost": LIST * hours, "effective_cost": None if paid is None else paid * hours,
    }  # fmt: skip
    return pod(number, **{**made, **values})


def change(price: str, at: datetime, until: datetime | None = None, **values: Any) -> SpotChange:
    made = {
        "site": "cn", "region": "cn-hangzhou", "zone": "cn-hangzhou-j", "currency": "CNY", "instance_type": "ecs.c6.large",
        "price": Decimal(price), "at": at, "source": "made up", "until": until,
    }  # fmt: skip
    return SpotChange(**{**made, **values})


# -- break-even -------------------------------------------------------------------------------------------------------


def test_spot_breaks_even_at_71_percent_of_the_list_price() -> None:
    """2c/4Gi costs 0.441 an hour plain and 0.622 as its ECS type: spot pays up to 70.9 % of the list price."""
    answer = spot_prices.break_even(frame(spot_pod(1, 0.1244)), SCOPE)
    (row,) = answer.table.to_dict("records")
    assert row["break_even_share"] == pytest.approx(0.441 / 0.622) == pytest.approx(0.709, abs=1e-3)
    assert (row["paid_share_low"], row["paid_share_high"]) == pytest.approx((0.2, 0.2))
    assert row["pays"] is True
    assert "ecs.c6.large (2c/4Gi) pays up to 71 % of its ECS list price and costs 20 % now" in answer.sentence


def test_a_discount_on_the_list_price_may_save_nothing() -> None:
    """At 80 % of the list price the pod costs 0.498 an hour: more than the 0.441 it would have cost plain."""
    answer = spot_prices.break_even(frame(spot_pod(1, 0.8 * LIST)), SCOPE)
    assert answer.table["pays"].to_list() == [False]
    assert answer.table["break_even_per_hour_low"].to_list() == [0.0]
    assert answer.sentence.startswith("Spot pays for 0 % of the spot-hours and does not for 100 %")


def test_a_list_price_below_the_plain_one_pays_at_any_price() -> None:
    """Listed at 0.39 where plain is 0.441: the market never asks more than the list price, so spot cannot lose by price."""
    answer = spot_prices.break_even(frame(spot_pod(1, 0.1, list_cost=0.39)), SCOPE)
    assert answer.sentence.endswith(
        "ecs.c6.large (2c/4Gi) pays up to its whole ECS list price and costs 26 % of it now."
    )


def test_lost_work_lowers_the_break_even() -> None:
    """1 of 4 spot-hours was lost: spot pays up to 0.441 × 3/4 / 0.622 = 53.2 % of the list price."""
    pods = [spot_pod(1, 0.1, 3.0), spot_pod(2, 0.1, 1.0, ended="reclaimed")]
    (row,) = spot_prices.break_even(frame(*pods), SCOPE).table.to_dict("records")
    assert (row["lost_share"], row["reclaimed"], row["hours_lost_each"]) == (0.25, 1, 1.0)
    assert row["break_even_share"] == pytest.approx(0.441 * 0.75 / 0.622)


def test_the_rate_of_interruptions_at_which_nothing_is_saved() -> None:
    """Paid a quarter of the plain price, half an hour lost each time: (1 − 1/4) / 0.5 = 1.5 reclaims a spot-hour."""
    pods = [spot_pod(1, ECI / 4, 9.5), spot_pod(2, ECI / 4, 0.5, ended="reclaimed")]
    (row,) = spot_prices.break_even(frame(*pods), SCOPE).table.to_dict("records")
    assert row["break_even_per_hour_low"] == row["break_even_per_hour_high"] == pytest.approx(1.5)
    assert row["per_hour"] == pytest.approx(0.1)


def test_the_two_break_evens_are_one() -> None:
    """Where the price is just the plain one less the lost share (0.441 × 0.9), the rate is just the break-even rate."""
    pods = [spot_pod(1, ECI * 0.9, 9.0), spot_pod(2, ECI * 0.9, 1.0, ended="reclaimed")]
    (row,) = spot_prices.break_even(frame(*pods), SCOPE).table.to_dict("records")
    assert row["per_hour"] == pytest.approx(row["break_even_per_hour_low"]) == pytest.approx(0.1)
    assert row["paid_share_low"] == pytest.approx(row["break_even_share"])


def test_without_a_reclaim_a_mean_pod_is_assumed_lost() -> None:
    """Pods of 1 h and 3 h at half the plain price: (1 − 1/2) / 2 h = 0.25 an hour, and a note says what is assumed."""
    answer = spot_prices.break_even(frame(spot_pod(1, ECI / 2, 1.0), spot_pod(2, ECI / 2, 3.0)), SCOPE)
    assert answer.table["break_even_per_hour_low"].to_list() == [pytest.approx(0.25)]
    assert any(note.startswith("Nothing was taken away") for note in answer.notes)


def test_an_unknown_type_has_an_interval_and_no_share_of_a_list_price() -> None:
    """It cost 0.10 to 0.30 an hour: 0.30 still pays, and no list price is made up."""
    unknown = spot_pod(
        1, None, ecs_type=None, list_cost=None, cost_low=0.1, cost_high=0.3, problem="unknown ECS type"
    )  # fmt: skip
    answer = spot_prices.break_even(frame(unknown), SCOPE)
    (row,) = answer.table.to_dict("records")
    assert (row["paid_hour_low"], row["paid_hour_high"], row["pays"]) == (0.1, 0.3, True)
    assert row["break_even_share"] != row["break_even_share"]
    assert any(note.startswith("Of 1 spot pod the ECS type") for note in answer.notes)


def test_an_interval_that_holds_the_break_even_decides_nothing() -> None:
    """It cost 0.30 to 0.60 an hour, and 0.441 lies between: it may pay or not."""
    unknown = spot_pod(1, None, ecs_type=None, list_cost=None, cost_low=0.3, cost_high=0.6)
    answer = spot_prices.break_even(frame(unknown), SCOPE)
    assert answer.table["pays"].to_list() == [None]
    assert answer.sentence.endswith("; of 100 % nobody knows.")


def test_extra_storage_is_left_out() -> None:
    """Ephemeral storage costs the same either way, and would blur the price of an hour."""
    assert spot_prices.break_even(frame(spot_pod(1, 0.1, extra_ephemeral_gib=20.0)), SCOPE).table.empty


def test_sizes_stand_by_their_hours() -> None:
    """Three hours of one size come before two of another."""
    small, large = spot_pod(1, 0.1, 2.0), spot_pod(2, 0.2, 3.0, billed_vcpu=4.0, billed_memory_gib=8.0)
    assert spot_prices.break_even(frame(small, large), SCOPE).table["vcpu"].to_list() == [4.0, 2.0]


# -- price paid -------------------------------------------------------------------------------------------------------


def test_paid_is_what_the_market_asked() -> None:
    """The market is 0.12 from noon on, the pod that began at noon paid 0.12 an hour: it agrees."""
    archive = [change("0.10", NOON - timedelta(days=2)), change("0.12", NOON)]
    answer = spot_prices.price_paid(frame(spot_pod(1, 0.12)), SCOPE, archive)
    (row,) = answer.table.to_dict("records")
    assert (row["paid_hour"], row["market_low"], row["market_high"], row["inside"]) == (
        pytest.approx(0.12), 0.12, 0.12, True,
    )  # fmt: skip
    assert row["at"].to_pydatetime() == NOON
    assert answer.sentence == (
        "Spot pods paid 27 % of ECI's vCPU and memory price; the archive knows the market of 100 % of their hours, and 100 %"
        " of these agree with it."
    )


def test_paid_is_not_what_the_market_asked() -> None:
    """Paid 0.20 where the archive says 0.12 all the time: it does not agree."""
    answer = spot_prices.price_paid(frame(spot_pod(1, 0.20)), SCOPE, [change("0.12", NOON - timedelta(days=1))])
    assert answer.table["inside"].to_list() == [False]


def test_a_price_that_changes_while_the_pod_runs_is_a_range() -> None:
    """0.10 at noon, 0.14 at 12:30: what it paid lies between the two."""
    archive = [change("0.10", NOON - timedelta(days=1)), change("0.14", NOON + timedelta(minutes=30))]
    (row,) = spot_prices.price_paid(frame(spot_pod(1, 0.12)), SCOPE, archive).table.to_dict("records")
    assert (row["market_low"], row["market_high"], row["inside"]) == (0.10, 0.14, True)


def test_where_nobody_asked_the_market_there_is_no_price() -> None:
    """The archive's price held until 11:00, the pod began at noon: its market is not known, and that is neither right nor wrong."""
    archive = [change("0.10", NOON - timedelta(days=1), until=NOON - timedelta(hours=1))]
    answer = spot_prices.price_paid(frame(spot_pod(1, 0.12)), SCOPE, archive)
    (row,) = answer.table.to_dict("records")
    assert row["market_low"] != row["market_low"] and row["inside"] is None
    assert answer.sentence.endswith("the archive has no market price of their zones and times.")


def test_another_zone_is_another_market() -> None:
    """Prices of zone i say nothing of a pod in zone j."""
    archive = [change("0.12", NOON - timedelta(days=1), zone="cn-hangzhou-i")]
    answer = spot_prices.price_paid(frame(spot_pod(1, 0.12)), SCOPE, archive)
    assert answer.table["inside"].to_list() == [None] and answer.parts["steps"].empty


def test_steps_end_where_the_next_begins() -> None:
    """Each archived price holds until the next one, the last one without an end; the order of the rows is no matter."""
    later, first = change("0.12", NOON), change("0.10", NOON - timedelta(hours=5))
    steps = spot_prices.price_paid(frame(spot_pod(1, 0.12)), SCOPE, [later, first]).parts["steps"]
    assert steps["price"].to_list() == [0.10, 0.12]
    assert steps["until"][0].to_pydatetime() == NOON and steps["until"].isna().to_list() == [False, True]


def test_prices_in_another_currency_are_left_out() -> None:
    """A dollar price beside yuan is no price here; a note counts it."""
    archive = [change("0.12", NOON - timedelta(days=1), currency="USD")]
    answer = spot_prices.price_paid(frame(spot_pod(1, 0.12)), SCOPE, archive)
    assert answer.table["inside"].to_list() == [None]
    assert any("another currency than CNY" in note for note in answer.notes)


def test_hours_of_the_scope_are_moments_of_utc() -> None:
    """Hour 20 of November 3 in Shanghai is noon of UTC."""
    shanghai = replace(SCOPE, timezone="Asia/Shanghai")
    answer = spot_prices.price_paid(frame(spot_pod(1, 0.12, hour=20)), shanghai, [])
    assert answer.table["at"][0].to_pydatetime() == datetime(2026, 11, 3, 12, tzinfo=UTC)


def test_pods_without_a_type_are_counted_apart() -> None:
    """Where nobody wrote down the ECS type there is no market to compare with; a note counts the pods."""
    answer = spot_prices.price_paid(frame(spot_pod(1, None, ecs_type=None)), SCOPE, [change("0.1", NOON)])
    assert answer.table.empty and answer.n == 0
    assert any(note.startswith("Of 1 spot pod zone, ECS type or price is not known") for note in answer.notes)


def test_nothing_at_all() -> None:
    """No pods: empty tables and sentences that say so, with an archive and without."""
    for archive in ([], [change("0.1", NOON)]):
        assert spot_prices.price_paid(frame(), SCOPE, archive).sentence.startswith("No spot pod has a known price")
    assert spot_prices.break_even(frame(), SCOPE).sentence.startswith("No spot pod has a known cost")
