"""Every notebook of analysis runs from its first cell to its last: on a month of pods, and on a history that is still empty."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pyarrow as pa
import pytest
import yaml

from runbook.history import store
from runbook.settings import ROOT, Settings
from sandbox.traffic.records import batches

NOTEBOOKS = sorted((ROOT / "notebooks" / "analysis").glob("*.ipynb"))
NAME = "notebooks"
"""The card's name, under which the priced pods lie in var/cost."""

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def card(folder: Path, language: str) -> Path:
    """A card whose history, prices and reports are all in this folder."""
    values = {
        "name": NAME, "region": "cn-hangzhou", "cache": {"bucket": "b"}, "gitlab": {"url": "https://gitlab.example.com", "token": "env:T"},
        "smoke": {"project": "ops/smoke"}, "history": {"url": str(folder / "history")},
        "cost": {
            "prices": str(folder / "prices"), "reports": str(folder / "reports"), "reviews": str(folder / "reviews"),
            "used": {"url": str(folder / "used")}, "language": language,
        },
    }  # fmt: skip
    path = folder / f"{language}.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a history of 3,000 generated pods of October."""
    folder = tmp_path_factory.mktemp("month")
    history = store.open_store(Settings.load(card(folder, "en")))
    for batch in batches(3_000, seed=4, begin=datetime(2026, 10, 1, tzinfo=UTC), days=31):
        table = pa.Table.from_batches([batch])
        names = pa.array([NAME] * table.num_rows, pa.string())
        index = table.schema.get_field_index("cluster")
        history.append(table.set_column(index, table.schema.field(index), names))
    return folder


def run(path: Path, cluster: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook after papermill executed it. Raises where a cell does."""
    done: nbformat.NotebookNode = papermill.execute_notebook(
        str(path), str(folder / path.name), {"cluster": str(cluster)}, progress_bar=False, cwd=str(ROOT)
    )
    return done


def pages(notebook: nbformat.NotebookNode) -> list[str]:
    """What the cells display, as HTML."""
    data: list[dict[str, Any]] = [
        output["data"] for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output
    ]
    return [one["text/html"] for one in data if "text/html" in one]


@every_notebook
def test_on_a_month_of_pods(path: Path, month: Path, tmp_path: Path) -> None:
    """No cell fails, charts are shown, and their numbers lie beside them as CSV."""
    shown = pages(run(path, card(month, "en"), tmp_path))
    assert any("data:image/svg+xml" in page for page in shown)
    assert list((month / "reports").rglob("*.csv"))
    assert not [page for page in shown if "nan" in page.partition("<img")[0].lower().split()]


@every_notebook
def test_on_an_empty_history(path: Path, tmp_path: Path) -> None:
    """Nothing was collected yet: no cell fails, in Chinese either, and the report says what to do."""
    shown = pages(run(path, card(tmp_path, "zh"), tmp_path))
    assert "10-collect-pod-history" in shown[-1]
