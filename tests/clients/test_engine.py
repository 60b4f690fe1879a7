"""The engines that answer questions about cost."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from runbook.clients.engine import DuckDB, engine
from runbook.cost import priced
from runbook.cost.collected import collected
from runbook.errors import SettingsError
from runbook.settings import Settings
from tests.cost.varied_pods import varied

CARD = {
    "name": "practice",
    "region": "cn-hangzhou",
    "cache": {"enabled": False},
    "gitlab": {"url": "https://gitlab.example.com"},
    "smoke": {"project": "grp/demo"},
}


def settings(named: str) -> Settings:
    return Settings.parse(CARD | {"cost": {"engine": named}}, where="a test")


def test_files_are_one_frame(tmp_path: Path) -> None:
    """Several files are read as one lazy frame with all the columns."""
    for number in (10, 20):
        pq.write_table(varied(number), tmp_path / f"{number}.parquet")
    with engine(settings("duckdb")) as ours:
        pods = ours.scan([tmp_path / "10.parquet", str(tmp_path / "20.parquet")])
        assert pods.collect_schema().names() == priced.schema().names
        assert len(collected(pods.select("day"))) == 30


def test_no_files() -> None:
    """Without files there is a frame without rows: an empty history is no error."""
    with DuckDB() as ours:
        pods = ours.scan([])
        assert pods.collect_schema().names() == priced.schema().names
        assert collected(pods.select("day", "seconds")).empty


def test_odd_names(tmp_path: Path) -> None:
    """A file name with blanks and brackets is a name, no pattern."""
    path = tmp_path / "a [1] b*.parquet"
    pq.write_table(varied(3), path)
    with DuckDB() as ours:
        assert len(collected(ours.scan([path]).select("day"))) == 3


def test_nothing_stays_behind(tmp_path: Path) -> None:
    """Closing removes the folder that large questions spill into."""
    ours = DuckDB()
    spill = Path(ours._spill)
    assert spill.is_dir()
    ours.close()
    assert not spill.exists()


@pytest.mark.skipif(importlib.util.find_spec("pyspark") is not None, reason="PySpark is installed here")
def test_spark_without_pyspark() -> None:
    """A card that asks for Spark on a machine without PySpark gets a page that says what to install."""
    with pytest.raises(SettingsError, match=r"PySpark is not installed[\s\S]*cost.engine[\s\S]*\[spark\]"):
        engine(settings("spark://spark.example.com:7077"))
