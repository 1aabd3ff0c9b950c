"""Everything that a piece of evidence names must be named by the policy: what nobody defines would
be recorded and have no effect, and a misspelt finding against release would be lost in silence.

Each function gives every unknown name at once, with its pointer below *place*.
"""

from collections.abc import Callable, Iterable, Sequence

from app.assessment.assessment import Assessment
from app.assessment.safeguards import SafeguardReport
from app.assessment.sign_offs import SignOff
from app.decoding import pointer
from app.errors import Fault
from app.policy.version import PolicyVersion

Place = tuple[str | int, ...]
VersionsOf = Callable[[str], Sequence[PolicyVersion]]
"""The versions of a policy that may name what the evidence names; none: the policy is unknown."""


def unknown_in_assessment(
    assessment: Assessment, versions: VersionsOf, lines: Iterable[str], place: Place = ()
) -> list[Fault]:
    """Unknown lines, policies, thresholds and roles."""
    known = set(lines)
    faults = [
        Fault(
            pointer(*place, "results", i, "line"),
            "unknown-line",
            f"no policy version in question has a line `{result.line}`",
        )
        for i, result in enumerate(assessment.results)
        if result.line not in known
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
