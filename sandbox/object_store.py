"""An object store on this machine that speaks S3: moto's server, in a virtual environment of its own under the cache folder.

    with ObjectStore(folder) as store:
        store.make_bucket("history")
        store.card("history/pods")          # the section `history` of a card

It takes any AccessKey, and forgets everything when it stops.
"""

from __future__ import annotations

import os
import socket
import venv
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from pyarrow import fs

from sandbox.once import installed, pip_install
from sandbox.process import Process, free_ports

REQUIREMENTS = Path(__file__).with_name("object-store-requirements.txt")
ACCESS_KEY, SECRET_KEY = "practice", "practice-secret"


def program() -> Path:
    """moto's server, installed once for these requirements and this Python."""
    return installed("object-store", REQUIREMENTS, _install, takes="about 20 s") / "bin" / "moto_server"


def _install(home: Path) -> None:
    venv.create(home, with_pip=True, clear=True)
    pip_install(home / "bin" / "python", "--requirement", REQUIREMENTS)


class ObjectStore:
    """One server process on loopback."""

    def __init__(self, folder: Path) -> None:
        (self.port,) = free_ports(1)
        argv = [program(), "--host", "127.0.0.1", "--port", str(self.port)]
        self.process = Process("object-store", argv, log=folder / "object-store.log", env=dict(os.environ))

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> ObjectStore:
        self.process.start().wait_until(self._answers, timeout=60)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.stop()

    def make_bucket(self, name: str) -> None:
        self.client(allow_bucket_creation=True).create_dir(name)

    def client(self, **options: Any) -> fs.S3FileSystem:
        """The store as pyarrow sees it."""
        return fs.S3FileSystem(
            access_key=ACCESS_KEY,
            secret_key=SECRET_KEY,
            endpoint_override=self.endpoint.removeprefix("http://"),
            scheme="http",
            region="us-east-1",
            **options,
        )

    def card(self, path: str) -> dict[str, str]:
        """The section `history` of a card whose history is kept there. The keys are those of `environment`."""
        return {
            "url": f"s3://{path}",
            "endpoint": self.endpoint,
            "region": "us-east-1",
            "access_key_id": "env:PRACTICE_ACCESS_KEY_ID",
            "access_key_secret": "env:PRACTICE_ACCESS_KEY_SECRET",
        }

    @property
    def environment(self) -> dict[str, str]:
        """The variables that the references of `card` name."""
        return {"PRACTICE_ACCESS_KEY_ID": ACCESS_KEY, "PRACTICE_ACCESS_KEY_SECRET": SECRET_KEY}

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False
