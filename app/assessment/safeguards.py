"""What is in place: reports that a criterion of a standard is met, or is not."""

from pydantic import model_validator

from app.assessment.assessment import SourceDocument
from app.vocabulary import Document, Flag, Instant, Line, ModelRef, Sentence, Slug


class SafeguardReport(Document):
    """That a criterion of a standard is met for a model version, from when and until when.

    `criterion` is `null` for the whole standard, `criterion/part` for a part of one. `stated_by` is a
    role of the policy, or says in other words whose word it is: with a capital or a space, for
    what could name a role is taken for one.
    """

    model: ModelRef
    policy: Slug
    standard: Slug
    criterion: Line | None = None
    met: Flag
    valid_from: Instant
    valid_until: Instant | None = None
    stated_by: Line
    note: Sentence | None = None
    sources: tuple[SourceDocument, ...] = ()

    @property
    def may_count_against(self) -> bool:
        """Whether it could stand in the way of an action."""
        return not self.met

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> "SafeguardReport":
        if self.valid_until is not None and self.valid_until <= self.valid_from:
            raise ValueError("`valid_until` must lie after `valid_from`")
        return self
