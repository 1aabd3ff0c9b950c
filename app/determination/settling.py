"""What would settle it: the smallest sets of evidence that would change an answer, both ways."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, Literal

from app.assessment.assessment import ModelVersion
from app.assessment.evidence import Evidence
from app.determination.decide import Question, decide
from app.determination.moves import (
    Move,
    Placed,
    counting_against,
    joined,
    permitting,
    piece,
    smallest_sets,
)
from app.determination.reading import Read
from app.policy.timeline import PolicyInForce
from app.vocabulary import Document

_MOMENT: Final = timedelta(seconds=1)
"""What is still to be recorded is newer than all that is."""

_LIMIT: Final = 24
"""How many sets are given each way."""


class Settling(Document):
    """The smallest sets of evidence that would make the answer more permissive, or stricter.

    `clears` is empty where it is `allow` already or where nothing that can be recorded clears it,
    `blocks` where it is `deny` already. `complete`: there are no further sets.
    """

    decision: Literal["allow", "allow_with_conditions", "deny"]
    clears: tuple[tuple[Move, ...], ...]
    blocks: tuple[tuple[Move, ...], ...]
    complete: bool


def settling(
    question: Question,
    policy: PolicyInForce | None,
    model: ModelVersion | None,
    evidence: Evidence,
) -> Settling:
    """What would settle the question: to be asked before an evaluation is run as well as after.

    Pure; it asks `decide` some thousand times at most. Models that could bound this one, and
    findings that could be carried over, are not proposed: which there are is not known here.
    """
    answer = decide(question, policy, model, evidence)
    if policy is None or model is None or question.action not in policy.version.actions:
        return Settling(decision=answer.decision, clears=(), blocks=(), complete=True)
    asking = _Asking(question, policy, model, evidence)
    read = asking.read
    clears, all_that_clear = asking.smallest(
        permitting(read, question.action), lambda then: then < answer.strictness
    )
    blocks, all_that_block = asking.smallest(
        counting_against(read, question.action), lambda then: then > answer.strictness
    )
    return Settling(
        decision=answer.decision,
        clears=clears,
        blocks=blocks,
        complete=all_that_clear and all_that_block,
    )


@dataclass(frozen=True)
class _Asking:
    """One question, asked again and again with more evidence."""

    question: Question
    policy: PolicyInForce
    model: ModelVersion
    evidence: Evidence

    @property
    def read(self) -> Read:
        return Read(self.policy.version, self.model, self.evidence, self.question.at)

    def smallest(
        self, moves: Sequence[Move], changed: Callable[[int], bool]
    ) -> tuple[tuple[tuple[Move, ...], ...], bool]:
        """The smallest sets of *moves* after which the strictness has *changed*."""
        read = self.read
        then = self.question.at + _MOMENT
        later = replace(self.question, at=then)

        pieces = [
            piece(read, self.question.action, Placed(move, then), f"move_{i:03d}")
            for i, move in enumerate(moves)
        ]

        def holds(chosen: frozenset[int]) -> bool:
            with_them = joined(self.evidence, (pieces[i] for i in sorted(chosen)))
            return changed(decide(later, self.policy, self.model, with_them).strictness)

        if holds(frozenset()):
            # The next second changes it by itself, so nothing is needed.
            return (), True
        found = smallest_sets(len(moves), holds, limit=_LIMIT)
        sets = tuple(tuple(moves[i] for i in one) for one in found.sets)
        return sets, found.complete
