"""A migrated database of its own for each test, copied from a template."""

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from app.storage.database import OWNER, SERVICE, migrate, migrations_folder, prepare_roles
from app.storage.embedded import EmbeddedPostgres, PostgresAddress

TEMPLATE = "aslgate_template"
_numbers = itertools.count()


@dataclass(frozen=True)
class Fresh:
    """The addresses of a migrated, empty database, by role."""

    superuser: PostgresAddress
    owner: PostgresAddress
    service: PostgresAddress


def run(server: EmbeddedPostgres, *statements: str) -> Any:
    """Run statements as the superuser, each by itself; what the last one gives."""

    async def go() -> Any:
        connection = await asyncpg.connect(str(server.dsn()))
        try:
            given = None
            for statement in statements:
                given = await connection.fetch(statement)
            return given
        finally:
            await connection.close()

    return asyncio.run(go())


@pytest.fixture(scope="session")
def template(postgres: EmbeddedPostgres) -> str:
    prepare_roles(postgres.dsn())
    run(postgres, f"CREATE DATABASE {TEMPLATE} OWNER {OWNER}")
    migrate(postgres.dsn(TEMPLATE, OWNER), service_role=SERVICE)
    return TEMPLATE


@pytest.fixture
def empty_database(postgres: EmbeddedPostgres) -> Iterator[Fresh]:
    """A database without any tables."""
    prepare_roles(postgres.dsn())
    yield from _database(postgres, "template1")


@pytest.fixture
def fresh(postgres: EmbeddedPostgres, template: str) -> Iterator[Fresh]:
    yield from _database(postgres, template)


def _database(server: EmbeddedPostgres, template: str) -> Iterator[Fresh]:
    name = f"test_{next(_numbers)}"
    run(server, f"CREATE DATABASE {name} TEMPLATE {template} OWNER {OWNER} STRATEGY file_copy")
    yield Fresh(server.dsn(name), server.dsn(name, OWNER), server.dsn(name, SERVICE))
    run(server, f"DROP DATABASE {name} WITH (FORCE)")


def upgrade_to(owner: PostgresAddress, revision: str) -> None:
    """Migrate up to that revision, as a program of then would have."""

    def upgrade(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(migrations_folder()))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    async def run() -> None:
        async def connect() -> Any:
            return await asyncpg.connect(str(owner))

        engine = create_async_engine(
            "postgresql+asyncpg://", async_creator=connect, poolclass=NullPool
        )
        async with engine.connect() as connection:
            await connection.run_sync(upgrade)
            await connection.commit()
        await engine.dispose()

    asyncio.run(run())
