"""The proof of a version: a sound one holds, and each way to break a law by form is caught by what
the engine then answers. The unsound trees are made past the language, which would refuse them.
"""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.determination.proof import Proof, TreeProved, proof_text, prove
from app.policy.conditions import (
    AllOf,
    AnyOf,
    AtLeast,
    Condition,
    FindingIs,
    ModelFact,
    Not,
    SignedOff,
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
