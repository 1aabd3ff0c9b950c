"""Decision cases: evidence in, determination out, as a table that a policy's author can read.

A case is a small YAML mapping that names its point. `like: <name>` begins from a case further up:
its instant, action, model and evidence; each list of evidence that the case gives itself replaces
that list. Of `want` only what is named is compared, and lists of names are compared as sets.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, Field, StringConstraints, TypeAdapter

from app.assessment.assessment import Assessment, ModelVersion
from app.assessment.evidence import Evidence, OtherModel, Recorded
from app.assessment.exceptions import (
    Approved,
    ExceptionOnRecord,
    GivenApproval,
    RequestedException,
)
from app.assessment.fulfilments import SupposedFulfilment
from app.assessment.orders import Lifted, Lifting, Order, OrderOnRecord
from app.assessment.safeguards import SafeguardReport
from app.assessment.sign_offs import SignOff
from app.canonical import canonical_json, digest
from app.decoding import decode_yaml, pointer
from app.determination.decide import Question, decide
from app.determination.obligations import as_given
from app.determination.record import (
    Determination,
    ObligationAnswer,
    ThresholdAnswer,
    Truthfulness,
)
from app.errors import Fault, InvalidDocument
from app.parsing import Places, parse, place
from app.policy.language import policy_digest
from app.policy.timeline import Activated, in_force_at, timeline
from app.policy.version import PolicyVersion
from app.vocabulary import (
    TEXT,
    Document,
    Flag,
    Instant,
    Line,
    Sentence,
    write_instant,
)

T = TypeVar("T", bound=BaseModel)


# --- what a case wants -------------------------------------------------------------------------


class WantedLine(Document):
    """What is wanted of one result held against its line."""

    zone: Literal["rule_out", "middle", "rule_in", "crossed", "none"] | None = None
    established: Flag | None = None
    load_bearing: Flag | None = None


class WantedThreshold(Document):
    """What is wanted of a threshold's answer, or of a domain's that has none."""

    status: Literal["reached", "ruled_out", "not_ruled_out", "no_threshold"] | None = None
    basis: str | None = None
    binds: Flag | None = None
    requires: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    lines: dict[str, tuple[WantedLine, ...]] = {}
    """By line, each current result, in the order of the answer (by variant)."""


class WantedStandard(Document):
    """What is wanted of a standard's answer; `required: false`: that it is not required at all."""

    required: Flag = True
    level: str | None = None
    met: Truthfulness | None = None
    before: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


class Want(Document):
    """What is wanted of a determination. Only fields that are given are compared."""

    decision: Literal["allow", "allow_with_conditions", "deny"] | None = None
    level: str | None = None
    thresholds: dict[str, WantedThreshold] = {}
    standards: dict[str, WantedStandard] = {}
    reassessment: Truthfulness | None = None
    reasons: tuple[str, ...] = ()
    """The codes of all reasons."""
    conditions: tuple[str, ...] = ()
    """The codes of all conditions."""
    consequences: tuple[str, ...] = ()
    """The codes of all consequences."""
    obligations: tuple[str, ...] = ()
    """The ids of all obligations."""
    due: dict[str, Line] = {}
    """By obligation: the instant at which it is due, `before` the action, or `none`."""
    flags: tuple[str, ...] = ()
    basis: Literal["policy", "voluntary", "outside-policy"] | None = None
    valid_until: Instant | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One case with `like` resolved: a question, what is known of the model, what is wanted."""

    name: str
    note: str
    policy: str
    at: datetime
    action: str
    model: ModelVersion
    evidence: Evidence
    want: Want


@dataclass(frozen=True, slots=True)
class CaseFile:
    """The cases of one policy version."""

    policy: str
    version: str
    cases: tuple[Case, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a determination is not what the case wants; `path` is a pointer into `want`."""

    path: str
    wanted: object
    got: object


def run_case(case: Case, version: PolicyVersion) -> tuple[Difference, ...]:
    """Everything in which the determination under *version* is not what *case* wants."""
    in_force = in_force_at(
        timeline([Activated(version, policy_digest(version), version.effective)]), case.at
    )
    question = Question(case.model.model, case.action, case.policy, case.at)
    determination = decide(question, in_force, case.model, case.evidence)
    return tuple(_differences(case.want, _summary(determination)))


