"""A log of 70,000 entries, written by the running service, read and verified by others' programs.

    .venv/bin/python benchmarks/third_party/run.py [--entries 70000] [--mutations 200] [--seed 1]

Starts `aslgate serve` on an embedded database, asks it for so many determinations, exports the log
(`aslgate ledger export`), and has it verified, whole, by three programs that share no code with
ours, nor with each other:

- Go's golang.org/x/mod/sumdb note and tlog, which its toolchain carries (`verify/main.go`);
- tlog-scales, which reads tlog-tiles;
- pymerkle, which knows the tree alone: beside it the signature is checked by `cryptography`.

Then one thing at a time is changed, in a tile, an entry, the checkpoint, its size or root (signed
anew by the log's own key, as a dishonest log would) or a proof; and each of the three must refuse
each. As it stands it takes minutes, most of them to write the log; `tests/ledger/test_third_parties.py`
runs it in a smaller form.

tlog-scales and pymerkle verify single entries. So they look at the entries of the bundle in which
something was changed and at the first entry of each other bundle; the Go program always looks at all.
"""

import argparse
import base64
import copy
import importlib.util
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pymerkle import InmemoryTree, verify_inclusion
from pymerkle.core import _inclusion_path_layout
from pymerkle.hasher import MerkleHasher
from pymerkle.proof import InclusionProof
from tlog_scales import signing
from tlog_scales.backend import LocalBackend
from tlog_scales.reader import TilesReader
from tlog_scales.tiles import leaf_hash
from tlog_scales.tlog import Checkpoint as TheirCheckpoint
from tlog_scales.tlog import ConsistencyProof
from tlog_scales.tlog import InclusionProof as TheirInclusionProof

from app.ledger.checkpoint import Checkpoint, read_checkpoint
from app.ledger.note import Note, SignatureLine, SigningKey, read_note, write_base64
from app.storage.signer_files import read_ledger_keys

WIDTH: Final = 256
KEY: Final = "key-of-the-third-parties-0123456789abcdef"
PROGRAM: Final = str(Path(sys.prefix) / "bin" / "aslgate")
AT_ONCE: Final = 1000
PROOFS: Final = 30
KINDS: Final = ("tile", "leaf", "note", "size", "proof")

Json = dict[str, Any]


# --- The log ---------------------------------------------------------------------------------------


@contextmanager
def serving(data: Path) -> Iterator[httpx.Client]:
    """The service on that data directory, and a client for it."""
    environ = os.environ | {
        "ASLGATE_BOOTSTRAP_KEY": KEY,
        "ASLGATE_DEADLINE_SECONDS": "120",
        "ASLGATE_MAX_BODY_BYTES": str(4 << 20),
    }
    port = free_port()
    with (data.parent / "service.log").open("wb") as output:
        process = subprocess.Popen(
            [PROGRAM, "serve", f"--data-dir={data}", f"--port={port}"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environ,
        )
    headers = {"Authorization": f"Bearer {KEY}"}
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=180
        ) as client:
            wait(lambda: process.poll() is not None or _is_ready(client))
            yield client
    finally:
        process.terminate()
        process.wait(60)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").is_success
    except httpx.HTTPError:
        return False


def wait(until: Callable[[], bool]) -> None:
    """Wait until it holds; not for ever."""
    deadline = time.monotonic() + 120
    while not until():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.1)


def write_log(client: httpx.Client, entries: int) -> None:
    """Determinations, so that there are so many entries with that of the first key; and a checkpoint
    over all of them.
    """
    for first in range(1, entries, AT_ONCE):
        asked = [
            {"model": f"model@{number}", "action": "deploy", "policy": "policy"}
            for number in range(first, min(first + AT_ONCE, entries))
        ]
        # Where it has too much to do, it says when to come again; nothing is recorded twice.
        again = {"Idempotency-Key": f"from-{first}"}
        body = {"determinations": asked}
        while (
            answer := client.post("/v1/determinations/batch", json=body, headers=again)
        ).status_code == 503:
            time.sleep(1)
        answer.raise_for_status()
    wait(lambda: newest(client).size == entries)


def newest(client: httpx.Client) -> Checkpoint:
    """The newest checkpoint; not verified."""
    return read_checkpoint(read_note(client.get("/v1/ledger/checkpoint").content).text)


