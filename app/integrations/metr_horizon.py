"""METR's time horizon reports: for each model, how long the tasks are that it completes.

A horizon is in minutes of a person's work, with a bootstrapped 95 % interval that is far from
symmetric. One model's scaffolds are one entry, and the file does not say when the runs were.
"""

from decimal import Decimal
from typing import BinaryIO, Final

from app.assessment.evaluations import EvaluationRun, ImportMap, Measure
from app.decoding import MAX_YAML_BYTES, decode_yaml, pointer, shown
from app.errors import Fault, InvalidDocument
from app.integrations.foreign import Foreign, expect, read_text

TASK: Final = "time-horizon"
"""What a map calls the task: the file has one."""
_CONFIDENCE: Final = Decimal("0.95")


def read(file: BinaryIO, said: ImportMap) -> EvaluationRun:
    """What the file says of the model that the map names. Raises `InvalidDocument`."""
    data = read_text(file)
    if len(data) > MAX_YAML_BYTES:
        message = (
            f"the file is larger than {MAX_YAML_BYTES} bytes: give the models that are meant alone"
        )
        raise InvalidDocument((Fault("", "log-too-large", message),))
    try:
        value = decode_yaml(data).value
    except InvalidDocument as invalid:
        # Its places would be taken for those of the map.
        faults = (
            Fault(f.pointer, f.code, f"line {f.line} of the file: {f.message}")
            for f in invalid.faults
        )
        raise InvalidDocument(tuple(faults)) from None
    log = expect(value, "metr", is_text=True)
    label = said.model_label or ""
    of_model = log.at("results", label)
    if not of_model.is_there:
        known = ", ".join(f"`{shown(name)}`" for name, _ in log.at("results").entries())
        of_model.refuse("no-such-model", f"the file has no model of that name; it has {known}")
    measures: list[Measure] = []
    unusable: list[Fault] = []
    for metric, found in of_model.at("metrics").entries():
        if found.at("estimate").is_there:
            try:
                measures.append(_measure(metric, found))
            except InvalidDocument as invalid:
                unusable += invalid.faults
    return EvaluationRun(
        title=f"METR time horizon: {log.at('benchmark_name').text()}, model {label}",
        conducted_at=None,
        measures=tuple(measures),
        model_label=label,
        unusable=tuple(unusable),
        remarks=_remarks(of_model),
    )


def _measure(metric: str, found: Foreign) -> Measure:
    value = found.at("estimate").number()
    interval = None
    if found.at("ci_low").is_there and found.at("ci_high").is_there:
        low, high = found.at("ci_low").number(), found.at("ci_high").number()
        if low > value or value > high:
            found.refuse("invalid-value", "the estimate lies outside of its interval")
        interval = (low, high, _CONFIDENCE) if low < high else None
    return Measure(TASK, metric, value, found.pointer + pointer("estimate"), interval=interval)


def _remarks(of_model: Foreign) -> tuple[Fault, ...]:
    scaffolds = of_model.at("scaffolds")
    if not isinstance(scaffolds.value, list) or len(scaffolds.value) < 2:
        return ()
    message = f"the numbers are over {len(scaffolds.value)} scaffolds together"
    return (Fault(scaffolds.pointer, "scaffolds", message),)
