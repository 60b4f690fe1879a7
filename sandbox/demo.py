"""`make demo`: the main job from beginning to end on a practice cluster, the history of a day of CI, and its cost review.

Every notebook is run by papermill. All that the demo makes is under var/demo: `card.yaml`, `executed/`, `history/`, `reports/` and more.
"""

from __future__ import annotations

import logging
import shutil
import sys
import textwrap
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import yaml

from sandbox.practice import ROOT, PracticeCluster

if TYPE_CHECKING:
    from runbook.history.overview import Overview
    from runbook.settings import Settings
    from sandbox.traffic.truth import Truth

FOLDER = ROOT / "var" / "demo"
NOTEBOOKS = ROOT / "notebooks"

START, CHECK, ACCESS, CACHE, REGISTER, CONFIGURE, SMOKE = (
    "00-start-here",
    "onboarding/10-check-connection",
    "onboarding/20-grant-access",
    "onboarding/30-create-cache-volume",
    "onboarding/40-register-runner",
    "onboarding/50-configure-runner",
    "onboarding/80-run-smoke-job",
)
COLLECT = "operations/10-collect-pod-history"
CHANGING = (ACCESS, CACHE, REGISTER, CONFIGURE)


@dataclass(frozen=True)
class Pass:
    """One walk through some notebooks: its folder's name, what it shows, and their dry_run."""

    name: str
    shows: str
    notebooks: tuple[str, ...]
    dry_run: bool


PASSES = (
    Pass("1-dry-run", "a rehearsal changes nothing", (START, CHECK, *CHANGING, SMOKE), True),
    Pass("2-apply", "apply", CHANGING, False),
    Pass("3-apply-again", "the second time there is nothing to change", CHANGING, False),
    Pass("4-smoke-job", "a job proves the runner, which then gets its tags", (SMOKE,), False),
)


HISTORY = Pass("5-history", "collectors follow one another while a day of CI is played", (COLLECT,), True)
FIRST_RUN_MINUTES, RUN_MINUTES = 0.02, 0.2

ARCHIVE = "operations/30-archive-prices"
ANALYSIS = ("10-instance-sizes", "20-spot-savings", "30-rightsizing", "40-startup-time", "50-cost-review")
COST = Pass("6-cost", "what the played day cost, and what to do about it", (ARCHIVE, *ANALYSIS), False)
AT_ONCE = 2
"""Notebooks of analysis that run at the same time."""

BUSY = 0.7
"""How busy the team is on the played day, compared with its usual day: two cores play it in about a minute."""


@dataclass(frozen=True)
class Executed:
    """One executed notebook: the pass, its name, the verdict it ended with, seconds, and where it lies."""

    walk: str
    notebook: str
    verdict: str
    seconds: float
    path: Path
    ok: bool


def demo() -> int:
    """Run the main job on a new practice cluster; print a table and return the exit code: 0 when all is green."""
    executed = FOLDER / "executed"
    begin = time.monotonic()
    with PracticeCluster(FOLDER / "cluster") as cluster:
        for old in ("executed", "history", "prices", "used", "bills", "reports"):
            shutil.rmtree(FOLDER / old, ignore_errors=True)
        (FOLDER / "truth.jsonl").unlink(missing_ok=True)
        card = own_card(cluster, FOLDER)
        print(f"practice cluster ready in {cluster.seconds_to_start:.1f} s; the card is {_shown(card)}")
        started = datetime.now(UTC)
        rows = main_job(card, executed)
        complete = all(row.ok for row in rows)
        if complete:
            day = history_of_a_day(cluster, card, executed, since=started)
            rows += day.rows
            complete = day.complete
            rows += cost_of_a_day(card, executed, day)
    print(_table(rows))
    if complete:
        print(f"\n{day.overview}")
    notebooks = sum(row.seconds for row in rows)
    print(f"\n{len(rows)} notebooks in {notebooks:.0f} s; with the practice cluster {time.monotonic() - begin:.0f} s")
    print(f"executed notebooks: {_shown(executed)}/*/*.ipynb   (open them in JupyterLab)")
    print(f"the history: runbook history --cluster {_shown(FOLDER / 'card.yaml')}")
    for page in sorted((FOLDER / "reports").rglob("*.html")):
        print(f"the cost review: {_shown(page)}   (open it in a browser)")
    return 0 if complete and all(row.ok for row in rows) else 1


