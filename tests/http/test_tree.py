"""The log as a monitor reads it: tiles, entry bundles and proofs, over HTTP."""

import base64
import hashlib
import json
from contextlib import AsyncExitStack

import httpx
import pytest

from app.operations.turns import PUBLIC_AT_ONCE, Turns
from tests.http.conftest import BOOTSTRAP_KEY, Service
from tests.http.published import problem

FOR_EVER = "max-age=31536000, immutable"


@pytest.fixture
def anyone(standing: Service) -> httpx.AsyncClient:
    """A client without a key."""
    return standing.client(None)


def entries_in(bundle: bytes) -> list[bytes]:
    entries = []
    while bundle:
        length = int.from_bytes(bundle[:2], "big")
        entries.append(bundle[2 : 2 + length])
        bundle = bundle[2 + length :]
    return entries


def root_of(leaves: list[bytes]) -> bytes:
    """By the definition of RFC 9162 §2.1.1."""
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256().digest()
    left = 1
    while left * 2 < len(leaves):
        left *= 2
    return hashlib.sha256(b"\x01" + root_of(leaves[:left]) + root_of(leaves[left:])).digest()


async def leaves_of(client: httpx.AsyncClient, size: int) -> list[bytes]:
    """All leaf hashes, read as a monitor does."""
    leaves = b""
    for number in range(-(-size // 256)):
        width = min(256, size - number * 256)
        place = f"{number:03}" if width == 256 else f"{number:03}.p/{width}"
        answer = await client.get(f"/v1/ledger/tile/0/{place}")
        assert answer.status_code == 200
        leaves += answer.content
    return [leaves[i : i + 32] for i in range(0, len(leaves), 32)]


async def test_whoever_reads_the_entries_finds_their_hashes_in_the_tiles(
    standing: Service, reader: httpx.AsyncClient, anyone: httpx.AsyncClient
) -> None:
    size = await standing.size()
    leaves = await leaves_of(anyone, size)
    assert len(leaves) == size

    answer = await reader.get(f"/v1/ledger/tile/entries/000.p/{min(size, 255)}")
    entries = entries_in(answer.content)
    assert entries == [await standing.entry(i) for i in range(len(entries))]
    hashed = [hashlib.sha256(b"\x00" + entry).digest() for entry in entries]
    assert hashed == leaves[: len(entries)]
    assert json.loads(entries[0])["index"] == 0


async def test_what_cannot_change_is_kept_for_ever(
    reader: httpx.AsyncClient, anyone: httpx.AsyncClient
) -> None:
    """Entries by whoever has a key, and not by what stands between."""
    tile = await anyone.get("/v1/ledger/tile/0/000.p/3")
    assert len(tile.content) == 3 * 32
    assert tile.headers["cache-control"] == f"public, {FOR_EVER}"
    assert tile.headers["content-type"] == "application/octet-stream"
    entries = await reader.get("/v1/ledger/tile/entries/000.p/3")
    assert len(entries_in(entries.content)) == 3
    assert entries.headers["cache-control"] == f"private, {FOR_EVER}"
    assert entries.headers["content-type"] == "application/octet-stream"
    for path in ("inclusion?index=0&size=3", "consistency?from=1&to=3"):
        proof = await anyone.get(f"/v1/ledger/{path}")
        assert proof.headers["cache-control"] == f"public, {FOR_EVER}"
    for path in ("inclusion?index=0", "consistency?from=1"):
        assert (await anyone.get(f"/v1/ledger/{path}")).headers["cache-control"] == "no-store"


async def test_entries_are_compressed_for_whoever_takes_that(reader: httpx.AsyncClient) -> None:
    path = "/v1/ledger/tile/entries/000.p/3"
    plain = await reader.get(path, headers={"Accept-Encoding": "identity"})
    small = await reader.get(path, headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert small.headers["content-encoding"] == "gzip"
    assert small.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert small.content == plain.content
    assert int(small.headers["content-length"]) < len(plain.content)


async def test_a_full_tile_is_there_as_soon_as_its_last_entry_is(service: Service) -> None:
    async with service.client(BOOTSTRAP_KEY) as client:
        size = await service.size()
        assert size < 256
        assert problem(await client.get("/v1/ledger/tile/0/000")) == (404, "not-found")
        model = {"developer": "anthropic"}
        for i in range(size, 256):
            recorded = await client.post("/v1/models", json=model | {"model": f"tile-{i}@1"})
            assert recorded.status_code == 201
        full = await client.get("/v1/ledger/tile/0/000")
        assert len(full.content) == 8192
        part = await client.get(f"/v1/ledger/tile/0/000.p/{size}")
        assert part.content == full.content[: size * 32]
        above = await client.get("/v1/ledger/tile/1/000.p/1")
        leaves = await leaves_of(client, 256)
        assert above.content == root_of(leaves)
        assert len(entries_in((await client.get("/v1/ledger/tile/entries/000")).content)) == 256


@pytest.mark.parametrize(
    "place",
    [
        "0/000",
        "0/001.p/1",
        "0/000.p/0",
        "0/000.p/256",
        "0/000.p/01",
        "0/0",
        "0/x000/000.p/1",
        "0/x999/x999/x999/x999/x999/x999/999",
        "1/000.p/1",
        "63/000.p/1",
        "64/000.p/1",
        "00/000.p/1",
        "entries",
        "0/",
    ],
)
async def test_a_tile_that_no_tree_of_the_ledger_has_is_not_found(
    anyone: httpx.AsyncClient, reader: httpx.AsyncClient, place: str
) -> None:
    """The ledger is smaller than a tile here."""
    assert (await anyone.get(f"/v1/ledger/tile/{place}")).status_code == 404
    if place.startswith("0/"):
        answer = await reader.get(f"/v1/ledger/tile/entries/{place[2:]}")
        assert answer.status_code == 404


async def test_entries_need_a_key_and_hashes_do_not(anyone: httpx.AsyncClient) -> None:
    answer = await anyone.get("/v1/ledger/tile/entries/000.p/1")
    assert problem(answer) == (401, "unauthenticated")
    for path in ("tile/0/000.p/1", "inclusion?index=0", "consistency?from=0"):
        assert (await anyone.get(f"/v1/ledger/{path}")).status_code == 200


async def test_whoever_has_a_key_is_answered_however_many_have_none(
    standing: Service, anyone: httpx.AsyncClient, reader: httpx.AsyncClient
) -> None:
    """What needs no key has half of the database's readers at most."""
    turns: Turns = standing.app.state.turns
    async with AsyncExitStack() as stack:
        for _ in range(PUBLIC_AT_ONCE):
            await stack.enter_async_context(turns.public.turn())
        answer = await anyone.get("/v1/ledger/tile/0/000.p/1")
        assert problem(answer) == (503, "unavailable")
        assert answer.json()["reason"] == "busy"
        for path in ("checkpoint", "keys"):
            assert (await anyone.get(f"/v1/ledger/{path}")).json()["reason"] == "busy"
        assert (await reader.get("/v1/ledger/tile/entries/000.p/1")).status_code == 200
    for path in ("tile/0/000.p/1", "keys"):
        assert (await anyone.get(f"/v1/ledger/{path}")).status_code == 200


# --- Proofs ------------------------------------------------------------------------------------


def hashed(line: str) -> bytes:
    return base64.b64decode(line, validate=True)


async def test_an_entry_is_proven_to_be_in_any_size_that_holds_it(
    standing: Service, anyone: httpx.AsyncClient
) -> None:
    """By hand, for a tree of seven: the sixth leaf has the fifth and the seventh beside it."""
    size = await standing.size()
    leaves = await leaves_of(anyone, size)
    said = (await anyone.get("/v1/ledger/inclusion?index=5&size=7")).json()
    assert (said["index"], said["size"]) == (5, 7)
    assert said["leaf_hash"] == leaves[5].hex()
    assert hashed(said["root"]) == root_of(leaves[:7])
    assert [hashed(line) for line in said["proof"]] == [leaves[4], leaves[6], root_of(leaves[:4])]

    now = (await anyone.get("/v1/ledger/inclusion?index=5")).json()
    assert now["size"] == size
    assert hashed(now["root"]) == root_of(leaves)


async def test_a_size_is_proven_to_hold_all_of_a_smaller_one(
    standing: Service, anyone: httpx.AsyncClient
) -> None:
    size = await standing.size()
    leaves = await leaves_of(anyone, size)
    said = (await anyone.get("/v1/ledger/consistency?from=3&to=7")).json()
    assert (said["from"], said["to"]) == (3, 7)
    assert (hashed(said["from_root"]), hashed(said["to_root"])) == (
        root_of(leaves[:3]),
        root_of(leaves[:7]),
    )
    assert [hashed(line) for line in said["proof"]] == [
        leaves[2],
        leaves[3],
        root_of(leaves[:2]),
        root_of(leaves[4:7]),
    ]
    for path in ("from=0&to=7", "from=7&to=7"):
        assert (await anyone.get(f"/v1/ledger/consistency?{path}")).json()["proof"] == []
    assert (await anyone.get("/v1/ledger/consistency?from=3")).json()["to"] == size


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("inclusion", "index"),
        ("inclusion?index=-1", "index"),
        ("inclusion?index=5&size=5", "index"),
        ("inclusion?index=0&size=0", "index"),
        ("inclusion?index=0&size=100000", "size"),
        ("inclusion?index=99999999999999999999", "index"),
        ("inclusion?index=100000", "index"),
        ("inclusion?index=0&size=a", "size"),
        ("inclusion?index=0&sise=3", "sise"),
        ("consistency", "from"),
        ("consistency?from=5&to=4", "from"),
        ("consistency?from=0&to=100000", "to"),
        ("consistency?from=100000", "from"),
        ("consistency?from=1&from=2", "from"),
        ("tile/0/000.p/1?x=1", "x"),
    ],
)
async def test_a_proof_of_what_is_not_there_is_refused(
    anyone: httpx.AsyncClient, query: str, parameter: str
) -> None:
    answer = await anyone.get(f"/v1/ledger/{query}")
    assert problem(answer) == (422, "invalid-parameter")
    assert answer.json()["parameter"] == parameter
