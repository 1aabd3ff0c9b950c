"""The pages of the evaluation imports: their maps and commands, run as they stand there."""

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.cli.conftest import run
from tests.integrations.importing import SAMPLES
from tests.integrations.test_promptlayer_report import REPORT

PAGES = Path(__file__).parents[2] / "docs" / "integrations"


def test_pages_work_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each map with the first command that imports to a draft."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "results").mkdir()
    (tmp_path / "logs/uplift.eval").write_bytes((SAMPLES / "inspect/success.eval").read_bytes())
    results = (SAMPLES / "lm-eval/results.json").read_bytes()
    (tmp_path / "results/results.json").write_bytes(results)
    (tmp_path / "report.json").write_bytes(REPORT)
    monkeypatch.chdir(tmp_path)
    for name in ("inspect", "lm-eval", "promptlayer", "tables"):
        page = (PAGES / f"{name}.md").read_text()
        for table in re.findall(r"```csv\n(.*?)```", page, re.DOTALL):
            Path("results.csv").write_text(table)
        (by_map,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
        Path("map.yaml").write_text(by_map)
        (command,) = re.findall(r"^\$ aslgate (import .*) > draft.json$", page, re.MULTILINE)

        ran = run(*shlex.split(command))

        assert ran.code == 0, (name, ran.err)
        assert json.loads(ran.out)["results"][0]["line"] == "bio-acquisition-uplift", name
