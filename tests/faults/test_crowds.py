"""More asks than the service can take, or asks badly: it answers whom it can in time, turns the others
away at once, loses nothing, and is itself again as soon as they are gone.

That it is in time is held against the clock; how fast it is beside a crowd that uses the same machine
is said in figures only.
"""

import asyncio
import contextlib
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import asyncpg
import psutil
import pytest

from tests.faults.conftest import Figures, see_that_all_is_there
from tests.faults.crowd import Crowd, request
from tests.faults.service import Service
from tests.faults.writers import ACTION, POLICY, Writers
from tests.torture import LONG, at_most

DEADLINE_SECONDS = 2.0
SLACK_SECONDS = 0.5
LIMIT_SECONDS = 5.0
"""How long headers, and then a body, may take to come."""
SECONDS = 60.0 if LONG else 3.0
SLOW = 300
MEGABYTE = 1024 * 1024

pytestmark = [pytest.mark.long, pytest.mark.timeout(at_most(120))]

_numbers = itertools.count()


def determination(model: str) -> bytes:
    """One question, under a key of its own."""
    body = json.dumps({"model": model, "action": ACTION, "policy": POLICY}).encode()
    return request("POST", "/v1/determinations", body, key=f"crowd-{next(_numbers)}")


class Watched:
    """What `/healthz` and `/readyz` answer while the block lasts, and how long that takes; and how much
    memory the service holds.
    """

    def __init__(self, service: Service) -> None:
        self.statuses: set[int] = set()
        self.seconds: list[float] = []
        self.megabytes: list[float] = []
        self._service = service
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watched")

    def __enter__(self) -> "Watched":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        process = psutil.Process(self._service.pid)
        while not self._stop.wait(0.1):
            for path in ("/healthz", "/readyz"):
                begun = time.monotonic()
                self.statuses.add(self._service.status(path))
                self.seconds.append(time.monotonic() - begun)
            self.megabytes.append(process.memory_info().rss / MEGABYTE)


def rate(writers: Writers, seconds: float) -> float:
    """How much is acknowledged in a second, for so long from now on."""
    before = len(writers.acknowledged())
    time.sleep(seconds)
    return max(1, len(writers.acknowledged()) - before) / seconds


def test_more_than_it_can_take_is_shed_and_got_over(service: Service, figures: Figures) -> None:
    """Hundreds ask at once and never wait: most are told to come back, in time; `/healthz` and
    `/readyz` answer, and whoever is not shed is recorded.
    """
    assert service.register("crowd@1")[0] == 201
    crowd = Crowd(service.port, 600, lambda: determination("crowd@1"))
    with Writers(service.port, count=4) as writers:
        writers.wait_for(20)
        alone = rate(writers, 1.5)
        already = len(service.said())
        with Watched(service) as watched, crowd.asking():
            time.sleep(SECONDS)
        again = writers.wait_for(1)
        after = rate(writers, 1.5)
    asked = sum(crowd.statuses.values())
    taken = crowd.statuses[201]
    # Held against the ledger as what the writers were told is.
    writers.writes += crowd.recorded
    # By the service's own clock: beside its crowd the test's is slow too.
    lines = map(json.loads, service.said()[already:].splitlines())
    slowest = max(line["seconds"] for line in lines if line["event"] == "request")
    what = (
        f"{asked / SECONDS:.0f} asked a second, {taken / SECONDS:.0f} recorded, "
        f"{crowd.statuses[503]} shed, slowest answer {slowest:.2f} s, health in "
        f"{max(watched.seconds):.2f} s, {max(watched.megabytes):.0f} MB; honest ones "
        f"{alone:.0f} a second before and {after:.0f} after"
    )
    see_that_all_is_there(service, writers, figures, what, [again])
    assert crowd.statuses.keys() <= {201, 503}
    assert crowd.statuses[503] > taken > 0, "there was too little to be shed"
    assert (crowd.hopeless, crowd.unanswered) == (0, 0)
    assert watched.statuses == {200}
    assert slowest < DEADLINE_SECONDS + 4 * SLACK_SECONDS
    assert again < 5


@contextmanager
def shadows_locked(service: Service) -> Iterator[None]:
    """Whoever reads what shadows there are waits, and has a connection while it does."""
    opened, done = threading.Event(), threading.Event()

    async def lock() -> None:
        connection = await asyncpg.connect(str(service.address()))
        async with connection.transaction():
            await connection.execute("LOCK TABLE policy_shadow IN ACCESS EXCLUSIVE MODE")
            opened.set()
            await asyncio.to_thread(done.wait)
        await connection.close()

    thread = threading.Thread(target=lambda: asyncio.run(lock()))
    thread.start()
    assert opened.wait(10)
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_slow_readers_do_not_hold_up_who_records(service: Service, figures: Figures) -> None:
    """Two hundred wait for what is locked, and have all connections that readers may have. Whoever
    decides and records has others.
    """
    path = f"/v1/policies/{POLICY}/versions/2.2/shadow"
    readers = Crowd(service.port, 200, lambda: request("GET", path), 2)
    with Writers(service.port, count=8) as writers:
        writers.wait_for(40)
        alone = rate(writers, 1.5)
        before = len(writers.refusals)
        with Watched(service) as watched, shadows_locked(service), readers.asking():
            time.sleep(0.5)
            beside = rate(writers, SECONDS / 2)
            refused = len(writers.refusals) - before
        again = writers.wait_for(1)
    what = (
        f"{sum(readers.statuses.values())} slow reads, {readers.statuses[503]} of them 503; "
        f"{beside:.0f} recorded a second beside {alone:.0f} alone ({beside / alone:.0%}), "
        f"{refused} of them refused, slowest answer {max(writers.seconds):.2f} s"
    )
    see_that_all_is_there(service, writers, figures, what, [again])
    assert readers.statuses.keys() == {503}, "they were not slow"
    assert readers.hopeless == 0
    # On a machine that is busy enough one or the other is. On shared connections all of them were.
    assert refused < beside * SECONDS / 4
    assert watched.statuses == {200}
    assert max(writers.seconds) < DEADLINE_SECONDS + SLACK_SECONDS


