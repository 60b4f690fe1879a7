"""Right sizes: the cheapest rung that a job's runs fit on, replayed; the reason where there is no advice; the patch."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import yaml

from runbook.answer import Answer
from runbook.cost import patches, proportion, rightsizing
from runbook.cost.job_sizes import Reason, Verdict
from runbook.cost.rungs import Rule
from runbook.cost.runs import STEPS
from runbook.errors import SettingsError
from tests.cost.priced_pods import NOON, SCOPE, frame, pod


def run(number: int, **values: Any) -> dict[str, Any]:
    """A measured run that asks for 4 vCPU and 8 GiB, is billed for them, and needs 1 vCPU and 2.5 GiB at its peak."""
    asked = {
        "requested_vcpu": 4.0, "requested_memory_gib": 8.0, "billed_vcpu": 4.0, "billed_memory_gib": 8.0, "build_vcpu": 3.5,
        "build_memory_gib": 7.5, "asked_by": "limit", "effective_cost": 0.1, "used_vcpu_mean": 0.5, "used_vcpu_peak": 1.0,
        "used_memory_mean_gib": 1.0, "used_memory_peak_gib": 2.5, "used_samples": 9, "used_source": "eci",
        "billing_start_at": NOON + timedelta(hours=6 * number - 48),
    }  # fmt: skip
    return pod(number, **(asked | values))


def runs(count: int = 40, **values: Any) -> list[dict[str, Any]]:
    """So many runs, six hours after each other."""
    return [run(number, **values) for number in range(count)]


def advice(*pods: dict[str, Any], **options: Any) -> Answer:
    return rightsizing.advice(frame(*pods), SCOPE, **options)


def only(answer: Answer) -> dict[str, Any]:
    """The one row of an answer."""
    (row,) = answer.table.to_dict("records")
    return {str(name): value for name, value in row.items()}


# -- advice


def test_the_cheapest_rung_that_the_runs_fit_on_is_recommended() -> None:
    """Peaks of 2.5 GiB with 15 % on top and of 1 vCPU fit on 1 vCPU and 4 GiB, the cheapest rung with that much."""
    row = only(advice(*runs()))
    assert (row["verdict"], row["recommended_vcpu"], row["recommended_memory_gib"]) == (Verdict.SMALLER, 1.0, 4.0)
    assert (row["memory_p50"], row["memory_p99"], row["vcpu_peak"]) == (2.5, 2.5, 1.0)
    assert (row["runs"], row["measured"], row["hits"], row["slowed"]) == (40, 40, 0, 0)


def test_the_replay_has_an_exact_interval() -> None:
    """No hit in forty runs leaves a risk of at most 8.8 %: 1 minus the fortieth root of 0.025."""
    row = only(advice(*runs()))
    assert (row["hits_low"], row["hits_high"]) == pytest.approx((0.0, 1 - 0.025 ** (1 / 40)))


def test_money_is_that_of_the_runs_at_the_ratio_of_the_list_prices() -> None:
    """1 vCPU and 4 GiB instead of 4 and 8: the difference of the list prices, of what forty runs cost, for 30.44 days."""
    row = only(advice(*runs()))
    vcpu, gib = 0.000049, 0.00000613
    share = 1 - (1 * vcpu + 4 * gib) / (4 * vcpu + 8 * gib)
    month = 365.25 / 12 / 30
    assert row["saves_share"] == pytest.approx(share)
    assert row["saves_a_month"] == pytest.approx(40 * 0.1 * share * month)
    doubt = 1.96 * math.sqrt(40 * (0.1 * share) ** 2 * (month + month**2))
    assert (row["saves_low"], row["saves_high"]) == pytest.approx(
        (row["saves_a_month"] - doubt, row["saves_a_month"] + doubt)
    )


def test_a_peak_counts_exactly_at_the_rung() -> None:
    """A run that needs exactly what the rung has is no hit; one that needs a step more is one."""
    rule = Rule(memory_margin=0.0, memory_quantile=0.9)
    exact = only(advice(*runs(99), run(99, used_memory_peak_gib=4.0), rule=rule))
    above = only(advice(*runs(99), run(99, used_memory_peak_gib=4.0 + 1 / STEPS), rule=rule))
    assert (exact["recommended_memory_gib"], exact["hits"]) == (4.0, 0)
    assert (above["recommended_memory_gib"], above["hits"]) == (4.0, 1)


def test_runs_that_ran_out_of_memory_needed_more_than_was_asked() -> None:
    """Runs that were killed at the 8 GiB asked for count as hits there, whatever was sampled before, and get a larger rung."""
    busy = {"used_vcpu_peak": 4.0}
    killed = [run(number, ended="out_of_memory", used_memory_peak_gib=3.0, **busy) for number in range(40, 50)]
    row = only(advice(*runs(**busy), *killed))
    assert (row["out_of_memory"], row["verdict"]) == (10, Verdict.LARGER)
    assert row["recommended_memory_gib"] > 8.0 and row["saves_a_month"] < 0
    assert row["memory_peak"] == 8.0 + 1 / STEPS


def test_a_killed_run_that_nobody_measured_counts() -> None:
    """A run out of memory without a sample is a measure all the same: it needed more than it had."""
    unmeasured = {"used_memory_peak_gib": None, "used_vcpu_peak": None, "used_source": None, "used_samples": 0}
    row = only(advice(*runs(), run(40, ended="out_of_memory", **unmeasured), run(41, **unmeasured)))
    assert (row["runs"], row["measured"], row["memory_peak"]) == (42, 41, 8.0 + 1 / STEPS)


def test_no_larger_rung_for_a_margin_alone() -> None:
    """Runs that fit into what is billed stay there, though the margin would not fit; only runs that do not fit cost more."""
    row = only(advice(*runs(used_memory_peak_gib=7.8, used_vcpu_peak=4.0)))
    assert (row["verdict"], row["hits"]) == (Verdict.KEEP, 0)


def test_the_whole_rung_is_asked_for_where_that_costs_nothing() -> None:
    """Runs that were killed at 6 GiB while 8 were billed are told to ask for all of it, and get a patch."""
    asked = {"requested_memory_gib": 6.0, "build_memory_gib": 5.5, "used_memory_peak_gib": 5.0, "used_vcpu_peak": 4.0}
    answer = advice(*runs(**asked), *(run(number, ended="out_of_memory", **asked) for number in range(40, 44)))
    row = only(answer)
    assert (row["verdict"], row["recommended_memory_gib"]) == (Verdict.KEEP, 8.0)
    assert "whole rung" in row["why"]
    (patch,) = patches.of(answer).patches
    assert patch.variables["KUBERNETES_MEMORY_LIMIT"] == "7680Mi"


def test_what_a_job_measured_leaves_its_helper_out() -> None:
    """Where the job itself measured, what helper and services ask for is added: 2.5 GiB of the build, 0.5 of the others."""
    row = only(advice(*runs(used_source="job")))
    assert (row["memory_p50"], row["vcpu_p50"]) == (3.0, 1.5)


def test_runs_that_were_cut_short_tell_nothing() -> None:
    """A reclaimed run's low peak is not that of a whole run, and it is left out and counted."""
    answer = advice(*runs(), *(run(number, ended="reclaimed", used_memory_peak_gib=0.1) for number in range(40, 60)))
    assert only(answer)["runs"] == 40
    assert any("20 that were taken away" in note for note in answer.notes)


