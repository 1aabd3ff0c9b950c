"""Each trap in the table of docs/integrations names tests that there are."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "integrations" / "README.md").read_text(encoding="utf-8")
TRAPS = [line for line in TEXT.splitlines() if re.match(r"\| T\d+:", line)]


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap[2:].partition(":")[0])
def test_what_stands_against_a_trap_is_shown_by_a_test_that_there_is(trap: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", trap.rpartition(" | ")[2])

    assert named
    for path, test in named:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^(async )?def {test}\(", text, re.MULTILINE), (path, test)
