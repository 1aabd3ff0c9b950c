"""Replay: recompute a recorded answer from its provenance, and compare the bytes.

What it rested on is read back from the ledger as it stood then, and decided on again under the
semantics that the answer names. Nothing that a running service keeps in memory is used, and nothing
is written: an auditor replays with a connection of its own that can only read.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, Final, Literal

import orjson

from app.canonical import canonical_json, digest
from app.determination.provenance import (
    Differing,
    NotRebuilt,
    RestsOn,
    differences,
    engine_of,
    question_of,
    recomputed,
    says_what_changed,
)
from app.determination.record import SEMANTICS, Engine
from app.errors import NotFound
from app.ledger.entry import Kind
from app.operations.ask_gate import AskedGate, applying, gate_of
from app.operations.context import Context
from app.operations.determine import Asked, decide_on
from app.policy.timeline import PolicyInForce, in_force_at
from app.storage import history, records
from app.storage.database import DatabaseConnection, is_trouble
from app.storage.history import ModelHistory, PolicyHistory
from app.storage.ledger import Recorded
from app.storage.store import Policies, Snapshot
from app.vocabulary import Document, read_instant

KEPT: Final = 512
"""The histories of how many models, and of how many policies, are kept between two replays."""

AT_ONCE: Final = 200
"""How many answers are recomputed in one snapshot."""

MOST_PLACES: Final = 3
"""How many of the places in which an answer differs are named in a sentence."""

NO_END: Final = 1 << 30

SKEW: Final = timedelta(minutes=1)
"""How far the clocks of a service and its database may be apart, and a decision may take."""

Reading = Callable[[], AbstractAsyncContextManager[DatabaseConnection]]
"""What gives a connection on which all reads see the same snapshot."""


class Replay(Document):
    """A recorded answer beside the same answer recomputed.

    `same`: the bytes are equal. `recomputed` is `null` where it cannot be recomputed, and `why` then
    says why; of what differs each place is named by JSON pointer.
    """

    id: str
    kind: Literal["determination", "gate"]
    index: int
    same: bool
    recorded: str
    recomputed: str | None
    differences: tuple[Differing, ...]
    why: str | None


async def replay_determination(context: Context, id: str) -> Replay:
    """Recompute the determination with that id. Raises `NotFound`, `Unavailable`."""
    return await _replay(context, id, Kind.DETERMINATION)


async def replay_gate(context: Context, id: str) -> Replay:
    """Recompute the gate with that id. Raises `NotFound`, `Unavailable`."""
    return await _replay(context, id, Kind.GATE)


async def _replay(context: Context, id: str, kind: Kind) -> Replay:
    record = await context.store.record(id)
    if record is None or record.kind is not kind:
        raise NotFound(kind.value, id)
    async with context.turns.explanations.turn():
        return await Replayer(context.store.reading).replay(record)


async def replay_all(reading: Reading) -> AsyncIterator[tuple[Replay, int]]:
    """Recompute all that is recorded now, each with how many there are. Raises `Unavailable`."""
    async with reading() as connection:
        size = await records.ledger_size(connection)
        many = await records.count_answers(connection, size)
    replayer, first = Replayer(reading), 0
    while True:
        async with reading() as connection:
            page = await records.answers_from(connection, first, size, AT_ONCE)
        if not page:
            return
        async for found in replayer.replay_each(page, size=size):
            yield found, many
        first = page[-1].position.index + 1


async def replay_one(reading: Reading, id: str) -> Replay:
    """Recompute the determination or gate with that id. Raises `NotFound`, `Unavailable`."""
    async with reading() as connection:
        record = await records.record_of(connection, id)
    if record is None or record.kind not in (Kind.DETERMINATION, Kind.GATE):
        raise NotFound("determination or gate", id)
    return await Replayer(reading).replay(record)


def said_otherwise(replay: Replay) -> str:
    """What a replay found, in a sentence; it is not the same."""
    if replay.why is not None:
        return f"it cannot be recomputed: {replay.why}"
    places = [one.pointer or "/" for one in replay.differences[:MOST_PLACES]]
    more = len(replay.differences) - len(places)
    named = ", ".join(f"`{place}`" for place in places) + (f" and {more} more" if more else "")
    return f"recomputed, it says otherwise at {named}"


class Replayer:
    """Replays one answer after another, and reads once what several rest on."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._models: dict[str, tuple[int, ModelHistory]] = {}
        self._policies: dict[str, tuple[int, PolicyHistory]] = {}

    async def replay(self, record: Recorded) -> Replay:
        """Recompute *record*, a determination or a gate. Raises `Unavailable`."""
        async with self._reading() as connection:
            return await self._replay(connection, record, None)

    async def replay_each(self, answers: Iterable[Recorded], *, size: int) -> AsyncIterator[Replay]:
        """Recompute one after the other, of a ledger of that size, some in one snapshot."""
        left = deque(answers)
        while left:
            async with self._reading() as connection:
                for _ in range(min(AT_ONCE, len(left))):
                    found = await self._replay(connection, left.popleft(), size)
                    yield found
                    if found.why is not None:
                        # What a damaged record made of this transaction must not be the next one's.
                        break

    async def _replay(
        self, connection: DatabaseConnection, record: Recorded, size: int | None
    ) -> Replay:
        """`size`: what is read is read up to that ledger size, for those that come after this one."""
        anew, why = None, None
        try:
            document = orjson.loads(record.document)
            answer = self._gate if record.kind is Kind.GATE else self._determination
            anew = await answer(connection, record, document, size)
        except Exception as error:  # noqa: BLE001 - whatever a damaged record does is a finding
            why = why_not_rebuilt(error)
        return Replay(
            id=record.subject,
            kind="gate" if record.kind is Kind.GATE else "determination",
            index=record.position.index,
            same=anew == record.document,
            recorded=digest(record.document),
            recomputed=None if anew is None else digest(anew),
            differences=() if anew is None else differences(record.document, anew),
            why=why,
        )

    async def _determination(
        self,
        connection: DatabaseConnection,
        record: Recorded,
        document: Mapping[str, Any],
        size: int | None,
    ) -> bytes:
        question, known_at = question_of(document), document["provenance"]["known_at"]
        if document["id"] != record.subject:
            raise NotRebuilt(f"it calls itself `{document['id']}`")
        if type(known_at) is not int or not 0 <= known_at <= record.position.index:
            raise NotRebuilt(f"it says that it saw {known_at} entries")
        known = await self._known(connection, question.model, known_at, size)
        spans = await self._spans(connection, question.policy, known_at, size)
        previous = await answer_before(connection, record, document)
        return recomputed(
            document,
            RestsOn(in_force_at(spans, question.at), known.model, known.evidence),
            previous=None if previous is None else previous.document,
        )

    async def _gate(
        self,
        connection: DatabaseConnection,
        record: Recorded,
        document: Mapping[str, Any],
        size: int | None,
    ) -> bytes:
        """The gate's answer from the determinations that were recorded with it, made anew."""
        index, ids = record.position.index, document["determinations"]
        if document["id"] != record.subject:
            raise NotRebuilt(f"it calls itself `{document['id']}`")
        at, asked = (
            read_instant(document["at"]),
            AskedGate(model=document["model"], action=document["action"]),
        )
        known = await self._known(connection, asked.model, index, size)
        snapshots = []
        for name in await records.activated_policies(connection, known_at=index):
            spans = await self._spans(connection, name, index, size)
            policies = Policies(0, (), spans, (), (), {})
            snapshots.append((name, Snapshot({}, policies, known.model, known.evidence)))
        apply = applying(snapshots, at, asked.action)
        if len(apply) != len(ids):
            raise NotRebuilt(f"{len(apply)} policies applied, and it names {len(ids)}")
        engine = engine_of(document) if "engine" in document else None
        semantics = await _semantics(connection, ids, engine)
        decided = [
            decide_on(
                at,
                Asked(model=asked.model, action=asked.action, policy=name),
                snapshot,
                semantics,
            )
            for name, snapshot in apply
        ]
        gate = gate_of(
            asked,
            snapshots,
            decided,
            ids,
            id=record.subject,
            at=at,
            actor=document["actor"],
            accepts_conditions=document["accepts_conditions"],
            engine=engine,
            on_behalf_of=document.get("on_behalf_of"),
        )
        return canonical_json(gate.model_dump(mode="json"))

    async def _known(
        self, connection: DatabaseConnection, model: str, known_at: int, size: int | None
    ) -> history.Known:
        """What a ledger of size *known_at* held on the model and on those that it leans on."""
        before, found = self._models.get(model, (-1, None))
        if found is None or before < known_at:
            before = known_at if size is None else max(size, known_at)
            found = await history.model_history(
                connection, model, before=before, most_models=NO_END
            )
            _keep(self._models, model, (before, found))
        return found.known_at(known_at)

    async def _spans(
        self, connection: DatabaseConnection, policy: str, known_at: int, size: int | None
    ) -> tuple[PolicyInForce, ...]:
        """When which version of the policy was in force, as a ledger of size *known_at* had it."""
        before, found = self._policies.get(policy, (-1, None))
        if found is None or before < known_at:
            before = known_at if size is None else max(size, known_at)
            found = await history.policy_history(connection, policy, before=before)
            _keep(self._policies, policy, (before, found))
        return found.known_at(known_at)


