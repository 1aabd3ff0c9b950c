"""What a policy version must satisfy beyond its shape, so that the laws hold for it.

A document is data, so all of this is checked completely, once, when it is published: every
reference is to something that the version defines, no condition can break a law, no list is empty,
nothing that a text leaves silent is guessed.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Final

from app.decoding import pointer
from app.errors import Fault
from app.policy.conditions import (
    AllOf,
    AnyOf,
    AssessedWithin,
    AtLeast,
    BoundedBy,
    CarriedOver,
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
from app.policy.version import (
    Bound,
    EvaluationLine,
    Obligation,
    PolicyVersion,
    Requirement,
    Standard,
    Threshold,
)
from app.vocabulary import TWO_SIDED_Z, Duration, Outcome, Verb, attested_name

Path = tuple[str | int, ...]


def lint(version: PolicyVersion) -> list[Fault]:
    """Every fault of *version*; an empty list for one that may be published."""
    return [
        Fault(pointer(*path), code, message)
        for check in (
            _head,
            _scope,
            _levels,
            _standards,
            _requirements,
            _exceptions,
            _lines,
            _thresholds,
            _reassess,
            _actions,
        )
        for path, code, message in check(version)
    ]


Found = Iterator[tuple[Path, str, str]]
_UNKNOWN: Final = "unknown-reference"
_INTERIM: Final = "interim-measures"
_BUILT_IN: Final = "training_compute_flop"
_LARGEST_CONDITION: Final = 256
_LONGEST_CHAIN: Final = 16
"""How many standards may stand for one another in a row, and thresholds rule each other out."""


def _known(path: Path, kind: str, names: Iterable[str], known: Iterable[str]) -> Found:
    known = set(known)
    for name in names:
        if name not in known:
            yield path, _UNKNOWN, f"no {kind} `{name}` is defined in this version"


def _once(path: Path, kind: str, names: Sequence[str]) -> Found:
    for name, count in Counter(names).items():
        if count > 1:
            yield path, "repeated", f"names the {kind} `{name}` more than once"


def _apart(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each of *names* that an attestation could not tell from one before it, and why."""
    called: dict[str, str] = {}
    for name in names:
        first = called.setdefault(attested_name(name), name)
        if first != name:
            yield name, f"is `{attested_name(name)}` in an attestation, and so is `{first}`"


def _roles(version: PolicyVersion, path: Path, names: Sequence[str]) -> Found:
    yield from _known(path, "role", names, version.roles)
    yield from _once(path, "role", names)


def _order(edges: Mapping[str, Sequence[str]]) -> tuple[set[str], set[str]]:
    """The names that lead to themselves, and those from which too many steps lead down.

    A name that leads to a circle is only in the first set, or in neither.
    """
    reached = {name: _reach(name, edges) for name in edges}
    circular = {name for name, below in reached.items() if name in below}
    depths: dict[str, int] = {}
    # Whoever reaches fewer stands lower, so the depths below are always there already.
    for name in sorted(edges, key=lambda one: len(reached[one])):
        if not circular & ({name} | reached[name]):
            depths[name] = 1 + max((depths.get(weaker, 0) for weaker in edges[name]), default=-1)
    return circular, {name for name, depth in depths.items() if depth > _LONGEST_CHAIN}


def _reach(name: str, edges: Mapping[str, Sequence[str]]) -> set[str]:
    reached: set[str] = set()
    left = [name]
    while left:
        for below in edges.get(left.pop(), ()):
            if below not in reached:
                reached.add(below)
                left.append(below)
    return reached


def _head(version: PolicyVersion) -> Found:
    if version.supersedes == version.version:
        yield ("supersedes",), "circle", "a version cannot supersede itself"
    if version.confidence not in TWO_SIDED_Z:
        allowed = ", ".join(f"`{c}`" for c in sorted(TWO_SIDED_Z))
        yield ("confidence",), "unsupported-confidence", f"must be one of {allowed}"


def _scope(version: PolicyVersion) -> Found:
    scope = version.applies_to
    where: Path = ("applies_to",)
    yield from _once((*where, "developer"), "developer", scope.developer or ())
    yield from _known((*where, "actions"), "action", scope.actions or (), version.actions)
    yield from _once((*where, "actions"), "action", scope.actions or ())
    if scope.actions is not None:
        for name in version.actions:
            if name not in scope.actions:
                why = "lies outside `applies_to`, so nobody can ask for it"
                yield ("actions", name), "unreachable", why
    if scope.when is not None:
        yield from _condition(version, scope.when, (*where, "when"), None)
        if _size(scope.when) > _LARGEST_CONDITION:
            why = f"the condition has more than {_LARGEST_CONDITION} parts"
            yield (*where, "when"), "too-large", why
    if version.facts is not None and _BUILT_IN in version.facts:
        yield ("facts", _BUILT_IN), "repeated", "is on record for every model already"


