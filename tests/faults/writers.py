"""Clients that write over real HTTP, and do not give up before they are answered.

Only a whole answer counts: its Content-Length is met, it is JSON, and it holds what was recorded.
A client that believes a status line takes the first half of a `201` for an acknowledgement. A cut,
a time-out and a 503 all mean that nothing is known, so the same request goes out again under the
same Idempotency-Key.
"""

import contextlib
import http.client
import itertools
import json
import random
import re
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

from tests.faults.service import KEY

POLICY = "anthropic-rsp"
ACTION = "external-deployment"
WRITES_A_MODEL = 12
"""After so many writes each writer turns to a new model, or its evidence would grow for ever."""
ABANDONED_SHARE = 0.03
REACHED_SHARE = 0.05
"""Of the assessments so many find what closes the gate for that model, for good."""
ACTIVATED_SHARE = 0.03
"""Of all writes so many put another version of the policy in force, where there are several."""
MOMENT = timedelta(milliseconds=20)
GIVE_UP_SECONDS = 60.0


@dataclass
class Write:
    """One thing to be recorded, and what became of it. Times are of one monotonic clock."""

    kind: str
    path: str
    body: bytes
    key: str
    sent_at: float
    attempts: int = 0
    attempted_at: float = 0.0
    """When it was last sent."""
    answered_at: float | None = None
    answer: bytes | None = None
    """The whole body of the 201."""
    superseded: str | None = None
    """The id of a determination that was recorded, and no longer answers when asked for again."""
    replayed: bool = False
    caller: str = KEY

    @property
    def is_settled(self) -> bool:
        """Whether the client knows that it is recorded."""
        return self.answer is not None or self.superseded is not None


@dataclass(frozen=True)
class Refusal:
    """An answer other than 201, and how long it took, in seconds."""

    status: int
    seconds: float
    retry_after: str | None
    media_type: str | None
    body: bytes


