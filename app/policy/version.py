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
    sha256: Sha256 | None = None
    note: Sentence | None = None
    """Why there is no digest, where there is none."""
    also: tuple[Sha256, ...] = ()
    """Other bytes that the publisher put out under the same label."""

    @model_validator(mode="after")
    def _says_what_was_read(self) -> "Source":
        if self.sha256 is None and self.note is None:
            raise ValueError("give `sha256`, or say in `note` why there is none")
        return self


class Scope(Document):
    """Which models and actions the policy speaks of: where all that is given here holds.

    `when` is a condition over facts. A fact that is not on record leaves the model in scope.
    """

    developer: Annotated[tuple[Slug, ...], Field(min_length=1)] | None = None
    when: Condition | None = None
    actions: Annotated[tuple[Slug, ...], Field(min_length=1)] | None = None
    """The actions that it extends to; any other is out of its scope. Not given: it extends to all,
    and one that it does not name is denied.
    """

    @model_validator(mode="after")
    def _has_a_test(self) -> "Scope":
        if self.developer is None and self.when is None:
            raise ValueError("give `developer` or `when`")
        return self


class DeclaredFact(Document):
    """A number about a model version or its developer that conditions use; yes is 1 and no is 0."""

    title: Line
    unit: Line


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
    at_most: ADuration | None = None
    """For how long they may stand in."""


class PermittedException(Document):
    """A permission that the policy itself gives to go on despite a shortfall: a contingent clause,
    break-glass. It must be asked for and approved on record, for a time.
    """

    statement: Sentence
    clause: Line
    stands_for: Annotated[tuple[Slug, ...], Field(min_length=1)]
    """The standards whose shortfall it lets pass."""
    actions: Annotated[tuple[Slug, ...], Field(min_length=1)] | None = None
    """For which actions; not given: all."""
    approved_by: Annotated[tuple[Slug, ...], Field(min_length=1)]
    at_most: ADuration


class Attackers(Document):
    """Whom a security standard must hold off, and whom it need not."""

    in_scope: tuple[Line, ...] = ()
    out_of_scope: tuple[Line, ...] = ()


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
    attackers: Attackers | None = None
    on_shortfall: tuple[Consequence, ...] = ()
    interim_measures: InterimMeasures | None = None


class Requirement(Document):
    """A standard, and the actions before which it must be met."""

    standard: Slug
    before: Annotated[tuple[Slug, ...], Field(min_length=1)]


class Baseline(Document):
    """What every model needs, whatever was found."""

    clause: Line
    level: Level | None = None
    """The level of a model that nothing else gives one."""
    requires: tuple[Requirement, ...] = ()

    @model_validator(mode="after")
    def _says_something(self) -> "Baseline":
        if not self.requires and self.level is None:
            raise ValueError("give `requires` or `level`")
        return self


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
    status: Literal["current", "saturated", "withdrawn"] = "current"
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
    """Something that must be done. `due` is counted from the determination's instant, or from the
    newest assessment of the kind that `since_assessment` names.

    `binding`: the action is denied while it is not on record that it was done: from the start where
    it is due before the action, from its due on otherwise. With `since_assessment` it must be done
    anew after each assessment of that kind, and one that was missed is not made good by the next.
    """

    id: Slug
    statement: Sentence
    clause: Line
    by: Slug | None = None
    to: tuple[Line, ...] = ()
    """Who must be told or given it."""
    due: Literal["before"] | ADuration | None = None
    since_assessment: Slug | None = None
    binding: Flag = False


class Recommendation(Requirement):
    """A standard that the text recommends to others than its publisher. It closes no gate."""

    clause: Line


class Prohibition(Document):
    """Actions that no safeguard opens while the threshold binds."""

    actions: Annotated[tuple[Slug, ...], Field(min_length=1)]
    statement: Sentence
    clause: Line


class Limitation(Document):
    """Something with which alone the actions may go ahead while the threshold binds."""

    id: Slug
    actions: Annotated[tuple[Slug, ...], Field(min_length=1)]
    statement: Sentence
    clause: Line


class Correspondence(Document):
    """A threshold of another policy that is much the same. It has no effect on any decision."""

    policy: Slug
    threshold: Name
    confidence: Literal["low", "medium", "high"]
    statement: Sentence


class Threshold(Document):
    """A capability threshold: what it means, what it requires, and what settles it."""

    domain: Slug
    kind: Literal[
        "capability",
        "usage",
        "outcome",
        "propensity",
        "metric_limit",
        "checkpoint",
        "alert",
        "tracked_level",
    ] = "capability"
    risk: Literal["inherent", "residual", "marginal", "overall"] | None = None
    """Which risk it speaks of: before or after mitigations, against a baseline, all together."""
    level: Level | None = None
    statement: Sentence
    clause: Line
    lineage: tuple[Lineage, ...] = ()
    corresponds: tuple[Correspondence, ...] = ()
    requires: tuple[Requirement, ...]
    recommends: tuple[Recommendation, ...] = ()
    prohibits: tuple[Prohibition, ...] = ()
    limits: tuple[Limitation, ...] = ()
    reached: Condition
    ruled_out: Condition
    not_ruled_out: NotRuledOut
    evidence: tuple[Slug, ...] = ()
    obligations: tuple[Obligation, ...] = ()


class Dropped(Document):
    """A threshold of an earlier version that this one no longer has."""

    version: VersionLabel
    threshold: Name
    statement: Sentence
    clause: Line | None = None


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


class Reversal(Document):
    """Who may overrule those who approved the action."""

    role: Slug
    clause: Line


class Action(Document):
    """Something that can be asked for."""

    statement: Sentence
    clause: Line
    needs: Annotated[
        tuple[Literal["required-standards", "reassessment-not-due"], ...], Field(min_length=1)
    ]
    sign_offs: tuple[RequiredSignOff, ...] = ()
    may_reverse: tuple[Reversal, ...] = ()
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
    facts: ByName[DeclaredFact] | None = None
    domains: ByName[Domain]
    standards: ByName[Standard]
    baseline: Baseline | None = None
    exceptions: ByName[PermittedException] | None = None
    lines: Annotated[
        dict[Slug, EvaluationLine], Field(max_length=512), AfterValidator(_in_order)
    ] = {}
    thresholds: Annotated[
        dict[Name, Threshold], Field(min_length=1, max_length=128), AfterValidator(_in_order)
    ]
    dropped: tuple[Dropped, ...] = ()
    reassess: Reassess | None = None
    actions: ByName[Action]

    @property
    def has_binding_obligations(self) -> bool:
        """Whether any obligation is binding, so that an answer rests on what was fulfilled."""
        return any(
            obligation.binding
            for each in (self.actions, self.thresholds)
            for one in each.values()
            for obligation in one.obligations
        )