def _levels(version: PolicyVersion) -> Found:
    levels = version.levels or ()
    yield from _once(("levels",), "level", levels)
    for level, why in _apart(levels):
        yield ("levels",), "ambiguous", f"`{level}` {why}"
    if version.baseline is not None and version.baseline.level is not None:
        yield from _known(("baseline", "level"), "level", [version.baseline.level], levels)
    for name, threshold in version.thresholds.items():
        if threshold.level is not None:
            yield from _known(("thresholds", name, "level"), "level", [threshold.level], levels)
    for name, standard in version.standards.items():
        if standard.level is not None:
            yield from _known(("standards", name, "level"), "level", [standard.level], levels)


def _standards(version: PolicyVersion) -> Found:
    circular, too_deep = _order({n: s.subsumes for n, s in version.standards.items()})
    for name in circular:
        why = "a standard cannot subsume itself, even by others"
        yield ("standards", name, "subsumes"), "circle", why
    for name in too_deep:
        why = f"more than {_LONGEST_CHAIN} standards stand for one another in a row"
        yield ("standards", name, "subsumes"), "too-deep", why
    for name, standard in version.standards.items():
        path: Path = ("standards", name)
        yield from _content_of(standard, path)
        yield from _roles(version, (*path, "attested_by"), standard.attested_by)
        yield from _subsumed(version, name, (*path, "subsumes"))
        if (interim := standard.interim_measures) is not None:
            where = (*path, "interim_measures")
            yield from _roles(version, (*where, "approved_by"), interim.approved_by)
            yield from _roles(version, (*where, "told"), interim.told)
        for i, consequence in enumerate(standard.on_shortfall):
            where = (*path, "on_shortfall", i, "actions")
            yield from _known(where, "action", consequence.actions, version.actions)
            yield from _once(where, "action", consequence.actions)


def _subsumed(version: PolicyVersion, name: str, path: Path) -> Found:
    standards, levels = version.standards, version.levels or ()
    standard = standards[name]
    yield from _known(path, "standard", standard.subsumes, standards)
    yield from _once(path, "standard", standard.subsumes)
    for weaker in standard.subsumes:
        both = [standard.level, standards[weaker].level if weaker in standards else None]
        ranks = [levels.index(level) for level in both if level in levels]
        if len(ranks) == 2 and ranks[0] < ranks[1]:
            why = f"`{weaker}` is of a higher level, so this cannot stand for it"
            yield path, "contradiction", why


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


def _requirements(version: PolicyVersion) -> Found:
    def check(path: Path, requires: Iterable[Requirement], key: str = "requires") -> Found:
        for i, requirement in enumerate(requires):
            where = (*path, key, i)
            named = [requirement.standard]
            yield from _known((*where, "standard"), "standard", named, version.standards)
            yield from _known((*where, "before"), "action", requirement.before, version.actions)
            yield from _once((*where, "before"), "action", requirement.before)

    if version.baseline is not None:
        yield from check(("baseline",), version.baseline.requires)
    for name, threshold in version.thresholds.items():
        yield from check(("thresholds", name), threshold.requires)
        yield from check(("thresholds", name), threshold.recommends, "recommends")


