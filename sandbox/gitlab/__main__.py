"""`python -m sandbox.gitlab --dir D`: one practice GitLab in the foreground, until SIGTERM or Ctrl-C.

When it answers, `D/ready.json` (0600) is there: url, pid, tokens by name, registration token,
ids of projects and groups.
At the end everything that it wrote below `D` is removed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from sandbox.gitlab.app import create_app
from sandbox.gitlab.instance import FLAVOURS, SELF_MANAGED, Instance, Options
from sandbox.gitlab.moments import utc_now
from sandbox.gitlab.seed import plant

READY_FILE = "ready.json"


def main(arguments: list[str] | None = None) -> None:
    asked = _parser().parse_args(arguments)
    directory: Path = asked.dir.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    # A server that was killed left its files; its memory is gone, so they are worth nothing.
    _clear(directory)
    listener = socket.create_server((asked.host, asked.port))
    scheme = "https" if asked.tls_cert else "http"
    url = asked.external_url or f"{scheme}://{asked.host}:{listener.getsockname()[1]}"
    # uvicorn hands a signal on once it has stopped: as an exception it lets the files be removed below.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    try:
        _serve(asked, directory, listener, url.rstrip("/"))
    finally:
        listener.close()
        _clear(directory)


def _clear(directory: Path) -> None:
    """Remove what a server writes below its folder."""
    (directory / READY_FILE).unlink(missing_ok=True)
    for name in ("repositories", "artifacts"):
        shutil.rmtree(directory / name, ignore_errors=True)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def _serve(asked: argparse.Namespace, directory: Path, listener: socket.socket, url: str) -> None:
    options = Options(
        flavour=asked.flavour, version=asked.version, registration_tokens=asked.registration_tokens == "on",
        requests_per_minute=asked.rate_limit, long_poll_seconds=asked.long_poll,
        trace_update_interval=asked.trace_update_interval,
    )  # fmt: skip
    instance = Instance(options=options, url=url, directory=directory, now=utc_now)
    tokens = plant(instance)
    config = uvicorn.Config(
        create_app(instance), log_level="info" if asked.access_log else "warning", access_log=asked.access_log,
        ssl_certfile=asked.tls_cert, ssl_keyfile=asked.tls_key, timeout_graceful_shutdown=1, timeout_keep_alive=30,
        server_header=False, headers=[("Server", "nginx")],
    )  # fmt: skip
    write_ready(directory, instance, tokens)
    uvicorn.Server(config).run(sockets=[listener])


def write_ready(directory: Path, instance: Instance, tokens: dict[str, str]) -> None:
    """Say where the server is. The socket listens already, so whoever reads this may connect at once."""
    ready: dict[str, Any] = {
        "url": instance.url, "pid": os.getpid(), "flavour": instance.options.flavour,
        "version": instance.options.version,
        "tokens": tokens, "registration_token": instance.registration_token,
        "projects": {project.full_path: project.id for project in instance.projects.values()},
        "groups": {group.full_path: group.id for group in instance.groups.values() if group.kind == "group"},
    }  # fmt: skip
    unfinished = directory / f".{READY_FILE}"
    with contextlib.suppress(FileNotFoundError):
        unfinished.unlink()
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(ready, file, indent=2)
    unfinished.rename(directory / READY_FILE)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox.gitlab", description="A GitLab to practise on.")
    parser.add_argument("--dir", type=Path, required=True, help="where repositories, artifacts and ready.json go")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (loopback)")
    parser.add_argument("--port", type=int, default=0, help="port; 0 takes a free one")
    parser.add_argument("--flavour", choices=FLAVOURS, default=SELF_MANAGED, help="whose behaviour to show")
    parser.add_argument("--version", default="17.9.2", help="the version that it reports and behaves like")
    parser.add_argument(
        "--registration-tokens", choices=("on", "off"), default="on", help="off: POST /runners answers 410"
    )
    parser.add_argument(
        "--rate-limit", type=int, help="requests a minute and caller (gitlab.com: 2000, self-managed: none)"
    )
    parser.add_argument("--long-poll", type=float, default=0.0, help="seconds that a job request may wait for a job")
    parser.add_argument(
        "--trace-update-interval", type=int, default=3, help="seconds that runners wait between trace updates"
    )
    parser.add_argument(
        "--external-url", help="the address written into links and clone URLs, if not the one listened on"
    )
    parser.add_argument("--tls-cert", help="certificate chain (PEM); with --tls-key the server speaks HTTPS")
    parser.add_argument("--tls-key", help="private key (PEM) of --tls-cert")
    parser.add_argument("--access-log", action="store_true", help="write one line a request to standard error")
    return parser


if __name__ == "__main__":
    main()
