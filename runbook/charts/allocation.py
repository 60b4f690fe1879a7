"""How much of the money is somebody's: one bar of four parts, and the worst of what is nobody's below it."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from runbook.answer import Answer
from runbook.charts import style
from runbook.charts.colours import INK, LADDER, NOT_ALLOCATED, PAPER, REST

_COLOURS = {"job": LADDER[0], "project": LADDER[2], "nobody": NOT_ALLOCATED, "other": REST}
_HATCHES = {"nobody": "xx"}

MOST = 6
"""Kinds of pods without a project that are drawn."""


def bar(answer: Answer) -> Figure:
    """One bar of the whole spend: project and job known, project known, not allocated, shared; and the worst of the third."""
    if answer.table.empty:
        return style.nothing(answer)
    table, scope, worst = answer.table, answer.scope, answer.parts["worst"].head(MOST)
    rows = len(worst)
    figure, every = style.panels(
        answer, rows=2 if rows else 1, height=1.15 + (0.45 + 0.27 * rows if rows else 0), heights=(1.0, 0.35 + 0.27 * rows) if rows else None
    )  # fmt: skip
    axes, left = every[0], 0.0
    bars = []
    for kind, cost in zip(table["kind"], table["cost"], strict=True):
        (made,) = axes.barh(
            [0],
            [cost],
            0.6,
            left=left,
            facecolor=_COLOURS[kind],
            edgecolor=PAPER,
            hatch=_HATCHES.get(kind, ""),
            label=kind,
        )
        bars.append(made)
        left += cost
    axes.set_ylim(-0.9, 0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlim(0, left or 1.0)
    style.money_axis(axes, "x", scope, scope.text(en="spend", zh="支出"))
    texts = [f"{label} {share:.1%}" for label, share in zip(table["label"], table["share"], strict=True)]
    _name(axes, bars, texts)
    if rows:
        _worst(every[1], answer)
    return figure


def _name(axes, bars, texts) -> None:  # type: ignore[no-untyped-def]
    """Names in the bars where they fit, and all of them that do not in a line below."""
    inside = {text.get_text() for text in style.labels_inside(axes, bars, texts)}
    outside = [text for text, made in zip(texts, bars, strict=True) if text not in inside and made.get_width() > 0]
    if outside:
        axes.text(
            1,
            0.02,
            "    ".join(outside),
            transform=axes.transAxes,
            fontsize=style.TEXT,
            color=INK,
            ha="right",
            va="bottom",
        )


def _worst(axes, answer: Answer) -> None:  # type: ignore[no-untyped-def]
    worst, scope = answer.parts["worst"].head(MOST), answer.scope
    names = [
        " · ".join(str(part) for part in pair if isinstance(part, str)) or "?"
        for pair in zip(worst["runner_name"], worst["image"], strict=True)
    ]
    costs = worst["cost"].to_numpy()
    axes.barh(np.arange(len(worst)), costs, 0.6, color=NOT_ALLOCATED, hatch="xx", edgecolor=PAPER)
    for row, (cost, pods) in enumerate(zip(costs, worst["pods"], strict=True)):
        style.label_after(axes, cost, row, f"{cost:,.2f}   {pods:,} {scope.text(en='pods', zh='个 Pod')}")
    style.rows(axes, names)
    axes.set_xlim(0, (float(costs.max()) or 1.0) * 1.25)
    style.money_axis(
        axes, "x", scope, scope.text(en="not allocated, by runner and image", zh="未归属，按 Runner 和镜像")
    )
