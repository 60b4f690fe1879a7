"""Colours that mean the same in every chart: one for each project, and one for each kind of thing.

The palette is that of Okabe and Ito (https://jfly.uni-koeln.de/color/), told apart by people with any kind of colour blindness; its
black is for text, and its yellow is lost on white: indigo and wine of Paul Tol (https://personal.sron.nl/~pault/) stand for them. In
grey print a project is known by its hatch and marker.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from runbook.answer import Scope

INK, SOFT, GRID, PAPER = "#1a1a1a", "#5f5f5f", "#d9d9d9", "#ffffff"
"""Text, text that explains, lines to read by, and the ground."""

GOOD, BAD = "#0072B2", "#D55E00"
"""Less money and more money: blue and vermilion; always with a sign beside it, never by colour alone."""

SPOT, ON_DEMAND = "#56B4E9", "#0072B2"
"""Spot instances lighter than those at the full price."""

REST, NOT_ALLOCATED, UNKNOWN = "#c4c4c4", "#7f7f7f", "#ededed"
"""Everything too small to be named; pods without a project; what nobody measured."""

LADDER = ("#08306b", "#2171b5", "#6baed6", "#c6dbef", "#e8f1fa")
"""Parts in an order, the most important darkest: one hue, so that grey print keeps the order."""


@dataclass(frozen=True)
class Look:
    """How one project is drawn: colour, and for grey print hatch, marker and dashes."""

    colour: str
    hatch: str = ""
    marker: str = "o"
    dashes: tuple[float, ...] = ()

    @property
    def bar(self) -> dict[str, Any]:
        """Arguments of a bar or an area."""
        return {"facecolor": self.colour, "edgecolor": PAPER, "hatch": self.hatch, "linewidth": 0.6}

    @property
    def line(self) -> dict[str, Any]:
        """Arguments of a line."""
        style = (0, self.dashes) if self.dashes else "-"
        return {"color": self.colour, "marker": self.marker, "linestyle": style, "markersize": 4, "linewidth": 1.8}


LOOKS = (
    Look("#0072B2", "", "o"),
    Look("#E69F00", "//", "s", (5, 1.5)),
    Look("#009E73", "\\\\", "^", (1.5, 1.2)),
    Look("#D55E00", "--", "D", (6, 1.5, 1.5, 1.5)),
    Look("#56B4E9", "xx", "v", (3, 1.2)),
    Look("#CC79A7", "++", "P", (8, 2)),
    Look("#332288", "||", "X", (4, 1, 1, 1, 1, 1)),
    Look("#882255", "////", "h", (2, 2)),
)
"""Eight looks that no two projects of the first eight share."""


def look_of(project: str | None, scope: Scope) -> Look:
    """The look of a project: the same in every chart of a period, and as a rule in every period.

    Each project has a look by its name; where two of the dearest eight have the same, the dearer one keeps it. Grey for a project
    that is not among them, for the rest, and for pods without a project (`None`). Without `scope.projects` two may look the same.
    """
    if project is None or project == scope.not_allocated:
        return Look(NOT_ALLOCATED, "xx", "x")
    if project == scope.rest:
        return Look(REST)
    if not scope.projects:
        return LOOKS[_preferred(project)]
    return _assigned(scope.projects[: len(LOOKS)]).get(project, Look(REST))


def colour_of(project: str | None, scope: Scope) -> str:
    """The colour of a project; see `look_of`."""
    return look_of(project, scope).colour


def shade(share: float) -> str:
    """The colour of a cell of a heat map: white for 0, dark blue for 1."""
    from matplotlib.colors import LinearSegmentedColormap, to_hex

    scale = LinearSegmentedColormap.from_list("shade", [PAPER, *reversed(LADDER)])
    return str(to_hex(scale(float(min(max(share, 0.0), 1.0)))))


def ink_on(colour: str) -> str:
    """The colour of text that is read on `colour`: dark or white, whichever stands out more."""
    return INK if luminance(colour) > 0.22 else PAPER


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it: 0 for black, 1 for white."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _preferred(project: str) -> int:
    return int.from_bytes(hashlib.sha256(project.encode()).digest()[:4], "big") % len(LOOKS)


def _assigned(projects: tuple[str, ...]) -> dict[str, Look]:
    """The look of each of at most eight projects: its own, or the next one that is free."""
    taken: dict[int, str] = {}
    for project in projects:
        first = _preferred(project)
        slot = next(at % len(LOOKS) for at in range(first, first + len(LOOKS)) if at % len(LOOKS) not in taken)
        taken[slot] = project
    return {project: LOOKS[slot] for slot, project in taken.items()}
