"""Bytes to plain values, strictly: whatever two readers could understand differently is refused.

JSON gives dicts, lists, text, integers, exact decimals, true, false and null. YAML gives the same
tree with every scalar as the text that was written (`2.20` stays `2.20`, `no` stays `no`), so that
one schema reads either. Nothing else in the house reads a document's bytes, or YAML at all.

Time and memory grow with the length of the document only: a pointer is built where there is a
fault to point at, and never for every node.
"""

import json
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from itertools import accumulate, islice
from typing import Final, NamedTuple, Protocol

import yaml

from app.errors import DocumentTooLarge, Fault, UndecodableDocument

MAX_DEPTH: Final = 32
"""How many lists and mappings may stand inside each other."""
MAX_FOREIGN_DEPTH: Final = 256
"""The same, in a document of another system: logs hold whole conversations."""
MAX_INTEGER: Final = 2**53 - 1
"""The largest integer, either way, that every JSON reader keeps exactly (RFC 8259, section 6)."""
MAX_DIGITS: Final = 34
"""The significant digits of a decimal: those of IEEE 754's decimal128."""
MAX_YAML_BYTES: Final = 256 * 1024
MAX_FAULTS: Final = 100
"""How many faults are listed; a last one, `more-faults`, says that there are others."""

_LARGEST: Final = Decimal("1e30")
_SMALLEST: Final = Decimal("1e-30")
# The longest that a number within these bounds needs: sign, zeros, digits, point, exponent.
_MAX_NUMBER_CHARACTERS: Final = 100
# All pointers of one refusal together, so that a long key above many faults is not multiplied.
_MAX_POINTER_CHARACTERS: Final = 64 * 1024

_FORBIDDEN: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]"
)
# Written out (not escaped) in YAML: a carriage return may end a line; an inner byte order mark, the
# separators U+2028 and U+2029 and two non-characters mean different things to different readers.
_FORBIDDEN_IN_YAML: Final = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029\ufeff\ufffe\uffff]"
)
_DIRECTIVE: Final = re.compile(r"(?:[ \t]*+(?:#[^\r\n]*+)?[\r\n])*+%")
_BREAK: Final = re.compile(r"[\r\n]")
_TAB: Final = re.compile(r"(?:^|(?<=\r))(?P<indentation> *)\t|\t", re.MULTILINE)

_COMMENT_AT_ONCE: Final = re.compile(r"[|>][-+0-9]*#")
_NOTHING_AT_ONCE: Final = re.compile(r"[ \r\n]*:[,\[\]{}]")

# Strings are consumed whole, an unfinished one up to the end, so that the scan is linear.
_JSON_BRACKETS: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"?|([\[\]{}]+)', re.DOTALL)
_STEP: Final = {"[": 1, "{": 1, "]": -1, "}": -1}

# The C loader where PyYAML has it; tests/test_decoding.py holds both to the same answers.
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def pointer(*segments: str | int) -> str:
    """The RFC 6901 JSON pointer through *segments*; none give `""`, the whole document."""
    path = ""
    for segment in map(str, segments):
        if "~" in segment or "/" in segment:
            segment = segment.replace("~", "~0").replace("/", "~1")
        path += f"/{segment}"
    return path


# --- JSON --------------------------------------------------------------------------------------


def decode_json(data: bytes) -> object:
    """The value of a JSON document (RFC 8259, and narrower): numbers are `int` or `Decimal`.

    Raises `UndecodableDocument`. Repeated keys, unusable numbers and forbidden characters are all
    listed at once, by pointer; what hinders reading at all is given by line and column.
    """
    text = _utf8(data)
    if not text.strip(" \t\r\n"):
        raise UndecodableDocument((Fault("", "empty", "the document is empty", 1, 1),))
    _refuse_deep_json(text)
    try:
        value = _JSON.decode(text)
    except json.JSONDecodeError as error:
        raise UndecodableDocument((_json_syntax_fault(error),)) from None
    _refuse_if_any(_json_faults(value, ()))
    return value


@dataclass(frozen=True, slots=True)
class Unusable:
    """Stands in the tree for a number that we do not take, until its place is known."""

    code: str
    message: str


class _RepeatedKeys(list[tuple[str, object]]):
    """Stands in the tree for an object that has a key twice, with all of its entries."""


# What can have no fault, by exact type: most of a large document is not looked at again.
_HARMLESS: Final = frozenset({int, Decimal, bool, type(None)})


