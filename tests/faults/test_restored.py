"""Somebody puts the database back, or exchanges the key that signs, and goes on writing.

What stands in the way at once are the signer's last word, in a file outside the database, and the
key on record. Who rules over the machine can remove both, and then nothing on it tells any more:
then a checkpoint that somebody kept, and the key as somebody else was told of it, do.
"""

import asyncio
import http.client
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.storage.signer_files import new_ledger_key
from tests.conftest import short_open_folder
from tests.faults.recorded import LOG
from tests.faults.service import PROGRAM, Service, environment

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]


@dataclass
class Watcher:
    """Somebody on another machine, who was told of the log's key and keeps its last checkpoint."""

    service: Service
    folder: Path
    key: str = ""

    def wait_until_signed(self, size: int) -> str:
        """The checkpoint that the service shows once it has one of so many model versions, which come
        after the entry of the first key.
        """
        deadline = time.monotonic() + 20
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=10)
            connection.request("GET", "/v1/ledger/checkpoint")
            note = connection.getresponse().read().decode()
            connection.close()
            if note.startswith(f"{LOG}\n{1 + size}\n"):
                return note
            assert time.monotonic() < deadline, note
            time.sleep(0.05)

    def look(self) -> tuple[int, str]:
        """`aslgate ledger watch`: its exit code, and what it says."""
        url = f"http://127.0.0.1:{self.service.port}"
        told = (f"--ledger-key={self.key}",) if self.key else ()
        return self._run("watch", f"--state={self.folder / 'kept'}", *told, url)

    def verify(self, checkpoint: Path) -> tuple[int, dict[str, object]]:
        """`aslgate ledger verify`, with the key and a checkpoint that were kept."""
        told = (f"--ledger-key={self.key}", f"--checkpoint={checkpoint}", "--json")
        code, said = self._run("verify", *told, f"--data-dir={self.service.data_dir}")
        return code, json.loads(said)

    def _run(self, *words: str) -> tuple[int, str]:
        done = subprocess.run(
            [PROGRAM, "ledger", *words],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            env=environment(),
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    """A service with one model version on record, and who watches it."""
    with short_open_folder() as folder:
        service = Service(folder)
        try:
            service.start()
            assert service.register("first@1")[0] == 201
            yield Watcher(service, folder, vkey(service))
        finally:
            service.end()


def vkey(service: Service) -> str:
    """The log's key, as it would be published."""
    (row,) = sql(service, "SELECT vkey FROM ledger_key")
    return str(row["vkey"])


def sql(service: Service, *statements: str) -> Any:
    """What a superuser does, by each statement in turn; what the last one gives."""

    async def run() -> Any:
        connection = await asyncpg.connect(str(service.address()), timeout=10)
        try:
            return [await connection.fetch(statement) for statement in statements][-1]
        finally:
            await connection.close()

    return asyncio.run(run())


def copied(source: Path, target: Path) -> None:
    """Copy a folder as it is, owners and all, in place of what is there."""
    if target.exists():
        shutil.rmtree(target)
    subprocess.run(["/bin/cp", "-a", str(source), str(target)], check=True)


def test_who_puts_a_backup_back_and_goes_on_is_found_out(watcher: Watcher) -> None:
    """Yesterday's database does not extend what was signed since: the service refuses to write to
    it. With the last word gone too it writes, and every kept checkpoint contradicts it, while the
    log is still shorter and once it is longer.
    """
    service, data = watcher.service, watcher.service.data_dir / "data"
    last_word, kept = service.data_dir / "ledger-checkpoint", watcher.folder / "kept-checkpoint"
    service.terminate()  # which signs what was recorded last
    copied(data, watcher.folder / "yesterday")
    service.start()
    for name in ("second@1", "third@1"):
        assert service.register(name)[0] == 201
    kept.write_text(watcher.wait_until_signed(3))
    assert watcher.look()[0] == 0
    service.terminate()

    copied(watcher.folder / "yesterday", data)
    service.begin()
    assert "put back" in service.wait_until_refused()
    status, said = service.register("another@1")
    assert (status, said["reason"]) == (503, "ledger")
    assert [len(sql(service, f"SELECT FROM {t}")) for t in ("ledger_entry", "ledger_key")] == [2, 1]

    last_word.unlink()  # the operator goes on, come what may
    service.wait_until_ready()
    assert service.register("another@1")[0] == 201
    watcher.wait_until_signed(2)
    code, told = watcher.look()
    assert (code, "it was put back" in told) == (2, True), told
    code, report = watcher.verify(kept)
    assert (code, report["size"]) == (1, 3)

    for name in ("fourth@1", "fifth@1"):
        assert service.register(name)[0] == 201
    watcher.wait_until_signed(4)
    code, told = watcher.look()
    assert (code, "does not extend what it was" in told) == (2, True), told
    assert told.count(f"{LOG}\n") == 2, "both checkpoints are shown: they are the proof"
    code, report = watcher.verify(kept)
    assert code == 1
    assert "signed over other entries" in json.dumps(report["findings"])


def test_who_exchanges_the_signing_key_is_found_out(watcher: Watcher) -> None:
    """Another key is no key of the log's, as its own record says. With that rewritten too, who was
    told of the right key sees that the log is not the one.
    """
    service = watcher.service
    key_file, kept = service.data_dir / "ledger-key", watcher.folder / "kept-checkpoint"
    kept.write_text(watcher.wait_until_signed(1))
    assert watcher.look()[0] == 0
    service.terminate()

    key_file.write_bytes(new_ledger_key(LOG))
    service.begin()
    assert "none of the signing keys is on record" in service.wait_until_refused()
    status, said = service.register("another@1")
    assert (status, said["reason"]) == (503, "ledger")

    (service.data_dir / "ledger-checkpoint").unlink()
    sql(
        service,
        *(
            statement
            for table in ("ledger_cosignature", "ledger_checkpoint", "ledger_key")
            for statement in (f"ALTER TABLE {table} DISABLE TRIGGER ALL", f"DELETE FROM {table}")
        ),
    )
    service.wait_until_ready()
    assert service.register("another@1")[0] == 201
    watcher.wait_until_signed(2)
    assert vkey(service) != watcher.key
    code, told = watcher.look()
    assert (code, "the checkpoint is not the log's" in told) == (2, True), told
    code, report = watcher.verify(kept)
    assert code == 1
    assert "on record is none" in json.dumps(report["findings"])
