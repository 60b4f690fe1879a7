"""One practice cluster for all tests of this folder, and its cluster card."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runbook.settings import Settings
from sandbox.practice import PracticeCluster


@pytest.fixture(scope="session")
def practice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PracticeCluster]:
    """A running practice cluster in a folder of its own."""
    with PracticeCluster(tmp_path_factory.mktemp("practice") / "cluster") as cluster:
        yield cluster


@pytest.fixture
def settings(practice: PracticeCluster) -> Settings:
    """The card of the practice cluster, read for applying."""
    return Settings.load(practice.card, dry_run=False)
