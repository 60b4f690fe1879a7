"""Records to charges: every example of the vendor to its last digit, and many at once as exactly as one alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook.cost import pricing, savings_plans
from runbook.cost.priced import Problem
from runbook.eci import charges
from runbook.eci.charges import Item, Shape, Unpriced
from runbook.eci.prices import EcsPrice, PriceBook, SpotChange
from runbook.history.record import arrow_schema
from runbook.settings import Cost

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
HANGZHOU = "cn-hangzhou"
C6 = EcsPrice("cn", HANGZHOU, "CNY", "ecs.c6.large", Decimal(2), Decimal(4), Decimal("0.62"), date(2024, 1, 1), "test")
ZONE = "cn-hangzhou-j"


def change(hours: float, price: str, **more: Any) -> SpotChange:
    return SpotChange(
        "cn", HANGZHOU, ZONE, "CNY", "ecs.c6.large", Decimal(price), NOON + timedelta(hours=hours), "test", **more
    )


MARKET = (change(-2, "0.10"), change(0.25, "0.20"), change(1.75, "0.30"))
BOOK = PriceBook("cn", PriceBook.shipped("cn").items, (C6,), MARKET)


def record(**values: Any) -> dict[str, Any]:
    """A record of a 2 vCPU, 4 GiB pod of ten minutes from noon."""
    row: dict[str, Any] = dict.fromkeys(pricing.NEEDED)
    row |= {
        "cluster": "practice", "pod_uid": "uid-1", "instance_id": "eci-1", "region": HANGZHOU, "zone": ZONE, "spot": False,
        "final": True, "billed_vcpu": 2.0, "billed_memory_gib": 4.0, "billing_start_at": NOON,
        "billing_start_known": "observed", "finished_at": NOON + timedelta(minutes=10), "finished_known": "observed",
        "created_at": NOON - timedelta(seconds=5), "observed_at": NOON + timedelta(hours=1),
    }  # fmt: skip
    return row | values


def table(*rows: dict[str, Any]) -> pa.Table:
    schema = pa.schema([arrow_schema().field(name).with_nullable(True) for name in pricing.NEEDED])
    return pa.Table.from_pylist(list(rows), schema=schema)


def one(book: PriceBook = BOOK, terms: Cost | None = None, **values: Any) -> dict[str, Any]:
    """The priced row of one record."""
    (row,) = pricing.priced(table(record(**values)), book, terms or Cost()).to_pylist()
    return dict(row)


# -- the vendor's examples --------------------------------------------------------------------------------------------


def test_a_charge_is_settled_at_every_full_hour() -> None:
    """The vendor's example from 10:49:30 to 11:20:05 is billed as 630 s and 1205 s."""
    start, end = datetime(2026, 1, 5, 10, 49, 30, tzinfo=UTC), datetime(2026, 1, 5, 11, 20, 5, tzinfo=UTC)
    found = charges.lines(Shape(HANGZHOU, Decimal(2), Decimal(4)), start, end, BOOK, Cost())
    assert not isinstance(found, Unpriced)
    assert [(line.end - line.start).seconds for line in found if line.item is Item.CPU] == [630, 1205]
    lines = pricing.charge_lines(table(record(billing_start_at=start, finished_at=end)), BOOK, Cost()).to_pylist()
    assert [row["pricing_quantity"] for row in lines if row["item"] == "cpu"] == [1260.0, 2410.0]


def test_a_second_of_an_economy_pod_as_a_user_saw_it_on_the_bill() -> None:
    """Half an economy vCPU with 1 GiB costs CNY 0.00001963 a second."""
    end = NOON + timedelta(seconds=1)
    shape = Shape("ap-southeast-1", Decimal("0.5"), Decimal(1), compute_category="economy")
    found = charges.lines(shape, NOON, end, BOOK, Cost())
    assert not isinstance(found, Unpriced)
    assert sum(line.list_cost for line in found) == Decimal("0.00001963")


@pytest.mark.parametrize(
    ("size", "hour"),
    [((0.25, 0.5), 0.055134), ((2, 4), 0.441072), ((4, 6), 0.838008), ((4, 8), 0.882144), ((16, 32), 3.528576)],
)
def test_an_hour_of_each_size_costs_what_the_list_says(size: tuple[float, float], hour: float) -> None:
    """A pod of exactly an hour costs the derived hourly list price."""
    row = one(billed_vcpu=size[0], billed_memory_gib=size[1], finished_at=NOON + timedelta(hours=1))
    assert row["list_cost"] == pytest.approx(hour, abs=1e-12)
    assert row["effective_cost"] == row["contracted_cost"] == row["on_demand_cost"] == row["list_cost"]


