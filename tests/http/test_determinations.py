"""Ask, ask many, read, list: what a caller of determinations may rely on."""

import asyncio
import base64
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.http.conftest import Service
from tests.http.published import (
    ACTION,
    OPUS,
    POLICY,
    RELEASE,
    SONNET,
    Json,
    asked,
    evidence_bodies,
    problem,
    put_in_force,
)

DETERMINATIONS = "/v1/determinations"
BATCH = "/v1/determinations/batch"


def a_sign_off(**more: Any) -> Json:
    return {
        "model": OPUS,
        "policy": POLICY,
        "action": ACTION,
        "role": "ceo",
        "verb": "recommended",
        "given_at": RELEASE,
        "reason": "for a test",
    } | more


def codes(answer: httpx.Response) -> list[str]:
    """The reasons that close the gate."""
    return [reason["code"] for reason in answer.json()["reasons"] if reason["blocks"]]


async def id_of_assessment(client: httpx.AsyncClient, model: str = OPUS) -> str:
    answer = await client.post("/v1/simulations", json=asked(model) | {"on_top_of_record": True})
    ids = [e["id"] for e in answer.json()["provenance"]["evidence"]]
    found: str = next(id for id in ids if id.startswith("asm_"))
    return found


# --- unknown names -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "code"),
    [
        (asked("no-such-model@1"), "model.unknown"),
        (asked(OPUS, action="no-such-action"), "action.unknown"),
        (asked(OPUS, policy="no-such-policy"), "policy.none_in_force"),
        (asked(OPUS, at="2020-01-01T00:00:00Z"), "policy.none_in_force"),
    ],
)
async def test_what_is_unknown_is_denied_on_record_with_its_reason(
    client: httpx.AsyncClient, question: Json, code: str
) -> None:
    answer = await client.post(DETERMINATIONS, json=question)

    assert (answer.status_code, answer.json()["decision"]) == (201, "deny")
    assert codes(answer) == [code]
    assert (await client.get(answer.headers["Location"])).content == answer.content


async def test_a_name_that_was_unknown_is_known_once_it_is_registered(
    client: httpx.AsyncClient,
) -> None:
    """Nothing of "unknown" is remembered."""
    before = await client.post(DETERMINATIONS, json=asked("new@1"))
    await client.post("/v1/models", json={"model": "new@1", "developer": "anthropic"})

    after = await client.post(DETERMINATIONS, json=asked("new@1"))

    assert codes(before) == ["model.unknown"]
    assert "model.unknown" not in codes(after)
    assert after.json()["changed"]["since"] == before.json()["id"]


# --- enforce -----------------------------------------------------------------------------------


