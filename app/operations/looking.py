"""Looking at the ledger's entries, each by itself: here, or in several processes at once.

What is seen of one entry does not hang on another, so who has cores to spare looks at many ranges at
a time. A process of ours gets ranges on its standard input, each as a pickle, and answers with what
it saw. It ends with whoever started it.

Where the time goes, benchmarks/verify.py shows: of a determination of 3 kB a quarter is the
database's, which stores it compressed, and a fifth is reading its JSON.
"""

import asyncio
import contextlib
import gc
import pickle
import sys
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

from app.errors import Unavailable
from app.ledger.filing import misfiled
from app.ledger.tiles import WIDTH
from app.ledger.verification import Finding, StoredEntry, Stretch, look
from app.storage import whole_ledger
from app.storage.database import Database
from app.storage.embedded import PostgresAddress
from app.storage.whole_ledger import Page

RANGE: Final = 16 * WIDTH
"""How many indexes are looked at in one go: whole tiles, whose hashes are then made with it."""

WORTH_ENTRIES: Final = 8 * RANGE
"""From how many entries on several processes are quicker, which take half a second to start."""

_AHEAD: Final = 2
"""How many ranges each process is given at once, so that none waits for the others."""

_LENGTH_BYTES: Final = 8


@dataclass(slots=True)
class Looked:
    """What was seen of a range of indexes, or of a part of one; and, where that was here, of what.

    `misfiled` has what could not be read, too.
    """

    stretches: list[Stretch] = field(default_factory=list)
    misfiled: list[Finding] = field(default_factory=list)
    entries: list[StoredEntry] = field(default_factory=list)


def look_at(log: str, page: Page) -> Looked:
    """What is seen of a page's entries, and of the rows by which they are found."""
    seen = look(log, page.entries)
    return Looked(seen, list(page.faults or misfiled(page.entries, page.filed)), page.entries)


async def looked_at(connection: Any, log: str, indexes: range) -> AsyncGenerator[Looked, None]:
    """What is seen of those indexes of the ledger, in their order. Raises `Unavailable`."""
    for some in _ranges(indexes):
        async for page in whole_ledger.pages(connection, some):
            # Off the event loop, on which others may wait for their answers.
            yield await asyncio.to_thread(look_at, log, page)


async def looked_at_by(
    processes: int, database: Database, log: str, indexes: range
) -> AsyncGenerator[Looked, None]:
    """The same, by so many processes; without the entries. Raises `Unavailable`."""
    async with AsyncExitStack() as stack:
        started = [
            await stack.enter_async_context(_started(database.address, log))
            for _ in range(processes)
        ]
        ranges = _ranges(indexes)
        asked = deque[asyncio.subprocess.Process]()
        for process, some in zip(started * _AHEAD, ranges, strict=False):
            _ask(process, some)
            asked.append(process)
        while asked:
            process = asked.popleft()
            seen = await _answer(process)
            if (more := next(ranges, None)) is not None:
                _ask(process, more)
                asked.append(process)
            yield seen


def _ranges(indexes: range) -> Iterator[range]:
    """*indexes* in ranges of whole tiles, but for the first and the last one."""
    first = indexes.start
    while first < indexes.stop:
        end = min(indexes.stop, (first // RANGE + 1) * RANGE)
        yield range(first, end)
        first = end


# --- The processes -----------------------------------------------------------------------------

_PROGRAM: Final = "from app.operations.looking import be_asked; be_asked()"


@asynccontextmanager
async def _started(
    address: str | PostgresAddress, log: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        # Whoever started us may stand in somebody else's directory, with an `app` of theirs in it.
        "-P",
        "-c",
        _PROGRAM,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        # Whoever interrupts us from a terminal means us alone: it ends with us.
        start_new_session=True,
    )
    try:
        _ask(process, (address, log))
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _ask(process: asyncio.subprocess.Process, what: object) -> None:
    assert process.stdin is not None
    process.stdin.write(pickle.dumps(what))


async def _answer(process: asyncio.subprocess.Process) -> Looked:
    assert process.stdout is not None
    try:
        length = int.from_bytes(await process.stdout.readexactly(_LENGTH_BYTES), "big")
        answer = pickle.loads(await process.stdout.readexactly(length))  # noqa: S301 - we wrote it
    except asyncio.IncompleteReadError as error:
        message = "a process that read the ledger has ended before its time; ask again"
        raise Unavailable("database", message) from error
    if isinstance(answer, Exception):
        raise answer
    assert isinstance(answer, Looked)
    return answer


def be_asked() -> None:
    """The program of such a process."""
    # Nothing that is made of an entry refers to itself; looking for what does would take as long as
    # hashing.
    gc.freeze()
    gc.set_threshold(1_000_000)
    # Nobody waits for an answer any more, or for the next question.
    with contextlib.suppress(EOFError, BrokenPipeError):
        asyncio.run(_be_asked(sys.stdin.buffer, sys.stdout.buffer))


async def _be_asked(questions: BinaryIO, answers: BinaryIO) -> None:
    def answer(what: Looked | Exception) -> None:
        written = pickle.dumps(what)
        answers.write(len(written).to_bytes(_LENGTH_BYTES, "big") + written)
        answers.flush()

    address, log = pickle.load(questions)  # noqa: S301 - from who started us
    database = Database(address, audits=True)
    try:
        async with whole_ledger.reading(database) as connection:
            while True:
                seen = Looked()
                async for page in whole_ledger.pages(connection, pickle.load(questions)):  # noqa: S301
                    part = look_at(log, page)
                    seen.stretches += part.stretches
                    seen.misfiled += part.misfiled
                answer(seen)
    except Unavailable as error:
        answer(error)
