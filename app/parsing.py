"""A frozen type out of decoded data, or every fault of the data at once.

Pydantic does the work; this puts its faults into the words of the document's author: a JSON pointer
into what was sent, a stable code, and one sentence.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from app.decoding import MAX_FAULTS, pointer
from app.errors import Fault, InvalidDocument

T = TypeVar("T")

Places = Mapping[str, tuple[int, int]]
"""JSON pointer -> (line, column) of a document that was text with lines."""

MAX_VALUES: Final = 20_000
"""How many values a document may hold: every one may be at fault, and a fault takes its time.

Of the smallest values, the megabyte that a body may have holds half a million.
"""

_SENTENCES = {
    "missing": "is missing",
    "extra_forbidden": "is not a field of this document",
    "string_type": "must be text",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "too_short": "must not be empty",
}


def parse(
    kind: TypeAdapter[T], data: object, context: Mapping[str, str], places: Places | None = None
) -> T:
    """*data* as *kind*.

    *context* is `app.vocabulary.JSON` or `TEXT`: how numbers and booleans are written. Raises
    `InvalidDocument` with every fault, each with its place where *places* knows one.
    """
    if _holds_more_than(MAX_VALUES, data):
        message = f"holds more than {MAX_VALUES} values; send it in parts"
        raise InvalidDocument((Fault("", "too-many-values", message),))
    try:
        return kind.validate_python(data, context=dict(context))
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        faults = {_fault(details, data, places or {}) for details in errors}
    listed = sorted(_of_their_own(faults), key=_in_reading_order)
    if len(listed) > MAX_FAULTS:
        more = "there are more faults than are listed; correct these first"
        listed[MAX_FAULTS:] = [Fault("", "more-faults", more)]
    raise InvalidDocument(tuple(listed))


def place(fault: Fault, places: Places) -> Fault:
    """*fault* with the line and column of its pointer, or of the nearest parent that has one."""
    at = fault.pointer
    while at not in places and at:
        at = at.rpartition("/")[0]
    line, column = places.get(at, (None, None))
    return Fault(fault.pointer, fault.code, fault.message, line, column)


def _holds_more_than(most: int, data: object) -> bool:
    ahead, count = [data], 1
    while ahead:
        value = ahead.pop()
        if isinstance(value, dict | list | tuple):
            count += len(value)
            if count > most:
                return True
            ahead.extend(value.values() if isinstance(value, dict) else value)
    return False


def _of_their_own(faults: Iterable[Fault]) -> Iterator[Fault]:
    """Without lists that seem too short only because pydantic counts no item that is at fault."""
    faults = list(faults)
    above = {fault.pointer.rpartition("/")[0] for fault in faults}
    for up in list(above):
        while up:
            up = up.rpartition("/")[0]
            above.add(up)
    return (f for f in faults if f.code != "too-short" or f.pointer not in above)


def _in_reading_order(fault: Fault) -> tuple[int, int, str, str]:
    return (fault.line or 0, fault.column or 0, fault.pointer, fault.message)


def _fault(details: ErrorDetails, data: object, places: Places) -> Fault:
    code = details["type"]
    if code == "value_error":
        message = str(details["ctx"]["error"])
        code = "invalid-value"
    elif code in ("literal_error", "enum"):
        message = f"must be {details['ctx']['expected']}".replace("'", "`")
        code = "unknown-value"
    elif code == "extra_forbidden":
        message, code = _SENTENCES[code], "unknown-field"
    else:
        message = _SENTENCES.get(code, details["msg"][:1].lower() + details["msg"][1:])
        code = code.replace("_", "-")
    fault = Fault(pointer(*_path(details["loc"], data)), code, message)
    return place(fault, places) if places else fault


def _path(location: tuple[int | str, ...], data: object) -> list[int | str]:
    """The way through *data* that pydantic's location means.

    Pydantic also names the branch of a union that it tried and marks a faulty key; neither is a
    step in the document. A step that is not there is kept only where it is the missing field.
    """
    steps: list[int | str] = []
    here: Any = data
    for position, step in enumerate(location):
        last = position == len(location) - 1
        if isinstance(here, dict) and step in here:
            here = here[step]
        elif isinstance(here, list | tuple) and isinstance(step, int) and step < len(here):
            here = here[step]
        elif not (last and isinstance(here, dict) and step != "[key]" and ":" not in str(step)):
            continue
        steps.append(step)
    return steps
