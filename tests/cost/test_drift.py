"""Whether a job changed: the largest distance of two distributions that were counted, and what chance makes of it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from runbook.cost import drift


def test_the_distance_is_that_of_the_cumulative_shares() -> None:
    """Worked by hand: {1, 2, 3, 4} against {3, 4, 5, 6} lie half apart, as values and as counts of values."""
    assert drift.distance([1, 2, 3, 4], [1, 1, 1, 1], [3, 4, 5, 6], [1, 1, 1, 1]) == pytest.approx(0.5)
    assert drift.distance([1, 3], [2, 2], [3, 5], [20, 20]) == pytest.approx(0.5)


def test_the_same_and_the_apart() -> None:
    """The same distribution is 0 apart, in any order; distributions without a common value are 1 apart."""
    assert drift.distance([2, 1], [3, 5], [1, 2], [10, 6]) == pytest.approx(0.0)
    assert drift.distance([1], [9], [2], [9]) == 1.0


@pytest.mark.parametrize(
    ("chance", "constant"), [(0.10, 1.224), (0.05, 1.358), (0.01, 1.628), (0.005, 1.731), (0.001, 1.949)]
)
def test_the_limit_is_that_of_the_tables(chance: float, constant: float) -> None:
    """The constants of the two-sample test as statistical tables print them, for samples of 50 and 80."""
    assert drift.beyond_chance(50, 80, chance) == pytest.approx(constant * math.sqrt(130 / 4000), rel=1e-3)


def test_jobs_that_did_not_change_are_left_alone() -> None:
    """Of two thousand pairs of samples from one distribution hardly any counts as changed."""
    rng = np.random.default_rng(3)
    ones = [1] * 40
    false = sum(drift.changed(rng.lognormal(5, 0.5, 40), ones, rng.lognormal(5, 0.5, 40), ones) for _ in range(2000))
    assert false <= 6


def test_a_job_that_doubled_is_seen() -> None:
    """Durations that doubled are a change from a few dozen runs on; a tenth more is none, however many runs there are."""
    rng = np.random.default_rng(4)
    ones = [1] * 40
    assert drift.changed(rng.lognormal(5, 0.3, 40), ones, 2 * rng.lognormal(5, 0.3, 40), ones)
    many = [1] * 5000
    assert not drift.changed(rng.lognormal(5, 0.5, 5000), many, 1.1 * rng.lognormal(5, 0.5, 5000), many)


def test_few_runs_say_nothing() -> None:
    """With fewer than eight runs in a half nothing is compared, and an empty half is no change."""
    assert not drift.changed([1], [7], [2], [100])
    assert not drift.changed([], [], [2], [100])
