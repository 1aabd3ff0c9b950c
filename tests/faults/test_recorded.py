"""The check of the ledger is itself checked: on a ledger that was tampered with, it says so."""

import base64
import dataclasses
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.faults.recorded import (
    LOG,
    Entry,
    LedgerRead,
    TreeRead,
    Written,
    of_checkpoints,
    tree_over,
    violations,
)
from tests.faults.writers import Write

MODEL = "fault/m@1"
NO_TREE = TreeRead(b"", {})
BEGUN = datetime(2026, 1, 1, 0, 0, 0, 5, UTC)


def entry(index: int, kind: str, subject: str, said: dict[str, Any]) -> Entry:
    """A true entry, as the service would write it."""
    document = json.dumps(said, separators=(",", ":")).encode()
    at = BEGUN + timedelta(seconds=index)
    envelope = {
        "actor": "key_1",
        "at": at.replace(tzinfo=None).isoformat() + "Z",
        "index": index,
        "kind": kind,
        "log": "localhost/aslgate",
        "payload": {
            "sha256": hashlib.sha256(document).hexdigest(),
            "size": len(document),
            "type": f"application/vnd.aslgate.{kind}+json",
        },
        "subject": subject,
        "v": 1,
    }
    line = json.dumps(envelope).encode()
    leaf = hashlib.sha256(b"\x00" + line).digest()
    return Entry(index, kind, subject, "key_1", at, line, leaf, document)


def digest(entry: Entry) -> str:
    return f"sha256:{hashlib.sha256(entry.document).hexdigest()}"


def activation(index: int, version: str, in_force_from: str) -> Entry:
    said = {"policy": "p", "digest": f"sha256:{version}", "in_force_from": in_force_from}
    return entry(index, "policy-activation", f"pac_{index}", said)


def determination(
    index: int, evidence: list[Entry], policy: Entry, decision: str = "deny"
) -> Entry:
    id = f"det_{index}"
    provenance = {
        "known_at": index,
        "policy": {"name": "p", "digest": policy.said["digest"]},
        "evidence": [{"id": piece.subject, "digest": digest(piece)} for piece in evidence],
        "at": "2026-01-01T00:00:00Z",
    }
    said = {"id": id, "model": MODEL, "decision": decision, "provenance": provenance}
    return entry(index, "determination", id, said)


def write(entry: Entry, key: str, times: tuple[float, float]) -> Write:
    """What the client knows that recorded *entry*."""
    envelope = json.loads(entry.entry)
    position = {
        "index": entry.index,
        "leaf_hash": entry.leaf_hash.hex(),
        "recorded_at": envelope["at"],
    }
    answer = (
        entry.document[:-1]
        + b',"ledger":'
        + json.dumps(position, separators=(",", ":")).encode()
        + b"}"
    )
    sent_at, answered_at = times
    return Write(entry.kind, "/", b"", key, sent_at, 1, sent_at, answered_at, answer)


def a_true_ledger() -> tuple[LedgerRead, list[Write]]:
    policy = activation(0, "p", "2025-05-14T00:00:00Z")
    model = entry(1, "model", MODEL, {"model": MODEL})
    first = entry(2, "assessment", "asm_2", {"id": "asm_2", "model": MODEL, "assessor": "one"})
    answer = determination(3, [first], policy)
    approved = {"id": "sgn_4", "model": MODEL, "role": "ceo", "reason": "two"}
    second = entry(4, "sign-off", "sgn_4", approved)
    again = determination(5, [first, second], policy)
    entries = (policy, model, first, answer, second, again)
    writes = [write(e, f"k{e.index}", (e.index, e.index + 0.5)) for e in entries[1:]]
    written = tuple(
        Written(hashlib.sha256(f"k{e.index}".encode()).digest(), e.index, 1) for e in entries
    )
    ledger = LedgerRead(len(entries), entries[-1].at, entries, written, NO_TREE)
    return with_its_tree(ledger), writes


def with_its_tree(ledger: LedgerRead) -> LedgerRead:
    """The ledger with the tree over what its entries are."""
    return dataclasses.replace(ledger, tree=tree_over([e.leaf_hash for e in ledger.entries]))


Tamper = Callable[[LedgerRead, list[Write]], LedgerRead]


def lose_the_last(ledger: LedgerRead, _: list[Write]) -> LedgerRead:
    kept = ledger.entries[:-1]
    return LedgerRead(len(kept), kept[-1].at, kept, ledger.written[:-1], NO_TREE)


