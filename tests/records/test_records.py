"""Recorded answers, kept for good: recomputing one gives the same bytes, on every Python.

If this fails, a change alters what a past determination would have said: raise `SEMANTICS`, and
keep the engine of the old one runnable. A record that is in here is never changed.
"""

from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import TypeAdapter

from app.assessment.assessment import Assessment, ModelVersion
from app.assessment.evidence import Evidence, Recorded
from app.assessment.safeguards import SafeguardReport
from app.assessment.sign_offs import SignOff
from app.canonical import canonical_json, digest
from app.decoding import decode_json
from app.determination.decide import Question, decide
from app.determination.record import (
    SEMANTICS,
    Engine,
    EvidenceNamed,
    PolicyNamed,
    Provenance,
    determination_document,
)
from app.parsing import parse
from app.policy.language import canonical_policy, recorded_policy
from app.policy.timeline import Activated, in_force_at, timeline
from app.vocabulary import JSON, read_instant

HERE = Path(__file__).parent
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


def recomputed(folder: Path, semantics: int) -> bytes:
    """The determination that the engine of today gives, under those semantics, on what is kept."""
    policy = (folder / "policy.json").read_bytes()
    bodies = decode_json((folder / "evidence.json").read_bytes())
    assert isinstance(bodies, dict)
    version = recorded_policy(policy)
    assert canonical_policy(version) == policy
    evidence = evidence_of(bodies)
    model = parse(TypeAdapter(ModelVersion), bodies["model"], JSON)
    at = read_instant("2025-05-22T16:00:00Z")
    in_force = in_force_at(timeline([Activated(version, digest(policy), version.effective)]), at)
    assert in_force is not None
    question = Question(model.model, "external-deployment", version.policy, at)
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
            at=at,
            known_at=12,
            actor="key_0",
        ),
        previous=None,
    )


@pytest.mark.parametrize("model", ["opus-4", "sonnet-4"])
@pytest.mark.parametrize("semantics", range(1, SEMANTICS + 1))
def test_a_kept_answer_is_recomputed_to_the_byte(model: str, semantics: int) -> None:
    folder = HERE / f"semantics-{semantics}-{model}"
    kept = (folder / "determination.json").read_bytes()

    assert recomputed(folder, semantics) == kept
    assert orjson.loads(kept)["provenance"]["engine"]["semantics"] == semantics
