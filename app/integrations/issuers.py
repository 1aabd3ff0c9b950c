"""Issuers of tokens: an identity provider, or a CI system that says which workload calls.

A bearer token is a JWT (RFC 7519) that one of the issuers has signed. What it says is believed in so
far as the settings map it: claims to a principal, its roles, and the policy roles that it may speak
as. Two profiles: access tokens (RFC 9068, `typ: at+jwt`), and the identity tokens of workloads, which
CI systems and clusters issue as `typ: JWT` or without one.

Only what RFC 8725 asks for is accepted: asymmetric algorithms that the settings name, a key that is
found by the `kid` in the issuer's own set and nowhere else, one audience, which is ours, and an end.
"""

import asyncio
import logging
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

import httpx
import jwt
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from app.decoding import decode_json, decode_yaml
from app.errors import Refusal, Unavailable
from app.parsing import parse
from app.vocabulary import TEXT, Document, Integer, Line, Principal, Slug

_log: Final = logging.getLogger("aslgate.issuers")

ALGORITHMS: Final = (
    *("ES256", "ES384", "ES512", "EdDSA"),
    *("PS256", "PS384", "PS512", "RS256", "RS384", "RS512"),
)
"""Those that an issuer may be set to sign with: none is symmetric, and `none` is none of them."""

MOST_TOKEN_BYTES: Final = 8192
MOST_SET_BYTES: Final = 256 * 1024
FETCH_SECONDS: Final = 2.0
FRESH_SECONDS: Final = 300.0
"""How long a set of keys is used before it is asked for again."""
RETRY_SECONDS: Final = 10.0
"""How soon a set is asked for again at the earliest: for a key that it does not have, or after a
failure. So made-up `kid`s cost the issuer nothing."""
LAST_GOOD_SECONDS: Final = 24 * 3600.0
"""How long the last good set is used where the issuer does not answer."""
LONGEST: Final = timedelta(hours=24)
"""How long a token may be valid in all."""

_PLACEHOLDER: Final = re.compile(r"\{([A-Za-z0-9_]{1,64})\}")
_TYPES: Final = {
    "access-token": ("at+jwt", "application/at+jwt"),
    "workload": (None, "jwt"),
}
_CLAIMS: Final = {
    "access-token": ["iss", "aud", "exp", "iat", "sub", "client_id", "jti"],
    "workload": ["iss", "aud", "exp", "iat", "sub"],
}


class UnusableIssuers(Exception):
    """Settings of issuers that cannot be used; `str()` of it says why."""


class InvalidToken(Exception):
    """A token that is not believed. `str()` of it is for our log, and not for the caller."""


def _an_algorithm(value: str) -> str:
    if value not in ALGORITHMS:
        raise ValueError(f"must be one of {', '.join(ALGORITHMS)}")
    return value


def _an_address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme != "https" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise ValueError("must be an `https` address")
    return value


class Rule(Document):
    """Who a token speaks for that says all of *claims*, and what that lets its bearer do.

    A claim that is a list says each of its members. `principal` may name one claim in braces,
    `person:{email}`: then the issuer says who it is, and must be one that vouches for that claim.
    """

    claims: dict[Line, Line] = Field(default_factory=dict)
    principal: Line
    roles: tuple[Slug, ...] = ()
    policy_roles: tuple[Slug, ...] = ()


class IssuerSettings(Document):
    """One issuer: which tokens of it are believed, and whose they are. The first rule that fits counts."""

    name: Slug
    issuer: Line
    audience: Line
    keys: Annotated[Line, AfterValidator(_an_address)]
    algorithms: Annotated[
        tuple[Annotated[str, AfterValidator(_an_algorithm)], ...], Field(min_length=1)
    ]
    profile: Literal["access-token", "workload"]
    leeway_seconds: Annotated[Integer, Field(ge=0, le=60)] = 30
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]


