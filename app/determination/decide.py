"""The heart: what a policy version requires of a model, whether it is in place, and whether the
action may go ahead.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from app.assessment.assessment import ModelVersion
from app.assessment.evidence import Evidence, Recorded
from app.assessment.exceptions import INTERIM_MEASURES
from app.assessment.orders import OrderOnRecord
from app.decoding import pointer
from app.determination.reading import NEVER, Excepted, Owed, Read
from app.determination.record import (
    SEMANTICS,
    ConditionAnswer,
    ConsequenceAnswer,
    Determination,
    LineAnswer,
    ObligationAnswer,
    Reason,
    StandardAnswer,
    ThresholdAnswer,
)
from app.policy.conditions import (
    Condition,
    Leaf,
    ModelFact,
    Polarity,
    Reading,
    fact_holds,
    truth_of,
)
from app.policy.timeline import FirstRecorded, PolicyInForce
from app.policy.version import Obligation, PolicyVersion, RequiredSignOff, Reversal, Threshold
from app.vocabulary import Basis, Decision, Duration, Outcome, Status, Truth, write_instant


@dataclass(frozen=True, slots=True)
class Question:
    """May this action go ahead on this model version under this policy, at this instant?"""

    model: str
    action: str
    policy: str
    at: datetime


def decide(
    question: Question,
    policy: PolicyInForce | None,
    model: ModelVersion | None,
    evidence: Evidence,
    semantics: int = SEMANTICS,
) -> Determination:
    """Decide what the policy requires of the model, and whether the action may go ahead.

    1. Deny where no version is in force, the model is unknown, the policy does not speak of it,
       or the version does not name the action.
    2. Read whether the policy wants the model assessed anew.
    3. Read each capability threshold: reached, ruled out, or neither; and whether it binds.
    4. Collect the standards that the baseline, every binding threshold and standing orders require.
    5. Read each required standard against the safeguards: met, not met, or unknown; and where it
       is not met, whether an exception lets the action go ahead all the same.
    6. Read the sign-offs that the action needs, and whether anyone reversed them; and whether the
       obligations that are binding were fulfilled.
    7. Close the gate unless nothing prohibits the action, every standard that must precede it is
       met or excepted, it is signed off, and no binding obligation is late.
    8. Read the orders from outside the policy that stop or limit it.
    9. Say with what it may go ahead, what the policy attaches to what is missing, what must be
       done, and until when this holds.

    Pure and total: the same arguments, in any order of the evidence, give the same determination,
    and no valid argument raises. `policy` is the version in force at `question.at`, `model` the
    registered model version, `evidence` everything known of it. `semantics`: under which meaning to
    decide; an older one gives what that engine said.
    """
    # (1) An unknown name closes the gate: nobody has said that it may open.
    if policy is None:
        return _denied(
            "policy.none_in_force",
            "",
            f"no version of `{question.policy}` is in force at {write_instant(question.at)}",
        )
    version = policy.version
    until = policy.until if semantics >= _SECOND else None
    if model is None:
        return _denied("model.unknown", "", f"model `{question.model}` is not registered", until)
    scope = scope_of(version, model, question.action)
    if scope is Truth.NO:
        return _denied(
            "policy.does_not_apply",
            _scope_place(version, model),
            f"`{version.policy}` {version.version} does not speak of {_whom(version, model)}",
            until,
        )
    if question.action not in version.actions:
        return _denied(
            "action.unknown",
            "/actions",
            f"`{version.policy}` {version.version} names no action `{question.action}`",
            until,
        )
    action = version.actions[question.action]

    # (2)
    read = Read(version, model, evidence, question.at, semantics)
    due = read.reassessment

    # (3)
    first_recorded = policy.first_recorded if semantics >= _SECOND else None
    answers = [_threshold(read, name, first_recorded) for name in version.thresholds]
    binding = [answer for answer, _ in answers if answer.binds]

    # (4)
    orders, next_order = read.orders(question.action)
    by_policy = _requirements(version, binding)
    requirements, undefined = _with_ordered(version, by_policy, orders)

    # (5)
    read_standards = [_standard(version, read, name, requirements) for name in requirements]
    excepted = {
        s.id: exception
        for s, _ in read_standards
        if s.met != "yes"
        and question.action in s.before
        and not _is_ordered(s.id, orders)
        and (exception := read.excepted(s.id, question.action)) is not None
    }
    standing = {name: before for name, before in requirements.items() if name not in excepted}
    standards = [
        (answer, reading)
        for answer, reading in read_standards
        if reading.truth is Truth.NO or not _stands_under_another(version, answer, standing)
    ]
    needed = [s for s, _ in standards if question.action in s.before]

    # (6)
    signed = [
        (sign_off, read.signed(question.action, sign_off.role, sign_off.verb, sign_off.max_age))
        for sign_off in action.sign_offs
    ]
    reversals = [read.reversed(question.action, one.role) for one in action.may_reverse]
    owed = [
        (place, i, obligation, read.owed(pointer(*place), obligation))
        for place, i, obligation in _asked_of(version, question.action, binding)
        if obligation.binding
    ]

    # (7)
    must_be_current = "reassessment-not-due" in action.needs
    reasons = [
        *_reassessment_reasons(version, due, blocks=must_be_current),
        *(_threshold_reason(version, answer) for answer in binding),
        *_prohibitions(version, question.action, binding),
        *(_shortfall(version, s, excepted.get(s.id)) for s in needed if s.met != "yes"),
        *(
            _unsigned(question.action, i, sign_off)
            for i, (sign_off, reading) in enumerate(signed)
            if reading.truth is not Truth.YES
        ),
        *(
            _reversed(question.action, i, reversal, reading)
            for i, (reversal, reading) in enumerate(zip(action.may_reverse, reversals, strict=True))
            if reading.truth is Truth.YES
        ),
        *(_owed(*one) for one in owed if one[-1].closes),
    ]

    # (8)
    policy_denies = any(_closes(reason, needed, by_policy, question.action) for reason in reasons)
    reasons += [*_order_reasons(orders), *undefined]
    denied = any(reason.blocks for reason in reasons)

    # (9)
    conditions = [
        *_exception_conditions(excepted),
        *_limitations(version, question.action, binding),
        *_ordered_limits(orders),
    ]
    decision: Literal["allow", "allow_with_conditions", "deny"]
    decision = "deny" if denied else "allow_with_conditions" if conditions else "allow"
    turning = [
        *([due] if due is not None else []),
        *(reading for _, readings in answers for reading in readings),
        *(reading for _, reading in read_standards),
        *(reading for _, reading in signed),
        *reversals,
    ]
    turns = [r.turns for r in turning if r.turns is not None]
    turns += [exception.until for exception in excepted.values()]
    turns += [one.due for *_, one in owed if one.due is not None and not one.closes]
    turns += [at for at in (policy.until, next_order) if at is not None]
    recommended = _recommended(version, read, binding, requirements)
    return Determination(
        decision=decision,
        level=_level(version, requirements, binding),
        standards=(*(s for s, _ in standards), *recommended),
        thresholds=(*(answer for answer, _ in answers), *_domains_without_threshold(version)),
        reassessment=None if due is None else due.truth.value,
        reasons=tuple(reasons),
        conditions=tuple(conditions),
        consequences=tuple(_consequences(version, question.action, standards, excepted)),
        obligations=tuple(_obligations(version, question, evidence, binding, standards)),
        flags=_flags(binding, answers, scope),
        basis="policy" if policy_denies else _basis_of(orders, by_policy, question.action),
        valid_until=min(turns, default=None),
    )


_SECOND: Final = 2


def scope_of(version: PolicyVersion, model: ModelVersion, action: str) -> Truth:
    """Whether the version speaks of that action on that model. What is not known of the model
    leaves it in scope: only NO lets a policy be passed over.
    """
    scope = version.applies_to
    if scope.developer is not None and model.developer not in scope.developer:
        return Truth.NO
    if scope.actions is not None and action not in scope.actions:
        return Truth.NO
    return Truth.YES if scope.when is None else _in_scope(scope.when, model)


def _in_scope(when: Condition, model: ModelVersion) -> Truth:
    def fact(leaf: Leaf) -> Reading:
        assert isinstance(leaf, ModelFact), "a version whose scope rests on more is refused"
        value = model.fact(leaf.fact)
        return NEVER if value is None else Reading(fact_holds(leaf, value))

    return truth_of(when, fact, Polarity.COUNTS_AGAINST).truth


def strictest(determinations: Iterable[Determination]) -> Decision:
    """The decision of a gate: that of the strictest; `deny` where there is none at all."""
    decisions = (Decision(one.decision) for one in determinations)
    return max(decisions, key=lambda decision: decision.strictness, default=Decision.DENY)


def _scope_place(version: PolicyVersion, model: ModelVersion) -> str:
    scope = version.applies_to
    if scope.developer is not None and model.developer not in scope.developer:
        return "/applies_to/developer"
    if scope.when is not None and _in_scope(scope.when, model) is Truth.NO:
        return "/applies_to/when"
    return "/applies_to/actions"


def _whom(version: PolicyVersion, model: ModelVersion) -> str:
    if _scope_place(version, model) == "/applies_to/developer":
        return f"models of `{model.developer}`"
    return (
        f"`{model.model}`" if _scope_place(version, model) == "/applies_to/when" else "this action"
    )


def _denied(code: str, place: str, message: str, until: datetime | None = None) -> Determination:
    reason = Reason(
        code=code, pointer=place, clause=None, evidence=(), blocks=True, message=message
    )
    return Determination(decision="deny", level=None, reasons=(reason,), valid_until=until)


# --- thresholds --------------------------------------------------------------------------------


def _threshold(
    read: Read, name: str, first_recorded: FirstRecorded | None
) -> tuple[ThresholdAnswer, tuple[Reading, ...]]:
    """The threshold's answer, with the readings whose turning would change it."""
    threshold = read.policy.thresholds[name]
    reached, ruled_out = read.reached(name), read.ruled_out(name)
    leans = read.leans(name)
    if reached.truth is Truth.YES:
        status, basis = Status.REACHED, _basis(reached)
    elif ruled_out.truth is Truth.YES:
        status, basis = Status.RULED_OUT, _basis(ruled_out)
    elif leans is not None and leans[0] is Outcome.CARRIED_OVER and leans[1] is not None:
        status, basis = Status.NOT_RULED_OUT, Basis.CARRIED_OVER
    elif read.assessed_at_all(name):
        status, basis = Status.NOT_RULED_OUT, Basis.PRECAUTION
    else:
        status, basis = Status.NOT_RULED_OUT, Basis.UNASSESSED
    binds = status is Status.REACHED or (
        status is Status.NOT_RULED_OUT and threshold.not_ruled_out.means == "binds"
    )
    lines = read.line_answers(threshold)
    evidence = {line.evidence for line in lines}.union(read.findings_on(name))
    if status is not Status.NOT_RULED_OUT:
        evidence = set((reached if status is Status.REACHED else ruled_out).evidence)
    flags = set()
    if reached.truth is Truth.YES and ruled_out.truth is Truth.YES:
        flags.add("contradiction")
    if status is Status.RULED_OUT and basis is Basis.FINDING:
        # A judgement that goes against a line stands, and says so for good.
        if any(line.zone in ("rule_in", "crossed") for line in lines):
            flags.add("against_line")
    if status is Status.NOT_RULED_OUT and read.lapsed_ruling_out(name):
        flags.add("ruling_out_does_not_count")
    if leans is not None and leans[0] is Outcome.BOUNDED_BY and leans[1] is not Status.RULED_OUT:
        flags.add("bound_does_not_hold")
    if first_recorded is not None:
        flags.update(_judged_before(read.evidence, name, lines, evidence, first_recorded))
    answer = ThresholdAnswer(
        id=name,
        domain=threshold.domain,
        status=status.value,
        basis=basis.value,
        binds=binds,
        requires=tuple(requirement.standard for requirement in threshold.requires),
        lines=lines,
        flags=tuple(sorted(flags)),
        evidence=tuple(sorted(evidence)),
    )
    return answer, (reached, ruled_out)


