"""The cost review in a real browser: printed on A4, without a network."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runbook.answer import Scope
from runbook.clients.engine import engine
from runbook.cost import data_quality, movers
from runbook.eci.prices import PriceBook
from runbook.review import pack
from runbook.review.period import Period
from runbook.settings import Settings
from tests.cost.priced_pods import SCOPE, frame, pod

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SHEETS = 8
NOW = datetime(2026, 12, 1, tzinfo=UTC)
ENDS = (*["deleted"] * 12, "reclaimed", "out_of_memory", "image_pull")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine's PATH")


def month(count: int, projects: int, begin: datetime, seed: int) -> list[dict[str, Any]]:
    """Pods of so many projects, most of them of the first ones; sizes, ends, use and images as they come."""
    rng = np.random.default_rng(seed)
    pods = []
    for number in range(count):
        project, vcpu, memory = (
            int(min(rng.zipf(1.6), projects)),
            float(rng.choice([2, 4, 8])),
            float(rng.choice([4, 8, 16])),
        )
        ended, cost, spot = ENDS[rng.integers(len(ENDS))], float(rng.lognormal(-1, 0.6)), bool(rng.random() < 0.5)
        pods.append(
            pod(
                1_000_000 * seed + number, billing_start_at=begin + timedelta(minutes=int(rng.integers(30 * 1440))),
                seconds=float(rng.lognormal(6, 0.6)), effective_cost=cost * (0.4 if spot else 1), on_demand_cost=cost,
                spot=spot, ended=ended, job_status="success" if ended == "deleted" else "failed",
                project_path=None if rng.random() < 0.03 else f"group-{project % 5}/team/service-{project:03}",
                job_name=f"job {number % 4}", billed_vcpu=vcpu, billed_memory_gib=memory, image=f"registry/image:{number % 30}",
                image_cache_hit=bool(number % 2), used_vcpu_peak=vcpu / 3, used_vcpu_mean=vcpu / 5, used_samples=30,
                used_memory_peak_gib=memory / 3, used_memory_mean_gib=memory / 4,
            )
        )  # fmt: skip
    return pods


def period(folder: Path, now: list[dict[str, Any]], before: list[dict[str, Any]]) -> Period:
    """A period of these pods, as if it had been opened from a history."""
    cost = {
        "reports": str(folder),
        "reviews": str(folder),
        "bills": str(folder / "bills"),
        "budget": 900,
        "timezone": "UTC",
    }
    settings = Settings.parse(
        {"name": "practice", "region": "cn-hangzhou", "cache": {"enabled": False}, "smoke": {"project": "ops/smoke"},
         "gitlab": {"url": "https://gitlab.example.com"}, "cost": cost}, where="test",
    )  # fmt: skip
    pods, earlier = frame(*now), frame(*before)
    dearest = movers.who(pods, earlier, SCOPE).parts["projects"]["project"]
    scope = Scope(**{**vars(SCOPE), "projects": tuple(name for name in dearest if name)[:8]})
    quality = data_quality.problems(pods, scope)
    return Period(
        settings, scope, pods, earlier, PriceBook.shipped("cn"), {}, quality, engine(settings), folder / "priced"
    )


def sheets(page: Path) -> int:
    """How many sheets the page prints on, by a browser that reaches no other machine."""
    assert CHROMIUM is not None
    printed = page.with_suffix(".pdf")
    offline = "--host-resolver-rules=MAP * ~NOTFOUND"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", offline, "--no-pdf-header-footer"]
    subprocess.run([*command, f"--print-to-pdf={printed}", page.as_uri()], check=True, capture_output=True, timeout=120)
    return len(re.findall(rb"/Type\s*/Page\b", printed.read_bytes()))


@pytest.mark.parametrize("projects", [0, 1, 100])
def test_the_review_fits_on_eight_sheets(tmp_path: Path, projects: int) -> None:
    """Of an empty history, of one pod, and of a hundred projects with everything to tell: at most eight printed pages."""
    if projects > 1:
        now, before = (
            month(3000, projects, datetime(2026, 11, 1, tzinfo=UTC), 1),
            month(3000, projects, datetime(2026, 10, 2, tzinfo=UTC), 2),
        )
    else:
        now, before = [pod()] * projects, []
    review = pack.review(period(tmp_path, now, before), now=NOW)
    review.report.raise_for_failures()
    assert 1 <= sheets(review.page) <= SHEETS
