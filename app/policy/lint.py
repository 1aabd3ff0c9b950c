"""What a policy version must satisfy beyond its shape, so that the laws hold for it.

A document is data, so all of this is checked completely, once, when it is published: every
reference is to something that the version defines, no condition can break a law, no list is empty,
nothing that a text leaves silent is guessed.
"""

from collections.abc import Iterable, Iterator

from app.decoding import pointer
from app.errors import Fault
from app.policy.conditions import (
    AssessedWithin,
    AtLeast,
    ComputeRatio,
    Condition,
    Elapsed,
    FindingIs,
    LineIn,
    ModelFact,
    Not,
    Polarity,
    ReassessmentNotDue,
    SignedOff,
    ThresholdRuledOut,
    children,
    polarity,
    walk,
)
from app.policy.version import Bound, EvaluationLine, PolicyVersion, Requirement, Standard
from app.vocabulary import TWO_SIDED_Z

Path = tuple[str | int, ...]


def lint(version: PolicyVersion) -> list[Fault]:
    """Every fault of *version*; an empty list for one that may be published."""
    return [
        Fault(pointer(*path), code, message)
        for check in (
            _numbers,
            _levels,
            _standards,
            _requirements,
            _lines,
            _thresholds,
            _reassess,
            _actions,
        )
        for path, code, message in check(version)
    ]


Found = Iterator[tuple[Path, str, str]]
_UNKNOWN = "unknown-reference"


def _known(path: Path, kind: str, names: Iterable[str], known: Iterable[str]) -> Found:
    known = set(known)
    for name in names:
        if name not in known:
            yield path, _UNKNOWN, f"no {kind} `{name}` is defined in this version"


def _numbers(version: PolicyVersion) -> Found:
    if version.confidence not in TWO_SIDED_Z:
        allowed = ", ".join(f"`{c}`" for c in sorted(TWO_SIDED_Z))
        yield ("confidence",), "unsupported-confidence", f"must be one of {allowed}"


def _levels(version: PolicyVersion) -> Found:
    levels = version.levels or ()
    if len(set(levels)) != len(levels):
        yield ("levels",), "repeated", "names a level twice"
    for name, standard in version.standards.items():
        if standard.level is not None:
            yield from _known(("standards", name, "level"), "level", [standard.level], levels)


def _standards(version: PolicyVersion) -> Found:
    for name, standard in version.standards.items():
        path: Path = ("standards", name)
        yield from _content_of(standard, path)
        roles = version.roles
        yield from _known((*path, "attested_by"), "role", standard.attested_by, roles)
        yield from _known((*path, "subsumes"), "standard", standard.subsumes, version.standards)
        if name in _below(version, name):
            yield (*path, "subsumes"), "circle", "a standard cannot subsume itself, even by others"
        if (interim := standard.interim_measures) is not None:
            where = (*path, "interim_measures")
            yield from _known((*where, "approved_by"), "role", interim.approved_by, roles)
            yield from _known((*where, "told"), "role", interim.told, roles)
        for i, consequence in enumerate(standard.on_shortfall):
            where = (*path, "on_shortfall", i, "actions")
            yield from _known(where, "action", consequence.actions, version.actions)


def _content_of(standard: Standard, path: Path) -> Found:
    if standard.undefined and standard.criteria:
        yield path, "contradiction", "is marked undefined and yet lists criteria"
    if standard.undefined and not standard.attested_by:
        why = "is undefined, so say in `attested_by` whose judgement can meet it"
        yield path, "no-judge", why
    if not standard.undefined and not standard.criteria:
        why = "lists no criteria; mark it `undefined: true` if no text defines it"
        yield path, "no-criteria", why
    if not standard.undefined and standard.attested_by:
        yield (*path, "attested_by"), "no-effect", "has an effect on an undefined standard only"


def _below(version: PolicyVersion, name: str) -> set[str]:
    """Every standard that *name* subsumes, also through others."""
    below: set[str] = set()
    left = list(version.standards[name].subsumes)
    while left:
        weaker = left.pop()
        if weaker not in below:
            below.add(weaker)
            left.extend(version.standards[weaker].subsumes if weaker in version.standards else ())
    return below


def _requirements(version: PolicyVersion) -> Found:
    def check(path: Path, requires: Iterable[Requirement]) -> Found:
        for i, requirement in enumerate(requires):
            where = (*path, "requires", i)
            named = [requirement.standard]
            yield from _known((*where, "standard"), "standard", named, version.standards)
            yield from _known((*where, "before"), "action", requirement.before, version.actions)

    if version.baseline is not None:
        yield from check(("baseline",), version.baseline.requires)
    for name, threshold in version.thresholds.items():
        yield from check(("thresholds", name), threshold.requires)


def _lines(version: PolicyVersion) -> Found:
    for name, line in version.lines.items():
        path: Path = ("lines", name)
        safe_side_is_upper = line.riskier == "lower"
        for zone, bound, wanted_upper in (
            ("rule_out", line.rule_out, not safe_side_is_upper),
            ("rule_in", line.rule_in, safe_side_is_upper),
        ):
            if bound is not None and bound.upper is not wanted_upper:
                side = "below or at_most" if wanted_upper else "above or at_least"
                why = f"must be {side}, since {line.riskier} values are riskier"
                yield (*path, zone), "impossible-bound", why
        if _overlap(line):
            yield path, "overlap", "`rule_out` and `rule_in` overlap"