async def make_opus_current(client: httpx.AsyncClient) -> None:
    """Evidence like the published, but of now, so that nothing has lapsed."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for path, body in evidence_bodies(OPUS):
        if path != "/v1/models":
            times = {k: now for k in ("conducted_at", "valid_from", "given_at") if k in body}
            lasting = {k: v for k, v in body.items() if k != "valid_until"}
            assert (await client.post(path, json=lasting | times)).status_code == 201


async def test_an_enforced_allow_is_201(client: httpx.AsyncClient) -> None:
    await make_opus_current(client)

    answer = await client.post(f"{DETERMINATIONS}?enforce=true", json=asked())

    assert (answer.status_code, answer.json()["decision"]) == (201, "allow")


async def test_enforced_anything_else_is_a_403_with_the_determination_inside(
    client: httpx.AsyncClient,
) -> None:
    """For callers that look at the status alone; the denial is recorded all the same."""
    answer = await client.post(f"{DETERMINATIONS}?enforce=true", json=asked("no@1"))

    assert problem(answer) == (403, "not-allowed")
    inside = answer.json()["determination"]
    recorded = await client.get(answer.headers["Location"])
    assert recorded.json() == inside
    assert inside["decision"] == "deny"
    assert answer.json()["detail"] == inside["reasons"][0]["message"]


@pytest.mark.parametrize("more", [{"at": RELEASE}, {"known_at": 3}])
async def test_an_enforced_answer_is_about_now(
    standing: Service, reader: httpx.AsyncClient, more: Json
) -> None:
    """An allow of the past must not open a gate of today."""
    size = await standing.size()

    answer = await reader.post(f"{DETERMINATIONS}?enforce=true", json=asked(**more))

    assert problem(answer) == (422, "invalid-parameter")
    assert await standing.size() == size


@pytest.mark.parametrize(
    "query",
    ["enforced=true", "enforce=maybe", "enforce=", "enforce=true&enforce=false", "ENFORCE=true"],
)
async def test_a_misspelt_enforce_is_refused_and_never_passed_over(
    standing: Service, reader: httpx.AsyncClient, query: str
) -> None:
    size = await standing.size()

    answer = await reader.post(f"{DETERMINATIONS}?{query}", json=asked("no@1"))

    assert problem(answer) == (422, "invalid-parameter")
    assert await standing.size() == size


async def test_accepting_conditions_does_not_let_a_denial_pass(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        f"{DETERMINATIONS}?enforce=true&accept_conditions=true", json=asked("no@1")
    )

    assert problem(answer) == (403, "not-allowed")


# --- the past ----------------------------------------------------------------------------------


async def test_known_at_sees_what_was_known_and_nothing_later(
    service: Service, client: httpx.AsyncClient
) -> None:
    """For every ledger size, the answer with what was known then is the same before and after more
    evidence is recorded: id, time and place aside."""
    size = await service.size()
    questions = [asked(at=RELEASE, known_at=n) for n in range(size + 1)]
    before = await client.post(BATCH, json={"determinations": questions})
    id = await id_of_assessment(client)
    await client.post(f"/v1/assessments/{id}/withdrawal", json={"reason": "for a test"})

    after = await client.post(BATCH, json={"determinations": questions})

    assert [timeless(d) for d in before.json()["determinations"]] == [
        timeless(d) for d in after.json()["determinations"]
    ]
    decisions = [d["decision"] for d in after.json()["determinations"]]
    assert (decisions[0], decisions[size]) == ("deny", "allow")
    now = await client.post(DETERMINATIONS, json=asked(at=RELEASE))
    assert now.json()["decision"] == "deny"


def timeless(determination: Json) -> Json:
    without = {k: v for k, v in determination.items() if k not in ("id", "ledger")}
    assert without["changed"] is None
    return without


async def test_the_future_is_refused_with_a_pointer_to_each(
    standing: Service, reader: httpx.AsyncClient
) -> None:
    size = await standing.size()
    future: Json = {"at": "2900-01-01T00:00:00Z", "known_at": size + 1}

    one = await reader.post(DETERMINATIONS, json=asked(**future))
    many = await reader.post(
        BATCH, json={"determinations": [asked(), asked(**future), asked(known_at=-1)]}
    )

    assert problem(one) == problem(many) == (422, "invalid-document")
    assert [e["pointer"] for e in one.json()["errors"]] == ["/at", "/known_at"]
    assert [e["pointer"] for e in many.json()["errors"]] == [
        "/determinations/1/at",
        "/determinations/1/known_at",
        "/determinations/2/known_at",
    ]
    assert await standing.size() == size


# --- idempotency -------------------------------------------------------------------------------


def key(word: str) -> dict[str, str]:
    return {"Idempotency-Key": word}


async def test_a_repeated_request_is_answered_from_the_record_and_says_so(
    service: Service, client: httpx.AsyncClient
) -> None:
    first = await client.post(DETERMINATIONS, json=asked("no@1"), headers=key("a"))
    size = await service.size()

    again = await client.post(DETERMINATIONS, json=asked("no@1"), headers=key("a"))

    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["Location"] == first.headers["Location"]
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert await service.size() == size


async def test_every_post_that_records_keeps_to_its_key(
    service: Service, client: httpx.AsyncClient
) -> None:
    id = await id_of_assessment(client)
    assessment = {
        "model": OPUS,
        "kind": "comprehensive",
        "conducted_at": RELEASE,
        "assessor": "test",
    }
    report = {
        "model": OPUS,
        "policy": POLICY,
        "standard": "asl-3-security",
        "met": True,
        "valid_from": RELEASE,
        "stated_by": "test",
    }
    for number, (path, body) in enumerate(
        [
            ("/v1/models", {"model": "new@1", "developer": "anthropic"}),
            ("/v1/assessments", assessment),
            (f"/v1/assessments/{id}/withdrawal", {"reason": "for a test"}),
            ("/v1/safeguards", report),
            ("/v1/sign-offs", a_sign_off()),
            (BATCH, {"determinations": [asked("no@1"), asked("no@2")]}),
        ]
    ):
        first = await client.post(path, json=body, headers=key(f"k{number}"))
        size = await service.size()
        again = await client.post(path, json=body, headers=key(f"k{number}"))

        assert first.status_code == 201, first.text
        assert (again.status_code, again.content) == (201, first.content)
        assert again.headers["Idempotency-Replayed"] == "true"
        assert again.headers["Location"] == first.headers["Location"]
        assert await service.size() == size


async def test_a_key_is_for_one_request_of_one_caller(
    service: Service, client: httpx.AsyncClient
) -> None:
    await client.post(DETERMINATIONS, json=asked("no@1"), headers=key("a"))

    other_body = await client.post(DETERMINATIONS, json=asked("no@2"), headers=key("a"))
    other_query = await client.post(
        f"{DETERMINATIONS}?enforce=true", json=asked("no@1"), headers=key("a")
    )
    other_path = await client.post("/v1/sign-offs", json=a_sign_off(), headers=key("a"))
    async with service.client((await service.new_key("orchestrator")).text) as other:
        of_another = await other.post(DETERMINATIONS, json=asked("no@2"), headers=key("a"))

    assert problem(other_body) == (422, "idempotency-key-reused")
    assert problem(other_query) == (422, "idempotency-key-reused")
    assert problem(other_path) == (422, "idempotency-key-reused")
    assert of_another.status_code == 201


@pytest.mark.parametrize("word", ["", "x" * 256, "a\tb", "ü"])
async def test_an_unusable_key_is_refused(reader: httpx.AsyncClient, word: str) -> None:
    headers = httpx.Headers([(b"Idempotency-Key", word.encode("latin-1"))])

    answer = await reader.post(DETERMINATIONS, json=asked(), headers=headers)

    assert problem(answer) == (422, "invalid-parameter")


async def test_an_answer_whose_evidence_moved_does_not_come_back(
    client: httpx.AsyncClient,
) -> None:
    """An old allow under a build's key must not open the gate of today."""
    await make_opus_current(client)
    first = await client.post(f"{DETERMINATIONS}?enforce=true", json=asked(), headers=key("a"))
    assert first.status_code == 201
    await client.post("/v1/sign-offs", json=a_sign_off())

    again = await client.post(f"{DETERMINATIONS}?enforce=true", json=asked(), headers=key("a"))

    assert problem(again) == (409, "determination-superseded")
    assert again.json()["determination"] == first.json()["id"]


