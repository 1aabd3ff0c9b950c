"""The proof of a version: a sound one holds, and each way to break a law by form is caught by what
the engine then answers. The unsound trees are made past the language, which would refuse them.
"""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.determination import proof as proof_module
from app.determination.coverage import Coverage, Mutant
from app.determination.proof import Proof, TreeProved, proof_text, prove, with_table
from app.policy.conditions import (
    AllOf,
    AnyOf,
    AtLeast,
    Condition,
    FindingIs,
    ModelFact,
    Not,
    ReassessmentNotDue,
    SignedOff,
    ThresholdRuledOut,
)
from app.policy.language import read_policy
from app.policy.version import PolicyVersion, Prohibition
from app.vocabulary import Outcome, Verb

SAMPLE = read_policy((Path(__file__).parents[1] / "policy" / "valid.yaml").read_bytes(), "yaml")
REACHED = FindingIs(finding=Outcome.REACHED)
RULED_OUT = FindingIs(finding=Outcome.RULED_OUT, by=("ceo",))
BIG = ModelFact(fact="training_compute_flop", at_least=Decimal(10))


def with_threshold(**changed: Any) -> PolicyVersion:
    """The sample with something else in its first threshold, checked by nobody."""
    threshold = SAMPLE.thresholds["BIO-1"].model_copy(update=changed)
    thresholds = {**SAMPLE.thresholds, "BIO-1": threshold}
    return SAMPLE.model_copy(update={"thresholds": thresholds})


def with_weaker(tree: Condition, weaker: Condition) -> PolicyVersion:
    """The sample with those two ruling outs, of which the first may rest on the second."""
    changed = with_threshold(ruled_out=tree)
    second = changed.thresholds["BIO-2"].model_copy(update={"ruled_out": weaker})
    return changed.model_copy(update={"thresholds": {**changed.thresholds, "BIO-2": second}})


def tree_at(proof: Proof, pointer: str) -> TreeProved:
    """What is proved of the condition that stands there."""
    (tree,) = (tree for tree in proof.trees if tree.pointer == pointer)
    return tree


def of_ruled_out(tree: Condition) -> TreeProved:
    """What is proved of that condition as the first threshold's ruling out."""
    proof = prove(with_threshold(ruled_out=tree))
    found = tree_at(proof, "/thresholds/BIO-1/ruled_out")
    assert proof.holds is (found.holds and all(one.guarded for one in proof.actions))
    return found


def test_a_sound_version_is_proved() -> None:
    proof = prove(SAMPLE)

    assert proof.holds
    assert all(tree.method == "exhaustive" for tree in proof.trees)
    assert [tree.against for tree in proof.trees] == [()] * 5


def test_the_same_version_has_the_same_proof_byte_for_byte() -> None:
    assert proof_text(prove(SAMPLE)) == proof_text(prove(SAMPLE))


def test_a_reader_sees_what_rests_on_what() -> None:
    tree = tree_at(prove(SAMPLE), "/thresholds/BIO-2/ruled_out")

    assert [(leaf.polarity, leaf.without_evidence) for leaf in tree.leaves] == [
        ("permits", ("unknown",)),
        ("permits", ("unknown",)),
        ("fact", ("no", "unknown", "yes")),
    ]
    assert tree.leaves[2].pointer == "/thresholds/BIO-2/ruled_out/any/1/at_least_k/of/1/not"
    assert tree.without_evidence == ("unknown",)


def test_not_over_evidence_is_caught() -> None:
    tree = of_ruled_out(Not.model_construct(not_=REACHED))

    assert not tree.well_formed
    assert "`not` stands over evidence" in tree.against[0]


def test_not_over_evidence_that_permits_also_moves_the_tree_the_wrong_way() -> None:
    tree = of_ruled_out(Not.model_construct(not_=RULED_OUT))

    assert not tree.well_formed
    assert not tree.monotone


