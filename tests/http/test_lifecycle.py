"""From draft to superseded: who may approve and activate, from when it counts, and one answer."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from app.storage.store import POLICIES_STREAM
from app.vocabulary import read_instant, write_instant
from tests.http.conftest import Service
from tests.http.published import (
    EFFECTIVE,
    POLICY,
    Json,
    activation,
    asked,
    problem,
    put_in_force,
    send_policy,
)
from tests.http.test_policies import document

VERSIONS = f"/v1/policies/{POLICY}/versions"
APPROVALS = f"{VERSIONS}/2.2/approvals"
ACTIVATION = f"{VERSIONS}/2.2/activation"
REASON = {"reason": "read beside the published text"}


def soon(**after: float) -> str:
    """An instant that is so long after now; before it where that is negative."""
    return write_instant(datetime.now(UTC) + timedelta(**after))


@pytest.fixture
async def approver(empty: Service) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who may approve and activate, and record nothing else."""
    async with empty.client((await empty.new_key("policy-approver")).text) as client:
        yield client


@pytest.fixture
async def drafted(author: httpx.AsyncClient) -> Json:
    """RSP 2.2 as a draft."""
    said: Json = (await send_policy(author, "2.2")).json()
    return said


@pytest.fixture
async def approved(drafted: Json, approver: httpx.AsyncClient) -> Json:
    """RSP 2.2, approved."""
    answer = await approver.post(APPROVALS, json=REASON)
    assert answer.status_code == 201, answer.text
    said: Json = answer.json()
    return said


async def read(client: httpx.AsyncClient, label: str = "2.2") -> Json:
    said: Json = (await client.get(f"{VERSIONS}/{label}")).json()
    return said


async def test_a_version_goes_from_draft_to_superseded(
    author: httpx.AsyncClient, approver: httpx.AsyncClient
) -> None:
    """Each step is seen at once, under another ETag, and says who took it and when."""
    statuses, etags = [], set()

    async def note(label: str = "2.1") -> Json:
        answer = await author.get(f"{VERSIONS}/{label}")
        statuses.append(answer.json()["status"])
        etags.add(answer.headers["ETag"])
        said: Json = answer.json()
        return said

    await send_policy(author, "2.1")
    draft = await note()
    await approver.post(f"{VERSIONS}/2.1/approvals", json=REASON)
    await note()
    later = {"in_force_from": soon(seconds=1.5)}
    await approver.post(f"{VERSIONS}/2.1/activation", json=later)
    scheduled = await note()
    await asyncio.sleep(1.6)
    await note()
    await put_in_force_now(author, approver)
    last = await note()

    assert statuses == ["draft", "approved", "scheduled", "in-force", "superseded"]
    assert len(etags) == 5
    assert (draft["in_force"], draft["spans"], draft["approvals"]) == (None, [], [])
    assert scheduled["in_force"] == {"from": later["in_force_from"], "until": None}
    since_2_2 = (await note("2.2"))["in_force"]["from"]
    assert last["in_force"] is None
    assert last["spans"] == [{"from": later["in_force_from"], "until": since_2_2}]
    (approval,) = last["approvals"]
    assert approval["reason"] == REASON["reason"]
    assert approval["by"] != ""
    (given,) = last["activations"]
    assert given["in_force_from"] == later["in_force_from"]
    assert given["given_at"] < given["in_force_from"]
    assert (given["retroactive"], given["reason"]) == (False, None)


async def put_in_force_now(author: httpx.AsyncClient, approver: httpx.AsyncClient) -> None:
    await send_policy(author, "2.2")
    assert (await approver.post(APPROVALS, json=REASON)).status_code == 201
    assert (await approver.post(ACTIVATION, json={})).status_code == 201


async def test_a_draft_decides_nothing(drafted: Json, empty_client: httpx.AsyncClient) -> None:
    """Nor does an approved version before it is in force."""
    await empty_client.post("/v1/models", json={"model": "new@1", "developer": "anthropic"})
    of_draft = await empty_client.post("/v1/determinations", json=asked("new@1"))
    await empty_client.post(APPROVALS, json=REASON)
    await empty_client.post(ACTIVATION, json={"in_force_from": soon(days=1)})
    of_scheduled = await empty_client.post("/v1/determinations", json=asked("new@1"))
    now = await empty_client.get(f"/v1/policies/{POLICY}")
    then = await empty_client.get(f"/v1/policies/{POLICY}", params={"at": soon(days=2)})

    for answer in (of_draft, of_scheduled):
        assert [r["code"] for r in answer.json()["reasons"]] == ["policy.none_in_force"]
    assert problem(now) == (404, "no-policy-in-force")
    assert (then.json()["version"], then.json()["status"]) == ("2.2", "scheduled")


