"""The comparison of engines: our own row, which is the one that we can keep true."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

RUN = Path(__file__).parents[2] / "benchmarks" / "missing_evidence" / "run.py"
COMMAND = Path(sys.executable).with_name("aslgate")


@pytest.fixture(scope="module")
def comparison() -> Any:
    """The script, as a module."""
    found = importlib.util.spec_from_file_location("missing_evidence", RUN)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ({"uplift": 3.1}, "deny"),
        ({"uplift": 1.0}, "allow"),
        ({}, "deny"),
        ({"uplift": None}, "(refused: must be a number)"),
    ],
)
def test_what_was_not_measured_is_never_allowed(
    comparison: Any, given: dict[str, Any], answer: str
) -> None:
    assert comparison.aslgate(str(COMMAND))(given) == answer


def test_the_table_that_is_shown_has_our_row() -> None:
    table = RUN.with_name("README.md").read_text()

    assert "| aslgate | aslgate  | deny | allow | deny | (refused: must be a number) |" in table
