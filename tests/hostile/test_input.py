"""What a caller may say, at its edges: names that look alike, numbers that no machine holds, fields that
are the server's, cursors of one's own making. Each is refused by name, or kept as it was said.
"""

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.routing import Mount, Route

from app.http.cursors import cursor
from app.main import OPEN, routes
from tests.hostile.conftest import Live
from tests.http.conftest import BOOTSTRAP_KEY
from tests.http.published import OPUS, POLICY, asked, problem
from tests.http.test_bad_input import ASSESSMENT, MODEL, SIGN_OFF, at
from tests.http.test_permissions import filled

DOCUMENTATION = frozenset({"/docs", "/docs/assets", "/openapi.json"})
"""What needs no key beside `OPEN`: the contract, which is public."""


@pytest.fixture(scope="module")
def http(live: Live) -> Iterator[httpx.Client]:
    """A caller who may do everything."""
    headers = {"Authorization": f"Bearer {BOOTSTRAP_KEY}"}
    with httpx.Client(base_url=live.url, headers=headers, timeout=30) as client:
        yield client


@pytest.fixture
def unharmed(live: Live) -> Iterator[None]:
    """Nothing is recorded."""
    size = live.size
    yield
    assert live.size == size


# --- Fields of the server's ---------------------------------------------------------------------

SERVERS = (
    *("id", "index", "ledger", "leaf_hash", "recorded_at", "created_at", "given_at", "known_at"),
    *("actor", "by", "principal", "requested_by", "recorded_by", "created_by", "approved_by"),
    *("credential", "secret_sha256", "key", "digest", "status", "decision", "level", "provenance"),
    *("engine", "semantics", "valid_until", "superseded", "revoked_at", "_", "__proto__"),
)
"""What only the server says, and `__proto__`."""

AUTHZEN = "/access/"
"""AuthZEN asks that unknown fields are passed over, and nothing but its own is read of what it is sent."""


def posts(live: Live) -> list[tuple[str, set[str]]]:
    """Each path that is posted to, and the fields that its body has."""
    document = live.service.app.openapi()
    found = []
    for path, operations in document["paths"].items():
        if "post" in operations:
            content = operations["post"]["requestBody"]["content"]["application/json"]
            name = content["schema"]["$ref"].rpartition("/")[2]
            found.append((path, set(document["components"]["schemas"][name]["properties"])))
    return found


@pytest.mark.usefixtures("unharmed")
def test_no_field_of_the_servers_is_taken_from_a_caller(live: Live, http: httpx.Client) -> None:
    """Each body, each field: one that the operation does not have is refused by name, and not passed
    over (API3: mass assignment).
    """
    for path, fields in posts(live):
        body = dict.fromkeys(SERVERS, "x")

        answer = http.post(filled(path).replace("{id}", "x"), json=body)

        if path.startswith(AUTHZEN):
            assert problem(answer) == (400, "undecodable-document"), path
            continue
        assert problem(answer) == (422, "invalid-document"), path
        unknown = {
            e["pointer"][1:] for e in answer.json()["errors"] if e["code"] == "unknown-field"
        }
        assert unknown == set(SERVERS) - fields, path


def test_every_body_is_among_them(live: Live) -> None:
    """Else an operation could be left out of the test above."""
    with_body = {
        route.path_format
        for route in routes()
        if "POST" in (route.methods or ()) and route.openapi_extra is not None
    }

    assert with_body == {path for path, _ in posts(live)}
    assert len(with_body) >= 20


@pytest.mark.usefixtures("unharmed")
def test_nor_from_deeper_in_a_body(http: httpx.Client) -> None:
    batch = {"determinations": [asked(), asked(actor="key_0")]}
    results = at(ASSESSMENT, "results", 0, to={"line": "l", "value": 1, "recorded_at": "x"})
    findings = at(ASSESSMENT, "findings", 0, "actor", to="person:ceo")

    for path, body, where in (
        ("/v1/determinations/batch", batch, "/determinations/1/actor"),
        ("/v1/assessments", results, "/results/0/recorded_at"),
        ("/v1/assessments", findings, "/findings/0/actor"),
        ("/v1/simulations", asked(evidence={"index": 1}), "/evidence/index"),
    ):
        answer = http.post(path, json=body)
        assert problem(answer) == (422, "invalid-document")
        assert (where, "unknown-field") in {
            (e["pointer"], e["code"]) for e in answer.json()["errors"]
        }


# --- Names --------------------------------------------------------------------------------------