async def test_an_approval_and_an_activation_are_read_back_byte_for_byte(
    approved: Json, approver: httpx.AsyncClient
) -> None:
    made = await approver.post(ACTIVATION, json=activation("2.2"))
    again = await approver.get(made.headers["Location"])
    same = await approver.get(
        made.headers["Location"], headers={"If-None-Match": made.headers["ETag"]}
    )
    approval = await approver.get(f"{APPROVALS}/{approved['id']}")

    assert (again.status_code, again.content) == (200, made.content)
    assert same.status_code == 304
    assert approval.json() == approved
    assert made.json()["id"].startswith("pac_")
    assert approved["id"].startswith("pap_")
    elsewhere = f"{VERSIONS}/2.1/approvals/{approved['id']}"
    for path in (elsewhere, f"{APPROVALS}/{made.json()['id']}", f"{APPROVALS}/pap_0"):
        assert problem(await approver.get(path)) == (404, "not-found")


async def test_nobody_approves_or_activates_what_they_recorded(
    empty: Service, empty_client: httpx.AsyncClient, approver: httpx.AsyncClient
) -> None:
    """An administrator neither: it takes two."""
    await send_policy(empty_client, "2.2")
    approval = await empty_client.post(APPROVALS, json=REASON)
    await approver.post(APPROVALS, json=REASON)
    size = await empty.size()
    activated = await empty_client.post(ACTIVATION, json={})

    assert problem(approval) == (409, "self-approval")
    assert problem(activated) == (409, "self-activation")
    assert await empty.size() == size


async def test_a_draft_is_not_activated(drafted: Json, approver: httpx.AsyncClient) -> None:
    assert problem(await approver.post(ACTIVATION, json={})) == (409, "not-approved")


async def test_what_is_not_recorded_is_neither_approved_nor_activated(
    drafted: Json, approver: httpx.AsyncClient
) -> None:
    for path, body in ((f"{VERSIONS}/9.9/approvals", REASON), (f"{VERSIONS}/9.9/activation", {})):
        assert problem(await approver.post(path, json=body)) == (404, "not-found")


async def test_the_past_is_only_reached_by_saying_so(
    empty: Service, approved: Json, approver: httpx.AsyncClient
) -> None:
    """A clock that is a few seconds off is no attempt at that."""
    size = await empty.size()
    past = await approver.post(ACTIVATION, json={"in_force_from": soon(minutes=-2)})
    assert problem(past) == (422, "retroactive-activation")
    assert await empty.size() == size

    just_now = await approver.post(ACTIVATION, json={"in_force_from": soon(seconds=-5)})

    assert just_now.status_code == 201, just_now.text


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        ({"retroactive": True, "in_force_from": "2025-05-14T00:00:00Z"}, ["missing"]),
        ({"retroactive": True, "reason": "why"}, ["not-in-the-past"]),
        (
            {"retroactive": True, "reason": "why", "in_force_from": "2090-01-01T00:00:00Z"},
            ["not-in-the-past"],
        ),
        ({"retroactive": True}, ["not-in-the-past", "missing"]),
    ],
)
async def test_retroactive_needs_a_reason_and_a_past(
    empty: Service, approved: Json, approver: httpx.AsyncClient, body: Json, faults: list[str]
) -> None:
    size = await empty.size()

    answer = await approver.post(ACTIVATION, json=body)

    assert problem(answer) == (422, "invalid-document")
    assert [e["code"] for e in answer.json()["errors"]] == faults
    assert await empty.size() == size


async def test_a_retroactive_activation_shows_both_times(
    approved: Json, approver: httpx.AsyncClient
) -> None:
    answer = (await approver.post(ACTIVATION, json=activation("2.2"))).json()

    assert answer["in_force_from"] == EFFECTIVE["2.2"]
    assert datetime.now(UTC) - read_instant(answer["given_at"]) < timedelta(minutes=1)
    assert answer["retroactive"] is True
    assert answer["reason"]


