"""A running service for each test, and the figures of each at the end of the run."""

import http.client
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import short_open_folder
from tests.faults.service import KEY, Service

POLICY_FILE = Path(__file__).parents[2] / "policies" / "anthropic-rsp" / "2.2.yaml"


@pytest.fixture(scope="module")
def started() -> Iterator[Service]:
    """The service with RSP 2.2 in force, over one database for all tests of a module.

    So each fault also meets what the faults before it have left behind.
    """
    with short_open_folder() as folder:
        service = Service(folder)
        try:
            service.start()
            put_policy_in_force(service.port, service.new_key("policy-approver"))
            yield service
        finally:
            service.end()


@pytest.fixture
def service(started: Service) -> Service:
    """The service, running, whatever the test before has done to it."""
    if not started.is_ready():
        started.end()
        started.start()
    return started


def put_policy_in_force(port: int, second: str) -> None:
    """Record RSP 2.2 with the first key, and put it in force with the second one."""
    versions = "/v1/policies/anthropic-rsp/versions"
    approval = json.dumps({"reason": "as published"}).encode()
    activation = json.dumps(
        {
            "in_force_from": "2025-05-14T00:00:00Z",
            "retroactive": True,
            "reason": "in force at the publisher since then",
        }
    ).encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for key, media, path, body in (
        (KEY, "yaml", versions, POLICY_FILE.read_bytes()),
        (second, "json", f"{versions}/2.2/approvals", approval),
        (second, "json", f"{versions}/2.2/activation", activation),
    ):
        headers = {
            "Authorization": f"Bearer {key}",
            "Content-Type": f"application/{media}",
            "Idempotency-Key": path,
        }
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        said = response.read()
        assert response.status == 201, said
    connection.close()


Figures = Callable[[str], None]


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Figures:
    """Say in figures what a test did; they stand in the run's summary."""
    return lambda text: record_property("figures", text)


@pytest.hookimpl
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    said = [
        f"{report.nodeid.rpartition('::')[2]}: {text}"
        for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
        for name, text in report.user_properties
        if name == "figures" and report.when == "call"
    ]
    if said:
        terminalreporter.section("faults")
        terminalreporter.write("\n".join(said) + "\n")
