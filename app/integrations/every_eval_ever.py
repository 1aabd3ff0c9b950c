"""Every Eval Ever records (schema 0.2 and 0.3): one form for the results of many harnesses.

Its converters carry over neither failed samples nor limits, so a record does not say whether its run
was whole; a person is told so.
"""

import re
from datetime import datetime
from decimal import Decimal
from typing import BinaryIO, Final

from app.assessment.evaluations import EvaluationRun, ImportMap, Measure, successes_of
from app.errors import Fault, InvalidDocument
from app.integrations.foreign import Foreign, read_json

_VERSIONS: Final = ("0.2.", "0.3.")
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SECONDS: Final = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_UNKNOWN_LEVEL: Final = -1


def read(file: BinaryIO, _: ImportMap) -> EvaluationRun:
    """The run in a record. Raises `InvalidDocument`."""
    record = read_json(file, "eee")
    version = record.at("schema_version")
    if not version.text().startswith(_VERSIONS):
        version.refuse("unknown-version", "must be a record of schema 0.2 or 0.3")
    measures: list[Measure] = []
    unusable: list[Fault] = []
    for result in record.at("evaluation_results").items():
        try:
            measures.append(_measure(result))
        except InvalidDocument as invalid:
            unusable += invalid.faults
    message = (
        "a record does not say whether samples failed or were left out: see the log it came from"
    )
    return EvaluationRun(
        title=_title(record),
        conducted_at=_conducted_at(record),
        measures=tuple(measures),
        model_label=record.at("model_info", "id").text_or_none(),
        unusable=tuple(unusable),
        remarks=(Fault("", "completeness-unknown", message),),
        artefacts=_artefacts(record),
    )


def _measure(result: Foreign) -> Measure:
    config, details = result.at("metric_config"), result.at("score_details")
    score = details.at("score")
    value = score.number()
    if config.at("has_unknown_level").is_true() and value == _UNKNOWN_LEVEL:
        score.refuse("unknown-level", "is -1, which stands for an unknown level")
    uncertainty = details.at("uncertainty")
    n = uncertainty.at("num_samples").whole() if uncertainty.at("num_samples").is_there else None
    interval = _interval(uncertainty.at("confidence_interval"), value)
    error = uncertainty.at("standard_error", "value")
    stderr = error.number() if error.is_there and interval is None else None
    is_share = config.at("score_type").text_or_none() == "binary"
    labels = {}
    named = result.at("evaluation_result_id").text_or_none()
    if named is not None:
        labels["result"] = named
    metric = config.at("metric_id").text_or_none() or config.at("metric_name").text_or_none()
    return Measure(
        task=result.at("evaluation_name").text(),
        metric=metric or "score",
        value=value,
        pointer=score.pointer,
        labels=labels,
        stderr=stderr if stderr is not None and stderr > 0 else None,
        interval=interval,
        successes=successes_of(value, n) if stderr == 0 and is_share else None,
        n=n or None,
        weaknesses=_weaknesses(result, n),
    )


def _interval(at: Foreign, value: Decimal) -> tuple[Decimal, Decimal, Decimal] | None:
    """The interval where its confidence is said, and the value lies in it; one of no width is none."""
    if not at.is_there or not at.at("confidence_level").is_there:
        return None
    low, high = at.at("lower").number(), at.at("upper").number()
    confidence = at.at("confidence_level").number()
    if not (0 < confidence < 1 and low <= value <= high and low < high):
        return None
    return low, high, confidence


def _weaknesses(result: Foreign, n: int | None) -> tuple[Fault, ...]:
    samples = result.at("source_data", "samples_number")
    if n is None or not samples.is_there or n >= samples.whole():
        return ()
    message = f"{n} of {samples.whole()} samples were scored"
    return (Fault(samples.pointer, "incomplete", message),)


def _conducted_at(record: Foreign) -> datetime | None:
    """When the run was; `None` where the record says only when it was written."""
    at = record.at("evaluation_timestamp")
    if not at.is_there:
        return None
    return at.epoch() if _SECONDS.fullmatch(at.text()) else at.instant()


def _artefacts(record: Foreign) -> tuple[tuple[str, str], ...]:
    detailed = record.at("detailed_evaluation_results")
    checksum = detailed.at("checksum").text_or_none() or ""
    algorithm = detailed.at("hash_algorithm").text_or_none()
    if algorithm != "sha256" or not _SHA256.fullmatch(checksum):
        return ()
    return (("results of the single samples, as the record names them", checksum),)


def _title(record: Foreign) -> str:
    source, library = record.at("source_metadata"), record.at("eval_library")
    relation = source.at("evaluator_relationship").text_or_none() or "unsaid"
    parts = [f"Every Eval Ever record {record.at('evaluation_id').text_or_none() or ''}".strip()]
    parts.append(f"evaluator {relation.replace('_', ' ')}")
    for name, at in (
        ("by", source.at("source_organization_name")),
        ("model", record.at("model_info", "id")),
        ("with", library.at("name")),
    ):
        if at.text_or_none():
            parts.append(f"{name} {at.text()}")
    return ", ".join(parts)