def leave_a_gap(ledger: LedgerRead, _: list[Write]) -> LedgerRead:
    entries = tuple(dataclasses.replace(e, index=e.index + (e.index > 3)) for e in ledger.entries)
    return dataclasses.replace(ledger, entries=entries)


def change_a_byte(ledger: LedgerRead, _: list[Write]) -> LedgerRead:
    entries = list(ledger.entries)
    document = entries[2].document.replace(b"one", b"two")
    entries[2] = dataclasses.replace(entries[2], document=document)
    return dataclasses.replace(ledger, entries=tuple(entries))


def change_an_envelope(ledger: LedgerRead, _: list[Write]) -> LedgerRead:
    entries = list(ledger.entries)
    line = entries[2].entry.replace(b"key_1", b"key_2")
    entries[2] = dataclasses.replace(entries[2], entry=line)
    return dataclasses.replace(ledger, entries=tuple(entries))


def record_twice(ledger: LedgerRead, _: list[Write]) -> LedgerRead:
    last = entry(6, "assessment", "asm_6", {"id": "asm_6", "model": MODEL, "assessor": "one"})
    written = (*ledger.written, Written(b"unknown", 6, 1))
    return LedgerRead(7, last.at, (*ledger.entries, last), written, NO_TREE)


def record_without_a_request(ledger: LedgerRead, _: list[Write]) -> LedgerRead:
    return dataclasses.replace(ledger, written=ledger.written[:-1])


def rest_on_too_little(ledger: LedgerRead, writes: list[Write]) -> LedgerRead:
    entries = list(ledger.entries)
    entries[5] = determination(5, [entries[2]], entries[0])
    writes[4] = write(entries[5], "k5", (5, 5.5))
    return dataclasses.replace(ledger, entries=tuple(entries))


def rest_on_what_came_later(ledger: LedgerRead, writes: list[Write]) -> LedgerRead:
    entries = list(ledger.entries)
    entries[3] = determination(3, [entries[2], entries[4]], entries[0])
    writes[2] = write(entries[3], "k3", (3, 3.5))
    return dataclasses.replace(ledger, entries=tuple(entries))


def rest_on_a_draft(ledger: LedgerRead, _: list[Write]) -> LedgerRead:
    draft = entry(0, "policy-version", "sha256:p", {"policy": "p", "digest": "sha256:p"})
    return dataclasses.replace(ledger, entries=(draft, *ledger.entries[1:]))


def answer_before_it_is_asked(ledger: LedgerRead, writes: list[Write]) -> LedgerRead:
    # It stands at index 2, and was sent only after what stands at 5 had been answered.
    writes[1] = write(ledger.entries[2], "k2", (9.0, 9.5))
    return ledger


def answer_two_with_one(ledger: LedgerRead, writes: list[Write]) -> LedgerRead:
    writes.append(write(ledger.entries[5], "k6", (7.0, 7.5)))
    return ledger


def answer_other_bytes(ledger: LedgerRead, writes: list[Write]) -> LedgerRead:
    assert writes[2].answer is not None
    writes[2].answer = writes[2].answer.replace(b'"known_at":3', b'"known_at": 3')
    return ledger


def test_a_true_ledger_has_nothing_wrong() -> None:
    assert violations(*a_true_ledger()) == []


@pytest.mark.parametrize(
    "tamper",
    [
        lose_the_last,
        leave_a_gap,
        change_a_byte,
        change_an_envelope,
        record_twice,
        record_without_a_request,
        rest_on_too_little,
        rest_on_what_came_later,
        rest_on_a_draft,
        answer_before_it_is_asked,
        answer_two_with_one,
        answer_other_bytes,
    ],
)
def test_a_ledger_that_was_tampered_with_is_told_from_a_true_one(tamper: Tamper) -> None:
    """Whoever could tamper could also make the tree anew, so that is not what tells."""
    ledger, writes = a_true_ledger()
    assert violations(with_its_tree(tamper(ledger, writes)), writes) != []


@pytest.mark.parametrize(
    ("activations", "goes_by"),
    [
        ([("p", "2025-05-14"), ("q", "2025-12-01")], "p"),
        ([("p", "2025-05-14"), ("q", "2026-01-02")], "q"),
        ([("p", "2026-01-02")], "p"),
    ],
)
def test_a_version_that_was_not_in_force_is_told(
    activations: list[tuple[str, str]], goes_by: str
) -> None:
    """Too old by then, not yet in force, and none at all in force."""
    entries = [
        activation(index, version, f"{day}T00:00:00Z")
        for index, (version, day) in enumerate(activations)
    ]
    entries.append(entry(len(entries), "model", MODEL, {"model": MODEL}))
    policy = next(one for one in entries if one.said.get("digest") == f"sha256:{goes_by}")
    entries.append(determination(len(entries), [], policy))
    found = violations(ledger_of(entries), [])
    assert found == [f"{len(entries) - 1} goes by a version that was not in force"]


