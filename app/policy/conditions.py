"""The condition tree of a policy rule, and its three-valued truth.

Unknown is not false: a threshold that nobody has assessed is neither reached nor ruled out. The
tables are Kleene's; tests/policy/test_conditions.py holds them whole.

A tree *permits* (what rules a threshold out, say: only evidence that is there and fresh makes it
YES) or *counts against* (what makes a threshold reached: it never lapses with age). The laws hold
because each leaf has one of these two polarities and `app.policy.lint` refuses a tree that mixes
them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, assert_never

from pydantic import Discriminator, Field, Tag, model_validator

from app.vocabulary import (
    ADuration,
    AnOutcome,
    AVerb,
    Document,
    Integer,
    Name,
    Number,
    Outcome,
    Slug,
    Truth,
    Verb,
)


class Polarity(Enum):
    """Which way more evidence may move a condition."""

    PERMITS = "permits"
    COUNTS_AGAINST = "counts-against"


class FindingIs(Document):
    """The finding that stands on this threshold has that outcome, made by all of those roles.

    A ruling out may have to come in an assessment of one kind, and be no older than that.
    """

    finding: AnOutcome
    by: tuple[Slug, ...] = ()
    in_assessment: Slug | None = None
    max_age: ADuration | None = None


class LineIn(Document):
    """Every current result on the line lies in that zone, its uncertainty included.

    For `rule_in` one result is enough, and its age never matters.
    """

    line: Slug
    zone: Literal["rule_out", "rule_in"]
    max_age: ADuration | None = None


class AssessedWithin(Document):
    """An assessment of that kind was made, no longer ago than that."""

    assessment: Slug
    max_age: ADuration


class ThresholdRuledOut(Document):
    """Another threshold of the same version, a weaker one, is ruled out."""

    threshold_ruled_out: Name


class ReassessmentNotDue(Document):
    """The version's own `reassess` condition does not hold."""

    reassessment: Literal["not-due"]


class _Lapse(Document):
    at_least: ADuration
    since_assessment: Slug


class _Ratio(Document):
    at_least: Number
    since_assessment: Slug


class Elapsed(Document):
    """So much time has passed since the newest assessment of that kind, or there is none."""

    elapsed: _Lapse


class ComputeRatio(Document):
    """An assessment after the newest one of that kind put effective compute at that multiple."""

    compute_ratio: _Ratio


class SignedOff(Document):
    """The role did that. `reassess` counts only if later than the newest `since_assessment`."""

    sign_off: AVerb
    by: Slug
    since_assessment: Slug | None = None


class ByOthers(Document):
    """By which roles a finding that leans on another model must be made, and how old it may be."""

    by: Annotated[tuple[Slug, ...], Field(min_length=1)]
    in_assessment: Slug | None = None
    max_age: ADuration | None = None


class BoundedBy(Document):
    """All of those roles found a stronger model to bound this one, and on that model the same
    threshold is ruled out now.
    """

    bounded_by: ByOthers


class CarriedOver(Document):
    """All of those roles carried over what was found of another model, and on that model the same
    threshold is ruled out now.
    """

    carried_over: ByOthers


class ModelFact(Document):
    """A number on record about the model version itself, or its developer, held against a bound."""

    fact: Slug
    at_least: Number | None = None
    below: Number | None = None
    above: Number | None = None
    at_most: Number | None = None

    @model_validator(mode="after")
    def _one_bound(self) -> "ModelFact":
        if sum(v is not None for v in (self.at_least, self.below, self.above, self.at_most)) != 1:
            raise ValueError("give one of `at_least`, `above`, `below` and `at_most`")
        return self


class AllOf(Document):
    """Holds when every child holds. An empty list would hold by vacuity, so it is refused."""

    all: Annotated[tuple["Condition", ...], Field(min_length=1)]


class AnyOf(Document):
    """Holds when at least one child holds."""

    any: Annotated[tuple["Condition", ...], Field(min_length=1)]


class _Count(Document):
    k: Integer
    of: Annotated[tuple["Condition", ...], Field(min_length=1)]


