"""Words that several rooms share: truth, decisions, identifiers, instants, durations, numbers.

Each annotated type reads itself from text or JSON and says in one sentence what is wrong, so a
document's faults can all be listed. A document that was read from JSON must use JSON's own numbers
and booleans; one that was read from text (YAML, or a record of ours, in which decimals are text)
has them as text. Which of the two it is, is the validation context `JSON` or `TEXT`.
"""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Annotated, Any, Final

from dateutil.relativedelta import relativedelta
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
)

JSON: Final = {"source": "json"}
TEXT: Final = {"source": "text"}


class Truth(Enum):
    """Kleene's three values. UNKNOWN is the normal answer where evidence is absent or weak."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"

    def __invert__(self) -> "Truth":
        return {Truth.YES: Truth.NO, Truth.NO: Truth.YES, Truth.UNKNOWN: Truth.UNKNOWN}[self]


class Decision(Enum):
    """What a determination says of the action, strictest first in `strictness`."""

    ALLOW = "allow"
    ALLOW_WITH_CONDITIONS = "allow_with_conditions"
    DENY = "deny"

    @property
    def strictness(self) -> int:
        """0 for `allow`, 2 for `deny`: the order in which a law compares two decisions."""
        return {Decision.ALLOW: 0, Decision.ALLOW_WITH_CONDITIONS: 1, Decision.DENY: 2}[self]


class Status(Enum):
    """What the evidence says of a capability threshold."""

    REACHED = "reached"
    RULED_OUT = "ruled_out"
    NOT_RULED_OUT = "not_ruled_out"
    NO_THRESHOLD = "no_threshold"


class Basis(Enum):
    """What a threshold's status rests on."""

    LINES = "lines"
    FINDING = "finding"
    PRECAUTION = "precaution"
    BOUNDED_BY = "bounded-by"
    CARRIED_OVER = "carried-over"
    UNASSESSED = "unassessed"


class Outcome(Enum):
    """What a finding says of a threshold; `severity` orders them for the law of risk."""

    RULED_OUT = "ruled-out"
    BOUNDED_BY = "bounded-by"
    CARRIED_OVER = "carried-over"
    INCONCLUSIVE = "inconclusive"
    NOT_RULED_OUT = "not-ruled-out"
    REACHED = "reached"

    @property
    def severity(self) -> int:
        """Higher is worse. Only `ruled-out` permits by itself."""
        return list(Outcome).index(self)


class Verb(Enum):
    """What a role did in a sign-off. `reassess` asks for a new assessment and `reversed` takes back
    what the role permitted before, or overrules others; the rest permit.
    """

    PREPARED = "prepared"
    CRITIQUED = "critiqued"
    RECOMMENDED = "recommended"
    DECIDED = "decided"
    APPROVED = "approved"
    CONSULTED = "consulted"
    NOTIFIED = "notified"
    REASSESS = "reassess"
    REVERSED = "reversed"


