"""When and where spot instances are taken away, for each hour that they ran, and how sure that is.

A rate of few hours is no rate: every one has the exact interval that its count allows, and where nothing was taken away the
bound that this still allows.
"""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import narwhals as nw

from runbook.answer import Answer, Scope
from runbook.cost import event_rate, spot_pods
from runbook.cost.collected import collected, count

if TYPE_CHECKING:
    import pandas as pd

HOUR, DAY_HOURS = 3600, 24
ENOUGH_HOURS = 10.0
"""Spot-hours from which on a cell's rate is shown: with fewer even no interruption allows 30 in 100 hours."""

AGES = ((0, 1), (1, 2), (2, 4), (4, 8), (8, None))
"""Ages of a spot instance in hours."""

_BY_HOUR = (
    "zone", "hour", "reclaimed", "spot_hours", "per_hour", "per_hour_low", "per_hour_high", "enough",
)  # fmt: skip


def by_hour(pods: nw.LazyFrame[Any], scope: Scope, *, enough_hours: float = ENOUGH_HOURS) -> Answer:
    """When and where spot instances are taken away, for each hour that they ran.

    The table has a row a zone and local hour of the day in which spot instances ran: `reclaimed`, `spot_hours` (a pod counts
    in every hour that it ran in), the rate `per_hour` with its exact 95 % interval, and whether the hours are `enough` to show
    it. Part `age` has the same by how old the instances were: ECI protects the first hour.
    """
    ran = _timed(spot_pods.marked(pods).filter(nw.col("is_spot")), scope)
    table = rated(_cells(ran, scope))
    table["enough"] = table["spot_hours"] >= enough_hours
    ages = rated(_by_age(ran, scope))
    starts, untimed = _starts(pods)
    return Answer(
        "spot-interruptions",
        scope.text(en="When and where are spot instances taken away?", zh="抢占式实例何时何地被回收？"),
        _interruptions_sentence(table, scope),
        table[list(_BY_HOUR)],
        scope,
        starts,
        notes=_interruption_notes(ages, untimed, enough_hours, scope),
        parts={"age": ages},
    )


def _timed(spot: nw.LazyFrame[Any], scope: Scope) -> nw.LazyFrame[Any]:
    """The spot pods whose start and seconds are known, with `into`: the second of its local hour in which each began."""
    offset = _minutes_off_the_hour(scope)
    begun = nw.col("billing_start_at")
    minute = (begun.dt.minute().cast(nw.Int64) + offset) % 60
    return spot.filter(~begun.is_null() & ~nw.col("hour").is_null() & (nw.col("seconds") > 0)).with_columns(
        (minute * 60 + begun.dt.second().cast(nw.Int64)).cast(nw.Float64).alias("into")
    )


