"""An answer as it is recorded, and the same answer recomputed from its provenance.

Both are made by one function, `answer_document`. So whoever has what a recorded determination rests
on (the policy version in force, the model version, the evidence, the answer before it) gets its
bytes again, under the meaning of the engine that gave it; and where they differ, `differences` says
in which places.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from app.assessment.assessment import ModelVersion
from app.assessment.evidence import Evidence
from app.decoding import pointer
from app.determination.decide import Question, decide
from app.determination.record import (
    SEMANTICS,
    Determination,
    Engine,
    EvidenceNamed,
    PolicyNamed,
    Provenance,
    determination_document,
)
from app.policy.timeline import PolicyInForce
from app.vocabulary import Document, read_instant

_THIRD = 3


class NotRebuilt(Exception):
    """What a determination rested on cannot be put together again; the message says why."""


@dataclass(frozen=True, slots=True)
class RestsOn:
    """What an answer rests on: the version in force, the model version, and what was known of it."""

    policy: PolicyInForce | None
    model: ModelVersion | None
    evidence: Evidence


def says_what_changed(*, as_known: bool, semantics: int) -> bool:
    """Whether an answer says what changed since the one before it.

    Since semantics 3 also one that was asked for as of an earlier ledger size: it says what had
    changed by then.
    """
    return not as_known or semantics >= _THIRD


def answer_document(
    determination: Determination,
    question: Question,
    rests_on: RestsOn,
    *,
    id: str,
    engine: Engine,
    known_at: int,
    actor: str,
    previous: bytes | None,
) -> bytes:
    """The bytes that record *determination*, the answer to *question* on what it rests on.

    `previous`: the document of the answer before it; `None`: it says of none what changed.
    """
    policy = rests_on.policy
    binding = policy is not None and policy.version.has_binding_obligations
    provenance = Provenance(
        policy=PolicyNamed(
            name=question.policy,
            version=policy.version.version if policy else None,
            digest=policy.digest if policy else None,
        ),
        evidence=tuple(
            EvidenceNamed(id=id, digest=digest)
            for id, digest in rests_on.evidence.names(fulfilments=binding)
        ),
        engine=engine,
        at=question.at,
        known_at=known_at,
        actor=actor,
    )
    return determination_document(
        determination,
        id=id,
        model=question.model,
        action=question.action,
        provenance=provenance,
        previous=previous,
    )


def question_of(document: Mapping[str, Any]) -> Question:
    """The question that a recorded determination answers."""
    provenance = document["provenance"]
    return Question(
        document["model"],
        document["action"],
        provenance["policy"]["name"],
        read_instant(provenance["at"]),
    )


def engine_of(document: Mapping[str, Any]) -> Engine:
    """The engine that a provenance, or a gate, names. Raises `NotRebuilt` where this program does not
    know what its semantics mean: those to come, and whatever is no number of semantics.
    """
    said = document.get("engine")
    semantics = said.get("semantics") if isinstance(said, dict) else None
    # `true` is an integer too, for Python.
    if type(semantics) is not int or not 1 <= semantics <= SEMANTICS:
        named = "no semantics" if semantics is None else f"semantics {semantics!r}"
        raise NotRebuilt(
            f"it was decided under {named}, and this program knows those from 1 to {SEMANTICS}"
        )
    return Engine.model_validate(said)


def recomputed(document: Mapping[str, Any], rests_on: RestsOn, *, previous: bytes | None) -> bytes:
    """What the recorded determination should say, word for word, decided anew.

    Of the document itself are taken its id, the question, the actor, the ledger size that it saw and
    the engine. Raises `NotRebuilt` where that engine is not known to this program.
    """
    provenance, question = document["provenance"], question_of(document)
    engine = engine_of(provenance)
    determination = decide(
        question, rests_on.policy, rests_on.model, rests_on.evidence, engine.semantics
    )
    return answer_document(
        determination,
        question,
        rests_on,
        id=document["id"],
        engine=engine,
        known_at=provenance["known_at"],
        actor=provenance["actor"],
        previous=previous,
    )


# --- What differs ------------------------------------------------------------------------------


class Differing(Document):
    """A place in which two documents differ, by JSON pointer; `null` where nothing stands there."""

    pointer: str
    recorded: Any = None
    recomputed: Any = None


def differences(recorded: bytes, anew: bytes) -> tuple[Differing, ...]:
    """Every place in which the two JSON documents differ, the deepest that can be named.

    Where both say the same in other bytes (another order, another spelling), that is one difference
    at the whole document.
    """
    if recorded == anew:
        return ()
    found = tuple(_differing((), orjson.loads(recorded), orjson.loads(anew)))
    return found or (Differing(pointer="", recorded="other bytes", recomputed="the same words"),)


def _differing(path: tuple[str | int, ...], was: Any, now: Any) -> Iterator[Differing]:
    if isinstance(was, dict) and isinstance(now, dict):
        for name in sorted(was.keys() | now.keys()):
            yield from _differing((*path, name), was.get(name), now.get(name))
    elif isinstance(was, list) and isinstance(now, list):
        for i in range(max(len(was), len(now))):
            one = was[i] if i < len(was) else None
            other = now[i] if i < len(now) else None
            yield from _differing((*path, i), one, other)
    elif type(was) is not type(now) or was != now:
        yield Differing(pointer=pointer(*path), recorded=was, recomputed=now)
