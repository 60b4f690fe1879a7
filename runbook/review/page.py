"""The page for the meeting: one HTML file that opens without a network, on a screen, light or dark, and on eight sheets of A4 or fewer.

Nothing is loaded from elsewhere: style and drawings stand in the page, and links lead to the CSV files beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook.answer import Answer, Scope
from runbook.review import inline_svg

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Shown:
    """One exhibit on the page: its answer, its drawing, and the files with its numbers (names beside the page)."""

    answer: Answer
    svg: bytes
    files: tuple[str, ...]
    table: str = ""
    """A table (HTML) below the drawing."""


@dataclass(frozen=True)
class Failed:
    """An exhibit that could not be made: its name, and the page of the error."""

    name: str
    error: str


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    id: str
    title: str
    exhibits: tuple[Shown | Failed, ...]


@dataclass(frozen=True)
class Contents:
    """All that the page shows."""

    scope: Scope
    made: str
    """When it was made, as text."""
    banner: str
    """Above everything: bill not final. Empty for none."""
    sections: tuple[Section, ...]
    actions: Answer
    quality: Answer
    assumptions: Mapping[str, str]
    checks: Sequence[tuple[str, str, str]]
    """Checks that are not green: status, title, observed."""


def page(contents: Contents) -> str:
    """The whole page."""
    scope = contents.scope
    title = scope.text(
        en=f"CI cost review: {scope.cluster}, {scope.window}", zh=f"CI 成本评审：{scope.cluster}，{scope.window}"
    )
    body = "\n".join(
        [
            _head(contents, title),
            *(_section(section, scope) for section in contents.sections),
            _actions(contents.actions),
            _small_print(contents),
        ]
    )
    language = "zh-CN" if scope.language == "zh" else "en"
    return (
        f'<!DOCTYPE html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _head(contents: Contents, title: str) -> str:
    scope = contents.scope
    places = [(f"about-{section.id}", section.title) for section in contents.sections]
    places += [("actions", contents.actions.question), ("small-print", _small_print_title(scope))]
    links = " ".join(f'<a href="#{id}">{escape(name)}</a>' for id, name in places)
    pods = scope.text(en=f"{contents.quality.n:,} pods", zh=f"{contents.quality.n:,} 个 Pod")
    about = f"{pods} · {contents.quality.footer} · {contents.made}"
    banner = f'<p class="banner">{escape(contents.banner)}</p>' if contents.banner else ""
    return f'<header><h1>{escape(title)}</h1><p class="soft">{escape(about)}</p>{banner}<nav>{links}</nav></header>'


def _section(section: Section, scope: Scope) -> str:
    exhibits = "\n".join(_exhibit(one, scope) for one in section.exhibits)
    return f'<section id="about-{section.id}">\n<h2>{escape(section.title)}</h2>\n{exhibits}\n</section>'


def _exhibit(one: Shown | Failed, scope: Scope) -> str:
    if isinstance(one, Failed):
        said = scope.text(en=f"The exhibit {one.name} could not be made", zh=f"图表 {one.name} 未能生成")
        return f'<figure class="failed"><figcaption>{escape(said)}</figcaption><pre>{escape(one.error)}</pre></figure>'
    answer = one.answer
    drawing = inline_svg.element(one.svg, answer.name, answer.sentence)
    notes = "".join(f"<p>{escape(note)}</p>" for note in answer.notes)
    return (
        f'<figure id="{escape(answer.name)}">\n<figcaption>{escape(answer.sentence)}</figcaption>\n'
        f'<div class="paper">{drawing}</div>\n{one.table}'
        f'<div class="notes">{notes}<p>{escape(answer.subtitle)} · {_links(one.files)}</p></div>\n</figure>'
    )


def _links(files: Iterable[str]) -> str:
    return " · ".join(f'<a href="{escape(name, quote=True)}">{escape(name)}</a>' for name in files)


# -- tables -----------------------------------------------------------------------------------------------------------


def cost_lines(lines: pd.DataFrame, scope: Scope) -> str:
    """The spend as dated lines with its total, as finance reads it."""
    heads = scope.text(en="line,from,to,cost,on the invoice", zh="费用项,起,止,成本,账单金额").split(",")
    rows = [
        (
            row["name"],
            f"{row['first']:%Y-%m-%d}",
            f"{row['last']:%Y-%m-%d}",
            _plain(row["effective_cost"]),
            _plain(row["billed_cost"]),
        )
        for row in lines.to_dict("records")
    ]
    said = scope.text(
        en=f"{scope.currency}, before tax where nothing else is said", zh=f"{scope.currency}，未注明者为税前"
    )
    unit = f"<p class='soft'>{escape(said)}</p>"
    return _table(heads, rows, numbers=(3, 4), total=True) + unit


def _table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: Sequence[int] = (),
    total: bool = False,
    raw: Sequence[int] = (),
) -> str:
    """Rows of text as a table; columns `numbers` are aligned to the right, those of `raw` are HTML already."""

    def cells(row: Sequence[str], tag: str, plain: Sequence[int]) -> str:
        return "".join(
            f"<{tag}{' class=number' if at in numbers else ''}>{text if at in plain else escape(text)}</{tag}>"
            for at, text in enumerate(row)
        )

    body = [f"<tr>{cells(row, 'td', raw)}</tr>" for row in rows]
    kind = ' class="total"' if total else ""
    return f"<table{kind}><thead><tr>{cells(heads, 'th', ())}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _plain(amount: float) -> str:
    return "?" if amount is None or math.isnan(amount) else f"{amount:,.2f}"


ACTIONS_SHOWN = 18
"""Actions on the page; all are in the CSV."""


def _actions(answer: Answer) -> str:
    scope = answer.scope
    heads = scope.text(
        en="what,owner,money a month,risk · effort,what became of it",
        zh="内容,负责人,每月金额,风险 · 工作量,结果",
    ).split(",")
    table = answer.table.head(ACTIONS_SHOWN)
    most = float(table["high"].max()) if len(table) else 0.0
    rows = [
        (str(row["what"]), str(row["owner"]) or "—", _money_cell(row, most), f"{row['risk']} · {row['effort']}",
         f"{_STATUS[str(row['verdict'])]} {row['became']}")
        for row in table.to_dict("records")
    ]  # fmt: skip
    body = _table(heads, rows, raw=(2,)) if rows else ""
    notes = "".join(f"<p>{escape(note)}</p>" for note in answer.notes)
    files = _links([f"{answer.name}.csv", "proposed-actions.yaml"])
    return (
        f'<section id="actions"><h2>{escape(answer.question)}</h2><figure class="actions"><figcaption>{escape(answer.sentence)}'
        f'</figcaption>{body}<div class="notes">{notes}<p>{files}</p></div></figure></section>'
    )


_STATUS = {
    "proposed": "＋", "open": "○", "rejected": "✕", "saved": "✔", "not seen": "≈", "dearer": "▲", "too early": "…", "no baseline": "?",
}  # fmt: skip


def _money_cell(row: Mapping[Any, Any], most: float) -> str:
    """The likely amount with its interval, and a bar of its size."""
    low, likely, high = (row[name] for name in ("low", "likely", "high"))
    if math.isnan(likely):
        return "—"
    width = 100 * max(likely, 0.0) / most if most > 0 else 0.0
    interval = "" if low == high else f"<br><span class='soft'>{low:,.2f} … {high:,.2f}</span>"
    return f"<b>{likely:,.2f}</b>{interval}<span class='bar' style='width:{width:.0f}%'></span>"


# -- the small print --------------------------------------------------------------------------------------------------


def _small_print_title(scope: Scope) -> str:
    return scope.text(en="What this rests on", zh="数据与假设")


def _small_print(contents: Contents) -> str:
    scope, quality = contents.scope, contents.quality
    problems = [
        (str(row["problem"]), str(row["meaning"]), f"{row['pods']:,}", f"{row['share_of_cost']:.1%}",
         f"{_plain(row['cost_low'])} … {_plain(row['cost_high'])}")
        for row in quality.table.to_dict("records")
    ]  # fmt: skip
    heads = scope.text(en="problem,meaning,pods,of the money,cost", zh="问题,含义,Pod 数,占费用,成本").split(",")
    table = _table(heads, problems, numbers=(2, 3, 4)) if problems else ""
    assumed = "".join(f"<li>{escape(text)}</li>" for text in contents.assumptions.values())
    checks = "".join(
        f"<li><b>{escape(status)}</b> {escape(title)}: {escape(_first_line(observed))}</li>"
        for status, title, observed in contents.checks
    )
    return (
        f'<section id="small-print"><h2>{escape(_small_print_title(scope))}</h2>'
        f"<figure><figcaption>{escape(quality.sentence)}</figcaption>{table}</figure>"
        + _list(scope.text(en="Checks that are not green", zh="未通过的检查"), checks)
        + _list(
            scope.text(en="What Alibaba Cloud does not document, and is assumed", zh="阿里云未说明、此处假设的规则"),
            assumed,
        )
        + "</section>"
    )


def _list(title: str, items: str) -> str:
    return f"<h3>{escape(title)}</h3><ul>{items}</ul>" if items else ""


def _first_line(text: str) -> str:
    lines = text.splitlines() or [""]
    return lines[0] + (" …" if len(lines) > 1 else "")


def write(contents: Contents, path: Path) -> Path:
    """Write the page, whole or not at all; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".tmp")
    partial.write_text(page(contents), encoding="utf-8")
    return partial.replace(path)


STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --soft: #5a5a5a; --ground: #ffffff; --line: #d0d0d0; --mark: #b45309; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --soft: #a8a8a8; --ground: #16181c; --line: #3c4048; --mark: #f0b429; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", "Noto Sans", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif; }
main { max-width: 1020px; margin: 0 auto; padding: 20px 24px 60px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px; }
h2 { font-size: 20px; margin: 34px 0 8px; padding-top: 10px; border-top: 2px solid var(--line); }
h3 { font-size: 14px; margin: 14px 0 4px; }
a { color: inherit; }
nav { margin-top: 8px; font-size: 13px; }
nav a { margin-right: 14px; white-space: nowrap; }
.soft, .notes { color: var(--soft); font-size: 12.5px; }
.notes p { margin: 2px 0; }
.banner { border: 2px solid var(--mark); border-left-width: 10px; padding: 6px 12px; font-weight: 600; }
figure { margin: 0 0 26px; }
figcaption { font-weight: 650; font-size: 16px; margin: 10px 0 6px; }
.paper { background: #ffffff; border-radius: 4px; padding: 4px; }
.paper svg { display: block; width: 100%; height: auto; }
.failed { border: 2px solid var(--mark); padding: 4px 12px; }
pre { white-space: pre-wrap; font-size: 12px; }
table { border-collapse: collapse; width: 100%; font-size: 13px; margin: 6px 0; }
th { white-space: nowrap; text-align: left; font-weight: 600; color: var(--soft); border-bottom: 1.5px solid var(--line); }
th, td { padding: 3px 10px 3px 0; vertical-align: top; overflow-wrap: anywhere; }
td { border-bottom: 1px solid var(--line); }
.number { text-align: right; white-space: nowrap; }
.total tr:last-child td { font-weight: 700; border-top: 1.5px solid var(--ink); }
.actions td:nth-child(3) { min-width: 120px; }
.bar { display: block; height: 4px; margin-top: 3px; background: #2171b5; }
ul { margin: 4px 0; padding-left: 18px; font-size: 12.5px; }
@media screen and (max-width: 700px) {
  main { padding: 12px; }
  table { display: block; overflow-x: auto; }
}
@page { size: A4; margin: 12mm 13mm; }
@media print {
  :root { --ink: #000000; --soft: #444444; --ground: #ffffff; --line: #bbbbbb; --mark: #000000; }
  body { font-size: 9.5pt; line-height: 1.3; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  h1 { font-size: 17pt; }
  h2 { font-size: 12.5pt; margin: 8pt 0 2pt; padding-top: 4pt; break-after: avoid; }
  h3 { font-size: 9.5pt; margin: 5pt 0 1pt; break-after: avoid; }
  figure { margin: 0 0 6pt; break-inside: avoid; }
  figure.actions, #small-print figure { break-inside: auto; }
  tr { break-inside: avoid; }
  figcaption { font-size: 10.5pt; margin: 3pt 0 2pt; break-after: avoid; }
  .paper { padding: 0; }
  .paper svg { width: 100%; max-height: 95mm; }
  .notes, .soft, ul { font-size: 7.5pt; }
  table { font-size: 8pt; }
  th, td { padding: 1.5pt 6pt 1.5pt 0; }
  .bar { -webkit-print-color-adjust: exact; print-color-adjust: exact; background: #555555; }
}
"""
