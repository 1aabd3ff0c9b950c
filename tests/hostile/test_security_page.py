"""What docs/security.md says is shown by a test is shown by a test that there is."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
ROWS = [
    line.strip("| ").split(" | ")
    for line in TEXT.splitlines()
    if line.startswith("| ") and "---" not in line and not line.endswith("| shown by |")
]
THREATS = [
    f"{letter}{n}"
    for letter, most in zip("RDAIT", (10, 12, 10, 8, 8), strict=True)
    for n in range(1, most + 1)
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].partition(":")[0])
def test_every_line_names_a_test_that_there_is_or_says_that_there_is_none(row: list[str]) -> None:
    *_, shown = row
    file = ""
    named = re.findall(r"`(tests/[\w/]+\.py)?(?:::(\w+))?`", shown)
    assert named or shown.startswith("not covered")
    for path, test in named:
        file = path or file
        text = (ROOT / file).read_text(encoding="utf-8")
        if test:
            assert re.search(rf"^(async )?def {test}\(", text, re.MULTILINE), (file, test)


def test_each_threat_and_each_of_the_ten_has_a_line() -> None:
    firsts = [re.split("[:,]", row[0])[0] for row in ROWS]

    assert [first for first in firsts if first in THREATS] == THREATS
    assert [first for first in firsts if first.startswith("API")] == [
        f"API{n}" for n in range(1, 11)
    ]


@pytest.mark.parametrize(
    "of", ["Postgres", "standby", "clock", "issuer", "witness", "signer", "client"]
)
def test_whatever_the_service_leans_on_has_a_line_that_says_what_its_failure_does(of: str) -> None:
    _, _, after = TEXT.partition("## When something else fails")

    assert of in after.partition("## OWASP")[0]
