"""Raw requests to the real server: each has one answer or is refused, and never two (I7).

Two readers of one stream of bytes who disagree about where a request ends let one caller speak in
another's name. So whatever leaves room for that is refused, and the connection closed.
"""

import contextlib
import socket
from dataclasses import dataclass

import httpx
import pytest

from tests.hostile.conftest import Live
from tests.http.conftest import BOOTSTRAP_KEY
from tests.http.published import OPUS

KEY = f"Authorization: Bearer {BOOTSTRAP_KEY}"
MODEL = b'{"model":"new@1","developer":"lab"}'
SECOND = b"GET /v1/models/second@1 HTTP/1.1\r\nHost: x\r\n\r\n"
"""What a smuggler hides in what another reader takes for a body."""


def get(*headers: str, target: str = "/healthz", version: str = "HTTP/1.1") -> bytes:
    lines = [f"GET {target} {version}", "Host: x", *headers]
    return "\r\n".join((*lines, "", "")).encode("latin-1")


def post(*headers: str, body: bytes = MODEL) -> bytes:
    lines = ["POST /v1/models HTTP/1.1", "Host: x", KEY, "Content-Type: application/json", *headers]
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body


def length(body: bytes) -> str:
    return f"Content-Length: {len(body)}"


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


@dataclass(frozen=True)
class Raw:
    """What is sent, and the statuses that it may be answered with, `None`: closed without a word."""

    what: str
    sent: bytes
    statuses: frozenset[int | None]


def refused(what: str, sent: bytes, *others: int | None) -> Raw:
    return Raw(what, sent, frozenset({400, *others}))


def answered(what: str, sent: bytes, *statuses: int) -> Raw:
    return Raw(what, sent, frozenset(statuses))


