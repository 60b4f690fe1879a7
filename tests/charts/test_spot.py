"""The charts about spot: the numbers that they show are those of their answers."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from runbook.answer import Answer
from runbook.charts import spot as draw
from runbook.charts import style
from runbook.charts.colours import BAD, PAPER, colour_of
from runbook.cost import interruptions, spot, spot_prices
from runbook.eci.prices import SpotChange
from tests.cost.priced_pods import NOON, SCOPE, frame, pod

ARCHIVE = [
    SpotChange("cn", "cn-hangzhou", f"cn-hangzhou-{zone}", "CNY", "ecs.c6.large", Decimal(price), at, "made up")
    for zone in "ij"
    for price, at in (("0.10", NOON - timedelta(days=1)), ("0.15", NOON + timedelta(days=3)))
]


def spot_pods(projects: int) -> list[dict[str, Any]]:
    """Three spot pods a project: two saved 1.00 times its number, one was taken away after a tenth of that."""
    rows = []
    for number in range(1, projects + 1):
        made = {
            "spot": True, "spot_requested": True, "project_path": f"grp/p{number:03d}", "seconds": 5400.0,
            "ecs_type": "ecs.c6.large", "list_cost": 0.933, "zone": f"cn-hangzhou-{'ij'[number % 2]}",
            "billing_start_at": NOON + timedelta(hours=number),
        }  # fmt: skip
        for part in range(2):
            rows.append(pod(10 * number + part, **made, on_demand_cost=1.0 * number, effective_cost=0.5 * number))
        lost = {"on_demand_cost": 0.2 * number, "effective_cost": 0.1 * number, "ended": "reclaimed"}
        rows.append(pod(10 * number + 2, **made, **lost))
    return rows


def bars(axes: Axes, label: str) -> list[float]:
    """The widths of the bars that bear this label, from the top row down."""
    return [float(bar.get_width()) for found in axes.containers if found.get_label() == label for bar in found]


def dots(axes: Axes, label: str) -> Any:
    (found,) = (one for one in axes.collections if isinstance(one, PathCollection) and one.get_label() == label)
    return np.ma.getdata(found.get_offsets())


# -- the ledger -------------------------------------------------------------------------------------------------------


def test_the_ledger_draws_gross_rework_and_net() -> None:
    """Projects 2 and 1 saved 2.00 and 1.00, lost 0.20 and 0.10: bars of that length, dots at 1.80 and 0.90."""
    (axes,) = draw.ledger(spot.ledger(frame(*spot_pods(2)), SCOPE)).axes
    assert bars(axes, "gross") == pytest.approx([2.0, 1.0])
    assert bars(axes, "rework") == pytest.approx([-0.2, -0.1])
    assert dots(axes, "net")[:, 0] == pytest.approx([1.8, 0.9])
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["grp/p002", "grp/p001"]
    assert {"CNY 1.80", "CNY 0.90"} <= {text.get_text() for text in axes.texts}


def test_each_project_has_the_mark_that_it_has_everywhere() -> None:
    """The mark beside a project's name has its colour in all charts of the period."""
    scope = replace(SCOPE, projects=("grp/p001", "grp/p002"))
    (axes,) = draw.ledger(spot.ledger(frame(*spot_pods(2)), scope)).axes
    marks = [line.get_color() for line in axes.lines if line.get_label() == "project"]
    assert marks == [colour_of("grp/p002", scope), colour_of("grp/p001", scope)]


def test_what_is_not_sure_is_hatched() -> None:
    """Saved 1.00 to 3.50: a bar to 1.00, 2.50 more hatched, and the net from 1.00 to 3.50 as a line without a dot."""
    unknown = pod(1, spot=True, on_demand_cost=4.0, effective_cost=None, cost_low=0.5, cost_high=3.0)
    (axes,) = draw.ledger(spot.ledger(frame(unknown), SCOPE)).axes
    assert bars(axes, "gross") == [1.0]
    assert [width for width in bars(axes, "gross, not sure") if width] == [2.5]
    assert len(dots(axes, "net")) == 0
    assert sorted(dots(axes, "net interval")[:, 0]) == [1.0, 3.5]


def test_a_loss_is_drawn_to_the_left() -> None:
    """Spot that cost 0.50 more than plain: a bar of −0.50 and the amount in the colour of losses."""
    (axes,) = draw.ledger(spot.ledger(frame(pod(1, spot=True, on_demand_cost=1.0, effective_cost=1.5)), SCOPE)).axes
    assert bars(axes, "gross") == [-0.5]
    assert ("−CNY 0.50", BAD) in [(text.get_text(), text.get_color()) for text in axes.texts]


