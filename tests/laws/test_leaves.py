"""The laws for each kind of leaf by itself, on every small scope there is: all evidence of up to two
pieces, at three instants, in both orders, read at each of four instants by the readings that decide.

What `app.determination.proof` shows of trees rests on this: a tree of leaves that keep the laws, moved
by each leaf in its polarity alone, keeps them too.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cache
from itertools import product
from pathlib import Path
from typing import Final

import pytest

from app.assessment.assessment import Assessment, Finding, Interval, ModelVersion, Result
from app.assessment.evidence import Evidence, OtherModel, Recorded
from app.assessment.sign_offs import SignOff
from app.determination.reading import Read
from app.policy.conditions import (
    AssessedWithin,
    BoundedBy,
    CarriedOver,
    ComputeRatio,
    Elapsed,
    FindingIs,
    Leaf,
    LineIn,
    ModelFact,
    Polarity,
    Reading,
    ReassessmentNotDue,
    SignedOff,
    ThresholdRuledOut,
    polarity,
)
from app.policy.language import read_policy
from app.vocabulary import Duration, Outcome, Truth, Verb, read_instant

SAMPLE: Final = (Path(__file__).parents[1] / "policy" / "valid.yaml").read_text()
RULED_OUT: Final = "{finding: ruled-out, by: [ceo, rso]},"
LEANING: Final = (
    "{any: [{finding: ruled-out, by: [ceo, rso]}, {bounded_by: {by: [ceo]}},"
    " {carried_over: {by: [ceo]}}]},"
)
VERSION: Final = read_policy(SAMPLE.replace(RULED_OUT, LEANING).encode(), "yaml")
STEPS: Final = tuple(read_instant(f"2025-{month}-01T00:00:00Z") for month in ("01", "05", "09"))
"""Four months apart, where what lapses lapses after six."""
INSTANTS: Final = (*STEPS, read_instant("2026-09-01T00:00:00Z"))
MODEL: Final = ModelVersion(model="m@1", developer="somebody")
BOTH: Final = ("ceo", "rso")
HALF_A_YEAR: Final = Duration("P6M")


@dataclass(frozen=True, eq=False)
class Piece:
    """A piece of evidence of a scope.

    `side`: 1 where it permits, -1 where it counts against, 0 where neither is said. Of pieces that
    are alike in `kind` and `at`, the one with more `risk` says what is worse.
    """

    kind: str
    at: datetime
    side: int
    evidence: Evidence
    risk: int = 0


@dataclass(frozen=True)
class Scope:
    """A leaf, of which threshold it is read, and the pieces that it is read on."""

    leaf: Leaf
    pieces: Callable[[], Iterator[Piece]]
    threshold: str = "BIO-1"
    others: Mapping[str, OtherModel] = field(default_factory=dict)

    def read(self, chosen: tuple[Piece, ...], at: datetime) -> Reading:
        """What the leaf says of these pieces, in this order."""
        evidence = Evidence(
            assessments=tuple(one for piece in chosen for one in piece.evidence.assessments),
            sign_offs=tuple(one for piece in chosen for one in piece.evidence.sign_offs),
            others=self.others,
        )
        read = Read(VERSION, MODEL, evidence, at)
        return read._leaf(self.leaf, self.threshold)

    def permission(self, reading: Reading) -> int:
        """How far the reading permits: more is more permissive."""
        rank = {Truth.NO: 0, Truth.UNKNOWN: 1, Truth.YES: 2}[reading.truth]
        return rank if polarity(self.leaf) is not Polarity.COUNTS_AGAINST else -rank

    def decides(self, reading: Reading) -> int:
        """The permission as far as a rule can tell: what permits does so only by its YES."""
        permission = self.permission(reading)
        against = polarity(self.leaf) is Polarity.COUNTS_AGAINST
        return permission if against else int(permission == 2)


def assessed(
    name: str,
    at: datetime,
    *findings: Finding,
    kind: str = "comprehensive",
    results: tuple[Result, ...] = (),
    ratio: int | None = None,
) -> Evidence:
    """One assessment."""
    assessment = Assessment(
        model=MODEL.model,
        kind=kind,
        conducted_at=at,
        assessor="a",
        findings=findings,
        results=results,
        effective_compute_ratio=None if ratio is None else Decimal(ratio),
    )
    return Evidence(assessments=(Recorded(f"{name} {at:%m}", "", assessment),))


def finding(
    outcome: Outcome, threshold: str = "BIO-1", by: tuple[str, ...] = BOTH, other: str | None = None
) -> Finding:
    """One judgement."""
    return Finding(
        policy=VERSION.policy,
        threshold=threshold,
        outcome=outcome,
        by=by,
        reason="r",
        bounded_by=other if outcome is Outcome.BOUNDED_BY else None,
        carried_over_from=other if outcome is Outcome.CARRIED_OVER else None,
    )


JUDGED: Final = (Outcome.RULED_OUT, Outcome.INCONCLUSIVE, Outcome.NOT_RULED_OUT, Outcome.REACHED)
"""From the best to the worst."""


def judgements(threshold: str = "BIO-1") -> Iterator[Piece]:
    """Findings of every outcome, by all roles and by one of them."""
    for at, by, (risk, outcome) in product(STEPS, (BOTH, ("ceo",)), enumerate(JUDGED)):
        name = f"{threshold} {'-'.join(by)}"
        found = assessed(f"{name} {outcome.value}", at, finding(outcome, threshold, by))
        side = 1 if outcome is Outcome.RULED_OUT else -1
        yield Piece(f"finding {name}", at, side, found, risk)


def leaning() -> Iterator[Piece]:
    """What was found of the model itself, and findings that lean on the stronger one."""
    yield from judgements()
    for at, outcome in product(STEPS, (Outcome.BOUNDED_BY, Outcome.CARRIED_OVER)):
        found = finding(outcome, by=("ceo",), other="strong@1")
        yield Piece(outcome.value, at, 1, assessed(outcome.value, at, found))


def leaning_on_what_fell() -> Iterator[Piece]:
    """The same where the stronger model reached the threshold: leaning on it permits nothing."""
    for piece in leaning():
        side = {"bounded-by": 0, "carried-over": -1}.get(piece.kind)
        yield piece if side is None else Piece(piece.kind, piece.at, side, piece.evidence)


def judgements_on_both() -> Iterator[Piece]:
    """Findings on a threshold and on the weaker one that speaks for it."""
    yield from judgements("BIO-1")
    yield from judgements("BIO-2")


VALUES: Final = (Decimal(1), Decimal(4), Decimal(6))
"""Ruled out, in the middle, ruled in."""


def results() -> Iterator[Piece]:
    """Results in every zone, with and without their uncertainty, and findings beside them."""
    for at, (risk, value), exact in product(STEPS, enumerate(VALUES), (True, False)):
        interval = Interval(low=value, high=value, confidence=Decimal("0.99")) if exact else None
        result = Result(line="uplift", value=value, interval=interval)
        name = f"{value} {exact}"
        side = {(0, True): 1, (2, True): -1, (2, False): -1}.get((risk, exact), 0)
        yield Piece(f"result {exact}", at, side, assessed(name, at, results=(result,)), risk)
    yield from judgements()


def clocks() -> Iterator[Piece]:
    """Assessments of any outcome set a clock back; growth and a role's word set it going."""
    for at, outcome in product(STEPS, (Outcome.RULED_OUT, Outcome.REACHED)):
        yield Piece("assessed", at, 1, assessed(f"c {outcome.value}", at, finding(outcome)))
    for at in STEPS:
        yield Piece("nothing judged", at, 0, assessed("nothing", at))
        grown = assessed("growth", at, kind="targeted", ratio=5)
        yield Piece("growth", at, -1, grown)
        yield Piece("asked for", at, -1, signed("rso", Verb.REASSESS, at))


