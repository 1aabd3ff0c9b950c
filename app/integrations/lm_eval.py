"""Results files of lm-evaluation-harness: `<metric>,<filter>` and its standard error, by task.

A group of tasks stands beside them with a number of its own; whatever cut one of its tasks short, cut
it short too.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import BinaryIO, Final

from app.assessment.evaluations import EvaluationRun, ImportMap, Measure, successes_of
from app.errors import Fault, InvalidDocument
from app.integrations.foreign import Foreign, read_json

_STDERR: Final = "_stderr"
_UNKNOWN: Final = "N/A"
"""What stands for a standard error that there is none of: no estimator, or one sample."""
_SHARES: Final = frozenset({"acc", "acc_norm", "exact_match", "em"})
"""The means of what is 0 or 1 for each sample."""


def read(file: BinaryIO, _: ImportMap) -> EvaluationRun:
    """The run in a results file. Raises `InvalidDocument`."""
    log = read_json(file, "lm-eval")
    measures: list[Measure] = []
    unusable: list[Fault] = []
    for task, results in log.at("results").entries():
        n, weaknesses = _samples(log, task)
        for key, value in results.entries():
            metric, comma, filter_ = key.partition(",")
            if not comma or metric.endswith(_STDERR):
                continue
            try:
                stderr = _stderr(results.at(f"{metric}{_STDERR},{filter_}"))
                number = value.number()
            except InvalidDocument as invalid:
                unusable += invalid.faults
                continue
            measures.append(
                _measure(task, metric, filter_, number, value.pointer, stderr, n, weaknesses)
            )
    return EvaluationRun(
        title=_title(log),
        conducted_at=log.at("date").epoch(),
        measures=tuple(measures),
        model_label=log.at("model_name").text_or_none(),
        unusable=tuple(unusable),
        weaknesses=tuple(_limited(log)),
    )


def _stderr(at: Foreign) -> Decimal | None:
    return None if not at.is_there or at.value == _UNKNOWN else at.number()


def _measure(
    task: str,
    metric: str,
    filter_: str,
    value: Decimal,
    place: str,
    stderr: Decimal | None,
    n: int | None,
    weaknesses: tuple[Fault, ...],
) -> Measure:
    no_spread = stderr == 0
    return Measure(
        task=task,
        metric=metric,
        value=value,
        pointer=place,
        labels={"filter": filter_},
        stderr=stderr if stderr is not None and stderr > 0 else None,
        successes=successes_of(value, n) if no_spread and metric in _SHARES else None,
        n=n,
        weaknesses=weaknesses,
    )


def _limited(log: Foreign) -> Iterator[Fault]:
    limit = log.at("config", "limit")
    if limit.is_there:
        yield Fault(limit.pointer, "limited", "only some samples were run (`limit` was set)")


def _samples(log: Foreign, task: str) -> tuple[int | None, tuple[Fault, ...]]:
    """Over how many samples the task's numbers are taken, and what was left out."""
    subtasks = log.at("group_subtasks", task)
    names = [one.text() for one in subtasks.items()] if subtasks.is_there else []
    if not names:
        return _of_a_task(log, task)
    total, weaknesses = 0, list[Fault]()
    for name in names:
        n, found = _of_a_task(log, name)
        total += n or 0
        weaknesses += found
    return total or None, tuple(weaknesses)


def _of_a_task(log: Foreign, task: str) -> tuple[int | None, tuple[Fault, ...]]:
    counts = log.at("n-samples", task)
    if not counts.is_there:
        if log.at("group_subtasks", task).is_there:
            return None, ()
        message = f"the file does not say how many samples of `{task}` were run"
        return None, (Fault(counts.pointer, "incomplete", message),)
    original, effective = counts.at("original").whole(), counts.at("effective").whole()
    if effective < original:
        message = f"{effective} of {original} samples of `{task}` were run"
        return effective, (Fault(counts.at("effective").pointer, "limited", message),)
    return effective or None, ()


def _title(log: Foreign) -> str:
    parts = ["lm-evaluation-harness results"]
    for name, key in (
        ("model", "model_source"),
        ("called", "model_name"),
        ("lm_eval", "lm_eval_version"),
        ("commit", "git_hash"),
    ):
        said = log.at(key).text_or_none()
        if said:
            parts.append(f"{name} {said}")
    return ", ".join(parts)
