"""The clauses of a policy version that can close the gate to an action, each a version of its own.

One clause is: a standard that the baseline or one threshold requires, a threshold that prohibits, a
sign-off, a reversal, that no assessment is due, a binding obligation. The version denies the action exactly where one of
its clauses does. Each reads the evidence as the whole version does, for all by which it reads is
left in it. Left out are the other clauses and what they alone read, and what closes no gate: levels,
limitations, recommendations, consequences, other obligations, lines that settle nothing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from app.policy.conditions import (
    CarriedOver,
    ComputeRatio,
    Condition,
    Elapsed,
    LineIn,
    ReassessmentNotDue,
    SignedOff,
    ThresholdRuledOut,
    walk,
)
from app.policy.version import PolicyVersion, Requirement


def clauses(version: PolicyVersion, action: str) -> tuple[PolicyVersion, ...]:
    """Each clause of *version* on the action; where that is not named, the version itself.

    The scope and orders deny in each of them. There is always one: `app.policy.lint` refuses an
    action that nothing must precede.
    """
    if action not in version.actions:
        return (version,)
    bare = _bare(version, action)
    return tuple(map(_only_read, _each(version, bare, action)))


def _each(version: PolicyVersion, bare: PolicyVersion, action: str) -> Iterator[PolicyVersion]:
    if version.baseline is not None:
        for one in _required(version.baseline.requires, action):
            baseline = version.baseline.model_copy(update={"requires": (one,), "level": None})
            asking = bare.model_copy(update={"baseline": baseline})
            yield _with_standard(asking, version, one.standard)
    for name, threshold in version.thresholds.items():
        for one in _required(threshold.requires, action):
            asking = _with(bare, "thresholds", name, requires=(one,))
            yield _with_standard(asking, version, one.standard)
        for prohibition in [one for one in threshold.prohibits if action in one.actions][:1]:
            only = prohibition.model_copy(update={"actions": (action,)})
            yield _with(bare, "thresholds", name, prohibits=(only,))
        for obligation in [one for one in threshold.obligations if one.binding]:
            yield _with(bare, "thresholds", name, obligations=(obligation,))
    asked = version.actions[action]
    for sign_off in asked.sign_offs:
        yield _with(bare, "actions", action, sign_offs=(sign_off,))
    for reversal in asked.may_reverse:
        yield _with(bare, "actions", action, may_reverse=(reversal,))
    for obligation in [one for one in asked.obligations if one.binding]:
        yield _with(bare, "actions", action, obligations=(obligation,))
    if "reassessment-not-due" in asked.needs:
        yield _with(bare, "actions", action, needs=("reassessment-not-due",))


def _required(requires: Iterable[Requirement], action: str) -> list[Requirement]:
    """Each standard that must be met before the action, as if it were for that action alone."""
    names = dict.fromkeys(one.standard for one in requires if action in one.before)
    return [Requirement(standard=name, before=(action,)) for name in names]


def _bare(version: PolicyVersion, action: str) -> PolicyVersion:
    """The version without any clause on the action."""
    bare = version.model_copy(
        update={
            "levels": None,
            "standards": {},
            "baseline": None,
            "exceptions": None,
            "actions": {action: version.actions[action]},
        }
    )
    for name in version.thresholds:
        asking = ("requires", "recommends", "prohibits", "limits", "evidence", "obligations")
        bare = _with(bare, "thresholds", name, level=None, **dict.fromkeys(asking, ()))
    signing = dict.fromkeys(("sign_offs", "may_reverse", "obligations"), ())
    return _with(bare, "actions", action, needs=("required-standards",), **signing)


_REASSESSMENT: Final = ""
"""What stands for the version's own condition among the names of thresholds."""


def _only_read(clause: PolicyVersion) -> PolicyVersion:
    """The clause with what it reads alone: not the thresholds and lines that it never comes to."""
    (action,) = clause.actions.values()
    trees = {name: [one.reached, one.ruled_out] for name, one in clause.thresholds.items()}
    trees[_REASSESSMENT] = [] if clause.reassess is None else [clause.reassess.when]
    leaves = {name: [leaf for tree in of for _, leaf in walk(tree)] for name, of in trees.items()}
    links = _links(leaves)
    read = {
        name
        for name, one in clause.thresholds.items()
        if one.requires or one.prohibits or one.obligations
    }
    read |= {_REASSESSMENT} if "reassessment-not-due" in action.needs else set()
    while more := {other for name in read for other in links[name]} - read:
        read |= more
    lines = {leaf.line for name in read for leaf in leaves[name] if isinstance(leaf, LineIn)}
    return clause.model_copy(
        update={
            "lines": {name: line for name, line in clause.lines.items() if name in lines},
            "thresholds": {name: one for name, one in clause.thresholds.items() if name in read},
            "reassess": clause.reassess if _REASSESSMENT in read else None,
        }
    )


def _links(leaves: Mapping[str, Sequence[Condition]]) -> Mapping[str, set[str]]:
    """What has to be read with what: a threshold with those that it names and that name it, for what
    is found against any of these counts; and a clock with all thresholds on which findings may be
    carried over, for with these an assessment is.
    """
    carried = {name for name, of in leaves.items() if any(isinstance(x, CarriedOver) for x in of)}
    links: dict[str, set[str]] = {name: set() for name in leaves}
    for name, of in leaves.items():
        for leaf in of:
            if isinstance(leaf, ThresholdRuledOut):
                links[name].add(leaf.threshold_ruled_out)
                links[leaf.threshold_ruled_out].add(name)
            elif isinstance(leaf, ReassessmentNotDue):
                links[name].add(_REASSESSMENT)
            elif isinstance(leaf, Elapsed | ComputeRatio | SignedOff):
                links[name] |= carried
    return links


def _with_standard(bare: PolicyVersion, version: PolicyVersion, name: str) -> PolicyVersion:
    """With the standard, those that stand for it, and what lets its shortfall pass."""
    kept = {name}
    while more := {
        stronger
        for stronger, one in version.standards.items()
        if stronger not in kept and not kept.isdisjoint(one.subsumes)
    }:
        kept |= more
    standards = {}
    for one in sorted(kept):
        whole = version.standards[one]
        standards[one] = whole.model_copy(
            update={
                "level": None,
                "subsumes": tuple(sorted(kept.intersection(whole.subsumes))),
                "attackers": None,
                "on_shortfall": (),
                "interim_measures": whole.interim_measures if one == name else None,
            }
        )
    exceptions = {
        key: one.model_copy(update={"stands_for": (name,)})
        for key, one in (version.exceptions or {}).items()
        if name in one.stands_for
    }
    return bare.model_copy(update={"standards": standards, "exceptions": exceptions or None})


def _with(version: PolicyVersion, field: str, name: str, **fields: Any) -> PolicyVersion:
    """The version with what it has under that name changed in these fields."""
    named = getattr(version, field)
    changed = named[name].model_copy(update=fields)
    return version.model_copy(update={field: {**named, name: changed}})
