"""What the pods cost each day, whose they were, and what the next two weeks are expected to cost.

A forecast needs three weeks of days. It is the median of the same weekday; its interval is drawn from how far each day was, in
parts, from the median of its weekday's *other* days. That knows weekdays and nothing else: no holidays, no growth.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import narwhals as nw

from runbook.answer import Answer, Scope
from runbook.cost.collected import collected

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

TOP = 6
"""Projects with a layer of their own: more colours cannot be told apart."""

NEEDED_DAYS = 21
HORIZON = 14
DRAWS = 4000
LOW, HIGH = 0.1, 0.9
"""Ends of the forecast interval: eight of ten days are expected inside."""


def daily(
    pods: nw.LazyFrame[Any],
    before: nw.LazyFrame[Any],
    scope: Scope,
    *,
    final_until: date | None = None,
    seed: int = 0,
) -> Answer:
    """The pods' cost by day and project: `day`, `project`, `cost`; the dearest six have their own rows, then rest, then nobody's.

    Parts: `days` (`day`, `cost`, `on_demand`: the same by ECI's on-demand price, `final`: whether its bill is; none is without
    `final_until`, the last day whose bill is final) and `forecast` (`day`, `expected`, `low`, `high`; empty with less than three
    weeks of days). `before` holds the pods of the days before: they are days too.
    """
    import pandas as pd

    sums = _sums(pods)
    calendar = pd.date_range(scope.first, scope.last, unit="us")
    layers = _layers(sums, scope, calendar)
    costs = sums.groupby("day")[["cost", "on_demand"]].sum().reindex(calendar, fill_value=0.0)
    costs["final"] = [bool(final_until and day.date() <= final_until) for day in calendar]
    days = costs.rename_axis("day").reset_index()
    earlier = _sums(before).groupby("day")["cost"].sum()
    forecast = _forecast(pd.concat([earlier, costs["cost"]]), scope, seed)
    table = layers.rename_axis("day").reset_index().melt("day", var_name="project", value_name="cost")
    return Answer(
        "trend",
        scope.text(en="How does the cost go from day to day?", zh="每日成本走势如何？"),
        _sentence(scope, days, forecast),
        table,
        scope,
        int(sums["pods"].sum()),
        notes=_notes(scope, forecast, final_until),
        parts={"days": days, "forecast": forecast},
    )


def _sums(pods: nw.LazyFrame[Any]) -> pd.DataFrame:
    both = ~nw.col("effective_cost").is_null() & ~nw.col("on_demand_cost").is_null()
    table = collected(
        pods.group_by("day", "project_path").agg(
            nw.len().alias("pods"),
            nw.col("effective_cost").sum().alias("cost"),
            nw.when(both).then(nw.col("on_demand_cost")).otherwise(nw.col("effective_cost")).sum().alias("on_demand"),
        ),
        by=["day", "project_path"],
    )
    table["project_path"] = table["project_path"].astype(object).fillna("")
    return table.astype({"cost": "float64", "on_demand": "float64"}).fillna({"cost": 0.0, "on_demand": 0.0})


def _layers(sums: pd.DataFrame, scope: Scope, calendar: pd.DatetimeIndex) -> pd.DataFrame:
    """A row a day, a column a layer: the dearest projects first, then the rest, then what is nobody's."""
    wide = sums.pivot_table(index="day", columns="project_path", values="cost", aggfunc="sum", fill_value=0.0)
    wide = wide.reindex(calendar, fill_value=0.0).fillna(0.0)
    totals = wide.drop(columns="", errors="ignore").sum().sort_values(ascending=False, kind="stable")
    layers = wide[list(totals.index[:TOP])].copy()
    if len(totals) > TOP:
        layers[scope.rest] = wide[list(totals.index[TOP:])].sum(axis=1)
    if "" in wide:
        layers[scope.not_allocated] = wide[""]
    layers.columns.name = None
    return layers


