"""Callers of the outside world that have no key: the binding in the path says who calls.

A route for a system names what it does (`admits`), as other routes name what they need; its binding
must be one of that system's. How what was sent is known to be its own is the system's affair.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import structlog
from fastapi import Depends, Request

from app.errors import Forbidden, NotFound
from app.http.callers import now, refuse_unprintable, store_of, turns_of
from app.http.permissions import SYSTEMS, Permission
from app.http.rates import Rates
from app.integrations.bindings import Binding, Bindings, system_of
from app.operations.context import Context


@dataclass(frozen=True, slots=True)
class BindingAccess:
    """The permission that a route gives to the bindings of one system."""

    system: str
    permission: Permission

    @property
    def value(self) -> str:
        """As it stands in lists."""
        return f"binding:{self.system}"


def admits(kind: type[Binding], permission: Permission) -> Any:
    """A dependency that lets the request through if its path names a binding of that system, which may
    do that and has not called too often. Unknown parameters of the query are passed over.
    """
    access = BindingAccess(system_of(kind), permission)
    if permission not in SYSTEMS[access.system]:
        raise LookupError(f"`{access.system}` lacks the permission `{permission.value}`")

    async def check(request: Request) -> None:
        name = request.path_params["binding"]
        refuse_unprintable("path", request.scope["path"])
        bindings: Bindings = request.app.state.bindings
        binding = bindings.find(kind, name)
        if binding is None:
            raise NotFound("binding", name)
        if permission not in SYSTEMS[access.system]:
            raise Forbidden(permission.value)
        structlog.contextvars.bind_contextvars(actor=binding.actor)
        rates: Rates = request.app.state.rates
        rates.spend(binding.actor, binding.requests_per_minute)
        request.state.binding = binding

    check.permission = access  # type: ignore[attr-defined]
    return Depends(check)


def permission_of(dependency: Callable[..., Any] | None) -> Permission | BindingAccess | None:
    """The permission that a dependency made by `needs` asks for, or one made by `admits` gives."""
    return getattr(dependency, "permission", None)


def binding_of(kind: type[Binding]) -> Any:
    """A dependency that gives the binding of a route with `admits`."""

    async def found(request: Request) -> Binding:
        binding = request.state.binding
        assert isinstance(binding, kind), "the route admits another system"
        return binding

    return Depends(found)


async def _context(request: Request) -> Context:
    binding: Binding = request.state.binding
    return Context(store_of(request), binding.actor, now(), clock=now, turns=turns_of(request))


Calling = Annotated[Context, Depends(_context)]
"""The context of a request that a binding makes. What records gives it its idempotency key."""
