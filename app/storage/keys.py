"""API keys: who may call, and as what. Only the SHA-256 of a key is kept.

A key is `aslk_<id>_<secret>` with 256 random bits in the secret, so a fast hash is the right one: there
is nothing to guess. The id is public (it stands in every record that was made with it) and says
nothing of the secret. A bootstrap key that was chosen elsewhere may have any form; it gets a random
id too, for an id made from it would let anyone who reads the ledger try out what it was made from.

A key is an entry of the ledger, and so is its revocation: see `app.operations.manage_keys`.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson
from sqlalchemy import Select, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from uuid_utils import uuid7

from app.canonical import canonical_json
from app.ledger.entry import Kind
from app.storage.ledger import CredentialRow, Draft, RevocationRow
from app.storage.tables import credential, credential_revocation, credential_use, ledger_entry
from app.vocabulary import write_instant

CREDENTIALS_STREAM: Final = "credentials"
"""The stream that moves whenever a key is made."""

SHORTEST_GIVEN_KEY: Final = 32

EVERY_ROLE: Final = "*"
"""Among the policy roles of a key: it speaks for whatever role a policy names."""

_KEY: Final = re.compile(r"aslk_([0-9a-f]{32})_([A-Za-z0-9_-]{43})")
_NO_SECRET: Final = hashlib.sha256(b"no key has this hash").digest()


class UnusableKey(Exception):
    """A bootstrap key that is too short, or holds what a header cannot."""


@dataclass(frozen=True, slots=True)
class Credential:
    """Who calls, by which credential, and what that lets them do.

    `roles` carry permissions (`app.http.permissions`); `policy_roles` are those of which a policy
    speaks, `ceo` say, and what the caller may sign and find as.
    """

    id: str
    principal: str
    roles: tuple[str, ...]
    policy_roles: tuple[str, ...] = ()
    name: str | None = None
    expires_at: datetime | None = None

    @property
    def actor(self) -> str:
        """Who acts, as records name it: the principal, and by which credential."""
        return f"{self.principal}/{self.id}"


@dataclass(frozen=True, slots=True)
class NewSecret:
    """The secret part of a key to be. `text` is the key itself, shown once and never again."""

    id: str
    text: str

    @property
    def sha256(self) -> bytes:
        """What is kept of it."""
        return _sha256(self.text)

    def __repr__(self) -> str:
        return f"NewSecret({self.id})"


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key as it is listed. `expires_at` `None`: it does not; `revoked_at` `None`: it was not;
    `used_at`: about when it was last used, `None`: never.
    """

    credential: Credential
    created_at: datetime
    created_by: str
    revoked_at: datetime | None
    used_at: datetime | None


def new_secret() -> NewSecret:
    """A key that nobody has yet."""
    id = uuid7().hex
    return NewSecret(f"key_{id}", f"aslk_{id}_{secrets.token_urlsafe(32)}")


def given_secret(given: str) -> NewSecret:
    """A key that was chosen elsewhere. Raises `UnusableKey`."""
    if not (len(given) >= SHORTEST_GIVEN_KEY and given.isascii() and given.isprintable()):
        raise UnusableKey(
            f"a bootstrap key has {SHORTEST_GIVEN_KEY} or more printable ASCII characters"
        )
    if " " in given:
        raise UnusableKey("a bootstrap key holds no space")
    form = _KEY.fullmatch(given)
    return NewSecret(f"key_{form.group(1) if form else uuid7().hex}", given)


def credential_draft(
    made: Credential, secret: NewSecret, *, by: str, now: datetime, succeeds: str | None = None
) -> Draft:
    """The entry that says that *by* made that key. `succeeds`: the id of the one that it replaces."""
    document = canonical_json(
        {
            "id": made.id,
            "principal": made.principal,
            "name": made.name,
            "roles": list(made.roles),
            "policy_roles": list(made.policy_roles),
            "secret_sha256": secret.sha256.hex(),
            "created_at": write_instant(now),
            "expires_at": None if made.expires_at is None else write_instant(made.expires_at),
            "succeeds": succeeds,
            "by": by,
        }
    )
    row = CredentialRow(made.id, made.principal, secret.sha256, now, made.expires_at)
    return Draft(Kind.CREDENTIAL, made.id, row, lambda _: document)