def test_thin_measures_are_said_to_be_thin() -> None:
    """Runs that rest on fewer than four samples are counted in a note: their peaks may have been higher."""
    answer = advice(*runs(30), *(run(number, used_samples=2) for number in range(30, 40)))
    assert any(note.startswith("10 of 40 measured runs rest on fewer than 4 samples") for note in answer.notes)
    assert not any("fewer than" in note for note in advice(*runs()).notes)


def test_the_first_half_is_tested_on_the_second() -> None:
    """The rung that the first half alone would choose is met by the runs of the second half, two of which it would have killed."""
    late = [run(number, used_memory_peak_gib=4.5) for number in (90, 91)]
    row = only(advice(*runs(90), *late, rule=Rule(memory_quantile=0.9)))
    assert (row["tested_hits"], row["hits"]) == (2, 2)
    assert row["tested_runs"] > 8


# -- no advice


@pytest.mark.parametrize(
    ("pods", "reason", "says"),
    [
        (runs(used_memory_peak_gib=None, used_vcpu_peak=None), Reason.NOT_MEASURED, "nobody measured"),
        (runs(10), Reason.TOO_FEW, "10 runs measured: 13 more needed"),
        ([*runs(20), *(run(n, image="alpine:4") for n in range(20, 40))], Reason.IMAGE, "alpine:3 → alpine:4"),
        (
            [*runs(20), *(run(n, requested_memory_gib=4.0, billed_memory_gib=4.0) for n in range(20, 40))],
            Reason.REQUEST,
            "4 vCPU / 8 GiB → 4 vCPU / 4 GiB",
        ),
        ([run(n, requested_vcpu=4.0 - n % 2) for n in range(40)], Reason.SEVERAL_SIZES, "several sizes"),
        ([run(n, seconds=600.0 if n < 55 else 1800.0) for n in range(110)], Reason.DURATION, "588 → 1,788 s"),
        ([run(n, used_memory_peak_gib=2.0 if n < 55 else 5.0) for n in range(110)], Reason.MEMORY, "2 → 5 GiB"),
        (runs(requested_memory_gib=None), Reason.UNKNOWN_SIZE, "size"),
        (runs(ecs_type="ecs.c6.xlarge"), Reason.ECS_TYPE, "ecs.c6.xlarge"),
        (runs(region="cn-atlantis"), Reason.NOT_SOLD, "cn-atlantis"),
        (runs(region=None), Reason.NOT_SOLD, "no rung"),
    ],
    ids=lambda value: str(value) if isinstance(value, Reason) else "",
)
def test_no_advice_has_a_reason(pods: list[dict[str, Any]], reason: Reason, says: str) -> None:
    """A job that changed in the window, or of which too little is known, gets no advice, and the reason with its numbers."""
    answer = advice(*pods)
    row = only(answer)
    assert (row["verdict"], row["reason"]) == (Verdict.NO_ADVICE, reason)
    assert says in row["why"]
    assert row["recommended_vcpu"] != row["recommended_vcpu"] or row["recommended_vcpu"] is None
    assert "No advice on 1 job" in answer.sentence


