"""The heart: what a policy version requires of a model, whether it is in place, and whether the
action may go ahead.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.assessment.assessment import ModelVersion
from app.assessment.evidence import Evidence
from app.decoding import pointer
from app.determination.reading import Read
from app.determination.record import (
    ConsequenceAnswer,
    Determination,
    ObligationAnswer,
    Reason,
    StandardAnswer,
    ThresholdAnswer,
)
from app.policy.conditions import Reading
from app.policy.timeline import PolicyInForce
from app.policy.version import Obligation, PolicyVersion, RequiredSignOff, Threshold
from app.vocabulary import Basis, Duration, Status, Truth, write_instant


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
) -> Determination:
    """Decide what the policy requires of the model, and whether the action may go ahead.

    1. Deny where no version is in force, the model is unknown, the policy does not speak of its
       developer, or the version does not name the action.
    2. Read whether the policy wants the model assessed anew.
    3. Read each capability threshold: reached, ruled out, or neither; and whether it binds.
    4. Collect the standards that the baseline and every binding threshold require.
    5. Read each required standard against the safeguards: met, not met, or unknown.
    6. Read the sign-offs that the action needs.
    7. Close the gate unless every standard that must precede the action is met and signed off.
    8. Say what the policy attaches to what is missing, what must be done, and until when this
       holds.

    Pure and total: the same arguments, in any order of the evidence, give the same determination,
    and no valid argument raises. `policy` is the version in force at `question.at`, `model` the
    registered model version, `evidence` everything known of it.
    """
    # (1) An unknown name closes the gate: nobody has said that it may open.
    if policy is None:
        return _denied(
            "policy.none_in_force",
            "",
            f"no version of `{question.policy}` is in force at {write_instant(question.at)}",
        )
    version = policy.version
    if model is None:
        return _denied("model.unknown", "", f"model `{question.model}` is not registered")
    if model.developer not in version.applies_to.developer:
        return _denied(
            "policy.does_not_apply",
            "/applies_to/developer",
            f"`{version.policy}` {version.version} does not speak of models of `{model.developer}`",
        )
    if question.action not in version.actions:
        return _denied(
            "action.unknown",
            "/actions",
            f"`{version.policy}` {version.version} names no action `{question.action}`",
        )

    # (2)
    read = Read(version, model, evidence, question.at)
    due = read.reassessment

    # (3)
    answers = [_threshold(read, name) for name in version.thresholds]
    binding = [answer for answer, _ in answers if answer.binds]

    # (4)
    requirements = _requirements(version, binding)

    # (5)
    read_standards = [_standard(version, read, name, requirements) for name in requirements]
    standards = [
        (answer, reading)
        for answer, reading in read_standards
        if reading.truth is Truth.NO or not _stands_under_another(version, answer, requirements)
    ]
    needed = [s for s, _ in standards if question.action in s.before]

    # (6)
    action = version.actions[question.action]
    signed = [
        (sign_off, read.signed(question.action, sign_off.role, sign_off.verb, sign_off.max_age))
        for sign_off in action.sign_offs
    ]

    # (7)
    reasons = [
        *_reassessment_reasons(version, due),
        *(_threshold_reason(version, answer) for answer in binding),
        *(_shortfall(version, s) for s in needed if s.met != "yes"),
        *(
            _unsigned(question.action, i, sign_off)
            for i, (sign_off, reading) in enumerate(signed)
            if reading.truth is not Truth.YES
        ),
    ]
    denied = any(reason.blocks for reason in reasons)

    # (8)
    turning = [
        *([due] if due is not None else []),
        *(reading for _, readings in answers for reading in readings),
        *(reading for _, reading in read_standards),
        *(reading for _, reading in signed),
    ]
    turns = [r.turns for r in turning if r.turns is not None]
    if policy.until is not None:
        turns.append(policy.until)
    return Determination(
        decision="deny" if denied else "allow",
        level=_level(version, (version.standards[name].level for name in requirements)),
        standards=tuple(s for s, _ in standards),
        thresholds=(*(answer for answer, _ in answers), *_domains_without_threshold(version)),
        reassessment=None if due is None else due.truth.value,
        reasons=tuple(reasons),
        consequences=tuple(_consequences(version, question.action, standards)),
        obligations=tuple(_obligations(version, question, binding, standards)),
        flags=_flags(binding, answers),
        valid_until=min(turns, default=None),
    )


def _denied(code: str, place: str, message: str) -> Determination:
    reason = Reason(
        code=code, pointer=place, clause=None, evidence=(), blocks=True, message=message
    )
    return Determination(decision="deny", level=None, reasons=(reason,))


# --- thresholds --------------------------------------------------------------------------------


def _threshold(read: Read, name: str) -> tuple[ThresholdAnswer, tuple[Reading, ...]]:
    """The threshold's answer, with the readings whose turning would change it."""
    threshold = read.policy.thresholds[name]
    reached, ruled_out = read.reached(name), read.ruled_out(name)
    if reached.truth is Truth.YES:
        status, basis = Status.REACHED, _basis(reached)
    elif ruled_out.truth is Truth.YES:
        status, basis = Status.RULED_OUT, _basis(ruled_out)
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
    return Basis.FINDING if "finding" in settled.rests_on else Basis.LINES


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
}


