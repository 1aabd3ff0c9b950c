"""Every reader of bytes, given anything at all: what it says, or a refusal of ours, and nothing else.

A table of readers, each with a few inputs that it accepts; Hypothesis gives it those with pieces
changed, and bytes of its own: ASLGATE_TORTURE times as many.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jwt import PyJWS
from pydantic import TypeAdapter

from app.decoding import decode_json
from app.determination.cases import read_cases
from app.errors import InvalidParameter, Refusal, Unavailable
from app.http.bodies import BODIES
from app.http.cursors import cursor, read_cursor
from app.http.permissions import ROLES
from app.integrations.issuers import InvalidToken, Issuers, UnusableIssuers, read_issuers
from app.integrations.tiled_log import NoAnswer, TiledLog
from app.integrations.witness import NoCosignature, Witness, read_witnesses
from app.ledger.bundle import InvalidBundle, bundle_of, proven, read_bundle
from app.ledger.checkpoint import (
    Checkpoint,
    KeyStatement,
    Receipt,
    read_checkpoint,
    read_key_statement,
    read_receipt,
)
from app.ledger.entry import InvalidEntry, Kind, entry_bytes, read_entry
from app.ledger.merkle import Frontier, InvalidProof, leaf_hash
from app.ledger.note import (
    InvalidNote,
    SignatureType,
    SigningKey,
    UnverifiedNote,
    read_note,
    read_signatures,
    read_signing_key,
    read_verifier_key,
    write_base64,
)
from app.ledger.statement import AttestationKey, NotAKey
from app.ledger.tiles import entries_in, entry_bundle, parse_tile
from app.operations.bundle import check_bundle
from app.parsing import parse
from app.policy.language import checked_policy, read_policy
from app.storage.keys import UnusableKey, given_secret, id_of
from app.storage.signer_files import UnusableSigner, new_ledger_key, read_ledger_keys
from app.vocabulary import JSON
from tests.http.published import POLICIES
from tests.http.small import policy
from tests.http.test_bad_input import GOOD
from tests.http.test_tokens import CI, ISSUER, SIGNS, KeyServer, claims, signed, workload
from tests.http.test_tokens import settings as issuers_file
from tests.torture import FACTOR

EXAMPLES = settings(
    max_examples=40 * FACTOR,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)

LOG = "localhost/aslgate"
AT = datetime(2026, 1, 1, tzinfo=UTC)
LOG_KEY = SigningKey(LOG, SignatureType.LOG, Ed25519PrivateKey.from_private_bytes(b"l" * 32))
WITNESS_KEY = SigningKey(
    "witness.test", SignatureType.COSIGNATURE, Ed25519PrivateKey.from_private_bytes(b"w" * 32)
)
DOCUMENT = b'{"id":"det_0"}'
ENTRY = entry_bytes(
    log=LOG, index=0, kind=Kind.DETERMINATION, subject="det_0", document=DOCUMENT, actor="x", at=AT
)
TREE, _ = Frontier().extended([leaf_hash(ENTRY)])
CHECKPOINT = Checkpoint(LOG, 1, TREE.root)
NOTE = CHECKPOINT.signed([LOG_KEY])
COSIGNATURE = f"{WITNESS_KEY.sign(NOTE.text, at=1)}\n".encode()
STATEMENT = str(KeyStatement(LOG_KEY.verifier, True, 1)).encode()
RECEIPT = str(Receipt(ENTRY, 0, (), NOTE)).encode()
BUNDLE = bytes(bundle_of("det_0", NOTE, [(0, ENTRY, DOCUMENT, ())]))
LEDGER_KEY = new_ledger_key(LOG)
PEM = AttestationKey(Ed25519PrivateKey.from_private_bytes(b"a" * 32)).pem()
WITNESSES = f"{WITNESS_KEY.verifier} https://witness.test".encode()
ISSUERS = issuers_file("https://id.lab.example/keys").encode()
RSP = POLICIES["2.2"].read_bytes()
SMALL = json.dumps(policy()).encode()
CASES = Path(__file__).parents[2] / "policies" / "california-sb-53" / "2025.cases.yaml"


@dataclass(frozen=True)
class Reader:
    """What reads, what it may raise, and what it reads without raising."""

    name: str
    read: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]
    good: tuple[bytes, ...]


def as_text(read: Callable[[str], object]) -> Callable[[bytes], object]:
    """A reader of text is given what a header or a file could hold."""
    return lambda data: read(data.decode("utf-8", "surrogateescape"))


def of_body(name: str) -> Callable[[bytes], object]:
    kind: TypeAdapter[Any] = TypeAdapter(BODIES[name])
    return lambda data: parse(kind, decode_json(data), JSON)


def as_policy(media: Literal["yaml", "json"]) -> Callable[[bytes], object]:
    return lambda data: read_policy(data, media)


def believed(data: bytes) -> object:
    return proven(read_bundle(data), [LOG_KEY.verifier], [], origin=LOG)


def recomputed(data: bytes) -> object:
    return check_bundle(read_bundle(data), [LOG_KEY.verifier], [], origin=LOG)


def shown(data: bytes) -> object:
    return read_receipt(data).verified([LOG_KEY.verifier], origin=LOG)


def of_witness(status: int) -> Callable[[bytes], object]:
    def read(data: bytes) -> object:
        answer = httpx.MockTransport(lambda _: httpx.Response(status, content=data))
        witness = Witness(WITNESS_KEY.verifier, "https://witness.test")

        async def ask() -> object:
            async with httpx.AsyncClient(transport=answer) as http:
                return await witness.cosign(http, 0, (), NOTE)

        return asyncio.run(ask())

    return read


class SpokenFor:
    """A log whose every answer is what it is told. Making a client takes longer than reading, so
    there is one.
    """

    def __init__(self) -> None:
        self._answer = b""
        self.log = TiledLog("https://log.test")
        self.log._http = httpx.AsyncClient(
            transport=httpx.MockTransport(
                lambda _: httpx.Response(200, stream=httpx.ByteStream(self._answer))
            )
        )

    def says(self, data: bytes) -> TiledLog:
        self._answer = data
        return self.log


SPOKEN_FOR = SpokenFor()


def tile(path: str) -> object:
    level, _, place = path.partition("/")
    return parse_tile(level, place)


def key_header(text: str) -> object:
    with contextlib.suppress(UnusableKey):
        given_secret(text)
    return id_of(text)


KEYS_OF_A_LOG = json.dumps(
    {"keys": [{"vkey": str(LOG_KEY.verifier), "until_size": None}], "statements": [str(NOTE)]}
).encode()
GOOD_BODY = {path.rpartition("/")[2]: json.dumps(body).encode() for path, body in GOOD.items()}
READERS = [
    Reader("policy, YAML", as_policy("yaml"), (Refusal,), (RSP,)),
    Reader("policy, JSON", as_policy("json"), (Refusal,), (SMALL,)),
    Reader("policy, canonical", checked_policy, (Refusal,), ()),
    Reader("cases", read_cases, (Refusal,), (CASES.read_bytes(),)),
    *(
        Reader(f"body {name}", of_body(name), (Refusal,), tuple(GOOD_BODY.values()))
        for name in sorted(BODIES)
        if name != "PolicyVersion"
    ),
    Reader("cursor", as_text(read_cursor), (InvalidParameter,), (cursor(7).encode(),)),
    Reader("note", read_note, (InvalidNote,), (str(NOTE).encode(),)),
    Reader("signatures", as_text(read_signatures), (InvalidNote,), (COSIGNATURE,)),
    Reader("checkpoint", as_text(read_checkpoint), (InvalidNote,), (str(CHECKPOINT).encode(),)),
    Reader("key statement", as_text(read_key_statement), (InvalidNote,), (STATEMENT,)),
    Reader("receipt", read_receipt, (InvalidNote, InvalidProof), (RECEIPT,)),
    Reader("receipt, shown", shown, (InvalidNote, UnverifiedNote, InvalidProof), (RECEIPT,)),
    Reader("bundle", read_bundle, (InvalidBundle,), (BUNDLE,)),
    Reader("bundle, believed", believed, (InvalidBundle,), (BUNDLE,)),
    Reader("bundle, recomputed", recomputed, (InvalidBundle,), ()),
    Reader("entry", read_entry, (InvalidEntry,), (ENTRY,)),
    Reader("entries of a tile", entries_in, (ValueError,), (entry_bundle([ENTRY]),)),
    Reader("path of a tile", as_text(tile), (ValueError,), (b"0/x001/234.p/8",)),
    Reader(
        "verifier key",
        as_text(read_verifier_key),
        (InvalidNote,),
        (str(LOG_KEY.verifier).encode(),),
    ),
    Reader("signing key", as_text(read_signing_key), (InvalidNote,), (LEDGER_KEY.strip(),)),
    Reader(
        "keys of the ledger",
        as_text(lambda text: read_ledger_keys(text, LOG)),
        (UnusableSigner,),
        (LEDGER_KEY,),
    ),
    Reader("key of attestations", AttestationKey.of_pem, (NotAKey,), (PEM,)),
    Reader("witnesses", as_text(read_witnesses), (InvalidNote,), (WITNESSES,)),
    Reader("issuers", lambda data: read_issuers(data, ROLES), (UnusableIssuers,), (ISSUERS,)),
    Reader("answer of a witness", of_witness(200), (NoCosignature,), (COSIGNATURE,)),
    Reader("a witness that knows another size", of_witness(409), (NoCosignature,), ()),
    Reader(
        "checkpoint of a log",
        lambda data: SPOKEN_FOR.says(data).checkpoint(),
        (NoAnswer,),
        (str(NOTE).encode(),),
    ),
    Reader(
        "keys of a log", lambda data: SPOKEN_FOR.says(data).keys(), (NoAnswer,), (KEYS_OF_A_LOG,)
    ),
    Reader("key in a header", as_text(key_header), (), (b"aslk_" + b"0" * 32 + b"_" + b"a" * 43,)),
]

ODD = [
    *(b"", b"\x00", b"\xff", b"\n", b"\r\n", b"\n\n", b" ", b"\x1b[31m", "\u202e\u2066".encode()),
    *(b"{", b"}", b"[", b"]", b'"', b":", b",", b"-", b"+", b"=", b"/", b"\\u0000", b"\\ud800"),
    *(
        b"null",
        b"true",
        b"NaN",
        b"1e999",
        b"-0",
        b"9" * 25,
        b"0.1",
        b"2" * 400,
        b"18446744073709551616",
    ),
    *(
        b"&a ",
        b"*a",
        b"!!python/object:os.system ",
        b"<<: ",
        b"%YAML 1.1\n---\n",
        b"|",
        b">",
        b"? ",
    ),
    *(
        "\ud7ff\uffff".encode(),
        "\u0660\u00b2".encode(),
        "a\u0301".encode(),
        b"[" * 200,
        b"{" * 2000,
    ),
]


@st.composite
def changed(draw: st.DrawFn, good: tuple[bytes, ...]) -> bytes:
    """One of *good* with a few pieces cut, doubled, moved or put in."""
    data = draw(st.sampled_from(good))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        piece = data[at : at + draw(st.integers(0, 60))]
        match draw(st.integers(0, 4)):
            case 0:
                data = data[:at] + data[at + len(piece) :]
            case 1:
                data = data[:at] + piece + data[at:]
            case 2:
                to = draw(st.integers(0, len(data)))
                data = data[:to] + piece + data[to:]
            case 3:
                data = data[:at] + draw(st.binary(min_size=1, max_size=4)) + data[at + 1 :]
            case _:
                data = data[:at] + draw(st.sampled_from(ODD)) + data[at + len(piece) :]
    return data


@pytest.mark.parametrize(
    "reader", [one for one in READERS if one.good], ids=lambda reader: reader.name
)
def test_what_is_spoilt_below_is_good(reader: Reader) -> None:
    """Else the changes would change nothing that is ever read to its end."""
    accepted = 0
    for data in reader.good:
        with contextlib.suppress(*reader.refusals):
            reader.read(data)
            accepted += 1
    assert accepted or reader.name.startswith("body ")


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
@EXAMPLES
@given(data=st.data())
def test_no_bytes_raise_anything_but_a_refusal(reader: Reader, data: st.DataObject) -> None:
    given_ = st.binary(max_size=80) | st.lists(st.sampled_from(ODD), max_size=6).map(b"".join)
    if reader.good:
        given_ |= changed(reader.good) | changed(reader.good)

    with contextlib.suppress(*reader.refusals):
        reader.read(data.draw(given_))


def test_a_reader_that_raises_something_else_would_be_seen() -> None:
    """The tests above can fail: a `KeyError` is no refusal."""
    careless = Reader("careless", lambda data: json.loads(data)["a"], (ValueError,), ())
    with pytest.raises((KeyError, TypeError)), contextlib.suppress(*careless.refusals):
        careless.read(b"{}")


# --- Tokens -------------------------------------------------------------------------------------

TIMES = st.none() | st.integers() | st.floats() | st.text(max_size=6) | st.just("1") | st.booleans()
CLAIMS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def trusted() -> Iterator[tuple[Issuers, asyncio.Runner]]:
    """Issuers whose keys are to be had, and a loop to ask them in."""
    with contextlib.closing(KeyServer()) as server, asyncio.Runner() as runner:
        yield read_issuers(issuers_file(server.url).encode(), ROLES), runner


WHOLE = (signed(claims()), signed(workload(), typ="JWT"))


def refused(trusted: tuple[Issuers, asyncio.Runner], token: str) -> bool:
    issuers, runner = trusted
    try:
        return runner.run(issuers.bearer(token)) is None
    except (InvalidToken, Unavailable):
        return True


def signed_as_it_is(said: dict[str, Any], kind: str) -> str:
    """A token that says what no library would let an issuer say."""
    return PyJWS().encode(json.dumps(said).encode(), SIGNS, "RS256", {"typ": kind, "kid": "first"})


@EXAMPLES
@given(
    name=st.sampled_from(["iss", "aud", "exp", "iat", "nbf", "sub", "client_id", "jti", "groups"]),
    value=CLAIMS | TIMES,
)
def test_whatever_a_signed_token_says_it_is_believed_or_refused(
    trusted: tuple[Issuers, asyncio.Runner], name: str, value: Any
) -> None:
    """An issuer that is trusted may still be mistaken, and its mistakes are not ours."""
    refused(trusted, signed_as_it_is(claims() | {name: value}, "at+jwt"))
    refused(trusted, signed_as_it_is(workload() | {name: value}, "JWT"))


@EXAMPLES
@given(
    name=st.sampled_from(["typ", "kid", "alg", "crit", "b64", "jku", "jwk", "x5u", "cty"]),
    value=CLAIMS,
)
def test_whatever_stands_in_a_header_it_is_believed_or_refused(
    trusted: tuple[Issuers, asyncio.Runner], name: str, value: Any
) -> None:
    header = {"alg": "RS256", "typ": "at+jwt", "kid": "first"} | {name: value}
    for said in (claims(), workload(), {"iss": ISSUER}, {"iss": CI}):
        parts = (json.dumps(header, default=str), json.dumps(said), "signature")
        token = ".".join(write_base64(part.encode()).rstrip("=") for part in parts)
        assert refused(trusted, token.replace("+", "-").replace("/", "_"))


@EXAMPLES
@given(token=changed(tuple(token.encode() for token in WHOLE)))
def test_no_spoilt_token_is_believed(trusted: tuple[Issuers, asyncio.Runner], token: bytes) -> None:
    text = token.decode("utf-8", "surrogateescape")

    assert refused(trusted, text) or text in WHOLE
