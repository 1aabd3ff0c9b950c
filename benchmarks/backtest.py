"""How long a backtest over recorded determinations takes, and whether live requests go on meanwhile.

    .venv/bin/python -m benchmarks.backtest [--determinations 10000] [--models 20]

The service runs on its embedded Postgres with the shipped policies. Every model has what was
published of Claude Opus 4, one piece after another with determinations between, so that the history
has many different cuts. RSP 2.0 is then asked of all of them, beside the answers of 2.2. Meanwhile
one client asks for the gate of a model, over and over: how long it waits is told too.
"""

import argparse
import asyncio
import json
import secrets
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.determinations import POLICIES, QUESTION, second_key, service

VERSIONS = "/v1/policies/anthropic-rsp/versions"
BATCH = 200
THEN = QUESTION | {"at": "2025-05-22T16:00:00Z"}
"""The day of release, on which the evidence still counts."""


async def record(client: httpx.AsyncClient, second: str, models: int, determinations: int) -> None:
    """As many models as are asked for, and between their evidence so many determinations. The key
    *second* signs.
    """
    bodies = json.loads((POLICIES / "evidence" / "claude-opus-4.json").read_text())
    pieces = [
        (f"/v1/{kind.replace('_', '-')}", body)
        for kind in ("assessments", "safeguards", "sign_offs")
        for body in bodies[kind]
    ]
    names = [f"benchmark-{i}@1" for i in range(models)]
    for name in names:
        (
            await client.post("/v1/models", json={**bodies["model"], "model": name})
        ).raise_for_status()
    made = 0
    for step, (path, body) in enumerate(pieces, 1):
        for name in names:
            by = {"Authorization": f"Bearer {second}"} if path == "/v1/sign-offs" else None
            answer = await client.post(path, json={**body, "model": name}, headers=by)
            answer.raise_for_status()
        want = determinations * step // len(pieces)
        while made < want:
            many = min(BATCH, want - made)
            asked = [THEN | {"model": names[(made + i) % models]} for i in range(many)]
            answer = await client.post("/v1/determinations/batch", json={"determinations": asked})
            answer.raise_for_status()
            made += many


async def backtest(client: httpx.AsyncClient) -> tuple[float, dict[str, Any], int]:
    """Seconds, the summary, and how many lines told of a difference."""
    begun = time.perf_counter()
    last: dict[str, Any] = {}
    differences = 0
    body = {"scope": "history"}
    async with client.stream("POST", f"{VERSIONS}/2.0/backtest", json=body) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            last = json.loads(line)
            differences += "difference" in last
    if "summary" not in last:
        raise SystemExit("the backtest broke off")
    return time.perf_counter() - begun, last["summary"], differences


async def waits(client: httpx.AsyncClient, done: asyncio.Event) -> list[float]:
    """How many milliseconds each live determination took, until *done*."""
    took = []
    while not done.is_set():
        begun = time.perf_counter()
        answer = await client.post("/v1/determinations", json=QUESTION)
        answer.raise_for_status()
        took.append(1000 * (time.perf_counter() - begun))
    return took


async def main(determinations: int, models: int) -> None:
    """Print the seconds, the rate, what was found, and how long the live requests waited."""
    folder = Path(tempfile.mkdtemp(prefix="asl-bench-"))
    folder.chmod(0o755)
    key = secrets.token_urlsafe(32)
    try:
        async with (
            service(folder / "data", key) as port,
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}",
                headers={"Authorization": f"Bearer {key}"},
                timeout=httpx.Timeout(30, read=None),
            ) as client,
        ):
            begun = time.perf_counter()
            await record(client, second_key(folder / "data"), models, determinations)
            print(f"recorded {determinations} in {time.perf_counter() - begun:.1f} s")
            seconds, summary, differences = await backtest(client)
            rate = summary["decided"] / seconds
            print(f"alone: {summary['decided']} in {seconds:.2f} s, {rate:.0f} a second")
            print(f"{differences} differences; {summary['failed']} failed")
            done = asyncio.Event()
            live = asyncio.create_task(waits(client, done))
            seconds, summary, _ = await backtest(client)
            done.set()
            took = await live
            rate = summary["decided"] / seconds
            print(
                f"beside live requests: {summary['decided']} in {seconds:.2f} s, {rate:.0f} a second"
            )
            median, most = statistics.median(took), max(took)
            print(f"{len(took)} live determinations: median {median:.0f} ms, longest {most:.0f} ms")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--determinations", type=int, default=10_000)
    parser.add_argument("--models", type=int, default=20)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.determinations, arguments.models))
