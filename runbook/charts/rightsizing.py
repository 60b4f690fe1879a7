"""Right sizes: what runs used against what is asked, billed and recommended; the replay; what a larger size costs a run."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from runbook.answer import Answer, Scope
from runbook.charts import colours, style

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 20
"""So many jobs are drawn: those that come first in the table. The CSV has them all."""
MOST_FRONTIERS = 8

NO_ADVICE, LARGER = "no advice", "larger"
"""Verdicts of the table that are drawn in another way."""

_PER_ROW = 3
_PANELS = (("memory", "_gib", "memory, GiB", "内存，GiB"), ("vcpu", "", "vCPU", "vCPU"))

Row = Mapping[Hashable, Any]


def dumbbell(answer: Answer) -> Figure:
    """A row a job: a grey line from the median to p99 of its runs' peaks, what is asked, billed and recommended; beside it the money."""
    if answer.table.empty:
        return style.nothing(answer)
    scope, drawn = answer.scope, answer.table.head(MOST_ROWS)
    rows = drawn.to_dict("records")
    figure, (memory, vcpu, text) = style.panels(
        answer, columns=3, height=style.height_of(len(rows)) + 0.5, widths=(5, 4, 4.6), share_y=True
    )
    for axes, (name, suffix, english, chinese) in zip((memory, vcpu), _PANELS, strict=True):
        _sizes(axes, rows, name, suffix)
        style.name_axis(axes, "x", scope.text(en=english, zh=chinese))
        _powers_of_two(axes, drawn, name, suffix)
    style.rows(memory, [_job(row) for row in rows])
    vcpu.tick_params(axis="y", labelleft=False, length=0)
    vcpu.spines["left"].set_visible(False)
    _words(text, rows, scope)
    style.key(memory, scope.text(
        en="━ p50 to p99 of the runs' peaks    ○ asked    □ billed    ● recommended",
        zh="━ 运行峰值的 p50 至 p99    ○ 申请    □ 计费    ● 推荐",
    ))  # fmt: skip
    drawn_of = ""
    if len(rows) < len(answer.table):
        drawn_of = scope.text(
            en=f"{len(rows)} of {len(answer.table):,} jobs\n", zh=f"{len(answer.table):,} 个作业中的 {len(rows)} 个\n"
        )
    saved = scope.text(en="saved a month; runs over", zh="每月节省；超限运行")
    style.key(text, drawn_of + saved)
    return figure


def _sizes(axes: Axes, rows: Sequence[Row], name: str, suffix: str) -> None:
    for at, row in enumerate(rows):
        low, high = row[f"{name}_p50"], row[f"{name}_p99"]
        if _known(low):
            axes.plot([low, high], [at, at], color=colours.REST, linewidth=5, solid_capstyle="butt", gid=f"used-{name}")
        asked, billed, new = (row[f"{kind}_{'vcpu' if name == 'vcpu' else 'memory_gib'}"] for kind in ("requested", "billed", "recommended"))  # fmt: skip
        _mark(axes, billed, at, "s", 52, colours.PAPER, colours.INK, f"billed-{name}")
        _mark(axes, asked, at, "o", 30, colours.PAPER, colours.INK, f"asked-{name}")
        colour = colours.BAD if row["verdict"] == LARGER else colours.GOOD
        _mark(axes, new, at, "o", 26, colour, colour, f"recommended-{name}")


def _mark(axes: Axes, size: Any, at: int, marker: str, area: float, face: str, edge: str, gid: str) -> None:
    if _known(size):
        axes.scatter(
            [size], [at], marker=marker, s=area, facecolor=face, edgecolor=edge, linewidth=1.0, zorder=3, gid=gid
        )


