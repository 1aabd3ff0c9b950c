"""The ledger under everything that pulls at it: crowds, bad data, lost and hanging connections."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from typing import Any

import asyncpg
import orjson
import pytest

from app.canonical import canonical_json, sha256_hex
from app.errors import AlreadyRecorded, IdempotencyKeyReused, InvalidDocument, Unavailable
from app.ledger.entry import Kind
from app.ledger.merkle import leaf_hash
from app.storage import records
from app.storage.database import Database
from app.storage.ledger import (
    TABLE_OF,
    Appended,
    DeterminationRow,
    Draft,
    EvidenceRow,
    IdempotencyKey,
    Ledger,
    LedgerFault,
    ModelRow,
    Moment,
    PolicyActivationRow,
    PolicyApprovalRow,
    PolicyVersionRow,
    Recorded,
    Stale,
    WithdrawalRow,
)

LOG = "log.example.com/aslgate"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
_numbers = count()


def new_id(prefix: str) -> str:
    return f"{prefix}_{next(_numbers):08}"


def saying(**words: Any) -> Callable[[Moment], bytes]:
    return lambda _: canonical_json(words)


def evidence(id: str | None = None, model: str = "m@1", **words: Any) -> Draft:
    id = id or new_id("asm")
    row = EvidenceRow(id, "assessment", model, None, NOON)
    return Draft(Kind.ASSESSMENT, id, row, saying(id=id, **words))


def determination(
    build: Callable[[Moment], bytes] | None = None,
    *,
    at: datetime = NOON,
    as_known: bool = False,
    decision: str = "deny",
    policy: str = "p",
) -> Draft:
    id = new_id("det")
    row = DeterminationRow(
        id, "m@1", "training", policy, None, None, decision, None, at, None, as_known
    )
    return Draft(Kind.DETERMINATION, id, row, build or saying(id=id))


def failing(_: Moment) -> bytes:
    raise ZeroDivisionError("a draft that cannot be built")


def key(word: str, request: str = "the request", credential: str = "key_a") -> IdempotencyKey:
    digests = (bytes.fromhex(sha256_hex(text.encode())) for text in (word, request))
    return IdempotencyKey(credential, *digests)


async def append(
    ledger: Ledger,
    *drafts: Draft,
    rests_on: dict[str, int] | None = None,
    touches: Iterable[str] = (),
    key: IdempotencyKey | None = None,
) -> Appended:
    return await ledger.append(
        drafts, actor="key_a", rests_on=rests_on or {}, touches=touches, key=key
    )


@asynccontextmanager
async def writing(fresh: Any, **options: Any) -> AsyncIterator[Ledger]:
    database = Database(fresh.service, throwaway=True)
    ledger = Ledger(database, **options)
    await ledger.initialise(LOG)
    await ledger.start()
    # It has read what it had to; from here on the writer's connection is the only one.
    await database.close()
    try:
        yield ledger
    finally:
        await ledger.close()


@pytest.fixture
async def ledger(fresh: Any) -> AsyncIterator[Ledger]:
    async with writing(fresh) as ledger:
        yield ledger


async def as_superuser(fresh: Any, *statements: str) -> Any:
    connection = await asyncpg.connect(str(fresh.superuser))
    try:
        given = None
        for statement in statements:
            given = await connection.fetch(statement)
        return given
    finally:
        await connection.close()


@asynccontextmanager
async def head_locked(fresh: Any) -> AsyncIterator[None]:
    """Another writer that does not get on: our batch waits, and all else queues for the next."""
    connection = await asyncpg.connect(str(fresh.owner))
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM ledger_head FOR UPDATE")
            yield
    finally:
        await connection.close()


async def in_one_batch(
    ledger: Ledger, fresh: Any, *appends: Awaitable[Appended]
) -> list[Appended | BaseException]:
    """Run these so that one transaction must settle them all, in this order."""
    async with head_locked(fresh):
        first = asyncio.create_task(append(ledger, evidence()))
        await asyncio.sleep(0.05)
        rest = [asyncio.ensure_future(one) for one in appends]
        await asyncio.sleep(0.05)
        assert ledger.queued == len(rest)
    await first
    return await asyncio.gather(*rest, return_exceptions=True)


async def everything(fresh: Any) -> tuple[Recorded, ...]:
    """All that is recorded, after seeing that it is whole: no gap, and no time that goes back."""
    database = Database(fresh.service, throwaway=True)
    async with database.reading() as connection:
        found = await records.records_from(connection, 0, 100_000)
        entries = await records.entries_from(connection, 0, 100_000)
        assert [record.position.index for record in found] == list(range(len(found)))
        assert await records.ledger_size(connection) == len(found)
        assert all(a.position.at <= b.position.at for a, b in pairwise(found))
        for record, (index, entry, leaf) in zip(found, entries, strict=True):
            assert leaf_hash(entry) == leaf == bytes.fromhex(record.position.leaf_hash)
            assert f'"index":{index},'.encode() in entry
            assert sha256_hex(record.document).encode() in entry
    await database.close()
    return found


# --- What is recorded --------------------------------------------------------------------------


async def test_a_document_is_kept_as_the_bytes_that_were_built(ledger: Ledger, fresh: Any) -> None:
    draft = evidence(said="once")
    appended = await append(ledger, draft)

    (record,) = await everything(fresh)
    assert not appended.replayed
    assert appended.records == (record,)
    assert record.document == canonical_json({"id": draft.subject, "said": "once"})
    assert (record.kind, record.subject, record.position.index) == (
        Kind.ASSESSMENT,
        draft.subject,
        0,
    )


async def test_every_kind_of_row_is_found_by_its_words(ledger: Ledger, fresh: Any) -> None:
    digest = f"sha256:{'0' * 64}"
    policy = Draft(
        Kind.POLICY_VERSION, digest, PolicyVersionRow("p", "2.2", digest, NOON), saying(a=1)
    )
    model = Draft(Kind.MODEL, "m@1", ModelRow("m@1", "a lab"), saying(b=1))
    found = evidence("asm_1")
    withdrawn = Draft(Kind.WITHDRAWAL, "wdr_1", WithdrawalRow("wdr_1", "asm_1", "m@1"), saying(c=1))
    decided = determination()
    approved = Draft(
        Kind.POLICY_APPROVAL,
        "pap_1",
        PolicyApprovalRow("pap_1", "p", digest, "key_b", NOON),
        saying(d=1),
    )
    activated = Draft(
        Kind.POLICY_ACTIVATION,
        "pac_1",
        PolicyActivationRow("pac_1", "p", digest, NOON, NOON),
        saying(e=1),
    )
    # In this order a piece and its withdrawal may even be in one commit.
    await append(ledger, policy, model, found, withdrawn, decided, touches=["model:m@1"])
    await append(ledger, approved, activated)

    database = Database(fresh.service, throwaway=True)
    async with database.reading() as connection:
        assert list(await records.policy_authors(connection, "p")) == [digest]
        assert await records.policy_authors(connection, "q") == {}
        (approval,) = await records.policy_approvals(connection, "p")
        assert (approval.subject, approval.position.index) == ("pap_1", 5)
        assert await records.policy_approvals(connection, "p", known_at=5) == ()
        (activation,) = await records.policy_activations(connection, ["p", "q"])
        assert (activation.subject, activation.position.index) == ("pac_1", 6)
        assert await records.policy_activations(connection, ["p"], known_at=6) == ()
        assert await records.policy_activations(connection, ["q"]) == ()
        (version,) = await records.policy_records(connection, "p")
        assert (version.position.index, version.kind) == (0, Kind.POLICY_VERSION)
        assert await records.policy_records(connection, "p", known_at=0) == ()
        assert (await records.policy_records(connection))[0].document == b'{"a":1}'
        assert (await records.model_record(connection, "m@1")) == await records.record_at(
            connection, 1
        )
        assert await records.model_record(connection, "m@1", known_at=1) is None
        streams = await records.stream_versions(connection, ["model:m@1", "other"])
        assert streams == {"model:m@1": 5, "other": 0}
        on = await records.evidence_on(connection, "m@1")
        assert [(piece.record.subject, piece.withdrawn) for piece in on] == [("asm_1", 3)]
        then = await records.evidence_on(connection, "m@1", known_at=3)
        assert [piece.withdrawn for piece in then] == [None]
        piece = await records.evidence_of_id(connection, "asm_1")
        assert piece == on[0]
        latest = await records.latest_determination(connection, "m@1", "training")
        assert latest is not None
        assert latest == await records.record_of(connection, decided.subject)
        assert await records.latest_determination(connection, "m@1", "training", "other") is None
    await database.close()


async def test_determinations_are_listed_newest_first_and_by_page(
    ledger: Ledger, fresh: Any
) -> None:
    drafts = [
        determination(decision="allow" if i % 2 else "deny", policy="pq"[i % 2]) for i in range(6)
    ]
    await append(ledger, *drafts)
    database = Database(fresh.service, throwaway=True)
    async with database.reading() as connection:

        async def page(**filters: Any) -> list[int]:
            found = await records.determinations(connection, **filters)
            return [record.position.index for record in found]

        assert await page(limit=4) == [5, 4, 3, 2]
        assert await page(before=2, limit=4) == [1, 0]
        assert await page(model="m@1", decision="allow", before=5, limit=9) == [3, 1]
        assert await page(policy="p", action="training", limit=2) == [4, 2]
        assert await page(action="other", limit=9) == []
    await database.close()


def test_every_row_has_the_columns_of_its_table() -> None:
    for row, table in TABLE_OF.items():
        named = [field.name for field in fields(row)]
        assert ["index", *named] == [column.name for column in table.columns]


async def test_a_document_learns_its_place_and_the_time_of_its_recording(
    ledger: Ledger, fresh: Any
) -> None:
    seen: list[Moment] = []

    def build(moment: Moment) -> bytes:
        seen.append(moment)
        return b"{}"

    before = datetime.now(UTC)
    await append(ledger, *(determination(build, policy=str(i)) for i in range(3)))
    assert [moment.index for moment in seen] == [0, 1, 2]
    assert all(before <= moment.at <= datetime.now(UTC) for moment in seen)
    assert [record.position.at for record in await everything(fresh)] == [m.at for m in seen]


async def test_a_determination_learns_what_was_said_before(ledger: Ledger, fresh: Any) -> None:
    """The latest by instant asked about, whether it stands in a past commit or in this one."""
    seen: dict[str, bytes | None] = {}

    def named(name: str, hours: int, **options: Any) -> Draft:
        def build(moment: Moment) -> bytes:
            seen[name] = moment.previous
            return name.encode()

        return determination(build, at=NOON + timedelta(hours=hours), **options)

    await append(ledger, named("first", 0))
    await append(ledger, named("later", 5))
    await append(ledger, named("past", 2, as_known=True), named("other", 0, policy="q"))
    answers = await in_one_batch(
        ledger,
        fresh,
        append(ledger, named("past too", 2, as_known=True), named("between", 3)),
        append(ledger, named("early", -1)),
        append(ledger, named("after between", 4), determination(failing)),
        append(ledger, named("again", 4)),
        append(ledger, named("last", 5), named("at once", 5)),
    )
    assert isinstance(answers[2], ZeroDivisionError)
    assert seen == {
        "first": None,
        "later": b"first",
        "past": b"first",
        "other": None,
        "past too": b"first",
        "between": b"first",
        "early": None,
        "after between": b"between",
        "again": b"between",
        "last": b"later",
        "at once": b"last",
    }


# --- Crowds ------------------------------------------------------------------------------------


async def test_indexes_are_gapless_and_in_the_order_of_commits(fresh: Any) -> None:
    """Sixteen clients over two ledgers, as two processes: what was answered before a request was
    made has a smaller index than what that request recorded.
    """
    answered = -1

    async def client(ledger: Ledger) -> None:
        nonlocal answered
        for i in range(25):
            known = answered
            appended = await append(ledger, *(evidence() for _ in range(1 + i % 3)))
            indexes = [record.position.index for record in appended.records]
            assert indexes == list(range(indexes[0], indexes[0] + len(indexes)))
            assert indexes[0] > known
            answered = max(answered, indexes[-1])

    async with writing(fresh) as one, writing(fresh) as two:
        await asyncio.gather(*(client(ledger) for ledger in (one, two) for _ in range(8)))
        assert one.committed == two.committed == 200
        assert one.batches + two.batches < 400, "nothing was committed in groups"
    assert len(await everything(fresh)) == 2 * 8 * (8 * 6 + 1)


async def test_what_rests_on_a_stream_comes_after_what_moved_it(fresh: Any) -> None:
    """Each adds one to what it read, over two ledgers; a lost update would be a smaller sum."""
    stream = "model:m@1"

    async def client(ledger: Ledger, database: Database) -> None:
        added = 0
        while added < 5:
            async with database.reading() as connection:
                versions = await records.stream_versions(connection, [stream])
                before = await records.record_at(connection, versions[stream] - 1)
            total = 1 if before is None else orjson.loads(before.document)["total"] + 1
            draft = evidence(total=total)
            with contextlib.suppress(Stale):
                await append(ledger, draft, rests_on=versions, touches=[stream])
                added += 1

    database = Database(fresh.service, throwaway=True)
    async with writing(fresh) as one, writing(fresh) as two:
        await asyncio.gather(*(client(ledger, database) for ledger in (one, two) for _ in range(3)))
        assert one.stale + two.stale > 0, "nobody met anybody"
    await database.close()
    totals = [orjson.loads(record.document)["total"] for record in await everything(fresh)]
    assert totals == list(range(1, 31))


async def test_writers_that_touch_the_same_in_another_order_do_not_block_each_other(
    fresh: Any,
) -> None:
    """The head is the one lock, and whoever has it waits for nobody."""
    names = [f"model:{letter}@1" for letter in "abcdefgh"]

    async def client(ledger: Ledger, number: int) -> None:
        touched = names[::-1] if number % 2 else names
        for _ in range(10):
            await append(ledger, evidence(), touches=touched)

    async with writing(fresh) as one, writing(fresh) as two:
        clients = (client(ledger, n) for n, ledger in enumerate((one, two, one, two)))
        await asyncio.gather(*clients)
        assert one.failed == two.failed == 0
    (row,) = await as_superuser(
        fresh, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    assert row["deadlocks"] == 0
    assert len(await everything(fresh)) == 40


async def test_a_thousand_are_recorded_at_once_and_no_more(ledger: Ledger, fresh: Any) -> None:
    await append(ledger, *(determination() for _ in range(1000)))
    for drafts in ([], [determination()] * 1001):
        with pytest.raises(ValueError):
            await append(ledger, *drafts)
    assert len(await everything(fresh)) == 1000


# --- What moves meanwhile ----------------------------------------------------------------------


async def test_what_moved_since_it_was_read_is_stale(ledger: Ledger, fresh: Any) -> None:
    await append(ledger, evidence(), touches=["model:m@1", "model:n@1"])
    with pytest.raises(Stale) as stale:
        await append(
            ledger, determination(), rests_on={"model:m@1": 0, "model:n@1": 1, "model:o@1": 0}
        )
    assert stale.value.moved == {"model:m@1"}
    await append(ledger, determination(), rests_on={"model:m@1": 1, "model:o@1": 0})
    assert len(await everything(fresh)) == 2


async def test_what_moves_in_the_same_batch_is_stale_too(ledger: Ledger, fresh: Any) -> None:
    """All read version 0; the first to be settled moves it, and the others decide again."""
    resting: dict[str, Any] = {"rests_on": {"model:m@1": 0}}
    answers = await in_one_batch(
        ledger,
        fresh,
        append(ledger, evidence(), touches=["model:m@1"], **resting),
        append(ledger, determination(), **resting),
        append(ledger, evidence(), touches=["model:m@1"], **resting),
        append(ledger, determination(), rests_on={"model:n@1": 0}),
    )
    assert [type(answer) for answer in answers] == [Appended, Stale, Stale, Appended]


async def test_a_request_that_failed_moves_nothing(ledger: Ledger, fresh: Any) -> None:
    answers = await in_one_batch(
        ledger,
        fresh,
        append(ledger, determination(failing), touches=["model:m@1"]),
        append(ledger, determination(), rests_on={"model:m@1": 0}),
    )
    assert [type(answer) for answer in answers] == [ZeroDivisionError, Appended]


# --- The same request again --------------------------------------------------------------------


async def test_the_same_key_gives_what_was_recorded(ledger: Ledger, fresh: Any) -> None:
    first = await append(ledger, evidence(), evidence(), key=key("k"), touches=["model:m@1"])
    # It rested on a version that its own recording moved: a replay does not look at that.
    again = await append(ledger, evidence(), key=key("k"), rests_on={"model:m@1": 0})
    assert again == Appended(first.records, replayed=True)
    assert len(await everything(fresh)) == 2


async def test_the_same_key_for_another_request_is_refused(ledger: Ledger, fresh: Any) -> None:
    await append(ledger, evidence(), key=key("k"))
    with pytest.raises(IdempotencyKeyReused):
        await append(ledger, evidence(), key=key("k", "another request"))
    await append(ledger, evidence(), key=key("k", credential="key_b"))
    assert len(await everything(fresh)) == 2


async def test_the_same_key_many_times_at_once_records_once(fresh: Any) -> None:
    async with writing(fresh) as one, writing(fresh) as two:
        answers = await asyncio.gather(
            *(append(ledger, evidence(), key=key("k")) for ledger in (one, two) for _ in range(10))
        )
    assert len({answer.records for answer in answers}) == 1
    assert one.failed == two.failed == 0, "the database refused what should have waited"
    assert sum(answer.replayed for answer in answers) == 19
    assert len(await everything(fresh)) == 1


async def test_a_key_of_which_the_first_use_failed_may_be_used_again(
    ledger: Ledger, fresh: Any
) -> None:
    answers = await in_one_batch(
        ledger,
        fresh,
        append(ledger, determination(failing), key=key("k")),
        append(ledger, determination(), key=key("k")),
        append(ledger, determination(), key=key("k")),
    )
    assert isinstance(answers[0], ZeroDivisionError)
    assert [a.replayed for a in answers if isinstance(a, Appended)] == [False, True]


async def test_a_replay_waits_for_the_lock_as_well(ledger: Ledger, fresh: Any) -> None:
    """So it waits for a standby, too, and never shows what a failover may still lose."""
    await append(ledger, evidence(), key=key("k"))
    async with head_locked(fresh):
        again = asyncio.create_task(append(ledger, evidence(), key=key("k")))
        await asyncio.sleep(0.1)
        assert not again.done()
    assert (await again).replayed


# --- What is wrong with one request -----------------------------------------------------------


def not_storable() -> Draft:
    return evidence("asm_\x00")


def not_one_of_three() -> Draft:
    return determination(decision="perhaps")


def not_bytes() -> Draft:
    return determination(lambda _: "text")  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    ("draft", "told"),
    [
        (not_storable, InvalidDocument),
        (lambda: evidence("asm_taken"), AlreadyRecorded),
        (not_one_of_three, LedgerFault),
        (lambda: determination(failing), ZeroDivisionError),
        (not_bytes, TypeError),
    ],
)
async def test_a_bad_request_fails_alone(
    ledger: Ledger, fresh: Any, draft: Callable[[], Draft], told: type[Exception]
) -> None:
    await append(ledger, evidence("asm_taken"))
    requests = [append(ledger, evidence()) for _ in range(40)]
    requests.insert(17, append(ledger, evidence(), draft(), evidence()))
    answers = await in_one_batch(ledger, fresh, *requests)

    assert isinstance(answers.pop(17), told)
    assert all(isinstance(answer, Appended) for answer in answers)
    assert ledger.refused == 1
    assert len(await everything(fresh)) == 1 + 1 + 40, "a part of the bad request was recorded"


async def test_a_taken_name_is_named(ledger: Ledger) -> None:
    await append(ledger, evidence("asm_taken"))
    with pytest.raises(AlreadyRecorded) as refused:
        await append(ledger, evidence(), evidence("asm_taken"))
    assert (refused.value.kind, refused.value.name) == ("assessment", "asm_taken")
    assert refused.value.message == "another has its subject"


async def test_a_slow_request_delays_its_neighbours_and_fails_none(
    ledger: Ledger, fresh: Any
) -> None:
    """A document takes half a second to build, under the lock that all others wait for."""

    def slow(_: Moment) -> bytes:
        time.sleep(0.5)
        return canonical_json({"id": "slow"})

    requests = [append(ledger, evidence()) for _ in range(40)]
    requests.insert(17, append(ledger, determination(slow)))
    answers = await in_one_batch(ledger, fresh, *requests)

    assert all(isinstance(answer, Appended) for answer in answers)
    assert len(await everything(fresh)) == 1 + 41


# --- What is wrong with the database, and with time --------------------------------------------


async def test_a_request_that_is_cancelled_while_it_waits_leaves_no_trace(
    ledger: Ledger, fresh: Any
) -> None:
    async with head_locked(fresh):
        first = asyncio.create_task(append(ledger, evidence()))
        await asyncio.sleep(0.05)
        cancelled = asyncio.create_task(append(ledger, evidence("asm_cancelled")))
        last = asyncio.create_task(append(ledger, evidence()))
        await asyncio.sleep(0.05)
        cancelled.cancel()
        await asyncio.sleep(0)
        assert ledger.queued == 1
    await asyncio.gather(first, last)
    assert "asm_cancelled" not in {record.subject for record in await everything(fresh)}


async def test_a_request_that_is_cancelled_under_way_is_recorded_or_not_but_whole(
    ledger: Ledger, fresh: Any
) -> None:
    """Its caller has gone; the batch ends as it will, for the others in it."""
    async with head_locked(fresh):
        under_way = asyncio.create_task(append(ledger, evidence(), evidence()))
        await asyncio.sleep(0.05)
        under_way.cancel()
    await append(ledger, evidence())
    assert len(await everything(fresh)) == 3


async def test_a_full_queue_refuses_at_once(fresh: Any) -> None:
    async with writing(fresh, most_waiting=2) as ledger:
        async with head_locked(fresh):
            under_way = asyncio.create_task(append(ledger, evidence()))
            await asyncio.sleep(0.05)
            waiting = [asyncio.create_task(append(ledger, evidence())) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(Unavailable) as refused:
                await append(ledger, evidence())
        assert refused.value.reason == "queue-full"
        await asyncio.gather(under_way, *waiting)
    assert len(await everything(fresh)) == 3


async def test_who_waits_too_long_is_told_what_is_known(fresh: Any) -> None:
    """One whose batch had begun cannot be told that nothing was recorded; one that queued can."""
    async with writing(fresh, deadline_seconds=0.3) as ledger:
        async with head_locked(fresh):
            answers = await asyncio.gather(
                append(ledger, evidence()),
                asyncio.sleep(0.05),
                *(append(ledger, evidence()) for _ in range(2)),
                return_exceptions=True,
            )
        reasons = [a.reason for a in answers if isinstance(a, Unavailable)]
        assert set(reasons) <= {"outcome-unknown", "database"}
        assert len(reasons) == 3
        await append(ledger, evidence())
    assert len(await everything(fresh)) == 1, "what was given up was recorded after all"


async def test_a_lock_that_is_not_had_is_contention(ledger: Ledger, fresh: Any) -> None:
    async with head_locked(fresh):
        with pytest.raises(Unavailable) as refused:
            await append(ledger, evidence())
    assert refused.value.reason == "contention"
    await append(ledger, evidence())


WRITER = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'aslgate'"


async def test_a_connection_that_is_cut_while_idle_is_made_anew(ledger: Ledger, fresh: Any) -> None:
    await append(ledger, evidence())
    await as_superuser(fresh, f"SELECT pg_terminate_backend(pid) {WRITER}")
    await asyncio.sleep(0.05)
    await append(ledger, evidence())
    assert len(await everything(fresh)) == 2


async def test_a_connection_that_is_cut_before_its_commit_recorded_nothing(
    ledger: Ledger, fresh: Any
) -> None:
    async with head_locked(fresh):
        requests = [asyncio.create_task(append(ledger, evidence())) for _ in range(3)]
        await asyncio.sleep(0.05)
        await as_superuser(fresh, f"SELECT pg_terminate_backend(pid) {WRITER}")
        answers = await asyncio.gather(*requests, return_exceptions=True)
    assert [a.reason for a in answers if isinstance(a, Unavailable)] == ["database"] * 3
    await append(ledger, evidence())
    assert len(await everything(fresh)) == 1


async def test_a_server_that_hangs_is_given_up_and_left_behind(fresh: Any) -> None:
    async with writing(fresh, deadline_seconds=0.5) as ledger:
        ((pid,),) = await as_superuser(fresh, f"SELECT pid {WRITER}")
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(Unavailable) as refused:
                await append(ledger, evidence())
            assert refused.value.reason in ("database", "outcome-unknown")
            await append(ledger, evidence())
        finally:
            os.kill(pid, signal.SIGCONT)
    assert len(await everything(fresh)) == 1


@asynccontextmanager
async def standby_missing(fresh: Any) -> AsyncIterator[None]:
    """Commits wait for a standby that never comes; only where commits wait for anything."""
    database = fresh.superuser.database
    await as_superuser(fresh, f"ALTER DATABASE {database} SET synchronous_commit = on")
    try:
        yield
    finally:
        await as_superuser(
            fresh, "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()"
        )


async def test_a_commit_whose_wait_was_cancelled_is_not_a_success(fresh: Any) -> None:
    """Postgres then answers COMMIT with success and a warning, though a failover may lose it."""
    async with standby_missing(fresh), writing(fresh) as ledger:
        await append(ledger, evidence())
        await as_superuser(
            fresh,
            "ALTER SYSTEM SET synchronous_standby_names = 'nobody'",
            "SELECT pg_reload_conf()",
        )
        await asyncio.sleep(0.2)
        waiting = asyncio.create_task(append(ledger, evidence("asm_2"), key=key("k")))
        await asyncio.sleep(0.2)
        cancelled = await as_superuser(fresh, f"SELECT pg_cancel_backend(pid) {WRITER}")
        assert cancelled
        with pytest.raises(Unavailable) as refused:
            await waiting
        assert refused.value.reason == "outcome-unknown"
        assert ledger.unknown == 1
        await as_superuser(
            fresh, "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()"
        )
        # With the standby back, the key tells which of the two it was.
        assert (await append(ledger, evidence("asm_2"), key=key("k"))).replayed
    assert len(await everything(fresh)) == 2


async def test_a_commit_that_waits_too_long_is_unknown_at_the_deadline(fresh: Any) -> None:
    """The caller is told in time, and the commit is left to end: cancelling it would look like
    success. What queued behind it is told that it was not recorded.
    """
    async with standby_missing(fresh), writing(fresh, deadline_seconds=0.5) as ledger:
        await as_superuser(
            fresh,
            "ALTER SYSTEM SET synchronous_standby_names = 'nobody'",
            "SELECT pg_reload_conf()",
        )
        await asyncio.sleep(0.2)
        committing = asyncio.create_task(append(ledger, evidence("asm_1"), key=key("k")))
        await asyncio.sleep(0.1)
        answers = await asyncio.gather(
            committing, append(ledger, evidence()), return_exceptions=True
        )
        assert [a.reason for a in answers if isinstance(a, Unavailable)] == [
            "outcome-unknown",
            "database",
        ]
        await as_superuser(
            fresh, "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()"
        )
        assert (await append(ledger, evidence(), key=key("k"))).replayed
    assert [record.subject for record in await everything(fresh)] == ["asm_1"]


async def test_a_service_starts_while_others_write(fresh: Any) -> None:
    """Of a head that is always being advanced the name can be read all the same."""
    async with writing(fresh) as ledger:
        await append(ledger, evidence())
    other = await asyncpg.connect(str(fresh.superuser))
    try:
        async with other.transaction():
            await other.execute(
                "UPDATE ledger_head SET size = size + 1, root = sha256('a'), frontier = sha256('a')"
            )
            async with asyncio.timeout(0.9), writing(fresh):
                pass
    finally:
        await other.close()


async def test_nothing_is_recorded_while_the_clock_is_behind(ledger: Ledger, fresh: Any) -> None:
    """Time never goes back in the ledger, and it does not stand still for hours either."""
    await as_superuser(
        fresh,
        "UPDATE ledger_head SET size = 1, last_at = clock_timestamp() + interval '1 h', "
        "root = sha256('a'), frontier = sha256('a')",
    )
    with pytest.raises(Unavailable, match="clock"):
        await append(ledger, evidence())


async def test_time_stands_still_where_the_clock_is_a_little_behind(
    ledger: Ledger, fresh: Any
) -> None:
    """Clocks of two servers differ by less than this; no entry is older than the one before."""
    await append(ledger, evidence())
    await as_superuser(
        fresh,
        "ALTER TABLE ledger_head DISABLE TRIGGER only_advances",
        "UPDATE ledger_head SET last_at = clock_timestamp() + interval '0.9 s'",
    )
    ((last_at,),) = await as_superuser(fresh, "SELECT last_at FROM ledger_head")
    appended = await append(ledger, evidence())
    assert appended.records[0].position.at == last_at
    await everything(fresh)


async def test_a_ledger_that_was_put_back_is_not_written_to(ledger: Ledger) -> None:
    await append(ledger, evidence())
    ledger.size = 7  # as if another six had been seen before the database was put back
    with pytest.raises(LedgerFault, match="had 7 entries"):
        await append(ledger, evidence())


# --- Beginning and end -------------------------------------------------------------------------


async def test_closing_records_what_waits_and_refuses_what_comes(fresh: Any) -> None:
    async with writing(fresh) as ledger:
        waiting = [asyncio.create_task(append(ledger, evidence())) for _ in range(300)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(ledger.close())
        await asyncio.sleep(0)
        with pytest.raises(Unavailable) as refused:
            await append(ledger, evidence())
        assert refused.value.reason == "stopping"
        await closing
        assert all(task.done() for task in waiting)
        await asyncio.gather(*waiting)
    assert len(await everything(fresh)) == 300


@asynccontextmanager
async def another_on(fresh: Any) -> AsyncIterator[Ledger]:
    """A ledger on the same database that was not started yet."""
    database = Database(fresh.service, throwaway=True)
    other = Ledger(database)
    try:
        yield other
    finally:
        await other.close()
        await database.close()


async def test_a_log_never_changes_its_name(ledger: Ledger, fresh: Any) -> None:
    async with another_on(fresh) as other:
        with pytest.raises(LedgerFault, match="never changes its name"):
            await other.initialise("another.example.com/aslgate")


async def test_a_ledger_without_a_name_does_not_start(fresh: Any) -> None:
    async with another_on(fresh) as other:
        with pytest.raises(LedgerFault, match="no name yet"):
            await other.start()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE ledger_head SET size = size + 1",
        "UPDATE ledger_head SET size = size - 1",
        "UPDATE ledger_head SET size = size + 1, frontier = frontier || frontier",
        "UPDATE ledger_head SET last_at = last_at + interval '1 s'",
        "UPDATE ledger_head SET root = sha256('another')",
        "UPDATE ledger_head SET root = sha256('another'), frontier = sha256('another')",
        r"""UPDATE ledger_entry SET entry = 'another',
            leaf_hash = sha256('\x00'::bytea || 'another') WHERE index = 0""",
    ],
)
async def test_a_ledger_whose_head_and_entries_disagree_does_not_start(
    fresh: Any, damage: str
) -> None:
    async with writing(fresh) as ledger:
        await append(ledger, evidence(), evidence())
    await as_superuser(
        fresh,
        "ALTER TABLE ledger_head DISABLE TRIGGER only_advances",
        "ALTER TABLE ledger_head DROP CONSTRAINT the_frontier_has_a_hash_for_each_bit_of_the_size",
        "ALTER TABLE ledger_entry DISABLE TRIGGER never_changed",
        damage,
    )
    async with another_on(fresh) as other:
        with pytest.raises(LedgerFault):
            await other.start()


async def test_a_ledger_whose_database_is_not_there_does_not_start() -> None:
    other = Ledger(Database("postgresql://nobody@127.0.0.1:1/aslgate"))
    with pytest.raises(Unavailable):
        await other.start()
    with pytest.raises(Unavailable):
        await append(other, evidence())
    await other.close()
