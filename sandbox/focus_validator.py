"""The FOCUS foundation's own validator, in a virtual environment of its own under the cache folder.

    verdict = validate(Path("focus.parquet"), folder)       # what it objects to, by the id of its rule

It needs Python 3.12 (it refuses older ones, and its numpy has no wheels for newer ones). Nothing is downloaded while it runs:
the rules of FOCUS 1.2 come with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from sandbox.once import installed, pip_install
from sandbox.process import SandboxError

REQUIREMENTS = Path(__file__).with_name("focus-validator-requirements.txt")
NEEDED = (3, 12)
NO_PYTHON = "FOCUS' validator needs Python 3.12, and there is none on PATH, in pyenv's or in uv's folder"
RULES = "1.2.0.1"
"""FOCUS 1.2, in the edition of the rules that the validator ships."""

APPLIES = (
    "ACCOUNT_NAMING_SUPPORTED", "AVAILABILITY_ZONE_SUPPORTED", "BILLING_BASED_ON_PROVISIONED_RESOURCES_SUPPORTED",
    "COMMITMENT_DISCOUNT_SUPPORTED", "MULTIPLE_PRICING_CATEGORIES_SUPPORTED", "NEGOTIATED_PRICING_SUPPORTED",
    "PUBLIC_PRICE_LIST_SUPPORTED", "REGION_SUPPORTED", "RESOURCE_TYPE_ASSIGNMENT_SUPPORTED", "TAGGING_SUPPORTED",
    "UNIT_PRICING_SUPPORTED", "USAGE_MEASUREMENT_SUPPORTED",
)  # fmt: skip
"""What ECI has of the things that make further rules apply: all but sub-accounts, kinds of accounts, capacity reservations, and
other or virtual currencies for prices.
"""


@dataclass(frozen=True)
class Verdict:
    """What the validator said: how many rules held, how many did not apply, and each that does not hold with its message."""

    held: int
    skipped: int
    objections: dict[str, str]


def python() -> Path | None:
    """A Python 3.12 of this machine; None where there is none."""
    return next((found for found in _candidates() if _is_needed(found)), None)


def _candidates() -> Iterator[Path]:
    name = f"python{NEEDED[0]}.{NEEDED[1]}"
    on_path = shutil.which(name)
    if on_path:
        yield Path(on_path)
    version = f"{NEEDED[0]}.{NEEDED[1]}"
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    uv = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "uv" / "python"
    for folder, pattern in ((pyenv / "versions", f"{version}.*"), (uv, f"cpython-{version}.*")):
        for home in sorted(folder.glob(pattern), reverse=True):
            yield home / "bin" / name


def _is_needed(found: Path) -> bool:
    """Whether it runs, is of the version, and can make virtual environments: a shim of pyenv may be there and lead nowhere."""
    asked = [found, "-c", "import sys, venv, ensurepip; print(*sys.version_info[:2])"]
    try:
        ended = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=60)
    except OSError:
        return False
    return ended.stdout.split() == [str(one) for one in NEEDED]


def program() -> Path:
    """The validator's command, installed once. Raises SandboxError where there is no Python 3.12, or pip fails."""
    found = python()
    if found is None:
        raise SandboxError(f"{NO_PYTHON}.", where="PATH")

    def install(home: Path) -> None:
        subprocess.run([found, "-m", "venv", "--clear", home], check=True)
        pip_install(home / "bin" / "python", "--requirement", REQUIREMENTS)

    return installed("focus-validator", REQUIREMENTS, install, takes="about 30 s") / "bin" / "focus-validator"


def validate(data: Path, folder: Path) -> Verdict:
    """Check a CSV or Parquet file against FOCUS 1.2. The validator's log and report lie in `folder` afterwards."""
    command = program()
    folder.mkdir(parents=True, exist_ok=True)
    _let_it_find_its_files(command, folder)
    report = folder / "report.xml"
    asked = [
        command, "--block-download", "--data-file", data.resolve(), "--validate-version", RULES,
        "--applicability-criteria", ",".join(APPLIES), "--output-type", "unittest", "--output-destination", report.name,
    ]  # fmt: skip
    ended = subprocess.run(asked, cwd=folder, capture_output=True, text=True, check=False, timeout=280)
    if not report.exists():
        raise SandboxError("FOCUS' validator made no report.", where=str(folder), value=ended.stderr[-2000:])
    return _read(report)


def _let_it_find_its_files(command: Path, folder: Path) -> None:
    """It looks for its list of currencies below the working directory."""
    (packages,) = command.parent.parent.glob("lib/python*/site-packages/focus_validator")
    link = folder / "focus_validator"
    if not link.exists():
        link.symlink_to(packages)


def _read(report: Path) -> Verdict:
    held, skipped, objections = 0, 0, {}
    for case in ElementTree.parse(report).iter("testcase"):
        rule = (case.get("name") or "").split(" ")[0]
        trouble = case.find("failure") if case.find("failure") is not None else case.find("error")
        if trouble is not None:
            objections[rule] = trouble.get("message") or ""
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            held += 1
    return Verdict(held, skipped, objections)
