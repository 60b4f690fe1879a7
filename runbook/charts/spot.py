"""Charts about spot instances: the ledger, the interruptions, the break-even, and the price paid beside the market."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import date2num
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from runbook.answer import Answer, Scope
from runbook.charts import style
from runbook.charts.colours import BAD, GOOD, GRID, INK, LADDER, PAPER, SOFT, ink_on, look_of, shade

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 20
"""Rows that a chart shows; the rest is one row more, and whole in the CSV."""

MOST_TYPES, MOST_ZONES, MOST_POINTS = 3, 4, 300
"""ECS types and zones whose prices are drawn, and points of a panel before they are drawn by the day."""


def _beside(axes: Axes, row: float, text: str, *, colour: str = INK) -> None:
    """Text at the right edge, at the height of a row."""
    axes.annotate(
        text, (1, row), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points",
        fontsize=style.TEXT, color=colour, va="center", ha="left",
    )  # fmt: skip


def _rate(an_hour: float) -> str:
    """A rate in 100 hours with about two digits: `0.42`, `3.1`, `120`."""
    return f"{100 * an_hour:,.0f}" if an_hour >= 0.1 else f"{100 * an_hour:.2g}"


# -- the ledger -------------------------------------------------------------------------------------------------------


def ledger(answer: Answer) -> Figure:
    """Diverging bars by project: gross saving to the right, rework and fallback to the left; a dot for the net.

    Where a cost is an interval, the part of a bar that is not sure is hatched, and the net is a line.
    """
    if answer.table.empty:
        return style.nothing(answer)
    scope = answer.scope
    table, others = _most(answer.table)
    figure, axes = style.figure(answer, height=style.height_of(len(table) + bool(len(others))) + 0.2)
    at = np.arange(len(table))
    _sure_and_not(axes, at, np.zeros(len(table)), table["gross_low"], table["gross_high"], GOOD, "gross")
    _sure_and_not(axes, at, np.zeros(len(table)), -table["rework_low"], -table["rework_high"], BAD, "rework")
    axes.barh(at, -table["fallback"], 0.62, left=-table["rework_high"], color=SOFT, label="fallback")
    missed = table["missed_low"] > 0
    axes.barh(
        at[missed], table["missed_low"][missed], 0.62, left=table["gross_high"][missed].clip(lower=0), facecolor="none",
        edgecolor=SOFT, linestyle=(0, (2, 2)), linewidth=0.9, label="missed",
    )  # fmt: skip
    axes.hlines(at, table["net_low"], table["net_high"], color=INK, linewidth=2.2, zorder=3)
    middle = (table["net_low"] + table["net_high"]) / 2
    exact = (table["net_high"] - table["net_low"]).abs() < 0.005
    axes.scatter(middle[exact], at[exact], s=28, color=INK, edgecolor=PAPER, linewidth=0.8, zorder=4, label="net")
    ends = np.concatenate([table["net_low"][~exact], table["net_high"][~exact]])
    axes.scatter(
        ends, np.tile(at[~exact], 2), s=42, color=INK, marker="|", linewidth=1.6, zorder=4, label="net interval"
    )
    axes.axvline(0, color=INK, linewidth=1.0)
    for row, (low, high) in enumerate(zip(table["net_low"], table["net_high"], strict=True)):
        _beside(axes, row, _span(low, high, scope), colour=BAD if high < 0 else INK)
    names = list(table["project"])
    if len(others):
        _beside(axes, len(names), _span(others["net_low"].sum(), others["net_high"].sum(), scope), colour=SOFT)
        names.append(scope.text(en=f"{len(others)} other projects, not drawn", zh=f"其余 {len(others)} 个项目，未画出"))
    style.rows(axes, names)
    axes.tick_params(axis="y", pad=13)
    for row, project in enumerate(table["project"]):
        look = look_of(project, scope)
        axes.plot(
            -0.009, row, marker=look.marker, color=look.colour, markersize=5, clip_on=False, linestyle="none",
            transform=axes.get_yaxis_transform(), label="project",
        )  # fmt: skip
    style.number_axis(axes, "x", scope.text(
        en=f"{scope.currency}    right: gross saving    left: rework, then fallback (grey)    ● net    hatched: not sure"
        "    dashed: missed by fallback",
        zh=f"{scope.currency}    右：毛节省    左：返工，其后回退（灰）    ● 净节省    斜线：不确定    虚线：因回退错失",
    ))  # fmt: skip
    least = min(0.0, float((table["net_low"]).min()), -float((table["rework_high"] + table["fallback"]).max()))
    most = max(0.0, float((table["gross_high"].clip(lower=0) + table["missed_low"]).max()))
    room = 0.03 * (most - least) or 1.0
    axes.set_xlim(least - room, most + room)
    return figure


def _most(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The projects with the largest gross or loss, in the table's order, and all others."""
    if len(table) <= MOST_ROWS + 1:
        return table, table.iloc[:0]
    weight = table["gross_high"].abs() + table["rework_high"] + table["fallback"]
    chosen = sorted(weight.sort_values(ascending=False, kind="stable").index[:MOST_ROWS])
    return table.loc[chosen].reset_index(drop=True), table.drop(index=chosen)


