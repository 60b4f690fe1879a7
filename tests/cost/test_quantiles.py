"""Quantiles of counted values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.cost.quantiles import of_counts


@given(
    st.dictionaries(st.integers(-1000, 100_000), st.integers(1, 50), min_size=1, max_size=30),
    st.floats(0, 1, allow_nan=False),
)
def test_same_as_numpys(counted: dict[int, int], q: float) -> None:
    """Whatever the counts, the quantile is numpy's of the values written out, in any order."""
    written_out = np.repeat(list(counted), list(counted.values()))
    assert of_counts(list(counted), list(counted.values()), q) == pytest.approx(np.quantile(written_out, q))


def test_nothing() -> None:
    """Of nothing there is no quantile."""
    assert math.isnan(of_counts([], [], 0.5))
    assert math.isnan(of_counts([3], [0], 0.5))
