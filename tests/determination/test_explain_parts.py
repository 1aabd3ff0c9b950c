"""What a page says of each thing that a record may hold, sentence by sentence."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import orjson
import pytest
from pydantic import TypeAdapter

from app.assessment.evidence import Evidence, Recorded
from app.assessment.exceptions import ExceptionOnRecord, RequestedException
from app.determination.decide import Question
from app.determination.explain import explain
from app.determination.moves import Move
from app.determination.settling import Settling
from app.parsing import parse
from app.policy.timeline import PolicyInForce
from app.policy.version import PolicyVersion
from app.vocabulary import JSON, write_instant
from tests.determination.test_reading import (
    BY_LINE,
    MODEL,
    RULED_OUT,
    Json,
    assessed,
    day,
    measured,
    policy,
    reported,
    signed,
    standard,
    threshold,
)
from tests.laws.recording import pieces_of, recorded_determination
from tests.laws.situations import Situation

MEASURED = {"T": threshold(ruled_out={"any": [RULED_OUT, BY_LINE["ruled_out"]]})}


def situation(evidence: Evidence, at: float = 10, **more: Any) -> Situation:
    """A question about deployment under the version that those changes make."""
    version = policy(**more)
    in_force = PolicyInForce(version, "sha256:0", version.effective, None)
    model = parse(MODEL, {"model": "m@1", "developer": "dev"}, JSON)
    return Situation(in_force, model, evidence, Question("m@1", "deploy", "p", day(at)))


def page(of: Situation, settled: Settling | None = None, **more: Any) -> str:
    """What is told of it as plain text; `pieces` and `policy` stand in for its own."""
    pieces: Mapping[str, Json] = {id: body for id, _, body in pieces_of(of.evidence)}
    version: PolicyVersion | None = more.pop("policy", of.version)
    document = orjson.loads(recorded_determination(of)) | more.pop("document", {})
    return explain(document, version, more.pop("pieces", pieces), settled, "plain")


def one(item: Any, id: str = "asm_1") -> tuple[Recorded[Any], ...]:
    return (Recorded(id, "sha256:1", item),)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"stderr": Decimal(1)}, "from a standard error of 1"),
        ({"value": Decimal("0.25"), "successes": 1, "trials": 4}, "from 1 successes in 4 trials"),
        (
            {"interval": {"low": Decimal(1), "high": Decimal(3), "confidence": Decimal("0.95")}},
            "from 1 to 3, at a confidence of 0.95",
        ),
    ],
)
def test_a_measured_number_is_told_with_what_it_is_known_by(more: Json, said: str) -> None:
    result = {"line": "up", "value": Decimal(2)} | more
    found = assessed(1, results=[result])

    assert said in page(situation(Evidence(one(found)), thresholds=MEASURED))


def test_a_bare_number_is_told_without_a_range() -> None:
    found = Evidence(one(measured(1, "2", bare=True)))

    told = page(situation(found, thresholds=MEASURED))

    assert "Measured 2025-01-02" in told
    assert "standard error" not in told
    assert "trials" not in told


def test_those_who_did_not_agree_are_heard() -> None:
    finding = {"policy": "p", "threshold": "T", "outcome": "ruled-out", "by": ["ceo", "rso"]}
    dissent = finding | {"reason": "The tests are clear", "dissent": "Two reviewers doubt it"}
    plain = finding | {"reason": "The tests are clear"}

    with_it, without = (
        page(situation(Evidence(one(assessed(1, findings=[said]))))) for said in (dissent, plain)
    )

    assert "Those who did not agree said: Two reviewers doubt it." in with_it
    assert "did not agree" not in without


def test_an_exception_that_nobody_approved_says_so() -> None:
    request = {
        "model": "m@1",
        "policy": "p",
        "action": "deploy",
        "exception": "interim-measures",
        "standard": "s",
        "measures": "m",
        "reason": "r",
        "requested_by": "key_1",
        "valid_from": write_instant(day(2)),
        "valid_until": write_instant(day(30)),
    }
    asked_for = ExceptionOnRecord(parse(TypeAdapter(RequestedException), request, JSON))
    evidence = Evidence(exceptions=(Recorded("exc_1", "sha256:1", asked_for),))
    interim = {"statement": "s", "clause": "c", "approved_by": ["ceo"], "told": []}

    told = page(situation(evidence, standards={"s": standard(interim_measures=interim)}))

    assert "Nobody has approved it." in told
    assert "2025-01-03 until 2025-01-31" in told


def test_what_has_no_time_on_record_says_so() -> None:
    sign_off = {"role": "ceo", "verb": "approved", "clause": "c"}
    actions = {
        "deploy": {
            "statement": "s",
            "clause": "c",
            "needs": ["required-standards"],
            "sign_offs": [sign_off],
        },
        "train": {"statement": "s", "clause": "c", "needs": ["required-standards"]},
    }
    asked = situation(Evidence(sign_offs=one(signed(1), "sgn_1")), actions=actions)
    undated = {id: body | {"given_at": None} for id, _, body in pieces_of(asked.evidence)}

    assert "a time that is not recorded" in page(asked, pieces=undated)
    assert "a time that is not recorded" not in page(asked)


def test_what_lapses_is_named_as_far_as_it_is_known() -> None:
    """The ages that matter are the policy's, so that without it only what says its own end is."""
    aged = {"T": threshold(ruled_out={"all": [RULED_OUT, {"assessment": "comprehensive", "max_age": "P20D"}]})}  # fmt: skip
    evidence = Evidence(one(assessed(1, {"T": "ruled-out"})), one(reported(1, until=21), "sfg_1"))
    asked = situation(evidence, thresholds=aged)
    lapses = {"valid_until": write_instant(day(21))}

    with_policy = page(asked, document=lapses)
    without = page(asked, document=lapses, policy=None)

    assert "The assessment of 2025-01-02 is then 20 days old" in with_policy
    assert "is then 20 days old" not in without
    for told in (with_policy, without):
        assert "A report on s ends then (record sfg_1)." in told


