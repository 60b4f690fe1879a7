"""`python -m sandbox.alibaba --dir D --journal FILE`: one practice Alibaba Cloud in the foreground, until SIGTERM or Ctrl-C.

When it answers, `D/ready.json` (0600) is there: url, pid, region, and the AccessKeys by name: `reader`, and
`without-rights`, to which RAM grants nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType

import uvicorn

from sandbox.alibaba.app import create_app
from sandbox.alibaba.cloud import KEY_NAMES, Cloud, Options
from sandbox.alibaba.journal import Journal

READY_FILE = "ready.json"


def main(arguments: list[str] | None = None) -> None:
    asked = _parser().parse_args(arguments)
    directory: Path = asked.dir.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    ready = directory / READY_FILE
    ready.unlink(missing_ok=True)
    options = Options(
        region=asked.region, site=asked.site, deleted=asked.deleted, bill_rounding=asked.bill_rounding,
        bill_delay=timedelta(hours=asked.bill_delay_hours), requests_per_minute=asked.rate_limit,
    )  # fmt: skip
    keys = {name: (f"LTAI{secrets.token_hex(10)}", secrets.token_urlsafe(22)) for name in KEY_NAMES}
    cloud = Cloud(
        Journal(asked.journal or directory / "journal.jsonl", options.region), options, keys, lambda: datetime.now(UTC)
    )
    listener = socket.create_server((asked.host, asked.port))
    # uvicorn hands a signal on once it has stopped: as an exception it lets the file be removed below.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    try:
        _write_ready(ready, f"http://{asked.host}:{listener.getsockname()[1]}", cloud)
        config = uvicorn.Config(
            create_app(cloud),
            log_level="warning",
            timeout_graceful_shutdown=1,
            timeout_keep_alive=30,
            server_header=False,
        )
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        listener.close()
        ready.unlink(missing_ok=True)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def _write_ready(path: Path, url: str, cloud: Cloud) -> None:
    """Say where the server is. The socket listens already, so whoever reads this may connect at once."""
    keys = {name: {"id": key, "secret": secret} for name, (key, secret) in cloud.keys.items()}
    content = {"url": url, "pid": os.getpid(), "region": cloud.options.region, "access_keys": keys}
    unfinished = path.with_name(f".{path.name}")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(content, file, indent=2)
    unfinished.rename(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox.alibaba", description="An Alibaba Cloud to practise on.")
    parser.add_argument("--dir", type=Path, required=True, help="where ready.json goes")
    parser.add_argument("--journal", type=Path, help="the journal of eci-node (default: DIR/journal.jsonl)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (loopback)")
    parser.add_argument("--port", type=int, default=0, help="port; 0 takes a free one")
    parser.add_argument("--region", default="cn-hangzhou", help="region until the journal names one")
    parser.add_argument("--site", choices=("cn", "intl"), default="cn", help="whose prices")
    parser.add_argument(
        "--deleted", choices=("kept", "gone"), default="kept", help="instances of deleted pods: still shown?"
    )
    parser.add_argument(
        "--bill-delay-hours", type=float, default=24, help="played hours from a day's end to its bill; -24: at once"
    )
    parser.add_argument(
        "--bill-rounding",
        choices=("none", "hour", "instance"),
        default="none",
        help="which fees below 0.01 are rounded to 0.01",
    )
    parser.add_argument("--rate-limit", type=int, help="requests a minute, call and key (default: the documented ones)")
    return parser


if __name__ == "__main__":
    main()
