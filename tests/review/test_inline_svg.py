"""Drawings inside a page."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from runbook.charts import failures as draw
from runbook.charts import style
from runbook.cost import failures
from runbook.review import inline_svg
from tests.cost.priced_pods import SCOPE, frame, pod

ANSWER = failures.pareto(frame(pod(1, job_status="failed"), pod(2, job_status="canceled", effective_cost=5.0)), SCOPE)
SVG = style.svg(draw.pareto(ANSWER))


def test_the_drawing_is_an_element_that_stands_alone() -> None:
    """No prolog, no style sheet, nothing that is fetched; it is well-formed, and says what it shows to those who cannot see it."""
    element = inline_svg.element(SVG, "failures", 'said "so"')
    assert ElementTree.fromstring(element).get("aria-label") == 'said "so"'
    assert "<style" not in element and "<?xml" not in element and "DOCTYPE" not in element
    links = re.findall(r'(?:href|src)="([^"]+)"', element)
    assert links and all(link.startswith("#failures-") for link in links)


def test_every_name_that_is_used_is_there_once() -> None:
    """Letters that were defined in the title, which the page says itself, are still defined."""
    element = inline_svg.element(SVG, "failures", "")
    names = re.findall(r'\bid="([^"]+)"', element)
    used = re.findall(r'(?:href="|url\()#([^")]+)', element)
    assert len(names) == len(set(names))
    assert set(used) == set(names)


def test_what_the_page_says_is_cut_off() -> None:
    """Without title and subtitle the drawing is lower, as wide as before, and scales with the page."""
    element = inline_svg.element(SVG, "failures", "")
    before = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', SVG.decode())
    after = re.search(r'viewBox="0 ([\d.]+) ([\d.]+) ([\d.]+)"', element)
    assert before and after
    assert after[2] == before[1]
    assert 25 < float(after[1]) < 90
    assert float(after[1]) + float(after[3]) == pytest.approx(float(before[2]), abs=0.1)
    assert not re.search(r'<svg[^>]* width="', element)


def test_two_drawings_share_no_names() -> None:
    """The same drawing twice in a page does not disturb itself."""
    one, two = (set(re.findall(r'\bid="([^"]+)"', inline_svg.element(SVG, name, ""))) for name in ("one", "two"))
    assert one and not one & two
