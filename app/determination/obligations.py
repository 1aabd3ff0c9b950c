"""The obligations that determinations raise, followed from one determination to the next.

Every determination lists what must be done, each with its due as it is seen from there. What is to
be kept of that is one obligation, which was raised first at some time and has one due: else whoever
asks every day would move a due of thirty days along for ever.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from app.canonical import canonical_json, sha256_hex
from app.decoding import pointer
from app.policy.version import Obligation, PolicyVersion
from app.vocabulary import Duration, read_instant

REVIEW: Final = "re-approve-safeguards"
"""The id of the obligation that a standard's `review` raises."""

_IN_ITS_LIST: Final = re.compile(r"/(?:obligations/\d+|review)$", re.ASCII)


@dataclass(frozen=True, slots=True)
class Raised:
    """An obligation as one determination raised it.

    `name`: its id in the policy version. `by`: the policy role that must do it. `before_action`: it
    is due when the action is taken, and `due` is `None`. `of_evidence`: its clock runs from a piece
    of evidence (an assessment, a safeguard report), not from the question. `determination` and
    `index`: which determination raised it, and that one's place in the ledger.
    """

    id: str
    model: str
    policy: str
    version: str
    pointer: str
    name: str
    statement: str
    clause: str
    by: str | None
    before_action: bool
    due: datetime | None
    of_evidence: bool
    determination: str
    index: int


def obligation_id(model: str, policy: str, place: str, name: str) -> str:
    """The id under which an obligation is followed, whichever determinations raise it.

    `place`: the action, threshold or standard that asks for it, as a JSON pointer. Its number in the
    list there does not count, which may be another one in another version.
    """
    return f"obl_{sha256_hex(canonical_json([model, policy, place, name]))[:32]}"


def obligations_of(version: PolicyVersion) -> Mapping[str, Obligation]:
    """By JSON pointer, the obligations of all actions and thresholds of a policy version."""
    return {
        pointer(table, name, "obligations", i): obligation
        for table, each in (("actions", version.actions), ("thresholds", version.thresholds))
        for name, one in each.items()
        for i, obligation in enumerate(one.obligations)
    }


def raised_by(
    document: Mapping[str, Any], index: int, asked: Mapping[str, Obligation]
) -> Iterator[Raised]:
    """What the determination with that document raised, at that ledger index.

    *asked*: the `obligations_of` the policy version that answered. Of one that is not among them no
    clock is taken to run from an assessment.
    """
    provenance = document["provenance"]
    at = read_instant(provenance["at"])
    model, policy = document["model"], provenance["policy"]["name"]
    for one in document["obligations"]:
        place = _IN_ITS_LIST.sub("", one["pointer"])
        due = None if one["due"] is None else read_instant(one["due"])
        yield Raised(
            id=obligation_id(model, policy, place, one["id"]),
            model=model,
            policy=policy,
            version=provenance["policy"]["version"],
            pointer=one["pointer"],
            name=one["id"],
            statement=one["message"],
            clause=one["clause"],
            by=one["by"],
            before_action=one["before_action"],
            due=due,
            of_evidence=_runs_from_evidence(asked.get(one["pointer"]), one, at, due),
            determination=document["id"],
            index=index,
        )


def kept(before: Raised | None, now: Raised) -> Raised:
    """Which of the two stands: what was raised *before*, or the same obligation as it is *now*.

    The first due stays. A new clock begins where it runs from evidence and another piece of it has
    set another due, and where there was no due at all and now there is one.
    """
    if before is None:
        return now
    begins_anew = now.due != before.due and (
        now.of_evidence or (before.due is None and now.due is not None)
    )
    return now if begins_anew else before


def _runs_from_evidence(
    asked: Obligation | None, answer: Mapping[str, Any], at: datetime, due: datetime | None
) -> bool:
    if answer["pointer"].endswith("/review") and answer["id"] == REVIEW:
        return True
    if asked is None or asked.since_assessment is None or not isinstance(asked.due, Duration):
        return False
    # Where there is no such assessment yet, the clock runs from the question instead.
    return due != asked.due.after(at)
