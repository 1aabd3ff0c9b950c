"""The service's role can do what it needs and nothing else, and is not served under if it can."""

import asyncio
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.errors import Unavailable
from app.operations.audit import Sweep
from app.storage import tables
from app.storage.database import DATABASE, OWNER, SERVICE, Database, migrate, prepare_roles
from app.storage.embedded import EmbeddedPostgres
from app.storage.rights import UnfitRole
from app.storage.store import Store
from tests.storage.conftest import Fresh, run

RIGHTS = Path(__file__).with_name("rights.txt")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
_numbers = itertools.count()


async def fetch(address: Any, statement: str, *values: Any) -> list[Any]:
    connection = await asyncpg.connect(str(address))
    try:
        return list(await connection.fetch(statement, *values))
    finally:
        await connection.close()


# --- What it may do -----------------------------------------------------------------------------

GRANTED = """
    SELECT c.relname AS of, acl.privilege_type AS right, NULL AS column
    FROM pg_class c, aclexplode(c.relacl) acl
    WHERE c.relnamespace = 'public'::regnamespace
        AND acl.grantee IN (0, $1::regrole)
    UNION ALL
    SELECT c.relname, acl.privilege_type, a.attname
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid, aclexplode(a.attacl) acl
    WHERE c.relnamespace = 'public'::regnamespace AND acl.grantee IN (0, $1::regrole)
    UNION ALL
    SELECT c.relname, '-', NULL FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
"""


async def rights_of(address: Any, role: str) -> str:
    """One line a table, with every right that the role, or everybody, has on it."""
    of: dict[str, list[str]] = {}
    changes: dict[str, list[str]] = {}
    for table, right, column in await fetch(address, GRANTED, role):
        words = of.setdefault(table, [])
        if column is not None:
            changes.setdefault(f"{table} {right}", []).append(column)
        elif right != "-":
            words.append(right)
    for name, columns in changes.items():
        table, _, right = name.partition(" ")
        of[table].append(f"{right}({', '.join(sorted(columns))})")
    lines = []
    for table, rights in sorted(of.items()):
        lines.append(f"{table:20} {' '.join(sorted(rights, key=_order))}".rstrip())
    return "\n".join(lines) + "\n"


def _order(right: str) -> tuple[int, str]:
    first = ("SELECT", "INSERT")
    return (first.index(right) if right in first else len(first)), right


async def test_the_service_has_exactly_these_rights(fresh: Any) -> None:
    """A new table needs a line there, and whoever reads the change sees what may be done with it."""
    assert await rights_of(fresh.superuser, SERVICE) == RIGHTS.read_text()


async def test_the_service_owns_nothing_and_belongs_to_nobody(fresh: Any) -> None:
    (row,) = await fetch(
        fresh.superuser,
        """SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls,
            EXISTS (SELECT FROM pg_auth_members WHERE member = r.oid),
            EXISTS (SELECT FROM pg_class WHERE relowner = r.oid)
                OR EXISTS (SELECT FROM pg_proc WHERE proowner = r.oid)
                OR EXISTS (SELECT FROM pg_namespace WHERE nspowner = r.oid)
                OR EXISTS (SELECT FROM pg_database WHERE datdba = r.oid)
        FROM pg_roles r WHERE rolname = $1""",
        SERVICE,
    )
    assert tuple(row) == (False, False, False)


async def test_no_record_can_be_changed_with_the_rights_of_the_service(fresh: Any) -> None:
    """Seen by trying, not by reading: the right is missing before any trigger is asked."""
    for table in tables.RECORDED:
        for column in table.columns:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await fetch(fresh.service, f'UPDATE {table.name} SET "{column.name}" = NULL')


# --- How it comes by them -----------------------------------------------------------------------


