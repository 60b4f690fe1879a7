"""Place `copy`: the commands that carry config.toml out to here, and the script that installs the result on the runner's host.

The script replaces the file only while it is still the one that the copy was taken from (by its SHA-256), keeps its mode and owner, leaves a
backup beside it, and takes the new file's place in one step. It holds no secret: the new file travels beside it.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = r"""#!/bin/sh
# Installs a new {path}, as root:  sudo sh {name} NEW_FILE
# Nothing happens unless the file there is still the one that the new one was made from.
set -eu
new_file=$(readlink -f -- "$1")
target=$(readlink -f -- {path})
cd -- "$(dirname -- "$target")"
is() {{ echo "$2  $1" | sha256sum --check --status; }}
stop() {{ echo "$1" >&2; exit 1; }}

is "$target" {old} || stop "$target has changed since it was copied. Copy it out again and run the notebook again."
is "$new_file" {new} || stop "$new_file is not the file that the notebook wrote."
umask 077
next=$(mktemp "$target.XXXXXX")
trap 'rm -f -- "$next"' EXIT
cat -- "$new_file" > "$next"
chmod --reference="$target" -- "$next"
chown --reference="$target" -- "$next"
sync -- "$next"
is "$next" {new}
cp -p -- "$target" "$target.$(date -u +%Y%m%dT%H%M%SZ).bak"
{certificate}is "$target" {old} || stop "$target was changed while this ran. Copy it out again and run the notebook again."
mv -f -- "$next" "$target"
echo "$target is installed; gitlab-runner reads it within three seconds."
"""

_CERTIFICATE = r"""{guard}cat > {path} <<'CERTIFICATE'
{pem}
CERTIFICATE
chmod 644 {path}
"""


def copy_out(path: str, copy: Path) -> str:
    """The command that makes the copy, for this host; its comment says how from another one."""
    source, target = shlex.quote(path), shlex.quote(str(copy))
    return (
        f"(umask 077; mkdir -p {shlex.quote(str(copy.parent))}; sudo cat {source} > {target})\n"
        f"# gitlab-runner on another host:  (umask 077; ssh HOST sudo cat {source} > {target})"
    )


def install(script: Path, result: Path) -> str:
    """The command that installs the result, for this host; its comment says how on another one."""
    files = [shlex.quote(str(file)) for file in (script, result)]
    names = [shlex.quote(f"./{file.name}") for file in (script, result)]
    return (
        f"sudo sh {' '.join(files)}\n"
        f"# gitlab-runner on another host:  scp -p {' '.join(files)} HOST: && ssh -t HOST sudo sh {' '.join(names)} "
        f"&& ssh HOST rm {' '.join(names)}"
    )


@dataclass(frozen=True)
class Certificate:
    """A CA certificate (PEM) for a path on the runner's host; `replaces` what is there, or is written only where nothing is."""

    path: str
    pem: str
    replaces: bool

    @property
    def commands(self) -> str:
        path = shlex.quote(self.path)
        return _CERTIFICATE.format(
            path=path, pem=self.pem.strip(), guard="" if self.replaces else f"test -e {path} || "
        )


def script(path: str, name: str, *, old_sha256: str, new_sha256: str, certificate: Certificate | None = None) -> str:
    """The script's text. `path` is config.toml on the runner's host."""
    written = certificate.commands if certificate else ""
    return _SCRIPT.format(path=shlex.quote(path), name=name, old=old_sha256, new=new_sha256, certificate=written)
