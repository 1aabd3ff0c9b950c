"""strace on a running process: which calls it makes, and what is to go wrong with one of them.

A fault is put in as the call begins: a signal that kills comes before anything of it is done, and an
error is given back without its having been made.
"""

import contextlib
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_CALL = re.compile(r"(\w+)\((\w+)(.*)")


@dataclass(frozen=True)
class Call:
    """One call: its name, the descriptor that it is of, and that with what it says, as strace does."""

    name: str
    descriptor: str
    said: str

    @property
    def was_made(self) -> bool:
        """Whether it came back, and was not replaced by a fault."""
        return " = " in self.said and not re.search(r" = \?|\(INJECTED\)", self.said)


@dataclass(frozen=True)
class Trace:
    """What strace has seen so far."""

    process: subprocess.Popen[str]
    output: Path

    def calls(self) -> list[Call]:
        """All calls, in order."""
        lines = self.output.read_text(errors="replace").splitlines()
        return [Call(*found.groups()) for found in map(_CALL.match, lines) if found]

    def wait_for(self, what: str, *, seconds: float) -> bool:
        """Wait until strace says *what*, or follows nobody any more; whether it said it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            if what in self.output.read_text(errors="replace"):
                return True
            time.sleep(0.005)
        return what in self.output.read_text(errors="replace")


class CannotTrace(Exception):
    """There is no strace, or it may not follow that process; `str()` says which."""


@contextlib.contextmanager
def traced(pid: int, calls: str, output: Path, *, inject: str | None = None) -> Iterator[Trace]:
    """Follow *calls* of one thread, the process' first, while the block lasts; *inject* is strace's
    own word for what goes wrong with one of them, counted from here.

    Raises `CannotTrace`.
    """
    program = shutil.which("strace")
    if program is None:
        raise CannotTrace("strace is not installed")
    fault = [] if inject is None else ["-e", f"inject={inject}"]
    output.write_text("")
    process = subprocess.Popen(
        [program, "-s", "64", "-o", output, "-e", f"trace={calls}", *fault, "-p", str(pid)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        said = process.stderr.readline().strip()
        if "attached" not in said:
            raise CannotTrace(said)
        yield Trace(process, output)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(10)
        process.stderr.close()


def why_nothing_can_be_traced(folder: Path) -> str | None:
    """Why faults cannot be put in here; `None`: they can."""
    # strace is no parent of the services that it follows, and some systems let parents only.
    waiting = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(waiting, stdin=subprocess.PIPE) as process:
        try:
            with traced(process.pid, "none", folder / "strace", inject="fsync:error=EIO:when=1"):
                return None
        except CannotTrace as error:
            return str(error)
        finally:
            process.kill()
