"""What CI costs beside its instances: the card's lines (NAT gateway, EIP, OSS ...), spread over the days they are for."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from runbook.settings import OtherCost

if TYPE_CHECKING:
    import pandas as pd

HOURS_A_DAY = 24


def month_days(day: date) -> int:
    """How many days the month of a day has."""
    return monthrange(day.year, day.month)[1]


_ON: dict[str, Callable[[OtherCost, date], Decimal]] = {
    "hour": lambda line, day: line.amount * HOURS_A_DAY,
    "day": lambda line, day: line.amount,
    "month": lambda line, day: line.amount / month_days(day),
    "once": lambda line, day: line.amount if day == line.first else Decimal(0),
}
"""What a line costs on a day, by its `per`."""


def on(line: OtherCost, day: date) -> Decimal:
    """What a line costs on a day; 0 outside its days."""
    inside = line.first <= day and (line.last is None or day <= line.last)
    return _ON[line.per](line, day) if inside else Decimal(0)


def lines(others: Sequence[OtherCost], first: date, last: date) -> pd.DataFrame:
    """One row a line that falls into the days: `name`, `service`, `first`, `last` (of its days in the period), `cost`."""
    import pandas as pd

    rows = []
    for line in others:
        begin, end = max(first, line.first), min(last, line.last or last)
        cost = sum((on(line, day) for day in days(begin, end)), Decimal(0))
        if cost:
            rows.append((line.name, line.service, pd.Timestamp(begin), pd.Timestamp(end), float(cost)))
    return pd.DataFrame(rows, columns=["name", "service", "first", "last", "cost"])


def by_day(others: Sequence[OtherCost], first: date, last: date) -> pd.Series[float]:
    """What all lines together cost on each day from `first` to `last`."""
    import pandas as pd

    every = days(first, last)
    costs = [float(sum((on(line, day) for line in others), Decimal(0))) for day in every]
    return pd.Series(costs, index=pd.DatetimeIndex(every, name="day").as_unit("us"), name="cost", dtype="float64")


def days(first: date, last: date) -> list[date]:
    """Every day from the first to the last; none where the last comes before the first."""
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def budget_of(monthly: Decimal | None, first: date, last: date) -> float | None:
    """What the days may cost where a month may cost so much: each day its part of its own month."""
    if monthly is None:
        return None
    return float(sum((monthly / month_days(day) for day in days(first, last)), Decimal(0)))