def test_who_sends_poison_harms_himself_only(service: Service, figures: Figures) -> None:
    """Requests that are refused, or would break a batch, again and again beside honest ones."""
    name = b'{"model":"poison@1","developer":"anthropic","registry_uri":"x://%d"}'
    poison: Iterator[Callable[[], bytes]] = itertools.cycle(
        [
            lambda: request("POST", "/v1/models", name % next(_numbers), key="k" * 8000),
            lambda: request("POST", "/v1/models", name % next(_numbers), key=key()),
            lambda: request("POST", "/v1/models", b'{"model":' * 5000, key=key()),
            lambda: request("POST", "/v1/models", b'{"model":"\\ud800@1"}', key=key()),
            lambda: request("POST", "/v1/determinations", b"\xff" * 100_000, key=key()),
            lambda: request("POST", "/v1/models", name.replace(b"%d", b"\\u0000"), key=key()),
            lambda: request("POST", f"/v1/policies/{POLICY}/versions", b"&a " * 9000, type_="yaml"),
        ]
    )
    crowd = Crowd(service.port, 4, lambda: next(poison)(), 0.05)
    with Writers(service.port, count=8) as writers:
        writers.wait_for(40)
        alone = rate(writers, 1.5)
        with crowd.asking():
            beside = rate(writers, SECONDS / 2)
        again = writers.wait_for(1)
    what = (
        f"{sum(crowd.statuses.values())} poisoned ({dict(sorted(crowd.statuses.items()))}); "
        f"{beside:.0f} recorded a second beside {alone:.0f} alone ({beside / alone:.0%}), "
        f"slowest answer {max(writers.seconds):.2f} s"
    )
    see_that_all_is_there(service, writers, figures, what, [again])
    assert not any(status >= 500 for status in crowd.statuses), crowd.statuses
    assert {422, 409} <= crowd.statuses.keys()
    assert crowd.unanswered == 0
    assert {refusal.status for refusal in writers.refusals} <= {409}


def key() -> str:
    return f"key-{next(_numbers)}"


def test_slow_callers_are_sent_away_and_cost_little(service: Service, figures: Figures) -> None:
    """Hundreds that never finish their headers, or their body, or say nothing at all: each is closed in
    its time, and whoever asks honestly meanwhile is answered.
    """
    half_headers = b"POST /v1/gate HTTP/1.1\r\nHost: aslgate\r\nX-Slow: "
    half_body = request("POST", "/v1/gate", b"{" + b" " * 99)[:-50]
    begun = time.monotonic()
    before = psutil.Process(service.pid).memory_info().rss / MEGABYTE
    callers = [
        (sent, socket.create_connection(("127.0.0.1", service.port), timeout=20))
        for sent in (half_headers, half_body, b"")
        for _ in range(SLOW)
    ]
    for sent, caller in callers:
        caller.sendall(sent)
    closed: dict[bytes, float] = {}
    with Watched(service) as watched, Writers(service.port, count=4) as writers:
        for sent, caller in callers:
            with caller, contextlib.suppress(ConnectionResetError):
                while caller.recv(65536):
                    pass
            closed[sent] = time.monotonic() - begun
        again = writers.wait_for(1)
    what = (
        f"{len(callers)} slow connections, closed after {closed[half_headers]:.1f}, "
        f"{closed[half_body]:.1f} and {closed[b'']:.1f} s; honest ones in {max(writers.seconds):.2f} s "
        f"at most, {before:.0f} MB before and {max(watched.megabytes):.0f} MB at most"
    )
    see_that_all_is_there(service, writers, figures, what, [again])
    assert watched.statuses == {200}
    assert max(closed.values()) < LIMIT_SECONDS + 2
    assert max(writers.seconds) < DEADLINE_SECONDS + SLACK_SECONDS
    assert {refusal.status for refusal in writers.refusals} <= {409}
    assert max(watched.megabytes) < before + 40


@pytest.mark.parametrize("announced", [True, False])
def test_a_huge_body_is_refused_before_it_is_read(
    service: Service, figures: Figures, announced: bool
) -> None:
    """200 MB: where that is said before, none of it is read; where not, no more than the limit and what
    was on the way.
    """
    size = 200 * MEGABYTE
    how = f"Content-Length: {size}" if announced else "Transfer-Encoding: chunked"
    head = f"POST /v1/gate HTTP/1.1\r\nHost: aslgate\r\n{how}\r\n\r\n".encode()
    block = bytes(64 * 1024)
    part = block if announced else b"10000\r\n" + block + b"\r\n"
    process = psutil.Process(service.pid)
    before, sent = process.memory_info().rss, 0
    begun = time.monotonic()
    with Watched(service) as watched:
        with socket.create_connection(("127.0.0.1", service.port), timeout=20) as caller:
            caller.sendall(head)
            with contextlib.suppress(ConnectionError):
                while sent < size:
                    caller.sendall(part)
                    sent += len(block)
        took = time.monotonic() - begun
        time.sleep(0.3)
    more = max(watched.megabytes) - before / MEGABYTE
    figures(f"{sent / MEGABYTE:.1f} of 200 MB sent in {took:.2f} s, {more:.1f} MB of memory")
    assert sent < 20 * MEGABYTE
    assert more < 20
    assert took < LIMIT_SECONDS
