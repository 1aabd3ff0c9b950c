"""So many requests a second, whatever becomes of those before: a process of its own, which costs little.

Whoever waits for an answer before asking again asks less, the slower the service is; this one does
not. Requests are made up beforehand, sockets are raw and stay open, and an answer is told by its
status line; only of a 201 the whole is kept, to be held against the ledger.
"""

import json
import select
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.faults.service import KEY
from tests.faults.writers import ACTION, POLICY, Write

MOST_CONNECTIONS = 6000
PATH = "/v1/determinations"
END = b"\r\n\r\n"
PATIENCE_SECONDS = 10.0
"""How long the last answers may take to come, once nothing more is sent."""


@dataclass
class Flooded:
    """What was offered, and what came of it."""

    offered: int = 0
    """Requests that were sent whole."""
    unsent: int = 0
    """What could not be sent in its time, for want of a connection."""
    statuses: Counter[int] = field(default_factory=Counter)
    hopeless: int = 0
    """429 and 503 that do not say when to ask again."""
    unanswered: int = 0
    """Requests whose connection ended, or that had no answer by the end."""
    slowest: float = 0.0
    seconds: float = 0.0
    """How long it sent."""
    recorded: list[Write] = field(default_factory=list)


class Flood:
    """A flood of questions about one model version, begun with the block, and over after it."""

    def __init__(self, port: int, model: str, *, rate: float, seconds: float, report: Path) -> None:
        self.flooded = Flooded()
        self._report = report
        self._arguments = [str(port), model, str(rate), str(seconds), str(report)]

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.faults.flood", *self._arguments]
        self._process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.wait() == 0
        with self._report.open() as report:
            said: dict[str, Any] = json.loads(report.readline())
            said["statuses"] = Counter({int(k): n for k, n in said["statuses"].items()})
            self.flooded = Flooded(**said, recorded=[_write(json.loads(line)) for line in report])


def _write(said: dict[str, Any]) -> Write:
    return Write(
        "determination",
        PATH,
        b"",
        said["key"],
        said["sent_at"],
        answered_at=said["answered_at"],
        answer=said["answer"].encode("latin-1"),
    )


class _Connection:
    __slots__ = ("number", "read", "sent_at", "socket")

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.connect_ex(("127.0.0.1", port))
        self.read = b""
        self.number = -1
        self.sent_at = 0.0


def flood(port: int, model: str, rate: float, seconds: float, report: Path) -> None:
    """Send *rate* requests a second for so long, and write down what came of them."""
    body = json.dumps({"model": model, "action": ACTION, "policy": POLICY}).encode()
    run = f"{time.time_ns():x}"
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: aslgate\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"Idempotency-Key: flood-{run}-"
    ).encode()
    tail = END + body
    epoll = select.epoll()
    open_: dict[int, _Connection] = {}
    idle: list[_Connection] = []
    flooded = Flooded()
    kept = []
    due = 0

    def drop(one: _Connection) -> None:
        if one.number >= 0:
            flooded.unanswered += 1
        del open_[one.socket.fileno()]
        one.socket.close()

    def send(one: _Connection) -> None:
        one.number = due
        one.sent_at = time.monotonic()
        try:
            one.socket.send(b"%b%d%b" % (head, due, tail))
            flooded.offered += 1
        except OSError:
            one.number = -1
            flooded.unsent += 1
            drop(one)

    def receive(one: _Connection) -> None:
        try:
            came = one.socket.recv(262_144)
        except BlockingIOError:
            return
        except OSError:
            came = b""
        if not came:
            if one.number < 0 and one in idle:
                idle.remove(one)
            drop(one)
            return
        one.read += came
        end = one.read.find(END)
        if end < 0:
            return
        headers = one.read[:end].lower()
        length = int(headers.partition(b"content-length: ")[2].partition(b"\r")[0] or 0)
        if len(one.read) < end + len(END) + length:
            return
        now = time.monotonic()
        status = int(headers[9:12])
        flooded.statuses[status] += 1
        flooded.slowest = max(flooded.slowest, now - one.sent_at)
        if status == 201:
            times = {"sent_at": one.sent_at, "answered_at": now}
            answer = one.read[end + len(END) :].decode("latin-1")
            kept.append({"key": f"flood-{run}-{one.number}", "answer": answer, **times})
        elif status in (429, 503):
            flooded.hopeless += b"\r\nretry-after: " not in headers
        one.read, one.number = b"", -1
        if b"\r\nconnection: close" in headers:
            drop(one)
        else:
            idle.append(one)

    begun = time.monotonic()
    while True:
        now = time.monotonic()
        sending = now < begun + seconds
        if not sending and (now > begun + seconds + PATIENCE_SECONDS or len(idle) == len(open_)):
            break
        while sending and due < (now - begun) * rate:
            if idle:
                send(idle.pop())
            elif len(open_) < MOST_CONNECTIONS:
                one = _Connection(port)
                open_[one.socket.fileno()] = one
                # It is written to as soon as it is made; until then it waits in `open_`.
                one.number = -2
                epoll.register(one.socket, select.EPOLLOUT)
            else:
                flooded.unsent += 1
            due += 1
        for descriptor, event in epoll.poll(0.002):
            one = open_[descriptor]
            if one.number == -2:
                one.number = -1
                if event & (select.EPOLLERR | select.EPOLLHUP):
                    flooded.unsent += 1
                    drop(one)
                    continue
                epoll.modify(descriptor, select.EPOLLIN)
                send(one)
            else:
                receive(one)
    for one in open_.values():
        flooded.unanswered += one.number >= 0
        one.socket.close()
    said = {
        "offered": flooded.offered,
        "unsent": flooded.unsent,
        "statuses": flooded.statuses,
        "hopeless": flooded.hopeless,
        "unanswered": flooded.unanswered,
        "slowest": flooded.slowest,
        "seconds": seconds,
    }
    report.write_text("\n".join(map(json.dumps, [said, *kept])))


if __name__ == "__main__":
    flood(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4]), Path(sys.argv[5]))
