"""How much ran at once by hour, and what a lower limit would have delayed."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from runbook.answer import Answer, Scope
from runbook.charts import colours, style
from runbook.moments import duration


def concurrency(answer: Answer) -> Figure:
    """vCPU at once by hour: the mean as an area, p95 as a line over it, the most of each hour as a thin line; the quota above."""
    table = answer.table
    if table.empty:
        return style.nothing(answer)
    scope = answer.scope
    figure, axes = style.figure(answer, height=3.6)
    last = table["hour"].iloc[-1] + (table["hour"].iloc[-1] - table["hour"].iloc[0]) / max(len(table) - 1, 1)
    edges = [*table["hour"], last]
    axes.stairs(table["mean"], _numbers(edges), fill=True, color=colours.SPOT, gid="mean")
    axes.stairs(table["most"], _numbers(edges), color=colours.SOFT, linewidth=0.5, gid="most")
    axes.stairs(table["p95"], _numbers(edges), color=colours.ON_DEMAND, linewidth=1.1, gid="p95")
    axes.set_xlim(_numbers(edges[:1])[0], _numbers(edges[-1:])[0])
    axes.set_ylim(0, 1.06 * max(float(table["most"].max()), 1e-9))
    style.number_axis(axes, "y", scope.text(en="vCPU at once", zh="同时运行的 vCPU"))
    style.date_axis(axes, scope)
    labels = [
        style.Label(float(table["most"].max()), scope.text(en="most", zh="最高"), colours.SOFT),
        style.Label(float(table["p95"].max()), "p95", colours.ON_DEMAND),
        style.Label(float(table["mean"].max()), scope.text(en="mean", zh="平均"), colours.SPOT),
    ]
    if "quota" in answer.parts:
        labels.append(_quota_line(axes, float(answer.parts["quota"]["quota_vcpu"].iloc[0]), scope))
    style.end_labels(axes, labels)
    return figure


def _quota_line(axes: Axes, quota: float, scope: Scope) -> style.Label:
    axes.axhline(quota, color=colours.BAD, linewidth=1.4, linestyle=(0, (6, 2)), gid="quota")
    axes.set_ylim(0, max(axes.get_ylim()[1], 1.06 * quota))
    return style.Label(quota, scope.text(en=f"quota {quota:,.6g}", zh=f"配额 {quota:,.6g}"), colours.BAD)


def _numbers(moments: list[Any]) -> np.ndarray[Any, Any]:
    """Moments as matplotlib counts them: days."""
    days: np.ndarray[Any, Any] = np.array([moment.value / 86_400e9 for moment in moments])
    return days


def replay(answer: Answer) -> Figure:
    """A bar a limit, as long as the part of the work that would have come late; beside it by how much."""
    table = answer.table
    if table.empty:
        return style.nothing(answer)
    scope = answer.scope
    figure, axes = style.figure(answer, height=style.height_of(len(table)) + 0.2)
    style.rows(axes, [f"{limit:,.6g} vCPU" for limit in table["limit_vcpu"]])
    axes.barh(range(len(table)), table["late_share"], height=0.72, color=colours.ON_DEMAND)
    style.share_axis(
        axes, "x", scope.text(en="part of the work that would have come late, %", zh="会延迟的工作占比，%")
    )
    axes.set_xlim(0, 2 * max(float(table["late_share"].max()), 0.01))
    axes.set_xticks([tick for tick in axes.get_xticks() if tick <= 1])
    for at, row in enumerate(table.itertuples(index=False)):
        p95, most = duration(float(row.p95_seconds)), duration(float(row.most_seconds))  # type: ignore[arg-type]
        text = scope.text(
            en=f"{row.late_share:.1%}: p95 {p95}, longest {most}; {row.busy_share:.0%} of the limit used",
            zh=f"{row.late_share:.1%}：p95 {p95}，最长 {most}；上限利用率 {row.busy_share:.0%}",
        )
        style.label_after(axes, float(row.late_share), at, text)  # type: ignore[arg-type]
    return figure