def _powers_of_two(axes: Axes, drawn: pd.DataFrame, name: str, suffix: str) -> None:
    """A scale by powers of two around all sizes that are drawn: 0.5 and 64 GiB stand in one chart."""
    names = [
        f"{name}_p50",
        f"{name}_p99",
        *(f"{kind}_{name}{suffix}" for kind in ("requested", "billed", "recommended")),
    ]
    sizes = [float(size) for size in drawn[names].to_numpy(float, na_value=math.nan).ravel() if size > 0]
    low, high = min(sizes, default=1.0), max(sizes, default=2.0)
    axes.set_xscale("log", base=2)
    axes.set_xlim(low / 2**0.4, high * 2**0.4)
    exponents = range(math.ceil(math.log2(low) - 0.4), math.floor(math.log2(high) + 0.4) + 1)
    step = max(1, math.ceil(len(exponents) / (8 if name == "memory" else 5)))
    axes.xaxis.set_major_locator(FixedLocator([2.0**exponent for exponent in exponents][::step]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.grid(True, axis="x", color=colours.GRID, linewidth=0.6)


def _words(axes: Axes, rows: Sequence[Row], scope: Scope) -> None:
    """What each job would save and risk, or why there is no advice."""
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    for at, row in enumerate(rows):
        advised = row["verdict"] != NO_ADVICE
        said = _saving(row, scope) if advised else str(row["why"])
        axes.text(0, at, style.short(said, 46), va="center", ha="left", fontsize=style.TEXT, color=colours.INK if advised else colours.SOFT)  # fmt: skip


def _saving(row: Row, scope: Scope) -> str:
    """`CNY 12.00; 0 of 210 (≤ 1.7%)`."""
    money = row["saves_a_month"]
    if row["verdict"] == "keep":
        said = scope.text(en="stays", zh="保持")
    elif _known(money):
        said = scope.money(money)
    elif _known(row["saves_share"]):
        said = scope.text(en=f"{row['saves_share']:.0%} of its cost", zh=f"其费用的 {row['saves_share']:.0%}")
    else:
        said = scope.text(en="saving not known", zh="节省未知")
    risk = scope.text(
        en=f"{row['hits']:.0f} of {row['measured']:,.0f} (≤ {row['hits_high']:.1%})",
        zh=f"{row['measured']:,.0f} 次中 {row['hits']:.0f} 次（≤ {row['hits_high']:.1%}）",
    )
    return said + scope.text(en=f"; {risk}", zh=f"；{risk}")


def backtest(answer: Answer) -> Figure:
    """A panel a job: the cumulative share of runs by their peak of memory, with what the count allows, and the two sizes as rules."""
    if answer.table.empty:
        return style.nothing(answer)
    scope = answer.scope
    jobs = [group for _, group in answer.table.groupby(["project", "job_name", "job_stage"], sort=False)]
    columns = min(len(jobs), _PER_ROW)
    count = math.ceil(len(jobs) / columns)
    figure, every = style.panels(answer, rows=count, columns=columns, height=2.7 * count + 0.2)
    for axes, job in zip(every, jobs, strict=False):
        _cumulative(axes, job, scope)
    for axes in every[len(jobs) :]:
        axes.set_axis_off()
    return figure


def _cumulative(axes: Axes, job: pd.DataFrame, scope: Scope) -> None:
    first: Row = job.iloc[0].to_dict()
    peaks = [0.0, *job["memory_gib"]]
    now, new = first["billed_memory_gib"], first["recommended_memory_gib"]
    right = max(peaks[-1], now if _known(now) else 0.0, new) * 1.06
    low, high = ([0.0, *job[name], job[name].iloc[-1]] for name in ("share_low", "share_high"))
    low[0], high[0] = 0.0, 0.0
    axes.fill_between(
        [*peaks, right], low, high, step="post", color=colours.REST, alpha=0.6, linewidth=0, gid="allowed"
    )
    axes.step([*peaks, right], [0.0, *job["share"], 1.0], where="post", color=colours.INK, linewidth=1.4, gid="share")
    if _known(now):
        axes.axvline(now, color=colours.SOFT, linewidth=1.2, linestyle=(0, (4, 2)), gid="billed")
        _rule(axes, now, scope.text(en="billed", zh="计费"), colours.SOFT, right)
    axes.axvline(new, color=colours.GOOD, linewidth=1.6, gid="recommended")
    _rule(axes, new, scope.text(en="recommended", zh="推荐"), colours.GOOD, right, level=0.24)
    axes.set_xlim(0, right)
    axes.set_ylim(0, 1.02)
    style.share_axis(axes, "y", scope.text(en="share of runs", zh="运行占比"))
    style.number_axis(axes, "x", scope.text(en="peak of memory, GiB", zh="内存峰值，GiB"))
    title = f"{style.short(_job(first), 42)}\n" + scope.text(
        en=f"{first['hits']:,.0f} of {first['measured']:,.0f} over (≤ {first['hits_high']:.1%})",
        zh=f"{first['measured']:,.0f} 次中 {first['hits']:,.0f} 次超限（≤ {first['hits_high']:.1%}）",
    )
    axes.set_title(title, loc="left", fontsize=style.TEXT, color=colours.INK)


def _rule(axes: Axes, size: float, name: str, colour: str, right: float, *, level: float = 0.08) -> None:
    """The name of a rule beside it, on the side where there is room."""
    leftward = size > 0.66 * right
    axes.annotate(
        f"{name} {size:g}", (size, level), xytext=(-4 if leftward else 4, 0), textcoords="offset points",
        ha="right" if leftward else "left", va="center", fontsize=style.TEXT, color=colour,
        bbox={"facecolor": colours.PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 1},
    )  # fmt: skip


def frontier(answer: Answer) -> Figure:
    """A line a job through the sizes that it ran on: how long a run took, and what it cost."""
    if answer.table.empty:
        return style.nothing(answer)
    scope = answer.scope
    groups = [group for _, group in answer.table.groupby(["project", "job_name", "job_stage", "spot"], sort=False)]
    groups = sorted(groups, key=lambda group: -float((group["cost"] * group["runs"]).sum()))[:MOST_FRONTIERS]
    figure, axes = style.figure(answer, height=4.6)
    spots = []
    for group in groups:
        look = colours.look_of(str(group["project"].iloc[0]), scope)
        axes.plot(group["seconds"] / 60, group["cost"], gid="frontier", **look.line)
        for number, row in enumerate(group.to_dict("records")):
            name = f"{row['vcpu']:g} / {row['memory_gib']:g}"
            if not number:
                name = f"{row['job_name']}{' (spot)' if row['spot'] else ''}\n{name}"
            spots.append(style.Spot(row["seconds"] / 60, row["cost"], name))
    style.number_axis(axes, "x", scope.text(en="mean duration of a run, minutes", zh="单次运行平均时长，分钟"))
    style.money_axis(axes, "y", scope, scope.text(en="mean cost of a run", zh="单次运行平均费用"))
    axes.margins(0.15)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    style.key(axes, scope.text(en="each mark: vCPU / GiB billed; down is cheaper, left is quicker", zh="每个标记：计费 vCPU / GiB；越低越便宜，越左越快"))  # fmt: skip
    style.labels_beside(axes, spots)
    return figure


def _job(row: Row) -> str:
    return f"{style.short(str(row['project']), 24)} · {style.short(str(row['job_name']), 17)}"


def _known(value: Any) -> bool:
    return value is not None and value == value