def test_the_articles_pod_costs_a_4_8_and_says_which_part_is_whose() -> None:
    """The article's pod of 3.25 vCPU and 7.5 GiB is assumed to be a 4/8 where nobody wrote its spec down."""
    row = one(billed_vcpu=None, billed_memory_gib=None, requested_vcpu=3.25, requested_memory_gib=7.5)
    assert (row["billed_vcpu"], row["billed_memory_gib"], row["problem"]) == (4.0, 8.0, Problem.ASSUMED_SPEC.value)
    assert row["vcpu_cost"] == pytest.approx(4 * 0.000049 * 600)
    assert row["memory_cost"] == pytest.approx(8 * 0.00000613 * 600)


def test_ephemeral_storage_above_the_free_part_is_charged() -> None:
    """20 GiB above the free 30 cost 20 × 0.00000059 a second more."""
    assert one(extra_ephemeral_gib=20.0)["list_cost"] - one()["list_cost"] == pytest.approx(20 * 0.00000059 * 600)


# -- ECS types and spot -----------------------------------------------------------------------------------------------


def test_an_ecs_type_is_charged_by_its_hour() -> None:
    """An instance billed by its ECS type costs that type's hour; what its size would cost by vCPU and memory is kept beside it."""
    row = one(ecs_type="ecs.c6.large", finished_at=NOON + timedelta(hours=1))
    assert row["effective_cost"] == pytest.approx(0.62)
    assert row["on_demand_cost"] == pytest.approx(0.441072)
    assert row["vcpu_cost"] + row["memory_cost"] == pytest.approx(0.62)


def test_a_spot_pod_pays_its_first_hour_at_the_price_of_its_start() -> None:
    """The market doubles within the first hour, and the pod does not pay it; its list cost is that of the ECS type."""
    row = one(spot=True, ecs_type="ecs.c6.large", finished_at=NOON + timedelta(hours=1))
    assert row["effective_cost"] == pytest.approx(0.10)
    assert row["list_cost"] == pytest.approx(0.62)


def test_a_spot_pod_pays_the_market_after_its_first_hour() -> None:
    """Two hours: one at 0.10, then 45 minutes at 0.20 and 15 at 0.30."""
    row = one(spot=True, ecs_type="ecs.c6.large", finished_at=NOON + timedelta(hours=2))
    assert row["effective_cost"] == pytest.approx(0.10 + 0.20 * 0.75 + 0.30 * 0.25)


def test_an_unknown_ecs_type_is_an_interval() -> None:
    """A spot pod whose type nobody wrote down costs between the least and the most of the types of its size, and no guess."""
    dear = EcsPrice(
        "cn", HANGZHOU, "CNY", "ecs.x1.large", Decimal(2), Decimal(4), Decimal("0.90"), date(2024, 1, 1), "t"
    )
    row = one(PriceBook("cn", BOOK.items, (C6, dear), MARKET), spot=True, finished_at=NOON + timedelta(hours=1))
    assert row["effective_cost"] is None and row["problem"] == Problem.UNKNOWN_ECS_TYPE.value
    assert row["cost_low"] == 0.0, "nobody knows the market of the second type"
    assert row["cost_high"] == pytest.approx(0.90)
    assert one(spot=True, finished_at=NOON + timedelta(hours=1))["cost_low"] == pytest.approx(0.10)


def test_a_market_price_that_nobody_asked_for_is_no_price() -> None:
    """Before the first archived price, and after the archive's end, a spot pod has an interval up to the list price."""
    early = NOON - timedelta(hours=5)
    row = one(spot=True, ecs_type="ecs.c6.large", billing_start_at=early, finished_at=early + timedelta(hours=1))
    assert (row["problem"], row["effective_cost"]) == (Problem.NO_SPOT_PRICE.value, None)
    assert (row["cost_low"], row["cost_high"], row["list_cost"]) == (0.0, pytest.approx(0.62), pytest.approx(0.62))
    ending = PriceBook("cn", BOOK.items, (C6,), (change(-2, "0.10", until=NOON - timedelta(hours=1)),))
    assert one(ending, spot=True, ecs_type="ecs.c6.large")["problem"] == Problem.NO_SPOT_PRICE.value


# -- discounts, savings plans, rounding -------------------------------------------------------------------------------


