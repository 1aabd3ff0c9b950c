"""A recorded answer is recomputed to the byte, whatever came after it; a changed one is found out."""

import asyncpg
import httpx
import orjson
import pytest

from app.determination.record import ENGINE_VERSION, SEMANTICS
from app.storage.database import OWNER
from tests.http.conftest import Service
from tests.http.published import RELEASE, Json, asked, problem
from tests.http.small import decide, found, in_force, policy, post, register, soon
from tests.http.test_exceptions import requested
from tests.http.test_orders import STOP

DETERMINATION = "determinations"
GATE = "gates"


async def replayed(client: httpx.AsyncClient, id: str, kind: str = DETERMINATION) -> Json:
    answer = await client.get(f"/v1/{kind}/{id}/replay")
    assert answer.status_code == 200, answer.text
    said: Json = answer.json()
    return said


async def bundled(client: httpx.AsyncClient, id: str) -> httpx.Response:
    """What is answered to whoever asks for the bundle; where there is one, it has no checkpoint yet."""
    return await client.get(f"/v1/determinations/{id}/bundle")


async def is_same(client: httpx.AsyncClient, id: str, kind: str = DETERMINATION) -> bool:
    said = await replayed(client, id, kind)
    assert said["same"] == (said["recorded"] == said["recomputed"]), said
    assert said["same"] == (said["differences"] == [] and said["why"] is None), said
    return bool(said["same"])


async def gate(client: httpx.AsyncClient, model: str, action: str = "deploy") -> Json:
    return await post(client, "gate", {"model": model, "action": action})


async def change(service: Service, id: str, old: bytes, new: bytes) -> None:
    """Change what is recorded under *id* as somebody does who owns the tables and knows them well:
    the digest and the leaf hash are made to fit.
    """
    connection = await asyncpg.connect(str(service.server.dsn(service.name, OWNER)))
    try:
        document = await connection.fetchval(
            "SELECT document FROM ledger_entry WHERE subject = $1", id
        )
        assert old in document
        await connection.execute("ALTER TABLE ledger_entry DISABLE TRIGGER USER")
        await connection.execute(
            "UPDATE ledger_entry SET document = $2, document_sha256 = sha256($2) "
            "WHERE subject = $1",
            id,
            document.replace(old, new, 1),
        )
    finally:
        await connection.close()


async def test_the_published_answers_are_recomputed(client: httpx.AsyncClient) -> None:
    made = await post(client, "determinations", asked(at=RELEASE))
    answer = await replayed(client, made["id"])

    assert answer["same"] is True
    assert answer["recorded"] == answer["recomputed"]
    assert (answer["kind"], answer["index"]) == ("determination", made["ledger"]["index"])
    assert answer["differences"] == []


