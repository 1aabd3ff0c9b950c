"""The disk under the database is full, or fails: what was acknowledged is there afterwards all the
same, nobody is told what is not so, and the service goes on by itself once it can.
"""

import asyncio
import http.client
import json
import os
import random
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import asyncpg
import pytest

from tests.conftest import short_open_folder
from tests.faults.conftest import (
    Figures,
    put_policy_in_force,
    read_again,
    see_that_all_is_there,
)
from tests.faults.service import Service
from tests.faults.traced import traced
from tests.faults.writers import Writers
from tests.torture import at_most, rounds

DISK = "160m"
FULL_SECONDS = 2.0
DEADLINE_SECONDS = 2.0
SLACK_SECONDS = 0.5

pytestmark = [pytest.mark.long, pytest.mark.timeout(at_most(120))]


# --- A full disk -------------------------------------------------------------------------------


@contextmanager
def a_small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own in *folder*, or no test."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    folder.mkdir()
    options = f"size={DISK},mode=0711"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(mount, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def cramped() -> Iterator[Service]:
    """The service with all its files on a small disk, and RSP 2.2 in force."""
    with short_open_folder() as folder:
        service = Service(folder)
        with a_small_disk(service.data_dir):
            try:
                service.start()
                put_policy_in_force(service.port, service.new_key("policy-approver"))
                yield service
            finally:
                service.end()


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Leave not one block free on *disk* while the block lasts."""
    ballast = disk / "ballast"
    try:
        with ballast.open("ab", buffering=0) as file:
            for size in (1024 * 1024, 4096):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue
        yield
    finally:
        ballast.unlink()


def no_table_can_grow(service: Service) -> None:
    """Nothing more: the WAL still has room in the file that it writes to."""
    del service


def the_wal_cannot_grow(service: Service) -> None:
    """The WAL's file is at its end, and there is no room for the next one."""

    async def end_it() -> None:
        connection = await asyncpg.connect(str(service.address()))
        await connection.execute("SELECT pg_switch_wal()")
        await connection.close()

    # Postgres may be down before it has answered.
    with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        asyncio.run(end_it())


@pytest.mark.parametrize(
    ("what", "reads"), [(no_table_can_grow, True), (the_wal_cannot_grow, False)]
)
def test_a_full_disk_is_said_and_got_over(
    cramped: Service, figures: Figures, what: Callable[[Service], None], reads: bool
) -> None:
    """Where only the tables are stuck, all that was recorded can still be read. Where the WAL is,
    Postgres goes down, and is started again for as long as that takes.
    """
    recovered: list[float] = []
    refused: list[int] = []
    slack = 0.0
    with Writers(cramped.port) as writers:
        for _ in rounds(1):
            writers.wait_for(60)
            known = [w for w in writers.acknowledged() if w.kind == "determination"][-1]
            # What the machine itself adds, when others use it too.
            slack = slack or SLACK_SECONDS + max(writers.seconds)
            before = len(writers.refusals)
            with full(cramped.data_dir):
                what(cramped)
                wait_until_refused(writers)
                status, said = cramped.readiness()
                assert (status, "the database" in said) == (503, True), said
                until = time.monotonic() + FULL_SECONDS
                while time.monotonic() < until:
                    assert alive(cramped)
                    if reads:
                        assert read_again(cramped.port, known) == known.answer
                    time.sleep(0.1)
                refused.append(len(writers.refusals) - before)
            recovered.append(writers.wait_for(1))
            writers.wait_for(40)
            assert cramped.readiness() == (200, '{"status":"ready"}')

    assert min(refused) >= writers.count
    assert max(writers.seconds) < DEADLINE_SECONDS + slack
    for refusal in writers.refusals:
        if refusal.status == 503:
            assert refusal.media_type == "application/problem+json"
            assert 1 <= int(refusal.retry_after or 0) <= 5
    slowest = f"slowest answer {max(writers.seconds):.2f} s"
    see_that_all_is_there(
        cramped, writers, figures, f"full {len(refused)} times, {slowest}", recovered
    )
    assert max(recovered) < 15
    log = [json.loads(line) for line in cramped.said().splitlines() if line.startswith("{")]
    told = [line["event"] for line in log if line["level"] == "error"]
    # It is tried four times a second, and said once; or again where it fails of something else, or
    # was up in between.
    of_postgres = [
        re.sub(r"\d+", "0", line.get("error", line["event"]))
        for line in log
        if "the embedded Postgres" in line["event"]
    ]
    assert all(one != other for one, other in pairwise(of_postgres)), of_postgres
    if reads:
        assert any("does not record" in event and "No space left" in event for event in told), told


def test_on_a_full_disk_it_does_not_start_and_says_why(cramped: Service) -> None:
    """With exit code 1 and one sentence, and nothing is the worse for it: with room it starts."""
    cramped.terminate()
    already = len(cramped.said())
    with full(cramped.data_dir):
        cramped.begin()
        code = cramped.wait_until_ended()
        said = cramped.said()[already:]
    cramped.start()

    assert code == 1
    assert "Traceback" not in said
    assert "aslgate: Postgres did not start in" in said


def wait_until_refused(writers: Writers) -> None:
    """Wait until somebody is told that nothing can be recorded."""
    before, deadline = len(writers.refusals), time.monotonic() + 20
    while len(writers.refusals) == before:
        assert time.monotonic() < deadline, "the disk is full, and all is recorded"
        time.sleep(0.01)


def alive(service: Service) -> bool:
    """What `/healthz` says."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    finally:
        connection.close()


# --- A disk that fails -------------------------------------------------------------------------


WRITING_BACKEND = """
    SELECT pid FROM pg_stat_activity WHERE application_name = 'aslgate'
    AND (query LIKE 'BEGIN; SELECT FROM ledger_head%' OR query = 'COMMIT'
         OR query LIKE 'UPDATE ledger_head%' OR query LIKE '%INSERT INTO ledger_entry%')
"""


def writing_backend(service: Service) -> int:
    """The pid of the Postgres process that records for the service."""

    async def look() -> int | None:
        connection = await asyncpg.connect(str(service.address()))
        try:
            pid: int | None = await connection.fetchval(WRITING_BACKEND)
            return pid
        finally:
            await connection.close()

    while True:
        pid = asyncio.run(look())
        if pid is not None:
            return pid
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("call", "error", "times"), [("fdatasync", "EIO", 2), ("pwrite64", "ENOSPC", 4)]
)
def test_a_disk_that_fails_loses_nothing_that_was_acknowledged(
    service: Service, strace: None, figures: Figures, call: str, error: str, times: int
) -> None:
    """One call of the process that records fails: making the WAL durable, or writing to it or to a
    table. Postgres then either refuses one transaction or goes down and recovers.
    """
    chance = random.Random()
    log = service.data_dir / "postgres.log"
    recovered = []
    already = log.stat().st_size
    with Writers(service.port) as writers:
        for _ in rounds(times):
            writers.wait_for(40)
            pid = writing_backend(service)
            inject = f"{call}:error={error}:when={chance.randint(1, 6)}"
            with traced(pid, call, service.data_dir / "calls", inject=inject) as trace:
                assert trace.wait_for("(INJECTED)", seconds=20), f"{call} was not called"
            recovered.append(writers.wait_for(1))
        writers.wait_for(40)

    with log.open("rb") as file:
        file.seek(already)
        said = file.read().decode(errors="replace")
    panics = said.count(" PANIC: ")
    errors = said.count("ERROR:  could not")
    slowest = f"slowest answer {max(writers.seconds):.2f} s"
    what = f"{len(recovered)} times {error}, {panics} panics, {errors} errors, {slowest}"
    see_that_all_is_there(service, writers, figures, what, recovered)
    assert panics + errors >= 1, said
    assert max(recovered) < 15