def _minutes_off_the_hour(scope: Scope) -> int:
    """Minutes by which the scope's clock differs from full hours of UTC: 30 in India, 0 in China."""
    noon = datetime.combine(scope.first, time(12), ZoneInfo(scope.timezone))
    return int((noon.utcoffset() or timedelta()).total_seconds() // 60) % 60


def _cells(ran: nw.LazyFrame[Any], scope: Scope) -> pd.DataFrame:
    """Reclaims and spot-hours by zone and hour of the day: each pod's seconds shared among the hours that it ran in.

    Pods that began in the same hour and reach the same number of hours further fill all but the first and the last of these, so
    that sums of their groups are enough.
    """
    import numpy as np
    import pandas as pd

    laps = (nw.col("seconds") / (DAY_HOURS * HOUR)).floor()
    until = nw.col("into") + nw.col("seconds") - laps * (DAY_HOURS * HOUR)
    groups = collected(
        ran.with_columns(laps.alias("laps"), until.alias("until"))
        .with_columns(((nw.col("until") / HOUR).ceil().cast(nw.Int64) - 1).alias("further"))
        .group_by("zone", "hour", "further", "taken")
        .agg(nw.len().alias("pods"), nw.col("into").sum(), nw.col("until").sum(), nw.col("laps").sum()),
        by=["zone", "hour", "further", "taken"],
    )
    unknown = scope.text(en="unknown zone", zh="未知可用区")
    zones = sorted({*groups["zone"].dropna()}) + [unknown] * bool(groups["zone"].isna().any())
    seconds, reclaimed = np.zeros((len(zones), DAY_HOURS)), np.zeros((len(zones), DAY_HOURS), np.int64)
    for row in groups.fillna({"zone": unknown}).to_dict("records"):
        zone, first, further = zones.index(row["zone"]), int(row["hour"]), max(int(row["further"]), 0)
        seconds[zone] += row["laps"] * HOUR
        seconds[zone, first] -= row["into"]
        for number in range(further):
            seconds[zone, (first + number) % DAY_HOURS] += row["pods"] * HOUR
        last = (first + further) % DAY_HOURS
        seconds[zone, last] += row["until"] - row["pods"] * further * HOUR
        reclaimed[zone, last] += row["pods"] if row["taken"] else 0
    table = pd.DataFrame(
        {
            "zone": np.repeat(np.array(zones, object), DAY_HOURS),
            "hour": np.tile(np.arange(DAY_HOURS), len(zones)),
            "reclaimed": reclaimed.ravel(),
            "spot_hours": seconds.ravel().round(6) / HOUR,
        }
    )
    return table[table["spot_hours"] > 0].reset_index(drop=True)


def _within(age: nw.Expr, first: int, hours: int | None) -> nw.Expr:
    """How many of an instance's seconds lie in so many hours (None: all) after its first `first` ones."""
    passed = age - float(first * HOUR)
    passed = nw.when(passed > 0).then(passed).otherwise(nw.lit(0.0))
    return (
        passed if hours is None else nw.when(passed < hours * HOUR).then(passed).otherwise(nw.lit(float(hours * HOUR)))
    )


def _by_age(ran: nw.LazyFrame[Any], scope: Scope) -> pd.DataFrame:
    """Reclaims and spot-hours by the age of the instance."""
    import pandas as pd

    age, columns = nw.col("seconds"), []
    for number, (first, last) in enumerate(AGES):
        columns.append(
            (_within(age, first, None if last is None else last - first).sum() / HOUR).alias(f"hours{number}")
        )
        inside = (age > first * HOUR) & (age <= last * HOUR) if last else age > first * HOUR
        columns.append(count(nw.col("taken") & inside).alias(f"taken{number}"))
    found = collected(ran.select(*columns)).fillna(0).iloc[0]
    names = [
        scope.text(en=f"{first} h to {last} h", zh=f"{first} 至 {last} 小时") if last else f"> {first} h"
        for first, last in AGES
    ]
    numbers = range(len(AGES))
    return pd.DataFrame(
        {
            "age": names,
            "reclaimed": [int(found[f"taken{number}"]) for number in numbers],
            "spot_hours": [float(found[f"hours{number}"]) for number in numbers],
        }
    )


def rated(table: pd.DataFrame) -> pd.DataFrame:
    """With the rate of each row and its exact interval; a rate is null where there were no hours."""
    import numpy as np

    counted = zip(table["reclaimed"], table["spot_hours"], strict=True)
    limits = [event_rate.per_hour(int(number), float(hours)) for number, hours in counted]
    table["per_hour"] = table["reclaimed"] / table["spot_hours"].replace(0.0, np.nan)
    table["per_hour_low"] = np.array([low for low, _ in limits], float)
    table["per_hour_high"] = np.array([high for _, high in limits], float)
    return table


def _starts(pods: nw.LazyFrame[Any]) -> tuple[int, pd.Series]:
    """How many spot pods there are; and of those without a start or an end how many, and how many of them were taken away."""
    spot = spot_pods.marked(pods).filter(nw.col("is_spot"))
    untimed = nw.col("billing_start_at").is_null() | nw.col("hour").is_null() | ~(nw.col("seconds").fill_null(0.0) > 0)
    found = collected(
        spot.select(
            nw.len().alias("pods"),
            count(untimed).alias("untimed"),
            count(untimed & nw.col("taken")).alias("reclaimed"),
        )
    ).fillna(0)
    return int(found["pods"].iloc[0]), found.iloc[0]


def number_of_hours(hours: float) -> str:
    """`0.2`, `9.8`, `1,234`."""
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.1f}"


