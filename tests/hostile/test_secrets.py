"""Secrets are in nothing that is written down or answered, and what is logged is one line a request.

The service as it is started for real, with secrets that can be searched for; what is searched is all
that it ever said, and its whole database.
"""

import asyncio
import base64
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import SecretStr

from app.ledger.note import SignatureType, SigningKey, write_base64
from app.ledger.statement import AttestationKey
from app.main import create_app
from app.operations.attest import Attestor
from app.settings import Settings
from app.storage import keys
from app.storage.database import DATABASE, Database
from app.storage.embedded import PostgresAddress
from app.storage.signer_files import read_ledger_keys
from app.storage.store import Store
from tests.conftest import short_open_folder
from tests.faults.service import KEY, PROGRAM, Served, environment
from tests.http.test_bad_input import GOOD
from tests.http.test_tokens import claims, signed
from tests.http.test_tokens import settings as issuers_file

LOG = "localhost/aslgate"
PASSWORD = "canary-password-4711"
SIGNER = SigningKey(LOG, SignatureType.LOG, Ed25519PrivateKey.generate())
ATTESTER = AttestationKey(Ed25519PrivateKey.generate())
UNKNOWN = f"aslk_{'0' * 32}_{'canary-of-a-key-that-nobody-has'.ljust(43, 'x')}"
TOKEN = signed(claims(sub="canary-subject"))


def written(secret: bytes) -> set[str]:
    """The ways in which a secret could stand somewhere: as it is, in hexadecimal, in base64."""
    return {
        secret.decode("latin-1"),
        secret.hex(),
        write_base64(secret),
        base64.urlsafe_b64encode(secret).decode(),
    }


@dataclass
class Canaries:
    """A service with secrets of its own, and all that it was heard to say."""

    served: Served
    data_dir: Path
    heard: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    """Keys that were made by it."""

    @property
    def secrets(self) -> set[str]:
        private = (SIGNER.private_key.private_bytes_raw(), ATTESTER.private.private_bytes_raw())
        raw = [KEY.encode(), UNKNOWN.encode(), *private]
        raw += [key.rpartition("_")[2].encode() for key in self.made]
        signature = TOKEN.rpartition(".")[2]
        return {SIGNER.secret(), signature}.union(*(written(secret) for secret in raw))

    def ask(self, method: str, path: str, key: str | None = KEY, **more: object) -> httpx.Response:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{self.served.port}") as http:
            answer = http.request(method, path, headers=headers, **more)  # type: ignore[arg-type]
        self.heard.append(f"{answer.headers}\n{answer.text}")
        return answer


@pytest.fixture(scope="module")
def canaries() -> Iterator[Canaries]:
    with short_open_folder() as folder:
        (folder / "attester.pem").write_bytes(ATTESTER.pem())
        (folder / "issuers.yaml").write_text(issuers_file("http://127.0.0.1:1/keys"))
        data_dir = folder / "aslgate"
        served = Served(
            folder / "serve.out",
            f"--data-dir={data_dir}",
            ASLGATE_LEDGER_KEY=SIGNER.secret(),
            ASLGATE_ATTESTATION_KEY_FILE=str(folder / "attester.pem"),
            ASLGATE_ISSUERS_FILE=str(folder / "issuers.yaml"),
        )
        try:
            served.start()
            yield Canaries(served, data_dir)
        finally:
            served.end()


def everything_in_the_database(canaries: Canaries) -> str:
    """Each row of each table, as text; bytes are in hexadecimal then."""

    async def dump() -> str:
        address = PostgresAddress(str(canaries.data_dir / "run"), "postgres", DATABASE)
        connection = await asyncpg.connect(str(address))
        try:
            tables = await connection.fetch(
                "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables "
                "WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
            )
            rows = []
            for table in tables:
                rows += await connection.fetch(f"SELECT t::text AS row FROM {table['name']} t")
            return "\n".join(row["row"] for row in rows)
        finally:
            await connection.close()

    return asyncio.run(dump())


def test_no_secret_is_in_an_answer_a_log_a_metric_or_the_database(canaries: Canaries) -> None:
    """Through requests that are good, and requests that are bad in all the usual ways."""
    made = canaries.ask("POST", "/v1/keys", json={"principal": "person:alice", "roles": ["reader"]})
    canaries.heard.clear()  # the one answer that holds a key is that which made it
    canaries.made.append(made.json()["key"])
    for path, body in GOOD.items():
        canaries.ask("POST", path, json=body)
        canaries.ask("POST", path, json={"model": 1})
        canaries.ask("POST", path, content=b"{")
    for key in (canaries.made[0], UNKNOWN, TOKEN, KEY[:-1], KEY + "x", None):
        canaries.ask("GET", "/v1/keys", key)
        canaries.ask("POST", "/v1/determinations", key, json={})
    for path in ("/v1/keys", "/v1/attestation-keys", "/v1/ledger/keys", "/v1/ledger/checkpoint"):
        assert canaries.ask("GET", path).status_code in (200, 503)
    for path in ("/metrics", "/readyz", "/healthz", "/openapi.json", "/docs", "/v1/nothing"):
        canaries.ask("GET", path, None)
    with_secret = {"principal": "person:bob", "roles": ["reader"], "secret": KEY[:-1]}
    canaries.ask("POST", "/v1/keys", json=with_secret)

    places = {
        "the answers": "\n".join(canaries.heard),
        "the service's log": canaries.served.said(),
        "the log of Postgres": (canaries.data_dir / "postgres.log").read_text(errors="replace"),
        "the database": everything_in_the_database(canaries),
    }
    assert all("person:alice" in places[name] for name in ("the answers", "the database"))
    for name, text in places.items():
        found = [secret for secret in canaries.secrets if secret in text]
        assert not found, f"{name} has {len(found)} secrets"


