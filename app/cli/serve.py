"""`aslgate serve` and `aslgate migrate`."""

import contextlib
import json
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from app.cli import serving
from app.cli.service import USAGE, Json, fail, print_line
from app.http.observability import configure_logging
from app.settings import Settings
from app.storage import database

DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        envvar="ASLGATE_DATABASE_URL", help="A Postgres from 15 on; default: the embedded one."
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(envvar="ASLGATE_DATA_DIR", help="Where the embedded Postgres keeps its data."),
]


def settings_of(database_url: str | None = None, data_dir: Path | None = None) -> Settings:
    """The settings, what was given on the command line before what the environment says."""
    given = {"database_url": database_url, "data_dir": data_dir}
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as invalid:
        # Without the values: one of them may be a secret.
        faults = [f"ASLGATE_{str(e['loc'][0]).upper()}: {e['msg']}" for e in invalid.errors()]
        fail("\n".join(faults), USAGE)


def serve(
    host: Annotated[str, typer.Option(envvar="ASLGATE_HOST")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="ASLGATE_PORT", min=0, max=65535)] = 8000,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Run the service. Ctrl-C or SIGTERM drains it, and then stops the embedded database."""
    if database_url is not None and data_dir is not None:
        fail("give --database-url or --data-dir, not both", USAGE)
    settings = settings_of(database_url, data_dir)
    configure_logging()
    with serving.stopped_by_signals(), serving.database(settings, up_to_date=True) as addresses:
        server = serving.server(settings, serving.open_store(settings, addresses), host, port)
        # Ctrl-C has drained the server by then, and is no failure.
        with contextlib.suppress(KeyboardInterrupt):
            server.run()
    if not server.started:
        raise typer.Exit(1)


def migrate(database_url: DatabaseUrl = None, as_json: Json = False) -> None:
    """Bring a database by URL up to date. Give the address of the role that owns the tables.

    The service connects as another role: that in ASLGATE_SERVICE_ROLE, by default aslgate_service.
    It is made where it is missing, and is granted what the service needs and nothing else.
    """
    settings = settings_of(database_url)
    if settings.database_url is None:
        fail("give --database-url or set ASLGATE_DATABASE_URL", USAGE)
    url, role = settings.database_url.get_secret_value(), settings.service_role
    made = database.migrate(url, service_role=role)
    revision = database.expected_revision()
    if as_json:
        print_line(json.dumps({"revision": revision, "service_role": role, "role_made": made}))
        return
    print_line(f"the database is at {revision}, and the service may use it as `{role}`")
    if made:
        print_line(f"`{role}` is new and has no password: give it one, or another way to log in")
