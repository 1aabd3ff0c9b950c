"""Exceptions: who must approve what, for how long, and what they leave required."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from app.assessment.evidence import Evidence, Recorded
from app.assessment.exceptions import (
    Approved,
    ExceptionOnRecord,
    GivenApproval,
    RequestedException,
)
from app.assessment.safeguards import SafeguardReport
from app.determination.decide import Question, decide
from app.determination.record import Determination
from app.parsing import parse
from app.policy.timeline import PolicyInForce
from app.policy.version import PolicyVersion
from app.vocabulary import JSON, write_instant
from tests.determination.test_reading import MODEL, Json, day, policy, reported, standard, threshold

REQUEST = TypeAdapter(RequestedException)
APPROVAL = TypeAdapter(GivenApproval)
INTERIM: Json = {"statement": "s", "clause": "c 7", "approved_by": ["ceo", "rso"]}
BOTH = (("ceo", "b", 2), ("rso", "c", 3))
"""Both roles, each by a caller of its own: role, caller, day."""


def version(**more: Any) -> PolicyVersion:
    """A version whose standard `s` interim measures may stand in for."""
    return policy(standards={"s": standard(interim_measures=INTERIM | more)})


def exception(
    *approvals: tuple[str, str, float], ends: float = 40, begins: float = 1, **more: Any
) -> ExceptionOnRecord:
    """An exception that `a` asked for, approved by those roles, callers and days."""
    body = {
        "model": "m@1",
        "policy": "p",
        "action": "deploy",
        "exception": "interim-measures",
        "standard": "s",
        "measures": "guards at the door",
        "reason": "r",
        "valid_from": write_instant(day(begins)),
        "valid_until": write_instant(day(ends)),
        "requested_by": "a",
    }
    given = [
        {"role": role, "by": by, "given_at": write_instant(day(at)), "exception": "e"}
        for role, by, at in approvals
    ]
    return ExceptionOnRecord(
        parse(REQUEST, body | more, JSON),
        tuple(
            Approved(f"exa_{i}", "d", parse(APPROVAL, one | {"reason": "r"}, JSON))
            for i, one in enumerate(given)
        ),
    )


def asked(
    policy_: PolicyVersion,
    *exceptions: ExceptionOnRecord,
    reports: tuple[SafeguardReport, ...] = (),
    at: float = 10,
    action: str = "deploy",
) -> Determination:
    evidence = Evidence(
        safeguards=tuple(Recorded(f"sfg_{i}", "d", one) for i, one in enumerate(reports)),
        exceptions=tuple(Recorded(f"exc_{i}", "d", one) for i, one in enumerate(exceptions)),
    )
    model = parse(MODEL, {"model": "m@1", "developer": "dev"}, JSON)
    in_force = PolicyInForce(policy_, "sha256:0", policy_.effective, None)
    return decide(Question("m@1", action, "p", day(at)), in_force, model, evidence)


def test_an_approved_exception_lets_a_shortfall_pass_and_says_so() -> None:
    found = asked(version(), exception(*BOTH))

    assert found.decision == "allow_with_conditions"
    (condition,) = found.conditions
    assert (condition.code, condition.clause) == ("interim-measures", "c 7")
    assert condition.pointer == "/standards/s/interim_measures"
    assert "guards at the door" in condition.message
    (shortfall,) = (r for r in found.reasons if r.code.startswith("standard."))
    assert not shortfall.blocks
    assert found.consequences == ()
    assert found.standards[0].met == "unknown"


def test_a_standard_that_is_met_needs_no_exception() -> None:
    found = asked(version(), exception(*BOTH), reports=(reported(1),))

    assert (found.decision, found.conditions) == ("allow", ())


@pytest.mark.parametrize(
    "approvals",
    [
        (),
        (("ceo", "b", 2),),
        (("ceo", "b", 2), ("rso", "b", 3)),
        (("ceo", "a", 2), ("rso", "c", 3)),
        (("ceo", "b", 2), ("rso", "a", 3), ("ceo", "c", 3)),
        (("ceo", "b", 2), ("cfo", "c", 3)),
        (("ceo", "b", 2), ("rso", "c", 11)),
    ],
    ids=[
        "nobody",
        "one role",
        "one caller",
        "who asked",
        "who asked beside two others",
        "another role",
        "not yet",
    ],
)
def test_every_role_must_approve_and_two_callers_besides_who_asked(
    approvals: tuple[tuple[str, str, float], ...],
) -> None:
    found = asked(version(), exception(*approvals))

    assert found.decision == "deny"
    assert [one.code for one in found.consequences] == ["interim-measures"]


def test_one_role_must_approve_by_two_callers_all_the_same() -> None:
    ceo_only = version(approved_by=["ceo"])

    assert asked(ceo_only, exception(("ceo", "b", 2))).decision == "deny"
    assert asked(ceo_only, exception(("ceo", "b", 2), ("ceo", "b", 3))).decision == "deny"
    two = exception(("ceo", "b", 2), ("ceo", "c", 3))
    assert asked(ceo_only, two).decision == "allow_with_conditions"


def test_an_exception_counts_from_its_last_approval_up_to_not_including_its_end() -> None:
    ends = exception(*BOTH, ends=20)
    decisions = [asked(version(), ends, at=at).decision for at in (2.9, 3, 19.9, 20)]

    assert decisions == ["deny", "allow_with_conditions", "allow_with_conditions", "deny"]
    assert asked(version(), ends).valid_until == day(20)
    assert asked(version(), exception(*BOTH, begins=5), at=4).decision == "deny"


def test_an_exception_lasts_no_longer_than_the_policy_lets_it() -> None:
    at_most = version(at_most="P10D")

    assert asked(at_most, exception(*BOTH)).valid_until == day(11)
    assert asked(at_most, exception(*BOTH), at=11).decision == "deny"
    # However late it is approved.
    late = exception(("ceo", "b", 2), ("rso", "c", 12))
    assert asked(at_most, late, at=12).decision == "deny"


def test_of_several_exceptions_the_one_that_lasts_longest_counts() -> None:
    found = asked(version(), exception(*BOTH, ends=20), exception(*BOTH, ends=30))

    assert found.valid_until == day(30)


@pytest.mark.parametrize(
    "other",
    [
        {"action": "train"},
        {"policy": "q"},
        {"standard": "t"},
        {"exception": "break-glass"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_an_exception_is_for_one_action_policy_and_standard_and_one_that_is_permitted(
    other: Json,
) -> None:
    assert asked(version(), exception(*BOTH, **other)).decision == "deny"


def test_no_exception_counts_where_the_policy_permits_none() -> None:
    assert asked(policy(), exception(*BOTH)).decision == "deny"


def permitted(**more: Any) -> PolicyVersion:
    """A version with an exception of its own that stands for `s`."""
    rivals = {
        "statement": "s",
        "clause": "fn 17",
        "stands_for": ["s"],
        "approved_by": ["ceo"],
        "at_most": "P30D",
    }
    return policy(exceptions={"rivals": rivals | more})


def test_a_policy_may_permit_an_exception_of_its_own() -> None:
    by_two = exception(("ceo", "b", 2), ("ceo", "c", 2), exception="rivals")
    found = asked(permitted(), by_two)

    assert found.decision == "allow_with_conditions"
    assert [(c.code, c.pointer, c.clause) for c in found.conditions] == [
        ("exception:rivals", "/exceptions/rivals", "fn 17")
    ]
    assert found.valid_until == day(31)
    assert asked(permitted(actions=["train"]), by_two).decision == "deny"
    assert asked(permitted(actions=["deploy"]), by_two).decision == "allow_with_conditions"


WEAKER: Json = {
    "s": standard(subsumes=["w"], interim_measures=INTERIM),
    "w": standard(),
}


def both_required() -> PolicyVersion:
    requires = [{"standard": name, "before": ["deploy"]} for name in ("s", "w")]
    return policy(standards=WEAKER, thresholds={"T": threshold(requires=requires)})


def test_an_excepted_standard_stands_for_no_weaker_one() -> None:
    """Else nothing at all would be asked where only the strongest may be missing."""
    found = asked(both_required(), exception(*BOTH))

    assert found.decision == "deny"
    assert [(s.id, s.met) for s in found.standards] == [("s", "unknown"), ("w", "unknown")]
    assert [r.pointer for r in found.reasons if r.blocks] == ["/standards/w"]
    weaker_met = asked(both_required(), exception(*BOTH), reports=(reported(1, standard="w"),))
    assert weaker_met.decision == "allow_with_conditions"


def test_a_stronger_standard_that_is_met_stands_for_the_weaker_one_beside_an_exception() -> None:
    found = asked(both_required(), exception(*BOTH), reports=(reported(1),))

    assert found.decision == "allow"
    assert [s.id for s in found.standards] == ["s"]
