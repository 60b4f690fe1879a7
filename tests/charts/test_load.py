"""The charts of the load show the numbers of their answers, read back from the figure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from matplotlib.patches import StepPatch

from runbook.charts import load as draw
from runbook.charts import style
from runbook.cost import load
from tests.cost.priced_pods import SCOPE, frame, pod
from tests.cost.varied_pods import varied

PODS = frame(*varied(400).to_pylist())


def test_steps_are_the_hours() -> None:
    """Mean, p95 and most of each hour are the heights of the steps, and the quota is a line."""
    answer = load.concurrency(PODS, SCOPE, quota=20)
    (axes,) = draw.concurrency(answer).axes
    steps = {patch.get_gid(): patch for patch in axes.patches if isinstance(patch, StepPatch)}
    for name in ("mean", "p95", "most"):
        assert list(steps[name].get_data().values) == pytest.approx(answer.table[name].tolist())
    (quota,) = axes.lines
    assert set(quota.get_ydata()) == {20}


def test_bars_are_the_late_work() -> None:
    """A bar a limit, as long as the part of the work that comes late."""
    answer = load.replay(PODS, SCOPE)
    (axes,) = draw.replay(answer).axes
    widths = [bar.get_width() for bar in axes.patches]  # type: ignore[attr-defined]
    assert widths == pytest.approx(answer.table["late_share"].tolist())


@pytest.mark.parametrize("pods", [[], [pod()]], ids=["none", "one"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_little_data(pods: list[dict[str, Any]], language: Any) -> None:
    """Without pods, and with one, there is a chart in both languages, the same bytes each time."""
    scope = replace(SCOPE, language=language)
    for question, chart in ((load.concurrency, draw.concurrency), (load.replay, draw.replay)):
        answer = question(frame(*pods), scope)
        assert style.svg(chart(answer)) == style.svg(chart(answer))