def _integer(literal: str) -> int | Unusable:
    # 17 characters hold a sign and 16 digits; Python refuses to read thousands of them.
    if len(literal) > 17 or abs(int(literal)) > MAX_INTEGER:
        return Unusable(
            "number-out-of-range",
            f"`{shown(literal)}` is beyond 2^53 - 1, and not every reader keeps it; write it as text",
        )
    return int(literal)


def _decimal(literal: str) -> Decimal | Unusable:
    try:
        if len(literal) > _MAX_NUMBER_CHARACTERS:
            raise InvalidOperation
        number = Decimal(literal)
    except InvalidOperation:
        number = Decimal("Infinity")
    # Zero loses its sign and its exponent: `-0.0` and `0E-400` mean nothing more than 0.
    if number.is_zero():
        return Decimal(0)
    if not _SMALLEST <= number.copy_abs() <= _LARGEST or len(number.as_tuple().digits) > MAX_DIGITS:
        return Unusable(
            "number-out-of-range",
            f"`{shown(literal)}` has too many digits or is too large or small; "
            f"use at most {MAX_DIGITS} digits between 1e-30 and 1e30",
        )
    return number


def _not_a_number(literal: str) -> Unusable:
    return Unusable("not-a-number", f"`{literal}` is not a JSON number; write null or leave it out")


def _entries(pairs: list[tuple[str, object]]) -> dict[str, object] | _RepeatedKeys:
    entries = dict(pairs)
    return entries if len(entries) == len(pairs) else _RepeatedKeys(pairs)


_JSON: Final = json.JSONDecoder(
    parse_int=_integer,
    parse_float=_decimal,
    parse_constant=_not_a_number,
    object_pairs_hook=_entries,
)


def _json_faults(value: object, path: tuple[str | int, ...]) -> Iterator[Fault]:
    if isinstance(value, str):
        if problem := _problem_of(value):
            yield Fault(pointer(*path), *problem)
    elif isinstance(value, dict):
        yield from _entry_faults(value.items(), path)
    elif isinstance(value, _RepeatedKeys):
        count = Counter(key for key, _ in value)
        for key in count:
            if count[key] > 1 and not _problem_of(key):
                yield Fault(pointer(*path, key), "duplicate-key", _repeated(key))
        yield from _entry_faults(value, path)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if type(item) not in _HARMLESS:
                yield from _json_faults(item, (*path, index))
    elif isinstance(value, Unusable):
        yield Fault(pointer(*path), value.code, value.message)


def _entry_faults(
    entries: Iterable[tuple[str, object]], path: tuple[str | int, ...]
) -> Iterator[Fault]:
    for key, item in entries:
        # Such a key could not be printed in a pointer, so the fault is its object's.
        if problem := _problem_of(key):
            code, message = problem
            yield Fault(pointer(*path), code, f"in the key `{shown(key)}`: {message}")
        elif type(item) not in _HARMLESS:
            yield from _json_faults(item, (*path, key))


def decode_foreign_json(data: bytes, *, max_bytes: int) -> object:
    """The value of a JSON document that another system wrote, of which a reader takes what it knows.

    Numbers that we do not take (`NaN`, an integer of 60 digits) stay in the tree as `Unusable`, for
    whoever wants that one to refuse it. Text is as it came, characters that cannot be seen included.
    Raises `DocumentTooLarge` and `UndecodableDocument`: a key that stands twice in one object is read
    in two ways, and refused wherever it stands.
    """
    if len(data) > max_bytes:
        raise DocumentTooLarge(max_bytes)
    text = _utf8(data)
    if not text.strip(" \t\r\n"):
        raise UndecodableDocument((Fault("", "empty", "the document is empty", 1, 1),))
    _refuse_deep_json(text, MAX_FOREIGN_DEPTH)
    try:
        return _FOREIGN_JSON.decode(text)
    except json.JSONDecodeError as error:
        raise UndecodableDocument((_json_syntax_fault(error),)) from None


def _entries_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        count = Counter(key for key, _ in pairs)
        twice = next(key for key in count if count[key] > 1)
        raise UndecodableDocument((Fault("", "duplicate-key", _repeated(twice)),))
    return entries


_FOREIGN_JSON: Final = json.JSONDecoder(
    parse_int=_integer,
    parse_float=_decimal,
    parse_constant=_not_a_number,
    object_pairs_hook=_entries_once,
)


def _refuse_deep_json(text: str, most: int = MAX_DEPTH) -> None:
    """Refuse before the parser, which recurses, sees it."""
    if text.count("[") + text.count("{") <= most:
        return
    brackets = "".join(_JSON_BRACKETS.findall(text))
    if max(accumulate(map(_STEP.__getitem__, brackets)), default=0) <= most:
        return
    depth = 0
    for run in _JSON_BRACKETS.finditer(text):
        for index in range(*run.span(1)):
            depth += _STEP[text[index]]
            if depth > most:
                place = _place_of(text, index)
                raise UndecodableDocument((Fault("", "too-deep", _too_deep(most), *place),))


