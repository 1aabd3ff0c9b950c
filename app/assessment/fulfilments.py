"""Fulfilments: that what a policy obliges somebody to do was done, and what shows it."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from app.assessment.assessment import SourceDocument
from app.vocabulary import Document, Instant, Line, ModelRef, Sentence, Slug


class SupposedFulfilment(Document):
    """That an obligation was fulfilled, in evidence that is only supposed.

    `pointer` and `name` are the obligation's, as determinations list it (`pointer`, `id`).
    """

    model: ModelRef
    policy: Slug
    pointer: Line
    name: Slug
    done_at: Instant | None = None
    """Defaults to the instant that is asked about."""


class Fulfilment(Document):
    """That an obligation was fulfilled, how, and the documents that show it."""

    reason: Sentence
    sources: Annotated[tuple[SourceDocument, ...], Field(min_length=1)]
    done_at: Instant | None = None
    """Defaults to the server's time, which is then recorded here."""


class GivenFulfilment(Fulfilment):
    """A fulfilment as it is recorded: of which obligation, and by whom.

    `name` and `pointer` are the obligation's in the policy version. `determination` is the one that
    raised it, and `due` the due that it had then; `null`: none. What is raised anew later, with
    another due, is not fulfilled by this.
    """

    obligation: Line
    name: Slug
    pointer: Line
    model: ModelRef
    policy: Slug
    determination: Line
    due: Instant | None
    by: Line

    @property
    def done(self) -> datetime:
        """When it was done."""
        assert self.done_at is not None, "the server's time is filled in before it is recorded"
        return self.done_at

    def supposed(self) -> SupposedFulfilment:
        """As it would be supposed."""
        named = {name: getattr(self, name) for name in SupposedFulfilment.model_fields}
        return SupposedFulfilment(**named)
