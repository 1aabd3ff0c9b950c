"""What docs/trust.md says is shown by a test is shown by a test that there is."""

import re
from pathlib import Path

import pytest

from app.http.permissions import ROLES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "trust.md").read_text(encoding="utf-8")
ROWS = [line.split(" | ") for line in TEXT.splitlines() if line.startswith("| **")]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip("| *"))
def test_every_line_names_what_shows_it(row: list[str]) -> None:
    *_, shown = row
    file, named = "", re.findall(r"`(tests/[\w/]+\.py)?(?:::(\w+))?`", shown)
    assert named
    for path, test in named:
        file = path or file
        text = (ROOT / file).read_text(encoding="utf-8")
        if test:
            assert re.search(rf"^(async )?def {test}\(", text, re.MULTILINE), (file, test)


def test_each_store_and_key_has_a_line() -> None:
    """Whoever adds one says here what somebody who has it could do."""
    stores = " ".join(row[0] for row in ROWS)
    for word in ("superuser", "service's role", "auditor", "backup", "replica", "ledger key"):
        assert word in stores
    for word in ("attestation key", "state file", "host", "witness", "watcher", "CI"):
        assert word in stores
    for role in ROLES:
        assert f"`{role}`" in stores
