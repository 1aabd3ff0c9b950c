"""The real service behind a real port, for callers who mean it ill.

One process: the server runs in a thread with an event loop of its own, over a migrated database that
holds the shipped policies, two models and the evidence on them.
"""

import asyncio
import socket
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.http.server import PromptHttpProtocol
from app.ledger.statement import AttestationKey
from app.storage.database import OWNER, SERVICE, migrate, prepare_roles
from app.storage.embedded import EmbeddedPostgres
from app.storage.signer_files import new_ledger_key
from tests.http.conftest import BOOTSTRAP_KEY, Service, running
from tests.http.published import send_everything

TEMPLATE = "aslgate_hostile"

T = TypeVar("T")


class Live:
    """A service that listens on a port until it is closed."""

    def __init__(self, server: EmbeddedPostgres, template: str, **settings: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._running = running(server, template, **settings)
        self.service: Service = self.run(self._running.__aenter__())
        self._socket = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(
            self.service.app,
            http=PromptHttpProtocol,
            lifespan="off",
            log_config=None,
            server_header=False,
        )
        self._server = uvicorn.Server(config)
        self._serving = asyncio.run_coroutine_threadsafe(
            self._server.serve(sockets=[self._socket]), self._loop
        )
        until = time.monotonic() + 20
        while not self._server.started and time.monotonic() < until:
            time.sleep(0.005)
        assert self._server.started

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._socket.getsockname()
        return host, port

    @property
    def url(self) -> str:
        """The same as the start of an address."""
        return "http://{}:{}".format(*self.address)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What *work* gives, done in the service's own loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def key(self, *roles: str) -> str:
        """A new key with those roles."""
        return self.run(self.service.new_key(*roles)).text

    @property
    def size(self) -> int:
        """How many entries the ledger has. All are written by this service, so it need not ask."""
        return self.service.store.ledger.size

    def close(self) -> None:
        """Stop listening, and drop the database."""
        self._server.should_exit = True
        self._serving.result(20)
        self.run(self._running.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()
        self._socket.close()


@contextmanager
def live_service(server: EmbeddedPostgres, template: str, **settings: Any) -> Iterator[Live]:
    """A service on a port, over a copy of *template*."""
    live = Live(server, template, **settings)
    try:
        yield live
    finally:
        live.close()


def as_superuser(server: EmbeddedPostgres, *statements: str) -> None:
    """Do that to the whole server."""

    async def go() -> None:
        connection = await asyncpg.connect(str(server.dsn()))
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(go())


@pytest.fixture(scope="session")
def known_template(postgres: EmbeddedPostgres) -> str:
    """A database that holds the shipped policies, two models, and the evidence on them."""
    empty = f"{TEMPLATE}_empty"
    prepare_roles(postgres.dsn())
    as_superuser(postgres, f"CREATE DATABASE {empty} OWNER {OWNER}")
    migrate(postgres.dsn(empty, OWNER), service_role=SERVICE)

    async def seed() -> None:
        async with (
            running(postgres, empty, name=TEMPLATE) as service,
            service.client(BOOTSTRAP_KEY) as client,
            service.client((await service.new_key("policy-author", "approver")).text) as author,
        ):
            await send_everything(client, author)

    asyncio.run(seed())
    return TEMPLATE


def signing(folder: Path) -> dict[str, Any]:
    """Settings with which checkpoints and attestations are signed; the keys lie in *folder*."""
    keys = {"ledger_key_file": folder / "ledger-key", "attestation_key_file": folder / "key.pem"}
    keys["ledger_key_file"].write_bytes(new_ledger_key("localhost/aslgate"))
    keys["attestation_key_file"].write_bytes(AttestationKey(Ed25519PrivateKey.generate()).pem())
    return {**keys, "ledger_state_file": folder / "ledger-checkpoint"}


@pytest.fixture(scope="module")
def live(
    postgres: EmbeddedPostgres, known_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Live]:
    """One such service for all tests of a module."""
    settings = signing(tmp_path_factory.mktemp("keys"))
    with live_service(postgres, known_template, **settings) as started:
        yield started
