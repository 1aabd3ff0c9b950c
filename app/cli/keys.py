"""`aslgate keys`: who may call."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Column, Table

from app.cli import serving
from app.cli.serve import DatabaseUrl, DataDir, settings_of
from app.cli.service import USAGE, Json, fail, print_line
from app.http.permissions import ROLES
from app.storage import keys
from app.storage.database import Database, DatabaseConnection
from app.storage.keys import KnownKey, NewKey
from app.vocabulary import write_instant

commands = typer.Typer(no_args_is_help=True, help="Create, list and revoke API keys.")

T = TypeVar("T")


def _with_database(
    database_url: str | None,
    data_dir: Path | None,
    work: Callable[[DatabaseConnection], Awaitable[T]],
) -> T:
    """What *work* gives in one transaction on the database that is named."""
    settings = settings_of(database_url, data_dir)

    async def run(database: Database) -> T:
        await database.open()
        try:
            async with database.writing() as connection:
                return await work(connection)
        finally:
            await database.close()

    with serving.database(settings, up_to_date=True) as addresses:
        return asyncio.run(run(Database(addresses.service)))


@commands.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is, for people.")],
    role: Annotated[list[str], typer.Option(help=f"One or more of: {', '.join(ROLES)}.")],
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long it is valid.")] = 90,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Create a key and print it, once: only its hash is kept."""
    if unknown := sorted(set(role) - ROLES.keys()):
        fail(f"no role `{unknown[0]}`; there are {', '.join(ROLES)}", USAGE)
    now = datetime.now(UTC)
    expires = now + timedelta(days=days)

    async def make(connection: DatabaseConnection) -> NewKey:
        return await keys.create_key(connection, name=name, roles=role, now=now, expires_at=expires)

    new = _with_database(database_url, data_dir, make)
    credential = new.credential
    if as_json:
        said = {"id": credential.id, "key": new.text, "expires_at": write_instant(expires)}
        sys.stdout.write(json.dumps(said) + "\n")
    else:
        print_line(new.text)
        note = f"{credential.id} for {name}, until {write_instant(expires)}; it is shown only now"
        Console(stderr=True, highlight=False).print(note, markup=False, soft_wrap=True)


@commands.command("list")
def list_keys(
    database_url: DatabaseUrl = None, data_dir: DataDir = None, as_json: Json = False
) -> None:
    """List the keys; their secrets are nowhere."""
    known: tuple[KnownKey, ...] = _with_database(database_url, data_dir, keys.list_keys)
    rows = [
        {
            "id": key.id,
            "name": key.name,
            "roles": list(key.roles),
            "created_at": write_instant(key.created_at),
            "expires_at": key.expires_at and write_instant(key.expires_at),
            "revoked_at": key.revoked_at and write_instant(key.revoked_at),
        }
        for key in known
    ]
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    # An id is there to be copied, however narrow the terminal.
    id = Column("id", no_wrap=True, min_width=len(known[0].id) if known else None)
    table = Table(id, "name", "roles", "expires", "revoked", box=None, pad_edge=False)
    for key in known:
        expires = write_instant(key.expires_at) if key.expires_at else "never"
        revoked = write_instant(key.revoked_at) if key.revoked_at else "-"
        table.add_row(key.id, key.name, ", ".join(key.roles), expires, revoked)
    Console().print(table)


@commands.command()
def revoke(
    id: Annotated[str, typer.Argument(help="The key's id, as `aslgate keys list` shows it.")],
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Revoke a key: half a second later it opens nothing, on any replica."""
    now = datetime.now(UTC)

    async def refuse(connection: DatabaseConnection) -> None:
        await keys.revoke_key(connection, id, now=now)

    _with_database(database_url, data_dir, refuse)
    print_line(json.dumps({"id": id, "revoked": True}) if as_json else f"{id} is revoked")
