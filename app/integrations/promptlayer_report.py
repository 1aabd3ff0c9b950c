"""Evaluation reports of PromptLayer, as `GET /reports/{id}` answers: what was tested, in which version
of which prompt, and how it scored. Known from its documentation alone.

A score comes without any uncertainty, so by default it rules nothing out and still counts against.
"""

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import BinaryIO, Final

from app.assessment.evaluations import EvaluationRun, ImportMap, Measure
from app.decoding import shown
from app.errors import Fault, InvalidDocument
from app.integrations.foreign import Foreign, read_json

OVERALL: Final = "overall_score"
"""What a map calls the score of the whole report; a column's is called as the column."""


def read(file: BinaryIO, _: ImportMap) -> EvaluationRun:
    """The run in a report. Raises `InvalidDocument` for one that is not at its end, or is none."""
    answer = read_json(file, "promptlayer")
    report = answer.at("report")
    _refuse_unless_completed(answer, report)
    weaknesses = tuple(_weaknesses(answer, report))
    labels = {
        name: str(report.at(key).whole())
        for name, key in (("prompt", "prompt_registry_id"), ("version", "prompt_version_number"))
        if report.at(key).is_there
    }
    task = report.at("name").text()
    measures: list[Measure] = []
    unusable: list[Fault] = []
    for metric, score in _scores(answer, report):
        try:
            measures.append(Measure(task, metric, score.number(), score.pointer, labels=labels))
        except InvalidDocument as invalid:
            unusable += invalid.faults
    return EvaluationRun(
        title=_title(report, task),
        conducted_at=_conducted_at(report.at("created_at")),
        measures=tuple(measures),
        unusable=tuple(unusable),
        weaknesses=weaknesses,
    )


def _refuse_unless_completed(answer: Foreign, report: Foreign) -> None:
    status = answer.at("status")
    if status.text() != "COMPLETED":
        status.refuse("unsuccessful", f"the report's status is `{shown(status.text())}`")
    error = report.at("score_calculation_error")
    if error.is_there:
        error.refuse("unsuccessful", "the score could not be computed")
    if report.at("deleted").is_true():
        report.at("deleted").refuse("invalidated", "the report was deleted")
    if report.at("is_blueprint").is_true():
        report.at("is_blueprint").refuse(
            "unsuccessful", "it is a blueprint, of which nothing was run"
        )


def _weaknesses(answer: Foreign, report: Foreign) -> Iterator[Fault]:
    counts = answer.at("stats", "status_counts")
    done = counts.at("COMPLETED").whole()
    for state in ("FAILED", "QUEUED", "RUNNING"):
        cells = counts.at(state)
        if cells.is_there and cells.whole():
            message = f"{cells.whole()} cells are {state.lower()}, and {done} completed"
            yield Fault(cells.pointer, "incomplete", message)
    for details in (answer.at("score", "details"), report.at("score", "details")):
        skipped = details.at("num_skipped")
        if skipped.is_there and skipped.whole():
            yield Fault(skipped.pointer, "incomplete", f"{skipped.whole()} rows were skipped")


def _scores(answer: Foreign, report: Foreign) -> Iterator[tuple[str, Foreign]]:
    """The overall score, of the report or of `GET /reports/{id}/score` put beside it, and the columns'."""
    for at in (answer.at("score", OVERALL), report.at("score", OVERALL)):
        if at.is_there:
            yield OVERALL, at
            break
    columns = answer.at("report_columns")
    for column in columns.items() if columns.is_there else ():
        if column.at("is_part_of_score").is_true() and column.at("score").is_there:
            yield column.at("name").text(), column.at("score")


def _conducted_at(at: Foreign) -> datetime | None:
    """When the report was made; `None` where it says no zone, and so no instant."""
    text = at.text()
    return at.instant() if text.endswith("Z") or "+" in text else None


def _title(report: Foreign, task: str) -> str:
    parts = [f"PromptLayer report: {task}"]
    for name, key in (
        ("id", "id"),
        ("prompt", "prompt_registry_id"),
        ("version", "prompt_version_number"),
        ("dataset", "dataset_id"),
        ("after report", "parent_report_id"),
        ("comment", "comment"),
    ):
        value = report.at(key).value
        if isinstance(value, str | int | Decimal) and value != "":
            parts.append(f"{name} {value}")
    return ", ".join(parts)
