"""Determine: decide on what is recorded, and record the answer before it is given."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from app.decoding import pointer
from app.determination.decide import Question, decide
from app.determination.record import (
    ENGINE_VERSION,
    SEMANTICS,
    Determination,
    Engine,
    EvidenceNamed,
    PolicyNamed,
    Provenance,
    determination_document,
)
from app.errors import DeterminationSuperseded, Fault, InvalidDocument, Unavailable
from app.ledger.entry import Kind
from app.operations.context import ATTEMPTS, Context, new_id
from app.policy.timeline import PolicyInForce, in_force_at
from app.storage.ledger import Appended, DeterminationRow, Draft, Moment, Stale
from app.storage.store import Snapshot
from app.vocabulary import Document, Instant, Integer, ModelRef, Slug, read_instant

MOST_EVIDENCE_NAMED: Final = 100_000
"""How many pieces of evidence all answers of a request may name together: some ten megabytes."""


class Asked(Document):
    """May this action go ahead on this model version, under this policy?

    `at` asks for an instant in the past, `known_at` for what was known when the ledger had that
    size. Without them it is asked for now, with all that is known.
    """

    model: ModelRef
    action: Slug
    policy: Slug
    at: Instant | None = None
    known_at: Integer | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """A determination that is ready to be recorded."""

    asked: Asked
    at: datetime
    snapshot: Snapshot
    policy: PolicyInForce | None
    determination: Determination


async def determine(
    context: Context, asked: Sequence[Asked], *, listed_under: str | None = None
) -> Appended:
    """Decide each of *asked*, and record all answers in one durable commit, in that order.

    `listed_under` is what the caller's document calls the list of questions; `None`: it is the one
    question itself. Unknown names are recorded denials. Raises `InvalidDocument` for an instant or a
    ledger size that lies in the future, `DeterminationSuperseded` where the idempotency key's
    recorded answer no longer answers, `Unavailable` where it cannot be recorded now.
    """
    await _refuse_the_future(context, asked, listed_under)
    moving: frozenset[str] = frozenset()
    for _ in range(1 + ATTEMPTS):
        # Once it had to be decided anew, new evidence waits until it is.
        async with context.store.gates.held(moving):
            try:
                appended = await _decide_and_record(context, asked, listed_under)
            except Stale as stale:
                moving |= stale.moved
                context.store.forget(stale.moved)
                context = context.renewed()
                continue
        if appended.replayed:
            await refuse_superseded(context, appended)
        return appended
    raise Unavailable("contention", "the evidence is moving; ask again")


async def _decide_and_record(
    context: Context, asked: Sequence[Asked], listed_under: str | None
) -> Appended:
    decided = await _decide_all(context, asked)
    refuse_too_much(decided, "" if listed_under is None else pointer(listed_under))
    return await context.store.ledger.append(
        [draft_of(context, one) for one in decided],
        actor=context.actor,
        rests_on=_rests_on(decided),
        touches=(),
        key=context.key,
    )


def refuse_too_much(decided: Sequence[Decided], place: str = "") -> None:
    """Raise `InvalidDocument` where the answers would name more evidence than one commit may."""
    if sum(one.snapshot.evidence.count for one in decided) > MOST_EVIDENCE_NAMED:
        message = f"these rest on more than {MOST_EVIDENCE_NAMED} pieces of evidence; ask for fewer"
        raise InvalidDocument((Fault(place, "too-large", message),))


def _rests_on(decided: Sequence[Decided]) -> dict[str, int]:
    """The oldest version at which any of them read each stream: if it has moved, all are stale."""
    oldest: dict[str, int] = {}
    for one in decided:
        if one.asked.known_at is None:
            for stream, version in one.snapshot.streams.items():
                oldest[stream] = min(version, oldest.get(stream, version))
    return oldest


async def _refuse_the_future(
    context: Context, asked: Sequence[Asked], listed_under: str | None
) -> None:
    faults = []
    size = None
    for i, one in enumerate(asked):
        place = () if listed_under is None else (listed_under, i)
        if one.at is not None and one.at > context.now:
            message = (
                "lies in the future: a determination is made of what is, a simulation of what may"
            )
            faults.append(Fault(pointer(*place, "at"), "in-the-future", message))
        if one.known_at is None:
            continue
        if size is None:
            size = await context.store.size()
        if one.known_at < 0:
            message = "must be a ledger size, 0 or more"
            faults.append(Fault(pointer(*place, "known_at"), "invalid-value", message))
        elif one.known_at > size:
            message = f"the ledger holds {size} entries"
            faults.append(Fault(pointer(*place, "known_at"), "in-the-future", message))
    if faults:
        raise InvalidDocument(tuple(faults))


async def _decide_all(context: Context, asked: Sequence[Asked]) -> list[Decided]:
    """Each decided on what is recorded; what several rest on is read once."""
    snapshots: dict[tuple[str, str, int | None], Snapshot] = {}
    decided = []
    for one in asked:
        about = (one.model, one.policy, one.known_at)
        if about not in snapshots:
            snapshots[about] = await context.store.snapshot(*about)
        decided.append(decide_on(context, one, snapshots[about]))
        # A large batch must not keep everyone else waiting while it is decided.
        await asyncio.sleep(0)
    return decided


def decide_on(context: Context, asked: Asked, snapshot: Snapshot) -> Decided:
    """Decide on what was read."""
    at = asked.at or context.now
    policy = in_force_at(snapshot.timeline, at)
    question = Question(asked.model, asked.action, asked.policy, at)
    determination = decide(question, policy, snapshot.model, snapshot.evidence)
    return Decided(asked, at, snapshot, policy, determination)


def draft_of(context: Context, decided: Decided) -> Draft:
    """The entry that records it, under a new id."""
    id = new_id("det")
    asked, determination = decided.asked, decided.determination
    version = decided.policy.version.version if decided.policy else None
    digest = decided.policy.digest if decided.policy else None

    def build(moment: Moment) -> bytes:
        provenance = Provenance(
            policy=PolicyNamed(name=asked.policy, version=version, digest=digest),
            evidence=tuple(
                EvidenceNamed(id=id, digest=digest)
                for id, digest in decided.snapshot.evidence.names()
            ),
            engine=Engine(version=ENGINE_VERSION, semantics=SEMANTICS),
            at=decided.at,
            known_at=moment.index if asked.known_at is None else asked.known_at,
            actor=context.actor,
        )

        return determination_document(
            determination,
            id=id,
            model=asked.model,
            action=asked.action,
            provenance=provenance,
            previous=moment.previous if asked.known_at is None else None,
        )

    row = DeterminationRow(
        id=id,
        model=asked.model,
        action=asked.action,
        policy=asked.policy,
        policy_version=version,
        policy_digest=digest,
        decision=determination.decision,
        level=determination.level,
        at=decided.at,
        valid_until=determination.valid_until,
        as_known=asked.known_at is not None,
    )
    return Draft(Kind.DETERMINATION, id, row, build)


async def refuse_superseded(context: Context, appended: Appended) -> None:
    """An old allow never comes back unmarked: it lapses, and falls with what it rested on."""
    for record in appended.records:
        document = orjson.loads(record.document)
        if document["valid_until"] and read_instant(document["valid_until"]) <= context.now:
            lapsed = f"it held until {document['valid_until']}"
            raise DeterminationSuperseded(record.subject, lapsed)
        if document["provenance"]["known_at"] != record.position.index:
            # It was asked for as of an earlier ledger size, and the past does not move.
            continue
        if await has_moved(context, document):
            moved = "the policy or the evidence has moved since"
            raise DeterminationSuperseded(record.subject, moved)


async def has_moved(context: Context, document: Mapping[str, Any]) -> bool:
    """Whether the policy, or the evidence on the model or on those that it leans on, is not what the
    determination saw.
    """
    provenance = document["provenance"]
    model, policy = document["model"], provenance["policy"]["name"]
    snapshot = await context.store.snapshot(model, policy, None)
    versions = await context.store.streams(snapshot.streams)
    if versions != snapshot.streams:
        # It may lean on others than it did when it was read.
        context.store.forget(versions)
        snapshot = await context.store.snapshot(model, policy, None, from_memory=False)
        versions = snapshot.streams
    return any(version > provenance["known_at"] for version in versions.values())
