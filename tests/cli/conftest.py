"""The real `aslgate` program, run as a user runs it."""

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from app.cli import main
from tests.conftest import short_open_folder
from tests.faults.service import KEY, PROGRAM, Service, environment, free_port

POLICIES = Path(__file__).parents[2] / "policies"


@dataclass(frozen=True)
class Ran:
    """A command that has ended: its exit code, and what it wrote."""

    code: int
    out: str
    err: str


Cli = Callable[..., Ran]


def run(*arguments: object, **environ: str) -> Ran:
    """Run `aslgate` to its end, in this process: starting Python takes most of a second."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["aslgate", *map(str, arguments)]),
        mock.patch.dict(os.environ, environment(**environ), clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        else:
            code = 0
    assert isinstance(code, int)
    return Ran(code, out.getvalue(), err.getvalue())


def run_program(*arguments: object, **environ: str) -> Ran:
    """Run `aslgate` to its end, as a program. A traceback is never for a user."""
    done = subprocess.run(
        [PROGRAM, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        env=environment(**environ),
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def cli() -> Cli:
    """Run `aslgate` with arguments, and environment variables by name."""
    return run


@pytest.fixture(scope="session")
def program() -> Cli:
    """The same, as a program of its own."""
    return run_program


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A service of one's own, empty but for its first key."""
    with short_open_folder() as folder:
        service = Service(folder)
        try:
            service.start()
            yield service
        finally:
            service.end()


@pytest.fixture
def asking(service: Service) -> Cli:
    """Run `aslgate` with the address and the key of that service."""

    def ask(*arguments: object, **environ: str) -> Ran:
        given = {
            "ASLGATE_URL": f"http://127.0.0.1:{service.port}",
            "ASLGATE_API_KEY": KEY,
        }
        return run(*arguments, **given | environ)

    return ask


class Quickstart:
    """`aslgate quickstart` while it runs."""

    def __init__(self, data_dir: Path, port: int) -> None:
        self.data_dir = data_dir
        self.port = port
        self._out = data_dir.with_name(f"out-{time.monotonic_ns()}")
        with self._out.open("wb") as out:
            self._process = subprocess.Popen(
                [PROGRAM, "quickstart", f"--data-dir={data_dir}", f"--port={port}"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment(),
            )

    def said(self) -> str:
        """What stands on the terminal."""
        return self._out.read_text()

    def wait_until_it_runs(self) -> str:
        """Wait until all has been shown; what stands on the terminal then."""
        deadline = time.monotonic() + 60
        while "Ctrl-C stops it" not in self.said():
            assert self._process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)
        return self.said()

    def commands(self) -> list[str]:
        """The lines that it tells its user to type: the key's, and the curls."""
        return re.findall(r"^(?:export|curl) .*$", self.said(), re.MULTILINE)

    def send(self, number: signal.Signals) -> int:
        """Send it a signal; its exit code."""
        self._process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        """Wait until it ends; its exit code."""
        return self._process.wait(30)

    def end(self) -> None:
        """Kill it if it still runs; its Postgres goes down by itself."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        self._process.kill()
        self._process.wait()


QuickstartAt = Callable[[Path, int], Quickstart]


@pytest.fixture
def quickstart() -> Iterator[QuickstartAt]:
    """Start `aslgate quickstart` on a data directory and a port."""
    started: list[Quickstart] = []

    def start(data_dir: Path, port: int) -> Quickstart:
        started.append(Quickstart(data_dir, port))
        return started[-1]

    yield start
    for one in started:
        one.end()


@pytest.fixture(scope="module")
def running() -> Iterator[Quickstart]:
    """One `aslgate quickstart` that has shown everything, for all tests that only look at it."""
    with short_open_folder() as folder:
        running = Quickstart(folder / "aslgate", free_port())
        try:
            running.wait_until_it_runs()
            yield running
        finally:
            running.end()
