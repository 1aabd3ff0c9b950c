"""An entry has one spelling, and whatever is not that is no entry."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.canonical import sha256_hex
from app.ledger.entry import Entry, InvalidEntry, Kind, entry_bytes, read_entry

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
WRITTEN = entry_bytes(
    log="log.test/a",
    index=7,
    kind=Kind.MODEL,
    subject="m@1",
    document=b"what was recorded",
    actor="key_a",
    at=NOON,
)


def test_it_is_read_as_it_was_written() -> None:
    entry = read_entry(WRITTEN)
    assert bytes(entry) == WRITTEN
    hashed = sha256_hex(b"what was recorded")
    assert entry == Entry("log.test/a", 7, Kind.MODEL, "m@1", "key_a", NOON, hashed, 17)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"{", b"{ "),
        (b'"v":1', b'"v":2'),
        (b'"v":1', b'"v":1,"w":1'),
        (b'"index":7', b'"index":7.0'),
        (b'"index":7', b'"index":"7"'),
        (b'"index":7', b'"index":true'),
        (b'"log.test/a"', b"null"),
        (b'"kind":"model"', b'"kind":"order"'),
        (b'"kind":"model"', b'"kind":"none"'),
        (b'"kind":"model"', b'"kind":[]'),
        (b'"m@1"', b'"m@\\u0031"'),
        (b"12:00:00Z", b"12:00:00+00:00"),
        (b"12:00:00Z", b"12:00:00.0Z"),
        (b'"actor":"key_a",', b""),
    ],
)
def test_another_spelling_is_refused(old: bytes, new: bytes) -> None:
    changed = WRITTEN.replace(old, new, 1)
    assert changed != WRITTEN
    with pytest.raises(InvalidEntry):
        read_entry(changed)


@given(
    st.binary(max_size=60) | st.sampled_from([b"[]", b"{}", b"null", b"1", b'"x"', WRITTEN[:-1]])
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidEntry):
        read_entry(data)