def fetch_proofs(client: httpx.Client, entries: int, chance: random.Random) -> Json:
    """Proofs as the service gives them."""
    inclusion, consistency = [], []
    for index in (0, entries - 1, *chance.sample(range(entries), PROOFS - 2)):
        said = client.get(
            f"/v1/ledger/entries/{index}/proof", headers={"Accept": "application/json"}
        ).json()
        inclusion.append({"Index": index, "Entry": said["entry"], "Proof": said["proof"]})
    for size in (1, 256, entries, *chance.sample(range(1, entries), 7)):
        said = client.get(f"/v1/ledger/consistency?from={size}&to={entries}").json()
        consistency.append({"Size": size, "Root": said["from_root"], "Proof": said["proof"]})
    return {"Inclusion": inclusion, "Consistency": consistency}


# --- What verifies it ------------------------------------------------------------------------------


class Refused(Exception):
    """A program does not accept what it was shown."""


@dataclass
class Shown:
    """A log in a folder, with proofs, and the first entries of the bundles to look at closely."""

    folder: Path
    vkey: str
    proofs: Json
    bundles: Sequence[int] = ()


Verify = Callable[[Shown], None]


@contextmanager
def building_go(folder: Path) -> Iterator[Callable[[], Verify]]:
    """Build the Go program from its toolchain's own copy of x/mod, without any module proxy; what is
    given waits until that is done. Meanwhile a log can be written.
    """
    toolchain = importlib.util.find_spec("go")
    if toolchain is None or toolchain.origin is None:
        sys.exit("there is no Go toolchain: it comes with what requirements-dev.lock pins")
    root, here = Path(toolchain.origin).parent, Path(__file__).parent
    source = folder / "src"
    shutil.copytree(
        root / "src/cmd/vendor/golang.org/x/mod", source / "golang.org/x/mod", dirs_exist_ok=True
    )
    shutil.copytree(here / "verify", source / "verify", dirs_exist_ok=True)
    environ = os.environ | {
        "GO111MODULE": "off",
        "GOPATH": str(folder),
        "GOCACHE": str(folder / "cache"),
        "GOTOOLCHAIN": "local",
        "GOPROXY": "off",
        "CGO_ENABLED": "0",
    }
    program = folder / "verify"
    command = [str(root / "bin/go"), "build", "-o", str(program), "verify"]
    with subprocess.Popen(command, env=environ) as build:

        def built() -> Verify:
            if build.wait():
                sys.exit("the Go program cannot be built")
            return with_go(program, folder)

        yield built


