"""The recorded bytes of an answer, and a store from which it can be recomputed."""

import json
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from app.assessment.assessment import ModelVersion
from app.assessment.evidence import Evidence, Recorded
from app.canonical import canonical_json
from app.decoding import decode_json
from app.determination.decide import Question, decide
from app.determination.record import (
    ENGINE_VERSION,
    SEMANTICS,
    Engine,
    EvidenceNamed,
    PolicyNamed,
    Provenance,
    determination_document,
)
from app.parsing import parse
from app.policy.language import canonical_policy, policy_digest, recorded_policy
from app.policy.timeline import Activated, in_force_at, timeline
from app.vocabulary import TEXT, read_instant, write_instant
from tests.laws.situations import A_MODEL, A_REPORT, A_SIGN_OFF, AN_ASSESSMENT, Situation

KINDS: tuple[TypeAdapter[Any], ...] = (AN_ASSESSMENT, A_REPORT, A_SIGN_OFF)


def pieces_of(evidence: Evidence) -> tuple[tuple[Recorded[Any], ...], ...]:
    """The pieces by kind, in the order of `KINDS`."""
    return evidence.assessments, evidence.safeguards, evidence.sign_offs


def recorded_determination(
    situation: Situation, *, previous: bytes | None = None, known_at: int = 7, id: str = "det_1"
) -> bytes:
    """The bytes that storage would keep of the situation's answer."""
    in_force, question = situation.policy, situation.question
    provenance = Provenance(
        policy=PolicyNamed(
            name=question.policy, version=in_force.version.version, digest=in_force.digest
        ),
        evidence=tuple(
            EvidenceNamed(id=id, digest=digest) for id, digest in situation.evidence.names()
        ),
        engine=Engine(version=ENGINE_VERSION, semantics=SEMANTICS),
        at=question.at,
        known_at=known_at,
        actor="key_1",
    )
    return determination_document(
        decide(question, in_force, situation.model, situation.evidence),
        id=id,
        model=question.model,
        action=question.action,
        provenance=provenance,
        previous=previous,
    )


def as_line(situation: Situation) -> str:
    """The situation as one line of JSON, with every document as its recorded bytes say it."""
    until = situation.policy.until
    return json.dumps(
        {
            "policy": canonical_policy(situation.version).decode(),
            "until": None if until is None else write_instant(until),
            "model": situation.model.model_dump(mode="json"),
            "action": situation.question.action,
            "at": write_instant(situation.at),
            "evidence": [
                [(p.id, p.digest, p.item.model_dump(mode="json")) for p in pieces]
                for pieces in pieces_of(situation.evidence)
            ],
        }
    )


@dataclass(frozen=True, slots=True)
class Store:
    """What a ledger holds, as bytes by id: all that a replay may look at."""

    policies: tuple[tuple[int, bytes], ...]
    """With the size of the ledger from which each was known."""
    model: bytes
    evidence: dict[str, bytes]
    determinations: dict[str, bytes]


def stored(situation: Situation, *determinations: bytes) -> Store:
    """The situation's documents as a ledger would hold them, and others that were recorded later."""
    version, until = situation.version, situation.policy.until
    policies = [(1, canonical_policy(version))]
    if until is not None:
        later = version.model_copy(update={"version": "later", "effective": until})
        policies.append((2, canonical_policy(later)))
    # Recorded after the determination, so that it could not know of it.
    after = version.model_copy(update={"version": "after", "effective": situation.at})
    policies.append((99, canonical_policy(after)))
    return Store(
        tuple(policies),
        canonical_json(situation.model.model_dump(mode="json")),
        {
            piece.id: canonical_json(piece.item.model_dump(mode="json"))
            for pieces in pieces_of(situation.evidence)
            for piece in pieces
        },
        {json.loads(document)["id"]: document for document in determinations},
    )


def replayed(document: bytes, store: Store) -> bytes:
    """The determination recomputed from its own provenance and what the store holds."""
    said = json.loads(document)
    provenance = said["provenance"]
    known = [
        recorded_policy(text) for since, text in store.policies if since <= provenance["known_at"]
    ]
    at = read_instant(provenance["at"])
    in_force = in_force_at(timeline(Activated(v, policy_digest(v), v.effective) for v in known), at)
    model: ModelVersion = parse(A_MODEL, decode_json(store.model), TEXT)
    pieces = [
        Recorded(
            named["id"],
            named["digest"],
            parse(
                KINDS[("asm", "sfg", "sgn").index(named["id"][:3])],
                decode_json(store.evidence[named["id"]]),
                TEXT,
            ),
        )
        for named in provenance["evidence"]
    ]
    assessments, safeguards, sign_offs = (
        tuple(piece for piece in pieces if piece.id.startswith(prefix))
        for prefix in ("asm", "sfg", "sgn")
    )
    evidence = Evidence(assessments, safeguards, sign_offs)
    question = Question(said["model"], said["action"], provenance["policy"]["name"], at)
    changed = said["changed"]
    return determination_document(
        decide(question, in_force, model, evidence),
        id=said["id"],
        model=question.model,
        action=question.action,
        provenance=Provenance(
            policy=PolicyNamed(
                name=question.policy,
                version=in_force.version.version if in_force else None,
                digest=in_force.digest if in_force else None,
            ),
            evidence=tuple(EvidenceNamed(id=i, digest=d) for i, d in evidence.names()),
            engine=Engine(version=ENGINE_VERSION, semantics=SEMANTICS),
            at=at,
            known_at=provenance["known_at"],
            actor=provenance["actor"],
        ),
        previous=None if changed is None else store.determinations[changed["since"]],
    )