CORPUS = [
    answered("an honest GET", get(), 200),
    answered("an honest POST", post(length(MODEL)), 201),
    refused("two lengths", post(length(MODEL), "Content-Length: 0")),
    refused("two lengths that agree", post(length(MODEL), length(MODEL))),
    refused("two lengths in one header", post(f"{length(MODEL)}, {len(MODEL)}")),
    refused("a length with a sign", post("Content-Length: +5", body=b"12345")),
    refused("a negative length", post("Content-Length: -1")),
    refused("a length in hexadecimal", post("Content-Length: 0x5", body=b"12345")),
    refused("a length of other digits", post("Content-Length: \xb25", body=b"12345")),
    refused("an endless length", post(f"Content-Length: {'9' * 30}"), 413),
    refused(
        "a length and chunks",
        post("Content-Length: 4", "Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SECOND),
    ),
    refused(
        "chunks and a length",
        post("Transfer-Encoding: chunked", "Content-Length: 4", body=b"0\r\n\r\n" + SECOND),
    ),
    refused(
        "chunks, with a space before the colon",
        post("Transfer-Encoding : chunked", body=chunked(MODEL)),
    ),
    refused("chunks twice", post("Transfer-Encoding: chunked, chunked", body=chunked(MODEL)), 201),
    refused(
        "chunks, then another coding",
        post("Transfer-Encoding: chunked, identity", body=chunked(MODEL)),
    ),
    refused("chunks by another name", post("Transfer-Encoding: xchunked", body=chunked(MODEL))),
    refused("chunks, folded", post("Transfer-Encoding:\r\n chunked", body=chunked(MODEL)), 201),
    refused(
        "chunks after a vertical tab", post("Transfer-Encoding: \x0bchunked", body=chunked(MODEL))
    ),
    refused(
        "chunks in HTTP/1.0",
        post("Transfer-Encoding: chunked", body=chunked(MODEL)).replace(
            b"HTTP/1.1", b"HTTP/1.0", 1
        ),
        201,
        422,
    ),
    refused("a chunk of no size", post("Transfer-Encoding: chunked", body=b"x\r\n\r\n")),
    refused("a chunk of a negative size", post("Transfer-Encoding: chunked", body=b"-1\r\n\r\n")),
    refused(
        "a chunk larger than any", post("Transfer-Encoding: chunked", body=b"f" * 20 + b"\r\n")
    ),
    refused("a chunk with a bare LF", post("Transfer-Encoding: chunked", body=b"1\n{\n0\n\n")),
    refused(
        "a chunk longer than it says",
        post("Transfer-Encoding: chunked", body=b"1\r\n{}\r\n0\r\n\r\n"),
    ),
    refused("a bare CR", get("X: a\rY: b")),
    refused("a NUL in a header", get("X: a\x00b")),
    refused("a header without a colon", get("Xa")),
    refused("a header without a name", get(": a")),
    refused("a space in a header's name", get("X y: a")),
    refused("a header that is folded", get("X: a\r\n b"), 200),
    refused(
        "no header, but a space first", b"GET /healthz HTTP/1.1\r\n X: a\r\nHost: x\r\n\r\n", 200
    ),
    refused("a method that is none", b"G\x00T /healthz HTTP/1.1\r\nHost: x\r\n\r\n"),
    refused("a method in lower case", b"get /healthz HTTP/1.1\r\nHost: x\r\n\r\n"),
    refused("a version that is none", get(version="HTTP/9.9")),
    refused("no version", b"GET /healthz\r\nHost: x\r\n\r\n", 200),
    refused("HTTP/2, as if agreed on", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    refused("another protocol", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 32),
    refused("a control character in the target", get(target="/healthz\x01")),
    refused("a space in the target", get(target="/healthz /x")),
    answered("an absolute target", get(target="http://elsewhere.test/healthz"), 200, 400, 404),
    answered("a tunnel", b"CONNECT elsewhere.test:443 HTTP/1.1\r\nHost: x\r\n\r\n", 400, 404, 405),
    answered("an echo", b"TRACE /healthz HTTP/1.1\r\nHost: x\r\nX: secret\r\n\r\n", 400, 405),
    answered("no host", b"GET /healthz HTTP/1.1\r\n\r\n", 200, 400),
    answered("two hosts", get("Host: y"), 200, 400),
    answered("a host that is none", get().replace(b"Host: x", b"Host: [/?#"), 200, 400),
    answered("a body that a GET does not have", get("Content-Length: 5") + b"12345", 200, 400),
    answered("an expectation", post(length(MODEL), "Expect: 100-continue"), 201),
    answered("an upgrade", get("Connection: Upgrade", "Upgrade: websocket"), 200, 400, 404, 426),
    answered("headers of 100 KiB", get(*(f"X-{i}: {'a' * 1000}" for i in range(100))), 200, 431),
    answered("a header of 100 KiB", get(f"X: {'a' * 102_400}"), 200, 431),
    answered("2,000 headers", get(*(f"X-{i}: a" for i in range(2000))), 200, 400, 431),
    answered("a target of 100 KiB", get(target="/" + "a" * 102_400), 400, 404, 414, 431),
]


def say(live: Live, sent: bytes) -> bytes:
    """All that is answered until the server closes, or has nothing more to say."""
    received = b""
    with (
        socket.create_connection(live.address, timeout=5) as caller,
        contextlib.suppress(ConnectionError, TimeoutError),
    ):
        caller.sendall(sent)
        while part := caller.recv(65536):
            received += part
            caller.settimeout(0.2)
    return received


def answers(received: bytes) -> list[int]:
    """The statuses of the answers that there are in what was received, each read to its end."""
    found = []
    while received:
        head, parted, received = received.partition(b"\r\n\r\n")
        assert parted, head
        assert head.startswith(b"HTTP/1.1 "), head
        status = int(head.split()[1])
        if status == 100:
            continue
        lengths = [
            int(line.partition(b":")[2])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        ]
        if lengths:
            received = received[lengths[0] :]
        else:
            assert b"connection: close" in head.lower(), head
            received = b""
        found.append(status)
    return found


@pytest.mark.parametrize("raw", CORPUS, ids=lambda raw: raw.what)
def test_a_raw_request_has_one_answer_at_most(live: Live, raw: Raw) -> None:
    found = answers(say(live, raw.sent))

    assert len(found) <= 1
    assert (found[0] if found else None) in raw.statuses


@pytest.mark.parametrize(
    "raw",
    [raw for raw in CORPUS if raw.statuses == {400}],
    ids=lambda raw: raw.what,
)
def test_after_what_is_refused_nothing_on_that_connection_is_believed(live: Live, raw: Raw) -> None:
    """What follows could be the rest of what was refused."""
    found = answers(say(live, raw.sent + SECOND))

    assert found == [400]


def test_two_requests_in_one_piece_are_two(live: Live) -> None:
    """The count above can be two: an honest caller who does not wait gets both answers."""
    assert answers(say(live, post(length(MODEL)) + get())) == [201, 200]


def test_what_is_hidden_in_a_body_is_not_a_request(live: Live) -> None:
    sent = post(length(SECOND), body=SECOND)

    assert answers(say(live, sent)) == [400]


@pytest.mark.parametrize("tried", ["a\r\nSet-Cookie: b=1", "a\nb", "\x1b[31m", "\u202e", "a" * 65])
def test_nothing_that_a_caller_says_becomes_a_header_of_the_answer(live: Live, tried: str) -> None:
    """Neither an id of a request nor a name that stands in `Location`."""
    head = [b"GET /v1/models/%s HTTP/1.1" % OPUS.encode(), b"Host: x", KEY.encode()]
    said = b"X-Request-Id: " + tried.encode()

    received = say(live, b"\r\n".join((*head, said, b"", b"")))

    lines = received.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
    assert not any(line.startswith(b"set-cookie") for line in lines)
    assert not any(tried.encode().lower() in line for line in lines)


def test_where_something_is_recorded_is_said_in_plain_words(live: Live) -> None:
    """No name that could break a header is ever recorded, so none stands in `Location`."""
    with httpx.Client(base_url=live.url, headers={"Authorization": KEY.partition(" ")[2]}) as http:
        for name in ("a\r\nb@1", "a\u202eb@1", "a b@1", "a%0d%0ab@1", "//evil.test@1", "../x@1"):
            answer = http.post("/v1/models", json={"model": name, "developer": "lab"})
            assert answer.status_code in (400, 422), name
        made = http.post("/v1/models", json={"model": "plain/name@1", "developer": "lab"})

    assert made.headers["Location"] == "/v1/models/plain/name@1"


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "PUT", "PATCH", "DELETE", "PURGE"])
@pytest.mark.parametrize("path", ["/healthz", f"/v1/models/{OPUS}", "/v1/determinations"])
def test_a_method_that_there_is_not_is_refused(live: Live, method: str, path: str) -> None:
    """TRACE too, which would show a caller's key to whoever can make a browser ask."""
    with httpx.Client(base_url=live.url) as http:
        answer = http.request(method, path, headers={"Authorization": KEY.partition(" ")[2]})

    assert answer.status_code in (400, 405)
    assert BOOTSTRAP_KEY not in answer.text


@pytest.mark.parametrize(
    "accept",
    [b"", b"*/*", b"text/html", b"application/xml", b"a/b;q=x", b",,,", b"\xff", b"x" * 9000],
)
def test_what_a_caller_would_like_to_be_told_in_changes_nothing(live: Live, accept: bytes) -> None:
    """A client that asks for HTML is still answered as it is documented."""
    with httpx.Client(base_url=live.url) as http:
        headers = [(b"Authorization", KEY.partition(" ")[2].encode()), (b"Accept", accept)]
        answer = http.get(f"/v1/models/{OPUS}", headers=headers)

    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