def _exceptions(version: PolicyVersion) -> Found:
    for name, exception in (version.exceptions or {}).items():
        path: Path = ("exceptions", name)
        if name == _INTERIM:
            why = "is the name of what a standard permits itself, in its `interim_measures`"
            yield path, "ambiguous", why
        stands_for = exception.stands_for
        yield from _known((*path, "stands_for"), "standard", stands_for, version.standards)
        yield from _once((*path, "stands_for"), "standard", stands_for)
        yield from _roles(version, (*path, "approved_by"), exception.approved_by)
        actions = exception.actions or ()
        yield from _known((*path, "actions"), "action", actions, version.actions)
        yield from _once((*path, "actions"), "action", actions)


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
    circular, too_deep = _order(
        {name: _names_ruled_out(threshold) for name, threshold in version.thresholds.items()}
    )
    for name in circular:
        why = "rests on itself: a threshold cannot be ruled out by its own ruling out"
        yield ("thresholds", name, "ruled_out"), "circle", why
    for name in too_deep:
        why = f"more than {_LONGEST_CHAIN} thresholds rule each other out in a row"
        yield ("thresholds", name, "ruled_out"), "too-deep", why
    for name, threshold in version.thresholds.items():
        path: Path = ("thresholds", name)
        domains = [threshold.domain]
        yield from _known((*path, "domain"), "domain", domains, version.domains)
        if name in version.domains and not _has_threshold(version, name):
            yield path, "ambiguous", "is the name of a domain that has no threshold of its own"
        yield from _known((*path, "evidence"), "line", threshold.evidence, version.lines)
        yield from _once((*path, "evidence"), "line", threshold.evidence)
        yield from _obligations(version, path, threshold.obligations)
        yield from _effects(version, path, threshold)
        against = Polarity.COUNTS_AGAINST
        yield from _condition(version, threshold.reached, (*path, "reached"), against)
        yield from _condition(version, threshold.ruled_out, (*path, "ruled_out"), Polarity.PERMITS)
        if any(
            _size(tree) > _LARGEST_CONDITION for tree in (threshold.reached, threshold.ruled_out)
        ):
            yield path, "too-large", f"a condition has more than {_LARGEST_CONDITION} parts"
        facts = any(isinstance(node, ModelFact) for _, node in walk(threshold.reached))
        if facts and threshold.not_ruled_out.means == "does-not-bind":
            why = "rests on a fact, and one that is not on record would undo what people found"
            yield (*path, "reached"), "breaks-a-law", why
        if not _asks_for_evidence(threshold.ruled_out):
            why = (
                "can hold without a finding by named roles or a result: nothing but evidence on "
                "the threshold may rule it out"
            )
            yield (*path, "ruled_out"), "no-evidence", why


def _effects(version: PolicyVersion, path: Path, threshold: Threshold) -> Found:
    named = [
        *((("prohibits", i), one.actions) for i, one in enumerate(threshold.prohibits)),
        *((("limits", i), one.actions) for i, one in enumerate(threshold.limits)),
    ]
    for place, actions in named:
        where = (*path, *place, "actions")
        yield from _known(where, "action", actions, version.actions)
        yield from _once(where, "action", actions)
    yield from _once((*path, "limits"), "limitation", [one.id for one in threshold.limits])


def _asks_for_evidence(tree: Condition) -> bool:
    """Whether the tree can hold only with a finding by named roles, or a result."""
    match tree:
        case FindingIs():
            return bool(tree.by)
        case LineIn() | ThresholdRuledOut() | BoundedBy() | CarriedOver():
            return True
        case AllOf():
            return any(map(_asks_for_evidence, tree.all))
        case AnyOf():
            return all(map(_asks_for_evidence, tree.any))
        case AtLeast():
            asking = sum(map(_asks_for_evidence, tree.at_least_k.of))
            return len(tree.at_least_k.of) - asking < tree.at_least_k.k
        case _:
            return False


def _has_threshold(version: PolicyVersion, domain: str) -> bool:
    return any(threshold.domain == domain for threshold in version.thresholds.values())


def _size(condition: Condition) -> int:
    return sum(1 for _ in walk(condition))


def _names_ruled_out(threshold: Threshold) -> list[str]:
    """The thresholds whose ruling out can rule this one out directly."""
    leaves = walk(threshold.ruled_out)
    return [leaf.threshold_ruled_out for _, leaf in leaves if isinstance(leaf, ThresholdRuledOut)]


def _obligations(version: PolicyVersion, path: Path, obligations: Sequence[Obligation]) -> Found:
    yield from _once((*path, "obligations"), "obligation", [one.id for one in obligations])
    for i, obligation in enumerate(obligations):
        by = [obligation.by] if obligation.by else []
        where = (*path, "obligations", i)
        yield from _known((*where, "by"), "role", by, version.roles)
        since, due = obligation.since_assessment, obligation.due
        anew = obligation.binding and due == "before"
        if since is not None and not isinstance(due, Duration) and not anew:
            why = "starts a clock that has no length: give `due` a duration"
            yield (*where, "since_assessment"), "no-effect", why
        if obligation.binding and not anew and (since is None or due is None):
            why = (
                "cannot be binding: its due would move along with every question; make it due "
                "`before` the action, or give it a duration since an assessment"
            )
            yield (*where, "binding"), "breaks-a-law", why


def _reassess(version: PolicyVersion) -> Found:
    if version.reassess is not None:
        path = ("reassess", "when")
        yield from _condition(version, version.reassess.when, path, Polarity.COUNTS_AGAINST)