async def test_an_answer_whose_policy_moved_does_not_come_back(
    empty_client: httpx.AsyncClient, author: httpx.AsyncClient
) -> None:
    await put_in_force(author, empty_client, "2.1")
    await empty_client.post(DETERMINATIONS, json=asked("no@1"), headers=key("a"))
    await put_in_force(author, empty_client, "2.2")

    again = await empty_client.post(DETERMINATIONS, json=asked("no@1"), headers=key("a"))

    assert problem(again) == (409, "determination-superseded")


async def test_an_answer_that_has_lapsed_does_not_come_back(client: httpx.AsyncClient) -> None:
    """An assessment of 2025 was good for half a year."""
    first = await client.post(DETERMINATIONS, json=asked(at=RELEASE), headers=key("a"))
    assert first.json()["valid_until"] < "2026"

    again = await client.post(DETERMINATIONS, json=asked(at=RELEASE), headers=key("a"))

    assert problem(again) == (409, "determination-superseded")
    assert first.json()["valid_until"] in again.json()["detail"]


async def test_an_answer_about_what_was_known_comes_back_for_ever(
    client: httpx.AsyncClient,
) -> None:
    """The past does not move."""
    question = asked("no@1", known_at=2)
    first = await client.post(DETERMINATIONS, json=question, headers=key("a"))
    await client.post("/v1/models", json={"model": "no@1", "developer": "anthropic"})

    again = await client.post(DETERMINATIONS, json=question, headers=key("a"))

    assert (again.status_code, again.content) == (201, first.content)


