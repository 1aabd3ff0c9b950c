"""Does one policy version ever allow what another denies? A proof, or a case that shows it.

Both versions are asked about the same evidence. By the laws, each answer is monotone in what
permits and in the absence of what counts against. So all sets of evidence can be searched without
looking at each (`app.determination.moves.separating`): what is left out of it is proved by them.
What denies is some clause of *a* (`app.determination.clauses`), so each is searched by itself, and none
that *b* has too: by that one *b* denies as well.

The evidence that is looked at: for every threshold findings for and against, under each name that it
has in one of the two; for every line that settles anything results in its zones; for every standard
reports that it is met or not; sign-offs, reversals, exceptions and orders that stop; each as fresh as
can be, and just young enough to count under every duration that either version names. Facts about the
model: both sides of every bound that either names. Not looked at: findings that lean on other models,
orders that require a standard.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import product
from typing import Any, Final, Literal

from app.assessment.assessment import ModelVersion
from app.assessment.evidence import Evidence
from app.determination.clauses import clauses
from app.determination.coverage import what_decides
from app.determination.decide import Question, decide, scope_of
from app.determination.moves import (
    Move,
    Placed,
    Separated,
    counting_against,
    joined,
    once,
    permitting,
    piece,
    separating,
    smallest_part,
)
from app.determination.reading import Read
from app.determination.record import Determination
from app.policy.conditions import (
    AllOf,
    AnyOf,
    AssessedWithin,
    AtLeast,
    BoundedBy,
    CarriedOver,
    ComputeRatio,
    Condition,
    Elapsed,
    FindingIs,
    LineIn,
    ModelFact,
    ThresholdRuledOut,
    children,
    walk,
)
from app.policy.timeline import PolicyInForce
from app.policy.version import PolicyVersion
from app.vocabulary import EARLIEST, Decision, Document, Duration, Truth, write_instant

_AT: Final = datetime(2100, 1, 1, tzinfo=UTC)
"""The instant that is asked about: any would do, for both versions are asked as if in force."""

_OLDEST: Final = timedelta(days=366 * 129)
"""The greatest age that evidence can have then: nothing is older than 1970."""
_WITHIN: Final = timedelta(hours=1)
"""How long before its end a duration still counts."""

Verdict = Literal["never", "found", "not-found"]


class ActionCompared(Document):
    """Whether *b* ever allows the action where *a* denies it.

    `never`: proved for all evidence that was looked at. `found`: `case` shows it. `not-found`: the
    search ended before it was complete.
    """

    action: str
    verdict: Verdict
    looked_at: int
    """How many corners the search had; 0: it follows from the two texts alone."""
    case: dict[str, Any] | None = None
    """A decision case in which *b* allows and *a* denies, as `policy test` reads it."""
    because: tuple[str, ...] = ()
    """Why *a* denies it: the messages of the reasons that close its gate."""


class Compared(Document):
    """Whether *b* ever allows what *a* denies, action by action."""

    policy: str
    a: str
    b: str
    verdict: Verdict
    actions: tuple[ActionCompared, ...]


def compare(a: PolicyVersion, b: PolicyVersion) -> Compared:
    """Whether *b* ever allows an action where *a* denies it. Actions that *b* lacks it denies.

    Raises `ValueError` for versions of two policies: evidence names the policy that it is
    for, so what one of them says of evidence tells nothing of the other.
    """
    if a.policy != b.policy:
        message = f"`{a.policy}` and `{b.policy}` are two policies; compare versions of one"
        raise ValueError(message)
    actions = tuple(_compared(a, b, action) for action in b.actions)
    verdicts = {one.verdict for one in actions}
    verdict: Verdict = "never"
    if "found" in verdicts:
        verdict = "found"
    elif "not-found" in verdicts:
        verdict = "not-found"
    return Compared(policy=a.policy, a=a.version, b=b.version, verdict=verdict, actions=actions)


def _compared(a: PolicyVersion, b: PolicyVersion, action: str) -> ActionCompared:
    shared = [_asked(clause) for clause in clauses(b, action)]
    own = clauses(_with_names_of(b, a), action)
    left = [clause for clause in own if _asked(clause) not in shared]
    looked_at, complete = 0, True
    for model in _models(a, b) if left else ():
        if scope_of(b, model, action) is Truth.NO:
            continue
        pair = _Pair(a, b, action, model)
        separated = pair.separated(left)
        looked_at += separated.looked_at
        complete = complete and separated.complete and pair.makes_up_all(left)
        if separated.found is not None:
            shown = pair.shortest(separated.found)
            answer = pair.answer(a, shown)
            return ActionCompared(
                action=action,
                verdict="found",
                looked_at=looked_at,
                case=pair.case(shown),
                because=tuple(r.message for r in answer.reasons if r.blocks),
            )
    verdict: Verdict = "never" if complete else "not-found"
    return ActionCompared(action=action, verdict=verdict, looked_at=looked_at)


def _asked(clause: PolicyVersion) -> tuple[object, dict[str, str]]:
    """What the clause decides by: also the units of its lines, for a result may name its own."""
    return what_decides(clause), {name: line.unit for name, line in clause.lines.items()}


@dataclass(frozen=True, slots=True)
class _Step:
    """A move at one age, or (`absent`) that a move against was not made.

    Steps of one chain say more the younger they are. `unit`: in which unit a result is told.
    """

    move: Move
    age: timedelta
    chain: int
    unit: str | None
    absent: bool = False


class _Pair:
    """Two versions, one action on one model, and the evidence that can be made up on it."""

    def __init__(
        self, a: PolicyVersion, b: PolicyVersion, action: str, model: ModelVersion
    ) -> None:
        self.a, self.b, self.action, self.model = a, b, action, model
        self.names = _renamed(a, b)
        against: dict[Move, None] = {}
        moves: dict[Move, None] = {}
        read = Read(b, model, Evidence(), _AT)
        for version in (b, a):
            if action in version.actions:
                read = Read(version, model, Evidence(), _AT)
                moves.update(dict.fromkeys(map(self._as_in_b, permitting(read, action))))
                against.update(dict.fromkeys(map(self._as_in_b, counting_against(read, action))))
        ages = {kind: _ages(durations) for kind, durations in _durations(a, b).items()}
        self.steps = (
            *(
                _Step(move, age, chain, unit)
                for chain, (move, unit) in enumerate(self._in_units(moves))
                for age in ages.get(move.kind, (_WITHIN,))
            ),
            *(
                _Step(move, timedelta(0), -1 - i, unit, absent=True)
                for i, (move, unit) in enumerate(self._in_units(against))
            ),
        )
        self.pieces = tuple(
            tuple(
                _told_in(
                    step.unit, piece(read, action, Placed(one, _AT - step.age), f"move_{i:03d}_{j}")
                )
                for j, one in enumerate(self._under_both_names(step.move))
            )
            for i, step in enumerate(self.steps)
        )

    def _in_units(self, moves: Iterable[Move]) -> Iterator[tuple[Move, str | None]]:
        """Each move; a result on a line that has two units, in either of them."""
        for move in moves:
            lines = (version.lines.get(move.line or "") for version in (self.a, self.b))
            units = dict.fromkeys(line.unit for line in lines if line is not None)
            yield from ((move, unit) for unit in (units if len(units) > 1 else (None,)))

    def _under_both_names(self, move: Move) -> Iterator[Move]:
        yield move
        in_a = self.names.get(move.threshold or "")
        if in_a is not None and in_a != move.threshold:
            yield move.model_copy(update={"threshold": in_a})

    def _as_in_b(self, move: Move) -> Move:
        """A move on a threshold of *a*, under the name that the threshold has in *b*."""
        in_b = next((b for b, a in self.names.items() if a == move.threshold), None)
        if in_b is None or in_b == move.threshold:
            return move
        message = move.message.replace(f"`{move.threshold}`", f"`{in_b}`")
        return move.model_copy(update={"threshold": in_b, "message": message})

    def separated(self, clauses_of_a: Iterable[PolicyVersion]) -> Separated:
        """Steps with which *b* allows and one of those clauses denies, if there are any."""
        by_chain: dict[int, list[int]] = {}
        for i, step in enumerate(self.steps):
            by_chain.setdefault(step.chain, []).append(i)
        # The oldest of a chain stands first in it, and what is younger says more.
        younger = {
            i: frozenset(chain[chain.index(i) :]) for chain in by_chain.values() for i in chain
        }
        allowed = once(lambda chosen: self._allows(self.b, chosen))
        looked_at, complete = 0, True
        for clause in clauses_of_a:
            separated = separating(
                len(self.steps),
                allowed,
                partial(self._allows, clause),
                stronger=younger.__getitem__,
                questions=_QUESTIONS,
            )
            looked_at += separated.looked_at
            if separated.found is not None:
                return replace(separated, looked_at=looked_at)
            complete = complete and separated.complete
        return Separated(None, complete, looked_at)

    def makes_up_all(self, clauses_of_a: Iterable[PolicyVersion]) -> bool:
        """Whether all is among the evidence that could tell those clauses from *b*.

        Every made-up result lies in its zone at any confidence, so that none shows what another
        confidence does. Every made-up assessment comes with a ruling out, so that there is none of
        a kind in which nothing can be. Where an obligation is binding, an assessment may both permit
        and ask for something anew, which no single step does.
        """
        if self.a.has_binding_obligations or self.b.has_binding_obligations:
            return False
        read = [*clauses_of_a, *clauses(self.b, self.action)]
        leaves = [leaf for one in read for tree in _trees(one) for _, leaf in walk(tree)]
        if self.a.confidence != self.b.confidence and any(isinstance(x, LineIn) for x in leaves):
            return False
        kinds = {kind for leaf in leaves if (kind := _kind_asked_for(leaf)) is not None}
        return kinds <= {step.move.in_assessment for step in self.steps}

    def shortest(self, chosen: frozenset[int]) -> Evidence:
        """As little of the chosen evidence as *b* allows with; *a* denies with less all the more."""
        return self._made_up(smallest_part(chosen, lambda part: self._allows(self.b, part)))

    def _allows(self, version: PolicyVersion, chosen: frozenset[int]) -> bool:
        return self.answer(version, self._made_up(chosen)).strictness != _DENY

    def _made_up(self, chosen: frozenset[int]) -> Evidence:
        """What the chosen steps make up: each move against is there unless it is chosen away."""
        there = (i for i, step in enumerate(self.steps) if (i in chosen) is not step.absent)
        return joined(Evidence(), (one for i in there for one in self.pieces[i]))

    def answer(self, version: PolicyVersion, evidence: Evidence) -> Determination:
        """What *version* says, as if it were in force."""
        question = Question(self.model.model, self.action, version.policy, _AT)
        return decide(question, PolicyInForce(version, "", EARLIEST, None), self.model, evidence)

    def case(self, evidence: Evidence) -> dict[str, Any]:
        """The evidence as a decision case of *b*."""
        lists = {
            "assessments": _bodies(p.item for p in evidence.assessments),
            "safeguards": _bodies(p.item for p in evidence.safeguards),
            "sign_offs": _bodies(p.item for p in evidence.sign_offs),
            "exceptions": [
                _body(p.item.request) | {"approvals": _bodies(g.item for g in p.item.approvals)}
                for p in evidence.exceptions
            ],
            "orders": _bodies(p.item.order for p in evidence.orders),
            "fulfilments": _bodies(p.item.supposed() for p in evidence.fulfilments),
        }
        decision = self.answer(self.b, evidence).decision
        return {
            "name": f"{self.b.version}-allows-what-{self.a.version}-denies",
            "note": f"{self.b.version} allows {self.action}, and {self.a.version} denies it.",
            "at": write_instant(_AT),
            "action": self.action,
            "model": _body(self.model) | {"model": self.model.model},
            "evidence": {name: bodies for name, bodies in lists.items() if bodies},
            "want": {"decision": decision},
        }


def _kind_asked_for(leaf: Condition) -> str | None:
    """The kind of assessment that must be there for the condition to permit."""
    match leaf:
        case AssessedWithin():
            return leaf.assessment
        case Elapsed():
            return leaf.elapsed.since_assessment
        case ComputeRatio():
            return leaf.compute_ratio.since_assessment
        case FindingIs():
            return leaf.in_assessment
        case _:
            return None


def _told_in(unit: str | None, evidence: Evidence) -> Evidence:
    """The evidence with its results in that unit."""
    if unit is None:
        return evidence
    told = [
        replace(
            one,
            item=one.item.model_copy(
                update={
                    "results": tuple(
                        result.model_copy(update={"unit": unit}) for result in one.item.results
                    )
                }
            ),
        )
        for one in evidence.assessments
    ]
    return replace(evidence, assessments=tuple(told))


_DENY: Final = Decision.DENY.strictness
_QUESTIONS: Final = 8_000


def _bodies(items: Iterable[Document]) -> list[dict[str, Any]]:
    return [_body(item) for item in items]


def _body(item: Document) -> dict[str, Any]:
    body = item.model_dump(mode="json", exclude_defaults=True)
    return {name: value for name, value in body.items() if name not in ("model", "exception_id")}


def _renamed(a: PolicyVersion, b: PolicyVersion) -> dict[str, str]:
    """By threshold of *b*, the name that the same threshold has in *a*, by either's lineage."""
    names: dict[str, str] = {}
    for newer, older, turned in ((b, a, False), (a, b, True)):
        for name, threshold in newer.thresholds.items():
            for one in threshold.lineage:
                same = one.change in ("kept", "reworded", "renamed")
                if one.version == older.version and same and one.threshold in older.thresholds:
                    assert one.threshold is not None, "it is among the thresholds"
                    in_b, in_a = (one.threshold, name) if turned else (name, one.threshold)
                    names[in_b] = in_a
    return names


