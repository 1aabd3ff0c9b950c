"""Logs of Inspect AI that its real package wrote, and what becomes of each of their surprises."""

import hashlib
import io
from decimal import Decimal
from typing import Any

import pytest
from backports.zstd import zipfile

from app.assessment.evaluations import Draft
from app.integrations import inspect_log
from app.integrations.foreign import MAX_LOG_BYTES
from tests.integrations.importing import SAMPLES, changed, imported, map_of, refused, warned

FOLDER = SAMPLES / "inspect"
TASK = "aslgate/acquisition_uplift"
MAP = map_of("inspect", f"task: {TASK}, metric: accuracy, line: uplift")
WHOLE = (FOLDER / "success-4-samples.json").read_bytes()


def log(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def draft(data: bytes, **how: Any) -> Draft:
    return imported("inspect", data, MAP, **how)


def result(of: Draft) -> Any:
    (only,) = of.body["results"]
    return only


@pytest.mark.parametrize("name", ["success-4-samples.json", "success.eval"])
def test_a_whole_run_becomes_a_result_with_its_standard_error(name: str) -> None:
    made = draft(log(name))

    assert result(made) == {
        "line": "uplift",
        "value": Decimal("0.5"),
        "unit": "share",
        "stderr": Decimal("0.28867513459481287"),
        "n": 4,
        "load_bearing": True,
    }
    assert made.body["conducted_at"].startswith("2026-11-23T15:26:5")
    assert warned(made) == []


def test_the_sources_are_digests_of_the_log_and_of_the_map_and_nothing_of_the_samples() -> None:
    made = draft(WHOLE, uri="s3://evals/1.json")
    logged, mapped = made.body["sources"]

    assert logged["sha256"] == hashlib.sha256(WHOLE).hexdigest()
    assert logged["uri"] == "s3://evals/1.json"
    assert "mockllm/model" in logged["title"]
    assert mapped["sha256"] == hashlib.sha256(MAP).hexdigest()
    assert "question 0" not in str(made.body)


def test_a_run_that_errored_is_refused_with_its_reason() -> None:
    (fault,) = refused("inspect", log("error.header.json"), MAP)

    assert (fault.code, fault.pointer) == ("unsuccessful", "/status")
    assert "custom_outputs ran out of values" in fault.message


@pytest.mark.parametrize("status", ["started", "cancelled", "error"])
def test_only_success_is_a_success(status: str) -> None:
    data = changed(WHOLE, lambda log: log.update(status=status))

    assert [f.code for f in refused("inspect", data, MAP)] == ["unsuccessful"]


def test_an_invalidated_run_is_refused() -> None:
    data = changed(WHOLE, lambda log: log.update(invalidated=True))

    assert [f.code for f in refused("inspect", data, MAP)] == ["invalidated"]


def test_a_success_whose_samples_errored_is_incomplete_and_permits_nothing() -> None:
    """2 of 4 samples are left, and the score is over these."""
    made = draft(log("success-but-2-of-4-samples-errored.header.json"))

    assert result(made)["load_bearing"] is False
    assert result(made)["n"] == 2
    assert "incomplete" in warned(made)


def test_samples_that_were_called_completed_and_not_scored_are_missed() -> None:
    """`completed_samples` may count samples that errored: what was scored tells."""

    def change(log: Any) -> None:
        log["results"]["scores"][0]["scored_samples"] = 3

    made = draft(changed(WHOLE, change))

    assert (result(made)["load_bearing"], warned(made)) == (False, ["incomplete"])


@pytest.mark.parametrize("what", ["error", "invalidation"])
def test_a_failed_sample_is_seen_where_samples_are_there(what: str) -> None:
    made = draft(changed(WHOLE, lambda log: log["samples"][1].update({what: {"message": "m"}})))

    assert (result(made)["load_bearing"], warned(made)) == (False, ["incomplete"])


@pytest.mark.parametrize(
    "change",
    [
        lambda log: log["results"]["scores"][0].update(unscored_samples=1),
        lambda log: log["results"]["scores"][0].pop("scored_samples"),
    ],
)
def test_what_was_not_scored_or_not_counted_makes_it_incomplete(change: Any) -> None:
    made = draft(changed(WHOLE, change))

    assert (result(made)["load_bearing"], warned(made)) == (False, ["incomplete"])


def test_a_limited_run_permits_nothing() -> None:
    made = draft(log("success-limit-2.header.json"))

    assert (result(made)["load_bearing"], warned(made)) == (False, ["limited"])


@pytest.mark.parametrize(
    "change",
    [
        lambda log: log["eval"]["config"].update(sample_id=["q0"]),
        lambda log: log["eval"]["dataset"].update(samples=5),
    ],
)
def test_a_run_over_a_part_of_its_dataset_is_limited_however_that_came(change: Any) -> None:
    made = draft(changed(WHOLE, change))

    assert (result(made)["load_bearing"], warned(made)) == (False, ["limited"])


def test_a_log_that_was_edited_after_the_run_permits_nothing() -> None:
    update = {"edits": [], "provenance": {"author": "a", "timestamp": "2026-11-24T00:00:00Z"}}
    made = draft(changed(WHOLE, lambda log: log.update(log_updates=[update])))

    assert (result(made)["load_bearing"], warned(made)) == (False, ["edited"])


def test_all_of_all_is_not_certainty() -> None:
    """4 of 4 with a standard error of 0 is 4 successes of 4, from which we compute an interval."""
    made = draft(log("success-4-of-4-stderr-zero.header.json"))
    low = made.assessment.results[0].at_confidence(Decimal("0.95"))

    assert (result(made)["successes"], result(made)["trials"]) == (4, 4)
    assert "stderr" not in result(made)
    assert low is not None
    assert low.low < Decimal("0.55")


def test_no_spread_between_the_ends_has_no_uncertainty_that_is_known() -> None:
    def change(log: Any) -> None:
        log["results"]["scores"][0]["metrics"]["stderr"]["value"] = 0

    made = draft(changed(WHOLE, change))

    assert result(made)["not_published"] == ["interval"]
    assert warned(made) == ["no-uncertainty"]


def test_with_two_epochs_n_is_the_number_of_samples_not_of_runs() -> None:
    made = draft(log("success-2-epochs.header.json"))

    assert (result(made)["n"], result(made)["load_bearing"]) == (4, True)


NAN = map_of(
    "inspect", "task: aslgate/nan, metric: accuracy, where: {score: correct}, line: uplift"
)


def test_a_metric_that_is_not_a_number_is_refused_by_its_place() -> None:
    (fault,) = refused("inspect", log("success-nan-metric.header.json"), NAN)

    assert fault.pointer == "/results/scores/1/metrics/odds_ratio/value"
    assert fault.code == "not-a-number"


def test_the_others_are_kept_where_that_is_asked_for() -> None:
    made = imported("inspect", log("success-nan-metric.header.json"), NAN, skip_unusable=True)

    assert result(made)["trials"] == 1
    assert warned(made) == ["not-a-number", "unmapped"]


def test_numbers_that_are_text_are_refused() -> None:
    def change(log: Any) -> None:
        log["results"]["scores"][0]["metrics"]["accuracy"]["value"] = "0.5"

    (fault,) = refused("inspect", changed(WHOLE, change), MAP)

    assert fault.pointer == "/results/scores/0/metrics/accuracy/value"
    assert "the text `0.5`" in fault.message


def test_a_mean_whose_error_cannot_be_read_has_none() -> None:
    def change(log: Any) -> None:
        log["results"]["scores"][0]["metrics"]["stderr"]["value"] = "0.1"

    made = draft(changed(WHOLE, change), skip_unusable=True)

    assert result(made)["not_published"] == ["interval"]


def test_what_is_no_mean_takes_no_standard_error_of_one() -> None:
    def change(log: Any) -> None:
        metrics = log["results"]["scores"][0]["metrics"]
        metrics["var"] = {"name": "var", "value": 0.3, "params": {}}

    by_map = map_of("inspect", f"task: {TASK}, metric: var, line: uplift")
    made = imported("inspect", changed(WHOLE, change), by_map)

    assert result(made)["not_published"] == ["interval"]


def test_a_log_that_says_that_it_is_about_another_model_is_refused() -> None:
    (fault,) = refused("inspect", WHOLE, MAP, model="example-lm@2")

    assert fault.code == "other-model"


def test_a_log_without_results_is_refused() -> None:
    assert [
        f.pointer for f in refused("inspect", changed(WHOLE, lambda log: log.pop("results")), MAP)
    ] == ["/results"]


def test_40_megabytes_are_refused_with_what_to_do() -> None:
    (fault,) = refused("inspect", b"{" + b" " * 40_000_000 + b"}", MAP)

    assert fault.code == "log-too-large"
    assert str(MAX_LOG_BYTES) in fault.message


def archive(*members: tuple[str, bytes], method: int = zipfile.ZIP_ZSTANDARD) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as zipped:
        for name, data in members:
            zipped.writestr(name, data)
    return made.getvalue()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (archive(("_journal/start.json", b"{}")), "unfinished"),
        (archive(("header.json", b" " * 1_000_000)), "log-too-large"),
        (archive(("header.json", b" " * 1_000_000), method=zipfile.ZIP_DEFLATED), "log-too-large"),
        (archive(("header.json", b"{}"), method=zipfile.ZIP_BZIP2), "undecodable"),
        (archive(("header.json", b"{}")), "other-system"),
        (archive(("header.json", b"{")), "syntax"),
        (log("success.eval")[:-200], "undecodable"),
        (b"PK\x03\x04" + b"\0" * 100, "undecodable"),
    ],
)
def test_an_archive_that_is_no_whole_log_is_refused(data: bytes, code: str) -> None:
    assert [f.code for f in refused("inspect", data, MAP)] == [code]


def test_an_archive_with_two_headers_is_refused() -> None:
    """Two readers would take different ones."""
    with pytest.warns(UserWarning, match="Duplicate"):
        data = archive(("header.json", b"{}"), ("header.json", b"{}"))

    assert [f.code for f in refused("inspect", data, MAP)] == ["duplicate-member"]


def test_a_header_beyond_the_bound_is_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inspect_log, "MAX_HEADER_BYTES", 100)

    assert [f.code for f in refused("inspect", log("success.eval"), MAP)] == ["log-too-large"]


def test_a_damaged_member_is_refused() -> None:
    """Its checksum, or what it was packed with, tells."""
    data = bytearray(log("success.eval"))
    at = data.index(b"header.json") + 200
    data[at : at + 40] = b"\xff" * 40

    assert [f.code for f in refused("inspect", bytes(data), MAP)] == ["undecodable"]


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("lm-eval/results.json", "lm-evaluation-harness"),
        ("every-eval-ever/from-inspect.json", "Every Eval Ever"),
    ],
)
def test_a_log_of_another_system_is_refused_and_named(name: str, like: str) -> None:
    (fault,) = refused("inspect", (SAMPLES / name).read_bytes(), MAP)

    assert fault.code == "other-system"
    assert like in fault.message
