"""`aslgate ledger bundle`, `verify FILE` and `export`, beside a running service and without any."""

import asyncio
import functools
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from tlog_scales import signing
from tlog_scales.backend import LocalBackend
from tlog_scales.reader import TilesReader

from app.ledger.checkpoint import Checkpoint, read_checkpoint
from app.ledger.merkle import leaf_hash
from app.ledger.note import read_note
from app.ledger.tiles import entries_in
from tests.cli.conftest import Cli
from tests.cli.test_watch import key as other_key
from tests.faults.service import KEY, Service, environment
from tests.http.test_orders import STOP

DOCS = Path(__file__).parents[2] / "docs"
LOG = "localhost/aslgate"
MANY = 700
"""Two full tiles and a part of a third."""


def ask(service: Service, many: int, name: str) -> list[dict[str, Any]]:
    """So many determinations, all of them denials: nothing is known of the model."""
    asked = [
        {"model": f"{name}@{number}", "action": "deploy", "policy": "p"} for number in range(many)
    ]
    answer = httpx.post(
        f"http://127.0.0.1:{service.port}/v1/determinations/batch",
        headers={"Authorization": f"Bearer {KEY}"},
        json={"determinations": asked},
        timeout=30,
    )
    assert answer.status_code == 201, answer.text
    said: list[dict[str, Any]] = answer.json()["determinations"]
    wait_for_checkpoint(service, said[-1]["ledger"]["index"] + 1)
    return said


def wait_for_checkpoint(service: Service, size: int) -> None:
    for _ in range(200):
        note = httpx.get(f"http://127.0.0.1:{service.port}/v1/ledger/checkpoint").content
        if read_checkpoint(read_note(note).text).size >= size:
            return
        time.sleep(0.05)
    raise AssertionError("there is no checkpoint")


@pytest.fixture(scope="module")
def said(service: Service) -> list[dict[str, Any]]:
    return ask(service, MANY, "m")


@pytest.fixture(scope="module")
def key(service: Service) -> str:
    answer = httpx.get(f"http://127.0.0.1:{service.port}/v1/ledger/keys").json()
    vkey: str = answer["keys"][0]["vkey"]
    return vkey


@pytest.fixture
def bundle(cli: Cli, service: Service, said: list[dict[str, Any]], tmp_path: Path) -> Path:
    file = tmp_path / "bundle.json"
    ran = cli("ledger", "bundle", said[3]["id"], "--output", file, "--data-dir", service.data_dir)
    assert (ran.code, ran.out) == (0, ""), ran.err
    return file


def test_a_bundle_holds_with_nothing_else_there(
    cli: Cli, bundle: Path, key: str, said: list[dict[str, Any]], tmp_path: Path
) -> None:
    nowhere = {"ASLGATE_DATA_DIR": str(tmp_path / "nowhere")}
    ran = cli("ledger", "verify", bundle, "--key", key, **nowhere)
    assert ran.code == 0, ran.out
    assert "deny: deploy of m@3" in ran.out
    assert "recomputed from 1 records to the same bytes" in ran.out

    shown = json.loads(cli("ledger", "verify", bundle, "--key", key, "--json", **nowhere).out)
    assert (shown["holds"], shown["recomputed"], shown["id"]) == (True, True, said[3]["id"])
    provenance = said[3]["provenance"]
    assert (shown["as_of"], shown["policy"]) == (provenance["at"], provenance["policy"])
    assert shown["known_at"] == shown["index"]
    assert not shown["of_the_past"]
    assert f"as of {provenance['at']}, known at ledger size {provenance['known_at']}" in ran.out
    assert "by policy p, no version in force" in ran.out
    assert not (tmp_path / "nowhere").exists()


def test_what_could_not_be_recomputed_has_an_exit_code_of_its_own(
    cli: Cli, service: Service, key: str, tmp_path: Path
) -> None:
    """So that no script takes a bundle without evidence for one that was decided again."""

    def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
        url = f"http://127.0.0.1:{service.port}/v1/{path}"
        answer = httpx.post(url, headers={"Authorization": f"Bearer {KEY}"}, json=body, timeout=30)
        assert answer.status_code == 201, answer.text
        recorded: dict[str, Any] = answer.json()
        return recorded

    post("models", {"model": "seen@1", "developer": "lab"})
    post("orders", STOP | {"model": "seen@1"})
    asked = {"model": "seen@1", "action": "deploy", "policy": "p"}
    answer = post("determinations", asked)
    wait_for_checkpoint(service, answer["ledger"]["index"] + 1)
    file, taken = tmp_path / "bundle.json", ("--data-dir", service.data_dir)
    for without, code in (((), 0), (("--without-evidence",), 4)):
        made = cli("ledger", "bundle", answer["id"], *without, "--output", file, *taken)
        assert made.code == 0, made.err
        ran = cli("ledger", "verify", file, "--key", key)
        assert ran.code == code, ran.out
        assert ("NOT RECOMPUTED" in ran.out) == bool(without)
        shown = cli("ledger", "verify", file, "--key", key, "--json")
        assert shown.code == code
        assert json.loads(shown.out)["recomputed"] != bool(without)
        file.unlink()


