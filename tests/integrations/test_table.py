"""Tables of results, CSV and JSON, whose columns the map names."""

import json
from decimal import Decimal
from typing import Any

import pytest

from app.assessment.evaluations import Draft
from app.integrations import table
from tests.integrations.importing import imported, map_of, refused, warned

CSV = """\
task,metric,value,se,low,high,conf,k,n,split
uplift,share,0.25,,,,,5,20,test
cyber,solved,0.5,0.1,,,,,40,test
chem,score,3.10,,2.5,4,0.95,,10,test
bio,bare,1,0,,,,,,
"""
COLUMNS = (
    "{task: task, metric: metric, value: value, stderr: se, low: low, high: high, "
    "confidence: conf, successes: k, trials: n, n: n, labels: [split]}"
)
ENTRIES = {
    "uplift": "task: uplift, metric: share, where: {split: test}, line: uplift",
    "cyber": "task: cyber, metric: solved, line: cyber",
    "chem": "task: chem, metric: score, line: chem",
    "bio": "task: bio, metric: bare, line: bio",
}
WHEN = "2026-01-02T00:00:00Z"


def table_map(*names: str, columns: str = COLUMNS) -> bytes:
    entries = (ENTRIES[name] for name in names)
    return map_of("table", *entries, columns=columns, conducted_at=WHEN)


def draft(data: str = CSV, *names: str) -> Draft:
    return imported("table", data.encode(), table_map(*(names or tuple(ENTRIES))))


def test_each_row_is_a_number_with_what_it_says_of_its_uncertainty() -> None:
    uplift, cyber, chem, bio = draft().body["results"]

    assert (uplift["successes"], uplift["trials"], uplift["n"]) == (5, 20, 20)
    assert cyber["stderr"] == Decimal("0.1")
    assert chem["interval"]["low"] == Decimal("2.5")
    assert bio["not_published"] == ["interval"]
    assert chem["value"] == Decimal("3.10")


def test_nobody_but_the_reviewer_says_that_it_is_whole() -> None:
    assert warned(draft()) == ["completeness-unknown", "no-uncertainty"]


def test_a_list_of_json_objects_is_a_table_too() -> None:
    rows = [{"task": "cyber", "metric": "solved", "value": 0.5, "se": 0.1}]
    (result,) = draft(json.dumps(rows), "cyber").body["results"]

    assert result["stderr"] == Decimal("0.1")


def test_without_columns_for_them_task_and_metric_are_named_by_the_table() -> None:
    by_map = map_of(
        "table",
        f"task: {table.TASK}, metric: score, line: uplift",
        columns="{value: score}",
        conducted_at=WHEN,
    )
    made = imported("table", b"\xef\xbb\xbfscore\n0.5\n", by_map)

    assert made.body["results"][0]["value"] == Decimal("0.5")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (CSV.replace("0.5,", "50%,"), "not-a-number"),
        (CSV.replace("0.5,", '"0,5",'), "not-a-number"),
        (CSV.replace("0.5,", "NaN,"), "not-a-number"),
        (CSV.replace("0.5,", ","), "missing"),
        (CSV.replace("cyber,", "cyber,more,"), "ragged"),
        (CSV.replace("split", "task"), "duplicate-key"),
        (CSV.replace("cyber", '"cyber'), "syntax"),
        (CSV.replace(",20,", ",2O,"), "wrong-type"),
        ('{"value": 1}', "other-system"),
        ('[{"task": "cyber", "metric": "solved", "value": "0.5"}]', "not-a-number"),
        ('[{"task": "cyber", "metric": "solved", "value": NaN}]', "not-a-number"),
        ("[1]", "missing"),
        ("", "nothing-mapped"),
    ],
)
def test_what_cannot_be_read_in_one_way_is_refused(data: str, code: str) -> None:
    assert code in [f.code for f in refused("table", data.encode(), table_map("cyber"))]


def test_other_bytes_than_utf_8_are_refused() -> None:
    assert refused("table", b"value\n\xff\n", table_map("cyber"))[0].code == "not-utf-8"


def test_a_table_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MAX_ROWS", 3)

    assert refused("table", CSV.encode(), table_map("cyber"))[0].code == "too-many-rows"


def test_an_interval_of_no_width_is_none() -> None:
    made = draft(CSV.replace("2.5,4,", "3.10,3.10,"), "chem")
    result: Any = made.body["results"][0]

    assert result["not_published"] == ["interval"]


def test_a_number_that_is_text_can_be_skipped_where_others_are_whole() -> None:
    data = CSV.replace("0.5,", "50%,").encode()
    made = imported("table", data, table_map(*ENTRIES), skip_unusable=True)

    assert warned(made)[:3] == ["completeness-unknown", "not-a-number", "not-in-the-log"]
