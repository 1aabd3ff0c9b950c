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

from app.assessment.assessment import SourceDocument
from app.assessment.fulfilments import GivenFulfilment, SupposedFulfilment
from app.canonical import canonical_json, sha256_hex
from app.decoding import pointer
from app.policy.version import Obligation, PolicyVersion
from app.vocabulary import Duration, read_instant

REVIEW: Final = "re-approve-safeguards"
"""The id of the obligation that a standard's `review` raises."""

LACKING: Final = frozenset({"obligation.outstanding", "obligation.overdue", "obligation.unknown"})
"""The codes of the reasons that a binding obligation gives against an action."""

_IN_ITS_LIST: Final = re.compile(r"/(?:obligations/\d+|review)$", re.ASCII)


@dataclass(frozen=True, slots=True)
class Raised:
    """An obligation as one determination raised it.

    `name`: its id in the policy version. `by`: the policy role that must do it. `before_action`: it
    is due when the action is taken, and `due` is `None`. `of_evidence`: its clock runs from a piece
    of evidence (an assessment, a safeguard report), not from the question. `determination` and
    `index`: which determination raised it, and that one's place in the ledger. `lacking`: that one
    was a denial because it is binding and was not done.
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
    lacking: bool = False


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


def binding_obligations(version: PolicyVersion, action: str) -> Iterator[tuple[str, Obligation]]:
    """By JSON pointer, the binding obligations that may close that action."""
    own = pointer("actions", action, "")
    for place, obligation in obligations_of(version).items():
        if obligation.binding and place.startswith((own, "/thresholds/")):
            yield place, obligation


def starts_binding_clock(version: PolicyVersion, kind: str) -> bool:
    """Whether an assessment of that kind asks for a binding obligation anew: then it counts against,
    whatever it finds.
    """
    asked = obligations_of(version).values()
    return any(one.binding and one.since_assessment == kind for one in asked)


def as_given(supposed: SupposedFulfilment, at: datetime) -> GivenFulfilment:
    """The fulfilment as it would be recorded; *at*: when it was done, where that is not said."""
    place = place_of(supposed.pointer)
    return GivenFulfilment(
        reason="supposed",
        sources=(SourceDocument(title="supposed"),),
        done_at=supposed.done_at or at,
        obligation=obligation_id(supposed.model, supposed.policy, place, supposed.name),
        name=supposed.name,
        pointer=supposed.pointer,
        model=supposed.model,
        policy=supposed.policy,
        determination="supposed",
        due=None,
        by="supposed",
    )


def place_of(pointer: str) -> str:
    """The action, threshold or standard that asks for the obligation at that JSON pointer."""
    return _IN_ITS_LIST.sub("", pointer)


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
    lacking = {one["pointer"] for one in document["reasons"] if one["code"] in LACKING}
    for one in document["obligations"]:
        place = place_of(one["pointer"])
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
            lacking=one["pointer"] in lacking,
        )


def kept(before: Raised | None, now: Raised, fulfilled: int | None = None) -> Raised:
    """Which of the two stands: what was raised *before*, or the same obligation as it is *now*.

    The first due stays. A new clock begins where it runs from evidence and another piece of it has
    set another due, and where there was no due at all and now there is one. *fulfilled*: at which
    ledger index the earlier one was fulfilled; one that is lacking all the same, in an answer that
    saw this, must be done anew.
    """
    if before is None:
        return now
    if now.lacking and fulfilled is not None and fulfilled < now.index:
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
