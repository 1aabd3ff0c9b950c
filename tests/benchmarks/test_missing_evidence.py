"""The comparison of engines: our own row, and that the others are of what one is told to install."""

import importlib.util
import json
import re
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


def test_the_table_has_each_row_of_the_script(comparison: Any) -> None:
    """In its order; what each engine said is not asked again here, for none is installed."""
    table = RUN.with_name("README.md").read_text()
    rows = [line.split(" | ")[:2] for line in table.splitlines() if line.startswith("| ")][2:]

    shown = [(name.removeprefix("| "), engine.split()[0]) for name, engine in rows]
    assert shown == [(name, engine) for name, engine, _ in comparison.ROWS]


def test_the_versions_that_are_shown_are_those_that_are_pinned() -> None:
    """But for OPA, whose version only the library itself tells."""
    table = RUN.with_name("README.md").read_text()
    shown = dict(re.findall(r"\| ([\w-]+) (\d[\d.]+) \|", table))
    pinned = dict(
        re.findall(r"^([\w-]+)==(\S+)", RUN.with_name("requirements.txt").read_text(), re.MULTILINE)
    )
    lock = json.loads(RUN.with_name("package-lock.json").read_text())["packages"]
    pinned["Cerbos"] = lock["node_modules/@cerbos/cerbos-linux-x64"]["version"]
    del shown["OPA"]

    assert shown == {engine: pinned[engine] for engine in shown}
    assert set(shown) == {"regopy", "cedarpy", "zen-engine", "cel-python", "Cerbos"}


def test_no_lock_names_where_a_package_comes_from() -> None:
    """So that the hashes hold wherever one's client gets its packages."""
    for name in ("package-lock.json", "requirements.txt", "requirements-opa.txt"):
        assert "://" not in RUN.with_name(name).read_text()
