"""Witnesses: a small one that does what its specification says, and some that do not."""

import asyncio
import base64
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tlog_scales import signing, tlog

from app.integrations.witness import NoCosignature, OtherSize, Witness, read_witnesses
from app.ledger.checkpoint import Checkpoint
from app.ledger.note import (
    InvalidNote,
    Note,
    SignatureType,
    SigningKey,
    UnverifiedNote,
    read_note,
    read_verifier_key,
    timestamp_of,
    verified,
)
from app.storage.embedded import EmbeddedPostgres
from app.storage.signer_files import new_ledger_key, read_ledger_keys
from tests.http.conftest import AT_FIRST, BOOTSTRAP_KEY, Service, running
from tests.http.published import problem
from tests.http.test_checkpoint import LOG, note_of, record

NOW = 1_790_000_000


class SmallWitness:
    """Cosigns what extends what it cosigned before; its arithmetic is that of tlog-scales.

    `answer`, where it is given, answers instead.
    """

    def __init__(self, log_vkey: str, seed: int = 40) -> None:
        private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        self.key = SigningKey(f"witness.test/{seed}", SignatureType.COSIGNATURE, private)
        self.log = signing.Vkey.from_string(log_vkey)
        self.size, self.root = 0, b""
        self.asked: list[int] = []
        self.answer: Callable[[], tuple[int, bytes]] | None = None
        self.url = ""

    def add_checkpoint(self, body: bytes) -> tuple[int, bytes]:
        above, _, below = body.decode().partition("\n\n")
        head, *lines = above.split("\n")
        old = int(head.removeprefix("old "))
        self.asked.append(old)
        if self.answer is not None:
            return self.answer()
        shown = tlog.Checkpoint.from_text(below)
        if shown.origin != self.log.name:
            return 404, b""
        try:
            shown.verify(self.log)
        except (RuntimeError, ValueError, InvalidSignature):
            return 403, b""
        if old > shown.size:
            return 400, b""
        if old != self.size:
            return 409, f"{self.size}\n".encode()
        proof = [base64.b64decode(line) for line in lines]
        if old and old != shown.size:
            try:
                tlog.ConsistencyProof(old, shown.size, proof).check(self.root, shown.root_hash)
            except tlog.ConsistencyProofInvalid:
                return 422, b""
        elif proof or (old and shown.root_hash != self.root):
            return 422, b""
        self.size, self.root = shown.size, shown.root_hash
        return 200, f"{self.key.sign(shown.serialize_body(), at=NOW)}\n".encode()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    key = tmp_path / "key"
    key.write_bytes(new_ledger_key(LOG))
    return {"ledger_key_file": key, "ledger_state_file": tmp_path / "state"}


@pytest.fixture
def witness(files: dict[str, Any]) -> Iterator[SmallWitness]:
    (key,) = read_ledger_keys(files["ledger_key_file"].read_text(), LOG).sign
    with listening(SmallWitness(str(key.verifier))) as small:
        yield small


@contextmanager
def listening(small: SmallWitness) -> Iterator[SmallWitness]:
    """The witness behind a port, while the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/log/add-checkpoint"
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, answer = small.add_checkpoint(body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *said: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        small.url = f"http://127.0.0.1:{server.server_address[1]}/log"
        yield small
        server.shutdown()
        thread.join()


@asynccontextmanager
async def witnessed(
    postgres: EmbeddedPostgres,
    template: str,
    files: dict[str, Any],
    *witnesses: SmallWitness,
    quorum: int = 0,
    url: str | None = None,
) -> AsyncIterator[tuple[Service, httpx.AsyncClient]]:
    asked = " ".join(f"{one.key.verifier} {url or one.url}" for one in witnesses)
    given = files | {"witnesses": asked, "witness_quorum": quorum}
    async with (
        running(postgres, template, **given) as service,
        service.client(BOOTSTRAP_KEY) as client,
    ):
        yield service, client


async def until_cosigned(client: httpx.AsyncClient, witness: SmallWitness, size: int) -> Note:
    """The checkpoint of that size, once the witness's line is under it."""
    for _ in range(100):
        answer = await client.get("/v1/ledger/checkpoint")
        if answer.status_code == 200:
            note = read_note(answer.content)
            if note.text.split("\n")[1] == str(size):
                try:
                    verified(note, [witness.key.verifier])
                except UnverifiedNote:
                    pass
                else:
                    return note
        await asyncio.sleep(0.05)
    raise AssertionError("the witness did not cosign")


