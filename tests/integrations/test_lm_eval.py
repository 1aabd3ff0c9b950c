"""Results files of lm-evaluation-harness, from a genuine one."""

from decimal import Decimal
from typing import Any

import pytest

from app.assessment.evaluations import Draft
from tests.integrations.importing import SAMPLES, changed, imported, map_of, refused, warned

RESULTS = (SAMPLES / "lm-eval" / "results.json").read_bytes()
TASK = "aslgate_toy"
MAP = map_of("lm-eval", f"task: {TASK}, metric: acc, where: {{filter: none}}, line: uplift")


def draft(data: bytes = RESULTS, **how: Any) -> Draft:
    return imported("lm-eval", data, MAP, **how)


def result(of: Draft) -> Any:
    (only,) = of.body["results"]
    return only


def set_score(value: Any, stderr: Any) -> bytes:
    def change(log: Any) -> None:
        log["results"][TASK] |= {"acc,none": value, "acc_stderr,none": stderr}

    return changed(RESULTS, change)


def test_a_metric_comes_with_its_standard_error_and_its_number_of_samples() -> None:
    made = draft()

    assert result(made) == {
        "line": "uplift",
        "value": Decimal("0.7"),
        "unit": "share",
        "stderr": Decimal("0.10513149660756935"),
        "n": 20,
        "load_bearing": True,
    }
    assert made.body["conducted_at"] == "2026-11-23T15:40:28.429540Z"
    assert warned(made) == ["unmapped"]


def test_the_models_random_label_stays_a_label() -> None:
    made = draft()

    assert made.body["model"] == "example-lm@1"
    assert "called qdpv68r5" in made.body["sources"][0]["title"]


def test_no_standard_error_is_none() -> None:
    made = draft(set_score(0.7, "N/A"))

    assert result(made)["not_published"] == ["interval"]
    assert "no-uncertainty" in warned(made)


def test_none_of_all_is_not_certainty() -> None:
    made = draft(set_score(0.0, 0.0))

    assert (result(made)["successes"], result(made)["trials"]) == (0, 20)


def test_no_spread_of_what_is_no_share_says_nothing() -> None:
    def change(log: Any) -> None:
        log["results"][TASK] |= {"f1,none": 1.0, "f1_stderr,none": 0.0}

    by_map = map_of("lm-eval", f"task: {TASK}, metric: f1, line: uplift")
    made = imported("lm-eval", changed(RESULTS, change), by_map)

    assert result(made)["not_published"] == ["interval"]


@pytest.mark.parametrize(("value", "stderr"), [("0.7", 0.1), (0.7, "0.1"), (True, 0.1)])
def test_numbers_that_are_text_are_refused(value: Any, stderr: Any) -> None:
    (fault,) = refused("lm-eval", set_score(value, stderr), MAP)

    assert fault.code == "not-a-number"
    assert fault.pointer.startswith("/results/aslgate_toy/acc")


def test_a_limited_run_permits_nothing() -> None:
    made = draft(changed(RESULTS, lambda log: log["config"].update(limit=5)))

    assert (result(made)["load_bearing"], warned(made)) == (False, ["limited", "unmapped"])


def test_fewer_samples_than_there_are_is_limited() -> None:
    def change(log: Any) -> None:
        log["n-samples"][TASK]["effective"] = 5

    made = draft(changed(RESULTS, change))

    assert (result(made)["load_bearing"], result(made)["n"]) == (False, 5)


def test_samples_that_are_not_counted_permit_nothing() -> None:
    made = draft(changed(RESULTS, lambda log: log["n-samples"].pop(TASK)))

    assert (result(made)["load_bearing"], warned(made)) == (False, ["incomplete", "unmapped"])


def test_a_group_is_as_weak_as_its_weakest_task() -> None:
    def change(log: Any) -> None:
        log["results"]["group"] = {"alias": "group", "acc,none": 0.5, "acc_stderr,none": 0.1}
        log["group_subtasks"] = {"group": [TASK, "second"], TASK: [], "second": []}
        log["n-samples"]["second"] = {"original": 20, "effective": 10}

    by_map = map_of("lm-eval", "task: group, metric: acc, line: uplift")
    made = imported("lm-eval", changed(RESULTS, change), by_map)

    assert (result(made)["load_bearing"], result(made)["n"]) == (False, 30)
    assert "10 of 20 samples of `second` were run" in result(made)["note"]


@pytest.mark.parametrize("date", ["soon", -1, 1e20])
def test_a_date_that_is_none_is_refused(date: Any) -> None:
    (fault,) = refused("lm-eval", changed(RESULTS, lambda log: log.update(date=date)), MAP)

    assert (fault.pointer, fault.code) == ("/date", "invalid-value")


def test_a_log_of_inspect_is_refused_and_named() -> None:
    packed = (SAMPLES / "inspect" / "success.eval").read_bytes()
    plain = (SAMPLES / "inspect" / "success-limit-2.header.json").read_bytes()

    assert "ZIP archive" in refused("lm-eval", packed, MAP)[0].message
    assert "a log of Inspect AI" in refused("lm-eval", plain, MAP)[0].message
