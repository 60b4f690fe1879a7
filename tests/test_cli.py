"""The command line as a stranger uses it: a process, its output, its exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ARTICLE = ["--build", "2/6Gi", "--service", "1/1Gi", "--helper", "250m/512Mi", "--region", "cn-hangzhou"]


def runbook(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runbook.cli", *arguments], capture_output=True, text=True, timeout=30, cwd=cwd
    )


def answer(*arguments: str) -> dict[str, object]:
    done = runbook("spec", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_the_articles_pod() -> None:
    """The article's requests become 4 vCPU and 8 GiB at CNY 0.882144 an hour."""
    assert (
        answer(*ARTICLE).items()
        >= {
            "vcpu": 4,
            "memory_gib": 8,
            "price_per_hour": 0.882144,
            "currency": "CNY",
            "price_date": "2024-11-27",
            "reason": None,
        }.items()
    )


def test_text_for_people() -> None:
    """Without --json the answer is aligned text that begins with requested and billed."""
    done = runbook("spec", *ARTICLE)
    assert done.returncode == 0
    assert done.stdout.startswith("3.25 vCPU / 7.5 GiB → 4 vCPU / 8 GiB, CNY 0.882144 an hour\n")
    assert done.stderr == ""


def test_works_from_any_folder(tmp_path: Path) -> None:
    """The tables are found wherever the command is run."""
    assert runbook("spec", *ARTICLE, cwd=tmp_path).returncode == 0


def test_spot_has_a_reason_instead_of_a_price() -> None:
    """For spot the price is null, the reason says why, and the currency is the site's."""
    spot = answer(*ARTICLE, "--spot", "--site", "intl")
    assert (spot["vcpu"], spot["memory_gib"], spot["price_per_hour"], spot["currency"]) == (4, 8, None, "USD")
    assert "ECS type" in str(spot["reason"])


@pytest.mark.parametrize(
    ("options", "price", "currency"),
    [(["--economy"], 0.565344, "CNY"), (["--site", "intl"], 0.138528, "USD"), (["--site", "cn"], 0.882144, "CNY")],
)
def test_economy_and_site(options: list[str], price: float, currency: str) -> None:
    """--economy and --site choose the price and its currency."""
    found = answer(*ARTICLE, *options)
    assert (found["price_per_hour"], found["currency"]) == (price, currency)


def test_service_may_be_repeated() -> None:
    """Each --service adds one container."""
    found = answer("--build", "1/2Gi", "--service", "1/2Gi", "--service", "1/2Gi", "--region", "cn-hangzhou")
    assert (found["requested_vcpu"], found["requested_memory_gib"]) == (3, 6)


BAD = [
    (["--build", "2:6Gi"], ["--build", "'2:6Gi'", "2/6Gi"]),
    (["--build", "2/6GB"], ["--build", "'6GB'", "G or Gi"]),
    (["--service", "1/1Gi", "--service", "x/1Gi"], ["--service", "'x'", "500m"]),
    (["--helper", "250m/512"], ["--helper", "'250m/512'", "512Mi"]),
    (["--helper", ""], ["--helper", "''", "2/6Gi"]),
    (["--build", "70/6Gi"], ["--build", "70 vCPU", "at most 64 vCPU"]),
    (["--build", "9/16Gi", "--economy"], ["--build", "at most 8 vCPU", "economy"]),
    (["--region", "cn-hangzou"], ["--region", "'cn-hangzou'", "Did you mean cn-hangzhou?"]),
    (["--spot", "--economy"], ["--spot with --economy", "FeatureBasedConstraintConflict"]),
    (["--site", "eu"], ["--site", "'eu'", "cn", "intl"]),
    (["--bild", "1/1Gi"], ["--bild"]),
]


@pytest.mark.parametrize(("options", "words"), BAD)
def test_bad_input(options: list[str], words: list[str]) -> None:
    """Bad input ends with status 2 and a page that names the option, the value and what is allowed."""
    done = runbook("spec", "--region", "cn-hangzhou", *options, "--json")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("usage: runbook spec")
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize(("arguments", "word"), [([], "COMMAND"), (["spek"], "'spek'"), (["spec"], "--region")])
def test_missing_words(arguments: list[str], word: str) -> None:
    """A missing or unknown command, or a missing required option, is named."""
    done = runbook(*arguments)
    assert done.returncode == 2
    assert word in done.stderr


def test_help_explains_every_option() -> None:
    """The help has the question, every option with a sentence, and an example."""
    text = runbook("spec", "--help").stdout
    for word in (
        "Which ECI spec",
        "--build",
        "--service",
        "--helper",
        "--region",
        "--site",
        "--spot",
        "--economy",
        "--json",
    ):
        assert word in text
    assert "example: runbook spec --build 2/6Gi" in text


def test_starts_at_once() -> None:
    """The help loads none of the heavy libraries, and an answer neither."""
    program = (
        "import sys; from runbook.cli import main; main(sys.argv[1:]); "
        "heavy = {'kubernetes', 'gitlab', 'pandas', 'matplotlib', 'pydantic', 'papermill'} & set(sys.modules); "
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program, "spec", *ARTICLE], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