def test_a_leaf_that_counts_against_is_caught_where_it_would_rule_out() -> None:
    tree = of_ruled_out(AnyOf(any=(RULED_OUT, REACHED)))

    assert tree.well_formed
    assert tree.silent
    assert not tree.monotone
    assert '"reached"' in tree.against[0]


def test_a_leaf_that_permits_is_caught_where_it_would_count_against() -> None:
    proof = prove(with_threshold(reached=AllOf(all=(REACHED, RULED_OUT))))

    assert not tree_at(proof, "/thresholds/BIO-1/reached").monotone
    assert not proof.holds


@pytest.mark.parametrize(
    "empty",
    [
        AllOf.model_construct(all=()),
        AtLeast.model_construct(
            at_least_k=AtLeast(at_least_k={"k": 1, "of": (RULED_OUT,)}).at_least_k.model_copy(  # type: ignore[arg-type]
                update={"k": 0}
            )
        ),
        AnyOf(any=(RULED_OUT, AllOf.model_construct(all=()))),
    ],
    ids=["all of nothing", "none of one", "all of nothing, within"],
)
def test_a_group_that_holds_by_vacuity_is_caught_twice(empty: Condition) -> None:
    tree = of_ruled_out(empty)

    assert not tree.well_formed
    assert not tree.silent
    assert tree.without_evidence == ("yes",)


def test_any_of_nothing_is_caught_though_it_rules_nothing_out() -> None:
    tree = of_ruled_out(AnyOf.model_construct(any=()))

    assert not tree.well_formed
    assert tree.silent


def test_a_fact_alone_that_rules_out_is_caught() -> None:
    tree = of_ruled_out(Not(**{"not": BIG}))

    assert tree.well_formed
    assert tree.monotone
    assert not tree.silent
    assert tree.without_evidence == ("no", "unknown", "yes")


LARGE = tuple(FindingIs(finding=Outcome.RULED_OUT, by=(f"role-{i}",)) for i in range(11))
SIGNED = SignedOff(sign_off=Verb.REASSESS, by="rso")


def test_a_tree_too_large_to_try_is_argued_from_its_structure() -> None:
    tree = of_ruled_out(AllOf(all=LARGE))

    assert (tree.method, tree.valuations) == ("structural", 0)
    assert tree.holds


@pytest.mark.parametrize(
    "added", [REACHED, SIGNED, Not.model_construct(not_=RULED_OUT)], ids=["reached", "asked", "not"]
)
def test_the_argument_from_structure_catches_the_same(added: Condition) -> None:
    tree = of_ruled_out(AllOf(all=(*LARGE, added)))

    assert tree.method == "structural"
    assert not tree.monotone


# --- actions -----------------------------------------------------------------------------------


def test_each_action_is_denied_on_silence_and_opened_by_a_set_that_lacks_nothing() -> None:
    for action in prove(SAMPLE).actions:
        assert action.without_evidence == ("deny",)
        assert action.witness is not None
        assert action.witness.evidence


def test_an_action_that_silence_leaves_open_names_the_clause() -> None:
    threshold = SAMPLE.thresholds["BIO-1"]
    silent = threshold.not_ruled_out.model_copy(
        update={"means": "does-not-bind", "clause": "section 9"}
    )

    proof = prove(with_threshold(not_ruled_out=silent))

    (training,) = (one for one in proof.actions if one.action == "training")
    assert training.without_evidence == ("allow",)
    assert training.guarded
    assert training.open_by == ("section 9",)


def test_an_action_that_nothing_opens_says_what_closes_it() -> None:
    prohibition = Prohibition(actions=("training",), statement="s", clause="section 8")
    changed = with_threshold(ruled_out=REACHED, prohibits=(prohibition,))

    (training,) = (one for one in prove(changed).actions if one.action == "training")

    assert training.witness is None
    assert any("section 8" in why for why in training.closed_by)


def test_what_closes_an_action_is_not_that_it_is_out_of_scope() -> None:
    """The version speaks of large models alone: the sorts that are not large say nothing of it."""
    prohibition = Prohibition(actions=("training",), statement="s", clause="section 8")
    changed = with_threshold(ruled_out=REACHED, prohibits=(prohibition,))
    scope = changed.applies_to.model_copy(update={"when": BIG})

    proof = prove(changed.model_copy(update={"applies_to": scope}))
    (training,) = (one for one in proof.actions if one.action == "training")

    assert tree_at(proof, "/applies_to/when").holds
    assert training.models > 1
    assert any("section 8" in why for why in training.closed_by)
    assert not any("does_not_apply" in why for why in training.closed_by)


def test_a_witness_names_the_facts_of_the_model_that_it_was_found_for() -> None:
    """With no fact on record the threshold can never be ruled out here, so the model has one."""
    small = Not(**{"not": BIG})
    version = with_threshold(ruled_out=AllOf(all=(RULED_OUT, small)))

    proof = prove(version)
    witnesses = {one.action: one.witness for one in proof.actions}

    assert all(witness is not None for witness in witnesses.values())
    needing = [one for one in witnesses.values() if one is not None and one.facts]
    assert all(set(one.facts) == {"training_compute_flop"} for one in needing)


def test_a_tree_too_large_to_try_may_have_facts_under_not() -> None:
    tree = of_ruled_out(AllOf(all=(*LARGE, Not(**{"not": AnyOf(any=(BIG, BIG))}))))

    assert tree.method == "structural"
    assert tree.holds


def test_trees_of_one_shape_are_each_judged() -> None:
    """The second is not tried again, and it is told of its own leaf."""
    threshold = SAMPLE.thresholds["BIO-1"]
    trees = [AnyOf(any=(RULED_OUT, FindingIs(finding=Outcome.REACHED, by=(by,)))) for by in "ab"]
    thresholds = {
        name: threshold.model_copy(update={"ruled_out": tree})
        for name, tree in zip(("BIO-1", "BIO-2"), trees, strict=True)
    }

    proof = prove(SAMPLE.model_copy(update={"thresholds": thresholds}))

    for name, by in (("BIO-1", "a"), ("BIO-2", "b")):
        (why,) = tree_at(proof, f"/thresholds/{name}/ruled_out").against
        assert f'"by": ["{by}"]' in why


def test_the_proof_tells_what_the_decision_table_does_not_see() -> None:
    survivors = tuple(Mutant(place, "a", "b", b"") for place in ("/b", "/a", "/b"))
    proof = with_table(prove(SAMPLE), Coverage(7, 10, survivors))

    assert proof.decision_table is not None
    assert proof.decision_table.model_dump() == {
        "mutants": 10,
        "killed": 7,
        "survivors": ("/a", "/b"),
    }
    assert prove(SAMPLE).decision_table is None


# --- where there are too many sorts of model to ask about all ----------------------------------


@pytest.fixture
def one_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few sorts of model are asked about that a version with facts has more."""
    monkeypatch.setattr(proof_module, "MOST_SORTS", 1)


UNDUE = ReassessmentNotDue(reassessment="not-due")
TOGETHER: dict[str, Condition] = {
    "all": AllOf(all=(RULED_OUT, BIG)),
    "any": AnyOf(any=(RULED_OUT, BIG)),
    "two of three": AtLeast(at_least_k={"k": 2, "of": (RULED_OUT, BIG, Not(**{"not": BIG}))}),  # type: ignore[arg-type]
    "not": Not(**{"not": BIG}),
    "not due": UNDUE,
    "all that is not due": AllOf(all=(BIG, UNDUE)),
    "another": ThresholdRuledOut(threshold_ruled_out="BIO-2"),
}


@pytest.mark.parametrize("tree", TOGETHER.values(), ids=TOGETHER)
def test_nothing_that_a_tree_may_read_is_left_out(
    tree: Condition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each leaf is then taken for itself, so that it may be said to read more, never less."""
    version = with_weaker(tree, AnyOf(any=(RULED_OUT, BIG)))
    exact = {one.pointer: one for one in prove(version).trees}
    monkeypatch.setattr(proof_module, "MOST_SORTS", 1)

    for one in prove(version).trees:
        assert set(exact[one.pointer].without_evidence) <= set(one.without_evidence)
        assert exact[one.pointer].silent or not one.silent


