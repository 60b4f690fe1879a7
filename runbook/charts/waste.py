"""How much of the money was used: one bar of 100 % a project, with its money beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from runbook.answer import Answer
from runbook.charts import colours, style

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 15
"""So many projects have a bar of their own; the others are one."""

LOOKS = {
    "used": ("#08306b", ""),
    "headroom": ("#6baed6", ""),
    "over_ask": ("#E69F00", "//"),
    "unmeasured": (colours.UNKNOWN, ".."),
    "rounding": ("#D55E00", "\\\\"),
    "startup": ("#CC79A7", "xx"),
    "storage": (colours.REST, "--"),
    "unsized": (colours.NOT_ALLOCATED, "++"),
}
"""Colour and hatch of each part, in the order of the bar."""


def waste(answer: Answer) -> Figure:
    """A bar of shares for all together and for each of the dearest projects, their money at its end."""
    rows = _rows(answer)
    if rows.empty:
        return style.nothing(answer)
    scope = answer.scope
    figure, axes = style.figure(answer, height=style.height_of(len(rows)) + 0.5)
    style.rows(axes, list(rows["project"]))
    axes.set_xlim(0, 1)
    style.share_axis(axes, "x", scope.text(en="share of the money, %", zh="费用占比，%"))
    labels = dict(zip(answer.parts["meaning"]["part"], answer.parts["meaning"]["label"], strict=True))
    start = rows["cost"] * 0.0
    bars: list[Rectangle] = []
    named = []
    for part, (colour, hatch) in LOOKS.items():
        share = rows[part] / rows["cost"]
        drawn = axes.barh(
            range(len(rows)), share, left=start, height=0.72, facecolor=colour, edgecolor=colours.PAPER, hatch=hatch, linewidth=0.6
        )  # fmt: skip
        drawn.set_label(part)
        bars += list(drawn)
        if share.iloc[0] > 0:
            text = f"{labels[part]}\n{share.iloc[0]:.0%}"
            named.append(style.Label(float(start.iloc[0] + share.iloc[0] / 2), text, colour))
        start = start + share
    for bar in bars:
        bar.set_in_layout(False)  # within the axes: measuring them all takes longer than drawing them
    for at, cost in enumerate(rows["cost"]):
        style.label_after(axes, 1, at, scope.money(cost))
    _separate(axes)
    style.labels_above(axes, named)
    style.labels_inside(axes, [bar for bar in bars if bar.get_y() > 0], [
        f"{bar.get_width():.0%}" if bar.get_width() >= 0.04 and not bar.get_hatch() else "" for bar in bars if bar.get_y() > 0
    ])  # fmt: skip
    return figure


def _rows(answer: Answer) -> pd.DataFrame:
    """All together, the dearest projects, and the rest; without those that cost nothing."""
    import pandas as pd

    scope = answer.scope
    table = answer.table[answer.table["cost"] > 0] if len(answer.table) else answer.table
    if table.empty:
        return table
    money = ["cost", *LOOKS]
    every = pd.DataFrame([{"project": scope.text(en="all together", zh="合计"), **table[money].sum()}])
    head, tail = table.head(MOST_ROWS), table.iloc[MOST_ROWS:]
    if len(tail) == 1:
        head, tail = table, tail.iloc[:0]
    rest = [{"project": f"{scope.rest} ({len(tail)})", **tail[money].sum()}] if len(tail) else []
    several = [head[["project", *money]], pd.DataFrame(rest)] if len(table) > 1 else []
    return pd.concat([every, *(one for one in several if len(one))], ignore_index=True)


def _separate(axes: Axes) -> None:
    """A line between all together and the projects."""
    if axes.get_ylim()[0] > 1:
        axes.axhline(0.5, color=colours.SOFT, linewidth=0.6)