def _basis(settled: Reading) -> Basis:
    """A finding outranks lines: where a judgement was needed, it is what the answer rests on."""
    for basis in (Basis.FINDING, Basis.BOUNDED_BY, Basis.CARRIED_OVER):
        if basis.value in settled.rests_on:
            return basis
    return Basis.LINES


def _judged_before(
    evidence: Evidence,
    name: str,
    lines: Iterable[LineAnswer],
    found_in: Iterable[str],
    first_recorded: FirstRecorded,
) -> Iterable[str]:
    """Flags for a line or a threshold that was put on record after what it judges."""
    recorded_at = evidence.recorded_at
    for line in lines:
        since = first_recorded.lines.get(line.line)
        if since is not None and recorded_at.get(line.evidence, since) < since:
            yield "line_after_result"
    since = first_recorded.thresholds.get(name)
    if since is not None and any(recorded_at.get(id, since) < since for id in found_in):
        yield "threshold_after_result"


def _domains_without_threshold(version: PolicyVersion) -> Iterable[ThresholdAnswer]:
    """A domain that no threshold measures is not "below" anything."""
    covered = {threshold.domain for threshold in version.thresholds.values()}
    for name in version.domains:
        if name not in covered:
            yield ThresholdAnswer(
                id=name,
                domain=name,
                status=Status.NO_THRESHOLD.value,
                basis=None,
                binds=False,
                requires=(),
                lines=(),
                flags=(version.domains[name].status,),
                evidence=(),
            )