ALIKE = {
    "a Cyrillic letter": "cl\u0430ude-opus-4@20250514",
    "a Greek letter": "claude-\u03bfpus-4@20250514",
    "full width": "\uff43laude-opus-4@20250514",
    "a letter and its accent": "cla\u0301ude-opus-4@20250514",
    "the same in one": "cl\u00e1ude-opus-4@20250514",
    "a soft hyphen": "claude\u00ad-opus-4@20250514",
    "another hyphen": "claude\u2010opus-4@20250514",
    "no width": "claude\u200b-opus-4@20250514",
    "a joiner": "claude\u200d-opus-4@20250514",
    "a mark of direction": "claude\u200f-opus-4@20250514",
    "an override of direction": "\u202eedualc@20250514",
    "an isolate": "\u2066claude-opus-4\u2069@20250514",
    "a tag": "claude-opus-4\U000e0041@20250514",
    "a variation": "claude-opus-4\ufe0f@20250514",
    "an @ of another width": "claude-opus-4\uff0020250514",
    "digits of another script": "claude-opus-\u0664@20250514",
    "a small capital": "\u1d04laude-opus-4@20250514",
    "upper case": "Claude-opus-4@20250514",
    "a space at the end": f"{OPUS} ",
    "a space at the start": f" {OPUS}",
    "a space that does not break": f"{OPUS}\u00a0",
    "a newline": f"{OPUS}\n",
    "an encoded slash": "a%2fb@1",
    "a backslash": "a\\b@1",
    "up": "../claude-opus-4@20250514",
    "up, within": "a/../claude-opus-4@20250514",
    "here": "./claude-opus-4@20250514",
    "an empty step": "a//b@1",
    "from the root": "/claude-opus-4@20250514",
    "a query": "claude-opus-4@20250514?x",
    "a fragment": "claude-opus-4@20250514#x",
    "two versions": "claude-opus-4@20250514@1",
    "nothing": "",
    "too long": f"{'a' * 129}@1",
}


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("name", ALIKE.values(), ids=ALIKE)
def test_no_second_name_looks_like_the_first(http: httpx.Client, name: str) -> None:
    """Names are of a few ASCII characters, in one spelling: so two that are read alike are one."""
    for path, body in (
        ("/v1/models", MODEL | {"model": name}),
        ("/v1/models", MODEL | {"parent": name}),
        ("/v1/determinations", asked(name)),
        ("/v1/gate", {"model": name, "action": "training"}),
    ):
        answer = http.post(path, json=body)
        assert problem(answer)[0] in (400, 422), (path, answer.text)


SLUGS = [
    "\u0430nthropic-rsp",
    "anthropic\u2010rsp",
    "anthropic-rsp ",
    "Anthropic-RSP",
    "a/b",
    "..",
    "a\u202eb",
]


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("name", SLUGS)
def test_nor_does_any_other_word(http: httpx.Client, name: str) -> None:
    """Policies, actions, roles, principals."""
    for path, body in (
        ("/v1/determinations", asked(policy=name)),
        ("/v1/determinations", asked(action=name)),
        ("/v1/sign-offs", SIGN_OFF | {"role": name}),
        ("/v1/keys", {"principal": f"person:{name}", "roles": ["reader"]}),
        ("/v1/keys", {"principal": "person:a", "roles": [name]}),
    ):
        answer = http.post(path, json=body)
        assert problem(answer)[0] in (400, 422), (path, answer.text)


# --- Numbers ------------------------------------------------------------------------------------

KEPT = [
    "0",
    "-1",
    "0.1",
    "1e-7",
    "9007199254740991",
    "-9007199254740991",
    "1e10",
    "0.30000000000000004",
]
REFUSED = [
    *("9007199254740992", "-9007199254740992", "9223372036854775808", "18446744073709551616"),
    *("1e309", "1e400", "-1e400", "1e-400", "5e-324", "1.7976931348623157e308", "9" * 400),
    *("NaN", "Infinity", "-Infinity", "0x10", "01", "+1", ".5", "5.", "1_000", "١"),
    *('"1"', "true", "null", "[1]", "{}"),
]


def result_of(number: str) -> bytes:
    body = json.dumps(at(ASSESSMENT | {"findings": []}, "results", 0, "value", to="@"))
    return body.replace('"@"', number).encode()


def post_result(http: httpx.Client, number: str) -> httpx.Response:
    headers = {"Content-Type": "application/json"}
    return http.post("/v1/assessments", content=result_of(number), headers=headers)


