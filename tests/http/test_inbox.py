"""The inbox: what others send is verified, kept once, answered, and worked on until that ends."""

import asyncio
import hashlib
import hmac
import json
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import httpx
import pytest
from fastapi import APIRouter, Request
from pydantic import TypeAdapter
from starlette.responses import Response

from app.assessment.assessment import ModelVersion
from app.errors import NotFound
from app.http.bindings import Calling, admits, binding_of
from app.http.callers import now
from app.http.permissions import Permission
from app.integrations.bindings import Binding, Bindings, SecretFile
from app.integrations.deliveries import (
    ForeignDocument,
    read_foreign,
    refuse_stale,
    refuse_unsigned,
)
from app.operations import receive
from app.operations.context import Context
from app.operations.receive import MOST_ATTEMPTS, Delivery, Inbox
from app.operations.record_evidence import register_model
from app.operations.turns import Turns
from app.storage.database import SERVICE
from tests.http.conftest import BOOTSTRAP_KEY, Service
from tests.http.published import problem

SECRET = b"a secret of the tests"


class Registry(Binding):
    """A registry of the tests, under the name of a real system."""

    system: Literal["mlflow"] = "mlflow"
    secret_file: SecretFile


class Pushed(ForeignDocument):
    """What it delivers."""

    model: str


router = APIRouter(prefix="/v1/integrations/mlflow/{binding}")


@router.post("/fake-events", dependencies=[admits(Registry, Permission.REGISTER_MODELS)])
async def receive_event(
    context: Calling, request: Request, binding: Annotated[Registry, binding_of(Registry)]
) -> Response:
    """As the route of any registry does it."""
    body, sent_at = await request.body(), request.headers["x-sent-at"]
    given = bytes.fromhex(request.headers["x-signature"])
    refuse_unsigned((binding.secret_file,), sent_at.encode() + b"." + body, [given])
    refuse_stale(datetime.fromisoformat(sent_at), context.now)
    read_foreign(TypeAdapter(Pushed), body)
    id = request.headers.get("x-delivery")
    await receive.receive(context, binding, id=id, event="pushed", body=body)
    return Response(status_code=202)


async def register(context: Context, binding: Binding, delivery: Delivery) -> str:
    """Register what was pushed: the work of a real handler, with its read-back left out."""
    pushed = read_foreign(TypeAdapter(Pushed), delivery.body)
    if not binding.speaks_of(pushed.model):
        raise NotFound("model", pushed.model)
    said = ModelVersion(model=pushed.model, developer="lab")
    recorded, _ = await register_model(context, said)
    return f"registered at {recorded.position.index}"


@pytest.fixture
def binding(tmp_path: Path) -> Registry:
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    path.chmod(0o600)
    return Registry(
        name="reg", principal="service:registry", models=("m*@*",), secret_file=SecretFile(path)
    )


@pytest.fixture
async def sender(empty: Service, binding: Registry) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a key, of a service that has the registry's binding and route."""
    empty.app.state.bindings = Bindings([binding])
    empty.app.include_router(router)
    transport = httpx.ASGITransport(empty.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://aslgate.test") as client:
        yield client


@pytest.fixture
def inbox(empty: Service, binding: Registry) -> Inbox:
    return inbox_of(empty, binding)


def inbox_of(service: Service, binding: Registry, handler: receive.Handler = register) -> Inbox:
    return Inbox(service.store, Bindings([binding]), {"mlflow": handler}, now, Turns())


async def send(
    client: httpx.AsyncClient,
    model: str = "m@1",
    *,
    id: str | None = "d-1",
    secret: bytes = SECRET,
    body: bytes | None = None,
    sent_at: datetime | None = None,
    path: str = "mlflow/reg/fake-events",
) -> httpx.Response:
    content = json.dumps({"model": model, "news": [1, 2]}).encode() if body is None else body
    at = (sent_at or datetime.now(UTC)).isoformat()
    signature = hmac.digest(secret, f"{at}.".encode() + content, "sha256").hex()
    headers = {"x-sent-at": at, "x-signature": signature}
    if id is not None:
        headers["x-delivery"] = id
    return await client.post(
        f"/v1/integrations/{path}?timeout=5s", content=content, headers=headers
    )


async def listed(service: Service, **params: str) -> list[dict[str, object]]:
    async with service.client(BOOTSTRAP_KEY) as client:
        answer = await client.get("/v1/integrations/reg/deliveries", params=params)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, object]] = answer.json()["deliveries"]
    return found


async def registered(service: Service, model: str) -> bool:
    async with service.client(BOOTSTRAP_KEY) as client:
        return (await client.get(f"/v1/models/{model}")).status_code == 200


async def let_time_pass(service: Service) -> None:
    """What was put off, or is on lease, is due."""
    await service.as_owner("UPDATE inbox SET not_before = now() WHERE state = 'waiting'")


