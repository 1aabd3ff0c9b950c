"""`aslgate`: the same operations at a prompt, and the service itself."""

import sys
from typing import NoReturn

import typer

from app.cli import (
    attest,
    audit,
    export,
    imports,
    keys,
    ledger,
    obligations,
    openapi,
    policy,
    quickstart,
    serve,
    service,
    watch,
)
from app.cli.serving import UNUSABLE

app = typer.Typer(
    name="aslgate",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="What protection level a frontier model requires, and whether it is in place.",
)
app.command()(quickstart.quickstart)
app.command()(serve.serve)
app.command()(serve.migrate)
app.command()(service.determine)
app.command()(service.explain)
app.command()(attest.attest)
app.command()(service.settle)
app.command()(obligations.obligations)
app.command()(audit.audit)
app.command()(openapi.openapi)
app.command("import")(imports.import_log)
app.add_typer(keys.commands, name="keys")
app.add_typer(ledger.commands, name="ledger")
ledger.commands.command("watch")(watch.watch_log)
ledger.commands.command("bundle")(export.bundle)
ledger.commands.command("export")(export.export)
app.add_typer(policy.commands, name="policy")


def main() -> None:
    """Run one command; what cannot work is said in one sentence, with exit code 1."""
    try:
        app()
    except UNUSABLE as error:
        _end(str(error))
    except OSError as error:
        named = f"`{error.filename}`: " if error.filename else ""
        _end(f"{named}{error.strerror or error}")


def _end(sentence: str) -> NoReturn:
    sys.stderr.write(f"aslgate: {sentence}\n")
    sys.exit(service.FAILED)
