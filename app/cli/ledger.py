"""`aslgate ledger`: verify what is recorded, and recompute what was answered."""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from app.cli import serving
from app.cli.offline import check_file
from app.cli.serve import DatabaseUrl, DataDir, settings_of
from app.cli.service import FAILED, USAGE, Json, fail, print_line
from app.errors import NotFound, Unavailable
from app.ledger.note import (
    InvalidNote,
    Note,
    SignatureType,
    VerifierKey,
    read_note,
    read_verifier_key,
    write_base64,
)
from app.ledger.verification import Finding
from app.operations.audit import REPLAY_SECONDS, Report, Sweep, Trusted
from app.operations.replay import Replay, replay_all, replay_one, said_otherwise
from app.operations.watch import read_kept
from app.storage.database import Database, current_revision, expected_revision
from app.vocabulary import Decision

commands = typer.Typer(no_args_is_help=True, help="Verify the ledger.")

SHOWN: int = 20
"""How many findings are printed for people; --json has all that were kept."""

Kept = Annotated[
    list[Path] | None,
    typer.Option(
        "--checkpoint",
        exists=True,
        dir_okay=False,
        help="A checkpoint that was kept elsewhere; may be given more than once.",
    ),
]
LedgerKey = Annotated[
    list[str] | None,
    typer.Option("--ledger-key", help="The log's key (vkey) as you were told of it by others."),
]


def trusted_of(
    kept: list[Path] | None, keys: list[str] | None, *, option: str = "--ledger-key"
) -> Trusted:
    """What is believed though the database did not say it; ends the command where it is none."""
    notes: list[Note] = []
    for path in kept or []:
        try:
            notes.append(_kept_note(path.read_bytes()))
        except InvalidNote as fault:
            fail(f"{path}: {fault}", USAGE)
    read: list[VerifierKey] = []
    for key in keys or []:
        try:
            read.append(read_verifier_key(key))
        except InvalidNote as fault:
            fail(f"{option}: {fault}", USAGE)
    return Trusted(tuple(read), tuple(notes))


def _kept_note(data: bytes) -> Note:
    """The checkpoint in a file of its own, or in what a watcher keeps. Raises `InvalidNote`."""
    try:
        return read_kept(data).note
    except InvalidNote:
        return read_note(data)


@contextlib.contextmanager
def audited(database_url: str | None, data_dir: Path | None) -> Iterator[Database]:
    """The database that the settings name, by a way on which nothing can be written."""
    settings = settings_of(database_url, data_dir)
    with serving.database(settings, up_to_date=False) as addresses:
        yield Database(addresses.service, audits=True)


@contextlib.asynccontextmanager
async def opened(database: Database) -> AsyncIterator[Database]:
    """The database, for as long as the block lasts. Raises `Unavailable` where it is not migrated."""
    await database.open()
    try:
        async with database.reading() as connection:
            revision = await current_revision(connection)
        if revision != expected_revision():
            at, ours = revision or "none", expected_revision()
            message = f"the database is at migration {at}, and this program expects {ours}"
            raise Unavailable("database", message)
        yield database
    finally:
        await database.close()


