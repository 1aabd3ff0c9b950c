"""What a running shadow costs live determinations: their rate, and how long they wait.

    .venv/bin/python -m benchmarks.shadow [--clients 1 64] [--seconds 1] [--rounds 20]

One service with RSP 2.2 in force is asked in short turns without a shadow, and with one of RSP 2.1,
so that only the ratios mean anything: the machine's other work moves both. What the turns of a kind
saw is put together. It is told how many determinations the shadow looked at in its turns: fewer than
were asked for means that it had work all the time.
"""

import argparse
import asyncio
import secrets
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.determinations import asker, rate, service

SHADOW = "/v1/policies/anthropic-rsp/versions/2.1/shadow"
FOUND_SECONDS = 1.2
"""A shadow that was begun is found within a second."""


@dataclass
class Seen:
    """What turns of one kind saw: seconds that each request took, and requests a second by turn."""

    waits: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    async def turn(self, port: int, key: str, clients: int, seconds: float) -> None:
        self.rates.append(await rate(clients, seconds, asker(port, key, self.waits)))

    def figures(self) -> dict[str, float]:
        centiles = statistics.quantiles(self.waits, n=100)
        return {
            "determinations/s": statistics.mean(self.rates),
            "p50 ms": 1000 * centiles[49],
            "p90 ms": 1000 * centiles[89],
            "p99 ms": 1000 * centiles[98],
        }


async def said(client: httpx.AsyncClient, path: str = SHADOW) -> Any:
    """What is said of the shadow when it is begun, or stopped."""
    answer = await client.post(path, json={})
    answer.raise_for_status()
    return answer.json()


async def compare(
    client: httpx.AsyncClient, port: int, key: str, clients: int, seconds: float, rounds: int
) -> None:
    """Print the figures without and beside a shadow, and their ratios."""
    without, beside = Seen(), Seen()
    looked_at = asked_for = 0
    await Seen().turn(port, key, clients, seconds)
    for number in range(rounds):
        # Each kind comes first as often as the other.
        for shadowed in (number % 2 == 0, number % 2 == 1):
            if shadowed:
                await said(client)
            await asyncio.sleep(FOUND_SECONDS)
            seen = beside if shadowed else without
            before = len(seen.waits)
            await seen.turn(port, key, clients, seconds)
            if shadowed:
                asked_for += len(seen.waits) - before
                looked_at += (await said(client, f"{SHADOW}/stop"))["summary"]["decided"]
    ours, theirs = beside.figures(), without.figures()
    for what, value in ours.items():
        ratio = value / theirs[what]
        print(
            f"{clients} clients, {what}: {theirs[what]:.1f} without, {value:.1f} beside: {ratio:.2f} x"
        )
    print(f"{clients} clients: the shadow looked at {looked_at} of {asked_for} in its turns")


async def main(clients: Sequence[int], seconds: float, rounds: int) -> None:
    """Compare for each number of clients."""
    folder = Path(tempfile.mkdtemp(prefix="asl-bench-"))
    folder.chmod(0o755)
    key = secrets.token_urlsafe(32)
    try:
        async with (
            service(folder / "data", key) as port,
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}",
                headers={"Authorization": f"Bearer {key}"},
                timeout=30,
            ) as client,
        ):
            for many in clients:
                await compare(client, port, key, many, seconds, rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    asyncio.run(main(given.clients, given.seconds, given.rounds))
