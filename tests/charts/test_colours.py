"""The same project has the same colour everywhere, and everybody can tell the colours apart."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from runbook.charts import colours
from tests.cost.priced_pods import SCOPE

PROJECTS = tuple(f"grp/app-{one}" for one in range(12))
SEEN_BY = {
    "everybody": np.eye(3),
    "deuteranopes": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    "protanopes": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "tritanopes": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
}  # fmt: skip
"""Linear RGB as each sees it, after Machado, Oliveira and Fernandes 2009, severity 1."""


def test_same_colour_in_every_chart() -> None:
    """A project's colour depends on the period alone, not on who else is in a chart, and holds from run to run."""
    scope = replace(SCOPE, projects=PROJECTS)
    known = {"grp/app-0": "#882255", "grp/app-1": "#332288", "grp/app-2": "#009E73"}
    assert {one: colours.colour_of(one, scope) for one in known} == known


def test_the_dearest_eight_differ() -> None:
    """Eight projects have eight looks; the ninth and all others are grey, as are the rest and pods without a project."""
    scope = replace(SCOPE, projects=PROJECTS)
    first, later = PROJECTS[:8], PROJECTS[8:]
    assert len({colours.colour_of(one, scope) for one in first}) == 8
    assert len({colours.look_of(one, scope).hatch for one in first}) == 8
    assert {colours.colour_of(one, scope) for one in later} == {colours.REST}
    assert colours.colour_of(scope.rest, scope) == colours.REST
    assert colours.colour_of(None, scope) == colours.colour_of(scope.not_allocated, scope) == colours.NOT_ALLOCATED


def test_a_new_project_changes_few_colours() -> None:
    """The dearest project keeps its own colour whoever else comes; next month's order does not repaint everything."""
    for lead in PROJECTS:
        others = tuple(one for one in PROJECTS if one != lead)
        assert colours.colour_of(lead, replace(SCOPE, projects=(lead, *others))) == colours.colour_of(lead, SCOPE)


@pytest.mark.parametrize("who", SEEN_BY)
def test_colours_are_told_apart(who: str) -> None:
    """No two of the eight look alike to people with any kind of colour blindness (CIE 1976 difference of at least 15)."""
    seen = [lab(SEEN_BY[who] @ linear(look.colour)) for look in colours.LOOKS]
    nearest = min(float(np.linalg.norm(one - other)) for one, other in combinations(seen, 2))
    assert nearest >= 15


def test_grey_print() -> None:
    """What has no own hue keeps its order in grey: the steps of a ladder of parts are at least 0.06 of luminance apart."""
    steps = [colours.luminance(colour) for colour in colours.LADDER]
    assert all(after - before >= 0.06 for before, after in zip(steps, steps[1:], strict=False))
    assert len({(look.hatch, look.marker, look.dashes) for look in colours.LOOKS}) == len(colours.LOOKS)


def test_shades_go_one_way() -> None:
    """More of something is darker, from white to dark blue."""
    shades = [colours.luminance(colours.shade(share)) for share in np.linspace(0, 1, 11)]
    assert shades == sorted(shades, reverse=True)
    assert colours.shade(-1) == "#ffffff" and colours.shade(2) == colours.shade(1)


@pytest.mark.parametrize("colour", [*colours.LADDER, *(look.colour for look in colours.LOOKS)])
def test_ink_is_read_on_any_colour(colour: str) -> None:
    """Text on a colour has a contrast of at least 4.5, as WCAG 2 asks for."""
    dark, light = sorted((colours.luminance(colour), colours.luminance(colours.ink_on(colour))))
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def linear(colour: str) -> np.ndarray:
    """Linear RGB of a colour."""
    channels = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear RGB."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.clip(to_xyz @ np.clip(rgb, 0, 1) / np.array([0.9505, 1.0, 1.089]), 1e-9, None)
    f = [value ** (1 / 3) if value > 0.008856 else 7.787 * value + 16 / 116 for value in (x, y, z)]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])