def test_a_branch_that_tries_something_is_no_change() -> None:
    """One run of forty with another image or request leaves the advice as it is."""
    row = only(advice(*runs(39), run(20, image="alpine:edge", requested_memory_gib=16.0, billed_memory_gib=16.0)))
    assert row["verdict"] == Verdict.SMALLER


def test_how_many_runs_are_needed_follows_from_the_risk() -> None:
    """So many runs without a hit as make the exact interval end at the risk, and not one more."""
    for risk in (0.05, 0.1, 0.15, 0.3):
        needed = Rule(risk=risk).runs_needed
        assert proportion.interval(0, needed)[1] <= risk < proportion.interval(0, needed - 1)[1]


def test_a_rule_that_takes_less_risk_takes_more_runs() -> None:
    """Forty runs are too few for a risk of 5 %."""
    row = only(advice(*runs(), rule=Rule(risk=0.05)))
    assert (row["reason"], row["runs_needed"]) == (Reason.TOO_FEW, 32)


@pytest.mark.parametrize("odd", [{"risk": 0}, {"memory_quantile": 99}, {"memory_margin": -0.1}, {"confidence": 1.0}])
def test_a_rule_that_cannot_be_is_refused(odd: dict[str, float]) -> None:
    """99 for 99 %, no risk at all or a negative margin are refused with what is allowed."""
    with pytest.raises(SettingsError, match=next(iter(odd))):
        Rule(**odd)


# -- unusual pods


def test_an_unknown_cost_is_no_saving_of_zero() -> None:
    """Where no run's cost is known the saving is unknown, its share of the price is not, and the note says how many runs."""
    answer = advice(*runs(effective_cost=None))
    row = only(answer)
    assert row["verdict"] == Verdict.SMALLER
    assert math.isnan(row["saves_a_month"]) and row["saves_share"] > 0
    assert any("40 runs" in note for note in answer.notes)
    assert "not known" in answer.sentence


def test_jobs_are_told_apart_and_sorted_by_what_they_save() -> None:
    """A row each project, job name and stage; what saves most stands first, what gets no advice last."""
    dear = runs(project_path="grp/dear", effective_cost=1.0)
    answer = advice(*runs(), *dear, *runs(5, job_stage="build"), *runs(project_path=None))
    assert answer.table[["project", "job_stage"]].to_numpy().tolist() == [
        ["grp/dear", "test"], ["grp/demo", "test"], [SCOPE.not_allocated, "test"], ["grp/demo", "build"]
    ]  # fmt: skip
    assert answer.sentence.startswith("3 of 4 jobs could have a cheaper spec")
    assert answer.sentence.endswith("no advice on 1.")


