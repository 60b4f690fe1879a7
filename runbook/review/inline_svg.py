"""Charts inside one HTML page: an SVG file as an element that fits beside others."""

from __future__ import annotations

import re
from html import escape

_TAG = re.compile(r"<(/?)g\b[^>]*?(/?)>")
_PLACE = re.compile(r"translate\(([-\d.]+)[ ,]([-\d.]+)\)")
_VIEW_BOX = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')
_DEFINED = re.compile(r"<defs>.*?</defs>", re.DOTALL)
_SIZE = re.compile(r'\s(?:width|height)="[\d.]+pt"')

BELOW = 5.0
"""Points that are left between the baseline of the last line that is cut off and what is shown."""


def element(svg: bytes, name: str, label: str) -> str:
    """The drawing as an `svg` element without the title and subtitle, which the page says in its own text.

    Names inside get the prefix `name`, so that many drawings stand in one page; `label` is read to those who cannot see it.
    """
    text = svg.decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<title>.*?</title>", "", text, count=1, flags=re.DOTALL)
    text, cut = _without(text, "title", "subtitle")
    text = _cropped(text, cut)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda id: f' id="{name}-{id[1]}"' if id[1] in used else "", text)
    text = re.sub(r'(href="|url\()#', rf"\1#{name}-", text)
    # The drawing's style sheet would hold for the whole page: what it says is inherited from the element as well.
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    look = "stroke-linejoin:round;stroke-linecap:butt"
    return f'<svg role="img" aria-label="{escape(label, quote=True)}" style="{look}" {text[len("<svg") :].strip()}'


def _without(text: str, *ids: str) -> tuple[str, float]:
    """The text without these groups, and how far down (points) the lowest line of them stood; 0 where there is none."""
    lowest = 0.0
    for id in ids:
        span = _group(text, id)
        if span is None:
            continue
        lines = [float(y) for _, y in _PLACE.findall(text[slice(*span)])]
        lowest = max([lowest, *lines])
        kept = "".join(
            _DEFINED.findall(text, *span)
        )  # letters are defined where they first occur, and used again below
        text = text[: span[0]] + kept + text[span[1] :]
    return text, lowest


def _group(text: str, id: str) -> tuple[int, int] | None:
    """Where the group of this id begins and ends."""
    start = text.find(f'<g id="{id}"')
    if start < 0:
        return None
    depth = 0
    for tag in _TAG.finditer(text, start):
        closing, empty = tag.groups()
        depth += -1 if closing else 0 if empty else 1
        if depth == 0:
            return start, tag.end()
    return None


def _cropped(text: str, cut: float) -> str:
    """The drawing from below the last line that was cut off; its size is left to the page."""
    top = cut + BELOW if cut else 0.0
    head, rest = text[: text.index(">") + 1], text[text.index(">") + 1 :]
    head = _VIEW_BOX.sub(lambda box: f'viewBox="0 {top:.1f} {box[1]} {float(box[2]) - top:.1f}"', head)
    return _SIZE.sub("", head) + rest
