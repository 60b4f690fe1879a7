"""The charts of sizes show the numbers of their answers, read back from the figure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from runbook.answer import Answer
from runbook.charts import colours, style
from runbook.charts import sizes as draw_sizes
from runbook.charts import trims as draw_trims
from runbook.charts import waste as draw_waste
from runbook.cost import sizes, trims, waste
from tests.cost.priced_pods import NOON, SCOPE, frame, pod

SMALL = {"requested_vcpu": 2.0, "requested_memory_gib": 4.0, "billed_vcpu": 2.0, "billed_memory_gib": 4.0}
LARGE = {"requested_vcpu": 3.25, "requested_memory_gib": 8.3, "billed_vcpu": 4.0, "billed_memory_gib": 10.0}
MEASURED = {
    "used_vcpu_peak": 1.5, "used_vcpu_mean": 1.0, "used_memory_peak_gib": 4.0, "used_memory_mean_gib": 3.0, "used_samples": 30,
}  # fmt: skip


def some(projects: int) -> list[dict[str, Any]]:
    """Two pods a project, the first project the dearest: one on its rung, one rounded up."""
    pods = []
    for number in range(projects):
        cost = {
            "effective_cost": float(projects - number),
            "vcpu_cost": (projects - number) * 0.8,
            "memory_cost": (projects - number) * 0.2,
        }
        values = {"project_path": f"grp/p{number:03}", "running_at": NOON + timedelta(seconds=60), **cost}
        pods += [
            pod(2 * number, **SMALL, **values, **MEASURED), pod(2 * number + 1, **LARGE, **values, job_name=f"build {number}"),
        ]  # fmt: skip
    return pods


def marks(figure: Figure, gid: str) -> PathCollection:
    """The marks of the ladder with this id."""
    return next(one for one in figure.axes[0].collections if one.get_gid() == gid)  # type: ignore[return-value]


# -- the ladder -------------------------------------------------------------------------------------------------------


def test_ladder_shows_every_rung() -> None:
    """A square at each billed size, its area in proportion to pod-hours, darker for more money, with its numbers beside it."""
    pods = [pod(1, **SMALL, seconds=3600.0, effective_cost=1.0), pod(2, **LARGE, seconds=7200.0, effective_cost=9.0)]
    figure = draw_sizes.ladder(sizes.ladder(frame(*pods), SCOPE))
    squares = marks(figure, "billed")
    assert squares.get_offsets().tolist() == [[4, 10], [2, 4]]
    areas = squares.get_sizes()
    assert areas[0] / areas[1] == pytest.approx(2.0)
    shades = [colours.luminance(colours_of(one)) for one in squares.get_facecolor()]
    assert shades[0] < shades[1]
    assert {"CNY 9.00\n2.0 h", "CNY 1.00\n1.0 h"} <= set(style.words(figure))


def test_ladder_shows_what_was_asked_for() -> None:
    """A hollow dot where a request was no rung, and an arrow from it to the rung; none for a request that is one."""
    figure = draw_sizes.ladder(sizes.ladder(frame(pod(1, **SMALL), pod(2, **LARGE)), SCOPE))
    assert marks(figure, "asked").get_offsets().tolist() == [[3.25, 8.3]]
    (arrow,) = [text for text in figure.axes[0].texts if getattr(text, "arrow_patch", None) is not None]
    assert arrow.xy == (4, 10) and arrow.xyann == (3.25, 8.3)  # type: ignore[attr-defined]


def test_ladder_shows_what_is_on_sale() -> None:
    """Every size that is sold in the region is on the grid."""
    answer = sizes.ladder(frame(pod(1, **SMALL)), SCOPE)
    grid = marks(draw_sizes.ladder(answer), "rungs").get_offsets().tolist()
    assert grid == answer.parts["rungs"][["vcpu", "memory_gib"]].values.tolist()
    assert [4, 10] in grid


def test_ladder_has_no_silent_zero() -> None:
    """A rung of which no pod's cost is known says so; where only some are not, the money is a lower bound."""
    unknown = {"effective_cost": None, "cost_low": None, "cost_high": None}
    pods = [pod(1, **SMALL, **unknown), pod(2, **LARGE, **unknown), pod(3, **LARGE, effective_cost=9.0)]
    figure = draw_sizes.ladder(sizes.ladder(frame(*pods), SCOPE))
    assert {"cost unknown\n0.2 h", "≥ CNY 9.00\n0.3 h"} <= set(style.words(figure))
    assert colours_of(marks(figure, "billed").get_facecolor()[1]) == colours.UNKNOWN


# -- waste ------------------------------------------------------------------------------------------------------------


def test_waste_bars_are_the_shares() -> None:
    """Each bar is 100 %, its parts are the answer's shares, and its money stands at its end."""
    answer = waste.waste(frame(*some(3)), SCOPE)
    figure = draw_waste.waste(answer)
    (axes,) = figure.axes
    for part in draw_waste.LOOKS:
        bars = next(one for one in axes.containers if one.get_label() == part)
        widths = [bar.get_width() for bar in bars]
        assert widths[1:] == pytest.approx((answer.table[part] / answer.table["cost"]).tolist())
        assert widths[0] == pytest.approx(answer.table[part].sum() / answer.table["cost"].sum())
    ends = [bar.get_x() + bar.get_width() for bar in axes.containers[-1]]
    assert ends == pytest.approx([1, 1, 1, 1])
    words = style.words(figure)
    assert [word for word in words if word in ("CNY 12.00", "CNY 6.00", "CNY 4.00", "CNY 2.00")]
    assert {"all together", "grp/p000", "grp/p001", "grp/p002"} <= set(words)