def _json_syntax_fault(error: json.JSONDecodeError) -> Fault:
    place = _place_of(error.doc, error.pos)
    if error.msg.startswith("Extra data"):
        return Fault("", "trailing-text", "there is text after the end of the document", *place)
    if error.msg.startswith("Invalid control character"):
        return Fault("", "control-character", "a control character is not escaped", *place)
    problem = error.msg.rstrip(": ").removesuffix(" at").removesuffix(" starting")
    return Fault("", "syntax", f"is not JSON: {problem[:1].lower()}{problem[1:]}", *place)


# --- YAML --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DecodedYaml:
    """What a YAML document says, and where it says it.

    `value` is a tree of dict, list, text and None. None is an empty plain scalar, `null` or `~`;
    every other scalar is text. `places` has (line, column), from 1, for the JSON pointer of every
    node; an entry's place is that of its key.
    """

    value: object
    places: Mapping[str, tuple[int, int]]


def decode_yaml(data: bytes) -> DecodedYaml:
    """The value of a YAML document of mappings, lists and scalars, every scalar as its text.

    Raises `DocumentTooLarge` beyond `MAX_YAML_BYTES`, and `UndecodableDocument` with line and
    column for what is not such a document: repeated, null and composed keys, anchors, aliases,
    tags, merge keys, directives, several documents, depth beyond `MAX_DEPTH`, tabs outside of
    quoted or block text, and characters that cannot be seen.
    """
    if len(data) > MAX_YAML_BYTES:
        raise DocumentTooLarge(MAX_YAML_BYTES)
    text = _utf8(data)
    _refuse_if_any(_unreadable_yaml(text))
    tree = _YamlTree(text)
    _refuse_if_any(tree.grow())
    return DecodedYaml(tree.value, _Places(tree.place))


@dataclass(slots=True)
class _Place:
    line: int
    column: int
    children: dict[str, "_Place"] = field(default_factory=dict)