def _threshold_reason(version: PolicyVersion, answer: ThresholdAnswer) -> Reason:
    threshold: Threshold = version.thresholds[answer.id]
    reached = answer.status == Status.REACHED.value
    said = "is reached" if reached else _NOT_RULED_OUT[answer.basis or ""]
    return Reason(
        code=f"threshold.{answer.status}",
        pointer=pointer("thresholds", answer.id),
        clause=threshold.clause if reached else threshold.not_ruled_out.clause,
        evidence=answer.evidence,
        blocks=False,
        message=f"`{answer.id}` {said}, so {_list(answer.requires)} {_is(answer.requires)} required"
        if answer.requires
        else f"`{answer.id}` {said}",
    )


_NOT_RULED_OUT = {
    Basis.PRECAUTION.value: "is not ruled out and binds as if it were reached",
    Basis.UNASSESSED.value: "was not assessed and binds as if it were reached",
    Basis.CARRIED_OVER.value: "is carried over from a model on which it is not ruled out",
}


def _prohibitions(
    version: PolicyVersion, action: str, binding: Iterable[ThresholdAnswer]
) -> Iterable[Reason]:
    for answer in binding:
        for i, prohibition in enumerate(version.thresholds[answer.id].prohibits):
            if action in prohibition.actions:
                yield Reason(
                    code="threshold.prohibits",
                    pointer=pointer("thresholds", answer.id, "prohibits", i),
                    clause=prohibition.clause,
                    evidence=answer.evidence,
                    blocks=True,
                    message=f"`{answer.id}` binds, and then `{action}` is not permitted",
                )


