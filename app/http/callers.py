"""Who calls, and what they may do.

A bearer is an API key, believed for half a second once it was checked, or a token of an issuer that
the settings name (RFC 6750).
"""

from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import structlog
from fastapi import Request
from fastapi.params import Depends
from fastapi.routing import APIRoute

from app.errors import Forbidden, InvalidParameter, NoAttestationKey, Unauthenticated
from app.http.bodies import IdempotencyKeyOf
from app.http.permissions import Permission, permits
from app.http.rates import Rates
from app.integrations.issuers import InvalidToken, Issuers
from app.operations.attest import Attestor
from app.operations.context import Context
from app.operations.turns import Turns
from app.storage.keys import Credential, id_of
from app.storage.store import Store


def store_of(request: Request) -> Store:
    """The store that the application was built with."""
    store: Store = request.app.state.store
    return store


def attestor_of(request: Request) -> Attestor:
    """Who signs the application's attestations. Raises `NoAttestationKey`."""
    attestor: Attestor | None = request.app.state.attestor
    if attestor is None:
        raise NoAttestationKey
    return attestor


def now() -> datetime:
    """The server's time: what a request is decided at, unless it asks for an earlier instant."""
    return datetime.now(UTC)


async def _caller(request: Request) -> Credential:
    given = request.headers.getlist("authorization")
    if len(given) > 1:
        # Whoever passed the request on may have believed the other one.
        raise Unauthenticated("given more than once")
    scheme, _, key = "".join(given).partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Unauthenticated
    credential = await _credential(request, key.strip())
    structlog.contextvars.bind_contextvars(actor=credential.actor)
    per_minute: int | None = request.app.state.requests_per_minute
    if per_minute is not None:
        rates: Rates = request.app.state.rates
        rates.spend(credential.actor, per_minute)
    return credential


async def _credential(request: Request, given: str) -> Credential:
    """Whose key or token *given* is. Raises `Unauthenticated`, and `Unavailable` where that cannot be
    known now.
    """
    issuers: Issuers = request.app.state.issuers
    try:
        bearer = await issuers.bearer(given)
    except InvalidToken as invalid:
        raise Unauthenticated(f"token: {invalid}") from invalid
    if bearer is not None:
        return Credential(
            f"oidc_{bearer.issuer}",
            bearer.principal,
            bearer.roles,
            bearer.policy_roles,
            expires_at=bearer.expires_at,
        )
    credential = await store_of(request).authenticate(given, now())
    if credential is None:
        raise Unauthenticated("unknown, expired or revoked", id_of(given))
    return credential


Caller = Annotated[Credential, Depends(_caller)]


def needs(permission: Permission) -> Any:
    """A dependency that lets the request through if the caller has *permission*."""

    async def check(request: Request, caller: Caller) -> None:
        if not permits(frozenset(caller.roles), permission):
            raise Forbidden(permission.value)
        _refuse_unusable_parameters(request)

    check.permission = permission  # type: ignore[attr-defined]
    return Depends(check)


async def _everyone(request: Request) -> None:
    _refuse_unusable_parameters(request)


FOR_EVERYONE: Final[Any] = Depends(_everyone)
"""The dependency of a route that needs no key, in the place of `needs`."""


def public_turn(request: Request) -> AbstractAsyncContextManager[None]:
    """The turn in which what needs no key is read. Raises `Unavailable` where too many wait."""
    return turns_of(request).public.turn()


def _refuse_unusable_parameters(request: Request) -> None:
    """Refuse a parameter that the route does not have, has once and is given twice, or that holds
    what no name holds.

    A misspelt `enforce` that was passed over would let through what it was to stop.
    """
    route: APIRoute = request.scope["route"]
    known = {parameter.alias for parameter in route.dependant.query_params}
    seen = set[str]()
    for name, value in request.query_params.multi_items():
        if name not in known:
            shown = name if name.isprintable() else "?"
            raise InvalidParameter(shown, "is not a parameter of this operation")
        if name in seen:
            raise InvalidParameter(name, "is given more than once")
        seen.add(name)
        refuse_unprintable(name, value)
    refuse_unprintable("path", request.scope["path"])


def refuse_unprintable(name: str, value: str) -> None:
    """Raise `InvalidParameter` where *value* holds what cannot be seen."""
    if not value.isprintable():
        raise InvalidParameter(name, "holds a character that cannot be seen")


async def _context(request: Request, caller: Caller, key_of: IdempotencyKeyOf) -> Context:
    return Context(
        store_of(request),
        caller.actor,
        now(),
        await key_of(caller.actor),
        now,
        turns_of(request),
        frozenset(caller.policy_roles),
    )


async def _reading(request: Request, caller: Caller) -> Context:
    return Context(store_of(request), caller.actor, now(), turns=turns_of(request))


def turns_of(request: Request) -> Turns:
    """What long computations of the application wait for."""
    turns: Turns = request.app.state.turns
    return turns


Attesting = Annotated[Attestor, Depends(attestor_of)]
"""Who signs attestations."""
Recording = Annotated[Context, Depends(_context)]
"""The context of a request that records something, with its idempotency key."""
Reading = Annotated[Context, Depends(_reading)]
"""The context of a request that records nothing."""
