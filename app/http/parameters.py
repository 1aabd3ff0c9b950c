"""Numbers in paths and queries. What is asked for has one spelling, as everything here has: a cache, a
log and a reader must not see two where there is one.
"""

import re
from typing import Any, Final

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

_DIGITS: Final = re.compile(r"0|[1-9][0-9]{0,18}")


def _in_digits(value: Any) -> Any:
    """Refuse `+1`, ` 1`, `1.0`, `1_0` and `01`, all of which Python and pydantic read as a number."""
    if isinstance(value, str) and not _DIGITS.fullmatch(value):
        raise PydanticCustomError("digits", "must be a number from 0 on, in decimal digits alone")
    return value


IN_DIGITS: Final = BeforeValidator(_in_digits)
"""Beside the bounds of a number in a path or a query."""