async def test_a_delivery_is_answered_and_then_worked_on_once(
    empty: Service, sender: httpx.AsyncClient, inbox: Inbox
) -> None:
    answers = [await send(sender) for _ in range(3)]
    before = await registered(empty, "m@1")

    assert [one.status_code for one in answers] == [202] * 3
    assert not before
    assert await inbox.turn()
    assert not await inbox.turn()
    assert (await send(sender)).status_code == 202
    assert not await inbox.turn()
    assert await registered(empty, "m@1")
    (delivery,) = await listed(empty)
    assert (delivery["state"], delivery["attempts"]) == ("done", 1)
    assert str(delivery["outcome"]).startswith("registered at ")
    body = b'{"model": "m@1", "news": [1, 2]}'
    assert delivery["sha256"] == hashlib.sha256(body).hexdigest()


async def test_what_it_does_is_recorded_under_the_bindings_name(
    empty: Service, sender: httpx.AsyncClient, inbox: Inbox
) -> None:
    await send(sender)
    await inbox.turn()

    entry = json.loads(await empty.entry(await empty.size() - 1))
    assert entry["actor"] == "service:registry/binding_reg"


async def test_deliveries_without_an_id_are_told_apart_by_what_they_say(
    empty: Service, sender: httpx.AsyncClient
) -> None:
    for model in ("m@1", "m@2", "m@1"):
        assert (await send(sender, model, id=None)).status_code == 202

    assert len(await listed(empty)) == 2


async def test_what_is_not_its_senders_is_refused_and_not_kept(
    empty: Service, sender: httpx.AsyncClient
) -> None:
    """All of it is the sender's to mend, or nobody's: sending it again is of no use, so it is 4xx."""
    old = datetime.now(UTC) - timedelta(minutes=6)
    for answer, told in (
        (await send(sender, secret=b"another"), (401, "not-from-sender")),
        (await send(sender, sent_at=old), (401, "not-from-sender")),
        (await send(sender, body=b"{"), (400, "undecodable-document")),
        (await send(sender, body=b'{"model": 1}'), (422, "invalid-document")),
        (
            await send(sender, body=b'{"model": "m@1", "model": "m@2"}'),
            (400, "undecodable-document"),
        ),
        (await send(sender, id="x" * 201), (422, "invalid-parameter")),
        (await send(sender, path="mlflow/other/fake-events"), (404, "not-found")),
    ):
        assert problem(answer) == told

    assert await listed(empty) == []


async def test_what_cannot_be_reached_is_tried_again_and_in_the_end_given_up(
    empty: Service, sender: httpx.AsyncClient, binding: Registry
) -> None:
    reached: list[int] = []

    async def unreachable(_: Context, __: Binding, delivery: Delivery) -> str:
        reached.append(delivery.attempts)
        raise httpx.ConnectError("the registry does not answer")

    inbox = inbox_of(empty, binding, unreachable)
    await send(sender)
    assert await inbox.turn()
    assert not await inbox.turn(), "it is given time"
    (waiting,) = await listed(empty, state="waiting")
    assert waiting["outcome"] == "the registry does not answer"
    for _ in range(MOST_ATTEMPTS + 1):
        await let_time_pass(empty)
        await inbox.turn()

    assert reached == list(range(1, MOST_ATTEMPTS + 1))
    (failed,) = await listed(empty, state="failed")
    assert failed["outcome"] == "given up after 12 attempts: the registry does not answer"


async def test_what_no_trying_mends_ends_at_once(
    empty: Service, sender: httpx.AsyncClient, inbox: Inbox
) -> None:
    await send(sender, "not-its-own@1")
    await inbox.turn()

    (failed,) = await listed(empty)
    assert failed["state"] == "failed"
    assert failed["outcome"] == "no model `not-its-own@1` is recorded"


async def test_a_fault_of_ours_does_not_end_the_work_nor_show(
    empty: Service, sender: httpx.AsyncClient, binding: Registry
) -> None:
    async def faulty(_: Context, __: Binding, ___: Delivery) -> str:
        raise ValueError("internals")

    await send(sender)
    await inbox_of(empty, binding, faulty).turn()
    await let_time_pass(empty)
    (waiting,) = await listed(empty)
    assert waiting["outcome"] == "it failed on our side; the log says how"

    assert await inbox_of(empty, binding).turn()
    assert await registered(empty, "m@1")


