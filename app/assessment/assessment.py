"""Who found what about a model version: results, which are numbers, and findings, which are
judgements.

Each type is the body that a client sends and, with an id, the document that is recorded.
"""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    model_validator,
)

from app.assessment.intervals import Range, normal_range, wilson_range
from app.vocabulary import (
    AnOutcome,
    Day,
    Digest,
    Document,
    Flag,
    Instant,
    Integer,
    Line,
    ModelRef,
    Name,
    Number,
    Outcome,
    Sentence,
    Slug,
)

EvidenceId = Annotated[str, StringConstraints(pattern=r"^(asm|sfg|sgn|exc)_[0-9a-f]{32}$")]


def _in_order(facts: dict[str, Decimal]) -> dict[str, Decimal]:
    return dict(sorted(facts.items()))


def _absent(value: object) -> bool:
    """Whether a field that came later says nothing: then older records keep their bytes."""
    return value is None or value == () or value == {}


def _positive(value: Decimal) -> Decimal:
    if value <= 0:
        raise ValueError("must be more than 0")
    return value


Positive = Annotated[Number, AfterValidator(_positive)]


class ModelVersion(Document):
    """One version of an AI model, as a registry names it."""

    model: ModelRef
    developer: Slug
    digest: Digest | None = None
    digest_kind: Annotated[
        Literal["file", "oms", "oci-manifest", "git-commit"] | None, Field(exclude_if=_absent)
    ] = None
    """What the digest is of: the weights themselves (`file`, or `oms`, the manifest of a model
    signature), or what serves them (`oci-manifest`, `git-commit`). Not given: nobody knows.
    """
    weights: Line | None = None
    """Which weights it is: several model versions may serve the same ones."""
    parent: ModelRef | None = None
    training_compute_flop: Positive | None = None
    released: Day | None = None
    registry_uri: Line | None = None
    facts: Annotated[
        dict[Slug, Number], Field(max_length=64, exclude_if=_absent), AfterValidator(_in_order)
    ] = {}
    """Numbers about the model or its developer that policies ask for; yes is 1 and no is 0."""

    def fact(self, name: str) -> Decimal | None:
        """The number on record under that name; `None`: none is."""
        if name == "training_compute_flop":
            return self.training_compute_flop
        return self.facts.get(name)

    @model_validator(mode="after")
    def _kind_of_a_digest(self) -> "ModelVersion":
        if self.digest_kind is not None and self.digest is None:
            raise ValueError("`digest_kind` says of what `digest` is, and there is none")
        return self


class SourceDocument(Document):
    """A document that a record was read from."""

    title: Line
    uri: Line | None = None
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None


class Interval(Document):
    """A published interval at its own confidence, between 0 and 1."""

    low: Number
    high: Number
    confidence: Number

    @model_validator(mode="after")
    def _ordered(self) -> "Interval":
        if self.low > self.high:
            raise ValueError("`low` is above `high`")
        if not 0 < self.confidence < 1:
            raise ValueError("`confidence` must lie between 0 and 1")
        return self


