"""Which sizes are bought: money and pod-hours on each rung of the ladder."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runbook.answer import Answer
from runbook.cost import sizes
from tests.cost.priced_pods import SCOPE, frame, pod

SMALL = {"requested_vcpu": 2.0, "requested_memory_gib": 4.0, "billed_vcpu": 2.0, "billed_memory_gib": 4.0}
LARGE = {"requested_vcpu": 3.25, "requested_memory_gib": 7.5, "billed_vcpu": 4.0, "billed_memory_gib": 8.0}


def asked(*pods: dict[str, object]) -> Answer:
    return sizes.ladder(frame(*(pod(number, **values) for number, values in enumerate(pods, 1))), SCOPE)


def test_a_row_each_rung() -> None:
    """Pods of one billed size are one row: their number, hours, money, and its share; the dearest first."""
    answer = asked(
        {**SMALL, "seconds": 1800.0, "effective_cost": 1.0},
        {**SMALL, "seconds": 1800.0, "effective_cost": 2.0},
        {**LARGE, "seconds": 7200.0, "effective_cost": 9.0},
    )
    rows = answer.table[["vcpu", "memory_gib", "pods", "pod_hours", "cost", "share"]].values.tolist()
    assert rows == [[4, 8, 1, 2.0, 9.0, 0.75], [2, 4, 2, 1.0, 3.0, 0.25]]
    assert answer.n == 3


def test_the_sentence_has_the_numbers() -> None:
    """It names the dearest rung with its money and share, and how much was billed larger than asked for."""
    answer = asked({**SMALL, "effective_cost": 1.0}, {**LARGE, "effective_cost": 3.0})
    assert answer.sentence == (
        "4 vCPU / 8 GiB cost CNY 3.00, 75% of CNY 4.00; 50% of pod-hours were billed larger than asked for."
    )


def test_asked_sizes_lead_to_the_billed_one() -> None:
    """The part `asked` has each requested size with the rung that was billed for it, so that an arrow can be drawn."""
    answer = asked(LARGE, {**LARGE, "requested_vcpu": 4.0, "requested_memory_gib": 8.0}, LARGE)
    rows = answer.parts["asked"].drop(columns=["cost", "pod_hours", "unpriced_pods"]).values.tolist()
    assert rows == [[3.25, 7.5, 4, 8, 2], [4, 8, 4, 8, 1]]
    (row,) = answer.table.to_dict("records")
    assert row["rounded_up_hours"] == pytest.approx(2 * 600 / 3600)


def test_the_ladder_of_the_region() -> None:
    """The part `rungs` has what is on sale where these pods ran: 4 vCPU / 10 GiB in Hangzhou, not in Hong Kong."""
    for region, sold in (("cn-hangzhou", True), ("cn-hongkong", False)):
        answer = asked({**LARGE, "billed_memory_gib": 10.0, "region": region})
        rungs = set(answer.parts["rungs"][["vcpu", "memory_gib"]].itertuples(index=False, name=None))
        assert (2.0, 4.0) in rungs
        assert ((4.0, 10.0) in rungs) is sold
        assert answer.table["on_ladder"].tolist() == [sold]


def test_an_unknown_region_is_named() -> None:
    """A region without a ladder is said in a note, and all sizes are shown; nothing fails."""
    answer = asked({**SMALL, "region": "mars-1"}, {**SMALL, "region": None})
    assert any("mars-1" in note for note in answer.notes)
    assert len(answer.parts["rungs"]) > 50


def test_spot_and_ecs_types_are_told() -> None:
    """Hours of spot pods and of pods billed by ECS type are counted apart, and a note says what that means."""
    answer = asked(
        {**SMALL, "spot": True, "ecs_type": "ecs.c6.large", "seconds": 3600.0},
        {**SMALL, "ecs_type": "ecs.c6.large", "seconds": 7200.0},
        {**SMALL, "spot": None},
    )
    (row,) = answer.table.to_dict("records")
    assert (row["spot_hours"], row["ecs_type_hours"]) == (1.0, 2.0)
    assert [note for note in answer.notes if note.startswith("1.0 pod-hours were spot")]
    assert [note for note in answer.notes if note.startswith("2.0 pod-hours were billed by their ECS type")]


def test_unknown_money_and_size_are_counted() -> None:
    """A pod without a cost counts with its hours and is named with its bound; one without a size is on no rung."""
    unpriced = {**SMALL, "effective_cost": None, "cost_low": None, "cost_high": 5.0, "problem": "no spot price"}
    answer = asked(SMALL, unpriced, {"billed_vcpu": None, "billed_memory_gib": None, "effective_cost": 7.0})
    (row,) = answer.table.to_dict("records")
    assert (row["pods"], row["unpriced_pods"], row["cost"]) == (2, 1, pytest.approx(0.0735))
    assert "100% of a known CNY 0.0735" in answer.sentence
    assert "The cost of 1 pod is not known (at most CNY 5.00): counted as pods and hours, not as money." in answer.notes
    assert "Of 1 pod (CNY 7.00) nobody knows the size: on no rung." in answer.notes


def test_no_instance_is_no_size() -> None:
    """A pod for which no instance was made bought nothing."""
    assert asked({"problem": "no instance", "effective_cost": 0.0}).n == 0


def test_nothing_is_known_of_the_money() -> None:
    """Without a known cost the rungs are still there with their hours, and the sentence says so."""
    answer = asked({**SMALL, "effective_cost": None})
    assert answer.table["cost"].isna().all() and answer.parts["asked"]["cost"].isna().all()
    assert answer.sentence.startswith("What these pods cost is not known; most hours went to 2 vCPU / 4 GiB")


def test_empty() -> None:
    """Without pods there is a sentence, and a table with its columns and no row."""
    answer = sizes.ladder(frame(), SCOPE)
    assert answer.sentence == "No pod with a known size was billed in this window."
    assert answer.table.empty and list(answer.table) == list(sizes.RUNG_COLUMNS)


def test_chinese() -> None:
    """The same numbers in Chinese."""
    answer = sizes.ladder(frame(pod(**LARGE)), replace(SCOPE, language="zh"))
    assert (
        answer.sentence
        == "4 vCPU / 8 GiB 花费 CNY 0.0735，占 CNY 0.0735 的 100%；100% 的 Pod 时长按大于申请的规格计费。"
    )
