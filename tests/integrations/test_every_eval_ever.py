"""Every Eval Ever records, from one that its converter made of a log of Inspect AI."""

from decimal import Decimal
from typing import Any

import pytest

from app.assessment.evaluations import Draft
from tests.integrations.importing import SAMPLES, changed, imported, map_of, refused, warned

RECORD = (SAMPLES / "every-eval-ever" / "from-inspect.json").read_bytes()
MAP = map_of("eee", "task: aslgate/acquisition_uplift, metric: accuracy, line: uplift")


def draft(data: bytes = RECORD) -> Draft:
    return imported("eee", data, MAP)


def result(of: Draft) -> Any:
    (only,) = of.body["results"]
    return only


def with_details(change: Any) -> bytes:
    return changed(RECORD, lambda log: change(log["evaluation_results"][0]))


def test_a_record_becomes_a_result_and_says_who_evaluated() -> None:
    made = draft()

    assert (result(made)["value"], result(made)["n"]) == (Decimal("0.5"), 4)
    assert result(made)["stderr"] == Decimal("0.28867513459481287")
    assert made.body["conducted_at"] == "2026-11-23T15:26:53Z"
    assert "evaluator first party" in made.body["sources"][0]["title"]


def test_the_digest_of_its_single_results_is_kept() -> None:
    digests = [source["sha256"] for source in draft().body["sources"]]

    assert "61d97d6c821c9d15c75be8089dc7f5d64322997cc609064a94fa32e29ecdc2fd" in digests


def test_that_it_cannot_say_whether_samples_failed_is_said() -> None:
    assert warned(draft()) == ["completeness-unknown"]


def test_fewer_samples_than_the_dataset_has_is_incomplete() -> None:
    made = draft(with_details(lambda r: r["source_data"].update(samples_number=5)))

    assert (result(made)["load_bearing"], "incomplete" in warned(made)) == (False, True)


def test_an_interval_whose_confidence_is_said_goes_before_a_standard_error() -> None:
    interval = {"lower": 0.3, "upper": 0.8, "confidence_level": 0.9}
    change = {"confidence_interval": interval}
    made = draft(with_details(lambda r: r["score_details"]["uncertainty"].update(change)))

    assert result(made)["interval"]["confidence"] == Decimal("0.9")
    assert "stderr" not in result(made)


@pytest.mark.parametrize(
    "interval",
    [
        {"lower": 0.3, "upper": 0.8},
        {"lower": 0.6, "upper": 0.8, "confidence_level": 0.9},
        {"lower": 0.5, "upper": 0.5, "confidence_level": 0.9},
        {"lower": 0.3, "upper": 0.8, "confidence_level": 1},
    ],
)
def test_an_interval_that_says_nothing_is_passed_over(interval: Any) -> None:
    change = {"confidence_interval": interval}
    made = draft(with_details(lambda r: r["score_details"]["uncertainty"].update(change)))

    assert "stderr" in result(made)


@pytest.mark.parametrize(
    ("kind", "wanted"), [("binary", {"trials": 4}), ("continuous", {"not_published": ["interval"]})]
)
def test_all_of_all_is_not_certainty(kind: str, wanted: Any) -> None:
    def change(result: Any) -> None:
        result["metric_config"]["score_type"] = kind
        result["score_details"]["score"] = 1.0
        result["score_details"]["uncertainty"]["standard_error"]["value"] = 0

    assert wanted.items() <= result(draft(with_details(change))).items()


def test_an_unknown_level_is_no_number() -> None:
    def change(result: Any) -> None:
        result["metric_config"] |= {"has_unknown_level": True}
        result["score_details"]["score"] = -1

    assert refused("eee", with_details(change), MAP)[0].code == "unknown-level"


def test_a_time_may_be_written_out_or_missing() -> None:
    written = changed(RECORD, lambda r: r.update(evaluation_timestamp="2026-01-02T03:04:05Z"))
    missing = changed(RECORD, lambda r: r.pop("evaluation_timestamp"))

    assert draft(written).body["conducted_at"] == "2026-01-02T03:04:05Z"
    assert refused("eee", missing, MAP)[0].code == "no-instant"


def test_a_schema_that_we_do_not_know_is_refused() -> None:
    newer = changed(RECORD, lambda r: r.update(schema_version="1.0.0"))

    assert refused("eee", newer, MAP)[0].code == "unknown-version"


def test_a_digest_of_another_kind_is_not_taken_for_ours() -> None:
    md5 = changed(RECORD, lambda r: r["detailed_evaluation_results"].update(hash_algorithm="md5"))

    assert len(draft(md5).body["sources"]) == 2
