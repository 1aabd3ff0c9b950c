"""Everything that a piece of evidence names must be named by the policy: what nobody defines would
be recorded and have no effect, and a misspelt finding against release would be lost in silence.

Each function gives every unknown name at once, with its pointer below *place*.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from datetime import datetime

from app.assessment.assessment import Assessment, ModelVersion, Result
from app.assessment.exceptions import INTERIM_MEASURES, ExceptionRequest
from app.assessment.orders import Order
from app.assessment.safeguards import SafeguardReport
from app.assessment.sign_offs import SignOff
from app.decoding import pointer
from app.errors import Fault
from app.policy.version import InterimMeasures, PermittedException, PolicyVersion

Place = tuple[str | int, ...]
VersionsOf = Callable[[str], Sequence[PolicyVersion]]
"""The versions of a policy that may name what the evidence names; none: the policy is unknown."""
LinesByName = Mapping[str, Set[tuple[str, str]]]
"""By name, in which unit a line is told and which direction is riskier, wherever there is one."""


def unknown_in_assessment(
    assessment: Assessment, versions: VersionsOf, lines: LinesByName, place: Place = ()
) -> list[Fault]:
    """Unknown lines, units, policies, thresholds and roles."""
    faults = [
        fault
        for i, result in enumerate(assessment.results)
        for fault in _unknown_line(result, lines, (*place, "results", i))
    ]
    for i, finding in enumerate(assessment.findings):
        here = (*place, "findings", i)
        named = versions(finding.policy)
        faults += _unknown_policy(finding.policy, named, here)
        faults += _unknown(
            "threshold", finding.threshold, named, lambda v: v.thresholds, (*here, "threshold")
        )
        for j, role in enumerate(finding.by):
            faults += _unknown("role", role, named, lambda v: v.roles, (*here, "by", j))
    return faults


def _unknown_line(result: Result, lines: LinesByName, place: Place) -> list[Fault]:
    """A line that nobody has, a unit that it does not have, and none where it has several: a share
    that is read as per cent is a hundredth of what it is.
    """
    kinds = lines.get(result.line, frozenset())
    if not kinds:
        message = f"no policy version in question has a line `{result.line}`"
        return [Fault(pointer(*place, "line"), "unknown-line", message)]
    units = sorted({unit for unit, _ in kinds})
    named = " or ".join(f"`{unit}`" for unit in units)
    if result.unit is None and len(kinds) > 1:
        message = f"policy versions hold `{result.line}` against different lines; say {named}"
        return [Fault(pointer(*place, "unit"), "missing", message)]
    if result.unit is not None and result.unit not in units:
        message = f"`{result.line}` is told in {named}"
        return [Fault(pointer(*place, "unit"), "unknown-unit", message)]
    return []


def lines_of(versions: Iterable[PolicyVersion]) -> LinesByName:
    """The lines of those versions, by name."""
    found: dict[str, set[tuple[str, str]]] = {}
    for version in versions:
        for name, line in version.lines.items():
            found.setdefault(name, set()).add((line.unit, line.riskier))
    return found


def unknown_in_report(
    report: SafeguardReport, versions: VersionsOf, place: Place = ()
) -> list[Fault]:
    """Unknown policy, standard or criterion."""
    named = versions(report.policy)
    faults = _unknown_policy(report.policy, named, place)
    faults += _unknown(
        "standard", report.standard, named, lambda v: v.standards, (*place, "standard")
    )
    if not faults and report.criterion is not None:
        faults += _unknown(
            "criterion",
            report.criterion,
            named,
            lambda v: _criteria(v, report.standard),
            (*place, "criterion"),
        )
    return faults


def unknown_in_sign_off(sign_off: SignOff, versions: VersionsOf, place: Place = ()) -> list[Fault]:
    """Unknown policy, action or role."""
    named = versions(sign_off.policy)
    return [
        *_unknown_policy(sign_off.policy, named, place),
        *_unknown("action", sign_off.action, named, lambda v: v.actions, (*place, "action")),
        *_unknown("role", sign_off.role, named, lambda v: v.roles, (*place, "role")),
    ]


def unknown_in_order(order: Order, versions: VersionsOf, actions: Collection[str]) -> list[Fault]:
    """Unknown actions, policy or standards; an order names the last two only where it requires."""
    misspelt = [
        Fault(
            pointer("actions", i),
            "unknown-action",
            f"no policy version that is or was in force names an action `{action}`",
        )
        for i, action in enumerate(order.actions or ())
        if action not in actions
    ]
    if order.policy is None:
        return misspelt
    named = versions(order.policy)
    faults = [*misspelt, *_unknown_policy(order.policy, named, ())]
    for i, standard in enumerate(order.standards):
        faults += _unknown("standard", standard, named, lambda v: v.standards, ("standards", i))
    return faults


def unknown_in_exception(
    request: ExceptionRequest, versions: VersionsOf, begins: datetime
) -> list[Fault]:
    """Unknown policy, action or standard; an exception that none of the versions permits there, and
    one that lasts longer than those that do allow.
    """
    named = versions(request.policy)
    faults = [
        *_unknown_policy(request.policy, named, ()),
        *_unknown("action", request.action, named, lambda v: v.actions, ("action",)),
        *_unknown("standard", request.standard, named, lambda v: v.standards, ("standard",)),
    ]
    if faults:
        return faults
    permitted = [p for v in named if (p := permitted_by(v, request)) is not None]
    if not permitted:
        message = (
            f"`{request.policy}` permits no `{request.exception}` instead of "
            f"`{request.standard}` for `{request.action}`"
        )
        return [Fault(pointer("exception"), "not-permitted", message)]
    longest = [one.at_most for one in permitted if one.at_most is not None]
    if len(longest) == len(permitted):
        if all(request.valid_until > most.after(begins) for most in longest):
            message = f"lies more than {' or '.join(sorted(set(longest)))} after `valid_from`"
            return [Fault(pointer("valid_until"), "too-long", message)]
    return []


def permitted_by(
    version: PolicyVersion, request: ExceptionRequest
) -> InterimMeasures | PermittedException | None:
    """The words of the version that permit that exception for that standard and action, if any."""
    if request.exception == INTERIM_MEASURES:
        standard = version.standards.get(request.standard)
        return None if standard is None else standard.interim_measures
    permitted = (version.exceptions or {}).get(request.exception)
    if permitted is None or request.standard not in permitted.stands_for:
        return None
    if permitted.actions is not None and request.action not in permitted.actions:
        return None
    return permitted


def _unknown_policy(policy: str, named: Sequence[PolicyVersion], place: Place) -> list[Fault]:
    if named:
        return []
    message = f"no version of policy `{policy}` is recorded"
    return [Fault(pointer(*place, "policy"), "unknown-policy", message)]


def _unknown(
    kind: str,
    name: str,
    named: Sequence[PolicyVersion],
    names: Callable[[PolicyVersion], Iterable[str]],
    place: Place,
) -> list[Fault]:
    """A fault unless some version names it; none without any version, which is a fault itself."""
    if not named or any(name in names(version) for version in named):
        return []
    labels = " or ".join(sorted({f"`{version.policy}` {version.version}" for version in named}))
    return [Fault(pointer(*place), f"unknown-{kind}", f"{labels} names no {kind} `{name}`")]


def _criteria(version: PolicyVersion, standard: str) -> Iterable[str]:
    known = version.standards.get(standard)
    if known is None or known.criteria is None:
        return
    for criterion, content in known.criteria.items():
        yield criterion
        for part in content.parts or ():
            yield f"{criterion}/{part}"


def disagreements(model: ModelVersion, others: Iterable[ModelVersion]) -> list[Fault]:
    """Where *model* says of its weights what another model version with the same ones does not:
    they would share their assessments, and not the policies that speak of them.
    """
    faults = {}
    for other in others:
        said: list[tuple[str, object, object]] = [
            ("developer", model.developer, other.developer),
            ("training_compute_flop", model.training_compute_flop, other.training_compute_flop),
        ]
        if _digests_disagree(model, other):
            said.append(("digest", model.digest, other.digest))
        facts = sorted(set(model.facts) | set(other.facts))
        said += [(f"facts/{name}", model.facts.get(name), other.facts.get(name)) for name in facts]
        for place, mine, theirs in said:
            if mine != theirs:
                message = f"`{other.model}` has the same weights and says otherwise"
                faults[place] = Fault("/" + place, "weights-disagree", message)
    return list(faults.values())


def _digests_disagree(one: ModelVersion, other: ModelVersion) -> bool:
    """Whether both say what their weights' bytes are. What serves them may differ, and of a digest
    whose kind is not given it is supposed that it may not.
    """
    return (
        one.digest is not None
        and other.digest is not None
        and one.digest_kind == other.digest_kind
        and one.digest_kind in (None, "file", "oms")
    )