def signatures() -> Iterator[Piece]:
    """Approvals and reversals by the role and by another."""
    for at, role in product(STEPS, BOTH):
        yield Piece(f"approved {role}", at, 1, signed(role, Verb.APPROVED, at))
        # The word of another role takes nothing back.
        side = -1 if role == "ceo" else 0
        yield Piece(f"reversed {role}", at, side, signed(role, Verb.REVERSED, at))


def signed(role: str, verb: Verb, at: datetime) -> Evidence:
    """One sign-off."""
    sign_off = SignOff(
        model=MODEL.model,
        policy=VERSION.policy,
        action="deployment",
        role=role,
        verb=verb,
        given_at=at,
        reason="r",
    )
    return Evidence(sign_offs=(Recorded(f"{role} {verb.value} {at:%m}", "", sign_off),))


def stronger(outcome: Outcome) -> Mapping[str, OtherModel]:
    """A stronger model of which that was found, long ago enough to lapse within the grid."""
    other = ModelVersion(model="strong@1", developer="somebody")
    return {"strong@1": OtherModel(other, assessed("strong", STEPS[0], finding(outcome)))}


HELD: Final = stronger(Outcome.RULED_OUT)
FALLEN: Final = stronger(Outcome.REACHED)
LEAVES: Final = {
    "reached": Scope(FindingIs(finding=Outcome.REACHED), judgements),
    "reached by": Scope(FindingIs(finding=Outcome.REACHED, by=BOTH), judgements),
    "ruled out": Scope(FindingIs(finding=Outcome.RULED_OUT, by=BOTH), judgements),
    "ruled out lately": Scope(
        FindingIs(
            finding=Outcome.RULED_OUT,
            by=BOTH,
            in_assessment="comprehensive",
            max_age=HALF_A_YEAR,
        ),
        judgements,
    ),
    "ruled out beside leaning": Scope(
        FindingIs(finding=Outcome.RULED_OUT, by=BOTH), leaning_on_what_fell, others=FALLEN
    ),
    "line in": Scope(LineIn(line="uplift", zone="rule_in"), results),
    "line out": Scope(LineIn(line="uplift", zone="rule_out"), results),
    "line out lately": Scope(LineIn(line="uplift", zone="rule_out", max_age=HALF_A_YEAR), results),
    "assessed": Scope(AssessedWithin(assessment="comprehensive", max_age=HALF_A_YEAR), clocks),
    "another ruled out": Scope(
        ThresholdRuledOut(threshold_ruled_out="BIO-1"), judgements_on_both, "BIO-2"
    ),
    "not due": Scope(ReassessmentNotDue(reassessment="not-due"), clocks),
    "elapsed": Scope(
        Elapsed.model_validate(
            {"elapsed": {"at_least": HALF_A_YEAR, "since_assessment": "comprehensive"}}
        ),
        clocks,
    ),
    "grown": Scope(
        ComputeRatio.model_validate(
            {"compute_ratio": {"at_least": Decimal(4), "since_assessment": "comprehensive"}}
        ),
        clocks,
    ),
    "approved": Scope(SignedOff(sign_off=Verb.APPROVED, by="ceo"), signatures),
    "asked for": Scope(
        SignedOff(sign_off=Verb.REASSESS, by="rso", since_assessment="comprehensive"), clocks
    ),
    "bounded by": Scope(
        BoundedBy.model_validate({"bounded_by": {"by": ("ceo",)}}), leaning, others=HELD
    ),
    "bounded by what fell": Scope(
        BoundedBy.model_validate({"bounded_by": {"by": ("ceo",)}}),
        leaning_on_what_fell,
        others=FALLEN,
    ),
    "carried over": Scope(
        CarriedOver.model_validate({"carried_over": {"by": ("ceo",), "max_age": HALF_A_YEAR}}),
        leaning,
        others=HELD,
    ),
    "fact": Scope(ModelFact(fact="training_compute_flop", at_least=Decimal(10)), clocks),
}

