"""Obligations that a policy makes binding: when one denies, and until when one that does not holds.

Days count from 1 January 2025. Nothing but the obligation holds `train` back.
"""

from collections.abc import Iterable
from typing import Any

import pytest

from app.assessment.evidence import Evidence, Recorded
from app.assessment.fulfilments import GivenFulfilment, SupposedFulfilment
from app.determination.decide import Question, decide
from app.determination.obligations import as_given, starts_binding_clock
from app.determination.record import Determination
from app.determination.settling import settling
from app.parsing import parse
from app.policy.diff import diff
from app.policy.lint import lint
from app.policy.timeline import PolicyInForce
from app.policy.version import PolicyVersion
from app.vocabulary import JSON, TEXT
from tests.determination.test_reading import (
    MODEL,
    VERSION,
    Json,
    assessed,
    day,
    policy,
    threshold,
)

BEFORE: Json = {"due": "before", "binding": "true"}
SINCE: Json = {"since_assessment": "comprehensive"}
CLOCK: Json = {"due": "P5D", "binding": "true"} | SINCE
ANEW: Json = BEFORE | SINCE
ON_ACTION = "/actions/train/obligations/0"
ON_THRESHOLD = "/thresholds/T/obligations/0"


def obliging(obligation: Json, place: str = ON_ACTION) -> PolicyVersion:
    """A version that asks for one thing, to `publish`."""
    asked = {"obligations": [{"id": "publish", "statement": "s", "clause": "o"} | obligation]}
    action = {"statement": "s", "clause": "c", "needs": ["required-standards"]}
    if place == ON_THRESHOLD:
        return policy(thresholds={"T": threshold() | asked})
    return policy(actions={"train": action | asked, "deploy": action})


def done(at: float, name: str = "publish", place: str = ON_ACTION, **more: Any) -> GivenFulfilment:
    """That it was done on that day."""
    named: Json = {
        "model": "m@1",
        "policy": "p",
        "pointer": place,
        "name": name,
        "done_at": day(at),
    }
    return as_given(SupposedFulfilment(**(named | more)), day(0))


def evidence(assessments: Iterable[float], fulfilments: Iterable[GivenFulfilment]) -> Evidence:
    """Comprehensive assessments of those days, each with an id that tells its day."""
    return Evidence(
        tuple(Recorded(f"asm_{at}", "d", assessed(at)) for at in assessments),
        fulfilments=tuple(Recorded(f"ful_{i}", "d", one) for i, one in enumerate(fulfilments)),
    )


def ask(version: PolicyVersion, known: Evidence, at: float = 10) -> Determination:
    model = parse(MODEL, {"model": "m@1", "developer": "dev"}, JSON)
    in_force = PolicyInForce(version, "sha256:0", version.effective, None)
    return decide(Question("m@1", "train", "p", day(at)), in_force, model, known)


@pytest.mark.parametrize(
    ("obligation", "assessments", "fulfilled", "code", "rests_on", "until"),
    [
        (BEFORE, [], [], "outstanding", None, None),
        (BEFORE, [], [10], None, None, None),
        (BEFORE, [], [10.5], "outstanding", None, None),
        (BEFORE, [9], [1], None, None, None),
        (ANEW, [], [9], "unknown", None, None),
        (ANEW, [11], [9], "unknown", None, None),
        (ANEW, [8], [], "outstanding", 8, None),
        (ANEW, [8], [7], "outstanding", 8, None),
        (ANEW, [8], [8], None, None, None),
        (ANEW, [2, 10], [3], "outstanding", 10, None),
        (ANEW, [2, 12], [3], None, None, 12),
        (ANEW, [2, 12, 14], [3], None, None, 12),
        (CLOCK, [], [9], "unknown", None, None),
        (CLOCK, [8], [], None, None, 13),
        (CLOCK, [8], [7], None, None, 13),
        (CLOCK, [8], [9], None, None, None),
        (CLOCK, [5], [], "overdue", 5, None),
        (CLOCK, [5.5], [], None, None, 10.5),
        (CLOCK, [5], [5], None, None, None),
        (CLOCK, [5], [4], "overdue", 5, None),
        (CLOCK, [1, 9], [], "overdue", 1, None),
        (CLOCK, [1, 9], [2], None, None, 14),
        (CLOCK, [1, 9], [9], None, None, None),
        (CLOCK, [8, 12], [], None, None, 13),
        (CLOCK, [8, 12], [9], None, None, 17),
        (CLOCK, [8, 12], [9, 13], None, None, 17),
    ],
)
def test_it_denies_from_its_due_on_until_it_is_done(
    obligation: Json,
    assessments: list[float],
    fulfilled: list[float],
    code: str | None,
    rests_on: float | None,
    until: float | None,
) -> None:
    """Asked on day 10. What was missed is not made good by a newer assessment, only by being done."""
    answer = ask(obliging(obligation), evidence(assessments, map(done, fulfilled)))

    reasons = [one for one in answer.reasons if one.code.startswith("obligation.")]
    assert [one.code for one in reasons] == ([] if code is None else [f"obligation.{code}"])
    assert answer.decision == ("allow" if code is None else "deny")
    for one in reasons:
        assert (one.pointer, one.clause, one.blocks) == (ON_ACTION, "o", True)
        assert one.evidence == (() if rests_on is None else (f"asm_{rests_on}",))
    assert answer.valid_until == (None if until is None else day(until))


