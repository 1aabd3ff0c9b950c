"""Evaluation reports of PromptLayer. No service of it could be asked: the answers here are made after its
documentation.
"""

import json
from decimal import Decimal
from typing import Any

import pytest

from app.assessment.evaluations import Draft
from tests.integrations.importing import changed, imported, map_of, refused, warned

REPORT = json.dumps(
    {
        "success": True,
        "message": "",
        "report": {
            "id": 12,
            "name": "nightly",
            "comment": "shorter system prompt",
            "is_blueprint": False,
            "deleted": False,
            "created_at": "2026-11-07T05:31:56Z",
            "score": {"overall_score": 71.5, "score_type": "multi_column"},
            "score_calculation_error": None,
            "parent_report_id": 11,
            "dataset_id": 5,
            "prompt_registry_id": 123,
            "prompt_version_number": 4,
        },
        "status": "COMPLETED",
        "stats": {"status_counts": {"COMPLETED": 40, "FAILED": 0, "QUEUED": 0, "RUNNING": 0}},
        "report_columns": [
            {"name": "answer", "is_part_of_score": False, "score": None},
            {"name": "refuses", "is_part_of_score": True, "score": 83},
        ],
    }
).encode()
MAP = map_of(
    "promptlayer",
    "task: nightly, metric: refuses, line: refusals, variant: prompt 123 version 4, "
    'where: {prompt: "123", version: "4"}',
)


def draft(data: bytes = REPORT) -> Draft:
    return imported("promptlayer", data, MAP)


def result(of: Draft) -> Any:
    (only,) = of.body["results"]
    return only


def test_what_was_tested_what_changed_and_how_it_did() -> None:
    made = draft()

    assert result(made)["value"] == Decimal(83)
    assert result(made)["variant"] == "prompt 123 version 4"
    title = made.body["sources"][0]["title"]
    assert "prompt 123, version 4, dataset 5, after report 11" in title
    assert "shorter system prompt" in title
    assert made.body["conducted_at"] == "2026-11-07T05:31:56Z"


def test_a_score_is_a_bare_value_which_rules_nothing_out() -> None:
    assert result(draft())["not_published"] == ["interval"]
    assert warned(draft()) == ["no-uncertainty", "unmapped"]


def test_another_version_of_the_prompt_is_another_thing() -> None:
    other = changed(REPORT, lambda a: a["report"].update(prompt_version_number=5))

    assert refused("promptlayer", other, MAP)[0].code == "no-such-metric"


def test_the_overall_score_may_be_put_beside_the_report() -> None:
    score = {"overall_score": 99, "details": {"num_skipped": 2}}
    by_map = map_of("promptlayer", "task: nightly, metric: overall_score, line: refusals")
    made = imported("promptlayer", changed(REPORT, lambda a: a.update(score=score)), by_map)

    assert (result(made)["value"], result(made)["load_bearing"]) == (Decimal(99), False)


@pytest.mark.parametrize("state", ["FAILED", "QUEUED", "RUNNING"])
def test_cells_that_did_not_complete_make_it_incomplete(state: str) -> None:
    made = draft(changed(REPORT, lambda a: a["stats"]["status_counts"].update({state: 1})))

    assert (result(made)["load_bearing"], "incomplete" in warned(made)) == (False, True)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda a: a.update(status="RUNNING"), "unsuccessful"),
        (lambda a: a["report"].update(score_calculation_error="no"), "unsuccessful"),
        (lambda a: a["report"].update(is_blueprint=True), "unsuccessful"),
        (lambda a: a["report"].update(deleted=True), "invalidated"),
        (lambda a: a["report_columns"][1].update(score="83"), "not-a-number"),
        (lambda a: a["report"].update(created_at="2026-11-07T05:31:56"), "no-instant"),
        (lambda a: a.pop("report"), "other-system"),
    ],
)
def test_what_is_no_finished_report_is_refused(change: Any, code: str) -> None:
    assert refused("promptlayer", changed(REPORT, change), MAP)[0].code == code
