"""Starting the service: its database first, then the server, and both down again in order."""

import asyncio
import contextlib
import logging
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import structlog
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.errors import Refusal
from app.http.door import Door
from app.http.server import PromptHttpProtocol
from app.http.tls import ServerTls, UnusableTls
from app.integrations.bindings import UnusableBindings
from app.integrations.issuers import UnusableIssuers
from app.ledger.envelope import NotAPublicKey
from app.ledger.statement import AttestationKey, NotAKey
from app.main import create_app
from app.settings import Settings
from app.storage.database import (
    DATABASE,
    OWNER,
    SERVICE,
    Database,
    UnfitServer,
    UnusableAddress,
    migrate,
    prepare_roles,
)
from app.storage.embedded import (
    EmbeddedPostgres,
    EmbeddedPostgresError,
    PostgresAddress,
    default_data_dir,
)
from app.storage.keys import UnusableKey
from app.storage.ledger import LedgerFault
from app.storage.rights import UnfitRole
from app.storage.secret_files import read_or_make
from app.storage.signer_files import UnusableSigner, new_ledger_key
from app.storage.store import Store

_Opened = contextlib.AbstractAsyncContextManager[Any]

_WATCH_SECONDS = 0.25


class CannotListen(Exception):
    """The address is taken, or is not ours."""


UNUSABLE = (
    CannotListen,
    EmbeddedPostgresError,
    LedgerFault,
    NotAKey,
    NotAPublicKey,
    Refusal,
    UnfitRole,
    UnfitServer,
    UnusableAddress,
    UnusableBindings,
    UnusableIssuers,
    UnusableKey,
    UnusableSigner,
    UnusableTls,
)
"""What ends a command with a sentence: nothing can be served in these circumstances."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the database is, for the role that owns the tables and for the service's own."""

    owner: str | PostgresAddress
    service: str | PostgresAddress


def data_dir(settings: Settings) -> Path:
    """Where the embedded database and this machine's keys are kept."""
    return settings.data_dir or default_data_dir()


@contextlib.contextmanager
def database(settings: Settings, *, up_to_date: bool) -> Iterator[Addresses]:
    """The database that the settings name, for as long as the block lasts.

    The embedded one is started, looked after, and with *up_to_date* migrated; a server by URL is
    used as it is, for its migrations are its operator's (`aslgate migrate`).
    """
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        yield Addresses(url, url)
        return
    with EmbeddedPostgres(data_dir(settings), binaries=settings.postgres_bin) as postgres:
        owner, service = postgres.dsn(DATABASE, OWNER), postgres.dsn(DATABASE, SERVICE)
        if up_to_date:
            prepare_roles(postgres.dsn())
            migrate(owner, service_role=SERVICE)
        with _revived_when_killed(postgres):
            yield Addresses(owner, service)


