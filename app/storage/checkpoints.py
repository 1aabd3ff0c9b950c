"""What the log has signed: its checkpoints, what witnesses put under them, and which key signs when.

Rows are only added. Whoever signs, and then whoever publishes, holds `alone`, so that of several
replicas one does so at a time. That is for their peace and not what keeps the log from forking: each
of them keeps its own last word outside this database.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import func, insert, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ledger.checkpoint import KeyStatement, read_key_statement
from app.ledger.note import Note, SignatureLine, VerifierKey, read_note, read_signatures
from app.storage.tables import ledger_checkpoint, ledger_cosignature, ledger_key

_SIGNER_LOCK: Final = 0x61736C73


@dataclass(frozen=True, slots=True)
class Signed:
    """A checkpoint that was signed: its size, and the note with the witnesses' lines."""

    size: int
    note: Note


@dataclass(frozen=True, slots=True)
class KeyOnRecord:
    """A statement on a key, with the note that makes it worth believing."""

    statement: KeyStatement
    note: Note


async def alone(connection: AsyncConnection) -> bool:
    """Whether nobody else signs now; nobody else will, before this transaction ends."""
    lock = text("SELECT pg_try_advisory_xact_lock(:key)")
    return bool(await connection.scalar(lock, {"key": _SIGNER_LOCK}))


async def wait_for_standby(connection: AsyncConnection) -> None:
    """Let the caller's commit wait until a standby has all that was read in it, where commits wait
    for one.

    What can be read may not be there yet, where a wait was cancelled, or after a crash. A commit
    that has written nothing waits for nothing, so this one writes a message that nobody reads.
    """
    await connection.execute(text("SELECT pg_logical_emit_message(true, 'aslgate', '')"))


async def latest(
    connection: AsyncConnection, *, at_least: int = 0, quorum: int = 0
) -> Signed | None:
    """The largest checkpoint, of *at_least* so many entries and with the lines of *quorum*
    witnesses or more; `None`: there is none yet.
    """
    size = ledger_checkpoint.c.size
    asked = select(size, ledger_checkpoint.c.note).where(size >= at_least)
    if quorum:
        # Counted from the newest one down, and no further than the first that has enough.
        lines_under = select(func.count()).where(ledger_cosignature.c.size == size)
        asked = asked.where(lines_under.scalar_subquery() >= quorum)
    row = (await connection.execute(asked.order_by(size.desc()).limit(1))).first()
    if row is None:
        return None
    lines = await connection.scalars(
        select(ledger_cosignature.c.line)
        .where(ledger_cosignature.c.size == row.size)
        .order_by(ledger_cosignature.c.vkey)
    )
    note = read_note(row.note.encode())
    cosigned = (line for one in lines for line in read_signatures(f"{one}\n"))
    return Signed(row.size, note.with_signatures(cosigned))


async def add(connection: AsyncConnection, signed: Signed) -> None:
    """Publish a checkpoint. The caller commits."""
    row = {"size": signed.size, "note": str(signed.note)}
    await connection.execute(insert(ledger_checkpoint).values(row))


async def add_cosignature(
    connection: AsyncConnection, size: int, witness: VerifierKey, line: SignatureLine
) -> None:
    """Publish the line of a witness under the checkpoint of that size; its first one stays. The
    caller commits, and has verified it.
    """
    await connection.execute(
        postgresql.insert(ledger_cosignature)
        .values(size=size, vkey=str(witness), line=str(line))
        .on_conflict_do_nothing()
    )


async def last_cosigned(connection: AsyncConnection, witness: VerifierKey) -> int:
    """The size of the largest checkpoint that has a line of that witness; 0: none has."""
    largest = select(func.max(ledger_cosignature.c.size))
    found = await connection.scalar(largest.where(ledger_cosignature.c.vkey == str(witness)))
    return found or 0


async def key_statements(connection: AsyncConnection) -> tuple[KeyOnRecord, ...]:
    """What was said of the log's keys, in the order in which it was said."""
    notes = await connection.scalars(select(ledger_key.c.note).order_by(ledger_key.c.number))
    read = (read_note(note.encode()) for note in notes)
    return tuple(KeyOnRecord(read_key_statement(note.text), note) for note in read)


async def add_key_statement(connection: AsyncConnection, number: int, one: KeyOnRecord) -> None:
    """Put a statement on record; *number* is that of the next. The caller commits."""
    statement = one.statement
    row = {
        "number": number,
        "vkey": str(statement.key),
        "signs": statement.signs,
        "size": statement.size,
        "note": str(one.note),
    }
    await connection.execute(insert(ledger_key).values(row))
