"""``python -m sandbox.runner run --config config.toml --version 17.9.2``"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import sandbox.runner
from runbook.runner.version import parse
from sandbox.runner.polling import Multi

DEFAULT_CONFIG = Path("/etc/gitlab-runner/config.toml")
DEFAULT_VERSION = "17.9.2"


def say(line: str) -> None:
    """A line of the manager's log."""
    print(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit code is returned."""
    parser = argparse.ArgumentParser(prog="sandbox.runner", description=sandbox.runner.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="poll GitLab for jobs and run them until a signal comes")
    run.add_argument("--config", "-c", type=Path, default=DEFAULT_CONFIG, help="config.toml (default: %(default)s)")
    run.add_argument(
        "--version",
        type=parse,
        default=parse(DEFAULT_VERSION),
        help="the gitlab-runner version to play (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    return Multi(options.config, options.version, say=say).run()


if __name__ == "__main__":
    sys.exit(main())
