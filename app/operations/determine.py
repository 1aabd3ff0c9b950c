"""Determine: decide on what is recorded, and record the answer before it is given."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import orjson

from app.assessment.exceptions import INTERIM_MEASURES
from app.decoding import pointer
from app.determination.alone import Alone, approved_alone
from app.determination.decide import Question, decide
from app.determination.provenance import RestsOn, answer_document, says_what_changed
from app.determination.record import ENGINE_VERSION, SEMANTICS, Determination, Engine
from app.errors import DeterminationSuperseded, Fault, InvalidDocument, SoleApprover
from app.ledger.entry import Kind
from app.operations.context import NO_VERSION, Context, new_id, recorded_anew, refuse_lapsed
from app.policy.timeline import PolicyInForce, in_force_at
from app.storage.database import taking_longer
from app.storage.ledger import Appended, DeterminationRow, Draft, Moment, Recorded, Stale
from app.storage.store import Snapshot
from app.vocabulary import Decision, Document, Instant, Integer, ModelRef, Slug, read_instant

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


SECONDS_A_QUESTION: Final = 0.005
"""How much longer a request may take for each question beyond its first."""

_log: Final = logging.getLogger("aslgate.exceptions")


@dataclass(frozen=True, slots=True)
class Decided:
    """A determination that is ready to be recorded."""

    asked: Asked
    at: datetime
    snapshot: Snapshot
    policy: PolicyInForce | None
    determination: Determination
    previous: bytes | None = None
    """For a question as of an earlier ledger size: the answer before it, as known then."""


async def determine(
    context: Context, asked: Sequence[Asked], *, listed_under: str | None = None
) -> Appended:
    """Decide each of *asked*, and record all answers in one durable commit, in that order.

    `listed_under` is what the caller's document calls the list of questions; `None`: it is the one
    question itself. Unknown names are recorded denials. Raises `InvalidDocument` for an instant or a
    ledger size that lies in the future, `SoleApprover` where one of them would let pass what one and
    the same found and alone approved, `DeterminationSuperseded` where the idempotency key's
    recorded answer no longer answers, `Unavailable` where it cannot be recorded now.
    """
    await _refuse_the_future(context, asked, listed_under)
    with taking_longer(SECONDS_A_QUESTION * (len(asked) - 1)):
        appended = await recorded_anew(
            context, lambda as_of: _decide_and_record(as_of, asked, listed_under)
        )
    if appended.replayed:
        await refuse_superseded(context, appended)
    return appended


async def _decide_and_record(
    context: Context, asked: Sequence[Asked], listed_under: str | None
) -> Appended:
    decided = await _decide_all(context, asked)
    refuse_too_much(decided, "" if listed_under is None else pointer(listed_under))
    appended = await append_unless_alone(
        context,
        decided,
        [draft_of(context, one) for one in decided],
        _rests_on(decided),
        lambda i: None if listed_under is None else pointer(listed_under, i),
    )
    say_leaning(context, decided, appended)
    return appended


async def append_unless_alone(
    context: Context,
    decided: Sequence[Decided],
    drafts: Sequence[Draft],
    rests_on: Mapping[str, int],
    place_of: Callable[[int], str | None] = lambda _: None,
) -> Appended:
    """Record *drafts*, the answers of *decided* among them. Raises `SoleApprover` where one of these
    lets pass what one and the same found and alone approved; of several the first, at its place.
    """
    refused = next(
        (
            SoleApprover(one.asked.model, alone.sign_offs, alone.assessments, place_of(i))
            for i, one in enumerate(decided)
            if (alone := passes_alone(one)) is not None
        ),
        None,
    )
    if refused is not None:
        # Whom memory does not know yet may have approved too; an answer is held against this later.
        versions = await context.store.streams(rests_on)
        if moved := {name for name in rests_on if versions[name] != rests_on[name]}:
            raise Stale(frozenset(moved))
        if context.key is None:
            raise refused
    try:
        return await context.store.ledger.append(
            drafts,
            actor=context.actor,
            # What is refused now may have been recorded when its key first came.
            rests_on=rests_on if refused is None else {"": NO_VERSION},
            touches=(),
            key=context.key,
        )
    except Stale:
        if refused is not None:
            raise refused from None
        raise


def passes_alone(one: Decided) -> Alone | None:
    """Who found and alone approved what this answer would let pass; `None`: nobody did, or nothing
    passes.
    """
    if one.determination.decision == Decision.DENY.value:
        return None
    return _approved_alone(one.asked, one.policy, one.snapshot, one.at)


def _approved_alone(
    asked: Asked, policy: PolicyInForce | None, snapshot: Snapshot, at: datetime
) -> Alone | None:
    if policy is None or snapshot.model is None:
        return None
    return approved_alone(
        policy.version, snapshot.model, snapshot.evidence, asked.action, at, snapshot.recorded_by
    )


def say_leaning(context: Context, decided: Sequence[Decided], appended: Appended) -> None:
    """Say aloud, in the log and in a number to watch, which of these answers leans on an exception:
    it works at once, so whoever did not ask for it hears of it at once too.
    """
    if appended.replayed:
        return
    for one, record in zip(decided, appended.records, strict=False):
        for condition in one.determination.conditions:
            name = condition.code.removeprefix("exception:")
            if name == condition.code != INTERIM_MEASURES:
                continue
            context.store.leaned_on[one.asked.policy, name] += 1
            _log.warning(
                "`%s` leans on the exception `%s` of `%s`: `%s` of `%s` %s",
                record.subject,
                name,
                one.asked.policy,
                one.asked.action,
                one.asked.model,
                condition.message.partition(": ")[0],
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
        decided.append(decide_on(context.now, one, snapshots[about]))
        if one.known_at is not None and says_what_changed(as_known=True, semantics=SEMANTICS):
            previous = await _previous_as_known(context, decided[-1])
            decided[-1] = replace(decided[-1], previous=previous)
        # A large batch must not keep everyone else waiting while it is decided.
        await asyncio.sleep(0)
    return decided


async def _previous_as_known(context: Context, decided: Decided) -> bytes | None:
    """The past does not move, so this is read outside the lock that present answers need."""
    asked = decided.asked
    assert asked.known_at is not None, "it is asked of the past only"
    record = await context.store.previous_determination(
        asked.model, asked.action, asked.policy, at=decided.at, before=asked.known_at
    )
    return None if record is None else record.document


def decide_on(
    now: datetime, asked: Asked, snapshot: Snapshot, semantics: int = SEMANTICS
) -> Decided:
    """Decide on what was read; at *now* where the question does not say when."""
    at = asked.at or now
    policy = in_force_at(snapshot.timeline, at)
    question = Question(asked.model, asked.action, asked.policy, at)
    determination = decide(question, policy, snapshot.model, snapshot.evidence, semantics)
    return Decided(asked, at, snapshot, policy, determination)


def draft_of(context: Context, decided: Decided) -> Draft:
    """The entry that records it, under a new id."""
    id = new_id("det")
    asked, determination = decided.asked, decided.determination
    version = decided.policy.version.version if decided.policy else None
    digest = decided.policy.digest if decided.policy else None

    def build(moment: Moment) -> bytes:
        if asked.at is None and asked.known_at is None:
            refuse_lapsed(decided.at, determination.valid_until, moment)
        return answer_document(
            determination,
            Question(asked.model, asked.action, asked.policy, decided.at),
            RestsOn(decided.policy, decided.snapshot.model, decided.snapshot.evidence),
            id=id,
            engine=present_engine(),
            known_at=moment.index if asked.known_at is None else asked.known_at,
            actor=context.actor,
            previous=moment.previous if asked.known_at is None else decided.previous,
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
        if until := expired(context, document):
            raise DeterminationSuperseded(record.subject, f"it held until {until}")
        if has_other_meaning(document):
            raise DeterminationSuperseded(record.subject, "the engine has another semantics now")
        if document["provenance"]["known_at"] != record.position.index:
            # It was asked for as of an earlier ledger size, and the past does not move.
            continue
        if await has_moved(context, document):
            moved = "the policy or the evidence has moved since"
            raise DeterminationSuperseded(record.subject, moved)


async def has_moved(context: Context, document: Mapping[str, Any]) -> bool:
    """Whether the policy, or the evidence on the model or on those that it leans on, is not what the
    determination saw, or the engine reads them otherwise than the one that gave it; or it lets pass
    what, of all who approved it, only one who found it still approves.
    """
    provenance = document["provenance"]
    policy, known_at = provenance["policy"]["name"], provenance["known_at"]
    return (
        has_other_meaning(document)
        or await moved_since(context, document["model"], policy, known_at)
        or await stands_alone(context, document)
    )


async def stands_alone(context: Context, document: Mapping[str, Any]) -> bool:
    """Whether a recorded determination that lets an action pass would by now rest on one person
    alone: without anything new on record, an approval may have become too old.
    """
    if document["decision"] == Decision.DENY.value:
        return False
    name = document["provenance"]["policy"]["name"]
    snapshot = await context.store.snapshot(document["model"], name, None)
    asked = Asked(model=document["model"], action=document["action"], policy=name)
    policy = in_force_at(snapshot.timeline, context.now)
    return _approved_alone(asked, policy, snapshot, context.now) is not None


def has_other_meaning(document: Mapping[str, Any]) -> bool:
    """Whether a recorded determination was given under other semantics than those of this engine."""
    return is_of_another_engine(document["provenance"]["engine"])


def is_of_another_engine(named: Mapping[str, Any]) -> bool:
    """Whether what a record names as its engine has other semantics than this one."""
    semantics: int = named["semantics"]
    return semantics != SEMANTICS


def present_engine() -> Engine:
    """The engine of this program, as what it answers names it."""
    return Engine(version=ENGINE_VERSION, semantics=SEMANTICS)


async def moved_since(context: Context, model: str, policy: str, size: int) -> bool:
    """Whether anything that a determination rests on has moved since the ledger had that size."""
    snapshot = await context.store.snapshot(model, policy, None)
    versions = await context.store.streams(snapshot.streams)
    if versions != snapshot.streams:
        # It may lean on others than it did when it was read.
        context.store.forget(versions)
        snapshot = await context.store.snapshot(model, policy, None, from_memory=False)
        versions = snapshot.streams
    return any(version > size for version in versions.values())


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a recorded answer still answers. `superseded`: what it rested on has moved since, or
    the engine has. `expired`: until when it held, where that is past.
    """

    superseded: bool
    expired: str | None


async def standing_of(context: Context, record: Recorded) -> Standing:
    """Whether that determination still answers."""
    document = orjson.loads(record.document)
    return Standing(await has_moved(context, document), expired(context, document))


def expired(context: Context, document: Mapping[str, Any]) -> str | None:
    """Until when a recorded answer held, where that is past."""
    until: str | None = document["valid_until"]
    return until if until is not None and read_instant(until) <= context.now else None
