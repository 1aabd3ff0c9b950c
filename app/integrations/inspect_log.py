"""Logs of Inspect AI (`EvalLog` version 2), JSON or `.eval`: what was measured, and how surely.

`status: success` says only that the run came to its end: samples that failed on the way are left out
of the scores. So what counts is how many samples were scored, beside how many there should have been.
An `.eval` file is a ZIP archive whose `header.json` alone is read; it holds no samples.
"""

import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import BinaryIO, Final

from app.assessment.evaluations import EvaluationRun, ImportMap, Measure, successes_of
from app.decoding import decode_foreign_json, shown
from app.errors import Fault, InvalidDocument
from app.integrations.foreign import Foreign, expect, read_json

if sys.version_info >= (3, 14):
    import zipfile

    from compression.zstd import ZstdError
else:
    from backports.zstd import ZstdError, zipfile

MAX_HEADER_BYTES: Final = 8 * 1024 * 1024
MAX_RATIO: Final = 200
"""How many times larger than in the archive the header may be."""
_HEADER: Final = "header.json"
_METHODS: Final = frozenset(
    {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, getattr(zipfile, "ZIP_ZSTANDARD", 93)}
)
_ENCRYPTED: Final = 0x1
_STDERRS: Final = ("stderr", "bootstrap_stderr")
_MEANS: Final = ("accuracy", "mean")
"""The metrics that those are the standard error of: each is the mean over the samples."""
_SHARES: Final = ("accuracy",)
"""The means of scores that lie between 0 and 1."""


def read(file: BinaryIO, _: ImportMap) -> EvaluationRun:
    """The run in a log. Raises `InvalidDocument` for one that did not end well, that was invalidated, or
    that is no log.
    """
    is_zip = file.read(2) == b"PK"
    file.seek(0)
    log = expect(_header_of(file), "inspect") if is_zip else read_json(file, "inspect")
    _refuse_unless_successful(log)
    evaluation = log.at("eval")
    task = evaluation.at("task").text()
    weaknesses = tuple(_weaknesses(log))
    measures: list[Measure] = []
    unusable: list[Fault] = []
    for score in log.at("results", "scores").items():
        _read_score(log, task, score, measures, unusable)
    return EvaluationRun(
        title=_title(evaluation, task),
        conducted_at=log.at("stats", "completed_at").instant(),
        measures=tuple(measures),
        model_label=evaluation.at("model").text_or_none(),
        model=evaluation.at("metadata", "aslgate", "model").text_or_none(),
        unusable=tuple(unusable),
        weaknesses=weaknesses,
    )


def _header_of(file: BinaryIO) -> object:
    """The header in an `.eval` archive, read no further than `MAX_HEADER_BYTES`."""
    try:
        with zipfile.ZipFile(file) as archive:
            found = [entry for entry in archive.infolist() if entry.filename == _HEADER]
            if not found:
                raise _unreadable("unfinished", f"it has no `{_HEADER}`: the run has not ended")
            if len(found) > 1:
                raise _unreadable("duplicate-member", f"`{_HEADER}` stands in it more than once")
            entry = found[0]
            if entry.flag_bits & _ENCRYPTED or entry.compress_type not in _METHODS:
                raise _unreadable("undecodable", f"`{_HEADER}` is encrypted or packed unusually")
            most = min(MAX_HEADER_BYTES, MAX_RATIO * entry.compress_size)
            if entry.file_size > most:
                raise _unreadable("log-too-large", f"`{_HEADER}` unpacks to more than {most} bytes")
            with archive.open(entry) as member:
                data = member.read(most + 1)
    except (zipfile.BadZipFile, ZstdError, zlib.error, EOFError, OSError, ValueError) as error:
        said = shown(str(error) or type(error).__name__, 100)
        raise _unreadable("undecodable", f"it cannot be unpacked: {said}") from None
    if len(data) > most:
        raise _unreadable("log-too-large", f"`{_HEADER}` unpacks to more than {most} bytes")
    return decode_foreign_json(data, max_bytes=MAX_HEADER_BYTES)


def _unreadable(code: str, message: str) -> InvalidDocument:
    return InvalidDocument((Fault("", code, f"the `.eval` archive is not read: {message}"),))


def _refuse_unless_successful(log: Foreign) -> None:
    status = log.at("status").text()
    if status != "success":
        error = log.at("error", "message").text_or_none()
        why = f": {shown(error, 200)}" if error else ""
        log.at("status").refuse("unsuccessful", f"the run ended with status `{shown(status)}`{why}")
    if log.at("invalidated").is_true():
        log.at("invalidated").refuse("invalidated", "the run was invalidated after it ended")
    if not log.at("results").is_there:
        log.at("results").refuse("missing", "is missing: nothing was scored")


