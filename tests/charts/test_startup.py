"""The charts of notebook 40 show the numbers of their answers, read back from the figure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from runbook.answer import Answer
from runbook.charts import startup as draw
from runbook.charts import style
from runbook.cost import startup
from tests.cost.priced_pods import SCOPE, frame, pod
from tests.cost.questions import answered
from tests.cost.varied_pods import varied

PODS = frame(*varied(400).to_pylist())
CHARTS: dict[str, Callable[[Answer], Figure]] = {
    "startup.phases": draw.phases,
    "startup.pulls": draw.pulls,
    "startup.image_caches": draw.image_caches,
}


def test_bars_are_the_phases() -> None:
    """Each bar is as high as its phase's quantile in that week, and the marks stand at the start-up's own quantile."""
    answer = answered("startup.phases", PODS)
    figure = draw.phases(answer)
    for axes, quantile in zip(figure.axes[:2], ("p50_seconds", "p95_seconds"), strict=True):
        by_phase = answer.table.pivot(index="week", columns="phase", values=quantile)
        for bars in axes.containers:
            heights = [bar.get_height() for bar in bars.patches]  # type: ignore[attr-defined]
            assert heights == pytest.approx(by_phase[bars.get_label()].tolist())
        (marks,) = axes.lines
        assert list(marks.get_ydata()) == pytest.approx(by_phase["start-up"].tolist())
    run = answer.table.query("phase == 'run'")
    for axes, quantile in zip(figure.axes[2:], ("p50_seconds", "p95_seconds"), strict=True):
        assert [bar.get_height() for bar in axes.patches] == pytest.approx(run[quantile].tolist())  # type: ignore[attr-defined]


def test_cells_are_the_shares() -> None:
    """A cell is white where there were no pods, darkest where the share is the largest, and says its share."""
    answer = answered("startup.pulls", PODS)
    figure = draw.pulls(answer)
    for axes, images in zip(figure.axes, draw.FACETS, strict=True):
        table = answer.table[answer.table["images"] == images]
        (image,) = axes.images
        light = np.asarray(image.get_array()).sum(axis=2).T.ravel()
        shares = table["share"].to_numpy()
        assert (light[shares == 0] == 3).all()
        assert (np.diff(light[np.argsort(shares)]) <= 1e-9).all()
        written = {text.get_text() for text in axes.texts}
        assert written == {f"{share:.0%}" for share in shares if share >= 0.005}


def test_caches_balance() -> None:
    """Bars are the money that each image saved, then all of it, what the caches cost (to the left), and the rest."""
    answer = answered("startup.image_caches", PODS)
    (axes,) = draw.image_caches(answer).axes
    widths = [bar.get_width() for bar in axes.patches]  # type: ignore[attr-defined]
    assert widths[:-3] == pytest.approx(answer.table["saved"].tolist())
    assert widths[-3:] == pytest.approx(answer.parts["balance"]["cost"].tolist())
    assert widths[-2] < 0


def test_an_unknown_amount_is_no_zero() -> None:
    """Where nobody knows what the caches cost, or a pod cost, there is no bar, and the row says that it is not known."""
    pods = [pod(number, pulled_at=None, pull_seconds=40.0, image_cache_hit=False) for number in range(6)]
    cached = pod(9, effective_cost=None, pulled_at=None, pull_seconds=4.0)
    (axes,) = draw.image_caches(startup.image_caches(frame(*pods, cached), SCOPE, [])).axes
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["unknown: 1 starts, 36 s each", "unknown", "unknown", "unknown"]


def test_many_images_are_the_first_and_the_rest() -> None:
    """Fifteen images have a bar each, the others one together; no money is lost on the way."""
    rows = [row | {"image": f"image-{number % 100:03}"} for number, row in enumerate(varied(2000).to_pylist())]
    answer = answered("startup.image_caches", frame(*rows))
    (axes,) = draw.image_caches(answer).axes
    widths = [bar.get_width() for bar in axes.patches]  # type: ignore[attr-defined]
    assert len(widths) == draw.MOST_IMAGES + 1 + 3
    assert sum(widths[:-3]) == pytest.approx(answer.table["saved"].sum())


@pytest.mark.parametrize("name", CHARTS)
@pytest.mark.parametrize("pods", [[], [pod()]], ids=["none", "one"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_little_data(name: str, pods: list[dict[str, Any]], language: Any) -> None:
    """Without pods, and with one, there is a chart that says its sentence, in both languages."""
    answer = answered(name, frame(*pods), replace(SCOPE, language=language))
    figure = CHARTS[name](answer)
    assert style.png(figure, dpi=30)
    assert style.words(figure)


@pytest.mark.parametrize("name", CHARTS)
def test_same_bytes(name: str) -> None:
    """The same answer gives the same SVG, byte for byte."""
    assert style.svg(CHARTS[name](answered(name, PODS))) == style.svg(CHARTS[name](answered(name, PODS)))
