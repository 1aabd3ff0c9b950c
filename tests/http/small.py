"""A policy small enough to be seen whole, and one model version after another under it.

Threshold `T` asks for standard `s` before `deploy`, unless it is ruled out: by the CEO's finding, by
one on a stronger model, or by one that is carried over.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx

from app.vocabulary import write_instant
from tests.http.conftest import Service
from tests.http.published import Json

ACTION: Final = "deploy"


def soon(**after: float) -> str:
    """An instant that is so long after now; before it where that is negative."""
    return write_instant(datetime.now(UTC) + timedelta(**after))


def policy(name: str = "small", **more: Any) -> Json:
    """The document, with its own words over it."""
    permitted = {"statement": "s", "clause": "c", "approved_by": ["ceo", "rso"]}
    ruled_out = [
        {"finding": "ruled-out", "by": ["ceo"]},
        {"bounded_by": {"by": ["ceo"]}},
        {"carried_over": {"by": ["ceo"]}},
    ]
    return {
        "schema": "aslgate/policy/v1",
        "policy": name,
        "version": "1",
        "title": "t",
        "publisher": "p",
        "effective": "2024-01-01",
        "source": {"title": "t", "version": "1", "sha256": "0" * 64},
        "applies_to": {"developer": ["lab"]},
        "confidence": 0.95,
        "roles": {"ceo": "c", "rso": "r", "board": "b"},
        "domains": {"bio": {"title": "b", "status": "tracked"}},
        "standards": {
            "s": {
                "title": "t",
                "clause": "c",
                "criteria": {"a": {"statement": "s", "clause": "c"}},
                "interim_measures": permitted | {"at_most": "P90D"},
            }
        },
        "exceptions": {
            "break-glass": permitted | {"stands_for": ["s"], "actions": [ACTION], "at_most": "P30D"}
        },
        "thresholds": {
            "T": {
                "domain": "bio",
                "statement": "s",
                "clause": "c",
                "requires": [{"standard": "s", "before": [ACTION]}],
                "reached": {"finding": "reached"},
                "ruled_out": {"any": ruled_out},
                "not_ruled_out": {"means": "binds", "clause": "c"},
            }
        },
        "actions": {
            name: {"statement": "s", "clause": "c", "needs": ["required-standards"]}
            for name in (ACTION,)
        },
    } | more


async def in_force(
    service: Service, client: httpx.AsyncClient, document: Json, since: str = "2024-01-01T00:00:00Z"
) -> None:
    """Record the document by somebody else, and let the client approve and activate it."""
    for step in into_force(service, client, document, since):
        await step()


def into_force(
    service: Service, client: httpx.AsyncClient, document: Json, since: str
) -> tuple[Callable[[], Awaitable[None]], ...]:
    """The three steps of that, to be taken one after the other."""
    path = f"policies/{document['policy']}/versions"

    async def record() -> None:
        async with service.client((await service.new_key("policy-author")).text) as author:
            await post(author, path, document)

    async def approve() -> None:
        said = {"reason": "as published"}
        await post(client, f"{path}/{document['version']}/approvals", said)

    async def activate() -> None:
        said: Json = {"in_force_from": since, "retroactive": True, "reason": "as published"}
        if since > write_instant(datetime.now(UTC)):
            said = {"in_force_from": since}
        await post(client, f"{path}/{document['version']}/activation", said)

    return record, approve, activate


async def post(client: httpx.AsyncClient, path: str, body: Json, **how: Any) -> Json:
    """What is answered to a request that records."""
    answer = await client.post(f"/v1/{path}", json=body, **how)
    assert answer.status_code == 201, answer.text
    said: Json = answer.json()
    return said


async def register(client: httpx.AsyncClient, model: str, **more: Any) -> Json:
    return await post(client, "models", {"model": model, "developer": "lab"} | more)


def found(model: str, outcome: str = "ruled-out", **more: Any) -> Json:
    """An assessment with one finding on `T`, made a moment ago."""
    policy_name = more.pop("policy", "small")
    at = more.pop("conducted_at", None) or soon(seconds=-5)
    finding = {
        "policy": policy_name,
        "threshold": "T",
        "outcome": outcome,
        "by": ["ceo"],
        "reason": "r",
    }
    return {
        "model": model,
        "kind": "comprehensive",
        "conducted_at": at,
        "assessor": "a",
        "findings": [finding | more],
    }


async def decide(client: httpx.AsyncClient, model: str, **more: Any) -> Json:
    question = {"model": model, "action": ACTION, "policy": "small"} | more
    return await post(client, "determinations", question)


async def decision(client: httpx.AsyncClient, model: str, **more: Any) -> str:
    said: str = (await decide(client, model, **more))["decision"]
    return said
