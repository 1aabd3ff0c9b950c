"""The policies and the published evidence that come with aslgate, and how a client sends them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx

FOLDER: Final = Path(__file__).parents[2] / "policies" / "anthropic-rsp"
POLICY: Final = "anthropic-rsp"
OPUS: Final = "claude-opus-4@20250514"
SONNET: Final = "claude-sonnet-4@20250514"
RELEASE: Final = "2025-05-22T16:00:00Z"
"""The day on which both were released, under RSP 2.2."""
ACTION: Final = "external-deployment"

POLICIES: Final = {label: FOLDER / f"{label}.yaml" for label in ("2.0", "2.1", "2.2")}
EFFECTIVE: Final = {
    "2.0": "2024-10-15T00:00:00Z",
    "2.1": "2025-03-31T00:00:00Z",
    "2.2": "2025-05-14T00:00:00Z",
}
"""From when each was in force at its publisher."""
EVIDENCE: Final = {
    OPUS: FOLDER / "evidence" / "claude-opus-4.json",
    SONNET: FOLDER / "evidence" / "claude-sonnet-4.json",
}

Json = dict[str, Any]


def asked(model: str = OPUS, **more: Any) -> Json:
    """The question that every test asks, with its own words over it."""
    return {"model": model, "action": ACTION, "policy": POLICY} | more


def evidence_bodies(model: str) -> Iterator[tuple[str, Json]]:
    """Path and body of each piece of published evidence on *model*, its registration first."""
    bodies = json.loads(EVIDENCE[model].read_text())
    yield "/v1/models", bodies["model"]
    for kind in ("assessments", "safeguards", "sign_offs"):
        for body in bodies[kind]:
            yield f"/v1/{kind.replace('_', '-')}", body


async def send_policy(client: httpx.AsyncClient, label: str) -> httpx.Response:
    """Record a shipped version."""
    return await client.post(
        f"/v1/policies/{POLICY}/versions",
        content=POLICIES[label].read_bytes(),
        headers={"Content-Type": "application/yaml"},
    )


def activation(label: str) -> Json:
    """What puts a shipped version in force from its publisher's date on."""
    reason = "in force at the publisher since then"
    return {"in_force_from": EFFECTIVE[label], "retroactive": True, "reason": reason}


async def put_in_force(
    author: httpx.AsyncClient, approver: httpx.AsyncClient, label: str
) -> httpx.Response:
    """Record a shipped version, and let a second person approve and activate it."""
    recorded = await send_policy(author, label)
    assert recorded.status_code == 201, recorded.text
    path = f"/v1/policies/{POLICY}/versions/{label}"
    for step, body in (
        ("approvals", {"reason": "as published"}),
        ("activation", activation(label)),
    ):
        answer = await approver.post(f"{path}/{step}", json=body)
        assert answer.status_code == 201, answer.text
    return recorded


async def send_everything(client: httpx.AsyncClient, author: httpx.AsyncClient) -> None:
    """Record the shipped versions and the sign-offs, by *author*, both models, and the rest of the
    evidence on them: who found what permits is not the only one to approve it.
    """
    for label in POLICIES:
        await put_in_force(author, client, label)
    for model in EVIDENCE:
        for path, body in evidence_bodies(model):
            response = await (author if path == "/v1/sign-offs" else client).post(path, json=body)
            assert response.status_code == 201, response.text


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Status and name of a problem document."""
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    assert answer.json()["status"] == answer.status_code
    return answer.status_code, answer.json()["type"].removeprefix("urn:aslgate:problem:")
