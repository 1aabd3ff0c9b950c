"""Recorded answers, kept for good: recomputing one gives the same bytes, on every Python.

If this fails, a change alters what a past determination would have said: raise `SEMANTICS`, and
keep the engine of the old one runnable. A record that is in here is never changed.
"""

import hashlib
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import TypeAdapter

from app.assessment.assessment import Assessment, ModelVersion
from app.assessment.evidence import Evidence, Recorded
from app.assessment.fulfilments import GivenFulfilment
from app.assessment.safeguards import SafeguardReport
from app.assessment.sign_offs import SignOff
from app.canonical import canonical_json, digest
from app.decoding import decode_json
from app.determination.decide import Question, decide
from app.determination.obligations import obligation_id
from app.determination.provenance import engine_of
from app.determination.record import (
    SEMANTICS,
    Engine,
    EvidenceNamed,
    PolicyNamed,
    Provenance,
    determination_document,
)
from app.ledger.entry import Kind
from app.ledger.filing import FILINGS
from app.ledger.verification import StoredEntry
from app.operations.ask_gate import AskedGate, gate_of
from app.operations.determine import Asked, decide_on
from app.parsing import parse
from app.policy.language import canonical_policy, recorded_policy
from app.policy.timeline import Activated, PolicyInForce, in_force_at, timeline
from app.storage.store import Policies, Snapshot
from app.vocabulary import JSON, read_instant

HERE = Path(__file__).parent
AT = read_instant("2025-05-22T16:00:00Z")
KINDS: tuple[tuple[str, str, TypeAdapter[Any]], ...] = (
    ("asm", "assessments", TypeAdapter(Assessment)),
    ("sfg", "safeguards", TypeAdapter(SafeguardReport)),
    ("sgn", "sign_offs", TypeAdapter(SignOff)),
)


def evidence_of(bodies: dict[str, list[object]]) -> Evidence:
    """The bodies as they would have been recorded, with ids in their order."""
    pieces = []
    for prefix, kind, adapter in KINDS:
        items = [parse(adapter, body, JSON) for body in bodies[kind]]
        ids = [f"{prefix}_{i:032x}" for i in range(len(items))]
        pieces.append(
            tuple(
                Recorded(
                    id, digest(canonical_json({"id": id, **item.model_dump(mode="json")})), item
                )
                for id, item in zip(ids, items, strict=True)
            )
        )
    assessments, safeguards, sign_offs = pieces
    return Evidence(assessments, safeguards, sign_offs)


def kept(folder: Path) -> tuple[PolicyInForce, ModelVersion, Evidence]:
    """The policy version, which is in force, the model version, and what is known of it."""
    policy = (folder / "policy.json").read_bytes()
    bodies = decode_json((folder / "evidence.json").read_bytes())
    assert isinstance(bodies, dict)
    version = recorded_policy(policy)
    assert canonical_policy(version) == policy
    in_force = in_force_at(timeline([Activated(version, digest(policy), version.effective)]), AT)
    assert in_force is not None
    return in_force, parse(TypeAdapter(ModelVersion), bodies["model"], JSON), evidence_of(bodies)


def recomputed(folder: Path, semantics: int) -> bytes:
    """The determination that the engine of today gives, under those semantics, on what is kept."""
    in_force, model, evidence = kept(folder)
    version = in_force.version
    question = Question(model.model, "external-deployment", version.policy, AT)
    return determination_document(
        decide(question, in_force, model, evidence, semantics),
        id=f"det_{0:032x}",
        model=model.model,
        action=question.action,
        provenance=Provenance(
            policy=PolicyNamed(
                name=version.policy, version=version.version, digest=in_force.digest
            ),
            evidence=tuple(EvidenceNamed(id=id, digest=name) for id, name in evidence.names()),
            engine=Engine(version="0.1.0", semantics=semantics),
            at=AT,
            known_at=12,
            actor="key_0",
        ),
        previous=None,
    )