def _flags(
    binding: Sequence[ThresholdAnswer],
    answers: Sequence[tuple[ThresholdAnswer, tuple[Reading, ...]]],
    scope: Truth,
) -> tuple[str, ...]:
    flags = {flag for answer, _ in answers for flag in answer.flags}
    if scope is Truth.UNKNOWN:
        flags.add("scope_unknown")
    if any(answer.status == Status.NOT_RULED_OUT.value for answer in binding):
        flags.add("precautionary")
    if any(answer.basis == Basis.UNASSESSED.value for answer in binding):
        flags.add("provisional")
    return tuple(sorted(flags))


# --- standards ---------------------------------------------------------------------------------


def _requirements(
    version: PolicyVersion, binding: Iterable[ThresholdAnswer]
) -> dict[str, set[str]]:
    """Each standard that the baseline or a binding threshold names, with what it must precede."""
    before: dict[str, set[str]] = {}
    requirements = list(version.baseline.requires) if version.baseline is not None else []
    for answer in binding:
        requirements.extend(version.thresholds[answer.id].requires)
    for requirement in requirements:
        before.setdefault(requirement.standard, set()).update(requirement.before)
    return before


def _with_ordered(
    version: PolicyVersion,
    by_policy: Mapping[str, set[str]],
    orders: Iterable[Recorded[OrderOnRecord]],
) -> tuple[dict[str, set[str]], list[Reason]]:
    """The policy's requirements with those of standing orders, and a reason for each standard that
    an order names and this version does not define: nothing can meet it.
    """
    requirements = {name: set(before) for name, before in by_policy.items()}
    undefined = []
    for recorded in orders:
        order = recorded.item.order
        for name in order.standards:
            if name in version.standards:
                before = set(order.actions or version.actions)
                requirements.setdefault(name, set()).update(before & set(version.actions))
            else:
                undefined.append(
                    Reason(
                        code="order.unknown_standard",
                        pointer="/standards",
                        clause=None,
                        evidence=(recorded.id,),
                        blocks=True,
                        message=f"`{order.issuer}` requires `{name}`, which this version does not "
                        "define",
                    )
                )
    return requirements, undefined


