"""The one style of all charts: the message as title, what it rests on below it, units on every axis, labels instead of legends.

    def ladder(answer: Answer) -> Figure:
        if answer.table.empty:
            return style.nothing(answer)
        figure, axes = style.figure(answer, height=4)
        axes.barh(...)
        style.rows(axes, answer.table["project"])
        style.money_axis(axes, "x", answer.scope)
        return figure

Figures are matplotlib's own, made without pyplot: nothing global, nothing to close. `svg` and `png` give the bytes of a file,
the same for the same figure. Text becomes paths, so that a chart looks the same wherever it is opened.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from runbook.answer import Answer, Scope
from runbook.charts import fonts
from runbook.charts.colours import GRID, INK, PAPER, SOFT, ink_on

WIDTH, HEIGHT = 10.0, 4.0
"""Inches: of the figure, and of the part of it that is drawn on; title and footer come on top."""

TITLE, SUBTITLE, TEXT, FOOTER = 12.5, 9.0, 8.5, 7.5
"""Sizes of text in points."""

_LINE, _PAD = 1.35, 0.12
"""Height of a line as a multiple of its size, and the margin around everything in inches."""

Side = Literal["x", "y"]


@dataclass(frozen=True)
class Label:
    """A word at a place of one axis, in the colour of what it names."""

    at: float
    text: str
    colour: str = INK


@dataclass(frozen=True)
class Spot:
    """A word beside a point; `clear` is how far it stays from the point, in points."""

    x: float
    y: float
    text: str
    clear: float = 4.0


# -- figures ----------------------------------------------------------------------------------------------------------


def figure(answer: Answer, *, width: float = WIDTH, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """A figure with one set of axes that bears the answer's sentence, what it rests on, and its footer.

    `height` is that of the chart in inches; a long sentence makes the figure taller, not the chart smaller.
    """
    made, (axes,) = panels(answer, width=width, height=height)
    return made, axes


def panels(
    answer: Answer,
    *,
    rows: int = 1,
    columns: int = 1,
    width: float = WIDTH,
    height: float = HEIGHT,
    widths: Sequence[float] | None = None,
    heights: Sequence[float] | None = None,
    share_x: bool = False,
    share_y: bool = False,
) -> tuple[Figure, list[Axes]]:
    """Like `figure`, with several axes side by side or one above the other, row by row; `widths` and `heights` are relative."""
    made = Figure(figsize=(width, height), dpi=100, facecolor=PAPER)
    FigureCanvasAgg(made)
    made.set_label(answer.sentence)
    _frame(made, answer, height)
    grid = made.subplots(
        rows,
        columns,
        squeeze=False,
        sharex=share_x,
        sharey=share_y,
        gridspec_kw={"width_ratios": widths, "height_ratios": heights},
    )
    every = [axes for row in grid for axes in row]
    for axes in every:
        _plain(axes)
    return made, every


def nothing(answer: Answer) -> Figure:
    """The figure of an answer without data: its sentence, and one line that says that there is nothing to draw."""
    made, axes = figure(answer, height=0.7)
    axes.set_axis_off()
    line = answer.scope.text(en="Nothing to draw in this window.", zh="该时段没有可绘制的数据。")
    axes.text(0, 0.5, line, transform=axes.transAxes, fontsize=TITLE, color=SOFT, va="center", ha="left")
    return made


def _frame(made: Figure, answer: Answer, height: float) -> None:
    """Write title, subtitle and footer, and make the figure as much taller as they need."""
    width = made.get_figwidth()
    title = wrap(answer.sentence, (width - 2 * _PAD) * 72, TITLE, bold=True)
    subtitle = wrap(answer.subtitle, (width - 2 * _PAD) * 72, SUBTITLE)
    above = _inches(title, TITLE) + _inches(subtitle, SUBTITLE) + 2 * _PAD
    below = _inches(answer.footer, FOOTER) + _PAD
    total = above + height + below
    made.set_figheight(total)
    left = _PAD / width

    def write(gid: str, y: float, text: str, **look: Any) -> None:
        made.text(left, y, text, gid=gid, ha="left", linespacing=_LINE * 0.9, **look)

    write("title", 1 - _PAD / total, title, va="top", fontsize=TITLE, fontweight="bold", color=INK)
    below_title = 1 - (_PAD + _inches(title, TITLE)) / total
    write("subtitle", below_title, subtitle, va="top", fontsize=SUBTITLE, color=SOFT)
    write("footer", _PAD / 2 / total, answer.footer, va="bottom", fontsize=FOOTER, color=SOFT)
    made.set_layout_engine(
        "constrained", rect=(left, below / total, 1 - 2 * left, height / total), w_pad=0.05, h_pad=0.04
    )


def _inches(text: str, size: float) -> float:
    return (text.count("\n") + 1) * size * _LINE / 72


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(SOFT)
    axes.tick_params(colors=SOFT, labelcolor=INK, labelsize=TEXT, length=3, labelfontfamily=list(fonts.families()))
    axes.set_axisbelow(True)


# -- axes -------------------------------------------------------------------------------------------------------------


def name_axis(axes: Axes, side: Side, label: str) -> None:
    """Name an axis; the label ends with the unit: `memory, GiB`."""
    (axes.set_xlabel if side == "x" else axes.set_ylabel)(label, fontsize=TEXT, color=SOFT)


def number_axis(axes: Axes, side: Side, label: str) -> None:
    """An axis of plain numbers with thousands separated, with lines to read by; `label` ends with the unit."""
    axis = _axis(axes, side)
    axis.set_major_formatter(ticker.StrMethodFormatter("{x:,.10g}"))
    axes.grid(True, axis=side, color=GRID, linewidth=0.6)
    name_axis(axes, side, label)


def money_axis(axes: Axes, side: Side, scope: Scope, label: str = "") -> None:
    """An axis of money: `cost, CNY`."""
    number_axis(axes, side, f"{label}, {scope.currency}" if label else scope.currency)


def share_axis(axes: Axes, side: Side, label: str) -> None:
    """An axis of shares from 0 to 1, written in per cent."""
    number_axis(axes, side, label)
    _axis(axes, side).set_major_formatter(ticker.PercentFormatter(xmax=1, decimals=0))


def date_axis(axes: Axes, scope: Scope) -> None:
    """A horizontal axis of days or moments, written as numbers in any language: `11-03`; it names the time zone."""
    locator = AutoDateLocator(minticks=3, maxticks=10, interval_multiples=False)  # type: ignore[no-untyped-call]
    formats = ["%Y", "%Y-%m", "%m-%d", "%H:%M", "%H:%M", "%S.%f"]
    zero = ["", "%Y", "%m-%d", "%m-%d", "%H:%M", "%H:%M"]
    offset = ["", "%Y", "%Y", "%Y-%m-%d", "%Y-%m-%d", "%Y-%m-%d %H:%M"]
    formatter = ConciseDateFormatter(locator, formats=formats, zero_formats=zero, offset_formats=offset)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(formatter)
    axes.xaxis.get_offset_text().set(fontsize=TEXT, color=SOFT)
    name_axis(axes, "x", scope.text(en=f"day, {scope.timezone}", zh=f"日期，{scope.timezone}"))


def rows(axes: Axes, names: Sequence[str], *, most: int = 44) -> None:
    """Name rows 0, 1, 2, … of a chart, the first on top; long names lose their middle."""
    axes.set_yticks(range(len(names)), [short(name, most) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def height_of(rows: int) -> float:
    """Inches for a chart with so many rows."""
    return 0.7 + 0.27 * max(rows, 1)


def not_final(axes: Axes, first: date | datetime, last: date | datetime, scope: Scope) -> Rectangle:
    """Hatch the days whose bill may still change, and say so above them."""
    start, end = (float(date2num(day)) for day in (first, last))  # type: ignore[no-untyped-call]
    band = axes.axvspan(start, end, facecolor="none", edgecolor=SOFT, hatch="////", alpha=0.35, linewidth=0)
    axes.annotate(
        scope.text(en="bill not final", zh="账单未定"), (end, 1), xycoords=("data", "axes fraction"), xytext=(0, 2),
        textcoords="offset points", ha="right", va="bottom", fontsize=TEXT, color=SOFT,
    )  # fmt: skip
    return band


def _axis(axes: Axes, side: Side) -> Axis:
    return axes.xaxis if side == "x" else axes.yaxis


# -- labels -----------------------------------------------------------------------------------------------------------


def end_labels(axes: Axes, labels: Sequence[Label]) -> None:
    """Name lines or layers at the right edge, moved apart where they would overlap. Call it when the limits are set."""
    if not labels:
        return
    made = _settled(axes)
    box, point = axes.get_window_extent(), 72 / made.dpi
    heights = [float(axes.transData.transform((0, label.at))[1] - box.y0) * point for label in labels]
    places = spread(heights, TEXT * 1.3, 0, float(box.height) * point)
    for label, at, place in zip(labels, heights, places, strict=True):
        axes.annotate(
            label.text, (1, label.at), xycoords=("axes fraction", "data"), xytext=(12, place - at),
            textcoords="offset points", fontsize=TEXT, color=INK, va="center", ha="left",
            arrowprops={"arrowstyle": "-", "color": label.colour, "linewidth": 1.2, "shrinkA": 1, "shrinkB": 1},
        )  # fmt: skip


def labels_above(axes: Axes, labels: Sequence[Label]) -> None:
    """Name parts of the topmost bar above the axes, moved apart where they would overlap. Call it when the limits are set."""
    if not labels:
        return
    made = _settled(axes)
    box, point = axes.get_window_extent(), 72 / made.dpi
    places = [float(axes.transData.transform((label.at, 0))[0] - box.x0) * point for label in labels]
    widths = [max(width_of(line, TEXT) for line in label.text.split("\n")) + 8 for label in labels]
    moved = spread(places, widths, -20, float(box.width) * point + 20)
    for label, at, place in zip(labels, places, moved, strict=True):
        axes.annotate(
            label.text, (label.at, 1), xycoords=("data", "axes fraction"), xytext=(place - at, 10),
            textcoords="offset points", fontsize=TEXT, color=INK, va="bottom", ha="center", linespacing=1.1,
            arrowprops={"arrowstyle": "-", "color": label.colour, "linewidth": 1.2, "shrinkA": 1, "shrinkB": 0},
        )  # fmt: skip


def label_after(axes: Axes, x: float, y: float, text: str, *, colour: str = INK) -> Text:
    """Text to the right of a point: the end of a bar."""
    return axes.annotate(
        text, (x, y), xytext=(4, 0), textcoords="offset points", fontsize=TEXT, color=colour, va="center", ha="left"
    )  # fmt: skip


def labels_beside(axes: Axes, spots: Sequence[Spot], *, avoid: Sequence[tuple[float, float]] = ()) -> list[Text]:
    """Text above, below, right or left of each point, wherever it covers none of the others nor of `avoid`; first come first.

    Where nothing is free the text is left out: the table has it. Call it when the limits are set.
    """
    made = _settled(axes)
    scale = made.dpi / 72
    taken = []
    for at_x, at_y, clear in [*((spot.x, spot.y, spot.clear) for spot in spots), *((x, y, 3.0) for x, y in avoid)]:
        x, y = axes.transData.transform((at_x, at_y))
        half = clear * scale
        taken.append(Bbox.from_extents(x - half, y - half, x + half, y + half))
    written: list[Text] = []
    for spot in spots:
        lines = spot.text.split("\n")
        width, height = max(width_of(line, TEXT) for line in lines), len(lines) * TEXT * 1.2
        for dx, dy in _around(spot.clear + 2, width, height):
            x, y = axes.transData.transform((spot.x, spot.y)) + np.array([dx, dy]) * scale
            box = Bbox.from_bounds(x - width / 2 * scale, y, width * scale, height * scale)
            if any(box.overlaps(other) for other in taken):
                continue
            taken.append(box)
            written.append(axes.annotate(
                spot.text, (spot.x, spot.y), xytext=(dx, dy), textcoords="offset points", fontsize=TEXT, color=INK,
                ha="center", va="bottom", linespacing=1.1, bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
            ))  # fmt: skip
            break
    return written


def _around(far: float, width: float, height: float) -> list[tuple[float, float]]:
    """Where the middle of the lower edge of a text may be, from the point it names: above, below, beside, at the corners."""
    side, low = far + width / 2, -far - height
    beside = [(side, -height / 2), (-side, -height / 2)]
    return [(0, far), (0, low), *beside, (-side, far), (side, far), (-side, low), (side, low)]


def key(axes: Axes, text: str) -> None:
    """One line above the axes that says what marks mean, where they cannot be named beside themselves."""
    axes.set_title(text, loc="left", fontsize=TEXT, color=SOFT, pad=8)


def labels_inside(axes: Axes, bars: Sequence[Rectangle], texts: Sequence[str]) -> list[Text]:
    """Text in the middle of each bar, left out where it does not fit. Call it when the limits are set."""
    made = _settled(axes)
    written = []
    for bar, text in zip(bars, texts, strict=True):
        box = bar.get_window_extent()
        colour = matplotlib.colors.to_hex(bar.get_facecolor())
        if text and width_of(text, TEXT) * made.dpi / 72 + 4 < box.width and TEXT * made.dpi / 72 < box.height:
            x, y = bar.get_x() + bar.get_width() / 2, bar.get_y() + bar.get_height() / 2
            written.append(axes.text(x, y, text, fontsize=TEXT, color=ink_on(colour), ha="center", va="center"))
    return written


def spread(places: Sequence[float], gap: float | Sequence[float], low: float, high: float) -> list[float]:
    """The places moved apart by as little as possible until neighbours do not touch, between `low` and `high`.

    `gap` is the room that each needs, half of it on either side: one number for all, or one for each. Order is kept. Where
    they do not all fit, everyone gets less.
    """
    if not places:
        return []
    room = [gap] * len(places) if isinstance(gap, int | float) else list(gap)
    shrink = min(1.0, (high - low) / (sum(room) or 1.0))
    order = sorted(range(len(places)), key=lambda index: places[index])
    offsets, end = [], 0.0
    for index in order:
        offsets.append(end + room[index] * shrink / 2)
        end += room[index] * shrink
    groups: list[tuple[float, int]] = []
    for offset, index in zip(offsets, order, strict=True):
        mean, size = places[index] - offset, 1
        while groups and groups[-1][0] > mean:
            before, count = groups.pop()
            mean, size = (before * count + mean * size) / (count + size), count + size
        groups.append((mean, size))
    level = [mean for mean, size in groups for _ in range(size)]
    moved = [0.0] * len(places)
    for offset, index, mean in zip(offsets, order, level, strict=True):
        moved[index] = min(max(mean, low), high - end) + offset
    return moved


def short(text: str, most: int = 44) -> str:
    """The text with its middle left out where it is longer than `most` characters: both ends of a path tell something."""
    if len(text) <= most:
        return text
    head = (most - 1) // 3
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def _settled(axes: Axes) -> Figure:
    """The figure of the axes, laid out, so that places can be measured."""
    made = axes.get_figure(root=True)
    assert made is not None, "axes belong to a figure"
    _dress(made)
    _lay_out(made)
    return made


def _lay_out(made: Figure) -> None:
    """Find the places of all axes, without drawing anything; nothing for a figure that is laid out for good."""
    engine = made.get_layout_engine()
    if engine is not None:
        engine.execute(made)


# -- text -------------------------------------------------------------------------------------------------------------


def wrap(text: str, points: float, size: float, *, bold: bool = False) -> str:
    """The text in lines that are at most so many points wide; Chinese breaks anywhere, other text at spaces."""
    surely = points / (size * _WIDEST)
    return _wrap(text, points, lambda line: 0.0 if len(line) <= surely else width_of(line, size, bold=bold))


_WIDEST = 1.2
"""No letter is wider than this multiple of its size: so many letters fit, and need not be measured."""


@functools.lru_cache(maxsize=4096)
def width_of(text: str, size: float, *, bold: bool = False) -> float:
    """How wide a text is, in points."""
    canvas = _ruler()
    written = canvas.figure.text(0, 0, fonts.drawable(text), fontsize=size, fontweight="bold" if bold else "normal")
    _typeset(written)
    width = float(written.get_window_extent(canvas.get_renderer()).width)  # type: ignore[no-untyped-call]
    written.remove()
    return width


@functools.cache
def _ruler() -> FigureCanvasAgg:
    """The one canvas that texts are measured on: making it takes longer than measuring."""
    return FigureCanvasAgg(Figure(figsize=(1, 1), dpi=72))


def _wrap(text: str, points: float, width: Callable[[str], float]) -> str:
    lines, line = [], ""
    for piece in _pieces(text):
        if line and width((line + piece).rstrip()) > points:
            lines.append(line.rstrip())
            line = ""
        line += piece
    return "\n".join([*lines, line.rstrip()])


def _pieces(text: str) -> list[str]:
    """Where a line may end: after each piece. Punctuation stays with what it follows."""
    pieces: list[str] = []
    for character in text:
        starts = (
            not pieces or pieces[-1].endswith(" ") or (_breaks(character) and character not in "，。、；：）》！？％")
        )
        after = bool(pieces) and _breaks(pieces[-1][-1]) and character not in "，。、；：）》！？％ "
        if starts or after:
            pieces.append(character)
        else:
            pieces[-1] += character
    return pieces


def _breaks(character: str) -> bool:
    """Whether lines may break beside the character: Chinese, Japanese and full-width ones."""
    return "\u2e80" <= character <= "\u9fff" or "\uf900" <= character <= "\ufaff" or "\uff00" <= character <= "\uffef"


# -- files ------------------------------------------------------------------------------------------------------------


def svg(made: Figure) -> bytes:
    """The figure as SVG: the same bytes for the same figure, text as paths, nothing fetched from elsewhere."""
    file = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "runbook", "svg.fonttype": "path", **_fonts()}):
        _finish(made)
        # Not by savefig, which draws everything twice.
        FigureCanvasSVG(made).print_svg(file, metadata={"Date": None, "Creator": None, "Title": made.get_label()})  # type: ignore[no-untyped-call]
        FigureCanvasAgg(made)
    return file.getvalue()


def png(made: Figure, *, dpi: int = 144) -> bytes:
    """The figure as PNG."""
    file = io.BytesIO()
    with matplotlib.rc_context(_fonts()):
        _finish(made)
        made.savefig(file, format="png", facecolor=PAPER, dpi=dpi, metadata={"Software": None})
    return file.getvalue()


def words(made: Figure) -> list[str]:
    """Every text of the figure that is drawn, tick labels too: what a reader reads."""
    _dress(made)
    return [text.get_text() for text in made.findobj(Text) if text.get_text() and text.get_visible()]


def _fonts() -> Any:
    """Settings for texts that come into being only while the figure is drawn: ticks."""
    return {"text.parse_math": False, "font.family": list(fonts.families())}


def _finish(made: Figure) -> None:
    """Lay the figure out once and keep that to a tenth of a point: what is left of the last digits depends on earlier figures."""
    _dress(made)
    _lay_out(made)
    made.set_layout_engine("none")
    for axes in made.axes:
        left, bottom, width, height = axes.get_position().bounds
        axes.set_position((round(left, 4), round(bottom, 4), round(width, 4), round(height, 4)))


def _dress(made: Figure) -> None:
    """Set every text in fonts that have its characters; one that none has becomes `?`, and the footer says which it was."""
    replaced: set[str] = set()
    for axes in made.axes:
        for axis in (axes.xaxis, axes.yaxis):
            labels = [label.get_text() for label in axis.get_ticklabels()]
            if [fonts.drawable(label) for label in labels] != labels:
                axis.set_ticklabels([_drawable(label, replaced) for label in labels])
    for text in made.findobj(Text):
        _typeset(text)
        if fonts.drawable(text.get_text()) != text.get_text():
            text.set_text(_drawable(text.get_text(), replaced))
    footer = next((text for text in made.texts if text.get_gid() == "footer"), None)
    if replaced and footer is not None:
        codes = ", ".join(sorted(f"U+{ord(one):04X}" for one in replaced)[:3])
        footer.set_text(f"{footer.get_text()}; {fonts.MISSING} = {codes}")


def _drawable(text: str, replaced: set[str]) -> str:
    """The text as it can be drawn; what had to go is added to `replaced`."""
    drawn = fonts.drawable(text)
    replaced.update(one for one, shown in zip(text, drawn, strict=True) if one != shown)
    return drawn


def _typeset(text: Text) -> None:
    families = fonts.families()
    text.set_fontfamily(
        list(families[:1] if text.get_text().isascii() else families)
    )  # looking in a second font takes time
    text.set_parse_math(False)