def test_spot_jobs_stand_on_the_spot_table() -> None:
    """A spot job is recommended a rung that spot instances have."""
    row = only(advice(*runs(spot=True, ecs_type="ecs.c6.xlarge")))
    assert row["spot"] and row["verdict"] == Verdict.SMALLER
    assert row["recommended_vcpu"] >= 2.0


def test_answers_are_given_in_chinese() -> None:
    """With the scope's language the sentence, the reasons and the notes are Chinese."""
    scope = replace(SCOPE, language="zh")
    answer = rightsizing.advice(frame(*runs(), *runs(5, job_stage="build")), scope)
    assert "个作业" in answer.sentence and "每月节省" in answer.sentence
    assert "还需" in answer.table["why"].dropna().iloc[0]


# -- backtest and frontier


def test_the_backtest_shows_each_peak_once() -> None:
    """The cumulative shares end at 1, with the interval of each count, and the sentence sums the hits of the jobs shown."""
    pods = [run(number, used_memory_peak_gib=2.0 + number % 4 / 8) for number in range(40)]
    answer = rightsizing.backtest(frame(*pods), SCOPE)
    table = answer.table
    assert table["memory_gib"].tolist() == [2.0, 2.125, 2.25, 2.375]
    assert table["share"].tolist() == [0.25, 0.5, 0.75, 1.0]
    assert table["share_low"].iloc[1] == pytest.approx(proportion.interval(20, 40)[0])
    assert "0 of the 40 measured runs of 1 job" in answer.sentence


def test_the_backtest_shows_the_jobs_that_would_save_most() -> None:
    """Of several jobs the dearest are shown, as many as asked for."""
    pods = [one for cost in (0.1, 0.3, 0.2) for one in runs(effective_cost=cost, job_name=f"job of {cost}")]
    answer = rightsizing.backtest(frame(*pods), SCOPE, jobs=2)
    assert answer.table["job_name"].unique().tolist() == ["job of 0.3", "job of 0.2"]


def test_the_frontier_compares_sizes_of_one_job() -> None:
    """A job that is twice as quick on twice the size costs the same; a size with few runs, and a job with one size, are left out."""
    small = runs(20, seconds=600.0, effective_cost=0.1)
    large = runs(20, seconds=300.0, effective_cost=0.1, billed_vcpu=8.0, billed_memory_gib=16.0)
    few = runs(2, billed_vcpu=16.0, billed_memory_gib=32.0)
    answer = rightsizing.frontier(frame(*small, *large, *few, *runs(job_name="other")), SCOPE)
    assert answer.table[["vcpu", "seconds", "runs"]].to_numpy().tolist() == [[4.0, 600.0, 20.0], [8.0, 300.0, 20.0]]
    assert answer.table["cost"].tolist() == pytest.approx([0.1, 0.1])
    assert "50% less time, 0% more money" in answer.sentence


# -- patches


def test_the_patch_asks_for_the_rung_without_the_others() -> None:
    """The build container asks for the rung less what helper and services ask for, by limits where the job has limits."""
    found = patches.of(advice(*runs()))
    (patch,) = found.patches
    assert yaml.safe_load(patch.yaml) == {
        "unit tests": {"variables": {"KUBERNETES_CPU_LIMIT": "500m", "KUBERNETES_MEMORY_LIMIT": "3584Mi"}}
    }
    assert found.runner.splitlines() == [
        "[runners.kubernetes]", 'cpu_limit_overwrite_max_allowed = "500m"', 'memory_limit_overwrite_max_allowed = "3584Mi"',
    ]  # fmt: skip


def test_patches_survive_odd_names() -> None:
    """A job's name with a colon, and a whole number of CPUs, stay what they are in YAML."""
    pods = runs(job_name="build: [x86]", build_vcpu=4.0, asked_by="request")
    (patch,) = patches.of(advice(*pods)).patches
    assert yaml.safe_load(patch.yaml)["build: [x86]"]["variables"]["KUBERNETES_CPU_REQUEST"] == "1"


def test_a_job_without_room_gets_no_patch() -> None:
    """Where the build container's share is not known, or the others fill the rung, a sentence stands in the patch's place."""
    for share in (None, 0.5):
        found = patches.of(advice(*runs(build_vcpu=share)))
        assert not found.patches and "unit tests" in found.without[0]
        assert "unit tests" in str(found)


def test_nothing_to_change_is_said() -> None:
    """Without advice the patch says that there is nothing to change."""
    assert "nothing to change" in str(patches.of(advice()))
    assert "nothing to change" in patches.of(advice())._repr_html_()