@contextlib.contextmanager
def _revived_when_killed(postgres: EmbeddedPostgres) -> Iterator[None]:
    """Start Postgres again whenever it dies under the service, until the block ends."""
    stop = threading.Event()

    def watch() -> None:
        log = structlog.get_logger("aslgate.database")
        said = ""
        while not stop.wait(_WATCH_SECONDS):
            try:
                if postgres.revive():
                    log.warning("the embedded Postgres had died and was started again")
                    said = ""
            except (OSError, EmbeddedPostgresError) as error:
                # Without what differs at each try: Postgres begins each line with the time.
                why = re.sub(r"\d+", "0", str(error))
                if why != said:
                    log.error("the embedded Postgres does not start", error=str(error))  # noqa: TRY400
                    said = why

    watcher = threading.Thread(target=watch, name="postgres-watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


def open_store(settings: Settings, addresses: Addresses) -> Store:
    """The store over the service's own role."""
    return Store(
        Database(addresses.service, require_replica=settings.require_replica),
        log=settings.log_name,
        deadline_seconds=settings.deadline_seconds,
        bootstrap_key=(
            settings.bootstrap_key.get_secret_value() if settings.bootstrap_key else None
        ),
        bootstrap_policy_roles=settings.bootstrap_policy_roles.split(),
    )


def server(settings: Settings, store: Store, host: str, port: int) -> uvicorn.Server:
    """The HTTP server over *store*, not yet started."""
    tls = _tls(settings)
    app = create_app(_with_ledger_files(_with_attestation_key(settings)), store)
    config = uvicorn.Config(
        app,
        lifespan="off",
        host=host,
        port=port,
        http=PromptHttpProtocol,
        # We speak no WebSocket, and an upgrade would take the connection out of our time limits.
        ws="none",
        log_config=None,
        access_log=False,
        # Nobody is believed who says for whom the request was passed on.
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=10,
        ssl_context_factory=None if tls is None else lambda _, __: tls.context,
    )
    return _Server(
        config,
        lambda: app.router.lifespan_context(app),
        app.state.door,
        tls,
        drain_seconds=settings.drain_seconds,
    )


def _tls(settings: Settings) -> ServerTls | None:
    """TLS as the settings say; `None`: plain HTTP, behind something else. Raises `UnusableTls`, and
    `OSError`.
    """
    certificate, key = settings.tls_certificate_file, settings.tls_key_file
    if certificate is None or key is None:
        if certificate is not None or key is not None or settings.tls_client_ca_file is not None:
            needed = "ASLGATE_TLS_CERTIFICATE_FILE and ASLGATE_TLS_KEY_FILE"
            raise UnusableTls(f"give {needed} together; without both, nothing is served over TLS")
        return None
    return ServerTls(certificate, key, settings.tls_client_ca_file)


def _with_attestation_key(settings: Settings) -> Settings:
    """The settings with a key beside the embedded database, made at the first start, where none is
    given. Replicas on a server by URL must share one, so nobody makes it for them.
    """
    if settings.attestation_key_file is not None or settings.database_url is not None:
        return settings
    path = data_dir(settings) / "attestation-key.pem"
    read_or_make(path, lambda: AttestationKey(Ed25519PrivateKey.generate()).pem())
    return settings.model_copy(update={"attestation_key_file": path})


def _with_ledger_files(settings: Settings) -> Settings:
    """The settings with what the signer keeps in the data directory where nothing else is said: its
    last checkpoint, and beside the embedded database its key, made at the first start.
    """
    given: dict[str, Path] = {}
    signs = settings.ledger_key is not None or settings.ledger_key_file is not None
    if not signs and settings.database_url is None:
        signs = True
        given["ledger_key_file"] = data_dir(settings) / "ledger-key"
        read_or_make(given["ledger_key_file"], lambda: new_ledger_key(settings.log_name))
    if signs and settings.ledger_state_file is None:
        given["ledger_state_file"] = data_dir(settings) / "ledger-checkpoint"
    return settings.model_copy(update=given)


class _Server(uvicorn.Server):
    """Runs the application's lifespan itself, for uvicorn would log what it raises, and exit with 3;
    and says that it will stop before it does.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        open_app: Callable[[], _Opened],
        door: Door,
        tls: ServerTls | None,
        *,
        drain_seconds: float,
    ) -> None:
        super().__init__(config)
        self._open_app = open_app
        self._door = door
        self._tls = tls
        self._renewing: asyncio.Task[None] | None = None
        self._drain_seconds = drain_seconds
        self._lifespan = contextlib.AsyncExitStack()
        self._is_hurried = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop. Who presses Ctrl-C sits before it, and waits for no others to notice."""
        self._is_hurried |= sig == signal.SIGINT
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the store, and then listen. Raises what `UNUSABLE` names."""
        await self._lifespan.enter_async_context(self._open_app())
        try:
            await super().startup(sockets)
        except SystemExit:  # uvicorn has logged why
            await self._lifespan.aclose()
            where = f"{self.config.host}:{self.config.port}"
            raise CannotListen(f"`{where}` cannot be listened on: choose another port") from None
        if self._tls is not None:
            self._renewing = asyncio.create_task(self._tls.keep_fresh())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Be not ready for a while, drain, and then close the store; a second Ctrl-C waits for none.

        Whoever spreads requests over several servers learns from `/readyz` to send no more here, and
        callers by `Connection: close`, while everything is still served.
        """
        self._door.closing = True
        until = time.monotonic() + self._drain_seconds
        # A signal sets no event of the loop.
        while time.monotonic() < until and not self._is_hurried:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        if self._renewing is not None:
            self._renewing.cancel()
        await super().shutdown(sockets)
        if not self.force_exit:
            await self._lifespan.aclose()


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does, so that the database goes down after.

    uvicorn drains first and then raises the signal again for us; a plain SIGTERM would end the
    process before the database is stopped.
    """

    def leave(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def log_to_file(path: Path) -> None:
    """Send the log to *path* instead, and keep the terminal for what a person reads.

    The file is made with the first line, for its folder may still have to be.
    """
    root = logging.getLogger()
    handler = logging.FileHandler(path, delay=True)
    handler.setFormatter(root.handlers[0].formatter)
    root.handlers = [handler]


def write_secret(path: Path, secret: str) -> None:
    """Write *secret* where only this account can read it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secret)
