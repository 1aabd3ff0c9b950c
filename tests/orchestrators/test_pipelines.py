"""docs/integrations/pipelines.md, script by script: what a pipeline does with each answer, and with
none. A deployment that starts anywhere but after an allow is a no that became a yes.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final

import pytest
import yaml

from tests.cli.conftest import run
from tests.faults.service import environment, free_port
from tests.hostile.conftest import Live
from tests.orchestrators.conftest import ALLOWED, DENIED, LIMITED

PAGE: Final = (Path(__file__).parents[2] / "docs" / "integrations" / "pipelines.md").read_text()
pytestmark = pytest.mark.skipif(
    not (shutil.which("curl") and shutil.which("jq")), reason="the recipes need `curl` and `jq`"
)
BASH: Final = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c")

REFUSED: Final = 22
"""What `curl --fail-with-body` ends with on 400 and above."""
UNREACHABLE: Final = 7
DENY: Final = 3
NO_ANSWER: Final = 1


ASK: Final = ("determine", ALLOWED, "--action=external-deployment", "--fail-on-deny")


@dataclass(frozen=True)
class Step:
    """A command of a pipeline, as its system would run it."""

    command: tuple[str, ...]


def under(heading: str, language: str) -> list[str]:
    """The blocks of code of that language under a heading of the page."""
    (section,) = re.findall(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL
    )
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def shell(number: int) -> list[Step]:
    # Run as a file would be, without any option: what it needs it sets itself.
    return [Step(("bash", "-c", under("Any shell", "bash")[number]))]


def conditions() -> list[Step]:
    return [Step(("bash", "-c", under("Conditions", "bash")[0]))]


def github() -> list[Step]:
    """By the shell that GitHub runs where a job says `shell: bash`."""
    (workflow,) = (yaml.safe_load(one) for one in under("GitHub Actions", "yaml"))
    job = workflow["jobs"]["release"]
    assert job["defaults"]["run"]["shell"] == "bash"
    steps = [one for one in job["steps"] if "run" in one]
    assert not any("if" in one or "continue-on-error" in one for one in steps)
    assert not any("${{" in one["run"] for one in steps)
    return [Step((*BASH, one["run"])) for one in steps]


def gitlab() -> list[Step]:
    """Job after job, in the order of the stages; a later one starts where the earlier ones ended well."""
    (file,) = (yaml.safe_load(one) for one in under("GitLab", "yaml"))
    jobs = [file[stage] for stage in file["stages"]]
    assert jobs[1]["needs"] == [file["stages"][0]]
    assert not any("allow_failure" in one or "when" in one for one in jobs)
    return [Step((*BASH, "\n".join(one["script"]))) for one in jobs]


def jenkins() -> list[Step]:
    """Jenkins runs `sh -xe`."""
    (text,) = under("Jenkins", "groovy")
    assert "returnStatus" not in text
    return [Step(("sh", "-xe", "-c", one)) for one in re.findall(r"sh '(.*)'", text)]


def workflows() -> list[Step]:
    """Each container, with the parameter filled in; a step starts once the one before succeeded."""
    (workflow,) = (yaml.safe_load(one) for one in under("Argo Workflows", "yaml"))
    templates = {one["name"]: one for one in workflow["spec"]["templates"]}
    steps = [one for group in templates["release"]["steps"] for one in group]
    assert not any("continueOn" in one for one in steps)
    containers = [templates[one["template"]]["container"] for one in steps]
    return [
        Step(tuple(_filled(word) for word in (*one["command"], *one["args"]))) for one in containers
    ]


def _filled(word: str) -> str:
    return "\0MODEL" if word == "{{workflow.parameters.model}}" else word


BY_CURL: Final[dict[str, Callable[[], list[Step]]]] = {
    "curl": lambda: shell(0),
    "GitHub Actions": github,
}
BY_COMMAND: Final[dict[str, Callable[[], list[Step]]]] = {
    "aslgate": lambda: shell(1),
    "GitLab": gitlab,
    "Jenkins": jenkins,
    "Argo Workflows": workflows,
}


@dataclass
class Runner:
    """Where a pipeline runs: a folder with a `deploy.sh`, and the variables of the page."""

    folder: Path
    url: str
    key: str
    said: str = ""
    programs: str = str(Path(sys.executable).parent)

    def run(self, steps: list[Step], model: str) -> int:
        """The exit code of the first step that fails; 0 where none does."""
        (self.folder / "deployed").unlink(missing_ok=True)
        for step in steps:
            done = subprocess.run(
                [model if word == "\0MODEL" else word for word in step.command],
                check=False,
                capture_output=True,
                text=True,
                cwd=self.folder,
                timeout=60,
                stdin=subprocess.DEVNULL,
                env=environment(
                    PATH=f"{self.programs}:{os.environ['PATH']}",
                    ASLGATE_URL=self.url,
                    ASLGATE_API_KEY=self.key,
                    MODEL=model,
                    BUILD_ID=os.urandom(8).hex(),
                    GITHUB_RUN_ID=os.urandom(8).hex(),
                    GITHUB_RUN_ATTEMPT="1",
                ),
            )
            self.said = done.stdout + done.stderr
            if done.returncode:
                return done.returncode
        return 0

    @property
    def deployed(self) -> str | None:
        """What was deployed."""
        path = self.folder / "deployed"
        return path.read_text().strip() if path.exists() else None


@pytest.fixture
def runner(live: Live, key: str, tmp_path: Path) -> Runner:
    deploy = tmp_path / "deploy.sh"
    deploy.write_text('#!/bin/sh\necho "$1" > deployed\n')
    deploy.chmod(0o755)
    return Runner(tmp_path, live.url, key)


@contextmanager
def without_a_database(live: Live) -> Iterator[None]:
    live.run(live.service.cut_off(True))
    try:
        yield
    finally:
        live.run(live.service.cut_off(False))


@pytest.mark.parametrize("name", BY_CURL)
def test_by_curl_only_an_allow_is_deployed(runner: Runner, live: Live, name: str) -> None:
    """Denied, conditional and unknown models are not; and an answer stays an answer: it is recorded."""
    steps = BY_CURL[name]()
    size = live.size

    assert runner.run(steps, ALLOWED) == 0
    assert runner.deployed == ALLOWED
    for model in (DENIED, LIMITED, "nobody@1"):
        assert runner.run(steps, model) == REFUSED
        assert runner.deployed is None
    assert live.size == size + 4 * 2


def test_by_the_command_only_an_allow_is_deployed(runner: Runner) -> None:
    steps = BY_COMMAND["aslgate"]()

    assert runner.run(steps, ALLOWED) == 0
    assert runner.deployed == ALLOWED
    assert runner.run(steps, DENIED) == DENY
    assert runner.deployed is None


@pytest.mark.parametrize("name", BY_COMMAND)
def test_every_recipe_by_the_command_heeds_how_it_ends(runner: Runner, name: str) -> None:
    """Here another stands for the command, which takes its time to start: it is asked the same as by the
    recipe that is run with the real one, and ends in each of the ways in which that ends.
    """
    steps = BY_COMMAND[name]()
    stand_in = runner.folder / "aslgate"
    runner.programs = str(runner.folder)

    for ends in (0, NO_ANSWER, 2, DENY):
        stand_in.write_text(f'#!/bin/sh\necho "$@" > asked\nexit {ends}\n')
        stand_in.chmod(0o755)
        assert runner.run(steps, ALLOWED) == ends
        asked = (runner.folder / "asked").read_text().strip()
        assert asked == f"determine {ALLOWED} --action external-deployment --fail-on-deny"
        assert runner.deployed == (None if ends else ALLOWED)


@pytest.mark.parametrize("name", BY_CURL)
def test_without_a_service_nothing_is_deployed(runner: Runner, name: str) -> None:
    """With the command neither: that it ends with 1 then, tests/cli shows."""
    runner.url = f"http://127.0.0.1:{free_port()}"

    assert runner.run(BY_CURL[name](), ALLOWED) == UNREACHABLE
    assert runner.deployed is None


def test_what_cannot_be_decided_now_is_not_deployed(runner: Runner, live: Live) -> None:
    """503: nobody is told that the answer is no, which would be final."""
    (script, _) = under("Any shell", "bash")
    once = script.replace("--retry 2", "--retry 0")
    assert once != script

    with without_a_database(live):
        by_curl = runner.run([Step(("bash", "-c", once))], ALLOWED)
        by_command = run(*ASK, ASLGATE_URL=runner.url, ASLGATE_API_KEY=runner.key)

    assert (by_curl, by_command.code) == (REFUSED, NO_ANSWER)
    assert "urn:aslgate:problem:unavailable" in runner.said
    assert runner.deployed is None


def test_a_key_that_opens_nothing_deploys_nothing(runner: Runner) -> None:
    runner.key = "aslk_" + "0" * 32 + "_" + "x" * 43

    assert runner.run(shell(0), ALLOWED) == REFUSED
    assert runner.deployed is None


def test_who_keeps_the_conditions_is_told_them_and_on_record(runner: Runner) -> None:
    assert runner.run(conditions(), LIMITED) == 0
    assert runner.deployed == LIMITED
    assert "not at night" in runner.said
    gate: dict[str, Any] = json.loads((runner.folder / "gate.json").read_text())
    assert (gate["allowed"], gate["accepts_conditions"]) == (True, True)


class _LoginPage(BaseHTTPRequestHandler):
    """A proxy that sends everybody to a page of its own."""

    def do_POST(self) -> None:
        self.send_response(302)
        self.send_header("Location", "/login")
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>Who are you?</html>")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def login_page() -> Iterator[str]:
    """The address of such a proxy."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _LoginPage) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


