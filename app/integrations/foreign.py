"""Documents of other systems, read leniently and by place: what we know is taken, and refused by its
pointer where it is not what it must be; what we do not know is passed over.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import BinaryIO, Final, NoReturn

from pydantic import TypeAdapter, ValidationError

from app.assessment.evaluations import System
from app.decoding import Unusable, decode_foreign_json, pointer, shown
from app.errors import Fault, InvalidDocument
from app.vocabulary import EARLIEST, LATEST, TEXT, Number, read_instant

_NUMBER: Final[TypeAdapter[Decimal]] = TypeAdapter(Number)
_WHOLE: Final = re.compile(r"\d{1,15}", re.ASCII)
MAX_LOG_BYTES: Final = 16 * 1024 * 1024
"""The largest text that is read of a log. Its samples, which make it large, are not wanted."""


class _Missing(Enum):
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Foreign:
    """A value of a foreign document, and where it stands there."""

    value: object
    pointer: str = ""
    is_text: bool = False
    """Of a document in which numbers are text: YAML, a table of text."""

    def at(self, *steps: str) -> "Foreign":
        """What stands below, at those keys; it may be missing."""
        here = self
        for step in steps:
            below = here.value.get(step, _Missing.MISSING) if isinstance(here.value, dict) else None
            here = Foreign(
                _Missing.MISSING if below is None else below,
                here.pointer + pointer(step),
                here.is_text,
            )
        return here

    @property
    def is_there(self) -> bool:
        """Whether it is there and is not null."""
        return self.value is not None and self.value is not _Missing.MISSING

    def text(self) -> str:
        """The text that it must be."""
        if not isinstance(self.value, str):
            self._refuse_kind("text")
        return self.value

    def text_or_none(self) -> str | None:
        """The text where it is one."""
        return self.value if isinstance(self.value, str) else None

    def whole(self) -> int:
        """The whole number, not below 0, that it must be."""
        if self.is_text and isinstance(self.value, str) and _WHOLE.fullmatch(self.value):
            return int(self.value)
        if not isinstance(self.value, int) or isinstance(self.value, bool) or self.value < 0:
            self._refuse_kind("a whole number")
        return self.value

    def number(self) -> Decimal:
        """The number that it must be: in JSON, a text that looks like one is none."""
        if self.is_text and isinstance(self.value, str):
            try:
                return _NUMBER.validate_python(self.value, context=dict(TEXT))
            except ValidationError:
                self._refuse_kind("a number")
        if isinstance(self.value, bool) or not isinstance(self.value, int | Decimal):
            self._refuse_kind("a number")
        return Decimal(self.value)

    def is_true(self) -> bool:
        """The `true` or `false` that it must be; missing is false."""
        if not self.is_there:
            return False
        if not isinstance(self.value, bool):
            self._refuse_kind("`true` or `false`")
        return self.value

    def entries(self) -> Iterator[tuple[str, "Foreign"]]:
        """The entries of the mapping that it must be."""
        if not isinstance(self.value, dict):
            self._refuse_kind("a mapping")
        for key, value in self.value.items():
            yield key, Foreign(value, self.pointer + pointer(key), self.is_text)

    def items(self) -> Iterator["Foreign"]:
        """The items of the list that it must be."""
        if not isinstance(self.value, list):
            self._refuse_kind("a list")
        for i, value in enumerate(self.value):
            yield Foreign(value, self.pointer + pointer(i), self.is_text)

    def instant(self) -> datetime:
        """The RFC 3339 time with a zone that it must be."""
        try:
            return read_instant(self.text())
        except ValueError as error:
            self.refuse("invalid-value", str(error))

    def epoch(self) -> datetime:
        """The seconds since 1970 that it must be, as a number or as its text."""
        try:
            seconds = Decimal(self.value) if isinstance(self.value, str) else self.number()
            instant = datetime.fromtimestamp(0, UTC) + timedelta(
                microseconds=int(seconds * 1_000_000)
            )
        except (ArithmeticError, ValueError, OverflowError):
            self.refuse("invalid-value", "must be seconds since 1970")
        if not EARLIEST <= instant <= LATEST:
            self.refuse("invalid-value", "must lie between 1970 and 2999")
        return instant

    def refuse(self, code: str, message: str) -> NoReturn:
        """Refuse the document for what stands here."""
        raise InvalidDocument((Fault(self.pointer, code, message),))

    def _refuse_kind(self, kind: str) -> NoReturn:
        if isinstance(self.value, Unusable):
            self.refuse(self.value.code, self.value.message)
        if not self.is_there:
            self.refuse("missing", f"is missing; it must be {kind}")
        said = (
            f"the text `{shown(self.value)}`" if isinstance(self.value, str) else "something else"
        )
        code = "not-a-number" if kind == "a number" else "wrong-type"
        self.refuse(code, f"must be {kind}, and is {said}")


@dataclass(frozen=True, slots=True)
class _Look:
    title: str
    keys: frozenset[str]


_LOOKS: Final[Mapping[str, _Look]] = {
    "inspect": _Look("a log of Inspect AI", frozenset({"version", "status", "eval"})),
    "lm-eval": _Look(
        "a results file of lm-evaluation-harness", frozenset({"results", "configs", "n-shot"})
    ),
    "eee": _Look("an Every Eval Ever record", frozenset({"schema_version", "evaluation_results"})),
    "metr": _Look("METR's benchmark results", frozenset({"benchmark_name", "results"})),
    "promptlayer": _Look("a report of PromptLayer", frozenset({"report", "stats"})),
    "dsse": _Look("a signed envelope", frozenset({"payload", "payloadType", "signatures"})),
    "assessment": _Look("an assessment of ours", frozenset({"model", "assessor", "conducted_at"})),
}


def read_text(file: BinaryIO) -> bytes:
    """The whole of a log that is text. Raises `InvalidDocument` for one that is too large."""
    data = file.read(MAX_LOG_BYTES + 1)
    if len(data) > MAX_LOG_BYTES:
        message = (
            f"the log is larger than {MAX_LOG_BYTES} bytes, and none of its samples is wanted: give "
            "its header or its summary alone"
        )
        raise InvalidDocument((Fault("", "log-too-large", message),))
    return data


def read_json(file: BinaryIO, system: System) -> Foreign:
    """The log of *system*, which must be JSON and look like one. Raises `InvalidDocument`."""
    data = read_text(file)
    if data.startswith(b"PK"):
        _refuse(system, "a ZIP archive, as Inspect AI writes its `.eval` logs")
    return expect(decode_foreign_json(data, max_bytes=MAX_LOG_BYTES), system)


def expect(value: object, system: System, *, is_text: bool = False) -> Foreign:
    """*value*, where it looks like what *system* writes. Raises `InvalidDocument` and says what else
    it looks like.
    """
    keys = frozenset(value) if isinstance(value, dict) else frozenset()
    if not keys >= _LOOKS[system].keys:
        alike = [look.title for look in _LOOKS.values() if keys >= look.keys]
        _refuse(system, alike[0] if alike else None)
    return Foreign(value, is_text=is_text)


def _refuse(system: System, like: str | None) -> NoReturn:
    wanted = _LOOKS[system].title
    message = f"this is not {wanted}: it looks like {like}" if like else f"this is not {wanted}"
    raise InvalidDocument((Fault("", "other-system", message),))