def _summary(determination: Determination) -> dict[str, object]:
    """The determination in the terms of `Want`."""
    return {
        "decision": determination.decision,
        "level": determination.level,
        "thresholds": {answer.id: _threshold(answer) for answer in determination.thresholds},
        "standards": {answer.id: answer.model_dump() for answer in determination.standards},
        "reassessment": determination.reassessment,
        "reasons": tuple(reason.code for reason in determination.reasons),
        "conditions": tuple(condition.code for condition in determination.conditions),
        "consequences": tuple(consequence.code for consequence in determination.consequences),
        "obligations": tuple(obligation.id for obligation in determination.obligations),
        "due": {obligation.id: _due(obligation) for obligation in determination.obligations},
        "flags": determination.flags,
        "basis": determination.basis,
        "valid_until": determination.valid_until,
    }


def _threshold(answer: ThresholdAnswer) -> dict[str, object]:
    fields = answer.model_dump()
    lines: dict[str, tuple[dict[str, object], ...]] = {}
    for line in fields["lines"]:
        lines[line["line"]] = (*lines.get(line["line"], ()), line)
    return fields | {"lines": lines}


def _due(obligation: ObligationAnswer) -> str:
    if obligation.before_action:
        return "before"
    return "none" if obligation.due is None else write_instant(obligation.due)


def _differences(
    want: BaseModel, got: Mapping[str, object], path: tuple[str, ...] = ()
) -> Iterator[Difference]:
    for name in type(want).model_fields:
        if name not in want.model_fields_set:
            continue
        wanted, answer = getattr(want, name), got[name]
        if isinstance(wanted, dict):
            assert isinstance(answer, dict), "both sides of a mapping are mappings"
            for id, entry in wanted.items():
                yield from _entry(entry, answer.get(id), (*path, name, id))
        elif isinstance(wanted, tuple):
            assert isinstance(answer, tuple), "both sides of a list are lists"
            if set(wanted) != set(answer):
                shown = sorted(set(wanted)), sorted(set(answer))
                yield Difference(pointer(*path, name), *shown)
        elif wanted != answer:
            yield Difference(pointer(*path, name), _shown(wanted), _shown(answer))


def _entry(wanted: Any, answer: Any, path: tuple[str, ...]) -> Iterator[Difference]:
    """Where one entry of a mapping, a document, a list of documents or text, is not as wanted."""
    if isinstance(wanted, tuple):
        if len(wanted) != len(answer or ()):
            yield Difference(pointer(*path), len(wanted), len(answer or ()))
            return
        for i, (one, other) in enumerate(zip(wanted, answer, strict=True)):
            yield from _differences(one, other, (*path, str(i)))
        return
    if isinstance(wanted, str):
        if wanted != answer:
            yield Difference(pointer(*path), wanted, answer)
        return
    unwanted = isinstance(wanted, WantedStandard) and not wanted.required
    if answer is None:
        if not unwanted:
            yield Difference(pointer(*path), "an answer", None)
    elif unwanted and answer["required"]:
        yield Difference(pointer(*path, "required"), False, True)
    else:
        yield from _differences(wanted, answer, path)


def _shown(value: object) -> object:
    return write_instant(value) if isinstance(value, datetime) else value


# --- reading -----------------------------------------------------------------------------------

_Body = dict[str, Any]


class _WrittenEvidence(Document):
    assessments: tuple[_Body, ...] | None = None
    safeguards: tuple[_Body, ...] | None = None
    sign_offs: tuple[_Body, ...] | None = None
    exceptions: tuple[_Body, ...] | None = None
    orders: tuple[_Body, ...] | None = None
    fulfilments: tuple[_Body, ...] | None = None


class _WrittenOther(Document):
    model: _Body
    evidence: _WrittenEvidence = _WrittenEvidence()


class _WrittenException(RequestedException):
    approvals: tuple[_Body, ...] = ()


class _WrittenOrder(Order):
    lifted_at: Instant | None = None
    lifted_reason: Sentence | None = None


class _WrittenCase(Document):
    name: Line
    note: Sentence
    like: Line | None = None
    at: Instant | None = None
    action: Line | None = None
    model: _Body | None = None
    evidence: _WrittenEvidence = _WrittenEvidence()
    others: tuple[_WrittenOther, ...] | None = None
    want: Want


class _WrittenFile(Document):
    policy: Annotated[
        str,
        StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}@[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$"),
    ]
    cases: Annotated[tuple[_WrittenCase, ...], Field(min_length=1)]


