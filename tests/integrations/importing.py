"""A log in, a draft out: the genuine samples, and small changes to them."""

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import pytest

from app.assessment.evaluations import Draft, System
from app.errors import Fault, InvalidDocument
from app.ledger.envelope import SignerKey
from app.operations.import_evaluations import GivenLog, read_log

SAMPLES: Final = Path(__file__).parent / "samples"
MODEL: Final = "example-lm@1"


def map_of(system: System, *entries: str, **more: str) -> bytes:
    """A map with those entries (what stands between the braces), and more fields."""
    said = {"schema": "aslgate/import-map/v1", "source": system, "assessor": "Lab", "kind": "k"}
    lines = [f"{name}: {value}" for name, value in (said | more).items()]
    lines += ["results:", *(f"  - {{{entry}, unit: share}}" for entry in entries)]
    return "\n".join(lines).encode()


def imported(
    system: System,
    data: bytes,
    map: bytes,  # noqa: A002
    *,
    model: str = MODEL,
    keys: tuple[SignerKey, ...] = (),
    must_be_signed: bool = False,
    **how: Any,
) -> Draft:
    given = GivenLog(file=BytesIO(data), map=map, model=model, **how)
    return read_log(system, given, keys, must_be_signed=must_be_signed)[0]


def refused(*arguments: Any, **how: Any) -> tuple[Fault, ...]:
    with pytest.raises(InvalidDocument) as refusal:
        imported(*arguments, **how)
    return refusal.value.faults


def changed(data: bytes, change: Callable[[Any], None]) -> bytes:
    """The JSON log after *change*, which works on it in place."""
    value = json.loads(data)
    change(value)
    return json.dumps(value).encode()


def warned(of: Draft) -> list[str]:
    return [warning.code for warning in of.warnings]
