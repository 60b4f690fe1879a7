"""Every question about cost, found in the rooms of `runbook.cost`: a public function `(pods, scope, …) -> Answer`.

Run as a program with `MASTER PARQUET RESULT` it answers them all on Spark and pickles what came out.
"""

from __future__ import annotations

import importlib
import inspect
import pickle
import pkgutil
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import narwhals as nw

from runbook import cost
from runbook.answer import Answer, Scope
from tests.cost.charge_lines import of_pods
from tests.cost.priced_pods import SCOPE
from tests.cost.varied_pods import varied

Question = Callable[..., Answer]

_LINES, _BILL = of_pods(varied(2000))

FURTHER: Mapping[str, Mapping[str, Any]] = {
    "reconcile.by_day": {"lines": _LINES, "bill": _BILL, "now": datetime(2026, 12, 2, tzinfo=UTC)},
}
"""What a question needs beside pods and scope, by `module.function`."""


def questions() -> dict[str, Question]:
    """Each question by `module.function`."""
    found = {}
    for module in pkgutil.iter_modules(cost.__path__):
        room = importlib.import_module(f"{cost.__name__}.{module.name}")
        for name, function in inspect.getmembers(room, inspect.isfunction):
            parameters = list(inspect.signature(function).parameters)
            if (
                function.__module__ == room.__name__
                and not name.startswith("_")
                and parameters[:2] == ["pods", "scope"]
            ):
                found[f"{module.name}.{name}"] = function
    return found


def answered(name: str, pods: nw.LazyFrame[Any], scope: Scope = SCOPE) -> Any:
    """The answer to one question, with its further arguments."""
    return questions()[name](pods, scope, **FURTHER.get(name, {}))


def on_spark(master: str, parquet: str) -> dict[str, Any]:
    """Each answer by its question's name; where a question fails, the error's text."""
    from runbook.clients.engine import Spark

    results: dict[str, Any] = {}
    with Spark(master) as engine:
        pods = engine.scan([parquet])
        for name in questions():
            try:
                results[name] = answered(name, pods)
            except Exception as error:  # a test reports it with the question's name, beside the others
                results[name] = f"{type(error).__name__}: {str(error)[:2000]}"
    return results


if __name__ == "__main__":
    Path(sys.argv[3]).write_bytes(pickle.dumps(on_spark(sys.argv[1], sys.argv[2])))
