"""8,152 real pods of an Alibaba production cluster, imported by the documented route, priced, and shown by a notebook."""

from __future__ import annotations

import shlex
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml

from runbook import cli
from runbook.cost.priced import Problem
from runbook.eci import charges
from runbook.review import period
from runbook.settings import ROOT, Settings
from sandbox.alibaba.prices import SITES, eci_second

COMMAND = (
    "import pods {trace} --cluster {card} --epoch 2025-05-01T00:00:00Z --column cpu=cpu_milli:m --column memory=memory_mib:Mi "
    "--column phase=pod_phase --column created=creation_time --column start=scheduled_time --column end=deletion_time"
)
"""The trace's times count from its own beginning; this one lies after the first price of data/prices."""

FIRST, LAST = "2025-05-01", "2025-12-31"


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory, traces: Path) -> Path:
    """A card whose history holds the trace, imported by the command of data/history/IMPORTING.md."""
    folder = tmp_path_factory.mktemp("real")
    values = yaml.safe_load((ROOT / "data/clusters/practice.yaml").read_text())
    values |= {"name": "openb", "history": {"url": str(folder / "history")}}
    places = {name: str(folder / name) for name in ("reports", "prices")}
    values["cost"] = places | {"used": {"url": str(folder / "used")}}
    path = folder / "card.yaml"
    path.write_text(yaml.safe_dump(values))
    trace = traces / "pods" / "openb_pod_list_default.csv"
    assert cli.main(shlex.split(COMMAND.format(trace=trace, card=path))) == 0
    return path


def test_real_pods_are_priced_or_named(card: Path) -> None:
    """Of 8,152 pods 897 were never scheduled, 42 are larger than any ECI spec, and the rest costs what the sandbox's price code says."""
    found = period.open_period(Settings.load(card), FIRST, LAST)
    named = found.quality.table.set_index("problem")["pods"]
    assert found.quality.n == 8152
    assert (named[Problem.NO_INSTANCE.value], named[Problem.UNKNOWN_SPEC.value]) == (897, 42)
    assert named[Problem.ASSUMED_SPEC.value] == 8152 - 897 - 42
    columns = ["billed_vcpu", "billed_memory_gib", "seconds", "effective_cost"]
    priced = found.frame.select(columns).collect("pandas").to_native().dropna()
    expected = sum(
        float(sum(eci_second(SITES["cn"], row.billed_vcpu, row.billed_memory_gib, economy=False).values()))
        * row.seconds
        for row in priced.itertuples()
    )
    assert priced["effective_cost"].sum() == pytest.approx(expected, rel=1e-12)
    assert priced["effective_cost"].sum() > 100_000


def test_a_notebook_shows_real_pods_and_says_what_it_assumes(card: Path, tmp_path: Path) -> None:
    """The notebook of instance sizes runs on the trace, and prints the assumed specs and every assumption of the price model."""
    output = tmp_path / "10.ipynb"
    papermill.execute_notebook(
        ROOT / "notebooks/analysis/10-instance-sizes.ipynb",
        output,
        parameters={"cluster": str(card), "first": FIRST, "last": LAST},
        cwd=str(ROOT),
        progress_bar=False,
    )
    shown = "\n".join(
        result["data"]["text/plain"]
        for cell in nbformat.read(output, as_version=4).cells
        for result in cell.get("outputs", [])
        if result.output_type in ("execute_result", "display_data")
    )
    assert "assumed spec: 7,213 pods" in shown
    assert all(text in shown for text in charges.ASSUMPTIONS.values())
