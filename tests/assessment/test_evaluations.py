"""How a reviewed map turns an evaluation run into an assessment draft."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from app.assessment.evaluations import (
    Draft,
    EvaluationRun,
    Measure,
    draft,
    model_ref,
    read_map,
    source,
    successes_of,
)
from app.errors import Fault, InvalidDocument

MODEL = "lab/m@1"
MAP = b"""\
schema: aslgate/import-map/v1
source: inspect
assessor: Lab
kind: comprehensive
results:
  - task: uplift
    metric: accuracy
    line: bio
    unit: share
"""
WEAK = Fault("/eval/config/limit", "limited", "only some samples were run")
ACCURACY = Measure("uplift", "accuracy", Decimal("0.5"), "/a", stderr=Decimal("0.1"), n=4)
RUN = EvaluationRun("a run", datetime(2026, 1, 1, tzinfo=UTC), (ACCURACY,))


def drafted(run: EvaluationRun = RUN, text: bytes = MAP, **how: Any) -> Draft:
    sources = [source("a run", "0" * 64)]
    return draft(run, read_map(text, "inspect"), model=MODEL, sources=sources, **how)


def only_result(of: Draft) -> Any:
    (result,) = of.body["results"]
    return result


def codes(faults: tuple[Fault, ...]) -> list[str]:
    return [fault.code for fault in faults]


def refusal(run: EvaluationRun = RUN, text: bytes = MAP, **how: Any) -> list[str]:
    with pytest.raises(InvalidDocument) as refused:
        drafted(run, text, **how)
    return codes(refused.value.faults)


def test_what_the_map_names_becomes_a_result() -> None:
    made = drafted()

    assert made.body == {
        "model": MODEL,
        "kind": "comprehensive",
        "conducted_at": "2026-01-01T00:00:00Z",
        "assessor": "Lab",
        "sources": [{"title": "a run", "sha256": "0" * 64}],
        "results": [
            {
                "line": "bio",
                "value": Decimal("0.5"),
                "unit": "share",
                "stderr": Decimal("0.1"),
                "n": 4,
                "load_bearing": True,
            }
        ],
    }
    assert made.warnings == ()
    assert made.assessment.results[0].stderr == Decimal("0.1")


def test_an_entry_adds_what_only_a_person_knows() -> None:
    text = MAP + b"    variant: snapshot 2\n    aggregation: mean\n    note: as agreed\n"
    result = only_result(drafted(text=text.replace(b"kind:", b"elicitation: best of 10\nkind:")))

    assert result["variant"] == "snapshot 2"
    assert result["aggregation"] == "mean"
    assert result["note"] == "as agreed"


@pytest.mark.parametrize("of_the_run", [True, False])
def test_a_weak_run_is_never_relied_on_whatever_the_map_says(of_the_run: bool) -> None:
    """It stays, with its uncertainty: what it says against a release counts."""
    run = (
        replace(RUN, weaknesses=(WEAK,))
        if of_the_run
        else replace(RUN, measures=(replace(ACCURACY, weaknesses=(WEAK,)),))
    )
    made = drafted(run, MAP + b"    load_bearing: true\n    note: as agreed\n")

    assert only_result(made)["load_bearing"] is False
    assert only_result(made)["note"] == "as agreed; only some samples were run"
    assert only_result(made)["stderr"] == Decimal("0.1")
    assert codes(made.warnings) == ["limited"]
    assert "permits" in made.warnings[0].message


def test_the_map_may_say_that_a_whole_run_is_not_relied_on() -> None:
    assert only_result(drafted(text=MAP + b"    load_bearing: false\n"))["load_bearing"] is False


@pytest.mark.parametrize(
    ("measure", "wanted"),
    [
        (
            {"interval": (Decimal("0.4"), Decimal("0.6"), Decimal("0.95"))},
            {
                "interval": {
                    "low": Decimal("0.4"),
                    "high": Decimal("0.6"),
                    "confidence": Decimal("0.95"),
                }
            },
        ),
        ({"successes": (2, 4)}, {"successes": 2, "trials": 4}),
        ({}, {"not_published": ["interval"]}),
    ],
)
def test_each_kind_of_uncertainty_is_kept_as_it_is(
    measure: dict[str, Any], wanted: dict[str, Any]
) -> None:
    run = replace(RUN, measures=(replace(ACCURACY, stderr=None, n=None, **measure),))
    result = only_result(drafted(run))

    assert wanted.items() <= result.items()
    assert "n" not in result


def test_a_bare_value_is_warned_of() -> None:
    assert codes(drafted(replace(RUN, measures=(replace(ACCURACY, stderr=None),))).warnings) == [
        "no-uncertainty"
    ]


def test_a_share_that_the_map_calls_per_cent_is_warned_of() -> None:
    text = MAP.replace(b"share", b"percent")

    assert codes(drafted(text=text).warnings) == ["unit"]


def test_metrics_that_nobody_mapped_are_listed() -> None:
    other = Measure("uplift", "refusals", Decimal(1), "/b", labels={"filter": "none"})
    made = drafted(replace(RUN, measures=(ACCURACY, other)))

    (warning,) = made.warnings
    assert (warning.code, warning.pointer) == ("unmapped", "/b")
    assert "`uplift refusals (filter none)`" in warning.message


def test_labels_tell_apart_what_has_one_name() -> None:
    strict = replace(ACCURACY, labels={"filter": "strict"}, value=Decimal("0.2"))
    loose = replace(ACCURACY, labels={"filter": "loose"})
    run = replace(RUN, measures=(strict, loose))

    assert refusal(run) == ["ambiguous"]
    made = drafted(run, MAP + b"    where: {filter: strict}\n")
    assert only_result(made)["value"] == Decimal("0.2")


def test_an_entry_that_matches_no_metric_of_its_task_is_a_fault() -> None:
    assert refusal(text=MAP.replace(b"accuracy", b"acuracy")) == ["no-such-metric"]


def test_an_entry_of_a_task_that_is_not_in_the_log_is_a_warning_beside_others() -> None:
    other = b"  - {task: cyber, metric: accuracy, line: cyber, unit: share}\n"

    assert codes(drafted(text=MAP + other).warnings) == ["not-in-the-log"]


@pytest.mark.parametrize("run", [RUN, replace(RUN, measures=())])
def test_a_map_that_matches_nothing_is_a_fault(run: EvaluationRun) -> None:
    assert refusal(run, MAP.replace(b"uplift", b"cyber")) == ["nothing-mapped"]


def test_a_number_that_cannot_be_used_stops_the_import_unless_it_is_to_be_skipped() -> None:
    unusable = Fault("/b", "not-a-number", "`NaN` is no number")
    run = replace(RUN, unusable=(unusable,))
    both = MAP + b"  - {task: uplift, metric: odds, line: odds, unit: ratio}\n"

    assert refusal(run) == ["not-a-number"]
    assert codes(drafted(run, both, skip_unusable=True).warnings) == [
        "not-a-number",
        "not-in-the-log",
    ]


def test_a_log_about_another_model_is_refused() -> None:
    """Its makers wrote in which one it is about, or the map says what the log must call it."""
    labelled = MAP.replace(b"kind:", b"model_label: gpt\nkind:")

    assert refusal(replace(RUN, model="lab/m@2")) == ["other-model"]
    assert refusal(text=labelled) == ["other-model"]
    assert refusal(replace(RUN, model_label="other"), labelled) == ["other-model"]
    assert drafted(replace(RUN, model=MODEL, model_label="gpt"), labelled).warnings == ()


def test_either_the_log_or_the_map_says_when() -> None:
    undated = replace(RUN, conducted_at=None)
    dated = MAP.replace(b"kind:", b"conducted_at: 2026-02-01T00:00:00Z\nkind:")

    assert refusal(undated) == ["no-instant"]
    assert refusal(text=dated) == ["two-instants"]
    assert drafted(undated, dated).body["conducted_at"] == "2026-02-01T00:00:00Z"


def test_what_a_person_should_know_of_the_whole_is_said_first() -> None:
    remark = Fault("", "completeness-unknown", "nobody knows")

    assert drafted(replace(RUN, remarks=(remark,))).warnings == (remark,)


def test_a_draft_that_could_not_be_recorded_is_refused() -> None:
    """An interval that does not hold its value."""
    interval = (Decimal("0.6"), Decimal("0.7"), Decimal("0.95"))
    run = replace(RUN, measures=(replace(ACCURACY, stderr=None, interval=interval),))

    assert refusal(run) == ["invalid-value"]


@pytest.mark.parametrize(
    ("found", "wanted", "code", "place"),
    [
        (b"metric: accuracy", b"metrik: accuracy", "unknown-field", (7, 5)),
        (b"line: bio", b"line: BIO", "invalid-value", (8, 5)),
        (b"source: inspect", b"source: lm-eval", "other-system", (2, 1)),
        (b"source: inspect", b"source: helm", "unknown-value", (2, 1)),
        (b"    unit: share\n", b"", "missing", (6, 5)),
        (b"source: inspect", b"source: table", "invalid-value", (1, 1)),
        (b"source: inspect", b"source: metr", "invalid-value", (1, 1)),
    ],
)
def test_faults_of_a_map_have_a_line_and_a_column(
    found: bytes, wanted: bytes, code: str, place: tuple[int, int]
) -> None:
    with pytest.raises(InvalidDocument) as refused:
        read_map(MAP.replace(found, wanted), "inspect")

    assert (code, place) in [(f.code, (f.line, f.column)) for f in refused.value.faults]


@pytest.mark.parametrize("columns", ["{value: v, successes: s}", "{value: v, low: l, high: h}"])
def test_columns_that_mean_nothing_alone_are_refused(columns: str) -> None:
    text = MAP.replace(b"source: inspect", b"source: table\ncolumns: " + columns.encode())

    with pytest.raises(InvalidDocument, match="go together"):
        read_map(text, "table")


def test_whole_columns_of_a_table_are_taken() -> None:
    columns = b"source: table\ncolumns: {value: v, successes: s, trials: t}"
    said = read_map(MAP.replace(b"source: inspect", columns), "table")

    assert said.columns is not None
    assert said.columns.trials == "t"


def test_no_spread_at_all_says_something_only_of_none_and_of_all() -> None:
    assert successes_of(Decimal("1.0"), 4) == (4, 4)
    assert successes_of(Decimal(0), 4) == (0, 4)
    assert successes_of(Decimal("0.5"), 4) is None
    assert successes_of(Decimal(1), None) is None


def test_a_source_keeps_no_character_that_cannot_be_seen() -> None:
    assert source("a\x1b[31m" + "b" * 400, "0" * 64, "s3://log")["title"].startswith("a\\x1b[31mb")
    assert len(source("b" * 400, "0" * 64)["title"]) == 300
    assert source("a", "0" * 64, "s3://log")["uri"] == "s3://log"


def test_a_model_is_named_with_its_version() -> None:
    assert model_ref("lab/m@1") == "lab/m@1"
    with pytest.raises(InvalidDocument):
        model_ref("lab/m")
