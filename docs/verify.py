#!/usr/bin/env python3
"""Check a bundle or a receipt of aslgate, with no network, no database, and none of aslgate's code.

    python3 verify.py --key VKEY [--witness VKEY ...] FILE

FILE is what `aslgate ledger bundle ID` writes, or a receipt (`/v1/determinations/ID/proof`); VKEY the
ledger's verifier key, had from somewhere else. Exit code 0: all of it holds; 1: not; 2: usage. Written
from RFC 9162 and C2SP signed-note, tlog-checkpoint, tlog-cosignature and tlog-proof.
"""

import argparse
import json
import re
import sys
from base64 import b64decode, b64encode
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

Json = dict[str, Any]
SCHEMA, RECEIPT, ED25519, COSIGNATURE = "aslgate/bundle/v1", "c2sp.org/tlog-proof@v1\n", 1, 4
KEPT = "policy-version", "policy-approval", "policy-activation", "model", "determination"
SHOWN = """{said[decision]}: {said[action]} of {said[model]}, entry {own[index]} of {own[at]}
{past}as of {saw[at]}, known at ledger size {saw[known_at]}
by policy {policy[name]} {policy[version]} ({policy[digest]}), semantics {saw[engine][semantics]}
held until {until} at the longest; NOT RECOMPUTED here: `aslgate ledger verify FILE` does"""
instant, MINUTE = datetime.fromisoformat, timedelta(minutes=1)


def need(holds: object, why: str) -> None:
    if not holds:
        raise ValueError(why)


def decoded(text: str) -> bytes:
    need(b64encode(b64decode(text)).decode() == text, "base64 is not as it is written")
    return b64decode(text)


def once(pairs: list[tuple[str, Any]]) -> Json:
    need(len(dict(pairs)) == len(pairs), "a key stands twice in one object")
    return dict(pairs)


def parsed(text: str | bytes) -> Any:
    return json.loads(text, object_pairs_hook=once, parse_constant=int)  # `NaN` is no integer.


def signed_text(note: str, vkey: str, kind: int) -> str:
    """The text of the note, if that key (`name+id+base64`, as in C2SP signed-note) signed it."""
    name, id_, key = vkey.split("+", 2)
    material, computed = decoded(key), sha256(name.encode() + b"\n" + decoded(key)).digest()[:4]
    need([len(material), material[0], computed.hex()] == [33, kind, id_], f"no such key: {vkey}")
    text, _, lines = note.rpartition("\n\n")
    need(re.fullmatch("(\u2014 [^ \n]+ [^ \n]+\n)+", lines), "the checkpoint is no signed note")
    each = [(signer, decoded(line)) for _, signer, line in map(str.split, lines.splitlines())]
    own = [raw[4:] for signer, raw in each if (signer, raw[:4]) == (name, computed)]
    need(own, f"{name} did not sign the checkpoint")
    for raw in own:
        dated = f"cosignature/v1\ntime {int.from_bytes(raw[:8])}\n" if kind == COSIGNATURE else ""
        public = Ed25519PublicKey.from_public_bytes(material[1:])
        public.verify(raw[8 if dated else 0 :], f"{dated}{text}\n".encode())
    return text


