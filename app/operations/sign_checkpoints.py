"""Sign checkpoints: after each commit, once a second at most, and never over what does not extend
what was signed before.

Nothing is signed inside a transaction that writes to the ledger, for a signature over a commit that
then fails would be a fork with our name under it. The last word is kept in a file before it is
published, so whoever puts the database back, by mistake or not, is met by what was signed already:
then nothing more is signed, and nothing more is recorded, until someone has looked.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Final

import httpx

from app.errors import Unavailable
from app.integrations.witness import NoCosignature, OtherSize, Witness
from app.ledger.checkpoint import (
    Checkpoint,
    KeyStatement,
    read_checkpoint,
    verified_checkpoint,
)
from app.ledger.merkle import InvalidProof, verify_consistency
from app.ledger.note import InvalidNote, Note, UnverifiedNote, VerifierKey
from app.storage import checkpoints, tree
from app.storage.checkpoints import KeyOnRecord, Signed
from app.storage.database import DatabaseConnection
from app.storage.ledger import LedgerFault
from app.storage.signer_files import LastWord, LedgerKeys, UnusableSigner
from app.storage.store import Store

INTERVAL_SECONDS: Final = 0.8
"""How often there is a turn: so what is recorded is under a checkpoint within a second."""

LOST_SECONDS: Final = 10.0
"""How long others may have all turns, and publish nothing that is due, before that is said."""

_log: Final = logging.getLogger("aslgate.signer")


class _NotKept(Exception):
    """All is well but for the file, which cannot be written: what is recorded is as good as ever."""


class Signer:
    """Signs the checkpoints of one ledger, beside others that may do so too.

    Without keys it signs nothing, and still holds the database against what others signed. For
    whoever watches: `signed` is the largest checkpoint that this one has seen published, and
    `cosigned` by witness the largest that it has put its line under.
    """

    def __init__(
        self,
        store: Store,
        last_word: LastWord,
        keys: LedgerKeys,
        *,
        witnesses: Sequence[Witness] = (),
    ) -> None:
        self._store = store
        self._last_word = last_word
        self._keys = keys
        self._witnesses = tuple(witnesses)
        self._http: httpx.AsyncClient | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._asked: dict[Witness, asyncio.Task[None]] = {}
        self._trouble: dict[object, str] = {}
        self._lost_turns = 0
        self._published_by_others = -1
        self.signed: Signed | None = None
        self.cosigned: dict[Witness, int] = {}

    async def start(self) -> None:
        """Look at the database, which records nothing before, and go on doing so."""
        self._store.ledger.halted = "what is recorded was not yet held against the last checkpoint"
        if self._witnesses:
            self._http = httpx.AsyncClient()
        await self._turn()
        self._ask_witnesses()
        self._task = asyncio.create_task(self._go_on(), name="ledger-signer")

    async def close(self) -> None:
        """Sign what was recorded last, if the database lets us, and stop."""
        self._stopping.set()
        if self._task is not None:
            await self._task
        for asked in self._asked.values():
            asked.cancel()
        await asyncio.gather(*self._asked.values(), return_exceptions=True)
        await self._turn()
        if self._http is not None:
            await self._http.aclose()

    async def _go_on(self) -> None:
        while not self._stopping.is_set():
            # Only the waiting is cut off when we stop: a turn ends by itself, and soon.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), INTERVAL_SECONDS)
                return
            await self._turn()
            self._ask_witnesses()

    async def _turn(self) -> None:
        """Sign once; whatever comes of it is said, and nothing ends this but `close`."""
        try:
            looked = await self.sign()
        except Unavailable as unavailable:
            self._say("database", f"the ledger cannot be looked at: {unavailable}")
        except _NotKept as error:
            self._store.ledger.halted = None
            self._say("file", str(error))
        except (LedgerFault, UnusableSigner, OSError) as fault:
            self._store.ledger.halted = str(fault)
            self._say("ledger", str(fault))
        except Exception as error:  # noqa: BLE001 - on an unchecked ledger nothing is recorded
            self._store.ledger.halted = "the last checkpoint cannot be held against the ledger"
            self._say("ledger", f"the signer failed: {error!r}", error)
        else:
            if not looked:
                return
            self._store.ledger.halted = None
            for what in ("database", "file", "ledger", "turn"):
                self._trouble.pop(what, None)

    def _say(self, what: object, trouble: str, error: Exception | None = None) -> None:
        """Log a trouble once, not every second."""
        if self._trouble.get(what) != trouble:
            self._trouble[what] = trouble
            _log.error("%s", trouble, exc_info=error)

    async def sign(self) -> bool:
        """Take one turn; whether it was ours to take.

        1. Be alone; else another takes this turn.
        2. Read the committed head; its root must be what its frontier gives.
        3. See that it extends our last word, and what is published, which must be ours where we have
           no last word to hold it against, or would have it for that; and so must our last word be.
        4. See that our keys are those on record, or say on record which are.
        5. Sign it, unless it is signed, once a standby has all that was read, where one is waited
           for: else a failover could lose what we put our name under.
        6. Keep that as our last word; only then publish.

        Raises `LedgerFault` and `UnusableSigner`, where someone must look, and `Unavailable`.
        """
        async with self._store.working() as connection:
            if not await checkpoints.alone(connection):  # (1)
                await self._lose_turn(connection)
                return False
            self._lost_turns = 0
            head = await self._head(connection)  # (2)
            published = await checkpoints.latest(connection)
            note = await asyncio.to_thread(self._last_word.read)
            last = self._read_last_word(note, head, published)
            if last is None and self._keys.sign:
                await self._refuse_what_we_did_not_sign(connection, published, head.origin)
            for before in (last, _said(published)):  # (3)
                if before is not None:
                    await _refuse_what_does_not_extend(connection, head, before)
            due = published is None or published.size < head.size
            if self._keys.sign:
                statements = await self._due_statements(connection, head.size + (not due))  # (4)
                if note is not None and last is not None:
                    self._refuse_a_last_word_of_others(note, head.origin)
                    if published is not None and published.size > last.size:
                        _refuse_what_none_signed(published, self._ours(), head.origin)
                if not due:
                    await self._put_on_record(connection, statements)
            elif published is not None:
                ever = {one.statement.key for one in await checkpoints.key_statements(connection)}
                _refuse_what_none_signed(published, ever, head.origin)
            new = None
            if self._keys.sign and due:
                new = Signed(head.size, head.signed(self._keys.sign))
            word = new or published
            unkept = word is not None and (last is None or last.size < word.size)
            if new or unkept:
                await checkpoints.wait_for_standby(connection)  # (5)
        if word is not None and (new or unkept):
            await self._keep(word)  # (6)
        self.signed = published if new is None else await self._publish(new)
        return True

    async def _lose_turn(self, connection: DatabaseConnection) -> None:
        """Somebody else has this turn. Where that goes on, and they publish nothing though something
        is due, it is said: whoever may connect can hold the lock, and so have nothing signed.
        """
        head = await self._head(connection)
        published = await checkpoints.latest(connection)
        size = -1 if published is None else published.size
        if size >= head.size or size > self._published_by_others:
            self._lost_turns = 0
        self._published_by_others = size
        self._lost_turns += 1
        if self._lost_turns * INTERVAL_SECONDS > LOST_SECONDS:
            self._say(
                "turn",
                "another connection holds the signer's lock, and publishes no checkpoint of what "
                "was recorded: nothing is signed",
            )

    async def _publish(self, signed: Signed) -> Signed | None:
        """Publish a checkpoint and what must be said of its keys, unless another server of ours is at
        it, or was; what is published by then.
        """
        async with self._store.working() as connection:
            alone = await checkpoints.alone(connection)
            published = await checkpoints.latest(connection)
            if not alone or (published is not None and published.size >= signed.size):
                return published
            statements = await self._due_statements(connection, signed.size)
            await self._put_on_record(connection, statements)
            await checkpoints.add(connection, signed)
        return signed

    async def _head(self, connection: DatabaseConnection) -> Checkpoint:
        """What a checkpoint of the ledger as it is would say."""
        head = await tree.head(connection)
        if head is None:
            raise Unavailable("database", "the ledger has no name yet")
        if head.frontier.root != head.root:
            raise LedgerFault("the ledger's root is not that of its tree")
        return Checkpoint(head.log, head.size, head.root)

    def _read_last_word(
        self, note: Note | None, head: Checkpoint, published: Signed | None
    ) -> Checkpoint | None:
        """Our last word. Where there is none, what is published will be it, which is said."""
        if note is None:
            if published is not None and published.size:
                self._say(
                    "last word",
                    f"there is no `{self._last_word}`: the ledger is held against the checkpoint of "
                    f"{published.size} entries that its own database holds, so if that was put back "
                    "before, only who kept a later checkpoint can tell",
                )
            return None
        self._trouble.pop("last word", None)
        try:
            last = read_checkpoint(note.text)
        except InvalidNote as fault:
            raise UnusableSigner(f"`{self._last_word}` is no checkpoint: {fault}") from fault
        if last.origin != head.origin:
            raise UnusableSigner(
                f"`{self._last_word}` is a checkpoint of `{last.origin}`, not of `{head.origin}`"
            )
        return last

    def _ours(self) -> set[VerifierKey]:
        """The keys that are ours, as we were told by others than the database."""
        return {one.verifier for one in self._keys.sign} | self._keys.retired

    def _refuse_a_last_word_of_others(self, note: Note, origin: str) -> None:
        """Raise `UnusableSigner` where none of our keys signed the last word: somebody put it there."""
        try:
            verified_checkpoint(note, self._ours(), origin=origin)
        except (InvalidNote, UnverifiedNote) as fault:
            raise UnusableSigner(
                f"`{self._last_word}` is not by a key of ours: {fault}; where an older key signed it, "
                "give that one too, or say that it is retired"
            ) from fault

    async def _refuse_what_we_did_not_sign(
        self, connection: DatabaseConnection, published: Signed | None, origin: str
    ) -> None:
        """Raise `LedgerFault` where what is published is not by a key of ours, or was removed. What
        the database has on record of keys counts for nothing here: who rules over it wrote that.
        """
        ours = self._ours()
        if published is not None:
            _refuse_what_none_signed(published, ours, origin)
            return
        on_record = {one.statement.key for one in await checkpoints.key_statements(connection)}
        if ours & on_record:
            # A key comes on record with the first checkpoint that it signs, or after it.
            raise LedgerFault(
                "our key is on record, and none of the checkpoints that it signed: they were removed"
            )

    async def _keep(self, signed: Signed) -> None:
        try:
            await asyncio.to_thread(self._last_word.keep, signed.note)
        except OSError as error:
            message = f"no checkpoint is signed, for `{self._last_word}` cannot be written: {error}"
            raise _NotKept(message) from error

    async def _due_statements(
        self, connection: DatabaseConnection, size: int
    ) -> dict[int, KeyOnRecord]:
        """What must be said on record, by its number there: which of our keys sign from *size* on, and
        which sign no more.

        What is said must be signed by a key that signs already, unless there never was one, or all
        that there were are retired by who gives us our keys.
        """
        said = list(await checkpoints.key_statements(connection))
        ever = {one.statement.key for one in said}
        signing = signing_keys(said)
        mine = {one.verifier: one for one in self._keys.sign}
        if ended := (ever - signing) & mine.keys():
            raise UnusableSigner(f"`{min(map(str, ended))}` has ended, and signs no more")
        vouching = [mine[key] for key in mine if key in signing]
        if not vouching and not signing <= self._keys.retired:
            raise UnusableSigner(
                f"none of the signing keys is on record; `{min(map(str, signing))}` is: give that "
                "one too, or say that it is retired"
            )
        new = [
            *(KeyStatement(key, True, size) for key in mine if key not in signing),
            *(KeyStatement(key, False, size) for key in signing if key in self._keys.retired),
        ]
        by = vouching or self._keys.sign
        return dict(enumerate((KeyOnRecord(one, one.signed(by)) for one in new), len(said)))

    async def _put_on_record(
        self, connection: DatabaseConnection, statements: Mapping[int, KeyOnRecord]
    ) -> None:
        for number, one in statements.items():
            await checkpoints.add_key_statement(connection, number, one)
            signs = "signs" if one.statement.signs else "has ended"
            _log.warning("`%s` %s", one.statement.key, signs)

    # --- witnesses -----------------------------------------------------------------------------

    def _ask_witnesses(self) -> None:
        """Ask each for its line under the last checkpoint, unless it is being asked already."""
        if self.signed is None or not self._keys.sign:
            return
        for witness in self._witnesses:
            asked = self._asked.get(witness)
            if self.cosigned.get(witness, -1) < self.signed.size and (not asked or asked.done()):
                work = self._ask(witness, self.signed)
                self._asked[witness] = asyncio.create_task(work, name=f"ask {witness.key.name}")

    async def _ask(self, witness: Witness, signed: Signed) -> None:
        try:
            await self._obtain(witness, signed)
        except (NoCosignature, Unavailable, LookupError) as error:
            self._say(witness, f"`{witness.key.name}` did not cosign: {error}")
        except Exception:  # noqa: BLE001 - a witness's trouble is never ours
            _log.exception("`%s` could not be asked", witness.key.name)
        else:
            self._trouble.pop(witness, None)

    async def _obtain(self, witness: Witness, signed: Signed) -> None:
        """Obtain the witness's line under the checkpoint, and publish it."""
        assert self._http is not None, "it is there where there are witnesses"
        if witness not in self.cosigned:
            async with self._store.reading() as connection:
                found = await checkpoints.last_cosigned(connection, witness.key)
            self.cosigned[witness] = min(found, signed.size)
        old = self.cosigned[witness]
        try:
            line = await witness.cosign(
                self._http, old, await self._proof(old, signed), signed.note
            )
        except OtherSize as other:
            if other.size > signed.size:
                # It may have been asked by another server of ours; or it remembers what we lost.
                raise
            line = await witness.cosign(
                self._http, other.size, await self._proof(other.size, signed), signed.note
            )
        async with self._store.working() as connection:
            await checkpoints.add_cosignature(connection, signed.size, witness.key, line)
        self.cosigned[witness] = signed.size

    async def _proof(self, old: int, signed: Signed) -> tuple[bytes, ...]:
        async with self._store.reading() as connection:
            return await tree.consistency_proof(connection, old, signed.size)


