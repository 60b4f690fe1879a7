"""ECI beside servers that run all the time: a bar each, with how much of the servers the work would use."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from runbook.answer import Answer
from runbook.charts import style
from runbook.charts.colours import LADDER, PAPER, REST


def bars(answer: Answer) -> Figure:
    """A bar an alternative for the days of the period, with its money and, of servers, the part of it that is used (dark)."""
    table, scope = answer.table.dropna(subset=["cost"]), answer.scope
    if table.empty:
        return style.nothing(answer)
    figure, axes = style.figure(answer, height=0.75 + 0.36 * len(table))
    at, costs = np.arange(len(table)), table["cost"].to_numpy()
    used = costs * np.minimum(table["used"].fillna(1.0).to_numpy(), 1.0)
    axes.barh(at, costs, 0.6, color=REST, edgecolor=PAPER, label="idle")
    axes.barh(at, used, 0.6, color=LADDER[1], edgecolor=PAPER, label="used")
    for row, (cost, share) in enumerate(zip(costs, table["used"], strict=True)):
        part = "" if np.isnan(share) else scope.text(en=f"   {share:.0%} used", zh=f"   利用率 {share:.0%}")
        style.label_after(axes, cost, row, f"{cost:,.2f}{part}")
    style.rows(axes, list(table["label"]), most=60)
    axes.set_xlim(0, (float(costs.max()) or 1.0) * 1.2)
    style.money_axis(
        axes,
        "x",
        scope,
        scope.text(en=f"cost of {scope.days} days (dark: used)", zh=f"{scope.days} 天的成本（深色：已用）"),
    )
    return figure