def test_a_discount_for_one_item_goes_before_one_for_all() -> None:
    """10 percent off all, 50 off memory: contracted cost follows, list cost does not; after its last day it is gone."""
    terms = Cost.model_validate({"discounts": [{"percent": 10, "last": "2026-11-03"}, {"percent": 50, "item": "mem"}]})
    row = one(terms=terms)
    cpu, mem = 2 * 0.000049 * 600, 4 * 0.00000613 * 600
    assert row["list_cost"] == pytest.approx(cpu + mem)
    assert row["contracted_cost"] == pytest.approx(0.9 * cpu + 0.5 * mem)
    later = NOON + timedelta(days=2)
    row = one(terms=terms, billing_start_at=later, finished_at=later + timedelta(minutes=10))
    assert row["contracted_cost"] == pytest.approx(cpu + 0.5 * mem)


PLAN = {"per_hour": "0.2", "percent": "25", "first": "2026-11-01", "last": "2026-11-30"}


def test_a_savings_plan_covers_what_it_can_and_the_rest_is_unused() -> None:
    """A 2/4 for an hour costs 0.441072; 0.2 an hour at 25 % off cover 0.2/0.75 of it; an idle hour is paid for nothing."""
    terms = Cost.model_validate({"savings_plans": [PLAN]})
    rows = table(record(finished_at=NOON + timedelta(hours=1)))
    covered = savings_plans.coverage(
        *pricing.eligible_hours(rows, BOOK, terms), terms, date(2026, 11, 3), date(2026, 11, 3)
    )
    (row,) = pricing.priced(rows, BOOK, terms, coverage=covered).to_pylist()
    by_plan = 0.2 / 0.75
    assert row["billed_cost"] == pytest.approx(0.441072 - by_plan)
    assert row["effective_cost"] == pytest.approx(0.441072 - by_plan + 0.2)
    assert covered.unused.sum() == pytest.approx(23 * 0.2), "23 hours of the day had no pod"


def test_a_savings_plan_never_covers_spot() -> None:
    """The only pod is spot: nothing is eligible, and its cost stays the market's."""
    terms = Cost.model_validate({"savings_plans": [PLAN]})
    rows = table(record(spot=True, ecs_type="ecs.c6.large", finished_at=NOON + timedelta(hours=1)))
    _, eligible = pricing.eligible_hours(rows, BOOK, terms)
    assert eligible.sum() == 0


@pytest.mark.parametrize(("seconds", "billed"), [(40, 0.0), (41, 0.01), (81, 0.01), (82, 0.01004664)])
def test_small_fees_are_rounded_where_the_card_says_so(seconds: int, billed: float) -> None:
    """A 2/4 costs 0.00012252 a second: 40 s become 0, 41 s 0.01, and from 0.01 on nothing is rounded."""
    end = NOON + timedelta(seconds=seconds)
    for word in ("hour", "instance"):
        row = one(terms=Cost.model_validate({"bill_rounding": word}), finished_at=end)
        assert row["effective_cost"] == pytest.approx(billed, abs=1e-12)
    assert one(finished_at=end)["effective_cost"] == pytest.approx(seconds * 0.00012252)


# -- many as exactly as one -------------------------------------------------------------------------------------------

SIZES = [(0.25, 0.5), (2.0, 4.0), (4.0, 6.0), (16.0, 64.0)]


@st.composite
def pods(draw: Any) -> dict[str, Any]:
    start = NOON + timedelta(seconds=draw(st.integers(-7200, 7200)))
    vcpu, memory = draw(st.sampled_from(SIZES))
    kind = draw(st.sampled_from(["size", "economy", "type", "spot"]))
    return record(
        billing_start_at=start, finished_at=start + timedelta(seconds=draw(st.integers(1, 20_000))),
        billed_vcpu=vcpu, billed_memory_gib=memory, spot=kind == "spot",
        ecs_type="ecs.c6.large" if kind in ("type", "spot") else None,
        compute_category="economy" if kind == "economy" else None,
        extra_ephemeral_gib=draw(st.sampled_from([None, 20.0])),
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(pods(), min_size=1, max_size=12), st.sampled_from(["none", "hour", "instance"]))
def test_many_at_once_cost_what_each_costs_alone(rows: Sequence[dict[str, Any]], rounding: str) -> None:
    """The column-wise sums agree with the exact decimal lines of each pod, whatever its kind, times and rounding."""
    terms = Cost.model_validate({"bill_rounding": rounding, "discounts": [{"percent": 12.5, "item": "cpu"}]})
    found = pricing.priced(table(*rows), BOOK, terms).to_pylist()
    for row, priced in zip(rows, found, strict=True):
        exact = charges.lines(_shape(row), row["billing_start_at"], row["finished_at"], BOOK, terms)
        if isinstance(exact, Unpriced):
            assert priced["problem"] == exact.value and priced["effective_cost"] is None
            continue
        assert priced["problem"] is None
        assert priced["list_cost"] == pytest.approx(float(sum(line.list_cost for line in exact)), abs=1e-9)
        assert priced["contracted_cost"] == pytest.approx(float(sum(line.contracted_cost for line in exact)), abs=1e-9)
    lines = pricing.charge_lines(table(*rows), BOOK, terms)
    total = np.nansum([priced["contracted_cost"] or 0.0 for priced in found])
    assert sum(lines["contracted_cost"].to_pylist()) == pytest.approx(total)


