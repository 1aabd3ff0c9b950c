"""Whatever is killed while sixteen clients write, nothing that was acknowledged is lost."""

import random
import time
from collections.abc import Callable

import orjson
import pytest

from tests.faults.conftest import Figures, see_that_all_is_there
from tests.faults.service import Service
from tests.faults.writers import Writers
from tests.torture import at_most, rounds

DEADLINE_SECONDS = 2.0
SLACK_SECONDS = 0.75

pytestmark = [pytest.mark.long, pytest.mark.timeout(at_most(120))]


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
    see_that_all_is_there(service, writers, figures, f"{len(recovered)} rounds", recovered)
    assert max(recovered) < 15


def test_a_service_under_load_is_ready_all_the_time(service: Service) -> None:
    """Whoever asks while others write is not told that the ledger is shorter than it was."""
    with Writers(service.port) as writers:
        writers.wait_for(20)
        said = [service.readiness() for _ in range(60)]
    assert set(said) == {(200, '{"status":"ready"}')}


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
    see_that_all_is_there(service, writers, figures, f"{len(stopped)} stops", stopped)
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
    see_that_all_is_there(service, writers, figures, f"3 s frozen, {slowest}", [again])
