"""`aslgate serve` as a process of its own, and the Postgres under it, to be killed and frozen.

Nothing is signalled that was not seen to be ours: the postmaster's pid comes from the data
directory's own pid file, and counts only if the command line of that process names the directory.
"""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from app.storage.database import DATABASE
from app.storage.embedded import PostgresAddress

PROGRAM = str(Path(sys.prefix) / "bin" / "aslgate")
KEY = "key-of-the-fault-tests-0123456789abcdef"
READY_SECONDS = 30.0


def free_port() -> int:
    """A port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(**more: str) -> dict[str, str]:
    """Ours without any `ASLGATE_*` of whoever runs the tests, and with *more*."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ASLGATE_")}
    return kept | {"NO_COLOR": "1", "COLUMNS": "100"} | more


class Service:
    """The service over an embedded Postgres in *base*: started, killed, and started again there."""

    def __init__(self, base: Path) -> None:
        self.port = free_port()
        self.data_dir = base / "aslgate"
        self.output = base / "serve.out"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The pid of the process that was started last."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> float:
        """Start it, and wait until it says that it is ready. How long that took, in seconds."""
        begun = time.monotonic()
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                [
                    PROGRAM,
                    "serve",
                    f"--data-dir={self.data_dir}",
                    f"--port={self.port}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment(ASLGATE_BOOTSTRAP_KEY=KEY),
            )
        while not self.is_ready():
            if self._process.poll() is not None or time.monotonic() > begun + READY_SECONDS:
                raise AssertionError(f"the service did not become ready:\n{self.said()}")
            time.sleep(0.02)
        return time.monotonic() - begun

    def new_key(self, role: str) -> str:
        """A key with that role, made beside the running service as an operator makes one."""
        made = subprocess.run(
            [PROGRAM, "keys", "create", role, f"--role={role}", f"--data-dir={self.data_dir}"],
            check=True,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            env=environment(),
        )
        return made.stdout.strip()

    def is_running(self) -> bool:
        """Whether the process that was started last still is."""
        return self._process is not None and self._process.poll() is None

    def is_ready(self) -> bool:
        """What `/readyz` says."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def kill(self) -> None:
        """SIGKILL, to the service alone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def terminate(self) -> int:
        """SIGTERM; the exit code that it ends with."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(30)

    def postgres(self) -> list[psutil.Process]:
        """The postmaster and its children; none where it does not run."""
        with contextlib.suppress(OSError, ValueError, IndexError, psutil.Error):
            lines = (self.data_dir / "data" / "postmaster.pid").read_text().splitlines()
            postmaster = psutil.Process(int(lines[0]))
            command = postmaster.cmdline()
            if Path(command[0]).name == "postgres" and str(self.data_dir / "data") in command:
                return [postmaster, *postmaster.children(recursive=True)]
        return []

    def kill_postgres(self) -> None:
        """SIGKILL, to the postmaster and then to each of its children."""
        processes = self.postgres()
        assert processes, "Postgres does not run"
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    @contextlib.contextmanager
    def frozen_postgres(self) -> Iterator[None]:
        """SIGSTOP for all of Postgres while the block lasts, and then SIGCONT."""
        processes = self.postgres()
        assert processes, "Postgres does not run"
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in reversed(processes):
                process.resume()

    def postgres_stopped_cleanly(self) -> bool:
        """Whether nothing is left of a running server, and its last words were of a shutdown."""
        pid_file = self.data_dir / "data" / "postmaster.pid"
        said = (self.data_dir / "postgres.log").read_text(errors="replace").splitlines()
        return not pid_file.exists() and "database system is shut down" in said[-1]

    def address(self) -> PostgresAddress:
        """Where its database is, for the superuser."""
        return PostgresAddress(str(self.data_dir / "run"), "postgres", DATABASE)

    def said(self) -> str:
        """Everything that all its processes have written."""
        return self.output.read_text(errors="replace")

    def end(self) -> None:
        """End whatever of it still runs, in whatever way."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(20)
            self._process.kill()
            self._process.wait()
        for process in self.postgres():
            with contextlib.suppress(psutil.Error):
                process.resume()
                process.send_signal(signal.SIGQUIT)
        deadline = time.monotonic() + 10
        while self.postgres() and time.monotonic() < deadline:
            time.sleep(0.05)
