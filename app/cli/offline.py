"""What `aslgate ledger verify FILE` does: believe the log's key, and nobody and nothing else."""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from app.cli.service import ALLOWED, DENIED, FAILED, USAGE, fail, print_line
from app.ledger.bundle import InvalidBundle, read_bundle
from app.ledger.checkpoint import Checkpoint, read_receipt
from app.ledger.entry import Entry, InvalidEntry, read_entry
from app.ledger.merkle import InvalidProof
from app.ledger.note import InvalidNote, UnverifiedNote, VerifierKey, verified, write_base64
from app.operations.bundle import Checked, check_bundle
from app.vocabulary import Decision, read_instant, write_instant

NOT_RECOMPUTED: Final = 4
"""Exit code: all that is in the bundle holds, and what its decision rests on was left out of it."""
_RECEIPT = b"c2sp.org/tlog-proof@"
_SKEW: Final = timedelta(minutes=1)
"""How far this machine's clock may be behind that of the database which recorded it."""


def check_file(
    file: Path,
    keys: Sequence[VerifierKey],
    witnesses: Sequence[VerifierKey],
    *,
    as_json: bool,
    now: datetime,
    passing: frozenset[Decision] | None = None,
) -> int:
    """Check the bundle or receipt in *file*, and say what it shows. The exit code: 0 where it holds,
    `FAILED`, `NOT_RECOMPUTED`.

    `passing`: with which decisions it may go ahead *now*; where the file shows none of these, or one
    that no longer holds, `DENIED`. `None`: it is not asked whether it may.
    """
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
            shown = _fields(checked.entry, checked.checkpoint) | _bundle_fields(checked, now)
    except (InvalidBundle, InvalidEntry, InvalidNote, InvalidProof, UnverifiedNote) as fault:
        print_line(json.dumps({"holds": False, "why": str(fault)}) if as_json else f"{fault}")
        return FAILED
    against = () if passing is None else tuple(_against(shown, passing, now))
    if as_json:
        asked = {} if passing is None else {"allows_now": not against, "against": against}
        print_line(json.dumps({"holds": True, "why": None} | shown | asked))
    else:
        _say(shown)
        for one in against:
            print_line(f"NOT ALLOWED NOW: {one}")
    if against:
        return DENIED
    return ALLOWED if shown.get("recomputed", True) else NOT_RECOMPUTED


def _against(shown: dict[str, Any], passing: frozenset[Decision], now: datetime) -> Iterator[str]:
    """Why what was shown, which holds, does not let the action go ahead now."""
    if "decision" not in shown:
        yield "a receipt does not say what was decided: give the bundle"
        return
    if Decision(shown["decision"]) not in passing:
        yield f"the decision is `{shown['decision']}`"
    if shown["lapsed"]:
        yield f"it held until {shown['valid_until']}, and it is {write_instant(now)}"
    if shown["of_the_past"]:
        yield "it was asked about the past, and says nothing of now"
    if read_instant(shown["at"]) > now + _SKEW:
        yield (
            f"it was recorded at {shown['at']}, and by this machine's clock it is only "
            f"{write_instant(now)}: whether it has lapsed cannot be told"
        )


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


def _bundle_fields(checked: Checked, now: datetime) -> dict[str, Any]:
    said, provenance = checked.document, checked.document["provenance"]
    until = checked.valid_until
    return {
        **{name: said[name] for name in ("model", "action", "decision", "valid_until")},
        "lapsed": until is not None and until <= now,
        "policy": provenance["policy"],
        "as_of": provenance["at"],
        "known_at": provenance["known_at"],
        "of_the_past": checked.is_of_the_past,
        "semantics": checked.engine.semantics,
        "records": checked.records,
        "recomputed": checked.is_recomputed,
    }


def _say(shown: dict[str, Any]) -> None:
    print_line(f"{shown['id']}: entry {shown['index']}, recorded {shown['at']} by {shown['actor']}")
    if "decision" in shown:
        _say_decision(shown)
    print_line(f"in the tree of {shown['log']}, root {shown['root']} at size {shown['size']}")


def _say_decision(shown: dict[str, Any]) -> None:
    """Of when it is, and by which policy, stands beside it: an allow alone says nothing of today."""
    print_line(f"{shown['decision']}: {shown['action']} of {shown['model']}")
    policy, as_of, known_at = shown["policy"], shown["as_of"], shown["known_at"]
    which = f"version {policy['version']} ({policy['digest']})"
    which = which if policy["digest"] else "no version in force"
    print_line(f"by policy {policy['name']}, {which}, semantics {shown['semantics']}")
    print_line(f"as of {as_of}, known at ledger size {known_at}")
    if shown["of_the_past"]:
        print_line(
            f"ASKED ABOUT THE PAST: it says what held then, and nothing of {shown['at']}, "
            "when it was recorded"
        )
    if shown["lapsed"]:
        print_line(f"LAPSED: it held until {shown['valid_until']} at the longest")
    else:
        until = shown["valid_until"] or "what it rests on moves"
        print_line(
            f"held until {until} at the longest; whether it still does, only the service says"
        )
    if shown["recomputed"]:
        print_line(f"recomputed from {shown['records']} records to the same bytes")
    else:
        print_line(
            "NOT RECOMPUTED, for evidence was left out: whether the decision follows is not seen; "
            f"its {shown['records']} records stand as they were recorded"
        )