def _span(low: float, high: float, scope: Scope) -> str:
    """`CNY 12.00`, or `CNY 12.00 … 14.00` of an interval that shows."""
    first, last = scope.money(low), scope.money(high)
    return first if first == last else f"{first} … {last.replace(f'{scope.currency} ', '')}"


def _sure_and_not(axes: Axes, at: Any, left: Any, low: Any, high: Any, colour: str, name: str) -> None:
    """A bar to the end that is sure, and hatched from there to the one that is possible."""
    sure = np.where(np.sign(low) == np.sign(high), np.where(np.abs(low) < np.abs(high), low, high), 0.0)
    axes.barh(at, sure, 0.62, left=left, color=colour, label=name)
    for end in (low, high):
        rest = np.asarray(end) - sure
        if np.any(np.abs(rest) > 0):
            axes.barh(
                at, rest, 0.62, left=left + sure, facecolor=PAPER, edgecolor=colour, hatch="////", linewidth=0.6,
                label=f"{name}, not sure",
            )  # fmt: skip


# -- interruptions ----------------------------------------------------------------------------------------------------


def interruptions(answer: Answer) -> Figure:
    """A heat map of zones and hours of the day with the number of reclaims; beside it the rate by age of the instance.

    The darker, the more reclaims an hour of a spot instance. Hollow cells have too few hours for a rate.
    """
    table, ages = answer.table, answer.parts.get("age")
    if table.empty or ages is None:
        return style.nothing(answer)
    scope = answer.scope
    zones = list(dict.fromkeys(table["zone"]))[:MOST_ROWS]
    figure, (axes, beside) = style.panels(answer, columns=2, widths=(3.4, 1), height=max(1.1 + 0.5 * len(zones), 2.3))
    shown = table[table["zone"].isin(zones)]
    most = float(shown.loc[shown["enough"], "per_hour"].max()) if shown["enough"].any() else 0.0
    for row in shown.to_dict("records"):
        _cell(axes, int(row["hour"]), zones.index(row["zone"]), row, most)
    axes.set_xlim(-0.5, 23.5)
    axes.set_xticks(range(0, 24, 3), [f"{hour:02d}:00" for hour in range(0, 24, 3)])
    style.rows(axes, zones, most=24)
    scale = (
        scope.text(en=f"darkest: {_rate(most)} in 100 spot-hours; ", zh=f"最深：每 100 小时 {_rate(most)} 次；")
        if most
        else ""
    )
    style.name_axis(axes, "x", scope.text(
        en=f"hour of the day, {scope.timezone}; number: reclaims; {scale}hollow: too few hours",
        zh=f"时段，{scope.timezone}；数字：回收次数；{scale}空心：小时数不足",
    ))  # fmt: skip
    _by_age(beside, ages, scope)
    return figure


