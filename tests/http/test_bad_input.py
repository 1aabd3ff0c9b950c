"""Hostile and mistaken bodies: each is refused with pointers, and nothing is half-written.

After every row the service answers, and the ledger has as many entries as before.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from app.storage.embedded import EmbeddedPostgres
from tests.http.conftest import BOOTSTRAP_KEY, Service, running
from tests.http.published import ACTION, OPUS, POLICIES, POLICY, RELEASE, Json, problem

RSP = POLICIES["2.2"].read_text().replace('version: "2.2"', 'version: "9.0"')
NEW = "2031-01-01"
A_VERSION = RSP.replace("effective: 2025-05-14", f"effective: {NEW}")
"""A policy document that would be recorded as it is."""

MODEL: Json = {"model": "new@1", "developer": "anthropic"}
QUESTION: Json = {"model": OPUS, "action": ACTION, "policy": POLICY}
RESULT: Json = {"line": "virology-longform", "value": 0.5}
FINDING: Json = {
    "policy": POLICY,
    "threshold": "CBRN-3",
    "outcome": "ruled-out",
    "by": ["ceo", "responsible-scaling-officer"],
    "reason": "for a test",
}
ASSESSMENT: Json = {
    "model": OPUS,
    "kind": "comprehensive",
    "conducted_at": RELEASE,
    "assessor": "test",
    "results": [RESULT],
    "findings": [FINDING],
}
SAFEGUARD: Json = {
    "model": OPUS,
    "policy": POLICY,
    "standard": "asl-3-security",
    "criterion": "audits",
    "met": True,
    "valid_from": RELEASE,
    "stated_by": "test",
}
SIGN_OFF: Json = {
    "model": OPUS,
    "policy": POLICY,
    "action": ACTION,
    "role": "ceo",
    "verb": "approved",
    "given_at": RELEASE,
    "reason": "for a test",
}
AS_JSON = {"Content-Type": "application/json"}
GOOD = {
    "/v1/models": MODEL,
    "/v1/assessments": ASSESSMENT,
    "/v1/safeguards": SAFEGUARD,
    "/v1/sign-offs": SIGN_OFF,
    "/v1/determinations": QUESTION,
    "/v1/determinations/batch": {"determinations": [QUESTION]},
}
VERSIONS = f"/v1/policies/{POLICY}/versions"


@pytest.mark.parametrize("path", GOOD)
async def test_the_bodies_that_are_spoilt_below_are_good(
    client: httpx.AsyncClient, path: str
) -> None:
    """Else a row below could be refused for another reason than its own."""
    assert (await client.post(path, json=GOOD[path])).status_code == 201


async def test_the_policy_that_is_spoilt_below_is_good(client: httpx.AsyncClient) -> None:
    assert (await post_yaml(client, A_VERSION)).status_code == 201


async def post_yaml(client: httpx.AsyncClient, text: str | bytes) -> httpx.Response:
    return await client.post(VERSIONS, content=text, headers={"Content-Type": "application/yaml"})


def at(value: Any, *steps: str | int, to: Any) -> Any:
    """A copy of *value* with *to* at the end of *steps*."""
    copy = json.loads(json.dumps(value))
    here = copy
    for step in steps[:-1]:
        here = here[step]
    here[steps[-1]] = to
    return copy


def without(value: Json, field: str) -> Json:
    return {k: v for k, v in value.items() if k != field}


@dataclass(frozen=True)
class Row:
    """What is wrong, what is sent where, and what is said: pointer and code of every fault."""

    what: str
    path: str
    body: Any
    faults: tuple[tuple[str, str], ...]


ROWS = [
    Row("unknown field", "/v1/models", MODEL | {"licence": "x"}, (("/licence", "unknown-field"),)),
    Row(
        "unknown field inside",
        "/v1/assessments",
        at(ASSESSMENT, "results", 0, "score", to=1),
        (("/results/0/score", "unknown-field"),),
    ),
    Row("missing field", "/v1/models", {"model": "new@1"}, (("/developer", "missing"),)),
    Row("not a mapping", "/v1/models", [], (("", "model-type"),)),
    Row("null", "/v1/models", None, (("", "model-type"),)),
    Row("wrong type", "/v1/models", MODEL | {"developer": 1}, (("/developer", "string-type"),)),
    Row(
        "number as text",
        "/v1/assessments",
        at(ASSESSMENT, "results", 0, "value", to="0.5"),
        (("/results/0/value", "invalid-value"),),
    ),
    Row(
        "true as a number",
        "/v1/assessments",
        at(ASSESSMENT, "results", 0, "value", to=True),
        (("/results/0/value", "invalid-value"),),
    ),
    Row("1 as true", "/v1/safeguards", SAFEGUARD | {"met": 1}, (("/met", "invalid-value"),)),
    Row("text as true", "/v1/safeguards", SAFEGUARD | {"met": "yes"}, (("/met", "invalid-value"),)),
    Row(
        "a time without a zone",
        "/v1/assessments",
        ASSESSMENT | {"conducted_at": "2025-05-22T16:00:00"},
        (("/conducted_at", "invalid-value"),),
    ),
    Row(
        "a day as a time",
        "/v1/sign-offs",
        SIGN_OFF | {"given_at": "2025-05-22"},
        (("/given_at", "invalid-value"),),
    ),
    Row(
        "a time as a number",
        "/v1/determinations",
        QUESTION | {"at": 1747900800},
        (("/at", "invalid-value"),),
    ),
    Row(
        "a time that does not exist",
        "/v1/determinations",
        QUESTION | {"at": "2025-02-30T00:00:00Z"},
        (("/at", "invalid-value"),),
    ),
    Row(
        "a size with a fraction",
        "/v1/determinations",
        QUESTION | {"known_at": 1.5},
        (("/known_at", "invalid-value"),),
    ),
    Row(
        "a model without a version",
        "/v1/models",
        MODEL | {"model": "claude"},
        (("/model", "invalid-value"),),
    ),
    Row(
        "a model that climbs",
        "/v1/models",
        MODEL | {"model": "a/../b@1"},
        (("/model", "invalid-value"),),
    ),
    Row(
        "a digest of another form",
        "/v1/models",
        MODEL | {"digest": "md5:0"},
        (("/digest", "invalid-value"),),
    ),
    Row(
        "an unknown parent",
        "/v1/models",
        MODEL | {"parent": "no@1"},
        (("/parent", "unknown-model"),),
    ),
    Row("blank text", "/v1/sign-offs", SIGN_OFF | {"reason": " "}, (("/reason", "invalid-value"),)),
    Row(
        "long text",
        "/v1/sign-offs",
        SIGN_OFF | {"reason": "x" * 4001},
        (("/reason", "string-too-long"),),
    ),
    Row(
        "unknown model: assessment",
        "/v1/assessments",
        ASSESSMENT | {"model": "no@1"},
        (("/model", "unknown-model"),),
    ),
    Row(
        "unknown model: safeguard",
        "/v1/safeguards",
        SAFEGUARD | {"model": "no@1"},
        (("/model", "unknown-model"),),
    ),
    Row(
        "unknown model: sign-off",
        "/v1/sign-offs",
        SIGN_OFF | {"model": "no@1"},
        (("/model", "unknown-model"),),
    ),
    Row(
        "unknown line",
        "/v1/assessments",
        at(ASSESSMENT, "results", 0, "line", to="no-such-line"),
        (("/results/0/line", "unknown-line"),),
    ),
    Row(
        "unknown threshold",
        "/v1/assessments",
        at(ASSESSMENT, "findings", 0, "threshold", to="CBRN-9"),
        (("/findings/0/threshold", "unknown-threshold"),),
    ),
    Row(
        "a role that the policy does not name",
        "/v1/assessments",
        at(ASSESSMENT, "findings", 0, "by", to=["ceo", "intern"]),
        (("/findings/0/by/1", "unknown-role"),),
    ),
    Row(
        "nobody's finding",
        "/v1/assessments",
        at(ASSESSMENT, "findings", 0, "by", to=[]),
        (("/findings/0/by", "too-short"),),
    ),
    Row(
        "unknown policy of a finding",
        "/v1/assessments",
        at(ASSESSMENT, "findings", 0, "policy", to="other"),
        (("/findings/0/policy", "unknown-policy"),),
    ),
    Row(
        "unknown outcome",
        "/v1/assessments",
        at(ASSESSMENT, "findings", 0, "outcome", to="fine"),
        (("/findings/0/outcome", "invalid-value"),),
    ),
    Row(
        "bounded by an unknown model",
        "/v1/assessments",
        at(
            ASSESSMENT,
            "findings",
            0,
            to=FINDING | {"outcome": "bounded-by", "bounded_by": "no@1"},
        ),
        (("/findings/0/bounded_by", "unknown-model"),),
    ),
    Row(
        "unknown standard",
        "/v1/safeguards",
        SAFEGUARD | {"standard": "asl-9"},
        (("/standard", "unknown-standard"),),
    ),
    Row(
        "unknown criterion",
        "/v1/safeguards",
        SAFEGUARD | {"criterion": "locks"},
        (("/criterion", "unknown-criterion"),),
    ),
    Row(
        "a criterion of another standard",
        "/v1/safeguards",
        SAFEGUARD | {"standard": "asl-3-deployment"},
        (("/criterion", "unknown-criterion"),),
    ),
    Row(
        "unknown policy of a safeguard",
        "/v1/safeguards",
        SAFEGUARD | {"policy": "other"},
        (("/policy", "unknown-policy"),),
    ),
    Row(
        "a safeguard that ends before it begins",
        "/v1/safeguards",
        SAFEGUARD | {"valid_until": "2025-05-22T15:59:59Z"},
        (("", "invalid-value"),),
    ),
    Row(
        "unknown action",
        "/v1/sign-offs",
        SIGN_OFF | {"action": "party"},
        (("/action", "unknown-action"),),
    ),
    Row("unknown role", "/v1/sign-offs", SIGN_OFF | {"role": "me"}, (("/role", "unknown-role"),)),
    Row(
        "unknown verb", "/v1/sign-offs", SIGN_OFF | {"verb": "hoped"}, (("/verb", "invalid-value"),)
    ),
    Row(
        "everything unknown at once",
        "/v1/sign-offs",
        SIGN_OFF | {"model": "no@1", "action": "party", "role": "me"},
        (("/model", "unknown-model"), ("/action", "unknown-action"), ("/role", "unknown-role")),
    ),
    Row(
        "several faults at once",
        "/v1/assessments",
        without(
            at(ASSESSMENT, "results", 0, "value", to=None)
            | {"conducted_at": "today", "findings": 3, "mood": "good"},
            "assessor",
        ),
        (
            ("/assessor", "missing"),
            ("/conducted_at", "invalid-value"),
            ("/findings", "tuple-type"),
            ("/mood", "unknown-field"),
            ("/results/0/value", "invalid-value"),
        ),
    ),
    Row(
        "faults all through a batch",
        "/v1/determinations/batch",
        {"determinations": [QUESTION, {}, QUESTION | {"x": 1}]},
        (
            ("/determinations/1/action", "missing"),
            ("/determinations/1/model", "missing"),
            ("/determinations/1/policy", "missing"),
            ("/determinations/2/x", "unknown-field"),
        ),
    ),
    Row(
        "a pointer with a slash and a tilde in it",
        "/v1/models",
        MODEL | {"a/b~c": 1},
        (("/a~1b~0c", "unknown-field"),),
    ),
    Row(
        "an unknown field in what is simulated",
        "/v1/simulations",
        QUESTION | {"evidence": {"orders": []}},
        (("/evidence/orders", "unknown-field"),),
    ),
]


@pytest.fixture
async def unharmed(standing: Service, reader: httpx.AsyncClient) -> AsyncIterator[None]:
    """What must hold after every row: nothing was written, and the service answers as before."""
    size = await standing.size()
    before = await reader.post("/v1/simulations", json=QUESTION | {"at": RELEASE})
    yield
    assert await standing.size() == size
    after = await reader.post("/v1/simulations", json=QUESTION | {"at": RELEASE})
    assert (after.status_code, after.content) == (200, before.content)


def faults(answer: httpx.Response) -> list[tuple[str, str]]:
    return [(fault["pointer"], fault["code"]) for fault in answer.json()["errors"]]


@pytest.mark.usefixtures("unharmed")
async def test_documents_that_do_not_say_what_they_must(reader: httpx.AsyncClient) -> None:
    """Every row of the table, one after the other, in one service that must outlive them all."""
    said = {}
    for row in ROWS:
        answer = await reader.post(row.path, content=json.dumps(row.body), headers=AS_JSON)
        assert problem(answer) == (422, "invalid-document"), row.what
        assert all(fault["message"] for fault in answer.json()["errors"])
        said[row.what] = sorted(faults(answer))

    assert said == {row.what: sorted(row.faults) for row in ROWS}


BOM = b"\xef\xbb\xbf"
UNREADABLE = {
    "empty": (b"", "empty"),
    "blank": (b" \n", "empty"),
    "not JSON": (b"{'model': 1}", "syntax"),
    "cut off": (b'{"model": "m@1"', "syntax"),
    "text after the end": (b"{} {}", "trailing-text"),
    "a repeated key": (b'{"model":"a@1","model":"b@1","developer":"x"}', "duplicate-key"),
    "a repeated key, escaped": (b'{"model":"a@1","mod\\u0065l":"b@1"}', "duplicate-key"),
    "NaN": (b'{"model":NaN}', "not-a-number"),
    "Infinity": (b'{"model":[-Infinity]}', "not-a-number"),
    "1e999": (b'{"model":1e999}', "number-out-of-range"),
    "2^60 + 1": (b'{"model":1152921504606846977}', "number-out-of-range"),
    "5,000 digits": (b'{"model":' + b"9" * 5000 + b"}", "number-out-of-range"),
    "40 digits after the point": (b'{"model":0.' + b"1" * 40 + b"}", "number-out-of-range"),
    "2,000 deep": (b"[" * 2000 + b"]" * 2000, "too-deep"),
    "40,000 deep": (b'{"a":' * 40_000, "too-deep"),
    "a lone surrogate": (b'{"model":"\\ud800"}', "lone-surrogate"),
    "an escaped NUL": (b'{"model":"\\u0000"}', "control-character"),
    "a NUL": (b'{"model":"\x00"}', "control-character"),
    "an escape sequence": (b'{"model":"\\u001b[31m"}', "control-character"),
    "a text that turns round": ('{"model":"a\u202eb"}'.encode(), "bidi-control"),
    "not UTF-8": (b'{"model":"\xff"}', "not-utf-8"),
    "UTF-16": ('{"model":"m@1"}'.encode("utf-16"), "not-utf-8"),
    "UTF-16 without its mark": ('{"model":"m@1"}'.encode("utf-16-le"), "syntax"),
    "UTF-32": ('{"model":"m@1"}'.encode("utf-32"), "not-utf-8"),
    "a byte order mark": (BOM + b'{"model":"m@1"}', "byte-order-mark"),
    "gzip": (b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "not-utf-8"),
}


@pytest.mark.usefixtures("unharmed")
async def test_bytes_that_two_readers_could_read_differently(reader: httpx.AsyncClient) -> None:
    said = {}
    for path in (*GOOD, "/v1/simulations", VERSIONS):
        for what, (body, _) in UNREADABLE.items():
            answer = await reader.post(path, content=body, headers=AS_JSON)
            assert problem(answer) == (400, "undecodable-document"), (what, path)
            said[what] = answer.json()["errors"][0]["code"]

    assert said == {what: code for what, (_, code) in UNREADABLE.items()}


def bomb(levels: int) -> str:
    """YAML anchors that would explode to ten to the power of *levels*."""
    first = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    return first + "\n".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)
    )


YAML: dict[str, tuple[str | bytes, str]] = {
    "an alias bomb": (bomb(9), "anchor"),
    "a list that holds itself": ("a: &a [*a]", "anchor"),
    "a merge key": ("<<: {a: 1}\npolicy: x", "merge-key"),
    "a Python tag": ("!!python/object/apply:os.system ['true']", "tag"),
    "binary": ("policy: !!binary aGk=", "tag"),
    "a directive": ("%YAML 1.1\n---\npolicy: x", "directive"),
    "two documents": ("policy: x\n---\npolicy: y", "several-documents"),
    "a repeated key": ("policy: x\npolicy: y", "duplicate-key"),
    "a null key": ("~: x", "null-key"),
    "a composed key": ("? [a, b]\n: x", "complex-key"),
    "5,000 deep": ("[" * 5000, "too-deep"),
    "5,000 deep, by indentation": (
        "\n".join(" " * i + f"a{i}:" for i in range(500)) + " x",
        "too-deep",
    ),
    "a tab": ("policy:\tx", "tab"),
    "a NUL": (b"policy: \x00", "control-character"),
    "an escaped NUL": ('policy: "\\0"', "control-character"),
    "not YAML": ("policy: [x", "syntax"),
    "UTF-16": ("policy: x".encode("utf-16"), "not-utf-8"),
    "a byte order mark": (BOM + b"policy: x", "byte-order-mark"),
    "empty": ("", "empty"),
}


@pytest.mark.usefixtures("unharmed")
async def test_yaml_that_explodes_or_can_be_read_in_two_ways(reader: httpx.AsyncClient) -> None:
    said = {}
    for what, (text, _) in YAML.items():
        begun = time.monotonic()
        answer = await post_yaml(reader, text)
        assert time.monotonic() - begun < 2, what
        assert problem(answer) == (400, "undecodable-document"), what
        first = answer.json()["errors"][0]
        assert first["line"] >= 1
        said[what] = first["code"]

    assert said == {what: code for what, (_, code) in YAML.items()}


def changed(before: str, after: str) -> str:
    assert before in A_VERSION, before
    return A_VERSION.replace(before, after, 1)


POLICY_FAULTS = {
    "an unknown field": (
        changed("publisher: Anthropic", "publisher: Anthropic\nauthor: x"),
        "/author",
    ),
    "a version that is a number": (changed('version: "9.0"', "version: 9.0.0 beta"), "/version"),
    "no levels": (changed("levels: [ASL-1, ASL-2, ASL-3, ASL-4]", "levels: []"), "/levels"),
    "a date without a meaning": (changed(f"effective: {NEW}", "effective: soon"), "/effective"),
    "a time without a zone": (
        changed(f"effective: {NEW}", "effective: 2031-01-01T00:00:00"),
        "/effective",
    ),
    "another policy": (changed(f"policy: {POLICY}", "policy: other"), "/policy"),
    "NaN": (changed("confidence: 0.95", "confidence: .nan"), "/confidence"),
    "an impossible confidence": (changed("confidence: 0.95", "confidence: 95"), "/confidence"),
}


@pytest.mark.usefixtures("unharmed")
async def test_policies_that_do_not_say_what_they_must(reader: httpx.AsyncClient) -> None:
    """Each with its pointer, and with the line and the column in the author's text."""
    for what, (text, pointer) in POLICY_FAULTS.items():
        answer = await post_yaml(reader, text)
        assert problem(answer) == (422, "invalid-document"), what
        said = answer.json()["errors"]
        assert pointer in [fault["pointer"] for fault in said], (what, said)
        if pointer != "/policy":
            assert all(fault["line"] >= 1 and fault["column"] >= 1 for fault in said), (what, said)


