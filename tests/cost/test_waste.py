"""What of the money was used: the parts of a pod's cost, and that they add up to all of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import duckdb
import narwhals as nw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook.cost import waste
from tests.cost.priced_pods import NOON, SCOPE, frame, pod
from tests.cost.varied_pods import varied

PARTS = list(waste.PARTS)

ONE = {
    "seconds": 1000.0, "running_at": NOON + timedelta(seconds=100), "effective_cost": 10.0, "vcpu_cost": 6.0, "memory_cost": 4.0,
    "billed_vcpu": 4.0, "billed_memory_gib": 8.0, "requested_vcpu": 3.0, "requested_memory_gib": 6.0,
    "used_vcpu_peak": 2.0, "used_vcpu_mean": 1.0, "used_memory_peak_gib": 4.0, "used_memory_mean_gib": 3.0, "used_samples": 30,
}  # fmt: skip
"""CNY 10 for 1,000 seconds, a tenth of them start-up; 4 vCPU and 8 GiB billed, three quarters of them asked for."""


def split(**values: Any) -> dict[str, float]:
    """The parts of one pod's money, without those that are nothing."""
    (row,) = waste.waste(frame(pod(**{**ONE, **values})), SCOPE).table.to_dict("records")
    assert sum(row[part] for part in PARTS) == pytest.approx(row["cost"], abs=1e-12)
    return {part: round(row[part], 9) for part in PARTS if row[part]}


def test_every_part() -> None:
    """By time first, then each dimension by its own sizes and money: the example that the docstring defines."""
    assert split() == {
        "startup": 1.0,
        "rounding": round((6 * 1 / 4 + 4 * 2 / 8) * 0.9, 9),
        "over_ask": round((6 * 1 / 4 + 4 * 2 / 8) * 0.9, 9),
        "headroom": round((6 * 1 / 4 + 4 * 1 / 8) * 0.9, 9),
        "used": round((6 * 1 / 4 + 4 * 3 / 8) * 0.9, 9),
    }


def test_nobody_measured() -> None:
    """Without samples requested is one part, and rounding and start-up are known all the same."""
    unmeasured = dict.fromkeys(
        ("used_vcpu_peak", "used_vcpu_mean", "used_memory_peak_gib", "used_memory_mean_gib"), None
    )
    assert split(**unmeasured) == {"startup": 1.0, "rounding": 2.25, "unmeasured": 6.75}


def test_only_memory_was_measured() -> None:
    """Each dimension stands for itself: memory is split, vCPU is not."""
    parts = split(used_vcpu_peak=None, used_vcpu_mean=None)
    assert parts["unmeasured"] == pytest.approx(6 * 3 / 4 * 0.9)
    assert parts["used"] == pytest.approx(4 * 3 / 8 * 0.9)


def test_more_used_than_asked_for() -> None:
    """What was used is never waste: a job that used the room of the rounding has less rounding, and no over-ask."""
    parts = split(used_vcpu_peak=3.5, used_vcpu_mean=3.5, used_memory_peak_gib=8.0, used_memory_mean_gib=8.0)
    assert parts["rounding"] == pytest.approx(6 * 0.5 / 4 * 0.9)
    assert "over_ask" not in parts and "headroom" not in parts


def test_more_measured_than_there_was() -> None:
    """A sample above the billed size (a burst, a rounding of the metric) counts as all of it, not as more."""
    parts = split(used_vcpu_peak=9.0, used_vcpu_mean=5.0, used_memory_peak_gib=90.0, used_memory_mean_gib=80.0)
    assert parts == {"used": 9.0, "startup": 1.0}


def test_a_pod_of_which_no_container_ran() -> None:
    """All that it cost is start-up, where its end says that nothing ran."""
    assert split(running_at=None, ended="image_pull") == {"startup": 10.0}


def test_nobody_knows_when_it_ran() -> None:
    """Where only the moment is missing, no start-up is counted, and a note names the money."""
    assert "startup" not in split(running_at=None)
    notes = waste.waste(frame(pod(**{**ONE, "running_at": None})), SCOPE).notes
    assert any(note.startswith("Of 1 pod (CNY 10.00) nobody knows when a container ran first") for note in notes)


def test_ephemeral_storage_is_a_part() -> None:
    """What is paid for storage beyond the free 30 GiB is shown as such."""
    assert split(effective_cost=11.0)["storage"] == pytest.approx(0.9)
    table = waste.waste(frame(pod(**{**ONE, "effective_cost": 11.0})), SCOPE).parts["dimensions"]
    assert table.set_index("dimension")["cost"].to_dict() == pytest.approx({"vcpu": 6.0, "memory": 4.0, "storage": 1.0})


