"""Every question about cost, found in the rooms of `runbook.cost`: a public function of `pods` that returns an Answer.

Run as a program with `MASTER PARQUET RESULT` it answers them all on Spark and pickles what came out.
"""

from __future__ import annotations

import importlib
import inspect
import pickle
import pkgutil
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import narwhals as nw

from runbook import cost
from runbook.answer import Answer, Scope
from runbook.eci.prices import PriceBook, SpotChange
from runbook.settings import AlwaysOn, OtherCost
from tests.cost.charge_lines import of_pods
from tests.cost.priced_pods import SCOPE
from tests.cost.varied_pods import varied

Question = Callable[..., Answer]

MIDDLE = date(2026, 11, 15)
"""Questions that compare with the days before are given the pods before this day for that."""

_LINES, _BILL = of_pods(varied(2000))
_MARKET = [
    SpotChange(
        "cn", "cn-hangzhou", f"cn-hangzhou-{zone}", "CNY", "ecs.c6.large", price, datetime(2026, 11, day, tzinfo=UTC), "made up"
    )
    for zone in "ij"
    for day, price in ((1, Decimal("0.18")), (12, Decimal("0.21")))
]  # fmt: skip

_CACHES = OtherCost(name="caches", service="image-cache", amount=Decimal("0.05"), per="day", first=date(2026, 1, 1))

_SERVER = AlwaysOn(vcpu=4, memory_gib=Decimal(8), per_hour=Decimal("0.1"))

FURTHER: Mapping[str, Mapping[str, Any]] = {
    "always_on.compared": {"card": _SERVER, "book": PriceBook.shipped("cn"), "region": "cn-hangzhou"},
    "reconcile.by_day": {"lines": _LINES, "bill": _BILL, "now": datetime(2026, 12, 2, tzinfo=UTC)},
    "spot_prices.price_paid": {"changes": _MARKET},
    "startup.image_caches": {"others": [_CACHES]},
}
"""What a question needs beside pods and scope, by `module.function`."""


def questions() -> dict[str, Question]:
    """Each question by `module.function`."""
    found = {}
    for module in pkgutil.iter_modules(cost.__path__):
        room = importlib.import_module(f"{cost.__name__}.{module.name}")
        for name, function in inspect.getmembers(room, inspect.isfunction):
            asked = inspect.signature(function)
            answers = function.__module__ == room.__name__ and "Answer" in str(asked.return_annotation)
            if answers and not name.startswith("_") and "pods" in asked.parameters:
                found[f"{module.name}.{name}"] = function
    return found


def answered(name: str, pods: nw.LazyFrame[Any], scope: Scope = SCOPE) -> Any:
    """The answer to one question, with its further arguments."""
    question = questions()[name]
    given = {"pods": pods, "scope": scope, **FURTHER.get(name, {})}
    if "before" in inspect.signature(question).parameters:
        given["before"] = pods.filter(nw.col("day") < MIDDLE)
    return question(**given)


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
