"""A version denies an action exactly where one of its clauses does, whatever the evidence."""

from dataclasses import replace

import pytest
from hypothesis import given, settings

from app.determination.clauses import clauses
from app.determination.record import Determination
from app.policy.timeline import PolicyInForce
from app.policy.version import Baseline, PolicyVersion
from tests.determination.test_reading import (
    BY_LINE,
    RULED_OUT,
    Json,
    policy,
    standard,
    threshold,
)
from tests.laws.situations import Situation, law, situations


def without_orders(situation: Situation) -> Situation:
    """But for orders: they are in every clause, and what they require is in none."""
    return replace(situation, evidence=replace(situation.evidence, orders=()))


def under(version: PolicyVersion, situation: Situation) -> Determination:
    """What is decided as if that version were in force."""
    in_force = PolicyInForce(version, "", version.effective, situation.policy.until)
    return replace(situation, policy=in_force).decide()


def answers(situation: Situation) -> list[tuple[PolicyVersion, Determination]]:
    """What each clause says."""
    of = clauses(situation.version, situation.question.action)
    return [(clause, under(clause, situation)) for clause in of]


@given(situations().map(without_orders))
@settings(law, max_examples=200)
def test_a_version_denies_where_one_of_its_clauses_does(situation: Situation) -> None:
    denied = any(answer.decision == "deny" for _, answer in answers(situation))

    assert denied is (situation.decide().decision == "deny")


@given(situations().map(without_orders))
@settings(law, max_examples=200)
def test_a_clause_reads_the_evidence_as_the_whole_version_does(situation: Situation) -> None:
    """Each threshold that is left in it, each standard that is required, and whether to reassess."""
    whole = situation.decide()
    statuses = {one.id: (one.status, one.binds) for one in whole.thresholds}
    met = {one.id: (one.met, one.missing) for one in whole.standards if one.required}

    for clause, answer in answers(situation):
        kept = clause.thresholds
        read = {one.id: (one.status, one.binds) for one in answer.thresholds if one.id in kept}
        assert read == {name: status for name, status in statuses.items() if name in kept}
        for one in answer.standards:
            assert met.get(one.id, (one.met, one.missing)) == (one.met, one.missing)
        assert clause.reassess is None or answer.reassessment == whole.reassessment


@given(situations().map(without_orders))
@settings(law, max_examples=200)
def test_every_reason_that_closes_the_gate_closes_that_of_a_clause(situation: Situation) -> None:
    """By the same words: a clause has them all, but for the position of one in a list."""
    closing = {reason.message for reason in situation.decide().reasons if reason.blocks}
    by_clause = {
        reason.message
        for _, answer in answers(situation)
        for reason in answer.reasons
        if reason.blocks
    }

    assert closing <= by_clause


def asks(clause: PolicyVersion) -> tuple[str, ...]:
    """What the clause asks for before `deploy`, in a word or two."""
    action = clause.actions["deploy"]
    said = [f"baseline: {one.standard}" for one in (clause.baseline or NOTHING).requires]
    for name, one in clause.thresholds.items():
        said += [f"{name}: {required.standard}" for required in one.requires]
        said += [f"{name}: never" for _ in one.prohibits]
    said += [f"signed by {one.role}" for one in action.sign_offs]
    said += [f"not reversed by {one.role}" for one in action.may_reverse]
    return (*said, *(need for need in action.needs if need != "required-standards"))


NOTHING = Baseline(clause="c", level="L1")
REASSESS = {
    "clause": "c",
    "when": {"elapsed": {"at_least": "P1Y", "since_assessment": "comprehensive"}},
}


def test_each_thing_that_can_close_the_gate_is_one_clause() -> None:
    said = {"statement": "s", "clause": "c"}
    before = [{"standard": name, "before": ["train", "deploy"]} for name in ("s", "t")]
    version = policy(
        standards={"s": standard(), "t": standard()},
        baseline={"clause": "c", "requires": before[:1]},
        thresholds={
            "T": threshold(requires=before),
            "U": threshold(prohibits=[said | {"actions": ["train", "deploy"]}]),
        },
        reassess=REASSESS,
        actions={
            "train": said | {"needs": ["required-standards"]},
            "deploy": said
            | {
                "needs": ["required-standards", "reassessment-not-due"],
                "sign_offs": [{"role": "ceo", "verb": "approved", "clause": "c"}],
                "may_reverse": [{"role": "rso", "clause": "c"}],
            },
        },
    )

    assert [asks(one) for one in clauses(version, "deploy")] == [
        ("baseline: s",),
        ("T: s",),
        ("T: t",),
        ("U: s",),
        ("U: never",),
        ("signed by ceo",),
        ("not reversed by rso",),
        ("reassessment-not-due",),
    ]


def test_what_stands_for_a_standard_stays_with_it() -> None:
    """And of what lets a shortfall pass only what is for this one."""
    said = {"statement": "s", "clause": "c", "approved_by": ["ceo"]}
    version = policy(
        standards={
            "s": standard(interim_measures=said),
            "stronger": standard(subsumes=["s", "other"], interim_measures=said),
            "strongest": standard(subsumes=["stronger"]),
            "other": standard(),
        },
        exceptions={
            "both": said | {"stands_for": ["s", "other"], "at_most": "P1D"},
            "another": said | {"stands_for": ["other"], "at_most": "P1D"},
        },
    )

    (clause,) = clauses(version, "deploy")

    assert set(clause.standards) == {"s", "stronger", "strongest"}
    assert clause.standards["stronger"].subsumes == ("s",)
    assert [n for n, one in clause.standards.items() if one.interim_measures is not None] == ["s"]
    assert {n: one.stands_for for n, one in (clause.exceptions or {}).items()} == {"both": ("s",)}


def reading(ruled_out: Json) -> PolicyVersion:
    """The one clause of a version in which but for `T` no threshold asks for anything."""
    silent = threshold(requires=[], prohibits=[])
    named = {"threshold_ruled_out": "W"}
    carried = {"any": [RULED_OUT, {"carried_over": {"by": ["ceo"]}}]}
    version = policy(
        reassess=REASSESS,
        thresholds={
            "T": threshold(ruled_out={"all": [RULED_OUT, ruled_out]}),
            "W": silent | {"ruled_out": {"any": [RULED_OUT, BY_LINE["ruled_out"]]}},
            "X": silent | {"ruled_out": {"any": [RULED_OUT, named]}},
            "C": silent | {"ruled_out": carried},
        },
    )
    (clause,) = clauses(version, "deploy")
    return clause


def test_a_clause_keeps_the_thresholds_that_it_reads() -> None:
    """What is found against one that the same ruling out rules out counts, and so it is read."""
    assert set(reading(RULED_OUT).thresholds) == {"T"}
    clause = reading({"threshold_ruled_out": "W"})
    assert (set(clause.thresholds), set(clause.lines)) == ({"T", "W", "X"}, {"up"})
    assert (clause.reassess, reading(RULED_OUT).lines) == (None, {})


@pytest.mark.parametrize(
    "clock", [{"reassessment": "not-due"}, {"sign_off": "approved", "by": "ceo"}], ids=str
)
def test_a_clause_with_a_clock_keeps_what_may_be_carried_over(clock: Json) -> None:
    """For with it comes the assessment that it was found in."""
    clause = reading(clock)

    assert set(clause.thresholds) == {"T", "C"}
    assert (clause.reassess is not None) is ("reassessment" in clock)


def test_an_action_that_is_not_named_has_the_version_as_its_clause() -> None:
    version = policy()

    assert clauses(version, "flight") == (version,)