def test_waste_names_each_part() -> None:
    """Every part that there is is named above the bars with its share, and no other; the look of each is its own."""
    figure = draw_waste.waste(waste.waste(frame(*some(2)), SCOPE))
    named = [text.get_text().split("\n") for text in figure.axes[0].texts if "\n" in text.get_text()]
    assert [name for name, _ in named] == ["used", "headroom", "over-ask", "use not measured", "rounding", "start-up"]
    assert sum(int(share.rstrip("%")) for _, share in named) == pytest.approx(100, abs=3)
    assert len(set(draw_waste.LOOKS.values())) == len(draw_waste.LOOKS) == len(waste.PARTS)
    assert list(draw_waste.LOOKS) == list(waste.PARTS)


def test_waste_of_many_projects() -> None:
    """Beyond fifteen projects the others are one bar, and no money is lost."""
    answer = waste.waste(frame(*some(100)), SCOPE)
    words = style.words(draw_waste.waste(answer))
    assert "rest (85)" in words
    rest = SCOPE.money(answer.table["cost"].iloc[15:].sum())
    assert rest in words


# -- trims ------------------------------------------------------------------------------------------------------------


def test_trims_are_bars_of_money() -> None:
    """A bar a job with what it saves a month, the smallest trim on top; the words say how much less, and for which spec."""
    pods = [
        pod(1, **LARGE, effective_cost=10.0, job_name="far", **MEASURED) | {"requested_memory_gib": 9.0},
        pod(2, **LARGE, effective_cost=20.0, job_name="near"),
    ]
    answer = trims.trims(frame(*pods), SCOPE)
    figure = draw_trims.trims(answer)
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.containers[0]] == pytest.approx(answer.table["saves_a_month"].tolist())
    assert [text.get_text() for text in axes.get_yticklabels()] == ["grp/demo · near", "grp/demo · far"]
    assert [bool(bar.get_hatch()) for bar in axes.containers[0]] == [True, False]
    money = SCOPE.money(answer.table["saves_a_month"].iloc[0])
    assert f"{money}: 0.3 GiB less → 4 vCPU / 8 GiB" in style.words(figure)


def test_trims_that_do_not_fit_are_not_drawn() -> None:
    """A job whose measured peak is above the trimmed request is in the table, and not among the bars."""
    used = MEASURED | {"used_memory_peak_gib": 8.2}
    answer = trims.trims(frame(pod(1, **LARGE, **used)), SCOPE)
    assert len(answer.table) == 1
    assert "Nothing to draw in this window." in style.words(draw_trims.trims(answer))


# -- all of them ------------------------------------------------------------------------------------------------------

CHARTS: list[tuple[Callable[..., Answer], Callable[[Answer], Figure]]] = [
    (sizes.ladder, draw_sizes.ladder), (waste.waste, draw_waste.waste), (trims.trims, draw_trims.trims),
]  # fmt: skip
each_chart = pytest.mark.parametrize("ask, draw", CHARTS, ids=["ladder", "waste", "trims"])


@each_chart
@pytest.mark.parametrize("projects, language", [(0, "en"), (0, "zh"), (1, "en"), (20, "zh"), (100, "en")])
def test_any_number_of_projects(
    ask: Callable[..., Answer], draw: Callable[[Answer], Figure], projects: int, language: Any
) -> None:
    """With none, one, twenty and a hundred projects there is a chart with the sentence as title, the same bytes twice."""
    answer = ask(frame(*some(projects)), replace(SCOPE, language=language))
    first = style.svg(draw(answer))
    assert first == style.svg(draw(answer))
    assert answer.sentence.encode() in first.replace(b"&gt;", b">").replace(b"&amp;", b"&")


@each_chart
def test_unknown_money(ask: Callable[..., Answer], draw: Callable[[Answer], Figure]) -> None:
    """Pods whose cost nobody knows leave a chart that can be drawn."""
    unknown = pod(1, **LARGE) | dict.fromkeys(("effective_cost", "vcpu_cost", "memory_cost", "seconds"))
    style.svg(draw(ask(frame(unknown), SCOPE)))


@each_chart
def test_labels_do_not_cover_each_other(ask: Callable[..., Answer], draw: Callable[[Answer], Figure]) -> None:
    """No two words of a chart of twenty projects lie over one another."""
    figure = draw(ask(frame(*some(20)), SCOPE))
    style.words(figure)
    figure.draw_without_rendering()
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    boxes = [style.Text.get_window_extent(text).padded(-0.5) for text in texts]
    assert not [(one, other) for one in range(len(boxes)) for other in range(one) if boxes[one].overlaps(boxes[other])]


def colours_of(rgba: np.ndarray) -> str:
    """A colour as `#rrggbb`."""
    return "#" + "".join(f"{round(float(one) * 255):02x}" for one in rgba[:3])
