"""How long jobs wait before they run, with image caches and without, and whether the caches pay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from runbook.answer import Answer, Scope
from runbook.charts import colours, style

if TYPE_CHECKING:
    import pandas as pd

WAITING = {
    "schedule": ("#E69F00", "//", "调度"),
    "pull": ("#0072B2", "", "拉取镜像"),
    "prepare": ("#56B4E9", "..", "准备"),
    "queue": ("#d9d9d9", "", "排队"),
}
"""Colour, hatch and Chinese name of each phase before the run, from the bottom of the bars up; the queue is on top, because no pod is there yet."""

FACETS = {"image cache": "有镜像缓存", "no image cache": "无镜像缓存"}
MOST_WEEKS = 14
"""Up to so many weeks cells say their share."""
MOST_IMAGES = 15
"""So many images have a bar of their own; the others are one."""


def phases(answer: Answer) -> Figure:
    """Above, the phases before the run stacked by week, p50 beside p95, with the whole start-up as a mark; below, the run."""
    if answer.table.empty:
        return style.nothing(answer)
    scope, table = answer.scope, answer.table
    weeks = sorted(table["week"].unique())
    figure, axes = style.panels(answer, rows=2, columns=2, height=5.4, heights=(3, 1.3), share_x=True)
    for column, (quantile, name) in enumerate({"p50_seconds": "p50", "p95_seconds": "p95"}.items()):
        by_phase = table.pivot(index="week", columns="phase", values=quantile).reindex(weeks)
        upper, lower = axes[column], axes[2 + column]
        _stack(upper, by_phase, scope, labelled=column == 1)
        style.number_axis(upper, "y", scope.text(en=f"{name} before the run, s", zh=f"运行前 {name}，秒"))
        lower.bar(range(len(weeks)), _values(by_phase, "run"), width=0.72, color=colours.SOFT, gid="run")
        style.number_axis(lower, "y", scope.text(en=f"{name} run, s", zh=f"运行 {name}，秒"))
        _week_axis(lower, weeks, scope)
    style.key(axes[0], scope.text(
        en="bars: each phase's own quantile, which do not add up    ◆ schedule, pull and prepare of one pod together",
        zh="柱：各阶段自身的分位数，不可相加    ◆ 同一 Pod 的调度、拉取与准备合计",
    ))  # fmt: skip
    return figure


def _stack(axes: Axes, by_phase: pd.DataFrame, scope: Scope, *, labelled: bool) -> None:
    places = np.arange(len(by_phase))
    base = np.zeros(len(by_phase))
    labels = []
    for phase, (colour, hatch, chinese) in WAITING.items():
        height = _values(by_phase, phase)
        axes.bar(
            places, height, bottom=base, width=0.72, facecolor=colour, edgecolor=colours.PAPER, hatch=hatch, linewidth=0.6,
            label=phase,
        )  # fmt: skip
        labels.append(style.Label(float(base[-1] + height[-1] / 2), scope.text(en=phase, zh=chinese), colour))
        base = base + height
    whole = by_phase["start-up"].to_numpy(float) if "start-up" in by_phase else np.full(len(by_phase), np.nan)
    axes.plot(
        places, whole, linestyle="", marker="D", markersize=6 if len(by_phase) < 20 else 3, color=colours.INK, markeredgecolor=colours.PAPER, label="start-up",
    )  # fmt: skip
    axes.set_ylim(0, 1.08 * max(float(base.max()), float(np.nanmax(whole, initial=0.0)), 1.0))
    axes.set_xlim(-0.7, len(by_phase) - 0.3)
    if labelled:
        style.end_labels(axes, labels)


def _values(by_phase: pd.DataFrame, phase: str) -> np.ndarray[Any, Any]:
    if phase not in by_phase:
        return np.zeros(len(by_phase))
    values: np.ndarray[Any, Any] = np.nan_to_num(by_phase[phase].to_numpy(float))
    return values


def _week_axis(axes: Axes, weeks: Sequence[Any], scope: Scope) -> None:
    """Weeks by their Monday, not more of them named than there is room for."""
    every = max(1, math.ceil(len(weeks) / 8))
    named = range(0, len(weeks), every)
    axes.set_xticks(list(named), [f"{weeks[at]:%m-%d}" for at in named])
    style.name_axis(axes, "x", scope.text(en="week from Monday", zh="周（周一起）"))


def pulls(answer: Answer) -> Figure:
    """How the pulls of a week spread over seconds, in doubling steps: one map with an image cache, one without."""
    if answer.table.empty:
        return style.nothing(answer)
    scope, table = answer.scope, answer.table
    weeks = sorted(table["week"].unique())
    edges = np.array(sorted({*table["from_seconds"], *table["to_seconds"]}))
    highest = float(table["share"].max())
    figure, axes = style.panels(answer, columns=2, height=4.2, share_y=True)
    for facet, (images, chinese) in zip(axes, FACETS.items(), strict=True):
        one = table[table["images"] == images]
        _cells(facet, one, weeks, list(edges[:-1]), highest)
        style.key(
            facet, scope.text(en=f"{images}, n = {one['pods'].sum():,}", zh=f"{chinese}，n = {one['pods'].sum():,}")
        )
        _week_axis(facet, weeks, scope)
        facet.set_xlim(-0.5, len(weeks) - 0.5)
        facet.set_ylim(-0.5, len(edges) - 1.5)
    ticks = [f"{edge:,.0f}" if math.isfinite(edge) else "" for edge in edges]
    axes[0].set_yticks(np.arange(len(edges)) - 0.5, ticks)
    style.name_axis(axes[0], "y", scope.text(en="seconds until all images are there", zh="镜像就绪所需秒数"))
    return figure


def _cells(axes: Axes, table: pd.DataFrame, weeks: Sequence[Any], bins: Sequence[float], highest: float) -> None:
    """A cell a week and bin, the darker the larger its share of the week's pods; few of them say the share."""
    shares = np.zeros((len(bins), len(weeks)))
    for week, start, share in table[["week", "from_seconds", "share"]].itertuples(index=False, name=None):
        shares[bins.index(start), weeks.index(week)] = share
    shaded = np.array([[_rgb(colours.shade(share / highest)) for share in row] for row in shares])
    axes.imshow(shaded, aspect="auto", origin="lower", interpolation="none", gid="shares")
    if len(weeks) > MOST_WEEKS:
        return
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.005:
            ink = colours.ink_on(colours.shade(share / highest))
            axes.text(column, row, f"{share:.0%}", fontsize=style.TEXT, color=ink, ha="center", va="center")


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))


