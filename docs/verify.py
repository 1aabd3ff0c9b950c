#!/usr/bin/env python3
"""Check a bundle or a receipt of aslgate, with no network, no database, and none of aslgate's code.

    python3 verify.py --key VKEY [--witness VKEY ...] FILE

FILE is what `aslgate ledger bundle ID` writes. VKEY is the ledger's verifier key, had from somewhere
else. Needs Python 3.11 and `cryptography`. Exit code 0: all of it holds; 1: not; 2: usage. Written
from RFC 9162 2.1.3.2 and C2SP signed-note, tlog-checkpoint and tlog-cosignature. What it does not
do is recompute the decision: `aslgate ledger verify FILE` does.
"""

import argparse
import hashlib
import json
import sys
from base64 import b64decode
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ED25519, COSIGNATURE = 1, 4
Records = list[tuple[dict[str, Any], bytes]]
decoded = partial(b64decode, validate=True)


def need(holds: bool, why: str) -> None:
    if not holds:
        raise ValueError(why)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def verifier_key(vkey: str, kind: int) -> tuple[str, bytes, bytes]:
    """Name, key id and public key of `name+id+base64`, as C2SP signed-note writes it."""
    name, id_, key = vkey.split("+", 2)
    material = decoded(key)
    need(len(material) == 33 and material[0] == kind, f"not an Ed25519 key of type {kind}: {vkey}")
    computed = sha256(name.encode() + b"\n" + material)[:4]
    need(computed.hex() == id_, f"the key id of {vkey} is not that of its key")
    return name, computed, material[1:]


def signed_text(note: str, vkey: str, kind: int) -> str:
    """The text of the note, if that key signed it."""
    text, separator, signatures = note.rpartition("\n\n")
    need(bool(separator) and signatures.endswith("\n"), "the checkpoint is no signed note")
    text, (name, id_, public) = text + "\n", verifier_key(vkey, kind)
    for line in signatures[:-1].split("\n"):
        (dash, signer, _), raw = line.split(" "), decoded(line.split(" ")[-1])
        need(dash == "\u2014" and len(raw) > 4, "a signature line is malformed")
        if (signer, raw[:4]) != (name, id_):
            continue
        message, raw = text.encode(), raw[4:]
        if kind == COSIGNATURE:
            time = int.from_bytes(raw[:8])
            message, raw = f"cosignature/v1\ntime {time}\n".encode() + message, raw[8:]
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(raw, message)
        except InvalidSignature:
            raise ValueError(f"the signature of {name} does not verify") from None
        return text
    raise ValueError(f"{name} did not sign the checkpoint")


def root_from(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """The root that the inclusion proof leads to: RFC 9162, 2.1.3.2."""
    need(0 <= index < size, f"entry {index} is not in a tree of {size}")
    fn, sn, r = index, size - 1, leaf
    for p in path:
        need(sn != 0, "the inclusion proof is too long")
        if fn & 1 or fn == sn:
            r = sha256(b"\x01" + p + r)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = sha256(b"\x01" + r + p)
        fn, sn = fn >> 1, sn >> 1
    need(sn == 0, "the inclusion proof is too short")
    return r


def check(bundle: dict[str, Any], vkey: str, witnesses: list[str]) -> tuple[str, Records]:
    """What the checkpoint says, and each record's entry with its bytes (none where left out)."""
    need(bundle["schema"] == "aslgate/bundle/v1", "not a bundle of a version that is known here")
    text = signed_text(bundle["checkpoint"], vkey, ED25519)
    [signed_text(bundle["checkpoint"], witness, COSIGNATURE) for witness in witnesses]
    lines = text.split("\n")
    need(len(lines) == 4 and lines[1].isdecimal(), "the checkpoint has not three lines")
    origin, size, root = lines[0], int(lines[1]), decoded(lines[2])
    need(origin == vkey.split("+", 1)[0], f"the checkpoint is of another log, {origin}")
    records: Records = []
    for record in bundle["records"]:
        index, leaf = record["index"], decoded(record["entry"])
        path = [decoded(line) for line in record["inclusion"]]
        there = root_from(sha256(b"\x00" + leaf), index, size, path) == root
        need(there, f"entry {index} is not in the tree that the checkpoint names")
        entry = json.loads(leaf)
        need((entry["index"], entry["log"]) == (index, origin), f"entry {index} belongs elsewhere")
        document = b"" if record["document"] is None else decoded(record["document"])
        same = record["document"] is None or sha256(document).hex() == entry["payload"]["sha256"]
        need(same, f"the bytes of entry {index} are not those that were recorded")
        records.append((entry, document))
    return text, records


def rests_on(records: Records, id_: str) -> dict[str, Any]:
    """The determination, if all that it names is among the records, and was recorded before it."""
    by_subject = {entry["subject"]: (entry, document) for entry, document in records}
    need(id_ in by_subject, f"{id_} is not in it")
    entry, said = by_subject[id_][0], json.loads(by_subject[id_][1])
    need(said["id"] == id_, "the determination calls itself by another id")
    provenance = said["provenance"]
    named = {piece["id"]: piece["digest"] for piece in provenance["evidence"]}
    if policy := provenance["policy"]["digest"]:
        named[policy] = policy
    for subject, digest in named.items():
        need(subject in by_subject, f"it rests on {subject}, which is not in it")
        other = by_subject[subject][0]
        need("sha256:" + other["payload"]["sha256"] == digest, f"{subject} has other bytes now")
        need(other["index"] < provenance["known_at"], f"{subject} was recorded after it was known")
    need(provenance["known_at"] <= entry["index"], "it saw more than there was")
    return {**said, "recorded": entry["at"], "index": entry["index"]}


def main() -> None:
    parser = argparse.ArgumentParser(description="Check a bundle of aslgate offline.")
    parser.add_argument("--key", required=True)
    parser.add_argument("--witness", action="append", default=[])
    parser.add_argument("file", type=Path)
    asked = parser.parse_args()
    try:
        bundle = json.loads(asked.file.read_bytes())
        text, records = check(bundle, asked.key, asked.witness)
        said = rests_on(records, bundle["determination"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        sys.exit(f"REFUSED: {error!r}")
    print(f"{said['decision'].upper()}: {said['action']} of {said['model']}, recorded", end=" ")
    print(f"{said['recorded']} as entry {said['index']}, with {len(records)} records")
    print("checkpoint: " + " ".join(text.split()))


if __name__ == "__main__":
    main()
