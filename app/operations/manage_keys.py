"""Make, rotate and revoke API keys. Each is an entry of the ledger: who may call, and as what, is as
much on record as what they did.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Annotated, Final

from pydantic import Field, StringConstraints

from app.errors import AlreadyRecorded, Fault, InvalidDocument, NotFound
from app.operations.context import NO_VERSION, Context, new_id
from app.storage import keys
from app.storage.keys import CREDENTIALS_STREAM, Credential, KnownKey
from app.storage.ledger import Appended, Draft, Stale, revocation_stream
from app.vocabulary import SLUG, Document, Flag, Integer, Line, Principal, Sentence, Slug

MOST_DAYS: Final = 3650

PolicyRole = Annotated[str, StringConstraints(pattern=rf"^(\*|{SLUG})$")]


class KeyRequest(Document):
    """Whose the key is to be, and what it lets its holder do.

    `roles` carry permissions. `policy_roles` are the roles of policies, `ceo` say, as which its
    holder may sign and find; `*` is every one of them.
    """

    principal: Principal
    name: Line | None = None
    roles: Annotated[tuple[Slug, ...], Field(min_length=1, max_length=32)]
    policy_roles: Annotated[tuple[PolicyRole, ...], Field(max_length=64)] = ()
    days: Annotated[Integer, Field(ge=1, le=MOST_DAYS)] = 90


class RotationRequest(Document):
    """Whether the old key is refused at once; else until it expires, or is revoked."""

    revoke: Flag = True


class RevocationRequest(Document):
    """Why a key is to open nothing any more."""

    reason: Sentence


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A key that was just recorded. `text`: the key itself, shown now and never again; `None` where
    the request was one that had been answered before.
    """

    appended: Appended = field(repr=False)
    text: str | None = field(repr=False)


def refuse_unknown_roles(request: KeyRequest, known: Collection[str]) -> None:
    """Raise `InvalidDocument` naming each role in it that is not among *known*."""
    faults = [
        Fault(f"/roles/{i}", "unknown-role", f"there is no role `{role}`")
        for i, role in enumerate(request.roles)
        if role not in known
    ]
    if faults:
        raise InvalidDocument(tuple(faults))


async def create_key(
    context: Context, request: KeyRequest, known_roles: Collection[str]
) -> MadeKey:
    """Make a key for that principal. Raises `InvalidDocument` as `refuse_unknown_roles` does."""
    refuse_unknown_roles(request, known_roles)
    secret = keys.new_secret()
    credential = Credential(
        secret.id,
        request.principal,
        request.roles,
        request.policy_roles,
        request.name,
        context.now + timedelta(days=request.days),
    )
    appended = await context.store.ledger.append(
        [keys.credential_draft(credential, secret, by=context.actor, now=context.now)],
        actor=context.actor,
        rests_on={},
        touches=(CREDENTIALS_STREAM,),
        key=context.key,
    )
    return MadeKey(appended, None if appended.replayed else secret.text)


async def rotate_key(context: Context, id: str, rotation: RotationRequest) -> MadeKey:
    """Make a key like that one, for as long, and revoke the old one in the same commit if asked to.

    Raises `NotFound`, and `AlreadyRecorded` where it was revoked before.
    """
    old = await _known(context, id)
    secret = keys.new_secret()
    lasts = old.credential.expires_at and context.now + (old.credential.expires_at - old.created_at)
    credential = replace(old.credential, id=secret.id, expires_at=lasts)
    drafts = [
        keys.credential_draft(
            credential, secret, by=context.actor, now=context.now, succeeds=old.credential.id
        )
    ]
    touches = [CREDENTIALS_STREAM]
    if rotation.revoke:
        drafts.append(_revocation(context, id, "it was rotated"))
        touches.append(revocation_stream(id))
    appended = await _on_key(context, old, drafts, touches)
    return MadeKey(appended, None if appended.replayed else secret.text)


async def revoke_key(context: Context, id: str, revocation: RevocationRequest) -> Appended:
    """Refuse the key from now on: nothing is recorded with it any more, on any replica.

    Raises `NotFound`, and `AlreadyRecorded` where it was revoked before.
    """
    old = await _known(context, id)
    drafts = [_revocation(context, id, revocation.reason)]
    return await _on_key(context, old, drafts, [revocation_stream(id)])


def _revocation(context: Context, id: str, reason: str) -> Draft:
    return keys.revocation_draft(new_id("rev"), id, reason, by=context.actor, now=context.now)


async def _known(context: Context, id: str) -> KnownKey:
    async with context.store.reading() as connection:
        found = await keys.key_of_id(connection, id)
    if found is None:
        raise NotFound("key", id)
    return found


async def _on_key(
    context: Context, old: KnownKey, drafts: Sequence[Draft], touches: Sequence[str]
) -> Appended:
    """Record *drafts*, unless the key was revoked before, or is meanwhile."""
    id = old.credential.id
    refusal = AlreadyRecorded("revocation of", id, "it was revoked before")
    if old.revoked_at is not None and context.key is None:
        raise refusal
    version = 0 if old.revoked_at is None else NO_VERSION
    try:
        return await context.store.ledger.append(
            drafts,
            actor=context.actor,
            rests_on={revocation_stream(id): version},
            touches=touches,
            key=context.key,
        )
    except Stale:
        raise refusal from None
