"""Exceptions: time-limited permissions to go on despite a named shortfall, approved by two people."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import model_validator

from app.assessment.assessment import SourceDocument
from app.vocabulary import Document, Instant, Line, ModelRef, Sentence, Slug, principal_of

INTERIM_MEASURES: Final = "interim-measures"
"""The exception under which measures of equal assurance stand in for a standard."""


class ExceptionRequest(Document):
    """Who goes on without what, with which measures instead, from when and until when.

    `exception` is `interim-measures`, or the name of one of the policy's `exceptions`.
    """

    model: ModelRef
    policy: Slug
    action: Slug
    exception: Slug
    standard: Slug
    measures: Sentence
    reason: Sentence
    valid_from: Instant | None = None
    """Defaults to the server's time, which is then recorded here."""
    valid_until: Instant
    sources: tuple[SourceDocument, ...] = ()

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> "ExceptionRequest":
        if self.valid_from is not None and self.valid_until <= self.valid_from:
            raise ValueError("`valid_until` must lie after `valid_from`")
        return self


class RequestedException(ExceptionRequest):
    """A request as it is recorded: with the caller who made it."""

    requested_by: Line


class ExceptionApproval(Document):
    """That a role approves the exception."""

    role: Slug
    reason: Sentence


class GivenApproval(ExceptionApproval):
    """An approval as it is recorded: with the caller who gave it and the server's time."""

    exception: Line
    by: Line
    given_at: Instant


@dataclass(frozen=True, slots=True)
class Approved:
    """One approval of an exception, by its id and the digest of its recorded bytes."""

    id: str
    digest: str
    item: GivenApproval


@dataclass(frozen=True, slots=True)
class ExceptionOnRecord:
    """A request with the approvals that it has."""

    request: RequestedException
    approvals: tuple[Approved, ...] = ()

    def approved_since(self, roles: tuple[str, ...]) -> datetime | None:
        """Since when every one of *roles* has approved; `None`: not yet.

        Four eyes: at least two principals, none of them the one who asked.
        """
        others = sorted(
            (a.item.given_at, a.item.role, principal_of(a.item.by))
            for a in self.approvals
            if principal_of(a.item.by) != principal_of(self.request.requested_by)
        )
        given: set[str] = set()
        callers: set[str] = set()
        for at, role, caller in others:
            if role in roles:
                given.add(role)
                callers.add(caller)
            if given == set(roles) and len(callers) >= 2:
                return at
        return None
