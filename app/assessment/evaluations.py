"""What an evaluation run of another system measured, and how it becomes an assessment draft.

Which number is held against which line is a judgement, so a map says it: a document that a person
reviews. A run that is incomplete, limited or edited after the fact never becomes a result that
permits: it is recorded as not relied on, and what it says against a release still counts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import Field, TypeAdapter, model_validator

from app.assessment.assessment import Assessment
from app.decoding import decode_yaml, pointer, shown
from app.errors import Fault, InvalidDocument
from app.parsing import parse
from app.vocabulary import (
    JSON,
    TEXT,
    Document,
    Flag,
    Instant,
    Line,
    ModelRef,
    Sentence,
    Slug,
    write_instant,
)

System = Literal["inspect", "lm-eval", "eee", "metr", "promptlayer", "table"]
"""The systems whose runs are read, as a map and a path name them."""

_TITLE_CHARACTERS: Final = 300
_NOTE_CHARACTERS: Final = 4000


@dataclass(frozen=True, slots=True)
class Measure:
    """One number of a run, and where it stands in the log (`pointer`, RFC 6901).

    `labels` tell apart what has the same task and metric: a filter, a scorer, a reducer. At most one
    of `stderr`, `interval` and `successes` is given; none: nothing is known of its uncertainty.
    """

    task: str
    metric: str
    value: Decimal
    pointer: str
    labels: Mapping[str, str] = field(default_factory=dict)
    stderr: Decimal | None = None
    interval: tuple[Decimal, Decimal, Decimal] | None = None
    """Low, high, and the confidence between 0 and 1."""
    successes: tuple[int, int] | None = None
    """How many of how many."""
    n: int | None = None
    """Over how many samples the value is taken."""
    weaknesses: tuple[Fault, ...] = ()
    """Why it is not to be relied on; each with a code."""

    @property
    def name(self) -> str:
        """What it is called in a message: `task metric (label value, …)`."""
        labels = ", ".join(f"{key} {value}" for key, value in self.labels.items())
        return shown(f"{self.task} {self.metric}" + (f" ({labels})" if labels else ""), 200)


@dataclass(frozen=True, slots=True)
class EvaluationRun:
    """What a log of another system says, without any of its samples.

    `model_label` is what that system called the model, which is no identity. `model` is the
    `name@version` that the log itself says it is about, where its makers wrote that in. `unusable` are
    the metrics whose numbers cannot be taken; `remarks` what a person should know of the whole.
    """

    title: str
    conducted_at: datetime | None
    measures: tuple[Measure, ...]
    model_label: str | None = None
    model: str | None = None
    unusable: tuple[Fault, ...] = ()
    weaknesses: tuple[Fault, ...] = ()
    """What is true of all measures: `limited`, `edited`, …"""
    remarks: tuple[Fault, ...] = ()
    artefacts: tuple[tuple[str, str], ...] = ()
    """What else the run names by its SHA-256: a title, and 64 hexadecimal digits."""


def successes_of(value: Decimal, n: int | None) -> tuple[int, int] | None:
    """How many of *n* samples succeeded, where the share says that it was none or all of them.

    A standard error of 0 is what comes of n equal scores, and says nothing of the next one.
    """
    return (int(value) * n, n) if n and value in (0, 1) else None


class MappedMetric(Document):
    """Which line one metric of a run is held against."""

    task: Line
    metric: Line
    where: Annotated[dict[Slug, Line], Field(max_length=16)] = {}
    """Labels that tell it from others of the same task and metric."""
    line: Slug
    unit: Line
    """What the metric counts, in the words of the line: a share that is read as per cent is a
    hundredth of what it is."""
    policy: Slug | None = None
    """The policy whose line is meant, for warnings; without it, every policy in force."""
    variant: Line | None = None
    aggregation: Line | None = None
    load_bearing: Flag = True
    note: Sentence | None = None

    def takes(self, measure: Measure) -> bool:
        """Whether the entry names that measure."""
        return (
            measure.task == self.task
            and measure.metric == self.metric
            and all(measure.labels.get(key) == value for key, value in self.where.items())
        )


class TableColumns(Document):
    """The columns of a table by what they hold. `task` and `metric` may be fixed in words instead."""

    value: Line
    task: Line | None = None
    metric: Line | None = None
    stderr: Line | None = None
    low: Line | None = None
    high: Line | None = None
    confidence: Line | None = None
    successes: Line | None = None
    trials: Line | None = None
    n: Line | None = None
    labels: Annotated[tuple[Line, ...], Field(max_length=16)] = ()

    @model_validator(mode="after")
    def _whole_pairs(self) -> "TableColumns":
        if (self.successes is None) is not (self.trials is None):
            raise ValueError("`successes` and `trials` go together")
        if len({self.low is None, self.high is None, self.confidence is None}) > 1:
            raise ValueError("`low`, `high` and `confidence` go together")
        return self


class ImportMap(Document):
    """A reviewed statement of which metric of a system's runs is which line's result."""

    schema_: Literal["aslgate/import-map/v1"] = Field(alias="schema")
    source: System
    assessor: Line
    kind: Slug
    elicitation: Sentence | None = None
    model_label: Line | None = None
    """What the log must call the model; another label is refused. METR's file is read at it."""
    conducted_at: Instant | None = None
    """For logs that do not say when; refused for one that does."""
    columns: TableColumns | None = None
    results: Annotated[tuple[MappedMetric, ...], Field(min_length=1, max_length=500)]

    @model_validator(mode="after")
    def _columns_of_a_table(self) -> "ImportMap":
        if (self.columns is not None) is not (self.source == "table"):
            raise ValueError("`columns` are those of a `table`, and a table needs them")
        if self.source == "metr" and self.model_label is None:
            raise ValueError("`model_label` says which model of the file is meant")
        return self