def _is_ordered(standard: str, orders: Iterable[Recorded[OrderOnRecord]]) -> bool:
    """Whether a standing order requires it: the policy's exceptions are from the policy alone."""
    return any(standard in recorded.item.order.standards for recorded in orders)


def _recommended(
    version: PolicyVersion,
    read: Read,
    binding: Iterable[ThresholdAnswer],
    requirements: Mapping[str, set[str]],
) -> tuple[StandardAnswer, ...]:
    """What the text recommends to others than its publisher: shown, and closing no gate."""
    before: dict[str, set[str]] = {}
    for answer in binding:
        for one in version.thresholds[answer.id].recommends:
            if one.standard not in requirements:
                before.setdefault(one.standard, set()).update(one.before)
    return tuple(
        _standard(version, read, name, before)[0].model_copy(update={"required": False})
        for name in before
    )


def _stands_under_another(
    version: PolicyVersion, answer: StandardAnswer, standing: Mapping[str, set[str]]
) -> bool:
    """Whether a stronger required standard stands for it, before all the same actions.

    Then it is met whenever that one is, unless it is itself reported not to be, and need not be
    listed beside it. A standard that an exception lets pass stands for no other.
    """
    return any(
        answer.id in version.standards[stronger].subsumes and set(answer.before) <= before
        for stronger, before in standing.items()
    )


def _standard(
    version: PolicyVersion, read: Read, name: str, before: Mapping[str, set[str]]
) -> tuple[StandardAnswer, Reading]:
    reading, missing = read.met(name)
    answer = StandardAnswer(
        id=name,
        level=version.standards[name].level,
        required=True,
        before=tuple(action for action in version.actions if action in before[name]),
        met=reading.truth.value,
        missing=missing,
        evidence=tuple(sorted(reading.evidence)),
    )
    return answer, reading


def _level(
    version: PolicyVersion, required: Iterable[str], binding: Iterable[ThresholdAnswer]
) -> str | None:
    """The highest level that the required standards and the binding thresholds name, else that of
    the baseline; `None` where the policy has none.
    """
    levels = version.levels or ()
    named = [version.standards[name].level for name in required]
    named += [version.thresholds[answer.id].level for answer in binding]
    named.append(None if version.baseline is None else version.baseline.level)
    ranks = [levels.index(level) for level in named if level is not None]
    return levels[max(ranks)] if ranks else None


def _shortfall(
    version: PolicyVersion, answer: StandardAnswer, exception: Excepted | None
) -> Reason:
    standard = version.standards[answer.id]
    if standard.undefined:
        code, why = (
            "standard.undefined",
            f"no text defines it, and {_list(answer.missing)} that it is met is not on record",
        )
    elif answer.met == Truth.NO.value:
        code, why = (
            "standard.not_met",
            f"{_list(answer.missing)} {_is(answer.missing)} not known to be met",
        )
    else:
        code, why = (
            "standard.unknown",
            f"nothing current says that {_list(answer.missing)} {_is(answer.missing)} met",
        )
    return Reason(
        code=code,
        pointer=pointer("standards", answer.id),
        clause=standard.clause,
        evidence=answer.evidence,
        blocks=exception is None,
        message=f"`{answer.id}` is required: {why}"
        if exception is None
        else f"`{answer.id}` is required: {why}; `{exception.request.exception}` lets it pass",
    )


