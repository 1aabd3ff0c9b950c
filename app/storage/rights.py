"""What the service's role may do in the database, and that it can do no more.

Migrations run as the role that owns the tables; the service runs as another. That one reads and
adds, and changes only the columns that are named here, none of which is of a record. So whoever
takes over the service, or finds a way to send statements of their own through it, still cannot
rewrite what is recorded, nor put the triggers aside that refuse it.

A role that could is not served under: it would only show on the day on which it is used.
tests/storage/rights.txt has every table with every right.
"""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, Table, text
from sqlalchemy.exc import DBAPIError

from app.errors import Unavailable
from app.storage import tables

MAY_CHANGE: Final[Mapping[Table, tuple[str, ...]]] = {
    tables.ledger_head: ("size", "last_at", "frontier", "root"),
    tables.stream: ("version",),
    tables.credential_use: ("used_at",),
    tables.policy_shadow: (
        "next",
        "past",
        "summary",
        "stopped_at",
        "stopped_by",
        "stopped_because",
    ),
    # All but what its id is made of.
    tables.obligation: (
        "version",
        "pointer",
        "statement",
        "clause",
        "by",
        "before_action",
        "due",
        "of_evidence",
        "determination_id",
        "index",
    ),
    tables.obligation_position: ("next",),
    tables.inbox: ("body", "state", "attempts", "not_before", "finished_at", "outcome"),
}
"""What the service may change of a row that is there. Of all other tables: nothing."""

_REVISION: Final = "alembic_version"
_LACKS_THE_RIGHT: Final = "42501"


class UnfitRole(Exception):
    """A role that must not be the service's; `str()` of it says why, and what to do."""


def make_role(connection: Connection, role: str) -> bool:
    """Make *role* where there is none of that name; whether it was made.

    It may connect, and has no password: who runs the server says how it proves who it is. Raises
    `UnfitRole` where the role that we are may not make any.
    """
    found = text("SELECT 1 FROM pg_roles WHERE rolname = :role")
    if connection.execute(found, {"role": role}).first() is not None:
        return False
    try:
        connection.execute(text(f"CREATE ROLE {_quoted(connection, role)} LOGIN"))
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _LACKS_THE_RIGHT:
            raise
        connection.rollback()
        raise UnfitRole(
            f"there is no role `{role}` for the service, and the tables' owner may make none: have "
            f"`CREATE ROLE {_quoted(connection, role)} LOGIN` run by a role that may, and "
            "migrate again"
        ) from error
    return True


def grant(connection: Connection, role: str) -> None:
    """Give *role* exactly the service's rights, and take from it what else it was ever given.

    Raises `UnfitRole` where it has more by other ways: because it owns the tables, say.
    """
    named = _quoted(connection, role)
    if connection.scalar(text("SELECT pg_has_role(:role, current_user, 'MEMBER')"), {"role": role}):
        raise UnfitRole(
            f"the service must not be `{role}`, who is, or may become, the owner of the tables: "
            "name another role in ASLGATE_SERVICE_ROLE"
        )
    _let_in(connection, role)
    every = ", ".join(table.name for table in tables.metadata.sorted_tables)
    for statement in (
        f"REVOKE ALL ON {every}, {_REVISION} FROM {named}",
        f"GRANT SELECT, INSERT ON {every} TO {named}",
        f"GRANT SELECT ON {_REVISION} TO {named}",
        *(
            f"GRANT UPDATE ({', '.join(columns)}) ON {table.name} TO {named}"
            for table, columns in MAY_CHANGE.items()
        ),
    ):
        connection.execute(text(statement))
    _refuse_too_much(connection, role)


def _let_in(connection: Connection, role: str) -> None:
    """Everybody may connect and look a table up, unless whoever runs the server said otherwise."""
    named = _quoted(connection, role)
    found = connection.execute(_SHUT_OUT, {"role": role}).one()
    if found.of_database:
        database = _quoted(connection, found.database)
        connection.execute(text(f"GRANT CONNECT ON DATABASE {database} TO {named}"))
    if found.of_schema:
        schema = _quoted(connection, found.schema)
        connection.execute(text(f"GRANT USAGE ON SCHEMA {schema} TO {named}"))


