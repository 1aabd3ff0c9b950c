"""`aslgate ledger watch`: be the one who would notice."""

import json
import sys
import time
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from app.cli.service import USAGE, Json, fail, print_line
from app.integrations.tiled_log import NoAnswer, TiledLog
from app.ledger.note import InvalidNote, VerifierKey, read_verifier_key, write_base64
from app.operations.watch import Fork, Kept, read_kept, watch
from app.storage.secret_files import replace_file

FORKED = 2
"""The exit code where the log contradicts itself: for who runs this, the alarm."""


class _NotKept(Exception):
    """What was seen before cannot be read, or what is seen now cannot be kept, at this time."""


def watch_log(
    url: Annotated[
        str, typer.Argument(help="The service's address, or the prefix of any tiled log.")
    ],
    state: Annotated[
        Path, typer.Option(help="Where the last checkpoint is kept; made at the first time.")
    ],
    ledger_key: Annotated[
        list[str] | None,
        typer.Option(
            "--ledger-key",
            help="The log's key (vkey) as you were told of it by others; without it, the first "
            "answer is believed.",
        ),
    ] = None,
    every: Annotated[
        float | None, typer.Option(min=1, help="Look again after so many seconds, for ever.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Fetch the newest checkpoint, see that it extends the one that was kept, and keep it.

    Exit code 0: it does. 2: the log was put back, or shows different things to different people; both
    checkpoints are printed, and what was kept stays. 1: it could not be seen.
    """
    told = _keys(ledger_key or [])
    try:
        log = TiledLog(url)
    except NoAnswer as error:
        fail(str(error), USAGE)
    with log:
        while True:
            try:
                _look(log, state, told, as_json)
            except (NoAnswer, _NotKept) as error:
                if every is None:
                    fail(str(error))
                sys.stderr.write(f"aslgate: {error}\n")
            if every is None:
                return
            time.sleep(every)


def _keys(given: list[str]) -> frozenset[VerifierKey]:
    try:
        return frozenset(map(read_verifier_key, given))
    except InvalidNote as fault:
        fail(f"--ledger-key: {fault}", USAGE)


def _look(log: TiledLog, state: Path, told: frozenset[VerifierKey], as_json: bool) -> None:
    """Look once, and keep what is seen; what contradicts what was kept ends the command."""
    try:
        kept = read_kept(state.read_bytes())
    except FileNotFoundError:
        kept = None
    except InvalidNote as fault:
        fail(f"{state}: {fault}")
    except OSError as error:
        raise _NotKept(f"the state cannot be read: {error}") from error
    try:
        seen = watch(log, kept, told)
    except Fork as fork:
        _alarm(fork, as_json)
    # Nothing new is no reason to write; but a key may have followed another.
    if seen != kept:
        try:
            replace_file(state, str(seen).encode())
        except OSError as error:
            raise _NotKept(f"the state cannot be kept: {error}") from error
    _say(seen, kept, told, as_json)


def _alarm(fork: Fork, as_json: bool) -> NoReturn:
    notes = [note for note in (fork.before, fork.now) if note is not None]
    if as_json:
        said = {"forked": True, "why": fork.why, "notes": list(map(str, notes))}
        print_line(json.dumps(said))
    else:
        sys.stdout.write("\n".join(map(str, notes)))
    sys.stdout.flush()
    fail(fork.why, FORKED)


def _say(seen: Kept, kept: Kept | None, told: frozenset[VerifierKey], as_json: bool) -> None:
    checkpoint = seen.checkpoint
    if kept is None and not told:
        for key in sorted(map(str, seen.keys)):
            sys.stderr.write(f"aslgate: believing in {key}, of which nobody else has told\n")
    since = None if kept is None else kept.checkpoint.size
    if as_json:
        said = {
            "forked": False,
            "log": checkpoint.origin,
            "size": checkpoint.size,
            "root": write_base64(checkpoint.root),
            "extends": since,
            "keys": sorted(map(str, seen.keys)),
        }
        print_line(json.dumps(said))
        return
    extends = "" if since is None else f", which extend the {since} that there were"
    print_line(f"{checkpoint.origin} has {checkpoint.size} entries{extends}")
