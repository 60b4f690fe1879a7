"""The model against the bill as a difference plot: two lines that lie on each other show nothing."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import date2num
from matplotlib.figure import Figure

from runbook.answer import Answer
from runbook.charts import style
from runbook.charts.colours import BAD, GOOD, INK, REST, SOFT

NAMED = 3
"""Causes that are written beside the day outside the band that they moved farthest."""

LEAST_DAYS = 5
"""Days that the axis spans at least: one day alone would be a block with hours below it."""

_DAY = pd.Timedelta(days=1)


def by_day(answer: Answer) -> Figure:
    """Each day's estimate − bill around zero, the band that rounding makes, and where the last final bill ends.

    Days that are not on the bill yet are hollow marks on the zero line; of the farthest days outside the band the cause is written.
    """
    days = answer.table
    if days.empty:
        return style.nothing(answer)
    scope = answer.scope
    figure, (above, below) = style.panels(answer, rows=2, heights=(3, 1), share_x=True, height=4.2)
    billed = days[days["on_bill"].astype(bool)]
    _band(above, days)
    above.axhline(0, color=INK, linewidth=1, gid="zero")
    inside = billed["difference"].abs() <= billed["tolerance"]
    for chosen, colour, gid in ((billed[inside], GOOD, "inside"), (billed[~inside], BAD, "outside")):
        above.vlines(chosen["day"], 0, chosen["difference"], color=colour, linewidth=1.4)
        above.plot(chosen["day"], chosen["difference"], "o", color=colour, markersize=5, gid=gid)
    waiting = days[~days["on_bill"].astype(bool)]
    above.plot(
        waiting["day"], np.zeros(len(waiting)), "o", color=SOFT, markerfacecolor="none", markersize=5, gid="waiting"
    )
    style.money_axis(above, "y", scope, scope.text(en="estimate − bill", zh="估算 − 账单"))
    below.bar(days["day"], days["billed"].where(days["on_bill"].astype(bool)), width=0.8, color=GOOD, gid="billed")
    below.bar(
        waiting["day"], waiting["estimate"], width=0.8, facecolor="none", edgecolor=SOFT, hatch="////", gid="estimated"
    )
    style.money_axis(below, "y", scope, scope.text(en="bill", zh="账单"))
    style.date_axis(below, scope)
    first, last = days["day"].min() - _DAY / 2, days["day"].max() + _DAY / 2
    room = max(LEAST_DAYS * _DAY - (last - first), 0 * _DAY) / 2
    below.set_xlim(first - room, last + room)
    _finality(above, below, answer, first, last)
    _said(above, scope.text(en="grey: what rounding each fee to 0.01 makes", zh="灰色：逐笔四舍五入到 0.01 的影响"))
    _causes(above, answer, billed[~inside])
    if len(waiting):
        text = scope.text(en="not on the bill yet", zh="尚未出账")
        _beside(above, waiting["day"].iloc[-1], 0.0, text, colour=SOFT, offset=(0, 10), side="right")
    return figure


def _band(axes: Axes, days: pd.DataFrame) -> None:
    """The band as steps, a day wide: tolerance belongs to a day, not to the moments between two."""
    left = [*(days["day"] - _DAY / 2), days["day"].iloc[-1] + _DAY / 2]
    wide = [*days["tolerance"], days["tolerance"].iloc[-1]]
    axes.fill_between(left, [-one for one in wide], wide, step="post", color=REST, alpha=0.45, linewidth=0, gid="band")
    most = float(max(days["difference"].abs().max(skipna=True) if days["difference"].notna().any() else 0, max(wide)))
    axes.set_ylim(-1.25 * (most or 0.01), 1.25 * (most or 0.01))


def _finality(above: Axes, below: Axes, answer: Answer, first: pd.Timestamp, last: pd.Timestamp) -> None:
    """Mark where the last final bill ends, and hatch what may still change."""
    days, scope = answer.table, answer.scope
    final = days.loc[days["final"].astype(bool), "day"]
    if len(final) == len(days):
        return
    edge = first if final.empty else final.max() + _DAY / 2
    style.not_final(below, edge.to_pydatetime(), last.to_pydatetime(), scope)
    if not final.empty:
        at = float(date2num(edge))  # type: ignore[no-untyped-call]
        for axes in (above, below):
            axes.axvline(at, color=SOFT, linewidth=1, linestyle=(0, (4, 2)), gid="last-final")
        until = f"{final.max():%m-%d}"
        above.annotate(
            scope.text(en=f"final until {until}", zh=f"{until} 前已定"), (edge, 1), xycoords=("data", "axes fraction"),
            xytext=(-4, -3), textcoords="offset points", ha="right", va="top", fontsize=style.TEXT, color=SOFT,
        )  # fmt: skip


def _said(axes: Axes, text: str) -> None:
    axes.annotate(
        text, (0, 1), xycoords="axes fraction", xytext=(2, 2), textcoords="offset points", ha="left", va="bottom",
        fontsize=style.TEXT, color=SOFT,
    )  # fmt: skip


def _causes(axes: Axes, answer: Answer, outside: pd.DataFrame) -> None:
    """Beside the farthest days outside the band, their cause; each cause once."""
    far = outside.assign(far=outside["difference"].abs()).sort_values(["far", "day"], ascending=[False, True])
    days = answer.table["day"]
    middle = days.min() + (days.max() - days.min()) * 0.66
    named = far.drop_duplicates("cause").head(NAMED)
    for day, difference, cause in zip(named["day"], named["difference"], named["cause"], strict=True):
        right = day > middle
        offset = (-7, 0) if right else (7, 0)
        _beside(axes, day, difference, str(cause), offset=offset, side="right" if right else "left")


def _beside(
    axes: Axes,
    day: pd.Timestamp,
    height: float,
    text: str,
    *,
    offset: tuple[int, int],
    side: Literal["left", "right"],
    colour: str = INK,
) -> None:
    axes.annotate(
        text, (day, height), xytext=offset, textcoords="offset points", ha=side, va="center", fontsize=style.TEXT, color=colour
    )  # fmt: skip
