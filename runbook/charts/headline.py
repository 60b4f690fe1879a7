"""The five numbers of the review, side by side: each large, with what it was before, and its days as a small line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from runbook.answer import Answer
from runbook.charts import style
from runbook.charts.colours import BAD, GOOD, INK, SOFT

if TYPE_CHECKING:
    import pandas as pd

HEIGHT = 2.05
NUMBER = 17.0
"""Points of the large numbers."""

_LESS_IS_GOOD = ("spend", "change", "pipeline", "interruptions")


def strip(answer: Answer) -> Figure:
    """One panel a number: label, number, delta in a colour and with a sign, and the line of its days with its last value."""
    figure, every = style.panels(answer, columns=max(len(answer.table), 1), height=HEIGHT)
    days = answer.parts["days"]
    for axes, (_, row) in zip(every, answer.table.iterrows(), strict=True):
        _panel(axes, row, days[row["number"]], answer)
    return figure


def _panel(axes: Axes, row: pd.Series, series: pd.Series, answer: Answer) -> None:
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
    room = (axes.get_figure(root=True).get_figwidth() / 5 - 0.2) * 72  # type: ignore[union-attr]
    delta = style.wrap(str(row["delta_shown"]), room, style.TEXT)
    for y, text, size, colour, weight in (
        (1.04, style.wrap(str(row["label"]), room, style.SUBTITLE), style.SUBTITLE, SOFT, "normal"),
        (0.79, str(row["shown"]), NUMBER, INK, "bold"),
        (0.56, delta, style.TEXT, _colour(row), "normal"),
    ):
        axes.text(
            0, y, text, transform=axes.transAxes, fontsize=size, color=colour, fontweight=weight, va="top", ha="left"
        )
    _line(axes, series, row)


def _colour(row: pd.Series) -> str:
    """Better or worse than before; the sign says the same without colour."""
    delta = row["delta"]
    if row["number"] == "spend":
        budget = row["budget"]
        return SOFT if np.isnan(budget) else BAD if row["value"] > budget else GOOD
    if np.isnan(delta) or delta == 0:
        return SOFT
    return GOOD if (delta < 0) == (row["number"] in _LESS_IS_GOOD) else BAD


def _line(axes: Axes, series: pd.Series, row: pd.Series) -> None:
    """The days in the lower third of the panel; a gap where a day has no value."""
    values = series.to_numpy(dtype=float)
    known = np.flatnonzero(~np.isnan(values))
    axes.set_xlim(-0.02 * len(values), len(values) * 1.04)
    if not len(known):
        axes.set_ylim(0, 1)
        return
    axes.plot(np.arange(len(values)), values, color=SOFT, linewidth=1.2, label=str(row["number"]))
    axes.scatter(known[-1:], values[known[-1:]], s=14, color=INK, zorder=3)
    low, high = min(0.0, float(np.nanmin(values))), float(np.nanmax(values))
    span = (high - low) or 1.0
    axes.axhline(0, color=SOFT, linewidth=0.5)
    axes.set_ylim(low - 0.05 * span, low + span * 3.4)