_MAP: Final = TypeAdapter(ImportMap)
_ASSESSMENT: Final = TypeAdapter(Assessment)


def read_map(data: bytes, source: System) -> ImportMap:
    """The map in a YAML (or JSON) text. Raises `InvalidDocument` with every fault and its place."""
    decoded = decode_yaml(data)
    said = parse(_MAP, decoded.value, TEXT, decoded.places)
    if said.source != source:
        message = f"the map is for `{said.source}`, and this is `{source}`"
        place = decoded.places.get("/source", (1, 1))
        raise InvalidDocument((Fault("/source", "other-system", message, *place),))
    return said


@dataclass(frozen=True, slots=True)
class Draft:
    """An assessment as it would be recorded, and what a person should know before it is.

    `body` is what `POST /v1/assessments` takes; its decimals are numbers.
    """

    body: Mapping[str, Any]
    assessment: Assessment
    warnings: tuple[Fault, ...]
    """Each with a code; `pointer` is a place in the log, or in the draft below `/results`."""


def draft(
    run: EvaluationRun,
    said: ImportMap,
    *,
    model: str,
    sources: Sequence[Mapping[str, str]],
    skip_unusable: bool = False,
) -> Draft:
    """What *run* would be recorded as for the model version *model*.

    Raises `InvalidDocument` with everything that hinders it: the log is about another model, a number
    cannot be used (unless *skip_unusable*), an entry of the map matches no metric or several.
    """
    faults = [*_other_model(run, said, model), *_no_instant(run, said)]
    if not skip_unusable:
        faults += run.unusable
    chosen, misses, absent = _chosen(run, said)
    faults += misses
    if not chosen and not faults:
        tasks = ", ".join(
            f"`{shown(task)}`" for task in dict.fromkeys(m.task for m in run.measures)
        )
        message = f"the map names nothing that is in the log, whose tasks are {tasks or 'none'}"
        faults.append(Fault("", "nothing-mapped", message))
    if faults:
        raise InvalidDocument(tuple(faults))
    at = run.conducted_at or said.conducted_at
    assert at is not None, "_no_instant refuses that"
    body: dict[str, Any] = {
        "model": model,
        "kind": said.kind,
        "conducted_at": write_instant(at),
        "assessor": said.assessor,
        **({"elicitation": said.elicitation} if said.elicitation else {}),
        "sources": [dict(source) for source in sources],
        "results": [_result(entry, measure, run.weaknesses) for entry, measure in chosen],
    }
    warnings = (
        *run.remarks,
        *(run.unusable if skip_unusable else ()),
        *absent,
        *_warnings(run, chosen),
    )
    return Draft(body, parse(_ASSESSMENT, body, JSON), warnings)


def _other_model(run: EvaluationRun, said: ImportMap, model: str) -> Iterator[Fault]:
    if run.model is not None and run.model != model:
        message = f"the log says that it is about `{shown(run.model, 200)}`, and not `{model}`"
        yield Fault("", "other-model", message)
    if said.model_label is not None and run.model_label != said.model_label:
        label = "nothing" if run.model_label is None else f"`{shown(run.model_label, 200)}`"
        message = f"the log calls the model {label}, and the map expects `{said.model_label}`"
        yield Fault("", "other-model", message)


