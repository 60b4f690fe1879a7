"""Every question is answered by DuckDB and by Spark alike, to the cent."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pandas.testing import assert_frame_equal

from runbook.answer import Answer
from runbook.clients.engine import DuckDB
from runbook.cost import priced
from runbook.settings import ROOT
from sandbox.once import installed, pip_install
from tests.cost.priced_pods import frame, pod
from tests.cost.questions import FURTHER, answered, questions
from tests.cost.varied_pods import varied

REQUIREMENTS = Path(__file__).with_name("spark-requirements.txt")
NAMES = sorted(questions())

pytestmark = pytest.mark.timeout(900)  # the first test waits for all of Spark's answers


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two thousand pods of all sorts as a file that both engines read."""
    path = tmp_path_factory.mktemp("pods") / "pods.parquet"
    pq.write_table(varied(2000), path)
    return path


@pytest.fixture(scope="module")
def by_spark(parquet: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Spark answers, in a process of its own."""
    if shutil.which("java") is None:
        pytest.skip("no Java runtime here (apt-get install openjdk-17-jre-headless)")
    packages = installed(
        "spark",
        REQUIREMENTS,
        lambda home: pip_install(sys.executable, "--no-deps", "--target", home, "--requirement", REQUIREMENTS),
        takes="about 30 s",
    )
    result = tmp_path_factory.mktemp("spark") / "answers.pickle"
    ended = subprocess.run(
        [sys.executable, "-m", "tests.cost.questions", "local[2]", parquet, result],
        env=os.environ | {"PYTHONPATH": f"{packages}{os.pathsep}{ROOT}"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    answers: dict[str, Any] = pickle.loads(result.read_bytes())
    return answers


def test_there_are_questions() -> None:
    """Questions were found, and the table of further arguments names only questions that there are."""
    assert {"startup.phases", "load.concurrency"} <= set(NAMES)
    assert set(FURTHER) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_same_answer(name: str, parquet: Path, by_spark: dict[str, Any]) -> None:
    """The same sentence, rows and numbers from both engines; money agrees to a millionth of the currency."""
    with DuckDB() as engine:
        ours = answered(name, engine.scan([parquet]))
    theirs = by_spark[name]
    assert not isinstance(theirs, str), theirs
    assert_same(ours, theirs)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "pods", [[], [pod()], [pod(effective_cost=None, seconds=None, problem="no price")]], ids=["none", "one", "unpriced"]
)
def test_little_data(name: str, pods: list[dict[str, Any]]) -> None:
    """Without pods, with one, and with one whose cost nobody knows, every question still has an answer."""
    answer = answered(name, frame(*pods))
    for one in answer if isinstance(answer, tuple) else [answer]:
        if isinstance(one, Answer):
            assert one.sentence
            assert "nan" not in one.sentence.lower() and "None" not in one.sentence


@pytest.mark.parametrize("name", NAMES)
def test_order_of_rows_is_no_matter(name: str) -> None:
    """Engines have no order: the same pods the other way round give the same answer."""
    table = varied(500)
    turned = table.take(pa.array(np.arange(len(table))[::-1]))
    first, second = (answered(name, frame(*one.to_pylist())) for one in (table, turned))
    assert_same(first, second)


def assert_same(one: Any, other: Any) -> None:
    """Two answers agree: texts exactly, numbers to a millionth."""
    assert type(one) is type(other)
    if not isinstance(one, Answer):
        assert one == other
        return
    assert one.sentence == other.sentence
    assert (one.n, one.unit, one.notes, list(one.parts)) == (other.n, other.unit, other.notes, list(other.parts))
    for ours, theirs in [(one.table, other.table), *zip(one.parts.values(), other.parts.values(), strict=True)]:
        assert isinstance(ours, pd.DataFrame)
        assert_frame_equal(ours, theirs, rtol=1e-9, atol=1e-6)


def test_the_varied_pods_fit_the_frame() -> None:
    """The data of these tests have the frame's columns and types."""
    assert varied(10).schema.equals(priced.schema())