def _forecast(costs: pd.Series[float], scope: Scope, seed: int) -> pd.DataFrame:
    """The next days, from every day between the first and the last with a cost."""
    import numpy as np
    import pandas as pd

    columns = ["day", "expected", "low", "high"]
    spent = costs[costs > 0]
    if spent.empty:
        return pd.DataFrame(columns=columns)
    known = costs.groupby(level=0).sum()
    known = known.reindex(pd.date_range(spent.index.min(), spent.index.max(), unit="us"), fill_value=0.0)
    if len(known) < NEEDED_DAYS:
        return pd.DataFrame(columns=columns)
    weekdays, amounts = pd.DatetimeIndex(known.index).day_of_week.to_numpy(), known.to_numpy()
    medians = np.array([np.median(amounts[weekdays == weekday]) for weekday in range(7)])
    parts = _surprises(amounts, weekdays)
    days = [scope.last + timedelta(days=number) for number in range(1, HORIZON + 1)]
    expected = medians[[day.weekday() for day in days]]
    if not expected.sum():
        return pd.DataFrame(columns=columns)
    draws = expected * np.random.default_rng(seed).choice(parts, size=(DRAWS, HORIZON))
    low, high = np.quantile(draws, (LOW, HIGH), axis=0)
    result = pd.DataFrame({"day": pd.DatetimeIndex(days).as_unit("us"), "expected": expected, "low": low, "high": high})
    total_low, total_high = np.quantile(draws.sum(axis=1), (LOW, HIGH))
    result.attrs.update(low=float(total_low), high=float(total_high), days=len(known))
    return result


def _surprises(amounts: np.ndarray[Any, Any], weekdays: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Each day as a multiple of the median of the other days of its weekday; 1 where those cost nothing."""
    import numpy as np

    parts = []
    for number, weekday in enumerate(weekdays):
        others = np.delete(amounts, number)[np.delete(weekdays, number) == weekday]
        usual = float(np.median(others)) if len(others) else 0.0
        parts.append(amounts[number] / usual if usual > 0 else 1.0)
    return np.array(parts)


def _sentence(scope: Scope, days: pd.DataFrame, forecast: pd.DataFrame) -> str:
    if not days["cost"].sum():
        return scope.text(en="No cost is known of any day.", zh="没有任何一天的成本数据。")
    top = days.iloc[int(days["cost"].argmax())]
    saved = float(days["on_demand"].sum() - days["cost"].sum())
    median, most, day = scope.money(days["cost"].median()), scope.money(top["cost"]), top["day"].date()
    en = [f"Pods cost {median} on a usual day and {most} on the dearest, {day}"]
    zh = [f"Pod 每日成本中位数 {median}，最高 {most}（{day}）"]
    if abs(saved) >= 0.005:
        en.append(f"{scope.money(abs(saved))} {'less' if saved > 0 else 'more'} in all than on demand")
        zh.append(f"合计比按量付费{'少' if saved > 0 else '多'} {scope.money(abs(saved))}")
    if len(forecast):
        low, high = scope.money(forecast.attrs["low"]), scope.money(forecast.attrs["high"])
        en.append(f"the next {HORIZON} days are expected to cost {low} to {high}")
        zh.append(f"未来 {HORIZON} 天预计 {low} 至 {high}")
    return scope.text(en="; ".join(en) + ".", zh="；".join(zh) + "。")


def _notes(scope: Scope, forecast: pd.DataFrame, final_until: date | None) -> tuple[str, ...]:
    if len(forecast):
        said = scope.text(
            en=f"Forecast: the median of the same weekday of {forecast.attrs['days']} days; the interval holds eight of ten such "
            "days, drawn from how far days were from the others of their weekday. It knows no holidays and no growth.",
            zh=f"预测：{forecast.attrs['days']} 天中相同星期几的中位数；区间覆盖十分之八的同类天数。未考虑节假日与增长。",
        )
    else:
        said = scope.text(
            en=f"No forecast: it needs {NEEDED_DAYS} days from the first with a cost to the last.",
            zh=f"未做预测：需要至少 {NEEDED_DAYS} 天的数据。",
        )
    open_bill = scope.text(
        en=f"The bill is final until {final_until}; later days are the model's."
        if final_until
        else "No bill of these days is final: they are the model's.",
        zh=f"账单已定至 {final_until}，之后为模型估算。" if final_until else "账单尚未确定：均为模型估算。",
    )
    return (said,) if final_until and final_until >= scope.last else (said, open_bill)