def signing_keys(said: Sequence[KeyOnRecord]) -> set[VerifierKey]:
    """The keys that sign now, as it is on record."""
    keys: set[VerifierKey] = set()
    for one in said:
        with contextlib.suppress(KeyError):
            (keys.add if one.statement.signs else keys.remove)(one.statement.key)
    return keys


def _said(signed: Signed | None) -> Checkpoint | None:
    return None if signed is None else read_checkpoint(signed.note.text)


async def _refuse_what_does_not_extend(
    connection: DatabaseConnection, head: Checkpoint, before: Checkpoint
) -> None:
    """Raise `LedgerFault` unless the ledger, whose head that is, extends a checkpoint."""
    if head == before:
        return
    if head.size < before.size:
        raise LedgerFault(
            f"a checkpoint of {before.size} entries was signed, and the ledger has {head.size}: it "
            "was put back, or another database answers"
        )
    try:
        proof = await tree.consistency_proof(connection, before.size, head.size)
        verify_consistency(before.size, before.root, head.size, head.root, proof)
    except (InvalidProof, LookupError) as fault:
        raise LedgerFault(
            f"the ledger does not extend the checkpoint of {before.size} entries that was signed: "
            f"{fault}"
        ) from fault


def _refuse_what_none_signed(published: Signed, keys: set[VerifierKey], origin: str) -> None:
    """Raise `LedgerFault` where a published checkpoint is by none of the keys."""
    try:
        verified_checkpoint(published.note, keys, origin=origin)
    except (InvalidNote, UnverifiedNote) as fault:
        message = f"the published checkpoint of {published.size} entries is not ours: {fault}"
        raise LedgerFault(message) from fault
