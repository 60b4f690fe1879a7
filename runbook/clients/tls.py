"""What a server shows in a TLS handshake, and until when certificates are valid."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit


def not_after(pem: str) -> datetime:
    """The moment (aware, UTC) at which the first certificate of a PEM text expires. ValueError where there is none."""
    from cryptography import x509

    return x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc


@dataclass(frozen=True)
class Handshake:
    """One TLS handshake: whether something answered, whether its certificate is good for that address, its expiry.

    `problem` says what went wrong, empty when all is well; `not_after` is None where no certificate was seen.
    """

    reached: bool
    verified: bool
    not_after: datetime | None = None
    problem: str = ""


def shake_hands(url: str, authority: str | None, timeout: float, *, name: str | None = None) -> Handshake:
    """Open a TLS connection to the host and port of `url`, and close it again; nothing is sent on it.

    `authority` is the CA in PEM, None for the system's own; `name` what the certificate must bear, else the host.
    A certificate that cannot be verified is fetched once more without verification, only to read its dates.
    """
    parts = urlsplit(url)
    try:
        peer = (parts.hostname or "", parts.port or 443)
    except ValueError:
        return Handshake(False, False, None, "its port is not a number from 0 to 65535")
    name = name or peer[0]
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    try:
        try:
            shown = _peer_certificate(peer, name, ssl.create_default_context(cadata=authority), timeout)
            return Handshake(True, True, not_after(shown))
        except ssl.SSLCertVerificationError as error:
            shown = _peer_certificate(peer, name, unverified, timeout)
            return Handshake(True, False, not_after(shown), error.verify_message)
    except ssl.SSLError as error:
        return Handshake(True, False, None, f"no TLS there ({error.reason})")
    except TimeoutError:
        return Handshake(False, False, None, f"no connection within {timeout:g} s")
    except OSError as error:
        return Handshake(False, False, None, error.strerror or type(error).__name__)


def _peer_certificate(peer: tuple[str, int], name: str, context: ssl.SSLContext, timeout: float) -> str:
    """The certificate that the server at `peer` (host, port) shows, PEM."""
    with (
        socket.create_connection(peer, timeout=timeout) as plain,
        context.wrap_socket(plain, server_hostname=name) as secured,
    ):
        shown = secured.getpeercert(binary_form=True)
    return ssl.DER_cert_to_PEM_cert(shown or b"")