async def answer_before(
    connection: DatabaseConnection, record: Recorded, document: Mapping[str, Any]
) -> Recorded | None:
    """The determination since which *record* says what changed, which reads as *document*; `None`:
    it says of none. Raises `NotRebuilt` where its engine is not known here.
    """
    question, provenance = question_of(document), document["provenance"]
    known_at, semantics = provenance["known_at"], engine_of(provenance).semantics
    index = record.position.index
    if says_what_changed(as_known=known_at != index, semantics=semantics) and (
        # One that saw the ledger up to itself may have been asked for so, all the same.
        says_what_changed(as_known=True, semantics=semantics)
        or not await records.is_as_known(connection, index)
    ):
        return await records.previous_determination(
            connection,
            question.model,
            question.action,
            question.policy,
            at=question.at,
            before=known_at,
        )
    return None


async def _semantics(connection: DatabaseConnection, ids: list[str], engine: Engine | None) -> int:
    """Under which meaning a gate and its determinations were given: where it names no *engine*, that
    of its determinations; today's where it has none.
    """
    found = await records.records_of(connection, ids)
    said = {
        engine_of(orjson.loads(one.document)["provenance"]).semantics for one in found.values()
    } | ({engine.semantics} if engine is not None else set())
    if len(found) != len(ids) or len(said) > 1:
        raise NotRebuilt("its determinations are not all there, or of several engines")
    return said.pop() if said else SEMANTICS


def why_not_rebuilt(error: Exception) -> str:
    """Why what ended in *error* cannot be recomputed; trouble with the database, which says nothing
    of what is recorded, is raised again.
    """
    if is_trouble(error):
        raise error
    if isinstance(error, NotRebuilt):
        return str(error)
    return f"what it says or rests on cannot be read ({type(error).__name__}: {error})"


def _keep(kept: dict[str, Any], name: str, value: Any) -> None:
    """Keep the newest `KEPT`."""
    kept.pop(name, None)
    kept[name] = value
    if len(kept) > KEPT:
        del kept[next(iter(kept))]
