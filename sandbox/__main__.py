"""The practice cluster from the command line: `python -m sandbox [run|build|demo|lab|traffic|vet]`."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import threading
from pathlib import Path

from runbook.errors import RunbookError
from sandbox.practice import HOME, ROOT, PracticeCluster
from sandbox.toolchain import OWN_MODULES, cache_folder, go_toolchain, programs


def main() -> int:
    """Run one command; an error is shown as its page, without a stack."""
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    run = commands.add_parser("run", help="the practice cluster in the foreground (default)")
    run.add_argument("--dir", type=Path, default=HOME, help="its folder (default: var/practice)")
    commands.add_parser("build", help="build what is not in the cache")
    commands.add_parser("demo", help="run the main job: every notebook, rehearsed, applied and applied again")
    commands.add_parser("lab", help="JupyterLab beside a practice cluster")
    traffic = commands.add_parser("traffic", help="play a team's CI on the practice cluster that runs")
    traffic.add_argument("--dir", type=Path, default=HOME, help="folder of that cluster (default: var/practice)")
    traffic.add_argument("--days", type=float, default=1, help="played days (default: 1)")
    traffic.add_argument("--seed", type=int, default=7, help="what happens is drawn from it (default: 7)")
    traffic.add_argument("--factor", type=float, default=3600, help="how much faster than real time (default: 3600)")
    traffic.add_argument("--times", type=float, default=1, help="how much busier than the usual team (default: 1)")
    traffic.add_argument("--truth", type=Path, help="file that gets the truth as JSON lines (default: DIR/truth.jsonl)")
    commands.add_parser("vet", help="go vet over our Go modules")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        match options.command:
            case "build":
                programs()
                print(f"the practice cluster's programs are in {cache_folder() / 'bin'}")
                return 0
            case "demo":
                from sandbox.demo import demo

                return demo()
            case "lab":
                return _lab()
            case "traffic":
                return _traffic(options)
            case "vet":
                return _vet()
            case _:
                return _foreground(getattr(options, "dir", HOME))
    except RunbookError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _foreground(folder: Path) -> int:
    with PracticeCluster(folder) as cluster:
        print(cluster.how_to_reach())
        print("\nCtrl-C stops it and removes its folder.", flush=True)
        threading.Event().wait()
    return 0


def _lab() -> int:
    with PracticeCluster() as cluster:
        print(cluster.how_to_reach(), flush=True)
        start_page = "notebooks/00-start-here.ipynb"
        return subprocess.run(
            [
                *(sys.executable, "-m", "jupyterlab", "--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={ROOT}"),
                *(f"--LabApp.default_url=/lab/tree/{start_page}", "--ServerApp.port_retries=50"),
                "--allow-root",  # the practice cluster needs root, so JupyterLab beside it is root as well
            ],
            check=False,
        ).returncode


def _traffic(options: argparse.Namespace) -> int:
    from sandbox.traffic.play import play, running

    out = options.truth or options.dir / "truth.jsonl"
    wanted = {name: getattr(options, name) for name in ("days", "seed", "factor", "times")}
    truth = play(running(options.dir), **wanted, out=out, say=print)
    print(f"{len(truth.pods)} pods in {truth.seconds:.1f} s ({truth.pods_a_second:.1f} a second); the truth: {out}")
    return 0


def _vet() -> int:
    go = go_toolchain()
    return max(subprocess.run([go, "vet", "./..."], cwd=folder, check=False).returncode for folder in OWN_MODULES)


if __name__ == "__main__":
    sys.exit(main())