def _overlap(line: EvaluationLine) -> bool:
    out, in_ = line.rule_out, line.rule_in
    if out is None or in_ is None or out.upper is in_.upper:
        return False
    lower, upper = (in_, out) if out.upper else (out, in_)
    if lower.number == upper.number:
        return _closed(lower) and _closed(upper)
    return lower.number < upper.number


def _closed(bound: Bound) -> bool:
    return bound.at_most is not None or bound.at_least is not None


def _thresholds(version: PolicyVersion) -> Found:
    for name, threshold in version.thresholds.items():
        path: Path = ("thresholds", name)
        domains = [threshold.domain]
        yield from _known((*path, "domain"), "domain", domains, version.domains)
        yield from _known((*path, "evidence"), "line", threshold.evidence, version.lines)
        for i, obligation in enumerate(threshold.obligations):
            by = [obligation.by] if obligation.by else []
            yield from _known((*path, "obligations", i, "by"), "role", by, version.roles)
        against = Polarity.COUNTS_AGAINST
        yield from _condition(version, threshold.reached, (*path, "reached"), against)
        yield from _condition(version, threshold.ruled_out, (*path, "ruled_out"), Polarity.PERMITS)
        both = _leaves(threshold.reached) & _leaves(threshold.ruled_out)
        if both:
            yield (*path, "ruled_out"), "overlap", "shares a condition with `reached`"
        if name in _ruled_out_by(version, name):
            why = "rests on itself: a threshold cannot be ruled out by its own ruling out"
            yield (*path, "ruled_out"), "circle", why


def _leaves(condition: Condition) -> set[str]:
    return {c.model_dump_json() for _, c in walk(condition) if not children(c)}


def _ruled_out_by(version: PolicyVersion, name: str) -> set[str]:
    """Every threshold whose ruling out can rule *name* out, also through others."""
    seen: set[str] = set()
    left = [name]
    while left:
        threshold = version.thresholds.get(left.pop())
        if threshold is None:
            continue
        for _, leaf in walk(threshold.ruled_out):
            if isinstance(leaf, ThresholdRuledOut) and leaf.threshold_ruled_out not in seen:
                seen.add(leaf.threshold_ruled_out)
                left.append(leaf.threshold_ruled_out)
    return seen


def _reassess(version: PolicyVersion) -> Found:
    if version.reassess is not None:
        path = ("reassess", "when")
        yield from _condition(version, version.reassess.when, path, Polarity.COUNTS_AGAINST)


def _condition(version: PolicyVersion, tree: Condition, path: Path, towards: Polarity) -> Found:
    """References, possible bounds, and the one polarity that every leaf must have here."""
    in_reassess = path[0] == "reassess"
    under_not: set[Path] = set()
    for below, node in walk(tree):
        where = path + below
        match node:
            case AtLeast():
                count = node.at_least_k
                if not 1 <= count.k <= len(count.of):
                    why = f"k must lie between 1 and the {len(count.of)} conditions listed"
                    yield (*where, "at_least_k", "k"), "impossible-bound", why
            case Not():
                under_not.add(where)
            case FindingIs():
                yield from _known((*where, "by"), "role", node.by, version.roles)
                if in_reassess:
                    why = "a finding is about a threshold, and `reassess` has none"
                    yield where, "misplaced", why
                elif node.finding.value not in ("reached", "ruled-out"):
                    why = "a condition asks for `reached` or `ruled-out`"
                    yield (*where, "finding"), "misplaced", why
            case LineIn():
                yield from _known((*where, "line"), "line", [node.line], version.lines)
                line = version.lines.get(node.line)
                if line is not None and getattr(line, node.zone) is None:
                    why = f"line `{node.line}` has no `{node.zone}` zone, so this can never hold"
                    yield (*where, "zone"), "unreachable", why
                if node.zone == "rule_in" and node.max_age is not None:
                    why = "what counts against release does not lapse"
                    yield (*where, "max_age"), "breaks-a-law", why
            case ThresholdRuledOut():
                names = [node.threshold_ruled_out]
                key = "threshold_ruled_out"
                yield from _known((*where, key), "threshold", names, version.thresholds)
            case ReassessmentNotDue():
                if version.reassess is None:
                    why = "this version has no `reassess` section"
                    yield (*where, "reassessment"), _UNKNOWN, why
            case SignedOff():
                yield from _known((*where, "by"), "role", [node.by], version.roles)
            case AssessedWithin() | Elapsed() | ComputeRatio() | ModelFact():
                pass
            case _:
                pass
        if children(node):
            continue
        leans = polarity(node)  # type: ignore[arg-type]
        inside_not = any(where[: len(outer)] == outer for outer in under_not)
        if inside_not and leans is not None:
            why = "only facts about the model may stand under `not`: evidence there breaks a law"
            yield where, "breaks-a-law", why
        elif leans is not None and leans is not towards:
            yield where, "breaks-a-law", _WRONG_WAY[towards]


_WRONG_WAY = {
    Polarity.PERMITS: "counts against release, and stands where only what permits may stand",
    Polarity.COUNTS_AGAINST: "permits, and stands where only what counts against may stand",
}


def _actions(version: PolicyVersion) -> Found:
    for name, action in version.actions.items():
        for i, sign_off in enumerate(action.sign_offs):
            path: Path = ("actions", name, "sign_offs", i)
            yield from _known((*path, "role"), "role", [sign_off.role], version.roles)
            if sign_off.verb.value == "reassess":
                yield (*path, "verb"), "misplaced", "`reassess` permits nothing"
        for i, obligation in enumerate(action.obligations):
            by = [obligation.by] if obligation.by else []
            where = ("actions", name, "obligations", i, "by")
            yield from _known(where, "role", by, version.roles)
