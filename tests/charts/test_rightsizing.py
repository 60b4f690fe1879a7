"""The charts of right sizes, read back: what is drawn is what the table says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from matplotlib.figure import Figure

from runbook.answer import Answer, Scope
from runbook.charts import rightsizing as draw
from runbook.charts import style
from runbook.cost import rightsizing
from tests.cost.priced_pods import NOON, SCOPE, frame, pod

Drawn = tuple[Callable[..., Answer], Callable[[Answer], Figure]]
CHARTS: dict[str, Drawn] = {
    "dumbbell": (rightsizing.advice, draw.dumbbell),
    "backtest": (rightsizing.backtest, draw.backtest),
    "frontier": (rightsizing.frontier, draw.frontier),
}


def job(number: int, *, size: float = 4.0, used: float = 0.3, runs: int = 24, **values: Any) -> list[dict[str, Any]]:
    """The runs of one job of a project of its own, on `size` vCPU and twice as many GiB, of which they use a part."""
    asked = {
        "project_path": f"grp/project {number}", "requested_vcpu": size, "requested_memory_gib": 2 * size,
        "billed_vcpu": size, "billed_memory_gib": 2 * size, "effective_cost": 0.05 * size, "used_vcpu_peak": size * used,
        "used_memory_peak_gib": 2 * size * used, "used_source": "eci", "used_samples": 5,
    }  # fmt: skip
    return [
        pod(number * 1000 + n, billing_start_at=NOON + timedelta(hours=9 * n), **(asked | values)) for n in range(runs)
    ]


def drawn(name: str, *pods: dict[str, Any], scope: Scope = SCOPE) -> tuple[Answer, Figure]:
    """The answer and its figure."""
    ask, chart = CHARTS[name]
    answer = ask(frame(*pods), scope)
    return answer, chart(answer)


def marks(figure: Figure, gid: str) -> list[list[float]]:
    """Places of the marks of one kind, in the order in which they were drawn."""
    return [
        offset.tolist()
        for axes in figure.axes
        for marks in axes.collections
        if marks.get_gid() == gid
        for offset in marks.get_offsets()
    ]


def test_the_dumbbell_has_a_row_a_job() -> None:
    """Each job's row has its line from p50 to p99, hollow asked, square billed and filled recommended, where the table has them."""
    answer, figure = drawn("dumbbell", *job(1), *job(2, size=8.0), *job(3, runs=3))
    table = answer.table
    assert marks(figure, "asked-memory") == [[size, at] for at, size in enumerate(table["requested_memory_gib"])]
    assert marks(figure, "billed-vcpu") == [[size, at] for at, size in enumerate(table["billed_vcpu"])]
    assert marks(figure, "recommended-memory") == [
        [size, at] for at, size in enumerate(table["recommended_memory_gib"]) if size == size
    ]
    lines = [line for line in figure.axes[0].lines if line.get_gid() == "used-memory"]
    assert [list(line.get_xdata()) for line in lines] == table[["memory_p50", "memory_p99"]].to_numpy().tolist()
    words = " ".join(style.words(figure))
    assert "3 runs measured: 20 more needed" in words and "0 of 24" in words


def test_many_jobs_are_cut_and_said_to_be() -> None:
    """Of a hundred jobs the first twenty are drawn, and the chart says so; its title is the answer's sentence."""
    answer, figure = drawn("dumbbell", *(one for number in range(100) for one in job(number, runs=2)))
    assert len(marks(figure, "billed-memory")) == draw.MOST_ROWS
    words = style.words(figure)
    assert any("20 of 100 jobs" in word for word in words)
    assert answer.sentence in [word.replace("\n", " ") for word in words]


def test_a_larger_size_is_drawn_in_another_colour() -> None:
    """A job that needs a larger rung has its mark in vermilion, others in blue."""
    killed = {"ended": "out_of_memory", "used": 1.0}
    _, figure = drawn("dumbbell", *job(1), *job(2, **killed))
    colours = [
        marks.get_facecolor()[0].tolist()
        for marks in figure.axes[0].collections
        if marks.get_gid() == "recommended-memory"
    ]
    assert len(colours) == 2 and colours[0] != colours[1]


def test_the_backtest_steps_through_the_shares() -> None:
    """A panel a job: its steps are the table's shares, its band their interval, its rules the two sizes."""
    answer, figure = drawn("backtest", *job(1), *job(2, size=8.0))
    for axes, (_, table) in zip(figure.axes, answer.table.groupby("project", sort=False), strict=True):
        lines = {str(line.get_gid()): line for line in axes.lines}
        assert list(lines["share"].get_ydata())[1:-1] == table["share"].tolist()
        assert list(lines["share"].get_xdata())[1:-1] == table["memory_gib"].tolist()
        assert lines["billed"].get_xdata()[0] == table["billed_memory_gib"].iloc[0]
        assert lines["recommended"].get_xdata()[0] == table["recommended_memory_gib"].iloc[0]
        (band,) = [one for one in axes.collections if one.get_gid() == "allowed"]
        heights = band.get_paths()[0].vertices[:, 1]
        assert {round(value, 9) for value in table["share_low"]} <= {round(value, 9) for value in heights}


def test_the_frontier_joins_the_sizes_of_a_job() -> None:
    """A line a job: mean minutes of a run against its mean cost."""
    larger = {"billed_vcpu": 8.0, "billed_memory_gib": 16.0, "seconds": 330.0, "effective_cost": 0.22}
    answer, figure = drawn("frontier", *job(1), *job(1, **larger))
    (line,) = [one for one in figure.axes[0].lines if one.get_gid() == "frontier"]
    assert list(line.get_xdata()) == pytest.approx(answer.table["seconds"] / 60)
    assert list(line.get_ydata()) == pytest.approx(answer.table["cost"])
    assert any("8 / 16" in word for word in style.words(figure))


@pytest.mark.parametrize("name", CHARTS)
@pytest.mark.parametrize("pods", [[], [pod()], job(1, runs=1)], ids=["none", "one", "one measured"])
def test_little_data_is_drawn_too(name: str, pods: list[dict[str, Any]]) -> None:
    """Without pods, or with one, there is a figure with the answer's sentence."""
    answer, figure = drawn(name, *pods)
    assert answer.sentence in [word.replace("\n", " ") for word in style.words(figure)]


@pytest.mark.parametrize("name", CHARTS)
def test_the_same_bytes_for_the_same_input(name: str) -> None:
    """Two drawings of the same answer are the same file."""
    ask, chart = CHARTS[name]
    answer = ask(frame(*job(1), *job(2, size=8.0)), SCOPE)
    assert style.svg(chart(answer)) == style.svg(chart(answer))


@pytest.mark.parametrize("name", CHARTS)
def test_charts_speak_chinese(name: str) -> None:
    """With the scope's language the words on the chart are Chinese."""
    _, figure = drawn(name, *job(1), *job(2, size=8.0), scope=replace(SCOPE, language="zh"))
    assert any("\u4e00" <= character <= "\u9fff" for word in style.words(figure) for character in word)