_FILE: Final = TypeAdapter(_WrittenFile)
_MODEL: Final = TypeAdapter(ModelVersion)
_ASSESSMENT: Final = TypeAdapter(Assessment)
_SAFEGUARD: Final = TypeAdapter(SafeguardReport)
_SIGN_OFF: Final = TypeAdapter(SignOff)
_EXCEPTION: Final = TypeAdapter(_WrittenException)
_APPROVAL: Final = TypeAdapter(GivenApproval)
_ORDER: Final = TypeAdapter(_WrittenOrder)
_FULFILMENT: Final = TypeAdapter(SupposedFulfilment)

_Written = tuple[str, _Body]
"""A body as it was written, with the pointer to where it stands."""


@dataclass(frozen=True, slots=True)
class _GivenEvidence:
    """The evidence on one model version, as it was written."""

    assessments: tuple[_Written, ...] = ()
    safeguards: tuple[_Written, ...] = ()
    sign_offs: tuple[_Written, ...] = ()
    exceptions: tuple[_Written, ...] = ()
    orders: tuple[_Written, ...] = ()
    fulfilments: tuple[_Written, ...] = ()


@dataclass(frozen=True, slots=True)
class _Given:
    """What a case says itself or takes over, as it was written."""

    at: datetime | None = None
    action: str | None = None
    model: _Written | None = None
    evidence: _GivenEvidence = _GivenEvidence()
    others: tuple[tuple[_Written, _GivenEvidence], ...] = ()


@dataclass(slots=True)
class _Reader:
    """Turns written bodies into evidence, and keeps every fault with its place."""

    policy: str
    places: Places
    faults: set[Fault] = field(default_factory=set)

    def body(self, kind: TypeAdapter[T], written: _Written, defaults: _Body) -> T | None:
        """*written* as *kind*, or nothing and a fault."""
        at, body = written
        try:
            return parse(kind, defaults | body, TEXT)
        except InvalidDocument as invalid:
            for fault in invalid.faults:
                self.fault(at + fault.pointer, fault.code, fault.message)
            return None

    def fault(self, at: str, code: str, message: str) -> None:
        """Note what is wrong at *at*."""
        self.faults.add(place(Fault(at, code, message), self.places))

    def evidence(
        self, given: _GivenEvidence, model: ModelVersion, action: str, at: datetime, origin: int = 0
    ) -> Evidence:
        """The evidence of a case on *model*, with ids that are its own.

        `origin` tells the evidence on one model version from that on another.
        """
        on_model = {"model": model.model}
        under_policy = on_model | {"policy": self.policy}
        asked = under_policy | {"action": action}
        return Evidence(
            self._recorded("asm", _ASSESSMENT, self._findings(given.assessments), on_model, origin),
            self._recorded("sfg", _SAFEGUARD, given.safeguards, under_policy, origin),
            self._recorded(
                "sgn", _SIGN_OFF, given.sign_offs, asked | {"given_at": write_instant(at)}, origin
            ),
            tuple(map(self._exception, self._recorded("exc", _EXCEPTION, given.exceptions, asked))),
            tuple(map(self._order, self._recorded("ord", _ORDER, given.orders, on_model))),
            tuple(
                Recorded(one.id, one.digest, as_given(one.item, at))
                for one in self._recorded("ful", _FULFILMENT, given.fulfilments, under_policy)
            ),
        )

    def _exception(self, written: "Recorded[_WrittenException]") -> Recorded[ExceptionOnRecord]:
        item = written.item
        request = RequestedException.model_construct(
            **{name: getattr(item, name) for name in RequestedException.model_fields}
        )
        about: _Body = {"exception": written.id}
        given = [
            self.body(_APPROVAL, ("", body), about | {"reason": "approved"})
            for body in item.approvals
        ]
        approvals = tuple(
            Approved(f"exa_{written.id[4:]}{i:02x}", digest(_bytes(approval)), approval)
            for i, approval in enumerate(given)
            if approval is not None
        )
        on_record = ExceptionOnRecord(request, approvals)
        return Recorded(written.id, digest(_bytes(request)), on_record)

    def _order(self, written: "Recorded[_WrittenOrder]") -> Recorded[OrderOnRecord]:
        item = written.item
        order = Order.model_construct(**{name: getattr(item, name) for name in Order.model_fields})
        lifted = None
        if item.lifted_at is not None:
            lifting = Lifting(reason=item.lifted_reason or "lifted", lifted_at=item.lifted_at)
            lifted = Lifted(f"lft_{written.id[4:]}", digest(_bytes(lifting)), lifting)
        return Recorded(written.id, digest(_bytes(order)), OrderOnRecord(order, lifted))

    def _findings(self, assessments: tuple[_Written, ...]) -> tuple[_Written, ...]:
        """The assessments with this file's policy in each finding that names none."""
        return tuple(
            (
                at,
                body
                | {
                    "findings": [
                        {"policy": self.policy} | finding if isinstance(finding, dict) else finding
                        for finding in body["findings"]
                    ]
                }
                if isinstance(body.get("findings"), list)
                else body,
            )
            for at, body in assessments
        )

    def _recorded(
        self,
        prefix: str,
        kind: TypeAdapter[T],
        written: tuple[_Written, ...],
        defaults: _Body,
        origin: int = 0,
    ) -> tuple[Recorded[T], ...]:
        items = [self.body(kind, one, defaults) for one in written]
        return tuple(
            Recorded(f"{prefix}_{(origin << 64) + i:032x}", digest(_bytes(item)), item)
            for i, item in enumerate(items)
            if item is not None
        )