def _cell(axes: Axes, x: int, y: int, row: dict[Any, Any], most: float) -> None:
    enough = bool(row["enough"])
    colour = shade(0.06 + 0.94 * row["per_hour"] / most if most else 0.06) if enough else PAPER
    axes.add_patch(
        Rectangle(
            (x - 0.46, y - 0.42), 0.92, 0.84, facecolor=colour, edgecolor=PAPER if enough else GRID, linewidth=0.8,
            linestyle="-" if enough else (0, (2, 2)),
        )
    )  # fmt: skip
    axes.text(
        x,
        y,
        f"{int(row['reclaimed'])}",
        fontsize=style.TEXT,
        ha="center",
        va="center",
        color=ink_on(colour) if enough else SOFT,
    )


def _by_age(axes: Axes, ages: pd.DataFrame, scope: Scope) -> None:
    """Rates by age with their intervals; ages that no instance reached have none."""
    reached = ages["spot_hours"] > 0
    at = np.arange(len(ages))
    axes.hlines(
        at[reached],
        100 * ages["per_hour_low"][reached],
        100 * ages["per_hour_high"][reached],
        color=SOFT,
        linewidth=1.6,
    )
    axes.scatter(100 * ages["per_hour"][reached], at[reached], color=INK, s=24, zorder=3, label="rate by age")
    for row in range(len(ages)):
        few = scope.text(en="no hours", zh="无")
        hours = f"{ages['spot_hours'][row]:,.{0 if ages['spot_hours'][row] >= 10 else 1}f}"
        text = f"{int(ages['reclaimed'][row])} / {hours} h" if reached[row] else few
        _beside(axes, row, text)
    style.number_axis(axes, "x", scope.text(en="reclaims in 100 spot-hours, 95 %", zh="每 100 小时回收次数，95 %"))
    style.rows(axes, list(ages["age"]))
    axes.set_xlim(left=0)
    name = scope.text(en="age of the instance", zh="实例已运行时长")
    axes.set_title(name, fontsize=style.TEXT, color=SOFT, loc="left")


# -- break-even -------------------------------------------------------------------------------------------------------


def break_even(answer: Answer) -> Figure:
    """Dots by ECS type: the price paid against the line at which spot costs as much as vCPU and memory do.

    A short rule on each row is the break-even after lost work; a diamond the list price of the ECS type.
    """
    if answer.table.empty:
        return style.nothing(answer)
    table, scope = answer.table.head(MOST_ROWS), answer.scope
    figure, axes = style.figure(answer, height=style.height_of(len(table)) + 0.2)
    at = np.arange(len(table))
    ours = table["on_demand_hour"]
    low, high, worth = table["paid_hour_low"] / ours, table["paid_hour_high"] / ours, 1 - table["lost_share"]
    pays = table["pays"].eq(True)
    colours = np.where(pays, GOOD, np.where(table["pays"].eq(False), BAD, SOFT))
    axes.hlines(at, high, worth, color=GRID, linewidth=2.0, zorder=1)
    axes.hlines(at, low, high, color=colours, linewidth=4.0, zorder=2)
    axes.scatter((low + high) / 2, at, s=np.where(high - low > 0.002, 0, 34), color=colours, zorder=3, label="paid")
    axes.vlines(worth, at - 0.3, at + 0.3, color=INK, linewidth=1.8, zorder=3, label="break-even")
    axes.scatter(
        table["list_hour"] / ours,
        at,
        s=30,
        marker="D",
        facecolor=PAPER,
        edgecolor=SOFT,
        zorder=2,
        label="ECS list price",
    )
    axes.axvline(1, color=INK, linewidth=1.0, linestyle=(0, (4, 2)))
    for row, values in enumerate(table.to_dict("records")):
        _beside(axes, row, _limits(values, scope))
    style.rows(axes, [_name(values, scope) for values in table.to_dict("records")])
    style.share_axis(axes, "x", scope.text(
        en="● paid, of ECI's vCPU and memory price (dashed: 100 %)    | break-even after lost work    ◇ ECS list price",
        zh="● 所付占 vCPU 和内存计费价格的比例（虚线：100 %）    | 计入返工的盈亏平衡    ◇ ECS 目录价",
    ))  # fmt: skip
    axes.set_xlim(left=0)
    return figure