def refuse_unfit_role(connection: Connection) -> None:
    """See that the role that has connected is one to serve under.

    Raises `UnfitRole` where it could change what is recorded, and `Unavailable` where it was not
    granted yet what the service needs. Tables that are not there yet are another's to miss.
    """
    role: str = connection.scalar(text("SELECT session_user::text")) or ""
    _refuse_too_much(connection, role)
    changed = [(t.name, column) for t, columns in MAY_CHANGE.items() for column in columns]
    missing = connection.scalars(
        _MISSING,
        {
            "role": role,
            "tables": list(tables.metadata.tables),
            "revision": _REVISION,
            "changed": [table for table, _ in changed],
            "columns": [column for _, column in changed],
        },
    ).all()
    if missing:
        raise Unavailable(
            "database",
            f"the role `{role}` lacks rights on `{'`, `'.join(missing)}`: run `aslgate migrate` as "
            f"the owner of the tables, with ASLGATE_SERVICE_ROLE={role}",
        )


def _refuse_too_much(connection: Connection, role: str) -> None:
    recorded = [table.name for table in tables.RECORDED]
    lasting = [table.name for table in tables.metadata.sorted_tables if table not in tables.WORKING]
    found = connection.execute(
        _TOO_MUCH, {"role": role, "recorded": recorded, "lasting": lasting}
    ).one()
    if found.superuser:
        why = "is, or may become, a superuser"
    elif found.makes_roles:
        why = "may make roles, and so give itself another's rights"
    elif found.owned:
        why = f"owns `{found.owned[0]}`, or may become its owner, or owns the database"
    elif found.changes:
        why = f"may change or empty `{found.changes[0]}`"
    else:
        return
    raise UnfitRole(
        f"the role `{role}` {why}: nothing is served under it, for it could rewrite what is "
        "recorded; run `aslgate migrate` as the owner of the tables, which sets up a role for the "
        "service (the one in ASLGATE_SERVICE_ROLE), and give the service that role's address"
    )


def _quoted(connection: Connection, name: str) -> str:
    return connection.dialect.identifier_preparer.quote_identifier(name)


_SHUT_OUT: Final = text(
    """
    SELECT
        current_database()::text AS database,
        current_schema()::text AS schema,
        NOT has_database_privilege(:role, current_database(), 'CONNECT') AS of_database,
        NOT has_schema_privilege(:role, current_schema(), 'USAGE') AS of_schema
    """
)

# What the role is able to do by whatever way: as itself, as a member of others, as anybody. Who may
# SET ROLE has those rights too, so membership counts though it be not inherited. A schema's owner
# may drop what is in it, a database's owner all of it.
_TOO_MUCH: Final = text(
    """
    WITH ours AS (
        SELECT c.oid, c.relname, c.relowner, n.nspowner
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid IN (SELECT to_regclass(name) FROM unnest(CAST(:lasting AS text[])) AS name)
    )
    SELECT
        EXISTS (
            SELECT FROM pg_roles WHERE rolsuper AND pg_has_role(:role, oid, 'MEMBER')
        ) AS superuser,
        (SELECT rolcreaterole FROM pg_roles WHERE rolname = :role) AS makes_roles,
        ARRAY(
            SELECT relname::text FROM ours
            WHERE pg_has_role(:role, relowner, 'MEMBER') OR pg_has_role(:role, nspowner, 'MEMBER')
                OR pg_has_role(
                    :role,
                    (SELECT datdba FROM pg_database WHERE datname = current_database()),
                    'MEMBER'
                )
            ORDER BY 1
        ) AS owned,
        ARRAY(
            SELECT relname::text FROM ours
            WHERE has_table_privilege(:role, oid, 'DELETE, TRUNCATE, TRIGGER')
                OR relname = ANY(CAST(:recorded AS text[]))
                    AND has_any_column_privilege(:role, oid, 'UPDATE')
            ORDER BY 1
        ) AS changes
    """
)

_MISSING: Final = text(
    """
    SELECT c.relname::text FROM pg_class c
    WHERE c.oid IN (SELECT to_regclass(name) FROM unnest(CAST(:tables AS text[])) AS name)
            AND NOT (
                has_table_privilege(:role, c.oid, 'SELECT')
                AND has_table_privilege(:role, c.oid, 'INSERT')
            )
        OR c.oid = to_regclass(:revision) AND NOT has_table_privilege(:role, c.oid, 'SELECT')
    UNION
    SELECT changed.name FROM unnest(CAST(:changed AS text[]), CAST(:columns AS text[]))
        AS changed (name, of)
    JOIN pg_attribute a ON a.attrelid = to_regclass(changed.name) AND a.attname = changed.of
    WHERE NOT has_column_privilege(:role, a.attrelid, a.attnum, 'UPDATE')
    ORDER BY 1
    """
)
