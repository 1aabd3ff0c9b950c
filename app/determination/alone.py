"""Whether one and the same person found what permits an action and is the only one who approved it.

`decide` knows what was said and not by whom, and so it must: a further piece that permits, whoever
records it, makes no answer stricter. Who said it is held against it here, before an answer that lets
something pass is recorded.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Final

from app.assessment.assessment import Assessment, ModelVersion
from app.assessment.evidence import Evidence, Recorded
from app.determination.reading import Read
from app.policy.version import PolicyVersion
from app.vocabulary import Outcome, Verb, principal_of

PERMITTING: Final = frozenset({Outcome.RULED_OUT, Outcome.BOUNDED_BY, Outcome.CARRIED_OVER})
"""The findings that may let an action pass."""
APPROVING: Final = frozenset({Verb.APPROVED, Verb.DECIDED})
"""What a sign-off does that lets an action pass."""
_SHARED: Final = "team:"


@dataclass(frozen=True, slots=True)
class Alone:
    """The ids of the approvals that stand, and of what their giver recorded that rules out."""

    sign_offs: tuple[str, ...]
    assessments: tuple[str, ...]


def approved_alone(
    version: PolicyVersion,
    model: ModelVersion,
    evidence: Evidence,
    action: str,
    at: datetime,
    recorded_by: Mapping[str, str],
) -> Alone | None:
    """By which approvals and assessments *action* would rest on one person alone at *at*; `None`: it
    does not, or the version asks nobody's approval of it.

    *recorded_by*: by id, the actor of each piece of *evidence*. Two keys of one person are one person.
    A team's key does not say which person used it: it may have been any.
    """
    asked = version.actions.get(action)
    if asked is None or not any(one.verb in APPROVING for one in asked.sign_offs):
        return None
    standing = Read(version, model, evidence, at).approvals(action, APPROVING)
    approvers = {principal_of(recorded_by[id]) for id in standing}
    named = {one for one in approvers if not one.startswith(_SHARED)}
    if not approvers or len(named) > 1:
        return None
    found = [
        one.id
        for one in _all_assessments(evidence)
        if _may_be_one_of(principal_of(recorded_by[one.id]), named)
        and permits(one.item, version, at)
    ]
    return Alone(tuple(sorted(standing)), tuple(sorted(set(found)))) if found else None


def permits(assessment: Assessment, version: PolicyVersion, at: datetime) -> bool:
    """Whether anything in it may rule a threshold of *version* out by *at*: a finding, or a number on
    the side of its line that does.
    """
    if assessment.conducted_at > at:
        return False
    if any(f.policy == version.policy and f.outcome in PERMITTING for f in assessment.findings):
        return True
    for result in assessment.results:
        line = version.lines.get(result.line)
        if line is None or line.rule_out is None or result.unit not in (None, line.unit):
            continue
        if result.load_bearing and line.rule_out.holds(result.value):
            return True
    return False


def _may_be_one_of(finder: str, named: set[str]) -> bool:
    """Whether who found may be who approved; *named* is empty where teams alone approved."""
    return finder in named or finder.startswith(_SHARED) or (not named and _is_somebody(finder))


def _is_somebody(principal: str) -> bool:
    """Whether a person, who may be of any team, as against a program."""
    return principal.startswith("person:")


def _all_assessments(evidence: Evidence) -> Iterator[Recorded[Assessment]]:
    """Those on the model, and those on the models that findings on it lean on."""
    others = (other.evidence.assessments for other in evidence.others.values())
    return chain(evidence.assessments, *others)