def _with_names_of(b: PolicyVersion, a: PolicyVersion) -> PolicyVersion:
    """*a* with its thresholds under the names that they have in *b*, as far as each then still has a
    name of its own: all evidence that is looked at is given under both names.
    """
    renamed = _renamed(a, b)
    olds = list(renamed.values())
    names = {
        old: new for new, old in renamed.items() if olds.count(old) == 1 and new not in a.thresholds
    }
    thresholds = {
        names.get(name, name): one.model_copy(
            update={"ruled_out": _tree_with(one.ruled_out, names)}
        )
        for name, one in a.thresholds.items()
    }
    return a.model_copy(update={"thresholds": thresholds})


def _tree_with(tree: Condition, names: Mapping[str, str]) -> Condition:
    match tree:
        case AllOf():
            return tree.model_copy(update={"all": tuple(_tree_with(t, names) for t in tree.all)})
        case AnyOf():
            return tree.model_copy(update={"any": tuple(_tree_with(t, names) for t in tree.any)})
        case AtLeast():
            of = tuple(_tree_with(t, names) for t in tree.at_least_k.of)
            counted = tree.at_least_k.model_copy(update={"of": of})
            return tree.model_copy(update={"at_least_k": counted})
        case ThresholdRuledOut():
            name = tree.threshold_ruled_out
            return tree.model_copy(update={"threshold_ruled_out": names.get(name, name)})
        case _:
            return tree


