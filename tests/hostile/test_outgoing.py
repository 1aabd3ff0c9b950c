"""What the service asks of others, and what it never asks: addresses come from settings, and what stands
in a record is kept and not visited.
"""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest

from app.errors import Unavailable
from app.http.permissions import ROLES
from app.integrations.issuers import MOST_SET_BYTES, InvalidToken, UnusableIssuers, read_issuers
from tests.hostile.conftest import Live
from tests.http.conftest import BOOTSTRAP_KEY
from tests.http.published import asked
from tests.http.test_bad_input import ASSESSMENT, MODEL, SAFEGUARD
from tests.http.test_tokens import KeyServer, claims, signed
from tests.http.test_tokens import settings as issuers_file


def test_no_address_in_a_record_is_visited(live: Live) -> None:
    """SSRF needs a request that a caller can aim. There is none: an address in evidence is text."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.5)
        port = listener.getsockname()[1]
        aimed = f"http://127.0.0.1:{port}/latest/meta-data"
        sources = [{"title": "t", "uri": aimed, "sha256": "0" * 64}]
        headers = {"Authorization": f"Bearer {BOOTSTRAP_KEY}"}
        with httpx.Client(base_url=live.url, headers=headers, timeout=30) as http:
            for path, body in (
                ("/v1/models", MODEL | {"registry_uri": aimed}),
                ("/v1/assessments", ASSESSMENT | {"findings": [], "sources": sources}),
                ("/v1/safeguards", SAFEGUARD | {"sources": sources}),
            ):
                made = http.post(path, json=body)
                assert made.status_code == 201, made.text
            answer = http.post("/v1/determinations", json=asked()).json()
            assert aimed in http.get("/v1/models/new@1").text
            http.get(f"/v1/determinations/{answer['id']}/explanation")

        with pytest.raises(TimeoutError):
            listener.accept()


@contextmanager
def answering(status: int, headers: dict[str, str], body: bytes) -> Iterator[str]:
    """The address of a server that has one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/keys"
    finally:
        server.shutdown()
        server.server_close()


def is_believed(url: str) -> bool:
    issuers = read_issuers(issuers_file(url).encode(), ROLES)
    try:
        return asyncio.run(issuers.bearer(signed(claims()))) is not None
    except (InvalidToken, Unavailable):
        return False


def test_keys_are_taken_from_where_the_settings_say_and_nowhere_else() -> None:
    """A redirect could lead to anybody's keys; a set without end, or of something else, is none."""
    keys = KeyServer()
    try:
        assert is_believed(keys.url)
        with answering(302, {"Location": keys.url}, b"") as url:
            assert not is_believed(url)
        assert keys.asked == 1
    finally:
        keys.close()
    for body in (
        b" " * (MOST_SET_BYTES + 1),
        b"<html>",
        b'{"keys": {}}',
        b'{"keys": [1, null]}',
        b"",
    ):
        with answering(200, {}, body) as url:
            assert not is_believed(url)


@pytest.mark.parametrize(
    "address",
    [
        *("http://id.lab.example/keys", "ftp://id.lab.example/keys", "file:///etc/passwd", "keys"),
        *(
            "http://169.254.169.254/keys",
            "http://2130706433/keys",
            "http://[::ffff:127.0.0.1]/keys",
        ),
        *("http://localhost.evil.example/keys", "http://127.0.0.1@evil.example/keys", "//x/keys"),
        *("http://0x7f.1/keys", "http://\uff4c\uff4fcalhost/keys"),
    ],
)
def test_keys_come_over_tls_or_from_this_machine(address: str) -> None:
    with pytest.raises(UnusableIssuers):
        read_issuers(issuers_file(address).encode(), ROLES)