async def test_the_witness_cosigns_each_checkpoint(
    postgres: EmbeddedPostgres, template: str, files: dict[str, Any], witness: SmallWitness
) -> None:
    """From the size that it cosigned before, over the edges of tiles; its line is served."""
    async with witnessed(postgres, template, files, witness) as (_, client):
        size = AT_FIRST
        await until_cosigned(client, witness, size)
        for many in (1, 4, 300):
            await record(client, many, name=f"m{many}")
            size += many
            await until_cosigned(client, witness, size)
        note = await note_of(client)
        (line,) = verified(note, [witness.key.verifier])
        assert timestamp_of(line) == NOW
        assert len(note.signatures) == 2
    assert witness.size == AT_FIRST + 305
    shown = {0} | {AT_FIRST + many for many in (0, 1, 5, 305)}
    assert [one for one in witness.asked if one not in shown] == []


async def test_an_independent_reader_verifies_the_cosignature(
    postgres: EmbeddedPostgres, template: str, files: dict[str, Any], witness: SmallWitness
) -> None:
    async with witnessed(postgres, template, files, witness) as (_, client):
        await record(client, 3)
        note = await until_cosigned(client, witness, AT_FIRST + 3)
    read = tlog.Checkpoint.from_text(str(note))
    read.verify(signing.Vkey.from_string(str(witness.key.verifier)))
    read.verify(witness.log)


async def test_a_witness_that_has_seen_more_or_less_is_asked_from_there(
    postgres: EmbeddedPostgres, template: str, files: dict[str, Any], witness: SmallWitness
) -> None:
    """It was restored, or we were: it says where it stands, and the proof begins there."""
    async with witnessed(postgres, template, files, witness) as (_, client):
        await record(client, 3)
        await until_cosigned(client, witness, AT_FIRST + 3)
        witness.size, witness.root = 0, b""
        await record(client, 2, name="n")
        await until_cosigned(client, witness, AT_FIRST + 5)
    assert witness.asked[-2:] == [AT_FIRST + 3, 0]


async def test_a_witness_that_is_down_costs_its_line_and_nothing_else(
    postgres: EmbeddedPostgres, template: str, files: dict[str, Any], witness: SmallWitness
) -> None:
    nowhere = "http://127.0.0.1:9"
    async with witnessed(postgres, template, files, witness, url=nowhere) as (_, client):
        await record(client, 3)
        await asyncio.sleep(1.2)
        note = await note_of(client)
        assert note.text.split("\n")[1] == str(AT_FIRST + 3)
        assert len(note.signatures) == 1
        assert (await client.get("/readyz")).status_code == 200


async def test_a_witness_that_saw_another_tree_cosigns_no_more(
    postgres: EmbeddedPostgres, template: str, files: dict[str, Any], witness: SmallWitness
) -> None:
    """That is what it is there for: its line is missing from then on."""
    async with witnessed(postgres, template, files, witness) as (_, client):
        await record(client, 3)
        await until_cosigned(client, witness, AT_FIRST + 3)
        witness.root = bytes(32)
        await record(client, 2, name="n")
        await asyncio.sleep(2)
        note = await note_of(client)
    assert note.text.split("\n")[1] == str(AT_FIRST + 5)
    assert len(note.signatures) == 1
    assert witness.size == AT_FIRST + 3


