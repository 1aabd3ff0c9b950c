"""What a draft would say now, and what it would have said: line by line, and recorded nowhere."""

import json
from typing import Any

import httpx
import pytest

from app.storage import history
from tests.http.conftest import Service
from tests.http.published import OPUS, POLICY, Json, asked, problem
from tests.http.small import ACTION, decide, found, in_force, policy, post, register
from tests.http.test_exceptions import requested
from tests.http.test_orders import STOP

DRAFT = "/v1/policies/small/versions/2/backtest"
SHIPPED = f"/v1/policies/{POLICY}/versions"


def version(label: str, *by: str) -> Json:
    """The small policy, in which a threshold is ruled out by any of those roles alone."""
    document = policy(version=label)
    either = [{"finding": "ruled-out", "by": [role]} for role in by]
    document["thresholds"]["T"]["ruled_out"] = {"any": either}
    return document


async def draft(service: Service, document: Json) -> None:
    """Record it by somebody else, and leave it a draft."""
    async with service.client((await service.new_key("policy-author")).text) as author:
        answer = await author.post("/v1/policies/small/versions", json=document)
    assert answer.status_code == 201, answer.text


async def backtest(
    client: httpx.AsyncClient, scope: str, path: str = DRAFT, **more: Any
) -> list[Json]:
    """The lines that say something, the summary last."""
    answer = await client.post(path, json={"scope": scope} | more)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert all(len(line) == 1 for line in lines)
    assert [line for line in lines if "summary" in line] == lines[-1:]
    progress = [line["progress"] for line in lines if "progress" in line]
    assert progress[-1]["done"] == progress[-1]["of"]
    return [line for line in lines if "progress" not in line]


@pytest.mark.parametrize("scope", ["current", "history"])
@pytest.mark.parametrize(
    ("old", "new", "turn", "decisions", "side"),
    [
        (["ceo", "rso"], ["rso"], "stricter", ("allow", "deny"), "new"),
        (["rso"], ["rso", "ceo"], "looser", ("deny", "allow"), "gone"),
    ],
)
async def test_a_draft_is_stricter_or_looser(
    empty: Service,
    empty_client: httpx.AsyncClient,
    scope: str,
    old: list[str],
    new: list[str],
    turn: str,
    decisions: tuple[str, str],
    side: str,
) -> None:
    """Of a model that the CEO alone spoke of; another, of which nobody did, is denied by both."""
    await in_force(empty, empty_client, version("1", *old))
    await draft(empty, version("2", *new))
    for name in ("m@1", "silent@1"):
        await register(empty_client, name)
    await post(empty_client, "assessments", found("m@1"))
    made = await decide(empty_client, "m@1")
    await decide(empty_client, "silent@1")
    size = await empty.size()
    (line, last) = await backtest(empty_client, scope)

    difference, summary = line["difference"], last["summary"]
    assert (difference["model"], difference["action"]) == ("m@1", ACTION)
    assert difference["determination"] == (made["id"] if scope == "history" else None)
    assert difference["turn"] == turn
    assert (difference["from"]["decision"], difference["to"]["decision"]) == decisions
    assert (difference["from"]["version"], difference["to"]["version"]) == ("1", "2")
    assert [one["id"] for one in difference["thresholds"]] == ["T"]
    assert side in {one["side"] for one in difference["because"]}
    assert all(one["message"] and one["pointer"] for one in difference["because"])
    assert summary["decided"] == 2
    assert (summary[turn], summary["same"], summary["failed"]) == (1, 1, 0)
    assert summary["by_decision"] == {"->".join(decisions): 1}
    assert summary["by_clause"] == {"c": 1}
    assert await empty.size() == size


@pytest.mark.parametrize("scope", ["current", "history"])
async def test_a_version_beside_itself_is_the_same(
    empty: Service, empty_client: httpx.AsyncClient, scope: str
) -> None:
    await in_force(empty, empty_client, version("1", "ceo"))
    await register(empty_client, "m@1")
    await decide(empty_client, "m@1")
    await post(empty_client, "assessments", found("m@1"))
    await decide(empty_client, "m@1")
    await decide(empty_client, "unheard-of@1")
    path = "/v1/policies/small/versions/1/backtest"
    (last,) = await backtest(empty_client, scope, path)

    many = {"current": 2, "history": 3}[scope]
    assert (last["summary"]["decided"], last["summary"]["same"]) == (many, many)