async def test_requests_at_once_under_one_key_record_one_answer(
    service: Service, client: httpx.AsyncClient
) -> None:
    size = await service.size()

    answers = await asyncio.gather(
        *(client.post(DETERMINATIONS, json=asked(), headers=key("a")) for _ in range(20))
    )

    assert {a.status_code for a in answers} == {201}
    assert len({a.content for a in answers}) == 1
    assert sum("Idempotency-Replayed" in a.headers for a in answers) == 19
    assert await service.size() == size + 1


# --- batches -----------------------------------------------------------------------------------


async def test_a_batch_is_answered_in_its_order_in_one_commit(
    service: Service, client: httpx.AsyncClient
) -> None:
    questions = [asked(OPUS, at=RELEASE), asked("no@1"), asked(SONNET, at=RELEASE)]

    answer = await client.post(BATCH, json={"determinations": questions})

    determinations = answer.json()["determinations"]
    assert [(d["model"], d["decision"]) for d in determinations] == [
        (OPUS, "allow"),
        ("no@1", "deny"),
        (SONNET, "allow"),
    ]
    indexes = [d["ledger"]["index"] for d in determinations]
    size = await service.size()
    assert indexes == [size - 3, size - 2, size - 1]
    assert [d["provenance"]["known_at"] for d in determinations] == indexes
    assert len({d["ledger"]["recorded_at"] for d in determinations}) == 1
    for determination in determinations:
        read = await client.get(f"{DETERMINATIONS}/{determination['id']}")
        assert read.json() == determination
    page = await client.get(answer.headers["Location"])
    assert page.json()["determinations"][:3] == determinations[::-1]


async def test_a_batch_with_one_bad_question_records_nothing(
    standing: Service, reader: httpx.AsyncClient
) -> None:
    size = await standing.size()
    questions = [asked(), {"model": OPUS}, asked(model="UPPER@1")]

    answer = await reader.post(BATCH, json={"determinations": questions})

    assert problem(answer) == (422, "invalid-document")
    assert [e["pointer"] for e in answer.json()["errors"]] == [
        "/determinations/1/action",
        "/determinations/1/policy",
        "/determinations/2/model",
    ]
    assert await standing.size() == size


async def test_a_thousand_unknown_names_are_a_thousand_denials(
    service: Service, client: httpx.AsyncClient
) -> None:
    size = await service.size()
    questions = [asked(f"no-{i}@1") for i in range(1000)]
    # Holding a thousand answers against their schema takes longer than making them.
    client.event_hooks = {}

    answer = await client.post(BATCH, json={"determinations": questions})

    assert answer.status_code == 201, answer.text
    determinations = answer.json()["determinations"]
    assert [d["model"] for d in determinations] == [q["model"] for q in questions]
    assert {d["decision"] for d in determinations} == {"deny"}
    assert await service.size() == size + 1000


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_batch_holds_one_to_a_thousand(
    standing: Service, reader: httpx.AsyncClient, count: int
) -> None:
    size = await standing.size()

    answer = await reader.post(BATCH, json={"determinations": [asked()] * count})

    assert problem(answer) == (422, "invalid-document")
    assert [e["pointer"] for e in answer.json()["errors"]] == ["/determinations"]
    assert await standing.size() == size


# --- list and latest ---------------------------------------------------------------------------


