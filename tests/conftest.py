"""What all tests share: where the repository is, and where other people's data are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def traces() -> Path:
    """The folder with other people's data that RUNBOOK_TRACES names; the test is skipped where none is named."""
    named = os.environ.get("RUNBOOK_TRACES")
    if not named:
        pytest.skip("RUNBOOK_TRACES is not set: it names the folder with other people's data")
    return Path(named)
