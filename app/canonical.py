"""Canonical JSON bytes and their SHA-256: nothing else in the house hashes a document.

The bytes follow RFC 8785 for the values that our documents hold: text, integers, true, false and
null under ASCII keys. Decimals are written as text, so no float ever needs a canonical form; a
float is an error here, not a rounding. tests/test_canonical.py holds this equal to an
independent RFC 8785 writer.
"""

import hashlib

import orjson


def canonical_json(value: object) -> bytes:
    """The RFC 8785 bytes of *value*.

    Raises `TypeError` for a float, a key that is not ASCII, or any other type.
    """
    _refuse_what_has_no_canonical_form(value)
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def sha256_hex(data: bytes) -> str:
    """The SHA-256 of *data* as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def digest(data: bytes) -> str:
    """The SHA-256 of *data* as `sha256:<64 hex>`, the form in which documents name each other."""
    return f"sha256:{sha256_hex(data)}"


def _refuse_what_has_no_canonical_form(value: object) -> None:
    if value is None or isinstance(value, str | bool):
        return
    if isinstance(value, int):
        if abs(value) > 2**53 - 1:
            raise TypeError(f"integer {value} is beyond what JSON readers keep exactly")
        return
    if isinstance(value, dict):
        for key, item in value.items():
            if not (isinstance(key, str) and key.isascii()):
                raise TypeError(f"key {key!r} is not ASCII text")
            _refuse_what_has_no_canonical_form(item)
        return
    if isinstance(value, list | tuple):
        for item in value:
            _refuse_what_has_no_canonical_form(item)
        return
    raise TypeError(f"{type(value).__name__} has no canonical form; write decimals as text")
