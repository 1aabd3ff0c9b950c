"""A version denies an action exactly where one of its clauses does, whatever the evidence."""

from dataclasses import replace

from hypothesis import find, given, settings

from app.determination.clauses import clauses
from app.policy.timeline import PolicyInForce
from app.policy.version import PolicyVersion
from tests.determination.test_reading import policy, standard, threshold
from tests.laws.situations import Situation, law, situations


def without_required_orders(situation: Situation) -> Situation:
    """But for orders that require a standard: what they require is no clause of the version."""
    orders = tuple(one for one in situation.evidence.orders if one.item.order.effect != "require")
    return replace(situation, evidence=replace(situation.evidence, orders=orders))


def under(version: PolicyVersion, situation: Situation) -> str:
    """What is decided as if that version were in force."""
    in_force = PolicyInForce(version, "", version.effective, situation.policy.until)
    return replace(situation, policy=in_force).decide().decision


def denying(situation: Situation) -> list[PolicyVersion]:
    """The clauses that deny it."""
    of = clauses(situation.version, situation.question.action)
    return [clause for clause in of if under(clause, situation) == "deny"]


@given(situations().map(without_required_orders))
@settings(law, max_examples=300)
def test_a_version_denies_where_one_of_its_clauses_does(situation: Situation) -> None:
    assert bool(denying(situation)) is (situation.decide().decision == "deny")


def test_one_of_many_clauses_may_deny_alone() -> None:
    """So that the law above is not about versions with one clause only."""

    def alone(situation: Situation) -> bool:
        many = len(clauses(situation.version, situation.question.action)) > 2
        return many and len(denying(situation)) == 1

    find(situations().map(without_required_orders), alone, settings=settings(law, max_examples=500))


def test_each_threshold_that_asks_for_a_standard_is_a_clause() -> None:
    """And each of them has of the version what it reads, and no more that could close the gate."""
    version = policy(
        thresholds={"T": threshold(), "U": threshold()},
        standards={"s": standard(), "stronger": standard(subsumes=["s"]), "other": standard()},
    )

    of = clauses(version, "deploy")

    assert [set(one.standards) for one in of] == [{"s", "stronger"}] * 2
    asking = [[name for name, t in one.thresholds.items() if t.requires] for one in of]
    assert asking == [["T"], ["U"]]


def test_an_action_that_is_not_named_has_the_version_as_its_clause() -> None:
    version = policy()

    assert clauses(version, "flight") == (version,)
