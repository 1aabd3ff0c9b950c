"""The one way into the ledger: group commit under a locked head.

What waited while the last batch committed is the next batch; there is no timer. One transaction
locks the head row, answers what was recorded before, checks that nothing has moved that a request
rests on, gives out indexes and the time, inserts everything, extends the Merkle tree, advances the
head, commits, and only then answers. So an index is gapless and in the order of commits, nobody is
answered before the record is durable and in the tree, and of an outcome that is not known nobody is
told that it is well.

READ COMMITTED is what makes the lock work: each statement after it sees all that was committed
before it was had. tests/storage/test_ledger.py pulls at every joint of this.
"""

import asyncio
import logging
from bisect import bisect, insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, Final

import asyncpg
from sqlalchemy import Table, UniqueConstraint, select
from sqlalchemy.dialects import postgresql

from app.canonical import sha256_hex
from app.errors import (
    AlreadyRecorded,
    Fault,
    IdempotencyKeyReused,
    InvalidDocument,
    Unauthenticated,
    Unavailable,
)
from app.ledger.entry import Kind, Position, entry_bytes
from app.ledger.merkle import EMPTY_ROOT, Frontier, leaf_hash
from app.storage import tables, tree
from app.storage.database import (
    NOT_REPLICATED,
    REPLICATED,
    UNREACHABLE,
    Database,
    is_trouble,
    seconds_left,
    skew,
)

MOST_WAITING: Final = 512
MOST_REQUESTS_A_BATCH: Final = 256
MOST_ENTRIES_A_BATCH: Final = 1000
MOST_DRAFTS: Final = 1000
DEADLINE_SECONDS: Final = 2.0
LEAST_SECONDS: Final = 1.0
LEAST_SECONDS_A_DRAFT: Final = 0.001
"""How long a request waits to be recorded, however much of its time is over by then."""
COMMIT_SECONDS: Final = 2.0
"""How long a COMMIT, which waits for a standby where there is one, may take after the deadline, by
which all who wait for it were told, before we hang up. The server goes on with it all the same.
"""

CLOCK_SLACK: Final = timedelta(seconds=1)
"""How far the database's clock may be behind the last entry's time before nothing is recorded."""

UNWRITABLE_SECONDS: Final = 10.0
"""How long it counts that the database took nothing, where nothing was asked of it since."""

_log: Final = logging.getLogger("aslgate.ledger")


# --- What is recorded --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PolicyVersionRow:
    """A policy version as it is found by name; `digest` is its identity."""

    policy: str
    version: str
    digest: str
    effective: datetime


@dataclass(frozen=True, slots=True)
class PolicyApprovalRow:
    """That somebody approves the version with that digest."""

    id: str
    policy: str
    digest: str
    by: str
    given_at: datetime


