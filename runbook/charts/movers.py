"""Why the spend moved, as a waterfall, and whose it is, as dots in order."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from runbook.answer import Answer, Scope
from runbook.charts import style
from runbook.charts.colours import BAD, GOOD, INK, PAPER, REST, SOFT, look_of

CUT = 0.8
"""The axis of the waterfall is cut where every step is above this part of its highest point."""

_ENDS = ("before", "now")


def waterfall(answer: Answer) -> Figure:
    """Bars from the days before to these days: each step from where the last one ended, with its signed amount."""
    if answer.table.empty:
        return style.nothing(answer)
    table, scope = answer.table, answer.scope
    figure, axes = style.figure(answer, height=2.9)
    end = table["step"].isin(_ENDS).to_numpy()
    amounts = table["amount"].to_numpy()
    after = np.where(end, amounts, np.cumsum(np.where(table["step"] == _ENDS[1], 0.0, amounts)))
    start = np.where(end, 0.0, after - amounts)
    at = np.arange(len(table))
    for row, (low, amount, is_end) in enumerate(zip(start, amounts, end, strict=True)):
        colour = REST if is_end else BAD if amount > 0 else GOOD
        hatch = "" if is_end or amount <= 0 else "///"
        axes.bar(row, amount, 0.62, bottom=low, facecolor=colour, edgecolor=PAPER, hatch=hatch, linewidth=0.6)
    axes.hlines(after[:-1], at[:-1] + 0.31, at[1:] - 0.31, color=SOFT, linewidth=0.8)
    highest = np.maximum(start, after)
    for row, amount in enumerate(amounts):
        axes.annotate(
            _said(scope, amount, ends=bool(end[row])), (row, highest[row]), xytext=(0, 3), textcoords="offset points",
            ha="center", va="bottom", fontsize=style.TEXT, color=INK,
        )  # fmt: skip
    axes.set_xticks(at, [style.wrap(label, 72, style.TEXT) for label in table["label"]])
    axes.tick_params(axis="x", length=0)
    axes.axhline(0, color=INK, linewidth=0.8)
    style.money_axis(
        axes, "y", scope, _limits(axes, float(np.minimum(start, after)[~end].min()), float(highest.max()), answer)
    )
    return figure


def _limits(axes: Axes, lowest: float, highest: float, answer: Answer) -> str:
    """Where small steps would be lost on top of a large spend, cut what is below them; returns the axis' label, which says so."""
    spend, scope = answer.scope.text(en="spend", zh="支出"), answer.scope
    steps = highest - lowest
    if lowest > CUT * highest:
        axes.set_ylim(lowest - steps, highest + 0.25 * steps)
        return scope.text(
            en=f"{spend} (cut below {lowest - steps:,.0f})", zh=f"{spend}（{lowest - steps:,.0f} 以下省略）"
        )
    axes.margins(y=0.12)
    return spend


def _said(scope: Scope, amount: float, *, ends: bool) -> str:
    if ends:
        return f"{amount:,.2f}"
    return f"{'+' if amount >= 0.005 else '−' if amount <= -0.005 else '±'}{abs(amount):,.2f}"


def who(answer: Answer) -> Figure:
    """A dot a project at its cost, the dearest on top; an arrow comes from what it cost before."""
    if answer.table.empty:
        return style.nothing(answer)
    table, scope = answer.table, answer.scope
    figure, axes = style.figure(answer, height=style.height_of(len(table)))
    for row, (project, cost, before) in enumerate(zip(table["project"], table["cost"], table["before"], strict=True)):
        look = look_of(project, scope)
        if before and abs(cost - before) > 1e-9:
            axes.annotate(
                "", (cost, row), (before, row),
                arrowprops={"arrowstyle": "-|>", "color": SOFT, "linewidth": 1.1, "shrinkA": 0, "shrinkB": 4},
            )  # fmt: skip
        axes.scatter([cost], [row], s=52, color=look.colour, marker=look.marker, zorder=3, label=project)
        change = "" if not before else f"  ({_said(scope, cost - before, ends=False)})"
        style.label_after(axes, max(cost, before), row, f"  {cost:,.2f}{change}")
    style.rows(axes, list(table["project"]))
    highest = float(max(table["cost"].max(), table["before"].max())) or 1.0
    axes.set_xlim(0, highest * 1.22)
    style.money_axis(axes, "x", scope, scope.text(
        en="cost of the pods (arrow: from the days before; in brackets: change)", zh="Pod 成本（箭头：自上期；括号：变化）"
    ))  # fmt: skip
    return figure
