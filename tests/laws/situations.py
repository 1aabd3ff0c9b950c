"""Random valid policy versions, evidence on a model and on those that it leans on, and questions:
what the laws are tested on.

Times lie on a coarse grid, so that ties, boundaries and starts that are still to come are frequent.
Most of the evidence permits, so that the gate is often open: a law that says "never more
permissive" is empty where everything is denied (`test_the_gate_is_often_open` watches this).
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from app.assessment.assessment import Assessment, Finding, ModelVersion, Result
from app.assessment.evidence import Evidence, OtherModel, Recorded
from app.assessment.exceptions import (
    INTERIM_MEASURES,
    Approved,
    ExceptionOnRecord,
    GivenApproval,
    RequestedException,
)
from app.assessment.fulfilments import GivenFulfilment
from app.assessment.orders import Lifted, Lifting, Order, OrderOnRecord
from app.assessment.safeguards import SafeguardReport
from app.assessment.sign_offs import SignOff
from app.canonical import canonical_json, digest
from app.determination.decide import Question, decide
from app.determination.obligations import (
    obligation_id,
    obligations_of,
    starts_binding_clock,
)
from app.determination.obligations import place_of as asked_at
from app.determination.record import Determination
from app.parsing import parse
from app.policy.conditions import BoundedBy, CarriedOver, walk
from app.policy.language import policy_digest, read_policy
from app.policy.lint import lint
from app.policy.timeline import PolicyInForce
from app.policy.version import PolicyVersion
from app.vocabulary import EARLIEST, JSON, TEXT, Outcome, Verb, write_instant

Json = dict[str, Any]
Draw = Callable[[st.SearchStrategy[Any]], Any]
T = TypeVar("T")

START = datetime(2025, 1, 1, tzinfo=UTC)
STEP = timedelta(days=10)
LAST = 12
"""The last step of the grid at which evidence may begin."""

MODEL = "m@1"
OTHERS = ("big@1", "old@1")
"""The model versions that findings may lean on, also those on one another."""

POLICY = "p"
ROLES = ("ceo", "rso", "board")
ACTIONS = ("train", "deploy")
# Weakest first, and not in the order of the alphabet, in which recorded bytes have them.
STANDARDS = ("s3", "s1", "s4", "s2")
THRESHOLDS = ("T2", "T1", "T3")

EXAMPLES = int(os.environ.get("ASLGATE_EXAMPLES", "300"))

law = settings(
    max_examples=EXAMPLES,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
"""On how many examples a law is tried (`make laws` tries many more); what breaks one is printed with the
seed to repeat it.
"""

VERSION = TypeAdapter(PolicyVersion)
A_MODEL = TypeAdapter(ModelVersion)
AN_ASSESSMENT = TypeAdapter(Assessment)
A_REPORT = TypeAdapter(SafeguardReport)
A_SIGN_OFF = TypeAdapter(SignOff)
AN_EXCEPTION = TypeAdapter(RequestedException)
AN_APPROVAL = TypeAdapter(GivenApproval)
AN_ORDER = TypeAdapter(Order)
A_LIFTING = TypeAdapter(Lifting)
A_FULFILMENT = TypeAdapter(GivenFulfilment)


def instant(step: float) -> datetime:
    """The instant at that step of the grid."""
    return START + step * STEP


def _time(step: float) -> str:
    return write_instant(instant(step))


@dataclass(frozen=True, slots=True)
class Situation:
    """All that `decide` is given."""

    policy: PolicyInForce
    model: ModelVersion
    evidence: Evidence
    question: Question

    @property
    def version(self) -> PolicyVersion:
        return self.policy.version

    @property
    def at(self) -> datetime:
        return self.question.at

    def decide(self, evidence: Evidence | None = None, at: datetime | None = None) -> Determination:
        """The answer; with other evidence, or at another instant."""
        question = self.question if at is None else replace(self.question, at=at)
        return decide(
            question, self.policy, self.model, self.evidence if evidence is None else evidence
        )


# --- policies ----------------------------------------------------------------------------------

_DURATIONS = ("P10D", "P20D", "P40D", "P60D", "P1M")
_ALL_ACTIONS = ([ACTIONS[0]], [ACTIONS[1]], list(ACTIONS))


def one_of(draw: Draw, choices: Sequence[T]) -> T:
    """One of *choices*; a counterexample shrinks towards the first."""
    chosen: T = choices[draw(st.integers(0, len(choices) - 1))]
    return chosen


def likely(draw: Draw, out_of: int) -> bool:
    """True but for one time in *out_of*."""
    return bool(draw(st.integers(0, out_of - 1)) < out_of - 1)


def _some(draw: Draw, choices: Sequence[T], least: int = 0) -> list[T]:
    mask = draw(st.integers(0, 2 ** len(choices) - 1))
    chosen = [choice for i, choice in enumerate(choices) if mask >> i & 1]
    return chosen if len(chosen) >= least else list(choices[:least])


def _bound(draw: Draw, *, upper: bool, number: int) -> Json:
    return {one_of(draw, ("below", "at_most") if upper else ("above", "at_least")): str(number)}


def _line(draw: Draw) -> Json:
    higher = one_of(draw, (True, False))
    line: Json = {"title": "t", "unit": "share", "riskier": "higher" if higher else "lower"}
    zones = one_of(draw, (("rule_out", "rule_in"), ("rule_out",), ("rule_in",)))
    if "rule_out" in zones:
        line["rule_out"] = _bound(draw, upper=higher, number=4 if higher else 6)
    if "rule_in" in zones:
        line["rule_in"] = _bound(draw, upper=not higher, number=7 if higher else 3)
    if not likely(draw, 4):
        line["point_value_suffices"] = "true"
    return line


def _fact(draw: Draw) -> Json:
    fact = {"fact": "training_compute_flop", one_of(draw, ("at_least", "below")): "1e25"}
    if not likely(draw, 3):
        fact = {"fact": "revenue", one_of(draw, ("above", "at_most", "at_least", "below")): "5"}
    return {"not": fact} if not likely(draw, 3) else fact


def _permits(
    draw: Draw,
    lines: Mapping[str, Json],
    weaker: Sequence[str],
    due: bool,
    *,
    leaning: bool = False,
    on_threshold: bool = False,
) -> Json:
    """A leaf that permits; *on_threshold*: one that is evidence on the threshold; *leaning*: also
    one that leans on another model.
    """
    kinds = ["finding"] * 3 + ["threshold"] * bool(weaker)
    kinds += ["leans"] * 3 * leaning
    kinds += ["line"] * 8 * any("rule_out" in line for line in lines.values())
    if not on_threshold:
        kinds += ["assessment", "sign_off", "fact"] + ["reassessment"] * due * 2
    match one_of(draw, kinds):
        case "finding":
            leaf: Json = {"finding": "ruled-out", "by": _some(draw, ROLES, least=1)}
            if not likely(draw, 3):
                leaf["in_assessment"] = "comprehensive"
            return leaf if likely(draw, 3) else leaf | {"max_age": one_of(draw, _DURATIONS)}
        case "assessment":
            kind = one_of(draw, ("comprehensive", "quick"))
            return {"assessment": kind, "max_age": one_of(draw, _DURATIONS)}
        case "sign_off":
            return {"sign_off": "approved", "by": one_of(draw, ROLES)}
        case "line":
            named = [name for name, line in lines.items() if "rule_out" in line]
            leaf = {"line": one_of(draw, named), "zone": "rule_out"}
            return leaf if likely(draw, 2) else leaf | {"max_age": one_of(draw, _DURATIONS)}
        case "threshold":
            return {"threshold_ruled_out": one_of(draw, weaker)}
        case "leans":
            return _leans(draw, one_of(draw, ("bounded_by", "carried_over")))
        case "reassessment":
            return {"reassessment": "not-due"}
        case _:
            return _fact(draw)


def _leans(draw: Draw, kind: str) -> Json:
    """A leaf that leans on another model."""
    by: Json = {"by": _some(draw, ROLES[:2], least=1)}
    if not likely(draw, 6):
        by["in_assessment"] = "comprehensive"
    if not likely(draw, 4):
        by["max_age"] = one_of(draw, _DURATIONS)
    return {kind: by}


def _ruled_out(
    draw: Draw, lines: Mapping[str, Json], weaker: Sequence[str], due: bool, leaning: bool
) -> Json:
    """A tree that permits, and that cannot hold without evidence on the threshold."""
    permits = partial(_permits, draw, lines, weaker, due, leaning=leaning)
    on_it = partial(permits, on_threshold=True)
    if leaning and likely(draw, 4):
        # What bears must be ruled out by something else in the end.
        by_itself = {"finding": "ruled-out", "by": ["ceo"]} if likely(draw, 3) else on_it()
        return {"any": [*map(partial(_leans, draw), ("bounded_by", "carried_over")), by_itself]}
    if one_of(draw, (True, False)):
        return _tree(draw, on_it)
    return {"all": [on_it(), _tree(draw, permits, 1)]}


def _counts_against(draw: Draw, lines: Mapping[str, Json], of_threshold: bool) -> Json:
    """A leaf that counts against."""
    kinds = ["finding", "finding", "finding"] if of_threshold else ["elapsed", "elapsed"]
    kinds += ["line"] * 4 * any("rule_in" in line for line in lines.values())
    kinds += ["elapsed", "compute_ratio", "sign_off", "fact"]
    since = {"since_assessment": "comprehensive"}
    match one_of(draw, kinds):
        case "finding":
            return {"finding": "reached", "by": _some(draw, ROLES[:1])}
        case "line":
            named = [name for name, line in lines.items() if "rule_in" in line]
            return {"line": one_of(draw, named), "zone": "rule_in"}
        case "elapsed":
            return {"elapsed": {"at_least": one_of(draw, _DURATIONS)} | since}
        case "compute_ratio":
            return {"compute_ratio": {"at_least": "4"} | since}
        case "sign_off":
            leaf: Json = {"sign_off": "reassess", "by": one_of(draw, ROLES)}
            return leaf | since if likely(draw, 3) else leaf
        case _:
            return _fact(draw)


def _tree(draw: Draw, leaf: Callable[[], Json], depth: int = 2) -> Json:
    shape = one_of(draw, ("leaf", "leaf", "all", "any", "at_least_k") if depth else ("leaf",))
    if shape == "leaf":
        return leaf()
    below = [_tree(draw, leaf, depth - 1) for _ in range(draw(st.integers(1, 3)))]
    if shape == "at_least_k":
        return {"at_least_k": {"k": str(draw(st.integers(1, len(below)))), "of": below}}
    return {shape: below}


def _standard(draw: Draw, position: int, levels: Sequence[str]) -> Json:
    standard: Json = {"title": "t", "clause": "c"}
    if levels and likely(draw, 4):
        standard["level"] = levels[min(position, len(levels) - 1)]
    if not likely(draw, 5):
        standard |= {"undefined": "true", "attested_by": ["ceo"]}
    else:
        part = {"statement": "s", "clause": "c"}
        shapes: tuple[Json, ...] = (
            {"a": part},
            {"a": part, "b": part},
            {"a": part | {"parts": {"x": part, "y": part}}},
            {"a": part, "b": part | {"parts": {"x": part}}},
        )
        standard["criteria"] = one_of(draw, shapes)
    if not likely(draw, 3):
        standard["review"] = one_of(draw, _DURATIONS)
    if subsumed := _some(draw, STANDARDS[:position]):
        standard["subsumes"] = subsumed
    if one_of(draw, (True, False)):
        by = {"approved_by": _some(draw, ROLES[:2], least=1)}
        standard["interim_measures"] = {"statement": "s", "clause": "c"} | by
        if not likely(draw, 3):
            standard["interim_measures"]["at_most"] = one_of(draw, _DURATIONS)
    return standard


def _effects(draw: Draw, standards: Sequence[str], levels: Sequence[str]) -> Json:
    """What a threshold does while it binds, beside the standards that it requires."""
    effects: Json = {}
    said = {"statement": "s", "clause": "c"}
    if levels and not likely(draw, 3):
        effects["level"] = one_of(draw, levels)
    if not likely(draw, 6):
        effects["prohibits"] = [said | {"actions": one_of(draw, _ALL_ACTIONS)}]
    if not likely(draw, 4):
        effects["limits"] = [said | {"id": "x", "actions": one_of(draw, _ALL_ACTIONS)}]
    if not likely(draw, 4):
        standard = {"standard": one_of(draw, standards), "before": one_of(draw, _ALL_ACTIONS)}
        effects["recommends"] = [standard | {"clause": "c"}]
    if not likely(draw, 5):
        effects["obligations"] = [_obligation(draw)]
    return effects


def _obligation(draw: Draw) -> Json:
    """Something that must be done; most are binding."""
    obligation: Json = {"id": "o", "statement": "s", "clause": "c"}
    since = {"since_assessment": one_of(draw, ("comprehensive", "comprehensive", "quick"))}
    match one_of(draw, ("before", "anew", "clock", "clock", "none")):
        case "before":
            return obligation | {"due": "before", "binding": "true"}
        case "anew":
            return obligation | {"due": "before", "binding": "true"} | since
        case "clock":
            return obligation | {"due": one_of(draw, _DURATIONS), "binding": "true"} | since
        case _:
            return obligation | {"due": one_of(draw, _DURATIONS)}


def _exception(draw: Draw, standards: Sequence[str]) -> Json:
    """A permission that the policy itself gives."""
    exception: Json = {
        "statement": "s",
        "clause": "c",
        "stands_for": _some(draw, standards, least=1),
        "approved_by": _some(draw, ROLES, least=1),
        "at_most": one_of(draw, (*_DURATIONS, "P1Y")),
    }
    return exception if likely(draw, 3) else exception | {"actions": one_of(draw, _ALL_ACTIONS)}


def _requirements(draw: Draw, standards: Sequence[str], least: int) -> list[Json]:
    named = [one_of(draw, standards) for _ in range(draw(st.integers(least, 2)))]
    return [{"standard": name, "before": one_of(draw, _ALL_ACTIONS)} for name in named]


@st.composite
def policies(draw: Draw) -> PolicyVersion:
    """A valid policy version: small, and of any shape that the language allows."""
    levels = one_of(draw, (["L1", "L2", "L3"], []))
    lines = {f"l{i}": _line(draw) for i in range(one_of(draw, (0, 1, 1, 1, 2)))}
    standards = {STANDARDS[i]: _standard(draw, i, levels) for i in range(draw(st.integers(1, 4)))}
    reassess = one_of(draw, (False, True, True))
    leaning = one_of(draw, (False, True))
    thresholds: Json = {}
    for i in range(draw(st.integers(1, 3))):
        weaker = list(thresholds)
        thresholds[THRESHOLDS[i]] = {
            "domain": "bio",
            "statement": "s",
            "clause": "c",
            "requires": _requirements(draw, list(standards), 0),
            "reached": _tree(draw, lambda: _counts_against(draw, lines, True), 1),
            "ruled_out": _ruled_out(draw, lines, weaker, reassess, leaning),
            "not_ruled_out": {
                "means": one_of(draw, ("binds", "binds", "does-not-bind")),
                "clause": "c",
            },
            "evidence": list(lines),
        } | _effects(draw, list(standards), levels)
    baseline = _requirements(draw, list(standards), 1) if likely(draw, 3) else []
    required = [one for t in thresholds.values() for one in t["requires"]] + baseline
    preceded = {action for one in required for action in one["before"]}
    document: Json = {
        "schema": "aslgate/policy/v1",
        "policy": POLICY,
        "version": "1",
        "title": "t",
        "publisher": "p",
        "effective": "2024-01-01",
        "source": {"title": "t", "version": "1", "sha256": "0" * 64},
        "applies_to": {"developer": ["dev"]},
        "facts": {"revenue": {"title": "t", "unit": "u"}},
        "confidence": one_of(draw, ("0.95", "0.8")),
        "roles": dict.fromkeys(ROLES, "r"),
        "domains": {
            "bio": {"title": "t", "status": "tracked"},
            "cyber": {"title": "t", "status": "research"},
        },
        "standards": standards,
        "lines": lines,
        "thresholds": thresholds,
        "actions": {
            action: {
                "statement": "s",
                "clause": "c",
                "needs": _needs(draw, reassess),
                "may_reverse": [
                    {"role": role, "clause": "c"}
                    for role in (() if likely(draw, 3) else _some(draw, ROLES))
                ],
                "sign_offs": [
                    _sign_off(draw, role)
                    for role in _some(draw, ROLES[:2], least=int(action not in preceded))
                ],
                "obligations": [] if likely(draw, 5) else [_obligation(draw)],
            }
            for action in ACTIONS
        },
    }
    if levels:
        document["levels"] = levels
    if not likely(draw, 4):
        document["applies_to"]["when"] = _fact(draw)
    if one_of(draw, (True, False)):
        document["exceptions"] = {"others": _exception(draw, list(standards))}
    if baseline:
        document["baseline"] = {"clause": "c", "requires": baseline}
    if levels and not likely(draw, 4):
        level = {"clause": "c", "level": one_of(draw, levels)}
        document["baseline"] = document.get("baseline", {}) | level
    if reassess:
        when = _tree(draw, lambda: _counts_against(draw, lines, False))
        document["reassess"] = {"clause": "c", "when": when}
    version = parse(VERSION, document, TEXT)
    assume(not lint(version))
    return version


def _needs(draw: Draw, reassess: bool) -> list[str]:
    not_due = reassess and not likely(draw, 3)
    return ["required-standards", *(["reassessment-not-due"] if not_due else ())]


def _sign_off(draw: Draw, role: str) -> Json:
    needed: Json = {"role": role, "verb": "approved", "clause": "c"}
    return needed if likely(draw, 3) else needed | {"max_age": one_of(draw, _DURATIONS)}


@cache
def shipped() -> tuple[PolicyVersion, ...]:
    """The policy versions that are shipped, as if they had been in force all the time."""
    texts = Path(__file__).parents[2].joinpath("policies").rglob("*.yaml")
    return tuple(
        read_policy(text.read_bytes(), "yaml").model_copy(update={"effective": EARLIEST})
        for text in sorted(texts)
        if not text.name.endswith(".cases.yaml")
    )


# --- evidence ----------------------------------------------------------------------------------

_OUTCOMES = (
    "ruled-out",
    "ruled-out",
    "ruled-out",
    None,
    None,
    "inconclusive",
    "not-ruled-out",
    "reached",
    "carried-over",
    "bounded-by",
)
_LEANING = ("bounded-by", "carried-over", "bounded-by", "carried-over", *_OUTCOMES[-2:], None)
_BEARING = ("ruled-out", "ruled-out", "ruled-out", "ruled-out", "reached", *_OUTCOMES[-2:])


def _step(draw: Draw) -> int:
    return int(draw(st.integers(0, LAST)))


def _result(draw: Draw, line: str, *, safe_is_low: bool) -> Json:
    value = one_of(draw, (1, 1, 2, 2, 3, 4, 6, 8, 9))
    value = value if safe_is_low else 10 - value
    result: Json = {"line": line, "value": Decimal(value)}
    match one_of(draw, ("interval", "interval", "stderr", "bare", "trials", "weak")):
        case "interval":
            low, high = one_of(draw, (0, 1, 2)), one_of(draw, (0, 0, 1, 2, 3))
            result["interval"] = _interval(value - low, value + high, "0.95")
        case "weak":
            result["interval"] = _interval(value, value, "0.5")
        case "stderr":
            result["stderr"] = Decimal(one_of(draw, ("0", "0.5", "1")))
        case "trials":
            # The share of a line whose bounds are whole numbers always lies under them.
            trials = one_of(draw, (1, 10))
            result |= {"value": Decimal(value > 4), "trials": trials}
            result["successes"] = trials if value > 4 else 0
        case _:
            pass
    if not likely(draw, 5):
        result["load_bearing"] = False
    if not likely(draw, 4):
        result["variant"] = "v"
    return result


def _interval(low: int, high: int, confidence: str) -> Json:
    return {"low": Decimal(low), "high": Decimal(high), "confidence": Decimal(confidence)}


def _policy_name(draw: Draw, version: PolicyVersion) -> str:
    return version.policy if likely(draw, 12) else "another"


def _roles(version: PolicyVersion) -> tuple[str, ...]:
    return tuple(version.roles)[:3]


def leans(version: PolicyVersion) -> bool:
    """Whether the version gives findings that lean on other models any use."""
    return any(
        isinstance(leaf, BoundedBy | CarriedOver)
        for threshold in version.thresholds.values()
        for _, leaf in walk(threshold.ruled_out)
    )


def _finding(draw: Draw, version: PolicyVersion, threshold: str, outcome: str) -> Json:
    roles = _roles(version)
    by = list(roles) if likely(draw, 4) else _some(draw, roles, least=1)
    finding = {
        "policy": _policy_name(draw, version),
        "threshold": threshold,
        "outcome": outcome,
        "by": by,
        "reason": "r",
    }
    if outcome == "bounded-by":
        finding["bounded_by"] = one_of(draw, OTHERS)
    elif outcome == "carried-over" and likely(draw, 4):
        finding["carried_over_from"] = one_of(draw, OTHERS)
    return finding


def _assessment(draw: Draw, version: PolicyVersion, model: str = MODEL) -> Json:
    assessment: Json = {
        "model": model,
        "kind": "comprehensive" if likely(draw, 4) else "quick",
        "conducted_at": _time(_step(draw)),
        "assessor": "a",
    }
    choices: Sequence[str | None] = _OUTCOMES
    if leans(version):
        # Where it matters, one model leans and the other bears.
        choices = one_of(draw, (_LEANING, _OUTCOMES) if model == MODEL else (_BEARING, _OUTCOMES))
    outcomes = [(name, one_of(draw, choices)) for name in version.thresholds]
    assessment["findings"] = [
        _finding(draw, version, name, outcome) for name, outcome in outcomes if outcome is not None
    ]
    if not likely(draw, 4):
        assessment["effective_compute_ratio"] = Decimal(one_of(draw, (4, 3)))
    assessment["results"] = [
        _result(draw, name, safe_is_low=line.riskier == "higher")
        for name, line in version.lines.items()
        for _ in range(one_of(draw, (0, 1, 1, 1, 2)))
    ]
    return assessment


def places(version: PolicyVersion, standard: str) -> Iterator[str | None]:
    """Everything that a safeguard report on the standard may speak of."""
    yield None
    for criterion, content in (version.standards[standard].criteria or {}).items():
        yield criterion
        for part in content.parts or ():
            yield f"{criterion}/{part}"


def report(
    version: PolicyVersion,
    standard: str,
    criterion: str | None,
    at: int,
    *,
    met: bool = True,
    lasts: int | None = None,
) -> SafeguardReport:
    """A report that begins at that step, and lasts so many."""
    return parse(
        A_REPORT,
        {
            "model": MODEL,
            "policy": version.policy,
            "standard": standard,
            "criterion": criterion,
            "met": met,
            "valid_from": _time(at),
            "valid_until": None if lasts is None else _time(at + lasts),
            "stated_by": "ceo",
        },
        JSON,
    )


def _report(draw: Draw, version: PolicyVersion) -> SafeguardReport:
    standard = one_of(draw, list(version.standards))
    said = report(
        version,
        standard,
        one_of(draw, list(places(version, standard))),
        _step(draw),
        met=likely(draw, 2),
        lasts=one_of(draw, (None, 1, 2, 5)),
    )
    stated_by = "ceo" if likely(draw, 3) else "somebody"
    named = {"policy": _policy_name(draw, version), "stated_by": stated_by}
    return said.model_copy(update=named)


def _signed(
    draw: Draw, version: PolicyVersion, action: str, role: str, verb: str, step: int
) -> SignOff:
    body = {
        "model": MODEL,
        "policy": _policy_name(draw, version),
        "action": action,
        "role": role,
        "verb": verb,
        "given_at": _time(step),
        "reason": "r",
    }
    return parse(A_SIGN_OFF, body, JSON)


def recorded(prefix: str, items: Sequence[Any], origin: int = 0) -> tuple[Recorded[Any], ...]:
    """Each item with an id and the digest of its bytes, as storage would give them.

    `origin` tells the evidence on one model from that on another.
    """
    named = (
        (
            f"{prefix}_{(origin << 64) + i:032x}",
            canonical_json({"i": i, **item.model_dump(mode="json")}),
        )
        for i, item in enumerate(items)
    )
    return tuple(
        Recorded(id, digest(bytes_), item, place_of(digest(bytes_)))
        for (id, bytes_), item in zip(named, items, strict=True)
    )


def place_of(name: str) -> int | None:
    """Where in the ledger the piece with that digest lies: most as their times say, which one place
    for all lets them be; some before or after all others, one in sixteen nowhere yet.
    """
    return {0: None, 1: 1, 2: 2, 3: 98, 4: 99}.get(int(name[-1], 16), 50)


@st.composite
def evidence_under(draw: Draw, version: PolicyVersion) -> Evidence:
    """Evidence on the model: most of it permits, none of it has to fit together."""
    bodies = [_assessment(draw, version) for _ in range(one_of(draw, (0, 1, 2, 2, 3, 3)))]
    reports = [
        report(version, name, None, draw(st.integers(0, 4)), lasts=one_of(draw, (None, None, 6)))
        for name in version.standards
        if likely(draw, 4)
    ]
    reports += [_report(draw, version) for _ in range(draw(st.integers(0, 3)))]
    sign_offs = [
        _signed(draw, version, action, needed.role, "approved", draw(st.integers(0, 4)))
        for action in version.actions
        for needed in version.actions[action].sign_offs
        if likely(draw, 12)
    ]
    sign_offs += [_any_sign_off(draw, version) for _ in range(draw(st.integers(0, 2)))]
    orders = [_order(draw, version, i) for i in range(one_of(draw, (0, 0, 0, 1, 1, 2)))]
    return Evidence(
        recorded("asm", [parse(AN_ASSESSMENT, body, JSON) for body in bodies]),
        recorded("sfg", reports),
        recorded("sgn", sign_offs),
        tuple(_exceptions(draw, version)),
        tuple(orders),
        recorded("ful", list(_fulfilments(draw, version, bodies))),
        {
            model: _other(draw, version, model, origin)
            for origin, model in enumerate(OTHERS, start=1)
            if likely(draw, 6)
        },
    )


def _fulfilments(
    draw: Draw, version: PolicyVersion, assessments: Sequence[Json]
) -> Iterator[GivenFulfilment]:
    """What was done of the obligations of the version, mostly after the last assessment."""
    last = max((body["conducted_at"] for body in assessments), default=_time(0))
    for place, obligation in obligations_of(version).items():
        for _ in range(one_of(draw, (1, 1, 1, 0, 2)) if obligation.binding else 0):
            policy = _policy_name(draw, version)
            body = {
                "reason": "r",
                "sources": [{"title": "t"}],
                "done_at": one_of(draw, (last, last, _time(_step(draw)))),
                "obligation": obligation_id(MODEL, policy, asked_at(place), obligation.id),
                "name": obligation.id,
                "pointer": place,
                "model": MODEL,
                "policy": policy,
                "determination": "det_0",
                "due": None,
                "by": "key_1",
            }
            yield parse(A_FULFILMENT, body, JSON)


def _any_sign_off(draw: Draw, version: PolicyVersion) -> SignOff:
    action, role = one_of(draw, list(version.actions)), one_of(draw, _roles(version))
    verb = one_of(draw, ("reversed", "reassess", "approved", "reversed", "consulted"))
    return _signed(draw, version, action, role, verb, _step(draw))


def _other(draw: Draw, version: PolicyVersion, model: str, origin: int) -> OtherModel:
    """What is known of another model: much less than of the one that is asked about."""
    bodies = [_assessment(draw, version, model) for _ in range(one_of(draw, (1, 1, 0, 2)))]
    signed = [_any_sign_off(draw, version) for _ in range(one_of(draw, (0, 0, 0, 1)))]
    developer = (version.applies_to.developer or ("dev",))[0]
    return OtherModel(
        parse(A_MODEL, {"model": model, "developer": developer} | _facts(draw, version), JSON),
        Evidence(
            recorded("asm", [parse(AN_ASSESSMENT, body, JSON) for body in bodies], origin),
            sign_offs=recorded(
                "sgn", [one.model_copy(update={"model": model}) for one in signed], origin
            ),
        ),
    )


def _facts(draw: Draw, version: PolicyVersion) -> Json:
    facts = {
        name: Decimal(value)
        for name in version.facts or ()
        if (value := one_of(draw, (None, 1, 5, 10))) is not None
    }
    flop = one_of(draw, (None, Decimal(10) ** 24, Decimal(10) ** 25))
    return {"training_compute_flop": flop, "facts": facts}


def _exceptions(draw: Draw, version: PolicyVersion) -> Iterator[Recorded[ExceptionOnRecord]]:
    """Exceptions that the version permits, most of them approved as it says."""
    permitted = [
        (INTERIM_MEASURES, name, standard.interim_measures.approved_by)
        for name, standard in version.standards.items()
        if standard.interim_measures is not None
    ]
    permitted += [
        (name, standard, exception.approved_by)
        for name, exception in (version.exceptions or {}).items()
        for standard in exception.stands_for
    ]
    if not permitted:
        return
    for i in range(one_of(draw, (2, 1, 3, 4, 0))):
        yield _on_record(draw, version, i, *one_of(draw, permitted))


def _on_record(
    draw: Draw,
    version: PolicyVersion,
    position: int,
    exception: str,
    standard: str,
    roles: Sequence[str],
) -> Recorded[ExceptionOnRecord]:
    begins = draw(st.integers(0, 6))
    request = parse(
        AN_EXCEPTION,
        {
            "model": MODEL,
            "policy": _policy_name(draw, version),
            "action": one_of(draw, list(version.actions)),
            "exception": exception if likely(draw, 12) else "unheard-of",
            "standard": standard,
            "measures": "m",
            "reason": "r",
            "valid_from": _time(begins),
            "valid_until": _time(begins + one_of(draw, (20, 20, 6, 2))),
            "requested_by": "key_0",
        },
        JSON,
    )
    approving = [*roles, *roles[:1]] if len(roles) == 1 or likely(draw, 3) else list(roles)
    if not likely(draw, 12):
        approving = list(_some(draw, _roles(version)))
    id = f"exc_{position:032x}"
    approvals = []
    for i, role in enumerate(approving):
        body = {
            "role": role,
            "reason": "r",
            "exception": id,
            # Who asked, and who approved before, count for nothing more.
            "by": f"key_{i + 1 if likely(draw, 12) else one_of(draw, (0, 1))}",
            "given_at": _time(draw(st.integers(0, 6))),
        }
        approval = parse(AN_APPROVAL, body, JSON)
        bytes_ = canonical_json(approval.model_dump(mode="json"))
        approvals.append(Approved(f"exa_{(position << 64) + i:032x}", digest(bytes_), approval))
    on_record = ExceptionOnRecord(request, tuple(approvals))
    return Recorded(id, digest(canonical_json(request.model_dump(mode="json"))), on_record)


def _order(draw: Draw, version: PolicyVersion, position: int) -> Recorded[OrderOnRecord]:
    effect = one_of(draw, ("limit", "require", "stop"))
    body: Json = {
        "model": MODEL,
        "issuer": "i",
        "issued_by": one_of(draw, ("government", "company", "customer", "other")),
        "effect": effect,
        "actions": one_of(draw, (None, *([action] for action in version.actions))),
        "statement": "s",
        "begins_at": _time(draw(st.integers(0, 2 * LAST))),
    }
    if effect == "require":
        named = _some(draw, list(version.standards)[:3], least=1)
        body["standards"] = named if likely(draw, 8) else [*named, "unheard-of"]
        body["policy"] = _policy_name(draw, version)
    lifted = None
    if not likely(draw, 3):
        lifted = lifting(position, draw(st.integers(0, 2 * LAST)))
    return order_on_record(position, body, lifted)


def lifting(position: int, at: int) -> Lifted:
    """The lifting of that order at that step."""
    said = parse(A_LIFTING, {"reason": "r", "lifted_at": _time(at)}, JSON)
    bytes_ = canonical_json(said.model_dump(mode="json"))
    return Lifted(f"lft_{position:032x}", digest(bytes_), said)


def order_on_record(
    position: int, body: Json, lifted: Lifted | None = None
) -> Recorded[OrderOnRecord]:
    """The order with that body, as storage would give it."""
    order = parse(AN_ORDER, body, JSON)
    on_record = OrderOnRecord(order, lifted)
    bytes_ = canonical_json(order.model_dump(mode="json"))
    return Recorded(f"ord_{position:032x}", digest(bytes_), on_record)


@st.composite
def situations(draw: Draw) -> Situation:
    """A policy in force, a model with evidence on it, and a question."""
    version = draw(policies()) if likely(draw, 40) else one_of(draw, shipped())
    evidence = draw(evidence_under(version))
    at = instant(draw(st.integers(6, 2 * LAST)) / 2)
    developer = (version.applies_to.developer or ("dev",))[0]
    until = one_of(draw, (None, None, None, instant(LAST), instant(LAST + 6)))
    if until is not None and until <= at:
        until = None
    return Situation(
        PolicyInForce(version, policy_digest(version), version.effective, until),
        parse(A_MODEL, {"model": MODEL, "developer": developer} | _facts(draw, version), JSON),
        evidence,
        Question(MODEL, one_of(draw, list(version.actions)), version.policy, at),
    )


# --- what permits, and what is stricter -------------------------------------------------------


def surely_ruled_out(version: PolicyVersion, result: Result) -> bool:
    """Whether the result by itself permits: relied on, and surely in the rule-out zone."""
    line = version.lines[result.line]
    bound = line.rule_out
    if bound is None or not result.load_bearing:
        return False
    range_ = result.at_confidence(version.confidence)
    if range_ is None:
        return line.point_value_suffices and bound.holds(result.value)
    return bound.holds(range_.low) and bound.holds(range_.high)


def without(items: Sequence[T], position: int) -> tuple[T, ...]:
    """*items* but for one."""
    return (*items[:position], *items[position + 1 :])


def with_item(pieces: Sequence[Recorded[T]], position: int, item: T) -> tuple[Recorded[T], ...]:
    """*pieces* with another item in one of them."""
    piece = pieces[position]
    changed = Recorded(piece.id, piece.digest, item, piece.index)
    return (*pieces[:position], changed, *pieces[position + 1 :])


def parts(evidence: Evidence) -> Iterator[tuple[Evidence, Callable[[Evidence], Evidence]]]:
    """The evidence on each model, with how to put other evidence in its place."""
    yield evidence, lambda own: own
    for model, other in evidence.others.items():
        yield other.evidence, partial(_with_other, evidence, model)


def _with_other(evidence: Evidence, model: str, known: Evidence) -> Evidence:
    other = OtherModel(evidence.others[model].model, known)
    return replace(evidence, others={**evidence.others, model: other})


def permits(situation: Situation, finding: Finding) -> bool:
    """Whether the finding can only permit: a ruling out, or one that leans on another model, unless
    what is carried over from there is that the threshold is not ruled out.
    """
    if finding.outcome in (Outcome.RULED_OUT, Outcome.BOUNDED_BY):
        return True
    if finding.outcome is not Outcome.CARRIED_OVER:
        return False
    if finding.carried_over_from is None or finding.threshold not in situation.version.thresholds:
        return True
    other = situation.evidence.others.get(finding.carried_over_from)
    if other is None:
        return False
    asked = replace(situation.question, model=other.model.model)
    known = replace(other.evidence, others=situation.evidence.others)
    answer = decide(asked, situation.policy, other.model, known)
    return any(
        one.id == finding.threshold and one.status == "ruled_out" for one in answer.thresholds
    )


def less_by_one_that_permits(situation: Situation) -> Iterator[tuple[str, Evidence]]:
    """The evidence without each of its pieces, or parts of one, that can only permit."""
    evidence = situation.evidence
    for own, put in parts(evidence):
        for what, less in _less_of(situation, own):
            yield what, put(less)
    for i, exception in enumerate(evidence.exceptions):
        less = replace(evidence, exceptions=without(evidence.exceptions, i))
        yield f"without {exception}", less
        request, approvals = exception.item.request, exception.item.approvals
        for j, approval in enumerate(approvals):
            item = ExceptionOnRecord(request, without(approvals, j))
            pieces = with_item(evidence.exceptions, i, item)
            yield f"without {approval}", replace(evidence, exceptions=pieces)
    for i, order in enumerate(evidence.orders):
        if order.item.lifted is not None:
            pieces_ = with_item(evidence.orders, i, OrderOnRecord(order.item.order))
            yield f"without {order.item.lifted}", replace(evidence, orders=pieces_)
    for i, done in enumerate(evidence.fulfilments):
        less = replace(evidence, fulfilments=without(evidence.fulfilments, i))
        yield f"without {done}", less
    for model in evidence.others:
        left = {name: other for name, other in evidence.others.items() if name != model}
        if all(permits(situation, f) for f in leaning_on(evidence, model)):
            yield f"without {model}", replace(evidence, others=left)


def leaning_on(evidence: Evidence, model: str) -> Iterator[Finding]:
    """The findings, on whichever model, that lean on that one."""
    for own, _ in parts(evidence):
        for assessed in own.assessments:
            yield from (f for f in assessed.item.findings if f.other_model == model)


def _less_of(situation: Situation, evidence: Evidence) -> Iterator[tuple[str, Evidence]]:
    version = situation.version
    for i, report_ in enumerate(evidence.safeguards):
        if report_.item.met:
            less = replace(evidence, safeguards=without(evidence.safeguards, i))
            yield f"without {report_}", less
    for i, signed in enumerate(evidence.sign_offs):
        if signed.item.verb not in (Verb.REASSESS, Verb.REVERSED):
            yield f"without {signed}", replace(evidence, sign_offs=without(evidence.sign_offs, i))
    for i, assessed in enumerate(evidence.assessments):
        item = assessed.item
        permits_only = (
            all(permits(situation, f) for f in item.findings)
            and all(surely_ruled_out(version, r) for r in item.results)
            and item.effective_compute_ratio is None
            and not _asks_anew(situation, item)
        )
        if permits_only:
            less = replace(evidence, assessments=without(evidence.assessments, i))
            yield f"without {assessed}", less
        for j, finding in enumerate(item.findings):
            if permits(situation, finding):
                left = item.model_copy(update={"findings": without(item.findings, j)})
                pieces = with_item(evidence.assessments, i, left)
                yield f"without {finding} of {assessed.id}", replace(evidence, assessments=pieces)
        for j, result in enumerate(item.results):
            if surely_ruled_out(version, result):
                left = item.model_copy(update={"results": without(item.results, j)})
                pieces = with_item(evidence.assessments, i, left)
                yield f"without {result} of {assessed.id}", replace(evidence, assessments=pieces)


def _asks_anew(situation: Situation, assessment: Assessment) -> bool:
    """Whether a binding obligation must be fulfilled anew after it, and was not for one before it:
    then it counts against by being there.
    """
    of_kind = [one for one in situation.evidence.assessments if one.item.kind == assessment.kind]
    return len(of_kind) > 1 and starts_binding_clock(situation.version, assessment.kind)


def begun_in(evidence: Evidence, after: datetime, until: datetime) -> Evidence:
    """The evidence without what begins after *after* and by *until*, on every model."""

    def stays(begins: datetime | None) -> bool:
        return begins is None or not after < begins <= until

    def approved(exception: ExceptionOnRecord) -> ExceptionOnRecord:
        approvals = tuple(a for a in exception.approvals if stays(a.item.given_at))
        return ExceptionOnRecord(exception.request, approvals)

    def lifted(order: OrderOnRecord) -> OrderOnRecord:
        stands = order.lifted is not None and not stays(order.lifted.item.lifted_at)
        return OrderOnRecord(order.order) if stands else order

    return Evidence(
        tuple(p for p in evidence.assessments if stays(p.item.conducted_at)),
        tuple(p for p in evidence.safeguards if stays(p.item.valid_from)),
        tuple(p for p in evidence.sign_offs if stays(p.item.given_at)),
        tuple(
            replace(p, item=approved(p.item))
            for p in evidence.exceptions
            if stays(p.item.request.valid_from)
        ),
        tuple(
            replace(p, item=lifted(p.item))
            for p in evidence.orders
            if stays(p.item.order.begins_at)
        ),
        tuple(p for p in evidence.fulfilments if stays(p.item.done_at)),
        {
            model: OtherModel(other.model, begun_in(other.evidence, after, until))
            for model, other in evidence.others.items()
        },
    )


_STATUS = {"ruled_out": 0, "not_ruled_out": 1, "reached": 2, "no_threshold": 3}
_TRUTH = {"no": 0, "unknown": 1, "yes": 2}


def less_strict(version: PolicyVersion, one: Determination, other: Determination) -> list[str]:
    """Everything in which *one* is less strict than *other*; empty where there is nothing."""
    found = []
    if one.strictness < other.strictness:
        found.append(f"decision {one.decision}, not {other.decision}")
    levels = version.levels or ()
    rank = {level: i for i, level in enumerate(levels)} | {None: -1}
    if rank[one.level] < rank[other.level]:
        found.append(f"level {one.level}, not {other.level}")
    if _TRUTH.get(one.reassessment or "", 0) < _TRUTH.get(other.reassessment or "", 0):
        found.append(f"reassessment {one.reassessment}, not {other.reassessment}")
    answers = {answer.id: answer for answer in one.thresholds}
    for answer in other.thresholds:
        mine = answers[answer.id]
        if _STATUS[mine.status] < _STATUS[answer.status] or mine.binds < answer.binds:
            found.append(f"{answer.id} {mine.status}, not {answer.status}")
    for standard in other.standards:
        if not standard.required:
            continue
        # A standard may be left out only for a stronger one that stands for it.
        standing = [
            mine
            for mine in one.standards
            if mine.required
            and standard.id in stands_for(version, mine.id)
            and set(standard.before) <= set(mine.before)
        ]
        if not standing:
            found.append(f"{standard.id} is not required before {standard.before}")
        elif standard.met != "yes" and all(mine.met == "yes" for mine in standing):
            found.append(f"{standard.id} is met")
    return found


def stands_for(version: PolicyVersion, name: str) -> set[str]:
    """The standard and all that it subsumes, also through others."""
    below = {name}
    for weaker in version.standards[name].subsumes:
        below |= stands_for(version, weaker)
    return below
