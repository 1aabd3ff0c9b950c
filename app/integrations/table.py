"""Tables of results, CSV or a JSON list of objects, whose columns the map names.

One row is one number. A table says neither when its numbers were found nor whether a run was whole:
the map says the one, and whoever reviews it answers for the other.
"""

import csv
from collections.abc import Iterator
from io import StringIO
from typing import BinaryIO, Final

from app.assessment.evaluations import EvaluationRun, ImportMap, Measure, TableColumns
from app.decoding import decode_foreign_json, shown
from app.errors import Fault, InvalidDocument
from app.integrations.foreign import MAX_LOG_BYTES, Foreign, read_text

TASK: Final = "table"
"""The task of a table without a column for it."""
MAX_ROWS: Final = 20_000
_BOM: Final = b"\xef\xbb\xbf"


def read(file: BinaryIO, said: ImportMap) -> EvaluationRun:
    """The numbers of a table. Raises `InvalidDocument`."""
    columns = said.columns
    assert columns is not None, "a map for a table has them"
    data = read_text(file)
    is_json = data.lstrip()[:1] in (b"[", b"{")
    rows = _of_json(data) if is_json else _of_csv(data)
    measures: list[Measure] = []
    unusable: list[Fault] = []
    for i, row in enumerate(rows):
        if i == MAX_ROWS:
            row.refuse("too-many-rows", f"the table has more than {MAX_ROWS} rows")
        try:
            measures.append(_measure(row, columns))
        except InvalidDocument as invalid:
            unusable += invalid.faults
    message = "a table does not say whether samples failed or were left out"
    return EvaluationRun(
        title=f"table of results, {'JSON' if is_json else 'CSV'}",
        conducted_at=None,
        measures=tuple(measures),
        unusable=tuple(unusable),
        remarks=(Fault("", "completeness-unknown", message),),
    )


def _of_json(data: bytes) -> Iterator[Foreign]:
    value = decode_foreign_json(data, max_bytes=MAX_LOG_BYTES)
    if not isinstance(value, list):
        message = "this is not a table: in JSON, one is a list of objects"
        raise InvalidDocument((Fault("", "other-system", message),))
    return Foreign(value).items()


def _of_csv(data: bytes) -> Iterator[Foreign]:
    """The rows by the names in the first one. What cannot be told apart is refused."""
    try:
        text = data.removeprefix(_BOM).decode()
    except UnicodeDecodeError:
        raise _refused("not-utf-8", "the table is not UTF-8") from None
    lines = csv.reader(StringIO(text, newline=""), strict=True)
    try:
        names = next(lines, [])
        if len(set(names)) < len(names):
            raise _refused("duplicate-key", "two columns have one name")
        for i, cells in enumerate(lines):
            if not cells:
                continue
            if len(cells) != len(names):
                message = f"row {i + 1} has {len(cells)} cells, and there are {len(names)} columns"
                raise _refused("ragged", message)
            # An empty cell says nothing.
            row = {name: cell or None for name, cell in zip(names, cells, strict=True)}
            yield Foreign(row, f"/{i}", is_text=True)
    except csv.Error as error:
        raise _refused("syntax", f"the table is not CSV: {shown(str(error), 100)}") from None


def _refused(code: str, message: str) -> InvalidDocument:
    return InvalidDocument((Fault("", code, message),))


def _measure(row: Foreign, columns: TableColumns) -> Measure:
    value = row.at(columns.value)
    interval, successes = None, None
    if columns.low and columns.high and columns.confidence and row.at(columns.low).is_there:
        low, high = row.at(columns.low).number(), row.at(columns.high).number()
        interval = (low, high, row.at(columns.confidence).number()) if low < high else None
    if columns.successes and columns.trials and row.at(columns.successes).is_there:
        successes = row.at(columns.successes).whole(), row.at(columns.trials).whole()
    stderr = row.at(columns.stderr) if columns.stderr else None
    error = stderr.number() if stderr is not None and stderr.is_there else None
    n = row.at(columns.n) if columns.n else None
    return Measure(
        task=row.at(columns.task).text() if columns.task else TASK,
        metric=row.at(columns.metric).text() if columns.metric else columns.value,
        value=value.number(),
        pointer=value.pointer,
        labels={name: row.at(name).text() for name in columns.labels if row.at(name).is_there},
        stderr=error if error is not None and error > 0 and not (interval or successes) else None,
        interval=None if successes else interval,
        successes=successes,
        n=n.whole() or None if n is not None and n.is_there else None,
    )
