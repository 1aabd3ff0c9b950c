"""The database: how it is reached, how long we wait for it, which servers are fit, how its tables
come to be.

asyncpg reads the address, not SQLAlchemy, so that a libpq URL works as it was given. It may name
several servers, of which one is written to: after a failover another one answers. Every wait ends
below the two seconds that a request may take. Reads see one snapshot and cannot write; the ledger's
writer has a connection of its own, so no crowd of readers can keep it waiting.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from app.errors import Unavailable
from app.storage import rights
from app.storage.embedded import PostgresAddress

OLDEST_SERVER: Final = 15
READERS: Final = 8
DECIDERS: Final = 4
"""Connections on which only what every decision needs is read: whoever reads slowly has none of them."""
ACQUIRE_SECONDS: Final = 0.25
CONNECT_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 1.75
"""How long one block of reads may take in all."""

LEAST_SECONDS: Final = 0.5
"""What one block of reads may take however late it begins."""


@dataclass(frozen=True, slots=True)
class Request:
    """The request that is served: when it came, by the monotonic clock, and whether it only reads."""

    begun: float
    only_reads: bool


REQUEST: Final[ContextVar[Request | None]] = ContextVar("request", default=None)
"""That for which this runs; `None`: for none."""

CLOCK_SKEW: Final = timedelta(seconds=5)
"""How far the clocks of the service and of the database may be apart. What is decided by the one is
recorded by the other, so beyond this nothing is.
"""

DATABASE: Final = "aslgate"
OWNER: Final = "aslgate_owner"
SERVICE: Final = "aslgate_service"

_SESSION: Final = {
    "application_name": "aslgate",
    "timezone": "UTC",
    # Milliseconds. An abandoned transaction of ours may hold the ledger's head no longer than this.
    "statement_timeout": "1500",
    "lock_timeout": "1000",
    "idle_in_transaction_session_timeout": "3000",
    # Every statement is short, and compiling one takes longer than running it.
    "jit": "off",
}
_AUDITOR: Final = {
    "application_name": "aslgate-audit",
    "default_transaction_read_only": "on",
    "statement_timeout": "120000",
    "idle_in_transaction_session_timeout": "120000",
}
_MIGRATION_LOCK: Final = 0x61736C67
# What libpq knows and asyncpg would pass on to the server, which does not.
_LIBPQ_ONLY: Final = frozenset(
    {
        "connect_timeout",
        "channel_binding",
        "fallback_application_name",
        "gssencmode",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "load_balance_hosts",
        "sslcompression",
        "tcp_user_timeout",
    }
)
# Connection lost, resources, operator, system; also lock time-outs, deadlocks and read-only servers.
_TROUBLE: Final = frozenset({"08", "25", "40", "53", "55", "57", "58", "XX"})

DatabaseConnection = AsyncConnection
"""What `Database.reading` and `Database.writing` give."""

UNREACHABLE: Final = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    # When it is asked for something between the server's last word, that it dies, and its hanging up.
    asyncpg.InternalClientError,
)
"""What asyncpg raises when it cannot connect; a time-out is an `OSError`."""


REPLICATED: Final = (
    "(current_setting('synchronous_standby_names') <> '' "
    "AND current_setting('synchronous_commit') <> 'local')"
)
"""Whether a commit waits for a standby, in SQL. The server sees a change of it at each statement."""

NOT_REPLICATED: Final = (
    "a replica is required, and no commit would wait for one: `synchronous_standby_names` is empty, "
    "or `synchronous_commit` is `local`"
)
"""Why nothing is recorded where a replica is required and `REPLICATED` does not hold."""


def seconds_left(seconds: float, *, least: float) -> float:
    """How long may be waited now for a request that may take *seconds* in all: some of them are over.

    Waits that follow each other, each within its own time, would else add up.
    """
    request = REQUEST.get()
    if request is None:
        return seconds
    return min(seconds, max(least, request.begun + seconds - time.monotonic()))


@contextmanager
def taking_longer(seconds: float) -> Iterator[None]:
    """Let the request that is served take so much longer in all: it asks for many things at once. No
    single wait becomes longer by that.
    """
    request = REQUEST.get()
    if request is None:
        yield
        return
    token = REQUEST.set(replace(request, begun=request.begun + seconds))
    try:
        yield
    finally:
        REQUEST.reset(token)


@contextmanager
def only_reading() -> Iterator[None]:
    """Let the request that is served count as one that only reads, whatever its method: it leaves the
    connections alone that are kept for those who decide.
    """
    request = REQUEST.get()
    if request is None:
        yield
        return
    token = REQUEST.set(replace(request, only_reads=True))
    try:
        yield
    finally:
        REQUEST.reset(token)


def skew(database: datetime, asked: datetime, answered: datetime) -> str | None:
    """Why nothing is recorded: the clock of the *database*, which was asked for it and answered at
    those times by ours, is too far from it; `None`: it is not.
    """
    off = max(asked - database, database - answered)
    if off <= CLOCK_SKEW:
        return None
    where = "behind" if database < asked else "ahead of"
    return (
        f"the database's clock is {off.total_seconds():.0f} s {where} this server's: "
        "nothing is decided until they agree"
    )


class UnfitServer(Exception):
    """A server that we will not keep records in; `str()` of it is one sentence that says why."""


class UnusableAddress(Exception):
    """An address that names no Postgres database, or asks for what cannot be had."""


def libpq_url(address: str | PostgresAddress) -> str:
    """*address* as asyncpg reads it: a libpq URL, without what only libpq understands.

    Raises `UnusableAddress`.
    """
    url = str(address).replace("postgresql+asyncpg://", "postgresql://", 1)
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UnusableAddress(f"the database address cannot be used: {error}") from error
    if parts.scheme not in ("postgresql", "postgres"):
        raise UnusableAddress("a database address begins with `postgresql://`")
    query = parse_qsl(parts.query, keep_blank_values=True)
    # Leaving this out would be less safe than what was asked for.
    if ("channel_binding", "require") in query:
        raise UnusableAddress(
            "`channel_binding=require` is not supported: use `sslmode=verify-full` without it"
        )
    kept = urlencode([(k, v) for k, v in query if k not in _LIBPQ_ONLY], quote_via=quote, safe="/")
    return urlunsplit(parts._replace(query=kept))


class _Servers:
    """The servers that an address names, the one that answered last before the others.

    asyncpg would give the first of them all the time that there is. A machine that is gone refuses
    nothing, it only never answers, so each server is asked for its share of the time.
    """

    def __init__(self, url: str, *, written_to: bool) -> None:
        self._urls = each_server(url, "read-write" if written_to else "primary")

    async def connect(self, *, seconds: float, **how: Any) -> Any:
        """A connection to the first one that answers and is what the address asks for.

        Raises `UnusableAddress`, or of `UNREACHABLE` what the last of them failed with.
        """
        failed: Exception | None = None
        for url in self._urls:
            try:
                connection = await asyncpg.connect(url, timeout=seconds / len(self._urls), **how)
            except ValueError as error:
                raise UnusableAddress(f"the database address cannot be used: {error}") from error
            except UNREACHABLE as error:
                failed = error
            else:
                self._urls = [url, *(other for other in self._urls if other != url)]
                return connection
        assert failed is not None, "an address names a server"
        raise failed


def each_server(url: str, wanted: str) -> list[str]:
    """*url* for each server that it names alone, in its order. Of several we want the one that is
    *wanted* (libpq's `target_session_attrs`), unless the address itself says which.
    """
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    account, at, netloc = parts.netloc.rpartition("@")
    netlocs, hosts = netloc.split(","), query.get("host", "").split(",")
    asked = query.setdefault("target_session_attrs", wanted)
    # Of these no single server can say whether it is one.
    if asked == "prefer-standby" or max(len(netlocs), len(hosts)) == 1:
        return [url]
    if asked == "read-write" and wanted == "primary":
        # Who writes nothing has said so to the server, which then calls itself read-only.
        query["target_session_attrs"] = wanted
    alone: list[tuple[str, dict[str, str]]] = []
    if len(netlocs) > 1:
        if "[" in netloc:
            # Some Pythons read such a list, and some do not.
            raise UnusableAddress(
                "in the database address, IPv6 addresses of a list stand after host="
            )
        alone = [(f"{account}{at}{one}", query) for one in netlocs]
    else:
        ports = query.get("port", "").split(",")
        ports = ports * len(hosts) if len(ports) == 1 else ports
        if len(ports) != len(hosts):
            raise UnusableAddress("the database address names as many ports as hosts, or one")
        alone = [
            (parts.netloc, query | {"host": host} | ({"port": port} if port else {}))
            for host, port in zip(hosts, ports, strict=True)
        ]
    return [
        urlunsplit(parts._replace(netloc=where, query=urlencode(how, quote_via=quote, safe="/")))
        for where, how in alone
    ]


class _Reader(asyncpg.Connection):  # type: ignore[misc]
    """A pooled connection that hangs up at once: saying goodbye waits for a server that may hang.

    `warned`: whether the server has warned of something since that was last set to False.
    """

    warned = False

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109, ARG002
        """Close the socket. Postgres takes that for goodbye outside a transaction."""
        self.terminate()


class Database:
    """One Postgres database, by libpq URL or by the address of the embedded server.

    Nothing is connected before `open`. Of several servers in the URL the one is used that can be
    written to. `require_replica`: nothing is recorded unless a commit waits for a standby.
    `throwaway`: for tests, a server that forgets is fit too. `audits`: the server refuses every
    write, lets a statement take as long as an audit needs, and need not be fit, for nothing is
    recorded in it.
    """

    def __init__(
        self,
        address: str | PostgresAddress,
        *,
        require_replica: bool = False,
        throwaway: bool = False,
        audits: bool = False,
    ) -> None:
        self.address = address
        self._servers = _Servers(libpq_url(address), written_to=not audits)
        self.require_replica = require_replica
        self._throwaway = throwaway or audits
        self._session = _SESSION | (_AUDITOR if audits else {})
        self._engine, self._deciders = self._pool(READERS), self._pool(DECIDERS)
        snapshot: Any = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        self._reading = self._engine.execution_options(**snapshot)
        self._deciding = self._deciders.execution_options(**snapshot)

    def _pool(self, size: int) -> AsyncEngine:
        engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self._reader,
            pool_size=size,
            max_overflow=0,
            pool_timeout=ACQUIRE_SECONDS,
        )
        event.listen(engine.sync_engine, "checkout", _refuse_dead_connection)
        return engine

    async def open(self) -> None:
        """Connect once, and see that the server is fit.

        Raises `UnfitServer`, or `Unavailable` where it cannot be reached.
        """
        connection = await self.connect()
        await connection.close()

    async def close(self) -> None:
        """Let all readers' connections go."""
        await self._engine.dispose()
        await self._deciders.dispose()

    async def _reader(self) -> Any:
        connection = await self.connect(_Reader)
        connection.add_log_listener(_hear)
        return connection

    async def connect(self, kind: type[Any] = asyncpg.Connection) -> Any:
        """A new asyncpg connection of the caller's own, to a server that was seen to be fit.

        Seen each time, for after a failover another server may answer under the same address.
        """
        try:
            connection = await self._servers.connect(
                seconds=CONNECT_SECONDS, server_settings=self._session, connection_class=kind
            )
        except UNREACHABLE as error:
            message = "the database cannot be reached; ask again"
            raise Unavailable("database", message) from error
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await refuse_unfit(connection, throwaway=self._throwaway)
        except UNREACHABLE as error:
            connection.terminate()
            raise Unavailable("database", "the database went away; ask again") from error
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def lacks(self, connection: AsyncConnection) -> str | None:
        """What the server, as it is set now, lacks for anything to be recorded; `None`: nothing."""
        if self.require_replica and not await connection.scalar(text(f"SELECT {REPLICATED}")):
            return NOT_REPLICATED
        return None

    async def skew(self, connection: AsyncConnection) -> str | None:
        """Why nothing may be recorded for the clocks' sake; `None`: they agree."""
        asked = datetime.now(UTC)
        database = await connection.scalar(text("SELECT clock_timestamp()"))
        assert database is not None
        return skew(database, asked, datetime.now(UTC))

    @asynccontextmanager
    async def reading(
        self, *, seconds: float = ANSWER_SECONDS, to_decide: bool = False
    ) -> AsyncIterator[AsyncConnection]:
        """A connection on which all reads see the same snapshot, and nothing can be written.
        `to_decide`: one of those that are kept for that, for as long as its request may still take.

        Raises `Unavailable` where none is free in time, the block takes longer than *seconds*, or
        the database fails meanwhile, or is an unfit one by now.
        """
        engine = self._reading
        if to_decide:
            engine, seconds = self._deciding, seconds_left(seconds, least=LEAST_SECONDS)
        async with _within(seconds, engine.connect()) as connection:
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction for what is not in the ledger (keys): committed when the block ends well.

        Raises `Unavailable` as `reading` does, and where the server warns, as it does of a wait for
        a standby that was cancelled; then it may have been committed, or not.
        """
        async with _within(ANSWER_SECONDS, self._engine.begin()) as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            driver.warned = False
            yield connection
        if driver.warned:
            raise Unavailable(
                "outcome-unknown", "it is not known whether this will last; ask again"
            )


@asynccontextmanager
async def _within(
    seconds: float, connected: AbstractAsyncContextManager[AsyncConnection]
) -> AsyncIterator[AsyncConnection]:
    """The connection, for so long; then its socket is closed, and that is `Unavailable`.

    Cancelling alone is not enough: giving a connection back, which is a ROLLBACK, outlives a
    cancellation, and would wait for a server that hangs.
    """
    hang_up: asyncio.TimerHandle | None = None
    try:
        with _Trouble():
            async with asyncio.timeout(seconds), connected as connection:
                driver: Any = (await connection.get_raw_connection()).driver_connection
                hang_up = asyncio.get_running_loop().call_later(seconds, driver.terminate)
                yield connection
    finally:
        if hang_up is not None:
            hang_up.cancel()


def _hear(connection: Any, message: Any) -> None:
    # asyncpg calls this before it gives the result of what the server warns of.
    connection.warned |= message.severity_en == "WARNING"


def is_trouble(error: BaseException) -> bool:
    """Whether the connection, the server or its load is to blame, and not what was asked of it."""
    if isinstance(error, DBAPIError):
        state: str | None = getattr(error.orig, "sqlstate", None)
        return error.connection_invalidated or (state or "")[:2] in _TROUBLE
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "")[:2] in _TROUBLE
    return isinstance(error, UNREACHABLE)


class _Trouble:
    """Says `Unavailable` for what the database, not our statement, is to blame for."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, TimeoutError):
            raise Unavailable("database", "the database did not answer in time") from error
        if isinstance(error, UnfitServer):
            # Found out when it was opened, or it has come since: after a failover, say.
            raise Unavailable("database", str(error)) from error
        if isinstance(error, NoConnectionFree):
            raise Unavailable("database", "all readers are busy; ask again") from error
        if isinstance(error, DBAPIError):
            if is_trouble(error):
                raise Unavailable("database", "the database does not answer now") from error


def _refuse_dead_connection(connection: Any, record: object, proxy: object) -> None:
    # asyncpg knows when its socket has closed, so no round trip is spent on asking.
    del record, proxy
    if connection.driver_connection.is_closed():
        raise DisconnectionError


async def refuse_unfit(connection: Any, *, throwaway: bool = False) -> None:
    """Raise `UnfitServer` where the server is too old, or may forget what it has committed."""
    major = connection.get_server_version().major
    if major < OLDEST_SERVER:
        raise UnfitServer(f"Postgres {major} is too old: {OLDEST_SERVER} or newer is needed")
    if throwaway:
        return
    names = ("fsync", "full_page_writes", "synchronous_commit")
    row = await connection.fetchrow(f"SELECT {', '.join(f'current_setting({n!r})' for n in names)}")
    off = [f"`{name}`" for name, value in zip(names, row, strict=True) if value == "off"]
    if off:
        raise UnfitServer(
            f"{' and '.join(off)} {'is' if len(off) == 1 else 'are'} off: "
            "this server may lose what it has acknowledged, so nothing is recorded in it"
        )


# --- How the tables come to be -----------------------------------------------------------------


def prepare_roles(superuser: str | PostgresAddress) -> None:
    """Make the embedded server's database and its two roles, where they are missing.

    The owner's role makes the tables; the service's role owns nothing, and can only read and add.
    """
    asyncio.run(_prepare_roles(libpq_url(superuser)))


async def _prepare_roles(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _MIGRATION_LOCK)
        for role in (OWNER, SERVICE):
            if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
                await connection.execute(f"CREATE ROLE {role} LOGIN")
        exists = "SELECT 1 FROM pg_database WHERE datname = $1"
        if not await connection.fetchval(exists, DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {OWNER}")
    finally:
        await connection.close()


def migrate(owner: str | PostgresAddress, *, service_role: str) -> bool:
    """Bring the tables up to date, and give *service_role* its rights; whether that role was made.

    *owner* is the address with the credentials of the role that owns the tables. Several starters
    at once are safe: they queue for a lock. Raises `UnfitServer`, `UnfitRole`, `Unavailable`.
    """
    return asyncio.run(_migrate(libpq_url(owner), service_role))


async def _migrate(url: str, service_role: str) -> bool:
    servers = _Servers(url, written_to=True)

    async def connect() -> Any:
        # No time-outs but those of the migration itself: another starter's may take its time.
        try:
            connection = await servers.connect(seconds=10, server_settings={"timezone": "UTC"})
        except UNREACHABLE as error:
            raise Unavailable("database", f"the database cannot be reached: {error}") from error
        await refuse_unfit(connection, throwaway=True)
        return connection

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.execute(
                text("SELECT pg_advisory_lock(:key)"), {"key": _MIGRATION_LOCK}
            )
            made = await connection.run_sync(rights.make_role, service_role)
            await connection.commit()  # the lock is the session's
            await connection.run_sync(_upgrade)
            await connection.run_sync(rights.grant, service_role)
            await connection.commit()
    finally:
        await engine.dispose()
    return made


def migrations_folder() -> Path:
    """Where the migrations are: in the installed package, or in the repository of a checkout."""
    shipped = Path(__file__).parents[1] / "_shipped" / "migrations"
    return shipped if shipped.is_dir() else Path(__file__).parents[2] / "migrations"


def _config() -> Config:
    config = Config()
    # `%` is the configuration's own sign.
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _upgrade(connection: Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


@cache
def expected_revision() -> str:
    """The newest migration that this program brings."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None
    return revision


async def current_revision(connection: AsyncConnection) -> str | None:
    """The migration that the database is at; `None`: it has no tables of ours yet."""
    known = await connection.scalar(text("SELECT to_regclass('alembic_version')::text"))
    if known is None:
        return None
    revision: str | None = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision
