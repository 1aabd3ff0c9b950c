"""Findings that lean on another model: what bears, what falls with it, and whose clocks run."""

from typing import Any

import pytest

from app.assessment.assessment import Assessment
from app.assessment.evidence import Evidence, OtherModel, Recorded
from app.determination.decide import Question, decide
from app.determination.record import Determination
from app.parsing import parse
from app.policy.timeline import PolicyInForce
from app.policy.version import PolicyVersion
from app.vocabulary import JSON
from tests.determination.test_reading import MODEL, Json, assessed, day, policy, threshold

BOUNDED: Json = {"bounded_by": {"by": ["ceo"]}}
CARRIED: Json = {"carried_over": {"by": ["ceo"]}}
FOUND: Json = {"finding": "ruled-out", "by": ["ceo", "rso"]}
DUE: Json = {
    "clause": "c",
    "when": {"elapsed": {"at_least": "P20D", "since_assessment": "comprehensive"}},
}


def leaning(leaf: Json, **more: Any) -> PolicyVersion:
    """A version in which the leaf rules `T` out beside a plain ruling out."""
    return policy(thresholds={"T": threshold(ruled_out={"any": [leaf, FOUND]})}, **more)


def leans(at: float, outcome: str, on: str, **more: Any) -> Assessment:
    """An assessment that finds nothing on `T` but that it leans on that model."""
    names = {"bounded-by": "bounded_by", "carried-over": "carried_over_from"}
    finding = {
        "policy": "p",
        "threshold": "T",
        "outcome": outcome,
        "by": ["ceo"],
        "reason": "r",
        names[outcome]: on,
    } | more
    return assessed(at, findings=[finding])


def pieces(model: str, *items: Assessment) -> tuple[Recorded[Assessment], ...]:
    return tuple(Recorded(f"asm_{model}_{i}", "d", item) for i, item in enumerate(items))


def asked(
    version: PolicyVersion,
    own: list[Assessment],
    others: dict[str, list[Assessment]],
    at: float = 10,
) -> Determination:
    """The answer for `m@1`, where that is known of it and of the others."""
    evidence = Evidence(
        pieces("m", *own),
        others={
            name: OtherModel(
                parse(MODEL, {"model": name, "developer": "dev"}, JSON),
                Evidence(pieces(name, *items)),
            )
            for name, items in others.items()
        },
    )
    model = parse(MODEL, {"model": "m@1", "developer": "dev"}, JSON)
    in_force = PolicyInForce(version, "sha256:0", version.effective, None)
    return decide(Question("m@1", "deploy", "p", day(at)), in_force, model, evidence)


def on_t(found: Determination) -> tuple[str, str | None]:
    """Status and basis of `T`."""
    (answer,) = (one for one in found.thresholds if one.id == "T")
    return answer.status, answer.basis


RULED_OUT = {"T": "ruled-out"}


def test_a_bound_holds_where_the_stronger_model_is_ruled_out() -> None:
    found = asked(
        leaning(BOUNDED), [leans(2, "bounded-by", "big@1")], {"big@1": [assessed(1, RULED_OUT)]}
    )

    assert on_t(found) == ("ruled_out", "bounded-by")
    (answer,) = (one for one in found.thresholds if one.id == "T")
    assert answer.evidence == ("asm_big@1_0", "asm_m_0")
    assert "bound_does_not_hold" not in found.flags


@pytest.mark.parametrize(
    "big",
    [
        [],
        [assessed(1, {"T": "inconclusive"})],
        [assessed(1, RULED_OUT), assessed(3, {"T": "not-ruled-out"})],
        [assessed(1, RULED_OUT), assessed(3, {"T": "reached"})],
        [assessed(1, RULED_OUT, by=["rso"])],
        [assessed(11, RULED_OUT)],
    ],
    ids=["nothing", "open", "no longer", "reached since", "by one role", "still to come"],
)
def test_a_bound_falls_with_what_was_found_of_the_stronger_model(big: list[Assessment]) -> None:
    found = asked(leaning(BOUNDED), [leans(2, "bounded-by", "big@1")], {"big@1": big})

    assert on_t(found)[0] == "not_ruled_out"
    assert "bound_does_not_hold" in found.flags


def test_a_bound_needs_all_of_its_roles_its_model_and_no_finding_against_it() -> None:
    version = leaning({"bounded_by": {"by": ["ceo", "rso"]}})
    big = {"big@1": [assessed(1, RULED_OUT)]}
    both = leans(2, "bounded-by", "big@1", by=["ceo", "rso"])

    assert on_t(asked(version, [both], big))[0] == "ruled_out"
    assert on_t(asked(version, [leans(2, "bounded-by", "big@1")], big))[0] == "not_ruled_out"
    assert on_t(asked(version, [both], {}))[0] == "not_ruled_out"
    for outcome in ("inconclusive", "not-ruled-out", "reached"):
        for at, status in ((1, "ruled_out"), (2, "other"), (3, "other")):
            against = assessed(at, {"T": outcome})
            ruled_out = on_t(asked(version, [both, against], big))[0] == "ruled_out"
            # What was found reached stays so, whatever is said of a stronger model.
            assert ruled_out is (status == "ruled_out" and outcome != "reached"), (outcome, at)


