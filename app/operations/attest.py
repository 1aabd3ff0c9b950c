"""Attest: a determination that still answers, as a signed statement for tools that know no aslgate.

Nothing in a SLSA verification summary makes its reader ask whether it still holds. So none is kept:
one is made on request, while the determination is what would be answered now, and not otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal

import orjson

from app.determination.decide import Question, decide
from app.errors import (
    DeterminationLapsed,
    DeterminationSuperseded,
    NoDigest,
    NotAboutNow,
    NotFound,
)
from app.ledger.entry import Kind
from app.ledger.statement import AttestationKey, bundle, envelope, statement
from app.operations.context import Context
from app.operations.determine import standing_of
from app.policy.timeline import in_force_at
from app.storage.ledger import Recorded
from app.vocabulary import read_instant

AttestationForm = Literal["dsse", "bundle"]

ASKED_NOW: Final = timedelta(minutes=1)
"""How long before its recording a determination may speak for and still be about now: a question
waits for its turn, and the clocks of the service and of the database are two."""


@dataclass(frozen=True, slots=True)
class Attestor:
    """Who signs: a key, and the name of the ledger that all names in a statement are made from."""

    key: AttestationKey
    log: str


async def attest(context: Context, id: str, attestor: Attestor, form: AttestationForm) -> bytes:
    """The determination as a signed statement.

    1. It is recorded: else `NotFound`.
    2. It was asked about now, with all that was known: else `NotAboutNow`.
    3. It holds still: else `DeterminationLapsed`.
    4. Neither what it rests on nor the engine has moved since: else `DeterminationSuperseded`.
    5. Asked now, the answer would be the same, and hold as long: else `DeterminationSuperseded`.
    6. The model version was registered with a digest: else `NoDigest`.
    """
    # (1)
    record = await context.store.record(id)
    if record is None or record.kind is not Kind.DETERMINATION:
        raise NotFound("determination", id)
    document = orjson.loads(record.document)
    # (2)
    _refuse_the_past(record, document)
    # (3)
    standing = await standing_of(context, record)
    if standing.expired is not None:
        raise DeterminationLapsed(id, standing.expired)
    # (4)
    if standing.superseded:
        moved = "the policy, the evidence or the engine has moved since"
        raise DeterminationSuperseded(id, moved, by_key=False)
    # (5) Something may have begun that was recorded before, or the record was tampered with.
    model, provenance = document["model"], document["provenance"]
    snapshot = await context.store.snapshot(model, provenance["policy"]["name"], None)
    question = Question(model, document["action"], provenance["policy"]["name"], context.now)
    policy = in_force_at(snapshot.timeline, context.now)
    now = decide(question, policy, snapshot.model, snapshot.evidence).model_dump(mode="json")
    same_policy = provenance["policy"]["digest"] == (policy.digest if policy else None)
    if not same_policy or any(now[said] != document[said] for said in _SAID):
        raise DeterminationSuperseded(id, "the answer would be another now", by_key=False)
    if _holds_longer(document["valid_until"], now["valid_until"]):
        sooner = f"asked now, it would hold until {now['valid_until']}"
        raise DeterminationSuperseded(id, sooner, by_key=False)
    # (6)
    if snapshot.model is None or snapshot.model.digest is None:
        raise NoDigest(model)
    payload = statement(
        record.document,
        document,
        model_digest=snapshot.model.digest,
        log=attestor.log,
        position=record.position,
    )
    return _in_form(form, payload, attestor.key)


_SAID: Final = ("decision", "level", "standards")
"""What a statement says of the answer."""


def _holds_longer(said: str | None, now: str | None) -> bool:
    """Whether what was *said* to be the end lies after what is *now*; `None`: time ends it not."""
    if now is None:
        return False
    return said is None or read_instant(said) > read_instant(now)


def _refuse_the_past(record: Recorded, document: Mapping[str, Any]) -> None:
    provenance = document["provenance"]
    if provenance["known_at"] != record.position.index:
        known = f"it was asked with what was known at ledger size {provenance['known_at']}"
        raise NotAboutNow(record.subject, known)
    if read_instant(provenance["at"]) < record.position.at - ASKED_NOW:
        raise NotAboutNow(record.subject, f"it was asked for {provenance['at']}")


def _in_form(form: AttestationForm, payload: bytes, key: AttestationKey) -> bytes:
    match form:
        case "dsse":
            return envelope(payload, key)
        case "bundle":
            return bundle(payload, key)
