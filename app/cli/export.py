"""`aslgate ledger bundle` and `aslgate ledger export`: what others check without this service."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from app.cli.ledger import audited, opened, progress_bar
from app.cli.serve import DatabaseUrl, DataDir, settings_of
from app.cli.service import USAGE, Json, fail, print_line
from app.errors import NotFound, NotRecomputable
from app.http.checkpoints import ledger_keys
from app.ledger.bundle import Bundle
from app.ledger.checkpoint import Checkpoint, read_checkpoint
from app.ledger.note import InvalidNote, read_note, write_base64
from app.operations.audit import REPLAY_SECONDS
from app.operations.bundle import make_bundle
from app.operations.export import Contradiction, Exported, export_log
from app.storage.database import Database


def bundle(
    id: Annotated[str, typer.Argument(metavar="ID", help="A determination, det_….")],
    output: Annotated[
        Path | None, typer.Option(help="Write it to this file instead of standard output.")
    ] = None,
    without_evidence: Annotated[
        bool,
        typer.Option(
            "--without-evidence",
            help="Leave out what the evidence says, for people who may not see it.",
        ),
    ] = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Write a determination and all that it rests on, with proofs, into one file. `aslgate ledger
    verify FILE` checks and recomputes it anywhere; `docs/verify.py` checks it without our code.
    """
    quorum = settings_of(database_url, data_dir).witness_quorum

    async def run(database: Database) -> Bundle:
        async with opened(database), database.reading(seconds=REPLAY_SECONDS) as connection:
            return await make_bundle(
                connection, id, quorum=quorum, with_evidence=not without_evidence
            )

    with audited(database_url, data_dir) as database:
        try:
            made = bytes(asyncio.run(run(database)))
        except NotFound as missing:
            fail(str(missing), USAGE)
        except NotRecomputable as refusal:
            fail(str(refusal))
    if output is None:
        sys.stdout.write(made.decode() + "\n")
    else:
        output.write_bytes(made)


def export(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", file_okay=False, help="Made where it is not there.")
    ],
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Write the log as files in the form of C2SP tlog-tiles, which any web server can show.

    Made again into the same folder, it must extend what was exported before. Exit code 1 where it
    does not, or where the entries are not those that were signed; then the checkpoint there stays.
    """
    before, quorum = _exported_before(folder), settings_of(database_url, data_dir).witness_quorum

    def write(path: str, content: bytes) -> None:
        _write(folder / path, content)

    async def run(database: Database) -> Exported:
        async with opened(database):
            with progress_bar("entries") as told:
                return await export_log(database, before, write, told, quorum=quorum)

    with audited(database_url, data_dir) as database:
        try:
            exported = asyncio.run(run(database))
        except (Contradiction, NotFound) as found:
            fail(str(found))
    checkpoint = exported.checkpoint
    keys = ledger_keys(checkpoint.origin, exported.keys)
    write("keys", keys.model_dump_json().encode())
    # Last, so that nobody sees a checkpoint of which a tile is not there yet.
    write("checkpoint", str(exported.note).encode())
    if as_json:
        root = write_base64(checkpoint.root)
        said = {"log": checkpoint.origin, "size": checkpoint.size, "root": root}
        print_line(json.dumps(said))
    else:
        print_line(f"{checkpoint.origin} with {checkpoint.size} entries is in {folder}")


def _exported_before(folder: Path) -> Checkpoint | None:
    """The checkpoint in the folder, if there is one."""
    kept = folder / "checkpoint"
    try:
        return read_checkpoint(read_note(kept.read_bytes()).text)
    except FileNotFoundError:
        return None
    except InvalidNote as fault:
        fail(f"{kept}: {fault}", USAGE)


def _write(path: Path, content: bytes) -> None:
    """Let the file be there as a whole: a web server may read it at any instant."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(content)
    beside.replace(path)
