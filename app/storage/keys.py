"""API keys: who may call, and as what. Only the SHA-256 of a key is kept.

A key is `aslk_<id>_<secret>` with 256 random bits in the secret, so a fast hash is the right one: there
is nothing to guess. The id is public (it is the actor in every record) and says nothing of the
secret. A bootstrap key that was chosen elsewhere may have any form; it gets a random id too, for an
id made from it would let anyone who reads the ledger try out what it was made from.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Row, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection
from uuid_utils import uuid7

from app.errors import NotFound
from app.storage.tables import api_key

SHORTEST_GIVEN_KEY: Final = 32

_KEY: Final = re.compile(r"aslk_([0-9a-f]{32})_([A-Za-z0-9_-]{43})")
_NO_SECRET: Final = hashlib.sha256(b"no key has this hash").digest()
_FIRST_KEY_LOCK: Final = 0x61736C6B


class UnusableKey(Exception):
    """A bootstrap key that is too short, or holds what a header cannot."""


@dataclass(frozen=True, slots=True)
class Credential:
    """Who calls: the key's id, which is the actor in records, its name, and its roles."""

    id: str
    name: str
    roles: tuple[str, ...]
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made. `text` is the key itself, shown now and never again."""

    credential: Credential
    text: str


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key as it is listed. `expires_at` `None`: it does not; `revoked_at` `None`: it was not."""

    id: str
    name: str
    roles: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


async def create_key(
    connection: AsyncConnection,
    *,
    name: str,
    roles: Sequence[str],
    now: datetime,
    expires_at: datetime | None = None,
) -> NewKey:
    """Make a key. The caller commits, and must not show the key before."""
    id = uuid7().hex
    written = f"aslk_{id}_{secrets.token_urlsafe(32)}"
    return NewKey(await _keep(connection, id, written, name, roles, now, expires_at), written)


async def ensure_key(
    connection: AsyncConnection, given: str, *, name: str, roles: Sequence[str], now: datetime
) -> Credential | None:
    """Keep *given* as the first key, where there is none yet; `None`: there is.

    A revoked key counts too, so that a restart brings no key back. Several starters at once agree
    on one. Raises `UnusableKey`.
    """
    if not (len(given) >= SHORTEST_GIVEN_KEY and given.isascii() and given.isprintable()):
        raise UnusableKey(
            f"a bootstrap key has {SHORTEST_GIVEN_KEY} or more printable ASCII characters"
        )
    if " " in given:
        raise UnusableKey("a bootstrap key holds no space")
    await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _FIRST_KEY_LOCK})
    if (await connection.execute(select(api_key.c.id).limit(1))).first() is not None:
        return None
    form = _KEY.fullmatch(given)
    id = form.group(1) if form else uuid7().hex
    return await _keep(connection, id, given, name, roles, now, None)


async def _keep(
    connection: AsyncConnection,
    id: str,
    written: str,
    name: str,
    roles: Iterable[str],
    now: datetime,
    expires_at: datetime | None,
) -> Credential:
    credential = Credential(f"key_{id}", name, tuple(roles), expires_at)
    await connection.execute(
        insert(api_key).values(
            id=credential.id,
            name=name,
            secret_sha256=_sha256(written),
            roles=list(credential.roles),
            created_at=now,
            expires_at=expires_at,
        )
    )
    return credential


async def list_keys(connection: AsyncConnection) -> tuple[KnownKey, ...]:
    """All keys that ever were, oldest first."""
    rows = await connection.execute(select(api_key).order_by(api_key.c.created_at, api_key.c.id))
    return tuple(
        KnownKey(row.id, row.name, tuple(row.roles), row.created_at, row.expires_at, row.revoked_at)
        for row in rows
    )


async def revoke_key(connection: AsyncConnection, id: str, *, now: datetime) -> None:
    """Refuse the key from now on. Again is no error. Raises `NotFound`."""
    revoked = await connection.execute(
        update(api_key)
        .where(api_key.c.id == id, api_key.c.revoked_at.is_(None))
        .values(revoked_at=now)
    )
    if not revoked.rowcount:
        known = await connection.execute(select(api_key.c.id).where(api_key.c.id == id))
        if known.first() is None:
            raise NotFound("key", id)


async def authenticate(
    connection: AsyncConnection, given: str, *, now: datetime
) -> Credential | None:
    """Whose key *given* is; `None`: nobody's that counts now.

    A key in our form is looked up by its id, another by its hash, of which a caller can choose no
    part. Every case hashes once and compares once, an unknown key against a hash that nothing has.
    """
    hashed = _sha256(given)
    form = _KEY.fullmatch(given)
    asked = select(api_key)
    if form:
        asked = asked.where(api_key.c.id == f"key_{form.group(1)}")
    else:
        asked = asked.where(api_key.c.secret_sha256 == hashed)
    row = (await connection.execute(asked)).first()
    same = hmac.compare_digest(_NO_SECRET if row is None else row.secret_sha256, hashed)
    if row is None or not (same and _counts(row, now)):
        return None
    return Credential(row.id, row.name, tuple(row.roles), row.expires_at)


def _counts(row: Row[object], now: datetime) -> bool:
    return row.revoked_at is None and (row.expires_at is None or now < row.expires_at)


def _sha256(written: str) -> bytes:
    return hashlib.sha256(written.encode("utf-8", "surrogatepass")).digest()