def test_one_that_is_not_binding_closes_no_gate() -> None:
    for obligation in (BEFORE, ANEW, CLOCK):
        version = obliging({**obligation, "binding": "false", "due": "P5D"})
        assert ask(version, evidence([1], [])).decision == "allow"


def test_one_of_a_threshold_denies_while_that_binds() -> None:
    """Whatever the action is."""
    version = obliging(BEFORE, ON_THRESHOLD)
    ruled_out = Evidence((Recorded("asm", "d", assessed(9, {"T": "ruled-out"})),))

    (reason,) = (r for r in ask(version, Evidence()).reasons if r.blocks)
    assert (reason.code, reason.pointer) == ("obligation.outstanding", ON_THRESHOLD)
    assert ask(version, ruled_out).decision == "allow"
    fulfilled = evidence([], [done(9, place=ON_THRESHOLD)])
    assert ask(version, fulfilled).decision == "allow"


@pytest.mark.parametrize(
    "other",
    [
        {"name": "another"},
        {"place": ON_THRESHOLD},
        {"place": "/actions/deploy/obligations/0"},
        {"policy": "q"},
        {"model": "m@2"},
    ],
)
def test_what_was_done_of_another_does_not_count(other: Json) -> None:
    version = obliging(BEFORE)

    assert ask(version, evidence([], [done(9, **other)])).decision == "deny"
    moved = done(9, place="/actions/train/obligations/7")
    assert ask(version, evidence([], [moved])).decision == "allow"


def test_only_assessments_of_the_kind_that_it_names_ask_for_it() -> None:
    """Also one that finds nothing under this policy: who leaves a finding out must not gain."""
    quick = Recorded("asm_9", "d", assessed(9, kind="quick"))
    empty = Recorded("asm_10", "d", assessed(10, findings=[]))
    known = evidence([1], [done(2)])

    both = Evidence((*known.assessments, quick), fulfilments=known.fulfilments)
    assert ask(obliging(ANEW), both).decision == "allow"
    more = Evidence((*known.assessments, empty), fulfilments=known.fulfilments)
    assert ask(obliging(ANEW), more).decision == "deny"
    assert starts_binding_clock(obliging(ANEW), "comprehensive")
    assert not starts_binding_clock(obliging(ANEW), "quick")
    assert not starts_binding_clock(obliging({"due": "P5D"} | SINCE), "comprehensive")


def test_what_would_settle_it_is_to_fulfil_it() -> None:
    version = obliging(ANEW)
    model = parse(MODEL, {"model": "m@1", "developer": "dev"}, JSON)
    in_force = PolicyInForce(version, "sha256:0", version.effective, None)
    question = Question("m@1", "train", "p", day(10))

    late = settling(question, in_force, model, evidence([9], []))
    assert [[move.kind for move in one] for one in late.clears] == [["fulfilment"]]
    ((fulfil,),) = late.clears
    assert (fulfil.obligation, fulfil.pointer) == ("publish", ON_ACTION)
    unknown = settling(question, in_force, model, Evidence())
    kinds = {tuple(move.kind for move in one) for one in unknown.clears}
    assert ("fulfilment", "assessment") in kinds


# --- in the language ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("obligation", "faults"),
    [
        (BEFORE, []),
        (ANEW, []),
        (CLOCK, []),
        ({"binding": "true"}, ["binding"]),
        ({"binding": "true", "due": "P5D"}, ["binding"]),
        ({"binding": "true"} | SINCE, ["since_assessment", "binding"]),
        ({"due": "before"} | SINCE, ["since_assessment"]),
        ({"due": "before", "binding": "false"} | SINCE, ["since_assessment"]),
    ],
)
def test_its_due_must_be_read_from_evidence(obligation: Json, faults: list[str]) -> None:
    """A due that counts from the question would be ahead of every question."""
    written = obliging({}).model_dump(mode="json", by_alias=True, exclude_unset=True)
    written["actions"]["train"]["obligations"][0] |= obligation
    version = parse(VERSION, written, TEXT)

    assert [fault.pointer.rpartition("/")[2] for fault in lint(version)] == faults


def test_a_difference_tells_what_it_does_that_one_becomes_binding() -> None:
    plain, binding = obliging({"due": "before"}), obliging(BEFORE)

    (stricter,) = diff(plain, binding).changes
    assert (stricter.pointer, stricter.effect) == (f"{ON_ACTION}/binding", "stricter")
    (looser,) = diff(binding, plain).changes
    assert looser.effect == "looser"
