"""`aslgate keys`: who may call."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import orjson
import typer
from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Column, Table

from app.cli import serving
from app.cli.serve import DatabaseUrl, DataDir, settings_of
from app.cli.service import FAILED, USAGE, Json, fail, print_line
from app.errors import InvalidDocument, Refusal, Unavailable
from app.http.keys import key_json
from app.http.permissions import ROLES
from app.ledger.entry import Kind
from app.operations import manage_keys
from app.operations.context import Context
from app.operations.manage_keys import (
    MOST_DAYS,
    KeyRequest,
    MadeKey,
    RevocationRequest,
    RotationRequest,
)
from app.parsing import parse
from app.storage import keys
from app.storage.keys import KnownKey
from app.storage.store import OPERATOR
from app.vocabulary import JSON, Document

commands = typer.Typer(no_args_is_help=True, help="Create, rotate, list and revoke API keys.")

T = TypeVar("T")
D = TypeVar("D", bound=Document)

_KEYS: Final = "The key's id, as `aslgate keys list` shows it."
Id = Annotated[str, typer.Argument(help=_KEYS)]


def _recorded(
    database_url: str | None, data_dir: Path | None, work: Callable[[Context], Awaitable[T]]
) -> T:
    """What *work* gives on the database that is named, done by whoever has this command line."""
    # The bootstrap key is the service's to make.
    settings = settings_of(database_url, data_dir).model_copy(update={"bootstrap_key": None})

    async def run(addresses: serving.Addresses) -> T:
        now = datetime.now(UTC)
        store = serving.open_store(settings, addresses)
        await store.open(now)
        try:
            trouble = await store.trouble()
            if trouble is not None:
                raise Unavailable("database", trouble)
            return await work(Context(store, OPERATOR, now))
        finally:
            await store.close()

    with serving.database(settings, up_to_date=True) as addresses:
        try:
            return asyncio.run(run(addresses))
        except Refusal as refusal:
            fail(str(refusal), FAILED)


def _read(kind: type[D], said: dict[str, Any]) -> D:
    """What was said at the command line, before any database is asked."""
    try:
        request = parse(TypeAdapter(kind), said, JSON)
        if isinstance(request, KeyRequest):
            manage_keys.refuse_unknown_roles(request, ROLES)
    except InvalidDocument as invalid:
        fail("; ".join(f"{f.pointer[1:]}: {f.message}" for f in invalid.faults), USAGE)
    return request


@commands.command()
def create(
    principal: Annotated[
        str, typer.Argument(help="Whose key it is: person:…, team:… or service:….")
    ],
    role: Annotated[list[str], typer.Option(help=f"One or more of: {', '.join(ROLES)}.")],
    policy_role: Annotated[
        list[str] | None,
        typer.Option(help="As which role of a policy its holder may sign and find, e.g. ceo."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What it is for, for people.")] = None,
    days: Annotated[int, typer.Option(min=1, max=MOST_DAYS, help="How long it is valid.")] = 90,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Create a key and print it, once: only its hash is kept. That it was made is on record."""
    said = {
        "principal": principal,
        "name": name,
        "roles": role,
        "policy_roles": policy_role or [],
        "days": days,
    }

    request = _read(KeyRequest, said)

    async def make(context: Context) -> MadeKey:
        return await manage_keys.create_key(context, request, ROLES)

    _print_made(_recorded(database_url, data_dir, make), as_json)


@commands.command()
def rotate(
    id: Id,
    keep_old: Annotated[
        bool, typer.Option("--keep-old", help="Leave the old key open until it is revoked.")
    ] = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Create a key like that one, and revoke the old one in the same commit."""

    async def make(context: Context) -> MadeKey:
        return await manage_keys.rotate_key(context, id, RotationRequest(revoke=not keep_old))

    _print_made(_recorded(database_url, data_dir, make), as_json)


@commands.command("list")
def list_keys(
    database_url: DatabaseUrl = None, data_dir: DataDir = None, as_json: Json = False
) -> None:
    """List the keys; their secrets are nowhere."""

    async def read(context: Context) -> tuple[KnownKey, ...]:
        async with context.store.reading() as connection:
            return await keys.list_keys(connection)

    rows = [key_json(one) for one in _recorded(database_url, data_dir, read)]
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    # An id is there to be copied, however narrow the terminal.
    id = Column("id", no_wrap=True, min_width=len(rows[0]["id"]) if rows else None)
    table = Table(
        id, "principal", "roles", "policy roles", "expires", "used", box=None, pad_edge=False
    )
    for row in rows:
        until = f"revoked {row['revoked_at']}" if row["revoked_at"] else row["expires_at"]
        table.add_row(
            row["id"],
            row["principal"],
            ", ".join(row["roles"]),
            ", ".join(row["policy_roles"]) or "-",
            until or "never",
            row["used_at"] or "never",
        )
    Console().print(table)


@commands.command()
def revoke(
    id: Id,
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")] = "revoked by the operator",
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Revoke a key: from now on nothing is recorded with it, and within a second nothing read."""
    request = _read(RevocationRequest, {"reason": reason})

    async def refuse(context: Context) -> None:
        await manage_keys.revoke_key(context, id, request)

    _recorded(database_url, data_dir, refuse)
    print_line(json.dumps({"id": id, "revoked": True}) if as_json else f"{id} is revoked")


def _print_made(made: MadeKey, as_json: bool) -> None:
    assert made.text is not None, "nothing is asked for twice here"
    record = next(one for one in made.appended.records if one.kind is Kind.CREDENTIAL)
    said: dict[str, Any] = orjson.loads(record.document)
    if as_json:
        shown = {name: said[name] for name in ("id", "principal", "expires_at")}
        sys.stdout.write(json.dumps(shown | {"key": made.text}) + "\n")
    else:
        print_line(made.text)
        until = f"until {said['expires_at']}" if said["expires_at"] else "for good"
        note = f"{said['id']} for {said['principal']}, {until}; it is shown only now"
        Console(stderr=True, highlight=False).print(note, markup=False, soft_wrap=True)
