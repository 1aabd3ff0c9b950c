"""A determination, and the document in which it is recorded.

`Determination` is what `decide` says. The recorded document adds which question it answers, what
changed since the previous answer, and its provenance; its canonical bytes are kept and served as
they are.
"""

from typing import Literal

import orjson

from app.canonical import canonical_json
from app.determination.changes import changes
from app.vocabulary import Decision, Document, Instant

ENGINE_VERSION = "0.1.0"
SEMANTICS = 3
"""Raised whenever a change to the engine alters what a past determination would have said.

1: the first. 2: a line no longer rules out what people found otherwise at the same time or later;
lines and thresholds that were recorded after what they judge are flagged; an answer to an unknown
name holds only as long as the version that gave it is in force. 3: what answers something found
against must be newer in both, the instant it speaks for and its place in the ledger; a ruling out
whose further conditions fail clears nothing; no line outweighs a judgement where people settle the
threshold, however new it is; clocks run from another model's assessments only while findings
carried over from it bear.
"""

Truthfulness = Literal["yes", "no", "unknown"]
Zone = Literal["rule_out", "middle", "rule_in", "crossed", "none"]


class StandardAnswer(Document):
    """A required standard: whether it is met, and what is missing.

    `before`: the actions that it must precede. `required` is always true: a standard that is not
    required is not listed.
    """

    id: str
    level: str | None
    required: bool
    before: tuple[str, ...]
    met: Truthfulness
    missing: tuple[str, ...]
    evidence: tuple[str, ...]


class LineAnswer(Document):
    """On which side of its line a result lies.

    `zone` is that of the value itself, `crossed` where the line has only a rule-out zone and the
    value is beyond it. `established`: the whole range at the policy's confidence lies in that zone.
    `interval`: whether that range was published or computed by this service; `null`: there is none.
    """

    line: str
    value: str
    unit: str
    zone: Zone
    established: bool
    interval: Literal["published", "computed"] | None
    load_bearing: bool
    variant: str | None
    evidence: str


class ThresholdAnswer(Document):
    """What the evidence says of a threshold; a domain without one has status `no_threshold`."""

    id: str
    domain: str
    status: Literal["reached", "ruled_out", "not_ruled_out", "no_threshold"]
    basis: (
        Literal["lines", "finding", "precaution", "bounded-by", "carried-over", "unassessed"] | None
    )
    binds: bool
    requires: tuple[str, ...]
    lines: tuple[LineAnswer, ...]
    flags: tuple[str, ...]
    evidence: tuple[str, ...]
    """What the status rests on; where it is `not_ruled_out`, all that was found or measured."""


class Reason(Document):
    """One reason, for programs and for people. `blocks`: it alone closes the gate."""

    code: str
    pointer: str
    clause: str | None
    evidence: tuple[str, ...]
    blocks: bool
    message: str


class ConditionAnswer(Document):
    """Something that the action may go ahead only with."""

    code: str
    pointer: str
    clause: str | None
    message: str


class ConsequenceAnswer(Document):
    """What the policy attaches to a shortfall."""

    code: str
    pointer: str
    clause: str
    message: str


class ObligationAnswer(Document):
    """Something that must be done, by whom, and when it is due; `due: null`: no clock runs."""

    id: str
    pointer: str
    clause: str
    by: str | None
    before_action: bool
    due: Instant | None
    message: str


class Determination(Document):
    """What a policy version says of one action on one model version at one instant."""

    decision: Literal["allow", "allow_with_conditions", "deny"]
    level: str | None
    standards: tuple[StandardAnswer, ...] = ()
    thresholds: tuple[ThresholdAnswer, ...] = ()
    reassessment: Truthfulness | None = None
    """Whether the policy wants the model assessed anew; `null` where it says nothing of it."""
    reasons: tuple[Reason, ...] = ()
    conditions: tuple[ConditionAnswer, ...] = ()
    consequences: tuple[ConsequenceAnswer, ...] = ()
    obligations: tuple[ObligationAnswer, ...] = ()
    flags: tuple[str, ...] = ()
    basis: Literal["policy", "voluntary", "outside-policy"] = "policy"
    valid_until: Instant | None = None
    """The first instant at which time alone could make any of this stricter; `null`: none known."""

    @property
    def strictness(self) -> int:
        """0 allow, 1 allow with conditions, 2 deny."""
        return Decision(self.decision).strictness


class PolicyNamed(Document):
    """The policy that was asked, and the version that answered; `null` where none was in force."""

    name: str
    version: str | None
    digest: str | None


class EvidenceNamed(Document):
    """A piece of evidence, by id and by the digest of its recorded bytes."""

    id: str
    digest: str


class Engine(Document):
    """The engine that decided. The same `semantics` gives the same bytes."""

    version: str
    semantics: int


class Provenance(Document):
    """Everything that a determination rests on, so that anyone can recompute it.

    `known_at` is the size of the ledger that it saw.
    """

    policy: PolicyNamed
    evidence: tuple[EvidenceNamed, ...]
    engine: Engine
    at: Instant
    known_at: int
    actor: str


def determination_document(
    determination: Determination,
    *,
    id: str,
    model: str,
    action: str,
    provenance: Provenance,
    previous: bytes | None,
) -> bytes:
    """The canonical bytes of a determination as they are recorded and served.

    `previous` is the document of the determination before it for the same model, action and policy,
    for what changed since; `None`: there is none to compare with.
    """
    fields = determination.model_dump(mode="json") | {
        "id": id,
        "model": model,
        "action": action,
        "provenance": provenance.model_dump(mode="json"),
    }
    fields["changed"] = None if previous is None else changes(orjson.loads(previous), fields)
    return canonical_json(fields)
