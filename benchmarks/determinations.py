"""Durable determinations a second over HTTP, beside plain durable inserts of the same documents.

    .venv/bin/python benchmarks/determinations.py [--clients 64] [--seconds 3] [--rounds 5]

Both run against the same embedded Postgres, in turns, so that only their ratio means anything: the
machine's other work moves both. The reference is one INSERT of one document a transaction, over
as many connections as there are clients up to 16; the service decides, records with provenance in
the ledger and answers the whole document.
"""

import argparse
import asyncio
import json
import os
import secrets
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import httpx

ROOT = Path(__file__).parents[1]
POLICIES = ROOT / "policies" / "anthropic-rsp"
QUESTION = {
    "model": "claude-opus-4@20250514",
    "action": "external-deployment",
    "policy": "anthropic-rsp",
}


@asynccontextmanager
async def service(folder: Path, key: str) -> AsyncIterator[int]:
    """`aslgate serve` on a free port, with the shipped policies and Opus 4's evidence."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = [sys.executable, "-m", "app", "serve", "--port", str(port), "--data-dir", str(folder)]
    environ = {"ASLGATE_BOOTSTRAP_KEY": key, "ASLGATE_BOOTSTRAP_POLICY_ROLES": "*"}
    with (folder.parent / "service.log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environ, stderr=log)
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {key}"}
        ) as client:
            await _ready(client)
            await _record(client, second_key(folder))
        yield port
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


async def _ready(client: httpx.AsyncClient) -> None:
    for _ in range(300):
        try:
            if (await client.get("/readyz")).status_code == 200:
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.1)
    raise SystemExit("the service did not become ready")


def second_key(folder: Path) -> str:
    """A key for whoever approves what the first one recorded, and signs on what it found."""
    command = [sys.executable, "-m", "app", "keys", "create", "service:second"]
    roles = ["--role=policy-approver", "--role=approver", "--policy-role=*"]
    made = subprocess.run(
        [*command, *roles, "--data-dir", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return made.stdout.strip()


async def _record(client: httpx.AsyncClient, other: str) -> None:
    second = {"Authorization": f"Bearer {other}"}
    for label, since in (("2.0", "2024-10-15"), ("2.1", "2025-03-31"), ("2.2", "2025-05-14")):
        answer = await client.post(
            "/v1/policies/anthropic-rsp/versions",
            content=(POLICIES / f"{label}.yaml").read_bytes(),
            headers={"Content-Type": "application/yaml"},
        )
        answer.raise_for_status()
        path = f"/v1/policies/anthropic-rsp/versions/{label}"
        why = {"reason": "in force at the publisher since then"}
        activation = why | {"in_force_from": f"{since}T00:00:00Z", "retroactive": True}
        for step, body in (("approvals", why), ("activation", activation)):
            answer = await client.post(f"{path}/{step}", json=body, headers=second)
            answer.raise_for_status()
    bodies = json.loads((POLICIES / "evidence" / "claude-opus-4.json").read_text())
    (await client.post("/v1/models", json=bodies["model"])).raise_for_status()
    for kind in ("assessments", "safeguards", "sign_offs"):
        for body in bodies[kind]:
            path = f"/v1/{kind.replace('_', '-')}"
            by = second if kind == "sign_offs" else None
            (await client.post(path, json=body, headers=by)).raise_for_status()


async def rate(clients: int, seconds: float, worker: Callable[[float], Awaitable[int]]) -> float:
    """How many a second *clients* workers got done."""
    begun = time.perf_counter()
    done = await asyncio.gather(*(worker(begun + seconds) for _ in range(clients)))
    return sum(done) / (time.perf_counter() - begun)


def asker(
    port: int, key: str, waits: list[float] | None = None
) -> Callable[[float], Awaitable[int]]:
    """A client that asks for the same determination over and over, on one connection.

    `waits` is told how many seconds each took.
    """
    body = json.dumps(QUESTION).encode()
    head = (
        "POST /v1/determinations HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    request = head.encode() + body

    async def ask(until: float) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        done = 0
        while (begun := time.perf_counter()) < until:
            writer.write(request)
            headers = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = next(
                int(line.partition(b":")[2])
                for line in headers.split(b"\r\n")
                if line.startswith(b"content-length")
            )
            answer = await reader.readexactly(length)
            if not headers.startswith(b"http/1.1 201"):
                raise SystemExit(f"not recorded: {answer[:300]!r}")
            if waits is not None:
                waits.append(time.perf_counter() - begun)
            done += 1
        writer.close()
        return done

    return ask


def inserter(pool: asyncpg.Pool, document: bytes) -> Callable[[float], Awaitable[int]]:
    """A client that inserts the same document over and over, a transaction each."""

    async def insert(until: float) -> int:
        done = 0
        while time.perf_counter() < until:
            async with pool.acquire() as connection:
                await connection.execute("INSERT INTO plain (document) VALUES ($1)", document)
            done += 1
        return done

    return insert


async def main(clients: int, seconds: float, rounds: int) -> None:
    """Print the rates of each round, and the ratio of their medians."""
    folder = Path(tempfile.mkdtemp(prefix="asl-bench-"))
    folder.chmod(0o755)
    key = secrets.token_urlsafe(32)
    try:
        async with service(folder / "data", key) as port:
            address = {"host": str(folder / "data" / "run"), "user": "postgres"}
            pool = await asyncpg.create_pool(
                **address, database="postgres", min_size=min(clients, 16), max_size=min(clients, 16)
            )
            await pool.execute(
                "CREATE TABLE plain (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
                "document bytea NOT NULL)"
            )
            ask, insert = asker(port, key), inserter(pool, secrets.token_bytes(4000))
            asked: list[float] = []
            inserted: list[float] = []
            for number in range(rounds + 1):
                ours = await rate(clients, seconds, ask)
                plain = await rate(clients, seconds, insert)
                if number:  # the first round only warms up
                    asked.append(ours)
                    inserted.append(plain)
                    print(f"round {number}: {ours:7.0f} determinations/s {plain:7.0f} inserts/s")
            await pool.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    ours, plain = statistics.median(asked), statistics.median(inserted)
    print(f"{clients} clients: determinations at {ours / plain:.2f} x plain inserts (medians)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    asyncio.run(main(given.clients, given.seconds, given.rounds))