@pytest.mark.usefixtures("unharmed")
async def test_all_faults_of_a_policy_are_told_at_once(reader: httpx.AsyncClient) -> None:
    text = (
        A_VERSION.replace("publisher: Anthropic", "author: x")
        .replace("confidence: 0.95", "confidence: high")
        .replace(f"effective: {NEW}", "effective: soon")
    )

    answer = await post_yaml(reader, text)

    pointers = {fault["pointer"] for fault in answer.json()["errors"]}
    assert {"/author", "/publisher", "/confidence", "/effective"} <= pointers


@pytest.mark.usefixtures("unharmed")
async def test_large_bodies_are_refused_before_they_are_read_to_their_end(
    reader: httpx.AsyncClient,
) -> None:
    """50 MB, announced and unannounced; a megabyte of faults; YAML beyond its own limit."""
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(800):
            sent += 65536
            yield b"x" * 65536

    announced = await reader.post("/v1/models", content=b"x" * 50_000_000, headers=AS_JSON)
    unannounced = await reader.post("/v1/models", content=chunks(), headers=AS_JSON)
    yaml = await post_yaml(reader, b"# x\n" * 70_000)

    assert problem(announced) == (413, "document-too-large")
    assert problem(unannounced) == (413, "document-too-large")
    assert sent <= 1024 * 1024 + 65536
    assert problem(yaml) == (413, "document-too-large")


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("item", ["1", "{}", "[]", '"x"'])
async def test_a_megabyte_of_faults_costs_little_and_tells_little(
    reader: httpx.AsyncClient, item: str
) -> None:
    """Half a million faults would take ten seconds to say, in which nobody else is served."""
    count = 1_000_000 // (len(item) + 1)
    body = json.dumps(ASSESSMENT | {"results": "R"}).replace('"R"', f"[{','.join([item] * count)}]")
    begun = time.monotonic()

    answer = await reader.post("/v1/assessments", content=body, headers=AS_JSON)

    assert time.monotonic() - begun < 4
    assert problem(answer) == (422, "invalid-document")
    assert faults(answer) == [("", "too-many-values")]


@pytest.mark.usefixtures("unharmed")
async def test_only_so_many_faults_are_listed(reader: httpx.AsyncClient) -> None:
    body = MODEL | {f"field-{i}": 1 for i in range(1000)}

    answer = await reader.post("/v1/models", json=body)

    assert len(answer.json()["errors"]) == 101
    assert faults(answer)[-1] == ("", "more-faults")


async def test_a_body_that_comes_too_slowly_is_refused(
    postgres: EmbeddedPostgres, template: str
) -> None:
    """The guard's own tests have the raw sockets; this is its place in the application."""

    async def dripping() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(5)

    async with (
        running(postgres, template, body_seconds=0.2) as service,
        service.client(BOOTSTRAP_KEY) as client,
    ):
        answer = await client.post("/v1/models", content=dripping())

    assert problem(answer) == (408, "document-too-slow")