def _name(row: dict[Any, Any], scope: Scope) -> str:
    known = isinstance(row["ecs_type"], str)
    kind = row["ecs_type"] if known else scope.text(en="unknown type", zh="未知规格")
    return f"{kind}, {row['vcpu']:g}c/{row['memory_gib']:g}Gi"


def _limits(row: dict[Any, Any], scope: Scope) -> str:
    """Up to which price and rate it pays, and the rate that was seen."""
    share = row["break_even_share"]
    price = scope.text(en=f"pays to {100 * share:.0f} % of list; ", zh=f"目录价 {100 * share:.0f} % 以下划算；")
    if share >= 1:
        price = scope.text(en="pays up to the whole list price; ", zh="按目录价也划算；")
    if share != share:
        price = ""
    low, high = (_rate(row[f"break_even_per_hour_{end}"]) for end in ("low", "high"))
    limit = low if low == high else f"{low}–{high}"
    seen = _rate(row["per_hour"]) if row["reclaimed"] else f"0 (≤ {_rate(row['per_hour_high'])})"
    return price + scope.text(
        en=f"to {limit} reclaims in 100 h, seen {seen}", zh=f"每 100 小时 {limit} 次以下，实际 {seen}"
    )


# -- price paid -------------------------------------------------------------------------------------------------------


def price_paid(answer: Answer) -> Figure:
    """For each ECS type the market price of its zones as steps, what pods paid as dots, and their starts as ticks below.

    The measure is ECI's vCPU and memory price of the same size: above 100 % spot is dearer than plain instances.
    """
    table, steps = answer.table, answer.parts.get("steps")
    if table.empty or steps is None:
        return style.nothing(answer)
    scope = answer.scope
    types = list(table.groupby("ecs_type")["spot_hours"].sum().sort_values(ascending=False, kind="stable").index)
    drawn = types[:MOST_TYPES]
    figure, panels = style.panels(answer, rows=len(drawn), height=0.5 + 1.75 * len(drawn), share_x=True)
    for axes, kind in zip(panels, drawn, strict=True):
        _market(axes, kind, table[table["ecs_type"] == kind], steps[steps["ecs_type"] == kind], scope)
    style.date_axis(panels[-1], scope)
    key = scope.text(
        en="lines: market    dots: paid (vermilion: not what the archive says)    ticks: starts",
        zh="线：市场价    点：所付（橙红：与归档不符）    刻度：启动时刻",
    )
    panels[0].set_title(key, fontsize=style.TEXT, color=SOFT, loc="right")
    more = len(types) - len(drawn)
    if more:
        others = scope.text(en=f"{more} more in the CSV", zh=f"另有 {more} 个规格见 CSV")
        panels[-1].set_title(others, fontsize=style.TEXT, color=SOFT, loc="right")
    return figure


