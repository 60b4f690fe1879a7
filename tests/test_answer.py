"""The answer to a question: which days it is about, how it writes money and counts, and how it is shown."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pandas as pd
import pytest

from runbook.answer import ROWS, Answer, Scope

SCOPE = Scope("practice", date(2026, 11, 1), date(2026, 11, 30), "CNY", date(2024, 11, 27))
CHINESE = replace(SCOPE, language="zh")


def answer(rows: int = 1, scope: Scope = SCOPE) -> Answer:
    table = pd.DataFrame({"job": [f"job {one}" for one in range(rows)], "cost": [1.5] * rows})
    return Answer("jobs", "Which?", "One <job> & its cost.", table, scope, 1234, notes=("Nobody measured <it>.",))


def test_days_and_the_days_before() -> None:
    """Both ends are included, and the period before is as long and ends the day before; everything else stays."""
    assert SCOPE.days == 30
    before = replace(SCOPE, projects=("a",)).before
    assert (before.first, before.last, before.days) == (date(2026, 10, 2), date(2026, 10, 31), 30)
    assert (before.projects, before.price_date) == (("a",), SCOPE.price_date)


def test_window() -> None:
    """Two days with a word between them, or the one day."""
    assert SCOPE.window == "2026-11-01 to 2026-11-30"
    assert CHINESE.window == "2026-11-01 至 2026-11-30"
    assert replace(SCOPE, last=SCOPE.first).window == "2026-11-01"


@pytest.mark.parametrize(
    "amount, text",
    [
        (1234.5, "CNY 1,234.50"), (0.1, "CNY 0.10"), (0.0735, "CNY 0.0735"), (0, "CNY 0.00"), (-2, "−CNY 2.00"),
        (Decimal("0.00001963"), "< CNY 0.0001"), (-0.00002, "> −CNY 0.0001"), (-1e-14, "CNY 0.00"),
        (None, "unknown"), (float("nan"), "unknown"),
    ],
)  # fmt: skip
def test_money(amount: float | Decimal | None, text: str) -> None:
    """Two digits, four for small amounts; too small is not nothing, the last digits of a double are; unknown is no number."""
    assert SCOPE.money(amount) == text


def test_counting() -> None:
    """One pod, two pods; Chinese has measure words."""
    assert [SCOPE.counted(number) for number in (0, 1, 1234)] == ["0 pods", "1 pod", "1,234 pods"]
    assert (SCOPE.counted(1, "jobs"), CHINESE.counted(2, "jobs")) == ("1 job", "2 个作业")


def test_words() -> None:
    """What has no project and what is too small to be named is called the same in every answer."""
    assert (SCOPE.not_allocated, SCOPE.rest) == ("not allocated", "rest")
    assert (CHINESE.not_allocated, CHINESE.rest) == ("未归属", "其他")


def test_what_it_rests_on() -> None:
    """The subtitle has n and days, the footer currency, price date, time zone and cluster."""
    assert answer().subtitle == "n = 1,234 pods, 2026-11-01 to 2026-11-30"
    assert answer().footer == "CNY, prices of 2024-11-27, days of Asia/Shanghai, practice"
    assert answer(scope=replace(SCOPE, price_date=None)).footer.startswith("CNY, prices unknown")
    assert answer(scope=CHINESE).footer == "CNY，价格日期 2024-11-27，时区 Asia/Shanghai, practice"


def test_text_stands_left_and_numbers_right() -> None:
    """In a table on a page only columns of text are put to the left, heads and cells alike."""
    table = pd.DataFrame({"what": ["a"], "cost": [1.5]})
    page = replace(answer(), table=table)._repr_html_()
    assert "<th style='text-align:left'>what</th>" in page and "<th>cost</th>" in page
    assert "<td style='text-align:left'>a</td>" in page and "<td>1.5</td>" in page


def test_text_and_page() -> None:
    """Printed it has sentence, table and notes; on a page they are escaped, and a long table is cut in the middle."""
    assert str(answer()).splitlines()[0] == "One <job> & its cost."
    page = answer(rows=500)._repr_html_()
    assert "One &lt;job&gt; &amp; its cost." in page and "Nobody measured &lt;it&gt;." in page
    assert page.count("<tr") <= ROWS + 3
    assert len(str(answer(rows=500)).splitlines()) <= ROWS + 6
