"""What is made once into the cache folder, however many processes want it."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from sandbox.process import SandboxError
from sandbox.toolchain import cache_folder


def installed(name: str, requirements: Path, install: Callable[[Path], None], *, takes: str) -> Path:
    """The folder in the cache that `install` filled from these pinned requirements for this Python; filled now if it is not."""
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:12]
    home = cache_folder() / f"{name}-{wanted}"
    complete = home / ".complete"
    if complete.exists():
        return home
    home.parent.mkdir(parents=True, exist_ok=True)
    with home.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            print(f"installing {name} (once; {takes}) ...", file=sys.stderr)
            install(home)
            complete.touch()
    return home


def pip_install(python: Path | str, *arguments: Path | str) -> None:
    """`pip install` for that Python. Raises SandboxError with what pip said."""
    asked: Sequence[Path | str] = [python, "-m", "pip", "install", "--quiet", *arguments]
    ended = subprocess.run(asked, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SandboxError("Packages cannot be installed.", where=str(arguments[-1]), value=ended.stderr[-2000:])
