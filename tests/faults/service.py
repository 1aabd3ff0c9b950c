"""`aslgate serve` as a process of its own, and the Postgres under it, to be killed and frozen.

Nothing is signalled that was not seen to be ours: the postmaster's pid comes from the data
directory's own pid file, and counts only if the command line of that process names the directory.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def postgres_on(data: Path) -> list[psutil.Process]:
    """The postmaster on that data directory and its children; none where it does not run."""
    with contextlib.suppress(OSError, ValueError, IndexError, psutil.Error):
        lines = (data / "postmaster.pid").read_text().splitlines()
        postmaster = psutil.Process(int(lines[0]))
        command = postmaster.cmdline()
        if Path(command[0]).name == "postgres" and str(data) in command:
            return [postmaster, *postmaster.children(recursive=True)]
    return []


def kill_all(processes: list[psutil.Process]) -> None:
    """SIGKILL, to each in turn: the postmaster is the first."""
    assert processes, "Postgres does not run"
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


class Served:
    """One `aslgate serve`: started, killed, and started again as it was."""

    def __init__(self, output: Path, *options: str, **environ: str) -> None:
        self.port = free_port()
        self.output = output
        self._options = options
        self._environ = environment(
            ASLGATE_BOOTSTRAP_KEY=KEY, ASLGATE_BOOTSTRAP_POLICY_ROLES="*", **environ
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The pid of the process that was started last."""
        assert self._process is not None
        return self._process.pid

    def begin(self) -> None:
        """Start it, and do not wait."""
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                [PROGRAM, "serve", *self._options, f"--port={self.port}"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environ,
            )

    def start(self) -> float:
        """Start it, and wait until it says that it is ready. How long that took, in seconds."""
        begun = time.monotonic()
        self.begin()
        self.wait_until_ready()
        return time.monotonic() - begun

    def wait_until_ready(self) -> None:
        """Wait for what was begun, or for what came to it to be over."""
        begun = time.monotonic()
        while not self.is_ready():
            if not self.is_running() or time.monotonic() > begun + READY_SECONDS:
                why = self.readiness()
                raise AssertionError(f"the service did not become ready: {why}\n{self.said()}")
            time.sleep(0.02)

    def is_running(self) -> bool:
        """Whether the process that was started last still is."""
        return self._process is not None and self._process.poll() is None

    def is_ready(self) -> bool:
        """What `/readyz` says."""
        return self.readiness()[0] == 200

    def readiness(self) -> tuple[int, str]:
        """What `/readyz` says, in full; status 0: nothing at all."""
        return self._said_at("/readyz")

    def status(self, path: str) -> int:
        """The status that is answered there without a key; 0: nothing at all."""
        return self._said_at(path)[0]

    def _said_at(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()

    def new_key(self, *roles: str) -> str:
        """A key with those roles, made beside the running service as an operator makes one."""
        given = [f"service:{'-'.join(roles)}", *(f"--role={role}" for role in roles)]
        made = subprocess.run(
            [PROGRAM, "keys", "create", *given, "--policy-role=*", *self._options],
            check=True,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            env=environment(),
        )
        return made.stdout.strip()

    def wait_until_refused(self) -> str:
        """Wait until it says for good that it is not ready; why."""
        begun = time.monotonic()
        while True:
            status, said = self.readiness()
            if status == 503 and not any(word in said for word in ("starting", "not yet held")):
                return said
            if status == 200 or not self.is_running() or time.monotonic() > begun + READY_SECONDS:
                raise AssertionError(f"nothing was refused: {status} {said}\n{self.said()}")
            time.sleep(0.05)

    def register(self, model: str) -> tuple[int, dict[str, Any]]:
        """Register a model version once; the status, and what was said."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {
            "Authorization": f"Bearer {KEY}",
            "Content-Type": "application/json",
            "Idempotency-Key": model,
        }
        body = json.dumps({"model": model, "developer": "anthropic"})
        connection.request("POST", "/v1/models", body, headers)
        response = connection.getresponse()
        said: dict[str, Any] = json.loads(response.read())
        connection.close()
        return response.status, said

    def kill(self) -> None:
        """SIGKILL, to the service alone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def wait_until_ended(self) -> int:
        """Wait until the process has ended, whoever sees to that; its exit code."""
        assert self._process is not None
        return self._process.wait(30)

    def terminate(self) -> int:
        """SIGTERM; the exit code that it ends with."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(30)

    def said(self) -> str:
        """Everything that all its processes have written."""
        return self.output.read_text(errors="replace")

    def end(self) -> None:
        """End it if it still runs, in whatever way."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(20)
            self._process.kill()
            self._process.wait()


class Service(Served):
    """The service over an embedded Postgres in *base*. A second one there shares it."""

    def __init__(self, base: Path, name: str = "serve") -> None:
        self.data_dir = base / "aslgate"
        super().__init__(base / f"{name}.out", f"--data-dir={self.data_dir}")

    def postgres(self) -> list[psutil.Process]:
        """The postmaster and its children; none where it does not run."""
        return postgres_on(self.data_dir / "data")

    def kill_postgres(self) -> None:
        """SIGKILL, to the postmaster and then to each of its children."""
        kill_all(self.postgres())

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

    def end(self) -> None:
        """End whatever of it still runs, in whatever way."""
        super().end()
        for process in self.postgres():
            with contextlib.suppress(psutil.Error):
                process.resume()
                process.send_signal(signal.SIGQUIT)
        deadline = time.monotonic() + 10
        while self.postgres() and time.monotonic() < deadline:
            time.sleep(0.05)
