"""What failed work cost, by reason."""

from __future__ import annotations

from typing import Any

import pytest

from runbook.answer import Answer
from runbook.cost import failures
from tests.cost.priced_pods import SCOPE, frame, pod


def asked(*pods: dict[str, Any]) -> Answer:
    return failures.pareto(frame(*pods), SCOPE)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"job_status": "failed", "job_failure_reason": "script_failure"}, "script_failure"),
        ({"job_status": "failed"}, "failed"),
        ({"job_status": "canceled"}, "canceled"),
        ({"job_status": "failed", "job_failure_reason": "runner_system_failure", "ended": "reclaimed"}, "reclaimed"),
        ({"job_status": "success", "false_green": True, "ended": "lost"}, "lost"),
        ({"job_status": None, "ended": "out_of_memory"}, "out_of_memory"),
        ({"job_status": None, "ended": "failed"}, "failed"),
        ({"job_status": None, "ended": "image_pull", "false_green": None}, "image_pull"),
    ],
)
def test_a_reason(values: dict[str, Any], reason: str) -> None:
    """How the pod ended goes before GitLab's reason; GitLab's word goes before nothing at all."""
    assert asked(pod(**values)).table["reason"].tolist() == [reason]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"job_status": "success", "ended": "out_of_memory"},
        {"job_status": None, "ended": "deleted"},
        {"job_status": "running", "ended": "live"},
    ],
)
def test_no_failure(values: dict[str, Any]) -> None:
    """A success is a success even where a service was killed; and where nobody says that a pod failed, it did not."""
    assert asked(pod(**values)).table.empty


def test_reasons_are_ranked_by_money() -> None:
    """Ten cheap script failures stand below one dear reclaim, and the shares add up to one."""
    cheap = [pod(n, job_status="failed", job_failure_reason="script_failure", effective_cost=0.1) for n in range(10)]
    dear = pod(99, job_status="failed", ended="reclaimed", effective_cost=9.0)
    answer = asked(*cheap, dear, pod(100, effective_cost=10.0))
    assert answer.table[["reason", "pods", "cost"]].to_numpy().tolist() == [
        ["reclaimed", 1, pytest.approx(9)],
        ["script_failure", 10, pytest.approx(1)],
    ]
    assert answer.table["cumulative"].tolist() == pytest.approx([0.9, 1])
    assert answer.sentence.startswith("CNY 10.00, 50 % of the pods' cost, led to nothing; 1 of 2 reasons make up 80 %")


def test_unknown_costs_are_counted() -> None:
    """A failed pod whose cost is not known stands in the table, and a note says that its money is missing."""
    answer = asked(pod(job_status="failed", effective_cost=None))
    assert answer.table["pods"].tolist() == [1]
    assert any(note.endswith("not known: 1.") for note in answer.notes)


def test_all_went_well() -> None:
    """Without failures, and without pods, the sentence says that none is known."""
    assert asked(pod()).sentence == asked().sentence == "No pod's work is known to have failed."