def test_fallback_and_what_it_missed() -> None:
    """0.50 above the plain price to the left; 75 % of 2.00 dashed after the gross saving of 3.00."""
    pods = [
        pod(1, spot=True, on_demand_cost=4.0, effective_cost=1.0),
        pod(2, spot=False, spot_requested=True, on_demand_cost=2.0, effective_cost=2.5),
    ]
    (axes,) = draw.ledger(spot.ledger(frame(*pods), SCOPE)).axes
    assert bars(axes, "fallback") == [-0.5]
    (missed,) = (bar for found in axes.containers if found.get_label() == "missed" for bar in found)
    assert (missed.get_x(), missed.get_width()) == (3.0, 1.5)


def test_a_project_of_which_nothing_is_known_says_so() -> None:
    """No bar and no dot where no cost is known, and the word for it beside the row."""
    (axes,) = draw.ledger(spot.ledger(frame(pod(1, spot=True, effective_cost=None, on_demand_cost=1.0)), SCOPE)).axes
    assert axes.texts[0].get_text() == "unknown"
    assert not np.any(np.nan_to_num(bars(axes, "gross")))


def test_a_hundred_projects_are_twenty_and_the_rest_in_words() -> None:
    """The twenty largest are drawn, and the other eighty named with their net: 0.9 × (1 + … + 80) = 2916."""
    (axes,) = draw.ledger(spot.ledger(frame(*spot_pods(100)), SCOPE)).axes
    assert len(bars(axes, "gross")) == 20
    assert axes.get_yticklabels()[-1].get_text() == "80 other projects, not drawn"
    assert axes.texts[-1].get_text() == "CNY 2,916.00"


# -- interruptions ----------------------------------------------------------------------------------------------------


def cells(axes: Axes) -> list[Rectangle]:
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


def test_a_cell_each_zone_and_hour_with_its_count() -> None:
    """20 hours at noon with two reclaims, one hour at 13 with none: two cells, and only the first one has a colour."""
    pods = [pod(n, spot=True, seconds=3600.0, ended="reclaimed" if n < 2 else "deleted") for n in range(20)]
    pods.append(pod(20, spot=True, seconds=3600.0, billing_start_at=NOON + timedelta(hours=1)))
    axes, _ = draw.interruptions(interruptions.by_hour(frame(*pods), SCOPE)).axes
    shown = [(cell.get_x() + cell.get_width() / 2, cell.get_linestyle(), text.get_text())
             for cell, text in zip(cells(axes), axes.texts, strict=True)]  # fmt: skip
    assert [(round(x), text) for x, _, text in shown] == [(12, "2"), (13, "0")]
    white = (1.0, 1.0, 1.0, 1.0)
    assert [cell.get_facecolor() == white for cell in cells(axes)] == [False, True]


def test_the_rate_by_age_stands_beside_it() -> None:
    """One reclaim in half an hour of age 1 to 2: 200 in 100 hours; no instance got older than that."""
    pods = [pod(1, spot=True, seconds=5400.0, ended="reclaimed")]
    _, beside = draw.interruptions(interruptions.by_hour(frame(*pods), SCOPE)).axes
    assert dots(beside, "rate by age").tolist() == [[0.0, 0.0], [200.0, 1.0]]
    assert [text.get_text() for text in beside.texts] == ["0 / 1.0 h", "1 / 0.5 h", "no hours", "no hours", "no hours"]


# -- break-even -------------------------------------------------------------------------------------------------------


def test_paid_and_break_even_as_shares_of_the_plain_price() -> None:
    """Paid 0.50 of 1.00 plain, a quarter of the hours lost: a dot at 50 %, a rule at 75 %, the list price at 140 %."""
    made = {"spot": True, "ecs_type": "ecs.c6.large"}
    pods = [
        pod(1, **made, seconds=10800.0, on_demand_cost=3.0, effective_cost=1.5, list_cost=4.2),
        pod(2, **made, seconds=3600.0, on_demand_cost=1.0, effective_cost=0.5, list_cost=1.4, ended="reclaimed"),
    ]
    (axes,) = draw.break_even(spot_prices.break_even(frame(*pods), SCOPE)).axes
    assert dots(axes, "paid")[:, 0] == pytest.approx([0.5])
    assert dots(axes, "ECS list price")[:, 0] == pytest.approx([1.4])
    (rule,) = (one for one in axes.collections if one.get_label() == "break-even")
    assert rule.get_segments()[0][:, 0] == pytest.approx([0.75, 0.75])  # type: ignore[attr-defined]
    assert axes.texts[0].get_text() == "pays to 54 % of list; to 50 reclaims in 100 h, seen 25"


def test_a_type_that_nobody_knows_is_a_line() -> None:
    """Cost 0.10 to 0.30 of 1.00: no dot, no list price, and a name that says so."""
    unknown = pod(1, spot=True, on_demand_cost=1.0, effective_cost=None, cost_low=0.1, cost_high=0.3, list_cost=None)
    (axes,) = draw.break_even(spot_prices.break_even(frame(unknown), SCOPE)).axes
    assert axes.get_yticklabels()[0].get_text() == "unknown type, 2c/4Gi"
    assert np.isnan(dots(axes, "ECS list price")[:, 0]).all()