@dataclass(frozen=True, slots=True)
class PolicyActivationRow:
    """From when the version with that digest is in force, as against when that was said."""

    id: str
    policy: str
    digest: str
    in_force_from: datetime
    given_at: datetime


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A model version, `name@version`, who develops it, and which weights it is, where known."""

    model: str
    developer: str
    weights: str | None = None


@dataclass(frozen=True, slots=True)
class EvidenceRow:
    """A piece of evidence on a model; `policy` is `None` where it speaks to every policy.

    `speaks_for`: from when on what it says holds, as against when it was recorded.
    """

    id: str
    kind: str
    model: str
    policy: str | None
    speaks_for: datetime


@dataclass(frozen=True, slots=True)
class WithdrawalRow:
    """That a piece of evidence on `model` no longer counts."""

    id: str
    evidence_id: str
    model: str


@dataclass(frozen=True, slots=True)
class ExceptionApprovalRow:
    """That a caller approves, in a role, an exception on `model`."""

    id: str
    exception_id: str
    model: str
    role: str
    by: str
    given_at: datetime


@dataclass(frozen=True, slots=True)
class LiftingRow:
    """That an order on `model` no longer stands, from `lifted_at` on."""

    id: str
    order_id: str
    model: str
    lifted_at: datetime


@dataclass(frozen=True, slots=True)
class DeterminationRow:
    """An answer, as it is found by question.

    `at` is the instant that was asked about, not that of recording. `as_known`: asked for with what
    was known in the past, and so nobody's latest.
    """

    id: str
    model: str
    action: str
    policy: str
    policy_version: str | None
    policy_digest: str | None
    decision: str
    level: str | None
    at: datetime
    valid_until: datetime | None
    as_known: bool


@dataclass(frozen=True, slots=True)
class GateRow:
    """The strictest of the determinations that are recorded beside it."""

    id: str
    model: str
    action: str
    decision: str
    at: datetime
    valid_until: datetime | None


@dataclass(frozen=True, slots=True)
class FulfilmentRow:
    """That an obligation was fulfilled, as that determination had raised it."""

    id: str
    obligation_id: str
    determination_id: str
    model: str
    by: str
    done_at: datetime


@dataclass(frozen=True, slots=True)
class CredentialRow:
    """An API key as it is found by its id, or by the hash of its secret."""

    id: str
    principal: str
    secret_sha256: bytes = field(repr=False)
    created_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class RevocationRow:
    """That an API key opens nothing any more."""

    id: str
    credential: str
    revoked_at: datetime


def revocation_stream(actor: str) -> str:
    """The stream that is there from when on the credential of *actor* is revoked: nothing that it
    asks for is recorded after that, whoever believed it until then.
    """
    return f"revoked:{actor.rpartition('/')[2]}"


Row = (
    PolicyVersionRow
    | PolicyApprovalRow
    | PolicyActivationRow
    | ModelRow
    | EvidenceRow
    | WithdrawalRow
    | ExceptionApprovalRow
    | LiftingRow
    | DeterminationRow
    | GateRow
    | FulfilmentRow
    | CredentialRow
    | RevocationRow
)

TABLE_OF: Final[Mapping[type[Row], Table]] = {
    PolicyVersionRow: tables.policy_version,
    PolicyApprovalRow: tables.policy_approval,
    PolicyActivationRow: tables.policy_activation,
    ModelRow: tables.model_version,
    EvidenceRow: tables.evidence,
    WithdrawalRow: tables.withdrawal,
    ExceptionApprovalRow: tables.exception_approval,
    LiftingRow: tables.lifting,
    DeterminationRow: tables.determination,
    GateRow: tables.gate,
    FulfilmentRow: tables.fulfilment,
    CredentialRow: tables.credential,
    RevocationRow: tables.credential_revocation,
}


@dataclass(frozen=True, slots=True)
class Moment:
    """What a document learns under the lock: its place, and what stood there before.

    `index` is that of its entry, which is the size of the ledger that it saw. `at` is the server's
    time of recording, never before the last entry's. `previous` is, for a determination, the
    document of the latest earlier one on the same model, action and policy; `None`: there is none.
    """

    index: int
    at: datetime
    previous: bytes | None


@dataclass(frozen=True, slots=True)
class Draft:
    """One entry to be. `build` makes its document, and is called under the lock that every writer
    waits for: it must be quick and pure. What it raises fails its own request alone.
    """

    kind: Kind
    subject: str
    row: Row
    build: Callable[[Moment], bytes]


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A caller's key for a request, and the digest of that request."""

    credential: str
    key_sha256: bytes
    request_sha256: bytes


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recorded document, as the exact bytes that were hashed, and where it stands."""

    kind: Kind
    subject: str
    document: bytes
    position: Position


@dataclass(frozen=True, slots=True)
class Appended:
    """What a request recorded, in the order of its drafts. `replayed`: it had been before."""

    records: tuple[Recorded, ...]
    replayed: bool


@dataclass(eq=False)
class Stale(Exception):
    """Streams have moved that a request rests on: the caller decides again on what is there now."""

    moved: frozenset[str]

    def __str__(self) -> str:
        return f"{', '.join(sorted(self.moved))} moved meanwhile"


class LedgerFault(Exception):
    """What cannot be: an invariant does not hold, or our own code failed. Nothing was recorded."""


# --- The writer --------------------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class _Request:
    drafts: tuple[Draft, ...]
    actor: str
    rests_on: Mapping[str, int]
    touches: frozenset[str]
    key: IdempotencyKey | None
    answer: "asyncio.Future[Appended | Exception]"
    begun: bool = False
    abandoned: bool = False

    def settle(self, answer: Appended | Exception) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)


@dataclass(slots=True)
class _Batch:
    """One transaction's work: who is in it, and what each will be told once it has committed."""

    requests: list[_Request]
    answers: dict[_Request, Appended | Exception] = field(default_factory=dict)
    postponed: list[_Request] = field(default_factory=list)
    frontier: Frontier = field(default_factory=Frontier)
    committing: bool = False


