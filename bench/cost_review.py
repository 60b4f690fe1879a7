"""The review notebook over a month of 100,000 pods, against papermill running one that only imports and decodes the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pyarrow as pa
import yaml

from bench.figures import Figure, ratio
from bench.priced_pods import BEGIN, SCOPE
from runbook.clients import connect
from runbook.clients.storage import DiskFolder
from runbook.history.store import Store
from sandbox.traffic import records

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "notebooks" / "analysis" / "50-cost-review.ipynb"
PODS = 100_000
ROUNDS = 5

LOADED = """
import ast, json, sys
given, before = json.loads(sys.argv[1]), set(sys.modules)
names = {}
for cell in json.load(open(sys.argv[2], encoding="utf-8"))["cells"]:
    if cell["cell_type"] == "code":
        exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
        names |= given if "parameters" in cell["metadata"].get("tags", []) else {}
own = {"runbook", "__main__"} | set(sys.stdlib_module_names)
print("\\n".join(name for name in sys.modules if name not in before and name.split(".")[0] not in own))
"""
"""A program that runs a notebook's cells and prints the modules of others that were loaded, in their order."""

BARE = """
import contextlib, importlib
for name in {modules!r}:
    with contextlib.suppress(Exception):
        importlib.import_module(name)
import pyarrow.parquet
len(pyarrow.parquet.read_table({history!r}, columns={columns!r}, partitioning=None))
"""


def measure() -> Iterator[Figure]:
    """About three minutes on two cores."""
    var = ROOT / "var" / "bench"
    var.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=var))
    try:
        given = {"cluster": str(_month(folder)), "first": str(SCOPE.first), "last": str(SCOPE.last)}
        loaded = _python("-c", LOADED, json.dumps(given), str(NOTEBOOK)).splitlines()
        bare = _bare(folder, [name for name in loaded if name.isprintable() and " " not in name])
        times = ratio(lambda: _papermill(NOTEBOOK, folder, given), lambda: _papermill(bare, folder, {}), rounds=ROUNDS)
        name = f"{NOTEBOOK.stem} over {PODS:,} pods: a notebook that only imports and decodes the same"
        yield Figure(name, times, "times", 2)
    finally:
        shutil.rmtree(folder)


def _month(folder: Path) -> Path:
    """A history of a month, compacted, and the card that names it."""
    store = Store(DiskFolder(folder / "history"), clock=connect.clock())
    for batch in records.batches(PODS, seed=7, begin=BEGIN, days=SCOPE.days):
        store.append(pa.Table.from_batches([batch]))
    store.compact()
    card = {
        "name": SCOPE.cluster,
        "region": records.REGION,
        "cache": {"enabled": False},
        "gitlab": {"url": "https://gitlab.example.com"},
        "smoke": {"project": "grp/demo"},
        "history": {"url": str(folder / "history")},
        "cost": {
            "prices": str(folder / "prices"),
            "reports": str(folder / "reports"),
            "reviews": str(folder / "reviews"),
        },
    }
    path = folder / "card.yaml"
    path.write_text(yaml.safe_dump(card), encoding="utf-8")
    return path


def _bare(folder: Path, modules: list[str]) -> Path:
    """A notebook that imports these modules and reads what pricing needs of the history."""
    from runbook.cost import pricing

    code = BARE.format(modules=modules, history=str(folder / "history" / "days"), columns=list(pricing.NEEDED))
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(code)],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    path = folder / "bare.ipynb"
    nbformat.write(notebook, path)
    return path


def _papermill(notebook: Path, folder: Path, given: dict[str, str]) -> None:
    parameters = [word for name, value in given.items() for word in ("-p", name, value)]
    quiet = ["--no-progress-bar", "--log-level", "ERROR"]
    _python("-m", "papermill", *quiet, str(notebook), str(folder / "out.ipynb"), *parameters)


def _python(*arguments: str) -> str:
    ended = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )  # fmt: skip
    if ended.returncode:
        raise RuntimeError(ended.stderr[-3000:])
    return ended.stdout
