"""Whom a version speaks of: what it says of a model that it does not, and of one nobody measured."""

from decimal import Decimal
from typing import Any

import pytest

from app.assessment.evidence import Evidence
from app.determination.decide import Question, decide, scope_of
from app.determination.record import Determination
from app.parsing import parse
from app.policy.timeline import PolicyInForce
from app.policy.version import PolicyVersion
from app.vocabulary import JSON, Truth
from tests.determination.test_reading import MODEL, Json, day, policy

REVENUE: Json = {"revenue": {"title": "t", "unit": "USD per year"}}


def scoped(when: Json | None = None, **more: Any) -> PolicyVersion:
    scope = more | ({} if when is None else {"when": when})
    return policy(applies_to=scope, facts=REVENUE)


def asked(
    version: PolicyVersion,
    revenue: int | None = None,
    flop: int | None = None,
    action: str = "deploy",
    developer: str = "dev",
) -> tuple[Determination, Truth]:
    facts = {} if revenue is None else {"revenue": Decimal(revenue)}
    body = {"model": "m@1", "developer": developer, "facts": facts, "training_compute_flop": flop}
    model = parse(MODEL, body, JSON)
    in_force = PolicyInForce(version, "sha256:0", version.effective, None)
    found = decide(Question("m@1", action, "p", day(1)), in_force, model, Evidence())
    return found, scope_of(version, model, action)


@pytest.mark.parametrize(
    ("bound", "inside"),
    [
        ("above", (False, False, True)),
        ("at_least", (False, True, True)),
        ("at_most", (True, True, False)),
        ("below", (True, False, False)),
    ],
)
def test_a_fact_is_held_against_each_bound(bound: str, inside: tuple[bool, ...]) -> None:
    version = scoped({"fact": "revenue", bound: "5"})
    found = [asked(version, revenue) for revenue in (4, 5, 6)]

    assert tuple(scope is Truth.YES for _, scope in found) == inside
    codes = [answer.reasons[0].code for answer, _ in found]
    assert tuple(code != "policy.does_not_apply" for code in codes) == inside


def test_a_fact_that_is_not_on_record_leaves_the_model_in_scope_and_says_so() -> None:
    version = scoped({"fact": "revenue", "above": "5"})
    unknown, scope = asked(version)

    assert scope is Truth.UNKNOWN
    assert "scope_unknown" in unknown.flags
    assert unknown.thresholds
    known, _ = asked(version, 6)
    assert "scope_unknown" not in known.flags
    assert (unknown.decision, unknown.reasons) == (known.decision, known.reasons)


def test_what_is_known_may_settle_what_is_not() -> None:
    large = {"fact": "training_compute_flop", "at_least": "1e26"}
    rich = {"fact": "revenue", "above": "5"}

    assert asked(scoped({"all": [large, rich]}), revenue=1)[1] is Truth.NO
    assert asked(scoped({"all": [large, rich]}), revenue=6)[1] is Truth.UNKNOWN
    assert asked(scoped({"any": [large, rich]}), revenue=6)[1] is Truth.YES
    assert asked(scoped({"not": rich}), revenue=6)[1] is Truth.NO
    assert asked(scoped({"not": rich}))[1] is Truth.UNKNOWN


@pytest.mark.parametrize(
    ("version", "more", "place", "whom"),
    [
        (
            scoped(developer=["dev"]),
            {"developer": "other"},
            "/applies_to/developer",
            "models of `other`",
        ),
        (scoped({"fact": "revenue", "above": "5"}), {"revenue": 5}, "/applies_to/when", "`m@1`"),
        (
            scoped(developer=["dev"], actions=["deploy", "train"]),
            {"action": "flight"},
            "/applies_to/actions",
            "this action",
        ),
    ],
    ids=["developer", "when", "actions"],
)
def test_an_answer_says_why_the_policy_does_not_apply(
    version: PolicyVersion, more: dict[str, Any], place: str, whom: str
) -> None:
    found, scope = asked(version, **more)

    assert scope is Truth.NO
    assert found.decision == "deny"
    assert [(r.code, r.pointer) for r in found.reasons] == [("policy.does_not_apply", place)]
    assert found.reasons[0].message.endswith(f"does not speak of {whom}")


def test_an_action_that_the_scope_leaves_open_is_denied_and_not_passed_over() -> None:
    found, scope = asked(scoped(developer=["dev"]), action="flight")

    assert scope is Truth.YES
    assert [r.code for r in found.reasons] == ["action.unknown"]