def _ages(durations: Iterable[Duration | None]) -> tuple[timedelta, ...]:
    """How old evidence may be for each duration to count still; the oldest first, then fresh.

    Where some evidence has no limit, one is older than every duration.
    """
    given = set(durations)
    ages = {_oldest(duration) for duration in given if duration is not None} | {_WITHIN}
    if None in given and max(ages) < _OLDEST:
        ages.add(max(ages) + _WITHIN)
    return tuple(sorted(ages, reverse=True))


def _durations(*versions: PolicyVersion) -> dict[str, set[Duration | None]]:
    """By kind of move, the durations after which such evidence no longer counts."""
    found: dict[str, set[Duration | None]] = {}
    for version in versions:
        judged = {
            _duration_of(node)
            for tree in _trees(version)
            for _, node in walk(tree)
            if not children(node)
        }
        found.setdefault("finding", set()).update(judged)
        found.setdefault("result", set()).update(judged)
        standards = version.standards.values()
        found.setdefault("safeguard", set()).update(one.review for one in standards)
        actions = version.actions.values()
        signed = {one.max_age for action in actions for one in action.sign_offs}
        found.setdefault("sign-off", set()).update(signed)
        measures = {one.interim_measures for one in standards} - {None}
        limits = {one.at_most for one in measures if one is not None}
        limits |= {one.at_most for one in (version.exceptions or {}).values()}
        found.setdefault("exception", set()).update(limits)
    return found