def with_go(program: Path, folder: Path) -> Verify:
    """All entries, tiles and proofs, by Go's own packages."""

    def verify(shown: Shown) -> None:
        proofs = folder / "proofs.json"
        proofs.write_text(json.dumps(shown.proofs))
        ran = subprocess.run(
            [str(program), shown.vkey, str(shown.folder), str(proofs)],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
        if ran.returncode == 1 and ran.stderr.startswith("refused: "):
            raise Refused(ran.stderr)
        if ran.returncode:
            raise RuntimeError(ran.stderr)

    return verify


def looked_at(size: int, bundles: Iterable[int]) -> list[int]:
    """All entries of those bundles, and the first of each other one."""
    closely = {first + i for first in bundles for i in range(WIDTH) if first + i < size}
    return sorted(closely | set(range(0, size, WIDTH)))


def with_tlog_scales(shown: Shown) -> None:
    """As its own `get-leaf --check` does it, entry after entry, and the proofs of the service."""
    try:
        reader = TilesReader(LocalBackend(shown.folder))
        said = reader.get_checkpoint()
        said.verify(signing.Vkey.from_string(shown.vkey))
        if reader.calculate_root_hash() != said.root_hash:
            raise ValueError("another root")
        for index in looked_at(said.size, shown.bundles):
            proof = reader.get_inclusion_proof(index, said.size)
            proof.check(leaf_hash(reader.get_entry(index)), said.root_hash)
        for one in shown.proofs["Inclusion"]:
            theirs = TheirInclusionProof(one["Index"], said.size, hashes(one["Proof"]))
            theirs.check(leaf_hash(base64.b64decode(one["Entry"])), said.root_hash)
        for one in shown.proofs["Consistency"]:
            extends = ConsistencyProof(one["Size"], said.size, hashes(one["Proof"]))
            extends.check(base64.b64decode(one["Root"]), said.root_hash)
    except Exception as error:
        raise Refused(repr(error)) from error


def with_pymerkle(shown: Shown) -> None:
    """Its inclusion proofs, put together from tiles by tlog-scales or given by the service."""
    try:
        reader = TilesReader(LocalBackend(shown.folder))
        said = reader.get_checkpoint()
        see_signed(said, shown.vkey)
        for index in looked_at(said.size, shown.bundles):
            path = reader.get_inclusion_proof(index, said.size).node_hashes
            included(reader.get_entry(index), index, said.size, path, said.root_hash)
        for one in shown.proofs["Inclusion"]:
            entry, path = base64.b64decode(one["Entry"]), hashes(one["Proof"])
            included(entry, one["Index"], said.size, path, said.root_hash)
    except Exception as error:
        raise Refused(repr(error)) from error


def included(entry: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """See with pymerkle that the entry stands there; it counts from one."""
    leaf = HASHER.hash_buff(entry)
    rule, _ = _inclusion_path_layout(index + 1, size)
    proof = InclusionProof("sha256", True, size, index + 1, rule, [leaf, *path])
    verify_inclusion(leaf, root, proof, index=index + 1, size=size, algorithm="sha256")


HASHER: Final = MerkleHasher("sha256", True)


def see_signed(said: TheirCheckpoint, vkey: str) -> None:
    """See with `cryptography` alone that the checkpoint is by that key."""
    name, _, material = vkey.split("+", 2)
    (line,) = said.signatures
    if line.name != name or f"{line.key_id:08x}" != vkey.split("+")[1]:
        raise ValueError("by another key")
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(material)[1:])
    public.verify(line.payload, said.serialize_body().encode())


def hashes(lines: Iterable[str]) -> list[bytes]:
    """The hashes that base64 lines are."""
    return [base64.b64decode(line, validate=True) for line in lines]


def root_by_pymerkle(folder: Path, size: int) -> bytes:
    """The root of the tree that pymerkle builds over all entries itself."""
    tree, reader = InmemoryTree(algorithm="sha256"), TilesReader(LocalBackend(folder))
    reader.get_checkpoint()
    for index in range(size):
        tree.append_entry(reader.get_entry(index))
    root: bytes = tree.get_root()
    return root


# --- What is changed -------------------------------------------------------------------------------


@dataclass
class Mutations:
    """Changes one thing in a log, and puts it back."""

    shown: Shown
    key: SigningKey
    chance: random.Random
    size: int
    _hashes: list[Path] = field(init=False)
    _bundles: list[Path] = field(init=False)

    def __post_init__(self) -> None:
        root = self.shown.folder / "tile"
        tiles = sorted(path for path in root.rglob("*") if path.is_file())
        self._bundles = [path for path in tiles if root / "entries" in path.parents]
        self._hashes = [path for path in tiles if path not in self._bundles]

    @contextmanager
    def one(self, kind: str) -> Iterator[tuple[str, Shown]]:
        """The log with one thing of that kind changed, and what that is."""
        match kind:
            case "tile":
                path, what, changed, bundles = self._tile()
            case "leaf":
                path, what, changed, bundles = self._leaf()
            case "note":
                path, what, changed, bundles = self._note()
            case "size":
                path, what, changed, bundles = self._size()
            case _:
                what, proofs = self._proof()
                yield what, Shown(self.shown.folder, self.shown.vkey, proofs)
                return
        kept = path.read_bytes()
        assert changed != kept, what
        path.write_bytes(changed)
        try:
            yield what, Shown(self.shown.folder, self.shown.vkey, self.shown.proofs, bundles)
        finally:
            path.write_bytes(kept)

    def _flipped(self, data: bytes, first: int = 0) -> bytes:
        """One bit other, from that byte on."""
        at = self.chance.randrange(first, len(data))
        return data[:at] + bytes([data[at] ^ 1 << self.chance.randrange(8)]) + data[at + 1 :]

    def _tile(self) -> tuple[Path, str, bytes, list[int]]:
        # Of the upper levels there are few tiles: they have their turn too.
        there = {int(path.parts[path.parts.index("tile") + 1]) for path in self._hashes}
        level = self.chance.choice([0, *sorted(there)])
        below = self.shown.folder / "tile" / str(level)
        path = self.chance.choice([one for one in self._hashes if below in one.parents])
        data = path.read_bytes()
        row = [data[i : i + 32] for i in range(0, len(data), 32)]
        how = self.chance.choice(["bit", "swapped", "shorter"] if len(row) > 1 else ["bit"])
        at = self.chance.randrange(len(row))
        if how == "swapped":
            at = self.chance.randrange(len(row) - 1)
            row[at], row[at + 1] = row[at + 1], row[at]
        elif how == "shorter":
            row = row[:-1]
        else:
            row[at] = self._flipped(row[at])
        first = (number_of(path) * WIDTH + at) * WIDTH**level
        bundles = [first // WIDTH * WIDTH]
        if level:
            # What is beside it in the tree is what is proven with its help.
            beside = ((number_of(path) * WIDTH + at) ^ 1) * WIDTH**level
            bundles.append(beside // WIDTH * WIDTH)
        return path, f"{how} at hash {at} of {path}", b"".join(row), bundles

    def _leaf(self) -> tuple[Path, str, bytes, list[int]]:
        path = self.chance.choice(self._bundles)
        entries = split(path.read_bytes())
        at = self.chance.randrange(len(entries) - 1)
        how = self.chance.choice(["bit", "swapped", "missing", "twice"])
        if how == "bit":
            entries[at] = self._flipped(entries[at])
        elif how == "swapped":
            entries[at], entries[at + 1] = entries[at + 1], entries[at]
        elif how == "missing":
            del entries[at]
        else:
            entries.insert(at, entries[at])
        joined = b"".join(len(one).to_bytes(2) + one for one in entries)
        return path, f"{how} at entry {at} of {path}", joined, [number_of(path) * WIDTH]

    def _note(self) -> tuple[Path, str, bytes, list[int]]:
        path = self.shown.folder / "checkpoint"
        note = read_note(path.read_bytes())
        if self.chance.random() < 0.5:
            text = note.text.encode()
            at = self.chance.randrange(len(text))
            other = self.chance.choice([c for c in b"0123456789ABCxyz+/" if c != text[at]])
            text = text[:at] + bytes([other]) + text[at + 1 :]
            changed = text + str(note).encode()[len(note.text.encode()) :]
            return path, f"character {at} of the note", changed, []
        (line,) = note.signatures
        raw = self._flipped(line.key_id + line.signature)
        changed_line = SignatureLine(line.name, raw[:4], raw[4:])
        return path, "a bit of the signature", str(Note(note.text, (changed_line,))).encode(), []

    def _size(self) -> tuple[Path, str, bytes, list[int]]:
        path = self.shown.folder / "checkpoint"
        said = read_checkpoint(read_note(path.read_bytes()).text)
        if self.chance.random() < 0.3:
            root = self._flipped(said.root)
            note = Checkpoint(said.origin, said.size, root).signed([self.key])
            return path, "another root, signed", str(note).encode(), []
        away = self.chance.choice([-1, 1]) * self.chance.choice([1, 2, 7, 256, 4096, 65536])
        size = max(1, said.size + away)
        note = Checkpoint(said.origin, size, said.root).signed([self.key])
        return path, f"size {size}, signed", str(note).encode(), []

    def _proof(self) -> tuple[str, Json]:
        proofs = copy.deepcopy(self.shown.proofs)
        one = self.chance.choice(proofs["Inclusion"])
        lines = one["Proof"]
        how = self.chance.choice(["bit", "shorter", "longer", "swapped", "index", "entry"])
        at = self.chance.randrange(len(lines) - 1)
        if how == "bit":
            lines[at] = write_base64(self._flipped(base64.b64decode(lines[at])))
        elif how == "shorter":
            del lines[at]
        elif how == "longer":
            lines.insert(at, lines[at])
        elif how == "swapped":
            lines[at], lines[at + 1] = lines[at + 1], lines[at]
        elif how == "index":
            one["Index"] = (one["Index"] + self.chance.choice([1, 2, 256])) % self.size
        else:
            one["Entry"] = write_base64(self._flipped(base64.b64decode(one["Entry"])))
        return f"{how} in the proof of {one['Index']}", proofs

    def consistency(self) -> tuple[str, Shown]:
        """A consistency proof with one thing changed; pymerkle reads none of another's making."""
        proofs = copy.deepcopy(self.shown.proofs)
        one = self.chance.choice([one for one in proofs["Consistency"] if len(one["Proof"]) > 1])
        lines, at = one["Proof"], self.chance.randrange(len(one["Proof"]) - 1)
        how = self.chance.choice(["bit", "shorter", "longer", "size", "root"])
        if how == "bit":
            lines[at] = write_base64(self._flipped(base64.b64decode(lines[at])))
        elif how == "shorter":
            del lines[at]
        elif how == "longer":
            lines.insert(at, lines[at])
        elif how == "size":
            one["Size"] += 1
        else:
            one["Root"] = write_base64(self._flipped(base64.b64decode(one["Root"])))
        return f"{how} in consistency", Shown(self.shown.folder, self.shown.vkey, proofs)


def number_of(path: Path) -> int:
    """The number of a tile, by its path."""
    at = path.parts.index("tile") + 2
    parts = [part.removesuffix(".p").removeprefix("x") for part in path.parts[at:]]
    if path.parent.name.endswith(".p"):
        parts = parts[:-1]
    return int("".join(parts))


def split(bundle: bytes) -> list[bytes]:
    """The entries of a bundle."""
    entries = []
    while bundle:
        end = 2 + int.from_bytes(bundle[:2])
        entries.append(bundle[2:end])
        bundle = bundle[end:]
    return entries


# --- Both ------------------------------------------------------------------------------------------


def is_refused(verify: Verify, shown: Shown) -> bool:
    """Whether that program refuses it."""
    try:
        verify(shown)
    except Refused:
        return True
    return False


def timed(name: str, work: Callable[[], object]) -> None:
    """Do it, and print how long that took."""
    begun = time.monotonic()
    work()
    print(f"{name:<44}{time.monotonic() - begun:8.2f} s", flush=True)


def main() -> None:
    """Write, verify, change, verify."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, default=70_000)
    parser.add_argument("--mutations", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    chance = random.Random(asked.seed)
    # Postgres runs as another user where we are root, and must be able to enter.
    top = Path(tempfile.mkdtemp(prefix="asl-"))
    top.chmod(0o755)
    try:
        run(top, asked.entries, asked.mutations, chance)
    finally:
        shutil.rmtree(top)


def run(top: Path, entries: int, mutations: int, chance: random.Random) -> None:
    """All of it, below that folder."""
    (top / "go").mkdir()
    with building_go(top / "go") as go_built:
        shown, key = written(top, entries, chance)

        def wait_for_go() -> None:
            programs["Go"] = go_built()

        timed("waited for the Go program to be built", wait_for_go)
    programs.update({"tlog-scales": with_tlog_scales, "pymerkle": with_pymerkle})
    verify_all(shown, entries)
    change_each(shown, Mutations(shown, key, chance, entries), mutations)


def written(top: Path, entries: int, chance: random.Random) -> tuple[Shown, SigningKey]:
    """The log, exported, with proofs by the service; and the key that signed it."""
    data, folder = top / "data", top / "log"
    with serving(data) as client:
        timed(f"{entries} entries written", lambda: write_log(client, entries))
        vkey: str = client.get("/v1/ledger/keys").json()["keys"][0]["vkey"]
        proofs = fetch_proofs(client, entries, chance)
        export = [PROGRAM, "ledger", "export", str(folder), f"--data-dir={data}"]
        timed("exported", lambda: subprocess.run(export, check=True, stdout=subprocess.DEVNULL))
    (key,) = read_ledger_keys((data / "ledger-key").read_text(), "localhost/aslgate").sign
    return Shown(folder, vkey, proofs, bundles=range(0, entries, WIDTH * 16)), key


def verify_all(shown: Shown, entries: int) -> None:
    """See that each program accepts the log as it is, and that pymerkle has its root."""
    root = read_checkpoint(read_note((shown.folder / "checkpoint").read_bytes()).text).root
    for name, verify in programs.items():
        timed(f"{name} accepts it", lambda verify=verify: verify(shown))  # type: ignore[misc]

    def same_root() -> None:
        assert root_by_pymerkle(shown.folder, entries) == root, "pymerkle has another root"

    timed("pymerkle has the same root", same_root)


def change_each(shown: Shown, mutants: Mutations, mutations: int) -> None:
    """Change one thing after another, and see that each program refuses each; else exit code 1."""
    refused: Counter[tuple[str, str]] = Counter()
    missed = []
    begun = time.monotonic()
    for i in range(mutations):
        kind = KINDS[i % len(KINDS)]
        with mutants.one(kind) as (what, changed):
            for name, verify in programs.items():
                if is_refused(verify, changed):
                    refused[name, kind] += 1
                else:
                    missed.append(f"{name} accepts {what}")
    for _ in range(mutations // len(KINDS)):
        what, changed = mutants.consistency()
        for name in ("Go", "tlog-scales"):
            if is_refused(programs[name], changed):
                refused[name, "consistency"] += 1
            else:
                missed.append(f"{name} accepts {what}")
    print(f"{mutations} changes in {time.monotonic() - begun:.1f} s; refused of each kind:")
    print(f"{'':<14}" + "".join(f"{kind:>13}" for kind in (*KINDS, "consistency")))
    for name in programs:
        counts = "".join(f"{refused[name, kind] or '-':>13}" for kind in (*KINDS, "consistency"))
        print(f"{name:<14}{counts}")
    for name, verify in programs.items():
        assert not is_refused(verify, shown), f"{name} refuses what was put back"
    print("\n".join(missed) if missed else "every change was refused by each")
    sys.exit(1 if missed else 0)


programs: Final[dict[str, Verify]] = {}


if __name__ == "__main__":
    main()
