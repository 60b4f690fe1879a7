"""`make demo`: the main job from beginning to end on a practice cluster, every notebook run by papermill."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from sandbox.practice import ROOT, PracticeCluster

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
    shutil.rmtree(executed, ignore_errors=True)
    begin = time.monotonic()
    with PracticeCluster(FOLDER / "cluster") as cluster:
        print(f"practice cluster ready in {cluster.seconds_to_start:.1f} s; the card is {_shown(cluster.card)}")
        rows = main_job(cluster, executed)
        shutil.copy(cluster.card, FOLDER / "card.yaml")
    print(_table(rows))
    notebooks = sum(row.seconds for row in rows)
    print(f"\n{len(rows)} notebooks in {notebooks:.0f} s; with the practice cluster {time.monotonic() - begin:.0f} s")
    print(f"executed notebooks: {_shown(executed)}/*/*.ipynb   (open them in JupyterLab)")
    return 0 if all(row.ok for row in rows) else 1


def main_job(cluster: PracticeCluster, executed: Path) -> list[Executed]:
    """Every pass, one after the other; the executed notebooks go to `executed`/PASS/NAME.ipynb. Stops at a red one."""
    rows: list[Executed] = []
    for walk in PASSES:
        print(f"\n{walk.name}: {walk.shows}")
        for notebook in walk.notebooks:
            row = _execute(walk, notebook, cluster.card, executed)
            print(f"  {'✔' if row.ok else '✘'} {row.notebook:<24} {row.seconds:5.1f} s  {row.verdict}", flush=True)
            rows.append(row)
            if not row.ok:
                return rows
    return rows


def _execute(walk: Pass, notebook: str, card: Path, executed: Path) -> Executed:
    import papermill  # takes a second, so that the practice cluster starts first
    from traitlets.config import Config

    # What a kernel says beside its notebook (that it listens on loopback, that it was shut down) is no news here.
    quiet = Config({"PapermillNotebookClient": {"extra_arguments": ["--log-level=CRITICAL"]}})

    logging.getLogger("papermill").setLevel(logging.ERROR)
    output = executed / walk.name / f"{Path(notebook).name}.ipynb"
    output.parent.mkdir(parents=True, exist_ok=True)
    parameters = {"cluster": str(card)} | ({} if notebook in (START, CHECK) else {"dry_run": walk.dry_run})
    start = time.monotonic()
    ok = True
    try:
        papermill.execute_notebook(
            NOTEBOOKS / f"{notebook}.ipynb",
            output,
            parameters=parameters,
            cwd=str(ROOT),
            progress_bar=False,
            config=quiet,
        )
    except papermill.exceptions.PapermillExecutionError as error:
        ok = False
        print(f"\n{error.ename}: {error.evalue}\n", file=sys.stderr)
    return Executed(walk.name, Path(notebook).name, verdict(output), time.monotonic() - start, output, ok)


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
