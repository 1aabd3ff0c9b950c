"""The service is killed at any call by which it speaks to Postgres or to its client.

At each of them it dies with the call about to be made, so each moment of one request is tried: before
the COMMIT is sent nothing of it may be there, after that all of it, and whoever asks another server
with the same Idempotency-Key learns which, and has it recorded once.
"""

import hashlib
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.storage.database import DATABASE, OWNER, SERVICE, migrate, prepare_roles
from app.storage.embedded import EmbeddedPostgres, PostgresAddress
from tests.conftest import short_open_folder
from tests.faults.conftest import Figures, put_policy_in_force
from tests.faults.recorded import read_ledger, violations
from tests.faults.service import Served
from tests.faults.traced import Call, traced
from tests.faults.writers import ACTION, POLICY, Write, Writers
from tests.torture import LONG, at_most

CALLS = "read,write,recvfrom,sendto"
"""By these uvloop, or asyncio's own loop, reads and writes all sockets."""
EARLY = 1
"""Of the calls before the COMMIT so many are tried in the short form."""

pytestmark = [pytest.mark.long, pytest.mark.timeout(at_most(120))]


@dataclass
class Services:
    """Two services on one database, that sign nothing and so keep still: one is killed, one stays."""

    folder: Path
    database: PostgresAddress
    killed: Served
    stays: Served

    def recorded_keys(self) -> set[bytes]:
        """The digests of the Idempotency-Keys under which something is recorded."""
        return {written.key_sha256 for written in read_ledger(self.database).written}


@pytest.fixture
def services() -> Iterator[Services]:
    with short_open_folder() as folder, EmbeddedPostgres(folder / "server") as postgres:
        prepare_roles(postgres.dsn())
        migrate(postgres.dsn(DATABASE, OWNER), service_role=SERVICE)
        url = f"--database-url={postgres.dsn(DATABASE, SERVICE)}"
        killed, stays = (Served(folder / f"{name}.out", url) for name in ("killed", "stays"))
        try:
            stays.start()
            put_policy_in_force(stays.port, stays.new_key("policy-approver"))
            assert stays.register("m@1")[0] == 201
            yield Services(folder, postgres.dsn(DATABASE), killed, stays)
        finally:
            killed.end()
            stays.end()


def a_determination() -> Write:
    body = json.dumps({"model": "m@1", "action": ACTION, "policy": POLICY}).encode()
    key = f"key-{time.monotonic_ns()}"
    return Write("determination", "/v1/determinations", body, key, time.monotonic())


def test_a_kill_at_any_call_leaves_what_was_answered_and_nothing_twice(
    services: Services, strace: None, figures: Figures
) -> None:
    asked = Writers(services.stays.port, count=0)
    calls = calls_of_one_request(services, asked)
    commit = next(place for place, call in enumerate(calls) if is_commit(call))
    early, late = range(commit), range(commit, len(calls))
    places = [*(early if LONG else sorted(random.sample(early, EARLY))), *late]
    found: Counter[str] = Counter()
    for place in places:
        name = calls[place].name
        nth = sum(call.name == name for call in calls[: place + 1])
        write = a_determination()
        services.killed.start()
        inject = f"{name}:signal=KILL:when={nth}"
        with traced(services.killed.pid, CALLS, services.folder / "calls", inject=inject) as trace:
            asked.ask(write, port=services.killed.port)
            services.killed.wait_until_ended()
        sent = any(is_commit(call) and call.was_made for call in trace.calls())
        answered = write.is_settled
        key = hashlib.sha256(write.key.encode()).digest()
        if sent:
            wait_until_recorded(services, key)
        else:
            assert key not in services.recorded_keys(), calls[place]
        found["answered" if answered else "recorded" if sent else "nothing"] += 1

        first, write.answer = write.answer, None
        asked.ask(write, port=services.stays.port)
        assert write.replayed == sent, calls[place]
        assert first in (None, write.answer), calls[place]

    wrong = violations(read_ledger(services.database), asked.writes)
    lost = sum(one.startswith("LOST") for one in wrong)
    twice = sum(one.startswith("TWICE") for one in wrong)
    figures(
        f"killed at {len(places)} of the {len(calls)} calls of a request: {found['nothing']} times "
        f"nothing was recorded, {found['recorded']} times it was and nobody knew, "
        f"{found['answered']} times it had been answered, {asked.truncated} truncated; "
        f"{lost} lost, {twice} doubled"
    )
    assert asked.broken == []
    assert wrong == []
    assert asked.truncated > 0, "it was never killed within its answer"
    assert min(found["nothing"], found["recorded"], found["answered"]) > 0, found


def calls_of_one_request(services: Services, asked: Writers) -> list[Call]:
    """Those of a service that was just started, from the request up to its line in the log."""
    services.killed.start()
    with traced(services.killed.pid, CALLS, services.folder / "calls") as trace:
        asked.ask(a_determination(), port=services.killed.port)
        assert trace.wait_for("write(2,", seconds=5), "the request was not logged"
        calls = trace.calls()
    services.killed.kill()
    logged = next(
        n for n, call in enumerate(calls) if (call.name, call.descriptor) == ("write", "2")
    )
    return calls[: logged + 1]


def is_commit(call: Call) -> bool:
    return r'"Q\0\0\0\vCOMMIT\0"' in call.said


def wait_until_recorded(services: Services, key: bytes) -> None:
    """Postgres has been told to commit by someone who is dead, and need not be done."""
    deadline = time.monotonic() + 5
    while key not in services.recorded_keys():
        assert time.monotonic() < deadline, "LOST: the COMMIT was sent, and nothing is recorded"
        time.sleep(0.02)
