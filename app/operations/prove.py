"""Prove: what is recorded is in the tree of a checkpoint, which anyone can keep and nobody unsay."""

from app.errors import NotFound, Unavailable
from app.ledger.checkpoint import Receipt
from app.storage import checkpoints, records, tree
from app.storage.checkpoints import KeyOnRecord, Signed
from app.storage.store import Store


async def latest_checkpoint(store: Store, *, quorum: int) -> Signed:
    """The largest checkpoint that so many witnesses have cosigned. Raises `NotFound`."""
    async with store.reading() as connection:
        found = await checkpoints.latest(connection, quorum=quorum)
    if found is None:
        raise NotFound("checkpoint", store.ledger.log)
    return found


async def keys_on_record(store: Store) -> tuple[KeyOnRecord, ...]:
    """What was said of the keys that sign checkpoints, in the order in which it was said."""
    async with store.reading() as connection:
        return await checkpoints.key_statements(connection)


async def prove_record(store: Store, id: str, *, kind: str, quorum: int) -> Receipt:
    """The receipt of what is recorded under that id, which must be of that kind.

    Raises `NotFound`, and `Unavailable` while no checkpoint holds it yet.
    """
    record = await store.record(id)
    if record is None or record.kind.value != kind:
        raise NotFound(kind, id)
    return await prove_entry(store, record.position.index, quorum=quorum)


async def prove_entry(store: Store, index: int, *, quorum: int) -> Receipt:
    """The receipt of the entry with that index, under the largest checkpoint that so many witnesses
    have cosigned.

    Raises `NotFound`, and `Unavailable` while no checkpoint holds it yet.
    """
    async with store.reading() as connection:
        found = await records.entries_from(connection, index, 1)
        if not found or found[0][0] != index:
            raise NotFound("entry", str(index))
        signed = await checkpoints.latest(connection, at_least=index + 1, quorum=quorum)
        if signed is None:
            message = f"no checkpoint holds entry {index} yet; ask again"
            raise Unavailable("checkpoint-pending", message)
        proof = await tree.inclusion_proof(connection, index, signed.size)
    return Receipt(found[0][1], index, proof, signed.note)