def test_a_page_names_the_digest_of_a_record_that_has_one() -> None:
    asked = situation(Evidence())

    assert "The digest of its recorded bytes: sha256:2." in page(
        asked, document={"digest": "sha256:2"}
    )
    assert "The digest of its recorded bytes" not in page(asked)


# --- what would change the answer --------------------------------------------------------------


def ways(many: int) -> tuple[tuple[Move, ...], ...]:
    return tuple((Move(kind="finding", message=f"way {i}"),) for i in range(many))


@pytest.mark.parametrize(
    ("settled", "said", "unsaid"),
    [
        (Settling(decision="deny", clears=ways(1), blocks=(), complete=True),
         ["More permissive than no, if:", "way 0."], ["Stricter", "stricter", "further"]),
        (Settling(decision="deny", clears=(), blocks=(), complete=True),
         ["Nothing that can be recorded was found to make it more permissive."], ["stricter"]),
        (Settling(decision="allow", clears=(), blocks=(), complete=True),
         ["Nothing that can be recorded was found to make it stricter."], ["more permissive"]),
        (Settling(decision="allow", clears=(), blocks=ways(1), complete=True),
         ["Stricter than yes, if:", "way 0."], ["ermissive"]),
        (Settling(decision="allow_with_conditions", clears=(), blocks=(), complete=True),
         ["was found to make it more permissive.", "was found to make it stricter."], []),
        (Settling(decision="deny", clears=ways(6), blocks=(), complete=True),
         ["way 5."], ["Further ways", "There may be further ways"]),
        (Settling(decision="deny", clears=ways(8), blocks=(), complete=False),
         ["way 5.", "Further ways that are not shown here: 2.", "There may be further ways:"], ["way 6"]),
        (Settling(decision="deny", clears=((*ways(1)[0], *ways(2)[1]),), blocks=(), complete=True),
         ["way 0; and way 1."], []),
    ],
)  # fmt: skip
def test_what_would_change_the_answer_is_told_both_ways(
    settled: Settling, said: list[str], unsaid: list[str]
) -> None:
    told = page(situation(Evidence()), settled).partition("What would change the answer")[2]
    told = told.partition("How to check this")[0]

    assert [one for one in said if one not in told] == []
    assert [one for one in unsaid if one in told] == []
