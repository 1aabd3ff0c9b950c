"""A process that works on a delivery, and is killed before it can say what became of it.

Its arguments: the database, and the binding. It says what it has recorded.
"""

import asyncio
import sys

from app.http.callers import now
from app.integrations.bindings import Binding, Bindings
from app.operations.context import Context
from app.operations.receive import Delivery, Handler, Inbox
from app.operations.turns import Turns
from app.storage.database import Database
from app.storage.store import Store
from tests.http.test_inbox import Registry, register


async def register_and_hang(context: Context, binding: Binding, delivery: Delivery) -> str:
    sys.stdout.write(await register(context, binding, delivery) + "\n")
    sys.stdout.flush()
    await asyncio.sleep(600)
    raise AssertionError("it was to be killed")


async def main(address: str, binding: Registry) -> None:
    store = Store(Database(address, throwaway=True))
    await store.open(now())
    handlers: dict[str, Handler] = {binding.system: register_and_hang}
    await Inbox(store, Bindings([binding]), handlers, now, Turns()).turn()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Registry.model_validate_json(sys.argv[2])))
