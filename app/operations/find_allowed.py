"""Find the model versions on which an action would be allowed now. Nothing is recorded: whoever acts on
one of them asks the gate.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.operations.ask_gate import AskedGate, gate_as_of
from app.operations.context import Context
from app.storage.database import only_reading
from app.storage.store import POLICIES_STREAM, Snapshot

MOST_LOOKED_AT: Final = 100
"""How many model versions are looked at for one page, found or not."""


@dataclass(frozen=True, slots=True)
class Found:
    """A page of what was found, in the order in which it was registered. `next`: the ledger index from
    which on the next page looks; `None`: there is nothing more.
    """

    models: tuple[str, ...]
    next: int | None


async def find_allowed(
    context: Context, action: str, *, accepts_conditions: bool, first: int, limit: int
) -> Found:
    """At most *limit* of the model versions registered from ledger index *first* on, on which the gate would
    be open if it were asked now, on what is recorded. A page may hold fewer than there are.

    Raises `Unavailable` where too many look at once.
    """
    async with context.turns.explanations.turn():
        with only_reading():
            return await _find(context, action, accepts_conditions, first, limit)


async def _find(
    context: Context, action: str, accepts_conditions: bool, first: int, limit: int
) -> Found:
    registered = await context.store.models_from(first, MOST_LOOKED_AT + 1)
    looked_at = registered[:MOST_LOOKED_AT]
    seen = await _as_of_now(context, [model for _, model in looked_at])
    found: list[str] = []
    for (index, model), snapshots in zip(looked_at, seen, strict=True):
        if len(found) == limit:
            return Found(tuple(found), index)
        asked = AskedGate(model=model, action=action)
        gate = gate_as_of(context, asked, snapshots, accepts_conditions=accepts_conditions)
        if gate is not None and gate.allowed:
            found.append(model)
        # Everyone else is answered meanwhile.
        await asyncio.sleep(0)
    ahead = registered[MOST_LOOKED_AT:]
    return Found(tuple(found), ahead[0][0] if ahead else None)


Snapshots = Sequence[tuple[str, Snapshot]]


async def _as_of_now(context: Context, models: Sequence[str]) -> list[Snapshots]:
    """What the gate on each rests on. Nothing checks it afterwards, so what has moved since it was read
    is read anew.
    """
    read = await _read(context, models)
    _, stream = await context.store.activated_policies()
    streams = {POLICIES_STREAM: stream}
    for snapshots in read:
        for _, snapshot in snapshots:
            for name, version in snapshot.streams.items():
                streams[name] = min(version, streams.get(name, version))
    versions = await context.store.streams(streams)
    if moved := [name for name, version in streams.items() if versions[name] != version]:
        context.store.forget(moved)
        read = await _read(context, models)
    return read


async def _read(context: Context, models: Sequence[str]) -> list[Snapshots]:
    names, _ = await context.store.activated_policies()
    return [
        [(name, await context.store.snapshot(model, name, None)) for name in names]
        for model in models
    ]
