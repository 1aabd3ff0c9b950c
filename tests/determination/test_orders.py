"""Orders from outside the policy: what they stop, limit and require, and what the answer rests on."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from app.assessment.evidence import Evidence, Recorded
from app.assessment.orders import Lifted, Lifting, Order, OrderOnRecord
from app.assessment.safeguards import SafeguardReport
from app.determination.decide import Question, decide
from app.determination.record import Determination
from app.parsing import parse
from app.policy.timeline import PolicyInForce
from app.policy.version import PolicyVersion
from app.vocabulary import JSON, write_instant
from tests.determination.test_reading import MODEL, Json, day, policy, reported, standard

ORDER = TypeAdapter(Order)
LIFTING = TypeAdapter(Lifting)
MET = (reported(1),)
TWO = policy(standards={"s": standard(), "t": standard()})


def order(effect: str, *, lifted: float | None = None, **more: Any) -> OrderOnRecord:
    """An order of a government from day 5 on."""
    body: Json = {
        "model": "m@1",
        "issuer": "the ministry",
        "issued_by": "government",
        "effect": effect,
        "statement": "not in winter",
        "begins_at": write_instant(day(5)),
    }
    if effect == "require":
        body |= {"policy": "p", "standards": ["t"]}
    end = None
    if lifted is not None:
        said = {"reason": "r", "lifted_at": write_instant(day(lifted))}
        end = Lifted("lft_0", "d", parse(LIFTING, said, JSON))
    return OrderOnRecord(parse(ORDER, body | more, JSON), end)


def asked(
    *orders: OrderOnRecord,
    version: PolicyVersion = TWO,
    reports: tuple[SafeguardReport, ...] = MET,
    at: float = 10,
    action: str = "deploy",
) -> Determination:
    evidence = Evidence(
        safeguards=tuple(Recorded(f"sfg_{i}", "d", one) for i, one in enumerate(reports)),
        orders=tuple(Recorded(f"ord_{i}", "d", one) for i, one in enumerate(orders)),
    )
    model = parse(MODEL, {"model": "m@1", "developer": "dev"}, JSON)
    in_force = PolicyInForce(version, "sha256:0", version.effective, None)
    return decide(Question("m@1", action, "p", day(at)), in_force, model, evidence)


def test_an_order_stops_what_the_policy_would_allow() -> None:
    assert (asked().decision, asked().basis) == ("allow", "policy")
    found = asked(order("stop"))

    assert (found.decision, found.basis) == ("deny", "outside-policy")
    (reason,) = (r for r in found.reasons if r.blocks)
    assert (reason.code, reason.evidence) == ("order.stop", ("ord_0",))
    assert "the ministry" in reason.message
    assert "not in winter" in reason.message


def test_what_the_policy_denies_itself_rests_on_the_policy() -> None:
    found = asked(order("stop"), reports=())

    assert (found.decision, found.basis) == ("deny", "policy")


def test_an_order_limits_what_goes_ahead() -> None:
    found = asked(order("limit"))

    assert (found.decision, found.basis) == ("allow_with_conditions", "outside-policy")
    assert [c.code for c in found.conditions] == ["order.limit"]


def test_an_order_stands_from_its_beginning_until_it_is_lifted_on_record() -> None:
    lifted = order("stop", lifted=20)
    decisions = [asked(lifted, at=at).decision for at in (4.9, 5, 19.9, 20)]

    assert decisions == ["allow", "deny", "deny", "allow"]
    assert asked(order("stop"), at=10_000).decision == "deny"


def test_valid_until_foresees_an_order_that_is_still_to_begin() -> None:
    assert asked(order("stop"), at=4).valid_until == day(5)
    assert asked(order("limit"), at=4).valid_until == day(5)
    assert asked(order("stop", actions=["train"]), at=4).valid_until is None


def test_an_order_on_other_actions_does_not_concern_this_one() -> None:
    assert asked(order("stop", actions=["train"])).decision == "allow"
    assert asked(order("stop", actions=["deploy", "train"])).decision == "deny"


@pytest.mark.parametrize(
    ("issued_by", "basis"),
    [
        ("company", "voluntary"),
        ("government", "outside-policy"),
        ("customer", "outside-policy"),
        ("other", "outside-policy"),
    ],
)
def test_an_order_may_require_more_than_the_policy(issued_by: str, basis: str) -> None:
    required = order("require", issued_by=issued_by)
    denied = asked(required)

    assert (denied.decision, denied.basis) == ("deny", basis)
    assert [(s.id, s.met) for s in denied.standards] == [("s", "yes"), ("t", "unknown")]
    met = asked(required, reports=(*MET, reported(1, standard="t")))
    assert (met.decision, met.basis) == ("allow", basis)


def test_an_order_that_asks_for_no_more_than_the_policy_changes_nothing_of_the_basis() -> None:
    found = asked(order("require", standards=["s"]))

    assert (found.decision, found.basis) == ("allow", "policy")
    short = asked(order("require", standards=["s"]), reports=())
    assert (short.decision, short.basis) == ("deny", "policy")


def test_a_standard_that_nobody_defines_can_be_met_by_nothing() -> None:
    found = asked(order("require", standards=["unheard-of"]))

    assert (found.decision, found.basis) == ("deny", "outside-policy")
    assert [r.code for r in found.reasons if r.blocks] == ["order.unknown_standard"]


def test_an_order_under_another_policy_requires_nothing_under_this_one() -> None:
    found = asked(order("require", policy="q"))

    assert found.decision == "allow"
    assert [s.id for s in found.standards] == ["s"]


def test_what_an_order_requires_it_requires_before_its_own_actions_only() -> None:
    found = asked(order("require", actions=["deploy"]))
    (required,) = (s for s in found.standards if s.id == "t")

    assert required.before == ("deploy",)
    assert asked(order("require", actions=["train"])).decision == "allow"
    everything = asked(order("require"))
    (required,) = (s for s in everything.standards if s.id == "t")
    assert required.before == ("deploy", "train")