def revocation_draft(id: str, credential: str, reason: str, *, by: str, now: datetime) -> Draft:
    """The entry that says that *by* revoked the key with the id *credential*."""
    document = canonical_json(
        {
            "id": id,
            "credential": credential,
            "reason": reason,
            "revoked_at": write_instant(now),
            "by": by,
        }
    )
    return Draft(Kind.REVOCATION, id, RevocationRow(id, credential, now), lambda _: document)


async def list_keys(connection: AsyncConnection) -> tuple[KnownKey, ...]:
    """All keys that ever were, oldest first."""
    rows = await connection.execute(_keys().order_by(credential.c.index))
    return tuple(map(_known, rows))


async def ever_was_one(connection: AsyncConnection) -> bool:
    """Whether a key was ever made; one that was revoked counts too."""
    return (await connection.execute(select(credential.c.index).limit(1))).first() is not None


async def key_of_id(connection: AsyncConnection, id: str) -> KnownKey | None:
    """The key with that id."""
    row = (await connection.execute(_keys().where(credential.c.id == id))).first()
    return None if row is None else _known(row)


async def authenticate(
    connection: AsyncConnection, given: str, *, now: datetime
) -> Credential | None:
    """Whose key *given* is; `None`: nobody's that counts now.

    A key in our form is looked up by its id, another by its hash, of which a caller can choose no
    part. Every case hashes once and compares once, an unknown key against a hash that nothing has.
    """
    hashed = _sha256(given)
    form = _KEY.fullmatch(given)
    asked = _keys()
    if form:
        asked = asked.where(credential.c.id == f"key_{form.group(1)}")
    else:
        asked = asked.where(credential.c.secret_sha256 == hashed)
    row = (await connection.execute(asked)).first()
    same = hmac.compare_digest(_NO_SECRET if row is None else row.secret_sha256, hashed)
    if row is None or not same or row.revoked_at is not None:
        return None
    return None if row.expires_at is not None and row.expires_at <= now else _credential(row)


def id_of(given: str) -> str | None:
    """The id that a key in our form names, known or not; `None`: it is in no such form."""
    form = _KEY.fullmatch(given)
    return None if form is None else f"key_{form.group(1)}"


async def note_use(connection: AsyncConnection, id: str, now: datetime) -> None:
    """Note that the key was used now, for `list_keys`. The caller commits."""
    noted = insert(credential_use).values(credential=id, used_at=now)
    latest = func.greatest(credential_use.c.used_at, noted.excluded.used_at)
    await connection.execute(
        noted.on_conflict_do_update(index_elements=["credential"], set_={"used_at": latest})
    )


def _keys() -> Select[Any]:
    return select(
        credential,
        ledger_entry.c.document,
        credential_revocation.c.revoked_at,
        credential_use.c.used_at,
    ).select_from(
        credential.join(ledger_entry, credential.c.index == ledger_entry.c.index)
        .outerjoin(credential_revocation, credential_revocation.c.credential == credential.c.id)
        .outerjoin(credential_use, credential_use.c.credential == credential.c.id)
    )


def _credential(row: Any) -> Credential:
    said = orjson.loads(row.document)
    return Credential(
        row.id,
        row.principal,
        tuple(said["roles"]),
        tuple(said["policy_roles"]),
        said["name"],
        row.expires_at,
    )


def _known(row: Any) -> KnownKey:
    by = orjson.loads(row.document)["by"]
    return KnownKey(_credential(row), row.created_at, by, row.revoked_at, row.used_at)


def _sha256(written: str) -> bytes:
    return hashlib.sha256(written.encode("utf-8", "surrogatepass")).digest()