class _Places(Mapping[str, tuple[int, int]]):
    """JSON pointer to (line, column), found by walking: pointers of all nodes would be quadratic."""

    def __init__(self, root: _Place) -> None:
        self._root = root

    def __getitem__(self, at: str) -> tuple[int, int]:
        place = self._root
        if at:
            start, *segments = at.split("/")
            if start:
                raise KeyError(at)
            for segment in segments:
                place = place.children[segment.replace("~1", "/").replace("~0", "~")]
        return place.line, place.column

    def __iter__(self) -> Iterator[str]:
        ahead = [("", self._root)]
        while ahead:
            at, place = ahead.pop()
            yield at
            ahead.extend((at + pointer(key), below) for key, below in place.children.items())

    def __len__(self) -> int:
        ahead, count = [self._root], 0
        while ahead:
            count += 1
            ahead.extend(ahead.pop().children.values())
        return count


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not come yet."""

    value: dict[str, object] | list[object]
    place: _Place
    step: str | None
    """What its parent calls it; None: it stands where nothing can, and will be dropped."""
    in_brackets: bool
    """Written with brackets or braces, or inside of such."""
    key: str | None = None
    """The key whose value comes next; None: that key was at fault."""
    key_place: tuple[int, int] = (1, 1)
    expects_key: bool = True


class _Quoted(NamedTuple):
    """Where quoted or block text stands, by character."""

    start: int
    end: int
    is_block: bool


class _YamlTree:
    """The tree of one document, grown event by event, without recursion."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.value: object = None
        self.place = _Place(1, 1)
        self._open: list[_Open] = []
        self._documents = 0
        self._quoted: list[_Quoted] = []

    def grow(self) -> Iterator[Fault]:
        """Read the text to its end, or to the first thing that hinders reading on: its faults."""
        try:
            for event in yaml.parse(self._text, Loader=_LOADER):
                yield from self._faults_of(event)
                if self._documents > 1 or len(self._open) > MAX_DEPTH:
                    return
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            problem = error.problem or error.context or "it cannot be read"
            # A loader that stops at a tab says less helpfully what is wrong with it.
            tabs = list(islice(self._stray_tabs(mark.index if mark else 0), MAX_FAULTS))
            yield from tabs or [Fault("", "syntax", f"is not YAML: {problem}", *_place_at(mark))]
            return
        except (yaml.YAMLError, ValueError, OverflowError):
            # The pure loader hands on what Python says of an impossible `\U` escape.
            yield Fault("", "syntax", "is not YAML: an escape names no character")
            return
        if not self._documents:
            yield Fault("", "empty", "the document is empty", 1, 1)
        yield from self._stray_tabs(len(self._text))

    def _faults_of(self, event: yaml.Event) -> Iterator[Fault]:
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                yield self._fault(event, "several-documents", "send one document, not several")
        elif isinstance(event, yaml.NodeEvent):
            yield from self._node(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._open.pop()

    def _node(self, event: yaml.NodeEvent) -> Iterator[Fault]:
        parent = self._open[-1] if self._open else None
        step = _next_step(parent)
        in_brackets = parent is not None and parent.in_brackets
        if isinstance(event, yaml.ScalarEvent) and (
            message := self._read_two_ways(event, in_brackets=in_brackets)
        ):
            yield self._fault(event, "syntax", message, step)
        if isinstance(event, yaml.AliasEvent):
            message = f"write out what `*{shown(event.anchor or '')}` stands for"
            yield self._fault(event, "alias", message, step)
        elif event.anchor is not None:
            message = f"remove the anchor `&{shown(event.anchor)}`"
            yield self._fault(event, "anchor", message, step)
        if (
            isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)
            and event.tag is not None
        ):
            yield self._fault(event, "tag", f"remove the tag `{shown(event.tag)}`", step)

        if parent is not None and isinstance(parent.value, dict) and parent.expects_key:
            parent.expects_key = False
            yield from self._key(parent, event)
        else:
            yield from self._value(parent, event, step)

    def _key(self, parent: _Open, event: yaml.NodeEvent) -> Iterator[Fault]:
        parent.key = None
        parent.key_place = _place_at(event.start_mark)
        if not isinstance(event, yaml.ScalarEvent):
            yield self._fault(event, "complex-key", "a key must be text")
            if isinstance(event, yaml.CollectionStartEvent):
                yield from self._enter(event, None, _Place(1, 1))
            return
        key = self._scalar(event)
        if key is None:
            yield self._fault(event, "null-key", "a key is empty or null; name or quote it")
        elif problem := _problem_of(key):
            yield self._fault(event, *problem)
        elif key == "<<" and not event.style:
            yield self._fault(event, "merge-key", "write out the entries that `<<` would merge")
        elif key in parent.value:
            parent.key = key
            yield self._fault(event, "duplicate-key", _repeated(key), key)
        else:
            parent.key = key

    def _value(
        self, parent: _Open | None, event: yaml.NodeEvent, step: str | None
    ) -> Iterator[Fault]:
        place = _Place(*_place_at(event.start_mark))
        if parent is not None and isinstance(parent.value, dict):
            parent.expects_key = True
            place = _Place(*parent.key_place)

        value: object = None
        if isinstance(event, yaml.CollectionStartEvent):
            yield from self._enter(event, step, place)
            value = self._open[-1].value
        elif isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
            if isinstance(value, str) and (problem := _problem_of(value)):
                yield self._fault(event, *problem, step)

        if parent is None:
            self.value, self.place = value, place
            if isinstance(event, yaml.ScalarEvent) and not event.value and not event.style:
                yield self._fault(event, "empty", "the document is empty")
        elif step is not None:
            parent.place.children[step] = place
            if isinstance(parent.value, list):
                parent.value.append(value)
            else:
                parent.value[step] = value

    def _enter(
        self, event: yaml.CollectionStartEvent, step: str | None, place: _Place
    ) -> Iterator[Fault]:
        value: dict[str, object] | list[object]
        value = {} if isinstance(event, yaml.MappingStartEvent) else []
        in_brackets = bool(event.flow_style or (self._open and self._open[-1].in_brackets))
        self._open.append(_Open(value, place, step, in_brackets))
        if len(self._open) > MAX_DEPTH:
            yield self._fault(event, "too-deep", _too_deep(MAX_DEPTH))

    def _scalar(self, event: yaml.ScalarEvent) -> str | None:
        """The scalar's text, None for a plain null; notes where tabs may stand."""
        if event.style:
            assert event.start_mark is not None
            assert event.end_mark is not None
            self._quoted.append(
                _Quoted(event.start_mark.index, event.end_mark.index, event.style in "|>")
            )
        elif event.value in ("", "null", "~"):
            return None
        return event.value

    def _read_two_ways(self, event: yaml.ScalarEvent, *, in_brackets: bool) -> str | None:
        """What to do about a scalar that one loader takes and the other does not; None: nothing."""
        assert event.start_mark is not None
        assert event.end_mark is not None
        if event.style in ("|", ">"):
            if _COMMENT_AT_ONCE.match(self._text, event.start_mark.index):
                return "put a space before the `#`"
        elif in_brackets and not event.style:
            if "?" in event.value:
                return "quote text that has a `?` inside of brackets or braces"
            if _NOTHING_AT_ONCE.match(self._text, event.end_mark.index):
                return "put a space after the `:`"
        return None

    def _stray_tabs(self, last: int) -> Iterator[Fault]:
        # One loader takes a tab for a space in places where the other stops.
        starts = [quoted.start for quoted in self._quoted]
        for tab in _TAB.finditer(self._text, 0, last + 1):
            index = tab.end() - 1
            before = bisect_right(starts, index) - 1
            around = self._quoted[before] if before >= 0 else None
            before_block = tab["indentation"] is not None or (
                around is not None and not _BREAK.search(self._text, around.start, index)
            )
            if around is None or index >= around.end or (around.is_block and before_block):
                message = "use spaces: a tab may stand only inside quoted or block text"
                yield Fault("", "tab", message, *_place_of(self._text, index))

    def _fault(self, event: yaml.Event, code: str, message: str, step: str | None = None) -> Fault:
        """A fault at *event*, in the innermost open node that has a name, or at its *step*."""
        path = list[str]()
        for name in (*(opened.step for opened in self._open[1:]), step):
            if name is None:
                break
            path.append(name)
        return Fault(pointer(*path), code, message, *_place_at(event.start_mark))


