"""The primary is lost, and the standby takes its place: two real servers, and the service by the
address of both.

Where commits wait for the standby, nothing that was acknowledged is lost, and the service goes on by
itself. Where they do not, something is lost, and the service says so and records nothing on top of
it. And where the standby is gone, nobody is told that something is recorded, whoever cancels what.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from app.storage.database import DATABASE
from tests.conftest import short_open_folder
from tests.faults.conftest import Figures, put_policy_in_force
from tests.faults.pair import Pair, running, sql, until
from tests.faults.recorded import of_checkpoints, read_ledger, violations
from tests.faults.service import Served
from tests.faults.test_several import Shown, new_key_file, public_key
from tests.faults.writers import Writers
from tests.torture import LONG, at_most, rounds

pytestmark = [pytest.mark.long, pytest.mark.timeout(at_most(120))]


@dataclass
class Site:
    """Two servers, and a service by the address of both."""

    pair: Pair
    service: Served

    def last_word(self) -> str:
        """The last checkpoint that the service has kept outside the database."""
        return self.pair.last_word("serve").read_text()

    def signed(self) -> int:
        """Of how many entries that is."""
        return int(self.last_word().split("\n")[1])

    def published(self) -> int:
        """Of how many entries the last checkpoint is that the primary shows."""
        size: int = sql(self.pair.primary, "SELECT max(size) FROM ledger_checkpoint")[0]["max"]
        return size

    def size(self) -> int:
        """How many entries the primary shows."""
        size: int = sql(self.pair.primary, "SELECT size FROM ledger_head")[0]["size"]
        return size


@pytest.fixture(scope="module")
def started() -> Iterator[Site]:
    """Two servers and a service for all tests of the module, with RSP 2.2 in force."""
    with short_open_folder() as folder, Pair(folder) as pair:
        new_key_file(folder / "ledger-key")
        with running(pair.service("serve")) as service:
            put_policy_in_force(service.port, service.new_key("policy-approver"))
            yield Site(pair, service)


@pytest.fixture
def site(started: Site) -> Site:
    """A primary with a standby and a service that is ready, whatever the test before has done."""
    started.pair.restore()
    if not started.service.is_ready():
        started.service.end()
        # Somebody has looked, and goes on with what is left.
        started.pair.last_word("serve").unlink()
        started.service.start()
    return started


def lose(pair: Pair) -> None:
    pair.kill(pair.primary)


def freeze(pair: Pair) -> None:
    pair.freeze(pair.primary)


def test_without_a_standby_to_wait_for_nothing_is_recorded_where_one_is_required(
    site: Site,
) -> None:
    """With ASLGATE_REQUIRE_REPLICA a service refuses writes where commits wait for no standby, and says
    so, from the moment on at which that is so, and goes on from that at which they do again.
    """
    pair = site.pair
    pair.wait_for_the_standby(True)
    with running(pair.service("strict", ASLGATE_REQUIRE_REPLICA="1")) as service:
        before = service.register("strict/before@1")
        pair.wait_for_the_standby(False)
        size = site.size()
        until(lambda: "replica is required" in service.readiness()[1], "the service is not ready")
        refused = service.register("strict/refused@1")
        unmoved = site.size()
        pair.wait_for_the_standby(True)
        service.wait_until_ready()
        after = service.register("strict/refused@1")

    assert before[0] == 201
    assert (refused[0], refused[1]["reason"]) == (503, "replica")
    assert unmoved == size
    assert after[0] == 201


def test_a_cancelled_wait_for_the_standby_is_no_acknowledgement(
    site: Site, figures: Figures
) -> None:
    """The server calls such a commit done, with a warning, and shows its rows. The client is told that
    nothing is known, as often as it asks, until the standby is back: then it is recorded, once.
    """
    pair, service = site.pair, site.service
    pair.wait_for_the_standby(True)
    until(lambda: site.published() == site.size(), "all is signed, so that nobody else waits")
    size = site.size()
    pair.kill(pair.standby)
    with ThreadPoolExecutor() as clients:
        asked = clients.submit(service.register, "cancelled@1")
        waiting = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        until(lambda: sql(pair.primary, f"SELECT {waiting}"), "the commit waits for the standby")
        begun = time.monotonic()
        sql(pair.primary, f"SELECT pg_cancel_backend(pid) {waiting}")
        told = asked.result()
    took = time.monotonic() - begun
    shown = site.size()
    again = service.register("cancelled@1")  # for two seconds, in which the signer has its turns
    signed = site.signed()
    until(lambda: "takes no records" in service.readiness()[1], "the service is not ready")
    pair.standby.revive()
    until(lambda: service.register("cancelled@1")[0] == 201, "it is acknowledged")
    ledger = read_ledger(pair.primary.dsn(DATABASE))

    assert (told[0], told[1]["reason"]) == (503, "outcome-unknown")
    assert took < 1.5, "the cancelling was answered, and not the deadline"
    assert shown == size + 1, "it is the trap: who looks sees it recorded"
    assert again[0] == 503
    assert signed == size, (
        "a failover would lose what is signed, and be taken for a put back database"
    )
    there = [entry.index for entry in ledger.entries if entry.subject == "cancelled@1"]
    key = hashlib.sha256(b"cancelled@1").digest()
    assert there == [written.index for written in ledger.written if written.key_sha256 == key]
    assert len(there) == 1
    assert violations(ledger, []) == []
    figures(
        f"told `{told[1]['reason']}` in {took:.2f} s, `{again[1]['reason']}` without a standby; "
        "then 1 entry"
    )


# That a server that hangs is passed over is shown for one connection in tests/storage, and sooner.
@pytest.mark.parametrize("fault", [lose, freeze] if LONG else [lose])
def test_a_failover_loses_nothing_where_commits_wait_for_the_standby(
    site: Site, figures: Figures, fault: Callable[[Pair], None]
) -> None:
    """The primary is killed, or hangs as one that is cut off. The service finds the promoted standby by
    itself, with every acknowledged record, and goes on signing from its last word.
    """
    pair, service = site.pair, site.service
    took = []
    with Shown([service.port]) as shown, Writers(service.port) as writers:
        for _ in rounds(1):
            pair.restore()
            pair.wait_for_the_standby(True)
            writers.wait_for(50)
            fault(pair)
            pair.promote()
            took.append(writers.wait_for(1))
            writers.wait_for(30)
    until(lambda: site.signed() == site.size(), "all of it is signed")
    ledger = read_ledger(pair.primary.dsn(DATABASE))
    found = violations(ledger, writers.writes)
    notes = {*shown.notes, *ledger.checkpoints, site.last_word()}
    found += of_checkpoints(ledger, notes, public_key(pair.folder / "ledger-key"))
    figures(
        f"{len(took)} failovers, {len(writers.acknowledged())} acknowledged, "
        f"{sum(one.startswith('LOST') for one in found)} lost, "
        f"{sum(one.startswith('TWICE') for one in found)} doubled, "
        f"{sum(write.attempts > 1 for write in writers.writes)} asked again, "
        f"{sum(write.replayed for write in writers.writes)} replayed, "
        f"{len(notes)} checkpoints of one history; "
        f"next one after {max(took):.2f} s, slowest answer {max(writers.seconds):.2f} s"
    )
    assert writers.broken == []
    assert found == []
    assert service.is_ready()


def test_what_a_failover_loses_is_noticed_where_commits_do_not_wait(
    site: Site, figures: Figures
) -> None:
    """The standby was cut off before the primary died: what was acknowledged since is gone. Neither the
    service that runs nor one that starts records or signs anything on what is left.
    """
    pair, service = site.pair, site.service
    pair.wait_for_the_standby(False)
    with Writers(service.port) as writers:
        writers.wait_for(20)
        pair.cut()
        has = site.size()
        writers.wait_for(30)
    until(lambda: site.signed() > has, "more is signed than the standby has")
    pair.kill(pair.primary)
    pair.promote()
    left, signed = read_ledger(pair.primary.dsn(DATABASE)), site.last_word()
    said = service.wait_until_refused()
    refused = service.register("after@1")
    service.kill()
    service.begin()
    said_again = service.wait_until_refused()
    refused_again = service.register("after@1")
    ledger = read_ledger(pair.primary.dsn(DATABASE))
    places = [
        json.loads(write.answer or b"")["ledger"]["index"] for write in writers.acknowledged()
    ]
    lost = sum(index >= ledger.size for index in places)
    figures(
        f"{len(writers.acknowledged())} acknowledged, {lost} lost; "
        f"{site.signed()} were signed, {ledger.size} are left; said: {said_again}"
    )
    assert 0 < lost < len(places), "the test would show nothing"
    assert "put back" in said
    assert "put back" in said_again
    for status, answer in (refused, refused_again):
        assert (status, answer["reason"]) == (503, "ledger")
    assert (ledger, site.last_word()) == (left, signed), "nothing is recorded or signed on that"