def test_sizes_nobody_knows() -> None:
    """Without a requested or a billed size that dimension's money is a part of its own."""
    assert split(requested_vcpu=None)["unsized"] == pytest.approx(5.4)
    assert split(vcpu_cost=None, memory_cost=None) == {"startup": 1.0, "unsized": 9.0}


def test_by_project() -> None:
    """A row a project, the dearest first, pods without one under their own name."""
    pods = frame(
        pod(1, **ONE), pod(2, **ONE | {"project_path": None}), pod(3, **ONE | {"project_path": None}), pod(4, **ONE | {"effective_cost": None, "project_path": "b"})
    )  # fmt: skip
    table = waste.waste(pods, SCOPE).table
    assert table[["project", "pods", "cost"]].values.tolist() == [
        ["not allocated", 2, 20],
        ["grp/demo", 1, 10],
        ["b", 1, 0],
    ]


def test_the_sentence_has_the_shares() -> None:
    """It splits the money of the window, parts below half a per cent left out."""
    pods = frame(pod(**{**ONE, "requested_vcpu": 3.2}))
    assert waste.waste(pods, SCOPE).sentence == (
        "Of CNY 10.00: 27% used, 18% headroom, 25% over-ask, 20% rounding, 10% start-up."
    )
    assert waste.waste(pods, replace(SCOPE, language="zh")).sentence == (
        "在 CNY 10.00 中：已使用 27%，余量 18%，多申请 25%，规格取整 20%，启动 10%。"
    )


def test_a_job_that_measured_itself() -> None:
    """It knows its build container: what the pod's other containers asked for was not measured, and is no over-ask."""
    of_job = {"used_source": "job", "build_vcpu": 2.5, "build_memory_gib": 5.0}
    parts = split(**of_job)
    assert parts["over_ask"] == pytest.approx((6 * 0.5 / 4 + 4 * 1 / 8) * 0.9)
    assert parts["unmeasured"] == pytest.approx((6 * 0.5 / 4 + 4 * 1 / 8) * 0.9)
    assert parts["used"] == split()["used"] and parts["rounding"] == split()["rounding"]
    assert "over_ask" not in split(used_source="job")


def test_unknown_costs_are_said() -> None:
    """A sum that leaves pods out calls itself known, and a note counts them with what bounds them."""
    unknown = {"effective_cost": None, "vcpu_cost": None, "memory_cost": None, "cost_low": 0.0, "cost_high": 4.0}
    answer = waste.waste(frame(pod(1, **ONE), pod(2, **ONE | unknown)), SCOPE)
    assert answer.sentence.startswith("Of a known CNY 10.00: ")
    assert "The cost of 1 pod is not known (at most CNY 4.00): counted as pods and hours, not as money." in answer.notes


def test_empty() -> None:
    """Without pods there is a sentence that says so, and no row."""
    answer = waste.waste(frame(), SCOPE)
    assert answer.sentence.startswith("No money to split") and answer.table.empty


def test_parts_add_up_for_all_sorts_of_pods() -> None:
    """For two thousand pods with gaps of every kind each project's parts add up to its cost, and dimensions to the whole."""
    pods = nw.from_native(duckdb.connect().from_arrow(varied(2000)))
    answer = waste.waste(pods, SCOPE)
    known = pods.select(nw.col("effective_cost").sum()).collect("pandas").to_native().iloc[0, 0]
    assert answer.table[PARTS].sum(axis=1).tolist() == pytest.approx(answer.table["cost"].tolist(), abs=1e-9)
    assert answer.table["cost"].sum() == pytest.approx(known, abs=1e-9)
    assert answer.parts["dimensions"]["cost"].sum() == pytest.approx(known, abs=1e-9)
    assert (answer.table[PARTS] >= -1e-9).all(axis=None)


numbers = st.floats(0.01, 64) | st.none()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(numbers, min_size=8, max_size=8),
    st.floats(-100, 5000) | st.none(),
    st.sampled_from(["deleted", "image_pull", "unknown", None]),
)
def test_parts_add_up_whatever_is_known(sizes: list[float | None], started: float | None, ended: str | None) -> None:
    """No part is negative and together they are the cost, for any sizes, gaps and clocks."""
    names = (
        "billed_vcpu", "billed_memory_gib", "requested_vcpu", "requested_memory_gib", "used_vcpu_peak", "used_vcpu_mean",
        "used_memory_peak_gib", "used_memory_mean_gib",
    )  # fmt: skip
    running = None if started is None else NOON + timedelta(seconds=started)
    parts = split(**dict(zip(names, sizes, strict=True)), running_at=running, ended=ended)
    assert all(value >= 0 for value in parts.values())
