"""A running service for each test, and the figures of each at the end of the run."""

import http.client
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from app.storage.embedded import PostgresAddress
from tests.conftest import short_open_folder
from tests.faults.recorded import read_ledger, violations
from tests.faults.service import KEY, Service
from tests.faults.traced import why_nothing_can_be_traced
from tests.faults.writers import Write, Writers

POLICY_FILE = Path(__file__).parents[2] / "policies" / "anthropic-rsp" / "2.2.yaml"
VERSIONS = "/v1/policies/anthropic-rsp/versions"


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
    activation = json.dumps(
        {
            "in_force_from": "2025-05-14T00:00:00Z",
            "retroactive": True,
            "reason": "in force at the publisher since then",
        }
    ).encode()
    _record_approved(port, second, "2.2", POLICY_FILE.read_bytes())
    _post(port, second, f"{VERSIONS}/2.2/activation", activation)


def more_versions(port: int, second: str, count: int) -> tuple[str, ...]:
    """Record so many that ask for the same as RSP 2.2, and have them approved; their labels."""
    labels = tuple(f"2.2-reading-{number}" for number in range(count))
    for label in labels:
        text = POLICY_FILE.read_bytes().replace(b'version: "2.2"', f"version: {label}".encode(), 1)
        _record_approved(port, second, label, text)
    return labels


def _record_approved(port: int, second: str, label: str, text: bytes) -> None:
    _post(port, KEY, VERSIONS, text, key=label, media="yaml")
    _post(port, second, f"{VERSIONS}/{label}/approvals", b'{"reason":"as published"}')


def _post(
    port: int, caller: str, path: str, body: bytes, *, key: str | None = None, media: str = "json"
) -> None:
    headers = {
        "Authorization": f"Bearer {caller}",
        "Content-Type": f"application/{media}",
        "Idempotency-Key": key or path,
    }
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", path, body, headers)
    response = connection.getresponse()
    said = response.read()
    connection.close()
    assert response.status == 201, said


@pytest.fixture(scope="session")
def strace(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip what puts faults into calls where that cannot be done."""
    why = why_nothing_can_be_traced(tmp_path_factory.mktemp("strace"))
    if why is not None:
        pytest.skip(f"no faults can be put into calls here: {why}")


Figures = Callable[[str], None]


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Figures:
    """Say in figures what a test did; they stand in the run's summary."""
    return lambda text: record_property("figures", text)


class OnADatabase(Protocol):
    """A service, and where its database is for the superuser."""

    port: int

    def address(self) -> PostgresAddress: ...


def see_that_all_is_there(
    service: OnADatabase, writers: Writers, figures: Figures, what: str, recovered: Sequence[float]
) -> None:
    """Hold the ledger against everything that *writers* were told, and say in figures what they saw.

    *what* was done to the service, and after how many seconds each time it was itself again.
    """
    acknowledged = writers.acknowledged()
    ledger = read_ledger(service.address())
    found = violations(ledger, writers.writes)
    lost = sum(violation.startswith("LOST") for violation in found)
    twice = sum(violation.startswith("TWICE") for violation in found)
    opened = sum(violation.startswith("OPEN") for violation in found)
    allowed = sum(b'"decision":"allow"' in (write.answer or b"") for write in acknowledged)
    times = ", ".join(f"{seconds:.2f}" for seconds in recovered[:6])
    unknown = sum(not write.is_settled for write in writers.writes)
    again = sum(write.attempts > 1 for write in writers.writes)
    figures(
        f"{what}, {len(acknowledged)} acknowledged, {lost} lost, {twice} doubled, "
        f"{allowed} allowed, {opened} of them wrongly, {again} asked again, "
        f"{sum(write.replayed for write in writers.writes)} replayed, {unknown} abandoned, "
        f"{writers.truncated} truncated, {len(writers.refusals)} refused; seconds: {times}"
    )
    assert writers.broken == []
    assert found == []
    determinations = [write for write in acknowledged if write.kind == "determination"]
    assert {write.kind for write in acknowledged} >= {"determination", "assessment", "sign-off"}
    for write in determinations[:: max(1, len(determinations) // 100)]:
        assert read_again(service.port, write) == write.answer


def read_again(port: int, write: Write) -> bytes:
    """What the service says now of a determination."""
    assert write.answer is not None
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    path = f"{write.path}/{json.loads(write.answer)['id']}"
    connection.request("GET", path, headers={"Authorization": f"Bearer {KEY}"})
    body = connection.getresponse().read()
    connection.close()
    return body


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