def _market(axes: Axes, kind: str, paid: pd.DataFrame, steps: pd.DataFrame, scope: Scope) -> None:
    """One ECS type: prices as shares of what the same size costs by vCPU and memory."""
    import pandas as pd

    ours = float((paid["on_demand_hour"] * paid["spot_hours"]).sum() / paid["spot_hours"].sum())
    begin = pd.Timestamp(scope.first, tz=scope.timezone)
    end = pd.Timestamp(scope.last, tz=scope.timezone) + pd.Timedelta(days=1)
    zones = list(paid.groupby("zone")["spot_hours"].sum().sort_values(ascending=False, kind="stable").index)[
        :MOST_ZONES
    ]
    labels = []
    for number, zone in enumerate(zones):
        part = steps[(steps["zone"] == zone) & (steps["at"] < end) & ~(steps["until"] <= begin)]
        if part.empty:
            continue
        x, y = _staircase(part, begin, end, ours)
        dashes = ((), (5, 1.5), (1.5, 1.2), (6, 1.5, 1.5, 1.5))[number]
        axes.plot(
            x, y, color=LADDER[min(number, 2)], linewidth=1.4, linestyle=(0, dashes) if dashes else "-", label=zone
        )
        labels.append(style.Label(float(part["price"].iloc[-1]) / ours, zone, LADDER[min(number, 2)]))
    points = _points(paid)
    colours = np.where(points["inside"], SOFT, BAD)
    moments, starts = _numbers(points["at"], scope), sorted(set(_numbers(paid["at"], scope)))
    axes.scatter(moments, points["paid_hour"] / points["on_demand_hour"], s=11, color=colours, zorder=3, label="paid")
    axes.axhline(1, color=INK, linewidth=1.0, linestyle=(0, (4, 2)))
    top = max(
        1.1,
        float((points["paid_hour"] / points["on_demand_hour"]).max()) * 1.05,
        *[label.at * 1.05 for label in labels],
    )
    axes.set_ylim(0, top)
    x = [at for start in starts for at in (start, start, float("nan"))]
    axes.plot(x, [0.0, 0.05 * top, float("nan")] * len(starts), color=SOFT, linewidth=0.5, label="starts")
    axes.set_xlim(*(_number(edge) for edge in (begin, end)))
    style.share_axis(axes, "y", scope.text(en="of ECI's price", zh="占 ECI 价格"))
    axes.set_title(kind, fontsize=style.TEXT, color=INK, loc="left")
    style.end_labels(axes, labels)


def _number(moment: pd.Timestamp) -> float:
    """Where a moment lies on a date axis, by its own clock."""
    return float(date2num(moment.tz_localize(None)))  # type: ignore[no-untyped-call]


def _numbers(moments: pd.Series, scope: Scope) -> list[float]:
    return [_number(moment) for moment in moments.dt.tz_convert(scope.timezone)]


def _staircase(
    part: pd.DataFrame, begin: pd.Timestamp, end: pd.Timestamp, ours: float
) -> tuple[list[float], list[float]]:
    """The steps as a line within the window; a gap where nobody asked the market."""
    x: list[float] = []
    y: list[float] = []
    for row in part.to_dict("records"):
        first, last = max(row["at"], begin), min(row["until"], end) if row["until"] == row["until"] else end
        for moment in (first, last):
            x.append(_number(moment.tz_convert(begin.tz)))
            y.append(row["price"] / ours)
        following = part["at"] == row["until"]
        if not following.any():
            x.append(x[-1])
            y.append(float("nan"))
    return x, y


def _points(paid: pd.DataFrame) -> pd.DataFrame:
    """What was paid by the hour; by the day and zone where that would be too many points."""
    points = paid.assign(inside=~paid["inside"].eq(False))
    if len(points) <= MOST_POINTS:
        return points
    hours = points["spot_hours"]
    points = points.assign(
        paid=points["paid_hour"] * hours,
        ours=points["on_demand_hour"] * hours,
        at=points["at"].dt.floor("D") + timedelta(hours=12),
    )
    days = points.groupby(["zone", "at"], as_index=False).agg(
        paid=("paid", "sum"), ours=("ours", "sum"), spot_hours=("spot_hours", "sum"), inside=("inside", "all")
    )
    return days.assign(paid_hour=days["paid"] / days["spot_hours"], on_demand_hour=days["ours"] / days["spot_hours"])