def test_an_allow_that_the_evidence_does_not_carry_is_told() -> None:
    """Each piece that it needs is missed, and what was found against it is too."""
    pieces: list[tuple[str, dict[str, Any]]] = [
        ("assessment", {"assessor": "1", "findings": [{"outcome": "ruled-out"}]}),
        ("safeguard", {"stated_by": "2", "standard": "asl-2-deployment"}),
        ("safeguard", {"stated_by": "3", "standard": "asl-2-security"}),
        ("sign-off", {"reason": "4", "role": "ceo"}),
        ("sign-off", {"reason": "5", "role": "responsible-scaling-officer"}),
        ("assessment", {"assessor": "6", "findings": [{"outcome": "reached"}]}),
    ]

    def told(chosen: list[tuple[str, dict[str, Any]]]) -> list[str]:
        policy = activation(0, "p", "2025-05-14T00:00:00Z")
        model = entry(1, "model", MODEL, {"model": MODEL})
        evidence = [
            entry(index, kind, f"e{index}", {"model": MODEL} | said)
            for index, (kind, said) in enumerate(chosen, 2)
        ]
        allows = determination(2 + len(evidence), evidence, policy, "allow")
        return violations(ledger_of([policy, model, *evidence, allows]), [])

    enough = pieces[:5]
    assert told(enough) == []
    for left_out in enough:
        found = told([piece for piece in enough if piece is not left_out])
        assert [one.partition(":")[0] for one in found] == ["OPEN"]
    assert told(pieces) == ["OPEN: 8 allows what has reached a threshold"]


def ledger_of(entries: list[Entry]) -> LedgerRead:
    """A true ledger of these, each recorded by one request."""
    written = tuple(Written(f"k{e.index}".encode(), e.index, 1) for e in entries)
    return with_its_tree(LedgerRead(len(entries), entries[-1].at, tuple(entries), written, NO_TREE))


@pytest.mark.parametrize(
    "tree", [TreeRead(bytes(32), {}), TreeRead(a_true_ledger()[0].tree.root, {(0, 0): bytes(8192)})]
)
def test_a_tree_over_something_else_is_told_from_the_true_one(tree: TreeRead) -> None:
    ledger, writes = a_true_ledger()
    assert violations(dataclasses.replace(ledger, tree=tree), writes) != []


KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))


def checkpoint(size: int, root: bytes, *, log: str = LOG, by: Ed25519PrivateKey = KEY) -> str:
    """A signed note (C2SP) of the ledger's size and root."""
    text = f"{log}\n{size}\n{base64.b64encode(root).decode()}\n"
    public = by.public_key().public_bytes_raw()
    key_id = hashlib.sha256(LOG.encode() + b"\n\x01" + public).digest()[:4]
    signature = base64.b64encode(key_id + by.sign(text.encode())).decode()
    return f"{text}\n— {LOG} {signature}\n"


def test_checkpoints_of_the_ledger_are_told_from_others() -> None:
    """Of one history are those of the first so many entries, whoever showed them."""
    ledger, writes = a_true_ledger()
    leaves = [entry.leaf_hash for entry in ledger.entries]
    true = [checkpoint(size, tree_over(leaves[:size]).root) for size in range(len(leaves) + 1)]
    others = [*leaves[:3], bytes(32)]
    false = [
        checkpoint(4, tree_over(others).root),
        checkpoint(7, tree_over([*leaves, bytes(32)]).root),
        checkpoint(6, ledger.tree.root, log="another/log"),
    ]
    stranger = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
    signed_by_another = checkpoint(6, ledger.tree.root, by=stranger)

    assert of_checkpoints(ledger, true, KEY.public_key()) == []
    for note in false:
        assert len(of_checkpoints(ledger, [*true, note])) == 1
        assert violations(dataclasses.replace(ledger, checkpoints=(note,)), writes) != []
    assert of_checkpoints(ledger, [signed_by_another]) == []
    assert len(of_checkpoints(ledger, [*true, signed_by_another], KEY.public_key())) == 1