CHECK: Final = 'test "$(jq .allowed <<< "$answer")" = true\n'
"""The second of the recipe's two checks."""


def curl_without(*words: str) -> list[Step]:
    (script, _) = under("Any shell", "bash")
    for word in words:
        assert word in script
        script = script.replace(word, "")
    return [Step(("bash", "-c", script))]


@pytest.mark.parametrize("location", ["", "--location "])
def test_a_login_page_deploys_nothing(runner: Runner, login_page: str, location: str) -> None:
    """Whether it is followed or not; the command takes it for no answer."""
    runner.url = login_page
    (step,) = curl_without()
    following = Step(
        tuple(word.replace("--silent", f"{location}--silent") for word in step.command)
    )

    assert runner.run([following], ALLOWED) not in (0, DENY)
    by_command = run(*ASK, ASLGATE_URL=login_page, ASLGATE_API_KEY=runner.key)
    assert by_command.code == NO_ANSWER
    assert runner.deployed is None


def test_one_check_is_enough_for_a_no(runner: Runner) -> None:
    assert runner.run(curl_without("?enforce=true"), DENIED) == 1
    assert runner.run(curl_without(CHECK), DENIED) == REFUSED
    assert runner.deployed is None


def test_what_the_page_warns_of_releases_on_a_no(runner: Runner, login_page: str) -> None:
    """The recipe with less than it needs; so the tests above can fail."""
    assert runner.run(curl_without("?enforce=true", CHECK), DENIED) == 0
    assert runner.deployed == DENIED
    assert runner.run(curl_without("set -euo pipefail"), DENIED) == 0
    assert runner.deployed == DENIED
    runner.url = login_page
    assert runner.run(curl_without(CHECK), DENIED) == 0
    assert runner.deployed == DENIED