def _next_step(parent: _Open | None) -> str | None:
    """What *parent* will call its next node; None for a key, a dropped value and the root."""
    if parent is None:
        return None
    if isinstance(parent.value, list):
        return str(len(parent.value))
    return None if parent.expects_key else parent.key


def _unreadable_yaml(text: str) -> Iterator[Fault]:
    for found in _FORBIDDEN_IN_YAML.finditer(text):
        problem = _problem_of(found[0]) or (
            "invisible-character",
            f"U+{ord(found[0]):04X} cannot be seen; take it out or escape it in double quotes",
        )
        yield Fault("", *problem, *_place_of(text, found.start()))
    if directive := _DIRECTIVE.match(text):
        message = "remove the line that begins with `%`: no directive is read"
        yield Fault("", "directive", message, *_place_of(text, directive.end() - 1))


class _Mark(Protocol):
    """A place as either loader gives it, from 0."""

    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...


def _place_at(mark: _Mark | None) -> tuple[int, int]:
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


# --- what both share ---------------------------------------------------------------------------


def _too_deep(most: int) -> str:
    return f"lists and mappings stand more than {most} deep in each other"


def _repeated(key: str) -> str:
    return f"the key `{shown(key)}` stands more than once in this mapping; keep one"


def _utf8(data: bytes) -> str:
    if data.startswith(b"\xef\xbb\xbf"):
        message = "the document begins with a byte order mark; save it as UTF-8 without"
        raise UndecodableDocument((Fault("", "byte-order-mark", message, 1, 1),))
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        message = "the document is not UTF-8; save it as UTF-8"
        fault = Fault("", "not-utf-8", message, *_place_of(before, len(before)))
        raise UndecodableDocument((fault,)) from None


def _problem_of(text: str) -> tuple[str, str] | None:
    """The code and sentence of the first character in *text* that a reader could not see."""
    found = _FORBIDDEN.search(text)
    if found is None:
        return None
    character = ord(found[0])
    name = f"U+{character:04X}"
    if 0xD800 <= character <= 0xDFFF:
        return "lone-surrogate", f"{name} is half of a character; write the whole one"
    if character >= 0x2000:
        return "bidi-control", f"{name} changes the direction in which text is read; take it out"
    return "control-character", f"{name} is a control character; take it out"


def _place_of(text: str, index: int) -> tuple[int, int]:
    """Line and column, from 1, of the character at *index*."""
    return text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)


def shown(text: str, most: int = 40) -> str:
    """*text* fit for a message: at most *most* characters of it, and nothing that cannot be seen."""
    short = text if len(text) <= most else f"{text[:most]}…"
    return repr(short)[1:-1]


def _refuse_if_any(faults: Iterable[Fault]) -> None:
    found = list[Fault]()
    room = _MAX_POINTER_CHARACTERS
    for fault in faults:
        if len(found) == MAX_FAULTS or room < 0:
            more = "there are more faults than are listed; correct these first"
            found.append(Fault("", "more-faults", more))
            break
        found.append(fault)
        room -= len(fault.pointer)
    if found:
        raise UndecodableDocument(tuple(found))
