"""Obligations: list what determinations oblige somebody to do, by due, and record that it was done.

Finding them is on no request's way. One task of each process follows the ledger, as shadows do, and
keeps what determinations raised; of several processes whoever comes first goes on. So an obligation
is there about a second after the determination that raised it, and each answer says how far they
were read.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import orjson

from app.assessment.fulfilments import Fulfilment, GivenFulfilment
from app.canonical import canonical_json
from app.determination.obligations import Raised, obligations_of, raised_by
from app.errors import AlreadyRecorded, InvalidDocument, NotFound, Refusal
from app.ledger.entry import Kind
from app.operations.context import NO_VERSION, Context, new_id
from app.operations.following import IDLE_SECONDS, PAGE_PAUSE_SECONDS, SHARE, follow
from app.operations.record_evidence import in_the_future
from app.policy.version import Obligation
from app.storage import obligations, records
from app.storage.ledger import Appended, Draft, FulfilmentRow, Stale
from app.storage.obligations import Answered, Followed, Place, Standing
from app.storage.store import Store, model_stream
from app.vocabulary import Document, Instant

PAGE: Final = 64
"""How many determinations are read at once; what they raised is kept at once."""

COUNT_SECONDS: Final = 10.0
"""How often it is counted at least how many are overdue: time alone makes them so."""

_log: Final = logging.getLogger("aslgate.obligations")


# --- What can be asked -------------------------------------------------------------------------


class RaisedBy(Document):
    """The determination that raised an obligation, its place in the ledger, and what it was about."""

    determination: str
    index: int
    version: str
    at: Instant


class FulfilledBy(Document):
    """The record that an obligation was fulfilled, who made it, and when."""

    id: str
    by: str
    done_at: Instant
    recorded_at: Instant


class ObligationStatus(Document):
    """An obligation, and how it stands now.

    `name` and `pointer` are those of the policy version; `by` is the policy role that must do it.
    `due` is `null` where no clock runs, and where it is due when the action is taken
    (`before_action`).
    """

    id: str
    name: str
    model: str
    policy: str
    pointer: str
    clause: str
    statement: str
    by: str | None
    before_action: bool
    due: Instant | None
    status: Literal["open", "overdue", "fulfilled"]
    overdue_since: Instant | None
    raised_by: RaisedBy
    fulfilled_by: FulfilledBy | None


class ObligationRead(ObligationStatus):
    """One obligation. Determinations were read for it up to ledger index `as_of`, and there are
    `behind` entries more.
    """

    as_of: int
    behind: int


@dataclass(frozen=True, slots=True)
class Obligations:
    """Some obligations by due, where the page ended if there are more, and how far they were read."""

    listed: tuple[ObligationStatus, ...]
    next: Place | None
    as_of: int
    behind: int


async def list_obligations(
    context: Context,
    *,
    model: str | None,
    policy: str | None,
    standing: Standing | None,
    due_before: datetime | None,
    after: Place | None,
    limit: int,
) -> Obligations:
    """The first *limit* that fit, after that place in the order of their dues."""
    async with context.store.reading() as connection:
        size = await records.ledger_size(connection)
        as_of = await obligations.position(connection)
        found = await obligations.by_due(
            connection,
            now=context.now,
            model=model,
            policy=policy,
            standing=standing,
            due_before=due_before,
            after=after,
            limit=limit + 1,
        )
    page = found[:limit]
    last = page[-1].raised if len(found) > limit else None
    return Obligations(
        tuple(_status(one, context.now) for one in page),
        None if last is None else Place(last.due, last.id),
        as_of,
        size - as_of,
    )


async def read_obligation(context: Context, id: str) -> ObligationRead:
    """The obligation with that id. Raises `NotFound`."""
    async with context.store.reading() as connection:
        size = await records.ledger_size(connection)
        as_of = await obligations.position(connection)
        found = await obligations.followed(connection, id)
    if found is None:
        raise NotFound("obligation", id)
    said = dict(_status(found, context.now))
    return ObligationRead(**said, as_of=as_of, behind=size - as_of)


async def fulfil_obligation(context: Context, id: str, fulfilment: Fulfilment) -> Appended:
    """Record that the obligation was fulfilled, as it was raised last.

    Raises `NotFound`, `RoleNotHeld` where the policy says who fulfils it and the caller is not that,
    `AlreadyRecorded` where it was fulfilled since it was last raised, and `InvalidDocument` where it
    is to be done in the future.
    """
    async with context.store.reading() as connection:
        found = await obligations.followed(connection, id)
    if found is None:
        raise NotFound("obligation", id)
    done_at = fulfilment.done_at or context.now
    faults = in_the_future(context, "done_at", done_at)
    if found.raised.by is not None:
        context.refuse_unheld((found.raised.by,))
    refused: Refusal | None = None
    if found.fulfilled is not None:
        refused = AlreadyRecorded("fulfilment of", id, "it was fulfilled since it was last raised")
    elif faults:
        refused = InvalidDocument(tuple(faults))
    if refused is not None and context.key is None:
        raise refused
    stream = model_stream(found.raised.model)
    await context.store.gates.passed(stream)
    try:
        return await context.store.ledger.append(
            [_draft(context, found.raised, fulfilment, done_at)],
            actor=context.actor,
            # What is refused now may have been recorded when its key first came. Of two at once one
            # is refused by its row, which names the obligation and what raised it.
            rests_on={} if refused is None else {"": NO_VERSION},
            # Answers by a version that makes it binding rest on it.
            touches=(stream,),
            key=context.key,
        )
    except Stale:
        assert refused is not None, "without a refusal it rests on nothing that moves"
        raise refused from None


def _draft(context: Context, raised: Raised, fulfilment: Fulfilment, done_at: datetime) -> Draft:
    own = new_id("ful")
    given = GivenFulfilment(
        reason=fulfilment.reason,
        sources=fulfilment.sources,
        done_at=done_at,
        obligation=raised.id,
        name=raised.name,
        pointer=raised.pointer,
        model=raised.model,
        policy=raised.policy,
        determination=raised.determination,
        due=raised.due,
        by=context.actor,
    )
    document = canonical_json({"id": own, **given.model_dump(mode="json")})
    row = FulfilmentRow(own, raised.id, raised.determination, raised.model, context.actor, done_at)
    return Draft(Kind.FULFILMENT, own, row, lambda _: document)


def _status(one: Followed, now: datetime) -> ObligationStatus:
    raised, fulfilled, standing = one.raised, one.fulfilled, one.standing(now)
    return ObligationStatus.model_validate(
        {
            "id": raised.id,
            "name": raised.name,
            "model": raised.model,
            "policy": raised.policy,
            "pointer": raised.pointer,
            "clause": raised.clause,
            "statement": raised.statement,
            "by": raised.by,
            "before_action": raised.before_action,
            "due": raised.due,
            "status": standing.value,
            "overdue_since": raised.due if standing is Standing.OVERDUE else None,
            "raised_by": RaisedBy(
                determination=raised.determination,
                index=raised.index,
                version=raised.version,
                at=one.raised_at,
            ),
            "fulfilled_by": None
            if fulfilled is None
            else FulfilledBy(
                id=fulfilled.id,
                by=fulfilled.by,
                done_at=fulfilled.done_at,
                recorded_at=fulfilled.at,
            ),
        }
    )


# --- The work ----------------------------------------------------------------------------------


class ObligationFollower:
    """Finds what determinations raised, as far as this process does it. One task runs it.

    For whoever watches: how many are `open` and `overdue`, and how many entries of the ledger it is
    `behind`, as last seen.
    """

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock
        self._asked: dict[str, Mapping[str, Obligation]] = {}
        self._counted_at: float | None = None
        self.open = 0
        self.overdue = 0
        self.behind = 0

    async def run(self) -> None:
        """Go on until cancelled. Nothing that goes wrong ends this; a database is given time."""
        pause = PAGE_PAUSE_SECONDS
        await follow(self.turn, _log, "obligations", idle=IDLE_SECONDS, pause=pause)

    async def turn(self) -> bool:
        """Read the next determinations. Whether there is more to read at once."""
        async with self._store.reading() as connection:
            size = await records.ledger_size(connection)
            first = await obligations.position(connection)
            asked = await obligations.determinations_about_now(
                connection, first=first, before=size, limit=PAGE
            )
        self.behind = size - first
        if first == size:
            await self._count(anew=False)
            return False
        more = len(asked) == PAGE
        end = asked[-1].record.position.index + 1 if more else size
        for one in asked:
            await self._learn(one)
        raised, spent = await asyncio.to_thread(self._found, asked)
        async with self._store.working() as connection:
            changed = await obligations.advance(connection, first, end, raised)
        if changed is not None:
            self.behind = size - end
        await self._count(anew=bool(changed))
        await asyncio.sleep(spent * (1 / SHARE - 1))
        # Where another process is at it, this one stands aside for a while.
        return more and changed is not None

    async def _learn(self, one: Answered) -> None:
        """See that the version that answered is known here, if it is recorded."""
        if one.digest is not None and one.digest not in self._asked:
            known = await self._store.policies(one.policy)
            self._asked |= {each.digest: obligations_of(each.version) for each in known.versions}

    def _found(self, asked: Sequence[Answered]) -> tuple[Sequence[Raised], float]:
        """What they raised, and how many seconds of a core it took to find. Of what cannot be read
        nothing, which is logged: else it would keep all that come after it.
        """
        begun = time.thread_time()
        found: list[Raised] = []
        for one in asked:
            asks = self._asked.get(one.digest or "", {})
            try:
                document = orjson.loads(one.record.document)
                found += list(raised_by(document, one.record.position.index, asks))
            except (LookupError, TypeError, ValueError, AttributeError):
                _log.exception("the obligations of %s cannot be read", one.record.subject)
        return found, time.thread_time() - begun

    async def _count(self, *, anew: bool) -> None:
        now = time.monotonic()
        if anew or self._counted_at is None or now - self._counted_at >= COUNT_SECONDS:
            async with self._store.reading() as connection:
                self.open, self.overdue = await obligations.count(connection, self._clock())
            self._counted_at = now
