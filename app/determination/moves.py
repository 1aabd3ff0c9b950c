"""Moves: single pieces of evidence that could still be recorded, for and against an action.

The laws make every answer monotone in them: one more that permits never makes it stricter, one more
that counts against never makes it more permissive. So the smallest sets of moves that change an
answer are found completely (`smallest_sets`) by asking `decide`, and nothing is said twice.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Final, Literal, assert_never

from app.assessment.assessment import Assessment, Finding, Interval, Result
from app.assessment.evidence import Evidence, Recorded
from app.assessment.exceptions import (
    INTERIM_MEASURES,
    Approved,
    ExceptionOnRecord,
    GivenApproval,
    RequestedException,
)
from app.assessment.fulfilments import SupposedFulfilment
from app.assessment.orders import Lifted, Lifting, Order, OrderOnRecord
from app.assessment.safeguards import SafeguardReport
from app.assessment.sign_offs import SignOff
from app.determination.obligations import as_given, binding_obligations
from app.determination.reading import Read
from app.policy.conditions import (
    AssessedWithin,
    ComputeRatio,
    Condition,
    Elapsed,
    FindingIs,
    LineIn,
    SignedOff,
    walk,
)
from app.policy.version import Bound, EvaluationLine, PolicyVersion, Standard
from app.vocabulary import LATEST, Document, Number, Outcome, Verb

Kind = Literal[
    "finding",
    "result",
    "safeguard",
    "sign-off",
    "exception",
    "order",
    "lifting",
    "fulfilment",
    "assessment",
]


class Move(Document):
    """One piece of evidence that could be recorded, in words that a person can act on.

    Which fields say something depends on `kind`; the rest are `null` or empty.
    """

    kind: Kind
    message: str
    threshold: str | None = None
    outcome: str | None = None
    by: tuple[str, ...] = ()
    in_assessment: str | None = None
    line: str | None = None
    zone: Literal["rule_out", "rule_in", "outside"] | None = None
    value: Number | None = None
    """The value of the result that only just lies there."""
    standard: str | None = None
    places: tuple[str, ...] = ()
    """The criteria of the standard, or the judgements, that the reports must speak of."""
    met: bool | None = None
    role: str | None = None
    verb: str | None = None
    exception: str | None = None
    order: str | None = None
    obligation: str | None = None
    """Its id in the policy version, which asks for it at `pointer`."""
    pointer: str | None = None


def permitting(read: Read, action: str) -> list[Move]:
    """What could be recorded now that permits the action, likeliest first."""
    version = read.policy
    # First, so that they are left out last: what else is found may ask for something anew.
    moves: list[Move] = list(_fulfilments(read, action))
    for name, threshold in version.thresholds.items():
        moves += _rulings_out(version, name, threshold.ruled_out)
    moves += [_safe_result(name, version.lines[name]) for name in _lines_that_settle(version)]
    for name in version.standards:
        _, missing = read.met(name)
        if missing:
            moves.append(_met(name, missing))
    moves += _sign_offs(version, action)
    moves += [
        Move(
            kind="lifting",
            message=f"the order of `{one.item.order.issuer}` is lifted: {one.item.order.statement}",
            order=one.id,
        )
        for one in read.orders(action)[0]
    ]
    for name, standard in version.standards.items():
        moves += _exceptions(version, name, standard, action)
    return moves


def counting_against(read: Read, action: str) -> list[Move]:
    """What could be recorded now that counts against the action."""
    version = read.policy
    moves: list[Move] = []
    for name, threshold in version.thresholds.items():
        roles = _all_roles(threshold.reached, Outcome.REACHED) or tuple(version.roles)
        for outcome, said in (
            (Outcome.REACHED, "reached"),
            (Outcome.NOT_RULED_OUT, "not ruled out"),
        ):
            moves.append(
                Move(
                    kind="finding",
                    message=f"{_list(roles)} find that `{name}` is {said}",
                    threshold=name,
                    outcome=outcome.value,
                    by=roles,
                )
            )
    for name in _lines_that_settle(version):
        line = version.lines[name]
        zone: Literal["rule_in", "outside"] = "rule_in" if line.rule_in is not None else "outside"
        bound = _words(line.rule_in) if line.rule_in else f"not {_words(line.rule_out)}"
        moves.append(
            Move(
                kind="result",
                message=f"a result on `{name}` is {bound}",
                line=name,
                zone=zone,
                value=_value_in(line, zone),
            )
        )
    for name in version.standards:
        message = f"`{name}` is reported not to be met"
        moves.append(Move(kind="safeguard", message=message, standard=name, met=False))
    reassessed_by = {
        leaf.by
        for leaf in _leaves(None if version.reassess is None else version.reassess.when)
        if isinstance(leaf, SignedOff) and leaf.sign_off is Verb.REASSESS
    }
    for role in sorted(reassessed_by):
        message = f"`{role}` asks for a new assessment"
        moves.append(Move(kind="sign-off", message=message, role=role, verb=Verb.REASSESS.value))
    reversing = {one.role for one in version.actions[action].may_reverse}
    reversing |= {one.role for one in version.actions[action].sign_offs}
    for role in sorted(reversing):
        message = f"`{role}` reverses what was approved of `{action}`"
        moves.append(Move(kind="sign-off", message=message, role=role, verb=Verb.REVERSED.value))
    moves.append(Move(kind="order", message=f"an order stops `{action}`"))
    return moves


def _rulings_out(version: PolicyVersion, name: str, tree: Condition) -> Iterator[Move]:
    seen = set()
    for leaf in _leaves(tree):
        if not isinstance(leaf, FindingIs) or leaf.finding is not Outcome.RULED_OUT:
            continue
        kind = leaf.in_assessment or _kind_of_assessment(version, tree)
        if (leaf.by, kind) not in seen:
            seen.add((leaf.by, kind))
            yield Move(
                kind="finding",
                message=f"{_list(leaf.by)} rule `{name}` out in a `{kind}` assessment",
                threshold=name,
                outcome=Outcome.RULED_OUT.value,
                by=leaf.by,
                in_assessment=kind,
            )


def _kind_of_assessment(version: PolicyVersion, tree: Condition) -> str:
    """In which kind of assessment the version expects a finding."""
    reassess = None if version.reassess is None else version.reassess.when
    for leaf in (*_leaves(tree), *_leaves(reassess)):
        if isinstance(leaf, AssessedWithin):
            return leaf.assessment
        if isinstance(leaf, Elapsed):
            return leaf.elapsed.since_assessment
        if isinstance(leaf, ComputeRatio):
            return leaf.compute_ratio.since_assessment
    return "comprehensive"


def _lines_that_settle(version: PolicyVersion) -> list[str]:
    """The lines that any condition rests on."""
    trees = [t for one in version.thresholds.values() for t in (one.reached, one.ruled_out)]
    trees += [] if version.reassess is None else [version.reassess.when]
    return sorted(
        {leaf.line for tree in trees for leaf in _leaves(tree) if isinstance(leaf, LineIn)}
    )


def _safe_result(name: str, line: EvaluationLine) -> Move:
    zone: Literal["rule_out", "outside"] = "rule_out" if line.rule_out is not None else "outside"
    bound = _words(line.rule_out) if line.rule_out else f"not {_words(line.rule_in)}"
    return Move(
        kind="result",
        message=f"every current result on `{name}` is {bound}, its whole interval included",
        line=name,
        zone=zone,
        value=_value_in(line, zone),
    )


_JUST: Final = Decimal("0.000001")


def _value_in(line: EvaluationLine, zone: str) -> Decimal:
    """A value that only just lies in the zone, or only just outside of the one that there is."""
    bound = line.rule_in if zone == "rule_in" else line.rule_out
    if bound is not None and zone != "outside":
        closed = bound.at_most is not None or bound.at_least is not None
        return bound.number + (0 if closed else -_JUST if bound.upper else _JUST)
    only = line.rule_out or line.rule_in
    assert only is not None, "a line that settles something has a zone"
    return only.number + (_JUST if only.upper else -_JUST)


def _met(name: str, missing: Sequence[str]) -> Move:
    return Move(
        kind="safeguard",
        message=f"`{name}` is reported to be met in {_list(missing)}",
        standard=name,
        places=tuple(missing),
        met=True,
    )


def _sign_offs(version: PolicyVersion, action: str) -> Iterator[Move]:
    asked = [(one.role, one.verb) for one in version.actions[action].sign_offs]
    asked += [(one.role, Verb.APPROVED) for one in version.actions[action].may_reverse]
    asked += [
        (leaf.by, leaf.sign_off)
        for threshold in version.thresholds.values()
        for leaf in _leaves(threshold.ruled_out)
        if isinstance(leaf, SignedOff)
    ]
    for role, verb in dict.fromkeys(asked):
        message = f"`{role}` signs `{action}` off: {verb.value}"
        yield Move(kind="sign-off", message=message, role=role, verb=verb.value)


def _exceptions(
    version: PolicyVersion, name: str, standard: Standard, action: str
) -> Iterator[Move]:
    permitted: list[tuple[str, tuple[str, ...]]] = []
    if standard.interim_measures is not None:
        permitted.append((INTERIM_MEASURES, standard.interim_measures.approved_by))
    for exception, one in (version.exceptions or {}).items():
        if name in one.stands_for and (one.actions is None or action in one.actions):
            permitted.append((exception, one.approved_by))
    for exception, roles in permitted:
        yield Move(
            kind="exception",
            message=f"`{exception}` for `{name}` is approved by {_list(roles)}, two people at least",
            exception=exception,
            standard=name,
            by=roles,
        )


def _fulfilments(read: Read, action: str) -> Iterator[Move]:
    """That the binding obligations are fulfilled, whether they are late now or not: they may be asked
    for anew. And an assessment from which their clocks run, where there is none.
    """
    begun = {a.item.kind for a in read.evidence.assessments if a.item.conducted_at <= read.at}
    missing: dict[str, None] = {}
    for place, obligation in binding_obligations(read.policy, action):
        yield Move(
            kind="fulfilment",
            message=f"`{obligation.id}` is fulfilled: {obligation.statement}",
            obligation=obligation.id,
            pointer=place,
            role=obligation.by,
        )
        if obligation.since_assessment is not None and obligation.since_assessment not in begun:
            missing[obligation.since_assessment] = None
    for kind in missing:
        message = f"a `{kind}` assessment is made, from which the clock of what is binding runs"
        yield Move(kind="assessment", message=message, in_assessment=kind)


def _all_roles(tree: Condition, outcome: Outcome) -> tuple[str, ...]:
    leaves = [leaf for leaf in _leaves(tree) if isinstance(leaf, FindingIs)]
    return tuple(sorted({role for leaf in leaves if leaf.finding is outcome for role in leaf.by}))


def _leaves(tree: Condition | None) -> Iterator[Condition]:
    if tree is not None:
        yield from (node for _, node in walk(tree))


# --- making them -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Placed:
    """A move, and the instant that its evidence speaks for."""

    move: Move
    at: datetime


def piece(read: Read, action: str, placed: Placed, id: str) -> Evidence:
    """The evidence of one move, under that id; a lifted order stands for the order itself."""
    move, at = placed.move, placed.at
    match move.kind:
        case "finding" | "result" | "assessment":
            return Evidence(assessments=(Recorded(id, "", _assessment(read, placed)),))
        case "safeguard":
            reports = enumerate(_reports(read, placed))
            return Evidence(safeguards=tuple(Recorded(f"{id}_{i}", "", one) for i, one in reports))
        case "sign-off":
            return Evidence(sign_offs=(Recorded(id, "", _sign_off(read, action, placed)),))
        case "exception":
            return Evidence(exceptions=(Recorded(id, "", _exception(read, action, placed)),))
        case "order":
            order = Order(
                model=read.model.model,
                issuer="anyone",
                issued_by="other",
                effect="stop",
                statement=move.message,
                begins_at=at,
            )
            return Evidence(orders=(Recorded(id, "", OrderOnRecord(order)),))
        case "fulfilment":
            supposed = SupposedFulfilment(
                model=read.model.model,
                policy=read.policy.policy,
                pointer=move.pointer or "",
                name=move.obligation or "",
            )
            return Evidence(fulfilments=(Recorded(id, "", as_given(supposed, at)),))
        case "lifting":
            lifted = Lifted(id, "", Lifting(reason=move.message, lifted_at=at))
            return Evidence(
                orders=tuple(
                    replace(one, item=OrderOnRecord(one.item.order, lifted))
                    for one in read.evidence.orders
                    if one.id == move.order
                )
            )
    assert_never(move.kind)


def joined(evidence: Evidence, pieces: Iterable[Evidence]) -> Evidence:
    """The evidence with all those pieces."""
    all_ = list(pieces)
    orders = {one.id: one for held in (evidence, *all_) for one in held.orders}
    return replace(
        evidence,
        assessments=(*evidence.assessments, *(one for p in all_ for one in p.assessments)),
        safeguards=(*evidence.safeguards, *(one for p in all_ for one in p.safeguards)),
        sign_offs=(*evidence.sign_offs, *(one for p in all_ for one in p.sign_offs)),
        exceptions=(*evidence.exceptions, *(one for p in all_ for one in p.exceptions)),
        orders=tuple(orders.values()),
        fulfilments=(*evidence.fulfilments, *(one for p in all_ for one in p.fulfilments)),
    )


def _assessment(read: Read, placed: Placed) -> Assessment:
    move, policy = placed.move, read.policy
    findings: tuple[Finding, ...] = ()
    results: tuple[Result, ...] = ()
    if move.threshold is not None and move.outcome is not None:
        findings = (
            Finding(
                policy=policy.policy,
                threshold=move.threshold,
                outcome=Outcome(move.outcome),
                by=move.by or ("anyone",),
                reason=move.message,
            ),
        )
    if move.line is not None and move.value is not None:
        value = move.value
        exact = Interval(low=value, high=value, confidence=Decimal("0.999"))
        current = read.current_results(move.line) if move.line in policy.lines else ()
        variants = {m.result.variant for m in current}
        results = tuple(
            Result(line=move.line, value=value, interval=exact, variant=variant)
            for variant in sorted(variants | {None}, key=lambda v: v or "")
        )
    return Assessment(
        model=read.model.model,
        kind=move.in_assessment or "targeted",
        conducted_at=placed.at,
        assessor="anyone",
        findings=findings,
        results=results,
    )


def _reports(read: Read, placed: Placed) -> Iterator[SafeguardReport]:
    move = placed.move
    for place in move.places or (None,):
        judge = None if place is None else place.removeprefix("judgement:")
        judged = place is not None and judge != place
        yield SafeguardReport(
            model=read.model.model,
            policy=read.policy.policy,
            standard=move.standard or "",
            criterion=None if judged else place,
            met=bool(move.met),
            valid_from=placed.at,
            stated_by=judge if judged and judge is not None else "anyone",
        )


def _sign_off(read: Read, action: str, placed: Placed) -> SignOff:
    return SignOff(
        model=read.model.model,
        policy=read.policy.policy,
        action=action,
        role=placed.move.role or "",
        verb=Verb(placed.move.verb),
        given_at=placed.at,
        reason=placed.move.message,
    )


def _exception(read: Read, action: str, placed: Placed) -> ExceptionOnRecord:
    move, at = placed.move, placed.at
    request = RequestedException(
        model=read.model.model,
        policy=read.policy.policy,
        action=action,
        exception=move.exception or "",
        standard=move.standard or "",
        measures=move.message,
        reason=move.message,
        valid_from=at,
        valid_until=LATEST,
        requested_by="somebody",
    )
    approvers = [*move.by, *(move.by[:1] if len(move.by) == 1 else ())]
    approvals = tuple(
        Approved(
            f"move_{i}",
            "",
            GivenApproval(
                role=role, reason=move.message, exception="move", by=f"person-{i}", given_at=at
            ),
        )
        for i, role in enumerate(approvers)
    )
    return ExceptionOnRecord(request, approvals)


# --- the smallest sets -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """The smallest sets, by position; `complete`: there are no others."""

    sets: tuple[tuple[int, ...], ...]
    complete: bool


MOST_QUESTIONS: Final = 4000


def smallest_sets(
    size: int,
    holds: Callable[[frozenset[int]], bool],
    *,
    limit: int,
    questions: int = MOST_QUESTIONS,
) -> Found:
    """The smallest sets of the positions `0 … size - 1` for which *holds*, a monotone question.

    Reiter's hitting-set tree: whatever set is found, every other one lacks at least one of its
    members. Ends early, and says so, at *limit* sets
    or so many *questions*.
    """
    asked: dict[frozenset[int], bool] = {}

    def ask(chosen: frozenset[int]) -> bool:
        if chosen not in asked:
            asked[chosen] = holds(chosen)
        return asked[chosen]

    everything = frozenset(range(size))
    found: list[frozenset[int]] = []
    waiting: list[frozenset[int]] = [frozenset()]
    seen = {frozenset[int]()}
    while waiting and len(found) < limit and len(asked) < questions:
        left_out = waiting.pop(0)
        known = next((one for one in found if not one & left_out), None)
        if known is None:
            rest = everything - left_out
            if not ask(rest):
                continue
            known = smallest_part(rest, ask)
            found.append(known)
        for member in sorted(known):
            further = left_out | {member}
            if further not in seen:
                seen.add(further)
                waiting.append(further)
    ordered = sorted((tuple(sorted(one)) for one in found), key=lambda one: (len(one), one))
    return Found(tuple(ordered), complete=not waiting)


@dataclass(frozen=True, slots=True)
class Separated:
    """A set for which one question holds and another does not; `None`: there is none, if
    `complete`, else none was found. `looked_at`: how many corners of the search there were.
    """

    found: frozenset[int] | None
    complete: bool
    looked_at: int


def separating(
    size: int,
    first: Callable[[frozenset[int]], bool],
    second: Callable[[frozenset[int]], bool],
    *,
    stronger: Callable[[int], frozenset[int]],
    questions: int,
) -> Separated:
    """A set of positions for which *first* holds and *second* does not, both monotone questions.

    Every such set lacks some member of every set for which *second* holds. So the search takes a
    smallest one that is left, and for each of its members looks among the sets that lack it and
    have those before it: no set is looked at twice. Nothing is left to look for where *first* fails
    with all that is left, or *second* holds with all that must be there. `stronger(i)`: *i* and the
    positions that say all that it says and more, which no set that lacks *i* can have.
    """
    search = _Separating(size, first, second, stronger, questions)
    found = search.among(frozenset(), frozenset())
    return Separated(found, found is not None or not search.ended_early, search.looked_at)


class _Separating:
    def __init__(
        self,
        size: int,
        first: Callable[[frozenset[int]], bool],
        second: Callable[[frozenset[int]], bool],
        stronger: Callable[[int], frozenset[int]],
        questions: int,
    ) -> None:
        self._everything = frozenset(range(size))
        self._first, self._second = once(first), once(second)
        self._stronger = stronger
        self._left = questions
        self._holding: list[frozenset[int]] = []
        self.ended_early = False
        self.looked_at = 0

    def among(self, there: frozenset[int], gone: frozenset[int]) -> frozenset[int] | None:
        """One of the sets that have all that is *there* and nothing that is *gone*."""
        self._left -= 1
        if self._left < 0:
            self.ended_early = True
            return None
        self.looked_at += 1
        rest = self._everything - gone
        if not self._first(rest):
            return None
        if not self._second(rest):
            return rest
        if self._second(there):
            return None
        holding = self._holding_in(rest, there)
        for member in sorted(holding - there):
            without = self._stronger(member)
            if not without & there:
                found = self.among(there, gone | without)
                if found is not None:
                    return found
            there = there | {member}
        return None

    def _holding_in(self, rest: frozenset[int], there: frozenset[int]) -> frozenset[int]:
        """A set within *rest* for which the second question holds, as small as can be beside what
        is *there*.
        """
        known = [one for one in self._holding if one <= rest]
        if known:
            return min(known, key=lambda one: (len(one - there), sorted(one)))
        part = smallest_part(rest - there, lambda chosen: self._second(chosen | there))
        self._holding.append(part | there)
        return part | there


def once(question: Callable[[frozenset[int]], bool]) -> Callable[[frozenset[int]], bool]:
    """The question, asked once of each set."""
    asked: dict[frozenset[int], bool] = {}

    def ask(chosen: frozenset[int]) -> bool:
        if chosen not in asked:
            asked[chosen] = question(chosen)
        return asked[chosen]

    return ask


def smallest_part(
    chosen: frozenset[int], holds: Callable[[frozenset[int]], bool]
) -> frozenset[int]:
    """A smallest part of *chosen* that still holds; the later positions go first.

    Halves are tried before single members, so that a small answer in a large set is soon found.
    """
    step = max(1, len(chosen) // 2)
    while True:
        members = sorted(chosen, reverse=True)
        for begin in range(0, len(members), step):
            less = chosen - frozenset(members[begin : begin + step])
            if less != chosen and holds(less):
                chosen = less
        if step == 1:
            return chosen
        step //= 2


# --- words -------------------------------------------------------------------------------------


def _words(bound: Bound | None) -> str:
    assert bound is not None, "a line on which something rests has a zone"
    words = {"below": "below", "at_most": "at most", "above": "above", "at_least": "at least"}
    name = next(name for name in words if getattr(bound, name) is not None)
    return f"{words[name]} {bound.number}"


def _list(names: Sequence[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if quoted[1:] else quoted)
