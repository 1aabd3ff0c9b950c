"""`aslgate import`: a draft on standard output, and on record where that is asked for."""

import json
from pathlib import Path

import httpx
import pytest

from tests.cli.conftest import Cli
from tests.faults.service import KEY, Service
from tests.http.small import policy
from tests.integrations.importing import MODEL, SAMPLES, map_of

LOG = SAMPLES / "inspect" / "success.eval"
WEAK = SAMPLES / "inspect" / "success-limit-2.header.json"
ENTRY = "task: aslgate/acquisition_uplift, metric: accuracy, line: uplift, policy: small"
LINE = {"title": "t", "unit": "share", "riskier": "higher", "rule_out": {"below": 0.6}}


@pytest.fixture
def mapped(tmp_path: Path) -> Path:
    file = tmp_path / "map.yaml"
    file.write_bytes(map_of("inspect", ENTRY))
    return file


def test_a_preview_needs_no_service_and_prints_the_draft(cli: Cli, mapped: Path) -> None:
    ran = cli("import", "inspect", LOG, f"--model={MODEL}", f"--map={mapped}")

    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out)["results"][0]["line"] == "uplift"


def test_warnings_go_to_standard_error(cli: Cli, mapped: Path) -> None:
    ran = cli("import", "inspect", WEAK, f"--model={MODEL}", f"--map={mapped}")

    assert ran.code == 0
    assert ran.err.startswith("warning: limited: /eval/config/limit: ")
    assert json.loads(ran.out)["results"][0]["load_bearing"] is False


def test_faults_of_the_map_have_a_line_and_those_of_the_log_a_pointer(
    cli: Cli, mapped: Path
) -> None:
    log = SAMPLES / "inspect" / "error.header.json"
    of_the_log = cli("import", "inspect", log, f"--model={MODEL}", f"--map={mapped}")
    mapped.write_text(mapped.read_text().replace("unit:", "wariant:"))
    of_the_map = cli("import", "inspect", LOG, f"--model={MODEL}", f"--map={mapped}")

    assert of_the_log.code == of_the_map.code == 1
    assert f"{log}: /status: the run ended with status `error`" in of_the_log.err
    assert f"{mapped}:6:" in of_the_map.err
    assert of_the_log.out == of_the_map.out == ""


@pytest.mark.parametrize("arguments", [("helm", f"--model={MODEL}"), ("inspect", "--model=lab/m")])
def test_what_is_called_wrongly_is_a_usage_error(
    cli: Cli, mapped: Path, arguments: tuple[str, str]
) -> None:
    source, model = arguments

    assert cli("import", source, LOG, model, f"--map={mapped}").code == 2


def test_a_log_is_recorded_where_that_is_asked_for(
    service: Service, asking: Cli, mapped: Path
) -> None:
    """Before, the policies that the map names are asked what they say of their lines."""
    with httpx.Client(
        base_url=f"http://127.0.0.1:{service.port}", headers={"Authorization": f"Bearer {KEY}"}
    ) as http:
        document = policy(lines={"uplift": LINE})
        document["thresholds"]["T"]["evidence"] = ["uplift"]
        answer = http.post("/v1/policies/small/versions", json=document)
        assert answer.status_code == 201, answer.text
        http.post("/v1/models", json={"model": MODEL, "developer": "lab"}).raise_for_status()

        shown = asking("import", "inspect", LOG, f"--model={MODEL}", f"--map={mapped}")
        ran = asking("import", "inspect", LOG, f"--model={MODEL}", f"--map={mapped}", "--record")

        assert json.loads(shown.out)["model"] == MODEL
        assert shown.err.startswith("warning: no-policy-in-force: ")
        assert ran.code == 0, ran.err
        id = ran.out.split()[1]
        recorded = http.get(f"/v1/assessments/{id}").json()

    assert recorded["results"][0]["value"] == "0.5"