class Document(BaseModel):
    """The base of every frozen type that is read from a document: unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _closed(kind: type[Enum]) -> BeforeValidator:
    """Read a member of *kind* from its text, and say which there are."""

    def read(value: Any) -> Any:
        if isinstance(value, str):
            for member in kind:
                if member.value == value:
                    return member
            raise ValueError(f"must be one of {', '.join(f'`{m.value}`' for m in kind)}")
        return value

    return BeforeValidator(read)


AnOutcome = Annotated[
    Outcome, _closed(Outcome), PlainSerializer(lambda v: v.value, when_used="json")
]
AVerb = Annotated[Verb, _closed(Verb), PlainSerializer(lambda v: v.value, when_used="json")]


# --- identifiers -------------------------------------------------------------------------------

MODEL_REF = r"[a-z0-9][a-z0-9._/-]{0,127}@[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
SLUG = r"[a-z0-9][a-z0-9._-]{0,63}"
NAME = r"[A-Za-z0-9](?:[A-Za-z0-9 &._/-]{0,62}[A-Za-z0-9])?"
DIGEST = r"sha256:[0-9a-f]{64}"
VERSION = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}"
PRINCIPAL = r"(?:person|team|service):[a-z0-9][a-z0-9._@+-]{0,126}"


def _matching(pattern: str, hint: str) -> AfterValidator:
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(hint)
        return value

    return AfterValidator(check)


def _no_empty_segment(value: str) -> str:
    """Refuse `a//b`, `a/../b` and `a/`: two spellings must not name one model."""
    name = value.rpartition("@")[0]
    if any(segment in ("", ".", "..") for segment in name.split("/")):
        raise ValueError("a model's name has no empty, `.` or `..` segment")
    return value


def _schema(pattern: str, example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{pattern}$", "examples": [example]})


ModelRef = Annotated[
    str,
    _matching(MODEL_REF, "must be `name@version`, lower-case ASCII, e.g. `claude-opus-4@20250514`"),
    AfterValidator(_no_empty_segment),
    _schema(MODEL_REF, "claude-opus-4@20250514"),
]
Slug = Annotated[
    str,
    _matching(SLUG, "must be lower-case letters, digits, `.`, `_` and `-` (64 at most)"),
    _schema(SLUG, "external-deployment"),
]


def is_slug(written: str) -> bool:
    """Whether *written* could be a name that a policy gives, of a role say."""
    return re.fullmatch(SLUG, written) is not None


Principal = Annotated[
    str,
    _matching(PRINCIPAL, "must be `person:`, `team:` or `service:`, and a name in lower case"),
    _schema(PRINCIPAL, "person:alice"),
]
"""Who acts: a person, a team or a service. Two credentials of one principal are one principal."""


def principal_of(actor: str) -> str:
    """Who *actor* is: it names the principal and the credential, `person:alice/key_…`.

    An actor recorded before credentials belonged to principals is the credential alone; then each is
    somebody of its own.
    """
    principal, between, _ = actor.rpartition("/")
    return principal if between else actor


Name = Annotated[
    str,
    _matching(NAME, "must be letters, digits, spaces and `& . _ / -` (64 at most)"),
    _schema(NAME, "CBRN-3"),
]
VersionLabel = Annotated[
    str,
    _matching(VERSION, "must be a version label in letters, digits and `. _ + -`"),
    _schema(VERSION, "2.2"),
]
Digest = Annotated[
    str,
    _matching(DIGEST, "must be `sha256:` and 64 lower-case hexadecimal digits"),
    _schema(DIGEST, f"sha256:{'0' * 64}"),
]


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value


Sentence = Annotated[str, StringConstraints(max_length=4000), AfterValidator(_not_blank)]
Line = Annotated[str, StringConstraints(max_length=300), AfterValidator(_not_blank)]


# --- instants and durations --------------------------------------------------------------------

_INSTANT = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2999, 12, 31, tzinfo=UTC)


def read_instant(text: str) -> datetime:
    """The UTC instant of an RFC 3339 timestamp. Raises `ValueError` where it has no zone."""
    parts = _INSTANT.fullmatch(text)
    if parts is None:
        hint = "an RFC 3339 time with a zone, e.g. `2025-05-22T16:00:00Z`"
        raise ValueError(f"must be {hint}")
    day, time, fraction, zone = parts.groups()
    zone = "+00:00" if zone in "Zz" else zone
    try:
        instant = datetime.fromisoformat(f"{day}T{time}.{(fraction or '0').ljust(6, '0')}{zone}")
        instant = instant.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("is not a time that exists") from None
    if not EARLIEST <= instant <= LATEST:
        raise ValueError("must lie between 1970 and 2999")
    return instant


def write_instant(instant: datetime) -> str:
    """RFC 3339 in UTC, with a fraction only where there is one."""
    text = instant.astimezone(UTC).replace(tzinfo=None).isoformat()
    return f"{text}Z"


def _instant(value: Any) -> Any:
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str):
        raise ValueError("must be text: an RFC 3339 time with a zone")
    return read_instant(value)


def _effective(value: Any) -> Any:
    """A policy's date is the first instant of that day, UTC; a full timestamp is itself."""
    if isinstance(value, str) and _DAY.fullmatch(value):
        return read_instant(f"{value}T00:00:00Z")
    return _instant(value)


_INSTANT_JSON = PlainSerializer(write_instant, return_type=str, when_used="json")
_INSTANT_SCHEMA = WithJsonSchema(
    {"type": "string", "format": "date-time", "examples": ["2025-05-22T16:00:00Z"]}
)
Instant = Annotated[datetime, BeforeValidator(_instant), _INSTANT_JSON, _INSTANT_SCHEMA]
Day = Annotated[
    datetime,
    BeforeValidator(_effective),
    _INSTANT_JSON,
    WithJsonSchema({"type": "string", "examples": ["2025-05-14", "2025-05-14T00:00:00Z"]}),
]

_DURATION = re.compile(
    r"P(?=.)(?:(\d{1,3})Y)?(?:(\d{1,4})M)?(?:(\d{1,4})W)?(?:(\d{1,5})D)?(?:T(\d{1,5})H)?", re.ASCII
)


