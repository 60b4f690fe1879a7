"""What answers questions about cost: DuckDB inside this process, or Spark, both behind narwhals.

    with engine(settings) as answering:
        pods = answering.scan(files)                        # lazy; nothing is read yet
        sizes.ladder(pods, scope)

`cost.engine` in the card chooses: `duckdb` (default), `local[2]` (Spark inside this machine) or `spark://host:7077`.
Spark needs this package's extra `spark`, a Java runtime here, and files that all its workers see at the same path.
"""

from __future__ import annotations

import abc
import importlib
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import narwhals as nw

from runbook.cost import priced
from runbook.errors import SettingsError
from runbook.settings import Settings

MEMORY = "640MiB"
"""What DuckDB may hold at once; the rest goes to a temporary folder. Its Parquet reader takes some more beside it."""

PAGE = "#cost-engine"

SPARK_OPTIONS = {
    "spark.app.name": "gitlab-ci-on-eci",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.ansi.enabled": "false",  # a division by zero is null, not the end of the query
    "spark.sql.shuffle.partitions": "8",  # answers are small: Spark's usual 200 would be empty tasks
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}


class Engine(abc.ABC):
    """Reads Parquet files of the priced frame (`runbook.cost.priced`) as one lazy frame."""

    @abc.abstractmethod
    def scan(self, paths: Sequence[Path | str]) -> nw.LazyFrame[Any]:
        """The rows of all these files; without files a frame that has every column and no row."""

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of memory, files and processes. Frames that were scanned are useless from then on."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def engine(settings: Settings) -> Engine:
    """The engine that the card names. Raises SettingsError where it cannot be had here."""
    named = settings.cost.engine
    return DuckDB() if named == "duckdb" else Spark(named)


class DuckDB(Engine):
    """DuckDB in memory, on all cores; what does not fit goes to a temporary folder, and nothing is downloaded."""

    def __init__(self, *, memory: str = MEMORY, threads: int | None = None) -> None:
        import duckdb

        self._spill = tempfile.mkdtemp(prefix="runbook-duckdb-")
        options: dict[str, Any] = {
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "memory_limit": memory,
            "temp_directory": self._spill,
            "preserve_insertion_order": False,
        }
        self._connection = duckdb.connect(config=options | ({"threads": threads} if threads else {}))
        self._connection.execute("SET TimeZone = 'UTC'")

    def scan(self, paths: Sequence[Path | str]) -> nw.LazyFrame[Any]:
        if not paths:
            return nw.from_native(self._connection.from_arrow(priced.schema().empty_table()))
        return nw.from_native(self._connection.read_parquet([str(one) for one in paths], hive_partitioning=False))

    def close(self) -> None:
        self._connection.close()
        shutil.rmtree(self._spill, ignore_errors=True)


class Spark(Engine):
    """A Spark session on a master: `local[2]` or `spark://host:7077`. There is one session a process."""

    def __init__(self, master: str) -> None:
        # Answers leave Spark as Arrow tables; that it cannot make pandas 3 ones yet concerns nobody here.
        warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
        session: Any = _pyspark(master).SparkSession.builder.master(master)
        for name, value in (SPARK_OPTIONS | _local(master)).items():
            session = session.config(name, value)
        try:
            with _quiet():
                self._session = session.getOrCreate()
                self._session.sparkContext.setLogLevel("ERROR")
        except Exception as error:  # py4j and PySpark raise many kinds, none of them for a reader
            raise SettingsError(
                "No Spark session could be started.",
                where="cost.engine",
                value=f"{master}: {(str(error).splitlines() or [type(error).__name__])[0]}",
                remedy="Is the master's address right, and can it reach this machine? Or take `engine: duckdb`.",
                page=PAGE,
            ) from None

    def scan(self, paths: Sequence[Path | str]) -> nw.LazyFrame[Any]:
        reader, nothing = self._session.read, priced.schema().empty_table()
        native = reader.parquet(*map(str, paths)) if paths else self._session.createDataFrame(nothing)
        rows: nw.LazyFrame[Any] = nw.from_native(native)
        return rows

    def close(self) -> None:
        self._session.stop()


def _pyspark(master: str) -> Any:
    """`pyspark.sql`, and the certainty that a Java runtime is there. Raises SettingsError with what to install."""
    try:
        sql = importlib.import_module("pyspark.sql")
    except ImportError:
        raise SettingsError(
            "The card asks for Spark, and PySpark is not installed here.",
            where="cost.engine",
            value=master,
            remedy="pip install -e '.[spark]' in the repository (about 450 MB), or take `engine: duckdb`.",
            page=PAGE,
        ) from None
    home = os.environ.get("JAVA_HOME")
    if shutil.which("java", path=f"{home}/bin" if home else None) is None:
        raise SettingsError(
            "The card asks for Spark, and there is no Java runtime here.",
            where="cost.engine",
            value=master,
            remedy="apt-get install openjdk-17-jre-headless (or set JAVA_HOME), or take `engine: duckdb`.",
            page=PAGE,
        )
    return sql


def _local(master: str) -> dict[str, str]:
    """A Spark inside this machine talks to itself only; a cluster's workers have to reach it."""
    here = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    return here if master.startswith("local") else {}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the JVM says on its way up out of notebooks: it says it to the file it inherits, before any setting is read."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