def root_from(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """The root that the inclusion proof leads to, by the recursion of RFC 9162, 2.1.3.1."""
    need(0 <= index < size and (size > 1) == bool(path), "an inclusion proof is too long or short")
    if size == 1:
        return leaf
    left, beside, rest = 1 << (size - 1).bit_length() - 1, path[-1], path[:-1]
    if index < left:
        return sha256(b"\x01" + root_from(leaf, index, left, rest) + beside).digest()
    return sha256(b"\x01" + beside + root_from(leaf, index - left, size - left, rest)).digest()


def check(data: str, vkey: str, witnesses: list[str]) -> tuple[str, Any, list[Json]]:
    """What the checkpoint says, what the bundle is of, and each entry with its document, `doc`."""
    bundle: Json = {} if data.startswith(RECEIPT) else parsed(data)
    if not bundle:
        (_, extra, at, *lines), note = data.split("\n\n")[0].split("\n"), data.split("\n\n", 1)[1]
        need(extra[:6] + at[:6] == "extra index ", "the receipt is malformed")
        only = {"index": int(at[6:]), "entry": extra[6:], "document": None, "inclusion": lines}
        bundle = {"schema": SCHEMA, "checkpoint": note, "determination": None, "records": [only]}
    need(bundle["schema"] == SCHEMA, "not a bundle of a version that is known here")
    text, found = signed_text(bundle["checkpoint"], vkey, ED25519), list[Json]()
    [signed_text(bundle["checkpoint"], witness, COSIGNATURE) for witness in witnesses]
    origin, size, root = text.split("\n")
    need(origin == vkey.split("+")[0], f"the checkpoint is of another log, {origin}")
    for record in bundle["records"]:
        index, leaf, document = record["index"], decoded(record["entry"]), record["document"]
        hashed, path = sha256(b"\x00" + leaf).digest(), [decoded(p) for p in record["inclusion"]]
        need(root_from(hashed, index, int(size), path) == decoded(root), f"{index} is not in there")
        need(not found or found[-1]["index"] < index, f"entry {index} is out of order")
        entry, written = parsed(leaf), decoded(document or "")
        own = type(index) is int and (entry["index"], entry["log"]) == (index, origin)
        entry["hash"] = "sha256:" + entry["payload"]["sha256"]
        same = document is None or "sha256:" + sha256(written).hexdigest() == entry["hash"]
        need(own and same, f"entry {index} belongs elsewhere, or is of another document")
        found.append({**entry, "doc": parsed(written or "{}"), "who": entry["actor"].split("/")[0]})
    return text, bundle["determination"], found


def rests_on(found: list[Json], id_: str) -> str:
    """What the determination says, if it stands on what is there, and that was recorded before it."""
    by_subject = {entry["subject"]: entry for entry in found}
    need(len(by_subject) == len(found), "two of its records have one name")
    own, said, saw = by_subject[id_], by_subject[id_]["doc"], by_subject[id_]["doc"]["provenance"]
    at, recorded, policy = instant(saw["at"]), instant(own["at"]), saw["policy"]
    need([said["id"], own["kind"], saw["actor"]] == [id_, KEPT[4], own["actor"]], "it is another's")
    need(saw["known_at"] <= own["index"] and at <= recorded + MINUTE, "it speaks of the future")
    named = {one["id"]: one["digest"] for one in saw["evidence"]}
    for e in found:
        subject, kind, as_named = e["subject"], e["kind"], named.get(e["subject"]) == e["hash"]
        need(e is own or e["index"] < saw["known_at"], f"{subject} came after what it saw")
        need(e["doc"] if kind in KEPT else as_named, f"{subject} is another, or left out")
        need(kind not in KEPT[:3] or e["doc"]["policy"] == policy["name"], "it is of two policies")
    needed = {*named, *(e["doc"].get("model", id_) for e in found if named)}
    needed |= {said["changed"]["since"]} if said["changed"] else set()
    need(needed <= by_subject.keys(), f"it is without {needed - by_subject.keys()}")
    versions, approvals, begun = ([e for e in found if e["kind"] == kind] for kind in KEPT[:3])
    ends = [(instant(e["doc"]["in_force_from"]), e["doc"]["digest"], e["index"]) for e in begun]
    _, digest, last = max([one for one in ends if one[0] <= at], default=(at, None, 0))
    need(digest == policy["digest"] and (digest or not policy["version"]), f"{digest} was in force")
    if digest:
        (of,) = (e for e in versions if e["subject"] == e["hash"] == digest)
        by = [e for e in approvals if e["doc"]["digest"] == digest and e["who"] != of["who"]]
        early = any(of["index"] < e["index"] < last for e in by)
        need(early and of["doc"]["version"] == policy["version"], f"nobody else approved {digest}")
    is_past = saw["known_at"] != own["index"] or at + MINUTE < recorded
    past = "ASKED ABOUT THE PAST, and no answer about when it was recorded: " if is_past else ""
    until = said["valid_until"] or "what it rests on moves"
    return SHOWN.format(own=own, said=said, saw=saw, policy=policy, until=until, past=past)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Check a bundle or a receipt of aslgate offline.")
    parser.add_argument("--key", required=True)
    parser.add_argument("--witness", action="append", default=[])
    parser.add_argument("file", type=Path)
    asked = parser.parse_args()
    sys.excepthook = lambda _, error, __: print(f"REFUSED: {error!r}", file=sys.stderr)
    data = asked.file.read_bytes().decode()
    text, id_, found = check(data, asked.key, asked.witness)
    shown = found[0] if data.startswith(RECEIPT) else rests_on(found, id_)
    print(f"{shown}\nwith {len(found)} records, in the tree of {' '.join(text.split())}")
