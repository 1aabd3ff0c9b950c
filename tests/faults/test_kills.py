"""Whatever is killed while sixteen clients write, nothing that was acknowledged is lost.

ASLGATE_TORTURE=1 runs ten times as many rounds.
"""

import http.client
import os
import random
import time
from collections.abc import Callable

import orjson
import pytest

from tests.faults.conftest import Figures
from tests.faults.recorded import read_ledger, violations
from tests.faults.service import KEY, Service
from tests.faults.writers import Write, Writers

TORTURE = os.environ.get("ASLGATE_TORTURE") == "1"
DEADLINE_SECONDS = 2.0
SLACK_SECONDS = 0.75

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800 if TORTURE else 120)]


def rounds(short: int) -> range:
    return range(short * 10 if TORTURE else short)


def kill_service(service: Service) -> None:
    service.kill()
    service.start()


def kill_postgres(service: Service) -> None:
    before = service.pid
    service.kill_postgres()
    # The service outlives its database, and starts it again.
    assert service.pid == before
    assert service.is_running()


def kill_both(service: Service) -> None:
    service.kill_postgres()
    service.kill()
    service.start()


@pytest.mark.parametrize(
    ("fault", "times"), [(kill_service, 3), (kill_postgres, 3), (kill_both, 2)]
)
def test_a_kill_loses_nothing_that_was_acknowledged(
    service: Service, figures: Figures, fault: Callable[[Service], None], times: int
) -> None:
    """Killed at any moment, every acknowledged record is there once, byte for byte, in order."""
    chance = random.Random()
    recovered = []
    with Writers(service.port) as writers:
        for _ in rounds(times):
            writers.wait_for(40)
            time.sleep(chance.uniform(0, 0.6))
            begun = time.monotonic()
            fault(service)
            took = time.monotonic() - begun
            recovered.append(took + writers.wait_for(1))
        writers.wait_for(40)
    _see_that_all_is_there(service, writers, figures, f"{len(recovered)} rounds", recovered)
    assert max(recovered) < 15


def test_a_stop_under_load_drains_and_loses_nothing(service: Service, figures: Figures) -> None:
    """SIGTERM: what is under way is answered, Postgres goes down cleanly, and the next start works."""
    stopped = []
    with Writers(service.port) as writers:
        for _ in rounds(2):
            writers.wait_for(60)
            begun = time.monotonic()
            assert service.terminate() == 128 + 15
            stopped.append(time.monotonic() - begun)
            assert service.postgres_stopped_cleanly()
            service.start()
        writers.wait_for(40)
    assert writers.truncated == 0
    _see_that_all_is_there(service, writers, figures, f"{len(stopped)} stops", stopped)
    assert max(stopped) < 8


def test_a_frozen_database_is_answered_for_in_time(service: Service, figures: Figures) -> None:
    """Whoever asks of a database that hangs gets a 503 within the deadline, and then goes on."""
    with Writers(service.port) as writers:
        writers.wait_for(60)
        # What the machine itself adds, when others use it too.
        slack = SLACK_SECONDS + max(writers.seconds)
        before = len(writers.refusals)
        with service.frozen_postgres():
            begun = time.monotonic()
            ready = service.is_ready()
            asked = time.monotonic() - begun
            time.sleep(max(0.0, 3 - asked))
            frozen = len(writers.refusals) - before
        again = writers.wait_for(1)
        writers.wait_for(60)

    assert not ready
    assert asked < DEADLINE_SECONDS + slack
    # Each of them was told at least once, and nobody was left waiting for the database's return.
    assert frozen >= writers.count - 1
    assert max(writers.seconds) < DEADLINE_SECONDS + slack
    for refusal in writers.refusals:
        if refusal.status == 503:
            assert refusal.media_type == "application/problem+json"
            assert 1 <= int(refusal.retry_after or 0) <= 5
            assert orjson.loads(refusal.body)["type"] == "urn:aslgate:problem:unavailable"
    assert again < 2
    slowest = f"slowest answer {max(writers.seconds):.2f} s"
    _see_that_all_is_there(service, writers, figures, f"3 s frozen, {slowest}", [again])


def _see_that_all_is_there(
    service: Service, writers: Writers, figures: Figures, what: str, recovered: list[float]
) -> None:
    acknowledged = writers.acknowledged()
    ledger = read_ledger(service.address())
    found = violations(ledger, writers.writes)
    lost = sum(violation.startswith("LOST") for violation in found)
    times = ", ".join(f"{seconds:.2f}" for seconds in recovered[:6])
    unknown = sum(not write.is_settled for write in writers.writes)
    again = sum(write.attempts > 1 for write in writers.writes)
    figures(
        f"{what}, {len(acknowledged)} acknowledged, {lost} lost, {again} asked again, "
        f"{sum(write.replayed for write in writers.writes)} replayed, {unknown} abandoned, "
        f"{writers.truncated} truncated, {len(writers.refusals)} refused; seconds: {times}"
    )
    assert writers.broken == []
    assert found == []
    determinations = [write for write in acknowledged if write.kind == "determination"]
    assert {write.kind for write in acknowledged} >= {"determination", "assessment", "sign-off"}
    for write in determinations[:: max(1, len(determinations) // 100)]:
        assert _read(service.port, write) == write.answer


def _read(port: int, write: Write) -> bytes:
    """What the service says now of a determination."""
    assert write.answer is not None
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    path = f"{write.path}/{orjson.loads(write.answer)['id']}"
    connection.request("GET", path, headers={"Authorization": f"Bearer {KEY}"})
    body = connection.getresponse().read()
    connection.close()
    return body
