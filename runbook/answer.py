"""The answer to one question about cost: a sentence with its numbers, the table they stand in, and what they are about.

Questions (`runbook.cost`) make answers, charts (`runbook.charts`) draw them, and the review writes both to files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from decimal import Decimal
from html import escape
from typing import TYPE_CHECKING, Literal

from runbook import html

if TYPE_CHECKING:
    import pandas as pd

Language = Literal["en", "zh"]

UNITS = {"pods": "个 Pod", "jobs": "个作业", "runs": "次运行", "pipelines": "条流水线"}
"""What is counted, and how Chinese counts it."""

LAST_DIGITS = 1e-9
"""Money below this is what differences of large sums leave behind."""

ROWS = 40
"""Rows of a table that are shown; the CSV has them all."""

LEFT = " style='text-align:left'"


@dataclass(frozen=True)
class Scope:
    """What answers are about: whose pods, which days (both included), in which currency, and the language they are given in.

    `price_date` is the newest day on which a price that went in became valid; `timezone` that of days and hours; `projects`
    are the ones that cost most, the dearest first: charts give each a colour of its own, the same in every chart.
    """

    cluster: str
    first: date
    last: date
    currency: str
    price_date: date | None = None
    language: Language = "en"
    timezone: str = "Asia/Shanghai"
    projects: tuple[str, ...] = ()

    @property
    def days(self) -> int:
        """How many days."""
        return (self.last - self.first).days + 1

    @property
    def before(self) -> Scope:
        """The same number of days just before."""
        return replace(self, first=self.first - timedelta(days=self.days), last=self.first - timedelta(days=1))

    @property
    def not_allocated(self) -> str:
        """What pods without a project are called."""
        return self.text(en="not allocated", zh="未归属")

    @property
    def rest(self) -> str:
        """What everything that is too small to be named is called."""
        return self.text(en="rest", zh="其他")

    def text(self, *, en: str, zh: str) -> str:
        """The text in the language of the answers."""
        return zh if self.language == "zh" else en

    def money(self, amount: float | Decimal | None) -> str:
        """`CNY 1,234.50`; small amounts keep more digits, and what is too small for them is not called nothing."""
        if amount is None or amount != amount:
            return self.text(en="unknown", zh="未知")
        size, sign = abs(float(amount)), "−" if amount < 0 else ""
        if size < LAST_DIGITS:
            return f"{self.currency} 0.00"
        if size < 0.0001:
            return f"{'>' if sign else '<'} {sign}{self.currency} 0.0001"
        return f"{sign}{self.currency} {size:,.{2 if size >= 0.1 else 4}f}"

    def counted(self, number: int, unit: str = "pods") -> str:
        """`1 pod`, `1,234 pods`, `1,234 个 Pod`; a unit that UNITS lacks stays English."""
        english = unit[:-1] if number == 1 and unit.endswith("s") else unit
        return f"{number:,} {self.text(en=english, zh=UNITS.get(unit, unit))}"

    @property
    def window(self) -> str:
        """`2026-11-01 to 2026-11-30`, or the one day."""
        if self.first == self.last:
            return self.first.isoformat()
        return self.text(en=f"{self.first} to {self.last}", zh=f"{self.first} 至 {self.last}")


@dataclass(frozen=True)
class Answer:
    """The answer to one question.

    `name` is the file name of its CSV and chart; `sentence` says what the data say; `table` has a row each thing that the chart
    shows; `parts` are further tables of the same answer (saved as `name-part.csv`). `n` counts what it rests on, named by `unit`.
    `notes` are assumptions and gaps, one sentence each. An answer without data has an empty table and a sentence that says so.
    """

    name: str
    question: str
    sentence: str
    table: pd.DataFrame
    scope: Scope
    n: int
    unit: str = "pods"
    notes: tuple[str, ...] = ()
    parts: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    @property
    def subtitle(self) -> str:
        """`n = 1,234 pods, 2026-11-01 to 2026-11-30`."""
        return f"n = {self.scope.counted(self.n, self.unit)}, {self.scope.window}"

    @property
    def footer(self) -> str:
        """`CNY, prices of 2024-11-27, days of Asia/Shanghai, practice`."""
        dated = self.scope.price_date
        prices = self.scope.text(
            en=f", prices of {dated}" if dated else ", prices unknown",
            zh=f"，价格日期 {dated}" if dated else "，价格未知",
        )
        zone = self.scope.text(en=f", days of {self.scope.timezone}", zh=f"，时区 {self.scope.timezone}")
        return f"{self.scope.currency}{prices}{zone}, {self.scope.cluster}"

    def __str__(self) -> str:
        return "\n".join(
            [self.sentence, f"({self.subtitle})", self.table.to_string(index=False, max_rows=ROWS), *self.notes]
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = _aligned(self.table.to_html(index=False, border=0, max_rows=ROWS), self.table)
        notes = "".join(html.soft(note) for note in self.notes)
        return html.block(html.soft(self.subtitle) + rows + notes, title=escape(self.sentence))


def _aligned(rows: str, table: pd.DataFrame) -> str:
    """The table with its columns of text to the left; JupyterLab puts every cell to the right that does not say otherwise."""
    text = [not is_number for is_number in table.dtypes.map(lambda kind: kind.kind in "iufb")]

    def row(found: re.Match[str]) -> str:
        cells = iter(text)
        return re.sub(r"<(t[hd])>", lambda cell: f"<{cell[1]}{LEFT if next(cells, False) else ''}>", found[0])

    return re.sub(r"<tr[^>]*>.*?</tr>", row, rows, flags=re.DOTALL)