@pytest.mark.parametrize("number", KEPT)
def test_a_number_is_kept_as_it_was_said(http: httpx.Client, number: str) -> None:
    """As a decimal, of which nothing is lost: not as what the nearest machine number is."""
    made = post_result(http, number)

    assert made.status_code == 201, made.text
    kept = made.json()["results"][0]["value"]
    assert isinstance(kept, str)
    assert float(kept) == float(number)
    assert http.get(made.headers["Location"]).json()["results"][0]["value"] == kept


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("number", REFUSED)
def test_a_number_that_two_machines_read_differently_is_refused(
    http: httpx.Client, number: str
) -> None:
    assert problem(post_result(http, number))[0] in (400, 422)


INTEGERS = [
    "-1",
    "9223372036854775807",
    "9223372036854775808",
    "1" * 400,
    "1e3",
    "1.0",
    "0x1",
    "+1",
    " 1",
    "\u0661",
    "",
    "null",
    "1_0",
]


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("number", INTEGERS)
def test_an_index_that_is_none_is_no_fault_of_ours(http: httpx.Client, number: str) -> None:
    """In a path, a query and a body."""
    for path in (
        f"/v1/ledger/entries/{number or '%20'}/proof",
        f"/v1/ledger/tile/0/{number or '%20'}",
        f"/v1/ledger/tile/{number or '%20'}/000",
    ):
        assert 400 <= http.get(path).status_code < 500, path
    for path, parameters in (
        ("/v1/ledger/inclusion", {"index": number}),
        ("/v1/ledger/inclusion", {"index": "0", "size": number}),
        ("/v1/ledger/consistency", {"from": number}),
        ("/v1/ledger/consistency", {"from": "0", "to": number}),
        ("/v1/determinations", {"limit": number}),
    ):
        answer = http.get(path, params=parameters)
        assert problem(answer) == (422, "invalid-parameter"), (path, parameters)


# --- Cursors ------------------------------------------------------------------------------------


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


FORGED = [
    *(
        "",
        "x",
        "====",
        "a b",
        "\u0430",
        cursor(5) + "=",
        cursor(5) + "\n",
        cursor(5)[:-1],
        "A" * 5000,
    ),
    *map(encoded, ("", "v1", "v1:", "v1:-1", "v1:+1", "v1:1.0", "v1: 1", "v1:1e3", "v2:1", "V1:1")),
    *map(
        encoded,
        ("v1:\u0661", "v1:1\n", "v1:1:2", "v1:9" * 9, f"v1:{'9' * 19}", "v1:0x1", "v1:1;--"),
    ),
]


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("given", FORGED)
def test_a_cursor_of_ones_own_making_is_refused(http: httpx.Client, given: str) -> None:
    answer = http.get("/v1/determinations", params={"after": given})

    assert problem(answer) == (422, "invalid-parameter")


def test_a_cursor_is_a_place_and_opens_nothing(live: Live, http: httpx.Client) -> None:
    """It says where a page begins, and no more: with another's, a caller sees just what that caller may
    see anyway, and one who may see nothing sees nothing. So there is nothing in it to sign.
    """
    for _ in range(3):
        assert http.post("/v1/determinations", json=asked()).status_code == 201
    first = http.get("/v1/determinations", params={"limit": 1}).json()
    after = {"limit": 1, "after": first["next"]}
    own = http.get("/v1/determinations", params=after)

    with httpx.Client(base_url=live.url) as nobody:
        reader = {"Authorization": f"Bearer {live.key('reader')}"}
        others = nobody.get("/v1/determinations", params=after, headers=reader)
        refused = nobody.get("/v1/determinations", params=after)

    assert others.content == own.content
    assert problem(refused) == (401, "unauthenticated")