def _no_instant(run: EvaluationRun, said: ImportMap) -> Iterator[Fault]:
    if run.conducted_at is None and said.conducted_at is None:
        message = "the log does not say when it was made: say `conducted_at` in the map"
        yield Fault("", "no-instant", message)
    if run.conducted_at is not None and said.conducted_at is not None:
        message = "the log says itself when it was made: leave `conducted_at` out of the map"
        yield Fault("", "two-instants", message)


Chosen = tuple[MappedMetric, Measure]


def _chosen(
    run: EvaluationRun, said: ImportMap
) -> tuple[list[Chosen], list[Fault], tuple[Fault, ...]]:
    """What the map takes of the run; entries that match wrongly; entries of tasks that are not there."""
    chosen: list[Chosen] = []
    misses: list[Fault] = []
    absent: list[Fault] = []
    tasks = {measure.task for measure in run.measures}
    unusable = {fault.pointer for fault in run.unusable}
    for i, entry in enumerate(said.results):
        found = [measure for measure in run.measures if entry.takes(measure)]
        named = f"`{entry.task}` `{entry.metric}`"
        if len(found) == 1:
            chosen.append((entry, found[0]))
        elif found:
            which = "; ".join(f"`{measure.name}`" for measure in found)
            message = f"entry {i} of the map, {named}, matches several: {which}; say `where`"
            misses.append(Fault("", "ambiguous", message))
        elif entry.task in tasks and not unusable:
            message = f"entry {i} of the map, {named}, matches no metric of that task"
            misses.append(Fault("", "no-such-metric", message))
        else:
            message = f"entry {i} of the map, {named}, matches nothing in the log"
            absent.append(Fault("", "not-in-the-log", message))
    return chosen, misses, tuple(absent)


def _result(entry: MappedMetric, measure: Measure, of_the_run: Sequence[Fault]) -> dict[str, Any]:
    weaknesses = (*of_the_run, *measure.weaknesses)
    result: dict[str, Any] = {"line": entry.line, "value": measure.value, "unit": entry.unit}
    if measure.stderr is not None:
        result["stderr"] = measure.stderr
    elif measure.interval is not None:
        low, high, confidence = measure.interval
        result["interval"] = {"low": low, "high": high, "confidence": confidence}
    elif measure.successes is not None:
        result["successes"], result["trials"] = measure.successes
    else:
        result["not_published"] = ["interval"]
    if measure.n is not None:
        result["n"] = measure.n
    if entry.variant is not None:
        result["variant"] = entry.variant
    if entry.aggregation is not None:
        result["aggregation"] = entry.aggregation
    result["load_bearing"] = entry.load_bearing and not weaknesses
    said = [*([entry.note] if entry.note else []), *(weakness.message for weakness in weaknesses)]
    if said:
        result["note"] = "; ".join(said)[:_NOTE_CHARACTERS]
    return result


def _warnings(run: EvaluationRun, chosen: Sequence[Chosen]) -> Iterator[Fault]:
    taken = {id(measure) for _, measure in chosen}
    for weakness in run.weaknesses:
        message = f"{weakness.message}: no result of it is relied on, and none permits"
        yield Fault(weakness.pointer, weakness.code, message)
    for i, (entry, measure) in enumerate(chosen):
        for weakness in measure.weaknesses:
            message = f"{weakness.message}: it is not relied on, and permits nothing"
            yield Fault(pointer("results", i), weakness.code, message)
        if measure.stderr is None and measure.interval is None and measure.successes is None:
            message = (
                f"`{measure.name}` comes without any uncertainty, and by default rules nothing out"
            )
            yield Fault(pointer("results", i), "no-uncertainty", message)
        if entry.unit in ("percent", "per cent", "%") and 0 < abs(measure.value) <= 1:
            message = (
                f"the value {measure.value} looks like a share, and the map says `{entry.unit}`"
            )
            yield Fault(pointer("results", i), "unit", message)
    for measure in run.measures:
        if id(measure) not in taken:
            yield Fault(measure.pointer, "unmapped", f"`{measure.name}` is not in the map")


def source(title: str, sha256: str, uri: str | None = None) -> dict[str, str]:
    """A source of the draft, by the digest of its bytes."""
    named = {"title": shown(title, _TITLE_CHARACTERS - 1)[:_TITLE_CHARACTERS], "sha256": sha256}
    return named if uri is None else {**named, "uri": uri}


def model_ref(text: str) -> str:
    """*text* as a model version's name. Raises `InvalidDocument`."""
    return parse(TypeAdapter(ModelRef), text, TEXT)
