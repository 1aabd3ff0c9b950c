"""Tokens of issuers: who is believed, as whom, and the many ways in which nobody is."""

import base64
import contextlib
import hashlib
import hmac
import json
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from app.http.permissions import ROLES
from app.integrations import issuers
from app.integrations.issuers import UnusableIssuers, read_issuers
from app.storage.embedded import EmbeddedPostgres
from tests.http.conftest import Service, running
from tests.http.published import problem

ISSUER = "https://id.lab.example"
CI = "https://ci.lab.example"
OURS = "aslgate.lab.example"
SIGNS = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ANOTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CURVE = ec.generate_private_key(ec.SECP256R1())


def public_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def jwk(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    kind = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    said: dict[str, Any] = json.loads(kind.to_jwk(key.public_key()))
    return said | {"kid": kid} | more


class KeyServer:
    """Where the issuers' keys are to be had; `None`: it answers 500."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] | None = [jwk(SIGNS, "first"), jwk(CURVE, "curve")]
        self.asked = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                body = json.dumps({"keys": outer.keys}).encode()
                self.send_response(500 if outer.keys is None else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/keys"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def key_server() -> Iterator[KeyServer]:
    with contextlib.closing(KeyServer()) as server:
        yield server


def settings(url: str) -> str:
    return f"""
issuers:
  - name: people
    issuer: {ISSUER}
    audience: {OURS}
    keys: {url}
    algorithms: [RS256]
    profile: access-token
    rules:
      - claims: {{sub: "1001"}}
        principal: person:alice
        roles: [approver, assessor]
        policy_roles: [ceo]
      - claims: {{groups: auditors}}
        principal: "person:{{email}}"
        roles: [reader]
  - name: pipelines
    issuer: {CI}
    audience: {OURS}
    keys: {url}
    algorithms: [RS256, ES256]
    profile: workload
    rules:
      - claims: {{sub: "repo:lab/deploy:environment:production"}}
        principal: service:release-pipeline
        roles: [orchestrator]
"""


@pytest.fixture
async def service(
    postgres: EmbeddedPostgres, template: str, key_server: KeyServer, tmp_path: Path
) -> AsyncIterator[Service]:
    file = tmp_path / "issuers.yaml"
    file.write_text(settings(key_server.url))
    async with running(postgres, template, issuers_file=file) as started:
        yield started


def claims(**more: Any) -> dict[str, Any]:
    now = int(datetime.now(UTC).timestamp())
    said = {
        "iss": ISSUER,
        "aud": OURS,
        "sub": "1001",
        "client_id": "web",
        "jti": "t-1",
        "iat": now - 1,
        "exp": now + 300,
    } | more
    return {name: value for name, value in said.items() if value is not ...}


def signed(said: dict[str, Any], key: Any = SIGNS, algorithm: str = "RS256", **header: Any) -> str:
    headers = {"typ": "at+jwt", "kid": "first"} | header
    return jwt.encode(
        said,
        key,
        algorithm,
        {n: v for n, v in headers.items() if v is not ...},
    )


def workload(**more: Any) -> dict[str, Any]:
    sub = "repo:lab/deploy:environment:production"
    return claims(iss=CI, sub=sub, client_id=..., jti=..., **more)


async def called(service: Service, token: str, path: str = "/v1/policies/x") -> httpx.Response:
    async with service.client(token) as client:
        return await client.get(path)


async def test_a_token_speaks_for_whom_the_settings_say(service: Service) -> None:
    """Registered by alice's token: the record names her, and the issuer that vouched for her."""
    async with service.client(signed(claims())) as client:
        made = await client.post("/v1/models", json={"model": "a@1", "developer": "anthropic"})
    assert made.status_code == 201, made.text
    entry = json.loads(await service.entry(made.json()["ledger"]["index"]))
    assert entry["actor"] == "person:alice/oidc_people"


async def test_a_pipeline_shows_its_workload_identity(service: Service) -> None:
    """Its tokens are plain `JWT`s, or say no type at all, and list their one audience."""
    for said in (
        signed(workload(), typ="JWT"),
        signed(workload(aud=[OURS]), typ=...),
        signed(workload(), CURVE, "ES256", typ="JWT", kid="curve"),
    ):
        answer = await called(service, said)
        assert problem(answer) == (404, "not-found"), answer.text


async def test_a_claim_may_name_the_principal(service: Service) -> None:
    token = signed(claims(sub="77", groups=["staff", "auditors"], email="Bob@Lab.Example"))
    assert (await called(service, token)).status_code == 404


async def test_what_the_roles_do_not_carry_is_forbidden(service: Service) -> None:
    async with service.client(signed(workload(), typ="JWT")) as client:
        answer = await client.post("/v1/models", json={"model": "a@1", "developer": "anthropic"})
    assert problem(answer) == (403, "forbidden")


def _unsigned() -> str:
    return jwt.encode(claims(), "", "none", {"typ": "at+jwt", "kid": "first"})


def _by_hmac_with_the_public_key() -> str:
    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    header = {"alg": "HS256", "typ": "at+jwt", "kid": "first"}
    signing = f"{part(json.dumps(header).encode())}.{part(json.dumps(claims()).encode())}"
    # By hand: a library that makes tokens knows what that would be good for, and refuses.
    mac = hmac.new(public_pem(SIGNS), signing.encode(), hashlib.sha256).digest()
    return f"{signing}.{part(mac)}"


def _changed_afterwards() -> str:
    header, body, signature = signed(claims(sub="77")).split(".")
    other = signed(claims()).split(".")[1]
    assert other != body
    return f"{header}.{other}.{signature}"


NOW = int(datetime.now(UTC).timestamp())
FORGED = {
    "unsigned": _unsigned(),
    "unsigned, and so said in capitals": _unsigned().replace(
        "eyJhbGciOiJub25l", "eyJhbGciOiJOT05F"
    ),
    "signed by HMAC with the public key": _by_hmac_with_the_public_key(),
    "signed by another": signed(claims(), ANOTHER),
    "changed after it was signed": _changed_afterwards(),
    "without its signature": signed(claims()).rpartition(".")[0] + ".",
    "by a key that the issuer does not have": signed(claims(), ANOTHER, kid="other"),
    "without a key's name": signed(claims(), kid=...),
    "with the key inside": signed(claims(), ANOTHER, kid="mine", jwk=jwk(ANOTHER, "mine")),
    "with an address of keys inside": signed(
        claims(), ANOTHER, kid="mine", jku="https://evil.example/keys"
    ),
    "with a path for a key's name": signed(claims(), ANOTHER, kid="../../etc/passwd"),
    "in another algorithm of that key": signed(claims(), SIGNS, "PS256"),
    "by a curve that this issuer does not sign with": signed(claims(), CURVE, "ES256", kid="curve"),
    "with what must be understood and is not": signed(claims(), crit=["exp"]),
    "of another issuer": signed(claims(iss="https://evil.example")),
    "without an issuer": signed(claims(iss=...)),
    "for another audience": signed(claims(aud="other.lab.example")),
    "for another audience too": signed(claims(aud=[OURS, "other.lab.example"])),
    "without an audience": signed(claims(aud=...)),
    "expired": signed(claims(iat=NOW - 600, exp=NOW - 120)),
    "without an end": signed(claims(exp=...)),
    "valid for a year": signed(claims(exp=NOW + 365 * 86400)),
    "not valid yet": signed(claims(nbf=NOW + 3600)),
    "from the future": signed(claims(iat=NOW + 3600, exp=NOW + 7200)),
    "without a subject": signed(claims(sub=...)),
    "without an id": signed(claims(jti=...)),
    "an identity token in the place of an access token": signed(claims(), typ="JWT"),
    "of no type": signed(claims(), typ=...),
    "a pipeline's, of the type of access tokens": signed(workload()),
    "a pipeline's from another environment": signed(
        workload() | {"sub": "repo:lab/deploy:environment:test"}, typ="JWT"
    ),
    "of somebody whom no rule names": signed(claims(sub="1002")),
    "whose claim names no principal": signed(
        claims(sub="77", groups=["auditors"], email="a/b@lab.example")
    ),
    "whose claim is not there": signed(claims(sub="77", groups=["auditors"])),
    "with an end that is no number": signed(claims(exp="soon")),
    "with an end beyond all calendars": signed(claims(exp=10**30)),
    "much too long": signed(claims(more="x" * 9000)),
    "no token at all": "eyJ.eyJ.eyJ",
}


async def test_no_forged_token_is_believed(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    for what, token in FORGED.items():
        answer = await called(service, token)
        assert problem(answer) == (401, "unauthenticated"), what
        assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"', what
        assert token not in answer.text
    assert await service.size() == 1, "the bootstrap key, and nothing else"


async def test_keys_are_rotated_without_a_restart(
    service: Service, key_server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that is new is asked for once, and not for each made-up name."""
    assert (await called(service, signed(claims()))).status_code == 404
    assert key_server.asked == 1
    key_server.keys = [jwk(ANOTHER, "second")]
    for number in range(5):
        token = signed(claims(), ANOTHER, kid=f"made-up-{number}")
        assert (await called(service, token)).status_code == 401
    assert key_server.asked == 1, "it was asked just now"
    monkeypatch.setattr(issuers, "RETRY_SECONDS", 0.0)
    assert (await called(service, signed(claims(), ANOTHER, kid="second"))).status_code == 404
    assert (await called(service, signed(claims()))).status_code == 401, "the old key is gone"


async def test_where_the_issuer_is_down_the_last_keys_count_and_none_opens_nothing(
    service: Service, key_server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuers, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(issuers, "FRESH_SECONDS", 0.0)
    good, key_server.keys = key_server.keys, None
    answer = await called(service, signed(claims()))
    assert problem(answer) == (503, "unavailable")
    assert (answer.json()["reason"], "Retry-After" in answer.headers) == ("issuer", True)
    key_server.keys = good
    assert (await called(service, signed(claims()))).status_code == 404
    key_server.keys = None
    assert (await called(service, signed(claims()))).status_code == 404
    assert (await called(service, signed(claims(), ANOTHER))).status_code == 401
    monkeypatch.setattr(issuers, "LAST_GOOD_SECONDS", -1.0)
    assert (await called(service, signed(claims()))).status_code == 503


async def test_an_issuer_cannot_give_symmetric_or_ambiguous_keys(
    service: Service, key_server: KeyServer
) -> None:
    secret = base64.urlsafe_b64encode(b"s" * 32).rstrip(b"=").decode()
    key_server.keys = [
        {"kty": "oct", "k": secret, "kid": "shared", "alg": "HS256"},
        jwk(SIGNS, "twice"),
        jwk(ANOTHER, "twice"),
        jwk(SIGNS, "encrypts", use="enc"),
        jwk(SIGNS, "other-algorithm", alg="RS512"),
    ]
    by_secret = jwt.encode(claims(), "s" * 32, "HS256", {"typ": "at+jwt", "kid": "shared"})
    assert (await called(service, by_secret)).status_code == 401
    for kid in ("twice", "encrypts", "other-algorithm"):
        assert (await called(service, signed(claims(), kid=kid))).status_code == 401, kid


async def test_without_issuers_no_token_is_believed(
    postgres: EmbeddedPostgres, template: str
) -> None:
    async with running(postgres, template) as plain:
        assert (await called(plain, signed(claims()))).status_code == 401


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("algorithms: [RS256]", "algorithms: [HS256]", "must be one of"),
        ("algorithms: [RS256]", "algorithms: [none]", "must be one of"),
        ("algorithms: [RS256]", "algorithms: []", "must not be empty"),
        ("roles: [orchestrator]", "roles: [king]", "no role `king`"),
        ("principal: person:alice", "principal: alice", "no principal"),
        ("principal: person:alice", 'principal: "{kind}:{sub}"', "no principal"),
        ('claims: {sub: "1001"}', "claims: {}", "every token"),
        ("name: pipelines", "name: people", "same `name`"),
        (f"issuer: {CI}", f"issuer: {ISSUER}", "same `issuer`"),
        ("profile: workload", "profile: any", "profile"),
        ("profile: workload", "profile: workload\n    leeway: 5", "leeway"),
        ("keys: http://127.0.0.1:1/keys", "keys: http://id.lab.example/keys", "https"),
    ],
)
def test_settings_that_would_let_in_too_many_are_refused(old: str, new: str, said: str) -> None:
    text = settings("http://127.0.0.1:1/keys")
    read_issuers(text.encode(), ROLES)
    assert old in text
    with pytest.raises(UnusableIssuers, match=said):
        read_issuers(text.replace(old, new, 1).encode(), ROLES)


def test_the_page_s_example_can_be_used() -> None:
    page = (Path(__file__).parents[2] / "docs" / "tokens.md").read_text()
    example = page.split("```yaml\n")[1].split("```")[0]
    read_issuers(example.encode(), ROLES)
    assert f"{issuers.RETRY_SECONDS:.0f} seconds" in page
    assert f"up to {issuers.LAST_GOOD_SECONDS / 3600:.0f} hours" in page