def _flags(
    binding: Sequence[ThresholdAnswer],
    answers: Sequence[tuple[ThresholdAnswer, tuple[Reading, ...]]],
) -> tuple[str, ...]:
    flags = {flag for answer, _ in answers for flag in answer.flags}
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


def _stands_under_another(
    version: PolicyVersion, answer: StandardAnswer, before: Mapping[str, set[str]]
) -> bool:
    """Whether a stronger required standard stands for it, before all the same actions.

    Then it is met whenever that one is, unless it is itself reported not to be, and need not be
    listed beside it.
    """
    return any(
        answer.id in version.standards[stronger].subsumes and before[answer.id] <= before[stronger]
        for stronger in before
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


def _level(version: PolicyVersion, named: Iterable[str | None]) -> str | None:
    """The highest level that the required standards name; `None` where the policy has none."""
    levels = version.levels or ()
    ranks = [levels.index(level) for level in named if level is not None]
    return levels[max(ranks)] if ranks else None


def _shortfall(version: PolicyVersion, answer: StandardAnswer) -> Reason:
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
        blocks=True,
        message=f"`{answer.id}` is required: {why}",
    )


def _consequences(
    version: PolicyVersion, action: str, standards: Iterable[tuple[StandardAnswer, Reading]]
) -> Iterable[ConsequenceAnswer]:
    for answer, _ in standards:
        standard = version.standards[answer.id]
        if answer.met == Truth.YES.value or action not in answer.before:
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


def _reassessment_reasons(version: PolicyVersion, due: Reading | None) -> Iterable[Reason]:
    if due is None or version.reassess is None or due.truth is Truth.NO:
        return
    known = due.truth is Truth.YES
    yield Reason(
        code="reassessment.due" if known else "reassessment.unknown",
        pointer="/reassess",
        clause=version.reassess.clause,
        evidence=tuple(sorted(due.evidence)),
        blocks=False,
        message="a new assessment is due"
        if known
        else "it is not known whether a new assessment is due",
    )


def _obligations(
    version: PolicyVersion,
    question: Question,
    binding: Iterable[ThresholdAnswer],
    standards: Iterable[tuple[StandardAnswer, Reading]],
) -> Iterable[ObligationAnswer]:
    for i, obligation in enumerate(version.actions[question.action].obligations):
        place = pointer("actions", question.action, "obligations", i)
        yield _obligation(obligation, place, question.at)
    for answer in binding:
        for i, obligation in enumerate(version.thresholds[answer.id].obligations):
            place = pointer("thresholds", answer.id, "obligations", i)
            yield _obligation(obligation, place, question.at)
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


def _obligation(obligation: Obligation, place: str, at: datetime) -> ObligationAnswer:
    due = obligation.due
    return ObligationAnswer(
        id=obligation.id,
        pointer=place,
        clause=obligation.clause,
        by=obligation.by,
        before_action=due == "before",
        due=due.after(at) if isinstance(due, Duration) else None,
        message=obligation.statement,
    )


# --- words -------------------------------------------------------------------------------------


def _is(names: Sequence[str]) -> str:
    return "are" if len(names) > 1 else "is"


def _list(names: Sequence[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if quoted[1:] else quoted)
