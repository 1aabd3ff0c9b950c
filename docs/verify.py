#!/usr/bin/env python3
"""Check a bundle or a receipt of aslgate, with no network, no database, and none of aslgate's code.

    python3 verify.py --key VKEY [--witness VKEY ...] FILE

FILE is what `aslgate ledger bundle ID` writes, or a receipt (`/v1/determinations/ID/proof`); VKEY the
ledger's verifier key, had from somewhere else. Exit code 0: all of it holds; 1: not; 2: usage. Written
from RFC 9162 and C2SP signed-note, tlog-checkpoint, tlog-cosignature and tlog-proof. To recompute the
decision too: `aslgate ledger verify FILE`.
"""

import argparse
import json
import re
import sys
from base64 import b64decode, b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ED25519, COSIGNATURE = 1, 4
SCHEMA, RECEIPT = "aslgate/bundle/v1", "c2sp.org/tlog-proof@v1\n"
IN_FORCE = {"policy-version", "policy-approval", "policy-activation"}
Json = dict[str, Any]


def need(holds: object, why: str) -> None:
    if not holds:
        raise ValueError(why)


def decoded(text: str) -> bytes:
    need(b64encode(b64decode(text)).decode() == text, "base64 is not as it is written")
    return b64decode(text)


def verifier_key(vkey: str, kind: int) -> tuple[str, bytes, bytes]:
    """Name, key id and public key of `name+id+base64`, as C2SP signed-note writes it."""
    name, id_, key = vkey.split("+", 2)
    material, computed = decoded(key), sha256(name.encode() + b"\n" + decoded(key)).digest()[:4]
    need(len(material) == 33 and material[0] == kind, f"not an Ed25519 key of type {kind}: {vkey}")
    need(computed.hex() == id_, f"the key id of {vkey} is not that of its key")
    return name, computed, material[1:]


def signed_text(note: str, vkey: str, kind: int) -> str:
    """The text of the note, if that key signed it."""
    text, _, signatures = note.rpartition("\n\n")
    need(
        re.fullmatch("(\u2014 [^ \n]+ [^ \n]+\n)+", signatures), "the checkpoint is no signed note"
    )
    text, (name, id_, public) = text + "\n", verifier_key(vkey, kind)
    for _, signer, encoded in map(str.split, signatures.splitlines()):
        message, raw, dated = text, decoded(encoded), 8 if kind == COSIGNATURE else 0
        if (signer, raw[:4]) == (name, id_):
            if dated:
                message = f"cosignature/v1\ntime {int.from_bytes(raw[4:12])}\n{text}"
            Ed25519PublicKey.from_public_bytes(public).verify(raw[4 + dated :], message.encode())
            return text
    raise ValueError(f"{name} did not sign the checkpoint")


def root_from(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """The root that the inclusion proof leads to, by the recursion of RFC 9162, 2.1.3.1."""
    need(0 <= index < size and (size > 1) == bool(path), "an inclusion proof is too long or short")
    if size == 1:
        return leaf
    left, beside, rest = 1 << (size - 1).bit_length() - 1, path[-1], path[:-1]
    if index < left:
        return sha256(b"\x01" + root_from(leaf, index, left, rest) + beside).digest()
    return sha256(b"\x01" + beside + root_from(leaf, index - left, size - left, rest)).digest()


def read(data: str) -> Json:
    """The bundle; or a receipt in the form of one, of no determination."""
    if not data.startswith(RECEIPT):
        return {"determination": None, **json.loads(data)}
    (_, extra, index, *path), note = data.split("\n\n")[0].split("\n"), data.split("\n\n", 1)[1]
    need(extra[:6] + index[:6] == "extra index ", "the receipt is malformed")
    record = {"index": int(index[6:]), "entry": extra[6:], "document": None, "inclusion": path}
    return {"schema": SCHEMA, "checkpoint": note, "records": [record]}


def check(bundle: Json, vkey: str, witnesses: list[str]) -> tuple[str, list[tuple[Json, Json]]]:
    """What the checkpoint says, and each record's entry with its bytes (none where left out)."""
    need(bundle["schema"] == SCHEMA, "not a bundle of a version that is known here")
    text = signed_text(bundle["checkpoint"], vkey, ED25519)
    [signed_text(bundle["checkpoint"], witness, COSIGNATURE) for witness in witnesses]
    origin, size, root, _ = text.split("\n")
    need(origin == vkey.split("+")[0], f"the checkpoint is of another log, {origin}")
    records: list[tuple[Json, Json]] = []
    for record in bundle["records"]:
        index, leaf, path = record["index"], decoded(record["entry"]), record["inclusion"]
        hashed, path = sha256(b"\x00" + leaf).digest(), [decoded(line) for line in path]
        there = root_from(hashed, index, int(size), path)
        need(there == decoded(root), f"entry {index} is not in the tree of the checkpoint")
        need(not records or records[-1][0]["index"] < index, f"entry {index} is out of order")
        entry, document = json.loads(leaf), record["document"]
        need((entry["index"], entry["log"]) == (index, origin), f"entry {index} belongs elsewhere")
        if document is not None:
            same = sha256(decoded(document)).hexdigest() == entry["payload"]["sha256"]
            need(same, f"entry {index} is of another document")
        records.append((entry, {} if document is None else json.loads(decoded(document))))
    return text, records


def rests_on(records: list[tuple[Json, Json]], id_: str) -> Json:
    """The determination, if all that it names is among the records, and was recorded before it."""
    by_subject = {entry["subject"]: (entry, said) for entry, said in records}
    entry, said = by_subject[id_]
    known_at, policy = said["provenance"]["known_at"], said["provenance"]["policy"]["digest"]
    named = {piece["id"]: piece["digest"] for piece in said["provenance"]["evidence"]}
    named |= {d["model"]: None for _, d in records if named and "model" in d}
    named |= {said["changed"]["since"]: None} if said["changed"] else {}
    named |= {policy: policy} if policy else {}
    kinds = {e["kind"] for e, d in records if policy in (e["subject"], d.get("digest"))}
    need(not policy or kinds >= IN_FORCE, f"{policy} was not recorded, approved and activated")
    for subject, digest in named.items():
        other = by_subject[subject][0]
        same = digest in (None, "sha256:" + other["payload"]["sha256"])
        need(same and other["index"] < known_at, f"{subject} was another, or recorded later")
    need(said["id"] == id_ and known_at <= entry["index"], "the determination stands elsewhere")
    return {**said, "index": entry["index"]}


def main() -> None:
    parser = argparse.ArgumentParser(description="Check a bundle or a receipt of aslgate offline.")
    parser.add_argument("--key", required=True)
    parser.add_argument("--witness", action="append", default=[])
    parser.add_argument("file", type=Path)
    asked = parser.parse_args()
    try:
        bundle = read(asked.file.read_bytes().decode())
        text, records = check(bundle, asked.key, asked.witness)
        said = rests_on(records, bundle["determination"]) if "determination" in bundle else {}
    except (InvalidSignature, ValueError, LookupError, TypeError, AttributeError) as error:
        sys.exit(f"REFUSED: {error!r}")
    print(
        "{decision}: {action} of {model}, entry {index}".format(**said) if said else records[0][0]
    )
    print(f"with {len(records)} records, in the tree of {' '.join(text.split())}")


if __name__ == "__main__":
    main()
