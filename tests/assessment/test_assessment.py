"""What is refused in evidence, and that no number loses a digit."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from app.assessment.assessment import Assessment, ModelVersion, Result
from app.assessment.safeguards import SafeguardReport
from app.assessment.sign_offs import SignOff
from app.canonical import canonical_json
from app.decoding import decode_json
from app.errors import InvalidDocument
from app.parsing import parse
from app.vocabulary import JSON, TEXT, write_number

RESULT = TypeAdapter(Result)
ASSESSMENT = TypeAdapter(Assessment)
MODEL = TypeAdapter(ModelVersion)
REPORT = TypeAdapter(SafeguardReport)
SIGN_OFF = TypeAdapter(SignOff)

D = Decimal
INTERVAL = {"low": D(1), "high": D(3), "confidence": D("0.95")}
FINDING = {"policy": "p", "threshold": "T", "outcome": "reached", "by": ["ceo"], "reason": "r"}


def assessment(**more: Any) -> dict[str, Any]:
    body = {
        "model": "m@1",
        "kind": "quick",
        "conducted_at": "2025-01-01T00:00:00Z",
        "assessor": "a",
    }
    return body | more


def faults(kind: TypeAdapter[Any], body: object) -> set[tuple[str, str]]:
    with pytest.raises(InvalidDocument) as refused:
        parse(kind, body, JSON)
    return {(fault.pointer, fault.message) for fault in refused.value.faults}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"interval": INTERVAL, "stderr": D(1)}, "give one of"),
        ({"stderr": D(1), "successes": 1, "trials": 1}, "give one of"),
        ({"interval": INTERVAL, "successes": 2, "trials": 1}, "give one of"),
        ({"successes": 1}, "go together"),
        ({"trials": 1}, "go together"),
        ({"stderr": D("-0.1")}, "must not be negative"),
        ({"n": 0}, "at least 1"),
        ({"interval": INTERVAL | {"low": D("2.1")}}, "outside its"),
        ({"interval": INTERVAL | {"high": D("1.9")}}, "outside its"),
        ({"interval": INTERVAL | {"low": D(4)}}, "above `high`"),
        ({"interval": INTERVAL | {"confidence": D(1)}}, "between 0 and 1"),
        ({"interval": INTERVAL | {"confidence": D(0)}}, "between 0 and 1"),
        ({"successes": 2, "trials": 1}, "between 0 and `trials`"),
        ({"successes": -1, "trials": 1}, "between 0 and `trials`"),
        ({"successes": 0, "trials": 0}, "between 0 and `trials`"),
        ({"successes": 1, "trials": 2}, "is not `successes` / `trials`"),
        ({"value": D("0.506"), "successes": 1, "trials": 2}, "is not `successes` / `trials`"),
        ({"value": "2"}, "must be a number"),
        ({"value": True}, "must be a number"),
        ({"value": None}, "must be a number"),
        ({"trials": D("1.5"), "successes": 1}, "must be a whole number"),
        ({"load_bearing": "false"}, "must be `true` or `false`"),
        ({"line": "Not A Slug"}, "lower-case"),
        ({"stdev": D(1)}, "is not a field"),
    ],
)
def test_a_result_that_cannot_be_is_refused(more: dict[str, Any], said: str) -> None:
    body = {"line": "l", "value": D(2)} | more

    assert any(said in message for _, message in faults(RESULT, body))


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"interval": INTERVAL},
        {"interval": {"low": D(2), "high": D(2), "confidence": D("0.5")}},
        {"stderr": D(0)},
        {"value": D("0.505"), "successes": 1, "trials": 2},
        {"value": D(1), "successes": 1, "trials": 1},
        {"value": D("0.33"), "successes": 1, "trials": 3},
        {"n": 1, "variant": "v", "aggregation": "mean", "load_bearing": False},
    ],
)
def test_a_result_may_have_one_uncertainty_or_none(more: dict[str, Any]) -> None:
    assert parse(RESULT, {"line": "l", "value": D(2)} | more, JSON).line == "l"


@pytest.mark.parametrize(("confidence", "known"), [("0.8", True), ("0.95", True), ("0.99", False)])
def test_an_interval_of_less_confidence_says_nothing(confidence: str, known: bool) -> None:
    result = parse(RESULT, {"line": "l", "value": D(2), "interval": INTERVAL}, JSON)
    range_ = result.at_confidence(D(confidence))

    assert (range_ is not None) is known
    assert range_ is None or (range_.low, range_.high, range_.ours) == (D(1), D(3), False)


def test_ranges_that_we_compute_are_marked_as_ours() -> None:
    error = parse(RESULT, {"line": "l", "value": D(2), "stderr": D(1)}, JSON)
    share = parse(RESULT, {"line": "l", "value": D(1), "successes": 1, "trials": 1}, JSON)
    bare = parse(RESULT, {"line": "l", "value": D(2)}, JSON)

    assert [r.at_confidence(D("0.95")).ours for r in (error, share)] == [True, True]  # type: ignore[union-attr]
    assert bare.at_confidence(D("0.8")) is None


@pytest.mark.parametrize(
    ("kind", "body", "pointer", "said"),
    [
        (ASSESSMENT, assessment(findings=[FINDING, FINDING]), "", "judges one threshold twice"),
        (ASSESSMENT, assessment(findings=[FINDING | {"by": []}]), "/findings/0/by", "not be empty"),
        (ASSESSMENT, assessment(findings=[FINDING | {"outcome": "passed"}]), "/findings/0/outcome", "must be one of"),
        (ASSESSMENT, assessment(findings=[FINDING | {"outcome": "bounded-by"}]), "/findings/0", "names the stronger model"),
        (ASSESSMENT, assessment(findings=[FINDING | {"bounded_by": "n@1"}]), "/findings/0", "names the stronger model"),
        (ASSESSMENT, assessment(findings=[FINDING | {"reason": " "}]), "/findings/0/reason", "must not be blank"),
        (ASSESSMENT, assessment(effective_compute_ratio=D(0)), "/effective_compute_ratio", "must be more than 0"),
        (ASSESSMENT, assessment(conducted_at="2025-01-01"), "/conducted_at", "with a zone"),
        (ASSESSMENT, assessment(conducted_at="2025-01-01T00:00:00"), "/conducted_at", "with a zone"),
        (ASSESSMENT, assessment(conducted_at="2025-02-30T00:00:00Z"), "/conducted_at", "not a time that exists"),
        (ASSESSMENT, assessment(model="Claude@1"), "/model", "name@version"),
        (ASSESSMENT, assessment(model="a/../b@1"), "/model", "segment"),
        (MODEL, {"model": "m@1", "developer": "d", "training_compute_flop": D(0)}, "/training_compute_flop", "more than 0"),
        (MODEL, {"model": "m@1", "developer": "d", "digest": "sha256:00"}, "/digest", "64 lower-case"),
        (REPORT, {"model": "m@1", "policy": "p", "standard": "s", "met": True, "valid_from": "2025-01-01T00:00:00Z",
                  "valid_until": "2025-01-01T00:00:00Z", "stated_by": "x"}, "", "must lie after"),
        (REPORT, {"model": "m@1", "policy": "p", "standard": "s", "met": "yes", "valid_from": "2025-01-01T00:00:00Z",
                  "stated_by": "x"}, "/met", "must be `true` or `false`"),
        (SIGN_OFF, {"model": "m@1", "policy": "p", "action": "a", "role": "ceo", "verb": "blessed", "reason": "r"},
         "/verb", "must be one of"),
    ],
)  # fmt: skip
def test_evidence_that_cannot_be_is_refused_at_its_place(
    kind: TypeAdapter[Any], body: dict[str, Any], pointer: str, said: str
) -> None:
    assert any(where == pointer and said in message for where, message in faults(kind, body))


def test_all_faults_come_at_once() -> None:
    body = assessment(kind="No", results=[{"line": "l", "value": "x"}, {"line": "?"}])

    assert {where for where, _ in faults(ASSESSMENT, body)} == {
        "/kind",
        "/results/0/value",
        "/results/1/line",
        "/results/1/value",
    }


# --- exactness ---------------------------------------------------------------------------------

numbers = st.builds(
    lambda digits, exponent, minus: Decimal((int(minus), tuple(digits), exponent)),
    st.lists(st.integers(0, 9), min_size=1, max_size=34),
    st.integers(-30, 0),
    st.booleans(),
).filter(lambda n: n == 0 or Decimal("1e-30") <= abs(n) <= Decimal("1e30"))


@given(numbers)
@settings(max_examples=1000, deadline=None, print_blob=True)
def test_a_number_keeps_every_digit_from_json_to_the_record_and_back(number: Decimal) -> None:
    sent = f'{{"line": "l", "value": {number:f}}}'.encode()
    try:
        decoded = decode_json(sent)
    except InvalidDocument:
        return  # an integer beyond 2^53 - 1 is refused, never rounded
    result = parse(RESULT, decoded, JSON)
    document = canonical_json(result.model_dump(mode="json"))
    again = parse(RESULT, decode_json(document), TEXT)

    assert result.value == number
    assert again == result
    assert Decimal(json.loads(document)["value"]) == number
    assert canonical_json(again.model_dump(mode="json")) == document


@given(numbers)
@settings(max_examples=500, deadline=None, print_blob=True)
def test_one_number_has_one_spelling(number: Decimal) -> None:
    longer = Decimal(f"{number:f}" + ("0" if "." in f"{number:f}" else ".0"))

    assert longer == number
    assert write_number(longer) == write_number(number)


@pytest.mark.parametrize(
    ("number", "text"),
    [("2.530", "2.53"), ("-0.0", "0"), ("1E+2", "100"), ("100", "100"), ("0.10", "0.1"),
     ("1e-30", "0." + "0" * 29 + "1"), ("1234567890123456789012345678901.234", "1234567890123456789012345678901.234")],
)  # fmt: skip
def test_numbers_are_written_plainly(number: str, text: str) -> None:
    assert write_number(Decimal(number)) == text


@pytest.mark.parametrize(
    "text",
    [
        "1e31",
        "1e-31",
        "1.0000000000000000000000000000000001e5",
        "nan",
        "Infinity",
        "0x10",
        "1_0",
        " 1",
        "١",
    ],
)
def test_numbers_beyond_the_bounds_are_refused_in_text_too(text: str) -> None:
    """What YAML could say and JSON could not would have no digest that both share."""
    with pytest.raises(InvalidDocument):
        parse(RESULT, {"line": "l", "value": text}, TEXT)
