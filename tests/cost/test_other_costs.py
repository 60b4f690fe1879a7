"""The rest of what CI costs, day by day."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from runbook.cost import other_costs
from runbook.settings import OtherCost

NOVEMBER = (date(2026, 11, 1), date(2026, 11, 30))


def line(per: str, amount: str, **values: object) -> OtherCost:
    return OtherCost.model_validate(
        {"name": "NAT gateway", "amount": amount, "per": per, "first": "2026-01-01"} | values
    )


@pytest.mark.parametrize(("per", "cost"), [("hour", 720.0), ("day", 30.0), ("month", 1.0), ("once", 0.0)])
def test_a_line_is_spread_over_its_days(per: str, cost: float) -> None:
    """One an hour is 720 in November, one a day 30, one a month 1, and what was paid once in January is January's."""
    assert other_costs.by_day([line(per, "1")], *NOVEMBER).sum() == pytest.approx(cost)


def test_what_is_paid_once_falls_on_its_first_day() -> None:
    """A single payment stands on its day, and on no other."""
    days = other_costs.by_day([line("once", "12.5", first="2026-11-10")], *NOVEMBER)
    assert days[days > 0].to_dict() == {days.index[9]: 12.5}


def test_a_line_ends_with_its_last_day() -> None:
    """A line that ended on the tenth is a third of the month, and its row says so."""
    ended = line("month", "300", last="2026-11-10")
    (row,) = other_costs.lines([ended], *NOVEMBER).to_dict("records")
    assert (row["cost"], row["first"].date(), row["last"].date()) == (100.0, date(2026, 11, 1), date(2026, 11, 10))


def test_a_line_outside_the_days_is_no_row() -> None:
    """What begins next month costs nothing this month, and is not listed with a zero."""
    assert other_costs.lines([line("month", "300", first="2026-12-01")], *NOVEMBER).empty


def test_the_budget_of_a_week_is_its_part_of_the_month() -> None:
    """Ten of November's thirty days may cost a third; across a month's end each day counts by its own month."""
    assert other_costs.budget_of(Decimal(300), date(2026, 11, 1), date(2026, 11, 10)) == pytest.approx(100)
    assert other_costs.budget_of(Decimal(310), date(2026, 10, 31), date(2026, 11, 1)) == pytest.approx(10 + 310 / 30)
    assert other_costs.budget_of(None, *NOVEMBER) is None
