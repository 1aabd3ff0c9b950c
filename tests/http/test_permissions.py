"""Who may call, and who may do what: the whole matrix, committed beside this file.

To accept a change of it, delete `permissions.txt`, run this once, and read the diff.
"""

import asyncio
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from app.http.permissions import ROLES, Permission
from app.main import OPEN, permission_of_route, routes
from app.storage.store import TRUSTED_SECONDS
from tests.http.conftest import BOOTSTRAP_KEY, Service
from tests.http.published import OPUS, POLICY, problem
from tests.http.small import post

GOLDEN = Path(__file__).with_name("permissions.txt")
NAMES = {
    "{source}": "inspect",
    "{policy}": POLICY,
    "{version}": "2.2",
    "{model}": OPUS,
    "{id}": f"asm_{'0' * 32}",
}


def operations() -> list[tuple[str, str]]:
    """Method and path of every operation that is not a binding's: those know no keys."""
    return sorted(
        (
            (method, route.path_format)
            for route in routes()
            for method in route.methods or ()
            if isinstance(permission_of_route(route), Permission | None)
        ),
        key=lambda operation: operation[::-1],
    )


def filled(path: str) -> str:
    for name, value in NAMES.items():
        path = path.replace(name, value)
    return path


async def test_every_operation_for_every_role(service: Service) -> None:
    """✓ where the key is let through, whatever is then said of the empty body; ✗ where it is not."""
    allowed: dict[tuple[str, str], list[str]] = {operation: [] for operation in operations()}
    for role in (*ROLES, "no-such-role"):
        async with service.client((await service.new_key(role)).text) as client:
            for method, path in operations():
                answer = await client.request(method, filled(path))
                assert answer.status_code != 401
                refused = answer.status_code == 403
                assert not refused or problem(answer) == (403, "forbidden")
                allowed[method, path].append("✗" if refused else "✓")

    heads = [*ROLES, "(none)"]
    lines = [" " * 66 + " ".join(heads)]
    for (method, path), marks in allowed.items():
        columns = (mark.center(len(role)) for role, mark in zip(heads, marks, strict=True))
        lines.append(f"{method:4} {path:60} {' '.join(columns)}".rstrip())
    text = "\n".join(lines) + "\n"
    if not GOLDEN.exists():
        GOLDEN.write_text(text)
    assert GOLDEN.read_text() == text


async def test_every_operation_but_the_open_ones_needs_a_key(standing: Service) -> None:
    """Wrong keys, keys of other schemes, and none: one answer, which names the scheme."""
    for given in (
        None,
        "Bearer",
        "Bearer ",
        f"Basic {BOOTSTRAP_KEY}",
        BOOTSTRAP_KEY,
        f"Bearer {BOOTSTRAP_KEY}x",
        f"Bearer aslk_{'0' * 32}_{'a' * 43}",
        "Bearer \xff\x00",
    ):
        async with standing.client(None) as client:
            for method, path in operations():
                headers = [] if given is None else [(b"Authorization", given.encode("latin-1"))]
                answer = await client.request(method, filled(path), headers=headers)
                if path in OPEN:
                    assert answer.status_code not in (401, 403)
                else:
                    assert problem(answer) == (401, "unauthenticated")
                    asked = answer.headers["WWW-Authenticate"]
                    assert asked in ("Bearer", 'Bearer error="invalid_token"')


async def test_the_schemes_name_may_be_written_in_any_case(standing: Service) -> None:
    async with standing.client(None) as client:
        headers = {"Authorization": f"bearer {BOOTSTRAP_KEY}"}
        answer = await client.get(f"/v1/models/{OPUS}", headers=headers)

    assert answer.status_code == 200


async def test_a_revoked_key_opens_nothing(service: Service, client: httpx.AsyncClient) -> None:
    """At once where it was not used just before, else within half a second."""
    unused, used = await service.new_key("reader"), await service.new_key("reader")
    async with service.client(unused.text) as one, service.client(used.text) as other:
        assert (await other.get(f"/v1/models/{OPUS}")).status_code == 200
        for key in (unused, used):
            await post(client, f"keys/{key.credential.id}/revocation", {"reason": "it leaked"})

        assert problem(await one.get(f"/v1/models/{OPUS}")) == (401, "unauthenticated")
        await asyncio.sleep(TRUSTED_SECONDS + 0.05)
        assert problem(await other.get(f"/v1/models/{OPUS}")) == (401, "unauthenticated")


async def test_a_key_opens_nothing_once_it_has_expired(service: Service) -> None:
    """Also where it was believed a moment before."""
    key = await service.new_key("reader", expires_in=timedelta(seconds=0.3))
    async with service.client(key.text) as client:
        before = await client.get(f"/v1/models/{OPUS}")
        await asyncio.sleep(0.35)
        after = await client.get(f"/v1/models/{OPUS}")

    assert before.status_code == 200
    assert problem(after) == (401, "unauthenticated")


async def test_several_roles_may_what_any_of_them_may(service: Service) -> None:
    key = await service.new_key("reader", "registry")
    async with service.client(key.text) as client:
        registered = await client.post(
            "/v1/models", json={"model": "new@1", "developer": "anthropic"}
        )
        simulated = await client.post("/v1/simulations", json={})
        determined = await client.post("/v1/determinations", json={})

    assert (registered.status_code, simulated.status_code) == (201, 422)
    assert problem(determined) == (403, "forbidden")


@pytest.mark.parametrize("body", [b"not json", b'{"model": NaN}', b"x" * 2000])
async def test_a_body_is_not_read_for_who_may_not_send_it(standing: Service, body: bytes) -> None:
    """What is wrong with it is nobody's business who has no key."""
    async with standing.client(None) as client:
        answer = await client.post("/v1/determinations", content=body)

    assert problem(answer) == (401, "unauthenticated")


async def test_the_actor_of_a_record_is_who_made_it_and_by_which_key(service: Service) -> None:
    key = await service.new_key("orchestrator", principal="service:deployer")
    async with service.client(key.text) as client:
        answer = await client.post(
            "/v1/determinations", json={"model": OPUS, "action": "training", "policy": POLICY}
        )

    assert answer.json()["provenance"]["actor"] == f"service:deployer/{key.credential.id}"


async def test_no_answer_of_the_service_holds_a_key(reader: httpx.AsyncClient) -> None:
    for path in ("/v1/nothing", f"/v1/models/{BOOTSTRAP_KEY}x@1", "/metrics"):
        answer = await reader.get(path, headers={"X-Request-Id": "a b"})
        assert BOOTSTRAP_KEY not in answer.text.replace(path.rpartition("/")[2], "")