def _condition(
    version: PolicyVersion, tree: Condition, path: Path, towards: Polarity | None
) -> Found:
    """References, possible bounds, and the one polarity that every leaf must have here; `None`
    where only facts may stand.
    """
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
                yield from _roles(version, (*where, "by"), node.by)
                if in_reassess:
                    why = "a finding is about a threshold, and `reassess` has none"
                    yield where, "misplaced", why
                elif node.finding.value not in ("reached", "ruled-out"):
                    why = "a condition asks for `reached` or `ruled-out`"
                    yield (*where, "finding"), "misplaced", why
                elif node.finding is Outcome.REACHED:
                    for key in ("in_assessment", "max_age"):
                        if getattr(node, key) is not None:
                            why = "what counts against release counts however and whenever found"
                            yield (*where, key), "breaks-a-law", why
            case LineIn():
                yield from _known((*where, "line"), "line", [node.line], version.lines)
                line = version.lines.get(node.line)
                if line is not None and line.status == "withdrawn":
                    why = f"line `{node.line}` is withdrawn, so nothing may rest on it"
                    yield (*where, "line"), "withdrawn", why
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
                if node.sign_off is Verb.REVERSED:
                    why = "a reversal counts by `may_reverse`, and takes back what its role signed"
                    yield (*where, "sign_off"), "misplaced", why
                if node.since_assessment is not None and node.sign_off is not Verb.REASSESS:
                    why = (
                        "a newer assessment may not take away what permits; only `reassess` has it"
                    )
                    yield (*where, "since_assessment"), "breaks-a-law", why
            case ComputeRatio():
                yield from _positive((*where, "compute_ratio"), node.compute_ratio.at_least)
            case BoundedBy():
                yield from _roles(version, (*where, "bounded_by", "by"), node.bounded_by.by)
            case CarriedOver():
                yield from _roles(version, (*where, "carried_over", "by"), node.carried_over.by)
            case ModelFact():
                facts = {_BUILT_IN, *(version.facts or ())}
                yield from _known((*where, "fact"), "fact", [node.fact], facts)
                if node.fact == _BUILT_IN:
                    for key in ("at_least", "above", "below", "at_most"):
                        yield from _positive(where, getattr(node, key), key)
            case AssessedWithin() | Elapsed():
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
        elif leans is not None and towards is None:
            yield where, "misplaced", "only facts about the model settle whom the policy speaks of"
        elif leans is not None and towards is not None and leans is not towards:
            yield where, "breaks-a-law", _WRONG_WAY[towards]


def _positive(path: Path, number: Decimal | None, key: str = "at_least") -> Found:
    if number is not None and number <= 0:
        yield (*path, key), "impossible-bound", "must be more than 0"


def _precedes(version: PolicyVersion, action: str) -> bool:
    """Whether anything but a sign-off can stand before the action."""
    if "reassessment-not-due" in version.actions[action].needs:
        return True
    for threshold in version.thresholds.values():
        binds = threshold.not_ruled_out.means == "binds"
        if binds and any(action in one.actions for one in threshold.prohibits):
            return True
    requirements = list(version.baseline.requires) if version.baseline is not None else []
    for threshold in version.thresholds.values():
        requirements += threshold.requires
    return any(action in requirement.before for requirement in requirements)


_WRONG_WAY = {
    Polarity.PERMITS: "counts against release, and stands where only what permits may stand",
    Polarity.COUNTS_AGAINST: "permits, and stands where only what counts against may stand",
}


def _actions(version: PolicyVersion) -> Found:
    for name, why in _apart(version.actions):
        yield ("actions", name), "ambiguous", why
    for name, action in version.actions.items():
        where: Path = ("actions", name)
        if not action.sign_offs and not _precedes(version, name):
            why = "nothing must precede it: it would be allowed whatever is found"
            yield where, "vacuous", why
        needs = action.needs
        yield from _once((*where, "needs"), "need", needs)
        if "reassessment-not-due" in needs and version.reassess is None:
            why = "this version has no `reassess` section"
            yield (*where, "needs"), _UNKNOWN, why
        for i, reversal in enumerate(action.may_reverse):
            place = (*where, "may_reverse", i, "role")
            yield from _known(place, "role", [reversal.role], version.roles)
        reversing = [one.role for one in action.may_reverse]
        yield from _once((*where, "may_reverse"), "role", reversing)
        signed = [f"{one.verb.value} by {one.role}" for one in action.sign_offs]
        yield from _once((*where, "sign_offs"), "sign-off", signed)
        yield from _obligations(version, where, action.obligations)
        for i, sign_off in enumerate(action.sign_offs):
            path: Path = ("actions", name, "sign_offs", i)
            yield from _known((*path, "role"), "role", [sign_off.role], version.roles)
            if sign_off.verb in (Verb.REASSESS, Verb.REVERSED):
                yield (*path, "verb"), "misplaced", f"`{sign_off.verb.value}` permits nothing"
