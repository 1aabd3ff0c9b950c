"""Slow and large callers are sent away in time, and cost little: a real server, and raw sockets."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import uvicorn
from starlette.types import Message, Receive, Scope, Send

from app.errors import DocumentTooLarge, DocumentTooSlow, Refusal
from app.http.guard import Answer, Guard
from app.http.server import PromptHttpProtocol

PATIENCE = 0.5
"""What stands for the 5 s of the real service, in seconds."""
LIMIT = 1024 * 1024
SOON = 4.0
"""A wait that only a server without an end to its patience would outlast."""


class ImpatientProtocol(PromptHttpProtocol):
    headers_seconds = PATIENCE


def problem(refusal: Refusal, scope: Scope) -> Answer:
    status = {DocumentTooLarge: 413, DocumentTooSlow: 408}[type(refusal)]
    body = json.dumps({"status": status, "detail": str(refusal), "at": scope["path"]}).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
    ]
    return status, headers, body


class Echo:
    """An application that answers with what it was given, and remembers how often it was asked."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        self.calls += 1
        body, more = b"", True
        while more:
            message = await receive()
            assert message["type"] == "http.request"
            body += message["body"]
            more = message["more_body"]
        names = sorted(name.decode() for name, _ in scope["headers"])
        answer = json.dumps({"bytes": len(body), "headers": names}).encode()
        headers = [(b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


class Served:
    """A server on a port of its own, in a thread."""

    def __init__(self, app: Any) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(
            app, http=ImpatientProtocol, lifespan="off", log_config=None, timeout_keep_alive=30
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )

    def __enter__(self) -> "Served":
        self._thread.start()
        until = time.monotonic() + 20
        while not self._server.started and time.monotonic() < until:
            time.sleep(0.005)
        assert self._server.started
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(20)
        self._socket.close()

    def stop(self) -> None:
        """Begin to stop, as a signal does."""
        self._server.should_exit = True

    @property
    def connections(self) -> int:
        return len(self._server.server_state.connections)

    def connect(self) -> socket.socket:
        caller = socket.create_connection(self._socket.getsockname())
        caller.settimeout(SOON)
        return caller


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def served(echo: Echo) -> Iterator[Served]:
    guard = Guard(echo, max_body_bytes=LIMIT, body_seconds=PATIENCE, on_refusal=problem)
    with Served(guard) as server:
        yield server


def post(headers: str, body: bytes = b"") -> bytes:
    return f"POST /v1/x HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode() + body


def read_answer(caller: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """One answer: its status, headers and body."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = caller.recv(65536)
        assert part, f"closed after {received!r}"
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    while len(body) < int(headers["content-length"]):
        part = caller.recv(65536)
        assert part, f"closed after {received!r}"
        body += part
    return int(first.split()[1]), headers, body


def seconds_until_closed(caller: socket.socket) -> float:
    began = time.monotonic()
    with contextlib.suppress(ConnectionResetError):
        while caller.recv(65536):
            pass
    return time.monotonic() - began


def test_an_honest_request_is_served_and_the_connection_kept(served: Served) -> None:
    with served.connect() as caller:
        for size in (0, 2, LIMIT):
            caller.sendall(post(f"Content-Length: {size}\r\n", b"x" * size))
            status, _, body = read_answer(caller)

            assert status == 200
            assert json.loads(body)["bytes"] == size


def test_a_chunked_body_within_the_limit_is_served_whole(served: Served) -> None:
    with served.connect() as caller:
        caller.sendall(post("Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n"))
        time.sleep(PATIENCE / 5)
        caller.sendall(b"4\r\ndefg\r\n0\r\n\r\n")

        status, _, body = read_answer(caller)

    assert (status, json.loads(body)["bytes"]) == (200, 7)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /v1/x HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        b"GET",
        b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n",
    ],
    ids=["nothing", "half a header", "half a method", "blank lines", "one line"],
)
def test_headers_that_do_not_come_are_not_waited_for(served: Served, sent: bytes) -> None:
    with served.connect() as caller:
        caller.sendall(sent)

        assert PATIENCE / 2 < seconds_until_closed(caller) < SOON


def test_headers_that_trickle_are_not_waited_for(served: Served) -> None:
    """A byte now and then does not set the clock back."""
    with served.connect() as caller:
        caller.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - began < SOON:
                caller.sendall(b"x")
                time.sleep(PATIENCE / 10)

        assert time.monotonic() - began < SOON


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\nX-Slow: ", b"\r\n", b"P"])
def test_the_second_headers_of_a_connection_are_not_waited_for_either(
    served: Served, sent: bytes
) -> None:
    """uvicorn's keep-alive clock, 30 s here, stops at the first byte."""
    with served.connect() as caller:
        caller.sendall(post("Content-Length: 1\r\n", b"x"))
        assert read_answer(caller)[0] == 200
        caller.sendall(sent)

        assert PATIENCE / 2 < seconds_until_closed(caller) < SOON


def test_a_connection_may_rest_between_requests(served: Served) -> None:
    """Only begun headers are hurried; rest is uvicorn's `timeout_keep_alive`."""
    with served.connect() as caller:
        for _ in range(2):
            caller.sendall(post("Content-Length: 1\r\n", b"x"))
            assert read_answer(caller)[0] == 200
            time.sleep(PATIENCE * 2)


def test_who_was_let_in_is_answered_though_the_server_stops(served: Served) -> None:
    """Neither a connection that was just made nor one that is kept is closed on a request's way."""
    with served.connect() as new, served.connect() as kept, served.connect() as idle:
        kept.sendall(post("Content-Length: 1\r\n", b"x"))
        assert read_answer(kept)[0] == 200
        while served.connections < 3:
            time.sleep(0.005)
        served.stop()
        time.sleep(0.3)
        for caller in (new, kept):
            caller.sendall(post("Content-Length: 1\r\n", b"x"))
            assert read_answer(caller)[0] == 200
        assert seconds_until_closed(idle) < SOON


def test_headers_without_end_are_refused(served: Served, echo: Echo) -> None:
    with served.connect() as caller:
        caller.sendall(b"GET / HTTP/1.1\r\n")
        with contextlib.suppress(ConnectionError):
            for number in range(200):
                caller.sendall(b"X-%d: " % number + b"x" * 1024 + b"\r\n")

        first = b""
        with contextlib.suppress(ConnectionResetError):
            first = caller.recv(65536)

    assert first == b"" or first.startswith(b"HTTP/1.1 431 ")
    assert echo.calls == 0


def test_trailers_do_not_become_headers(served: Served) -> None:
    """Whoever checked the headers in front of us has not seen them."""
    with served.connect() as caller:
        caller.sendall(
            post(
                "Transfer-Encoding: chunked\r\n", b"1\r\nx\r\n0\r\nX-Forwarded-User: admin\r\n\r\n"
            )
        )

        status, _, body = read_answer(caller)

    assert status == 200
    assert json.loads(body)["headers"] == ["host", "transfer-encoding"]


def test_trailers_without_end_are_not_read(served: Served, echo: Echo) -> None:
    with served.connect() as caller:
        caller.sendall(post("Transfer-Encoding: chunked\r\n", b"1\r\nx\r\n0\r\nX-Long: "))
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 64 * LIMIT:
                sent += caller.send(b"x" * 65536)

    assert sent < 16 * LIMIT
    assert echo.calls == 0


@pytest.mark.parametrize("announced", ["Content-Length: 9", "Transfer-Encoding: chunked"])
def test_a_body_that_does_not_come_is_answered_408(
    served: Served, echo: Echo, announced: str
) -> None:
    with served.connect() as caller:
        caller.sendall(post(f"{announced}\r\n", b"1\r\n"))

        status, headers, body = read_answer(caller)
        assert seconds_until_closed(caller) < SOON

    assert status == 408
    assert headers["content-type"] == "application/problem+json"
    assert json.loads(body)["detail"] == "the body did not arrive within 0.5 s"
    assert echo.calls == 0


def test_a_body_that_trickles_is_answered_408(served: Served, echo: Echo) -> None:
    """The time is for the whole body, however often a byte of it comes."""
    with served.connect() as caller:
        caller.sendall(post("Content-Length: 1000\r\n"))
        began = time.monotonic()
        caller.settimeout(PATIENCE / 10)
        first = b""
        while not first and time.monotonic() - began < SOON:
            with contextlib.suppress(TimeoutError):
                caller.sendall(b"x")
                first = caller.recv(65536)

    assert first.startswith(b"HTTP/1.1 408 ")
    assert echo.calls == 0


def test_a_body_announced_as_too_large_is_refused_before_it_is_read(
    served: Served, echo: Echo
) -> None:
    """Asked for leave with `Expect: 100-continue`, we say no at once."""
    with served.connect() as caller:
        caller.sendall(post(f"Content-Length: {2 * LIMIT}\r\nExpect: 100-continue\r\n"))

        status, headers, body = read_answer(caller)
        assert seconds_until_closed(caller) < SOON

    assert (status, headers["connection"]) == (413, "close")
    assert json.loads(body) == {
        "status": 413,
        "detail": f"the document is larger than {LIMIT} bytes",
        "at": "/v1/x",
    }
    assert echo.calls == 0


@pytest.mark.parametrize("announced", ["9" * 19, "9" * 30, str(LIMIT + 1)])
def test_one_byte_too_many_and_any_number_of_them_are_too_large(
    served: Served, announced: str
) -> None:
    with served.connect() as caller:
        caller.sendall(post(f"Content-Length: {announced}\r\n"))

        # The parser itself refuses a length that no machine word holds.
        status = int(caller.recv(65536).split()[1])

    assert status == (400 if len(announced) > 20 else 413)


def test_two_megabytes_are_refused_with_little_read(served: Served, echo: Echo) -> None:
    body = b"x" * (2 * LIMIT)
    with served.connect() as caller:
        caller.sendall(post(f"Content-Length: {len(body)}\r\n"))
        with contextlib.suppress(ConnectionError):
            caller.sendall(body)
        with contextlib.suppress(ConnectionResetError):
            status, _, _ = read_answer(caller)
            assert status == 413

    assert echo.calls == 0


def test_a_chunked_body_is_counted(served: Served, echo: Echo) -> None:
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with served.connect() as caller:
        caller.sendall(post("Transfer-Encoding: chunked\r\n"))
        for _ in range(LIMIT // 65536):
            caller.sendall(chunk)
        caller.sendall(b"1\r\nx\r\n")

        status, headers, _ = read_answer(caller)

    assert (status, headers["connection"]) == (413, "close")
    assert echo.calls == 0


def test_a_caller_who_goes_away_amid_the_body_is_not_passed_on(served: Served, echo: Echo) -> None:
    with served.connect() as caller:
        caller.sendall(post("Content-Length: 9\r\n", b"half"))
        time.sleep(PATIENCE / 5)
    until = time.monotonic() + SOON
    while served.connections and time.monotonic() < until:
        time.sleep(0.01)

    assert served.connections == 0
    assert echo.calls == 0


def test_a_crowd_of_slow_callers_does_not_shut_out_an_honest_one(served: Served) -> None:
    slow = [served.connect() for _ in range(60)]
    try:
        for number, caller in enumerate(slow):
            caller.sendall([b"", b"POST / HT", post("Content-Length: 9\r\n", b"x")][number % 3])
        with served.connect() as honest:
            honest.sendall(post("Content-Length: 1\r\n", b"x"))
            assert read_answer(honest)[0] == 200
        until = time.monotonic() + SOON
        while served.connections and time.monotonic() < until:
            time.sleep(0.01)

        assert served.connections == 0
    finally:
        for caller in slow:
            caller.close()


# --- the middleware by itself ------------------------------------------------------------------


def reading(messages: list[Message], taken: list[Message]) -> Receive:
    async def source() -> AsyncIterator[Message]:
        for message in messages:
            taken.append(message)
            yield message

    stream = source()
    return lambda: anext(stream)


async def nothing_sent(message: Message) -> None:
    raise AssertionError(f"{message} was sent")


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
async def test_what_is_not_http_passes_untouched(kind: str) -> None:
    """The very same scope, receive and send reach the application."""
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend((scope, receive, send))

    given: tuple[Scope, Receive, Send] = ({"type": kind}, reading([], []), nothing_sent)
    await Guard(app, max_body_bytes=1, body_seconds=1, on_refusal=problem)(*given)

    assert seen == list(given)


@pytest.mark.anyio
async def test_no_more_is_taken_than_shows_that_it_is_too_much() -> None:
    parts: list[Message] = [
        {"type": "http.request", "body": b"x" * 60, "more_body": True} for _ in range(9)
    ]
    taken: list[Message] = []
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/", "http_version": "2", "headers": []}
    guard = Guard(Echo(), max_body_bytes=100, body_seconds=1, on_refusal=problem)
    await guard(scope, reading(parts, taken), send)

    assert len(taken) == 2
    assert sent[0]["status"] == 413
    # HTTP/2 knows no `Connection`.
    assert b"connection" not in dict(sent[0]["headers"])


@pytest.mark.anyio
async def test_after_the_body_the_application_hears_what_the_server_says() -> None:
    """A route that waits for its caller to go away is told so."""
    heard: list[Message] = []

    async def app(_: Scope, receive: Receive, __: Send) -> None:
        heard.extend([await receive(), await receive()])

    scope = {"type": "http", "path": "/", "headers": []}
    messages: list[Message] = [
        {"type": "http.request", "body": b"a", "more_body": True},
        {"type": "http.request"},
        {"type": "http.disconnect"},
    ]
    guard = Guard(app, max_body_bytes=1, body_seconds=1, on_refusal=problem)
    await guard(scope, reading(messages, []), nothing_sent)

    assert heard == [
        {"type": "http.request", "body": b"a", "more_body": False},
        {"type": "http.disconnect"},
    ]


@pytest.mark.anyio
async def test_a_time_out_of_the_application_is_its_own() -> None:
    """Only the body's time is ours; nothing else becomes a 408."""

    async def app(_: Scope, __: Receive, ___: Send) -> None:
        raise TimeoutError("a query took too long")

    scope = {"type": "http", "path": "/", "headers": []}
    whole: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]
    guard = Guard(app, max_body_bytes=1, body_seconds=1, on_refusal=problem)

    with pytest.raises(TimeoutError, match="a query"):
        await guard(scope, reading(whole, []), nothing_sent)