def _weaknesses(log: Foreign) -> Iterator[Fault]:
    """What is true of every number of the log."""
    config, dataset = log.at("eval", "config"), log.at("eval", "dataset", "samples")
    for name in ("limit", "sample_id"):
        if config.at(name).is_there:
            message = f"only some samples were run (`{name}` was set)"
            yield Fault(config.at(name).pointer, "limited", message)
    total = log.at("results", "total_samples").whole()
    completed = log.at("results", "completed_samples").whole()
    if completed < total:
        message = f"{completed} of {total} samples were completed"
        yield Fault(log.at("results", "completed_samples").pointer, "incomplete", message)
    if dataset.is_there and not config.at("limit").is_there:
        if total < dataset.whole() * _epochs(log):
            message = f"{total} samples were run, of {dataset.whole()} in the dataset"
            yield Fault(log.at("results", "total_samples").pointer, "limited", message)
    if log.at("samples").is_there:
        failed = [s for s in log.at("samples").items() if _failed(s)]
        if failed:
            message = f"{len(failed)} samples ended with an error or were invalidated"
            yield Fault(failed[0].pointer, "incomplete", message)
    if log.at("log_updates").is_there and list(log.at("log_updates").items()):
        message = "the log was edited after the run"
        yield Fault(log.at("log_updates").pointer, "edited", message)


def _failed(sample: Foreign) -> bool:
    return sample.at("error").is_there or sample.at("invalidation").is_there


def _epochs(log: Foreign) -> int:
    epochs = log.at("eval", "config", "epochs")
    return max(epochs.whole(), 1) if epochs.is_there else 1


@dataclass(frozen=True, slots=True)
class _Score:
    """What all metrics of one score share."""

    task: str
    labels: dict[str, str]
    n: int
    weaknesses: tuple[Fault, ...]


def _read_score(
    log: Foreign, task: str, at: Foreign, measures: list[Measure], unusable: list[Fault]
) -> None:
    score = _score(log, task, at)
    values: dict[str, tuple[Decimal, str]] = {}
    for name, metric in at.at("metrics").entries():
        try:
            values[name] = metric.at("value").number(), metric.at("value").pointer
        except InvalidDocument as invalid:
            unusable += invalid.faults
    stderr = next((values[name][0] for name in _STDERRS if name in values), None)
    # The error of a mean that cannot be read: the mean has none that is known.
    if any(name in dict(at.at("metrics").entries()) and name not in values for name in _STDERRS):
        stderr = None
    for name, (value, place) in values.items():
        if name not in _STDERRS:
            measures.append(_measure(score, name, value, place, stderr))


def _score(log: Foreign, task: str, at: Foreign) -> _Score:
    labels = {"score": at.at("name").text()}
    for name in ("scorer", "reducer"):
        said = at.at(name).text_or_none()
        if said is not None:
            labels[name] = said
    scored, expected = at.at("scored_samples"), _expected(log)
    weaknesses: list[Fault] = []
    n = scored.whole() if scored.is_there else 0
    unscored = at.at("unscored_samples").whole() if at.at("unscored_samples").is_there else 0
    if not scored.is_there:
        message = "the log does not say over how many samples it is"
        weaknesses.append(Fault(at.pointer, "incomplete", message))
    elif n < expected or unscored:
        message = f"{n} of {max(expected, n + unscored)} samples were scored"
        weaknesses.append(Fault(scored.pointer, "incomplete", message))
    return _Score(task, labels, n, tuple(weaknesses))


def _expected(log: Foreign) -> int:
    """How many samples a score should be over: with several epochs, each sample is reduced to one."""
    return -(-log.at("results", "total_samples").whole() // _epochs(log))


def _measure(
    score: _Score, name: str, value: Decimal, place: str, stderr: Decimal | None
) -> Measure:
    """One metric. No spread at all is not certainty: where each sample scored 0, or each 1, it is so
    many successes of so many; elsewhere nothing is known.
    """
    successes = None
    if name not in _MEANS or stderr is None or stderr < 0:
        stderr = None
    elif stderr == 0:
        stderr = None
        successes = successes_of(value, score.n) if name in _SHARES else None
    return Measure(
        task=score.task,
        metric=name,
        value=value,
        pointer=place,
        labels=score.labels,
        stderr=stderr,
        successes=successes,
        n=score.n or None,
        weaknesses=score.weaknesses,
    )


def _title(evaluation: Foreign, task: str) -> str:
    parts = [f"Inspect AI log: {task}"]
    for name, place in (
        ("task version", evaluation.at("task_version")),
        ("run", evaluation.at("run_id")),
        ("model", evaluation.at("model")),
        ("inspect_ai", evaluation.at("packages", "inspect_ai")),
        ("commit", evaluation.at("revision", "commit")),
    ):
        if isinstance(place.value, str | int):
            parts.append(f"{name} {place.value}")
    return ", ".join(parts)
