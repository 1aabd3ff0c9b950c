"""An audit beside a busy service finds nothing wrong, and in the end has looked at everything."""

import asyncio
import random

import httpx

from app.operations.audit import Sweep
from app.storage.database import SERVICE, Database
from tests.http.conftest import AT_FIRST, Service
from tests.http.small import ACTION, found, in_force, policy, post, register

WRITERS = 6
EACH = 12


async def write(client: httpx.AsyncClient, model: str, chance: random.Random) -> None:
    """Evidence that comes and goes, and questions about it, all in each other's way."""
    for _ in range(EACH):
        made = await post(client, "assessments", found(model))
        question = {"model": model, "action": ACTION, "policy": "small"}
        await post(client, "determinations/batch", {"determinations": [question] * 3})
        await post(client, "gate", {"model": "m@0", "action": ACTION})
        if chance.random() < 0.5:
            await post(client, f"assessments/{made['id']}/withdrawal", {"reason": "r"})


async def test_an_audit_beside_a_busy_service_finds_nothing(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """What commits between two of its statements is neither missing nor too much."""
    await in_force(empty, empty_client, policy())
    for i in range(WRITERS):
        await register(empty_client, f"m@{i}")
    auditor = Database(empty.server.dsn(empty.name, SERVICE), audits=True)
    sweep = Sweep(auditor, replays=True)
    writing = asyncio.gather(
        *(write(empty_client, f"m@{i}", random.Random(i)) for i in range(WRITERS))
    )
    passes = 0
    while not writing.done():
        report = await sweep.go_on()
        assert report.findings == ()
        assert report.verified == report.size
        passes += 1
        await asyncio.sleep(0)
    await writing
    report = await sweep.go_on()
    await auditor.close()

    assert passes > 1
    assert report.findings == ()
    assert report.verified == report.size == await empty.size()
    assert report.replayed == WRITERS * EACH * 5


async def test_an_audit_of_a_new_ledger_finds_nothing(empty: Service) -> None:
    auditor = Database(empty.server.dsn(empty.name, SERVICE), audits=True)
    report = await Sweep(auditor, replays=True).go_on()
    await auditor.close()

    assert (report.size, report.verified) == (AT_FIRST, AT_FIRST)
    assert (report.findings, report.unverified) == ((), None)


async def test_a_sweep_says_when_the_ledger_has_become_smaller(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """As where a backup was put back under the auditor's eyes."""
    await in_force(empty, empty_client, policy())
    auditor = Database(empty.server.dsn(empty.name, SERVICE), audits=True)
    sweep = Sweep(auditor)
    assert (await sweep.go_on()).is_clean
    size = await empty.size()
    for statement in (
        "ALTER TABLE ledger_head DISABLE TRIGGER USER",
        "UPDATE ledger_head SET size = 2, frontier = substr(frontier, 1, 32)",
    ):
        await empty.as_owner(statement)
    first, again = await sweep.go_on(), await sweep.go_on()
    await auditor.close()

    assert [one.index for one in first.findings] == [2]
    assert f"had {size} entries, and now" in first.findings[0].what
    assert again.findings == first.findings, "it is said once"
