"""What `aslgate ledger verify FILE` does: believe the log's key, and nobody and nothing else."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.cli.service import USAGE, fail, print_line
from app.ledger.bundle import InvalidBundle, read_bundle
from app.ledger.checkpoint import Checkpoint, read_receipt
from app.ledger.entry import Entry, InvalidEntry, read_entry
from app.ledger.merkle import InvalidProof
from app.ledger.note import InvalidNote, UnverifiedNote, VerifierKey, verified, write_base64
from app.operations.bundle import Checked, check_bundle

_RECEIPT = b"c2sp.org/tlog-proof@"


def check_file(
    file: Path, keys: Sequence[VerifierKey], witnesses: Sequence[VerifierKey], as_json: bool
) -> bool:
    """Check the bundle or receipt in *file*, and say what it shows. Whether it holds."""
    names = {key.name for key in keys}
    if len(names) != 1:
        fail("say with --key whose checkpoint is to be believed: the key of one log", USAGE)
    data, origin = file.read_bytes(), names.pop()
    try:
        if data.startswith(_RECEIPT):
            entry, checkpoint = _check_receipt(data, keys, witnesses, origin)
            shown = _fields(entry, checkpoint)
        else:
            checked = check_bundle(read_bundle(data), keys, witnesses, origin=origin)
            shown = _fields(checked.entry, checked.checkpoint) | _bundle_fields(checked)
    except (InvalidBundle, InvalidEntry, InvalidNote, InvalidProof, UnverifiedNote) as fault:
        print_line(json.dumps({"holds": False, "why": str(fault)}) if as_json else f"{fault}")
        return False
    if as_json:
        print_line(json.dumps({"holds": True, "why": None} | shown))
    else:
        _say(shown)
    return True


def _check_receipt(
    data: bytes, keys: Sequence[VerifierKey], witnesses: Sequence[VerifierKey], origin: str
) -> tuple[Entry, Checkpoint]:
    receipt = read_receipt(data)
    checkpoint = receipt.verified(keys, origin=origin)
    for witness in witnesses:
        verified(receipt.note, [witness])
    entry = read_entry(receipt.entry)
    if (entry.index, entry.log) != (receipt.index, origin):
        raise InvalidEntry("the entry says that it belongs elsewhere")
    return entry, checkpoint


def _fields(entry: Entry, checkpoint: Checkpoint) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(bytes(entry))
    return {
        "log": checkpoint.origin,
        "size": checkpoint.size,
        "root": write_base64(checkpoint.root),
        "id": entry.subject,
        "kind": entry.kind.value,
        "index": entry.index,
        "at": said["at"],
        "actor": entry.actor,
        "sha256": entry.sha256,
    }


def _bundle_fields(checked: Checked) -> dict[str, Any]:
    asked = {
        name: checked.document[name] for name in ("model", "action", "decision", "valid_until")
    }
    return {**asked, "records": checked.records, "recomputed": checked.is_recomputed}


def _say(shown: dict[str, Any]) -> None:
    print_line(f"{shown['id']}: entry {shown['index']}, recorded {shown['at']} by {shown['actor']}")
    if "decision" in shown:
        until = shown["valid_until"]
        limit = f", held until {until}" if until else ""
        print_line(f"{shown['decision']}: {shown['action']} of {shown['model']}{limit}")
        if shown["recomputed"]:
            print_line(f"recomputed from {shown['records']} records to the same bytes")
        else:
            print_line(
                f"{shown['records']} records stand as they were recorded; not recomputed, for the "
                "evidence was left out"
            )
    print_line(f"in the tree of {shown['log']}, root {shown['root']} at size {shown['size']}")