def test_a_bound_may_lapse_and_lapses_no_later_than_what_bears_it() -> None:
    version = leaning({"bounded_by": {"by": ["ceo"], "max_age": "P9D"}})
    own, big = [leans(2, "bounded-by", "big@1")], {"big@1": [assessed(1, RULED_OUT)]}

    assert asked(version, own, big).valid_until == day(11)
    assert on_t(asked(version, own, big, at=11))[0] == "not_ruled_out"
    fresh = policy(
        thresholds={"T": threshold(ruled_out={"any": [BOUNDED, FOUND | {"max_age": "P12D"}]})}
    )
    assert asked(fresh, own, big).valid_until == day(13)
    assert on_t(asked(fresh, own, big, at=13))[0] == "not_ruled_out"


def test_valid_until_foresees_what_is_still_to_be_found_of_the_stronger_model() -> None:
    big = {"big@1": [assessed(1, RULED_OUT), assessed(15, {"T": "reached"})]}

    assert asked(leaning(BOUNDED), [leans(2, "bounded-by", "big@1")], big).valid_until == day(15)


def test_models_that_lean_on_one_another_in_a_circle_bear_nothing() -> None:
    circle = {
        "big@1": [leans(1, "bounded-by", "old@1")],
        "old@1": [leans(1, "bounded-by", "big@1")],
    }
    version, own = leaning(BOUNDED), [leans(2, "bounded-by", "big@1")]

    assert on_t(asked(version, own, circle))[0] == "not_ruled_out"
    itself = {"big@1": [leans(1, "bounded-by", "big@1")]}
    assert on_t(asked(version, own, itself))[0] == "not_ruled_out"
    borne = circle | {"old@1": [assessed(1, RULED_OUT)]}
    assert on_t(asked(version, own, borne)) == ("ruled_out", "bounded-by")


def test_what_is_carried_over_is_what_it_is_on_the_other_model() -> None:
    version, own = leaning(CARRIED), [leans(2, "carried-over", "old@1")]

    def carried(*old: Assessment) -> tuple[str, str | None]:
        return on_t(asked(version, own, {"old@1": list(old)}))

    assert carried(assessed(1, RULED_OUT)) == ("ruled_out", "carried-over")
    assert carried(assessed(1, {"T": "inconclusive"})) == ("not_ruled_out", "carried-over")
    assert carried(assessed(1, {"T": "reached"})) == ("not_ruled_out", "carried-over")
    assert on_t(asked(version, own, {})) == ("not_ruled_out", "precaution")


def test_each_leaf_takes_its_own_kind_of_finding() -> None:
    """A bound that a policy does not know is none, even where it knows what is carried over."""
    old = {"old@1": [assessed(1, RULED_OUT)]}

    assert on_t(asked(leaning(CARRIED), [leans(2, "bounded-by", "old@1")], old))[0] != "ruled_out"
    assert on_t(asked(leaning(BOUNDED), [leans(2, "carried-over", "old@1")], old))[0] != "ruled_out"


def test_what_is_carried_over_and_not_ruled_out_outweighs_an_older_ruling_out() -> None:
    """The newest judgement of the same people is "as on that one": reached, or not known there."""
    own = [assessed(1, RULED_OUT), leans(2, "carried-over", "old@1")]
    reached = {"old@1": [assessed(3, {"T": "reached"})]}
    ruled_out = {"old@1": [assessed(1, RULED_OUT)]}

    assert on_t(asked(leaning(CARRIED), own, reached))[0] == "not_ruled_out"
    assert on_t(asked(leaning(CARRIED), own, {"old@1": []}))[0] == "not_ruled_out"
    assert on_t(asked(leaning(CARRIED), own, {}))[0] == "not_ruled_out"
    assert on_t(asked(leaning(CARRIED), own, ruled_out))[0] == "ruled_out"


def test_clocks_run_from_the_assessment_that_is_carried_over() -> None:
    """So nothing is put off: the other model's clock runs on."""
    version = leaning(CARRIED, reassess=DUE)
    own, old = [leans(9, "carried-over", "old@1")], {"old@1": [assessed(1, RULED_OUT)]}

    assert asked(version, own, old).reassessment == "no"
    assert asked(version, own, old).valid_until == day(21)
    assert asked(version, own, old, at=21).reassessment == "yes"
    assert asked(version, own, {}).reassessment == "yes"
