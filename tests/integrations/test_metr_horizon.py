"""METR's time horizon reports. The file here is made after its documented form."""

from decimal import Decimal
from typing import Any

import pytest

from app.assessment.evaluations import Draft
from tests.integrations.importing import imported, map_of, refused, warned

REPORT = """\
benchmark_name: METR-Horizon-v1.1
results:
  example_lm_inspect:
    benchmark_name: METR-Horizon-v1.1
    metrics:
      average_score:
        estimate: 0.61
      is_sota: true
      p50_horizon_length:
        ci_high: 280.5
        ci_low: 54.25
        estimate: 117.10
    release_date: 2026-01-02
    scaffolds:
    - one
    - two
  another:
    metrics: {}
"""
MAP = map_of(
    "metr",
    "task: time-horizon, metric: p50_horizon_length, line: horizon",
    model_label="example_lm_inspect",
    conducted_at="2026-01-02T00:00:00Z",
).replace(b"unit: share", b"unit: minutes")


def draft(text: str = REPORT) -> Draft:
    return imported("metr", text.encode(), MAP)


def result(of: Draft) -> Any:
    (only,) = of.body["results"]
    return only


def test_a_horizon_keeps_its_lopsided_interval() -> None:
    made = draft()

    assert result(made)["value"] == Decimal("117.10")
    assert result(made)["interval"] == {
        "low": Decimal("54.25"),
        "high": Decimal("280.5"),
        "confidence": Decimal("0.95"),
    }


def test_that_several_scaffolds_are_one_number_is_said() -> None:
    assert warned(draft()) == ["scaffolds", "unmapped"]


def test_without_an_interval_it_is_a_bare_value() -> None:
    text = REPORT.replace("        ci_high: 280.5\n", "").replace("    - two\n", "")

    assert warned(draft(text)) == ["no-uncertainty", "unmapped"]


@pytest.mark.parametrize(
    ("found", "wanted", "code"),
    [
        ("estimate: 117.10", "estimate: 10", "invalid-value"),
        ("estimate: 117.10", "estimate: .nan", "not-a-number"),
        ("  example_lm_inspect:", "  other:", "no-such-model"),
        ("benchmark_name: METR-Horizon-v1.1\nresults", "name: x\nresults", "other-system"),
        ("benchmark_name: METR-Horizon-v1.1\nresults", "&a b: c\nresults", "unsupported"),
        ("- two", "- " + "x" * 300_000, "log-too-large"),
    ],
)
def test_what_is_no_such_report_is_refused(found: str, wanted: str, code: str) -> None:
    faults = refused("metr", REPORT.replace(found, wanted).encode(), MAP)

    assert faults[0].line is None, "a line would be taken for one of the map"
    if code != "unsupported":
        assert faults[0].code == code


def test_the_map_says_which_model_is_meant_and_when_it_was_tested() -> None:
    undated = MAP.replace(b"conducted_at: 2026-01-02T00:00:00Z\n", b"")

    assert refused("metr", REPORT.encode(), undated)[0].code == "no-instant"