def image_caches(answer: Answer) -> Figure:
    """What each image's cache saved, with its interval, then what all saved, what the caches cost, and the rest."""
    if answer.table.empty:
        return style.nothing(answer)
    scope = answer.scope
    rows = [*_images(answer.table, scope), *_balance(answer, scope)]
    figure, axes = style.figure(answer, height=style.height_of(len(rows)))
    totals = len(answer.parts["balance"])
    for at, (_, amount, _, _) in enumerate(rows):
        colour = colours.BAD if amount < 0 else colours.GOOD
        axes.barh(at, amount, height=0.72, color=colour, alpha=1 if at >= len(rows) - totals else 0.55)
    style.rows(axes, [name for name, *_ in rows])
    style.money_axis(axes, "x", scope, scope.text(en="saved (+) and paid (−)", zh="节省（+）与支出（−）"))
    axes.axhline(len(rows) - totals - 0.5, color=colours.SOFT, linewidth=0.8)
    axes.axvline(0, color=colours.SOFT, linewidth=0.8)
    known = [(at, amount, spread) for at, (_, amount, spread, _) in enumerate(rows) if spread]
    axes.errorbar(
        [amount for _, amount, _ in known], [at for at, *_ in known], xerr=[spread for *_, spread in known],
        linestyle="", color=colours.INK, linewidth=1, capsize=2.5,
    )  # fmt: skip
    reach = max(abs(amount) + spread for _, amount, spread, _ in rows) or 1.0
    low = min(0.0, *(amount - spread for _, amount, spread, _ in rows))
    axes.set_xlim(low - (0.05 * reach if low else 0), 1.45 * reach)
    for at, (_, amount, spread, text) in enumerate(rows):
        style.label_after(axes, max(amount + spread, 0.0), at, text)
    return figure


Row = tuple[str, float, float, str]
"""Name, amount (0 where it is not known), half of its interval, and what stands at the end of its bar."""


def _images(table: pd.DataFrame, scope: Scope) -> list[Row]:
    def row(name: str, one: pd.DataFrame) -> Row:
        starts = int(one["cached"].sum())
        each = float(one["seconds_saved"].sum()) / starts
        saved = float(one["saved"].sum(min_count=1))
        return name, np.nan_to_num(saved), _spread(one), scope.text(
            en=f"{scope.money(saved)}: {starts:,} starts, {each:.0f} s each",
            zh=f"{scope.money(saved)}：{starts:,} 次启动，每次 {each:.0f} 秒",
        )  # fmt: skip

    shown = table.head(MOST_IMAGES)
    rows = [row(name, shown[shown["image"] == name]) for name in shown["image"]]
    rest = table.iloc[MOST_IMAGES:]
    if len(rest):
        rows.append(row(scope.text(en=f"{len(rest):,} more images", zh=f"其余 {len(rest):,} 个镜像"), rest))
    return rows


def _spread(table: pd.DataFrame) -> float:
    """Half of the interval of all these savings together."""
    return math.sqrt(float((((table["saved_high"] - table["saved_low"]) / 2) ** 2).sum()))


def _balance(answer: Answer, scope: Scope) -> list[Row]:
    names = {
        "saved": ("all images", "全部镜像"),
        "image caches": ("the caches cost", "缓存费用"),
        "net": ("net", "净额"),
    }
    rows = []
    for line, cost in answer.parts["balance"].itertuples(index=False, name=None):
        spread = 0.0 if line == "image caches" or math.isnan(cost) else _spread(answer.table)
        rows.append((scope.text(en=names[line][0], zh=names[line][1]), np.nan_to_num(cost), spread, scope.money(cost)))
    return rows