async def test_one_person_approves_once(
    empty: Service, approved: Json, approver: httpx.AsyncClient, empty_client: httpx.AsyncClient
) -> None:
    """Another one may as well."""
    again = await approver.post(APPROVALS, json=REASON)
    other = await empty_client.post(APPROVALS, json={"reason": "so do I"})

    assert problem(again) == (409, "already-recorded")
    assert other.status_code == 201
    assert len((await read(approver))["approvals"]) == 2


async def test_the_same_request_under_its_key_gives_its_answer_again(
    empty: Service, drafted: Json, approver: httpx.AsyncClient
) -> None:
    """Also where the same thing would be refused by now."""
    steps: tuple[tuple[str, Json, Json], ...] = (
        (APPROVALS, REASON, {"reason": "another"}),
        (ACTIVATION, {}, activation("2.2")),
    )
    for i, (path, body, other) in enumerate(steps):
        headers = {"Idempotency-Key": f"step {i}"}
        first = await approver.post(path, json=body, headers=headers)
        size = await empty.size()
        again = await approver.post(path, json=body, headers=headers)
        reused = await approver.post(path, json=other, headers=headers)

        assert (first.status_code, again.status_code) == (201, 201)
        assert again.content == first.content
        assert again.headers["Idempotency-Replayed"] == "true"
        assert problem(reused) == (422, "idempotency-key-reused")
        assert await empty.size() == size


async def two_versions(author: httpx.AsyncClient, approver: httpx.AsyncClient) -> None:
    """2.2 and a second reading of it, both approved."""
    await send_policy(author, "2.2")
    other = document() | {"version": "2.2+other"}
    assert (await author.post(VERSIONS, json=other)).status_code == 201
    for label in ("2.2", "2.2+other"):
        assert (
            await approver.post(f"{VERSIONS}/{label}/approvals", json=REASON)
        ).status_code == 201


async def test_activations_from_one_instant_at_once_put_one_version_in_force(
    empty: Service, author: httpx.AsyncClient, approver: httpx.AsyncClient
) -> None:
    await two_versions(author, approver)
    at = {"in_force_from": soon(days=1)}
    size = await empty.size()

    answers = await asyncio.gather(
        *(
            approver.post(f"{VERSIONS}/{label}/activation", json=at)
            for label in ("2.2", "2.2+other") * 3
        )
    )

    assert sorted(a.status_code for a in answers) == [201, 409, 409, 409, 409, 409]
    assert {problem(a) for a in answers if a.status_code != 201} == {(409, "already-recorded")}
    assert await empty.size() == size + 1


async def test_after_concurrent_activations_every_instant_has_one_version_or_none(
    author: httpx.AsyncClient, approver: httpx.AsyncClient
) -> None:
    """Three at once, of two versions, from three instants: the spans meet and never overlap."""
    await two_versions(author, approver)
    instants = [soon(days=day) for day in (3, 1, 2)]
    labels = ("2.2", "2.2+other", "2.2")

    answers = await asyncio.gather(
        *(
            approver.post(f"{VERSIONS}/{label}/activation", json={"in_force_from": at})
            for label, at in zip(labels, instants, strict=True)
        )
    )

    assert [a.status_code for a in answers] == [201, 201, 201]
    spans = [
        (span["from"], span["until"])
        for label in ("2.2", "2.2+other")
        for span in (await read(approver, label))["spans"]
    ]
    in_order = sorted(spans)
    assert [since for since, _ in in_order] == sorted(instants)
    assert all(until == since for (_, until), (since, _) in itertools.pairwise(in_order))
    assert in_order[-1][1] is None
    before = await approver.get(f"/v1/policies/{POLICY}")
    assert problem(before) == (404, "no-policy-in-force")
    by_instant = dict(zip(instants, labels, strict=True))
    for at in instants:
        found = await approver.get(f"/v1/policies/{POLICY}", params={"at": at})
        assert found.json()["version"] == by_instant[at]