async def test_a_delivery_is_one_processs_at_a_time(
    empty: Service, sender: httpx.AsyncClient, binding: Registry
) -> None:
    """Of ten that come for it at once one has it; and who had it before and comes late says nothing."""
    worked: list[int] = []
    late = asyncio.Event()

    async def work(_: Context, __: Binding, delivery: Delivery) -> str:
        worked.append(delivery.attempts)
        if delivery.attempts == 1:
            await late.wait()
        return f"by attempt {delivery.attempts}"

    await send(sender)
    inboxes = [inbox_of(empty, binding, work) for _ in range(10)]
    turns = [asyncio.create_task(one.turn()) for one in inboxes]
    await asyncio.wait(turns, return_when=asyncio.ALL_COMPLETED, timeout=1)
    assert worked == [1]
    await let_time_pass(empty)
    assert await inboxes[0].turn()
    late.set()
    await asyncio.gather(*turns)

    assert worked == [1, 2]
    (done,) = await listed(empty)
    assert (done["state"], done["outcome"]) == ("done", "by attempt 2")


async def test_what_a_killed_process_worked_on_is_worked_on_by_the_next(
    empty: Service, sender: httpx.AsyncClient, binding: Registry, inbox: Inbox
) -> None:
    """It had registered the model, and was killed before it could say so: that is recorded once."""
    await send(sender)
    address = str(empty.server.dsn(empty.name, SERVICE))
    killed = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.http.killed_at_work", address, binding.model_dump_json()),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert killed.stdout is not None
    assert (await killed.stdout.readline()).startswith(b"registered at ")
    killed.kill()
    await killed.wait()
    size = await empty.size()
    assert not await inbox.turn(), "it is on lease"
    await let_time_pass(empty)

    assert await inbox.turn()
    (done,) = await listed(empty)
    assert (done["state"], done["attempts"]) == ("done", 2)
    assert await empty.size() == size


async def test_more_than_may_wait_are_refused_and_sent_again(
    empty: Service, sender: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receive, "MOST_WAITING", 2)
    for number in (1, 2):
        assert (await send(sender, id=f"d-{number}")).status_code == 202

    refused = await send(sender, id="d-3")
    assert problem(refused) == (503, "unavailable")
    assert refused.json()["reason"] == "inbox-full"
    assert (await send(sender, id="d-2")).status_code == 202, "what is here is here"
    assert len(await listed(empty)) == 2


async def test_bodies_go_a_week_after_the_work_and_the_rest_stays(
    empty: Service, sender: httpx.AsyncClient, inbox: Inbox, binding: Registry
) -> None:
    for id in ("old", "new", "waiting"):
        await send(sender, id=id)
        if id != "waiting":
            await inbox.turn()
    await empty.as_owner(
        "UPDATE inbox SET finished_at = now() - interval '8 days' WHERE delivery_id = 'old'"
    )
    await inbox_of(empty, binding).turn()

    await empty.as_owner(
        "DO $$ BEGIN ASSERT (SELECT array_agg(delivery_id ORDER BY delivery_id) FROM inbox"
        " WHERE body IS NULL) = ARRAY['old']; END $$"
    )
    assert len(await listed(empty)) == 3
    assert (await send(sender, id="old")).status_code == 202
    assert len(await listed(empty)) == 3


async def test_they_are_listed_by_page_for_admins_alone(
    empty: Service, sender: httpx.AsyncClient
) -> None:
    for number in range(5):
        await send(sender, id=f"d-{number}")
    path, seen = "/v1/integrations/reg/deliveries", []
    async with empty.client(BOOTSTRAP_KEY) as client:
        page = (await client.get(path, params={"limit": "2"})).json()
        seen += [one["id"] for one in page["deliveries"]]
        while page["next"]:
            page = (await client.get(path, params={"limit": "2", "after": page["next"]})).json()
            seen += [one["id"] for one in page["deliveries"]]
        unknown = await client.get("/v1/integrations/nothing/deliveries")
        forged = await client.get(path, params={"after": "aW5ib3gx"})
    async with empty.client((await empty.new_key("reader", "registry")).text) as other:
        forbidden = await other.get(path)

    assert seen == [f"d-{number}" for number in reversed(range(5))]
    assert problem(unknown) == (404, "not-found")
    assert problem(forged) == (422, "invalid-parameter")
    assert problem(forbidden) == (403, "forbidden")


async def test_where_the_database_is_gone_nothing_is_acknowledged(
    empty: Service, sender: httpx.AsyncClient
) -> None:
    await empty.cut_off(True)
    try:
        refused = await send(sender)
    finally:
        await empty.cut_off(False)

    assert problem(refused) == (503, "unavailable")
    assert await listed(empty) == []


async def test_a_binding_that_calls_too_often_is_told_so(
    empty: Service, sender: httpx.AsyncClient, binding: Registry
) -> None:
    slow = binding.model_copy(update={"requests_per_minute": 6})
    empty.app.state.bindings = Bindings([slow])

    assert (await send(sender)).status_code == 202
    refused = await send(sender)
    assert problem(refused) == (429, "too-many-requests")
    assert refused.headers["Retry-After"] == "10"