def own_card(cluster: PracticeCluster, folder: Path) -> Path:
    """Write the practice cluster's card into the folder, with a history of its own beside it, and what a team might add for cost."""
    values = yaml.safe_load(cluster.card.read_text())
    values["history"] = {"url": str(folder / "history")}
    places = {name: str(folder / name) for name in ("prices", "bills", "reports")}
    values["cost"] = places | {
        "used": {"source": "eci", "url": str(folder / "used")},
        "budget": 3000,
        "other": [
            {"name": "NAT gateway and EIP", "service": "nat", "amount": 190, "per": "month", "first": "2026-01-01"},
            {"name": "Image caches", "service": "image-cache", "amount": 12, "per": "month", "first": "2026-01-01"},
        ],
    }
    card = folder / "card.yaml"
    card.write_text(yaml.safe_dump(values, sort_keys=False))
    return card


def main_job(card: Path, executed: Path) -> list[Executed]:
    """Every pass, one after the other; the executed notebooks go to `executed`/PASS/NAME.ipynb. Stops at a red one."""
    rows: list[Executed] = []
    for walk in PASSES:
        print(f"\n{walk.name}: {walk.shows}")
        for notebook in walk.notebooks:
            parameters = {} if notebook in (START, CHECK) else {"dry_run": walk.dry_run}
            row = _execute(walk.name, notebook, card, executed / walk.name, parameters)
            rows.append(row)
            if not row.ok:
                return rows
    return rows


# -- the history of a day --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlayedDay:
    """A day of CI that was played, the collectors' notebooks, and what the history has of it."""

    truth: Truth
    rows: list[Executed]
    overview: Overview
    missing: frozenset[str]
    """UIDs of pods that were played and are not in the history."""
    over: datetime
    """When the played day was over, by its own clock: ahead of ours."""

    @property
    def complete(self) -> bool:
        """Whether every pod that was played is in the history, and every collector's notebook was green."""
        return not self.missing and all(row.ok for row in self.rows)


def history_of_a_day(
    cluster: PracticeCluster, card: Path, executed: Path, *, since: datetime, pods: int | None = None
) -> PlayedDay:
    """Play a workday of a team's CI while collectors follow one another, then import what ECI and GitLab know.

    The runner of the card is the one that the played jobs ran on. `since` is when the practice cluster's own jobs began;
    `pods` plays only so many.
    """
    from runbook.clients import connect
    from runbook.history import gitlab_jobs, imports, overview, store
    from runbook.settings import Settings
    from sandbox.traffic.play import play
    from sandbox.traffic.team import TEAM

    print(f"\n{HISTORY.name}: {HISTORY.shows}")
    settings = Settings.load(card)
    (runner,) = gitlab_jobs.runners_of(connect.gitlab(settings), settings)
    # The first run only finds its place in the watch: from there on each run is told what happened before it.
    rows = [_collect(card, executed, 0, FIRST_RUN_MINUTES)]
    with ThreadPoolExecutor(1) as stage:
        playing: Future[Truth] = stage.submit(
            play,
            cluster,
            days=1,
            times=BUSY,
            team=replace(TEAM, weekend=1.0),
            pods=pods,
            namespace=settings.kubernetes.namespace,
            gitlab_runner=runner,
            out=card.parent / "truth.jsonl",
        )
        last = False
        while not last:
            last = playing.done()  # the run after the last pod's end still finds that end
            rows.append(_collect(card, executed, len(rows), FIRST_RUN_MINUTES if last else RUN_MINUTES))
    truth = playing.result()
    over = max(pod.job_finished_at for pod in truth.pods) + imports.SETTLED
    _complete(settings, since, over)
    history = store.open_store(settings)
    there = set(history.table(["pod_uid"])["pod_uid"].to_pylist())
    missing = frozenset(pod.uid for pod in truth.pods) - there
    print(
        f"  {len(truth.pods)} pods were played in {truth.seconds:.0f} s; {len(missing)} of them are not in the history"
    )
    return PlayedDay(truth, rows, overview.of(history), missing, over)


def _collect(card: Path, executed: Path, number: int, minutes: float) -> Executed:
    folder = executed / f"{HISTORY.name}-{number}"
    return _execute(HISTORY.name, COLLECT, card, folder, {"minutes": minutes})


