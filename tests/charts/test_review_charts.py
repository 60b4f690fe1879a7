"""The charts of the review show the numbers of their answers, read back from the figure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from runbook.answer import Answer
from runbook.charts import allocation as draw_allocation
from runbook.charts import always_on as draw_always_on
from runbook.charts import failures as draw_failures
from runbook.charts import headline as draw_headline
from runbook.charts import movers as draw_movers
from runbook.charts import style
from runbook.charts import trend as draw_trend
from runbook.charts.colours import BAD, GOOD, look_of
from runbook.cost import allocation, always_on, failures, headline, movers, trend
from runbook.eci.prices import PriceBook
from runbook.settings import AlwaysOn, OtherCost
from tests.cost.priced_pods import SCOPE, frame, pod

BEGIN = datetime(2026, 11, 1, 12, tzinfo=UTC)
EARLIER = datetime(2026, 10, 10, 12, tzinfo=UTC)
NAT = OtherCost.model_validate({"name": "NAT gateway", "amount": 60, "first": "2026-01-01"})


def some(projects: int = 3, day: int = 25) -> list[dict[str, Any]]:
    """A pod a day and project, the first project the dearest; every fifth failed, and one belongs to nobody."""
    pods = [
        pod(100 * number + project, billing_start_at=BEGIN + timedelta(days=number), project_path=f"grp/p{project:03}",
            effective_cost=float(projects - project), on_demand_cost=2.0 * (projects - project),
            job_status="failed" if number % 5 == 0 else "success", job_failure_reason="script_failure")
        for number in range(day)
        for project in range(projects)
    ]  # fmt: skip
    return [
        *pods,
        pod(99_999, project_path=None, job_name=None, effective_cost=0.5, ended="reclaimed", job_status=None),
    ]


BEFORE = [pod(1, billing_start_at=EARLIER, effective_cost=50.0, project_path="grp/p000")]


def asked_headline(pods: list[dict[str, Any]], language: str = "en") -> Answer:
    return headline.numbers(frame(*pods), frame(*BEFORE), scope(language), other=[NAT], budget=Decimal(100))


def asked_movers(pods: list[dict[str, Any]], language: str = "en") -> Answer:
    return movers.why(frame(*pods), frame(*(BEFORE if pods else [])), scope(language), other=[NAT])


def asked_who(pods: list[dict[str, Any]], language: str = "en") -> Answer:
    return movers.who(frame(*pods), frame(*(BEFORE if pods else [])), scope(language))


def asked_trend(pods: list[dict[str, Any]], language: str = "en") -> Answer:
    return trend.daily(frame(*pods), frame(), scope(language), final_until=date(2026, 11, 20))


def asked_failures(pods: list[dict[str, Any]], language: str = "en") -> Answer:
    return failures.pareto(frame(*pods), scope(language))


def asked_allocation(pods: list[dict[str, Any]], language: str = "en") -> Answer:
    return allocation.health(frame(*pods), scope(language), other=[NAT] if pods else [])


def asked_always_on(pods: list[dict[str, Any]], language: str = "en") -> Answer:
    book, card = PriceBook.shipped("cn"), AlwaysOn(vcpu=4, memory_gib=Decimal(8), per_hour=Decimal("0.1"))
    return always_on.compared(frame(*pods), scope(language), card=card, book=book, region="cn-hangzhou")


def scope(language: str) -> Any:
    return replace(SCOPE, language=language, projects=tuple(f"grp/p{number:03}" for number in range(8)))


CHARTS: list[tuple[Callable[..., Answer], Callable[[Answer], Figure]]] = [
    (asked_headline, draw_headline.strip),
    (asked_movers, draw_movers.waterfall),
    (asked_who, draw_movers.who),
    (asked_trend, draw_trend.daily),
    (asked_failures, draw_failures.pareto),
    (asked_allocation, draw_allocation.bar),
    (asked_always_on, draw_always_on.bars),
]
every_chart = pytest.mark.parametrize(("ask", "draw"), CHARTS, ids=[draw.__qualname__ for _, draw in CHARTS])
DATA = {"empty": [], "one pod": [pod()], "20 projects": some(20, 3), "100 projects": some(100, 2)}


@every_chart
@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_chart_is_drawn_of_any_data(
    ask: Callable[..., Answer], draw: Callable[[Answer], Figure], name: str, language: str
) -> None:
    """Of nothing, of one pod, of many projects, in both languages: a figure with the answer's sentence and footer."""
    answer = ask(DATA[name], language)
    words = style.words(draw(answer))
    assert answer.sentence.replace(" ", "") in "".join(words).replace("\n", "").replace(" ", "")
    assert any(answer.scope.currency in word for word in words)


@every_chart
def test_the_same_answer_gives_the_same_bytes(ask: Callable[..., Answer], draw: Callable[[Answer], Figure]) -> None:
    """Drawn twice, a chart is the same SVG, and fetches nothing."""
    first, second = (style.svg(draw(ask(some()))) for _ in range(2))
    assert first == second
    assert b'href="http' not in first.replace(b"http://www.w3.org", b"").replace(b"https://www.w3.org", b"")


def bars(figure: Figure, axes: int = 0) -> list[Any]:
    return list(figure.axes[axes].patches)


