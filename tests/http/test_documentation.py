"""What the documentation says is what happens: its examples are run, its links lead somewhere."""

import asyncio
import re
import time
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest

from app.determination.cases import read_cases, run_case
from app.determination.record import ENGINE_VERSION
from app.http.permissions import ROLES
from app.http.problems import NOT_ALLOWED, PROBLEMS
from app.policy.language import read_policy
from app.settings import Settings
from tests.http.conftest import Service

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLE = re.compile(r"```http\n(GET|POST) (\S+) -> (\d+)\n(?:\n(.*?))?```", re.DOTALL)


async def test_every_example_of_the_api_page_answers_as_it_says(
    service: Service, client: httpx.AsyncClient
) -> None:
    """In the order of the page, so that a reader can follow it from the top. Somebody else signs, as
    the page says.
    """
    examples = EXAMPLE.findall((ROOT / "docs" / "http.md").read_text())
    assert len(examples) > 12
    async with service.client((await service.new_key("approver")).text) as approver:
        for method, path, status, body in examples:
            answer = await (approver if path == "/v1/sign-offs" else client).request(
                method,
                path,
                content=body.encode() or None,
                headers={"Content-Type": "application/json"} if body else {},
            )
            assert answer.status_code == int(status), f"{method} {path}: {answer.text}"


async def test_the_examples_of_obligations_answer_as_they_say(client: httpx.AsyncClient) -> None:
    """Each once what the ones before it have raised was found."""
    examples = EXAMPLE.findall((ROOT / "docs" / "obligations.md").read_text())
    assert len(examples) == 4
    said = ""
    for method, path, status, body in examples:
        headers = {"Content-Type": "application/json"} if body else {}
        answer = await client.request(method, path, content=body.encode() or None, headers=headers)
        assert answer.status_code == int(status), f"{method} {path}: {answer.text}"
        until = time.monotonic() + 20
        while (await client.get("/v1/obligations", params={"limit": 1})).json()["behind"]:
            assert time.monotonic() < until
            await asyncio.sleep(0.05)
        said = answer.text

    assert '"status":"fulfilled"' in said


async def test_the_examples_of_authzen_answer_as_they_say(client: httpx.AsyncClient) -> None:
    examples = EXAMPLE.findall((ROOT / "docs" / "integrations" / "authzen.md").read_text())
    assert len(examples) == 3
    for method, path, status, body in examples:
        headers = {"Content-Type": "application/json"}
        answer = await client.request(method, path, content=body.encode(), headers=headers)
        assert answer.status_code == int(status), f"{method} {path}: {answer.text}"


async def test_the_version_in_force_on_the_day_before_is_the_one_that_the_page_says(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.get("/v1/policies/anthropic-rsp?at=2025-05-13T12:00:00Z")

    assert answer.json()["version"] == "2.1"


async def test_the_docs_page_loads_nothing_from_elsewhere(empty_client: httpx.AsyncClient) -> None:
    page = await empty_client.get("/docs")
    assets = re.findall(r'(?:src|href)="([^"]+)"', page.text)

    assert page.status_code == 200
    assert assets
    for asset in assets:
        assert asset.startswith("/")
        assert (await empty_client.get(asset)).status_code == 200


def test_the_case_on_the_policy_page_passes() -> None:
    page = (ROOT / "docs" / "policies.md").read_text()
    (block,) = re.findall(r"```yaml\n(policy:.*?)```", page, re.DOTALL)
    rsp = read_policy((ROOT / "policies/anthropic-rsp/2.2.yaml").read_bytes(), "yaml")

    (case,) = read_cases(block.encode()).cases

    assert run_case(case, rsp) == ()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_to_a_heading(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert anchor in {_anchor(heading) for heading in headings}, link


def _anchor(heading: str) -> str:
    return re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")


def test_every_problem_has_its_row() -> None:
    page = (ROOT / "docs" / "http.md").read_text()

    for problem in (*PROBLEMS.values(), NOT_ALLOWED):
        assert f"`{problem.name}`" in page


def test_every_setting_and_every_role_has_its_row() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()

    for setting in Settings.model_fields:
        assert f"`ASLGATE_{setting.upper()}`" in page
    for role in ROLES:
        assert f"| `{role}` |" in page


def test_the_engine_names_the_version_of_the_package() -> None:
    assert version("aslgate") == ENGINE_VERSION