def _bytes(item: BaseModel) -> bytes:
    return canonical_json(item.model_dump(mode="json"))


def read_cases(text: bytes) -> CaseFile:
    """The cases that *text*, a YAML document, says.

    Raises `UndecodableDocument` or `InvalidDocument` with every fault, each with line and column.
    """
    decoded = decode_yaml(text)
    written = parse(_FILE, decoded.value, TEXT, decoded.places)
    policy, _, version = written.policy.partition("@")
    reader = _Reader(policy, decoded.places)
    above: dict[str, _Given] = {}
    cases = [
        case
        for position, one in enumerate(written.cases)
        if (case := _case(reader, one, pointer("cases", position), above)) is not None
    ]
    if reader.faults:
        in_order = sorted(reader.faults, key=lambda f: (f.line or 0, f.column or 0, f.pointer))
        raise InvalidDocument(tuple(in_order))
    return CaseFile(policy, version, tuple(cases))


def _case(reader: _Reader, written: _WrittenCase, at: str, above: dict[str, _Given]) -> Case | None:
    """The case with `like` resolved; nothing where it is faulty, and then the reader knows why."""
    if written.like is not None and written.like not in above:
        reader.fault(f"{at}/like", "unknown-case", f"no case `{written.like}` stands above")
        return None
    if written.name in above:
        reader.fault(f"{at}/name", "repeated", f"a case `{written.name}` stands above")
    given = _given(written, at, above[written.like] if written.like is not None else _Given())
    above[written.name] = given
    if given.at is None or given.action is None or given.model is None:
        for name in ("at", "action", "model"):
            if getattr(given, name) is None:
                reader.fault(f"{at}/{name}", "missing", "is missing")
        return None
    model = reader.body(_MODEL, given.model, {})
    if model is None:
        return None
    evidence = reader.evidence(given.evidence, model, given.action, given.at)
    others = {}
    for origin, (body, on_other) in enumerate(given.others, start=1):
        other = reader.body(_MODEL, body, {})
        if other is not None:
            known = reader.evidence(on_other, other, given.action, given.at, origin)
            others[other.model] = OtherModel(other, known)
    evidence = replace(evidence, others=others)
    return Case(
        name=written.name,
        note=written.note,
        policy=reader.policy,
        at=given.at,
        action=given.action,
        model=model,
        evidence=evidence,
        want=written.want,
    )


def _given(written: _WrittenCase, at: str, base: _Given) -> _Given:
    """*base* with everything that the case says itself."""
    others = base.others
    if written.others is not None:
        others = tuple(
            (
                (f"{at}/others/{i}/model", other.model),
                _given_evidence(other.evidence, f"{at}/others/{i}/evidence", _GivenEvidence()),
            )
            for i, other in enumerate(written.others)
        )
    return replace(
        base,
        at=written.at or base.at,
        action=written.action or base.action,
        model=base.model if written.model is None else (f"{at}/model", written.model),
        evidence=_given_evidence(written.evidence, f"{at}/evidence", base.evidence),
        others=others,
    )


def _given_evidence(written: _WrittenEvidence, at: str, base: _GivenEvidence) -> _GivenEvidence:
    """*base* with each list that is written replaced by it."""
    own: dict[str, tuple[_Written, ...]] = {
        name: tuple((f"{at}/{name}/{i}", body) for i, body in enumerate(bodies))
        for name in type(written).model_fields
        if (bodies := getattr(written, name)) is not None
    }
    return replace(base, **own)