@dataclass
class Writers:
    """So many clients, each with one request at a time, for as long as the block lasts.

    `others`: ports of further services on the same database. Who got no answer asks any of them.
    `versions`: approved versions of the policy, which one more client puts in force in turn.
    """

    port: int
    count: int = 16
    others: Sequence[int] = ()
    versions: Sequence[str] = ()
    writes: list[Write] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    """How long each answer took, whatever it was."""
    truncated: int = 0
    unanswered: int = 0
    """How many connections were closed, or could not be made, before anything was answered."""
    broken: list[str] = field(default_factory=list)
    """What no server should ever say."""

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._run = f"{time.time_ns():x}"
        self._approver = KEY
        # All of the same time: a later one could answer what an earlier one found.
        self._yesterday = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}T00:00:00Z"
        self._threads = [
            threading.Thread(target=self._writer, args=(number,), name=f"writer-{number}")
            for number in range(self.count)
        ]
        if self.versions:
            self._threads.append(threading.Thread(target=self._activator, name="activator"))

    def _make_approver(self, name: str = "approver") -> str:
        """The key of somebody else, who signs off: who found something may not approve alone."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        wanted = {
            "principal": f"person:{name}-{self._run}",
            "roles": ["approver", "policy-approver"],
            "policy_roles": ["*"],
        }
        connection.request("POST", "/v1/keys", json.dumps(wanted), headers)
        made = json.loads(connection.getresponse().read())
        connection.close()
        return str(made["key"])

    def __enter__(self) -> Self:
        self._approver = self._make_approver()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def acknowledged(self) -> list[Write]:
        """What was answered with a whole 201."""
        return [write for write in self.writes if write.answer is not None]

    def wait_for(self, more: int, *, seconds: float = 30.0) -> float:
        """Wait until so many are acknowledged that are sent from now on.

        How long the first of them took to come, in seconds.
        """
        begun, first = time.monotonic(), len(self.writes)
        while True:
            # What is under way now may be asked again, so the newest few of the old ones count too.
            newest = self.writes[max(0, first - self.count) :]
            came = [
                write.answered_at
                for write in newest
                if write.answered_at is not None and write.attempted_at > begun
            ]
            if len(came) >= more:
                return min(came) - begun
            assert not self.broken, self.broken[:3]
            waited = time.monotonic() - begun
            assert waited < seconds, f"{len(came)} of {more} acknowledged in {waited:.1f} s"
            time.sleep(0.01)

    def ask(self, write: Write, *, port: int | None = None) -> None:
        """Ask for this one once, of `port` or of whoever there is, and go by whatever comes of it."""
        if write not in self.writes:
            self.writes.append(write)
        self._attempt(self._connection(port), write).close()

    # --- One client ----------------------------------------------------------------------------

    def _writer(self, number: int) -> None:
        chance = random.Random(number)
        connection = self._connection()
        for write in self._story(number, chance):
            self.writes.append(write)
            if write.kind != "model" and chance.random() < ABANDONED_SHARE:
                connection = self._abandon(connection, write)
                continue
            connection = self._see_through(connection, write, chance)
        connection.close()

    def _see_through(
        self, connection: http.client.HTTPConnection, write: Write, chance: random.Random
    ) -> http.client.HTTPConnection:
        """Ask until it is known to be recorded. The connection to ask on the next time."""
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while not write.is_settled and not self.broken:
            connection = self._attempt(connection, write)
            if time.monotonic() > deadline:
                self.broken.append(f"{write.kind} not answered in {GIVE_UP_SECONDS} s")
            if not write.is_settled:
                time.sleep(chance.uniform(0.01, 0.1))
        return connection

    def _activator(self) -> None:
        """Put each version in force as its turn comes, again and again.

        One that was superseded comes back only if somebody approves it anew, and each person may do so
        once: so each time it is another.
        """
        chance = random.Random(-1)
        connection = self._connection()
        for n, version in enumerate(itertools.cycle(self.versions), 1):
            while len(self.writes) * ACTIVATED_SHARE < n:
                if self._stop.wait(0.005) or self.broken:
                    connection.close()
                    return
            path = f"/v1/policies/{POLICY}/versions/{version}"
            somebody = self._make_approver_at_last(f"approver-{n}")
            approval = self._write("policy-approval", f"{path}/approvals", {"reason": "again"})
            approval.caller = somebody
            self.writes.append(approval)
            connection = self._see_through(connection, approval, chance)
            activation = self._write(
                "policy-activation", f"{path}/activation", _since(chance) | {"reason": "its turn"}
            )
            activation.caller = self._approver
            self.writes.append(activation)
            connection = self._see_through(connection, activation, chance)

    def _make_approver_at_last(self, name: str) -> str:
        """Ask for one until there is an answer: of keys nobody minds a second one."""
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException, KeyError):
                return self._make_approver(name)
            if self._stop.wait(0.05) or self.broken:
                return self._approver

    def _connection(self, port: int | None = None) -> http.client.HTTPConnection:
        port = port or random.choice((self.port, *self.others))
        return http.client.HTTPConnection("127.0.0.1", port, timeout=15)

    def _story(self, number: int, chance: random.Random) -> Iterator[Write]:
        """What one writer records, until it is told to stop. Four of them share a model."""
        for n in itertools.count():
            if self._stop.is_set() or self.broken:
                return
            model = f"fault/{self._run}-{number % 4}-{n // WRITES_A_MODEL}@1"
            if n % WRITES_A_MODEL == 0:
                yield self._write("model", "/v1/models", {"model": model, "developer": "anthropic"})
            kind = chance.choice((*["determination"] * 3, "assessment", "sign-off", "safeguard"))
            yield self._write_of(kind, model, f"{self._run}-{number}-{n}", chance)

    def _write_of(self, kind: str, model: str, mark: str, chance: random.Random) -> Write:
        if kind == "determination":
            question = {"model": model, "action": ACTION, "policy": POLICY}
            return self._write(kind, "/v1/determinations", question)
        if kind == "assessment":
            outcome = "reached" if chance.random() < REACHED_SHARE else "ruled-out"
            findings = [
                {
                    "policy": POLICY,
                    "threshold": threshold,
                    "outcome": outcome,
                    "by": ["ceo", "responsible-scaling-officer"],
                    "reason": "because",
                }
                for threshold in ("CBRN-3", "AI R&D-4")
            ]
            body = {
                "model": model,
                "kind": "comprehensive",
                "conducted_at": self._yesterday,
                "assessor": mark,
                "findings": findings,
            }
            return self._write(kind, "/v1/assessments", body)
        if kind == "safeguard":
            safeguard = {
                "model": model,
                "policy": POLICY,
                "standard": chance.choice(("asl-2-deployment", "asl-2-security")),
                "met": True,
                "valid_from": self._yesterday,
                "stated_by": mark,
            }
            return self._write(kind, "/v1/safeguards", safeguard)
        body = {
            "model": model,
            "policy": POLICY,
            "action": ACTION,
            "role": chance.choice(("ceo", "responsible-scaling-officer")),
            "verb": "approved",
            "reason": mark,
        }
        write = self._write(kind, "/v1/sign-offs", body)
        write.caller = self._approver
        return write

    def _write(self, kind: str, path: str, body: dict[str, Any]) -> Write:
        key = f"{self._run}-{threading.current_thread().name}-{time.monotonic_ns()}"
        return Write(kind, path, json.dumps(body).encode(), key, time.monotonic())

    def _abandon(
        self, connection: http.client.HTTPConnection, write: Write
    ) -> http.client.HTTPConnection:
        """Send it, and go away without having read: it may be recorded, once."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            self._send(connection, write)
        connection.close()
        return self._connection()

    def _send(self, connection: http.client.HTTPConnection, write: Write) -> None:
        write.attempts += 1
        write.attempted_at = time.monotonic()
        headers = {
            "Authorization": f"Bearer {write.caller}",
            "Content-Type": "application/json",
            "Idempotency-Key": write.key,
        }
        connection.request("POST", write.path, write.body, headers)

    def _attempt(
        self, connection: http.client.HTTPConnection, write: Write
    ) -> http.client.HTTPConnection:
        """Ask once. The connection to ask on the next time."""
        begun = time.monotonic()
        try:
            self._send(connection, write)
            response = connection.getresponse()
            length = response.getheader("Content-Length")
            body = response.read()
        except http.client.IncompleteRead:
            self.truncated += 1
            connection.close()
            return self._connection()
        except (OSError, http.client.HTTPException):
            self.unanswered += 1
            if time.monotonic() - begun > 14:
                self.broken.append(f"{write.kind} had no answer after 14 s")
            connection.close()
            return self._connection()
        now = time.monotonic()
        self.seconds.append(now - begun)
        if length != str(len(body)):
            self.broken.append(f"Content-Length {length}, and {len(body)} bytes came")
        elif response.status == 201:
            self._acknowledge(write, body, now, response.getheader("Idempotency-Replayed"))
        else:
            media_type = response.getheader("Content-Type")
            retry_after = response.getheader("Retry-After")
            refusal = Refusal(response.status, now - begun, retry_after, media_type, body)
            self.refusals.append(refusal)
            self._read_refusal(write, refusal)
        return connection

    def _acknowledge(self, write: Write, body: bytes, now: float, replayed: str | None) -> None:
        answer = json.loads(body)
        if "ledger" not in answer or not {"model", "policy"} & answer.keys():
            self.broken.append(f"a 201 of {body[:80]!r}")
            return
        write.replayed = replayed == "true"
        write.answered_at = now
        write.answer = body

    def _read_refusal(self, write: Write, refusal: Refusal) -> None:
        if refusal.status == 409 and b"determination-superseded" in refusal.body:
            named = re.search(rb"det_[0-9a-f]{32}", refusal.body)
            assert named is not None
            write.superseded = named.group().decode()
        elif refusal.status != 503:
            self.broken.append(f"{write.kind}: {refusal.status} {refusal.body[:300]!r}")


def _since(chance: random.Random) -> dict[str, Any]:
    """Since when a version is to be in force: now, which needs no word; soon; or since a moment ago."""
    moment = chance.choice((None, MOMENT, -MOMENT))
    if moment is None:
        return {}
    instant = (datetime.now(UTC) + moment).isoformat().replace("+00:00", "Z")
    return {"in_force_from": instant} | ({"retroactive": True} if moment < timedelta() else {})