class AtLeast(Document):
    """Holds when at least `k` of the children hold."""

    at_least_k: _Count


class Not(Document):
    """Holds when the child does not. Only facts about the model stand under it (`app.policy.lint`)."""

    not_: "Condition" = Field(alias="not")


Leaf = (
    FindingIs
    | LineIn
    | AssessedWithin
    | ThresholdRuledOut
    | ReassessmentNotDue
    | Elapsed
    | ComputeRatio
    | SignedOff
    | BoundedBy
    | CarriedOver
    | ModelFact
)

_KEYS = (
    "all",
    "any",
    "at_least_k",
    "not",
    "finding",
    "line",
    "assessment",
    "threshold_ruled_out",
    "reassessment",
    "elapsed",
    "compute_ratio",
    "sign_off",
    "bounded_by",
    "carried_over",
    "fact",
)
TAG = "condition:"  # marks a discriminator's name in pydantic's error locations


def _kind(value: Any) -> str | None:
    """The one key that says which condition this is; `None` where there is none or two."""
    fields = value if isinstance(value, dict) else getattr(type(value), "model_fields", ())
    names = {"not" if key == "not_" else key for key in fields}
    kinds = [key for key in _KEYS if key in names]
    return TAG + kinds[0] if len(kinds) == 1 else None


Condition = Annotated[
    Annotated[AllOf, Tag(TAG + "all")]
    | Annotated[AnyOf, Tag(TAG + "any")]
    | Annotated[AtLeast, Tag(TAG + "at_least_k")]
    | Annotated[Not, Tag(TAG + "not")]
    | Annotated[FindingIs, Tag(TAG + "finding")]
    | Annotated[LineIn, Tag(TAG + "line")]
    | Annotated[AssessedWithin, Tag(TAG + "assessment")]
    | Annotated[ThresholdRuledOut, Tag(TAG + "threshold_ruled_out")]
    | Annotated[ReassessmentNotDue, Tag(TAG + "reassessment")]
    | Annotated[Elapsed, Tag(TAG + "elapsed")]
    | Annotated[ComputeRatio, Tag(TAG + "compute_ratio")]
    | Annotated[SignedOff, Tag(TAG + "sign_off")]
    | Annotated[BoundedBy, Tag(TAG + "bounded_by")]
    | Annotated[CarriedOver, Tag(TAG + "carried_over")]
    | Annotated[ModelFact, Tag(TAG + "fact")],
    Discriminator(
        _kind,
        custom_error_type="condition",
        custom_error_message="must be a mapping with exactly one of " + ", ".join(_KEYS),
    ),
]

for _group in (AllOf, AnyOf, _Count, AtLeast, Not):
    _group.model_rebuild()


def polarity(leaf: Leaf) -> Polarity | None:
    """Which way the leaf may move; `None` for a fact about the model, which never does."""
    match leaf:
        case FindingIs():
            return _polarity(leaf.finding is Outcome.RULED_OUT)
        case LineIn():
            return _polarity(leaf.zone == "rule_out")
        case (
            AssessedWithin()
            | ThresholdRuledOut()
            | ReassessmentNotDue()
            | BoundedBy()
            | CarriedOver()
        ):
            return Polarity.PERMITS
        case Elapsed() | ComputeRatio():
            return Polarity.COUNTS_AGAINST
        case SignedOff():
            return _polarity(leaf.sign_off is not Verb.REASSESS)
        case ModelFact():
            return None
    assert_never(leaf)


def _polarity(permits: bool) -> Polarity:
    return Polarity.PERMITS if permits else Polarity.COUNTS_AGAINST


def children(condition: "Condition") -> Sequence[tuple[tuple[str | int, ...], "Condition"]]:
    """The direct children, each with its path below *condition*; none for a leaf."""
    match condition:
        case AllOf():
            return [(("all", i), child) for i, child in enumerate(condition.all)]
        case AnyOf():
            return [(("any", i), child) for i, child in enumerate(condition.any)]
        case AtLeast():
            return [(("at_least_k", "of", i), c) for i, c in enumerate(condition.at_least_k.of)]
        case Not():
            return [(("not",), condition.not_)]
        case _:
            return []


def walk(
    condition: "Condition", path: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], "Condition"]]:
    """Every node of the tree with its path, parents first."""
    yield path, condition
    for below, child in children(condition):
        yield from walk(child, path + below)


def fact_holds(fact: ModelFact, value: Decimal) -> Truth:
    """Whether the fact holds of a model whose recorded number is *value*."""
    if fact.at_least is not None:
        holds = value >= fact.at_least
    elif fact.above is not None:
        holds = value > fact.above
    elif fact.at_most is not None:
        holds = value <= fact.at_most
    else:
        holds = fact.below is not None and value < fact.below
    return Truth.YES if holds else Truth.NO


@dataclass(frozen=True, slots=True)
class Reading:
    """What a condition says on some evidence.

    `turns` is the first instant at which time alone could move it to the strict side (a permitting
    condition away from YES, one that counts against away from NO or to YES); `None`: never.
    `evidence` are the ids that it rests on; `rests_on` the kinds of leaf that settled it.
    """

    truth: Truth
    evidence: frozenset[str] = frozenset()
    turns: datetime | None = None
    rests_on: frozenset[str] = frozenset()


def truth_of(condition: "Condition", read: Callable[[Leaf], Reading], towards: Polarity) -> Reading:
    """The truth of the tree, given how each leaf reads. Total: every tree has a reading.

    *towards* is the polarity of the whole tree, which decides what `turns` means.
    """
    match condition:
        case AllOf():
            return _count(condition.all, len(condition.all), read, towards)
        case AnyOf():
            return _count(condition.any, 1, read, towards)
        case AtLeast():
            return _count(condition.at_least_k.of, condition.at_least_k.k, read, towards)
        case Not():
            # Only facts stand here, and facts do not move with time.
            below = truth_of(condition.not_, read, towards)
            return Reading(~below.truth, below.evidence, None, below.rests_on)
        case _:
            return read(condition)


def _count(
    conditions: Sequence["Condition"],
    needed: int,
    read: Callable[[Leaf], Reading],
    towards: Polarity,
) -> Reading:
    """At least *needed* of the children: `all` and `any` are its two ends."""
    readings = [truth_of(child, read, towards) for child in conditions]
    holding = [r for r in readings if r.truth is Truth.YES]
    open_ = [r for r in readings if r.truth is Truth.UNKNOWN]
    if len(holding) >= needed:
        truth, settled = Truth.YES, holding
    elif len(holding) + len(open_) >= needed:
        truth, settled = Truth.UNKNOWN, [r for r in readings if r.truth is not Truth.NO]
    else:
        truth, settled = Truth.NO, [r for r in readings if r.truth is Truth.NO]
    return Reading(
        truth,
        frozenset().union(*(r.evidence for r in settled)),
        _turns(readings, needed, truth, towards),
        frozenset().union(*(r.rests_on for r in settled)),
    )


def _turns(
    readings: Sequence[Reading], needed: int, truth: Truth, towards: Polarity
) -> datetime | None:
    holding = [r for r in readings if r.truth is Truth.YES]
    if towards is Polarity.PERMITS:
        if truth is not Truth.YES:
            return None
        # It stops holding when so many have lapsed that fewer than `needed` are left.
        lapses = sorted(r.turns for r in holding if r.turns is not None)
        to_lapse = len(holding) - needed + 1
        return lapses[to_lapse - 1] if len(lapses) >= to_lapse else None
    if truth is Truth.YES:
        return None
    # UNKNOWN is stricter than NO too, for "reassessment is not due" needs a plain NO.
    strict = {Truth.YES, Truth.UNKNOWN} if truth is Truth.NO else {Truth.YES}
    waiting = [r for r in readings if r.truth not in strict]
    begins = sorted(r.turns for r in waiting if r.turns is not None)
    to_begin = needed - (len(readings) - len(waiting))
    return begins[to_begin - 1] if len(begins) >= to_begin else None
