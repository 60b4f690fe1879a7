"""Time between two moments of a pod's life, as an expression that every engine understands.

Engines disagree on what the difference of two moments is; all know years, days of a year, and times of a day.
"""

from __future__ import annotations

import narwhals as nw

_DAY = 86_400.0


def seconds_between(start: str, end: str) -> nw.Expr:
    """Seconds from one column of moments to another that lies less than a year away; null where one of them is."""
    first, last = nw.col(start), nw.col(end)
    same_year = _second_of_year(last) - _second_of_year(first)
    next_year = same_year + _DAY * _days_of_year(first)
    year_before = same_year - _DAY * _days_of_year(last)
    return (
        nw.when(last.dt.year() > first.dt.year())
        .then(next_year)
        .otherwise(nw.when(last.dt.year() < first.dt.year()).then(year_before).otherwise(same_year))
    )


def _second_of_year(moment: nw.Expr) -> nw.Expr:
    of_day = moment.dt.hour() * 3600 + moment.dt.minute() * 60 + moment.dt.second()
    return moment.dt.ordinal_day() * _DAY + of_day + moment.dt.microsecond() / 1e6


def _days_of_year(moment: nw.Expr) -> nw.Expr:
    year = moment.dt.year()
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    return nw.when(leap).then(nw.lit(366)).otherwise(nw.lit(365))
