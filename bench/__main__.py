"""`python -m bench [NAME …]`: every module of this folder that measures, or the named ones, each in a process of its own.

Prints one table, writes var/bench/results.json, and ends with 1 where a limit does not hold.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "var" / "bench" / "results.json"
SUPPORT = {"__init__", "__main__", "figures", "priced_pods", "replay", "sample_records"}
"""Modules that measure nothing themselves."""


def names() -> list[str]:
    return sorted(path.stem for path in HERE.glob("*.py") if path.stem not in SUPPORT)


def one(name: str, to: Path) -> None:
    """Measure one module in this process, and write its figures."""
    figures = importlib.import_module(f"bench.{name}").measure()
    to.write_text(json.dumps([asdict(figure) | {"holds": figure.holds} for figure in figures]), encoding="utf-8")


def line(row: dict[str, object]) -> str:
    limit = "" if row["limit"] is None else f"{row['limit']:g}"
    verdict = "" if row["limit"] is None else "holds" if row["holds"] else "DOES NOT HOLD"
    return f"{row['name']:<78} {row['value']:>9.2f} {limit:>7} {row['unit']:<8} {verdict}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", nargs="*", choices=[*names(), []], help="what to measure (all)")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.into:
        one(arguments.name[0], arguments.into)
        return 0
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    failed = []
    print(f"{'figure':<78} {'value':>9} {'limit':>7} unit")
    for name in arguments.name or names():
        into = RESULTS.with_name(f"{name}.part.json")
        ended = subprocess.run([sys.executable, "-m", "bench", name, "--into", str(into)], cwd=HERE.parent, check=False)
        if ended.returncode:
            failed.append(name)
            continue
        measured = json.loads(into.read_text(encoding="utf-8"))
        into.unlink()
        rows += measured
        print(*map(line, measured), sep="\n", flush=True)
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    for name in failed:
        print(f"{name} could not be measured; its own words are above.")
    return 1 if failed or not all(row["holds"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
