"""How a value looks in JupyterLab and in an exported page.

Styles stand in each element, because JupyterLab strips style sheets from a notebook that it did not run itself, and every notebook
that papermill ran is such a one. Colours are chosen to be read on white and on black; shades are opacity, so that they fit any theme.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

GREEN, AMBER, RED, GREY = "#1f9d4d", "#b7791f", "#e5484d", "#8b8b8b"

_CELL = "text-align:left;vertical-align:top;padding:3px 14px 3px 0;background:none"
_TABLE = "border-collapse:collapse;margin:2px 0 8px 0;font-size:13px"
_PRE = (
    "margin:3px 0;padding:5px 8px;white-space:pre-wrap;font-size:12px;font-family:monospace;"
    "background-color:rgba(128,128,128,0.12);border-radius:3px"
)


def block(body: str, *, title: str = "", colour: str = GREY) -> str:
    """A value as a whole: its title (HTML) beside a coloured bar, then `body`."""
    bar = f"margin:4px 0 6px 0;padding-left:9px;border-left:4px solid {colour};font-size:15px"
    head = f"<p style='{bar}'>{title}</p>" if title else ""
    return f"<div style='font-size:13px;line-height:1.45;max-width:1100px'>{head}{body}</div>"


def pairs(rows: Mapping[str, object]) -> str:
    """Names and values as a small table; empty for no rows."""
    lines = "".join(
        f"<tr style='background:none'><td style='{_CELL};white-space:nowrap;opacity:0.7'>{escape(str(name))}</td>"
        f"<td style='{_CELL};white-space:pre-wrap'>{escape(str(value))}</td></tr>"
        for name, value in rows.items()
    )
    return table(lines) if lines else ""


def table(rows: str) -> str:
    """A table of rows that are HTML already."""
    return f"<table style='{_TABLE}'>{rows}</table>"


def marked_row(mark: str, colour: str, body: str) -> str:
    """A row with a coloured mark before it: `✔ pass`, `+ create`."""
    first = f"<td style='{_CELL};white-space:nowrap;font-weight:600;color:{colour}'>{escape(mark)}</td>"
    return f"<tr style='background:none'>{first}<td style='{_CELL}'>{body}</td></tr>"


def soft(text: str) -> str:
    """Text that explains, paler than what it explains; several lines keep their breaks."""
    return f"<div style='opacity:0.75;white-space:pre-wrap'>{escape(text)}</div>" if text else ""


def pre(text: str) -> str:
    """A block to copy or to read as it is."""
    return f"<pre style='{_PRE}'>{escape(text)}</pre>" if text else ""


def diff(text: str) -> str:
    """A unified diff with its added and removed lines in colour; its two lines of names are left out."""
    if not text:
        return ""
    colours = {"+": GREEN, "-": RED}
    lines = [
        f"<span style='color:{colours[line[:1]]}'>{escape(line)}</span>" if line[:1] in colours else escape(line)
        for line in text.splitlines()
        if not line.startswith(("--- ", "+++ "))
    ]
    return f"<pre style='{_PRE}'>" + "\n".join(lines) + "</pre>"