class _IssuersFile(Document):
    issuers: Annotated[tuple[IssuerSettings, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who bears a token that is believed, by which issuer, and until when."""

    issuer: str
    principal: str
    roles: tuple[str, ...]
    policy_roles: tuple[str, ...]
    expires_at: datetime


class Issuer:
    """One issuer and the keys that it signs with, fetched when they are needed."""

    def __init__(self, settings: IssuerSettings) -> None:
        self.settings = settings
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._fetched: float | None = None
        self._tried: float | None = None
        self._fetching = asyncio.Lock()
        self._refreshing: asyncio.Task[None] | None = None

    async def bearer(self, token: str) -> Bearer:
        """Whose *token* is. Raises `InvalidToken`, and `Unavailable` where no key of the issuer is to
        be had.
        """
        said = self.settings
        header = jwt.get_unverified_header(token)
        kid, kind = header.get("kid"), header.get("typ")
        if not isinstance(kid, str):
            raise InvalidToken("it names no key")
        if (kind.lower() if isinstance(kind, str) else kind) not in _TYPES[said.profile]:
            raise InvalidToken("it is of another type")
        key = await self._key(kid)
        claims = jwt.decode(
            token,
            key,
            algorithms=list(said.algorithms),
            audience=said.audience,
            issuer=said.issuer,
            leeway=said.leeway_seconds,
            options={"require": _CLAIMS[said.profile]},
        )
        if claims["aud"] not in (said.audience, [said.audience]):
            raise InvalidToken("it is for others too")
        begins, ends = _instant(claims["iat"]), _instant(claims["exp"])
        if ends - begins > LONGEST:
            raise InvalidToken("it is valid for too long")
        return self._mapped(claims, ends)

    def _mapped(self, claims: Mapping[str, Any], ends: datetime) -> Bearer:
        for rule in self.settings.rules:
            if all(_says(claims.get(name), value) for name, value in rule.claims.items()):
                principal = _principal(rule.principal, claims)
                return Bearer(self.settings.name, principal, rule.roles, rule.policy_roles, ends)
        raise InvalidToken("no rule fits it")

    async def _key(self, kid: str) -> jwt.PyJWK:
        now = time.monotonic()
        age = None if self._fetched is None else now - self._fetched
        known = None if age is None or age > LAST_GOOD_SECONDS else self._keys.get(kid)
        if known is None:
            await self._refresh()
            known = self._keys.get(kid)
        elif age is not None and age > FRESH_SECONDS and self._refreshing is None:
            # Who calls now does not wait for it: what was good a while ago still is.
            self._refreshing = asyncio.create_task(self._refresh())
            self._refreshing.add_done_callback(self._refreshed)
        if self._fetched is None or time.monotonic() - self._fetched > LAST_GOOD_SECONDS:
            name = self.settings.name
            raise Unavailable("issuer", f"the keys of the issuer `{name}` are not to be had now")
        if known is None:
            raise InvalidToken("it is signed with a key that its issuer does not have")
        return known

    def _refreshed(self, _: asyncio.Task[None]) -> None:
        self._refreshing = None

    async def _refresh(self) -> None:
        """Ask for the keys anew, unless that was done just now; keep those there are on a failure."""
        async with self._fetching:
            now = time.monotonic()
            if self._tried is not None and now - self._tried < RETRY_SECONDS:
                return
            self._tried = now
            try:
                self._keys, self._fetched = await self._fetch(), now
            except (httpx.HTTPError, Refusal, TimeoutError, ValueError) as error:
                _log.warning("keys of issuer `%s` not fetched: %s", self.settings.name, error)

    async def _fetch(self) -> Mapping[str, jwt.PyJWK]:
        """The issuer's keys by name (RFC 7517), those that may sign in an algorithm of ours."""
        read = bytearray()
        async with (
            httpx.AsyncClient(timeout=FETCH_SECONDS, follow_redirects=False) as http,
            asyncio.timeout(FETCH_SECONDS),
            http.stream("GET", self.settings.keys) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise ValueError(f"it answered {response.status_code}")
            async for some in response.aiter_bytes():
                read += some
                if len(read) > MOST_SET_BYTES:
                    raise ValueError("its set of keys is too long")
        said = decode_json(bytes(read))
        listed = said.get("keys") if isinstance(said, dict) else None
        return _usable(listed if isinstance(listed, list) else [], self.settings.algorithms)


class Issuers:
    """The issuers whose tokens are believed. Without any, no token is."""

    def __init__(self, issuers: Sequence[IssuerSettings] = ()) -> None:
        self._by_issuer = {one.issuer: Issuer(one) for one in issuers}

    async def bearer(self, token: str) -> Bearer | None:
        """Whose *token* is; `None`: it is no JWT. Raises `InvalidToken` and `Unavailable`."""
        if not (token.startswith("eyJ") and token.count(".") == 2 and self._by_issuer):
            return None
        if len(token) > MOST_TOKEN_BYTES:
            raise InvalidToken("it is too long")
        try:
            # Only to know whose keys to try it with: nothing of it is believed before.
            unverified = jwt.decode(token, options={"verify_signature": False})
            issuer = self._by_issuer.get(str(unverified.get("iss")))
            if issuer is None:
                raise InvalidToken("its issuer is not known here")
            return await issuer.bearer(token)
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise InvalidToken(type(error).__name__) from error


def read_issuers(text: bytes, roles: Collection[str]) -> Issuers:
    """The issuers that a file of settings names, in YAML; *roles*: those that there are. Raises
    `UnusableIssuers`.
    """
    try:
        read = decode_yaml(text)
        said = parse(TypeAdapter(_IssuersFile), read.value, TEXT, read.places)
    except Refusal as refusal:
        raise UnusableIssuers(str(refusal)) from refusal
    for field in ("name", "issuer"):
        named = [getattr(one, field) for one in said.issuers]
        if len(set(named)) != len(named):
            raise UnusableIssuers(f"two issuers have the same `{field}`")
    for one in said.issuers:
        for rule in one.rules:
            _refuse_unusable(one, rule, roles)
    return Issuers(said.issuers)


def _refuse_unusable(issuer: IssuerSettings, rule: Rule, roles: Collection[str]) -> None:
    if unknown := sorted(set(rule.roles) - set(roles)):
        raise UnusableIssuers(f"`{issuer.name}`: there is no role `{unknown[0]}`")
    stands_for = _PLACEHOLDER.sub("x", rule.principal)
    if len(_PLACEHOLDER.findall(rule.principal)) > 1 or not _is_principal(stands_for):
        raise UnusableIssuers(f"`{issuer.name}`: `{rule.principal}` is no principal")
    if not rule.claims and "{" not in rule.principal:
        message = (
            f"`{issuer.name}`: every token would be `{rule.principal}`'s; say which claims are"
        )
        raise UnusableIssuers(message)


_PRINCIPAL: Final = TypeAdapter(Principal)


def _is_principal(text: str) -> bool:
    try:
        _PRINCIPAL.validate_python(text)
    except ValidationError:
        return False
    return True


def _principal(template: str, claims: Mapping[str, Any]) -> str:
    found = _PLACEHOLDER.search(template)
    if found is None:
        return template
    value = claims.get(found.group(1))
    if not isinstance(value, str):
        raise InvalidToken(f"it does not say `{found.group(1)}`")
    principal = template.replace(found.group(0), value.lower())
    if not _is_principal(principal):
        raise InvalidToken(f"its `{found.group(1)}` names no principal")
    return principal


def _instant(claim: Any) -> datetime:
    """When a claim of a time says (RFC 7519 §2: a number of seconds)."""
    if isinstance(claim, bool) or not isinstance(claim, int | float):
        raise InvalidToken("its times are no numbers")
    try:
        return datetime.fromtimestamp(claim, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidToken("its times are no instants") from error


def _says(claim: Any, value: str) -> bool:
    if isinstance(claim, list):
        return value in claim
    return isinstance(claim, str) and claim == value


def _usable(listed: Sequence[Any], algorithms: Sequence[str]) -> Mapping[str, jwt.PyJWK]:
    """By name, the keys for verifying signatures. A name that two of them have is nobody's."""
    found: dict[str, list[jwt.PyJWK]] = {}
    for one in listed:
        if not isinstance(one, dict) or not isinstance(one.get("kid"), str):
            continue
        if one.get("kty") == "oct" or one.get("use", "sig") != "sig":
            continue
        declared = one.get("alg")
        candidates = [declared] if declared is not None else list(algorithms)
        for algorithm in candidates:
            if algorithm not in algorithms:
                continue
            try:
                found.setdefault(one["kid"], []).append(jwt.PyJWK(one, algorithm))
            except jwt.PyJWTError:
                continue
            break
    return {kid: keys[0] for kid, keys in found.items() if len(keys) == 1}