async def test_the_list_is_filtered_by_each_field_and_all_of_them(
    client: httpx.AsyncClient,
) -> None:
    questions = [
        asked(OPUS, at=RELEASE),
        asked(SONNET, at=RELEASE),
        asked(OPUS, action="training"),
        asked(OPUS, policy="other"),
    ]
    made = (await client.post(BATCH, json={"determinations": questions})).json()["determinations"]

    async def listed(**filters: str) -> list[int]:
        page = (await client.get(DETERMINATIONS, params=filters)).json()
        ids = [d["id"] for d in made]
        return [ids.index(d["id"]) for d in page["determinations"]]

    assert await listed() == [3, 2, 1, 0]
    assert await listed(model=OPUS) == [3, 2, 0]
    assert await listed(action="training") == [2]
    assert await listed(policy="other") == [3]
    assert await listed(decision="allow", model=SONNET) == [1]
    assert await listed(model=OPUS, action=ACTION, policy=POLICY, decision="allow") == [0]
    assert await listed(model="none@1") == []


async def test_pages_stay_as_they_are_while_more_is_recorded(client: httpx.AsyncClient) -> None:
    answers = [await client.post(DETERMINATIONS, json=asked(f"m-{i}@1")) for i in range(7)]
    made = [answer.json()["id"] for answer in answers]
    seen = []
    after: dict[str, str] = {}

    while True:
        page = await client.get(DETERMINATIONS, params={"limit": "3"} | after)
        seen += [d["id"] for d in page.json()["determinations"]]
        if page.json()["next"] is None:
            break
        after = {"after": page.json()["next"]}
        await client.post(DETERMINATIONS, json=asked("meanwhile@1"))

    assert seen == made[::-1]


def cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "params",
    [
        {"after": ""},
        {"after": "!"},
        {"after": "ü"},
        {"after": "AAAA"},
        {"after": cursor("v2:3")},
        {"after": cursor("v1:-3")},
        {"after": cursor("v1:")},
        {"after": cursor("v1:٣")},
        {"after": cursor("v1:1 OR 1=1")},
        {"after": cursor(f"v1:{10**30}")},
        {"limit": "0"},
        {"limit": "201"},
        {"limit": "ten"},
        {"decision": "maybe"},
        {"modle": OPUS},
        {"model": "a\x00b"},
    ],
)
async def test_a_list_is_refused_for_parameters_that_mean_nothing(
    reader: httpx.AsyncClient, params: dict[str, str]
) -> None:
    answer = await reader.get(DETERMINATIONS, params=params)

    assert problem(answer) == (422, "invalid-parameter")
    assert answer.json()["parameter"] == next(iter(params))


async def test_the_latest_is_the_one_that_speaks_for_the_latest_instant(
    client: httpx.AsyncClient,
) -> None:
    """Not the last one recorded, not one that was asked as of what was known before, and not one
    under a policy that never was in force.
    """
    later = await client.post(DETERMINATIONS, json=asked(at="2025-06-01T00:00:00Z"))
    await client.post(DETERMINATIONS, json=asked(at=RELEASE))
    await client.post(DETERMINATIONS, json=asked(at="2025-07-01T00:00:00Z", known_at=3))
    await client.post(DETERMINATIONS, json=asked(policy="other"))
    path = f"/v1/models/{OPUS}/determination"

    latest = await client.get(path, params={"action": ACTION, "policy": POLICY})
    of_any = await client.get(path, params={"action": ACTION})

    assert latest.content == later.content
    assert latest.headers["Determination-Expired"] == later.json()["valid_until"]
    assert of_any.content == later.content


async def test_there_is_no_latest_where_nothing_was_asked(client: httpx.AsyncClient) -> None:
    await client.post(DETERMINATIONS, json=asked(known_at=3))

    for path, params in (
        (f"/v1/models/{OPUS}/determination", {"action": ACTION}),
        (f"/v1/models/{SONNET}/determination", {"action": ACTION}),
        ("/v1/models/no@1/determination", {"action": ACTION}),
    ):
        assert problem(await client.get(path, params=params)) == (404, "not-found")
    without_action = await client.get(f"/v1/models/{OPUS}/determination")
    assert problem(without_action) == (422, "invalid-parameter")


