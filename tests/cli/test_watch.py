"""`aslgate ledger watch`, on logs that are files behind a web server, and on the service itself."""

import contextlib
import errno
import functools
import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.cli.ledger import trusted_of
from app.integrations.tiled_log import NoAnswer, TiledLog
from app.ledger.checkpoint import Checkpoint, KeyStatement, read_checkpoint
from app.ledger.merkle import HASH_BYTES, Frontier, leaf_hash
from app.ledger.note import SignatureType, SigningKey, read_note, signed
from app.ledger.tiles import tiles_of
from app.operations.watch import read_kept
from tests.cli.conftest import Cli
from tests.faults.service import KEY, Service

LOG = "log.test/a"


def key(seed: int = 1, name: str = LOG) -> SigningKey:
    return SigningKey(
        name, SignatureType.LOG, Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    )


class Published:
    """A log as a folder of files, which any web server can show."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.statements: list[str] = []
        self.url = ""

    def show(
        self, size: int, *, word: str = "entry", signed_by: tuple[int, ...] = (1,), name: str = LOG
    ) -> None:
        """Let it have *size* entries, the first ones the same whenever *word* is."""
        leaves = [leaf_hash(f"{word} {number}".encode()) for number in range(size)]
        frontier, nodes = Frontier().extended(leaves)
        for tile in tiles_of(size):
            path = self.folder / "tile" / tile.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"".join(nodes[node] for node in tile.nodes))
        keys = [key(seed, name) for seed in signed_by]
        note = Checkpoint(name, size, frontier.root).signed(keys)
        (self.folder / "checkpoint").write_bytes(str(note).encode())
        self.offer(*signed_by, name=name)

    def offer(self, *seeds: int, name: str = LOG) -> None:
        """Say which keys are its own."""
        said = [{"vkey": str(key(seed, name).verifier), "until_size": None} for seed in seeds]
        offered = {"keys": said, "statements": self.statements}
        (self.folder / "keys").write_text(json.dumps(offered))

    def state(self, seed: int, by: int, *, signs: bool = True) -> None:
        """Have a statement on a key."""
        statement = KeyStatement(key(seed).verifier, signs, 1)
        self.statements.append(str(statement.signed([key(by)])))


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *said: Any) -> None:
        pass


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Published]:
    published = Published(tmp_path / "log")
    published.folder.mkdir()
    handler = functools.partial(_Quiet, directory=str(published.folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        # With a path, it is the prefix of the log; the server takes the dot out again.
        published.url = f"http://127.0.0.1:{server.server_address[1]}/."
        yield published
        server.shutdown()
        thread.join()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "state"


Watch = Callable[..., Any]


@pytest.fixture
def watch(cli: Cli, log: Published, state: Path) -> Watch:
    """Run it once."""
    return lambda *options: cli("ledger", "watch", log.url, "--state", state, *options)


def test_a_log_that_grows_is_followed(log: Published, watch: Watch, state: Path) -> None:
    """Over the edges of tiles, and when nothing has happened."""
    said = ""
    for size in (0, 1, 7, 7, 255, 256, 257, 70_000):
        log.show(size)
        ran = watch()
        assert ran.code == 0, ran.err
        said = ran.out
        assert f"{LOG} has {size} entries" in ran.out
        kept = read_kept(state.read_bytes())
        assert kept.checkpoint.size == size
        assert kept.keys == {key().verifier}
    assert "which extend the 257 that there were" in said


def test_what_a_watcher_keeps_is_a_kept_checkpoint_for_verify(
    log: Published, watch: Watch, state: Path, tmp_path: Path
) -> None:
    log.show(7)
    watch()
    kept = read_kept(state.read_bytes())
    alone = tmp_path / "note"
    alone.write_bytes(str(kept.note).encode())

    assert trusted_of([state, alone], None).checkpoints == (kept.note, kept.note)


def test_the_first_answer_is_believed_and_that_is_said(log: Published, watch: Watch) -> None:
    log.show(3)
    assert f"believing in {key().verifier}" in watch().err
    assert watch().err == ""


def test_a_key_that_one_was_told_of_is_believed_and_no_other(
    log: Published, watch: Watch, state: Path
) -> None:
    log.show(3, signed_by=(2,))
    ran = watch("--ledger-key", key(1).verifier)
    assert ran.code == 2
    assert not state.exists()
    log.show(3)
    ran = watch("--ledger-key", key(1).verifier)
    assert (ran.code, ran.err) == (0, "")


@pytest.mark.parametrize(
    ("size", "word", "said"),
    [(7, "other", "does not extend"), (9, "other", "does not extend"), (6, "entry", "put back")],
)
def test_a_fork_is_an_alarm(
    log: Published, watch: Watch, state: Path, size: int, word: str, said: str
) -> None:
    """Both checkpoints are shown, for they are the proof; and the older one stays kept."""
    log.show(7)
    watch()
    before, kept = (log.folder / "checkpoint").read_text(), state.read_bytes()
    log.show(size, word=word)
    ran = watch()
    now = (log.folder / "checkpoint").read_text()
    assert ran.code == 2
    assert said in ran.err
    assert ran.out == f"{before}\n{now}"
    assert state.read_bytes() == kept

    as_json = json.loads(watch("--json").out)
    assert as_json["forked"]
    assert as_json["notes"] == [before, now]


def test_a_log_whose_tiles_do_not_fit_its_checkpoint_is_an_alarm(
    log: Published, watch: Watch
) -> None:
    log.show(7)
    watch()
    log.show(9)
    (log.folder / "tile/0/000.p/9").write_bytes(bytes(9 * HASH_BYTES))
    assert watch().code == 2


def test_another_log_under_the_same_address_is_an_alarm(log: Published, watch: Watch) -> None:
    log.show(7)
    watch()
    log.show(9, name="log.test/b")
    assert watch().code == 2


def test_a_key_that_the_old_one_vouches_for_is_followed(
    log: Published, watch: Watch, state: Path
) -> None:
    log.state(1, 1)
    log.show(3)
    watch()
    log.state(2, 1)
    log.show(4, signed_by=(1, 2))
    assert watch().code == 0
    log.state(1, 2, signs=False)
    log.show(5, signed_by=(2,))
    assert watch().code == 0
    assert read_kept(state.read_bytes()).keys == {key(2).verifier}


def test_a_key_that_nobody_vouches_for_is_an_alarm(log: Published, watch: Watch) -> None:
    """However the log offers it, and whatever it says of itself."""
    log.show(3)
    watch()
    log.state(2, 2)
    log.show(4, signed_by=(2,))
    ran = watch()
    assert ran.code == 2
    assert "not the log's" in ran.err


def test_a_key_that_ended_is_not_believed_again(log: Published, watch: Watch, state: Path) -> None:
    """Though one is told of it still, and the log, in the hands of its thief, leaves the end out."""
    log.state(1, 1)
    log.state(2, 1)
    log.state(1, 2, signs=False)
    log.show(3, signed_by=(2,))
    assert watch("--ledger-key", key(1).verifier).code == 0
    kept = read_kept(state.read_bytes())
    assert kept.keys == {key(2).verifier}
    assert kept.ended == {key(1).verifier}

    log.statements = log.statements[:1]
    log.show(4, signed_by=(1,))
    ran = watch("--ledger-key", key(1).verifier)

    assert ran.code == 2
    assert "not the log's" in ran.err
    assert read_kept(state.read_bytes()) == kept


def test_a_key_that_nobody_vouches_for_is_believed_once_one_is_told_of_it(
    log: Published, watch: Watch, state: Path
) -> None:
    """So it is after a key was lost: the new one comes from elsewhere, beside what was kept."""
    log.state(1, 1)
    log.show(3)
    watch()
    log.state(2, 2)
    log.state(1, 2, signs=False)
    log.show(4, signed_by=(2,))

    assert watch().code == 2
    assert watch("--ledger-key", key(2).verifier).code == 0
    assert read_kept(state.read_bytes()).keys == {key(2).verifier}
    assert watch().code == 0


def test_a_statement_of_a_later_form_is_no_alarm(log: Published, watch: Watch) -> None:
    """Where the log's key has signed it: a newer program may follow to the key that it names.
    Anybody can write one, or show an old checkpoint in its place, so that of others is passed over.
    """
    log.show(3)
    watch()
    old = (log.folder / "checkpoint").read_text()
    later = str(KeyStatement(key(2).verifier, True, 3)).replace("/v1\n", "/v2\n", 1)
    log.statements = [str(signed(later, [key(1)]))]
    log.show(4)
    assert watch().code == 0, "what it says may not matter"
    log.show(5, signed_by=(2,))
    ran = watch()
    assert ran.code == 1
    assert "in a form that this program does not know" in ran.err
    log.show(5, word="other", signed_by=(1,))
    assert watch().code == 2, "it hides no contradiction"

    for other in (str(signed(later, [key(3)])), old):
        log.statements = [other]
        log.show(5, signed_by=(2,))
        assert watch().code == 2


def test_what_is_nested_deep_is_no_alarm_and_no_crash(log: Published, watch: Watch) -> None:
    log.show(3)
    (log.folder / "keys").write_text("[" * 500_000)
    ran = watch()
    assert ran.code == 1
    assert "/keys` cannot be read" in ran.err


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\n\r\n"], ids=["headers", "body"])
def test_an_answer_that_only_drips_is_none(head: bytes) -> None:
    """Each byte comes in time, and the whole of it never."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()

        def drip() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(head)
                for _ in range(200):
                    if over.wait(0.02):
                        break
                    connection.sendall(b"H")

        thread = threading.Thread(target=drip)
        thread.start()
        begun = time.monotonic()
        try:
            with (
                TiledLog(f"http://127.0.0.1:{server.getsockname()[1]}", within=0.3) as log,
                pytest.raises(NoAnswer, match=r"whole answer within 0\.3 s"),
            ):
                log.keys()
            assert time.monotonic() < begun + 3
        finally:
            over.set()
            thread.join()