def test_the_strip_shows_five_numbers_and_their_days() -> None:
    """Each panel has its number as the table says it, and a line through the values of the days."""
    answer = asked_headline(some())
    figure = draw_headline.strip(answer)
    assert [axes.texts[1].get_text() for axes in figure.axes] == answer.table["shown"].tolist()
    for axes, number in zip(figure.axes, answer.table["number"], strict=True):
        series = answer.parts["days"][number].to_numpy()
        if not np.isnan(series).all():
            assert axes.lines[0].get_ydata() == pytest.approx(series, nan_ok=True)


def test_a_worse_number_is_marked_as_worse() -> None:
    """Above the budget, and dearer than before, is vermilion; below is blue."""
    over, under = asked_headline(some()), headline.numbers(frame(*some()), frame(), SCOPE, budget=Decimal(10**6))
    assert draw_headline.strip(over).axes[0].texts[2].get_color() == BAD
    assert draw_headline.strip(under).axes[0].texts[2].get_color() == GOOD


def test_the_waterfall_goes_from_before_to_now() -> None:
    """Each bar starts where the last one ended; the ends stand on zero; heights are the amounts."""
    answer = asked_movers(some())
    made = bars(draw_movers.waterfall(answer))
    amounts = answer.table["amount"].to_numpy()
    assert [bar.get_height() for bar in made] == pytest.approx(amounts)
    assert made[0].get_y() == made[-1].get_y() == 0
    level = amounts[0]
    for bar, amount in zip(made[1:-1], amounts[1:-1], strict=True):
        assert bar.get_y() == pytest.approx(level)
        level += amount
    assert level == pytest.approx(amounts[-1])


def test_small_steps_on_a_large_spend_are_not_lost() -> None:
    """Where all steps are at the top, the axis is cut, and says where."""
    before = [pod(1, billing_start_at=EARLIER, effective_cost=1000.0)]
    answer = movers.why(frame(pod(2, effective_cost=1010.0)), frame(*before), SCOPE)
    axes = draw_movers.waterfall(answer).axes[0]
    assert axes.get_ylim()[0] > 900
    assert "cut below" in axes.get_ylabel()


def test_a_dot_a_project() -> None:
    """Dots stand at the cost of their project, in the project's colour, and an arrow at what is known from before."""
    answer = asked_who(some())
    axes = draw_movers.who(answer).axes[0]
    dots = [one for one in axes.collections if isinstance(one, PathCollection)]
    assert [dot.get_offsets()[0][0] for dot in dots] == pytest.approx(answer.table["cost"])  # type: ignore[index]
    assert (
        look_of("grp/p000", answer.scope).colour == style.matplotlib.colors.to_hex(dots[0].get_facecolor()[0]).upper()
    )  # type: ignore[index]
    assert sum(bool(text.arrow_patch) for text in axes.texts) == 1  # type: ignore[attr-defined]


def test_layers_add_up_to_each_day() -> None:
    """The bars of a day end at the cost of that day, and the line is the on-demand cost."""
    answer = asked_trend(some())
    axes = draw_trend.daily(answer).axes[0]
    days = answer.parts["days"]
    tops = np.zeros(len(days))
    for layer in axes.containers:
        tops += [bar.get_height() for bar in layer]
    assert tops == pytest.approx(days["cost"])
    assert axes.lines[0].get_ydata() == pytest.approx(days["on_demand"])


def test_the_forecast_and_the_open_days_are_drawn() -> None:
    """A band for the forecast, and hatching over the ten days whose bill is not final."""
    answer = asked_trend(some())
    axes = draw_trend.daily(answer).axes[0]
    assert len(answer.parts["forecast"]) and axes.collections
    hatched = [patch for patch in axes.patches if patch.get_hatch() == "////" and not patch.get_facecolor()[3]]
    assert [patch.get_width() for patch in hatched] == pytest.approx([10])
    assert any("bill not final" in word for word in style.words(axes.get_figure()))


def test_reasons_in_order_of_money() -> None:
    """Bars are the costs; those that make up 80 % are vermilion; the line is the share so far."""
    answer = asked_failures(some())
    figure = draw_failures.pareto(answer)
    assert [bar.get_width() for bar in bars(figure)] == pytest.approx(answer.table["cost"])
    assert figure.axes[1].lines[0].get_xdata() == pytest.approx(answer.table["cumulative"])
    assert style.matplotlib.colors.to_hex(bars(figure)[0].get_facecolor()).upper() == BAD


def test_one_bar_holds_the_whole_spend() -> None:
    """Four parts beside each other end at the spend; below them what is nobody's."""
    answer = asked_allocation(some())
    figure = draw_allocation.bar(answer)
    parts = bars(figure)
    assert [part.get_width() for part in parts] == pytest.approx(answer.table["cost"])
    assert parts[-1].get_x() + parts[-1].get_width() == pytest.approx(answer.table["cost"].sum())
    assert [bar.get_width() for bar in bars(figure, 1)] == pytest.approx(answer.parts["worst"]["cost"])


def test_a_bar_an_alternative_with_what_is_used() -> None:
    """Light bars are what each costs, dark ones the part that work takes; ECI is used whole."""
    answer = asked_always_on(some())
    made = bars(draw_always_on.bars(answer))
    costs = answer.table["cost"].to_numpy()
    half = len(made) // 2
    assert [bar.get_width() for bar in made[:half]] == pytest.approx(costs)
    assert [bar.get_width() for bar in made[half:]] == pytest.approx(costs * answer.table["used"].fillna(1.0))