# -- price paid -------------------------------------------------------------------------------------------------------


def lines(axes: Axes) -> dict[str, Any]:
    return {str(line.get_label()): line.get_ydata() for line in axes.lines}


def test_the_market_in_steps_and_what_was_paid_as_dots() -> None:
    """The market is 0.10 and then 0.15 of 0.40 plain: steps at 25 % and 37.5 %; the pod paid 0.10, a dot at 25 %."""
    made = {"spot": True, "seconds": 3600.0, "ecs_type": "ecs.c6.large", "list_cost": 0.622}
    answer = spot_prices.price_paid(frame(pod(1, **made, on_demand_cost=0.4, effective_cost=0.1)), SCOPE, ARCHIVE)
    (axes,) = draw.price_paid(answer).axes
    market = lines(axes)["cn-hangzhou-j"]
    assert market[~np.isnan(market)].tolist() == pytest.approx([0.25, 0.25, 0.375, 0.375])
    assert dots(axes, "paid")[:, 1] == pytest.approx([0.25])
    assert len(lines(axes)["starts"]) == 3
    assert "cn-hangzhou-i" not in lines(axes)


def test_without_an_archive_only_what_was_paid_is_drawn() -> None:
    """No archived price: the dots and the line of the plain price are there, no market."""
    made = {"spot": True, "seconds": 3600.0, "ecs_type": "ecs.c6.large", "list_cost": 0.622}
    answer = spot_prices.price_paid(frame(pod(1, **made, on_demand_cost=0.4, effective_cost=0.1)), SCOPE)
    (axes,) = draw.price_paid(answer).axes
    assert dots(axes, "paid")[:, 1] == pytest.approx([0.25])
    assert not [name for name in lines(axes) if name.startswith("cn-")]


def test_many_points_are_drawn_by_the_day() -> None:
    """400 hours with pods are 17 days: as many dots, each at the mean of its day."""
    made = {"spot": True, "seconds": 1800.0, "ecs_type": "ecs.c6.large", "on_demand_cost": 0.4, "effective_cost": 0.1}
    pods = [pod(n, **made, billing_start_at=NOON + timedelta(hours=n)) for n in range(400)]
    (axes,) = draw.price_paid(spot_prices.price_paid(frame(*pods), SCOPE)).axes
    assert dots(axes, "paid")[:, 1] == pytest.approx([0.25] * 18)


def test_more_types_than_panels() -> None:
    """Of four ECS types the three with most hours have a panel, and the last one says that there is one more."""
    pods = [
        pod(n, spot=True, seconds=3600.0 * (n + 1), ecs_type=f"ecs.c{n}.large", on_demand_cost=1.0, effective_cost=0.5)
        for n in range(4)
    ]
    figure = draw.price_paid(spot_prices.price_paid(frame(*pods), SCOPE))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["ecs.c3.large", "ecs.c2.large", "ecs.c1.large"]
    assert figure.axes[-1].get_title(loc="right") == "1 more in the CSV"


# -- all of them ------------------------------------------------------------------------------------------------------

CHARTS = {
    "ledger": (lambda pods, scope: spot.ledger(pods, scope), draw.ledger),
    "interruptions": (lambda pods, scope: interruptions.by_hour(pods, scope), draw.interruptions),
    "break-even": (lambda pods, scope: spot_prices.break_even(pods, scope), draw.break_even),
    "price-paid": (lambda pods, scope: spot_prices.price_paid(pods, scope, ARCHIVE), draw.price_paid),
}


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("projects", [0, 1, 20, 100])
@pytest.mark.parametrize("chart", CHARTS)
def test_every_size_of_data_in_both_languages(chart: str, projects: int, language: Any) -> None:
    """Each chart is drawn for no, one, twenty and a hundred projects, bears its sentence, and says no `nan`."""
    question, drawn = CHARTS[chart]
    answer: Answer = question(frame(*spot_pods(projects)), replace(SCOPE, language=language))
    figure: Figure = drawn(answer)
    words = style.words(figure)
    assert answer.sentence.replace(" ", "") in "".join(words).replace("\n", "").replace(" ", "")
    assert not [word for word in words if "nan" in word.lower() or "None" in word]
    assert pd.Series(figure.get_size_inches()).between(0.5, 20).all()


@pytest.mark.parametrize("chart", CHARTS)
def test_same_answer_same_bytes(chart: str) -> None:
    """Drawn twice, the SVG is the same to the byte."""
    question, drawn = CHARTS[chart]
    answer = question(frame(*spot_pods(3)), SCOPE)
    assert style.svg(drawn(answer)) == style.svg(drawn(answer))
    assert PAPER.encode() in style.svg(drawn(answer))