async def test_what_comes_later_changes_no_replay(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """Evidence that comes and goes, orders that end, exceptions, another version: between each two,
    every question is asked and the gate too; and at the end each is recomputed.
    """
    client, made, gates = empty_client, list[Json](), list[Json]()
    await in_force(empty, client, policy())

    async def ask() -> None:
        for model in ("m@1", "stronger@1", "nobody@1"):
            made.append(await decide(client, model))
        made.append(await decide(client, "m@1", at=soon(seconds=-3)))
        made.append(await decide(client, "m@1", action="other"))
        gates.append(await gate(client, "m@1"))
        gates.append(await gate(client, "m@1", "other"))

    await ask()
    await register(client, "m@1", weights="w")
    await register(client, "stronger@1")
    await ask()
    assessment = await post(client, "assessments", found("m@1"))
    await ask()
    await post(client, "assessments", found("m@1", "bounded-by", bounded_by="stronger@1"))
    await ask()
    await post(client, f"assessments/{assessment['id']}/withdrawal", {"reason": "r"})
    await post(client, "assessments", found("stronger@1"))
    await ask()
    await register(client, "twin@1", weights="w")
    await post(client, "assessments", found("twin@1", "reached"))
    await ask()
    order = await post(client, "orders", STOP | {"model": "m@1"})
    await ask()
    await post(client, f"orders/{order['id']}/lifting", {"reason": "r"})
    await post(client, "exceptions", requested(model="m@1"))
    await ask()
    await in_force(empty, client, policy(version="2"), soon(seconds=-1))
    await in_force(empty, client, policy("second"), soon(seconds=-1))
    await ask()

    assert all([await is_same(client, one["id"]) for one in made])
    assert all([await is_same(client, one["id"], GATE) for one in gates])
    of_gates = [one["id"] for answer in gates for one in answer["answers"]]
    assert of_gates
    assert all([await is_same(client, id) for id in of_gates])


@pytest.mark.parametrize("known_at", [0, 3, 5])
async def test_an_answer_as_of_an_earlier_size_is_recomputed(
    empty: Service, empty_client: httpx.AsyncClient, known_at: int
) -> None:
    await in_force(empty, empty_client, policy())
    await register(empty_client, "m@1")
    await decide(empty_client, "m@1")
    await post(empty_client, "assessments", found("m@1"))
    made = await decide(empty_client, "m@1", known_at=known_at)

    assert await is_same(empty_client, made["id"])


async def test_a_batch_is_recomputed(empty: Service, empty_client: httpx.AsyncClient) -> None:
    """The second answer to the same question of a batch says what changed since the first."""
    await in_force(empty, empty_client, policy())
    await register(empty_client, "m@1")
    question = {"model": "m@1", "action": "deploy", "policy": "small"}
    batch = await post(empty_client, "determinations/batch", {"determinations": [question] * 3})

    ids = [one["id"] for one in batch["determinations"]]
    assert [one["changed"] and one["changed"]["since"] for one in batch["determinations"]] == [
        None,
        *ids[:-1],
    ]
    assert all([await is_same(empty_client, id) for id in ids])


async def test_an_answer_of_an_older_engine_is_recomputed_under_its_meaning(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """The record names semantics 1, and says what that engine said of an unknown name."""
    await in_force(empty, empty_client, policy())
    await in_force(empty, empty_client, policy(version="2"), soon(days=1))
    made = await decide(empty_client, "nobody@1")
    assert made["valid_until"] is not None, "since semantics 2"
    until = f'"valid_until":"{made["valid_until"]}"'.encode()
    semantics = made["provenance"]["engine"]["semantics"]

    await change(empty, made["id"], f'"semantics":{semantics}'.encode(), b'"semantics":1')
    (one,) = (await replayed(empty_client, made["id"]))["differences"]
    assert one == {"pointer": "/valid_until", "recorded": made["valid_until"], "recomputed": None}
    await change(empty, made["id"], until, b'"valid_until":null')
    assert await is_same(empty_client, made["id"])


async def test_an_answer_of_an_engine_to_come_is_not_guessed_at(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    await in_force(empty, empty_client, policy())
    made = await decide(empty_client, "nobody@1")
    semantics = made["provenance"]["engine"]["semantics"]
    await change(empty, made["id"], f'"semantics":{semantics}'.encode(), b'"semantics":999')

    said = await replayed(empty_client, made["id"])
    assert (said["same"], said["recomputed"]) == (False, None)
    assert "semantics 999" in said["why"]


ENGINE = orjson.dumps({"semantics": SEMANTICS, "version": ENGINE_VERSION})


async def test_what_is_no_semantics_is_a_finding(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """Of a determination and of a gate; and of the first nothing that rests on it is given out."""
    await in_force(empty, empty_client, policy())
    answer = await gate(empty_client, "nobody@1")
    made = answer["answers"][0]
    assert (await bundled(empty_client, made["id"])).json()["reason"] == "checkpoint-pending"
    now = ENGINE
    for named in (b"0", b"-1", b"999", b'"3"', b"true", b"3.0", b"null", b"[]"):
        other = ENGINE.replace(str(SEMANTICS).encode(), named, 1)
        for id, kind in ((answer["id"], GATE), (made["id"], DETERMINATION)):
            await change(empty, id, now, other)
            said = await replayed(empty_client, id, kind)
            assert (said["same"], said["recomputed"]) == (False, None)
            assert "it was decided under " in said["why"]
        now = other
        refused = await bundled(empty_client, made["id"])
        assert problem(refused) == (409, "not-recomputable")
        assert "it was decided under " in refused.json()["detail"]


async def test_nothing_is_given_out_that_rests_on_what_cannot_be_read(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    await in_force(empty, empty_client, policy())
    made = await decide(empty_client, "nobody@1")
    recorded = await empty.store.record(made["id"])
    assert recorded is not None
    now = recorded.document
    for new in (b"{", b'{"id":7}', b"[]", b"\xff", b'{"provenance":null}'):
        await change(empty, made["id"], now, new)
        assert problem(await bundled(empty_client, made["id"])) == (409, "not-recomputable")
        now = new


async def test_a_gate_of_before_engines_were_named_is_recomputed(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """Under the meaning of its determinations, to the byte: nothing is added to it."""
    await in_force(empty, empty_client, policy())
    await register(empty_client, "m@1")
    made = await gate(empty_client, "m@1")
    assert made["engine"] == orjson.loads(ENGINE)
    await change(empty, made["id"], b'"engine":' + ENGINE + b",", b"")
    assert await is_same(empty_client, made["id"], GATE)
    read = (await empty_client.get(f"/v1/gates/{made['id']}")).json()
    assert "engine" not in read


async def test_a_gate_is_recomputed_under_its_own_meaning(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """Where no policy applies, nothing else names one; where one does, both name the same."""
    alone = await gate(empty_client, "m@1")
    older = f'"semantics":{SEMANTICS - 1}'.encode()
    newer = f'"semantics":{SEMANTICS}'.encode()
    await change(empty, alone["id"], newer, older)
    assert await is_same(empty_client, alone["id"], GATE)
    read = await empty_client.get(f"/v1/gates/{alone['id']}")
    assert read.headers["Determination-Superseded"] == "true"

    await in_force(empty, empty_client, policy())
    made = await gate(empty_client, "m@1")
    await change(empty, made["id"], newer, older)
    said = await replayed(empty_client, made["id"], GATE)
    assert (said["same"], said["why"]) == (
        False,
        "its determinations are not all there, or of several engines",
    )


@pytest.mark.parametrize(
    ("what", "old", "new", "places"),
    [
        ("determination", b'"decision":"deny"', b'"decision":"allow"', ["/decision"]),
        ("assessment", b'"outcome":"reached"', b'"outcome":"ruled-out"', ["/decision"]),
        ("assessment", b'"assessor":"a"', b'"assessor":"b"', ["/provenance/evidence/0/digest"]),
        ("policy", b'"title":"t"', b'"title":"T"', None),
        ("activation", b'"in_force_from":"2024', b'"in_force_from":"2099', ["/decision"]),
        ("model", b'"developer":"lab"', b'"developer":"bal"', ["/reasons/0/code"]),
    ],
)
async def test_a_changed_record_is_found_out(
    empty: Service,
    empty_client: httpx.AsyncClient,
    what: str,
    old: bytes,
    new: bytes,
    places: list[str] | None,
) -> None:
    """Somebody changed the answer itself, or something that it rests on."""
    await in_force(empty, empty_client, policy())
    await register(empty_client, "m@1")
    assessment = await post(empty_client, "assessments", found("m@1", "reached"))
    made = await decide(empty_client, "m@1")
    assert made["decision"] == "deny"
    assert await is_same(empty_client, made["id"])
    (version,) = (await empty_client.get("/v1/policies/small/versions")).json()["versions"]
    full = (await empty_client.get("/v1/policies/small/versions/1")).json()
    subjects = {
        "determination": made["id"],
        "assessment": assessment["id"],
        "policy": version["digest"],
        "activation": full["activations"][0]["id"],
        "model": "m@1",
    }
    await change(empty, subjects[what], old, new)
    said = await replayed(empty_client, made["id"])

    assert said["same"] is False
    pointers = [one["pointer"] for one in said["differences"]]
    if places is None:
        assert "is no version recorded before" in said["why"]
    elif places == ["/decision"] and what == "activation":
        assert "/provenance/policy/version" in pointers
    else:
        assert set(places) <= set(pointers), said


async def test_a_changed_gate_is_found_out(empty: Service, empty_client: httpx.AsyncClient) -> None:
    await in_force(empty, empty_client, policy())
    await register(empty_client, "m@1")
    made = await gate(empty_client, "m@1")
    await change(empty, made["id"], b'"allowed":false', b'"allowed":true')

    said = await replayed(empty_client, made["id"], GATE)
    assert [one["pointer"] for one in said["differences"]] == ["/allowed"]


@pytest.mark.parametrize("new", [b"{", b'{"id":7}', b"[]", b"\xff"])
async def test_a_record_that_cannot_be_read_is_said_to_be_so(
    empty: Service, empty_client: httpx.AsyncClient, new: bytes
) -> None:
    await in_force(empty, empty_client, policy())
    made = await decide(empty_client, "nobody@1")
    recorded = await empty.store.record(made["id"])
    assert recorded is not None
    await change(empty, made["id"], recorded.document, new)

    said = await replayed(empty_client, made["id"])
    assert (said["same"], said["recomputed"], said["differences"]) == (False, None, [])
    assert said["why"].startswith("what it says or rests on cannot be read")


@pytest.mark.parametrize("kind", [DETERMINATION, GATE])
async def test_nothing_else_is_replayed(
    empty: Service, empty_client: httpx.AsyncClient, kind: str
) -> None:
    await in_force(empty, empty_client, policy())
    other = {DETERMINATION: (await gate(empty_client, "m@1"))["id"]}.get(kind) or (
        await decide(empty_client, "m@1")
    )["id"]
    for id in (other, "det_" + "0" * 32, "small"):
        answer = await empty_client.get(f"/v1/{kind}/{id}/replay")
        assert problem(answer) == (404, "not-found")


async def test_a_replay_records_nothing(empty: Service, empty_client: httpx.AsyncClient) -> None:
    await in_force(empty, empty_client, policy())
    made = await decide(empty_client, "m@1")
    size = await empty.size()
    await replayed(empty_client, made["id"])

    assert await empty.size() == size
