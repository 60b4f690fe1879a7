"""Form uploads as runners send them: the few parts of one small body, kept in memory."""

from __future__ import annotations

import email.message
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Upload:
    """One part: a plain value where `filename` is None, else a file."""

    name: str
    filename: str | None
    content: bytes = field(repr=False)


def read_multipart(content_type: str, body: bytes) -> list[Upload]:
    """The parts of a `multipart/form-data` body. Raises ValueError where the boundary is missing."""
    boundary = _options(f"Content-Type: {content_type}").get_param("boundary")
    if not isinstance(boundary, str):
        raise ValueError("multipart body without a boundary")
    delimiter = b"--" + boundary.encode()
    uploads = []
    for chunk in (b"\r\n" + body).split(b"\r\n" + delimiter)[1:]:
        if chunk.startswith(b"--"):
            break
        head, _, content = chunk.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        disposition = next(
            (
                line
                for line in head.decode(errors="replace").split("\r\n")
                if line.lower().startswith("content-disposition:")
            ),
            "",
        )
        options = _options(disposition)
        name = options.get_param("name", header="content-disposition")
        filename = options.get_filename()
        uploads.append(Upload(str(name), filename, content))
    return uploads


def _options(header: str) -> email.message.Message:
    message = email.message.Message()
    name, _, value = header.partition(":")
    if name:
        message[name] = value.strip()
    return message
