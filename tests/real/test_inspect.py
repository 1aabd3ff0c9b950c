"""Logs that the real Inspect AI writes here and now, imported. `make test-real` runs this."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from app.assessment.evaluations import Draft
from tests.integrations.importing import imported, map_of

VENV = os.environ.get("ASLGATE_REAL_VENV")
TASK = Path(__file__).with_name("inspect_task.py")
MAP = map_of("inspect", "task: uplift, metric: accuracy, line: uplift")

pytestmark = pytest.mark.skipif(
    VENV is None, reason="the real programs are in a venv of their own: `make test-real`"
)


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    python = Path(str(VENV)).resolve() / "bin" / "python"
    subprocess.run([python, TASK], cwd=folder, check=True, timeout=100)
    return folder


def draft(logs: Path, folder: str) -> Draft:
    (file,) = (logs / folder).iterdir()
    return imported("inspect", file.read_bytes(), MAP)


def result(of: Draft) -> Any:
    (only,) = of.body["results"]
    return only


@pytest.mark.parametrize("folder", ["whole", "json"])
def test_a_whole_run_is_relied_on(logs: Path, folder: str) -> None:
    made = draft(logs, folder)

    assert (float(result(made)["value"]), result(made)["n"]) == (0.5, 4)
    assert result(made)["load_bearing"] is True
    assert made.warnings == ()


def test_a_limited_run_is_not(logs: Path) -> None:
    assert result(draft(logs, "limited"))["load_bearing"] is False