@commands.command()
def verify(
    file: Annotated[
        Path | None,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="A bundle or a receipt, to be checked by itself; without it, the whole ledger.",
        ),
    ] = None,
    kept: Kept = None,
    ledger_key: Annotated[
        list[str] | None,
        typer.Option(
            "--ledger-key", "--key", help="The log's key as you were told of it by others."
        ),
    ] = None,
    witness: Annotated[
        list[str] | None,
        typer.Option(help="With FILE: the key of a witness that must have cosigned it."),
    ] = None,
    now: Annotated[
        bool, typer.Option("--now", help="With FILE: exit with 3 unless it allows, and still does.")
    ] = False,
    accept_conditions: Annotated[
        bool,
        typer.Option("--accept-conditions", help="With --now: let allow_with_conditions pass too."),
    ] = False,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How many processes read a large ledger at once, each with a connection of its own; "
            "as many as there are cores where it is not said.",
        ),
    ] = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Read the whole ledger, and see that it is what was recorded: each entry, its document, the
    tree over all, the checkpoints, and the rows by which records are found.

    With FILE, no database and no network is needed: a bundle is held against the log's key, and its
    determination recomputed.

    Exit code 0 where it is, 1 with findings, the first by index first; 4 for a bundle that holds,
    and could not be recomputed, because evidence was left out: whether its decision follows from
    what was known is not seen then. `holds` in --json is true for both, and `recomputed` says which.

    With --now, for pipelines, 0 means also that the bundle's determination allows the action and has
    not lapsed by this machine's clock, and 3 that it holds and does not.
    """
    trusted = trusted_of(kept, ledger_key)
    if file is not None:
        if kept:
            fail("--checkpoint is for the whole ledger: FILE has its own", USAGE)
        witnesses = trusted_of(None, witness, option="--witness").keys
        if any(one.type is not SignatureType.COSIGNATURE for one in witnesses):
            fail("--witness: this is a log's key, and a witness is somebody else", USAGE)
        if accept_conditions and not now:
            fail("--accept-conditions is for --now", USAGE)
        passing = {Decision.ALLOW, *([Decision.ALLOW_WITH_CONDITIONS] if accept_conditions else ())}
        code = check_file(
            file,
            trusted.keys,
            witnesses,
            as_json=as_json,
            now=datetime.now(UTC),
            passing=frozenset(passing) if now else None,
        )
        raise typer.Exit(code)
    for option, given in (
        ("--witness", witness),
        ("--now", now),
        ("--accept-conditions", accept_conditions),
    ):
        if given:
            fail(f"{option} is for FILE", USAGE)

    with audited(database_url, data_dir) as database:
        cores = processes or os.cpu_count() or 1
        sweep = Sweep(database, processes=cores, trusted=trusted)
        report, seconds = asyncio.run(swept(database, sweep))
    if as_json:
        print_line(json.dumps(report_fields(report) | {"seconds": round(seconds, 3)}))
    else:
        print_report(report, seconds)
    if not report.is_clean:
        raise typer.Exit(FAILED)


async def swept(database: Database, sweep: Sweep) -> tuple[Report, float]:
    """What one sweep finds, and how many seconds it took; with a bar meanwhile."""
    async with opened(database):
        begun = time.monotonic()
        with progress_bar("entries") as told:
            return await sweep.go_on(told), time.monotonic() - begun


def report_fields(report: Report) -> dict[str, Any]:
    """A report for programs."""
    return {
        "log": report.log,
        "size": report.size,
        "root": None if report.root is None else write_base64(report.root),
        "verified": report.verified,
        "replayed": report.replayed,
        "checkpoint": report.agreed,
        "outside_checkpoint": report.outside,
        "first_unverified": report.unverified,
        "findings": [{"index": one.index, "what": one.what} for one in ordered(report.findings)],
    }


def ordered(findings: tuple[Finding, ...]) -> list[Finding]:
    """By index; what is about the ledger as a whole comes last."""
    return sorted(findings, key=lambda one: (one.index is None, one.index or 0))


def print_report(report: Report, seconds: float) -> None:
    """A report for people: what is wrong, first things first, and what nobody could see."""
    found = ordered(report.findings)
    for one in found[:SHOWN]:
        print_line(one.what if one.index is None else f"entry {one.index}: {one.what}")
    if len(found) > SHOWN:
        print_line(f"and {len(found) - SHOWN} more")
    each = f" ({report.verified / seconds:,.0f} a second)" if seconds > 0 else ""
    replayed = f", {report.replayed} answers recomputed" if report.replayed else ""
    print_line(f"{report.verified:,} of {report.size:,} entries are sound{each}{replayed}")
    if report.root is not None:
        print_line(f"root {write_base64(report.root)} at size {report.size}")
    if report.agreed:
        print_line(f"the tree agrees with the checkpoints up to size {report.agreed}")
    if report.outside:
        print_line(f"one that was kept elsewhere vouches for the first {report.outside} entries")
    else:
        print_line(
            "not seen without a checkpoint that was kept elsewhere (--checkpoint): whether entries "
            "were removed from the end, or all of it was written anew"
        )


@commands.command()
def replay(
    id: Annotated[
        str | None, typer.Argument(metavar="ID", help="A determination, det_…, or a gate, gat_….")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every determination and gate.")] = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Recompute recorded answers from what they rest on, and compare the bytes.

    Exit code 0 where they are the same, 1 where one differs or cannot be recomputed.
    """
    if (id is None) != every:
        fail("give the ID of one answer, or --all", USAGE)

    async def run(database: Database) -> tuple[int, list[Replay]]:
        def reading() -> Any:
            return database.reading(seconds=REPLAY_SECONDS)

        differing, many = [], 0
        async with opened(database):
            if id is not None:
                found = await replay_one(reading, id)
                return 1, [] if found.same else [found]
            with progress_bar("answers") as told:
                async for found, of in replay_all(reading):
                    many += 1
                    told(many, of)
                    if not found.same:
                        differing.append(found)
        return many, differing

    with audited(database_url, data_dir) as database:
        try:
            many, differing = asyncio.run(run(database))
        except NotFound as missing:
            fail(str(missing), USAGE)
    if as_json:
        said = [one.model_dump(mode="json") for one in differing]
        print_line(json.dumps({"replayed": many, "differing": said}))
    else:
        for one in differing[:SHOWN]:
            print_line(f"entry {one.index}, {one.id}: {said_otherwise(one)}")
        if len(differing) > SHOWN:
            print_line(f"and {len(differing) - SHOWN} more")
        print_line(f"{many - len(differing)} of {many} recomputed to the same bytes")
    if differing:
        raise typer.Exit(FAILED)


@contextlib.contextmanager
def progress_bar(what: str) -> Iterator[Any]:
    """A bar on standard error, where that is a terminal; it is told how far things are."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    with bar:
        task = bar.add_task(what, total=None)

        def told(done: int, of: int) -> None:
            bar.update(task, completed=done, total=of)

        yield told
    sys.stdout.flush()