def test_what_does_not_hold_is_a_finding(cli: Cli, bundle: Path, key: str) -> None:
    written = json.loads(bundle.read_bytes())
    written["records"][0]["index"] += 1
    bundle.write_text(json.dumps(written))
    ran = cli("ledger", "verify", bundle, "--key", key)
    assert (ran.code, ran.err) == (1, "")
    assert ran.out.startswith("entry ")
    shown = json.loads(cli("ledger", "verify", bundle, "--key", key, "--json").out)
    assert shown == {"holds": False, "why": ran.out.strip()}
    bundle.write_text("no JSON")
    assert cli("ledger", "verify", bundle, "--key", key).code == 1


def test_another_log_s_key_believes_nothing(cli: Cli, bundle: Path) -> None:
    ran = cli("ledger", "verify", bundle, "--key", other_key(name=LOG).verifier)
    assert ran.code == 1
    assert "the checkpoint cannot be believed" in ran.out


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--key", "no key"],
        ["--key", "KEY", "--witness", "no key"],
        ["--key", "KEY", "--witness", "KEY"],
        ["--key", "KEY", "--checkpoint", "FILE"],
        ["--key", "KEY", "--accept-conditions"],
        ["--key", "KEY", "--key", str(other_key().verifier)],
    ],
)
def test_what_cannot_be_meant_is_usage(
    cli: Cli, bundle: Path, key: str, options: list[str]
) -> None:
    given = [key if one == "KEY" else str(bundle) if one == "FILE" else one for one in options]
    assert cli("ledger", "verify", bundle, *given).code == 2


def test_a_pipeline_goes_on_only_where_it_allows_now(
    cli: Cli, service: Service, bundle: Path, key: str
) -> None:
    """With 3 as with `determine --fail-on-deny`; and --now means nothing without a file."""
    ran = cli("ledger", "verify", bundle, "--key", key, "--now")
    assert ran.code == 3
    assert "NOT ALLOWED NOW: the decision is `deny`" in ran.out
    for option in ("--now", "--accept-conditions"):
        of_all = cli("ledger", "verify", option, "--data-dir", service.data_dir)
        assert of_all.code == 2
        assert f"{option} is for FILE" in of_all.err


def test_a_receipt_holds_too(
    cli: Cli, service: Service, key: str, said: list[dict[str, Any]], tmp_path: Path
) -> None:
    file = tmp_path / "receipt"
    path = f"http://127.0.0.1:{service.port}/v1/determinations/{said[5]['id']}/proof"
    file.write_bytes(httpx.get(path, headers={"Authorization": f"Bearer {KEY}"}).content)
    ran = cli("ledger", "verify", file, "--key", key)
    assert ran.code == 0, ran.out
    assert said[5]["id"] in ran.out

    file.write_bytes(file.read_bytes().replace(b"\nindex ", b"\nindex 1"))
    assert cli("ledger", "verify", file, "--key", key).code == 1


def test_there_is_no_bundle_of_what_is_not_there(cli: Cli, service: Service) -> None:
    ran = cli("ledger", "bundle", "det_0", "--data-dir", service.data_dir)
    assert ran.code == 2
    assert "no determination `det_0` is recorded" in ran.err


def test_what_cannot_be_recomputed_is_said_plainly(
    cli: Cli, service: Service, said: list[dict[str, Any]]
) -> None:
    """By an engine to come, say: exit code 1 and a sentence, whatever is asked of it."""
    id, here = said[7]["id"], ("--data-dir", service.data_dir)
    semantics = said[7]["provenance"]["engine"]["semantics"]
    was, other = (f'"semantics":{one}'.encode() for one in (semantics, 999))
    change_document(service, id, was, other)
    try:
        for command in (("bundle", id), ("replay", id), ("replay", "--all")):
            ran = cli("ledger", *command, *here)
            assert ran.code == 1
            assert "cannot be recomputed: it was decided under semantics 999" in ran.out + ran.err
    finally:
        change_document(service, id, other, was)
    assert cli("ledger", "replay", id, *here).code == 0


