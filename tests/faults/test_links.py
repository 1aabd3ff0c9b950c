"""The way to Postgres is slow, leads nowhere, is refused or breaks in the middle of a word: whoever
asks is told so within the deadline, nothing is lost, and the service goes on by itself.
"""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.storage.database import DATABASE, OWNER, SERVICE, migrate, prepare_roles
from app.storage.embedded import EmbeddedPostgres, PostgresAddress
from tests.conftest import short_open_folder
from tests.faults.conftest import Figures, put_policy_in_force, see_that_all_is_there
from tests.faults.proxy import Proxy, in_a_thread
from tests.faults.service import Served
from tests.faults.writers import Writers
from tests.torture import at_most, rounds

DEADLINE_SECONDS = 2.0
SLACK_SECONDS = 0.5

pytestmark = [pytest.mark.long, pytest.mark.timeout(at_most(120))]


class Linked(Served):
    """A service that reaches Postgres through a proxy only."""

    def __init__(self, folder: Path, postgres: EmbeddedPostgres) -> None:
        self.proxy = Proxy(postgres.dsn())
        self.link = folder / "link"
        self._address = postgres.dsn(DATABASE)
        url = replace(postgres.dsn(DATABASE, SERVICE), host=str(self.link))
        super().__init__(folder / "serve.out", f"--database-url={url}")

    def address(self) -> PostgresAddress:
        """Where its database is, for the superuser, past the proxy."""
        return self._address


@pytest.fixture(scope="module")
def linked() -> Iterator[Linked]:
    with short_open_folder() as folder, EmbeddedPostgres(folder / "server") as postgres:
        prepare_roles(postgres.dsn())
        migrate(postgres.dsn(DATABASE, OWNER), service_role=SERVICE)
        service = Linked(folder, postgres)
        service.link.mkdir()
        with in_a_thread(lambda: service.proxy.serving(service.link)):
            try:
                service.start()
                put_policy_in_force(service.port, service.new_key("policy-approver"))
                yield service
            finally:
                service.proxy.heal()
                service.end()


def slow(proxy: Proxy) -> None:
    """Each segment takes half a second longer."""
    proxy.delay_seconds = 0.5
    time.sleep(2)


def nowhere(proxy: Proxy) -> None:
    """Nothing arrives, and nobody is told."""
    proxy.holds = True
    time.sleep(DEADLINE_SECONDS + 1)


def refused(proxy: Proxy) -> None:
    """All connections are cut, and no new one is made."""
    proxy.refuses = True
    time.sleep(1)


def broken(proxy: Proxy) -> None:
    """Cut somewhere in what is being said, of either side, again and again."""
    for _ in range(5):
        cuts = proxy.cuts
        proxy.cut_after(random.choice(("up", "down")), random.randint(1, 2000))
        deadline = time.monotonic() + 10
        while proxy.cuts == cuts:
            assert time.monotonic() < deadline, "it was not cut"
            time.sleep(0.01)


@pytest.mark.parametrize("fault", [slow, nowhere, refused, broken])
def test_a_bad_link_is_answered_for_in_time(
    linked: Linked, figures: Figures, fault: Callable[[Proxy], None]
) -> None:
    recovered, told = [], 0
    with Writers(linked.port) as writers:
        writers.wait_for(40)
        # What the machine itself adds, when others use it too.
        slack = SLACK_SECONDS + max(writers.seconds)
        for _ in rounds(1):
            before = len(writers.refusals)
            fault(linked.proxy)
            told += len(writers.refusals) - before
            linked.proxy.heal()
            recovered.append(writers.wait_for(1))
            writers.wait_for(20)
    assert told > 0, "nobody noticed"
    assert {refusal.status for refusal in writers.refusals} <= {503, 409}
    slowest = f"{max(writers.seconds):.2f} s"
    what = f"{len(recovered)} times, {len(writers.seconds)} sent, slowest answer {slowest}"
    see_that_all_is_there(linked, writers, figures, what, recovered)
    assert max(writers.seconds) < DEADLINE_SECONDS + slack
    assert writers.unanswered == 0
    assert max(recovered) < 5
