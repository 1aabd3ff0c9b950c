"""A bundle is checked where there is no service and no database: by our own program, which decides
again, and by `docs/verify.py`, which shares no line with it.
"""

import asyncio
import base64
import copy
import importlib.util
import json
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.canonical import canonical_json, sha256_hex
from app.cli.offline import NOT_RECOMPUTED, check_file
from app.cli.service import ALLOWED, DENIED, FAILED
from app.ledger.bundle import InvalidBundle, read_bundle
from app.ledger.bundle import bundle_of as bundle_written
from app.ledger.checkpoint import Checkpoint
from app.ledger.entry import Entry, Kind, read_entry
from app.ledger.merkle import Frontier, inclusion_ranges, leaf_hash, range_hash
from app.ledger.note import SignatureType, SigningKey, VerifierKey, read_note, read_verifier_key
from app.operations.bundle import Checked, check_bundle
from app.storage.embedded import EmbeddedPostgres
from app.storage.signer_files import new_ledger_key
from app.vocabulary import Decision, write_instant
from tests.http.conftest import BOOTSTRAP_KEY, Service, running
from tests.http.published import RELEASE, SONNET, Json, asked, problem
from tests.http.small import ACTION, decide, found, in_force, policy, post, register, soon
from tests.http.test_as_of import History, again
from tests.http.test_exceptions import approve, requested
from tests.http.test_obligations import fulfil, of
from tests.http.test_orders import STOP

LOG = "localhost/aslgate"
MODEL = "m@1"
VERIFY = Path(__file__).parents[2] / "docs" / "verify.py"
WITNESS = SigningKey(
    "witness.test/1", SignatureType.COSIGNATURE, Ed25519PrivateKey.from_private_bytes(bytes(32))
)
_spec = importlib.util.spec_from_file_location("verify", VERIFY)
assert _spec is not None
assert _spec.loader is not None
verify = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(verify)


@dataclass(frozen=True)
class Made:
    """A bundle of a determination that rests on something of every kind, the same without evidence,
    that of the determination before it, that of the same question asked again as of then, that of one
    about an instant before anything was known, its receipt, and the log's key.
    """

    whole: Json
    without: Json
    earlier: Json
    again: Json
    of_before: Json
    receipt: str
    said: Json
    key: VerifierKey


async def bundle_of(client: httpx.AsyncClient, id: str, **query: Any) -> Json:
    """The bundle, once there is one."""
    for _ in range(100):
        answer = await client.get(f"/v1/determinations/{id}/bundle", params=query)
        if answer.status_code == 200:
            said: Json = answer.json()
            return said
        assert problem(answer) == (503, "unavailable")
        assert answer.json()["reason"] == "checkpoint-pending"
        await asyncio.sleep(0.05)
    raise AssertionError("there is no checkpoint")


async def key_of(client: httpx.AsyncClient) -> VerifierKey:
    return read_verifier_key((await client.get("/v1/ledger/keys")).json()["keys"][0]["vkey"])


async def record_everything(service: Service, client: httpx.AsyncClient) -> Json:
    """A determination that rests on shared weights, on another model, on an exception, on an order
    that was lifted and on a fulfilment; one before it, and a withdrawn assessment that it does not
    rest on.
    """
    document = policy()
    obligation = {"id": "report", "statement": "s", "clause": "c", "due": "before"}
    document["actions"][ACTION]["obligations"] = [obligation | {"binding": True}]
    await in_force(service, client, document)
    await register(client, MODEL, weights="w")
    await register(client, "twin@1", weights="w")
    await register(client, "stronger@1")
    await register(client, "elsewhere@1")
    await post(client, "assessments", found("elsewhere@1", "reached"))
    withdrawn = await post(client, "assessments", found(MODEL, "reached"))
    await decide(client, MODEL)
    await post(client, f"assessments/{withdrawn['id']}/withdrawal", {"reason": "r"})
    await post(client, "assessments", found("twin@1"))
    await post(client, "assessments", found(MODEL, "bounded-by", bounded_by="stronger@1"))
    await post(client, "assessments", found("stronger@1"))
    order = await post(client, "orders", STOP | {"model": MODEL})
    await post(client, f"orders/{order['id']}/lifting", {"reason": "r"})
    exception = await post(client, "exceptions", requested(model=MODEL))
    async with service.client((await service.new_key("approver")).text) as approver:
        assert (await approve(approver, exception, "ceo")).status_code == 201
    assert (await fulfil(client, (await of(client, "report"))["id"])).status_code == 201
    said = await decide(client, MODEL)
    await post(client, "assessments", found(MODEL, "reached"))
    return said