def test_what_comes_packed_is_not_unpacked(state: Path, cli: Cli) -> None:
    """A few bytes may unpack to any number; nothing packed was asked for."""

    class Packed(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.headers["Accept-Encoding"] == "identity"
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            self.wfile.write(gzip.compress(b'{"keys": [], "statements": []}'))

        def log_message(self, *said: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Packed) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        ran = cli("ledger", "watch", f"http://127.0.0.1:{server.server_port}", "--state", state)
        server.shutdown()
        thread.join()
    assert ran.code == 1
    assert "is packed" in ran.err


def test_a_state_that_cannot_be_read_is_said_and_looked_at_again(
    log: Published, watch: Watch, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So is a log that gives nonsense: whoever looks again and again goes on."""
    log.show(3)
    state.mkdir(parents=True)
    once = watch()
    assert once.code == 1
    assert "the state cannot be read" in once.err
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 1:
            state.rmdir()
            (log.folder / "keys").write_text("[" * 500_000)
        elif len(naps) == 2:
            log.show(3)
        else:
            raise SystemExit(0)

    monkeypatch.setattr("app.cli.watch.time.sleep", nap)
    ran = watch("--every", 7)
    assert naps == [7, 7, 7]
    assert "the state cannot be read" in ran.err
    assert "cannot be read: " in ran.err
    assert f"{LOG} has 3 entries" in ran.out


def test_a_state_that_cannot_be_kept_is_said(
    log: Published, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    log.show(3)
    monkeypatch.setattr("app.cli.watch.replace_file", full)
    ran = watch()
    assert ran.code == 1
    assert "the state cannot be kept" in ran.err


def test_what_cannot_be_seen_is_no_alarm(log: Published, watch: Watch, state: Path) -> None:
    """Exit code 1: look again."""
    assert watch().code == 1
    log.show(3)
    watch()
    log.show(300)
    (log.folder / "tile/0/001.p/44").unlink()
    (log.folder / "tile/0/000").unlink()
    ran = watch()
    assert ran.code == 1
    assert "answers 404" in ran.err
    (log.folder / "checkpoint").write_text("maintenance\n")
    assert "no checkpoint" in watch().err
    state.write_text("nonsense")
    assert watch().code == 1


def test_a_full_tile_stands_in_for_a_partial_one(log: Published, watch: Watch) -> None:
    """A log may forget partial tiles."""
    log.show(3)
    watch()
    log.show(256)
    whole = (log.folder / "tile/0/000").read_bytes()
    log.show(200)
    (log.folder / "tile/0/000.p/200").unlink()
    (log.folder / "tile/0/000").write_bytes(whole)
    assert watch().code == 0


def test_what_is_no_address_or_no_key_is_a_wrong_use(cli: Cli, state: Path) -> None:
    for arguments in (("ftp://x",), ("nonsense",), ("http://x", "--ledger-key", "y")):
        ran = cli("ledger", "watch", *arguments, "--state", state)
        assert ran.code == 2
        assert ran.out == ""


def test_the_service_is_a_log_to_be_watched(service: Service, cli: Cli, state: Path) -> None:
    """As it is started for real: it has made its key, keeps its last word, and goes on with both."""
    url = f"http://127.0.0.1:{service.port}"

    def look() -> Any:
        ran = cli("ledger", "watch", url, "--state", state, "--json")
        assert ran.code == 0, ran.err
        return json.loads(ran.out)

    first = look()
    for number in range(3):
        model = {"model": f"m@{number}", "developer": "lab"}
        headers = {"Authorization": f"Bearer {KEY}"}
        httpx.post(f"{url}/v1/models", json=model, headers=headers).raise_for_status()
    service.terminate()
    service.start()
    second = look()
    assert (first["size"], second["extends"], second["size"]) == (1, 1, 4), "the key's, and three"
    assert first["keys"] == second["keys"]
    assert (service.data_dir / "ledger-key").stat().st_mode & 0o777 == 0o600
    last = read_note((service.data_dir / "ledger-checkpoint").read_bytes())
    assert read_checkpoint(last.text).size == 4
