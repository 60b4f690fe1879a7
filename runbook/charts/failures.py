"""What failed work cost, by reason: bars in order, and the line of their sum so far."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from runbook.answer import Answer
from runbook.charts import style
from runbook.charts.colours import BAD, GRID, INK, PAPER, REST, SOFT

MOST = 10
"""Reasons that the chart names; the others together are one bar."""

ENOUGH = 0.8


def pareto(answer: Answer) -> Figure:
    """A bar a reason, the dearest on top, with money, pods and the share so far; those that make up 80 % are dark."""
    if answer.table.empty:
        return style.nothing(answer)
    table, scope = answer.table.head(MOST), answer.scope
    rest = answer.table.iloc[MOST:]
    names = [*table["label"], *([scope.rest] if len(rest) else [])]
    costs = np.append(table["cost"].to_numpy(), [rest["cost"].sum()] if len(rest) else [])
    pods = np.append(table["pods"].to_numpy(), [rest["pods"].sum()] if len(rest) else []).astype(int)
    so_far = np.append(table["cumulative"].to_numpy(), [1.0] if len(rest) else [])
    vital = np.append([True], so_far[:-1] < ENOUGH)
    figure, axes = style.figure(answer, height=style.height_of(len(names)) + 0.15)
    at = np.arange(len(names))
    axes.barh(at, costs, 0.62, color=np.where(vital, BAD, REST), edgecolor=PAPER, linewidth=0.6)
    highest = float(costs.max()) or 1.0
    count = scope.text(en="pods", zh="个 Pod")
    for row, (cost, number, share) in enumerate(zip(costs, pods, so_far, strict=True)):
        style.label_after(axes, highest, row, f"{cost:,.2f}   {number:,} {count}   Σ {share:.0%}")
    style.rows(axes, names)
    axes.set_xlim(0, highest * 1.3)
    style.money_axis(
        axes,
        "x",
        scope,
        scope.text(en="cost of failed work (line and Σ: share so far)", zh="失败工作的成本（线与 Σ：累计占比）"),
    )
    beside = axes.twiny()
    beside.plot(so_far, at, color=INK, marker="o", markersize=3, linewidth=1.1, label="cumulative")
    beside.axvline(ENOUGH, color=SOFT, linewidth=0.8, linestyle=(0, (3, 2)))
    beside.set_xlim(0, 1.3)
    beside.set_xticks([0, 0.5, ENOUGH, 1.0], ["0 %", "50 %", "80 %", "100 %"], fontsize=style.TEXT, color=SOFT)
    beside.tick_params(length=0)
    beside.spines[["right", "left", "bottom"]].set_visible(False)
    beside.spines["top"].set_color(GRID)
    return figure
