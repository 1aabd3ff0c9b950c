"""Settle: what would have to be recorded to change an answer. It is recorded nowhere."""

import asyncio
from dataclasses import dataclass
from datetime import datetime

import orjson

from app.assessment.assessment import ModelVersion
from app.assessment.evidence import Evidence
from app.determination.decide import Question
from app.determination.settling import Settling, settling
from app.errors import NotFound
from app.ledger.entry import Kind
from app.operations.context import Context
from app.policy.timeline import PolicyInForce, in_force_at
from app.storage.ledger import Recorded
from app.storage.store import Snapshot
from app.vocabulary import read_instant


@dataclass(frozen=True, slots=True)
class Seen:
    """A recorded determination, with all that it saw."""

    record: Recorded
    question: Question
    snapshot: Snapshot
    policy: PolicyInForce | None

    @property
    def model(self) -> ModelVersion | None:
        """The model version as it was registered."""
        return self.snapshot.model

    @property
    def evidence(self) -> Evidence:
        """What was known of it."""
        return self.snapshot.evidence


async def seen_by(context: Context, id: str) -> Seen:
    """The determination with that id, and what it saw. Raises `NotFound`."""
    record = await context.store.record(id)
    if record is None or record.kind is not Kind.DETERMINATION:
        raise NotFound("determination", id)
    document = orjson.loads(record.document)
    provenance = document["provenance"]
    at: datetime = read_instant(provenance["at"])
    question = Question(document["model"], document["action"], provenance["policy"]["name"], at)
    snapshot = await context.store.snapshot(question.model, question.policy, provenance["known_at"])
    return Seen(record, question, snapshot, in_force_at(snapshot.timeline, at))


async def settle_determination(context: Context, id: str) -> Settling:
    """What would have changed the answer when it was given, on what it saw. Raises `NotFound`."""
    return await settle_seen(context, await seen_by(context, id))


async def settle_seen(context: Context, seen: Seen) -> Settling:
    """What would have changed that answer. Raises `Unavailable` where too many ask at once."""
    return await _settle(context, seen.question, seen.policy, seen.model, seen.evidence)


async def settle(context: Context, model: str, action: str, policy: str) -> Settling:
    """What would change the answer that there would be now.

    Raises `NotFound` where the model is not registered or no version of the policy is in force.
    """
    # Nothing will check it afterwards, so it is read anew.
    snapshot = await context.store.snapshot(model, policy, None, from_memory=False)
    if snapshot.model is None:
        raise NotFound("model", model)
    if not snapshot.policies.versions:
        raise NotFound("policy", policy)
    question = Question(model, action, policy, context.now)
    in_force = in_force_at(snapshot.timeline, context.now)
    return await _settle(context, question, in_force, snapshot.model, snapshot.evidence)


async def _settle(
    context: Context,
    question: Question,
    policy: PolicyInForce | None,
    model: ModelVersion | None,
    evidence: Evidence,
) -> Settling:
    # It decides some thousand times, and everyone else would wait for it.
    async with context.turns.explanations.turn():
        return await asyncio.to_thread(settling, question, policy, model, evidence)