# --- what changed ------------------------------------------------------------------------------


async def test_a_withdrawal_changes_the_next_answer_and_says_why_but_no_old_one(
    client: httpx.AsyncClient,
) -> None:
    old = await client.post(DETERMINATIONS, json=asked(at=RELEASE))
    id = await id_of_assessment(client)
    withdrawn = await client.post(
        f"/v1/assessments/{id}/withdrawal", json={"reason": "the harness was broken"}
    )

    new = await client.post(DETERMINATIONS, json=asked(at=RELEASE))

    assert withdrawn.status_code == 201
    assert (old.json()["decision"], new.json()["decision"]) == ("allow", "deny")
    changed = new.json()["changed"]
    assert changed["since"] == old.json()["id"]
    assert changed["decision"] == {"from": "allow", "to": "deny"}
    assert changed["evidence"] == {"added": [], "removed": [id]}
    assert changed["because"] == ["evidence"]
    assert (await client.get(old.headers["Location"])).content == old.content
    read = await client.get(f"/v1/assessments/{id}")
    assert read.status_code == 200
    again = await client.post(f"/v1/assessments/{id}/withdrawal", json={"reason": "twice"})
    assert problem(again) == (409, "already-recorded")


async def test_an_assessment_can_be_superseded_only_by_another_one_of_its_model(
    reader: httpx.AsyncClient,
) -> None:
    id, of_sonnet = await id_of_assessment(reader), await id_of_assessment(reader, SONNET)
    for wrong in (id, of_sonnet, f"asm_{'0' * 32}"):
        body = {"reason": "redone", "kind": "superseded", "superseded_by": wrong}
        answer = await reader.post(f"/v1/assessments/{id}/withdrawal", json=body)
        assert problem(answer) == (422, "invalid-document")
        assert answer.json()["errors"][0]["pointer"] == "/superseded_by"


async def test_withdrawals_at_once_record_one(service: Service, client: httpx.AsyncClient) -> None:
    id = await id_of_assessment(client)
    size = await service.size()

    answers = await asyncio.gather(
        *(
            client.post(f"/v1/assessments/{id}/withdrawal", json={"reason": f"reason {i}"})
            for i in range(8)
        )
    )

    assert sorted(a.status_code for a in answers) == [201] + [409] * 7
    assert await service.size() == size + 1


async def test_evidence_that_was_just_recorded_is_in_the_next_answer(
    client: httpx.AsyncClient,
) -> None:
    """What is kept in memory is never a reason for an old answer, whoever records."""
    for i in range(5):
        await client.post(DETERMINATIONS, json=asked())
        sign_off = await client.post("/v1/sign-offs", json=a_sign_off(reason=f"number {i}"))
        answer = await client.post(DETERMINATIONS, json=asked())
        ids = [e["id"] for e in answer.json()["provenance"]["evidence"]]
        assert sign_off.json()["id"] in ids


async def test_readers_and_writers_at_once_never_see_an_answer_older_than_its_evidence(
    client: httpx.AsyncClient,
) -> None:
    """Every answer names all the evidence on its model of a smaller index."""
    results = await asyncio.gather(
        *(client.post(DETERMINATIONS, json=asked()) for _ in range(10)),
        *(client.post("/v1/sign-offs", json=a_sign_off(reason=f"number {i}")) for i in range(10)),
        *(client.post(DETERMINATIONS, json=asked()) for _ in range(10)),
    )

    sign_offs = {
        r.json()["id"]: r.json()["ledger"]["index"]
        for r in results
        if r.request.url.path == "/v1/sign-offs"
    }
    for answer in results:
        if answer.request.url.path != DETERMINATIONS or answer.status_code == 503:
            continue
        said = answer.json()
        named = {e["id"] for e in said["provenance"]["evidence"]} & sign_offs.keys()
        known_at = said["provenance"]["known_at"]
        assert named == {id for id, index in sign_offs.items() if index < known_at}
