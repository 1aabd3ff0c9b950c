"""One obligation from one determination to the next: which due stands, and when a clock begins anew."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from app.determination.obligations import (
    REVIEW,
    Raised,
    kept,
    obligation_id,
    obligations_of,
    raised_by,
)
from app.policy.version import PolicyVersion
from app.vocabulary import write_instant
from tests.determination.test_reading import policy

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MONTH = timedelta(days=30)
LISTED = "/actions/deploy/obligations/0"
RAISED = Raised(
    id="obl_1",
    model="m@1",
    policy="small",
    version="1",
    pointer=LISTED,
    name="publish",
    statement="s",
    clause="c",
    by=None,
    before_action=False,
    due=NOON,
    of_evidence=False,
    determination="det_1",
    index=7,
)


def version(**obligation: Any) -> PolicyVersion:
    """A version with one obligation of its action, to `publish` within thirty days."""
    said = {"id": "publish", "statement": "s", "clause": "c", "due": "P30D"} | obligation
    action = {"statement": "s", "clause": "c", "needs": ["required-standards"]}
    return policy(actions={"deploy": action | {"obligations": [said]}, "train": action})


def found(
    of: PolicyVersion | None, due: datetime | None, code: str = "sign_off.missing", **more: Any
) -> Raised:
    """The one obligation of a determination at noon."""
    said = {
        "id": "publish",
        "pointer": LISTED,
        "clause": "c",
        "by": None,
        "before_action": False,
        "due": None if due is None else write_instant(due),
        "message": "s",
    } | more
    document = {
        "id": "det_1",
        "model": "m@1",
        "provenance": {"policy": {"name": "small", "version": "1"}, "at": write_instant(NOON)},
        "obligations": [said],
        "reasons": [{"code": code, "pointer": LISTED}],
    }
    asked = {} if of is None else obligations_of(of)
    (one,) = raised_by(orjson.loads(orjson.dumps(document)), 7, asked)
    return one


def test_what_a_determination_lists_is_raised_by_it() -> None:
    one = found(version(), NOON + MONTH)

    place = obligation_id("m@1", "small", "/actions/deploy", "publish")
    assert one == replace(RAISED, id=place, due=NOON + MONTH)


@pytest.mark.parametrize(
    ("said", "due", "runs"),
    [
        ({}, NOON + MONTH, False),
        ({"since_assessment": "comprehensive"}, NOON + MONTH, False),
        ({"since_assessment": "comprehensive"}, NOON + timedelta(days=3), True),
        ({"due": "before"}, None, False),
        ({"due": None}, None, False),
    ],
)
def test_a_clock_is_of_evidence_where_it_began_with_an_assessment(
    said: dict[str, Any], due: datetime | None, runs: bool
) -> None:
    """Where there is no such assessment it began with the question, and so it does each time."""
    assert found(version(**said), due).of_evidence is runs


def test_a_review_is_of_evidence_whatever_is_known_of_the_version() -> None:
    """Of another obligation that is not known: a first due that stays is the stricter one."""
    review = {"id": REVIEW, "pointer": "/standards/s/review"}

    assert found(None, NOON, **review).of_evidence
    assert not found(None, NOON).of_evidence


def test_an_obligation_is_the_same_one_wherever_it_stands_in_its_list() -> None:
    first = found(version(), NOON)

    assert found(version(), NOON, pointer="/actions/deploy/obligations/3").id == first.id
    assert found(version(), NOON, pointer="/actions/train/obligations/0").id != first.id
    assert found(version(), NOON, pointer="/thresholds/deploy/obligations/0").id != first.id
    assert found(version(), NOON, id="tell").id != first.id


@pytest.mark.parametrize(
    ("before", "now", "begins_anew"),
    [
        ({}, {"due": NOON + MONTH}, False),
        ({}, {"due": NOON - MONTH}, False),
        ({}, {"due": None}, False),
        ({"due": None}, {"due": NOON}, True),
        ({"due": None}, {"due": None}, False),
        ({"due": None, "before_action": True}, {"due": NOON}, True),
        ({}, {"of_evidence": True}, False),
        ({}, {"of_evidence": True, "due": NOON + MONTH}, True),
        ({"of_evidence": True}, {"of_evidence": True, "due": NOON - MONTH}, True),
        ({"of_evidence": True}, {"due": NOON + MONTH}, False),
    ],
)
def test_the_first_due_stays_until_evidence_sets_another(
    before: dict[str, Any], now: dict[str, Any], begins_anew: bool
) -> None:
    first, second = replace(RAISED, **before), replace(RAISED, determination="det_2", **now)

    assert kept(first, second) is (second if begins_anew else first)
    assert kept(None, second) is second


@pytest.mark.parametrize("code", ["outstanding", "overdue", "unknown"])
def test_a_binding_one_that_denies_is_lacking(code: str) -> None:
    assert found(version(), NOON, f"obligation.{code}").lacking
    assert not found(version(), NOON).lacking


def test_one_that_is_lacking_although_it_was_fulfilled_must_be_done_anew() -> None:
    """What the answer did not see, recorded at the same place or later, does not count."""
    lacking = replace(RAISED, determination="det_2", index=9, lacking=True)

    assert kept(RAISED, lacking, 8) is lacking
    assert kept(RAISED, lacking, 10) is RAISED
    assert kept(RAISED, lacking) is RAISED
    assert kept(RAISED, replace(lacking, lacking=False), 8) is RAISED
