"""Canonical bytes equal those of an independent RFC 8785 writer, for all that we ever hash."""

import hashlib
from decimal import Decimal
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from app.canonical import canonical_json, digest, sha256_hex

LARGEST = 2**53 - 1
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
KEYS = st.text(st.characters(max_codepoint=127))
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-LARGEST, LARGEST) | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=30,
)


@settings(max_examples=1000)
@given(DOCUMENTS)
def test_our_bytes_are_those_of_rfc_8785(document: Any) -> None:
    assert canonical_json(document) == rfc8785.dumps(document)


@settings(max_examples=200)
@given(st.dictionaries(KEYS, TEXT, min_size=2))
def test_the_order_in_which_entries_came_does_not_matter(document: dict[str, str]) -> None:
    backwards = dict(reversed(document.items()))

    assert canonical_json(document) == canonical_json(backwards)


@pytest.mark.parametrize(
    "document",
    [
        1.5,
        {"a": [0.0]},
        float("nan"),
        {"ключ": 1},
        {"a": {"é": 1}},
        {1: "a"},
        {None: "a"},
        2**53,
        [-(2**53)],
        {"a": 10**40},
        Decimal("1.5"),
        b"bytes",
        {1, 2},
        object(),
        "\ud800",
        {"a": "\udfff"},
    ],
)
def test_what_has_no_one_canonical_form_is_refused(document: Any) -> None:
    """orjson would round, guess or write something for most of these."""
    with pytest.raises(TypeError):
        canonical_json(document)


def test_the_largest_integers_are_written_whole() -> None:
    assert canonical_json([LARGEST, -LARGEST]) == b"[9007199254740991,-9007199254740991]"


def test_a_digest_names_its_algorithm() -> None:
    data = b'{"a":1}'

    assert sha256_hex(data) == hashlib.sha256(data).hexdigest()
    assert digest(data) == f"sha256:{hashlib.sha256(data).hexdigest()}"
