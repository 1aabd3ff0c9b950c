"""Canonical JSON bytes and their SHA-256: nothing else in the house hashes a document.

The bytes follow RFC 8785 for the values that our documents hold: text, integers, true, false and
null under ASCII keys. Decimals are written as text, so no float ever needs a canonical form; a
float is an error here, not a rounding. tests/test_canonical.py holds this equal to an
independent RFC 8785 writer.
"""

import hashlib
import json
from decimal import Decimal

import orjson


def canonical_json(value: object) -> bytes:
    """The RFC 8785 bytes of *value*.

    Raises `TypeError` for a float, a key that is not ASCII, or any other type.
    """
    _refuse_what_has_no_canonical_form(value)
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def exact_json(value: object, indent: str = "") -> str:
    """*value* as indented JSON in which a `Decimal` is a number with all of its digits.

    For what a caller is shown and sends on; what is recorded and hashed is `canonical_json`.
    """
    inner = indent + "  "
    if isinstance(value, Decimal):
        return format(value, "f") if value == 0 or abs(value) >= Decimal("1e-6") else str(value)
    if isinstance(value, dict) and value:
        entries = (f"{inner}{json.dumps(k)}: {exact_json(v, inner)}" for k, v in value.items())
        return "{\n" + ",\n".join(entries) + f"\n{indent}}}"
    if isinstance(value, list | tuple) and value:
        return "[\n" + ",\n".join(inner + exact_json(v, inner) for v in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False)


def sha256_hex(data: bytes) -> str:
    """The SHA-256 of *data* as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def digest(data: bytes) -> str:
    """The SHA-256 of *data* as `sha256:<64 hex>`, the form in which documents name each other."""
    return f"sha256:{sha256_hex(data)}"


def _refuse_what_has_no_canonical_form(value: object) -> None:
    left = [value]
    while left:
        here = left.pop()
        if here is None or isinstance(here, str | bool):
            continue
        if isinstance(here, dict):
            for key in here:
                if not (isinstance(key, str) and key.isascii()):
                    raise TypeError(f"key {key!r} is not ASCII text")
            left.extend(here.values())
        elif isinstance(here, list | tuple):
            left.extend(here)
        elif not isinstance(here, int):
            kind = type(here).__name__
            raise TypeError(f"{kind} has no canonical form; write decimals as text")
        elif abs(here) > 2**53 - 1:
            raise TypeError(f"integer {here} is beyond what JSON readers keep exactly")
