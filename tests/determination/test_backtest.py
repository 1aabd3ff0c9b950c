"""One answer beside another: which way it turned, and why."""

from typing import Any

import pytest

from app.determination.backtest import Compared, Tally, difference, difference_from_nothing

CLOSED = {
    "code": "standard.not_met",
    "pointer": "/standards/s",
    "clause": "4.1",
    "evidence": [],
    "blocks": True,
    "message": "`s` is not met",
}


def answer(decision: str = "allow", **more: Any) -> dict[str, Any]:
    """A determination of which only what is compared is there."""
    return {
        "decision": decision,
        "level": None,
        "thresholds": [],
        "standards": [],
        "reasons": [],
    } | more


def beside(was: dict[str, Any], now: dict[str, Any]) -> Compared:
    return Compared("det_1", "m@1", "deploy", "2025-01-01T00:00:00Z", was, "1", now, "2")


@pytest.mark.parametrize(
    ("was", "now", "turn"),
    [
        ("allow", "deny", "stricter"),
        ("allow", "allow_with_conditions", "stricter"),
        ("deny", "allow_with_conditions", "looser"),
        ("deny", "allow", "looser"),
    ],
)
def test_another_decision_is_stricter_or_looser(was: str, now: str, turn: str) -> None:
    found = difference(beside(answer(was), answer(now)))

    assert found is not None
    assert (found.turn, found.was.decision, found.now.decision) == (turn, was, now)
    assert (found.was.version, found.now.version) == ("1", "2")


@pytest.mark.parametrize(
    "now",
    [
        answer(level="ASL-3"),
        answer(thresholds=[{"id": "T", "status": "reached"}]),
        answer(standards=[{"id": "s", "met": "yes"}]),
    ],
)
def test_the_same_decision_on_other_grounds_is_otherwise(now: dict[str, Any]) -> None:
    found = difference(beside(answer(), now))

    assert found is not None
    assert found.turn == "otherwise"


def test_what_one_of_them_does_not_have_is_null() -> None:
    was = answer(thresholds=[{"id": "T", "status": "reached"}, {"id": "U", "status": "ruled_out"}])
    now = answer(thresholds=[{"id": "U", "status": "ruled_out"}, {"id": "V", "status": "reached"}])
    found = difference(beside(was, now))

    assert found is not None
    turned = [(one.id, one.was, one.now) for one in found.thresholds]
    assert turned == [("T", "reached", None), ("V", None, "reached")]


def test_other_words_and_other_places_are_the_same_answer() -> None:
    moved = CLOSED | {"pointer": "/standards/moved", "message": "said otherwise"}

    assert difference(beside(answer(reasons=[CLOSED]), answer(reasons=[moved]))) is None


def test_reasons_that_came_and_reasons_that_fell_away_are_told_apart() -> None:
    fell = CLOSED | {"clause": "9", "message": "another"}
    kept = CLOSED | {"code": "kept"}
    moved = kept | {"pointer": "/elsewhere"}
    found = difference(
        beside(answer("allow", reasons=[fell, kept]), answer("deny", reasons=[CLOSED, moved]))
    )

    assert found is not None
    assert [(one.side, one.clause) for one in found.because] == [("new", "4.1"), ("gone", "9")]


def test_the_tally_counts_each_answer_once() -> None:
    """A clause is counted once for each answer, however many of its reasons have it."""
    twice = [CLOSED, CLOSED | {"code": "other"}, CLOSED | {"code": "bare", "clause": None}]
    tally = Tally()
    tally.count(difference(beside(answer(), answer())))
    tally.count(difference(beside(answer("allow"), answer("deny", reasons=twice))))
    tally.count(difference(beside(answer("deny"), answer("allow"))))
    tally.count(difference(beside(answer(), answer(level="ASL-3"))))
    tally.failed += 1

    assert tally.summary().model_dump() == {
        "decided": 4,
        "same": 1,
        "stricter": 1,
        "looser": 1,
        "otherwise": 1,
        "failed": 1,
        "by_clause": {"4.1": 1, "bare": 1},
        "by_decision": {"allow->deny": 1, "deny->allow": 1},
    }


def test_a_tally_that_is_taken_up_again_goes_on_where_it_was() -> None:
    """As if it had never been laid down."""
    answers = [
        (answer("allow"), answer("deny", reasons=[CLOSED])),
        (answer("deny"), answer("allow")),
        (answer(), answer(level="ASL-3")),
        (answer(), answer()),
    ]
    whole, first = Tally(failed=2), Tally(failed=2)
    for was, now in answers * 2:
        whole.count(difference(beside(was, now)))
    for was, now in answers:
        first.count(difference(beside(was, now)))
    again = Tally.of(first.summary())
    for was, now in answers:
        again.count(difference(beside(was, now)))

    assert again.summary() == whole.summary()


@pytest.mark.parametrize(
    ("now", "turn"), [("deny", "stricter"), ("allow_with_conditions", "stricter")]
)
def test_where_a_gate_did_not_ask_the_policy_it_kept_nobody_from_anything(
    now: str, turn: str
) -> None:
    said = answer(now, reasons=[CLOSED])
    found = difference_from_nothing(
        "gat_1", "m@1", "deploy", "2025-01-01T00:00:00Z", None, said, "2"
    )

    assert (found.turn, found.gate, found.determination) == (turn, "gat_1", None)
    assert (found.was.decision, found.was.version) == ("not_asked", None)
    assert (found.now.decision, found.now.version) == (now, "2")
    assert [one.side for one in found.because] == ["new"]


def test_an_allow_where_nothing_was_asked_is_told_as_no_stricter() -> None:
    found = difference_from_nothing(
        "gat_1", "m@1", "deploy", "2025-01-01T00:00:00Z", "1", answer(), "2"
    )

    assert found.turn == "otherwise"