def rate(in_100_hours: float) -> str:
    """A rate in 100 hours with about two digits: `0.42`, `3.1`, `120`."""
    return f"{in_100_hours:,.0f}" if in_100_hours >= 10 else f"{in_100_hours:.2g}"


def _interruptions_sentence(table: pd.DataFrame, scope: Scope) -> str:
    hours, number = float(table["spot_hours"].sum()), int(table["reclaimed"].sum())
    if not hours:
        return scope.text(en="No spot pod ran: there was nothing to take away.", zh="没有抢占式 Pod 运行，无从回收。")
    low, high = (100 * end for end in event_rate.per_hour(number, hours))
    if not number:
        return scope.text(
            en=f"No spot pod was taken away in {number_of_hours(hours)} spot-hours: that still allows {rate(high)} in 100 spot-hours.",
            zh=f"{number_of_hours(hours)} 个抢占式实例小时内没有回收：每 100 小时仍可能有至多 {rate(high)} 次。",
        )
    found = scope.text(
        en=f"{number:,} spot pod{'s were' if number > 1 else ' was'} taken away in {number_of_hours(hours)} spot-hours:"
        f" {rate(100 * number / hours)} in 100 ({rate(low)} to {rate(high)})",
        zh=f"{number_of_hours(hours)} 个抢占式实例小时内回收 {number:,} 次：每 100 小时 {rate(100 * number / hours)} 次"
        f"（{rate(low)} 至 {rate(high)}）",
    )
    shown = table[table["enough"] & (table["reclaimed"] > 0)]
    if shown.empty:
        return found + scope.text(en=".", zh="。")
    worst = shown.sort_values(["per_hour_low", "zone", "hour"], ascending=[False, True, True]).iloc[0]
    at = f"{int(worst['hour']):02d}:00"
    return found + scope.text(
        en=f", most surely from {at} in {worst['zone']} ({rate(100 * worst['per_hour'])} in 100).",
        zh=f"，最明显的是 {worst['zone']} 的 {at} 时段（每 100 小时 {rate(100 * worst['per_hour'])} 次）。",
    )


def _interruption_notes(ages: pd.DataFrame, untimed: pd.Series, enough: float, scope: Scope) -> tuple[str, ...]:
    early, later = int(ages["reclaimed"].iloc[0]), ages.iloc[1:]
    protected, open_hours = float(ages["spot_hours"].iloc[0]), float(later["spot_hours"].sum())
    texts = (
        (
            early,
            f"{early:,} of them were taken away within their first hour, in which ECI documents no reclaim (unless"
            " eci-spot-duration is 0): worth a look at their events.",
            f"其中 {early:,} 个在第一小时内被回收，而 ECI 文档称该小时受保护（除非 eci-spot-duration 为 0）：请查看其事件。",
        ),
        (
            protected + open_hours,
            f"{number_of_hours(protected)} of the spot-hours were first hours of a pod, which ECI protects; {int(later['reclaimed'].sum()):,}"
            f" reclaims came in the {number_of_hours(open_hours)} hours after it.",
            f"{number_of_hours(protected)} 小时属于 Pod 受保护的第一小时；其后的 {number_of_hours(open_hours)} 小时内回收"
            f" {int(later['reclaimed'].sum()):,} 次。",
        ),
        (
            untimed["untimed"],
            f"Of {scope.counted(int(untimed['untimed']), 'spot pods')} start or end are not known: left out, {int(untimed['reclaimed']):,} of"
            " them taken away.",
            f"{int(untimed['untimed']):,} 个抢占式 Pod 的起止时间未知，未计入，其中 {int(untimed['reclaimed']):,} 个被回收。",
        ),
        (
            protected + open_hours,
            f"Cells with fewer than {enough:g} spot-hours are hollow: their rate says little. Intervals are exact, at 95 %; where"
            " nothing was taken away, the bound is one-sided.",
            f"不足 {enough:g} 小时的格子留空：比率意义不大。区间为 95 % 精确区间；无回收时为单侧上界。",
        ),
    )
    return tuple(scope.text(en=en, zh=zh) for said, en, zh in texts if said)
