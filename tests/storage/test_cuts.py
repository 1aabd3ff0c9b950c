"""The connection to the database is cut after any byte, in either direction, while one is recorded.

Whatever is told then is true: who is told that it is recorded finds it, who is told that nothing was
has recorded nothing, and of whom neither is said a second try with the same key settles it, once.

The long form (tests/torture.py) cuts after every byte, the short one after some.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.errors import Unavailable
from app.storage.database import Database
from app.storage.ledger import Appended, Ledger
from tests.faults.proxy import Proxy
from tests.storage.test_ledger import LOG, append, everything, evidence, key, writing
from tests.torture import LONG, at_most

SOME = 40

RecordProperty = Callable[[str, object], None]


@asynccontextmanager
async def through_a_proxy(fresh: Any, folder: Path) -> AsyncIterator[tuple[Ledger, Proxy]]:
    proxy = Proxy(fresh.service)
    async with proxy.serving(folder):
        database = Database(replace(fresh.service, host=str(folder)), throwaway=True)
        ledger = Ledger(database)
        await ledger.initialise(LOG)
        await ledger.start()
        await database.close()
        try:
            yield ledger, proxy
        finally:
            proxy.heal()
            await ledger.close()


@pytest.mark.long
@pytest.mark.timeout(at_most(120))
@pytest.mark.parametrize("direction", ["up", "down"])
async def test_what_is_said_of_a_record_is_true_wherever_the_connection_is_cut(
    fresh: Any, server_folder: Path, record_property: RecordProperty, direction: str
) -> None:
    told: Counter[str] = Counter()
    async with writing(fresh):
        pass
    async with through_a_proxy(fresh, server_folder) as (ledger, proxy):
        for name in ("asm_cut_first", "asm_cut_whole"):
            proxy.heal()
            await append(ledger, evidence(name), key=key(name), touches=["model:m@1"])
        # All that is said is as long each time, but for the hashes of the tree's frontier, and for the
        # digits of the index: so some of the last places come after all of it.
        length = proxy.passed[direction] - _hashes(direction, ledger.size - 1)
        early, late = range(1, length - 50), range(length - 50, length + 10)
        places = [*(early if LONG else sorted(random.sample(early, SOME))), *late]
        for place in places:
            name = f"asm_cut_{place:05}"
            request: dict[str, Any] = {"key": key(name), "touches": ["model:m@1"]}
            proxy.cut_after(direction, place + _hashes(direction, ledger.size))
            first: Appended | Unavailable
            try:
                first = await append(ledger, evidence(name), **request)
            except Unavailable as unavailable:
                first = unavailable
            proxy.heal()
            again = await settled(ledger, name, request)

            if isinstance(first, Appended):
                assert (again.replayed, again.records) == (True, first.records), place
                told["recorded"] += 1
            else:
                told[first.reason] += 1
                assert again.replayed is False or first.reason == "outcome-unknown", place
        assert proxy.cuts > SOME
    recorded = Counter(record.subject for record in await everything(fresh))
    assert all(recorded[f"asm_cut_{place:05}"] == 1 for place in places)
    assert len(recorded) == len(places) + 2
    assert told["outcome-unknown"] > 0, f"it was never cut at COMMIT: {told}"
    assert told["database"] > 0, f"it was never cut before: {told}"
    figures = ", ".join(f"{many} `{what}`" for what, many in told.items())
    record_property("figures", f"{len(places)} cuts: {figures}")


SAYS_THAT_IT_DIES = b"".join(
    field + b"\x00" for field in (b"SFATAL", b"VFATAL", b"C57P01", b"Mit ends", b"")
)
SAYS_THAT_IT_DIES = b"E" + (len(SAYS_THAT_IT_DIES) + 4).to_bytes(4, "big") + SAYS_THAT_IT_DIES


async def test_who_asks_a_dying_server_is_told_that_it_is_away(
    fresh: Any, server_folder: Path
) -> None:
    """It has said that it dies, and has not hung up yet: that is no fault of ours, and passes."""
    async with writing(fresh):
        pass
    async with through_a_proxy(fresh, server_folder) as (ledger, proxy):
        await append(ledger, evidence())
        reader = Database(replace(fresh.service, host=str(server_folder)), throwaway=True)
        async with reader.reading() as connection:
            await connection.exec_driver_sql("SELECT 1")

        proxy.announce(SAYS_THAT_IT_DIES)
        await asyncio.sleep(0.1)
        with pytest.raises(Unavailable) as refused:
            await append(ledger, evidence())
        assert refused.value.reason == "database"
        with pytest.raises(Unavailable):
            async with reader.reading() as connection:
                await connection.exec_driver_sql("SELECT 1")

        await append(ledger, evidence())
        async with reader.reading() as connection:
            await connection.exec_driver_sql("SELECT 1")
        await reader.close()


def _hashes(direction: str, size: int) -> int:
    """How many bytes of hashes go there while one is recorded: the head is read, and written."""
    return 32 * (size + (direction == "up")).bit_count()


async def settled(ledger: Ledger, name: str, request: dict[str, Any]) -> Appended:
    """Ask again with the same key until it is answered: another's lock may have to go first."""
    for _ in range(10):
        with contextlib.suppress(Unavailable):
            return await append(ledger, evidence(name), **request)
    raise AssertionError(f"{name} is not settled")
