"""Who found what permits and approved it, and whether anybody else did: by principal."""

from typing import Any

import pytest

from app.assessment.assessment import Assessment
from app.assessment.evidence import Evidence, OtherModel, Recorded
from app.assessment.sign_offs import SignOff
from app.determination.alone import Alone, approved_alone
from app.parsing import parse
from app.policy.version import PolicyVersion
from app.vocabulary import JSON
from tests.determination.test_reading import MODEL, Json, assessed, day, measured, policy, signed

Said = tuple[str, Assessment | SignOff]
ALICE, BOB, TEAM, PROGRAM = "person:alice", "person:bob", "team:red", "service:ci"
RULES_OUT = assessed(1, {"T": "ruled-out"})


def asking(*sign_offs: Json) -> PolicyVersion:
    """A version in which `deploy` waits for these, and `train` for nobody."""
    plain = {"statement": "s", "clause": "c", "needs": ["required-standards"]}
    return policy(actions={"deploy": plain | {"sign_offs": list(sign_offs)}, "train": plain})


APPROVED: Json = {"role": "ceo", "verb": "approved", "clause": "c"}


def alone(
    *said: Said, version: PolicyVersion | None = None, others: tuple[Said, ...] = (), **more: Any
) -> Alone | None:
    """What rests on one alone where each said that; each used another key every time."""
    recorded_by: dict[str, str] = {}

    def kept(kind: type, prefix: str, by_whom: tuple[Said, ...]) -> tuple[Recorded[Any], ...]:
        pieces = [(by, item) for by, item in by_whom if isinstance(item, kind)]
        for i, (by, _) in enumerate(pieces):
            recorded_by[f"{prefix}_{i}"] = f"{by}/key_{i}"
        return tuple(Recorded(f"{prefix}_{i}", "d", item) for i, (_, item) in enumerate(pieces))

    model = parse(MODEL, {"model": "m@1", "developer": "dev"}, JSON)
    evidence = Evidence(
        kept(Assessment, "asm", said),
        sign_offs=kept(SignOff, "sgn", said),
        others={"o@1": OtherModel(model, Evidence(kept(Assessment, "oth", others)))},
    )
    action, at = more.get("action", "deploy"), day(more.get("at", 10))
    return approved_alone(version or asking(APPROVED), model, evidence, action, at, recorded_by)


def test_whoever_found_and_alone_approved_is_named_with_what_they_said() -> None:
    found, approved = (ALICE, RULES_OUT), (ALICE, signed(2))

    assert alone(found, approved) == Alone(("sgn_0",), ("asm_0",))
    assert alone((BOB, RULES_OUT), approved) is None
    assert alone(found) is None
    assert alone((BOB, RULES_OUT), found, approved, approved) == Alone(
        ("sgn_0", "sgn_1"), ("asm_1",)
    )


def test_anybody_else_s_approval_in_any_role_is_enough() -> None:
    """Two people who found and approved watch one another."""
    both: list[Said] = [(ALICE, RULES_OUT), (BOB, RULES_OUT), (ALICE, signed(2))]

    assert alone(*both, (BOB, signed(3))) is None
    assert alone(*both, (BOB, signed(3, role="rso"))) is None
    assert alone(*both, (BOB, signed(3, verb="decided"))) is None
    assert alone(*both, (BOB, signed(3, verb="recommended"))) is not None
    assert alone(*both, (BOB, signed(3, action="train"))) is not None
    assert alone(*both, (BOB, signed(3, policy="q"))) is not None


