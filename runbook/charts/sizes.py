"""The ladder of ECI's specs: what is bought on each rung, and from where it was rounded up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from runbook.answer import Answer, Scope
from runbook.charts import colours, style

if TYPE_CHECKING:
    import pandas as pd

MOST_ASKED, MOST_LABELS = 25, 12
"""So many requested sizes are drawn, and so many rungs labelled: the dearest. The CSV has them all."""

_OCTAVES = 4.0
"""Doublings that an axis shows at least."""

_SMALLEST, _LARGEST = 40.0, 650.0
"""Areas of the marks for the fewest and the most pod-hours, in square points."""


def ladder(answer: Answer) -> Figure:
    """A square on each rung that was billed (area: pod-hours, shade: money), a hollow dot for what was asked, an arrow between."""
    if answer.table.empty:
        return style.nothing(answer)
    scope, table = answer.scope, answer.table
    asked = answer.parts["asked"].head(MOST_ASKED)
    figure, axes = style.figure(answer, height=4.9)
    rungs = answer.parts["rungs"]
    memory = scope.text(en="memory, GiB", zh="内存，GiB")
    _scale(axes, "x", "vCPU", [*table["vcpu"], *asked["requested_vcpu"]], rungs["vcpu"])
    _scale(axes, "y", memory, [*table["memory_gib"], *asked["requested_memory_gib"]], rungs["memory_gib"])
    axes.scatter(
        rungs["vcpu"], rungs["memory_gib"], marker="s", s=14, facecolor=colours.PAPER, edgecolor=colours.REST,
        linewidth=0.8, gid="rungs",
    )  # fmt: skip
    areas = _areas(table["pod_hours"])
    most = float(table["cost"].max()) or 1.0  # NaN where no cost is known, and then no square has a shade
    axes.scatter(
        table["vcpu"], table["memory_gib"], marker="s", s=areas, gid="billed", edgecolor=colours.INK, linewidth=0.8, zorder=3,
        facecolor=[colours.shade(0.12 + 0.88 * cost / most) if cost == cost else colours.UNKNOWN for cost in table["cost"]],
    )  # fmt: skip
    halves = dict(zip(table[["vcpu", "memory_gib"]].itertuples(index=False, name=None), areas**0.5 / 2, strict=True))
    dots = _arrows(axes, asked, halves)
    style.key(axes, scope.text(
        en="■ billed: area = pod-hours, shade = money    ○ asked for → billed    □ sizes on sale in these regions",
        zh="■ 计费规格：面积 = Pod 小时，深浅 = 费用    ○ 申请量 → 计费规格    □ 所在地域可售规格",
    ))  # fmt: skip
    columns = ["vcpu", "memory_gib", "cost", "unpriced_pods", "pod_hours"]
    labels = [
        style.Spot(vcpu, gib, _label(cost, bool(unpriced), hours, scope), halves[vcpu, gib] + 1)
        for vcpu, gib, cost, unpriced, hours in table[columns].head(MOST_LABELS).itertuples(index=False, name=None)
    ]
    style.labels_beside(axes, labels, avoid=dots)
    return figure


def _label(cost: float, more: bool, hours: float, scope: Scope) -> str:
    """`CNY 9.00` and the hours; `≥` where the cost of some of its pods is not known, and no number where that of none is."""
    unknown = scope.text(en="cost unknown", zh="费用未知")
    money = f"{'≥ ' * more}{scope.money(cost)}" if cost == cost else unknown
    return f"{money}\n{hours:,.1f} {scope.text(en='h', zh='小时')}"


def _scale(axes: Axes, side: style.Side, name: str, sizes: list[float], on_sale: pd.Series) -> None:
    """An axis of sizes by powers of two, with a tick for each power that is on sale, around the sizes that are drawn."""
    known = [size for size in sizes if size > 0]
    low, high = min(known), max(known)
    style.name_axis(axes, side, name)
    axis, limit = (axes.xaxis, axes.set_xlim) if side == "x" else (axes.yaxis, axes.set_ylim)
    (axes.set_xscale if side == "x" else axes.set_yscale)("log", base=2)
    margin = max(0.9, (_OCTAVES - float(np.log2(high / low))) / 2)
    limit(low / 2**margin, high * 2**margin)
    powers = [size for size in sorted(set(on_sale)) if np.log2(size) % 1 == 0 or side == "x"]
    axis.set_major_locator(FixedLocator(powers))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())
    axes.grid(True, axis=side, color=colours.GRID, linewidth=0.5)


def _areas(hours: pd.Series) -> np.ndarray:
    most = float(hours.max()) or 1.0
    return np.maximum(_LARGEST * hours.to_numpy() / most, _SMALLEST)


def _arrows(axes: Axes, asked: pd.DataFrame, halves: Mapping[tuple[float, float], float]) -> list[tuple[float, float]]:
    """Draw what was asked for, and the way to the rung that was billed for it; where the dots are.

    `halves` is half the width of each rung's square in points: an arrow ends at its edge.
    """
    dots = []
    columns = ["requested_vcpu", "requested_memory_gib", "billed_vcpu", "billed_memory_gib"]
    for vcpu, memory, *billed in asked[columns].itertuples(index=False, name=None):
        rung = (billed[0], billed[1])
        if min(vcpu, memory) <= 0 or (vcpu, memory) == rung:
            continue
        dots.append((vcpu, memory))
        arrow = {"arrowstyle": "-|>", "color": colours.BAD, "linewidth": 0.9, "shrinkA": 3, "shrinkB": halves[rung]}
        axes.annotate("", rung, xytext=(vcpu, memory), arrowprops=arrow, zorder=2)
    axes.scatter(
        [x for x, _ in dots], [y for _, y in dots], marker="o", s=22, facecolor=colours.PAPER, edgecolor=colours.BAD,
        linewidth=1.2, zorder=4, gid="asked",
    )  # fmt: skip
    return dots
