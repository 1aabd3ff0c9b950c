"""Several services write to one database, are killed while they do, and make one history.

Every client asks whichever of them answers, so a request that one of them took before it was killed
comes again to another. What the database holds in the end is checked against everything that
anybody was told: all that was acknowledged is there once and in the order of the answers, and each
checkpoint that any of the services ever showed is of the history that is there.
"""

import base64
import http.client
import itertools
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from app.storage.database import DATABASE, OWNER, SERVICE, migrate, prepare_roles
from app.storage.embedded import EmbeddedPostgres
from app.storage.signer_files import new_ledger_key
from tests.conftest import short_open_folder
from tests.faults.conftest import Figures, more_versions, put_policy_in_force
from tests.faults.crowd import Crowd, request
from tests.faults.proxy import Balancer, in_a_thread
from tests.faults.recorded import LOG, of_checkpoints, read_ledger, violations
from tests.faults.service import Served, Service, kill_all, postgres_on
from tests.faults.writers import Writers
from tests.torture import at_most, rounds

PROCESSES = 4

pytestmark = [pytest.mark.long, pytest.mark.timeout(at_most(240))]


@dataclass
class Site:
    """One database, and the services on it, which share the key that signs checkpoints."""

    folder: Path
    postgres: EmbeddedPostgres
    key_file: Path

    def replica(self, name: str, *, key_file: Path | None = None) -> Served:
        """A service by URL, under its own role, with a state file of its own."""
        return Served(
            self.folder / f"{name}.out",
            f"--database-url={self.postgres.dsn(DATABASE, SERVICE)}",
            ASLGATE_LEDGER_KEY_FILE=str(key_file or self.key_file),
            ASLGATE_LEDGER_STATE_FILE=str(self.folder / f"{name}.checkpoint"),
        )


@pytest.fixture
def site() -> Iterator[Site]:
    with short_open_folder() as folder, EmbeddedPostgres(folder / "server") as postgres:
        prepare_roles(postgres.dsn())
        migrate(postgres.dsn(DATABASE, OWNER), service_role=SERVICE)
        yield Site(folder, postgres, new_key_file(folder / "ledger-key"))


def new_key_file(path: Path) -> Path:
    path.write_bytes(new_ledger_key(LOG))
    path.chmod(0o600)
    return path


def public_key(file: Path) -> Ed25519PublicKey:
    """That of the signing key in a file, as Go's note package writes one."""
    # Base 64 may have a `+` of its own.
    *_, seed = file.read_text().strip().split("+", 4)
    return Ed25519PrivateKey.from_private_bytes(base64.b64decode(seed)[1:]).public_key()


