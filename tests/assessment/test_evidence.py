"""What is on record of a model version, taken together."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from app.assessment.assessment import Assessment, Finding
from app.assessment.evidence import Evidence, OtherModel, Recorded
from app.assessment.exceptions import RequestedException
from app.assessment.orders import Order
from app.errors import InvalidDocument
from app.parsing import parse
from app.vocabulary import JSON
from tests.determination.test_reading import MODEL, assessed, measured, reported, signed

FINDING = TypeAdapter(Finding)
EXCEPTION = TypeAdapter(RequestedException)
ORDER = TypeAdapter(Order)


def kept(letter: str, item: Any) -> Recorded[Any]:
    return Recorded(f"asm_{letter}", f"sha256:{letter}", item)


def test_what_leans_on_another_model_brings_its_evidence_along() -> None:
    """It is counted, and named in the order of the ids, once each."""
    other = parse(MODEL, {"model": "big@1", "developer": "dev"}, JSON)
    there = Evidence((kept("b", assessed(1)),), (kept("e", reported(1)),))
    own = Evidence(
        (kept("c", assessed(2)), kept("a", assessed(3))),
        (kept("d", reported(1)),),
        (kept("f", signed(1)),),
        others={"big@1": OtherModel(other, there)},
    )

    assert (Evidence().count, there.count, own.count) == (0, 2, 6)
    assert [id for id, _ in own.names()] == [f"asm_{letter}" for letter in "abcdef"]
    assert dict(own.names())["asm_b"] == "sha256:b"


def test_a_result_that_says_another_unit_is_of_another_line() -> None:
    """One that says none is taken as it stands."""
    evidence = Evidence(
        tuple(
            kept(letter, item)
            for letter, item in {
                "a": measured(3, "1"),
                "b": measured(2, "2", unit="u"),
                "c": measured(1, "3", unit="percent"),
                "d": measured(0, "4", "down", unit="u"),
            }.items()
        )
    )

    assert [str(one.result.value) for one in evidence.measured("up", "u")] == ["2", "1"]
    assert [str(one.result.value) for one in evidence.measured("up", "percent")] == ["3", "1"]
    assert evidence.measured("sideways", "u") == []


@pytest.mark.parametrize(
    ("more", "other"),
    [
        ({"outcome": "bounded-by", "bounded_by": "big@1"}, "big@1"),
        ({"outcome": "carried-over", "carried_over_from": "old@1"}, "old@1"),
        ({"outcome": "carried-over"}, None),
        ({"outcome": "ruled-out"}, None),
    ],
)
def test_a_finding_names_the_model_that_it_leans_on(
    more: dict[str, str], other: str | None
) -> None:
    body = {"policy": "p", "threshold": "T", "by": ["ceo"], "reason": "r"} | more

    assert parse(FINDING, body, JSON).other_model == other


def test_only_what_was_carried_over_names_from_where() -> None:
    body = {
        "model": "m@1",
        "kind": "quick",
        "conducted_at": "2025-01-01T00:00:00Z",
        "assessor": "a",
        "findings": [
            {"policy": "p", "threshold": "T", "outcome": "ruled-out", "by": ["ceo"], "reason": "r",
             "carried_over_from": "old@1"}
        ],
    }  # fmt: skip
    with pytest.raises(InvalidDocument) as refused:
        parse(TypeAdapter(Assessment), body, JSON)

    assert [fault.pointer for fault in refused.value.faults] == ["/findings/0"]


REQUEST = {
    "model": "m@1",
    "policy": "p",
    "action": "deploy",
    "exception": "interim-measures",
    "standard": "s",
    "measures": "m",
    "reason": "r",
    "requested_by": "x",
    "valid_until": "2025-02-01T00:00:00Z",
}


@pytest.mark.parametrize(
    ("begins", "accepted"),
    [(None, True), ("2025-01-31T23:59:59Z", True), ("2025-02-01T00:00:00Z", False)],
)
def test_an_exception_ends_after_it_begins(begins: str | None, accepted: bool) -> None:
    body = REQUEST if begins is None else REQUEST | {"valid_from": begins}
    if accepted:
        assert parse(EXCEPTION, body, JSON).standard == "s"
        return
    with pytest.raises(InvalidDocument, match="`valid_until` must lie after `valid_from`"):
        parse(EXCEPTION, body, JSON)


@pytest.mark.parametrize(
    ("effect", "more", "accepted"),
    [
        ("require", {"policy": "p", "standards": ["s"]}, True),
        ("require", {"policy": "p"}, False),
        ("require", {"standards": ["s"]}, False),
        ("require", {}, False),
        ("stop", {}, True),
        ("stop", {"policy": "p"}, False),
        ("limit", {"standards": ["s"]}, False),
        ("limit", {"policy": "p", "standards": ["s"]}, False),
    ],
)
def test_an_order_that_requires_and_no_other_names_standards_of_a_policy(
    effect: str, more: dict[str, Any], accepted: bool
) -> None:
    order = {"model": "m@1", "issuer": "i", "issued_by": "government", "effect": effect}
    body = order | {"statement": "s"} | more
    if accepted:
        assert parse(ORDER, body, JSON).effect == effect
        return
    with pytest.raises(InvalidDocument, match="go with the effect `require`"):
        parse(ORDER, body, JSON)


def test_a_kind_of_digest_is_of_a_digest() -> None:
    body = {"model": "m@1", "developer": "dev", "digest_kind": "oci-manifest"}
    with pytest.raises(InvalidDocument, match="and there is none"):
        parse(MODEL, body, JSON)


@pytest.mark.parametrize(
    ("item", "may"),
    [
        (assessed(1, {"T": "ruled-out"}), False),
        (assessed(1, {"T": "ruled-out", "U": "not-ruled-out"}), True),
        (assessed(1, {"T": "reached"}), True),
        (assessed(1, {"T": "inconclusive"}), True),
        (assessed(1, findings=[]), False),
        (assessed(1, findings=[], effective_compute_ratio=2), True),
        (measured(1, "2"), True),
        (reported(1), False),
        (reported(1, met=False), True),
        (signed(1), False),
        (signed(1, verb="consulted"), False),
        (signed(1, verb="reversed"), True),
        (signed(1, verb="reassess"), True),
    ],
)
def test_only_what_permits_could_not_stand_in_the_way(item: Any, may: bool) -> None:
    assert item.may_count_against is may