Chosen = tuple[Piece, ...]


@cache
def readings(name: str) -> Mapping[tuple[Chosen, datetime], Reading]:
    """Every reading of the scope: of nothing, of each piece, of each two in both orders."""
    scope = LEAVES[name]
    pieces = tuple(scope.pieces())
    sets: list[Chosen] = [(), *((one,) for one in pieces)]
    sets += [(a, b) for a, b in product(pieces, repeat=2) if a is not b]
    return {(chosen, at): scope.read(chosen, at) for chosen in sets for at in INSTANTS}


def test_every_kind_of_leaf_has_a_scope() -> None:
    assert {type(scope.leaf) for scope in LEAVES.values()} == set(Leaf.__args__)


@pytest.mark.parametrize("name", [name for name in LEAVES if name != "fact"])
def test_a_scope_tells_something(name: str) -> None:
    """Nothing below is true for the sole reason that the leaf always reads alike."""
    assert len({reading.truth for reading in readings(name).values()}) > 1 or "fell" in name


@pytest.mark.parametrize("name", LEAVES)
def test_the_order_of_evidence_changes_nothing(name: str) -> None:
    read = readings(name)
    for (chosen, at), reading in read.items():
        assert read[chosen[::-1], at] == reading


@pytest.mark.parametrize("name", LEAVES)
def test_no_evidence_never_permits(name: str) -> None:
    """What a text makes due with no evidence may read YES; what permits may not."""
    if polarity(LEAVES[name].leaf) is Polarity.PERMITS:
        for at in INSTANTS:
            assert readings(name)[(), at].truth is not Truth.YES