async def test_an_older_version_can_be_put_in_force_again(
    empty: Service, author: httpx.AsyncClient, approver: httpx.AsyncClient
) -> None:
    """Once somebody else has approved that it comes back, and with a reason."""
    await two_versions(author, approver)
    for label, day in (("2.2", 1), ("2.2+other", 2)):
        body = {"in_force_from": soon(days=day)}
        await approver.post(f"{VERSIONS}/{label}/activation", json=body)
    async with empty.client((await empty.new_key("policy-approver")).text) as second:
        await second.post(f"{VERSIONS}/2.2/approvals", json={"reason": "for the third day"})
    again = {"in_force_from": soon(days=3), "reason": "the other is for one day"}
    await approver.post(f"{VERSIONS}/2.2/activation", json=again)

    said = await read(approver)

    assert len(said["spans"]) == len(said["activations"]) == 2
    assert said["in_force"] == said["spans"][0]


async def test_what_was_known_does_not_see_a_later_activation(
    empty: Service, author: httpx.AsyncClient, empty_client: httpx.AsyncClient
) -> None:
    """2.2 reaches back to a day on which, as far as was recorded, 2.1 was in force."""
    await put_in_force(author, empty_client, "2.1")
    await empty_client.post("/v1/models", json={"model": "new@1", "developer": "anthropic"})
    await send_policy(author, "2.2")
    before = await empty.size()
    await put_in_force(author, empty_client, "2.2")
    question = asked("new@1", at="2025-06-01T00:00:00Z")

    said: dict[str, Any] = {}
    for name, known_at in (("then", before), ("now", await empty.size())):
        answer = await empty_client.post(
            "/v1/determinations", json=question | {"known_at": known_at}
        )
        said[name] = answer.json()["provenance"]["policy"]["version"]

    assert said == {"then": "2.1", "now": "2.2"}


async def test_all_versions_are_listed_drafts_included(
    author: httpx.AsyncClient, empty_client: httpx.AsyncClient
) -> None:
    await put_in_force(author, empty_client, "2.1")
    await send_policy(author, "2.2")

    answer = await empty_client.get(VERSIONS)

    assert answer.status_code == 200
    assert answer.json()["policy"] == POLICY
    assert [(v["version"], v["status"]) for v in answer.json()["versions"]] == [
        ("2.1", "in-force"),
        ("2.2", "draft"),
    ]
    for listed in answer.json()["versions"]:
        assert listed["digest"] == (await read(empty_client, listed["version"]))["digest"]
    unknown = await empty_client.get("/v1/policies/other/versions")
    assert problem(unknown) == (404, "not-found")


async def test_evidence_may_name_what_a_draft_names_where_nothing_is_in_force(
    drafted: Json, empty_client: httpx.AsyncClient
) -> None:
    await empty_client.post("/v1/models", json={"model": "new@1", "developer": "anthropic"})
    sign_off = asked("new@1") | {"role": "ceo", "verb": "approved", "reason": "for a test"}

    answer = await empty_client.post("/v1/sign-offs", json=sign_off)

    assert answer.status_code == 201, answer.text


async def test_a_draft_can_be_simulated(drafted: Json, empty_client: httpx.AsyncClient) -> None:
    answer = await empty_client.post(
        "/v1/simulations", json=asked("new@1") | {"version": "2.2", "developer": "anthropic"}
    )

    assert answer.status_code == 200, answer.text
    assert answer.json()["provenance"]["policy"]["version"] == "2.2"
    assert answer.json()["thresholds"]


async def test_an_activation_moves_what_any_policy_s_gate_rests_on(
    empty: Service, approved: Json, approver: httpx.AsyncClient
) -> None:
    """An approval changes nothing that is in force; an activation does, whichever policy it is."""
    names = (POLICIES_STREAM, f"policy:{POLICY}")
    before = await empty.store.streams(names)

    answer = await approver.post(ACTIVATION, json={})

    place = answer.json()["ledger"]["index"] + 1
    assert before == {POLICIES_STREAM: 0, f"policy:{POLICY}": place - 1}
    assert await empty.store.streams(names) == dict.fromkeys(names, place)


async def test_the_database_itself_holds_no_two_activations_from_one_instant(
    empty: Service, approved: Json, approver: httpx.AsyncClient
) -> None:
    """What stands behind the check, should a writer ever miss it."""
    assert (await approver.post(ACTIVATION, json={})).status_code == 201
    copied = (
        "INSERT INTO policy_activation SELECT 0, 'pac_copy', policy, digest, in_force_from, "
        "given_at FROM policy_activation"
    )
    with pytest.raises(asyncpg.UniqueViolationError, match="policy_in_force_from"):
        await empty.as_owner(copied)
