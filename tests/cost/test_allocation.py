"""How much of the money is somebody's."""

from __future__ import annotations

from typing import Any

import pytest

from runbook.answer import Answer
from runbook.cost import allocation
from runbook.settings import OtherCost
from tests.cost.priced_pods import SCOPE, frame, pod

NAT = OtherCost.model_validate({"name": "NAT gateway", "amount": 5, "first": "2026-01-01"})


def health(*pods: dict[str, Any], **options: Any) -> Answer:
    return allocation.health(frame(*pods), SCOPE, **options)


def test_the_spend_falls_into_four_parts() -> None:
    """Pods with project and job, with a project only, with neither, and what is shared: in this order, and nothing is lost."""
    nobody = pod(3, project_path=None, job_name=None, effective_cost=1.0)
    answer = health(
        pod(1, effective_cost=2.0), pod(2, job_name=None, effective_cost=2.0), nobody,
        pod(4, project_path=None, effective_cost=None), other=[NAT],
    )  # fmt: skip
    assert answer.table["kind"].tolist() == ["job", "project", "nobody", "other"]
    assert answer.table["cost"].tolist() == pytest.approx([2, 2, 1, 5])
    assert answer.table["pods"].tolist() == [1, 1, 2, 0]
    assert answer.table["share"].sum() == pytest.approx(1)
    assert answer.sentence.startswith(
        "40.0 % of the spend is allocated to a project; 2 pods (CNY 1.00, 10.0 %) have none"
    )


def test_the_worst_are_listed_by_runner_and_image() -> None:
    """Pods that are nobody's are told apart by what they still show."""
    answer = health(
        *(pod(n, project_path=None, image="builder:1", effective_cost=1.0) for n in range(3)),
        pod(9, project_path=None, image="odd:2", runner_name=None, effective_cost=7.0),
    )
    worst = answer.parts["worst"]
    assert worst["image"].tolist() == ["odd:2", "builder:1"]
    assert worst["pods"].tolist() == [1, 3]
    assert "runner ? with image odd:2" in answer.sentence


def test_all_is_allocated() -> None:
    """Where every pod has a project there is no list, and no advice."""
    answer = health(pod())
    assert answer.parts["worst"].empty
    assert answer.sentence.startswith("Every pod has a project: 100.0 %")
    assert answer.notes == ()


def test_nothing_to_allocate() -> None:
    """Without pods and without other costs there is no bar."""
    assert health().table.empty