@pytest.mark.usefixtures("one_sort")
def test_a_sound_version_is_proved_by_what_its_leaves_may_read_too() -> None:
    proof = prove(SAMPLE)

    assert proof.holds
    assert not any(one.exhaustive for one in proof.actions)
    for tree in proof.trees:
        assert tree.rule != "ruled_out" or "yes" not in tree.without_evidence


@pytest.mark.usefixtures("one_sort")
@pytest.mark.parametrize(
    ("tree", "truths"),
    [
        (AllOf(all=(RULED_OUT, BIG)), ("no", "unknown")),
        (AnyOf(any=(RULED_OUT, BIG)), ("unknown", "yes")),
        (AllOf(all=(BIG, Not(**{"not": BIG}))), ("no", "unknown", "yes")),
        (AtLeast(at_least_k={"k": 1, "of": (BIG, RULED_OUT)}), ("unknown", "yes")),  # type: ignore[arg-type]
        (AtLeast(at_least_k={"k": 2, "of": (BIG, RULED_OUT)}), ("no", "unknown")),  # type: ignore[arg-type]
        (Not(**{"not": BIG}), ("no", "unknown", "yes")),
    ],
)
def test_a_fact_may_then_read_anything_and_evidence_that_is_not_there_nothing(
    tree: Condition, truths: tuple[str, ...]
) -> None:
    assert of_ruled_out(tree).without_evidence == truths


@pytest.mark.usefixtures("one_sort")
def test_what_is_never_due_is_not_said_to_be_undue() -> None:
    """A version without a trigger has nothing of which to say that it is not due."""
    version = with_threshold(ruled_out=AllOf(all=(UNDUE, BIG))).model_copy(
        update={"reassess": None}
    )

    assert tree_at(prove(version), "/thresholds/BIO-1/ruled_out").without_evidence == (
        "no",
        "unknown",
    )


@pytest.mark.usefixtures("one_sort")
def test_a_fact_that_makes_a_reassessment_due_makes_it_undue_too() -> None:
    due = SAMPLE.reassess.model_copy(update={"when": BIG})  # type: ignore[union-attr]
    version = with_threshold(ruled_out=UNDUE).model_copy(update={"reassess": due})
    tree = tree_at(prove(version), "/thresholds/BIO-1/ruled_out")

    assert tree.without_evidence == ("no", "unknown", "yes")
    assert not tree.silent


@pytest.mark.usefixtures("one_sort")
def test_what_another_threshold_may_read_is_what_this_one_may() -> None:
    """A weaker one that rules itself out by a fact alone clears the one that rests on it."""
    weaker = ThresholdRuledOut(threshold_ruled_out="BIO-2")

    by_fact = tree_at(
        prove(with_weaker(weaker, Not(**{"not": BIG}))), "/thresholds/BIO-1/ruled_out"
    )
    by_people = tree_at(prove(with_weaker(weaker, RULED_OUT)), "/thresholds/BIO-1/ruled_out")

    assert (by_fact.without_evidence, by_fact.silent) == (("unknown", "yes"), False)
    assert (by_people.without_evidence, by_people.silent) == (("unknown",), True)


@pytest.mark.parametrize(
    ("fact", "known"), [("training_compute_flop", "10"), ("monthly_users", "10")]
)
def test_a_witness_is_found_for_the_model_whose_facts_open_the_action(
    fact: str, known: str
) -> None:
    """Training is prohibited until the threshold is ruled out, for which the fact must be known."""
    prohibition = Prohibition(actions=("training",), statement="s", clause="section 8")
    large = ModelFact(fact=fact, at_least=Decimal(10))
    version = with_threshold(ruled_out=AllOf(all=(RULED_OUT, large)), prohibits=(prohibition,))

    (training,) = (one for one in prove(version).actions if one.action == "training")

    assert training.witness is not None
    assert Decimal(training.witness.facts[fact]) >= Decimal(known)
