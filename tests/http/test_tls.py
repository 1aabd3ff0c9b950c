"""TLS as the service ends it: who is let in, who is not, and a certificate that is renewed.

A real server behind a real port, with authorities of the tests' own.
"""

import asyncio
import datetime as dt
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
import uvicorn
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from app.cli import serving
from app.http.server import PromptHttpProtocol
from app.http.tls import ServerTls, UnusableTls
from app.settings import Settings
from tests.http.test_guard import Echo

HOST = "aslgate.aslgate.svc"


@dataclass(frozen=True)
class Files:
    """Where a server's certificate, its key, and the authority of its clients are."""

    certificate: Path
    key: Path
    client_ca: Path


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def clients() -> trustme.CA:
    """Who vouches for clients."""
    return trustme.CA()


def written(folder: Path, leaf: trustme.LeafCert, clients: trustme.CA) -> Files:
    files = Files(folder / "tls.crt", folder / "tls.key", folder / "clients.crt")
    files.certificate.write_bytes(b"".join(one.bytes() for one in leaf.cert_chain_pems))
    files.key.touch(0o600)
    files.key.write_bytes(leaf.private_key_pem.bytes())
    clients.cert_pem.write_to_path(str(files.client_ca))
    return files


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA, clients: trustme.CA) -> Files:
    return written(tmp_path, authority.issue_cert(HOST, "127.0.0.1"), clients)


class Listening:
    """A server on a port of its own, in a thread."""

    def __init__(self, tls: ServerTls) -> None:
        self.tls = tls
        self._socket = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(
            Echo(),
            http=PromptHttpProtocol,
            lifespan="off",
            log_config=None,
            ssl_context_factory=lambda _, __: tls.context,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )
        self._thread.start()
        until = time.monotonic() + 20
        while not self._server.started and time.monotonic() < until:
            time.sleep(0.005)
        assert self._server.started

    @property
    def port(self) -> int:
        port: int = self._socket.getsockname()[1]
        return port

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)
        self._socket.close()

    def ask(self, context: ssl.SSLContext) -> int:
        url = f"https://127.0.0.1:{self.port}/"
        with httpx.Client(verify=context, timeout=5) as client:
            return client.get(url).status_code

    def shown(self, context: ssl.SSLContext) -> Any:
        """The serial number of the certificate that a new connection is shown."""
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname=HOST) as secure,
        ):
            said = secure.getpeercert()
            assert said is not None
            return said["serialNumber"]


@pytest.fixture
def mutual(files: Files) -> Iterator[Listening]:
    """A server to which clients must show a certificate."""
    server = Listening(ServerTls(files.certificate, files.key, files.client_ca))
    yield server
    server.close()


@pytest.fixture
def listening(files: Files) -> Iterator[Listening]:
    server = Listening(ServerTls(files.certificate, files.key))
    yield server
    server.close()


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_a_client_with_a_certificate_of_its_authority_is_let_in_and_no_other(
    mutual: Listening, authority: trustme.CA, clients: trustme.CA
) -> None:
    own, foreign, none = trusting(authority), trusting(authority), trusting(authority)
    clients.issue_cert("client.example").configure_cert(own)
    trustme.CA().issue_cert("client.example").configure_cert(foreign)

    assert mutual.ask(own) == 200
    for context in (foreign, none):
        with pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)):
            mutual.ask(context)


def test_an_expired_client_certificate_opens_nothing(
    mutual: Listening, authority: trustme.CA, clients: trustme.CA
) -> None:
    context = trusting(authority)
    past = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    clients.issue_cert("client.example", not_after=past).configure_cert(context)

    with pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)):
        mutual.ask(context)


def test_plain_http_is_not_spoken(listening: Listening) -> None:
    with pytest.raises(httpx.TransportError), httpx.Client(timeout=5) as client:
        client.get(f"http://127.0.0.1:{listening.port}/")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("version", "spoken"),
    [
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
)
def test_nothing_older_than_tls_1_2_is_spoken(
    listening: Listening, authority: trustme.CA, version: ssl.TLSVersion, spoken: bool
) -> None:
    context = trusting(authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    if spoken:
        assert listening.ask(context) == 200
        return
    with pytest.raises(httpx.ConnectError):
        listening.ask(context)


def test_a_renewed_certificate_is_shown_without_a_restart(
    listening: Listening, files: Files, authority: trustme.CA, clients: trustme.CA
) -> None:
    """A half-written one is not taken up, and takes nothing away."""
    context = trusting(authority)
    first = listening.shown(context)
    assert not listening.tls.renew()
    leaf = authority.issue_cert(HOST, "127.0.0.1")
    files.certificate.write_bytes(b"".join(one.bytes() for one in leaf.cert_chain_pems))
    assert not listening.tls.renew(), "its key is still to come"
    assert listening.shown(context) == first

    written(files.key.parent, leaf, clients)
    assert listening.tls.renew()
    assert listening.shown(context) != first
    files.key.unlink()
    assert not listening.tls.renew()
    assert listening.ask(context) == 200


async def test_it_is_looked_for_a_renewed_one_all_the_time(
    files: Files,
    authority: trustme.CA,
    clients: trustme.CA,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("app.http.tls.LOOK_SECONDS", 0.01)
    tls = ServerTls(files.certificate, files.key)
    looking = asyncio.create_task(tls.keep_fresh())
    written(files.key.parent, authority.issue_cert(HOST), clients)
    with caplog.at_level(logging.INFO, "aslgate.tls"):
        while "a renewed certificate was taken up" not in caplog.text:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    looking.cancel()


def test_what_cannot_be_used_is_said_at_the_start(
    files: Files, authority: trustme.CA, clients: trustme.CA, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    others = written(other, authority.issue_cert(HOST), clients)
    encrypted = other / "encrypted.key"
    encrypted.touch(0o600)
    key = load_pem_private_key(files.key.read_bytes(), None)
    encrypted.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )
    empty = other / "empty.crt"
    empty.touch()

    for certificate, key_file, client_ca, why in (
        (files.certificate, others.key, None, "key values mismatch"),
        (files.certificate, encrypted, None, "the key is encrypted"),
        (empty, files.key, None, f"`{empty}` with"),
        (files.certificate, files.key, empty, f"`{empty}`: no certificate or crl found"),
    ):
        with pytest.raises(UnusableTls) as unusable:
            ServerTls(certificate, key_file, client_ca)
        assert why in str(unusable.value)

    files.key.chmod(0o644)
    with pytest.raises(UnusableTls, match="others may read"):
        ServerTls(files.certificate, files.key)


@pytest.mark.parametrize("given", ["tls_certificate_file", "tls_key_file", "tls_client_ca_file"])
def test_half_of_it_is_not_taken_for_none(given: str, files: Files) -> None:
    """Whoever set a client's authority and forgot the rest would be served without any."""
    settings = Settings().model_copy(update={given: files.certificate})

    with pytest.raises(UnusableTls, match="together"):
        serving._tls(settings)
