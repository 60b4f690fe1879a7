"""One style for all charts: what a figure says, that nothing overlaps, that it is the same bytes every time, in any language."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text

from runbook.answer import Answer, Scope
from runbook.charts import style
from runbook.settings import ROOT
from tests.cost.priced_pods import SCOPE

SENTENCE = (
    "Spot saved CNY 1,234.50 net, 43% of what the same work costs without it, in spite of 12 pods that were taken away."
)
CHINESE = (
    "抢占式实例净节省 CNY 1,234.50，为不用抢占式实例时费用的 43%，尽管有十二个容器组被回收，相关作业因此重新运行。"
)


def answer(sentence: str = SENTENCE, scope: Scope = SCOPE, rows: int = 3) -> Answer:
    table = pd.DataFrame(
        {"project": [f"grp/app-{one}" for one in range(rows)], "cost": [float(one + 1) for one in range(rows)]}
    )
    return Answer("example", "Does it pay?", sentence, table, scope, 1234)


def drawn(of: Answer) -> Figure:
    figure, axes = style.figure(of, height=2.5)
    axes.barh(range(len(of.table)), of.table["cost"])
    style.rows(axes, list(of.table["project"]))
    style.money_axis(axes, "x", of.scope, "cost")
    return figure


def said(figure: Figure, gid: str) -> str:
    return next(text.get_text() for text in figure.texts if text.get_gid() == gid).replace("\n", " ")


# -- what a figure says -----------------------------------------------------------------------------------------------


def test_message_above_source_below() -> None:
    """The title is the answer's sentence, the subtitle n and days, the footer currency and price date."""
    figure = drawn(answer())
    assert said(figure, "title") == SENTENCE
    assert said(figure, "subtitle") == "n = 1,234 pods, 2026-11-01 to 2026-11-30"
    assert said(figure, "footer") == "CNY, prices of 2024-11-27, days of UTC, practice"


def test_axes_have_units() -> None:
    """An axis of money names its currency, one of shares is in per cent, one of days names its time zone."""
    figure, (money, share, day) = style.panels(answer(), columns=3)
    style.money_axis(money, "y", SCOPE, "cost a day")
    style.share_axis(share, "y", "share of the cost, %")
    share.set_ylim(0, 1)
    style.date_axis(day, SCOPE)
    day.plot([date(2026, 11, 1), date(2026, 11, 20)], [0, 1])
    words = style.words(figure)
    assert {"cost a day, CNY", "share of the cost, %", "day, UTC", "20%"} <= set(words)
    assert [word for word in words if word.startswith("11-")]


def test_a_long_sentence_is_wrapped() -> None:
    """Every line of a title fits into the figure; the chart keeps its height, the figure grows."""
    short, long = drawn(answer("Short.")), drawn(answer(" ".join([SENTENCE] * 3)))
    lines = next(text for text in long.texts if text.get_gid() == "title").get_text().split("\n")
    assert len(lines) > 2
    assert all(style.width_of(line, style.TITLE, bold=True) <= long.get_figwidth() * 72 for line in lines)
    inches = [figure.axes[0].get_window_extent().height / figure.dpi for figure in (short, long) if style.svg(figure)]
    assert inches[0] == pytest.approx(inches[1], abs=0.02)


def test_chinese_breaks_anywhere_but_before_punctuation() -> None:
    """Chinese has no spaces: lines end between any two characters, and none begins with a comma or a full stop."""
    lines = style.wrap(CHINESE, 300, 12).split("\n")
    assert len(lines) > 1
    assert "".join(lines).replace(" ", "") == CHINESE.replace(" ", "")
    assert not [line for line in lines if line[0] in "，。"]
    assert all(style.width_of(line, 12) <= 300 for line in lines)


def test_nothing_to_draw() -> None:
    """An answer without data is a small figure with its sentence and one line, in the language of the answers."""
    for language, line in (("en", "Nothing to draw in this window."), ("zh", "该时段没有可绘制的数据。")):
        figure = style.nothing(answer("No pods.", replace(SCOPE, language=language)))  # type: ignore[arg-type]
        assert line in style.words(figure) and "No pods." in style.words(figure)
        assert figure.get_figheight() < 2


def test_days_whose_bill_is_not_final() -> None:
    """They are hatched, and a word says why."""
    figure, axes = style.figure(answer())
    band = style.not_final(axes, date(2026, 11, 28), date(2026, 11, 30), SCOPE)
    assert band.get_hatch() and band.get_width() == 2
    assert "bill not final" in style.words(figure)


def test_names_are_no_formulas() -> None:
    """Dollar signs in the name of a project are drawn as they are: nothing is typeset as mathematics."""
    of = replace(answer(), table=pd.DataFrame({"project": ["a_$x^2$", "b$"], "cost": [1.0, 2.0]}))
    assert b"<!-- a_$x^2$ -->" in style.svg(drawn(of))


# -- labels -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 300), min_size=1, max_size=12), st.floats(1, 20))
def test_labels_are_spread(places: list[float], gap: float) -> None:
    """Labels keep their order, stay within bounds, and neighbours are a gap apart, or evenly closer where they do not fit."""
    moved = style.spread(places, gap, 0, 300)
    gap = min(gap, 300 / len(places))
    ordered = [moved[index] for index in sorted(range(len(places)), key=lambda index: places[index])]
    assert all(after - before >= gap - 1e-6 for before, after in zip(ordered, ordered[1:], strict=False))
    assert min(moved) >= -1e-6 and max(moved) <= 300 + 1e-6