class Result(Document):
    """The value of one metric, with as much of its uncertainty as is known."""

    line: Slug
    value: Number
    interval: Interval | None = None
    stderr: Number | None = None
    successes: Integer | None = None
    trials: Integer | None = None
    n: Integer | None = None
    unit: Annotated[Line | None, Field(exclude_if=_absent)] = None
    """What `value` counts, in the words of the line. It is held against lines of that unit only; not
    given: against every line of that name.
    """
    variant: Line | None = None
    """Which snapshot or scaffold; results of different variants stand side by side."""
    aggregation: Line | None = None
    load_bearing: Flag = True
    """`false`: recorded, and not relied on. It permits nothing and still counts against."""
    note: Sentence | None = None
    not_published: Annotated[
        tuple[Literal["interval", "n", "variant", "aggregation", "elicitation"], ...],
        Field(exclude_if=_absent),
    ] = ()
    """What the source does not say of it."""

    @model_validator(mode="after")
    def _one_uncertainty(self) -> "Result":
        shares = (self.successes is not None, self.trials is not None)
        if shares[0] is not shares[1]:
            raise ValueError("`successes` and `trials` go together")
        if (self.interval is not None) + (self.stderr is not None) + all(shares) > 1:
            raise ValueError("give one of `interval`, `stderr`, and `successes` with `trials`")
        if self.stderr is not None and self.stderr < 0:
            raise ValueError("`stderr` must not be negative")
        if self.n is not None and self.n < 1:
            raise ValueError("`n` must be at least 1")
        if self.interval is not None and not self.interval.low <= self.value <= self.interval.high:
            raise ValueError("`value` lies outside its `interval`")
        if self.successes is not None and self.trials is not None:
            if not 0 <= self.successes <= self.trials or self.trials < 1:
                raise ValueError(
                    "`successes` must lie between 0 and `trials`, and `trials` above 0"
                )
            if abs(self.value * self.trials - self.successes) * 200 > self.trials:
                raise ValueError("`value` is not `successes` / `trials`")
        return self

    def at_confidence(self, confidence: Decimal) -> Range | None:
        """Where the true value lies at *confidence*; `None` where nothing was published of it.

        A published interval of a lower confidence than that says nothing at that confidence.
        """
        if self.interval is not None:
            if self.interval.confidence < confidence:
                return None
            return Range(self.interval.low, self.interval.high, ours=False)
        if self.stderr is not None:
            return normal_range(self.value, self.stderr, confidence)
        if self.successes is not None and self.trials is not None:
            return wilson_range(self.successes, self.trials, confidence)
        return None


class Finding(Document):
    """The judgement of named roles on one threshold of a policy, with their reason."""

    policy: Slug
    threshold: Name
    outcome: AnOutcome
    by: Annotated[tuple[Slug, ...], Field(min_length=1)]
    reason: Sentence
    bounded_by: ModelRef | None = None
    carried_over_from: Annotated[ModelRef | None, Field(exclude_if=_absent)] = None
    dissent: Annotated[Sentence | None, Field(exclude_if=_absent)] = None
    """What those said who did not agree."""

    @property
    def other_model(self) -> str | None:
        """The model version that the finding leans on, if it names one."""
        return self.bounded_by or self.carried_over_from

    @model_validator(mode="after")
    def _other_is_named(self) -> "Finding":
        if (self.outcome is Outcome.BOUNDED_BY) is not (self.bounded_by is not None):
            raise ValueError("`bounded_by` names the stronger model of a `bounded-by` outcome")
        if self.carried_over_from is not None and self.outcome is not Outcome.CARRIED_OVER:
            raise ValueError(
                "`carried_over_from` names the other model of a `carried-over` outcome"
            )
        return self


class Assessment(Document):
    """Results and findings of one round of testing, which speaks for `conducted_at`."""

    model: ModelRef
    kind: Slug
    conducted_at: Instant
    assessor: Line
    elicitation: Sentence | None = None
    effective_compute_ratio: Positive | None = None
    """Effective compute as a multiple of the last comprehensively assessed model's."""
    sources: tuple[SourceDocument, ...] = ()
    results: Annotated[tuple[Result, ...], Field(max_length=500)] = ()
    findings: Annotated[tuple[Finding, ...], Field(max_length=200)] = ()

    @property
    def may_count_against(self) -> bool:
        """Whether anything in it could stand in the way of an action: a number, a growth of compute,
        or a finding that is no ruling out on this model version or a stronger one.
        """
        permitting = (Outcome.RULED_OUT, Outcome.BOUNDED_BY)
        return (
            bool(self.results)
            or self.effective_compute_ratio is not None
            or any(finding.outcome not in permitting for finding in self.findings)
        )

    @model_validator(mode="after")
    def _one_finding_each(self) -> "Assessment":
        named = [(finding.policy, finding.threshold) for finding in self.findings]
        if len(set(named)) != len(named):
            raise ValueError("`findings` judges one threshold twice")
        return self


class Withdrawal(Document):
    """Why a piece of evidence no longer counts. What was decided on it stays as it was."""

    reason: Sentence
    kind: Literal["withdrawn", "corrected", "superseded"] = "withdrawn"
    superseded_by: EvidenceId | None = None
    """Another piece of the same kind, on the same model version."""
