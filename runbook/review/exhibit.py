"""An answer and its chart as one thing to look at, with its numbers in a CSV file beside it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from runbook import html
from runbook.answer import Answer
from runbook.charts import style
from runbook.settings import ROOT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from runbook.review.period import Period


@dataclass(frozen=True)
class Exhibit:
    """A chart as SVG, the answer that it draws, and the files in which both lie: the table, its parts, the chart."""

    answer: Answer
    svg: bytes
    files: tuple[Path, ...]

    def __str__(self) -> str:
        places = "\n".join(f"  {shown(path)}" for path in self.files)
        return f"{self.answer.sentence}\n({self.answer.subtitle})\n{places}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        notes = "".join(html.soft(note) for note in self.answer.notes)
        return html.block(
            picture(self.answer, self.svg)
            + notes
            + html.soft(
                self.answer.scope.text(en="numbers: ", zh="数据：") + ", ".join(shown(path) for path in self.files[:-1])
            )
        )


def picture(answer: Answer, svg: bytes) -> str:
    """A chart as HTML that JupyterLab shows of any notebook: an inline SVG would be stripped from one that it does not trust."""
    source = f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
    said = escape(answer.sentence, quote=True)
    return f"<img alt='{said}' src='{source}' style='max-width:100%;background:white'>"


def exhibit(answer: Answer, draw: Callable[[Answer], Figure], pods: Period) -> Exhibit:
    """Draw an answer and write its table and chart into the period's folder."""
    figure = style.svg(draw(answer))
    written = write_tables(answer, pods.folder)
    chart = pods.folder / f"{answer.name}.svg"
    chart.write_bytes(figure)
    return Exhibit(answer, figure, (*written, chart))


def write_tables(answer: Answer, folder: Path) -> tuple[Path, ...]:
    """Write the answer's table and its parts as CSV files; returns their paths, the table's first."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = {answer.name: answer.table} | {f"{answer.name}-{part}": table for part, table in answer.parts.items()}
    written = []
    for name, table in tables.items():
        path = folder / f"{name}.csv"
        table.assign(currency=answer.scope.currency).to_csv(path, index=False, lineterminator="\n")
        written.append(path)
    return tuple(written)


def shown(path: Path) -> str:
    """The path as people read it: from the repository's root, where it lies in there."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