@pytest.fixture
def role(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A name that no role has; with an upper case letter and a space, as names may be."""
    name = f"Service {next(_numbers)}"
    yield name
    run(postgres, f'DROP ROLE IF EXISTS "{name}"')


@pytest.fixture
def creating(empty_database: Fresh) -> Iterator[Fresh]:
    """An empty database, the owner of which may make roles."""
    asyncio.run(fetch(empty_database.superuser, f"ALTER ROLE {OWNER} CREATEROLE"))
    yield empty_database
    asyncio.run(fetch(empty_database.superuser, f"ALTER ROLE {OWNER} NOCREATEROLE"))


def test_migrating_makes_the_role_and_gives_it_the_same_rights(creating: Fresh, role: str) -> None:
    try:
        assert migrate(creating.owner, service_role=role)
        assert not migrate(creating.owner, service_role=role)
        given = asyncio.run(rights_of(creating.superuser, f'"{role}"'))
        assert given == RIGHTS.read_text()
    finally:
        asyncio.run(fetch(creating.superuser, f'DROP OWNED BY "{role}"'))


def test_who_may_make_no_role_is_told_how_to_go_on(empty_database: Fresh, role: str) -> None:
    with pytest.raises(UnfitRole) as refused:
        migrate(empty_database.owner, service_role=role)
    assert f'have `CREATE ROLE "{role}" LOGIN` run' in str(refused.value)
    made = asyncio.run(fetch(empty_database.owner, "SELECT to_regclass('ledger_head')"))
    assert made[0][0] is None, "something was done before it was refused"


def test_the_owner_is_no_role_for_the_service(fresh: Fresh) -> None:
    """Granting begins with taking all away, which would leave the owner without its own tables."""
    for name in (OWNER, "postgres"):
        with pytest.raises(UnfitRole, match="must not be"):
            migrate(fresh.owner, service_role=name)
    asyncio.run(fetch(fresh.owner, "SELECT size FROM ledger_head"))


def test_what_was_given_by_hand_is_taken_back(fresh: Fresh) -> None:
    asyncio.run(
        fetch(
            fresh.owner,
            f"GRANT UPDATE (document) ON ledger_entry TO {SERVICE}",
        )
    )
    asyncio.run(fetch(fresh.owner, f"GRANT DELETE, TRIGGER ON determination TO {SERVICE}"))
    migrate(fresh.owner, service_role=SERVICE)
    assert asyncio.run(rights_of(fresh.superuser, SERVICE)) == RIGHTS.read_text()


def test_it_is_let_in_where_not_everybody_is(empty_database: Fresh) -> None:
    """A server may be shut to all who were not named: then nothing would be found there."""
    for statement in (
        "REVOKE ALL ON SCHEMA public FROM PUBLIC",
        f"REVOKE ALL ON DATABASE {empty_database.superuser.database} FROM PUBLIC",
    ):
        asyncio.run(fetch(empty_database.superuser, statement))
    migrate(empty_database.owner, service_role=SERVICE)
    asyncio.run(served(empty_database.service))


# --- Under which roles nothing is served --------------------------------------------------------


async def served(address: Any) -> None:
    """Open the service's storage, and see that it is ready."""
    store = Store(Database(address, throwaway=True))
    try:
        await store.open(NOW)
        trouble = await store.trouble()
        if trouble is not None:
            raise Unavailable("database", trouble)
    finally:
        await store.close()


async def test_the_service_is_served_under_its_own_role(fresh: Any) -> None:
    await served(fresh.service)


@pytest.mark.parametrize(
    ("grants", "why"),
    [
        ("GRANT UPDATE (document) ON ledger_entry TO {}", "change or empty `ledger_entry`"),
        ("GRANT UPDATE ON determination TO {}", "change or empty `determination`"),
        ("GRANT DELETE ON stream TO {}", "change or empty `stream`"),
        ("GRANT TRUNCATE ON credential TO {}", "change or empty `credential`"),
        ("GRANT TRIGGER ON ledger_head TO {}", "change or empty `ledger_head`"),
        ("GRANT DELETE ON evidence TO PUBLIC", "change or empty `evidence`"),
        ("GRANT pg_write_all_data TO {}", "change or empty"),
        (f"GRANT {OWNER} TO {{}}", "owns `credential`"),
        (f"ALTER ROLE {{}} NOINHERIT; GRANT {OWNER} TO {{}}", "owns `credential`"),
        ("GRANT postgres TO {}", "is, or may become, a superuser"),
        ("ALTER ROLE {} SUPERUSER", "is, or may become, a superuser"),
        ("ALTER ROLE {} CREATEROLE", "may make roles"),
        ("ALTER SCHEMA public OWNER TO {}", "owns"),
        ("ALTER DATABASE {database} OWNER TO {}", "owns"),
    ],
)
async def test_nothing_is_served_under_a_role_that_could_change_what_is_recorded(
    fresh: Any, postgres: EmbeddedPostgres, grants: str, why: str
) -> None:
    """Whatever the way by which it could: and it is told how to go on."""
    name = f"too_much_{next(_numbers)}"
    connection = await asyncpg.connect(str(fresh.superuser))
    try:
        await connection.execute(f"CREATE ROLE {name} LOGIN")
        statement = grants.replace("{database}", fresh.superuser.database).replace("{}", name)
        await connection.execute(statement)
        address = postgres.dsn(fresh.superuser.database, name)
        with pytest.raises(UnfitRole) as refused:
            await served(address)
    finally:
        # Ownership and grants go with what they are on, or the role could not be dropped.
        await connection.execute(f"ALTER ROLE {name} NOSUPERUSER")
        await connection.execute(f"REASSIGN OWNED BY {name} TO {OWNER}; DROP OWNED BY {name}")
        await connection.execute(f"DROP ROLE {name}")
        await connection.close()
    assert why in str(refused.value)
    assert "run `aslgate migrate` as the owner" in str(refused.value)


@pytest.mark.parametrize("who", ["owner", "superuser"])
async def test_nothing_is_served_under_the_owner_or_a_superuser(fresh: Any, who: str) -> None:
    with pytest.raises(UnfitRole):
        await served(getattr(fresh, who))


@pytest.mark.parametrize(
    "taken",
    [
        "INSERT ON gate",
        "SELECT ON evidence",
        "UPDATE (root) ON ledger_head",
        "SELECT ON alembic_version",
    ],
)
async def test_a_role_that_lacks_a_right_waits_for_it(fresh: Any, taken: str) -> None:
    """A migration has come and its grants have not yet: whoever runs it is told which are missing."""
    await fetch(fresh.owner, f"REVOKE {taken} FROM {SERVICE}")
    with pytest.raises(Unavailable) as refused:
        await served(fresh.service)
    table = taken.rpartition(" ")[2]
    assert f"lacks rights on `{table}`: run `aslgate migrate`" in str(refused.value)
    await asyncio.to_thread(migrate, fresh.owner, service_role=SERVICE)
    await served(fresh.service)


async def test_an_audit_needs_no_right_but_to_read(fresh: Any, postgres: EmbeddedPostgres) -> None:
    """`pg_read_all_data` is enough, and holds for tables to come."""
    await served(fresh.service)  # the ledger has its name
    name = f"auditor_{next(_numbers)}"
    await fetch(fresh.superuser, f"CREATE ROLE {name} LOGIN")
    await fetch(fresh.superuser, f"GRANT pg_read_all_data TO {name}")
    database = Database(postgres.dsn(fresh.superuser.database, name), audits=True)
    try:
        report = await Sweep(database, replays=True).go_on()
    finally:
        await database.close()
        await fetch(fresh.superuser, f"DROP ROLE {name}")
    assert report.is_clean


# --- The embedded server ------------------------------------------------------------------------


def test_the_embedded_server_has_the_two_roles_always(postgres: EmbeddedPostgres) -> None:
    """What `aslgate serve` does at each start, on whatever it finds."""
    prepare_roles(postgres.dsn())
    migrate(postgres.dsn(DATABASE, OWNER), service_role=SERVICE)
    assert asyncio.run(rights_of(postgres.dsn(DATABASE), SERVICE)) == RIGHTS.read_text()
    asyncio.run(served(postgres.dsn(DATABASE, SERVICE)))
