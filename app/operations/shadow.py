"""Shadow: a version is decided beside the one in force on every live question, after its answer.

Nothing of it is on a request's way. One task of each process follows the ledger: it reads what was
recorded, decides it under the version that is tried, and keeps what differs. Of several processes
whoever comes first goes on, and the others stand aside (`app.storage.shadows` lets no question be
counted twice). What a shadow says is what a backtest says of the same determinations.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import orjson

from app.determination.backtest import (
    Difference,
    Summary,
    Tally,
    difference_from_nothing,
)
from app.determination.decide import Question, decide, scope_of
from app.determination.provenance import NotRebuilt
from app.errors import AlreadyInForce, NotFound
from app.ledger.entry import Kind
from app.operations.backtest import Tried, answered_otherwise, tried
from app.operations.context import Context, new_id
from app.operations.following import IDLE_SECONDS, PAGE_PAUSE_SECONDS, SHARE, follow
from app.policy.timeline import PolicyInForce, in_force_at
from app.storage import records, shadows
from app.storage.history import Histories, ModelHistory
from app.storage.shadows import Found, LiveQuestion, Shadow, Stopped
from app.storage.store import Store, policy_stream
from app.vocabulary import Document, Instant, Sentence, Truth, read_instant

PAGE: Final = 32
"""How many recorded answers are read at once; what comes of them is kept at once."""

PAGE_SECONDS: Final = 1.0
"""For how long at most what was decided is not kept yet."""

ASIDE_SECONDS: Final = 5.0
"""How long a process leaves a shadow alone that another one goes on with."""

_log: Final = logging.getLogger("aslgate.shadow")


# --- What can be asked -------------------------------------------------------------------------


class Shadowed(Document):
    """Why a shadow begins, or ends, if anyone wants to say."""

    reason: Sentence | None = None


class ShadowStarted(Document):
    """Who began a shadow, when, and why."""

    at: Instant
    by: str
    reason: str | None


class ShadowStopped(Document):
    """When a shadow ended, and why; `by` is `null` where it did so by itself."""

    at: Instant
    by: str | None
    reason: str | None


class ShadowStatus(Document):
    """The shadow of a version: the one that runs, else the last.

    What is recorded from ledger index `from_index` on is looked at; everything below `up_to_index`
    has been. `behind`: how many entries are not looked at yet; 0 once it is stopped. `past`: how many
    determinations were asked about an instant, or a ledger size, in the past, and so are not live;
    they are left out of the summary.
    """

    id: str
    policy: str
    version: str
    digest: str
    running: bool
    started: ShadowStarted
    stopped: ShadowStopped | None
    from_index: int
    up_to_index: int
    behind: int
    past: int
    summary: Summary


async def start_shadow(
    context: Context, policy: str, version: str, shadowed: Shadowed
) -> ShadowStatus:
    """Let a shadow of the version begin with what is recorded next; one that runs already goes on.

    Raises `NotFound` for an unknown version, `AlreadyInForce`.
    """
    draft = await tried(context.store, policy, version)
    if _is_in_force(draft, context.now):
        raise AlreadyInForce(f"{policy} {version}")
    async with context.store.working() as connection:
        size = await records.ledger_size(connection)
        await shadows.start(
            connection,
            Shadow(
                id=new_id("shd"),
                policy=policy,
                version=version,
                digest=draft.version.digest,
                started_at=context.now,
                started_by=context.actor,
                reason=shadowed.reason,
                first=size,
                next=size,
                past=0,
                summary=Tally().summary(),
                stopped=None,
            ),
        )
    return await read_shadow(context, policy, version)


async def stop_shadow(
    context: Context, policy: str, version: str, shadowed: Shadowed
) -> ShadowStatus:
    """Let the shadow of the version end where it stands. One that ended stays as it is.

    Raises `NotFound` where there never was one.
    """
    shadow, _ = await _latest(context, policy, version)
    async with context.store.working() as connection:
        stopped = Stopped(context.now, context.actor, shadowed.reason)
        await shadows.stop(connection, shadow.id, stopped)
    return await read_shadow(context, policy, version)


async def read_shadow(context: Context, policy: str, version: str) -> ShadowStatus:
    """How the shadow of the version is doing. Raises `NotFound` where there never was one."""
    shadow, size = await _latest(context, policy, version)
    started = ShadowStarted(at=shadow.started_at, by=shadow.started_by, reason=shadow.reason)
    stopped = None
    if (end := shadow.stopped) is not None:
        stopped = ShadowStopped(at=end.at, by=end.by, reason=end.because)
    return ShadowStatus(
        id=shadow.id,
        policy=shadow.policy,
        version=shadow.version,
        digest=shadow.digest,
        running=stopped is None,
        started=started,
        stopped=stopped,
        from_index=shadow.first,
        up_to_index=shadow.next,
        behind=0 if stopped else size - shadow.next,
        past=shadow.past,
        summary=shadow.summary,
    )


async def read_differences(
    context: Context, policy: str, version: str, *, before: int | None, limit: int
) -> tuple[tuple[int, str], ...]:
    """The differences that the shadow found, newest first, each with its ledger index and as JSON.

    Raises `NotFound` where there never was one.
    """
    shadow, _ = await _latest(context, policy, version)
    async with context.store.reading() as connection:
        return await shadows.differences(connection, shadow.id, before=before, limit=limit)


async def _latest(context: Context, policy: str, version: str) -> tuple[Shadow, int]:
    """The shadow of the version, and the size of the ledger."""
    recorded = (await context.store.policies(policy)).version(version)
    if recorded is None:
        raise NotFound("policy version", f"{policy} {version}")
    async with context.store.reading() as connection:
        shadow = await shadows.latest(connection, recorded.digest)
        size = await records.ledger_size(connection)
    if shadow is None:
        raise NotFound("shadow", f"{policy} {version}")
    return shadow, size


def _is_in_force(draft: Tried, at: datetime) -> bool:
    in_force = in_force_at(draft.timeline, at)
    return in_force is not None and in_force.digest == draft.version.digest


# --- The work ----------------------------------------------------------------------------------


class Shadows:
    """The work of all shadows, as far as this process does it. One task runs it.

    For whoever watches: `running` are the shadows, and `size` is that of the ledger, as last seen.
    """

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock
        self._histories = Histories()
        self._drafts: dict[str, Tried] = {}
        self._left: dict[str, int] = {}
        self._aside_until: dict[str, float] = {}
        self.running: tuple[Shadow, ...] = ()
        self.size = 0

    async def run(self) -> None:
        """Go on until cancelled. Nothing that goes wrong ends this; a database is given time."""
        pause = PAGE_PAUSE_SECONDS
        await follow(self.turn, _log, "shadows", idle=IDLE_SECONDS, pause=pause)

    async def turn(self) -> bool:
        """Look at the next page of each running shadow. Whether there is more to look at at once.

        Where one cannot go on, that is raised once all others have had their turn.
        """
        async with self._store.reading() as connection:
            self.size = await records.ledger_size(connection)
            self.running = await shadows.running(connection)
        for known in (self._drafts, self._left, self._aside_until):
            for id in known.keys() - {shadow.id for shadow in self.running}:
                del known[id]
        more, trouble = False, None
        for shadow in self.running:
            try:
                more = await self._look(shadow) or more
            except Exception as error:  # noqa: BLE001 - raised below
                trouble = error
        if trouble is not None:
            raise trouble
        return more

    async def _look(self, shadow: Shadow) -> bool:
        if self._is_another_at_it(shadow):
            return False
        stream = policy_stream(shadow.policy)
        async with self._store.reading() as connection:
            size = await records.ledger_size(connection)
            versions = await records.stream_versions(connection, [stream])
            asked = await shadows.questions(
                connection, shadow.policy, first=shadow.next, before=size, limit=PAGE
            )
            page = _Page(shadow, asked)
            histories = await self._histories.of(connection, page.models, before=size)
        draft = self._drafts.get(shadow.id)
        if draft is None or draft.stream != versions[stream]:
            draft = await tried(self._store, shadow.policy, shadow.version)
            self._drafts[shadow.id] = draft
        until = time.monotonic() + PAGE_SECONDS
        while page.is_open and time.monotonic() < until:
            # One at a time: requests have their turn between two, and wait for no more than one.
            spent = await asyncio.to_thread(page.look_at_next, draft.version, histories)
            await asyncio.sleep(spent * (1 / SHARE - 1))
        more = page.is_open or (len(asked) == PAGE and not page.ended)
        after = page.result(asked[-1].record.position.index + 1 if more else size)
        now = self._clock()
        if page.ended or (not more and _is_in_force(draft, now)):
            after = replace(after, stopped=Stopped(now, None, "the version came into force"))
        if after == shadow:
            return False
        async with self._store.working() as connection:
            kept = await shadows.advance(connection, shadow, after, page.found)
        if kept:
            self._left[shadow.id] = after.next
        return kept and more

    def _is_another_at_it(self, shadow: Shadow) -> bool:
        """Whether it has moved, and not by us, since we looked last or shortly before that."""
        left, now = self._left.get(shadow.id, shadow.next), time.monotonic()
        self._left[shadow.id] = shadow.next
        if left != shadow.next:
            self._aside_until[shadow.id] = now + ASIDE_SECONDS
        return now < self._aside_until.get(shadow.id, now)


class _Page:
    """Some recorded answers, in the order of the ledger, and what comes of them under a draft."""

    def __init__(self, shadow: Shadow, asked: Sequence[LiveQuestion]) -> None:
        self._shadow = shadow
        self._tally = Tally.of(shadow.summary)
        self._past = shadow.past
        self._to_do = deque(_to_do(shadow.policy, asked))
        self.found: list[Found] = []
        self.ended = False
        """Whether the next answer was given under the draft itself: nothing is beside it any more."""

    @property
    def models(self) -> set[str]:
        """The model versions that are asked about."""
        return {one.document["model"] for one in self._to_do if one.live}

    @property
    def is_open(self) -> bool:
        """Whether there is more to decide."""
        return bool(self._to_do) and not self.ended

    def result(self, end: int) -> Shadow:
        """The shadow after what was looked at, where all of it goes up to index *end*."""
        end = self._to_do[0].index if self._to_do else end
        return replace(self._shadow, next=end, past=self._past, summary=self._tally.summary())

    def look_at_next(self, draft: PolicyInForce, histories: dict[str, ModelHistory]) -> float:
        """Decide the next of what is left, if it is to be decided. How many seconds of a core that
        took.
        """
        begun = time.thread_time()
        one = self._to_do[0]
        if one.live and one.was_given_under(draft):
            self.ended = True
            return 0
        if one.live:
            self._compare(draft, histories[one.document["model"]], one)
        else:
            self._past += 1
        self._to_do.popleft()
        return time.thread_time() - begun

    def _compare(self, draft: PolicyInForce, on_model: ModelHistory, one: "_ToDo") -> None:
        try:
            found = one.differs(draft, on_model)
        except NotRebuilt as reason:
            self._fail(one, str(reason))
        except Exception:  # noqa: BLE001 - said, logged and counted
            # A question that failed again and again would keep all that come after it.
            _log.exception("%s cannot be decided under %s", one.subject, draft.digest)
            self._fail(one, "it cannot be decided")
        else:
            self._tally.count(found)
            if found is not None:
                self.found.append(Found(one.index, found))

    def _fail(self, one: "_ToDo", why: str) -> None:
        self._tally.failed += 1
        _log.warning("a shadow did not look at %s: %s", one.subject, why)


@dataclass(frozen=True, slots=True)
class _ToDo:
    """An answer to be looked at. A gate is one where it did not ask the policy."""

    index: int
    subject: str
    live: bool
    is_gate: bool
    document: dict[str, Any]
    version: str | None
    """The version in force, as the answer names it; `None`: there was none."""

    def was_given_under(self, draft: PolicyInForce) -> bool:
        """Whether the draft was in force by then."""
        return self.version == draft.version.version

    def differs(self, draft: PolicyInForce, on_model: ModelHistory) -> Difference | None:
        """What the draft says otherwise. Raises `NotRebuilt`."""
        if not self.is_gate:
            return answered_otherwise(draft, on_model, self.subject, self.document)
        model, action, at = (self.document[name] for name in ("model", "action", "at"))
        known = on_model.known_at(self.index)
        if known.model is not None and scope_of(draft.version, known.model, action) is Truth.NO:
            return None
        question = Question(model, action, draft.version.policy, read_instant(at))
        would = decide(question, draft, known.model, known.evidence)
        label = draft.version.version
        now = would.model_dump(mode="json")
        return difference_from_nothing(self.subject, model, action, at, self.version, now, label)


def _to_do(policy: str, asked: Sequence[LiveQuestion]) -> Iterator[_ToDo]:
    for one in asked:
        record = one.record
        index, subject = record.position.index, record.subject
        document = orjson.loads(record.document)
        if record.kind is not Kind.GATE:
            version = document["provenance"]["policy"]["version"]
            yield _ToDo(index, subject, one.live, False, document, version)
        elif all(answered["policy"] != policy for answered in document["policies"]):
            passed = {left["policy"]: left["version"] for left in document["out_of_scope"]}
            yield _ToDo(index, subject, one.live, True, document, passed.get(policy))
