"""The difference plot shows the answer's numbers: each day, the band, and where the last final bill ends."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from matplotlib.dates import num2date
from matplotlib.figure import Figure

from runbook.answer import Answer
from runbook.charts import reconcile as draw
from runbook.charts import style
from runbook.cost import reconcile
from runbook.cost.bill import Bill
from tests.cost.bill_rows import api_row, billed
from tests.cost.charge_lines import NOON, line, lines
from tests.cost.priced_pods import SCOPE, frame, pod


def answer(
    days: int = 3,
    *,
    on_bill: int | None = None,
    now: datetime = datetime(2026, 12, 20, tzinfo=UTC),
    language: Any = "en",
) -> Answer:
    """One instance a day from 3 November on, billed 0.01 too much on the second day, up to the day `on_bill`."""
    charged = [line(number, 0.05, start=NOON + timedelta(days=number)) for number in range(days)]
    rows = [
        api_row(f"eci-{number}", f"{NOON.date() + timedelta(days=number)}", PretaxAmount=0.06 if number == 1 else 0.05)
        for number in range(days if on_bill is None else on_bill)
    ]
    scope = replace(SCOPE, last=date(2026, 12, 31), timezone="Asia/Shanghai", language=language)
    pods = frame(*(pod(number) for number in range(days)))
    return reconcile.by_day(pods, scope, lines=lines(*charged), bill=Bill.of(billed(*rows)), now=now)


def marks(figure: Figure, gid: str) -> list[tuple[str, float]]:
    """Day and height of the marks of a kind."""
    found = [one for axes in figure.axes for one in axes.lines if one.get_gid() == gid]
    return [
        (f"{num2date(x):%m-%d}", round(float(y), 6))
        for one in found
        for x, y in zip(one.get_xdata(orig=False), one.get_ydata(orig=False), strict=True)
    ]


def test_each_day_stands_at_its_difference() -> None:
    """A day stands at estimate − bill, in another colour where it lies outside the band, with the cause beside it."""
    figure = draw.by_day(answer())
    assert marks(figure, "inside") == [("11-03", 0.0), ("11-05", 0.0)]
    assert marks(figure, "outside") == [("11-04", -0.01)]
    assert "another list price" in style.words(figure)
    assert style.words(figure).count("grey: what rounding each fee to 0.01 makes") == 1


def test_the_band_is_the_tolerance() -> None:
    """The grey band reaches half a cent up and down where a day has one fee."""
    (band,) = [one for axes in draw.by_day(answer()).axes for one in axes.collections if one.get_gid() == "band"]
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (pytest.approx(-0.005), pytest.approx(0.005))


def test_days_not_on_the_bill_are_hollow() -> None:
    """Days beyond the bill are hollow on the zero line, and their estimate is hatched below."""
    figure = draw.by_day(answer(on_bill=2))
    assert marks(figure, "waiting") == [("11-05", 0.0)]
    bars = [one for one in figure.axes[1].patches if one.get_gid() == "estimated"]
    assert [round(float(one.get_height()), 6) for one in bars] == [0.05]
    assert "not on the bill yet" in style.words(figure)


def test_what_may_change_is_hatched() -> None:
    """Before the 3rd of the next month the days are hatched as not final; afterwards nothing is."""
    early, late = draw.by_day(answer(now=datetime(2026, 11, 10, tzinfo=UTC))), draw.by_day(answer())
    assert "bill not final" in style.words(early)
    assert "bill not final" not in style.words(late)


def test_the_last_final_day_is_marked() -> None:
    """Where some months are final and some are not, a line stands after the last final day, with its date."""
    figure = draw.by_day(answer(40, now=datetime(2026, 12, 3, 4, tzinfo=UTC)))
    (line_, _) = [one for axes in figure.axes for one in axes.lines if one.get_gid() == "last-final"]
    assert f"{num2date(np.asarray(line_.get_xdata(orig=False))[0]):%m-%d %H}" == "11-30 12"
    assert "final until 11-30" in style.words(figure)


def test_nothing_and_one_day() -> None:
    """Without a bill and charges there is one line; one day alone has days on its axis, not hours."""
    assert "Nothing to draw in this window." in style.words(draw.by_day(answer(0)))
    assert not [
        word
        for word in style.words(draw.by_day(answer(1)))
        if ":" in word and "grey" not in word and "bill" not in word
    ]


def test_it_is_the_same_every_time_and_in_chinese() -> None:
    """The same answer gives the same bytes; words follow the scope's language."""
    assert style.svg(draw.by_day(answer())) == style.svg(draw.by_day(answer()))
    assert "估算 − 账单, CNY" in style.words(draw.by_day(answer(language="zh")))
