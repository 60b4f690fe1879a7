"""The short form of `python -m soak.played_month`: some hours of an even day instead of a month."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runbook.history.record import Known, PodRecord
from sandbox.traffic.lives import draw
from sandbox.traffic.team import TEAM
from sandbox.traffic.truth import PodTruth, Truth, planned
from soak.played_month import ACCIDENTS, Compared, Stage, compare, soak

EVEN = replace(TEAM, hours=(1.0,) * 24, weekend=1.0)
"""The team as it would be if nobody slept: so that pods come and go all the time, also while nobody watches."""
MOMENTS = (0.05, 0.15, 0.25, 0.3, 0.5)
BEGIN = datetime(2026, 11, 25, tzinfo=UTC)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    """160 pods with one accident of each kind."""
    once = {accident.do: accident for accident in ACCIDENTS}
    order = (Stage.kill_collector, Stage.kill_api_server, Stage.look_away, Stage.forget, Stage.look_again)
    accidents = [replace(once[do], at=at) for do, at in zip(order, MOMENTS, strict=True)]
    folder = tmp_path_factory.mktemp("played")
    return soak(folder, days=1, times=1, pods=160, factor=450, team=EVEN, accidents=accidents)


def test_history_is_the_truth_after_all_accidents(compared: Compared) -> None:
    """Collector and API server killed, a gap that the API server forgot: what was watched is there once, with its moments."""
    assert compared.wrong == ()
    assert compared.watched + compared.in_the_gap == 160


def test_jobs_of_the_gap_are_bounded(compared: Compared) -> None:
    """Pods came and went while nobody watched: each of their jobs is there from GitLab, and what nobody knows is counted."""
    assert compared.stand_ins > 0
    assert compared.stand_ins + compared.unknowable == compared.in_the_gap
    assert compared.ends[Known.BOUNDED] >= compared.stand_ins


# -- the comparison itself -------------------------------------------------------------------------------------------


def truth(count: int) -> Truth:
    """The first pods of a day, each under its own UID."""
    lives = draw(TEAM, seed=7, begin=BEGIN, days=1).head(count)
    return Truth(tuple(_named(number, pod) for number, pod in enumerate(planned(TEAM, lives, BEGIN))))


def _named(number: int, pod: PodTruth) -> PodTruth:
    values: dict[str, Any] = {name: getattr(pod, name) for name in PodTruth.__struct_fields__}
    return PodTruth(**values | {"uid": f"u{number}", "pod_name": f"pod-{number}"})


def record(pod: PodTruth, **more: Any) -> PodRecord:
    """What a collector that saw everything would have."""
    moments = {f"{name}_at": getattr(pod, f"{name}_at") for name in ("billing_start", "pulled", "running", "finished")}
    known = {f"{name}_known": Known.OBSERVED for name in ("billing_start", "pulled", "running", "finished")}
    values: dict[str, Any] = {"pod_uid": pod.uid, "pod_name": pod.pod_name, "job_id": pod.job_id, "final": True}
    return PodRecord(cluster="c", **values | moments | known | more)


def test_the_truth_itself_has_nothing_wrong() -> None:
    """A history that is the truth is found to be it."""
    pods = truth(20)
    result = compare([record(pod) for pod in pods.pods], pods, {"u0"}, {"u0"})
    assert (result.wrong, result.watched, result.in_the_gap) == ((), 20, 0)


def test_what_is_wrong_is_found() -> None:
    """A pod that is lost, one that is there twice, one that is not over, a moment that is not the truth's: each is a sentence."""
    pods = truth(6)
    first, lost, twice, alive, late, after = pods.pods
    held = [record(first), record(twice), record(twice), record(alive, final=False), record(after)]
    held.append(record(late, finished_at=BEGIN - timedelta(days=1)))
    wrong = Counter(line.split(": ")[0] for line in compare(held, pods, {lost.uid}, {lost.uid}).wrong)
    assert wrong[f"{twice.uid} is there 2 times"] == 1
    assert wrong[f"{lost.pod_name} is missing, although it was there before the gap"] == 1
    assert wrong[f"{alive.pod_name} has not ended"] == 1
    assert wrong[late.pod_name] == 1
    assert any("neither by a pod nor bounded" in line for line in wrong)
    assert any(line.endswith("although it ended after the gap") for line in compare(held, pods, set(), set()).wrong)