@pytest.fixture(scope="module")
def made(
    postgres: EmbeddedPostgres, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Made:
    async def make() -> Made:
        async with (
            running(postgres, template, **files(tmp_path_factory.mktemp("keys"))) as service,
            service.client(BOOTSTRAP_KEY) as client,
        ):
            said = await record_everything(service, client)
            whole = await bundle_of(client, said["id"])
            without = await bundle_of(client, said["id"], evidence="false")
            earlier = await bundle_of(client, said["changed"]["since"])
            as_of_then = await bundle_of(client, (await again(client, said))["id"])
            before = await decide(client, MODEL, at=soon(seconds=-90))
            of_before = await bundle_of(client, before["id"])
            receipt = (await client.get(f"/v1/determinations/{said['id']}/proof")).text
            return Made(
                whole, without, earlier, as_of_then, of_before, receipt, said, await key_of(client)
            )

    return asyncio.run(make())


def files(folder: Path) -> dict[str, Any]:
    key = folder / "key"
    key.write_bytes(new_ledger_key(LOG))
    return {"ledger_key_file": key, "ledger_state_file": folder / "state"}


def checked(bundle: Json, key: VerifierKey, *witnesses: VerifierKey) -> Checked:
    return check_bundle(read_bundle(json.dumps(bundle).encode()), [key], witnesses, origin=key.name)


def refused_by_ours(bundle: Json, key: VerifierKey, *witnesses: VerifierKey) -> bool:
    try:
        checked(bundle, key, *witnesses)
    except InvalidBundle:
        return True
    return False


def refused_by_the_other(bundle: Json, key: VerifierKey, *witnesses: VerifierKey) -> bool:
    """As its `main` does it."""
    try:
        _, id, found = verify.check(json.dumps(bundle), str(key), [*map(str, witnesses)])
        verify.rests_on(found, id)
    except (InvalidSignature, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return True
    return False


def shown_of(file: Path, key: VerifierKey, *, as_json: bool, **how: Any) -> int:
    """The exit code of `aslgate ledger verify FILE`."""
    return check_file(file, [key], [], as_json=as_json, **({"now": datetime.now(UTC)} | how))


def kinds(bundle: Json) -> list[str]:
    said = (json.loads(base64.b64decode(one["entry"])) for one in bundle["records"])
    return [one["kind"] for one in said]


# --- What holds ------------------------------------------------------------------------------------


def test_it_holds_all_that_the_determination_rests_on(made: Made) -> None:
    """Once each, in the order of the ledger; and nothing that it does not rest on."""
    assert kinds(made.whole) == [
        "policy-version",
        "policy-approval",
        "policy-activation",
        "model",
        "model",
        "model",
        "determination",
        "assessment",
        "assessment",
        "assessment",
        "order",
        "lifting",
        "exception",
        "exception-approval",
        "fulfilment",
        "determination",
    ]


def test_it_is_recomputed_from_itself_alone(made: Made) -> None:
    found = checked(made.whole, made.key)
    assert found.is_recomputed
    assert found.records == len(made.whole["records"])
    assert found.document["id"] == made.said["id"]
    assert found.entry.index == made.said["ledger"]["index"]


def test_without_evidence_its_digests_stand_for_it(made: Made) -> None:
    """What the evidence says is not in it, nor what other models were registered with."""
    left_out = {
        kind
        for kind, one in zip(kinds(made.without), made.without["records"], strict=True)
        if one["document"] is None
    }
    assert left_out == {
        *("assessment", "order", "lifting", "exception", "exception-approval", "fulfilment"),
    }
    assert kinds(made.without).count("model") == 1
    assert not checked(made.without, made.key).is_recomputed
    assert not refused_by_the_other(made.without, made.key)


@pytest.mark.parametrize("seed", range(2))
async def test_every_answer_of_a_random_history_is_recomputed_from_its_bundle(
    postgres: EmbeddedPostgres, template: str, tmp_path: Path, seed: int
) -> None:
    """Whatever came before it and after it; asked again as of then, that answer too."""
    chance = random.Random(seed)
    async with (
        running(postgres, template, **files(tmp_path)) as service,
        service.client(BOOTSTRAP_KEY) as client,
    ):
        await in_force(service, client, policy())
        history = History(service, client, chance)
        for _ in range(24):
            await history.record()
            await history.ask()
        asked_again = [await again(client, one) for one in chance.sample(history.answers, 8)]
        answers = [*history.answers, *asked_again]
        key = await key_of(client)
        for answer in reversed(answers):
            whole = await bundle_of(client, answer["id"])
            assert checked(whole, key).is_recomputed
            assert not refused_by_the_other(whole, key)
            without = await bundle_of(client, answer["id"], evidence="false")
            rests_on_nothing = answer["provenance"]["evidence"] == []
            assert checked(without, key).is_recomputed == rests_on_nothing
            assert not refused_by_the_other(without, key)


async def test_the_published_answers_are_recomputed_from_their_bundles(
    postgres: EmbeddedPostgres, seeded_template: str, tmp_path: Path
) -> None:
    """Under each of three versions of a policy; and that of a model of which nothing is known."""
    async with (
        running(postgres, seeded_template, **files(tmp_path)) as service,
        service.client(BOOTSTRAP_KEY) as client,
    ):
        for question in (
            asked(at=RELEASE),
            asked(SONNET, at=RELEASE),
            asked(at="2024-12-01T00:00:00Z"),
            asked(at="2025-04-15T00:00:00Z"),
            asked("nobody@1"),
            asked(policy="none"),
            asked(),
        ):
            said = await post(client, "determinations", question)
            whole = await bundle_of(client, said["id"])
            assert checked(whole, await key_of(client)).is_recomputed
            assert not refused_by_the_other(whole, await key_of(client))


async def test_there_is_none_of_what_is_no_determination(
    postgres: EmbeddedPostgres, template: str, tmp_path: Path
) -> None:
    async with (
        running(postgres, template, **files(tmp_path)) as service,
        service.client(BOOTSTRAP_KEY) as client,
    ):
        await register(client, MODEL)
        for id in ("det_0", MODEL):
            answer = await client.get(f"/v1/determinations/{id}/bundle")
            assert problem(answer) == (404, "not-found")
        answer = await client.get("/v1/determinations/det_0/bundle?evidence=perhaps")
        assert answer.status_code == 422


def run_verify(file: Path, *options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", VERIFY, *options, file]
    return subprocess.run(
        [*map(str, command)], check=False, capture_output=True, text=True, timeout=60
    )


def test_a_verifier_without_our_code_says_the_same(made: Made, tmp_path: Path) -> None:
    file = tmp_path / "bundle.json"
    told = json.dumps(made.whole)
    file.write_text(told)
    ran = run_verify(file, "--key", made.key)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith(f"{made.said['decision']}: {ACTION} of {MODEL}, entry ")

    moved = re.sub(r'"index": (\d+)', lambda found: f'"index": {int(found[1]) - 1}', told, count=1)
    file.write_text(moved)
    ran = run_verify(file, "--key", made.key)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("REFUSED: ")
    assert run_verify(file).returncode == 2


def test_it_reads_a_receipt_too(made: Made, tmp_path: Path) -> None:
    file = tmp_path / "receipt"
    file.write_text(made.receipt)
    ran = run_verify(file, "--key", made.key)
    assert ran.returncode == 0, ran.stderr
    assert made.said["id"] in ran.stdout

    file.write_text(made.receipt.replace("index ", "index 1"))
    assert run_verify(file, "--key", made.key).returncode == 1


def test_it_stays_as_small_as_it_says() -> None:
    """Somebody has to read it before they believe in it."""
    text = VERIFY.read_text()
    assert len(text.splitlines()) < 150
    assert "from app" not in text
    assert "import app" not in text


def test_a_witness_has_cosigned_or_has_not(made: Made) -> None:
    """Whoever asks for a witness's line is not content without it, or with one of another text."""
    note = read_note(made.whole["checkpoint"].encode())
    line = WITNESS.sign(note.text, at=1_790_000_000)
    other = WITNESS.sign(note.text + "more\n", at=1_790_000_000)
    cosigned = made.whole | {"checkpoint": str(note.with_signatures([line]))}
    lying = made.whole | {"checkpoint": str(note.with_signatures([other]))}
    assert checked(cosigned, made.key, WITNESS.verifier).is_recomputed
    for refused in (refused_by_ours, refused_by_the_other):
        assert not refused(cosigned, made.key, WITNESS.verifier)
        assert not refused(cosigned, made.key)
        assert refused(made.whole, made.key, WITNESS.verifier)
        assert refused(lying, made.key, WITNESS.verifier)
        # A witness vouches for what it saw, and is not the log.
        assert refused(cosigned, WITNESS.verifier)


# --- What does not ---------------------------------------------------------------------------------


def flipped(encoded: str, at: int) -> str:
    """The same base64 with one bit of that byte changed."""
    data = bytearray(base64.b64decode(encoded))
    data[at] ^= 1
    return base64.b64encode(data).decode()


def mutations(bundle: Json) -> Iterator[tuple[str, Json]]:
    """The bundle with one thing changed, and what that is."""

    def changed(path: tuple[str | int, ...], value: object) -> Json:
        whole = copy.deepcopy(bundle)
        *above, last = path
        inside: Any = whole
        for step in above:
            inside = inside[step]
        inside[last] = value
        return whole

    for i, record in enumerate(bundle["records"]):
        here = ("records", i)
        for index in (record["index"] - 1, record["index"] + 1, -1, 2**60, str(record["index"])):
            yield f"{i}: index {index}", changed((*here, "index"), index)
        for field in ("entry", "document"):
            if record[field] is not None:
                size = len(base64.b64decode(record[field]))
                for at in (0, size // 2, size - 1):
                    yield (
                        f"{i}: byte {at} of {field}",
                        changed((*here, field), flipped(record[field], at)),
                    )
                yield (
                    f"{i}: {field} shorter",
                    changed(
                        (*here, field),
                        base64.b64encode(base64.b64decode(record[field])[:-1]).decode(),
                    ),
                )
        path = record["inclusion"]
        for line, hashed in enumerate(path):
            yield f"{i}: line {line}", changed((*here, "inclusion", line), flipped(hashed, 31))
            fewer = [*path[:line], *path[line + 1 :]]
            yield f"{i}: no line {line}", changed((*here, "inclusion"), fewer)
        yield f"{i}: a line more", changed((*here, "inclusion"), [*path, path[-1]])
        rest = [*bundle["records"][:i], *bundle["records"][i + 1 :]]
        yield f"no record {i}", bundle | {"records": rest}
        yield f"record {i} first", bundle | {"records": [record, *(rest if i else reversed(rest))]}
        yield f"record {i} twice", bundle | {"records": [*bundle["records"], record]}
    note = bundle["checkpoint"]
    for at, one in enumerate(note):
        other = note[:at] + ("A" if one != "A" else "B") + note[at + 1 :]
        yield f"character {at} of the note", bundle | {"checkpoint": other}
        yield f"no character {at} of the note", bundle | {"checkpoint": note[:at] + note[at + 1 :]}
    yield "another determination", bundle | {"determination": "det_" + "0" * 32}
    yield "another schema", bundle | {"schema": "aslgate/bundle/v2"}
    for field in bundle:
        yield f"no {field}", {name: value for name, value in bundle.items() if name != field}


@pytest.mark.parametrize("refused", [refused_by_ours, refused_by_the_other])
@pytest.mark.parametrize("form", ["whole", "without"])
def test_whatever_is_changed_is_refused(made: Made, form: str, refused: Any) -> None:
    bundle: Json = getattr(made, form)
    assert not refused(bundle, made.key)
    tried = 0
    for what, mutated in mutations(bundle):
        assert refused(mutated, made.key), what
        tried += 1
    assert tried > 500


def test_what_it_does_not_rest_on_is_refused_though_it_was_recorded(made: Made) -> None:
    """The withdrawn assessment that the answer before rested on, with a proof that is right."""
    known = {one["index"] for one in made.whole["records"]}
    more = [one for one in made.earlier["records"] if one["index"] not in known]
    assert len(more) == 1
    records = sorted([*made.whole["records"], *more], key=lambda one: one["index"])
    more_than_it_rests_on = made.whole | {"records": records}
    with pytest.raises(InvalidBundle, match="it does not rest on `asm_"):
        checked(more_than_it_rests_on, made.key)
    assert refused_by_the_other(more_than_it_rests_on, made.key)


def test_evidence_alone_may_be_left_out(made: Made) -> None:
    for i, kind in enumerate(kinds(made.whole)):
        records = copy.deepcopy(made.whole["records"])
        records[i]["document"] = None
        bundle = made.whole | {"records": records}
        if kind.startswith("policy") or kind in ("model", "determination"):
            assert refused_by_ours(bundle, made.key), kind
            assert refused_by_the_other(bundle, made.key), kind
        else:
            assert not checked(bundle, made.key).is_recomputed
            assert not refused_by_the_other(bundle, made.key), kind


# --- Of when, and by which policy ------------------------------------------------------------------


def test_an_answer_about_the_past_is_not_shown_as_one_of_today(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Asked with what was known at an earlier ledger size, or about an earlier instant alone."""
    file = tmp_path / "bundle.json"
    for bundle, is_past in ((made.whole, False), (made.again, True), (made.of_before, True)):
        file.write_text(json.dumps(bundle))
        document = checked(bundle, made.key).document
        provenance = document["provenance"]
        assert checked(bundle, made.key).is_of_the_past == is_past

        assert shown_of(file, made.key, as_json=True) == 0
        shown = json.loads(capsys.readouterr().out)
        assert shown["of_the_past"] == is_past
        assert (shown["as_of"], shown["known_at"]) == (provenance["at"], provenance["known_at"])
        assert shown["policy"] == provenance["policy"]
        assert shown["semantics"] == provenance["engine"]["semantics"]
        assert shown["valid_until"] == document["valid_until"]

        assert shown_of(file, made.key, as_json=False) == 0
        for said in (capsys.readouterr().out, run_verify(file, "--key", made.key).stdout):
            assert ("ASKED ABOUT THE PAST" in said) == is_past
            assert (
                f"as of {provenance['at']}, known at ledger size {provenance['known_at']}" in said
            )
            assert provenance["policy"]["digest"] in said
            assert f"semantics {provenance['engine']['semantics']}" in said
            assert f"held until {document['valid_until'] or 'what it rests on moves'}" in said


def test_without_evidence_it_is_said_and_has_an_exit_code_of_its_own(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bundle.json"
    file.write_text(json.dumps(made.without))
    assert shown_of(file, made.key, as_json=False) == NOT_RECOMPUTED == 4
    assert "NOT RECOMPUTED" in capsys.readouterr().out
    assert shown_of(file, made.key, as_json=True) == NOT_RECOMPUTED
    shown = json.loads(capsys.readouterr().out)
    assert (shown["holds"], shown["recomputed"]) == (True, False)
    assert "NOT RECOMPUTED" in run_verify(file, "--key", made.key).stdout


# --- What was signed, and does not follow ----------------------------------------------------------

Written = list[tuple[Entry, Any]]
FORGER = SigningKey(LOG, SignatureType.LOG, Ed25519PrivateKey.from_private_bytes(b"f" * 32))


def forged(bundle: Json, change: Callable[[Written], None], *, without: bool = False) -> Json:
    """The bundle that a log gives out which signs whatever it is given: entries and documents as
    *change* leaves them. A document may be bytes, which stand as they are.
    """
    read: Written = [
        (
            read_entry(base64.b64decode(one["entry"])),
            json.loads(base64.b64decode(one["document"])),
        )
        for one in bundle["records"]
    ]
    change(read)
    written = {}
    for entry, said in sorted(read, key=lambda one: one[0].index):
        data = said if isinstance(said, bytes) else canonical_json(said)
        signed = replace(entry, sha256=sha256_hex(data), size=len(data))
        hidden = without and entry.kind not in (*POLICY, Kind.MODEL, Kind.DETERMINATION, Kind.GATE)
        written[entry.index] = bytes(signed), None if hidden else data
    leaves = [leaf_hash(written.get(i, (b"", b""))[0]) for i in range(max(written) + 1)]
    tree, done = Frontier().extended(leaves)
    rows = [
        (i, *both, [range_hash(one, done) for one in inclusion_ranges(i, tree.size)])
        for i, both in written.items()
    ]
    note = Checkpoint(LOG, tree.size, tree.root).signed([FORGER])
    said = json.loads(bytes(bundle_written(bundle["determination"], note, rows)))
    return dict(said)


POLICY = (Kind.POLICY_VERSION, Kind.POLICY_APPROVAL, Kind.POLICY_ACTIVATION)


def place(written: Written, kind: Kind) -> int:
    return [entry.kind for entry, _ in written].index(kind)


def from_2099(written: Written) -> None:
    written[place(written, Kind.POLICY_ACTIVATION)][1]["in_force_from"] = "2099-01-01T00:00:00Z"


def approved_by_its_author(written: Written) -> None:
    author = written[place(written, Kind.POLICY_VERSION)][0].actor
    here = place(written, Kind.POLICY_APPROVAL)
    written[here] = (replace(written[here][0], actor=author), written[here][1])


def approved_by_its_authors_second_key(written: Written) -> None:
    author = written[place(written, Kind.POLICY_VERSION)][0].actor
    second = f"{author.rpartition('/')[0]}/key_{'0' * 32}"
    assert second != author
    here = place(written, Kind.POLICY_APPROVAL)
    written[here] = (replace(written[here][0], actor=second), written[here][1])


def activated_afterwards(written: Written) -> None:
    here = place(written, Kind.POLICY_ACTIVATION)
    entry, said = written.pop(here)
    written.append((replace(entry, index=written[-1][0].index + 1), said))


def of_another_policy(written: Written) -> None:
    written[place(written, Kind.POLICY_APPROVAL)][1]["policy"] = "other"


def by_another_actor(written: Written) -> None:
    written[-1][1]["provenance"]["actor"] = "somebody"


def of_the_future(written: Written) -> None:
    written[-1][1]["provenance"]["at"] = "2098-01-01T00:00:00Z"


def under_another_version(written: Written) -> None:
    written[-1][1]["provenance"]["policy"]["version"] = "2"


def under_none(written: Written) -> None:
    written[-1][1]["provenance"]["policy"] |= {"version": None, "digest": None}


def recorded_twice(written: Written) -> None:
    entry, said = written[-1]
    written.append((replace(entry, index=entry.index + 1), said))


def of_another_kind(written: Written) -> None:
    written[-1] = (replace(written[-1][0], kind=Kind.GATE), written[-1][1])


def with_a_key_twice(written: Written) -> None:
    entry, said = written[-1]
    twice = b'{"decision":"deny",' + canonical_json(said)[1:]
    written[-1] = (entry, twice)


def test_what_a_log_signs_and_follows_holds(made: Made) -> None:
    """So that what is refused below is refused for its change, and for nothing else."""
    for without in (False, True):
        honest = forged(made.whole, lambda _: None, without=without)
        assert checked(honest, FORGER.verifier).is_recomputed == (not without)
        assert not refused_by_the_other(honest, FORGER.verifier)


NO_SEMANTICS: tuple[object, ...] = (999, 0, -1, "3", True, None, [])


def by_the_engine(named: object) -> Callable[[Written], None]:
    """The determination names that engine; `...`: it names none."""

    def change(written: Written) -> None:
        provenance = written[-1][1]["provenance"]
        if named is ...:
            del provenance["engine"]
        else:
            provenance["engine"] = named

    return change


@pytest.mark.parametrize("without", [False, True], ids=["whole", "without"])
@pytest.mark.parametrize(
    "named",
    [
        *({"version": "0.1.0", "semantics": one} for one in NO_SEMANTICS),
        {"version": "0.1.0"},
        "3",
        None,
        ...,
    ],
    ids=repr,
)
def test_an_engine_that_nobody_knows_is_a_finding(
    made: Made, named: object, without: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is not guessed at what its words mean, with the evidence or without it."""
    file = tmp_path / "bundle.json"
    file.write_text(json.dumps(forged(made.whole, by_the_engine(named), without=without)))

    assert shown_of(file, FORGER.verifier, as_json=False) == FAILED
    assert "it cannot be recomputed: it was decided under " in capsys.readouterr().out
    assert shown_of(file, FORGER.verifier, as_json=True) == FAILED
    assert json.loads(capsys.readouterr().out)["holds"] is False


@pytest.mark.parametrize(
    ("field", "word"),
    [("decision", "perhaps"), ("decision", None), ("valid_until", 7), ("valid_until", "soon")],
)
def test_what_is_no_answer_is_a_finding_without_evidence_too(
    made: Made, field: str, word: object, tmp_path: Path
) -> None:
    def change(written: Written) -> None:
        written[-1][1][field] = word

    file = tmp_path / "bundle.json"
    file.write_text(json.dumps(forged(made.whole, change, without=True)))
    assert shown_of(file, FORGER.verifier, as_json=False) == FAILED


@pytest.mark.parametrize("without", [False, True], ids=["whole", "without"])
@pytest.mark.parametrize(
    "change",
    [
        from_2099,
        approved_by_its_author,
        approved_by_its_authors_second_key,
        activated_afterwards,
        of_another_policy,
        by_another_actor,
        of_the_future,
        under_another_version,
        under_none,
        recorded_twice,
        of_another_kind,
        with_a_key_twice,
    ],
    ids=lambda change: change.__name__,
)
def test_what_does_not_follow_is_refused_though_it_was_signed(
    made: Made, change: Callable[[Written], None], without: bool
) -> None:
    """By both, and with the evidence left out too: none of this needs it."""
    bundle = forged(made.whole, change, without=without)
    assert refused_by_ours(bundle, FORGER.verifier)
    assert refused_by_the_other(bundle, FORGER.verifier)


def test_that_it_has_lapsed_is_said(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def lapsed(written: Written) -> None:
        written[-1][1]["valid_until"] = "2020-01-01T00:00:00Z"

    file = tmp_path / "bundle.json"
    file.write_text(json.dumps(forged(made.whole, lapsed, without=True)))
    shown_of(file, FORGER.verifier, as_json=False)
    assert "LAPSED: it held until 2020-01-01T00:00:00Z" in capsys.readouterr().out
    shown_of(file, FORGER.verifier, as_json=True)
    assert json.loads(capsys.readouterr().out)["lapsed"]


# --- Now -------------------------------------------------------------------------------------------

ALLOW, WITH_CONDITIONS = Decision.ALLOW, Decision.ALLOW_WITH_CONDITIONS


def test_only_what_allows_now_lets_a_pipeline_go_on(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The decision, its end, and when it is about: each by itself is enough to say no."""
    file, recorded = tmp_path / "bundle.json", checked(made.whole, made.key)
    assert (recorded.decision, recorded.is_of_the_past) == (ALLOW, False)
    begin = recorded.entry.at
    for bundle, passing, now, against in (
        (made.whole, {ALLOW}, begin, None),
        (made.whole, {WITH_CONDITIONS}, begin, "the decision is `allow`"),
        (made.whole, {ALLOW}, begin - timedelta(minutes=2), "whether it has lapsed cannot be told"),
        (made.again, {ALLOW}, begin, "it was asked about the past"),
        (made.earlier, {ALLOW}, begin, "the decision is `deny`"),
    ):
        file.write_text(json.dumps(bundle))
        how = {"now": now, "passing": frozenset(passing)}
        code = DENIED if against else ALLOWED
        assert shown_of(file, made.key, as_json=False, **how) == code
        said = capsys.readouterr().out
        assert ("NOT ALLOWED NOW" in said) == bool(against)
        assert (against or "") in said
        assert shown_of(file, made.key, as_json=True, **how) == code
        shown = json.loads(capsys.readouterr().out)
        assert (shown["holds"], shown["allows_now"]) == (True, not against)
        assert bool(shown["against"]) == bool(against)


def test_what_has_lapsed_allows_nothing_any_more(made: Made, tmp_path: Path) -> None:
    """From the instant on until which it held; before, this one is just not recomputed."""
    end = checked(made.whole, made.key).entry.at + timedelta(days=1)

    def ending(written: Written) -> None:
        written[-1][1]["valid_until"] = write_instant(end)

    file = tmp_path / "bundle.json"
    file.write_text(json.dumps(forged(made.whole, ending, without=True)))
    for now, code in ((end - timedelta(seconds=1), NOT_RECOMPUTED), (end, DENIED)):
        how = {"now": now, "passing": frozenset({ALLOW})}
        assert shown_of(file, FORGER.verifier, as_json=False, **how) == code


def test_what_does_not_hold_allows_nothing_and_nor_does_what_was_not_recomputed(
    made: Made, tmp_path: Path
) -> None:
    """Whatever it says; and a receipt does not say what was decided."""
    file = tmp_path / "file"
    how = {"now": checked(made.whole, made.key).entry.at, "passing": frozenset({ALLOW})}
    file.write_text(json.dumps(made.without))
    assert shown_of(file, made.key, as_json=False, **how) == NOT_RECOMPUTED
    file.write_text(json.dumps(forged(made.whole, lambda _: None)))
    assert shown_of(file, made.key, as_json=False, **how) == FAILED
    file.write_text(made.receipt)
    assert shown_of(file, made.key, as_json=False, **how) == DENIED
    assert shown_of(file, made.key, as_json=False) == ALLOWED


# --- Read differently ------------------------------------------------------------------------------


def test_what_two_readers_read_differently_is_refused_in_one_line(
    made: Made, tmp_path: Path
) -> None:
    """A key twice, what is no number, an endless depth, no file; and a false line of the log's key."""
    written = json.dumps(made.whole)
    note = read_note(made.whole["checkpoint"].encode())
    false = replace(note.signatures[0], signature=bytes(64))
    lying = str(replace(note, signatures=(*note.signatures, false)))
    file = tmp_path / "bundle.json"
    for text in (
        written[:-1] + ',"determination":"' + made.whole["determination"] + '"}',
        written[:-1] + ',"more":NaN}',
        "[" * 200_000,
        json.dumps(made.whole | {"checkpoint": lying}),
    ):
        file.write_text(text)
        ran = run_verify(file, "--key", made.key)
        assert (ran.returncode, ran.stdout) == (1, "")
        assert ran.stderr.startswith("REFUSED: ")
        assert len(ran.stderr.splitlines()) == 1
    ran = run_verify(tmp_path / "nowhere", "--key", made.key)
    assert (ran.returncode, ran.stderr.splitlines()[0][:9]) == (1, "REFUSED: ")
    file.write_text(written)
    assert run_verify(file, "--key", made.key, "--witness", made.key).returncode == 1