@pytest.mark.parametrize("name", LEAVES)
def test_a_further_piece_moves_the_leaf_only_its_own_way(name: str) -> None:
    """Laws 3 and 5: what permits never makes it stricter, what counts against never looser."""
    scope, read = LEAVES[name], readings(name)
    for (chosen, at), reading in read.items():
        if chosen:
            *before, last = chosen
            moved = scope.permission(reading) - scope.permission(read[tuple(before), at])
            assert moved * last.side >= 0, (before, last, at)


NOTHING_OUTWEIGHS: Final = {"assessed", "elapsed", "grown", "fact", "line in"}
"""What a piece that counts against elsewhere does not touch: clocks, which run whatever is found,
facts, and what was measured to be ruled in.
"""


@pytest.mark.parametrize("name", [name for name in LEAVES if name not in NOTHING_OUTWEIGHS])
def test_what_counts_against_outweighs_what_permits_and_is_no_newer(name: str) -> None:
    """The stricter of two that speak for one instant counts, and so does the later one."""
    scope, read = LEAVES[name], readings(name)
    for (chosen, at), reading in read.items():
        if len(chosen) == 2:
            permits, against = chosen
            if (permits.side, against.side) == (1, -1) and permits.at <= against.at <= at:
                assert scope.decides(reading) <= scope.decides(read[(against,), at]), (chosen, at)


@pytest.mark.parametrize("name", LEAVES)
def test_a_worse_finding_or_value_never_permits_more(name: str) -> None:
    """Law 4: the same piece with something worse in it."""
    scope, read = LEAVES[name], readings(name)
    worse = {
        one: [
            two
            for two in scope_pieces(name)
            if (two.kind, two.at) == (one.kind, one.at) and two.risk > one.risk
        ]
        for one in scope_pieces(name)
    }
    for (chosen, at), reading in read.items():
        if chosen:
            *before, last = chosen
            for instead in worse[last]:
                if instead not in before:
                    riskier = read[(*before, instead), at]
                    assert scope.permission(riskier) <= scope.permission(reading), (chosen, instead)


@cache
def scope_pieces(name: str) -> tuple[Piece, ...]:
    """The pieces of the scope, in their order."""
    return tuple(chosen[0] for chosen, at in readings(name) if len(chosen) == 1 and at == STEPS[0])


@pytest.mark.parametrize("name", LEAVES)
def test_time_alone_never_permits_more_and_changes_nothing_before_the_leaf_turns(name: str) -> None:
    """Law 6: once all has begun, permission only falls; and it falls no sooner than was said."""
    scope, read = LEAVES[name], readings(name)
    for (chosen, at), reading in read.items():
        begun = all(piece.at <= at for piece in chosen)
        for later in INSTANTS:
            if later <= at:
                continue
            then = read[chosen, later]
            if begun:
                assert scope.decides(then) <= scope.decides(reading), (chosen, at, later)
            if reading.turns is None or later < reading.turns:
                assert scope.decides(then) >= scope.decides(reading), (chosen, at, later)
