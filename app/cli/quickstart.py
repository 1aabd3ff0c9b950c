"""`aslgate quickstart`: the main job on real, published evidence, and the service left running."""

import asyncio
import contextlib
import hashlib
import json
import shlex
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import httpx
import orjson
import typer
from rich.console import Console

from app.cli import serving
from app.cli.render import determination_panel
from app.cli.serve import DataDir, settings_of
from app.cli.service import fail
from app.http.observability import configure_logging
from app.http.permissions import ROLES
from app.operations.context import Context
from app.operations.manage_keys import KeyRequest, create_key
from app.policy.language import read_policy
from app.settings import Settings
from app.storage.keys import EVERY_ROLE
from app.storage.store import OPERATOR
from app.vocabulary import write_instant

POLICY = "anthropic-rsp"
ACTION = "external-deployment"
AT = "2025-05-22T16:00:00Z"
"""The day on which both models were released, under RSP 2.2."""
VERSIONS = ("2.0", "2.1", "2.2")
"""The versions under which those two days fall, and the one before."""
_KEY_FILE = "quickstart.key"
_APPROVER_FILE = "quickstart-approver.key"
"""Whoever records a policy version neither approves nor activates it, and whoever records what rules a
threshold out is not the only one to approve on it: this key does."""


def shipped_policies() -> Path:
    """The policies that come with aslgate: in the installed package, or in a checkout."""
    shipped = Path(__file__).parents[1] / "_shipped" / "policies"
    return shipped if shipped.is_dir() else Path(__file__).parents[2] / "policies"


def quickstart(
    data_dir: DataDir = None,
    port: Annotated[int, typer.Option(envvar="ASLGATE_PORT", min=1, max=65535)] = 8000,
) -> None:
    """Start everything, record the shipped policies and published evidence, show two real answers.

    The service keeps running until Ctrl-C. Running it again is harmless.
    """
    settings = settings_of(data_dir=data_dir)
    console = Console()
    _refuse_busy(port)
    console.print(f"Starting Postgres in {serving.data_dir(settings)} …", highlight=False)
    configure_logging()
    serving.log_to_file(serving.data_dir(settings) / "service.log")
    with serving.stopped_by_signals(), serving.database(settings, up_to_date=True) as addresses:
        key = _key(settings, addresses, _KEY_FILE, "service:quickstart", ["admin"])
        second = _key(
            settings,
            addresses,
            _APPROVER_FILE,
            "person:quickstart-approver",
            ["policy-approver", "approver"],
        )
        # Ctrl-C has drained the service by then.
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_run(console, settings, addresses, (key, second), port))
    console.print("Stopped. Run it again at any time: nothing is lost.", highlight=False)


def _refuse_busy(port: int) -> None:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            fail(f"something already listens on port {port}: choose another with --port")


def _key(
    settings: Settings, addresses: serving.Addresses, name: str, principal: str, roles: list[str]
) -> str:
    """The key of the first run, as long as it still opens; else a new one, kept beside the data.

    It may speak as every role of a policy: what it sends was published by those who hold them.
    """
    file = serving.data_dir(settings) / name

    async def kept_or_new() -> str:
        now = datetime.now(UTC)
        store = serving.open_store(settings, addresses)
        await store.open(now)
        try:
            if file.exists():
                kept = file.read_text().strip()
                if await store.authenticate(kept, now) is not None:
                    return kept
            request = KeyRequest(
                principal=principal, name=file.stem, roles=tuple(roles), policy_roles=(EVERY_ROLE,)
            )
            made = await create_key(Context(store, OPERATOR, now), request, ROLES)
        finally:
            await store.close()
        assert made.text is not None, "nothing is asked for twice here"
        serving.write_secret(file, made.text)
        return made.text

    return asyncio.run(kept_or_new())