class Duration(str):
    """An ISO 8601 duration of years, months, weeks, days and hours, e.g. `P6M`, `P1Y`, `PT72H`.

    Months and years are the calendar's, so `P6M` after 31 August is 28 (or 29) February.
    """

    __slots__ = ()

    def after(self, instant: datetime) -> datetime:
        """The instant that lies this duration after *instant*; never beyond `LATEST`."""
        return _after(self, instant)


@lru_cache(maxsize=16384)
def _after(duration: str, instant: datetime) -> datetime:
    parts = _DURATION.fullmatch(duration)
    assert parts is not None, "a Duration is made by read_duration only"
    years, months, weeks, days, hours = (int(part or 0) for part in parts.groups())
    span = timedelta(weeks=weeks, days=days, hours=hours)
    try:
        return min(instant + relativedelta(years=years, months=months) + span, LATEST)
    except (ValueError, OverflowError):
        return LATEST


def read_duration(value: Any) -> Duration:
    """Raises `ValueError` for anything but a positive duration such as `P6M`."""
    if not (isinstance(value, str) and _DURATION.fullmatch(value)):
        raise ValueError("must be an ISO 8601 duration such as `P6M`, `P1Y`, `P30D` or `PT72H`")
    if not re.search(r"[1-9]", value):
        raise ValueError("must be longer than nothing")
    return Duration(value)


ADuration = Annotated[
    Duration,
    PlainValidator(read_duration),
    PlainSerializer(str, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": "^P.+$", "examples": ["P6M"]}),
]


# --- numbers and booleans ----------------------------------------------------------------------

_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,39})(?:\.\d{1,64})?(?:[eE][+-]?\d{1,2})?", re.ASCII)
_LARGEST: Final = Decimal("1e30")
_SMALLEST: Final = Decimal("1e-30")
_MAX_DIGITS: Final = 34


def _from_text(info: ValidationInfo) -> bool:
    return bool(info.context) and info.context == TEXT


def _number(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number")
    if isinstance(value, int | Decimal):
        number = Decimal(value)
    elif isinstance(value, str) and _from_text(info) and _NUMBER.fullmatch(value):
        number = Decimal(value)
    else:
        raise ValueError("must be a number")
    # The bounds of `app.decoding`, so that what one form can say the other can too.
    digits = number.as_tuple().digits
    if number and not (_SMALLEST <= abs(number) <= _LARGEST and len(digits) <= _MAX_DIGITS):
        raise ValueError("must have at most 34 digits and lie between 1e-30 and 1e30, or be 0")
    return number


def _integer(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str) and _from_text(info) and re.fullmatch(r"-?\d{1,15}", value, re.ASCII):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("must be a whole number")
    return value


def _flag(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str) and _from_text(info) and value in ("true", "false"):
        return value == "true"
    if not isinstance(value, bool):
        raise ValueError("must be `true` or `false`")
    return value


def write_number(value: Decimal) -> str:
    """The shortest plain decimal text of *value*: `2.530` and `2.53` are the same number."""
    if value == 0:
        return "0"
    # Not `normalize`, which rounds to the 28 digits of the thread's context.
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


Number = Annotated[
    Decimal,
    BeforeValidator(_number),
    PlainSerializer(write_number, return_type=str, when_used="json"),
    WithJsonSchema({"type": "number"}, mode="validation"),
]
Integer = Annotated[int, BeforeValidator(_integer)]
Flag = Annotated[bool, BeforeValidator(_flag)]


_NOT_ATTESTED: Final = re.compile(r"[^A-Z0-9]+")


def attested_name(text: str) -> str:
    """What an action or a level is called in an attestation: `asl-3` is `ASL_3` there.

    Others may have the same one; a policy that means two things by them is not published.
    """
    return _NOT_ATTESTED.sub("_", text.upper()).strip("_")


TWO_SIDED_Z: Final = {
    Decimal("0.8"): Decimal("1.2815515655446"),
    Decimal("0.9"): Decimal("1.6448536269515"),
    Decimal("0.95"): Decimal("1.9599639845401"),
    Decimal("0.98"): Decimal("2.3263478740408"),
    Decimal("0.99"): Decimal("2.5758293035489"),
    Decimal("0.999"): Decimal("3.2905267314919"),
}
"""The confidences that a policy may ask for, with the standard normal quantile of each (two-sided).

A table, not a computation: floating point may differ between machines, and a determination may not.
"""