async def test_what_a_witness_does_not_sign_is_not_served(
    postgres: EmbeddedPostgres, template: str, files: dict[str, Any], witness: SmallWitness
) -> None:
    """Lines by another key, over another text, by the log, too many bytes, or none at all."""
    stranger = SmallWitness(str(witness.key.verifier), 41).key
    answers = itertools_of(
        (200, b""),
        (200, b"nonsense\n"),
        (200, str(stranger.sign("x\n", at=NOW)).encode() + b"\n"),
        (200, str(witness.key.sign("x\n", at=NOW)).encode() + b"\n"),
        (200, b"x" * 100_000),
        (409, b"nonsense\n"),
        (409, b"9999\n"),
        (500, b""),
        (302, b""),
    )
    witness.answer = lambda: next(answers)
    async with witnessed(postgres, template, files, witness) as (_, client):
        for number in range(3):
            await record(client, 1, name=f"m{number}")
            await asyncio.sleep(1)
        assert len(witness.asked) >= 3
        note = await note_of(client)
        assert note.text.split("\n")[1] == str(AT_FIRST + 3)
        assert len(note.signatures) == 1


def itertools_of(*answers: tuple[int, bytes]) -> Iterator[tuple[int, bytes]]:
    while True:
        yield from answers


async def test_with_a_quorum_nothing_is_shown_that_was_not_witnessed(
    postgres: EmbeddedPostgres, template: str, files: dict[str, Any], witness: SmallWitness
) -> None:
    """Then a receipt shows that others have seen what it proves."""
    witness.answer = lambda: (503, b"")
    async with witnessed(postgres, template, files, witness, quorum=1) as (_, client):
        (said,) = await record(client)
        await asyncio.sleep(1.2)
        proof = f"/v1/determinations/{said['id']}/proof"
        assert problem(await client.get("/v1/ledger/checkpoint")) == (404, "not-found")
        assert (await client.get(proof)).json()["reason"] == "checkpoint-pending"
        witness.answer = None
        await until_cosigned(client, witness, AT_FIRST + 1)
        assert str(witness.key.verifier.name) in (await client.get(proof)).text


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (409, b"12\n", OtherSize),
        (409, b"012\n", NoCosignature),
        (409, b"", NoCosignature),
        (403, b"", NoCosignature),
        (200, b"", NoCosignature),
    ],
)
async def test_what_is_no_cosignature_is_refused(status: int, body: bytes, error: Any) -> None:
    key = SmallWitness("witness.test+00000000+AQ==").key
    note = Checkpoint(LOG, 0, bytes(32)).signed([key_of_log()])
    transport = httpx.MockTransport(lambda _: httpx.Response(status, content=body))
    async with httpx.AsyncClient(transport=transport) as http:
        with pytest.raises(error) as refused:
            await Witness(key.verifier, "http://witness.test").cosign(http, 0, (), note)
    if error is OtherSize:
        assert refused.value.size == 12


def key_of_log() -> SigningKey:
    return SigningKey(LOG, SignatureType.LOG, Ed25519PrivateKey.from_private_bytes(bytes(32)))


def test_witnesses_are_read_from_text() -> None:
    keys = [SmallWitness("w+00000000+AQ==", seed).key.verifier for seed in (1, 2)]
    text = f"{keys[0]} https://a.test/x\n  {keys[1]} http://b.test"
    assert read_witnesses(text) == (
        Witness(keys[0], "https://a.test/x"),
        Witness(keys[1], "http://b.test"),
    )
    assert read_witnesses("") == ()
    log = key_of_log().verifier
    for wrong in (
        str(keys[0]),
        f"{keys[0]} ftp://a.test",
        f"{log} https://a.test",
        f"{keys[0]} https://a.test {keys[0]} https://b.test",
        "x https://a.test",
    ):
        with pytest.raises(InvalidNote):
            read_witnesses(wrong)
    assert read_verifier_key(str(keys[0])) == keys[0]