def test_along_the_cursors_nothing_is_skipped_or_told_twice(http: httpx.Client) -> None:
    """Also where the next page is asked for with a cursor that was made up."""
    for _ in range(3):
        assert http.post("/v1/determinations", json=asked()).status_code == 201
    whole = http.get("/v1/determinations", params={"limit": 200}).json()["determinations"]
    indexes = [one["ledger"]["index"] for one in whole]
    walked: list[int] = []
    after: dict[str, str] = {}
    while True:
        page = http.get("/v1/determinations", params={"limit": "2"} | after).json()
        walked += [one["ledger"]["index"] for one in page["determinations"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}

    assert walked == indexes == sorted(indexes, reverse=True)
    for below in (0, 1, indexes[1], 10**17):
        page = http.get("/v1/determinations", params={"after": cursor(below), "limit": 200}).json()
        found = [one["ledger"]["index"] for one in page["determinations"]]
        assert found == [index for index in indexes if index < below]


# --- Headers ------------------------------------------------------------------------------------


def twice(http: httpx.Client, name: str, first: str, second: str) -> httpx.Response:
    headers = [(name, first), (name, second), ("Content-Type", "application/json")]
    if name != "Authorization":
        headers.append(("Authorization", f"Bearer {BOOTSTRAP_KEY}"))
    with httpx.Client(base_url=http.base_url) as bare:
        return bare.post("/v1/models", headers=headers, json=MODEL)


@pytest.mark.usefixtures("unharmed")
def test_two_keys_are_no_key(http: httpx.Client) -> None:
    """Whoever passes a request on may look at the one, and we at the other."""
    good, bad = f"Bearer {BOOTSTRAP_KEY}", "Bearer nobody"

    for first, second in ((good, bad), (bad, good), (good, good)):
        answer = twice(http, "Authorization", first, second)
        assert problem(answer) == (401, "unauthenticated")


@pytest.mark.usefixtures("unharmed")
def test_two_idempotency_keys_are_none(http: httpx.Client) -> None:
    assert problem(twice(http, "Idempotency-Key", "a", "b")) == (422, "invalid-parameter")


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("key", [b"", b"a" * 256, b"a" * 10_000, b"\xc3\xa9", b"a\tb", b"\xff"])
def test_an_idempotency_key_is_of_printable_ascii(http: httpx.Client, key: bytes) -> None:
    answer = http.post("/v1/models", json=MODEL, headers={b"Idempotency-Key": key})

    assert problem(answer) == (422, "invalid-parameter")


# --- Who is let in ------------------------------------------------------------------------------


def test_nothing_is_answered_without_a_key_but_what_is_meant_to_be(live: Live) -> None:
    """Every route that there is, of the API and beside it (A10); and what is often left open."""
    beside = [one for one in live.service.app.routes if isinstance(one, Route | Mount)]
    paths = {one.path if isinstance(one, Mount) else one.path_format for one in beside}
    paths |= {route.path_format for route in routes()}
    assert paths >= OPEN | DOCUMENTATION
    usual = {
        "/admin",
        "/debug",
        "/redoc",
        "/.env",
        "/.git/config",
        "/server-status",
        "/docs/oauth2-redirect",
    }
    answered = set()
    with httpx.Client(base_url=live.url) as http:
        for path in paths | usual:
            answer = http.get(filled(path).replace("{approval}", "x"))
            if answer.status_code not in (401, 404, 405) or path in DOCUMENTATION:
                answered.add(path)

    assert answered - DOCUMENTATION <= OPEN
    assert answered & usual == set()


def test_metrics_name_no_model_and_nobody(live: Live, http: httpx.Client) -> None:
    """They are open, so they count by route: what is being worked on is nobody's business."""
    secret = "secret-project@1"
    http.post("/v1/models", json=MODEL | {"model": secret})
    http.get(f"/v1/models/{secret}")
    http.get("/v1/models/not-even-there@1")

    shown = httpx.get(f"{live.url}/metrics").text

    assert "/v1/models/{model:path}" in shown
    for word in ("secret-project", "not-even-there", OPUS, "person:", "key_"):
        assert word not in shown


def test_an_object_of_another_kind_is_not_found_by_its_id(http: httpx.Client) -> None:
    """Everyone who may read may read everything (one deployment, one lab); but nothing is read, withdrawn
    or lifted as what it is not.
    """
    determination = http.post("/v1/determinations", json=asked()).json()["id"]
    sign_off = http.post("/v1/sign-offs", json=SIGN_OFF).json()["id"]

    for id in (determination, sign_off):
        for path in ("assessments", "safeguards", "exceptions", "orders", "gates", "keys"):
            assert problem(http.get(f"/v1/{path}/{id}")) == (404, "not-found"), (path, id)
        withdrawal: dict[str, Any] = {"reason": "r"}
        for path in ("assessments", "safeguards", "exceptions"):
            answer = http.post(f"/v1/{path}/{id}/withdrawal", json=withdrawal)
            assert problem(answer) == (404, "not-found"), (path, id)
        assert problem(http.post(f"/v1/orders/{id}/lifting", json=withdrawal))[0] == 404
        assert problem(http.post(f"/v1/keys/{id}/revocation", json=withdrawal))[0] == 404
    assert http.get(f"/v1/policies/{POLICY}").status_code == 200