def _exception_conditions(excepted: Mapping[str, Excepted]) -> Iterable[ConditionAnswer]:
    for standard, exception in excepted.items():
        name = exception.request.exception
        yield ConditionAnswer(
            code=name if name == INTERIM_MEASURES else f"exception:{name}",
            pointer=pointer(*exception.place),
            clause=exception.clause,
            message=f"instead of `{standard}`, until {write_instant(exception.until)}: "
            f"{exception.request.measures}",
        )


def _limitations(
    version: PolicyVersion, action: str, binding: Iterable[ThresholdAnswer]
) -> Iterable[ConditionAnswer]:
    for answer in binding:
        for i, limitation in enumerate(version.thresholds[answer.id].limits):
            if action in limitation.actions:
                yield ConditionAnswer(
                    code=f"limitation:{limitation.id}",
                    pointer=pointer("thresholds", answer.id, "limits", i),
                    clause=limitation.clause,
                    message=limitation.statement,
                )


def _consequences(
    version: PolicyVersion,
    action: str,
    standards: Iterable[tuple[StandardAnswer, Reading]],
    excepted: Mapping[str, Excepted],
) -> Iterable[ConsequenceAnswer]:
    for answer, _ in standards:
        standard = version.standards[answer.id]
        met = answer.met == Truth.YES.value or answer.id in excepted
        if met or action not in answer.before:
            continue
        if (interim := standard.interim_measures) is not None:
            yield ConsequenceAnswer(
                code="interim-measures",
                pointer=pointer("standards", answer.id, "interim_measures"),
                clause=interim.clause,
                message=interim.statement,
            )
        for i, consequence in enumerate(standard.on_shortfall):
            if action in consequence.actions:
                yield ConsequenceAnswer(
                    code=consequence.do,
                    pointer=pointer("standards", answer.id, "on_shortfall", i),
                    clause=consequence.clause,
                    message=consequence.statement,
                )


# --- sign-offs, reassessment, obligations ------------------------------------------------------


def _unsigned(action: str, position: int, needed: RequiredSignOff) -> Reason:
    return Reason(
        code="sign_off.missing",
        pointer=pointer("actions", action, "sign_offs", position),
        clause=needed.clause,
        evidence=(),
        blocks=True,
        message=f"`{needed.role}` has not `{needed.verb.value}` `{action}`",
    )


def _reversed(action: str, position: int, reversal: Reversal, reading: Reading) -> Reason:
    return Reason(
        code="sign_off.reversed",
        pointer=pointer("actions", action, "may_reverse", position),
        clause=reversal.clause,
        evidence=tuple(sorted(reading.evidence)),
        blocks=True,
        message=f"`{reversal.role}` has reversed what was approved of `{action}`",
    )


def _reassessment_reasons(
    version: PolicyVersion, due: Reading | None, *, blocks: bool
) -> Iterable[Reason]:
    if due is None or version.reassess is None or due.truth is Truth.NO:
        return
    known = due.truth is Truth.YES
    yield Reason(
        code="reassessment.due" if known else "reassessment.unknown",
        pointer="/reassess",
        clause=version.reassess.clause,
        evidence=tuple(sorted(due.evidence)),
        blocks=blocks,
        message="a new assessment is due"
        if known
        else "it is not known whether a new assessment is due",
    )


_Place = tuple[str, str]


def _asked_of(
    version: PolicyVersion, action: str, binding: Iterable[ThresholdAnswer]
) -> Iterable[tuple[_Place, int, Obligation]]:
    """The obligations of the action and of every binding threshold, with where they stand."""
    for i, obligation in enumerate(version.actions[action].obligations):
        yield ("actions", action), i, obligation
    for answer in binding:
        for i, obligation in enumerate(version.thresholds[answer.id].obligations):
            yield ("thresholds", answer.id), i, obligation