@pytest.mark.parametrize("model", ["opus-4", "sonnet-4"])
@pytest.mark.parametrize("semantics", range(1, SEMANTICS + 1))
def test_a_kept_answer_is_recomputed_to_the_byte(model: str, semantics: int) -> None:
    folder = HERE / f"semantics-{semantics}-{model}"
    record = (folder / "determination.json").read_bytes()

    assert recomputed(folder, semantics) == record
    assert orjson.loads(record)["provenance"]["engine"]["semantics"] == semantics


def gate_recomputed(record: bytes, semantics: int) -> bytes:
    """The gate as the engine of today gives it, under those semantics, on the evidence that is kept
    beside a determination, for the question and by the engine that the record names.
    """
    said = orjson.loads(record)
    in_force, model, evidence = kept(HERE / f"semantics-{semantics}-opus-4")
    name = in_force.version.policy
    snapshot = Snapshot({}, Policies(0, (), (in_force,), (), (), {}), model, evidence)
    asked, at = AskedGate(model=said["model"], action=said["action"]), read_instant(said["at"])
    question = Asked(model=asked.model, action=asked.action, policy=name)
    gate = gate_of(
        asked,
        [(name, snapshot)],
        [decide_on(at, question, snapshot, semantics)],
        said["determinations"],
        id=said["id"],
        at=at,
        actor=said["actor"],
        accepts_conditions=said["accepts_conditions"],
        engine=engine_of(said) if "engine" in said else None,
    )
    return canonical_json(gate.model_dump(mode="json"))


GATES = {"gate-before-engines": None, "gate-semantics-3": 3}
"""The gates that are kept: one of each shape, and the semantics that it names."""


@pytest.mark.parametrize("name", GATES)
def test_a_kept_gate_is_recomputed_to_the_byte(name: str) -> None:
    """Also one of those that named no engine: then it is that of its determinations."""
    record, semantics = (HERE / name / "gate.json").read_bytes(), GATES[name]

    assert gate_recomputed(record, semantics or 3) == record
    assert orjson.loads(record).get("engine", {}).get("semantics") == semantics


def test_a_gate_of_each_semantics_is_kept() -> None:
    """Since they name them."""
    assert set(range(3, SEMANTICS + 1)) <= set(GATES.values())


@pytest.mark.parametrize("name", ["credential", "revocation"])
def test_a_kept_key_and_its_revocation_are_filed_as_they_were(name: str) -> None:
    """In the one spelling that there is, and under the columns by which a caller is let in."""
    record = (HERE / "credential" / f"{name}.json").read_bytes()
    kind = {"credential": Kind.CREDENTIAL, "revocation": Kind.REVOCATION}[name]
    said = orjson.loads(record)
    (filing,) = (one for one in FILINGS if kind in one.kinds)
    entry = StoredEntry(0, kind.value, said["id"], said["by"], AT, b"", b"", record, b"")
    row = dict(zip(filing.columns, filing.says(entry, said, None), strict=True))

    assert canonical_json(said) == record
    if kind is Kind.CREDENTIAL:
        made = (row["principal"], row["secret_sha256"])
        key = b"aslk_" + b"1" * 32 + b"_" + b"s" * 43
        assert made == ("person:ada@lab.example", hashlib.sha256(key).digest())
    else:
        assert row["credential"] == "key_" + "1" * 32


def test_a_kept_fulfilment_is_read_and_written_to_the_byte() -> None:
    """And is of the obligation whose id follows from what it names."""
    record = (HERE / "fulfilment" / "fulfilment.json").read_bytes()
    said = orjson.loads(record)
    given = TypeAdapter(GivenFulfilment).validate_python(
        {name: value for name, value in said.items() if name != "id"}
    )
    place = given.pointer.removesuffix("/review")

    assert canonical_json({"id": said["id"], **given.model_dump(mode="json")}) == record
    assert given.obligation == obligation_id(given.model, given.policy, place, given.name)
