"""What savings plans cover: a promise to spend so much an hour, which pays for usage at a lower price, used or not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from runbook.cost.pieces import Real, Whole
from runbook.eci.charges import CHINA

if TYPE_CHECKING:
    from runbook.settings import Cost


@dataclass(frozen=True)
class Coverage:
    """What savings plans cover in each hour: `share` of the eligible list price, at `factor` of it; `unused` is paid for nothing.

    `hours` count from the epoch; the columns have one row each.
    """

    hours: Whole
    share: Real
    factor: Real
    unused: Real

    def at(self, hours: Whole) -> tuple[Real, Real]:
        """Share and factor of these hours; 0 where no plan holds."""
        if not len(self.hours):
            return np.zeros(len(hours)), np.zeros(len(hours))
        found = np.minimum(np.searchsorted(self.hours, hours), len(self.hours) - 1)
        known = self.hours[found] == hours
        return np.where(known, self.share[found], 0.0), np.where(known, self.factor[found], 0.0)


def coverage(hours: Whole, list_cost: Real, terms: Cost, first: date, last: date) -> Coverage:
    """What the card's savings plans cover, hour by hour, from `first` to `last` (days of China); the best discount goes first.

    `hours` are sorted, with the eligible list price of each.
    """
    begin = _hours_before(first)
    every = np.arange(begin, _hours_before(last + timedelta(days=1)), dtype=np.int64)
    need = np.zeros(len(every))
    inside = (hours >= begin) & (hours < begin + len(every))
    need[hours[inside] - begin] = list_cost[inside]
    share, factor, unused = np.zeros(len(every)), np.zeros(len(every)), np.zeros(len(every))
    for plan in sorted(terms.savings_plans, key=lambda one: -one.percent):
        holds = (every >= _hours_before(plan.first)) & (every < _hours_before(plan.last + timedelta(days=1)))
        left = float(1 - plan.percent / 100)
        price = need * left
        with np.errstate(divide="ignore", invalid="ignore"):
            covers = np.where(price > 0, np.minimum(1 - share, float(plan.per_hour) / price), 0.0)
        covers = np.where(holds, covers, 0.0)
        share += covers
        factor += covers * left
        unused += np.where(holds, float(plan.per_hour) - covers * price, 0.0)
    return Coverage(every, share, factor, unused)


def _hours_before(day: date) -> int:
    """Hours from the epoch to the beginning of a day of China."""
    return int(datetime(day.year, day.month, day.day, tzinfo=CHINA).timestamp()) // 3600