class Ledger:
    """The ledger of one database. Several of these, in several processes, may write to it at once.

    `deadline_seconds`: how long a request may take that `append` is called for. For whoever watches:
    `size` is how many entries there are, as far as this one has seen; `batches` counts commits,
    `committed` the requests that were answered after one, of which `replayed`, `stale` and `refused`
    recorded nothing; `failed` counts transactions that did not commit, and `unknown` those of which
    that is not known; `halted` says why nothing may be recorded, `None` that it may.
    """

    def __init__(
        self,
        database: Database,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._database = database
        self._deadline = deadline_seconds
        self._most_waiting = most_waiting
        self._queue: dict[_Request, None] = {}
        self._wake = asyncio.Event()
        self._stopping = False
        self._writer: asyncio.Task[None] | None = None
        self._connection: Any = None
        self._warnings: list[str] = []
        self._log = ""
        self._root = EMPTY_ROOT
        self.size = 0
        self.batches = self.committed = self.replayed = self.stale = self.refused = 0
        self.failed = self.unknown = 0
        self.halted: str | None = None
        self._refusal: tuple[str, float] | None = None
        self._said: object = None

    @property
    def queued(self) -> int:
        """How many requests wait for the batch that is under way to end."""
        return len(self._queue)

    @property
    def log(self) -> str:
        """The ledger's name, which every entry holds."""
        return self._log

    def unwritable(self) -> str | None:
        """Why the database, which may well answer readers, took nothing when it was last asked to
        record something; `None`: it did, or that is too long ago to tell.
        """
        if self._refusal is not None:
            why, at = self._refusal
            if asyncio.get_running_loop().time() < at + UNWRITABLE_SECONDS:
                return why
        return None

    async def initialise(self, log: str) -> None:
        """Name the ledger, on its first start; from then on see that it has that name.

        Raises `LedgerFault` where it has another, `Unavailable` where the database is not there.
        """
        connection = await self._connected()
        try:
            named = await connection.fetchval(_NAME)
            # Only then: to find that there is one, an INSERT would wait for whoever advances it.
            if named is None:
                await connection.execute(
                    "INSERT INTO ledger_head (log, size, last_at, frontier, root) "
                    "VALUES ($1, 0, clock_timestamp(), '', $2) ON CONFLICT DO NOTHING",
                    log,
                    EMPTY_ROOT,
                )
                named = await connection.fetchval(_NAME)
        except UNREACHABLE as error:
            self._hang_up()
            raise Unavailable("database", "the database went away; ask again") from error
        if named != log:
            raise LedgerFault(
                f"this ledger is `{named}`, not `{log}`: a log never changes its name"
            )

    async def start(self) -> None:
        """See that the ledger is whole, and begin to write.

        Raises `LedgerFault` where it is not, `Unavailable` where the database is not there.
        """
        try:
            async with self._database.reading() as connection:
                head = await tree.head(connection)
                last = (await connection.execute(_LAST)).first()
                stored = await tree.stored_frontier(connection, 0 if head is None else head.size)
        except (tree.BrokenTree, LookupError) as error:
            raise LedgerFault(f"the ledger's head and its entries disagree: {error}") from error
        if head is None:
            raise LedgerFault("the ledger has no name yet: it is given on its first start")
        index, at = (-1, head.last_at) if last is None else last
        if head.size != index + 1:
            raise LedgerFault(
                f"the ledger's head says {head.size} entries, and its last one says {index + 1}"
            )
        if head.last_at != at:
            raise LedgerFault("the ledger's head and its last entry name different times")
        if head.frontier != stored or head.root != stored.root:
            raise LedgerFault("the ledger's head is not that of the tree over its entries")
        self._log, self.size, self._root = head.log, head.size, head.root
        self._writer = asyncio.create_task(self._write(), name="ledger-writer")

    async def close(self) -> None:
        """Record what waits, refuse what comes, and let the connection go."""
        self._stopping = True
        self._wake.set()
        if self._writer is not None:
            await self._writer
            self._writer = None
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.close(timeout=1)
            except (*UNREACHABLE, TimeoutError):
                connection.terminate()

    async def append(
        self,
        drafts: Sequence[Draft],
        *,
        actor: str,
        rests_on: Mapping[str, int],
        touches: Iterable[str],
        key: IdempotencyKey | None = None,
    ) -> Appended:
        """Record all of *drafts*, or none, in one durable commit with whatever else waits.

        `rests_on` names streams and the versions at which they were read; `touches` those that
        this moves. With a `key` that came before, what was recorded then is given back.

        Raises `Stale`, `IdempotencyKeyReused`, `AlreadyRecorded`, `InvalidDocument` (the database
        cannot hold it), `Unauthenticated` (the actor's credential is revoked), what a draft's
        `build` raised, and `Unavailable`: `queue-full`, `stopping`, `database`, `replica`, `clock`
        and `contention` (nothing was recorded), `outcome-unknown`.
        """
        if not 1 <= len(drafts) <= MOST_DRAFTS:
            raise ValueError(f"1 to {MOST_DRAFTS} drafts are recorded at once, not {len(drafts)}")
        if self.halted is not None:
            raise Unavailable("ledger", self.halted)
        if self._stopping or self._writer is None:
            raise Unavailable("stopping", "this server is stopping; ask another, or again")
        if len(self._queue) >= self._most_waiting:
            raise Unavailable("queue-full", "too many requests wait already; ask again")
        answer: asyncio.Future[Appended | Exception] = asyncio.get_running_loop().create_future()
        request = _Request(tuple(drafts), actor, dict(rests_on), frozenset(touches), key, answer)
        self._queue[request] = None
        self._wake.set()
        try:
            # Waiting in this way cancels nothing: a batch that is under way ends as it will.
            least = min(LEAST_SECONDS + LEAST_SECONDS_A_DRAFT * len(drafts), self._deadline)
            left = seconds_left(self._deadline, least=least)
            await asyncio.wait((answer,), timeout=left)
        finally:
            request.abandoned = not answer.done()
            self._queue.pop(request, None)
        if not answer.done():
            raise _outcome_unknown() if request.begun else _too_slow()
        answered = answer.result()
        if isinstance(answered, Exception):
            raise answered
        return answered

    async def _write(self) -> None:
        """Batch after batch, until closed. Nothing that a batch does ends this."""
        while self._queue or not self._stopping:
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
                continue
            try:
                await self._connected()
            except Exception as error:  # noqa: BLE001 - whatever it is, they are told, and we go on
                self._notice(error)
                told, self._queue = self._queue, {}
                for request in told:
                    request.settle(_told(error))
                continue
            await self._record(self._taken(MOST_REQUESTS_A_BATCH))

    def _taken(self, most: int) -> list[_Request]:
        """The next requests, out of the queue. One request is always taken, however large."""
        taken: list[_Request] = []
        entries = 0
        for request in self._queue:
            entries += len(request.drafts)
            if taken and (len(taken) == most or entries > MOST_ENTRIES_A_BATCH):
                break
            taken.append(request)
        for request in taken:
            del self._queue[request]
        return taken

    async def _record(self, requests: list[_Request]) -> None:
        """Record these in one transaction; where the database refuses one, in smaller ones.

        Halving finds the guilty one among 256 in some sixteen transactions.
        """
        batch = _Batch([request for request in requests if not request.abandoned])
        if not batch.requests:
            return
        for request in batch.requests:
            request.begun = True
        try:
            await self._within_time(batch)
        except _RefusedData as refused:
            self.failed += 1
            if len(batch.requests) > 1:
                middle = len(batch.requests) // 2
                await self._record(batch.requests[:middle])
                await self._record(batch.requests[middle:])
                return
            self.refused += 1
            batch.requests[0].settle(refused.told(batch.requests[0]))
        except Exception as error:  # noqa: BLE001 - the writer survives anything
            self._hang_up()
            self._notice(error)
            self.failed += not batch.committing
            self.unknown += batch.committing
            for request in batch.requests:
                request.settle(_outcome_unknown() if batch.committing else _told(error))
        else:
            self._settle(batch)

    def _settle(self, batch: _Batch) -> None:
        """The batch is durable: answer, and put those that must wait for it before the others."""
        if batch.frontier.size > self.size:
            self._notice(None)
        self.size, self._root = batch.frontier.size, batch.frontier.root
        self.batches += 1
        self.committed += len(batch.requests) - len(batch.postponed)
        for request, answer in batch.answers.items():
            if isinstance(answer, Appended):
                self.replayed += answer.replayed
            elif isinstance(answer, Stale):
                self.stale += 1
            else:
                self.refused += 1
            request.settle(answer)
        if batch.postponed:
            for request in batch.postponed:
                request.begun = False
            again = [request for request in batch.postponed if not request.abandoned]
            self._queue = dict.fromkeys([*again, *self._queue])

    def _notice(self, error: Exception | None) -> None:
        """Remember, and log, why nothing can be recorded: once, until something else is the matter or
        (`None`) it is recorded again.
        """
        self._refusal = None
        if isinstance(error, _CANNOT_WRITE):
            said = [type(error).__name__, getattr(error, "sqlstate", None)]
            why = f"the database takes no records ({', '.join(filter(None, said))})"
            self._refusal = (why, asyncio.get_running_loop().time())
        # Not by its words: they name another file each time.
        matter = error and (type(error), getattr(error, "sqlstate", None))
        if matter == self._said or isinstance(error, asyncpg.LockNotAvailableError):
            return
        self._said = matter
        if error is None:
            _log.warning("the ledger records again")
        else:
            cause = f" ({error.__cause__})" if error.__cause__ else ""
            _log.error("the ledger does not record: %s%s", error, cause)

    async def _within_time(self, batch: _Batch) -> None:
        """Run the transaction, and hang up on a database that does not answer.

        A COMMIT is never cancelled: a cancelled wait for a standby looks like success. Closing the
        connection leaves the outcome open, and says so.
        """
        transaction = asyncio.create_task(self._transaction(await self._connected(), batch))
        await asyncio.wait((transaction,), timeout=self._deadline)
        if not transaction.done() and batch.committing:
            await asyncio.wait((transaction,), timeout=COMMIT_SECONDS)
        if not transaction.done():
            self._hang_up()
            await asyncio.wait((transaction,), timeout=1)
            if not transaction.done():
                transaction.cancel()
                raise TimeoutError("the database does not answer")
            # Not that we hung up, as the driver says then, but why.
            if isinstance(error := transaction.exception(), UNREACHABLE):
                raise TimeoutError("the database does not answer") from error
        transaction.result()

    async def _connected(self) -> Any:
        if self._connection is not None and self._connection.is_closed():
            self._hang_up()
        if self._connection is None:
            connection = await self._database.connect()
            connection.add_log_listener(self._hear)
            self._connection = connection
        return self._connection

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    def _hear(self, _connection: object, message: Any) -> None:
        """Asyncpg calls this for what the server says aside, before it gives the result."""
        if message.severity_en == "WARNING" or message.sqlstate == "01000":
            self._warnings.append(str(message))

    # --- One transaction -----------------------------------------------------------------------

    async def _transaction(self, connection: Any, batch: _Batch) -> None:
        """All of a batch, up to and including its COMMIT.

        1. Lock the head, also for replays: they too must wait for what a standby has not yet.
        2. Read what the requests' keys recorded before, the streams, the previous determinations.
        3. Settle each request in turn: replayed, refused, stale, postponed, or built.
        4. Insert, extend the tree, advance the head, commit.
        """
        try:
            await connection.execute("BEGIN; SELECT FROM ledger_head FOR UPDATE")  # (1)
            asked = datetime.now(UTC)
            head = await connection.fetchrow(_HEAD)
            frontier = self._checked(head, asked, datetime.now(UTC))
            pages = _Pages(self._log, batch, frontier, max(head["last_at"], head["now"]))
            await pages.read(connection)  # (2)
            for request in batch.requests:  # (3)
                pages.settle(request)
            batch.frontier = await pages.insert(connection)  # (4)
        except asyncpg.PostgresError as error:
            if (error.sqlstate or "")[:2] not in ("22", "23", "54"):
                raise
            await connection.execute("ROLLBACK")
            raise _RefusedData(error) from error
        self._warnings.clear()
        batch.committing = True
        done = await connection.execute("COMMIT")
        if done != "COMMIT" or self._warnings:
            raise LedgerFault(f"COMMIT answered {done} {self._warnings}")

    def _checked(self, head: Any, asked: datetime, answered: datetime) -> Frontier:
        """The tree of the head that was locked, after seeing that it follows what was there, and that
        its clock, which said so between those times of ours, is right.
        """
        if head is None or head["size"] < self.size:
            raise LedgerFault(
                f"the ledger had {self.size} entries, and now has fewer: it was put back, or "
                "another server answers; nothing is recorded until someone has looked"
            )
        frontier = Frontier.from_bytes(head["size"], head["frontier"])
        if frontier.root != head["root"]:
            raise LedgerFault("the ledger's head does not agree with itself on the tree's root")
        if frontier.size == self.size and frontier.root != self._root:
            raise LedgerFault(
                f"the ledger of {self.size} entries had another root: its past was rewritten, or "
                "another server answers; nothing is recorded until someone has looked"
            )
        if head["now"] < head["last_at"] - CLOCK_SLACK:
            raise Unavailable("clock", "the database's clock is behind its last entry's time")
        if (why := skew(head["now"], asked, answered)) is not None:
            raise Unavailable("clock", why)
        if self._database.require_replica and not head["replicated"]:
            raise Unavailable("replica", NOT_REPLICATED)
        return frontier


class _RefusedData(Exception):
    """The database refuses the data of one of a batch's requests."""

    def __init__(self, error: asyncpg.PostgresError) -> None:
        super().__init__(str(error))
        self.error = error

    def told(self, request: _Request) -> Exception:
        """What the guilty one is told: its name is taken, its data cannot be held, or our fault."""
        if self.error.sqlstate == "23505" and self.error.constraint_name not in _PLACES:
            # `Key (subject)=(asm_…) already exists.`
            named = [d for d in request.drafts if f"({d.subject})" in (self.error.detail or "")]
            guilty = (named or request.drafts)[0]
            message = f"another has its {_columns(self.error.constraint_name)}"
            return AlreadyRecorded(guilty.kind.value, guilty.subject, message)
        if (self.error.sqlstate or "")[:2] in ("22", "54"):
            message = "holds text or a number that cannot be stored"
            return InvalidDocument((Fault("", "not-storable", message),))
        fault = LedgerFault(f"the database refuses a record of ours: {self.error}")
        fault.__cause__ = self.error
        return fault


class _Pages:
    """The pages that one transaction adds: what was read under the lock, and what will stand there.

    `size` grows as requests are settled, and is the index of the next entry.
    """

    def __init__(self, log: str, batch: _Batch, frontier: Frontier, at: datetime) -> None:
        self.size = frontier.size
        self._log = log
        self._batch = batch
        self._frontier = frontier
        self._at = at
        self._replays: dict[tuple[str, bytes], tuple[bytes, tuple[Recorded, ...]]] = {}
        self._streams: dict[str, int] = {}
        self._touched: dict[str, int] = {}
        self._keys_used: dict[tuple[str, bytes], tuple[Any, ...]] = {}
        # By question, in the order of (at, index): those of this batch, and of the past ones that
        # any of its requests comes after.
        self._previous: dict[tuple[str, str, str], list[tuple[datetime, int, bytes]]] = {}
        self._leaves: list[bytes] = []
        self._rows: dict[Table, list[tuple[Any, ...]]] = defaultdict(list)

    async def read(self, connection: Any) -> None:
        """Everything that settling will ask about."""
        requests = self._batch.requests
        if keys := {_key(r.key) for r in requests if r.key is not None}:
            await self._read_replays(connection, keys)
        names = {name for r in requests for name in r.rests_on}
        names |= {revocation_stream(r.actor) for r in requests}
        found = await connection.fetch(
            "SELECT name, version FROM stream WHERE name = ANY($1)", list(names)
        )
        self._streams = {row["name"]: row["version"] for row in found}
        asked = {
            (d.row.model, d.row.action, d.row.policy, d.row.at)
            for r in requests
            for d in r.drafts
            if isinstance(d.row, DeterminationRow)
        }
        if asked:
            await self._read_previous(connection, asked)

    async def _read_replays(self, connection: Any, keys: set[tuple[str, bytes]]) -> None:
        used = await connection.fetch(_USED_KEYS, *zip(*keys, strict=True))
        if not used:
            return
        # By number, one by one: a join over ranges would be planned as a walk through the ledger.
        wanted = [index for row in used for index in _span(row)]
        found = await connection.fetch(_RECORDS, wanted)
        records = {row["index"]: recorded(row) for row in found}
        for row in used:
            key = (row["credential"], row["key_sha256"])
            answer = tuple(records[index] for index in _span(row))
            self._replays[key] = (row["request_sha256"], answer)

    async def _read_previous(
        self, connection: Any, asked: set[tuple[str, str, str, datetime]]
    ) -> None:
        found = await connection.fetch(_PREVIOUS, *zip(*asked, strict=True))
        for row in found:
            question = (row["model"], row["action"], row["policy"])
            if row["document"] is not None:
                answers = self._previous.setdefault(question, [])
                insort(answers, (row["at"], row["index"], row["document"]))

    def settle(self, request: _Request) -> None:
        """Say what *request* will be told once this has committed, or that it must wait."""
        answers = self._batch.answers
        revocation = revocation_stream(request.actor)
        if revocation in self._streams:
            answers[request] = Unauthenticated("revoked", request.actor)
            return
        if revocation in self._touched:
            self._batch.postponed.append(request)
            return
        if request.key is not None:
            key = _key(request.key)
            if (replay := self._replays.get(key)) is not None:
                same = replay[0] == request.key.request_sha256
                answers[request] = Appended(replay[1], True) if same else IdempotencyKeyReused()
                return
            if key in self._keys_used:
                self._batch.postponed.append(request)
                return
        moved = {n for n, v in request.rests_on.items() if self._streams.get(n, 0) != v}
        if moved:
            answers[request] = Stale(frozenset(moved))
        elif self._touched.keys() & request.rests_on.keys():
            # It moves with this batch, which may still fail: decide again when it has not.
            self._batch.postponed.append(request)
        else:
            try:
                built = self._built(request)
            except Exception as error:  # noqa: BLE001 - whatever a draft raises is its caller's
                answers[request] = error
            else:
                self._take(request, built)

    def _built(self, request: _Request) -> list[tuple[Recorded, bytes]]:
        """Each draft's record and entry. Nothing of it counts before all of them are built."""
        try:
            return [
                self._record(request, index, draft)
                for index, draft in enumerate(request.drafts, self.size)
            ]
        except Exception:
            for answers in self._previous.values():
                answers[:] = [answer for answer in answers if answer[1] < self.size]
            raise

    def _record(self, request: _Request, index: int, draft: Draft) -> tuple[Recorded, bytes]:
        document = draft.build(Moment(index, self._at, self._latest(draft.row)))
        if not isinstance(document, bytes):
            raise TypeError(f"a document is bytes, not {type(document).__name__}")
        entry = entry_bytes(
            log=self._log,
            index=index,
            kind=draft.kind,
            subject=draft.subject,
            document=document,
            actor=request.actor,
            at=self._at,
        )
        if isinstance(draft.row, DeterminationRow) and not draft.row.as_known:
            answers = self._previous.setdefault(_question(draft.row), [])
            insort(answers, (draft.row.at, index, document))
        position = Position(index, leaf_hash(entry).hex(), self._at)
        return Recorded(draft.kind, draft.subject, document, position), entry

    def _latest(self, row: Row) -> bytes | None:
        if not isinstance(row, DeterminationRow):
            return None
        answers = self._previous.get(_question(row), [])
        place = bisect(answers, row.at, key=lambda answer: answer[0])
        return answers[place - 1][2] if place else None

    def _take(self, request: _Request, built: list[tuple[Recorded, bytes]]) -> None:
        first = self.size
        for draft, (record, entry) in zip(request.drafts, built, strict=True):
            position = record.position
            leaf = bytes.fromhex(position.leaf_hash)
            self._leaves.append(leaf)
            self._rows[tables.ledger_entry].append(
                (
                    position.index,
                    draft.kind.value,
                    draft.subject,
                    request.actor,
                    self._at,
                    entry,
                    leaf,
                    record.document,
                    bytes.fromhex(sha256_hex(record.document)),
                )
            )
            table = TABLE_OF[type(draft.row)]
            self._rows[table].append((position.index, *_VALUES[type(draft.row)](draft.row)))
        self.size += len(built)
        self._touched.update(dict.fromkeys(request.touches, self.size))
        if request.key is not None:
            key = request.key
            row = (key.credential, key.key_sha256, key.request_sha256, first, len(built))
            self._keys_used[_key(key)] = row
            self._rows[tables.idempotency].append(row)
        self._batch.answers[request] = Appended(tuple(record for record, _ in built), False)

    async def insert(self, connection: Any) -> Frontier:
        """Write it all down, one statement a table, and the head at the end; what the tree is then."""
        if self.size == self._frontier.size:
            return self._frontier
        grown, completed = self._frontier.extended(self._leaves)
        tiles = await tree.grown_tiles(connection, self._frontier.size, grown.size, completed)
        self._rows[tables.ledger_tile].extend(tiles)
        for table, statement in _INSERTS.items():
            if rows := self._rows.get(table):
                done = await connection.execute(statement, *zip(*rows, strict=True))
                _assert_done(done, f"INSERT 0 {len(rows)}")
        if self._touched:
            done = await connection.execute(
                _TOUCH, list(self._touched), list(self._touched.values())
            )
            _assert_done(done, f"INSERT 0 {len(self._touched)}")
        done = await connection.execute(
            "UPDATE ledger_head SET size = $1, last_at = $2, frontier = $3, root = $4 "
            "WHERE size = $5",
            grown.size,
            self._at,
            bytes(grown),
            grown.root,
            self._frontier.size,
        )
        _assert_done(done, "UPDATE 1")
        return grown


# --- Statements and small words ----------------------------------------------------------------


def _insert(table: Table) -> str:
    """Insert any number of rows by one array a column: one plan, one round trip."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    names = ", ".join(column.name for column in table.columns)
    arrays = ", ".join(
        f"${i}::{column.type.compile(dialect)}[]" for i, column in enumerate(table.columns, 1)
    )
    return f"INSERT INTO {table.name} ({names}) SELECT * FROM unnest({arrays})"  # noqa: S608


# The order matters: others refer to an entry, approvals and activations to a policy version, and
# withdrawals, approvals and liftings to a piece of evidence.
_INSERTS: Final[Mapping[Table, str]] = {
    table: _insert(table)
    for table in (tables.ledger_entry, tables.ledger_tile, *tables.FILED, tables.idempotency)
}

_VALUES: Final = {row: attrgetter(*(named.name for named in fields(row))) for row in TABLE_OF}

# Who finds one of these taken did not choose it: the head gave it out.
_PLACES: Final = frozenset({"ledger_entry_pkey", "ledger_tile_pkey"})

_NAME: Final = "SELECT log FROM ledger_head"

_HEAD: Final = f"""
    SELECT size, frontier, root, last_at, clock_timestamp() AS now, {REPLICATED} AS replicated
    FROM ledger_head
"""  # noqa: S608

# What a server says that answers and cannot write: no room, its disk fails, it is a standby. Or it
# says nothing, for a COMMIT waits for a standby that is gone, and then whoever comes for that COMMIT.
_CANNOT_WRITE: Final = (
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.InternalServerError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.LockNotAvailableError,
    TimeoutError,
)

_LAST: Final = (
    select(tables.ledger_entry.c.index, tables.ledger_entry.c.at)
    .order_by(tables.ledger_entry.c.index.desc())
    .limit(1)
)

_TOUCH: Final = """
    INSERT INTO stream (name, version) SELECT * FROM unnest($1::text[], $2::bigint[])
    ON CONFLICT (name) DO UPDATE SET version = excluded.version
"""

_USED_KEYS: Final = """
    SELECT i.* FROM unnest($1::text[], $2::bytea[]) AS asked (credential, key_sha256)
    JOIN idempotency i USING (credential, key_sha256)
"""

_RECORDS: Final = """
    SELECT index, kind, subject, document, leaf_hash, at FROM ledger_entry
    WHERE index = ANY($1::bigint[])
"""

# A document that answers for several is sent once.
_PREVIOUS: Final = """
    SELECT asked.model, asked.action, asked.policy, latest.at, latest.index,
           CASE WHEN row_number() OVER (PARTITION BY latest.index) = 1 THEN e.document END
               AS document
    FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[])
        AS asked (model, action, policy, at)
    CROSS JOIN LATERAL (
        SELECT d.at, d.index FROM determination d
        WHERE d.model = asked.model AND d.action = asked.action AND d.policy = asked.policy
            AND NOT d.as_known AND d.at <= asked.at
        ORDER BY d.at DESC, d.index DESC LIMIT 1
    ) latest
    JOIN ledger_entry e ON e.index = latest.index
