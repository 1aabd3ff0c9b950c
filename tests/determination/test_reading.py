"""How each piece of evidence is read, at its boundaries; days count from 1 January 2025."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import TypeAdapter

from app.assessment.assessment import Assessment, ModelVersion
from app.assessment.evidence import Evidence, Recorded
from app.assessment.safeguards import SafeguardReport
from app.assessment.sign_offs import SignOff
from app.determination.decide import Question, decide
from app.determination.record import Determination
from app.parsing import parse
from app.policy.lint import lint
from app.policy.timeline import PolicyInForce
from app.policy.version import PolicyVersion
from app.vocabulary import JSON, LATEST, TEXT, write_instant

Json = dict[str, Any]

ASSESSMENT = TypeAdapter(Assessment)
REPORT = TypeAdapter(SafeguardReport)
SIGN_OFF = TypeAdapter(SignOff)
MODEL = TypeAdapter(ModelVersion)
VERSION = TypeAdapter(PolicyVersion)

SECOND = timedelta(seconds=1)
PART = {"statement": "s", "clause": "c"}
RULED_OUT: Json = {"finding": "ruled-out", "by": ["ceo", "rso"]}
LINES: Json = {
    "up": {
        "title": "t",
        "unit": "u",
        "riskier": "higher",
        "rule_out": {"at_most": "3"},
        "rule_in": {"at_least": "5"},
    },
    "down": {"title": "t", "unit": "u", "riskier": "lower", "rule_out": {"above": "3"}},
}
BY_LINE: Json = {
    "reached": {"line": "up", "zone": "rule_in"},
    "ruled_out": {"line": "up", "zone": "rule_out"},
}


def day(number: float) -> datetime:
    """That day, from 0."""
    return datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days=number)


def threshold(**more: Any) -> Json:
    return {
        "domain": "bio",
        "statement": "s",
        "clause": "c",
        "requires": [{"standard": "s", "before": ["deploy"]}],
        "reached": {"finding": "reached"},
        "ruled_out": RULED_OUT,
        "not_ruled_out": {"means": "binds", "clause": "c"},
        "evidence": ["up", "down"],
    } | more


def standard(**more: Any) -> Json:
    return {"title": "t", "clause": "c", "criteria": {"a": PART}} | more


def policy(**more: Any) -> PolicyVersion:
    """A version with threshold `T` that requires standard `s` before `deploy`.

    `Z` requires it before `train` once it is reached, for nothing may be allowed whatever is found.
    """
    before_train = [{"standard": "s", "before": ["train"]}]
    lenient = {"means": "does-not-bind", "clause": "c"}
    z = threshold(requires=before_train, not_ruled_out=lenient)
    thresholds = more.pop("thresholds", {"T": threshold()}) | {"Z": z}
    document = {
        "schema": "aslgate/policy/v1",
        "policy": "p",
        "version": "1",
        "title": "t",
        "publisher": "p",
        "effective": "2024-01-01",
        "source": {"title": "t", "version": "1", "sha256": "0" * 64},
        "applies_to": {"developer": ["dev"]},
        "levels": ["L1", "L2"],
        "confidence": "0.95",
        "roles": {"ceo": "c", "rso": "r"},
        "domains": {"bio": {"title": "b", "status": "tracked"}},
        "standards": {"s": standard()},
        "lines": LINES,
        "actions": {
            name: {"statement": "s", "clause": "c", "needs": ["required-standards"]}
            for name in ("deploy", "train")
        },
        "thresholds": thresholds,
    } | more
    version = parse(VERSION, document, TEXT)
    assert lint(version) == []
    return version


def assessed(at: float, found: Mapping[str, str] | None = None, **more: Any) -> Assessment:
    """An assessment; where it finds nothing on `T`, it has judged something else of the policy."""
    by = more.pop("by", ["ceo", "rso"])
    body = {
        "model": "m@1",
        "kind": "comprehensive",
        "conducted_at": write_instant(day(at)),
        "assessor": "a",
        "findings": [
            {"policy": "p", "threshold": name, "outcome": outcome, "by": by, "reason": "r"}
            for name, outcome in (found or {"else": "inconclusive"}).items()
        ],
    }
    return parse(ASSESSMENT, body | more, JSON)


def measured(at: float, value: str, line: str = "up", **more: Any) -> Assessment:
    exact = {"stderr": Decimal(0)} if not more.pop("bare", False) else {}
    exact = {} if "interval" in more else exact
    return assessed(at, results=[{"line": line, "value": Decimal(value)} | exact | more])


def reported(at: float, criterion: str | None = None, **more: Any) -> SafeguardReport:
    until = more.pop("until", None)
    body = {
        "model": "m@1",
        "policy": "p",
        "standard": "s",
        "criterion": criterion,
        "met": True,
        "valid_from": write_instant(day(at)),
        "valid_until": None if until is None else write_instant(day(until)),
        "stated_by": "x",
    }
    return parse(REPORT, body | more, JSON)


def signed(at: float, **more: Any) -> SignOff:
    body = {"model": "m@1", "policy": "p", "action": "deploy", "role": "ceo", "verb": "approved"}
    return parse(SIGN_OFF, body | {"given_at": write_instant(day(at)), "reason": "r"} | more, JSON)


def answer(
    version: PolicyVersion,
    *items: Assessment | SafeguardReport | SignOff,
    at: float | datetime = 10,
    action: str = "deploy",
    flop: int | None = None,
    until: float | None = None,
) -> Determination:
    def kept(kind: type, prefix: str) -> tuple[Recorded[Any], ...]:
        mine = (item for item in items if isinstance(item, kind))
        return tuple(Recorded(f"{prefix}_{i}", "d", item) for i, item in enumerate(mine))

    evidence = Evidence(kept(Assessment, "asm"), kept(SafeguardReport, "sfg"), kept(SignOff, "sgn"))
    body = {"model": "m@1", "developer": "dev", "training_compute_flop": flop}
    end = None if until is None else day(until)
    in_force = PolicyInForce(version, "sha256:0", version.effective, end)
    instant = at if isinstance(at, datetime) else day(at)
    return decide(
        Question("m@1", action, "p", instant), in_force, parse(MODEL, body, JSON), evidence
    )


def status(*items: Any, **more: Any) -> str:
    """The status of `T` under the plain policy, or the `version` given."""
    version = more.pop("version", policy())
    return answer(version, *items, **more).thresholds[0].status


def met(*items: Any, **more: Any) -> str:
    """Whether `s` is met under the plain policy, or the `version` given."""
    version = more.pop("version", policy())
    (found,) = (s.met for s in answer(version, *items, **more).standards if s.id == "s")
    return found


# --- (1) who is asked about --------------------------------------------------------------------


def test_an_unknown_name_closes_the_gate() -> None:
    version = policy()
    in_force = PolicyInForce(version, "d", version.effective, None)
    ours = parse(MODEL, {"model": "m@1", "developer": "dev"}, JSON)
    theirs = parse(MODEL, {"model": "m@1", "developer": "other"}, JSON)
    question = Question("m@1", "deploy", "p", day(1))
    flight = Question("m@1", "flight", "p", day(1))

    for asked, policy_, model, code in (
        (question, None, ours, "policy.none_in_force"),
        (question, in_force, None, "model.unknown"),
        (question, in_force, theirs, "policy.does_not_apply"),
        (flight, in_force, ours, "action.unknown"),
    ):
        found = decide(asked, policy_, model, Evidence())
        assert (found.decision, [r.code for r in found.reasons]) == ("deny", [code])


# --- findings ----------------------------------------------------------------------------------


def test_a_ruling_out_needs_all_of_its_roles() -> None:
    assert status(assessed(1, {"T": "ruled-out"})) == "ruled_out"
    assert status(assessed(1, {"T": "ruled-out"}, by=["ceo"])) == "not_ruled_out"


def test_a_finding_on_another_policy_s_threshold_of_that_name_is_not_read() -> None:
    finding = {"policy": "q", "threshold": "T", "outcome": "ruled-out", "reason": "r"}

    assert status(assessed(1, findings=[finding | {"by": ["ceo", "rso"]}])) == "not_ruled_out"


def test_a_ruling_out_may_lapse_and_need_its_kind_of_assessment() -> None:
    ruled_out = RULED_OUT | {"in_assessment": "comprehensive", "max_age": "P9D"}
    version = policy(thresholds={"T": threshold(ruled_out=ruled_out)})
    finding = assessed(1, {"T": "ruled-out"})

    assert status(finding, version=version, at=day(10) - SECOND) == "ruled_out"
    assert answer(version, finding, at=9).valid_until == day(10)
    assert status(finding, version=version, at=10) == "not_ruled_out"
    assert status(finding, assessed(9), version=version, at=10) == "not_ruled_out"
    quick = assessed(1, {"T": "ruled-out"}, kind="quick")
    assert status(quick, version=version, at=9) == "not_ruled_out"
    # It lapses as a permission; that an older `reached` was answered stays so.
    reached = assessed(0, {"T": "reached"})
    assert status(reached, finding, version=version, at=10) == "not_ruled_out"


def test_a_finding_counts_from_its_instant() -> None:
    ruled_out, reached = assessed(5, {"T": "ruled-out"}), assessed(5, {"T": "reached"})

    assert [status(ruled_out, at=at) for at in (4.9, 5)] == ["not_ruled_out", "ruled_out"]
    assert [status(reached, at=at) for at in (4.9, 5)] == ["not_ruled_out", "reached"]


@pytest.mark.parametrize("outcome", ["inconclusive", "not-ruled-out", "reached"])
def test_what_is_found_worse_at_the_same_instant_or_later_undoes_a_ruling_out(outcome: str) -> None:
    ruled_out = assessed(5, {"T": "ruled-out"})

    assert status(ruled_out, assessed(4, {"T": outcome})) == "ruled_out"
    assert status(ruled_out, assessed(5, {"T": outcome})) != "ruled_out"
    assert status(ruled_out, assessed(6, {"T": outcome})) != "ruled_out"


def test_reached_stands_until_a_later_ruling_out_by_the_right_roles() -> None:
    reached = assessed(5, {"T": "reached"})

    assert status(reached, assessed(6, {"T": "inconclusive"})) == "reached"
    assert status(reached, assessed(6, {"T": "ruled-out"}, by=["ceo"])) == "reached"
    assert status(reached, assessed(5, {"T": "ruled-out"})) == "reached"
    assert status(reached, assessed(6, {"T": "ruled-out"})) == "ruled_out"
    assert status(reached, assessed(6, {"T": "ruled-out"}), at=5.5) == "reached"


def test_of_two_findings_of_one_instant_the_same_is_named_in_any_order() -> None:
    """Evidence comes in the order in which a store happens to give it."""
    version = policy()
    pieces = tuple(
        Recorded(f"asm_{i}", "d", assessed(1, {"T": "reached"}, assessor=f"a{i}")) for i in range(2)
    )
    in_force = PolicyInForce(version, "d", version.effective, None)
    model = parse(MODEL, {"model": "m@1", "developer": "dev"}, JSON)
    question = Question("m@1", "deploy", "p", day(2))

    assert decide(question, in_force, model, Evidence(pieces)) == decide(
        question, in_force, model, Evidence(pieces[::-1])
    )


def test_a_bound_does_nothing_yet() -> None:
    bounded = {"policy": "p", "threshold": "T", "outcome": "bounded-by", "bounded_by": "n@1"}
    finding = bounded | {"by": ["ceo", "rso"], "reason": "r"}

    assert status(assessed(1, findings=[finding])) == "not_ruled_out"
    assert status(assessed(1, {"T": "carried-over"})) == "not_ruled_out"
    assert (
        status(assessed(1, {"T": "ruled-out"}), assessed(2, {"T": "carried-over"})) == "ruled_out"
    )


def test_a_threshold_that_nothing_speaks_of_is_unassessed() -> None:
    found = answer(policy())

    assert found.thresholds[0].basis == "unassessed"
    assert found.flags == ("precautionary", "provisional")
    assert answer(policy(), measured(1, "4")).thresholds[0].basis == "precaution"


# --- lines -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "found"),
    [("2", "ruled_out"), ("3", "ruled_out"), ("3.01", "not_ruled_out"), ("4.99", "not_ruled_out"),
     ("5", "reached"), ("6", "reached")],
)  # fmt: skip
def test_a_value_lies_in_its_zone_edge_included(value: str, found: str) -> None:
    assert (
        status(measured(1, value), version=policy(thresholds={"T": threshold(**BY_LINE)})) == found
    )


@pytest.mark.parametrize(("value", "found"), [("3.01", "ruled_out"), ("3", "not_ruled_out")])
def test_where_lower_is_riskier_the_zone_lies_above(value: str, found: str) -> None:
    by_line = policy(thresholds={"T": threshold(ruled_out={"line": "down", "zone": "rule_out"})})

    assert status(measured(1, value, "down"), version=by_line) == found


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [("1", "3", "ruled_out"), ("1", "3.1", "not_ruled_out"), ("4.9", "6", "not_ruled_out"),
     ("5", "6", "reached")],
)  # fmt: skip
def test_the_whole_interval_must_lie_in_the_zone(low: str, high: str, found: str) -> None:
    interval = {"low": Decimal(low), "high": Decimal(high), "confidence": Decimal("0.95")}
    by_line = policy(thresholds={"T": threshold(**BY_LINE)})

    assert status(measured(1, high, interval=interval), version=by_line) == found
    weak = interval | {"confidence": Decimal("0.94")}
    bare = {"ruled_out": "not_ruled_out"}.get(found, found)
    if low == "1":
        assert status(measured(1, low, interval=weak), version=by_line) == bare


def test_a_bare_value_rules_in_and_rules_out_only_where_the_policy_says_so() -> None:
    by_line = policy(thresholds={"T": threshold(**BY_LINE)})
    lines = LINES | {"up": LINES["up"] | {"point_value_suffices": "true"}}
    lenient = policy(thresholds={"T": threshold(**BY_LINE)}, lines=lines)

    assert status(measured(1, "2", bare=True), version=by_line) == "not_ruled_out"
    assert status(measured(1, "2", bare=True), version=lenient) == "ruled_out"
    assert status(measured(1, "6", bare=True), version=by_line) == "reached"


def test_a_newer_result_of_the_same_variant_replaces_an_older_one() -> None:
    by_line = policy(thresholds={"T": threshold(**BY_LINE)})

    def found(*items: Assessment) -> str:
        return status(*items, version=by_line)

    assert found(measured(1, "6"), measured(2, "2")) == "ruled_out"
    assert found(measured(2, "6"), measured(2, "2")) == "reached"
    assert found(measured(1, "6", variant="v"), measured(2, "2")) == "reached"
    assert found(measured(1, "4"), measured(2, "2", variant="v")) == "not_ruled_out"
    assert found(measured(1, "6"), measured(11, "2")) == "reached"


def test_what_is_not_relied_on_counts_against_and_replaces_nothing() -> None:
    by_line = policy(thresholds={"T": threshold(**BY_LINE)})

    def found(*items: Assessment) -> str:
        return status(*items, version=by_line)

    assert found(measured(1, "2", load_bearing=False)) == "not_ruled_out"
    assert found(measured(1, "6", load_bearing=False)) == "reached"
    assert found(measured(1, "6"), measured(2, "2", load_bearing=False)) == "reached"
    assert found(measured(1, "2"), measured(2, "4", load_bearing=False)) == "not_ruled_out"
    assert found(measured(1, "2"), measured(2, "3", load_bearing=False)) == "ruled_out"
    assert found(measured(1, "4", load_bearing=False), measured(2, "2")) == "ruled_out"


def test_a_ruling_out_by_line_lapses_where_it_has_an_age_and_a_ruling_in_never() -> None:
    by_line = threshold(**BY_LINE)
    by_line["ruled_out"] = by_line["ruled_out"] | {"max_age": "P9D"}
    version = policy(thresholds={"T": by_line})

    assert status(measured(1, "2"), version=version, at=day(10) - SECOND) == "ruled_out"
    assert status(measured(1, "2"), version=version, at=10) == "not_ruled_out"
    assert answer(version, measured(1, "2"), at=9).valid_until == day(10)
    assert status(measured(1, "6"), version=version, at=900) == "reached"


def test_valid_until_foresees_a_result_that_is_still_to_begin() -> None:
    version = policy(thresholds={"T": threshold(**BY_LINE)})

    assert answer(version, measured(1, "2"), measured(20, "4")).valid_until == day(20)
    assert answer(version, measured(1, "2"), measured(20, "1")).valid_until is None


# --- age, reassessment, facts ------------------------------------------------------------------


def test_an_assessment_is_fresh_up_to_not_including_its_age() -> None:
    fresh = {"all": [RULED_OUT, {"assessment": "comprehensive", "max_age": "P9D"}]}
    version = policy(thresholds={"T": threshold(ruled_out=fresh)})
    ruled_out = assessed(1, {"T": "ruled-out"})

    assert status(ruled_out, version=version, at=day(10) - SECOND) == "ruled_out"
    assert answer(version, ruled_out, at=9).valid_until == day(10)
    lapsed = answer(version, ruled_out, at=10)
    assert lapsed.thresholds[0].status == "not_ruled_out"
    assert "ruling_out_does_not_count" in lapsed.flags
    assert status(ruled_out, assessed(2), version=version, at=10.5) == "ruled_out"
    assert status(ruled_out, assessed(2, kind="quick"), version=version, at=10) == "not_ruled_out"
    assert status(ruled_out, assessed(11), version=version, at=10) == "not_ruled_out"


def test_an_assessment_that_judges_nothing_of_the_policy_puts_nothing_off() -> None:
    when = {"elapsed": {"at_least": "P9D"} | SINCE}

    assert due(when, assessed(1), at=9) == "no"
    assert due(when, assessed(1, findings=[]), at=9) == "yes"


def due(when: Json, *items: Any, **more: Any) -> str | None:
    """Whether a reassessment is due."""
    return answer(policy(reassess={"clause": "c", "when": when}), *items, **more).reassessment


SINCE = {"since_assessment": "comprehensive"}


def test_time_has_elapsed_at_its_last_instant() -> None:
    when = {"elapsed": {"at_least": "P9D"} | SINCE}

    assert due(when) == "yes"
    assert due(when, assessed(1, kind="quick"), at=2) == "yes"
    assert due(when, assessed(1), at=day(10) - SECOND) == "no"
    assert due(when, assessed(1), at=10) == "yes"
    assert due(when, assessed(1), assessed(11), at=10) == "yes"


def test_valid_until_foresees_that_a_reassessment_falls_due() -> None:
    when = {"elapsed": {"at_least": "P9D"} | SINCE}
    found = answer(policy(reassess={"clause": "c", "when": when}), assessed(1), at=9)

    assert found.valid_until == day(10)


def test_growth_counts_since_the_newest_assessment() -> None:
    when = {"compute_ratio": {"at_least": "4"} | SINCE}

    def grown(at: float, ratio: str, kind: str = "quick") -> Assessment:
        return assessed(at, kind=kind, effective_compute_ratio=Decimal(ratio))

    assert due(when) == "unknown"
    assert due(when, grown(1, "4")) == "yes"
    assert due(when, assessed(1)) == "no"
    assert due(when, assessed(1), grown(2, "3.99")) == "no"
    assert due(when, assessed(1), grown(2, "4")) == "yes"
    assert due(when, assessed(2), grown(1, "4")) == "no"
    assert due(when, assessed(2), grown(2, "4")) == "yes"
    assert due(when, assessed(1), grown(2, "4", kind="comprehensive")) == "no"
    assert due(when, assessed(1), grown(11, "4")) == "no"


def test_a_wish_to_reassess_stands_until_a_later_assessment() -> None:
    when = {"sign_off": "reassess", "by": "rso"} | SINCE

    def wish(at: float, **more: Any) -> SignOff:
        return signed(at, **{"role": "rso", "verb": "reassess"} | more)

    assert due(when, assessed(1)) == "no"
    assert due(when, assessed(1), wish(2)) == "yes"
    assert due(when, assessed(2), wish(2)) == "yes"
    assert due(when, assessed(3), wish(2)) == "no"
    assert due(when, assessed(1), wish(2, role="ceo")) == "no"
    assert due(when, assessed(1), wish(2, verb="approved")) == "no"
    assert due(when, assessed(1), wish(11)) == "no"


def test_a_line_says_that_no_reassessment_is_due_only_by_a_result_that_is_relied_on() -> None:
    when = {"line": "up", "zone": "rule_in"}

    assert due(when) == "unknown"
    assert due(when, measured(1, "4")) == "no"
    assert due(when, measured(1, "4", load_bearing=False)) == "unknown"
    assert due(when, measured(1, "5", load_bearing=False)) == "yes"


def test_only_a_plain_no_lets_not_due_permit() -> None:
    not_due = threshold(ruled_out={"all": [RULED_OUT, {"reassessment": "not-due"}]})
    unsure = {"all": [{"elapsed": {"at_least": "P9D"} | SINCE},
                      {"fact": "training_compute_flop", "at_least": "10"}]}  # fmt: skip
    version = policy(thresholds={"T": not_due}, reassess={"clause": "c", "when": unsure})
    ruled_out = assessed(1, {"T": "ruled-out"})

    assert status(ruled_out, version=version, at=9) == "ruled_out"
    assert answer(version, ruled_out, at=9).valid_until == day(10)
    assert status(ruled_out, version=version, at=10) == "not_ruled_out"
    assert status(ruled_out, version=version, at=10, flop=9) == "ruled_out"


@pytest.mark.parametrize(
    ("fact", "flop", "found"),
    [({"at_least": "10"}, 10, "reached"), ({"at_least": "10"}, 9, "not_ruled_out"),
     ({"below": "10"}, 9, "reached"), ({"below": "10"}, 10, "not_ruled_out"),
     ({"at_least": "10"}, None, "not_ruled_out"), ({"below": "10"}, None, "not_ruled_out")],
)  # fmt: skip
def test_a_fact_is_held_against_its_bound(fact: Json, flop: int | None, found: str) -> None:
    tree = {"fact": "training_compute_flop"} | fact
    version = policy(thresholds={"T": threshold(reached=tree)})

    assert status(version=version, flop=flop) == found


def test_a_weaker_threshold_speaks_for_a_stronger_one() -> None:
    stronger = threshold(ruled_out={"any": [RULED_OUT, {"threshold_ruled_out": "T"}]})
    both = {"any": [{"finding": "reached"}, {"line": "up", "zone": "rule_in"}]}
    version = policy(thresholds={"T": threshold(reached=both), "U": stronger})

    def of_u(*items: Assessment) -> str:
        return answer(version, *items).thresholds[1].status

    assert of_u(assessed(1, {"T": "ruled-out"})) == "ruled_out"
    assert of_u(assessed(1, {"T": "ruled-out"}), measured(1, "6")) == "not_ruled_out"
    assert of_u(assessed(1, {"T": "not-ruled-out"})) == "not_ruled_out"
    assert of_u(assessed(1, {"T": "ruled-out"}), assessed(2, {"U": "inconclusive"})) != "ruled_out"
    assert of_u(assessed(1, {"T": "ruled-out"}), assessed(2, {"T": "reached"})) != "ruled_out"


# --- what is in place --------------------------------------------------------------------------


def test_a_report_counts_from_its_start_up_to_not_including_its_end() -> None:
    report = reported(2, until=10)

    assert [met(report, at=at) for at in (1.9, 2, 9.9, 10)] == ["unknown", "yes", "yes", "unknown"]
    assert answer(policy(), report, at=9).valid_until == day(10)


def test_a_report_is_renewed_by_its_review() -> None:
    version = policy(standards={"s": standard(review="P8D")})

    assert met(reported(2), version=version, at=9.9) == "yes"
    assert met(reported(2), version=version, at=10) == "unknown"
    assert met(reported(2), reported(9), version=version, at=10) == "yes"
    found = answer(version, reported(2), at=9)
    assert [o.due for o in found.obligations if o.id == "re-approve-safeguards"] == [day(10)]


def test_a_report_that_it_is_not_met_stands_until_a_later_one_that_it_is() -> None:
    unmet = reported(5, met=False, until=6)

    assert met(unmet) == "no"
    assert met(unmet, at=4) == "unknown"
    assert met(unmet, reported(4)) == "no"
    assert met(unmet, reported(5)) == "no"
    assert met(unmet, reported(6)) == "yes"
    assert answer(policy(), reported(1), unmet, at=4).valid_until == day(5)


def test_reports_cover_what_they_name_and_all_below() -> None:
    parts = standard(criteria={"a": PART, "b": PART | {"parts": {"x": PART, "y": PART}}})
    version = policy(standards={"s": parts})

    def missing(*items: SafeguardReport) -> tuple[str, ...]:
        return answer(version, *items).standards[0].missing

    assert missing() == ("a", "b/x", "b/y")
    assert missing(reported(1)) == ()
    assert missing(reported(1, "b")) == ("a",)
    assert missing(reported(1, "b/x")) == ("a", "b/y")
    assert missing(reported(1, "a"), reported(1, "b/x"), reported(1, "b/y")) == ()
    assert missing(reported(1), reported(2, "b/x", met=False)) == ("b/x",)
    assert missing(reported(1), reported(2, "b", met=False)) == ("b/x", "b/y")


def test_one_more_lapse_is_foreseen_where_some_are_missing_already() -> None:
    version = policy(standards={"s": standard(criteria={"a": PART, "b": PART})})

    assert answer(version, reported(1, "a", until=20)).valid_until == day(20)


def test_an_undefined_standard_is_met_by_the_word_of_each_named_judge() -> None:
    undefined = {"title": "t", "clause": "c", "undefined": "true", "attested_by": ["ceo", "rso"]}
    version = policy(standards={"s": undefined})
    ceo, rso = reported(1, stated_by="ceo"), reported(1, stated_by="rso")

    assert met(reported(1), version=version) == "unknown"
    assert met(ceo, version=version) == "unknown"
    assert met(ceo, rso, version=version) == "yes"
    assert met(ceo, rso, reported(2, met=False), version=version) == "no"
    codes = [r.code for r in answer(version, ceo).reasons if r.blocks]
    assert codes == ["standard.undefined"]


def test_a_stronger_standard_meets_and_stands_for_a_weaker_one() -> None:
    standards = {"s": standard(level="L2"), "t": standard(subsumes=["s"])}
    requires = [{"standard": "s", "before": ["deploy"]}, {"standard": "t", "before": ["deploy"]}]
    version = policy(standards=standards, thresholds={"T": threshold(requires=requires)})
    only_s = policy(standards=standards)

    found = answer(version, reported(1, standard="t"))
    assert [s.id for s in found.standards] == ["t"]
    assert found.level == "L2"
    assert found.decision == "allow"
    assert met(reported(1, standard="t"), version=only_s) == "yes"
    assert met(reported(1, until=5), reported(1, standard="t"), version=only_s) == "yes"
    assert answer(only_s, reported(1, until=20), reported(1, standard="t")).valid_until is None


def test_a_weaker_standard_stays_where_it_precedes_more() -> None:
    requires = [{"standard": "s", "before": ["deploy", "train"]},
                {"standard": "t", "before": ["deploy"]}]  # fmt: skip
    version = policy(
        standards={"s": standard(), "t": standard(subsumes=["s"])},
        thresholds={"T": threshold(requires=requires)},
    )

    assert [s.id for s in answer(version).standards] == ["s", "t"]
    assert answer(version, reported(1), action="train").decision == "allow"
    assert answer(version, reported(1)).decision == "deny"


def test_a_standard_precedes_only_its_actions() -> None:
    assert answer(policy()).decision == "deny"
    assert answer(policy(), action="train").decision == "allow"


def test_the_level_is_the_highest_that_is_named() -> None:
    standards = {"s": standard(level="L1"), "t": standard(level="L2"), "u": standard()}
    requires = [{"standard": name, "before": ["deploy"]} for name in standards]
    version = policy(standards=standards, thresholds={"T": threshold(requires=requires)})

    assert answer(version).level == "L2"
    assert answer(version, assessed(1, {"T": "ruled-out"})).level is None


def test_a_baseline_is_required_whatever_was_found() -> None:
    baseline = {"clause": "c", "requires": [{"standard": "s", "before": ["train"]}]}
    version = policy(baseline=baseline)

    assert answer(version, assessed(1, {"T": "ruled-out"}), action="train").decision == "deny"
    assert answer(version, assessed(1, {"T": "ruled-out"})).decision == "allow"


# --- sign-offs ---------------------------------------------------------------------------------


def test_a_sign_off_is_one_role_s_about_one_action() -> None:
    needed = {"role": "ceo", "verb": "approved", "clause": "c", "max_age": "P9D"}
    action = {"statement": "s", "clause": "c", "needs": ["required-standards"]}
    version = policy(actions={"deploy": action | {"sign_offs": [needed]}, "train": action})
    ruled_out = assessed(1, {"T": "ruled-out"})

    def found(*items: SignOff, at: float | datetime = 5) -> str:
        return answer(version, ruled_out, *items, at=at).decision

    assert found() == "deny"
    assert found(signed(2)) == "allow"
    assert found(signed(2, action="train")) == "deny"
    assert found(signed(2, role="rso")) == "deny"
    assert found(signed(2, verb="consulted")) == "deny"
    assert found(signed(2, policy="q")) == "deny"
    assert found(signed(6)) == "deny"
    assert found(signed(5)) == "allow"
    assert found(signed(2), at=day(11) - SECOND) == "allow"
    assert found(signed(2), at=11) == "deny"
    assert answer(version, ruled_out, signed(2)).valid_until == day(11)
    assert answer(version, ruled_out, signed(2), signed(4)).valid_until == day(13)


# --- flags, and until when ---------------------------------------------------------------------


def test_a_judgement_against_a_line_is_flagged() -> None:
    ruled_out = assessed(1, {"T": "ruled-out"})

    assert answer(policy(), ruled_out, measured(1, "6")).flags == ("against_line",)
    assert answer(policy(), ruled_out, measured(1, "2", "down")).flags == ("against_line",)
    assert answer(policy(), ruled_out, measured(1, "4")).flags == ()
    unused = measured(1, "6", load_bearing=False)
    assert answer(policy(), ruled_out, unused).flags == ("against_line",)


def test_evidence_on_both_sides_is_flagged_and_the_stricter_counts() -> None:
    both = threshold(reached={"line": "up", "zone": "rule_in"})
    found = answer(
        policy(thresholds={"T": both}), assessed(1, {"T": "ruled-out"}), measured(1, "6")
    )

    assert found.thresholds[0].status == "reached"
    assert "contradiction" in found.flags


def test_what_is_open_binds_only_where_the_policy_says_so() -> None:
    lenient = threshold(not_ruled_out={"means": "does-not-bind", "clause": "c"})
    version = policy(thresholds={"T": lenient})

    assert answer(version).decision == "allow"
    assert answer(version, assessed(1, {"T": "reached"})).decision == "deny"


def test_an_answer_holds_until_the_next_version_or_the_first_lapse() -> None:
    report = reported(1, until=20)

    assert answer(policy(), report, until=15).valid_until == day(15)
    assert answer(policy(), report, until=25).valid_until == day(20)
    assert answer(policy(), reported(1)).valid_until is None


def test_what_has_no_end_counts_at_the_end_of_time() -> None:
    assert met(reported(1), at=LATEST) == "yes"


def test_standards_that_all_stand_for_one_another_are_read_once_each() -> None:
    """Read anew for each way between them, sixteen would take minutes."""
    names = [f"n{i:02}" for i in range(16)]
    standards: Json = {"s": standard()}
    for i, name in enumerate(names):
        standards[name] = standard(subsumes=["s", *names[:i]][: i + 1])
    thresholds = {"T": threshold()}
    for i, name in enumerate(names):
        weaker = [{"threshold_ruled_out": other} for other in ("T", *names[:i])]
        thresholds[name.upper()] = threshold(
            ruled_out={"any": [RULED_OUT, *({"threshold_ruled_out": w["threshold_ruled_out"].upper()}
                                            for w in weaker)]}
        )  # fmt: skip
    version = policy(standards=standards, thresholds=thresholds)
    begun = time.process_time()
    answer(version, reported(1, standard=names[-1]), assessed(1, {"T": "ruled-out"}))

    assert time.process_time() - begun < 2


def test_a_stronger_standard_reported_before_a_shortfall_does_not_outlast_the_newer_report() -> (
    None
):
    """What was reported since stands for itself, until it lapses: then the shortfall stands again."""
    version = policy(standards={"s": standard(), "t": standard(subsumes=["s"])})
    stronger, unmet = reported(2, standard="t"), reported(3, met=False)
    until_12 = reported(4, until=12)

    found = answer(version, stronger, unmet, until_12)
    lapsed = answer(version, stronger, unmet, until_12, at=12)

    assert [s.met for s in (*found.standards, *lapsed.standards) if s.id == "s"] == ["yes", "no"]
    assert found.valid_until == day(12)
    assert answer(version, reported(5, standard="t"), unmet, until_12).valid_until is None


def test_a_line_without_a_zone_puts_no_number_there() -> None:
    """The language refuses a condition on such a zone; past it, nothing is ruled out by one."""
    version = policy(thresholds={"T": threshold(**BY_LINE)})
    bare = version.lines["up"].model_copy(update={"rule_out": None})
    without = version.model_copy(update={"lines": {**version.lines, "up": bare}})

    assert status(measured(1, "1"), version=version) == "ruled_out"
    assert status(measured(1, "1"), version=without) == "not_ruled_out"


def test_an_approval_may_be_a_part_of_what_rules_out() -> None:
    """It counts while it stands: not before it is given, and not once it is taken back."""
    approved = {"all": [RULED_OUT, {"sign_off": "approved", "by": "ceo"}]}
    version = policy(thresholds={"T": threshold(ruled_out=approved)})
    found = assessed(1, {"T": "ruled-out"})

    assert status(found, version=version) == "not_ruled_out"
    assert status(found, signed(11), version=version) == "not_ruled_out"
    assert status(found, signed(5), version=version) == "ruled_out"
    assert status(found, signed(5), signed(6, verb="reversed"), version=version) == "not_ruled_out"


# --- where a reason stands -----------------------------------------------------------------------


def test_a_prohibition_and_a_reversal_name_their_place_and_clause() -> None:
    """Whoever is denied can look the words up."""
    forbids = [{"actions": ["deploy"], "statement": "s", "clause": "§7"}]
    deploy = {
        "statement": "s",
        "clause": "c",
        "needs": ["required-standards"],
        "may_reverse": [{"role": "rso", "clause": "§8"}, {"role": "ceo", "clause": "§9"}],
    }
    version = policy(
        thresholds={"T": threshold(prohibits=forbids)},
        actions={"deploy": deploy, "train": PART | {"needs": ["required-standards"]}},
    )
    found = answer(version, assessed(1, {"T": "reached"}), signed(2, verb="reversed"))
    told = {reason.code: (reason.pointer, reason.clause) for reason in found.reasons}

    assert told["threshold.prohibits"] == ("/thresholds/T/prohibits/0", "§7")
    assert told["sign_off.reversed"] == ("/actions/deploy/may_reverse/1", "§9")
