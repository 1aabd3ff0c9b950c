"""The clock of the service, or that of Postgres, jumps: while the two disagree nothing is decided or
recorded, nobody is told otherwise, and when they agree again it goes on.

libfaketime turns the clocks, each by a file of its own. Their monotonic clocks run on, as those of a
machine do whose time somebody sets.
"""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.storage.embedded import EmbeddedPostgres
from tests.conftest import short_open_folder
from tests.faults.conftest import Figures, put_policy_in_force, see_that_all_is_there
from tests.faults.service import Served, Service
from tests.faults.writers import Writers
from tests.torture import LONG, at_most

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
DEADLINE_SECONDS = 2.0
SLACK_SECONDS = 0.5
HOUR, DAY = 3600, 86400
SLEEP = """
import select, time
time.sleep = lambda seconds: select.select([], [], [], seconds) and None
"""
"""libfaketime refuses the call by which Python sleeps, where the monotonic clock is not its affair."""

pytestmark = [pytest.mark.long, pytest.mark.timeout(at_most(120))]


class Clock:
    """A clock that can be set by the file that libfaketime reads."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.jump(0)

    def jump(self, seconds: int) -> None:
        """Be so far ahead of the machine's."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}s\n")
        new.chmod(0o644)
        new.replace(self._file)

    def environment(self) -> dict[str, str]:
        """What makes a program go by this clock."""
        return {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # Postgres runs under another account, which may not share what root made.
            "FAKETIME_DISABLE_SHM": "1",
        }


class TwoClocks(Service):
    """The service and its embedded Postgres, each with a clock of its own."""

    def __init__(self, base: Path) -> None:
        self.clocks = {"service": Clock(base / "service-time"), "postgres": Clock(base / "pg-time")}
        super().__init__(base)
        programs = self._programs(base)
        (base / "sitecustomize.py").write_text(SLEEP)
        ours = self.clocks["service"].environment() | {"PYTHONPATH": str(base)}
        Served.__init__(
            self,
            base / "serve.out",
            f"--data-dir={self.data_dir}",
            ASLGATE_POSTGRES_BIN=str(programs),
            **ours,
        )

    def _programs(self, base: Path) -> Path:
        """Programs that are those of the wheel, under Postgres' clock; the service gives Postgres no
        environment of its own.
        """
        with EmbeddedPostgres(self.data_dir):
            real = Path(self.postgres()[0].exe()).parent
        folder = base / "programs"
        folder.mkdir()
        folder.chmod(0o755)
        words = [f"{n}='{v}'" for n, v in self.clocks["postgres"].environment().items()]
        for name in ("postgres", "initdb"):
            script = folder / name
            script.write_text(f'#!/bin/sh\n{" ".join(words)} exec {real / name} "$@"\n')
            script.chmod(0o755)
        return folder


@pytest.fixture(scope="module")
def clocked() -> Iterator[TwoClocks]:
    if not LIBRARIES or shutil.which("sh") is None:
        pytest.skip("no clock can be turned here: libfaketime is not installed")
    with short_open_folder() as folder:
        service = TwoClocks(folder)
        try:
            service.start()
            put_policy_in_force(service.port, service.new_key("policy-approver"))
            yield service
        finally:
            service.end()


ALL_JUMPS = (-DAY, -HOUR, -1, 1, HOUR, DAY)


@pytest.mark.parametrize(("whose", "some"), [("service", (-HOUR, 1)), ("postgres", (DAY, -1))])
def test_nothing_is_decided_by_a_wrong_clock(
    clocked: TwoClocks, figures: Figures, whose: str, some: tuple[int, ...]
) -> None:
    """A second more or less is no matter; from five on each is told 503 `clock`, at once."""
    clock, jumps = clocked.clocks[whose], ALL_JUMPS if LONG else some
    recovered: list[float] = []
    wrongly = told = 0
    with Writers(clocked.port) as writers:
        writers.wait_for(40)
        slack = SLACK_SECONDS + max(writers.seconds)
        for jump in jumps:
            clock.jump(jump)
            if abs(jump) <= 5:
                writers.wait_for(20)
                clock.jump(0)
                continue
            time.sleep(slack)
            before, jumped_at = len(writers.refusals), time.monotonic()
            time.sleep(1)
            status, said = clocked.readiness()
            assert (status, "clock" in said) == (503, True), said
            told += len(writers.refusals) - before
            wrongly += sum(
                write.attempted_at > jumped_at and not write.replayed
                for write in writers.acknowledged()
            )
            clock.jump(0)
            recovered.append(writers.wait_for(1))
            writers.wait_for(20)
        assert clocked.readiness() == (200, '{"status":"ready"}')
    reasons = {one.body.partition(b'"reason":"')[2] for one in writers.refusals}
    slowest = f"slowest answer {max(writers.seconds):.2f} s"
    what = f"jumps of {jumps} s, {told} told, {wrongly} recorded by a wrong clock, {slowest}"
    see_that_all_is_there(clocked, writers, figures, what, recovered)
    assert wrongly == 0
    assert told > 0
    assert any(reason.startswith(b"clock") for reason in reasons), reasons
    assert max(writers.seconds) < DEADLINE_SECONDS + slack
    assert max(recovered) < 5


def test_a_service_whose_clock_is_wrong_starts_and_waits(clocked: TwoClocks) -> None:
    """It is not ready, says why, and is once the clock is right."""
    clocked.terminate()
    clocked.clocks["service"].jump(-HOUR)
    clocked.begin()
    said = clocked.wait_until_refused()
    refused = clocked.register("clock@1")
    clocked.clocks["service"].jump(0)
    clocked.wait_until_ready()
    recorded = clocked.register("clock@1")
    for _ in range(10):  # as a client that is told to come again
        if recorded[0] == 503:
            time.sleep(0.5)
            recorded = clocked.register("clock@1")

    assert "3600 s ahead of" in said
    assert (refused[0], refused[1]["reason"]) == (503, "clock")
    assert recorded[0] == 201, recorded[1]
