"""The real application over a migrated Postgres database of each test's own.

Requests go straight into the application (ASGI); its lifespan is run by hand around each test.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message

from app.main import create_app
from app.settings import Settings
from app.storage import keys
from app.storage.database import OWNER, SERVICE, Database, migrate, prepare_roles
from app.storage.embedded import EmbeddedPostgres
from app.storage.keys import EVERY_ROLE, Credential
from app.storage.store import OPERATOR, Store
from tests.http.documented import Documented
from tests.http.published import send_everything

TEMPLATE = "aslgate_http_template"
BOOTSTRAP_KEY = "bootstrap-key-of-the-tests-0123456789"
AT_FIRST = 1
"""How many entries the ledger of a new service has: that of its bootstrap key."""
_numbers = itertools.count()


@dataclass(frozen=True)
class NewKey:
    """A key, and whose it is."""

    credential: Credential
    text: str


@dataclass
class Service:
    """A running service: its application, its database, and clients for it."""

    app: FastAPI
    store: Store
    database: Database
    name: str
    server: EmbeddedPostgres
    documented: Documented

    def client(self, key: str | None) -> httpx.AsyncClient:
        """A client that calls with *key*; `None`: without any. It never follows a redirect."""
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app),
            base_url="http://aslgate.test",
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            event_hooks={"response": [self.documented.check]},
            timeout=30,
        )

    async def new_key(
        self,
        *roles: str,
        expires_in: timedelta | None = None,
        principal: str | None = None,
        policy_roles: Sequence[str] = (EVERY_ROLE,),
    ) -> NewKey:
        """A key of somebody's who has no other, unless *principal* says whose."""
        now = datetime.now(UTC)
        secret = keys.new_secret()
        credential = Credential(
            secret.id,
            principal or f"person:{next(_numbers)}",
            roles,
            tuple(policy_roles),
            expires_at=None if expires_in is None else now + expires_in,
        )
        await self.store.ledger.append(
            [keys.credential_draft(credential, secret, by=OPERATOR, now=now)],
            actor=OPERATOR,
            rests_on={},
            touches=(keys.CREDENTIALS_STREAM,),
        )
        return NewKey(credential, secret.text)

    async def as_owner(self, statement: str) -> None:
        """Do to the database what the service itself may not."""
        connection = await asyncpg.connect(str(self.server.dsn(self.name, OWNER)))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def get_as_written(self, path: str) -> httpx.Response:
        """GET that path just as it is written; an httpx client would tidy it first."""
        raw, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": unquote(raw),
            "raw_path": raw.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(b"authorization", f"Bearer {BOOTSTRAP_KEY}".encode())],
            "client": ("127.0.0.1", 1),
            "server": ("aslgate.test", 80),
        }
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        body = b"".join(message.get("body", b"") for message in sent[1:])
        return httpx.Response(sent[0]["status"], headers=sent[0]["headers"], content=body)

    async def cut_off(self, cut: bool) -> None:
        """Let no connection to the database be; or let them be again."""
        allowed = "false" if cut else "true"
        await _as_superuser(
            self.server, f"ALTER DATABASE {self.name} WITH ALLOW_CONNECTIONS {allowed}"
        )
        if cut:
            await _as_superuser(
                self.server,
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                f"WHERE datname = '{self.name}'",
            )

    async def size(self) -> int:
        """How many entries the ledger has."""
        connection = await asyncpg.connect(str(self.server.dsn(self.name, SERVICE)))
        try:
            size: int = await connection.fetchval("SELECT size FROM ledger_head")
            rows: int = await connection.fetchval("SELECT count(*) FROM ledger_entry")
        finally:
            await connection.close()
        assert rows == size, "the head and the entries disagree"
        return size

    async def entry(self, index: int) -> bytes:
        """The hashed envelope at that index."""
        connection = await asyncpg.connect(str(self.server.dsn(self.name, SERVICE)))
        try:
            entry: bytes = await connection.fetchval(
                "SELECT entry FROM ledger_entry WHERE index = $1", index
            )
        finally:
            await connection.close()
        return entry


