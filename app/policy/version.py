"""A policy version: one immutable document of a named framework, as its readers need it.

The field names are the language's own (docs/policies.md). A version is data only; what it means is
`app.determination.decide`, and what a document must satisfy beyond its shape is `app.policy.lint`.
"""

from decimal import Decimal
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from app.policy.conditions import Condition
from app.vocabulary import (
    ADuration,
    AVerb,
    Day,
    Document,
    Flag,
    Line,
    Name,
    Number,
    Sentence,
    Slug,
    VersionLabel,
)

Level = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,31}$")]
T = TypeVar("T")


def _in_order(named: dict[str, T]) -> dict[str, T]:
    """*named* in the order of its names, which is that of the recorded bytes.

    Two texts that differ in the order of their keys have one digest, so all must be read alike.
    """
    return dict(sorted(named.items()))


ByName = Annotated[dict[Slug, T], Field(min_length=1, max_length=128), AfterValidator(_in_order)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Source(Document):
    """The published text that was read. `sha256` is that of its bytes."""

    title: Line
    version: VersionLabel
    sha256: Sha256
    also: tuple[Sha256, ...] = ()
    """Other bytes that the publisher put out under the same label."""


class Scope(Document):
    """Whose models the policy speaks of."""

    developer: Annotated[tuple[Slug, ...], Field(min_length=1)]


class Domain(Document):
    """A risk area. One that has no threshold is answered `no_threshold`, never "below"."""

    title: Line
    status: Literal["tracked", "research", "ongoing-assessment", "exploratory", "out-of-scope"]
    clause: Line | None = None
    statement: Sentence | None = None


class Part(Document):
    """A part of a criterion."""

    statement: Sentence
    clause: Line


class StandardCriterion(Part):
    """One thing that a standard asks for; met when it, or each of its parts, is reported met."""

    parts: ByName[Part] | None = None


class Consequence(Document):
    """What the policy attaches to an unmet standard, for the actions that it concerns."""

    do: Slug
    actions: Annotated[tuple[Slug, ...], Field(min_length=1)]
    statement: Sentence
    clause: Line


class InterimMeasures(Document):
    """Whether measures of equal assurance may stand in for the standard, and who must approve."""

    statement: Sentence
    clause: Line
    approved_by: Annotated[tuple[Slug, ...], Field(min_length=1)]
    told: tuple[Slug, ...] = ()


class Standard(Document):
    """What must be in place. One that no text defines is met by nothing but a judgement."""

    title: Line
    clause: Line
    level: Level | None = None
    criteria: ByName[StandardCriterion] | None = None
    undefined: Flag = False
    attested_by: tuple[Slug, ...] = ()
    """For an undefined standard: the roles who must each have said, as `stated_by`, that it is met."""
    subsumes: tuple[Slug, ...] = ()
    """Weaker standards that are met whenever this one is."""
    review: ADuration | None = None
    """For how long a report counts after `valid_from`; it must be renewed by then."""
    on_shortfall: tuple[Consequence, ...] = ()
    interim_measures: InterimMeasures | None = None


class Requirement(Document):
    """A standard, and the actions before which it must be met."""

    standard: Slug
    before: Annotated[tuple[Slug, ...], Field(min_length=1)]


class Baseline(Document):
    """What every model needs, whatever was found."""

    clause: Line
    requires: Annotated[tuple[Requirement, ...], Field(min_length=1)]


class Bound(Document):
    """One side of a number: exactly one of the four."""

    below: Number | None = None
    at_most: Number | None = None
    above: Number | None = None
    at_least: Number | None = None

    @model_validator(mode="after")
    def _one(self) -> "Bound":
        if sum(v is not None for v in (self.below, self.at_most, self.above, self.at_least)) != 1:
            raise ValueError("give one of `below`, `at_most`, `above` and `at_least`")
        return self

    @property
    def upper(self) -> bool:
        """Whether the zone lies under the number."""
        return self.below is not None or self.at_most is not None

    @property
    def number(self) -> Decimal:
        """The number itself."""
        return next(
            v for v in (self.below, self.at_most, self.above, self.at_least) if v is not None
        )

    def holds(self, value: Decimal) -> bool:
        """Whether *value* lies in the zone."""
        if self.below is not None:
            return value < self.below
        if self.at_most is not None:
            return value <= self.at_most
        if self.above is not None:
            return value > self.above
        return self.at_least is not None and value >= self.at_least


class EvaluationLine(Document):
    """A number that an evaluation is held against. It is evidence; it is not the threshold."""

    title: Line
    unit: Line
    riskier: Literal["higher", "lower"]
    rule_out: Bound | None = None
    rule_in: Bound | None = None
    point_value_suffices: Flag = False
    """Whether a value without any uncertainty may rule out. By default it rules nothing out."""
    note: Sentence | None = None


class Lineage(Document):
    """Where a threshold comes from in an earlier version."""

    version: VersionLabel
    threshold: Name | None = None
    change: Literal["new", "kept", "reworded", "split", "merged", "renamed"]


class NotRuledOut(Document):
    """What the text says of a threshold that is neither reached nor ruled out."""

    means: Literal["binds", "does-not-bind"]
    clause: Line


class Obligation(Document):
    """Something that must be done. `due` is counted from the determination's instant."""

    id: Slug
    statement: Sentence
    clause: Line
    by: Slug | None = None
    due: Literal["before"] | ADuration | None = None


class Threshold(Document):
    """A capability threshold: what it means, what it requires, and what settles it."""

    domain: Slug
    kind: Literal[
        "capability", "usage", "outcome", "propensity", "metric_limit", "checkpoint", "alert"
    ] = "capability"
    statement: Sentence
    clause: Line
    lineage: tuple[Lineage, ...] = ()
    requires: tuple[Requirement, ...]
    reached: Condition
    ruled_out: Condition
    not_ruled_out: NotRuledOut
    evidence: tuple[Slug, ...] = ()
    obligations: tuple[Obligation, ...] = ()


class Reassess(Document):
    """When a model must be assessed anew."""

    clause: Line
    when: Condition


class RequiredSignOff(Document):
    """Who must have done what before the action."""

    role: Slug
    verb: AVerb
    clause: Line
    max_age: ADuration | None = None


class Action(Document):
    """Something that can be asked for."""

    statement: Sentence
    clause: Line
    needs: Annotated[tuple[Literal["required-standards"], ...], Field(min_length=1)]
    sign_offs: tuple[RequiredSignOff, ...] = ()
    obligations: tuple[Obligation, ...] = ()


class PolicyVersion(Document):
    """One version of a policy. Its identity is the digest of its canonical JSON, not its label."""

    schema_: Literal["aslgate/policy/v1"] = Field(alias="schema")
    policy: Slug
    version: VersionLabel
    title: Line
    publisher: Line
    published: Day | None = None
    effective: Day
    supersedes: VersionLabel | None = None
    source: Source
    applies_to: Scope
    levels: Annotated[tuple[Level, ...], Field(min_length=1)] | None = None
    confidence: Number
    roles: ByName[Line]
    domains: ByName[Domain]
    standards: ByName[Standard]
    baseline: Baseline | None = None
    lines: Annotated[
        dict[Slug, EvaluationLine], Field(max_length=512), AfterValidator(_in_order)
    ] = {}
    thresholds: Annotated[
        dict[Name, Threshold], Field(min_length=1, max_length=128), AfterValidator(_in_order)
    ]
    reassess: Reassess | None = None
    actions: ByName[Action]
