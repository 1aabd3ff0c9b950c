"""A hook of schemathesis: each request comes from the next of several callers.

Their keys stand in ASLGATE_CALLERS, separated by spaces; `-` is a caller without one.
"""

import itertools
import os
from typing import Any

import schemathesis

_keys = itertools.cycle(os.environ["ASLGATE_CALLERS"].split())


@schemathesis.hook
def before_call(
    context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]
) -> None:
    """Put the next key into the request."""
    key = next(_keys)
    if key != "-":
        case.headers["Authorization"] = f"Bearer {key}"
