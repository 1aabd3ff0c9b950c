"""Appends 400 entries to the ledger at that address, from several tasks: one of several processes."""

import asyncio
import sys
from functools import partial

from app.canonical import canonical_json
from app.errors import Unavailable
from app.ledger.entry import Kind
from app.storage.database import Database
from app.storage.ledger import Draft, Ledger, ModelRow, Moment

TASKS = 8
EACH = 50


def _given(document: bytes, _: Moment) -> bytes:
    return document


async def append_all(address: str, number: str) -> None:
    database = Database(address, throwaway=True)
    ledger = Ledger(database)
    await ledger.start()

    async def task(name: str) -> None:
        for i in range(EACH):
            model = f"process-{number}/{name}-{i}@1"
            document = canonical_json({"model": model})
            draft = Draft(Kind.MODEL, model, ModelRow(model, "a lab"), partial(_given, document))
            while True:
                try:
                    await ledger.append([draft], actor="key_a", rests_on={}, touches=())
                except Unavailable:
                    continue
                break

    await asyncio.gather(*(task(str(i)) for i in range(TASKS)))
    await ledger.close()
    await database.close()


if __name__ == "__main__":
    asyncio.run(append_all(sys.argv[1], sys.argv[2]))
