"""At the door: who is let in, who waits, who is turned away, and what is said when it is to close."""

import asyncio
import time

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from app.errors import Refusal
from app.http import door as door_module
from app.http.door import Door, Doorkeeper
from app.http.guard import Answer
from app.storage.database import REQUEST, Request, seconds_left
from tests.http.conftest import Service
from tests.http.published import asked


class Slow:
    """An application that answers when it is told to, with how long the request has taken."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.requests: list[Request | None] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.requests.append(REQUEST.get())
        if not scope["path"].endswith("z"):
            await self.may_answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"served"})


def refused(refusal: Refusal, scope: Scope) -> Answer:
    del scope
    return 503, [(b"retry-after", b"1")], str(refusal).encode()


class House:
    """The application behind a door for two."""

    def __init__(self) -> None:
        self.app, self.door = Slow(), Door(2)
        keeper = Doorkeeper(self.app, door=self.door, on_refusal=refused)
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(keeper), base_url="http://door.test"
        )

    async def inside(self, count: int) -> list[asyncio.Task[httpx.Response]]:
        """So many who came before."""
        tasks = [asyncio.create_task(self.client.get("/v1/x")) for _ in range(count)]
        while len(self.app.requests) + self.door.waiting < count:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        return tasks


@pytest.fixture
def house() -> House:
    return House()


async def test_who_waits_is_let_in_when_another_goes(house: House) -> None:
    first = await house.inside(5)
    assert (len(house.app.requests), house.door.waiting) == (2, 3)
    house.app.may_answer.set()
    assert {answer.status_code for answer in await asyncio.gather(*first)} == {200}
    assert house.door.waiting == 0


async def test_who_has_waited_too_long_is_turned_away(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_module, "WAIT_SECONDS", 0.05)
    first = await house.inside(2)
    answer = await house.client.get("/v1/x")
    house.app.may_answer.set()

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "connection" not in answer.headers
    assert {one.status_code for one in await asyncio.gather(*first)} == {200}
    assert (await house.client.get("/v1/x")).status_code == 200


async def test_readers_leave_room_for_who_records(house: House) -> None:
    first = await house.inside(4)
    records = asyncio.create_task(house.client.post("/v1/x"))
    while len(house.app.requests) < 3:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    house.app.may_answer.set()

    assert (await records).status_code == 200
    await asyncio.gather(*first)


async def test_where_too_many_wait_nobody_waits_with_them(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_module, "MOST_WAITING", 3)
    first = await house.inside(5)
    begun = time.monotonic()
    answer = await house.client.get("/v1/x")
    assert time.monotonic() - begun < door_module.WAIT_SECONDS / 2
    house.app.may_answer.set()

    assert (answer.status_code, answer.headers["connection"]) == (503, "close")
    assert {one.status_code for one in await asyncio.gather(*first)} == {200}


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_who_looks_after_it_is_always_let_in(house: House, path: str) -> None:
    first = await house.inside(4)
    assert (await house.client.get(path)).status_code == 200
    house.app.may_answer.set()
    await asyncio.gather(*first)


async def test_who_goes_away_leaves_his_place(house: House) -> None:
    for task in await house.inside(4):
        task.cancel()
    await asyncio.sleep(0)
    house.app.may_answer.set()
    assert (await house.client.get("/v1/x")).status_code == 200
    assert house.door.waiting == 0


async def test_each_request_has_one_time_for_all_its_waits(house: House) -> None:
    """What is over of it is left for nothing else, but for the least."""
    house.app.may_answer.set()
    await house.client.get("/v1/x")
    await house.client.post("/v1/x")
    got, posted = house.app.requests

    assert got is not None
    assert posted is not None
    assert (got.only_reads, posted.only_reads) == (True, False)
    assert seconds_left(2.0, least=0.5) == 2.0, "outside of any request"
    token = REQUEST.set(Request(time.monotonic() - 1.2, only_reads=False))
    assert 0.7 < seconds_left(2.0, least=0.5) <= 0.8
    REQUEST.reset(token)
    token = REQUEST.set(Request(time.monotonic() - 9, only_reads=False))
    assert seconds_left(2.0, least=0.5) == 0.5
    REQUEST.reset(token)


async def test_a_service_that_will_stop_says_so_and_serves_on(
    service: Service, client: httpx.AsyncClient
) -> None:
    before = await client.post("/v1/determinations", json=asked())
    service.app.state.door.closing = True
    ready = await client.get("/readyz")
    after = await client.post("/v1/determinations", json=asked())

    assert "connection" not in before.headers
    assert (ready.status_code, ready.json()["reason"]) == (503, "this server is stopping")
    assert (after.status_code, after.headers["connection"]) == (201, "close")