def _duration_of(node: Condition) -> Duration | None:
    match node:
        case FindingIs() | LineIn() | AssessedWithin():
            return node.max_age
        case Elapsed():
            return node.elapsed.at_least
        case BoundedBy():
            return node.bounded_by.max_age
        case CarriedOver():
            return node.carried_over.max_age
        case _:
            return None


def _trees(version: PolicyVersion) -> Iterator[Condition]:
    for threshold in version.thresholds.values():
        yield from (threshold.reached, threshold.ruled_out)
    if version.reassess is not None:
        yield version.reassess.when


def _oldest(duration: Duration) -> timedelta:
    """The greatest age, in hours, at which something of that duration has not ended."""
    least, most = 0, _OLDEST // timedelta(hours=1)
    while most - least > 1:
        middle = (least + most) // 2
        if duration.after(_AT - timedelta(hours=middle)) > _AT:
            least = middle
        else:
            most = middle
    return timedelta(hours=least)


def _models(a: PolicyVersion, b: PolicyVersion) -> Iterator[ModelVersion]:
    """A model on every side of every bound of a fact, of every developer that is named."""
    named = (*(b.applies_to.developer or ()), *(a.applies_to.developer or ()))
    bounds: dict[str, set[Decimal]] = {}
    for version in (a, b):
        for fact in _facts(version):
            number = next(
                n for n in (fact.at_least, fact.below, fact.above, fact.at_most) if n is not None
            )
            bounds.setdefault(fact.fact, set()).update({number, number / 2, number * 2})
    names = sorted(bounds)
    values: list[list[Decimal | None]] = [[None, *sorted(bounds[name])] for name in names]
    for developer in dict.fromkeys(named or ("anyone",)):
        for chosen in product(*values):
            facts = {n: v for n, v in zip(names, chosen, strict=True) if v is not None}
            compute = facts.pop("training_compute_flop", None)
            yield ModelVersion(
                model="any-model@1", developer=developer, training_compute_flop=compute, facts=facts
            )


def _facts(version: PolicyVersion) -> Iterator[ModelFact]:
    trees = list(_trees(version))
    trees += [] if version.applies_to.when is None else [version.applies_to.when]
    yield from (node for tree in trees for _, node in walk(tree) if isinstance(node, ModelFact))