async def _run(
    console: Console,
    settings: Settings,
    addresses: serving.Addresses,
    both_keys: tuple[str, str],
    port: int,
) -> None:
    key, second = both_keys
    server = serving.server(settings, serving.open_store(settings, addresses), "127.0.0.1", port)
    serving_task = asyncio.create_task(server.serve())
    while not server.started:
        if serving_task.done():
            log = serving.data_dir(settings) / "service.log"
            fail(f"the service did not start: see {log}")
        await asyncio.sleep(0.02)
    url = f"http://127.0.0.1:{port}"
    headers = {"Authorization": f"Bearer {key}"}
    try:
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
            await _show(console, client, url, key, second)
    except BaseException:
        server.should_exit = True
        raise
    finally:
        await serving_task


async def _show(
    console: Console, client: httpx.AsyncClient, url: str, key: str, second: str
) -> None:
    folder = shipped_policies() / POLICY
    for label in VERSIONS:
        await _put_in_force(console, client, folder / f"{label}.yaml", second)
    asked = []
    for file in sorted((folder / "evidence").glob("*.json")):
        bodies = json.loads(file.read_text())
        for path, body in _bodies(bodies):
            await _send(client, path, body, by=second if path == "/v1/sign-offs" else key)
        asked.append(
            {"model": bodies["model"]["model"], "action": ACTION, "policy": POLICY, "at": AT}
        )
        console.print(f"Recorded {bodies['model']['model']} and its published evidence.")
    for question in asked:
        answer = _checked(await client.post("/v1/determinations", json=question))
        console.print()
        console.print(determination_panel(answer))
        console.print("You get this answer with")
        console.print(_curl(url, question), soft_wrap=True, highlight=False, markup=False)
    console.print()
    console.print("The key to use:", highlight=False)
    console.print(f"export ASLGATE_API_KEY={key}", soft_wrap=True, highlight=False, markup=False)
    console.print()
    console.print(
        f"aslgate is running at {url} (docs: {url}/docs). Ctrl-C stops it.", highlight=False
    )


def _bodies(bodies: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "/v1/models", bodies["model"]
    for kind in ("assessments", "safeguards", "sign_offs"):
        for body in bodies[kind]:
            yield f"/v1/{kind.replace('_', '-')}", body


async def _put_in_force(
    console: Console, client: httpx.AsyncClient, file: Path, second: str
) -> None:
    """Record the version; approve it and put it in force with the *second* key, unless it was."""
    text = await asyncio.to_thread(file.read_bytes)
    version = read_policy(text, "yaml")
    response = await client.post(
        f"/v1/policies/{version.policy}/versions",
        content=text,
        headers={"Content-Type": "application/yaml"},
    )
    answer = _checked(response)
    path = f"/v1/policies/{version.policy}/versions/{version.version}"
    headers = {"Authorization": f"Bearer {second}"}
    since = write_instant(version.effective)
    reason = f"in force at the publisher since {since[:10]}"
    if not answer["approvals"]:
        approval = {"reason": reason}
        _checked(await client.post(f"{path}/approvals", json=approval, headers=headers))
    if not answer["spans"]:
        activation = {"in_force_from": since, "retroactive": True, "reason": reason}
        _checked(await client.post(f"{path}/activation", json=activation, headers=headers))
    console.print(f"Recorded {version.policy} {version.version}, in force from {since[:10]}.")


async def _send(client: httpx.AsyncClient, path: str, body: Any, *, by: str) -> None:
    """Record *body*, once however often this runs."""
    content = orjson.dumps(body)
    headers = {
        "Authorization": f"Bearer {by}",
        "Content-Type": "application/json",
        "Idempotency-Key": f"quickstart-{hashlib.sha256(content).hexdigest()}",
    }
    _checked(await client.post(path, content=content, headers=headers))


def _checked(response: httpx.Response) -> dict[str, Any]:
    answer = response.json()
    if response.status_code != 201 or not isinstance(answer, dict):
        fail(f"{response.request.url.path} answered {response.status_code}: {response.text}")
    return answer


def _curl(url: str, question: dict[str, str]) -> str:
    body = shlex.quote(json.dumps(question))
    return (
        f'curl -sS {url}/v1/determinations -H "Authorization: Bearer $ASLGATE_API_KEY" '
        f"-H 'Content-Type: application/json' -d {body}"
    )
