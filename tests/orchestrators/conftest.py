"""A running service on a port, as an orchestrator finds it: three model versions under a small policy,
of which one may go ahead, one may not, and one may on conditions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from app.storage.database import OWNER, SERVICE, migrate, prepare_roles
from app.storage.embedded import EmbeddedPostgres
from tests.hostile.conftest import Live, as_superuser, live_service
from tests.http.conftest import BOOTSTRAP_KEY
from tests.http.small import found, in_force, policy, post, register, soon

TEMPLATE: Final = "aslgate_orchestrators"
ACTION: Final = "external-deployment"
ALLOWED: Final = "allowed@1"
DENIED: Final = "denied@1"
LIMITED: Final = "limited@1"


async def _send_everything(live: Live) -> None:
    service = live.service
    threshold = policy()["thresholds"]["T"]
    threshold["requires"] = [{"standard": "s", "before": [ACTION]}]
    asked = {ACTION: {"statement": "s", "clause": "c", "needs": ["required-standards"]}}
    said = policy(thresholds={"T": threshold}, actions=asked)
    del said["exceptions"]
    async with service.client(BOOTSTRAP_KEY) as client:
        await in_force(service, client, said)
        for model in (ALLOWED, DENIED, LIMITED):
            await register(client, model)
        for model in (ALLOWED, LIMITED):
            await post(client, "assessments", found(model))
        limit = {"model": LIMITED, "issuer": "a customer", "issued_by": "customer"}
        said = {"effect": "limit", "statement": "not at night", "begins_at": soon(seconds=-5)}
        await post(client, "orders", limit | said)


@contextmanager
def orchestrated(server: EmbeddedPostgres) -> Iterator[Live]:
    """Such a service until the block ends."""
    prepare_roles(server.dsn())
    as_superuser(server, f"CREATE DATABASE {TEMPLATE} OWNER {OWNER}")
    try:
        migrate(server.dsn(TEMPLATE, OWNER), service_role=SERVICE)
        with live_service(server, TEMPLATE) as live:
            live.run(_send_everything(live))
            yield live
    finally:
        as_superuser(server, f"DROP DATABASE {TEMPLATE} WITH (FORCE)")


@pytest.fixture(scope="module")
def live(postgres: EmbeddedPostgres) -> Iterator[Live]:
    """One such service for all tests of a module."""
    with orchestrated(postgres) as started:
        yield started


@pytest.fixture(scope="module")
def key(live: Live) -> str:
    """The key of an orchestrator."""
    return live.key("orchestrator")