async def test_evidence_that_was_withdrawn_later_still_counts_in_the_past(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """The two before the withdrawal are turned by the draft; the one after it is denied by both."""
    await in_force(empty, empty_client, version("1", "ceo"))
    await draft(empty, version("2", "rso"))
    await register(empty_client, "m@1")
    assessment = await post(empty_client, "assessments", found("m@1"))
    first = await decide(empty_client, "m@1")
    withdrawal = {"reason": "the set-up was broken"}
    await post(empty_client, f"assessments/{assessment['id']}/withdrawal", withdrawal)
    last = await decide(empty_client, "m@1")
    known_at = first["provenance"]["known_at"]
    past = await decide(empty_client, "m@1", known_at=known_at)
    lines = await backtest(empty_client, "history")

    assert (first["decision"], last["decision"], past["decision"]) == ("allow", "deny", "allow")
    told = [line["difference"]["determination"] for line in lines[:-1]]
    assert told == [first["id"], past["id"]]
    assert lines[-1]["summary"]["by_decision"] == {"allow->deny": 2}
    (now,) = await backtest(empty_client, "current")
    assert (now["summary"]["decided"], now["summary"]["same"]) == (1, 1)


async def test_a_limit_asks_of_the_last_so_many(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    await in_force(empty, empty_client, version("1", "ceo"))
    await draft(empty, version("2", "rso"))
    made = []
    for name in ("b@1", "a@1"):
        await register(empty_client, name)
        await post(empty_client, "assessments", found(name))
        made.append(await decide(empty_client, name))

    for scope in ("current", "history"):
        (one, last) = await backtest(empty_client, scope, limit=1)
        assert one["difference"]["model"] == "a@1"
        assert last["summary"]["decided"] == 1
        many = await backtest(empty_client, scope, limit=3)
        assert many[-1]["summary"]["decided"] == 2


async def test_a_determination_that_cannot_be_rebuilt_is_told_and_counted(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """As where somebody took a piece of evidence out: what it names is not what the ledger holds."""
    await in_force(empty, empty_client, version("1", "ceo"))
    await draft(empty, version("2", "rso"))
    await register(empty_client, "m@1")
    await post(empty_client, "assessments", found("m@1"))
    whole = await decide(empty_client, "m@1")
    second = await post(empty_client, "assessments", found("m@1"))
    broken = await decide(empty_client, "m@1")
    await empty.as_owner(
        "ALTER TABLE evidence DISABLE TRIGGER USER;"
        f"DELETE FROM evidence WHERE id = '{second['id']}'"
    )
    lines = await backtest(empty_client, "history")

    (failed,) = [line["failed"] for line in lines if "failed" in line]
    assert failed["determination"] == broken["id"]
    assert "not the evidence that it names" in failed["message"]
    (told,) = [line["difference"]["determination"] for line in lines if "difference" in line]
    assert told == whole["id"]
    assert (lines[-1]["summary"]["decided"], lines[-1]["summary"]["failed"]) == (1, 1)


async def test_history_is_cut_as_a_snapshot_of_the_past_is_read(service: Service) -> None:
    """At every size of a ledger with all published evidence, and one that knows only the end."""
    size = await service.size()
    async with service.store.reading() as connection:
        of_opus = await history.model_history(connection, OPUS, before=size)

    for known_at in range(size + 1):
        read = await service.store.snapshot(OPUS, POLICY, known_at)
        cut = of_opus.known_at(known_at)
        assert cut.model == read.model
        assert cut.evidence == read.evidence, known_at
        assert cut.names == tuple(read.evidence.names())


async def test_history_keeps_exceptions_orders_and_other_models_apart_in_time(
    empty: Service, empty_client: httpx.AsyncClient
) -> None:
    """Approvals, liftings, withdrawals, and what is found of a model that another leans on."""
    await in_force(empty, empty_client, policy())
    for name in ("strong@1", "weak@1"):
        await register(empty_client, name)
    await post(empty_client, "assessments", found("weak@1", "bounded-by", bounded_by="strong@1"))
    of_strong = await post(empty_client, "assessments", found("strong@1"))
    async with empty.client((await empty.new_key("assessor")).text) as asker:
        exception = await post(asker, "exceptions", requested(model="weak@1"))
    for role in ("ceo", "rso"):
        async with empty.client((await empty.new_key("approver")).text) as approver:
            said = {"role": role, "reason": "it will do"}
            await post(approver, f"exceptions/{exception['id']}/approvals", said)
    order = await post(empty_client, "orders", STOP | {"model": "weak@1"})
    await post(empty_client, f"orders/{order['id']}/lifting", {"reason": "r"})
    for piece in (f"assessments/{of_strong['id']}", f"exceptions/{exception['id']}"):
        await post(empty_client, f"{piece}/withdrawal", {"reason": "r"})
    size = await empty.size()
    async with empty.store.reading() as connection:
        weak = await history.model_history(connection, "weak@1", before=size)

    for known_at in range(size + 1):
        read = await empty.store.snapshot("weak@1", "small", known_at)
        assert weak.known_at(known_at).evidence == read.evidence, known_at


async def test_the_shipped_versions_are_asked_of_published_evidence(
    service: Service, client: httpx.AsyncClient
) -> None:
    """RSP 2.2 beside itself is the same; 2.1 says of the day of release what its text says."""
    made = await client.post("/v1/determinations", json=asked(at="2025-05-22T16:00:00Z"))
    assert made.status_code == 201
    (same,) = await backtest(client, "history", f"{SHIPPED}/2.2/backtest")
    other = await backtest(client, "history", f"{SHIPPED}/2.1/backtest")

    assert (same["summary"]["decided"], same["summary"]["same"]) == (1, 1)
    assert other[-1]["summary"]["decided"] == 1
    assert other[-1]["summary"]["failed"] == 0


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        (f"{SHIPPED}/9.9/backtest", {"scope": "current"}, (404, "not-found")),
        ("/v1/policies/other/versions/1/backtest", {"scope": "history"}, (404, "not-found")),
        (f"{SHIPPED}/2.2/backtest", {"scope": "all"}, (422, "invalid-document")),
        (f"{SHIPPED}/2.2/backtest", {}, (422, "invalid-document")),
        (f"{SHIPPED}/2.2/backtest", {"scope": "current", "limit": 0}, (422, "invalid-document")),
    ],
)
async def test_what_cannot_be_asked_is_refused_before_the_first_line(
    reader: httpx.AsyncClient, path: str, body: Json, told: tuple[int, str]
) -> None:
    assert problem(await reader.post(path, json=body)) == told


async def test_it_needs_the_permission_to_simulate(service: Service) -> None:
    async with service.client((await service.new_key("orchestrator")).text) as client:
        answer = await client.post(f"{SHIPPED}/2.2/backtest", json={"scope": "current"})

    assert problem(answer) == (403, "forbidden")