def _owed(place: _Place, position: int, obligation: Obligation, owed: Owed) -> Reason:
    told = f"`{obligation.id}` is binding, and "
    if owed.standing == "unknown":
        told += f"there is no `{obligation.since_assessment}` assessment from which it runs"
    elif owed.standing == "overdue" and owed.due is not None:
        told += f"was not done by {write_instant(owed.due)}"
    else:
        told += "must be done before the action"
    return Reason(
        code=f"obligation.{owed.standing}",
        pointer=pointer(*place, "obligations", position),
        clause=obligation.clause,
        evidence=() if owed.evidence is None else (owed.evidence,),
        blocks=True,
        message=told,
    )


def _obligations(
    version: PolicyVersion,
    question: Question,
    evidence: Evidence,
    binding: Iterable[ThresholdAnswer],
    standards: Iterable[tuple[StandardAnswer, Reading]],
) -> Iterable[ObligationAnswer]:
    for place, i, obligation in _asked_of(version, question.action, binding):
        yield _obligation(obligation, pointer(*place, "obligations", i), evidence, question.at)
    for standard, reading in standards:
        if version.standards[standard.id].review is not None and reading.turns is not None:
            yield ObligationAnswer(
                id="re-approve-safeguards",
                pointer=pointer("standards", standard.id, "review"),
                clause=version.standards[standard.id].clause,
                by=None,
                before_action=False,
                due=reading.turns,
                message=f"report anew that `{standard.id}` is met",
            )


def _obligation(
    obligation: Obligation, place: str, evidence: Evidence, at: datetime
) -> ObligationAnswer:
    due = obligation.due
    begun = [
        one.item.conducted_at
        for one in evidence.assessed
        if one.item.kind == obligation.since_assessment and one.item.conducted_at <= at
    ]
    since = max(begun, default=at)
    return ObligationAnswer(
        id=obligation.id,
        pointer=place,
        clause=obligation.clause,
        by=obligation.by,
        before_action=due == "before",
        due=due.after(since) if isinstance(due, Duration) else None,
        message=obligation.statement,
    )


# --- orders ------------------------------------------------------------------------------------


def _order_reasons(orders: Iterable[Recorded[OrderOnRecord]]) -> Iterable[Reason]:
    for recorded in orders:
        order = recorded.item.order
        if order.effect == "limit":
            continue
        stops = order.effect == "stop"
        required = f" ({_list(order.standards)})" if order.standards else ""
        yield Reason(
            code=f"order.{order.effect}",
            pointer="",
            clause=None,
            evidence=(recorded.id,),
            blocks=stops,
            message=f"`{order.issuer}` ordered{required}: {order.statement}",
        )


def _ordered_limits(orders: Iterable[Recorded[OrderOnRecord]]) -> Iterable[ConditionAnswer]:
    for recorded in orders:
        order = recorded.item.order
        if order.effect == "limit":
            yield ConditionAnswer(
                code="order.limit",
                pointer="",
                clause=None,
                message=f"`{order.issuer}` ordered: {order.statement}",
            )


def _closes(
    reason: Reason,
    needed: Iterable[StandardAnswer],
    by_policy: Mapping[str, set[str]],
    action: str,
) -> bool:
    """Whether the reason closes the gate by the policy alone, without what orders require."""
    ordered = {
        pointer("standards", s.id) for s in needed if action not in by_policy.get(s.id, set())
    }
    return reason.blocks and reason.pointer not in ordered


def _basis_of(
    orders: Iterable[Recorded[OrderOnRecord]], by_policy: Mapping[str, set[str]], action: str
) -> Literal["policy", "voluntary", "outside-policy"]:
    """What an answer rests on that the policy alone would have made as permissive or more so."""
    voluntary = False
    for recorded in orders:
        order = recorded.item.order
        asks_more = any(action not in by_policy.get(name, set()) for name in order.standards)
        if order.effect == "require" and not asks_more:
            continue
        if order.effect != "require" or order.issued_by != "company":
            return "outside-policy"
        voluntary = True
    return "voluntary" if voluntary else "policy"


# --- words -------------------------------------------------------------------------------------


def _is(names: Sequence[str]) -> str:
    return "are" if len(names) > 1 else "is"


def _list(names: Sequence[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if quoted[1:] else quoted)
