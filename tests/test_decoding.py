"""The strict decoders: what two readers could understand differently is refused, by name and place."""

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import app.decoding
from app.decoding import (
    MAX_DEPTH,
    MAX_FAULTS,
    MAX_INTEGER,
    MAX_YAML_BYTES,
    decode_json,
    decode_yaml,
    pointer,
)
from app.errors import DocumentTooLarge, Fault, UndecodableDocument

LOADERS = [yaml.SafeLoader, yaml.CSafeLoader] if yaml.__with_libyaml__ else [yaml.SafeLoader]


@pytest.fixture(params=LOADERS, ids=lambda loader: str(loader.__name__))
def each_loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test that asks for this holds with the C loader and without it."""
    monkeypatch.setattr(app.decoding, "_LOADER", request.param)


def refusal_of(decode: Callable[[bytes], object], data: bytes) -> UndecodableDocument | None:
    """What *decode* says against *data*; None: it reads it."""
    try:
        decode(data)
    except UndecodableDocument as refusal:
        return refusal
    return None


def json_faults(data: bytes | str) -> tuple[Fault, ...]:
    with pytest.raises(UndecodableDocument) as refusal:
        decode_json(data if isinstance(data, bytes) else data.encode())
    return refusal.value.faults


def yaml_faults(data: bytes | str) -> tuple[Fault, ...]:
    with pytest.raises(UndecodableDocument) as refusal:
        decode_yaml(data if isinstance(data, bytes) else data.encode())
    return refusal.value.faults


def yaml_value(text: str) -> Any:
    return decode_yaml(text.encode()).value


# --- JSON, row by row --------------------------------------------------------------------------

READ_JSON: dict[str, tuple[bytes, object]] = {
    "text that looks like a number stays text": (b'{"x": "1.5"}', {"x": "1.5"}),
    "true stays true": (b'{"x": true}', {"x": True}),
    "null": (b"null", None),
    "an integer": (b"[-9007199254740991]", [-MAX_INTEGER]),
    "a decimal keeps what was written": (b"[2.20]", [Decimal("2.20")]),
    "a tenth is a tenth": (b"[0.1]", [Decimal("0.1")]),
    "the smallest": (b"[1e-30]", [Decimal("1e-30")]),
    "the largest": (b"[1E30]", [Decimal("1e30")]),
    "34 digits": (
        b"[1.234567890123456789012345678901234]",
        [Decimal("1.234567890123456789012345678901234")],
    ),
    "minus zero is zero": (b"[-0, -0.0, 0E-400, 0e999999999]", [0, 0, 0, 0]),
    "line feed and tab, escaped": (rb'["a\n\tb"]', ["a\n\tb"]),
    "a whole character out of two escapes": (rb'["\ud83d\ude00"]', ["😀"]),
    "carriage returns between tokens": (b'{"x":\r\n1}\r\n', {"x": 1}),
    "depth 32": (b"[" * 32 + b"]" * 32, None),
    "brackets in text are not depth": (json.dumps(["[" * 99 + '"\\']).encode(), None),
}

REFUSED_JSON: dict[str, tuple[bytes, str, str]] = {
    "duplicate keys": (b'{"a": {"x": 1, "x": 2}}', "duplicate-key", "/a/x"),
    "one key written twice": (rb'{"x": 1, "\u0078": 2}', "duplicate-key", "/x"),
    "NaN": (b'{"x": NaN}', "not-a-number", "/x"),
    "Infinity": (b'{"x": [Infinity]}', "not-a-number", "/x/0"),
    "-Infinity": (b'{"x": -Infinity}', "not-a-number", "/x"),
    "1e999": (b'{"x": 1e999}', "number-out-of-range", "/x"),
    "1e400, which jsonb makes 401 digits": (b"1e400", "number-out-of-range", ""),
    "1E-400": (b'{"x": 1E-400}', "number-out-of-range", "/x"),
    "an exponent beyond Decimal": (b'{"x": 1e' + b"9" * 50 + b"}", "number-out-of-range", "/x"),
    "a 5,000-digit integer": (b'{"x": ' + b"9" * 5000 + b"}", "number-out-of-range", "/x"),
    "a 5,000-digit decimal": (b'{"x": 0.' + b"9" * 5000 + b"}", "number-out-of-range", "/x"),
    "35 digits": (b"[1." + b"1" * 34 + b"]", "number-out-of-range", "/0"),
    "2^60+1": (b'{"x": 1152921504606846977}', "number-out-of-range", "/x"),
    "2^53": (b'{"x": 9007199254740992}', "number-out-of-range", "/x"),
    "-2^53": (b'{"x": -9007199254740992}', "number-out-of-range", "/x"),
    "depth 33": (b"[" * 33 + b"]" * 33, "too-deep", ""),
    "depth 2,000": (b"[" * 2000 + b"]" * 2000, "too-deep", ""),
    "depth 100,000": (b"[" * 100_000, "too-deep", ""),
    "depth 100,000 of objects": (b'{"a":' * 100_000, "too-deep", ""),
    "a lone surrogate": (rb'{"x": "\ud800"}', "lone-surrogate", "/x"),
    "a lone low surrogate": (rb'{"x": "\udc00a"}', "lone-surrogate", "/x"),
    "a lone surrogate in a key": (rb'{"a": {"\ud800": 1}}', "lone-surrogate", "/a"),
    "NUL, escaped": (rb'{"x": "\u0000"}', "control-character", "/x"),
    "NUL, written": (b'{"x": "\x00"}', "control-character", ""),
    "a carriage return in text": (rb'{"x": "a\rb"}', "control-character", "/x"),
    "a C1 control character": ('{"x": "\x85"}'.encode(), "control-character", "/x"),
    "delete": (b'{"x": "\x7f"}', "control-character", "/x"),
    "right-to-left override": (rb'{"x": "\u202e"}', "bidi-control", "/x"),
    "isolate, written": ('{"x": "\u2066"}'.encode(), "bidi-control", "/x"),
    "invalid UTF-8": (b'{"x": "\xff"}', "not-utf-8", ""),
    "a surrogate in UTF-8": (b'{"x": "\xed\xa0\x80"}', "not-utf-8", ""),
    "byte order mark": (b"\xef\xbb\xbf{}", "byte-order-mark", ""),
    "UTF-16": ('{"x": 1}'.encode("utf-16"), "not-utf-8", ""),
    "UTF-16 without a mark": ('{"x": 1}'.encode("utf-16-le"), "syntax", ""),
    "trailing text": (b'{"x": 1} x', "trailing-text", ""),
    "two documents": (b"{}\n{}", "trailing-text", ""),
    "nothing": (b"", "empty", ""),
    "only blanks": (b" \n\t", "empty", ""),
    "cut off": (b'{"x": ', "syntax", ""),
    "a trailing comma": (b"[1,]", "syntax", ""),
    "a leading zero": (b"[01]", "syntax", ""),
    "a comment": (b"[1] // one", "trailing-text", ""),
    "single quotes": (b"{'x': 1}", "syntax", ""),
}


@pytest.mark.parametrize("row", READ_JSON)
def test_json_that_is_read(row: str) -> None:
    data, value = READ_JSON[row]

    read = decode_json(data)

    if value is not None:
        assert read == value


@pytest.mark.parametrize("row", REFUSED_JSON)
def test_json_that_is_refused(row: str) -> None:
    data, code, at = REFUSED_JSON[row]

    (fault,) = json_faults(data)

    assert (fault.code, fault.pointer) == (code, at)
    json.dumps([fault.message, fault.pointer], ensure_ascii=False).encode()


def test_numbers_keep_their_kind() -> None:
    """A bound of 1 and a bound of 1.0 are both exact, and neither is ever a float."""
    value = decode_json(b"[1, 1.0, 1e0, -0.0]")

    assert isinstance(value, list)
    assert [type(number) for number in value] == [int, Decimal, Decimal, Decimal]
    assert [str(number) for number in value] == ["1", "1.0", "1", "0"]


def test_all_faults_of_a_json_document_come_at_once() -> None:
    faults = json_faults(r'{"a": [NaN, 1e99], "b": {"k": 1, "k": "\u0000", "k": 2}, "a/b~": 1e999}')

    assert [(fault.pointer, fault.code) for fault in faults] == [
        ("/a/0", "not-a-number"),
        ("/a/1", "number-out-of-range"),
        ("/b/k", "duplicate-key"),
        ("/b/k", "control-character"),
        ("/a~1b~0", "number-out-of-range"),
    ]


def test_a_syntax_fault_has_its_line_and_column() -> None:
    (fault,) = json_faults('{\n  "é": 1,\n  "é" 2\n}')

    assert (fault.line, fault.column) == (3, 7)


def test_a_byte_that_is_not_utf_8_has_its_line_and_column() -> None:
    (fault,) = json_faults('{\n "é": "'.encode() + b'\xff"}')

    assert (fault.line, fault.column) == (2, 8)


def test_a_refusal_stays_small_whatever_the_document() -> None:
    """A hostile document cannot make us answer a hundred times its size."""
    many = json_faults(b"[" + b"NaN," * 200_000 + b"0]")
    long = json_faults(b'{"' + b"k" * 400_000 + b'": [' + b"NaN," * 1000 + b"0]}")

    assert [fault.code for fault in many] == ["not-a-number"] * MAX_FAULTS + ["more-faults"]
    assert [fault.code for fault in long] == ["not-a-number", "more-faults"]


# --- YAML, row by row --------------------------------------------------------------------------

READ_YAML: dict[str, tuple[str, object]] = {
    "no is not false": ("a: no", {"a": "no"}),
    "sexagesimal": ("a: 1:30", {"a": "1:30"}),
    "a date": ("a: 2025-05-14", {"a": "2025-05-14"}),
    "2.20 is not 2.2": ("version: 2.20", {"version": "2.20"}),
    "octal": ("a: 010", {"a": "010"}),
    "hexadecimal": ("a: 0x10", {"a": "0x10"}),
    ".nan": ("a: .nan", {"a": ".nan"}),
    "true": ("a: true", {"a": "true"}),
    "a 5,000-digit integer": ("a: " + "9" * 5000, {"a": "9" * 5000}),
    "a key that looks like something else": ("no: 1\n1.0: 2", {"no": "1", "1.0": "2"}),
    "plain nulls": ("a:\nb: null\nc: ~", {"a": None, "b": None, "c": None}),
    "quoted nulls are text": ("a: ''\nb: 'null'\nc: \"~\"", {"a": "", "b": "null", "c": "~"}),
    "other spellings of null are text": ("a: Null\nb: NULL", {"a": "Null", "b": "NULL"}),
    "quoted merge key is text": ("'<<': a", {"<<": "a"}),
    "block text": ("a: |\n  one\n  two\nb: >-\n  x\n  y", {"a": "one\ntwo\n", "b": "x y"}),
    "brackets": ('{a: [1, "2"], b: {}}', {"a": ["1", "2"], "b": {}}),
    "JSON is YAML": ('{"a": {"b": [1, null]}}', {"a": {"b": ["1", None]}}),
    "a tab in quotes": ('a: "x\ty"', {"a": "x\ty"}),
    "a tab in block text": ("a: |\n  x\ty", {"a": "x\ty"}),
    "Windows line ends": ("a: 1\r\nb: |\r\n  x\r\n", {"a": "1", "b": "x\n"}),
    "a marked document": ("# about\n---\na: b\n...\n", {"a": "b"}),
    "depth 32": ("[" * 32 + "]" * 32, None),
}

REFUSED_YAML: dict[str, tuple[str | bytes, str, str, int, int]] = {
    "duplicate keys": ("a:\n  x: 1\n  x: 2", "duplicate-key", "/a/x", 3, 3),
    "one key written twice": ("x: 1\n'x': 2", "duplicate-key", "/x", 2, 1),
    "a merge key": ("a: {b: c}\nd:\n  <<: {e: f}", "merge-key", "/d", 3, 3),
    "an anchor": ("a: &x 1", "anchor", "/a", 1, 4),
    "depth 33": ("[" * 33 + "]" * 33, "too-deep", "/0" * 32, 1, 33),
    "depth 5,000": ("[" * 5000 + "]" * 5000, "too-deep", "/0" * 32, 1, 33),
    "depth 100,000 of mappings": ("{a: " * 60_000, "too-deep", "/a" * 32, 1, 129),
    "depth 100,000 of dashes": ("- " * 100_000, "too-deep", "/0" * 32, 1, 65),
    "a null key": ("a:\n  ?\n  : b", "null-key", "/a", 0, 0),
    "a null key in braces": ("a: {~: b}", "null-key", "/a", 1, 5),
    "a key of null": ("null: b", "null-key", "", 1, 1),
    "a list as key": ("? [a, b]\n: c", "complex-key", "", 1, 3),
    "a mapping as key": ("x: {{a: b}: c}", "complex-key", "/x", 1, 5),
    "!!binary": ("a: !!binary aGk=", "tag", "/a", 1, 4),
    "a tag of their own": ("a:\n- !x y", "tag", "/a/0", 2, 3),
    "a tag that says nothing": ("a: ! b", "tag", "/a", 1, 4),
    "a tagged key": ("!!str a: b", "tag", "", 1, 1),
    "a python tag": ("!!python/object/apply:os.system [ls]", "tag", "", 1, 1),
    "a tab after a colon": ("a:\tb", "tab", "", 1, 3),
    "a tab between words": ("a: b\tc", "tab", "", 1, 5),
    "a tab as indentation": ("a:\n\tb: c", "tab", "", 2, 1),
    "a tab as block indentation": ("a: |\n  x\n  \ty", "tab", "", 3, 3),
    "a tab in a comment": ("a: b # x\ty", "tab", "", 1, 9),
    "several documents": ("a: b\n---\nc: d", "several-documents", "", 2, 1),
    "a directive": ("%YAML 1.1\n---\na: b", "directive", "", 1, 1),
    "a directive after a comment": ("# x\n\n%FOO\n---\na: b", "directive", "", 3, 1),
    "nothing": ("", "empty", "", 1, 1),
    "only a comment": ("# nothing\n", "empty", "", 1, 1),
    "a marked nothing": ("---\n", "empty", "", 0, 0),
    "invalid UTF-8": (b"a: \xff", "not-utf-8", "", 1, 4),
    "UTF-16": ("a: b".encode("utf-16"), "not-utf-8", "", 1, 1),
    "byte order mark": (b"\xef\xbb\xbfa: b", "byte-order-mark", "", 1, 1),
    "an inner byte order mark": ("a: b\ufeff", "invisible-character", "", 1, 5),
    "a line separator": ("a: b\u2028c: d", "invisible-character", "", 1, 5),
    "NUL, written": ("a: b\nc: \x00", "control-character", "", 2, 4),
    "next line, written": ("a: b\x85c: d", "control-character", "", 1, 5),
    "NUL, escaped": (r'a: {b: "\0"}', "control-character", "/a/b", 1, 8),
    "a carriage return, escaped": (r'a: "\r"', "control-character", "/a", 1, 4),
    "an override, written": ("a: b\u202e", "bidi-control", "", 1, 5),
    "an override, escaped": (r'a: "\u202E"', "bidi-control", "/a", 1, 4),
    "an override in a key": (r'"\u202E": a', "bidi-control", "", 1, 1),
    "not YAML": ("a: [b", "syntax", "", 0, 0),
    "not YAML either": ("a: b: c", "syntax", "", 1, 5),
    "a question in brackets": ("a: [why?]", "syntax", "/a/0", 0, 0),
    "a comment at once": ("a: |# x\n  b", "syntax", "", 0, 0),
}


@pytest.mark.usefixtures("each_loader")
@pytest.mark.parametrize("row", READ_YAML)
def test_yaml_that_is_read(row: str) -> None:
    text, value = READ_YAML[row]

    read = yaml_value(text)

    if value is not None:
        assert read == value


@pytest.mark.usefixtures("each_loader")
@pytest.mark.parametrize("row", REFUSED_YAML)
def test_yaml_that_is_refused(row: str) -> None:
    """Line 0: the loaders agree that it is refused, and not where."""
    data, code, at, line, column = REFUSED_YAML[row]

    first, *_ = yaml_faults(data)

    assert first.code == code
    if line:
        assert (first.pointer, first.line, first.column) == (at, line, column)


@pytest.mark.usefixtures("each_loader")
@pytest.mark.parametrize("escape", [r"\ud800", r"\UFFFFFFFF", r"\U00110000"])
def test_an_escape_that_is_no_character_is_refused(escape: str) -> None:
    """The loaders name it differently, and neither lets it through."""
    (fault,) = yaml_faults(f'a: "{escape}"')

    assert fault.code in {"syntax", "lone-surrogate"}


@pytest.mark.usefixtures("each_loader")
def test_an_alias_is_never_followed() -> None:
    """Six levels of aliases are 200 bytes to read, and 3 MB to write."""
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )

    codes = {fault.code for fault in yaml_faults(bomb)}
    itself = [fault.code for fault in yaml_faults("&a [*a]")]

    assert codes == {"anchor", "alias"}
    assert itself == ["anchor", "alias"]


@pytest.mark.usefixtures("each_loader")
def test_all_faults_of_a_yaml_document_come_at_once() -> None:
    text = 'a: &x 1\nb:\n  - !t [y, *x]\n  - {k: 1, k: 2}\n<<: {c: d}\ne: "\\0"\n? {f: *x}\n: [g, !u h]\n'

    faults = yaml_faults(text)

    assert [(f.line, f.pointer, f.code) for f in faults] == [
        (1, "/a", "anchor"),
        (3, "/b/0", "tag"),
        (3, "/b/0/1", "alias"),
        (4, "/b/1/k", "duplicate-key"),
        (5, "", "merge-key"),
        (6, "/e", "control-character"),
        (7, "", "complex-key"),
        (7, "", "alias"),
        (8, "", "tag"),
    ]


@pytest.mark.usefixtures("each_loader")
def test_what_was_found_before_the_syntax_broke_is_listed_too() -> None:
    codes = [fault.code for fault in yaml_faults("a: &x 1\nb: 1\nb: 2\nc: [")]

    assert codes == ["anchor", "duplicate-key", "syntax"]


@pytest.mark.usefixtures("each_loader")
def test_every_node_has_its_place() -> None:
    text = "policy: x\nlevels: [ASL-1,\n  ASL-2]\nthresholds:\n  a/b:\n    - k: v\n    - ~\n"

    places = decode_yaml(text.encode()).places

    assert dict(places) == {
        "": (1, 1),
        "/policy": (1, 1),
        "/levels": (2, 1),
        "/levels/0": (2, 10),
        "/levels/1": (3, 3),
        "/thresholds": (4, 1),
        "/thresholds/a~1b": (5, 3),
        "/thresholds/a~1b/0": (6, 7),
        "/thresholds/a~1b/0/k": (6, 7),
        "/thresholds/a~1b/1": (7, 7),
    }
    assert len(places) == 10
    assert "/levels/2" not in places
    assert "levels" not in places


def test_256_kib_of_yaml_are_read_and_not_one_byte_more() -> None:
    head = b"a: "

    assert decode_yaml(head + b"x" * (MAX_YAML_BYTES - 3)).value
    with pytest.raises(DocumentTooLarge):
        decode_yaml(head + b"x" * (MAX_YAML_BYTES - 2))


def test_a_pointer_escapes_what_rfc_6901_says() -> None:
    assert pointer() == ""
    assert pointer("a/b", 0, "m~n", "", "~1") == "/a~1b/0/m~0n//~01"


# --- any document ------------------------------------------------------------------------------

TURNS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
PLAIN_TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters=TURNS))
NUMBERS = st.integers(-MAX_INTEGER, MAX_INTEGER) | st.decimals(-(10**9), 10**9, places=6)


def trees(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(PLAIN_TEXT, inner, max_size=4),
        max_leaves=20,
    )


TEXT_TREES = trees(st.none() | PLAIN_TEXT)


def quoted(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def written(value: Any) -> str:
    """JSON with decimals as they are, which the standard library cannot write."""
    if isinstance(value, dict):
        return f"{{{','.join(f'{quoted(k)}:{written(v)}' for k, v in value.items())}}}"
    if isinstance(value, list):
        return f"[{','.join(map(written, value))}]"
    return str(value) if isinstance(value, Decimal) else quoted(value)


def mappings_in(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of all mappings that have an entry."""
    if isinstance(value, dict):
        if value:
            yield path
        for key, item in value.items():
            yield from mappings_in(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from mappings_in(item, (*path, index))


def with_key_twice(value: Any, path: tuple[str | int, ...], key: str) -> str:
    """JSON in which the mapping at *path* has *key* a second time, at its end."""
    if not path:
        return f"{written(value)[:-1]},{quoted(key)}:0}}"
    step, rest = path[0], path[1:]
    if isinstance(value, dict):
        parts = (
            f"{quoted(k)}:{with_key_twice(v, rest, key) if k == step else written(v)}"
            for k, v in value.items()
        )
        return f"{{{','.join(parts)}}}"
    items = (with_key_twice(v, rest, key) if i == step else written(v) for i, v in enumerate(value))
    return f"[{','.join(items)}]"


@settings(max_examples=500)
@given(trees(st.none() | st.booleans() | NUMBERS | PLAIN_TEXT))
def test_json_is_read_as_it_was_written(value: Any) -> None:
    read = decode_json(written(value).encode())

    assert read == value
    assert decode_json(written(read).encode()) == read


@settings(max_examples=500)
@given(st.data())
def test_a_key_that_stands_twice_is_refused_by_name_at_any_depth(data: st.DataObject) -> None:
    """One reader takes the first, another the last: a reviewer and we must not differ."""
    value = data.draw(st.dictionaries(PLAIN_TEXT, TEXT_TREES, min_size=1, max_size=4))
    path = data.draw(st.sampled_from(list(mappings_in(value))))
    mapping: Any = value
    for step in path:
        mapping = mapping[step]
    key = data.draw(st.sampled_from(list(mapping)))
    text = with_key_twice(value, path, key)

    (fault,) = json_faults(text)
    assert (fault.code, fault.pointer) == ("duplicate-key", pointer(*path, key))

    # The same text is YAML, but for what must be escaped there.
    if text.isprintable():
        assert ("duplicate-key", pointer(*path, key)) in {
            (f.code, f.pointer) for f in yaml_faults(text)
        }


@settings(max_examples=500)
@given(TEXT_TREES.filter(lambda v: v is not None), st.booleans())
def test_a_text_tree_dumped_as_yaml_is_the_same_tree(value: Any, block: bool) -> None:
    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    text = yaml.dump(value, Dumper=Dumper, allow_unicode=False, default_flow_style=not block)

    assert yaml_value(text) == value


@settings(max_examples=1000)
@given(st.binary() | st.text().map(str.encode))
def test_no_bytes_raise_anything_but_a_refusal(data: bytes) -> None:
    for decode in (decode_json, decode_yaml):
        if refusal := refusal_of(decode, data):
            assert refusal.faults
            assert str(refusal).encode()


JSON_PIECES = st.sampled_from(
    [*'{}[],:"-.01 \n\\\x00é\u202e', '"a"', '"a":', "\\u", "\\ud800", "e9", "NaN", "nul", "9" * 20]
)
YAML_SIGNS = st.sampled_from("abk0:-?\n\r\t[]{},'\"|>!%@`~#\\é😀\u00a0\ufeff\u2028 ")
WORDS = (
    ": ",
    "- ",
    "? ",
    "k: ",
    "{k: [",
    "|#",
    "|\t",
    "a: >-\t\n  b",
    "!!str ",
    "&a ",
    "*a ",
    "<<: ",
    "null",
    "\\x41",
    "\\0",
)
BETWEEN = ("\n---\n", "\n...\n", "%YAML 1.1\n")
YAML_PIECES = YAML_SIGNS | st.sampled_from(
    (
        *WORDS,
        "\n  ",
        "\r\n",
        "|\n",
        "|-\n  ",
        ">\n",
        ">+\n",
        "|1-\n",
        "# x\n",
        "x: |\n  a\n",
        *BETWEEN,
    )
)


@settings(max_examples=1000)
@given(st.lists(JSON_PIECES, max_size=20).map("".join))
def test_no_almost_json_raises_anything_but_a_refusal(text: str) -> None:
    refusal = refusal_of(decode_json, text.encode())

    assert refusal is None or refusal.faults


def answer(text: str, loader: Any, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(app.decoding, "_LOADER", loader)
    try:
        read = decode_yaml(text.encode())
    except UndecodableDocument:
        return "refused"
    return read.value, dict(read.places)


@pytest.mark.skipif(len(LOADERS) == 1, reason="PyYAML was built without the C loader")
def test_both_loaders_read_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A document's digest must not depend on how PyYAML was built."""

    @settings(max_examples=1000)
    @given(st.lists(YAML_PIECES, max_size=14).map("".join))
    def check(text: str) -> None:
        one, other = (answer(text, loader, monkeypatch) for loader in LOADERS)
        assert one == other

    check()


# --- hostile documents: each must be answered well within the test's time-out -------------------

HOSTILE_JSON = {
    "deep": b"[" * 1_000_000,
    "deep beside text": b'["' + b"x" * 1000 + b'",' + b"[" * 1_000_000,
    "wide": b"[" + b"0," * 500_000 + b"0]",
    "wide and shallow": b"[" + b"[]," * 300_000 + b"[]]",
    "escaped quotes without end": b'["' + b'\\"' * 500_000,
    "quotes without end": b"[[[" * 30 + b'"' * 1_000_001,
    "one key, over and over": b"{" + b'"a":0,' * 150_000 + b'"a":0}',
    "a long key above many faults": b'{"' + b"k" * 500_000 + b'":[' + b"NaN," * 100_000 + b"0]}",
    "digits": b"9" * 1_000_000,
    "decimal digits": b"0." + b"9" * 1_000_000,
    "half an escape": b'"' + b"\\ud800" * 160_000 + b'"',
    "blanks": b" " * 1_000_000,
}
HOSTILE_YAML = {
    "deep": b"[" * 260_000,
    "deep in dashes": b"- " * 130_000,
    "deep in questions": b"? " * 130_000,
    "wide": b"[" + b"a," * 130_000 + b"a]",
    "wide in one line": b"{" + b"a: b, " * 40_000 + b"}",
    "many lines": b"".join(b"k%d: v\n" % i for i in range(22_000)),
    "long keys above many nodes": b"".join(
        b"  " * i + b"%d%s:\n" % (i, b"k" * 1000) for i in range(30)
    )
    + b"  " * 30
    + b"["
    + b"a," * 100_000
    + b"a]",
    "tabs in one line": b"a: |\n  " + b"\tx" * 120_000,
    "tabs": b"\t" * 260_000,
    "indentation": b"a: |\n" + b" " * 250_000 + b"\n  x",
    "aliases": b"[&a x" + b",*a" * 80_000 + b"]",
    "anchors": b"[" + b"&a a," * 50_000 + b"a]",
    "documents": b"---\n" * 60_000,
    "comments": b"#\n" * 130_000,
    "blank lines": b"\n" * 260_000 + b"a",
    "blanks and line ends": b" \r\n" * 80_000 + b"a",
    "quotes without end": b'"' + b"x\n" * 130_000,
    "blank lines in quotes": b'"' + b"\n" * 260_000 + b'"',
    "colons": b":" * 260_000,
    "control characters": b"\x01" * 260_000,
}


@pytest.mark.parametrize("row", HOSTILE_JSON)
def test_hostile_json_is_answered(row: str) -> None:
    refusal = refusal_of(decode_json, HOSTILE_JSON[row])

    assert refusal is None or len(refusal.faults) <= MAX_FAULTS + 1


@pytest.mark.usefixtures("each_loader")
@pytest.mark.parametrize("row", HOSTILE_YAML)
def test_hostile_yaml_is_answered(row: str) -> None:
    refusal = refusal_of(decode_yaml, HOSTILE_YAML[row])

    assert refusal is None or len(refusal.faults) <= MAX_FAULTS + 1


def test_the_depth_of_the_caller_does_not_matter() -> None:
    """Documents of full depth are read even where Python's own stack is almost used up."""
    deep = b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH

    def dig(levels: int) -> None:
        if levels:
            dig(levels - 1)
        else:
            decode_json(deep)
            decode_yaml(deep)

    dig(700)