def test_labels_with_room_stay() -> None:
    """What does not overlap is not moved."""
    assert style.spread([10.0, 200.0, 60.0], 10, 0, 300) == [10.0, 200.0, 60.0]


def test_labels_of_different_width() -> None:
    """Each label gets the room that it needs: a wide one pushes its neighbours farther than a narrow one."""
    assert style.spread([100.0, 100.0], [40, 20], 0, 300) == pytest.approx([85.0, 115.0])


def test_end_labels_do_not_overlap() -> None:
    """Names at the ends of lines that end at one height stand below one another."""
    figure, axes = style.figure(answer())
    axes.set_ylim(0, 10)
    style.end_labels(axes, [style.Label(5.0, f"line {one}") for one in range(6)])
    assert len(axes.texts) == 6
    assert_apart(figure, axes.texts)


def test_labels_beside_points_do_not_overlap() -> None:
    """Names of neighbouring points go where there is room; one without room is left out."""
    figure, axes = style.figure(answer())
    axes.set_xlim(0, 10)
    axes.set_ylim(0, 10)
    crowd = [style.Spot(5 + 0.05 * one, 5, "CNY 1,234.50\n12 h") for one in range(30)]
    written = style.labels_beside(axes, crowd)
    assert 2 <= len(written) < 30
    assert_apart(figure, written)


def assert_apart(figure: Figure, texts: Sequence[Text]) -> None:
    """No two of the texts overlap; the lines that lead from them to what they name do not count."""
    style.words(figure)
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in texts]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_labels_inside_bars() -> None:
    """A label is written into a bar that holds it, in ink that is read on the bar's colour, and left out of a narrow one."""
    _, axes = style.figure(answer(), height=1)
    axes.set_xlim(0, 1)
    wide, narrow = axes.barh([0, 0], [0.6, 0.01], left=[0, 0.6], color=["#08306b", "#08306b"])
    (text,) = style.labels_inside(axes, [wide, narrow], ["60%", "1%"])
    assert (text.get_text(), text.get_color()) == ("60%", "#ffffff")


def test_short_names_both_ends() -> None:
    """A long path keeps its beginning and its end; a short one is left alone."""
    assert style.short("grp/demo") == "grp/demo"
    shortened = style.short("platform/infrastructure/kubernetes/operators/storage-provisioner", 30)
    assert len(shortened) == 30 and shortened.startswith("platform/") and shortened.endswith("provisioner")


# -- files ------------------------------------------------------------------------------------------------------------


def test_same_input_same_bytes() -> None:
    """The SVG of the same answer is the same bytes: drawn again, written twice, and after another figure was drawn."""
    first = style.svg(drawn(answer()))
    figure = drawn(answer())
    style.svg(drawn(answer(CHINESE, rows=20)))
    assert style.svg(figure) == style.svg(figure) == first


def test_same_bytes_in_another_process() -> None:
    """A fresh interpreter makes the same bytes: nothing depends on time, place or the seed of hashes."""
    code = "import sys; from tests.charts import test_style as t; sys.stdout.buffer.write(t.style.svg(t.drawn(t.answer())))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, timeout=120)
    assert done.stdout == style.svg(drawn(answer()))


def test_svg_stands_alone() -> None:
    """The SVG is well formed, has the sentence as its title, draws text as paths, and fetches nothing."""
    svg = style.svg(drawn(answer()))
    root = ElementTree.fromstring(svg)
    names = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert "text" not in names and "image" not in names and "script" not in names
    titles = [element.text for element in root if element.tag.endswith("}title")]
    assert titles == [SENTENCE]
    links = [value for element in root.iter() for key, value in element.attrib.items() if key.endswith("href")]
    assert links and all(link.startswith("#") for link in links)


def test_a_small_file() -> None:
    """A chart of twenty rows is no burden for a page: less than 150 kB."""
    assert len(style.svg(drawn(answer(rows=20)))) < 150_000


def test_png() -> None:
    """The PNG has the size of the figure, on white."""
    figure = drawn(answer())
    image = style.png(figure, dpi=50)
    assert image.startswith(b"\x89PNG")
    width = int.from_bytes(image[16:20], "big")
    assert width == round(figure.get_figwidth() * 50)


def test_no_pyplot() -> None:
    """Drawing and writing a chart loads neither pyplot nor a window system."""
    code = (
        "import sys; from tests.charts import test_style as t; t.style.svg(t.drawn(t.answer())); "
        "print([name for name in sys.modules if 'pyplot' in name or 'tkinter' in name or 'backend_qt' in name])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"


def test_a_figure_of_many_days() -> None:
    """Thirty days of eight lines are drawn and labelled, dates as numbers."""
    figure, axes = style.figure(answer())
    days = [date(2026, 11, 1) + timedelta(one) for one in range(30)]
    for line in range(8):
        axes.plot(days, np.linspace(line, line + 1, 30))
    style.date_axis(axes, SCOPE)
    style.end_labels(axes, [style.Label(line + 1.0, f"app {line}") for line in range(8)])
    words = style.words(figure)
    assert [word for word in words if word.startswith("11-")]
    assert {f"app {line}" for line in range(8)} <= set(words)
