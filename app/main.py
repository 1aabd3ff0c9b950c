"""The application: everything is built here, in order."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.routing import Match
from starlette.types import Scope

from app.determination.record import ENGINE_VERSION
from app.errors import Refusal
from app.http import (
    authzen,
    checkpoints,
    determinations,
    documentation,
    evidence,
    gates,
    health,
    imports,
    integrations,
    keys,
    ledger,
    model_versions,
    obligations,
    policies,
    problems,
    shadows,
)
from app.http.bindings import BindingAccess, permission_of
from app.http.bodies import BODIES
from app.http.callers import now
from app.http.documents import ANSWERS
from app.http.door import Door, Doorkeeper
from app.http.guard import Guard
from app.http.observability import Metrics, Observed
from app.http.permissions import ROLES, Permission
from app.http.rates import Rates
from app.integrations.bindings import Binding, Bindings, UnusableBindings, read_bindings
from app.integrations.issuers import Issuers, UnusableIssuers, read_issuers
from app.integrations.witness import read_witnesses
from app.ledger.envelope import NotAPublicKey, SignerKey, read_signer_keys
from app.ledger.note import InvalidNote
from app.ledger.statement import AttestationKey, NotAKey
from app.operations.attest import Attestor
from app.operations.obligations import ObligationFollower
from app.operations.receive import Handler, Inbox
from app.operations.shadow import Shadows
from app.operations.sign_checkpoints import Signer
from app.operations.turns import Queue, Turns
from app.policy.version import PolicyVersion
from app.settings import Settings
from app.storage.database import Database
from app.storage.signer_files import LastWord, LedgerKeys, UnusableSigner, read_ledger_keys
from app.storage.store import Store

ROUTERS = (
    policies.router,
    policies.schemas,
    shadows.router,
    model_versions.router,
    evidence.router,
    imports.router,
    determinations.router,
    gates.router,
    authzen.router,
    authzen.discovery,
    obligations.router,
    checkpoints.router,
    ledger.router,
    keys.router,
    integrations.router,
    health.router,
)

BINDINGS: Final[tuple[type[Binding], ...]] = ()
"""The type of the bindings of each system that has routes."""

HANDLERS: Final[Mapping[str, Handler]] = {}
"""By system, who works on what it delivers."""

OPEN = frozenset(
    {
        "/healthz",
        "/readyz",
        "/metrics",
        "/.well-known/authzen-configuration",
        "/v1/ledger/checkpoint",
        "/v1/ledger/keys",
        "/v1/ledger/tile/{level}/{place}",
        "/v1/ledger/inclusion",
        "/v1/ledger/consistency",
    }
)
"""The only routes that need no permission."""

_DESCRIPTION = """
What protection level does this model require under the policy in force, is it in place, and may
this action go ahead? Each answer is recorded for good, with the policy version, the evidence and
the engine that produced it.
"""


def create_app(settings: Settings, store: Store) -> FastAPI:
    """The service over *store*, which is opened when it starts and closed when it stops."""
    work = Shadows(store, now)
    follower = ObligationFollower(store, now)
    turns = Turns(Queue(settings.backtests_at_once), Queue(settings.explanations_at_once))
    bindings = _bindings(settings)
    inbox = Inbox(store, bindings, HANDLERS, now, turns)
    signer = _signer(settings, store)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await store.open(now())
        if signer is not None:
            await signer.start()
        beside = (
            asyncio.create_task(work.run(), name="shadows"),
            asyncio.create_task(follower.run(), name="obligations"),
            asyncio.create_task(inbox.run(), name="inbox"),
        )
        try:
            yield
        finally:
            for task in beside:
                task.cancel()
            # Before the store goes, and whatever they ended with: they are of no more use.
            await asyncio.wait(beside)
            if signer is not None:
                await signer.close()
            await store.close()

    app = FastAPI(
        title="aslgate",
        version=ENGINE_VERSION,
        description=_DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.store = store
    app.state.turns = turns
    app.state.attestor = _attestor(settings)
    app.state.issuers = _issuers(settings)
    app.state.public_url = settings.public_url
    app.state.bindings = bindings
    app.state.rates = Rates()
    app.state.requests_per_minute = settings.requests_per_minute
    app.state.import_keys = _import_keys(settings)
    app.state.witness_quorum = settings.witness_quorum
    app.state.metrics = Metrics(store, work, follower, inbox, signer)
    problems.install(app, methods_at)
    _refuse_routes_without_permission()
    for router in ROUTERS:
        app.include_router(router)
    documentation.install(app)
    app.state.door = Door(settings.requests_at_once)
    app.add_middleware(Doorkeeper, door=app.state.door, on_refusal=_refused_early)
    app.add_middleware(
        Guard,
        max_body_bytes=settings.max_body_bytes,
        body_seconds=settings.body_seconds,
        on_refusal=_refused_early,
    )
    app.add_middleware(Observed, metrics=app.state.metrics)
    app.openapi = lambda: openapi(app)  # type: ignore[method-assign]
    return app


def _issuers(settings: Settings) -> Issuers:
    """Whose tokens are believed. Raises `UnusableIssuers` and `OSError`."""
    path = settings.issuers_file
    if path is None:
        return Issuers()
    try:
        return read_issuers(path.read_bytes(), ROLES)
    except UnusableIssuers as fault:
        raise UnusableIssuers(f"`{path}`: {fault}") from None


def _bindings(settings: Settings) -> Bindings:
    """Which orchestrators and registries may call. Raises `UnusableBindings` and `OSError`."""
    path = settings.integrations_file
    if path is None:
        return Bindings()
    try:
        return read_bindings(path.read_bytes(), BINDINGS, as_json=path.suffix == ".json")
    except UnusableBindings as fault:
        faults = [f"{path}:{line}" for line in str(fault).splitlines()]
        raise UnusableBindings("\n".join(faults)) from None


def _import_keys(settings: Settings) -> tuple[SignerKey, ...]:
    """Whose signatures over evaluation logs are believed. Raises `NotAPublicKey` and `OSError`."""
    path = settings.import_keys_file
    if path is None:
        return ()
    try:
        return read_signer_keys(path.read_text("utf-8", "replace"))
    except NotAPublicKey as fault:
        raise NotAPublicKey(f"`{path}`: {fault}") from None


def _attestor(settings: Settings) -> Attestor | None:
    """Who signs attestations; `None` where no key is given. Raises `NotAKey` and `OSError`."""
    path = settings.attestation_key_file
    if path is None:
        return None
    try:
        key = AttestationKey.of_pem(path.read_bytes())
    except NotAKey as fault:
        raise NotAKey(f"`{path}`: {fault}") from None
    return Attestor(key, settings.log_name)


def _signer(settings: Settings, store: Store) -> Signer | None:
    """Who signs checkpoints, or holds the ledger against those that others sign; `None` where
    neither a key nor a file for the last one is given. Raises `UnusableSigner` and `OSError`.
    """
    text, path = settings.ledger_key, settings.ledger_key_file
    keys = LedgerKeys()
    if text is not None:
        keys = read_ledger_keys(text.get_secret_value(), settings.log_name)
    elif path is not None:
        keys = read_ledger_keys(path.read_text("utf-8", "replace"), settings.log_name)
    if settings.ledger_state_file is None:
        if keys.sign:
            raise UnusableSigner("a signing key needs ASLGATE_LEDGER_STATE_FILE beside it")
        return None
    try:
        witnesses = read_witnesses(settings.witnesses)
    except InvalidNote as fault:
        raise UnusableSigner(f"ASLGATE_WITNESSES: {fault}") from fault
    return Signer(store, LastWord(settings.ledger_state_file), keys, witnesses=witnesses)


def _refused_early(refusal: Refusal, _: Scope) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """A refusal that came before any route: the body was too large or too slow, the service full."""
    response = problems.refusal_response(refusal)
    return response.status_code, list(response.raw_headers), bytes(response.body)


def permission_of_route(route: APIRoute) -> Permission | BindingAccess | None:
    """The permission that the route needs; `None` where it names none."""
    found = (permission_of(dependency.dependency) for dependency in route.dependencies)
    return next((permission for permission in found if permission is not None), None)


def routes() -> Iterator[APIRoute]:
    """Every route of the API."""
    for router in ROUTERS:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            yield route


def _refuse_routes_without_permission() -> None:
    for route in routes():
        if route.path_format not in OPEN and permission_of_route(route) is None:
            raise LookupError(f"route {route.path} names no permission")


def methods_at(scope: Scope) -> list[str]:
    """The methods that there are at a request's path."""
    return sorted(
        method
        for route in routes()
        if route.matches(scope)[0] is not Match.NONE
        for method in route.methods or ()
    )


def openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document; what routes read and write themselves is added to its components.

    One type may be read in one form and recorded in another (a number is recorded as text), and
    then has a schema for each.
    """
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
        )
        bodies: dict[str, type[BaseModel]] = {**BODIES, PolicyVersion.__name__: PolicyVersion}
        forms: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = []
        forms += [(kind, "validation") for kind in bodies.values()]
        forms += [(kind, "serialization") for kind in ANSWERS.values()]
        named, schemas = models_json_schema(forms, ref_template="#/components/schemas/{model}")
        references = {
            f"#/requests/{name}": named[kind, "validation"]["$ref"] for name, kind in bodies.items()
        } | {
            f"#/answers/{name}": named[kind, "serialization"]["$ref"]
            for name, kind in ANSWERS.items()
        }
        document["paths"] = _refer(document["paths"], references)
        components = document.setdefault("components", {})
        components["schemas"] = dict(sorted(schemas["$defs"].items()))
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
        for path in OPEN:
            document["paths"][path]["get"]["security"] = []
        app.openapi_schema = document
    return app.openapi_schema


def _refer(value: Any, references: Mapping[str, str]) -> Any:
    """*value* with every `$ref` that *references* has replaced by what it stands for."""
    if isinstance(value, dict):
        return {
            key: references.get(item, item) if key == "$ref" else _refer(item, references)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_refer(item, references) for item in value]
    return value


def operations() -> list[str]:
    """One line an operation: method, path, the permission that it needs, its name."""
    lines = []
    for route in sorted(routes(), key=lambda route: route.path):
        permission = permission_of_route(route)
        needed = "-" if permission is None else permission.value
        lines += [
            f"{method:4} {route.path:36} {needed:20} {route.name}"
            for method in sorted(route.methods or ())
        ]
    return lines


def contract() -> tuple[dict[str, Any], list[str]]:
    """The OpenAPI document and the list of operations, without a database."""
    app = create_app(Settings(), Store(Database("postgresql://nowhere/none")))
    return openapi(app), operations()