def change_document(service: Service, id: str, old: bytes, new: bytes) -> None:
    """As somebody does who rules over the database, and knows it well: the digest fits."""

    async def change() -> None:
        connection = await asyncpg.connect(str(service.address()))
        try:
            await connection.execute("ALTER TABLE ledger_entry DISABLE TRIGGER USER")
            document = await connection.fetchval(
                "SELECT document FROM ledger_entry WHERE subject = $1", id
            )
            assert old in document
            await connection.execute(
                "UPDATE ledger_entry SET document = $2, document_sha256 = sha256($2) "
                "WHERE subject = $1",
                id,
                document.replace(old, new, 1),
            )
            await connection.execute("ALTER TABLE ledger_entry ENABLE TRIGGER USER")
        finally:
            await connection.close()

    asyncio.run(change())


def test_the_page_s_commands_work(
    service: Service, said: list[dict[str, Any]], key: str, tmp_path: Path
) -> None:
    """Those of `docs/ledger.md`, as they stand there, one after the other in one folder."""
    commands = re.findall(r"```sh\n(.*?)```", (DOCS / "ledger.md").read_text(), re.DOTALL)
    assert len(commands) == 6
    (tmp_path / "docs").symlink_to(DOCS)
    given = {
        "PATH": f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}",
        "ASLGATE_DATA_DIR": str(service.data_dir),
        "DETERMINATION": said[-1]["id"],
        "VKEY": key,
    }
    ran = subprocess.run(
        ["bash", "-euc", "".join(commands)],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(**given),
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("deny: deploy of") == 4
    assert ran.stdout.count("NOT ALLOWED NOW: the decision is `deny`") == 1
    assert '"recomputed": true' in ran.stdout


# --- Files -----------------------------------------------------------------------------------------


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *said: Any) -> None:
        pass


@contextmanager
def shown(folder: Path) -> Iterator[str]:
    """The folder behind a web server that knows nothing of logs; the log's address."""
    handler = functools.partial(_Quiet, directory=str(folder.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/{folder.name}"
        server.shutdown()
        thread.join()


def exported(cli: Cli, service: Service, folder: Path) -> Checkpoint:
    ran = cli("ledger", "export", folder, "--data-dir", service.data_dir)
    assert ran.code == 0, ran.err
    return read_checkpoint(read_note((folder / "checkpoint").read_bytes()).text)


def test_the_log_is_shown_by_any_web_server(
    cli: Cli, service: Service, said: list[dict[str, Any]], key: str, tmp_path: Path
) -> None:
    """A watcher follows it from one export to the next."""
    folder, state = tmp_path / "log", tmp_path / "state"
    with shown(folder) as url:
        watch = ("ledger", "watch", url, "--state", state, "--ledger-key", key)
        first = exported(cli, service, folder)
        assert first.size >= len(said)
        assert cli(*watch).code == 0
        ask(service, 300, "more")
        second = exported(cli, service, folder)
        assert second.size >= first.size + 300
        ran = cli(*watch)
    assert ran.code == 0, ran.err
    assert (
        f"{LOG} has {second.size} entries, which extend the {first.size} that there were" in ran.out
    )
    assert list(folder.rglob(".*")) == []


def test_it_is_the_log_that_others_read(
    cli: Cli, service: Service, said: list[dict[str, Any]], key: str, tmp_path: Path
) -> None:
    """The bundles hold the entries of the tree, and tlog-scales reads all of it."""
    folder = tmp_path / "log"
    checkpoint = exported(cli, service, folder)
    bundles = sorted((folder / "tile" / "entries").rglob("*"))
    entries = [one for file in bundles if file.is_file() for one in entries_in(file.read_bytes())]
    assert len(entries) == checkpoint.size
    assert said[-1]["id"].encode() in entries[said[-1]["ledger"]["index"]]
    row = (folder / "tile" / "0" / "000").read_bytes()
    assert row == b"".join(map(leaf_hash, entries[:256]))
    reader = TilesReader(LocalBackend(folder))
    seen = reader.get_checkpoint()
    seen.verify(signing.Vkey.from_string(key))
    assert reader.calculate_root_hash() == seen.root_hash == checkpoint.root
    last = reader.get_entry(seen.size - 1)
    proof = reader.get_inclusion_proof(seen.size - 1, seen.size)
    proof.check(leaf_hash(last), seen.root_hash)


def test_another_history_is_not_written_over_it(
    cli: Cli, service: Service, said: list[dict[str, Any]], tmp_path: Path
) -> None:
    """What was exported before is a checkpoint that somebody kept."""
    folder = tmp_path / "log"
    assert exported(cli, service, folder).size >= len(said)
    kept = folder / "checkpoint"
    was = Checkpoint(LOG, 5, os.urandom(32)).signed([other_key(name=LOG)])
    kept.write_text(str(was))
    ran = cli("ledger", "export", folder, "--data-dir", service.data_dir)
    assert ran.code == 1
    assert "was exported with 5 entries, and the ledger does not extend that" in ran.err
    assert kept.read_text() == str(was)
    kept.write_text("no note")
    assert cli("ledger", "export", folder, "--data-dir", service.data_dir).code == 2