async def _as_superuser(server: EmbeddedPostgres, statement: str) -> None:
    connection = await asyncpg.connect(str(server.dsn()))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def template(postgres: EmbeddedPostgres) -> str:
    """A migrated and empty database, to be copied."""
    prepare_roles(postgres.dsn())
    asyncio.run(_as_superuser(postgres, f"CREATE DATABASE {TEMPLATE} OWNER {OWNER}"))
    migrate(postgres.dsn(TEMPLATE, OWNER), service_role=SERVICE)
    return TEMPLATE


@asynccontextmanager
async def running(
    server: EmbeddedPostgres, template: str, *, name: str | None = None, **settings: Any
) -> AsyncIterator[Service]:
    """A service over a copy of *template*; the copy is dropped afterwards unless it has a *name*."""
    copy = name or f"http_{next(_numbers)}"
    create = f"CREATE DATABASE {copy} TEMPLATE {template} OWNER {OWNER} STRATEGY file_copy"
    await _as_superuser(server, create)
    database = Database(server.dsn(copy, SERVICE), throwaway=True)
    store = Store(
        database,
        deadline_seconds=10,
        bootstrap_key=BOOTSTRAP_KEY,
        bootstrap_policy_roles=(EVERY_ROLE,),
    )
    app = create_app(Settings(**settings), store)
    try:
        async with app.router.lifespan_context(app):
            yield Service(app, store, database, copy, server, Documented.of(app))
    finally:
        if name is None:
            await _as_superuser(server, f"DROP DATABASE {copy} WITH (FORCE)")


@pytest.fixture(scope="session")
def seeded_template(postgres: EmbeddedPostgres, template: str) -> str:
    """A database that holds the shipped policies, two models, and the evidence on them."""
    name = f"{TEMPLATE}_seeded"

    async def seed() -> None:
        async with (
            running(postgres, template, name=name) as service,
            service.client(BOOTSTRAP_KEY) as client,
            service.client((await service.new_key("policy-author", "approver")).text) as author,
        ):
            await send_everything(client, author)

    asyncio.run(seed())
    return name


@pytest.fixture
async def empty(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[Service]:
    """A service that has recorded nothing yet."""
    async with running(postgres, template) as started:
        yield started


@pytest.fixture
async def empty_client(empty: Service) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the empty service, with the bootstrap key, which may do everything."""
    async with empty.client(BOOTSTRAP_KEY) as client:
        yield client


@pytest.fixture
async def author(empty: Service) -> AsyncIterator[httpx.AsyncClient]:
    """A second client of the empty service, who may record policy versions."""
    async with empty.client((await empty.new_key("policy-author")).text) as client:
        yield client


@pytest.fixture
async def replica(empty: Service) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a second service over the empty service's database, with a memory of its own."""
    store = Store(Database(empty.server.dsn(empty.name, SERVICE), throwaway=True))
    app = create_app(Settings(), store)
    second = replace(empty, app=app, store=store, documented=Documented.of(app))
    async with app.router.lifespan_context(app), second.client(BOOTSTRAP_KEY) as client:
        yield client


@pytest.fixture
async def service(postgres: EmbeddedPostgres, seeded_template: str) -> AsyncIterator[Service]:
    """A service that has recorded the shipped policies, two models, and the evidence on them."""
    async with running(postgres, seeded_template) as started:
        yield started


@pytest.fixture
async def client(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """A client of that service with the bootstrap key, which may do everything."""
    async with service.client(BOOTSTRAP_KEY) as client:
        yield client


@pytest.fixture(scope="session")
async def one_for_all(postgres: EmbeddedPostgres, seeded_template: str) -> AsyncIterator[Service]:
    """One such service for the whole session."""
    async with running(postgres, seeded_template) as started:
        yield started


@pytest.fixture
async def standing(one_for_all: Service) -> AsyncIterator[Service]:
    """A service shared by all tests that record nothing, which is seen to after each of them."""
    size = await one_for_all.size()
    yield one_for_all
    assert await one_for_all.size() == size, "a test that records needs a `service` of its own"


@pytest.fixture
async def reader(standing: Service) -> AsyncIterator[httpx.AsyncClient]:
    """A client of that service with the bootstrap key."""
    async with standing.client(BOOTSTRAP_KEY) as client:
        yield client
