"""A fuzzer for the policy reader: whatever bytes come in, it answers with a version or with faults.

    .venv/bin/python benchmarks/fuzz_policy.py --seconds 3600 --seed 1

Half of the inputs are shipped documents with bytes changed, half are their trees with nodes moved,
doubled, emptied or replaced, written again as JSON. It stops with the input in hand where anything but
a refusal is raised, or one input takes more than five seconds.
"""

import argparse
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from app.errors import DocumentTooLarge, InvalidDocument
from app.policy.language import canonical_policy, checked_policy, read_policy

ROOT = Path(__file__).parents[1]
SLOWEST = 5.0
ODD: tuple[Any, ...] = (
    *("", " ", "\x00", "\u202e", "null", "no", "1e999", "-0", "P0D", "P6M", "@", "a" * 5000),
    *(None, True, 0, -1, 10**40, 1e-40, [], {}, [[]], {"": {}}, [None] * 50, {"not": {"not": {}}}),
    *({"all": []}, {"any": [{"finding": "reached"}]}, {"finding": "ruled-out", "by": ["ceo"]}),
)


def seeds() -> list[bytes]:
    """Small documents, and a few large ones."""
    texts = [ROOT / "tests" / "policy" / "valid.yaml", *sorted((ROOT / "policies").rglob("*.yaml"))]
    read = [text.read_bytes() for text in texts if ".cases." not in text.name]
    return [read[0]] * len(read) + sorted(read, key=len)[:12]


def bytes_changed(text: bytes, chance: random.Random) -> bytes:
    """The text with bytes flipped, cut, doubled, or a piece moved."""
    data = bytearray(text)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        if not data:
            break
        at = chance.randrange(len(data))
        match chance.randrange(5):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                del data[at : at + chance.randrange(1, 40)]
            case 2:
                data[at:at] = data[at : at + chance.randrange(1, 200)]
            case 3:
                data[at:at] = chance.choice(
                    (b"\t", b"- ", b": ", b"&a ", b"*a", b"!!x ", b"|", b"'", b"{", b"[", b"\xff")
                )
            case _:
                piece = data[at : at + chance.randrange(1, 300)]
                to = chance.randrange(len(data))
                data[to:to] = piece
    return bytes(data)


def nodes(tree: Any) -> list[tuple[Any, Any]]:
    """Every place in the tree: its holder, and the key there."""
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting:
        holder = waiting.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            found.append((holder, key))
            if isinstance(holder[key], dict | list):
                waiting.append(holder[key])
    return found


def tree_changed(text: bytes, chance: random.Random) -> bytes:
    """The document as JSON, with some of its nodes changed."""
    tree = yaml.load(text, Loader=yaml.CBaseLoader)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        places = nodes(tree)
        if not places:
            break
        holder, key = chance.choice(places)
        other, name = chance.choice(places)
        match chance.randrange(5):
            case 0:
                holder[key] = chance.choice(ODD)
            case 1:
                del holder[key]
            case 2:
                holder[key] = json.loads(json.dumps(other[name]))
            case 3 if isinstance(holder, dict):
                holder[chance.choice(("", "all", "not", "x" * 70, "ß", "finding", str(name)))] = (
                    holder[key]
                )
            case _:
                holder[key] = [holder[key]] * chance.choice((1, 2, 30))
        # A fresh copy, so that what was put in two places is not one thing that holds itself.
        tree = json.loads(json.dumps(tree))
    return json.dumps(tree).encode("utf-8", "surrogatepass")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    chance = random.Random(given.seed)
    texts = seeds()
    seen: Counter[str] = Counter()
    slowest = 0.0
    begun = time.monotonic()
    while time.monotonic() - begun < given.seconds:
        text = chance.choice(texts)
        in_yaml = chance.random() < 0.5
        data = bytes_changed(text, chance) if in_yaml else tree_changed(text, chance)
        started = time.monotonic()
        try:
            version = read_policy(data, "yaml" if in_yaml else "json")
            # What is accepted is read back as it was recorded.
            assert checked_policy(canonical_policy(version)) == version
            seen["accepted"] += 1
        except InvalidDocument:
            seen["refused"] += 1
        except DocumentTooLarge:
            seen["too large"] += 1
        except BaseException:
            Path("fuzz-found.bin").write_bytes(data)
            print(f"seed {given.seed}, after {sum(seen.values())} inputs: see fuzz-found.bin")
            raise
        took = time.monotonic() - started
        slowest = max(slowest, took)
        if took > SLOWEST:
            Path("fuzz-found.bin").write_bytes(data)
            sys.exit(f"{took:.1f} s for one input: see fuzz-found.bin")
    total = sum(seen.values())
    rate = total / given.seconds
    print(
        f"{total} inputs in {given.seconds:.0f} s ({rate:.0f}/s), seed {given.seed}: {dict(seen)}"
    )
    print(f"slowest: {slowest:.2f} s")


if __name__ == "__main__":
    main()
