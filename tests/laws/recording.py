"""The recorded bytes of an answer, and a store from which it can be recomputed."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from pydantic import TypeAdapter

from app.assessment.assessment import ModelVersion
from app.assessment.evidence import Evidence, OtherModel, Recorded
from app.assessment.exceptions import Approved, ExceptionOnRecord
from app.assessment.orders import Lifted, OrderOnRecord
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
from tests.laws.situations import (
    A_FULFILMENT,
    A_LIFTING,
    A_MODEL,
    A_REPORT,
    A_SIGN_OFF,
    AN_APPROVAL,
    AN_ASSESSMENT,
    AN_EXCEPTION,
    AN_ORDER,
    Situation,
    place_of,
)

KINDS: Final[Mapping[str, TypeAdapter[Any]]] = {
    "asm": AN_ASSESSMENT,
    "sfg": A_REPORT,
    "sgn": A_SIGN_OFF,
    "exc": AN_EXCEPTION,
    "exa": AN_APPROVAL,
    "ord": AN_ORDER,
    "lft": A_LIFTING,
    "ful": A_FULFILMENT,
}
"""By the prefix of its id, what a recorded document is."""

Body = dict[str, Any]
Piece = tuple[str, str, Body]
"""A recorded document with its id and digest, as it would lie in a ledger."""


def pieces_of(evidence: Evidence) -> Iterator[Piece]:
    """Every piece, those on other models included, in the order in which they are held.

    An approval names its exception itself; what a lifting ends stands beside it.
    """
    whole: tuple[Recorded[Any], ...] = (
        *evidence.assessments,
        *evidence.safeguards,
        *evidence.sign_offs,
        *evidence.fulfilments,
    )
    for piece in whole:
        yield piece.id, piece.digest, _body(piece.item)
    for exception in evidence.exceptions:
        yield exception.id, exception.digest, _body(exception.item.request)
        for given in exception.item.approvals:
            yield given.id, given.digest, _body(given.item)
    for order in evidence.orders:
        yield order.id, order.digest, _body(order.item.order)
        if (lifted := order.item.lifted) is not None:
            yield lifted.id, lifted.digest, _body(lifted.item) | {"order": order.id}
    for other in evidence.others.values():
        yield from pieces_of(other.evidence)


def _body(item: Any) -> Body:
    body: Body = item.model_dump(mode="json")
    return body


def models_of(evidence: Evidence) -> list[Body]:
    """The other model versions, as they are registered."""
    return [_body(other.model) for other in evidence.others.values()]


def evidence_of(pieces: list[Piece], model: str, others: list[Body]) -> Evidence:
    """The evidence that those pieces are, on that model and on the others."""
    known = [parse(A_MODEL, other, TEXT) for other in others]
    return _on_model(
        model, pieces, {one.model: OtherModel(one, _on_model(one.model, pieces)) for one in known}
    )


def _on_model(
    model: str, pieces: list[Piece], others: Mapping[str, OtherModel] | None = None
) -> Evidence:
    def read(id: str, digest: str, body: Body) -> Recorded[Any]:
        return Recorded(id, digest, parse(KINDS[id[:3]], body, TEXT), place_of(digest))

    def of(prefix: str) -> tuple[Recorded[Any], ...]:
        return tuple(
            read(*one) for one in pieces if one[0].startswith(prefix) and one[2]["model"] == model
        )

    return Evidence(
        of("asm"),
        of("sfg"),
        of("sgn"),
        tuple(map(partial(_with_approvals, pieces), of("exc"))),
        tuple(map(partial(_with_lifting, pieces), of("ord"))),
        of("ful"),
        others or {},
    )


def _with_approvals(pieces: list[Piece], request: Recorded[Any]) -> Recorded[ExceptionOnRecord]:
    approvals = tuple(
        Approved(id, digest, parse(AN_APPROVAL, body, TEXT))
        for id, digest, body in pieces
        if id.startswith("exa") and body["exception"] == request.id
    )
    return Recorded(request.id, request.digest, ExceptionOnRecord(request.item, approvals))


def _with_lifting(pieces: list[Piece], order: Recorded[Any]) -> Recorded[OrderOnRecord]:
    for id, digest, body in pieces:
        if id.startswith("lft") and body["order"] == order.id:
            said = {name: value for name, value in body.items() if name != "order"}
            lifted = Lifted(id, digest, parse(A_LIFTING, said, TEXT))
            return Recorded(order.id, order.digest, OrderOnRecord(order.item, lifted))
    return Recorded(order.id, order.digest, OrderOnRecord(order.item))


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
            EvidenceNamed(id=id, digest=digest)
            for id, digest in situation.evidence.names(
                fulfilments=situation.version.has_binding_obligations
            )
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
            "others": models_of(situation.evidence),
            "evidence": list(pieces_of(situation.evidence)),
        }
    )


@dataclass(frozen=True, slots=True)
class Store:
    """What a ledger holds, as bytes by id: all that a replay may look at."""

    policies: tuple[tuple[int, bytes], ...]
    """With the size of the ledger from which each was known."""
    model: bytes
    others: tuple[bytes, ...]
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
        tuple(map(canonical_json, models_of(situation.evidence))),
        {id: canonical_json(body) for id, _, body in pieces_of(situation.evidence)},
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
        (named["id"], named["digest"], _mapping(store.evidence[named["id"]]))
        for named in provenance["evidence"]
    ]
    evidence = evidence_of(pieces, said["model"], list(map(_mapping, store.others)))
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
            evidence=tuple(
                EvidenceNamed(id=i, digest=d)
                for i, d in evidence.names(
                    fulfilments=in_force is not None and in_force.version.has_binding_obligations
                )
            ),
            engine=Engine(version=ENGINE_VERSION, semantics=SEMANTICS),
            at=at,
            known_at=provenance["known_at"],
            actor=provenance["actor"],
        ),
        previous=None if changed is None else store.determinations[changed["since"]],
    )


def _mapping(text: bytes) -> Body:
    body = decode_json(text)
    assert isinstance(body, dict), "every recorded document is a mapping"
    return body