def _shape(row: dict[str, Any]) -> Shape:
    return Shape(
        row["region"], Decimal(str(row["billed_vcpu"])), Decimal(str(row["billed_memory_gib"])), row["ecs_type"], row["spot"],
        row["compute_category"], Decimal(str(row["extra_ephemeral_gib"] or 0)), row["zone"],
    )  # fmt: skip


# -- bad input --------------------------------------------------------------------------------------------------------

BAD = [
    (Problem.NO_INSTANCE, {"billing_start_known": "never", "billing_start_at": None, "finished_at": None}, 0.0),
    (Problem.NO_START, {"billing_start_at": None, "billing_start_known": "unknown"}, None),
    (Problem.NO_END, {"finished_at": None, "finished_known": "unknown"}, None),
    (Problem.NEGATIVE_DURATION, {"finished_at": NOON - timedelta(seconds=1)}, None),
    (Problem.ZERO_DURATION, {"finished_at": NOON}, 0.0),
    (Problem.UNKNOWN_SPEC, {"billed_vcpu": None}, None),
    (Problem.UNKNOWN_SPEC, {"billed_vcpu": None, "requested_vcpu": 96.0, "requested_memory_gib": 4.0}, None),
    (Problem.NO_PRICE, {"ecs_type": "ecs.none.large"}, None),
    (Problem.BOUNDED, {"finished_known": "bounded"}, 0.073512),
    (Problem.STILL_RUNNING, {"finished_at": None, "final": False}, 0.441072),
]


@pytest.mark.parametrize(("problem", "values", "cost"), BAD)
def test_bad_input_is_named(problem: Problem, values: dict[str, Any], cost: float | None) -> None:
    """Each kind of bad record is named, and what is not known is null and not zero."""
    row = one(**values)
    assert row["problem"] == problem.value
    assert row["effective_cost"] == (pytest.approx(cost) if cost is not None else None)


def test_a_price_list_that_begins_later_prices_nothing_before() -> None:
    """A pod from before the first price has none; it is not priced by a later one."""
    early = datetime(2020, 5, 1, tzinfo=UTC)
    row = one(billing_start_at=early, finished_at=early + timedelta(minutes=1), created_at=early)
    assert row["problem"] == Problem.NO_PRICE.value


def test_no_records_are_an_empty_frame() -> None:
    """An empty history is priced to an empty frame, and to no lines."""
    assert pricing.priced(table(), BOOK, Cost()).num_rows == 0
    assert pricing.charge_lines(table(), BOOK, Cost()).num_rows == 0


def test_days_and_weeks_are_those_of_the_cards_zone() -> None:
    """18:00 UTC on a Sunday is Monday in China: another day, another week."""
    sunday = datetime(2026, 11, 1, 18, tzinfo=UTC)
    row = one(billing_start_at=sunday, finished_at=sunday + timedelta(minutes=1))
    assert (row["day"], row["week"], row["hour"]) == (date(2026, 11, 2), date(2026, 11, 2), 2)
    row = one(terms=Cost(timezone="UTC"), billing_start_at=sunday, finished_at=sunday + timedelta(minutes=1))
    assert (row["day"], row["week"], row["hour"]) == (date(2026, 11, 1), date(2026, 10, 26), 18)


def test_phases_are_seconds_between_moments() -> None:
    """Schedule, pull, prepare and run lie between the record's moments; a phase without one of its moments is not known."""
    moments = {"pulled_at": NOON + timedelta(seconds=20), "running_at": NOON + timedelta(seconds=21)}
    row = one(**moments)
    assert [row[f"{name}_seconds"] for name in ("schedule", "pull", "prepare", "run")] == [5, 20, 1, 579]
    row = one(**moments | {"pulled_at": None})
    assert [row[f"{name}_seconds"] for name in ("schedule", "pull", "prepare", "run")] == [5, None, None, 579]
