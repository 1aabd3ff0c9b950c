"""The evidence on one model version, as it was recorded."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from app.assessment.assessment import Assessment
from app.assessment.safeguards import SafeguardReport
from app.assessment.sign_offs import SignOff

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Recorded(Generic[T]):
    """A piece of evidence with its id and the digest of its recorded bytes."""

    id: str
    digest: str
    item: T


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of one model version. Withdrawn assessments are not in it.

    The order within each tuple means nothing: `decide` gives the same bytes for any.
    """

    assessments: tuple[Recorded[Assessment], ...] = ()
    safeguards: tuple[Recorded[SafeguardReport], ...] = ()
    sign_offs: tuple[Recorded[SignOff], ...] = field(default=())

    @property
    def count(self) -> int:
        """How many pieces there are."""
        return len(self.assessments) + len(self.safeguards) + len(self.sign_offs)

    def names(self) -> Iterator[tuple[str, str]]:
        """Id and digest of every piece, in the order of the ids."""
        pieces: list[Recorded[Any]] = [*self.assessments, *self.safeguards, *self.sign_offs]
        yield from sorted((piece.id, piece.digest) for piece in pieces)