"""


def recorded(row: Any) -> Recorded:
    """The record of a row that has `kind`, `subject`, `document`, `index`, `leaf_hash`, `at`."""
    position = Position(row["index"], row["leaf_hash"].hex(), row["at"])
    return Recorded(Kind(row["kind"]), row["subject"], row["document"], position)


def _key(key: IdempotencyKey) -> tuple[str, bytes]:
    return key.credential, key.key_sha256


def _question(row: DeterminationRow) -> tuple[str, str, str]:
    return row.model, row.action, row.policy


def _span(row: Any) -> range:
    return range(row["index"], row["index"] + row["count"])


def _columns(constraint: str | None) -> str:
    """What must be unique, in words, from the name of the constraint that says so."""
    for table in (tables.ledger_entry, *TABLE_OF.values()):
        for rule in table.constraints:
            if isinstance(rule, UniqueConstraint) and rule.name == constraint:
                return " and ".join(column.name for column in rule.columns)
    return "name"


def _assert_done(done: str, expected: str) -> None:
    if done != expected:
        raise LedgerFault(f"the database says `{done}`, not `{expected}`")


def _told(error: Exception) -> Exception:
    """What one request of a transaction is told that did not get as far as its COMMIT.

    A new exception for each, for Python writes into an exception that is raised.
    """
    if isinstance(error, Unavailable):
        told: Exception = Unavailable(error.reason, error.message)
    elif isinstance(error, asyncpg.LockNotAvailableError):
        told = Unavailable("contention", "others hold the ledger; ask again")
    elif is_trouble(error):
        told = Unavailable("database", "the database does not answer now; nothing was recorded")
    else:
        told = LedgerFault(f"nothing was recorded: {error}")
    told.__cause__ = error
    return told


def _outcome_unknown() -> Unavailable:
    return Unavailable(
        "outcome-unknown",
        "it is not known whether this was recorded; ask again with the same Idempotency-Key",
    )


def _too_slow() -> Unavailable:
    return Unavailable("database", "the database did not answer in time; nothing was recorded")
