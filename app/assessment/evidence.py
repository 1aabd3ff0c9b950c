"""The evidence on one model version, as it was recorded."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Generic, TypeVar

from app.assessment.assessment import Assessment, Finding, ModelVersion, Result
from app.assessment.exceptions import ExceptionOnRecord
from app.assessment.fulfilments import GivenFulfilment
from app.assessment.orders import OrderOnRecord
from app.assessment.safeguards import SafeguardReport
from app.assessment.sign_offs import SignOff

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Recorded(Generic[T]):
    """A piece of evidence with its id and the digest of its recorded bytes.

    `index`: its place in the ledger; `None` for one that is recorded nowhere.
    """

    id: str
    digest: str
    item: T
    index: int | None = None


@dataclass(frozen=True, slots=True)
class OtherModel:
    """Another model version, and what is known of it. Its own `others` are empty: all stand beside
    one another in the evidence of the model that is asked about.
    """

    model: ModelVersion
    evidence: "Evidence"


@dataclass(frozen=True, slots=True)
class Said:
    """One finding, with the assessment that it came in; `index`: the place of that in the ledger."""

    id: str
    at: datetime
    kind: str
    finding: Finding
    index: int | None


@dataclass(frozen=True, slots=True)
class Measured:
    """One result, with the assessment that it came in."""

    id: str
    at: datetime
    result: Result


@dataclass(frozen=True, slots=True)
class Signed:
    """One sign-off, with its id, when it was given, and its place in the ledger."""

    at: datetime
    id: str
    index: int | None
    sign_off: SignOff


@dataclass(frozen=True)
class Evidence:
    """All that is known of one model version. Withdrawn assessments are not in it.

    The order within each tuple means nothing: `decide` gives the same bytes for any. What is sorted
    out of it below is sorted once, for evidence is decided on more often than it changes.
    """

    assessments: tuple[Recorded[Assessment], ...] = ()
    safeguards: tuple[Recorded[SafeguardReport], ...] = ()
    sign_offs: tuple[Recorded[SignOff], ...] = ()
    exceptions: tuple[Recorded[ExceptionOnRecord], ...] = ()
    orders: tuple[Recorded[OrderOnRecord], ...] = ()
    fulfilments: tuple[Recorded[GivenFulfilment], ...] = ()
    """They bear on nothing but obligations that a policy version makes binding."""
    others: Mapping[str, "OtherModel"] = field(default_factory=dict)
    """The model versions that findings here lean on, by name: all that is known of them."""

    @property
    def count(self) -> int:
        """How many pieces there are, those on other models included."""
        own: tuple[tuple[Recorded[Any], ...], ...] = (
            self.assessments,
            self.safeguards,
            self.sign_offs,
            self.exceptions,
            self.orders,
            self.fulfilments,
        )
        return sum(map(len, own)) + sum(other.evidence.count for other in self.others.values())

    def alone_by(self, index: int | None) -> "Evidence":
        """What was on record of this model alone with the ledger entry *index*; all of it for one
        that is recorded nowhere. Exceptions, orders and fulfilments are left out: they settle no
        threshold.
        """

        def by(pieces: tuple[Recorded[T], ...]) -> tuple[Recorded[T], ...]:
            if index is None:
                return pieces
            return tuple(one for one in pieces if one.index is not None and one.index <= index)

        return Evidence(by(self.assessments), by(self.safeguards), by(self.sign_offs))

    def names(self, *, fulfilments: bool = False) -> Iterator[tuple[str, str]]:
        """Id and digest of every piece, in the order of the ids; *fulfilments*: of those on this model
        too, which only an answer by a version with binding obligations rests on.
        """
        named = set(self._own_names())
        if fulfilments:
            named.update((one.id, one.digest) for one in self.fulfilments)
        named.update(*(other.evidence._own_names() for other in self.others.values()))  # noqa: SLF001 - of one type
        yield from sorted(named)

    @cached_property
    def recorded_at(self) -> Mapping[str, int]:
        """By id, the ledger index of each assessment that is recorded."""
        return {one.id: one.index for one in self.assessments if one.index is not None}

    def _own_names(self) -> Iterator[tuple[str, str]]:
        pieces: list[Recorded[Any]] = [
            *self.assessments,
            *self.safeguards,
            *self.sign_offs,
            *self.exceptions,
            *self.orders,
        ]
        yield from ((piece.id, piece.digest) for piece in pieces)
        for exception in self.exceptions:
            yield from ((given.id, given.digest) for given in exception.item.approvals)
        for order in self.orders:
            if order.item.lifted is not None:
                yield order.item.lifted.id, order.item.lifted.digest

    @cached_property
    def assessed(self) -> Sequence[Recorded[Assessment]]:
        """The assessments, oldest first; those of one instant in the order of their ids."""
        return sorted(self.assessments, key=lambda a: (a.item.conducted_at, a.id))

    @cached_property
    def findings(self) -> Mapping[tuple[str, str], Sequence[Said]]:
        """By policy and threshold, oldest first."""
        found: dict[tuple[str, str], list[Said]] = {}
        for assessment in self.assessed:
            item = assessment.item
            for finding in item.findings:
                said = Said(assessment.id, item.conducted_at, item.kind, finding, assessment.index)
                found.setdefault((finding.policy, finding.threshold), []).append(said)
        return found

    @cached_property
    def results(self) -> Mapping[str, Sequence[Measured]]:
        """By line, oldest first."""
        measured: dict[str, list[Measured]] = {}
        for assessment in self.assessed:
            for result in assessment.item.results:
                one = Measured(assessment.id, assessment.item.conducted_at, result)
                measured.setdefault(result.line, []).append(one)
        return measured

    def measured(self, line: str, unit: str) -> Sequence[Measured]:
        """What was measured of a line that is told in that unit, oldest first. A result that says
        another unit is of another line of the same name.
        """
        of_name = self.results.get(line, ())
        return [one for one in of_name if one.result.unit in (None, unit)]

    @cached_property
    def reports(self) -> Mapping[tuple[str, str], Sequence[Recorded[SafeguardReport]]]:
        """By policy and standard."""
        reported: dict[tuple[str, str], list[Recorded[SafeguardReport]]] = {}
        for report in self.safeguards:
            reported.setdefault((report.item.policy, report.item.standard), []).append(report)
        return reported

    @cached_property
    def signed(self) -> Mapping[str, Sequence[Signed]]:
        """By policy, oldest first."""
        signed: dict[str, list[Signed]] = {}
        for one in self.sign_offs:
            given_at = one.item.given_at
            assert given_at is not None, "the server's time is filled in before it is recorded"
            signed.setdefault(one.item.policy, []).append(
                Signed(given_at, one.id, one.index, one.item)
            )
        return {
            policy: sorted(given, key=lambda one: (one.at, one.id))
            for policy, given in signed.items()
        }

    @cached_property
    def fulfilled(self) -> Mapping[str, Sequence[Recorded[GivenFulfilment]]]:
        """By obligation, what was done of it, the latest first."""
        done: dict[str, list[Recorded[GivenFulfilment]]] = {}
        for one in sorted(self.fulfilments, key=lambda one: (one.item.done, one.id), reverse=True):
            done.setdefault(one.item.obligation, []).append(one)
        return done
