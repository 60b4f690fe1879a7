"""The vendor's tables, kept as CSV files under `data/` where people edit them and git remembers."""

from __future__ import annotations

import csv
from pathlib import Path

from runbook.errors import SettingsError

DATA = Path(__file__).resolve().parents[2] / "data"
"""The folder `data` of this clone; the package is installed in editable mode from it."""


def rows(path: Path, columns: frozenset[str]) -> list[dict[str, str]]:
    """The rows of one CSV file, each with at least `columns`. Raises SettingsError where it is missing or lacks one."""
    if not path.is_file():
        raise SettingsError(
            "A table of ECI specs or prices is missing.",
            where=str(path),
            allowed="the folder `data` beside the package",
            remedy="Install from a clone of this repository: pip install -e .",
        )
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        found = list(reader)
        missing = columns - set(reader.fieldnames or ())
    if missing:
        raise SettingsError(
            "A table lacks a column.",
            where=str(path),
            value=", ".join(sorted(missing)),
            allowed="the columns " + ", ".join(sorted(columns)),
        )
    return found
