"""Who is just above a rung: what a small trim of the request would save a month."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from matplotlib.figure import Figure

from runbook.answer import Answer, Scope
from runbook.charts import colours, style

MOST_ROWS = 15
"""So many jobs are drawn: those that would save most. The CSV has them all."""

TOO_SMALL, FITS = "too small", "fits"
"""Verdicts of the table: the peak that was measured does not fit into the trimmed request; it does. Else nobody measured."""


def trims(answer: Answer) -> Figure:
    """A bar a job with what it would save a month, the smallest trim on top; beside it the trim and the next rung."""
    table = answer.table
    usable = table[(table["verdict"] != TOO_SMALL) & (table["saves_a_month"] > 0)] if len(table) else table
    if usable.empty:
        return style.nothing(answer)
    scope = answer.scope
    drawn = usable.nlargest(MOST_ROWS, "saves_a_month").sort_values("less_share", kind="stable").reset_index(drop=True)
    figure, axes = style.figure(answer, height=style.height_of(len(drawn)) + 0.3)
    jobs = drawn.to_dict("records")
    style.rows(
        axes, [f"{style.short(job['project'], 28)} · {style.short(job['job_name'], 20)}" for job in jobs], most=60
    )
    style.money_axis(axes, "x", scope, scope.text(en="saved a month", zh="每月节省"))
    bars = axes.barh(range(len(drawn)), drawn["saves_a_month"], height=0.6, color=colours.GOOD)
    axes.set_xlim(0, float(drawn["saves_a_month"].max()) * 1.02)
    for at, (bar, job) in enumerate(zip(bars, jobs, strict=True)):
        if job["verdict"] != FITS:
            bar.set(facecolor=colours.SPOT, edgecolor=colours.PAPER, hatch="//")
        style.label_after(axes, job["saves_a_month"], at, _what(job, scope))
    style.key(axes, scope.text(
        en="smallest trim on top    ■ the measured peak fits    ▨ use not measured: look before you trim",
        zh="减少量最小者在上    ■ 实测峰值可容纳    ▨ 用量未测：调整前请先确认",
    ))  # fmt: skip
    return figure


def _what(job: Mapping[Hashable, Any], scope: Scope) -> str:
    """`CNY 12.30: 0.3 GiB less → 4 vCPU / 8 GiB`."""
    losses = ((job["less_vcpu"], "vCPU"), (job["less_memory_gib"], "GiB"))
    less = " + ".join(f"{amount:.3g} {unit}" for amount, unit in losses if amount)
    spec = f"{job['next_vcpu']:g} vCPU / {job['next_memory_gib']:g} GiB"
    return f"{scope.money(job['saves_a_month'])}: " + scope.text(en=f"{less} less → {spec}", zh=f"减少 {less} → {spec}")
