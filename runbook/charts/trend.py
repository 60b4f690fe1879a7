"""The cost of each day, stacked by project, beside what it would have been on demand, and what is expected next."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from runbook.answer import Answer
from runbook.charts import style
from runbook.charts.colours import INK, REST, SOFT, look_of
from runbook.charts.style import Label


def daily(answer: Answer) -> Figure:
    """Stacked bars by day, the dearest project at the bottom; a line for the on-demand cost; a band for the forecast.

    Days whose bill is not final are hatched. Layers are named at the right edge.
    """
    if answer.table.empty:
        return style.nothing(answer)
    scope, days, forecast = answer.scope, answer.parts["days"], answer.parts["forecast"]
    figure, axes = style.figure(answer, height=3.3)
    wide = answer.table.pivot(index="day", columns="project", values="cost")
    bottom = np.zeros(len(wide))
    labels = []
    for project in dict.fromkeys(answer.table["project"]):
        heights = wide[project].to_numpy()
        look = look_of(project, scope)
        axes.bar(wide.index, heights, 0.86, bottom=bottom, label=project, **look.bar)
        bottom = bottom + heights
        labels.append((project, look.colour))
    axes.step(
        days["day"],
        days["on_demand"],
        where="mid",
        color=INK,
        linewidth=1.3,
        label=scope.text(en="on demand", zh="按量付费"),
    )
    if len(forecast):
        _band(axes, forecast)
    _limits(axes, days, forecast)
    style.money_axis(axes, "y", scope, scope.text(en="cost of a day", zh="每日成本"))
    style.date_axis(axes, scope)
    _open_bill(axes, answer)
    _name_layers(axes, labels, answer)
    return figure


def _band(axes: Axes, forecast: pd.DataFrame) -> None:
    axes.fill_between(
        forecast["day"], forecast["low"], forecast["high"], step="mid", color=REST, alpha=0.6, linewidth=0
    )
    axes.step(forecast["day"], forecast["expected"], where="mid", color=SOFT, linewidth=1.3, linestyle=(0, (4, 2)))


def _limits(axes: Axes, days: pd.DataFrame, forecast: pd.DataFrame) -> None:
    half = pd.Timedelta(hours=14)
    last = forecast["day"].iloc[-1] if len(forecast) else days["day"].iloc[-1]
    axes.set_xlim(days["day"].iloc[0] - half, last + half)
    tops = [days["cost"].max(), days["on_demand"].max(), forecast["high"].max() if len(forecast) else 0.0]
    axes.set_ylim(0, (max(tops) or 1.0) * 1.12)


def _open_bill(axes: Axes, answer: Answer) -> None:
    """Hatch the days at the end whose bill is not final."""
    days = answer.parts["days"]
    still_open = days[~days["final"].astype(bool)]
    if len(still_open):
        half = pd.Timedelta(hours=12)
        style.not_final(axes, still_open["day"].iloc[0] - half, still_open["day"].iloc[-1] + half, answer.scope)


def _name_layers(axes: Axes, labels: list[tuple[str, str]], answer: Answer) -> None:
    """Names from the bottom layer up, spread over the height: the layers of the last day may be too thin to point at."""
    scope, forecast = answer.scope, answer.parts["forecast"]
    top = axes.get_ylim()[1]
    named = [Label(top * (0.03 + 0.1 * row), project, colour) for row, (project, colour) in enumerate(labels)]
    more = [Label(top * 0.99, scope.text(en="line: on demand", zh="线：按量付费"), INK)]
    if len(forecast):
        more.append(Label(top * 0.9, scope.text(en="grey: expected, 80 %", zh="灰：预计，80 %"), REST))
    style.end_labels(axes, [*named, *more])