def test_only_what_stands_is_an_approval() -> None:
    """It has begun, was not taken back by its role, and is no older than the version lets it be."""
    both: list[Said] = [(ALICE, RULES_OUT), (ALICE, signed(2))]
    short = asking(APPROVED | {"max_age": "P5D"}, APPROVED | {"role": "rso"})
    back = signed(4, role="rso", verb="reversed")

    assert alone(*both, (BOB, signed(11))) is not None
    assert alone(*both, (BOB, signed(10))) is None
    assert alone(*both, (BOB, signed(3, role="rso")), (BOB, back)) is not None
    assert alone(*both, (BOB, signed(5, role="rso")), (BOB, back)) is None
    recent = (ALICE, signed(9))
    assert alone((ALICE, RULES_OUT), recent, (BOB, signed(5)), version=short) is not None
    assert alone((ALICE, RULES_OUT), recent, (BOB, signed(5.1)), version=short) is None
    assert alone((ALICE, RULES_OUT), (ALICE, signed(5)), version=short) is None


@pytest.mark.parametrize("verb", ["approved", "decided"])
def test_nobody_is_held_to_it_where_no_approval_is_asked(verb: str) -> None:
    both: list[Said] = [(ALICE, RULES_OUT), (ALICE, signed(2)), (ALICE, signed(2, action="train"))]

    assert alone(*both, version=asking(APPROVED | {"verb": verb})) is not None
    assert alone(*both, version=asking(APPROVED | {"verb": "prepared"})) is None
    assert alone(*both, version=asking()) is None
    assert alone(*both, action="train") is None
    assert alone(*both, action="none") is None


@pytest.mark.parametrize(
    ("said", "permits"),
    [
        (assessed(10, {"T": "ruled-out"}), True),
        (assessed(10.1, {"T": "ruled-out"}), False),
        (assessed(1, {"T": "inconclusive"}), False),
        (assessed(1, {"T": "not-ruled-out"}), False),
        (assessed(1, {"T": "reached"}), False),
        (assessed(1, {"T": "carried-over"}), True),
        (measured(1, "3"), True),
        (measured(1, "3.1"), False),
        (measured(1, "3", load_bearing=False), False),
        (measured(1, "3", unit="u"), True),
        (measured(1, "3", unit="v"), False),
        (measured(1, "3", line="elsewhere"), False),
        (measured(1, "3.1", line="down"), True),
        (measured(10.1, "3"), False),
    ],
)
def test_what_permits_is_what_may_rule_out(said: Assessment, permits: bool) -> None:
    """A finding, or a number on the side of its line that does: it need not be what decided."""
    found = alone((ALICE, said), (ALICE, signed(2)))

    assert (found is not None) is permits


def test_a_finding_on_another_policy_permits_nothing_here() -> None:
    finding = {"policy": "q", "threshold": "T", "outcome": "ruled-out", "by": ["ceo"]}
    elsewhere = assessed(1, findings=[finding | {"reason": "r"}])

    assert alone((ALICE, elsewhere), (ALICE, signed(2))) is None


def test_what_was_found_of_a_model_that_is_leaned_on_permits_too() -> None:
    assert alone((BOB, RULES_OUT), (ALICE, signed(2)), others=((ALICE, RULES_OUT),)) == Alone(
        ("sgn_0",), ("oth_0",)
    )


@pytest.mark.parametrize(
    ("finder", "approvers", "is_alone"),
    [
        (TEAM, (ALICE,), True),
        (ALICE, (TEAM,), True),
        (TEAM, (TEAM,), True),
        ("team:blue", (TEAM,), True),
        (ALICE, (ALICE, TEAM), True),
        (TEAM, (ALICE, BOB), False),
        (ALICE, (BOB, TEAM), False),
        (PROGRAM, (ALICE,), False),
        (PROGRAM, (TEAM,), False),
        (PROGRAM, (PROGRAM,), True),
        (ALICE, (PROGRAM,), False),
        (TEAM, (PROGRAM,), True),
    ],
)
def test_a_team_s_key_may_have_been_in_anybody_s_hands(
    finder: str, approvers: tuple[str, ...], is_alone: bool
) -> None:
    """Of two who are no team it is known that they are two."""
    signs = [(by, signed(2)) for by in approvers]

    assert (alone((finder, RULES_OUT), *signs) is not None) is is_alone
