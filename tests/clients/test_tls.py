"""What a server shows in a TLS handshake, seen on real sockets."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
import trustme

from runbook.clients import tls

END = datetime(2031, 5, 6, tzinfo=UTC)
Listen = Callable[[ssl.SSLContext | None], str]


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Start listeners that shake hands and hang up; without a context they speak no TLS. All are closed afterwards."""
    listeners = []

    def start(context: ssl.SSLContext | None) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve() -> None:
            while True:
                try:
                    plain, _ = listener.accept()
                except OSError:  # closed: the test is over
                    return
                with plain:
                    try:
                        if context:
                            context.wrap_socket(plain, server_side=True).close()
                        else:
                            plain.sendall(b"SSH-2.0-no-tls-here\r\n")
                    except OSError:  # a client that does not trust us hangs up
                        continue

        threading.Thread(target=serve, daemon=True).start()
        return f"https://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def context_of(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, not_after=datetime(2031, 5, 6)).configure_cert(context)
    return context


def pem(authority: trustme.CA) -> str:
    return authority.cert_pem.bytes().decode()


def test_a_good_certificate_is_verified_and_dated(listen: Listen) -> None:
    """The right CA and the right address: verified, with the day on which the certificate ends."""
    authority = trustme.CA()
    url = listen(context_of(authority, "127.0.0.1"))
    assert tls.shake_hands(url, pem(authority), 5) == tls.Handshake(True, True, END)


def test_another_ca_is_seen_but_not_verified(listen: Listen) -> None:
    """A certificate of another CA is reported as unverified, with its date and OpenSSL's reason."""
    seen = tls.shake_hands(listen(context_of(trustme.CA(), "127.0.0.1")), pem(trustme.CA()), 5)
    assert (seen.reached, seen.verified, seen.not_after) == (True, False, END)
    assert "unable to get local issuer certificate" in seen.problem


def test_a_certificate_for_another_name_passes_under_that_name(listen: Listen) -> None:
    """Where the kubeconfig names the server (tls-server-name), the certificate is checked against that name."""
    authority = trustme.CA()
    url = listen(context_of(authority, "kubernetes.example.com"))
    assert not tls.shake_hands(url, pem(authority), 5).verified
    assert tls.shake_hands(url, pem(authority), 5, name="kubernetes.example.com").verified


def test_no_tls_is_said(listen: Listen) -> None:
    """Something that answers without TLS is reached, and that is all."""
    seen = tls.shake_hands(listen(None), None, 5)
    assert seen.reached and not seen.verified and seen.not_after is None
    assert "no TLS there" in seen.problem


@pytest.mark.parametrize(
    ("url", "problem"), [("https://127.0.0.1:1", "refused"), ("https://127.0.0.1:port", "not a number")]
)
def test_what_cannot_be_reached_says_why(url: str, problem: str) -> None:
    """Refused and mistyped addresses are told apart."""
    seen = tls.shake_hands(url, None, 5)
    assert not seen.reached
    assert problem in seen.problem


def test_silence_is_waited_for_as_long_as_told() -> None:
    """A server that takes the connection and says nothing counts as out of reach after the timeout."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        seen = tls.shake_hands(f"https://127.0.0.1:{silent.getsockname()[1]}", None, 0.2)
    assert seen == tls.Handshake(False, False, None, "no connection within 0.2 s")


def test_text_without_a_certificate_is_refused() -> None:
    """not_after takes a certificate and nothing else."""
    with pytest.raises(ValueError, match="PEM"):
        tls.not_after("no certificate")
