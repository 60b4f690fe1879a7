"""What is wrong with the data is named, with its share of the money."""

from __future__ import annotations

from datetime import timedelta

import pytest

from runbook.cost import data_quality
from runbook.cost.priced import Problem
from tests.cost.priced_pods import NOON, SCOPE, frame, pod


def test_pods_without_a_known_cost_are_named_with_what_bounds_it() -> None:
    """Of three pods one has an interval of 0 to 0.0735: a third of the pods, and a third of the money at most."""
    pods = frame(
        pod(1),
        pod(2),
        pod(3, effective_cost=None, cost_low=0.0, cost_high=0.0735, problem=Problem.UNKNOWN_ECS_TYPE.value),
    )
    answer = data_quality.problems(pods, SCOPE)
    (row,) = answer.table.to_dict("records")
    assert (row["problem"], row["pods"], row["cost"]) == ("unknown ECS type", 1, 0.0)
    assert (row["share_of_pods"], row["share_of_cost"]) == pytest.approx((1 / 3, 1 / 3))
    assert (
        answer.sentence
        == "The cost of 1 of 3 pods is not known: at most CNY 0.0735 where it has a bound, 33.3% of the period."
    )


def test_an_instance_in_two_records_is_named() -> None:
    """Two pods of one ECI instance are duplicates; two pods without an instance are not."""
    found = data_quality.problems(frame(pod(1, instance_id="eci-x"), pod(2, instance_id="eci-x"), pod(3)), SCOPE)
    assert found.table[["problem", "pods"]].to_numpy().tolist() == [["duplicate instance", 2]]
    found = data_quality.problems(frame(pod(1, instance_id=None), pod(2, instance_id=None)), SCOPE)
    assert not len(found.table)


def test_moments_out_of_order_are_named() -> None:
    """A pod that ran two minutes before its images were there had a wrong clock; a second is only rounding."""
    skewed = pod(1, pulled_at=NOON + timedelta(minutes=3), running_at=NOON + timedelta(minutes=1))
    rounded = pod(2, pulled_at=NOON + timedelta(seconds=13), running_at=NOON + timedelta(seconds=12))
    found = data_quality.problems(frame(skewed, rounded), SCOPE)
    assert found.table[["problem", "pods"]].to_numpy().tolist() == [["clock skew", 1]]


def test_pods_of_no_project_are_named() -> None:
    """A pod whose job nobody knows belongs to no project."""
    found = data_quality.problems(frame(pod(1, project_path=None)), SCOPE)
    assert found.table["problem"].tolist() == ["no project"]


def test_nothing_is_wrong_with_no_pods() -> None:
    """An empty period has no problems, and says that it is empty."""
    found = data_quality.problems(frame(), SCOPE)
    assert (len(found.table), found.sentence) == (0, "There are no pods in this period.")
