"""Backtest: what another version would say now, or would have said. It is recorded nowhere."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any, Final, Literal

import orjson

from app.determination.backtest import Compared, Difference, Summary, Tally, difference
from app.determination.decide import Question, decide
from app.determination.provenance import NotRebuilt, question_of
from app.errors import Fault, InvalidDocument, NotFound
from app.operations.context import Context
from app.policy.timeline import PolicyInForce, in_force_at
from app.storage import history
from app.storage.history import Asked, ModelHistory
from app.storage.ledger import Recorded
from app.storage.store import Store
from app.vocabulary import Document, Integer, write_instant

AT_A_TIME: Final = 5
"""How many questions are decided before the server sees to others."""

PAGE: Final = 200
"""How many recorded determinations are read at once."""


class Backtested(Document):
    """What a recorded version would say, approved or not.

    `current`: of every model and action that was ever asked about under the policy, now, beside
    what the version in force says. `history`: to every recorded determination, at its instant and
    with what was known then, beside what was answered. `limit`: only of the last so many.
    """

    scope: Literal["current", "history"]
    limit: Integer | None = None


class Progress(Document):
    """How many of the questions are decided."""

    done: int
    of: int


class Failed(Document):
    """A question that could not be asked again, and why. It is counted, and stands nowhere else."""

    determination: str | None
    model: str
    action: str
    message: str


class BacktestLine(Document):
    """One line of a backtest: it has one member. The last line is the summary.

    A backtest without a summary was cut off, and says nothing of what had not come.
    """

    progress: Progress | None = None
    difference: Difference | None = None
    failed: Failed | None = None
    summary: Summary | None = None


@dataclass(frozen=True, slots=True)
class Tried:
    """The version that is tried, as though it were in force, and those that really are.

    `stream`: the version of the policy's stream at which all of this was read.
    """

    version: PolicyInForce
    timeline: tuple[PolicyInForce, ...]
    stream: int


async def tried(store: Store, policy: str, version: str) -> Tried:
    """That recorded version, approved or not. Raises `NotFound`."""
    known = await store.policies(policy)
    recorded = known.version(version)
    if recorded is None:
        raise NotFound("policy version", f"{policy} {version}")
    first_recorded = store.first_recorded(recorded.digest, known.versions)
    since = recorded.version.effective
    return Tried(
        PolicyInForce(recorded.version, recorded.digest, since, None, first_recorded),
        known.timeline,
        known.stream,
    )


async def backtest(
    context: Context, policy: str, version: str, asked: Backtested
) -> AsyncGenerator[BacktestLine, None]:
    """The lines, as they come. Nothing that is recorded after this began is looked at.

    Raises `NotFound` for an unknown version and `InvalidDocument` for a limit below 1, both before
    the first line; `Unavailable` before it where too many are under way, and amid the lines where
    the database is gone.
    """
    if asked.limit is not None and asked.limit < 1:
        raise InvalidDocument((Fault("/limit", "invalid-value", "must be 1 or more"),))
    draft = await tried(context.store, policy, version)
    size = await context.store.size()
    of_scope = _current if asked.scope == "current" else _history
    lines = _in_turn(context, of_scope(context, policy, draft, size, asked.limit))
    # It has its turn before the first line is given, for afterwards nobody can be told to come back.
    return _after(await anext(lines), lines)


async def _in_turn(
    context: Context, lines: AsyncGenerator[BacktestLine, None]
) -> AsyncGenerator[BacktestLine, None]:
    async with context.turns.backtests.turn(), aclosing(lines):
        async for line in lines:
            yield line


async def _after(
    first: BacktestLine, lines: AsyncGenerator[BacktestLine, None]
) -> AsyncGenerator[BacktestLine, None]:
    async with aclosing(lines):
        yield first
        async for line in lines:
            yield line


async def _current(
    context: Context, policy: str, draft: Tried, size: int, limit: int | None
) -> AsyncGenerator[BacktestLine, None]:
    async with context.store.reading() as connection:
        found = await history.asked_under(connection, policy, before=size, limit=limit)
    tally = Tally()
    yield _progress(tally, len(found))
    in_force = in_force_at(draft.timeline, context.now)
    by_model = groupby(sorted(found, key=lambda one: (one.model, one.action)), lambda o: o.model)
    for model, group in by_model:
        questions = list(group)
        on_model = await _read(context, model, size)
        lines = await asyncio.to_thread(
            _decide_now, tally, draft, in_force, on_model, policy, questions, size, context.now
        )
        for line in lines:
            yield line
        yield _progress(tally, len(found))
    yield BacktestLine(summary=tally.summary())


async def _history(
    context: Context, policy: str, draft: Tried, size: int, limit: int | None
) -> AsyncGenerator[BacktestLine, None]:
    first = 0
    async with context.store.reading() as connection:
        if limit is not None:
            first = await history.first_of_last(connection, policy, before=size, limit=limit)
        many = await history.counted_by_model(connection, policy, first=first, before=size)
    tally, of = Tally(), sum(many.values())
    yield _progress(tally, of)
    for model in many:
        on_model = await _read(context, model, size)
        begin = first
        while page := await _page(context, policy, model, begin, size):
            begin = page[-1].position.index + 1
            for some in (page[i : i + AT_A_TIME] for i in range(0, len(page), AT_A_TIME)):
                # Off the event loop, and not for long: live requests go on between and beside.
                for line in await asyncio.to_thread(_decide_then, tally, draft, on_model, some):
                    yield line
            yield _progress(tally, of)
    yield BacktestLine(summary=tally.summary())


def _progress(tally: Tally, of: int) -> BacktestLine:
    return BacktestLine(progress=Progress(done=tally.decided + tally.failed, of=of))


async def _read(context: Context, model: str, size: int) -> ModelHistory:
    async with context.store.reading() as connection:
        return await history.model_history(connection, model, before=size)


async def _page(
    context: Context, policy: str, model: str, first: int, size: int
) -> Sequence[Recorded]:
    async with context.store.reading() as connection:
        return await history.determinations_of(
            connection, policy, model, first=first, before=size, limit=PAGE
        )


def _decide_now(
    tally: Tally,
    draft: Tried,
    in_force: PolicyInForce | None,
    on_model: ModelHistory,
    policy: str,
    questions: Sequence[Asked],
    size: int,
    now: datetime,
) -> list[BacktestLine]:
    lines = []
    for one in questions:
        try:
            known = on_model.known_at(size)
        except NotRebuilt as reason:
            lines.append(_failed(tally, None, one.model, one.action, str(reason)))
            continue
        question = Question(one.model, one.action, policy, now)
        was = decide(question, in_force, known.model, known.evidence)
        is_now = decide(question, draft.version, known.model, known.evidence)
        compared = Compared(
            determination=None,
            model=one.model,
            action=one.action,
            at=write_instant(now),
            was=was.model_dump(mode="json"),
            was_version=None if in_force is None else in_force.version.version,
            now=is_now.model_dump(mode="json"),
            now_version=draft.version.version.version,
        )
        lines += _counted(tally, difference(compared))
    return lines


def _decide_then(
    tally: Tally, draft: Tried, on_model: ModelHistory, page: Sequence[Recorded]
) -> list[BacktestLine]:
    lines = []
    for record in page:
        document = orjson.loads(record.document)
        model, action = document["model"], document["action"]
        try:
            found = answered_otherwise(draft.version, on_model, record.subject, document)
        except NotRebuilt as reason:
            lines.append(_failed(tally, record.subject, model, action, str(reason)))
            continue
        lines += _counted(tally, found)
    return lines


def answered_otherwise(
    draft: PolicyInForce, on_model: ModelHistory, id: str, document: dict[str, Any]
) -> Difference | None:
    """What *draft* says otherwise than a recorded determination, at its instant and on what it saw.

    Raises `NotRebuilt`.
    """
    provenance = document["provenance"]
    known = on_model.known_at(provenance["known_at"])
    if _names(provenance) not in (known.names, known.with_fulfilments):
        raise NotRebuilt("what the ledger held then is not the evidence that it names")
    question = question_of(document)
    would = decide(question, draft, known.model, known.evidence)
    return difference(
        Compared(
            determination=id,
            model=question.model,
            action=question.action,
            at=provenance["at"],
            was=document,
            was_version=provenance["policy"]["version"],
            now=would.model_dump(mode="json"),
            now_version=draft.version.version,
        )
    )


def _names(provenance: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((piece["id"], piece["digest"]) for piece in provenance["evidence"])


def _counted(tally: Tally, found: Difference | None) -> list[BacktestLine]:
    tally.count(found)
    return [] if found is None else [BacktestLine(difference=found)]


def _failed(tally: Tally, id: str | None, model: str, action: str, message: str) -> BacktestLine:
    tally.failed += 1
    return BacktestLine(
        failed=Failed(determination=id, model=model, action=action, message=message)
    )