def test_the_search_above_would_find_a_secret(canaries: Canaries) -> None:
    """The hash of a key is in the database, in hexadecimal; so would be the key."""
    everything = everything_in_the_database(canaries)

    assert any(one in everything for one in written(keys.given_secret(KEY).sha256))


HOSTILE = [
    b"\r\n",
    b"%0d%0a",
    b'%0A{"event": "forged"}',
    b"%1b[31mred",
    b"%00",
    b"%c2%85",
    b"%e2%80%ae%e2%81%a6",
    "\u202e\u2066\u200f".encode(),
    b"%ff%fe",
    b"\\u000a",
    b"\xff\xfe",
    b"'\"<>{}",
    b"a" * 5000,
]


def test_one_request_is_one_line_of_plain_json(canaries: Canaries) -> None:
    """Whatever stands in a path, a query, a header or a body (ASVS 16.4.1)."""
    before = len(canaries.served.said().splitlines())
    sent = 0
    for number, text in enumerate(HOSTILE):
        encoded = text.replace(b"\r\n", b"%0d%0a")
        body = b'{"model": "%s"}' % encoded
        for place, (path, header) in enumerate(
            [
                (b"/v1/models/" + encoded.replace(b" ", b"%20"), b"X: y"),
                (b"/v1/determinations?model=" + encoded.replace(b" ", b"%20"), b"X: y"),
                (b"/v1/models", b"User-Agent: " + encoded),
                (b"/v1/models", b"Authorization: Bearer " + encoded),
                (b"/v1/models", b"X-Request-Id: " + encoded),
            ]
        ):
            head = [
                b"POST " + path + b" HTTP/1.1",
                b"Host: x",
                b"Content-Type: application/json",
                b"Content-Length: %d" % len(body),
                b"Connection: close",
                b"X-Request-Id: r%d-%d" % (number, place) if place < 4 else b"X-Y: z",
                header,
            ]
            if place != 3:
                head.append(b"Authorization: Bearer " + KEY.encode())
            with socket.create_connection(("127.0.0.1", canaries.served.port), timeout=5) as caller:
                caller.sendall(b"\r\n".join((*head, b"", b"")) + body)
                while caller.recv(65536):
                    pass
            sent += 1

    until = time.monotonic() + 10  # a line is written after its answer
    while len(canaries.served.said().splitlines()) < before + sent and time.monotonic() < until:
        time.sleep(0.02)
    lines = canaries.served.said().splitlines()[before:]
    said = [json.loads(line) for line in lines]
    assert all(line.isascii() and line.isprintable() for line in lines)
    requests = [one for one in said if one["event"] == "request"]
    refused_by_the_parser = [one for one in said if "Invalid HTTP" in one["event"]]
    assert len(requests) + len(refused_by_the_parser) == len(said) == sent
    ids = [one["request_id"] for one in requests]
    assert len(set(ids)) == len(ids)
    assert all(one["level"] in ("info", "warning") for one in said)


def test_no_repr_shows_a_secret() -> None:
    """What a traceback or a debugger would show of what holds one."""
    settings = Settings(
        database_url=SecretStr(f"postgresql://u:{PASSWORD}@127.0.0.1:1/x"),
        bootstrap_key=SecretStr(KEY),
        ledger_key=SecretStr(SIGNER.secret()),
        issuers_file=None,
    )
    database = Database(f"postgresql://u:{PASSWORD}@127.0.0.1:1/x")
    store = Store(database, bootstrap_key=KEY)
    secret = keys.new_secret()
    shown = [
        *(settings, database, store, secret, keys.given_secret(KEY)),
        *(SIGNER, read_ledger_keys(SIGNER.secret(), LOG), ATTESTER, Attestor(ATTESTER, LOG)),
        create_app(Settings(), store),
    ]

    text = "\n".join(f"{one!r} {one!s}" for one in shown) + settings.model_dump_json()
    hidden = {KEY, PASSWORD, secret.text, SIGNER.secret()}.union(
        *(written(key.private_bytes_raw()) for key in (SIGNER.private_key, ATTESTER.private))
    )
    assert not [one for one in hidden if one in text]


@pytest.mark.parametrize(
    "address",
    [
        f"postgresql://u:{PASSWORD}@127.0.0.1:port/x",
        pytest.param(f"postgresql://u:{PASSWORD}@127.0.0.1:1/x", marks=pytest.mark.long),
    ],
)
def test_an_address_that_is_of_no_use_is_told_without_its_password(
    tmp_path: Path, address: str
) -> None:
    """The last of them is a good one, where nothing answers: it is asked for ten seconds."""
    done = subprocess.run(
        [PROGRAM, "serve", f"--data-dir={tmp_path}", "--port=0"],
        env=environment(ASLGATE_DATABASE_URL=address, ASLGATE_BOOTSTRAP_KEY=KEY),
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode != 0
    assert done.stdout + done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    assert KEY not in done.stdout + done.stderr