def _complete(settings: Settings, since: datetime, now: datetime) -> None:
    """Import what ECI and GitLab know as of `now`, when the played day was over."""
    from runbook.clients import connect
    from runbook.history import imports, store

    history = store.open_store(settings)
    for name, report in (
        ("import eci", imports.eci(connect.alibaba(settings), history, settings, now=now)),
        (
            "import gitlab-jobs",
            imports.gitlab_jobs(connect.gitlab(settings), history, settings, since=since, now=now, with_traces=True),
        ),
    ):
        print(f"  {'✔' if report.ok else '!'} {name:<32} {report.title}: {report.verdict}", flush=True)
        for check in report.failures:  # what the history found out about the played day, such as a false green
            print(textwrap.indent(f"not so: {check.title}\n{check.observed}", " " * 37))


# -- what it cost ----------------------------------------------------------------------------------------------------


def cost_of_a_day(card: Path, executed: Path, day: PlayedDay) -> list[Executed]:
    """Archive prices, import what was used and the bill, and run the notebooks of analysis, a few at a time."""
    from runbook.clients import connect
    from runbook.history import bills, store, used, used_imports
    from runbook.settings import Settings

    print(f"\n{COST.name}: {COST.shows}")
    folder = executed / COST.name
    rows = [_execute(COST.name, ARCHIVE, card, folder, {"dry_run": False})]
    settings, now = Settings.load(card), day.over
    measured = used_imports.measure(
        store.open_store(settings),
        used.open_store(settings),
        used_imports.source_of(settings, settings.cost.used.source, now=now),
        source=settings.cost.used.source,
        since=now - timedelta(days=2),
        dry_run=False,
    )
    begin, end = (now - timedelta(days=2)).date(), now.date()
    fetched = bills.open_bills(settings).fetch(connect.alibaba(settings).daily_bill, begin, end, now=now)
    for name, report in (("import used", measured), ("import bill", fetched)):
        print(f"  {'✔' if report.ok else '!'} {name:<32} {report.title}: {report.verdict}", flush=True)
    last = now.astimezone(ZoneInfo(settings.cost.timezone)).date()  # a day of UTC is parts of two of China's
    days = {"first": str(last - timedelta(days=1)), "last": str(last)}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        rows += pool.map(lambda name: _execute(COST.name, f"analysis/{name}", card, folder, days), ANALYSIS)
    return rows


# -- notebooks -------------------------------------------------------------------------------------------------------


def _execute(walk: str, notebook: str, card: Path, folder: Path, parameters: dict[str, object]) -> Executed:
    """Run a notebook by papermill, leave it executed in the folder, and print what came of it."""
    import papermill  # takes a second, so that the practice cluster starts first
    from traitlets.config import Config

    # What a kernel says beside its notebook (that it listens on loopback, that it was shut down) is no news here.
    quiet = Config({"PapermillNotebookClient": {"extra_arguments": ["--log-level=CRITICAL"]}})

    logging.getLogger("papermill").setLevel(logging.ERROR)
    output = folder / f"{Path(notebook).name}.ipynb"
    output.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    ok = True
    try:
        papermill.execute_notebook(
            NOTEBOOKS / f"{notebook}.ipynb",
            output,
            parameters={"cluster": str(card)} | parameters,
            cwd=str(ROOT),
            progress_bar=False,
            config=quiet,
        )
    except papermill.exceptions.PapermillExecutionError as error:
        ok = False
        print(f"\n{error.ename}: {error.evalue}\n", file=sys.stderr)
    row = Executed(walk, Path(notebook).name, verdict(output), time.monotonic() - start, output, ok)
    print(f"  {'✔' if row.ok else '✘'} {row.notebook:<24} {row.seconds:5.1f} s  {row.verdict}", flush=True)
    return row


def verdict(path: Path) -> str:
    """The first line of the report that an executed notebook shows last: `Cache volume: green; nothing to change`."""
    import nbformat

    shown = [
        output["data"]["text/plain"].splitlines()[0]
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "execute_result"
    ]
    return shown[-1] if shown else "ended before its report"


def _table(rows: list[Executed]) -> str:
    head = ("pass", "notebook", "seconds", "verdict")
    cells = [(row.walk, row.notebook, f"{row.seconds:.1f}", row.verdict) for row in rows]
    widths = [max(len(line[column]) for line in [head, *cells]) for column in range(3)]
    lines = [
        "  ".join(f"{text:<{width}}" for text, width in zip(line, [*widths, 0], strict=True)) for line in [head, *cells]
    ]
    return "\n" + "\n".join(line.rstrip() for line in [lines[0], "-" * 100, *lines[1:]])


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
