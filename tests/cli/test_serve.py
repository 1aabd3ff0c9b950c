"""`aslgate serve` and `aslgate migrate`: on a server by URL, on circumstances that cannot work, and
what they write while they work.
"""

import http.client
import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.storage.database import DATABASE, OWNER, SERVICE, expected_revision, prepare_roles
from app.storage.embedded import EmbeddedPostgres
from tests.cli.conftest import Cli
from tests.conftest import short_open_folder
from tests.faults.service import KEY, PROGRAM, Service, environment, free_port


@dataclass(frozen=True)
class Urls:
    """An empty database by URL, for the role that owns it and for the service's own."""

    owner: str
    service: str


@pytest.fixture(scope="module")
def urls() -> Iterator[Urls]:
    """On a server that forgets nothing."""
    with short_open_folder() as folder, EmbeddedPostgres(folder / "server") as server:
        prepare_roles(server.dsn())
        yield Urls(*(str(server.dsn(DATABASE, role)) for role in (OWNER, SERVICE)))


@contextmanager
def served(port: int, database_url: str, output: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with output.open("wb") as out:
        process = subprocess.Popen(
            [PROGRAM, "serve", f"--port={port}"],
            stdout=out,
            stderr=out,
            env=environment(ASLGATE_DATABASE_URL=database_url, ASLGATE_BOOTSTRAP_KEY=KEY),
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def readiness(port: int, wanted: int, output: Path) -> str:
    """What `/readyz` says once it answers with that status."""
    status, said = 0, ""
    deadline = time.monotonic() + 20
    while status != wanted:
        assert time.monotonic() < deadline, (status, said, output.read_text())
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            response = connection.getresponse()
            status, said = response.status, response.read().decode()
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.05)
    return said


def test_a_server_by_url_is_ready_once_it_is_migrated(cli: Cli, urls: Urls, tmp_path: Path) -> None:
    """Before, the service runs, says what is missing, and picks the migration up by itself."""
    port, output = free_port(), tmp_path / "output"
    with served(port, urls.service, output) as process:
        assert "aslgate migrate" in readiness(port, 503, output)

        migrated = cli("migrate", f"--database-url={urls.owner}")
        again = cli("migrate", "--json", ASLGATE_DATABASE_URL=urls.owner)

        revision = expected_revision()
        assert (migrated.code, migrated.out) == (
            0,
            f"the database is at {revision}, and the service may use it as `{SERVICE}`\n",
        )
        assert json.loads(again.out) == {
            "revision": revision,
            "service_role": SERVICE,
            "role_made": False,
        }
        assert "ready" in readiness(port, 200, output)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + 15


@pytest.mark.long
def test_what_cannot_work_is_said_in_one_sentence(
    cli: Cli,
    program: Cli,
    urls: Urls,
    postgres: EmbeddedPostgres,
    server_folder: Path,
) -> None:
    """No traceback, whatever is wrong: not with the address, the key, the name or the settings."""
    file = server_folder / "file"
    file.write_text("not a folder")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        by_url = f"--database-url={urls.service}"
        as_owner = f"--database-url={urls.owner}"
        cases: list[tuple[int, str, tuple[object, ...], dict[str, str]]] = [
            (1, "fsync", ("serve", f"--database-url={postgres.dsn()}"), {}),
            (1, "cannot be listened on", ("serve", by_url, f"--port={port}"), {}),
            (1, "32 or more", ("serve", by_url, "--port=0"), {"ASLGATE_BOOTSTRAP_KEY": "short"}),
            (1, "`localhost/aslgate`", ("serve", by_url), {"ASLGATE_LOG_NAME": "another/log"}),
            (1, "begins with `postgresql://`", ("migrate", "--database-url=mysql://x"), {}),
            (
                1,
                "cannot be reached",
                ("migrate", "--database-url=postgresql://x@127.0.0.1:9/x"),
                {},
            ),
            (1, "could rewrite what is recorded", ("serve", as_owner), {}),
            (1, "owner may make none", ("migrate", as_owner), {"ASLGATE_SERVICE_ROLE": "new"}),
            (1, "must not be", ("migrate", as_owner), {"ASLGATE_SERVICE_ROLE": OWNER}),
            (1, "is not a folder", ("keys", "list", f"--data-dir={file}"), {}),
            (1, "is not a folder", ("serve", f"--data-dir={file}"), {}),
            (1, "ot a directory", ("openapi", file / "below"), {}),
            (2, "not both", ("serve", by_url, "--data-dir=x"), {}),
            (2, "--database-url", ("migrate",), {}),
            (
                2,
                "ASLGATE_MAX_BODY_BYTES",
                ("migrate", as_owner),
                {"ASLGATE_MAX_BODY_BYTES": "many"},
            ),
        ]
        for code, words, command, environ in cases:
            ran = (program if "serve" in command else cli)(*command, **environ)
            *logged, sentence = ran.err.splitlines()
            assert ran.code == code, (command, ran)
            assert sentence.startswith("aslgate: "), (command, ran)
            assert words in sentence, (command, ran)
            assert all(json.loads(line) for line in logged), (command, ran)


HOSTILE = [
    "/v1/models/a%0d%0aSet-Cookie:%20x@1",
    "/v1/models/%1b%5b31mred%1b%5b0m@1",
    "/v1/models/%00%7f%c2%85%e2%80%a8%e2%80%ae@1",
    "/v1/models/%ff%fe@1",
    "/v1/models/a%22,%22level%22:%22error@1",
    "/v1/models/..%2f..%2fetc%2fpasswd@1",
    "/%0a%7b%22event%22:%22forged%22%7d",
]


def test_every_line_of_the_log_is_one_json_object(service: Service) -> None:
    """Whatever a caller sends, it breaks no line, colours none, and forges none."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=5)
    headers = {"Authorization": f"Bearer {KEY}"}
    given: list[str | None] = []
    for path in HOSTILE:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        response.read()
        assert response.status in (400, 404, 422), path
        given.append(response.getheader("X-Request-Id"))
    connection.request("GET", "/v1/models/own@1", headers=headers | {"X-Request-Id": "mine-1"})
    response = connection.getresponse()
    response.read()
    connection.request("GET", "/v1/models/x@1", headers=headers | {"X-Request-Id": 'no "word"'})
    forged = connection.getresponse()
    forged.read()
    connection.close()

    text = service.output.read_bytes()
    assert all(byte == 0x0A or 0x20 <= byte < 0x7F for byte in text)
    lines = [json.loads(line) for line in text.splitlines()]
    assert all(isinstance(line, dict) and line["event"] for line in lines)
    requests = {line["request_id"]: line for line in lines if line["event"] == "request"}
    assert {*given, "mine-1"} <= requests.keys()
    assert response.getheader("X-Request-Id") == "mine-1"
    assert str(forged.getheader("X-Request-Id")).startswith("req_")
    assert not any(line["event"] == "forged" for line in lines)
    assert all(
        {"method", "path", "route", "status", "seconds"} <= r.keys() for r in requests.values()
    )


def test_no_secret_is_in_the_log(service: Service) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=5)
    for key in (KEY, "a-wrong-key-that-is-also-nobodys-business"):
        connection.request("GET", "/v1/models/x@1", headers={"Authorization": f"Bearer {key}"})
        connection.getresponse().read()
    connection.close()

    assert KEY not in service.said()
    assert "a-wrong-key" not in service.said()


def test_metrics_are_given_without_a_key(service: Service) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=5)
    connection.request("GET", "/metrics")
    response = connection.getresponse()

    assert response.status == 200
    assert "aslgate_ledger_size" in response.read().decode()
    connection.close()