class Shown:
    """Every checkpoint that any of those services shows while the block lasts."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.notes: set[str] = set()
        self._ports = ports
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, name="shown")

    def __enter__(self) -> "Shown":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.2):
            for port in self._ports:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                try:
                    connection.request("GET", "/v1/ledger/checkpoint")
                    response = connection.getresponse()
                    body = response.read()
                    if response.status == 200:
                        self.notes.add(body.decode())
                except (OSError, http.client.HTTPException):
                    pass
                finally:
                    connection.close()


@contextmanager
def ended(*services: Served) -> Iterator[None]:
    """See that nothing of them is left after the block."""
    try:
        yield
    finally:
        for service in services:
            service.end()


def test_four_services_that_are_killed_make_one_history(site: Site, figures: Figures) -> None:
    """Each is killed at some moment, and so is Postgres under all of them."""
    chance = random.Random()
    services = [site.replica(f"replica-{number}") for number in range(PROCESSES)]
    with ended(*services):
        for service in services:
            service.begin()
        for service in services:
            service.wait_until_ready()
        ports = [service.port for service in services]
        approver = services[0].new_key("policy-approver")
        put_policy_in_force(ports[0], approver)
        versions = more_versions(ports[0], approver, 2)
        kills = 0
        with (
            Shown(ports) as shown,
            Writers(ports[0], others=ports[1:], versions=versions) as writers,
        ):
            for _ in rounds(1):
                for service in chance.sample(services, PROCESSES):
                    writers.wait_for(20)
                    time.sleep(chance.uniform(0, 0.4))
                    service.kill()
                    kills += 1
                    writers.wait_for(10)
                    service.begin()
                kill_all(postgres_on(site.postgres.base / "data"))
                while not site.postgres.revive():  # until the kernel says that it has died
                    time.sleep(0.01)
                for service in services:
                    service.wait_until_ready()
                writers.wait_for(40)
        kept = [(site.folder / f"replica-{n}.checkpoint").read_text() for n in range(PROCESSES)]

    ledger = read_ledger(site.postgres.dsn(DATABASE))
    found = violations(ledger, writers.writes)
    public = public_key(site.key_file)
    notes = {*shown.notes, *ledger.checkpoints, *kept}
    found += of_checkpoints(ledger, notes, public)
    figures(
        f"{PROCESSES} services, {kills} killed, {len(writers.acknowledged())} acknowledged, "
        f"{sum(one.startswith('LOST') for one in found)} lost, "
        f"{sum(write.attempts > 1 for write in writers.writes)} asked again, "
        f"{sum(write.replayed for write in writers.writes)} replayed, "
        f"{len(notes)} checkpoints of one history"
    )
    assert writers.broken == []
    assert found == []
    assert len(notes) > PROCESSES


def test_no_answer_goes_by_a_version_that_another_service_has_replaced(
    site: Site, figures: Figures
) -> None:
    """One write in thirty puts another version in force: now, soon, or since a moment ago. Each answer
    after it in the ledger goes by that one from its instant on, whichever service gives it.
    """
    services = [site.replica(f"replica-{number}") for number in range(2)]
    with ended(*services):
        services[0].start()
        services[1].start()
        first, second = (service.port for service in services)
        approver = services[0].new_key("policy-approver")
        put_policy_in_force(first, approver)
        versions = more_versions(first, approver, 4)
        with Writers(first, others=[second], versions=versions) as writers:
            for _ in rounds(1):
                writers.wait_for(400)
        ledger = read_ledger(site.postgres.dsn(DATABASE))
    found = violations(ledger, writers.writes)
    went_by = {
        entry.said["provenance"]["policy"]["digest"]
        for entry in ledger.entries
        if entry.kind == "determination"
    }
    activated = sum(entry.kind == "policy-activation" for entry in ledger.entries) - 1
    figures(
        f"{activated} activations among {len(writers.acknowledged())} acknowledged, "
        f"{len(writers.refusals)} refused, {len(found)} violations"
    )
    assert writers.broken == []
    assert found == []
    assert activated > 6
    assert len(went_by) > 2, "hardly any of the versions was ever decided by"


def test_a_rolling_restart_leaves_nobody_without_an_answer(site: Site, figures: Figures) -> None:
    """Two services behind one port, restarted in turn under load: whoever spreads the requests learns
    in time that one will stop, and that one answers all that it has taken.
    """
    services = [site.replica(f"replica-{number}") for number in range(2)]
    balancer = Balancer([service.port for service in services])
    body = b'{"model":"rolling@1","action":"external-deployment"}'
    stopped: list[float] = []
    with ended(*services):
        for service in services:
            service.begin()
        for service in services:
            service.wait_until_ready()
        put_policy_in_force(services[0].port, services[0].new_key("policy-approver"))
        assert services[0].register("rolling@1")[0] == 201
        keys = (f"gate-{number}" for number in itertools.count())
        gate = Crowd(
            balancer.port, 4, lambda: request("POST", "/v1/gate", body, key=next(keys)), 0.02
        )
        with in_a_thread(balancer.serving):
            until_taken(balancer, services)
            with Writers(balancer.port, count=8) as writers, gate.asking():
                for _ in rounds(1):
                    for service in services:
                        writers.wait_for(20)
                        begun = time.monotonic()
                        assert service.terminate() == 128 + 15
                        stopped.append(time.monotonic() - begun)
                        writers.wait_for(10)
                        service.start()
                        until_taken(balancer, services)
                writers.wait_for(20)
    found = violations(read_ledger(site.postgres.dsn(DATABASE)), writers.writes)
    answered = sum(gate.statuses.values())
    opened = sum(b'"allowed":true' in (call.answer or b"") for call in gate.recorded)
    figures(
        f"{len(stopped)} restarts, {len(writers.acknowledged())} of {len(writers.writes)} writes and "
        f"{answered} gate calls acknowledged, {sum(one.startswith('LOST') for one in found)} lost, "
        f"{opened} wrongly allowed, {writers.unanswered + gate.unanswered} connections without an "
        f"answer, {len(writers.refusals)} refused, slowest answer "
        f"{max(*writers.seconds, *gate.seconds):.2f} s, stopped in {max(stopped):.2f} s"
    )
    assert writers.broken == []
    assert found == []
    assert (writers.truncated, writers.unanswered, gate.unanswered) == (0, 0, 0)
    assert gate.statuses == {201: answered}, "a gate call failed"
    assert answered > 20
    assert opened == 0
    assert max(stopped) < 8


def until_taken(balancer: Balancer, services: Sequence[Served]) -> None:
    """Wait until the balancer knows that all of them are ready."""
    ports = {service.port for service in services}
    deadline = time.monotonic() + 10
    while balancer.taking != ports:
        assert time.monotonic() < deadline, f"only {sorted(balancer.taking)} are ready"
        time.sleep(0.02)


def test_two_services_on_one_directory_by_mistake_write_one_ledger(figures: Figures) -> None:
    """Even their keys and their last word are then the same files. The second one has no Postgres of
    its own: it goes on once the first is there again.
    """
    with short_open_folder() as folder:
        first, second = Service(folder), Service(folder, "second")
        with ended(second, first):
            first.start()
            second.start()
            put_policy_in_force(first.port, first.new_key("policy-approver"))
            ports = [first.port, second.port]
            with Shown(ports) as shown, Writers(ports[0], others=ports[1:], count=8) as writers:
                for _ in rounds(1):
                    writers.wait_for(20)
                    second.kill()
                    writers.wait_for(20)
                    second.start()
                    writers.wait_for(20)
                    first.kill()
                    first.start()
                    second.wait_until_ready()
                    writers.wait_for(40)
            ledger = read_ledger(first.address())
        public = public_key(first.data_dir / "ledger-key")
    found = violations(ledger, writers.writes)
    found += of_checkpoints(ledger, {*shown.notes, *ledger.checkpoints}, public)
    figures(f"{len(writers.acknowledged())} acknowledged, {len(shown.notes)} checkpoints")
    assert writers.broken == []
    assert found == []
    assert shown.notes


def test_a_second_service_with_a_key_of_its_own_signs_and_records_nothing(site: Site) -> None:
    """Somebody starts one on the same database and lets it make its own key: that could be a fork in
    waiting, so it answers 503 and says why, and the first goes on.
    """
    first = site.replica("first")
    stranger = site.replica("stranger", key_file=new_key_file(site.folder / "another-key"))
    with ended(first, stranger):
        first.start()
        recorded = first.register("m@1")
        stranger.begin()
        said = stranger.wait_until_refused()
        refused = stranger.register("n@1")
        again = first.register("o@1")
        ledger = read_ledger(site.postgres.dsn(DATABASE))

    assert (recorded[0], again[0]) == (201, 201)
    assert (refused[0], refused[1]["reason"]) == (503, "ledger")
    # As soon as the first one has signed, or before.
    assert "is not ours" in said or "none of the signing keys is on record" in said
    assert [entry.subject for entry in ledger.entries if entry.kind == "model"] == ["m@1", "o@1"]
    assert len(ledger.entries) == 3, "those two, and the first key"
    assert of_checkpoints(ledger, ledger.checkpoints, public_key(site.key_file)) == []
